//! What every kind says of itself.

use std::fmt::{self, Debug};

use super::gradient::Backward;
use super::{Id, Net, Node};

/// A kind of step.
pub trait Step: Debug {
    /// As it is shown in steps and snapshots.
    fn name(&self) -> &'static str;

    /// How operands and result lie.
    fn layout(&self, node: &Node, net: &Net) -> Layout;

    /// What its epilogue may be.
    fn accepts(&self) -> Accepts {
        Accepts::Nothing
    }

    /// Whether operand `at` is learned, or would be if it were not frozen.
    fn is_weight(&self, at: usize) -> bool {
        let _ = at;
        false
    }

    /// How often each number of its weights is multiplied for a sample.
    fn reuse(&self, node: &Node, net: &Net) -> usize {
        let _ = (node, net);
        0
    }

    /// Whether it is run for what it keeps, not for its value.
    fn is_sink(&self) -> bool {
        false
    }

    /// Gives the operands of `y`, a node of this kind, their gradients; `dy` is the gradient of its value. Only of the
    /// kinds of a forward pass before any pass has rewritten it.
    ///
    /// # Panics
    /// At other kinds.
    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let _ = (back, y, dy);
        panic!("`{}` has no gradient: what it depends on is not learned", self.name());
    }

    /// The fields that tell one from another, as a snapshot shows them behind the name.
    ///
    /// # Errors
    /// As the formatter's.
    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        Ok(())
    }
}

/// What an epilogue may do to the result before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    Nothing,
    /// Activations, and a value that is added between them.
    Sum,
    /// These, and a factor for each channel of each image.
    Gate,
}

/// How the operands and the result of a step lie in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The axes from the outermost to the innermost in which the step goes through its values: rows of the last.
    pub order: Order,
    /// What each operand must be; those behind the last are row-major.
    pub needs: Vec<Need>,
    /// Whether the result lies in that order too; else it is row-major.
    pub in_order: bool,
    /// Whether the rows of the result may be farther apart than they are long.
    pub gaps: bool,
    /// Whether the result may be written over the first operand: each value depends on the one at its place, or each row
    /// on the row.
    pub in_place: bool,
}

/// An order of axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are counted.
    RowMajor,
    /// Channels last.
    Image,
    /// As operand `of` lies, with `last` as the innermost where there is one.
    As { of: usize, last: Option<usize> },
    /// In which the only reader would have to copy it, else row-major.
    Wanted,
}

/// What a kernel can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any view.
    Any,
    /// A matrix in the step's order of axes.
    Matrix,
    /// The same, or an image of few channels in any order.
    Window,
    /// Row-major without gaps.
    RowMajor,
    /// Matrices of the last two axes, whose rows have no gaps.
    Left,
    /// The same, or their columns.
    Right,
}

impl Layout {
    pub fn new(order: Order, needs: &[Need]) -> Layout {
        Layout { order, needs: needs.to_vec(), in_order: true, gaps: false, in_place: false }
    }

    /// From images to images; the result may have gaps between its pixels.
    pub fn images(operands: usize) -> Layout {
        Layout { gaps: true, ..Layout::new(Order::Image, &vec![Need::Matrix; operands]) }
    }

    /// Of the first `operands` by rows along `axis`, as operand `of` lies.
    pub fn rows(of: usize, axis: usize, operands: usize) -> Layout {
        Layout::new(Order::As { of, last: Some(axis) }, &vec![Need::Matrix; operands])
    }

    /// Of the first `operands` number by number, as operand `of` lies.
    pub fn each(of: usize, operands: usize) -> Layout {
        let layout = Layout::new(Order::As { of, last: None }, &vec![Need::Matrix; operands]);
        Layout { gaps: true, in_place: true, ..layout }
    }

    /// From row-major values to such.
    pub fn row_major(needs: &[Need]) -> Layout {
        Layout::new(Order::RowMajor, needs)
    }

    /// The result is written over the first operand where nothing else needs that.
    pub fn in_place(self) -> Layout {
        Layout { in_place: true, ..self }
    }

    /// The rows of the result may have gaps between them.
    pub fn with_gaps(self) -> Layout {
        Layout { gaps: true, ..self }
    }

    /// Sums over the rows: the result is row-major.
    pub fn sums(self) -> Layout {
        Layout { in_order: false, gaps: false, in_place: false, ..self }
    }
}

/// Kinds of which a name, a layout and the operands that are weights say all: `Kind, "name", |kind, node| layout, weights (1);`
macro_rules! plain {
    ($($kind:ident, $name:literal, |$own:ident, $node:ident| $layout:expr $(, weights ($weights:pat))?;)*) => {
        $(impl $crate::net::Step for $kind {
            fn name(&self) -> &'static str {
                $name
            }

            fn layout(&self, $node: &$crate::net::Node, _net: &$crate::net::Net) -> $crate::net::Layout {
                let $own = self;
                $layout
            }

            $(fn is_weight(&self, at: usize) -> bool {
                matches!(at, $weights)
            })?
        })*
    };
}
pub(super) use plain;
