//! Means of images from the sums that convolutions leave, and what squeeze-and-excitation makes of them.

use rayon::prelude::*;

use super::{Lower, Pending, act, ready};
use crate::diag::Problem;
use crate::opt::{Excite, Id, Kind, Squeeze};
use crate::plan::{Step, View};
use archc_cuda::{Act, Excitation, Sums};

/// The sums that a convolution leaves.
#[derive(Clone, Copy, Debug)]
pub struct Squeezed {
    pub sums: Sums,
    /// Of an image.
    pub pixels: i32,
    /// As [`Excitation`] has it.
    pub part: i32,
}

/// A linear map [rows][cols] with what follows it.
struct Map {
    matrix: Vec<f32>,
    rows: usize,
    cols: usize,
    bias: Option<Vec<f32>>,
    act: Act,
}

impl Map {
    /// Of this map and then `next`, where nothing lies between.
    fn then(&self, next: &Map) -> Map {
        let row = |weights: &[f32]| {
            let mut sums = vec![0f64; self.cols];
            for (weight, own) in weights.iter().zip(self.matrix.chunks_exact(self.cols)) {
                sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += f64::from(*weight) * f64::from(*own));
            }
            sums.into_iter().map(|sum| sum as f32).collect::<Vec<_>>()
        };
        let matrix = next.matrix.par_chunks_exact(next.cols).flat_map_iter(row).collect();
        let moved = |own: &Vec<f32>| {
            let dot = |row: &[f32]| row.iter().zip(own).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            next.matrix.chunks_exact(next.cols).map(|row| dot(row) as f32).collect::<Vec<_>>()
        };
        let bias = match (self.bias.as_ref().map(moved), &next.bias) {
            (Some(own), Some(next)) => Some(own.iter().zip(next).map(|(a, b)| a + b).collect()),
            (own, next) => own.or_else(|| next.clone()),
        };
        Map { matrix, rows: next.rows, cols: self.cols, bias, act: next.act }
    }
}

impl Lower<'_> {
    /// The same sums with a place on the device.
    pub(super) fn room_for_sums(&self, sums: Sums) -> Result<Sums, Problem> {
        let at = self.pool.room(4 * sums.floats(self.plan.batch()))?;
        Ok(Sums { at, ..sums })
    }

    /// Notes what convolution `id` leaves, and makes means of it where something else than an excitation reads them.
    pub(super) fn squeezed(&self, id: Id, step: &Step, squeezed: Squeezed) -> Option<Pending> {
        self.squeezed.lock().expect("no thread panics while it holds the lock").insert(id, squeezed);
        let net = self.plan.net();
        let to = match net.node(id).epilogue.squeeze {
            Squeeze::Only => &step.write,
            _ => step.means.as_ref().filter(|_| {
                let means = |read: &Id| net.node(*read).kind == Kind::Means && net.node(*read).operands == [id];
                let reads = |node: Id| net.node(node).reads().any(|read| means(&read));
                let excitation = |node: Id| matches!(net.node(node).kind, Kind::Excitation { .. });
                net.order().into_iter().any(|node| reads(node) && !excitation(node))
                    || net.outputs.iter().any(|(_, output)| means(output))
            })?,
        };
        let mut args = Excitation { c: to.dims[1] as i32, k: to.dims[1] as i32, ..self.of_sums(squeezed, to) };
        Some(ready(args.launch(self.dtype, self.facts.processors), &args))
    }

    fn of_sums(&self, squeezed: Squeezed, to: &View) -> Excitation {
        Excitation {
            sums: squeezed.sums,
            y: self.address(to),
            n: to.dims[0] as i32,
            pixels: squeezed.pixels,
            part: squeezed.part,
            y_dist: to.strides[0] as i32,
            ..Excitation::default()
        }
    }

    /// Maps of the means that node `means` is.
    pub(super) fn excitation(&self, means: Id, step: &Step, maps: &[Excite]) -> Result<Pending, Problem> {
        let conv = self.plan.net().node(means).operands[0];
        let squeezed = self.squeezed.lock().expect("no thread panics while it holds the lock")[&conv];
        let mut joined: Vec<Map> = vec![];
        for Excite { weights, width, act: after } in maps {
            let channels = self.weights.channels(weights, *width)?;
            let matrix = self.weights.matrix(weights, *width, channels.scale.as_deref())?;
            let cols = matrix.len() / width;
            let map = Map { matrix, rows: *width, cols, bias: channels.shift, act: act(*after) };
            match joined.last_mut() {
                Some(last) if last.act == Act::NONE => *last = last.then(&map),
                _ => joined.push(map),
            }
        }
        let c = self.plan.net().node(means).shape.len();
        let mut args = Excitation { c: c as i32, maps: joined.len() as i32, ..self.of_sums(squeezed, &step.write) };
        let place = |map: &Map| Ok((self.rows_of(map)?, self.floats(map.bias.as_deref())?));
        for (at, map) in joined.iter().enumerate() {
            let ((w, dist), bias) = place(map)?;
            args.k = map.rows as i32;
            if at == 0 {
                (args.w1, args.b1, args.w1_dist, args.first) = (w, bias, dist, map.act);
            } else {
                args.hidden = map.cols as i32;
                (args.w2, args.b2, args.w2_dist, args.second) = (w, bias, dist, map.act);
            }
        }
        Ok(ready(args.launch(self.dtype, self.facts.processors), &args))
    }

    /// The rows of a map on the device, each on 16 bytes, and their distance.
    fn rows_of(&self, map: &Map) -> Result<(u64, i32), Problem> {
        let dist = map.cols.next_multiple_of(self.dtype.vector());
        let mut packed = vec![0.0; map.rows * dist];
        for (row, from) in packed.chunks_exact_mut(dist).zip(map.matrix.chunks_exact(map.cols)) {
            row[..map.cols].copy_from_slice(from);
        }
        Ok((self.stored(&packed)?, dist as i32))
    }
}
