//! Self-attention.

use super::dropout::probability;
use super::init::Init;
use super::shape::Shape;
use super::{Operand, Operation, ParamDecl, mismatch, op};
use crate::diag::Problem;
use crate::tensor::Tensor;

op! {
    /// Self-attention of tokens [N, L, features], as `torch.nn.MultiheadAttention` with `batch_first` and the value as
    /// query, key and value (Vaswani et al. 2017).
    ///
    /// x `in_proj_weight`^T + `in_proj_bias` gives queries, keys and values side by side, each cut into `heads` equal
    /// parts. A head is softmax(Q K^T / sqrt(features / heads)) V; the heads side by side go through `out_proj`.
    pub struct MultiHeadAttention = "multi_head_attention", First {
        /// number of heads; the number of features must be divisible by it
        heads: usize,
        /// in training, probability that an attention weight is zeroed
        dropout: f64 = "0",
        /// how fresh weights are filled; PyTorch's default where none
        init: Option<Init> = "none",
    }
}

impl Operation for MultiHeadAttention {
    fn check(&self) -> Result<(), Problem> {
        probability("dropout", "multi_head_attention", self.dropout)
    }

    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let (true, &[_, features]) = (ins[0].batched, ins[0].dims.as_slice()) else {
            return Err(mismatch(format!("`multi_head_attention` needs [N, L, features], got {}", ins[0])));
        };
        if features % self.heads != 0 {
            let heads = self.heads;
            return Err(mismatch(format!(
                "`multi_head_attention` needs features divisible by {heads} heads, got {features}"
            )));
        }
        Ok(ins[0].clone())
    }

    fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        let features = ins[0].last().unwrap_or(1);
        let bound = 1.0 / (features as f64).sqrt();
        let (into, out) = match &self.init {
            Some(init) => (init.clone(), init.clone()),
            None => (Init::XavierUniform, Init::Uniform { bound }),
        };
        vec![
            ParamDecl::weight("in_proj_weight", [features.saturating_mul(3), features], into),
            ParamDecl::weight("in_proj_bias", [features.saturating_mul(3)], Init::Zeros),
            ParamDecl::weight("out_proj.weight", [features, features], out),
            ParamDecl::weight("out_proj.bias", [features], Init::Zeros),
        ]
    }

    /// Both projections and both products.
    fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        let (tokens, features) = (ins[0].dims[0] as u64, ins[0].dims[1] as u64);
        (out.len() as u64).saturating_mul(features.saturating_mul(4).saturating_add(tokens.saturating_mul(2)))
    }

    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        let &[n, tokens, features] = out else { unreachable!("the shape was inferred") };
        let head = features / self.heads;
        let mut result = Vec::with_capacity(n * tokens * features);
        for sample in ins[0].value.data().chunks_exact(tokens * features) {
            let sample: Vec<f64> = sample.iter().map(|value| *value as f64).collect();
            // [L, 3, heads, head]
            let qkv = project(&sample, features, params[0], params[1]);
            let mut mixed = vec![0.0; tokens * features];
            for at in 0..self.heads {
                let part = |which: usize, token: usize| {
                    let start = token * 3 * features + which * features + at * head;
                    &qkv[start..start + head]
                };
                for query in 0..tokens {
                    let score = |key: usize| {
                        let dot: f64 = part(0, query).iter().zip(part(1, key)).map(|(q, k)| q * k).sum();
                        dot / (head as f64).sqrt()
                    };
                    let scores: Vec<f64> = (0..tokens).map(score).collect();
                    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let total: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                    for (key, score) in scores.iter().enumerate() {
                        let weight = (score - max).exp() / total;
                        let row = &mut mixed[query * features + at * head..][..head];
                        row.iter_mut().zip(part(2, key)).for_each(|(sum, v)| *sum += weight * v);
                    }
                }
            }
            result.extend(project(&mixed, features, params[2], params[3]).iter().map(|value| *value as f32));
        }
        Tensor::new(out, result)
    }
}

/// x W^T + b for every row of `x`.
fn project(x: &[f64], features: usize, weight: &Tensor, bias: &Tensor) -> Vec<f64> {
    let mut result = vec![];
    for row in x.chunks_exact(features) {
        for (weights, bias) in weight.data().chunks_exact(features).zip(bias.data()) {
            let sum: f64 = row.iter().zip(weights).map(|(x, w)| x * *w as f64).sum();
            result.push(sum + *bias as f64);
        }
    }
    result
}
