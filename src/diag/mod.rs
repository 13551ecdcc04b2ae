//! What archc tells its user: problems, diagnostics and their rendering.
//!
//! Inner code returns a [`Problem`], which has no place. Whoever knows the place adds it with [`At::at`] and gets a
//! [`Diagnostic`]. Independent diagnostics are collected in [`Diagnostics`]. Messages are lower case, without a final
//! dot, names in backticks, expected before got.

mod code;
mod nearest;
mod render;

pub use code::Code;
pub use nearest::{list, nearest, suggest};
pub use render::{render, to_json};

use crate::source::Span;

/// A mistake without a place: a code, what is wrong, and ways out.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub code: Code,
    pub message: String,
    /// Written under the marked text; says what is there.
    pub label: Option<String>,
    /// Ways out, each a `= help:` line.
    pub hints: Vec<String>,
    /// Facts, each a `= note:` line.
    pub notes: Vec<String>,
    /// Other places that belong to it.
    pub related: Vec<(Span, String)>,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into(), label: None, hints: vec![], notes: vec![], related: vec![] }
    }

    pub fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = Some(label.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hints.push(hint.into());
        self
    }

    pub fn hints(mut self, hints: impl IntoIterator<Item = String>) -> Problem {
        self.hints.extend(hints);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Problem {
        self.notes.push(note.into());
        self
    }

    /// Marks another place, with what there is to say about it.
    pub fn see(mut self, span: Span, label: impl Into<String>) -> Problem {
        self.related.push((span, label.into()));
        self
    }

    pub fn at(self, span: Span) -> Box<Diagnostic> {
        Box::new(Diagnostic { severity: Severity::Error, problem: self, span: Some(span), edit: None })
    }

    /// For problems of the command line or the machine, which have no place in a source text.
    pub fn anywhere(self) -> Box<Diagnostic> {
        Box::new(Diagnostic { severity: Severity::Error, problem: self, span: None, edit: None })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// A problem and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub problem: Problem,
    pub span: Option<Span>,
    /// The edit that is to blame, where that is another place than `span`.
    pub edit: Option<Span>,
}

impl Diagnostic {
    pub fn warning(mut self) -> Box<Diagnostic> {
        self.severity = Severity::Warning;
        Box::new(self)
    }

    pub fn blame(mut self, edit: Option<Span>) -> Box<Diagnostic> {
        self.edit = edit;
        Box::new(self)
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The result of code that knows its place.
pub type Result<T> = std::result::Result<T, Box<Diagnostic>>;

/// Adds a place to a [`Problem`].
pub trait At<T> {
    fn at(self, span: Span) -> Result<T>;
}

impl<T> At<T> for std::result::Result<T, Problem> {
    fn at(self, span: Span) -> Result<T> {
        self.map_err(|problem| problem.at(span))
    }
}

/// Collected diagnostics, in the order found, none twice.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    pub fn push(&mut self, diagnostic: Box<Diagnostic>) {
        if !self.0.contains(&diagnostic) {
            self.0.push(*diagnostic);
        }
    }

    /// The value, or None after keeping the error.
    pub fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(diagnostic) => {
                self.push(diagnostic);
                None
            }
        }
    }

    pub fn extend(&mut self, other: Diagnostics) {
        for diagnostic in other.0 {
            self.push(Box::new(diagnostic));
        }
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(Diagnostic::is_error)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl From<Box<Diagnostic>> for Diagnostics {
    fn from(diagnostic: Box<Diagnostic>) -> Diagnostics {
        Diagnostics(vec![*diagnostic])
    }
}
