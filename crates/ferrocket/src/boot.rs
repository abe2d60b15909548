//! What every process does at its start: the environment that Java's scripts know, configuration files, threads.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use net::server::{Options, Workers, bind};
use protocol::exchange::Service;
use stdx::config::Table;
use stdx::{java, properties};

/// A refusal to start, with the exit code that Java's scripts test.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exit {
    pub code: i32,
    pub message: String,
}

/// What Java took from its virtual machine's options and from the environment.
pub struct Environment {
    pub user_home: PathBuf,
    pub rocketmq_home: Option<String>,
    /// Name servers, and where they were found.
    pub namesrv_addr: Option<(String, &'static str)>,
    properties: Vec<(String, String)>,
}

impl Environment {
    /// Reads `JAVA_OPT`, `JAVA_OPT_EXT`, `ROCKETMQ_HOME` and `NAMESRV_ADDR`.
    pub fn read() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let mut properties = Vec::new();
        for name in ["JAVA_OPT", "JAVA_OPT_EXT"] {
            let options = variable(name).unwrap_or_default();
            let ignored = java::machine_options(&options);
            if !ignored.is_empty() {
                complain!("note: {name}: {} have no meaning here: there is no Java heap to size", ignored.join(" "));
            }
            properties.extend(java::system_properties(&options));
        }
        let property = |name: &str| properties.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let home = property("user.home").or_else(|| variable("HOME")).unwrap_or_else(|| ".".into());
        let from_java = property("rocketmq.namesrv.addr").map(|a| (a, "JAVA_OPT"));
        Self {
            user_home: PathBuf::from(home),
            rocketmq_home: property("rocketmq.home.dir").or_else(|| variable("ROCKETMQ_HOME")),
            namesrv_addr: from_java.or_else(|| variable("NAMESRV_ADDR").map(|a| (a, "NAMESRV_ADDR"))),
            properties,
        }
    }

    fn lookup(&self, name: &str) -> Option<String> {
        match name {
            "user.home" => Some(self.user_home.display().to_string()),
            _ => self.properties.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.clone()),
        }
    }
}

/// Takes the settings of a file. Bad values refuse the start, all of them at once; the rest is said on stderr.
pub fn apply_file(table: &mut impl Table, path: &Path, environment: &Environment) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("can't read the configuration file {}", path.display()))?;
    let mut entries = properties::parse(&bytes).with_context(|| path.display().to_string())?;
    for entry in &mut entries {
        let (value, unknown) = properties::expand(&entry.value, |name| environment.lookup(name));
        for name in unknown {
            complain!("warning: {}:{}: ${{{name}}} is not known and stays as it is", path.display(), entry.line);
        }
        entry.value = value;
    }
    let report = table.apply(path, &entries);
    report.warnings.iter().for_each(|warning| complain!("warning: {warning}"));
    if !report.without_effect.is_empty() {
        complain!("note: {}: without effect here: {}", path.display(), report.without_effect.join(", "));
    }
    if report.errors.is_empty() {
        return Ok(());
    }
    Err(Exit { code: 1, message: report.errors.join("\n") }.into())
}

/// Prints settings as `key=value  # where from`; only those that are not at their default where `important`.
pub fn print_config(table: &impl Table, important: bool) {
    for (key, value, source) in table.pairs() {
        match source {
            Some(source) => say!("{key}={value}  # {source}"),
            None if !important => say!("{key}={value}  # default"),
            None => {}
        }
    }
}

/// The address by which other machines reach this one: the one that it would use to reach them, or its name servers where
/// it has no way to all machines. Loopback where there is no network.
pub fn local_address(name_servers: &[String]) -> String {
    // Connecting a datagram socket sends nothing; it only asks the system for a route. The address is one that is
    // reserved for documentation.
    let routed = |to: &str| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok()
    };
    let address = routed("192.0.2.1:9").or_else(|| name_servers.iter().find_map(|name_server| routed(name_server)));
    address.map_or_else(|| "127.0.0.1".into(), |address| address.ip().to_string())
}

/// The machine's name; Java's default for `brokerName`.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Resolves `host:port` to the first of its addresses, IPv4 before IPv6.
pub fn resolve(host: &str, port: i32) -> Result<SocketAddr> {
    let port = u16::try_from(port).with_context(|| format!("{port} is no port"))?;
    let mut all: Vec<_> = (host, port).to_socket_addrs().with_context(|| format!("can't resolve {host:?}"))?.collect();
    all.sort_by_key(|address| address.is_ipv6());
    all.into_iter().next().with_context(|| format!("{host:?} has no address"))
}

/// As many network workers as this process has cores.
pub fn workers() -> Result<Arc<Workers>> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    Workers::start(cores).context("can't start the network's threads")
}

/// Listens on an address and serves its connections until the workers stop.
pub fn listen(workers: &Arc<Workers>, address: SocketAddr, service: Arc<dyn Service>, options: &Options) -> Result<()> {
    let listener = bind(address, options)
        .with_context(|| format!("can't listen on {address}: is another program using the port? (ss -ltnp shows it)"))?;
    tokio::spawn(workers.clone().accept(listener, service, options.clone()));
    Ok(())
}

/// The runtime of a process's main thread: accepting, registering, signals.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start the runtime")
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Lets this process open as many files as it may: every connection and every busy queue takes one.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
        }
    }
}

/// The options of a listener, from the settings that name servers and brokers share.
pub fn listener_options(idle_seconds: i32, backlog: i32, send_buffer: i32, receive_buffer: i32) -> Options {
    Options {
        idle: Duration::from_secs(idle_seconds as u64),
        backlog,
        send_buffer: send_buffer as usize,
        receive_buffer: receive_buffer as usize,
        ..Options::default()
    }
}
