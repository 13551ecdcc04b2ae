//! Files that are none: whatever a path leads to, archc says so at once, and what it reads it reads in one way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nothing here reads more than a few bytes; far above what that takes on a machine that does much else.
const SLOWEST: Duration = Duration::from_secs(60);

/// Runs `archc`; a hang is a failure and not a wait.
fn archc(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(dir).args(args).env("NO_COLOR", "1");
    ends(&mut command, &args.join(" "))
}

fn ends(command: &mut Command, what: &str) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("archc starts");
    let start = Instant::now();
    while child.try_wait().expect("a child of ours").is_none() {
        if start.elapsed() > SLOWEST {
            child.kill().expect("it runs");
            panic!("{what}: still running after {SLOWEST:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("it ended")
}

/// A spec of a network of few weights that takes a picture of 8 x 8.
fn spec(lines: &str) -> String {
    format!(
        "network tiny {{ input [N, 3, 8, 8]; flatten; fc: linear(2) }}\nbase tiny {{ {lines}\n  preprocess {{ resize = 8, crop = 8 }} }}\n"
    )
}

const TRAIN: &str = "train { loss cross_entropy; optimizer sgd(lr = 0.1); epochs 1; batch 2; ";

/// What names a file, the files beside it, and the command line.
type Case = (&'static str, Vec<(String, String)>, Vec<String>);

/// Everything that names a file, each time `other`.
fn cases(other: &str) -> Vec<Case> {
    let words = |line: &str| line.split(' ').map(str::to_string).collect::<Vec<String>>();
    let check = || words("check s.arch");
    let input = |name: &str| words(&format!("run s.arch --input {name}"));
    let random = spec("weights random(seed = 1)");
    let file = |text: String| vec![("s.arch".to_string(), text)];
    let csv = |table: &str| format!("{random}{TRAIN}data csv(\"{table}\") }}\n");
    vec![
        ("the spec", vec![], words(&format!("check {other}"))),
        ("use", file(format!("use \"{other}\"\n{random}")), check()),
        ("weights", file(spec(&format!("weights \"{other}\""))), check()),
        ("an index", vec![("s.arch".into(), spec("weights \"other.json\""))], check()),
        (
            "a shard",
            vec![
                ("s.arch".into(), spec("weights \"i.json\"")),
                ("i.json".into(), format!("{{\"weight_map\":{{\"fc.weight\":\"{other}\"}}}}")),
            ],
            check(),
        ),
        (
            "init from a file",
            file(format!("{random}init fc.weight with from(\"{other}\", \"a\")\n")),
            words("run s.arch"),
        ),
        ("labels", file(spec(&format!("weights random(seed = 1); labels \"{other}\""))), words("run s.arch")),
        ("an input", file(random.clone()), input(other)),
        ("a picture", file(random.clone()), input("other.png")),
        ("an array", file(random.clone()), input("other.npy")),
        ("a tensor", file(random.clone()), input("other.safetensors")),
        ("a folder's picture", file(random.clone()), input("pictures")),
        ("weights of the edited network", file(random.clone()), words(&format!("run s.arch --weights {other}"))),
        ("a table", file(csv(other)), words("train s.arch --out out")),
        (
            "a table's picture",
            vec![
                ("s.arch".into(), csv("t.csv")),
                ("t.csv".into(), format!("{other},a\n{other},b\n{other},a\n{other},b\n")),
            ],
            words("train s.arch --out out"),
        ),
    ]
}

/// Every case with what `make` puts in place of the files `other*`.
fn refused(what: &str, make: impl Fn(&Path)) {
    for (name, files, args) in cases("other") {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("pictures")).expect("a folder");
        for other in ["other", "other.json", "other.png", "other.npy", "other.safetensors", "pictures/other.png"] {
            make(&dir.path().join(other));
        }
        for (file, text) in &files {
            std::fs::write(dir.path().join(file), text).expect("a file can be written");
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = archc(dir.path(), &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        let line = said.lines().find(|line| line.contains(&format!("is {what}, not a file")));
        assert!(line.is_some_and(|line| line.contains("other")), "{name}: {said}");
    }
}

#[test]
#[cfg(unix)]
fn a_pipe_is_no_file() {
    refused("a pipe", |path| {
        assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo is there").success());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn an_endless_device_is_no_file() {
    refused("a device", |path| std::os::unix::fs::symlink("/dev/zero", path).expect("a link"));
}

#[test]
#[cfg(unix)]
fn a_spec_comes_from_a_shell_s_pipe() {
    let mut command = Command::new("bash");
    let line = "\"$ARCHC\" check <(echo 'network n { input [N, 3, 8, 8]; relu }'; sleep 0.1; echo 'base n')";
    let output = ends(command.args(["-c", line]).env("ARCHC", env!("CARGO_BIN_EXE_archc")), line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = "\"$ARCHC\" check <(cat /dev/zero)";
    let mut command = Command::new("bash");
    let output = ends(command.args(["-c", line]).env("ARCHC", env!("CARGO_BIN_EXE_archc")), line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is too large: at most 16 MiB are read"), "{said}");
}

/// Ways to open a file for reading that look at nothing before.
const OTHER_WAYS: [&str; 7] =
    ["File::open", "fs::read(", "fs::read_to_string(", ".read(true)", "Mmap::map(", "MmapOptions", "stdin()"];

/// The files that may: the one way itself, and what is read and written at once.
const MAY: [(&str, &str); 3] = [
    ("io/open.rs", ".read(true)"),
    ("compile.rs", "stdin()"),
    // the prefix' values lie in a file of the run's own folder
    ("train/run/prefix.rs", ".read(true)"),
];

#[test]
fn files_are_opened_in_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut others = vec![];
    let mut folders: Vec<PathBuf> = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the project").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(&src).expect("a file of src").to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.ends_with("tests.rs") && !name.contains("/tests/") {
                let text = std::fs::read_to_string(&path).expect("a source file is text");
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                for way in OTHER_WAYS.iter().filter(|way| code.contains(*way)) {
                    if !MAY.contains(&(name.as_str(), way)) {
                        others.push(format!("{name}: `{way}`, not `io::open`"));
                    }
                }
            }
        }
    }
    assert!(others.is_empty(), "files are read without a look at what they are:\n{}", others.join("\n"));
}
