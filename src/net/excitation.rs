//! What becomes of an image's means before they are its gate, as in squeeze-and-excitation (Hu et al. 2018).

use std::fmt;

use archc_base::Act;

use super::{Layout, Need, Net, Node, Step};

/// `[image]`: the channels' means, as the step that computed the image left them ([`Squeeze::Also`](super::Squeeze)).
#[derive(Clone, Debug, PartialEq)]
pub struct Means;

/// `[means, weight, bias, weight, bias ..]`: linear maps one after another, all of whose weights are constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Excitation {
    pub maps: Vec<Excite>,
}

/// One linear map of an [`Excitation`], to `width` channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Excite {
    pub width: usize,
    pub act: Act,
    /// Whether it has a bias among the operands.
    pub bias: bool,
}

impl Step for Excitation {
    fn name(&self) -> &'static str {
        "excitation"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::row_major(&[Need::RowMajor])
    }

    fn is_weight(&self, at: usize) -> bool {
        at > 0
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Excite { width, act, .. }) in self.maps.iter().enumerate() {
            write!(f, "{} to {width}", if at == 0 { "" } else { ", then" })?;
            if *act != Act::None {
                write!(f, ", {act}")?;
            }
        }
        Ok(())
    }
}

super::step::plain! {
    Means, "means", |_own, _node| Layout::row_major(&[]);
}
