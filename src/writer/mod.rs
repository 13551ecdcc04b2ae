//! A network as text of the language: what a person would have written, and can go on with.
//!
//! `write` takes a graph, wherever it comes from, and gives a file with one `network` and its blocks. The text makes the same
//! graph again: that is tried before it is given away, by the compiler itself. Where a block, a loop or a residual would
//! make another one, plainer text is tried. Weights, and what edits say of them (`init`, `freeze`, `keeping`), are no part of it.
//!
//! The way there: `plain` puts layers in lines, scope by scope; `block` and `fold` find what is written several
//! times; `text` gives names.

mod block;
mod fold;
mod inline;
mod merge;
mod plain;
pub(crate) mod relate;
mod residual;
#[cfg(test)]
mod tests;
mod text;
mod tree;

use std::path::Path;

use crate::compile::{self, Compiled, Outcome};
use crate::diag::{Code, Problem, render};
use crate::graph::{Graph, NodeId, path};
use crate::io::labels::Labels;
use crate::io::preprocess::Preprocess;
use crate::ops;
use crate::settings::{LabelsSource, classes};
use crate::source::Sources;
use crate::syntax;
use text::{Names, Sheet};

/// What is said of a network beside its layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The name of the network.
    pub name: &'a str,
    pub preprocess: Option<&'a Preprocess>,
    /// What its classes are called: `imagenet`, or a file of names.
    pub labels: Option<&'a str>,
    /// The folder that the path of that file starts from.
    pub dir: Option<&'a Path>,
    /// Lines of a comment at the top of the file.
    pub comment: &'a [String],
}

/// How much is left to blocks, loops and residuals.
#[derive(Clone, Copy, Debug)]
struct Style {
    residuals: bool,
    loops: bool,
    blocks: bool,
}

/// From the best text to the one that always makes the same graph.
const STYLES: [Style; 5] = [
    Style { residuals: true, loops: true, blocks: true },
    Style { residuals: true, loops: false, blocks: true },
    Style { residuals: true, loops: true, blocks: false },
    Style { residuals: true, loops: false, blocks: false },
    Style { residuals: false, loops: false, blocks: false },
];

/// The text of a file with the network of a graph whose shapes are known.
///
/// # Errors
/// A graph that the language has no words for: a layer with others inside it, a number that is not finite, a label with a
/// bracket, a layer that is tied to a later one.
pub fn write(graph: &Graph, about: &About<'_>) -> Result<String, Problem> {
    let mut reason = None;
    for style in STYLES {
        match attempt(graph, about, style) {
            Ok(text) => return Ok(text),
            Err(problem) => reason = Some(problem),
        }
    }
    Err(reason.expect("there is a style"))
}

/// The network of a spec, as its edits left it, under the base's name.
///
/// # Errors
/// Those of [`write()`].
pub fn write_edited(compiled: &Compiled) -> Result<String, Problem> {
    let settings = &compiled.settings;
    let classes = classes(&compiled.typed);
    let names_all = |count: usize| classes.is_none_or(|classes| classes == count);
    let labels = match &settings.labels {
        Some(LabelsSource::Imagenet) if names_all(Labels::imagenet().len()) => Some("imagenet".to_string()),
        Some(LabelsSource::File(path, _)) if Labels::load(path).is_ok_and(|labels| names_all(labels.len())) => {
            Some(path.display().to_string())
        }
        _ => None,
    };
    let last = settings.base.rsplit('/').next().unwrap_or_default();
    let name: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let edited = if compiled.reports.is_empty() { "" } else { "_edited" };
    let name = format!("{name}{edited}");
    let about = About {
        name: if text::is_name(&name) && ops::find(&name).is_none() { &name } else { "edited_network" },
        preprocess: settings.preprocess.as_ref(),
        labels: labels.as_deref(),
        dir: Some(&settings.dir),
        comment: &[],
    };
    write(compiled.typed.graph(), &about)
}

fn attempt(graph: &Graph, about: &About<'_>, style: Style) -> Result<String, Problem> {
    let mut plain = plain::plain(graph, style.residuals)?;
    let mut names = Names::new(graph, about.name);
    let blocks = block::abstracted(graph, &mut plain.body, &mut plain.next, &mut names, style);
    let sheet = Sheet { about, graph, inputs: &plain.inputs, body: &plain.body, blocks: &blocks, names: &names };
    let text = text::text(&sheet)?;
    let mut sources = Sources::new();
    let file = sources.add("<network>", text.as_str(), about.dir);
    let text = syntax::format(file, &text).map_err(|found| wrong(&render(&found, &sources, false), &text))?;
    let file = sources.add("<network>", format!("{text}\nbase {}\n", about.name), about.dir);
    let compiled = match compile::compile(&mut sources, file, &[]) {
        Ok(Outcome::Spec(compiled)) => compiled,
        Ok(Outcome::Library) => return Err(wrong("it has no base", &text)),
        Err(found) => return Err(wrong(&render(&found, &sources, false), &text)),
    };
    match difference(graph, compiled.typed.graph()) {
        None => Ok(text),
        Some(difference) => Err(wrong(&difference, &text)),
    }
}

/// A text that is not that of the network.
fn wrong(why: &str, text: &str) -> Problem {
    let problem = Problem::new(Code::Output, "the network cannot be written as text: what was written is not the same");
    let problem = problem.note(why.lines().next().unwrap_or_default().to_string());
    if cfg!(test) { problem.note(format!("{why}\n{text}")) } else { problem }
}

/// What is another in a graph than in the one that it should be, in words: the first that is found.
pub fn difference(wanted: &Graph, got: &Graph) -> Option<String> {
    let shown = |path: &str| path::display(path);
    let path_of = |graph: &Graph, id: NodeId| graph.node(id).path.clone();
    for id in wanted.order() {
        let node = wanted.node(id);
        let Some(other) = got.find(&node.path) else { return Some(format!("`{}` is missing", shown(&node.path))) };
        let same = got.node(other);
        if node.op != same.op {
            return Some(format!("`{}` is {}, not {}", shown(&node.path), same.op, node.op));
        }
        let operands = |graph: &Graph, id: NodeId| -> Vec<String> {
            graph.operands(id).into_iter().map(|id| path_of(graph, id)).collect()
        };
        let (ours, theirs) = (operands(wanted, id), operands(got, other));
        if ours != theirs {
            let (ours, theirs) = (ours.join("`, `"), theirs.join("`, `"));
            return Some(format!("`{}` takes `{theirs}`, not `{ours}`", shown(&node.path)));
        }
        if node.shape != same.shape {
            return Some(format!("`{}` has another shape", shown(&node.path)));
        }
        let ties = |graph: &Graph, id: NodeId| graph.node(id).tied.map(|_| path_of(graph, graph.owner(id)));
        if ties(wanted, id) != ties(got, other) {
            return Some(format!("`{}` has the tensors of another layer", shown(&node.path)));
        }
    }
    if got.len() != wanted.len() {
        let more = got.order().into_iter().find(|id| wanted.find(&got.node(*id).path).is_none());
        return Some(format!("`{}` is too many", more.map_or(String::new(), |id| shown(&path_of(got, id)))));
    }
    let inputs = |graph: &Graph| -> Vec<String> { graph.inputs().keys().cloned().collect() };
    if inputs(wanted) != inputs(got) {
        return Some(format!("the inputs are `{}`", inputs(got).join("`, `")));
    }
    for (name, output) in wanted.outputs() {
        let path = path_of(wanted, output.node);
        let other = got.outputs().get(name).map(|output| path_of(got, output.node));
        if other.as_ref() != Some(&path) {
            return Some(format!("the output `{name}` is not `{}`", shown(&path)));
        }
    }
    if wanted.outputs().len() != got.outputs().len() {
        return Some("it has more outputs".into());
    }
    let mut roles = wanted.roles().iter();
    if !got.roles().iter().all(|role| roles.next() == Some(role)) || roles.next().is_some() {
        return Some("it has other roles".into());
    }
    None
}
