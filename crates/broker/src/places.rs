//! How far delayed and timer messages were delivered at places of the log, and half messages and pops resolved. Where a log
//! is cut, what was done beyond is to be done again by whoever is promoted on what is left.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store::log::Log;

use crate::meta::offsets::OffsetTable;
use crate::meta::{offsets, table};
use crate::pop::revive;
use crate::{schedule, timer};

/// The places below the store's root. Java has nothing like it.
const FILE: &str = "config/delivered.json";
/// So many places are kept: the older, the further apart.
const MOST: usize = 64;

/// What a log that goes on to `end` has of what was delivered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Place {
    pub end: u64,
    /// Up to where each delay level is delivered.
    pub delay_offsets: BTreeMap<i32, i64>,
    /// The slot of Java's timer wheel that is to be delivered next, in ms, and how far the timer's queue was read; `None`
    /// where that is as at the place before.
    pub timers: Option<(i64, i64)>,
    /// The offsets of the broker's own groups.
    pub offsets: OffsetTable,
}

/// The places of a broker's log, oldest first.
pub struct Places {
    path: PathBuf,
    kept: Mutex<Vec<Place>>,
}

impl Places {
    pub fn open(root: &Path) -> io::Result<Self> {
        let path = root.join(FILE);
        Ok(Self { kept: Mutex::new(table::load(&path)?), path })
    }

    /// Notes a place, and writes the file where anything was delivered since the last one.
    pub fn note(&self, mut place: Place) -> io::Result<()> {
        let mut kept = self.kept.lock();
        let last = kept.last().cloned().unwrap_or_default();
        place.timers = place.timers.or(last.timers);
        if place == (Place { end: place.end, ..last }) {
            return Ok(());
        }
        let mut places = kept.clone();
        places.push(place);
        if places.len() > MOST {
            let mut nth = 0..;
            // However far back a log is cut: the first stays.
            places.retain(|_| nth.next().is_some_and(|nth| nth % 2 == 0 || nth >= MOST / 2));
        }
        table::save(&self.path, &places)?;
        *kept = places;
        Ok(())
    }
}

/// Has a broker that is not open go by what was delivered and resolved where its log is going to end.
pub fn go_back(root: &Path, end: u64, log: &Log) -> io::Result<()> {
    let path = root.join(FILE);
    let mut places: Vec<Place> = table::load(&path)?;
    places.retain(|place| place.end <= end);
    let Place { delay_offsets, timers, offsets, .. } = places.last().cloned().unwrap_or_default();
    offsets::go_back(root, offsets, &revive::popped_beyond(log, end)?)?;
    schedule::go_back(root, delay_offsets)?;
    timer::go_back(root, timers.unwrap_or_default())?;
    // Only then, as the next try would know less.
    table::save(&path, &places)
}
