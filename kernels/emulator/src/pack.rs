//! Weights of a convolution in the order of its kernel, number by number.

use archc_cuda::{Dtype, conv_row};

/// Packs weights for loads of `vec` channels: `weight(k, c, tap)` to rows of [`conv_row`] elements, taps before
/// channels, zeros in the gaps.
pub fn pack_conv(
    dtype: Dtype,
    vec: usize,
    [k, c, taps]: [usize; 3],
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let (row, wide) = (conv_row(dtype, vec, c, taps), c.next_multiple_of(vec));
    let mut packed = vec![0.0; k * row];
    for (k, row) in packed.chunks_exact_mut(row.max(1)).enumerate() {
        for tap in 0..taps {
            for c in 0..c {
                row[tap * wide + c] = weight(k, c, tap);
            }
        }
    }
    packed
}
