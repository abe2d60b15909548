//! The floor that a broker is measured against: a server that only reads, appends and answers, and a disk that only syncs.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::BytesMut;
use hdrhistogram::Histogram;
use protocol::header::Outgoing;
use protocol::{Serialization, codes, frame};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FallocateFlags, fallocate};

/// What one read takes at the most; a broker's is the same.
const READ_BYTES: usize = 128 * 1024;
/// The file is reserved at once and written again from its start beyond this, so that a long run fills no disk.
const FILE_BYTES: u64 = 1 << 30;

#[derive(clap::Args)]
pub struct Server {
    /// Listen here.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10911")]
    listen: String,
    /// Append to this file; it is made, and removed at the end.
    #[arg(long, value_name = "FILE", default_value = "floor.data")]
    file: PathBuf,
    /// Sync before each answer, as SYNC_FLUSH does.
    #[arg(long)]
    sync: bool,
}

#[derive(clap::Args)]
pub struct Disk {
    /// Append to this file; it is made, and removed at the end.
    #[arg(long, value_name = "FILE", default_value = "floor.data")]
    file: PathBuf,
    /// Bytes of an append.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// How often.
    #[arg(long, default_value_t = 2000)]
    times: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

struct Connection {
    stream: TcpStream,
    /// What was read of a frame that is not whole yet.
    input: BytesMut,
}

/// Answers each request with success after the bytes that it came with are in the file. Runs until it is killed.
pub fn serve(options: &Server) -> Result<()> {
    let listener = TcpListener::bind(&options.listen).with_context(|| format!("can't listen on {}", options.listen))?;
    listener.set_nonblocking(true)?;
    let file = reserve(&options.file)?;
    remove_file(&options.file)?;
    let mut answer = BytesMut::new();
    let head =
        Outgoing { serialization: Serialization::RocketMq, code: codes::SUCCESS, opaque: 0, flag: 1, remark: None, extra: &[] };
    head.write(&(), 0, &mut answer);
    let (mut connections, mut buffer, mut end) = (Vec::<Connection>::new(), vec![0; READ_BYTES], 0);
    println!("listening on {}", options.listen);
    loop {
        let mut ready: Vec<_> = connections.iter().map(|c| PollFd::new(&c.stream, PollFlags::IN)).collect();
        ready.push(PollFd::new(&listener, PollFlags::IN));
        poll(&mut ready, None)?;
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut nth = 0;
        connections.retain_mut(|connection| {
            nth += 1;
            !ready[nth - 1]
                || serve_one(connection, &mut buffer, &answer, |bytes| append(&file, &mut end, bytes, options.sync)).is_ok()
        });
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nodelay(true)?;
                connections.push(Connection { stream, input: BytesMut::new() });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn serve_one(
    connection: &mut Connection,
    buffer: &mut [u8],
    answer: &[u8],
    append: impl FnOnce(&[u8]) -> Result<()>,
) -> Result<()> {
    let count = connection.stream.read(buffer)?;
    anyhow::ensure!(count > 0, "closed");
    append(&buffer[..count])?;
    connection.input.extend_from_slice(&buffer[..count]);
    let mut answers = Vec::new();
    while frame::take(&mut connection.input, frame::MAX_FRAME_LENGTH)?.is_some() {
        answers.extend_from_slice(answer);
    }
    connection.stream.write_all(&answers)?;
    Ok(())
}

fn reserve(path: &std::path::Path) -> Result<File> {
    let at = || format!("can't write {}", path.display());
    let file = OpenOptions::new().write(true).create_new(true).open(path).with_context(at)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES).with_context(at)?;
    file.sync_all().with_context(at)?;
    Ok(file)
}

fn append(file: &File, end: &mut u64, bytes: &[u8], sync: bool) -> Result<()> {
    if *end + bytes.len() as u64 > FILE_BYTES {
        *end = 0;
    }
    file.write_all_at(bytes, *end)?;
    *end += bytes.len() as u64;
    if sync {
        file.sync_data()?;
    }
    Ok(())
}

/// How long an append and its `fdatasync` take, one after the other.
pub fn measure_disk(options: &Disk) -> Result<()> {
    let file = reserve(&options.file)?;
    let bytes = vec![b'x'; options.size];
    let mut times = Histogram::<u64>::new(3)?;
    let mut end = 0;
    for _ in 0..options.times {
        let start = Instant::now();
        append(&file, &mut end, &bytes, true)?;
        times.record(start.elapsed().as_micros() as u64)?;
    }
    remove_file(&options.file)?;
    let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
    if options.json {
        println!("{}", serde_json::json!({ "p50": p50, "p99": p99, "max": times.max() }));
    } else {
        println!("append and fdatasync   p50 {p50} µs, p99 {p99}, max {}", times.max());
    }
    Ok(())
}
