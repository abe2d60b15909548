//! Who wrote which part of a log. A master begins an epoch when it is promoted, and whenever it starts after a stop that may
//! have taken the end of its log. An epoch is begun once, by one broker, on one log: two logs that both have it are the
//! same below its start, and as far beyond as neither has another one.

/// How many epochs are kept: a master that is killed again and again begins one each time.
const MOST: usize = 1000;

/// From `start` on, and up to the next epoch's, the log was written by one master without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Grows with each promotion. Who promotes without a controller counts on from what it knows: two may take the same.
    pub number: u64,
    /// How often its master has begun anew since, behind what was left of its log.
    pub restart: u64,
    pub start: u64,
    /// The address of the broker that began it; none for a group in which nobody was ever promoted.
    pub master: String,
}

/// Which of two masters is the newer one: the number decides, then who has more of the log before, then the address.
pub type Reign<'a> = (u64, u64, &'a str);

/// The epochs of a log, oldest first: numbers and restarts grow, and starts do not go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochHistory(Vec<Epoch>);

impl Default for EpochHistory {
    /// That of a group in which nobody was ever promoted.
    fn default() -> Self {
        Self(vec![Epoch { number: 0, restart: 0, start: 0, master: String::new() }])
    }
}

impl EpochHistory {
    /// `None` where the epochs are in no order, or there are none.
    pub fn new(epochs: Vec<Epoch>) -> Option<Self> {
        let grows =
            |one: &Epoch, next: &Epoch| (one.number, one.restart) < (next.number, next.restart) && one.start <= next.start;
        let ordered = epochs.windows(2).all(|two| grows(&two[0], &two[1]));
        (ordered && !epochs.is_empty()).then_some(Self(epochs))
    }

    pub fn epochs(&self) -> &[Epoch] {
        &self.0
    }

    /// The number of the newest epoch.
    pub fn current(&self) -> u64 {
        self.0.last().map_or(0, |epoch| epoch.number)
    }

    /// The promotion that the newest epoch goes back to.
    pub fn reign(&self) -> Reign<'_> {
        let first = self.0.iter().find(|epoch| epoch.number == self.current());
        first.map_or((0, 0, ""), |epoch| (epoch.number, epoch.start, &epoch.master))
    }

    /// `master` is promoted where its log ends, at `start`, under a number that is greater than all that it knows.
    pub fn begin(&mut self, start: u64, master: &str) {
        self.push(Epoch { number: self.current() + 1, restart: 0, start, master: master.to_owned() });
    }

    /// `master` goes on where its log ends after a stop, at `start`: what it wrote beyond may be in its slaves' logs.
    pub fn restart(&mut self, start: u64, master: &str) {
        let restart = self.0.last().map_or(0, |epoch| epoch.restart) + 1;
        self.push(Epoch { number: self.current(), restart, start, master: master.to_owned() });
    }

    fn push(&mut self, epoch: Epoch) {
        // A slave knows epochs of its master that it has nothing of.
        self.0.retain(|before| before.start <= epoch.start);
        self.0.push(epoch);
        if self.0.len() > MOST {
            // The promotion that the newest goes back to stays.
            let oldest = usize::from(self.0[0].number == self.current());
            self.0.remove(oldest);
        }
    }

    /// The offset at which a log of this history must be cut to become one of `master`'s; `None` where it need not be,
    /// however long it is: the master's log went on from the newest epoch that this one has.
    pub fn parts_from(&self, master: &EpochHistory) -> Option<u64> {
        let shared = |nth: &usize| master.0.iter().position(|epoch| *epoch == self.0[*nth]).map(|other| (*nth, other));
        let Some((own, other)) = (0..self.0.len()).rev().find_map(|nth| shared(&nth)) else { return Some(0) };
        let next = |history: &Self, at: usize| {
            let (this, next) = (&history.0[at], history.0.get(at + 1)?);
            // Restarts that are not kept any more began somewhere in between.
            let forgotten = next.number == this.number && next.restart > this.restart + 1;
            Some(if forgotten { this.start } else { next.start })
        };
        match (next(self, own), next(master, other)) {
            (None, None) => None,
            (own, other) => own.into_iter().chain(other).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epochs: &[(u64, u64)]) -> EpochHistory {
        let epoch = |(number, start): &(u64, u64)| Epoch { number: *number, restart: 0, start: *start, master: "".into() };
        EpochHistory::new(epochs.iter().map(epoch).collect()).unwrap()
    }

    fn promoted(before: &EpochHistory, start: u64, master: &str) -> EpochHistory {
        let mut after = before.clone();
        after.begin(start, master);
        after
    }

    #[test]
    fn a_promoted_slave_begins_an_epoch() {
        let slave = promoted(&EpochHistory::default(), 500, "b");
        assert_eq!((slave.current(), slave.reign()), (1, (1, 500, "b")));
        let twice = history(&[(2, 0)]).0[0].clone();
        assert!(EpochHistory::new(vec![twice.clone(), twice]).is_none());
        let behind = promoted(&slave, 400, "c");
        assert_eq!(behind.reign(), (2, 400, "c"), "it has nothing of its master's epoch");
        assert_eq!((slave.parts_from(&behind), EpochHistory::new(behind.0.clone())), (Some(400), Some(behind)));
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
        assert_eq!(history(&[(4, 9)]).parts_from(&history(&[(5, 9)])), Some(0), "they share nothing that is known");
    }

    #[test]
    fn two_that_are_promoted_at_once_are_told_apart() {
        let before = EpochHistory::default();
        let (one, other, behind) = (promoted(&before, 500, "a"), promoted(&before, 500, "b"), promoted(&before, 400, "c"));
        assert_eq!((one.parts_from(&other), other.parts_from(&one)), (Some(500), Some(500)), "the same place, other bytes");
        assert!(one.reign() < other.reign() && behind.reign() < one.reign(), "who has more of the log goes on");
    }

    #[test]
    fn a_master_that_starts_again_is_no_newer_one_and_its_slaves_are_cut_where_it_goes_on() {
        let mut master = promoted(&EpochHistory::default(), 500, "a");
        let slave = master.clone();
        for end in [800, 800] {
            let before = master.clone();
            master.restart(end, "a");
            assert_eq!((before.parts_from(&master), slave.parts_from(&master)), (Some(800), Some(800)));
        }
        assert_eq!(master.reign(), slave.reign());
        assert!(promoted(&slave, 100, "b").reign() > master.reign());
        for _ in 0..2 * MOST {
            master.restart(900, "a");
        }
        assert_eq!((master.epochs().len(), master.reign()), (MOST, slave.reign()));
        assert_eq!(slave.parts_from(&master), Some(500), "the restarts at 800 are forgotten");
    }
}
