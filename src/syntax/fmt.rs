//! The canonical form of a file: spacing and indentation, `archc 1` at the top.
//!
//! Works on the tokens of the parsed text and what stands between them. Tokens are written as they are, so the tree
//! stays what it was; line breaks, comments and single blank lines stay where the user put them; columns are not
//! aligned. Formatting twice gives what formatting once gave.

use pest::Parser;

use super::parse::{Grammar, Pair, Rule, parse};
use super::{layout, tree};
use crate::diag::Diagnostics;
use crate::source::FileId;

const INDENT: usize = 4;

/// The text in canonical form, or why it does not parse. Line ends stay LF or CRLF.
pub fn format(file: FileId, text: &str) -> Result<String, Diagnostics> {
    let (tree, problems) = parse(file, text);
    if problems.has_errors() {
        return Err(problems);
    }
    let laid = layout::lay_out(file, text, &mut Diagnostics::new());
    let mut tokens = vec![];
    for pair in Grammar::parse(Rule::file, &laid).into_iter().flatten() {
        collect(pair, &mut tokens);
    }
    let text = text.strip_prefix('\u{feff}').map_or_else(|| text.to_string(), |rest| format!("   {rest}"));
    let mut writer = Writer::default();
    if !tree.items.iter().any(|item| matches!(item, tree::Item::Version(_))) {
        writer.out.push_str("archc 1\n\n");
    }
    writer.write(&text, &tokens);
    let out = writer.out.trim_end().to_string() + "\n";
    let crlf = text.find('\n').is_some_and(|end| text[..end].ends_with('\r'));
    Ok(if crlf { out.replace('\n', "\r\n") } else { out })
}

/// What counts of a text: its canonical form without comments and empty lines. Two texts that have the same come to the same.
pub fn meaning(text: &str) -> String {
    let laid = layout::lay_out(FileId(0), text, &mut Diagnostics::new());
    // what does not parse means itself
    let formatted = format(FileId(0), &laid).unwrap_or_else(|_| text.to_string());
    formatted.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A token and what decides how it is set.
#[derive(Clone, Copy)]
struct Token {
    rule: Rule,
    /// The rule that holds it.
    parent: Rule,
    start: usize,
    end: usize,
    /// The first of a statement, of an entry, or of a line in braces.
    first: bool,
    /// For the braces of statements and entries: their contents stand on lines of their own.
    spread: bool,
}

/// The tokens of a pair in reading order.
fn collect(pair: Pair, tokens: &mut Vec<Token>) {
    let parent = pair.as_rule();
    let container = matches!(
        parent,
        Rule::file
            | Rule::body
            | Rule::netbody
            | Rule::basebody
            | Rule::train
            | Rule::settings
            | Rule::roles
            | Rule::heirs
    );
    let mut braces = vec![];
    let mut inside = parent == Rule::file;
    let mut spread = false;
    let text = pair.get_input();
    for inner in pair.into_inner() {
        let span = inner.as_span();
        let rule = inner.as_rule();
        if span.as_str().is_empty() {
            continue;
        }
        let at = tokens.len();
        if inner.clone().into_inner().next().is_some() {
            collect(inner, tokens);
        } else {
            tokens.push(Token { rule, parent, start: span.start(), end: span.end(), first: false, spread: false });
        }
        if container && inside && at > 0 {
            spread |= text[tokens[at - 1].end..tokens[at].start].contains('\n');
            tokens[at].first = !matches!(rule, Rule::rbrace | Rule::comma);
        } else if parent == Rule::file {
            tokens[at].first = true;
        }
        inside |= rule == Rule::lbrace;
        if matches!(rule, Rule::lbrace | Rule::rbrace) {
            braces.push(at);
        }
    }
    if spread {
        for brace in braces {
            tokens[brace].spread = true;
        }
    }
}

/// A pair of brackets that is open.
struct Frame {
    /// Where lines inside it start.
    indent: usize,
    /// Where the line starts that opened it.
    outer: usize,
    /// Whether statements stand inside, so that other lines continue one.
    statements: bool,
}

#[derive(Default)]
struct Writer {
    out: String,
    frames: Vec<Frame>,
    /// Where the current line starts.
    line_indent: usize,
}

/// What stands between two tokens.
#[derive(Default)]
struct Gap<'a> {
    comments: Vec<Comment<'a>>,
    newline: bool,
    /// A blank line before the next token.
    blank: bool,
}

struct Comment<'a> {
    text: &'a str,
    own_line: bool,
    blank: bool,
}

impl Writer {
    fn write(&mut self, text: &str, tokens: &[Token]) {
        let mut previous: Option<&Token> = None;
        for token in tokens {
            let gap = gap(&text[previous.map_or(0, |previous| previous.end)..token.start], previous.is_none());
            self.between(previous, token, &gap);
            self.brackets(token);
            self.out.push_str(&text[token.start..token.end]);
            previous = Some(token);
        }
        let gap = gap(&text[previous.map_or(0, |previous| previous.end)..], previous.is_none());
        self.comments(&gap, 0, previous.is_none());
    }

    /// Writes what separates two tokens.
    fn between(&mut self, previous: Option<&Token>, token: &Token, gap: &Gap) {
        let closer = matches!(token.rule, Rule::rparen | Rule::rbracket | Rule::rbrace);
        let frame = self.frames.last();
        let (inner, outer) = frame.map_or((0, 0), |frame| (frame.indent, frame.outer));
        let statements = frame.is_none_or(|frame| frame.statements);
        let continued = if statements && !token.first && !closer { inner + INDENT } else { inner };
        let indent = if closer { outer } else { continued };
        let Some(previous) = previous else {
            self.comments(gap, continued, true);
            if gap.blank && !gap.comments.is_empty() {
                self.out.push('\n');
            }
            self.line_indent = 0;
            return;
        };
        let opened = matches!(previous.rule, Rule::lparen | Rule::lbracket | Rule::lbrace);
        self.comments(gap, continued, opened);
        let broken = match () {
            _ if !gap.comments.is_empty() => true,
            _ if token.rule == Rule::rbrace || previous.rule == Rule::lbrace => {
                (token.rule == Rule::rbrace && token.spread) || (previous.rule == Rule::lbrace && previous.spread)
            }
            _ if token.first => gap.newline,
            _ if matches!(token.rule, Rule::kw_else | Rule::kw_shortcut) && previous.rule == Rule::rbrace => false,
            _ => gap.newline && (opened || closer || spaced(previous, token)),
        };
        if broken {
            if token.first && gap.blank && (!opened || !gap.comments.is_empty()) && !self.out.ends_with("\n\n") {
                self.end_line();
                self.out.push('\n');
            }
            self.end_line();
            self.out.extend(std::iter::repeat_n(' ', indent));
            self.line_indent = indent;
        } else if token.first && !opened && previous.rule != Rule::comma {
            self.out.push_str("; ");
        } else if spaced(previous, token) {
            self.out.push(' ');
        }
    }

    fn end_line(&mut self) {
        if !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }

    fn comments(&mut self, gap: &Gap, indent: usize, at_start: bool) {
        for (nth, comment) in gap.comments.iter().enumerate() {
            if !comment.own_line && !self.out.is_empty() && !self.out.ends_with('\n') {
                self.out.push_str("  ");
            } else {
                if !self.out.is_empty() {
                    self.end_line();
                }
                if comment.blank && !(at_start && nth == 0) && !self.out.ends_with("\n\n") {
                    self.out.push('\n');
                }
                self.out.extend(std::iter::repeat_n(' ', indent));
            }
            self.out.push_str(comment.text);
            self.out.push('\n');
        }
    }

    fn brackets(&mut self, token: &Token) {
        match token.rule {
            Rule::lparen | Rule::lbracket | Rule::lbrace => {
                let outer = self.line_indent;
                self.frames.push(Frame { indent: outer + INDENT, outer, statements: token.rule == Rule::lbrace });
            }
            Rule::rparen | Rule::rbracket | Rule::rbrace => _ = self.frames.pop(),
            _ => {}
        }
    }
}

/// Takes apart what stands between two tokens: blanks, `;`, line ends and comments.
fn gap(text: &str, at_start: bool) -> Gap<'_> {
    let mut gap = Gap::default();
    // Line ends since the last token or comment.
    let mut newlines = usize::from(at_start);
    let mut rest = text;
    while let Some(next) = rest.find(['\n', '#']) {
        if rest[next..].starts_with('\n') {
            newlines += 1;
            gap.newline = true;
            rest = &rest[next + 1..];
            continue;
        }
        let end = rest[next..].find('\n').map_or(rest.len(), |length| next + length);
        let comment = Comment { text: rest[next..end].trim_end(), own_line: newlines > 0, blank: newlines > 1 };
        gap.comments.push(comment);
        newlines = 0;
        rest = &rest[end..];
    }
    gap.blank = newlines > 1;
    gap
}

/// Whether a blank stands between two tokens of one line.
fn spaced(previous: &Token, token: &Token) -> bool {
    let glue = [Rule::dot, Rule::dotdot, Rule::dotdot_eq];
    let before = matches!(previous.rule, Rule::lparen | Rule::lbracket | Rule::neg) || glue.contains(&previous.rule);
    let after = matches!(token.rule, Rule::rparen | Rule::rbracket | Rule::comma | Rule::colon);
    let call = match token.rule {
        Rule::lparen => matches!(token.parent, Rule::args | Rule::params | Rule::let_function | Rule::tap),
        Rule::lbracket => matches!(token.parent, Rule::index | Rule::indices | Rule::label_index),
        _ => false,
    };
    let kind = previous.rule == Rule::colon && previous.parent == Rule::select;
    let empty = previous.rule == Rule::lbrace && token.rule == Rule::rbrace;
    !(before || after || call || kind || empty || glue.contains(&token.rule))
}
