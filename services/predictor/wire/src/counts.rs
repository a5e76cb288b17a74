//! What was done, by model and version, until Python takes it over.

use std::collections::HashMap;
use std::time::Instant;

use crate::group::Job;

/// Answers whose length is kept between two looks: enough for quantiles.
const MAX_TIMED: usize = 100;

/// What was done since Python last looked, by model and version.
pub type Counts = HashMap<(String, String), Version>;

#[derive(Default)]
pub struct Version {
    /// Requests by outcome.
    pub outcomes: HashMap<String, u64>,
    /// Rows of the requests that were answered.
    pub rows: u64,
    /// Seconds in sum: of requests answered, of those that failed, and of the former waiting, being joined, run, written.
    pub success_s: f64,
    pub fail_s: f64,
    pub steps_s: [f64; 4],
    pub last: Option<Instant>,
    /// By rows of a batch: how many, and seconds of joining, running, taking apart.
    pub batches: HashMap<usize, (u64, f64, f64, f64)>,
    /// Seconds from arrival to answer, of some.
    pub timed: Vec<f64>,
}

impl Version {
    pub fn failed(&mut self, outcome: &str, took_s: f64) {
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
        self.fail_s += took_s;
    }

    pub fn answered(&mut self, batch: &[Job], times: &Times) {
        let count = batch.len() as f64;
        let rows: usize = batch.iter().map(|job| job.form.rows).sum();
        let (join_s, infer_s, split_s) = times.steps();
        *self.outcomes.entry("ok".to_owned()).or_default() += batch.len() as u64;
        self.rows += rows as u64;
        for job in batch {
            let took_s = (times.ended - job.arrived).as_secs_f64();
            self.success_s += took_s;
            self.steps_s[0] += times.began.saturating_duration_since(job.arrived).as_secs_f64();
            if self.timed.len() < MAX_TIMED {
                self.timed.push(took_s);
            }
        }
        for (sum, step) in self.steps_s[1..].iter_mut().zip([join_s, infer_s, split_s]) {
            *sum += step * count;
        }
        self.last = Some(times.ended);
        let kept = self.batches.entry(rows).or_default();
        *kept = (kept.0 + 1, kept.1 + join_s, kept.2 + infer_s, kept.3 + split_s);
    }
}

/// When a batch was begun, its inputs joined, run, and its answers written.
pub struct Times {
    pub began: Instant,
    pub joined: Instant,
    pub inferred: Instant,
    pub ended: Instant,
}

impl Times {
    fn steps(&self) -> (f64, f64, f64) {
        let between = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        (between(self.began, self.joined), between(self.joined, self.inferred), between(self.inferred, self.ended))
    }
}
