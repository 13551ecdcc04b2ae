//! Why a statement did not parse, in the user's terms.
//!
//! The statement is parsed again, alone; pest then tells how far it came and which tokens it would have taken there.
//! Mistakes that people make often are recognised first.

use pest::Parser;
use pest::error::{Error, ErrorVariant, InputLocation};

use super::parse::{Context, Grammar, Rule};
use super::statements::{self, STATEMENTS, Statement};
use crate::diag::{Code, Diagnostic, Problem, suggest};
use crate::ops;
use crate::source::Span;

const RESERVED: &[&str] = &[
    "in", "prev", "let", "for", "if", "then", "else", "and", "or", "not", "true", "false", "none", "seq", "residual",
    "shortcut",
];

/// The words that begin a line of a `base`.
const BASE_LINES: &[&str] = &["weights", "map", "ignore", "join", "resize", "labels", "input", "preprocess"];

/// What people write for the words that begin a statement.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("delete", "remove"),
    ("drop", "remove"),
    ("del", "remove"),
    ("swap", "replace"),
    ("exchange", "replace"),
    ("change", "set"),
    ("add", "insert"),
    ("put", "insert"),
    ("model", "base"),
    ("load", "base"),
    ("fine_tune", "train"),
];

/// The diagnostic for a statement, `text` as laid out, that stands at `span` of the source.
pub fn explain(source: &str, span: Span, text: &str, context: Context) -> Box<Diagnostic> {
    let rule = match context {
        Context::File => Rule::only_item,
        Context::Body => Rule::only_stmt,
        Context::Network => Rule::only_decl,
        Context::Base => Rule::only_base,
        Context::Train => Rule::only_train,
    };
    let text = text.trim_end();
    let (at, wanted) = Grammar::parse(rule, text).err().map(|error| furthest(&error)).unwrap_or_default();
    Stuck::new(source, span, text, Some(context), at, wanted).diagnose()
}

/// The diagnostic for an expression in a label, whose text ends where `span` ends.
pub fn explain_label(source: &str, span: Span, text: &str, error: &Error<Rule>) -> Box<Diagnostic> {
    let (at, wanted) = furthest(error);
    let start = Span { start: span.end - text.len() as u32, ..span };
    Stuck::new(source, start, text, None, at, wanted).diagnose()
}

/// Where pest stopped, and what it would have taken there.
fn furthest(error: &Error<Rule>) -> (usize, Vec<Rule>) {
    let (InputLocation::Pos(at) | InputLocation::Span((at, _))) = error.location;
    match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => (at, positives.clone()),
        ErrorVariant::CustomError { .. } => (at, vec![]),
    }
}

/// A text that did not parse, and where it stopped.
struct Stuck<'a> {
    /// As laid out: comments are blanks.
    text: &'a str,
    /// Where the text stands in the source.
    span: Span,
    /// What it stands in; None in a label.
    context: Option<Context>,
    /// How far it parsed, an offset into the text.
    at: usize,
    wanted: Vec<Rule>,
    /// The token there; empty at the end of the statement.
    found: &'a str,
    /// What comes behind the statement, for one that is not finished.
    behind: Option<char>,
}

impl<'a> Stuck<'a> {
    fn new(
        source: &str,
        span: Span,
        text: &'a str,
        context: Option<Context>,
        at: usize,
        wanted: Vec<Rule>,
    ) -> Stuck<'a> {
        let rest = text.get(at..).unwrap_or("");
        let at = at + rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let found = token(text.get(at..).unwrap_or(""));
        let behind = source.get(span.start as usize + text.len()..).unwrap_or("");
        let behind = behind.trim_start_matches([' ', '\t', '\r']).chars().next();
        // An unfinished statement is marked behind its last token.
        let at = if found.is_empty() { text[..at].trim_end().len() } else { at };
        Stuck { text, span, context, at, wanted, found, behind }
    }

    fn diagnose(&self) -> Box<Diagnostic> {
        let problem = self.by_first_word().or_else(|| self.by_token()).or_else(|| self.by_place());
        problem.unwrap_or_else(|| self.expectation())
    }

    fn wants(&self, rules: &[Rule]) -> bool {
        self.wanted.iter().any(|rule| rules.contains(rule))
    }

    /// The statement of a file that the text begins like.
    fn statement(&self) -> Option<&'static Statement> {
        let word = self.first_word();
        STATEMENTS.iter().filter(|_| self.context == Some(Context::File)).find(|statement| statement.word == word)
    }

    /// The words of the statement that must come here.
    fn needed(&self) -> Vec<&'static str> {
        let is_wanted =
            |word: &&str| self.wanted.iter().any(|rule| format!("{rule:?}").strip_prefix("kw_") == Some(word));
        self.statement().into_iter().flat_map(Statement::needed).filter(is_wanted).collect()
    }

    /// What was parsed, up to the token where it stopped.
    fn before(&self) -> &'a str {
        self.text[..self.at].trim_end()
    }

    fn first_word(&self) -> &'a str {
        token(self.text)
    }

    fn problem(message: impl Into<String>) -> Problem {
        Problem::new(Code::Syntax, message)
    }

    /// Places a problem at the token where parsing stopped.
    fn here(&self, problem: Problem) -> Box<Diagnostic> {
        let start = self.span.start as usize + self.at;
        problem.at(Span::new(self.span.file, start, start + self.found.len()))
    }

    /// Places a problem at the first word.
    fn at_start(&self, problem: Problem) -> Box<Diagnostic> {
        let start = self.span.start as usize;
        problem.at(Span::new(self.span.file, start, start + self.first_word().len().max(1)))
    }

    // ---- statements that are none

    fn by_first_word(&self) -> Option<Box<Diagnostic>> {
        let word = self.first_word();
        let second = token(self.text[word.len()..].trim_start());
        let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        match self.context? {
            _ if ["else", "shortcut"].contains(&word) => {
                let owner = if word == "else" { "if" } else { "residual" };
                Some(self.at_start(Self::problem(format!("this `{word}` belongs to no `{owner}`"))))
            }
            Context::File if statements::is_word(word) => None,
            Context::File => Some(self.at_start(self.no_item(word, second, is_word))),
            Context::Base if BASE_LINES.contains(&word) => None,
            Context::Base if is_word => {
                let problem = Self::problem(format!("`{word}` is no line of a `base`"));
                let hint = suggest(word, BASE_LINES.iter().copied())
                    .unwrap_or_else(|| format!("these are: `{}`", BASE_LINES.join("`, `")));
                let verb = statements::is_word(word).then(|| "edits stand below the base's braces".to_string());
                Some(self.at_start(problem.hint(verb.unwrap_or(hint))))
            }
            Context::Body | Context::Network if is_word && self.text[..self.at].trim_end() == word => {
                if RESERVED.contains(&word) {
                    return None;
                }
                let is_statement = statements::is_word(word) && !matches!(self.found, "" | ":" | "->" | "(");
                if is_statement && !["let", "residual", "input", "output"].contains(&word) {
                    let problem = Self::problem(format!("`{word}` is a statement of the file, not of a body"));
                    return Some(self.at_start(problem.hint("perhaps a `}` is missing above")));
                }
                let assigned = self.found == "=";
                let problem = Self::problem("a body has no assignments");
                let hints = [format!("a layer is named by `{word}: ..`"), format!("a value by `let {word} = ..`")];
                assigned.then(|| self.here(problem.hints(hints)))
            }
            _ => None,
        }
    }

    /// What begins like no statement of a file.
    fn no_item(&self, word: &str, second: &str, is_word: bool) -> Problem {
        if !is_word {
            return Self::problem(format!("expected a statement, found {}", quote(token(self.text))));
        }
        let problem = Self::problem(format!("`{word}` begins no statement"));
        match word {
            "def" | "class" | "fn" | "function" => {
                return problem.hint("a reusable piece is written `block name(out, stride = 1) { .. }`");
            }
            "import" | "from" | "include" => return problem.hint("another file is named by `use \"blocks.arch\"`"),
            "roles" => {
                let problem = Self::problem("`roles` stands in the braces of a network");
                return problem.hint("`network mine { input [N, 4]; fc: linear(2); roles { head = fc } }`");
            }
            "for" | "if" | "seq" | "in" | "prev" => {
                return Self::problem(format!("`{word}` stands inside braces only"));
            }
            _ => {}
        }
        let path = path_length(self.text);
        if token(self.text[path..].trim_start()) == "=" {
            let path = &self.text[..path];
            let problem = Self::problem("a file has no assignments");
            return match path == word {
                true => {
                    problem.hint(format!("a value is named by `let {word} = ..`, an argument by `param {word} = ..`"))
                }
                false => problem.hint(format!(
                    "a layer is exchanged by `replace {path} with ..`, its arguments by `set {path} = ..`"
                )),
            };
        }
        let meant =
            OTHER_WORDS.iter().find(|(other, _)| *other == word).map(|(_, verb)| format!("did you mean `{verb}`?"));
        if let Some(hint) = meant.or_else(|| suggest(word, statements::words())) {
            return problem.hint(hint);
        }
        match second {
            ":" | "->" | "(" | "" => problem
                .hint("layers stand in the braces of a `block` or `network`, or are put in by an edit: `append ..`"),
            _ => problem.hint("a file is made of `use`, `param`, `let`, `block`, `network`, `base`, edits and `train`"),
        }
    }

    // ---- tokens that are nowhere right, or wrong in a telling way

    fn by_token(&self) -> Option<Box<Diagnostic>> {
        let before = self.before();
        let problem = match self.found {
            "“" | "”" | "„" | "‘" | "’" | "«" | "»" => {
                Self::problem(format!("`{}` is a typographic quote", self.found))
                    .hint("texts stand in plain quotes: `\"..\"`")
            }
            "'" => Self::problem("texts stand in double quotes, found `'`"),
            "`" => Self::problem("texts stand in double quotes, found a backtick"),
            "&&" | "&" => Self::problem(format!("`{}` is written `and`", self.found)),
            "||" | "|" => Self::problem(format!("`{}` is written `or`", self.found)),
            "!" => Self::problem("`!` is written `not`"),
            "^" => Self::problem("`^` is written `**`"),
            "." if self.wants(&[Rule::step, Rule::chain, Rule::atom, Rule::expr]) && self.digit_behind() => {
                Self::problem("a number begins with a digit, found `.`").hint("write `0.5`")
            }
            _ if self.wants(&[Rule::digits]) && is_number(before.strip_suffix('.').unwrap_or("")) => {
                Self::problem("a number does not end with a point").hint("write `1.0`")
            }
            ":" if self.wants(&[Rule::dotdot]) => {
                Self::problem("expected `..`, found `:`").hint("a range is written `0..3`")
            }
            "then" if self.first_word() == "if" && self.wants(&[Rule::body, Rule::lbrace]) => {
                Self::problem("an `if` expression at the head of a statement stands in parentheses")
            }
            "->" if self.wants(&[Rule::link]) => Self::problem("expected a layer between `->` and `->`"),
            "" if before.ends_with("->") => Self::problem("expected a layer after `->`"),
            sign @ ("=" | ":")
                if matches!(self.context, Some(Context::Train | Context::Base)) && before == self.first_word() =>
            {
                let word = self.first_word();
                let value: String = self.text[self.at + 1..].trim().chars().take(40).collect();
                Self::problem(format!("`{word}` takes its value without `{sign}`"))
                    .hint(format!("write `{word} {value}`"))
            }
            "=" if !self.wants(&[Rule::eq]) && self.wants(&[Rule::binary]) => {
                Self::problem("`=` does not compare").hint("equality is written `==`")
            }
            ":" if self.wants(&[Rule::eq]) && self.wants(&[Rule::comma]) => {
                let name = last_word(before);
                Self::problem(format!("expected `=` after `{name}`, found `:`"))
                    .hint(format!("arguments are written `{name} = ..`"))
            }
            word if RESERVED.contains(&word) && self.wants(&[Rule::name, Rule::names, Rule::param, Rule::setting]) => {
                Self::problem(format!("`{word}` is a reserved word and cannot be a name"))
            }
            number if is_number_with_letters(number) => {
                Self::problem(format!("`{number}` is neither a number nor a name"))
            }
            odd if !odd.is_ascii() => {
                let shown = odd.chars().map(|c| match c.is_alphanumeric() {
                    true => c.to_string(),
                    false => format!("U+{:04X}", u32::from(c)),
                });
                Self::problem(format!("`{}` cannot stand here", shown.collect::<String>()))
                    .hint("names are made of `a-z A-Z 0-9 _`")
            }
            _ => return None,
        };
        Some(self.here(problem))
    }

    fn digit_behind(&self) -> bool {
        self.text[self.at + 1..].starts_with(|c: char| c.is_ascii_digit())
    }

    // ---- mistakes that show in what is wanted

    fn by_place(&self) -> Option<Box<Diagnostic>> {
        let before = self.before();
        let reserved = self.text[before.len()..self.at].is_empty();
        if self.wants(&[Rule::place_index]) && is_word(self.found) {
            let problem = Self::problem(format!("expected a number, found `{}`", self.found));
            return Some(self.here(problem.hint("the indices of a path are numbers: `[5]`, `[-1]`, `[0..3]`, `[*]`")));
        }
        if matches!(self.found, "." | "[") && !reserved && self.wants(&[Rule::kw_where, Rule::kw_with, Rule::kw_to]) {
            return Some(self.here(Self::problem("a path is written without blanks")));
        }
        if self.found == ".." && self.wants(&[Rule::dotdot_eq]) && self.wants(&[Rule::kw_where]) {
            return Some(
                self.here(
                    Self::problem("expected `..=`, found `..`").hint("`a..=b` is from `a` to `b`, both included"),
                ),
            );
        }
        if self.wants(&[Rule::arrow]) && !self.wants(&[Rule::binary]) && is_operator(self.found) {
            let problem = Self::problem(format!("`{}` stands at the head of a chain only", self.found));
            return Some(self.here(problem.hint("put the chain in parentheses: `(x -> relu) + y`")));
        }
        let path =
            &before[before.rfind(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c))).map_or(0, |at| at + 1)..];
        if self.found == "(" && path.contains('.') && self.wants(&[Rule::binary]) {
            let problem = Self::problem(format!("`{path}` cannot be called: the names of ops and blocks have no dots"));
            let (module, name) = path.rsplit_once('.').unwrap_or(("", path));
            let is_torch = ["nn", "torch.nn", "F", "nn.functional", "torch.nn.functional", "torch"].contains(&module);
            let ours = snake_case(name);
            let hint = match ops::find(&ours) {
                Some(_) if is_torch => {
                    format!("ops are called as PyTorch's modules are, in snake case: write `{ours}(..)`")
                }
                None if is_torch && ours == "sequential" => "layers one after another are `a -> b` or `seq { a; b }`".into(),
                None if is_torch => match suggest(&ours, ops::MANUAL.iter().map(|entry| entry.name)) {
                    Some(near) => format!("no op is called `{ours}`: {near}"),
                    None => format!("no op is called `{ours}`: `archc explain` lists the ops"),
                },
                _ => "write the op or block alone, such as `conv2d(64, kernel = 3)`; a path without parentheses is a value"
                    .into(),
            };
            return Some(self.here(problem.hint(hint)));
        }
        if self.found == "keeping" {
            let problem = Self::problem("`keeping` stands behind the new layer of a `replace`, or behind a `set`");
            return Some(self.here(problem.hint("`replace fc with same(out = 2) keeping rows [281, 207]`")));
        }
        if self.found == "preserving" || (self.found == "expect" && last_word(before) == "preserving") {
            let problem = Self::problem("`preserving` stands at the end of an edit");
            return Some(self.here(problem.hint("`replace **:relu with gelu expect 17 preserving`")));
        }
        if ["rows", "channels"].contains(&last_word(before)) && before.contains("keeping") && self.found != "[" {
            let problem = Self::problem(format!("expected `[`, found {}", self.what_was_found()));
            return Some(self.here(problem.hint("the numbers stand in brackets: `rows [0..10, 17, new]`")));
        }
        if self.wants(&[Rule::how]) {
            let problem = Self::problem(format!("expected what is kept, found {}", self.what_was_found()));
            let hint = "`weights`, `rows [..]`, `channels [..]`, `channels repeat`, `center`, `weight` or `bias`";
            return Some(self.here(problem.hint(hint)));
        }
        let missing = self.first_word() == "insert" && self.wants(&[Rule::side, Rule::kw_at]);
        if missing
            && ["before", "after", "at", "beside"].contains(&last_word(before))
            && before.split_whitespace().count() == 2
        {
            let problem = Self::problem(format!("expected a layer between `insert` and `{}`", last_word(before)));
            return Some(self.here(problem.hint("write `insert dropout(0.5) before fc`")));
        }
        None
    }

    /// What was expected, and what was found instead.
    fn expectation(&self) -> Box<Diagnostic> {
        let expected = self.expected();
        let found = self.what_was_found();
        let message = match expected.split_last() {
            None => format!("expected the end of the statement, found {found}"),
            Some((only, [])) => format!("expected {only}{}, found {found}", self.after()),
            Some((last, most)) => format!("expected {} or {last}{}, found {found}", most.join(", "), self.after()),
        };
        let mut problem = Self::problem(message);
        let words =
            expected.iter().flat_map(|words| words.split('`')).filter(|word| is_word(word) && !word.contains(' '));
        if is_word(self.found) {
            problem = problem.hints(suggest(self.found, words));
        }
        if self.wants(&[Rule::kw_with]) && ["by", "to", "as", "=", "->"].contains(&self.found) {
            problem = problem.hint("write `with`");
        }
        if self.context == Some(Context::Base) {
            // the words that go on with what could end here
            let words: Vec<String> = self.wanted.iter().map(|rule| format!("{rule:?}")).collect();
            let words = words.iter().filter_map(|word| word.strip_prefix("kw_"));
            problem = problem.hints(suggest(self.found, words).filter(|_| is_word(self.found)));
            if self.wants(&[Rule::kw_with]) && ["permute", "reshape", "rows"].contains(&self.found) {
                problem = problem.hint(format!("write `with {}`", self.found));
            }
        }
        if self.first_word() == "base" && self.before().split_whitespace().count() == 2 {
            if BASE_LINES.contains(&self.found) {
                problem = problem.hint(format!(
                    "the lines of a base stand in braces: `{} {{ {} .. }}`",
                    self.before(),
                    self.found
                ));
            } else if self.found == "-" {
                problem = problem.hint("names are made of `a-z A-Z 0-9 _`; `archc zoo` lists the networks");
            }
        }
        if expected.is_empty() && self.context == Some(Context::File) {
            problem = problem.hint("statements end with the line or with `;`");
        }
        if RESERVED.contains(&self.found) && self.wants(&[Rule::link, Rule::step, Rule::name]) {
            problem = problem.hint(format!("`{}` is a reserved word", self.found));
        }
        self.here(problem)
    }

    fn what_was_found(&self) -> String {
        match (self.found, self.behind) {
            ("", _) if self.context.is_none() => "`}`".to_string(),
            ("", Some(behind @ ('}' | ';'))) => format!("`{behind}`"),
            ("", None) => "the end of the file".to_string(),
            ("", _) => "the end of the line".to_string(),
            (token, _) => quote(token),
        }
    }

    /// The tokens that would have been right, in words; those that only continue what may end here are left out.
    fn expected(&self) -> Vec<String> {
        if self.wants(&[Rule::braces, Rule::seq_step]) {
            return vec!["a layer".into()];
        }
        if self.wants(&[Rule::kw_else]) && self.wants(&[Rule::binary]) {
            return vec!["`else`".into()];
        }
        if ["input", "labels"].contains(&self.first_word()) && self.wants(&[Rule::colon]) && self.found == "[" {
            return vec!["`:`".into()];
        }
        if self.before().ends_with(':') && self.wants(&[Rule::expr]) && self.wants(&[Rule::lbrace, Rule::body]) {
            return vec!["a layer".into()];
        }
        let needed = self.needed();
        let mut expected: Vec<String> = needed.iter().map(|word| format!("`{word}`")).collect();
        for (rules, word) in EXPECTED {
            if self.wants(rules) && !expected.iter().any(|other| other == word) {
                expected.push(word.to_string());
            }
        }
        // `f(a b)` lacks a comma rather than an `=`, and words that must follow are said alone.
        if self.wants(&[Rule::rparen]) && is_word(self.found) {
            expected.retain(|word| *word != "`=`");
        }
        if !needed.is_empty()
            || self.wants(&[Rule::kw_to, Rule::kw_in])
            || (self.wants(&[Rule::eq]) && !self.wants(&[Rule::rparen]))
        {
            expected.retain(|word| *word != "`,`");
        }
        if self.context == Some(Context::Train) && self.wants(&[Rule::expr, Rule::values]) {
            expected.retain(|word| *word != "a place in the network");
        }
        if expected == ["`,`"] && self.wants(&[Rule::end]) {
            expected.push("the end of the statement".into());
        }
        expected
    }

    /// Behind what it was expected, where the token alone does not tell.
    fn after(&self) -> String {
        let verb = self.first_word();
        let Some(statement) = self.statement() else { return String::new() };
        let first = ["place", "selector"].into_iter().find(|part| statement.rest.starts_with(part));
        if let (Some(first), false) = (first, self.needed().is_empty()) {
            return format!(" after the {first} of `{verb}`");
        }
        if self.wants(&[Rule::side, Rule::kw_at]) {
            return format!(" after the new layers of `{verb}`");
        }
        if self.before() == verb { format!(" after `{verb}`") } else { String::new() }
    }
}

/// What is said to be expected where the grammar wants one of these. Tokens that only continue what could end here are
/// not said.
const EXPECTED: &[(&[Rule], &str)] = &[
    (&[Rule::eq], "`=`"),
    (&[Rule::kw_add], "`add`"),
    (&[Rule::kw_concat], "`concat`"),
    (&[Rule::kw_to], "`to`"),
    (&[Rule::kw_by], "`by`"),
    (&[Rule::kw_order], "`order`"),
    (&[Rule::change], "`permute(..)`, `reshape(..)` or `rows ..`"),
    (&[Rule::kw_in], "`in`"),
    (&[Rule::kw_then], "`then`"),
    (&[Rule::kw_auto], "`auto`"),
    (&[Rule::side], "`before`, `after`, `at` or `beside`"),
    (&[Rule::kw_before], "`before`"),
    (&[Rule::kw_after], "`after`"),
    (&[Rule::step, Rule::link, Rule::chain, Rule::new], "a layer"),
    (&[Rule::expr, Rule::flat, Rule::atom, Rule::arg], "a value"),
    (&[Rule::place, Rule::path, Rule::glob, Rule::select, Rule::selects, Rule::selector], "a place in the network"),
    (&[Rule::place_index, Rule::bounds, Rule::signed], "an index"),
    (&[Rule::name, Rule::names, Rule::param, Rule::setting, Rule::digits], "a name"),
    (&[Rule::int], "a whole number"),
    (&[Rule::string], "a text in double quotes"),
    (&[Rule::comma], "`,`"),
    (&[Rule::rparen], "`)`"),
    (&[Rule::rbracket], "`]`"),
    (&[Rule::lbrace, Rule::body, Rule::braces, Rule::settings, Rule::netbody], "`{`"),
    (&[Rule::rbrace], "`}`"),
];

/// The first token of a text, roughly: a word, a number, a string, an operator, or one character.
fn token(text: &str) -> &str {
    let Some(first) = text.chars().next() else { return "" };
    if matches!(first, '\n' | ';') {
        return "";
    }
    let word = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    if word > 0 {
        return &text[..word];
    }
    if first == '"' {
        return text[1..].find('"').map_or("\"", |end| &text[..end + 2]);
    }
    let operators = ["..=", "->", "==", "!=", "<=", ">=", "**", "//", "..", "&&", "||"];
    operators
        .iter()
        .find(|operator| text.starts_with(**operator))
        .map_or(&text[..first.len_utf8()], |found| &text[..found.len()])
}

/// `BatchNorm2d` as `batch_norm2d`, `LeakyReLU` as `leaky_relu`.
fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at));
        let begins = letter.is_ascii_uppercase()
            && before.is_some_and(|before| before.is_ascii_lowercase() || before.is_ascii_digit())
            && letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if begins {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn quote(token: &str) -> String {
    match token.char_indices().nth(40) {
        Some((end, _)) => format!("`{}..`", &token[..end]),
        None => format!("`{token}`"),
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn is_number_with_letters(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_digit()) && token.contains(|c: char| !c.is_ascii_digit())
}

/// Whether a text ends with a number that is no part of a path.
fn is_number(text: &str) -> bool {
    let word = last_word(text);
    let before = text.strip_suffix(word).unwrap_or("");
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) && !before.ends_with(['.', ']'])
}

fn is_operator(token: &str) -> bool {
    ["+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "and", "or"].contains(&token)
}

fn last_word(text: &str) -> &str {
    let start = text.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
    text.get(start..).unwrap_or("")
}

/// How long the path is that a text begins with.
fn path_length(text: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"_.[]-*".contains(byte)).count()
}
