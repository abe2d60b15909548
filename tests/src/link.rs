//! A client without a library: requests and answers as frames.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use protocol::header::Outgoing;
use protocol::requests::{PullMessage, Request, SendMessageV2};
use protocol::sys_flag::pull;
use protocol::{Frame, Header, Serialization, frame, names};

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

/// Appends a request as Java's clients write it, with fields such as `name=value;name=value`.
pub fn write_request(out: &mut BytesMut, code: i32, fields: &str, body: &[u8]) {
    let extra: Vec<_> = fields.split(';').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap()).collect();
    let head = Outgoing { serialization: Serialization::Json, code, opaque: 1, flag: 0, remark: None, extra: &extra };
    head.write(&(), body.len(), out);
    out.extend_from_slice(body);
}

/// A request as it travels.
pub fn framed<'h, R: Request<'h>>(request: &R, opaque: i32, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let head = Outgoing { serialization: Serialization::Json, code: R::CODE, opaque, flag: 0, remark: None, extra: &[] };
    head.write(request, body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

/// A send to a queue of a topic, which is made with so many queues where there is none.
pub fn send_request<'a>(topic: &'a str, queues: i32, queue_id: i32, properties: &'a str) -> SendMessageV2<'a> {
    SendMessageV2 {
        producer_group: "p",
        topic,
        default_topic: names::DEFAULT_TOPIC,
        default_topic_queue_nums: queues,
        queue_id,
        born_timestamp: 1,
        properties: Some(properties),
        ..SendMessageV2::default()
    }
}

/// A pull of all messages of a queue from an offset on, which does not wait.
pub fn pull_request(topic: &str, queue_id: i32, queue_offset: i64) -> PullMessage<'_> {
    PullMessage {
        consumer_group: "g",
        topic,
        queue_id,
        queue_offset,
        max_msg_nums: 32,
        sys_flag: pull::SUBSCRIPTION,
        subscription: Some("*"),
        ..PullMessage::default()
    }
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
        Self::to(&format!("127.0.0.1:{port}"))
    }

    /// To an address with a port.
    pub fn to(address: &str) -> Self {
        let stream = wait_for("a connection", || TcpStream::connect(address).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    /// Sends a request.
    pub fn ask<'h, R: Request<'h>>(&mut self, request: &R, opaque: i32, body: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&framed(request, opaque, body))
    }

    /// Sends a request and waits for its answer.
    pub fn request<'h, R: Request<'h>>(&mut self, request: &R, body: &[u8]) -> Frame {
        self.ask(request, 1, body).unwrap();
        self.frame()
    }

    /// Sends requests that are written already.
    pub fn write(&mut self, requests: &[u8]) {
        self.stream.write_all(requests).unwrap();
    }

    /// Sends a request given by its fields (see [`write_request`]), and waits for its answer; what the server asks meanwhile is passed over.
    pub fn call(&mut self, code: i32, fields: &str, body: &[u8]) -> (Answer, Frame) {
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
