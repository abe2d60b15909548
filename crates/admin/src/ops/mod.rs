//! Operations on name servers and brokers: each asks what it must and gives back typed data.

pub mod broker;
pub mod consumer;
pub mod group;
pub mod message;
pub mod namesrv;
pub mod offset;
pub mod query;
pub mod stats;
pub mod topic;
pub mod trace;
pub mod transaction;

use std::time::Duration;

use net::client::{ClientError, Pool};
use protocol::bodies::{BrokerData, ClusterInfo};
use protocol::names::NAMESRV_PORT;
pub use protocol::names::with_port;
use protocol::{codes, names};

/// How long an answer may take; Java's `timeoutMillis`.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take for which a broker walks through all of a group's queues.
pub const STATS_TIMEOUT: Duration = Duration::from_secs(15);

/// What a broker's address without a port means.
pub const BROKER_PORT: u16 = 10911;

/// Connections, and the name servers (`host:port`) in the order in which they are asked.
#[derive(Clone)]
pub struct Access {
    pub pool: Pool,
    pub namesrvs: Vec<String>,
}

/// Why an operation failed, in words for whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no name server can be reached: {}. Check that one runs there (`ferrocket server` or `mqnamesrv`) and that \
         -n or NAMESRV_ADDR names it",
        list(.0)
    )]
    NoNamesrv(Vec<ClientError>),
    #[error(
        "No route info of topic {topic}: no broker has told the name server about it. Create it with \
         `ferrocket admin updateTopic -c <cluster> -t {topic}`, or check that -n names the right name server"
    )]
    NoRoute { topic: String },
    #[error(
        "consumer group {group} is not known: it has no retry topic yet. One appears when the group's first consumer connects"
    )]
    NoGroup { group: String },
    #[error("no cluster is called {cluster}; the name server knows {}", some(.known))]
    NoCluster { cluster: String, known: Vec<String> },
    #[error(
        "broker {} has no master, and nobody takes over by itself: start it again, or make a slave the master, as with \
         ferrocket admin promoteSlave -b {}",
        .0.broker_name,
        .0.broker_addrs.values().map(String::as_str).collect::<Vec<_>>().join(" or ")
    )]
    NoMaster(BrokerData),
    #[error("topic {topic} is on no broker called {broker}, but on {}", some(.known))]
    NoBroker { topic: String, broker: String, known: Vec<String> },
    #[error("no broker has the address {address}; the name server knows {}", some(.known))]
    NoAddress { address: String, known: Vec<String> },
    #[error("topic {topic} can't be {wanted}: its brokers ({}) give no permission, or none has a master", some(.brokers))]
    NoQueue { topic: String, wanted: &'static str, brokers: Vec<String> },
    #[error("the {kind} group {group} is not online: no broker that was asked has a client of it")]
    NotOnline { kind: &'static str, group: String },
    #[error("consumer group {group} has no progress: no offset was ever committed and no consumer of it is online")]
    NoProgress { group: String },
    #[error("no message has the id {id}: {reason}")]
    NoMessage { id: String, reason: String },
    #[error("--{option} {value:?} is not {expected}")]
    Value { option: &'static str, value: String, expected: String },
    #[error("{}", explained(.0))]
    Refused(#[from] ClientError),
    #[error("{address} answered with a record that can't be read: {reason}")]
    Record { address: String, reason: protocol::record::RecordError },
    #[error("can't write {what}: {reason}")]
    Write { what: String, reason: std::io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unreadable(String),
    #[error("the store is damaged in {0} places")]
    Damaged(usize),
    /// Some of several went well; each error is shown on a line of its own.
    #[error("{}", lines(.0))]
    Several(Vec<Error>),
}

impl Error {
    /// The answer's code, where a server refused.
    pub fn code(&self) -> Option<i32> {
        match self {
            Error::Refused(error) => error.code(),
            _ => None,
        }
    }

    /// The answer's remark, or the error's own words.
    pub fn remark(&self) -> String {
        match self {
            Error::Refused(ClientError::Refused { remark, .. }) => remark.clone(),
            other => other.to_string(),
        }
    }
}

/// The error, and what to look at where nobody answers at a broker's address.
fn explained(error: &ClientError) -> String {
    match error {
        ClientError::Connect { .. } | ClientError::Timeout { .. } => {
            format!("{error}. Check that a broker runs there, and that its brokerIP1 is an address that this machine can reach")
        }
        answered => answered.to_string(),
    }
}

fn list(errors: &[ClientError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn some(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn lines(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Splits a list of name servers at `;` (and `,`) and gives each a port.
pub fn namesrv_list(text: &str) -> Vec<String> {
    text.split([';', ',']).map(str::trim).filter(|a| !a.is_empty()).map(|a| with_port(a, NAMESRV_PORT)).collect()
}

/// The address to ask a broker's group at: its master, or where there is none, any slave.
pub fn any_address(broker: &BrokerData) -> Option<&str> {
    let master = broker.broker_addrs.get(&names::MASTER_ID);
    master.or_else(|| broker.broker_addrs.values().next()).map(String::as_str)
}

/// The brokers of a cluster by name.
pub fn brokers_of<'a>(info: &'a ClusterInfo, cluster: &str) -> Result<Vec<&'a BrokerData>, Error> {
    let Some(brokers) = info.cluster_addr_table.get(cluster) else {
        let known = info.cluster_addr_table.keys().cloned().collect();
        return Err(Error::NoCluster { cluster: cluster.to_owned(), known });
    };
    Ok(brokers.iter().filter_map(|name| info.broker_addr_table.get(name)).collect())
}

/// The addresses of a cluster's masters.
pub fn masters(info: &ClusterInfo, cluster: &str) -> Result<Vec<String>, Error> {
    Ok(brokers_of(info, cluster)?.iter().filter_map(|b| b.broker_addrs.get(&names::MASTER_ID).cloned()).collect())
}

/// The addresses of a cluster's masters and slaves.
pub fn members(info: &ClusterInfo, cluster: &str) -> Result<Vec<String>, Error> {
    Ok(brokers_of(info, cluster)?.iter().flat_map(|b| b.broker_addrs.values().cloned()).collect())
}

/// Says which topic has no route where the name server says that it knows none.
fn route_error(topic: &str, error: Error) -> Error {
    if error.code() == Some(codes::TOPIC_NOT_EXIST) { Error::NoRoute { topic: topic.to_owned() } } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_a_port() {
        assert_eq!(namesrv_list("a; b:1,[::1] ;;::1;[fe80::1]:7"), ["a:9876", "b:1", "[::1]:9876", "[::1]:9876", "[fe80::1]:7"]);
    }

    #[test]
    fn an_unknown_cluster_is_named_with_those_that_are_known() {
        let mut info = ClusterInfo::default();
        info.cluster_addr_table.insert("C1".into(), ["a".into(), "gone".into()].into());
        let addresses = [(0, "m:1".to_owned()), (1, "s:1".to_owned())].into();
        info.broker_addr_table.insert("a".into(), BrokerData { broker_addrs: addresses, ..Default::default() });
        assert_eq!(masters(&info, "C1").unwrap(), ["m:1"]);
        assert_eq!(members(&info, "C1").unwrap(), ["m:1", "s:1"]);
        assert_eq!(masters(&info, "C2").unwrap_err().to_string(), "no cluster is called C2; the name server knows C1");
    }
}
