//! The `archc` program: arguments, dispatch, exit code.

fn main() -> std::process::ExitCode {
    archc::cli::main()
}
