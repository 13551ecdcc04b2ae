//! Weights in the order in which kernels read them: packed once where they are known, by a copy in each run where they are
//! learned. Either way a [`Packing`] says where each number goes.

use archc_cuda::{Copy_, Dtype};

use super::{Lower, Pending, axes, ready, stored};
use crate::diag::Problem;
use crate::plan::Place;

/// Where the numbers of a weight go in what its kernel reads, in elements.
pub(super) struct Packing {
    /// Length, stride in the weight, stride in the packed one.
    pub axes: Vec<(usize, i64, usize)>,
    /// The first of the weight's.
    pub from: usize,
    /// Where that goes.
    pub to: usize,
    /// Of the packed one, whose gaps are 0.
    pub len: usize,
}

/// A weight in the order of the network's tensors.
pub(super) enum Weight {
    Known(Vec<f32>),
    /// float32, as it is when the step runs.
    Learned(u64),
}

impl Packing {
    pub(super) fn new(axes: Vec<(usize, i64, usize)>, len: usize) -> Packing {
        Packing { axes, from: 0, to: 0, len }
    }

    fn is_identity(&self) -> bool {
        let same = self.axes.iter().all(|(len, from, to)| *len == 1 || *from == *to as i64);
        same && self.from == self.to && self.axes.iter().map(|(len, ..)| len).product::<usize>() == self.len
    }

    fn of(&self, values: &[f32]) -> Vec<f32> {
        fn go(axes: &[(usize, i64, usize)], values: &[f32], from: i64, packed: &mut [f32], to: usize) {
            let Some(((len, here, there), rest)) = axes.split_first() else {
                packed[to] = values[from as usize];
                return;
            };
            for index in 0..*len {
                go(rest, values, from + index as i64 * here, packed, to + index * there);
            }
        }
        let mut packed = vec![0.0; self.len];
        go(&self.axes, values, self.from as i64, &mut packed, self.to);
        packed
    }
}

impl Lower<'_> {
    /// The weight that is operand `at`.
    pub(super) fn weight(&self, at: usize) -> Result<Weight, Problem> {
        let view = self.view(at);
        Ok(match view.place {
            Place::Constant(number) => Weight::Known(self.load.known(number)?.split_off(view.offset)),
            _ => Weight::Learned(self.address(at)?),
        })
    }

    /// Where the packed form of known numbers is.
    pub(super) fn pack_known(&self, values: &[f32], packing: &Packing) -> Result<u64, Problem> {
        self.load.pool.put(&stored(self.dtype, &packing.of(values)))
    }

    /// Where the packed form of a weight is, and what makes it anew in each run.
    pub(super) fn pack(&self, weight: &Weight, packing: &Packing) -> Result<(u64, Option<Pending>), Problem> {
        let at = match weight {
            Weight::Known(values) => return Ok((self.pack_known(values, packing)?, None)),
            Weight::Learned(at) => *at,
        };
        let size = self.dtype.size();
        if size == 4 && packing.is_identity() && at.is_multiple_of(16) {
            return Ok((at, None));
        }
        // nobody writes the gaps
        let packed = self.load.pool.zeros(packing.len * size)?;
        if packing.axes.iter().any(|(len, ..)| *len == 0) {
            return Ok((packed, None));
        }
        let mut copy = Copy_ {
            x: at + 4 * packing.from as u64,
            y: packed + (packing.to * size) as u64,
            rank: packing.axes.len() as i32,
            shape: axes(&packing.axes.iter().map(|(len, ..)| *len).collect::<Vec<_>>()),
            ..Copy_::default()
        };
        for (axis, (_, from, to)) in packing.axes.iter().enumerate() {
            (copy.x_strides[axis], copy.y_strides[axis]) = (*from as i32, *to as i32);
        }
        let launch = copy.launch(Dtype::F32, self.dtype);
        Ok((packed, Some(ready(launch, &copy))))
    }
}
