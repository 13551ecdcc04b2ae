//! What is seen of a picture: the boxes inside each unfolded one, and the links between them. A value that crosses the border
//! of an unfolded box does so at a port, one a value.

use indexmap::{IndexMap, IndexSet};

use super::fold::Fold;
use super::{Form, Picture, State};

/// The unfolded boxes by item.
pub struct Scene {
    pub frames: IndexMap<usize, Frame>,
}

/// The inside of an unfolded box.
#[derive(Default)]
pub struct Frame {
    pub boxes: Vec<usize>,
    /// What comes in, and what goes out: values by the box that makes them.
    pub ins: IndexSet<usize>,
    pub outs: IndexSet<usize>,
    pub links: IndexMap<(End, End, usize), Link>,
}

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Box(usize),
    /// The value comes in, or goes out.
    Port,
}

/// A value on its way from one box to another.
pub struct Link {
    pub shape: String,
    /// Whether the shape is written beside it.
    pub is_labelled: bool,
    pub state: State,
    pub mark: Option<usize>,
}

impl Scene {
    pub fn new(picture: &Picture, fold: &Fold) -> Scene {
        let mut scene = Scene { frames: IndexMap::new() };
        let mut stack = vec![0];
        while let Some(id) = stack.pop() {
            let inside = fold.inside(picture, id).to_vec();
            stack.extend(inside.iter().rev().filter(|child| fold.open[**child]));
            scene.frames.insert(id, Frame { boxes: inside, ..Frame::default() });
        }
        let first = firsts(picture, fold);
        let mut labelled = IndexSet::new();
        for (reader, layer) in picture.layers.iter().enumerate() {
            for operand in &layer.operands {
                let (from, to) = (picture.of_layer[operand.layer], picture.of_layer[reader]);
                if between_equals(picture, fold, from, to) {
                    continue;
                }
                let (from, to) = (chain(picture, fold, first[from]), chain(picture, fold, first[to]));
                let Some(fork) = from.iter().zip(&to).position(|(a, b)| a != b) else { continue };
                let source = from[from.len() - 1];
                let made = &picture.layers[operand.layer];
                let link = |is_labelled: bool| Link {
                    shape: made.shape.clone(),
                    is_labelled,
                    state: operand.state,
                    mark: operand.mark,
                };
                for pair in from[fork..].windows(2) {
                    let frame = scene.frame(pair[0]);
                    frame.outs.insert(source);
                    frame.add((End::Box(pair[1]), End::Port, source), link(false));
                }
                // beside the first way that a value takes, where it has another shape than what went in
                let takes = made.operands.first().map(|first| picture.layers[first.layer].shape.as_str());
                let is_new = takes != Some(made.shape.as_str()) || picture.items[source].layer.is_none();
                let is_labelled = is_new && made.form != Form::Beside && labelled.insert(source);
                scene.frame(from[fork - 1]).add((End::Box(from[fork]), End::Box(to[fork]), source), link(is_labelled));
                for pair in to[fork..].windows(2) {
                    let frame = scene.frame(pair[0]);
                    frame.ins.insert(source);
                    frame.add((End::Port, End::Box(pair[1]), source), link(false));
                }
            }
        }
        scene
    }

    fn frame(&mut self, item: usize) -> &mut Frame {
        self.frames.get_mut(&item).expect("what is on a way is unfolded")
    }

    /// Every link from box to box, ports passed.
    pub fn ways(&self) -> IndexMap<(usize, usize), &Link> {
        let mut ways = IndexMap::new();
        for frame in self.frames.values() {
            for ((from, to, source), link) in &frame.links {
                if let (End::Box(_), End::Box(to)) = (from, to) {
                    self.enter(*source, *to, link, &mut ways);
                }
            }
        }
        ways
    }

    /// The boxes that the value is taken by, in an item or deeper.
    fn enter<'a>(&'a self, source: usize, to: usize, link: &'a Link, ways: &mut IndexMap<(usize, usize), &'a Link>) {
        let mut stack = vec![(to, link)];
        while let Some((at, link)) = stack.pop() {
            let Some(frame) = self.frames.get(&at) else {
                ways.entry((source, at)).or_insert(link);
                continue;
            };
            for ((from, to, of), inner) in &frame.links {
                if let (End::Port, End::Box(inner_to)) = (from, to)
                    && *of == source
                {
                    stack.push((*inner_to, inner));
                }
            }
        }
    }
}

impl Frame {
    fn add(&mut self, ends: (End, End, usize), link: Link) {
        let own = self.links.entry(ends).or_insert(Link { is_labelled: false, ..link });
        own.is_labelled |= link.is_labelled;
        // what is there as before is no news beside what is not
        if link.state == State::Same {
            (own.state, own.mark) = (State::Same, None);
        }
    }
}

/// For each item, the one that is drawn for it: where the first of equal neighbours stands for all, that of the first.
fn firsts(picture: &Picture, fold: &Fold) -> Vec<usize> {
    let mut first: Vec<usize> = (0..picture.items.len()).collect();
    for (id, item) in picture.items.iter().enumerate() {
        if item.form != Form::Run || fold.each || !fold.open[id] {
            continue;
        }
        let leaves = |place: &usize| picture.leaves(*place).into_iter().map(|layer| picture.of_layer[layer]);
        let shown: Vec<usize> = leaves(&item.children[0]).collect();
        for other in &item.children[1..] {
            for (own, shown) in leaves(other).zip(&shown) {
                // an outer run has said it already
                if first[own] == own {
                    first[own] = *shown;
                }
            }
        }
    }
    // outer runs come before those inside of them
    for id in 0..first.len() {
        let mut at = first[id];
        while first[at] != at {
            at = first[at];
        }
        first[id] = at;
    }
    first
}

/// Whether a value goes from one of equal neighbours, of which one is drawn, to another.
fn between_equals(picture: &Picture, fold: &Fold, from: usize, to: usize) -> bool {
    let above = |id: usize| std::iter::successors(Some(id), |id| picture.items[*id].parent);
    let of_from: Vec<usize> = above(from).collect();
    let common = above(to).find(|id| of_from.contains(id)).expect("the network holds both");
    picture.items[common].form == Form::Run && !fold.each
}

/// The boxes around an item from the network down to the one that is seen of it.
fn chain(picture: &Picture, fold: &Fold, item: usize) -> Vec<usize> {
    let mut chain: Vec<usize> = std::iter::successors(Some(item), |id| picture.items[*id].parent).collect();
    chain.reverse();
    let folded = chain.iter().position(|id| !fold.open[*id]).unwrap_or(chain.len() - 1);
    chain.truncate(folded + 1);
    // the first of equal neighbours has the run's box
    let mut at = 0;
    while at + 1 < chain.len() {
        if picture.items[chain[at]].form == Form::Run && !fold.each {
            chain.remove(at + 1);
        }
        at += 1;
    }
    chain
}
