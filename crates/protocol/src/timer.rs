//! Timer messages as they wait in `rmq_sys_wheel_timer`: what a record's properties say, and the number that stands in
//! place of a tags code in its consume queue entry, so that a start needs no records to know what is pending.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use stdx::java;

use crate::properties::{self, TIMER_DELAY_MS, TIMER_DELAY_SEC, TIMER_DELIVER_MS, TIMER_OUT_MS};

/// Java rounds a timer down to a multiple of its `timerPrecisionMs`, which is one of this.
const JAVA_ROUNDS_TO: i64 = 100;
/// What Java's timers are rounded to unless it is told otherwise, and at the most, in ms: also what a cancelling message
/// and the message that it cancels have in common.
pub const SLOT_MS: i64 = 1000;

/// Bits of a queue entry's number below the time.
const LOW_BITS: u32 = 20;
const CANCELS: i64 = 1 << 19;
const ROLLED: i64 = 1 << 18;
const HASH: i64 = ROLLED - 1;

/// One message of the timer topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// When it is due, in ms since 1970.
    pub due: i64,
    /// `TIMER_OUT_MS`: the millisecond before it is due, or where Java wrote it, the slot of its wheel.
    pub out: i64,
    /// It cancels another one, and is never delivered.
    pub cancels: bool,
    /// It was put at the queue's end in place of an older record of the same message.
    pub rolled: bool,
    /// A part of the hash of its unique key.
    pub hash: u32,
}

/// A part of the hash of a unique key, as [`Timer::hash`] has it.
pub fn hash(unique_key: &str) -> u32 {
    (i64::from(java::hash_code(unique_key)) & HASH) as u32
}

/// `TIMER_OUT_MS` of a message to be delivered at `deliver_at`, and when that is exactly. A time that does not stand in
/// the message itself is put off by a millisecond where it would look like one that Java has rounded.
pub fn out(deliver_at: i64, in_message: bool) -> (i64, i64) {
    let due = if !in_message && (deliver_at - 1) % JAVA_ROUNDS_TO == 0 { deliver_at + 1 } else { deliver_at };
    (due - 1, due)
}

impl Timer {
    /// What the properties of a record say; `None` where it says no time.
    pub fn read(text: &str) -> Option<Self> {
        let (mut out, mut deliver, mut delayed, mut hash) = (None, None, false, 0);
        let (mut cancels, mut rolled) = (false, false);
        for (name, value) in properties::pairs(text) {
            match name {
                TIMER_OUT_MS => out = value.parse::<i64>().ok(),
                TIMER_DELIVER_MS => deliver = value.parse::<i64>().ok(),
                TIMER_DELAY_SEC | TIMER_DELAY_MS => delayed = true,
                properties::TIMER_DEL_UNIQKEY => cancels = true,
                properties::TIMER_ROLL_TIMES => rolled = true,
                properties::UNIQUE_KEY => hash = self::hash(value),
                _ => {}
            }
        }
        let out = out.filter(|out| (0..i64::MAX >> LOW_BITS).contains(out))?;
        let due = match deliver.filter(|at| !delayed && *at > out && *at <= out + SLOT_MS) {
            Some(at) => at,
            None if out % JAVA_ROUNDS_TO == 0 => out + SLOT_MS,
            None => out + 1,
        };
        Some(Timer { due, out, cancels, rolled, hash })
    }

    /// The number for a queue entry: above every tags code, which has 32 bits, from two seconds after 1970 on.
    pub fn code(&self) -> i64 {
        let flag = |set: bool, bit: i64| if set { bit } else { 0 };
        self.due << LOW_BITS | flag(self.cancels, CANCELS) | flag(self.rolled, ROLLED) | i64::from(self.hash)
    }

    /// Reads a queue entry's number; `None` where it is a tags code, as Java writes it.
    pub fn from_code(code: i64) -> Option<Self> {
        let due = code >> LOW_BITS;
        (code > i64::from(i32::MAX)).then_some(Timer {
            due,
            out: due - 1,
            cancels: code & CANCELS != 0,
            rolled: code & ROLLED != 0,
            hash: (code & HASH) as u32,
        })
    }
}

/// What the queue entry of a record of the timer topic holds: 0 where it can't be a timer.
pub fn code(text: &str) -> i64 {
    Timer::read(text).map_or(0, |timer| timer.code())
}

/// What a [`Handle`] begins with.
const HANDLE_VERSION: &str = "v1";

/// The handle by which a message that is to be delivered at a time can be recalled.
pub fn handle(topic: &str, broker_name: &str, deliver_at: i64, unique_key: &str) -> String {
    URL_SAFE.encode(format!("{HANDLE_VERSION} {topic} {broker_name} {deliver_at} {unique_key}"))
}

/// What a handle says: `v1 topic brokerName deliverAt uniqueKey` in base64 (Java: `RecallMessageHandle`).
#[derive(Debug, PartialEq, Eq)]
pub struct Handle {
    pub topic: String,
    pub broker_name: String,
    /// -1 where it is no number.
    pub deliver_at: i64,
    pub unique_key: String,
}

impl Handle {
    /// `None` where it is no handle.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut words = text.split(' ');
        if words.next()? != HANDLE_VERSION {
            return None;
        }
        Some(Self {
            topic: words.next()?.to_owned(),
            broker_name: words.next()?.to_owned(),
            deliver_at: words.next()?.parse().unwrap_or(-1),
            unique_key: words.next().filter(|key| !key.is_empty())?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pairs: &[(&str, &str)]) -> String {
        let mut text = String::new();
        pairs.iter().for_each(|(name, value)| properties::push(&mut text, name, value));
        text
    }

    fn due(pairs: &[(&str, &str)]) -> Option<i64> {
        Timer::read(&text(pairs)).map(|timer| timer.due)
    }

    #[test]
    fn a_timer_is_never_due_before_its_time_whoever_rounded_it() {
        let now = 1_700_000_000_000;
        for ms in now..now + 2100 {
            let deliver = ms.to_string();
            let (out, _) = out(ms, true);
            assert_eq!(due(&[(TIMER_DELIVER_MS, &deliver), (TIMER_OUT_MS, &out.to_string())]), Some(ms));
            let (out, exact) = super::out(ms, false);
            assert_eq!(due(&[(TIMER_DELAY_MS, "1"), (TIMER_OUT_MS, &out.to_string())]), Some(exact));
            assert!(exact == ms || exact == ms + 1);
            // Java's rounding, with each precision that it has.
            for precision in [100, 200, 500, 1000] {
                let slot = if ms % precision == 0 { ms - precision } else { ms / precision * precision }.to_string();
                assert_eq!(due(&[(TIMER_DELIVER_MS, &deliver), (TIMER_OUT_MS, &slot)]), Some(ms));
                let delayed = due(&[(TIMER_DELAY_SEC, "3"), (TIMER_DELIVER_MS, "5"), (TIMER_OUT_MS, &slot)]).unwrap();
                assert!((ms..=ms + 1000).contains(&delayed));
            }
        }
        assert_eq!(due(&[(TIMER_DELIVER_MS, "5")]), None);
        assert_eq!(due(&[(TIMER_OUT_MS, "-1")]), None);
        assert_eq!(due(&[(TIMER_OUT_MS, "9223372036854775807")]), None);
    }

    #[test]
    fn a_queue_entry_says_what_the_record_says() {
        let timer = Timer::read(&text(&[(TIMER_OUT_MS, "1700000000122"), (properties::UNIQUE_KEY, "K")])).unwrap();
        assert_eq!((timer.due, timer.cancels, timer.rolled, timer.hash), (1_700_000_000_123, false, false, 75));
        let cancels = Timer { cancels: true, rolled: true, hash: hash("7F0000010001"), ..timer };
        for timer in [timer, cancels] {
            assert_eq!(Timer::from_code(timer.code()), Some(timer));
        }
        // The year 2200, and tags codes.
        let late = Timer { due: 7_258_118_400_000, out: 7_258_118_399_999, ..cancels };
        assert_eq!(Timer::from_code(late.code()), Some(late));
        assert_eq!([0, -5, i64::from(i32::MAX), i64::MIN + 7].map(Timer::from_code), [None; 4]);
    }

    #[test]
    fn handles_are_javas() {
        let text = handle("Orders", "broker-a", 1_700_000_000_001, "7F00");
        assert_eq!(text, "djEgT3JkZXJzIGJyb2tlci1hIDE3MDAwMDAwMDAwMDEgN0YwMA==");
        let parsed = Handle {
            topic: "Orders".into(),
            broker_name: "broker-a".into(),
            deliver_at: 1_700_000_000_001,
            unique_key: "7F00".into(),
        };
        assert_eq!(Handle::parse(&text), Some(parsed));
        assert_eq!(Handle::parse(text.trim_end_matches('=')).unwrap().unique_key, "7F00");
        for bad in ["", "%%", "djEgYQ==", &URL_SAFE.encode("v2 a b 1 k"), &URL_SAFE.encode("v1 a b 1 ")] {
            assert_eq!(Handle::parse(bad), None, "{bad}");
        }
        assert_eq!(Handle::parse(&URL_SAFE.encode("v1 a b soon k")).unwrap().deliver_at, -1);
    }
}
