//! Messages by key, from the key indexes of all brokers of a topic.

use std::time::Duration;

use protocol::bodies::TopicRouteData;
use protocol::requests::QueryMessage;
use protocol::{codes, names, properties, record};

use super::message::{self, Message};
use super::{Access, Error, TIMEOUT, any_address, namesrv};

/// The most messages with one unique key that are asked for.
pub const MAX_UNIQUE: i32 = 32;

/// How long ago a message may have been stored that is looked for by its id: 3 days, in ms.
const BY_ID_WITHIN: i64 = 3 * 24 * 60 * 60 * 1000;

/// The topic that timers wait in; Java routes it like a light queue.
const WHEEL_TIMER: &str = "rmq_sys_wheel_timer";

/// As what a key is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A word of the property `KEYS`. Each broker gives up to as many messages, its newest.
    Key { most: i32 },
    /// The id that the sending client made. How many a broker gives is its own setting (`defaultQueryMaxNum`).
    Unique,
}

/// Which messages to look for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub topic: &'a str,
    pub key: &'a str,
    pub kind: KeyKind,
    /// Only brokers of this cluster are asked. For a light queue (`%LMQ%..`), the topic above it.
    pub cluster: Option<&'a str>,
    /// Store times in ms, both included.
    pub begin: i64,
    pub end: i64,
}

/// What brokers found, and those that could not be asked.
#[derive(Debug, Default)]
pub struct Answers {
    /// By broker, as each gave them: oldest first.
    pub messages: Vec<Message>,
    pub failures: Vec<Error>,
}

/// Asks each broker of the topic's route, its master where it has one. A message that only shares the key's hash is
/// left out, whatever the broker thinks of it.
pub async fn query(access: &Access, query: &Query<'_>) -> Result<Answers, Error> {
    let light = query.topic.starts_with(names::LMQ_PREFIX);
    let above = query.cluster.filter(|_| light || query.topic == WHEEL_TIMER).unwrap_or(query.topic);
    let route = namesrv::route(access, above).await?;
    let (max_num, unique_key) = match query.kind {
        KeyKind::Key { most } => (most, "false"),
        KeyKind::Unique => (MAX_UNIQUE, "true"),
    };
    let request = QueryMessage {
        topic: if light { above } else { query.topic },
        key: query.key,
        max_num,
        begin_timestamp: query.begin,
        end_timestamp: query.end,
        unique_key: Some(unique_key),
    };
    let mut answers = Answers::default();
    for (name, address) in brokers(&route, query.cluster.filter(|_| !light))? {
        match ask(access, &address, &request).await {
            Ok(found) => {
                let matching = found.into_iter().filter(|message| has_key(message, query, light));
                answers.messages.extend(matching.map(|message| Message { broker_name: Some(name.clone()), ..message }));
            }
            Err(error) => answers.failures.push(error),
        }
    }
    Ok(answers)
}

/// Names and addresses of the route's brokers, by name; of one cluster where it is given.
fn brokers(route: &TopicRouteData, cluster: Option<&str>) -> Result<Vec<(String, String)>, Error> {
    let wanted = route.broker_datas.iter().filter(|broker| cluster.is_none_or(|name| name == broker.cluster));
    let mut found: Vec<(String, String)> =
        wanted.filter_map(|broker| any_address(broker).map(|address| (broker.broker_name.clone(), address.to_owned()))).collect();
    found.sort();
    match cluster {
        Some(cluster) if found.is_empty() => {
            let mut known: Vec<String> = route.broker_datas.iter().map(|broker| broker.cluster.clone()).collect();
            known.sort();
            known.dedup();
            Err(Error::NoCluster { cluster: cluster.to_owned(), known })
        }
        _ => Ok(found),
    }
}

async fn ask(access: &Access, address: &str, request: &QueryMessage<'_>) -> Result<Vec<Message>, Error> {
    // Java waits as long: a broker may have to read through many files of its index.
    const PATIENCE: Duration = Duration::from_secs(TIMEOUT.as_secs() * 3);
    let answer = access.pool.get(address).await?.call(request, &[], PATIENCE).await?;
    if answer.code == codes::QUERY_NOT_FOUND {
        return Ok(Vec::new());
    }
    let answer = answer.success()?;
    let decoded = record::decode_all(answer.body()).map(|record| record.map(|record| Message::from(&record)));
    decoded.collect::<Result<_, _>>().map_err(|reason| Error::Record { address: address.to_owned(), reason })
}

fn has_key(message: &Message, query: &Query<'_>, light: bool) -> bool {
    match query.kind {
        KeyKind::Unique => message.msg_id == query.key,
        KeyKind::Key { .. } => {
            let keys = message.property(properties::KEYS).unwrap_or_default();
            (light || message.topic == query.topic) && keys.split(' ').any(|word| word == query.key)
        }
    }
}

/// Reads a message by its offset message id, or else by its unique key, where it was stored within three days.
pub async fn by_id(access: &Access, topic: &str, id: &str, cluster: Option<&str>) -> Result<Message, Error> {
    let not_by_offset = match message::view(access, topic, id).await {
        Ok(message) => return Ok(message),
        Err(reason) => reason,
    };
    let begin = net::now_ms() - BY_ID_WITHIN;
    let asked = Query { topic, key: id, kind: KeyKind::Unique, cluster, begin, end: i64::MAX };
    let by_key = query(access, &asked).await;
    let not_by_key = match by_key {
        Ok(Answers { messages, failures }) => match (messages.into_iter().next(), failures.into_iter().next()) {
            (Some(message), _) => return Ok(message),
            (None, Some(failure)) => failure.to_string(),
            (None, None) => format!("no broker of topic {topic} has stored one within 3 days"),
        },
        Err(error) => error.to_string(),
    };
    let reason = format!("as an offset message id: {not_by_offset}; as a unique key: {not_by_key}");
    Err(Error::NoMessage { id: id.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use protocol::bodies::BrokerData;

    use super::*;

    #[test]
    fn a_message_has_a_key_as_a_whole_word_and_in_its_topic() {
        let stored = Message::from(&message::record(b"", "KEYS\u{1}a bc\u{2}UNIQ_KEY\u{1}U"));
        let asked = |topic, key, kind| Query { topic, key, kind, cluster: None, begin: 0, end: i64::MAX };
        let word = KeyKind::Key { most: 1 };
        assert!(has_key(&stored, &asked("T", "a", word), false) && has_key(&stored, &asked("T", "bc", word), false));
        for (topic, key) in [("T", "b"), ("T", "a bc"), ("t", "a"), ("T", "U")] {
            assert!(!has_key(&stored, &asked(topic, key, word), false), "{topic} {key}");
        }
        assert!(has_key(&stored, &asked("%LMQ%q", "a", word), true), "a light queue has its messages from the topic above");
        assert!(has_key(&stored, &asked("T", "U", KeyKind::Unique), false));
        assert!(!has_key(&stored, &asked("T", "a", KeyKind::Unique), false));
    }

    #[test]
    fn brokers_of_the_cluster_are_asked_masters_first() {
        let broker = |name: &str, cluster: &str, id: i64| BrokerData {
            broker_name: name.into(),
            cluster: cluster.into(),
            broker_addrs: [(id, format!("{name}:{id}")), (id + 1, "slave".into())].into(),
            ..Default::default()
        };
        let broker_datas = vec![broker("b", "C1", 0), broker("a", "C2", 1)];
        let route = TopicRouteData { broker_datas, ..Default::default() };
        let addresses = |cluster| -> Vec<String> { brokers(&route, cluster).unwrap().into_iter().map(|(_, at)| at).collect() };
        assert_eq!(addresses(None), ["a:1", "b:0"]);
        assert_eq!(addresses(Some("C1")), ["b:0"]);
        let refused = brokers(&route, Some("C3")).unwrap_err().to_string();
        assert_eq!(refused, "no cluster is called C3; the name server knows C1, C2");
    }
}
