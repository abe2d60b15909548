//! Clients that ask and never read cost little, hold up nobody, and are closed.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use protocol::header::Outgoing;
use protocol::requests::{PullMessage, Request, SendMessageV2};
use protocol::sys_flag::pull;
use protocol::{Header, Serialization, codes, frame};
use tests::{PATIENCE, Server, Setup, wait_for};

/// More than fits the buffers of two sockets.
const MANY_BYTES: usize = 64 * 1024 * 1024;
const MESSAGE_BYTES: usize = 100_000;

fn framed<'h, R: Request<'h>>(request: &R, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let head = Outgoing { serialization: Serialization::Json, code: R::CODE, opaque: 1, flag: 0, remark: None, extra: &[] };
    head.write(request, body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

fn send_request(body: &[u8]) -> BytesMut {
    let request = SendMessageV2 {
        producer_group: "p",
        topic: "T",
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        born_timestamp: 1,
        ..SendMessageV2::default()
    };
    framed(&request, body)
}

fn pull_request() -> BytesMut {
    let request = PullMessage {
        consumer_group: "g",
        topic: "T",
        max_msg_nums: 32,
        sys_flag: pull::SUBSCRIPTION,
        subscription: Some("*"),
        ..PullMessage::default()
    };
    framed(&request, &[])
}

fn connect(server: &Server, write_timeout: Duration) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.broker_port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(write_timeout)).unwrap();
    stream
}

/// The code of the answer to one request.
fn ask(stream: &mut TcpStream, request: &[u8]) -> i32 {
    stream.write_all(request).unwrap();
    let mut buffer = BytesMut::new();
    loop {
        if let Some(frame) = frame::take(&mut buffer, frame::MAX_FRAME_LENGTH).unwrap() {
            return Header::decode(&frame).unwrap().code;
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the server closed the connection");
        buffer.extend_from_slice(&chunk[..count]);
    }
}

/// Whether the server takes no more of what is written at the moment.
fn is_stuck(result: std::io::Result<usize>) -> bool {
    result.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// A connection on which a request is repeated, and nothing read, until the server reads no more of it.
fn that_never_reads(server: &Server, request: &[u8]) -> TcpStream {
    let mut stream = connect(server, Duration::from_millis(300));
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

/// The memory of its own that a process has, without what it maps of files, in bytes.
fn own_memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn clients_that_never_read_hold_up_nobody_and_are_closed() {
    let server = Server::start(Setup { broker: "serverChannelMaxIdleTimeSeconds=6\n".into() });
    let mut bystander = connect(&server, PATIENCE);
    for _ in 0..4 {
        assert_eq!(ask(&mut bystander, &send_request(&[b'x'; MESSAGE_BYTES])), codes::SUCCESS);
    }
    let before = own_memory(server.pid());
    let mut reckless = Vec::new();
    for request in [pull_request(), pull_request(), pull_request(), pull_request(), send_request(b"x"), send_request(b"x")] {
        reckless.push(that_never_reads(&server, &request));
        assert_eq!(ask(&mut bystander, &send_request(b"y")), codes::SUCCESS);
        assert_eq!(ask(&mut bystander, &pull_request()), codes::SUCCESS);
    }
    let cost = own_memory(server.pid()).saturating_sub(before);
    println!("{} connections that never read cost {} KiB", reckless.len(), cost / 1024);
    assert!(cost < 64 * 1024 * 1024, "connections that never read cost {cost} bytes");
    for mut stream in reckless {
        wait_for("a connection that never reads to be closed", || {
            let result = stream.write(b"x");
            assert_eq!(ask(&mut bystander, &send_request(b"z")), codes::SUCCESS);
            (result.is_err() && !is_stuck(result)).then_some(())
        });
    }
}
