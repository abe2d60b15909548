//! What a slave asks its master for beside the log, every 10 seconds: topics, consumer groups and offsets.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::Broker;
use net::client::Pool;
use protocol::requests::{
    GetAllConsumerOffset, GetAllDelayOffset, GetAllSubscriptionGroup, GetAllTopicConfig, UpdateConsumerOffset,
};

/// How often the master is asked (Java 4.9's period).
const PERIOD: Duration = Duration::from_secs(10);
/// How soon the master is asked that has just become known.
const LOOK: Duration = Duration::from_millis(200);
/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the tables of a slave those of its master, while it is one.
pub async fn run(broker: Arc<Broker>) {
    let pool = Pool::default();
    let mut asked: Option<(String, tokio::time::Instant)> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(master) = broker.master().address.filter(|_| broker.is_slave()) else {
            asked = None;
            continue;
        };
        if asked.as_ref().is_some_and(|(address, at)| *address == master && at.elapsed() < PERIOD) {
            continue;
        }
        for (what, copied) in [
            ("topics", topics(&broker, &pool, &master).await),
            ("consumer groups", groups(&broker, &pool, &master).await),
            ("consumer offsets", offsets(&broker, &pool, &master).await),
            ("offsets of delay levels", delay_offsets(&broker, &pool, &master).await),
        ] {
            if let Err(error) = copied {
                tracing::warn!("the {what} of the master at {master} are not copied, which is tried again: {error:#}");
            }
        }
        asked = Some((master, tokio::time::Instant::now()));
    }
}

async fn topics(broker: &Broker, pool: &Pool, master: &str) -> Result<()> {
    let answer = pool.call(master, &GetAllTopicConfig {}, &[], TIMEOUT).await?;
    broker.take_topics(answer.json()?).context("saving topics.json")
}

async fn groups(broker: &Broker, pool: &Pool, master: &str) -> Result<()> {
    let answer = pool.call(master, &GetAllSubscriptionGroup {}, &[], TIMEOUT).await?;
    broker.take_groups(answer.json()?).context("saving subscriptionGroup.json")
}

/// Copies the master's consumer offsets, and gives it back what consumers committed here while it was not there.
async fn offsets(broker: &Broker, pool: &Pool, master: &str) -> Result<()> {
    let answer = pool.call(master, &GetAllConsumerOffset {}, &[], TIMEOUT).await?;
    for ahead in broker.take_offsets(answer.json()?) {
        let request = UpdateConsumerOffset {
            consumer_group: &ahead.group,
            topic: &ahead.topic,
            queue_id: ahead.queue,
            commit_offset: ahead.offset,
        };
        pool.call(master, &request, &[], TIMEOUT).await?;
    }
    Ok(())
}

async fn delay_offsets(broker: &Broker, pool: &Pool, master: &str) -> Result<()> {
    let answer = pool.call(master, &GetAllDelayOffset {}, &[], TIMEOUT).await?;
    broker.take_delay_offsets(answer.body()).map_err(anyhow::Error::msg)
}
