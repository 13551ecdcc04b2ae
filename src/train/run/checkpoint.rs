//! Checkpoints: one file, safetensors with the run's position in its metadata, which takes its place only when it is whole.
//! It holds every bit that the rest of the run depends on; random numbers need only the position.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::learner::{Kept, Learner, State, Values};
use crate::diag::{Code, Problem};
use crate::weights::{DType, Data, Store, TensorOut, non_finite, write_safetensors};

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
    /// A digest of the spec and what it is given, which must be the same when the run goes on.
    pub spec: String,
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
            _ => self.loss() < other.loss(),
        }
    }
}

/// Writes a checkpoint. Where anything goes wrong the old one stays.
///
/// # Errors
/// A state that is not finite, which must not take the place of a good one; a file that cannot be written.
pub fn save(path: &Path, learner: &mut dyn Learner, position: &Position) -> Result<(), Problem> {
    let state = learner.state()?;
    let broken = state.iter().find(|(_, kept)| kept.floats().is_some_and(|values| non_finite(values).is_some()));
    if let Some((key, _)) = broken {
        return Err(Problem::new(Code::NonFinite, format!("`{key}` is not finite after step {}", position.step)));
    }
    let json = serde_json::to_string(position).expect("JSON of numbers and strings");
    let metadata = IndexMap::from([(FORMAT.to_string(), VERSION.to_string()), (POSITION.to_string(), json)]);
    write(path, &state, &metadata)
}

/// Reads a checkpoint into `learner`.
///
/// # Errors
/// If it cannot be read, is no checkpoint, or is one of another network.
pub fn load(path: &Path, learner: &mut dyn Learner) -> Result<Position, Problem> {
    let store = Store::open_file(path)?;
    let position = read_position(path, &store)?;
    let mut state = State::new();
    for (key, info) in store.tensors() {
        state.insert(key.clone(), tensor(&store, key, &info.shape, info.dtype == DType::I64)?);
    }
    learner.restore(state).map_err(|problem| {
        problem.note(format!("`{}` is the checkpoint of another network or optimizer", path.display()))
    })?;
    Ok(position)
}

/// The position alone.
///
/// # Errors
/// If the file cannot be read or is no checkpoint.
pub fn position(path: &Path) -> Result<Position, Problem> {
    read_position(path, &Store::open_file(path)?)
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

fn read_position(path: &Path, store: &Store) -> Result<Position, Problem> {
    let metadata = store.metadata();
    let bad = |what: &str| {
        Problem::new(Code::Input, format!("`{}` is not a checkpoint that can be read: {what}", path.display()))
            .hint("begin again in a new folder: `--out`")
    };
    match metadata.get(FORMAT).map(String::as_str) {
        Some(VERSION) => {}
        Some(_) => return Err(bad("another version of archc wrote it")),
        None => return Err(bad("it holds weights alone")),
    }
    let text = metadata.get(POSITION).ok_or_else(|| bad("it has no position"))?;
    serde_json::from_str(text).map_err(|_| bad("its position is damaged"))
}

const FORMAT: &str = "archc.checkpoint";
const VERSION: &str = "1";
const POSITION: &str = "archc.position";
