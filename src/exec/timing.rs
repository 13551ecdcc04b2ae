//! Timing something again and again: a warm-up, then samples, and what is said of them.

use std::time::{Duration, Instant};

/// How often something is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Exactly so many samples; else as many as fit into `time`, [`LEAST`] at least.
    pub samples: Option<usize>,
    pub time: Duration,
    /// Before the first sample: so long, `LEAST_WARM` times at least.
    pub warm_up: Duration,
}

/// Fewer samples say nothing.
pub const LEAST: usize = 3;
/// The first run touches memory for the first time, and its second user may still be waking.
const LEAST_WARM: usize = 2;
/// More samples do not fit a report, and say no more.
const MOST: usize = 1 << 20;

impl Budget {
    pub fn seconds(seconds: f64) -> Budget {
        let time = Duration::from_secs_f64(seconds);
        Budget { samples: None, time, warm_up: time.mul_f64(0.2) }
    }
}

/// Runs `once` under the budget; the seconds of every run after the warm-up.
///
/// # Errors
/// The first of `once`.
pub fn sample<E>(budget: &Budget, mut once: impl FnMut() -> Result<(), E>) -> Result<Samples, E> {
    let start = Instant::now();
    let mut warm = 0;
    while warm < LEAST_WARM || start.elapsed() < budget.warm_up {
        once()?;
        warm += 1;
    }
    let start = Instant::now();
    let mut seconds = vec![];
    loop {
        let done = match budget.samples {
            Some(samples) => seconds.len() >= samples,
            None => seconds.len() >= MOST || seconds.len() >= LEAST && start.elapsed() >= budget.time,
        };
        if done {
            return Ok(Samples::new(seconds));
        }
        let before = Instant::now();
        once()?;
        seconds.push(before.elapsed().as_secs_f64());
    }
}

/// Seconds, one or more, in order of size.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// # Panics
    /// If there are none.
    pub fn new(mut seconds: Vec<f64>) -> Samples {
        assert!(!seconds.is_empty(), "one sample or more");
        seconds.sort_by(f64::total_cmp);
        Samples(seconds)
    }

    /// All of them.
    pub fn seconds(&self) -> &[f64] {
        &self.0
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn min(&self) -> f64 {
        self.0[0]
    }

    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    pub fn median(&self) -> f64 {
        let half = self.0.len() / 2;
        if self.0.len().is_multiple_of(2) { (self.0[half - 1] + self.0[half]) / 2.0 } else { self.0[half] }
    }

    /// The least that `percent` of the samples do not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent).div_ceil(100).clamp(1, self.0.len()) - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_samples() {
        let hundred = Samples::new((1..=100).rev().map(f64::from).collect());
        assert_eq!((hundred.min(), hundred.mean(), hundred.median()), (1.0, 50.5, 50.5));
        assert_eq!([90, 95, 99].map(|percent| hundred.percentile(percent)), [90.0, 95.0, 99.0]);
        let three = Samples::new(vec![3.0, 1.0, 2.0]);
        assert_eq!((three.median(), three.percentile(90), three.percentile(1)), (2.0, 3.0, 1.0));
    }

    #[test]
    fn the_budget_is_kept() {
        let none = Duration::ZERO;
        for (samples, runs) in [(Some(7), 7), (None, LEAST)] {
            let mut count = 0;
            let budget = Budget { samples, time: none, warm_up: none };
            let taken = sample(&budget, || {
                count += 1;
                Ok::<(), ()>(())
            });
            assert_eq!((taken.map(|taken| taken.count()), count), (Ok(runs), runs + LEAST_WARM));
        }
        assert!(sample(&Budget::seconds(0.0), || Err("no")).is_err_and(|error| error == "no"));
    }
}
