//! Kernels of training: what backward, losses and optimisers need besides the kernels of the forward pass.
//!
//! The contract is that of the other kernels: views and shapes in, the same bits on any number of threads. Sums over a
//! batch are cut by sizes alone and put together in a fixed order.

mod act;
mod batch_norm;
mod conv;
mod depthwise;
mod dropout;
mod group_norm;
mod image;
mod loss;
mod lstm;
mod rows;
mod spread;
mod update;
mod weight;

pub use act::act_data;
pub use batch_norm::{BatchNorm, batch_norm, batch_norm_data, batch_norm_sums, batch_stats, running};
pub use conv::{ConvGrad, conv_data};
pub use dropout::{Draw, dropout};
pub use group_norm::{group_norm_data, group_norm_sums};
pub use image::{adaptive_pool_data, pool_data, resize_data};
pub use loss::{loss, loss_data};
pub use lstm::{PackedLstmData, lstm_scan_data};
pub use rows::{layer_norm_data, layer_norm_sums, normalize_data, prelu_data, prelu_sums, softmax_data, sums};
pub use spread::{gather_data, max_data, mean_data, sum_to};
pub use update::{Slots, norm_squared, update};
pub use weight::{conv_weight, linear_weight};

use super::par::{Shared, scratch, tasks};

/// Sums over `rows` rows into `cols` values of each of `K` kinds: `part(rows, sums)` adds some rows to zeroed sums
/// [K, cols]; `end(col, sums)` gets the total of each column.
fn over_rows<const K: usize>(
    rows: usize,
    cols: usize,
    part: impl Fn(std::ops::Range<usize>, *mut f32) + Sync,
    mut end: impl FnMut(usize, [f64; K]),
) {
    // enough parts for many threads, and short sums
    let parts = (rows * cols / (16 << 10)).clamp(1, 256).min(rows.max(1)).max(rows.div_ceil(2048));
    scratch(parts * K * cols, |partial| {
        let base = Shared(partial.as_mut_ptr());
        tasks(parts, |at| {
            let own = base.at(at * K * cols);
            // SAFETY: each task has its own part of the scratch.
            unsafe { std::slice::from_raw_parts_mut(own, K * cols) }.fill(0.0);
            part(rows * at / parts..rows * (at + 1) / parts, own);
        });
        for col in 0..cols {
            let total = |kind: usize| (0..parts).map(|at| f64::from(partial[(at * K + kind) * cols + col])).sum();
            end(col, std::array::from_fn(total));
        }
    });
}
