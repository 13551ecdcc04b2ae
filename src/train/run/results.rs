//! What a finished run leaves: the weights, read back to prove that what is frozen is as it was, and the report.

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::learner::{Learner, State, Values};
use super::{Job, RunFolder, checkpoint};
use crate::diag::{Code, Problem};
use crate::weights::{DType, Store};

/// What was written, in words.
pub struct Written {
    /// Tensors of the file.
    pub tensors: usize,
    /// Frozen ones among them, and the digest that they had at the start and have in the file.
    pub frozen: Option<(usize, String)>,
}

/// Writes the learner's weights as `model.safetensors`, with the names of classes and of the loss, and compares what is frozen in the file
/// with what the run began with.
///
/// # Errors
/// If the file cannot be written or read back, or something frozen has changed.
pub fn write(folder: &RunFolder, learner: &mut dyn Learner, job: &Job) -> Result<Written, Problem> {
    let weights = learner.weights()?;
    let mut metadata = IndexMap::new();
    if !job.classes.is_empty() {
        metadata.insert("classes".to_string(), serde_json::to_string(&job.classes).expect("JSON of strings"));
    }
    metadata.insert("loss".to_string(), job.loss.to_string());
    let path = folder.model();
    checkpoint::write(&path, &weights, &metadata)?;
    let tensors = weights.len();
    drop(weights);
    let frozen = learner.frozen();
    if frozen.is_empty() {
        return Ok(Written { tensors, frozen: None });
    }
    let start = checkpoint::position(&folder.checkpoint())?.frozen;
    let end = digest(&read(&path, &frozen)?, &frozen);
    if start != end {
        let message = format!("frozen tensors have changed: their sha256 was {start} and is {end}");
        return Err(Problem::new(Code::Train, message).note("this is a mistake of archc, not of the spec"));
    }
    Ok(Written { tensors, frozen: Some((frozen.len(), end)) })
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
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
