//! Where the states of a network in training lie: those that are learned in one buffer, their gradients in another of the
//! same layout.

use archc_base::DType;

use super::{Buffer, Place, Plan, View};
use crate::net::{Kind, Net};

/// The first buffers: states, then gradients.
pub(super) const KEPT: usize = 2;

/// Floats between the starts of states: a cache line.
const ALIGN: usize = 16;

/// The buffers of states and of their gradients, and where each state lies.
pub(super) fn lay_out(net: &Net) -> (Vec<Buffer>, Vec<View>) {
    if net.states.is_empty() {
        return (vec![], vec![]);
    }
    let (mut end, mut learned) = (0usize, 0);
    let mut views = vec![];
    for state in &net.states {
        let view = View::plain(Place::Buffer(0), &state.shape);
        views.push(View { offset: end, ..view });
        end += state.shape.iter().product::<usize>().next_multiple_of(ALIGN);
        learned = if state.learned { end } else { learned };
    }
    let buffer = |len| Buffer { dtype: DType::F32, offset: 0, len, sample: None, life: (0, 0) };
    (vec![buffer(end), buffer(learned)], views)
}

/// Where the gradient of a state lies.
pub(super) fn gradient(state: &View) -> View {
    View { place: Place::Buffer(1), ..state.clone() }
}

/// The gradients that can be written where they are kept, by what computes them.
pub(super) fn kept(net: &Net, states: &[View]) -> Vec<Option<View>> {
    let mut kept = vec![None; net.bound()];
    for id in net.order() {
        let node = net.node(id);
        let Kind::Gradient(gradient_of) = &node.kind else { continue };
        let from = node.operands[0];
        let plain = matches!(
            net.node(from).kind,
            Kind::ConvWeight(_) | Kind::LinearWeight(_) | Kind::Sums(_) | Kind::PReluSums(_) | Kind::GatherData(_)
        );
        if plain && net.uses(from) == 1 {
            kept[from.0] = Some(gradient(&states[gradient_of.state]));
        }
    }
    kept
}

impl Plan {
    /// Where each of the net's states lies; all in one buffer, learned ones first.
    pub fn states(&self) -> &[View] {
        &self.states
    }

    /// Floats at the start of the arena that states and gradients take.
    pub fn kept_floats(&self) -> usize {
        self.kept().iter().map(|(start, len)| (start + len).next_multiple_of(ALIGN)).max().unwrap_or(0)
    }

    /// The buffer of states and that of gradients, which has the layout of the learned states: where each begins in
    /// the arena and its floats.
    pub fn kept(&self) -> [(usize, usize); 2] {
        [0, 1].map(|at| self.buffers.get(at).filter(|_| !self.states.is_empty()).map_or((0, 0), |b| (b.offset, b.len)))
    }
}
