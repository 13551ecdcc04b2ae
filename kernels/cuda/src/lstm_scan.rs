//! The recurrence of LSTMs.

use super::{Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;
    const SEQUENCES: usize = 4;

    /// Hidden states of sequences, of one direction or, the second backwards, of two. Row `(outer * steps + t) * inner + at` is
    /// step t of sequence `outer * inner + at`: of the gates `[4 hidden]`, of y the states of each direction side by side.
    pub struct LstmScan {
        gates: [*const Stored; 2],
        /// `[hidden][hidden][4]`: what a hidden feature counts for in the parts of a unit.
        weight: [*const Stored; 2],
        y: *mut Stored,
        gates_stride: [i32; 2],
        y_stride: i32,
        directions: i32,
        sequences: i32,
        steps: i32,
        inner: i32,
        hidden: i32,
        /// Not 0: a single direction runs backwards.
        reverse: i32,
        /// Sequences of a block, which [`LstmScan::launch`] chooses.
        each: i32,
    }
}

/// How many sequences a block has whose states take so many bytes a sequence: many, so that weights are read for more of
/// them, where there are enough for all processors; None where there is no room for one.
pub(super) fn each(sequences: usize, bytes: usize, processors: usize) -> Option<usize> {
    // of every device since sm_80
    const SHARED: usize = 96 << 10;
    let wanted = if sequences <= processors { 1 } else { SEQUENCES };
    [wanted, 1].into_iter().find(|each| each * bytes <= SHARED)
}

/// Blocks of so many sequences in each direction, with that shared memory.
pub(super) fn blocks(
    variant: Variant,
    kernel: &'static str,
    [sequences, directions]: [i32; 2],
    [each, bytes]: [usize; 2],
    hidden: i32,
) -> Launch {
    let threads = (hidden as usize).next_multiple_of(32).min(THREADS);
    let grid = [(sequences as usize).div_ceil(each) as u32, directions as u32, 1];
    Launch { variant, kernel, grid, block: [threads as u32, 1, 1], shared: (each * bytes) as u32 }
}

impl LstmScan {
    /// None where a block has no room for the states.
    pub fn launch(&mut self, dtype: Dtype, processors: usize) -> Option<Launch> {
        // two steps' states and cells
        let bytes = 3 * 4 * self.hidden as usize;
        let each = each((self.sequences * self.directions) as usize, bytes, processors)?;
        self.each = each as i32;
        let variant = Variant::stored("lstm_scan", dtype);
        Some(blocks(variant, "lstm_scan", [self.sequences, self.directions], [each, bytes], self.hidden))
    }
}
