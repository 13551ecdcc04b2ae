//! The model card: what lies as README.md beside an export or a training run. It has the header that the Hugging Face hub
//! reads (<https://huggingface.co/docs/hub/model-cards>), the spec in full, what its edits did, what became of the weights, the
//! SHA-256 of every file that was read or written, figures, their limits, and how the files are used. Its last block is for
//! `archc reproduce`.

mod fenced;
mod limits;
mod record;
mod uses;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub use record::{Made, OfOnnx, Read, Record, Seen, Stamped};

use crate::answers::{Answer, answer, loss_of, names};
use crate::bind::Bound;
use crate::compile::Compiled;
use crate::diag::{Problem, one_line};
use crate::edit::Report;
use crate::graph::path;
use crate::io::{atomic, open};
use crate::source::{FileId, Sources};
use crate::syntax::joined;
use crate::table::{change, count, giga, giga_change, thousands};
pub use crate::train::run::relative;
use crate::train::run::resolved;
use crate::train::run::scores::Scores;
use crate::typed::Typed;
use crate::weights::WeightsSource;

/// By this line a card is known.
pub const MARK: &str = "<!-- a model card that archc wrote; `archc reproduce` reads its last block -->";

/// What is behind the fences of the spec, and of what is recorded.
const SPEC: &str = "arch";
const RECORD: &str = "json archc-card";

/// Places that a cell names before it only counts them.
const NAMED: usize = 4;

/// Classes whose pictures are counted one by one.
const CLASSES: usize = 40;

/// A card before its last block: what is known when the weights are there.
#[derive(Clone, Debug)]
pub struct Card {
    /// Of the spec, and its file's.
    name: String,
    file: String,
    base: String,
    /// The repository of the base's weights.
    hub: Option<String>,
    /// Where the weights come from, in words; empty where they are drawn.
    origin: String,
    licence: Option<String>,
    answer: Answer,
    /// Names and shapes.
    takes: Vec<(String, String)>,
    gives: Vec<(String, String)>,
    preprocess: Option<String>,
    spec: String,
    plan: String,
    ledger: Vec<(String, Vec<String>)>,
    /// Learned tensors that nothing has filled but chance.
    fresh: usize,
    is_random: bool,
    inputs: Vec<Stamped>,
    training: Option<Training>,
}

/// What a run learned from, and what it came to.
#[derive(Clone, Debug, Default)]
pub struct Training {
    /// The data's own name.
    pub dataset: String,
    /// Pictures of each class to learn from; none where the labels are numbers.
    pub counts: Vec<(String, usize)>,
    /// Samples that it was measured on.
    pub validation: usize,
    /// Rows of the table of the run.
    pub facts: Vec<(String, String)>,
    pub scores: Option<Scores>,
}

impl Card {
    /// Of a spec and its weights, for the folder `folder`. Reads every file that the spec names once. `weights` is a file
    /// that was given instead of the spec's.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn begin(
        compiled: &Compiled,
        (sources, file): (&Sources, FileId),
        set: &[(String, String)],
        (bound, weights): (&Bound, Option<&Path>),
        folder: &Path,
    ) -> Result<Card, Problem> {
        let typed = &compiled.typed;
        // names that cannot be had are no reason to lose a card
        let labels = names(compiled, bound).ok().flatten();
        let answer = answer(typed, loss_of(compiled, bound).as_deref(), labels.as_ref());
        let source = &compiled.settings.weights;
        let (hub, origin) = match (weights, source) {
            (Some(path), _) => (None, format!("the file `{}`", relative(path, folder))),
            (None, WeightsSource::Hub(repo)) => (Some(repo.clone()), format!("`{repo}` of the Hugging Face hub")),
            (None, WeightsSource::File(path)) => {
                (None, format!("the file `{}`", relative(&compiled.settings.dir.join(path), folder)))
            }
            (None, WeightsSource::Random { .. }) => (None, String::new()),
        };
        let is_random = weights.is_none() && matches!(source, WeightsSource::Random { .. });
        let ledger = bound.ledger();
        let fates = ledger.fates(if is_random { "drawn" } else { "kept" });
        let shapes = |typed: &Typed, id| typed.shape(id).to_string();
        Ok(Card {
            name: stem(&sources.file(file).name),
            file: file_name(Path::new(&sources.file(file).name)),
            base: compiled.settings.base.clone(),
            hub,
            origin,
            licence: bound.settings().licence.clone(),
            answer,
            takes: typed.graph().inputs().iter().map(|(name, id)| (name.clone(), shapes(typed, *id))).collect(),
            gives: typed.graph().outputs().iter().map(|(name, out)| (name.clone(), shapes(typed, out.node))).collect(),
            preprocess: bound.settings().preprocess.as_ref().map(ToString::to_string),
            spec: resolved(sources, file, set, folder),
            plan: plan(compiled, sources),
            ledger: fates.into_iter().map(|(fate, keys)| (fate.to_string(), keys)).collect(),
            fresh: ledger.new.len() + ledger.reshaped.len(),
            is_random,
            inputs: inputs((sources, file), bound, folder)?,
            training: None,
        })
    }

    /// Says what the network has learned from.
    pub fn train(&mut self, training: Training) {
        self.training = Some(training);
    }

    /// A record of what was made of it, where nothing was written yet.
    pub fn record(&self, made: Made) -> Record {
        Record {
            archc: env!("CARGO_PKG_VERSION").into(),
            made,
            name: self.file.clone(),
            spec: record::sha256(&ended(&self.spec)),
            inputs: self.inputs.clone(),
            data: None,
            outputs: vec![],
            results: Default::default(),
        }
    }

    /// The card's text.
    pub fn text(&self, record: &Record) -> String {
        let mut text = self.header(record);
        let add = |text: &mut String, part: &str| {
            text.push_str(part.trim_end());
            text.push_str("\n\n");
        };
        add(&mut text, MARK);
        add(&mut text, &format!("# {}", inline(&self.name)));
        add(&mut text, &self.about());
        if let Some(training) = &self.training {
            add(&mut text, "## Results");
            add(&mut text, &rows(("", ""), &training.facts));
            add(&mut text, &classes(training));
        }
        add(&mut text, "## Limits");
        add(&mut text, &self.limits().iter().map(|limit| format!("- {limit}\n")).collect::<String>());
        add(&mut text, "## How to use it");
        for (title, info, code) in self.uses(record) {
            add(&mut text, &format!("{title}\n\n{}", fenced::block(info, &code)));
        }
        add(&mut text, "## The spec");
        add(&mut text, &fenced::block(SPEC, &ended(&self.spec)));
        add(&mut text, "## What its edits do");
        add(&mut text, &self.plan);
        add(&mut text, "## What became of the weights");
        add(&mut text, &fates(&self.ledger));
        add(&mut text, "## Files");
        add(&mut text, &files(record));
        add(&mut text, "## To make it again");
        let command = "Beside the files that were read, in the folder of this card:";
        add(&mut text, &format!("{command}\n\n{}", fenced::block("sh", "archc reproduce README.md\n")));
        let json = serde_json::to_string_pretty(record).expect("a record is JSON");
        text + &fenced::block(RECORD, &json)
    }

    /// The header in YAML, of which every string is written as JSON has it.
    fn header(&self, record: &Record) -> String {
        let quoted = |text: &str| serde_json::to_string(text).expect("a string is JSON");
        let mut yaml = String::from("---\nlibrary_name: archc\n");
        if let Some(repo) = &self.hub {
            // a revision is no part of the name
            let repo = repo.split('@').next().unwrap_or(repo);
            let _ = writeln!(yaml, "base_model: {}\nbase_model_relation: finetune", quoted(repo));
        }
        if let Some(licence) = &self.licence {
            let _ = writeln!(yaml, "license: {}", quoted(licence));
        }
        let task = self.task();
        if let Some((task, _)) = task {
            let _ = writeln!(yaml, "pipeline_tag: {task}");
        }
        let _ = writeln!(yaml, "tags:\n- archc\n- {}", quoted(&self.base));
        let results = &record.results;
        if let (Some(training), Some((task, name))) = (&self.training, task) {
            let figures: Vec<(&String, &f64)> = results.iter().filter(|(name, _)| *name != "epoch").collect();
            yaml += "metrics:\n";
            yaml.extend(figures.iter().map(|(name, _)| format!("- {}\n", quoted(name))));
            let _ = writeln!(yaml, "model-index:\n- name: {}\n  results:", quoted(&self.name));
            let _ = writeln!(yaml, "  - task:\n      type: {task}\n      name: {name}");
            let part = if training.validation > 0 { "validation" } else { "train" };
            let dataset = quoted(&training.dataset);
            let _ = writeln!(yaml, "    dataset:\n      type: {dataset}\n      name: {dataset}\n      split: {part}");
            yaml += "    metrics:\n";
            for (name, value) in figures {
                let (name, value) = (quoted(name), serde_json::to_string(value).expect("a number is JSON"));
                let _ = writeln!(yaml, "    - type: {name}\n      value: {value}");
            }
        }
        yaml + "---\n\n"
    }

    /// What the hub calls the network's task, and how a person says it.
    fn task(&self) -> Option<(&'static str, &'static str)> {
        match self.answer {
            Answer::Classes(_) => Some(("image-classification", "Image Classification")),
            Answer::Pixels => Some(("image-segmentation", "Image Segmentation")),
            Answer::Numbers | Answer::Tensors => None,
        }
    }

    fn about(&self) -> String {
        let mut text = format!("`{}`, changed by the [spec](#the-spec) below. ", code(&self.base));
        match self.is_random {
            true => text += "Its weights were drawn at random.\n",
            false => text += &format!("Its weights come from {}.\n", self.origin),
        }
        let list = |values: &[(String, String)]| {
            values.iter().map(|(name, shape)| format!("`{}` {shape}", code(name))).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(text, "It takes {}, and gives {}; N is the batch.", list(&self.takes), list(&self.gives));
        if let Some(preprocess) = &self.preprocess {
            let _ = writeln!(text, "Pictures are prepared so: {}.", preprocess.trim_start_matches("preprocess: "));
        }
        if let Some(licence) = &self.licence {
            let _ = writeln!(text, "The base's weights are given under the licence `{}`.", code(licence));
        } else if !self.is_random {
            text +=
                "Under which licence the base's weights are given is not known to archc: ask where they come from.\n";
        }
        text
    }
}

/// The files that a spec reads: those that it uses, then weights. Each is read once.
///
/// # Errors
/// One that cannot be read.
pub fn inputs((sources, file): (&Sources, FileId), bound: &Bound, folder: &Path) -> Result<Vec<Stamped>, Problem> {
    let spec = sources.file(file);
    let own = sources.files().filter(|one| !one.builtin && !std::ptr::eq(*one, spec));
    let used =
        own.map(|one| Stamped::of_text(&one.text, "a file that the spec uses", relative(Path::new(&one.name), folder)));
    let weights = bound.files();
    let weights = weights.par_iter().map(|(path, repo)| match repo {
        Some(repo) => Stamped::of(path, "weights", format!("{repo}/{}", file_name(path))),
        None => Stamped::of(path, "weights", relative(path, folder)),
    });
    let weights: Vec<Stamped> = weights.collect::<Result<_, _>>()?;
    Ok(used.chain(weights).collect())
}

/// Where the card of what is written to `output` lies: README.md beside it, unless that is somebody else's, or the card of
/// another output; then a file of the output's own name. None where that is somebody else's, too.
pub fn place(output: &Path) -> Option<PathBuf> {
    let name = output.file_name()?.to_string_lossy().into_owned();
    let is_free = |path: &PathBuf| match open::read_text(path, 16 << 20) {
        Ok(text) => Read::of(&text).is_ok_and(|read| read.record.outputs.iter().any(|output| output.name == name)),
        Err(_) => !path.exists() && !path.is_symlink(),
    };
    [output.with_file_name("README.md"), output.with_extension("md")].into_iter().find(is_free)
}

/// Writes a card.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<(), Problem> {
    atomic::write_bytes(path, text.as_bytes())
}

/// The folder of a file, by which it can be opened.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What a file is called in its folder.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of a spec without folder and ending.
fn stem(name: &str) -> String {
    let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| !stem.is_empty()).unwrap_or_else(|| name.to_string())
}

/// With a line end.
fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.into() } else { format!("{text}\n") }
}

/// A text that is no Markdown.
fn inline(text: &str) -> String {
    let mut escaped = String::new();
    for c in one_line(text).chars() {
        if "\\`*_{}[]<>()#+!|~&".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A text between backticks, also in a cell.
fn code(text: &str) -> String {
    one_line(text).replace('`', "'").replace('|', "\\|")
}

/// A table of two columns.
fn rows(heads: (&str, &str), rows: &[(String, String)]) -> String {
    let mut text = format!("| {} | {} |\n|---|---|\n", heads.0, heads.1);
    for (name, value) in rows {
        let _ = writeln!(text, "| {} | {} |", inline(name), inline(value));
    }
    text
}

/// The first few names, and how many more there are.
fn some(names: &[String]) -> String {
    let named: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{}`", code(name))).collect();
    match names.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Edit by edit what happened, and the cost before and after.
fn plan(compiled: &Compiled, sources: &Sources) -> String {
    let cost = |typed: &Typed| {
        let ((parameters, macs), layers) = (typed.totals(), count(typed.order().len(), "layer"));
        format!("{layers}, {} parameters, {} multiply-adds", thousands(parameters), giga(macs))
    };
    let mut text = String::new();
    if !compiled.reports.is_empty() {
        text += "| line | edit | matched | layers | parameters | multiply-adds |\n|---|---|---|---|---|---|\n";
    }
    for report in &compiled.reports {
        let Report { span, matched, added, removed, parameters, macs, .. } = report;
        let shown = |paths: &[String]| some(&paths.iter().map(|one| path::display(one)).collect::<Vec<_>>());
        let layers: Vec<String> = [("added", added), ("removed", removed)]
            .into_iter()
            .filter(|(_, paths)| !paths.is_empty())
            .map(|(what, paths)| format!("{what} {}", shown(paths)))
            .collect();
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {} | {} | {} |",
            sources.line_column(*span).0,
            code(&joined(sources.text(*span))),
            some(matched),
            layers.join("; "),
            change(*parameters),
            giga_change(*macs)
        );
    }
    let (before, after) = (cost(&compiled.base), cost(&compiled.typed));
    match compiled.reports.is_empty() {
        true => format!("It has no edits: {after}.\n"),
        false => format!("{text}\nBefore: {before}.  \nAfter: {after}.\n"),
    }
}

/// What became of the tensors.
fn fates(ledger: &[(String, Vec<String>)]) -> String {
    let mut text = String::from("| fate | tensors | |\n|---|---|---|\n");
    for (fate, keys) in ledger {
        let named = if keys.len() > 2 * NAMED && fate == "kept" { String::new() } else { some(keys) };
        let _ = writeln!(text, "| {fate} | {} | {named} |", keys.len());
    }
    text
}

/// How many pictures each class has to learn from.
fn classes(training: &Training) -> String {
    let Training { counts, scores, .. } = training;
    if counts.is_empty() || counts.len() > CLASSES {
        return String::new();
    }
    let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.1} %", share * 100.0));
    let mut text = String::from("| class | pictures to learn from | precision | recall |\n|---|---|---|---|\n");
    for (class, (name, pictures)) in counts.iter().enumerate() {
        let of = |share: fn(&Scores, usize) -> Option<f64>| {
            percent(
                scores.as_ref().filter(|scores| class < scores.classes.len()).and_then(|scores| share(scores, class)),
            )
        };
        let (precision, recall) = (of(Scores::precision), of(Scores::recall));
        let _ = writeln!(text, "| {} | {pictures} | {precision} | {recall} |", inline(name));
    }
    text
}

/// Every file that was read or written.
fn files(record: &Record) -> String {
    let mut text = String::from("| file | what | bytes | sha256 |\n|---|---|---|---|\n");
    for (part, files) in [("read", &record.inputs), ("written", &record.outputs)] {
        for Stamped { what, name, bytes, sha256 } in files {
            let (name, bytes) = (code(name), thousands(*bytes));
            let _ = writeln!(text, "| `{name}` | {part}: {} | {bytes} | `{sha256}` |", inline(what));
        }
    }
    if let Some(Seen { training, validation, sha256 }) = &record.data {
        let what = format!("read: {training} samples to learn from, {validation} for validation");
        let _ = writeln!(text, "| the data | {what} | | `{sha256}` |");
    }
    text
}
