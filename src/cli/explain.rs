//! `archc explain`: the manual of an op, a block, a verb, a part of the language, or the code of a message.
//!
//! What it says of the language are the sections of docs/LANGUAGE.md.

use super::session::Session;
use super::{Failure, Outcome};
use crate::diag::{Code, Problem, suggest};
use crate::edit::{VERBS, Verb};
use crate::io::console::print;
use crate::ops::attr::{Arg, Attr};
use crate::ops::shape::Shape;
use crate::ops::{Entry, MANUAL, OPERAND_OPS};
use crate::table::{Align, table};
use crate::train::spec::{self, Takes};
use crate::words::{self, Call};
use crate::zoo;

const LANGUAGE: &str = include_str!("../../docs/LANGUAGE.md");

/// Explain an op, a block, a verb or the code of a message.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// An op, a block, a verb or the code of a message; all topics where it is left out.
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
}

pub fn run(_session: &mut Session, args: &Explain) -> Outcome {
    let Some(topic) = &args.topic else {
        print(&topics());
        return Ok(());
    };
    print(&page(topic)?);
    Ok(())
}

/// All that the manual says of a topic. A word may be more than one thing: `output` is a verb and a code.
fn page(topic: &str) -> Result<String, Failure> {
    let op = MANUAL.iter().find(|entry| entry.name == topic).map(op_page);
    let block = blocks().into_iter().find(|(name, _)| *name == topic).map(|(_, text)| text.to_string());
    let verb = VERBS.iter().find(|verb| verb.name == topic).map(verb_page);
    let code = Code::ALL.iter().find(|code| code.name() == topic).map(|code| code_page(*code));
    let section = sections().into_iter().find(|section| section.topics.contains(&topic)).map(|section| section.page());
    let block_words = (topic == "train").then(train_page);
    let pages: Vec<String> = [op, block, verb, section, block_words, code].into_iter().flatten().collect();
    if pages.is_empty() {
        let names = names();
        let all = names.iter().flat_map(|(_, names)| names.iter().copied());
        let mut problem = Problem::new(Code::Usage, format!("there is no topic `{topic}`"));
        problem = match zoo::file_of(topic) {
            Some(_) => problem.hint(format!("it is a network: `archc zoo {topic}` prints it")),
            None => problem.hints(suggest(topic, all)),
        };
        return Err(problem.hint("`archc explain` lists what there is").into());
    }
    Ok(pages.join("\n"))
}

/// Every topic, by kind.
fn names() -> [(&'static str, Vec<&'static str>); 5] {
    [
        ("language", sections().into_iter().flat_map(|section| section.topics).collect()),
        ("verbs", VERBS.iter().map(|verb| verb.name).collect()),
        ("ops", MANUAL.iter().map(|entry| entry.name).filter(|name| *name != "input").collect()),
        ("blocks", blocks().into_iter().map(|(name, _)| name).collect()),
        ("codes", Code::ALL.iter().map(|code| code.name()).collect()),
    ]
}

fn topics() -> String {
    let mut text = String::new();
    for (kind, names) in names() {
        text += kind;
        text.push('\n');
        let mut line = String::new();
        for name in names {
            if line.len() + name.len() > 96 {
                text += &format!("  {}\n", line.trim_end());
                line.clear();
            }
            line += name;
            line.push(' ');
        }
        text += &format!("  {}\n\n", line.trim_end());
    }
    text + "`archc explain TOPIC` explains one of them\n"
}

fn op_page(entry: &Entry) -> String {
    let of = |arg: &crate::ops::attr::ArgDecl| match arg.default {
        Some(default) => format!("{} = {default}", arg.name),
        None => arg.name.to_string(),
    };
    let mut args: Vec<String> = entry.args.iter().map(of).collect();
    if OPERAND_OPS.contains(&entry.name) {
        args.insert(0, "..".into());
    }
    let mut text = entry.name.to_string();
    if !args.is_empty() {
        text += &format!("({})", args.join(", "));
    }
    let doc: Vec<&str> = entry.doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    text += &format!("\n\n{}\n", doc.join("\n").trim_end());
    if !entry.args.is_empty() {
        let heads = ["argument", "kind", "default", "meaning"].map(|head| (head, Align::Left));
        let row = |arg: &crate::ops::attr::ArgDecl| {
            let default = arg.default.unwrap_or("must be given");
            vec![arg.name.to_string(), arg.kind.to_string(), default.to_string(), arg.doc.to_string()]
        };
        text += &format!("\n{}", table(&heads, &entry.args.iter().map(row).collect::<Vec<_>>()));
    }
    let keys = keys(entry);
    if keys.iter().any(|key| key.is_empty()) {
        text += "\nIts key is the layer's path.\n";
    } else if !keys.is_empty() {
        text += &format!("\nKeys after the layer's path: {}\n", keys.join(", "));
    }
    if !entry.aten.is_empty() {
        let names: Vec<String> = entry.aten.iter().map(|name| format!("aten::{name}")).collect();
        text += &format!("\nIn PyTorch's graphs: {}\n", names.join(", "));
    }
    text
}

/// A section of the language's reference.
struct Section {
    /// The parts of its heading, `in, prev, out`.
    topics: Vec<&'static str>,
    heading: &'static str,
    /// Behind the heading.
    text: &'static str,
}

impl Section {
    fn page(&self) -> String {
        format!("# {}\n\n{}\n", self.heading, self.text.trim())
    }
}

/// The sections that have a heading of the third level, in order.
fn sections() -> Vec<Section> {
    let parts = LANGUAGE.split("\n### ").skip(1);
    let section = |part: &'static str| {
        let (heading, text) = part.split_once('\n').expect("a text follows a heading");
        // a chapter may begin behind it
        let text = text.split_once("\n## ").map_or(text, |(text, _)| text);
        Section { topics: heading.split(", ").collect(), heading, text }
    };
    parts.map(section).collect()
}

/// The words of the `train` block, with what may follow each.
fn train_page() -> String {
    let of = |call: &Call| {
        let arg = |arg: &words::Arg| match &arg.default {
            Some(default) => format!("{} = {}", arg.name, default()),
            None => arg.name.to_string(),
        };
        let args: Vec<String> = call.args.iter().map(arg).collect();
        if args.is_empty() { call.name.to_string() } else { format!("{}({})", call.name, args.join(", ")) }
    };
    let mut text = "The words of `train { .. }`, a line each:\n".to_string();
    for word in spec::WORDS {
        match &word.takes {
            Takes::Value { kind, default } => {
                text +=
                    &format!("\n{}: {}; {}, {default} where it is left out\n", word.name, word.doc, kind.describe());
            }
            Takes::One { of: calls, default } => {
                let note =
                    default.map_or("it must be there".to_string(), |name| format!("`{name}` where it is left out"));
                text += &format!("\n{}: {}; {note}\n", word.name, word.doc);
                calls.iter().for_each(|call| text += &format!("  {}\n      {}\n", of(call), call.doc));
            }
            Takes::Many(calls) => {
                text += &format!("\n{}: {}\n", word.name, word.doc);
                calls.iter().for_each(|call| text += &format!("  {}\n      {}\n", of(call), call.doc));
            }
        }
    }
    text + "\nlr: `lr layer4.** by 0.1` multiplies the rate of what a selector names; of all else it is the optimizer's\n"
        + "\nunfreeze: `unfreeze layer4.** after 2` lets what `freeze` has frozen learn from the third epoch on\n"
}

/// The names of an op's tensors, found by asking an example of it.
fn keys(entry: &Entry) -> Vec<&'static str> {
    let example = |kind: &str| match kind {
        "integers" => Attr::List(vec![Attr::Int(1), Attr::Int(4)]),
        "number" => Attr::Float(0.5),
        _ => Attr::Int(4),
    };
    let required = entry.args.iter().filter(|arg| arg.default.is_none());
    let args: Vec<Arg> = required.map(|arg| Arg { name: Some(arg.name.into()), value: example(arg.kind) }).collect();
    let Ok(op) = (entry.make)(&args) else { return vec![] };
    let (image, row) = (Shape::image(8, 8, 8), Shape::batched([8, 8]));
    for ins in [vec![], vec![&image], vec![&row]] {
        if op.infer(&ins).is_ok() {
            return op.params(&ins).into_iter().map(|param| param.name).collect();
        }
    }
    vec![]
}

/// The blocks of zoo/blocks.arch: each with the comment above it and its source.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let text = zoo::text(zoo::BLOCKS).unwrap_or_default();
    let mut blocks = vec![];
    // where the comment that goes on up to here began
    let mut comment: Option<usize> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with('#') {
            comment = comment.or(Some(at));
        } else {
            if let Some(rest) = line.strip_prefix("block ") {
                let name = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or(rest);
                let from = comment.unwrap_or(at);
                let end = text[at..].find("\n}\n").map_or(text.len(), |end| at + end + 3);
                blocks.push((name, &text[from..end]));
            }
            comment = None;
        }
        at += line.len();
    }
    blocks
}

fn verb_page(verb: &Verb) -> String {
    let syntax: Vec<String> = verb.syntax.iter().map(|line| format!("{line}\n")).collect();
    format!(
        "{}\n{}\n\nFor example:\n\n    {}\n",
        syntax.concat(),
        wrapped(verb.meaning),
        verb.example.replace('\n', "\n    ")
    )
}

/// The text in lines of at most 96 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + word.chars().count() >= 96 {
            lines.push(word.into());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines.join("\n")
}

fn code_page(code: Code) -> String {
    format!("{}\n", code.page().trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_a_page() {
        for (kind, names) in names() {
            assert!(!names.is_empty());
            for name in names {
                let page = page(name).unwrap_or_else(|_| panic!("{kind}: {name}"));
                assert!(page.lines().count() >= 1 && page.ends_with('\n'), "{kind}: {name}");
            }
        }
        assert!(page("conv3d").is_err());
    }

    #[test]
    fn a_topic_of_the_language_is_its_section() {
        let text = page("prev").unwrap_or_else(|_| panic!("a topic"));
        assert!(text.starts_with("# in, prev, out\n\n`in` is the input of"), "{text}");
        assert!(!text.contains("\n##"), "the section alone: {text}");
        // the last section before a chapter, and a topic that is more than one thing
        assert!(!page("arguments").unwrap_or_default().contains("\n## "));
        let text = page("residual").unwrap_or_default();
        assert!(text.contains("residual around T") && text.contains("# residual, shortcut"), "{text}");
        let topics: Vec<&str> = sections().into_iter().flat_map(|section| section.topics).collect();
        assert!(topics.iter().all(|topic| topic.chars().all(|c| c.is_ascii_lowercase())), "{topics:?}");
    }

    #[test]
    fn an_op_page_has_arguments_and_keys() {
        let page = op_page(crate::ops::find("conv2d").expect("an op"));
        assert!(page.starts_with("conv2d(out, kernel, stride = 1, padding = 0,"), "{page}");
        assert!(
            page.contains("must be given") && page.contains("\nKeys after the layer's path: weight, bias\n"),
            "{page}"
        );
        assert!(
            page.ends_with("\nIn PyTorch's graphs: aten::conv2d, aten::convolution, aten::_convolution\n"),
            "{page}"
        );
        let with_keys = [
            ("batch_norm2d", "weight, bias, running_mean, running_var, num_batches_tracked"),
            ("group_norm", "weight, bias"),
            ("prelu", "weight"),
            ("parameter", ""),
            ("window_index", ""),
        ];
        for (op, wanted) in with_keys {
            assert_eq!(keys(crate::ops::find(op).expect("an op")).join(", "), wanted, "{op}");
        }
    }

    #[test]
    fn a_block_page_has_its_comment_and_its_whole_source() {
        let blocks = blocks();
        let (_, se) = blocks.iter().find(|(name, _)| *name == "se").expect("a block");
        assert!(se.starts_with('#') && se.contains("block se(") && se.ends_with("\n}\n"), "{se}");
        assert_eq!(se.matches("block ").count(), 1, "{se}");
    }
}
