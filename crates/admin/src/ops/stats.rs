//! Figures of topics and groups, and the entries of queues.

use std::time::Duration;

use protocol::bodies::{ConsumeStatsList, QueueEntries, StatsData, TopicRouteData};
use protocol::names;
use protocol::requests::{GetBrokerConsumeStats, QueryConsumeQueue, ViewBrokerStatsData};

use super::{Access, Error, TIMEOUT};

/// A figure of all masters of a route: how much a second, and how much within the last day. Brokers that have not counted
/// any of it add nothing.
pub async fn figure(access: &Access, route: &TopicRouteData, name: &str, key: &str) -> (f64, i64) {
    let (mut tps, mut day) = (0.0, 0);
    for address in route.broker_datas.iter().filter_map(|broker| broker.broker_addrs.get(&names::MASTER_ID)) {
        let request = ViewBrokerStatsData { stats_name: name, stats_key: key };
        let Ok(answer) = access.pool.call(address, &request, &[], TIMEOUT).await else { continue };
        let Ok(data) = answer.json::<StatsData>() else { continue };
        tps += data.stats_minute.tps;
        // Java's brokers know nothing of the day in their first hour.
        let sums = [data.stats_day.sum, data.stats_hour.sum, data.stats_minute.sum];
        day += sums.into_iter().find(|sum| *sum != 0).unwrap_or(0);
    }
    (tps, day)
}

/// The progress of every group on a broker; of ordered topics alone where that is asked for.
pub async fn broker_consume_stats(
    access: &Access,
    broker: &str,
    ordered: bool,
    timeout: Duration,
) -> Result<ConsumeStatsList, Error> {
    Ok(access.pool.call(broker, &GetBrokerConsumeStats { is_order: ordered }, &[], timeout).await?.json()?)
}

/// Entries of a queue from `request.index` on.
pub async fn queue_entries(access: &Access, broker: &str, request: &QueryConsumeQueue<'_>) -> Result<QueueEntries, Error> {
    let answer = access.pool.call(broker, request, &[], TIMEOUT).await?;
    if answer.body().is_empty() {
        return Err(Error::Usage(answer.remark));
    }
    Ok(answer.json()?)
}
