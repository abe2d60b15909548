//! cleanExpiredCQ, deleteExpiredCommitLog, cleanUnusedTopic.

use super::table::{Call, each};
use crate::ops::broker::{self, Cleaning};
use crate::ops::{self, BROKER_PORT, Error, namesrv, with_port};

pub async fn clean(call: Call, what: Cleaning) -> Result<(), Error> {
    let brokers = match (call.value("brokerAddr"), call.value("cluster")) {
        (Some(address), _) => vec![with_port(address, BROKER_PORT)],
        (None, Some(cluster)) => ops::members(&namesrv::cluster_info(&call.access).await?, cluster)?,
        (None, None) => {
            let info = namesrv::cluster_info(&call.access).await?;
            info.broker_addr_table.values().flat_map(|broker| broker.broker_addrs.values().cloned()).collect()
        }
    };
    each(brokers, async |address: String| broker::clean(&call.access, &address, what).await).await?;
    call.print("success\n")
}
