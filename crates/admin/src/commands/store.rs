//! storeCheck: for a store on this machine, with no server asked.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use store::{CheckReport, Damage};

use super::table::Call;
use crate::ops::Error;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked<'a> {
    store_path_commit_log: &'a Path,
    begin: u64,
    end: u64,
    messages: u64,
    damages: Vec<Damaged<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Damaged<'a> {
    file: &'a Path,
    offset: u64,
    end: u64,
    topic: Option<&'a str>,
    queue_id: Option<i32>,
    queue_offset: Option<i64>,
    reason: &'a str,
}

pub async fn store_check(call: Call) -> Result<(), Error> {
    let directory = match (call.value("storePathCommitLog"), call.value("storePathRootDir")) {
        (Some(log), _) => PathBuf::from(log),
        (None, Some(root)) => Path::new(root).join("commitlog"),
        (None, None) => {
            let reason = "no store is named: give its -p <storePathRootDir> or -l <storePathCommitLog>".to_owned();
            return Err(Error::Unreadable(reason));
        }
    };
    let bar = progress();
    let checked = store::check(&directory, |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    });
    bar.finish_and_clear();
    let report = checked.map_err(|reason| {
        let directory = directory.display();
        Error::Unreadable(format!(
            "the commit log {directory} can't be read: {reason}. Check that the broker keeps it there, and that you may read it"
        ))
    })?;
    call.show(&json(&directory, &report), || listing(&directory, &report))?;
    if report.damages.is_empty() { Ok(()) } else { Err(Error::Damaged(report.damages.len())) }
}

/// On a terminal alone.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn json<'a>(directory: &'a Path, report: &'a CheckReport) -> Checked<'a> {
    let damages = report.damages.iter().map(|Damage { file, offset, end, message, reason }| {
        let (topic, queue_id, queue_offset) = match message {
            Some((topic, id, at)) => (Some(topic.as_str()), Some(*id), Some(*at)),
            None => (None, None, None),
        };
        Damaged { file, offset: *offset, end: *end, topic, queue_id, queue_offset, reason }
    });
    let CheckReport { begin, end, messages, .. } = *report;
    Checked { store_path_commit_log: directory, begin, end, messages, damages: damages.collect() }
}

fn listing(directory: &Path, report: &CheckReport) -> String {
    let mut out: String = report.damages.iter().map(line).collect();
    let CheckReport { begin, end, messages, damages } = report;
    if !damages.is_empty() {
        out += "\nCopy the files before anything else is done: a broker that starts after a crash cuts the log off at damage near\n\
                its end. Brokers give damaged messages to nobody and consumers go on behind them, so what was in them has to be\n\
                sent again; a file of a backup or of a slave may take the damaged one's place while the broker is stopped.\n\
                A disk that damages one file damages others: look at its health (dmesg, smartctl).\n\n";
    }
    let count = match damages.len() {
        0 => "nothing is damaged".to_owned(),
        1 => "1 part is damaged".to_owned(),
        many => format!("{many} parts are damaged"),
    };
    out + &format!("{}: {messages} whole messages from {begin} to {end}, {count}\n", directory.display())
}

fn line(damage: &Damage) -> String {
    let Damage { file, offset, end, message, reason } = damage;
    let message = match message {
        Some((topic, id, at)) => format!("topic {topic}, queue {id}, queue offset {at}"),
        None => "whose message can't be told".to_owned(),
    };
    format!("{} damaged from offset {offset} to {end} ({message}): {reason}\n", file.display())
}
