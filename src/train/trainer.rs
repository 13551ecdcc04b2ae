//! The trainer: a network in training, its optimizer, and what is kept from step to step. It knows nothing of files, data
//! sets or epochs; whoever runs it brings batches and rates, and may take its state out and put it in again: a run that
//! goes on from there gives the bits of an unbroken one.

use std::sync::Arc;
use std::time::Duration;

use archc_base::Loss;
use rustc_hash::{FxHashMap, FxHashSet};

use super::TrainSpec;
use super::loss::Target;
use super::optimizer::Optimizer;
use crate::diag::{Code, Problem};
use crate::exec::learning::{Array, Arrays, Learning, Learns, Part, Update};
use crate::exec::{Executable, Tensors, Weights};
use crate::graph::{NodeId, key, path};
use crate::net::{self, CLOCK, Net, Node, State, backward, clock};
use crate::ops::shape::Shape;
use crate::opt;
use crate::plan::{self, Plan, View};
use crate::tensor::Tensor;
use crate::typed::Typed;

/// What a trainer does with a batch.
#[derive(Clone, Debug)]
pub struct Config {
    pub loss: Loss,
    /// The target is the network's own (first) input.
    pub target_is_image: bool,
    pub optimizer: Optimizer,
    /// The factor of each layer's rate where it is not 1.
    pub factors: Vec<(NodeId, f64)>,
    /// The seed of dropout.
    pub seed: u64,
    /// Steps whose gradients are averaged for an update.
    pub accumulate: u64,
    /// The most that the norm of all gradients may be.
    pub clip: Option<f64>,
    /// How much of the averaged weights an update keeps.
    pub ema: Option<f64>,
}

impl Config {
    /// As the `train` block says. `class_weights` are those of cross entropy.
    pub fn new(spec: &TrainSpec, class_weights: Option<Vec<f32>>) -> Config {
        let positive = |value: f64| Some(value).filter(|value| *value > 0.0);
        Config {
            loss: spec.loss.value.kernel(class_weights),
            target_is_image: spec.loss.value.target() == Target::Image,
            optimizer: spec.optimizer.value,
            factors: spec.factors.clone(),
            seed: spec.seed,
            accumulate: spec.accumulate,
            clip: positive(spec.clip),
            ema: positive(spec.average),
        }
    }
}

/// What a batch should come to.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class a sample, for cross entropy.
    Classes(&'a [usize]),
    /// Two classes a sample and the share of the first, as mixup makes them.
    Mixed { first: &'a [usize], second: &'a [usize], share: &'a [f32] },
    /// Numbers of the output's shape.
    Values(&'a Tensor),
    /// The input itself.
    Image,
}

/// What came of a step.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub loss: f64,
    /// The network's own output, where it is small: [N, classes].
    pub output: Option<Tensor>,
    /// The norm of all gradients before clipping, where it was taken.
    pub norm: Option<f64>,
}

/// Everything that a run needs to go on: tensors by name, and counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// `weight/KEY`, `moment0/KEY`, `average/KEY`, `gradient/KEY` (of updates that are not complete).
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// The keys of tensors that did not learn from the first update on, and how many came before.
    pub since: Vec<(String, u64)>,
    pub steps: u64,
    pub updates: u64,
}

/// A network in training.
pub struct Trainer<'a> {
    typed: &'a Typed,
    tensors: &'a dyn Tensors,
    device: Arc<dyn Learns>,
    config: Config,
    frozen: FxHashSet<NodeId>,
    /// States, and what is kept of them from step to step.
    learning: Box<dyn Learning>,
    /// One for each batch size that came, in the order of loading.
    programs: Vec<Program>,
    current: usize,
    layout: Vec<Kept>,
    steps: u64,
    updates: u64,
}

struct Program {
    batch: usize,
    plan: Plan,
}

/// A state with its name.
struct Kept {
    key: String,
    state: State,
    offset: usize,
    factor: f64,
    /// Updates before it learned; moments know nothing of them.
    since: u64,
}

impl Kept {
    fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.state.shape.iter().product::<usize>()
    }
}

/// The input of targets.
const TARGET: &str = "loss.target";
/// The output of the loss.
const LOSS: &str = "loss";
/// The output of what the network made of the batch.
const OUTPUT: &str = "output";

impl<'a> Trainer<'a> {
    /// A trainer of the layers of `typed` that are not frozen. Memory is that of a batch of `batch`.
    ///
    /// # Errors
    /// A loss that does not fit the network; a tensor that cannot be read; too little memory.
    pub fn new(
        typed: &'a Typed,
        tensors: &'a dyn Tensors,
        device: Arc<dyn Learns>,
        config: Config,
        batch: usize,
    ) -> Result<Trainer<'a>, Problem> {
        let graph = typed.graph();
        let frozen = typed.order().iter().copied().filter(|id| graph.node(*id).frozen).collect();
        let learning = device.learning(config.arrays());
        let mut trainer = Trainer {
            typed,
            tensors,
            device,
            config,
            frozen,
            learning,
            programs: vec![],
            current: 0,
            layout: vec![],
            steps: 0,
            updates: 0,
        };
        trainer.load(batch)?;
        let plan = &trainer.programs[0].plan;
        let states = plan.net().states.iter().zip(plan.states());
        trainer.layout = states.map(|(state, view)| trainer.kept(state, view)).collect();
        let mut floats = trainer.learning.read(Array::States)?;
        for kept in &trainer.layout {
            let own = tensors.read(kept.state.node, kept.state.index)?;
            floats[kept.range()].copy_from_slice(&own);
        }
        trainer.learning.write(Array::States, &floats)?;
        if trainer.config.ema.is_some() {
            trainer.learning.write(Array::Average, &floats)?;
        }
        Ok(trainer)
    }

    fn kept(&self, state: &State, view: &View) -> Kept {
        let name = self.typed.params(state.node)[state.index].name;
        let factor =
            self.config.factors.iter().find(|(node, _)| *node == state.node).map_or(1.0, |(_, factor)| *factor);
        let key = key(&self.typed.graph().node(state.node).path, name);
        Kept { key, state: state.clone(), offset: view.offset, factor, since: 0 }
    }

    /// Loads the program of a batch size and makes it current.
    fn load(&mut self, batch: usize) -> Result<(), Problem> {
        let plan = plan::plan(self.net()?, &self.device.learning_options(batch))?;
        let weights = Weights::new(self.typed, self.tensors, &plan)?;
        self.learning.load(&plan, &weights)?;
        self.programs.push(Program { batch, plan });
        self.current = self.programs.len() - 1;
        Ok(())
    }

    /// The net of a step: forward, loss, backward.
    fn net(&self) -> Result<Net, Problem> {
        let frozen = |node: NodeId| self.frozen.contains(&node);
        let mut net = opt::lower_training(self.typed, &frozen);
        let output = net.outputs().first().expect("a network has an output").1;
        let (shape, layers) = (net.node(output).shape.clone(), net.node(output).layers.clone());
        let is_classes = matches!(self.config.loss, Loss::CrossEntropy { .. });
        let wrong = |message: String| Err(Problem::new(Code::Train, message));
        if is_classes && (!shape.batched || shape.rank() != 2) {
            return wrong(format!("`cross_entropy` needs an output [N, classes], this network's is {shape}"));
        }
        let target = if self.config.target_is_image {
            let (name, input) = net.inputs()[0].clone();
            let given = &net.node(input).shape;
            if *given != shape {
                return wrong(format!(
                    "`target = image` needs an output like `{name}`, {given}, this network's is {shape}"
                ));
            }
            input
        } else {
            let own = if is_classes { Shape::batched([3]) } else { shape.clone() };
            net.add_input(TARGET, own, layers.clone())
        };
        let loss = net::Loss(self.config.loss.clone());
        let loss = net.add(Node::new(loss, vec![output, target], Shape::fixed([1]), layers.clone()));
        let gradient = net::LossData(self.config.loss.clone());
        let gradient = net.add(Node::new(gradient, vec![output, target], shape.clone(), layers));
        let mut outputs = vec![(LOSS.to_string(), loss)];
        if shape.rank() == 2 {
            outputs.push((OUTPUT.into(), output));
        }
        net.set_outputs(outputs);
        backward(&mut net, &[(output, gradient)], &[]);
        opt::rewrite(&mut net, self.device.learning_fusions());
        Ok(net)
    }

    /// Makes the program of a batch size the current one.
    fn switch(&mut self, batch: usize) -> Result<(), Problem> {
        match self.programs.iter().position(|program| program.batch == batch) {
            Some(at) => {
                self.learning.select(at);
                self.current = at;
                Ok(())
            }
            None => self.load(batch),
        }
    }

    /// One step: forward, backward and, where enough steps have been taken, an update with rate `lr`. `inputs` are the
    /// network's, by name, all of one batch size.
    ///
    /// # Errors
    /// Inputs or targets that do not fit; a loss that is not finite, with the layer of the first value that is not. Then
    /// nothing was updated.
    pub fn step(&mut self, inputs: &[(&str, &Tensor)], targets: Targets, lr: f64) -> Result<Outcome, Problem> {
        let clock = clock(self.config.seed, self.steps);
        let (step, typed) = (self.steps, self.typed);
        let mut outputs = self.with_batch(inputs, targets, &clock, |plan, learning, given| {
            let dims = plan.outputs().iter().map(|(_, view)| Tensor::zeros(view.dims.clone()));
            let mut outputs: Vec<Tensor> = dims.collect();
            learning.run(given, &mut outputs)?;
            let loss = f64::from(outputs[0].data()[0]);
            match loss.is_finite() {
                true => Ok(outputs.into_iter()),
                false => Err(non_finite(typed, plan, learning, given, (loss, step))),
            }
        })?;
        let loss = f64::from(outputs.next().expect("the loss is the first output").data()[0]);
        self.steps += 1;
        let norm = self.learn(lr)?;
        Ok(Outcome { loss, output: outputs.next(), norm })
    }

    /// Calls `run` with the program of a batch and its inputs in the plan's order.
    fn with_batch<T>(
        &mut self,
        inputs: &[(&str, &Tensor)],
        targets: Targets,
        clock: &[f32],
        run: impl FnOnce(&Plan, &mut dyn Learning, &[&[f32]]) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let batch = inputs.first().and_then(|(_, tensor)| tensor.shape().first().copied()).unwrap_or(0);
        if batch == 0 {
            return Err(Problem::new(Code::Input, "a batch needs 1 sample or more, got 0"));
        }
        self.switch(batch)?;
        let plan = &self.programs[self.current].plan;
        let target = self.config.target(targets, plan)?;
        let mut given: Vec<&[f32]> = vec![];
        for (name, dims) in plan.inputs() {
            let own = match name.as_str() {
                CLOCK => clock,
                TARGET => target.as_deref().unwrap_or(&[]),
                name => match inputs.iter().find(|(other, _)| *other == name) {
                    Some((_, tensor)) => tensor.data(),
                    None => return Err(Problem::new(Code::Input, format!("the network needs the input `{name}`"))),
                },
            };
            if own.len() != dims.iter().product::<usize>() {
                let message = format!("the input `{name}` needs {dims:?}, got {} values", own.len());
                return Err(Problem::new(Code::Input, message));
            }
            given.push(own);
        }
        run(plan, self.learning.as_mut(), &given)
    }

    /// The time of each of the plan's steps for a batch. Updates nothing but running statistics.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn profile(&mut self, inputs: &[(&str, &Tensor)], targets: Targets) -> Result<Vec<Duration>, Problem> {
        let clock = clock(self.config.seed, self.steps);
        self.with_batch(inputs, targets, &clock, |plan, learning, given| {
            let dims = plan.outputs().iter().map(|(_, view)| Tensor::zeros(view.dims.clone()));
            learning.profile(given, &mut dims.collect::<Vec<_>>())
        })
    }

    /// How long `count` steps of the last batch take on a device that keeps its own time, as [`Learning::device_times`]. They
    /// change what is learned.
    pub fn device_times(&mut self, lr: f64, count: usize) -> Option<Result<Vec<Duration>, Problem>> {
        let parts = self.parts(self.updates + 1);
        self.learning.device_times(&self.config.update(lr, &parts), count)
    }

    /// Counts the gradients of a step, and updates where there are enough.
    fn learn(&mut self, lr: f64) -> Result<Option<f64>, Problem> {
        let runs = self.config.accumulate.max(1);
        if runs > 1 {
            self.learning.accumulate()?;
            if !self.steps.is_multiple_of(runs) {
                return Ok(None);
            }
        }
        let parts = self.parts(self.updates + 1);
        let norm = self.learning.update(&self.config.update(lr, &parts))?;
        self.updates += 1;
        Ok(norm)
    }

    /// The learned states at update number `update`: those that lie in a row and have the same rate are one part.
    fn parts(&self, update: u64) -> Vec<Part> {
        let mut parts: Vec<(Part, u64)> = vec![];
        for kept in self.layout.iter().filter(|kept| kept.state.learned) {
            let range = kept.range();
            match parts.last_mut() {
                Some((last, since)) if last.factor == kept.factor && *since == kept.since => last.range.end = range.end,
                _ => {
                    let rule = self.config.optimizer.rule().at(update - kept.since);
                    parts.push((Part { range, factor: kept.factor, rule }, kept.since));
                }
            }
        }
        parts.into_iter().map(|(part, _)| part).collect()
    }

    /// The network in eval mode as it is now (or averaged, where that is kept), for batches of `batch`.
    ///
    /// # Errors
    /// If memory does not suffice, or a tensor cannot be read.
    pub fn evaluator(&mut self, batch: usize, averaged: bool) -> Result<Executable, Problem> {
        let values = self.values(averaged)?;
        let current = Overlay { tensors: self.tensors, layout: &self.layout, values: &values };
        Executable::new(self.typed, &current, self.device.as_ref(), batch)
    }

    /// What the states hold, or their averages.
    fn values(&mut self, averaged: bool) -> Result<Vec<f32>, Problem> {
        let averaged = averaged && self.config.ema.is_some();
        self.learning.read(if averaged { Array::Average } else { Array::States })
    }

    /// Learned tensors and running statistics by key, as they are now (or averaged).
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensors(&mut self, averaged: bool) -> Result<Vec<(String, Tensor)>, Problem> {
        let values = self.values(averaged)?;
        let one =
            |kept: &Kept| (kept.key.clone(), Tensor::new(kept.state.shape.clone(), values[kept.range()].to_vec()));
        Ok(self.layout.iter().map(one).collect())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// All arrays of a snapshot, as they are now, with their names in it.
    fn arrays(&mut self) -> Result<Vec<(Array, String, Vec<f32>)>, Problem> {
        let Arrays { moments, average, sums } = self.config.arrays();
        let mut named = vec![(Array::States, "weight".to_string())];
        named.extend((0..moments).map(|at| (Array::Moment(at), format!("moment{at}"))));
        named.extend(average.then(|| (Array::Average, "average".to_string())));
        named.extend(sums.then(|| (Array::Sums, "gradient".to_string())));
        named.into_iter().map(|(array, name)| Ok((array, name, self.learning.read(array)?))).collect()
    }

    /// Everything that a run needs to go on.
    ///
    /// # Errors
    /// If the device fails.
    pub fn snapshot(&mut self) -> Result<Snapshot, Problem> {
        let arrays = self.arrays()?;
        let mut tensors = vec![];
        for (_, what, values) in arrays {
            for kept in &self.layout {
                if let Some(own) = values.get(kept.range()) {
                    tensors.push((format!("{what}/{}", kept.key), kept.state.shape.clone(), own.to_vec()));
                }
            }
        }
        let since = self.layout.iter().filter(|kept| kept.since > 0).map(|kept| (kept.key.clone(), kept.since));
        Ok(Snapshot { tensors, since: since.collect(), steps: self.steps, updates: self.updates })
    }

    /// Goes on from a snapshot of the same network and block, with the same layers frozen.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, or not the network's. Then the trainer is as it was.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Problem> {
        self.take(snapshot, true)
    }

    /// Goes on from a snapshot of the same network with other layers frozen: what learned there keeps what it has, what
    /// did not begins now.
    ///
    /// # Errors
    /// A tensor of another shape. Then the trainer is as it was.
    pub fn adopt(&mut self, snapshot: &Snapshot) -> Result<(), Problem> {
        self.take(snapshot, false)?;
        for kept in &mut self.layout {
            let learned = format!("weight/{}", kept.key);
            if !snapshot.tensors.iter().any(|(name, ..)| *name == learned) {
                kept.since = snapshot.updates;
            }
        }
        Ok(())
    }

    fn take(&mut self, snapshot: &Snapshot, all: bool) -> Result<(), Problem> {
        let mut arrays = self.arrays()?;
        let mut found: FxHashMap<&str, (&[usize], &[f32])> = snapshot
            .tensors
            .iter()
            .map(|(name, shape, values)| (name.as_str(), (shape.as_slice(), values.as_slice())))
            .collect();
        for (_, what, values) in &mut arrays {
            for kept in &self.layout {
                let name = format!("{what}/{}", kept.key);
                // only what is learned has moments
                let Some(to) = values.get_mut(kept.range()) else { continue };
                let wanted = &kept.state.shape;
                match found.remove(name.as_str()) {
                    Some((shape, own)) if shape == wanted && own.len() == to.len() => to.copy_from_slice(own),
                    Some((shape, _)) => {
                        let message = format!("`{name}` needs the shape {wanted:?}, the checkpoint has {shape:?}");
                        return Err(Problem::new(Code::Train, message));
                    }
                    None if !all => {}
                    None => return Err(Problem::new(Code::Train, format!("the checkpoint does not hold `{name}`"))),
                }
            }
        }
        // the order of a hash map is not to be seen
        if let (true, Some(name)) = (all, found.keys().min()) {
            let message = format!("the checkpoint holds `{name}`, which the network does not learn");
            return Err(Problem::new(Code::Train, message));
        }
        for (array, _, values) in arrays {
            self.learning.write(array, &values)?;
        }
        for kept in &mut self.layout {
            kept.since = snapshot.since.iter().find(|(key, _)| *key == kept.key).map_or(0, |(_, since)| *since);
        }
        (self.steps, self.updates) = (snapshot.steps, snapshot.updates);
        Ok(())
    }

    /// The plan of a step, for tables of steps and memory.
    pub fn plan(&self) -> &Plan {
        &self.programs[self.current].plan
    }

    /// The kernel of each of the plan's steps.
    pub fn kernels(&self) -> Vec<String> {
        self.learning.kernels()
    }
}

impl Config {
    /// What is kept besides weights and their gradients.
    fn arrays(&self) -> Arrays {
        let moments = self.optimizer.rule().moments();
        Arrays { moments, average: self.ema.is_some(), sums: self.accumulate > 1 }
    }

    fn update<'p>(&self, lr: f64, parts: &'p [Part]) -> Update<'p> {
        let (weight_decay, runs) = (self.optimizer.weight_decay(), self.accumulate.max(1));
        Update { lr, weight_decay, runs, clip: self.clip, ema: self.ema, parts }
    }

    /// The values of the input [`TARGET`]; none where the target is the image.
    fn target(&self, targets: Targets, plan: &Plan) -> Result<Option<Vec<f32>>, Problem> {
        let wrong = |message: &str| Err(Problem::new(Code::Train, message));
        let Some((_, dims)) = plan.inputs().iter().find(|(name, _)| name == TARGET) else { return Ok(None) };
        let classes = match &plan.outputs().get(1) {
            Some((_, view)) => view.dims[view.dims.len() - 1],
            None => usize::MAX,
        };
        match targets {
            Targets::Classes(labels) => self.target(Targets::Mixed { first: labels, second: labels, share: &[] }, plan),
            Targets::Mixed { first, second, share } => {
                if !matches!(self.loss, Loss::CrossEntropy { .. }) {
                    return wrong("only `cross_entropy` takes classes: give it numbers of the output's shape");
                }
                if first.len() != dims[0] || second.len() != dims[0] {
                    return wrong("a class for each sample is needed");
                }
                if let Some(class) = first.iter().chain(second).find(|class| **class >= classes) {
                    let message = format!("the network has {classes} classes, a label says class {class}");
                    return Err(
                        Problem::new(Code::Train, message).hint("replace the head: `replace fc with linear(..)`")
                    );
                }
                let row = |at: usize| [first[at] as f32, second[at] as f32, share.get(at).copied().unwrap_or(1.0)];
                Ok(Some((0..dims[0]).flat_map(row).collect()))
            }
            Targets::Values(tensor) if tensor.shape() == dims.as_slice() => Ok(Some(tensor.data().to_vec())),
            Targets::Values(tensor) => {
                let message = format!("the output is {dims:?}, its target {:?}", tensor.shape());
                Err(Problem::new(Code::Train, message))
            }
            Targets::Image => wrong("the loss wants a target: `target = image` makes it the input"),
        }
    }
}

/// The problem of a loss that is not finite.
fn non_finite(
    typed: &Typed,
    plan: &Plan,
    learning: &mut dyn Learning,
    inputs: &[&[f32]],
    (loss, step): (f64, u64),
) -> Problem {
    let problem = Problem::new(Code::NonFinite, format!("the loss is {loss} at step {step}"));
    let problem = match learning.first_non_finite(inputs) {
        Some(at) => {
            let at = &plan.steps()[at];
            let layer = at.layers.first().map(|layer| path::display(&typed.graph().node(*layer).path));
            problem.note(format!("the first value that is not finite is made by `{}`", layer.unwrap_or_default()))
        }
        None => problem,
    };
    problem.hint("a smaller `lr`, or a warm-up: `schedule cosine(warmup = 1)`")
}

/// The tensors with what was learned.
struct Overlay<'t> {
    tensors: &'t dyn Tensors,
    layout: &'t [Kept],
    values: &'t [f32],
}

impl Overlay<'_> {
    fn learned(&self, node: NodeId, param: usize) -> Option<&[f32]> {
        let kept = self.layout.iter().find(|kept| (kept.state.node, kept.state.index) == (node, param))?;
        Some(&self.values[kept.range()])
    }
}

impl Tensors for Overlay<'_> {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        match self.learned(node, param) {
            Some(values) => Ok(values.to_vec()),
            None => self.tensors.read(node, param),
        }
    }
}
