//! Topics and consumer groups: making, changing, deleting and showing them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use protocol::bodies::{
    ConsumeStats, ConsumeStatsList, GroupConfigList, GroupForbidden, GroupList, MessageQueue, OffsetWrapper,
    SubscriptionGroupConfig, TopicConfig, TopicConfigList, TopicFilterType, TopicList, TopicOffset, TopicStats,
};
use protocol::exchange::{Call, Refusal};
use protocol::pop::Source;
use protocol::requests::{
    CreateTopic, DeleteSubscriptionGroup, DeleteTopicInBroker, GetBrokerConsumeStats, GetConsumeStats,
    GetSubscriptionGroupConfig, GetTopicConfig, GetTopicStats, QueryTopicConsumeByWho, QueryTopicsByConsumer, SendMessage,
    UpdateAndGetGroupForbidden,
};
use protocol::sys_flag::{perm, topic as flags};
use protocol::{codes, fastjson, names};

use crate::Broker;
use crate::handlers::{Handled, io_refusal};

/// The most queues that a topic may have: as many as clients could ever rebalance.
const MAX_QUEUES: i32 = 65_535;

impl Broker {
    /// The topics that every broker has, in Java's settings.
    pub(crate) fn create_system_topics(&self, now: i64) -> std::io::Result<()> {
        let config = self.config();
        let (read_write, inherit) = (perm::READ | perm::WRITE, perm::INHERIT);
        let when = |enabled: bool| inherit | if enabled { read_write } else { 0 };
        let cluster = &config.broker_cluster_name;
        let mut topics = vec![
            TopicConfig::new(names::SELF_TEST_TOPIC, 1, read_write),
            TopicConfig::new(names::BENCHMARK_TOPIC, 1024, read_write),
            TopicConfig::new(cluster, 16, when(config.cluster_topic_enable)),
            TopicConfig::new(&config.broker_name, 1, when(config.broker_topic_enable)),
            TopicConfig::new(names::OFFSET_MOVED_EVENT, 1, read_write),
            TopicConfig::new(names::SCHEDULE_TOPIC, self.schedule.levels().max(18) as i32, read_write),
            TopicConfig::new(&format!("{cluster}_{}", names::REPLY_TOPIC_SUFFIX), 1, read_write),
            TopicConfig::new(&format!("rmq_sys_REVIVE_LOG_{cluster}"), config.revive_queue_num, read_write),
            TopicConfig::new(&format!("rmq_sys_SYNC_BROKER_MEMBER_{}", config.broker_name), 1, inherit),
            TopicConfig::new(names::TRANS_HALF_TOPIC, 1, read_write),
            TopicConfig::new(names::TRANS_OP_HALF_TOPIC, 1, read_write),
        ];
        if config.timer_wheel_enable {
            topics.push(TopicConfig::new(names::WHEEL_TIMER_TOPIC, 1, read_write));
        }
        if config.auto_create_topic_enable {
            topics.push(TopicConfig::new(names::DEFAULT_TOPIC, config.default_topic_queue_nums, when(true)));
        }
        if config.trace_topic_enable {
            topics.push(TopicConfig::new(&config.msg_trace_topic_name, 1, read_write));
        }
        // A topic that is kept from an earlier run may have been changed; it stays as it is.
        let missing = topics.into_iter().filter(|topic| self.topics.get(&topic.topic_name).is_none());
        self.topics.put(missing.map(|topic| (topic.topic_name.clone(), topic)), now)
    }

    /// Makes the topic of a send from the default topic that it names, where that is allowed.
    pub(crate) fn create_topic_for_send(&self, request: &SendMessage<'_>, call: &Call<'_>) -> Result<Arc<TopicConfig>, Refusal> {
        let name = request.topic;
        let unit = request.unit_mode == Some(true);
        if name.starts_with(names::RETRY_PREFIX) {
            return self.create_group_topic(name, 1, unit, call.now);
        }
        let allowed = request.default_topic != names::DEFAULT_TOPIC || self.config().auto_create_topic_enable;
        let default = self.topics.get(request.default_topic).filter(|topic| allowed && topic.perm & perm::INHERIT != 0);
        let Some(default) = default else {
            tracing::warn!(
                "topic {name} does not exist and is not made: default topic {} does not pass its settings on",
                request.default_topic
            );
            return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("topic[{name}] not exist, apply first please!")));
        };
        let queues = request.default_topic_queue_nums.min(default.write_queue_nums).max(0);
        let topic = TopicConfig {
            topic_filter_type: default.topic_filter_type,
            topic_sys_flag: if unit { flags::UNIT } else { 0 },
            ..TopicConfig::new(name, queues, default.perm & !perm::INHERIT)
        };
        tracing::info!("topic {name} made with {queues} queues by a send from {}", call.connection.remote);
        self.put_topic(topic, call.now)
    }

    /// The retry or dead letter topic of a group, made where it is missing.
    pub(crate) fn create_retry_topic(&self, name: &str, queues: i32, now: i64) -> Result<Arc<TopicConfig>, Refusal> {
        self.create_group_topic(name, queues, false, now)
    }

    /// [`Broker::create_retry_topic`]; the topic of consumers in unit mode says so.
    pub(crate) fn create_group_topic(&self, name: &str, queues: i32, unit: bool, now: i64) -> Result<Arc<TopicConfig>, Refusal> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(topic);
        }
        let topic_sys_flag = if unit { flags::UNIT_SUB } else { 0 };
        self.put_topic(TopicConfig { topic_sys_flag, ..TopicConfig::new(name, queues, perm::READ | perm::WRITE) }, now)
    }

    fn put_topic(&self, topic: TopicConfig, now: i64) -> Result<Arc<TopicConfig>, Refusal> {
        let name = topic.topic_name.clone();
        self.topics.put([(name.clone(), topic)], now).map_err(|e| io_refusal("saving topics.json", &e))?;
        self.shell.register_wanted();
        self.topics
            .get(&name)
            .ok_or_else(|| Refusal::new(codes::TOPIC_NOT_EXIST, format!("topic[{name}] was deleted at the same time")))
    }

    /// A group's settings; groups are made on first use where `autoCreateSubscriptionGroup` allows it.
    pub(crate) fn find_group(&self, name: &str, now: i64) -> Option<Arc<SubscriptionGroupConfig>> {
        if let Some(group) = self.groups.get(name) {
            return Some(group);
        }
        let allowed =
            self.config().auto_create_subscription_group || names::is_system_group(name) || name == names::TOOLS_CONSUMER_GROUP;
        if !allowed || names::check_group(name).is_err() {
            return None;
        }
        let group = SubscriptionGroupConfig { group_name: name.to_owned(), ..SubscriptionGroupConfig::default() };
        if let Err(error) = self.groups.put([(name.to_owned(), group)], now) {
            tracing::error!("saving subscriptionGroup.json: {error}");
        }
        self.groups.get(name)
    }
}

pub fn create_topic(broker: &Broker, call: &mut Call<'_>, request: CreateTopic<'_>) -> Handled {
    let name = request.topic;
    check_own_topic(broker, name)?;
    let topic_filter_type = match request.topic_filter_type {
        "MULTI_TAG" => TopicFilterType::MultiTag,
        "SINGLE_TAG" => TopicFilterType::SingleTag,
        other => {
            let remark = format!("topicFilterType {other:?} is neither SINGLE_TAG nor MULTI_TAG");
            return Err(Refusal::new(codes::SYSTEM_ERROR, remark));
        }
    };
    let topic = TopicConfig {
        attributes: BTreeMap::new(),
        order: request.order,
        perm: request.perm,
        read_queue_nums: request.read_queue_nums,
        topic_filter_type,
        topic_name: name.to_owned(),
        topic_sys_flag: request.topic_sys_flag.unwrap_or(0),
        write_queue_nums: request.write_queue_nums,
    };
    check_queues(&topic)?;
    let changes = request.attributes.unwrap_or_default().split(',');
    let topic = with_attributes(broker, topic, changes)?;
    broker.put_topic(topic, call.now)?;
    reply_when_registered(broker, call);
    Ok(())
}

/// UPDATE_AND_CREATE_TOPIC_LIST: all of them, or none.
pub fn create_topics(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let list: TopicConfigList = fastjson::from_slice(call.body)?;
    let mut topics = Vec::with_capacity(list.topic_config_list.len());
    for mut topic in list.topic_config_list {
        check_own_topic(broker, &topic.topic_name)?;
        check_queues(&topic)?;
        let set = |(key, value): (String, String)| if value.is_empty() { key } else { format!("{key}={value}") };
        let changes: Vec<String> = std::mem::take(&mut topic.attributes).into_iter().map(set).collect();
        topics.push(with_attributes(broker, topic, changes.iter().map(String::as_str))?);
    }
    let rows = topics.into_iter().map(|topic| (topic.topic_name.clone(), topic));
    broker.topics.put(rows, call.now).map_err(|e| io_refusal("saving topics.json", &e))?;
    broker.shell.register_wanted();
    reply_when_registered(broker, call);
    Ok(())
}

/// Refuses names that are none or belong to the broker.
fn check_own_topic(broker: &Broker, name: &str) -> Handled {
    names::check_topic(name).map_err(|e| Refusal::new(codes::INVALID_PARAMETER, e.to_string()))?;
    let config = broker.config();
    if config.validate_system_topic_when_update_topic && (names::is_system_topic(name) || name == config.broker_cluster_name) {
        return Err(Refusal::new(codes::INVALID_PARAMETER, format!("The topic[{name}] is conflict with system topic.")));
    }
    Ok(())
}

fn check_queues(topic: &TopicConfig) -> Handled {
    let queues = 1..=MAX_QUEUES;
    if queues.contains(&topic.read_queue_nums) && queues.contains(&topic.write_queue_nums) {
        return Ok(());
    }
    let remark = format!(
        "topic {}: {} queues to read and {} to write: between 1 and {MAX_QUEUES} are possible",
        topic.topic_name, topic.read_queue_nums, topic.write_queue_nums
    );
    Err(Refusal::new(codes::INVALID_PARAMETER, remark))
}

/// The topic with the attributes that it has already, and their changes.
fn with_attributes<'c>(
    broker: &Broker,
    mut topic: TopicConfig,
    changes: impl Iterator<Item = &'c str>,
) -> Result<TopicConfig, Refusal> {
    let old = broker.topics.get(&topic.topic_name);
    topic.attributes = change_attributes(old.map(|o| o.attributes.clone()).unwrap_or_default(), changes)?;
    Ok(topic)
}

/// Answers SUCCESS once the name servers were told.
fn reply_when_registered(broker: &Broker, call: &mut Call<'_>) {
    match broker.next_registration() {
        None => call.reply(&()),
        Some(ticket) => {
            let mut answer = BytesMut::new();
            call.park().answer_into(codes::SUCCESS, None, &(), &[], &[], &mut answer);
            broker.answer_when_registered(ticket, call.connection, answer.freeze(), call.now);
        }
    }
}

/// Applies `+key=value,-key` to a topic's attributes, which are kept with a leading `+` as Java does.
fn change_attributes<'c>(
    mut attributes: BTreeMap<String, String>,
    changes: impl Iterator<Item = &'c str>,
) -> Result<BTreeMap<String, String>, Refusal> {
    for change in changes.map(str::trim).filter(|c| !c.is_empty()) {
        match (change.split_at(1), change[1..].split_once('=')) {
            (("+", _), Some((key, value))) => drop(attributes.insert(key.to_owned(), value.to_owned())),
            (("-", key), None) => drop(attributes.remove(key)),
            _ => {
                let remark = format!("attribute {change:?} is neither +key=value nor -key");
                return Err(Refusal::new(codes::INVALID_PARAMETER, remark));
            }
        }
    }
    Ok(attributes)
}

pub fn delete_topic(broker: &Broker, call: &mut Call<'_>, request: DeleteTopicInBroker<'_>) -> Handled {
    let name = request.topic;
    if name.trim().is_empty() {
        return Err(Refusal::new(codes::INVALID_PARAMETER, "The specified topic is blank."));
    }
    if names::is_system_topic(name) || *name == broker.config().broker_cluster_name {
        return Err(Refusal::new(codes::INVALID_PARAMETER, format!("The topic[{name}] is conflict with system topic.")));
    }
    // As in Java, what groups popped of it and get again goes, too.
    let retries = |group: String| [Source::RetryV1, Source::RetryV2].map(|source| source.topic(name, &group).into_owned());
    let retries: Vec<_> = broker.offsets.groups_of(name).into_iter().flat_map(retries).collect();
    delete(broker, name, call.now)?;
    retries.iter().filter(|topic| broker.topics.get(topic).is_some()).try_for_each(|topic| delete(broker, topic, call.now))?;
    broker.shell.register_wanted();
    call.reply(&());
    Ok(())
}

fn delete(broker: &Broker, name: &str, now: i64) -> Handled {
    broker.topics.remove(name, now).map_err(|e| io_refusal("saving topics.json", &e))?;
    let woken = broker.store.delete_topic(name).map_err(|e| io_refusal("removing the topic's consume queues", &e))?;
    woken.iter().for_each(|queue| broker.wake(queue, now));
    broker.offsets.remove(|topic, _| topic == name);
    broker.stats.forget_topic(name);
    Ok(())
}

pub fn get_all_topic_config(broker: &Broker, call: &mut Call<'_>) -> Handled {
    call.reply_body(&fastjson::to_vec(&broker.topics.file()));
    Ok(())
}

pub fn get_topic_config(broker: &Broker, call: &mut Call<'_>, request: GetTopicConfig<'_>) -> Handled {
    let Some(topic) = broker.topics.get(request.topic) else {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("No topic in this broker. topic: {}", request.topic)));
    };
    call.reply_body(&fastjson::to_vec(&*topic));
    Ok(())
}

pub fn get_system_topics(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let config = broker.config();
    let own = [&config.broker_name, &config.broker_cluster_name];
    let names = broker.topics.names().into_iter().filter(|name| names::is_system_topic(name) || own.contains(&name));
    call.reply_body(&fastjson::to_vec(&TopicList { topic_list: names.collect(), broker_addr: None }));
    Ok(())
}

pub fn get_topic_stats(broker: &Broker, call: &mut Call<'_>, request: GetTopicStats<'_>) -> Handled {
    let Some(topic) = broker.topics.get(request.topic) else {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("topic[{}] not exist", request.topic)));
    };
    let mut offset_table = BTreeMap::new();
    for queue_id in 0..topic.write_queue_nums.max(topic.read_queue_nums) {
        let offset = broker.store.find_queue(request.topic, queue_id).map_or_else(TopicOffset::default, |queue| {
            let (min_offset, max_offset) = (queue.min_offset(), queue.max_offset());
            let last = if max_offset > min_offset { broker.store.store_timestamp(&queue, max_offset - 1) } else { None };
            TopicOffset { last_update_timestamp: last.unwrap_or(0), max_offset, min_offset }
        });
        offset_table.insert(message_queue(broker, request.topic, queue_id), offset);
    }
    let topic_put_tps = broker.stats.topic_put_tps(request.topic, call.now);
    call.reply_body(&fastjson::to_vec(&TopicStats { offset_table, topic_put_tps }));
    Ok(())
}

pub(crate) fn message_queue(broker: &Broker, topic: &str, queue_id: i32) -> MessageQueue {
    MessageQueue { topic: topic.to_owned(), broker_name: broker.config().broker_name.clone(), queue_id }
}

pub fn update_subscription_group(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let group: SubscriptionGroupConfig = fastjson::from_slice(call.body)?;
    names::check_group(&group.group_name).map_err(|e| Refusal::new(codes::INVALID_PARAMETER, e.to_string()))?;
    let saved = broker.groups.put([(group.group_name.clone(), group)], call.now);
    saved.map_err(|e| io_refusal("saving subscriptionGroup.json", &e))?;
    call.reply(&());
    Ok(())
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST: all of them, or none.
pub fn update_subscription_groups(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let list: GroupConfigList = fastjson::from_slice(call.body)?;
    for group in &list.group_config_list {
        names::check_group(&group.group_name).map_err(|e| Refusal::new(codes::INVALID_PARAMETER, e.to_string()))?;
    }
    let rows = list.group_config_list.into_iter().map(|group| (group.group_name.clone(), group));
    broker.groups.put(rows, call.now).map_err(|e| io_refusal("saving subscriptionGroup.json", &e))?;
    call.reply(&());
    Ok(())
}

/// UPDATE_AND_GET_GROUP_FORBIDDEN: whether a group may read a topic, after it was changed where that is asked for.
pub fn group_forbidden(broker: &Broker, call: &mut Call<'_>, request: UpdateAndGetGroupForbidden<'_>) -> Handled {
    let (group, topic) = (request.group, request.topic);
    if let Some(readable) = request.readable {
        let saved = broker.groups.forbid(group, topic, !readable, call.now);
        saved.map_err(|e| io_refusal("saving subscriptionGroup.json", &e))?;
    }
    let readable = !broker.groups.is_forbidden(group, topic);
    let body = GroupForbidden { group: group.to_owned(), topic: topic.to_owned(), readable };
    call.answer(codes::SUCCESS, Some(""), &(), &fastjson::to_vec(&body));
    Ok(())
}

pub fn delete_subscription_group(broker: &Broker, call: &mut Call<'_>, request: DeleteSubscriptionGroup<'_>) -> Handled {
    let saved = |e| io_refusal("saving subscriptionGroup.json", &e);
    let gone = broker.groups.remove(request.group_name, call.now).map_err(saved)?;
    broker.groups.change_rest(call.now, |forbidden| drop(forbidden.remove(request.group_name))).map_err(saved)?;
    if !gone {
        tracing::info!("consumer group {} was to be deleted and is not there", request.group_name);
    }
    if request.clean_offset == Some(true) {
        broker.offsets.remove(|_, group| group == request.group_name);
    }
    call.reply(&());
    Ok(())
}

pub fn get_all_subscription_group(broker: &Broker, call: &mut Call<'_>) -> Handled {
    call.reply_body(&fastjson::to_vec(&broker.groups.file()));
    Ok(())
}

pub fn get_subscription_group_config(broker: &Broker, call: &mut Call<'_>, request: GetSubscriptionGroupConfig<'_>) -> Handled {
    let Some(group) = broker.find_group(request.group, call.now) else {
        return Err(Refusal::new(
            codes::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("No group in this broker. group: {}", request.group),
        ));
    };
    call.reply_body(&fastjson::to_vec(&*group));
    Ok(())
}

pub fn get_consume_stats(broker: &Broker, call: &mut Call<'_>, request: GetConsumeStats<'_>) -> Handled {
    let group = request.consumer_group;
    let listed: Vec<String> =
        request.topic_list.unwrap_or_default().split(';').filter(|t| !t.is_empty()).map(str::to_owned).collect();
    let topics = match request.topic.filter(|topic| !topic.trim().is_empty()) {
        _ if !listed.is_empty() => listed,
        Some(topic) => consumed_topics(broker, group, vec![topic.to_owned()]),
        None => consumed_topics(broker, group, broker.offsets.topics_of(group)),
    };
    let mut all = ConsumeStats::default();
    for topic in topics {
        let Some(config) = broker.topics.get(&topic) else { continue };
        let stats = topic_progress(broker, group, &topic, config.read_queue_nums, call.now);
        all.offset_table.extend(stats.offset_table);
        all.consume_tps += stats.consume_tps;
    }
    call.reply_body(&fastjson::to_vec(&all));
    Ok(())
}

/// Those of the topics that a group still consumes: an online group's subscriptions say which.
fn consumed_topics(broker: &Broker, group: &str, mut topics: Vec<String>) -> Vec<String> {
    let subscribed = broker.clients.topics_of(group);
    topics.retain(|topic| subscribed.is_empty() || subscribed.contains(topic));
    topics
}

fn topic_progress(broker: &Broker, group: &str, topic: &str, queues: i32, now: i64) -> ConsumeStats {
    let one = |queue_id| (message_queue(broker, topic, queue_id), consume_offsets(broker, group, topic, queue_id));
    let consume_tps = broker.stats.group_get_tps(topic, group, now);
    ConsumeStats { consume_tps, offset_table: (0..queues).map(one).collect() }
}

/// GET_BROKER_CONSUME_STATS: the progress of every group in every topic, or in ordered topics alone.
pub fn get_broker_consume_stats(broker: &Broker, call: &mut Call<'_>, request: GetBrokerConsumeStats) -> Handled {
    let mut list = ConsumeStatsList { broker_addr: Some(broker.address()), ..ConsumeStatsList::default() };
    for group in broker.groups.names() {
        let mut progress = Vec::new();
        for topic in consumed_topics(broker, &group, broker.offsets.topics_of(&group)) {
            let Some(config) = broker.topics.get(&topic).filter(|topic| topic.order || !request.is_order) else { continue };
            let stats = topic_progress(broker, &group, &topic, config.write_queue_nums, call.now);
            list.total_diff += stats.offset_table.values().map(|o| o.broker_offset - o.consumer_offset).sum::<i64>();
            list.total_inflight_diff += stats.offset_table.values().map(|o| o.pull_offset - o.consumer_offset).sum::<i64>();
            progress.push(stats);
        }
        list.consume_stats_list.push(BTreeMap::from([(group, progress)]));
    }
    call.reply_body(&fastjson::to_vec(&list));
    Ok(())
}

fn consume_offsets(broker: &Broker, group: &str, topic: &str, queue_id: i32) -> OffsetWrapper {
    let queue = broker.store.find_queue(topic, queue_id);
    let broker_offset = queue.as_ref().map_or(0, |q| q.max_offset());
    let consumer_offset = broker.offsets.committed(topic, group, queue_id).unwrap_or(0);
    let pull_offset = broker.offsets.last_pulled(topic, group, queue_id).unwrap_or(0).max(consumer_offset);
    let last = queue.filter(|_| consumer_offset > 0).and_then(|q| broker.store.store_timestamp(&q, consumer_offset - 1));
    OffsetWrapper { broker_offset, consumer_offset, last_timestamp: last.unwrap_or(0), pull_offset }
}

pub fn query_topic_consume_by_who(broker: &Broker, call: &mut Call<'_>, request: QueryTopicConsumeByWho<'_>) -> Handled {
    let mut groups = broker.clients.groups_of(request.topic);
    groups.extend(broker.offsets.groups_of(request.topic));
    call.reply_body(&fastjson::to_vec(&GroupList { group_list: groups.into_iter().collect() }));
    Ok(())
}

pub fn query_topics_by_consumer(broker: &Broker, call: &mut Call<'_>, request: QueryTopicsByConsumer<'_>) -> Handled {
    let topics = broker.offsets.topics_of(request.group);
    let broker_addr = Some(broker.address());
    call.reply_body(&fastjson::to_vec(&TopicList { topic_list: topics.into_iter().collect(), broker_addr }));
    Ok(())
}
