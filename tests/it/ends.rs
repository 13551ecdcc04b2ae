//! How the program ends: what it prints cannot steer a terminal, its status tells what was found whoever reads along, and a
//! signal leaves nothing half done.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn archc(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archc"));
    command.current_dir(dir).args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in [
        ("a.arch", "network tiny { input [N, 3, 8, 8]; flatten -> fc: linear(4) }\nbase tiny\n"),
        ("b.arch", "network tiny { input [N, 3, 8, 8]; flatten -> fc: linear(5) }\nbase tiny\n"),
        ("ugly.arch", "base   resnet18\n"),
        ("wrong.arch", "base resnet19\n"),
    ] {
        std::fs::write(dir.path().join(name), text).expect("a file can be written");
    }
    dir
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Arguments, and the status that the command has by itself.
const COMMANDS: &[(&[&str], i32)] = &[
    (&["diff", "a.arch", "b.arch"], 1),
    (&["diff", "a.arch", "b.arch", "--json"], 1),
    (&["diff", "a.arch", "a.arch", "--json"], 0),
    (&["diff", "a.arch", "wrong.arch"], 2),
    (&["check", "a.arch"], 0),
    (&["check", "wrong.arch"], 1),
    (&["check", "--json", "wrong.arch"], 1),
    (&["show", "a.arch"], 0),
    (&["show", "a.arch", "--json"], 0),
    (&["show", "a.arch", "--steps"], 0),
    (&["plan", "a.arch"], 0),
    (&["plan", "a.arch", "--json"], 0),
    (&["run", "a.arch"], 0),
    (&["bench", "a.arch", "--iterations", "1", "--warm-up", "0"], 0),
    (&["fmt", "--check", "ugly.arch"], 1),
    (&["zoo", "resnet18"], 0),
    (&["explain"], 0),
    (&["explain", "conv2d"], 0),
    (&["completions", "bash"], 0),
    (&["devices"], 0),
    (&["devices", "--json"], 0),
    (&["--help"], 0),
    (&["run", "--help"], 0),
    (&["--version"], 0),
    (&["run", "--no-such-option"], 2),
];

#[test]
fn a_reader_that_goes_away_changes_no_status() {
    let dir = folder();
    for (args, status) in COMMANDS {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = archc(dir.path(), args).stdout(writer).output().expect("archc starts");
        assert_eq!(output.status.code(), Some(*status), "{args:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("standard output"), "{args:?}: {}", text(&output.stderr));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_is_no_success() {
    let dir = folder();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    for (args, status) in COMMANDS {
        let output = archc(dir.path(), args).stdout(full()).output().expect("archc starts");
        let said = text(&output.stderr);
        // what prints nothing to stdout has its own status
        let prints = !matches!(args[..], ["check", "wrong.arch"] | [_, _, "wrong.arch"] | [_, "--no-such-option"])
            || args.contains(&"--json");
        let want = match (prints, args[0]) {
            (false, _) => *status,
            (true, "diff") => 2,
            (true, _) => 1,
        };
        assert_eq!(output.status.code(), Some(want), "{args:?}: {said}");
        assert_eq!(
            said.contains("standard output cannot be written: no space left on device"),
            prints,
            "{args:?}: {said}"
        );
        // nobody can be told, and nothing breaks
        let output = archc(dir.path(), args).stderr(full()).output().expect("archc starts");
        assert_eq!(output.status.code(), Some(*status), "{args:?}");
    }
    let mut child = archc(dir.path(), &["fmt", "-"]);
    let spec = std::fs::File::open(dir.path().join("ugly.arch")).expect("it is there");
    assert_eq!(child.stdin(spec).stdout(full()).output().expect("archc starts").status.code(), Some(1));
}

/// What steers a terminal: ESC, the one-byte CSI, a bidirectional control, a bell.
const EVIL: &str = "x\u{1b}[2J\u{9b}31m\u{202e}\u{7}";

fn assert_printable(what: &str, output: &Output) {
    for stream in [&output.stdout, &output.stderr] {
        let text = text(stream);
        let bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.contains(bad), "{what}: {text:?}");
    }
}

#[cfg(unix)]
#[test]
fn nothing_that_is_printed_steers_a_terminal() {
    let dir = folder();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file can be written");
    let (evil, evil_folder) = (format!("{EVIL}.arch"), format!("{EVIL}.d"));
    write(&evil, "base resnet19\n");
    write("line.arch", &format!("# {EVIL}\nbase resnet18 # {EVIL}\nreplace \"{EVIL}\" with relu # \u{9b}\n"));
    write("name.arch", &format!("use \"{EVIL}\"\nbase resnet18 {{ weights \"{EVIL}.safetensors\" }}\n"));
    write("\nerror: a line of its own.arch", "base resnet18\n");
    std::fs::create_dir(dir.path().join(&evil_folder)).expect("a folder can be made");
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/images/coffee.png");
    std::fs::copy(picture, dir.path().join(&evil_folder).join(format!("{EVIL}.png"))).expect("it can be copied");
    // classes and keys of a file that came from elsewhere
    let classes = serde_json::to_string(&[EVIL, "\u{9b}", "\nfake", "d"]).expect("JSON");
    let header = serde_json::json!({
        "__metadata__": { "classes": classes },
        "fc.weight": { "dtype": "F32", "shape": [4, 192], "data_offsets": [0, 3072] },
        "fc.bias": { "dtype": "F32", "shape": [4], "data_offsets": [3072, 3088] },
    });
    let weights = |name: &str, header: &str, data: usize| {
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat();
        std::fs::write(dir.path().join(name), bytes).expect("a file can be written");
    };
    weights("good.safetensors", &header.to_string(), 3088);
    let keys = serde_json::json!({ EVIL: { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] } });
    weights("keys.safetensors", &keys.to_string(), 4);
    let as_base = format!(
        "{}base tiny {{ weights \"keys.safetensors\" }}\n",
        "network tiny { input [N, 3, 8, 8]; flatten -> fc: linear(4) }\n"
    );
    write("keys.arch", &as_base);
    let cases: &[&[&str]] = &[
        &["check", &evil],
        &["check", &evil, "--json"],
        &["check", EVIL],
        &["check", "line.arch"],
        &["check", "line.arch", "--json"],
        &["check", "name.arch"],
        &["check", "name.arch", "--json"],
        &["check", "\nerror: a line of its own.arch"],
        &["check", "keys.arch"],
        &["plan", "line.arch"],
        &["run", "keys.arch"],
        &["run", "a.arch", "--weights", "good.safetensors", "--input", &evil_folder],
        &["run", "a.arch", "--weights", "keys.safetensors"],
        &["run", "a.arch", "--weights", EVIL],
        &["run", "a.arch", "--input", EVIL],
        &["eval", "a.arch", "--weights", "good.safetensors", "--data", &evil_folder],
        &["fmt", "--check", &evil],
        &["explain", EVIL],
        &["zoo", EVIL],
        &["doctor", "keys.safetensors", "--network", "resnet18"],
        &["doctor", EVIL, "--network", EVIL],
        &[EVIL],
        &["run", EVIL, EVIL],
    ];
    for args in cases {
        let output = archc(dir.path(), args).output().expect("archc starts");
        assert_printable(&format!("{args:?}"), &output);
        assert!(!text(&output.stderr).lines().any(|line| line.starts_with("error: a line")), "{args:?}");
        if args.contains(&"--json") {
            let list: serde_json::Value = serde_json::from_slice(&output.stdout).expect("stdout is JSON");
            assert!(list.to_string().contains("\u{9b}") || args[1] == "line.arch", "{args:?}: {list}");
        }
    }
    let output = archc(dir.path(), cases[11]).output().expect("archc starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("x\\u{1b}[2J\\u{9b}31m\\u{202e}\\u{7}.png\n") && said.contains("\\u{a}fake\n"), "{said}");
}

/// Whether a file is being written in the folder.
fn unfinished(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("a folder").flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(".archc-")
    })
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_no_file_half_written() {
    use std::os::unix::process::ExitStatusExt;
    for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let dir = tempfile::tempdir().expect("a folder");
        // 80 MB take long enough to be interrupted
        let spec = "network wide { input [N, 5000]; one: linear(4000) }\nbase wide\n";
        std::fs::write(dir.path().join("wide.arch"), spec).expect("a file can be written");
        let args = ["export", "wide.arch", "--to", "safetensors", "--output", "w.safetensors"];
        let mut child = archc(dir.path(), &args).stderr(Stdio::piped()).spawn().expect("archc starts");
        while !unfinished(dir.path()) {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none() && !dir.path().join("w.safetensors").exists(), "it was done before the signal");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
        assert!(status.expect("there is kill").success());
        let status = child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(number), "{name}: {status}");
        assert!(!unfinished(dir.path()), "{name}");
        assert!(!dir.path().join("w.safetensors").exists(), "{name}");
    }
}

/// A temporary file below the folder.
#[cfg(unix)]
fn temporary(dir: &Path) -> Option<std::path::PathBuf> {
    let is_temporary = |path: &std::path::PathBuf| path.extension().is_some_and(|ending| ending == "tmp");
    crate::hub::files(dir).into_iter().find(is_temporary)
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_nothing_of_a_download() {
    use std::os::unix::process::ExitStatusExt;

    use crate::hub::server::{Reply, Server, Then, model, weights};
    let server = Server::start();
    let mut half = Reply::large(&weights("fc.weight", &[1.0; 200_000]));
    half.bytes.truncate(400_000);
    server.put(model("x/slow"), half.then(Then::Hold));
    for (name, number) in [("INT", 2), ("TERM", 15)] {
        let dir = folder();
        let spec =
            "network tiny { input [N, 3, 8, 8]; flatten -> fc: linear(4) }\nbase tiny { weights hf(\"x/slow\") }\n";
        std::fs::write(dir.path().join("slow.arch"), spec).expect("a file can be written");
        let mut command = archc(dir.path(), &["run", "slow.arch"]);
        command.env("HF_ENDPOINT", &server.endpoint).env("HF_HOME", dir.path()).env_remove("HF_HUB_CACHE");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("archc starts");
        while temporary(dir.path()).is_none() {
            assert!(child.try_wait().expect("a child").is_none(), "it was done before the signal");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
        assert!(status.expect("there is kill").success());
        assert_eq!(child.wait().expect("it ends").signal(), Some(number), "{name}");
        assert_eq!(temporary(dir.path()), None, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn files_are_written_whoever_reads_along() {
    let dir = folder();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = archc(dir.path(), &["run", "a.arch", "--output", "y.npy"]).stdout(writer).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(dir.path().join("y.npy").is_file(), "nobody reads the summary, but the file was asked for");
    std::os::unix::fs::symlink("/dev/full", dir.path().join("full.npy")).expect("a link can be made");
    let output = archc(dir.path(), &["run", "a.arch", "--output", "full.npy"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn an_ignored_signal_stays_ignored() {
    let dir = folder();
    let program = env!("CARGO_BIN_EXE_archc");
    let script = format!("trap '' HUP; exec '{program}' fmt -");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("there is a shell");
    let status = std::path::PathBuf::from(format!("/proc/{}/status", child.id()));
    let line = |name: &str| {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_string)).unwrap_or_default();
        u64::from_str_radix(line.trim(), 16).unwrap_or(0)
    };
    // it has taken over Ctrl-C, and not HUP
    while line("SigCgt:") & 1 << 1 == 0 {
        assert!(child.try_wait().expect("a child").is_none());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(line("SigIgn:") & 1, 1);
    drop(child.stdin.take());
    let mut said = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("it ends").success());
}

#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_said() {
    let dir = folder();
    let program = env!("CARGO_BIN_EXE_archc");
    let script = format!("ulimit -f 1; exec '{program}' export a.arch --to safetensors --output w.safetensors");
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().expect("there is a shell");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`w.safetensors` cannot be written: file too large") && said.contains("ulimit -f"), "{said}");
    assert!(!unfinished(dir.path()) && !dir.path().join("w.safetensors").exists());
}

/// The only places that write to stdout or stderr, or end the process.
const FUNNELS: &[&str] = &["src/io/console.rs", "src/cli/stop.rs"];

#[test]
fn all_that_is_printed_goes_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = vec![];
    for file in crate::flow::files(&root.join("src")) {
        let name = file.strip_prefix(root).expect("a file of the project").display().to_string();
        if FUNNELS.contains(&name.as_str()) || name.contains("tests") {
            continue;
        }
        let code = std::fs::read_to_string(&file).expect("a source file is text");
        let code = code.lines().take_while(|line| line.trim() != "#[cfg(test)]");
        for (at, line) in code.enumerate().filter(|(_, line)| !line.trim().starts_with("//")) {
            let ways =
                ["print!(", "println!(", "dbg!(", "io::stdout()", "io::stderr()", "process::exit(", "process::abort("];
            if ways.iter().any(|way| line.contains(way)) {
                wrong.push(format!("{name}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "print with io::console:\n{}", wrong.join("\n"));
}
