//! Popping without a client library.

use protocol::{properties, record};

use crate::{Answer, Link, wait_for};

/// A connection of group `g` that pops topic `Popped` of `broker-a` as Java's client does.
pub struct Popper(Link);

/// A popped message: body and how often it came before, queue, offset, handle.
#[derive(Debug)]
pub struct Popped {
    pub text: String,
    queue_id: i32,
    offset: i64,
    handle: String,
}

impl Popper {
    /// To a broker.
    pub fn new(address: &str) -> Self {
        Self(Link::to(address))
    }

    /// Sends a message.
    pub fn send(&mut self, body: &str) {
        let (answer, _) = self.0.call(310, "a=p;b=Popped;c=TBW102;d=4;e=0;f=0;g=1;h=0", body.as_bytes());
        assert_eq!(answer.code, 0);
    }

    /// Pops what there is, without waiting.
    pub fn pop(&mut self, invisible_ms: i64) -> Vec<Popped> {
        let fields = format!(
            "consumerGroup=g;topic=Popped;queueId=-1;maxMsgNums=32;invisibleTime={invisible_ms};pollTime=0;bornTime=0;initMode=0"
        );
        let (Answer { fields, .. }, frame) = self.0.call(200050, &fields, &[]);
        let popped = |message: record::Record<'_>| {
            let start = fields["startOffsetInfo"].rsplit(' ').next().unwrap();
            let own = || format!("{start} {} {invisible_ms} {} 0 broker-a", fields["popTime"], fields["reviveQid"]);
            let handle = properties::get(message.properties, "POP_CK").map_or_else(own, str::to_owned);
            let text = format!("{}@{}", String::from_utf8_lossy(message.body), message.reconsume_times);
            Popped { text, queue_id: message.queue_id, offset: message.queue_offset, handle }
        };
        record::decode_all(&frame.body).map(|message| popped(message.unwrap())).collect()
    }

    /// Acknowledges a message.
    pub fn ack(&mut self, message: &Popped) {
        let topic = if message.handle.split(' ').nth(4) == Some("1") { "%RETRY%g_Popped" } else { "Popped" };
        let Popped { queue_id, offset, handle, .. } = message;
        let fields = format!("consumerGroup=g;topic={topic};queueId={queue_id};extraInfo={handle};offset={offset}");
        assert_eq!(self.0.call(200051, &fields, &[]).0.code, 0);
    }

    /// Pops until so many have come; they are in the order of their texts.
    pub fn pop_all(&mut self, count: usize, invisible_ms: i64) -> Vec<Popped> {
        let mut all = Vec::new();
        wait_for("messages to come back", || {
            all.extend(self.pop(invisible_ms));
            (all.len() >= count).then_some(())
        });
        all.sort_by(|a, b| a.text.cmp(&b.text));
        all
    }
}
