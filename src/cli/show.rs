//! `archc show`: the network layer by layer, what a selector matches, or the steps that will execute.

use indexmap::{IndexMap, IndexSet};
use serde_json::{Value, json};

use std::sync::Arc;

use super::args::{SpecArgs, positive};
use super::session::Session;
use super::{Failure, Outcome};
use crate::compare::op_text;
use crate::compile;
use crate::diag::short;
use crate::edit::Target;
use crate::exec::Backend;
use crate::exec::cpu::Cpu;
use crate::graph::{Map, Node, NodeId, key, path};
use crate::io::console::{self, print, print_exact, print_json};
use crate::ops::attr::Attr;
use crate::ops::shape::Shape;
use crate::opt;
use crate::outline::{self, Entry, Holds, outline};
use crate::plan::{self, Plan};
use crate::source::Sources;
use crate::table::{Align, bytes_of, count, fitted, giga, table, thousands};
use crate::typed::Typed;

/// How many rows a table has that nobody asked to be long, where stdout is no terminal.
const ROWS: usize = 40;

/// Show the network layer by layer, with scopes folded so that it fits the terminal.
#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Fold what lies deeper than N labels into one row.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub depth: Option<usize>,
    /// A row for every layer and every column, however wide; equal neighbours are not folded into one row.
    #[arg(long, conflicts_with_all = ["taps", "steps"])]
    pub wide: bool,
    /// The base network, before the edits.
    #[arg(long)]
    pub before: bool,
    /// Only what a selector matches: 'layer4.**:conv2d where kernel == 3'.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "depth")]
    pub select: Option<String>,
    /// Where decoders take the maps of the network: `tap(16)` for each stride that there is.
    #[arg(long, conflicts_with_all = ["depth", "select", "steps"])]
    pub taps: bool,
    /// The steps that will execute, after fusion, for one sample on the CPU.
    #[arg(long, conflicts_with_all = ["depth", "select"])]
    pub steps: bool,
    /// The network, with its edits, as a file of the language that another spec can `use`.
    #[arg(long, conflicts_with_all = ["depth", "select", "steps", "taps", "before", "json"])]
    pub arch: bool,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(session: &mut Session, args: &Show) -> Outcome {
    let file = session.open(&args.spec)?;
    let model = session.compile_file(file, &args.spec)?;
    if args.arch {
        print_exact(&model.arch()?);
        return Ok(());
    }
    let compiled = model.compiled();
    let typed = if args.before { &compiled.base } else { &compiled.typed };
    if args.steps {
        return steps(typed, args.json);
    }
    if args.taps {
        taps(typed, args.json);
        return Ok(());
    }
    let rows = match &args.select {
        None if args.wide || args.json => rows(&session.sources, typed, args.depth.unwrap_or(usize::MAX)),
        None => {
            let (entries, height) = (outline(typed), console::height());
            let limit = height.map_or(ROWS, |height| height.saturating_sub(6));
            let depth = args.depth.unwrap_or_else(|| fitting_depth(&entries, limit));
            let mut rows = vec![];
            folded_rows(&session.sources, typed, &entries, &Within { place: "", times: 1, depth }, &mut rows);
            rows
        }
        Some(selector) => {
            let places =
                compile::select(Arc::make_mut(&mut session.sources), file, &args.spec.set, typed.graph(), selector)?;
            places.iter().map(|place| place_row(&session.sources, typed, place)).collect()
        }
    };
    if args.json {
        let list: Vec<Value> = rows.iter().map(|row| row.json(typed)).collect();
        print_json(&Value::from(list));
        return Ok(());
    }
    let width = if args.wide { None } else { console::width() };
    let mut text = as_table(&rows, width);
    if args.select.is_some() {
        text += &format!("\n{}\n", count(rows.len(), "place"));
    } else {
        let (parameters, macs) = typed.totals();
        text += &format!("\nparameters {}, multiply-adds {}\n", thousands(parameters), giga(macs));
        if args.depth.is_none() && rows.len() < typed.order().len() {
            text += &format!("{} are folded; `--wide` shows each\n", count(typed.order().len(), "layer"));
        }
    }
    print(&text);
    Ok(())
}

/// The largest depth at which a table has no more than `limit` rows, at least 1.
fn fitting_depth(entries: &[Entry], limit: usize) -> usize {
    let fits = |depth: &usize| outline::count(entries, *depth) <= limit;
    (1..=outline::depth(entries)).take_while(fits).last().unwrap_or(1)
}

/// A layer, or several together.
struct Row {
    /// Dotted, as in keys.
    path: String,
    shown: String,
    /// How many equal places the row stands for; its figures are theirs together.
    times: usize,
    op: String,
    /// The op of a layer with its arguments; of several layers, what holds them.
    kind: Kind,
    /// The paths that flow in.
    inputs: Vec<String>,
    shape: Option<Shape>,
    keys: Vec<(String, Vec<usize>)>,
    parameters: u64,
    macs: u64,
    origin: String,
    /// How many of the parameters get a gradient.
    trained: u64,
}

/// What a row is about.
enum Kind {
    Layer(NodeId),
    /// Its name in the report's JSON: a block's, `seq`, `{ }` or `range`.
    Several(String),
}

impl Row {
    fn new(sources: &Sources, typed: &Typed, path: String, shown: String, op: String, nodes: &[NodeId]) -> Row {
        let mut row = Row {
            path,
            shown,
            times: 1,
            op,
            kind: Kind::Several("range".into()),
            inputs: vec![],
            shape: nodes.last().map(|id| typed.shape(*id).clone()),
            keys: vec![],
            parameters: 0,
            macs: 0,
            origin: String::new(),
            trained: 0,
        };
        let mut origins: IndexSet<String> = IndexSet::new();
        for id in nodes {
            let node = typed.graph().node(*id);
            let own = typed.parameter_count(*id);
            row.parameters += own;
            row.macs += typed.macs(*id);
            row.trained += if node.frozen { 0 } else { own };
            if node.tied.is_none() {
                row.keys.extend(typed.params(*id).into_iter().map(|param| (key(&node.path, param.name), param.shape)));
            }
            origins.insert(origin(sources, node));
        }
        row.origin = origins.into_iter().collect::<Vec<_>>().join(", ");
        row
    }

    fn trainable(&self) -> &'static str {
        match (self.parameters, self.trained) {
            (0, _) => "-",
            (_, 0) => "no",
            (all, some) if some < all => "partly",
            _ => "yes",
        }
    }

    fn json(&self, typed: &Typed) -> Value {
        let keys: serde_json::Map<String, Value> =
            self.keys.iter().map(|(key, shape)| (key.clone(), json!(shape))).collect();
        let shape = self.shape.as_ref().map(|shape| {
            let batch = shape.batched.then(|| json!("N"));
            batch.into_iter().chain(shape.dims.iter().map(|dim| json!(dim))).collect::<Vec<Value>>()
        });
        let (op, arguments, tied) = match &self.kind {
            Kind::Several(name) => (name.as_str(), json!({}), None),
            Kind::Layer(id) => {
                let node = typed.graph().node(*id);
                let arguments = node.op.attrs().into_iter().map(|(name, value)| (name.to_string(), attr_json(&value)));
                let tied = node.tied.map(|owner| typed.graph().node(owner).path.clone());
                (node.op.name(), Value::Object(arguments.collect()), tied)
            }
        };
        let mut row = json!({
            "path": self.path,
            "op": op,
            "arguments": arguments,
            "inputs": self.inputs,
            "shape": shape,
            "keys": keys,
            "parameters": self.parameters,
            "macs": self.macs,
            "origin": self.origin,
            "trainable": self.trained > 0,
        });
        if let Some(owner) = tied {
            row["tied"] = owner.into();
        }
        row
    }
}

/// An argument's value; a word with arguments as it is written.
fn attr_json(value: &Attr) -> Value {
    match value {
        Attr::Int(value) => json!(value),
        Attr::Float(value) => json!(value),
        Attr::Bool(value) => json!(value),
        Attr::None => Value::Null,
        Attr::Str(text) | Attr::Word(text) => json!(text),
        Attr::Call(..) => json!(value.to_string()),
        Attr::List(list) => list.iter().map(attr_json).collect(),
    }
}

/// A line a row. Where it is wider than the terminal, ops are cut, then columns left out from the right.
fn as_table(rows: &[Row], width: Option<usize>) -> String {
    let is_folded = rows.iter().any(|row| row.times > 1);
    let times = if is_folded { vec![("x", Align::Right)] } else { vec![] };
    let before = [("path", Align::Left), ("op", Align::Left)];
    let behind = [
        ("output", Align::Left),
        ("parameters", Align::Right),
        ("multiply-adds", Align::Right),
        ("origin", Align::Left),
        ("trainable", Align::Left),
    ];
    let heads: Vec<(&str, Align)> = before.into_iter().chain(times).chain(behind).collect();
    let figure = |number: u64| if number == 0 { "-".to_string() } else { thousands(number) };
    let cells = |row: &Row| {
        let shape = row.shape.as_ref().map(Shape::to_string).unwrap_or_default();
        let figures = (figure(row.parameters), figure(row.macs));
        let trainable = row.trainable().to_string();
        let times = is_folded.then(|| if row.times > 1 { row.times.to_string() } else { String::new() });
        let before = [row.shown.clone(), row.op.clone()].into_iter().chain(times);
        before.chain([shape, figures.0, figures.1, row.origin.clone(), trainable]).collect()
    };
    fitted(&heads, &rows.iter().map(cells).collect::<Vec<_>>(), width, Some(1))
}

/// Where a row of the outline stands: in the places that `place` selects, `times` of them, with `depth` labels to go.
struct Within<'a> {
    place: &'a str,
    times: usize,
    depth: usize,
}

/// A row a layer or a scope that lies at the depth, one for equal neighbours.
fn folded_rows(sources: &Sources, typed: &Typed, entries: &[Entry], within: &Within, rows: &mut Vec<Row>) {
    for entry in entries {
        let place = format!("{}{}", within.place, entry.place);
        let times = within.times * entry.labels.len();
        let layers = entry.layers();
        let mut row = match &entry.holds {
            Holds::Scope { entries, .. } if within.depth > 1 => {
                let inside = Within { place: &place, times, depth: within.depth - 1 };
                folded_rows(sources, typed, entries, &inside, rows);
                continue;
            }
            Holds::Scope { path, .. } => scope_row(sources, typed, path, &layers, times),
            Holds::Layer(ids) => {
                let first = layer_row(sources, typed, ids[0]);
                Row { shape: first.shape.clone(), ..Row::new(sources, typed, first.path, place.clone(), first.op, ids) }
            }
        };
        row.times = times;
        row.shown = place;
        rows.push(row);
    }
}

/// A row a layer, or a scope that lies `depth` labels deep.
fn rows(sources: &Sources, typed: &Typed, depth: usize) -> Vec<Row> {
    let graph = typed.graph();
    let mut groups: IndexMap<String, Vec<NodeId>> = IndexMap::new();
    for id in typed.order() {
        let labels: Vec<&str> = graph.node(*id).path.split('.').take(depth).collect();
        groups.entry(labels.join(".")).or_default().push(*id);
    }
    groups
        .iter()
        .map(|(path, nodes)| match graph.find(path) {
            Some(id) => layer_row(sources, typed, id),
            None => scope_row(sources, typed, path, nodes, 1),
        })
        .collect()
}

fn place_row(sources: &Sources, typed: &Typed, place: &Target) -> Row {
    let graph = typed.graph();
    let nodes = place.nodes(graph);
    match place {
        Target::Layer(id) => layer_row(sources, typed, *id),
        Target::Scope(path) => scope_row(sources, typed, path, &nodes, 1),
        Target::Range { .. } => {
            let op = count(nodes.len(), "layer");
            Row::new(sources, typed, place.path(graph), place.display(graph), op, &nodes)
        }
    }
}

fn layer_row(sources: &Sources, typed: &Typed, id: NodeId) -> Row {
    let node = typed.graph().node(id);
    // a constant may have many values
    let op = short(&op_text(typed.graph(), node)).into_owned();
    let mut row = Row::new(sources, typed, node.path.clone(), path::display(&node.path), op, &[id]);
    row.kind = Kind::Layer(id);
    let operands = typed.graph().operands(id);
    row.inputs = operands.into_iter().map(|operand| typed.graph().node(operand).path.clone()).collect();
    row
}

/// The scope at `path`; with the layers of all of `times` that are equal to it.
fn scope_row(sources: &Sources, typed: &Typed, path: &str, nodes: &[NodeId], times: usize) -> Row {
    let scope = typed.graph().scope(path);
    let block = scope.and_then(|scope| scope.block.clone());
    let numbered = scope.is_some_and(|scope| scope.numbered);
    let kind = block.unwrap_or_else(|| if numbered { "seq".into() } else { "{ }".into() });
    let op = format!("{kind}, {}", count(nodes.len() / times, "layer"));
    let mut row = Row::new(sources, typed, path.to_string(), path::display(path), op, nodes);
    row.kind = Kind::Several(kind);
    let input = scope.and_then(|scope| scope.input);
    row.inputs = input.into_iter().map(|input| typed.graph().node(input).path.clone()).collect();
    if let Some(output) = scope.and_then(|scope| scope.output) {
        row.shape = Some(typed.shape(output).clone());
    }
    row
}

fn origin(sources: &Sources, node: &Node) -> String {
    node.origin.map_or_else(|| "base".into(), |edit| format!("line {}", sources.line_column(edit).0))
}

/// A row a stride: the layer that `tap` means, and its map.
fn taps(typed: &Typed, as_json: bool) {
    let taps = typed.graph().taps();
    let path_of = |id: NodeId| &typed.graph().node(id).path;
    if as_json {
        let tap = |(stride, map): &(usize, Map)| json!({"stride": stride, "path": path_of(map.node), "channels": map.channels, "size": map.size});
        print_json(&taps.iter().map(tap).collect());
        return;
    }
    let heads = [("stride", Align::Right), ("path", Align::Left), ("channels", Align::Right), ("size", Align::Right)];
    let row = |(stride, map): &(usize, Map)| {
        let size = format!("{} x {}", map.size[0], map.size[1]);
        vec![stride.to_string(), path::display(path_of(map.node)), map.channels.to_string(), size]
    };
    let rows: Vec<Vec<String>> = taps.iter().map(row).collect();
    print(&format!("{}\n{}\n", table(&heads, &rows), count(taps.len(), "tap")));
}

fn steps(typed: &Typed, as_json: bool) -> Result<(), Failure> {
    let cpu = Cpu::new();
    let plan = plan::plan(opt::optimise(typed, cpu.fusions()), &cpu.options(1))?;
    if as_json {
        print_json(&steps_json(&plan, typed));
        return Ok(());
    }
    let width = plan.steps().len().to_string().len();
    let mut text = String::new();
    for (at, step) in plan.steps().iter().enumerate() {
        text += &format!("{:>width$}  {}\n", at + 1, plan.describe(step, typed));
    }
    let memory = bytes_of(plan.arena() as u64 * 4);
    let steps = count(plan.steps().len(), "step");
    text += &format!("\n{steps} for {}; values take {memory}\n", count(typed.order().len(), "layer"));
    print(&text);
    Ok(())
}

fn steps_json(plan: &Plan, typed: &Typed) -> Value {
    let step = |step: &plan::Step| {
        let layers = step.layers.iter().map(|layer| typed.graph().node(*layer).path.as_str());
        json!({"layers": layers.collect::<Vec<_>>(), "text": plan.describe(step, typed), "in_place": step.in_place})
    };
    json!({"steps": plan.steps().iter().map(step).collect::<Vec<_>>(), "value_bytes": plan.arena() * 4})
}
