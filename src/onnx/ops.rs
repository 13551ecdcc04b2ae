//! Each op of the language in ONNX's words. Where ONNX has an operator of the same meaning it is taken; else the op is said in others.
//! Nothing depends on the size of the batch: a reshape copies it (0) or leaves it over (-1).

use archc_base::Resample;

use super::build::{Build, Source};
use super::proto::{Attribute, format};
use crate::diag::Problem;
use crate::ops::activation::Approximate;
use crate::ops::attention::Attention;
use crate::ops::attr::{Padding, Pair, Pair0};
use crate::ops::conv::{Conv1d, Conv2d, ConvTranspose2d};
use crate::ops::dropout::{Drops, Grain};
use crate::ops::layout::{Border, Chunk, Pad};
use crate::ops::pool::{AvgPool2d, MaxPool2d};
use crate::ops::recurrent::LstmScan;
use crate::ops::resample::Upsample;
use crate::ops::shape::Shape;
use crate::ops::unfold::{Fold, Unfold};
use crate::ops::{Op, Operation};

type Value = Result<String, Problem>;

impl Build<'_> {
    /// The value of an op of these operands.
    pub(super) fn op(&mut self, op: &Op, ins: &[String], shapes: &[&Shape]) -> Value {
        let x = ins.first().map_or("", String::as_str);
        let shape = shapes.first().copied();
        let shape = || shape.expect("the op has an operand");
        Ok(match op {
            Op::Conv2d(op) => {
                let weight = self.param("weight");
                let bias = self.bias(op.bias, op.out);
                self.conv(op, x, shape(), &weight, bias.as_deref())
            }
            Op::Conv2dWith(op) => {
                let conv = op.with(shapes[1])?;
                self.conv(&conv, x, shape(), &ins[1], ins.get(2).map(String::as_str))
            }
            Op::Conv1d(op) => self.conv1d(op, x, shape())?,
            Op::ConvTranspose2d(op) => self.conv_transpose(op, x, shape()),
            Op::Linear(op) => {
                let weight = self.param("weight");
                let bias = self.bias(op.bias, op.out);
                self.linear(x, shape().rank(), &weight, bias.as_deref())
            }
            Op::LinearWith(op) => {
                let range = op.range(shapes[1].dims[0]);
                let is_whole = range.len() == shapes[1].dims[0];
                let (from, to) = (range.start as i64, range.end as i64);
                let mut rows = |value: &str| match is_whole {
                    true => value.to_string(),
                    false => self.slice(value, 0, from, to),
                };
                let weight = rows(&ins[1]);
                let bias = ins.get(2).map(|bias| rows(bias));
                self.linear(x, shape().rank(), &weight, bias.as_deref())
            }
            Op::BatchNorm2d(op) => self.batch_norm(x, shape(), 1, op.eps, op.momentum, op.affine),
            Op::BatchNorm1d(op) => {
                let axis = axis(op.axis, shape());
                self.batch_norm(x, shape(), axis, op.eps, op.momentum, op.affine)
            }
            Op::LayerNorm(op) => self.layer_norm(x, shape(), axis(op.axis, shape()), op.eps, op.affine),
            Op::LayerNorm2d(op) => self.layer_norm(x, shape(), 1, op.eps, op.affine),
            Op::RmsNorm(op) => self.rms_norm(x, shape(), axis(op.axis, shape()), op.eps, op.affine),
            Op::GroupNorm(op) => self.group_norm(x, shape(), op.groups, op.eps, op.affine),
            Op::InstanceNorm2d(op) => {
                let channels = shape().dims[0];
                let (scale, bias) = self.scale_and_bias(op.affine, channels);
                self.with("InstanceNormalization", &[x, &scale, &bias], vec![Attribute::float("epsilon", op.eps)])
            }
            Op::Attention(op) => self.attention(op, ins, shapes),
            Op::LstmScan(op) => self.lstm(op, ins, shapes),
            Op::Relu(_) => self.plain("Relu", &[x]),
            Op::Relu6(_) => self.clip(x, Some(0.0), Some(6.0)),
            Op::Elu(op) => self.with("Elu", &[x], vec![Attribute::float("alpha", op.alpha)]),
            Op::LeakyRelu(op) => self.with("LeakyRelu", &[x], vec![Attribute::float("alpha", op.slope)]),
            Op::Prelu(op) => {
                let slope = self.param("weight");
                // the slopes pair with the last axis, unless they are made [C, 1, ..]
                let after = shape().rank().saturating_sub(2);
                let slope = match op.parameters > 1 && after > 0 {
                    true => self.unsqueeze(&slope, &(1..=after).collect::<Vec<_>>()),
                    false => slope,
                };
                self.plain("PRelu", &[x, &slope])
            }
            Op::Gelu(op) => self.gelu(x, op.approximate),
            Op::Silu(_) => {
                let gate = self.plain("Sigmoid", &[x]);
                self.plain("Mul", &[x, &gate])
            }
            Op::Sigmoid(_) => self.plain("Sigmoid", &[x]),
            Op::Tanh(_) => self.plain("Tanh", &[x]),
            Op::Hardswish(_) if self.opset() >= 14 => self.plain("HardSwish", &[x]),
            Op::Hardswish(_) => {
                let gate = self.hardsigmoid(x);
                self.plain("Mul", &[x, &gate])
            }
            Op::Hardsigmoid(_) => self.hardsigmoid(x),
            Op::Softplus(_) => self.plain("Softplus", &[x]),
            Op::Mish(_) if self.opset() >= 18 => self.plain("Mish", &[x]),
            Op::Mish(_) => {
                let softplus = self.plain("Softplus", &[x]);
                let gate = self.plain("Tanh", &[&softplus]);
                self.plain("Mul", &[x, &gate])
            }
            Op::Exp(op) => match op.base {
                None => self.plain("Exp", &[x]),
                Some(base) => {
                    let base = self.float(base);
                    self.plain("Pow", &[&base, x])
                }
            },
            Op::Sqrt(_) => self.plain("Sqrt", &[x]),
            Op::Rsqrt(_) => {
                let root = self.plain("Sqrt", &[x]);
                self.plain("Reciprocal", &[&root])
            }
            Op::Pow(op) => {
                let exponent = self.float(op.exponent);
                self.plain("Pow", &[x, &exponent])
            }
            Op::Abs(_) => self.plain("Abs", &[x]),
            Op::Neg(_) => self.plain("Neg", &[x]),
            Op::Log(_) => self.plain("Log", &[x]),
            Op::Sin(_) => self.plain("Sin", &[x]),
            Op::Cos(_) => self.plain("Cos", &[x]),
            Op::Softsign(_) => self.plain("Softsign", &[x]),
            Op::LogSigmoid(_) => {
                let negated = self.plain("Neg", &[x]);
                let softplus = self.plain("Softplus", &[&negated]);
                self.plain("Neg", &[&softplus])
            }
            Op::Celu(op) => self.with("Celu", &[x], vec![Attribute::float("alpha", op.alpha)]),
            Op::Selu(_) => self.plain("Selu", &[x]),
            Op::Clamp(op) => self.clip(x, op.min, op.max),
            Op::Hardtanh(op) => self.clip(x, Some(op.min), Some(op.max)),
            Op::Glu(op) => {
                let axis = axis(op.axis, shape());
                let half = length(shape(), axis) / 2;
                let halves = self.split(x, axis, &[half, half]);
                let gate = self.plain("Sigmoid", &[&halves[1]]);
                self.plain("Mul", &[&halves[0], &gate])
            }
            Op::Softmax(op) => self.with("Softmax", &[x], vec![Attribute::int("axis", op.axis)]),
            Op::LogSoftmax(op) => self.with("LogSoftmax", &[x], vec![Attribute::int("axis", op.axis)]),
            Op::Normalize(op) => {
                let length = self.reduce("ReduceL2", x, &[op.axis], true);
                let length = self.clip(&length, Some(1e-12), None);
                self.plain("Div", &[x, &length])
            }
            Op::Identity(_) => x.to_string(),
            Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => match op.drops() {
                Some(drops) if op.draws_always() => self.drop(x, shape(), drops),
                _ => x.to_string(),
            },
            Op::MaxPool2d(op) => self.max_pool(op, x, shape())?,
            Op::AvgPool2d(op) => self.avg_pool(op, x, shape())?,
            Op::AdaptiveAvgPool2d(op) => self.adaptive(x, shape(), op.size, false),
            Op::AdaptiveMaxPool2d(op) => self.adaptive(x, shape(), op.size, true),
            Op::GlobalAvgPool2d(_) => self.reduce("ReduceMean", x, &[-2, -1], false),
            Op::GlobalMaxPool2d(_) => self.reduce("ReduceMax", x, &[-2, -1], false),
            Op::Mean(op) => self.reduce("ReduceMean", x, &op.axis, op.keep),
            Op::Sum(op) => self.reduce("ReduceSum", x, &op.axis, op.keep),
            Op::Var(op) => {
                let mean = self.reduce("ReduceMean", x, &op.axis, true);
                let centred = self.plain("Sub", &[x, &mean]);
                let squares = self.plain("Mul", &[&centred, &centred]);
                let sum = self.reduce("ReduceSum", &squares, &op.axis, op.keep);
                let count: usize = op.axis.iter().map(|at| length(shape(), axis(*at, shape()))).product();
                let divisor = self.float(count as f64 - f64::from(u8::from(op.unbiased)));
                self.plain("Div", &[&sum, &divisor])
            }
            Op::VectorNorm(op) => self.reduce("ReduceL2", x, &op.axis, op.keep),
            Op::Amax(op) => self.reduce("ReduceMax", x, &op.axis, op.keep),
            Op::Flatten(_) => self.with("Flatten", &[x], vec![Attribute::int("axis", 1)]),
            Op::Reshape(op) => {
                let to = op.infer(shapes)?;
                self.reshape(x, &to)
            }
            Op::Permute(op) => {
                let order = op.order(shape())?;
                self.transpose(x, &order)
            }
            Op::Chunk(op) => self.chunk(op, x, shape()),
            Op::Slice(op) => {
                let (axis, range) = op.range(shape())?;
                self.slice(x, axis, range.start as i64, range.end as i64)
            }
            Op::Pad(op) => self.pad(op, x, shape())?,
            Op::Roll(op) => {
                let mut value = x.to_string();
                for (axis, by) in op.each_axis(shape())?.into_iter().enumerate().filter(|(_, by)| *by > 0) {
                    let len = length(shape(), axis);
                    let parts = self.split(&value, axis, &[len - by, by]);
                    value = self.with("Concat", &[&parts[1], &parts[0]], vec![Attribute::int("axis", axis as i64)]);
                }
                value
            }
            Op::Unfold(op) => self.unfold(op, x, shape())?,
            Op::Fold(op) => self.fold(op, x, shape())?,
            Op::ChannelShuffle(op) => {
                let dims = &shape().dims;
                let split = Shape::batched([&[op.groups, dims[0] / op.groups], &dims[1..]].concat());
                let value = self.reshape(x, &split);
                let mut order: Vec<usize> = (0..split.rank()).collect();
                order.swap(1, 2);
                let value = self.transpose(&value, &order);
                self.reshape(&value, shape())
            }
            Op::PixelShuffle(op) => {
                let attributes = vec![Attribute::int("blocksize", op.r as i64), Attribute::text("mode", "CRD")];
                self.of_images(x, shape(), |build, x| build.with("DepthToSpace", &[x], attributes))
            }
            Op::Upsample(op) => self.upsample(op, x, shape())?,
            Op::Add(op) => self.binary("Add", ins, shapes, op.number, false),
            Op::Mul(op) => self.binary("Mul", ins, shapes, op.number, false),
            Op::Sub(op) => self.binary("Sub", ins, shapes, op.number, op.swapped),
            Op::Div(op) => self.binary("Div", ins, shapes, op.number, op.swapped),
            Op::Maximum(_) => self.binary("Max", ins, shapes, None, false),
            Op::Minimum(_) => self.binary("Min", ins, shapes, None, false),
            Op::Concat(op) => self.concat(op.axis, ins, shapes),
            Op::Matmul(_) => self.plain("MatMul", &[x, &ins[1]]),
            Op::Gather(_) => {
                let index = self.with("Cast", &[&ins[1]], vec![Attribute::int("to", format::INT64.into())]);
                self.with("Gather", &[x, &index], vec![Attribute::int("axis", 0)])
            }
            Op::WindowIndex(_) | Op::WindowCoords(_) | Op::Parameter(_) | Op::Buffer(_) => self.param(""),
            Op::WindowMask(op) => {
                let dims = op.infer(&[])?.dims;
                let values = op.eval(&[], &[], &dims).into_data();
                self.floats(&dims, values)
            }
            Op::Constant(op) => {
                let dims = op.infer(&[])?.dims;
                let values = op.eval(&[], &[], &dims).into_data();
                self.floats(&dims, values)
            }
            Op::Input(_) => unreachable!("inputs come first"),
        })
    }

    fn unsqueeze(&mut self, x: &str, axes: &[usize]) -> String {
        let axes = self.ints(&axes.iter().map(|axis| *axis as i64).collect::<Vec<_>>());
        self.plain("Unsqueeze", &[x, &axes])
    }

    fn squeeze(&mut self, x: &str, axis: i64) -> String {
        let axes = self.ints(&[axis]);
        self.plain("Squeeze", &[x, &axes])
    }

    pub(super) fn transpose(&mut self, x: &str, order: &[usize]) -> String {
        self.with("Transpose", &[x], vec![Attribute::ints("perm", order.iter().copied())])
    }

    /// A reshape that keeps the batch.
    fn reshape(&mut self, x: &str, to: &Shape) -> String {
        let dims = to.dims.iter().map(|len| *len as i64);
        let to: Vec<i64> = to.batched.then_some(0).into_iter().chain(dims).collect();
        self.reshape_to(x, &to)
    }

    fn reshape_to(&mut self, x: &str, to: &[i64]) -> String {
        let to = self.ints(to);
        self.plain("Reshape", &[x, &to])
    }

    pub(super) fn slice(&mut self, x: &str, axis: usize, from: i64, to: i64) -> String {
        let (from, to, axes) = (self.ints(&[from]), self.ints(&[to]), self.ints(&[axis as i64]));
        self.plain("Slice", &[x, &from, &to, &axes])
    }

    fn split(&mut self, x: &str, axis: usize, lengths: &[usize]) -> Vec<String> {
        let sizes = self.ints(&lengths.iter().map(|len| *len as i64).collect::<Vec<_>>());
        self.many("Split", &[x, &sizes], vec![Attribute::int("axis", axis as i64)], lengths.len())
    }

    /// A reduction, whose axes are an operand since opset 18, of sums since 13.
    fn reduce(&mut self, op: &str, x: &str, axes: &[i64], keep: bool) -> String {
        let mut attributes = vec![Attribute::int("keepdims", keep.into())];
        if op == "ReduceSum" || self.opset() >= 18 {
            let axes = self.ints(axes);
            return self.with(op, &[x, &axes], attributes);
        }
        let mut list = Attribute::ints("axes", []);
        list.ints = axes.to_vec();
        attributes.insert(0, list);
        self.with(op, &[x], attributes)
    }

    fn clip(&mut self, x: &str, min: Option<f64>, max: Option<f64>) -> String {
        let [min, max] = [min, max].map(|bound| bound.map_or(String::new(), |bound| self.float(bound)));
        if max.is_empty() { self.plain("Clip", &[x, &min]) } else { self.plain("Clip", &[x, &min, &max]) }
    }

    fn hardsigmoid(&mut self, x: &str) -> String {
        let attributes = vec![Attribute::float("alpha", 1.0 / 6.0), Attribute::float("beta", 0.5)];
        self.with("HardSigmoid", &[x], attributes)
    }

    /// A `Gelu`, which is an operator since opset 20.
    fn gelu(&mut self, x: &str, approximate: Approximate) -> String {
        let word = match approximate {
            Approximate::None => "none",
            Approximate::Tanh => "tanh",
        };
        if self.opset() >= 20 {
            return self.with("Gelu", &[x], vec![Attribute::text("approximate", word)]);
        }
        let (half, one) = (self.float(0.5), self.float(1.0));
        let inner = match approximate {
            Approximate::None => {
                let root = self.float(std::f64::consts::SQRT_2);
                let scaled = self.plain("Div", &[x, &root]);
                self.plain("Erf", &[&scaled])
            }
            Approximate::Tanh => {
                let (cubic, scale) = (self.float(0.044_715), self.float((2.0 / std::f64::consts::PI).sqrt()));
                let square = self.plain("Mul", &[x, x]);
                let cube = self.plain("Mul", &[&square, x]);
                let cube = self.plain("Mul", &[&cube, &cubic]);
                let sum = self.plain("Add", &[x, &cube]);
                let scaled = self.plain("Mul", &[&sum, &scale]);
                self.plain("Tanh", &[&scaled])
            }
        };
        let gate = self.plain("Add", &[&inner, &one]);
        let value = self.plain("Mul", &[x, &gate]);
        self.plain("Mul", &[&value, &half])
    }

    /// An op of [N, C, ..], with a batch of 1 where a value has none.
    fn of_images(&mut self, x: &str, shape: &Shape, op: impl FnOnce(&mut Self, &str) -> String) -> String {
        if shape.rank() > 3 {
            return op(self, x);
        }
        let one = self.unsqueeze(x, &[0]);
        let value = op(self, &one);
        self.squeeze(&value, 0)
    }

    fn conv(&mut self, op: &Conv2d, x: &str, shape: &Shape, weight: &str, bias: Option<&str>) -> String {
        let mut attributes = vec![
            Attribute::ints("dilations", op.dilation.sides()),
            Attribute::int("group", op.groups as i64),
            Attribute::ints("kernel_shape", op.kernel.sides()),
        ];
        attributes.push(match op.padding {
            Padding::Each(Pair { h, w }) => Attribute::ints("pads", [h, w, h, w]),
            Padding::Same if op.dilation == Pair::both(1) => Attribute::text("auto_pad", "SAME_UPPER"),
            // not every runtime knows that of dilated windows
            Padding::Same => Attribute::ints("pads", op.window(shape).padding),
        });
        attributes.push(Attribute::ints("strides", op.stride.sides()));
        let operands: Vec<String> = [Some(weight), bias].into_iter().flatten().map(str::to_string).collect();
        self.of_images(x, shape, |build, x| {
            let ins: Vec<&str> = [x].into_iter().chain(operands.iter().map(String::as_str)).collect();
            build.with("Conv", &ins, attributes)
        })
    }

    fn conv1d(&mut self, op: &Conv1d, x: &str, shape: &Shape) -> Value {
        let image = Conv1d::image(shape)?;
        let [_, left, _, right] = op.of_images().window(&image).padding;
        let pads = match op.padding {
            Padding::Each(pair) => [pair.w; 2],
            Padding::Same => [left, right],
        };
        let attributes = vec![
            Attribute::ints("dilations", [op.dilation]),
            Attribute::int("group", op.groups as i64),
            Attribute::ints("kernel_shape", [op.kernel]),
            Attribute::ints("pads", pads),
            Attribute::ints("strides", [op.stride]),
        ];
        let weight = self.param("weight");
        let bias = self.bias(op.bias, op.out);
        let operands: Vec<String> = [Some(weight), bias].into_iter().flatten().collect();
        let conv = |build: &mut Self, x: &str| {
            let ins: Vec<&str> = [x].into_iter().chain(operands.iter().map(String::as_str)).collect();
            build.with("Conv", &ins, attributes)
        };
        if shape.rank() > 2 {
            return Ok(conv(self, x));
        }
        let one = self.unsqueeze(x, &[0]);
        let value = conv(self, &one);
        Ok(self.squeeze(&value, 0))
    }

    fn conv_transpose(&mut self, op: &ConvTranspose2d, x: &str, shape: &Shape) -> String {
        let weight = self.param("weight");
        let bias = self.bias(op.bias, op.out);
        let operands: Vec<String> = [Some(weight), bias].into_iter().flatten().collect();
        let Pair { h, w } = op.padding.0;
        let attributes = vec![
            Attribute::ints("dilations", op.dilation.sides()),
            Attribute::int("group", op.groups as i64),
            Attribute::ints("kernel_shape", op.kernel.sides()),
            Attribute::ints("output_padding", op.output_padding.0.sides()),
            Attribute::ints("pads", [h, w, h, w]),
            Attribute::ints("strides", op.stride.sides()),
        ];
        self.of_images(x, shape, |build, x| {
            let ins: Vec<&str> = [x].into_iter().chain(operands.iter().map(String::as_str)).collect();
            build.with("ConvTranspose", &ins, attributes)
        })
    }

    fn linear(&mut self, x: &str, rank: usize, weight: &str, bias: Option<&str>) -> String {
        if rank == 2 {
            let ins: Vec<&str> = [Some(x), Some(weight), bias].into_iter().flatten().collect();
            return self.with("Gemm", &ins, vec![Attribute::int("transB", 1)]);
        }
        let turned = self.transpose(weight, &[1, 0]);
        let product = self.plain("MatMul", &[x, &turned]);
        match bias {
            Some(bias) => self.plain("Add", &[&product, bias]),
            None => product,
        }
    }

    /// `weight` and `bias`, or ones and zeros.
    fn scale_and_bias(&mut self, affine: bool, features: usize) -> (String, String) {
        match affine {
            true => (self.param("weight"), self.param("bias")),
            false => (self.filled(features, 1.0), self.filled(features, 0.0)),
        }
    }

    fn batch_norm(&mut self, x: &str, shape: &Shape, axis: usize, eps: f64, momentum: f64, affine: bool) -> String {
        let (scale, bias) = self.scale_and_bias(affine, length(shape, axis));
        let (mean, variance) = (self.param("running_mean"), self.param("running_var"));
        // ONNX's momentum is what stays
        let attributes = vec![Attribute::float("epsilon", eps), Attribute::float("momentum", 1.0 - momentum)];
        self.along(x, shape, axis, 1, |build, x| {
            build.with("BatchNormalization", &[x, &scale, &bias, &mean, &variance], attributes)
        })
    }

    /// An op along `axis` that ONNX has along another one, which the value has there.
    fn along(
        &mut self,
        x: &str,
        shape: &Shape,
        axis: usize,
        to: usize,
        op: impl FnOnce(&mut Self, &str) -> String,
    ) -> String {
        if axis == to {
            return op(self, x);
        }
        let mut order: Vec<usize> = (0..shape.rank()).collect();
        let moved = order.remove(axis);
        order.insert(to, moved);
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, from)| back[*from] = at);
        let turned = self.transpose(x, &order);
        let value = op(self, &turned);
        self.transpose(&value, &back)
    }

    fn layer_norm(&mut self, x: &str, shape: &Shape, axis: usize, eps: f64, affine: bool) -> String {
        let has_operator = self.opset() >= 17;
        let scale = match affine {
            true => Some(self.param("weight")),
            false => has_operator.then(|| self.filled(length(shape, axis), 1.0)),
        };
        let bias = affine.then(|| self.param("bias"));
        self.along(x, shape, axis, shape.rank() - 1, |build, x| {
            if has_operator {
                let ins: Vec<&str> = [Some(x), scale.as_deref(), bias.as_deref()].into_iter().flatten().collect();
                let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", eps)];
                return build.with("LayerNormalization", &ins, attributes);
            }
            let mean = build.reduce("ReduceMean", x, &[-1], true);
            let centred = build.plain("Sub", &[x, &mean]);
            let value = build.over_root(&centred, &centred, eps);
            match (&scale, &bias) {
                (Some(scale), Some(bias)) => {
                    let scaled = build.plain("Mul", &[&value, scale]);
                    build.plain("Add", &[&scaled, bias])
                }
                _ => value,
            }
        })
    }

    /// `x` over the root of the mean square of `of`, along the last axis.
    fn over_root(&mut self, x: &str, of: &str, eps: f64) -> String {
        let squares = self.plain("Mul", &[of, of]);
        let mean = self.reduce("ReduceMean", &squares, &[-1], true);
        let eps = self.float(eps);
        let sum = self.plain("Add", &[&mean, &eps]);
        let root = self.plain("Sqrt", &[&sum]);
        self.plain("Div", &[x, &root])
    }

    fn rms_norm(&mut self, x: &str, shape: &Shape, axis: usize, eps: f64, affine: bool) -> String {
        let has_operator = self.opset() >= 23;
        let scale = match affine {
            true => Some(self.param("weight")),
            false => has_operator.then(|| self.filled(length(shape, axis), 1.0)),
        };
        self.along(x, shape, axis, shape.rank() - 1, |build, x| match (&scale, has_operator) {
            (Some(scale), true) => {
                let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", eps)];
                build.with("RMSNormalization", &[x, scale], attributes)
            }
            (scale, _) => {
                let value = build.over_root(x, x, eps);
                match scale {
                    Some(scale) => build.plain("Mul", &[&value, scale]),
                    None => value,
                }
            }
        })
    }

    /// `GroupNormalization` scales channels since opset 21 and groups before, which is not what is meant.
    fn group_norm(&mut self, x: &str, shape: &Shape, groups: usize, eps: f64, affine: bool) -> String {
        let epsilon = Attribute::float("epsilon", eps);
        if self.opset() >= 21 {
            let (scale, bias) = self.scale_and_bias(affine, shape.dims[0]);
            let attributes = vec![epsilon, Attribute::int("num_groups", groups as i64)];
            return self.with("GroupNormalization", &[x, &scale, &bias], attributes);
        }
        let (ones, zeros) = (self.filled(groups, 1.0), self.filled(groups, 0.0));
        let grouped = self.reshape_to(x, &[0, groups as i64, -1]);
        let normed = self.with("InstanceNormalization", &[&grouped, &ones, &zeros], vec![epsilon]);
        let normed = self.reshape(&normed, shape);
        if !affine {
            return normed;
        }
        let after: Vec<usize> = (1..shape.dims.len()).collect();
        let [scale, bias] = ["weight", "bias"].map(|name| {
            let value = self.param(name);
            if after.is_empty() { value } else { self.unsqueeze(&value, &after) }
        });
        let scaled = self.plain("Mul", &[&normed, &scale]);
        self.plain("Add", &[&scaled, &bias])
    }

    fn attention(&mut self, op: &Attention, ins: &[String], shapes: &[&Shape]) -> String {
        let heads = op.heads;
        let scale = op.scale(shapes[0].last().unwrap_or(1) / heads);
        let rank = shapes[0].rank();
        let is_operator = match heads {
            1 => rank == 4,
            _ => rank == 3,
        };
        if self.opset() >= 23 && is_operator && shapes[..3].iter().all(|shape| shape.batched) {
            let mut attributes = vec![Attribute::float("scale", scale)];
            if heads > 1 {
                attributes.push(Attribute::int("kv_num_heads", heads as i64));
                attributes.push(Attribute::int("q_num_heads", heads as i64));
            }
            let ins: Vec<&str> = ins.iter().map(String::as_str).collect();
            return self.with("Attention", &ins, attributes);
        }
        // [.., L, heads * d] to [.., heads, L, d], keys to [.., heads, d, S]
        let split = |build: &mut Self, at: usize| {
            let (x, shape) = (&ins[at], shapes[at]);
            let rank = shape.rank();
            let mut order: Vec<usize> = (0..rank).collect();
            if heads == 1 {
                order.swap(rank - 1, rank - 2);
                return if at == 1 { build.transpose(x, &order) } else { x.clone() };
            }
            let mut dims = shape.dims.clone();
            let features = dims.pop().unwrap_or(1);
            dims.extend([heads, features / heads]);
            let parted = build.reshape(x, &Shape { batched: shape.batched, dims });
            order.push(rank);
            order.swap(rank - 2, rank - 1);
            if at == 1 {
                order.swap(rank - 1, rank);
            }
            build.transpose(&parted, &order)
        };
        let (q, k, v) = (split(self, 0), split(self, 1), split(self, 2));
        let scale = self.float(scale);
        let q = self.plain("Mul", &[&q, &scale]);
        let mut scores = self.plain("MatMul", &[&q, &k]);
        if let Some(mask) = ins.get(3) {
            scores = self.plain("Add", &[&scores, mask]);
        }
        let weights = self.with("Softmax", &[&scores], vec![Attribute::int("axis", -1)]);
        let mixed = self.plain("MatMul", &[&weights, &v]);
        if heads == 1 {
            return mixed;
        }
        let mut order: Vec<usize> = (0..=rank).collect();
        order.swap(rank - 2, rank - 1);
        let mixed = self.transpose(&mixed, &order);
        let out = self.typed.shape(self.here);
        self.reshape(&mixed, out)
    }

    /// The gates of all steps are known, so that `LSTM` is given them as its input and a permutation as the input's weight: ONNX's
    /// gates are i, o, f, c, PyTorch's i, f, g, o.
    fn lstm(&mut self, op: &LstmScan, ins: &[String], shapes: &[&Shape]) -> String {
        let mut states = vec![];
        for (pair, values) in ins.chunks_exact(2).enumerate() {
            let shape = shapes[2 * pair];
            let hidden = shapes[2 * pair + 1].dims[1];
            let (steps, wide) = (shape.dims[shape.dims.len() - 2], 4 * hidden);
            let order = [0, 3, 1, 2];
            let mut permutation = vec![0.0; wide * wide];
            for (to, from) in order.into_iter().enumerate() {
                (0..hidden).for_each(|unit| permutation[(to * hidden + unit) * wide + from * hidden + unit] = 1.0);
            }
            let input = self.floats(&[1, wide, wide], permutation);
            let parts = self.split(&values[1], 0, &[hidden; 4]);
            let ordered: Vec<&str> = order.iter().map(|at| parts[*at].as_str()).collect();
            let recurrent = self.with("Concat", &ordered, vec![Attribute::int("axis", 0)]);
            let recurrent = self.unsqueeze(&recurrent, &[0]);
            // [.., L, 4 H] to [sequences, L, 4 H] to [L, sequences, 4 H]
            let sequences = match shape.rank() {
                3 => values[0].clone(),
                _ => self.reshape_to(&values[0], &[-1, steps as i64, wide as i64]),
            };
            let sequences = self.transpose(&sequences, &[1, 0, 2]);
            let direction = if op.reverse || pair == 1 { "reverse" } else { "forward" };
            let attributes =
                vec![Attribute::text("direction", direction), Attribute::int("hidden_size", hidden as i64)];
            let results = self.many("LSTM", &[&sequences, &input, &recurrent], attributes, 1);
            let all = self.squeeze(&results[0], 1);
            let mut all = self.transpose(&all, &[1, 0, 2]);
            if shape.rank() != 3 {
                let mut to: Vec<i64> = shape.dims.iter().map(|len| *len as i64).collect();
                *to.last_mut().expect("the gates have features") = hidden as i64;
                if shape.batched {
                    to.insert(0, -1);
                }
                all = self.reshape_to(&all, &to);
            }
            states.push(all);
        }
        match &states[..] {
            [one] => one.clone(),
            both => {
                let both: Vec<&str> = both.iter().map(String::as_str).collect();
                self.with("Concat", &both, vec![Attribute::int("axis", -1)])
            }
        }
    }

    /// Values zeroed at random at inference: by `Dropout` in its training mode.
    fn drop(&mut self, x: &str, shape: &Shape, drops: Drops) -> String {
        let ratio = self.float(drops.p);
        let training = self.constant(vec![], Source::Bytes(vec![1]));
        let kept = match drops.grain {
            Grain::Value => return self.plain("Dropout", &[x, &ratio, &training]),
            Grain::Channel => 2,
            Grain::Sample => 1,
        };
        // ones of the axes that are drawn, [N, C, 1, 1]
        let size = self.plain("Shape", &[x]);
        let size = self.slice(&size, 0, 0, kept);
        let rest = self.ints(&vec![1; shape.rank() - kept as usize]);
        let size = self.with("Concat", &[&size, &rest], vec![Attribute::int("axis", 0)]);
        let one = self.filled(1, 1.0);
        let ones = self.plain("Expand", &[&one, &size]);
        let mask = self.plain("Dropout", &[&ones, &ratio, &training]);
        self.plain("Mul", &[x, &mask])
    }

    fn max_pool(&mut self, op: &MaxPool2d, x: &str, shape: &Shape) -> Value {
        let out = op.infer(&[shape])?;
        let window = op.window();
        let mut pads = ended(window.padding, op.ceil_mode, &window.fitted(sides(shape), sides(&out)).padding);
        // runtimes want padding below the window, as if it were not dilated
        let is_wide = [0, 1].into_iter().any(|axis| pads[axis + 2] >= window.kernel[axis]);
        if is_wide {
            pads = window.padding;
        }
        let attributes = vec![
            Attribute::int("ceil_mode", i64::from(op.ceil_mode && is_wide)),
            Attribute::ints("dilations", op.dilation.sides()),
            Attribute::ints("kernel_shape", op.kernel.sides()),
            Attribute::ints("pads", pads),
            Attribute::ints("strides", window.stride),
        ];
        Ok(self.of_images(x, shape, |build, x| build.with("MaxPool", &[x], attributes)))
    }

    /// With `ceil_mode` the last windows reach beyond image and padding, and what lies there does not count.
    fn avg_pool(&mut self, op: &AvgPool2d, x: &str, shape: &Shape) -> Value {
        let out = op.infer(&[shape])?;
        let window = op.window();
        let mut pads = ended(window.padding, op.ceil_mode, &window.fitted(sides(shape), sides(&out)).padding);
        let [top, left, bottom, right] = window.padding;
        let is_counted = op.count_include_pad && window.padding != [0; 4];
        let is_beyond = pads[2] > bottom || pads[3] > right;
        let before = is_counted && is_beyond;
        if before {
            pads = [0, 0, pads[2].saturating_sub(bottom), pads[3].saturating_sub(right)];
        }
        let attributes = vec![
            Attribute::int("count_include_pad", i64::from(is_counted && !before)),
            Attribute::ints("kernel_shape", op.kernel.sides()),
            Attribute::ints("pads", pads),
            Attribute::ints("strides", window.stride),
        ];
        let padding = [0, 0, top, left, 0, 0, bottom, right].map(|pad| pad as i64);
        Ok(self.of_images(x, shape, |build, x| {
            let padded = before.then(|| {
                let sizes = build.ints(&padding);
                build.with("Pad", &[x, &sizes], vec![Attribute::text("mode", "constant")])
            });
            build.with("AveragePool", &[padded.as_deref().unwrap_or(x)], attributes)
        }))
    }

    /// Windows of a number that is given. Equal ones are those of a pooling; means over others are products with matrices.
    fn adaptive(&mut self, x: &str, shape: &Shape, size: Pair, is_max: bool) -> String {
        let from = sides(shape);
        let to = size.sides();
        if to == [1, 1] {
            let op = if is_max { "GlobalMaxPool" } else { "GlobalAveragePool" };
            return self.of_images(x, shape, |build, x| build.plain(op, &[x]));
        }
        if from == to {
            return x.to_string();
        }
        if [0, 1].into_iter().all(|axis| from[axis].is_multiple_of(to[axis])) {
            let window = [0, 1].map(|axis| from[axis] / to[axis]);
            let attributes = vec![Attribute::ints("kernel_shape", window), Attribute::ints("strides", window)];
            let op = if is_max { "MaxPool" } else { "AveragePool" };
            return self.of_images(x, shape, |build, x| build.with(op, &[x], attributes));
        }
        let part = |at: usize, len: usize, parts: usize| at * len / parts..((at + 1) * len).div_ceil(parts);
        if !is_max {
            let rows = |axis: usize| -> Vec<Vec<f32>> {
                let row = |at| {
                    let part = part(at, from[axis], to[axis]);
                    let weight = 1.0 / part.len() as f32;
                    (0..from[axis]).map(|x| if part.contains(&x) { weight } else { 0.0 }).collect()
                };
                (0..to[axis]).map(row).collect()
            };
            return self.by_matrices(x, &rows(0), &rows(1));
        }
        let mut value = x.to_string();
        for axis in [0, 1] {
            let at = shape.rank() - 2 + axis;
            let mut parts = vec![];
            for window in 0..to[axis] {
                let range = part(window, from[axis], to[axis]);
                let rows = self.slice(&value, at, range.start as i64, range.end as i64);
                parts.push(self.reduce("ReduceMax", &rows, &[at as i64], true));
            }
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            value = self.with("Concat", &parts, vec![Attribute::int("axis", at as i64)]);
        }
        value
    }

    /// Rows and columns of images that are weighted sums of their rows and columns.
    fn by_matrices(&mut self, x: &str, rows: &[Vec<f32>], columns: &[Vec<f32>]) -> String {
        let left = self.floats(&[rows.len(), rows[0].len()], rows.concat());
        let turned = (0..columns[0].len()).flat_map(|from| columns.iter().map(move |column| column[from]));
        let right = self.floats(&[columns[0].len(), columns.len()], turned.collect());
        let value = self.plain("MatMul", &[&left, x]);
        self.plain("MatMul", &[&value, &right])
    }

    /// The parts of a chunk are one `Split`.
    fn chunk(&mut self, op: &Chunk, x: &str, shape: &Shape) -> String {
        let axis = axis(op.axis, shape);
        let key = (self.graph().operands(self.here)[0], op.parts, axis);
        if let Some(parts) = self.chunks.get(&key) {
            return parts[op.part as usize].clone();
        }
        let parts = self.split(x, axis, &vec![length(shape, axis) / op.parts; op.parts]);
        self.chunks.insert(key, parts.clone());
        parts[op.part as usize].clone()
    }

    fn pad(&mut self, op: &Pad, x: &str, shape: &Shape) -> Value {
        let each = op.each_axis(shape)?;
        if op.mode == Border::Circular && self.opset() < 19 {
            let mut value = x.to_string();
            for (axis, (before, after)) in each.into_iter().enumerate().filter(|(_, each)| *each != (0, 0)) {
                let len = length(shape, axis);
                let mut parts = vec![];
                if before > 0 {
                    parts.push(self.slice(&value, axis, (len - before) as i64, len as i64));
                }
                parts.push(value.clone());
                if after > 0 {
                    parts.push(self.slice(&value, axis, 0, after as i64));
                }
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                value = self.with("Concat", &parts, vec![Attribute::int("axis", axis as i64)]);
            }
            return Ok(value);
        }
        let sizes: Vec<i64> = each
            .iter()
            .map(|(before, _)| *before)
            .chain(each.iter().map(|(_, after)| *after))
            .map(|n| n as i64)
            .collect();
        let sizes = self.ints(&sizes);
        let mode = match op.mode {
            Border::Constant => "constant",
            Border::Reflect => "reflect",
            Border::Replicate => "edge",
            Border::Circular => "wrap",
        };
        let attributes = vec![Attribute::text("mode", mode)];
        Ok(match op.value {
            0.0 => self.with("Pad", &[x, &sizes], attributes),
            value => {
                let value = self.float(value);
                self.with("Pad", &[x, &sizes, &value], attributes)
            }
        })
    }

    /// One weight for each pixel of a window, of each channel alone: [C * taps, 1, kernel h, kernel w].
    fn taps(&mut self, channels: usize, kernel: Pair) -> String {
        let taps = kernel.h * kernel.w;
        let mut values = vec![0.0; channels * taps * taps];
        (0..channels * taps).for_each(|row| values[row * taps + row % taps] = 1.0);
        self.floats(&[channels * taps, 1, kernel.h, kernel.w], values)
    }

    /// Windows are a convolution each output of which is one pixel of them.
    fn unfold(&mut self, op: &Unfold, x: &str, shape: &Shape) -> Value {
        let channels = shape.dims[shape.dims.len() - 3];
        let weight = self.taps(channels, op.kernel);
        let windows = Conv2d { groups: channels, ..op.windows() };
        let value = self.conv(&windows, x, shape, &weight, None);
        let out = op.infer(&[shape])?;
        Ok(self.reshape(&value, &out))
    }

    /// The transpose of that: `Col2Im` since opset 18.
    fn fold(&mut self, op: &Fold, x: &str, shape: &Shape) -> Value {
        let image = op.infer(&[shape])?;
        if self.opset() >= 18 {
            let size = self.ints(&op.size.sides().map(|side| side as i64));
            let kernel = self.ints(&op.kernel.sides().map(|side| side as i64));
            let Pair { h, w } = op.padding.0;
            let attributes = vec![
                Attribute::ints("dilations", op.dilation.sides()),
                Attribute::ints("pads", [h, w, h, w]),
                Attribute::ints("strides", op.stride.sides()),
            ];
            if shape.rank() > 2 {
                return Ok(self.with("Col2Im", &[x, &size, &kernel], attributes));
            }
            let one = self.unsqueeze(x, &[0]);
            let value = self.with("Col2Im", &[&one, &size, &kernel], attributes);
            return Ok(self.squeeze(&value, 0));
        }
        let at = op.windows().geometry(&image)?;
        let channels = image.dims[image.dims.len() - 3];
        let (Pair0(Pair { h, w }), size) = (op.padding, [at.out_height, at.out_width]);
        let mut dims = shape.dims.clone();
        dims.pop();
        dims.extend(size);
        let spread = Shape { batched: shape.batched, dims };
        let columns = self.reshape(x, &spread);
        let weight = self.taps(channels, op.kernel);
        let (kernel, stride, dilation) = (op.kernel.sides(), op.stride.sides(), op.dilation.sides());
        let extra = [0, 1].map(|axis| {
            let covered = (size[axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1;
            (op.size.sides()[axis] + 2 * [h, w][axis]).saturating_sub(covered)
        });
        let attributes = vec![
            Attribute::ints("dilations", dilation),
            Attribute::int("group", channels as i64),
            Attribute::ints("kernel_shape", kernel),
            Attribute::ints("output_padding", extra),
            Attribute::ints("pads", [h, w, h, w]),
            Attribute::ints("strides", stride),
        ];
        Ok(self.of_images(&columns, &spread, |build, x| build.with("ConvTranspose", &[x, &weight], attributes)))
    }

    /// What is antialiased is a product with matrices, as not every runtime knows Pillow's filters; `nearest` picks rows and columns
    /// where float32 does not divide exactly.
    fn upsample(&mut self, op: &Upsample, x: &str, shape: &Shape) -> Value {
        let out = op.infer(&[shape])?;
        let (from, to) = (sides(shape), sides(&out));
        let ratio = |axis: usize| op.scale.map_or(from[axis] as f64 / to[axis] as f64, |scale| 1.0 / scale);
        if op.antialias {
            let rows = |axis: usize| -> Vec<Vec<f32>> {
                let row = |at: usize| {
                    let (first, weights) = op.mode.antialiased(at as u64, ratio(axis), from[axis]);
                    let mut row = vec![0.0; from[axis]];
                    row[first..].iter_mut().zip(weights).for_each(|(to, weight)| *to = weight as f32);
                    row
                };
                (0..to[axis]).map(row).collect()
            };
            return Ok(self.by_matrices(x, &rows(0), &rows(1)));
        }
        let is_exact = [0, 1].into_iter().all(|axis| to[axis] % from[axis] == 0)
            && op.scale.is_none_or(|scale| scale.fract() == 0.0);
        if op.mode == Resample::Nearest && !is_exact {
            let mut value = x.to_string();
            for axis in [0, 1] {
                let pixel = |at| op.mode.taps(at, ratio(axis), from[axis], to[axis]).at[0] as i64;
                let picked: Vec<i64> = (0..to[axis]).map(pixel).collect();
                let picked = self.ints(&picked);
                let at = (shape.rank() - 2 + axis) as i64;
                value = self.with("Gather", &[&value, &picked], vec![Attribute::int("axis", at)]);
            }
            return Ok(value);
        }
        let mut attributes = vec![];
        match op.mode {
            Resample::Nearest => {
                attributes.push(Attribute::text("coordinate_transformation_mode", "asymmetric"));
                attributes.push(Attribute::text("mode", "nearest"));
                attributes.push(Attribute::text("nearest_mode", "floor"));
            }
            Resample::Bilinear => {
                attributes.push(Attribute::text("coordinate_transformation_mode", "half_pixel"));
                attributes.push(Attribute::text("mode", "linear"));
            }
            Resample::Bicubic => {
                attributes.push(Attribute::text("coordinate_transformation_mode", "half_pixel"));
                attributes.push(Attribute::float("cubic_coeff_a", -0.75));
                attributes.push(Attribute::text("mode", "cubic"));
            }
        }
        let scales = match op.scale {
            Some(scale) => Some([scale, scale]),
            // the same pixels, and no size of the batch is asked for
            None if is_exact => Some([0, 1].map(|axis| (to[axis] / from[axis]) as f64)),
            None => None,
        };
        Ok(self.of_images(x, shape, |build, x| match scales {
            Some([h, w]) => {
                let scales = build.floats(&[4], vec![1.0, 1.0, h as f32, w as f32]);
                build.with("Resize", &[x, "", &scales], attributes)
            }
            None => {
                let size = build.plain("Shape", &[x]);
                let size = build.slice(&size, 0, 0, 2);
                let last = build.ints(&to.map(|len| len as i64));
                let size = build.with("Concat", &[&size, &last], vec![Attribute::int("axis", 0)]);
                build.with("Resize", &[x, "", "", &size], attributes)
            }
        }))
    }

    /// Axes of two batched values pair from the left, which ONNX's never do: 1s are put behind those of the shorter shape.
    fn binary(&mut self, op: &str, ins: &[String], shapes: &[&Shape], number: Option<f64>, swapped: bool) -> String {
        if let Some(number) = number {
            let number = self.float(number);
            return if swapped { self.plain(op, &[&number, &ins[0]]) } else { self.plain(op, &[&ins[0], &number]) };
        }
        let rank = shapes[0].rank().max(shapes[1].rank());
        let from_left = shapes[0].batched && shapes[1].batched;
        let operands: Vec<String> = ins
            .iter()
            .zip(shapes)
            .map(|(value, shape)| match from_left && shape.rank() < rank {
                true => self.unsqueeze(value, &(shape.rank()..rank).collect::<Vec<_>>()),
                false => value.clone(),
            })
            .collect();
        self.plain(op, &[&operands[0], &operands[1]])
    }

    /// Values of every sample beside one that all share, which is expanded to the batch.
    fn concat(&mut self, axis: i64, ins: &[String], shapes: &[&Shape]) -> String {
        let whole = shapes.iter().position(|shape| shape.batched);
        let mut batch = None;
        let mut operands = vec![];
        for (value, shape) in ins.iter().zip(shapes) {
            let (Some(whole), false) = (whole, shape.batched) else {
                operands.push(value.clone());
                continue;
            };
            let batch = match &batch {
                Some(batch) => batch,
                None => {
                    let size = self.plain("Shape", &[&ins[whole]]);
                    batch.insert(self.slice(&size, 0, 0, 1))
                }
            };
            let rest = shape.dims[1..].iter().map(|len| *len as i64).collect::<Vec<_>>();
            let rest = self.ints(&rest);
            let size = self.with("Concat", &[batch, &rest], vec![Attribute::int("axis", 0)]);
            operands.push(self.plain("Expand", &[value, &size]));
        }
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        self.with("Concat", &operands, vec![Attribute::int("axis", axis)])
    }
}

/// An axis, the batch counted, that was checked.
fn axis(axis: i64, shape: &Shape) -> usize {
    shape.resolve_axis(axis).expect("the shape was inferred")
}

/// The length of an axis that is not the batch.
fn length(shape: &Shape, axis: usize) -> usize {
    shape.axis(axis).expect("the axis is not the batch")
}

/// Height and width of images.
fn sides(shape: &Shape) -> [usize; 2] {
    let [.., height, width] = shape.dims[..] else { unreachable!("the shape was inferred") };
    [height, width]
}

/// Padding whose ends reach as far as the last windows do, where these are rounded up.
fn ended(padding: [usize; 4], ceil_mode: bool, fitted: &[usize; 4]) -> [usize; 4] {
    let [top, left, bottom, right] = padding;
    if ceil_mode { [top, left, bottom.max(fitted[2]), right.max(fitted[3])] } else { [top, left, bottom, right] }
}
