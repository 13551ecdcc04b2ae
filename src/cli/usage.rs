//! Ways out for options that no command has: what belongs in the spec.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::diag::nearest;
use crate::train::spec::WORDS;

/// The error with a tip that helps, where an option is not known and none is like it.
pub fn explained(mut error: clap::Error) -> clap::Error {
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidSubcommand))
    {
        let tip = format!("a spec is run by `archc run {word}`, and checked by `archc check {word}`");
        return if word.ends_with(".arch") { with_tip(error, tip) } else { error };
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    if let (Some(ContextValue::String(near)), Some(ContextValue::String(option))) =
        (error.get(ContextKind::SuggestedArg), error.get(ContextKind::InvalidArg))
    {
        if !nearest(option, [near.as_str()]).is_empty() {
            return error;
        }
        // clap finds options alike that are not, and shows their usage
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::Usage);
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
        None if option == "--json" => "results as JSON are written by `--output y.json`".into(),
        None if option.starts_with("--") => format!("a `param {name}` of the spec is given by `--set {name}=..`"),
        None if is_picture(option) => format!("a picture is given by `--input {option}`"),
        None => return error,
    };
    with_tip(error, tip)
}

fn with_tip(mut error: clap::Error, tip: String) -> clap::Error {
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

fn is_picture(path: &str) -> bool {
    let path = path.to_lowercase();
    [".png", ".jpg", ".jpeg", ".npy", ".safetensors"].iter().any(|extension| path.ends_with(extension))
}
