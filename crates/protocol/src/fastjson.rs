//! What Java's JSON library (fastjson 1.x) writes that is no JSON: integers as object keys without quotes
//! (`{0:"a"}`) and whole objects as keys (`{{"queueId":0}:{..}}`). Reading accepts both as well as JSON;
//! writing gives either form.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::ser::{CharEscape, Formatter};

/// How deep bodies may nest; far deeper than any of RocketMQ's.
const MAX_DEPTH: usize = 64;

/// Reads JSON, or fastjson's dialect where strict parsing fails. The error is that of strict parsing where
/// the text is neither.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(strict) => match quote_keys(bytes) {
            Some(quoted) => serde_json::from_slice(&quoted).map_err(|_| strict),
            None => Err(strict),
        },
    }
}

/// Writes fastjson's dialect: bare integer keys, objects as keys.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    write(value, Dialect { pretty: false, state: KeyState::Value, key: Vec::new(), depth: 0, empty: false })
}

/// Writes standard JSON. Keys that are objects become strings that hold them.
pub fn to_vec_standard<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("bodies serialise: {error}"))
}

/// Writes fastjson's dialect over several lines, one tab a level: the form of `config/*.json`.
pub fn to_vec_pretty<T: Serialize>(value: &T) -> Vec<u8> {
    write(value, Dialect { pretty: true, state: KeyState::Value, key: Vec::new(), depth: 0, empty: false })
}

fn write<T: Serialize>(value: &T, dialect: Dialect) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, dialect);
    match value.serialize(&mut serializer) {
        Ok(()) => out,
        // The bodies are plain data with text, number or object keys, and a vector takes every byte.
        Err(error) => unreachable!("bodies serialise: {error}"),
    }
}

/// What is being written: a key's opening quote is held back until it is known that the key is text.
#[derive(Clone, Copy, PartialEq)]
enum KeyState {
    Value,
    /// In a key, its quote not yet written.
    Opened,
    /// In a key that is a number.
    Number,
    /// In a key that is text.
    Quoted,
    /// In a key that begins as an object does.
    Object,
}

struct Dialect {
    pretty: bool,
    state: KeyState,
    /// A key that begins as an object does, until its end shows whether it is one: names may come from strangers.
    key: Vec<u8>,
    depth: usize,
    /// The object or array that is open has no member yet.
    empty: bool,
}

impl Dialect {
    fn line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        if self.pretty {
            out.write_all(b"\n")?;
            for _ in 0..self.depth {
                out.write_all(b"\t")?;
            }
        }
        Ok(())
    }

    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        // An empty object has an empty line in it, an empty array has none.
        if self.empty && bracket == b"}" {
            self.line(out)?;
        }
        let lines = !self.empty || bracket == b"}";
        self.depth -= 1;
        if lines {
            self.line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }

    fn member<W: ?Sized + io::Write>(&self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.line(out)
    }
}

impl Formatter for Dialect {
    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.member(out, first)
    }
    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.member(out, first)?;
        self.state = KeyState::Opened;
        Ok(())
    }
    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.state = KeyState::Value;
        Ok(())
    }
    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }
    fn begin_string<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.state == KeyState::Value { out.write_all(b"\"") } else { Ok(()) }
    }
    fn end_string<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        match self.state {
            KeyState::Value | KeyState::Quoted => out.write_all(b"\""),
            KeyState::Number => Ok(()),
            KeyState::Opened => out.write_all(b"\"\""),
            KeyState::Object => {
                let key = std::mem::take(&mut self.key);
                if is_object_key(&key) {
                    return out.write_all(&key);
                }
                let text = std::str::from_utf8(&key).map_err(io::Error::other)?;
                Ok(serde_json::to_writer(&mut *out, text)?)
            }
        }
    }
    fn write_i32<W: ?Sized + io::Write>(&mut self, out: &mut W, value: i32) -> io::Result<()> {
        self.write_i64(out, i64::from(value))
    }
    fn write_i64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: i64) -> io::Result<()> {
        if self.state == KeyState::Opened {
            self.state = KeyState::Number;
        }
        write!(&mut *out, "{value}")
    }
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if self.state == KeyState::Opened {
            if text.starts_with('{') {
                self.state = KeyState::Object;
            } else {
                self.state = KeyState::Quoted;
                out.write_all(b"\"")?;
            }
        }
        if self.state == KeyState::Object {
            self.key.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        out.write_all(text.as_bytes())
    }
    fn write_char_escape<W: ?Sized + io::Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        if self.state == KeyState::Opened {
            self.state = KeyState::Quoted;
            out.write_all(b"\"")?;
        }
        if self.state == KeyState::Object {
            self.key.push(unescaped(escape));
            return Ok(());
        }
        serde_json::ser::CompactFormatter.write_char_escape(out, escape)
    }
}

fn unescaped(escape: CharEscape) -> u8 {
    match escape {
        CharEscape::Quote => b'"',
        CharEscape::ReverseSolidus => b'\\',
        CharEscape::Solidus => b'/',
        CharEscape::Backspace => 8,
        CharEscape::FormFeed => 12,
        CharEscape::LineFeed => b'\n',
        CharEscape::CarriageReturn => b'\r',
        CharEscape::Tab => b'\t',
        CharEscape::AsciiControl(byte) => byte,
    }
}

/// Whether a key can stand as an object without quotes: one flat object, which reads back as the same text.
fn is_object_key(key: &[u8]) -> bool {
    let flat = key.iter().filter(|b| matches!(b, b'{' | b'[')).count() == 1;
    let whole = [b"{", key, b":0}"].concat();
    let read = from_slice::<BTreeMap<String, IgnoredAny>>(&whole);
    flat && read.is_ok_and(|map| map.len() == 1 && map.keys().all(|name| name.as_bytes() == key))
}

/// Turns fastjson's keys into strings: `{0:1}` into `{"0":1}`, `{{"a":1}:2}` into `{"{\"a\":1}":2}`.
/// `None` where the text is beyond repair.
fn quote_keys(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Input { bytes, at: 0 };
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    input.value(&mut out, 0)?;
    input.space();
    (input.at == bytes.len()).then_some(out)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.space();
        match self.peek()? {
            b'{' => self.object(out, depth),
            b'[' => self.array(out, depth),
            b'"' => self.string(out),
            _ => self.scalar(out),
        }
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.at += 1;
        out.push(b'{');
        self.members(out, b'}', |input, out| {
            input.key(out, depth)?;
            input.space();
            if input.peek()? != b':' {
                return None;
            }
            input.at += 1;
            out.push(b':');
            input.value(out, depth + 1)
        })
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.at += 1;
        out.push(b'[');
        self.members(out, b']', |input, out| input.value(out, depth + 1))
    }

    fn members(
        &mut self,
        out: &mut Vec<u8>,
        end: u8,
        mut member: impl FnMut(&mut Self, &mut Vec<u8>) -> Option<()>,
    ) -> Option<()> {
        self.space();
        while self.peek()? != end {
            member(self, out)?;
            self.space();
            if self.peek()? == b',' {
                self.at += 1;
                self.space();
                // fastjson reads a comma before the end; JSON has none there.
                if self.peek()? != end {
                    out.push(b',');
                }
            } else if self.peek()? != end {
                return None;
            }
        }
        self.at += 1;
        out.push(end);
        Some(())
    }

    fn key(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'"' => self.string(out),
            b'{' => {
                let mut key = Vec::new();
                self.value(&mut key, depth + 1)?;
                let text = std::str::from_utf8(&key).ok()?;
                serde_json::to_writer(out, text).ok()
            }
            _ => {
                out.push(b'"');
                self.scalar(out)?;
                out.push(b'"');
                Some(())
            }
        }
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        out.extend_from_slice(self.bytes.get(start..self.at)?);
        Some(())
    }

    fn scalar(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.' | b'_')) {
            self.at += 1;
        }
        if self.at == start {
            return None;
        }
        out.extend_from_slice(&self.bytes[start..self.at]);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bodies::{MessageQueue, TopicOffset, TopicStats};

    #[test]
    fn integer_keys_are_read_bare_and_quoted() {
        let expected = BTreeMap::from([(0, "a:1".to_owned()), (-1, "b".to_owned())]);
        for text in [r#"{0:"a:1",-1:"b"}"#, r#"{"0":"a:1","-1":"b"}"#, "{\n\t0:\"a:1\",\n\t-1:\"b\",\n}"] {
            assert_eq!(from_slice::<BTreeMap<i64, String>>(text.as_bytes()).unwrap(), expected, "{text}");
        }
        assert_eq!(to_vec(&expected), br#"{-1:"b",0:"a:1"}"#);
        assert_eq!(to_vec_standard(&expected), br#"{"-1":"b","0":"a:1"}"#);
        assert_eq!(to_vec_pretty(&expected), b"{\n\t-1:\"b\",\n\t0:\"a:1\"\n}");
        let empty = BTreeMap::from([("a", serde_json::json!({})), ("b", serde_json::json!([]))]);
        assert_eq!(to_vec_pretty(&empty), b"{\n\t\"a\":{\n\t\t\n\t},\n\t\"b\":[]\n}");
    }

    #[test]
    fn objects_as_keys_round_trip() {
        let queue = MessageQueue { topic: "T\"x".into(), broker_name: "b-a".into(), queue_id: 2 };
        let stats = TopicStats {
            offset_table: BTreeMap::from([(queue, TopicOffset { min_offset: 1, max_offset: 2, last_update_timestamp: 3 })]),
            topic_put_tps: 0.0,
        };
        let text = to_vec(&stats);
        let expected = r#"{"offsetTable":{{"brokerName":"b-a","queueId":2,"topic":"T\"x"}:{"lastUpdateTimestamp":3,"maxOffset":2,"minOffset":1}},"topicPutTps":0.0}"#;
        assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
        let read: TopicStats = from_slice(&text).unwrap();
        assert_eq!(to_vec(&read), text);
    }

    /// Names come from strangers; whatever they are, the file that they are written to can be read.
    #[test]
    fn keys_that_look_like_objects_round_trip() {
        for key in ["", "{", "{}", "{\"a\":1}", "{\"a\":1", "{0:1}", "{ }", "{{}:1}", "{\"\n\\\u{1}", "1", "\"", "{{"] {
            let map = BTreeMap::from([(key.to_owned(), BTreeMap::from([(1, 2)]))]);
            let (short, pretty) = (to_vec(&map), to_vec_pretty(&map));
            for text in [&short, &pretty] {
                let read: BTreeMap<String, BTreeMap<i32, i32>> = from_slice(text).unwrap();
                assert_eq!(read, map, "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn broken_text_is_an_error() {
        for text in ["", "{", "{0:", "{0:1}}", "{:1}", "\"", "{\"a", "{{{{", "[1 2]"] {
            assert!(from_slice::<serde_json::Value>(text.as_bytes()).is_err(), "{text}");
        }
        let deep = "{0:".repeat(100_000);
        assert!(from_slice::<serde_json::Value>(deep.as_bytes()).is_err());
    }
}
