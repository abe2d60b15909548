//! A frame's header, in both serialisations.
//!
//! JSON: `{"code":..,"language":"JAVA","version":..,"opaque":..,"flag":..,"remark":..,"extFields":{..}}`.
//! ROCKETMQ: `code:i16 language:u8 version:i16 opaque:i32 flag:i32 remark:i32+n ext:i32+n`, `ext` being
//! pairs of `name:i16+n value:i32+n` (Java: `RemotingCommand`, `RocketMQSerializable`).

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use serde::Deserialize;

use crate::requests::FieldError;
use crate::{Frame, frame, version};

pub const FLAG_RESPONSE: i32 = 1;
pub const FLAG_ONEWAY: i32 = 2;

/// How many extension fields a header may have; Java has no limit, its largest request has 20.
pub const MAX_FIELDS: usize = 256;

/// The two ways to write a header; the number is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Serialization {
    #[default]
    Json = 0,
    RocketMq = 1,
}

impl Serialization {
    /// Java's name for it, as boot lines show it.
    pub fn name(self) -> &'static str {
        match self {
            Serialization::Json => "JSON",
            Serialization::RocketMq => "ROCKETMQ",
        }
    }
}

/// Java's `LanguageCode`, in the order of its numbers.
const LANGUAGES: [&str; 14] =
    ["JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS"];
const OTHER: u8 = 7;

/// A client's language. What Java does not know is `OTHER`, as an unknown language is no reason to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Language(u8);

impl Language {
    pub const JAVA: Language = Language(0);
    pub const CPP: Language = Language(1);

    fn from_code(code: u8) -> Self {
        Self(if usize::from(code) < LANGUAGES.len() { code } else { OTHER })
    }

    fn from_name(name: &str) -> Self {
        Self(LANGUAGES.iter().position(|n| *n == name).map_or(OTHER, |i| i as u8))
    }

    pub fn name(self) -> &'static str {
        LANGUAGES[usize::from(self.0)]
    }
}

/// The extension fields of a header, in their order on the wire.
///
/// A vector, as it lets a header be borrowed for less than it lives.
pub type Fields<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Fields of the largest request that clients send often.
const USUAL_FIELDS: usize = 16;

/// A decoded header, borrowed from the frame's bytes wherever no escape had to be undone.
#[derive(Clone, Debug, Default)]
pub struct Header<'a> {
    pub code: i32,
    pub language: Language,
    pub version: i32,
    pub opaque: i32,
    pub flag: i32,
    pub remark: Option<Cow<'a, str>>,
    pub fields: Fields<'a>,
}

/// Why a header can't be read. The frame itself was whole, so the connection can go on.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("the header is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the header ends within {0}")]
    Short(&'static str),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("more than {MAX_FIELDS} fields")]
    TooManyFields,
}

impl<'a> Header<'a> {
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// An extension field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }

    /// Reads the header of `frame`.
    pub fn decode(frame: &'a Frame) -> Result<Self, HeaderError> {
        match frame.serialization {
            Serialization::Json => decode_json(&frame.header),
            Serialization::RocketMq => decode_rocketmq(&frame.header),
        }
    }

    /// Reads a typed request or answer out of the fields.
    pub fn read<'h, T: Typed<'h>>(&'h self) -> Result<T, FieldError> {
        T::read(&self.fields)
    }
}

/// A typed set of extension fields: a row of the table in [`crate::requests`].
pub trait Typed<'h>: Sized {
    /// Reads the fields that the row names and passes over all others, as Java does.
    fn read(fields: &'h Fields<'_>) -> Result<Self, FieldError>;
    /// Gives each field that has a value to `put`.
    fn write(&self, put: &mut dyn FnMut(&str, &dyn std::fmt::Display));
}

/// No fields at all.
impl Typed<'_> for () {
    fn read(_: &Fields<'_>) -> Result<Self, FieldError> {
        Ok(())
    }
    fn write(&self, _: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {}
}

/// The head of a frame that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub serialization: Serialization,
    pub code: i32,
    pub opaque: i32,
    pub flag: i32,
    pub remark: Option<&'a str>,
    /// Fields beyond those of the typed header.
    pub extra: &'a [(&'a str, &'a str)],
}

impl Outgoing<'_> {
    /// Appends the frame's lengths and header to `out`; the caller adds exactly `body_length` bytes.
    pub fn write<'h>(&self, typed: &impl Typed<'h>, body_length: usize, out: &mut BytesMut) {
        let start = frame::begin(out);
        match self.serialization {
            Serialization::Json => self.write_json(typed, out),
            Serialization::RocketMq => self.write_rocketmq(typed, out),
        }
        start.end_header(self.serialization, body_length, out);
    }

    fn write_json<'h>(&self, typed: &impl Typed<'h>, out: &mut BytesMut) {
        // Plain pieces are copied: formatting them would be a good part of what an answer costs.
        out.put_slice(b"{\"code\":");
        put_number(self.code, out);
        out.put_slice(b",");
        let mut first = true;
        let mut put = |name: &str, value: &dyn std::fmt::Display| {
            out.put_slice(if std::mem::take(&mut first) { b"\"extFields\":{\"" } else { b",\"" });
            out.put_slice(name.as_bytes());
            out.put_slice(b"\":\"");
            let _ = write!(JsonString(out), "{value}");
            out.put_slice(b"\"");
        };
        typed.write(&mut put);
        for (name, value) in self.extra {
            put(name, value);
        }
        if !first {
            out.put_slice(b"},");
        }
        out.put_slice(b"\"flag\":");
        put_number(self.flag, out);
        out.put_slice(b",\"language\":\"JAVA\",\"opaque\":");
        put_number(self.opaque, out);
        out.put_slice(b",");
        if let Some(remark) = self.remark {
            out.put_slice(b"\"remark\":\"");
            let _ = JsonString(out).write_str(remark);
            out.put_slice(b"\",");
        }
        out.put_slice(b"\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
        put_number(version::CURRENT, out);
        out.put_slice(b"}");
    }

    fn write_rocketmq<'h>(&self, typed: &impl Typed<'h>, out: &mut BytesMut) {
        // Java writes the code's low 16 bits; codes that need more can only travel in JSON.
        out.put_u16(self.code as u16);
        out.put_u8(Language::JAVA.0);
        out.put_u16(version::CURRENT as u16);
        out.put_i32(self.opaque);
        out.put_i32(self.flag);
        let remark = self.remark.unwrap_or_default();
        out.put_u32(remark.len() as u32);
        out.put_slice(remark.as_bytes());
        let length_at = out.len();
        out.put_u32(0);
        let mut put = |name: &str, value: &dyn std::fmt::Display| {
            out.put_u16(name.len() as u16);
            out.put_slice(name.as_bytes());
            let value_at = out.len();
            out.put_u32(0);
            let _ = write!(out, "{value}");
            let length = (out.len() - value_at - 4) as u32;
            out[value_at..value_at + 4].copy_from_slice(&length.to_be_bytes());
        };
        typed.write(&mut put);
        for (name, value) in self.extra {
            put(name, value);
        }
        let length = (out.len() - length_at - 4) as u32;
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn put_number(number: i32, out: &mut BytesMut) {
    // Writing into a buffer that grows can't fail.
    let _ = write!(out, "{number}");
}

/// Writes text into a JSON string, escaped.
struct JsonString<'a>(&'a mut BytesMut);

impl std::fmt::Write for JsonString<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
            self.0.put_slice(&rest.as_bytes()[..at]);
            match rest.as_bytes()[at] {
                b'"' => self.0.put_slice(b"\\\""),
                b'\\' => self.0.put_slice(b"\\\\"),
                control => write!(self.0, "\\u{control:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.put_slice(rest.as_bytes());
        Ok(())
    }
}

fn decode_json(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    use serde::Deserializer;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let header = json.deserialize_map(HeaderVisitor)?;
    json.end()?;
    if header.fields.len() > MAX_FIELDS {
        return Err(HeaderError::TooManyFields);
    }
    Ok(header)
}

struct HeaderVisitor;

impl<'de> serde::de::Visitor<'de> for HeaderVisitor {
    type Value = Header<'de>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a header object")
    }
    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut header = Header { language: Language(OTHER), ..Header::default() };
        let mut code = None;
        while let Some(Text(name)) = map.next_key()? {
            match &*name {
                "code" => code = Some(map.next_value()?),
                "language" => header.language = Language::from_name(&map.next_value::<Text<'de>>()?.0),
                "version" => header.version = map.next_value()?,
                "opaque" => header.opaque = map.next_value()?,
                "flag" => header.flag = map.next_value()?,
                "remark" => header.remark = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0),
                "extFields" => header.fields = map.next_value::<Option<JsonFields<'de>>>()?.unwrap_or_default().0,
                _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
            }
        }
        header.code = code.ok_or_else(|| serde::de::Error::missing_field("code"))?;
        Ok(header)
    }
}

/// A JSON scalar as text, borrowed where it holds no escape. Clients of some languages write numbers and
/// booleans bare where Java has strings.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, a number or a boolean")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(if value { "true" } else { "false" })))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Default)]
struct JsonFields<'a>(Fields<'a>);

impl<'de> Deserialize<'de> for JsonFields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = JsonFields<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::with_capacity(USUAL_FIELDS);
                while let Some(Text(name)) = map.next_key()? {
                    let value: Option<Text<'de>> = map.next_value()?;
                    if let Some(Text(value)) = value {
                        fields.push((name, value));
                    }
                }
                Ok(JsonFields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn decode_rocketmq(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    let mut input = Input(bytes);
    let code = i16::from_be_bytes(input.array("code")?);
    let language = Language::from_code(input.array::<1>("language")?[0]);
    let version = i16::from_be_bytes(input.array("version")?);
    let opaque = i32::from_be_bytes(input.array("opaque")?);
    let flag = i32::from_be_bytes(input.array("flag")?);
    let remark_length = u32::from_be_bytes(input.array("remark")?);
    let remark = input.text(remark_length as usize, "remark")?;
    let ext_length = u32::from_be_bytes(input.array("extFields")?);
    let mut ext = Input(input.take(ext_length as usize, "extFields")?);
    let mut fields = Fields::with_capacity(USUAL_FIELDS);
    while !ext.0.is_empty() {
        let name_length = u16::from_be_bytes(ext.array("a field's name")?);
        let name = ext.text(usize::from(name_length), "a field's name")?;
        let value_length = u32::from_be_bytes(ext.array("a field's value")?);
        let value = ext.text(value_length as usize, "a field's value")?;
        if fields.len() == MAX_FIELDS {
            return Err(HeaderError::TooManyFields);
        }
        // Java reads an empty string as null, so an empty value is an absent one.
        if !value.is_empty() {
            fields.push((Cow::Borrowed(name), Cow::Borrowed(value)));
        }
    }
    Ok(Header {
        code: i32::from(code),
        language,
        version: i32::from(version),
        opaque,
        flag,
        remark: (!remark.is_empty()).then_some(Cow::Borrowed(remark)),
        fields,
    })
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], HeaderError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(HeaderError::Short(what))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], HeaderError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(HeaderError::Short(what))?;
        self.0 = rest;
        Ok(*head)
    }

    fn text(&mut self, length: usize, what: &'static str) -> Result<&'a str, HeaderError> {
        std::str::from_utf8(self.take(length, what)?).map_err(|_| HeaderError::NotUtf8(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::{GetMaxOffset, SendMessageReply};

    fn written<'h>(serialization: Serialization, typed: &impl Typed<'h>) -> Frame {
        let mut out = BytesMut::new();
        let head = Outgoing {
            serialization,
            code: 17,
            opaque: -5,
            flag: FLAG_RESPONSE,
            remark: Some("no \"topic\"\u{1}\\"),
            extra: &[("MSG_REGION", "r1")],
        };
        head.write(typed, 3, &mut out);
        out.put_slice(b"abc");
        let frame = frame::take(&mut out, 1000).unwrap().unwrap();
        assert!(out.is_empty());
        frame
    }

    #[test]
    fn both_serialisations_round_trip() {
        let reply = SendMessageReply {
            msg_id: "7F\u{2}ü",
            queue_id: 3,
            queue_offset: 9,
            transaction_id: None,
            batch_uniq_id: None,
            recall_handle: None,
        };
        for serialization in [Serialization::Json, Serialization::RocketMq] {
            let frame = written(serialization, &reply);
            assert_eq!(&frame.body[..], b"abc");
            let header = Header::decode(&frame).unwrap();
            assert_eq!((header.code, header.opaque, header.flag), (17, -5, FLAG_RESPONSE));
            assert_eq!(header.remark.as_deref(), Some("no \"topic\"\u{1}\\"));
            assert_eq!(header.field("MSG_REGION"), Some("r1"));
            assert_eq!(header.version, version::CURRENT);
            let read: SendMessageReply<'_> = header.read().unwrap();
            assert_eq!((read.msg_id, read.queue_id, read.queue_offset, read.transaction_id), ("7F\u{2}ü", 3, 9, None));
        }
    }

    fn json(header: &str) -> Frame {
        Frame {
            serialization: Serialization::Json,
            header: bytes::Bytes::copy_from_slice(header.as_bytes()),
            body: Default::default(),
        }
    }

    #[test]
    fn odd_json_is_tolerated_and_bad_json_refused() {
        let frame =
            json(r#"{"code":30,"language":"KLINGON","extFields":{"topic":"T","queueId":3,"x":null,"y":true},"unknown":[1]}"#);
        let header = Header::decode(&frame).unwrap();
        assert_eq!(header.language.name(), "OTHER");
        let request: GetMaxOffset<'_> = header.read().unwrap();
        assert_eq!((request.topic, request.queue_id), ("T", 3));
        for bad in ["", "{", "[]", r#"{"code":"x"}"#, r#"{"code":1,"extFields":{"a":{}}}"#] {
            assert!(Header::decode(&json(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn missing_and_malformed_fields_say_which() {
        let missing = json(r#"{"code":30,"extFields":{"topic":"T"}}"#);
        let header = Header::decode(&missing).unwrap();
        assert_eq!(header.read::<GetMaxOffset<'_>>().unwrap_err().to_string(), "the custom field <queueId> is null");
        let malformed = json(r#"{"code":30,"extFields":{"topic":"T","queueId":"three"}}"#);
        let header = Header::decode(&malformed).unwrap();
        let error = header.read::<GetMaxOffset<'_>>().unwrap_err().to_string();
        assert_eq!(error, "the custom field <queueId> is not a 32-bit integer: \"three\"");
    }

    #[test]
    fn short_binary_headers_are_refused_at_every_length() {
        let frame = written(Serialization::RocketMq, &());
        for length in 0..frame.header.len() {
            let short = Frame { header: frame.header.slice(..length), ..frame.clone() };
            assert!(Header::decode(&short).is_err(), "{length}");
        }
    }
}
