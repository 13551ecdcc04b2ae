//! Functions of single values and of pairs.
//!
//! Rows are cut into blocks that stay in L1, so that an activation that follows costs no memory traffic. Everything
//! may also be done in place ([`Map::in_place`]).

use archc_base::{Act, Binary};

use super::act::{Apply, apply_rows, bounds};
use super::par::{Shared, ranges};
use super::simd::{Isa, Simd, Task, lanes, ld, st};
use super::view::{Rows, RowsMut};
use super::walk::{Strided, Walk, check_view, dense_strides};
use std::marker::PhantomData;

/// Rows that are read and rows of the same number that are written: two matrices, or one.
pub struct Map<'a> {
    pub(super) x: *const f32,
    pub(super) x_stride: usize,
    pub(super) y: Shared,
    pub(super) y_stride: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    life: PhantomData<&'a mut [f32]>,
}
// SAFETY: `x` is only read, and of `y` each task writes rows of its own; the borrows live as long as the map.
unsafe impl Sync for Map<'_> {}

impl<'a> Map<'a> {
    pub fn new(x: Rows<'a>, y: RowsMut<'a>) -> Self {
        x.check();
        y.check();
        assert!(x.rows == y.rows && x.cols == y.cols, "rows of another shape than those written");
        Map {
            x: x.data.as_ptr(),
            x_stride: x.stride,
            y: Shared(y.data.as_mut_ptr()),
            y_stride: y.stride,
            rows: y.rows,
            cols: y.cols,
            life: PhantomData,
        }
    }

    pub fn in_place(y: RowsMut<'a>) -> Self {
        y.check();
        let p = y.data.as_mut_ptr();
        Map {
            x: p,
            x_stride: y.stride,
            y: Shared(p),
            y_stride: y.stride,
            rows: y.rows,
            cols: y.cols,
            life: PhantomData,
        }
    }

    #[inline(always)]
    pub(super) fn from(&self, row: usize) -> *const f32 {
        self.x.wrapping_add(row * self.x_stride)
    }
    #[inline(always)]
    pub(super) fn to(&self, row: usize) -> *mut f32 {
        self.y.at(row * self.y_stride)
    }
    /// One long row, where there is nothing between the rows.
    fn flat(self) -> Self {
        let dense = |stride| stride == self.cols || self.rows <= 1;
        if dense(self.x_stride) && dense(self.y_stride) {
            let cols = self.rows * self.cols;
            Map { rows: cols.min(1), cols, x_stride: cols, y_stride: cols, ..self }
        } else {
            self
        }
    }
}

/// Floats of a block that stays in L1 together with its operands.
const BLOCK: usize = 2048;

/// Cuts rows into blocks of at most [`BLOCK`] floats, several rows or a part of one, and calls
/// `f(row, rows, column, columns)`.
fn blocks(rows: usize, cols: usize, f: impl Fn(usize, usize, usize, usize) + Sync) {
    if cols == 0 {
        return;
    }
    let (per, wide) = ((BLOCK / cols).max(1), cols.div_ceil(BLOCK));
    let high = rows.div_ceil(per);
    ranges(high * wide, BLOCK, |range| {
        for i in range {
            let (r, c) = (i / wide * per, i % wide * BLOCK);
            f(r, per.min(rows - r), c, if wide == 1 { cols } else { BLOCK.min(cols - c) });
        }
    });
}

/// `y = act(x)`
pub fn unary(isa: Isa, act: Act, io: Map) {
    let io = io.flat();
    blocks(io.rows, io.cols, |row, rows, col, cols| {
        isa.run(Apply {
            act,
            x: io.from(row).wrapping_add(col),
            x_stride: io.x_stride,
            y: io.to(row).wrapping_add(col),
            y_stride: io.y_stride,
            rows,
            cols,
        });
    });
}

/// The second operand of [`binary`].
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// As many rows and columns as the first.
    Rows(Rows<'a>),
    Scalar(f32),
    /// One value a column (channel), for all rows.
    Row(&'a [f32]),
    /// One row of values for each `rows_each` rows: a gate [n, c] over the pixels of each image.
    Gate {
        data: &'a [f32],
        rows_each: usize,
    },
    /// One value a row.
    Column(&'a [f32]),
}

trait Fun2 {
    /// # Safety
    /// The CPU must have the instruction set of `S`.
    unsafe fn eval<S: Simd>(a: S::F, b: S::F) -> S::F;
}

macro_rules! funs2 {
    ($($name:ident |$a:ident, $b:ident| $e:expr;)*) => {
        $(struct $name;
        impl Fun2 for $name {
            #[inline(always)]
            unsafe fn eval<S: Simd>($a: S::F, $b: S::F) -> S::F {
                // SAFETY: the caller has the instruction set.
                unsafe { $e }
            }
        })*

        /// Chooses the loop of an op.
        ///
        /// # Safety
        /// That of [`row2`].
        #[inline(always)]
        unsafe fn row_of<S: Simd>(op: Binary, y: *mut f32, a: Lane, b: Lane, len: usize) {
            // SAFETY: passed on to the caller.
            unsafe {
                match op {
                    $(Binary::$name => row2::<S, $name>(y, a, b, len),)*
                }
            }
        }
    };
}

funs2! {
    Add |a, b| S::add(a, b);
    Sub |a, b| S::sub(a, b);
    SubFrom |a, b| S::sub(b, a);
    Mul |a, b| S::mul(a, b);
    Div |a, b| S::div(a, b);
    DivFrom |a, b| S::div(b, a);
    Max |a, b| S::select(S::is_nan(a), a, S::max(a, b));
    Min |a, b| S::select(S::is_nan(a), a, S::min(a, b));
    Above |a, b| share::<S>(S::gt(a, b), S::gt(b, a), a, b);
    Below |a, b| share::<S>(S::gt(b, a), S::gt(a, b), a, b);
    Prelu |a, b| S::select(S::gt(a, S::splat(0.0)), a, S::mul(a, b));
}

/// 1 where the first mask is set, 0 where the second is or one of both is NaN, else a half.
///
/// # Safety
/// The CPU must have the instruction set of `S`.
#[inline(always)]
unsafe fn share<S: Simd>(all: S::M, none: S::M, a: S::F, b: S::F) -> S::F {
    // SAFETY: the caller's.
    unsafe {
        let (zero, half) = (S::splat(0.0), S::splat(0.5));
        let equal = S::select(S::is_nan(a), zero, S::select(S::is_nan(b), zero, half));
        S::select(all, S::splat(1.0), S::select(none, zero, equal))
    }
}

/// Where the values of one row come from.
#[derive(Clone, Copy)]
enum Lane {
    /// One after another.
    Each(*const f32),
    /// Always the same.
    Same(f32),
    /// This many floats apart.
    Apart(*const f32, usize),
}

impl Lane {
    /// # Safety
    /// The CPU must have the instruction set of `S`; `i + n` values are valid.
    #[inline(always)]
    unsafe fn get<S: Simd>(self, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Lane::Each(p) => ld::<S>(p.add(i), n),
                Lane::Same(v) => S::splat(v),
                Lane::Apart(p, step) => {
                    let mut some = [0f32; 16];
                    for (j, v) in some.iter_mut().enumerate().take(n) {
                        *v = *p.add((i + j) * step);
                    }
                    S::load(some.as_ptr())
                }
            }
        }
    }
}

/// # Safety
/// The CPU must have the instruction set of `S`; `y`, `a` and `b` are valid for `len` values.
#[inline(always)]
unsafe fn row2<S: Simd, F: Fun2>(y: *mut f32, a: Lane, b: Lane, len: usize) {
    // SAFETY: the caller's.
    unsafe {
        if let (Lane::Each(a), Lane::Each(b)) = (a, b) {
            lanes!(S, len, |i, n| {
                st::<S>(y.add(i), F::eval::<S>(ld::<S>(a.add(i), n), ld::<S>(b.add(i), n)), n);
            });
        } else {
            lanes!(S, len, |i, n| {
                st::<S>(y.add(i), F::eval::<S>(a.get::<S>(i, n), b.get::<S>(i, n)), n);
            });
        }
    }
}

/// `y = act(op(x, b))`
pub fn binary(isa: Isa, op: Binary, io: Map, b: Operand, act: Act) {
    let (mut io, mut b) = (io, b);
    match b {
        Operand::Rows(rows) => {
            rows.check();
            assert!(rows.rows == io.rows && rows.cols == io.cols, "operands of different shapes");
            if rows.stride == rows.cols {
                io = io.flat();
                b = Operand::Rows(Rows::new(rows.data, io.rows, io.cols));
            }
        }
        Operand::Scalar(_) => io = io.flat(),
        Operand::Row(row) => assert!(row.len() >= io.cols, "too few values for the columns"),
        Operand::Gate { data, rows_each } => {
            assert!(rows_each > 0 && data.len() >= io.rows.div_ceil(rows_each) * io.cols, "too few gates");
        }
        Operand::Column(column) => assert!(column.len() >= io.rows, "too few values for the rows"),
    }
    blocks(io.rows, io.cols, |row, rows, col, cols| {
        isa.run(BinaryTask { op, io: &io, b, act, row, rows, col, cols });
    });
}

struct BinaryTask<'a> {
    op: Binary,
    io: &'a Map<'a>,
    b: Operand<'a>,
    act: Act,
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
}

impl Task for BinaryTask<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; sizes were checked, and the block of y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let BinaryTask { op, io, b, act, row, rows, col, cols } = self;
        // SAFETY: the block lies inside the checked sizes.
        unsafe {
            for r in row..row + rows {
                let b = match b {
                    Operand::Rows(b) => Lane::Each(b.at(r).add(col)),
                    Operand::Scalar(v) => Lane::Same(v),
                    Operand::Row(b) => Lane::Each(b.as_ptr().add(col)),
                    Operand::Gate { data, rows_each } => Lane::Each(data.as_ptr().add(r / rows_each * io.cols + col)),
                    Operand::Column(b) => Lane::Same(*b.as_ptr().add(r)),
                };
                row_of::<S>(op, io.to(r).add(col), Lane::Each(io.from(r).add(col)), b, cols);
            }
            if act != Act::None {
                apply_rows::<S>(act, io.to(row).add(col), io.y_stride, rows, cols);
            }
        }
    }
}

/// What [`gated`] does to values.
#[derive(Clone, Copy, Debug)]
pub struct Gated<'a> {
    pub before: Act,
    /// One row of factors for each `rows_each` rows, dense.
    pub gate: &'a [f32],
    pub rows_each: usize,
    pub residual: Option<Rows<'a>>,
    pub after: Act,
}

/// `y = after(before(x) * gate + residual)`
pub fn gated(isa: Isa, io: Map, what: Gated) {
    let gates = what.rows_each > 0 && what.gate.len() >= io.rows.div_ceil(what.rows_each) * io.cols;
    assert!(gates, "too few gates");
    if let Some(residual) = what.residual {
        residual.check();
        assert!(residual.rows == io.rows && residual.cols == io.cols, "operands of different shapes");
    }
    blocks(io.rows, io.cols, |row, rows, col, cols| {
        isa.run(GateTask { io: &io, what: &what, row, rows, col, cols });
    });
}

struct GateTask<'a> {
    io: &'a Map<'a>,
    what: &'a Gated<'a>,
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
}

impl Task for GateTask<'_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; sizes were checked, and the block of y is this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let GateTask { io, what, row, rows, col, cols } = self;
        let Gated { before, gate, rows_each, residual, after } = *what;
        // SAFETY: the block lies inside the checked sizes.
        unsafe {
            let (mut x, mut x_stride) = (io.from(row).add(col), io.x_stride);
            let (y, y_stride) = (io.to(row).add(col), io.y_stride);
            if before != Act::None {
                S::apart(Apply { act: before, x, x_stride, y, y_stride, rows, cols });
                (x, x_stride) = (y, y_stride);
            }
            let bounds = bounds(after);
            let (lo, hi) = bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
            let (lo, hi) = (S::splat(lo), S::splat(hi));
            for i in 0..rows {
                let (x, y) = (x.add(i * x_stride), y.add(i * y_stride));
                let gate = gate.as_ptr().add((row + i) / rows_each * io.cols + col);
                match residual {
                    Some(residual) => {
                        let residual = residual.at(row + i).add(col);
                        lanes!(S, cols, |at, n| {
                            let v = S::mul(ld::<S>(x.add(at), n), ld::<S>(gate.add(at), n));
                            let v = S::add(v, ld::<S>(residual.add(at), n));
                            st::<S>(y.add(at), S::min(hi, S::max(lo, v)), n);
                        });
                    }
                    None => lanes!(S, cols, |at, n| {
                        let v = S::mul(ld::<S>(x.add(at), n), ld::<S>(gate.add(at), n));
                        st::<S>(y.add(at), S::min(hi, S::max(lo, v)), n);
                    }),
                }
            }
            if bounds.is_none() {
                apply_rows::<S>(after, y, y_stride, rows, cols);
            }
        }
    }
}

/// `y = act(op(a, b))` over `shape` (rank up to 8), with `y` dense and strides (0 to repeat) of `a` and `b`.
pub fn broadcast(isa: Isa, op: Binary, shape: &[usize], a: Strided, b: Strided, y: &mut [f32], act: Act) {
    check_view(shape, a.strides, a.data.len());
    check_view(shape, b.strides, b.data.len());
    let mut dense = [0; 8];
    let dense = dense_strides(shape, &mut dense);
    check_view(shape, dense, y.len());
    let walk = Walk::new(shape, [dense, a.strides, b.strides]);
    let (len, [_, a_step, b_step]) = walk.inner();
    let lane = |p: &[f32], at: usize, step: usize| match step {
        0 => Lane::Same(p[at]),
        1 => Lane::Each(p[at..].as_ptr()),
        _ => Lane::Apart(p[at..].as_ptr(), step),
    };
    let out = Shared(y.as_mut_ptr());
    let parts = len.div_ceil(BLOCK);
    ranges(walk.outer() * parts, len / parts.max(1), |range| {
        for i in range {
            let ([y_at, a_at, b_at], from) = (walk.at(i / parts), len * (i % parts) / parts);
            let (a, b) = (lane(a.data, a_at + from * a_step, a_step), lane(b.data, b_at + from * b_step, b_step));
            let len = len * (i % parts + 1) / parts - from;
            isa.run(RowTask { op, y: out.at(y_at + from), a, b, len, act });
        }
    });
}

struct RowTask {
    op: Binary,
    y: *mut f32,
    a: Lane,
    b: Lane,
    len: usize,
    act: Act,
}

impl Task for RowTask {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; the row is inside the checked views, and this task's.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe {
            row_of::<S>(self.op, self.y, self.a, self.b, self.len);
            if self.act != Act::None {
                apply_rows::<S>(self.act, self.y, self.len, 1, self.len);
            }
        }
    }
}
