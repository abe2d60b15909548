//! A named table that is kept in a file: topics and consumer groups.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use protocol::bodies::DataVersion;
use protocol::fastjson;
use serde::{Serialize, de::DeserializeOwned};

/// A row's type, and how rows stand in their file.
pub trait Rows: Clone + PartialEq + Sized {
    type File: Serialize + DeserializeOwned + Default;
    /// What else is in the file.
    type Rest: Clone + PartialEq;
    fn from_file(file: Self::File) -> (DataVersion, BTreeMap<String, Self>, Self::Rest);
    fn to_file(version: DataVersion, rows: BTreeMap<String, Self>, rest: Self::Rest) -> Self::File;
}

/// Rows by name. A change is on disk before it is visible to whoever asked for it.
pub struct Table<T: Rows> {
    path: PathBuf,
    rows: RwLock<HashMap<String, Arc<T>>>,
    rest: RwLock<T::Rest>,
    /// Held while the file is written, so that the newest state is what stays there.
    version: Mutex<DataVersion>,
}

impl<T: Rows> Table<T> {
    /// Reads the file, or its `.bak` where it is damaged; begins empty where there is neither.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file: T::File = load(&path)?;
        let (version, rows, rest) = T::from_file(file);
        let rows = rows.into_iter().map(|(name, row)| (name, Arc::new(row))).collect();
        Ok(Self { path, rows: RwLock::new(rows), rest: RwLock::new(rest), version: Mutex::new(version) })
    }

    pub fn get(&self, name: &str) -> Option<Arc<T>> {
        self.rows.read().get(name).cloned()
    }

    /// All rows by name, and their version.
    pub fn all(&self) -> (DataVersion, BTreeMap<String, T>) {
        let version = self.version.lock();
        let rows = self.rows.read().iter().map(|(name, row)| (name.clone(), T::clone(row))).collect();
        (version.clone(), rows)
    }

    /// The table as it stands in its file.
    pub fn file(&self) -> T::File {
        let (version, rows) = self.all();
        T::to_file(version, rows, self.rest.read().clone())
    }

    /// Looks at what else is in the file.
    pub fn rest<R>(&self, look: impl FnOnce(&T::Rest) -> R) -> R {
        look(&self.rest.read())
    }

    /// Changes what else is in the file, and saves where that is another than before.
    pub fn change_rest(&self, now: i64, change: impl FnOnce(&mut T::Rest)) -> io::Result<()> {
        let mut version = self.version.lock();
        let changed = {
            let mut rest = self.rest.write();
            let old = rest.clone();
            change(&mut rest);
            *rest != old
        };
        if changed { self.save(&mut version, now) } else { Ok(()) }
    }

    /// Names in their order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.rows.read().keys().cloned().collect();
        names.sort();
        names
    }

    /// Puts rows in and saves; what is there already in the same form changes nothing.
    pub fn put(&self, changed: impl IntoIterator<Item = (String, T)>, now: i64) -> io::Result<()> {
        // The rows may come from an iterator that looks into this table.
        let changed: Vec<_> = changed.into_iter().collect();
        let mut version = self.version.lock();
        let mut any = false;
        {
            let mut rows = self.rows.write();
            for (name, row) in changed {
                if rows.get(&name).is_none_or(|old| **old != row) {
                    rows.insert(name, Arc::new(row));
                    any = true;
                }
            }
        }
        if any { self.save(&mut version, now) } else { Ok(()) }
    }

    /// Notes an epoch in the table's version, by which name servers tell a new master from an old one, and saves.
    pub fn set_epoch(&self, epoch: i64, now: i64) -> io::Result<()> {
        let mut version = self.version.lock();
        version.state_version = epoch;
        self.save(&mut version, now)
    }

    /// Becomes what the master has, and saves; nothing where the versions are the same.
    pub fn replace(&self, file: T::File) -> io::Result<bool> {
        let (newer, rows, rest) = T::from_file(file);
        let mut version = self.version.lock();
        if *version == newer {
            return Ok(false);
        }
        save(&self.path, &T::to_file(newer.clone(), rows.clone(), rest.clone()))?;
        *self.rows.write() = rows.into_iter().map(|(name, row)| (name, Arc::new(row))).collect();
        *self.rest.write() = rest;
        *version = newer;
        Ok(true)
    }

    /// Takes a row out and saves. `false` where there was none.
    pub fn remove(&self, name: &str, now: i64) -> io::Result<bool> {
        let mut version = self.version.lock();
        if self.rows.write().remove(name).is_none() {
            return Ok(false);
        }
        self.save(&mut version, now).map(|()| true)
    }

    fn save(&self, version: &mut DataVersion, now: i64) -> io::Result<()> {
        version.advance(now);
        let rows = self.rows.read().iter().map(|(name, row)| (name.clone(), T::clone(row))).collect();
        save(&self.path, &T::to_file(version.clone(), rows, self.rest.read().clone()))
    }
}

/// Reads a file of `config/`, with what was wrong with it in the log.
pub(crate) fn load<T: DeserializeOwned + Default>(path: &Path) -> io::Result<T> {
    let Some(loaded) = stdx::atomic_file::read_with_backup(path, fastjson::from_slice::<T>)? else {
        return Ok(T::default());
    };
    if let Some(damage) = &loaded.damage {
        tracing::warn!(
            "{} can't be used ({damage}); its .bak is read instead, the newest changes may be missing",
            path.display()
        );
    }
    Ok(loaded.content)
}

/// Replaces a file of `config/` in one step.
pub(crate) fn save(path: &Path, content: &impl Serialize) -> io::Result<()> {
    stdx::atomic_file::write(path, &fastjson::to_vec_pretty(content))
}
