//! What a pop took, and how it is answered.

use std::fmt::Write as _;

use protocol::pop::Source;
use protocol::requests::PopMessageReply;
use store::log::Slice;

/// What a pop took.
pub struct Popped {
    pub pop_time: i64,
    pub invisible_time: i64,
    pub revive_queue: i32,
    /// Where its last check point ends in the log.
    pub end: u64,
    /// How many messages its queues have beyond.
    pub rest: i64,
    pub messages: Vec<Message>,
    start_offsets: String,
    offsets: String,
    order_counts: Option<String>,
}

/// One message of the answer.
pub enum Message {
    Stored(Slice),
    /// A message of a retry topic, with its own topic and its handle.
    Rewritten(Vec<u8>),
}

impl Popped {
    pub fn nothing(pop_time: i64, invisible_time: i64, revive_queue: i32, order_counts: Option<String>) -> Self {
        let (start_offsets, offsets) = (String::new(), String::new());
        let (end, rest, messages) = (0, 0, Vec::new());
        Self { pop_time, invisible_time, revive_queue, end, rest, messages, start_offsets, offsets, order_counts }
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn reply(&self) -> PopMessageReply<'_> {
        PopMessageReply {
            pop_time: self.pop_time,
            invisible_time: self.invisible_time,
            revive_qid: self.revive_queue,
            rest_num: self.rest,
            start_offset_info: Some(&self.start_offsets),
            msg_offset_info: Some(&self.offsets),
            order_count_info: self.order_counts.as_deref(),
        }
    }

    pub fn body(&self) -> Vec<&[u8]> {
        self.messages
            .iter()
            .map(|message| match message {
                Message::Stored(slice) => slice.bytes(),
                Message::Rewritten(bytes) => bytes,
            })
            .collect()
    }

    /// Notes where the messages of one queue are: `flag queue start`, and `flag queue offset,offset,…`.
    pub fn add_offsets(&mut self, topic: &str, queue_id: i32, start: i64, offsets: &[i64]) {
        let flag = Source::of(topic) as u8;
        let separator = if self.offsets.is_empty() { "" } else { ";" };
        let _ = write!(self.start_offsets, "{separator}{flag} {queue_id} {start}");
        let _ = write!(self.offsets, "{separator}{flag} {queue_id} ");
        for (nth, offset) in offsets.iter().enumerate() {
            let _ = write!(self.offsets, "{}{offset}", if nth == 0 { "" } else { "," });
        }
    }

    /// Notes how often messages were given before: of each that was, and of the queue the least.
    pub fn add_order_counts(&mut self, topic: &str, queue_id: i32, counts: &[(i64, i32)], least: i32) {
        let flag = Source::of(topic) as u8;
        let text = self.order_counts.get_or_insert_default();
        for (offset, count) in counts {
            let _ = write!(text, "{}{flag} qo{queue_id}%{offset} {count}", if text.is_empty() { "" } else { ";" });
        }
        let _ = write!(text, "{}{flag} {queue_id} {least}", if text.is_empty() { "" } else { ";" });
    }
}
