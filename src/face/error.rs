//! The one error of the face: the messages of a stage, with their places.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::diag::{Code, Diagnostic, Diagnostics, Problem, Severity, render, to_json};
use crate::source::{Sources, Span};

/// Why something could not be done: one message or several, as they are found together.
///
/// Its text is what the `archc` program prints, without colours.
#[derive(Clone)]
pub struct Error {
    diagnostics: Diagnostics,
    sources: Arc<Sources>,
}

/// A mistake or a warning.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub severity: Severity,
    pub code: Code,
    /// What is wrong, in a line.
    pub text: String,
    /// Where; None for what has no place in a text.
    pub place: Option<Place>,
    /// What stands there.
    pub label: Option<String>,
    /// The edit that is to blame, where that is another place.
    pub edit: Option<Place>,
    /// Other places that belong to it, and why.
    pub related: Vec<(Place, String)>,
    /// Facts.
    pub notes: Vec<String>,
    /// Ways out.
    pub hints: Vec<String>,
}

/// A place in a text; lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
}

impl Error {
    pub(crate) fn new(diagnostics: Diagnostics, sources: Arc<Sources>) -> Error {
        Error { diagnostics, sources }
    }

    /// The messages, at most a hundred errors and as many warnings of them.
    pub fn messages(&self) -> Vec<Message> {
        messages(&self.diagnostics, &self.sources)
    }

    /// How many errors there are, those counted that are not among the messages.
    pub fn count(&self) -> usize {
        self.diagnostics.errors()
    }

    /// The messages as `archc check --json` prints them.
    pub fn to_json(&self) -> Value {
        to_json(&self.diagnostics, &self.sources)
    }

    pub(crate) fn into_diagnostics(self) -> Diagnostics {
        self.diagnostics
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error::new(problem.anywhere().into(), Arc::default())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(render(&self.diagnostics, &self.sources, false).trim_end())
    }
}

impl fmt::Debug for Error {
    /// The text: `expect` and a `main` that returns the error print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Diagnostics with their places spelt out.
pub(super) fn messages(diagnostics: &Diagnostics, sources: &Sources) -> Vec<Message> {
    diagnostics.iter().map(|one| Message::new(one, sources)).collect()
}

impl Message {
    fn new(one: &Diagnostic, sources: &Sources) -> Message {
        let place = |span: Span| Place::new(span, sources);
        let problem = one.problem.clone().in_full();
        Message {
            severity: one.severity,
            code: problem.code,
            text: problem.message,
            place: one.span.map(place),
            label: problem.label,
            edit: one.edit.filter(|edit| Some(*edit) != one.span).map(place),
            related: one.calls.iter().cloned().chain(problem.related).map(|(span, why)| (place(span), why)).collect(),
            notes: problem.notes,
            hints: problem.hints,
        }
    }
}

impl fmt::Display for Message {
    /// `head.arch:3:27: error[shape-mismatch]: ..`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}[{}]: {}", self.code, self.text)
    }
}

impl Place {
    fn new(span: Span, sources: &Sources) -> Place {
        let ((line, column), (end_line, end_column)) = (sources.line_column(span), sources.end_line_column(span));
        Place { file: sources.file(span.file).name.clone(), line, column, end_line, end_column }
    }
}

impl fmt::Display for Place {
    /// `head.arch:3:27`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
