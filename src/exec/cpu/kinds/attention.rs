//! Attention.

use super::super::kernels::{self, Heads, Mask};
use super::super::step::Opened;

super::float! {
    Attention, "attention", |own, isa, io, Opened { y, reads: [q, k, v, mask, ..], .. }| {
        let sizes = io.geometry.heads();
        let crate::plan::geometry::Heads { n, heads, dim, value_dim, queries, keys, .. } = *sizes;
        let heads = Heads { n, heads, dim, value_dim, queries, keys };
        let (q, k, v) = (io.reads[0].rows(q), io.reads[1].rows(k), io.reads[2].rows(v));
        let mask = sizes.mask.as_ref().map(|at| {
            Mask { data: mask, before: &at.before, head: at.head, query: at.query, key: at.key }
        });
        kernels::attention(isa, &heads, own.scale, q, k, v, mask, io.write.rows_mut(y));
    };
}
