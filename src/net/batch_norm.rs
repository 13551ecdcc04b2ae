//! Batch norm by the statistics of the batch, as `torch.nn.BatchNorm2d` in training mode. By its running statistics it is
//! [`Channels`](super::Channels).

use std::fmt;

use super::{Accepts, Backward, Id, Layout, Net, Node, Step};
use crate::ops::shape::Shape;

/// `[x]`: means and biased variances of the channels, [2, C].
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStats;

/// `[x, statistics, weight, bias]`
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    pub eps: f32,
}

/// `[dy, x, statistics, weight, bias]`: gradients of weight and bias, [2, C]. With `relu` dy is that of the result's relu,
/// and counts where the result is positive.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormSums {
    pub eps: f32,
    pub relu: bool,
}

/// `[dy, x, statistics, weight, bias, sums]`
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormData {
    pub eps: f32,
    pub relu: bool,
}

/// `[statistics]`: moves the running mean (the state) and variance (the next) towards them. `count` values a sample each
/// was taken of.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    pub state: usize,
    pub momentum: f32,
    pub count: usize,
}

/// Of which gradient `dy` is.
fn dump(f: &mut fmt::Formatter<'_>, relu: bool) -> fmt::Result {
    f.write_str(if relu { " of its relu" } else { "" })
}

impl Step for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm2d"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(1).in_place()
    }

    fn accepts(&self) -> Accepts {
        Accepts::Sum
    }

    fn is_weight(&self, at: usize) -> bool {
        at > 1
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, stats, weight, bias] = back.node(y).operands[..] else { unreachable!("four operands") };
        let (eps, shape) = (self.eps, back.shape(x));
        let read = vec![dy, x, stats, weight, bias];
        let sums = back.add(BatchNormSums { eps, relu: false }, read.clone(), Shape::fixed([2, shape.dims[0]]));
        back.give_affine(sums, weight, bias);
        if back.needs(x) {
            let read = read.into_iter().chain([sums]).collect();
            let dx = back.add(BatchNormData { eps, relu: false }, read, shape);
            back.give(x, dx);
        }
    }
}

impl Step for BatchNormSums {
    fn name(&self) -> &'static str {
        "batch_norm2d_sums"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(2).sums()
    }

    fn is_weight(&self, at: usize) -> bool {
        at > 2
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dump(f, self.relu)
    }
}

impl Step for BatchNormData {
    fn name(&self) -> &'static str {
        "batch_norm2d_data"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(2).in_place()
    }

    fn is_weight(&self, at: usize) -> bool {
        at == 3 || at == 4
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dump(f, self.relu)
    }
}

impl Step for Running {
    fn name(&self) -> &'static str {
        "running_statistics"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::row_major(&[])
    }

    fn is_sink(&self) -> bool {
        true
    }
}

super::step::plain! {
    BatchStats, "batch_statistics", |_own, _node| Layout::images(1).sums();
}
