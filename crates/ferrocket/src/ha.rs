//! The HA port: sends the log to slaves, and on a slave fetches the master's. What is said on a connection is decided by
//! `replication::ha`; here are its sockets, on a thread of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use broker::epochs::NoCopy;
use broker::{Broker, Serving, Step};
use net::client::{self, Client, ClientError};
use net::now_ms;
use parking_lot::Mutex;
use protocol::bodies::{HaStatus, KvTable};
use protocol::requests::{GetBrokerHaStatus, GetBrokerRuntimeInfo};
use replication::ha::SlaveLink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::slave::LOOK;
use crate::{reach, rejoin};

/// How soon a slave tries again to reach its master.
const RECONNECT: Duration = Duration::from_secs(1);
/// Bytes that a slave reads at a time.
const READ_BYTES: usize = 512 * 1024;
/// Slaves that may be connected at the same time.
const MAX_SLAVES: usize = 64;
/// How long a master may take to say where its log begins.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Numbers of connections.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Listens for slaves, and follows the master while this broker is a slave, until `stop` is said. Runs on the thread that
/// calls it; `grew` is told of more log, and `arrived` counts who connects. A slave whose log has to be cut to follow its master asks to be opened again.
pub fn run(
    broker: Arc<Broker>,
    listener: std::net::TcpListener,
    grew: watch::Receiver<()>,
    stop: &Notify,
    reopen: Arc<Notify>,
    arrived: Arc<AtomicU64>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(accept(broker.clone(), listener, grew.clone(), arrived));
            tokio::spawn(follow(broker, grew, reopen));
            stop.notified().await;
            Ok(())
        })
    });
    if let Err(error) = served {
        tracing::error!("slaves are not served: {error:#}");
    }
}

async fn accept(broker: Arc<Broker>, listener: TcpListener, grew: watch::Receiver<()>, arrived: Arc<AtomicU64>) {
    let room = Arc::new(tokio::sync::Semaphore::new(MAX_SLAVES));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a slave can't be accepted: {error}");
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
        };
        arrived.fetch_add(1, Ordering::Relaxed);
        let Ok(permit) = room.clone().try_acquire_owned() else {
            broker.tell_of_slave(&address.to_string(), &format!("is refused: {MAX_SLAVES} are connected"), now_ms());
            continue;
        };
        let (broker, grew) = (broker.clone(), grew.clone());
        tokio::spawn(async move {
            let patience = Duration::from_millis(broker.config().ha_housekeeping_interval as u64);
            // Who says nothing is no slave: this broker looks in this way whether it is reached.
            if let Ok(Ok(1..)) = tokio::time::timeout(patience, stream.peek(&mut [0])).await {
                serve_slave(broker, stream, address, grew).await;
            }
            drop(permit);
        });
    }
}

async fn serve_slave(broker: Arc<Broker>, stream: TcpStream, address: SocketAddr, grew: watch::Receiver<()>) {
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let now = now_ms();
    let serving = match broker.serve(id, address.to_string(), now) {
        Ok(serving) => serving,
        Err(why) => return broker.tell_of_slave(&address.to_string(), &format!("is sent nothing: {why}"), now),
    };
    let (serving, reported) = (Mutex::new(serving), Notify::new());
    let ended = async {
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        tokio::select! {
            ended = take_reports(&broker, read, &serving, &reported) => ended,
            ended = send_log(&broker, write, &serving, &reported, grew) => ended,
        }
    };
    let why = ended.await.map_or_else(|error: anyhow::Error| format!("{error:#}"), |()| "it closed the connection".into());
    broker.slave_left(id, &why, now_ms());
}

async fn take_reports(broker: &Broker, mut read: OwnedReadHalf, serving: &Mutex<Serving>, reported: &Notify) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = read.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        if broker.reported(&mut serving.lock(), &buffer[..count], now_ms())? {
            reported.notify_one();
        }
    }
}

async fn send_log(
    broker: &Broker,
    mut write: OwnedWriteHalf,
    serving: &Mutex<Serving>,
    reported: &Notify,
    mut grew: watch::Receiver<()>,
) -> Result<()> {
    loop {
        grew.borrow_and_update();
        let now = now_ms();
        let step = broker.next_step(&mut serving.lock(), now)?;
        match step {
            Step::Send(header, log) => {
                let log = log.as_ref().map_or(&[][..], |slice| slice.bytes());
                write.write_all_buf(&mut bytes::Buf::chain(&header[..], log)).await?;
            }
            Step::Wait { until } => {
                let wait = Duration::from_millis((until - now).max(1) as u64);
                tokio::select! {
                    more = grew.changed() => more?,
                    () = reported.notified() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}

/// Fetches the master's log for as long as this broker is a slave.
async fn follow(broker: Arc<Broker>, grew: watch::Receiver<()>, reopen: Arc<Notify>) {
    loop {
        let Some(master) = broker.master().ha_address.filter(|_| broker.is_slave()) else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let ended = copy_from(&broker, &master, grew.clone(), &reopen).await;
        broker.master_lost();
        let why = ended.err().map(|error| format!("the log of the master at {master} is not copied: {error:#}"));
        broker.note_wrong("copy", why);
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Copies the log of the master at `master` until the connection ends or another broker is the master.
async fn copy_from(broker: &Arc<Broker>, master: &str, mut grew: watch::Receiver<()>, reopen: &Notify) -> Result<()> {
    if broker.store.rebuilding().is_some() {
        return Ok(());
    }
    // What is reported as the end of the log counts as kept.
    let syncing = broker.clone();
    tokio::task::spawn_blocking(move || syncing.sync(now_ms())).await??;
    let mut stream = client::dial(master).await.with_context(|| origin(broker))?;
    check_master(broker, &stream).await?;
    // Asked for while that connection is there, so that no other epoch's log comes on it.
    if let Some(address) = broker.master().address
        && let Some(epochs) = rejoin::epochs_of(&address).await?
        && let Err(why) = broker.follow(epochs)
    {
        if let NoCopy::Beyond { .. } = why {
            reopen.notify_one();
        }
        return Err(why.into());
    }
    let start = start_of_copy(broker).await?;
    let mut taken = false;
    let mut link = SlaveLink::new(start, now_ms());
    // The first byte, which is not asked for.
    if start == 1 {
        link.begun.push(0);
    }
    let mut buffer = vec![0; READ_BYTES];
    while broker.is_slave() && broker.master().ha_address.as_deref() == Some(master) {
        grew.borrow_and_update();
        let (now, timing) = (now_ms(), broker.config().ha_timing());
        if let Some(report) = broker.log_report(&mut link, now) {
            stream.write_all(&report).await?;
        }
        let wait = Duration::from_millis((link.wait_until(now, &timing)? - now).max(1) as u64);
        tokio::select! {
            count = stream.read(&mut buffer) => {
                let count = count?;
                if count == 0 {
                    bail!("the master closed the connection; its log says why");
                }
                broker.take_log(&mut link, &buffer[..count], now_ms())?;
                if !taken {
                    taken = true;
                    tracing::info!("copying the log of the master at {master} from {start}");
                    broker.note_wrong("copy", None);
                }
            }
            more = grew.changed() => more?,
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}

/// Where a slave has the address of its master's HA port from, and where a wrong one is put right.
fn origin(broker: &Broker) -> String {
    let own = "haMasterAddress in this broker's configuration";
    if !broker.config().ha_master_address.is_empty() {
        return format!("the address is that of {own}");
    }
    let master = broker.master().address.unwrap_or_default();
    format!(
        "the address is what the name servers have of the master at {master}, its brokerIP2 and haListenPort. Set brokerIP2 there to \
         an address that this slave reaches, or {own}"
    )
}

/// Refuses an HA port that is another broker's, as an address inside a container's own network may lead to.
async fn check_master(broker: &Broker, stream: &TcpStream) -> Result<()> {
    let (peer, config) = (stream.peer_addr()?, broker.config());
    if peer.ip() == stream.local_addr()?.ip() && i32::from(peer.port()) == config.ha_listen_port {
        bail!("it is the HA port of this slave itself; {}", origin(broker));
    }
    let clients = SocketAddr::new(peer.ip(), peer.port().saturating_sub(1));
    match reach::who(&clients.to_string()).await {
        // Only where that broker says that this is its HA port, too.
        Ok(other) if other.name != config.broker_name && other.ha_port == peer.port().to_string() => {
            bail!("it is the HA port of broker {} {}, not of {}; {}", other.name, other.id, config.broker_name, origin(broker))
        }
        _ => Ok(()),
    }
}

/// From where the master is to send its log. One that is asked for the log from 0 sends its newest file alone, so a slave
/// without any asks for the first offset that the master has. Where that is 0 it asks for the second byte: the first one
/// is the highest of a record's length, and is 0.
async fn start_of_copy(broker: &Arc<Broker>) -> Result<u64> {
    let from = broker.store.copied_from();
    let Some(address) = broker.master().address.filter(|_| from == 0 && !broker.config().sync_from_last_file) else {
        return Ok(from);
    };
    let client = Client::connect(&address).await?;
    let table: KvTable = match client.call(&GetBrokerRuntimeInfo {}, &[], ASK_TIMEOUT).await?.success() {
        Ok(answer) => answer.json()?,
        // Java has no figures in its first second, and 5.x none of a store without messages, which its HA status tells of.
        Err(ClientError::Refused { .. }) => {
            let status: HaStatus = client.call(&GetBrokerHaStatus {}, &[], ASK_TIMEOUT).await?.success()?.json()?;
            ensure!(status.master_commit_log_max_offset == 0, "it does not say yet where its log begins");
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    };
    let number = |key: &str| table.table.get(key).and_then(|text| text.parse::<u64>().ok());
    match (number("commitLogMinOffset"), number("commitLogMaxOffset")) {
        (Some(0), Some(1..)) => Ok(1),
        (Some(min), Some(_)) => Ok(min),
        _ => bail!("the master at {address} does not say where its log begins (commitLogMinOffset)"),
    }
}
