//! A network in training as a [`Learner`]: the trainer on what learns, the frozen prefix as an ordinary executable before
//! it. The prefix is split off whether or not its outputs are kept, and always runs on batches of one size, so that keeping
//! them changes no bit. Where layers unfreeze, a new trainer takes over what the one before has learned.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::learner::{Kept, Learner, Prefix, State, Stepped};
use super::loss::loss;
use crate::bind::Bound;
use crate::data::Targets;
use crate::diag::{Code, Problem};
use crate::exec::Executable;
use crate::exec::learning::Learns;
use crate::graph::key;
use crate::tensor::Tensor;
use crate::train::split::Split;
use crate::train::stage::Stage;
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
    stages: &'a [Stage],
    device: Arc<dyn Learns>,
    config: Config,
    batch: usize,
    pace: Pace,
    /// The name of the network's input.
    input: String,
    /// Of `stages`.
    stage: usize,
    trainer: Trainer<'a>,
    front: Option<Front<'a>>,
    /// The rest, or the whole, as it was after the last step.
    evaluator: Option<Executable>,
}

/// The frozen prefix.
struct Front<'a> {
    split: &'a Split,
    program: Executable,
    key: [u8; 32],
}

impl<'a> NetworkLearner<'a> {
    /// A learner of batches of `batch`, at the beginning of its [`stages`](crate::train::stage::stages).
    ///
    /// # Errors
    /// A loss that does not fit the network, a tensor that cannot be read, too little memory.
    pub fn new(
        stages: &'a [Stage],
        bound: &'a Bound,
        device: Arc<dyn Learns>,
        config: Config,
        batch: usize,
        pace: Pace,
    ) -> Result<NetworkLearner<'a>, Problem> {
        // the image is given as the target: the rest of a split network has it no more
        let config = Config { target_is_image: false, ..config };
        let first = &stages[0];
        let input = first.typed.graph().inputs().keys().next().cloned().unwrap_or_default();
        let front = Front::new(first, bound, device.as_ref(), batch)?;
        let trainer = Trainer::new(first.learned(), bound, device.clone(), config.clone(), batch)?;
        Ok(NetworkLearner {
            bound,
            stages,
            device,
            config,
            batch,
            pace,
            input,
            stage: 0,
            trainer,
            front,
            evaluator: None,
        })
    }

    /// Makes a stage the current one, with what has been learned.
    fn enter(&mut self, stage: usize) -> Result<(), Problem> {
        if stage == self.stage {
            return Ok(());
        }
        let (own, snapshot) = (&self.stages[stage], self.trainer.snapshot()?);
        let front = Front::new(own, self.bound, self.device.as_ref(), self.batch)?;
        let mut trainer =
            Trainer::new(own.learned(), self.bound, self.device.clone(), self.config.clone(), self.batch)?;
        trainer.adopt(&snapshot)?;
        (self.stage, self.front, self.trainer, self.evaluator) = (stage, front, trainer, None);
        Ok(())
    }

    /// How many batches a layer's batch norm has seen, by the key of its counter; None where it is no such key.
    fn counted(&self, name: &str) -> Option<u64> {
        name.strip_suffix("num_batches_tracked")?;
        let unfrozen = |stage: &&Stage| stage.learns(name);
        let since = self.stages[..=self.stage].iter().find(unfrozen)?.epoch as u64 * self.pace.steps_per_epoch;
        Some(self.trainer.steps().saturating_sub(since))
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
    fn begin_epoch(&mut self, epoch: usize) -> Result<(), Problem> {
        let stage = self.stages.iter().rposition(|stage| stage.epoch <= epoch).unwrap_or(0);
        self.enter(stage)
    }

    fn loss(&self, outputs: &Tensor, targets: &Targets) -> f64 {
        loss(&self.config.loss, outputs, targets)
    }

    fn state(&mut self) -> Result<State<'static>, Problem> {
        let Snapshot { tensors, since, steps, updates } = self.trainer.snapshot()?;
        let mut state: State<'static> =
            tensors.into_iter().map(|(key, shape, values)| (key, Kept::f32(&shape, values))).collect();
        for (key, updates) in since {
            state.insert(format!("{SINCE}{key}"), Kept::i64(&[1], vec![updates as i64]));
        }
        state.insert(COUNTERS.into(), Kept::i64(&[3], vec![steps as i64, updates as i64, self.stage as i64]));
        Ok(state)
    }

    fn restore(&mut self, state: State<'_>) -> Result<(), Problem> {
        let counters = state.get(COUNTERS).and_then(Kept::integers).map(<[i64]>::to_vec);
        let (steps, updates, stage) = match counters.as_deref() {
            Some([steps, updates, stage]) if (0..self.stages.len() as i64).contains(stage) => {
                (*steps as u64, *updates as u64, *stage as usize)
            }
            _ => return Err(Problem::new(Code::Input, format!("the checkpoint does not hold `{COUNTERS}`"))),
        };
        let (mut tensors, mut since) = (vec![], vec![]);
        for (key, kept) in state {
            match (key.strip_prefix(SINCE), kept.integers(), kept.floats()) {
                (Some(key), Some([updates]), _) => since.push((key.to_string(), *updates as u64)),
                (_, _, Some(values)) => tensors.push((key, kept.shape.clone(), values.to_vec())),
                _ => {}
            }
        }
        self.enter(stage)?;
        self.evaluator = None;
        self.trainer.restore(&Snapshot { tensors, since, steps, updates })
    }

    fn weights(&mut self) -> Result<State<'static>, Problem> {
        let learned = self.trainer.tensors(self.config.ema.is_some())?;
        let mut state = State::new();
        for (key, shape) in self.bound.keys() {
            let own = learned.iter().find(|(other, _)| other == key);
            let kept = match own {
                Some((_, tensor)) => Kept::f32(shape, tensor.data().to_vec()),
                None => {
                    let (mut values, is_counter) = self.bound.read_key(key)?;
                    if let Some(count) = self.counted(key) {
                        values.iter_mut().for_each(|value| *value += count as f32);
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
        let last = self.stages.last().expect("a run has a stage");
        self.bound.keys().map(|(key, _)| key.to_string()).filter(|key| !last.learns(key)).collect()
    }

    fn prefix(&self) -> Option<Prefix> {
        let front = self.front.as_ref()?;
        let Split { layers, shapes, .. } = front.split;
        Some(Prefix { layers: layers.clone(), len: front.split.count(), shapes: shapes.clone(), key: front.key })
    }

    fn run_prefix(&mut self, input: &Tensor) -> Result<Vec<Tensor>, Problem> {
        match &mut self.front {
            Some(front) => run(&mut front.program, &[(&self.input, input)]),
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
const SINCE: &str = "since/";

impl<'a> Front<'a> {
    fn new(stage: &'a Stage, bound: &Bound, device: &dyn Learns, batch: usize) -> Result<Option<Front<'a>>, Problem> {
        let Some(split) = &stage.split else { return Ok(None) };
        let program = Executable::new(&split.prefix, bound, device.batch_invariant().as_ref(), batch)?;
        // another device gives other bits, which must not be mixed
        let key = Sha256::new_with_prefix(split.key(bound)?).chain_update(device.name()).finalize().into();
        Ok(Some(Front { split, program, key }))
    }
}

impl Stage {
    /// What the trainer gets: what comes behind the prefix, or the whole.
    fn learned(&self) -> &Typed {
        self.split.as_ref().map_or(&self.typed, |split| &split.rest)
    }

    /// Whether a tensor or statistic changes in this stage.
    fn learns(&self, name: &str) -> bool {
        let graph = self.typed.graph();
        let own = self.typed.order().iter().filter(|id| !graph.node(**id).frozen && graph.node(**id).tied.is_none());
        own.flat_map(|id| self.typed.params(*id).into_iter().map(|param| key(&graph.node(*id).path, param.name)))
            .any(|own| own == name)
    }
}

/// Runs a program of a fixed batch on that many samples or fewer.
fn run(program: &mut Executable, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>, Problem> {
    Ok(program.run_samples(inputs)?.into_iter().map(|(_, tensor)| tensor).collect())
}
