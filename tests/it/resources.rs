//! Where there is too little memory, or too much is asked for: a message and exit status 3, never an abort.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `archc` with these arguments in `dir`, behind a shell's `before`.
fn archc(dir: &Path, before: &str, args: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before} exec \"$ARCHC\" {args}")).env("ARCHC", env!("CARGO_BIN_EXE_archc"));
    shell.current_dir(dir).env("NO_COLOR", "1").stdin(Stdio::null()).output().expect("a shell starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A small network, and one of 256 MB.
fn specs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a writable folder");
    write("small.arch", "base mobilenet_v2\n");
    write("large.arch", "network large { input [N, 16]; fc: linear(4000000) }\nbase large\n");
    dir
}

#[test]
fn a_limit_of_address_space_is_no_abort() {
    let dir = specs();
    let mut refused = 0;
    for kilobytes in (50_000..750_000).step_by(50_000).chain([330_000, 360_000, 370_000, 380_000, 390_000]) {
        for args in ["check small.arch", "run small.arch --threads 2", "zoo"] {
            let output = archc(dir.path(), &format!("ulimit -v {kilobytes};"), args);
            let told = stderr(&output);
            match output.status.code() {
                Some(0) => {}
                Some(3) => {
                    assert!(
                        told.contains("error[resource]: ") && told.contains("= help: "),
                        "{kilobytes} {args}: {told}"
                    );
                    refused += 1;
                }
                // too little even to load the program's libraries
                Some(127) if kilobytes < 100_000 => {}
                other => panic!("{kilobytes} {args}: {other:?} {told}"),
            }
        }
    }
    assert!(refused >= 10, "{refused}");
    let output = archc(dir.path(), "ulimit -v 500000;", "run large.arch --threads 1");
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("the weights need 0.5 GB") && told.contains("are available"), "{told}");
}

#[test]
fn stacks_are_as_large_as_they_must_be() {
    let dir = specs();
    for args in ["run small.arch", "zoo", "export small.arch --to safetensors --output w.safetensors"] {
        let output = archc(dir.path(), "RUST_MIN_STACK=1", args);
        assert!(output.status.success(), "{args}: {}", stderr(&output));
    }
}

#[test]
fn no_more_threads_are_started_than_help() {
    let dir = specs();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let output = archc(dir.path(), "", "bench small.arch --threads 1000000 --iterations 3 --warm-up 0 --json");
    let told = stderr(&output);
    assert!(output.status.success(), "{told}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let threads = json["threads"].as_u64().expect("a number");
    assert_eq!(threads as usize, (4 * cores).max(16));
    assert!(
        told.contains(&format!("threads: {threads} instead of 1000000, for this machine has {cores} core")),
        "{told}"
    );
    let output = archc(dir.path(), "", "run small.arch --threads 3");
    assert!(!stderr(&output).contains("threads:"), "{}", stderr(&output));
}
