//! A client without a library: requests and answers as frames.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use protocol::header::Outgoing;
use protocol::requests::Request;
use protocol::{Frame, Header, Serialization, frame};

use crate::{PATIENCE, Server, wait_for};

/// The fields of a header by name.
pub type Fields = BTreeMap<String, String>;

/// What is compared of an answer.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub code: i32,
    pub remark: String,
    pub fields: Fields,
}

/// Appends a request as Java's clients write it.
pub fn write_request(out: &mut BytesMut, code: i32, fields: &[(&str, &str)], body: &[u8]) {
    let head = Outgoing { serialization: Serialization::Json, code, opaque: 1, flag: 0, remark: None, extra: fields };
    head.write(&(), body.len(), out);
    out.extend_from_slice(body);
}

/// A connection that has several requests under way.
pub struct Link {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Link {
    /// To the broker.
    pub fn open(server: &Server) -> Self {
        Self::connect(server.broker_port)
    }

    /// To whoever listens, or will in a moment.
    pub fn connect(port: u16) -> Self {
        let stream = wait_for("a connection", || TcpStream::connect(("127.0.0.1", port)).ok());
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

    /// Sends requests that are written already.
    pub fn write(&mut self, requests: &[u8]) {
        self.stream.write_all(requests).unwrap();
    }

    /// Sends a request given by its fields, and waits for its answer; what the server asks meanwhile is passed over.
    pub fn call(&mut self, code: i32, fields: &[(&str, &str)], body: &[u8]) -> (Answer, Frame) {
        let mut out = BytesMut::new();
        write_request(&mut out, code, fields, body);
        self.write(&out);
        let frame = loop {
            let frame = self.frame();
            if Header::decode(&frame).unwrap().is_response() {
                break frame;
            }
        };
        let header = Header::decode(&frame).unwrap();
        let remark = header.remark.clone().unwrap_or_default().into_owned();
        let fields = header.fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        (Answer { code: header.code, remark, fields }, frame)
    }

    /// The next frame of a server that is there.
    pub fn frame(&mut self) -> Frame {
        self.answer().expect("the server closed the connection, or said nothing in time")
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
