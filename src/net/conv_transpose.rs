//! Transposed convolutions, as `torch.nn.functional.conv_transpose2d`: the gradient of what a convolution reads.

use std::fmt;

use archc_base::Window;

use super::{Accepts, Backward, Conv, ConvWeight, Id, Layout, Net, Node, Slice, Step, conv};

/// `[x, weight]`, the weight [in, out / groups, kernel h, kernel w].
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    pub window: Window,
    pub groups: usize,
    pub output_padding: [usize; 2],
}

impl Step for ConvTranspose {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
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

    fn reuse(&self, node: &Node, net: &Net) -> usize {
        let shape = &net.node(node.operands[0]).shape;
        let (channels, ..) = shape.as_images().expect("images");
        shape.len() / channels
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [x, weight] = back.node(y).operands[..] else { unreachable!("two operands") };
        let (window, groups) = (self.window, self.groups);
        if back.needs(weight) {
            let dw = back.add(ConvWeight { window, groups }, vec![dy, x], back.shape(weight));
            back.give(weight, dw);
        }
        back.give_bias(y, 1, dy);
        if back.needs(x) {
            let dx = data(back, window, groups, [dy, weight, x]);
            back.give(x, dx);
        }
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        conv::dump(f, &self.window, self.groups)
    }
}

/// The gradient of x: a convolution of dy.
fn data(back: &mut Backward, mut window: Window, groups: usize, [mut dy, weight, x]: [Id; 3]) -> Id {
    let shape = back.shape(x);
    let (_, h, w) = shape.as_images().expect("images");
    for (axis, len) in [h, w].into_iter().enumerate() {
        let reach = (len - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        let wide = back.shape(dy);
        let there = wide.axis(axis + 2).expect("images");
        let before = window.padding[axis];
        window.padding[axis + 2] = reach.saturating_sub(there + before);
        // no window covers what lies beyond
        if there + before >= reach + window.stride[axis] {
            let part = wide.with_axis(axis + 2, reach - before);
            dy = back.add(Slice { axis: axis + 2, from: 0 }, vec![dy], part);
        }
    }
    back.add(Conv { window, groups }, vec![dy, weight], shape)
}
