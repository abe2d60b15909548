//! What a connection is sent arrives whole, whoever sends it and however slowly it is read.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use net::server::{Options, Workers, bind};
use protocol::exchange::{Connection, Service};
use protocol::header::{HeaderError, Outgoing};
use protocol::{Frame, Header, Serialization, codes, frame};

const REQUESTS: i32 = 24;
/// More than sockets hold, so that most of it has to wait for the client.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Answers each request at once, and once more from a thread of its own.
struct Twice;

fn answer(opaque: i32, out: &mut BytesMut) {
    let head =
        Outgoing { serialization: Serialization::RocketMq, code: codes::SUCCESS, opaque, flag: 1, remark: None, extra: &[] };
    head.write(&(), ANSWER_BYTES, out);
    out.extend((0..ANSWER_BYTES).map(|at| (at as i32 + opaque) as u8));
}

impl Service for Twice {
    fn frames(
        &self,
        _now: i64,
        connection: &Arc<Connection>,
        frames: &mut Vec<Frame>,
        out: &mut BytesMut,
    ) -> Result<(), HeaderError> {
        for frame in frames.drain(..) {
            let opaque = Header::decode(&frame)?.opaque;
            answer(opaque, out);
            let connection = connection.clone();
            std::thread::spawn(move || {
                let mut late = BytesMut::new();
                answer(opaque + REQUESTS, &mut late);
                connection.push(late.freeze());
            });
        }
        Ok(())
    }

    fn closed(&self, _now: i64, _connection: &Connection) {}
}

const HALF: &[u8] = b"half an answer";

/// Begins to answer each request, and tells of it.
struct Half(Sender<()>);

impl Service for Half {
    fn frames(
        &self,
        _now: i64,
        _connection: &Arc<Connection>,
        frames: &mut Vec<Frame>,
        out: &mut BytesMut,
    ) -> Result<(), HeaderError> {
        frames.clear();
        out.extend_from_slice(HALF);
        self.0.send(()).unwrap();
        Ok(())
    }

    fn closed(&self, _now: i64, _connection: &Connection) {}
}

/// Serves on a thread of its own.
fn serve(service: impl Service + 'static) -> (Arc<Workers>, JoinHandle<()>, SocketAddr) {
    let workers = Workers::start(1).unwrap();
    let (accepting, (tell, address)) = (workers.clone(), std::sync::mpsc::channel());
    let acceptor = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = Options::default();
            let listener = bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            accepting.accept(listener, Arc::new(service), options).await;
        });
    });
    (workers, acceptor, address.recv().unwrap())
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
    client
}

fn ask(client: &mut TcpStream, opaque: i32) {
    let head = Outgoing { serialization: Serialization::RocketMq, code: 1, opaque, flag: 0, remark: None, extra: &[] };
    let mut request = BytesMut::new();
    head.write(&(), 0, &mut request);
    client.write_all(&request).unwrap();
}

#[test]
fn who_waits_for_an_answer_hears_that_the_server_stops() {
    let (tell, begun) = std::sync::mpsc::channel();
    let (workers, acceptor, address) = serve(Half(tell));
    let mut clients = [connect(address), connect(address)];
    for client in &mut clients {
        ask(client, 1);
        begun.recv().unwrap();
    }
    let [mut leaving, mut waiting] = clients;
    let mut read = Vec::new();
    leaving.shutdown(Shutdown::Write).unwrap();
    assert_eq!((leaving.read_to_end(&mut read).unwrap(), &read[..]), (HALF.len(), HALF), "who leaves is not cut off");
    read.clear();
    workers.stop();
    assert_eq!(waiting.read_to_end(&mut read).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(read, HALF, "what was answered arrives");
    acceptor.join().unwrap();
}

#[test]
fn answers_from_many_threads_arrive_whole_at_a_client_that_reads_late() {
    let (workers, acceptor, address) = serve(Twice);
    let mut client = connect(address);
    (0..REQUESTS).for_each(|opaque| ask(&mut client, opaque));
    let (mut seen, mut input, mut chunk) = (Vec::new(), BytesMut::new(), vec![0; 64 * 1024]);
    while seen.len() < 2 * REQUESTS as usize {
        let count = client.read(&mut chunk).unwrap();
        assert!(count > 0, "closed after {} answers", seen.len());
        input.extend_from_slice(&chunk[..count]);
        while let Some(frame) = frame::take(&mut input, frame::MAX_FRAME_LENGTH).unwrap() {
            let opaque = Header::decode(&frame).unwrap().opaque;
            let expected: Bytes = (0..ANSWER_BYTES).map(|at| (at as i32 + opaque) as u8).collect();
            assert!(frame.body == expected, "the answer to {opaque} is not what was sent");
            seen.push(opaque);
        }
    }
    assert!(seen.iter().filter(|opaque| **opaque < REQUESTS).is_sorted(), "answers of one read keep their order: {seen:?}");
    seen.sort_unstable();
    assert_eq!(seen, (0..2 * REQUESTS).collect::<Vec<_>>());
    workers.stop();
    acceptor.join().unwrap();
}
