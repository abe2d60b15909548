//! Requests to clients that somebody waits for: an admin asks the broker, the broker asks the client, and the client's
//! answer goes back. A client that does not answer in time, or whose connection closes, is answered for by the broker.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::bodies::{ConsumerStatus, MessageQueue};
use protocol::exchange::{Call, Connection, Refusal, Responder};
use protocol::requests::{
    ConsumeMessageDirectly, GetConsumerRunningInfo, GetConsumerStatus, GetConsumerStatusFromClient, Request,
};
use protocol::{Header, codes, fastjson, message_id, record, version};

use crate::Broker;
use crate::clients::Client;
use crate::handlers::Handled;

/// How long a client may take over a request that is passed on to it, in ms (Java: the same).
const RELAY_MS: i64 = 10_000;
/// How long it may take to say how far it is, in ms (Java: the same).
const STATUS_MS: i64 = 5000;
/// Requests to clients that may be under way; an admin's that would be one more is refused.
const MAX_ASKED: usize = 1000;

/// What waits for answers of clients, by connection and number, with its deadline in ms.
pub struct Unanswered<T> {
    waiting: Mutex<HashMap<(u64, i32), (i64, T)>>,
}

impl<T> Default for Unanswered<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<T> Unanswered<T> {
    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Notes what waits, and gives the number to ask the client under: it may answer before this thread goes on.
    pub fn begin(&self, connection: &Connection, deadline: i64, what: T) -> i32 {
        let opaque = connection.next_opaque();
        self.waiting.lock().insert((connection.id, opaque), (deadline, what));
        opaque
    }

    /// What waits for this answer.
    pub fn take(&self, connection: &Connection, opaque: i32) -> Option<T> {
        self.waiting.lock().remove(&(connection.id, opaque)).map(|(_, what)| what)
    }

    /// What waits for longer than it should.
    pub fn take_late(&self, now: i64) -> Vec<T> {
        self.take_if(|_, deadline| deadline <= now)
    }

    /// What waits for a client that has gone.
    pub fn take_gone(&self, connection: u64) -> Vec<T> {
        self.take_if(|id, _| id == connection)
    }

    fn take_if(&self, gone: impl Fn(u64, i64) -> bool) -> Vec<T> {
        let mut waiting = self.waiting.lock();
        waiting.extract_if(|(id, _), (deadline, _)| gone(*id, *deadline)).map(|(_, (_, what))| what).collect()
    }
}

/// A request to a client that is not answered.
pub struct Waiting {
    group: String,
    client_id: String,
    whose: Whose,
}

/// What a client's answer is for.
enum Whose {
    /// It goes as it is to whoever asked.
    Relayed(Responder),
    /// It is one of several that are answered together.
    Collected(Arc<Mutex<Collected>>),
}

/// Answers of several clients; those who asked are answered when the last one is there.
struct Collected {
    responder: Option<Responder>,
    missing: usize,
    table: BTreeMap<String, BTreeMap<MessageQueue, i64>>,
}

/// Why a client has not answered.
enum Silence {
    TooLate,
    Closed,
}

impl Broker {
    fn ask(&self, client: &Client, deadline: i64, waiting: Waiting, code: i32, fields: &[(&str, &str)], body: &[u8]) {
        let opaque = self.asked.begin(&client.connection, deadline, waiting);
        client.connection.send_request(code, opaque, fields, body);
    }

    fn require_room(&self, more: usize) -> Handled {
        let under_way = self.asked.len();
        if under_way + more <= MAX_ASKED {
            return Ok(());
        }
        let remark = format!("{under_way} requests to clients are under way, {MAX_ASKED} may be: try again in a moment");
        Err(Refusal::new(codes::SYSTEM_BUSY, remark))
    }

    /// A client has answered what the broker asked it. Answers that nobody waits for are passed over.
    pub(crate) fn answered(&self, connection: &Connection, header: &Header<'_>, body: &Bytes) {
        let Some(waiting) = self.asked.take(connection, header.opaque) else { return };
        match waiting.whose {
            Whose::Relayed(responder) => {
                let fields: Vec<(&str, &str)> = header.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
                responder.answer(header.code, header.remark.as_deref(), &(), &fields, &[body]);
            }
            Whose::Collected(collected) => {
                let status = (header.code == codes::SUCCESS).then(|| fastjson::from_slice::<ConsumerStatus>(body));
                let status = status.transpose().unwrap_or_else(|error| {
                    tracing::warn!("what {} says of its offsets can't be read: {error}", connection.remote);
                    None
                });
                collect(&collected, status.map(|status| (waiting.client_id, status.message_queue_table)));
            }
        }
    }

    /// Answers for clients that took too long.
    pub(crate) fn expire_asked(&self, now: i64) {
        give_up(self.asked.take_late(now), Silence::TooLate);
    }

    /// Answers for a client that has gone.
    pub(crate) fn forget_asked(&self, connection: u64) {
        give_up(self.asked.take_gone(connection), Silence::Closed);
    }
}

fn give_up(given_up: Vec<Waiting>, why: Silence) {
    for Waiting { group, client_id, whose } in given_up {
        match whose {
            Whose::Relayed(responder) => {
                let (code, what) = match why {
                    Silence::TooLate => (codes::CONSUME_MSG_TIMEOUT, format!("Timeout: no answer within {RELAY_MS} ms")),
                    Silence::Closed => (codes::SYSTEM_ERROR, "closed its connection before it answered".to_owned()),
                };
                let remark = format!("consumer <{group}> <{client_id}> {what}");
                responder.answer(code, Some(&remark), &(), &[], &[]);
            }
            Whose::Collected(collected) => {
                tracing::warn!("{client_id} of group {group} does not say how far it is");
                collect(&collected, None);
            }
        }
    }
}

fn collect(collected: &Mutex<Collected>, status: Option<(String, BTreeMap<MessageQueue, i64>)>) {
    let mut collected = collected.lock();
    collected.table.extend(status);
    collected.missing -= 1;
    if collected.missing == 0
        && let Some(responder) = collected.responder.take()
    {
        let table = std::mem::take(&mut collected.table);
        let body = fastjson::to_vec(&ConsumerStatus { consumer_table: Some(table), ..ConsumerStatus::default() });
        responder.answer(codes::SUCCESS, None, &(), &[], &[&body]);
    }
}

/// Passes a request on to one member of a group, with further fields and a body of the broker's.
fn relay(broker: &Broker, call: &Call<'_>, group: &str, client_id: &str, more: &[(&str, &str)], body: &[u8]) -> Handled {
    let Some(client) = broker.clients.consumer(group, client_id) else {
        return Err(Refusal::new(codes::SYSTEM_ERROR, format!("The Consumer <{group}> <{client_id}> not online")));
    };
    if client.version < version::V3_1_8_SNAPSHOT {
        let remark = format!(
            "The Consumer <{client_id}> Version <{}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT",
            version::name(client.version)
        );
        return Err(Refusal::new(codes::SYSTEM_ERROR, remark));
    }
    broker.require_room(1)?;
    let own = call.header.fields.iter().map(|(name, value)| (&**name, &**value));
    let fields: Vec<(&str, &str)> =
        own.filter(|(name, _)| !more.iter().any(|(n, _)| n == name)).chain(more.iter().copied()).collect();
    let whose = Whose::Relayed(call.park());
    let waiting = Waiting { group: group.to_owned(), client_id: client_id.to_owned(), whose };
    broker.ask(&client, call.now + RELAY_MS, waiting, call.header.code, &fields, body);
    Ok(())
}

/// GET_CONSUMER_RUNNING_INFO: what a consumer says of itself, with its threads where `jstackEnable` is set.
pub fn get_consumer_running_info(broker: &Broker, call: &mut Call<'_>, request: GetConsumerRunningInfo<'_>) -> Handled {
    relay(broker, call, request.consumer_group, request.client_id, &[], call.body)
}

/// CONSUME_MESSAGE_DIRECTLY: has one consumer consume a stored message.
pub fn consume_message_directly(broker: &Broker, call: &mut Call<'_>, request: ConsumeMessageDirectly<'_>) -> Handled {
    let id = request.msg_id.unwrap_or_default();
    let missing = || Refusal::new(codes::SYSTEM_ERROR, format!("no message is stored here under the offset message id {id:?}"));
    let (_, offset) = message_id::parse_offset_id(id).ok_or_else(missing)?;
    let slice = u64::try_from(offset).ok().and_then(|offset| broker.store.record(offset)).ok_or_else(missing)?;
    record::decode_checked(slice.bytes()).map_err(|_| missing())?;
    let topic_flag = request.topic.and_then(|name| broker.topics.get(name)).map(|topic| topic.topic_sys_flag.to_string());
    let group_flag = broker.find_group(request.consumer_group, call.now).map(|group| group.group_sys_flag.to_string());
    let config = broker.config();
    let mut more = vec![("brokerName", config.broker_name.as_str())];
    more.extend(topic_flag.as_deref().map(|flag| ("topicSysFlag", flag)));
    more.extend(group_flag.as_deref().map(|flag| ("groupSysFlag", flag)));
    relay(broker, call, request.consumer_group, request.client_id.unwrap_or_default(), &more, slice.bytes())
}

/// INVOKE_BROKER_TO_GET_CONSUMER_STATUS: how far the members of a group, or one of them, say that they are in a topic.
pub fn get_consumer_status(broker: &Broker, call: &mut Call<'_>, request: GetConsumerStatus<'_>) -> Handled {
    let members = broker.clients.consumers(request.group);
    if members.is_empty() {
        let remark = format!("No Any Consumer online in the consumer group: [{}]", request.group);
        return Err(Refusal::new(codes::SYSTEM_ERROR, remark));
    }
    require_version(&members)?;
    let wanted = request.client_addr.filter(|id| !id.trim().is_empty());
    let asked: Vec<Client> = members.into_iter().filter(|client| wanted.is_none_or(|id| client.id == id)).collect();
    broker.require_room(asked.len())?;
    // One more than are asked: the table is not whole before all were asked.
    let missing = asked.len() + 1;
    let collected = Arc::new(Mutex::new(Collected { responder: Some(call.park()), missing, table: BTreeMap::new() }));
    let fields = [("topic", request.topic), ("group", request.group)];
    for client in &asked {
        let whose = Whose::Collected(collected.clone());
        let waiting = Waiting { group: request.group.to_owned(), client_id: client.id.clone(), whose };
        broker.ask(client, call.now + STATUS_MS, waiting, GetConsumerStatusFromClient::CODE, &fields, &[]);
    }
    collect(&collected, None);
    Ok(())
}

/// Refuses where a client is too old to be told of offsets.
pub fn require_version(members: &[Client]) -> Handled {
    match members.iter().find(|client| client.version < version::V3_0_7_SNAPSHOT) {
        None => Ok(()),
        Some(old) => {
            let remark = format!("the client does not support this feature. version={}", version::name(old.version));
            Err(Refusal::new(codes::SYSTEM_ERROR, remark))
        }
    }
}
