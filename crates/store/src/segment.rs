//! One file of a log: of fixed length from the start, written with system calls whose errors are seen, read
//! through a map of the page cache. The only `unsafe` of the workspace is here: the map, and the hint to fetch ahead.
//!
//! The file has its full length at once, so that Java opens it, but its blocks are reserved step by step ahead of
//! the writes: a first start takes no gigabyte, and a full disk is seen before a record is half written.

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;

use crate::disk::{Disk, DiskFile};

/// How much disk is reserved at a time.
const RESERVE_STEP: u64 = 16 * 1024 * 1024;
/// How much is read at a time.
const READ_STEP: usize = 1024 * 1024;

/// What a processor fetches from memory at a time.
const CACHE_LINE: usize = 64;

/// One segment of a log.
#[derive(Debug)]
pub struct Segment {
    /// The offset in the log of the file's first byte; also its name.
    pub base: u64,
    pub length: u64,
    file: DiskFile,
    /// Bytes from the start whose blocks are known to be reserved.
    reserved: AtomicU64,
    map: OnceLock<Mmap>,
}

/// A segment's file name: its base in 20 decimal digits.
pub fn file_name(base: u64) -> String {
    format!("{base:020}")
}

/// Has the processor fetch bytes that are looked at soon, and waits for none of them.
#[allow(unsafe_code)]
pub fn prefetch(bytes: &[u8]) {
    let lines = bytes.chunks(CACHE_LINE).filter_map(<[u8]>::first);
    lines.chain(bytes.last()).map(std::ptr::from_ref).for_each(|line| {
        // SAFETY: the instruction is a hint. It reads and writes nothing that the program sees, and faults at no address.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = line;
    });
}

impl Segment {
    /// Makes a new file of `length` zeros, and has the directory keep it.
    pub fn create(disk: &Disk, directory: &Path, base: u64, length: u64) -> io::Result<Self> {
        let file = disk.create(&directory.join(file_name(base)), length)?;
        file.sync()?;
        disk.sync_directory(directory)?;
        Ok(Self { base, length, file, reserved: AtomicU64::new(0), map: OnceLock::new() })
    }

    /// Opens a file that is there already, and gives it its full length.
    pub fn open(disk: &Disk, path: &Path, base: u64, length: u64) -> io::Result<Self> {
        let file = disk.open(path)?;
        if file.set_length(length)? {
            // A file that is not the last must never be found short.
            file.sync()?;
        }
        Ok(Self { base, length, file, reserved: AtomicU64::new(0), map: OnceLock::new() })
    }

    /// Opens a file to be read alone: nothing about it changes, and whoever may read it can.
    pub fn open_to_read(path: &Path, base: u64, length: u64) -> io::Result<Self> {
        let file = DiskFile::open_to_read(path)?;
        Ok(Self { base, length, file, reserved: AtomicU64::new(0), map: OnceLock::new() })
    }

    /// Reads the whole file once, so that a bad sector is an error of a read, where through the map it would be a
    /// signal that ends the process.
    pub fn read_through(&self) -> io::Result<()> {
        let mut part = vec![0; READ_STEP];
        let mut position = 0;
        while position < self.length {
            let count = (self.length - position).min(part.len() as u64);
            self.file.read(position, &mut part[..count as usize])?;
            position += count;
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reserves the blocks of the first `end` bytes. Fails where the disk is full, before anything is written.
    pub fn reserve(&self, end: u64) -> io::Result<()> {
        let reserved = self.reserved.load(Ordering::Relaxed);
        if end <= reserved {
            return Ok(());
        }
        let target = end.next_multiple_of(RESERVE_STEP).min(self.length);
        self.file.reserve(reserved..target)?;
        self.reserved.fetch_max(target, Ordering::Relaxed);
        Ok(())
    }

    /// Writes at a position in the file.
    pub fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(position + bytes.len() as u64 <= self.length);
        self.file.write(position, bytes)
    }

    /// Waits until the disk has what was written.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// The position behind the last byte at `position` or beyond that is not zero; `None` where all are.
    pub fn last_written(&self, position: u64) -> io::Result<Option<u64>> {
        let bytes = self.bytes()?;
        let (mut from, mut last) = (position, None);
        while from < self.length
            && let Some(part) = self.file.next_written(from)?
        {
            let end = part.end.min(self.length);
            if let Some(at) = bytes[part.start as usize..end as usize].iter().rposition(|byte| *byte != 0) {
                last = Some(part.start + at as u64 + 1);
            }
            from = part.end;
        }
        Ok(last)
    }

    /// Writes zeros over a part, so that no old bytes come back to life behind new ones.
    pub fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.zero(from..to)?;
        self.file.sync()
    }

    /// The whole file as the page cache has it; what is not yet written reads as zeros.
    #[allow(unsafe_code)]
    pub fn bytes(&self) -> io::Result<&[u8]> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        // SAFETY: the file keeps its length while it is open (a lock keeps other brokers out, and nothing here makes
        // a file shorter), so the map stays backed. Readers look only below the visible mark, whose bytes never
        // change.
        let map = unsafe { Mmap::map(self.file.file())? };
        if (map.len() as u64) < self.length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} is shorter than {}", self.path().display(), self.length),
            ));
        }
        Ok(self.map.get_or_init(|| map))
    }
}
