//! A name server and a broker of this project, as processes.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{root, target, wait_for};

/// Linux gives ports from 32768 on.
const LASTING_PORTS: std::ops::Range<u16> = 12_000..32_000;

/// How a system is started.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Settings of the broker, as lines of its configuration file.
    pub broker: String,
}

/// `ferrocket server` on free ports, with a directory of its own. Stopped and removed when dropped.
pub struct Server {
    pub directory: TempDir,
    pub namesrv_port: u16,
    pub broker_port: u16,
    setup: Setup,
    /// MiB of a file system of its own that the data are on.
    disk: Option<u32>,
    child: Option<Child>,
}

/// The binary under test: `FERROCKET_BIN`, else the release build, else the debug build.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FERROCKET_BIN") {
        return path.into();
    }
    let built = ["release", "debug"].map(|profile| target().join(profile).join("ferrocket"));
    let found = built.iter().find(|path| path.exists()).cloned();
    found.unwrap_or_else(|| panic!("no binary to test: cargo build --release -p ferrocket makes it"))
}

impl Server {
    pub fn start(setup: Setup) -> Self {
        Self::start_on(setup, |_| ())
    }

    /// [`Server::start`], where `fill` puts something into the data directory first.
    pub fn start_on(setup: Setup, fill: impl FnOnce(&Path)) -> Self {
        Self::start_with(setup, None, fill)
    }

    /// [`Server::start`] in a mount namespace, with data on a file system of so many MiB that goes with the process.
    pub fn start_on_small_disk(setup: Setup, mib: u32) -> Self {
        Self::start_with(setup, Some(mib), |data| fs::create_dir(data).unwrap())
    }

    fn start_with(setup: Setup, disk: Option<u32>, fill: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fill(&directory.path().join("data"));
        let (namesrv_port, broker_port) = (free_port(), free_broker_port());
        let mut server = Self { directory, namesrv_port, broker_port, setup, disk, child: None };
        server.launch();
        server
    }

    /// The data as the server's process sees them.
    pub fn data_inside(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.pid(), self.data().display()))
    }

    /// The name server's address, for clients.
    pub fn name_server(&self) -> String {
        format!("127.0.0.1:{}", self.namesrv_port)
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn launch(&mut self) {
        let config = self.directory.path().join("broker.conf");
        fs::write(&config, &self.setup.broker).unwrap();
        let log = self.directory.path().join("log");
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let before = boots(&log);
        let mut command = match self.disk {
            None => Command::new(binary()),
            Some(mib) => {
                let mount = format!("mount -t tmpfs -o size={mib}m tmpfs {}", self.data().display());
                mounted(&mount)
            }
        };
        let child = command
            .args(["server", "--data"])
            .arg(self.data())
            .args(["--namesrv-port", &self.namesrv_port.to_string(), "--broker-port", &self.broker_port.to_string()])
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for("the server to be ready", || {
            let ended = self.child.as_mut().and_then(|c| c.try_wait().unwrap());
            assert!(ended.is_none(), "the server ended: {}", fs::read_to_string(&log).unwrap());
            (boots(&log) > before && TcpStream::connect(("127.0.0.1", self.broker_port)).is_ok()).then_some(())
        });
    }

    /// The id of the server's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Stops the server in good order.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = wait_for("the server to stop", || child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again on the same data and ports.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.launch();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

fn boots(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().matches("is ready after").count()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(40).collect::<Vec<_>>();
            eprintln!("the server's last words:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The binary in a mount namespace of its own, once a `mount` is done.
pub(crate) fn mounted(mount: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("{mount} && exec \"$@\"");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(binary());
    command
}

/// A port that is free at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A port that is free together with the VIP port below it and the HA port above it.
pub fn free_broker_port() -> u16 {
    wait_for("free ports", || {
        let port = free_port();
        let neighbours = [port.checked_sub(2)?, port.checked_add(1)?];
        neighbours.iter().all(|p| TcpListener::bind(("0.0.0.0", *p)).is_ok()).then_some(port)
    })
}

/// A broker's port that stays free while no broker runs on it: with its neighbours (see [`free_broker_port`]) it is
/// below the ports that systems give to connections.
pub(crate) fn lasting_broker_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = LASTING_PORTS.start + 2 + (std::process::id() % 1000) as u16 * 16;
    wait_for("free ports", || {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 64 * 4;
        let all = [port - 2, port, port + 1];
        (all.iter().all(|p| LASTING_PORTS.contains(p) && TcpListener::bind(("0.0.0.0", *p)).is_ok())).then_some(port)
    })
}

/// A class of Java's server, below a home directory of its own, with a small heap.
pub(crate) fn java(jars: &Path, home: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    // What 4.9 takes for granted when it unmaps files.
    for package in ["java.nio", "sun.nio.ch", "jdk.internal.ref"] {
        command.arg("--add-opens").arg(format!("java.base/{package}=ALL-UNNAMED"));
    }
    command.arg("-Dlog.level=ERROR");
    command.arg(format!("-Drmq.logback.configurationFile={}", root().join("tests/java/logback.xml").display()));
    command.arg(format!("-Duser.home={}", home.display()));
    command.arg(format!("-Drocketmq.home.dir={}", home.display()));
    command.arg("-cp").arg(format!("{}/*", jars.display())).arg(class);
    command
}

/// Java's name server and broker 5.4.0, for reference. Stopped when dropped.
pub struct JavaServer {
    directory: TempDir,
    pub namesrv_port: u16,
    pub broker_port: u16,
    children: Vec<Child>,
}

impl JavaServer {
    /// Starts both with a small heap; `None` where there is no Java.
    pub fn start(broker: &str) -> Option<Self> {
        Self::start_at(free_port(), free_broker_port(), broker)
    }

    /// [`JavaServer::start`], on given ports.
    pub fn start_at(namesrv_port: u16, broker_port: u16, broker: &str) -> Option<Self> {
        let jars = crate::clients::java_server_jars("5.4.0")?;
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self { directory, namesrv_port, broker_port, children: Vec::new() };
        server.spawn(&jars, "namesrv", "org.apache.rocketmq.namesrv.NamesrvStartup", &format!("listenPort={namesrv_port}\n"));
        wait_for("Java's name server", || TcpStream::connect(("127.0.0.1", namesrv_port)).ok());
        let settings = format!(
            "brokerName=broker-a\nbrokerIP1=127.0.0.1\nlistenPort={broker_port}\nnamesrvAddr=127.0.0.1:{namesrv_port}\n\
             storePathRootDir={}\nmappedFileSizeCommitLog=67108864\n{broker}",
            server.store().display()
        );
        server.spawn(&jars, "broker", "org.apache.rocketmq.broker.BrokerStartup", &settings);
        wait_for("Java's broker", || server.log("broker").contains("boot success").then_some(()));
        Some(server)
    }

    fn spawn(&mut self, jars: &Path, name: &str, class: &str, settings: &str) {
        let home = self.directory.path();
        let config = home.join(format!("{name}.conf"));
        fs::write(&config, settings).unwrap();
        let out = File::create(home.join(format!("{name}.log"))).unwrap();
        let child = java(jars, home, class)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        self.children.push(child);
    }

    /// Stops broker and name server in good order.
    pub fn stop(&mut self) {
        while let Some(mut child) = self.children.pop() {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            wait_for("Java's server to stop", || child.try_wait().unwrap());
        }
        assert!(!self.store().join("abort").exists(), "it did not stop in good order");
    }

    /// The broker's `storePathRootDir`.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// The name server's address, for clients.
    pub fn name_server(&self) -> String {
        format!("127.0.0.1:{}", self.namesrv_port)
    }
}

impl Drop for JavaServer {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("Java's broker said:\n{}", self.log("broker"));
        }
    }
}
