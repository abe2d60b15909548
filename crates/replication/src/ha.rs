//! Java's HA protocol (`DefaultHAConnection`, `DefaultHAClient`), unchanged from 3.x to 5.x, as state machines of either
//! end: bytes and the time come in, bytes and wishes go out.
//!
//! The slave dials the master and reports the end of its log in 8 bytes, first to say from where it wants to be sent
//! the log, then whenever it has more, and once a heartbeat. The master sends frames of `offset:8 size:4` and so many
//! bytes of its log, cut anywhere; a frame of size 0 is its heartbeat.

/// Bytes of a slave's report.
pub const REPORT_LENGTH: usize = 8;
/// Bytes before a frame's body.
pub const HEADER_LENGTH: usize = 12;
/// How often the pace is measured that flow control limits, in ms.
const SECOND_MS: i64 = 1000;

/// Why a connection is given up. The text says what to do where waiting does not help.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LinkError {
    #[error("nothing was heard for {0} ms (haHousekeepingInterval)")]
    Silent(i64),
    #[error(
        "the slave's log ends at {slave} and this master's at {master}, or it did when it began: the slave has {} bytes that \
         this master never had or has lost. It is sent nothing; move its commit log away and start it again to copy this \
         master's",
        slave - master
    )]
    SlaveAhead { slave: u64, master: u64 },
    #[error(
        "the slave asks for the log from {slave}, and this master has it from {min} only. Move the slave's store away and \
         start it again to copy what there is"
    )]
    TooFarBehind { slave: u64, min: u64 },
    #[error("the slave reported {0}, which is no place in a log: is it a slave of RocketMQ?")]
    NoOffset(i64),
    #[error("the master sends the log from {master} and this slave's ends at {slave}: they are not copies of each other")]
    Apart { master: i64, slave: u64 },
    #[error("the master announced a frame of {0} bytes: is it a master of RocketMQ?")]
    FrameSize(i32),
}

/// Numbers of fixed length that arrive in pieces.
#[derive(Debug)]
struct Fixed<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Fixed<N> {
    const EMPTY: Self = Self { bytes: [0; N], filled: 0 };

    /// Takes what is missing off the front of `from`; gives the bytes when there are all.
    fn take(&mut self, from: &mut &[u8]) -> Option<[u8; N]> {
        let (now, later) = from.split_at((N - self.filled).min(from.len()));
        self.bytes[self.filled..self.filled + now.len()].copy_from_slice(now);
        self.filled += now.len();
        *from = later;
        if self.filled < N {
            return None;
        }
        self.filled = 0;
        Some(self.bytes)
    }
}

/// What both ends are told by the broker's settings.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// `haSendHeartbeatInterval`, in ms.
    pub heartbeat: i64,
    /// `haHousekeepingInterval`, in ms.
    pub expiry: i64,
}

/// How much a master sends a slave.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// `haTransferBatchSize`, in bytes.
    pub frame: usize,
    /// `maxHaTransferByteInSecond` where `haFlowControlEnable` is set.
    pub bytes_a_second: Option<u64>,
}

/// The master's log, as a connection needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The first byte that is kept.
    pub min: u64,
    /// Behind the last byte that slaves are sent.
    pub visible: u64,
    /// Behind the last byte that was written.
    pub written: u64,
    /// From where a slave without a log is sent it.
    pub first: u64,
    /// No slave has more than this: where the log ended when this master began, or what it has sent since.
    pub known: u64,
}

/// What a master does next on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send log from this offset on, at most so many bytes, behind the header of [`MasterLink::frame`].
    Send { offset: u64, most: usize },
    /// Send these bytes.
    Heartbeat([u8; HEADER_LENGTH]),
    /// Wait until there is more log or a report, but not beyond this time.
    Wait { until: i64 },
}

/// The master's end of a connection.
#[derive(Debug)]
pub struct MasterLink {
    report: Fixed<REPORT_LENGTH>,
    /// What is sent next; `None` before the slave has said from where.
    next: Option<u64>,
    heard: i64,
    wrote: i64,
    /// Since when bytes are counted, and how many they are; and those of the second before.
    second: (i64, u64),
    last_second: u64,
}

impl MasterLink {
    pub fn new(now: i64) -> Self {
        Self { report: Fixed::EMPTY, next: None, heard: now, wrote: now, second: (now, 0), last_second: 0 }
    }

    /// Takes what came from the slave. Gives the newest end of its log that it reported.
    pub fn read(&mut self, mut bytes: &[u8], now: i64, log: &Extent) -> Result<Option<u64>, LinkError> {
        self.heard = now;
        let mut newest = None;
        while let Some(report) = self.report.take(&mut bytes) {
            let offset = i64::from_be_bytes(report);
            let end = u64::try_from(offset).map_err(|_| LinkError::NoOffset(offset))?;
            if end > log.written {
                return Err(LinkError::SlaveAhead { slave: end, master: log.written });
            }
            if self.next.is_none() {
                if end > log.known {
                    return Err(LinkError::SlaveAhead { slave: end, master: log.known });
                }
                let from = if end == 0 { log.first } else { end };
                if from < log.min {
                    return Err(LinkError::TooFarBehind { slave: from, min: log.min });
                }
                self.next = Some(from);
            }
            newest = Some(end);
        }
        Ok(newest)
    }

    /// What is to be done at `now`.
    pub fn turn(&mut self, now: i64, log: &Extent, timing: &Timing, pace: &Pace) -> Result<Turn, LinkError> {
        if now - self.heard > timing.expiry {
            return Err(LinkError::Silent(timing.expiry));
        }
        let expiry = self.heard + timing.expiry + 1;
        let Some(offset) = self.next else { return Ok(Turn::Wait { until: expiry }) };
        if now - self.second.0 >= SECOND_MS {
            self.last_second = self.second.1;
            self.second = (now, 0);
        }
        let room = pace.bytes_a_second.map_or(u64::MAX, |most| most.saturating_sub(self.second.1));
        if offset < log.visible && room > 0 {
            return Ok(Turn::Send { offset, most: (pace.frame as u64).min(log.visible - offset).min(room) as usize });
        }
        if now - self.wrote >= timing.heartbeat {
            return Ok(Turn::Heartbeat(self.header(offset, 0, now)));
        }
        let mut until = expiry.min(self.wrote + timing.heartbeat);
        if room == 0 {
            until = until.min(self.second.0 + SECOND_MS);
        }
        Ok(Turn::Wait { until })
    }

    /// The header of a frame with the next `length` bytes of the log.
    pub fn frame(&mut self, length: usize, now: i64) -> [u8; HEADER_LENGTH] {
        let offset = self.next.unwrap_or_default();
        self.next = Some(offset + length as u64);
        self.second.1 += length as u64;
        self.header(offset, length as u32, now)
    }

    fn header(&mut self, offset: u64, length: u32, now: i64) -> [u8; HEADER_LENGTH] {
        self.wrote = now;
        let mut header = [0; HEADER_LENGTH];
        header[..8].copy_from_slice(&offset.to_be_bytes());
        header[8..].copy_from_slice(&length.to_be_bytes());
        header
    }

    /// What is sent next, once the slave has said from where.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// Bytes of log that were sent in the last whole second.
    pub fn bytes_a_second(&self) -> u64 {
        self.last_second
    }
}

/// The slave's end of a connection.
#[derive(Debug)]
pub struct SlaveLink {
    header: Fixed<HEADER_LENGTH>,
    /// Behind the last byte that came; 0 where any offset may come.
    end: u64,
    /// Bytes of the frame at hand that are still to come.
    left: usize,
    reported: Option<u64>,
    wrote: i64,
    pub heard: i64,
    /// The beginning of a record whose rest is to come. It is not written before: the checksum of a record covers its body
    /// alone, so that a power cut between two writes could leave a header with a hole that nothing tells.
    pub begun: Vec<u8>,
}

impl SlaveLink {
    /// A connection on which the log is wanted from `end` on; 0 where there is none and the master decides.
    pub fn new(end: u64, now: i64) -> Self {
        Self { header: Fixed::EMPTY, end, left: 0, reported: None, wrote: now, heard: now, begun: Vec::new() }
    }

    /// Takes the next piece of log off the front of what came from the master, with its offset; `None` where there is
    /// no more in it.
    pub fn read<'a>(&mut self, bytes: &mut &'a [u8], now: i64) -> Result<Option<(u64, &'a [u8])>, LinkError> {
        self.heard = now;
        while self.left == 0 {
            let Some(header) = self.header.take(bytes) else { return Ok(None) };
            let (offset, size) = header.split_at(8);
            let offset = i64::from_be_bytes(offset.try_into().unwrap_or_default());
            let size = i32::from_be_bytes(size.try_into().unwrap_or_default());
            self.left = usize::try_from(size).map_err(|_| LinkError::FrameSize(size))?;
            match u64::try_from(offset) {
                Ok(offset) if self.end == 0 && self.left > 0 => self.end = offset,
                Ok(offset) if self.end == 0 || offset == self.end => {}
                _ => return Err(LinkError::Apart { master: offset, slave: self.end }),
            }
        }
        let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
        if piece.is_empty() {
            return Ok(None);
        }
        let offset = self.end;
        *bytes = rest;
        self.left -= piece.len();
        self.end += piece.len() as u64;
        Ok(Some((offset, piece)))
    }

    /// What the master is to be told at `now`, where something is: that the log is kept below `end`.
    pub fn report(&mut self, end: u64, now: i64, timing: &Timing) -> Option<[u8; REPORT_LENGTH]> {
        let end = match self.reported {
            None => self.end,
            // What it has is what came: the first of it is compared with what was there before.
            Some(reported) if end.min(self.end) > reported => end.min(self.end),
            Some(reported) if now - self.wrote >= timing.heartbeat => reported,
            Some(_) => return None,
        };
        self.reported = Some(end);
        self.wrote = now;
        Some(end.to_be_bytes())
    }

    /// Until when may be waited for the master's bytes.
    pub fn wait_until(&self, now: i64, timing: &Timing) -> Result<i64, LinkError> {
        if now - self.heard > timing.expiry {
            return Err(LinkError::Silent(timing.expiry));
        }
        Ok((self.heard + timing.expiry + 1).min(self.wrote + timing.heartbeat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { heartbeat: 5000, expiry: 20_000 };
    const PACE: Pace = Pace { frame: 10, bytes_a_second: None };

    fn log(visible: u64) -> Extent {
        Extent { min: 0, visible, written: visible, first: 0, known: visible }
    }

    /// Has both ends talk until neither has anything to say at `now`; returns what the slave got.
    fn talk(master: &mut MasterLink, slave: &mut SlaveLink, log_bytes: &[u8], got: &mut Vec<u8>, now: i64, cut: usize) {
        let extent = log(log_bytes.len() as u64);
        loop {
            let mut quiet = true;
            if let Some(report) = slave.report(got.len() as u64, now, &TIMING) {
                for piece in report.chunks(cut) {
                    master.read(piece, now, &extent).unwrap();
                }
                quiet = false;
            }
            let mut sent = Vec::new();
            match master.turn(now, &extent, &TIMING, &PACE).unwrap() {
                Turn::Send { offset, most } => {
                    sent.extend_from_slice(&master.frame(most, now));
                    sent.extend_from_slice(&log_bytes[offset as usize..offset as usize + most]);
                }
                Turn::Heartbeat(header) => sent.extend_from_slice(&header),
                Turn::Wait { .. } if quiet => return,
                Turn::Wait { .. } => {}
            }
            for mut piece in sent.chunks(cut) {
                while let Some((offset, bytes)) = slave.read(&mut piece, now).unwrap() {
                    assert_eq!(offset, got.len() as u64);
                    got.extend_from_slice(bytes);
                }
            }
        }
    }

    #[test]
    fn a_slave_gets_the_log_byte_by_byte_however_it_is_cut() {
        let bytes: Vec<u8> = (0..=255).collect();
        for cut in [1, 7, 12, 1000] {
            let (mut master, mut slave, mut got) = (MasterLink::new(0), SlaveLink::new(0, 0), Vec::new());
            talk(&mut master, &mut slave, &bytes[..100], &mut got, 0, cut);
            assert_eq!(got, &bytes[..100]);
            assert_eq!(master.turn(0, &log(100), &TIMING, &PACE), Ok(Turn::Wait { until: 5000 }));
            for now in [4000, 8000, 30_000 - 1] {
                talk(&mut master, &mut slave, &bytes, &mut got, now, cut);
            }
            assert_eq!(got, bytes);
            let mut again = SlaveLink::new(256, 30_000);
            talk(&mut MasterLink::new(30_000), &mut again, &bytes, &mut got, 30_000, cut);
            assert_eq!(got.len(), 256, "a second connection goes on where the first ended");
        }
    }

    #[test]
    fn silence_ends_a_connection_at_both_ends() {
        let (mut master, slave) = (MasterLink::new(0), SlaveLink::new(0, 0));
        assert_eq!(master.turn(20_000, &log(0), &TIMING, &PACE), Ok(Turn::Wait { until: 20_001 }));
        assert_eq!(master.turn(20_001, &log(0), &TIMING, &PACE), Err(LinkError::Silent(20_000)));
        assert_eq!(slave.wait_until(20_001, &TIMING), Err(LinkError::Silent(20_000)));
    }

    #[test]
    fn an_empty_slave_begins_where_the_master_lets_it() {
        let mut master = MasterLink::new(0);
        let extent = Extent { min: 1024, visible: 3000, written: 3000, first: 2048, known: 2500 };
        assert_eq!(master.read(&0i64.to_be_bytes(), 0, &extent), Ok(Some(0)));
        assert_eq!(master.turn(0, &extent, &TIMING, &PACE), Ok(Turn::Send { offset: 2048, most: 10 }));
        let mut slave = SlaveLink::new(0, 0);
        let mut frame: &[u8] = &[&2048u64.to_be_bytes()[..], &2u32.to_be_bytes(), b"xy"].concat();
        assert_eq!(slave.read(&mut frame, 0), Ok(Some((2048, &b"xy"[..]))));
    }

    #[test]
    fn logs_that_do_not_fit_are_told_apart() {
        let extent = Extent { min: 1024, visible: 3000, written: 3000, first: 2048, known: 2500 };
        let first = |offset: i64| MasterLink::new(0).read(&offset.to_be_bytes(), 0, &extent);
        assert_eq!(first(3001), Err(LinkError::SlaveAhead { slave: 3001, master: 3000 }));
        assert_eq!(first(2501), Err(LinkError::SlaveAhead { slave: 2501, master: 2500 }), "the master wrote that after a loss");
        assert_eq!(first(2500), Ok(Some(2500)));
        assert_eq!(first(1000), Err(LinkError::TooFarBehind { slave: 1000, min: 1024 }));
        assert_eq!(first(-1), Err(LinkError::NoOffset(-1)));
        let header = |offset: i64, size: i32| [&offset.to_be_bytes()[..], &size.to_be_bytes()].concat();
        let read = |bytes: Vec<u8>| SlaveLink::new(50, 0).read(&mut bytes.as_slice(), 0).map(|piece| piece.is_some());
        assert_eq!(read(header(51, 0)), Err(LinkError::Apart { master: 51, slave: 50 }));
        assert_eq!(read(header(50, -1)), Err(LinkError::FrameSize(-1)));
        assert_eq!(read(header(50, 0)), Ok(false));
    }

    #[test]
    fn flow_control_spreads_the_log_over_seconds() {
        let pace = Pace { frame: 10, bytes_a_second: Some(15) };
        let mut master = MasterLink::new(0);
        master.read(&0i64.to_be_bytes(), 0, &log(100)).unwrap();
        let mut sent = Vec::new();
        for now in [0, 0, 0, 999, 1000, 1500] {
            if let Turn::Send { most, .. } = master.turn(now, &log(100), &TIMING, &pace).unwrap() {
                master.frame(most, now);
                sent.push((now, most));
            }
        }
        assert_eq!(sent, [(0, 10), (0, 5), (1000, 10), (1500, 5)]);
        assert_eq!(master.turn(1500, &log(100), &TIMING, &pace), Ok(Turn::Wait { until: 2000 }));
        assert_eq!(master.bytes_a_second(), 15);
    }
}
