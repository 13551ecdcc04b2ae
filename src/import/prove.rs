//! The proof: the trace, op by op as PyTorch defines them, beside the graph by its plain reference, on noise. Every value that
//! both have agrees, or the import fails and names the first place that does not.

use std::collections::HashMap;

use super::array::Array;
use super::draft::{Content, Draft, DraftId, Drafts, Place};
use super::eval::{self, Call};
use super::kernels::{self, Conv};
use super::lift::{Lift, Lifted};
use super::trace::{Stored, Trace, ValueId};
use crate::diag::{Code, Problem};
use crate::graph::{key, path};
use crate::ops::conv::Conv2d;
use crate::ops::shape::Shape;
use crate::ops::{Op, Operand};
use crate::tensor::Tensor;

/// How far values may lie apart, where the largest is 1.
const TOLERANCE: f64 = 1e-5;

/// The farthest that values lay apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proof {
    /// Values that were compared.
    pub compared: usize,
    /// The largest difference, where the largest value is 1.
    pub worst: f64,
}

/// Runs both.
///
/// # Errors
/// The first value that differs, by its scope.
pub fn prove(trace: &Trace, lift: &Lift) -> Result<Proof, Problem> {
    let outputs: Vec<DraftId> = lift.outputs.iter().map(|(_, id)| *id).collect();
    let live = lift.drafts.live(&outputs);
    let batch = trace.values[trace.inputs[0]].shape[0];
    let mut run = Run::new(trace, &lift.drafts, &live, batch);
    for ((at, value), (_, id)) in trace.inputs.iter().enumerate().zip(&lift.inputs) {
        let shape = trace.values[*value].shape.clone();
        let noise = noise(shape.iter().product(), at as u64 + 1);
        run.arrays[*value] = Some(Array::f32(shape.clone(), noise.clone()));
        run.tensors.insert(*id, Tensor::new(shape, noise));
    }
    // which values each node of the graph is, by the node of the trace that makes them
    let mut proof = Proof::default();
    for (at, node) in trace.nodes.iter().enumerate() {
        let Some(results) = run.trace_node(at)? else { continue };
        for (output, result) in node.outputs.iter().zip(results) {
            let Some(output) = output else { continue };
            if let Some(lifted) = lift.values[*output].as_ref().filter(|lifted| live[lifted.id]) {
                run.graph_until(lifted.id)?;
                let differs = compare(&result, lifted, run.tensors.get(&lifted.id), batch);
                match differs {
                    Some(apart) if apart <= TOLERANCE => {
                        proof.compared += 1;
                        proof.worst = proof.worst.max(apart);
                    }
                    Some(apart) => {
                        let scope = node.modules.last().map_or("", |module| module.path.as_str());
                        let message = format!(
                            "`{}` in {} differs by {apart:.1e} from what the file computes",
                            node.name,
                            scope_named(scope)
                        );
                        return Err(Problem::new(Code::Import, message)
                            .note("this is a fault of archc's importer: nothing was written"));
                    }
                    // it was used up, which an op in place did
                    None => {}
                }
            }
            run.arrays[*output] = Some(result);
        }
        run.forget(at);
    }
    Ok(proof)
}

fn scope_named(scope: &str) -> String {
    if scope.is_empty() { "the network itself".into() } else { format!("`{}`", path::display(scope)) }
}

struct Run<'a> {
    trace: &'a Trace,
    drafts: &'a Drafts,
    live: &'a [bool],
    batch: usize,
    arrays: Vec<Option<Array>>,
    /// Tensors of the file by the value that they are.
    stored: HashMap<ValueId, &'a Stored>,
    by_key: HashMap<&'a str, &'a Stored>,
    last_use: Vec<usize>,
    tensors: HashMap<DraftId, Tensor>,
    /// The next node of the graph.
    next: DraftId,
    /// The last node that takes each one.
    last_read: Vec<DraftId>,
}

impl<'a> Run<'a> {
    fn new(trace: &'a Trace, drafts: &'a Drafts, live: &'a [bool], batch: usize) -> Run<'a> {
        let mut last_use = vec![0; trace.values.len()];
        for (at, node) in trace.nodes.iter().enumerate() {
            node.takes().for_each(|value| last_use[value] = at);
        }
        let mut last_read: Vec<DraftId> = (0..drafts.nodes.len()).collect();
        for (id, node) in drafts.nodes.iter().enumerate().filter(|(id, _)| live[*id]) {
            node.ins.iter().for_each(|input| last_read[*input] = id);
        }
        Run {
            trace,
            drafts,
            live,
            batch,
            arrays: vec![None; trace.values.len()],
            stored: trace.tensors.iter().map(|stored| (stored.value, stored)).collect(),
            by_key: trace.tensors.iter().chain(&trace.unused).map(|stored| (stored.key.as_str(), stored)).collect(),
            last_use,
            tensors: HashMap::new(),
            next: 0,
            last_read,
        }
    }

    /// What a node of the trace gives; None of one that only checks.
    fn trace_node(&mut self, at: usize) -> Result<Option<Vec<Array>>, Problem> {
        let node = &self.trace.nodes[at];
        if self.trace.is_idle(at) {
            return Ok(None);
        }
        for value in node.takes() {
            if self.arrays[value].is_none()
                && let Some(stored) = self.stored.get(&value)
            {
                self.arrays[value] = Some(stored.array());
            }
        }
        let arrays = &self.arrays;
        let get = |value: ValueId| arrays[value].clone();
        let results = eval::eval(&Call { node, get: &get }).map_err(|fail| {
            let why = match fail {
                eval::Fail::Unknown => "the op is not known to the proof".to_string(),
                eval::Fail::Wrong(why) => why,
            };
            Problem::new(Code::Import, format!("`{}` (`{}`) cannot be computed: {why}", node.name, node.target))
        })?;
        for (output, result) in node.outputs.iter().zip(&results) {
            if let Some(output) = output
                && self.trace.values[*output].shape != result.shape()
            {
                let (name, wanted) = (&node.name, &self.trace.values[*output].shape);
                let message = format!("`{name}` gives {:?}, the file says {wanted:?}", result.shape());
                return Err(Problem::new(Code::Import, message).hint("the file is damaged: export and save it again"));
            }
        }
        Ok(Some(results))
    }

    /// Drops what no later node of the trace takes.
    fn forget(&mut self, at: usize) {
        for value in self.trace.nodes[at].takes() {
            if self.last_use[value] <= at {
                self.arrays[value] = None;
            }
        }
        for value in self.trace.nodes[at].outputs.iter().flatten() {
            if self.last_use[*value] <= at {
                self.arrays[*value] = None;
            }
        }
    }

    /// Runs the graph up to a node.
    fn graph_until(&mut self, id: DraftId) -> Result<(), Problem> {
        while self.next <= id {
            let at = self.next;
            self.next += 1;
            if !self.live[at] || self.tensors.contains_key(&at) {
                continue;
            }
            let draft = &self.drafts.nodes[at];
            let params = self.params(at)?;
            let ins: Vec<Operand> = draft
                .ins
                .iter()
                .map(|input| Operand { value: &self.tensors[input], batched: self.drafts.shape(*input).batched })
                .collect();
            let tensor = reference(draft, &ins, &params, self.batch);
            for input in &draft.ins {
                if self.last_read[*input] <= at {
                    self.tensors.remove(input);
                }
            }
            self.tensors.insert(at, tensor);
        }
        Ok(())
    }

    fn params(&self, id: DraftId) -> Result<Vec<Tensor>, Problem> {
        let draft = &self.drafts.nodes[id];
        let shapes: Vec<&Shape> = draft.ins.iter().map(|input| self.drafts.shape(*input)).collect();
        let decls = draft.op.params(&shapes);
        let mut params = vec![];
        for decl in decls {
            let values = match (&draft.content, &draft.place) {
                (Some(Content::Folded(array)), _) => array.to_f32(),
                (Some(Content::Stored(at)), _) => self.trace.tensors[*at].array().to_f32(),
                (None, Place::Layer { path, .. }) => match self.by_key.get(key(path, decl.name).as_str()) {
                    Some(stored) => stored.array().to_f32(),
                    // a counter, which no formula needs
                    None => vec![0.0; decl.shape.iter().product()],
                },
                _ => unreachable!("what has tensors says whose they are"),
            };
            if values.len() != decl.shape.iter().product::<usize>() {
                let message = format!("a tensor of {} is {:?} for archc", draft.op, decl.shape);
                return Err(Problem::new(Code::Import, message));
            }
            params.push(Tensor::new(decl.shape, values));
        }
        Ok(params)
    }
}

/// The op's plain reference; sums of products, which it computes in float64 one by one, in the kernels of the proof.
fn reference(draft: &Draft, ins: &[Operand<'_>], params: &[Tensor], batch: usize) -> Tensor {
    let out = draft.shape.concrete(batch);
    let bias = |has: bool| has.then(|| params[1].data());
    let conv = |conv: &Conv2d, x: &Tensor, shape: Shape, weight: &Tensor, out: &[usize], has_bias: bool| {
        let window = conv.window(&shape);
        let input: [usize; 4] = x.shape().try_into().expect("an image");
        let sizes = Conv {
            input,
            weight: weight.shape().try_into().expect("a convolution's weight"),
            stride: window.stride,
            before: [window.padding[0], window.padding[1]],
            dilation: window.dilation,
            groups: conv.groups,
            output: [out[2], out[3]],
        };
        Tensor::new(out, kernels::conv2d(x.data(), weight.data(), bias(has_bias), &sizes))
    };
    match &draft.op {
        Op::Conv2d(op) => conv(op, ins[0].value, ins[0].shape(), &params[0], &out, op.bias),
        Op::Linear(op) => {
            let k = ins[0].value.shape().last().copied().unwrap_or(1);
            Tensor::new(out, kernels::linear(ins[0].value.data(), params[0].data(), bias(op.bias), k))
        }
        Op::LinearWith(op) if op.rows.is_none() => {
            let k = ins[0].value.shape().last().copied().unwrap_or(1);
            let bias = ins.get(2).map(|bias| bias.value.data());
            Tensor::new(out, kernels::linear(ins[0].value.data(), ins[1].value.data(), bias, k))
        }
        Op::Matmul(_) => {
            let arrays = [ins[0].value, ins[1].value].map(|value| Array::f32(value.shape(), value.data().to_vec()));
            match eval::matmul(&arrays[0], &arrays[1]) {
                Ok(product) if product.shape() == out => Tensor::new(out, product.to_f32()),
                _ => eval_op(draft, ins, params, &out),
            }
        }
        Op::Attention(op) if op.heads == 1 && ins[..3].iter().all(|operand| operand.batched) => {
            let arrays: Vec<Array> =
                ins.iter().map(|operand| Array::f32(operand.value.shape(), operand.value.data().to_vec())).collect();
            let dim = ins[0].value.shape().last().copied().unwrap_or(1);
            match eval::attend(&arrays[0], &arrays[1], &arrays[2], arrays.get(3), op.scale(dim)) {
                Ok(mixed) if mixed.shape() == out => Tensor::new(out, mixed.to_f32()),
                _ => eval_op(draft, ins, params, &out),
            }
        }
        _ => eval_op(draft, ins, params, &out),
    }
}

fn eval_op(draft: &Draft, ins: &[Operand<'_>], params: &[Tensor], out: &[usize]) -> Tensor {
    draft.op.eval(ins, &params.iter().collect::<Vec<_>>(), out)
}

/// How far a value of the trace lies from its node, where the largest value is 1; None where the node's is gone.
fn compare(array: &Array, lifted: &Lifted, tensor: Option<&Tensor>, batch: usize) -> Option<f64> {
    let tensor = tensor?;
    let array = match lifted.batch {
        None => array.clone(),
        Some(fold) => {
            let dims = array.shape();
            let split = [&dims[..fold.axis], &[fold.before, batch, fold.after], &dims[fold.axis + 1..]].concat();
            let split = array.reshape(&split);
            let mut order: Vec<usize> = (0..split.rank()).collect();
            order.remove(fold.axis + 1);
            order.insert(0, fold.axis + 1);
            split.permute(&order).reshape(&[&[batch], super::lift::inner(dims, lifted.batch).as_slice()].concat())
        }
    };
    let own = Array::f32(tensor.shape(), tensor.data().to_vec()).expand(array.shape());
    let Some(own) = own else { return Some(f64::INFINITY) };
    let (theirs, ours) = (array.to_f64(), own.to_f64());
    let scale = theirs.iter().filter(|value| value.is_finite()).fold(0f64, |scale, value| scale.max(value.abs()));
    let mut apart = 0f64;
    for (a, b) in theirs.iter().zip(&ours) {
        if a == b || (a.is_nan() && b.is_nan()) {
            continue;
        }
        let difference = (a - b).abs() / scale.max(f64::MIN_POSITIVE);
        // NaN beside a number is no small difference
        apart = if difference.is_nan() { f64::INFINITY } else { apart.max(difference) };
    }
    Some(apart)
}

/// Numbers as images have them after normalisation, the same on every run.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..len).map(|_| 2.0 * next()).collect()
}
