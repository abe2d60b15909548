//! What a slave asks its master for beside the log, every 10 seconds: topics, consumer groups and their modes, offsets, how
//! far delayed and timer messages are delivered, and how many timers wait.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::{Broker, Committed, Delivered, Listed};
use net::client::{Answer, ClientError, Pool};
use protocol::bodies::{KvTable, TopicTable};
use protocol::requests::{
    GetAllConsumerOffset, GetAllDelayOffset, GetAllMessageRequestMode, GetAllSubscriptionGroup, GetAllTopicConfig,
    GetBrokerRuntimeInfo, GetTimerCheckPoint, GetTimerMetrics, Request, UpdateConsumerOffset,
};
use replication::epoch::EpochHistory;
use tokio::time::Instant;

use crate::rejoin;

/// How often the master is asked (Java 4.9's period).
const PERIOD: Duration = Duration::from_secs(10);
/// How soon the master is asked that has just become known.
pub const LOOK: Duration = Duration::from_millis(200);
/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the tables of a slave those of its master, while it is one.
pub async fn run(broker: Arc<Broker>) {
    let pool = Pool::default();
    let mut asked = None;
    let mut delivered: Option<Delivered> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(master) = broker.master().address.filter(|_| broker.is_slave()) else {
            (asked, delivered) = (None, None);
            continue;
        };
        match broker.take_delivered(&mut delivered) {
            Ok(ahead) if ahead.is_empty() => {}
            Ok(ahead) => {
                let given = give_back(&broker, &pool, &master, &ahead).await;
                let why =
                    given.err().map(|error| format!("offsets committed here are not given to the master at {master}: {error:#}"));
                broker.note_wrong("copy_offsets_back", why);
            }
            Err(error) => {
                tracing::error!("how far the master at {master} has delivered delayed messages can't be noted: {error}");
            }
        }
        // What its log is a copy of a slave knows after it has asked for the first time.
        let of = (master.clone(), broker.epochs());
        if asked.as_ref().is_some_and(|(known, at): &(_, Instant)| *known == of && at.elapsed() < PERIOD) {
            continue;
        }
        // What it says of its log counts where it has the same one before and behind.
        let tells =
            delivered.is_none() && rejoin::epochs_of(&master).await.is_ok_and(|epochs| epochs.is_none() || epochs == of.1);
        let (listed, topics) = match topics(&broker, &pool, &master).await {
            Ok(listed) => (Some(listed), Ok(())),
            Err(error) => (None, Err(error)),
        };
        for (what, copied) in [
            ("topics", topics),
            ("consumer groups", groups(&broker, &pool, &master).await),
            ("modes of consumer groups", modes(&broker, &pool, &master).await),
            ("numbers of timers", timer_metrics(&broker, &pool, &master).await),
            (
                "consumer offsets and delivered messages",
                look_at_delivered(&pool, &of, listed.filter(|_| tells), &mut delivered).await,
            ),
        ] {
            let why = copied.err().map(|error| format!("the {what} of the master at {master} are not copied: {error:#}"));
            broker.note_wrong(&format!("copy_{}", what.replace(' ', "_")), why);
        }
        asked = Some((of, Instant::now()));
    }
}

async fn topics(broker: &Broker, pool: &Pool, master: &str) -> Result<Listed> {
    let (below, _) = broker.store.written_and_persisted();
    let table: TopicTable = pool.call(master, &GetAllTopicConfig {}, &[], TIMEOUT).await?.json()?;
    let listed = Listed::new(below, &table);
    broker.take_topics(table).context("saving topics.json")?;
    Ok(listed)
}

async fn groups(broker: &Broker, pool: &Pool, master: &str) -> Result<()> {
    let answer = pool.call(master, &GetAllSubscriptionGroup {}, &[], TIMEOUT).await?;
    broker.take_groups(answer.json()?).context("saving subscriptionGroup.json")
}

/// Gives the master what consumers committed here while it was not there.
async fn give_back(broker: &Broker, pool: &Pool, master: &str, ahead: &[Committed]) -> Result<()> {
    // One whose log goes on otherwise may give those offsets to other messages.
    if !broker.copies(rejoin::epochs_of(master).await?.as_ref()) {
        return Ok(());
    }
    for Committed { topic, group, queue, offset } in ahead {
        let request = UpdateConsumerOffset { consumer_group: group, topic, queue_id: *queue, commit_offset: *offset };
        pool.call(master, &request, &[], TIMEOUT).await?;
    }
    Ok(())
}

async fn modes(broker: &Broker, pool: &Pool, master: &str) -> Result<()> {
    let Some(answer) = known(pool, master, &GetAllMessageRequestMode {}).await? else { return Ok(()) };
    broker.take_request_modes(answer.json()?).context("saving messageRequestMode.json")
}

async fn timer_metrics(broker: &Broker, pool: &Pool, master: &str) -> Result<()> {
    if let Some(answer) = known(pool, master, &GetTimerMetrics {}).await? {
        broker.take_timer_metrics(answer.json()?);
    }
    Ok(())
}

/// Asks how far the master's consumers are and what it has delivered, where what it has `listed` is of the slave's log.
/// It counts where the master has the same epochs behind it, too: meanwhile it may have followed another.
async fn look_at_delivered(
    pool: &Pool,
    (master, own): &(String, Option<EpochHistory>),
    listed: Option<Listed>,
    delivered: &mut Option<Delivered>,
) -> Result<()> {
    let Some(listed) = listed else { return Ok(()) };
    let offsets = pool.call(master, &GetAllConsumerOffset {}, &[], TIMEOUT).await?.body().clone();
    let delay_offsets = pool.call(master, &GetAllDelayOffset {}, &[], TIMEOUT).await?.body().clone();
    let timers = known(pool, master, &GetTimerCheckPoint {}).await?.map(|answer| answer.body().clone());
    // Java 5.x has no figures for a store without messages.
    let Some(figures) = known(pool, master, &GetBrokerRuntimeInfo {}).await? else { return Ok(()) };
    let figures: KvTable = figures.json()?;
    let end = figures.table.get("commitLogMaxOffset").and_then(|text| text.parse().ok());
    let end = end.context("it does not say where its log ends (commitLogMaxOffset)")?;
    let epochs = rejoin::epochs_of(master).await?;
    *delivered =
        (epochs.is_none() || epochs == *own).then_some(Delivered { epochs, listed, end, offsets, delay_offsets, timers });
    Ok(())
}

/// What a master answers; `None` where it refuses, as older ones do that do not know the request.
async fn known<'h, R: Request<'h>>(pool: &Pool, master: &str, request: &R) -> Result<Option<Answer>> {
    match pool.call(master, request, &[], TIMEOUT).await {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
