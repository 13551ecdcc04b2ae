//! Images resampled, as `torch.nn.functional.interpolate`.

use archc_base::Resample;

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
