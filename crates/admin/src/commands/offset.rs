//! resetOffsetByTime, skipAccumulatedMessage, cloneGroupOffset.

use protocol::bodies::MessageQueue;

use super::columns::{cut, parse_time};
use super::table::Call;
use crate::ops::message::{self, QueueAt};
use crate::ops::offset::{self, Move, Moved, NEWEST, Rollback};
use crate::ops::{BROKER_PORT, Error, with_port};

pub async fn reset_offset_by_time(call: Call) -> Result<(), Error> {
    let (group, topic, text) = (call.required("group")?, call.required("topic")?, call.required("timestamp")?);
    let wrong = || Error::Value {
        option: "timestamp",
        value: text.to_owned(),
        expected: "a time [now|currentTimeMillis|yyyy-MM-dd#HH:mm:ss:SSS]".to_owned(),
    };
    let timestamp = if text == "now" { net::now_ms() } else { parse_time(text, &call.zone).ok_or_else(wrong)? };
    if let (Some(broker), Some(queue_id)) = (call.value("broker"), call.number::<i32>("queue")?) {
        let address = with_port(broker, BROKER_PORT);
        call.print(&format!(
            "start reset consumer offset by specified, group[{group}], topic[{topic}], queueId[{queue_id}], broker[{address}], \
             timestamp(string)[{text}], timestamp(long)[{timestamp}]\n"
        ))?;
        let queue = MessageQueue { topic: topic.to_owned(), broker_name: String::new(), queue_id };
        let at = QueueAt { queue, address };
        let offset = match call.number("offset")? {
            Some(offset) => offset,
            None => message::search_offset(&call.access, &at, timestamp).await?,
        };
        offset::reset_queue(&call.access, group, &at, offset).await?;
        return call.print(&format!("reset consumer offset to {offset}\n"));
    }
    let force = call.truth("force")?.unwrap_or(true);
    let moved = offset::reset(&call.access, &Move { group, topic, timestamp, force, cluster: call.value("cluster") }).await?;
    if call.json() {
        return print_json(&call, &moved);
    }
    let asked = format!("force[{force}], timestamp(string)[{text}], timestamp(long)[{timestamp}]");
    call.print(&match moved {
        Moved::ByBroker(_) => {
            format!("start reset consumer offset by specified, group[{group}], topic[{topic}], {asked}\n{}", table(&moved, ""))
        }
        Moved::Committed(_) => {
            let title = format!("reset consumer offset by specified consumerGroup[{group}], topic[{topic}], {asked}\n");
            title + &table(&moved, "#resetOffset")
        }
    })
}

fn print_json(call: &Call, moved: &Moved) -> Result<(), Error> {
    let queue = |(queue, offset): (&MessageQueue, &i64)| serde_json::json!({ "brokerName": queue.broker_name, "queueId": queue.queue_id, "offset": offset });
    match moved {
        Moved::ByBroker(offsets) => call.print_json(&offsets.iter().map(queue).collect::<Vec<_>>()),
        Moved::Committed(queues) => call.print_json(queues),
    }
}

/// The queues that were moved; of older brokers with where the group was. `last` is the title of the last column then.
fn table(moved: &Moved, last: &str) -> String {
    match moved {
        Moved::ByBroker(offsets) => {
            let row = |name: &str, id: &str, offset: &str| format!("{name:<40}  {id:<40}  {offset:<40}\n");
            let rows = offsets
                .iter()
                .map(|(queue, offset)| row(cut(&queue.broker_name, 32), &queue.queue_id.to_string(), &offset.to_string()));
            row("#brokerName", "#queueId", "#offset") + &rows.collect::<String>()
        }
        Moved::Committed(queues) => {
            let row = |cells: [&str; 6]| {
                let [name, id, broker, consumer, time, done] = cells;
                format!("{name:<20}  {id:<20}  {broker:<20}  {consumer:<20}  {time:<20}  {done:<20}\n")
            };
            let rows = queues.iter().map(|queue: &Rollback| {
                let numbers = [queue.broker_offset, queue.consumer_offset, queue.timestamp_offset, queue.rollback_offset]
                    .map(|n| n.to_string());
                let [broker, consumer, time, done] = &numbers;
                row([cut(&queue.broker_name, 32), &queue.queue_id.to_string(), broker, consumer, time, done])
            });
            row(["#brokerName", "#queueId", "#brokerOffset", "#consumerOffset", "#timestampOffset", last])
                + &rows.collect::<String>()
        }
    }
}

pub async fn skip_accumulated_message(call: Call) -> Result<(), Error> {
    let (group, topic) = (call.required("group")?, call.required("topic")?);
    let force = call.truth("force")?.unwrap_or(true);
    let to = Move { group, topic, timestamp: NEWEST, force, cluster: call.value("cluster") };
    let moved = offset::reset(&call.access, &to).await?;
    if call.json() { print_json(&call, &moved) } else { call.print(&table(&moved, "#rollbackOffset")) }
}

pub async fn clone_group_offset(call: Call) -> Result<(), Error> {
    let (from, to, topic) = (call.required("srcGroup")?, call.required("destGroup")?, call.required("topic")?);
    offset::clone_group(&call.access, from, to, topic).await?;
    call.print(&format!("clone group offset success. srcGroup[{from}], destGroup=[{to}], topic[{topic}]\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_that_were_moved_have_a_line_each() {
        let queue = MessageQueue { topic: "T".into(), broker_name: "broker-a".into(), queue_id: 3 };
        let lines = |text: &str| -> Vec<Vec<String>> {
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
        };
        let moved = table(&Moved::ByBroker([(queue, 17)].into()), "");
        assert_eq!(lines(&moved), [vec!["#brokerName", "#queueId", "#offset"], vec!["broker-a", "3", "17"]]);
        let rollback = Rollback {
            broker_name: "broker-a".into(),
            queue_id: 3,
            broker_offset: 40,
            consumer_offset: 30,
            timestamp_offset: 17,
            rollback_offset: 17,
        };
        let committed = table(&Moved::Committed(vec![rollback]), "#resetOffset");
        assert_eq!(lines(&committed)[1], ["broker-a", "3", "40", "30", "17", "17"]);
        assert_eq!(lines(&committed)[0].last().map(String::as_str), Some("#resetOffset"));
    }
}
