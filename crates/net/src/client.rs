//! A client of one or many servers: requests in flight are told apart by their opaque number, so any
//! number of tasks can share a connection.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use protocol::header::{FLAG_ONEWAY, HeaderError, Outgoing, Typed};
use protocol::requests::{FieldError, Request};
use protocol::{Frame, Header, Serialization, codes, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// How long dialling may take; Java's `connectTimeoutMillis`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Frames that wait to be written on one connection.
const WRITE_QUEUE: usize = 1024;

/// Why a request has no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("can't connect to {address}: {reason}")]
    Connect { address: String, reason: io::Error },
    #[error("{address} did not answer {request} within {after:?}")]
    Timeout { address: String, request: &'static str, after: Duration },
    #[error("{address} closed the connection before it answered")]
    Closed { address: String },
    #[error("{address} answered {code} ({}): {remark}", codes::name(*code))]
    Refused { address: String, code: i32, remark: String },
    #[error("the answer of {address} can't be read: {reason}")]
    Answer { address: String, reason: String },
}

impl ClientError {
    /// The answer's code, where the server refused.
    pub fn code(&self) -> Option<i32> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// An answer: its frame, and what of its header is known without the fields.
#[derive(Debug)]
pub struct Answer {
    frame: Frame,
    address: Arc<str>,
    pub code: i32,
    pub remark: String,
}

impl Answer {
    pub fn body(&self) -> &Bytes {
        &self.frame.body
    }

    /// Gives the answer's header to `read`: its fields borrow from the frame.
    pub fn fields<T>(&self, read: impl FnOnce(&Header<'_>) -> Result<T, FieldError>) -> Result<T, ClientError> {
        let header = Header::decode(&self.frame).map_err(|e| self.unreadable(&e))?;
        read(&header).map_err(|e| self.unreadable(&e))
    }

    /// Reads the body as JSON or fastjson's dialect.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ClientError> {
        protocol::fastjson::from_slice(self.body()).map_err(|e| self.unreadable(&e))
    }

    /// Turns every code but SUCCESS into an error.
    pub fn success(self) -> Result<Self, ClientError> {
        if self.code == codes::SUCCESS {
            return Ok(self);
        }
        Err(ClientError::Refused { address: self.address.to_string(), code: self.code, remark: self.remark })
    }

    fn unreadable(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Answer { address: self.address.to_string(), reason: reason.to_string() }
    }
}

/// One connection. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone)]
pub struct Client {
    address: Arc<str>,
    serialization: Serialization,
    write: mpsc::Sender<Bytes>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: AtomicI32,
    /// `None` once the connection is closed.
    answers: Mutex<Option<HashMap<i32, oneshot::Sender<Frame>>>>,
}

/// A connection with `address` (`host:port`) that sends small writes at once; an error after [`CONNECT_TIMEOUT`].
pub async fn dial(address: &str) -> io::Result<TcpStream> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Client {
    /// Dials `address` (`host:port`). Requests of the server are passed over.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Self::connect_with(address, Serialization::default()).await
    }

    /// Dials `address` and writes headers in the given serialisation.
    pub async fn connect_with(address: &str, serialization: Serialization) -> Result<Self, ClientError> {
        let failed = |reason| ClientError::Connect { address: address.to_owned(), reason };
        let stream = dial(address).await.map_err(failed)?;
        let (read, write) = stream.into_split();
        let (sender, receiver) = mpsc::channel(WRITE_QUEUE);
        let waiting = Arc::new(Waiting { next: AtomicI32::new(1), answers: Mutex::new(Some(HashMap::new())) });
        let answers = read_answers(read, waiting.clone());
        tokio::spawn(async move {
            // Whichever ends first ends the connection.
            tokio::select! {
                () = write_frames(write, receiver) => {}
                () = answers => {}
            }
        });
        Ok(Self { address: address.into(), serialization, write: sender, waiting })
    }

    pub fn is_closed(&self) -> bool {
        self.write.is_closed() || self.waiting.answers.lock().is_none()
    }

    /// Sends a request and waits for its answer, whatever its code.
    pub async fn call<'h, R: Request<'h>>(&self, request: &R, body: &[u8], timeout: Duration) -> Result<Answer, ClientError> {
        let opaque = self.waiting.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match self.waiting.answers.lock().as_mut() {
            Some(answers) => answers.insert(opaque, sender),
            None => return Err(self.closed()),
        };
        self.write.send(self.frame::<R>(request, opaque, 0, body)).await.map_err(|_| self.closed())?;
        let answer = tokio::time::timeout(timeout, receiver).await;
        if answer.is_err()
            && let Some(answers) = self.waiting.answers.lock().as_mut()
        {
            answers.remove(&opaque);
        }
        let frame = answer
            .map_err(|_| ClientError::Timeout { address: self.address.to_string(), request: R::NAME, after: timeout })?
            .map_err(|_| self.closed())?;
        let (code, remark) =
            head(&frame).map_err(|e| ClientError::Answer { address: self.address.to_string(), reason: e.to_string() })?;
        Ok(Answer { frame, address: self.address.clone(), code, remark })
    }

    /// Sends a request that is not answered.
    pub async fn send_oneway<'h, R: Request<'h>>(&self, request: &R, body: &[u8]) -> Result<(), ClientError> {
        let opaque = self.waiting.next.fetch_add(1, Ordering::Relaxed);
        self.write.send(self.frame::<R>(request, opaque, FLAG_ONEWAY, body)).await.map_err(|_| self.closed())
    }

    fn frame<'h, R: Request<'h>>(&self, request: &impl Typed<'h>, opaque: i32, flag: i32, body: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(512 + body.len());
        let head = Outgoing { serialization: self.serialization, code: R::CODE, opaque, flag, remark: None, extra: &[] };
        head.write(request, body.len(), &mut out);
        out.extend_from_slice(body);
        out.freeze()
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed { address: self.address.to_string() }
    }
}

fn head(frame: &Frame) -> Result<(i32, String), HeaderError> {
    let header = Header::decode(frame)?;
    Ok((header.code, header.remark.map(|r| r.into_owned()).unwrap_or_default()))
}

async fn write_frames(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>) {
    let mut batch = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        batch.extend_from_slice(&frame);
        while let Ok(more) = queue.try_recv() {
            batch.extend_from_slice(&more);
        }
        // A connection that can't be written to ends its reader, which tells those who wait.
        if write.write_all(&batch).await.is_err() {
            return;
        }
        batch.clear();
    }
}

async fn read_answers(mut read: OwnedReadHalf, waiting: Arc<Waiting>) {
    let _closed = CloseOnDrop(waiting.clone());
    let mut buffer = BytesMut::new();
    loop {
        match frame::take(&mut buffer, frame::MAX_FRAME_LENGTH) {
            Ok(Some(frame)) => {
                if let Some(opaque) = answered(&frame)
                    && let Some(sender) = waiting.answers.lock().as_mut().and_then(|answers| answers.remove(&opaque))
                {
                    // Whoever asked may have stopped waiting.
                    let _ = sender.send(frame);
                }
            }
            Ok(None) => match read.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            Err(_) => return,
        }
    }
}

fn answered(frame: &Frame) -> Option<i32> {
    Header::decode(frame).ok().filter(Header::is_response).map(|header| header.opaque)
}

/// Lets go of everyone who waits, however the reader ends.
struct CloseOnDrop(Arc<Waiting>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.answers.lock().take();
    }
}

/// Connections to many servers, dialled when they are needed.
#[derive(Clone, Default)]
pub struct Pool {
    clients: Arc<Mutex<HashMap<String, Client>>>,
}

impl Pool {
    /// The connection to `address`, dialled where there is none.
    pub async fn get(&self, address: &str) -> Result<Client, ClientError> {
        if let Some(client) = self.clients.lock().get(address).filter(|c| !c.is_closed()) {
            return Ok(client.clone());
        }
        let client = Client::connect(address).await?;
        self.clients.lock().insert(address.to_owned(), client.clone());
        Ok(client)
    }

    /// Sends a request to `address`; every code but SUCCESS is an error. A server that does not answer in time may be gone
    /// without a word, or its name may have another address: it is dialled again for the next request.
    pub async fn call<'h, R: Request<'h>>(
        &self,
        address: &str,
        request: &R,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        let client = self.get(address).await?;
        let answer = client.call(request, body, timeout).await;
        if matches!(answer, Err(ClientError::Timeout { .. })) {
            self.clients.lock().retain(|_, pooled| !Arc::ptr_eq(&pooled.waiting, &client.waiting));
        }
        answer?.success()
    }
}
