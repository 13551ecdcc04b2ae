//! Every network of the zoo against torchvision and timm: keys with shapes, parameters, multiply-adds and preprocessing
//! as tests/reference/zoo.py recorded them.

use std::fmt::Write;
use std::path::Path;

use archc::stages::compile::Compiled;
use archc::stages::graph::{NodeId, key};
use archc::stages::io::preprocess::Resize;
use archc::stages::ops::Role;
use archc::stages::zoo;
use archc::{Model, Spec};
use rayon::prelude::*;
use serde_json::Value;

fn reference(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

fn table() -> Value {
    let text = std::fs::read_to_string(reference("zoo.json")).expect("tests/reference/zoo.json");
    serde_json::from_str(&text).expect("JSON")
}

fn compile(name: &str) -> Model {
    Spec::from_text(format!("base {name}\n")).compile().expect("the zoo compiles")
}

/// `key shape` lines in order of key, without what archc computes, as tests/reference/networks.py writes them.
fn listing(compiled: &Compiled) -> String {
    let typed = &compiled.typed;
    let mut lines: Vec<(String, String)> = vec![];
    for id in typed.order() {
        let node = typed.graph().node(*id);
        if node.tied.is_some() {
            continue;
        }
        for param in typed.params(*id).into_iter().filter(|param| param.role != Role::Computed) {
            let dims: Vec<String> = param.shape.iter().map(usize::to_string).collect();
            let dims = if dims.is_empty() { "1".to_string() } else { dims.join("x") };
            lines.push((key(&node.path, param.name), dims));
        }
    }
    lines.sort();
    lines.into_iter().fold(String::new(), |mut text, (key, dims)| {
        writeln!(text, "{key} {dims}").expect("a string takes everything");
        text
    })
}

/// What is wrong with one network, a line a fault.
fn faults(name: &str, row: &Value) -> Vec<String> {
    let model = compile(name);
    let compiled = model.compiled();
    let typed = &compiled.typed;
    let mut faults = vec![];
    let mut same = |what: &str, ours: Value, theirs: &Value| {
        if ours != *theirs {
            faults.push(format!("{name}: {what} {ours}, should be {theirs}"));
        }
    };
    let parameters: u64 = typed.order().iter().map(|id| typed.parameter_count(*id)).sum();
    same("parameters", parameters.into(), &row["parameters"]);
    let macs: u64 = typed.order().iter().map(|id| typed.macs(*id)).sum();
    same("multiply-adds", macs.into(), &row["macs"]);
    let ours = listing(compiled);
    same("keys", ours.lines().count().into(), &row["keys"]);
    if let Ok(theirs) = std::fs::read_to_string(reference("keys").join(format!("{name}.txt"))) {
        let missing: Vec<&str> = theirs.lines().filter(|line| !ours.lines().any(|own| own == *line)).take(5).collect();
        same("keys without", serde_json::json!(missing), &serde_json::json!([]));
    }
    same("hash of the keys", sha256(ours.as_bytes()).into(), &row["keys_sha256"]);
    let theirs = &row["preprocess"];
    let Some(preprocess) = &compiled.settings.preprocess else {
        faults.push(format!("{name}: no preprocessing"));
        return faults;
    };
    let input = typed.graph().inputs().values().next().map(|id| typed.shape(*id).dims.clone()).unwrap_or_default();
    let crop = preprocess.crop.unwrap_or((input[1] as u32, input[2] as u32));
    let resize = match preprocess.resize {
        Some(Resize::Shorter(short)) => short.into(),
        Some(Resize::Both(height, width)) => serde_json::json!([height, width]),
        None => serde_json::Value::Null,
    };
    same("resize", resize, &theirs["resize"]);
    let wanted = match &theirs["crop"] {
        Value::Array(sides) => Value::Array(sides.clone()),
        side => serde_json::json!([side, side]),
    };
    same("crop", serde_json::json!([crop.0, crop.1]), &wanted);
    same("mean", serde_json::json!(preprocess.mean), &theirs["mean"]);
    same("std", serde_json::json!(preprocess.std), &theirs["std"]);
    let interpolation = format!("{:?}", preprocess.interpolation).to_lowercase();
    same("interpolation", interpolation.into(), &theirs["interpolation"]);
    faults
}

#[test]
fn every_network_is_pytorchs() {
    let table = table();
    let rows: Vec<(&String, &Value)> = table.as_object().expect("a table").iter().collect();
    assert!(rows.len() >= 48);
    let faults: Vec<String> = rows.par_iter().flat_map(|(name, row)| faults(name, row)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The zoo's networks and the table's are the same ones, so that none is left unchecked.
#[test]
fn every_network_has_a_reference() {
    let table = table();
    let table = table.as_object().expect("a table");
    let unchecked: Vec<&str> =
        zoo::networks().into_iter().map(|(name, _)| name).filter(|name| !table.contains_key(*name)).collect();
    assert_eq!(unchecked, Vec::<&str>::new());
}

/// Every network says what its parts are for: the stem takes the picture; the head is the last layer that has weights, or in a
/// network that ends with its features an identity.
#[test]
fn every_network_has_roles() {
    let faults: Vec<String> = zoo::networks()
        .into_par_iter()
        .filter_map(|(name, _)| {
            let text = format!("base {name}\nfreeze all except @head, @stages[-1]\ninit @stem with zeros\n");
            let model = match Spec::from_text(text).compile() {
                Ok(model) => model,
                Err(error) => return Some(format!("{name}: {error}")),
            };
            let typed = &model.compiled().base;
            let graph = typed.graph();
            let roles =
                ["stem", "head", "stages"].map(|role| graph.roles().get(role).expect("the edits name all of them"));
            let stem = graph.find(&roles[0].places[0].first);
            let heads: Vec<_> = roles[1].places.iter().filter_map(|place| graph.find(&place.first)).collect();
            let input = graph.inputs().values().next().copied();
            let takes = stem.and_then(|stem| graph.operands(stem).first().copied());
            let is_stem = stem.is_some_and(|stem| graph.node(stem).op.name() == "conv2d") && takes == input;
            let last = typed.order().iter().rev().find(|id| typed.parameter_count(**id) > 0).copied();
            let is_bare =
                |head: &NodeId| graph.node(*head).op.name() == "identity" && graph.output_names(*head).next().is_some();
            let is_head = heads.iter().any(|head| Some(*head) == last || is_bare(head));
            let is_sound = is_stem && is_head && roles[2].is_list && roles[2].places.len() >= 3;
            (!is_sound).then(|| format!("{name}: {roles:?}"))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// torchvision's published figures, where it counts what archc does (no auxiliary heads).
#[test]
fn totals_are_the_published_ones() {
    for (name, parameters, gmacs) in [
        ("resnet50", 25_557_032, 4.089),
        ("vgg16_bn", 138_365_992, 15.47),
        ("mobilenet_v2", 3_504_872, 0.301),
        ("vit_b_16", 86_567_656, 17.564),
    ] {
        let model = compile(name);
        let typed = &model.compiled().typed;
        let sum = |count: &dyn Fn(NodeId) -> u64| typed.order().iter().map(|id| count(*id)).sum::<u64>();
        assert_eq!(sum(&|id| typed.parameter_count(id)), parameters, "{name}");
        let ours = sum(&|id| typed.macs(id)) as f64 / 1e9;
        assert!((ours - gmacs).abs() < 0.0006, "{name}: {ours}");
    }
}

/// SHA-256, FIPS 180-4.
fn sha256(bytes: &[u8]) -> String {
    let primes = || (2u64..).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0));
    // the first 32 bits of the fractions of roots of primes: an integer root of p * 2^(32 * degree)
    let root = |prime: u64, degree: u32| {
        let wanted = u128::from(prime) << (32 * degree);
        let (mut low, mut high) = (0u128, 1u128 << 38);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if middle.pow(degree) <= wanted { low = middle } else { high = middle }
        }
        low as u32
    };
    let mut state: Vec<u32> = primes().take(8).map(|prime| root(prime, 2)).collect();
    let constants: Vec<u32> = primes().take(64).map(|prime| root(prime, 3)).collect();
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len() + (120 - padded.len() % 64) % 64, 0);
    padded.extend((bytes.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words: Vec<u32> = block.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        for t in 16..64 {
            let (a, b) = (words[t - 15], words[t - 2]);
            let a = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let b = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            words.push(words[t - 16].wrapping_add(a).wrapping_add(words[t - 7]).wrapping_add(b));
        }
        let mut v = state.clone();
        for t in 0..64 {
            let big = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let one = [big, choice, constants[t], words[t]].into_iter().fold(v[7], u32::wrapping_add);
            let big = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(one);
            v[0] = one.wrapping_add(big).wrapping_add(majority);
        }
        for (state, v) in state.iter_mut().zip(v) {
            *state = state.wrapping_add(v);
        }
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

#[test]
fn the_hash_is_sha256() {
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    // lengths around the end of a block
    assert_eq!(sha256(&[b'a'; 55]), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    assert_eq!(sha256(&[b'a'; 63]), "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34");
    assert_eq!(sha256(&[b'a'; 60]), "11ee391211c6256460b6ed375957fadd8061cafbb31daf967db875aebd5aaad4");
}
