//! Popping messages, and acknowledging each of them as Java's client does.

use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use protocol::requests::{AckMessage, PopMessage, PopMessageReply, Request};
use protocol::{Header, codes};

use crate::Options;
use crate::load::{Connection, head};

/// How long popped messages are invisible; none comes back while a benchmark runs.
const INVISIBLE_MS: i64 = 300_000;

fn group(connection: &Connection, options: &Options) -> String {
    format!("bench-pop-{}-{}", options.topic, connection.group)
}

pub fn write_pop(options: &Options, connection: &mut Connection, opaque: i32) {
    let request = PopMessage {
        consumer_group: &group(connection, options),
        topic: &options.topic,
        queue_id: -1,
        max_msg_nums: options.batch,
        invisible_time: INVISIBLE_MS,
        born_time: Some(UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64)),
        exp_type: Some("TAG"),
        exp: Some("*"),
        order: Some(false),
        ..PopMessage::default()
    };
    head(options, PopMessage::CODE, opaque).write(&request, 0, &mut connection.output);
}

/// Acknowledges what an answer brought. Where it brought nothing, the next group begins with the first message.
pub fn write_acks(options: &Options, connection: &mut Connection, header: &Header<'_>, popped: Instant) -> Result<()> {
    if header.code != codes::SUCCESS {
        connection.group += 1;
        anyhow::ensure!(header.code == codes::POLLING_TIMEOUT, "a pop was refused: {:?}", header.remark);
        return Ok(());
    }
    let reply: PopMessageReply<'_> = header.read()?;
    let group = group(connection, options);
    let (starts, offsets) = (reply.start_offset_info.unwrap_or_default(), reply.msg_offset_info.unwrap_or_default());
    for (start, offsets) in starts.split(';').zip(offsets.split(';')) {
        let (place, start) = start.rsplit_once(' ').context("startOffsetInfo has no blank")?;
        let (_, queue_id) = place.split_once(' ').context("startOffsetInfo has one blank only")?;
        let (_, offsets) = offsets.rsplit_once(' ').context("msgOffsetInfo has no blank")?;
        for offset in offsets.split(',') {
            let (pop_time, revive_queue) = (reply.pop_time, reply.revive_qid);
            let handle = format!("{start} {pop_time} {INVISIBLE_MS} {revive_queue} 0 broker {queue_id} {offset}");
            let request = AckMessage {
                consumer_group: &group,
                topic: &options.topic,
                queue_id: queue_id.parse()?,
                extra_info: &handle,
                offset: offset.parse()?,
            };
            head(options, AckMessage::CODE, header.opaque).write(&request, 0, &mut connection.output);
            connection.under_way.push_back(popped);
            connection.unanswered += 1;
        }
    }
    Ok(())
}
