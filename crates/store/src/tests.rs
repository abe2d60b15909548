use std::net::SocketAddr;

use tempfile::TempDir;

use super::*;

pub const SEGMENT: u64 = 4096;

fn options(root: &Path, policy: Policy) -> Options {
    Options {
        root: root.to_owned(),
        commit_log: root.join("commitlog"),
        segment_length: SEGMENT,
        queue_file_length: 400,
        index: Some(index::Shape { slots: 50, entries: 200 }),
        policy,
        delays: Vec::new(),
        scan_at_open: u64::MAX,
        disk: Disk::default(),
    }
}

pub fn open(root: &TempDir, policy: Policy) -> Store {
    Store::open(options(root.path(), policy)).unwrap()
}

fn host() -> SocketAddr {
    "127.0.0.1:10911".parse().unwrap()
}

/// A record that has not been appended.
pub(crate) fn record<'a>(topic: &'a str, queue_id: i32, body: &'a [u8], properties: &'a str) -> Record<'a> {
    Record {
        queue_id,
        flag: 0,
        queue_offset: 0,
        physical_offset: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host(),
        store_timestamp: 0,
        store_host: host(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        topic,
        properties,
    }
}

fn push(store: &Store, batch: &mut Batch, topic: &str, queue: i32, body: &[u8], unit: usize) {
    let record = record(topic, queue, body, "TAGS\u{1}a\u{2}");
    batch.push(store.queue(topic, queue).unwrap(), &record, 97, unit);
}

pub fn send(store: &Store, topic: &str, queue: i32, body: &[u8], now: i64) -> (Place, Woken) {
    let mut batch = Batch::default();
    push(store, &mut batch, topic, queue, body, 1);
    let (_, woken) = store.append(&mut batch, now).unwrap();
    (batch.place(0), woken)
}

const LIMITS: GetLimits = GetLimits {
    messages: 1000,
    bytes: usize::MAX,
    cold_messages: 1000,
    cold_bytes: usize::MAX,
    cold_distance: u64::MAX,
    scanned: 1000,
};

/// The bodies of a queue, each checked to be the record at its offset.
fn bodies(store: &Store, topic: &str, queue: i32) -> Vec<String> {
    let Some(queue) = store.find_queue(topic, queue) else { return Vec::new() };
    let mut offset = queue.min_offset();
    let mut bodies = Vec::new();
    while offset < queue.max_offset() {
        let result = store.get(Some(&queue), offset, &LIMITS, |_| true, crate::ANY).unwrap();
        assert_eq!(result.status, GetStatus::Found);
        for slice in &result.messages {
            let record = record::decode_checked(slice.bytes()).unwrap();
            assert_eq!(record.queue_offset, offset);
            offset += 1;
            bodies.push(String::from_utf8(record.body.to_vec()).unwrap());
        }
        assert_eq!(offset, result.next);
    }
    bodies
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("message {n}")).collect()
}

fn fill(store: &Store, count: usize) {
    for n in 0..count {
        let (place, _) = send(store, "T", 0, format!("message {n}").as_bytes(), n as i64);
        assert_eq!(place.queue_offset, n as i64);
    }
}

#[test]
fn messages_cross_segments_and_survive_a_clean_stop() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    fill(&store, 200);
    assert_eq!(bodies(&store, "T", 0), expected(200));
    assert!(root.path().join("commitlog/00000000000000004096").exists());
    store.close().unwrap();
    drop(store);
    assert!(!root.path().join("abort").exists());
    let store = open(&root, Policy::Written);
    assert_eq!(store.recovered().messages, 0);
    assert!(!store.recovered().unclean);
    assert_eq!(bodies(&store, "T", 0), expected(200));
    fill_more(&store, 200, 300);
    assert_eq!(bodies(&store, "T", 0), expected(300));
}

fn fill_more(store: &Store, from: usize, to: usize) {
    for n in from..to {
        send(store, "T", 0, format!("message {n}").as_bytes(), n as i64);
    }
}

#[test]
fn a_killed_broker_loses_nothing_that_was_written() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    fill(&store, 50);
    store.checkpoint().unwrap();
    fill_more(&store, 50, 120);
    drop(store);
    let store = open(&root, Policy::Written);
    assert!(store.recovered().unclean);
    assert_eq!(store.recovered().messages, 70);
    assert_eq!(store.recovered().cut, None);
    assert_eq!(bodies(&store, "T", 0), expected(120));
    assert_eq!(send(&store, "T", 0, b"x", 1).0.queue_offset, 120);
}

#[test]
fn a_torn_record_ends_the_log_and_stays_dead() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    fill(&store, 10);
    let (place, _) = send(&store, "T", 0, b"message 10", 1);
    let (next, _) = send(&store, "T", 0, b"message 11", 1);
    drop(store);
    let path = root.path().join("commitlog/00000000000000000000");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[next.physical_offset as usize - 1] ^= 1;
    bytes[place.physical_offset as usize + 90] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let store = open(&root, Policy::Written);
    assert!(store.recovered().cut.as_deref().unwrap().contains("CRC"), "{:?}", store.recovered());
    assert_eq!(store.recovered().end, place.physical_offset);
    assert_eq!(bodies(&store, "T", 0), expected(10));
    // The record behind the torn one was whole; it must not follow the one that takes the torn one's place.
    assert_eq!(send(&store, "T", 0, b"message 10", 1).0, place);
    drop(store);
    let store = open(&root, Policy::Written);
    assert_eq!(bodies(&store, "T", 0), expected(11));
}

#[test]
fn lost_consume_queues_are_derived_from_the_log() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    fill(&store, 100);
    send(&store, "other", 3, b"x", 1);
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(root.path().join("consumequeue")).unwrap();
    std::fs::remove_file(root.path().join("checkpoint")).unwrap();
    let store = open(&root, Policy::Written);
    assert_eq!(bodies(&store, "T", 0), expected(100));
    assert_eq!(bodies(&store, "other", 3), ["x"]);
}

#[test]
fn with_sync_flush_nothing_is_visible_before_the_disk_has_it() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Persisted);
    store.queue("T", 0).unwrap().watch();
    let (_, woken) = send(&store, "T", 0, b"message 0", 1);
    assert!(woken.is_empty());
    assert_eq!((store.visible(), bodies(&store, "T", 0).len()), (0, 0));
    let woken = store.sync().unwrap();
    assert_eq!(woken.len(), 1);
    assert_eq!(bodies(&store, "T", 0), expected(1));
}

#[test]
fn watchers_are_told_once() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    store.queue("T", 0).unwrap().watch();
    assert_eq!(send(&store, "T", 1, b"x", 1).1.len(), 0);
    assert_eq!(send(&store, "T", 0, b"x", 1).1.len(), 1);
    assert_eq!(send(&store, "T", 0, b"x", 1).1.len(), 0);
}

#[test]
fn the_messages_of_one_send_stay_in_one_segment() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    let mut batch = Batch::default();
    let body = [b'x'; 1000];
    for nth in 0..3 {
        push(&store, &mut batch, "T", 0, &body, if nth == 0 { 3 } else { 0 });
    }
    store.append(&mut batch, 1).unwrap();
    batch.clear();
    for nth in 0..3 {
        push(&store, &mut batch, "T", 0, &body, if nth == 0 { 3 } else { 0 });
    }
    store.append(&mut batch, 1).unwrap();
    assert_eq!(batch.place(0).physical_offset, SEGMENT);
    assert_eq!(batch.place(2).queue_offset, 5);
    let mut large = Batch::default();
    push(&store, &mut large, "T", 0, &[0; SEGMENT as usize], 1);
    assert!(matches!(store.append(&mut large, 1), Err(AppendError::TooLarge { .. })));
    assert_eq!(bodies(&store, "T", 0).len(), 6);
    drop(store);
    assert_eq!(bodies(&open(&root, Policy::Written), "T", 0).len(), 6);
}

#[test]
fn messages_are_found_by_time() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    for time in [10, 20, 20, 30] {
        send(&store, "T", 0, b"x", time);
    }
    let queue = store.find_queue("T", 0).unwrap();
    let find = |time, boundary| store.offset_by_time(&queue, time, boundary);
    assert_eq!([5, 10, 15, 20, 30, 31].map(|t| find(t, Boundary::Lower)), [0, 0, 1, 1, 3, 4]);
    assert_eq!([5, 10, 15, 20, 30, 31].map(|t| find(t, Boundary::Upper)), [0, 0, 0, 2, 3, 3]);
}

#[test]
fn reads_outside_a_queue_say_where_to_go_on() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    fill(&store, 5);
    let queue = store.find_queue("T", 0);
    let get = |offset| {
        let result = store.get(queue.as_ref(), offset, &LIMITS, |_| true, crate::ANY).unwrap();
        (result.status, result.next)
    };
    assert_eq!(get(5), (GetStatus::OffsetOverflowOne, 5));
    assert_eq!(get(9), (GetStatus::OffsetOverflowBadly, 5));
    assert_eq!(get(-1), (GetStatus::OffsetTooSmall, 0));
    assert_eq!(store.get(None, 3, &LIMITS, |_| true, crate::ANY).unwrap().status, GetStatus::NoMatchedLogicQueue);
    let none = store.get(queue.as_ref(), 0, &LIMITS, |_| false, crate::ANY).unwrap();
    assert_eq!((none.status, none.next), (GetStatus::NoMatchedMessage, 5));
    let two = store.get(queue.as_ref(), 1, &GetLimits { messages: 2, ..LIMITS }, |_| true, crate::ANY).unwrap();
    assert_eq!((two.messages.len(), two.next), (2, 3));
}

#[test]
fn a_deleted_topic_starts_anew() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root, Policy::Written);
    fill(&store, 5);
    store.delete_topic("T").unwrap();
    assert!(store.find_queue("T", 0).is_none());
    assert_eq!(send(&store, "T", 0, b"x", 1).0.queue_offset, 0);
    drop(store);
    assert_eq!(bodies(&open(&root, Policy::Written), "T", 0), ["x"]);
}
