//! updateSubGroup, deleteSubGroup, consumerProgress, consumerConnection, producerConnection.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use protocol::bodies::{
    Connection, ConsumeStats, ConsumeType, ConsumerConnection, GroupRetryPolicy, MessageQueue, SubscriptionGroupConfig,
};
use protocol::{names, version};
use serde::Serialize;

use super::columns::{cut, map, time_s};
use super::table::{Call, each};
use crate::ops::group::GroupProgress;
use crate::ops::{self, Error, group, namesrv, topic};

pub async fn update_sub_group(call: Call) -> Result<(), Error> {
    let config = group_config(&call)?;
    let update = async |address: String| {
        group::update(&call.access, &address, &config).await?;
        call.print(&format!("create subscription group to {address} success.\n"))
    };
    each(call.masters().await?, update).await?;
    call.print(&group_text(&config))
}

fn group_config(call: &Call) -> Result<SubscriptionGroupConfig, Error> {
    let default = SubscriptionGroupConfig::default();
    let policy = match call.value("groupRetryPolicy") {
        None => GroupRetryPolicy::default(),
        Some(json) => serde_json::from_str(json).map_err(|e| Error::Value {
            option: "groupRetryPolicy",
            value: json.to_owned(),
            expected: format!("a retry policy in JSON: {e}"),
        })?,
    };
    Ok(SubscriptionGroupConfig {
        group_name: call.required("groupName")?.to_owned(),
        consume_enable: call.truth("consumeEnable")?.unwrap_or(default.consume_enable),
        consume_from_min_enable: call.truth("consumeFromMinEnable")?.unwrap_or_default(),
        consume_broadcast_enable: call.truth("consumeBroadcastEnable")?.unwrap_or_default(),
        consume_message_orderly: call.truth("consumeMessageOrderly")?.unwrap_or_default(),
        retry_queue_nums: call.number("retryQueueNums")?.unwrap_or(default.retry_queue_nums),
        retry_max_times: call.number("retryMaxTimes")?.unwrap_or(default.retry_max_times),
        group_retry_policy: policy,
        broker_id: call.number("brokerId")?.unwrap_or(default.broker_id),
        which_broker_when_consume_slowly: call
            .number("whichBrokerWhenConsumeSlowly")?
            .unwrap_or(default.which_broker_when_consume_slowly),
        notify_consumer_ids_changed_enable: call
            .truth("notifyConsumerIdsChanged")?
            .unwrap_or(default.notify_consumer_ids_changed_enable),
        attributes: topic::parse_attributes(call.value("attributes").unwrap_or_default())?,
        ..default
    })
}

fn group_text(config: &SubscriptionGroupConfig) -> String {
    format!(
        "SubscriptionGroupConfig{{groupName={}, consumeEnable={}, consumeFromMinEnable={}, consumeBroadcastEnable={}, \
         consumeMessageOrderly={}, retryQueueNums={}, retryMaxTimes={}, groupRetryPolicy={}, brokerId={}, \
         whichBrokerWhenConsumeSlowly={}, notifyConsumerIdsChangedEnable={}, groupSysFlag={}, consumeTimeoutMinute={}, \
         subscriptionDataSet=null, attributes={}}}\n",
        config.group_name,
        config.consume_enable,
        config.consume_from_min_enable,
        config.consume_broadcast_enable,
        config.consume_message_orderly,
        config.retry_queue_nums,
        config.retry_max_times,
        policy_text(&config.group_retry_policy),
        config.broker_id,
        config.which_broker_when_consume_slowly,
        config.notify_consumer_ids_changed_enable,
        config.group_sys_flag,
        config.consume_timeout_minute,
        map(config.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
    )
}

fn policy_text(policy: &GroupRetryPolicy) -> String {
    let part = |name: &str, value: &Option<serde_json::Value>| match value.as_ref().and_then(|v| v.as_object()) {
        None => "null".to_owned(),
        Some(fields) => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{name}{{{}}}", fields.join(", "))
        }
    };
    format!(
        "GroupRetryPolicy{{type={}, exponentialRetryPolicy={}, customizedRetryPolicy={}}}",
        policy.kind,
        part("ExponentialRetryPolicy", &policy.exponential_retry_policy),
        part("CustomizedRetryPolicy", &policy.customized_retry_policy)
    )
}

pub async fn delete_sub_group(call: Call) -> Result<(), Error> {
    let name = call.required("groupName")?;
    let clean_offset = call.truth("removeOffset")?.unwrap_or_default();
    if let Some(address) = call.broker() {
        group::delete(&call.access, &address, name, clean_offset).await?;
        return call.print(&format!("delete subscription group [{name}] from broker [{address}] success.\n"));
    }
    let cluster = call.required("clusterName")?;
    for address in ops::masters(&namesrv::cluster_info(&call.access).await?, cluster)? {
        group::delete(&call.access, &address, name, clean_offset).await?;
        let done = format!("delete subscription group [{name}] from broker [{address}] in cluster [{cluster}] success.\n");
        call.print(&done)?;
    }
    group::delete_own_topics(&call.access, cluster, name).await
}

pub async fn consumer_progress(call: Call) -> Result<(), Error> {
    let Some(name) = call.value("groupName") else { return all_progress(&call).await };
    let stats = group::consume_stats(&call.access, name, call.value("topicName"), call.value("cluster")).await?;
    let holders = match call.truth("showClientIP")? {
        Some(true) => Some(group::queue_holders(&call.access, name).await?),
        _ => None,
    };
    let queues = queue_progress(&stats, holders.as_ref());
    let json = serde_json::json!({ "group": name, "consumeTps": stats.consume_tps, "queues": queues });
    call.show(&json, || progress(&queues, stats.consume_tps, holders.is_some(), &call.zone))
}

async fn all_progress(call: &Call) -> Result<(), Error> {
    let mut groups = Vec::new();
    for topic in namesrv::topic_list(&call.access).await?.topic_list {
        if let Some(name) = topic.strip_prefix(names::RETRY_PREFIX) {
            groups.push(group::progress(&call.access, name).await?);
        }
    }
    call.show(&groups, || groups_text(&groups))
}

fn groups_text(groups: &[GroupProgress]) -> String {
    let mut out = format!(
        "{:<64}  {:<6}  {:<24} {:<5}  {:<14}  {:<7}  {}\n",
        "#Group", "#Count", "#Version", "#Type", "#Model", "#TPS", "#Diff Total"
    );
    for one in groups {
        let version = one.version.filter(|_| one.count > 0).map_or("OFFLINE".to_owned(), version::name);
        let kind = match one.consume_type.filter(|_| one.count > 0) {
            None => "",
            Some(ConsumeType::Actively) => "PULL",
            Some(ConsumeType::Passively | ConsumeType::Pop) => "PUSH",
        };
        let pushed = one.consume_type == Some(ConsumeType::Passively) && one.count > 0;
        let model = one.message_model.filter(|_| pushed).map_or("", |model| model.name());
        out += &format!(
            "{:<64}  {:<6}  {version:<24} {kind:<5}  {model:<14}  {:<7}  {}\n",
            cut(&one.group, 64),
            one.count,
            one.tps as i64,
            one.diff_total
        );
    }
    out
}

/// A queue of `consumerProgress -g`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueProgress<'a> {
    topic: &'a str,
    broker_name: &'a str,
    queue_id: i32,
    broker_offset: i64,
    consumer_offset: i64,
    diff: i64,
    inflight: i64,
    last_timestamp: i64,
    #[serde(rename = "clientIP", skip_serializing_if = "Option::is_none")]
    client_ip: Option<&'a str>,
}

fn queue_progress<'a>(stats: &'a ConsumeStats, holders: Option<&'a BTreeMap<MessageQueue, String>>) -> Vec<QueueProgress<'a>> {
    let one = |(queue, offset): (&'a MessageQueue, &'a protocol::bodies::OffsetWrapper)| QueueProgress {
        topic: &queue.topic,
        broker_name: &queue.broker_name,
        queue_id: queue.queue_id,
        broker_offset: offset.broker_offset,
        consumer_offset: offset.consumer_offset,
        diff: offset.broker_offset - offset.consumer_offset,
        inflight: offset.pull_offset - offset.consumer_offset,
        last_timestamp: offset.last_timestamp,
        // A client's id begins with its address.
        client_ip: holders.and_then(|h| h.get(queue)).and_then(|id| id.split('@').next()),
    };
    stats.offset_table.iter().map(one).collect()
}

fn progress(queues: &[QueueProgress<'_>], tps: f64, with_clients: bool, zone: &TimeZone) -> String {
    let client = |text: &str| if with_clients { format!("{text:<20} ") } else { String::new() };
    // Java puts a blank before the last column in the rows, but not in the title.
    let mut out = format!(
        "{:<64}  {:<32}  {:<4}  {:<20}  {:<20}  {}{:<20} {:<20}#LastTime\n",
        "#Topic",
        "#Broker Name",
        "#QID",
        "#Broker Offset",
        "#Consumer Offset",
        client("#Client IP"),
        "#Diff",
        "#Inflight"
    );
    for one in queues {
        let last = if one.last_timestamp == 0 { "N/A".to_owned() } else { time_s(one.last_timestamp, zone) };
        out += &format!(
            "{:<64}  {:<32}  {:<4}  {:<20}  {:<20}  {}{:<20} {:<20} {last}\n",
            cut(one.topic, 64),
            cut(one.broker_name, 32),
            one.queue_id,
            one.broker_offset,
            one.consumer_offset,
            client(one.client_ip.unwrap_or("N/A")),
            one.diff,
            one.inflight,
        );
    }
    let (diff, inflight): (i64, i64) = (queues.iter().map(|q| q.diff).sum(), queues.iter().map(|q| q.inflight).sum());
    out + &format!("\nConsume TPS: {tps:.2}\nConsume Diff Total: {diff}\nConsume Inflight Total: {inflight}\n")
}

pub async fn consumer_connection(call: Call) -> Result<(), Error> {
    let name = call.required("consumerGroup")?;
    let connection = group::consumer_connection(&call.access, name, call.broker().as_deref()).await?;
    call.show(&connection, || consumers(&connection))
}

fn consumers(connection: &ConsumerConnection) -> String {
    let row = |cells: [&str; 4]| format!("{:<36} {:<22} {:<10} {}\n", cells[0], cells[1], cells[2], cells[3]);
    let mut out = row(["#ClientId", "#ClientAddr", "#Language", "#Version"]);
    for Connection { client_id, client_addr, language, version } in &connection.connection_set {
        out += &row([client_id, client_addr, language, &version::name(*version)]);
    }
    out += &twins(&connection.connection_set);
    out += &format!("\nBelow is subscription:\n{:<20} {}\n", "#Topic", "#SubExpression");
    for subscription in connection.subscription_table.values() {
        out += &format!("{:<20} {}\n", subscription.topic, subscription.sub_string);
    }
    out + &format!(
        "\nConsumeType: {}\nMessageModel: {}\nConsumeFromWhere: {}\n",
        connection.consume_type.name(),
        connection.message_model.name(),
        connection.consume_from_where.name()
    )
}

/// A line for each client id that stands for several connections, which Java shows and does not remark on.
fn twins(connections: &[Connection]) -> String {
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    connections.iter().for_each(|one| *ids.entry(&one.client_id).or_default() += 1);
    let line = |(id, count): (&str, usize)| {
        format!("WARN: {count} connections call themselves {id}: each process needs an instance name of its own\n")
    };
    ids.into_iter().filter(|(_, count)| *count > 1).map(line).collect()
}

pub async fn producer_connection(call: Call) -> Result<(), Error> {
    let (name, topic) = (call.required("producerGroup")?, call.required("topic")?);
    let connections = group::producer_connection(&call.access, name, topic).await?.connection_set;
    call.show(&connections, || producers(&connections))
}

fn producers(connections: &[Connection]) -> String {
    let row = |(i, one): (usize, &Connection)| {
        let Connection { client_id, client_addr, language, version } = one;
        format!("{:04}  {client_id:<32} {client_addr:<22} {language:<8} {}\n", i + 1, version::name(*version))
    };
    connections.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use protocol::bodies::{ConsumeFromWhere, MessageModel, OffsetWrapper, SubscriptionData};

    use super::*;
    use crate::commands::columns::golden;

    fn group_a() -> SubscriptionGroupConfig {
        SubscriptionGroupConfig {
            group_name: "group-a".into(),
            consume_from_min_enable: false,
            consume_broadcast_enable: false,
            ..SubscriptionGroupConfig::default()
        }
    }

    #[test]
    fn a_group_looks_as_in_java() {
        let printed = format!("create subscription group to 127.0.0.1:20911 success.\n{}", group_text(&group_a()));
        assert_eq!(printed.trim_end(), golden::stdout("updateSubGroup").trim_end());
        let json = r#"{"type":"CUSTOMIZED","customizedRetryPolicy":{"next":[1000,5000]}}"#;
        let text = policy_text(&serde_json::from_str(json).unwrap());
        assert!(text.ends_with("exponentialRetryPolicy=null, customizedRetryPolicy=CustomizedRetryPolicy{next=[1000,5000]}}"));
    }

    fn offsets(rows: [(i64, i64, i64); 8]) -> ConsumeStats {
        let mut stats = ConsumeStats::default();
        for (queue_id, (broker_offset, consumer_offset, last_timestamp)) in (0..).zip(rows) {
            let queue = MessageQueue { topic: "Orders".into(), broker_name: "broker-a".into(), queue_id };
            let offset = OffsetWrapper { broker_offset, consumer_offset, last_timestamp, pull_offset: broker_offset };
            stats.offset_table.insert(queue, offset);
        }
        stats
    }

    #[test]
    fn progress_looks_as_in_java() {
        let t = 1_795_249_453_000;
        let behind = offsets([(3, 0, 0), (3, 1, t), (5, 4, t), (3, 2, t), (3, 2, t), (2, 2, t), (2, 1, t), (2, 1, t)]);
        let printed = progress(&queue_progress(&behind, None), 0.0, false, &TimeZone::UTC);
        assert_eq!(printed, golden::stdout("consumerProgress-group"));
        let done = offsets([3, 3, 5, 3, 3, 2, 2, 2].map(|n| (n, n, t)));
        let holders = done.offset_table.keys().map(|queue| (queue.clone(), "192.0.2.2@10277#1".to_owned())).collect();
        let printed = progress(&queue_progress(&done, Some(&holders)), 2.302, true, &TimeZone::UTC);
        assert_eq!(printed, golden::stdout("consumerProgress-client-ip"));
    }

    #[test]
    fn all_groups_look_as_in_java() {
        let offline = GroupProgress {
            group: "TOOLS_CONSUMER".into(),
            count: 0,
            version: None,
            consume_type: None,
            message_model: None,
            tps: 0.0,
            diff_total: 0,
        };
        let online = GroupProgress {
            group: "group-a".into(),
            count: 1,
            version: Some(version::CURRENT),
            consume_type: Some(ConsumeType::Passively),
            message_model: Some(MessageModel::Clustering),
            tps: 0.9,
            diff_total: 10,
        };
        assert_eq!(groups_text(&[offline, online]), golden::stdout("consumerProgress"));
    }

    #[test]
    fn connections_look_as_in_java() {
        let connection = |client_id: &str, client_addr: &str| Connection {
            client_addr: client_addr.into(),
            client_id: client_id.into(),
            language: "JAVA".into(),
            version: version::CURRENT,
        };
        let subscription = |topic: &str| {
            (topic.to_owned(), SubscriptionData { topic: topic.into(), sub_string: "*".into(), ..Default::default() })
        };
        let consumer = ConsumerConnection {
            connection_set: vec![connection("192.0.2.2@10277#5398008673827", "127.0.0.1:49430")],
            consume_from_where: ConsumeFromWhere::FirstOffset,
            consume_type: ConsumeType::Passively,
            message_model: MessageModel::Clustering,
            subscription_table: [subscription("Orders"), subscription("%RETRY%group-a")].into(),
        };
        let (printed, recorded) = (consumers(&consumer), golden::stdout("consumerConnection"));
        assert_eq!(golden::sorted(&printed), golden::sorted(&recorded));
        let producer = [connection("192.0.2.2@10277#5398048765602", "127.0.0.1:49432")];
        assert_eq!(producers(&producer), golden::stdout("producerConnection"));
    }
}
