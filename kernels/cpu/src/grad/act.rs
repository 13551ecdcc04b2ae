//! The backward pass of an activation.

use archc_base::Act;

use super::super::act::gradient;
use super::super::elementwise::Map;
use super::super::par::ranges;
use super::super::simd::{Isa, Simd, Task};
use super::super::view::Rows;

/// `dx = dy * f'(seen)`; `io` reads dy, and may write over it. `seen` is the result where [`Act::by_result`], else the operand.
pub fn act_data(isa: Isa, act: Act, io: Map, seen: Rows) {
    seen.check();
    assert!(io.rows == seen.rows && io.cols == seen.cols, "rows of another shape");
    ranges(io.rows, 2 * io.cols, |range| {
        for row in range {
            isa.run(Row { act, dy: io.from(row), seen: seen.at(row), dx: io.to(row), cols: io.cols });
        }
    });
}

struct Row {
    act: Act,
    dy: *const f32,
    seen: *const f32,
    dx: *mut f32,
    cols: usize,
}

impl Task for Row {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; a row of each is valid, and dx is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe { gradient::<S>(self.act, self.dx, self.dy, self.seen, self.cols) }
    }
}
