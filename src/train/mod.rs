//! The `train` block.

use crate::build::Globals;
use crate::diag::Diagnostics;
use crate::resolve::Program;
use crate::typed::Typed;

/// Checks the words and types of the spec's `train` block.
pub fn check(_program: &Program, _globals: &Globals<'_>, _typed: Option<&Typed>, _problems: &mut Diagnostics) {}
