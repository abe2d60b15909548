//! Listeners and connections. Each worker is a thread with a single-threaded runtime; a connection stays
//! on its worker, which reads, has the core handle what was read, and writes the answers in one go.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use protocol::exchange::{Connection, Outbox, Service};
use protocol::frame;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, info, warn};

use crate::now_ms;

/// What one read takes at the most; frames that arrive together are handled together.
const READ_BYTES: usize = 128 * 1024;

/// What a connection may owe its client before it is closed for not reading, beside the answers to one read.
const MAX_OWED_BYTES: usize = 64 * 1024 * 1024;
/// What all connections may owe together: beyond it, who owes more than a small share is closed.
const MAX_OWED_BY_ALL: usize = 1024 * 1024 * 1024;
const SMALL_SHARE: usize = 1024 * 1024;

/// Bytes that wait to be written to any connection of this process.
static OWED_BY_ALL: AtomicUsize = AtomicUsize::new(0);

/// How long what was answered last has to arrive when the workers stop, before connections are reset.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// Sockets that wait for a worker to take them over.
const HANDOVER_QUEUE: usize = 1024;

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// A connection that sends nothing whole for so long, or takes nothing of its answers, is closed
    /// (`serverChannelMaxIdleTimeSeconds`).
    pub idle: Duration,
    pub max_frame_length: usize,
    pub backlog: i32,
    /// `serverSocketSndBufSize`, `serverSocketRcvBufSize`: 0 leaves it to the system.
    pub send_buffer: usize,
    pub receive_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(120),
            max_frame_length: frame::MAX_FRAME_LENGTH,
            backlog: 1024,
            send_buffer: 0,
            receive_buffer: 0,
        }
    }
}

struct Handover {
    stream: std::net::TcpStream,
    remote: SocketAddr,
    service: Arc<dyn Service>,
    options: Options,
}

/// The threads that serve connections. Dropping it closes all of them and waits for the threads.
pub struct Workers {
    queues: Vec<mpsc::Sender<Handover>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    stop: watch::Sender<bool>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts `count` workers.
    pub fn start(count: usize) -> io::Result<Arc<Self>> {
        let (stop, stopped) = watch::channel(false);
        let mut queues = Vec::new();
        let mut threads = Vec::new();
        for nth in 0..count.max(1) {
            let (sender, receiver) = mpsc::channel(HANDOVER_QUEUE);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let stopped = stopped.clone();
            let thread = std::thread::Builder::new().name(format!("net-{nth}"));
            threads.push(thread.spawn(move || {
                let local = tokio::task::LocalSet::new();
                runtime.block_on(local.run_until(worker(receiver, stopped)));
            })?);
            queues.push(sender);
        }
        Ok(Arc::new(Self { queues, threads, stop, next: AtomicUsize::new(0) }))
    }

    /// Accepts on `listener` until the workers stop; connections go to the workers in turn.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, service: Arc<dyn Service>, options: Options) {
        let mut stopped = self.stop.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, remote)) => self.hand_over(stream, remote, &service, &options).await,
                Err(error) => {
                    // Out of file descriptors, mostly: connections wait in the backlog until there are some.
                    warn!("can't accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Waits while the worker has no room, so that a burst of connections waits in the system's backlog.
    async fn hand_over(&self, stream: TcpStream, remote: SocketAddr, service: &Arc<dyn Service>, options: &Options) {
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return warn!("can't serve {remote}: {error}"),
        };
        let handover = Handover { stream, remote, service: service.clone(), options: options.clone() };
        let worker = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len();
        if self.queues[worker].send(handover).await.is_err() {
            debug!("refused a connection from {remote}: the workers stop");
        }
    }

    /// Closes all connections and stops accepting. Does not wait.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // A worker may drop the last handle itself; it can't wait for its own end.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                warn!("a network worker panicked");
            }
        }
    }
}

/// Opens a listening socket that can be bound again at once after a restart.
pub fn bind(address: SocketAddr, options: &Options) -> io::Result<TcpListener> {
    let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if options.send_buffer > 0 {
        socket.set_send_buffer_size(options.send_buffer)?;
    }
    if options.receive_buffer > 0 {
        socket.set_recv_buffer_size(options.receive_buffer)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    TcpListener::from_std(socket.into())
}

async fn worker(mut queue: mpsc::Receiver<Handover>, stopped: watch::Receiver<bool>) {
    let mut stop = stopped.clone();
    loop {
        let handover = tokio::select! {
            handover = queue.recv() => handover,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some(handover) = handover else { break };
        let stopped = stopped.clone();
        tokio::task::spawn_local(async move {
            let remote = handover.remote;
            if let Err(error) = serve(handover, stopped).await {
                debug!("connection from {remote}: {error}");
            }
        });
    }
    // Connections see the stop as well; they get the time to tell their cores that they are closed.
    tokio::time::sleep(LAST_ANSWERS).await;
}

/// A connection's way out, which any thread may use: what the socket takes goes out at once, the rest waits for the session.
struct Owed {
    state: Mutex<OwedState>,
    /// Something waits, or can't be written.
    notify: Notify,
}

struct OwedState {
    /// `None` once the session has ended, so that who still holds the connection does not keep its socket open.
    socket: Option<OwnedWriteHalf>,
    rest: BytesMut,
    failed: Option<io::Error>,
}

impl OwedState {
    fn owe(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let by_all = OWED_BY_ALL.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if self.rest.len() > MAX_OWED_BYTES || by_all > MAX_OWED_BY_ALL && self.rest.len() > SMALL_SHARE {
            let reason = format!("it did not read {} bytes of answers", self.rest.len());
            self.fail(io::Error::new(io::ErrorKind::WriteZero, reason));
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.failed = Some(error);
        self.forget();
    }

    fn forget(&mut self) {
        OWED_BY_ALL.fetch_sub(self.rest.len(), Ordering::Relaxed);
        self.rest = BytesMut::new();
    }
}

impl Owed {
    /// Writes what the socket takes and keeps the rest. `false` where something waits.
    fn write(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.lock();
        let Some(socket) = state.socket.as_ref().filter(|_| state.failed.is_none()) else { return false };
        let written = if state.rest.is_empty() { socket.try_write(bytes) } else { Err(io::ErrorKind::WouldBlock.into()) };
        match written {
            Ok(count) if count == bytes.len() => return true,
            Ok(count) => state.owe(&bytes[count..]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => state.owe(bytes),
            Err(error) => state.fail(error),
        }
        self.notify.notify_one();
        false
    }

    /// Writes what waits, as far as the socket takes it. `false` where something still waits.
    fn flush(&self) -> io::Result<bool> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        while state.failed.is_none() && !state.rest.is_empty() {
            let Some(socket) = state.socket.as_ref() else { break };
            match socket.try_write(&state.rest) {
                Ok(count) => {
                    state.rest.advance(count);
                    OWED_BY_ALL.fetch_sub(count, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => state.fail(error),
            }
        }
        state.forget();
        state.failed.take().map_or(Ok(true), Err)
    }

    /// Sends nothing more. Gives the socket's half, whose drop tells the client that this is the end.
    fn close(&self) -> Option<OwnedWriteHalf> {
        let mut state = self.state.lock();
        state.forget();
        state.socket.take()
    }
}

impl Outbox for Owed {
    fn push(&self, frames: Bytes) {
        self.write(&frames);
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

async fn serve(handover: Handover, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    let stream = TcpStream::from_std(handover.stream)?;
    stream.set_nodelay(true)?;
    // Whatever ends this process resets its connections. Of an end in good order Java's clients before 5.x tell no request
    // that is under way: sends wait 3 s in vain, and pulls that are held 30 s.
    stream.set_zero_linger()?;
    let local = stream.local_addr()?;
    let (socket, write_half) = stream.into_split();
    let state = OwedState { socket: Some(write_half), rest: BytesMut::new(), failed: None };
    let owed = Arc::new(Owed { state: Mutex::new(state), notify: Notify::new() });
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let connection = Arc::new(Connection::new(id, handover.remote, local, owed.clone()));
    let mut session = Session {
        socket,
        connection,
        owed,
        service: handover.service,
        options: handover.options,
        partial: BytesMut::new(),
        unhandled: Vec::new(),
    };
    let result = tokio::select! {
        result = session.run() => Some(result),
        _ = stopped.wait_for(|stop| *stop) => None,
    };
    let half = session.owed.close();
    session.service.closed(now_ms(), &session.connection);
    let Some(result) = result else {
        half.into_iter().for_each(OwnedWriteHalf::forget);
        // The worker's end is that of the socket.
        return std::future::pending().await;
    };
    SockRef::from(session.socket.as_ref()).set_linger(None)?;
    result
}

struct Session {
    socket: OwnedReadHalf,
    connection: Arc<Connection>,
    owed: Arc<Owed>,
    service: Arc<dyn Service>,
    options: Options,
    /// The beginning of a frame whose rest has not arrived.
    partial: BytesMut,
    /// Frames whose answers would be too many before those to the frames before them are written.
    unhandled: Vec<protocol::Frame>,
}

/// Buffers that all connections of a worker share, as only one of them reads at a time: an idle connection
/// owns none.
#[derive(Default)]
struct Scratch {
    input: BytesMut,
    output: BytesMut,
    frames: Vec<protocol::Frame>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

enum Event {
    Nothing,
    /// Frames were handled, and their answers written or not.
    Handled {
        written: bool,
    },
    /// The client reads again.
    Writable,
    End,
}

impl Session {
    /// Serves until the client closes. While answers wait for the client to read, nothing more is read from it.
    async fn run(&mut self) -> io::Result<()> {
        let owed = self.owed.clone();
        let mut heard = tokio::time::Instant::now();
        let idle = tokio::time::sleep(self.options.idle);
        tokio::pin!(idle);
        let mut blocked = false;
        loop {
            tokio::select! {
                event = poll_fn(|context| self.poll_event(context, blocked)) => match event? {
                    Event::Nothing => {}
                    Event::Handled { written } => {
                        heard = tokio::time::Instant::now();
                        blocked = !written;
                    }
                    Event::Writable => {
                        heard = tokio::time::Instant::now();
                        blocked = !self.flush()?;
                    }
                    Event::End => return Ok(()),
                },
                _ = owed.notify.notified() => blocked = !self.flush()?,
                _ = &mut idle => {
                    let end = heard + self.options.idle;
                    if end <= tokio::time::Instant::now() {
                        info!("closed {:?}: nothing whole arrived, and no answer was taken, for {:?}", self.connection, self.options.idle);
                        return Ok(());
                    }
                    idle.as_mut().reset(end);
                }
            }
        }
    }

    fn flush(&self) -> io::Result<bool> {
        self.owed.flush().inspect_err(|error| warn!("closed {:?}: {error}", self.connection))
    }

    fn poll_event(&mut self, context: &mut Context<'_>, blocked: bool) -> Poll<io::Result<Event>> {
        if blocked {
            return self.socket.as_ref().poll_write_ready(context).map_ok(|()| Event::Writable);
        }
        self.poll_read_and_handle(context)
    }

    /// Reads once, when something has arrived, and has the core handle the whole frames of it. What is left of the last
    /// read comes first.
    fn poll_read_and_handle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Event>> {
        SCRATCH.with_borrow_mut(|scratch| {
            if !self.unhandled.is_empty() {
                scratch.frames.append(&mut self.unhandled);
                return Poll::Ready(self.handle(scratch));
            }
            let result = match self.poll_read_into(context, scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(true)) => self.handle(scratch),
                Poll::Ready(Ok(false)) => Ok(Event::End),
                Poll::Ready(Err(error)) => Err(error),
            };
            if result.is_err() {
                // What is left of this connection must not reach the next that uses the buffers.
                *scratch = Scratch::default();
            }
            Poll::Ready(result)
        })
    }

    /// Reads what has arrived and cuts it into frames. `false` where the client has closed its side.
    fn poll_read_into(
        &mut self,
        context: &mut Context<'_>,
        Scratch { input, frames, .. }: &mut Scratch,
    ) -> Poll<io::Result<bool>> {
        // The beginning of a small frame joins the shared buffer for the time of the read, so that a connection keeps no
        // more than what it has sent. That of a large one stays where it is, since copying it for each read would add up.
        let own = self.partial.len() >= READ_BYTES;
        if !own {
            input.extend_from_slice(&std::mem::take(&mut self.partial));
        }
        let buffer = if own { &mut self.partial } else { &mut *input };
        // Room for the rest of a large frame grows with what has arrived of it, not with what was announced.
        let missing = frame::expected_length(buffer).unwrap_or(0).saturating_sub(buffer.len());
        buffer.reserve(missing.min(buffer.len()).max(READ_BYTES));
        // Polled anew each time: it keeps nothing between polls. A read that fills less than the buffer also tells
        // tokio that the socket is empty, which saves a second read for each request.
        let open = pin!(self.socket.read_buf(buffer)).poll(context).map_ok(|count| count > 0);
        while let Some(frame) =
            frame::take(buffer, self.options.max_frame_length).map_err(|error| refuse(&self.connection, error))?
        {
            frames.push(frame);
        }
        if own && !frames.is_empty() {
            self.partial = BytesMut::from(&self.partial[..]);
        }
        if !input.is_empty() {
            self.partial = BytesMut::from(&input[..]);
            input.clear();
        }
        open
    }

    /// Has the core handle the frames, and writes what can be written at once.
    fn handle(&mut self, Scratch { output, frames, .. }: &mut Scratch) -> io::Result<Event> {
        // Half a frame is no sign of life: a client that never finishes one is idle.
        if frames.is_empty() {
            return Ok(Event::Nothing);
        }
        self.service.frames(now_ms(), &self.connection, frames, output).map_err(|error| refuse(&self.connection, error))?;
        self.unhandled.append(frames);
        let written = output.is_empty() || self.owed.write(output);
        output.clear();
        Ok(Event::Handled { written })
    }
}

/// What can't be read ends its connection, and the log says why.
fn refuse(connection: &Connection, error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    warn!("closed {connection:?}: {error}");
    io::Error::new(io::ErrorKind::InvalidData, error)
}
