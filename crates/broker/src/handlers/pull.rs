//! PULL: permission checks, read the queue, filter by tags or properties; where there is nothing, park until there is.

use std::io;
use std::sync::Arc;

use protocol::bodies::{MessageModel, SubscriptionData};
use protocol::exchange::{Call, Refusal};
use protocol::requests::{LitePullMessage, PullMessage, PullMessageReply};
use protocol::sys_flag::pull as flags;
use protocol::{codes, names};
use store::queue::Queue;
use store::{GetLimits, GetResult, GetStatus};

use crate::admission::Reason;
use crate::clients::{Subscribed, Subscription};
use crate::filter;
use crate::handlers::clients::require_property_filter;
use crate::handlers::{Handled, can_read, io_refusal};
use crate::hold::Held;
use crate::{Broker, stats};

/// How long a pull waits at the most, whatever the client asks for.
const MAX_SUSPEND_MS: i64 = 60_000;
/// The longest body that an answer may have.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Java's word, as a remark, for a pull that is told where its group was moved to.
const OFFSET_RESET: &str = "OFFSET_RESET";

/// Which messages a pull wants.
#[derive(Clone, Debug)]
pub enum Filter {
    All,
    /// Those whose tag's hash is one of the subscription's.
    Tags(Arc<Subscription>),
    /// Those whose properties match an SQL92 expression.
    Properties(Arc<filter::Filter>),
}

impl Filter {
    pub fn of(subscription: Arc<Subscription>) -> Self {
        if let Some(Ok(expression)) = &subscription.expression {
            Filter::Properties(expression.clone())
        } else if subscription.data.sub_string.trim() == "*" || subscription.data.code_set.is_empty() {
            Filter::All
        } else {
            Filter::Tags(subscription)
        }
    }

    pub fn matches(&self, tags_code: i64) -> bool {
        match self {
            Filter::All | Filter::Properties(_) => true,
            Filter::Tags(subscription) => subscription.data.code_set.contains(&(tags_code as i32)),
        }
    }

    /// Which properties it wants, where it looks at them.
    pub fn wanted(&self) -> Option<impl Fn(&str) -> bool> {
        match self {
            Filter::All | Filter::Tags(_) => None,
            Filter::Properties(expression) => Some(|text: &str| expression.matches(text)),
        }
    }
}

/// A pull that has been checked.
pub struct Pull {
    group: String,
    topic: String,
    queue: Arc<Queue>,
    offset: i64,
    limits: GetLimits,
    filter: Filter,
    topic_sys_flag: i32,
    group_sys_flag: i32,
    /// The broker to pull from next: where it keeps up, and where it is slow.
    suggest_brokers: [i64; 2],
    /// Offsets that a slave does not have are waited for, as its master has them.
    waits_for_offset: bool,
    /// How long it may wait; 0 where it may not.
    suspend_ms: i64,
}

/// Reads a subscription expression of tags: `*`, or `A || B`.
pub fn parse_tags(topic: &str, expression: &str, version: i64) -> SubscriptionData {
    let expression = if expression.trim().is_empty() { "*" } else { expression };
    let mut subscription = SubscriptionData {
        topic: topic.to_owned(),
        sub_string: expression.to_owned(),
        sub_version: version,
        expression_type: "TAG".into(),
        ..SubscriptionData::default()
    };
    if expression.trim() != "*" {
        for tag in expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()) {
            subscription.tags_set.insert(tag.to_owned());
            subscription.code_set.insert(stdx::java::hash_code(tag));
        }
    }
    subscription
}

pub fn lite_pull_message(broker: &Broker, call: &mut Call<'_>, request: LitePullMessage<'_>) -> Handled {
    pull_message(broker, call, request.into())
}

pub fn pull_message(broker: &Broker, call: &mut Call<'_>, request: PullMessage<'_>) -> Handled {
    let pull = check(broker, call, &request)?;
    if let Some(reply) = reset(broker, &pull, false) {
        call.answer(codes::PULL_OFFSET_MOVED, Some(OFFSET_RESET), &reply, &[]);
        return Ok(());
    }
    let suspend = request.sys_flag & flags::SUSPEND != 0;
    if suspend && request.sys_flag & flags::COMMIT_OFFSET != 0 && request.commit_offset >= 0 && !broker.is_slave() {
        broker.offsets.commit(request.topic, request.consumer_group, request.queue_id, request.commit_offset);
    }
    let result = read(broker, &pull).map_err(|e| io_refusal("reading a consume queue", &e))?;
    if code_of(&result, pull.offset) == codes::PULL_NOT_FOUND && pull.suspend_ms > 0 {
        let queue = pull.queue.clone();
        let held = Held { deadline: call.now + pull.suspend_ms, pull, responder: call.park() };
        let capacity = broker.config().pull_thread_pool_queue_capacity;
        broker.holds.park(&queue, held, capacity).map_err(|_| too_many(broker, capacity))?;
        // A message may have come between the read and the park.
        if queue.max_offset() > request.queue_offset {
            broker.wake(&queue, call.now);
        }
        return Ok(());
    }
    answer(broker, &pull, &result, |code, remark, reply, body| call.answer_with(code, remark, reply, &[], body));
    Ok(())
}

/// Where the pull's group was moved to, if it is to hear of it: not where it is there. One that `waited` may be a pull
/// that its client has forgotten, so the next one hears of it, too.
fn reset(broker: &Broker, pull: &Pull, waited: bool) -> Option<PullMessageReply> {
    let offset = broker.offsets.reset_of(&pull.topic, &pull.group, pull.queue.id)?;
    let told = broker.config().use_server_side_reset_offset && offset != pull.offset;
    if !(told && waited) {
        broker.offsets.take_reset(&pull.topic, &pull.group, pull.queue.id);
    }
    told.then(|| PullMessageReply {
        suggest_which_broker_id: pull.suggest_brokers[0],
        next_begin_offset: offset,
        min_offset: pull.queue.min_offset(),
        max_offset: pull.queue.max_offset(),
        topic_sys_flag: Some(pull.topic_sys_flag),
        group_sys_flag: Some(pull.group_sys_flag),
    })
}

/// Tries a pull that waited once more. Without a message it waits on until its deadline.
pub fn retry(broker: &Broker, mut held: Held, now: i64) {
    if let Some(reply) = reset(broker, &held.pull, true) {
        return held.responder.answer(codes::PULL_OFFSET_MOVED, Some(OFFSET_RESET), &reply, &[], &[]);
    }
    let result = match read(broker, &held.pull) {
        Ok(result) => result,
        Err(error) => {
            let refusal = io_refusal("reading a consume queue", &error);
            return held.responder.answer(refusal.code, Some(&refusal.remark), &(), &[], &[]);
        }
    };
    let nothing =
        result.messages.is_empty() && matches!(result.status, GetStatus::NoMatchedMessage | GetStatus::OffsetOverflowOne);
    if nothing && now < held.deadline {
        // What did not match is not looked at again.
        held.pull.offset = held.pull.offset.max(result.next);
        let (queue, offset) = (held.pull.queue.clone(), held.pull.offset);
        let capacity = broker.config().pull_thread_pool_queue_capacity;
        match broker.holds.park(&queue, held, capacity) {
            Ok(()) if queue.max_offset() > offset => broker.wake(&queue, now),
            Ok(()) => {}
            Err(held) => {
                let refusal = too_many(broker, capacity);
                held.responder.answer(refusal.code, Some(&refusal.remark), &(), &[], &[]);
            }
        }
        return;
    }
    reply_to(broker, held, &result);
}

/// Told that nothing was found, a client would ask again at once; SYSTEM_BUSY has it wait.
fn too_many(broker: &Broker, capacity: i32) -> Refusal {
    let remark = format!(
        "[OVERLOAD]system busy, start flow control for a while: {} pulls wait for messages, pullThreadPoolQueueCapacity is {capacity}",
        broker.holds.count()
    );
    broker.admission.refuse(Reason::PullOverload, remark)
}

fn reply_to(broker: &Broker, held: Held, result: &GetResult) {
    let Held { pull, responder, .. } = held;
    answer(broker, &pull, result, |code, remark, reply, body| responder.answer(code, remark, reply, &[], body));
}

fn check(broker: &Broker, call: &Call<'_>, request: &PullMessage<'_>) -> Result<Pull, Refusal> {
    let config = broker.config();
    if !can_read(config.broker_permission) {
        return Err(Refusal::new(
            codes::NO_PERMISSION,
            format!("the broker[{}] pulling message is forbidden", config.broker_ip1),
        ));
    }
    let Some(group) = broker.find_group(request.consumer_group, call.now) else {
        let remark = format!("subscription group [{}] does not exist", request.consumer_group);
        return Err(Refusal::new(codes::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    };
    if !group.consume_enable {
        return Err(Refusal::new(codes::NO_PERMISSION, format!("subscription group no permission, {}", request.consumer_group)));
    }
    let Some(topic) = broker.topics.get(request.topic) else {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("topic[{}] not exist, apply first please!", request.topic)));
    };
    if !can_read(topic.perm) {
        return Err(Refusal::new(codes::NO_PERMISSION, format!("the topic[{}] pulling message is forbidden", request.topic)));
    }
    if request.queue_id < 0 || request.queue_id >= topic.read_queue_nums {
        let remark = format!(
            "queueId[{}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] consumer:[{}]",
            request.queue_id, request.topic, topic.read_queue_nums, call.connection.remote
        );
        return Err(Refusal::new(codes::INVALID_PARAMETER, remark));
    }
    let filter = filter(broker, request, group.consume_broadcast_enable)?;
    if config.reject_pull_consumer_enable
        && !names::may_pull_unregistered(request.consumer_group)
        && !broker.clients.knows_puller(request.consumer_group, call.connection.id)
    {
        let remark = "the consumer's group info not exist, or the pull consumer is rejected by server.";
        return Err(Refusal::new(codes::SUBSCRIPTION_NOT_EXIST, remark));
    }
    let queue = broker.store.queue(request.topic, request.queue_id).map_err(|e| io_refusal("opening a consume queue", &e))?;
    let suspend_ms = match request.sys_flag & flags::SUSPEND {
        0 => 0,
        _ if config.long_polling_enable => request.suspend_timeout_millis.clamp(0, MAX_SUSPEND_MS),
        _ => config.short_polling_time_mills,
    };
    Ok(Pull {
        group: request.consumer_group.to_owned(),
        topic: request.topic.to_owned(),
        queue,
        offset: request.queue_offset,
        limits: broker.limits(request.max_msg_nums, request.max_msg_bytes.map(|b| (b.max(0) as usize).min(MAX_BYTES))),
        filter,
        topic_sys_flag: topic.topic_sys_flag,
        group_sys_flag: group.group_sys_flag,
        suggest_brokers: match config.slave_read_enable {
            true => [group.broker_id, group.which_broker_when_consume_slowly],
            false => [names::MASTER_ID; 2],
        },
        waits_for_offset: broker.is_slave() && !config.offset_check_in_slave,
        suspend_ms,
    })
}

/// The subscription: in the request, or what the group's heartbeats said.
fn filter(broker: &Broker, request: &PullMessage<'_>, broadcast_enable: bool) -> Result<Filter, Refusal> {
    if request.sys_flag & flags::SUBSCRIPTION != 0 {
        let subscription = in_request(broker, request);
        if let Some(Err(error)) = &subscription.expression {
            let remark = format!("parse the consumer's subscription failed: {error}");
            return Err(Refusal::new(codes::SUBSCRIPTION_PARSE_FAILED, remark));
        }
        if subscription.expression.is_some() {
            require_property_filter(broker, &subscription.data.expression_type)?;
        }
        return Ok(Filter::of(subscription));
    }
    let (model, subscription) = match broker.clients.subscription(request.consumer_group, request.topic) {
        Subscribed::NoGroup => return Err(Refusal::new(codes::SUBSCRIPTION_NOT_EXIST, "the consumer's group info not exist")),
        Subscribed::NoTopic { model } => (model, None),
        Subscribed::Topic { model, subscription } => (model, Some(subscription)),
    };
    if model == MessageModel::Broadcasting && !broadcast_enable {
        let remark = format!("the consumer group[{}] can not consume by broadcast way", request.consumer_group);
        return Err(Refusal::new(codes::NO_PERMISSION, remark));
    }
    if broker.groups.is_forbidden(request.consumer_group, request.topic) {
        let remark = format!("the consumer group[{}] is forbidden for topic[{}]", request.consumer_group, request.topic);
        return Err(Refusal::new(codes::NO_PERMISSION, remark));
    }
    let Some(subscription) = subscription else {
        return Err(Refusal::new(codes::SUBSCRIPTION_NOT_EXIST, "the consumer's subscription not exist"));
    };
    if subscription.data.sub_version < request.sub_version {
        return Err(Refusal::new(codes::SUBSCRIPTION_NOT_LATEST, "the consumer's subscription not latest"));
    }
    if let Some(Err(error)) = &subscription.expression {
        let remark = format!("The broker's consumer filter data is not exist!Your expression may be wrong! {error}");
        return Err(Refusal::new(codes::FILTER_DATA_NOT_EXIST, remark));
    }
    if subscription.expression.is_some() {
        require_property_filter(broker, &subscription.data.expression_type)?;
    }
    Ok(Filter::of(subscription))
}

/// The request's own subscription.
fn in_request(broker: &Broker, request: &PullMessage<'_>) -> Arc<Subscription> {
    let text = request.subscription.unwrap_or("*");
    let kind = request.expression_type.unwrap_or("TAG");
    let data = if matches!(kind, "" | "TAG") {
        parse_tags(request.topic, text, request.sub_version)
    } else {
        SubscriptionData {
            topic: request.topic.to_owned(),
            sub_string: text.to_owned(),
            sub_version: request.sub_version,
            expression_type: kind.to_owned(),
            ..SubscriptionData::default()
        }
    };
    Arc::new(Subscription::new(data, &broker.expressions))
}

fn read(broker: &Broker, pull: &Pull) -> io::Result<GetResult> {
    let mut result = broker.store.get(
        Some(&pull.queue),
        pull.offset,
        &pull.limits,
        |tags_code| pull.filter.matches(tags_code),
        pull.filter.wanted(),
    )?;
    if pull.waits_for_offset && code_of(&result, pull.offset) == codes::PULL_OFFSET_MOVED {
        (result.status, result.next) = (GetStatus::OffsetOverflowOne, pull.offset);
    }
    Ok(result)
}

fn code_of(result: &GetResult, asked: i64) -> i32 {
    match result.status {
        GetStatus::Found => codes::SUCCESS,
        GetStatus::MessageWasRemoving | GetStatus::NoMatchedMessage => codes::PULL_RETRY_IMMEDIATELY,
        GetStatus::OffsetFoundNull | GetStatus::OffsetOverflowOne => codes::PULL_NOT_FOUND,
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue if asked == 0 => codes::PULL_NOT_FOUND,
        _ => codes::PULL_OFFSET_MOVED,
    }
}

fn answer(broker: &Broker, pull: &Pull, result: &GetResult, give: impl FnOnce(i32, Option<&str>, &PullMessageReply, &[&[u8]])) {
    let counters = &broker.stats.counters;
    if result.messages.is_empty() {
        stats::add(&counters.gets_missed, 1);
    } else {
        stats::add(&counters.gets_found, 1);
        stats::add(&counters.messages_got, result.messages.len() as u64);
        let bytes: usize = result.messages.iter().map(|slice| slice.bytes().len()).sum();
        broker.stats.got(&pull.topic, &pull.group, result.messages.len() as u64, bytes as u64);
        broker.offsets.pulled(&pull.topic, &pull.group, pull.queue.id, result.next);
    }
    let slow = result.behind > pull.limits.cold_distance;
    // Whoever keeps up reads from the master while it is there.
    let suggested = if !slow && broker.follows() { names::MASTER_ID } else { pull.suggest_brokers[usize::from(slow)] };
    let reply = PullMessageReply {
        suggest_which_broker_id: suggested,
        next_begin_offset: result.next,
        min_offset: result.min,
        max_offset: result.max,
        topic_sys_flag: Some(pull.topic_sys_flag),
        group_sys_flag: Some(pull.group_sys_flag),
    };
    let body: Vec<&[u8]> = result.messages.iter().map(|slice| slice.bytes()).collect();
    give(code_of(result, pull.offset), Some(result.status.name()), &reply, &body);
}
