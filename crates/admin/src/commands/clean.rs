//! cleanExpiredCQ, deleteExpiredCommitLog, cleanUnusedTopic.

use super::table::{Call, Opt, Row, Target, settle, value};
use crate::ops::broker::{self, Cleaning};
use crate::ops::{self, BROKER_PORT, Error, namesrv, with_port};

const OPTIONS: &[Opt] = &[value('b', "brokerAddr", "Broker address"), value('c', "cluster", "clustername")];

pub static CLEAN_EXPIRED_CQ: Row = Row {
    name: "cleanExpiredCQ",
    about: "Clean expired ConsumeQueue on broker.",
    details: "\
Queue and index files of which the commit log has no message any more. Without -b and -c, on all brokers.

Example:
  ferrocket admin cleanExpiredCQ -b 10.0.0.1:10911",
    options: OPTIONS,
    target: Target::Free,
    json: false,
    run: |call| Box::pin(clean(call, Cleaning::Queues)),
};

pub static DELETE_EXPIRED_COMMIT_LOG: Row = Row {
    name: "deleteExpiredCommitLog",
    about: "Delete expired CommitLog files.",
    details: "\
Files that are older than the broker's fileReservedTime go now, not only at the hour of deleteWhen.

Example:
  ferrocket admin deleteExpiredCommitLog -c DefaultCluster",
    options: OPTIONS,
    target: Target::Free,
    json: false,
    run: |call| Box::pin(clean(call, Cleaning::Log)),
};

pub static CLEAN_UNUSED_TOPIC: Row = Row {
    name: "cleanUnusedTopic",
    about: "Clean unused topic on broker.",
    details: "\
The queues of topics that the broker has no longer.

Example:
  ferrocket admin cleanUnusedTopic -c DefaultCluster",
    options: OPTIONS,
    target: Target::Free,
    json: false,
    run: |call| Box::pin(clean(call, Cleaning::Topics)),
};

async fn clean(call: Call, what: Cleaning) -> Result<(), Error> {
    let brokers = match (call.value("brokerAddr"), call.value("cluster")) {
        (Some(address), _) => vec![with_port(address, BROKER_PORT)],
        (None, Some(cluster)) => ops::members(&namesrv::cluster_info(&call.access).await?, cluster)?,
        (None, None) => {
            let info = namesrv::cluster_info(&call.access).await?;
            info.broker_addr_table.values().flat_map(|broker| broker.broker_addrs.values().cloned()).collect()
        }
    };
    let mut failures = Vec::new();
    for address in brokers {
        failures.extend(broker::clean(&call.access, &address, what).await.err());
    }
    settle(failures)?;
    call.print("success\n")
}
