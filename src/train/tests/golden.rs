//! Gradients of every op's golden cases beside PyTorch's autograd in float64 (tests/reference/ops.py).

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

use super::Case;
use crate::compile::{self, Outcome};
use crate::diag::Problem;
use crate::exec::{Tensors, reference};
use crate::graph::{self, NodeId};
use crate::opt::testing::network;
use crate::source::Sources;
use crate::tensor::Tensor;
use crate::typed::Typed;

/// A case's parameters, whichever layer asks.
struct Golden<'a> {
    typed: &'a Typed,
    file: &'a SafeTensors<'a>,
    /// What comes before their names in the file.
    case: String,
    /// The names of what has no batch, by the layer.
    names: BTreeMap<String, &'a str>,
}

impl Golden<'_> {
    /// The name of a tensor in the case.
    fn name(&self, node: NodeId, param: usize) -> String {
        let (name, path) = (self.typed.params(node)[param].name, &self.typed.graph().node(node).path);
        if name.is_empty() { self.names[path].to_string() } else { name.to_string() }
    }
}

impl Tensors for Golden<'_> {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let name = format!("{}/{}", self.case, self.name(node, param));
        Ok(tensor(self.file, &name).expect("the case has it").data().to_vec())
    }
}

fn tensor(file: &SafeTensors, name: &str) -> Option<Tensor> {
    let view = file.tensor(name).ok()?;
    let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Some(Tensor::new(view.shape().to_vec(), numbers.collect::<Vec<f32>>()))
}

/// `conv2d(out = 5, kernel = [3, 3])`
fn call(case: &Value) -> String {
    fn written(value: &Value) -> String {
        match value {
            Value::String(word) => word.clone(),
            Value::Null => "none".into(),
            Value::Array(list) => format!("[{}]", list.iter().map(written).collect::<Vec<_>>().join(", ")),
            other => other.to_string(),
        }
    }
    let positional = case["positional"].as_array().into_iter().flatten().map(written);
    let named =
        case["args"].as_object().into_iter().flatten().map(|(name, value)| format!("{name} = {}", written(value)));
    let args: Vec<String> = positional.chain(named).collect();
    format!("{}({})", case["op"].as_str().expect("a name"), args.join(", "))
}

#[test]
fn gradients_are_pytorchs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("the reference is there");
    let (values, gradients) = (read("ops.safetensors"), read("ops_grad.safetensors"));
    let values = SafeTensors::deserialize(&values).expect("a safetensors file");
    let gradients = SafeTensors::deserialize(&gradients).expect("a safetensors file");
    let cases: Vec<Value> = serde_json::from_slice(&read("ops.json")).expect("JSON");
    let (mut compared, mut ops, mut wrong) = (0, std::collections::BTreeSet::new(), vec![]);
    for case in &cases {
        let (name, op) = (case["case"].as_str().expect("text"), case["op"].as_str().expect("text"));
        // values around 1000, and shares of nearly 1: float32 has few digits left of their differences
        let is_hard = ["layer_norm/3", "softmax/5"].contains(&name);
        let (near, forward) = if is_hard { (2e-4, 2e-4) } else { (2e-5, 1e-5) };
        // what draws is another function in training
        let draws = ["dropout", "dropout2d", "stochastic_depth"].contains(&op);
        let Some(factor) = tensor(&gradients, &format!("{name}/factor")).filter(|_| !draws) else { continue };
        let keys: Vec<&str> = case["inputs"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let inputs: Vec<Tensor> =
            keys.iter().map(|key| tensor(&values, &format!("{name}/{key}")).expect("an input")).collect();
        let without: Vec<&str> = case["batchless"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let is_batched = |at: usize| !without.contains(&keys[at]);
        let batch = (0..keys.len()).find(|at| is_batched(*at)).map_or(1, |at| inputs[at].shape()[0]);
        // a network has an input, if nothing depends on it
        let mut text = String::from("zero = input([1])\n");
        for (at, input) in inputs.iter().enumerate() {
            text += &match is_batched(at) {
                true => format!("v{at} = input({:?})\n", &input.shape()[1..]),
                false => format!("v{at} = parameter({:?})\n", input.shape()),
            };
        }
        let names: Vec<String> = (0..inputs.len()).map(|at| format!("v{at}")).collect();
        text += &format!("y = {} <- {}", call(case), names.join(", "));
        let typed = network(&text);
        let of_layers = names.iter().cloned().zip(keys.iter().copied()).collect();
        let tensors = Golden { typed: &typed, file: &values, case: name.into(), names: of_layers };
        // batch norm as in eval mode
        let frozen = op.starts_with("batch_norm");
        let mut own = Case::with(&typed, &tensors, &|_| frozen, batch);
        let given: Vec<(String, Tensor)> = own
            .inputs
            .iter()
            .map(|(name, value)| match name.strip_prefix('v').and_then(|at| at.parse::<usize>().ok()) {
                Some(at) => (name.clone(), inputs[at].clone()),
                None if name.starts_with("d.") => (name.clone(), factor.clone()),
                None => (name.clone(), value.clone()),
            })
            .collect();
        let outputs = own.run(&given);
        let mut check = |what: &str, got: &[f32]| {
            let Some(want) = tensor(&gradients, &format!("{name}/d.{what}")) else { return };
            let scale = want.data().iter().fold(1e-3f32, |most, value| most.max(value.abs()));
            for (at, (got, want)) in got.iter().zip(want.data()).enumerate() {
                let error = (got - want).abs() / scale;
                // NaN is near nothing
                let is_near = error <= near;
                if !is_near {
                    wrong.push(format!(
                        "{name}: gradient {at} by {what} is {got}, PyTorch's {want}: off by {error:.1e}"
                    ));
                }
            }
            assert_eq!(got.len(), want.len(), "{name}: {what}");
            compared += 1;
            ops.insert(op.to_string());
        };
        for (at, key) in keys.iter().enumerate().filter(|(at, _)| is_batched(*at)) {
            let found = outputs.iter().find(|(other, _)| *other == format!("d.v{at}"));
            match found {
                Some((_, got)) => check(key, got.data()),
                None => assert!(
                    gradients.tensor(&format!("{name}/d.{key}")).is_err(),
                    "{name}: nothing flows to {key}, which has a gradient"
                ),
            }
        }
        let states: Vec<_> = own.plan.net().states.clone().into_iter().zip(own.plan.states().to_vec()).collect();
        for (state, view) in states.iter().filter(|(state, _)| state.learned) {
            let len: usize = state.shape.iter().product();
            check(&tensors.name(state.node, state.index), &own.training.kept().1[view.offset..][..len]);
        }
        let given: Vec<(&str, &Tensor)> = given.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let want = reference::run(&typed, &tensors, batch, &given).expect("nothing to fail");
        let scale = want[0].1.data().iter().fold(1.0f32, |most, value| most.max(value.abs()));
        let mut pairs = want[0].1.data().iter().zip(outputs[0].1.data());
        if !pairs.all(|(want, got)| (want - got).abs() <= forward * scale) {
            wrong.push(format!("{name}: the forward pass is not the reference's"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 230 && ops.len() > 44, "{compared} gradients of {} ops", ops.len());
}

/// Blocks of several layers (tests/reference/blocks.py): all gradients, by the keys of their tensors.
#[test]
fn gradients_of_blocks_are_pytorchs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let bytes = std::fs::read(folder.join("blocks.safetensors")).expect("the reference is there");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let name = "sequences";
    let text = std::fs::read_to_string(folder.join(format!("blocks/{name}.arch"))).expect("the spec is there");
    let mut sources = Sources::new();
    let id = sources.add(format!("{name}.arch"), &text, None);
    let Ok(Outcome::Spec(compiled)) = compile::compile(&mut sources, id, &[]) else { panic!("{name} is a spec") };
    let typed = compiled.typed;
    let tensors = ByKey { typed: &typed, file: &file, case: name };
    let x = tensor(&file, &format!("{name}/x/image")).expect("the input");
    let mut own = Case::with(&typed, &tensors, &|_| false, x.shape()[0]);
    let given = |(input, value): &(String, Tensor)| {
        let found = match input.strip_prefix("d.") {
            Some(output) => tensor(&file, &format!("{name}/f/{output}")).expect("a factor for each output"),
            None if input == "image" => x.clone(),
            None => value.clone(),
        };
        (input.clone(), found)
    };
    let given: Vec<(String, Tensor)> = own.inputs.iter().map(given).collect();
    let outputs = own.run(&given);
    let near = |what: &str, got: &[f32], want: &Tensor| {
        assert_eq!(got.len(), want.data().len(), "{what}");
        let scale = want.data().iter().fold(1e-3f32, |most, value| most.max(value.abs()));
        for (at, (got, want)) in got.iter().zip(want.data()).enumerate() {
            let error = (got - want).abs() / scale;
            assert!(error <= 2e-5, "{what}: gradient {at} is {got}, PyTorch's {want}: off by {error:.1e}");
        }
    };
    let of_image = &outputs.iter().find(|(name, _)| name == "d.image").expect("it has a gradient").1;
    near("image", of_image.data(), &tensor(&file, &format!("{name}/g/image")).expect("a gradient"));
    let states: Vec<_> = own.plan.net().states.clone().into_iter().zip(own.plan.states().to_vec()).collect();
    for (state, view) in &states {
        let key = tensors.key(state.node, state.index);
        let len: usize = state.shape.iter().product();
        let want = tensor(&file, &format!("{name}/g/{key}")).unwrap_or_else(|| panic!("a gradient of {key}"));
        near(&key, &own.training.kept().1[view.offset..][..len], &want);
    }
    assert!(states.len() > 20, "{} tensors learn", states.len());
}

/// The tensors of a network by their keys.
struct ByKey<'a> {
    typed: &'a Typed,
    file: &'a SafeTensors<'a>,
    case: &'a str,
}

impl ByKey<'_> {
    fn key(&self, node: NodeId, param: usize) -> String {
        graph::key(&self.typed.graph().node(node).path, self.typed.params(node)[param].name)
    }
}

impl Tensors for ByKey<'_> {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let name = format!("{}/w/{}", self.case, self.key(node, param));
        Ok(tensor(self.file, &name).expect("the case has it").data().to_vec())
    }
}
