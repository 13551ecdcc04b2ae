//! How far edits move the outputs, and the promise that they do not.

use archc::{Device, Options, Spec};
use serde_json::Value;

fn archc(args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_archc"));
    command.args(args).env("NO_COLOR", "1").output().expect("archc starts")
}

/// The largest difference that each edit makes, as a part of the largest output.
fn drifts(text: &str, more: &[&str]) -> Vec<f64> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = dir.path().join("spec.arch");
    std::fs::write(&spec, text).expect("a writable folder");
    let output = archc(&[&["plan", "--json", "--drift", &spec.display().to_string()], more].concat());
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let edits = plan["edits"].as_array().expect("a list of edits");
    let part = |edit: &Value| {
        edit["drift"]["largest"].as_f64().expect("a number") / edit["drift"]["scale"].as_f64().expect("a number")
    };
    edits.iter().map(part).collect()
}

const NETWORK: &str = "
    network small {
        input [N, 16, 9, 7]
        conv: conv2d(16, kernel = 3, padding = 1); relu
        global_avg_pool2d
        fc: linear(12)
    }
    base small
";

#[test]
fn blocks_that_can_start_as_nothing_do() {
    let blocks = [
        ("residual_block(16", "after relu"),
        ("bottleneck(16", "after relu"),
        ("inverted_residual(16", "after conv"),
        ("se(reduction = 4", "after conv"),
        ("squeeze_excitation(4", "after conv"),
        ("squeeze_excitation(4, gate = hardsigmoid", "after conv"),
        ("spatial_se(", "after conv"),
        ("scse(", "after conv"),
        ("eca(", "after conv"),
        ("cbam(reduction = 4", "after conv"),
        ("coordinate_attention(", "after conv"),
        ("non_local(", "after conv"),
        ("global_context(reduction = 4", "after conv"),
        ("lora(rank = 2", "beside fc"),
        ("adapter(4", "before fc"),
    ];
    let comma = |call: &str| if call.ends_with('(') { "" } else { ", " };
    let edit =
        |(call, place): &(&str, &str), start: &str| format!("insert {call}{}start = {start}) {place}\n", comma(call));
    for block in &blocks {
        let [nothing, something] =
            ["identity", "none"].map(|start| drifts(&(NETWORK.to_string() + &edit(block, start)), &[]));
        assert!(nothing[0] < 1e-6, "{block:?}: {nothing:?}");
        assert!(something[0] > 1e-4, "{block:?}: {something:?}");
    }
    // and every block of the zoo that has the argument is in this table
    let zoo = include_str!("../../zoo/blocks.arch");
    let with_start = zoo.lines().filter(|line| line.starts_with("block ") && line.contains("start = "));
    for line in with_start {
        let name = &line["block ".len()..line.find('(').expect("arguments")];
        assert!(blocks.iter().any(|(call, _)| call.split('(').next() == Some(name)), "{name}");
    }
}

#[test]
fn drift_is_measured_edit_by_edit_and_on_the_users_input() {
    let text = format!("{NETWORK}insert dropout before fc\ninsert relu6 after fc\nappend {{ in * 0.5 }}\n");
    let noise = drifts(&text, &[]);
    assert_eq!(noise[0], 0.0);
    // relu6 takes the negative values away, and halves of what is left are half as far
    assert!(noise[1] > 0.1 && (noise[2] - 0.5).abs() < 1e-6, "{noise:?}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("x.npy");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 16, 9, 7), }";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((118u16).to_le_bytes());
    bytes.extend(format!("{header:<117}\n").bytes());
    bytes.extend((0..16 * 9 * 7).flat_map(|at| (at as f32 * 0.01).to_le_bytes()));
    std::fs::write(&file, bytes).expect("a writable folder");
    let own = drifts(&text, &["--input", &file.display().to_string()]);
    assert!(own[0] == 0.0 && own[1] != noise[1], "{own:?}");
    // of an input that an edit adds too
    let text = format!("{NETWORK}input other: [N, 16, 9, 7]\nprepend {{ in + other }}\n");
    let [own, other] = ["image", "other"].map(|name| format!("{name}={}", file.display()));
    drifts(&text, &["--input", &own, "--input", &other]);
}

#[test]
fn a_promise_is_looked_at_when_weights_are_bound() {
    let load = |edits: &str| {
        let model = Spec::from_text(format!("{NETWORK}{edits}")).compile()?;
        model.load(Device::Cpu, Options::default()).map(|_| ())
    };
    load("insert se(reduction = 4, start = identity) after conv preserving").expect("nothing moves");
    load("insert dropout(0.5) before fc preserving\nrename conv to stem preserving").expect("nothing moves");
    load("replace fc with same keeping weights preserving").expect("nothing moves");
    let error =
        load("insert se(reduction = 4) after conv preserving\ninsert relu after fc preserving").expect_err("both move");
    let text = error.to_string();
    assert_eq!(error.messages().len(), 2, "{text}");
    assert!(text.contains("the outputs are not as before: `output` moves by"), "{text}");
    assert!(text.contains("`se(start = identity)` starts as nothing"), "{text}");
    // a large output beside it hides nothing
    load("output mid = conv -> { in * 100000.0 }\nreplace fc with linear(12, init = normal(0.5)) preserving")
        .expect_err("it moves");
    // what is not finite is not as before
    load("append { in * 1e38 -> relu }\nappend { in * 1e38 } preserving").expect_err("infinite");
}
