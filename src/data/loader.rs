//! Batches made ahead of the step that takes them, on threads of their own, a few at a time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::{Batch, Dataset, Draws, Recipe};
use crate::diag::{Code, Problem};

/// Batches that wait to be taken.
const AHEAD: usize = 3;

/// The order in which an epoch sees the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub seed: u64,
    pub shuffle: bool,
}

impl Order {
    /// The indices of `len` samples as epoch `epoch` sees them.
    pub fn of(self, epoch: usize, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        if self.shuffle {
            Draws::named(self.seed, &format!("order.{epoch}")).shuffle(&mut order);
        }
        order
    }
}

/// The batches of an epoch, in order.
pub struct Loader {
    batches: Option<Receiver<Result<Batch, Problem>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// The batches of training epoch `epoch` from step `from` on. Batches of samples that `knows` says are known already
    /// come without input.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn training(
        data: Arc<Dataset>,
        recipe: Arc<Recipe>,
        order: Order,
        batch: usize,
        (epoch, from): (usize, usize),
        knows: impl Fn(&[usize]) -> bool + Send + Sync + 'static,
    ) -> Result<Loader, Problem> {
        let samples = order.of(epoch, data.len());
        Loader::start(move |step| {
            let samples = samples.chunks(batch).nth(from + step)?;
            if knows(samples) {
                return Some(Ok(recipe.without_input(&data, samples)));
            }
            Some(recipe.training(&data, samples, epoch, from + step))
        })
    }

    /// The batches of an evaluation, in the data set's order; those that are known come without input.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn evaluation(
        data: Arc<Dataset>,
        recipe: Arc<Recipe>,
        batch: usize,
        knows: impl Fn(&[usize]) -> bool + Send + Sync + 'static,
    ) -> Result<Loader, Problem> {
        Loader::start(move |step| {
            let from = step * batch;
            let samples: Vec<usize> = (from..data.len().min(from + batch)).collect();
            match samples.is_empty() {
                true => None,
                false if knows(&samples) => Some(Ok(recipe.without_input(&data, &samples))),
                false => Some(recipe.evaluation(&data, &samples)),
            }
        })
    }

    fn start(
        make: impl Fn(usize) -> Option<Result<Batch, Problem>> + Send + Sync + 'static,
    ) -> Result<Loader, Problem> {
        let failed = |error: String| {
            Problem::new(Code::Resource, format!("cannot start the threads that read pictures: {error}"))
                .hint("fewer threads: `--threads 1`, or a larger `ulimit -v` and `ulimit -u`")
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(rayon::current_num_threads());
        let pool = pool.build().map_err(|error| failed(error.to_string()))?;
        let (sender, batches) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().name("loader".into()).spawn(move || {
            for step in 0.. {
                let Some(batch) = pool.install(|| make(step)) else { return };
                let ends = batch.is_err();
                // whoever took the batches is gone, or wants no more after an error
                if sender.send(batch).is_err() || ends {
                    return;
                }
            }
        });
        let thread = thread.map_err(|error| failed(error.to_string()))?;
        Ok(Loader { batches: Some(batches), thread: Some(thread) })
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.as_ref()?.recv().ok()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // a sender without a receiver stops
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // a thread that panicked has said so
            let _ = thread.join();
        }
    }
}
