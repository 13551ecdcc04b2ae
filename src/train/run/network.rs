//! A network in training as a [`Learner`]: the trainer on what learns, the frozen prefix as an ordinary executable before
//! it. The prefix is split off whether or not its outputs are kept, so that keeping them changes no bit.

use std::borrow::Cow;

use super::learner::{Kept, Learner, Prefix, State, Stepped};
use super::loss::loss;
use crate::bind::Bound;
use crate::data::Targets;
use crate::diag::{Code, Problem};
use crate::exec::Executable;
use crate::exec::cpu::Cpu;
use crate::tensor::Tensor;
use crate::train::split::Split;
use crate::train::{self, Config, Progress, Schedule, Snapshot, Trainer};
use crate::typed::Typed;

/// How the rate goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub schedule: Schedule,
    /// The optimizer's rate.
    pub lr: f64,
    pub steps_per_epoch: u64,
    pub epochs: u64,
}

/// See the module.
pub struct NetworkLearner<'a> {
    bound: &'a Bound,
    config: Config,
    trainer: Trainer<'a>,
    batch: usize,
    pace: Pace,
    front: Option<Front<'a>>,
    /// The rest, or the whole, as it was after the last step.
    evaluator: Option<Executable>,
    /// The name of the network's input.
    input: String,
}

/// The frozen prefix.
struct Front<'a> {
    split: &'a Split,
    program: Executable,
    key: [u8; 32],
}

impl<'a> NetworkLearner<'a> {
    /// A learner of batches of `batch`; `split` is that of `typed`, where it has one.
    ///
    /// # Errors
    /// A loss that does not fit the network, a tensor that cannot be read, too little memory.
    pub fn new(
        typed: &'a Typed,
        split: Option<&'a Split>,
        bound: &'a Bound,
        cpu: Cpu,
        config: Config,
        batch: usize,
        pace: Pace,
    ) -> Result<NetworkLearner<'a>, Problem> {
        let front = match split {
            None => None,
            Some(split) => {
                // sample by sample: in a batch the order of sums may depend on where a sample stands
                let program = Executable::new(&split.prefix, bound, &cpu, 1)?;
                Some(Front { split, program, key: split.key(bound)? })
            }
        };
        // the image is given as the target: the rest of a split network has it no more
        let config = Config { target_is_image: false, ..config };
        let learned = split.map_or(typed, |split| &split.rest);
        let trainer = Trainer::new(learned, bound, cpu, config.clone(), batch)?;
        let input = typed.graph().inputs().keys().next().cloned().unwrap_or_default();
        Ok(NetworkLearner { bound, config, trainer, batch, pace, front, evaluator: None, input })
    }

    fn rate(&self) -> f64 {
        let Pace { schedule, lr, steps_per_epoch, epochs } = self.pace;
        schedule.rate(lr, Progress { step: self.trainer.steps(), steps_per_epoch, epochs })
    }

    fn learn(&mut self, inputs: &[(&str, &Tensor)], targets: &Targets) -> Result<Stepped, Problem> {
        let lr = self.rate();
        let shares: Vec<f32>;
        let targets = match targets {
            Targets::Classes(classes) => train::Targets::Classes(classes),
            Targets::Mixed { first, second, share } => {
                shares = vec![*share; first.len()];
                train::Targets::Mixed { first, second, share: &shares }
            }
            Targets::Values(values) => train::Targets::Values(values),
        };
        self.evaluator = None;
        let outcome = self.trainer.step(inputs, targets, lr)?;
        Ok(Stepped { loss: outcome.loss, lr })
    }

    fn evaluate(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Tensor, Problem> {
        if self.evaluator.is_none() {
            self.evaluator = Some(self.trainer.evaluator(self.batch, self.config.ema.is_some())?);
        }
        let evaluator = self.evaluator.as_mut().expect("it was made just now");
        let outputs = run(evaluator, inputs)?;
        outputs.into_iter().next().ok_or_else(|| Problem::new(Code::Train, "the network has no output"))
    }

    /// The names of the rest's inputs beside what flows out of the prefix.
    fn named<'t>(&'t self, values: &'t [Tensor]) -> Vec<(&'t str, &'t Tensor)> {
        match &self.front {
            Some(front) => front.split.names.iter().map(String::as_str).zip(values).collect(),
            None => values.first().map(|value| (self.input.as_str(), value)).into_iter().collect(),
        }
    }
}

impl Learner for NetworkLearner<'_> {
    fn begin_epoch(&mut self, _epoch: usize) -> Result<(), Problem> {
        Ok(())
    }

    fn step(&mut self, input: &Tensor, targets: &Targets) -> Result<Stepped, Problem> {
        let values = self.run_prefix(input)?;
        self.step_after(&values, targets)
    }

    fn outputs(&mut self, input: &Tensor) -> Result<Tensor, Problem> {
        let values = self.run_prefix(input)?;
        self.outputs_after(&values)
    }

    fn loss(&self, outputs: &Tensor, targets: &Targets) -> f64 {
        loss(&self.config.loss, outputs, targets)
    }

    fn state(&mut self) -> State<'static> {
        let Snapshot { tensors, steps, updates } = self.trainer.snapshot();
        let mut state: State<'static> =
            tensors.into_iter().map(|(key, shape, values)| (key, Kept::f32(&shape, values))).collect();
        state.insert(COUNTERS.into(), Kept::i64(&[2], vec![steps as i64, updates as i64]));
        state
    }

    fn restore(&mut self, state: State<'_>) -> Result<(), Problem> {
        let counters = state.get(COUNTERS).and_then(Kept::integers).map(<[i64]>::to_vec);
        let Some([steps, updates]) = counters.as_deref() else {
            return Err(Problem::new(Code::Input, format!("the checkpoint does not hold `{COUNTERS}`")));
        };
        let (steps, updates) = (*steps as u64, *updates as u64);
        let floats = state.into_iter().filter_map(|(key, kept)| {
            let values = kept.floats()?.to_vec();
            Some((key, kept.shape, values))
        });
        self.evaluator = None;
        self.trainer.restore(&Snapshot { tensors: floats.collect(), steps, updates })
    }

    fn weights(&mut self) -> Result<State<'static>, Problem> {
        let learned = self.trainer.tensors(self.config.ema.is_some());
        let mut state = State::new();
        for (key, shape) in self.bound.keys() {
            let own = learned.iter().find(|(other, _)| other == key);
            let kept = match own {
                Some((_, tensor)) => Kept::f32(shape, tensor.data().to_vec()),
                None => {
                    let (mut values, is_counter) = self.bound.read_key(key)?;
                    if counts(key, &learned) {
                        values.iter_mut().for_each(|value| *value += self.trainer.steps() as f32);
                    }
                    match is_counter {
                        true => Kept::i64(shape, values.iter().map(|value| *value as i64).collect::<Vec<_>>()),
                        false => Kept::f32(shape, values),
                    }
                }
            };
            state.insert(key.to_string(), kept);
        }
        Ok(state)
    }

    fn frozen(&mut self) -> Vec<String> {
        let learned = self.trainer.tensors(false);
        let changes = |key: &str| learned.iter().any(|(other, _)| other == key) || counts(key, &learned);
        self.bound.keys().map(|(key, _)| key.to_string()).filter(|key| !changes(key)).collect()
    }

    fn prefix(&self) -> Option<Prefix> {
        let front = self.front.as_ref()?;
        let Split { layers, shapes, .. } = front.split;
        Some(Prefix { layers: layers.clone(), len: front.split.count(), shapes: shapes.clone(), key: front.key })
    }

    fn run_prefix(&mut self, input: &Tensor) -> Result<Vec<Tensor>, Problem> {
        match &mut self.front {
            Some(front) => each(&mut front.program, &self.input, input),
            None => Ok(vec![input.clone()]),
        }
    }

    fn step_after(&mut self, values: &[Tensor], targets: &Targets) -> Result<Stepped, Problem> {
        let names: Vec<String> = self.named(values).into_iter().map(|(name, _)| name.to_string()).collect();
        let inputs: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(values).collect();
        self.learn(&inputs, targets)
    }

    fn outputs_after(&mut self, values: &[Tensor]) -> Result<Tensor, Problem> {
        let names: Vec<String> = self.named(values).into_iter().map(|(name, _)| name.to_string()).collect();
        let inputs: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(values).collect();
        self.evaluate(&inputs)
    }
}

const COUNTERS: &str = "counters";

/// Whether this is the counter of a batch norm whose statistics change.
fn counts(key: &str, learned: &[(String, Tensor)]) -> bool {
    let Some(layer) = key.strip_suffix("num_batches_tracked") else { return false };
    learned.iter().any(|(other, _)| other.strip_suffix("running_mean") == Some(layer))
}

/// Runs a program of one sample on each of a batch.
fn each(program: &mut Executable, name: &str, input: &Tensor) -> Result<Vec<Tensor>, Problem> {
    let count = input.shape().first().copied().unwrap_or(0);
    let mut shape = input.shape().to_vec();
    shape[0] = 1;
    let len: usize = shape.iter().product();
    let mut made: Vec<(Vec<usize>, Vec<f32>)> = vec![];
    for sample in input.data().chunks_exact(len) {
        let sample = Tensor::new(shape.clone(), sample.to_vec());
        for (at, (_, tensor)) in program.run(&[(name, &sample)])?.into_iter().enumerate() {
            if at == made.len() {
                made.push((tensor.shape().to_vec(), vec![]));
            }
            made[at].1.extend_from_slice(tensor.data());
        }
    }
    let whole = made.into_iter().map(|(mut shape, data)| {
        shape[0] = count;
        Tensor::new(shape, data)
    });
    Ok(whole.collect())
}

/// Runs a program of a fixed batch on that many samples or fewer.
fn run(program: &mut Executable, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>, Problem> {
    let batch = program.plan().batch();
    let count = inputs.first().and_then(|(_, tensor)| tensor.shape().first().copied()).unwrap_or(0);
    let full: Vec<Cow<'_, Tensor>> = inputs.iter().map(|(_, tensor)| resized(tensor, batch)).collect();
    let named: Vec<(&str, &Tensor)> =
        inputs.iter().map(|(name, _)| *name).zip(full.iter().map(AsRef::as_ref)).collect();
    let outputs = program.run(&named)?;
    Ok(outputs.into_iter().map(|(_, tensor)| resized(&tensor, count).into_owned()).collect())
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
