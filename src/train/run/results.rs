//! What a finished run leaves: the weights, read back to prove that what is frozen is as it was, and the report.

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::checkpoint::{self, Checkpoint};
use super::learner::{Learner, State, Values};
use super::{Job, RunFolder};
use crate::diag::{Code, Problem};
use crate::io::atomic;
use crate::io::digest::hex;
use crate::weights::{DType, Store};

/// What was written, in words.
pub struct Written {
    /// Tensors of the file.
    pub tensors: usize,
    /// Frozen ones among them, and the digest that they had at the start and have in the file.
    pub frozen: Option<(usize, String)>,
}

/// Writes the learner's weights as `model.safetensors`, with the names of classes and of the loss. The file takes its place
/// only when it was read back, and what is frozen in it is what the run began with.
///
/// # Errors
/// If the file cannot be written or read back, or something frozen has changed. An old file is then as it was.
pub fn write(folder: &RunFolder, learner: &mut dyn Learner, job: &Job) -> Result<Written, Problem> {
    let weights = learner.weights()?;
    let mut metadata = IndexMap::new();
    if !job.classes.is_empty() {
        metadata.insert("classes".to_string(), serde_json::to_string(&job.classes).expect("JSON of strings"));
    }
    metadata.insert("loss".to_string(), job.loss.to_string());
    let tensors = weights.len();
    let frozen = learner.frozen();
    let proof = match frozen.is_empty() {
        true => None,
        false => {
            let start = Checkpoint::open(&folder.checkpoint())?.position.frozen;
            prove(&start, &digest(&weights, &frozen))?;
            Some((frozen.len(), start))
        }
    };
    let fresh = Fresh(folder.fresh_model());
    checkpoint::write(&fresh.0, &weights, &metadata)?;
    drop(weights);
    if let Some((_, start)) = &proof {
        prove(start, &digest(&read(&fresh.0, &frozen)?, &frozen))?;
    }
    let path = folder.model();
    std::fs::rename(&fresh.0, &path).map_err(|error| atomic::problem(&path, &error))?;
    Ok(Written { tensors, frozen: proof })
}

/// A file that is removed where it does not come to its place.
struct Fresh(std::path::PathBuf);

impl Drop for Fresh {
    fn drop(&mut self) {
        // it is gone where it came to its place
        let _ = std::fs::remove_file(&self.0);
    }
}

fn prove(start: &str, end: &str) -> Result<(), Problem> {
    if start == end {
        return Ok(());
    }
    let message = format!("frozen tensors have changed: their sha256 was {start} and is {end}");
    Err(Problem::new(Code::Train, message).note("this is a mistake of archc, not of the spec; no model is written"))
}

/// SHA-256 of tensors by key, in hexadecimal digits.
pub fn digest(state: &State<'_>, keys: &[String]) -> String {
    let mut digest = Sha256::new();
    for key in keys {
        digest.update(key.as_bytes());
        digest.update([0]);
        match state.get(key).map(|kept| &kept.values) {
            Some(Values::F32(values)) => digest.update(bytemuck::cast_slice::<f32, u8>(values)),
            Some(Values::I64(values)) => digest.update(bytemuck::cast_slice::<i64, u8>(values)),
            None => {}
        }
    }
    hex(digest.finalize())
}

/// Tensors of a file that was written here.
fn read(path: &std::path::Path, keys: &[String]) -> Result<State<'static>, Problem> {
    let store = Store::open_file(path)?;
    let mut state = State::new();
    for key in keys {
        let Some(info) = store.tensors().get(key) else { continue };
        state.insert(key.clone(), checkpoint::tensor(&store, key, &info.shape, info.dtype == DType::I64)?);
    }
    Ok(state)
}
