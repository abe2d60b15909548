//! One figure's past: what it was at points in time, so that it can be shown over the last minute, hour and day.

use std::collections::VecDeque;

use protocol::bodies::StatsItem;

/// The windows, shortest first: ms between two points, and how many steps are kept (Java's).
const WINDOWS: [(i64, usize); 3] = [(10_000, 6), (600_000, 6), (3_600_000, 24)];
pub const MINUTE: usize = 0;

/// What of a series is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Messages,
    Bytes,
}

/// Totals at a time.
#[derive(Clone, Copy, Default)]
struct Point {
    at: i64,
    messages: u64,
    bytes: u64,
    times: u64,
}

impl Point {
    fn of(&self, figure: Figure) -> u64 {
        match figure {
            Figure::Messages => self.messages,
            Figure::Bytes => self.bytes,
        }
    }
}

/// Messages and bytes that were counted, and how often.
pub struct Series {
    total: Point,
    windows: [VecDeque<Point>; 3],
}

impl Series {
    /// Counts from 0 on, since a time in ms.
    pub fn since(at: i64) -> Self {
        let first = Point { at, ..Point::default() };
        Self { total: first, windows: std::array::from_fn(|_| VecDeque::from([first])) }
    }

    pub fn add(&mut self, times: u64, messages: u64, bytes: u64) {
        self.total.messages += messages;
        self.total.bytes += bytes;
        self.total.times += times;
    }

    /// Notes the totals where a window wants its next point.
    pub fn sample(&mut self, now: i64) {
        for (points, (step, steps)) in self.windows.iter_mut().zip(WINDOWS) {
            if points.back().is_some_and(|last| now - last.at >= step) {
                points.push_back(Point { at: now, ..self.total });
                if points.len() > steps + 1 {
                    points.pop_front();
                }
            }
        }
    }

    /// What was counted within a window, or since there is anything.
    pub fn over(&self, window: usize, figure: Figure, now: i64) -> StatsItem {
        let first = self.windows[window].front().copied().unwrap_or_default();
        let (sum, times) = (self.total.of(figure) - first.of(figure), self.total.times - first.times);
        StatsItem {
            sum: sum as i64,
            tps: super::per_second(sum, now - first.at),
            avgpt: if times > 0 { sum as f64 / times as f64 } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_forget_what_is_older() {
        let mut series = Series::since(0);
        for second in 1..=7200 {
            series.add(1, 1, 10);
            series.sample(second * 1000);
        }
        let sums: Vec<i64> = (0..3).map(|window| series.over(window, Figure::Messages, 7_200_000).sum).collect();
        assert_eq!(sums, [60, 3600, 7200]);
        let bytes = series.over(MINUTE, Figure::Bytes, 7_200_000);
        assert_eq!((bytes.sum, bytes.tps, bytes.avgpt), (600, 10.0, 10.0));
        assert!(series.windows.iter().zip(WINDOWS).all(|(points, (_, steps))| points.len() <= steps + 1));
    }
}
