//! Means of images from the sums that convolutions leave, and what squeeze-and-excitation makes of them.

use rayon::prelude::*;

use super::conv::columns_in_rows;
use super::{Lower, OnCuda, Pending, ready};
use crate::diag::Problem;
use crate::net::{Excitation, Excite, Kind, Squeeze};
use crate::plan::{Place, View};
use archc_base::Act;
use archc_cuda::Sums;

/// The sums that a convolution leaves.
#[derive(Clone, Copy, Debug)]
pub(in crate::exec::cuda) struct Squeezed {
    pub sums: Sums,
    /// Of an image.
    pub pixels: i32,
    /// As [`archc_cuda::Excitation`] has it.
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

impl OnCuda for Excitation {
    fn launches(&self, to: &Lower) -> Result<Vec<Pending>, Problem> {
        let net = to.load.plan.net();
        let means = to.node.operands[0];
        let conv = net.node(means).operands[0];
        let squeezed = to.load.squeezed.lock().expect("no thread panics while it holds the lock")[&conv];
        let mut weights = to.step.reads[1..].iter().map(|view| {
            let Place::Constant(number) = view.place else { unreachable!("the pass asks for known weights") };
            to.load.known(number)
        });
        let mut next = || weights.next().expect("each map has its own");
        let mut joined: Vec<Map> = vec![];
        for Excite { width, act: after, bias } in &self.maps {
            let matrix = next()?;
            let bias = if *bias { Some(next()?) } else { None };
            let map = Map { rows: *width, cols: matrix.len() / width, matrix, bias, act: *after };
            match joined.last_mut() {
                Some(last) if last.act == Act::None => *last = last.then(&map),
                _ => joined.push(map),
            }
        }
        let c = net.node(means).shape.len();
        let maps = joined.len() as i32;
        let mut args = archc_cuda::Excitation { c: c as i32, maps, ..of_sums(to, squeezed, &to.step.write) };
        for (at, map) in joined.iter().enumerate() {
            let (w, stride) = rows_of(to, map)?;
            let bias = map.bias.as_ref().map_or(Ok(0), |bias| to.floats(bias))?;
            args.k = map.rows as i32;
            if at == 0 {
                (args.w1, args.b1, args.w1_stride, args.first) = (w, bias, stride, map.act.into());
            } else {
                args.hidden = map.cols as i32;
                (args.w2, args.b2, args.w2_stride, args.second) = (w, bias, stride, map.act.into());
            }
        }
        Ok(vec![ready(args.launch(to.dtype, to.processors()), &args)])
    }
}

impl Lower<'_> {
    /// The same sums with a place on the device.
    pub(super) fn room_for_sums(&self, sums: Sums) -> Result<Sums, Problem> {
        let at = self.load.pool.room(4 * sums.floats(self.load.plan.batch()))?;
        Ok(Sums { at, ..sums })
    }

    /// Notes the sums that this convolution leaves, and makes means of them where something else than an excitation reads
    /// them.
    pub(super) fn squeezed(&self, squeezed: Squeezed) -> Option<Pending> {
        self.load.squeezed.lock().expect("no thread panics while it holds the lock").insert(self.id, squeezed);
        let net = self.load.plan.net();
        let wanted = || {
            let mut means =
                net.readers(self.id).into_iter().filter(|reader| matches!(net.node(*reader).kind, Kind::Means(_)));
            let is_excitation = |reader| matches!(net.node(reader).kind, Kind::Excitation(_));
            means.any(|means| net.is_output(means) || !net.readers(means).into_iter().all(is_excitation))
        };
        let to = match self.node.epilogue.squeeze {
            Squeeze::Only => Some(&self.step.write),
            _ => self.step.means.as_ref().filter(|_| wanted()),
        };
        to.map(|to| {
            let channels = to.dims[1] as i32;
            let mut args = archc_cuda::Excitation { c: channels, k: channels, ..of_sums(self, squeezed, to) };
            ready(args.launch(self.dtype, self.processors()), &args)
        })
    }
}

fn of_sums(lower: &Lower, squeezed: Squeezed, to: &View) -> archc_cuda::Excitation {
    archc_cuda::Excitation {
        sums: squeezed.sums,
        y: lower.load.place(to),
        n: to.dims[0] as i32,
        pixels: squeezed.pixels,
        part: squeezed.part,
        y_stride: to.strides[0] as i32,
        ..archc_cuda::Excitation::default()
    }
}

/// The rows of a map on the device, each on 16 bytes, and their distance.
fn rows_of(to: &Lower, map: &Map) -> Result<(u64, i32), Problem> {
    let packing = columns_in_rows(map.cols, map.rows, to.dtype);
    Ok((to.pack_known(&map.matrix, &packing)?, (packing.len / map.rows) as i32))
}
