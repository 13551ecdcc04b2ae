//! The text as the grammar wants it, byte for byte as long as it was written.
//!
//! Comments, carriage returns and the newlines inside `( )` and `[ ]` become blanks. Every bracket and quote that is left
//! has its partner, and brackets are nested at most [`MAX_NESTING`] deep, so the grammar may recurse. A bracket or quote
//! without a partner is reported here and becomes [`POISON`], which no rule accepts: the statement that holds it is left
//! out without a second message.

use super::statements;
use crate::diag::{Code, Diagnostic, Diagnostics, Problem};
use crate::source::{FileId, Span};

/// Stands where a mistake was reported already.
pub const POISON: char = '\u{1}';
/// How deep brackets may be nested.
pub const MAX_NESTING: usize = 128;
/// How many words, numbers, signs and texts one text may hold, and all texts of a spec together.
pub const MAX_TOKENS: usize = 1_000_000;
/// How many bytes a line may have: each message about it shows it.
const MAX_LINE: usize = 100_000;
/// How long a word may be.
const MAX_WORD: usize = 1_000;
/// How often an unclosed brace is cut out before the rest of the file is given up.
const MAX_CUTS: usize = 16;
/// How many brackets and quotes are reported; a text with more is no program.
const MAX_REPORTS: usize = 20;

/// Lays `text` out; the result has the same length.
pub fn lay_out(file: FileId, text: &str, problems: &mut Diagnostics) -> String {
    let mut bytes = without_comments(file, text, problems);
    if let Some(problem) = too_long(file, &bytes) {
        problems.push(problem);
        let end = bytes.len();
        blank(&mut bytes, 0, end);
    }
    // Ends: once the cuts go to the end of the file, the next cut starts at the outermost open brace.
    for cut in 0usize.. {
        match Scan::new(file, &bytes).run() {
            Ok(brackets) => {
                brackets.report(file, problems);
                brackets.apply(&mut bytes);
                break;
            }
            Err((from, problem)) => {
                problems.push(problem);
                let to = if cut >= MAX_CUTS { bytes.len() } else { next_item(&bytes, from) };
                blank(&mut bytes, from, to);
                bytes[from] = POISON as u8;
            }
        }
    }
    // Whole characters were replaced by as many ASCII bytes, so this is UTF-8 still.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Whether brackets are nested too deep, for a text that is not a file.
pub fn too_deep(text: &str) -> bool {
    let mut depth = 0usize;
    text.bytes().any(|byte| {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_NESTING
    })
}

/// How many tokens a text holds, about: comments are counted as if they were none.
pub fn token_count(text: &str) -> usize {
    tokens(text.as_bytes()).count()
}

/// The words, numbers, signs, texts and ends of lines that are not blank, each by its place and length.
fn tokens(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let (mut at, mut is_blank) = (0, true);
    std::iter::from_fn(move || {
        while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r')) || (is_blank && bytes.get(at) == Some(&b'\n')) {
            at += 1;
        }
        is_blank = bytes.get(at) == Some(&b'\n');
        let start = at;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
        at = match bytes.get(at)? {
            b'"' => string_end(bytes, at).unwrap_or_else(|| line_end(bytes, at)),
            byte if is_word(byte) => at + bytes[at..].iter().take_while(|byte| is_word(byte)).count(),
            _ => at + 1,
        };
        Some((start, at - start))
    })
}

/// What is too long for a program: the parser takes a kilobyte or two a token.
fn too_long(file: FileId, bytes: &[u8]) -> Option<Box<Diagnostic>> {
    let long = |line: &&[u8]| line.len() > MAX_LINE;
    if let Some(line) = bytes.split(|byte| *byte == b'\n').find(long) {
        let at = line.as_ptr() as usize - bytes.as_ptr() as usize;
        let problem = Problem::new(Code::Limit, format!("this line has more than {MAX_LINE} bytes"));
        return Some(
            problem.hint("a statement goes on behind a line that ends in `->`, `,` or `{`").at(Span::new(file, at, at)),
        );
    }
    let mut count = 0;
    for (at, length) in tokens(bytes) {
        count += 1;
        let message = if count > MAX_TOKENS {
            format!("this text has more than {MAX_TOKENS} words and signs")
        } else if length > MAX_WORD && bytes[at] != b'"' {
            format!("this word has more than {MAX_WORD} letters")
        } else {
            continue;
        };
        let problem = Problem::new(Code::Limit, message);
        let problem = if count > MAX_TOKENS { problem.hint("repeat by loops and blocks") } else { problem };
        let first = bytes[at + 1..].iter().take_while(|byte| (0x80..0xc0).contains(*byte)).count();
        return Some(problem.at(Span::new(file, at, at + 1 + first)));
    }
    None
}

fn blank(bytes: &mut [u8], from: usize, to: usize) {
    for byte in &mut bytes[from..to] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Blanks comments, carriage returns and a byte order mark; reports strings that do not end on their line.
fn without_comments(file: FileId, text: &str, problems: &mut Diagnostics) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let mut reported = 0;
    let mut at = 0;
    if text.starts_with('\u{feff}') {
        blank(&mut bytes, 0, 3);
        at = 3;
    }
    while at < bytes.len() {
        match bytes[at] {
            b'#' => {
                let end = line_end(&bytes, at);
                blank(&mut bytes, at, end);
                at = end;
            }
            b'"' => match string_end(&bytes, at) {
                Some(end) => at = end,
                None => {
                    let end = line_end(&bytes, at);
                    if reported < MAX_REPORTS {
                        problems.push(unclosed_string(&bytes, at, end).at(Span::new(file, at, end.max(at + 1))));
                    }
                    reported += 1;
                    // Brackets that close what was open before the quote are most likely meant as such.
                    let mut closers = end;
                    while closers > at && matches!(bytes[closers - 1], b')' | b']' | b'}' | b' ' | b'\t' | b'\r') {
                        closers -= 1;
                    }
                    blank(&mut bytes, at, closers.max(at + 1));
                    bytes[at] = POISON as u8;
                    at = closers.max(at + 1);
                }
            },
            b'\r' | b'\x0c' => {
                bytes[at] = b' ';
                at += 1;
            }
            // A character of the text that means something to the grammar.
            1 => {
                if reported < MAX_REPORTS {
                    problems.push(Problem::new(Code::Syntax, "a control character").at(Span::new(file, at, at + 1)));
                }
                reported += 1;
                at += 1;
            }
            _ => at += 1,
        }
    }
    bytes
}

fn unclosed_string(bytes: &[u8], at: usize, end: usize) -> Problem {
    let problem = Problem::new(Code::Syntax, "this text has no closing `\"` on its line");
    if bytes[at..end].windows(2).any(|pair| pair == b"\\\"") {
        return problem.hint("`\\\"` is a quote inside the text; a backslash at the end is written `\\\\`");
    }
    problem
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

/// Behind the quote that closes the string at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\n' => return None,
            b'\\' if matches!(bytes.get(at + 1), Some(b'"' | b'\\')) => at += 2,
            _ => at += 1,
        }
    }
}

/// The next line that begins, in its first column, with a word that begins an item.
fn next_item(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        at = line_end(bytes, at) + 1;
        let Some(rest) = bytes.get(at..) else { return bytes.len() };
        let word = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        if statements::words().any(|verb| verb.as_bytes() == &rest[..word]) {
            return at;
        }
    }
}

/// One walk over the brackets of a text.
struct Scan<'a> {
    file: FileId,
    bytes: &'a [u8],
    open: Vec<Open>,
    found: Brackets,
    /// A `{` that is closed by a `}` further left than the line of the `{`: the one that lacks its partner.
    suspect: Option<usize>,
}

/// The brackets of a text.
#[derive(Default)]
struct Brackets {
    /// Those without a partner, and what to say about them.
    poisoned: Vec<(usize, Option<Problem>)>,
    /// Places of `( )` and `[ ]` that belong together.
    pairs: Vec<(usize, usize)>,
}

#[derive(Clone, Copy)]
struct Open {
    bracket: u8,
    at: usize,
    /// The first byte of its line that is no blank, counted from the start of the line.
    indent: usize,
}

impl<'a> Scan<'a> {
    fn new(file: FileId, bytes: &'a [u8]) -> Scan<'a> {
        Scan { file, bytes, open: vec![], found: Brackets::default(), suspect: None }
    }

    /// Finds the partners; fails where the structure of the file cannot be known, with the bracket to cut at.
    fn run(mut self) -> Result<Brackets, (usize, Box<Diagnostic>)> {
        let mut at = 0;
        let (mut line, mut indent) = (0, None);
        while at < self.bytes.len() {
            let byte = self.bytes[at];
            if byte == b'\n' {
                (line, indent) = (at + 1, None);
            } else if indent.is_none() && byte != b' ' && byte != b'\t' {
                indent = Some(at - line);
            }
            match byte {
                b'"' => {
                    at = string_end(self.bytes, at).unwrap_or(self.bytes.len());
                    continue;
                }
                b'(' | b'[' | b'{' => {
                    if self.open.len() == MAX_NESTING {
                        let message = format!("brackets are nested more than {MAX_NESTING} deep");
                        let problem = Problem::new(Code::Limit, message).at(Span::new(self.file, at, at + 1));
                        return Err((self.open[0].at, problem));
                    }
                    self.open.push(Open { bracket: byte, at, indent: indent.unwrap_or(0) });
                }
                b')' | b']' => self.close_round(byte, at),
                b'}' => self.close_brace(at, indent.is_some_and(|indent| line + indent == at), at - line),
                _ => {}
            }
            at += 1;
        }
        if let Some(brace) = self.open.iter().find(|open| open.bracket == b'{') {
            let (from, suspect) = (brace.at, self.suspect.filter(|at| *at > brace.at));
            let mut problem = unclosed(b'{');
            if let Some(suspect) = suspect {
                let place = Span::new(self.file, suspect, suspect + 1);
                problem = problem.see(place, "perhaps this one, as far as the indentation tells");
            }
            return Err((from, problem.at(Span::new(self.file, from, from + 1))));
        }
        let left = std::mem::take(&mut self.open);
        self.forget(&left);
        Ok(self.found)
    }

    fn close_round(&mut self, byte: u8, at: usize) {
        let wanted = if byte == b')' { b'(' } else { b'[' };
        match self.open.last() {
            Some(open) if open.bracket == wanted => {
                self.found.pairs.push((open.at, at));
                self.open.pop();
            }
            Some(open) if open.bracket != b'{' => {
                let braces = self.open.iter().rposition(|open| open.bracket == b'{').map_or(0, |at| at + 1);
                match self.open[braces..].iter().rposition(|open| open.bracket == wanted) {
                    Some(partner) => {
                        let inner = self.open.split_off(braces + partner + 1);
                        self.forget(&inner);
                        self.close_round(byte, at);
                    }
                    None => {
                        let open = *open;
                        let message = format!("expected `{}`, found `{}`", closing(open.bracket) as char, byte as char);
                        let place = Span::new(self.file, open.at, open.at + 1);
                        let problem = Problem::new(Code::Syntax, message);
                        self.found.poisoned.push((at, Some(problem.see(place, "to close this"))));
                        self.found.poisoned.push((open.at, None));
                        self.open.pop();
                    }
                }
            }
            _ => self.stray(byte, at),
        }
    }

    fn close_brace(&mut self, at: usize, first_of_line: bool, column: usize) {
        let Some(partner) = self.open.iter().rposition(|open| open.bracket == b'{') else {
            return self.stray(b'}', at);
        };
        let inner = self.open.split_off(partner + 1);
        self.forget(&inner);
        if let Some(open) = self.open.pop()
            && first_of_line
            && column < open.indent
            && self.suspect.is_none()
        {
            self.suspect = Some(open.at);
        }
    }

    fn stray(&mut self, byte: u8, at: usize) {
        let message = format!("`{}` closes nothing", byte as char);
        self.found.poisoned.push((at, Some(Problem::new(Code::Syntax, message))));
    }

    /// Brackets that are never closed: one message a line.
    fn forget(&mut self, open: &[Open]) {
        for (nth, bracket) in open.iter().enumerate() {
            let same_line = nth > 0 && !self.bytes[open[nth - 1].at..bracket.at].contains(&b'\n');
            self.found.poisoned.push((bracket.at, (!same_line).then(|| unclosed(bracket.bracket))));
        }
    }
}

impl Brackets {
    fn report(&self, file: FileId, problems: &mut Diagnostics) {
        let mut reports: Vec<(usize, &Problem)> =
            self.poisoned.iter().filter_map(|(at, problem)| Some((*at, problem.as_ref()?))).collect();
        reports.sort_by_key(|(at, _)| *at);
        for (at, problem) in reports.into_iter().take(MAX_REPORTS) {
            problems.push(problem.clone().at(Span::new(file, at, at + 1)));
        }
    }

    fn apply(self, bytes: &mut [u8]) {
        for (at, _) in &self.poisoned {
            bytes[*at] = POISON as u8;
        }
        // Newlines count again in braces that stand in parentheses.
        let mut inside: Vec<bool> = vec![];
        let mut closers: Vec<usize> = self.pairs.iter().map(|(_, close)| *close).collect();
        let mut openers: Vec<usize> = self.pairs.iter().map(|(open, _)| *open).collect();
        openers.sort_unstable();
        closers.sort_unstable();
        let (mut openers, mut closers) = (openers.into_iter().peekable(), closers.into_iter().peekable());
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'"' => {
                    at = string_end(bytes, at).unwrap_or(bytes.len());
                    continue;
                }
                b'\n' if inside.last() == Some(&true) => bytes[at] = b' ',
                b'{' => inside.push(false),
                b'}' => _ = inside.pop(),
                _ if openers.next_if_eq(&at).is_some() => inside.push(true),
                _ if closers.next_if_eq(&at).is_some() => _ = inside.pop(),
                _ => {}
            }
            at += 1;
        }
    }
}

fn closing(bracket: u8) -> u8 {
    match bracket {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}

fn unclosed(bracket: u8) -> Problem {
    Problem::new(Code::Syntax, format!("this `{}` is never closed", bracket as char))
}
