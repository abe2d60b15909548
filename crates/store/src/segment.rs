//! One file of a log: of fixed length from the start, written with system calls whose errors are seen, read
//! through a map of the page cache. The only `unsafe` of the workspace is here.
//!
//! The file has its full length at once, so that Java opens it, but its blocks are reserved step by step ahead of
//! the writes: a first start takes no gigabyte, and a full disk is seen before a record is half written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use rustix::fs::{FallocateFlags, fallocate};

/// How much disk is reserved at a time.
const RESERVE_STEP: u64 = 16 * 1024 * 1024;

/// One segment of a log.
#[derive(Debug)]
pub struct Segment {
    /// The offset in the log of the file's first byte; also its name.
    pub base: u64,
    pub length: u64,
    path: PathBuf,
    file: File,
    /// Bytes from the start whose blocks are known to be reserved.
    reserved: AtomicU64,
    map: OnceLock<Mmap>,
}

/// A segment's file name: its base in 20 decimal digits.
pub fn file_name(base: u64) -> String {
    format!("{base:020}")
}

impl Segment {
    /// Makes a new file of `length` zeros, and has the directory keep it.
    pub fn create(directory: &Path, base: u64, length: u64) -> io::Result<Self> {
        let path = directory.join(file_name(base));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        file.set_len(length)?;
        file.sync_all()?;
        File::open(directory)?.sync_all()?;
        Ok(Self { base, length, path, file, reserved: AtomicU64::new(0), map: OnceLock::new() })
    }

    /// Opens a file that is there already.
    pub fn open(path: &Path, base: u64, length: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { base, length, path: path.to_owned(), file, reserved: AtomicU64::new(0), map: OnceLock::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reserves the blocks of the first `end` bytes. Fails where the disk is full, before anything is written.
    pub fn reserve(&self, end: u64) -> io::Result<()> {
        let reserved = self.reserved.load(Ordering::Relaxed);
        if end <= reserved {
            return Ok(());
        }
        let target = end.next_multiple_of(RESERVE_STEP).min(self.length);
        match fallocate(&self.file, FallocateFlags::empty(), reserved, target - reserved) {
            Ok(()) => {}
            // A file system that can't reserve shows a full disk at the write itself.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        self.reserved.store(target, Ordering::Relaxed);
        Ok(())
    }

    /// Writes at a position in the file.
    pub fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(position + bytes.len() as u64 <= self.length);
        self.file.write_all_at(bytes, position)
    }

    /// Waits until the disk has what was written.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes zeros from `position` to the end, so that no old bytes come back to life behind new ones.
    pub fn zero_from(&self, position: u64) -> io::Result<()> {
        if position >= self.length {
            return Ok(());
        }
        // Cutting the file off and extending it again leaves a hole, which reads as zeros.
        self.file.set_len(position)?;
        self.file.set_len(self.length)?;
        self.reserved.store(position.min(self.reserved.load(Ordering::Relaxed)), Ordering::Relaxed);
        self.file.sync_all()
    }

    /// The whole file as the page cache has it; what is not yet written reads as zeros.
    #[allow(unsafe_code)]
    pub fn bytes(&self) -> io::Result<&[u8]> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        // SAFETY: the file keeps its length while it is open (a lock keeps other brokers out, `zero_from` runs
        // only in recovery, before anything is mapped for readers), so the map stays backed. Readers look only
        // below the visible mark, whose bytes never change.
        let map = unsafe { Mmap::map(&self.file)? };
        if (map.len() as u64) < self.length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} is shorter than {}", self.path.display(), self.length),
            ));
        }
        Ok(self.map.get_or_init(|| map))
    }
}
