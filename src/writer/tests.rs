//! What is written makes the same network again: `write` tries that itself, so that each of these is a network that it must
//! not fail on, with something that its text must say.

use proptest::prelude::*;

use super::{About, write};
use crate::compile::{Compiled, Outcome, compile};
use crate::diag::render;
use crate::graph::{Graph, NewNode, NodeId, OWN_OUTPUT, Patch, Scope};
use crate::ops::attr::{Arg, Attr};
use crate::ops::constant::Input;
use crate::ops::{self, Op};
use crate::source::{FileId, Sources, Span};

fn compiled(spec: &str) -> Compiled {
    let mut sources = Sources::new();
    let file = sources.add("spec.arch", spec, None);
    match compile(&mut sources, file, &[]) {
        Ok(Outcome::Spec(compiled)) => *compiled,
        Ok(Outcome::Library) => panic!("no base:\n{spec}"),
        Err(problems) => panic!("{}", render(&problems, &sources, false)),
    }
}

/// The text of the network of a spec.
fn written(spec: &str) -> String {
    let compiled = compiled(spec);
    match write(compiled.typed.graph(), &About { name: "again", ..About::default() }) {
        Ok(text) => text,
        Err(problem) => panic!("{}\n{}", problem.message, problem.all_notes().collect::<Vec<_>>().join("\n")),
    }
}

/// The lines of the network's braces and of blocks, without the first and the last line of the file.
fn lines(spec: &str) -> Vec<String> {
    written(spec).lines().skip(2).map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn statements_are_written_as_a_person_writes_them() {
    let input = "input image: [N, 3, 8, 8]";
    // the body of a network, and what is written of it
    let cases: &[(&str, &[&str])] = &[
        (
            "conv2d(4, kernel = 3, padding = 1); relu; flatten; linear(2)",
            &["conv2d(4, kernel = 3, padding = 1)", "relu", "flatten", "linear(2)"],
        ),
        // names only where they are needed
        (
            "let a = in -> conv2d(4, kernel = 1); let b = in -> conv2d(4, kernel = 1); a * b",
            &["conv2d: conv2d(4, kernel = 1)", "in -> conv2d(4, kernel = 1)", "conv2d * prev"],
        ),
        // residuals
        (
            "conv2d(3, kernel = 1); residual { relu; conv2d(3, kernel = 1) }; residual { relu } shortcut { sigmoid }",
            &[
                "conv2d(3, kernel = 1)",
                "residual { relu; conv2d(3, kernel = 1) }",
                "residual { relu } shortcut { sigmoid }",
            ],
        ),
        // arithmetic with numbers
        (
            "1 - in * 0.5; prev / 3 + 2; -prev; prev ** 2",
            &["in * 0.5", "1.0 - prev", "prev / 3.0", "prev + 2.0", "neg", "pow(2.0)"],
        ),
        // parts of a chunk
        (
            "conv2d(4, kernel = 1); let a, b = prev -> chunk(2); a * (b -> sigmoid)",
            &[
                "conv2d(4, kernel = 1)",
                "let chunk_0, chunk_1 = prev -> chunk(2)",
                "chunk_1 -> sigmoid",
                "chunk_0 * prev",
            ],
        ),
        // numbered scopes, whose entries have no names
        (
            "features: seq { conv2d(4, kernel = 1); relu }; let x = prev; sigmoid; prev * x",
            &["features: seq { conv2d(4, kernel = 1); relu }", "sigmoid", "prev * features"],
        ),
        (
            "features: seq { conv2d(4, kernel = 1); let x = prev; sigmoid; prev * x }",
            &["features: seq { conv2d(4, kernel = 1); let conv = prev; sigmoid; prev * conv }"],
        ),
        // labels that are no names
        ("\"block1-0\": { relu; \"0\": relu }; \"if\": relu", &["\"block1-0\": { relu; \"0\": relu }", "\"if\": relu"]),
        // what lies in a scope
        ("a: { b: relu; sigmoid }; prev + a.b", &["a: { b: relu; sigmoid }", "prev + a.b"]),
        // tables
        (
            "shift: parameter([3, 1, 1], init = normal(0.02)); in + shift",
            &["shift: parameter([3, 1, 1], init = normal(0.02))", "in + shift"],
        ),
        (
            "relu; output aux = prev -> side: conv2d(2, kernel = 1); flatten",
            &["relu: relu", "side: conv2d(2, kernel = 1)", "(relu) -> flatten", "output aux = side"],
        ),
        (
            "mlp: { conv2d(3, kernel = 1); relu }; tied(mlp); again: tied(mlp)",
            &["mlp: { conv2d(3, kernel = 1); relu }", "mlp_1: tied(mlp)", "again: tied(mlp)"],
        ),
    ];
    for (body, wanted) in cases {
        let spec = format!("network n {{ {input}; {body} }}\nbase n\n");
        let lines = lines(&spec);
        let (first, last) = ("network again {", "}");
        assert_eq!((lines[0].as_str(), lines[lines.len() - 1].as_str()), (first, last), "{body}");
        assert_eq!(lines[1], input, "{body}");
        assert_eq!(&lines[2..lines.len() - 1], *wanted, "{body}");
    }
}

#[test]
fn what_comes_again_is_written_once() {
    let spec = "
        block unit(width, stride = 1) {
            residual {
                conv1: conv2d(width, kernel = 3, stride = stride, padding = 1, bias = false)
                bn1:   batch_norm2d
                relu
                conv2: conv2d(4 * width, kernel = 1, bias = false)
                bn2:   batch_norm2d
            } shortcut if stride != 1 or in.channels != 4 * width {
                downsample: seq { conv2d(4 * width, kernel = 1, stride = stride, bias = false); batch_norm2d }
            }
            relu
        }
        network n {
            input image: [N, 3, 64, 64]
            for stage in 0..3 {
                \"layer{stage + 1}\": seq { for i in 0..3 { unit(8 * 2 ** stage, stride = if i == 0 then 2 else 1) } }
            }
        }
        base n";
    let text = written(spec);
    assert_eq!(text.matches("block ").count(), 1, "{text}");
    assert_eq!(text.matches("conv1: ").count(), 1, "{text}");
    assert!(text.contains("block unit(out, stride = 1) {") || text.contains("block unit(out, stride = 2) {"), "{text}");
    assert!(text.contains("} shortcut if in.channels != 4 * out {"), "{text}");
    assert!(text.lines().count() < 30, "{text}");
}

#[test]
fn scopes_that_run_in_turns_have_labels_that_are_paths() {
    let text = written(
        "network n {
            input x: [N, 8]
            blocks[0]: { fc: linear(8); relu }
            norms[0]: layer_norm
            blocks[1]: { fc: linear(8); relu }
            norms[1]: layer_norm
            prev + blocks[0].fc
        }
        base n",
    );
    assert!(text.contains("blocks[0].fc"), "{text}");
    assert!(text.contains("norms[1]: layer_norm"), "{text}");
}

#[test]
fn several_inputs_have_names() {
    let text = written(
        "network n { input left: [N, 8]; input right: [N, 8]; (left -> fc: linear(8)) + (right -> tied(fc)) }\nbase n",
    );
    assert!(text.contains("left -> fc: linear(8)"), "{text}");
    assert!(text.contains("right -> tied(fc)"), "{text}");
}

#[test]
fn what_the_language_has_no_words_for_is_an_error() {
    // a layer with another one inside it
    let mut graph = Graph::new();
    let made: Result<(), ()> = graph.patch(|patch| {
        let x = add(patch, "x", Input { shape: vec![8] }.into(), &[]);
        patch.add_input("x", x);
        let a = add(patch, "a", op("relu"), &[x]);
        let b = add(patch, "a.b", op("relu"), &[a]);
        patch.set_output(OWN_OUTPUT, b, None);
        Ok(())
    });
    made.expect("nothing in it fails");
    let problem = write(&graph, &About { name: "n", ..About::default() }).expect_err("there is no such text");
    assert!(problem.message.contains("`a` is a layer, and others lie inside it"), "{}", problem.message);
}

fn op(name: &str) -> Op {
    let args = if name == "linear" { vec![Arg { name: None, value: Attr::Int(8) }] } else { vec![] };
    (ops::find(name).expect("an op").make)(&args).expect("the arguments fit")
}

fn add(patch: &mut Patch, path: &str, op: Op, operands: &[NodeId]) -> NodeId {
    patch.add(NewNode { path: path.into(), op, operands: operands.to_vec(), span: Span::new(FileId(0), 0, 0) })
}

/// A network of layers that take any of those before them, in scopes that know nothing of each other.
fn random(layers: &[(u8, usize, usize, usize)]) -> Graph {
    const SCOPES: [&str; 6] = ["", "a", "a.0", "a.1", "b.c", "3"];
    let mut graph = Graph::new();
    let made: Result<(), ()> = graph.patch(|patch| {
        let x = add(patch, "x", Input { shape: vec![8] }.into(), &[]);
        patch.add_input("x", x);
        let mut made = vec![x];
        for (kind, scope, one, other) in layers {
            let before = |at: usize| made[made.len() - 1 - at.min(made.len() - 1) % made.len()];
            let (name, operands) = match kind % 4 {
                0 => ("linear", vec![before(*one)]),
                1 => ("relu", vec![before(*one)]),
                2 => ("add", vec![before(*one), before(*other)]),
                _ => ("mul", vec![before(*one), before(*other)]),
            };
            let path = patch.free_path(SCOPES[scope % SCOPES.len()], name);
            made.push(add(patch, &path, op(name), &operands));
        }
        // what nothing takes would be left out
        let ends: Vec<NodeId> =
            made.iter().copied().filter(|id| patch.readers(*id).next().is_none() && *id != x).collect();
        let mut sum = ends.first().copied().unwrap_or(x);
        for end in ends.iter().skip(1) {
            let path = patch.free_path("", "add");
            sum = add(patch, &path, op("add"), &[sum, *end]);
        }
        if sum == x {
            sum = add(patch, "relu", op("relu"), &[x]);
        }
        let span = Span::new(FileId(0), 0, 0);
        for (at, scope) in SCOPES.iter().enumerate() {
            let is_there = patch.layers(scope).next().is_some();
            if is_there && at % 2 == 0 {
                let scope_of =
                    Scope { block: None, numbered: false, input: None, output: None, additions: vec![], span };
                patch.add_scope(scope, scope_of);
            }
        }
        patch.set_output(OWN_OUTPUT, sum, None);
        Ok(())
    });
    made.expect("nothing in it fails");
    graph
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_network_can_be_written(layers in prop::collection::vec((0u8..4, 0usize..6, 0usize..5, 0usize..9), 1..24)) {
        let graph = random(&layers);
        let text = write(&graph, &About { name: "n", ..About::default() });
        prop_assert!(text.is_ok(), "{}\n{:?}", graph, text.err().map(|one| (one.message.clone(), one.all_notes().map(|note| note.into_owned()).collect::<Vec<_>>())));
    }
}
