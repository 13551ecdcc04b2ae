//! Grids that several kernels share.

use super::{Launch, RANK, Variant};

/// A grid of blocks with room for `each` threads.
pub(super) fn blocks(threads: usize, each: usize) -> [u32; 3] {
    [threads.div_ceil(each).max(1) as u32, 1, 1]
}

/// A launch without dynamic shared memory, of blocks of so many threads beside and below each other.
pub(super) fn plain(variant: Variant, kernel: &'static str, grid: [u32; 3], threads: [usize; 2]) -> Launch {
    let [x, y] = threads.map(|threads| threads as u32);
    Launch { variant, kernel, grid, block: [x, y, 1], shared: 0 }
}

/// A grid of at most so many blocks; the kernels that go on in strides of the grid are meant.
pub(super) fn strided(variant: Variant, kernel: &'static str, work: usize, threads: usize) -> Launch {
    let [x, ..] = blocks(work, threads);
    plain(variant, kernel, [x.min(1 << 16), 1, 1], [threads, 1])
}

/// As [`strided`] for kernels of which a thread has eight neighbouring columns of a row.
pub(super) fn eights(variant: Variant, kernel: &'static str, rows: usize, cols: i32, threads: usize) -> Launch {
    strided(variant, kernel, rows * (cols as usize).div_ceil(8), threads)
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
