//! What archc tells its user: problems, diagnostics and their rendering.
//!
//! Inner code returns a [`Problem`], which has no place. Whoever knows the place adds it with [`At::at`] and gets a
//! [`Diagnostic`]. Independent diagnostics are collected in [`Diagnostics`]. Messages are lower case, without a final
//! dot, names in backticks, expected before got.

mod calls;
mod code;
mod nearest;
mod printable;
mod render;

pub use calls::{Call, Calls, nest};
pub use code::Code;
pub use nearest::{and, count, joined, list, nearest, short, suggest};
pub use printable::{one_line, printable, printable_json};
pub use render::{render, to_json};

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::source::Span;

/// A mistake without a place: a code, what is wrong, and ways out.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Problem {
    pub code: Code,
    pub message: String,
    /// Written under the marked text; says what is there.
    pub label: Option<String>,
    /// Ways out, each a `= help:` line.
    pub hints: Vec<String>,
    /// Facts, each a `= note:` line.
    pub notes: Vec<String>,
    /// Facts of one kind, of which a few are shown.
    pub lists: Vec<List>,
    /// Other places that belong to it.
    pub related: Vec<(Span, String)>,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem {
            code,
            message: message.into(),
            label: None,
            hints: vec![],
            notes: vec![],
            lists: vec![],
            related: vec![],
        }
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

    /// Adds facts of one kind, `what` they are in the words `3 more ..`; none are no list.
    pub fn list(mut self, what: &str, lines: Vec<String>) -> Problem {
        if !lines.is_empty() {
            self.lists.push(List { what: what.into(), lines, layout: Layout::Lines });
        }
        self
    }

    /// Adds short facts of one kind in one note, `what: a, b, c`; none are no note.
    pub fn row(mut self, what: &str, names: Vec<String>) -> Problem {
        if !names.is_empty() {
            self.lists.push(List { what: what.into(), lines: names, layout: Layout::Row });
        }
        self
    }

    /// The notes with the lists behind them, of each the first lines and how many more there are.
    pub fn all_notes(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.notes.iter().map(|note| Cow::Borrowed(note.as_str())).chain(self.lists.iter().flat_map(List::shown))
    }

    /// With every line of its lists as a note.
    pub fn in_full(mut self) -> Problem {
        for list in std::mem::take(&mut self.lists) {
            match list.layout {
                Layout::Lines => self.notes.extend(list.lines),
                Layout::Row => self.notes.push(format!("{}: {}", list.what, list.lines.join(", "))),
            }
        }
        self
    }

    /// Marks another place, with what there is to say about it.
    pub fn see(mut self, span: Span, label: impl Into<String>) -> Problem {
        self.related.push((span, label.into()));
        self
    }

    pub fn at(self, span: Span) -> Box<Diagnostic> {
        Box::new(Diagnostic { severity: Severity::Error, problem: self, span: Some(span), edit: None, calls: vec![] })
    }

    /// For problems of the command line or the machine, which have no place in a source text.
    pub fn anywhere(self) -> Box<Diagnostic> {
        Box::new(Diagnostic { severity: Severity::Error, problem: self, span: None, edit: None, calls: vec![] })
    }
}

/// Facts of one kind.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct List {
    pub what: String,
    pub lines: Vec<String>,
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Hash)]
enum Layout {
    /// A note each.
    Lines,
    /// All in one.
    Row,
}

impl List {
    /// The notes that are shown where nobody asks for all.
    fn shown(&self) -> Vec<Cow<'_, str>> {
        // a line for one more would be as long as the one more
        let shown = if self.lines.len() <= LISTED + 1 { self.lines.len() } else { LISTED };
        let (lines, more) = (&self.lines[..shown], self.lines.len() - shown);
        match self.layout {
            Layout::Lines => {
                let more = (more > 0).then(|| format!("{more} more {}; `--verbose` lists them", self.what));
                lines.iter().map(|line| Cow::Borrowed(line.as_str())).chain(more.map(Cow::Owned)).collect()
            }
            Layout::Row => {
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                vec![Cow::Owned(format!("{}: {}{more}", self.what, lines.join(", ")))]
            }
        }
    }
}

/// How many lines of a list are shown.
const LISTED: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Error,
    Warning,
}

/// A problem and its place.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Diagnostic {
    pub severity: Severity,
    pub problem: Problem,
    pub span: Option<Span>,
    /// The edit that is to blame, where that is another place than `span`.
    pub edit: Option<Span>,
    /// The calls that lead to `span`, from the innermost out, and what there is to say of each.
    pub calls: Vec<(Span, String)>,
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

/// How many errors, and as many warnings, are shown; nobody reads more.
pub const SHOWN: usize = 100;

/// Collected diagnostics, in the order found, none twice. The first [`SHOWN`] errors and warnings are kept, further ones
/// are counted.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    /// What came, by its hash.
    seen: rustc_hash::FxHashMap<u64, Severity>,
    errors: usize,
    warnings: usize,
    /// Those of them, errors and warnings, whose hash is not known.
    unknown: [usize; 2],
}

impl Diagnostics {
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    pub fn push(&mut self, diagnostic: Box<Diagnostic>) {
        let mut hasher = DefaultHasher::new();
        diagnostic.hash(&mut hasher);
        if self.count(hasher.finish(), diagnostic.severity) {
            self.kept.push(*diagnostic);
        }
    }

    /// Counts one more error, which is like no other and is not worth explaining.
    pub fn miss(&mut self) {
        self.errors += 1;
        self.unknown[0] += 1;
    }

    /// Counts what has that hash; true where it is new and to be kept.
    fn count(&mut self, hash: u64, severity: Severity) -> bool {
        if self.seen.insert(hash, severity).is_some() {
            return false;
        }
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        *count <= SHOWN
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
        for diagnostic in other.kept {
            self.push(Box::new(diagnostic));
        }
        for (hash, severity) in other.seen {
            self.count(hash, severity);
        }
        let [errors, warnings] = other.unknown;
        self.errors += errors;
        self.warnings += warnings;
        self.unknown[0] += errors;
        self.unknown[1] += warnings;
    }

    /// Each as `change` makes it.
    pub fn map(mut self, change: impl Fn(Diagnostic) -> Box<Diagnostic>) -> Diagnostics {
        let hidden = self.errors + self.warnings - self.kept.len();
        let warnings = self.warnings.saturating_sub(SHOWN);
        let kept = std::mem::take(&mut self.kept);
        let mut changed = Diagnostics::new();
        for diagnostic in kept {
            changed.push(change(diagnostic));
        }
        changed.errors += hidden - warnings;
        changed.warnings += warnings;
        changed.unknown = [hidden - warnings, warnings];
        changed
    }

    /// In the order of their places.
    pub fn sorted(mut self) -> Diagnostics {
        self.kept.sort_by_key(|diagnostic| diagnostic.span.map(|span| span.start));
        self
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors came, shown or not.
    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn is_empty(&self) -> bool {
        self.errors + self.warnings == 0
    }

    /// Those that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.kept.iter()
    }

    /// What is to be shown: those that are kept, then how many more there are.
    fn shown(&self) -> impl Iterator<Item = Cow<'_, Diagnostic>> {
        let more = |count: usize, what: &str| {
            let more = count.checked_sub(SHOWN).filter(|more| *more > 0)?;
            let s = if more == 1 { " is" } else { "s are" };
            Some(Problem::new(Code::Limit, format!("{more} more {what}{s} not shown")))
        };
        let errors = more(self.errors, "error")
            .map(|problem| problem.hint("mend the first ones: what follows often comes of them").anywhere());
        let warnings = more(self.warnings, "warning").map(|problem| problem.anywhere().warning());
        self.kept.iter().map(Cow::Borrowed).chain(errors.into_iter().chain(warnings).map(|more| Cow::Owned(*more)))
    }
}

impl From<Box<Diagnostic>> for Diagnostics {
    fn from(diagnostic: Box<Diagnostic>) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        diagnostics.push(diagnostic);
        diagnostics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{FileId, Sources};

    fn error(at: usize) -> Box<Diagnostic> {
        Problem::new(Code::Syntax, format!("mistake {at}")).at(Span::new(FileId(0), at, at + 1))
    }

    #[test]
    fn many_warnings_are_no_error() {
        let mut warnings = Diagnostics::new();
        (0..150).for_each(|at| warnings.push(error(at).warning()));
        let mut problems = Diagnostics::new();
        problems.extend(warnings.map(Box::new));
        let mut whole = Diagnostics::new();
        whole.extend(problems);
        assert!(!whole.has_errors());
        let mut sources = Sources::new();
        sources.add("a.arch", "x".repeat(1000), None);
        let text = render(&whole, &sources, false);
        assert!(text.contains("warning[limit]: 50 more warnings are not shown"), "{text}");
    }

    #[test]
    fn what_is_said_twice_is_kept_once_and_too_much_is_counted() {
        let mut sources = Sources::new();
        sources.add("a.arch", "x".repeat(1000), None);
        let mut problems = Diagnostics::new();
        (0..250).for_each(|at| problems.push(error(at / 2)));
        assert_eq!((problems.errors(), problems.iter().count()), (125, SHOWN));
        let text = render(&problems, &sources, false);
        assert!(text.contains("mistake 99\n") && !text.contains("mistake 100\n"), "{text}");
        assert!(text.contains("error[limit]: 25 more errors are not shown"), "{text}");
        let json = to_json(&problems, &sources);
        assert_eq!(json.as_array().map(Vec::len), Some(SHOWN + 1));
        assert_eq!(json[SHOWN]["message"], "25 more errors are not shown");

        // the same ones again, one by one or together, are no more
        (0..125).for_each(|at| problems.push(error(at)));
        problems.extend(problems.clone());
        assert_eq!(problems.errors(), 125);
        problems.push(error(0).warning());
        problems.miss();
        let more = problems.clone().map(|mut one| {
            one.edit = one.span;
            Box::new(one)
        });
        assert_eq!((more.errors(), more.warnings, more.iter().count()), (126, 1, SHOWN + 1));
    }
}
