//! What a file of weights is.

use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::doctor::{Catalogue, Diagnosis, diagnose, readable};
use crate::source::Sources;

/// Looks which network of the zoo a file of weights fits, and by which base it loads. Nothing in the file is executed.
///
/// ```no_run
/// let found = archc::doctor("moco_v2_800ep_pretrain.pth")?;
/// if let Some(spec) = found.spec() {
///     let model = archc::Spec::from_text(spec).compile()?;
/// }
/// # Ok::<(), archc::Error>(())
/// ```
///
/// # Errors
/// A file that cannot be read, or holds no weights. One that fits no network is none: then [`Diagnosis::spec`] is None.
pub fn doctor(path: impl AsRef<Path>) -> Result<Diagnosis, Error> {
    let error = |diagnostics| Error::new(diagnostics, Arc::new(Sources::new()));
    readable(path.as_ref()).map_err(|problem| error(problem.anywhere().into()))?;
    let catalogue = Catalogue::new(None).map_err(error)?;
    diagnose(path.as_ref(), &catalogue).map_err(|problem| error(problem.anywhere().into()))
}
