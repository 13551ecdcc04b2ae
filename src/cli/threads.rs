//! The threads that a command works on.

use super::Failure;
use crate::diag::{Code, Problem};
use crate::io::console::say;

/// Bytes of a thread's stack.
const STACK: usize = 2 << 20;

/// Runs `inside` on as many threads as are asked for, or as there are cores. Far more threads than cores only wait for each
/// other, so that their number has a limit.
///
/// # Errors
/// Those of `inside`; threads that cannot be started.
pub fn with_threads<T: Send>(
    asked: Option<usize>,
    inside: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut pool = rayon::ThreadPoolBuilder::new().stack_size(STACK);
    if let Some(asked) = asked {
        let threads = asked.min(most(cores));
        if threads < asked {
            let plural = if cores == 1 { "core" } else { "cores" };
            say(format!("threads: {threads} instead of {asked}, for this machine has {cores} {plural}"));
        }
        pool = pool.num_threads(threads);
    }
    let pool = pool.build().map_err(|error| {
        Problem::new(Code::Resource, format!("cannot start the threads: {error}"))
            .hint("fewer threads: `--threads 1`, or a larger `ulimit -v` and `ulimit -u`")
    })?;
    pool.install(inside)
}

/// The most threads that may be asked for: enough to see that results do not depend on their number.
fn most(cores: usize) -> usize {
    (4 * cores).max(16)
}
