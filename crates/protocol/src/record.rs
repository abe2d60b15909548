//! A message as the commit log holds it and answers to pulls carry it (Java: `MessageExtEncoder`,
//! `MessageDecoder`). All numbers big-endian:
//!
//! `total:4 magic:4 bodyCrc:4 queueId:4 flag:4 queueOffset:8 physicalOffset:8 sysFlag:4 bornTime:8
//! bornHost:8|20 storeTime:8 storeHost:8|20 reconsumeTimes:4 preparedTransactionOffset:8
//! body:4+n topic:1+n (V2: 2+n) properties:2+n`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{properties, sys_flag};

/// A record whose topic's length has one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// A record whose topic's length has two bytes, for topics over 127 bytes.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// The rest of a segment into which the next record did not fit.
pub const MAGIC_BLANK: u32 = 0xCBD4_3194;
/// `total` and `magic` of the blank at a segment's end: room for them is always left.
pub const BLANK_LENGTH: usize = 8;
/// The longest topic of a V1 record.
const V1_TOPIC_MAX: usize = 127;

/// Bytes of a record beside its body, topic and properties when both hosts are IPv4.
const FIXED_V4: usize = 91;

/// Where the fields are that are only known when a record is appended.
const QUEUE_OFFSET_AT: usize = 20;
const PHYSICAL_OFFSET_AT: usize = 28;
const SYS_FLAG_AT: usize = 36;
const BORN_HOST_AT: usize = 48;

/// A message with all that its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub queue_id: i32,
    pub flag: i32,
    pub queue_offset: i64,
    pub physical_offset: i64,
    /// [`sys_flag::message`]; the bits for IPv6 hosts follow the hosts, whatever stands here.
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_timestamp: i64,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: &'a [u8],
    pub topic: &'a str,
    pub properties: &'a str,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    #[error("the record ends within its {0}")]
    Short(&'static str),
    #[error("magic {0:#010x} is not a record's")]
    Magic(u32),
    #[error("total size {total} does not match the fields, which take {found}")]
    Size { total: usize, found: usize },
    #[error("the {0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("the port {0} of a host is over 65535")]
    Port(u32),
    #[error("the body's CRC is {found:#010x}, the record says {expected:#010x}")]
    Crc { expected: u32, found: u32 },
}

/// CRC-32 without its top bit, as Java keeps it in a signed number.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes) & 0x7FFF_FFFF
}

fn host_length(host: SocketAddr) -> usize {
    if host.is_ipv4() { 8 } else { 20 }
}

impl Record<'_> {
    /// The record's length in bytes.
    pub fn encoded_length(&self) -> usize {
        let topic_prefix = if self.topic.len() > V1_TOPIC_MAX { 2 } else { 1 };
        FIXED_V4 - 17
            + host_length(self.born_host)
            + host_length(self.store_host)
            + topic_prefix
            + self.body.len()
            + self.topic.len()
            + self.properties.len()
    }

    /// Appends the record to `out`. Topic and properties must be within their limits
    /// ([`crate::names::RETRY_TOPIC_MAX_LENGTH`], [`properties::MAX_LENGTH`]).
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.properties.len() <= properties::MAX_LENGTH && self.topic.len() <= i16::MAX as usize);
        let length = self.encoded_length();
        out.reserve(length);
        let start = out.len();
        let long_topic = self.topic.len() > V1_TOPIC_MAX;
        put(out, (length as u32).to_be_bytes());
        put(out, (if long_topic { MAGIC_V2 } else { MAGIC_V1 }).to_be_bytes());
        put(out, crc(self.body).to_be_bytes());
        put(out, self.queue_id.to_be_bytes());
        put(out, self.flag.to_be_bytes());
        put(out, self.queue_offset.to_be_bytes());
        put(out, self.physical_offset.to_be_bytes());
        put(out, with_host_bits(self.sys_flag, self.born_host, self.store_host).to_be_bytes());
        put(out, self.born_timestamp.to_be_bytes());
        put_host(out, self.born_host);
        put(out, self.store_timestamp.to_be_bytes());
        put_host(out, self.store_host);
        put(out, self.reconsume_times.to_be_bytes());
        put(out, self.prepared_transaction_offset.to_be_bytes());
        put(out, (self.body.len() as u32).to_be_bytes());
        out.extend_from_slice(self.body);
        if long_topic {
            put(out, (self.topic.len() as u16).to_be_bytes());
        } else {
            out.push(self.topic.len() as u8);
        }
        out.extend_from_slice(self.topic.as_bytes());
        put(out, (self.properties.len() as u16).to_be_bytes());
        out.extend_from_slice(self.properties.as_bytes());
        debug_assert_eq!(out.len() - start, length);
    }
}

fn with_host_bits(sys_flag: i32, born: SocketAddr, store: SocketAddr) -> i32 {
    use sys_flag::message::{BORN_HOST_V6, STORE_HOST_V6};
    let bit = |host: SocketAddr, bit| if host.is_ipv6() { bit } else { 0 };
    sys_flag & !(BORN_HOST_V6 | STORE_HOST_V6) | bit(born, BORN_HOST_V6) | bit(store, STORE_HOST_V6)
}

fn put<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) {
    out.extend_from_slice(&bytes);
}

fn put_host(out: &mut Vec<u8>, host: SocketAddr) {
    match host.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    put(out, u32::from(host.port()).to_be_bytes());
}

/// The queue offset of an encoded record; 0 where the bytes are too few.
pub fn queue_offset(record: &[u8]) -> i64 {
    record.get(QUEUE_OFFSET_AT..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// Fills in what is only known at the moment of appending. `record` begins with a whole encoded record.
pub fn place(record: &mut [u8], queue_offset: i64, physical_offset: i64, store_timestamp: i64) {
    record[QUEUE_OFFSET_AT..QUEUE_OFFSET_AT + 8].copy_from_slice(&queue_offset.to_be_bytes());
    record[PHYSICAL_OFFSET_AT..PHYSICAL_OFFSET_AT + 8].copy_from_slice(&physical_offset.to_be_bytes());
    // The flag that tells the born host's length is in the number's lowest byte.
    let v6 = i32::from(record[SYS_FLAG_AT + 3]) & sys_flag::message::BORN_HOST_V6 != 0;
    let at = BORN_HOST_AT + if v6 { 20 } else { 8 };
    record[at..at + 8].copy_from_slice(&store_timestamp.to_be_bytes());
}

/// The length that the record at the start of `bytes` says it has, with its magic.
pub fn peek(bytes: &[u8]) -> Option<(u32, u32)> {
    let total = u32::from_be_bytes(*bytes.first_chunk()?);
    let magic = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    Some((total, magic))
}

/// Reads the record at the start of `bytes` and checks its shape; the body's CRC is checked by
/// [`decode_checked`].
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let mut input = Input { bytes, at: 0 };
    let total = input.u32("length")? as usize;
    let magic = input.u32("magic")?;
    if magic != MAGIC_V1 && magic != MAGIC_V2 {
        return Err(RecordError::Magic(magic));
    }
    input.bytes = bytes.get(..total).ok_or(RecordError::Short("length"))?;
    input.u32("CRC")?;
    let queue_id = input.i32("queue id")?;
    let flag = input.i32("flag")?;
    let queue_offset = input.i64("queue offset")?;
    let physical_offset = input.i64("physical offset")?;
    let sys_flag = input.i32("sysFlag")?;
    let born_timestamp = input.i64("born timestamp")?;
    let born_host = input.host(sys_flag & sys_flag::message::BORN_HOST_V6 != 0)?;
    let store_timestamp = input.i64("store timestamp")?;
    let store_host = input.host(sys_flag & sys_flag::message::STORE_HOST_V6 != 0)?;
    let reconsume_times = input.i32("reconsume times")?;
    let prepared_transaction_offset = input.i64("prepared transaction offset")?;
    let body_length = input.u32("body's length")? as usize;
    let body = input.take(body_length, "body")?;
    let topic_length = if magic == MAGIC_V1 {
        usize::from(input.array::<1>("topic's length")?[0])
    } else {
        usize::from(u16::from_be_bytes(input.array("topic's length")?))
    };
    let topic = text(input.take(topic_length, "topic")?, "topic")?;
    let properties_length = usize::from(u16::from_be_bytes(input.array("properties' length")?));
    let properties = text(input.take(properties_length, "properties")?, "properties")?;
    if input.at != total {
        return Err(RecordError::Size { total, found: input.at });
    }
    Ok(Record {
        queue_id,
        flag,
        queue_offset,
        physical_offset,
        sys_flag,
        born_timestamp,
        born_host,
        store_timestamp,
        store_host,
        reconsume_times,
        prepared_transaction_offset,
        body,
        topic,
        properties,
    })
}

/// [`decode`], with the body's CRC compared to what the record says.
pub fn decode_checked(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let record = decode(bytes)?;
    let expected = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let found = crc(record.body);
    if found != expected {
        return Err(RecordError::Crc { expected, found });
    }
    Ok(record)
}

/// Whether `bytes` are one whole record that stands at `offset` of the log, with a body as it was written. It looks at
/// no more than that needs: it is asked for each message that is read.
pub fn is_intact(bytes: &[u8], offset: i64) -> bool {
    let physical = bytes.get(PHYSICAL_OFFSET_AT..).and_then(|b| b.first_chunk()).map(|b| i64::from_be_bytes(*b));
    let (Some((total, magic)), Some(sum)) = (peek(bytes), int(bytes, 8)) else { return false };
    total as usize == bytes.len()
        && (magic == MAGIC_V1 || magic == MAGIC_V2)
        && physical == Some(offset)
        && body_and_rest(bytes).is_some_and(|(body, _)| crc(body) == sum)
}

/// The properties of an encoded record, of which no more is looked at: filters ask for them of each message. `None` where
/// it has none that can be read.
pub fn properties(bytes: &[u8]) -> Option<&str> {
    let (_, magic) = peek(bytes)?;
    let (_, rest) = body_and_rest(bytes)?;
    let (topic, rest) = match magic {
        MAGIC_V1 => (usize::from(*rest.first()?), rest.get(1..)?),
        _ => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), rest.get(2..)?),
    };
    let rest = rest.get(topic..)?;
    let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
    std::str::from_utf8(rest.get(2..2 + length)?).ok()
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A record's body, and what lies behind it.
fn body_and_rest(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let flags = int(bytes, SYS_FLAG_AT)? as i32;
    let host = |bit: i32| if flags & bit != 0 { 20 } else { 8 };
    let length_at = BORN_HOST_AT + host(sys_flag::message::BORN_HOST_V6) + 8 + host(sys_flag::message::STORE_HOST_V6) + 4 + 8;
    bytes.get(length_at + 4..)?.split_at_checked(int(bytes, length_at)? as usize)
}

/// The records of an answer to a pull, one behind the other. Ends after the first error.
pub fn decode_all(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let decoded = decode(bytes);
        let length = peek(bytes).map_or(bytes.len(), |(total, _)| total as usize);
        bytes = if decoded.is_ok() { &bytes[length..] } else { &[] };
        Some(decoded)
    })
}

fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, RecordError> {
    std::str::from_utf8(bytes).map_err(|_| RecordError::NotUtf8(what))
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], RecordError> {
        let end = self.at.checked_add(length).ok_or(RecordError::Short(what))?;
        let taken = self.bytes.get(self.at..end).ok_or(RecordError::Short(what))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], RecordError> {
        Ok(*self.take(N, what)?.first_chunk().ok_or(RecordError::Short(what))?)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    fn i64(&mut self, what: &'static str) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    fn host(&mut self, v6: bool) -> Result<SocketAddr, RecordError> {
        let ip: IpAddr =
            if v6 { Ipv6Addr::from(self.array::<16>("host")?).into() } else { Ipv4Addr::from(self.array::<4>("host")?).into() };
        let port = self.u32("host")?;
        Ok(SocketAddr::new(ip, u16::try_from(port).map_err(|_| RecordError::Port(port))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(topic: &'a str, v6: bool) -> Record<'a> {
        let host: SocketAddr = if v6 { "[::1]:10911" } else { "127.0.0.1:10911" }.parse().unwrap();
        Record {
            queue_id: 3,
            flag: 7,
            queue_offset: 0,
            physical_offset: 0,
            sys_flag: 0,
            born_timestamp: 11,
            born_host: host,
            store_timestamp: 0,
            store_host: host,
            reconsume_times: 1,
            prepared_transaction_offset: 0,
            body: b"hello",
            topic,
            properties: "TAGS\u{1}a\u{2}",
        }
    }

    #[test]
    fn records_round_trip_in_both_versions_and_address_families() {
        let long = "%RETRY%".to_owned() + &"g".repeat(200);
        for (topic, v6) in [("T", false), (long.as_str(), false), ("T", true)] {
            let original = record(topic, v6);
            let mut bytes = Vec::new();
            original.encode(&mut bytes);
            assert_eq!(bytes.len(), original.encoded_length());
            place(&mut bytes, 5, 1 << 40, 99);
            let read = decode_checked(&bytes).unwrap();
            assert!(is_intact(&bytes, 1 << 40) && !is_intact(&bytes, 1) && !is_intact(&bytes[..bytes.len() - 1], 1 << 40));
            let flags = if v6 { 0x30 } else { 0 };
            assert_eq!(
                read,
                Record { queue_offset: 5, physical_offset: 1 << 40, store_timestamp: 99, sys_flag: flags, ..original }
            );
        }
        assert_eq!(record("T", false).encoded_length(), 91 + 5 + 1 + 7);
    }

    #[test]
    fn damage_is_found() {
        let mut bytes = Vec::new();
        record("T", false).encode(&mut bytes);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        let mut flipped = bytes.clone();
        flipped[88] ^= 1;
        assert!(matches!(decode_checked(&flipped), Err(RecordError::Crc { .. })));
        assert!(is_intact(&bytes, 0) && !is_intact(&flipped, 0));
        bytes[4] = 0;
        assert!(matches!(decode(&bytes), Err(RecordError::Magic(_))));
    }
}
