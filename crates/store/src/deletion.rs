//! Deleting a topic's queues in one step: their directory is moved aside, the checkpoint says that they are gone, and
//! then their files are removed. A crash before the checkpoint has them moved back by the next start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Store;

impl Store {
    fn queue_root(&self) -> PathBuf {
        self.options.root.join("consumequeue")
    }

    fn deleted_root(&self) -> PathBuf {
        self.options.root.join("deleted")
    }

    /// Moves a topic's queues out of the way, where it has any on disk.
    pub(crate) fn put_aside_topic(&self, topic: &str) -> io::Result<()> {
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
