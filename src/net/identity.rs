//! The operand itself: an activation, an addition or a gate is an epilogue of it.

use std::fmt;

use archc_base::Act;

use super::{Accepts, Backward, Id, Layout, Net, Node, Step};

/// `[x]`
#[derive(Clone, Debug, PartialEq)]
pub struct Identity;

/// `[dy, y]`, or `[dy, x]` where the gradient is no function of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct ActData {
    pub act: Act,
}

impl Step for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn layout(&self, node: &Node, _net: &Net) -> Layout {
        match node.epilogue.gate {
            Some(_) => Layout::images(1).in_place(),
            None => Layout::each(0, 1),
        }
    }

    fn accepts(&self) -> Accepts {
        Accepts::Gate
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let node = back.node(y);
        let (x, epilogue) = (node.operands[0], node.epilogue);
        let seen = if epilogue.after.by_result() { y } else { x };
        let dz = back.act(epilogue.after, dy, seen);
        back.give(x, dz);
        if let Some(residual) = epilogue.residual {
            back.give(residual, dz);
        }
    }
}

impl Step for ActData {
    fn name(&self) -> &'static str {
        "act_data"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::each(1, 2)
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {}", self.act)
    }
}
