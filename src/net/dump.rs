//! A net as text, a line a node: `%3 = conv2d 3x3 (%2, c.weight), + c.bias, + %1, relu : [N, 64, 56, 56]`. Constants and
//! states are named where they are read.

use std::fmt::{self, Write as _};

use super::epilogue::{Epilogue, Squeeze};
use super::{ChannelMap, Constant, Id, Kind, Lies, Net, Source, State, Stored};
use crate::graph::path;
use crate::typed::Typed;
use archc_base::Act;

impl Net {
    /// See the module.
    pub fn dump(&self, typed: &Typed) -> String {
        Dump { net: self, typed }.to_string()
    }
}

/// A net with the graph that its tensors are named by.
struct Dump<'a> {
    net: &'a Net,
    typed: &'a Typed,
}

impl Dump<'_> {
    fn source(&self, source: &Source) -> String {
        match source {
            Source::Param { node, index, .. } => {
                let name = self.typed.params(*node)[*index].name;
                crate::graph::key(&path::display(&self.typed.graph().node(*node).path), name)
            }
            Source::Value { node, .. } => path::display(&self.typed.graph().node(*node).path),
            Source::OneHot { taps: [h, w], .. } => format!("(taps of {h}x{w})"),
        }
    }

    fn state(&self, state: usize) -> String {
        let State { node, index, shape, .. } = &self.net.states[state];
        self.source(&Source::Param { node: *node, index: *index, shape: shape.clone() })
    }

    fn constant(&self, constant: &Constant) -> String {
        let map = |map: &ChannelMap| match map {
            ChannelMap::Norm { mean, .. } => {
                let key = self.source(mean);
                format!("norm {}", key.strip_suffix(".running_mean").unwrap_or(&key))
            }
            ChannelMap::Scale(source) => format!("* {}", self.source(source)),
            ChannelMap::Shift(source) => format!("+ {}", self.source(source)),
        };
        let maps: Vec<String> = constant.maps().iter().map(map).collect();
        let maps = maps.join(", ");
        match constant {
            Constant::Tensor { source, lies, maps: own } => {
                let mut text = self.source(source);
                text += match lies {
                    Lies::Rows | Lies::Inward { .. } => "",
                    Lies::Transposed => " transposed",
                    Lies::ChannelsLast(_) => " channels last",
                };
                if own.is_empty() { text } else { format!("({text}, scaled by {maps})") }
            }
            Constant::Scale { .. } => format!("(scale of {maps})"),
            Constant::Shift { bias: Some(bias), maps: own, .. } if own.is_empty() => self.source(bias),
            Constant::Shift { bias: Some(bias), .. } => format!("({}, {maps})", self.source(bias)),
            Constant::Shift { bias: None, .. } => format!("(shift of {maps})"),
        }
    }

    /// A value as what reads it names it.
    fn value(&self, id: Id) -> String {
        match &self.net.node(id).kind {
            Kind::Constant(constant) => self.constant(constant),
            Kind::State(Stored(state)) => self.state(*state),
            _ => format!("%{}", id.0),
        }
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, id: Id) -> fmt::Result {
        let node = self.net.node(id);
        write!(f, "%{} = {}", id.0, node.kind.name())?;
        node.kind.dump(f)?;
        if let Kind::Gradient(gradient) = &node.kind {
            write!(f, " {}", self.state(gradient.state))?;
        }
        if let Kind::Running(running) = &node.kind {
            write!(f, " {}", self.state(running.state))?;
        }
        let Epilogue { bias, before, gate, residual, after, squeeze } = node.epilogue;
        let mut text = String::new();
        if let Some(bias) = bias {
            write!(text, ", + {}", self.value(bias))?;
        }
        if before != Act::None {
            write!(text, ", {before}")?;
        }
        if let Some(gate) = gate {
            write!(text, ", * {}", self.value(gate))?;
        }
        if let Some(residual) = residual {
            write!(text, ", + {}", self.value(residual))?;
        }
        if after != Act::None {
            write!(text, ", {after}")?;
        }
        text += match squeeze {
            Squeeze::None => "",
            Squeeze::Also => ", means beside it",
            Squeeze::Only => ", means of it",
        };
        let operands: Vec<String> = node.operands.iter().map(|id| self.value(*id)).collect();
        if !operands.is_empty() {
            write!(f, " ({})", operands.join(", "))?;
        }
        write!(f, "{text} : {}", node.shape)
    }
}

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // in running order, so that passes which only remove leave a readable difference
        for id in self.net.order() {
            if !matches!(self.net.node(id).kind, Kind::Constant(_) | Kind::State(_)) {
                self.line(f, id)?;
                writeln!(f)?;
            }
        }
        for (name, id) in self.net.outputs() {
            writeln!(f, "{name} -> {}", self.value(*id))?;
        }
        Ok(())
    }
}
