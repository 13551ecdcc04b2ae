//! Checkpoints: one file, safetensors with the run's position in its metadata, which takes its place only when it is whole.
//! It holds every bit that the rest of the run depends on; random numbers need only the position. A SHA-256 of all that is in
//! it is compared before anything is taken from it, so that what a disk or a copy has damaged is never gone on with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fingerprint::Fingerprint;
use super::learner::{Kept, Learner, State, Values};
use crate::diag::{Code, Problem};
use crate::io::digest::hex;
use crate::weights::{DType, Data, Store, TensorInfo, TensorOut, non_finite, write_safetensors};

/// Where a run is. Floats are kept as their bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are done.
    pub epoch: usize,
    /// Steps that are done of the next one.
    pub in_epoch: usize,
    /// Steps that are done of all.
    pub step: u64,
    /// The sum of the losses of the epoch's samples so far.
    pub(super) loss_sum: u64,
    /// How many samples those are.
    pub samples: u64,
    pub best: Option<Best>,
    /// Epochs since the best one.
    pub waited: usize,
    /// Bytes of metrics.jsonl that belong to the steps done.
    pub metrics: u64,
    /// The digest of what is frozen, as the run began; empty where nothing is.
    pub frozen: String,
}

/// The best epoch so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// From 1 on.
    pub epoch: usize,
    /// The share of correct answers, where there are classes.
    accuracy: Option<u64>,
    loss: u64,
}

impl Position {
    pub fn loss_sum(&self) -> f64 {
        f64::from_bits(self.loss_sum)
    }

    /// Counts a step with the mean loss of its samples.
    pub fn add(&mut self, loss: f64, samples: usize) {
        self.loss_sum = (self.loss_sum() + loss * samples as f64).to_bits();
        self.samples += samples as u64;
    }

    /// The mean loss of the epoch's samples so far.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum() / self.samples.max(1) as f64
    }

    pub fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.in_epoch = 0;
        self.loss_sum = 0;
        self.samples = 0;
    }
}

impl Best {
    pub fn new(epoch: usize, accuracy: Option<f64>, loss: f64) -> Best {
        Best { epoch, accuracy: accuracy.map(f64::to_bits), loss: loss.to_bits() }
    }

    pub fn accuracy(&self) -> Option<f64> {
        self.accuracy.map(f64::from_bits)
    }

    pub fn loss(&self) -> f64 {
        f64::from_bits(self.loss)
    }

    /// More correct answers, or as many and a smaller loss; a smaller loss where nothing is answered.
    pub fn beats(&self, other: &Best) -> bool {
        match (self.accuracy(), other.accuracy()) {
            (Some(own), Some(other)) if own != other => own > other,
            _ => self.loss() < other.loss() || (other.loss().is_nan() && !self.loss().is_nan()),
        }
    }
}

/// Writes a checkpoint. Where anything goes wrong the old one stays.
///
/// # Errors
/// A state that is not finite, which must not take the place of a good one; a file that cannot be written.
pub fn save(
    path: &Path,
    learner: &mut dyn Learner,
    position: &Position,
    fingerprint: &Fingerprint,
) -> Result<(), Problem> {
    let state = learner.state()?;
    let broken = state.iter().find(|(_, kept)| kept.floats().is_some_and(|values| non_finite(values).is_some()));
    if let Some((key, _)) = broken {
        return Err(Problem::new(Code::NonFinite, format!("`{key}` is not finite after step {}", position.step)));
    }
    let json = |value: Result<String, serde_json::Error>| value.expect("JSON of numbers and strings");
    let mut metadata = IndexMap::from([
        (FORMAT.to_string(), VERSION.to_string()),
        (POSITION.to_string(), json(serde_json::to_string(position))),
        (FINGERPRINT.to_string(), json(serde_json::to_string(fingerprint))),
    ]);
    let digests = state.par_iter().map(|(key, kept)| match &kept.values {
        Values::F32(values) => digest(key, &DType::F32, &kept.shape, bytemuck::cast_slice(values)),
        Values::I64(values) => digest(key, &DType::I64, &kept.shape, bytemuck::cast_slice(values)),
    });
    let seal = seal(&metadata, digests.collect());
    metadata.insert(SEAL.to_string(), seal);
    write(path, &state, &metadata)
}

/// A checkpoint that was read and is whole.
pub struct Checkpoint {
    path: PathBuf,
    store: Store,
    pub position: Position,
    pub fingerprint: Fingerprint,
}

impl Checkpoint {
    /// Opens a checkpoint and compares its content with the SHA-256 that it was written with.
    ///
    /// # Errors
    /// If it cannot be read, is no checkpoint, is damaged, or was written by an archc of another format.
    pub fn open(path: &Path) -> Result<Checkpoint, Problem> {
        let bad = |what: &str| {
            let message = format!("`{}` is not a checkpoint that can be read: {what}", path.display());
            Problem::new(Code::Input, message)
        };
        let damaged = || bad("it is damaged, its content is not what was written");
        let store = Store::open_file(path).map_err(|problem| {
            let damaged = damaged();
            if path.is_file() { damaged.note(problem.message) } else { problem }
        })?;
        let metadata = store.metadata();
        match metadata.get(FORMAT).map(String::as_str) {
            Some(VERSION) => {}
            Some(OLD) if !metadata.contains_key(SEAL) => {
                return Err(bad("an older archc wrote it, which did not keep all that a run depends on")
                    .hint("go on with the archc that began the run, or begin a new one in another folder: `--out`"));
            }
            Some(_) if metadata.contains_key(SEAL) => {
                return Err(damaged().note("or another version of archc wrote it"));
            }
            Some(_) => return Err(bad("another version of archc wrote it").hint("go on with that one")),
            None if metadata.contains_key(SEAL) => return Err(damaged()),
            None => return Err(bad("it holds weights alone")),
        }
        let of = |(key, info): (&String, &TensorInfo)| -> Result<(String, [u8; 32]), Problem> {
            Ok(digest(key, &info.dtype, &info.shape, &store.raw(key)?))
        };
        let digests = store.tensors().par_iter().map(of).collect::<Result<_, _>>()?;
        let mut rest = metadata.clone();
        if rest.shift_remove(SEAL) != Some(seal(&rest, digests)) {
            return Err(damaged());
        }
        let part = |name: &str| metadata.get(name).map_or("", String::as_str);
        let position = serde_json::from_str(part(POSITION)).map_err(|_| damaged())?;
        let fingerprint = serde_json::from_str(part(FINGERPRINT)).map_err(|_| damaged())?;
        Ok(Checkpoint { path: path.to_path_buf(), store, position, fingerprint })
    }

    /// Reads its state into `learner`.
    ///
    /// # Errors
    /// If it is that of another network or optimizer.
    pub fn restore(&self, learner: &mut dyn Learner) -> Result<(), Problem> {
        let mut state = State::new();
        for (key, info) in self.store.tensors() {
            if !matches!(info.dtype, DType::F32 | DType::I64) {
                let message = format!("`{key}` of `{}` is {}", self.path.display(), info.dtype.name());
                return Err(Problem::new(Code::Input, message).note("a checkpoint holds F32, and I64 for counters"));
            }
            state.insert(key.clone(), tensor(&self.store, key, &info.shape, info.dtype == DType::I64)?);
        }
        learner.restore(state).map_err(|problem| {
            problem.note(format!("`{}` is the checkpoint of another network or optimizer", self.path.display()))
        })
    }
}

/// The key of a tensor and the SHA-256 of everything about it.
fn digest(key: &str, dtype: &DType, shape: &[usize], bytes: &[u8]) -> (String, [u8; 32]) {
    let mut digest = Sha256::new_with_prefix(format!("{key}\0{} {shape:?}\0", dtype.name()));
    digest.update(bytes);
    (key.to_string(), digest.finalize().into())
}

/// SHA-256 of metadata and tensors, in whatever order they come.
fn seal(metadata: &IndexMap<String, String>, mut tensors: Vec<(String, [u8; 32])>) -> String {
    let mut digest = Sha256::new();
    let metadata: BTreeMap<&String, &String> = metadata.iter().collect();
    for (name, value) in metadata {
        digest.update(format!("{name}\0{}\0{value}", value.len()));
    }
    tensors.sort();
    tensors.iter().for_each(|(_, own)| digest.update(own));
    hex(digest.finalize())
}

/// A tensor of a file, as counters or floats.
///
/// # Errors
/// If it cannot be read.
pub fn tensor(store: &Store, key: &str, shape: &[usize], is_counter: bool) -> Result<Kept<'static>, Problem> {
    if !is_counter {
        return Ok(Kept::f32(shape, store.read(key)?));
    }
    let bytes = store.raw(key)?;
    let words = bytes.chunks_exact(8);
    let values: Vec<i64> = words.map(|word| i64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
    Ok(Kept::i64(shape, values))
}

/// Writes tensors as a file of weights.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, state: &State<'_>, metadata: &IndexMap<String, String>) -> Result<(), Problem> {
    let out: Vec<TensorOut<'_>> = state
        .iter()
        .map(|(key, kept)| {
            let data = match &kept.values {
                Values::F32(values) => Data::F32(values),
                Values::I64(values) => Data::I64(values),
            };
            TensorOut { key, shape: &kept.shape, data }
        })
        .collect();
    write_safetensors(path, &out, metadata)
}

const FORMAT: &str = "archc.checkpoint";
const VERSION: &str = "2";
/// Without a digest of its content, and with one of the spec and the samples' names in its position.
const OLD: &str = "1";
const POSITION: &str = "archc.position";
const FINGERPRINT: &str = "archc.fingerprint";
/// The SHA-256 of everything else in the file.
const SEAL: &str = "archc.sha256";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_whose_loss_is_no_number_is_the_best_of_none() {
        let epoch = |accuracy, loss| Best::new(1, accuracy, loss);
        for accuracy in [None, Some(0.1)] {
            assert!(epoch(accuracy, 9.0).beats(&epoch(accuracy, f64::NAN)));
            assert!(!epoch(accuracy, f64::NAN).beats(&epoch(accuracy, 9.0)));
            assert!(!epoch(accuracy, f64::NAN).beats(&epoch(accuracy, f64::NAN)));
        }
        assert!(epoch(Some(0.2), 9.0).beats(&epoch(Some(0.1), 1.0)));
    }
}
