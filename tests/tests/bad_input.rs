//! What strangers send: the one request or connection is refused, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use protocol::Header;
use protocol::requests::GetMaxOffset;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::{Link, PATIENCE, Server, Setup, framed, memory, wait_for};

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn request() -> BytesMut {
    framed(&GetMaxOffset { topic: "T", queue_id: 0 }, 3, &[])
}

/// Whether a connection still answers.
fn answers(link: &mut Link) -> bool {
    link.ask(&GetMaxOffset { topic: "T", queue_id: 0 }, 3, &[]).is_ok()
        && link.answer().is_some_and(|frame| Header::decode(&frame).unwrap().opaque == 3)
}

fn with_header(kind: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = ((4 + header.len() + body.len()) as u32).to_be_bytes().to_vec();
    out.extend((header.len() as u32 | u32::from(kind) << 24).to_be_bytes());
    out.extend(header);
    out.extend(body);
    out
}

#[test]
fn frames_that_are_none_end_their_connection_alone() {
    let server = Server::start(Setup::default());
    for port in [server.broker_port, server.broker_port - 2, server.namesrv_port] {
        let mut bystander = Link::connect(port);
        let bad = [
            u32::MAX.to_be_bytes().to_vec(),
            3u32.to_be_bytes().to_vec(),
            with_header(9, b"{}", b""),
            with_header(0, b"no json", b""),
            with_header(0, b"", b""),
            with_header(1, &[0; 5], b""),
            [8u32.to_be_bytes(), 0x00ff_ffffu32.to_be_bytes()].concat(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ];
        for bytes in bad {
            let mut stranger = connect(port);
            stranger.write_all(&bytes).unwrap();
            let mut rest = Vec::new();
            // A reset tells the same as an end: the server is done with this connection.
            let _ = stranger.read_to_end(&mut rest);
            assert!(rest.is_empty(), "answered {rest:?} to {bytes:?}");
            assert!(answers(&mut bystander), "a bystander suffered from {bytes:?}");
        }
        // Half a frame hurts nobody either.
        let mut slow = connect(port);
        slow.write_all(&request()[..10]).unwrap();
        assert!(answers(&mut bystander));
        slow.write_all(&request()[10..]).unwrap();
        let mut first = [0; 1];
        slow.read_exact(&mut first).unwrap();
    }
}

/// Connections that do nothing, or stop in the middle of a frame.
const IDLE: usize = 10_000;

#[test]
fn idle_connections_are_closed_and_cost_little() {
    if !can_open(IDLE + 500) {
        return tests::skip(&format!("the limit of open files (ulimit -Hn) is too low for {IDLE} connections"));
    }
    // Long enough for all to be open at once, on a machine with more to do.
    let server = Server::start(Setup { broker: "serverChannelMaxIdleTimeSeconds=30\n".into() });
    let before = memory(server.pid(), "VmRSS:");
    let idle: Vec<_> = (0..IDLE)
        .map(|n| {
            let mut stream = connect(server.broker_port - 2 * (n as u16 % 2));
            if n % 4 < 2 {
                stream.write_all(&request()[..10]).unwrap();
            }
            stream
        })
        .collect();
    wait_for("all connections to be open at once", || (open_files(server.pid()) > IDLE).then_some(()));
    assert!(answers(&mut Link::open(&server)));
    let cost = memory(server.pid(), "VmRSS:").saturating_sub(before);
    println!("{IDLE} connections cost {} KiB", cost / 1024);
    assert!(cost < 200_000_000, "{IDLE} idle connections cost {cost} bytes of memory");
    for mut stream in idle {
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "closed when it was idle for too long");
    }
    wait_for("the connections to be gone", || (open_files(server.pid()) < 500).then_some(()));
}

/// Raises this process's limit of open files; whether `count` fit, here and in the server, which does the same.
fn can_open(count: usize) -> bool {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.is_none_or(|maximum| maximum >= count as u64)
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
