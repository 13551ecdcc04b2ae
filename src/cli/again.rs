//! The command once more in a process of its own, after a fault of recorded kernels: a process whose GPU failed can ask it
//! no more, and only step by step is it known which step fails.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command as Process, ExitStatus, Stdio};

use super::args::Command;
use crate::exec::cuda;
use crate::io::console::say;

/// What a second process is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// What the command is for, if it runs this time.
    Results,
    /// Messages alone: step by step, times say nothing.
    Messages,
}

/// The status to end with: `status`, or that of a second run, which says more.
pub fn after(command: &Command, status: u8) -> u8 {
    let second = std::env::var_os(cuda::STEPWISE).is_some();
    let Some(wanted) = wanted(command).filter(|_| cuda::is_lost() && !second) else { return status };
    let Ok(program) = std::env::current_exe() else { return status };
    say("running once more, step by step");
    // the command is over, and the second process needs the memory
    cuda::let_go();
    match run(&program, std::env::args_os().skip(1).collect(), wanted) {
        Ok(again) if again.success() && wanted == Wanted::Messages => {
            say("step by step nothing fails: what fails comes and goes, or needs kernels that follow closely");
            status
        }
        Ok(again) => again.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(status),
        Err(error) => {
            say(format!("archc: cannot run itself: {error}"));
            status
        }
    }
}

/// Standard input is read by then.
fn wanted(command: &Command) -> Option<Wanted> {
    let is_file = |spec: &Path| spec.as_os_str() != "-";
    match command {
        Command::Run(args) => is_file(&args.spec.spec).then_some(Wanted::Results),
        Command::Eval(args) => is_file(&args.spec.spec).then_some(Wanted::Results),
        Command::Bench(args) => args.spec.as_deref().is_some_and(is_file).then_some(Wanted::Messages),
        _ => None,
    }
}

fn run(program: &Path, args: Vec<OsString>, wanted: Wanted) -> std::io::Result<ExitStatus> {
    let stdout = if wanted == Wanted::Results { Stdio::inherit() } else { Stdio::null() };
    Process::new(program).args(args).env(cuda::STEPWISE, "1").stdin(Stdio::null()).stdout(stdout).status()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Args;

    #[test]
    fn the_second_process_runs_step_by_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let seen = folder.path().join("seen");
        let script = format!("echo \"$ARCHC_CUDA_SYNC\" \"$@\" >'{}'; exit 3", seen.display());
        for wanted in [Wanted::Results, Wanted::Messages] {
            let args = ["-c", &script, "archc", "run", "net.arch"].map(OsString::from).to_vec();
            let status = run(Path::new("/bin/sh"), args, wanted).expect("there is a shell");
            assert_eq!(status.code(), Some(3));
            assert_eq!(std::fs::read_to_string(&seen).expect("it ran"), "1 run net.arch\n");
        }
    }

    #[test]
    fn commands_that_a_gpu_runs_can_run_again() {
        let of = |words: &str| wanted(&Args::try_parse_from(words.split(' ')).expect("good words").command);
        assert_eq!(of("archc run net.arch"), Some(Wanted::Results));
        assert_eq!(of("archc eval net.arch"), Some(Wanted::Results));
        assert_eq!(of("archc bench net.arch"), Some(Wanted::Messages));
        // whose spec was read from standard input; which have no GPU
        for words in ["archc run -", "archc bench -", "archc bench --kernels", "archc check net.arch"] {
            assert_eq!(of(words), None, "{words}");
        }
    }
}
