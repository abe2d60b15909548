//! The name server's configuration.

use std::path::Path;

use stdx::config::{Source, Table};

stdx::config! {
    /// A name server's settings.
    pub struct NamesrvConfig;
    inert [include_str!("inert.txt"), stdx::config::SHARED_INERT];
    aliases &[];

    /// Port for brokers and clients.
    Restart listen_port: i32 = "listenPort", 9876, in 1..=65535;
    /// Address to listen on.
    Restart bind_address: String = "bindAddress", "0.0.0.0".into();
    /// Directory of the installation.
    Restart rocketmq_home: String = "rocketmqHome", String::new();
    /// File of the key-values; `namesrv/kvConfig.json` in the user's home where it is not set.
    Restart kv_config_path: String = "kvConfigPath", String::new();
    /// File to which changed settings are written; `namesrv/namesrv.properties` in the user's home where it is not set.
    Restart config_store_path: String = "configStorePath", String::new();
    /// Whether routes of ordered topics name their queues.
    Live order_message_enable: bool = "orderMessageEnable", false;
    /// Whether a broker that registers is told of ordered topics.
    Live return_order_topic_config_to_broker: bool = "returnOrderTopicConfigToBroker", true;
    /// ms between two looks for brokers that are silent.
    Live scan_not_active_broker_interval: i64 = "scanNotActiveBrokerInterval", 5000, in 1..;
    /// Whether the slave with the smallest id is shown as master where there is none.
    Live support_acting_master: bool = "supportActingMaster", false;
    /// Whether all topics may be asked for.
    Live enable_all_topic_list: bool = "enableAllTopicList", true;
    /// Whether topics of a kind may be asked for.
    Live enable_topic_list: bool = "enableTopicList", true;
    /// Whether routes are refused until brokers had the time to register.
    Live need_wait_for_service: bool = "needWaitForService", false;
    /// Seconds that `needWaitForService` waits for.
    Live wait_seconds_for_service: i32 = "waitSecondsForService", 45, in 0..=86_400;
    /// Whether topics that a registration does not name any more are dropped.
    Live delete_topic_with_broker_registration: bool = "deleteTopicWithBrokerRegistration", false;
    /// Seconds after which a silent connection is closed.
    Restart server_channel_max_idle_time_seconds: i32 = "serverChannelMaxIdleTimeSeconds", 120, in 1..;
    /// Connections that may wait to be accepted.
    Restart server_socket_backlog: i32 = "serverSocketBacklog", 1024, in 1..=65535;
    /// Bytes of a socket's send buffer; 0 leaves it to the system.
    Restart server_socket_snd_buf_size: i32 = "serverSocketSndBufSize", 0, in 0..;
    /// Bytes of a socket's receive buffer; 0 leaves it to the system.
    Restart server_socket_rcv_buf_size: i32 = "serverSocketRcvBufSize", 0, in 0..;
}

impl NamesrvConfig {
    /// Fills in the paths that are not set, below the user's home as in Java.
    pub fn resolve(&mut self, user_home: &Path) {
        let directory = user_home.join("namesrv");
        let mut derive = |field: &mut String, key: &'static str, name: &str| {
            if field.is_empty() {
                *field = directory.join(name).display().to_string();
                self.extra.sources.insert(key, Source::Derived);
            }
        };
        derive(&mut self.kv_config_path, "kvConfigPath", "kvConfig.json");
        derive(&mut self.config_store_path, "configStorePath", "namesrv.properties");
    }

    /// All settings as text, for tools.
    pub fn text(&self) -> String {
        self.pairs().into_iter().map(|(key, value, _)| format!("{key}={value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use stdx::properties;

    use super::*;

    fn load(text: &str) -> (NamesrvConfig, stdx::config::Report) {
        let mut config = NamesrvConfig::default();
        let report = config.apply(Path::new("namesrv.conf"), &properties::parse(text.as_bytes()).unwrap());
        (config, report)
    }

    #[test]
    fn paths_follow_from_the_users_home() {
        let (mut config, _) = load("kvConfigPath=/data/kv.json");
        config.resolve(Path::new("/opt"));
        assert_eq!(config.kv_config_path, "/data/kv.json");
        assert_eq!(config.config_store_path, "/opt/namesrv/namesrv.properties");
        assert_eq!(config.extra.sources.get("configStorePath"), Some(&Source::Derived));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (config, report) = load("listenPort=9877\nserverWorkerThreads=16\nenableControllerInNamesrv=true\nlistenPrt=1");
        assert_eq!((config.listen_port, report.errors), (9877, vec![]));
        assert_eq!(report.warnings, ["namesrv.conf:4: unknown key \"listenPrt\", did you mean \"listenPort\"?"]);
        assert_eq!(report.without_effect.len(), 2);
        assert!(report.without_effect[1].contains("the controller is not supported yet"), "{:?}", report.without_effect);
    }

    #[test]
    fn every_key_stands_in_one_place_with_a_default_that_could_be_set() {
        let mut keys: Vec<&str> = NamesrvConfig::rows().iter().map(|row| row.key).collect();
        keys.extend(NamesrvConfig::inert().iter().map(|inert| inert.key));
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        let mut config = NamesrvConfig::default();
        for (key, value, _) in NamesrvConfig::default().pairs() {
            config.set_from(key, &value, Source::Runtime).unwrap();
        }
        assert_eq!(config.text(), NamesrvConfig::default().text());
    }
}
