//! Consumer and producer groups: settings, connections, progress.

use std::collections::BTreeMap;

use protocol::bodies::{
    ConsumeStats, ConsumeType, ConsumerConnection, MessageModel, MessageQueue, ProducerConnection, SubscriptionGroupConfig,
    TopicRouteData,
};
use protocol::requests::{
    DeleteSubscriptionGroup, GetConsumeStats, GetConsumerConnectionList, GetProducerConnectionList, UpdateSubscriptionGroup,
};
use protocol::{codes, fastjson, names};
use serde::Serialize;

use super::{Access, Error, STATS_TIMEOUT, TIMEOUT, any_address, consumer, namesrv, topic};

/// Creates a group on a broker, or changes it.
pub async fn update(access: &Access, broker: &str, group: &SubscriptionGroupConfig) -> Result<(), Error> {
    access.pool.call(broker, &UpdateSubscriptionGroup {}, &fastjson::to_vec(group), TIMEOUT).await?;
    Ok(())
}

/// Deletes a group on a broker, with its offsets if `clean_offset`.
pub async fn delete(access: &Access, broker: &str, group: &str, clean_offset: bool) -> Result<(), Error> {
    let request = DeleteSubscriptionGroup { group_name: group, clean_offset: Some(clean_offset) };
    access.pool.call(broker, &request, &[], TIMEOUT).await?;
    Ok(())
}

/// Deletes a group's retry and dead letter topics on a cluster's brokers, name servers and order settings.
pub async fn delete_own_topics(access: &Access, cluster: &str, group: &str) -> Result<(), Error> {
    let info = namesrv::cluster_info(access).await?;
    for own in [names::retry_topic(group), format!("{}{group}", names::DLQ_PREFIX)] {
        for broker in super::members(&info, cluster)? {
            topic::delete(access, &broker, &own).await?;
        }
        for server in &access.namesrvs {
            namesrv::delete_topic(access, server, &own, None).await?;
        }
        namesrv::delete_kv(access, names::ORDER_TOPIC_CONFIG, &own).await?;
    }
    Ok(())
}

/// Where a group's brokers are: the route of its retry topic, or of the topic that it consumes.
async fn group_route(access: &Access, group: &str, topic: Option<&str>) -> Result<TopicRouteData, Error> {
    let retry = names::retry_topic(group);
    for candidate in [Some(retry.as_str()), topic].into_iter().flatten() {
        match namesrv::route(access, candidate).await {
            Err(Error::NoRoute { .. }) => {}
            answered => return answered,
        }
    }
    match topic {
        Some(topic) => Err(Error::NoRoute { topic: topic.to_owned() }),
        None => Err(Error::NoGroup { group: group.to_owned() }),
    }
}

/// The clients of a consumer group: as `broker` knows them, or the first of the group's brokers that knows any.
pub async fn consumer_connection(access: &Access, group: &str, broker: Option<&str>) -> Result<ConsumerConnection, Error> {
    let brokers = match broker {
        Some(broker) => vec![broker.to_owned()],
        None => addresses(&group_route(access, group, None).await?),
    };
    let request = GetConsumerConnectionList { consumer_group: group };
    for broker in &brokers {
        match access.pool.call(broker, &request, &[], TIMEOUT).await {
            Ok(answer) => {
                let connection: ConsumerConnection = answer.json()?;
                if !connection.connection_set.is_empty() {
                    return Ok(connection);
                }
            }
            Err(error) if error.code() == Some(codes::CONSUMER_NOT_ONLINE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::NotOnline { kind: "consumer", group: group.to_owned() })
}

/// The clients of a producer group on the brokers of a topic.
pub async fn producer_connection(access: &Access, group: &str, topic: &str) -> Result<ProducerConnection, Error> {
    let route = namesrv::route(access, topic).await?;
    let request = GetProducerConnectionList { producer_group: group };
    for broker in addresses(&route) {
        match access.pool.call(&broker, &request, &[], TIMEOUT).await {
            Ok(answer) => {
                let connection: ProducerConnection = answer.json()?;
                if !connection.connection_set.is_empty() {
                    return Ok(connection);
                }
            }
            // Brokers say so of a group that they don't know, in no code of its own.
            Err(error) if error.code() == Some(codes::SYSTEM_ERROR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::NotOnline { kind: "producer", group: group.to_owned() })
}

fn addresses(route: &TopicRouteData) -> Vec<String> {
    route.broker_datas.iter().filter_map(any_address).map(str::to_owned).collect()
}

/// How far a group is, in one topic or in all. `route_topic` names the topic whose route tells the brokers.
pub async fn consume_stats(
    access: &Access,
    group: &str,
    topic: Option<&str>,
    route_topic: Option<&str>,
) -> Result<ConsumeStats, Error> {
    let route = group_route(access, group, route_topic.or(topic)).await?;
    let mut all = ConsumeStats::default();
    let request = GetConsumeStats { consumer_group: group, topic, topic_list: None };
    for broker in addresses(&route) {
        let one: ConsumeStats = access.pool.call(&broker, &request, &[], STATS_TIMEOUT).await?.json()?;
        all.offset_table.extend(one.offset_table);
        all.consume_tps += one.consume_tps;
    }
    if all.offset_table.is_empty() {
        match consumer_connection(access, group, None).await {
            Ok(_) => {}
            Err(Error::NotOnline { .. } | Error::NoGroup { .. }) => {
                return Err(Error::NoProgress { group: group.to_owned() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Which client (its id) holds which queue of a group. Clients that can't be asked hold none.
pub async fn queue_holders(access: &Access, group: &str) -> Result<BTreeMap<MessageQueue, String>, Error> {
    let connection = match consumer_connection(access, group, None).await {
        Err(Error::NotOnline { .. } | Error::NoGroup { .. }) => return Ok(BTreeMap::new()),
        answered => answered?,
    };
    let mut holders = BTreeMap::new();
    for client in &connection.connection_set {
        // A client that went away since, or is too old to tell, leaves its queues without a holder.
        let Ok(info) = consumer::running_info(access, group, &client.client_id, false).await else { continue };
        holders.extend(info.mq_table.into_keys().map(|queue| (queue, client.client_id.clone())));
    }
    Ok(holders)
}

/// The addresses of a group's brokers.
pub async fn brokers(access: &Access, group: &str) -> Result<Vec<String>, Error> {
    Ok(addresses(&group_route(access, group, None).await?))
}

/// One group in the list of all groups.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupProgress {
    pub group: String,
    /// Clients that are online.
    pub count: usize,
    /// The oldest version among them (see [`protocol::version`]).
    pub version: Option<i32>,
    pub consume_type: Option<ConsumeType>,
    pub message_model: Option<MessageModel>,
    pub tps: f64,
    pub diff_total: i64,
}

/// A group's line in the list of all. A group that has no progress or no clients is no error.
pub async fn progress(access: &Access, group: &str) -> Result<GroupProgress, Error> {
    let stats = match consume_stats(access, group, None, None).await {
        Err(Error::NoProgress { .. } | Error::NoGroup { .. } | Error::Refused(_)) => ConsumeStats::default(),
        answered => answered?,
    };
    let connection = match consumer_connection(access, group, None).await {
        Err(Error::NotOnline { .. } | Error::NoGroup { .. } | Error::Refused(_)) => None,
        answered => Some(answered?),
    };
    Ok(GroupProgress {
        group: group.to_owned(),
        count: connection.as_ref().map_or(0, |c| c.connection_set.len()),
        version: connection.as_ref().and_then(|c| c.connection_set.iter().map(|one| one.version).min()),
        consume_type: connection.as_ref().map(|c| c.consume_type),
        message_model: connection.as_ref().map(|c| c.message_model),
        tps: stats.consume_tps,
        diff_total: stats.offset_table.values().map(|o| o.broker_offset - o.consumer_offset).sum(),
    })
}
