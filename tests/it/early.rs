//! What is known without running is said by `check`, and before weights are read.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn archc(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(dir).args(args).env("NO_COLOR", "1").stdin(Stdio::null()).output().expect("archc starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
    std::fs::write(path, text).expect("a writable folder");
}

/// Empty files that are called pictures: nothing here may decode them.
fn pictures(dir: &Path, names: &[&str]) {
    names.iter().for_each(|name| write(dir, name, ""));
}

const NETWORK: &str = "network small {\n\
    input image: [N, 1, 8, 8]\n\
    preprocess { }\n\
    conv: conv2d(4, kernel = 3, padding = 1)\n\
    global_avg_pool2d\n\
    fc: linear(5)\n\
}\n\
base small\n";

#[test]
fn check_looks_at_the_data_of_a_train_block() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    pictures(dir.path(), &["data/a/1.png", "data/a/2.png", "data/b/1.png", "data/c/1.png"]);
    write(dir.path(), "table.csv", "data/a/1.png,x\ndata/a/9.png,y\ndata/b/1.png,x\n");
    write(dir.path(), "numbers.csv", "data/a/1.png,1,2\ndata/a/2.png,3,4\n");
    let cases: &[(&str, &[&str])] = &[
        ("data folder(\"nowhere\"); loss cross_entropy", &["error[input]", "nowhere` is not there", "spec.arch:10:14"]),
        ("data csv(\"no.csv\"); loss cross_entropy", &["error[input]", "no.csv` cannot be read", "spec.arch:10:14"]),
        (
            "data folder(\"data\", split = 0); loss cross_entropy; batch 40; early_stopping patience(2)",
            &[
                "3 classes, `fc` gives 5",
                "`replace fc with linear(3)`",
                "a batch of 40 is larger than the data: 4 training pictures",
                "nothing is kept for validation",
            ],
        ),
        (
            "data csv(\"table.csv\", split = 0); loss cross_entropy; batch 1",
            &["1 of 3 pictures", "a/9.png", "skip_corrupt"],
        ),
        (
            "data csv(\"numbers.csv\", split = 0); loss mse; batch 1",
            &["2 numbers a row, the network's output is [N, 5]"],
        ),
        ("data folder(\"data\"); loss mse", &["`mse` needs numbers", "target = image"]),
    ];
    for (block, wanted) in cases {
        write(dir.path(), "spec.arch", &format!("{NETWORK}\ntrain {{ {block} }}\n"));
        let output = archc(dir.path(), &["check", "spec.arch"]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{block}: {told}");
        for part in *wanted {
            assert!(told.contains(part), "{block}: {part:?} is not in: {told}");
        }
        // the other commands do without the data
        for command in ["plan", "show", "run"] {
            let output = archc(dir.path(), &[command, "spec.arch"]);
            assert!(output.status.success(), "{command}: {}", stderr(&output));
        }
    }
    let right = "data folder(\"data\", split = 0); loss cross_entropy; batch 2";
    write(dir.path(), "spec.arch", &format!("{NETWORK}replace fc with linear(3)\ntrain {{ {right} }}\n"));
    let output = archc(dir.path(), &["check", "spec.arch"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn random_weights_that_are_frozen_are_told() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    pictures(dir.path(), &["data/a/1.png", "data/b/1.png"]);
    let told = |edits: &str| {
        let train = "train { data folder(\"data\", split = 0); loss cross_entropy; epochs 3; batch 2";
        write(dir.path(), "spec.arch", &format!("{NETWORK}replace fc with linear(2)\n{edits}").replace("TRAIN", train));
        let output = archc(dir.path(), &["check", "spec.arch"]);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let base = told("freeze all except fc\nTRAIN }\n");
    assert!(base.contains("warning[train]: 1 layer is frozen with random weights"), "{base}");
    assert!(base.contains("spec.arch:8:6") && base.contains("base small { weights"), "{base}");
    let run = archc(dir.path(), &["run", "spec.arch"]);
    assert!(stderr(&run).contains("random(seed = 0): 2 drawn, 2 dropped (fc), 2 new (fc)"), "{}", stderr(&run));
    let made = told("insert conv2d(4, kernel = 1) as more after conv\nfreeze more\nTRAIN }\n");
    assert!(made.contains("warning[train]: `more` is frozen with random weights"), "{made}");
    assert!(!made.contains("layer is frozen"), "{made}");
    for quiet in [
        "TRAIN }\n",
        "init conv with zeros\nfreeze conv\nTRAIN }\n",
        "freeze conv\nTRAIN; unfreeze conv after 1 }\n",
        // nothing that learns hears of it
        "output old = fc\nappend { conv -> global_avg_pool2d -> head: linear(2) } as aux\nfreeze fc\nTRAIN }\n",
    ] {
        assert_eq!(told(quiet), "");
    }
}

/// A block with a mistake has no data to look at.
#[test]
fn check_of_a_wrong_train_block_says_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (line, message) in [
        ("data \"digits\"; loss cross_entropy", "`data folder(\"digits\")`"),
        ("data folder(\"digits\")", "`train` needs `loss`"),
        ("data folder(3); loss cross_entropy; batch 0", "`batch` is"),
    ] {
        write(dir.path(), "spec.arch", &format!("{NETWORK}train {{ {line} }}\n"));
        let output = archc(dir.path(), &["check", "spec.arch"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

/// An option that takes the place of a line of the block is told, and one that does not is too.
#[test]
fn options_beside_the_block_are_told() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    pictures(dir.path(), &["data/a/1.png", "data/a/2.png", "data/b/1.png", "data/c/1.png"]);
    let block = "set fc.out = 3\ntrain { data folder(\"data\", split = 0); loss cross_entropy; batch 4; seed 7 }\n";
    write(dir.path(), "spec.arch", &format!("{NETWORK}{block}"));
    let told = |args: &[&str]| {
        let all = [&["train", "spec.arch", "--out", "run"], args].concat();
        let output = archc(dir.path(), &all);
        assert_ne!(output.status.code(), Some(0), "empty files are no pictures");
        stderr(&output)
    };
    let both = told(&["--batch", "2", "--seed", "3"]);
    assert!(both.contains("batch: 2, as `--batch` says; the spec's is 4"), "{both}");
    assert!(both.contains("seed: 7, as the spec says; `--seed 3` is for what has none there"), "{both}");
    let none = told(&["--batch", "4"]);
    assert!(!none.contains("`--batch`") && !none.contains("seed: "), "{none}");
}

/// Labels of whole pictures are not learned by pixels: the way out keeps the classes that are there.
#[test]
fn a_network_that_answers_by_pixels_needs_one_answer_a_picture() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    pictures(dir.path(), &["data/a/1.png", "data/a/2.png", "data/b/1.png", "data/c/1.png"]);
    let train = "train { data folder(\"data\", split = 0); loss cross_entropy; batch 1 }\n";
    let check = |edits: &str| {
        write(dir.path(), "spec.arch", &format!("{NETWORK}{edits}\n{train}"));
        stderr(&archc(dir.path(), &["check", "spec.arch"]))
    };
    let pixels = check("replace global_avg_pool2d..=fc with conv2d(3, kernel = 1)");
    assert!(pixels.contains("one answer a picture: `append global_avg_pool2d`"), "{pixels}");
    assert_eq!(check("replace global_avg_pool2d..=fc with conv2d(3, kernel = 1)\nappend global_avg_pool2d"), "");
    let wide = check("replace global_avg_pool2d..=fc with conv2d(7, kernel = 1)");
    assert!(wide.contains("`append { global_avg_pool2d; fc: linear(3) }`"), "{wide}");
}

/// The loss of `eval` is the plain cross entropy, also where training's is not.
#[test]
fn eval_says_that_its_loss_is_not_the_training_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits/val");
    let digits = digits.to_str().expect("a path of text");
    let eval = |loss: &str| {
        let train = format!("train {{ data folder(\"data\"); loss {loss} }}\n");
        write(dir.path(), "spec.arch", &format!("{NETWORK}set fc.out = 10\n{train}"));
        stderr(&archc(dir.path(), &["eval", "spec.arch", "--data", digits]))
    };
    let smoothed = eval("cross_entropy(label_smoothing = 0.1)");
    assert!(smoothed.contains("training's has label_smoothing = 0.1 too"), "{smoothed}");
    assert!(!eval("cross_entropy").contains("note: the loss"));
}
