//! What a server's core and the shell around it say to each other. A core gets frames, the time and a
//! connection to answer on; it has no socket, and no handler waits: what can't be answered at once parks a
//! [`Responder`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::{Bytes, BytesMut};

use crate::header::{FLAG_ONEWAY, FLAG_RESPONSE, HeaderError, Outgoing, Typed};
use crate::requests::{FieldError, Request};
use crate::{Frame, Header, Serialization, codes};

/// Bytes of answers to one read from which on the core handles no more of its frames until these are written: requests
/// are small and answers may be large.
pub const ENOUGH_BYTES: usize = 1024 * 1024;

/// A server's core.
pub trait Service: Send + Sync + 'static {
    /// Handles the frames of one read, in their order, and takes them out of `frames`. Answers that are ready are
    /// appended to `out`, which the caller writes to the connection. Where that has reached [`ENOUGH_BYTES`], the frames
    /// that are left are to be given again, with an empty `out`. `now` is in ms since 1970.
    ///
    /// An error means that a frame's header can't be read: no answer can be addressed, so the connection is closed.
    fn frames(
        &self,
        now: i64,
        connection: &Arc<Connection>,
        frames: &mut Vec<Frame>,
        out: &mut BytesMut,
    ) -> Result<(), HeaderError>;

    /// The connection is gone; nothing more can be sent on it.
    fn closed(&self, now: i64, connection: &Connection);
}

/// Where bytes for a connection go when they are not the direct answer to what is being handled.
pub trait Outbox: Send + Sync {
    /// Queues whole frames. What a closed connection is sent is dropped; one that does not read is closed.
    fn push(&self, frames: Bytes);
}

/// One connection of a client.
pub struct Connection {
    /// Unique in this process, never used twice.
    pub id: u64,
    pub remote: SocketAddr,
    /// The address that the client dialled.
    pub local: SocketAddr,
    outbox: Arc<dyn Outbox>,
    next_opaque: AtomicI32,
}

impl Connection {
    pub fn new(id: u64, remote: SocketAddr, local: SocketAddr, outbox: Arc<dyn Outbox>) -> Self {
        Self { id, remote, local, outbox, next_opaque: AtomicI32::new(1) }
    }

    /// Gives the client whole encoded frames.
    pub fn push(&self, frames: Bytes) {
        self.outbox.push(frames);
    }

    /// Sends the client a request that it does not answer. Requests go out in JSON, which every client reads.
    pub fn send_oneway<'h, R: Request<'h>>(&self, request: &R, body: &[u8]) {
        self.send(R::CODE, self.next_opaque(), FLAG_ONEWAY, request, &[], body);
    }

    /// A number for a request that the client is to answer.
    pub fn next_opaque(&self) -> i32 {
        self.next_opaque.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends the client a request, which it answers under the number `opaque`.
    pub fn ask<'h, R: Request<'h>>(&self, opaque: i32, request: &R, body: &[u8]) {
        self.send(R::CODE, opaque, 0, request, &[], body);
    }

    /// Sends the client a request with the given fields, which it answers under the number `opaque`.
    pub fn send_request(&self, code: i32, opaque: i32, fields: &[(&str, &str)], body: &[u8]) {
        self.send(code, opaque, 0, &(), fields, body);
    }

    fn send<'h>(&self, code: i32, opaque: i32, flag: i32, typed: &impl Typed<'h>, extra: &[(&str, &str)], body: &[u8]) {
        let head = Outgoing { serialization: Serialization::Json, code, opaque, flag, remark: None, extra };
        let mut out = BytesMut::with_capacity(256 + body.len());
        head.write(typed, body.len(), &mut out);
        out.extend_from_slice(body);
        self.outbox.push(out.freeze());
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connection {} from {}", self.id, self.remote)
    }
}

/// Why a request is not done: the code and the remark of its answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: i32,
    pub remark: String,
}

impl Refusal {
    pub fn new(code: i32, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into() }
    }
}

/// Java answers a field that it can't read with SYSTEM_ERROR and the reason.
impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::new(codes::SYSTEM_ERROR, error.to_string())
    }
}

/// Bodies that can't be read are SYSTEM_ERROR, too.
impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::new(codes::SYSTEM_ERROR, format!("the body can't be read: {error}"))
    }
}

/// A request in the hands of its handler.
pub struct Call<'a> {
    pub now: i64,
    pub connection: &'a Arc<Connection>,
    pub header: &'a Header<'a>,
    pub body: &'a Bytes,
    pub serialization: Serialization,
    pub out: &'a mut BytesMut,
}

impl Call<'_> {
    /// Answers SUCCESS with the given fields.
    pub fn reply<'h>(&mut self, typed: &impl Typed<'h>) {
        self.answer(codes::SUCCESS, None, typed, &[]);
    }

    /// Answers SUCCESS with a body and no fields.
    pub fn reply_body(&mut self, body: &[u8]) {
        self.answer(codes::SUCCESS, None, &(), body);
    }

    /// Answers with all that an answer can hold. A one-way request is not answered.
    pub fn answer<'h>(&mut self, code: i32, remark: Option<&str>, typed: &impl Typed<'h>, body: &[u8]) {
        self.answer_with(code, remark, typed, &[], &[body]);
    }

    /// [`Call::answer`] with further fields, and a body in pieces.
    pub fn answer_with<'h>(
        &mut self,
        code: i32,
        remark: Option<&str>,
        typed: &impl Typed<'h>,
        extra: &[(&str, &str)],
        body: &[&[u8]],
    ) {
        if self.header.is_oneway() {
            return;
        }
        write_answer(self.serialization, self.header.opaque, code, remark, typed, extra, body, self.out);
    }

    /// Answers with the refusal's code and remark.
    pub fn refuse(&mut self, refusal: &Refusal) {
        self.answer(refusal.code, Some(&refusal.remark), &(), &[]);
    }

    /// Takes the answer out of this call's hands, to be given later.
    pub fn park(&self) -> Responder {
        Responder {
            connection: self.connection.clone(),
            serialization: self.serialization,
            opaque: self.header.opaque,
            oneway: self.header.is_oneway(),
        }
    }
}

/// The right to answer one request, at any later time and from any thread.
#[derive(Debug)]
pub struct Responder {
    connection: Arc<Connection>,
    serialization: Serialization,
    opaque: i32,
    oneway: bool,
}

impl Responder {
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Answers together with other answers to the same connection: what is written to `out` goes there.
    pub fn answer_into<'h>(
        self,
        code: i32,
        remark: Option<&str>,
        typed: &impl Typed<'h>,
        extra: &[(&str, &str)],
        body: &[&[u8]],
        out: &mut BytesMut,
    ) {
        if !self.oneway {
            write_answer(self.serialization, self.opaque, code, remark, typed, extra, body, out);
        }
    }

    /// Answers; see [`Call::answer_with`].
    pub fn answer<'h>(self, code: i32, remark: Option<&str>, typed: &impl Typed<'h>, extra: &[(&str, &str)], body: &[&[u8]]) {
        if self.oneway {
            return;
        }
        let mut out = BytesMut::with_capacity(256 + body.iter().map(|b| b.len()).sum::<usize>());
        write_answer(self.serialization, self.opaque, code, remark, typed, extra, body, &mut out);
        self.connection.outbox.push(out.freeze());
    }
}

#[allow(clippy::too_many_arguments, reason = "an answer's parts, written in one place for both ways to answer")]
fn write_answer<'h>(
    serialization: Serialization,
    opaque: i32,
    code: i32,
    remark: Option<&str>,
    typed: &impl Typed<'h>,
    extra: &[(&str, &str)],
    body: &[&[u8]],
    out: &mut BytesMut,
) {
    let head = Outgoing { serialization, code, opaque, flag: FLAG_RESPONSE, remark, extra };
    head.write(typed, body.iter().map(|b| b.len()).sum(), out);
    for piece in body {
        out.extend_from_slice(piece);
    }
}

/// A fixed place to collect what is pushed, for tests of cores without a network.
#[derive(Default)]
pub struct CollectingOutbox(std::sync::Mutex<Vec<Bytes>>);

impl CollectingOutbox {
    /// Takes all that has been pushed so far, cut into frames.
    pub fn take(&self) -> Vec<Frame> {
        let pushed = std::mem::take(&mut *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let mut bytes = BytesMut::new();
        pushed.iter().for_each(|piece| bytes.extend_from_slice(piece));
        std::iter::from_fn(|| crate::frame::take(&mut bytes, usize::MAX).ok().flatten()).collect()
    }
}

impl Outbox for CollectingOutbox {
    fn push(&self, frames: Bytes) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(frames);
    }
}
