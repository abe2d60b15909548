//! Looking into queues, subscriptions and figures, and having them cleaned.

use protocol::bodies::{ConsumeTimeSpans, GroupSubscription, QueueEntries, QueueEntry, QueueTimeSpan};
use protocol::exchange::{Call, Refusal};
use protocol::requests::{QueryConsumeQueue, QueryConsumeTimeSpan, QuerySubscriptionByConsumer, ViewBrokerStatsData};
use protocol::{codes, fastjson};
use store::queue::{Entry, Queue};
use store::queue_ext;

use crate::Broker;
use crate::clients::Subscribed;
use crate::handlers::topics::message_queue;
use crate::handlers::{Handled, io_refusal};

/// Queue entries that one answer holds at the most.
const MAX_ENTRIES: usize = 10_000;
/// Queue entries read in one go.
const ENTRIES: usize = 64;

/// VIEW_BROKER_STATS_DATA: a figure over the last minute, hour and day.
pub fn view_broker_stats_data(broker: &Broker, call: &mut Call<'_>, request: ViewBrokerStatsData<'_>) -> Handled {
    let ViewBrokerStatsData { stats_name, stats_key } = request;
    let Some(data) = broker.stats.data(stats_name, stats_key, call.now) else {
        return Err(Refusal::new(codes::SYSTEM_ERROR, format!("The stats <{stats_name}> <{stats_key}> not exist")));
    };
    call.reply_body(&fastjson::to_vec(&data));
    Ok(())
}

/// QUERY_CONSUME_TIME_SPAN: how far a group is in each queue of a topic, in store times.
pub fn query_consume_time_span(broker: &Broker, call: &mut Call<'_>, request: QueryConsumeTimeSpan<'_>) -> Handled {
    let topic = request.topic;
    let Some(config) = broker.topics.get(topic) else {
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
    };
    let span = |id: i32| {
        let message_queue = message_queue(broker, topic, id).into();
        let queue = broker.store.find_queue(topic, id);
        // Java's word for "no such message".
        let stored = |offset: i64| queue.as_ref().and_then(|q| broker.store.store_timestamp(q, offset)).unwrap_or(-1);
        let (min, max) = queue.as_ref().map_or((0, 0), |q| (q.min_offset(), q.max_offset()));
        let consumed = broker.offsets.committed(topic, request.group, id).unwrap_or(-1);
        let min_time_stamp = stored(min);
        QueueTimeSpan {
            message_queue,
            min_time_stamp,
            max_time_stamp: stored(max - 1),
            consume_time_stamp: if consumed > 0 { stored(consumed - 1) } else { min_time_stamp },
            delay_time: if consumed < max { call.now - stored(consumed.max(min)) } else { 0 },
        }
    };
    let consume_time_span_set = (0..config.write_queue_nums).map(span).collect();
    call.reply_body(&fastjson::to_vec(&ConsumeTimeSpans { consume_time_span_set }));
    Ok(())
}

/// QUERY_SUBSCRIPTION_BY_CONSUMER: what an online group wants of a topic.
pub fn query_subscription_by_consumer(broker: &Broker, call: &mut Call<'_>, request: QuerySubscriptionByConsumer<'_>) -> Handled {
    let subscription_data = match broker.clients.subscription(request.group, request.topic.unwrap_or_default()) {
        Subscribed::Topic { subscription, .. } => Some(subscription.data.clone()),
        Subscribed::NoGroup | Subscribed::NoTopic { .. } => None,
    };
    let (group, topic) = (request.group.to_owned(), request.topic.map(str::to_owned));
    call.reply_body(&fastjson::to_vec(&GroupSubscription { group, subscription_data, topic }));
    Ok(())
}

/// QUERY_CONSUME_QUEUE: entries of a queue as they stand.
pub fn query_consume_queue(broker: &Broker, call: &mut Call<'_>, request: QueryConsumeQueue<'_>) -> Handled {
    let (topic, id, index) = (request.topic, request.queue_id, request.index);
    let Some(queue) = broker.store.find_queue(topic, id) else {
        return Err(Refusal::new(codes::SYSTEM_ERROR, format!("{id}@{topic} is not exist!")));
    };
    let mut body =
        QueueEntries { max_queue_index: queue.max_offset(), min_queue_index: queue.min_offset(), ..QueueEntries::default() };
    if let Some(group) = request.consumer_group {
        match broker.clients.subscription(group, topic) {
            Subscribed::Topic { subscription, .. } => {
                // Java shows the compiled filter of an SQL92 subscription here, and `null` for tags.
                body.filter_data = Some("null".to_owned());
                body.subscription_data = Some(subscription.data.clone());
            }
            Subscribed::NoGroup | Subscribed::NoTopic { .. } => {
                body.filter_data = Some(format!("{group}@{topic} is not online!"));
            }
        }
    }
    if index < body.min_queue_index || index >= body.max_queue_index {
        let remark = format!("Index {index} of {id}@{topic} is not exist!");
        call.answer(codes::SUCCESS, Some(&remark), &(), &[]);
        return Ok(());
    }
    let count = (request.count.max(0) as usize).min(MAX_ENTRIES);
    body.queue_data = Some(entries(&queue, index, count).map_err(|e| io_refusal("reading a consume queue", &e))?);
    call.reply_body(&fastjson::to_vec(&body));
    Ok(())
}

fn entries(queue: &Queue, from: i64, count: usize) -> std::io::Result<Vec<QueueEntry>> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut read = [Entry::default(); ENTRIES];
        let wanted = ENTRIES.min(count - all.len());
        let got = queue.read(from + all.len() as i64, &mut read[..wanted])?;
        if got == 0 {
            break;
        }
        all.extend(read[..got].iter().map(|entry| QueueEntry {
            physic_offset: entry.offset,
            physic_size: entry.size,
            tags_code: entry.tags_code,
            msg: queue_ext::is_address(entry.tags_code).then(|| format!("Cq extend not exist!addr: {}", entry.tags_code)),
            ..QueueEntry::default()
        }));
    }
    Ok(all)
}

/// CLEAN_EXPIRED_CONSUMEQUEUE: queue and index files go of which the log has no message any more.
pub fn clean_expired_consume_queue(broker: &Broker, call: &mut Call<'_>) -> Handled {
    broker.storage.clean_derived_soon();
    call.reply(&());
    Ok(())
}

/// DELETE_EXPIRED_COMMITLOG: commit log files go that are older than `fileReservedTime`, at any hour.
pub fn delete_expired_commit_log(broker: &Broker, call: &mut Call<'_>) -> Handled {
    broker.storage.clean_log_soon();
    call.reply(&());
    Ok(())
}

/// CLEAN_UNUSED_TOPIC: the queues of topics go that the broker has no longer.
pub fn clean_unused_topic(broker: &Broker, call: &mut Call<'_>) -> Handled {
    for topic in broker.unlisted_topics(|topic| broker.topics.get(topic).is_some()) {
        tracing::info!("topic {topic} is no longer there: its queues are removed");
        let woken = broker.store.delete_topic(&topic).map_err(|e| io_refusal("removing a topic's consume queues", &e))?;
        woken.iter().for_each(|queue| broker.wake(queue, call.now));
    }
    call.reply(&());
    Ok(())
}
