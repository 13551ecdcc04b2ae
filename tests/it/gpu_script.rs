//! benches/gpu.sh in front of programs that pretend: its order, its budget and its table, so that a call on a GPU machine is
//! not lost to the script. Where there is no bash or Python there is nothing to see.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Says what archc says, of a device whose runs take as many milliseconds as there are samples.
const ARCHC: &str = r#"#!/bin/bash
echo "$ARCHC_TMA $*" >>"$LOG/archc"
[ "$1" = devices ] && echo "cuda:0 a pretended GPU"
while [ $# -gt 0 ]; do
    case $1 in
    *.arch) net=$(basename "$1" .arch) ;;
    --dtype) dtype=$2 ;;
    --batch) batch=$2 ;;
    --output) echo >"$2" ;;
    --json) json=1 ;;
    esac
    shift
done
[ -n "$net" ] && [ "$net" = "$BROKEN" ] && { echo "error: it broke" >&2; exit 3; }
[ -n "$json" ] && echo "{\"dtype\": \"$dtype\", \"batch\": $batch, \"latency_ms\": {\"median\": $batch, \"min\": 1}, \"device_ms\": {\"median\": $batch, \"min\": 1}}"
exit 0
"#;

/// PyTorch twice as slow; the table and the script's own lines are made by the real Python.
const PYTHON: &str = r#"#!/bin/bash
case $1 in
*gpu_torch.py)
    shift
    echo "$*" >>"$LOG/torch"
    out=$1 nets=$2 dtypes=$3 batches=$4 modes=$5 hold=
    [ "$6" = --hold ] && hold=$7
    [ "$nets$batches" = "$STUCK" ] && exec sleep 600
    if [ -n "$hold" ]; then
        touch "$hold/ready.$nets.$batches"
        while [ ! -e "$hold/go" ]; do sleep 0.05; done
    fi
    for dtype in ${dtypes//,/ }; do for net in ${nets//,/ }; do for batch in ${batches//,/ }; do for mode in ${modes//,/ }; do
        echo "{\"model\": \"$net\", \"dtype\": \"$dtype\", \"batch\": $batch, \"mode\": \"$mode\", \"min\": 1, \"median\": $((2 * batch))${hold:+, \"beside\": true}}" >>"$out"
        echo "torch $net $dtype batch $batch $mode"
    done; done; done; done
    ;;
*gpu_layouts.py) echo "all right" ;;
*gpu_compare.py) echo "$2 ok" ;;
-c) echo "torch 0" ;;
*) exec "$PYTHON" "$@" ;;
esac
"#;

struct Stage {
    folder: tempfile::TempDir,
    python: PathBuf,
}

impl Stage {
    fn new() -> Option<Stage> {
        // the interpreter itself, not what a manager of versions puts in front of it
        let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let (Ok(python), Ok(_)) = (python, Command::new("bash").arg("--version").output()) else {
            eprintln!("no bash or Python");
            return None;
        };
        let python = PathBuf::from(String::from_utf8_lossy(&python.stdout).trim());
        let folder = tempfile::tempdir().expect("a folder");
        let stage = Stage { folder, python };
        for name in ["carry/specs", "bin", "log"] {
            fs::create_dir_all(stage.path(name)).expect("a folder");
        }
        for net in ["resnet50", "se_resnet50", "resnet18", "mobilenet_v3_large", "vit_b_16"] {
            fs::write(stage.path(&format!("carry/specs/{net}.arch")), "").expect("a file");
        }
        for (name, text) in
            [("carry/archc", ARCHC), ("carry/tests", "#!/bin/bash\necho passed\n"), ("bin/python3", PYTHON)]
        {
            fs::write(stage.path(name), text).expect("a file");
            fs::set_permissions(stage.path(name), fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        Some(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that finds the pretended Python first.
    fn command(&self, program: &str) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([self.path("bin")].into_iter().chain(std::env::split_paths(&path)));
        let mut command = Command::new(program);
        command.env("PATH", path.expect("folders")).env("LOG", self.path("log")).env("PYTHON", &self.python);
        command
    }

    fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> (Output, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu.sh");
        let mut command = self.command("bash");
        command.arg(script).arg("--carry").arg(self.path("carry")).arg("--out").arg(self.path("out")).args(args);
        let output = command.envs(variables.iter().copied()).output().expect("bash runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output, text)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

#[test]
fn a_whole_call_measures_everything() {
    let Some(stage) = Stage::new() else { return };
    let (output, text) = stage.run(&[], &[]);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("\n0 failures"), "{text}");
    let table = stage.read("out/table.txt");
    for net in ["resnet50", "se_resnet50", "resnet18", "mobilenet_v3_large", "vit_b_16"] {
        for (dtype, batch) in ["bf16", "f16", "f32"].iter().flat_map(|dtype| [1, 32, 256].map(|batch| (dtype, batch))) {
            let start = format!("{net:20} {dtype:5} {batch:5} {:10.3}", batch as f64);
            let row =
                table.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {start} in {table}"));
            let times = row.split_whitespace().filter(|word| *word == format!("{:.3}", 2.0 * batch as f64)).count();
            assert_eq!(times, if *dtype == "bf16" { 3 } else { 2 }, "eager, graph and, in bf16, torch.compile: {row}");
            assert!(row.ends_with("2.00"), "{row}");
        }
    }
    assert!(table.contains("tuned while other work was on the GPU"), "{table}");
    assert!(text.contains("15 of 15 are ready"), "{text}");
    for part in
        ["fragment layouts", "every op on the device", "passed", "numbers", "torch.compile", "speed, bf16", "kernels"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let archc = stage.read("log/archc");
    assert!(archc.contains("bench --kernels") && archc.contains("--profile") && archc.contains("0 bench"), "{archc}");
    assert!(stage.path("out/results.tar.gz").exists());
}

#[test]
fn time_that_is_over_and_what_breaks_are_told_apart() {
    let Some(stage) = Stage::new() else { return };
    let (output, text) = stage.run(&["--seconds", "2"], &[]);
    assert!(output.status.success() && text.contains("no time for"), "{text}");
    assert!(stage.path("out/results.tar.gz").exists());
    let (output, text) = stage.run(&["--quick"], &[("BROKEN", "resnet50_no_tma")]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: it broke") && text.contains("FAILED: bench resnet50_no_tma bf16 32"), "{text}");
    assert!(text.contains("\n3 failures"), "{text}");
    let (output, text) = stage.run(&["--compile", "vit_b_16:32 resnet50:1"], &[]);
    assert!(output.status.success(), "{text}");
    let table = stage.read("out/table.txt");
    assert!(!table.contains("other work") && table.contains("vit_b_16"), "{table}");
    let (output, _) = stage.run(&["--nonsense"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

/// A tuning that never ends holds nobody up for longer than its share.
#[test]
fn what_is_not_ready_is_given_up() {
    let Some(stage) = Stage::new() else { return };
    let (hold, out) = (stage.path("hold"), stage.path("torch.jsonl"));
    fs::create_dir(&hold).expect("a folder");
    fs::write(hold.join("idle"), "").expect("a file");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu_tune.py");
    let mut command = stage.command("python3");
    command.arg(page).arg(&out).arg(&hold).args(["3", "resnet18:256", "resnet50:1"]).env("STUCK", "resnet18256");
    let output = command.output().expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 of 2 are ready"), "{text}");
    let lines = stage.read("torch.jsonl");
    assert!(lines.contains("resnet50") && !lines.contains("resnet18"), "{lines}");
}

/// The page that talks to kernels itself reads their structs from the kernels' own text.
#[test]
fn structs_are_read_from_the_kernels() {
    let Some(stage) = Stage::new() else { return };
    for file in archc_cuda::FILES {
        fs::write(stage.path(file.name).with_extension("cu"), file.text()).expect("a file");
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu_layouts.py");
    let output = Command::new(&stage.python).arg("-B").arg(page).arg(stage.folder.path()).arg("structs").output();
    let output = output.expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    for line in ["Act 12", "Epilogue 64", "Conv 240", "Attention 176"] {
        assert!(
            text.lines().any(|one| one == line),
            "{line} is not in {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
