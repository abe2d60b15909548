//! A name server and a broker of this project, as processes.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::group::spawn;
use crate::{root, target, wait_for};

/// Where blocks of ports for tests begin: Linux gives ports from 32768 on to connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Ports of a block. The first is taken by the process that has the block.
const BLOCK: usize = 400;

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
        let (namesrv_port, broker_port) = (free_port(), free_port());
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
        let before = boots(&log);
        let mut command = match self.disk {
            None => Command::new(binary()),
            Some(mib) => {
                let mount = format!("mount -t tmpfs -o size={mib}m tmpfs {}", self.data().display());
                mounted(&mount)
            }
        };
        command.args(["server", "--data"]).arg(self.data()).arg("-c").arg(&config);
        command.args(["--namesrv-port", &self.namesrv_port.to_string(), "--broker-port", &self.broker_port.to_string()]);
        let child = spawn(&mut command, &log);
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

/// A port of this process, with room for the VIP port two below it and the HA port above it. It stays free while nobody
/// listens there: other tests that run have other blocks of ports.
pub fn free_port() -> u16 {
    static OWN: OnceLock<(TcpListener, u16)> = OnceLock::new();
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let bind = |port: u16| TcpListener::bind(("0.0.0.0", port)).ok();
    let (_, first) = OWN.get_or_init(|| {
        let mut blocks = PORTS.step_by(BLOCK).cycle().skip(std::process::id() as usize % PORTS.step_by(BLOCK).len());
        wait_for("free ports", || blocks.next().and_then(|first| Some((bind(first)?, first))))
    });
    wait_for("free ports", || {
        let port = first + 4 + GIVEN.fetch_add(1, Ordering::Relaxed) % (BLOCK as u16 / 4 - 1) * 4;
        [port - 2, port, port + 1].into_iter().all(|port| bind(port).is_some()).then_some(port)
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
