//! The outputs of the frozen prefix for every sample, kept from epoch to epoch.

use std::path::Path;
use std::sync::Arc;

use super::Run;
use super::prefix::{NoRoom, PrefixCache, Room};
use super::samples::Part;
use crate::data::Dataset;
use crate::diag::{Problem, count};

/// The outputs of a frozen prefix; None where nothing is kept.
#[derive(Default)]
pub(super) struct Caches {
    pub key: Option<[u8; 32]>,
    pub train: Option<Arc<PrefixCache>>,
    pub val: Option<Arc<PrefixCache>>,
}

impl Run<'_> {
    /// Makes the caches of the epoch's frozen prefix, unless they are there already.
    pub(super) fn prepare_caches(&mut self) -> Result<(), Problem> {
        let job = self.job;
        let prefix = match job.prefix_memory {
            Some(_) if job.recipe.is_fixed() => self.learner.prefix(),
            _ => None,
        };
        let key = prefix.as_ref().map(|prefix| prefix.key);
        if key == self.caches.key {
            return Ok(());
        }
        self.caches = Caches { key, train: None, val: None };
        let (Some(prefix), Some(limit)) = (prefix, job.prefix_memory) else { return Ok(()) };
        let (folder, room) = (self.folder.prefix(), Room { memory: limit, spare: self.spare() });
        let make = |data: &Dataset, part: Part| {
            let digest = self.samples.part_digest(part);
            PrefixCache::new(&prefix, (data.len(), &digest), &job.recipe, room, &folder).map(Arc::new)
        };
        let are = if prefix.len == 1 { "is" } else { "are" };
        let layers = format!("{} up to {} {are}", count(prefix.len, "layer"), prefix.layers.join(", "));
        let train = make(&job.train, Part::Training);
        let val = (!job.val.is_empty()).then(|| make(&job.val, Part::Validation));
        let places = [train.as_ref().ok(), val.as_ref().and_then(|val| val.as_ref().ok())];
        let places = places.into_iter().flatten().filter_map(|cache| cache.place());
        remove_others(&folder, &places.collect::<Vec<_>>());
        match train {
            Ok(train) => {
                let place = train.place().map_or("in memory".into(), |place| format!("in {}", place.display()));
                self.watch.note(&format!("frozen prefix: {layers} computed once a picture and kept {place}"));
                self.caches.train = Some(train);
            }
            Err(why) => self.watch.note(&format!("frozen prefix: {layers} computed in every step: {}", said(&why))),
        }
        match val {
            Some(Ok(val)) => self.caches.val = Some(val),
            Some(Err(why)) => {
                self.watch.note(&format!("frozen prefix: for validation computed in every epoch: {}", said(&why)));
            }
            None => {}
        }
        Ok(())
    }

    /// Says where the disk has failed a frozen prefix.
    pub(super) fn tell_broken(&mut self) {
        for cache in [&self.caches.train, &self.caches.val].into_iter().flatten() {
            if let Some(problem) = cache.failure() {
                let message = format!("no more values of the frozen prefix are kept: {}", problem.message);
                self.watch.warn(&Problem { message, ..problem }.anywhere().warning().into());
            }
        }
    }
}

/// Removes the files of prefixes that no step asks for any more.
fn remove_others(folder: &Path, kept: &[&Path]) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !kept.contains(&entry.path().as_path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    // only an empty one goes
    let _ = std::fs::remove_dir(folder);
}

fn said(why: &NoRoom) -> String {
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let free = why.free.map_or(String::new(), |free| format!(", {} are free", gigabytes(free)));
    format!("what they make takes {} on the disk{free} ({})", gigabytes(why.needed), why.reason)
}
