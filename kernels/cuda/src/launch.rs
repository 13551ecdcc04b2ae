//! Grids that several kernels share.

use super::{Launch, RANK, Variant};

/// A grid of blocks with room for `each` threads.
pub(super) fn blocks(threads: usize, each: usize) -> [u32; 3] {
    [threads.div_ceil(each).max(1) as u32, 1, 1]
}

/// A grid of at most so many blocks; the kernels that go on in strides of the grid are meant.
pub(super) fn strided(variant: Variant, kernel: &'static str, work: usize, threads: usize) -> Launch {
    let [x, ..] = blocks(work, threads);
    Launch { variant, kernel, grid: [x.min(1 << 16), 1, 1], block: [threads as u32, 1, 1], shared: 0 }
}

/// Elements of a tensor.
pub(super) fn len(shape: &[i32; RANK], rank: i32) -> usize {
    shape[..rank as usize].iter().map(|len| *len as usize).product()
}

/// Threads beside each other, below each other, and blocks beside each other, for eight columns a thread.
pub(super) fn columns(cols: i32, threads: usize) -> [usize; 3] {
    let vectors = (cols as usize).div_ceil(8);
    let across = vectors.next_power_of_two().min(32);
    [across, threads / across, vectors.div_ceil(across)]
}

/// Vectors of eight channels of so many pixels.
pub(super) fn inputs(n: i32, height: i32, width: i32, c: i32) -> usize {
    n as usize * height as usize * width as usize * (c as usize).div_ceil(8)
}
