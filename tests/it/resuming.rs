//! Runs that go on, as their users see them: only with what they were begun with, wherever their folder lies by then.

use std::path::Path;

use std::process::Command;
use std::time::{Duration, Instant};

use crate::train::{BLOCK, archc, left, ok, run, said, small, text};

/// [`small`] from a file of weights, with its head in another file and its first layer frozen.
fn edited(dir: &Path) -> String {
    let spec = small(dir, "");
    let base = text(&dir.join("base.safetensors"));
    ok(&["export", &text(&spec), "--to", "safetensors", "--output", &base, "--seed", "1"]);
    let network = std::fs::read_to_string(&spec).expect("the spec");
    let (network, base) = network.split_once("base small").expect("a base");
    let whole = format!(
        "{network}use \"head.arch\"\nbase small{} {{ weights \"base.safetensors\" }}\n\
         replace fc with head\nfreeze conv1\n{BLOCK}",
        base.trim_end()
    );
    std::fs::write(&spec, whole).expect("a writable folder");
    std::fs::write(dir.join("head.arch"), "block head { out: linear(2) }\n").expect("a writable folder");
    text(&spec)
}

#[test]
fn what_has_changed_since_a_run_was_begun_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let spec = edited(dir.path());
    let out = text(&at("out"));
    ok(&["train", &spec, "--out", &out]);
    let before = left(&at("out"));
    let kept_spec = std::fs::read_to_string(at("out/spec.arch")).expect("the spec");
    let refused = |extra: &[&str], wanted: &[&str]| {
        std::fs::remove_file(at("out/model.safetensors")).expect("the model");
        let output = run(&[&["train", &spec, "--out", &out, "--resume"], extra].concat());
        let told = said(&output);
        assert_eq!(output.status.code(), Some(1), "{wanted:?}: {told}");
        for part in
            wanted.iter().chain(&["was begun with something else", "begin a new run in another folder: `--out`"])
        {
            assert!(told.contains(part), "{part:?} is not in: {told}");
        }
        // at the beginning: nothing is written
        assert!(!at("out/model.safetensors").exists());
        assert_eq!(std::fs::read_to_string(at("out/spec.arch")).expect("the spec"), kept_spec);
        std::fs::write(at("out/model.safetensors"), &before[0]).expect("a writable folder");
    };
    let changed = |name: &str, from: &str, to: &str, wanted: &[&str]| {
        let original = std::fs::read_to_string(at(name)).expect("a text");
        assert!(original.contains(from), "{name}: {original}");
        std::fs::write(at(name), original.replace(from, to)).expect("a writable folder");
        refused(&[], wanted);
        std::fs::write(at(name), original).expect("a writable folder");
    };
    changed(
        "spec.arch",
        "clip 1",
        "clip 2",
        &["else: the spec has changed", "`archc train ", "out/spec.arch --out .."],
    );
    // the way out: what the kept spec begins comes to the same
    ok(&["train", &text(&at("out/spec.arch")), "--out", &text(&at("anew"))]);
    assert!(left(&at("anew"))[0] == before[0], "other bits");
    changed("head.arch", "linear", "dropout(0.2) -> linear", &["else: `head.arch`, which the spec uses, has changed"]);
    refused(&["--set", "width=4"], &["else: the parameter `width` was the spec's own, is 4"]);
    refused(&["--batch", "5"], &["else: the batch was 6, is 5"]);
    refused(&["--seed", "5"], &["else: the seed of fresh weights was 0, is 5", "the seed was 0, is 5"]);
    refused(&["--exact"], &["the option `--exact` was not given, is given"]);

    let base = std::fs::read(at("base.safetensors")).expect("the weights");
    let mut other = base.clone();
    // a value of conv2, which is most of the file; what the spec drops may change
    let middle = base.len() * 3 / 4;
    other[middle] ^= 1;
    std::fs::write(at("base.safetensors"), &other).expect("a writable folder");
    refused(&[], &["else: the weights in `", "base.safetensors` have changed: their sha256 was "]);
    std::fs::write(at("base.safetensors"), base).expect("a writable folder");

    let swap = || {
        for part in ["train", "val"] {
            let class = |name: &str| at("data").join(part).join(name);
            for (from, to) in [("1", "x"), ("7", "1"), ("x", "7")] {
                std::fs::rename(class(from), class(to)).expect("a class");
            }
        }
    };
    swap();
    refused(&[], &["else: the picture `train/1/"]);
    swap();
    for part in ["train", "val"] {
        std::fs::rename(at("data").join(part).join("7"), at("data").join(part).join("8")).expect("a class");
    }
    refused(&[], &["else: class 1 was `7`, is `8`"]);
    for part in ["train", "val"] {
        std::fs::rename(at("data").join(part).join("8"), at("data").join(part).join("7")).expect("a class");
    }

    // with everything put back, and from elsewhere, it is the same run
    std::fs::rename(dir.path().join("data"), dir.path().join("moved")).expect("the data");
    std::fs::create_dir(dir.path().join("elsewhere")).expect("a writable folder");
    for name in ["spec.arch", "head.arch", "base.safetensors"] {
        std::fs::rename(at(name), at("elsewhere").join(name)).expect("a file");
    }
    std::fs::rename(at("moved"), at("elsewhere/data")).expect("the data");
    ok(&["train", &text(&at("elsewhere/spec.arch")), "--out", &out, "--resume", "--threads", "1"]);
    assert!(left(&at("out")) == before, "other bits");
}

#[test]
fn a_copy_of_a_runs_folder_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = text(&small(dir.path(), BLOCK));
    let (out, copy) = (dir.path().join("out"), dir.path().join("copy"));
    ok(&["train", &spec, "--out", &text(&out)]);
    std::fs::create_dir(&copy).expect("a writable folder");
    // as `cp run/* copy/` does: what begins with a dot stays behind
    for entry in std::fs::read_dir(&out).expect("the run's folder").flatten() {
        if !entry.file_name().to_string_lossy().starts_with('.') {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
        }
    }
    ok(&["train", &spec, "--out", &text(&copy), "--resume"]);
    assert!(left(&copy) == left(&out), "other bits");

    // a bit that a copy loses is found, and what is told helps
    let mut bytes = std::fs::read(copy.join("checkpoint")).expect("the checkpoint");
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 1;
    std::fs::write(copy.join("checkpoint"), bytes).expect("a writable folder");
    std::fs::remove_file(copy.join("model.safetensors")).expect("the model");
    let output = run(&["train", &spec, "--out", &text(&copy), "--resume"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("it is damaged, its content is not what was written"), "{told}");
    let way = told.split("`cp ").nth(1).and_then(|rest| rest.split('`').next()).expect("a way out");
    let (from, to) = way.split_once(' ').expect("two files");
    std::fs::copy(from, to).expect("a copy");
    ok(&["train", &spec, "--out", &text(&copy), "--resume"]);
    assert!(left(&copy) == left(&out), "other bits");
}

#[cfg(unix)]
#[test]
fn a_run_that_is_told_to_end_writes_its_checkpoint_and_says_how_it_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = text(&small(dir.path(), &BLOCK.replace("epochs 4", "epochs 40")));
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut off"));
    ok(&["train", &spec, "--out", &text(&whole), "--set", "width=6"]);
    let lines = || std::fs::read_to_string(cut.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    let mut resume: Option<String> = None;
    for (signal, status, goal) in [("TERM", 143, 10), ("HUP", 129, 60)] {
        let mut command = match &resume {
            None => archc(&["train", &spec, "--out", &text(&cut), "--set", "width=6"]),
            // as it was told, by a shell
            Some(told) => {
                let mut shell = Command::new("sh");
                let words = told.strip_prefix("archc ").expect("a command of archc");
                shell.args(["-c", &format!("exec {} {words}", env!("CARGO_BIN_EXE_archc"))]).env("NO_COLOR", "1");
                shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                shell
            }
        };
        let mut child = command.spawn().expect("archc starts");
        let began = Instant::now();
        while lines() < goal && child.try_wait().expect("a child").is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "{} lines", lines());
            std::thread::sleep(Duration::from_millis(2));
        }
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
        let output = child.wait_with_output().expect("a child");
        let told = said(&output);
        assert_eq!(output.status.code(), Some(status), "{told}");
        assert!(told.contains("the checkpoint is written"), "{told}");
        // that of the step at work, and not of a minute or an epoch before
        let checkpoint = archc::stages::weights::Store::open_file(&cut.join("checkpoint")).expect("a checkpoint");
        let position: serde_json::Value =
            serde_json::from_str(&checkpoint.metadata()["archc.position"]).expect("a position");
        let metrics = std::fs::read_to_string(cut.join("metrics.jsonl")).expect("metrics");
        let steps = metrics.lines().filter(|line| line.contains("\"step\"")).count();
        assert_eq!(position["step"], steps, "{told}");
        let way = told.lines().find_map(|line| line.strip_prefix("go on with: ")).expect("a way to go on");
        resume = Some(way.to_string());
    }
    ok(&["train", &spec, "--out", &text(&cut), "--set", "width=6", "--resume"]);
    assert!(left(&cut) == left(&whole), "other bits");
}

#[test]
fn a_runs_folder_does_not_lie_in_the_data() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = text(&small(dir.path(), BLOCK));
    let data = dir.path().join("data");
    for (out, wanted) in [
        (data.join("out"), "lies in the data folder `"),
        (data.join("train/1/x"), "lies in"),
        (data.clone(), "is the data folder"),
    ] {
        let there = out.exists();
        for resume in [&[][..], &["--resume"]] {
            let output = run(&[&["train", &spec, "--out", &text(&out)], resume].concat());
            let told = said(&output);
            assert_eq!(output.status.code(), Some(1), "{told}");
            for part in [wanted, "would be taken for data by the next one", "spec.arch:", "= help:"] {
                assert!(told.contains(part), "{part}: {told}");
            }
            assert!(!out.join(".lock").exists() && out.exists() == there);
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_says_a_way_out_that_works() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = small(dir.path(), &BLOCK.replace("lr = 0.01", "lr = 1e30").replace("clip 1", ""));
    let out = dir.path().join("out");
    let output = run(&["train", &text(&spec), "--out", &text(&out)]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in ["error[non-finite]", "is kept: ", "begin a new run in another folder: `--out`", "a smaller `lr`"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("go on from there"), "{told}");
    // what is told not to help does not, what is told to does
    assert!(said(&run(&["train", &text(&spec), "--out", &text(&out), "--resume"])).contains("error[non-finite]"));
    let original = std::fs::read_to_string(&spec).expect("the spec");
    std::fs::write(&spec, original.replace("lr = 1e30", "lr = 0.01")).expect("a writable folder");
    ok(&["train", &text(&spec), "--out", &text(&dir.path().join("other"))]);
}

#[test]
fn an_evaluation_of_nothing_is_an_error_and_of_a_part_is_told() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = text(&small(dir.path(), BLOCK));
    let val = dir.path().join("data/val");
    let files = |class: &str| std::fs::read_dir(val.join(class)).expect("a class").flatten().map(|entry| entry.path());
    let damage = |path: &Path| std::fs::write(path, b"\x89PNG\r\n\x1a\n").expect("a writable folder");
    let evaluate = || run(&["eval", &spec, "--data", &text(&val), "--skip-corrupt"]);
    files("1").take(2).for_each(|path| damage(&path));
    let output = evaluate();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("left out: 2 of 10 pictures, which cannot be read"), "{}", said(&output));
    // the spec's own data is taken as the spec says
    let block = BLOCK.replace("\"data\"", "\"data\", skip_corrupt = true");
    assert_ne!(block, BLOCK);
    let skipping = text(&small(&dir.path().join("again"), &block));
    let first = std::fs::read_dir(dir.path().join("again/data/val/1")).expect("a class").flatten().next();
    damage(&first.expect("a picture").path());
    let output = run(&["eval", &skipping]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("left out: 1 of 10 pictures"), "{}", said(&output));
    ["1", "7"].into_iter().flat_map(files).for_each(|path| damage(&path));
    let output = evaluate();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("none of the 10 pictures of"), "{}", said(&output));
    assert!(output.stdout.is_empty(), "{}", said(&output));
}

#[test]
fn a_comment_is_no_change() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let spec = edited(dir.path());
    let out = text(&at("out"));
    ok(&["train", &spec, "--out", &out]);
    let before = left(&at("out"));
    let original = std::fs::read_to_string(&spec).expect("the spec");
    let commented =
        original.replace("clip 1", "clip   1 # so that it stays\n\n  # small").replace("archc 1\n", "# mine\n");
    assert!(commented.len() > original.len() + 20, "{commented}");
    std::fs::write(&spec, format!("{commented}\n# the end\n")).expect("a writable folder");
    std::fs::write(at("head.arch"), "# one layer\nblock head { out:linear(2) }\n").expect("a writable folder");
    std::fs::remove_file(at("out/model.safetensors")).expect("the model");
    ok(&["train", &spec, "--out", &out, "--resume"]);
    assert!(left(&at("out"))[0] == before[0], "other bits");
    // a text is no comment
    std::fs::write(&spec, original.replace("\"data\"", "\"data#\"")).expect("a writable folder");
    std::fs::rename(at("data"), at("data#")).expect("a writable folder");
    let output = run(&["train", &spec, "--out", &out, "--resume"]);
    assert!(said(&output).contains("the spec has changed"), "{}", said(&output));
}

#[test]
fn classes_without_a_picture_that_can_be_read_are_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let block = BLOCK.replace("\"data\"", "\"data\", skip_corrupt = true");
    let spec = text(&small(dir.path(), &block));
    for class in ["train/7", "val/1"] {
        for file in std::fs::read_dir(dir.path().join("data").join(class)).expect("a class").flatten() {
            std::fs::write(file.path(), b"\x89PNG\r\n\x1a\n").expect("a writable folder");
        }
    }
    let told = ok(&["train", &spec, "--out", &text(&dir.path().join("out"))]);
    for part in ["no training picture of `7` can be read", "no validation picture of `1` can be read"] {
        assert_eq!(told.matches(part).count(), 1, "{part}: {told}");
    }
    assert!(!told.contains("picture of `1` and") && told.contains("is not learned"), "{told}");
    let told = ok(&["eval", &spec, "--weights", &text(&dir.path().join("out/model.safetensors"))]);
    assert!(told.contains("left out: every picture of `1`\n"), "{told}");
}

#[test]
fn a_table_is_evaluated_as_it_was_kept() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let rows = |part: &str| -> String {
        let row = |class: &str| -> Vec<String> {
            let folder = dir.path().join("data").join(part).join(class);
            let name = if class == "1" { "one" } else { "seven" };
            let files = std::fs::read_dir(folder).expect("a class").flatten();
            files.map(|file| format!("{},{name}\n", text(&file.path()))).collect()
        };
        let mut rows = [row("1"), row("7")].concat();
        rows.sort();
        rows.concat()
    };
    let write = |name: &str, rows: &str| std::fs::write(dir.path().join(name), rows).expect("a writable folder");
    let with = |data: &str| text(&small(dir.path(), &BLOCK.replace("folder(\"data\")", data)));
    let split = with("csv(\"train.csv\", split = 0.25)");
    write("train.csv", &rows("train"));
    write("val.csv", &rows("val"));
    let out = text(&dir.path().join("out"));
    ok(&["train", &split, "--out", &out]);
    let model = text(&dir.path().join("out/model.safetensors"));
    let eval = |spec: &str, extra: &[&str]| ok(&[&["eval", spec, "--weights", &model], extra].concat());
    assert!(eval(&split, &[]).contains("pictures  10\n"), "{}", eval(&split, &[]));
    let table = text(&dir.path().join("train.csv"));
    assert!(eval(&split, &["--data", &table]).contains("pictures  40\n"), "{}", eval(&split, &["--data", &table]));
    let both = with("csv(\"train.csv\", val = \"val.csv\")");
    let told = eval(&both, &[]);
    assert!(told.contains("pictures  10\n") && told.contains("seven"), "{told}");
    // the same pictures by their folders, whose classes are called otherwise
    let json = |extra: &[&str]| -> serde_json::Value {
        let output = run(&[&["eval", &both, "--weights", &model, "--json"], extra].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
    };
    let val = text(&dir.path().join("val.csv"));
    assert_eq!(json(&[])["accuracy"], json(&["--data", &val])["accuracy"]);
    // in another order of the labels, and with one that the network does not know
    write("turned.csv", &rows("val").lines().rev().map(|row| format!("{row}\n")).collect::<String>());
    let [plain, turned] =
        [json(&[]), json(&["--data", &text(&dir.path().join("turned.csv"))])].map(|found| found["loss"].as_f64());
    assert!(plain.zip(turned).is_some_and(|(plain, turned)| (plain - turned).abs() < 1e-6), "{plain:?} {turned:?}");
    write("other.csv", &rows("val").replacen("seven", "eight", 1));
    let output = run(&["eval", &both, "--weights", &model, "--data", &text(&dir.path().join("other.csv"))]);
    assert!(said(&output).contains("has `eight`, which the network does not know"), "{}", said(&output));
    let none = with("csv(\"train.csv\", split = 0)");
    let output = run(&["eval", &none, "--weights", &model]);
    assert!(
        said(&output).contains("nothing of the table") && said(&output).contains("`--data TABLE.csv`"),
        "{}",
        said(&output)
    );
}

#[test]
fn labels_that_a_trained_file_overrules_are_said() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let spec = small(dir.path(), BLOCK);
    let out = text(&dir.path().join("out"));
    ok(&["train", &text(&spec), "--out", &out]);
    let model = text(&dir.path().join("out/model.safetensors"));
    let original = std::fs::read_to_string(&spec).expect("the spec");
    let labelled = original.replacen("preprocess {", "labels \"names.txt\"\n    preprocess {", 1);
    std::fs::write(&spec, labelled).expect("a writable folder");
    let with = |names: &str| {
        std::fs::write(dir.path().join("names.txt"), names).expect("a writable folder");
        ok(&["eval", &text(&spec), "--weights", &model])
    };
    let told = with("eins\nsieben\n");
    assert!(told.contains("not by the spec's `labels`: class 0 is `1` there, and `eins` in"), "{told}");
    assert!(!with("1\n7\n").contains("not by the spec's"), "the same names");
}
