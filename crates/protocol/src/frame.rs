//! Frames: `total:i32 | type:u8, header length:u24 | header | body`, big-endian; `total` does not count itself.

use bytes::{Buf, Bytes, BytesMut};

use crate::header::Serialization;

/// Java's default for `com.rocketmq.remoting.frameMaxLength`.
pub const MAX_FRAME_LENGTH: usize = 16 * 1024 * 1024;

/// Bytes of the length field and of the header word.
const PREFIX: usize = 8;

/// One whole frame; header and body share the buffer that the socket was read into.
#[derive(Clone, Debug)]
pub struct Frame {
    pub serialization: Serialization,
    pub header: Bytes,
    pub body: Bytes,
}

/// Why a stream can't be cut into frames any further. The connection has to be closed: what follows
/// can't be found.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("frame of {length} bytes is over the limit of {limit}")]
    TooLong { length: u32, limit: usize },
    #[error("frame of {0} bytes is too short for a header word")]
    TooShort(u32),
    #[error("header of {header} bytes in a frame of {frame}")]
    HeaderTooLong { header: usize, frame: usize },
    #[error("unknown serialisation type {0}: 0 (JSON) and 1 (ROCKETMQ) exist")]
    UnknownSerialization(u8),
}

/// Takes the next whole frame out of `buffer`, or says that more bytes are needed (`None`).
///
/// A frame over `limit` is refused as soon as its length is known, before anything is allocated for it.
pub fn take(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix);
    if length as usize > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    if length < 4 {
        return Err(FrameError::TooShort(length));
    }
    let length = length as usize;
    let Some(word) = buffer.get(4..PREFIX) else {
        return Ok(None);
    };
    let serialization = match word[0] {
        0 => Serialization::Json,
        1 => Serialization::RocketMq,
        other => return Err(FrameError::UnknownSerialization(other)),
    };
    let header_length = u32::from_be_bytes([0, word[1], word[2], word[3]]) as usize;
    if header_length > length - 4 {
        return Err(FrameError::HeaderTooLong { header: header_length, frame: length });
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    let mut rest = buffer.split_to(length - 4).freeze();
    let header = rest.split_to(header_length);
    Ok(Some(Frame { serialization, header, body: rest }))
}

/// How many bytes the frame at the start of `buffer` has in all, once its length is known.
pub fn expected_length(buffer: &[u8]) -> Option<usize> {
    buffer.first_chunk::<4>().map(|prefix| 4 + u32::from_be_bytes(*prefix) as usize)
}

/// Begins a frame at the end of `out`; [`end`] fills the lengths in.
pub fn begin(out: &mut BytesMut) -> FrameStart {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    FrameStart(start)
}

/// Where a frame that is being written began.
#[derive(Debug)]
pub struct FrameStart(usize);

impl FrameStart {
    /// Fills in the lengths of the frame whose header ends at the end of `out`, and which `body_length`
    /// bytes follow that the caller writes (here or to the socket).
    pub fn end_header(self, serialization: Serialization, body_length: usize, out: &mut BytesMut) {
        let header_length = out.len() - self.0 - PREFIX;
        let total = (4 + header_length + body_length) as u32;
        let word = (header_length as u32) | (u32::from(serialization as u8) << 24);
        out[self.0..self.0 + 4].copy_from_slice(&total.to_be_bytes());
        out[self.0 + 4..self.0 + PREFIX].copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_bytes(kind: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(((4 + header.len() + body.len()) as u32).to_be_bytes());
        out.extend((header.len() as u32 | u32::from(kind) << 24).to_be_bytes());
        out.extend(header);
        out.extend(body);
        out
    }

    #[test]
    fn frames_are_cut_wherever_a_read_ends() {
        let mut bytes = frame_bytes(0, b"{}", b"hello");
        bytes.extend(frame_bytes(1, b"xyz", b""));
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            while let Some(frame) = take(&mut buffer, 100).unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames.len(), 2);
        assert_eq!((&frames[0].header[..], &frames[0].body[..]), (&b"{}"[..], &b"hello"[..]));
        assert_eq!(frames[1].serialization, Serialization::RocketMq);
        assert_eq!((&frames[1].header[..], frames[1].body.len()), (&b"xyz"[..], 0));
    }

    #[test]
    fn bad_frames_are_refused_before_they_are_whole() {
        let refused = |bytes: &[u8]| take(&mut BytesMut::from(bytes), 100).unwrap_err();
        assert_eq!(refused(&101u32.to_be_bytes()), FrameError::TooLong { length: 101, limit: 100 });
        assert_eq!(refused(&3u32.to_be_bytes()), FrameError::TooShort(3));
        assert_eq!(refused(&[0, 0, 0, 8, 7, 0, 0, 0]), FrameError::UnknownSerialization(7));
        assert_eq!(refused(&[0, 0, 0, 8, 0, 0, 0, 5]), FrameError::HeaderTooLong { header: 5, frame: 8 });
    }
}
