use std::sync::mpsc::{Receiver, Sender, channel};

use protocol::bodies::KvTable;
use protocol::exchange::ENOUGH_BYTES;
use store::disk::{Change, Watch};

use super::*;

impl World {
    fn runtime(&self, now: i64, key: &str) -> String {
        let info = self.ask(now, &peer(8), &GetBrokerRuntimeInfo {}, &[]);
        fastjson::from_slice::<KvTable>(&info.body).unwrap().table.remove(key).unwrap_or_else(|| panic!("no {key}"))
    }
}

fn codes_of(answers: &[Answer]) -> Vec<i32> {
    answers.iter().map(|answer| answer.code).collect()
}

#[test]
fn sends_that_wait_for_a_disk_that_hangs_are_bounded_and_the_rest_are_told_why() {
    let world = world("flushDiskType=SYNC_FLUSH\nsyncFlushTimeout=1000\nsendThreadPoolQueueCapacity=3\n");
    let producer = peer(3);
    let sends = |count: usize| (0..count).map(|n| frame(&send("T", ""), format!("m{n}").as_bytes())).collect();
    let refused = world.read(100, &producer, sends(5));
    assert_eq!(codes_of(&refused), [codes::SYSTEM_BUSY; 2]);
    assert_eq!(
        refused[0].remark,
        "[OVERLOAD]system busy, start flow control for a while: 3 sends are under way, sendThreadPoolQueueCapacity is 3"
    );
    assert_eq!(codes_of(&world.read(150, &peer(4), sends(1))), [codes::SYSTEM_BUSY]);
    assert_eq!(world.runtime(160, "systemBusySendOverload"), "3");
    assert_eq!(world.runtime(160, "sendThreadPoolQueueSize"), "3");
    assert_eq!(world.runtime(160, "sendThreadPoolQueueHeadWaitTimeMills"), "60");

    world.broker.tick(1100);
    let late: Vec<_> = producer.pushed.take().iter().map(Answer::of).collect();
    assert_eq!(codes_of(&late), [codes::FLUSH_DISK_TIMEOUT; 3]);
    assert!(world.read(1200, &producer, sends(1)).is_empty());
    world.broker.sync(1300).unwrap();
    assert_eq!(Answer::of(&producer.pushed.take()[0]).code, codes::SUCCESS);
    assert_eq!(world.runtime(1300, "sendThreadPoolQueueSize"), "0");
    // What was refused was not stored.
    assert_eq!(world.pull(1300, &peer(5), "T", 0, 0).unwrap().bodies(), ["m0", "m1", "m2", "m0"]);
}

/// A disk that, from some time on, keeps whoever writes to the commit log waiting.
#[derive(Debug)]
struct Stuck {
    entered: Sender<()>,
    /// Nothing is sent on it: a write waits until the other end is gone.
    released: Mutex<Option<Receiver<()>>>,
}

impl Watch for Stuck {
    fn about_to(&self, change: Change<'_>) -> std::io::Result<()> {
        if let Change::Write(path, ..) = change
            && path.parent().is_some_and(|directory| directory.ends_with("commitlog"))
            && let Some(released) = &*self.released.lock()
        {
            self.entered.send(()).unwrap();
            let _ = released.recv();
        }
        Ok(())
    }
}

#[test]
fn a_write_that_hangs_holds_up_no_other_send_for_long() {
    let (entered, enters) = channel();
    let disk = Arc::new(Stuck { entered, released: Mutex::new(None) });
    let world = world_on(store::disk::Disk::watched(disk.clone()), "waitTimeMillsInSendQueue=20\n");
    let world = &world;
    world.send(1, "T", "", "before");
    let (release, released) = channel::<()>();
    *disk.released.lock() = Some(released);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| world.send(1000, "T", "", "stuck").code);
        enters.recv().unwrap();
        let late = world.send(1100, "T", "", "late");
        assert_eq!(
            (late.code, late.remark.as_str()),
            (
                codes::SYSTEM_BUSY,
                "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: 20ms, size of queue: 1"
            )
        );
        let short = world.send(1990, "T", "", "short of patience");
        assert!(
            short.remark.starts_with("[PCBUSY_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: 10ms")
        );
        let back = ConsumerSendMsgBack { group: "g", origin_topic: Some("T"), ..ConsumerSendMsgBack::default() };
        for answer in [world.send(2001, "T", "", "rejected"), world.ask(2001, &peer(2), &back, &[])] {
            assert_eq!(
                (answer.code, answer.remark.as_str()),
                (
                    codes::SYSTEM_BUSY,
                    "[REJECTREQUEST]system busy, start flow control for a while: a write to the commit log takes 1001 ms, \
                     osPageCacheBusyTimeOutMills is 1000"
                )
            );
        }
        // Whoever reads notices nothing.
        assert_eq!(world.pull(2001, &peer(5), "T", 0, 0).unwrap().bodies(), ["before"]);
        drop(release);
        assert_eq!(stuck.join().unwrap(), codes::SUCCESS);
    });
    assert_eq!(world.send(2002, "T", "", "after").code, codes::SUCCESS);
    assert_eq!(world.pull(2003, &peer(5), "T", 0, 0).unwrap().bodies(), ["before", "stuck", "after"]);
    assert_eq!(["SendTimeout", "PageCacheBusy"].map(|r| world.runtime(2003, &format!("systemBusy{r}"))), ["1", "3"]);
    assert_eq!(world.runtime(2003, "pageCacheLockTimeMills"), "0");
}

#[test]
fn pulls_that_wait_are_bounded_and_no_reason_to_refuse_a_send() {
    let world = world("pullThreadPoolQueueCapacity=2\n");
    world.send(1, "T", "", "x");
    let waiting = peer(5);
    assert!(world.pull(10, &waiting, "T", 1, 5000).is_none());
    assert!(world.pull(10, &waiting, "T", 1, 5000).is_none());
    let refused = world.pull(10, &peer(6), "T", 1, 5000).unwrap();
    assert_eq!(
        (refused.code, refused.remark.as_str()),
        (
            codes::SYSTEM_BUSY,
            "[OVERLOAD]system busy, start flow control for a while: 2 pulls wait for messages, pullThreadPoolQueueCapacity is 2"
        )
    );
    assert_eq!((world.runtime(11, "systemBusyPullOverload"), world.runtime(11, "pullsHeld")), ("1".into(), "2".into()));
    assert_eq!(world.send(12, "T", "", "y").code, codes::SUCCESS);
    assert_eq!(waiting.pushed.take().len(), 2);
    assert!(world.pull(13, &peer(6), "T", 2, 5000).is_none());
}

#[test]
fn a_read_of_many_pulls_is_answered_in_parts() {
    let world = world("maxTransferBytesOnMessageInMemory=400000\n");
    let body = "b".repeat(30_000);
    for _ in 0..10 {
        world.send(1, "T", "", &body);
    }
    let mut frames: Vec<_> = (0..20).map(|_| frame(&pull_request("T", 0, 0, "*"), &[])).collect();
    let consumer = peer(2);
    let mut reads = Vec::new();
    while !frames.is_empty() {
        let (mut out, before) = (BytesMut::new(), frames.len());
        world.broker.frames(2, &consumer.connection, &mut frames, &mut out).unwrap();
        assert!(out.len() < ENOUGH_BYTES + 400_000, "{} bytes", out.len());
        reads.push(before - frames.len());
    }
    assert_eq!(reads, [4; 5]);
}
