//! All arguments of all commands, as clap types.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

/// A compiler for edits to pretrained vision networks.
#[derive(Debug, Parser)]
#[command(name = "archc", version, about, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a spec: everything short of running it.
    Check(Check),
}

/// The spec and what it is given: the same for every command that reads one.
#[derive(Clone, Debug, ClapArgs)]
pub struct SpecArgs {
    /// The spec, an .arch file; `-` reads standard input.
    #[arg(value_name = "SPEC.arch")]
    pub spec: PathBuf,
    /// Give a `param` of the spec another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
}

#[derive(Debug, ClapArgs)]
pub struct Check {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Print the messages as JSON.
    #[arg(long)]
    pub json: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, got `{text}`"))?;
    if name.is_empty() {
        return Err("expected NAME=VALUE, got no name".into());
    }
    Ok((name.to_string(), value.to_string()))
}
