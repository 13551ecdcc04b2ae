//! From text to tree: lay out, let pest find the structure, build the tree from its pairs.
//!
//! Total: every text gives a tree, and diagnostics for what the tree lacks.

use pest::Parser;
use pest::error::InputLocation;

use super::tree::{self, Name, Spanned};
use super::{explain, layout};
use crate::diag::{Code, Diagnostics, Problem, Result, SHOWN};
use crate::source::{FileId, Span};

/// The grammar. Its rules are named in `grammar/arch.pest`.
#[derive(pest_derive::Parser)]
#[grammar = "../grammar/arch.pest"]
pub(super) struct Grammar;

pub(super) type Pair<'i> = pest::iterators::Pair<'i, Rule>;

/// How deep operators, postfixes and brackets may be stacked in one expression.
pub(super) const MAX_DEPTH: usize = 256;

/// Parses a file. Statements that do not parse are reported and left out of the tree.
pub fn parse(file: FileId, text: &str) -> (tree::File, Diagnostics) {
    parse_at(file, text, 0)
}

/// Parses a piece of a file that begins at `offset`.
pub fn parse_at(file: FileId, text: &str, offset: usize) -> (tree::File, Diagnostics) {
    let mut problems = Diagnostics::new();
    if text.len() > u32::MAX as usize / 2 {
        let problem = Problem::new(Code::Limit, "a source file is larger than 2 GB");
        problems.push(problem.at(Span::new(file, 0, 0)));
        return (tree::File::default(), problems);
    }
    let laid = layout::lay_out(file, text, &mut problems);
    let mut builder = Builder { file, source: text, offset, problems, depth: 0 };
    let tree = match Grammar::parse(Rule::file, &laid) {
        Ok(mut pairs) => pairs.next().map(|file| builder.file(file)).unwrap_or_default(),
        Err(error) => {
            // The grammar takes every text, so this is the parser's stack.
            let message = format!("the file cannot be parsed: {}", error.variant.message());
            builder.problems.push(Problem::new(Code::Limit, message).at(Span::new(file, 0, 0)));
            tree::File::default()
        }
    };
    // as a reader meets them; brackets were looked at before anything else
    (tree, builder.problems.sorted())
}

/// Parses a text that is one selector, as on the command line.
///
/// # Errors
/// If it is none.
pub fn parse_selector(file: FileId, text: &str) -> std::result::Result<tree::Selector, Diagnostics> {
    let mut problems = Diagnostics::new();
    let laid = layout::lay_out(file, text, &mut problems);
    let mut builder = Builder { file, source: text, offset: 0, problems, depth: 0 };
    let selector = match Grammar::parse(Rule::only_selector, laid.trim_end()) {
        Ok(mut pairs) => {
            let pair = pairs.next().and_then(|only| child(&only, Rule::selector));
            builder.selector(pair.expect("an only_selector holds a selector"))
        }
        Err(error) => {
            let (InputLocation::Pos(at) | InputLocation::Span((at, _))) = error.location;
            let problem = Problem::new(Code::Syntax, "this is no selector");
            let hint = "such as `layer4`, `layer*[-1]` or `**:conv2d where kernel == 3`";
            Err(problem.label("not understood from here on").hint(hint).at(Span::new(file, at, text.len().max(at))))
        }
    };
    match selector {
        Ok(selector) if !builder.problems.has_errors() => Ok(selector),
        Ok(_) => Err(builder.problems),
        // what is wrong with its brackets was said already
        Err(_) if builder.problems.has_errors() => Err(builder.problems),
        Err(problem) => Err(problem.into()),
    }
}

/// Which statements a bad one could have been.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    File,
    Body,
    Network,
    Base,
    Train,
}

/// Builds the tree from pest's pairs, which are offsets into the text as it was laid out.
pub(super) struct Builder<'a> {
    pub file: FileId,
    /// The text as it was written.
    pub source: &'a str,
    /// Where the parsed text starts in the source.
    pub offset: usize,
    pub problems: Diagnostics,
    /// How deep what is built now lies in expressions.
    pub depth: usize,
}

impl<'a> Builder<'a> {
    /// For a text that stands inside another one, at `offset`.
    pub fn nested(&self, offset: usize) -> Builder<'a> {
        Builder { file: self.file, source: self.source, offset, problems: Diagnostics::new(), depth: self.depth }
    }

    /// The place of a pair, without the blanks that pest counts to its end.
    pub fn span(&self, pair: &Pair) -> Span {
        let span = pair.as_span();
        let start = self.offset + span.start();
        Span::new(self.file, start, start + span.as_str().trim_end().len())
    }

    pub fn name(&self, pair: &Pair) -> Name {
        Spanned { value: pair.as_str().trim_end().to_string(), span: self.span(pair) }
    }

    /// The text of a string, escapes replaced.
    pub fn string(&self, pair: &Pair) -> Spanned<String> {
        Spanned { value: unescape(pair.as_str().trim_end()), span: self.span(pair) }
    }

    pub fn int(&self, pair: &Pair) -> Result<Spanned<i64>> {
        let span = self.span(pair);
        match pair.as_str().trim_end().parse() {
            Ok(value) => Ok(Spanned { value, span }),
            Err(_) => Err(Problem::new(Code::Arithmetic, "this number does not fit 64 bits").at(span)),
        }
    }

    /// Keeps what was built, or reports why it was not.
    pub fn keep<T>(&mut self, built: Result<T>, into: &mut Vec<T>) {
        match built {
            Ok(value) => into.push(value),
            Err(problem) => self.report(problem),
        }
    }

    pub fn report(&mut self, problem: Box<crate::diag::Diagnostic>) {
        self.problems.push(problem);
    }

    /// Reports a statement that did not parse.
    pub fn bad(&mut self, pair: &Pair, context: Context) {
        let text = pair.as_str();
        if text.contains(layout::POISON) {
            return;
        }
        // to find out why means to parse it once more
        if self.problems.errors() >= SHOWN {
            return self.problems.miss();
        }
        let problem = explain::explain(self.source, self.span(pair), text, context);
        self.report(problem);
    }
}

/// The first child of that rule.
pub(super) fn child<'i>(pair: &Pair<'i>, rule: Rule) -> Option<Pair<'i>> {
    pair.clone().into_inner().find(|inner| inner.as_rule() == rule)
}

/// A text as a string literal of the language; None where it cannot be one: such a literal ends with its line.
pub fn quoted(text: &str) -> Option<String> {
    if text.contains('\n') {
        return None;
    }
    let mut literal = String::from("\"");
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // any other backslash is itself
        let is_escape = c == '\\' && matches!(chars.peek(), Some('"' | '\\') | None);
        if c == '"' || is_escape {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal.push('"');
    Some(literal)
}

/// What stands between the quotes, with `\"` and `\\` replaced.
pub(super) fn unescape(quoted: &str) -> String {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(&escaped @ ('"' | '\\'))) => {
                text.push(escaped);
                chars.next();
            }
            _ => text.push(c),
        }
    }
    text
}
