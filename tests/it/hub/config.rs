//! What a repository says of its network in config.json, as timm writes it.

use std::path::Path;
use std::process::Command;

use super::server::{Reply, Server, model, tensor};
use super::{hub, text};

/// As `timm.models.push_to_hf_hub` writes it for resnet50.a1_in1k, but for the sizes, the classes and the licence.
const CONFIG: &str = r#"{
  "architecture": "resnet50",
  "num_classes": 4,
  "num_features": 2048,
  "global_pool": "avg",
  "label_names": ["n01", "n02", "n03", "n04"],
  "label_descriptions": {"n01": "one", "n02": "two", "n03": "three", "n04": "four"},
  "pretrained_cfg": {
    "tag": "a1_in1k",
    "custom_load": false,
    "input_size": [3, 8, 8],
    "test_input_size": [3, 16, 16],
    "fixed_input_size": false,
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "test_crop_pct": 1.0,
    "crop_mode": "center",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "num_classes": 4,
    "pool_size": [7, 7],
    "first_conv": "conv1",
    "classifier": "fc",
    "license": "cc-by-nc-4.0"
  }
}"#;

fn config(repo: &str) -> String {
    format!("/{repo}/resolve/main/config.json")
}

fn pinned(repo: &str) -> String {
    format!("/{repo}/resolve/{}/config.json", super::server::COMMIT)
}

#[test]
fn a_configuration_is_fetched_once_and_of_the_version_of_the_weights() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(&server.endpoint, cache.path());
    server.put(model("x/a"), Reply::large(&tensor("fc.weight", &[4, 1], &[0.0; 4])));
    server.put(pinned("x/a"), Reply::small(CONFIG.as_bytes()));
    hub.fetch("x/a", &()).unwrap_or_else(|problem| panic!("{}", text(&problem)));
    server.asked();
    let said = hub.pretrained("x/a", &()).expect("it is there").expect("it says something");
    assert_eq!(said.classes, Some(4));
    assert_eq!(said.labels.as_deref(), Some(&["one", "two", "three", "four"].map(String::from)[..]));
    assert_eq!(said.licence.as_deref(), Some("cc-by-nc-4.0"));
    let (preprocess, size) = said.preprocess.clone().expect("it is of pictures");
    assert_eq!(
        preprocess.to_string(),
        "preprocess: RGB, shorter side to 8 (bicubic), centre crop 8 x 8, values / 255, mean 0.5, std 0.25"
    );
    assert_eq!(size, (8, 8));
    assert_eq!(server.asked().len(), 1);
    assert_eq!(hub.pretrained("x/a", &()).expect("it is in the cache"), Some(said));
    assert_eq!(server.asked(), [""; 0]);
}

#[test]
fn a_repository_without_one_is_not_asked_twice() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("a temporary folder");
    let mut hub = hub(&server.endpoint, cache.path());
    server.put(model("x/b"), Reply::large(&tensor("fc.weight", &[4, 1], &[0.0; 4])));
    hub.fetch("x/b", &()).unwrap_or_else(|problem| panic!("{}", text(&problem)));
    server.asked();
    for asked in [1, 0] {
        assert_eq!(hub.pretrained("x/b", &()).expect("none is no mistake"), None);
        assert_eq!(server.asked().len(), asked);
    }
    hub.offline = true;
    assert_eq!(hub.pretrained("x/b", &()).expect("it is known"), None);
}

#[test]
fn what_is_odd_is_said_and_not_kept() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("a temporary folder");
    let mut hub = hub(&server.endpoint, cache.path());
    for (body, message) in [
        ("{", "is no JSON"),
        (r#"{"pretrained_cfg": {"input_size": 3}}"#, "has an `input_size`"),
        (r#"{"pretrained_cfg": {"input_size": [3, 8, 8], "crop_mode": "border"}}"#, "by `crop_mode` \"border\""),
    ] {
        server.put(config("x/c"), Reply::small(body.as_bytes()));
        let told = text(&hub.pretrained("x/c", &()).expect_err("it is odd"));
        assert!(told.contains("config.json` of `hf(\"x/c\")`") && told.contains(message), "{told}");
        assert!(told.contains("`preprocess { .. }`"), "{told}");
    }
    hub.offline = true;
    let told = text(&hub.pretrained("x/d", &()).expect_err("it is not in the cache"));
    assert!(told.contains("is not in the cache, and HF_HUB_OFFLINE is set"), "{told}");
}

/// What `archc run` prints to stderr and stdout for a picture.
fn run(dir: &Path, server: &Server, spec: &str) -> (String, String) {
    let (status, said, printed) = output(dir, server, spec);
    assert_eq!(status, Some(0), "{said}");
    (said, printed)
}

/// The same with the exit status.
fn output(dir: &Path, server: &Server, spec: &str) -> (Option<i32>, String, String) {
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pictures/rgb.png");
    command(dir, server, spec, &["run", "spec.arch", "--device", "cpu", "--input", picture])
}

/// What a command says of a spec.
fn command(dir: &Path, server: &Server, spec: &str, args: &[&str]) -> (Option<i32>, String, String) {
    std::fs::write(dir.join("spec.arch"), spec).expect("a writable folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.args(args).current_dir(dir);
    command.env("HF_ENDPOINT", &server.endpoint).env("HF_HOME", dir).env_remove("HF_HUB_CACHE");
    let output = command.output().expect("archc starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stderr), text(&output.stdout))
}

#[test]
fn a_head_of_other_classes_is_explained() {
    let server = Server::start();
    let dir = tempfile::tempdir().expect("a temporary folder");
    server.put(model("x/f"), Reply::large(&tensor("fc.weight", &[4, 192], &[0.01; 768])));
    server.put(pinned("x/f"), Reply::small(CONFIG.as_bytes()));
    let spec = "network tiny { input [N, 3, 8, 8]; flatten -> fc: linear(5, bias = false) }\nbase tiny { weights hf(\"x/f\") }\n";
    let (status, said, _) = output(dir.path(), &server, spec);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("note: fc.weight: needs [5, 192], the file has [4, 192]"), "{said}");
    assert!(said.contains("note: hf(\"x/f\") tells 4 classes apart, `tiny` 5"), "{said}");
}

#[test]
fn pictures_are_prepared_and_classes_called_as_a_repository_says() {
    let server = Server::start();
    let dir = tempfile::tempdir().expect("a temporary folder");
    server.put(model("x/e"), Reply::large(&tensor("fc.weight", &[4, 192], &[0.01; 768])));
    server.put(pinned("x/e"), Reply::small(CONFIG.as_bytes()));
    let network = "network tiny { input [N, 3, 8, 8]; flatten -> fc: linear(4, bias = false) }\n";
    // the network is another file's
    std::fs::write(dir.path().join("net.arch"), network).expect("a writable folder");
    let spec = |line: &str| format!("use \"net.arch\"\nbase tiny {{ weights hf(\"x/e\"){line} }}\n");
    let (said, printed) = run(dir.path(), &server, &spec(""));
    for line in [
        "hf(\"x/e\") prepares pictures in another way than the network's own preprocess: none\n",
        "hf(\"x/e\") is given under the licence cc-by-nc-4.0\n",
        "preprocess: RGB, shorter side to 8 (bicubic), centre crop 8 x 8, values / 255, mean 0.5, std 0.25\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(printed.contains("three"), "{printed}");
    // the spec wins
    std::fs::write(dir.path().join("names.txt"), "a\nb\nc\nd\n").expect("a writable folder");
    let (said, printed) = run(dir.path(), &server, &spec("; preprocess { resize = 8 }; labels \"names.txt\""));
    assert!(!said.contains("another way") && said.contains("shorter side to 8 (bilinear)"), "{said}");
    assert!(!printed.contains("three"), "{printed}");
}

#[test]
fn a_repository_names_the_network_itself() {
    let server = Server::start();
    let dir = tempfile::tempdir().expect("a temporary folder");
    server.put(config("x/g"), Reply::small(CONFIG.as_bytes()));
    server.put(model("x/g"), Reply::large(&tensor("fc.weight", &[4, 192], &[0.01; 768])));
    server.put(pinned("x/g"), Reply::small(CONFIG.as_bytes()));
    // the spec's own network goes before the zoo's, takes its classes and its size from the repository
    let own = "network resnet50(classes = 9) { input [N, 3, 16, 16]; flatten -> fc: linear(classes, bias = false) }\n";
    let (said, printed) = run(dir.path(), &server, &format!("{own}base hf(\"x/g\")\n"));
    assert!(said.contains("centre crop 8 x 8, values / 255, mean 0.5, std 0.25"), "{said}");
    assert!(printed.contains("three"), "{printed}");
    // what it says is in the cache now, and edits go on from there
    let (said, _) = run(
        dir.path(),
        &server,
        &format!("{own}base hf(\"x/g\") {{ input [N, 3, 8, 8] }}\nreplace fc with same(out = 2) keeping rows [0, 3]\n"),
    );
    assert!(said.contains("1 adapted (fc)"), "{said}");
    let dense = CONFIG.replace("resnet50", "densenet121").replace("[3, 8, 8]", "[3, 64, 64]");
    server.put(config("timm/dense"), Reply::small(dense.as_bytes()));
    let (status, said, printed) = command(dir.path(), &server, "base hf(\"timm/dense\")\n", &["show", "spec.arch"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(printed.contains("[N, 3, 64, 64]") && printed.contains("linear(out = 4)"), "{printed}");
}

#[test]
fn a_network_that_is_not_named_is_asked_for() {
    let server = Server::start();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let with = |architecture: &str, more: &str| {
        let body = CONFIG.replace("\"resnet50\"", &format!("\"{architecture}\"{more}"));
        server.put(config("x/h"), Reply::small(body.as_bytes()));
    };
    let check = |spec: &str| {
        std::fs::remove_dir_all(dir.path().join("hub")).ok();
        let (status, said, _) = command(dir.path(), &server, spec, &["check", "spec.arch"]);
        assert_eq!(status, Some(1), "{said}");
        said
    };
    with("resnet51", "");
    let said = check("base hf(\"x/h\")\n");
    assert!(said.contains("hf(\"x/h\") is of the network `resnet51`, which the zoo does not have"), "{said}");
    assert!(said.contains("`resnet50`") && said.contains("spec.arch:1:6"), "{said}");
    with("resnet50", ", \"model_args\": {\"act_layer\": \"silu\"}");
    assert!(check("base hf(\"x/h\")\n").contains("makes the network with `act_layer`, which archc does not know"));
    with("resnet50", ", \"model_args\": {\"img_size\": 1e9}");
    assert!(check("base hf(\"x/h\")\n").contains("makes the network with `img_size`"));
    server.put(config("x/h"), Reply::small(br#"{"architectures": ["ViTModel"]}"#));
    let said = check("base hf(\"x/h\")\n");
    assert!(
        said.contains("names no network of timm's") && said.contains("base NAME { weights hf(\"x/h\") }"),
        "{said}"
    );
    for (spec, message) in [
        ("base hf\n", "takes the name of a repository, and nothing else"),
        ("base hf(\"x/h\", classes = 3)\n", "takes the name of a repository, and nothing else"),
        ("base hf(\"x/h\") { weights \"a.pth\" }\n", "the weights of `base hf(..)` are the repository's"),
    ] {
        assert!(check(spec).contains(message), "{spec}");
    }
}
