//! What is wrong around this broker: said once in the log, not at each try, and shown by `brokerStatus` until it is mended.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::Broker;

/// For how long what was said of somebody is not said again, in ms.
const SAID_FOR: i64 = 60_000;
/// How much that was said is kept in mind; what else there is within that time is not said at all.
const MOST_SAID: usize = 1000;

/// Reasons by what they are about, and what was told of others.
#[derive(Default)]
pub struct Wrong {
    reasons: Mutex<BTreeMap<String, String>>,
    said: Said,
}

/// When what was said of whom.
type Said = Mutex<BTreeMap<(String, String), i64>>;

impl Broker {
    /// Whether `what` happens to `whom` for the first time within a minute, and is to be told; figures in it do not count.
    pub(crate) fn is_news(&self, whom: &str, what: &str, now: i64) -> bool {
        let mut said = self.wrong.said.lock();
        said.retain(|_, at| now - *at < SAID_FOR);
        let key = (whom.to_owned(), what.replace(|c: char| c.is_ascii_digit(), ""));
        if said.len() >= MOST_SAID || said.contains_key(&key) {
            return false;
        }
        said.insert(key, now);
        true
    }

    /// Notes why `about` (the name of a figure of `brokerStatus`) is not as it has to be; `None` where it is.
    pub fn note_wrong(&self, about: &str, why: Option<String>) {
        let mut all = self.wrong.reasons.lock();
        match why {
            Some(why) if all.get(about) == Some(&why) => {}
            Some(why) => {
                tracing::warn!("{why}");
                all.insert(about.to_owned(), why);
            }
            None if all.remove(about).is_some() => tracing::info!("{about}: in order again"),
            None => {}
        }
    }

    /// What is wrong at present, as figures of `brokerStatus`.
    pub(crate) fn wrong_figures(&self) -> BTreeMap<String, String> {
        self.wrong.reasons.lock().iter().map(|(about, why)| (format!("wrong_{about}"), why.clone())).collect()
    }
}
