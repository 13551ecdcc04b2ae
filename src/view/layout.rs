//! Where boxes and links lie. Each unfolded box is laid out by itself, from the inside out: what is inside it are boxes of known
//! sizes, and ports at its upper and lower border. The layout is that of dagre, layer by layer, from top to bottom.

use dagre::graph::{Graph, GraphOptions};
use dagre::{EdgeLabel, LayoutOptions, NodeLabel};
use indexmap::IndexMap;

use super::scene::{End, Frame, Link, Scene};
use super::text::{Style, header, lines, width};
use super::{Form, Picture};

/// Between text and border of a box.
pub const PAD: f64 = 9.0;
/// Of what heads an unfolded box.
pub const HEADER: f64 = 22.0;
/// Between the border of an unfolded box and what is inside: at its sides, below its head, above its lower border.
const MARGIN: f64 = 12.0;
const BELOW_HEAD: f64 = 14.0;
const ABOVE_END: f64 = 15.0;
/// Between boxes side by side, links, and boxes one below the other.
const APART: f64 = 22.0;
const LANE: f64 = 12.0;
const BELOW: f64 = 26.0;
/// A port holds its rank that much more than any value pulls.
const HOLD: i32 = 10_000;
/// Of the text beside a link.
pub const LABEL: f64 = 9.0;

/// A box in its place; coordinates are those of the picture.
#[derive(Clone, Debug)]
pub struct Laid {
    pub item: usize,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    /// Of an unfolded one.
    pub inside: Option<Inside>,
}

#[derive(Clone, Debug, Default)]
pub struct Inside {
    pub boxes: Vec<Laid>,
    pub wires: Vec<Wire>,
    /// Where values come in and go out, from the left border, by the box that makes them.
    ins: IndexMap<usize, f64>,
    outs: IndexMap<usize, f64>,
}

/// A link in its place.
#[derive(Clone, Debug)]
pub struct Wire {
    pub key: (End, End, usize),
    pub points: Vec<(f64, f64)>,
    /// The middle of the text beside it.
    pub label: Option<(f64, f64)>,
}

impl Laid {
    fn shift(&mut self, x: f64, y: f64) {
        self.x += x;
        self.y += y;
        if let Some(inside) = &mut self.inside {
            inside.boxes.iter_mut().for_each(|one| one.shift(x, y));
            for wire in &mut inside.wires {
                wire.points.iter_mut().for_each(|point| *point = (point.0 + x, point.1 + y));
                wire.label = wire.label.map(|label| (label.0 + x, label.1 + y));
            }
        }
    }
}

/// The whole picture, its upper left corner at 0, 0.
pub fn layout(picture: &Picture, scene: &Scene) -> Laid {
    lay(picture, scene, 0)
}

fn lay(picture: &Picture, scene: &Scene, item: usize) -> Laid {
    match scene.frames.get(&item) {
        Some(frame) => {
            let boxes: Vec<Laid> = frame.boxes.iter().map(|inner| lay(picture, scene, *inner)).collect();
            unfolded(picture, item, frame, boxes)
        }
        None => folded(picture, item),
    }
}

fn folded(picture: &Picture, id: usize) -> Laid {
    let item = &picture.items[id];
    let lines = lines(picture, item);
    let mut widest = lines.iter().map(|(style, text)| style.width(text)).fold(0.0, f64::max);
    if let (Some(tag), Some((style, head))) = (picture.tag(item), lines.first()) {
        widest = widest.max(style.width(head) + tag_width(&tag) + 6.0);
    }
    let height: f64 = lines.iter().map(|(style, _)| style.height()).sum();
    let is_round = matches!(item.form, Form::Input | Form::Output | Form::Beside);
    let sides = if is_round { 2.0 * PAD + 8.0 } else { 2.0 * PAD };
    let (width, height) = ((widest + sides).max(48.0).ceil(), (height + 10.0).ceil());
    Laid { item: id, x: 0.0, y: 0.0, width, height, inside: None }
}

/// The width of the text that says which edit it was.
pub fn tag_width(tag: &str) -> f64 {
    width(tag, 9.0, true) + 8.0
}

fn unfolded(picture: &Picture, id: usize, frame: &Frame, mut boxes: Vec<Laid>) -> Laid {
    let item = &picture.items[id];
    let is_root = item.parent.is_none();
    let place: IndexMap<usize, usize> = boxes.iter().enumerate().map(|(at, one)| (one.item, at)).collect();
    // boxes, then ports
    let mut sizes: Vec<(f64, f64)> = boxes.iter().map(|one| (one.width, one.height)).collect();
    let ins: IndexMap<usize, usize> = frame.ins.iter().enumerate().map(|(at, key)| (*key, sizes.len() + at)).collect();
    sizes.extend(ins.iter().map(|_| (LANE, 0.0)));
    let outs: IndexMap<usize, usize> =
        frame.outs.iter().enumerate().map(|(at, key)| (*key, sizes.len() + at)).collect();
    sizes.extend(outs.iter().map(|_| (LANE, 0.0)));
    let edge = |((from, to, key), link): (&(End, End, usize), &Link)| {
        let from = if let End::Box(from) = from { place[from] } else { ins[key] };
        let to = if let End::Box(to) = to { place[to] } else { outs[key] };
        let label = if link.is_labelled { width(&link.shape, LABEL, false) + 6.0 } else { 0.0 };
        (from, to, label)
    };
    let edges: Vec<(usize, usize, f64)> = frame.links.iter().map(edge).collect();
    let ports = Ports { ins: ins.values().copied().collect(), outs: outs.values().copied().collect() };
    let placed = place_flat(&sizes, &edges, &ports);
    let (left, top, right, bottom) = placed.bounds;
    let above = if is_root { 0.0 } else { HEADER + BELOW_HEAD };
    let below = if is_root { 0.0 } else { ABOVE_END };
    let sides = if is_root { 0.0 } else { MARGIN };
    let mut head = if is_root { 0.0 } else { Style::Head.width(&header(item)) + 2.0 * PAD };
    if !is_root {
        head += width(&item.kind, 10.0, false) + 10.0;
        head += picture.tag(item).map_or(0.0, |tag| tag_width(&tag) + 6.0);
    }
    let inner = right - left + 2.0 * sides;
    let total = inner.max(head).ceil();
    let (dx, dy) = (sides + (total - inner) / 2.0 - left, above - top);
    let height = (bottom - top + above + below).ceil();
    for (one, (x, y)) in boxes.iter_mut().zip(&placed.centers) {
        one.shift(x - one.width / 2.0 + dx, y - one.height / 2.0 + dy);
    }
    let port = |ports: &IndexMap<usize, usize>| -> IndexMap<usize, f64> {
        ports.iter().map(|(key, at)| (*key, placed.centers[*at].0 + dx)).collect()
    };
    let (ins, outs) = (port(&ins), port(&outs));
    let mut wires = vec![];
    for (((from, to, key), _), way) in frame.links.iter().zip(placed.ways) {
        // a port may lie higher than the head, or lower than the end
        let mut points: Vec<(f64, f64)> = way
            .points
            .iter()
            .map(|(x, y)| (x + dx, (y + dy).clamp(if is_root { 0.0 } else { HEADER - 2.0 }, height)))
            .collect();
        // ends meet the ports of unfolded boxes, and these the border
        let start = match from {
            End::Port => Some((ins[key], 0.0)),
            End::Box(from) => boxes[place[from]].port(|inside| inside.outs.get(key), true),
        };
        let end = match to {
            End::Port => Some((outs[key], height)),
            End::Box(to) => boxes[place[to]].port(|inside| inside.ins.get(key), false),
        };
        let last = points.len() - 1;
        match (start, *from) {
            (Some(start), End::Port) => points.insert(0, start),
            (Some(start), _) => points[0] = start,
            (None, _) => {}
        }
        let last = if matches!((start, *from), (Some(_), End::Port)) { last + 1 } else { last };
        match (end, *to) {
            (Some(end), End::Port) => points.push(end),
            (Some(end), _) => points[last] = end,
            (None, _) => {}
        }
        let label = way.label.map(|(x, y)| (x + dx, y + dy));
        wires.push(Wire { key: (*from, *to, *key), points, label });
    }
    let inside = Inside { boxes, wires, ins, outs };
    Laid { item: id, x: 0.0, y: 0.0, width: total, height, inside: Some(inside) }
}

impl Laid {
    /// Where a value crosses the border of an unfolded box.
    fn port(&self, find: impl Fn(&Inside) -> Option<&f64>, is_below: bool) -> Option<(f64, f64)> {
        let x = *find(self.inside.as_ref()?)?;
        Some((self.x + x, if is_below { self.y + self.height } else { self.y }))
    }
}

/// The boxes that stand for ports.
struct Ports {
    ins: Vec<usize>,
    outs: Vec<usize>,
}

/// What dagre made of boxes and links.
struct Placed {
    centers: Vec<(f64, f64)>,
    ways: Vec<Way>,
    /// Left, top, right, bottom.
    bounds: (f64, f64, f64, f64),
}

struct Way {
    points: Vec<(f64, f64)>,
    label: Option<(f64, f64)>,
}

/// Places boxes of given sizes; a link has the width of its text.
fn place_flat(sizes: &[(f64, f64)], edges: &[(usize, usize, f64)], ports: &Ports) -> Placed {
    let mut graph: Graph<NodeLabel, EdgeLabel> =
        Graph::with_options(GraphOptions { directed: true, multigraph: true, compound: false });
    let name = |at: usize| format!("n{at}");
    for (at, (width, height)) in sizes.iter().enumerate() {
        graph.set_node(name(at), Some(NodeLabel { width: *width, height: *height, ..NodeLabel::default() }));
    }
    for (at, (from, to, text)) in edges.iter().enumerate() {
        let mut label = EdgeLabel { labelpos: dagre::layout::types::LabelPos::Center, ..EdgeLabel::default() };
        if *text > 0.0 {
            (label.width, label.height) = (*text, LABEL + 4.0);
        }
        graph.set_edge(name(*from), name(*to), Some(label), Some(&format!("e{at}")));
    }
    // the borders, which hold the ports
    let hold = |weight: i32| EdgeLabel { weight, ..EdgeLabel::default() };
    if !ports.ins.is_empty() {
        graph.set_node("top", Some(NodeLabel::default()));
        for at in 0..sizes.len() {
            let is_port = ports.ins.contains(&at);
            if is_port || !edges.iter().any(|edge| edge.1 == at) {
                graph.set_edge("top", name(at), Some(hold(if is_port { HOLD } else { 0 })), Some("top"));
            }
        }
    }
    if !ports.outs.is_empty() {
        graph.set_node("bottom", Some(NodeLabel::default()));
        for at in 0..sizes.len() {
            let is_port = ports.outs.contains(&at);
            if is_port || !edges.iter().any(|edge| edge.0 == at) {
                graph.set_edge(name(at), "bottom", Some(hold(if is_port { HOLD } else { 0 })), Some("bottom"));
            }
        }
    }
    let options = LayoutOptions { nodesep: APART, edgesep: LANE, ranksep: BELOW, ..LayoutOptions::default() };
    dagre::layout(&mut graph, Some(options));
    let center = |at: usize| {
        let node = graph.node(&name(at)).expect("it was put there");
        (node.x.unwrap_or(0.0), node.y.unwrap_or(0.0))
    };
    let centers: Vec<(f64, f64)> = (0..sizes.len()).map(center).collect();
    let rows = Rows::new(&centers, sizes);
    let mut ways = vec![];
    let mut bounds = (f64::MAX, f64::MAX, f64::MIN, f64::MIN);
    let mut cover = |left: f64, top: f64, right: f64, bottom: f64| {
        bounds = (bounds.0.min(left), bounds.1.min(top), bounds.2.max(right), bounds.3.max(bottom));
    };
    let is_port = |at: usize| ports.ins.contains(&at) || ports.outs.contains(&at);
    for (at, ((x, y), (width, height))) in centers.iter().zip(sizes).enumerate() {
        if is_port(at) {
            continue;
        }
        cover(x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0);
    }
    for (at, (from, to, text)) in edges.iter().enumerate() {
        let laid = graph.edge(&name(*from), &name(*to), Some(&format!("e{at}"))).expect("it was put there");
        let bends: Vec<(f64, f64)> = laid.points.iter().map(|point| (point.x, point.y)).collect();
        let points = rows.lanes(&bends, (centers[*from], sizes[*from]), (centers[*to], sizes[*to]));
        // of its height is nothing but ports
        points.iter().for_each(|(x, _)| cover(x - 3.0, f64::MAX, x + 3.0, f64::MIN));
        let label = (*text > 0.0).then(|| (laid.x.unwrap_or(points[0].0), laid.y.unwrap_or(points[0].1)));
        if let Some((x, y)) = label {
            cover(x - text / 2.0, y - LABEL / 2.0, x + text / 2.0, y + LABEL / 2.0);
        }
        ways.push(Way { points, label });
    }
    if sizes.is_empty() {
        bounds = (0.0, 0.0, 0.0, 0.0);
    }
    Placed { centers, ways, bounds }
}

/// The rows that boxes stand in: their middles, from the top, and how high each is.
struct Rows(Vec<(f64, f64)>);

impl Rows {
    fn new(centers: &[(f64, f64)], sizes: &[(f64, f64)]) -> Rows {
        let mut rows: Vec<(f64, f64)> = centers.iter().zip(sizes).map(|((_, y), (_, height))| (*y, *height)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut merged: Vec<(f64, f64)> = vec![];
        for (y, height) in rows {
            match merged.last_mut() {
                Some(last) if (last.0 - y).abs() < 0.5 => last.1 = last.1.max(height),
                _ => merged.push((y, height)),
            }
        }
        Rows(merged)
    }

    /// A link that goes straight down through every row that it passes, and slanting between rows alone: a box beside it may be
    /// high. Its ends are at the borders of its boxes.
    fn lanes(
        &self,
        bends: &[(f64, f64)],
        from: ((f64, f64), (f64, f64)),
        to: ((f64, f64), (f64, f64)),
    ) -> Vec<(f64, f64)> {
        let is_down = from.0.1 <= to.0.1;
        let border = |((x, y), (_, height)): ((f64, f64), (f64, f64)), is_lower: bool, toward: f64, width: f64| {
            // not at the very corner
            let room = (width / 2.0 - 8.0).max(0.0);
            (x + (toward - x).clamp(-room, room) * 0.5, y + if is_lower { height / 2.0 } else { -height / 2.0 })
        };
        let inner: &[(f64, f64)] = if bends.len() > 2 { &bends[1..bends.len() - 1] } else { &[] };
        let (first, last) = (inner.first().map_or(to.0.0, |bend| bend.0), inner.last().map_or(from.0.0, |bend| bend.0));
        let mut points = vec![border(from, is_down, first, from.1.0)];
        for (x, y) in inner {
            let row = self.0.iter().find(|(middle, _)| (middle - y).abs() < 0.5).filter(|(_, height)| *height > 1.0);
            match row {
                Some((middle, height)) => {
                    let (upper, lower) = (middle - height / 2.0, middle + height / 2.0);
                    let ends = if is_down { [upper, lower] } else { [lower, upper] };
                    points.extend(ends.map(|y| (*x, y)));
                }
                None => points.push((*x, *y)),
            }
        }
        points.push(border(to, !is_down, last, to.1.0));
        // a row may be higher at a bend than the box that a link comes from
        let (start, end) = (points[0].1, points[points.len() - 1].1);
        let (low, high) = (start.min(end), start.max(end));
        points.iter_mut().for_each(|point| point.1 = point.1.clamp(low, high));
        points.dedup_by(|a, b| (a.0 - b.0).abs() < 0.1 && (a.1 - b.1).abs() < 0.1);
        // where it goes straight on there is no bend
        let bends = |at: usize, points: &[(f64, f64)]| {
            let x = points[at].0;
            (points[at - 1].0 - x).abs() > 0.1 || (points[at + 1].0 - x).abs() > 0.1
        };
        let is_end = |at: usize| at == 0 || at + 1 >= points.len();
        let mut kept: Vec<(f64, f64)> =
            (0..points.len()).filter(|at| is_end(*at) || bends(*at, &points)).map(|at| points[at]).collect();
        if kept.len() < 2 {
            kept.push(kept[0]);
        }
        kept
    }
}
