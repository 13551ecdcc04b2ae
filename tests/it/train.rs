//! `archc train` and `archc eval` as their users start them, cut off in every way that a process can be.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn archc(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(root()).args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn run(args: &[&str]) -> Output {
    archc(args).output().expect("archc starts")
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

pub fn ok(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A spec of a small network that takes some steps a second, over a few digits of the examples.
pub fn small(dir: &Path, train: &str) -> PathBuf {
    for part in ["train", "val"] {
        for class in ["1", "7"] {
            let to = dir.join("data").join(part).join(class);
            std::fs::create_dir_all(&to).expect("a writable folder");
            let from = root().join("examples/digits").join(part).join(class);
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(from).expect("the digits are there").flatten().map(|file| file.path()).collect();
            files.sort();
            for file in files.iter().take(if part == "train" { 20 } else { 5 }) {
                std::fs::copy(file, to.join(file.file_name().expect("a file"))).expect("a copy");
            }
        }
    }
    let spec = dir.join("spec.arch");
    let network = "archc 1\n\
        param width = 4\n\
        network small(width) {\n\
            input image: [N, 1, 28, 28]\n\
            preprocess { mean = 0.5, std = 0.5 }\n\
            conv1: conv2d(width, kernel = 3, stride = 2, padding = 1, bias = false)\n\
            bn1: batch_norm2d\n\
            relu\n\
            conv2: conv2d(8, kernel = 3, stride = 2, padding = 1)\n\
            relu\n\
            global_avg_pool2d\n\
            dropout(0.1)\n\
            fc: linear(2)\n\
        }\n\
        base small(width)\n";
    std::fs::write(&spec, format!("{network}{train}")).expect("a writable folder");
    spec
}

pub const BLOCK: &str = "train {\n\
    data folder(\"data\")\n\
    loss cross_entropy\n\
    optimizer adam(lr = 0.01)\n\
    schedule cosine(warmup = 1)\n\
    epochs 4\n\
    batch 6\n\
    augment random_crop(padding = 2), rotation(10), random_erasing\n\
    average 0.9\n\
    clip 1\n\
}\n";

/// What a run leaves that must not depend on where it was cut off.
pub fn left(out: &Path) -> Vec<Vec<u8>> {
    let read = |name: &str| std::fs::read(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    ["model.safetensors", "metrics.jsonl", "checkpoint.best"].map(read).into()
}

#[test]
fn a_run_leaves_what_it_should() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = text(&small(dir.path(), BLOCK));
    let out = dir.path().join("out");
    let told = ok(&["train", &spec, "--out", &text(&out), "--set", "width=6"]);
    for part in
        ["data: 40 pictures to learn from, 10 for validation, 2 classes", "epoch 4/4", "accuracy", "report.html"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    let lines: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(lines.len(), 4 * 7 + 4);
    for key in ["step", "epoch", "loss", "lr"] {
        assert!(lines[0].get(key).is_some_and(serde_json::Value::is_number), "{key}: {}", lines[0]);
    }
    for key in ["epoch", "val_loss", "val_accuracy"] {
        assert!(lines[7].get(key).is_some_and(serde_json::Value::is_number), "{key}: {}", lines[7]);
    }
    // the spec in the folder is the network that was trained, wherever it is read from
    let model = text(&out.join("model.safetensors"));
    let picture = root().join("examples/digits/val/7");
    let picture = text(&std::fs::read_dir(picture).expect("digits").flatten().next().expect("a digit").path());
    let file = std::fs::read(out.join("model.safetensors")).expect("the weights");
    let (_, header) = safetensors::SafeTensors::read_metadata(&file).expect("safetensors");
    let about = header.metadata().clone().expect("metadata");
    let about = |key: &str| about.get(key).map(String::as_str);
    assert_eq!((about("loss"), about("classes")), (Some("cross_entropy"), Some("[\"1\",\"7\"]")));
    let own = text(&out.join("spec.arch"));
    let answer = ok(&["run", &own, "--weights", &model, "--input", &picture]);
    assert!(answer.contains("  7\n") && answer.contains("  1\n"), "the names of classes are printed: {answer}");
    let scores = ok(&["eval", &own, "--weights", &model, "--json"]);
    assert!(scores.contains("\"samples\": 10") && scores.contains("\"confusion\""), "{scores}");
    let table = dir.path().join("confusion.csv");
    let scores = ok(&[
        "eval",
        &own,
        "--weights",
        &model,
        "--data",
        &text(&dir.path().join("data/val")),
        "--output",
        &text(&table),
    ]);
    assert!(scores.contains("precision") && scores.contains("accuracy"), "{scores}");
    assert!(std::fs::read_to_string(table).expect("the table").starts_with("truth,1,7\n1,"));
    // a second run needs a folder of its own
    let again = run(&["train", &spec, "--out", &text(&out), "--set", "width=6"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("is there already") && said(&again).contains("--resume"), "{}", said(&again));
    // a finished one has nothing left to do but says how it ended
    let before = left(&out);
    ok(&["train", &spec, "--out", &text(&out), "--set", "width=6", "--resume"]);
    assert!(left(&out) == before, "other bits");
}

#[test]
fn a_run_that_is_killed_twenty_times_leaves_the_bits_of_an_unbroken_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = text(&small(dir.path(), &BLOCK.replace("epochs 4", "epochs 60")));
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    ok(&["train", &spec, "--out", &text(&whole), "--threads", "1"]);
    let lines = |out: &Path| std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    let all = lines(&whole);
    let cut_text = text(&cut);
    // it may be killed before it could make one
    std::fs::create_dir(&cut).expect("a writable folder");
    let mut kills = 0;
    for attempt in 0..100 {
        let mut args = vec!["train", &spec, "--out", &cut_text, "--threads", "2"];
        if attempt > 0 {
            args.push("--resume");
        }
        let mut child = archc(&args).spawn().expect("archc starts");
        // from before the first checkpoint to late, and at moments that have nothing to do with steps
        let goal = all * kills / 21;
        while child.try_wait().expect("a child").is_none() && (kills == 20 || lines(&cut) < goal) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if kills < 20 && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(kills as u64 * 37 % 10));
            child.kill().expect("a child that runs");
            child.wait().expect("a child");
            kills += 1;
            continue;
        }
        let output = child.wait_with_output().expect("a child");
        assert!(output.status.success(), "{}", said(&output));
        if kills == 20 {
            break;
        }
        // it was done before it could be killed twenty times: the same again
        std::fs::remove_dir_all(&cut).expect("a writable folder");
        std::fs::create_dir(&cut).expect("a writable folder");
    }
    assert_eq!(kills, 20);
    assert!(left(&cut) == left(&whole), "other bits");
}

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = text(&small(dir.path(), &BLOCK.replace("epochs 4", "epochs 200")));
    let out = dir.path().join("out");
    let child = archc(&["train", &spec, "--out", &text(&out)]).spawn().expect("archc starts");
    let began = Instant::now();
    let steps = || std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while steps() < 3 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // a second process is kept out of the folder
    let second = run(&["train", &spec, "--out", &text(&out), "--resume"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("another process is at work in"), "{}", said(&second));
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(status.success());
    let output = child.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    let told = said(&output);
    assert!(told.contains("the checkpoint is written") && told.contains("--resume"), "{told}");
    assert!(out.join("checkpoint").is_file());
}

#[test]
fn base_weights_may_go_while_a_run_lasts() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = small(dir.path(), &BLOCK.replace("epochs 4", "epochs 60"));
    let weights = dir.path().join("w.safetensors");
    ok(&["export", &text(&spec), "--to", "safetensors", "--output", &text(&weights)]);
    let original = std::fs::read_to_string(&spec).expect("the spec");
    let frozen = "base small(width) { weights \"w.safetensors\" }\nfreeze conv1\n";
    std::fs::write(&spec, original.replace("base small(width)\n", frozen)).expect("a writable file");
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    ok(&["train", &text(&spec), "--out", &text(&whole)]);
    let child = archc(&["train", &text(&spec), "--out", &text(&cut)]).spawn().expect("archc starts");
    let began = Instant::now();
    let steps = || std::fs::read_to_string(cut.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while steps() < 3 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::write(&weights, "").expect("a writable file");
    assert!(!cut.join("model.safetensors").exists(), "the run was over before");
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("frozen is frozen"), "{}", said(&output));
    assert!(left(&whole) == left(&cut));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = text(&small(dir.path(), &BLOCK.replace("epochs 4", "epochs 400")));
    let out = dir.path().join("out");
    let mut child = archc(&["train", &spec, "--out", &text(&out), "--set", "width=64"]).spawn().expect("archc starts");
    let began = Instant::now();
    let lines = || std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while lines() < 12 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("a child that runs");
    child.wait().expect("a child");
    let before = std::fs::read(out.join("checkpoint")).expect("a checkpoint");
    // files of no more than half a checkpoint, counted in blocks of 512 bytes
    let script = format!(
        "ulimit -f {}; exec {} train {spec} --out {} --set width=64 --resume",
        before.len() / 2 / 512,
        env!("CARGO_BIN_EXE_archc"),
        text(&out)
    );
    let output = Command::new("sh").args(["-c", &script]).env("NO_COLOR", "1").output().expect("sh is there");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    // the last one's or the best one's
    for part in ["/checkpoint", "cannot be written", "ulimit -f unlimited", "is kept", "--resume"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(std::fs::read(out.join("checkpoint")).expect("a checkpoint"), before);
}

#[test]
fn bad_data_is_said_with_a_way_out() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = small(dir.path(), BLOCK);
    let data = dir.path().join("data");
    let original = std::fs::read_to_string(&spec).expect("the spec");
    let mut number = 0;
    let mut check = |spec_text: &str, extra: &[&str], wanted: &[&str]| {
        number += 1;
        std::fs::write(&spec, spec_text).expect("a writable folder");
        let (spec, out) = (text(&spec), text(&dir.path().join(format!("out{number}"))));
        let output = run(&[&["train", &spec, "--out", &out], extra].concat());
        let told = said(&output);
        assert!(!output.status.success(), "{wanted:?}: {told}");
        for part in wanted {
            assert!(told.contains(part), "{part:?} is not in: {told}");
        }
        assert!(!told.contains("panicked"), "{told}");
    };
    let help = "= help:";
    check(
        &original.replace("linear(2)", "linear(10)"),
        &[],
        &["the labels do not match the head: 2 classes, `fc` gives 10", "`replace fc with linear(2)`", "spec.arch:"],
    );
    check(&original, &["--batch", "64"], &["a batch of 64 is larger than the data: 40 training pictures", help]);
    check(&original.replace("\"data\"", "\"date\""), &[], &["is not there", help]);
    check(&original.replace("cross_entropy", "mse"), &[], &["`mse` needs numbers", "target = image"]);
    check(&original.replace("cross_entropy", "mse(target = image)"), &[], &["needs an output like the input"]);
    check(
        &original.replace("preprocess { mean = 0.5, std = 0.5 }", "").replace("28, 28", "32, 32"),
        &[],
        &["is 28 x 28, the network's input is 32 x 32", "preprocess { resize = 32"],
    );
    check(&original, &["--device", "cuda:99"], &["there is no", "cuda", help]);
    check(&original, &["--device", "cpu", "--dtype", "bf16"], &["in f32 only", "--device cuda", help]);
    check(&original, &["--dtype", "f16"], &["not in f16", "bf16", help]);
    let out = text(&dir.path().join("nowhere"));
    assert_eq!(run(&["train", &text(&spec), "--out", &out, "--device", "cuda:99"]).status.code(), Some(3));
    check(original.split("train {").next().expect("the network"), &[], &["has no `train` block", help]);
    check(&original.replace("lr = 0.01", "lr = 1e30").replace("clip 1", ""), &[], &["error[non-finite]", "checkpoint"]);
    check(&original, &["--resume"], &["there is no run in"]);
    let unfreezes = |line: &str| original.replace("train {", "freeze all except fc\ntrain {").replace("clip 1", line);
    check(&unfreezes("unfreeze conv2 after 4"), &[], &["never learn: the run has 4 epochs", "spec.arch:", help]);
    check(&unfreezes("unfreeze conv2 after 0.5"), &[], &["needs whole epochs, 1 or more, got a float (0.5)", help]);
    check(&unfreezes("unfreeze fc after 1"), &[], &["names no frozen layer", "freeze all except fc"]);
    check(&unfreezes("unfreeze conv2 after 1\nunfreeze conv* after 2"), &[], &["already", "given here", "`except`"]);
    check(&unfreezes("unfreeze conv2"), &[], &["needs the epochs after which", "`unfreeze layer4 after 2`"]);
    check(&unfreezes("lr conv2 by 0.1"), &[], &["names no trainable tensor"]);
    check(
        &original
            .replace("augment", "early_stopping patience(2)\naugment")
            .replace("(\"data\")", "(\"data/train\", split = 0)"),
        &[],
        &["nothing is kept for validation", help],
    );

    let val = data.join("val/9");
    std::fs::create_dir(&val).expect("a writable folder");
    std::fs::copy(
        std::fs::read_dir(data.join("val/1")).expect("digits").flatten().next().expect("a digit").path(),
        val.join("a.png"),
    )
    .expect("a copy");
    check(&original, &[], &["has `9`, which", "lacks", help]);
    std::fs::remove_dir_all(val).expect("a writable folder");

    std::fs::write(data.join("train/1/bad.png"), b"\x89PNG\r\n\x1a\nxx").expect("a writable folder");
    check(&original, &[], &["bad.png` is a damaged PNG file", "skip_corrupt = true"]);
    std::fs::write(&spec, original.replace("(\"data\")", "(\"data\", skip_corrupt = true)"))
        .expect("a writable folder");
    let told = ok(&["train", &text(&spec), "--out", &text(&dir.path().join("skips"))]);
    assert_eq!(told.matches("warning[input]").count(), 1, "{told}");
    std::fs::remove_file(data.join("train/1/bad.png")).expect("a writable folder");

    let empty = data.join("train/3");
    std::fs::create_dir(&empty).expect("a writable folder");
    check(&original, &[], &["no pictures in `3` of", help]);
    std::fs::remove_dir(empty).expect("a writable folder");
    for part in ["train/7", "val/7"] {
        std::fs::remove_dir_all(data.join(part)).expect("a writable folder");
    }
    check(&original, &[], &["the data has one class only, `1`", help]);
}

#[test]
fn a_frozen_prefix_is_kept_without_changing_a_bit_and_frozen_is_frozen() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let block = "freeze all except fc\ntrain {\n data folder(\"data\")\n loss cross_entropy\n epochs 3\n batch 7\n}\n";
    let spec = text(&small(dir.path(), block));
    let (kept, plain) = (dir.path().join("kept"), dir.path().join("plain"));
    let told = ok(&["train", &spec, "--out", &text(&kept)]);
    // dropout varies, so that it is where the prefix ends
    assert!(told.contains("frozen prefix: 6 layers up to global_avg_pool2d"), "{told}");
    assert!(told.contains("frozen is frozen: 8 tensors"), "{told}");
    let told = ok(&["train", &spec, "--out", &text(&plain), "--no-prefix-cache"]);
    assert!(!told.contains("frozen prefix"), "{told}");
    assert!(left(&kept) == left(&plain), "other bits");
}

/// A network whose head learns first, then more of it.
#[test]
fn layers_unfreeze_by_epoch() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let block = |epochs: usize| {
        format!(
            "freeze all except fc\ntrain {{\n data folder(\"data\")\n loss cross_entropy\n optimizer adam(lr = 0.01)\n \
             epochs {epochs}\n batch 7\n average 0.9\n lr conv2 by 0.5\n \
             unfreeze conv2 after 2\n unfreeze conv1, bn1 after 4\n}}\n"
        )
    };
    let spec = text(&small(dir.path(), &block(6)));
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let told = ok(&["train", &spec, "--out", &text(&whole)]);
    for layers in ["6 layers up to global_avg_pool2d", "3 layers up to relu"] {
        assert!(told.contains(layers), "{layers}: {told}");
    }
    assert_eq!(told.matches("frozen prefix").count(), 2, "{told}");
    // cut off in every stage, and one step behind where one ends
    let lines = |out: &Path| std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    let each = lines(&whole) / 6;
    let mut goals = vec![each + 2, 2 * each + 1, 3 * each, 4 * each + 2, 5 * each];
    goals.reverse();
    let mut args = vec!["train".to_string(), spec.clone(), "--out".into(), text(&cut), "--no-prefix-cache".into()];
    loop {
        let mut child = archc(&args.iter().map(String::as_str).collect::<Vec<_>>()).spawn().expect("archc starts");
        let goal = goals.pop();
        while child.try_wait().expect("a child").is_none() && goal.is_none_or(|goal| lines(&cut) < goal) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let running = child.try_wait().expect("a child").is_none();
        if goal.is_some() && running {
            child.kill().expect("a child that runs");
        }
        let output = child.wait_with_output().expect("a child");
        if goal.is_none() || !running {
            assert!(output.status.success(), "{}", said(&output));
            break;
        }
        if args.len() == 5 && cut.join("checkpoint").exists() {
            args.push("--resume".into());
        } else if args.len() == 5 {
            std::fs::remove_dir_all(&cut).expect("a writable folder");
        }
    }
    assert!(left(&cut) == left(&whole), "other bits");
    // what is frozen throughout has not changed; what unfreezes has
    assert!(!told.contains("frozen is frozen"), "nothing is frozen to the end: {told}");
    std::fs::write(&spec, std::fs::read_to_string(&spec).expect("the spec").replace(", bn1 after 4", " after 4"))
        .expect("a writable folder");
    let told = ok(&["train", &spec, "--out", &text(&dir.path().join("norm"))]);
    assert!(told.contains("frozen is frozen: 5 tensors"), "{told}");
}

#[test]
fn the_examples_learn() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = text(&dir.path().join("small"));
    let told = ok(&["train", "examples/digits_small.arch", "--out", &out]);
    let accuracy = told.lines().last().unwrap_or_default();
    let accuracy: f64 = accuracy
        .split("accuracy ")
        .nth(1)
        .and_then(|text| text.trim_end_matches(" %").parse().ok())
        .unwrap_or_else(|| panic!("{told}"));
    assert!(accuracy > 75.0, "{told}");
    for spec in ["digits", "digits_full", "digits_autoencoder"] {
        ok(&["check", &format!("examples/{spec}.arch")]);
    }
}
