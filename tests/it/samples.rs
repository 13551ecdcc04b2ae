//! Networks that draw at inference: what `run --samples` prints and writes, that it depends on the seed alone, and what is
//! said where nothing is drawn or a single sample is taken.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use archc::Tensor;
use archc::stages::io::npy;
use archc::stages::io::tensors::{Loaded, load};
use serde_json::Value;

fn archc(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(dir).args(args).env("NO_COLOR", "1").stdin(Stdio::null()).output().expect("archc starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that works prints, and what it says.
fn ok(dir: &Path, args: &[&str]) -> (String, String) {
    let output = archc(dir, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).expect("a writable folder"));
    dir
}

fn tensor(dir: &Path, file: &str, name: &str) -> Tensor {
    match load(&dir.join(file), name).expect("a readable file") {
        Loaded::Float(tensor) => tensor,
        Loaded::Pictures(_) => panic!("{file} holds floats"),
    }
}

fn array(dir: &Path, name: &str, tensor: &Tensor) {
    std::fs::write(dir.join(name), npy::write(tensor)).expect("a writable folder");
}

/// Six rows, each of other values.
fn rows(width: usize) -> Tensor {
    Tensor::new([6, width], (0..6 * width).map(|at| 1.0 + (at / width) as f32).collect())
}

/// A network whose dropouts an edit turns on.
const EDITED: &str = "network n { input x: [N, 64]; linear(32); relu; drop: dropout(0.3); fc: linear(5) }
base n
set **:dropout { always = true }
";

#[test]
fn samples_depend_on_the_seed_and_on_nothing_else() {
    let dir = folder(&[("n.arch", EDITED)]);
    array(dir.path(), "x.npy", &rows(64));
    let weights = ["export", "n.arch", "--to", "safetensors", "--output", "w.safetensors"];
    ok(dir.path(), &weights);
    let run = |name: &str, more: &[&str]| {
        let given = ["run", "n.arch", "--weights", "w.safetensors", "--input", "x.npy", "--output", name];
        ok(dir.path(), &[&given[..], more].concat());
        let of = |output| tensor(dir.path(), name, output).into_data();
        [of("output"), of("output.std")]
    };
    let first = run("a.safetensors", &["--samples", "20"]);
    assert!(first[1].iter().all(|std| *std > 0.0), "{first:?}");
    let same: [&[&str]; 4] = [&[], &["--batch", "4"], &["--batch", "1", "--threads", "1"], &["--seed", "0"]];
    for more in same {
        assert_eq!(run("b.safetensors", &[&["--samples", "20"], more].concat()), first, "{more:?}");
    }
    assert_ne!(run("c.safetensors", &["--samples", "20", "--seed", "1"]), first);
    assert_ne!(run("c.safetensors", &["--samples", "21"]), first);
}

#[test]
fn a_run_without_samples_takes_the_first_and_says_so() {
    let dir = folder(&[("n.arch", "network n { input [N, 64]; dropout(0.5, always = true) }\nbase n\n")]);
    array(dir.path(), "x.npy", &rows(64));
    let run = |name: &str, more: &[&str]| {
        let said = ok(dir.path(), &[&["run", "n.arch", "--input", "x.npy", "--output", name], more].concat()).1;
        (tensor(dir.path(), name, "output").into_data(), said)
    };
    let (first, said) = run("a.npy", &[]);
    let note = "note: 1 layer draws at inference, and this is one sample, of seed 0: `--samples 20` gives";
    assert!(said.contains(note), "{said}");
    // all rows are drawn alike, and what is kept is doubled
    assert_eq!(
        first.iter().take(64).filter(|value| **value != 0.0).count(),
        first.iter().take(64).filter(|value| **value == 2.0).count()
    );
    for row in 1..6 {
        let kept = |row: usize| first[row * 64..][..64].iter().map(|value| *value == 0.0).collect::<Vec<_>>();
        assert_eq!(kept(row), kept(0), "row {row}");
    }
    assert_eq!(run("b.npy", &[]).0, first);
    let (other, said) = run("c.npy", &["--seed", "7"]);
    assert!(other != first && said.contains("of seed 7"), "{said}");
}

/// The mean of what is dropped is what goes in, and its standard deviation x sqrt(p / (1 - p)), by values, channels and samples.
#[test]
fn means_and_deviations_are_those_of_the_distribution() {
    let network = |op: &str| format!("network n {{ input [N, 3, 4, 5]; {op} }}\nbase n\n");
    for (op, p) in [
        ("dropout(0.2, always = true)", 0.2f64),
        ("dropout2d(0.5, always = true)", 0.5),
        ("stochastic_depth(0.3, always = true)", 0.3),
    ] {
        let dir = folder(&[("n.arch", &network(op))]);
        array(dir.path(), "x.npy", &Tensor::new([2, 3, 4, 5], vec![2.0; 120]));
        for more in [&[][..], &["--dtype", "bf16"]] {
            let given = ["run", "n.arch", "--input", "x.npy", "--samples", "4000", "--output", "y.safetensors"];
            ok(dir.path(), &[&given[..], more].concat());
            let [mean, std] = ["output", "output.std"].map(|name| tensor(dir.path(), "y.safetensors", name));
            assert_eq!((mean.shape(), std.shape()), (&[2, 3, 4, 5][..], &[2, 3, 4, 5][..]));
            let want = 2.0 * (p / (1.0 - p)).sqrt();
            // five standard errors, and what bf16 leaves of 2 / (1 - p)
            let near = 5.0 * want / 4000f64.sqrt() + 0.01;
            for (mean, std) in mean.data().iter().zip(std.data()) {
                assert!((f64::from(*mean) - 2.0).abs() < near, "{op}: mean {mean}");
                assert!((f64::from(*std) - want).abs() < near, "{op}: deviation {std}, not {want}");
            }
        }
    }
}

#[test]
fn what_is_told_has_a_deviation_beside_it() {
    let classifier = "network n { input [N, 3, 8, 8]; flatten; dropout(0.5, always = true); fc: linear(4) }\nbase n\n";
    let regression = "network n { input [N, 3, 8, 8]; flatten; dropout(0.5, always = true); fc: linear(1) }\nbase n\n";
    let pixels = "network n { input [N, 3, 8, 8]; dropout(0.5, always = true); conv2d(3, kernel = 1); softmax(axis = 1) }\nbase n\n";
    let dir = folder(&[("classes.arch", classifier), ("number.arch", regression), ("pixels.arch", pixels)]);
    let picture: Vec<u8> = (0..8 * 8 * 3).map(|at| (at * 7 % 256) as u8).collect();
    let png = archc::stages::io::png::encode(&picture, 8, 8, 3).expect("a picture");
    std::fs::write(dir.path().join("a.png"), png).expect("a writable folder");
    let run = |spec: &str| {
        let given = ["run", spec, "--input", "a.png", "--samples", "20", "--output", "y.json", "--output", "y.csv"];
        let (told, _) = ok(dir.path(), &given);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
        (told, serde_json::from_str::<Value>(&read("y.json")).expect("JSON"), read("y.csv"))
    };
    let (told, json, csv) = run("classes.arch");
    assert_eq!(told.lines().filter(|line| line.contains(" % ") && line.contains(" +- ")).count(), 4, "{told}");
    let sum: f64 = json[0]["top"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["probability"].as_f64().expect("a number"))
        .sum();
    assert!((sum - 1.0).abs() < 1e-5 && json[0]["top"][0]["std"].as_f64() > Some(0.0), "{json}");
    assert!(csv.starts_with("file,rank,index,label,probability,std\n"), "{csv}");
    let (told, json, csv) = run("number.arch");
    assert!(told.lines().nth(1).is_some_and(|line| line.contains(" +- ")), "{told}");
    assert!(json[0]["std"][0].as_f64() > Some(0.0), "{json}");
    assert!(csv.starts_with("file,index,label,value,std\n"), "{csv}");
    let (told, json, csv) = run("pixels.arch");
    assert!(told.contains(" +- "), "{told}");
    assert!(json[0]["found"][0]["std"].is_number() && csv.starts_with("file,index,label,share,std\n"), "{json}");
    // noise has no classes: outputs are summed up
    let (told, _) = ok(dir.path(), &["run", "classes.arch", "--samples", "20"]);
    assert!(told.contains("\n  standard deviation  min "), "{told}");
}

#[test]
fn samples_of_a_network_that_draws_nothing_are_refused() {
    let dir = folder(&[
        ("plain.arch", "network n { input [N, 8]; drop: dropout(0.2); fc: linear(2) }\nbase n\n"),
        ("zero.arch", "network n { input [N, 8]; dropout(0, always = true); fc: linear(2) }\nbase n\n"),
        ("none.arch", "network n { input [N, 8]; fc: linear(2) }\nbase n\n"),
        ("always.arch", "network n { input [N, 8]; dropout(0.2, always = true); fc: linear(2) }\nbase n\n"),
    ]);
    let said = |args: &[&str]| {
        let output = archc(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        text(&output.stderr)
    };
    let plain = said(&["run", "plain.arch", "--samples", "20"]);
    assert!(plain.contains("no layer of the network draws at inference: all samples would be the same"), "{plain}");
    assert!(plain.contains("`drop`") && plain.contains("set **:dropout { always = true }"), "{plain}");
    for name in ["zero.arch", "none.arch"] {
        let none = said(&["run", name, "--samples", "20"]);
        assert!(none.contains("insert dropout(0.1, always = true) before T"), "{none}");
    }
    // a deviation of one, and as many as nobody can wait for
    for count in ["1", "0", "many", "99999999999999999999"] {
        let wrong = said(&["run", "always.arch", "--samples", count]);
        assert!(wrong.contains("expected a number from 2 to 1000000") || wrong.contains("--samples"), "{wrong}");
    }
    // one array holds no deviations beside the means
    let output = archc(dir.path(), &["run", "always.arch", "--samples", "3", "--output", "y.npy"]);
    assert!(!output.status.success() && text(&output.stderr).contains("`output.std`"), "{}", text(&output.stderr));
}

#[test]
fn networks_of_the_zoo_draw_by_an_edit() {
    let spec = "base mobilenet_v2 { input [N, 3, 64, 64] }\nset **:dropout { always = true }\n";
    let dir = folder(&[("m.arch", spec)]);
    let given = ["run", "m.arch", "--samples", "3", "--batch", "2", "--output", "y.safetensors"];
    let (told, _) = ok(dir.path(), &given);
    assert!(told.contains("output  f32  [2, 1000]") && told.contains("standard deviation"), "{told}");
    let std = tensor(dir.path(), "y.safetensors", "output.std");
    assert!(std.data().iter().all(|std| std.is_finite()) && std.data().iter().any(|std| *std > 0.0));
    let drift = ok(dir.path(), &["plan", "m.arch", "--drift"]).1;
    assert!(drift.contains("1 layer draws at inference, and this is one sample"), "{drift}");
}

/// An input may be called as one likes.
#[test]
fn inputs_called_clock_and_target_are_inputs() {
    let spec = "network n { input clock: [N, 6]; input target: [N, 6]; add(clock, target); dropout(0.5, always = true); fc: linear(2) }\nbase n\n";
    let dir = folder(&[("n.arch", spec)]);
    let (told, _) = ok(dir.path(), &["run", "n.arch", "--samples", "4"]);
    assert!(told.contains("output  f32  [1, 2]"), "{told}");
}
