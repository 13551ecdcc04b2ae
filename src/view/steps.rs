//! What executes as a picture: a box a step, which does the work of several layers; with times, where they were measured.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::network::{amount, braces, layer};
use super::{Form, Layer, Operand, Picture, State, Subject};
use crate::diag::{Code, Problem, count};
use crate::graph::{NodeId, path};
use crate::plan::Plan;
use crate::typed::Typed;

/// A step, as the picture needs to know it.
struct Step {
    text: String,
    layers: Vec<NodeId>,
    ms: Option<f64>,
}

/// The steps of a plan.
pub fn planned(title: &str, typed: &Typed, plan: &Plan) -> Picture {
    let step =
        |step: &crate::plan::Step| Step { text: plan.describe(step, typed), layers: step.layers.clone(), ms: None };
    picture(title, typed, plan.steps().iter().map(step).collect())
}

/// The steps that `archc bench --profile --json` measured.
///
/// # Errors
/// What is no such report, or another network's.
pub fn measured(title: &str, typed: &Typed, report: &Value) -> Result<Picture, Problem> {
    let malformed = || {
        let problem = Problem::new(Code::File, "the file of times is no report of steps");
        problem.hint("`archc bench SPEC --profile --json > FILE` writes one")
    };
    let by_name: FxHashMap<String, NodeId> =
        typed.order().iter().map(|id| (path::display(&typed.graph().node(*id).path), *id)).collect();
    let listed = report.get("profile").unwrap_or(report).get("steps").and_then(Value::as_array);
    let mut steps = vec![];
    for said in listed.ok_or_else(malformed)? {
        let kernel = said.get("kernel").and_then(Value::as_str).ok_or_else(malformed)?;
        let ms = said.get("ms").and_then(Value::as_f64).filter(|ms| ms.is_finite() && *ms >= 0.0);
        let names = said.get("layers").and_then(Value::as_array).ok_or_else(malformed)?;
        let mut layers = vec![];
        for name in names {
            let name = name.as_str().ok_or_else(malformed)?;
            let Some(id) = by_name.get(name) else {
                let message = format!("the file of times has a layer `{name}`, which this network lacks");
                return Err(
                    Problem::new(Code::File, message).hint("measure this spec: `archc bench SPEC --profile --json`")
                );
            };
            layers.push(*id);
        }
        steps.push(Step { text: kernel.to_string(), layers, ms: Some(ms.ok_or_else(malformed)?) });
    }
    Ok(picture(title, typed, steps))
}

fn picture(title: &str, typed: &Typed, steps: Vec<Step>) -> Picture {
    let graph = typed.graph();
    let mut layers: Vec<Layer> = vec![];
    let mut taken: FxHashSet<String> = FxHashSet::default();
    let number = steps.len();
    // the last step so far that worked for a layer
    let mut made: FxHashMap<NodeId, usize> = FxHashMap::default();
    for input in graph.inputs().values() {
        made.insert(*input, layers.len());
        layers.push(layer(typed, *input, State::Same, None));
        taken.insert(graph.node(*input).path.clone());
    }
    let total: f64 = steps.iter().filter_map(|step| step.ms).sum();
    for step in steps {
        let mut sources: Vec<usize> = vec![];
        for id in &step.layers {
            match made.get(id) {
                // it goes on with what another step began
                Some(before) => sources.push(*before),
                None => graph.operands(*id).into_iter().for_each(|operand| {
                    find(typed, &made, operand, &mut sources);
                }),
            }
        }
        let at = layers.len();
        let mut operands: Vec<Operand> = vec![];
        for source in sources {
            let operand = Operand { layer: source, state: State::Same, mark: None };
            if source != at && !operands.contains(&operand) {
                operands.push(operand);
            }
        }
        for id in &step.layers {
            made.insert(*id, at);
        }
        let first = step.layers.first().map_or("step", |id| graph.node(*id).path.as_str());
        let named = |copy: usize| if copy == 1 { first.to_string() } else { format!("{first} ({copy})") };
        let own = (1..).map(named).find(|own| !taken.contains(own)).expect("there are numbers enough");
        taken.insert(own.clone());
        let named: Vec<String> = step.layers.iter().map(|id| path::display(&graph.node(*id).path)).collect();
        let sum = |of: &dyn Fn(NodeId) -> u64| step.layers.iter().map(|id| of(*id)).sum();
        layers.push(Layer {
            path: own,
            form: Form::Layer,
            op: step.text.split(' ').next().unwrap_or_default().to_string(),
            text: match step.text.contains(" : ") {
                true => step.text.clone(),
                false => format!("{} {}", step.text, named.join(" + ")),
            },
            was: None,
            shape: step.layers.last().map_or_else(String::new, |id| typed.shape(*id).to_string()),
            keys: vec![],
            parameters: sum(&|id| typed.parameter_count(id)),
            macs: sum(&|id| typed.macs(id)),
            ms: step.ms,
            state: State::Same,
            mark: None,
            operands,
        });
    }
    for (name, output) in graph.outputs() {
        let mut sources = vec![];
        find(typed, &made, output.node, &mut sources);
        let operands = sources.into_iter().map(|layer| Operand { layer, state: State::Same, mark: None });
        layers.push(Layer {
            path: name.clone(),
            form: Form::Output,
            op: String::new(),
            text: String::new(),
            was: None,
            shape: typed.shape(output.node).to_string(),
            keys: vec![],
            parameters: 0,
            macs: 0,
            ms: None,
            state: State::Same,
            mark: None,
            operands: operands.collect(),
        });
    }
    let macs: u64 = typed.order().iter().map(|id| typed.macs(*id)).sum();
    let mut figures = format!("{} for {}, ", count(number, "step"), count(typed.order().len(), "layer"));
    figures += &format!("{} multiply-adds", amount(macs));
    if total > 0.0 {
        figures += &format!(", {total:.2} ms");
    }
    Picture::new(Subject::Steps, title.into(), figures, vec![], layers, |path| braces(typed, path))
}

/// The steps that make a value: those of the layers before it, where it needs none of its own.
fn find(typed: &Typed, made: &FxHashMap<NodeId, usize>, id: NodeId, sources: &mut Vec<usize>) {
    let mut stack = vec![id];
    let mut seen: FxHashSet<NodeId> = FxHashSet::default();
    while let Some(id) = stack.pop() {
        match made.get(&id) {
            Some(step) => sources.push(*step),
            None if seen.insert(id) => stack.extend(typed.graph().operands(id)),
            None => {}
        }
    }
}
