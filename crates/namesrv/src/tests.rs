use std::net::SocketAddr;

use protocol::bodies::{DataVersion, RegisterBrokerBody, TopicConfig, TopicTable};
use protocol::exchange::CollectingOutbox;
use protocol::header::Outgoing;
use protocol::{Serialization, record};

use super::*;

/// A name server and the time.
struct World {
    server: Namesrv,
    now: i64,
    /// The name of brokers that register.
    name: &'static str,
    /// What brokers give for certain networks.
    advertised: Option<&'static str>,
    _directory: tempfile::TempDir,
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let mut config = NamesrvConfig::default();
    config.resolve(directory.path());
    World { server: Namesrv::open(config, 0).unwrap(), now: 0, name: "broker-a", advertised: None, _directory: directory }
}

fn connection(id: u64) -> Arc<Connection> {
    connection_from("127.0.0.1", id)
}

fn connection_from(host: &str, id: u64) -> Arc<Connection> {
    let address = SocketAddr::new(host.parse().unwrap(), 1000);
    Arc::new(Connection::new(id, address, address, Arc::new(CollectingOutbox::default())))
}

/// What the server said: code, remark, body.
struct Answer {
    frame: Frame,
    code: i32,
    remark: String,
}

impl Answer {
    fn body(&self) -> String {
        String::from_utf8(self.frame.body.to_vec()).unwrap()
    }
}

impl World {
    fn ask<'h, R: Request<'h>>(&self, connection: &Arc<Connection>, request: &R, body: &[u8]) -> Answer {
        let mut bytes = BytesMut::new();
        let head = Outgoing { serialization: Serialization::Json, code: R::CODE, opaque: 7, flag: 0, remark: None, extra: &[] };
        head.write(request, body.len(), &mut bytes);
        bytes.extend_from_slice(body);
        let mut frames = vec![protocol::frame::take(&mut bytes, usize::MAX).unwrap().unwrap()];
        let mut out = BytesMut::new();
        self.server.frames(self.now, connection, &mut frames, &mut out).unwrap();
        let frame = protocol::frame::take(&mut out, usize::MAX).unwrap().unwrap();
        let header = Header::decode(&frame).unwrap();
        assert_eq!(header.opaque, 7);
        let (code, remark) = (header.code, header.remark.map(|r| r.into_owned()).unwrap_or_default());
        Answer { frame, code, remark }
    }

    fn register(&self, connection: &Arc<Connection>, id: i64, address: &str, topics: &[&str], version: i64) -> Answer {
        let rows = topics.iter().map(|name| ((*name).to_owned(), TopicConfig::new(name, 4, 6))).collect();
        let table =
            TopicTable { data_version: DataVersion { counter: version, ..DataVersion::default() }, topic_config_table: rows };
        let body = fastjson::to_vec(&RegisterBrokerBody { filter_server_list: vec![], topic_config_serialize_wrapper: table });
        let request = RegisterBroker {
            broker_name: self.name,
            broker_addr: address,
            cluster_name: "C",
            ha_server_addr: "10.0.0.1:10912",
            broker_id: id,
            body_crc32: Some(record::crc(&body) as i32),
            advertised_addresses: self.advertised,
            ..RegisterBroker::default()
        };
        self.ask(connection, &request, &body)
    }

    fn route(&self, topic: &str) -> Answer {
        self.ask(&connection(99), &GetRouteInfo { topic, accept_standard_json_only: Some(true) }, &[])
    }
}

const MASTER: &str = "10.0.0.1:10911";

#[test]
fn routes_are_found_and_missing_ones_say_so() {
    let world = world();
    let missing = world.route("T");
    assert_eq!(
        (missing.code, missing.remark.as_str()),
        (codes::TOPIC_NOT_EXIST, "No topic route info in name server for the topic: T")
    );
    assert_eq!(world.register(&connection(1), 0, MASTER, &["T", "U"], 1).code, codes::SUCCESS);
    let expected = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911"},"brokerName":"broker-a","cluster":"C","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#;
    assert_eq!(world.route("T").body(), expected);
    // The fields of a Java client of today ask for standard JSON by their version alone.
    let by_version = world.ask(&connection(9), &GetRouteInfo { topic: "T", accept_standard_json_only: None }, &[]);
    assert_eq!(by_version.body(), expected);
}

#[test]
fn a_broker_whose_connection_closes_is_gone_at_once() {
    let world = world();
    world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    world.server.closed(0, &connection(1));
    assert_eq!(world.route("T").code, codes::TOPIC_NOT_EXIST);
}

#[test]
fn what_comes_late_never_removes_a_newer_registration() {
    let world = world();
    world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    world.register(&connection(2), 0, MASTER, &["T", "U"], 1);
    world.server.closed(0, &connection(1));
    assert_eq!(world.route("T").code, codes::SUCCESS);
    let leave = UnregisterBroker { broker_name: "broker-a", broker_addr: MASTER, cluster_name: "C", broker_id: 0 };
    world.ask(&connection(1), &leave, &[]);
    assert_eq!(world.route("T").code, codes::SUCCESS);
    world.ask(&connection(2), &leave, &[]);
    assert_eq!(world.route("T").code, codes::TOPIC_NOT_EXIST);
}

#[test]
fn silent_brokers_expire() {
    let mut world = world();
    world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    world.now = 100_000;
    let query = QueryDataVersion { broker_name: "broker-a", broker_addr: MASTER, cluster_name: "C", broker_id: 0 };
    let same = world.ask(&connection(1), &query, br#"{"counter":1}"#);
    assert!(Header::decode(&same.frame).unwrap().field("changed") == Some("false"));
    world.server.tick(220_000);
    assert_eq!(world.route("T").code, codes::SUCCESS);
    world.server.tick(230_001);
    assert_eq!(world.route("T").code, codes::TOPIC_NOT_EXIST);
}

#[test]
fn slaves_learn_of_their_master_and_bring_no_topics() {
    let world = world();
    let alone = world.register(&connection(2), 1, "10.0.0.2:10911", &["T", "U"], 1);
    assert_eq!(Header::decode(&alone.frame).unwrap().field("masterAddr"), None);
    assert_eq!(world.route("T").code, codes::TOPIC_NOT_EXIST);
    world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    let slave = world.register(&connection(2), 1, "10.0.0.2:10911", &["T", "U"], 1);
    let header = Header::decode(&slave.frame).unwrap();
    assert_eq!((header.field("masterAddr"), header.field("haServerAddr")), (Some(MASTER), Some("10.0.0.1:10912")));
    assert!(world.route("T").body().contains(r#""brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"}"#));
}

#[test]
fn a_second_broker_is_refused_an_address_as_long_as_the_first_lives() {
    let mut world = world();
    let mut register = |name, now, connection: u64, id| {
        (world.name, world.now) = (name, now);
        let answer = world.register(&self::connection(connection), id, MASTER, &["T", "U"], 1);
        (answer.code, answer.remark, world.ask(&self::connection(9), &GetBrokerClusterInfo {}, &[]).body())
    };
    register("a", 0, 1, 0);
    let (code, reason, all) = register("b", 0, 2, 1);
    assert_eq!(code, codes::SYSTEM_ERROR);
    for part in ["by broker a 0 of C", "broker b 1 of C", "brokerIP1", "listenPort"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(!all.contains("\"b\""), "{all}");
    assert_eq!(register("a", 0, 1, 1).0, codes::SUCCESS, "a broker becomes another on its connection");
    assert_eq!(register("a", 0, 3, 1).0, codes::SUCCESS, "it comes again on another connection");
    assert_eq!(register("b", 89_999, 2, 1).0, codes::SYSTEM_ERROR);
    let (code, _, all) = register("b", 90_000, 2, 1);
    assert_eq!(code, codes::SUCCESS, "the first is silent");
    assert!(!all.contains("\"a\""), "{all}");
    assert_eq!(register("a", 90_000, 4, 0).0, codes::SYSTEM_ERROR);
    world.server.closed(0, &connection(2));
    assert_eq!(world.register(&connection(4), 0, MASTER, &["T", "U"], 1).code, codes::SUCCESS, "the other is gone");
}

#[test]
fn clients_are_given_the_address_for_their_network() {
    let mut world = world();
    world.advertised = Some("10.0.0.0/8=10.0.0.5:1;192.168.0.0/16=mq.example:2");
    world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    for (client, address) in [("10.9.9.9", "10.0.0.5:1"), ("::ffff:192.168.1.1", "mq.example:2"), ("172.16.0.1", MASTER)] {
        let expected = format!(r#""brokerAddrs":{{"0":"{address}"}}"#);
        let client = connection_from(client, 5);
        let route = world.ask(&client, &GetRouteInfo { topic: "T", accept_standard_json_only: Some(true) }, &[]);
        assert!(route.body().contains(&expected), "{}", route.body());
        let all = world.ask(&client, &GetBrokerClusterInfo {}, &[]).body().replace("{0:", r#"{"0":"#);
        assert!(all.contains(&expected), "{all}");
    }
    world.advertised = None;
    let slave = world.register(&connection_from("10.9.9.9", 2), 1, "10.0.0.2:10911", &["T", "U"], 1);
    assert_eq!(Header::decode(&slave.frame).unwrap().field("masterAddr"), Some("10.0.0.5:1"));
    world.advertised = Some("10.0.0.0/8");
    world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    let again = world.ask(&connection_from("10.9.9.9", 5), &GetBrokerClusterInfo {}, &[]);
    assert!(again.body().contains(MASTER), "what can't be read is none");
}

#[test]
fn unknown_brokers_can_not_register_one_topic_alone() {
    let world = world();
    let refused = world.register(&connection(1), 0, MASTER, &["T"], 1);
    assert_eq!((refused.code, refused.remark.as_str()), (codes::SYSTEM_ERROR, "register broker failed"));
}

#[test]
fn damaged_registrations_are_refused_alone() {
    let world = world();
    world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    let request = RegisterBroker {
        broker_name: "b",
        broker_addr: "x:1",
        cluster_name: "C",
        body_crc32: Some(1),
        ..RegisterBroker::default()
    };
    let refused = world.ask(&connection(3), &request, b"{}");
    assert_eq!((refused.code, refused.remark.as_str()), (codes::SYSTEM_ERROR, "crc32 not match"));
    assert_eq!(world.route("T").code, codes::SUCCESS);
}

#[test]
fn write_permission_is_wiped_and_given_back() {
    let world = world();
    world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    let wiped = world.ask(&connection(9), &WipeWritePerm { broker_name: "broker-a" }, &[]);
    assert_eq!(Header::decode(&wiped.frame).unwrap().field("wipeTopicCount"), Some("2"));
    assert!(world.route("T").body().contains(r#""perm":4"#));
    world.ask(&connection(9), &AddWritePerm { broker_name: "broker-a" }, &[]);
    assert!(world.route("T").body().contains(r#""perm":6"#));
}

#[test]
fn key_values_survive_and_ordered_topics_go_to_brokers() {
    let mut world = world();
    let put = PutKvConfig { namespace: names::ORDER_TOPIC_CONFIG, key: "T", value: "broker-a:4" };
    assert_eq!(world.ask(&connection(9), &put, &[]).code, codes::SUCCESS);
    let config = world.server.config.read().clone();
    world.server = Namesrv::open(config, 0).unwrap();
    let get = world.ask(&connection(9), &GetKvConfig { namespace: names::ORDER_TOPIC_CONFIG, key: "T" }, &[]);
    assert_eq!(Header::decode(&get.frame).unwrap().field("value"), Some("broker-a:4"));
    let registered = world.register(&connection(1), 0, MASTER, &["T", "U"], 1);
    assert_eq!(registered.body(), r#"{"table":{"T":"broker-a:4"}}"#);
    let missing = world.ask(&connection(9), &GetKvConfig { namespace: "x", key: "y" }, &[]);
    assert_eq!(missing.code, codes::QUERY_NOT_FOUND);
}

#[test]
fn settings_change_and_forbidden_ones_do_not() {
    let world = world();
    let update = |text: &str| world.ask(&connection(9), &UpdateNamesrvConfig {}, text.as_bytes());
    assert_eq!(update("enableTopicList=false").code, codes::SUCCESS);
    assert_eq!(world.ask(&connection(9), &GetTopicsByCluster { cluster: "C" }, &[]).code, codes::SYSTEM_ERROR);
    assert_eq!(update("kvConfigPath=/tmp/x").code, codes::NO_PERMISSION);
    assert_eq!(update("listenPort=abc").code, codes::SYSTEM_ERROR);
    assert!(world.ask(&connection(9), &GetNamesrvConfig {}, &[]).body().contains("enableTopicList=false\n"));
}
