//! Log lines: to stderr, and for processes of their own to the file where Java's logs are looked for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use logroller::{LogRoller, LogRollerBuilder, Rotation, RotationSize};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

/// A log file's length before it is put aside (Java's logs: 128 MB to 1 GB).
const FILE_MB: u64 = 128;
/// Files that were put aside and are kept.
const KEPT_FILES: u64 = 10;

/// Begins to log. With a home, lines also go to `logs/rocketmqlogs/<name>.log` below it.
pub fn start(home: Option<&Path>, name: &str) {
    let filter = EnvFilter::try_from_env("FERROCKET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    // Where stderr is closed, a complaint about that on stderr would end the process.
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colours).log_internal_errors(false);
    match home.map(|home| open(home, name)) {
        Some(Ok(file)) => subscriber.with_ansi(false).with_writer(Mutex::new(file).and(io::stderr)).init(),
        Some(Err(error)) => {
            subscriber.with_writer(io::stderr).init();
            tracing::warn!("no log file: {error}");
        }
        None => subscriber.with_writer(io::stderr).init(),
    }
}

fn open(home: &Path, name: &str) -> io::Result<LogRoller> {
    let directory = home.join("logs").join("rocketmqlogs");
    std::fs::create_dir_all(&directory)?;
    LogRollerBuilder::new(directory, PathBuf::from(format!("{name}.log")))
        .rotation(Rotation::SizeBased(RotationSize::MB(FILE_MB)))
        .max_keep_files(KEPT_FILES)
        .build()
        .map_err(io::Error::other)
}
