//! Attention.

use super::dropout::probability;
use super::join::{pair, steps};
use super::shape::Shape;
use super::{Arity, Operand, Operation, bad_value, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Scaled dot-product attention (Vaswani et al. 2017), `attention(q, k, v)` or `attention(q, k, v, mask)`: in each head
    /// softmax(q k^T scale + mask) v.
    ///
    /// q is [.., L, heads * d], k [.., S, heads * d], v [.., S, heads * dv], the heads side by side in the last axis, and
    /// the result [.., L, heads * dv]. The axes before the last two are the same in all three, but that a first axis of 1 of
    /// a value without batch is broadcast to the batch (learned queries, [1, L, heads * d]).
    ///
    /// The mask, or a bias, is added to the scores [.., heads, L, S], to which it is broadcast from the right; with one head
    /// the scores are [.., L, S]. A query whose scores are all -inf has no weights, and its result is NaN.
    ///
    /// With `heads = 1` and q, k, v [N, H, L, d] it is `aten.scaled_dot_product_attention`.
    pub struct Attention = "attention", First, aten ["scaled_dot_product_attention", "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"] {
        /// number of heads; the last axes must be divisible by it
        heads: usize = "1",
        /// what the products are multiplied by; 1 / sqrt(d) where none
        scale: Option<f64> = "none",
        /// in training, probability that an attention weight is zeroed
        dropout: f64 = "0",
    }
}

/// The sizes of an attention: of every head of every one of the values before the last two axes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
}

impl Attention {
    /// What the products of heads of `dim` are multiplied by.
    pub fn scale(&self, dim: usize) -> f64 {
        self.scale.unwrap_or(1.0 / (dim as f64).sqrt())
    }

    /// The shape of the scores of a result [.., L, heads * dv]: [.., heads, L, S], without heads where there is one.
    pub fn scores(&self, out: &Shape, keys: usize) -> Shape {
        let (before, inner) = out.dims.split_at(out.dims.len() - 2);
        let mut dims = before.to_vec();
        dims.extend((self.heads > 1).then_some(self.heads));
        dims.extend([inner[0], keys]);
        Shape { batched: out.batched, dims }
    }

    fn sizes(&self, ins: &[&Shape]) -> Sizes {
        let end = |shape: &Shape, at: usize| shape.dims[shape.dims.len() - at];
        let (queries, keys) = (end(ins[0], 2), end(ins[1], 2));
        Sizes { queries, keys, dim: end(ins[0], 1) / self.heads, value_dim: end(ins[2], 1) / self.heads }
    }
}

/// A value with the batch that the others have: [1, ..] without one stands for every sample.
fn across_batch(shape: &Shape, batched: bool) -> Option<Shape> {
    match (shape.batched, batched) {
        (false, true) if shape.dims.first() == Some(&1) => Some(Shape::batched(shape.dims[1..].to_vec())),
        (false, true) => None,
        _ => Some(shape.clone()),
    }
}

impl Operation for Attention {
    fn arity(&self) -> Arity {
        Arity::Between(3, 4)
    }

    fn check(&self) -> Result<(), Problem> {
        if let Some(scale) = self.scale.filter(|scale| !(*scale as f32 > 0.0 && (*scale as f32).is_finite())) {
            return Err(bad_value(format!("`scale` of `attention` needs a number above 0, got {scale}")));
        }
        probability("dropout", "attention", self.dropout)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let batched = ins[..3].iter().any(|shape| shape.batched);
        let (asked, heads) = ("[.., L, heads * d], [.., S, heads * d] and [.., S, heads * dv]", self.heads);
        let wrong =
            || mismatch(format!("`attention` needs q, k and v as {asked}, got {}, {} and {}", ins[0], ins[1], ins[2]));
        let whole: Vec<Shape> =
            ins[..3].iter().map(|shape| across_batch(shape, batched).ok_or_else(wrong)).collect::<Result<_, _>>()?;
        let [q, k, v] = &whole[..] else { unreachable!("three of three or four") };
        if whole.iter().any(|shape| shape.dims.len() < 2) {
            return Err(wrong());
        }
        let before = |shape: &Shape| shape.dims[..shape.dims.len() - 2].to_vec();
        let tokens = |shape: &Shape| shape.dims[shape.dims.len() - 2];
        if before(q) != before(k) || before(q) != before(v) || tokens(k) != tokens(v) || q.last() != k.last() {
            return Err(wrong());
        }
        for (name, shape) in [("q", q), ("v", v)] {
            let features = shape.last().unwrap_or(1);
            if features % heads != 0 {
                return Err(mismatch(format!(
                    "`attention` needs {name} divisible by {heads} heads, got {features} features"
                )));
            }
        }
        if let Some(mask) = ins.get(3) {
            let scores = self.scores(q, tokens(k));
            // the batch is the first axis of both
            let aligned = !mask.batched || mask.rank() == scores.rank();
            if !aligned || pair(&scores, mask, false).as_ref() != Some(&scores) {
                let message = format!("`attention` needs a mask that is broadcast to the scores {scores}, got {mask}");
                return Err(mismatch(message));
            }
        }
        let last = q.rank() - 1;
        Ok(q.with_axis(last, v.last().unwrap_or(1)))
    }

    fn is_random(&self) -> bool {
        self.dropout > 0.0
    }

    fn is_elementwise(&self) -> bool {
        false
    }

    /// Both products.
    fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        let Sizes { keys, dim, value_dim, .. } = self.sizes(ins);
        let pairs = (out.len() / value_dim.max(1)) as u64;
        pairs.saturating_mul(keys as u64).saturating_mul((dim + value_dim) as u64)
    }

    fn eval(&self, ins: &[Operand<'_>], _params: &[&Tensor], out: &[usize]) -> Tensor {
        let shapes: Vec<Shape> = ins.iter().map(Operand::shape).collect();
        let Sizes { queries, keys, dim, value_dim } = self.sizes(&shapes.iter().collect::<Vec<_>>());
        let (heads, scale) = (self.heads, self.scale(dim));
        let before = &out[..out.len() - 2];
        // [.., heads, L, S], where the mask has its values
        let mut scores: Vec<usize> = before.to_vec();
        scores.extend((heads > 1).then_some(heads));
        scores.extend([queries, keys]);
        let mask = ins.get(3).map(|mask| (mask.value.data(), steps(mask.value.shape(), &scores, false)));
        let mut result = Tensor::zeros(out);
        for one in 0..before.iter().product() {
            let rows = |at: usize, tokens: usize, features: usize| {
                let (values, len) = (ins[at].value.data(), tokens * features);
                // what has no batch stands for every sample
                let from = one * len % values.len();
                &values[from..from + len]
            };
            let q = rows(0, queries, heads * dim);
            let k = rows(1, keys, heads * dim);
            let v = rows(2, keys, heads * value_dim);
            for (head, query) in (0..heads).flat_map(|head| (0..queries).map(move |query| (head, query))) {
                let score = |key: usize| {
                    let (q, k) = (&q[(query * heads + head) * dim..][..dim], &k[(key * heads + head) * dim..][..dim]);
                    let dot: f64 = q.iter().zip(k).map(|(q, k)| *q as f64 * *k as f64).sum();
                    let added = mask.as_ref().map_or(0.0, |(values, steps)| {
                        let mut at = one;
                        let mut index: Vec<usize> = before.iter().rev().map(|len| (at % len, at /= len).0).collect();
                        index.reverse();
                        index.extend((heads > 1).then_some(head));
                        index.extend([query, key]);
                        values[index.iter().zip(steps).map(|(at, step)| at * step).sum::<usize>()] as f64
                    });
                    dot * scale + added
                };
                let scores: Vec<f64> = (0..keys).map(score).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                let mut mixed = vec![0.0; value_dim];
                for (key, score) in scores.iter().enumerate() {
                    let weight = (score - max).exp() / total;
                    let row = &v[(key * heads + head) * value_dim..][..value_dim];
                    mixed.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * *v as f64);
                }
                let at = ((one * queries + query) * heads + head) * value_dim;
                let to = &mut result.data_mut()[at..at + value_dim];
                to.iter_mut().zip(mixed).for_each(|(to, mixed)| *to = mixed as f32);
            }
        }
        result
    }
}
