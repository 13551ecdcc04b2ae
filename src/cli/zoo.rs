//! `archc zoo`: the base networks that ship with archc, or the source of one.

use rayon::prelude::*;
use serde_json::{Value, json};

use super::session::Session;
use super::show::totals;
use super::table::{Align, giga, table, thousands};
use super::threads::with_threads;
use super::{Failure, Outcome};
use crate::compile::{self, Compiled, Outcome as Compilation};
use crate::diag::{Code, Diagnostics, Problem, render, suggest};
use crate::io::console::{print, print_json};
use crate::source::Sources;
use crate::zoo;

/// List the base networks that ship with archc, or print one's source.
#[derive(Debug, clap::Args)]
pub struct Zoo {
    /// A network or a file of the zoo, whose source is printed.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Print the list as JSON.
    #[arg(long, conflicts_with = "name")]
    pub json: bool,
}

pub fn run(_session: &mut Session, args: &Zoo) -> Outcome {
    if let Some(name) = &args.name {
        print(source(name)?);
        return Ok(());
    }
    let networks: Vec<Network> = with_threads(None, || {
        let networks = zoo::networks();
        let networks = networks.par_iter().map(|(name, file)| network(name, file));
        Ok(networks.collect::<Result<_, Diagnostics>>()?)
    })?;
    if args.json {
        let list: Vec<Value> = networks.iter().map(Network::json).collect();
        print_json(&Value::from(list));
        return Ok(());
    }
    let heads = [
        ("network", Align::Left),
        ("file", Align::Left),
        ("parameters", Align::Right),
        ("multiply-adds", Align::Right),
        ("input", Align::Left),
    ];
    let cells = |network: &Network| {
        let (parameters, macs) = (thousands(network.parameters), giga(network.macs));
        vec![network.name.into(), network.file.into(), parameters, macs, network.input.clone()]
    };
    print(&table(&heads, &networks.iter().map(cells).collect::<Vec<_>>()));
    Ok(())
}

struct Network {
    name: &'static str,
    file: &'static str,
    parameters: u64,
    macs: u64,
    input: String,
}

impl Network {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "file": self.file,
            "parameters": self.parameters,
            "macs": self.macs,
            "input": self.input,
        })
    }
}

fn network(name: &'static str, file: &'static str) -> Result<Network, Diagnostics> {
    let compiled = compiled(name)?;
    let (parameters, macs) = totals(&compiled.typed);
    let inputs = compiled.typed.graph().inputs().values();
    let inputs: Vec<String> = inputs.map(|id| compiled.typed.shape(*id).to_string()).collect();
    Ok(Network { name, file, parameters, macs, input: inputs.join(", ") })
}

/// # Errors
/// Where a thread cannot be started.
///
/// # Panics
/// If a network of the zoo does not compile: a mistake of archc, which its tests find.
fn compiled(name: &str) -> Result<Compiled, Diagnostics> {
    let mut sources = Sources::new();
    let file = sources.add("<zoo>", format!("base {name}\n"), None);
    match compile::compile(&mut sources, file, &[]) {
        Ok(Compilation::Spec(compiled)) => Ok(*compiled),
        Ok(Compilation::Library) => unreachable!("the text has a base"),
        Err(problems) if problems.iter().any(|one| one.problem.code == Code::Resource) => Err(problems),
        Err(problems) => panic!("the zoo's {name} does not compile:\n{}", render(&problems, &sources, false)),
    }
}

/// The text of the file that defines a network, or of a file by its own name.
fn source(name: &str) -> Result<&'static str, Failure> {
    let file = zoo::file_of(name).map_or_else(|| format!("{}.arch", name.trim_end_matches(".arch")), str::to_string);
    zoo::text(&file).ok_or_else(|| {
        let names = zoo::networks().into_iter().map(|(name, _)| name);
        let files = zoo::FILES.iter().map(|(file, _)| file.trim_end_matches(".arch"));
        let problem = Problem::new(Code::Usage, format!("the zoo has no `{name}`"));
        problem.hints(suggest(name, names.chain(files))).hint("`archc zoo` lists what there is").into()
    })
}
