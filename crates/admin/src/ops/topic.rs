//! Topics: creating, deleting, their offsets, who consumes them.

use std::collections::{BTreeMap, BTreeSet};

use protocol::bodies::{ClusterInfo, GroupList, TopicConfig, TopicRouteData, TopicStats};
use protocol::names;
use protocol::requests::{CreateTopic, DeleteTopicInBroker, GetTopicConfig, GetTopicStats, QueryTopicConsumeByWho};

use super::{Access, Error, TIMEOUT, any_address, namesrv};

/// Creates a topic on a broker, or changes it. Attributes are changes: `+name` to a value, `-name` to nothing.
pub async fn create(access: &Access, broker: &str, topic: &TopicConfig) -> Result<(), Error> {
    let attributes = attribute_changes(&topic.attributes);
    let request = CreateTopic {
        topic: &topic.topic_name,
        default_topic: names::DEFAULT_TOPIC,
        read_queue_nums: topic.read_queue_nums,
        write_queue_nums: topic.write_queue_nums,
        perm: topic.perm,
        topic_filter_type: topic.topic_filter_type.name(),
        topic_sys_flag: Some(topic.topic_sys_flag),
        order: topic.order,
        attributes: Some(&attributes),
    };
    access.pool.call(broker, &request, &[], TIMEOUT).await?;
    Ok(())
}

/// A topic's settings on a broker.
pub async fn config(access: &Access, broker: &str, topic: &str) -> Result<TopicConfig, Error> {
    Ok(access.pool.call(broker, &GetTopicConfig { topic }, &[], TIMEOUT).await?.json()?)
}

fn attribute_changes(attributes: &BTreeMap<String, String>) -> String {
    let change = |(name, value): (&String, &String)| if value.is_empty() { name.clone() } else { format!("{name}={value}") };
    attributes.iter().map(change).collect::<Vec<_>>().join(",")
}

/// Reads `+name=value,-name`: what to set and what to remove.
pub fn parse_attributes(text: &str) -> Result<BTreeMap<String, String>, Error> {
    let wrong = |expected: &str| Error::Value { option: "attributes", value: text.to_owned(), expected: expected.to_owned() };
    let mut attributes = BTreeMap::new();
    for change in text.split(',').filter(|c| !c.is_empty()) {
        let (name, value) = match change.split_once('=') {
            Some((name, value)) if name.starts_with('+') && name.len() > 1 && !value.is_empty() => (name, value),
            None if change.starts_with('-') && change.len() > 1 => (change, ""),
            _ => return Err(wrong("`+name=value` to set and `-name` to remove, joined by commas")),
        };
        if attributes.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(wrong("a list in which each name stands once"));
        }
    }
    Ok(attributes)
}

/// Says on the name servers that the topic's queues on the broker at `address` are ordered, beside what is said of
/// other brokers. Gives the broker's part, `name:queues`.
pub async fn put_broker_order(access: &Access, topic: &TopicConfig, address: &str) -> Result<String, Error> {
    let info = namesrv::cluster_info(access).await?;
    let holder = info.broker_addr_table.values().find(|b| b.broker_addrs.values().any(|a| a == address));
    let Some(broker) = holder else {
        let known = info.broker_addr_table.values().flat_map(|b| b.broker_addrs.values().cloned()).collect();
        return Err(Error::NoAddress { address: address.to_owned(), known });
    };
    let old = namesrv::get_kv(access, names::ORDER_TOPIC_CONFIG, &topic.topic_name).await?.unwrap_or_default();
    let part = format!("{}:{}", broker.broker_name, topic.write_queue_nums);
    namesrv::put_order_conf(access, &topic.topic_name, &with_part(&old, &part)).await?;
    Ok(part)
}

/// Says on the name servers that the topic's queues on all brokers of the cluster are ordered. Gives what was said.
pub async fn put_cluster_order(access: &Access, topic: &TopicConfig, info: &ClusterInfo, cluster: &str) -> Result<String, Error> {
    let brokers = super::brokers_of(info, cluster)?;
    let parts: Vec<String> = brokers.iter().map(|b| format!("{}:{}", b.broker_name, topic.write_queue_nums)).collect();
    let conf = parts.join(";");
    namesrv::put_order_conf(access, &topic.topic_name, &conf).await?;
    Ok(conf)
}

/// The order settings with one broker's part in place of its old one.
fn with_part(conf: &str, part: &str) -> String {
    let name = |part: &str| part.split(':').next().unwrap_or_default().to_owned();
    let mut parts: BTreeMap<String, &str> = conf.split(';').filter(|p| !p.is_empty()).map(|p| (name(p), p)).collect();
    parts.insert(name(part), part);
    parts.into_values().collect::<Vec<_>>().join(";")
}

/// Deletes a topic on a broker; one that is not there is no error.
pub async fn delete(access: &Access, broker: &str, topic: &str) -> Result<(), Error> {
    access.pool.call(broker, &DeleteTopicInBroker { topic }, &[], TIMEOUT).await?;
    Ok(())
}

/// The offsets of a topic's queues on all brokers of a route.
pub async fn stats(access: &Access, route: &TopicRouteData, topic: &str) -> Result<TopicStats, Error> {
    let mut all = TopicStats::default();
    for broker in route.broker_datas.iter().filter_map(any_address) {
        let one: TopicStats = access.pool.call(broker, &GetTopicStats { topic }, &[], TIMEOUT).await?.json()?;
        all.offset_table.extend(one.offset_table);
        all.topic_put_tps += one.topic_put_tps;
    }
    Ok(all)
}

/// The clusters that hold a topic.
pub async fn clusters(access: &Access, topic: &str) -> Result<BTreeSet<String>, Error> {
    let info = namesrv::cluster_info(access).await?;
    let route = namesrv::route(access, topic).await?;
    let holds = |brokers: &BTreeSet<String>| route.broker_datas.iter().any(|b| brokers.contains(&b.broker_name));
    Ok(info.cluster_addr_table.into_iter().filter(|(_, brokers)| holds(brokers)).map(|(cluster, _)| cluster).collect())
}

/// The groups that consume a topic, or once did and left offsets.
pub async fn consumer_groups(access: &Access, route: &TopicRouteData, topic: &str) -> Result<BTreeSet<String>, Error> {
    let mut groups = BTreeSet::new();
    for broker in route.broker_datas.iter().filter_map(any_address) {
        let answer = access.pool.call(broker, &QueryTopicConsumeByWho { topic }, &[], TIMEOUT).await?;
        groups.extend(answer.json::<GroupList>()?.group_list);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_brokers_order_leaves_the_others() {
        assert_eq!(with_part("", "a:8"), "a:8");
        assert_eq!(with_part("b:4;a:4", "a:8"), "a:8;b:4");
    }

    #[test]
    fn attributes_are_changes() {
        let changes = parse_attributes("+message.type=FIFO,-cleanup.policy").unwrap();
        assert_eq!(attribute_changes(&changes), "+message.type=FIFO,-cleanup.policy");
        for wrong in ["a=b", "+a", "+=b", "-", "+a=", "+a=1,+a=2"] {
            assert!(parse_attributes(wrong).is_err(), "{wrong}");
        }
    }
}
