//! Images resampled, as `torch.nn.functional.interpolate`.

use archc_base::{Banded, Resample};

use super::{Backward, Id, Layout, Net, Node, Step};

/// `[x]`; the scales (vertical, horizontal) where they, not the size, were stated.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    pub mode: Resample,
    pub scale: Option<[f64; 2]>,
}

/// `[dy]`
#[derive(Clone, Debug, PartialEq)]
pub struct ResizeData {
    pub mode: Resample,
    pub scale: Option<[f64; 2]>,
}

/// `[x]`: resampled with antialiasing; the scales (vertical, horizontal) where they, not the size, were stated. Each axis is
/// multiplied by a banded matrix, of the gradient by its transpose.
#[derive(Clone, Debug, PartialEq)]
pub struct Antialias {
    pub mode: Resample,
    pub scale: Option<[f64; 2]>,
    /// Whether images of the result's size become such of the operand's.
    pub transposed: bool,
}

impl Antialias {
    /// The matrices of the vertical and the horizontal axis, from an image of size `x` to one of size `y`.
    pub fn matrices(&self, x: [usize; 2], y: [usize; 2]) -> [Banded; 2] {
        let (from, to) = if self.transposed { (y, x) } else { (x, y) };
        [0, 1].map(|axis| {
            let ratio = self.scale.map_or(from[axis] as f64 / to[axis] as f64, |scale| 1.0 / scale[axis]);
            let matrix = Banded::antialiased(self.mode, ratio, from[axis], to[axis]);
            if self.transposed { matrix.transposed() } else { matrix }
        })
    }
}

impl Step for Antialias {
    fn name(&self) -> &'static str {
        if self.transposed { "antialias_data" } else { "antialias" }
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(1)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let dx = back.add(Antialias { transposed: !self.transposed, ..self.clone() }, vec![dy], back.shape(x));
        back.give(x, dx);
    }
}

impl Step for Resize {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::images(1)
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let x = back.node(y).operands[0];
        let Resize { mode, scale } = *self;
        let dx = back.add(ResizeData { mode, scale }, vec![dy], back.shape(x));
        back.give(x, dx);
    }
}

super::step::plain! {
    ResizeData, "upsample_data", |_own, _node| Layout::images(1);
}
