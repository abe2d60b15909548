//! Where the store touches the disk: every change to a file or a directory is made here, so that a simulator can
//! note it, fail it, and build from the notes what a power cut would have left behind.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

/// Zeros that are written at a time.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Whether an error passes when space is freed.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What is about to happen to a disk.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A file gets its name. Its content is empty.
    Create(&'a Path),
    SetLength(&'a Path, u64),
    /// Blocks of a file are reserved; its content does not change.
    Reserve(&'a Path),
    Write(&'a Path, u64, &'a [u8]),
    /// The content of a file is to be on disk; its name need not be.
    Sync(&'a Path),
    MakeDirectory(&'a Path),
    /// The names in a directory are to be on disk.
    SyncDirectory(&'a Path),
    /// Everything is to be on disk.
    SyncAll,
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
    RemoveDirectory(&'a Path),
}

/// Is told of every change before it happens, and may fail it.
pub trait Watch: Send + Sync + Debug {
    fn about_to(&self, change: Change<'_>) -> io::Result<()>;
}

/// The disk, with somebody who watches it or without.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    watch: Option<Arc<dyn Watch>>,
}

/// A file that is open for reading and writing.
#[derive(Debug)]
pub struct DiskFile {
    file: fs::File,
    path: PathBuf,
    disk: Disk,
}

impl Disk {
    /// A disk whose changes are told to `watch`.
    pub fn watched(watch: Arc<dyn Watch>) -> Self {
        Self { watch: Some(watch) }
    }

    fn tell(&self, change: Change<'_>) -> io::Result<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.about_to(change))
    }

    /// Opens a file, made where it is missing, and gives it a length.
    pub fn create(&self, path: &Path, length: u64) -> io::Result<DiskFile> {
        self.tell(Change::Create(path))?;
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let file = DiskFile { file, path: path.to_owned(), disk: self.clone() };
        file.set_length(length)?;
        Ok(file)
    }

    /// Opens a file that is there.
    pub fn open(&self, path: &Path) -> io::Result<DiskFile> {
        let file = fs::File::options().read(true).write(true).open(path)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Makes a directory and those above it, and has the disk keep their names.
    pub fn make_directories(&self, path: &Path) -> io::Result<()> {
        self.each_missing(path, &mut |path, parent| {
            self.make_directory(path)?;
            self.sync_directory(parent)
        })
    }

    /// Makes a directory and those above it; their names have still to be synced.
    pub fn make_directories_unsynced(&self, path: &Path) -> io::Result<()> {
        self.each_missing(path, &mut |path, _| self.make_directory(path))
    }

    fn each_missing(&self, path: &Path, make: &mut dyn FnMut(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.each_missing(parent, make)?;
        make(path, parent)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.tell(Change::MakeDirectory(path))?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Has the disk keep the names in a directory.
    pub fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.tell(Change::SyncDirectory(path))?;
        fs::File::open(path)?.sync_all()
    }

    /// Has the disk keep everything of the file system that holds `path`.
    pub fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.tell(Change::SyncAll)?;
        Ok(rustix::fs::syncfs(fs::File::open(path)?)?)
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.tell(Change::Rename(from, to))?;
        fs::rename(from, to)
    }

    /// Removes a file, which may be gone already.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.tell(Change::Remove(path))?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes an empty directory. `false` where there is none.
    pub fn remove_directory(&self, path: &Path) -> io::Result<bool> {
        if !path.is_dir() {
            return Ok(false);
        }
        self.tell(Change::RemoveDirectory(path))?;
        fs::remove_dir(path)?;
        Ok(true)
    }
}

impl DiskFile {
    /// Opens a file that is there, to read it.
    pub fn open_to_read(path: &Path) -> io::Result<Self> {
        Ok(Self { file: fs::File::open(path)?, path: path.to_owned(), disk: Disk::default() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, for a map of it.
    pub fn file(&self) -> &fs::File {
        &self.file
    }

    /// Gives the file a length. `false` where it has it already.
    pub fn set_length(&self, length: u64) -> io::Result<bool> {
        if self.file.metadata()?.len() == length {
            return Ok(false);
        }
        self.disk.tell(Change::SetLength(&self.path, length))?;
        self.file.set_len(length)?;
        Ok(true)
    }

    /// Reserves blocks, so that writing them can't find the disk full. A file system that can't do so shows a full
    /// disk at the write.
    pub fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.disk.tell(Change::Reserve(&self.path))?;
        match fallocate(&self.file, FallocateFlags::empty(), range.start, range.end - range.start) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.tell(Change::Write(&self.path, position, bytes))?;
        self.file.write_all_at(bytes, position)
    }

    /// Writes zeros over a part.
    pub fn zero(&self, part: Range<u64>) -> io::Result<()> {
        let mut position = part.start;
        while position < part.end {
            let count = (part.end - position).min(ZEROS.len() as u64);
            self.write(position, &ZEROS[..count as usize])?;
            position += count;
        }
        Ok(())
    }

    pub fn read(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, position)
    }

    /// Waits until the disk has the content.
    pub fn sync(&self) -> io::Result<()> {
        self.disk.tell(Change::Sync(&self.path))?;
        self.file.sync_data()
    }

    /// The next part of the file from `position` on that was written; holes and reserved blocks read as zeros.
    pub fn next_written(&self, position: u64) -> io::Result<Option<Range<u64>>> {
        let start = match seek(&self.file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(start..seek(&self.file, SeekFrom::Hole(start))?))
    }
}
