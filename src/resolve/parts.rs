//! archc's own texts in parts: a network needs few of the definitions beside it, so that one of a block or of a network is read
//! when it is asked for first.
//!
//! A part begins at the left edge with `block NAME` or `network NAME`, and ends before the next statement at the left edge. The
//! zoo is written so; a test reads every file both ways.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::Kind;
use crate::source::{FileId, Span};
use crate::syntax::{self, tree};

/// A text of archc's own.
#[derive(Debug)]
pub struct Parts {
    /// What stands between the parts: `use`, `let`.
    pub rest: Arc<tree::File>,
    pub parts: Vec<Part>,
}

/// A definition of a block or a network.
#[derive(Debug)]
pub struct Part {
    pub kind: Kind,
    pub name: String,
    /// Of the name.
    pub span: Span,
    text: String,
    start: usize,
    item: OnceLock<tree::Item>,
}

impl Parts {
    pub fn new(file: FileId, text: &str) -> Parts {
        let places = places(text);
        let mut rest = text.to_string();
        for (place, ..) in &places {
            // a line end for each, so that what stands around it stays apart
            let blank = " ".repeat(place.len() - 1) + "\n";
            rest.replace_range(place.clone(), &blank);
        }
        let rest = if rest.trim().is_empty() { tree::File::default() } else { read(file, &rest, 0) };
        let part = |(place, kind, name): (Range<usize>, Kind, Range<usize>)| Part {
            kind,
            name: text[name.clone()].to_string(),
            span: Span::new(file, name.start, name.end),
            start: place.start,
            text: text[place].to_string(),
            item: OnceLock::new(),
        };
        Parts { rest: Arc::new(rest), parts: places.into_iter().map(part).collect() }
    }
}

impl Part {
    /// The definition; read the first time.
    pub fn item(&self) -> &tree::Item {
        self.item.get_or_init(|| {
            let mut items = read(self.span.file, &self.text, self.start).items;
            let item = items.pop().filter(|_| items.is_empty());
            item.unwrap_or_else(|| panic!("the zoo's `{}` is one definition", self.name))
        })
    }
}

/// The tree of a piece of a text of archc's own that begins at `start`.
fn read(file: FileId, text: &str, start: usize) -> tree::File {
    let (tree, problems) = syntax::parse_at(file, text, start);
    assert!(problems.is_empty(), "the zoo can be read: {problems:?}");
    tree
}

/// Where the definitions stand, and their names.
fn places(text: &str) -> Vec<(Range<usize>, Kind, Range<usize>)> {
    let mut found: Vec<(Range<usize>, Kind, Range<usize>)> = vec![];
    let mut is_open = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let begins = !line.starts_with([' ', '\t', '\r', '\n', '}', ')', ']']);
        if begins {
            let words = [("block ", Kind::Block), ("network ", Kind::Network)];
            let word = words.into_iter().find(|(word, _)| line.starts_with(word));
            is_open = word.is_some();
            if let Some((word, kind)) = word {
                let name = at + word.len();
                let len = text[name..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(0);
                found.push((at..at, kind, name..name + len));
            }
        }
        at += line.len();
        if let (true, Some((place, ..))) = (is_open, found.last_mut()) {
            place.end = at;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;
    use crate::zoo;

    #[test]
    fn every_file_is_the_same_in_parts_and_whole() {
        for one in zoo::FILES {
            let mut sources = Sources::new();
            let file = sources.add_builtin(one.name.to_string(), one.text);
            let (whole, problems) = syntax::parse(file, one.text);
            assert!(problems.is_empty(), "{}: {problems:?}", one.name);
            let parts = Parts::new(file, one.text);
            let is_definition = |item: &&tree::Item| matches!(item, tree::Item::Block(_) | tree::Item::Network(_));
            let (definitions, rest): (Vec<&tree::Item>, Vec<&tree::Item>) = whole.items.iter().partition(is_definition);
            assert_eq!(
                format!("{rest:?}"),
                format!("{:?}", parts.rest.items.iter().collect::<Vec<_>>()),
                "{}",
                one.name
            );
            assert_eq!(definitions.len(), parts.parts.len(), "{}", one.name);
            for (item, part) in definitions.into_iter().zip(&parts.parts) {
                assert_eq!(format!("{item:?}"), format!("{:?}", part.item()), "{}: {}", one.name, part.name);
                let (kind, name) = match item {
                    tree::Item::Block(block) => (Kind::Block, &block.name),
                    tree::Item::Network(network) => (Kind::Network, &network.name),
                    _ => unreachable!("it was looked at"),
                };
                assert_eq!((kind, &name.value, name.span), (part.kind, &part.name, part.span));
            }
        }
    }
}
