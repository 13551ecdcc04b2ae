//! Attention of several heads, without the matrix of scores in memory.
//!
//! Formula   out[i] = sum over j of softmax over j of (q[i] k[j] scale + mask[i][j]) * v[j], for each image and head
//! Shape     a task is one head of one image (or a part of its queries where there are few heads): keys and values are
//!           packed once, then blocks of queries go through scores, softmax and values within L2; the mask is the
//!           residual of the product that makes the scores

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
    /// Channels of a head of queries and keys.
    pub dim: usize,
    /// Channels of a head of values.
    pub value_dim: usize,
    /// Rows of queries, and of keys and values, of one image.
    pub queries: usize,
    pub keys: usize,
}

/// Values that are added to the scores: that of an image, a head, a query and a key lies at the sum of these times their
/// strides; 0 where it is the same for all.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    pub data: &'a [f32],
    /// Length and stride of each axis that images are counted by, from the outermost.
    pub before: &'a [(usize, usize)],
    pub head: usize,
    pub query: usize,
    /// 1 or 0.
    pub key: usize,
}

impl Mask<'_> {
    /// Where the values of an image begin.
    fn start(&self, mut image: usize) -> usize {
        let mut start = 0;
        for (len, stride) in self.before.iter().rev() {
            start += image % len * stride;
            image /= len;
        }
        start
    }

    fn check(&self, shape: &Heads) {
        let images: usize = self.before.iter().map(|(len, _)| len).product();
        let last = self.start(images - 1)
            + (shape.heads - 1) * self.head
            + (shape.queries - 1) * self.query
            + (shape.keys - 1) * self.key;
        assert!(images == shape.n && last < self.data.len() && self.key <= 1, "a mask of other sizes");
    }
}

/// `softmax(q k^T scale + mask) v`; rows of `q` and `out` are [n, queries], of `k` and `v` [n, keys]; columns
/// [heads, dim], of `v` and `out` [heads, value_dim]. Where an operand has fewer images, they are repeated.
#[allow(clippy::too_many_arguments, reason = "three operands and what is added")]
pub fn attention(isa: Isa, shape: &Heads, scale: f32, q: Rows, k: Rows, v: Rows, mask: Option<Mask>, out: RowsMut) {
    let Heads { n, heads, dim, value_dim, queries, keys } = *shape;
    for rows in [&q, &k, &v] {
        rows.check();
    }
    out.check();
    let (cols, value_cols) = (heads * dim, heads * value_dim);
    assert!(out.rows == n * queries && q.cols == cols && out.cols == value_cols, "queries of other sizes");
    assert!(k.cols == cols && v.cols == value_cols, "keys of other sizes");
    if out.rows * value_cols == 0 {
        return;
    }
    assert!(keys > 0, "attention to nothing");
    // how many images each operand has
    let [q_images, k_images, v_images] = [(q, queries), (k, keys), (v, keys)].map(|(rows, each)| {
        let images = rows.rows / each;
        assert!(images > 0 && rows.rows == images * each && n % images == 0, "other images than the result's");
        images
    });
    if let Some(mask) = &mask {
        mask.check(shape);
    }
    let unit = Unit::from(isa);
    let kb = panel_cols(unit);
    let mr = isa.tile_rows();
    // Scores of one block: at most 128 KiB, but for very many keys.
    let block = ((32 << 10) / keys / mr * mr).max(mr);
    let parts = if n * heads >= 8 { 1 } else { queries.div_ceil(block) };
    let (k_len, v_len) = (keys.div_ceil(kb) * dim * kb, value_dim.div_ceil(kb) * keys * kb);
    let y = Shared(out.data.as_mut_ptr());
    let plain = Epilogue::default();
    tasks(n * heads * parts, |task| {
        let (image, head, part) = (task / parts / heads, task / parts % heads, task % parts);
        let (first, last) = (queries * part / parts, queries * (part + 1) / parts);
        scratch(k_len + v_len + block * keys, |memory| {
            let (packed_k, memory) = memory.split_at_mut(k_len);
            let (packed_v, scores) = memory.split_at_mut(v_len);
            for (p, panel) in packed_k.chunks_mut(dim * kb).enumerate() {
                Right::Nk(head_of(k, image % k_images * keys, keys, head * dim, dim)).pack::<f32>(
                    p * kb,
                    keys,
                    panel,
                    kb,
                    scale,
                );
            }
            for (p, panel) in packed_v.chunks_mut(keys * kb).enumerate() {
                let values = head_of(v, image % v_images * keys, keys, head * value_dim, value_dim);
                Right::Kn(values).pack::<f32>(p * kb, value_dim, panel, kb, 1.0);
            }
            for i in (first..last).step_by(block) {
                let rows = block.min(last - i);
                let row = image * queries + i;
                let added = mask.map(|mask| {
                    let at = mask.start(image) + head * mask.head + i * mask.query;
                    Rows { data: &mask.data[at..], rows, cols: keys, stride: mask.query }
                });
                // of a mask that has a value for each key
                let masked = Epilogue { residual: added.filter(|_| mask.is_some_and(|mask| mask.key == 1)), ..plain };
                let product = |x: *const f32, stride, depth, cols, w: &[f32], epilogue, y: *mut f32, y_stride| Job {
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
                    epilogue,
                    extra: Extra::default(),
                };
                let to_scores = scores.as_mut_ptr();
                // SAFETY: the views and the mask were checked; `scores` has room for `rows` rows of `keys`, and the rows
                // and columns of the output are this task's.
                unsafe {
                    let from = q.at(image % q_images * queries + i).wrapping_add(head * dim);
                    product(from, q.stride, dim, keys, packed_k, &masked, to_scores, keys).run_here();
                }
                if let Some(added) = added.filter(|_| masked.residual.is_none()) {
                    for (r, scores) in scores.chunks_exact_mut(keys).take(rows).enumerate() {
                        scores.iter_mut().for_each(|score| *score += added.data[r * added.stride]);
                    }
                }
                let to_scores = scores.as_mut_ptr();
                // SAFETY: as above.
                unsafe {
                    for r in 0..rows {
                        let row = to_scores.add(r * keys);
                        isa.run(RowTask { x: row, y: row, cols: keys, kind: RowKind::Softmax });
                    }
                    let y = y.at(row * out.stride + head * value_dim);
                    product(to_scores, keys, keys, value_dim, packed_v, &plain, y, out.stride).run_here();
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
