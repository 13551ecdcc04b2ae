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
