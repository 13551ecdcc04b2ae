//! Attention of several heads, without the matrix of scores in memory.
//!
//! Formula   out[i] = sum over j of softmax over j of (q[i] k[j] scale) * v[j], for each image and head
//! Shape     a task is one head of one image (or a part of its queries where there are few heads): keys and values are
//!           packed once, then blocks of queries go through scores, softmax and values within L2

use super::bf16::simd::Unit;
use super::direct::{Epilogue, Extra, Job, Source, panel_cols};
use super::gemm::Right;
use super::norm::{RowKind, RowTask};
use super::par::{Shared, scratch, tasks};
use super::simd::Isa;
use super::view::{Rows, RowsMut};

/// The sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Images (or windows).
    pub n: usize,
    pub heads: usize,
    /// Channels of a head.
    pub dim: usize,
    /// Rows of queries, and of keys and values, of one image.
    pub queries: usize,
    pub keys: usize,
}

/// `softmax(q k^T scale) v`; rows of `q` and `out` are [n, queries], of `k` and `v` [n, keys]; columns [heads, dim].
pub fn attention(isa: Isa, shape: &Heads, scale: f32, q: Rows, k: Rows, v: Rows, out: RowsMut) {
    let Heads { n, heads, dim, queries, keys } = *shape;
    for rows in [&q, &k, &v] {
        rows.check();
    }
    out.check();
    let cols = heads * dim;
    assert!(
        q.rows == n * queries && out.rows == q.rows && q.cols == cols && out.cols == cols,
        "queries of other sizes"
    );
    assert!(k.rows == n * keys && v.rows == k.rows && k.cols == cols && v.cols == cols, "keys of other sizes");
    if out.rows * cols == 0 {
        return;
    }
    assert!(keys > 0, "attention to nothing");
    let unit = Unit::from(isa);
    let kb = panel_cols(unit);
    let mr = isa.tile_rows();
    // Scores of one block: at most 128 KiB, but for very many keys.
    let block = ((32 << 10) / keys / mr * mr).max(mr);
    let parts = if n * heads >= 8 { 1 } else { queries.div_ceil(block) };
    let (k_len, v_len) = (keys.div_ceil(kb) * dim * kb, dim.div_ceil(kb) * keys * kb);
    let y = Shared(out.data.as_mut_ptr());
    let epilogue = Epilogue::default();
    tasks(n * heads * parts, |task| {
        let (image, head, part) = (task / parts / heads, task / parts % heads, task % parts);
        let (first, last) = (queries * part / parts, queries * (part + 1) / parts);
        let at = head * dim;
        scratch(k_len + v_len + block * keys, |memory| {
            let (packed_k, memory) = memory.split_at_mut(k_len);
            let (packed_v, scores) = memory.split_at_mut(v_len);
            for (p, panel) in packed_k.chunks_mut(dim * kb).enumerate() {
                Right::Nk(head_of(k, image * keys, keys, at, dim)).pack::<f32>(p * kb, keys, panel, kb, scale);
            }
            for (p, panel) in packed_v.chunks_mut(keys * kb).enumerate() {
                Right::Kn(head_of(v, image * keys, keys, at, dim)).pack::<f32>(p * kb, dim, panel, kb, 1.0);
            }
            for i in (first..last).step_by(block) {
                let rows = block.min(last - i);
                let row = image * queries + i;
                let product = |x: *const f32, stride, depth, cols, w: &[f32], y: *mut f32, y_stride| Job {
                    unit,
                    source: Source::Rows { x, stride },
                    groups: 1,
                    rows,
                    images: 1,
                    taps: 1,
                    depth,
                    cols,
                    w: w.as_ptr(),
                    y: Shared(y),
                    y_stride,
                    epilogue: &epilogue,
                    extra: Extra::default(),
                };
                let scores = scores.as_mut_ptr();
                // SAFETY: the views were checked; `scores` has room for `rows` rows of `keys`, and the rows and
                // columns of the output are this task's.
                unsafe {
                    product(q.at(row).wrapping_add(at), q.stride, dim, keys, packed_k, scores, keys).run_here();
                    for r in 0..rows {
                        let row = scores.add(r * keys);
                        isa.run(RowTask { x: row, y: row, cols: keys, kind: RowKind::Softmax });
                    }
                    let y = y.at(row * out.stride + at);
                    product(scores, keys, keys, dim, packed_v, y, out.stride).run_here();
                }
            }
        });
    });
}

/// `len` rows from `first` on, `dim` columns from `at` on. The data ends with the last row's columns, as the rows may be a
/// part of a wider buffer.
fn head_of(m: Rows<'_>, first: usize, len: usize, at: usize, dim: usize) -> Rows<'_> {
    let start = first * m.stride + at;
    Rows { data: &m.data[start..][..(len - 1) * m.stride + dim], rows: len, cols: dim, stride: m.stride }
}
