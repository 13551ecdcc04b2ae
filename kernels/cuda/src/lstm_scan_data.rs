//! Gradients of the recurrence of LSTMs.

use super::lstm_scan::{blocks, each};
use super::{Dtype, Launch, Stored, Variant};

args! {
    const THREADS: usize = 256;
    const SEQUENCES: usize = 4;

    /// The gradient of the gates of one direction; rows as those of [`LstmScan`](super::LstmScan).
    pub struct LstmScanData {
        /// Of the hidden states.
        d: *const Stored,
        /// What the states were made of, `[4 hidden]` a row.
        sums: *const Stored,
        /// `[4 hidden][hidden]`
        weight: *const Stored,
        dx: *mut Stored,
        d_stride: i32,
        sums_stride: i32,
        dx_stride: i32,
        sequences: i32,
        steps: i32,
        inner: i32,
        hidden: i32,
        /// Not 0: from the last step to the first in the forward pass.
        reverse: i32,
        /// Sequences of a block, which [`LstmScanData::launch`] chooses.
        each: i32,
        reserved: i32,
    }
}

impl LstmScanData {
    /// None where a block has no room for the gradients of a step.
    pub fn launch(&mut self, dtype: Dtype, processors: usize) -> Option<Launch> {
        // of the sums, of the states and of the cells
        let bytes = 6 * 4 * self.hidden as usize;
        let each = each(self.sequences as usize, bytes, processors)?;
        self.each = each as i32;
        let variant = Variant::stored("lstm_scan_data", dtype);
        Some(blocks(variant, "lstm_scan_data", [self.sequences, 1], [each, bytes], self.hidden))
    }
}
