//! The batch, followed by axis.
//!
//! A value of the trace has the batch somewhere among its axes, perhaps as a factor of one: windows of [N * 49, ..], heads of
//! [L, N * 8, ..]. archc's has it in front, as a symbol, and the other axes in the same order, the axis that held the batch
//! replaced by what else it held. So a reshape of the one is a reshape of the other, and one that merely moves the batch is
//! nothing at all.

use super::{Fail, Lifting, Out, refuse};
use crate::import::draft::DraftId;
use crate::ops::Op;
use crate::ops::join::Concat;
use crate::ops::layout::{Permute, Reshape};

/// The batch within an axis: the axis counts `before` times N times `after` places, the last the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    pub axis: usize,
    pub before: usize,
    pub after: usize,
}

impl Fold {
    /// The batch as an axis of its own.
    pub fn plain(axis: usize) -> Fold {
        Fold { axis, before: 1, after: 1 }
    }

    pub fn is_plain(self) -> bool {
        self.before == 1 && self.after == 1
    }

    /// What takes the axis' place behind the batch.
    pub fn rest(self) -> Vec<usize> {
        [self.before, self.after].into_iter().filter(|len| *len > 1).collect()
    }
}

/// A value of the trace as a node. Where the batch is none of the node's axes though the value has one, the node has a first
/// axis of 1 in its place: every sample's is the same. An axis of 1 may stand for one that was expanded.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifted {
    pub id: DraftId,
    /// As the trace has them.
    pub dims: Vec<usize>,
    pub batch: Option<Fold>,
}

/// The axes behind the batch.
pub fn inner(dims: &[usize], batch: Option<Fold>) -> Vec<usize> {
    match batch {
        None => dims.to_vec(),
        Some(fold) => [&dims[..fold.axis], &fold.rest(), &dims[fold.axis + 1..]].concat(),
    }
}

/// Where the batch of `batch` samples is after a reshape that keeps the order of values.
///
/// A batch of 1 leaves a choice, as it can stand at either end of its neighbours. It is its own axis where there is one of 1,
/// else it goes with windows that follow it, as they are folded into a batch, but not with the last axis, which holds features.
pub fn fold_after(dims: &[usize], fold: Fold, shape: &[usize], batch: usize) -> Option<Fold> {
    let before: usize = dims[..fold.axis].iter().product::<usize>() * fold.before;
    let mut at = 1;
    let mut found: Vec<(usize, Fold)> = vec![];
    for (axis, len) in shape.iter().enumerate() {
        let end = at * len;
        if before.is_multiple_of(at) && end.is_multiple_of(before * batch) && at <= before {
            let fold = Fold { axis, before: before / at, after: end / (before * batch) };
            let is_last = axis + 1 == shape.len() && shape.len() > 1;
            let rank = match (fold.before, fold.after) {
                (1, 1) => 0,
                (1, _) if !is_last => 1,
                (_, 1) if !is_last => 2,
                (1, _) => 3,
                (_, 1) => 4,
                _ => 5,
            };
            found.push((rank, fold));
        }
        at = end;
    }
    // of several axes of 1 the nearest to where it was
    found.sort_by_key(|(rank, after)| (*rank, after.axis.abs_diff(fold.axis)));
    found.first().map(|(_, fold)| *fold)
}

impl Lifting<'_> {
    /// The node's axes behind the batch, or behind the 1 in its place.
    pub fn own(&self, x: &Lifted) -> Vec<usize> {
        let shape = self.drafts.shape(x.id);
        match x.batch.is_some() && !shape.batched {
            true => shape.dims[1..].to_vec(),
            false => shape.dims.clone(),
        }
    }

    /// Whether it has no sample's own values.
    pub fn is_shared(&self, x: &Lifted) -> bool {
        !self.drafts.shape(x.id).batched
    }

    /// The node's axis, the batch counted, of an axis of the trace's value; None of that with the batch.
    pub fn axis_in(&self, x: &Lifted, axis: usize) -> Option<usize> {
        match x.batch {
            None => Some(axis),
            Some(fold) if axis == fold.axis => None,
            Some(fold) if axis < fold.axis => Some(axis + 1),
            Some(fold) => Some(axis + fold.rest().len()),
        }
    }

    /// As [`Lifting::axis_in`], for an op that would mix samples along the batch's.
    pub fn inner_axis(&self, x: &Lifted, axis: usize) -> Out<i64> {
        let found = self.axis_in(x, axis);
        found.map(|axis| axis as i64).ok_or_else(|| Fail::Refused("it mixes the samples of a batch".into()))
    }

    /// The same values under other axes, in the same order.
    pub fn reshaped(&mut self, x: &Lifted, dims: Vec<usize>, batch: Option<Fold>) -> Out<Lifted> {
        debug_assert_eq!(batch.is_some(), x.batch.is_some(), "a batch does not come or go");
        let wanted = inner(&dims, batch);
        let from = inner(&x.dims, x.batch);
        let mut own = self.own(x);
        let mut x = x.clone();
        let mut target = wanted.clone();
        if own != from {
            // an expanded axis stays one where it is not joined with others
            match expanded_after(&from, &own, &wanted) {
                Some(kept) => target = kept,
                None => {
                    x = self.filled(&x)?;
                    own = self.own(&x);
                }
            }
        }
        if own == target {
            return Ok(Lifted { id: x.id, dims, batch });
        }
        let mut shape: Vec<i64> = target.iter().map(|len| *len as i64).collect();
        if batch.is_some() && self.is_shared(&x) {
            shape.insert(0, 1);
        }
        let id = self.push(Reshape { shape }, &[x.id])?;
        Ok(Lifted { id, dims, batch })
    }

    /// A reshape as the trace has it, whose sizes count the batch.
    pub fn reshape(&mut self, x: &Lifted, dims: Vec<usize>) -> Out<Lifted> {
        let batch = match x.batch {
            None => None,
            Some(fold) => match fold_after(&x.dims, fold, &dims, self.batch) {
                Some(fold) => Some(fold),
                None => return refuse(format!("a reshape from {:?} to {dims:?} cuts the batch up", x.dims)),
            },
        };
        self.reshaped(x, dims, batch)
    }

    pub fn permute(&mut self, x: &Lifted, order: &[usize]) -> Out<Lifted> {
        let dims: Vec<usize> = order.iter().map(|axis| x.dims[*axis]).collect();
        let batch = x.batch.map(|fold| Fold {
            axis: order.iter().position(|axis| *axis == fold.axis).expect("an order has every axis"),
            ..fold
        });
        let mut axes: Vec<i64> = vec![];
        if x.batch.is_some() {
            axes.push(0);
        }
        for axis in order {
            match (x.batch, self.axis_in(x, *axis)) {
                (_, Some(axis)) => axes.push(axis as i64),
                (Some(fold), None) => axes.extend((0..fold.rest().len()).map(|at| (fold.axis + 1 + at) as i64)),
                (None, None) => {}
            }
        }
        if axes.iter().enumerate().all(|(at, axis)| at as i64 == *axis) {
            return Ok(Lifted { id: x.id, dims, batch });
        }
        // axes of 1 may change places by a reshape, which costs nothing
        let id = self.push(Permute { axes }, &[x.id])?;
        Ok(Lifted { id, dims, batch })
    }

    /// With every expanded axis as long as it is.
    pub fn filled(&mut self, x: &Lifted) -> Out<Lifted> {
        let wanted = inner(&x.dims, x.batch);
        let mut id = x.id;
        let first = usize::from(x.batch.is_some());
        for (axis, (len, own)) in wanted.iter().zip(self.own(x)).enumerate() {
            if *len == own {
                continue;
            }
            if *len > MOST_COPIES {
                return refuse(format!("it makes {len} copies of a value"));
            }
            id = self.push(Concat { axis: (axis + first) as i64 }, &vec![id; *len])?;
        }
        Ok(Lifted { id, ..x.clone() })
    }

    /// Of a value that every sample shares: the 1 in the batch's place as an axis of the trace's, expanded.
    pub fn unbatched(&mut self, x: &Lifted) -> Out<Lifted> {
        let (Some(fold), true) = (x.batch, self.is_shared(x)) else { return Ok(x.clone()) };
        if !fold.is_plain() {
            return refuse("copies for each sample are mixed with others");
        }
        let mut own = self.own(x);
        own.insert(fold.axis, 1);
        let id = match self.drafts.shape(x.id).dims == own {
            true => x.id,
            false => self.push(Reshape { shape: own.iter().map(|len| *len as i64).collect() }, &[x.id])?,
        };
        Ok(Lifted { id, dims: x.dims.clone(), batch: None })
    }

    /// A value without batch with a 1 where others have theirs, for ops that want all axes alike. `fold` is for a value of as
    /// many axes.
    pub fn batched_as(&mut self, x: &Lifted, fold: Fold) -> Out<Lifted> {
        if x.batch == Some(fold) {
            return Ok(x.clone());
        }
        if let Some(own) = x.batch {
            let is_free = self.batch == 1 && x.dims.get(fold.axis) == Some(&(fold.before * fold.after));
            // with one sample the batch may be any axis of 1, or stand anywhere in its own
            if is_free && (own.axis == fold.axis || own.is_plain()) {
                return self.reshaped(x, x.dims.clone(), Some(fold));
            }
            return refuse("it pairs the batch of one value with another axis of the other");
        }
        let len = x.dims[fold.axis];
        let own = self.drafts.shape(x.id).dims[fold.axis];
        let splits = self.batch == 1 && own == fold.before * fold.after;
        if own != 1 && !splits {
            return refuse(format!("an axis of {len} meets the batch"));
        }
        // what it has on the axis is the same for every sample
        let rest = if own == 1 { vec![1; fold.rest().len()] } else { fold.rest() };
        let all = self.drafts.shape(x.id).dims.clone();
        let wanted = [&[1], &all[..fold.axis], &rest, &all[fold.axis + 1..]].concat();
        let id = match all == wanted {
            true => x.id,
            false => self.push(Reshape { shape: wanted.iter().map(|len| *len as i64).collect() }, &[x.id])?,
        };
        let mut dims = x.dims.clone();
        dims[fold.axis] = fold.before * fold.after * self.batch;
        Ok(Lifted { id, dims, batch: Some(fold) })
    }

    /// With axes of 1 put in front, so that it has `rank`.
    pub fn ranked(&mut self, x: &Lifted, rank: usize) -> Out<Lifted> {
        let missing = rank.saturating_sub(x.dims.len());
        if missing == 0 {
            return Ok(x.clone());
        }
        let dims = [vec![1; missing], x.dims.clone()].concat();
        let batch = x.batch.map(|fold| Fold { axis: fold.axis + missing, ..fold });
        self.reshaped(x, dims, batch)
    }

    /// A value for an op that broadcasts from the right, beside one of `rank` axes with such a batch.
    pub fn meeting(&mut self, x: &Lifted, fold: Fold, rank: usize) -> Out<Lifted> {
        if x.batch.is_some() {
            let full = self.ranked(x, rank)?;
            return self.batched_as(&full, fold);
        }
        // without batch it pairs from the right as it is, up to the batch's axis
        let Some(axis) = (fold.axis + x.dims.len()).checked_sub(rank) else { return Ok(x.clone()) };
        let own = self.drafts.shape(x.id).dims[axis];
        if own == 1 && (axis == 0 || fold.rest().len() == 1) {
            return Ok(x.clone());
        }
        let shared = self.batched_as(x, Fold { axis, ..fold })?;
        if axis == 0 {
            return Ok(shared);
        }
        // in front of what pairs from the right there is no batch
        let dims = self.drafts.shape(shared.id).dims[1..].to_vec();
        let shape = dims.iter().map(|len| *len as i64).collect();
        let id = self.push(Reshape { shape }, &[x.id])?;
        Ok(Lifted { id, dims: x.dims.clone(), batch: None })
    }

    /// Two values for an op that broadcasts from the right: their nodes, and what the result is in the trace.
    pub fn paired(&mut self, a: &Lifted, b: &Lifted) -> Out<(DraftId, DraftId, Vec<usize>, Option<Fold>)> {
        self.paired_but(a, b, 0)
    }

    /// The same but for the last `tail` axes, which are the op's own and are left out of the result.
    pub fn paired_but(
        &mut self,
        a: &Lifted,
        b: &Lifted,
        tail: usize,
    ) -> Out<(DraftId, DraftId, Vec<usize>, Option<Fold>)> {
        let (mut a, mut b) = (a.clone(), b.clone());
        // what all samples share has a batch only beside one that has
        if self.is_shared(&a) && self.is_shared(&b) && a.batch.is_some() != b.batch.is_some() {
            (a, b) = (self.unbatched(&a)?, self.unbatched(&b)?);
        }
        let rank = a.dims.len().max(b.dims.len());
        let fold = match (a.batch, b.batch) {
            (None, None) => None,
            _ => {
                let shifted = |x: &Lifted| x.batch.map(|fold| Fold { axis: fold.axis + rank - x.dims.len(), ..fold });
                // that of the value that has samples of its own
                let (first, second) = if self.is_shared(&a) { (&b, &a) } else { (&a, &b) };
                let mut fold = shifted(first).or(shifted(second)).expect("one has a batch");
                let other = shifted(second);
                if let (Some(other), 1) = (other, self.batch)
                    && other != fold
                {
                    // of one sample: the axis that both can have it in
                    let len =
                        |x: &Lifted, axis: usize| (axis + x.dims.len()).checked_sub(rank).map_or(1, |at| x.dims[at]);
                    if len(second, fold.axis) != fold.before * fold.after
                        && len(first, other.axis) == other.before * other.after
                    {
                        fold = other;
                    }
                }
                a = self.meeting(&a, fold, rank)?;
                b = self.meeting(&b, fold, rank)?;
                Some(fold)
            }
        };
        let outer = |x: &Lifted| {
            let mut dims = [vec![1; rank - x.dims.len()], x.dims.clone()].concat();
            // what was cut to one sample is as long as the others
            if let Some(fold) = fold
                && (dims[fold.axis] != 1 || x.batch.is_some())
            {
                dims[fold.axis] = fold.before * self.batch * fold.after;
            }
            dims.truncate(rank - tail);
            dims
        };
        let dims = crate::import::array::broadcast(&outer(&a), &outer(&b));
        let Some(dims) = dims else { return refuse(format!("{:?} and {:?} do not fit", a.dims, b.dims)) };
        Ok((a.id, b.id, dims, fold))
    }

    /// Pushes an op of one value that keeps its axes.
    pub fn same_axes(&mut self, op: impl Into<Op>, x: &Lifted) -> Out<Lifted> {
        let id = self.push(op, &[x.id])?;
        Ok(Lifted { id, ..x.clone() })
    }
}

/// So many copies of a value are made at most.
const MOST_COPIES: usize = 64;

/// The axes that a node has after a reshape from `from` to `to`, where it has 1 for those that were expanded; None where an
/// expanded axis is joined with another one or cut.
fn expanded_after(from: &[usize], own: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let (mut i, mut j) = (0, 0);
    let mut result = vec![];
    while i < from.len() || j < to.len() {
        let (first_i, first_j) = (i, j);
        let (mut a, mut b) = (1usize, 1usize);
        // the shortest runs of axes with as many values
        loop {
            if a <= b && i < from.len() && (a < b || i == first_i) {
                a *= from[i];
                i += 1;
            } else if b <= a && j < to.len() && (b < a || j == first_j) {
                b *= to[j];
                j += 1;
            } else if a < b && i < from.len() {
                a *= from[i];
                i += 1;
            } else if b < a && j < to.len() {
                b *= to[j];
                j += 1;
            } else {
                break;
            }
            if a == b && i > first_i && j > first_j {
                break;
            }
        }
        if a != b && !(a == 1 || b == 1) {
            return None;
        }
        let expanded = (first_i..i).filter(|at| own[*at] != from[*at]).count();
        let real = (first_i..i).any(|at| own[at] > 1);
        match (expanded, real) {
            (0, _) => result.extend(&to[first_j..j]),
            (_, false) => result.extend(vec![1; j - first_j]),
            _ => return None,
        }
    }
    (result.len() == to.len()).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_is_found_after_a_reshape() {
        let fold = |axis, before, after| Fold { axis, before, after };
        type Case<'a> = (&'a [usize], Fold, &'a [usize], usize, Option<Fold>);
        let cases: &[Case<'_>] = &[
            // heads
            (&[2, 197, 2304], fold(0, 1, 1), &[2, 197, 3, 12, 64], 2, Some(fold(0, 1, 1))),
            // windows folded in, and back
            (&[2, 4, 4, 7, 7, 96], fold(0, 1, 1), &[32, 7, 7, 96], 2, Some(fold(0, 1, 16))),
            (&[32, 49, 96], fold(0, 1, 16), &[2, 4, 4, 7, 7, 96], 2, Some(fold(0, 1, 1))),
            (&[1, 4, 4, 7, 7, 96], fold(0, 1, 1), &[16, 7, 7, 96], 1, Some(fold(0, 1, 16))),
            // sequence first: [L, N, E] to [L, N * heads, d], and [L, N, heads, d] to [L * N, E]
            (&[50, 2, 768], fold(1, 1, 1), &[50, 24, 64], 2, Some(fold(1, 1, 12))),
            (&[50, 1, 768], fold(1, 1, 1), &[50, 12, 64], 1, Some(fold(1, 1, 12))),
            (&[50, 2, 12, 64], fold(1, 1, 1), &[100, 768], 2, Some(fold(0, 50, 1))),
            (&[50, 1, 12, 64], fold(1, 1, 1), &[50, 768], 1, Some(fold(0, 50, 1))),
            (&[100, 768], fold(0, 50, 1), &[50, 2, 768], 2, Some(fold(1, 1, 1))),
            // a batch that is cut
            (&[2, 6], fold(0, 1, 1), &[3, 4], 2, None),
        ];
        for (dims, from, shape, batch, wanted) in cases {
            assert_eq!(fold_after(dims, *from, shape, *batch), *wanted, "{dims:?} to {shape:?}");
        }
    }

    #[test]
    fn expanded_axes_stay_where_they_are_alone() {
        assert_eq!(expanded_after(&[4, 7, 6], &[4, 1, 6], &[4, 7, 2, 3]), Some(vec![4, 1, 2, 3]));
        assert_eq!(expanded_after(&[4, 7], &[4, 1], &[1, 4, 7, 1]), Some(vec![1, 4, 1, 1]));
        assert_eq!(expanded_after(&[4, 7], &[4, 1], &[28]), None);
        assert_eq!(expanded_after(&[2, 7], &[1, 1], &[14]), Some(vec![1]));
    }
}
