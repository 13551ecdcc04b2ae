//! `cargo bench --bench limits [-- TEXT]`: how long `archc` takes on networks and specs near its limits, at half the size
//! and at the whole, so that work that does not grow in proportion shows: a case that grows in proportion takes twice as
//! long (the start of a process, some milliseconds, counted).
//!
//! Without `--bench`, as under `cargo test`, every case runs once at a small size and ends as it should.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a case gives `archc`, and what it must end with.
struct Case {
    name: String,
    /// The command and its options; the spec is the last argument, or the last two.
    command: &'static [&'static str],
    /// How much of it there is at the whole size: layers, lines, or places.
    size: usize,
    spec: Box<dyn Fn(usize) -> String>,
    status: i32,
}

/// No network has more than 100,000 layers.
const LAYERS: usize = 90_000;
/// The layers of the network that is edited, and the edits.
const EDITED: usize = 20_000;
const EDITS: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = tempfile::tempdir()?;
    let is_bench = args.iter().any(|arg| arg == "--bench");
    let filter = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    if is_bench {
        println!("{:<44} {:>7} {:>9} {:>9} {:>7} {:>13}", "", "size", "half", "whole", "growth", "of a unit");
    }
    for case in cases().iter().filter(|case| case.name.contains(filter)) {
        if !is_bench {
            run(case, case.size / 250, dir.path())?;
            continue;
        }
        let half = best(case, case.size / 2, dir.path())?.as_secs_f64();
        let whole = best(case, case.size, dir.path())?.as_secs_f64();
        println!(
            "{:<44} {:>7} {:>7.0}ms {:>7.0}ms {:>6.2}x {:>10.2} us",
            case.name,
            case.size,
            half * 1e3,
            whole * 1e3,
            whole / half,
            whole / case.size as f64 * 1e6
        );
    }
    Ok(())
}

/// The shorter of two runs.
fn best(case: &Case, size: usize, dir: &Path) -> Result<Duration, Box<dyn Error>> {
    Ok(run(case, size, dir)?.min(run(case, size, dir)?))
}

fn run(case: &Case, size: usize, dir: &Path) -> Result<Duration, Box<dyn Error>> {
    let spec = dir.join("spec.arch");
    std::fs::write(&spec, (case.spec)(size))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.args(case.command).arg(&spec).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if case.command[0] == "diff" {
        let other = dir.join("other.arch");
        std::fs::write(&other, chain(EDITED * size / case.size))?;
        command.arg(&other);
    }
    let start = Instant::now();
    let status = command.status()?;
    let taken = start.elapsed();
    match status.code() {
        Some(code) if code == case.status => Ok(taken),
        _ => Err(format!("{} at {size}: expected exit status {}, got {status}", case.name, case.status).into()),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (name, body) in networks() {
        let spec = Box::new(move |n: usize| network("net", &body(n)) + "base net\n");
        cases.push(Case { name: name.into(), command: &["check"], size: LAYERS, spec, status: 0 });
    }
    for (name, text) in faulty() {
        cases.push(Case { name: name.into(), command: &["check"], size: 10_000, spec: Box::new(text), status: 1 });
    }
    // one statement of many places
    for (verb, statement) in wide_edits() {
        let spec = Box::new(move |n: usize| chain(n) + statement + "\n");
        let name = format!("many places: {verb}");
        cases.push(Case { name, command: &["check"], size: EDITED, spec, status: 0 });
    }
    // many statements of a place each, on a network that grows with them
    let many = |edit: fn(usize) -> String| {
        move |n: usize| chain(n * (EDITED / EDITS)) + &(0..n).map(|at| edit(10 * at) + "\n").collect::<String>()
    };
    for (verb, edit) in narrow_edits() {
        let name = format!("many edits: {verb}");
        cases.push(Case { name, command: &["check"], size: EDITS, spec: Box::new(many(edit)), status: 0 });
    }
    let commands: [(&str, &'static [&'static str], i32); 6] = [
        ("plan", &["plan"], 0),
        ("plan --json", &["plan", "--json"], 0),
        ("show", &["show"], 0),
        ("show --json", &["show", "--json"], 0),
        ("diff", &["diff"], 1),
        ("check --json", &["check", "--json"], 0),
    ];
    for (name, command, status) in commands {
        let spec = Box::new(many(|at| format!("insert linear(8) after r{at}")));
        cases.push(Case { name: format!("command: {name}"), command, size: EDITS, spec, status });
    }
    cases
}

fn network(name: &str, body: &str) -> String {
    format!("network {name} {{\ninput x: [N, 8]\n{body}}}\n")
}

/// A spec with the base `l0 -> r0 -> l1 -> r1 ..` of `n` layers.
fn chain(n: usize) -> String {
    let body = format!("for i in 0..{} {{ \"l{{i}}\": linear(8); \"r{{i}}\": relu }}\n", n / 2);
    network("net", &body) + "base net\n"
}

type Text = fn(usize) -> String;

/// Networks of `n` layers, or about as many.
fn networks() -> [(&'static str, Text); 12] {
    [
        ("lines", |n| "linear(8)\n".repeat(n)),
        ("labelled lines", |n| (0..n).map(|at| format!("l{at}: linear(8)\n")).collect()),
        ("one chain", |n| (0..n / 50).map(|_| vec!["linear(8)"; 50].join(" -> ") + "\n").collect()),
        ("loop", |n| format!("for i in 0..{n} {{ linear(8) }}\n")),
        ("loop with labels", |n| format!("for i in 0..{n} {{ \"l{{i}}\": linear(8) }}\n")),
        ("loop with lets", |n| format!("for i in 0..{n} {{ let a = 8; let b = a; \"l{{i}}\": linear(b) }}\n")),
        ("lets", |n| (0..n / 2).map(|at| format!("let v{at} = prev -> linear(8)\nv{at} -> relu\n")).collect()),
        ("lines and functions", |n| (0..n / 2).map(|at| format!("let f{at}(c) = 8 * c\nlinear(f{at}(1))\n")).collect()),
        ("seq", |n| format!("features: seq {{ for i in 0..{n} {{ linear(8) }} }}\n")),
        ("scopes", |n| format!("for i in 0..{} {{ \"s{{i}}\": seq {{ linear(8); {{ linear(8) }} }} }}\n", n / 2)),
        ("residuals", |n| format!("for i in 0..{} {{ residual {{ linear(8) }} }}\n", n / 2)),
        ("one value for all", |n| format!("for i in 0..{} {{ prev + (x -> linear(8)) }}\n", n / 2)),
    ]
}

/// Specs whose every line is wrong.
fn faulty() -> [(&'static str, Text); 4] {
    [
        ("mistakes: the same let", |n| "let x = y\n".repeat(n)),
        ("mistakes: lets of unknown names", |n| (0..n).map(|at| format!("let x{at} = y{at}z\n")).collect()),
        ("mistakes: in a network", |n| network("net", &"unknown\n".repeat(n)) + "base net\n"),
        ("mistakes: edits", |n| chain(n) + &(0..n).map(|at| format!("remove nothing{at}\n")).collect::<String>()),
    ]
}

fn wide_edits() -> [(&'static str, &'static str); 14] {
    [
        ("replace", "replace **:relu with gelu"),
        ("replace by several", "replace r* with { relu; dropout(0.5) }"),
        ("insert before", "insert relu before **:linear"),
        ("insert after", "insert dropout(0.5) after **"),
        ("insert at", "insert relu at **:linear"),
        ("insert beside", "insert linear(8) beside **:linear"),
        ("remove", "remove **:relu"),
        ("residual around", "residual around **:linear"),
        ("set", "set **:linear { bias = false }"),
        ("set where", "set **:linear where bias and out == 8 { bias = false }"),
        ("freeze", "freeze all"),
        ("unfreeze", "freeze all\nunfreeze all"),
        ("init", "init l* with zeros"),
        ("cut", "cut after l0"),
    ]
}

/// The text of an edit of the place of number `at`.
type Narrow = fn(usize) -> String;

/// Edits of the place of number `at`, of which each tenth is edited.
fn narrow_edits() -> [(&'static str, Narrow); 19] {
    [
        ("replace", |at| format!("replace r{at} with gelu")),
        ("replace as", |at| format!("replace r{at} with gelu -> relu as n{at}")),
        ("insert before", |at| format!("insert relu before l{at}")),
        ("insert after", |at| format!("insert relu after r{at}")),
        ("insert after a range", |at| format!("insert relu after l{at}..=r{}", at + 1)),
        ("insert after some", |at| format!("insert relu after l{at}, l{}, l{}", at + 1, at + 2)),
        ("insert at", |at| format!("insert relu at l{at}")),
        ("insert beside", |at| format!("insert linear(8) beside l{at}")),
        ("remove", |at| format!("remove r{at}")),
        ("residual around", |at| format!("residual around l{at}")),
        ("connect", |at| format!("connect l{at} to l{} with add", at + 5)),
        ("append, prepend", |at| format!("append linear(8) as a{at}\nprepend linear(8) as p{at}")),
        ("output", |at| format!("output o{at} = l{at}")),
        ("set", |at| format!("set l{at} {{ bias = false }}")),
        ("rename", |at| format!("rename l{at} to renamed.m{at}")),
        ("tie", |at| format!("tie l{at} to l{}", at + 1)),
        ("freeze, unfreeze", |at| format!("freeze l{at}\nunfreeze l{at}")),
        ("init", |at| format!("init l{at} with zeros")),
        ("by a glob", |at| format!("set *l{at} {{ bias = false }}")),
    ]
}
