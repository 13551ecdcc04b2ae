//! Tests of the parser and formatter that look at whole texts.

mod format;
mod limits;
mod messages;
mod trees;

use super::parse;
use crate::diag::Diagnostics;
use crate::source::Sources;

/// The messages of a text: `line:column message`, hints and other places behind.
fn messages(text: &str) -> Vec<String> {
    let mut sources = Sources::new();
    let file = sources.add("test.arch", text, None);
    let (_, problems) = parse(file, text);
    listed(&problems, &sources)
}

fn listed(problems: &Diagnostics, sources: &Sources) -> Vec<String> {
    let one = |diagnostic: &crate::diag::Diagnostic| {
        let (line, column) = diagnostic.span.map_or((0, 0), |span| sources.line_column(span));
        let mut text = format!("{line}:{column} {}", diagnostic.problem.message);
        for (span, label) in &diagnostic.problem.related {
            let (line, column) = sources.line_column(*span);
            text += &format!(" | {line}:{column} {label}");
        }
        for hint in &diagnostic.problem.hints {
            text += &format!(" | {hint}");
        }
        text
    };
    problems.iter().map(one).collect()
}

/// The networks that ship with archc: name and text.
fn zoo() -> Vec<(String, String)> {
    let paths = std::fs::read_dir("zoo").unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "arch")).collect();
    paths.sort();
    assert!(paths.len() >= 18);
    paths.iter().map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_zoo_parses() {
    for (name, text) in zoo() {
        assert!(messages(&text).is_empty(), "{name}: {:?}", messages(&text));
    }
}
