//! Gradients as steps: from a net and the gradients of some of its values to a net that has the backward pass too.
//!
//! Reverse mode, a rule a kind ([`Step::gradient`](super::Step::gradient)). Where a value is used several times its
//! gradients add up; where nothing learned flows into a value it has none, so that a frozen prefix costs its forward pass
//! alone. Knows nothing of layouts or kernels: passes and plan treat what it adds like any other step.

use archc_base::Act;

use super::{ActData, Concat, Constant, Epilogue, Gradient, Id, Identity, Kind, Net, Node, Pad, Slice, SumTo, Sums};
use crate::graph::NodeId;
use crate::ops::shape::Shape;

/// A summand of a value's gradient.
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

/// A backward pass in the making.
pub struct Backward<'a> {
    net: &'a mut Net,
    /// Whether something learned flows into a value.
    needs: Vec<bool>,
    parts: Vec<Vec<Part>>,
    /// The layers that the rule at work serves.
    layers: Vec<NodeId>,
}

/// Adds the backward pass from `seeds`, values with their gradients. The gradient of every learned state is kept by a
/// [`Gradient`]. Returns the gradients of the inputs `wanted`, where there are any.
pub fn backward(net: &mut Net, seeds: &[(Id, Id)], wanted: &[Id]) -> Vec<Option<Id>> {
    let order = net.order();
    let mut needs = vec![false; net.bound()];
    for id in &order {
        let learned = net.state(*id).is_some_and(|state| net.states[state].learned);
        needs[id.0] = learned || wanted.contains(id) || net.node(*id).reads().any(|read| needs[read.0]);
    }
    let parts = vec![vec![]; net.bound()];
    let mut backward = Backward { net, needs, parts, layers: vec![] };
    for (value, gradient) in seeds {
        backward.give(*value, *gradient);
    }
    let mut gradients: Vec<(Id, Id)> = vec![];
    for id in order.into_iter().rev() {
        backward.layers.clone_from(&backward.net.node(id).layers);
        let Some(gradient) = backward.gradient(id) else { continue };
        let kind = backward.net.node(id).kind.clone();
        match (kind, backward.net.state(id)) {
            (_, Some(state)) => {
                let shape = backward.shape(id);
                backward.add(Gradient { state }, vec![gradient], shape);
            }
            (Kind::Input(_), _) => gradients.push((id, gradient)),
            (kind, _) => kind.gradient(&mut backward, id, gradient),
        }
    }
    wanted.iter().map(|id| gradients.iter().find(|(other, _)| other == id).map(|(_, gradient)| *gradient)).collect()
}

impl Backward<'_> {
    pub(super) fn add(&mut self, kind: impl Into<Kind>, operands: Vec<Id>, shape: Shape) -> Id {
        self.with_epilogue(kind, operands, Epilogue::default(), shape)
    }

    pub(super) fn with_epilogue(
        &mut self,
        kind: impl Into<Kind>,
        operands: Vec<Id>,
        epilogue: Epilogue,
        shape: Shape,
    ) -> Id {
        let node = Node::new(kind, operands, shape, self.layers.clone());
        let id = self.net.add(Node { epilogue, ..node });
        self.needs.push(false);
        self.parts.push(vec![]);
        id
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        self.net.node(id)
    }

    pub(super) fn constant(&mut self, constant: Constant, layers: Vec<NodeId>) -> Id {
        let id = self.net.add_constant(constant, layers);
        self.needs.push(false);
        self.parts.push(vec![]);
        id
    }

    pub(super) fn shape(&self, id: Id) -> Shape {
        self.net.node(id).shape.clone()
    }

    /// Whether something learned flows into a value.
    pub(super) fn needs(&self, id: Id) -> bool {
        self.needs[id.0]
    }

    /// Counts a gradient of the whole value, where it has one.
    pub(super) fn give(&mut self, value: Id, gradient: Id) {
        if self.needs(value) {
            self.parts[value.0].push(Part::Whole(gradient));
        }
    }

    /// Counts a gradient of the indices from `from` on of an axis, where the value has one.
    pub(super) fn give_part(&mut self, value: Id, axis: usize, from: usize, part: Id) {
        if self.needs(value) {
            self.parts[value.0].push(Part::Placed { axis, from, part });
        }
    }

    /// The sum of what was given.
    fn gradient(&mut self, value: Id) -> Option<Id> {
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
                    self.add(Pad { before, value: 0.0 }, vec![part], shape.clone())
                }
            };
            sum = Some(match sum {
                None => whole,
                Some(sum) => {
                    let epilogue = Epilogue { residual: Some(whole), ..Epilogue::default() };
                    self.with_epilogue(Identity, vec![sum], epilogue, shape.clone())
                }
            });
        }
        sum
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
            self.add(Concat { axis }, operands, shape.clone())
        })
    }

    /// `x` times a number.
    pub(super) fn scaled(&mut self, x: Id, scale: f32) -> Id {
        if scale == 1.0 {
            return x;
        }
        let shape = self.shape(x);
        self.with_epilogue(Identity, vec![x], Epilogue::act(Act::Linear { scale, shift: 0.0 }), shape)
    }

    /// The gradient of an activation's operand: `seen` is its result where that is enough, else the operand.
    pub(super) fn act(&mut self, act: Act, dy: Id, seen: Id) -> Id {
        match act {
            Act::None => dy,
            Act::Linear { scale, .. } => self.scaled(dy, scale),
            act => {
                let shape = self.shape(dy);
                self.add(ActData { act }, vec![dy, seen], shape)
            }
        }
    }

    /// Gives the bias of `y`, one number for each index of `axis`, its gradient.
    pub(super) fn give_bias(&mut self, y: Id, axis: usize, dy: Id) {
        let bias = self.net.node(y).epilogue.bias;
        if let Some(bias) = bias.filter(|bias| self.needs(*bias)) {
            let sums = self.add(Sums { axis }, vec![dy], self.shape(bias));
            self.give(bias, sums);
        }
    }

    /// Gives a norm's weight and bias their gradients, the rows of `sums`.
    pub(super) fn give_affine(&mut self, sums: Id, weight: Id, bias: Id) {
        let channels = self.shape(sums).dims[1];
        for (from, tensor) in [weight, bias].into_iter().enumerate() {
            let row = self.add(Slice { axis: 0, from }, vec![sums], Shape::fixed([1, channels]));
            let row = self.add(super::Reshape, vec![row], Shape::fixed([channels]));
            self.give(tensor, row);
        }
    }

    /// `dy * other`, summed over what a value of `shape` was broadcast along.
    pub(super) fn sum_to(&mut self, dy: Id, other: Option<Id>, shape: &Shape, from_left: bool) -> Id {
        let whole = self.shape(dy);
        let mut read = vec![dy];
        if let Some(other) = other {
            if whole == *shape || self.shape(other) != whole {
                read = vec![self.add(super::Binary { op: archc_base::Binary::Mul }, vec![dy, other], whole.clone())];
            } else {
                read.push(other);
            }
        }
        if whole == *shape {
            return read[0];
        }
        self.add(SumTo { from_left }, read, shape.clone())
    }
}
