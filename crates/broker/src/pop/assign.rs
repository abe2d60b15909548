//! Which queues a member of a group reads, where the broker decides that for it, and whether it pulls or pops.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use parking_lot::{Mutex, MutexGuard};
use protocol::bodies::{MessageModel, MessageQueue, TopicRouteData};
use protocol::exchange::{Call, Refusal, Responder};
use protocol::pop::{Assignment, AssignmentQuery, Assignments, GroupMode, GroupModes, RequestMode};
use protocol::{codes, fastjson, names};

use crate::Broker;
use crate::handlers::{Handled, can_read, io_refusal};
use crate::meta::table;

/// How old a route may be before the name servers are asked again, in ms; it is used until they have answered.
const FRESH_MS: i64 = 30_000;
/// How long a client waits for the name servers at the most, in ms.
const PATIENCE_MS: i64 = 3000;
/// Routes that are remembered; all are forgotten when there are more.
const MAX_ROUTES: usize = 10_000;
/// Queries that may wait for the name servers at the same time.
const MAX_WAITING: usize = 10_000;

/// How groups get their messages: `config/messageRequestMode.json`.
pub struct Modes {
    path: PathBuf,
    modes: Mutex<GroupModes>,
}

/// The queues of a topic on all brokers that may be read.
struct Route {
    queues: Vec<MessageQueue>,
    asked: i64,
}

struct Waiting {
    query: AssignmentQuery,
    responder: Responder,
    deadline: i64,
}

/// What the name servers said of topics, and who waits for it.
#[derive(Default)]
pub struct Routes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: BTreeMap<String, Route>,
    waiting: Vec<Waiting>,
}

impl Modes {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self { modes: Mutex::new(table::load(&path)?), path })
    }

    fn get(&self, topic: &str, group: &str) -> Option<GroupMode> {
        self.modes.lock().message_request_mode_map.get(topic)?.get(group).cloned()
    }

    fn put(&self, mode: GroupMode) -> io::Result<()> {
        let mut modes = self.modes.lock();
        let groups = modes.message_request_mode_map.entry(mode.topic.clone()).or_default();
        groups.insert(mode.consumer_group.clone(), mode);
        table::save(&self.path, &*modes)
    }

    /// Becomes what the master has, and saves where that is another than before.
    pub fn replace(&self, other: GroupModes) -> io::Result<()> {
        let mut modes = self.modes.lock();
        if *modes != other {
            table::save(&self.path, &other)?;
            *modes = other;
        }
        Ok(())
    }
}

/// SET_MESSAGE_REQUEST_MODE
pub fn set_mode(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let mode: GroupMode = fastjson::from_slice(call.body)?;
    if mode.topic.starts_with(names::RETRY_PREFIX) {
        return Err(Refusal::new(codes::NO_PERMISSION, "retry topic is not allowed to set mode"));
    }
    if broker.topics.get(&mode.topic).is_none() {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("topic[{}] not exist", mode.topic)));
    }
    if broker.find_group(&mode.consumer_group, call.now).is_none() {
        return Err(Refusal::new(codes::SUBSCRIPTION_GROUP_NOT_EXIST, "subscription group does not exist"));
    }
    broker.pops.modes.put(mode).map_err(|e| io_refusal("saving messageRequestMode.json", &e))?;
    call.reply(&());
    Ok(())
}

/// GET_ALL_MESSAGE_REQUEST_MODE
pub fn get_all_modes(broker: &Broker, call: &mut Call<'_>) -> Handled {
    call.reply_body(&fastjson::to_vec(&*broker.pops.modes.modes.lock()));
    Ok(())
}

/// QUERY_ASSIGNMENT: answered at once where the topic's route is known, else when the name servers have said it.
pub fn query_assignment(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let query: AssignmentQuery = fastjson::from_slice(call.body)?;
    if broker.config().name_servers().is_empty() {
        let queues = broker.own_queues(&query.topic);
        call.reply_body(&fastjson::to_vec(&broker.assign(&query, queues)));
        return Ok(());
    }
    let mut state = broker.pops.routes.state.lock();
    let full = state.waiting.len() >= MAX_WAITING;
    let (queues, stale) = match state.known.get_mut(&query.topic) {
        Some(route) => {
            let stale = call.now - route.asked >= FRESH_MS;
            route.asked = if stale { call.now } else { route.asked };
            (Some(route.queues.clone()), stale)
        }
        None => (None, true),
    };
    if stale {
        broker.shell.route_wanted(&query.topic);
    }
    if queues.is_none() && !full {
        state.waiting.push(Waiting { query, responder: call.park(), deadline: call.now + PATIENCE_MS });
        return Ok(());
    }
    drop(state);
    call.reply_body(&fastjson::to_vec(&broker.assign(&query, queues)));
    Ok(())
}

impl Broker {
    /// Takes what the name servers say of a topic: its route, or that they do not know it.
    pub fn route_arrived(&self, topic: &str, route: Option<&TopicRouteData>, now: i64) {
        let mut state = self.pops.routes.state.lock();
        match route {
            None => {
                state.known.remove(topic);
            }
            Some(route) => {
                if state.known.len() >= MAX_ROUTES {
                    state.known.clear();
                }
                state.known.insert(topic.to_owned(), Route { queues: queues_of(topic, route), asked: now });
            }
        }
        let waited = state.waiting.extract_if(.., |waiting| waiting.query.topic == topic).collect();
        self.answer_assignments(state, waited);
    }

    /// Answers who has waited too long for the name servers.
    pub(super) fn expire_assignments(&self, now: i64) {
        let mut state = self.pops.routes.state.lock();
        if !state.waiting.is_empty() {
            let waited = state.waiting.extract_if(.., |waiting| waiting.deadline <= now).collect();
            self.answer_assignments(state, waited);
        }
    }

    fn answer_assignments(&self, state: MutexGuard<'_, State>, waited: Vec<Waiting>) {
        let with_queues = |waiting: Waiting| {
            let queues = state.known.get(&waiting.query.topic).map(|route| route.queues.clone());
            (waiting, queues)
        };
        let waited: Vec<_> = waited.into_iter().map(with_queues).collect();
        drop(state);
        for (Waiting { query, responder, .. }, queues) in waited {
            let body = fastjson::to_vec(&self.assign(&query, queues));
            responder.answer(codes::SUCCESS, None, &(), &[], &[&body]);
        }
    }

    /// The queues of a topic on this broker.
    fn own_queues(&self, name: &str) -> Option<Vec<MessageQueue>> {
        let topic = self.topics.get(name).filter(|topic| can_read(topic.perm))?;
        let broker_name = self.config().broker_name.clone();
        let queue = |queue_id| MessageQueue { topic: name.to_owned(), broker_name: broker_name.clone(), queue_id };
        Some((0..topic.read_queue_nums).map(queue).collect())
    }

    /// What a client is to read of a topic with these queues; without them it is to keep what it has.
    fn assign(&self, query: &AssignmentQuery, queues: Option<Vec<MessageQueue>>) -> Assignments {
        let config = self.config();
        let default_mode = || GroupMode {
            mode: if query.topic.starts_with(names::RETRY_PREFIX) {
                RequestMode::Pull
            } else {
                config.default_message_request_mode.0
            },
            pop_share_queue_num: config.default_pop_share_queue_num,
            ..GroupMode::default()
        };
        let mode = self.pops.modes.get(&query.topic, &query.consumer_group).unwrap_or_else(default_mode);
        let mut members = self.clients.consumer_ids(&query.consumer_group);
        members.sort();
        let all = query.message_model == MessageModel::Broadcasting || !config.server_load_balancer_enable;
        let assigned = queues.and_then(|mut queues| {
            queues.sort();
            if all {
                return Some(queues);
            }
            let strategy = Strategy::named(&query.strategy_name)?;
            if members.is_empty() || query.client_id.is_empty() {
                return None;
            }
            Some(match mode.mode {
                RequestMode::Pull => strategy.allocate(&query.client_id, &queues, &members),
                RequestMode::Pop => share(strategy, &query.client_id, queues, &members, mode.pop_share_queue_num),
            })
        });
        let assignment = |queue: MessageQueue| Assignment { message_queue: queue.into(), mode: mode.mode };
        Assignments { message_queue_assignments: assigned.map(|queues| queues.into_iter().map(assignment).collect()) }
    }
}

/// The queues that may be read, of all brokers.
fn queues_of(topic: &str, route: &TopicRouteData) -> Vec<MessageQueue> {
    let readable = route.queue_datas.iter().filter(|data| can_read(data.perm));
    let queues = readable.flat_map(|data| {
        (0..data.read_queue_nums).map(|queue_id| MessageQueue {
            topic: topic.to_owned(),
            broker_name: data.broker_name.clone(),
            queue_id,
        })
    });
    queues.collect()
}

/// How queues are given to members (Java: `AllocateMessageQueueAveragely` and `…ByCircle`).
#[derive(Clone, Copy)]
enum Strategy {
    /// Neighbouring queues, to the first members one more where they do not divide evenly.
    Averagely,
    /// One queue to each member in turn.
    ByCircle,
}

impl Strategy {
    fn named(name: &str) -> Option<Self> {
        match name {
            "AVG" => Some(Strategy::Averagely),
            "AVG_BY_CIRCLE" => Some(Strategy::ByCircle),
            _ => None,
        }
    }

    fn allocate(self, member: &str, queues: &[MessageQueue], members: &[String]) -> Vec<MessageQueue> {
        let Some(nth) = members.iter().position(|id| id == member) else { return Vec::new() };
        match self {
            Strategy::ByCircle => queues.iter().skip(nth).step_by(members.len()).cloned().collect(),
            Strategy::Averagely => {
                let (each, more) = (queues.len() / members.len(), queues.len() % members.len());
                let (start, count) = (each * nth + nth.min(more), each + usize::from(nth < more));
                queues[start..start + count].to_vec()
            }
        }
    }
}

/// What a member pops: all brokers' queues, or those that it and the next `share` members would pull.
fn share(strategy: Strategy, member: &str, queues: Vec<MessageQueue>, members: &[String], share: i32) -> Vec<MessageQueue> {
    let Some(share) = usize::try_from(share).ok().filter(|share| (1..members.len().saturating_sub(1)).contains(share)) else {
        let mut all: Vec<_> = queues.into_iter().map(|queue| MessageQueue { queue_id: -1, ..queue }).collect();
        all.dedup();
        return all;
    };
    let Some(nth) = members.iter().position(|id| id == member) else { return Vec::new() };
    if members.len() > queues.len() {
        return queues.get(nth % queues.len().max(1)).cloned().into_iter().collect();
    }
    let own = (nth..=nth + share).flat_map(|nth| strategy.allocate(&members[nth % members.len()], &queues, members));
    let mut own: Vec<_> = own.collect();
    own.sort();
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(count: i32) -> Vec<MessageQueue> {
        (0..count).map(|queue_id| MessageQueue { topic: "T".into(), broker_name: "b".into(), queue_id }).collect()
    }

    fn members(count: usize) -> Vec<String> {
        (0..count).map(|nth| format!("c{nth}")).collect()
    }

    fn ids(queues: &[MessageQueue]) -> Vec<i32> {
        queues.iter().map(|queue| queue.queue_id).collect()
    }

    #[test]
    fn queues_are_given_as_java_gives_them() {
        let of = |strategy: Strategy, member, count| ids(&strategy.allocate(member, &queues(count), &members(3)));
        let averagely = ["c0", "c1", "c2"].map(|member| of(Strategy::Averagely, member, 8));
        assert_eq!(averagely, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        assert_eq!(["c0", "c1", "c2"].map(|member| of(Strategy::Averagely, member, 2)), [vec![0], vec![1], vec![]]);
        assert_eq!(["c0", "c2"].map(|member| of(Strategy::ByCircle, member, 8)), [vec![0, 3, 6], vec![2, 5]]);
        assert!(of(Strategy::Averagely, "stranger", 8).is_empty());
    }

    #[test]
    fn members_that_pop_share_queues() {
        let of = |member, count, shared, all| ids(&share(Strategy::Averagely, member, queues(count), &members(all), shared));
        assert_eq!(of("c0", 8, -1, 4), [-1]);
        assert_eq!(of("c0", 8, 3, 4), [-1]);
        assert_eq!(of("c3", 8, 1, 4), [0, 1, 6, 7]);
        assert_eq!(of("c3", 2, 1, 4), [1]);
    }
}
