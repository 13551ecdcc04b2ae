//! `archc show`: the network layer by layer, what a selector matches, or the steps that will execute.

use indexmap::{IndexMap, IndexSet};
use serde_json::{Value, json};

use std::sync::Arc;

use super::args::{SpecArgs, positive};
use super::session::Session;
use super::table::{Align, bytes_of, count, giga, table, thousands};
use super::{Failure, Outcome};
use crate::compile;
use crate::edit::Target;
use crate::exec::Backend;
use crate::exec::cpu::Cpu;
use crate::graph::{Graph, Map, Node, NodeId, key, path};
use crate::io::console::{print, print_json};
use crate::ops::shape::Shape;
use crate::opt;
use crate::plan::{self, Plan};
use crate::source::Sources;
use crate::typed::Typed;

/// Show the network layer by layer.
#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Fold what lies deeper than N labels into one row.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub depth: Option<usize>,
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
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(session: &mut Session, args: &Show) -> Outcome {
    let file = session.open(&args.spec)?;
    let model = session.compile_file(file, &args.spec)?;
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
        None => rows(&session.sources, typed, args.depth.unwrap_or(usize::MAX)),
        Some(selector) => {
            let places =
                compile::select(Arc::make_mut(&mut session.sources), file, &args.spec.set, typed.graph(), selector)?;
            places.iter().map(|place| place_row(&session.sources, typed, place)).collect()
        }
    };
    if args.json {
        let list: Vec<Value> = rows.iter().map(Row::json).collect();
        print_json(&Value::from(list));
        return Ok(());
    }
    let mut text = as_table(&rows);
    if args.select.is_some() {
        text += &format!("\n{}\n", count(rows.len(), "place"));
    } else {
        let (parameters, macs) = totals(typed);
        text += &format!("\nparameters {}, multiply-adds {}\n", thousands(parameters), giga(macs));
    }
    print(&text);
    Ok(())
}

/// Learned values, and multiply-adds for one sample.
pub fn totals(typed: &Typed) -> (u64, u64) {
    let sum = |of: &dyn Fn(NodeId) -> u64| typed.order().iter().map(|id| of(*id)).sum();
    (sum(&|id| typed.parameter_count(id)), sum(&|id| typed.macs(id)))
}

/// A layer, or several together.
struct Row {
    /// Dotted, as in keys.
    path: String,
    shown: String,
    op: String,
    shape: Option<Shape>,
    keys: Vec<(String, Vec<usize>)>,
    parameters: u64,
    macs: u64,
    origin: String,
    /// How many of the parameters get a gradient.
    trained: u64,
}

impl Row {
    fn new(sources: &Sources, typed: &Typed, path: String, shown: String, op: String, nodes: &[NodeId]) -> Row {
        let mut row = Row {
            path,
            shown,
            op,
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

    fn json(&self) -> Value {
        let keys: serde_json::Map<String, Value> =
            self.keys.iter().map(|(key, shape)| (key.clone(), json!(shape))).collect();
        let shape = self.shape.as_ref().map(|shape| {
            let batch = shape.batched.then(|| json!("N"));
            batch.into_iter().chain(shape.dims.iter().map(|dim| json!(dim))).collect::<Vec<Value>>()
        });
        json!({
            "path": self.path,
            "op": self.op,
            "shape": shape,
            "keys": keys,
            "parameters": self.parameters,
            "macs": self.macs,
            "origin": self.origin,
            "trainable": self.trained > 0,
        })
    }
}

fn as_table(rows: &[Row]) -> String {
    let heads = [
        ("path", Align::Left),
        ("op", Align::Left),
        ("output", Align::Left),
        ("parameters", Align::Right),
        ("multiply-adds", Align::Right),
        ("origin", Align::Left),
        ("trainable", Align::Left),
    ];
    let figure = |number: u64| if number == 0 { "-".to_string() } else { thousands(number) };
    let cells = |row: &Row| {
        let shape = row.shape.as_ref().map(Shape::to_string).unwrap_or_default();
        let figures = (figure(row.parameters), figure(row.macs));
        let trainable = row.trainable().to_string();
        vec![row.shown.clone(), row.op.clone(), shape, figures.0, figures.1, row.origin.clone(), trainable]
    };
    table(&heads, &rows.iter().map(cells).collect::<Vec<_>>())
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
            None => scope_row(sources, typed, path, nodes),
        })
        .collect()
}

fn place_row(sources: &Sources, typed: &Typed, place: &Target) -> Row {
    let graph = typed.graph();
    let nodes = place.nodes(graph);
    match place {
        Target::Layer(id) => layer_row(sources, typed, *id),
        Target::Scope(path) => scope_row(sources, typed, path, &nodes),
        Target::Range { .. } => {
            let op = count(nodes.len(), "layer");
            Row::new(sources, typed, place.path(graph), place.display(graph), op, &nodes)
        }
    }
}

fn layer_row(sources: &Sources, typed: &Typed, id: NodeId) -> Row {
    let node = typed.graph().node(id);
    Row::new(sources, typed, node.path.clone(), path::display(&node.path), op_text(typed.graph(), node), &[id])
}

fn scope_row(sources: &Sources, typed: &Typed, path: &str, nodes: &[NodeId]) -> Row {
    let scope = typed.graph().scope(path);
    let block = scope.and_then(|scope| scope.block.clone());
    let numbered = scope.is_some_and(|scope| scope.numbered);
    let kind = block.unwrap_or_else(|| if numbered { "seq".into() } else { "{ }".into() });
    let op = format!("{kind}, {}", count(nodes.len(), "layer"));
    let mut row = Row::new(sources, typed, path.to_string(), path::display(path), op, nodes);
    if let Some(output) = scope.and_then(|scope| scope.output) {
        row.shape = Some(typed.shape(output).clone());
    }
    row
}

/// The op with its arguments, and whose weights it uses where they are not its own.
pub fn op_text(graph: &Graph, node: &Node) -> String {
    match node.tied {
        None => node.op.to_string(),
        Some(owner) => format!("{}, tied to {}", node.op, path::display(&graph.node(owner).path)),
    }
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
