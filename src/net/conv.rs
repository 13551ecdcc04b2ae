//! Convolutions, as `torch.nn.functional.conv2d`.

use std::fmt;

use archc_base::Window;

use super::{Accepts, Backward, Id, Layout, Need, Net, Node, Order, Step};

/// `[x, weight]`, or `[x, weight, scale]`: factors [N, C] or [N, C, 1, 1] of the channels of what it reads. Weights are
/// [out, in / groups, kernel h, kernel w].
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    pub window: Window,
    pub groups: usize,
}

/// `[dy, weight]`: the gradient of what a convolution reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvData {
    pub window: Window,
    pub groups: usize,
}

/// `[x, dy]`: the gradient of a convolution's weight. Of a transposed convolution: `[dy, x]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvWeight {
    pub window: Window,
    pub groups: usize,
}

impl Conv {
    /// Whether it is a convolution of single pixels, all of them, all channels together.
    pub fn is_pointwise(&self) -> bool {
        let Window { kernel, stride, padding, .. } = self.window;
        kernel == [1, 1] && stride == [1, 1] && padding == [0; 4] && self.groups == 1
    }
}

/// Pixels of the image that a window makes of the first operand; the node's own shape may be that of means, or of maxima.
pub(super) fn pixels(window: &Window, node: &Node, net: &Net) -> usize {
    let shape = &net.node(node.operands[0]).shape;
    let (_, h, w) = shape.as_images().expect("images");
    // all that there are of a value without batch
    let images = if shape.batched { 1 } else { shape.dims[0] };
    images * window.output([h, w]).iter().product::<usize>()
}

/// `3x3 in 4 groups`
pub(super) fn dump(f: &mut fmt::Formatter<'_>, window: &Window, groups: usize) -> fmt::Result {
    write!(f, " {}x{}", window.kernel[0], window.kernel[1])?;
    if groups > 1 {
        write!(f, " in {groups} groups")?;
    }
    Ok(())
}

impl Step for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn layout(&self, node: &Node, _net: &Net) -> Layout {
        // of an image of which only the means are kept the result is no image
        Layout { in_order: node.shape.rank() == 4, ..Layout::new(Order::Image, &[Need::Window]).with_gaps() }
    }

    fn accepts(&self) -> Accepts {
        Accepts::Gate
    }

    fn is_weight(&self, at: usize) -> bool {
        at == 1
    }

    fn reuse(&self, node: &Node, net: &Net) -> usize {
        pixels(&self.window, node, net)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, weight] = back.node(y).operands[..] else { unreachable!("factors come by passes") };
        let Conv { window, groups } = *self;
        // the weight's first: then nobody needs x
        if back.needs(weight) {
            let dw = back.add(ConvWeight { window, groups }, vec![x, dy], back.shape(weight));
            back.give(weight, dw);
        }
        back.give_bias(y, 1, dy);
        if back.needs(x) {
            let dx = back.add(ConvData { window, groups }, vec![dy, weight], back.shape(x));
            back.give(x, dx);
        }
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dump(f, &self.window, self.groups)
    }
}

impl Step for ConvData {
    fn name(&self) -> &'static str {
        "conv2d_data"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(1)
    }

    fn accepts(&self) -> Accepts {
        Accepts::Sum
    }

    fn is_weight(&self, at: usize) -> bool {
        at == 1
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dump(f, &self.window, self.groups)
    }
}

impl Step for ConvWeight {
    fn name(&self) -> &'static str {
        "conv2d_weight"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(2).sums()
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dump(f, &self.window, self.groups)
    }
}
