//! Clients that ask and never read cost little, hold up nobody, and are closed.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use protocol::{Header, codes};
use tests::{Link, Server, Setup, framed, memory, pull_request, send_request, wait_for};

/// More than fits the buffers of two sockets.
const MANY_BYTES: usize = 64 * 1024 * 1024;
const MESSAGE_BYTES: usize = 100_000;

fn send(body: &[u8]) -> BytesMut {
    framed(&send_request("T", 4, 0, ""), 1, body)
}

fn pull() -> BytesMut {
    framed(&pull_request("T", 0, 0), 1, &[])
}

/// The code of the answer to one request.
fn ask(link: &mut Link, request: &[u8]) -> i32 {
    link.write(request);
    Header::decode(&link.frame()).unwrap().code
}

/// Whether the server takes no more of what is written at the moment.
fn is_stuck(result: std::io::Result<usize>) -> bool {
    result.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// A connection on which a request is repeated, and nothing read, until the server reads no more of it.
fn that_never_reads(server: &Server, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.broker_port)).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let bytes = request.repeat(MANY_BYTES / request.len());
    let mut written = 0;
    loop {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            result => {
                assert!(is_stuck(result), "closed too early");
                return stream;
            }
        }
        assert!(written < bytes.len(), "the server reads on though nobody takes its answers");
    }
}

#[test]
fn clients_that_never_read_hold_up_nobody_and_are_closed() {
    let server = Server::start(Setup { broker: "serverChannelMaxIdleTimeSeconds=6\n".into() });
    let mut bystander = Link::open(&server);
    for _ in 0..4 {
        assert_eq!(ask(&mut bystander, &send(&[b'x'; MESSAGE_BYTES])), codes::SUCCESS);
    }
    let before = memory(server.pid(), "RssAnon:");
    let mut reckless = Vec::new();
    for request in [pull(), pull(), pull(), pull(), send(b"x"), send(b"x")] {
        reckless.push(that_never_reads(&server, &request));
        assert_eq!(ask(&mut bystander, &send(b"y")), codes::SUCCESS);
        assert_eq!(ask(&mut bystander, &pull()), codes::SUCCESS);
    }
    let cost = memory(server.pid(), "RssAnon:").saturating_sub(before);
    println!("{} connections that never read cost {} KiB", reckless.len(), cost / 1024);
    assert!(cost < 64 * 1024 * 1024, "connections that never read cost {cost} bytes");
    for mut stream in reckless {
        wait_for("a connection that never reads to be closed", || {
            let result = stream.write(b"x");
            assert_eq!(ask(&mut bystander, &send(b"z")), codes::SUCCESS);
            (result.is_err() && !is_stuck(result)).then_some(())
        });
    }
}
