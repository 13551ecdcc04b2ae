//! Every rule, with the kernels that it asks for, against differences of the forward pass: five points, whose differences
//! and sums are in float64, on every sample of every op. What rounding to float32 leaves of them decides the tolerance.

mod golden;

use crate::diag::Problem;
use crate::exec::cpu::{Cpu, Training};
use crate::exec::testing::{Random, SAMPLES, noise, sample_network};
use crate::exec::{Backend, Tensors, Weights, reference};
use crate::graph::NodeId;
use crate::net::{CLOCK, Id, Net, backward};
use crate::opt;
use crate::opt::testing::network;
use crate::plan::{self, Plan};
use crate::tensor::Tensor;
use crate::typed::Typed;

/// One number of one tensor moved.
struct Moved<'a> {
    typed: &'a Typed,
    tensor: (NodeId, usize),
    at: usize,
    by: f32,
}

impl Tensors for Moved<'_> {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let mut values = Random(self.typed).read(node, param)?;
        if (node, param) == self.tensor {
            values[self.at] += self.by;
        }
        Ok(values)
    }
}

/// A network in training whose loss is the sum of its outputs times fixed numbers.
struct Case<'a> {
    typed: &'a Typed,
    plan: Plan,
    training: Training,
    inputs: Vec<(String, Tensor)>,
    factors: Vec<Tensor>,
}

/// The loss of tensors and inputs.
type LossOf<'a> = dyn FnMut(&mut Case<'a>, &dyn Tensors, &[(String, Tensor)]) -> f64;

const BATCH: usize = 2;

impl<'a> Case<'a> {
    fn new(typed: &'a Typed, frozen: &dyn Fn(NodeId) -> bool) -> Case<'a> {
        Case::with(typed, &Random(typed), frozen, BATCH)
    }

    fn with(typed: &'a Typed, tensors: &dyn Tensors, frozen: &dyn Fn(NodeId) -> bool, batch: usize) -> Case<'a> {
        let mut net = opt::lower_training(typed, frozen);
        let wanted: Vec<(String, Id)> = net.inputs().iter().filter(|(name, _)| name != CLOCK).cloned().collect();
        let mut seeds = vec![];
        for (name, value) in net.outputs().to_vec() {
            let shape = net.node(value).shape.clone();
            let seed = net.add_input(format!("d.{name}"), shape, vec![]);
            seeds.push((value, seed));
        }
        let ids: Vec<Id> = wanted.iter().map(|(_, id)| *id).collect();
        let gradients = backward(&mut net, &seeds, &ids);
        let mut outputs = net.outputs().to_vec();
        for ((name, _), gradient) in wanted.iter().zip(gradients) {
            outputs.extend(gradient.map(|id| (format!("d.{name}"), id)));
        }
        net.set_outputs(outputs);
        opt::rewrite(&mut net, Cpu::new().fusions());
        Case::load(typed, tensors, net, batch)
    }

    fn load(typed: &'a Typed, tensors: &dyn Tensors, net: Net, batch: usize) -> Case<'a> {
        let cpu = Cpu::new();
        let plan = plan::plan(net, &cpu.options(batch)).expect("small");
        if std::env::var("ARCHC_DUMP").is_ok() {
            eprintln!("{}{}", plan.net().dump(typed), plan.dump(typed));
        }
        let mut training =
            cpu.load_training(&plan, &Weights::new(typed, tensors, &plan).expect("small")).expect("small");
        let (states, _) = training.kept();
        for (state, view) in plan.net().states.iter().zip(plan.states()) {
            let values = tensors.read(state.node, state.index).expect("made of names");
            states[view.offset..][..values.len()].copy_from_slice(&values);
        }
        let make = |(at, (name, dims)): (usize, &(String, Vec<usize>))| {
            let len = dims.iter().product();
            let values = if name == CLOCK { vec![7.0; len] } else { noise(len, 1 << 40 | at as u64) };
            (name.clone(), Tensor::new(dims.clone(), values))
        };
        let inputs: Vec<(String, Tensor)> = plan.inputs().iter().enumerate().map(make).collect();
        let factors =
            inputs.iter().filter(|(name, _)| name.starts_with("d.")).map(|(_, value)| value.clone()).collect();
        Case { typed, plan, training, inputs, factors }
    }

    /// Every output of a run.
    fn run(&mut self, inputs: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
        let dims = self.plan.outputs().iter().map(|(_, view)| Tensor::zeros(view.dims.clone()));
        let mut outputs: Vec<Tensor> = dims.collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(|(_, value)| value.data()).collect();
        self.training.run(&inputs, &mut outputs).expect("nothing to fail");
        self.plan.outputs().iter().map(|(name, _)| name.clone()).zip(outputs).collect()
    }

    fn loss_of(&self, outputs: &[(String, Tensor)]) -> f64 {
        let pairs = outputs.iter().zip(&self.factors);
        let dot = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
        pairs.map(|((_, y), factor)| y.data().iter().zip(factor.data()).map(dot).sum::<f64>()).sum()
    }

    /// The loss by the reference, in eval mode.
    fn reference(&self, tensors: &dyn Tensors, inputs: &[(String, Tensor)]) -> f64 {
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, value)| (name.as_str(), value)).collect();
        self.loss_of(&reference::run(self.typed, tensors, BATCH, &inputs).expect("nothing to fail"))
    }

    /// Compares every gradient with differences; `loss` is that of tensors and inputs. Returns how many were compared.
    /// Where dropout is `drawn` the loss knows no other tensors.
    fn check(&mut self, text: &str, drawn: bool, loss: &mut LossOf<'a>) -> usize {
        let (given, inputs) = (self.inputs.clone(), self.inputs.clone());
        let got = self.run(&given);
        let mut compared = 0;
        for (at, (name, value)) in
            given.iter().enumerate().filter(|(_, (name, _))| !name.starts_with("d.") && name != CLOCK)
        {
            let Some((_, got)) = got.iter().find(|(other, _)| *other == format!("d.{name}")) else { continue };
            let random = Random(self.typed);
            let mut moved = |case: &mut Self, index: usize, by: f32| {
                let mut inputs = inputs.clone();
                let mut values = value.clone();
                values.data_mut()[index] += by;
                inputs[at].1 = values;
                loss(case, &random, &inputs)
            };
            compared += compare(got.data(), &format!("{name} of {text}"), &mut |index, by| moved(self, index, by));
        }
        let states: Vec<_> = self.plan.net().states.clone().into_iter().zip(self.plan.states().to_vec()).collect();
        for (state, view) in states.iter().filter(|(state, _)| state.learned && !drawn) {
            let len: usize = state.shape.iter().product();
            let got = self.training.kept().1[view.offset..][..len].to_vec();
            let (typed, tensor) = (self.typed, (state.node, state.index));
            let what = format!(
                "{}.{} of {text}",
                typed.graph().node(state.node).path,
                typed.params(state.node)[state.index].name
            );
            compared += compare(&got, &what, &mut |at, by| loss(self, &Moved { typed, tensor, at, by }, &inputs));
        }
        compared
    }
}

/// Compares some gradients with differences.
fn compare(got: &[f32], what: &str, loss: &mut dyn FnMut(usize, f32) -> f64) -> usize {
    let count = got.len().min(5);
    let mut pairs = vec![];
    for i in 0..count {
        let at = (i * got.len() / count + i * 7) % got.len();
        let here = loss(at, 0.0);
        // the gradient, and how much it differs from one side to the other
        let mut difference = |h: f32| {
            let [up, down, up2, down2] = [h, -h, 2.0 * h, -2.0 * h].map(|by| loss(at, by));
            let h = f64::from(h);
            ((8.0 * (up - down) - (up2 - down2)) / (12.0 * h), ((up + down - 2.0 * here) / h).abs())
        };
        let ((wide, bend), (near, less)) = (difference(1.0 / 128.0), difference(1.0 / 256.0));
        let tolerance = 1e-3 * near.abs().max(0.1);
        // beside a kink there is no gradient: the sides differ as much from nearby
        if (wide - near).abs() <= 0.5 * tolerance && less <= 0.75 * bend + tolerance {
            pairs.push((at, near, f64::from(got[at])));
        }
    }
    let scale = pairs.iter().map(|(_, want, _)| want.abs()).fold(0.05, f64::max);
    for (at, want, got) in &pairs {
        assert!((want - got).abs() <= 1e-3 * scale, "gradient by number {at} of {what}: {got}, by differences {want}");
    }
    pairs.len()
}

fn check(text: &str) {
    let typed = network(text);
    let mut case = Case::new(&typed, &|_| false);
    let gradients = case.plan.net().states.iter().filter(|state| state.learned).count();
    if gradients == 0 && case.plan.outputs().len() == case.factors.len() {
        // nothing that could be moved
        return;
    }
    let drawn = text.contains("dropout") || text.contains("stochastic_depth");
    if !drawn {
        // the same forward pass as in eval mode
        let inputs = case.inputs.clone();
        let outputs = case.run(&inputs);
        let (got, want) = (case.loss_of(&outputs), case.reference(&Random(&typed), &inputs));
        if want.is_nan() {
            // an index beyond its table
            return;
        }
        assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "the forward pass of {text}: {got}, not {want}");
    }
    let compared = if drawn {
        // drawn by the same clock again: only inputs move
        case.check(text, true, &mut |case, _, inputs| {
            let outputs = case.run(inputs);
            case.loss_of(&outputs)
        })
    } else {
        case.check(text, false, &mut |case, tensors, inputs| case.reference(tensors, inputs))
    };
    assert!(compared > 0, "nothing was compared of {text}");
}

#[test]
fn every_op_is_differentiated() {
    // batch norm in training is another function than its reference, and has a test of its own
    for (call, operands) in SAMPLES.iter().filter(|(call, _)| !call.starts_with("batch_norm")) {
        sample_network(call, operands).iter().for_each(|text| check(text));
    }
}

#[test]
fn batch_norms_take_the_statistics_of_the_batch() {
    for (call, dims, axis) in [
        ("batch_norm2d(affine = false)", "[5, 3, 4]", 1),
        ("batch_norm1d", "[5]", 1),
        ("batch_norm1d(affine = false)", "[5, 7]", 1),
        ("batch_norm1d(axis = 2, affine = false)", "[7, 5]", 2),
    ] {
        // and something that learns
        let text = format!("x = input({dims})\n y = {call} <- x\n u = prelu <- x\n ! y");
        let typed = network(&text);
        let mut case = Case::with(&typed, &Random(&typed), &|_| false, 6);
        let states = case.training.kept().0.to_vec();
        let given = case.inputs.clone();
        let outputs = case.run(&given);
        let of_channel = |value: &Tensor, channel: usize| -> (f64, f64) {
            let inner: usize = value.shape()[axis + 1..].iter().product();
            let own = value.data().iter().enumerate().filter(|(at, _)| at / inner % 5 == channel);
            let own: Vec<f64> = own.map(|(_, value)| f64::from(*value)).collect();
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            (mean, own.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / own.len() as f64)
        };
        let kept = case.training.kept().0.to_vec();
        let views: Vec<_> = case.plan.net().states.iter().zip(case.plan.states()).collect();
        let is_norm = |node: NodeId| typed.graph().node(node).op.name().starts_with("batch_norm");
        let at = |role: &str| {
            let named = |node: NodeId, index: usize| typed.params(node)[index].name == role;
            views
                .iter()
                .find(|(state, _)| is_norm(state.node) && named(state.node, state.index))
                .map(|(_, view)| view.offset)
        };
        let output = &outputs.iter().find(|(name, _)| name == "y").expect("the output").1;
        let input = &given.iter().find(|(name, _)| name == "x").expect("the input").1;
        for channel in 0..5 {
            let (mean, variance) = of_channel(output, channel);
            let of = |state: Option<usize>, none: f32| state.map_or(none, |at| states[at + channel]);
            let (weight, bias) = (f64::from(of(at("weight"), 1.0)), f64::from(of(at("bias"), 0.0)));
            assert!((mean - bias).abs() < 1e-5, "{call}: mean {mean} of channel {channel}, not {bias}");
            assert!((variance / weight.powi(2) - 1.0).abs() < 1e-3, "{call}: variance {variance} of {channel}");
            let running = at("running_mean").expect("it has one") + channel;
            let want = 0.9 * f64::from(states[running]) + 0.1 * of_channel(input, channel).0;
            assert!((f64::from(kept[running]) - want).abs() < 1e-5, "{call}: the running mean of {channel}");
        }
        let compared = case.check(&text, true, &mut |case, _, inputs| {
            let outputs = case.run(inputs);
            case.loss_of(&outputs)
        });
        assert!(compared > 0, "{call}");
    }
}
