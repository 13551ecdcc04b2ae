//! Batches of other sizes than the loaded one, and inputs of noise.

use std::borrow::Cow;

use super::Executable;
use crate::diag::{Code, Problem};
use crate::ops::shape::Shape;
use crate::philox::{Philox, unit};
use crate::tensor::Tensor;

impl Executable {
    /// Runs the network on as many samples as there are, up to its batch. A short batch is filled up with zeros, whose
    /// results are left out.
    ///
    /// # Errors
    /// As [`Executable::run`]; more samples than the batch, or not as many in every input.
    pub fn run_samples(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, Problem> {
        let batch = self.plan().batch();
        let samples = |tensor: &Tensor| tensor.shape().first().copied().unwrap_or(0);
        let count = inputs.first().map_or(batch, |(_, tensor)| samples(tensor));
        for (name, tensor) in inputs {
            let own = samples(tensor);
            if own != count {
                let message = format!("the input `{name}` needs {count} samples, as the first input, got {own}");
                return Err(Problem::new(Code::Input, message));
            }
            if own > batch {
                let message =
                    format!("the input `{name}` has {own} samples, the network is loaded for {batch} at most");
                return Err(Problem::new(Code::Input, message));
            }
        }
        if count == batch {
            return self.run(inputs);
        }
        let full: Vec<Cow<'_, Tensor>> = inputs.iter().map(|(_, tensor)| resized(tensor, batch)).collect();
        let full: Vec<(&str, &Tensor)> =
            inputs.iter().map(|(name, _)| *name).zip(full.iter().map(AsRef::as_ref)).collect();
        let outputs = self.run(&full)?;
        Ok(outputs.into_iter().map(|(name, tensor)| (name, resized(&tensor, count).into_owned())).collect())
    }
}

/// The tensor with `batch` samples: zeros behind its own, or its first.
fn resized(tensor: &Tensor, batch: usize) -> Cow<'_, Tensor> {
    let mut shape = tensor.shape().to_vec();
    if shape.first().is_none_or(|own| *own == batch) {
        return Cow::Borrowed(tensor);
    }
    let sample: usize = shape[1..].iter().product();
    shape[0] = batch;
    let mut data = tensor.data()[..tensor.len().min(batch * sample)].to_vec();
    data.resize(batch * sample, 0.0);
    Cow::Owned(Tensor::new(shape, data))
}

/// Standard normal values for the input `name`, of `shape` without the batch. They depend on the seed, the input's name and
/// the sample only.
pub fn noise(name: &str, shape: &[usize], batch: usize, seed: u64) -> Tensor {
    let philox = Philox::named(seed, name);
    let shape = Shape::batched(shape.to_vec()).concrete(batch);
    let len: usize = shape.iter().product();
    let mut values = Vec::with_capacity(len.next_multiple_of(4));
    for block in 0..len.div_ceil(4) as u64 {
        let words = philox.block(block);
        for pair in words.chunks_exact(2) {
            // Box and Muller 1958; 1 - u keeps the logarithm finite
            let radius = (-2.0 * (1.0 - unit(pair[0])).ln()).sqrt();
            let angle = std::f32::consts::TAU * unit(pair[1]);
            values.extend([radius * angle.cos(), radius * angle.sin()]);
        }
    }
    values.truncate(len);
    Tensor::new(shape, values)
}
