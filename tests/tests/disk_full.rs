//! A disk that is really full: sends are refused with the reason, reading goes on, and sending goes on by itself when there is
//! room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use protocol::requests::PullMessageReply;
use protocol::{Header, codes, record};
use tests::{Link, Server, Setup, pull_request, send_request, skip, wait_for};

const MIB: usize = 1024 * 1024;
/// Small files, nothing old enough to be deleted, and nothing deleted because the disk is full.
const SETTINGS: &str = "mappedFileSizeCommitLog=8388608\nmappedFileSizeConsumeQueue=60000\ncleanFileForciblyEnable=false\n";

/// The code and the remark of a send's answer.
fn send(link: &mut Link, number: i32) -> (i32, String) {
    let mut body = vec![b'x'; MIB];
    body[..4].copy_from_slice(&number.to_be_bytes());
    let frame = link.request(&send_request("Full", 1, 0, ""), &body);
    let header = Header::decode(&frame).unwrap();
    (header.code, header.remark.unwrap_or_default().into_owned())
}

/// The numbers of all messages, in their order.
fn read_all(link: &mut Link) -> Vec<i32> {
    let mut found = Vec::new();
    loop {
        let frame = link.request(&pull_request("Full", 0, found.len() as i64), &[]);
        let header = Header::decode(&frame).unwrap();
        if header.code != codes::SUCCESS {
            return found;
        }
        let mut rest = &frame.body[..];
        while !rest.is_empty() {
            let one = record::decode_checked(rest).unwrap();
            found.push(i32::from_be_bytes(*one.body.first_chunk().unwrap()));
            rest = &rest[u32::from_be_bytes(*rest.first_chunk().unwrap()) as usize..];
        }
        assert_eq!(header.read::<PullMessageReply>().unwrap().next_begin_offset, found.len() as i64);
    }
}

/// Writes until nothing goes any more, or so many MiB.
fn fill(path: &Path, mib: usize) {
    let mut file = File::create(path).unwrap();
    let block = vec![1; 64 * 1024];
    for _ in 0..mib * MIB / block.len() {
        if file.write_all(&block).is_err() {
            return;
        }
    }
}

#[test]
fn a_full_disk_refuses_sends_until_there_is_room() {
    if !std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .status()
        .is_ok_and(|s| s.success())
    {
        return skip("unshare can make no namespace here");
    }
    let server = Server::start_on_small_disk(Setup { broker: SETTINGS.into() }, 96);
    let mut link = Link::open(&server);
    let ballast = server.data_inside().join("ballast");
    fill(&ballast, 32);

    // Up to the threshold: refused before the disk is full.
    let mut stored = Vec::new();
    let (code, remark) = loop {
        let number = stored.len() as i32;
        match send(&mut link, number) {
            (codes::SUCCESS, _) => stored.push(number),
            refusal => break refusal,
        }
        assert!(stored.len() < 96, "a disk of 96 MiB took {} messages of 1 MiB", stored.len());
    };
    assert!(code == codes::SERVICE_NOT_AVAILABLE && remark.contains("disk"), "{code} {remark}");
    assert!(stored.len() > 16, "only {} messages fit", stored.len());
    assert_eq!(read_all(&mut link), stored);

    // Room again: sends are taken without anybody doing anything.
    fs::remove_file(&ballast).unwrap();
    let number = stored.len() as i32;
    wait_for("a send to be taken again", || (send(&mut link, number).0 == codes::SUCCESS).then_some(()));
    stored.push(number);

    // Full to the last byte, by somebody else.
    fill(&ballast, 96);
    let (code, remark) = wait_for("a send to be refused", || match send(&mut link, stored.len() as i32) {
        (codes::SUCCESS, _) => {
            stored.push(stored.len() as i32);
            None
        }
        refusal => Some(refusal),
    });
    assert!(code == codes::SERVICE_NOT_AVAILABLE && remark.contains("disk"), "{code} {remark}");
    assert_eq!(read_all(&mut link), stored);
    fs::remove_file(&ballast).unwrap();
    let number = stored.len() as i32;
    wait_for("a send to be taken again", || (send(&mut link, number).0 == codes::SUCCESS).then_some(()));
    stored.push(number);
    assert_eq!(read_all(&mut link), stored);
    assert!(server.log().contains("disk"), "the log says why: {}", server.log());
}
