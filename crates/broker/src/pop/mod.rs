//! POP: a consumer takes messages of any queue, which are invisible to others until it acknowledges them or their time
//! is over; then they come back through a retry topic, counted once more.
//!
//! What is popped is in the log: a check point for each queue that a pop took messages from, an acknowledgement for
//! each that was said, both in the revive topic and in Java's form ([`revive`]). Memory holds the check points that are
//! still open ([`points`]), and a restart reads them again from the group's offset in that topic. A message that comes
//! back is appended together with the acknowledgement that its check point needs it no longer.
//!
//! A check point also says how far its group has come: what `consumerOffset.json` did not have at a kill is read from
//! there. So an acknowledged message is never given again.

mod ack;
mod assign;
mod order;
mod points;
pub mod revive;
mod take;
mod wait;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use protocol::exchange::{Call, Refusal};
use protocol::header::Typed;
use protocol::pop::{GroupModes, ORDER_QUEUE};
use protocol::requests::PopMessageReply;
use protocol::{codes, names};
use store::AppendError;

pub use self::ack::{Acks, accept, accept_batch, change_invisible_time};
use self::assign::{Modes, Routes};
pub use self::assign::{get_all_modes, query_assignment, set_mode};
use self::order::Orders;
use self::points::{Lane, Points};
pub use self::take::{peek_message, pop_message};
use self::wait::Waits;
pub use self::wait::{forget, notification, polling_info, wake};
use crate::Broker;
use crate::handlers::Handled;

/// Pops of different queues go on at the same time where these do not fall together.
const TURNS: usize = 64;

/// All that is known of pops.
pub struct Pops {
    points: Mutex<Points>,
    orders: Mutex<Orders>,
    waits: Waits,
    modes: Modes,
    routes: Routes,
    /// One pop of a group from a queue at a time.
    turns: [Mutex<()>; TURNS],
    /// The revive topic is read: nobody pops before.
    ready: AtomicBool,
}

impl Pops {
    /// Opens `consumerOrderInfo.json` and `messageRequestMode.json` in the directory of tables; the revive topic is read by [`Broker::read_pops`].
    pub fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            points: Mutex::default(),
            orders: Mutex::new(Orders::open(directory.join("consumerOrderInfo.json"))?),
            waits: Waits::default(),
            modes: Modes::open(directory.join("messageRequestMode.json"))?,
            routes: Routes::default(),
            turns: std::array::from_fn(|_| Mutex::new(())),
            ready: AtomicBool::new(false),
        })
    }

    /// On a slave: becomes what the master has.
    pub fn copy_modes(&self, modes: GroupModes) -> io::Result<()> {
        self.modes.replace(modes)
    }

    fn turn(&self, lane: &Lane) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        lane.hash(&mut hasher);
        self.turns[hasher.finish() as usize % TURNS].lock()
    }
}

/// Refuses as Java does, whose answers have their numbers in any case.
pub fn refuse<'h>(call: &mut Call<'_>, handled: Handled, fields: &impl Typed<'h>) -> Handled {
    if let Err(refusal) = handled {
        call.answer(refusal.code, Some(&refusal.remark), fields, &[]);
    }
    Ok(())
}

/// The fields of a refused pop.
pub const NO_MESSAGES: PopMessageReply<'static> = PopMessageReply {
    pop_time: 0,
    invisible_time: 0,
    revive_qid: 0,
    rest_num: 0,
    start_offset_info: None,
    msg_offset_info: None,
    order_count_info: None,
};

/// What can't be appended is refused as a send is.
pub fn not_appended(error: &AppendError) -> Refusal {
    let remark = format!("service not available now. It may be caused by one of the following reasons: {error}");
    Refusal::new(codes::SERVICE_NOT_AVAILABLE, remark)
}

impl Broker {
    /// Pops, acknowledgements and the like need the revive topic, and a broker that takes messages.
    fn require_pops(&self) -> Result<(), Refusal> {
        if self.is_slave() {
            return Err(Refusal::new(codes::SERVICE_NOT_AVAILABLE, self.slave_remark()));
        }
        if !self.pops.ready.load(Ordering::Acquire) {
            let remark = "the consume queues are being made again from the commit log; nothing can be popped until then";
            return Err(Refusal::new(codes::SERVICE_NOT_AVAILABLE, remark));
        }
        Ok(())
    }

    /// Has a new master know the groups that have popped, also those that the old one was not asked about in time: what was
    /// popped is brought back for groups that are known.
    pub(crate) fn know_who_popped(&self, now: i64) {
        self.read_pops(now);
        let groups = self.pops.points.lock().groups();
        groups.iter().for_each(|group| drop(self.find_group(group, now)));
    }

    /// Does what is due at `now`: brings messages back, gives freed queues to who waits for them, answers who has
    /// waited long enough. Cheap where nothing is due.
    pub(crate) fn tend_pops(&self, now: i64) {
        self.expire_assignments(now);
        if self.is_slave() || self.store.rebuilding().is_some() {
            return;
        }
        self.read_pops(now);
        self.bring_back(now);
        let freed = self.pops.orders.lock().freed(now);
        for (topic, group) in freed {
            wait::wake_group(self, &topic, &group, None, now);
        }
        wait::expire(self, now);
        self.commit_revive_offsets();
    }

    /// Saves what is under way in order, and then notes up to where the revive topic is part of it.
    pub(crate) fn save_pops(&self, now: i64) -> io::Result<()> {
        let mut orders = self.pops.orders.lock();
        orders.clean(now, |topic, group| self.topics.get(topic).is_none() || self.groups.get(group).is_none());
        orders.save()?;
        let progress = self.pops.points.lock().progress();
        for (queue_id, _, applied) in progress.into_iter().filter(|(id, ..)| *id == ORDER_QUEUE) {
            self.offsets.commit(&revive_topic(self), names::REVIVE_APPLIED_GROUP, queue_id, applied);
        }
        Ok(())
    }
}

/// The topic of check points and acknowledgements.
fn revive_topic(broker: &Broker) -> String {
    format!("{}{}", names::REVIVE_TOPIC_PREFIX, broker.config().broker_cluster_name)
}
