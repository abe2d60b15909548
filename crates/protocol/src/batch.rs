//! The body of a batch send: messages one behind the other, each
//! `total:4 magic:4 crc:4 flag:4 body:4+n properties:2+n`; magic and CRC are not used
//! (Java: `MessageDecoder.encodeMessage`).

/// Bytes of an entry beside its body and its properties.
const FIXED: usize = 4 + 4 + 4 + 4 + 4 + 2;

/// The most messages that one batch may hold: what fits a frame at the smallest size of a message.
pub const MAX_MESSAGES: usize = crate::frame::MAX_FRAME_LENGTH / FIXED;

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMessage<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    pub properties: &'a str,
}

/// Why a batch can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("message {0} of the batch is shorter than its fields say")]
    Short(usize),
    #[error("the properties of message {0} of the batch are not UTF-8")]
    NotUtf8(usize),
    #[error("the batch holds no message")]
    Empty,
}

/// Reads the messages of a batch.
pub fn decode(body: &[u8]) -> Result<Vec<BatchMessage<'_>>, BatchError> {
    let mut messages = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let nth = messages.len();
        let total = rest.first_chunk().map(|b| u32::from_be_bytes(*b) as usize).ok_or(BatchError::Short(nth))?;
        let (entry, next) = rest.split_at_checked(total).ok_or(BatchError::Short(nth))?;
        messages.push(entry_message(entry, nth)?);
        rest = next;
    }
    if messages.is_empty() { Err(BatchError::Empty) } else { Ok(messages) }
}

fn entry_message(entry: &[u8], nth: usize) -> Result<BatchMessage<'_>, BatchError> {
    let short = BatchError::Short(nth);
    if entry.len() < FIXED {
        return Err(short);
    }
    let flag = i32::from_be_bytes([entry[12], entry[13], entry[14], entry[15]]);
    let body_length = u32::from_be_bytes([entry[16], entry[17], entry[18], entry[19]]) as usize;
    let Some((body, rest)) = entry[20..].split_at_checked(body_length) else { return Err(short) };
    let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Err(short) };
    let Some(properties) = rest.get(..usize::from(u16::from_be_bytes(*length))) else { return Err(short) };
    let properties = std::str::from_utf8(properties).map_err(|_| BatchError::NotUtf8(nth))?;
    Ok(BatchMessage { flag, body, properties })
}

/// Appends a message to the body of a batch.
pub fn encode(message: &BatchMessage<'_>, out: &mut Vec<u8>) {
    let total = FIXED + message.body.len() + message.properties.len();
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&message.flag.to_be_bytes());
    out.extend_from_slice(&(message.body.len() as u32).to_be_bytes());
    out.extend_from_slice(message.body);
    out.extend_from_slice(&(message.properties.len() as u16).to_be_bytes());
    out.extend_from_slice(message.properties.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_round_trip_and_damage_is_named() {
        let messages = [
            BatchMessage { flag: 1, body: b"one", properties: "TAGS\u{1}a\u{2}" },
            BatchMessage { flag: 0, body: b"", properties: "" },
        ];
        let mut body = Vec::new();
        messages.iter().for_each(|m| encode(m, &mut body));
        assert_eq!(decode(&body).unwrap(), messages);
        assert_eq!(decode(&body[..body.len() - 1]), Err(BatchError::Short(1)));
        assert_eq!(decode(&body[..3]), Err(BatchError::Short(0)));
        assert_eq!(decode(b""), Err(BatchError::Empty));
        assert_eq!(decode(&[0; 64]), Err(BatchError::Short(0)));
    }
}
