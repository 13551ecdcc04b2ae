//! What `run` and `eval` make of a network's outputs: which input goes where, what the values mean, and what is said of
//! values that are no numbers. Weights and inputs are such that every result is known.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use archc::Tensor;
use archc::stages::io::tensors::{Loaded, load};
use archc::stages::io::{npy, png};
use serde_json::{Value, json};

fn archc(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(dir).args(args).env("NO_COLOR", "1").stdin(Stdio::null()).output().expect("archc starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command that works prints.
fn ok(dir: &Path, args: &[&str]) -> String {
    let output = archc(dir, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command that does not work says.
fn refused(dir: &Path, args: &[&str]) -> String {
    let output = archc(dir, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
    stderr(&output)
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("a writable folder");
}

fn array(dir: &Path, name: &str, shape: &[usize], values: &[f32]) {
    std::fs::write(dir.join(name), npy::write(&Tensor::new(shape, values.to_vec()))).expect("a writable folder");
}

fn tensors(dir: &Path, name: &str, tensors: &[(&str, &[usize], &[f32])], metadata: &[(&str, &str)]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|one| one.2.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes).expect("a tensor"))
    });
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let file = safetensors::serialize(views, Some(metadata)).expect("a file");
    std::fs::write(dir.join(name), file).expect("a writable folder");
}

fn values(dir: &Path, name: &str) -> Vec<f32> {
    match load(&dir.join(name), "output").expect("a readable file") {
        Loaded::Float(tensor) => tensor.into_data(),
        Loaded::Pictures(_) => panic!("{name} holds floats"),
    }
}

fn json(dir: &Path, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join(name)).expect("a readable file")).expect("JSON")
}

const TWO: &str = "network two {\n\
    input left: [N, 1, 2, 2]\n\
    input right: [N, 1, 2, 2]\n\
    preprocess { }\n\
    (left * 10.0) - right\n\
}\n\
base two\n";

#[test]
fn a_network_without_a_classifier_gives_features() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    let spec =
        |last: &str| format!("network bare {{ input [N, 3]; x: {last} }}\nbase bare {{ weights random(seed = 0) }}\n");
    write(dir, "bare.arch", &spec("identity"));
    write(dir, "scores.arch", &spec("relu"));
    array(dir, "a.npy", &[1, 3], &[0.5, -2.0, 7.0]);
    let features = ok(dir, &["run", "bare.arch", "--input", "a.npy"]);
    assert!(features.contains("-2") && !features.contains('%'), "{features}");
    let scores = ok(dir, &["run", "scores.arch", "--input", "a.npy"]);
    assert!(scores.contains('%'), "{scores}");
}

#[test]
fn every_input_is_given_its_own() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    write(dir, "two.arch", TWO);
    array(dir, "a.npy", &[2, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    array(dir, "b.npy", &[2, 1, 2, 2], &[0.5, 0.25, 0.0, -1.0, 8.0, 8.0, 8.0, 8.0]);
    array(dir, "one.npy", &[1, 2, 2], &[1.0, 1.0, 1.0, 1.0]);
    let run = |inputs: &[&str]| {
        let inputs = inputs.iter().flat_map(|input| ["--input", input]);
        let args: Vec<&str> = ["run", "two.arch", "--output", "y.npy"].into_iter().chain(inputs).collect();
        ok(dir, &args);
        values(dir, "y.npy")
    };
    let wanted = [9.5, 19.75, 30.0, 41.0, 42.0, 52.0, 62.0, 72.0];
    assert_eq!(run(&["left=a.npy", "right=b.npy"]), wanted);
    assert_eq!(run(&["right=b.npy", "left=a.npy"]), wanted);
    let swapped = run(&["left=b.npy", "right=a.npy"]);
    assert_eq!(swapped[..4], [4.0, 0.5, -3.0, -14.0]);
    // one file for both, a tensor for each
    let (a, b) = (values(dir, "a.npy"), values(dir, "b.npy"));
    tensors(dir, "both.safetensors", &[("right", &[2, 1, 2, 2], &b), ("left", &[2, 1, 2, 2], &a)], &[]);
    assert_eq!(run(&["both.safetensors"]), wanted);
    // samples pair up in order
    assert_eq!(run(&["left=one.npy", "left=a.npy", "right=b.npy", "right=one.npy"])[8..], [49.0, 59.0, 69.0, 79.0]);
    // noise is each input's own
    ok(dir, &["run", "two.arch", "--output", "y.npy"]);
    assert!(values(dir, "y.npy").iter().all(|value| *value != 0.0));

    let cases: &[(&[&str], &[&str])] = &[
        (&["a.npy"], &["the network has the inputs `left` and `right`, which is `a.npy` for?", "--input left=a.png"]),
        (&["left=a.npy"], &["nothing is given for the input `right`", "--input left=a.png --input right=b.png"]),
        (&["lef=a.npy", "right=b.npy"], &["the network has no input `lef`", "did you mean `left`?"]),
        (&["left=a.npy", "right=one.npy"], &["different numbers of samples: `left` has 2, `right` has 1"]),
        (&["left=one.npy", "right=a.npy", "right=b.npy"], &["`left` has 1, `right` has 4"]),
        (&["left=no.npy", "right=b.npy"], &["no.npy"]),
    ];
    for (inputs, parts) in cases {
        let inputs = inputs.iter().flat_map(|input| ["--input", input]);
        let args: Vec<&str> = ["run", "two.arch", "--batch", "1"].into_iter().chain(inputs).collect();
        let told = refused(dir, &args);
        for part in *parts {
            assert!(told.contains(part), "{args:?}: {part:?} is not in {told}");
        }
    }
    tensors(dir, "single.safetensors", &[("left", &[2, 1, 2, 2], &a)], &[]);
    let told = refused(dir, &["run", "two.arch", "--input", "single.safetensors"]);
    assert!(told.contains("`single.safetensors` holds no tensor called `right`"), "{told}");
}

#[test]
fn pictures_of_several_inputs_pair_up() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    // the second picture is half as large, and prepared in proportion
    write(
        dir,
        "two.arch",
        "network two {\n input left: [N, 1, 4, 4]\n input right: [N, 1, 2, 2]\n preprocess { resize = 4, crop = 4 }\n\
         (left -> avg_pool2d(2)) * 10.0 - right\n}\nbase two\n",
    );
    let picture = |name: &str, size: usize, grey: u8| {
        grey_picture(&dir.join(name), size, grey);
    };
    for (name, size, grey) in
        [("white.png", 6, 255), ("black.png", 6, 0), ("left=white.png", 4, 255), ("grey.png", 9, 51)]
    {
        picture(name, size, grey);
    }
    let run = |left: &str, right: &str| {
        ok(dir, &["run", "two.arch", "--input", left, "--input", right, "--output", "y.npy"]);
        values(dir, "y.npy")
    };
    assert_eq!(run("left=white.png", "right=black.png"), [10.0; 4]);
    assert_eq!(run("left=black.png", "right=white.png"), [-1.0; 4]);
    assert_eq!(run("left=black.png", "right=grey.png"), [-0.2; 4]);
    write(dir, "broken.png", "no picture");
    let inputs = [
        "--input",
        "left=white.png",
        "--input",
        "left=black.png",
        "--input",
        "right=broken.png",
        "--input",
        "right=white.png",
    ];
    let told = refused(dir, &[&["run", "two.arch"][..], &inputs].concat());
    assert!(told.contains("broken.png") && told.contains("none can be left out"), "{told}");
    let inputs = ["--input", "left=white.png", "--input", "left=black.png", "--input", "right=white.png"];
    let told = refused(dir, &[&["run", "two.arch"][..], &inputs].concat());
    assert!(told.contains("`left` has 2, `right` has 1") && !told.contains("weights:"), "{told}");
    // a network of one input takes a file that is called so
    write(dir, "one.arch", "network one { input left: [N, 1, 4, 4]\n preprocess { }\n left * 3.0 }\nbase one\n");
    for (input, wanted) in
        [("left=white.png", 3.0), ("./left=white.png", 3.0), ("left=grey.png", 0.6), ("grey.png", 0.6)]
    {
        ok(dir, &["run", "one.arch", "--input", input, "--output", "y.npy"]);
        assert!(values(dir, "y.npy").iter().all(|value| (value - wanted).abs() < 1e-6), "{input}");
    }
    let told = refused(dir, &["run", "one.arch", "--input", "lift=grey.png"]);
    assert!(told.contains("no input `lift`") && told.contains("did you mean `left`?"), "{told}");
}

/// A linear layer from 2 to so many features: feature i is (i + 1) * (a + b) - 1.
fn linear(dir: &Path, features: usize, metadata: &[(&str, &str)]) {
    let weight: Vec<f32> = (0..features).flat_map(|at| [at as f32 + 1.0; 2]).collect();
    let bias = vec![-1.0; features];
    tensors(dir, "w.safetensors", &[("fc.weight", &[features, 2], &weight), ("fc.bias", &[features], &bias)], metadata);
}

#[test]
fn the_loss_says_what_outputs_are() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    array(dir, "x.npy", &[2, 2], &[0.5, 0.25, -2.0, 0.0]);
    let network = |features: usize, more: &str| {
        let text = format!(
            "network n {{ input x: [N, 2]; fc: linear({features}) }}\nbase n {{ weights \"w.safetensors\" }}\n{more}"
        );
        write(dir, "n.arch", &text);
    };
    let block = |loss: &str| format!("train {{ data csv(\"no.csv\"); loss {loss} }}\n");
    let run = |args: &[&str]| {
        let own = ["run", "n.arch", "--input", "x.npy", "--output", "y.json", "--output", "y.csv"];
        let told = ok(dir, &[&own, args].concat());
        (told, json(dir, "y.json"), std::fs::read_to_string(dir.join("y.csv")).expect("a table"))
    };

    // one output is a number, whether or not a loss says so
    linear(dir, 1, &[]);
    for more in ["", &block("mse"), &block("huber(delta = 0.5)")] {
        network(1, more);
        let (told, json, csv) = run(&[]);
        assert_eq!(told, "x.npy[0]\n     -0.250000\nx.npy[1]\n     -3.000000\n", "{more}");
        assert_eq!(json, json!([{ "file": "x.npy[0]", "values": [-0.25] }, { "file": "x.npy[1]", "values": [-3.0] }]));
        assert_eq!(csv, "file,index,label,value\nx.npy[0],0,,-0.25\nx.npy[1],0,,-3\n");
    }
    network(1, &block("bce_with_logits"));
    let (told, ..) = run(&[]);
    assert_eq!(told, "x.npy[0]\n   43.78 %     0\nx.npy[1]\n    4.74 %     0\n");

    // several are numbers only where that is known
    linear(dir, 3, &[]);
    network(3, &block("l1"));
    let (told, json, _) = run(&[]);
    assert!(told.starts_with("x.npy[0]\n     -0.250000     0\n      0.500000     1\n      1.250000     2\n"), "{told}");
    assert_eq!(json[0]["values"], json!([-0.25, 0.5, 1.25]));
    network(3, "");
    let softmax = run(&[]);
    assert!(softmax.0.starts_with("x.npy[0]\n   58.98 %     2\n   27.86 %     1\n   13.16 %     0\n"), "{}", softmax.0);
    let sum: f64 = softmax.1[0]["top"]
        .as_array()
        .expect("classes")
        .iter()
        .map(|one| one["probability"].as_f64().expect("a number"))
        .sum();
    assert!((sum - 1.0).abs() < 1e-6);

    // binary cross entropy: each class for itself
    network(3, &block("bce_with_logits"));
    let (told, json, csv) = run(&[]);
    assert!(told.starts_with("x.npy[0]\n   77.73 %     2\n   62.25 %     1\n   43.78 %     0\n"), "{told}");
    assert_eq!(json[0]["top"].as_array().map(Vec::len), Some(3));
    assert!(csv.contains("x.npy[0],1,2,,0.7772999\n"), "{csv}");

    // a trained file says it itself, and is right where the spec says another
    linear(dir, 3, &[("loss", "mse")]);
    network(3, &block("cross_entropy"));
    let (told, ..) = run(&["--weights", "w.safetensors"]);
    assert!(told.contains("  0.500000     1\n"), "{told}");
    network(3, "");
    assert_eq!(run(&[]).0, told);
    // an edit made another output, of which the file says nothing
    network(3, "replace fc with linear(4)\n");
    assert!(run(&[]).0.contains(" %"), "{told}");
    // exported weights say it too
    network(3, "");
    ok(dir, &["export", "n.arch", "--to", "safetensors", "--output", "out.safetensors"]);
    assert_eq!(run(&["--weights", "out.safetensors"]).0, told);
    // names belong to numbers as they do to classes
    linear(dir, 3, &[("loss", "l1"), ("classes", "[\"age\", \"height\", \"weight\"]")]);
    let (told, json, csv) = run(&["--weights", "w.safetensors"]);
    assert!(told.contains("  0.500000     1  height\n"), "{told}");
    assert_eq!(json[0]["labels"], json!(["age", "height", "weight"]));
    assert!(csv.contains("x.npy[0],2,weight,1.25\n"), "{csv}");
    linear(dir, 3, &[("classes", "[\"age\", \"height\"]")]);
    for args in [&["run", "n.arch", "--input", "x.npy", "--weights", "w.safetensors"][..], &["run", "n.arch"]] {
        let told = refused(dir, args);
        assert!(told.contains("the network gives 3 classes, ") && told.contains("w.safetensors names 2"), "{told}");
    }
}

#[test]
fn eval_knows_what_classes_are() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    for (class, grey) in [("dark", 0), ("light", 255)] {
        let at = dir.join("data").join(class);
        std::fs::create_dir_all(&at).expect("a writable folder");
        grey_picture(&at.join("1.png"), 2, grey);
    }
    // logits 1 - 2 grey, 2 grey - 1
    let values: [&[f32]; 2] = [&[-0.5, -0.5, -0.5, -0.5, 0.5, 0.5, 0.5, 0.5], &[1.0, -1.0]];
    let file = |metadata: &[(&str, &str)]| {
        tensors(dir, "w.safetensors", &[("fc.weight", &[2, 4], values[0]), ("fc.bias", &[2], values[1])], metadata);
    };
    write(
        dir,
        "n.arch",
        "network n { input x: [N, 1, 2, 2]; preprocess { }; flatten; fc: linear(2) }\nbase n { weights \"w.safetensors\" }\n",
    );
    let loss = |metadata: &[(&str, &str)]| -> f64 {
        file(metadata);
        let told = ok(dir, &["eval", "n.arch", "--data", "data", "--batch", "1000000", "--json"]);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!((told["accuracy"].as_f64(), told["samples"].as_u64()), (Some(1.0), Some(2)));
        told["loss"].as_f64().expect("a loss")
    };
    // torch.nn.functional: cross_entropy([[1, -1], [-1, 1]], [0, 1]) and binary_cross_entropy_with_logits of the same
    assert!((loss(&[]) - 0.126_928_01).abs() < 1e-6, "{}", loss(&[]));
    assert!((loss(&[("loss", "bce_with_logits")]) - 0.313_261_69).abs() < 1e-6);
    file(&[("loss", "mse")]);
    let told = refused(dir, &["eval", "n.arch", "--data", "data"]);
    assert!(told.contains("`eval` is for classifiers: this network learned by `mse`"), "{told}");
    file(&[]);
    for name in ["dark", "light"] {
        write(dir, &format!("data/{name}/1.png"), "no picture");
    }
    let told = refused(dir, &["eval", "n.arch", "--data", "data", "--skip-corrupt"]);
    assert!(told.contains("none of the 2 pictures of `data` could be read"), "{told}");
}

#[test]
fn the_first_layer_without_numbers_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    let norm = |name: &'static str, variance: f32| {
        [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", variance)]
            .map(|(part, value)| (format!("{name}.{part}"), vec![value; 2]))
    };
    let mut all: Vec<(String, Vec<f32>)> = norm("bn1", 1.0).into_iter().chain(norm("block.bn2", -4.0)).collect();
    all.last_mut().expect("a variance").1[0] = 1.0;
    let all: Vec<(&str, &[usize], &[f32])> =
        all.iter().map(|(name, values)| (name.as_str(), &[2][..], values.as_slice())).collect();
    tensors(dir, "w.safetensors", &all, &[]);
    write(
        dir,
        "n.arch",
        "network n {\n input image: [N, 2, 2, 2]\n bn1: batch_norm2d\n relu\n block: { bn2: batch_norm2d }\n flatten\n}\n\
         base n { weights \"w.safetensors\" }\n",
    );
    let warned = |args: &[&str]| {
        let output = archc(dir, args);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let outputs = ["--batch", "3", "--iterations", "3"];
    for args in [&["run", "n.arch"][..], &[&["bench", "n.arch"][..], &outputs].concat()] {
        let told = warned(args);
        assert_eq!(told.matches("warning[non-finite]").count(), 1, "{told}");
        for part in [
            "the outputs are not finite, from `block.bn2` on",
            "n.arch:5:",
            "4 of its 8 values are NaN or infinite, for `noise[0]`",
            "its `running_var` has 1 value below 0",
        ] {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
    }
    let nan = f32::NAN;
    array(
        dir,
        "x.npy",
        &[2, 2, 2, 2],
        &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, nan, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    );
    write(dir, "relu.arch", "network n { input image: [N, 2, 2, 2]; relu }\nbase n\n");
    let told = warned(&["run", "relu.arch", "--input", "x.npy"]);
    assert!(
        told.contains("the input `image` is not finite: 1 of 8 values") && told.contains("in `x.npy[1]`"),
        "{told}"
    );
    assert!(!warned(&["run", "relu.arch"]).contains("non-finite"));
    // exp overflows where the input is large, and only there
    array(dir, "x.npy", &[2, 2, 2, 2], &[1.0; 16].map(|value: f32| value * 100.0));
    write(dir, "exp.arch", "network n { input image: [N, 2, 2, 2]; large: exp; relu }\nbase n\n");
    let told = warned(&["run", "exp.arch", "--input", "x.npy"]);
    assert!(told.contains("from `large` on") && told.contains("8 of its 8 values"), "{told}");
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_run() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    write(dir, "n.arch", "network n { input x: [N, 4]; fc: linear(3); relu }\nbase n\noutput other = fc\n");
    std::fs::create_dir(dir.join("y.csv")).expect("a writable folder");
    for (output, part) in [
        ("y.npy", "holds one array, the network has the outputs `output`, `other`"),
        ("y.png", "no output is a picture [N, C, H, W]: `output` [1, 3], `other` [1, 3]"),
        ("no/y.json", "cannot be written"),
        ("y.csv", "is a folder, not a file"),
    ] {
        let told = refused(dir, &["run", "n.arch", "--output", "good.json", "--output", output]);
        assert!(told.contains(part) && !told.contains("weights:"), "{output}: {told}");
    }
    assert!(!dir.join("good.json").exists());
    ok(dir, &["run", "n.arch", "--output", "y.safetensors"]);
}

#[test]
fn a_result_is_not_written_over_what_is_read() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    write(dir, "q.arch", "network q { input x: [N, 3, 8, 8]; c: conv2d(3, kernel = 1) }\nbase q\n");
    ok(dir, &["export", "q.arch", "--to", "safetensors", "--output", "w.safetensors"]);
    write(
        dir,
        "w.arch",
        "network q { input x: [N, 3, 8, 8]; c: conv2d(3, kernel = 1) }\nbase q { weights \"w.safetensors\" }\n",
    );
    ok(dir, &["run", "w.arch", "--output", "in.png"]);
    let before = |name: &str| std::fs::read(dir.join(name)).expect("it is there");
    let (picture, weights) = (before("in.png"), before("w.safetensors"));
    for command in [
        &["run", "w.arch", "--input", "in.png", "--output", "in.png"][..],
        &["run", "w.arch", "--input", "in.png", "--output", "./in.png"],
        &["run", "w.arch", "--input", ".", "--output", "in.png"],
        &["run", "w.arch", "--output", "w.safetensors"],
        &["run", "q.arch", "--weights", "w.safetensors", "--output", "w.safetensors"],
        &["export", "w.arch", "--to", "safetensors", "--output", "w.safetensors"],
    ] {
        let told = refused(dir, command);
        assert!(told.contains("would be written over, and it is read"), "{command:?}: {told}");
    }
    assert!(before("in.png") == picture && before("w.safetensors") == weights);
    ok(dir, &["run", "w.arch", "--input", "in.png", "--output", "out.png"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_that_nobody_reads_is_no_wait() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    write(dir, "n.arch", "network n { input x: [N, 4]; fc: linear(3) }\nbase n\n");
    let pipe = dir.join("p.npy");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    let told = refused(dir, &["run", "n.arch", "--output", "p.npy"]);
    assert!(told.contains("`p.npy` cannot be written: nobody reads this pipe"), "{told}");
    let reader = std::thread::spawn(move || std::fs::read(pipe).expect("a pipe is read"));
    // the reader must have opened its end
    std::thread::sleep(std::time::Duration::from_millis(300));
    ok(dir, &["run", "n.arch", "--output", "p.npy"]);
    assert!(reader.join().expect("no panic").starts_with(b"\x93NUMPY"));
}

fn grey_picture(path: &Path, size: usize, grey: u8) {
    let bytes = png::encode(&vec![grey; size * size], size, size, 1).expect("it has pixels");
    std::fs::write(path, bytes).expect("a folder of the test");
}

#[test]
fn each_pixel_of_a_map_has_a_class() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    // the first class is x, the others are 1 - x and -1
    tensors(
        dir,
        "w.safetensors",
        &[("head.weight", &[3, 1, 1, 1], &[1.0, -1.0, 0.0]), ("head.bias", &[3], &[0.0, 1.0, -1.0])],
        &[],
    );
    array(dir, "x.npy", &[2, 1, 1, 4], &[0.0, 0.2, 0.4, 0.9, 0.6, 0.7, 0.8, 0.9]);
    write(dir, "names.txt", "sky\nroad\ncar\n");
    let network = |more: &str, labels: &str| {
        let network = "network n { input x: [N, 1, 1, 4]; head: conv2d(3, kernel = 1) }";
        write(dir, "n.arch", &format!("{network}\nbase n {{ weights \"w.safetensors\"; {labels} }}\n{more}"));
    };
    let run = |output: &str| ok(dir, &["run", "n.arch", "--input", "x.npy", "--output", output]);
    network("", "labels \"names.txt\"");
    let told = run("y.json");
    assert_eq!(
        told,
        "x.npy[0]  2 of 3 classes\n   75.00 %     1  road\n   25.00 %     0  sky\nx.npy[1]  1 of 3 classes\n  100.00 %     0  sky\n"
    );
    let found = json!([{ "index": 1, "label": "road", "share": 0.75 }, { "index": 0, "label": "sky", "share": 0.25 }]);
    assert_eq!(json(dir, "y.json")[0]["found"], found);
    run("y.png");
    let picture = std::fs::read(dir.join("y.png")).expect("a picture");
    assert!(picture.windows(4).any(|chunk| chunk == b"PLTE"), "it has a palette");
    // nothing says what the channels are: values
    network("", "");
    assert!(run("y.png").starts_with("output  f32  [2, 3, 1, 4]"));
    // a softmax over the channels does
    network("append { softmax(axis = 1) }", "");
    assert!(run("y.png").starts_with("x.npy[0]  2 of 3 classes\n   75.00 %     1\n"));
    // names that are not as many as channels
    write(dir, "names.txt", "sky\nroad\n");
    network("", "labels \"names.txt\"");
    let told = refused(dir, &["run", "n.arch", "--input", "x.npy"]);
    assert!(told.contains("the network has 3 outputs, `names.txt` has 2 names"), "{told}");
}
