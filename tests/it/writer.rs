//! Networks as text: every one of the zoo is written and read again, and no longer than a person writes it.

use std::fmt::Write;

use archc::Spec;
use archc::stages::zoo;
use rayon::prelude::*;

/// The networks whose figures are held.
const HELD: &[&str] = &[
    "resnet50",
    "resnet152",
    "densenet121",
    "efficientnet_b0",
    "mobilenet_v3_large",
    "googlenet",
    "swin_t",
    "vit_b_16",
    "maxvit_t",
    "fcn_resnet50",
];
/// How many times the lines of the zoo's file a text may have.
const TIMES: usize = 2;

#[test]
fn every_network_of_the_zoo_is_written_and_read_again() {
    let networks = zoo::networks();
    let fault = |(name, _): &(&str, _)| {
        let model = Spec::from_text(format!("base {name}\n")).compile().expect("the zoo compiles");
        model.arch().err().map(|error| format!("{name}: {error}"))
    };
    let failed: Vec<String> = networks.par_iter().filter_map(fault).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), networks.len(), failed.join("\n"));
}

#[test]
fn texts_are_about_as_long_as_a_person_writes_them() {
    let lines = |text: &str| text.lines().filter(|line| !line.trim().is_empty()).count();
    let (mut table, mut is_long) = (String::new(), false);
    for name in HELD {
        let model = Spec::from_text(format!("base {name}\n")).compile().expect("the zoo compiles");
        let text = model.arch().unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = zoo::file_of(name).expect("it is in the zoo");
        let (own, theirs) = (lines(&text), lines(zoo::text(file).expect("a file of the zoo")));
        is_long |= own > TIMES * theirs;
        let layers = model.compiled().typed.order().len();
        let count = |word: &str| text.lines().filter(|line| line.trim_start().starts_with(word)).count();
        let (blocks, loops) = (count("block "), count("for "));
        writeln!(
            table,
            "{name}: {layers} layers, {own} lines, {blocks} blocks, {loops} loops; {file} has {theirs} lines"
        )
        .expect("a string takes everything");
    }
    assert!(!is_long, "more than {TIMES} times as long:\n{table}");
}
