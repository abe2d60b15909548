//! A client without a library: requests and answers as frames.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use protocol::header::Outgoing;
use protocol::requests::Request;
use protocol::{Frame, Serialization, frame};

use crate::{PATIENCE, Server};

/// A connection that has several requests under way.
pub struct Link {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Link {
    /// To the broker.
    pub fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.broker_port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    /// Sends a request.
    pub fn ask<'h, R: Request<'h>>(&mut self, request: &R, opaque: i32, body: &[u8]) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        let head = Outgoing { serialization: Serialization::Json, code: R::CODE, opaque, flag: 0, remark: None, extra: &[] };
        head.write(request, body.len(), &mut out);
        out.extend_from_slice(body);
        self.stream.write_all(&out)
    }

    /// The next answer; `None` where the server is gone.
    pub fn answer(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::take(&mut self.buffer, frame::MAX_FRAME_LENGTH).unwrap() {
                return Some(frame);
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }
}
