//! updateOrderConf, allocateMQ, updateTopicPerm, getTopicConfig.

use std::collections::BTreeMap;

use protocol::bodies::{QueueValue, TopicConfig};
use protocol::{fastjson, names};

use super::table::{Call, Row, Target, required, settle, value};
use super::topic::topic_config;
use crate::ops::{self, Error, message, namesrv, topic};

pub static UPDATE_ORDER_CONF: Row = Row {
    name: "updateOrderConf",
    about: "Create or update or delete order conf.",
    details: "\
The settings of an ordered topic on the name servers: brokers and how many queues each has.

Examples:
  ferrocket admin updateOrderConf -t Orders -m put -v 'broker-a:4;broker-b:4'
  ferrocket admin updateOrderConf -t Orders -m get
  ferrocket admin updateOrderConf -t Orders -m delete",
    options: &[
        required('t', "topic", "topic name"),
        value('v', "orderConf", "set order conf [eg. brokerName1:num;brokerName2:num]"),
        required('m', "method", "option type [eg. put|get|delete"),
    ],
    target: Target::Free,
    json: false,
    run: |call| Box::pin(update_order_conf(call)),
};

async fn update_order_conf(call: Call) -> Result<(), Error> {
    let (topic, method) = (call.required("topic")?, call.required("method")?);
    match method {
        "get" => {
            let found = namesrv::get_kv(&call.access, names::ORDER_TOPIC_CONFIG, topic).await?;
            let conf = found.ok_or_else(|| Error::Usage(format!("topic {topic} has no order settings")))?;
            call.print(&format!("get orderConf success. topic=[{topic}], orderConf=[{conf}] \n"))
        }
        "put" => {
            let conf = call.value("orderConf").filter(|text| !text.is_empty());
            let conf = conf.ok_or_else(|| Error::Usage("please set orderConf with option -v.".to_owned()))?;
            namesrv::put_order_conf(&call.access, topic, conf).await?;
            call.print(&format!("update orderConf success. topic=[{topic}], orderConf=[{conf}]\n"))
        }
        "delete" => {
            namesrv::delete_kv(&call.access, names::ORDER_TOPIC_CONFIG, topic).await?;
            call.print(&format!("delete orderConf success. topic=[{topic}]\n"))
        }
        other => {
            let expected = "`put`, `get` or `delete`".to_owned();
            Err(Error::Value { option: "method", value: other.to_owned(), expected })
        }
    }
}

pub static ALLOCATE_MQ: Row = Row {
    name: "allocateMQ",
    about: "Allocate MQ.",
    details: "\
Which queues of the topic each of these clients would get, as JSON: as they are shared out by default.

Example:
  ferrocket admin allocateMQ -t Orders -i 10.0.0.7,10.0.0.8",
    options: &[required('t', "topic", "topic name"), required('i', "ipList", "ipList")],
    target: Target::Free,
    json: false,
    run: |call| Box::pin(allocate_mq(call)),
};

async fn allocate_mq(call: Call) -> Result<(), Error> {
    let topic = call.required("topic")?;
    let clients: Vec<&str> = call.required("ipList")?.split(',').collect();
    let queues = message::readable_queues(&namesrv::route(&call.access, topic).await?, topic)?;
    let queues: Vec<QueueValue> = queues.into_iter().map(|at| at.queue.into()).collect();
    let result = share(&queues, &clients);
    let text = fastjson::to_vec(&serde_json::json!({ "result": result }));
    call.print(&(String::from_utf8_lossy(&text).into_owned() + "\n"))
}

/// Shares queues out evenly, neighbours together; the first clients get the ones that are left over (Java:
/// `AllocateMessageQueueAveragely`).
fn share<'c>(queues: &[QueueValue], clients: &[&'c str]) -> BTreeMap<&'c str, Vec<QueueValue>> {
    let (each, more) = (queues.len() / clients.len(), queues.len() % clients.len());
    let mut rest = queues;
    let mut shared = BTreeMap::new();
    for (nth, client) in clients.iter().enumerate() {
        let (own, left) = rest.split_at(each + usize::from(nth < more));
        rest = left;
        shared.insert(*client, own.to_vec());
    }
    shared
}

pub static UPDATE_TOPIC_PERM: Row = Row {
    name: "updateTopicPerm",
    about: "Update topic perm.",
    details: "\
Changes what may be done with a topic, and nothing else of it.

Examples:
  ferrocket admin updateTopicPerm -c DefaultCluster -t %DLQ%billing -p 6
  ferrocket admin updateTopicPerm -b 10.0.0.1:10911 -t Orders -p 4",
    options: &[
        value('b', "brokerAddr", "create topic to which broker"),
        value('c', "clusterName", "create topic to which cluster"),
        required('t', "topic", "topic name"),
        required('p', "perm", "set topic's permission(2|4|6), intro[2:W; 4:R; 6:RW]"),
    ],
    target: Target::One,
    json: false,
    run: |call| Box::pin(update_topic_perm(call)),
};

async fn update_topic_perm(call: Call) -> Result<(), Error> {
    let (name, perm) = (call.required("topic")?, call.number("perm")?.unwrap_or_default());
    let one = call.broker();
    let brokers = match &one {
        Some(address) => vec![address.clone()],
        None => ops::masters(&namesrv::cluster_info(&call.access).await?, call.required("clusterName")?)?,
    };
    let mut failures = Vec::new();
    for address in brokers {
        match change_perm(&call, &address, name, perm).await {
            Ok(text) => call.print(&text)?,
            Err(error) => failures.push(error),
        }
    }
    settle(failures)
}

async fn change_perm(call: &Call, address: &str, name: &str, perm: i32) -> Result<String, Error> {
    let old = topic::config(&call.access, address, name).await?;
    if old.perm == perm && call.broker().is_some() {
        return Ok("new perm equals to the old one!\n".to_owned());
    }
    // Attributes travel as changes: none.
    let changed = TopicConfig { perm, attributes: BTreeMap::new(), ..old.clone() };
    topic::create(&call.access, address, &changed).await?;
    let done = format!("update topic perm from {} to {perm} in {address} success.\n", old.perm);
    Ok(if call.broker().is_some() { format!("{done}{}.\n", topic_config(&changed).trim_end()) } else { done })
}

pub static GET_TOPIC_CONFIG: Row = Row {
    name: "getTopicConfig",
    about: "Show a topic's settings on a broker or on the brokers of a cluster.",
    details: "\
Examples:
  ferrocket admin getTopicConfig -c DefaultCluster -t Orders
  ferrocket admin getTopicConfig -b 10.0.0.1:10911 -t Orders --json",
    options: &[
        value('b', "brokerAddr", "show the topic of which broker"),
        value('c', "clusterName", "show the topic of which cluster"),
        required('t', "topic", "topic name"),
    ],
    target: Target::One,
    json: true,
    run: |call| Box::pin(get_topic_config(call)),
};

async fn get_topic_config(call: Call) -> Result<(), Error> {
    let name = call.required("topic")?;
    let brokers = match call.broker() {
        Some(address) => vec![address],
        None => ops::masters(&namesrv::cluster_info(&call.access).await?, call.required("clusterName")?)?,
    };
    let (mut all, mut failures) = (BTreeMap::new(), Vec::new());
    for address in brokers {
        match topic::config(&call.access, &address, name).await {
            Ok(config) => drop(all.insert(address, config)),
            Err(error) => failures.push(error),
        }
    }
    if call.json() {
        call.print_json(&all)?;
    } else {
        let text = |(address, config)| format!("============{address}============\n{}", topic_config(config));
        call.print(&all.iter().map(text).collect::<String>())?;
    }
    settle(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_shared_out_evenly() {
        let queue = |id| QueueValue { broker_name: "a".into(), queue_id: id, topic: "T".into() };
        let queues: Vec<QueueValue> = (0..8).map(queue).collect();
        let ids = |clients: &[&str]| -> Vec<Vec<i32>> {
            let shared = share(&queues, clients);
            clients.iter().map(|client| shared[client].iter().map(|queue| queue.queue_id).collect()).collect()
        };
        assert_eq!(ids(&["a", "b", "c"]), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        assert_eq!(ids(&["a"]).concat().len(), 8);
        let few = share(&queues[..1], &["a", "b"]);
        assert_eq!((few["a"].len(), few["b"].len()), (1, 0));
    }
}
