//! Masters and slaves, of Java and of this project, with a name server of this project.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::clients::java_server_jars;
use crate::server::{java, mounted};
use crate::{binary, free_port, try_admin, wait_for};

/// Whose broker or name server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Java(&'static str),
    Ferrocket,
}

/// A broker of a group.
pub struct Member {
    whose: Whose,
    pub port: u16,
    home: PathBuf,
    child: Option<Child>,
    runs: usize,
}

/// A name server, which keeps its address when it is started again. Killed when dropped.
pub struct NameServer {
    whose: Whose,
    pub address: String,
    home: PathBuf,
    child: Option<Child>,
}

impl NameServer {
    /// At an address of this machine that is free.
    pub fn start(whose: Whose, address: String, home: PathBuf) -> Self {
        fs::create_dir_all(&home).unwrap();
        let mut server = Self { whose, address, home, child: None };
        server.start_again();
        server
    }

    /// Kills it where it runs, and starts it with nothing that it knew.
    pub fn start_again(&mut self) {
        self.kill();
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let config = self.home.join("namesrv.conf");
        fs::write(&config, format!("bindAddress={host}\nlistenPort={port}\n")).unwrap();
        let mut command = Command::new(binary());
        command.arg("namesrv").env("HOME", &self.home);
        if let Whose::Java(version) = self.whose {
            let jars = java_server_jars(version).expect("Java is there");
            command = java(&jars, &self.home, "org.apache.rocketmq.namesrv.NamesrvStartup");
        }
        command.arg("-c").arg(&config);
        self.child = Some(spawn(&mut command, &self.home.join("namesrv.log")));
        wait_for("the name server", || TcpStream::connect(&self.address).ok());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("namesrv.log")).unwrap_or_default()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the name server at {} said:\n{}", self.address, self.log());
        }
    }
}

/// Brokers and a name server, all with directories of their own. Stopped and removed when dropped.
pub struct Group {
    pub namesrv: NameServer,
    pub directory: TempDir,
    /// A file that brokers are to take for /etc/hosts.
    pub hosts: Option<PathBuf>,
    members: Vec<Member>,
}

/// Starts a command that appends what it prints to a log.
pub(crate) fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

impl Group {
    /// Starts the name server.
    pub fn start() -> Self {
        Self::start_of(Whose::Ferrocket)
    }

    /// [`Group::start`], with a name server of Java's or this project's.
    pub fn start_of(whose: Whose) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let namesrv = NameServer::start(whose, format!("127.0.0.1:{}", free_port()), directory.path().join("namesrv"));
        Self { directory, namesrv, hosts: None, members: Vec::new() }
    }

    /// The name server's address, for clients.
    pub fn name_server(&self) -> String {
        self.namesrv.address.clone()
    }

    /// Adds a broker and starts it. Returns its number; `None` where there is no Java.
    pub fn add(&mut self, whose: Whose, settings: &str) -> Option<usize> {
        if let Whose::Java(version) = whose {
            java_server_jars(version)?;
        }
        let number = self.members.len();
        let home = self.directory.path().join(number.to_string());
        fs::create_dir_all(home.join("conf")).unwrap();
        // 4.9 wants this file; 5.x has its own beside its classes.
        fs::write(home.join("conf/logback_broker.xml"), "<configuration><root level=\"OFF\"/></configuration>").unwrap();
        self.members.push(Member { whose, port: free_port(), home, child: None, runs: 0 });
        self.open(number, whose, settings);
        Some(number)
    }

    /// Starts a broker that does not run, on its store and port, as Java's or this project's.
    pub(crate) fn open(&mut self, number: usize, whose: Whose, settings: &str) {
        let (store, member) = (self.store(number), &mut self.members[number]);
        member.whose = whose;
        let settings = format!(
            "brokerIP1=127.0.0.1\nlistenPort={}\nhaListenPort={}\nnamesrvAddr={}\nstorePathRootDir={}\n\
             storePathCommitLog={}\nmappedFileSizeCommitLog=1048576\nhaSendHeartbeatInterval=500\nwaitTimeMillsInSendQueue=30000\n{settings}",
            member.port,
            member.port + 1,
            self.namesrv.address,
            store.display(),
            store.join("commitlog").display()
        );
        fs::write(member.home.join("broker.conf"), settings).unwrap();
        self.launch(number);
    }

    /// Starts a broker again that was stopped or killed.
    pub fn launch(&mut self, number: usize) {
        let member = &mut self.members[number];
        assert!(member.child.is_none(), "broker {number} still runs");
        member.runs += 1;
        let mut command = match (member.whose, &self.hosts) {
            (Whose::Ferrocket, None) => Command::new(binary()),
            (Whose::Ferrocket, Some(hosts)) => mounted(&format!("mount --bind {} /etc/hosts", hosts.display())),
            (Whose::Java(version), _) => {
                let jars = java_server_jars(version).expect("Java was there a moment ago");
                java(&jars, &member.home, "org.apache.rocketmq.broker.BrokerStartup")
            }
        };
        if member.whose == Whose::Ferrocket {
            command.arg("broker").env("HOME", &member.home);
        }
        command.arg("-c").arg(member.home.join("broker.conf"));
        member.child = Some(spawn(&mut command, &member.log_path()));
        wait_for("the broker to be ready", || {
            let ended = member.child.as_mut().and_then(|c| c.try_wait().unwrap());
            assert!(ended.is_none(), "{:?} ended: {}", member.whose, member.log());
            let printed = fs::read_to_string(member.log_path()).unwrap();
            printed.contains("boot success").then_some(())
        });
    }

    /// Where a broker is reached.
    pub fn broker(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.port(number))
    }

    /// A broker's port.
    pub fn port(&self, number: usize) -> u16 {
        self.members[number].port
    }

    /// What the newest run of a broker printed.
    pub fn log(&self, number: usize) -> String {
        self.members[number].log()
    }

    pub fn store(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("{number}/store"))
    }

    /// Kills a broker as a crash would.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.members[number].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops a broker in good order.
    pub fn stop(&mut self, number: usize) {
        if let Some(mut child) = self.members[number].child.take() {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            wait_for("the broker to stop", || child.try_wait().unwrap());
        }
    }

    /// The id of a broker's process, which runs.
    pub fn pid(&self, number: usize) -> Pid {
        Pid::from_child(self.members[number].child.as_ref().expect("it runs"))
    }

    /// Sends a broker a signal.
    pub fn signal(&self, number: usize, signal: Signal) {
        kill_process(self.pid(number), signal).unwrap();
    }

    /// What `ferrocket admin` prints, also on stderr.
    pub fn admin(&self, arguments: &[&str]) -> String {
        let output = Command::new(binary()).arg("admin").args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// The figures of `brokerStatus`.
    pub fn status(&self, number: usize) -> BTreeMap<String, String> {
        status(&self.broker(number))
    }

    /// Where a broker's commit log ends.
    pub fn end(&self, number: usize) -> u64 {
        offset(&self.broker(number), "commitLogMaxOffset")
    }

    /// [`wait_for_copy`] of a master's log by a slave.
    pub fn wait_for_copy(&self, master: usize, slave: usize) -> (u64, u64) {
        let [master, slave] = [master, slave].map(|number| (self.broker(number), self.store(number)));
        wait_for_copy((&master.0, &master.1), (&slave.0, &slave.1))
    }
}

/// The figures of `brokerStatus`; none where the broker can't be reached.
pub fn status(broker: &str) -> BTreeMap<String, String> {
    let text = try_admin(&["brokerStatus", "-b", broker]).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

fn offset(broker: &str, which: &str) -> u64 {
    status(broker).get(which).and_then(|offset| offset.parse().ok()).unwrap_or(0)
}

/// Waits until a slave's commit log ends where its master's does, and compares them from the first byte on that both have.
/// Each is an address and a store. Returns where the compared part begins and ends.
///
/// # Panics
/// When they differ, or the slave does not catch up.
pub fn wait_for_copy(master: (&str, &Path), slave: (&str, &Path)) -> (u64, u64) {
    let end = wait_for("the slave to have the master's log", || {
        let end = offset(master.0, "commitLogMaxOffset");
        (end > 0 && offset(slave.0, "commitLogMaxOffset") == end).then_some(end)
    });
    let begin = offset(slave.0, "commitLogMinOffset").max(offset(master.0, "commitLogMinOffset"));
    let [in_master, in_slave] = [master.1, slave.1].map(|store| log_bytes(store, begin, end));
    assert!(in_master == in_slave, "the logs of {} and {} differ between {begin} and {end}", master.0, slave.0);
    (begin, end)
}

fn log_bytes(store: &Path, begin: u64, end: u64) -> Vec<u8> {
    let mut bytes = vec![0; (end - begin) as usize];
    for entry in fs::read_dir(store.join("commitlog")).unwrap() {
        let entry = entry.unwrap();
        let base: u64 = entry.file_name().into_string().unwrap().parse().unwrap();
        let (first, last) = (base.max(begin), (base + entry.metadata().unwrap().len()).min(end));
        if first < last {
            let part = &mut bytes[(first - begin) as usize..(last - begin) as usize];
            File::open(entry.path()).unwrap().read_exact_at(part, first - base).unwrap();
        }
    }
    bytes
}

impl Member {
    fn log_path(&self) -> PathBuf {
        self.home.join(format!("broker-{}.log", self.runs))
    }

    fn log(&self) -> String {
        let own = fs::read_to_string(self.log_path()).unwrap_or_default();
        own + &fs::read_to_string(self.home.join("logs/rocketmqlogs/broker.log")).unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                // It may have ended already.
                let _ = child.kill();
                let _ = child.wait();
            }
            if panicking {
                eprintln!("broker {:?} at {} said:\n{}", member.whose, member.port, member.log());
            }
        }
    }
}
