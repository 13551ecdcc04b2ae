//! What bf16 costs a whole network: the error of its outputs against float32, where batch norms fit what they normalise, as
//! they do in trained networks (with other statistics values would die out, or one channel drown all others).

use std::collections::BTreeMap;
use std::fmt::Write;

use archc_base::DType;

use crate::diag::Problem;
use crate::exec::cpu::Cpu;
use crate::exec::cpu::kernels::Policy;
use crate::exec::testing::{Random, distance, noise};
use crate::exec::{Executable, Tensors};
use crate::graph::{NodeId, path};
use crate::opt::testing::network;
use crate::tensor::Tensor;
use crate::typed::Typed;

/// Relative L2 norm over the outputs of two images. A whole resnet18 or resnet50 loses 0.007 to 0.008
/// (benches/results/cpu-2026-11-26.md).
const BOUND: f64 = 0.025;

/// A network being written, and the layers that batch norms normalise.
#[derive(Default)]
struct Text {
    text: String,
    count: usize,
    /// With the name of the norm.
    normalised: Vec<[String; 2]>,
}

impl Text {
    fn line(&mut self, call: &str, operands: &str) -> String {
        self.count += 1;
        let name = format!("v{}", self.count);
        writeln!(self.text, "{name} = {call} <- {operands}").expect("a string takes all");
        name
    }

    fn conv(&mut self, x: &str, call: &str, act: &str) -> String {
        let conv = self.line(&format!("conv2d({call}, bias = false)"), x);
        let norm = self.line("batch_norm2d", &conv);
        self.normalised.push([conv, norm.clone()]);
        if act.is_empty() { norm } else { self.line(act, &norm) }
    }
}

/// The blocks of resnet18 and its stem, a half as wide.
fn resnet() -> Text {
    let mut net = Text { text: "x = input([3, 64, 64])\n".into(), ..Text::default() };
    let stem = net.conv("x", "32, kernel = 7, stride = 2, padding = 3", "relu");
    let mut x = net.line("max_pool2d(3, stride = 2, padding = 1)", &stem);
    for (stage, channels) in [32, 64, 128].into_iter().enumerate() {
        for block in 0..2 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let a = net.conv(&x, &format!("{channels}, kernel = 3, stride = {stride}, padding = 1"), "relu");
            let b = net.conv(&a, &format!("{channels}, kernel = 3, padding = 1"), "");
            if stride == 2 {
                x = net.conv(&x, &format!("{channels}, kernel = 1, stride = 2"), "");
            }
            let sum = net.line("add", &format!("{b}, {x}"));
            x = net.line("relu", &sum);
        }
    }
    let pooled = net.line("global_avg_pool2d", &x);
    net.line("linear(100)", &pooled);
    net
}

/// Inverted residuals with both activations of MobileNets.
fn mobilenet() -> Text {
    let mut net = Text { text: "x = input([3, 64, 64])\n".into(), ..Text::default() };
    let mut x = net.conv("x", "16, kernel = 3, stride = 2, padding = 1", "hardswish");
    let mut from = 16;
    for (to, stride, kernel, act) in [
        (24, 2, 3, "relu6"),
        (24, 1, 3, "relu6"),
        (40, 2, 5, "hardswish"),
        (40, 1, 5, "hardswish"),
        (80, 2, 3, "relu6"),
    ] {
        let hidden = 4 * from;
        let wide = net.conv(&x, &format!("{hidden}, kernel = 1"), act);
        let depthwise =
            format!("{hidden}, kernel = {kernel}, stride = {stride}, padding = {}, groups = {hidden}", kernel / 2);
        let deep = net.conv(&wide, &depthwise, act);
        let y = net.conv(&deep, &format!("{to}, kernel = 1"), "");
        x = if stride == 1 { net.line("add", &format!("{y}, {x}")) } else { y };
        from = to;
    }
    let last = net.conv(&x, "320, kernel = 1", "hardswish");
    let pooled = net.line("global_avg_pool2d", &last);
    net.line("linear(100)", &pooled);
    net
}

/// Random weights, and statistics of batch norms: mean and variance of each channel.
struct Fitted<'a> {
    random: Random<'a>,
    statistics: BTreeMap<NodeId, [Vec<f32>; 2]>,
}

impl Tensors for Fitted<'_> {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let found = self.statistics.get(&node);
        match (self.random.0.params(node)[param].name, found) {
            ("running_mean", Some([mean, _])) => Ok(mean.clone()),
            ("running_var", Some([_, variance])) => Ok(variance.clone()),
            _ => self.random.read(node, param),
        }
    }
}

/// Mean and variance of each channel of [n, c, h, w].
fn statistics(values: &Tensor) -> [Vec<f32>; 2] {
    let [n, c, h, w] = values.shape()[..] else { unreachable!("images have four axes") };
    let of = |channel: usize| {
        let plane = |image: usize| &values.data()[(image * c + channel) * h * w..][..h * w];
        let all = || (0..n).flat_map(plane).map(|value| f64::from(*value));
        let mean = all().sum::<f64>() / (n * h * w) as f64;
        (mean as f32, (all().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * h * w) as f64) as f32)
    };
    let (means, variances) = (0..c).map(of).unzip();
    [means, variances]
}

fn outputs(typed: &Typed, tensors: &dyn Tensors, cpu: Cpu, x: &Tensor) -> BTreeMap<String, Tensor> {
    let mut executable = Executable::new(typed, tensors, &cpu, x.shape()[0]).expect("small enough");
    executable.run(&[("x", x)]).expect("the input fits").into_iter().collect()
}

/// The error in bf16.
fn error(net: &Text) -> f64 {
    let x = Tensor::new(vec![2, 3, 64, 64], noise(2 * 3 * 64 * 64, 5));
    let marks: String = net.normalised.iter().map(|[name, _]| format!("! {name}\n")).collect();
    let (marked, typed) = (network(&format!("{}{marks}", net.text)), network(&net.text));
    let id_of = |name: &str| {
        let named = |id: &&NodeId| path::display(&marked.graph().node(**id).path) == name;
        *marked.order().iter().find(named).expect("a layer has the name of its line")
    };
    let exact = Cpu::new().with_policy(Policy::Exact);
    let mut fitted = Fitted { random: Random(&marked), statistics: BTreeMap::new() };
    // the first layer's, then with those the second's, ..
    for [conv, norm] in &net.normalised {
        let values = outputs(&marked, &fitted, exact, &x);
        fitted.statistics.insert(id_of(norm), statistics(&values[conv]));
    }
    let fitted = Fitted { random: Random(&typed), ..fitted };
    let want = outputs(&typed, &fitted, exact, &x);
    let reduced = Cpu::new().with_dtype(DType::Bf16).expect("the CPU has kernels for it");
    let got = outputs(&typed, &fitted, reduced, &x);
    want.iter().map(|(name, want)| distance(want.data(), got[name].data())).fold(0.0, f64::max)
}

#[test]
fn whole_networks_keep_their_outputs_in_bf16() {
    for (name, net) in [("resnet", resnet()), ("mobilenet", mobilenet())] {
        let error = error(&net);
        assert!(error > 1e-4 && error < BOUND, "{name}: {error:.1e}");
    }
}
