//! Dropout and stochastic depth: values are zeroed by a draw of their own, of their channel's or of their sample's, and the
//! others scaled. A draw depends on its number alone, so that backward draws again what forward drew.

use super::super::elementwise::Map;
use super::super::par::ranges;

/// What is drawn for what.
#[derive(Clone, Copy)]
pub struct Draw<'a> {
    /// Four uniform numbers in [0, 1) for each number.
    pub block: &'a (dyn Fn(u64) -> [f32; 4] + Sync),
    /// The probability of a zero.
    pub p: f32,
    /// Rows of a sample: pixels.
    pub rows_each: usize,
    /// Draws of a sample: one, one a column, or one a value, counted row by row.
    pub each: usize,
    /// Whether all samples have the draws of the first.
    pub alike: bool,
}

/// `y = x * (draw >= p) / (1 - p)`
pub fn dropout(io: Map, draw: &Draw) {
    let cols = io.cols;
    assert!(draw.each == 1 || draw.each == cols || draw.each == cols * draw.rows_each, "no such draws");
    let scale = if draw.p < 1.0 { 1.0 / (1.0 - draw.p) } else { 0.0 };
    ranges(io.rows, 8 * cols, |range| {
        for row in range {
            let (sample, own) = (if draw.alike { 0 } else { row / draw.rows_each }, row % draw.rows_each);
            let first = match draw.each {
                1 => sample,
                each if each == cols => sample * cols,
                each => sample * each + own * cols,
            };
            let (mut at, mut block) = (u64::MAX, [0.0; 4]);
            for col in 0..cols {
                let number = (first + if draw.each == 1 { 0 } else { col }) as u64;
                if number / 4 != at {
                    at = number / 4;
                    block = (draw.block)(at);
                }
                let keep = block[(number % 4) as usize] >= draw.p;
                // SAFETY: the map was checked, and the row is this task's.
                unsafe { *io.to(row).add(col) = if keep { *io.from(row).add(col) * scale } else { 0.0 } };
            }
        }
    });
}
