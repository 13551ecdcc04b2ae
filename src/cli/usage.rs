//! Ways out for options that no command has: what belongs in the spec.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::train::spec::WORDS;

/// The error with a tip that helps, where an option is not known and none is like it.
pub fn explained(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument || error.get(ContextKind::SuggestedArg).is_some() {
        return error;
    }
    // clap's own tip takes the option for the name of a file
    error.remove(ContextKind::Suggested);
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return error };
    let name = option.trim_start_matches('-').replace('-', "_");
    let tip = match WORDS.iter().find(|word| word.name == name) {
        Some(word) => format!(
            "`{0}` is a line of the spec's `train` block; with `param n = ..` and `{0} n` there, `--set n=..` gives it",
            word.name
        ),
        None if option.starts_with("--") => format!("a `param {name}` of the spec is given by `--set {name}=..`"),
        None => return error,
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}
