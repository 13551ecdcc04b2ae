//! How the steps of training lie: what is learned in one buffer, its derivatives in another of the same layout, so that an
//! optimiser goes over both once. Derivatives are written there by what computes them, where that is possible.

use archc_base::DType;

use super::layout::{Layout, Need};
use super::view::IMAGE;
use super::{Buffer, Place, Plan, View, Work};
use crate::opt::{Id, Kind, Learn, Net};

/// The first buffers: states, then derivatives.
pub(super) const KEPT: usize = 2;

/// Floats between the starts of states: a cache line.
const ALIGN: usize = 16;

/// The buffers of states and of their derivatives, and where each state lies.
pub(super) fn states(net: &Net) -> (Vec<Buffer>, Vec<View>) {
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

/// Where the derivative of a state lies.
fn gradient(state: &View) -> View {
    View { place: Place::Buffer(1), ..state.clone() }
}

/// The derivatives that can be written where they are kept, by what computes them.
pub(super) fn kept(net: &Net, states: &[View]) -> Vec<Option<View>> {
    let mut kept = vec![None; net.bound()];
    let uses = net.use_counts();
    for id in net.order() {
        let node = net.node(id);
        let Kind::Learn(Learn::Gradient { state }) = node.kind else { continue };
        let from = node.operands[0];
        let Kind::Learn(learn) = &net.node(from).kind else { continue };
        let plain = matches!(
            learn,
            Learn::ConvWeight { .. } | Learn::LinearWeight | Learn::Sums { .. } | Learn::PReluSums | Learn::GatherData
        );
        if plain && uses[from.0] == 1 {
            kept[from.0] = Some(gradient(&states[state]));
        }
    }
    kept
}

/// Whether a step computes images, and can leave gaps between their pixels.
pub(super) fn writes_images(learn: &Learn) -> bool {
    use Learn::*;
    matches!(learn, Conv { .. } | ConvTranspose { .. } | BatchNorm { .. } | PRelu | ConvData { .. } | Noise { .. })
        || matches!(learn, BatchNormData { .. } | ActData { .. } | PReluData | PoolData { .. })
        || matches!(learn, AdaptivePoolData { .. } | ResizeData { .. })
}

impl Layout<'_> {
    /// As [`Layout::place`], of the steps of training.
    pub(super) fn learn(&mut self, id: Id, learn: &Learn) -> View {
        let node = self.net.node(id);
        let count = node.operands.len();
        let rank = node.shape.rank();
        let images = || Need::Order(IMAGE.to_vec());
        let after = |first: Vec<Need>| {
            let mut needs = first;
            needs.resize_with(count, || Need::Plain);
            needs
        };
        let plain = Some((0..rank).collect::<Vec<_>>());
        let image = Some(IMAGE.to_vec());
        match learn {
            Learn::Conv { .. } | Learn::ConvTranspose { .. } | Learn::ConvData { .. } | Learn::BatchNorm { .. } => {
                self.compute(id, &after(vec![images()]), image)
            }
            Learn::PoolData { .. } | Learn::AdaptivePoolData { .. } => self.compute(id, &[images(), images()], image),
            Learn::GroupNorm { .. } | Learn::ResizeData { .. } => self.compute(id, &after(vec![images()]), image),
            Learn::BatchNormData { .. } | Learn::GroupNormData { .. } => {
                self.compute(id, &after(vec![images(), images()]), image)
            }
            Learn::ConvWeight { .. } | Learn::BatchNormSums { .. } | Learn::GroupNormSums { .. } => {
                self.compute(id, &after(vec![images(), images()]), plain)
            }
            Learn::BatchStats => self.compute(id, &[images()], plain),
            Learn::Linear | Learn::LinearData => self.compute(id, &after(vec![Need::Rows(rank - 1)]), None),
            Learn::LinearWeight => {
                let rows = |operand: Id| (0..self.net.node(operand).shape.rank()).collect::<Vec<_>>();
                let needs: Vec<Need> = node.operands.iter().map(|operand| Need::Order(rows(*operand))).collect();
                self.compute(id, &needs, plain)
            }
            Learn::LayerNorm { axis, .. } => self.compute(id, &after(vec![Need::Rows(*axis)]), None),
            Learn::PRelu => self.compute(id, &after(vec![Need::Rows(1)]), None),
            Learn::Noise { .. } => {
                // draws are counted pixel by pixel
                let order = if rank == 4 { IMAGE.to_vec() } else { (0..rank).collect() };
                self.compute(id, &[Need::Order(order.clone()), Need::Plain], Some(order))
            }
            Learn::ActData { .. } => self.like(id, 1, None),
            Learn::SoftmaxData { axis, .. } | Learn::NormalizeData { axis, .. } | Learn::LayerNormData { axis, .. } => {
                self.like(id, 1, Some(*axis))
            }
            Learn::LayerNormSums { axis, .. } => self.sums_like(id, *axis),
            Learn::PReluData => self.like(id, 1, Some(1)),
            Learn::PReluSums => self.sums_like(id, 1),
            Learn::Sums { axis } => {
                let needs = [Need::Rows(*axis)];
                self.compute(id, &needs, plain)
            }
            Learn::GatherData | Learn::Loss(_) | Learn::LossData(_) => self.compute(id, &after(vec![]), plain),
            Learn::Unstretch { .. } => self.compute(id, &[Need::Any, Need::Any], plain),
            Learn::MeanData { .. } => {
                let order = if rank == 4 { image } else { plain };
                self.compute(id, &[Need::Any], order)
            }
            Learn::MaxData { .. } => self.compute(id, &[Need::Plain, Need::Any, Need::Plain], plain),
            Learn::Gradient { state } => {
                let (from, to) = (self.view(node.operands[0]), gradient(&self.states[*state]));
                if self.kept[node.operands[0].0].is_none() {
                    self.step(Work::Copy, vec![from], to.clone(), &node.layers);
                }
                to
            }
            Learn::Running { state, .. } => {
                let mean = self.states[*state].clone();
                let channels = mean.dims[0];
                let strides = vec![self.states[*state + 1].offset - mean.offset, 1];
                let write = View { dims: vec![2, channels], strides, ..mean };
                let from = self.view(node.operands[0]);
                self.step(Work::Node(id), vec![from], write.clone(), &node.layers);
                write
            }
        }
    }

    /// A step that goes through its first operands, `dy` and another of the same sizes, as the other lies: by rows of
    /// `axis` where there is one.
    fn like(&mut self, id: Id, other: usize, axis: Option<usize>) -> View {
        let node = self.net.node(id);
        let order = self.order_of(node.operands[other], axis);
        let mut needs = vec![Need::Order(order.clone()), Need::Order(order.clone())];
        needs.resize_with(node.operands.len(), || Need::Plain);
        self.compute(id, &needs, Some(order))
    }

    /// The same for sums over the rows.
    fn sums_like(&mut self, id: Id, axis: usize) -> View {
        let node = self.net.node(id);
        let order = self.order_of(node.operands[1], Some(axis));
        let needs = [Need::Order(order.clone()), Need::Order(order)];
        self.compute(id, &needs, Some((0..node.shape.rank()).collect()))
    }

    fn order_of(&self, value: Id, axis: Option<usize>) -> Vec<usize> {
        let mut order = self.view(value).order();
        if let Some(axis) = axis {
            order.retain(|other| *other != axis);
            order.push(axis);
        }
        order
    }
}

impl Plan {
    /// Where each of the net's states lies; all in one buffer, learned ones first.
    pub fn states(&self) -> &[View] {
        &self.states
    }

    /// Floats at the start of the arena that states and derivatives take.
    pub fn kept_floats(&self) -> usize {
        self.kept().iter().map(|(start, len)| (start + len).next_multiple_of(ALIGN)).max().unwrap_or(0)
    }

    /// The buffer of states and that of derivatives, which has the layout of the learned states: where each begins in
    /// the arena and its floats.
    pub fn kept(&self) -> [(usize, usize); 2] {
        [0, 1].map(|at| self.buffers.get(at).filter(|_| !self.states.is_empty()).map_or((0, 0), |b| (b.offset, b.len)))
    }
}
