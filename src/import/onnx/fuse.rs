//! What ONNX has no operator for, or older opsets had none for, and exporters write in several nodes: found again as the one that
//! it was. Each pattern is one that PyTorch's exporters or archc's own write, and its inner values have no other use.

use std::collections::HashMap;

use prost::bytes::Bytes;

use crate::onnx::proto::{Attribute, AttributeType, Node, ValueInfo};

/// What is known of initializers.
pub trait Look {
    /// The one number that it is.
    fn number(&mut self, name: &str) -> Option<f64>;

    /// How many axes it has.
    fn rank(&self, name: &str) -> Option<usize>;
}

/// The nodes with such groups as single ones, which keep the place and the name of their last.
pub fn fuse(nodes: &[Node], outputs: &[ValueInfo], look: &mut dyn Look) -> Vec<Node> {
    let mut found = Found::new(nodes, outputs);
    for at in 0..nodes.len() {
        if found.nodes[at].is_none() {
            continue;
        }
        match found.op(at) {
            "Erf" => found.gelu(at, look),
            "Sigmoid" => found.gated(at, "Silu"),
            "HardSigmoid" => found.gated(at, "HardSwish"),
            "Softplus" => found.softplus(at),
            "Sqrt" => found.rsqrt(at),
            "MatMul" => found.linear(at, look),
            _ => {}
        }
    }
    found.nodes.into_iter().flatten().collect()
}

struct Found {
    nodes: Vec<Option<Node>>,
    makers: HashMap<String, usize>,
    /// The nodes that take a value, one entry a use.
    users: HashMap<String, Vec<usize>>,
    /// Values that constants are.
    numbers: HashMap<String, f64>,
}

impl Found {
    fn new(nodes: &[Node], outputs: &[ValueInfo]) -> Found {
        let mut found = Found { nodes: vec![], makers: HashMap::new(), users: HashMap::new(), numbers: HashMap::new() };
        for output in outputs {
            found.users.entry(output.name.clone()).or_default().push(usize::MAX);
        }
        for (at, node) in nodes.iter().enumerate() {
            found.makers.extend(node.output.iter().map(|name| (name.clone(), at)));
            node.input.iter().for_each(|name| found.users.entry(name.clone()).or_default().push(at));
            if node.op_type == "Constant"
                && let [attribute] = &node.attribute[..]
                && let Some(value) = scalar(attribute)
            {
                found.numbers.extend(node.output.iter().map(|name| (name.clone(), value)));
            }
            found.nodes.push(Some(node.clone()));
        }
        found
    }

    fn op(&self, at: usize) -> &str {
        match self.nodes.get(at) {
            Some(Some(node)) if node.domain.is_empty() => &node.op_type,
            _ => "",
        }
    }

    fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("the caller looked")
    }

    /// The node that makes a value, where it is of that op.
    fn maker(&self, name: &str, op: &str) -> Option<usize> {
        self.makers.get(name).copied().filter(|at| self.op(*at) == op)
    }

    /// The one node that takes what a node gives, where it is of that op.
    fn user(&self, at: usize, op: &str) -> Option<usize> {
        let [output] = &self.node(at).output[..] else { return None };
        match self.users.get(output).map(Vec::as_slice) {
            Some([user]) if self.op(*user) == op => Some(*user),
            _ => None,
        }
    }

    fn number(&self, name: &str, look: &mut dyn Look) -> Option<f64> {
        self.numbers.get(name).copied().or_else(|| look.number(name))
    }

    /// The other operand of a node of two.
    fn other(&self, at: usize, name: &str) -> Option<String> {
        match &self.node(at).input[..] {
            [a, b] if a == name => Some(b.clone()),
            [a, b] if b == name => Some(a.clone()),
            _ => None,
        }
    }

    /// Puts one node in the place of the last of several.
    fn replace(&mut self, last: usize, gone: &[usize], op: &str, x: &str, attribute: Vec<Attribute>) {
        for at in gone {
            self.nodes[*at] = None;
        }
        if let Some(node) = &mut self.nodes[last] {
            (node.op_type, node.input, node.attribute) = (op.into(), vec![x.to_string()], attribute);
        }
    }

    /// x / 2 (1 + erf(x / sqrt 2)), in whatever order its factors stand.
    fn gelu(&mut self, erf: usize, look: &mut dyn Look) {
        let near = |value: Option<f64>, wanted: f64| value.is_some_and(|value| (value - wanted).abs() < 1e-6);
        let mut parts = || -> Option<(usize, Vec<usize>, String)> {
            let inner = self.node(erf).input.first()?.clone();
            let scale = *self.makers.get(&inner)?;
            let [a, b] = &self.node(scale).input[..] else { return None };
            let root = std::f64::consts::SQRT_2;
            let x = match self.op(scale) {
                "Div" if near(self.number(b, look), root) => a,
                "Mul" if near(self.number(b, look), 1.0 / root) => a,
                "Mul" if near(self.number(a, look), 1.0 / root) => b,
                _ => return None,
            }
            .clone();
            (self.user(scale, "Erf")? == erf).then_some(())?;
            let add = self.user(erf, "Add")?;
            let one = self.other(add, &self.node(erf).output[0])?;
            near(self.number(&one, look), 1.0).then_some(())?;
            let product = self.user(add, "Mul")?;
            let factor = self.other(product, &self.node(add).output[0])?;
            if factor == x {
                let last = self.user(product, "Mul")?;
                let half = self.other(last, &self.node(product).output[0])?;
                near(self.number(&half, look), 0.5).then_some(())?;
                return Some((last, vec![scale, erf, add, product], x));
            }
            // half of x came first
            let half = self.maker(&factor, "Mul")?;
            let other = self.other(half, &x)?;
            near(self.number(&other, look), 0.5).then_some(())?;
            (self.user(half, "Mul")? == product).then_some(())?;
            Some((product, vec![scale, erf, add, half], x))
        };
        if let Some((last, gone, x)) = parts() {
            self.replace(last, &gone, "Gelu", &x, vec![]);
        }
    }

    /// x times a function of x.
    fn gated(&mut self, gate: usize, op: &str) {
        let node = self.node(gate);
        let Some(x) = node.input.first().cloned() else { return };
        if op == "HardSwish" {
            let value = |name: &str, default: f32| {
                node.attribute.iter().find(|own| own.name == name).and_then(|own| own.f).unwrap_or(default)
            };
            if (value("alpha", 0.2) - 1.0 / 6.0).abs() > 1e-6 || value("beta", 0.5) != 0.5 {
                return;
            }
        }
        let Some(product) = self.user(gate, "Mul") else { return };
        if self.other(product, &self.node(gate).output[0].clone()) == Some(x.clone()) {
            self.replace(product, &[gate], op, &x, vec![]);
        }
    }

    /// x tanh(softplus(x)), and -softplus(-x).
    fn softplus(&mut self, at: usize) {
        let Some(x) = self.node(at).input.first().cloned() else { return };
        if let Some(tanh) = self.user(at, "Tanh")
            && let Some(product) = self.user(tanh, "Mul")
            && self.other(product, &self.node(tanh).output[0].clone()) == Some(x.clone())
        {
            self.replace(product, &[at, tanh], "Mish", &x, vec![]);
            return;
        }
        if let Some(before) = self.maker(&x, "Neg")
            && self.user(before, "Softplus") == Some(at)
            && let Some(after) = self.user(at, "Neg")
            && let Some(x) = self.node(before).input.first().cloned()
        {
            self.replace(after, &[before, at], "LogSigmoid", &x, vec![]);
        }
    }

    /// A product with a weight, and a bias.
    fn linear(&mut self, at: usize, look: &mut dyn Look) {
        let [x, weight] = &self.node(at).input[..] else { return };
        let (x, weight) = (x.clone(), weight.clone());
        let turned = self.maker(&weight, "Transpose").and_then(|maker| self.node(maker).input.first());
        let is_weight = look.rank(turned.unwrap_or(&weight)) == Some(2);
        let Some(sum) = self.user(at, "Add").filter(|_| is_weight && look.rank(&x).is_none()) else { return };
        let Some(bias) = self.other(sum, &self.node(at).output[0]).filter(|bias| look.rank(bias) == Some(1)) else {
            return;
        };
        self.replace(sum, &[at], "Linear", &x, vec![]);
        if let Some(node) = &mut self.nodes[sum] {
            node.input.extend([weight, bias]);
        }
    }

    /// 1 / sqrt(x).
    fn rsqrt(&mut self, at: usize) {
        let Some(x) = self.node(at).input.first().cloned() else { return };
        if let Some(last) = self.user(at, "Reciprocal") {
            self.replace(last, &[at], "Rsqrt", &x, vec![]);
        }
    }
}

/// The number that an attribute of `Constant` is.
fn scalar(attribute: &Attribute) -> Option<f64> {
    if attribute.kind == AttributeType::Float as i32 {
        return attribute.f.map(f64::from);
    }
    let tensor = attribute.t.as_ref().filter(|tensor| tensor.dims.iter().all(|len| *len == 1))?;
    let raw: &Bytes = &tensor.raw_data;
    match (tensor.data_type, raw.len()) {
        (1, 4) => Some(f64::from(f32::from_le_bytes(raw[..].try_into().ok()?))),
        (1, 0) => tensor.float_data.first().map(|value| f64::from(*value)),
        (11, 8) => Some(f64::from_le_bytes(raw[..].try_into().ok()?)),
        _ => None,
    }
}
