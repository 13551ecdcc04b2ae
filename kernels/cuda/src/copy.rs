//! The same numbers elsewhere.

use super::launch::{len, plain, strided};
use super::{Dtype, Launch, RANK, Stored, To, Variant};

args! {
    const THREADS: usize = 256;
    const SIDE: usize = 32;

    /// The same numbers elsewhere, x of the variant's first dtype, y of its second.
    pub struct Copy_ {
        x: *const Stored,
        y: *mut To,
        rank: i32,
        /// For `copy_few` alone: how many numbers after those of y's last axis are set to 0; see [`Copy_::launch_with_zeros`].
        zeros: i32,
        shape: [i32; RANK],
        x_strides: [i32; RANK],
        y_strides: [i32; RANK],
    }
}

pub(super) fn variants() -> Vec<Variant> {
    let joined = |from: Dtype, to: Dtype| from == to || from == Dtype::F32 || to == Dtype::F32;
    let from = |from| Dtype::STORED.into_iter().filter(move |to| joined(from, *to)).map(move |to| variant(from, to));
    Dtype::STORED.into_iter().flat_map(from).collect()
}

fn variant(from: Dtype, to: Dtype) -> Variant {
    let (from, to) = (from.stored().name(), to.stored().name());
    Variant { file: "copy", defines: vec![("DTYPE", from.into()), ("TO", to.into())] }
}

impl Copy_ {
    /// Axes may come in any order; the copy goes through them by y's strides, largest first, and joins neighbours.
    pub fn launch(&mut self, from: Dtype, to: Dtype) -> Launch {
        self.tidy();
        let variant = variant(from, to);
        let rank = self.rank as usize;
        // where x runs along another axis than y
        let inner = (0..rank).find(|axis| self.x_strides[*axis] == 1).filter(|axis| *axis + 1 < rank);
        let Some(inner) = inner.filter(|axis| self.shape[*axis] >= 8) else {
            return strided(variant, "copy", len(&self.shape, self.rank), THREADS);
        };
        self.swap_to_second(inner);
        if self.shape[rank - 1] < 8 {
            return strided(variant, "copy_few", len(&self.shape, self.rank - 1), THREADS);
        }
        let tiles = |axis: usize| (self.shape[axis] as usize).div_ceil(SIDE);
        let count = tiles(rank - 2) * tiles(rank - 1) * len(&self.shape, self.rank - 2);
        plain(variant, "copy_tiles", [count as u32, 1, 1], [SIDE, THREADS / SIDE])
    }

    /// [`Copy_::launch`] that also sets `zeros` numbers after those of y's last axis to 0; none where it would be another
    /// kernel than the one that can.
    pub fn launch_with_zeros(&mut self, from: Dtype, to: Dtype, zeros: usize) -> Option<Launch> {
        let launch = self.launch(from, to);
        if launch.kernel != "copy_few" || self.y_strides[self.rank as usize - 1] != 1 {
            return None;
        }
        self.zeros = zeros as i32;
        Some(launch)
    }

    /// Sorts axes by y's strides and joins those that are one.
    fn tidy(&mut self) {
        let mut axes: Vec<[i32; 3]> = (0..self.rank as usize)
            .map(|axis| [self.shape[axis], self.x_strides[axis], self.y_strides[axis]])
            .filter(|[len, ..]| *len != 1)
            .collect();
        axes.sort_by_key(|[_, _, y]| std::cmp::Reverse(*y));
        let mut joined: Vec<[i32; 3]> = vec![];
        for [len, x, y] in axes {
            match joined.last_mut() {
                Some(last) if last[1] == x * len && last[2] == y * len => *last = [last[0] * len, x, y],
                _ => joined.push([len, x, y]),
            }
        }
        if joined.is_empty() {
            joined.push([1, 1, 1]);
        }
        self.rank = joined.len() as i32;
        for (axis, [len, x, y]) in joined.into_iter().enumerate() {
            (self.shape[axis], self.x_strides[axis], self.y_strides[axis]) = (len, x, y);
        }
    }

    /// Moves an axis to the last place but one; the others keep their order.
    fn swap_to_second(&mut self, axis: usize) {
        let second = self.rank as usize - 2;
        for values in [&mut self.shape, &mut self.x_strides, &mut self.y_strides] {
            values[axis..=second].rotate_left(1);
        }
    }
}
