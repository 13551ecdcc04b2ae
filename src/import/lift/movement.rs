//! ATen's ops in the language's: cutting, joining, repeating and picking values.

use super::view::{Fold, Lifted};
use super::{Fail, Lifting, Node, Out, ValueId, made, refuse};
use crate::import::array::{Array, Dtype};
use crate::import::eval::{self, Call};
use crate::ops::attr::Attr;

/// So many slices of one value are made at most.
const MOST_RUNS: usize = 64;

impl Lifting<'_> {
    pub(super) fn flatten(&mut self, x: &Lifted, from: usize, to: usize) -> Out<Lifted> {
        if from > to {
            return refuse("it ends before it begins");
        }
        let joined = x.dims[from..=to].iter().product();
        let dims = [&x.dims[..from], &[joined], &x.dims[to + 1..]].concat();
        let batch = x.batch.map(|fold| match fold.axis {
            axis if axis < from => fold,
            axis if axis > to => Fold { axis: axis - (to - from), ..fold },
            axis => Fold {
                axis: from,
                before: x.dims[from..axis].iter().product::<usize>() * fold.before,
                after: x.dims[axis + 1..=to].iter().product::<usize>() * fold.after,
            },
        });
        // [N, C, H, W] to [N, C H W] is what the language calls so
        let is_plain = from == 1 && to + 1 == x.dims.len() && batch == Some(Fold::plain(0)) && x.batch == batch;
        if is_plain && to > from && !self.is_shared(x) {
            let x = self.filled(x)?;
            let id = self.push(made("flatten", &[])?, &[x.id])?;
            return Ok(Lifted { id, dims, batch });
        }
        self.reshaped(x, dims, batch)
    }

    pub(super) fn unsqueeze(&mut self, x: &Lifted, axis: usize) -> Out<Lifted> {
        let mut dims = x.dims.clone();
        dims.insert(axis, 1);
        let batch = x.batch.map(|fold| Fold { axis: fold.axis + usize::from(axis <= fold.axis), ..fold });
        self.reshaped(x, dims, batch)
    }

    /// Without an axis of 1 that is not the batch's.
    pub(super) fn without_axis(&mut self, x: &Lifted, axis: usize) -> Out<Lifted> {
        let mut dims = x.dims.clone();
        dims.remove(axis);
        let batch = x.batch.map(|fold| Fold { axis: fold.axis - usize::from(axis < fold.axis), ..fold });
        self.reshaped(x, dims, batch)
    }

    pub(super) fn expand(&mut self, node: &Node) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let dims = self.described(node)?;
        if dims.len() < x.dims.len() {
            return refuse("it has fewer axes");
        }
        let mut x = self.ranked(&x, dims.len())?;
        let is_wide = |at: &usize| x.dims[*at] != dims[*at];
        if (0..dims.len()).filter(is_wide).any(|at| x.dims[at] != 1) {
            return refuse(format!("{:?} is not expanded to {dims:?}", x.dims));
        }
        if let Some(fold) = x.batch {
            if x.dims[fold.axis] != dims[fold.axis] {
                return refuse("it expands the batch");
            }
        } else if self.batch > 1
            && let Some(axis) = (0..dims.len()).find(|at| x.dims[*at] != dims[*at] && dims[*at] == self.batch)
        {
            // a copy for each sample
            x = self.batched_as(&x, Fold::plain(axis))?;
        }
        Ok(Lifted { dims, ..x })
    }

    pub(super) fn select(&mut self, x: &Lifted, axis: usize, at: usize) -> Out<Lifted> {
        let one = self.slice(x, axis, at, at + 1, 1)?;
        self.without_axis(&one, axis)
    }

    /// Every `step`th of the places `from..to` of an axis.
    pub(super) fn slice(&mut self, x: &Lifted, axis: usize, from: usize, to: usize, step: usize) -> Out<Lifted> {
        let len = x.dims[axis];
        if from >= to {
            return refuse("nothing is left of an axis");
        }
        if from == 0 && to == len && step == 1 {
            return Ok(x.clone());
        }
        let own = self.inner_axis(x, axis)?;
        let mut dims = x.dims.clone();
        // of copies one is as good as another
        let first = usize::from(x.batch.is_some());
        if self.own(x)[own as usize - first] == 1 {
            dims[axis] = (to - from).div_ceil(step);
            return Ok(Lifted { dims, ..x.clone() });
        }
        if step > 1 {
            return self.strided(x, axis, from, to, step);
        }
        dims[axis] = to - from;
        let mut args = vec![("axis", Attr::Int(own)), ("from", Attr::Int(from as i64))];
        if to < len {
            args.push(("to", Attr::Int(to as i64)));
        }
        let id = self.push(made("slice", &args)?, &[x.id])?;
        Ok(Lifted { id, dims, batch: x.batch })
    }

    /// The first of every `step` places.
    pub(super) fn strided(&mut self, x: &Lifted, axis: usize, from: usize, to: usize, step: usize) -> Out<Lifted> {
        let len = x.dims[axis];
        let count = (to - from).div_ceil(step);
        let split = |x: &Lifted, count: usize| {
            let mut dims = x.dims.clone();
            dims[axis] = count;
            dims.insert(axis + 1, step);
            let batch = x.batch.map(|fold| Fold { axis: fold.axis + usize::from(axis < fold.axis), ..fold });
            (dims, batch)
        };
        if len.is_multiple_of(step) && from / step + count == len / step {
            // one place of each group
            let (dims, batch) = split(x, len / step);
            let groups = self.reshaped(x, dims, batch)?;
            let groups = self.slice(&groups, axis, from / step, len / step, 1)?;
            return self.select(&groups, axis + 1, from % step);
        }
        let end = from + count * step;
        let mut x = self.slice(x, axis, from, end.min(len), 1)?;
        if end > len {
            // what is behind the end is cut off again
            let mut pads = vec![(0, 0); x.dims.len()];
            pads[axis] = (0, end - len);
            x = self.padded(&x, &pads, "constant", 0.0)?;
        }
        let (dims, batch) = split(&x, count);
        let groups = self.reshaped(&x, dims, batch)?;
        self.select(&groups, axis + 1, 0)
    }

    pub(super) fn concat(&mut self, parts: Vec<Lifted>, axis: usize) -> Out<Lifted> {
        // the batch is where a value that has one has it
        let batch = parts.iter().filter(|part| !self.is_shared(part)).find_map(|part| part.batch);
        let batch = batch.or_else(|| parts.iter().find_map(|part| part.batch));
        let mut ids = vec![];
        let mut dims: Option<Vec<usize>> = None;
        let parts: Vec<Lifted> = parts.into_iter().filter(|part| part.dims != [0]).collect();
        let Some(first) = parts.first() else { return refuse("there is nothing to join") };
        let rank = first.dims.len();
        let mut own_axis = axis as i64;
        for part in &parts {
            if part.dims.len() != rank {
                return refuse("ranks differ");
            }
            let part = match batch {
                Some(fold) if fold.axis == axis => return refuse("it joins samples"),
                Some(fold) => self.batched_as(part, fold)?,
                None => part.clone(),
            };
            let part = self.filled(&part)?;
            own_axis = self.axis_from_end(&part, axis)?;
            match &mut dims {
                Some(dims) => dims[axis] += part.dims[axis],
                None => dims = Some(part.dims.clone()),
            }
            ids.push(part.id);
        }
        let dims = dims.expect("there is a part");
        let id = match ids.as_slice() {
            [one] => *one,
            _ => self.push(made("concat", &[("axis", Attr::Int(own_axis))])?, &ids)?,
        };
        Ok(Lifted { id, dims, batch })
    }

    pub(super) fn repeat(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let times = node.ints(if op == "tile" { "dims" } else { "repeats" }).unwrap_or_default();
        let rank = times.len().max(x.dims.len());
        let mut x = self.ranked(&x, rank)?;
        let missing = rank - times.len();
        for (at, times) in times.into_iter().enumerate() {
            let axis = at + missing;
            let Some(times) = usize::try_from(times).ok().filter(|times| *times > 0) else {
                return refuse("it repeats nothing");
            };
            if times == 1 {
                continue;
            }
            if x.batch.is_some_and(|fold| fold.axis == axis) {
                return refuse("it repeats the batch");
            }
            if x.dims[axis] == 1 {
                // copies that an axis of 1 stands for
                if x.batch.is_none() && times == self.batch {
                    x = self.batched_as(&x, Fold::plain(axis))?;
                }
                x.dims[axis] = times;
                continue;
            }
            x = self.concat(vec![x; times], axis)?;
        }
        Ok(x)
    }

    pub(super) fn roll(&mut self, node: &Node) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let (shifts, axes) = (node.ints("shifts").unwrap_or_default(), node.ints("dims").unwrap_or_default());
        if shifts.len() != axes.len() || axes.is_empty() {
            return Err(Fail::Unknown);
        }
        let mut own = vec![];
        for axis in &axes {
            let axis = self.axis(*axis, x.dims.len())?;
            own.push(Attr::Int(self.inner_axis(&x, axis)?));
        }
        let shift = shifts.into_iter().map(Attr::Int).collect();
        self.same_axes(made("roll", &[("shift", Attr::List(shift)), ("axes", Attr::List(own))])?, &x)
    }

    /// Places of an axis in any order, each a range of neighbours.
    pub(super) fn picked(&mut self, x: &Lifted, axis: usize, places: &[usize]) -> Out<Lifted> {
        if places.iter().copied().eq(0..x.dims[axis]) {
            return Ok(x.clone());
        }
        let mut runs: Vec<(usize, usize)> = vec![];
        for place in places {
            match runs.last_mut() {
                Some((_, to)) if *to == *place => *to += 1,
                _ => runs.push((*place, *place + 1)),
            }
        }
        if runs.len() > MOST_RUNS {
            return refuse(format!("it picks {} places one by one", runs.len()));
        }
        let mut parts = vec![];
        for (from, to) in runs {
            parts.push(self.slice(x, axis, from, to, 1)?);
        }
        self.concat(parts, axis)
    }

    /// The places of an axis that an index names, which has any shape.
    pub(super) fn take(&mut self, x: &Lifted, axis: usize, index: &Array) -> Out<Lifted> {
        let len = x.dims[axis] as i64;
        let mut places = vec![];
        for place in index.to_int() {
            let at = if place < 0 { place.saturating_add(len) } else { place };
            match usize::try_from(at) {
                Ok(at) if at < len as usize => places.push(at),
                _ => return refuse(format!("there is no place {place} of {len}")),
            }
        }
        let dims = [&x.dims[..axis], index.shape(), &x.dims[axis + 1..]].concat();
        if x.batch.is_none() {
            // rows of a table
            let mut order: Vec<usize> = (0..x.dims.len()).collect();
            order.remove(axis);
            order.insert(0, axis);
            let filled = self.filled(x)?;
            let table = self.permute(&filled, &order)?;
            let rows = Array::int(index.shape(), places.iter().map(|place| *place as i64).collect());
            let rows = self.rows(index, rows)?;
            let id = self.push(made("gather", &[])?, &[table.id, rows])?;
            let rank = index.rank();
            let gathered = [index.shape(), &x.dims[..axis], &x.dims[axis + 1..]].concat();
            let gathered = Lifted { id, dims: gathered, batch: None };
            // the index' axes back to where its place was
            let back: Vec<usize> = (rank..rank + axis).chain(0..rank).chain(rank + axis..dims.len()).collect();
            return self.permute(&gathered, &back);
        }
        let line = self.picked(x, axis, &places)?;
        let batch = x
            .batch
            .map(|fold| Fold { axis: if fold.axis > axis { fold.axis + index.rank() - 1 } else { fold.axis }, ..fold });
        self.reshaped(&line, dims, batch)
    }

    /// The node of an index: the file's buffer where it is one.
    pub(super) fn rows(&mut self, index: &Array, rows: Array) -> Out<usize> {
        let value = self.trace.nodes[self.at].takes().find(
            |value| matches!(&self.vals[*value], Some(super::Val::Known(array)) if array.storage() == index.storage()),
        );
        match value {
            Some(value) if rows.to_int() == index.to_int() && self.trace.values[value].shape == index.shape() => {
                self.constant(value, index)
            }
            _ => Ok(self.made_constant(rows.cast(Dtype::F32))?.id),
        }
    }

    /// `x[i]`, `x[:, i]`, `x[i, j]` with known indices.
    pub(super) fn index(&mut self, node: &Node) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let mut given: Vec<(usize, Array)> = vec![];
        for (axis, value) in node.values("indices").unwrap_or_default().into_iter().enumerate() {
            let Some(value) = value else { continue };
            let Some(index) = self.known(value) else { return Err(Fail::Unknown) };
            if index.dtype() != Dtype::Int {
                return Err(Fail::Unknown);
            }
            given.push((axis, index));
        }
        match given.as_slice() {
            [] => Ok(x),
            [(axis, index)] => self.take(&x, *axis, index),
            [(first, _), .., (last, _)] if last - first + 1 == given.len() && x.batch.is_none() => {
                // neighbouring axes as one
                let (first, last) = (*first, *last);
                let mut common: Vec<usize> = vec![];
                for (_, index) in &given {
                    let Some(shape) = crate::import::array::broadcast(&common, index.shape()) else {
                        return refuse("indices do not fit together");
                    };
                    common = shape;
                }
                let len: usize = common.iter().product();
                let mut rows = vec![0i64; len];
                for (axis, index) in &given {
                    let Some(index) = index.expand(&common) else { return refuse("indices do not fit together") };
                    let axis_len = x.dims[*axis] as i64;
                    for (row, place) in rows.iter_mut().zip(index.to_int()) {
                        let at = if place < 0 { place.saturating_add(axis_len) } else { place };
                        if !(0..axis_len).contains(&at) {
                            return refuse(format!("there is no place {place} of {axis_len}"));
                        }
                        *row = *row * axis_len + at;
                    }
                }
                let x = self.filled(&x)?;
                let joined = self.flatten(&x, first, last)?;
                self.take(&joined, first, &Array::int(common, rows))
            }
            _ => Err(Fail::Unknown),
        }
    }

    /// Windows along an axis, whose places are a new last axis.
    pub(super) fn windows(&mut self, x: &Lifted, axis: usize, size: usize, step: usize) -> Out<Lifted> {
        if size == 0 || step == 0 || size > x.dims[axis] {
            return refuse("windows that are none");
        }
        let count = (x.dims[axis] - size) / step + 1;
        if count > MOST_RUNS {
            return refuse(format!("it makes {count} windows one by one"));
        }
        self.inner_axis(x, axis)?;
        let mut parts = vec![];
        for at in 0..count {
            let part = self.slice(x, axis, at * step, at * step + size, 1)?;
            parts.push(self.unsqueeze(&part, axis)?);
        }
        let joined = self.concat(parts, axis)?;
        // [.., windows, size, ..] with the places moved to the end
        let mut order: Vec<usize> = (0..joined.dims.len()).collect();
        let place = order.remove(axis + 1);
        order.push(place);
        self.permute(&joined, &order)
    }

    pub(super) fn pad(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let x = self.own_value(node, "self")?;
        let mode =
            if op == "pad" { node.text("mode").unwrap_or("constant").to_string() } else { "constant".to_string() };
        let sizes = node.ints("pad").unwrap_or_default();
        if !sizes.len().is_multiple_of(2) || sizes.len() > 2 * x.dims.len() {
            return refuse("sizes of other axes");
        }
        let mut x = self.filled(&x)?;
        let mut pads = vec![(0usize, 0usize); x.dims.len()];
        for (k, pair) in sizes.chunks_exact(2).enumerate() {
            let axis = x.dims.len() - 1 - k;
            let len = x.dims[axis] as i64;
            // less than nothing is cut off
            let (from, to) = ((-pair[0]).max(0), len - (-pair[1]).max(0));
            if from >= to {
                return refuse("nothing is left of an axis");
            }
            if (from, to) != (0, len) {
                x = self.slice(&x, axis, from as usize, to as usize, 1)?;
            }
            let size = |size: i64| usize::try_from(size.max(0)).unwrap_or(0);
            pads[axis] = (size(pair[0]), size(pair[1]));
        }
        self.padded(&x, &pads, &mode, node.float("value").unwrap_or(0.0))
    }

    /// With values put before and after each axis.
    pub(super) fn padded(&mut self, x: &Lifted, pads: &[(usize, usize)], mode: &str, value: f64) -> Out<Lifted> {
        if pads.iter().all(|pad| *pad == (0, 0)) {
            return Ok(x.clone());
        }
        let own = self.own(x);
        let mut sizes = vec![(0, 0); own.len()];
        let mut dims = x.dims.clone();
        for (axis, pad) in pads.iter().enumerate().filter(|(_, pad)| **pad != (0, 0)) {
            let at = self.inner_axis(x, axis)? as usize - usize::from(x.batch.is_some());
            sizes[at] = *pad;
            dims[axis] = dims[axis].saturating_add(pad.0).saturating_add(pad.1);
        }
        // pairs from the last axis on, up to the first that is padded
        let first = sizes.iter().position(|pad| *pad != (0, 0)).unwrap_or(0);
        let mut list = vec![];
        for (before, after) in sizes[first..].iter().rev() {
            list.extend([Attr::Int(*before as i64), Attr::Int(*after as i64)]);
        }
        let mut args = vec![("sizes", Attr::List(list))];
        if mode != "constant" {
            args.push(("mode", Attr::Word(mode.to_string())));
        } else if value != 0.0 {
            args.push(("value", Attr::Float(value)));
        }
        let id = self.push(made("pad", &args)?, &[x.id])?;
        Ok(Lifted { id, dims, batch: x.batch })
    }

    /// The parts of an axis, as slices.
    pub(super) fn pieces(&mut self, node: &Node, op: &str) -> Out<Vec<Option<Lifted>>> {
        let x = self.own_value(node, "self")?;
        if x.dims.is_empty() {
            return refuse("a number has no parts");
        }
        let axis = self.axis(node.int("dim").unwrap_or(0), x.dims.len())?;
        let len = x.dims[axis];
        let ranges: Vec<(usize, usize)> = match op {
            "unbind" => (0..len).map(|at| (at, at + 1)).collect(),
            _ => {
                let get = |_: ValueId| None;
                eval::parts(&Call { node, get: &get }, op, len)
                    .map_err(|_| Fail::Refused("parts that do not fill the axis".into()))?
            }
        };
        let is_used: Vec<bool> =
            node.outputs.iter().map(|output| output.is_some_and(|output| self.last_use[output] > self.at)).collect();
        if is_used.len() != ranges.len() {
            return refuse("it gives another number of parts than the file says");
        }
        self.inner_axis(&x, axis)?;
        let mut parts = vec![];
        for (at, (from, to)) in ranges.iter().enumerate() {
            if !is_used[at] {
                parts.push(None);
                continue;
            }
            let mut part = self.slice(&x, axis, *from, *to, 1)?;
            if op == "unbind" {
                part = self.without_axis(&part, axis)?;
            }
            parts.push(Some(part));
        }
        Ok(parts)
    }
}
