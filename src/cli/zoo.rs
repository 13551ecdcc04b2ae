//! `archc zoo`: the base networks that ship with archc, or the source of one.

use rayon::prelude::*;
use serde_json::{Value, json};

use super::session::Session;
use super::threads::with_threads;
use super::{Failure, Outcome};
use crate::compile;
use crate::diag::{Code, Diagnostics, Problem, suggest};
use crate::io::console::{self, print, print_json};
use crate::table::{Align, cut, fitted, giga, millions};
use crate::zoo::{self, File};

/// List the base networks that ship with archc, or print one's source.
#[derive(Debug, clap::Args)]
pub struct Zoo {
    /// A network or a file of the zoo, whose source is printed; or words, all of which are in the names that are listed.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Print the list as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(_session: &mut Session, args: &Zoo) -> Outcome {
    if let ([name], false) = (args.names.as_slice(), args.json)
        && let Some(text) = source(name)
    {
        print(text);
        return Ok(());
    }
    let listed = listed(&args.names)?;
    let networks: Vec<Network> = with_threads(None, || {
        let networks = listed.par_iter().map(|(name, file)| network(name, file));
        Ok(networks.collect::<Result<_, Diagnostics>>()?)
    })?;
    if args.json {
        let list: Vec<Value> = networks.iter().map(Network::json).collect();
        print_json(&Value::from(list));
        return Ok(());
    }
    print(&families(&networks, console::width()));
    Ok(())
}

/// The networks whose name, or whose family's, has all of the words in it.
fn listed(words: &[String]) -> Result<Vec<(&'static str, &'static File)>, Failure> {
    let mut networks = zoo::networks();
    let has = |name: &str| words.iter().all(|word| name.contains(&word.to_lowercase()));
    networks.retain(|(name, file)| has(name) || has(file.family()));
    if !networks.is_empty() {
        return Ok(networks);
    }
    let words = words.join(" ");
    let names = zoo::networks().into_iter().map(|(name, _)| name);
    let problem = Problem::new(Code::Usage, format!("the zoo has no `{words}`"));
    let near = suggest(&words, names.chain(zoo::FILES.iter().map(|file| file.family())));
    Err(problem.hints(near).hint("`archc zoo` lists what there is").into())
}

/// A table a family, under what it is and whose keys it has. Columns that are too many for a terminal's `width` are left out from
/// the right.
fn families(networks: &[Network], width: Option<usize>) -> String {
    let heads =
        [("", Align::Left), ("parameters", Align::Right), ("multiply-adds", Align::Right), ("input", Align::Left)];
    let cells =
        |one: &Network| vec![format!("  {}", one.name), millions(one.parameters), giga(one.macs), one.input.clone()];
    let rows: Vec<Vec<String>> = networks.iter().map(cells).collect();
    let text = fitted(&heads, &rows, width, None);
    let mut lines = text.lines();
    let mut set = format!("{}\n", lines.next().unwrap_or_default());
    let mut family = None;
    for (one, line) in networks.iter().zip(lines) {
        if family != Some(one.file.name) {
            let title = format!("{} ({} keys): {}", one.file.family(), one.file.keys.name(), one.file.title());
            set += &width.map_or_else(|| title.clone(), |width| cut(&title, width));
            set.push('\n');
        }
        family = Some(one.file.name);
        set += line;
        set.push('\n');
    }
    set
}

struct Network {
    name: &'static str,
    file: &'static File,
    parameters: u64,
    macs: u64,
    input: String,
}

impl Network {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "file": self.file.name,
            "keys": self.file.keys.name(),
            "parameters": self.parameters,
            "macs": self.macs,
            "input": self.input,
        })
    }
}

fn network(name: &'static str, file: &'static File) -> Result<Network, Diagnostics> {
    let compiled = compile::of_zoo(name)?;
    let (parameters, macs) = compiled.typed.totals();
    let inputs = compiled.typed.graph().inputs().values();
    let inputs: Vec<String> = inputs.map(|id| compiled.typed.shape(*id).to_string()).collect();
    Ok(Network { name, file, parameters, macs, input: inputs.join(", ") })
}

/// The text of the file that defines a network, or of a file by its own name; of one without networks that is its family's, too.
fn source(name: &str) -> Option<&'static str> {
    if let Some((_, file)) = zoo::networks().into_iter().find(|(network, _)| *network == name) {
        return Some(file.text);
    }
    let is_meant = |file: &&File| file.name == name || file.keys == zoo::Keys::None && file.family() == name;
    zoo::FILES.iter().find(is_meant).map(|file| file.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_terminal() {
        let file = zoo::FILES.iter().find(|file| file.name == "resnet.arch").expect("it is there");
        let one = |name| Network {
            name,
            file,
            parameters: 25_557_032,
            macs: 4_089_184_256,
            input: "[N, 3, 224, 224]".into(),
        };
        let networks = [one("resnet50"), one("wide_resnet50_2")];
        for (width, holds) in [(200, "[N, 3,"), (46, "4.089 G"), (34, "25.557 M"), (12, "wide_resnet50_2")] {
            let text = families(&networks, Some(width));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width.max(19)) && text.contains(holds), "{text}");
        }
        let title = "resnet (torchvision keys): ResNet, He et al. 2015; ResNeXt, Xie et al. 2016; Wide ResNet, \
                     Zagoruyko and Komodakis 2016.\n";
        assert!(families(&networks, None).contains(title));
    }
}
