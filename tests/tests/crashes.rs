//! A broker that is killed again and again while messages are sent to it: everything that it acknowledged is there, and
//! no queue has a gap. A campaign: `CRASH_ROUNDS=200 cargo test --release -p tests --test crashes`.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use protocol::requests::{PullMessageReply, SendMessageReply};
use protocol::{Frame, Header, codes, record};
use tests::{Link, PATIENCE, Server, Setup, framed, pull_request, send_request};

const QUEUES: i32 = 4;
const IN_FLIGHT: i32 = 32;

fn send(link: &mut Link, number: i32) -> std::io::Result<()> {
    let properties = format!("KEYS\u{1}key-{number}\u{2}");
    let request = send_request("Crashes", QUEUES, number % QUEUES, &properties);
    link.ask(&request, number, format!("message {number}").as_bytes())
}

/// Acknowledged messages: queue and offset to the number.
type Acknowledged = HashMap<(i32, i64), i32>;

/// Sends until `count` messages were acknowledged, then kills the server with others under way, and takes note of the
/// answers that had left it. Returns the next number.
fn send_and_kill(server: &mut Server, first: i32, count: i32, acknowledged: &mut Acknowledged) -> i32 {
    let mut link = Link::open(server);
    let mut next = first;
    let mut done = 0;
    while next < first + IN_FLIGHT {
        send(&mut link, next).unwrap();
        next += 1;
    }
    let mut note = |frame: &Frame| {
        let header = Header::decode(frame).unwrap();
        assert_eq!(header.code, codes::SUCCESS, "{:?}", header.remark);
        let reply: SendMessageReply = header.read().unwrap();
        let before = acknowledged.insert((reply.queue_id, reply.queue_offset), header.opaque);
        assert_eq!(before, None, "offset {} of queue {} was given twice", reply.queue_offset, reply.queue_id);
    };
    while done < count {
        note(&link.answer().expect("an answer"));
        done += 1;
        send(&mut link, next).unwrap();
        next += 1;
    }
    server.kill();
    while let Some(frame) = link.answer() {
        note(&frame);
    }
    next
}

/// All messages of a queue by offset; the offsets have no gap.
fn read_queue(link: &mut Link, queue_id: i32) -> BTreeMap<i64, String> {
    let mut found = BTreeMap::new();
    let mut offset = 0;
    loop {
        let frame = link.request(&pull_request("Crashes", queue_id, offset), &[]);
        let header = Header::decode(&frame).unwrap();
        if header.code != codes::SUCCESS {
            assert_eq!(header.code, codes::PULL_NOT_FOUND, "{:?}", header.remark);
            return found;
        }
        for message in record::decode_all(&frame.body) {
            let message = message.unwrap();
            assert_eq!(message.queue_offset, offset, "a gap in queue {queue_id}");
            found.insert(offset, String::from_utf8(message.body.to_vec()).unwrap());
            offset += 1;
        }
        assert_eq!(header.read::<PullMessageReply>().unwrap().next_begin_offset, offset);
    }
}

fn verify(server: &Server, acknowledged: &Acknowledged) {
    let mut link = Link::open(server);
    let queues: Vec<_> = (0..QUEUES).map(|queue| read_queue(&mut link, queue)).collect();
    for ((queue, offset), number) in acknowledged {
        let found = queues[*queue as usize].get(offset);
        assert_eq!(found, Some(&format!("message {number}")), "queue {queue} at {offset}");
    }
}

fn rounds() -> i32 {
    std::env::var("CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5)
}

fn nothing_acknowledged_is_lost(flush: &str) {
    let broker = format!("flushDiskType={flush}\nmappedFileSizeCommitLog=1048576\nmappedFileSizeConsumeQueue=20000\n");
    let mut server = Server::start(Setup { broker });
    let mut acknowledged = Acknowledged::new();
    let mut next = 0;
    for round in 0..rounds() {
        // A different moment each time, within a batch, a segment or a checkpoint.
        next = send_and_kill(&mut server, next, 300 + round * 137 % 900, &mut acknowledged);
        server.start_again();
        verify(&server, &acknowledged);
    }
    println!("{} rounds with {flush}: {} messages acknowledged, none lost", rounds(), acknowledged.len());
}

/// Java's clients before 5.x wait for an answer until their timeout where the connection ends in good order.
#[test]
fn a_kill_resets_connections() {
    let mut server = Server::start(Setup::default());
    let mut client = TcpStream::connect(("127.0.0.1", server.broker_port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&framed(&pull_request("Nowhere", 0, 0), 1, &[])).unwrap();
    client.read_exact(&mut [0]).unwrap();
    server.kill();
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn kills_lose_nothing_with_async_flush() {
    nothing_acknowledged_is_lost("ASYNC_FLUSH");
}

#[test]
fn kills_lose_nothing_with_sync_flush() {
    nothing_acknowledged_is_lost("SYNC_FLUSH");
}
