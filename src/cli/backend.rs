//! Which backend `--device`, `--dtype` and their company ask for.

use super::args::ExecArgs;
use crate::diag::Problem;
use crate::exec::Backend;
use crate::io::console::say;

/// The backend that runs a network so often, where that is known; says where a GPU is not used.
///
/// # Errors
/// What is missing.
pub fn backend(exec: &ExecArgs, runs: Option<usize>) -> Result<Box<dyn Backend>, Problem> {
    let chosen = exec.device.backend(exec.precision(), runs)?;
    chosen.remark.iter().for_each(say);
    Ok(chosen.backend)
}
