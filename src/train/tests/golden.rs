//! Gradients of every op's golden cases beside PyTorch's autograd in float64 (tests/reference/ops.py).

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

use super::Case;
use crate::diag::Problem;
use crate::exec::{Tensors, reference};
use crate::graph::NodeId;
use crate::opt::testing::network;
use crate::tensor::Tensor;
use crate::typed::Typed;

/// A case's parameters, whichever layer asks.
struct Golden<'a> {
    typed: &'a Typed,
    file: &'a SafeTensors<'a>,
    case: &'a str,
}

impl Tensors for Golden<'_> {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let name = self.typed.params(node)[param].name;
        Ok(tensor(self.file, &format!("{}/{name}", self.case)).expect("the case has it").data().to_vec())
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
        let batch = inputs[0].shape()[0];
        let mut text = String::new();
        for (at, input) in inputs.iter().enumerate() {
            text += &format!("v{at} = input({:?})\n", &input.shape()[1..]);
        }
        let names: Vec<String> = (0..inputs.len()).map(|at| format!("v{at}")).collect();
        text += &format!("y = {} <- {}", call(case), names.join(", "));
        let typed = network(&text);
        let tensors = Golden { typed: &typed, file: &values, case: name };
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
        for (at, key) in keys.iter().enumerate() {
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
            let param = typed.params(state.node)[state.index].name;
            check(param, &own.training.kept().1[view.offset..][..len]);
        }
        let given: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&inputs).collect();
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
