//! Who wrote which part of a log: each master begins an epoch, with a number that no other has. Two logs are the same as
//! far as their histories are.

/// From `start` on, and up to the next epoch's, the log was written by the master of this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub number: u64,
    pub start: u64,
}

/// The epochs of a log, oldest first: numbers grow, and starts do not go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochHistory(Vec<Epoch>);

impl Default for EpochHistory {
    /// That of a group in which nobody was ever promoted.
    fn default() -> Self {
        Self(vec![Epoch { number: 0, start: 0 }])
    }
}

impl EpochHistory {
    /// `None` where the epochs are in no order, or there are none.
    pub fn new(epochs: Vec<Epoch>) -> Option<Self> {
        let ordered = epochs.windows(2).all(|two| two[0].number < two[1].number && two[0].start <= two[1].start);
        (ordered && !epochs.is_empty()).then_some(Self(epochs))
    }

    pub fn epochs(&self) -> &[Epoch] {
        &self.0
    }

    /// The number of the newest epoch.
    pub fn current(&self) -> u64 {
        self.0.last().map_or(0, |epoch| epoch.number)
    }

    /// A master begins to write at `start`, the log's end, under a number that is greater than all before.
    pub fn begin(&mut self, start: u64) {
        let number = self.current() + 1;
        // An epoch in which nothing was written leaves the log as the one before it did.
        self.0.push(Epoch { number, start });
    }

    /// The offset at which a log of this history must be cut to become one of `master`'s; `None` where it need not be,
    /// however long it is: the master's log went on from the newest epoch that this one has.
    pub fn parts_from(&self, master: &EpochHistory) -> Option<u64> {
        let shared = self.0.iter().zip(&master.0).take_while(|(own, other)| own == other).count();
        let next = |history: &Self| history.0.get(shared).map(|epoch| epoch.start);
        match (next(self), next(master)) {
            (None, None) => None,
            (own, other) => own.into_iter().chain(other).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epochs: &[(u64, u64)]) -> EpochHistory {
        EpochHistory::new(epochs.iter().map(|(number, start)| Epoch { number: *number, start: *start }).collect()).unwrap()
    }

    #[test]
    fn a_promoted_slave_begins_an_epoch() {
        let mut slave = EpochHistory::default();
        assert_eq!(slave.current(), 0);
        slave.begin(500);
        assert_eq!(slave, history(&[(0, 0), (1, 500)]));
        assert!(EpochHistory::new(vec![Epoch { number: 2, start: 0 }, Epoch { number: 2, start: 9 }]).is_none());
    }

    #[test]
    fn logs_part_where_the_first_epoch_differs() {
        let promoted = history(&[(0, 0), (1, 500)]);
        assert_eq!(EpochHistory::default().parts_from(&promoted), Some(500), "what the old master wrote beyond is its own");
        assert_eq!(promoted.parts_from(&promoted), None);
        assert_eq!(promoted.parts_from(&EpochHistory::default()), Some(500));
        let other = history(&[(0, 0), (2, 400)]);
        assert_eq!((promoted.parts_from(&other), other.parts_from(&promoted)), (Some(400), Some(400)));
        assert_eq!(history(&[(0, 0), (1, 500), (2, 700)]).parts_from(&history(&[(0, 0), (1, 500), (3, 900)])), Some(700));
    }
}
