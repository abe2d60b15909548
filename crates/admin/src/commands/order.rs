//! updateOrderConf, allocateMQ, updateTopicPerm, getTopicConfig.

use std::collections::BTreeMap;

use protocol::bodies::{QueueValue, TopicConfig};
use protocol::{fastjson, names};

use super::table::{Call, each};
use super::topic::topic_config;
use crate::ops::{Error, message, namesrv, topic};

pub async fn update_order_conf(call: Call) -> Result<(), Error> {
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

pub async fn allocate_mq(call: Call) -> Result<(), Error> {
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

pub async fn update_topic_perm(call: Call) -> Result<(), Error> {
    let (name, perm) = (call.required("topic")?, call.number("perm")?.unwrap_or_default());
    let change = async |address: String| call.print(&change_perm(&call, &address, name, perm).await?);
    each(call.masters().await?, change).await
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

pub async fn get_topic_config(call: Call) -> Result<(), Error> {
    let name = call.required("topic")?;
    let ask = async |address: &str| topic::config(&call.access, address, name).await;
    let text = |address: &str, config: &_| format!("============{address}============\n{}", topic_config(config));
    call.show_each(call.masters().await?, ask, text).await
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
