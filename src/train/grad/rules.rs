//! The rules: what the derivative `dy` of a step's result gives its operands. `y` is the step, `x` its first operand.

use archc_base::{Act, Binary, Reduce, Window};

use super::{Backward, Part};
use crate::ops::Op;
use crate::ops::shape::Shape;
use crate::opt::{ChannelMap, Id, Kind, Learn, Weights};

impl Backward<'_> {
    /// # Panics
    /// At a kind that only passes make: the backward pass is added before them.
    pub(super) fn rule(&mut self, y: Id, dy: Id) {
        let node = self.net.node(y).clone();
        let operands = node.operands;
        let x = operands.first().copied().unwrap_or(y);
        let out = self.net.node(x).shape.clone();
        match node.kind {
            Kind::Identity => {
                let epilogue = node.epilogue;
                let seen = if epilogue.after.by_result() { y } else { x };
                let dz = self.act(epilogue.after, dy, seen);
                self.give(x, dz);
                if let Some(residual) = epilogue.residual {
                    self.give(residual, dz);
                }
            }
            Kind::Learn(learn) => self.learned(y, dy, &learn, &operands),
            Kind::Conv { window, groups, weights } => {
                let weight = self.plain(&weights);
                let dx = self.learn(Learn::ConvData { window, groups }, vec![dy, weight], out);
                self.give(x, dx);
            }
            Kind::ConvTranspose { window, groups, weights, .. } => {
                let weight = self.plain(&weights);
                let dx = self.transposed_data(window, groups, dy, weight, x);
                self.give(x, dx);
            }
            Kind::Linear { weights } => {
                let weight = self.plain(&weights);
                let dx = self.learn(Learn::LinearData, vec![dy, weight], out);
                self.give(x, dx);
            }
            Kind::Channels { axis, maps } => {
                let factor = |map| match map {
                    ChannelMap::Norm { weight, var, eps, .. } => Some(ChannelMap::Factor { weight, var, eps }),
                    ChannelMap::Shift(_) => None,
                    factor => Some(factor),
                };
                let maps: Vec<ChannelMap> = maps.into_iter().filter_map(factor).collect();
                let dx = if maps.is_empty() { dy } else { self.add(Kind::Channels { axis, maps }, vec![dy], out) };
                self.give(x, dx);
            }
            Kind::PRelu { slope } => {
                let slope = self.constant(&slope);
                let dx = self.learn(Learn::PReluData, vec![dy, x, slope], out);
                self.give(x, dx);
            }
            Kind::LayerNorm { axis, eps, weight, .. } => {
                let weight = self.constant(&weight);
                let dx = self.learn(Learn::LayerNormData { axis, eps: eps as f32 }, vec![dy, x, weight], out);
                self.give(x, dx);
            }
            Kind::GroupNorm { groups, eps, weight, .. } => {
                let weight = self.constant(&weight);
                let dx = self.learn(Learn::GroupNormData { groups, eps: eps as f32 }, vec![dy, x, weight], out);
                self.give(x, dx);
            }
            Kind::Softmax { axis, log } => {
                let dx = self.learn(Learn::SoftmaxData { axis, log }, vec![dy, y], out);
                self.give(x, dx);
            }
            Kind::Normalize { axis, eps } => {
                let dx = self.learn(Learn::NormalizeData { axis, eps: eps as f32 }, vec![dy, x], out);
                self.give(x, dx);
            }
            Kind::Pool { pool, window } => {
                let dx = self.learn(Learn::PoolData { pool, window }, vec![dy, x], out);
                self.give(x, dx);
            }
            Kind::AdaptivePool { reduce } => {
                let dx = self.learn(Learn::AdaptivePoolData { reduce }, vec![dy, x], out);
                self.give(x, dx);
            }
            Kind::Reduce { reduce: Reduce::Mean, axes } => {
                let dx = self.learn(Learn::MeanData { axes }, vec![dy], out);
                self.give(x, dx);
            }
            Kind::Reduce { reduce: Reduce::Max, axes } => {
                let dx = self.learn(Learn::MaxData { axes }, vec![dy, x, y], out);
                self.give(x, dx);
            }
            Kind::Binary { op } => self.binary(op, dy, operands[0], operands[1]),
            Kind::Matmul { scale } => self.matmul(scale, dy, operands[0], operands[1]),
            Kind::Concat { axis } => {
                let mut from = 0;
                for operand in operands {
                    let shape = self.shape(operand);
                    // of an axis that is not the batch
                    let len = shape.concrete(1)[axis];
                    if self.needs(operand) {
                        let part = node.shape.with_axis(axis, len);
                        let part = self.add(Kind::Slice { axis, from }, vec![dy], part);
                        let part = self.unstretched(part, None, &shape, false);
                        self.give(operand, part);
                    }
                    from += len;
                }
            }
            Kind::Reshape => {
                let dx = self.add(Kind::Reshape, vec![dy], out);
                self.give(x, dx);
            }
            Kind::Permute { axes } => {
                let mut back = vec![0; axes.len()];
                axes.iter().enumerate().for_each(|(at, axis)| back[*axis] = at);
                let dx = self.add(Kind::Permute { axes: back }, vec![dy], out);
                self.give(x, dx);
            }
            Kind::Slice { axis, from } => {
                if self.needs(x) {
                    self.parts[x.0].push(Part::Placed { axis, from, part: dy });
                }
            }
            Kind::Pad { before, .. } => {
                let (mut dx, lens) = (dy, out.concrete(1));
                for (axis, from) in before.into_iter().enumerate().skip(usize::from(out.batched)) {
                    let shape = self.shape(dx);
                    if shape.axis(axis) != Some(lens[axis]) {
                        let shape = shape.with_axis(axis, lens[axis]);
                        dx = self.add(Kind::Slice { axis, from }, vec![dx], shape);
                    }
                }
                self.give(x, dx);
            }
            Kind::Roll { shifts } => {
                let lens = out.concrete(1);
                let back = shifts.into_iter().map(|(axis, shift)| (axis, (lens[axis] - shift) % lens[axis])).collect();
                let dx = self.add(Kind::Roll { shifts: back }, vec![dy], out);
                self.give(x, dx);
            }
            Kind::Resize { mode, scale } => {
                let dx = self.learn(Learn::ResizeData { mode, scale }, vec![dy], out);
                self.give(x, dx);
            }
            Kind::Op { op, .. } if matches!(*op, Op::Gather(_)) => {
                let dx = self.learn(Learn::GatherData, vec![dy, operands[1]], out);
                self.give(x, dx);
            }
            kind => panic!("`{}` has no rule: what it depends on is not learned", kind.name()),
        }
    }

    /// The steps that only training has.
    fn learned(&mut self, y: Id, dy: Id, learn: &Learn, operands: &[Id]) {
        let x = operands[0];
        let (x_shape, w) = (self.shape(x), operands.get(1).copied().unwrap_or(x));
        match *learn {
            Learn::Conv { window, groups } => {
                // the weight's first: then nobody needs x
                if self.needs(w) {
                    let dw = self.learn(Learn::ConvWeight { window, groups }, vec![x, dy], self.shape(w));
                    self.give(w, dw);
                }
                self.bias(1, dy, operands.get(2));
                if self.needs(x) {
                    let dx = self.learn(Learn::ConvData { window, groups }, vec![dy, w], x_shape);
                    self.give(x, dx);
                }
            }
            Learn::ConvTranspose { window, groups, .. } => {
                if self.needs(w) {
                    let dw = self.learn(Learn::ConvWeight { window, groups }, vec![dy, x], self.shape(w));
                    self.give(w, dw);
                }
                self.bias(1, dy, operands.get(2));
                if self.needs(x) {
                    let dx = self.transposed_data(window, groups, dy, w, x);
                    self.give(x, dx);
                }
            }
            Learn::Linear => {
                if self.needs(w) {
                    let dw = self.learn(Learn::LinearWeight, vec![x, dy], self.shape(w));
                    self.give(w, dw);
                }
                self.bias(self.shape(y).rank() - 1, dy, operands.get(2));
                if self.needs(x) {
                    let dx = self.learn(Learn::LinearData, vec![dy, w], x_shape);
                    self.give(x, dx);
                }
            }
            Learn::BatchNorm { eps } => {
                let [x, stats, weight, bias] = *operands else { unreachable!("four operands") };
                let both = Shape::fixed([2, x_shape.dims[0]]);
                let read = vec![dy, x, stats, weight, bias];
                let sums = self.learn(Learn::BatchNormSums { eps, relu: false }, read.clone(), both);
                self.weight_and_bias(sums, weight, bias);
                if self.needs(x) {
                    let read = read.into_iter().chain([sums]).collect();
                    let dx = self.learn(Learn::BatchNormData { eps, relu: false }, read, x_shape);
                    self.give(x, dx);
                }
            }
            Learn::LayerNorm { axis, eps } => {
                self.affine(operands, Learn::LayerNormSums { axis, eps }, dy);
                if self.needs(x) {
                    let dx = self.learn(Learn::LayerNormData { axis, eps }, vec![dy, x, w], x_shape);
                    self.give(x, dx);
                }
            }
            Learn::GroupNorm { groups, eps } => {
                self.affine(operands, Learn::GroupNormSums { groups, eps }, dy);
                if self.needs(x) {
                    let dx = self.learn(Learn::GroupNormData { groups, eps }, vec![dy, x, w], x_shape);
                    self.give(x, dx);
                }
            }
            Learn::PRelu => {
                let slope = self.shape(w);
                let dw = self.learn(Learn::PReluSums, vec![dy, x], slope);
                self.give(w, dw);
                if self.needs(x) {
                    let dx = self.learn(Learn::PReluData, vec![dy, x, w], x_shape);
                    self.give(x, dx);
                }
            }
            Learn::Noise { .. } => {
                // the same draw
                let dx = self.learn(learn.clone(), vec![dy, w], x_shape);
                self.give(x, dx);
            }
            ref other => panic!("`{}` is no step of the forward pass", other.name()),
        }
    }

    /// The matrix or kernel of weights that are not learned, as they are in the file.
    fn plain(&mut self, weights: &Weights) -> Id {
        assert!(weights.maps.is_empty() && !weights.transposed, "nothing is folded before the backward pass is added");
        self.constant(&weights.weight)
    }

    fn bias(&mut self, axis: usize, dy: Id, bias: Option<&Id>) {
        if let Some(bias) = bias.filter(|bias| self.needs(**bias)) {
            let sums = self.learn(Learn::Sums { axis }, vec![dy], self.shape(*bias));
            self.give(*bias, sums);
        }
    }

    fn affine(&mut self, operands: &[Id], sums: Learn, dy: Id) {
        let channels = self.shape(operands[1]).dims[0];
        let sums = self.learn(sums, vec![dy, operands[0]], Shape::fixed([2, channels]));
        self.weight_and_bias(sums, operands[1], operands[2]);
    }

    fn weight_and_bias(&mut self, sums: Id, weight: Id, bias: Id) {
        let channels = self.shape(sums).dims[1];
        for (from, tensor) in [weight, bias].into_iter().enumerate() {
            let row = self.add(Kind::Slice { axis: 0, from }, vec![sums], Shape::fixed([1, channels]));
            let row = self.add(Kind::Reshape, vec![row], Shape::fixed([channels]));
            self.give(tensor, row);
        }
    }

    fn act(&mut self, act: Act, dy: Id, seen: Id) -> Id {
        match act {
            Act::None => dy,
            Act::Linear { scale, .. } => self.scaled(dy, scale),
            act => {
                let shape = self.shape(dy);
                self.learn(Learn::ActData { act }, vec![dy, seen], shape)
            }
        }
    }

    /// What a transposed convolution was given: a convolution of what it made.
    fn transposed_data(&mut self, window: Window, groups: usize, dy: Id, weight: Id, x: Id) -> Id {
        let (shape, mut dy) = (self.shape(x), dy);
        let (_, h, w) = shape.as_image().expect("images");
        let mut window = window;
        for (axis, len) in [h, w].into_iter().enumerate() {
            let reach = (len - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1;
            let wide = self.shape(dy);
            let there = wide.axis(axis + 2).expect("images");
            let before = window.padding[axis];
            window.padding[axis + 2] = reach.saturating_sub(there + before);
            // what no window covers is nobody's
            if there + before >= reach + window.stride[axis] {
                let part = wide.with_axis(axis + 2, reach - before);
                dy = self.add(Kind::Slice { axis: axis + 2, from: 0 }, vec![dy], part);
            }
        }
        self.learn(Learn::Conv { window, groups }, vec![dy, weight], shape)
    }

    fn binary(&mut self, op: Binary, dy: Id, a: Id, b: Id) {
        let (a_shape, b_shape) = (self.shape(a), self.shape(b));
        let from_left = a_shape.batched && b_shape.batched;
        if self.needs(a) {
            let other = (op == Binary::Mul).then_some(b);
            let da = self.unstretched(dy, other, &a_shape, from_left);
            self.give(a, da);
        }
        if self.needs(b) {
            let other = (op == Binary::Mul).then_some(a);
            let db = self.unstretched(dy, other, &b_shape, from_left);
            let db = self.scaled(db, if op == Binary::Sub { -1.0 } else { 1.0 });
            self.give(b, db);
        }
    }

    /// `dy * other`, summed over what a value of `shape` was repeated along.
    fn unstretched(&mut self, dy: Id, other: Option<Id>, shape: &Shape, from_left: bool) -> Id {
        let whole = self.shape(dy);
        let mut read = vec![dy];
        if let Some(other) = other {
            if whole == *shape || self.shape(other) != whole {
                read = vec![self.add(Kind::Binary { op: Binary::Mul }, vec![dy, other], whole.clone())];
            } else {
                read.push(other);
            }
        }
        if whole == *shape {
            return read[0];
        }
        self.learn(Learn::Unstretch { from_left }, read, shape.clone())
    }

    fn matmul(&mut self, scale: f32, dy: Id, a: Id, b: Id) {
        let (a_shape, b_shape) = (self.shape(a), self.shape(b));
        if !b_shape.batched && b_shape.rank() == 2 {
            // a linear map
            if self.needs(b) {
                let db = self.learn(Learn::LinearWeight, vec![dy, a], b_shape);
                let db = self.scaled(db, scale);
                self.give(b, db);
            }
            if self.needs(a) {
                let da = self.learn(Learn::Linear, vec![dy, b], a_shape);
                let da = self.scaled(da, scale);
                self.give(a, da);
            }
            return;
        }
        let whole = self.shape(dy);
        let rank = whole.rank();
        let with = |rows: usize, cols: usize| whole.with_axis(rank - 2, rows).with_axis(rank - 1, cols);
        let [m, k] = last_two(&a_shape);
        let [_, n] = last_two(&b_shape);
        if self.needs(a) {
            let turned = self.turned(b);
            let da = self.add(Kind::Matmul { scale }, vec![dy, turned], with(m, k));
            let da = self.unstretched(da, None, &a_shape, false);
            self.give(a, da);
        }
        if self.needs(b) {
            let turned = self.turned(a);
            let db = self.add(Kind::Matmul { scale }, vec![turned, dy], with(k, n));
            let db = self.unstretched(db, None, &b_shape, false);
            self.give(b, db);
        }
    }

    /// The last two axes exchanged.
    fn turned(&mut self, x: Id) -> Id {
        let shape = self.shape(x);
        let rank = shape.rank();
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(rank - 1, rank - 2);
        let [rows, cols] = last_two(&shape);
        let turned = shape.with_axis(rank - 2, cols).with_axis(rank - 1, rows);
        self.add(Kind::Permute { axes }, vec![x], turned)
    }
}

fn last_two(shape: &Shape) -> [usize; 2] {
    let dims = shape.concrete(1);
    [dims[dims.len() - 2], dims[dims.len() - 1]]
}
