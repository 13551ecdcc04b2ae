//! A graph as text, for snapshots: a line a node in running order, `path = op(args) <- operands : shape`.

use std::fmt;

use super::{Graph, path};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in self.order() {
            let node = self.node(id);
            let operands: Vec<String> =
                self.operands(id).iter().map(|id| path::display(&self.node(*id).path)).collect();
            let shape = node.shape.as_ref().map_or("?".to_string(), |shape| shape.to_string());
            write!(f, "{} = {}", path::display(&node.path), node.op)?;
            if !operands.is_empty() {
                write!(f, " <- {}", operands.join(", "))?;
            }
            write!(f, " : {shape}")?;
            if let Some(tied) = node.tied {
                write!(f, " tied to {}", path::display(&self.node(tied).path))?;
            }
            if node.frozen {
                write!(f, " frozen")?;
            }
            writeln!(f)?;
        }
        for (name, output) in self.outputs() {
            writeln!(f, "{name} -> {}", path::display(&self.node(output.node).path))?;
        }
        Ok(())
    }
}
