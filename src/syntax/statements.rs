//! The statements of a file, read off the grammar: it is written so that this finds them.

use std::sync::LazyLock;

const GRAMMAR: &str = include_str!("../../grammar/arch.pest");

/// A statement as the grammar has it.
pub(super) struct Statement {
    /// The word that it begins with.
    pub word: &'static str,
    /// The rule behind that word.
    pub rest: &'static str,
}

impl Statement {
    /// The words that no statement of its kind lacks: `with`, `to`. Those in parentheses may be others, or none.
    pub fn needed(&self) -> impl Iterator<Item = &'static str> {
        let mut depth = 0;
        self.rest.split(' ').filter_map(move |token| {
            let is_outside = depth == 0;
            depth += token.matches('(').count() as i32 - token.matches(')').count() as i32;
            token.strip_prefix("kw_").filter(|_| is_outside)
        })
    }
}

/// The alternatives of `item` and of `edit`, in order.
pub(super) static STATEMENTS: LazyLock<Vec<Statement>> = LazyLock::new(|| {
    let items = alternatives("item").filter(|name| *name != "edit");
    let begun = |name: &str| {
        let rest = rule(name).split_once("kw_").expect("a statement begins with a word").1;
        let (word, rest) = rest.split_once(" ~ ").expect("something follows the word");
        Statement { word, rest }
    };
    items.chain(alternatives("edit")).map(begun).collect()
});

/// The words that begin a statement of a file.
pub(crate) fn words() -> impl Iterator<Item = &'static str> + Clone {
    STATEMENTS.iter().map(|statement| statement.word)
}

pub(super) fn is_word(word: &str) -> bool {
    words().any(|other| other == word)
}

fn rule(name: &str) -> &'static str {
    let of = |line: &'static str| line.strip_prefix(name)?.trim_start().strip_prefix('=');
    GRAMMAR.lines().find_map(of).expect("the grammar has the rule in a line")
}

fn alternatives(name: &str) -> impl Iterator<Item = &'static str> {
    rule(name).trim_matches([' ', '_', '{', '}']).split('|').map(str::trim)
}
