//! transactions, endTransaction: commands that Java's mqadmin does not have.

use jiff::tz::TimeZone;

use super::columns::{cut, time_s};
use super::table::{Call, each};
use crate::ops::transaction::{self, Pending};
use crate::ops::{self, Error, namesrv};

/// How many transactions of a broker are listed unless `-m` says otherwise.
const LIMIT: usize = 1000;

pub async fn transactions(call: Call) -> Result<(), Error> {
    let limit = call.number("maxNum")?.unwrap_or(LIMIT);
    let (group, topic) = (call.value("producerGroup"), call.value("topic"));
    let wanted = |half: &Pending| group.is_none_or(|g| g == half.producer_group) && topic.is_none_or(|t| t == half.topic);
    let mut all = Vec::new();
    let asking = each(brokers(&call).await?, async |address: String| {
        all.extend(transaction::pending(&call.access, &address, net::now_ms(), limit, wanted).await?);
        Ok(())
    });
    let asked = asking.await;
    call.show(&all, || rows(&all, &call.zone))?;
    asked
}

pub async fn end_transaction(call: Call) -> Result<(), Error> {
    let (id, action) = (call.required("msgId")?, call.required("action")?);
    let commit = match action {
        "commit" => true,
        "rollback" => false,
        other => {
            let expected = "`commit` or `rollback`".to_owned();
            return Err(Error::Value { option: "action", value: other.to_owned(), expected });
        }
    };
    for address in brokers(&call).await? {
        let found = |half: &Pending| half.msg_id == id || half.offset_msg_id == id;
        if let Some(half) = transaction::pending(&call.access, &address, net::now_ms(), 1, found).await?.first() {
            transaction::end(&call.access, half, commit).await?;
            let done = if commit { "committed" } else { "rolled back" };
            return call.print(&format!("{done}: {} for topic {} of group {}\n", half.msg_id, half.topic, half.producer_group));
        }
    }
    Err(Error::Usage(format!("no open transaction has the id {id}: `ferrocket admin transactions` lists them")))
}

/// The masters to ask.
async fn brokers(call: &Call) -> Result<Vec<String>, Error> {
    if let Some(address) = call.broker() {
        return Ok(vec![address]);
    }
    let info = namesrv::cluster_info(&call.access).await?;
    let mut addresses = Vec::new();
    for cluster in info.cluster_addr_table.keys().filter(|name| call.value("clusterName").is_none_or(|c| c == *name)) {
        addresses.extend(ops::masters(&info, cluster)?);
    }
    match call.value("clusterName") {
        Some(cluster) if addresses.is_empty() => ops::masters(&info, cluster),
        _ => Ok(addresses),
    }
}

fn rows(all: &[Pending], zone: &TimeZone) -> String {
    let mut text = format!(
        "{:<32}  {:<32}  {:<32}  {:>8}  {:>8}  {:<19}  {}\n",
        "#Message Id", "#Topic", "#Producer Group", "#Age", "#Checked", "#Next Check", "#Broker Addr"
    );
    for half in all {
        text += &format!(
            "{:<32}  {:<32}  {:<32}  {:>7}s  {:>8}  {:<19}  {}\n",
            half.msg_id,
            cut(&half.topic, 32),
            cut(&half.producer_group, 32),
            half.age / 1000,
            half.times_checked,
            time_s(half.next_check, zone),
            half.broker_addr
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_transactions_are_a_line_each() {
        let half = Pending {
            broker_addr: "10.0.0.2:10911".into(),
            msg_id: "7F00000100002A9F000000000000018F".into(),
            offset_msg_id: String::new(),
            topic: "Orders".into(),
            producer_group: "payments".into(),
            queue_offset: 1,
            commit_log_offset: 2,
            born_timestamp: 0,
            age: 61_500,
            times_checked: 2,
            next_check: 0,
        };
        let text = rows(&[half], &TimeZone::UTC);
        let line: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let expected =
            ["7F00000100002A9F000000000000018F", "Orders", "payments", "61s", "2", "1970-01-01", "00:00:00", "10.0.0.2:10911"];
        assert_eq!(line, expected);
    }
}
