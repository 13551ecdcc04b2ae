//! The transform of weights, U = G w G^T, when a network is loaded.
//!
//! In float64, so that U is rounded once; [`LANES`] output channels at a time, in plain arrays that the compiler turns
//! into vectors.

use super::super::bf16::simd::Unit;
use super::super::conv::ConvShape;
use super::super::direct::panel_cols;
use super::super::element::{Element, words};
use super::super::par::{Aligned, Shared, scratch, tasks};
use super::super::simd::{Simd, Task};

/// Output channels that are transformed together; divides a panel of any instruction set.
const LANES: usize = 8;

/// Input channels of a task.
const CHUNK: usize = 16;

/// `[group][panel][point][terms of C][2 N]`, where `merge` groups of the shape make one. C is padded to whole vectors, and
/// what is padding, or between channels that do not meet, is zero.
pub(super) fn transform<V: Element>(unit: Unit, shape: &ConvShape, [m, merge]: [usize; 2], weights: &[f32]) -> Aligned {
    let kb = panel_cols(unit);
    let (cg, kg) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let (cols, groups) = (kg * merge, shape.groups / merge);
    let depth = (cg * merge).next_multiple_of(unit.isa().lanes());
    let panels = cols.div_ceil(kb);
    let points = (m + 2) * (m + 2);
    let padded = merge > 1 || depth != cg || !cols.is_multiple_of(kb);
    let mut out = Aligned::padded(words::<V>(groups * panels * points * depth * kb), padded);
    let base = Shared(out.as_mut_ptr().cast::<V>());
    let chunks = cg.div_ceil(CHUNK);
    tasks(groups * panels * chunks, |task| {
        let (panel, chunk) = (task / chunks, task % chunks);
        let (group, first) = (panel / panels, panel % panels * kb);
        let channels = chunk * CHUNK..(chunk * CHUNK + CHUNK).min(cg);
        scratch(channels.len() * 9 * kb, |raw| {
            // Columns of one group of the shape share their input channels; a column's weights of other groups stay
            // zero.
            for own in 0..merge {
                let (from, to) = ((own * kg).max(first), ((own + 1) * kg).min(first + kb));
                if from >= to {
                    continue;
                }
                raw.fill(0.0);
                for col in from..to {
                    let k = group * cols + col;
                    let row = &weights[(k * cg + channels.start) * 9..][..channels.len() * 9];
                    for (out, &w) in raw[col - first..].iter_mut().step_by(kb).zip(row) {
                        *out = w;
                    }
                }
                let lanes = (from - first) / LANES * LANES..(to - first).next_multiple_of(LANES);
                // Groups meet in no vector of outputs, or in none of inputs: where a block of lanes is shared, it is
                // written for each group's own input channels.
                let (first, out) = (own * cg + channels.start, base.at(panel * points * depth * kb));
                unit.isa().run(Panel { raw, lanes, kb, m, plane: depth * kb, first, out });
            }
        });
    });
    out
}

/// Some input channels of one panel.
struct Panel<'a, V> {
    /// `[channels][9][kb]`
    raw: &'a [f32],
    /// The columns to write.
    lanes: std::ops::Range<usize>,
    kb: usize,
    m: usize,
    plane: usize,
    /// The number of the first of the channels.
    first: usize,
    /// `[point][terms of C][kb]`, points `plane` apart.
    out: *mut V,
}

impl<V: Element> Task for Panel<'_, V> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`]; `out` has the channels in all planes, and no other task writes them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (channel, taps) in self.raw.chunks_exact(9 * self.kb).enumerate() {
            for lane in self.lanes.clone().step_by(LANES) {
                let w: [[[f64; LANES]; 3]; 3] = std::array::from_fn(|r| {
                    std::array::from_fn(|s| {
                        let from = &taps[(r * 3 + s) * self.kb + lane..][..LANES];
                        std::array::from_fn(|i| f64::from(from[i]))
                    })
                });
                let channel = self.first + channel;
                let term = channel / V::TERMS * self.kb + lane;
                let out = self.out.wrapping_add(term * V::TERMS + channel % V::TERMS);
                // SAFETY: the caller's; a panel is a whole number of blocks of lanes.
                unsafe {
                    if self.m == 2 {
                        points::<V, 4>(&w, out, self.plane, rows_of_2);
                    } else {
                        points::<V, 6>(&w, out, self.plane, rows_of_4);
                    }
                }
            }
        }
    }
}

type Lanes = [f64; LANES];

/// G w G^T.
///
/// # Safety
/// `out` has room for a block of lanes in each of the planes.
#[inline(always)]
unsafe fn points<V: Element, const AL: usize>(
    w: &[[Lanes; 3]; 3],
    out: *mut V,
    plane: usize,
    rows: impl Fn([Lanes; 3]) -> [Lanes; AL],
) {
    let half: [[Lanes; AL]; 3] = std::array::from_fn(|s| rows([w[0][s], w[1][s], w[2][s]]));
    let all: [[Lanes; AL]; AL] = std::array::from_fn(|i| rows([half[0][i], half[1][i], half[2][i]]));
    for (point, values) in all.as_flattened().iter().enumerate() {
        for (lane, value) in values.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { *out.add(point * plane + lane * V::TERMS) = V::down(*value as f32) };
        }
    }
}

/// A column of G w for F(2x2): the polynomial w at 0, 1, -1 and infinity, over what the other points leave.
#[inline(always)]
fn rows_of_2(w: [Lanes; 3]) -> [Lanes; 4] {
    let at = |sign: f64| std::array::from_fn(|i| 0.5 * (w[0][i] + sign * w[1][i] + w[2][i]));
    [w[0], at(1.0), at(-1.0), w[2]]
}

/// The same for F(4x4).
#[inline(always)]
fn rows_of_4(w: [Lanes; 3]) -> [Lanes; 6] {
    const P: f64 = super::transform::P as f64;
    const Q: f64 = super::transform::Q as f64;
    let at = |point: f64, over: f64| std::array::from_fn(|i| (w[0][i] + point * (w[1][i] + point * w[2][i])) * over);
    const ZERO: f64 = 1.0 / (P * P * Q * Q);
    let (p, q) = (0.5 / (P * P * (P * P - Q * Q)), 0.5 / (Q * Q * (Q * Q - P * P)));
    [w[0].map(|w| w * ZERO), at(P, p), at(-P, p), at(Q, q), at(-Q, q), w[2]]
}
