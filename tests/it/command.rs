//! The program as its users start it: arguments in, text, files and exit status out.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use archc::Tensor;
use archc::stages::io::tensors::Loaded;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `archc` in the project's folder, without the caller's colours.
fn archc(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(root()).args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    archc(args).output().expect("archc starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with these files in it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("a file can be written");
    }
    dir
}

fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

fn tensor(file: &str, name: &str) -> Tensor {
    match archc::stages::io::tensors::load(Path::new(file), name).expect("the file can be read") {
        Loaded::Float(tensor) => tensor,
        Loaded::Pictures(_) => panic!("{file} holds floats"),
    }
}

#[test]
fn a_picture_of_coffee_is_espresso() {
    let output = run(&["run", "examples/classify.arch", "--input", "examples/images/coffee.png"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let best = stdout(&output).lines().nth(1).unwrap_or_default().to_string();
    assert!(best.contains("espresso") && best.trim_start().starts_with("95."), "{best}");
    assert!(stderr(&output).contains("weights: 296 kept, 0 dropped, 0 new, 0 reshaped, 0 unused"));
}

#[test]
fn bf16_sees_the_same_five_classes() {
    let best = |dtype: &str| {
        let pictures = ["--input", "examples/images"];
        let output = run(&[&["run", "examples/classify.arch", "--dtype", dtype], &pictures[..]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        // a line with the file's name, then five of a probability and a class
        let mut found: Vec<Vec<String>> = vec![];
        for line in stdout(&output).lines() {
            match line.strip_prefix("  ").and_then(|line| line.split_once('%')) {
                Some((_, class)) => found.last_mut().expect("a picture comes first").push(class.trim().to_string()),
                None => found.push(vec![]),
            }
        }
        found
    };
    let (mut want, mut got) = (best("f32"), best("bf16"));
    assert!(want.len() > 1 && want.iter().all(|classes| classes.len() == 5), "{want:?}");
    for (want, got) in want.iter_mut().zip(&mut got) {
        assert_eq!(want[0], got[0]);
        want.sort();
        got.sort();
    }
    assert_eq!(want, got);
}

#[test]
fn the_article_gives_the_shapes_that_it_means() {
    let cases = [
        ("fc_to_convolutions", vec![2, 10]),
        ("dropout_and_batch_norm", vec![2, 10]),
        ("residual_block", vec![2, 10]),
        ("squeeze_and_excitation", vec![2, 10]),
        ("autoencoder", vec![2, 3, 31, 31]),
    ];
    let dir = folder(&[]);
    for (name, shape) in cases {
        let file = path(&dir, &format!("{name}.npy"));
        let output = run(&["run", &format!("examples/{name}.arch"), "--batch", "2", "--output", &file]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let tensor = tensor(&file, "output");
        assert_eq!(tensor.shape(), shape, "{name}");
        assert!(tensor.data().iter().all(|value| value.is_finite()), "{name}");
    }
}

#[test]
fn squeeze_and_excitation_changes_what_the_base_says() {
    let dir = folder(&[
        ("base.arch", "base resnet18\nreplace fc with linear(10)\n"),
        ("se.arch", "base resnet18\ninsert se at layer*[-1]\nreplace fc with linear(10)\n"),
    ]);
    let outputs: Vec<Tensor> = ["base", "se"]
        .iter()
        .map(|name| {
            let file = path(&dir, &format!("{name}.npy"));
            let output = run(&["run", &path(&dir, &format!("{name}.arch")), "--output", &file]);
            assert!(output.status.success(), "{}", stderr(&output));
            tensor(&file, "output")
        })
        .collect();
    assert_ne!(outputs[0].data(), outputs[1].data());
}

#[test]
fn exported_weights_give_the_same_bits() {
    let dir = folder(&[(
        "spec.arch",
        "base resnet18 { weights random(seed = 3) }\ninsert se at layer*[-1]\nreplace fc with linear(10)\n",
    )]);
    let (spec, weights) = (path(&dir, "spec.arch"), path(&dir, "w.safetensors"));
    let export = run(&["export", &spec, "--to", "safetensors", "--output", &weights]);
    assert!(export.status.success(), "{}", stderr(&export));
    let (a, b) = (path(&dir, "a.npy"), path(&dir, "b.npy"));
    assert!(run(&["run", &spec, "--output", &a]).status.success());
    let again = run(&["run", &spec, "--weights", &weights, "--output", &b, "--threads", "1"]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(tensor(&a, "output").data(), tensor(&b, "output").data());
    // weights of another network are refused, key by key
    std::fs::write(path(&dir, "other.arch"), "base resnet18\n").expect("a file can be written");
    let other = run(&["run", &path(&dir, "other.arch"), "--weights", &weights]);
    assert_eq!(other.status.code(), Some(1));
    assert!(
        stderr(&other).contains("weights-mismatch") && stderr(&other).contains("unexpected: layer1.1.se.fc1.weight")
    );
}

#[test]
fn a_folder_of_pictures_is_a_table_and_a_broken_one_is_named() {
    let dir = folder(&[("broken.png", "\u{89}PNG\r\n"), ("notes.txt", "not a picture")]);
    for name in ["chelsea", "coffee"] {
        let from = root().join(format!("examples/images/{name}.png"));
        std::fs::copy(from, dir.path().join(format!("{name}.png"))).expect("the picture can be copied");
    }
    let (pictures, table) = (dir.path().display().to_string(), path(&dir, "table.csv"));
    let output = run(&["run", "examples/classify.arch", "--input", &pictures, "--output", &table]);
    assert_eq!(output.status.code(), Some(1), "a picture that cannot be read is a mistake in the user's files");
    assert!(stderr(&output).contains("broken.png") && stderr(&output).contains("skipped: 1 other file"));
    let table = std::fs::read_to_string(table).expect("the table was written all the same");
    assert_eq!(table.lines().count(), 11, "{table}");
    assert!(table.contains("coffee.png,1,967,espresso,0.9"));
}

/// Whatever else this machine has: a compiler that is not where it was said to be, and a cache that cannot be written.
#[test]
fn devices_say_what_is_missing() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let below = file.path().join("below");
    let output = archc(&["devices"])
        .env("ARCHC_NVRTC", "/nowhere")
        .env("ARCHC_CUBIN_CACHE", &below)
        .output()
        .expect("archc starts");
    let text = stdout(&output);
    assert!(output.status.success() && text.contains("compiler /nowhere: "), "{text}");
    assert!(text.contains(&format!("compiled kernels in {}, cannot be written: ", below.display())), "{text}");
}

#[test]
fn exit_codes_say_whose_fault_it_is() {
    let dir = folder(&[
        ("ok.arch", "base resnet18\n"),
        ("bad.arch", "base resnet19\n"),
        ("huge.arch", "base resnet18\nreplace fc with linear(500000000)\n"),
    ]);
    let (ok, bad, huge) = (path(&dir, "ok.arch"), path(&dir, "bad.arch"), path(&dir, "huge.arch"));
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["check", &ok], 0, ""),
        (vec!["check", &bad], 1, "did you mean `resnet18`"),
        (vec!["check", "nowhere.arch"], 1, "no such file or directory"),
        (vec!["check"], 2, "Usage"),
        // no machine has so many, and most have no driver either
        (vec!["run", &ok, "--device", "cuda:99"], 3, "`archc devices` lists what is there"),
        (vec!["bench", "--kernels", "--device", "cuda:99"], 3, "there is no"),
        (vec!["run", &ok, "--device", "cuda:x"], 2, "expected auto, cpu, cuda or cuda:N"),
        (vec!["run", &ok, "--device", "cpu", "--tf32"], 2, "`--tf32` is for GPUs"),
        (vec!["devices"], 0, ""),
        (vec!["run", &ok, "--device", "cpu", "--dtype", "f16"], 3, "--dtype bf16"),
        (vec!["run", &ok, "--device", "cpu", "--dtype", "bf16", "--exact"], 2, "no reduced precision"),
        (vec!["run", &ok, "--set", "classes=3"], 1, "no `param classes`"),
        (vec!["run", &ok, "--output", "x.tiff"], 1, ".safetensors"),
        // a layer of a terabyte is legal, and does not fit
        (vec!["check", &huge], 0, ""),
        (vec!["run", &huge], 3, "are available"),
    ];
    for (args, status, text) in cases {
        let output = run(&args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(said.contains(text), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
}

#[test]
fn messages_are_json_where_asked() {
    let dir = folder(&[("bad.arch", "base resnet18\nreplace fc with liner(10)\nremove layer9\n")]);
    let output = run(&["check", &path(&dir, "bad.arch"), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let messages: serde_json::Value = serde_json::from_slice(&output.stdout).expect("stdout is JSON");
    let first = &messages[0];
    assert_eq!(
        (first["code"].as_str(), first["line"].as_u64(), first["column"].as_u64()),
        (Some("unknown-name"), Some(2), Some(17))
    );
    assert_eq!(messages[1]["code"].as_str(), Some("no-match"));
    assert!(first["help"][0].as_str().is_some_and(|help| help.contains("linear")));
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let mut child = archc(&["run", "examples/classify.arch", "--input", "examples/images/coffee.png"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("archc starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("archc ends");
    assert!(output.status.success());
    assert!(!stderr(&output).contains("panicked"));
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let dir = folder(&[
        ("spec.arch", "base squeezenet1_1 { weights \"w.safetensors\" }\n"),
        ("random.arch", "base squeezenet1_1\n"),
    ]);
    let weights = path(&dir, "w.safetensors");
    let export = run(&["export", &path(&dir, "random.arch"), "--to", "safetensors", "--output", &weights]);
    assert!(export.status.success(), "{}", stderr(&export));
    let mut bytes = std::fs::read(&weights).expect("the file was written");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).expect("the file can be written");
    let output = run(&["run", &path(&dir, "spec.arch")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("warning[non-finite]") && stderr(&output).contains("1 value"),
        "{}",
        stderr(&output)
    );
}

/// Against timm's logits in float32 and its pictures, where the folder with the full model is there.
#[test]
fn the_real_network_agrees_with_its_reference() {
    let shared: PathBuf = root().join("../shared");
    let reference = shared.join("models/efficientnet_lite0.reference.safetensors");
    if !reference.is_file() {
        eprintln!("skipped: no {}", reference.display());
        return;
    }
    let model = shared.join("models/efficientnet_lite0.safetensors").canonicalize().expect("the model is beside it");
    let spec = format!("base tf_efficientnet_lite0 {{ weights {:?} }}\n", model.display().to_string());
    let dir = folder(&[("spec.arch", &spec)]);
    for name in ["astronaut", "chelsea", "coffee", "rocket"] {
        let read = |what: &str| {
            let store = archc::stages::weights::Store::open_file(&reference).expect("the reference can be opened");
            let key = format!("{name}.{what}");
            let shape = store.tensors()[&key].shape.clone();
            Tensor::new(shape, store.read(&key).expect("the reference can be read"))
        };
        let (input, logits) = (read("input"), read("logits"));
        let (x, y, z) = (path(&dir, "x.npy"), path(&dir, "y.npy"), path(&dir, "z.npy"));
        std::fs::write(&x, archc::stages::io::npy::write(&input)).expect("a file can be written");
        let output = run(&["run", &path(&dir, "spec.arch"), "--input", &x, "--output", &y]);
        assert!(output.status.success(), "{}", stderr(&output));
        let ours = tensor(&y, "output");
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let error = norm(&mut ours.data().iter().zip(logits.data()).map(|(a, b)| a - b))
            / norm(&mut logits.data().iter().copied());
        assert!(error < 1e-4, "{name}: {error:e}");
        // from the picture itself: the same five classes, probabilities to 0.02
        let picture = shared.join(format!("images/{name}.png")).display().to_string();
        let output = run(&["run", &path(&dir, "spec.arch"), "--input", &picture, "--output", &z]);
        assert!(output.status.success(), "{}", stderr(&output));
        let (ours, theirs) = (tensor(&z, "output"), logits);
        let (p, q) =
            (archc::stages::io::results::softmax(ours.data()), archc::stages::io::results::softmax(theirs.data()));
        let (mut a, mut b) = (archc::stages::io::results::top(&p, 5), archc::stages::io::results::top(&q, 5));
        let worst = a.iter().zip(&b).map(|((_, x), (_, y))| (x - y).abs()).fold(0.0f32, f32::max);
        assert!(worst < 0.02, "{name}: {worst}");
        a.sort_by_key(|(index, _)| *index);
        b.sort_by_key(|(index, _)| *index);
        assert_eq!(
            a.iter().map(|one| one.0).collect::<Vec<_>>(),
            b.iter().map(|one| one.0).collect::<Vec<_>>(),
            "{name}"
        );
    }
}

#[test]
fn what_is_kept_of_a_layer_is_a_difference() {
    let spec = |keeping: &str| format!("base resnet18\nreplace fc with same(out = 3) {keeping}\n");
    let dir = folder(&[
        ("a.arch", &spec("keeping rows [1, 2, 3]")),
        ("b.arch", &spec("keeping rows [4, 5, new]")),
        ("c.arch", &spec("")),
    ]);
    let differ = |a: &str, b: &str| stdout(&run(&["diff", &path(&dir, a), &path(&dir, b)]));
    assert_eq!(differ("a.arch", "a.arch"), "");
    let rows = differ("a.arch", "b.arch");
    assert!(rows.contains("fc.weight") && rows.contains("rows 1, 2, 3") && rows.contains("rows 4, 5, new"), "{rows}");
    let fresh = differ("b.arch", "c.arch");
    assert!(fresh.contains("from the base's fc.weight, rows 4, 5, new") && fresh.contains("fresh"), "{fresh}");
}
