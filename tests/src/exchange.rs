//! One store directory that brokers of Java and of this project open in turn.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::clients::java_server_jars;
use crate::server::{java, lasting_broker_port};
use crate::{binary, free_port, wait_for};

/// Whose broker opens the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Java(&'static str),
    Ferrocket,
}

/// A name server of this project, and a store whose broker changes. Stopped and removed when dropped.
pub struct Exchange {
    directory: TempDir,
    namesrv: Child,
    namesrv_port: u16,
    broker_port: u16,
    broker: Option<Child>,
    runs: usize,
    settings: String,
}

impl Exchange {
    /// Starts the name server; `settings` are those of every broker.
    pub fn start(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (namesrv_port, broker_port) = (free_port(), lasting_broker_port());
        let config = directory.path().join("namesrv.conf");
        fs::write(&config, format!("listenPort={namesrv_port}\n")).unwrap();
        let log = File::create(directory.path().join("namesrv.log")).unwrap();
        let mut command = Command::new(binary());
        command.args(["namesrv", "-c"]).arg(&config).env("HOME", directory.path());
        let namesrv = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let store = directory.path().join("store");
        let settings = format!(
            "brokerName=broker-a\nlistenPort={broker_port}\nnamesrvAddr=127.0.0.1:{namesrv_port}\nstorePathRootDir={}\n\
             storePathCommitLog={}\n{settings}",
            store.display(),
            store.join("commitlog").display()
        );
        Self { directory, namesrv, namesrv_port, broker_port, broker: None, runs: 0, settings }
    }

    /// The name server's address, for clients.
    pub fn name_server(&self) -> String {
        format!("127.0.0.1:{}", self.namesrv_port)
    }

    /// The broker's address where it is reached at `ip`.
    pub fn broker(&self, ip: &str) -> String {
        format!("{ip}:{}", self.broker_port)
    }

    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Starts a broker on the store, with more settings. `false` where there is no Java.
    pub fn open(&mut self, whose: Whose, settings: &str) -> bool {
        assert!(self.broker.is_none(), "a broker still runs");
        self.runs += 1;
        let home = self.directory.path();
        let config = home.join("broker.conf");
        fs::write(&config, format!("{}{settings}", self.settings)).unwrap();
        let mut command = match whose {
            Whose::Ferrocket => {
                let mut command = Command::new(binary());
                command.arg("broker").env("HOME", home);
                command
            }
            Whose::Java(version) => {
                let Some(jars) = java_server_jars(version) else { return false };
                // 4.9 wants this file; 5.x has its own beside its classes.
                fs::create_dir_all(home.join("conf")).unwrap();
                fs::write(home.join("conf/logback_broker.xml"), "<configuration><root level=\"OFF\"/></configuration>").unwrap();
                java(&jars, home, "org.apache.rocketmq.broker.BrokerStartup")
            }
        };
        let log = File::create(self.log_path()).unwrap();
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.broker = Some(command.spawn().unwrap());
        wait_for("the broker to be ready", || {
            let ended = self.broker.as_mut().and_then(|c| c.try_wait().unwrap());
            assert!(ended.is_none(), "{whose:?} ended: {}", self.log());
            self.log().contains("boot success").then_some(())
        });
        true
    }

    /// Stops the broker in good order.
    pub fn stop(&mut self) {
        let Some(mut child) = self.broker.take() else { return };
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        wait_for("the broker to stop", || child.try_wait().unwrap());
        assert!(!self.store().join("abort").exists(), "it did not stop in good order: {}", self.log());
    }

    /// Kills the broker as a crash would.
    pub fn kill(&mut self) {
        let Some(mut child) = self.broker.take() else { return };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(self.store().join("abort").exists());
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join(format!("broker-{}.log", self.runs))
    }

    /// What the newest broker printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        for child in std::iter::once(&mut self.namesrv).chain(&mut self.broker) {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let namesrv = fs::read_to_string(self.directory.path().join("namesrv.log")).unwrap_or_default();
            eprintln!("broker {} said:\n{}\nthe name server said:\n{namesrv}", self.runs, self.log());
        }
    }
}
