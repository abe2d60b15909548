//! Heartbeats, members of groups, queue locks.

use protocol::bodies::{
    CheckClient, ConsumeType, ConsumerData, ConsumerIdList, HeartbeatData, LockBatch, LockBatchReply, MessageModel,
    ProducerConnection, ProducerTable,
};
use protocol::exchange::{Call, Connection, Refusal};
use protocol::requests::{
    GetConsumerConnectionList, GetConsumerListByGroup, GetProducerConnectionList, NotifyConsumerIdsChanged, UnregisterClient,
};
use protocol::{codes, fastjson, names};

use crate::Broker;
use crate::clients::{Beat, Client, Subscription};
use crate::handlers::Handled;

pub fn heartbeat(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let heartbeat: HeartbeatData = fastjson::from_slice(call.body)
        .inspect_err(|error| tracing::warn!("a heartbeat from {} can't be read: {error}", call.connection.remote))?;
    let client = Client {
        connection: call.connection.clone(),
        id: heartbeat.client_id,
        language: call.header.language,
        version: call.header.version,
        heard: call.now,
    };
    // Without a fingerprint there is no word on subscriptions that are left out.
    let fingerprint = heartbeat.heartbeat_fingerprint;
    let beat = Beat { fingerprint, without_subscriptions: heartbeat.without_sub && fingerprint != 0 };
    let mut say_all_again = fingerprint == 0;
    let rejects_pullers = broker.config().reject_pull_consumer_enable;
    let rejected = |consumer: &&ConsumerData| rejects_pullers && consumer.consume_type == ConsumeType::Actively;
    for consumer in heartbeat.consumer_data_set.iter().filter(|consumer| !rejected(consumer)) {
        say_all_again |= register_consumer(broker, call.now, consumer, client.clone(), beat)?;
    }
    for producer in &heartbeat.producer_data_set {
        broker.clients.register_producer(&producer.group_name, client.clone());
    }
    let fields = [("IS_SUPPORT_HEART_BEAT_V2", "true"), ("IS_SUB_CHANGE", if say_all_again { "true" } else { "false" })];
    call.answer_with(codes::SUCCESS, None, &(), &fields, &[]);
    Ok(())
}

/// Says before a consumer starts whether its subscription can be served.
pub fn check_client_config(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let request: CheckClient = fastjson::from_slice(call.body)?;
    let subscription = request.subscription_data.map(|data| Subscription::new(data, &broker.expressions));
    if let Some(Subscription { data, expression: Some(expression) }) = subscription {
        require_property_filter(broker, &data.expression_type)?;
        expression.map_err(|error| {
            let remark = format!("the expression \"{}\" can't be read: {error}", data.sub_string);
            Refusal::new(codes::SUBSCRIPTION_PARSE_FAILED, remark)
        })?;
    }
    call.reply(&());
    Ok(())
}

/// Filters other than tags are served where `enablePropertyFilter` is on.
pub fn require_property_filter(broker: &Broker, kind: &str) -> Result<(), Refusal> {
    if broker.config().enable_property_filter {
        return Ok(());
    }
    Err(Refusal::new(codes::SYSTEM_ERROR, format!("The broker does not support consumer to filter message by {kind}")))
}

/// Whether the client is to say its subscriptions again.
fn register_consumer(broker: &Broker, now: i64, consumer: &ConsumerData, client: Client, beat: Beat) -> Result<bool, Refusal> {
    let group = broker.find_group(&consumer.group_name, now);
    if let Some(group) = &group {
        let name = names::retry_topic(&consumer.group_name);
        broker.create_group_topic(&name, group.retry_queue_nums, consumer.unit_mode, now)?;
    }
    let changed = broker.clients.register_consumer(consumer, client, beat, &broker.expressions);
    if changed.group && consumer.message_model == MessageModel::Clustering {
        notify_members(broker, &consumer.group_name);
    }
    Ok(changed.fingerprint)
}

/// Tells a group's members that they are others than before, so that they share the queues anew.
fn notify_members(broker: &Broker, group: &str) {
    let wanted = broker.config().notify_consumer_ids_changed_enable
        && broker.groups.get(group).is_none_or(|g| g.notify_consumer_ids_changed_enable);
    if wanted {
        for connection in broker.clients.members(group) {
            connection.send_oneway(&NotifyConsumerIdsChanged { consumer_group: group }, &[]);
        }
    }
}

pub fn unregister_client(broker: &Broker, call: &mut Call<'_>, request: UnregisterClient<'_>) -> Handled {
    if broker.clients.unregister(call.connection.id, request.producer_group, request.consumer_group)
        && let Some(group) = request.consumer_group
    {
        notify_members(broker, group);
    }
    call.reply(&());
    Ok(())
}

/// A closed connection takes its clients out of their groups at once.
pub fn connection_closed(broker: &Broker, connection: &Connection) {
    for group in broker.clients.closed(connection.id) {
        notify_members(broker, &group);
    }
}

/// Forgets clients that are silent.
pub fn expire(broker: &Broker, now: i64) {
    for group in broker.clients.expire(now) {
        notify_members(broker, &group);
    }
}

pub fn get_consumer_list_by_group(broker: &Broker, call: &mut Call<'_>, request: GetConsumerListByGroup<'_>) -> Handled {
    let consumer_id_list = broker.clients.consumer_ids(request.consumer_group);
    if consumer_id_list.is_empty() {
        return Err(Refusal::new(codes::SYSTEM_ERROR, format!("no consumer for this group, {}", request.consumer_group)));
    }
    call.reply_body(&fastjson::to_vec(&ConsumerIdList { consumer_id_list }));
    Ok(())
}

pub fn get_consumer_connection_list(broker: &Broker, call: &mut Call<'_>, request: GetConsumerConnectionList<'_>) -> Handled {
    let Some(connection) = broker.clients.consumer_connection(request.consumer_group) else {
        let remark = format!("the consumer group[{}] not online", request.consumer_group);
        return Err(Refusal::new(codes::CONSUMER_NOT_ONLINE, remark));
    };
    call.reply_body(&fastjson::to_vec(&connection));
    Ok(())
}

pub fn get_producer_connection_list(broker: &Broker, call: &mut Call<'_>, request: GetProducerConnectionList<'_>) -> Handled {
    let Some(connection_set) = broker.clients.producer_connections(request.producer_group) else {
        return Err(Refusal::new(codes::SYSTEM_ERROR, format!("the producer group[{}] not exist", request.producer_group)));
    };
    call.reply_body(&fastjson::to_vec(&ProducerConnection { connection_set }));
    Ok(())
}

pub fn get_all_producer_info(broker: &Broker, call: &mut Call<'_>) -> Handled {
    call.reply_body(&fastjson::to_vec(&ProducerTable { data: broker.clients.producers() }));
    Ok(())
}

pub fn lock_batch(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let request: LockBatch = fastjson::from_slice(call.body)?;
    let lifetime = broker.config().rebalance_lock_max_live_time;
    let lock_ok_mq_set = broker.locks.lock(&request.consumer_group, &request.client_id, request.mq_set, call.now, lifetime);
    call.reply_body(&fastjson::to_vec(&LockBatchReply { lock_ok_mq_set }));
    Ok(())
}

pub fn unlock_batch(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let request: LockBatch = fastjson::from_slice(call.body)?;
    broker.locks.unlock(&request.consumer_group, &request.client_id, &request.mq_set);
    call.reply(&());
    Ok(())
}
