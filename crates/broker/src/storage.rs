//! Looking after the store: what the shell's storage thread calls every 100 ms. Nothing here stands in the way of a
//! send.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use store::Retention;

use crate::config::BrokerConfig;
use crate::places::Place;
use crate::{Broker, Disk, due};

/// Bytes of log that are read in one go to make queues or the key index again.
const READ_BYTES: u64 = 256 << 20;
/// How often the consume queues are written to their files, and the log's state noted, in ms.
const CHECKPOINT_MS: i64 = 10_000;
/// The same in bytes of log: so much can be read again within a second or two.
const CHECKPOINT_BYTES: u64 = 512 << 20;
/// How often it is looked how full the disk is, in ms: sends go on so soon after space was freed.
const DISK_MS: i64 = 500;
/// Files that are looked for no sooner than this after the start, in ms (as Java does).
const FIRST_CLEANING_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// When what has to be done next.
pub struct Timers {
    checkpoint: AtomicI64,
    checkpointed: AtomicU64,
    disk: AtomicI64,
    offsets: AtomicI64,
    timers: AtomicI64,
    clean: AtomicI64,
    /// Files were removed, and the queues not yet cut.
    cleaned: AtomicBool,
    /// Somebody asked that old files be deleted at this hour, too.
    asked: AtomicBool,
    full: AtomicBool,
    reading: AtomicBool,
}

impl Timers {
    /// Offsets are first saved `offsets` ms from `now`.
    pub fn new(now: i64, offsets: i64) -> Self {
        Self {
            checkpoint: AtomicI64::new(now + CHECKPOINT_MS),
            checkpointed: AtomicU64::new(0),
            disk: AtomicI64::new(now),
            offsets: AtomicI64::new(now + offsets),
            timers: AtomicI64::new(now),
            clean: AtomicI64::new(now + FIRST_CLEANING_MS),
            cleaned: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            full: AtomicBool::new(false),
            reading: AtomicBool::new(false),
        }
    }

    /// Has queue and index files deleted that the log needs no longer.
    pub fn clean_derived_soon(&self) {
        self.cleaned.store(true, Ordering::Relaxed);
        self.clean.store(0, Ordering::Relaxed);
    }

    /// Has commit log files deleted whose time is over.
    pub fn clean_log_soon(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.clean_derived_soon();
    }
}

/// Percent of a disk in use, from which files are deleted and messages refused.
struct Thresholds {
    clean: u64,
    clean_forcibly: u64,
    refuse: u64,
}

impl Thresholds {
    /// Java's bounds: no setting makes a broker fill its disk.
    fn of(config: &BrokerConfig) -> Self {
        Self {
            clean: config.disk_max_used_space_ratio.clamp(10, 95) as u64,
            clean_forcibly: config.disk_space_clean_forcibly_ratio.clamp(30, 85) as u64,
            refuse: config.disk_space_warning_level_ratio.clamp(35, 90) as u64,
        }
    }
}

impl Broker {
    /// Does what the store is due at `now`. Reads and writes much and may block: it is for a thread of its own.
    /// Returns whether there is more to do at once.
    pub fn tend_store(&self, now: i64) -> bool {
        let config = self.config();
        self.save_offsets(&config, now);
        if self.store.rebuilding().is_some() {
            return match self.store.rebuild(READ_BYTES) {
                Ok(done) => {
                    if done {
                        if self.store.recovered().unclean && !self.is_slave() {
                            self.limit_offsets();
                        }
                        tracing::info!("the consume queues are whole again; messages are taken");
                    }
                    true
                }
                Err(error) => {
                    tracing::error!("the commit log can't be read, which is tried again: {error}");
                    false
                }
            };
        }
        if let Err(error) = self.store.prepare() {
            tracing::error!("{error}");
        }
        if let Err(error) = self.settle_epochs(now) {
            tracing::error!("no slave is sent the log before its epoch is noted, which is tried again: {error}");
        }
        let more = self.index_keys();
        if due(&self.storage.disk, now, DISK_MS) {
            self.watch_disk(&config);
        }
        if due(&self.storage.clean, now, i64::from(config.clean_resource_interval)) {
            self.clean(&config, now);
        }
        let ahead = self.store.visible() - self.storage.checkpointed.load(Ordering::Relaxed);
        if due(&self.storage.checkpoint, now, CHECKPOINT_MS) || ahead >= CHECKPOINT_BYTES {
            self.storage.checkpoint.store(now + CHECKPOINT_MS, Ordering::Relaxed);
            self.storage.checkpointed.store(self.store.visible(), Ordering::Relaxed);
            self.checkpoint();
        }
        more
    }

    /// Saves how far consumers, delay levels and timers are, where it is time.
    fn save_offsets(&self, config: &BrokerConfig, now: i64) {
        if due(&self.storage.offsets, now, i64::from(config.flush_consumer_offset_interval))
            && let Err(error) = self.save_tables(now)
        {
            tracing::error!("offsets can't be saved, which is tried again: {error}");
        }
        if due(&self.storage.timers, now, i64::from(config.timer_flush_interval_ms))
            && let Err(error) = self.wheel.save()
        {
            tracing::error!("how far timer messages are delivered can't be saved, which is tried again: {error}");
        }
    }

    /// A group that pops is as far as its check points say: without these on disk, the offsets would pass over what was
    /// popped.
    pub(crate) fn save_tables(&self, now: i64) -> io::Result<()> {
        self.save_pops(now)?;
        // All that these follow from is on disk when they are saved.
        let offsets = self.offsets.of_broker();
        self.offsets.save(now, || match self.store.rebuilding() {
            None => self.sync(now).map_err(io::Error::other),
            Some(_) => Ok(()),
        })?;
        let timers = self.wheel.confirmed();
        let (_, end) = self.store.written_and_persisted();
        self.schedule.save(now, end)?;
        if self.is_slave() || self.epochs().is_none() {
            return Ok(());
        }
        self.places.note(Place { end, delay_offsets: self.schedule.confirmed(), timers, offsets })
    }

    /// Has the key index follow. `true` where it has log to read.
    fn index_keys(&self) -> bool {
        match self.store.index(READ_BYTES) {
            Ok(done) => {
                if self.storage.reading.swap(!done, Ordering::Relaxed) == done {
                    tracing::info!("the key index {}", if done { "is whole again" } else { "reads the commit log to catch up" });
                }
                !done
            }
            Err(error) => {
                tracing::error!("the key index can't be written, which is tried again: {error}");
                false
            }
        }
    }

    /// Brings derived files up to date on disk, so that the next start has little to read.
    pub fn checkpoint(&self) {
        if let Err(error) = self.store.checkpoint() {
            tracing::error!(
                "consume queues, key index and checkpoint can't be written: {error}. They are no longer saved; \
                 the next start derives them again from the commit log"
            );
        }
    }

    fn disk(&self) -> Option<(Disk, u64)> {
        let disk = self.shell.disk(self.store.commit_log())?;
        Some((disk, disk.used * 100 / disk.total.max(1)))
    }

    /// Refuses messages while the disk is too full, and takes them again when there is room.
    fn watch_disk(&self, config: &BrokerConfig) {
        let Some((_, used)) = self.disk() else { return };
        let thresholds = Thresholds::of(config);
        let was_full = self.storage.full.load(Ordering::Relaxed);
        let full = used > thresholds.refuse || was_full && used > thresholds.clean_forcibly;
        if full {
            let reason = format!(
                "the broker's disk is full: {used} % of it are in use, diskSpaceWarningLevelRatio is {}; messages are taken again at {} %",
                thresholds.refuse, thresholds.clean_forcibly
            );
            if !was_full {
                tracing::error!("{reason}");
            }
            self.store.refuse(Some(reason));
        } else if was_full {
            tracing::info!("{used} % of the disk are in use: messages are taken again");
            self.store.refuse(None);
        }
        self.storage.full.store(full, Ordering::Relaxed);
    }

    /// Deletes at most one commit log file, and comes back for the next after `deleteCommitLogFilesInterval`.
    fn clean(&self, config: &BrokerConfig, now: i64) {
        let used = self.disk().map_or(0, |(_, used)| used);
        let thresholds = Thresholds::of(config);
        let retention = if used > thresholds.clean_forcibly && config.clean_file_forcibly_enable {
            Retention::Oldest
        } else if used > thresholds.clean
            || is_hour(&config.delete_when, self.shell.hour(now))
            || self.storage.asked.load(Ordering::Relaxed)
        {
            Retention::Before(now - i64::from(config.file_reserved_time) * HOUR_MS)
        } else {
            return self.clean_derived();
        };
        match self.store.clean(retention) {
            Ok(true) => {
                self.storage.cleaned.store(true, Ordering::Relaxed);
                self.storage.clean.store(now + i64::from(config.delete_commit_log_files_interval), Ordering::Relaxed);
            }
            Ok(false) => {
                self.storage.asked.store(false, Ordering::Relaxed);
                self.clean_derived();
            }
            Err(error) => tracing::error!("an old commit log file can't be deleted, which is tried again: {error}"),
        }
    }

    fn clean_derived(&self) {
        if self.storage.cleaned.swap(false, Ordering::Relaxed)
            && let Err(error) = self.store.clean_derived()
        {
            tracing::error!("old consume queue and index files can't be deleted, which is tried again: {error}");
            self.storage.cleaned.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether an hour is one of a list such as `04;16`.
fn is_hour(list: &str, hour: u8) -> bool {
    list.split(';').any(|word| word.trim().parse() == Ok(hour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_a_list() {
        assert!(is_hour("04", 4) && is_hour("04; 16", 16) && !is_hour("04;16", 5) && !is_hour("", 0));
    }
}
