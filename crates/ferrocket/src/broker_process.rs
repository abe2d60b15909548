//! A broker as a process: its listeners, its threads, its registration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use broker::config::FlushDiskType;
use broker::{Broker, BrokerConfig, Disk, Shell};
use net::now_ms;
use net::server::Workers;
use stdx::config::{Source, Table};
use stdx::properties::{self, Entry};
use tokio::sync::{Notify, mpsc, watch};

use crate::boot::{self, Environment, Exit};
use crate::registration::Registrar;
use crate::{ProcessOptions, ha, logging, reach, rejoin, slave};

/// How often the broker's timers are looked at, and how often while messages come due; they are late by this at the most.
const TICK: Duration = Duration::from_millis(10);
const BUSY_TICK: Duration = Duration::from_millis(3);

/// How often the store is looked after; files are deleted this far apart at the least.
const STORAGE_PERIOD: Duration = Duration::from_millis(100);

/// Topics whose routes may be asked for at the same time.
const MAX_WANTED_ROUTES: usize = 1000;

pub fn run(options: &ProcessOptions) -> Result<i32> {
    let environment = Environment::read();
    let mut config = BrokerConfig::default();
    if let Some(path) = &options.config_file {
        boot::apply_file(&mut config, path, &environment)?;
    }
    if config.namesrv_addr.is_empty()
        && let Some((addresses, variable)) = &environment.namesrv_addr
    {
        config.set_from("namesrvAddr", addresses, Source::Environment(variable))?;
    }
    if let Some(addresses) = &options.namesrv_addr {
        config.set_from("namesrvAddr", addresses, Source::Option("-n"))?;
    }
    if let Some(home) = &environment.rocketmq_home {
        config.rocketmq_home.clone_from(home);
    }
    let address = boot::local_address(&config.name_servers());
    resolve(&mut config, &environment, &address)?;
    if options.print_config || options.print_important {
        boot::print_config(&config, options.print_important);
        return Ok(0);
    }
    logging::start(Some(&environment.user_home), "broker");
    boot::raise_file_limit();
    boot::runtime()?.block_on(serve(config, options.config_file.clone()))
}

/// Serves until the process is told to stop. A broker whose place in its group has changed is opened again.
async fn serve(mut config: BrokerConfig, config_file: Option<PathBuf>) -> Result<i32> {
    loop {
        let workers = boot::workers()?;
        let running = start(&workers, config, config_file.clone()).await?;
        config = BrokerConfig::clone(&running.broker.config());
        let servers =
            if config.namesrv_addr.is_empty() { String::new() } else { format!(" and name server is {}", config.namesrv_addr) };
        say!("The broker[{}, {}] boot success. serializeType=JSON{servers}", config.broker_name, running.broker.address());
        let again = tokio::select! {
            stopped = boot::stop_signal() => stopped.map(|()| false)?,
            () = running.reopen.notified() => true,
        };
        config = BrokerConfig::clone(&running.broker.config());
        running.stop(&workers).await?;
        if !again {
            return Ok(0);
        }
    }
}

/// Completes the settings; what does not fit together is a refusal with Java's exit code.
pub fn resolve(config: &mut BrokerConfig, environment: &Environment, address: &str) -> Result<()> {
    let notes = config
        .resolve(&environment.user_home, &boot::host_name(), address)
        .map_err(|misfit| Exit { code: misfit.exit_code, message: misfit.message })?;
    notes.iter().for_each(|note| complain!("note: {note}"));
    Ok(())
}

/// What the broker's core asks of this process.
struct Process {
    sync: Arc<Wanted>,
    grew: watch::Sender<()>,
    register: Arc<Notify>,
    routes: mpsc::Sender<String>,
    memory: u64,
    config_file: Option<PathBuf>,
}

/// Wakes a thread that waits for work.
#[derive(Default)]
struct Wanted {
    flag: std::sync::Mutex<bool>,
    changed: std::sync::Condvar,
}

impl Wanted {
    fn raise(&self) {
        *self.flag.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.changed.notify_one();
    }

    /// Waits until it is wanted, or the time is over.
    fn wait(&self, timeout: Duration) {
        let flag = self.flag.lock().unwrap_or_else(|e| e.into_inner());
        let waited = self.changed.wait_timeout_while(flag, timeout, |wanted| !*wanted);
        *waited.unwrap_or_else(|e| e.into_inner()).0 = false;
    }
}

impl Shell for Process {
    fn sync_wanted(&self) {
        self.sync.raise();
    }
    fn log_grew(&self) {
        self.grew.send_replace(());
    }
    fn register_wanted(&self) {
        self.register.notify_one();
    }
    fn route_wanted(&self, topic: &str) {
        // Where too many are asked for already, whoever wants this one asks again.
        let _ = self.routes.try_send(topic.to_owned());
    }
    fn disk(&self, path: &Path) -> Option<Disk> {
        let stat = rustix::fs::statvfs(path).ok()?;
        // What is kept back for the system counts neither as used nor as room.
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
        Some(Disk { total: used + stat.f_bavail * stat.f_frsize, used })
    }
    fn memory(&self) -> u64 {
        self.memory
    }
    fn hour(&self, now: i64) -> u8 {
        let time = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
        time.to_zoned(jiff::tz::TimeZone::system()).hour() as u8
    }
    fn keep_settings(&self, changed: &[Entry]) -> std::io::Result<()> {
        let Some(path) = &self.config_file else { return Ok(()) };
        stdx::atomic_file::write(path, &properties::change(&std::fs::read(path)?, changed))
    }
}

/// The machine's memory in bytes, or 0.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// A broker that serves.
pub struct Running {
    pub broker: Arc<Broker>,
    registrar: Registrar,
    registering: Vec<tokio::task::JoinHandle<()>>,
    copying: tokio::task::JoinHandle<()>,
    /// Another broker has become the master: this one has to be opened again, to follow it.
    pub reopen: Arc<Notify>,
    stop: Arc<AtomicBool>,
    stop_ha: Arc<Notify>,
    sync: Arc<Wanted>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Opens a broker, serves it on its port and on the VIP port, and registers it.
pub async fn start(workers: &Arc<Workers>, mut config: BrokerConfig, config_file: Option<PathBuf>) -> Result<Running> {
    let host = boot::resolve(&config.broker_ip1, config.listen_port).context("brokerIP1")?;
    let own = config.address();
    let doubt = rejoin::rejoin(&mut config, &own, config_file.as_ref()).await?;
    let (sync, register) = (Arc::new(Wanted::default()), Arc::new(Notify::new()));
    let (routes, wanted_routes) = mpsc::channel(MAX_WANTED_ROUTES);
    let (grew, grown) = watch::channel(());
    let shell = Process { sync: sync.clone(), grew, register: register.clone(), routes, memory: memory(), config_file };
    let root = config.store_path_root_dir.clone();
    let broker = Arc::new(
        Broker::open(config, host, Arc::new(shell), now_ms()).with_context(|| format!("can't open the store in {root}"))?,
    );
    if let Some(doubt) = doubt {
        tracing::warn!("no messages are taken yet: {doubt}");
        broker.store.hold(Some(doubt));
    }
    let recovered = broker.store.recovered();
    tracing::info!(
        "store {root}: {} stop, commit log read from {} to {} ({} messages)",
        if recovered.unclean { "unclean" } else { "clean" },
        recovered.scanned_from,
        recovered.end,
        recovered.messages
    );
    if let Some(cut) = &recovered.cut {
        tracing::warn!("{cut}; what followed was put aside");
    }
    listen(workers, &broker)?;
    let (stop, stop_ha) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let reopen = Arc::new(Notify::new());
    let arrived = Arc::new(AtomicU64::new(0));
    let ha = ha_loop(&broker, grown, stop_ha.clone(), reopen.clone(), arrived.clone())?;
    let threads = vec![
        spawn("ha", ha)?,
        spawn("tick", tick_loop(broker.clone(), stop.clone()))?,
        spawn("sync", sync_loop(broker.clone(), sync.clone(), stop.clone()))?,
        spawn("storage", storage_loop(broker.clone(), stop.clone()))?,
    ];
    let registrar = Registrar::new(broker.clone(), reopen.clone());
    if broker.config().name_servers().is_empty() {
        tracing::warn!("no name server is given (-n, namesrvAddr or $NAMESRV_ADDR): clients will not find this broker");
    }
    let reaching = tokio::spawn(reach::watch(broker.clone(), registrar.clone(), arrived));
    // Whoever reads the boot line may ask the name servers for this broker's routes at once.
    registrar.register_now().await;
    let registering =
        vec![tokio::spawn(registrar.clone().run(register)), tokio::spawn(registrar.clone().ask_routes(wanted_routes)), reaching];
    let copying = tokio::spawn(slave::run(broker.clone()));
    Ok(Running { broker, registrar, registering, copying, reopen, stop, stop_ha, sync, threads })
}

fn listen(workers: &Arc<Workers>, broker: &Arc<Broker>) -> Result<()> {
    let config = broker.config();
    let options = boot::listener_options(
        config.server_channel_max_idle_time_seconds,
        config.server_socket_backlog,
        config.server_socket_snd_buf_size,
        config.server_socket_rcv_buf_size,
    );
    for port in [config.listen_port, config.listen_port - 2] {
        boot::listen(workers, boot::resolve(&config.bind_address, port)?, broker.clone(), &options)?;
    }
    Ok(())
}

/// Listens on the HA port: a broker that can't be copied says so at once.
fn ha_loop(
    broker: &Arc<Broker>,
    grown: watch::Receiver<()>,
    stop: Arc<Notify>,
    reopen: Arc<Notify>,
    arrived: Arc<AtomicU64>,
) -> Result<impl FnOnce() + use<>> {
    let config = broker.config();
    let address = boot::resolve(&config.bind_address, config.ha_listen_port)?;
    let listener = std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("can't listen on {address} for slaves (haListenPort): is another program using the port?"))?;
    let broker = broker.clone();
    Ok(move || ha::run(broker, listener, grown, &stop, reopen, arrived))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work).with_context(|| format!("can't start the thread {name}"))
}

fn tick_loop(broker: Arc<Broker>, stop: Arc<AtomicBool>) -> impl FnOnce() {
    move || {
        let (mut next, mut busy) = (Instant::now(), false);
        while !stop.load(Ordering::Relaxed) {
            // What a tick takes is not waited for once more.
            next = (next + if busy { BUSY_TICK } else { TICK }).max(Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            busy = broker.tick(now_ms());
        }
    }
}

fn sync_loop(broker: Arc<Broker>, wanted: Arc<Wanted>, stop: Arc<AtomicBool>) -> impl FnOnce() {
    move || {
        while !stop.load(Ordering::Relaxed) {
            let config = broker.config();
            let interval = Duration::from_millis(config.flush_interval_commit_log as u64);
            wanted.wait(if config.flush_disk_type == FlushDiskType::SyncFlush { Duration::from_secs(1) } else { interval });
            if let Err(error) = broker.sync(now_ms()) {
                tracing::error!("{error}");
                return;
            }
        }
    }
}

fn storage_loop(broker: Arc<Broker>, stop: Arc<AtomicBool>) -> impl FnOnce() {
    move || {
        while !stop.load(Ordering::Relaxed) {
            let more = broker.tend_store(now_ms());
            if !more {
                std::thread::sleep(STORAGE_PERIOD);
            }
        }
    }
}

impl Running {
    /// Leaves the name servers, answers what is under way, and closes the store.
    pub async fn stop(self, workers: &Workers) -> Result<()> {
        self.registering.iter().for_each(|task| task.abort());
        self.copying.abort();
        self.registrar.unregister().await;
        workers.stop();
        self.stop.store(true, Ordering::Relaxed);
        self.stop_ha.notify_one();
        self.sync.raise();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a broker thread panicked");
            }
        }
        self.broker.close(now_ms()).context("can't close the store in good order; the next start will mend it")?;
        tracing::info!("stopped");
        Ok(())
    }
}
