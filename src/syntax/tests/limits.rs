//! No text is too deep, too long or too odd: the parser answers, and soon.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{format, parse};
use super::{format::check, messages, zoo};
use crate::diag::{Diagnostics, render};
use crate::source::{FileId, Sources};

/// Parses and renders, which also looks at every span.
fn survives(text: &str) -> Diagnostics {
    let mut sources = Sources::new();
    let file = sources.add("test.arch", text, None);
    let (_, problems) = parse(file, text);
    render(&problems, &sources, false);
    for diagnostic in problems.iter() {
        let span = diagnostic.span.expect("a mistake in a text has a place");
        assert!(text.get(span.start as usize..span.end as usize).is_some(), "{diagnostic:?}");
    }
    problems
}

#[test]
fn nesting_and_length_are_bounded() {
    let n = 40_000;
    let nested = |open: &str, middle: &str, close: &str, n: usize| open.repeat(n) + middle + &close.repeat(n);
    let cases = [
        "(".repeat(100_000),
        "[".repeat(n),
        "{".repeat(n),
        ")".repeat(n),
        "}".repeat(n),
        "\"".repeat(n),
        "([{".repeat(n / 3),
        "(\n".repeat(n / 2),
        format!("block b {{ let x = {} }}", nested("(", "1", ")", n)),
        format!("block b {{ let x = {} }}", nested("[", "1", "]", n)),
        format!("block b {}", nested("{", "relu", "}", n)),
        format!("block b {{ {} }}", nested("if a { ", "relu", " }", n / 10)),
        format!("block b {{ let x = {}1 }}", "-".repeat(n)),
        format!("block b {{ let x = {}a }}", "not ".repeat(n / 4)),
        format!("block b {{ let x = {}1 }}", "1 + ".repeat(n / 4)),
        format!("block b {{ let x = {}1 }}", "2 ** ".repeat(n / 5)),
        format!("block b {{ let x = a{} }}", ".b".repeat(n / 2)),
        format!("block b {{ let x = a{} }}", "[0]".repeat(n / 3)),
        format!("block b {{ let x = {}1 }}", "if a then 1 else ".repeat(n / 17)),
        format!("block b {{ let x = {}", "if ".repeat(n / 3)),
        format!("block b {{ if a {{ }} {} }}", "else if a { } ".repeat(n / 14)),
        format!("block b {{ {}relu }}", "x -> ".repeat(n / 5)),
        format!("block b {{ {} }}", "x: ".repeat(n / 3)),
        format!("block b {{ \"{}\": relu }}", nested("{", "1", "}", n / 2)),
        format!("block b {{ \"{{{}}}\": relu }}", nested("(", "1", ")", n / 2)),
        format!("remove {}a", "a.".repeat(n / 2)),
        format!("remove {}a", "a, ".repeat(n / 3)),
        "remove\n".repeat(n / 7),
        "block b {\n".repeat(n / 10),
        "block b { relu\n}}\n".repeat(n / 20),
        "block b { f(a, (b, [c }\n".repeat(n / 24),
        "if (x -> { ".repeat(n / 11),
        "\u{1}".repeat(n),
        "é".repeat(n / 2),
        "1".repeat(n),
        format!("block b {{ {} }}", "a(b(c(".repeat(20)),
        format!("block b {{ {} }}", nested("f(a, ", "1", ", b)", 60)),
        format!("block b {{ {} ! }}", nested("if (x -> { ", "relu relu", " }) { }", 60)),
        format!("block b {{ {} }}", nested("x: (y -> ", "1 1", ") + 2", 100)),
        format!("block b {{ {} }}", nested("residual if (a) { ", "1 1", " }", 60)),
    ];
    for text in cases {
        let start = Instant::now();
        survives(&text);
        let shown: String = text.chars().take(30).collect();
        assert!(start.elapsed() < Duration::from_secs(2), "{shown}: {:?}", start.elapsed());
    }
}

#[test]
fn what_is_allowed_may_be_nested_as_deep_as_that() {
    let deep = format!("block b {{ {}1{} }}", "(".repeat(127), ")".repeat(127));
    assert!(messages(&deep).is_empty());
    let deeper = format!("block b {{ {}1{} }}", "(".repeat(128), ")".repeat(128));
    assert_eq!(messages(&deeper), ["1:138 brackets are nested more than 128 deep"]);
    let many = format!("block b {{ let x = {}1 }}", "1 + ".repeat(200));
    assert!(messages(&many).is_empty());
    check(&deep);
}

#[test]
fn many_mistakes_are_cut_short() {
    let problems = survives(&"remove\n".repeat(1000));
    assert_eq!((problems.errors(), problems.iter().count()), (1000, 100));
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Everything the grammar knows, and some of what it does not.
const WORDS: &[&str] = &[
    "archc 1",
    "use",
    "param",
    "let",
    "block",
    "network",
    "base",
    "train",
    "replace",
    "insert",
    "remove",
    "residual",
    "around",
    "connect",
    "cut",
    "append",
    "prepend",
    "set",
    "output",
    "rename",
    "tie",
    "freeze",
    "init",
    "with",
    "as",
    "to",
    "by",
    "before",
    "after",
    "at",
    "beside",
    "except",
    "expect",
    "where",
    "all",
    "for",
    "if",
    "then",
    "else",
    "in",
    "prev",
    "and",
    "or",
    "not",
    "true",
    "none",
    "seq",
    "shortcut",
    "input",
    "labels",
    "weights",
    "map",
    "preprocess",
    "relu",
    "layer3",
    "x",
    "conv2d(8, kernel = 3)",
    "0",
    "5",
    "0.1",
    "1e9",
    "\"a{i}b\"",
    "\"t\"",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "->",
    ":",
    ",",
    ";",
    "=",
    "==",
    "..",
    "..=",
    ".",
    "*",
    "**",
    "-",
    "+",
    "/",
    "#c",
    "\"",
    "\\",
    "\n",
    "\n",
    "\r\n",
    "    ",
    "é",
    "\u{1}",
    "'",
];

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_text_parses(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        survives(&text);
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_words_parse(words in prop::collection::vec(prop::sample::select(WORDS), 0..200), tight in any::<bool>()) {
        let text = words.join(if tight { "" } else { " " });
        if !survives(&text).has_errors() {
            check(&text);
        }
    }

    #[test]
    fn few_words_format(words in prop::collection::vec(prop::sample::select(WORDS), 1..9)) {
        for text in [words.join(" "), format!("block b {{ {} }}", words.join(" ")), format!("append {}", words.join(" "))] {
            if !survives(&text).has_errors() {
                check(&text);
            }
        }
    }

    #[test]
    fn a_damaged_zoo_parses(file in 0usize..1000, cuts in prop::collection::vec((any::<u32>(), 0usize..40, prop::sample::select(WORDS)), 1..6)) {
        let zoo = zoo();
        let mut text = zoo[file % zoo.len()].1.clone();
        for (at, length, word) in cuts {
            let start = (0..=at as usize % (text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (start + length..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            text.replace_range(start..end, word);
        }
        if survives(&text).has_errors() {
            prop_assert!(format(FileId(0), &text).is_err());
        } else {
            check(&text);
        }
    }
}
