//! What a frozen prefix makes of each sample, computed once. Values are kept in memory up to a limit; beyond it they lie in a
//! file that is mapped into memory, named by the content that it was made of, so that a run that goes on finds them again.
//! Either way a sample's values are the bits that the prefix gave.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapMut;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::learner::Prefix;
use crate::data::{Dataset, Recipe};
use crate::diag::Problem;
use crate::io::atomic::problem;
use crate::io::{open, picture};
use crate::tensor::Tensor;

/// The values of a data set's samples. May be filled and asked from several threads.
pub struct PrefixCache {
    shapes: Vec<Vec<usize>>,
    /// Floats a sample.
    len: usize,
    known: Vec<AtomicBool>,
    values: Mutex<Values>,
    place: Option<PathBuf>,
}

enum Values {
    /// A block a sample, made when its values come.
    Memory(Vec<Box<[f32]>>),
    /// A byte a sample says whether its values are there; the values begin behind these.
    Disk(MmapMut),
}

impl PrefixCache {
    /// A cache for `data`: in memory where all its values take at most `limit` bytes, else in `folder`.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn new(
        prefix: &Prefix,
        data: &Dataset,
        recipe: &Recipe,
        limit: u64,
        folder: &Path,
    ) -> Result<PrefixCache, Problem> {
        let len: usize = prefix.shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        let bytes = 4 * len as u64 * data.len() as u64;
        let mut known: Vec<AtomicBool> = vec![];
        known.resize_with(data.len(), AtomicBool::default);
        let shapes = prefix.shapes.clone();
        if bytes <= limit {
            let values = Mutex::new(Values::Memory(vec![Box::default(); data.len()]));
            return Ok(PrefixCache { shapes, len, known, values, place: None });
        }
        fs::create_dir_all(folder).map_err(|error| problem(folder, &error))?;
        let place = folder.join(format!("{}.values", content(prefix, data, recipe)));
        let map = map(&place, values_at(data.len()) + bytes).map_err(|error| problem(&place, &error))?;
        for (known, there) in known.iter_mut().zip(map.iter()) {
            *known.get_mut() = *there == THERE;
        }
        Ok(PrefixCache { shapes, len, known, values: Mutex::new(Values::Disk(map)), place: Some(place) })
    }

    /// The file that holds the values; None where memory does.
    pub fn place(&self) -> Option<&Path> {
        self.place.as_deref()
    }

    /// Whether a sample's values are known.
    pub fn knows(&self, sample: usize) -> bool {
        self.known.get(sample).is_some_and(|known| known.load(Ordering::Acquire))
    }

    /// Keeps what the prefix made of `samples`: each of `made` is [B, ..].
    pub fn keep(&self, samples: &[usize], made: &[Tensor]) {
        let mut values = self.values.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (at, sample) in samples.iter().enumerate() {
            if self.knows(*sample) {
                continue;
            }
            let mut row = Vec::with_capacity(self.len);
            for (tensor, shape) in made.iter().zip(&self.shapes) {
                let len: usize = shape.iter().product();
                row.extend_from_slice(&tensor.data()[at * len..][..len]);
            }
            match &mut *values {
                Values::Memory(rows) => rows[*sample] = row.into(),
                Values::Disk(map) => {
                    let from = values_at(self.known.len()) as usize + 4 * self.len * sample;
                    map[from..from + 4 * self.len].copy_from_slice(bytemuck::cast_slice(&row));
                    // after the values, so that a process that is killed between leaves nothing half known
                    map[*sample] = THERE;
                }
            }
            self.known[*sample].store(true, Ordering::Release);
        }
    }

    /// The values of `samples`, side by side: [B, ..] each.
    ///
    /// # Panics
    /// If the values of one are not known.
    pub fn batch(&self, samples: &[usize]) -> Vec<Tensor> {
        assert!(samples.iter().all(|sample| self.knows(*sample)), "only known samples are asked for");
        let values = self.values.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut made = vec![];
        let mut from = 0;
        for shape in &self.shapes {
            let len: usize = shape.iter().product();
            let mut data = vec![0.0; len * samples.len()];
            for (row, sample) in data.chunks_exact_mut(len.max(1)).zip(samples) {
                match &*values {
                    Values::Memory(rows) => row.copy_from_slice(&rows[*sample][from..from + len]),
                    Values::Disk(map) => {
                        let start = values_at(self.known.len()) as usize + 4 * (self.len * sample + from);
                        bytemuck::cast_slice_mut(row).copy_from_slice(&map[start..start + 4 * len]);
                    }
                }
            }
            let shape: Vec<usize> = [samples.len()].into_iter().chain(shape.iter().copied()).collect();
            made.push(Tensor::new(shape, data));
            from += len;
        }
        made
    }
}

const THERE: u8 = 1;

/// Where the values begin in a file of so many samples.
fn values_at(samples: usize) -> u64 {
    (samples as u64).next_multiple_of(64)
}

fn map(path: &Path, len: u64) -> std::io::Result<MmapMut> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() != len {
        // of another size it is not what its name says: an empty one takes its place
        file.set_len(0)?;
        file.set_len(len)?;
    }
    // SAFETY: the file lies in the run's locked folder, so that no other process of ours changes it while it is mapped.
    unsafe { MmapMut::map_mut(&file) }
}

/// A name for everything that the values depend on: the prefix, the preparation, the pictures.
fn content(prefix: &Prefix, data: &Dataset, recipe: &Recipe) -> String {
    let pictures: Vec<[u8; 32]> = data
        .samples
        .par_iter()
        .map(|sample| {
            // what cannot be read now is said when it is decoded
            Sha256::digest(open::read(&sample.path, picture::MAX_FILE).unwrap_or_default()).into()
        })
        .collect();
    let mut digest = Sha256::new();
    digest.update(prefix.key);
    digest.update(format!("{:?} {:?} {:?}", prefix.shapes, recipe.preprocess, recipe.input));
    pictures.iter().for_each(|picture| digest.update(picture));
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
