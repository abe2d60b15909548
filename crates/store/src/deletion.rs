//! Deleting a topic's queues in one step: their directory is moved aside, the checkpoint says that they are gone, and
//! then their files are removed. A crash before the checkpoint has them moved back by the next start. The records stay in
//! the log until it is cleaned.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Store, Tail, Woken};

impl Store {
    fn queue_root(&self) -> PathBuf {
        self.options.root.join("consumequeue")
    }

    fn deleted_root(&self) -> PathBuf {
        self.options.root.join("deleted")
    }

    /// Forgets a deleted topic's queues and removes their files. Returns the queues whose watchers are to be told: what was
    /// sent before becomes visible first.
    pub fn delete_topic(&self, topic: &str) -> io::Result<Woken> {
        let woken = self.sync().map_err(io::Error::other)?;
        let mut tail = self.tail.lock();
        self.take_queues(&mut tail, topic)?;
        drop(tail);
        self.remove_taken()?;
        Ok(woken)
    }

    /// Does so for a slave's topic that its master no longer has. `false` where a queue has a message at or above `offset`
    /// of the log: it may be of a topic that was made anew.
    pub fn delete_topic_below(&self, topic: &str, offset: u64) -> io::Result<bool> {
        let mut tail = self.tail.lock();
        let queues = self.queues.read().get(topic).cloned().unwrap_or_default();
        for queue in queues.values() {
            let end = queue.max_offset();
            let last = queue.entry(end - 1)?;
            if queue.next_offset() > end || last.is_some_and(|last| last.offset as u64 >= offset) {
                return Ok(false);
            }
        }
        self.take_queues(&mut tail, topic)?;
        drop(tail);
        self.remove_taken().map(|()| true)
    }

    /// Takes a topic's queues out of the store, and their files out of the way: who holds the tail keeps out what would make
    /// them anew meanwhile.
    fn take_queues(&self, tail: &mut Tail, topic: &str) -> io::Result<()> {
        let gone = self.queues.write().remove(topic).unwrap_or_default();
        tail.entries -= gone.values().map(|queue| queue.max_offset() as u64).sum::<u64>();
        gone.values().for_each(|queue| queue.delete());
        self.put_aside_topic(topic)
    }

    /// Removes queue files that were moved out of the way, once a later start can't read the deleted messages from the log
    /// again: their offsets may be taken anew.
    fn remove_taken(&self) -> io::Result<()> {
        self.checkpoint()?;
        if !*self.checkpoints.lock() {
            return Err(io::Error::other("the checkpoint can't be written: the next start may find the topic's messages again"));
        }
        self.remove_deleted()
    }

    /// Moves a topic's queues out of the way, where it has any on disk.
    fn put_aside_topic(&self, topic: &str) -> io::Result<()> {
        let from = self.queue_root().join(topic);
        if from.is_dir() {
            self.options.disk.make_directories(&self.deleted_root())?;
            self.remove_deleted()?;
            self.rename_topic(&from, &self.deleted_root().join(topic))?;
        }
        Ok(())
    }

    fn rename_topic(&self, from: &Path, to: &Path) -> io::Result<()> {
        let disk = &self.options.disk;
        disk.rename(from, to)?;
        disk.sync_directory(&self.queue_root())?;
        disk.sync_directory(&self.deleted_root())
    }

    /// Moves back what a crash left half deleted. `true` where there was something.
    pub(crate) fn restore_deleted(&self) -> io::Result<bool> {
        let mut restored = false;
        for (topic, directory) in crate::recovery::directories(&self.deleted_root())? {
            let back = self.queue_root().join(&topic);
            if !back.exists() {
                tracing::warn!("the deletion of topic {topic} was broken off by a crash: its messages are there again");
                self.rename_topic(&directory, &back)?;
                restored = true;
            }
        }
        Ok(restored)
    }

    /// Removes what was moved out of the way.
    pub(crate) fn remove_deleted(&self) -> io::Result<()> {
        for (_, topic) in crate::recovery::directories(&self.deleted_root())? {
            for (_, queue) in crate::recovery::directories(&topic)? {
                for file in fs::read_dir(&queue)? {
                    self.options.disk.remove(&file?.path())?;
                }
                self.options.disk.remove_directory(&queue)?;
            }
            self.options.disk.remove_directory(&topic)?;
        }
        Ok(())
    }
}
