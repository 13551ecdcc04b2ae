//! `archc diff`: what is different between the networks of two specs. As diff(1), it ends with 0 where they are the same,
//! 1 where not, 2 for anything else.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::args::{BaseArgs, SpecArgs, name_and_value};
use super::session::Session;
use super::show::{op_text, totals};
use super::table::{change, count, giga, giga_change, thousands};
use super::{Failure, Outcome};
use crate::compile::Compiled;
use crate::diag::one_line;
use crate::graph::{key, path};
use crate::io::console::{print, print_json};
use crate::ops::attr::FromAttr;
use crate::typed::Typed;

/// Compare the networks of two specs; exit status 0 if they are the same, 1 if not, 2 for anything else.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The one spec.
    #[arg(value_name = "A.arch")]
    pub a: PathBuf,
    /// The other.
    #[arg(value_name = "B.arch")]
    pub b: PathBuf,
    /// Give a `param` of both specs another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
    #[command(flatten)]
    pub on: BaseArgs,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(session: &mut Session, args: &Diff) -> Outcome {
    session.unwritten = 2;
    match compare(session, args) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Status(1)),
        Err(failure) => {
            if let Failure::Diagnostics(diagnostics) = failure {
                session.report(&diagnostics);
            }
            Err(Failure::Status(2))
        }
    }
}

/// Prints the difference; true where there is none.
fn compare(session: &mut Session, args: &Diff) -> Result<bool, Failure> {
    let mut compile = |spec: &Path| {
        session.compile(&SpecArgs { spec: spec.to_path_buf(), set: args.set.clone(), on: args.on.clone() })
    };
    let (a, b) = (compile(&args.a)?, compile(&args.b)?);
    let (a, b) = (a.compiled(), b.compiled());
    let layers = Changes::of(&layers(&a.typed), &layers(&b.typed));
    let weights = Changes::of(&tensors(&a.typed), &tensors(&b.typed));
    let sources = (weights_text(a), weights_text(b));
    let same = layers.is_empty() && weights.is_empty() && sources.0 == sources.1;
    if args.json {
        let json = json!({
            "same": same,
            "layers": layers.json(),
            "weights": weights.json(),
            "sources": [sources.0, sources.1],
            "parameters": [totals(&a.typed).0, totals(&b.typed).0],
            "macs": [totals(&a.typed).1, totals(&b.typed).1],
        });
        print_json(&json);
        return Ok(same);
    }
    if same {
        return Ok(true);
    }
    let mut text = String::new();
    for (sign, spec, compiled) in [("---", &args.a, &a), ("+++", &args.b, &b)] {
        let layers = count(compiled.typed.order().len(), "layer");
        text += &format!("{sign} {}: {}, {layers}\n", one_line(&spec.display().to_string()), compiled.settings.base);
    }
    text += &layers.text("layers");
    if sources.0 != sources.1 {
        text += &format!("\nweights from\n- {}\n+ {}\n", sources.0, sources.1);
    }
    text += &weights.text("weights");
    text += &cost(&a.typed, &b.typed);
    print(&text);
    Ok(false)
}

/// What a layer or tensor is, in words; things of one kind have the same aspects in the same order.
type Aspects = Vec<String>;

/// Each layer by path: op, shape, what it takes, whether it learns.
fn layers(typed: &Typed) -> IndexMap<String, Aspects> {
    let graph = typed.graph();
    let mut layers: IndexMap<String, Aspects> = IndexMap::new();
    for id in typed.order() {
        let node = graph.node(*id);
        let from: Vec<String> =
            graph.operands(*id).iter().map(|operand| path::display(&graph.node(*operand).path)).collect();
        let from = if from.is_empty() { String::new() } else { format!("of {}", from.join(", ")) };
        let learns = match (typed.params(*id).is_empty(), node.frozen) {
            (true, _) => "",
            (false, true) => "frozen",
            (false, false) => "trainable",
        };
        let aspects = vec![op_text(graph, node), typed.shape(*id).to_string(), from, learns.into()];
        layers.insert(path::display(&node.path), aspects);
    }
    for (name, output) in graph.outputs() {
        layers.insert(format!("output `{name}`"), vec![path::display(&graph.node(output.node).path)]);
    }
    layers
}

/// Each tensor by key: its shape, and where its values come from.
fn tensors(typed: &Typed) -> IndexMap<String, Aspects> {
    let mut tensors = IndexMap::new();
    for id in typed.order() {
        let node = typed.graph().node(*id);
        if node.tied.is_some() {
            continue;
        }
        let mut adapted = typed.adapted(*id);
        for param in typed.params(*id) {
            if let Some(how) = adapted.remove(param.name) {
                let source = format!("from the base's {}, {}", how.key, how.how());
                tensors.insert(key(&node.path, param.name), vec![format!("{:?}", param.shape), source]);
                continue;
            }
            let init = node.inits.iter().find(|filled| filled.tensor == param.name);
            let kept = node
                .base
                .as_ref()
                .filter(|base| base.params.iter().any(|old| old.name == param.name && old.shape == param.shape));
            let own = key(&node.path, param.name);
            let source = match (init, kept) {
                (Some(filled), _) => format!("filled with {}", filled.init.to_attr()),
                (None, Some(base)) if key(&base.path, param.name) == own => "from the base".to_string(),
                (None, Some(base)) => format!("from the base's {}", key(&base.path, param.name)),
                (None, None) => "fresh".to_string(),
            };
            tensors.insert(own, vec![format!("{:?}", param.shape), source]);
        }
    }
    tensors
}

fn weights_text(compiled: &Compiled) -> String {
    let part = compiled.settings.intake.part().map(|part| format!(" part \"{part}\""));
    format!("{}{}", compiled.settings.weights, part.unwrap_or_default())
}

fn cost(a: &Typed, b: &Typed) -> String {
    let ((old, old_macs), (new, new_macs)) = (totals(a), totals(b));
    let mut text = String::from("\ncost\n");
    let parameters = change(new as i64 - old as i64);
    text += &format!("  parameters     {} -> {} ({parameters})\n", thousands(old), thousands(new));
    let macs = giga_change(new_macs as i64 - old_macs as i64);
    text + &format!("  multiply-adds  {} -> {} ({macs})\n", giga(old_macs), giga(new_macs))
}

/// Named things that differ.
#[derive(Default)]
struct Changes {
    only_a: Vec<(String, Aspects)>,
    only_b: Vec<(String, Aspects)>,
    changed: Vec<(String, Aspects, Aspects)>,
}

impl Changes {
    fn of(a: &IndexMap<String, Aspects>, b: &IndexMap<String, Aspects>) -> Changes {
        let mut changes = Changes::default();
        for (name, old) in a {
            match b.get(name) {
                None => changes.only_a.push((name.clone(), old.clone())),
                Some(new) if new != old => changes.changed.push((name.clone(), old.clone(), new.clone())),
                Some(_) => {}
            }
        }
        let added = b.iter().filter(|(name, _)| !a.contains_key(*name));
        changes.only_b.extend(added.map(|(name, new)| (name.clone(), new.clone())));
        changes
    }

    fn is_empty(&self) -> bool {
        self.only_a.is_empty() && self.only_b.is_empty() && self.changed.is_empty()
    }

    /// Of what changed, only the aspects that did.
    fn text(&self, what: &str) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut text = format!("\n{what}\n");
        for (name, old) in &self.only_a {
            text += &format!("- {name}: {}\n", words(old));
        }
        for (name, new) in &self.only_b {
            text += &format!("+ {name}: {}\n", words(new));
        }
        for (name, old, new) in &self.changed {
            let differing = |one: &Aspects, other: &Aspects| -> Aspects {
                one.iter().zip(other).filter(|(one, other)| one != other).map(|(one, _)| one.clone()).collect()
            };
            text += &format!("! {name}: {} -> {}\n", words(&differing(old, new)), words(&differing(new, old)));
        }
        text
    }

    fn json(&self) -> Value {
        let list = |list: &[(String, Aspects)]| -> Vec<Value> {
            list.iter().map(|(name, aspects)| json!({"name": name, "is": words(aspects)})).collect()
        };
        let changed = self.changed.iter().map(|(name, a, b)| json!({"name": name, "a": words(a), "b": words(b)}));
        json!({
            "only_a": list(&self.only_a),
            "only_b": list(&self.only_b),
            "changed": changed.collect::<Vec<_>>(),
        })
    }
}

fn words(aspects: &Aspects) -> String {
    let said: Vec<&str> = aspects.iter().map(String::as_str).filter(|aspect| !aspect.is_empty()).collect();
    if said.is_empty() { "-".into() } else { said.join(" ") }
}
