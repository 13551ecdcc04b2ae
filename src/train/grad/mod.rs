//! Gradients as steps: from a net and the derivatives of some of its values to a net that has the backward pass too.
//!
//! Reverse mode, one rule a kind (`rules.rs`). What a value is used for several times adds up; where nothing learned flows
//! into a value it has no derivative, so that a frozen prefix costs its forward pass alone. Knows nothing of layouts or
//! kernels: passes and plan treat what it adds like any other step.

mod rules;
#[cfg(test)]
mod tests;

use archc_base::Act;

use crate::graph::NodeId;
use crate::ops::shape::Shape;
use crate::opt::{Epilogue, Id, Kind, Learn, Net, Node, Source};

/// A summand of a value's derivative.
#[derive(Clone, Copy, Debug)]
enum Part {
    Whole(Id),
    /// Of the indices from `from` on of an axis alone.
    Placed {
        axis: usize,
        from: usize,
        part: Id,
    },
}

struct Backward<'a> {
    net: &'a mut Net,
    /// Whether something learned flows into a value.
    needs: Vec<bool>,
    parts: Vec<Vec<Part>>,
    /// The layers that the rule at work serves.
    layers: Vec<NodeId>,
}

/// Adds the backward pass from `seeds`, values with their derivatives. The derivative of every learned state is kept by
/// a `Learn::Gradient`. Returns the derivatives of the inputs `wanted`, where there are any.
pub fn backward(net: &mut Net, seeds: &[(Id, Id)], wanted: &[Id]) -> Vec<Option<Id>> {
    let order = net.order();
    let mut needs = vec![false; net.bound()];
    for id in &order {
        let node = net.node(*id);
        let learned = matches!(node.kind, Kind::State(state) if net.states[state].learned);
        needs[id.0] = learned || wanted.contains(id) || node.reads().any(|read| needs[read.0]);
    }
    let parts = vec![vec![]; net.bound()];
    let mut backward = Backward { net, needs, parts, layers: vec![] };
    for (value, derivative) in seeds {
        backward.give(*value, *derivative);
    }
    let mut derivatives: Vec<(Id, Id)> = vec![];
    for id in order.into_iter().rev() {
        backward.layers.clone_from(&backward.net.node(id).layers);
        let Some(derivative) = backward.derivative(id) else { continue };
        match backward.net.node(id).kind {
            Kind::State(state) => {
                let shape = backward.net.node(id).shape.clone();
                backward.learn(Learn::Gradient { state }, vec![derivative], shape);
            }
            Kind::Input(_) => derivatives.push((id, derivative)),
            _ => backward.rule(id, derivative),
        }
    }
    wanted
        .iter()
        .map(|id| derivatives.iter().find(|(other, _)| other == id).map(|(_, derivative)| *derivative))
        .collect()
}

impl Backward<'_> {
    fn add(&mut self, kind: Kind, operands: Vec<Id>, shape: Shape) -> Id {
        self.node(Node { kind, operands, epilogue: Epilogue::default(), shape, layers: self.layers.clone() })
    }

    fn node(&mut self, node: Node) -> Id {
        let id = self.net.add(node);
        self.needs.push(false);
        self.parts.push(vec![]);
        id
    }

    fn learn(&mut self, learn: Learn, operands: Vec<Id>, shape: Shape) -> Id {
        self.add(Kind::Learn(learn), operands, shape)
    }

    fn constant(&mut self, source: &Source) -> Id {
        self.add(Kind::Constant(source.clone()), vec![], Shape::fixed(source.shape()))
    }

    fn shape(&self, id: Id) -> Shape {
        self.net.node(id).shape.clone()
    }

    fn needs(&self, id: Id) -> bool {
        self.needs[id.0]
    }

    /// Counts a derivative of the whole value, where it has one.
    fn give(&mut self, value: Id, derivative: Id) {
        if self.needs(value) {
            self.parts[value.0].push(Part::Whole(derivative));
        }
    }

    /// The sum of what was given.
    fn derivative(&mut self, value: Id) -> Option<Id> {
        let parts = std::mem::take(&mut self.parts[value.0]);
        let shape = self.shape(value);
        if let Some(beside) = self.beside(&parts, &shape) {
            return Some(beside);
        }
        let mut sum: Option<Id> = None;
        for part in parts {
            let whole = match part {
                Part::Whole(id) => id,
                Part::Placed { axis, from, part } => {
                    let mut before = vec![0; shape.rank()];
                    before[axis] = from;
                    self.add(Kind::Pad { before, value: 0.0 }, vec![part], shape.clone())
                }
            };
            sum = Some(match sum {
                None => whole,
                Some(sum) => self.sum(sum, whole),
            });
        }
        sum
    }

    fn sum(&mut self, a: Id, b: Id) -> Id {
        let epilogue = Epilogue { residual: Some(b), ..Epilogue::default() };
        let shape = self.shape(a);
        self.node(Node { kind: Kind::Identity, operands: vec![a], epilogue, shape, layers: self.layers.clone() })
    }

    /// Parts that cover the value without gaps, side by side, as a concatenation.
    fn beside(&mut self, parts: &[Part], shape: &Shape) -> Option<Id> {
        let mut placed: Vec<(usize, usize, Id)> = vec![];
        for part in parts {
            let Part::Placed { axis, from, part } = *part else { return None };
            placed.push((axis, from, part));
        }
        let axis = placed.first()?.0;
        placed.sort_by_key(|(_, from, _)| *from);
        let mut end = 0;
        for (other, from, part) in &placed {
            if *other != axis || *from != end {
                return None;
            }
            end += self.shape(*part).axis(axis)?;
        }
        (axis > 0 && Some(end) == shape.axis(axis)).then(|| {
            let operands = placed.into_iter().map(|(_, _, part)| part).collect();
            self.add(Kind::Concat { axis }, operands, shape.clone())
        })
    }

    /// `x` times a number.
    fn scaled(&mut self, x: Id, scale: f32) -> Id {
        if scale == 1.0 {
            return x;
        }
        let epilogue = Epilogue { after: Act::Linear { scale, shift: 0.0 }, ..Epilogue::default() };
        let shape = self.shape(x);
        self.node(Node { kind: Kind::Identity, operands: vec![x], epilogue, shape, layers: self.layers.clone() })
    }
}
