//! Rows of a table, as `torch.nn.functional.embedding`.

use super::{Backward, Id, Layout, Net, Node, Step};

/// `[table, index]`
#[derive(Clone, Debug, PartialEq)]
pub struct Gather;

/// `[dy, index]`: rows summed into a table.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherData;

impl Step for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn layout(&self, _node: &Node, _net: &Net) -> Layout {
        Layout::row_major(&[])
    }

    fn gradient(&self, back: &mut Backward, y: Id, dy: Id) {
        let [table, index] = back.node(y).operands[..] else { unreachable!("two operands") };
        let dx = back.add(GatherData, vec![dy, index], back.shape(table));
        back.give(table, dx);
    }
}

super::step::plain! {
    GatherData, "gather_data", |_own, _node| Layout::row_major(&[]);
}
