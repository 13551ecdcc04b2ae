//! Recurrent layers: what each step of a sequence makes of the steps before it.

use super::shape::Shape;
use super::{Arity, Operand, Operation, bad_value, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// The recurrent part of an LSTM (Hochreiter and Schmidhuber 1997, with the forget gates of Gers et al. 2000):
    /// `lstm_scan(gates, weight)` of gates [.., L, 4 H] and a weight [4 H, H] without batch gives the hidden states
    /// [.., L, H]. The axes before are sequences of their own; a value without batch may be [L, 4 H].
    ///
    /// With h = c = 0 before the first of the L steps, each step takes the sum of its gates and weight h, in four parts
    /// i, f, g and o as PyTorch has them, and gives c = sigmoid(f) c + sigmoid(i) tanh(g) and h = sigmoid(o) tanh(c).
    ///
    /// With two pairs, `lstm_scan(gates, weight, gates_back, weight_back)`, the second runs from the last step to the first,
    /// and the result has the hidden states of both side by side, [.., L, 2 H].
    ///
    /// The gates come from a linear map of all steps at once, which takes both biases. The block `lstm` is the whole of
    /// `torch.nn.LSTM` (`aten.lstm.input`).
    pub struct LstmScan = "lstm_scan", First, aten ["lstm.input"] {
        /// whether a single pair runs from the last step to the first
        reverse: bool = "false",
    }
}

impl LstmScan {
    /// Whether the pair of operands of that number runs from the last step to the first.
    fn runs_back(&self, pair: usize) -> bool {
        self.reverse || pair == 1
    }
}

/// (steps, hidden features) of gates [.., L, 4 H].
fn sizes(gates: &Shape) -> Option<(usize, usize)> {
    let [.., steps, wide] = gates.dims[..] else { return None };
    wide.is_multiple_of(4).then_some((steps, wide / 4))
}

impl Operation for LstmScan {
    fn arity(&self) -> Arity {
        Arity::Between(2, 4)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        if ins.len() == 3 {
            let problem = mismatch("`lstm_scan` takes gates and a weight, or two such pairs, got 3 values");
            return Err(problem.hint("`lstm_scan(gates, weight, gates_back, weight_back)` runs in both directions"));
        }
        if ins.len() == 4 && self.reverse {
            let problem = bad_value("`lstm_scan` of two pairs takes no `reverse`: the second runs backwards");
            return Err(problem.hint("leave `reverse` out"));
        }
        for pair in ins.chunks_exact(2) {
            let (gates, weight) = (pair[0], pair[1]);
            let Some((_, hidden)) = sizes(gates) else {
                let problem = mismatch(format!("`lstm_scan` needs gates [.., L, 4 * hidden], got {gates}"));
                return Err(problem.hint("`linear(4 * hidden)` makes the gates of each step"));
            };
            if weight.batched || weight.dims != [4 * hidden, hidden] {
                let wanted = Shape::fixed([4 * hidden, hidden]);
                let problem =
                    mismatch(format!("`lstm_scan` needs a weight {wanted} beside gates {gates}, got {weight}"));
                return Err(problem.hint(format!("`parameter({wanted})`, as `weight_hh_l0` of PyTorch is")));
            }
        }
        if ins.len() == 4 && ins[0] != ins[2] {
            let message =
                format!("`lstm_scan` needs gates of one shape in both directions, got {} and {}", ins[0], ins[2]);
            return Err(mismatch(message));
        }
        let hidden = ins.iter().skip(1).step_by(2).map(|weight| weight.dims[1]).sum();
        Ok(ins[0].with_last(&[hidden]))
    }

    /// Of the products with the weight, one a step.
    fn macs(&self, ins: &[&Shape], _out: &Shape) -> u64 {
        let of = |pair: &[&Shape]| (pair[0].len() as u64).saturating_mul(pair[1].dims[1] as u64);
        ins.chunks_exact(2).map(of).fold(0, u64::saturating_add)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let (steps, hidden) = sizes(&ins[0].shape()).expect("the shape was inferred");
        let width = out[out.len() - 1];
        let mut result = Tensor::zeros(out);
        for (at, pair) in ins.chunks_exact(2).enumerate() {
            let weight = pair[1].value.data();
            let sequences = pair[0].value.data().chunks_exact(steps * 4 * hidden);
            for (gates, states) in sequences.zip(result.data_mut().chunks_exact_mut(steps * width)) {
                let (mut h, mut c) = (vec![0f64; hidden], vec![0f64; hidden]);
                for step in 0..steps {
                    let step = if self.runs_back(at) { steps - 1 - step } else { step };
                    let sums: Vec<f64> = gates[step * 4 * hidden..][..4 * hidden]
                        .iter()
                        .zip(weight.chunks_exact(hidden))
                        .map(|(gate, row)| {
                            let product = row.iter().zip(&h).map(|(weight, h)| f64::from(*weight) * h).sum::<f64>();
                            f64::from(*gate) + product
                        })
                        .collect();
                    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
                    for unit in 0..hidden {
                        let [i, f, g, o] = [0, 1, 2, 3].map(|part| sums[part * hidden + unit]);
                        c[unit] = sigmoid(f) * c[unit] + sigmoid(i) * g.tanh();
                        h[unit] = sigmoid(o) * c[unit].tanh();
                        states[step * width + at * hidden + unit] = h[unit] as f32;
                    }
                }
            }
        }
        result
    }
}
