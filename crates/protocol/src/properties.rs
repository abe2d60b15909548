//! A message's properties: `name \x01 value \x02`, repeated; the last `\x02` may be missing
//! (Java: `MessageDecoder.string2messageProperties`).

use memchr::memmem::Finder;

pub const NAME_VALUE_SEPARATOR: char = '\u{1}';
pub const PROPERTY_SEPARATOR: char = '\u{2}';

/// The largest length of a record's properties, which travels as a signed 16-bit number.
pub const MAX_LENGTH: usize = 32767;

pub const KEYS: &str = "KEYS";
pub const TAGS: &str = "TAGS";
pub const WAIT: &str = "WAIT";
pub const DELAY: &str = "DELAY";
pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
pub const REAL_TOPIC: &str = "REAL_TOPIC";
pub const REAL_QUEUE_ID: &str = "REAL_QID";
pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
pub const UNIQUE_KEY: &str = "UNIQ_KEY";
pub const TRANSACTION_PREPARED: &str = "TRAN_MSG";
pub const PRODUCER_GROUP: &str = "PGROUP";
pub const TRANSACTION_ID: &str = "__transactionId__";
/// How often the producers of a half message were asked about it.
pub const CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
/// In a half message that was put back unasked: the queue offset that its producer was given. An op message for that
/// offset resolves it, too.
pub const PREPARED_QUEUE_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
/// The same in a half message that was put back and asked about, without that meaning; Java has no such property.
pub const FIRST_QUEUE_OFFSET: &str = "TRAN_FIRST_QUEUE_OFFSET";
pub const CHECK_IMMUNITY: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
/// When a message that came back was popped first.
pub const FIRST_POP_TIME: &str = "1ST_POP_TIME";
/// The [handle](crate::pop::Handle) of a message that came back.
pub const POP_CK: &str = "POP_CK";
pub const CLUSTER: &str = "CLUSTER";
pub const MESSAGE_REGION: &str = "MSG_REGION";
pub const TRACE_ON: &str = "TRACE_ON";
/// The id of the client that asked for a reply.
pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
/// When the broker passed a reply on, in ms.
pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";
pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
/// The ways to ask for a time of delivery; of several, the first counts.
pub const TIMES: [&str; 3] = [TIMER_DELAY_SEC, TIMER_DELAY_MS, TIMER_DELIVER_MS];
/// When a message that waits in `rmq_sys_wheel_timer` is due (see [`crate::timer`]).
pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
/// The message cancels the one with this unique key; the topic and `+` may stand before the key.
pub const TIMER_DEL_UNIQKEY: &str = "TIMER_DEL_UNIQKEY";
/// How often a message was put at the end of the timer's queue, so that its file can be deleted.
pub const TIMER_ROLL_TIMES: &str = "TIMER_ROLL_TIMES";
/// The queue offset that it had before; Java has no such property.
pub const TIMER_ROLLED_FROM: &str = "TIMER_ROLLED_FROM";
/// In a delivered message: when the timer took it in, and when it let it go.
pub const TIMER_ENQUEUE_MS: &str = "TIMER_ENQUEUE_MS";
pub const TIMER_DEQUEUE_MS: &str = "TIMER_DEQUEUE_MS";

/// The pairs of a properties string in their order. A piece without a name or without a value is passed
/// over, as Java does.
pub fn pairs(properties: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(properties);
    let pieces = std::iter::from_fn(move || {
        let (piece, later) = cut(rest?, PROPERTY_SEPARATOR).map_or((rest?, None), |(piece, later)| (piece, Some(later)));
        rest = later;
        Some(piece)
    });
    pieces.filter_map(|pair| cut(pair, NAME_VALUE_SEPARATOR)).filter(|(name, value)| !name.is_empty() && !value.is_empty())
}

/// `str::split_once`, which is slow where a separator is near.
fn cut(text: &str, separator: char) -> Option<(&str, &str)> {
    let at = memchr::memchr(separator as u8, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

/// A property's value; of duplicates the last wins, as in Java's map. It is asked for several names of each message, so no
/// more is looked at than that needs.
pub fn get<'a>(properties: &'a str, name: &str) -> Option<&'a str> {
    let bytes = properties.as_bytes();
    let value = |at: usize| {
        let before = bytes[..at].strip_suffix(name.as_bytes()).filter(|_| !name.is_empty())?;
        let begins = before.last().is_none_or(|byte| *byte == PROPERTY_SEPARATOR as u8);
        let rest = &properties[at + 1..];
        let end = memchr::memchr(PROPERTY_SEPARATOR as u8, rest.as_bytes()).unwrap_or(rest.len());
        (begins && end > 0).then(|| &rest[..end])
    };
    memchr::memrchr_iter(NAME_VALUE_SEPARATOR as u8, bytes).find_map(value)
}

/// A property's name that many messages are asked for: a filter's, made ready once.
#[derive(Debug)]
pub struct Name(Box<Finder<'static>>);

impl Name {
    /// A name that is not empty and without separators.
    pub fn new(name: &str) -> Self {
        Self(Box::new(Finder::new(&format!("{name}{NAME_VALUE_SEPARATOR}")).into_owned()))
    }

    /// The same as [`get`], of a message.
    pub fn get<'a>(&self, properties: &'a str) -> Option<&'a str> {
        let begins = |at: &usize| *at == 0 || properties.as_bytes()[at - 1] == PROPERTY_SEPARATOR as u8;
        let values = self.0.find_iter(properties.as_bytes()).filter(begins).map(|at| {
            let rest = &properties[at + self.0.needle().len()..];
            &rest[..memchr::memchr(PROPERTY_SEPARATOR as u8, rest.as_bytes()).unwrap_or(rest.len())]
        });
        values.filter(|value| !value.is_empty()).last()
    }
}

/// Appends a pair to a properties string, closing the pair before it where its separator is missing.
pub fn push(properties: &mut String, name: &str, value: &str) {
    if !properties.is_empty() && !properties.ends_with(PROPERTY_SEPARATOR) {
        properties.push(PROPERTY_SEPARATOR);
    }
    properties.push_str(name);
    properties.push(NAME_VALUE_SEPARATOR);
    properties.push_str(value);
    properties.push(PROPERTY_SEPARATOR);
}

/// The same properties without those that `drop` names.
pub fn without(properties: &str, drop: &[&str]) -> String {
    let mut kept = String::with_capacity(properties.len());
    for (name, value) in pairs(properties).filter(|(name, _)| !drop.contains(name)) {
        push(&mut kept, name, value);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_survive_missing_separators_and_duplicates() {
        let text = "TAGS\u{1}a\u{2}KEYS\u{1}k1 k2\u{2}junk\u{2}EMPTY\u{1}\u{2}TAGS\u{1}b";
        assert_eq!(pairs(text).collect::<Vec<_>>(), [("TAGS", "a"), ("KEYS", "k1 k2"), ("TAGS", "b")]);
        assert_eq!(get(text, TAGS), Some("b"));
        assert_eq!(["EMPTY", "TAG", "KEYS\u{1}k1 k2", ""].map(|name| get(text, name)), [None; 4]);
        let named = |text, name: &str| Name::new(name).get(text);
        assert_eq!(
            ["TAGS", "KEYS", "EMPTY", "TAG", "AGS"].map(|name| named(text, name)),
            [Some("b"), Some("k1 k2"), None, None, None]
        );
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| named("a\u{1}b\u{1}c\u{2}a\u{1}\u{2}c\u{1}d", name)),
            [Some("b\u{1}c"), None, Some("d"), None]
        );
        assert_eq!((get("TAGS\u{1}a\u{2}TAGS\u{1}\u{2}", TAGS), get("\u{1}a", "")), (Some("a"), None));
        let mut grown = without(text, &[TAGS]);
        push(&mut grown, WAIT, "false");
        assert_eq!(grown, "KEYS\u{1}k1 k2\u{2}WAIT\u{1}false\u{2}");
    }
}
