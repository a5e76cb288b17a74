//! How long batches of a model take, and so how long a request will wait; the sums of core/batching/pace.py and limits.py.

use std::time::Duration;

/// Weight of the newest batch, in the logarithm of the correction.
const WEIGHT: f64 = 0.2;

/// What one batch may say at most: that the estimate is so many times too short, or too long.
const MOST: f64 = 4.0;

/// Where nothing else is said, a request is let in while about so many full batches run before its own: the one that is
/// run, behind which one may fill.
const FULL_BATCHES: f64 = 1.0;

/// For less nobody is refused, in seconds.
const LEAST_WAIT_S: f64 = 0.025;

/// Seconds of a batch are a line over its rows, times what the batches before it have shown.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub first_s: f64,
    pub row_s: f64,
    pub correction: f64,
}

impl Pace {
    /// Of what is not known (0 s) nothing is expected.
    pub fn new(first_s: f64, row_s: f64) -> Pace {
        Pace { first_s, row_s, correction: 1.0 }
    }

    /// Expected seconds of a batch of so many rows.
    pub fn of(&self, rows: usize) -> f64 {
        self.correction * (self.first_s + self.row_s * rows.saturating_sub(1) as f64)
    }

    /// Note what a batch took.
    pub fn ran(&mut self, rows: usize, took: Duration) {
        let expected_s = self.of(rows);
        if expected_s > 0.0 {
            self.correction *= (took.as_secs_f64() / expected_s).clamp(1.0 / MOST, MOST).powf(WEIGHT);
        }
    }

    /// Seconds that a request waits behind so many rows, of which `max_rows` make a batch, and behind the batch that
    /// is run: it was given so many rows so long ago.
    pub fn waits_s(&self, rows: usize, max_rows: usize, running: Option<(usize, Duration)>) -> f64 {
        let rest = running.map_or(0.0, |(rows, since)| (self.of(rows) - since.as_secs_f64()).max(0.0));
        (rows / max_rows.max(1)) as f64 * self.of(max_rows) + rest
    }

    /// Longest that a request may be expected to wait where the largest batch has so many rows, if nothing else was `said`.
    pub fn most_s(&self, rows: usize, said: Option<f64>) -> f64 {
        said.unwrap_or_else(|| (FULL_BATCHES * self.of(rows)).max(LEAST_WAIT_S))
    }
}
