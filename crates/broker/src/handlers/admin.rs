//! The broker's own state: runtime figures and configuration.

use std::collections::BTreeMap;

use protocol::bodies::KvTable;
use protocol::exchange::{Call, Refusal};
use protocol::requests::GetBrokerConfigReply;
use protocol::{codes, fastjson, version};
use stdx::properties;

use crate::admission::REASONS;
use crate::clients::Twins;
use crate::handlers::Handled;
use crate::stats::{Rate, value};
use crate::{Broker, Disk, stats};

/// Keys that a running broker does not let itself be told (Java: `configBlackList`).
const BLACKLIST: [&str; 3] = ["brokerConfigPath", "rocketmqHome", "configBlackList"];

pub fn get_broker_runtime_info(broker: &Broker, call: &mut Call<'_>) -> Handled {
    call.reply_body(&fastjson::to_vec(&KvTable { table: runtime_info(broker, call.now) }));
    Ok(())
}

/// The figures of `brokerStatus`, under Java's keys; what Java has and Ferrocket has not (thread pools, a
/// transient store pool) is 0.
fn runtime_info(broker: &Broker, now: i64) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    let mut put = |key: &str, text: String| drop(table.insert(key.to_owned(), text));
    let config = broker.config();
    let counters = &broker.stats.counters;
    let (written, persisted) = broker.store.written_and_persisted();
    let rates = |rate| broker.stats.rates(rate).map(|r| format!("{r:?}")).join(" ");
    put("brokerActive", "true".into());
    put("brokerVersion", version::CURRENT.to_string());
    put("brokerVersionDesc", version::name(version::CURRENT));
    put("ferrocketVersion", env!("CARGO_PKG_VERSION").into());
    put("bootTimestamp", broker.started.to_string());
    put("runtime", duration(now - broker.started));
    let [yesterday, today, current] = broker.stats.days();
    for (suffix, (put_total, got_total)) in [("YesterdayMorning", yesterday), ("TodayMorning", today), ("TodayNow", current)] {
        put(&format!("msgPutTotal{suffix}"), put_total.to_string());
        put(&format!("msgGetTotal{suffix}"), got_total.to_string());
    }
    put("putTps", rates(Rate::Put));
    put("getFoundTps", rates(Rate::GetFound));
    put("getMissTps", rates(Rate::GetMissed));
    put("getTotalTps", rates(Rate::GetTotal));
    put("getTransferredTps", rates(Rate::Transferred));
    let (messages, bytes) = (value(&counters.messages_put), value(&counters.bytes_put));
    put("putMessageTimesTotal", messages.to_string());
    put("putMessageSizeTotal", bytes.to_string());
    put("putMessageAverageSize", if messages > 0 { (bytes as f64 / messages as f64).to_string() } else { "0.0".into() });
    put("putMessageFailedTimes", value(&counters.put_failed).to_string());
    put("commitLogMinOffset", broker.store.min_offset().to_string());
    put("commitLogMaxOffset", written.to_string());
    put("remainHowManyDataToFlush", format!("{} B", written - persisted));
    put("remainHowManyDataToCommit", "0 B".into());
    put("remainTransientStoreBufferNumbs", config.transient_store_pool_size.to_string());
    put("dispatchBehindBytes", (written - broker.store.visible()).to_string());
    put("earliestMessageTimeStamp", broker.store.earliest_timestamp().unwrap_or(-1).to_string());
    put("startAcceptSendRequestTimeStamp", config.start_accept_send_request_time_stamp.to_string());
    put("pageCacheLockTimeMills", broker.append_time(now).to_string());
    put("pullsHeld", broker.holds.count().to_string());
    for (reason, name) in REASONS {
        put(name, broker.admission.refused(reason).to_string());
    }
    if let Some(progress) = broker.store.rebuilding() {
        put("rebuilding", progress.to_string());
    }
    put("duplicateClientIds", duplicate_client_ids(broker));
    put("commitLogFenced", broker.store.fence().unwrap_or_else(|| "false".into()));
    let (behind_ms, offset_behind, pending) = broker.wheel.progress(&broker.store, now);
    put("timerReadBehind", (behind_ms / 1000).to_string());
    put("timerOffsetBehind", offset_behind.to_string());
    put("timerCongestNum", pending.to_string());
    put("timerEnqueueTps", format!("{:?}", broker.stats.rates(Rate::TimerIn)[0]));
    put("timerDequeueTps", format!("{:?}", broker.stats.rates(Rate::TimerOut)[0]));
    for (pool, capacity) in pools(&config) {
        let (size, wait) = if pool == "send" { broker.waiting_sends(now) } else { (0, 0) };
        put(&format!("{pool}ThreadPoolQueueSize"), size.to_string());
        put(&format!("{pool}ThreadPoolQueueCapacity"), capacity.to_string());
        put(&format!("{pool}ThreadPoolQueueHeadWaitTimeMills"), wait.to_string());
    }
    if let Some(disk) = broker.shell.disk(broker.store.root()) {
        put_disk(disk, &mut put);
    }
    for level in 1..=broker.schedule.levels() {
        let (delivered, max) = broker.schedule.progress(&broker.store, level);
        put(&format!("scheduleMessageOffset_{level}"), format!("{delivered},{max}"));
    }
    table.extend(broker.ha_figures());
    table.extend(broker.wrong_figures());
    table
}

fn put_disk(disk: Disk, mut put: impl FnMut(&str, String)) {
    let ratio = disk.used as f64 / disk.total.max(1) as f64;
    put("commitLogDiskRatio", ratio.to_string());
    put("consumeQueueDiskRatio", ratio.to_string());
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    put("commitLogDirCapacity", format!("Total : {}, Free : {}.", gib(disk.total), gib(disk.total - disk.used)));
}

fn pools(config: &crate::BrokerConfig) -> [(&'static str, i64); 5] {
    [
        ("send", i64::from(config.send_thread_pool_queue_capacity)),
        ("pull", i64::from(config.pull_thread_pool_queue_capacity)),
        ("litePull", i64::from(config.pull_thread_pool_queue_capacity)),
        ("query", i64::from(config.query_thread_pool_queue_capacity)),
        ("ack", i64::from(config.pull_thread_pool_queue_capacity)),
    ]
}

/// Client ids of several live processes, with their addresses; at most a few of them.
fn duplicate_client_ids(broker: &Broker) -> String {
    const SHOWN: usize = 10;
    let twins = broker.clients.twins();
    let one = |twins: &Twins| {
        let remotes: Vec<String> = twins.remotes.iter().map(ToString::to_string).collect();
        format!("{} ({})", twins.client_id, remotes.join(", "))
    };
    let mut shown: Vec<String> = twins.iter().take(SHOWN).map(one).collect();
    if twins.len() > SHOWN {
        shown.push(format!("and {} more", twins.len() - SHOWN));
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// Java's way to show how long a broker runs.
fn duration(ms: i64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("[ {days} days, {hours} hours, {minutes} minutes, {} seconds ]", seconds % 60)
}

pub fn get_broker_config(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let text = broker.config().text();
    let (data_version, _) = broker.topics.all();
    let shown = String::from_utf8_lossy(&fastjson::to_vec_standard(&data_version)).into_owned();
    call.answer(codes::SUCCESS, None, &GetBrokerConfigReply { version: &shown }, text.as_bytes());
    Ok(())
}

/// Changes settings of the running broker and in its configuration file, all or none.
pub fn update_broker_config(broker: &Broker, call: &mut Call<'_>) -> Handled {
    let entries = properties::parse(call.body)
        .map_err(|e| Refusal::new(codes::SYSTEM_ERROR, format!("the settings can't be read: {e}")))?;
    if let Some(entry) = entries.iter().find(|e| BLACKLIST.contains(&e.key.as_str())) {
        return Err(Refusal::new(codes::NO_PERMISSION, format!("Can not update config in black list: {}", entry.key)));
    }
    broker.update_config(&entries).map_err(|remark| Refusal::new(codes::SYSTEM_ERROR, remark))?;
    call.reply(&());
    Ok(())
}

/// Java's `TimerCheckpoint`: for slaves.
pub fn get_timer_check_point(broker: &Broker, call: &mut Call<'_>) -> Handled {
    if !broker.config().timer_wheel_enable {
        return Err(Refusal::new(codes::SYSTEM_ERROR, "The checkpoint is null"));
    }
    call.reply_body(&broker.wheel.checkpoint(call.now));
    Ok(())
}

/// How many timer messages of each topic wait: for slaves.
pub fn get_timer_metrics(broker: &Broker, call: &mut Call<'_>) -> Handled {
    if !broker.config().timer_wheel_enable {
        return Err(Refusal::new(codes::SYSTEM_ERROR, "The timer message store is null"));
    }
    call.reply_body(&broker.wheel.metrics());
    Ok(())
}

/// What nobody handles: answered with Java's words, logged once a code.
pub fn unsupported(broker: &Broker, call: &mut Call<'_>) {
    let code = call.header.code;
    let first = {
        let mut seen = broker.stats.counters.unsupported.lock();
        let bounded = seen.len() < MAX_UNSUPPORTED;
        match seen.get_mut(&code) {
            Some(count) => {
                *count += 1;
                false
            }
            None if bounded => seen.insert(code, 1).is_none(),
            None => false,
        }
    };
    if first {
        tracing::warn!("request code {code} is not supported (first asked for by {})", call.connection.remote);
    }
    let refusal = Refusal::new(codes::REQUEST_CODE_NOT_SUPPORTED, format!(" request type {code} not supported"));
    call.refuse(&refusal);
}

/// Codes that are remembered as asked for; a stranger could ask for any number.
const MAX_UNSUPPORTED: usize = 1000;

impl Broker {
    /// A sample of the figures, once a second.
    pub(crate) fn sample(&self, now: i64) {
        stats::Stats::sample(&self.stats, now);
    }
}
