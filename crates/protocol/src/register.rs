//! The body of a broker's registration: JSON, or a zlib stream of length-prefixed pieces
//! (Java: `RegisterBrokerBody`).

use std::io::Read;

use crate::bodies::{RegisterBrokerBody, TopicConfig, TopicFilterType, TopicTable};
use crate::{fastjson, record, version};

/// What a compressed registration may grow to: far above 100,000 topics.
pub const MAX_INFLATED: usize = 64 * 1024 * 1024;

/// Why a registration can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Java's own words.
    #[error("crc32 not match")]
    Crc,
    #[error("the registration is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the compressed registration can't be inflated: {0}")]
    Inflate(#[from] std::io::Error),
    #[error("the compressed registration grows over {MAX_INFLATED} bytes")]
    TooLarge,
    #[error("the compressed registration ends within {0}")]
    Short(&'static str),
    #[error("topic text {0:?} is not `name readQueues writeQueues perm filterType`")]
    TopicText(String),
}

/// Reads a registration that a broker of version `broker_version` sent. A CRC of 0 is not checked.
pub fn decode(body: &[u8], compressed: bool, crc32: i32, broker_version: i32) -> Result<RegisterBrokerBody, RegisterError> {
    if crc32 != 0 && record::crc(body) != crc32 as u32 {
        return Err(RegisterError::Crc);
    }
    if compressed {
        return inflate(body);
    }
    if broker_version < version::V3_0_11 {
        let table: TopicTable = if body.is_empty() { TopicTable::default() } else { fastjson::from_slice(body)? };
        return Ok(RegisterBrokerBody { topic_config_serialize_wrapper: table, ..Default::default() });
    }
    if body.is_empty() {
        return Ok(RegisterBrokerBody::default());
    }
    Ok(fastjson::from_slice(body)?)
}

fn inflate(body: &[u8]) -> Result<RegisterBrokerBody, RegisterError> {
    let mut plain = Vec::new();
    flate2::read::ZlibDecoder::new(body).take(MAX_INFLATED as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > MAX_INFLATED {
        return Err(RegisterError::TooLarge);
    }
    let mut input = plain.as_slice();
    let mut table =
        TopicTable { data_version: fastjson::from_slice(piece(&mut input, "the data version")?)?, ..Default::default() };
    let topics = number(&mut input, "the count of topics")?;
    for _ in 0..topics {
        let topic = parse_topic(piece(&mut input, "a topic")?)?;
        table.topic_config_table.insert(topic.topic_name.clone(), topic);
    }
    let filter_servers = piece(&mut input, "the filter servers")?;
    let filter_server_list = if filter_servers.is_empty() { Vec::new() } else { fastjson::from_slice(filter_servers)? };
    Ok(RegisterBrokerBody { filter_server_list, topic_config_serialize_wrapper: table })
}

fn number(input: &mut &[u8], what: &'static str) -> Result<u32, RegisterError> {
    let (head, rest) = input.split_first_chunk().ok_or(RegisterError::Short(what))?;
    *input = rest;
    Ok(u32::from_be_bytes(*head))
}

fn piece<'a>(input: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], RegisterError> {
    let length = number(input, what)? as usize;
    let (head, rest) = input.split_at_checked(length).ok_or(RegisterError::Short(what))?;
    *input = rest;
    Ok(head)
}

/// `name readQueues writeQueues perm filterType [attributes]`, one space between.
fn parse_topic(text: &[u8]) -> Result<TopicConfig, RegisterError> {
    let bad = || RegisterError::TopicText(String::from_utf8_lossy(text).chars().take(200).collect());
    let line = std::str::from_utf8(text).map_err(|_| bad())?;
    let mut words = line.splitn(6, ' ');
    let mut word = || words.next().ok_or_else(bad);
    let name = word()?.to_owned();
    let mut integer = || word()?.parse::<i32>().map_err(|_| bad());
    let (read_queue_nums, write_queue_nums, perm) = (integer()?, integer()?, integer()?);
    let topic_filter_type = match word()? {
        "MULTI_TAG" => TopicFilterType::MultiTag,
        "SINGLE_TAG" => TopicFilterType::SingleTag,
        _ => return Err(bad()),
    };
    let attributes = match words.next().map(str::trim) {
        None | Some("") => Default::default(),
        Some(json) => fastjson::from_slice(json.as_bytes()).map_err(|_| bad())?,
    };
    Ok(TopicConfig {
        topic_name: name,
        read_queue_nums,
        write_queue_nums,
        perm,
        topic_filter_type,
        attributes,
        ..TopicConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn compressed(topics: &[&str]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut piece = |text: &[u8]| {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text);
        };
        piece(br#"{"counter":3,"timestamp":4}"#);
        let mut tail = Vec::new();
        tail.extend((topics.len() as u32).to_be_bytes());
        for topic in topics {
            tail.extend((topic.len() as u32).to_be_bytes());
            tail.extend(topic.as_bytes());
        }
        tail.extend(2u32.to_be_bytes());
        tail.extend(b"[]");
        plain.extend(tail);
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_registrations_are_read() {
        let body = compressed(&["T 4 5 6 SINGLE_TAG {}", "M 1 1 2 MULTI_TAG"]);
        let read = decode(&body, true, record::crc(&body) as i32, version::CURRENT).unwrap();
        let table = read.topic_config_serialize_wrapper;
        assert_eq!(table.data_version.counter, 3);
        assert_eq!((table.topic_config_table["T"].read_queue_nums, table.topic_config_table["T"].write_queue_nums), (4, 5));
        assert_eq!(table.topic_config_table["M"].topic_filter_type, TopicFilterType::MultiTag);
        assert!(matches!(decode(&body, true, 1, version::CURRENT), Err(RegisterError::Crc)));
        assert!(matches!(decode(&body[..8], true, 0, version::CURRENT), Err(RegisterError::Inflate(_))));
        assert!(matches!(decode(&compressed(&["T x"]), true, 0, version::CURRENT), Err(RegisterError::TopicText(_))));
    }

    #[test]
    fn brokers_before_3_0_11_send_the_table_alone() {
        let body = br#"{"topicConfigTable":{"T":{"topicName":"T"}}}"#;
        let old = decode(body, false, 0, version::V3_0_11 - 1).unwrap();
        assert!(old.topic_config_serialize_wrapper.topic_config_table.contains_key("T"));
    }
}
