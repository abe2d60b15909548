//! What is wrong around this broker: said once in the log, not at each try, and shown by `brokerStatus` until it is mended.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::Broker;

/// Reasons by what they are about.
#[derive(Default)]
pub struct Wrong(Mutex<BTreeMap<String, String>>);

impl Broker {
    /// Notes why `about` (the name of a figure of `brokerStatus`) is not as it has to be; `None` where it is.
    pub fn note_wrong(&self, about: &str, why: Option<String>) {
        let mut all = self.wrong.0.lock();
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
        self.wrong.0.lock().iter().map(|(about, why)| (format!("wrong_{about}"), why.clone())).collect()
    }
}
