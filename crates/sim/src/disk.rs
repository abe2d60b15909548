//! A disk that may lose what was not synced. The store runs on real files, below a directory in memory; every change
//! is noted here, and from the notes comes the image that a crash leaves: what was synced, and any part of the rest,
//! down to single sectors, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use store::disk::{Change, Watch};

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// What happens to the broker and its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the operating system goes on and writes everything.
    Kill,
    /// The machine dies; of what was not synced, any part is on disk.
    PowerCut,
}

/// An error that the disk answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next write or sync of content fails with an I/O error; where it is a sync, any part of what was not synced is
    /// lost for good.
    Io,
    /// Reserving space and making files fails until further notice.
    Full,
}

#[derive(Clone, Debug)]
enum Content {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Content>,
}

#[derive(Clone, Debug)]
enum Name {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
    Directory(PathBuf),
    NoDirectory(PathBuf),
}

impl Name {
    fn concerns(&self, directory: &Path) -> bool {
        let within = |path: &Path| path.parent() == Some(directory);
        match self {
            Name::Link(path, _) | Name::Unlink(path) | Name::Directory(path) | Name::NoDirectory(path) => within(path),
            Name::Rename(from, to) => within(from) || within(to),
        }
    }
}

/// Names of files and directories.
#[derive(Clone, Debug, Default)]
struct Tree {
    files: BTreeMap<PathBuf, usize>,
    directories: BTreeSet<PathBuf>,
}

impl Tree {
    fn apply(&mut self, name: &Name) {
        match name {
            Name::Link(path, inode) => drop(self.files.insert(path.clone(), *inode)),
            Name::Unlink(path) => drop(self.files.remove(path)),
            Name::Rename(from, to) => {
                if let Some(inode) = self.files.remove(from) {
                    self.files.insert(to.clone(), inode);
                }
                let moved = |path: &PathBuf| path.strip_prefix(from).ok().map(|rest| to.join(rest));
                for path in self.directories.iter().filter(|path| path.starts_with(from)).cloned().collect::<Vec<_>>() {
                    self.directories.remove(&path);
                    self.directories.extend(moved(&path));
                }
                for path in self.files.keys().filter(|path| path.starts_with(from)).cloned().collect::<Vec<_>>() {
                    if let (Some(inode), Some(to)) = (self.files.remove(&path), moved(&path)) {
                        self.files.insert(to, inode);
                    }
                }
            }
            Name::Directory(path) => drop(self.directories.insert(path.clone())),
            Name::NoDirectory(path) => drop(self.directories.remove(path)),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    current: Tree,
    durable: Tree,
    pending: Vec<Name>,
    /// Changes until the crash.
    countdown: Option<u64>,
    crashed: bool,
    fault: Option<Fault>,
    rng: Rng,
    lost: bool,
}

/// The disk below one directory.
#[derive(Debug)]
pub struct SimDisk {
    root: PathBuf,
    state: Mutex<State>,
}

fn apply(bytes: &mut Vec<u8>, content: &Content) {
    match content {
        Content::Length(length) => bytes.resize(*length, 0),
        Content::Write(at, written) => {
            if bytes.len() < at + written.len() {
                bytes.resize(at + written.len(), 0);
            }
            bytes[*at..at + written.len()].copy_from_slice(written);
        }
    }
}

/// Applies any part of the changes: each sector of each write by itself, but none behind one that is `lost` of the same
/// sector, which holds what was there at some moment.
fn apply_part(bytes: &mut Vec<u8>, content: &Content, keep: f64, lost: &mut BTreeSet<usize>, rng: &mut Rng) {
    match content {
        Content::Length(length) if rng.f64() < keep => bytes.resize(*length, 0),
        Content::Length(_) => {}
        Content::Write(at, written) => {
            let mut from = 0;
            while from < written.len() {
                let end = ((at + from) / SECTOR + 1) * SECTOR - at;
                let to = end.min(written.len());
                let sector = (at + from) / SECTOR;
                if rng.f64() >= keep {
                    lost.insert(sector);
                }
                if !lost.contains(&sector) {
                    apply(bytes, &Content::Write(at + from, written[from..to].to_vec()));
                }
                from = to;
            }
        }
    }
}

impl SimDisk {
    /// A disk whose synced state is what is below `root`.
    pub fn load(root: &Path, seed: u64) -> io::Result<Arc<Self>> {
        let mut state = State { rng: Rng::with_seed(seed), ..State::default() };
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    state.durable.directories.insert(path.clone());
                    directories.push(path);
                } else {
                    state.inodes.push(Inode { durable: fs::read(&path)?, pending: Vec::new() });
                    state.durable.files.insert(path, state.inodes.len() - 1);
                }
            }
        }
        state.durable.directories.insert(root.to_owned());
        state.current = state.durable.clone();
        Ok(Arc::new(Self { root: root.to_owned(), state: Mutex::new(state) }))
    }

    /// Has the disk fail everything after so many changes.
    pub fn crash_after(&self, changes: u64) {
        self.state.lock().countdown = Some(changes);
    }

    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    pub fn crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// A sync has failed, and with it some of what was not synced is gone.
    pub fn lost(&self) -> bool {
        self.state.lock().lost
    }

    /// Writes what a crash leaves below another directory.
    pub fn image(&self, crash: Crash, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let State { inodes, durable, pending, rng, .. } = &mut *state;
        // Often nearly all or nearly nothing: real disks are rarely in between.
        let keep = match crash {
            Crash::Kill => 1.0,
            Crash::PowerCut => *rng.choice(&[0.0, 0.1, 0.5, 0.9, 1.0]).unwrap_or(&0.5),
        };
        let mut tree = durable.clone();
        for name in pending.iter() {
            if rng.f64() < keep {
                tree.apply(name);
            }
        }
        let place = |path: &Path| to.join(path.strip_prefix(&self.root).unwrap_or(path));
        for directory in &tree.directories {
            let whole = directory.ancestors().take_while(|a| a.starts_with(&self.root)).all(|a| tree.directories.contains(a));
            if whole {
                fs::create_dir_all(place(directory))?;
            }
        }
        for (path, inode) in &tree.files {
            let inode = &inodes[*inode];
            let mut bytes = inode.durable.clone();
            let mut lost = BTreeSet::new();
            for content in &inode.pending {
                apply_part(&mut bytes, content, keep, &mut lost, rng);
            }
            if path.parent().is_some_and(|directory| place(directory).is_dir()) {
                fs::write(place(path), bytes)?;
            }
        }
        Ok(())
    }
}

impl State {
    fn inode(&mut self, path: &Path) -> &mut Inode {
        let inode = self.current.files[path];
        &mut self.inodes[inode]
    }

    fn name(&mut self, name: Name) {
        self.current.apply(&name);
        self.pending.push(name);
    }

    fn sync_content(&mut self, inode: usize) {
        let Inode { durable, pending } = &mut self.inodes[inode];
        for content in pending.drain(..) {
            apply(durable, &content);
        }
    }

    fn sync_names(&mut self, which: impl Fn(&Name) -> bool) {
        let (synced, pending) = std::mem::take(&mut self.pending).into_iter().partition(which);
        self.pending = pending;
        let synced: Vec<Name> = synced;
        synced.iter().for_each(|name| self.durable.apply(name));
    }

    fn note(&mut self, change: Change<'_>) {
        match change {
            Change::Create(path) if self.current.files.contains_key(path) => {}
            Change::Create(path) => {
                self.inodes.push(Inode::default());
                self.name(Name::Link(path.to_owned(), self.inodes.len() - 1));
            }
            Change::SetLength(path, length) => self.inode(path).pending.push(Content::Length(length as usize)),
            Change::Reserve(_) => {}
            Change::Write(path, at, bytes) => self.inode(path).pending.push(Content::Write(at as usize, bytes.to_vec())),
            Change::Sync(path) => {
                if let Some(inode) = self.current.files.get(path).copied() {
                    self.sync_content(inode);
                }
            }
            Change::MakeDirectory(path) => self.name(Name::Directory(path.to_owned())),
            Change::SyncDirectory(path) => self.sync_names(|name| name.concerns(path)),
            Change::SyncAll => {
                (0..self.inodes.len()).for_each(|inode| self.sync_content(inode));
                self.sync_names(|_| true);
            }
            Change::Rename(from, to) => self.name(Name::Rename(from.to_owned(), to.to_owned())),
            Change::Remove(path) => self.name(Name::Unlink(path.to_owned())),
            Change::RemoveDirectory(path) => self.name(Name::NoDirectory(path.to_owned())),
        }
    }

    /// After a failed sync the system counts the pages as clean, whether the disk has them or not.
    fn lose(&mut self, path: &Path) {
        let Some(inode) = self.current.files.get(path).copied() else { return };
        let Inode { durable, pending } = &mut self.inodes[inode];
        let mut lost = BTreeSet::new();
        for content in pending.drain(..) {
            apply_part(durable, &content, 0.5, &mut lost, &mut self.rng);
        }
        self.lost = true;
    }
}

impl Watch for SimDisk {
    fn about_to(&self, change: Change<'_>) -> io::Result<()> {
        let mut state = self.state.lock();
        tracing::trace!("{}", shown(change));
        if state.crashed {
            return Err(io::Error::other("the machine is down"));
        }
        if let Some(left) = state.countdown.as_mut() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.crashed = true;
                // What is under way may have reached the disk in part.
                if let Change::Write(..) = change {
                    state.note(change);
                }
                return Err(io::Error::other("the machine went down"));
            }
        }
        match (state.fault, change) {
            (Some(Fault::Io), Change::Write(path, ..) | Change::Sync(path)) => {
                state.fault = None;
                if let Change::Sync(_) = change {
                    state.lose(path);
                }
                return Err(io::Error::from_raw_os_error(5));
            }
            (Some(Fault::Full), Change::Reserve(_) | Change::Create(_) | Change::MakeDirectory(_)) => {
                return Err(io::ErrorKind::StorageFull.into());
            }
            _ => {}
        }
        state.note(change);
        Ok(())
    }
}

/// A change without the bytes.
fn shown(change: Change<'_>) -> String {
    match change {
        Change::Write(path, at, bytes) => format!("Write({path:?}, {at}, {} bytes)", bytes.len()),
        other => format!("{other:?}"),
    }
}
