//! `ferrocket migrate`: a slave of this project takes the place of the Java broker that it copies, while clients run.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::ops::{self, Access};
use anyhow::{Context, Result, bail, ensure};
use net::client::{Answer, Pool};
use net::now_ms;
use protocol::bodies::{ClusterInfo, ConsumerOffsets, SubscriptionGroupTable, TopicTable};
use protocol::requests::{
    GetAllConsumerOffset, GetAllSubscriptionGroup, GetAllTopicConfig, GetBrokerClusterInfo, Request, UpdateConsumerOffset,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::boot;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often is looked whether a step is done.
const LOOK: Duration = Duration::from_millis(50);
/// How often is told what is waited for.
const TELL: Duration = Duration::from_secs(10);
/// A slave that is less than so many bytes behind has them within the blink for which producers may wait.
const NEAR: u64 = 1024 * 1024;
/// How long the Java broker refuses messages, at the most: all steps from there to its end have to fit in.
const HOLD: Duration = Duration::from_secs(60);
/// How long the slave may take for the last bytes.
const LAST_BYTES: Duration = Duration::from_secs(10);
/// A log that has not grown for so long has all that its master sent; Java's sends what it has every 100 ms.
const QUIET: Duration = Duration::from_millis(500);
/// Connections that are forwarded at the same time.
const MAX_FORWARDED: usize = 50_000;

#[derive(clap::Args)]
#[command(after_help = "\
Run it on the Java broker's machine, as soon as a Ferrocket slave copies that broker. Clients stay connected to the old
address: what comes there is forwarded until they have looked up the new one. docs/migration.md tells it step by step.

Examples:
  ferrocket migrate -b 10.0.0.2:10911 --stop 'sh bin/mqshutdown broker'
  ferrocket migrate -b 10.0.0.2:10911 --stop 'systemctl stop rmq-broker' --start 'systemctl start rmq-broker'")]
pub struct Options {
    /// The Ferrocket slave that takes over.
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT")]
    slave: String,
    /// Stops the Java broker, in good order.
    #[arg(long, value_name = "COMMAND")]
    stop: String,
    /// Starts the Java broker again, should the slave then not become the master.
    #[arg(long, value_name = "COMMAND")]
    start: Option<String>,
    /// What the slave becomes.
    #[arg(short = 'r', long = "brokerRole", default_value = "ASYNC_MASTER", value_parser = ["ASYNC_MASTER", "SYNC_MASTER"])]
    role: String,
    /// For how many seconds the old address leads to the new master. Java's clients look for it every 30 seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    forward: u64,
}

pub fn run(options: &Options) -> Result<i32> {
    boot::raise_file_limit();
    boot::runtime()?.block_on(migrate(options)).map(|()| 0)
}

/// The two brokers, and who tells clients of them.
struct Move {
    access: Access,
    java: String,
    slave: String,
    broker_name: String,
}

async fn migrate(options: &Options) -> Result<()> {
    let brokers = Move::find(options).await.context("nothing was changed")?;
    let unchanged = async {
        if options.forward > 0 {
            let host = brokers.java_address()?.ip();
            TcpListener::bind((host, 0)).await.with_context(|| {
                format!(
                    "{host} is no address of this machine, so that what comes to {} can't be forwarded from here: run this on the \
                     Java broker's machine, or with --forward 0, where producers may go on with an interruption of 30 seconds",
                    brokers.java
                )
            })?;
        }
        brokers.wait_until_near().await
    };
    or_stopped(unchanged).await.context("nothing was changed")?;
    say!("{} takes no messages from here on, for {HOLD:?} at the most", brokers.java);
    let began = Instant::now();
    if let Err(error) = or_stopped(brokers.take_last_bytes(began, &options.stop)).await {
        let now = match brokers.hold_until(0).await {
            Ok(()) => format!("{} takes messages again", brokers.java),
            Err(gone) => {
                format!("{}, and can't be told to take messages: start it again, it has all of them ({gone:#})", brokers.java)
            }
        };
        return Err(error.context(format!("{now}; {} is its slave as before", brokers.slave)));
    }
    if let Err(error) = brokers.promote(&options.role).await {
        return Err(error.context(brokers.start_again(options.start.as_deref()).await));
    }
    say!("{} is the master of {}, {:.1} s after that", brokers.slave, brokers.broker_name, began.elapsed().as_secs_f64());
    if options.forward > 0 {
        brokers.forward(Duration::from_secs(options.forward), began).await?;
    }
    say!("done: {} has taken the place of {}", brokers.slave, brokers.java);
    Ok(())
}

/// Waits for work, unless this process is told to stop.
async fn or_stopped(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        done = work => done,
        stopped = boot::stop_signal() => stopped.and_then(|()| bail!("stopped by a signal")),
    }
}

/// Runs a command of the user's.
async fn shell(command: &str) -> Result<()> {
    let command = command.to_owned();
    let run = move || std::process::Command::new("sh").args(["-c", &command]).status().map(|status| (command, status));
    let (command, status) = tokio::task::spawn_blocking(run).await?.context("can't run sh")?;
    ensure!(status.success(), "`{command}` failed: {status}");
    Ok(())
}

impl Move {
    async fn find(options: &Options) -> Result<Self> {
        let (mut access, slave) = (Access { pool: Pool::default(), namesrvs: Vec::new() }, options.slave.clone());
        let mut config = ops::broker::config(&access, &slave).await?;
        let mut setting = |key: &str| config.remove(key).unwrap_or_default();
        access.namesrvs = ops::namesrv_list(&setting("namesrvAddr"));
        let broker_name = setting("brokerName");
        let java = ops::broker::runtime_info(&access, &slave).await?.remove("masterAddress").unwrap_or_default();
        ensure!(!java.is_empty(), "{slave} is no Ferrocket slave that knows its master");
        let ours = ops::broker::runtime_info(&access, &java).await?.contains_key("messagesInQueues");
        ensure!(!ours, "the master {java} is no Java broker: stop it, and promoteSlave makes {slave} the master");
        Ok(Self { access, java, slave, broker_name })
    }

    fn java_address(&self) -> Result<SocketAddr> {
        let (host, port) = self.java.rsplit_once(':').with_context(|| format!("{} has no port", self.java))?;
        boot::resolve(host, port.parse()?)
    }

    async fn ask<'h, R: Request<'h>>(&self, address: &str, request: &R) -> Result<Answer> {
        Ok(self.access.pool.call(address, request, &[], TIMEOUT).await?)
    }

    async fn end(&self, address: &str) -> Result<u64> {
        let figures = ops::broker::runtime_info(&self.access, address).await?;
        let end = figures.get("commitLogMaxOffset").and_then(|end| end.parse().ok());
        end.with_context(|| format!("{address} does not say where its log ends (commitLogMaxOffset)"))
    }

    /// Why the slave is not ready to take over; `None` where it is.
    async fn lacking(&self) -> Result<Option<String>> {
        if ops::broker::runtime_info(&self.access, &self.slave).await?.get("follows").is_none_or(|follows| follows != "true") {
            return Ok(Some("a connection with the master, which the slave's log tells of".into()));
        }
        let (java, slave) = (self.end(&self.java).await?, self.end(&self.slave).await?);
        if java > slave + NEAR {
            return Ok(Some(format!("{} MiB of the log", (java - slave) >> 20)));
        }
        let (java, slave) = (self.ask(&self.java, &GetAllTopicConfig {}), self.ask(&self.slave, &GetAllTopicConfig {}));
        let (java, slave) = (java.await?.json::<TopicTable>()?, slave.await?.json::<TopicTable>()?);
        if java.data_version != slave.data_version {
            return Ok(Some("the newest topics".into()));
        }
        let (java, slave) =
            (self.ask(&self.java, &GetAllSubscriptionGroup {}), self.ask(&self.slave, &GetAllSubscriptionGroup {}));
        let (java, slave) = (java.await?.json::<SubscriptionGroupTable>()?, slave.await?.json::<SubscriptionGroupTable>()?);
        let same = java.data_version == slave.data_version;
        Ok((!same).then(|| "the newest consumer groups".into()))
    }

    async fn wait_until_near(&self) -> Result<()> {
        let mut told: Option<Instant> = None;
        while let Some(what) = self.lacking().await? {
            if told.is_none_or(|at| at.elapsed() > TELL) {
                say!("{} still lacks {what} of {}", self.slave, self.java);
                told = Some(Instant::now());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Has the Java broker refuse messages until a time. It takes them again then without being told.
    async fn hold_until(&self, time: i64) -> Result<()> {
        Ok(ops::broker::update_config(&self.access, &self.java, "startAcceptSendRequestTimeStamp", &time.to_string()).await?)
    }

    /// Has the slave get all that the Java broker has, and stops that.
    async fn take_last_bytes(&self, began: Instant, stop: &str) -> Result<()> {
        self.hold_until(now_ms() + HOLD.as_millis() as i64).await?;
        let last = loop {
            let (java, slave) = (self.end(&self.java).await?, self.end(&self.slave).await?);
            if java == slave {
                break slave;
            }
            ensure!(began.elapsed() < LAST_BYTES, "the slave lacks {} bytes of the log after {LAST_BYTES:?}", java - slave);
            sleep(LOOK).await;
        };
        self.take_offsets().await.context("copying the newest consumer offsets")?;
        shell(stop).await?;
        let (mut end, mut since) = (last, Instant::now());
        while self.serves().await || since.elapsed() < QUIET {
            ensure!(began.elapsed() < HOLD, "{} still runs {HOLD:?} after it was held, in spite of `{stop}`", self.java);
            let newest = self.end(&self.slave).await?;
            if newest != end {
                (end, since) = (newest, Instant::now());
            }
            sleep(LOOK).await;
        }
        ensure!(end >= last, "the slave's log ends at {end}, where it has ended at {last}");
        Ok(())
    }

    async fn take_offsets(&self) -> Result<()> {
        let newest: ConsumerOffsets = self.ask(&self.java, &GetAllConsumerOffset {}).await?.json()?;
        let known: ConsumerOffsets = self.ask(&self.slave, &GetAllConsumerOffset {}).await?.json()?;
        for (key, queues) in &newest.offset_table {
            let Some((topic, consumer_group)) = key.split_once('@') else { continue };
            for (&queue_id, &commit_offset) in queues {
                if known.offset_table.get(key).and_then(|queues| queues.get(&queue_id)) != Some(&commit_offset) {
                    let request = UpdateConsumerOffset { consumer_group, topic, queue_id, commit_offset };
                    self.access.pool.call(&self.slave, &request, &[], TIMEOUT).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether clients still reach the Java broker, or a name server sends them there. It leaves those late: should another
    /// broker have taken its place by then, that one would be taken out.
    async fn serves(&self) -> bool {
        if TcpStream::connect(&self.java).await.is_ok() {
            return true;
        }
        for name_server in &self.access.namesrvs {
            // One that does not answer sends nobody anywhere.
            if let Ok(answer) = self.ask(name_server, &GetBrokerClusterInfo {}).await
                && let Ok(info) = answer.json::<ClusterInfo>()
                && let Some(group) = info.broker_addr_table.get(&self.broker_name)
                && group.broker_addrs.values().any(|address| *address == self.java)
            {
                return true;
            }
        }
        false
    }

    async fn promote(&self, role: &str) -> Result<()> {
        let promoted = ops::broker::promote(&self.access, &self.slave, Some(role), true).await;
        promoted.map(drop).with_context(|| format!("{} did not become the master", self.slave))
    }

    /// Starts the Java broker again that was stopped in vain; says what has become of it.
    async fn start_again(&self, start: Option<&str>) -> String {
        let by_hand = |why: &dyn Display| {
            format!("{} is stopped{why}: start it again; it has all messages, and takes more of them within {HOLD:?}", self.java)
        };
        let Some(command) = start else { return by_hand(&"") };
        if let Err(error) = shell(command).await {
            return by_hand(&format_args!(" ({error:#})"));
        }
        let began = Instant::now();
        while self.hold_until(0).await.is_err() {
            if began.elapsed() > HOLD {
                return by_hand(&format_args!(" (`{command}` has not brought it back)"));
            }
            sleep(LOOK).await;
        }
        format!("{} was started again and takes messages", self.java)
    }

    /// Leads clients that know the old address to the new master.
    async fn forward(&self, time: Duration, began: Instant) -> Result<()> {
        let room = Arc::new(Semaphore::new(MAX_FORWARDED));
        let (host, port) = self.slave.rsplit_once(':').with_context(|| format!("{} has no port", self.slave))?;
        let (from, to) = (self.java_address()?, boot::resolve(host, port.parse()?)?);
        for below in [0, 2] {
            let [from, to] = [from, to].map(|address| SocketAddr::new(address.ip(), address.port() - below));
            let listener = TcpListener::bind(from).await.with_context(|| {
                format!(
                    "can't listen on {from}, so that producers find {} within their pollNameServerInterval (30 s)",
                    self.slave
                )
            })?;
            tokio::spawn(pass_on(listener, to, room.clone()));
        }
        say!(
            "producers were held for {:.1} s; {} leads to {} for {time:?}",
            began.elapsed().as_secs_f64(),
            self.java,
            self.slave
        );
        or_stopped(async {
            sleep(time).await;
            Ok(())
        })
        .await
    }
}

async fn pass_on(listener: TcpListener, to: SocketAddr, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let mut client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                complain!("a connection can't be accepted: {error}");
                sleep(LOOK).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let both = async {
                let mut broker = TcpStream::connect(to).await?;
                client.set_nodelay(true)?;
                broker.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut client, &mut broker).await
            };
            // Either end may close it at any time.
            let _ = both.await;
            drop(permit);
        });
    }
}
