//! What name servers know: routes, clusters, key-values, their own configuration.

use std::collections::BTreeMap;

use net::client::{Answer, ClientError};
use protocol::bodies::{ClusterInfo, TopicList, TopicRouteData};
use protocol::header::Typed;
use protocol::requests::{
    AddWritePerm, AddWritePermReply, DeleteKvConfig, DeleteTopicInNamesrv, GetAllTopicList, GetBrokerClusterInfo, GetKvConfig,
    GetKvConfigReply, GetNamesrvConfig, GetRouteInfo, PutKvConfig, Request, UpdateNamesrvConfig, WipeWritePerm,
    WipeWritePermReply,
};
use protocol::{codes, names};

use super::{Access, Error, TIMEOUT, route_error};

/// Asks the first name server that can be reached. One that refuses has answered: no other is asked.
async fn ask<'h, R: Request<'h>>(access: &Access, request: &R) -> Result<Answer, Error> {
    let mut failures = Vec::new();
    for namesrv in &access.namesrvs {
        match access.pool.call(namesrv, request, &[], TIMEOUT).await {
            Err(error @ (ClientError::Connect { .. } | ClientError::Timeout { .. } | ClientError::Closed { .. })) => {
                failures.push(error);
            }
            answered => return Ok(answered?),
        }
    }
    Err(Error::NoNamesrv(failures))
}

/// Asks one name server.
async fn ask_one<'h, R: Request<'h>>(access: &Access, namesrv: &str, request: &R, body: &[u8]) -> Result<Answer, Error> {
    match access.pool.call(namesrv, request, body, TIMEOUT).await {
        Err(error @ ClientError::Connect { .. }) => Err(Error::NoNamesrv(vec![error])),
        answered => Ok(answered?),
    }
}

/// A topic's queues and brokers.
pub async fn route(access: &Access, topic: &str) -> Result<TopicRouteData, Error> {
    let request = GetRouteInfo { topic, accept_standard_json_only: Some(true) };
    let answer = ask(access, &request).await.map_err(|e| route_error(topic, e))?;
    Ok(answer.json()?)
}

/// Clusters, their brokers, and the brokers' addresses.
pub async fn cluster_info(access: &Access) -> Result<ClusterInfo, Error> {
    Ok(ask(access, &GetBrokerClusterInfo {}).await?.json()?)
}

/// Every topic that a broker registered.
pub async fn topic_list(access: &Access) -> Result<TopicList, Error> {
    Ok(ask(access, &GetAllTopicList {}).await?.json()?)
}

/// Sets a value on every name server.
pub async fn put_kv(access: &Access, namespace: &str, key: &str, value: &str) -> Result<(), Error> {
    for namesrv in &access.namesrvs {
        ask_one(access, namesrv, &PutKvConfig { namespace, key, value }, &[]).await?;
    }
    Ok(())
}

/// A value, where there is one.
pub async fn get_kv(access: &Access, namespace: &str, key: &str) -> Result<Option<String>, Error> {
    match ask(access, &GetKvConfig { namespace, key }).await {
        Ok(answer) => Ok(answer.fields(|header| Ok(GetKvConfigReply::read(&header.fields)?.value.map(str::to_owned)))?),
        Err(error) if error.code() == Some(codes::QUERY_NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a value from every name server; one that is not there is no error.
pub async fn delete_kv(access: &Access, namespace: &str, key: &str) -> Result<(), Error> {
    for namesrv in &access.namesrvs {
        ask_one(access, namesrv, &DeleteKvConfig { namespace, key }, &[]).await?;
    }
    Ok(())
}

/// Removes a topic from one name server, of one cluster alone or of all.
pub async fn delete_topic(access: &Access, namesrv: &str, topic: &str, cluster: Option<&str>) -> Result<(), Error> {
    ask_one(access, namesrv, &DeleteTopicInNamesrv { topic, cluster_name: cluster }, &[]).await?;
    Ok(())
}

/// Takes the right to write from all of a broker's topics in one name server. Gives the count of topics.
pub async fn wipe_write_perm(access: &Access, namesrv: &str, broker_name: &str) -> Result<i32, Error> {
    let answer = ask_one(access, namesrv, &WipeWritePerm { broker_name }, &[]).await?;
    Ok(answer.fields(|header| Ok(WipeWritePermReply::read(&header.fields)?.wipe_topic_count))?)
}

/// Gives the right to write back. Gives the count of topics.
pub async fn add_write_perm(access: &Access, namesrv: &str, broker_name: &str) -> Result<i32, Error> {
    let answer = ask_one(access, namesrv, &AddWritePerm { broker_name }, &[]).await?;
    Ok(answer.fields(|header| Ok(AddWritePermReply::read(&header.fields)?.add_topic_count))?)
}

/// A name server's configuration.
pub async fn config(access: &Access, namesrv: &str) -> Result<BTreeMap<String, String>, Error> {
    let answer = ask_one(access, namesrv, &GetNamesrvConfig {}, &[]).await?;
    Ok(config_lines(answer.body()))
}

/// Changes one key of a name server's configuration.
pub async fn update_config(access: &Access, namesrv: &str, key: &str, value: &str) -> Result<(), Error> {
    ask_one(access, namesrv, &UpdateNamesrvConfig {}, config_line(key, value).as_bytes()).await?;
    Ok(())
}

/// Says in which order an ordered topic's queues stand: `broker:queues` joined by `;`.
pub async fn put_order_conf(access: &Access, topic: &str, order_conf: &str) -> Result<(), Error> {
    put_kv(access, names::ORDER_TOPIC_CONFIG, topic, order_conf).await
}

/// Reads the text in which servers answer their configuration: a line a key, nothing escaped.
pub(super) fn config_lines(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// One line of properties. Servers read it as java.util.Properties does: backslashes are doubled.
pub(super) fn config_line(key: &str, value: &str) -> String {
    format!("{key}={}\n", value.replace('\\', "\\\\").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_lines() {
        assert_eq!(config_lines(b"b=x=y\na=\n\n"), [("a".into(), String::new()), ("b".into(), "x=y".into())].into());
        assert_eq!(config_line("k", "c:\\d"), "k=c:\\\\d\n");
    }
}
