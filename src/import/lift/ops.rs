//! ATen's ops in the language's: layers, sums of products, windows, attention.

use super::view::{Fold, Lifted};
use super::{Arg, Fail, Lifting, Node, Out, made, refuse};
use crate::import::array::{Array, Dtype};
use crate::import::draft::{DraftId, Place};
use crate::ops::Op;
use crate::ops::attr::Attr;

/// An op runs once for each part of a sample, for so many parts at most.
const MOST_PARTS: usize = 32;

/// A number, or a pair of different ones.
fn pair(list: &[i64]) -> Attr {
    match list {
        [one] => Attr::Int(*one),
        [a, b] if a == b => Attr::Int(*a),
        list => Attr::List(list.iter().map(|value| Attr::Int(*value)).collect()),
    }
}

impl Lifting<'_> {
    /// What an op with weights, windows or matrices gives; None where it is none.
    pub(super) fn layer(&mut self, node: &Node, op: &str) -> Out<Option<Lifted>> {
        let lifted = match op {
            "conv2d" | "conv1d" => self.conv(node, op)?,
            "conv_transpose2d" => self.conv_transpose(node)?,
            "linear" => self.linear(node)?,
            "batch_norm" => self.batch_norm(node)?,
            "layer_norm" | "rms_norm" => self.layer_norm(node, op)?,
            "group_norm" | "instance_norm" => self.group_norm(node, op)?,
            "prelu" => {
                let x = self.own_value(node, "self")?;
                let Some(path) = self.path() else { return Err(Fail::Unknown) };
                let parameters =
                    node.value("weight").map_or(1, |weight| self.trace.values[weight].shape.iter().product());
                if parameters > 1 && (x.batch != Some(Fold::plain(0)) || x.dims.len() < 2) {
                    return refuse("slopes of another axis than the channels'");
                }
                let op = made("prelu", &[("parameters", Attr::Int(parameters as i64))])?;
                let x = self.filled(&x)?;
                self.keyed(op, &x, path)?
            }
            "matmul" | "bmm" | "mm" => {
                let other = if node.value("mat2").is_some() { "mat2" } else { "other" };
                let (Some(a), Some(b)) = (node.value("self"), node.value(other)) else {
                    return refuse("it lacks matrices");
                };
                let both = self.beside_each_other(&[a, b])?;
                self.matmul(&both[0], &both[1])?
            }
            "addmm" => {
                let (Some(a), Some(b)) = (node.value("mat1"), node.value("mat2")) else {
                    return refuse("it lacks matrices");
                };
                if node.float("alpha").unwrap_or(1.0) != 1.0 || node.float("beta").unwrap_or(1.0) != 1.0 {
                    return Err(Fail::Unknown);
                }
                let both = self.beside_each_other(&[a, b])?;
                let product = self.matmul(&both[0], &both[1])?;
                let bias = self.own_value(node, "self")?;
                self.lifted_pair("add", &product, &bias)?
            }
            "einsum" => self.einsum(node)?,
            "scaled_dot_product_attention" => self.attention(node)?,
            "max_pool2d" | "avg_pool2d" | "avg_pool1d" | "max_pool1d" => self.pool(node, op)?,
            "adaptive_avg_pool2d" | "adaptive_max_pool2d" | "adaptive_avg_pool1d" => self.adaptive(node, op)?,
            "upsample_nearest2d"
            | "upsample_bilinear2d"
            | "upsample_bicubic2d"
            | "upsample_linear1d"
            | "upsample_nearest1d"
            | "_upsample_bicubic2d_aa"
            | "_upsample_bilinear2d_aa" => self.upsample(node, op)?,
            "im2col" | "col2im" => {
                let x = self.image_value(node, "self")?;
                let x = self.image(&x, if op == "im2col" { 4 } else { 3 })?;
                let mut args = vec![];
                for (theirs, ours, default) in [
                    ("kernel_size", "kernel", 0),
                    ("dilation", "dilation", 1),
                    ("padding", "padding", 0),
                    ("stride", "stride", 1),
                ] {
                    let list = node.ints(theirs).unwrap_or(vec![default]);
                    if list.iter().any(|value| *value != default) {
                        args.push((ours, pair(&list)));
                    }
                }
                if op == "col2im" {
                    args.push(("size", pair(&node.ints("output_size").unwrap_or_default())));
                }
                let id = self.push(made(if op == "im2col" { "unfold" } else { "fold" }, &args)?, &[x.id])?;
                self.of_image(id, &x)
            }
            "pixel_shuffle" => {
                let x = self.own_value(node, "self")?;
                let id = self.plain(&x, 4)?;
                let r = node.int("upscale_factor").unwrap_or(0);
                let id = self.push(made("pixel_shuffle", &[("r", Attr::Int(r))])?, &[id])?;
                self.of_node(id, Fold::plain(0))
            }
            "channel_shuffle" => {
                let x = self.own_value(node, "self")?;
                let id = self.plain(&x, x.dims.len())?;
                let groups = node.int("groups").unwrap_or(0);
                let id = self.push(made("channel_shuffle", &[("groups", Attr::Int(groups))])?, &[id])?;
                self.of_node(id, Fold::plain(0))
            }
            _ => return Ok(None),
        };
        Ok(Some(lifted))
    }

    /// The path of the layer that this node is.
    fn path(&self) -> Option<String> {
        self.layers.path(self.at).map(str::to_string)
    }

    /// Makes a layer, which uses the tensors of the first of its path.
    fn keyed(&mut self, op: Op, x: &Lifted, path: String) -> Out<Lifted> {
        let owner = self.owners.get(&path).copied();
        let place = Place::Layer { path: path.clone(), modules: self.modules() };
        let id = self.push_at(op, &[x.id], place)?;
        match owner {
            Some(owner) => self.drafts.nodes[id].tied = Some(owner),
            None => {
                self.owners.insert(path, id);
            }
        }
        Ok(Lifted { id, ..x.clone() })
    }

    /// The node of a value whose first axis is the batch, and no other has a part of it.
    fn plain(&mut self, x: &Lifted, rank: usize) -> Out<DraftId> {
        if x.dims.len() != rank {
            return refuse(format!("it takes {rank} axes, got {:?}", x.dims));
        }
        match x.batch {
            Some(fold) if fold == Fold::plain(0) && !self.is_shared(x) => Ok(self.filled(x)?.id),
            Some(fold) if fold.axis == 0 && !self.is_shared(x) => {
                refuse(format!("it sees {} parts of each sample as samples", fold.before * fold.after))
            }
            Some(_) if !self.is_shared(x) => refuse("the batch is not its first axis"),
            _ => refuse("it has no sample's values"),
        }
    }

    /// An image for an op that takes values without batch, too: its node has every axis in full, but for the first of what
    /// all samples share, which may be 1 however often it is copied.
    fn image(&mut self, x: &Lifted, rank: usize) -> Out<Lifted> {
        if !self.is_shared(x) || x.dims.len() != rank {
            let id = self.plain(x, rank)?;
            return Ok(Lifted { id, ..x.clone() });
        }
        let x = self.unbatched(x)?;
        let copies = x.dims[0];
        let own = self.drafts.shape(x.id).dims[0];
        let one = Lifted { dims: [&[own], &x.dims[1..]].concat(), ..x };
        let mut filled = self.filled(&one)?;
        filled.dims[0] = copies;
        Ok(filled)
    }

    /// The argument that is an image; one that is known and the same for all samples is there once.
    fn image_value(&mut self, node: &Node, name: &str) -> Out<Lifted> {
        let Some(value) = node.value(name) else { return refuse(format!("it lacks `{name}`")) };
        let rank = self.trace.values[value].shape.len();
        let is_of_samples = self.batch > 1 && self.trace.values[value].shape.first() == Some(&self.batch);
        self.operand_beside(value, is_of_samples.then_some((Fold::plain(0), rank)))
    }

    /// What an op made of an [`Lifting::image`] is.
    fn of_image(&self, id: DraftId, x: &Lifted) -> Lifted {
        if x.batch.is_some() {
            return self.of_node(id, Fold::plain(0));
        }
        let mut dims = self.drafts.shape(id).dims.clone();
        dims[0] = x.dims[0];
        Lifted { id, dims, batch: None }
    }

    /// What a node is whose batch is there.
    fn of_node(&self, id: DraftId, batch: Fold) -> Lifted {
        let mut dims = self.drafts.shape(id).dims.clone();
        dims.insert(batch.axis, self.batch);
        Lifted { id, dims, batch: Some(batch) }
    }

    /// The arguments of a convolution that are not as by default.
    fn windowed(&self, node: &Node, is_line: bool) -> Out<Vec<(&'static str, Attr)>> {
        let mut args = vec![];
        for (theirs, ours, default) in [("stride", "stride", 1), ("padding", "padding", 0), ("dilation", "dilation", 1)]
        {
            if let Arg::Text(word) = node.arg(theirs) {
                match word.as_str() {
                    "valid" => {}
                    "same_upper" => args.push((ours, Attr::Word("same".into()))),
                    "same" if node.ints("stride").unwrap_or(vec![1]).iter().all(|stride| *stride == 1) => {
                        args.push((ours, Attr::Word("same".into())));
                    }
                    _ => return Err(Fail::Unknown),
                }
                continue;
            }
            let list = node.ints(theirs).filter(|list| !list.is_empty()).unwrap_or(vec![default]);
            if list.iter().any(|value| *value != default) {
                args.push((ours, if is_line { Attr::Int(list[0]) } else { pair(&list) }));
            }
        }
        let groups = node.int("groups").unwrap_or(1);
        if groups != 1 {
            args.push(("groups", Attr::Int(groups)));
        }
        if matches!(node.arg("bias"), Arg::None) {
            args.push(("bias", Attr::Bool(false)));
        }
        Ok(args)
    }

    fn conv(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let rank = if op == "conv1d" { 3 } else { 4 };
        let x = self.image_value(node, "input")?;
        self.by_parts(&x, rank, |this, x| this.conv_of(node, op, x))
    }

    /// A convolution of a value whose first axis is the batch.
    fn conv_of(&mut self, node: &Node, op: &str, x: &Lifted) -> Out<Lifted> {
        let Some(weight) = node.value("weight") else { return refuse("it lacks its weight") };
        let shape = self.trace.values[weight].shape.clone();
        let is_line = op == "conv1d";
        let mut args = self.windowed(node, is_line)?;
        let kernel: Vec<i64> = shape.iter().skip(2).map(|len| *len as i64).collect();
        if shape.len() != if is_line { 3 } else { 4 } {
            return refuse(format!("a weight {shape:?}"));
        }
        let Some(path) = self.path() else {
            if is_line {
                return refuse("its weight is computed, or is of several layers");
            }
            // a weight that is a value
            args.retain(|(name, _)| *name != "bias");
            let mut ins = vec![x.id];
            for name in ["weight", "bias"] {
                if node.value(name).is_some() {
                    let own = self.own_value(node, name)?;
                    ins.push(self.filled(&own)?.id);
                }
            }
            if x.batch.is_none() {
                return refuse("a convolution of what all samples share by what is computed");
            }
            let id = self.push(made("conv2d_with", &args)?, &ins)?;
            return Ok(self.of_node(id, Fold::plain(0)));
        };
        args.push(("out", Attr::Int(shape[0] as i64)));
        args.push(("kernel", if is_line { Attr::Int(kernel[0]) } else { pair(&kernel) }));
        let made = self.keyed(made(op, &args)?, x, path)?;
        Ok(self.of_image(made.id, x))
    }

    /// Runs an op of images, of `rank` axes, whose first axis is the batch. Where that axis holds parts of each sample, heads
    /// or windows, it runs once for each part, with the same weights.
    fn by_parts(
        &mut self,
        x: &Lifted,
        rank: usize,
        mut run: impl FnMut(&mut Self, &Lifted) -> Out<Lifted>,
    ) -> Out<Lifted> {
        let fold = x.batch.filter(|fold| fold.axis == 0 && !fold.is_plain() && x.dims.len() == rank);
        let Some(fold) = fold.filter(|_| !self.is_shared(x)) else {
            let x = self.image(x, rank)?;
            return run(self, &x);
        };
        let parts = fold.before * fold.after;
        if parts > MOST_PARTS {
            return refuse(format!("it sees {parts} parts of each sample as samples"));
        }
        let x = self.filled(x)?;
        let own = [vec![self.batch], fold.rest(), x.dims[1..].to_vec()].concat();
        let split = Lifted { id: x.id, dims: own, batch: Some(Fold::plain(0)) };
        let flat = [vec![self.batch, parts], x.dims[1..].to_vec()].concat();
        let split = self.reshaped(&split, flat, Some(Fold::plain(0)))?;
        let mut results = vec![];
        for part in 0..parts {
            let one = self.select(&split, 1, part)?;
            let result = run(self, &one)?;
            results.push(self.unsqueeze(&result, 1)?);
        }
        let joined = self.concat(results, 1)?;
        let tail = joined.dims[2..].to_vec();
        let own = [vec![self.batch], fold.rest(), tail.clone()].concat();
        let joined = self.reshaped(&joined, own, Some(Fold::plain(0)))?;
        Ok(Lifted { id: joined.id, dims: [vec![self.batch * parts], tail].concat(), batch: Some(fold) })
    }

    fn conv_transpose(&mut self, node: &Node) -> Out<Lifted> {
        let Some(weight) = node.value("weight") else { return refuse("it lacks its weight") };
        let shape = self.trace.values[weight].shape.clone();
        let [_, each, h, w] = shape[..] else { return refuse(format!("a weight {shape:?}")) };
        let mut args = self.windowed(node, false)?;
        let groups = node.int("groups").unwrap_or(1);
        args.push(("out", Attr::Int((each as i64).saturating_mul(groups))));
        args.push(("kernel", pair(&[h as i64, w as i64])));
        let extra = node.ints("output_padding").unwrap_or(vec![0]);
        if extra.iter().any(|value| *value != 0) {
            args.push(("output_padding", pair(&extra)));
        }
        let Some(path) = self.path() else { return refuse("its weight is computed, or is of several layers") };
        let x = self.image_value(node, "input")?;
        let x = self.image(&x, 4)?;
        let made = self.keyed(made("conv_transpose2d", &args)?, &x, path)?;
        Ok(self.of_image(made.id, &x))
    }

    fn linear(&mut self, node: &Node) -> Out<Lifted> {
        let x = self.own_value(node, "input")?;
        let last = x.dims.len().checked_sub(1).ok_or(Fail::Refused("it takes a number".into()))?;
        self.inner_axis(&x, last)?;
        let mut x = x;
        if self.own(&x).last() != x.dims.last() {
            x = self.filled(&x)?;
        }
        let Some(weight) = node.value("weight") else { return refuse("it lacks its weight") };
        let out = self.trace.values[weight].shape.first().copied().unwrap_or(0);
        let has_bias = node.value("bias").is_some();
        let mut dims = x.dims.clone();
        dims[last] = out;
        if let Some(path) = self.path() {
            let mut args = vec![("out", Attr::Int(out as i64))];
            if !has_bias {
                args.push(("bias", Attr::Bool(false)));
            }
            let layer = self.keyed(made("linear", &args)?, &x, path)?;
            return Ok(Lifted { dims, ..layer });
        }
        let weight = self.operand(weight)?;
        let weight = self.filled(&weight)?;
        let mut ins = vec![x.id, weight.id];
        if let Some(bias) = node.value("bias") {
            let bias = self.operand(bias)?;
            ins.push(self.filled(&bias)?.id);
        }
        let id = self.push(made("linear_with", &[])?, &ins)?;
        Ok(Lifted { id, dims, batch: x.batch })
    }

    fn batch_norm(&mut self, node: &Node) -> Out<Lifted> {
        let x = self.own_value(node, "input")?;
        let eps = ("eps", Attr::Float(node.float("eps").unwrap_or(1e-5)));
        let x = self.filled(&x)?;
        let is_plain = x.batch == Some(Fold::plain(0)) && !self.is_shared(&x);
        if let Some(path) = self.path() {
            let mut args = vec![eps];
            if let Some(momentum) = node.float("momentum") {
                args.push(("momentum", Attr::Float(momentum)));
            }
            if node.value("weight").is_none() {
                args.push(("affine", Attr::Bool(false)));
            }
            // [N * L, C] is [N, L, C]
            let is_rows = x.dims.len() == 2
                && x.batch.is_some_and(|fold| fold.axis == 0 && fold.rest().len() == 1)
                && !self.is_shared(&x);
            let name = match x.dims.len() {
                4 if is_plain => "batch_norm2d",
                2 | 3 if is_plain => "batch_norm1d",
                2 if is_rows => {
                    args.push(("axis", Attr::Int(-1)));
                    "batch_norm1d"
                }
                3.. if x.batch.is_some_and(|fold| fold.axis == 0) && !self.is_shared(&x) => {
                    return self.batch_norm_of_parts(made("batch_norm2d", &args)?, &x, path);
                }
                _ => return refuse(format!("it normalises {:?} over more than the batch and places", x.dims)),
            };
            return self.keyed(made(name, &args)?, &x, path);
        }
        let trains = node.bool("training").unwrap_or(false) || node.value("running_mean").is_none();
        if trains {
            // of weights, each output by itself
            let [1, _, len] = x.dims[..] else { return refuse("it mixes the samples of a batch") };
            if x.batch.is_some() || len < 2 {
                return refuse("it mixes the samples of a batch");
            }
            let norm = made("layer_norm", &[eps, ("affine", Attr::Bool(false))])?;
            let normed = self.same_axes(norm, &x)?;
            return self.scaled(node, &normed, 1);
        }
        let channels = x.dims.get(1).copied().unwrap_or(0);
        let mut result = x;
        let column =
            vec![channels].into_iter().chain(vec![1; result.dims.len().saturating_sub(2)]).collect::<Vec<usize>>();
        let mean = self.own_value(node, "running_mean")?;
        let mean = self.reshape(&mean, column.clone())?;
        result = self.lifted_pair("sub", &result, &mean)?;
        let variance = self.own_value(node, "running_var")?;
        let raised = self.same_axes(made("add", &[("number", eps.1)])?, &variance)?;
        let scale = self.same_axes(made("rsqrt", &[])?, &raised)?;
        let scale = self.reshape(&scale, column)?;
        result = self.lifted_pair("mul", &result, &scale)?;
        self.scaled(node, &result, 1)
    }

    /// A batch norm of a value whose first axis holds parts of each sample: they are places like others.
    fn batch_norm_of_parts(&mut self, op: Op, x: &Lifted, path: String) -> Out<Lifted> {
        let fold = x.batch.expect("the caller looked");
        let plain = Some(Fold::plain(0));
        let parts = fold.rest().len();
        let own = [vec![self.batch], fold.rest(), x.dims[1..].to_vec()].concat();
        let rank = own.len();
        let order: Vec<usize> = [0, 1 + parts].into_iter().chain(1..1 + parts).chain(2 + parts..rank).collect();
        let mut back = vec![0; rank];
        order.iter().enumerate().for_each(|(to, from)| back[*from] = to);
        let split = Lifted { id: x.id, dims: own.clone(), batch: plain };
        let moved = self.permute(&split, &order)?;
        let places: usize = moved.dims[2..].iter().product();
        let image = self.reshaped(&moved, vec![self.batch, x.dims[1], places, 1], plain)?;
        let normed = self.keyed(op, &image, path)?;
        let normed = self.reshaped(&normed, moved.dims.clone(), plain)?;
        let normed = self.permute(&normed, &back)?;
        Ok(Lifted { id: normed.id, dims: x.dims.clone(), batch: Some(fold) })
    }

    /// Times `weight` and plus `bias`, which are values along the axis `axis`.
    fn scaled(&mut self, node: &Node, x: &Lifted, axis: usize) -> Out<Lifted> {
        let mut result = x.clone();
        for (arg, op) in [("weight", "mul"), ("bias", "add")] {
            let Some(value) = node.value(arg) else { continue };
            let own = self.operand(value)?;
            let tail = x.dims.len() - 1 - axis;
            let dims = [own.dims.clone(), vec![1; tail]].concat();
            let own = if tail > 0 { self.reshape(&own, dims)? } else { own };
            result = self.lifted_pair(op, &result, &own)?;
        }
        Ok(result)
    }

    fn layer_norm(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let x = self.own_value(node, "input")?;
        let x = self.filled(&x)?;
        let shape = node.ints("normalized_shape").unwrap_or_default();
        let rank = x.dims.len();
        if shape.is_empty() || shape.len() > rank {
            return refuse("it normalises other axes");
        }
        let first = rank - shape.len();
        for axis in first..rank {
            self.inner_axis(&x, axis)?;
        }
        let default = if op == "rms_norm" { f64::from(f32::EPSILON) } else { 1e-5 };
        let mut args = vec![("eps", Attr::Float(node.float("eps").unwrap_or(default)))];
        if shape.len() == 1
            && let Some(path) = self.path()
        {
            return self.keyed(made(op, &args)?, &x, path);
        }
        args.push(("affine", Attr::Bool(false)));
        let norm = made(op, &args)?;
        if shape.len() == 1 {
            let normed = self.same_axes(norm, &x)?;
            return self.scaled(node, &normed, rank - 1);
        }
        // several axes as one
        let joined: usize = x.dims[first..].iter().product();
        let flat = [&x.dims[..first], &[joined]].concat();
        let line = self.reshaped(&x, flat, x.batch)?;
        let normed = self.same_axes(norm, &line)?;
        let mut result = self.reshaped(&normed, x.dims.clone(), x.batch)?;
        for (arg, op) in [("weight", "mul"), ("bias", "add")] {
            let Some(value) = node.value(arg) else { continue };
            let own = self.operand(value)?;
            result = self.lifted_pair(op, &result, &own)?;
        }
        Ok(result)
    }

    fn group_norm(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let x = self.own_value(node, "input")?;
        let id = self.plain(&x, x.dims.len())?;
        let x = Lifted { id, ..x };
        let channels = x.dims.get(1).copied().unwrap_or(0);
        let groups = if op == "instance_norm" { channels as i64 } else { node.int("num_groups").unwrap_or(0) };
        if op == "instance_norm" && !node.bool("use_input_stats").unwrap_or(true) {
            return Err(Fail::Unknown);
        }
        let mut args = vec![("groups", Attr::Int(groups)), ("eps", Attr::Float(node.float("eps").unwrap_or(1e-5)))];
        if let Some(path) = self.path() {
            return self.keyed(made("group_norm", &args)?, &x, path);
        }
        args.push(("affine", Attr::Bool(false)));
        let normed = self.same_axes(made("group_norm", &args)?, &x)?;
        self.scaled(node, &normed, 1)
    }

    /// As `torch.matmul`.
    fn matmul(&mut self, a: &Lifted, b: &Lifted) -> Out<Lifted> {
        let (mut a, mut b) = (self.filled(a)?, self.filled(b)?);
        let (a_line, b_line) = (a.dims.len() == 1, b.dims.len() == 1);
        if a_line {
            a = self.unsqueeze(&a, 0)?;
        }
        if b_line {
            b = self.unsqueeze(&b, 1)?;
        }
        let (rows, columns) = (a.dims.len() - 2, b.dims.len() - 1);
        let mut result = if b.batch.is_none() && b.dims.len() == 2 {
            // a linear map of whatever rows there are
            self.inner_axis(&a, rows + 1)?;
            let id = self.push(made("matmul", &[])?, &[a.id, b.id])?;
            let mut dims = a.dims.clone();
            dims[rows + 1] = b.dims[1];
            Lifted { id, dims, batch: a.batch }
        } else {
            for (x, axes) in [(&a, [rows, rows + 1]), (&b, [columns - 1, columns])] {
                if !self.is_shared(x) {
                    self.inner_axis(x, axes[0])?;
                    self.inner_axis(x, axes[1])?;
                }
            }
            let (m, n) = (a.dims[rows], b.dims[columns]);
            let (a, b, mut dims, batch) = self.paired_but(&a, &b, 2)?;
            let id = self.push(made("matmul", &[])?, &[a, b])?;
            dims.extend([m, n]);
            Lifted { id, dims, batch }
        };
        if b_line {
            result = self.without_axis(&result, result.dims.len() - 1)?;
        }
        if a_line {
            let at = result.dims.len() - if b_line { 1 } else { 2 };
            result = self.without_axis(&result, at)?;
        }
        Ok(result)
    }

    /// `torch.einsum` of two values, as a product of matrices.
    fn einsum(&mut self, node: &Node) -> Out<Lifted> {
        let values: Vec<usize> = node.values("tensors").unwrap_or_default().into_iter().flatten().collect();
        let equation: String = node.text("equation").unwrap_or("").chars().filter(|letter| *letter != ' ').collect();
        let (Some((inputs, output)), [first, second]) = (equation.split_once("->"), &values[..]) else {
            return Err(Fail::Unknown);
        };
        let names: Vec<Vec<char>> = inputs.split(',').map(|letters| letters.chars().collect()).collect();
        let output: Vec<char> = output.chars().collect();
        let [a_names, b_names] = &names[..] else { return Err(Fail::Unknown) };
        let both = self.beside_each_other(&[*first, *second])?;
        let distinct = |names: &[char]| names.iter().enumerate().all(|(at, name)| !names[..at].contains(name));
        let fits = names.iter().zip(&both).all(|(names, x)| names.len() == x.dims.len() && distinct(names));
        let known = |name: &char| a_names.contains(name) || b_names.contains(name);
        let letters = a_names.iter().chain(b_names).chain(&output);
        if !fits || !distinct(&output) || !output.iter().all(known) || !letters.clone().all(char::is_ascii_alphabetic) {
            return Err(Fail::Unknown);
        }
        // samples belong to rows, so what has them comes first
        let has_samples =
            |x: &Lifted, own: &[char], others: &[char]| x.batch.is_some_and(|fold| !others.contains(&own[fold.axis]));
        let swaps = has_samples(&both[1], b_names, a_names);
        if swaps && has_samples(&both[0], a_names, b_names) {
            return refuse("it mixes the samples of a batch");
        }
        let ((a, a_names), (b, b_names)) =
            if swaps { ((&both[1], b_names), (&both[0], a_names)) } else { ((&both[0], a_names), (&both[1], b_names)) };
        let summed: Vec<char> =
            a_names.iter().copied().filter(|name| b_names.contains(name) && !output.contains(name)).collect();
        let shared: Vec<char> =
            a_names.iter().copied().filter(|name| b_names.contains(name) && output.contains(name)).collect();
        let left: Vec<char> = a_names.iter().copied().filter(|name| !b_names.contains(name)).collect();
        let right: Vec<char> = b_names.iter().copied().filter(|name| !a_names.contains(name)).collect();
        if left.iter().chain(&right).any(|name| !output.contains(name)) || summed.is_empty() {
            return Err(Fail::Unknown);
        }
        let sample = a.batch.map(|fold| a_names[fold.axis]);
        if sample.is_some_and(|name| summed.contains(&name)) {
            return refuse("it sums over the batch");
        }
        // one axis of rows; all others, the batch among them, are the other value's for all
        let row = left.iter().rev().copied().find(|name| Some(*name) != sample);
        let outer: Vec<char> = left.iter().copied().filter(|name| Some(*name) != row).collect();
        let order = |names: &[char], wanted: &[char]| -> Vec<usize> {
            wanted.iter().map(|name| names.iter().position(|own| own == name).expect("a letter of it")).collect()
        };
        let len = |name: &char| {
            a_names
                .iter()
                .position(|own| own == name)
                .map(|at| a.dims[at])
                .or_else(|| b_names.iter().position(|own| own == name).map(|at| b.dims[at]))
        };
        let lens = |names: &[char]| names.iter().filter_map(len).collect::<Vec<usize>>();
        let rows: Vec<char> = row.into_iter().collect();
        let (a, b) = (self.filled(a)?, self.filled(b)?);
        let a_order = [outer.clone(), shared.clone(), rows.clone(), summed.clone()].concat();
        let b_order = [shared.clone(), summed.clone(), right.clone()].concat();
        let mut a = self.permute(&a, &order(a_names, &a_order))?;
        let mut b = self.permute(&b, &order(b_names, &b_order))?;
        let joined = |names: &[char]| lens(names).iter().product::<usize>();
        let (k, n) = (joined(&summed), joined(&right));
        let front = [lens(&outer), lens(&shared)].concat();
        a = self.reshape(&a, [front.clone(), vec![joined(&rows)], vec![k]].concat())?;
        b = self.reshape(&b, [lens(&shared), vec![k, n]].concat())?;
        let product = self.matmul(&a, &b)?;
        let made = [outer, shared, rows, right].concat();
        let split = self.reshape(&product, lens(&made))?;
        self.permute(&split, &order(&made, &output))
    }

    fn attention(&mut self, node: &Node) -> Out<Lifted> {
        let mut values = vec![];
        for name in ["query", "key", "value"] {
            values.push(node.value(name).ok_or(Fail::Refused(format!("it lacks `{name}`")))?);
        }
        let parts = self.beside_each_other(&values)?;
        let rank = parts[0].dims.len();
        if rank < 2 || parts.iter().any(|part| part.dims.len() != rank) {
            return refuse("queries, keys and values of different ranks");
        }
        let fold = parts.iter().filter(|part| !self.is_shared(part)).find_map(|part| part.batch);
        let Some(fold) = fold else { return refuse("attention of parameters alone") };
        let mut ids = vec![];
        for part in &parts {
            let part = self.batched_as(part, fold)?;
            self.inner_axis(&part, rank - 1)?;
            self.inner_axis(&part, rank - 2)?;
            let mut part = self.filled(&part)?;
            // heads that several queries share
            if node.bool("enable_gqa").unwrap_or(false) && rank >= 3 && part.dims[rank - 3] != parts[0].dims[rank - 3] {
                let (own, all) = (part.dims[rank - 3], parts[0].dims[rank - 3]);
                if own == 0 || all % own != 0 {
                    return refuse("heads that do not divide");
                }
                let wide = self.unsqueeze(&part, rank - 2)?;
                let mut copies = wide.clone();
                copies.dims[rank - 2] = all / own;
                let copies = self.filled(&copies)?;
                let mut dims = part.dims.clone();
                dims[rank - 3] = all;
                part = self.reshape(&copies, dims)?;
            }
            ids.push(part.id);
        }
        let mut args = vec![];
        let dim = parts[0].dims[rank - 1];
        if let Some(scale) = node.float("scale")
            && (scale * (dim as f64).sqrt() - 1.0).abs() > 1e-12
        {
            args.push(("scale", Attr::Float(scale)));
        }
        if let Some(p) = node.float("dropout_p").filter(|p| *p > 0.0) {
            return refuse(format!("attention drops with probability {p}: export the network after `model.eval()`"));
        }
        let (queries, keys) = (parts[0].dims[rank - 2], parts[1].dims[rank - 2]);
        let mut scores = parts[0].dims.clone();
        scores[rank - 1] = keys;
        if let Some(mask) = node.value("attn_mask") {
            let mask = match self.known(mask) {
                // where it is true a key is seen
                Some(array) if array.dtype() == Dtype::Bool => {
                    let values =
                        array.to_f64().into_iter().map(|seen| if seen == 0.0 { f32::NEG_INFINITY } else { 0.0 });
                    let bias = Array::f32(array.shape(), values.collect());
                    self.made_constant(bias)?
                }
                _ if self.trace.values[mask].dtype == Dtype::Bool => return Err(Fail::Unknown),
                _ => self.operand_beside(mask, Some((fold, rank)))?,
            };
            let mask = self.meeting(&mask, fold, rank)?;
            ids.push(mask.id);
        }
        if node.bool("is_causal").unwrap_or(false) {
            let seen = |at: usize| if at % keys > at / keys { f32::NEG_INFINITY } else { 0.0 };
            let mask = Array::f32([queries, keys], (0..queries.saturating_mul(keys)).map(seen).collect());
            ids.push(self.made_constant(mask)?.id);
        }
        let id = self.push(made("attention", &args)?, &ids)?;
        let mut dims = parts[0].dims.clone();
        dims[rank - 1] = parts[2].dims[rank - 1];
        Ok(Lifted { id, dims, batch: Some(fold) })
    }

    fn pool(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let is_line = op.ends_with("1d");
        let x = self.own_value(node, "self")?;
        let mut x = x;
        if is_line {
            x = self.unsqueeze(&x, x.dims.len() - 1)?;
        }
        let along = |list: Vec<i64>, high: i64| if is_line { vec![high, list[0]] } else { list };
        let mut args = vec![];
        let Some(kernel) = node.ints("kernel_size").filter(|list| !list.is_empty()) else {
            return refuse("it lacks its window");
        };
        args.push(("kernel", pair(&along(kernel, 1))));
        if let Some(stride) = node.ints("stride").filter(|list| !list.is_empty()) {
            args.push(("stride", pair(&along(stride, 1))));
        }
        for (name, default) in [("padding", 0), ("dilation", 1)] {
            let list = node.ints(name).filter(|list| !list.is_empty()).unwrap_or(vec![default]);
            if list.iter().any(|value| *value != default) {
                args.push((name, pair(&along(list, default))));
            }
        }
        if node.bool("ceil_mode").unwrap_or(false) {
            args.push(("ceil_mode", Attr::Bool(true)));
        }
        if op.starts_with("avg") && !node.bool("count_include_pad").unwrap_or(true) {
            args.push(("count_include_pad", Attr::Bool(false)));
        }
        if node.int("divisor_override").is_some() {
            return Err(Fail::Unknown);
        }
        let op = made(if op.starts_with("avg") { "avg_pool2d" } else { "max_pool2d" }, &args)?;
        let result = self.by_parts(&x, 4, |this, x| {
            let id = this.push(op.clone(), &[x.id])?;
            Ok(this.of_image(id, x))
        })?;
        if is_line { self.without_axis(&result, 2) } else { Ok(result) }
    }

    fn adaptive(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let is_line = op.ends_with("1d");
        let x = self.own_value(node, "self")?;
        let x = if is_line { self.unsqueeze(&x, x.dims.len() - 1)? } else { x };
        let x = self.image(&x, 4)?;
        let size = node.ints("output_size").unwrap_or_default();
        let size = if is_line { vec![1, size.first().copied().unwrap_or(1)] } else { size };
        let name = if op.contains("max") { "adaptive_max_pool2d" } else { "adaptive_avg_pool2d" };
        let id = self.push(made(name, &[("size", pair(&size))])?, &[x.id])?;
        let result = self.of_image(id, &x);
        if is_line { self.without_axis(&result, 2) } else { Ok(result) }
    }

    fn upsample(&mut self, node: &Node, op: &str) -> Out<Lifted> {
        let is_line = op.ends_with("1d");
        let x = match node.value("input") {
            Some(value) => self.operand(value)?,
            None => self.own_value(node, "self")?,
        };
        let x = if is_line { self.unsqueeze(&x, x.dims.len() - 1)? } else { x };
        if x.dims.len() != 4 {
            return refuse("no image");
        }
        let size = node.ints("output_size").filter(|list| !list.is_empty());
        let factors = node.floats("scale_factors").filter(|list| !list.is_empty());
        let same_size = |list: &[i64]| {
            let tail = &x.dims[4 - list.len()..];
            list.iter().zip(tail).all(|(asked, len)| *asked == *len as i64)
        };
        // of the same size it is the value itself, whatever the filter
        if size.as_deref().is_some_and(same_size) {
            return if is_line { self.without_axis(&x, 2) } else { Ok(x) };
        }
        let is_aligned = node.bool("align_corners").unwrap_or(false);
        if is_aligned {
            return Err(Fail::Unknown);
        }
        let mode = match op {
            _ if op.contains("nearest") => "nearest",
            _ if op.contains("bicubic") => "bicubic",
            _ => "bilinear",
        };
        let mut args = vec![];
        if mode != "nearest" {
            args.push(("mode", Attr::Word(mode.into())));
        }
        if op.ends_with("_aa") {
            args.push(("antialias", Attr::Bool(true)));
        }
        match (size, factors) {
            (Some(size), _) => {
                let size = if is_line { vec![1, size[0]] } else { size };
                args.push(("size", pair(&size)));
            }
            (None, Some(factors)) if !is_line && factors.iter().all(|factor| *factor == factors[0]) => {
                args.push(("scale", Attr::Float(factors[0])));
            }
            _ => return Err(Fail::Unknown),
        }
        let x = self.image(&x, 4)?;
        let id = self.push(made("upsample", &args)?, &[x.id])?;
        let result = self.of_image(id, &x);
        if is_line { self.without_axis(&result, 2) } else { Ok(result) }
    }
}
