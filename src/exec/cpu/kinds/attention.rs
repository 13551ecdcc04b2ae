//! Attention.

use super::super::kernels::{self, Heads};
use super::super::step::Opened;

super::float! {
    Attention, "attention", |own, isa, io, Opened { y, reads: [q, k, v, ..], .. }| {
        let [from_q, from_k, from_v] = &io.reads[..] else { unreachable!("three operands") };
        let dims = &from_q.dims;
        let heads =
            Heads { n: dims[0], heads: own.heads, dim: dims[2] / own.heads, queries: dims[1], keys: from_k.dims[1] };
        let (q, k, v) = (from_q.rows(q), from_k.rows(k), from_v.rows(v));
        kernels::attention(isa, &heads, own.scale, q, k, v, io.write.rows_mut(y));
    };
}
