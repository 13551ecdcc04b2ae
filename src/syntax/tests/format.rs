//! What the formatter keeps and what it changes.

use super::super::{format, parse};
use crate::diag::render;
use crate::source::{FileId, Sources};

fn formatted(text: &str) -> String {
    format(FileId(0), text).unwrap_or_else(|problems| {
        let mut sources = Sources::new();
        sources.add("test.arch", text, None);
        panic!("{}", render(&problems, &sources, false))
    })
}

/// The tree as text, without places and without the version.
pub fn tree(text: &str) -> String {
    let (tree, problems) = parse(FileId(0), text);
    assert!(!problems.has_errors());
    let items: Vec<String> =
        tree.items.iter().map(|item| format!("{item:?}")).filter(|item| !item.starts_with("Version")).collect();
    let place = regex::Regex::new(r"Span \{[^}]*\}").unwrap();
    place.replace_all(&items.join("\n"), "_").into_owned()
}

/// Formatting keeps the tree, and formatting again changes nothing.
pub fn check(text: &str) -> String {
    let once = formatted(text);
    assert_eq!(tree(&once), tree(text), "{once}");
    assert_eq!(formatted(&once), once);
    once
}

#[test]
fn the_zoo_is_kept() {
    for entry in std::fs::read_dir("zoo").unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let once = check(&text);
        let comments = |text: &str| text.lines().filter(|line| line.contains('#')).count();
        assert_eq!(comments(&once), comments(&text), "{}", path.display());
        let unix = once.replace('\n', "\r\n");
        assert_eq!(check(&text.replace('\n', "\r\n")), unix);
        if std::env::var_os("ARCHC_PRINT").is_some() {
            println!("{once}");
        }
    }
}
