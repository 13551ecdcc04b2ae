//! `archc bench`: what it reports, whatever the times are.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const SPEC: &str = "tests/cli/reports.in/edited.arch";

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).arg("bench").args(args).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).output().expect("archc starts")
}

fn json(args: &[&str]) -> Value {
    let output = bench(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("stdout is one JSON object")
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

#[test]
fn other_programs_find_their_fields() {
    let report = json(&[SPEC, "--batch", "2", "--threads", "1", "--iterations", "7", "--warm-up", "0", "--samples"]);
    assert_eq!(
        (&report["device"], &report["dtype"], &report["batch"], &report["threads"], &report["runs"]),
        (&"cpu".into(), &"f32".into(), &2.into(), &1.into(), &7.into())
    );
    let latency = |name: &str| float(&report["latency_ms"][name]);
    let ordered = ["min", "median", "p90", "p95", "p99"].map(latency);
    assert!(ordered[0] > 0.0 && ordered.is_sorted(), "{ordered:?}");
    let samples: Vec<f64> = report["samples_ms"].as_array().expect("a list").iter().map(float).collect();
    assert_eq!((samples.len(), samples[0], samples[6]), (7, latency("min"), latency("p99")));
    let mean = samples.iter().sum::<f64>() / 7.0;
    assert!((latency("mean") - mean).abs() < 1e-9 * mean);
    let rate = float(&report["images_per_second"]);
    assert!((rate * latency("median") / 2e3 - 1.0).abs() < 1e-9, "{rate}");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(report["core_to_core_ns"]["before"].is_null(), cores < 2);
}

#[test]
fn a_profile_adds_up() {
    let report = json(&[SPEC, "--profile", "--iterations", "3", "--warm-up", "0"]);
    let profile = &report["profile"];
    let list = |name: &str| profile[name].as_array().expect("a list").clone();
    let (steps, kernels) = (list("steps"), list("kernels"));
    let sum = |rows: &[Value], figure: &str| rows.iter().map(|row| float(&row[figure])).sum::<f64>();
    let all = float(&profile["ms"]);
    assert!(all > 0.0 && (sum(&steps, "ms") / all - 1.0).abs() < 1e-9);
    assert!((sum(&kernels, "ms") / all - 1.0).abs() < 1e-9);
    assert_eq!(sum(&kernels, "steps") as usize, steps.len());
    // all multiply-adds of the network are there, once: 2 * 1.235 M
    let flops = |rows: &[Value]| rows.iter().map(|row| float(&row["gflops"]) * float(&row["ms"]) * 1e6).sum::<f64>();
    for rows in [&steps, &kernels] {
        assert!((flops(rows) / 2.470e6 - 1.0).abs() < 1e-3, "{}", flops(rows));
    }
    assert!(steps.iter().all(|step| step["kernel"].as_str().is_some_and(|name| !name.is_empty())));
    assert!(steps.iter().any(|step| step["layers"][0] == "layer1[0].conv1"), "{steps:?}");
    let shares = steps.iter().map(|step| float(&step["share_of_roofline"]));
    assert!(shares.clone().all(|share| share > 0.0 && share.is_finite()));
}

#[test]
fn kernels_are_measured_against_the_machine() {
    let args = ["--kernels", "--filter", "softmax 1 x", "--iterations", "3", "--warm-up", "0", "--threads", "1"];
    let report = json(&args);
    assert_eq!(report["kernels"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["kernels"][0]["case"], "softmax 1 x 1000");
    let peaks = report["peaks"].as_array().expect("a list");
    for one in peaks {
        assert!(float(&one["f32_gflops"]) > 0.0);
        assert_eq!(one["levels"].as_array().map(Vec::len), Some(3));
    }
}

#[test]
fn wrong_use_is_said() {
    let cases: [(&[&str], &str); 6] = [
        (&[], "--kernels"),
        (&[SPEC, "--kernels"], "cannot be used with"),
        (&["--kernels", "--filter", "no such kernel"], "no kernel has"),
        (&[SPEC, "--iterations", "0"], "1 or more"),
        (&[SPEC, "--seconds=-1"], "expected seconds"),
        (&["--kernels", "--profile"], "cannot be used with"),
    ];
    for (args, text) in cases {
        let output = bench(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(text), "{args:?}: {said}");
    }
}
