//! What is there before a step runs, and what is kept after it.

use super::{Layout, Net, Node, Step};

/// The network's input of that number.
#[derive(Clone, Debug, PartialEq)]
pub struct Input(pub usize);

/// The state of that number.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored(pub usize);

/// `[gradient of the state]`
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    pub state: usize,
}

impl Step for Gradient {
    fn name(&self) -> &'static str {
        "gradient"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::row_major(&[])
    }

    fn is_sink(&self) -> bool {
        true
    }
}

super::step::plain! {
    Input, "input", |_own, _node| Layout::row_major(&[]);
    Stored, "state", |_own, _node| Layout::row_major(&[]);
}
