use std::fs;
use std::path::Path;

use super::*;
use crate::compile::{self, Outcome};
use crate::exec::testing::{SAMPLES, sample_network};
use crate::opt::testing;
use crate::source::Sources;

fn unmarked(name: &str) -> About<'_> {
    About { name, spec: None, weights: None, preprocess: None, mark: &|_| None }
}

/// The Python of a spec.
fn python(spec: &str) -> Result<String, Problem> {
    let mut sources = Sources::new();
    let file = sources.add("net.arch", spec, None);
    let Ok(Outcome::Spec(compiled)) = compile::compile(&mut sources, file, &[]) else { panic!("the spec is wrong") };
    module(compiled.typed.graph(), &unmarked("net"))
}

/// The lines of the network's own class that are about its layers.
fn lines(text: &str) -> Vec<&str> {
    let own = &text[text.rfind("class Net").expect("the network's class comes last")..];
    let is_about_layers = |line: &&str| line.starts_with("        ") && !line.contains("super().__init__");
    own.lines().filter(is_about_layers).map(str::trim_end).collect()
}

#[test]
fn every_op_has_its_line() {
    let mut text = String::new();
    for (call, operands) in SAMPLES {
        let typed = testing::network(&sample_network(call, operands)[0]);
        let written = module(typed.graph(), &unmarked("net")).unwrap_or_else(|problem| panic!("{call}: {problem:?}"));
        text += &format!("{call} <- {}\n", operands.join(" "));
        for line in lines(&written) {
            text += &format!("    {}\n", line.trim_start());
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expect/export/ops.txt");
    if std::env::var_os("ARCHC_BLESS").is_some() {
        fs::write(&path, &text).expect("the folder can be written");
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    let differing = wanted.lines().zip(text.lines()).find(|(wanted, got)| wanted != got);
    assert!(text == wanted, "first difference, expected and got: {differing:?}");
}

#[test]
fn what_is_applied_once_more_is_called_once_more() {
    let text = python(
        "network n {
            input x: [N, 8]
            mlp: seq { linear(4); relu; linear(8) }
            relu
            tied(mlp)
            fc: linear(8)
            tied(fc)
        }
        base n {}",
    );
    let text = text.unwrap();
    let wanted = [
        "        self.mlp = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))",
        "        self.fc = nn.Linear(8, 8)",
        "        x = self.mlp(x)  # [N, 8]",
        "        x = F.relu(x)  # [N, 8]",
        "        x = self.mlp(x)  # [N, 8]",
        "        x = self.fc(x)  # [N, 8]",
        "        x = self.fc(x)  # [N, 8]",
        "        return x",
    ];
    assert_eq!(lines(&text), wanted, "{text}");
}

#[test]
fn scopes_that_run_in_turns_hold_their_modules() {
    let network = "x = input([4])
        a.one = linear(4) <- x
        b.one = linear(3) <- a.one
        a.two = linear(5) <- b.one";
    let text = module(testing::network(network).graph(), &unmarked("net")).unwrap();
    let own = lines(&text);
    assert!(own.contains(&"        self.a = Parts((\"one\", nn.Linear(4, 4)), (\"two\", nn.Linear(3, 5)))"), "{text}");
    assert!(own.contains(&"        x = self.a.two(x)  # [N, 5]"), "{text}");
    assert!(text.contains("class Parts(nn.Module):"), "{text}");
}

#[test]
fn equal_scopes_are_one_class_with_parameters() {
    let text = python(
        "block unit(out, stride = 1) { residual { c: conv2d(out, kernel = 3, stride = stride, padding = 1); b: batch_norm2d; conv2d(in.channels, kernel = 1) }; relu }
         network n { input image: [N, 4, 8, 8]; one: unit(8); two: unit(16); three: unit(8) }
         base n {}",
    );
    let text = text.unwrap();
    assert_eq!(text.matches("class Unit").count(), 1, "{text}");
    let made: Vec<&str> = lines(&text).into_iter().filter(|line| line.contains("Unit(")).collect();
    assert_eq!(made, ["        self.one = Unit(8)", "        self.two = Unit(16)", "        self.three = Unit(8)"]);
}

#[test]
fn a_layer_with_others_inside_it_is_refused() {
    let text = "x = input([4])\n a = linear(4) <- x\n a.b = linear(3) <- a";
    let problem = module(testing::network(text).graph(), &unmarked("net")).unwrap_err();
    assert!(problem.message.contains("`a` is a layer, and others lie inside it"), "{problem:?}");
}
