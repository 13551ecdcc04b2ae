//! Diagnostics as text in rustc's look, and as JSON. Whatever controls a terminal is spelt out, so that the only escape
//! sequences are the colours.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::{Diagnostic, Diagnostics, Severity, one_line, printable};
use crate::source::{FileId, Sources, Span};

/// The messages one after another, each followed by an empty line.
pub fn render(diagnostics: &Diagnostics, sources: &Sources, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    diagnostics.shown().map(|diagnostic| renderer.render(&[group(&diagnostic, sources)]) + "\n\n").collect()
}

/// One message as an annotate-snippets group: the main place, then the other places by file, then helps and notes.
fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Group<'a> {
    let problem = &diagnostic.problem;
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(one_line(&problem.message)).id(problem.code.name()));
    let mut places: Vec<(Span, &str, AnnotationKind)> = vec![];
    if let Some(span) = diagnostic.span {
        places.push((span, problem.label.as_deref().unwrap_or(""), AnnotationKind::Primary));
    }
    // a call in the text of the edit says more exactly where
    let calls =
        |edit: Span| diagnostic.calls.last().is_some_and(|(call, _)| edit.to(*call) == edit && edit.file == call.file);
    if let Some(edit) = diagnostic.edit.filter(|edit| Some(*edit) != diagnostic.span && !calls(*edit)) {
        places.push((edit, "because of this edit", AnnotationKind::Context));
    }
    let others = diagnostic.calls.iter().chain(&problem.related);
    places.extend(others.map(|(span, label)| (*span, label.as_str(), AnnotationKind::Context)));

    let mut files: Vec<FileId> = vec![];
    for (span, ..) in &places {
        if !files.contains(&span.file) {
            files.push(span.file);
        }
    }
    for file in files {
        let source = sources.file(file);
        let here = || places.iter().filter(|(span, ..)| span.file == file);
        // only the lines from the first marked one to the last: a text may be long, and messages many
        let (from, to) = lines(&source.text, here().map(|(span, ..)| *span));
        let excerpt = &source.text[from..to];
        let line = 1 + source.text[..from].matches('\n').count();
        let text = printable(excerpt);
        let mut snippet = Snippet::source(text.clone()).line_start(line).path(one_line(&source.name)).fold(true);
        for (span, label, kind) in here() {
            let inside = Span { start: span.start - from as u32, end: span.end - from as u32, ..*span };
            let annotation = kind.span(within(&text, moved(excerpt, inside)));
            snippet = snippet.annotation(if label.is_empty() { annotation } else { annotation.label(one_line(label)) });
        }
        group = group.element(snippet);
    }
    for note in problem.all_notes() {
        group = group.element(Level::NOTE.message(printable(&note).into_owned()));
    }
    for hint in &problem.hints {
        group = group.element(Level::HELP.message(one_line(hint)));
    }
    group
}

/// Where the lines begin and end that hold the beginnings of spans.
fn lines(text: &str, spans: impl Iterator<Item = Span>) -> (usize, usize) {
    let (mut from, mut to) = (text.len(), 0);
    for span in spans {
        let start = (span.start as usize).min(text.len());
        let bytes = text.as_bytes();
        from = from.min(bytes[..start].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        to = to.max(bytes[start..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| start + at + 1));
    }
    (from, to.max(from))
}

/// The span where characters before and in it are spelt out.
fn moved(text: &str, span: Span) -> Span {
    let at = |at: u32| text.get(..at as usize).map_or(at, |before| printable(before).len() as u32);
    Span { start: at(span.start), end: at(span.end), ..span }
}

/// The span as a range that lies in the text, on character boundaries, and ends on the line where it starts, so that
/// an edit of twenty lines is marked at its first.
fn within(text: &str, span: Span) -> std::ops::Range<usize> {
    let mut start = (span.start as usize).min(text.len());
    let mut end = (span.end as usize).clamp(start, text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    if let Some(newline) = text[start..end].find('\n') {
        end = start + text[start..start + newline].trim_end().len().max(1).min(text.len() - start);
    }
    start..end
}

/// The list that `check --json` prints.
pub fn to_json(diagnostics: &Diagnostics, sources: &Sources) -> Value {
    diagnostics.shown().map(|diagnostic| one_to_json(&diagnostic, sources)).collect()
}

fn one_to_json(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let related = |(span, message): &(Span, String)| {
        let mut object = json!({ "message": message });
        put_place(&mut object, *span, sources);
        object
    };
    let related: Vec<Value> = diagnostic.calls.iter().chain(&diagnostic.problem.related).map(related).collect();
    let mut object = json!({
        "code": diagnostic.problem.code.name(),
        "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "message": diagnostic.problem.message,
        "file": null, "line": null, "column": null, "end_line": null, "end_column": null,
        "label": diagnostic.problem.label,
        "help": diagnostic.problem.hints,
        "notes": diagnostic.problem.clone().in_full().notes,
        "related": related,
        "edit_line": diagnostic.edit.map(|edit| sources.line_column(edit).0),
    });
    if let Some(span) = diagnostic.span {
        put_place(&mut object, span, sources);
    }
    object
}

fn put_place(object: &mut Value, span: Span, sources: &Sources) {
    let ((line, column), (end_line, end_column)) = (sources.line_column(span), sources.end_line_column(span));
    object["file"] = json!(sources.file(span.file).name);
    object["line"] = json!(line);
    object["column"] = json!(column);
    object["end_line"] = json!(end_line);
    object["end_column"] = json!(end_column);
}
