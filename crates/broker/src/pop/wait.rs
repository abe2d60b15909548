//! Pops that found nothing and wait for a message, and who asks only to be told of one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use protocol::codes;
use protocol::exchange::{Call, Responder};
use protocol::requests::{Notification, NotificationReply, PollingInfo, PollingInfoReply};
use store::GetStatus;
use store::queue::Queue;

use super::order::Ordered;
use super::take::{self, Pop, Want};
use crate::Broker;
use crate::answers::Reply;
use crate::handlers::Handled;
use crate::popped::Popped;

/// How often a pop is tried again at once because a message came while it was put aside.
const TRIES: usize = 3;

#[derive(Debug)]
enum Kind {
    Pop(Pop),
    Notify(Arc<Want>),
}

impl Kind {
    fn want(&self) -> &Arc<Want> {
        match self {
            Kind::Pop(pop) => &pop.want,
            Kind::Notify(want) => want,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    kind: Kind,
    responder: Responder,
    deadline: i64,
}

#[derive(Debug, Default)]
struct State {
    /// By topic and group.
    topics: BTreeMap<String, BTreeMap<String, VecDeque<Waiting>>>,
    /// Topic and group that a retry topic belongs to.
    retry: BTreeMap<String, (String, String)>,
    last_id: u64,
}

/// All that wait.
#[derive(Debug, Default)]
pub struct Waits {
    state: Mutex<State>,
    count: AtomicUsize,
    /// No deadline is before it.
    first_deadline: AtomicI64,
}

impl Want {
    /// The queues whose messages it waits for.
    fn queues(&self, broker: &Broker) -> Vec<Arc<Queue>> {
        let own = match self.queue_id {
            ..0 => 0..self.topic.read_queue_nums,
            id => id..id + 1,
        };
        let own = own.filter_map(|id| broker.store.queue(&self.topic.topic_name, id).ok());
        let retry = self.retry_topics.iter().filter(|_| !self.order).filter_map(|name| broker.topics.get(name));
        let retry = retry
            .flat_map(|topic| (0..topic.read_queue_nums).filter_map(move |id| broker.store.queue(&topic.topic_name, id).ok()));
        own.chain(retry).collect()
    }

    /// Whether there is a message that the group has not had.
    fn has_message(&self, broker: &Broker, now: i64) -> bool {
        self.queues(broker).iter().any(|queue| {
            let at = broker.offsets.committed(&queue.topic, &self.group, queue.id).unwrap_or_else(|| queue.min_offset());
            let ordered = Ordered { topic: &queue.topic, group: &self.group, queue_id: queue.id };
            at < queue.max_offset()
                && !(self.order && broker.pops.orders.lock().is_blocked(ordered, self.attempt_id.as_deref(), now))
        })
    }
}

impl State {
    fn put(&mut self, waiting: Waiting, in_front: bool) {
        let want = waiting.kind.want();
        let (topic, group) = (want.topic.topic_name.clone(), want.group.clone());
        for retry in &want.retry_topics {
            self.retry.insert(retry.clone(), (topic.clone(), group.clone()));
        }
        let queue = self.topics.entry(topic).or_default().entry(group).or_default();
        if in_front { queue.push_front(waiting) } else { queue.push_back(waiting) }
    }

    /// Takes out the first of a group's requests that `is_it` says.
    fn take(&mut self, topic: &str, group: &str, is_it: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let groups = self.topics.get_mut(topic)?;
        let queue = groups.get_mut(group)?;
        let at = queue.iter().position(is_it)?;
        let taken = queue.remove(at);
        if queue.is_empty() {
            groups.remove(group);
            self.retry.retain(|_, (t, g)| t != topic || g != group);
        }
        if groups.is_empty() {
            self.topics.remove(topic);
        }
        taken
    }

    fn count_of(&self, topic: &str, group: &str, queue_id: i32) -> usize {
        let queue = self.topics.get(topic).and_then(|groups| groups.get(group));
        queue.map_or(0, |queue| queue.iter().filter(|w| w.kind.want().queue_id == queue_id).count())
    }

    /// The groups that wait for messages of a topic, which may be one's retry topic.
    fn groups(&self, topic: &str) -> Vec<(String, String)> {
        let of_topic = self.topics.get(topic).into_iter().flat_map(|groups| groups.keys());
        let of_topic = of_topic.map(|group| (topic.to_owned(), group.clone()));
        of_topic.chain(self.retry.get(topic).cloned()).collect()
    }
}

impl Waits {
    fn take(&self, topic: &str, group: &str, is_it: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let taken = self.state.lock().take(topic, group, is_it);
        if taken.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Keeps a request. From here on every message that becomes visible in one of its queues is told of.
    fn put(&self, broker: &Broker, waiting: Waiting, in_front: bool) {
        let queues = waiting.kind.want().queues(broker);
        let deadline = waiting.deadline;
        let mut state = self.state.lock();
        state.put(waiting, in_front);
        self.count.fetch_add(1, Ordering::SeqCst);
        self.first_deadline.fetch_min(deadline, Ordering::Relaxed);
        drop(state);
        queues.iter().for_each(|queue| queue.watch());
    }
}

/// Has a pop that found nothing wait, or answers it where it may not.
pub fn pop(broker: &Broker, call: &mut Call<'_>, pop: Pop, popped: Popped, deadline: i64) -> Handled {
    let code = if deadline <= call.now {
        codes::POLLING_TIMEOUT
    } else if is_full(broker, &pop.want) {
        codes::POLLING_FULL
    } else {
        start(broker, Kind::Pop(pop), call, deadline);
        return Ok(());
    };
    call.answer(code, Some(GetStatus::NoMessageInQueue.name()), &popped.reply(), &[]);
    Ok(())
}

/// NOTIFICATION: whether there is a message for a group, at once where there is, else when there is.
pub fn notification(broker: &Broker, call: &mut Call<'_>, request: Notification<'_>) -> Handled {
    broker.require_pops()?;
    let (name, group) = (request.topic, request.consumer_group);
    let (topic, _) = take::check(broker, call, (name, request.queue_id), group, "peeking message")?;
    let want = Want {
        group: group.to_owned(),
        topic,
        queue_id: request.queue_id,
        retry_topics: take::retry_topics(&broker.config(), name, group),
        order: request.order == Some(true),
        attempt_id: request.attempt_id.map(str::to_owned),
    };
    let has_msg = want.has_message(broker, call.now);
    let deadline = take::deadline(call.now, request.born_time, request.poll_time);
    let polling_full = !has_msg && deadline > call.now && is_full(broker, &want);
    if has_msg || polling_full || deadline <= call.now {
        call.reply(&NotificationReply { has_msg, polling_full });
    } else {
        start(broker, Kind::Notify(Arc::new(want)), call, deadline);
    }
    Ok(())
}

/// POLLING_INFO: how many requests wait for a queue (or, below 0, for all queues) of a topic.
pub fn polling_info(broker: &Broker, call: &mut Call<'_>, request: PollingInfo<'_>) -> Handled {
    take::check(broker, call, (request.topic, request.queue_id), request.consumer_group, "peeking message")?;
    let state = broker.pops.waits.state.lock();
    let polling_num = state.count_of(request.topic, request.consumer_group, request.queue_id) as i32;
    drop(state);
    call.reply(&PollingInfoReply { polling_num });
    Ok(())
}

/// Whether so many wait that no more may.
fn is_full(broker: &Broker, want: &Want) -> bool {
    let config = broker.config();
    let waits = &broker.pops.waits;
    let of_queue = || waits.state.lock().count_of(&want.topic.topic_name, &want.group, want.queue_id);
    waits.count.load(Ordering::Relaxed) >= config.max_pop_polling_size as usize || of_queue() > config.pop_polling_size as usize
}

fn start(broker: &Broker, kind: Kind, call: &Call<'_>, deadline: i64) {
    let id = {
        let mut state = broker.pops.waits.state.lock();
        state.last_id += 1;
        state.last_id
    };
    let waiting = Waiting { id, kind, responder: call.park(), deadline };
    wait_on(broker, waiting, false, call.now);
}

/// Puts a request aside. Where a message came meanwhile, it is tried again at once. `true` where that answered it.
fn wait_on(broker: &Broker, mut waiting: Waiting, in_front: bool, now: i64) -> bool {
    let waits = &broker.pops.waits;
    for _ in 0..TRIES {
        let (id, want) = (waiting.id, waiting.kind.want().clone());
        waits.put(broker, waiting, in_front);
        // A message may have come since the last try; of one that comes from here on its queue tells.
        if !want.has_message(broker, now) {
            return false;
        }
        let Some(again) = waits.take(&want.topic.topic_name, &want.group, |w| w.id == id) else { return false };
        match attempt(broker, again, now) {
            None => return true,
            Some(nothing) => waiting = nothing,
        }
    }
    waits.put(broker, waiting, in_front);
    false
}

/// Answers a request where there is something for it or its time is over; gives it back otherwise.
fn attempt(broker: &Broker, waiting: Waiting, now: i64) -> Option<Waiting> {
    let over = waiting.deadline <= now;
    match &waiting.kind {
        Kind::Notify(want) => {
            let has_msg = want.has_message(broker, now);
            if !has_msg && !over {
                return Some(waiting);
            }
            waiting.responder.answer(codes::SUCCESS, None, &NotificationReply { has_msg, polling_full: false }, &[], &[]);
        }
        Kind::Pop(pop) => match pop.take(broker, now) {
            Ok(popped) if popped.is_empty() && !over => return Some(waiting),
            Ok(popped) if popped.is_empty() => {
                let remark = Some(GetStatus::NoMessageInQueue.name());
                waiting.responder.answer(codes::POLLING_TIMEOUT, remark, &popped.reply(), &[], &[]);
            }
            Ok(popped) => broker.push_when_stored(waiting.responder, popped.end, Reply::Popped(popped), now),
            Err(refusal) => waiting.responder.answer(refusal.code, Some(&refusal.remark), &(), &[], &[]),
        },
    }
    None
}

/// Tries the requests again that wait for messages of a queue.
pub fn wake(broker: &Broker, topic: &str, queue_id: i32, now: i64) {
    let waits = &broker.pops.waits;
    if waits.count.load(Ordering::SeqCst) == 0 {
        return;
    }
    let groups = waits.state.lock().groups(topic);
    // Those who find nothing now hear of the next message, too.
    if let Some(queue) = broker.store.find_queue(topic, queue_id).filter(|_| !groups.is_empty()) {
        queue.watch();
    }
    for (own_topic, group) in groups {
        let queue_id = Some(queue_id).filter(|_| own_topic == topic);
        wake_group(broker, &own_topic, &group, queue_id, now);
    }
}

/// Tries a group's requests again, in the order in which they came, until one finds nothing.
pub fn wake_group(broker: &Broker, topic: &str, group: &str, queue_id: Option<i32>, now: i64) {
    let concerned = |waiting: &Waiting| {
        let own = waiting.kind.want().queue_id;
        queue_id.is_none_or(|id| own < 0 || own == id)
    };
    while let Some(waiting) = broker.pops.waits.take(topic, group, concerned) {
        if let Some(nothing) = attempt(broker, waiting, now)
            && !wait_on(broker, nothing, true, now)
        {
            return;
        }
    }
}

/// Forgets the requests of a connection that is closed: what they would get nobody would see until it comes back.
pub fn forget(broker: &Broker, connection: u64) {
    let waits = &broker.pops.waits;
    if waits.count.load(Ordering::Relaxed) == 0 {
        return;
    }
    let gone: Vec<_> = {
        let state = waits.state.lock();
        let all = state.topics.values().flat_map(|groups| groups.values()).flatten();
        let own = all.filter(|waiting| waiting.responder.connection().id == connection);
        own.map(|waiting| (waiting.id, waiting.kind.want().clone())).collect()
    };
    for (id, want) in gone {
        waits.take(&want.topic.topic_name, &want.group, |waiting| waiting.id == id);
    }
}

/// Answers who has waited long enough.
pub fn expire(broker: &Broker, now: i64) {
    let waits = &broker.pops.waits;
    if waits.count.load(Ordering::Relaxed) == 0 || waits.first_deadline.load(Ordering::Relaxed) > now {
        return;
    }
    let mut expired = Vec::new();
    {
        let state = waits.state.lock();
        let mut first = i64::MAX;
        for waiting in state.topics.values().flat_map(|groups| groups.values()).flatten() {
            if waiting.deadline <= now {
                expired.push((waiting.id, waiting.kind.want().clone()));
            } else {
                first = first.min(waiting.deadline);
            }
        }
        waits.first_deadline.store(first, Ordering::Relaxed);
    }
    for (id, want) in expired {
        if let Some(waiting) = waits.take(&want.topic.topic_name, &want.group, |w| w.id == id) {
            attempt(broker, waiting, now);
        }
    }
}
