//! Log lines: to stderr, and for processes of their own to the file where Java's logs are looked for.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

/// Begins to log. With a home, lines also go to `logs/rocketmqlogs/<name>.log` below it.
pub fn start(home: Option<&Path>, name: &str) {
    let filter = EnvFilter::try_from_env("FERROCKET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colours);
    match home.map(|home| open(home, name)) {
        Some(Ok(file)) => subscriber.with_ansi(false).with_writer(Arc::new(file).and(std::io::stderr)).init(),
        Some(Err(error)) => {
            subscriber.with_writer(std::io::stderr).init();
            tracing::warn!("no log file: {error}");
        }
        None => subscriber.with_writer(std::io::stderr).init(),
    }
}

fn open(home: &Path, name: &str) -> std::io::Result<File> {
    let directory = home.join("logs").join("rocketmqlogs");
    std::fs::create_dir_all(&directory)?;
    OpenOptions::new().create(true).append(true).open(directory.join(format!("{name}.log")))
}
