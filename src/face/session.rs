//! A loaded network.

use std::ops::Index;

use super::{Error, Message, Model};
use crate::diag::{Code, Problem};
use crate::exec::samples::{self, Sampled};
use crate::exec::{Draw, Executable};
use crate::tensor::Tensor;

/// A network that is ready to run, for batches up to the one that it was loaded for.
pub struct Session {
    model: Model,
    executable: Executable,
    /// Of what is drawn at inference.
    seed: u64,
    remarks: Vec<String>,
    warnings: Vec<Message>,
}

/// What a network runs on: a tensor where it has one input, else tensors by name. Each is [N, ..].
pub struct Inputs<'a>(Given<'a>);

enum Given<'a> {
    One(&'a Tensor),
    Named(Vec<(&'a str, &'a Tensor)>),
}

/// What a network answers, by name. Each is [N, ..], row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs(Vec<(String, Tensor)>);

/// What several runs of a network that draws at inference come to: the mean of every output, and the standard deviation.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    pub mean: Outputs,
    /// With n - 1 as the divisor; NaN of a single run.
    pub std: Outputs,
}

impl Session {
    pub(super) fn new(
        model: Model,
        mut executable: Executable,
        seed: u64,
        remarks: Vec<String>,
        warnings: Vec<Message>,
    ) -> Session {
        executable.set_draw(Draw { seed, sample: 0 });
        Session { model, executable, seed, remarks, warnings }
    }

    /// The network.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What is worth a line: what became of the weights, and a GPU that is not used.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// What is odd about the weights.
    pub fn warnings(&self) -> &[Message] {
        &self.warnings
    }

    /// The largest batch.
    pub fn batch(&self) -> usize {
        self.executable.plan().batch()
    }

    /// Runs the network on one sample or more, up to [`Session::batch`]. One that draws at inference (`dropout(always = true)`)
    /// takes the first draw of [`Options::seed`](super::Options::seed) in every run.
    ///
    /// ```
    /// use archc::{Device, Options, Spec, Tensor};
    ///
    /// let spec = Spec::from_text("network tiny { input [N, 4]; linear(2); softmax }\nbase tiny");
    /// let mut session = spec.compile()?.load(Device::Cpu, Options { batch: Some(8), ..Options::default() })?;
    /// let output = session.run(&Tensor::zeros([3, 4]))?.into_one();
    /// assert_eq!(output.shape(), [3, 2]);
    /// # Ok::<(), archc::Error>(())
    /// ```
    ///
    /// # Errors
    /// An input that is missing or of another shape; more samples than the batch; a device that fails.
    pub fn run<'a>(&mut self, inputs: impl Into<Inputs<'a>>) -> Result<Outputs, Error> {
        self.run_named(&self.named(inputs.into()))
    }

    /// Runs a network that draws at inference `count` times on the same inputs, each with another draw of
    /// [`Options::seed`](super::Options::seed), and gives mean and standard deviation of its outputs.
    ///
    /// ```
    /// use archc::{Device, Options, Spec, Tensor};
    ///
    /// let spec = Spec::from_text("network tiny { input [N, 4]; linear(8); dropout; linear(2) }\nbase tiny\nset **:dropout { always = true }");
    /// let mut session = spec.compile()?.load(Device::Cpu, Options::default())?;
    /// let samples = session.run_several(&Tensor::new([1, 4], vec![1.0; 4]), 20)?;
    /// assert_eq!(samples.mean["output"].shape(), [1, 2]);
    /// assert!(samples.std["output"].data().iter().all(|std| *std > 0.0));
    /// # Ok::<(), archc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Session::run`]; a network that draws nothing; no runs.
    pub fn run_several<'a>(&mut self, inputs: impl Into<Inputs<'a>>, count: u64) -> Result<Samples, Error> {
        samples::check(self.model.typed())?;
        if count == 0 {
            return Err(Problem::new(Code::Usage, "a mean needs 1 run or more, got 0").into());
        }
        let inputs = self.named(inputs.into());
        let mut sampled = Sampled::default();
        for sample in 0..count {
            self.executable.set_draw(Draw { seed: self.seed, sample });
            let outputs = self.run_named(&inputs);
            self.executable.set_draw(Draw { seed: self.seed, sample: 0 });
            sampled.add(&outputs?.0);
        }
        let [mean, std] = sampled.finish();
        Ok(Samples { mean: Outputs(mean), std: Outputs(std) })
    }

    /// The inputs by name.
    fn named<'a>(&self, inputs: Inputs<'a>) -> Vec<(String, &'a Tensor)> {
        match inputs.0 {
            Given::Named(named) => named.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect(),
            Given::One(tensor) => {
                let name = self.executable.inputs().next().map_or(String::new(), |(name, _)| name.clone());
                vec![(name, tensor)]
            }
        }
    }

    fn run_named(&mut self, inputs: &[(String, &Tensor)]) -> Result<Outputs, Error> {
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect();
        Ok(Outputs(self.executable.run_samples(&inputs)?))
    }

    /// The loaded plan. No part of the face: for this repository's tests and benches, which look at plans and count what
    /// a run allocates.
    #[doc(hidden)]
    pub fn executable(&mut self) -> &mut Executable {
        &mut self.executable
    }
}

impl<'a> From<&'a Tensor> for Inputs<'a> {
    fn from(tensor: &'a Tensor) -> Inputs<'a> {
        Inputs(Given::One(tensor))
    }
}

impl<'a> From<&[(&'a str, &'a Tensor)]> for Inputs<'a> {
    fn from(named: &[(&'a str, &'a Tensor)]) -> Inputs<'a> {
        Inputs(Given::Named(named.to_vec()))
    }
}

impl<'a, const N: usize> From<[(&'a str, &'a Tensor); N]> for Inputs<'a> {
    fn from(named: [(&'a str, &'a Tensor); N]) -> Inputs<'a> {
        Inputs(Given::Named(named.to_vec()))
    }
}

impl Outputs {
    /// The output called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.iter().find(|(own, _)| *own == name).map(|(_, tensor)| tensor)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The first output, which is the only one of most networks.
    ///
    /// # Panics
    /// If the network has none, which no compiled one is without.
    pub fn into_one(self) -> Tensor {
        self.0.into_iter().next().expect("a network has an output").1
    }
}

impl Index<&str> for Outputs {
    type Output = Tensor;

    fn index(&self, name: &str) -> &Tensor {
        self.get(name).unwrap_or_else(|| panic!("the network has no output `{name}`"))
    }
}

impl IntoIterator for Outputs {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
