//! The cases of tests/suite: `.arch` texts that say in their comments what comes of them.
//!
//! A file holds cases, each begun by `=== what it shows`; further files of a case, for `use`, are begun by
//! `--- name.arch`. A file of weights is begun by `--- name.safetensors`, with a line for each tensor, `fc.weight [2, 4]`, whose
//! values count from 0; `--- name.pth` is that file of tests/data/pytorch. Lines that begin with `#!` say what is expected:
//!
//! ```text
//! #! error[shape-mismatch] 3:27 `conv1` needs [N, C, H, W], got [N, 2048]     every error and warning, in order,
//! #!   help replace the pooling ..                                            each with its label, edit, see, note, help
//! #! shape layer4[0] [N, 2048, 7, 7]                                          the output of a layer or scope
//! #! ledger 318 kept, 2 dropped (fc), ..
//! #! adapted                                                                  the tensors that `keeping` makes
//! #! values fc.weight 0 1 2 3                                                 the first values of a tensor
//! #! matched 20 1                                                             the places of each edit
//! #! changes +700400 +696000 +1517312                                         parameters, multiply-adds, activations
//! #! keys new                                                                 keys that the base has not, and that it has
//! #! dump                                                                     the layers that edits made or changed
//! #! set classes=37                                                           as the option --set
//! ```
//!
//! No error or warning may come that is not written down. `ARCHC_BLESS=1 cargo test --test it suite` writes what came
//! instead; read the difference before it is committed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use archc::Options;
use archc::stages::graph::{key, path};
use archc::stages::typed::Typed;
use safetensors::{Dtype, tensor::TensorView};

use crate::compiled::{self, Run};

const MARK: &str = "#!";
/// How many values of a tensor are told.
const VALUES: usize = 24;

#[test]
fn suite() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let mut files = vec![];
    collect(&root, &mut files);
    assert!(!files.is_empty(), "tests/suite has cases");
    let bless = std::env::var_os("ARCHC_BLESS").is_some();
    let only = std::env::var("ARCHC_SUITE").unwrap_or_default();
    let mut failures = String::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below the root").display().to_string();
        if !name.contains(&only) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let dir = || tempfile::tempdir().expect("a temporary folder");
        let came: String = cases(&text).into_iter().map(|case| run(case, dir().path())).collect();
        if came == text {
            continue;
        }
        if bless {
            std::fs::write(&file, came).expect("a writable file");
        } else {
            let _ = writeln!(failures, "{name}:\n{}", difference(&text, &came));
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// In the examples too every edit's costs are its own, and all of them lead from the base's to the edited network's.
#[test]
fn the_costs_of_examples_add_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files = vec![];
    collect(&root, &mut files);
    let mut compiled = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        if let Some(spec) = compiled::compile(&text, &root, &[]).compiled() {
            compiled::assert_the_changes_add_up(spec, &file.display().to_string());
            compiled += 1;
        }
    }
    assert!(compiled >= 10, "the examples compile: {compiled}");
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "arch") {
            files.push(entry);
        }
    }
}

/// The text split before each `===` line.
fn cases(text: &str) -> Vec<&str> {
    let starts = std::iter::once(0).chain(text.match_indices("\n=== ").map(|(at, _)| at + 1));
    let starts: Vec<usize> = starts.collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}

/// Runs one case in a folder and writes it as it should have been.
pub fn run(case: &str, dir: &Path) -> String {
    let is_mark = |line: &&str| line.starts_with(MARK);
    let marks: Vec<&str> = case.lines().filter(is_mark).map(|line| line[MARK.len()..].trim()).collect();
    let source: Vec<&str> = case.lines().filter(|line| !is_mark(line)).collect();
    let Some((title, body)) = source.split_first().filter(|(title, _)| title.starts_with("=== ")) else {
        return case.to_string();
    };
    let mut parts = vec![(String::new(), String::new())];
    for line in body {
        match line.strip_prefix("--- ") {
            Some(name) => parts.push((name.to_string(), String::new())),
            None => {
                let (_, text) = parts.last_mut().expect("never empty");
                *text += line;
                *text += if marks.contains(&"crlf") { "\r\n" } else { "\n" };
            }
        }
    }
    for (name, text) in &parts[1..] {
        let bytes = match name.rsplit_once('.') {
            Some((_, "safetensors")) => weights(text),
            Some((_, "pth")) => std::fs::read(checkpoints().join(name)).expect("a file of tests/data/pytorch"),
            _ => text.clone().into_bytes(),
        };
        std::fs::write(dir.join(name), bytes).expect("a writable folder");
    }
    let set: Vec<(String, String)> = marks
        .iter()
        .filter_map(|mark| mark.strip_prefix("set "))
        .filter_map(|option| option.split_once('='))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let result = compiled::compile(parts[0].1.trim_end_matches(['\n', '\r']), dir, &set);
    if let Some(compiled) = result.compiled() {
        compiled::assert_the_changes_add_up(compiled, title);
    }

    let mut out: Vec<String> = vec![];
    for mark in &marks {
        let (word, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        match word {
            "set" | "crlf" => out.push(mark.to_string()),
            "shape" => out.push(format!("shape {}", shape(&result, rest))),
            "values" => out.push(format!("values {}", values(&result, rest))),
            "ledger" => out.push(format!("ledger {}", ledger(&result))),
            "matched" => out.push(format!("matched {}", matched(&result))),
            "places" => out.push(format!("places {}", places(&result))),
            "changes" => out.push(format!("changes {}", changes(&result))),
            "notes" => out.push(format!("notes {}", notes(&result))),
            "keys" => out.push(format!("keys {}", keys(&result))),
            "adapted" => out.extend(std::iter::once("adapted".to_string()).chain(adapted(&result))),
            "dump" => out.extend(std::iter::once("dump".to_string()).chain(dump(&result))),
            _ => {}
        }
    }
    for mut lines in result.lines() {
        out.push(lines.remove(0));
        out.extend(lines.into_iter().map(|line| format!("  {line}")));
    }
    if out.is_empty() {
        out.push("ok".into());
    }
    let mut text = format!("{title}\n{}\n", body.join("\n").trim_end());
    out.into_iter().for_each(|line| text += &format!("{MARK} {}\n", line.trim_end()));
    text + if case.ends_with("\n\n") { "\n" } else { "" }
}

/// `layer4[0] [N, 2048, 7, 7]`; the first word of `mark` is the place.
fn shape(run: &Run, mark: &str) -> String {
    let place = mark.split_once(" [").map_or(mark, |(place, _)| place).trim_end_matches(" none").trim();
    let Some(compiled) = run.compiled() else { return format!("{place} none") };
    let graph = compiled.typed.graph();
    let node = graph.outputs().get(place).map(|output| output.node);
    let scope = graph.scopes("").find(|(scope, _)| path::display(scope) == place);
    let node = node
        .or_else(|| graph.ids().find(|id| path::display(&graph.node(*id).path) == place))
        .or_else(|| scope.and_then(|(_, scope)| scope.output));
    match node {
        Some(node) => format!("{place} {}", compiled.typed.shape(node)),
        None => format!("{place} none"),
    }
}

fn checkpoints() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pytorch")
}

/// A file of the tensors that the lines of `text` tell, `KEY [SHAPE]`.
fn weights(text: &str) -> Vec<u8> {
    let tensor = |line: &str| {
        let (key, shape) = line.split_once(" [").expect("a key, a blank and a shape");
        let dims = shape.trim_end_matches(']').split(',').map(str::trim).filter(|dim| !dim.is_empty());
        let shape: Vec<usize> = dims.map(|dim| dim.parse().expect("a dimension")).collect();
        let values = (0..shape.iter().product::<usize>()).flat_map(|at| (at as f32).to_le_bytes()).collect();
        (key.to_string(), shape, values)
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> =
        text.lines().filter(|line| !line.is_empty()).map(tensor).collect();
    let views = tensors.iter().map(|(key, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many values as the shape has");
        (key.clone(), view)
    });
    safetensors::serialize(views, None).expect("a file of tensors")
}

/// `fc.weight 0 1 2 3`; the first word of `mark` is the key.
fn values(run: &Run, mark: &str) -> String {
    let key = mark.split(' ').next().unwrap_or_default();
    let Some(model) = &run.model else { return format!("{key} none") };
    let (bound, _) = model.bind(&Options::default()).expect("it was checked");
    let (values, _) = bound.read_key(key).expect("a tensor that can be read");
    let shown: Vec<String> = values.iter().take(VALUES).map(f32::to_string).collect();
    format!("{key} {}", shown.join(" "))
}

fn matched(run: &Run) -> String {
    let reports = run.compiled().into_iter().flat_map(|compiled| &compiled.reports);
    reports.map(|report| report.matched.len().to_string()).collect::<Vec<_>>().join(" ")
}

fn places(run: &Run) -> String {
    let reports = run.compiled().into_iter().flat_map(|compiled| &compiled.reports);
    reports.map(|report| report.matched.join(", ")).collect::<Vec<_>>().join(" | ")
}

/// Parameters, multiply-adds and activations of each edit.
fn changes(run: &Run) -> String {
    let reports = run.compiled().into_iter().flat_map(|compiled| &compiled.reports);
    let change = |report: &archc::stages::edit::Report| {
        format!("{:+} {:+} {:+}", report.parameters, report.macs, report.activations)
    };
    reports.map(change).collect::<Vec<_>>().join(" | ")
}

fn notes(run: &Run) -> String {
    let reports = run.compiled().into_iter().flat_map(|compiled| &compiled.reports);
    reports.flat_map(|report| report.notes.iter().map(ToString::to_string)).collect::<Vec<_>>().join(" | ")
}

/// What becomes of the weights, in a line.
fn ledger(run: &Run) -> String {
    run.model.as_ref().map_or("none".into(), |model| model.ledger().expect("it was checked").to_string())
}

fn adapted(run: &Run) -> Vec<String> {
    let ledger = run.model.as_ref().map(|model| model.ledger().expect("it was checked"));
    ledger.into_iter().flat_map(|ledger| ledger.adapted).map(|tensor| format!("  | {tensor}")).collect()
}

/// `+` keys that the base has not, `-` those that it has and the edited network has not.
fn keys(run: &Run) -> String {
    let Some(compiled) = run.compiled() else { return "none".into() };
    let (base, edited) = (keys_of(&compiled.base), keys_of(&compiled.typed));
    let new = edited.iter().filter(|key| !base.contains(key)).map(|key| format!("+{key}"));
    let gone = base.iter().filter(|key| !edited.contains(key)).map(|key| format!("-{key}"));
    new.chain(gone).collect::<Vec<_>>().join(" ")
}

/// The keys of a network's tensors, in running order.
fn keys_of(typed: &Typed) -> Vec<String> {
    let owners = typed.order().iter().filter(|id| typed.graph().node(**id).tied.is_none());
    owners
        .flat_map(|id| {
            let node = typed.graph().node(*id);
            typed.params(*id).into_iter().map(|param| key(&node.path, param.name))
        })
        .collect()
}

/// The lines of the graph that the base has not.
fn dump(run: &Run) -> Vec<String> {
    let Some(compiled) = run.compiled() else { return vec![] };
    let base = compiled.base.graph().to_string();
    let base: Vec<&str> = base.lines().collect();
    let edited = compiled.typed.graph().to_string();
    edited.lines().filter(|line| !base.contains(line)).map(|line| format!("  | {line}")).collect()
}

/// The lines that differ, with the title of their case.
fn difference(wanted: &str, came: &str) -> String {
    let mut text = String::new();
    for (wanted, came) in cases(wanted).into_iter().zip(cases(came)).filter(|(wanted, came)| wanted != came) {
        let _ = writeln!(text, "  {}", wanted.lines().next().unwrap_or(""));
        let missing = wanted.lines().filter(|line| !came.lines().any(|other| other == *line));
        let extra = came.lines().filter(|line| !wanted.lines().any(|other| other == *line));
        missing.for_each(|line| text += &format!("    expected {line}\n"));
        extra.for_each(|line| text += &format!("    came     {line}\n"));
    }
    text
}
