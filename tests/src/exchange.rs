//! One store directory that brokers of Java and of this project open in turn.

use std::path::PathBuf;

use crate::clients::java_server_jars;
use crate::{Group, Whose};

/// Java's, for reference.
pub const JAVA: Whose = Whose::Java("5.4.0");

/// A name server, and a store whose broker changes. Stopped and removed when dropped.
pub struct Exchange {
    group: Group,
    settings: String,
    runs: usize,
}

impl Exchange {
    /// Starts the name server; `settings` are those of every broker.
    pub fn start(namesrv: Whose, settings: &str) -> Self {
        let settings = format!("brokerName=broker-a\nmappedFileSizeCommitLog=67108864\n{settings}");
        Self { group: Group::start_of(namesrv), settings, runs: 0 }
    }

    /// [`Exchange::start`], with [`JAVA`]'s broker; `None` where there is no Java.
    pub fn java(namesrv: Whose, settings: &str) -> Option<Self> {
        java_server_jars("5.4.0")?;
        let mut exchange = Self::start(namesrv, settings);
        exchange.open(JAVA, "").then_some(exchange)
    }

    /// The broker's port.
    pub fn port(&self) -> u16 {
        self.group.port(0)
    }

    /// The name server's address, for clients.
    pub fn name_server(&self) -> String {
        self.group.name_server()
    }

    /// The broker's address where it is reached at `ip`.
    pub fn broker(&self, ip: &str) -> String {
        format!("{ip}:{}", self.port())
    }

    pub fn store(&self) -> PathBuf {
        self.group.store(0)
    }

    /// Starts a broker on the store, with more settings. `false` where there is no Java.
    pub fn open(&mut self, whose: Whose, settings: &str) -> bool {
        let settings = format!("{}{settings}", self.settings);
        self.runs += 1;
        if self.runs == 1 {
            return self.group.add(whose, &settings).is_some();
        }
        self.group.open(0, whose, &settings);
        true
    }

    /// Stops the broker in good order.
    pub fn stop(&mut self) {
        self.group.stop(0);
        assert!(!self.store().join("abort").exists(), "it did not stop in good order: {}", self.group.log(0));
    }

    /// Kills the broker as a crash would.
    pub fn kill(&mut self) {
        self.group.kill(0);
        assert!(self.store().join("abort").exists());
    }
}
