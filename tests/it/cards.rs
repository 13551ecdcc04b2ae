//! Model cards of runs and exports, and what `archc reproduce` makes of them.

use std::fs;

use super::train::{BLOCK, ok, run, said, small, text};

#[test]
fn a_run_is_reproduced_bit_by_bit() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = small(dir.path(), BLOCK);
    let out = dir.path().join("run1");
    let told = ok(&["train", &text(&spec), "--out", &text(&out), "--set", "width=6", "--threads", "2"]);
    assert!(told.contains("report.html, README.md"), "{told}");
    let card = text(&out.join("README.md"));
    let page = fs::read_to_string(&card).expect("the card");
    for part in [
        "pipeline_tag: image-classification",
        "name: \"data\"",
        "| Result |",
        "`small`, changed by the [spec](#the-spec) below.",
        "param width = 6",
        "folder(\"../data\")",
        "archc run spec.arch --weights model.safetensors --input picture.png",
        "| `model.safetensors` | written: weights |",
        "40 samples to learn from, 10 for validation",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let told = ok(&["reproduce", &card, "--threads", "1"]);
    assert!(told.contains("reproduced, bit by bit"), "{told}");
    assert!(told.contains("model.safetensors  same"), "{told}");
    // a figure that is not true
    let lie = dir.path().join("run1/lie.md");
    let accuracy =
        page.split("\"accuracy\": ").nth(1).and_then(|rest| rest.split([',', '\n']).next()).expect("an accuracy");
    fs::write(&lie, page.replace(&format!("\"accuracy\": {accuracy}"), "\"accuracy\": 0.125")).expect("written");
    let output = run(&["reproduce", &text(&lie), "--out", &text(&dir.path().join("again"))]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("accuracy           other") && said(&output).contains("not reproduced"),
        "{}",
        said(&output)
    );
    assert!(dir.path().join("again/model.safetensors").is_file(), "what came out is kept");
    // other samples
    let picture =
        fs::read_dir(dir.path().join("data/train/1")).expect("pictures").flatten().next().expect("one").path();
    fs::remove_file(picture).expect("gone");
    let output = run(&["reproduce", &card]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("the samples are not the 50 samples that it was trained with"), "{}", said(&output));
    // another spec
    fs::write(&card, page.replace("param width = 6", "param width = 5")).expect("written");
    assert!(said(&run(&["reproduce", &card])).contains("is not the one that its files were made of"));
}

#[test]
fn an_export_is_reproduced() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let spec = "use \"nets.arch\"\nbase tiny { weights \"w.safetensors\" }\nreplace fc with linear(3)\n";
    fs::write(path("nets.arch"), "network tiny { input [N, 4]; hidden: linear(5); relu; fc: linear(2) }\n")
        .expect("written");
    fs::write(path("base.arch"), "use \"nets.arch\"\nbase tiny\n").expect("written");
    fs::write(path("spec.arch"), spec).expect("written");
    let export = |from: &str, to: &str, more: &[&str]| {
        let (from, to) = (text(&path(from)), text(&path(to)));
        ok(&[&["export", &from, "--to", "safetensors", "--output", &to], more].concat())
    };
    export("base.arch", "w.safetensors", &["--no-card"]);
    assert!(!path("README.md").exists());
    fs::create_dir(path("out")).expect("a folder");
    let told = export("spec.arch", "out/half.safetensors", &["--dtype", "f16", "--seed", "7"]);
    assert!(told.contains("README.md, the model card"), "{told}");
    let page = fs::read_to_string(path("out/README.md")).expect("the card");
    for part in [
        "use \"../nets.arch\"",
        "| 3 | `replace fc with linear(3)` | `fc` |",
        "2 tensors are new and hold what an initialiser drew",
        "| `../w.safetensors` | read: weights |",
        "| `../nets.arch` | read: a file that the spec uses |",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let told = ok(&["reproduce", &text(&path("out/README.md"))]);
    assert!(told.contains("reproduced, bit by bit"), "{told}");
    // a module and a network: each in a folder of its own
    for (to, name) in [("pytorch", "net.py"), ("onnx", "net.onnx")] {
        fs::create_dir(path(to)).expect("a folder");
        let (from, target) = (text(&path("spec.arch")), text(&path(to).join(name)));
        ok(&["export", &from, "--to", to, "--output", &target]);
        let told = ok(&["reproduce", &text(&path(to).join("README.md"))]);
        assert!(told.contains("reproduced, bit by bit"), "{to}: {told}");
    }
    // a README of somebody's stays
    fs::create_dir(path("mine")).expect("a folder");
    fs::write(path("mine/README.md"), "# mine\n").expect("written");
    assert!(export("spec.arch", "mine/a.safetensors", &[]).contains("a.md, the model card"));
    assert_eq!(fs::read_to_string(path("mine/README.md")).expect("it is there"), "# mine\n");
    let output = run(&["reproduce", &text(&path("mine/README.md"))]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("is no model card of archc"), "{}", said(&output));
    // weights that are others now
    export("base.arch", "w.safetensors", &["--no-card", "--seed", "5"]);
    let output = run(&["reproduce", &text(&path("out/README.md"))]);
    assert!(said(&output).contains("the sha256 of `../w.safetensors` was "), "{}", said(&output));
    // a card may not lead out of its folder
    let evil = page.replace("\"name\": \"half.safetensors\"", "\"name\": \"../half.safetensors\"");
    fs::write(path("out/evil.md"), evil).expect("written");
    export("base.arch", "w.safetensors", &["--no-card"]);
    assert!(said(&run(&["reproduce", &text(&path("out/evil.md"))])).contains("names the output `../half.safetensors`"));
}
