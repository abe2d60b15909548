//! Cleaning: old segments go, one at a time, and what was derived from them follows.

use std::io;
use std::sync::atomic::Ordering;

use crate::{Store, log};

/// Which segments may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Those whose newest message was stored before this time, in ms.
    Before(i64),
    /// The oldest, whatever its age: the disk is too full.
    Oldest,
}

impl Store {
    /// Removes the oldest segment if it may go; the newest with messages always stays. `true` where it removed one: call
    /// it again, after a pause.
    pub fn clean(&self, retention: Retention) -> io::Result<bool> {
        let segments = self.log.all();
        let (Some(oldest), Some(next)) = (segments.first(), segments.get(1)) else { return Ok(false) };
        // Queues that are not on disk yet could not be made again, and their offsets would be given anew. A file that
        // was made ahead holds no message.
        if next.base > self.derived_on_disk.load(Ordering::Acquire) || next.base >= self.visible() {
            return Ok(false);
        }
        // The next one's first message was stored when this one was full.
        if let Retention::Before(time) = retention {
            let log::Found::Record { record, .. } = log::look(next.bytes()?, next.base, 0) else {
                return Ok(false);
            };
            if record.store_timestamp >= time {
                return Ok(false);
            }
        }
        self.log.remove_oldest()?;
        tracing::info!("removed {}: the commit log begins at {}", oldest.path().display(), self.log.min_offset());
        Ok(true)
    }

    /// Has queues and key index forget what the log does not have any more.
    pub fn clean_derived(&self) -> io::Result<()> {
        let min = self.log.min_offset();
        for queue in self.queues() {
            queue.correct_min(min)?;
        }
        self.index.as_ref().map_or(Ok(()), |index| index.clean(min))
    }
}
