use std::collections::BTreeMap;

use stdx::config::{Effect, Report};
use stdx::properties;

use super::*;

fn load(text: &str) -> (BrokerConfig, Report) {
    let mut config = BrokerConfig::default();
    let report = config.apply(Path::new("broker.conf"), &properties::parse(text.as_bytes()).unwrap());
    (config, report)
}

fn resolve(config: &mut BrokerConfig) -> Result<Vec<String>, Misfit> {
    config.resolve(Path::new("/opt"), "host", "127.0.0.1")
}

/// Takes a file that must not be criticised.
fn accepted(text: &str) -> (BrokerConfig, Vec<String>) {
    let (config, report) = load(text);
    assert_eq!((report.errors, report.warnings), (vec![], vec![]), "{text}");
    (config, report.without_effect)
}

const DOCKER_SLAVE: &str = include_str!("../../../../deploy/000-one-pair-compose/a-s/broker.properties");
const TWO_HOSTS: &str = include_str!("../../../../deploy/001-two-machines/node2/broker.conf");
const TWO_MASTERS: &str = include_str!("../../../../deploy/003-two-hosts-docker/slavenode1/broker-a.properties");
const OLD: &str = include_str!("../../../../deploy/004-two-machines-sync/broker-a.properties");
const RAFT: &str = "####################### broker 配置 ###########################
brokerClusterName = RaftCluster
brokerName=RaftNode00
# brokerId=-1
brokerIP1=192.168.1.4
listenPort=10911
namesrvAddr=nameserver-01:9876;nameserver-02:9876
autoCreateTopicEnable=false
################# DLeger配置 ##########################
enableDLegerCommitLog=true
dLegerGroup=RaftNode00
dLegerPeers=n0-broker-01:40911;n1-broker-02:40911
dLegerSelfId=n0
sendMessageThreadPoolNums=4
";

#[test]
fn the_files_of_running_deployments_are_taken_without_a_word_against_them() {
    let (mut slave, _) = accepted(DOCKER_SLAVE);
    resolve(&mut slave).unwrap();
    assert_eq!((slave.broker_role, slave.broker_id), (BrokerRole::Slave, 1));
    assert_eq!(slave.store_path_root_dir, "/opt/store");

    let (mut two, notes) = accepted(&TWO_HOSTS.replace('\n', "\r\n"));
    assert_eq!(resolve(&mut two), Ok(vec![]));
    assert_eq!((two.broker_cluster_name.as_str(), two.broker_ip2.as_str()), ("rootopCluster", "192.168.0.15"));
    assert_eq!(two.store_path_commit_log, "/home/software/rocketmq/store/commitlog");
    assert_eq!(notes.len(), 1, "{notes:?}");

    let (mut masters, _) = accepted(TWO_MASTERS);
    resolve(&mut masters).unwrap();
    assert_eq!(masters.name_servers(), ["192.168.1.161:9876", "192.168.1.162:9876"]);

    let (mut old, notes) = accepted(OLD);
    assert_eq!(resolve(&mut old), Ok(vec![]));
    assert_eq!((old.mapped_file_size_commit_log, old.mapped_file_size_consume_queue), (1_073_741_824, 50_000_000));
    assert_eq!((old.max_message_size, old.broker_role), (65536, BrokerRole::SyncMaster));
    assert_eq!(notes.len(), 2, "{notes:?}");

    let (mut raft, _) = accepted(RAFT);
    assert!(!raft.auto_create_topic_enable);
    let refused = resolve(&mut raft).unwrap_err();
    assert!(refused.message.contains("not supported yet") && refused.message.contains("name a third peer"), "{refused}");
    assert_eq!(raft.get("dLegerPeers").as_deref(), Some("n0-broker-01:40911;n1-broker-02:40911"));
}

#[test]
fn other_ways_to_write_are_taken() {
    let (config, _) = accepted("brokerName: a\nlistenPort 20911\nautoCreateTopicEnable : false\nflushDiskType=SYNC_FLUSH  \n");
    assert_eq!((config.broker_name.as_str(), config.listen_port, config.auto_create_topic_enable), ("a", 20911, false));
    assert_eq!(config.flush_disk_type, FlushDiskType::SyncFlush);
    let (config, notes) =
        accepted("haSlaveFallbehindMax=1\nsendMessageThreadPoolNums: 200\nuseReentrantLockWhenPutMessage: true");
    assert_eq!(config.get("haMaxGapNotInSync").as_deref(), Some("1"));
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let exit = |text: &str| resolve(&mut load(text).0).map_err(|misfit| (misfit.exit_code, misfit.message));
    assert_eq!(exit("brokerRole=SLAVE"), Err((-3, "Slave's brokerId must be > 0".into())));
    assert_eq!(exit("enableDLegerCommitLog=true\nenableControllerMode=true").unwrap_err().0, -4);
    for list in ["a:9876;b:x", ":9876", "a:0", "a:70000"] {
        assert_eq!(exit(&format!("namesrvAddr={list}")).unwrap_err().0, -3, "{list}");
    }
    assert_eq!(exit("storePathCommitLog=/a,/b").unwrap_err().0, -1);
    assert!(exit("listenPort=65535").unwrap_err().1.contains("haListenPort, one above it, would be 65536"));
    assert!(exit("listenPort=2").unwrap_err().1.contains("would be 0"));
    let (_, report) = load("listenPort=abc\nflushDiskType=SYNC");
    assert_eq!(
        report.errors,
        [
            "broker.conf:1: listenPort=abc: expected an integer between 1 and 65535",
            "broker.conf:2: flushDiskType=SYNC: expected ASYNC_FLUSH or SYNC_FLUSH",
        ]
    );
}

#[test]
fn what_is_not_taken_as_it_stands_is_said() {
    let notes = |text: &str| resolve(&mut load(text).0).unwrap();
    assert_eq!(notes("brokerId=3"), ["brokerId=3 is ignored: a broker with brokerRole=ASYNC_MASTER has brokerId 0"]);
    assert_eq!(notes("namesrvAddr=a;b:1"), ["name server a has no port: 9876 is taken"]);
    assert_eq!(notes("namesrvAddr=::1"), ["name server ::1 has no port: 9876 is taken"]);
    assert!(notes("dLegerPeers=n0-a:1;n1-b:1")[0].contains("names 2, and a group of less than 3 peers"));
    assert_eq!(notes("dLegerPeers=n0-a:1;n1-b:1;n2-c:1"), [""; 0]);
    assert!(notes("mappedFileSizeConsumeQueue=50000010")[0].ends_with("rounded up to 50000020, whole entries of 20 bytes"));
    assert!(notes("aclEnable=true")[0].contains("access control is not supported yet"));
    assert_eq!(notes("aclEnable=false"), [""; 0]);
}

#[test]
fn what_is_not_set_follows_from_the_rest() {
    let (mut config, _) = load("namesrvAddr=a:9876;b:1\nlistenPort=20911");
    assert_eq!(resolve(&mut config), Ok(vec![]));
    assert_eq!(config.name_servers(), ["a:9876", "b:1"]);
    assert_eq!((config.ha_listen_port, config.store_path_commit_log.as_str()), (20912, "/opt/store/commitlog"));
    assert_eq!((config.broker_name.as_str(), config.broker_ip2.as_str()), ("host", "127.0.0.1"));
    for key in ["haListenPort", "storePathCommitLog", "brokerName", "brokerIP1", "brokerIP2"] {
        assert_eq!(config.extra.sources.get(key), Some(&Source::Derived), "{key}");
    }
}

#[test]
fn every_key_stands_in_one_place() {
    let mut keys: Vec<&str> = BrokerConfig::rows().iter().map(|row| row.key).collect();
    keys.extend(BrokerConfig::inert().iter().map(|inert| inert.key));
    keys.extend(ALIASES.iter().map(|(old, _)| *old));
    keys.sort_unstable();
    let twice: Vec<_> = keys.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for (old, current) in ALIASES {
        assert!(keys.binary_search(current).is_ok(), "{old} stands for {current}, which is no key");
    }
}

#[test]
fn every_default_could_be_set() {
    let mut config = BrokerConfig::default();
    for (key, value, _) in BrokerConfig::default().pairs() {
        config.set_from(key, &value, Source::Runtime).unwrap();
    }
    assert_eq!(config.text(), BrokerConfig::default().text());
}

/// The tables of one process's keys.
fn documented<T: Table>(aliases: &str) -> String {
    let defaults = T::default();
    let cell = |text: &str| if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) };
    let mut out = String::from("| key | value | default | a change counts | meaning |\n|---|---|---|---|---|\n");
    let mut rows: Vec<_> = T::rows().into_iter().zip(defaults.fields()).collect();
    rows.sort_by_key(|(row, _)| row.key);
    for (row, (_, default)) in rows {
        let counts = match row.effect {
            Effect::Live => "at once",
            Effect::Restart => "after a restart",
        };
        out += &format!("| `{}` | {} | {} | {counts} | {} |\n", row.key, row.expected, cell(&default), row.doc);
    }
    out += &format!("{aliases}\n### Accepted without effect\n");
    let mut groups: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    T::inert().iter().for_each(|key| groups.entry(key.why).or_default().push(key));
    for (why, keys) in groups {
        out += &format!("\nBecause {why}:\n\n| key | value | default |\n|---|---|---|\n");
        keys.iter().for_each(|key| out += &format!("| `{}` | {} | {} |\n", key.key, key.expected, cell(key.default)));
    }
    out
}

const DOCS_HEAD: &str = "# Configuration

This page is made from the tables in `crates/broker/src/config.rs` and `crates/namesrv/src/config.rs`; a test compares it
with them, and `UPDATE_DOCS=1 cargo test -p broker config` writes it again.

Files are Java properties: `key=value`, `key: value` or `key value`, comments with `#` and `!`, `\\` at the end of a line
continues it, the last of two equal keys counts. `${user.home}` and other `${name}` stand for Java's system properties, as
set with `-Dname=value` in `JAVA_OPT`. A bad value refuses the start; an unknown key is a warning. `-p` prints what is in
force and where each value comes from.

Every key of RocketMQ 4.1 to 5.4 is known. Those *without effect* are checked, kept and shown like the others; one that is
set to another value than Java's default is noted at the start.
";

#[test]
fn the_documentation_has_every_key() {
    let old = ALIASES.iter().map(|(old, current)| format!("`{old}` for `{current}`")).collect::<Vec<_>>().join(", ");
    let page = format!(
        "{DOCS_HEAD}\n## Broker\n\n{}\n## Name server\n\n{}",
        documented::<BrokerConfig>(&format!("\nHistoric spellings are taken: {old}.\n")),
        documented::<namesrv::NamesrvConfig>("")
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/configuration.md is not what the tables say: UPDATE_DOCS=1 cargo test -p broker config");
}
