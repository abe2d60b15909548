//! Key-values by namespace, kept in `kvConfig.json`: the queues of ordered topics, mostly.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;
use protocol::fastjson;
use serde::{Deserialize, Serialize};

/// Entries that a table may have in all.
pub const MAX_ENTRIES: usize = 100_000;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    config_table: BTreeMap<String, BTreeMap<String, String>>,
}

/// The table and its file.
pub struct KvConfig {
    path: PathBuf,
    file: Mutex<File>,
}

impl KvConfig {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let loaded = stdx::atomic_file::read_with_backup(&path, fastjson::from_slice::<File>)?;
        if let Some(damage) = loaded.as_ref().and_then(|l| l.damage.as_ref()) {
            tracing::warn!("{} can't be used ({damage}); its .bak is read instead", path.display());
        }
        Ok(Self { path, file: Mutex::new(loaded.map(|l| l.content).unwrap_or_default()) })
    }

    pub fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.file.lock().config_table.get(namespace)?.get(key).cloned()
    }

    pub fn namespace(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.file.lock().config_table.get(namespace).cloned()
    }

    pub fn put(&self, namespace: &str, key: &str, value: &str) -> io::Result<()> {
        self.change(|table| {
            if table.values().map(BTreeMap::len).sum::<usize>() >= MAX_ENTRIES {
                return Err(io::Error::other(format!("the key-value table is full: {MAX_ENTRIES} entries")));
            }
            table.entry(namespace.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
            Ok(())
        })
    }

    pub fn delete(&self, namespace: &str, key: &str) -> io::Result<()> {
        self.change(|table| {
            if let Some(entries) = table.get_mut(namespace) {
                entries.remove(key);
            }
            Ok(())
        })
    }

    /// Changes the table once its new state is on disk.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, BTreeMap<String, String>>) -> io::Result<()>) -> io::Result<()> {
        let mut file = self.file.lock();
        let mut changed = file.clone();
        change(&mut changed.config_table)?;
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        stdx::atomic_file::write(&self.path, &fastjson::to_vec_pretty(&changed))?;
        *file = changed;
        Ok(())
    }
}
