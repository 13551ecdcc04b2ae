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
    let place = regex_lite::Regex::new(r"Span \{[^}]*\}").unwrap();
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
    for (name, text) in super::zoo() {
        let once = check(&text);
        let comments = |text: &str| text.lines().filter(|line| line.contains('#')).count();
        assert_eq!(comments(&once), comments(&text), "{}", name);
        let unix = once.replace('\n', "\r\n");
        assert_eq!(check(&text.replace('\n', "\r\n")), unix);
    }
}

#[test]
fn spacing_is_canonical() {
    let cases = [
        ("archc 1\n\n\n\nbase  resnet50{weights \"a\"}\n\n", "archc 1\n\nbase resnet50 { weights \"a\" }\n"),
        ("archc 1 ; use \"a\"", "archc 1; use \"a\"\n"),
        (
            "archc 1\nbase n{weights\"a\"part\"b\";map?\"a\"to\"b\"with permute( 1,0 ) ,rows 0 .. 3;ignore?\"c\"}",
            "archc 1\nbase n { weights \"a\" part \"b\"; map? \"a\" to \"b\" with permute(1, 0), rows 0..3; ignore? \"c\" }\n",
        ),
        (
            "archc 1\nbase n{join\"a\"to\"b\"order[q,k];resize\"c\"by bicubic from( 14,14 )}",
            "archc 1\nbase n { join \"a\" to \"b\" order [q, k]; resize \"c\" by bicubic from (14, 14) }\n",
        ),
        ("archc 1\nblock b{}", "archc 1\nblock b {}\n"),
        ("archc 1\nblock b( x,y=2 ){a;b;\n\nc;}", "archc 1\nblock b(x, y = 2) {\n    a; b\n\n    c\n}\n"),
        ("archc 1\nblock b {\n\n  a\n\n}", "archc 1\nblock b {\n    a\n}\n"),
        ("archc 1\nblock b { x :relu->y:f ( 1,2 ) }", "archc 1\nblock b { x: relu -> y: f(1, 2) }\n"),
        ("archc 1\nlet x=-  a** - b*( c+d ) [ 0 ] . e", "archc 1\nlet x = -a ** -b * (c + d)[0].e\n"),
        ("archc 1\nlet x = a [ 0 .. b ]\n", "archc 1\nlet x = a[0..b]\n"),
        ("archc 1\nlet x = not( a )", "archc 1\nlet x = not (a)\n"),
        ("archc 1\nfreeze  a[ 0,2 ].b : conv2d  ,c ..= d", "archc 1\nfreeze a[0, 2].b:conv2d, c..=d\n"),
        ("archc 1\nset a{x=1\ny=2}", "archc 1\nset a {\n    x = 1\n    y = 2\n}\n"),
        ("archc 1\nset a { x=1,\ny=2 }", "archc 1\nset a {\n    x = 1,\n    y = 2\n}\n"),
        ("archc 1\nset a { x=1,y=2, }", "archc 1\nset a { x = 1, y = 2, }\n"),
        ("archc 1\nblock b {\nif a { b }\n\nelse { c }\n}", "archc 1\nblock b {\n    if a { b } else { c }\n}\n"),
        ("archc 1\nblock b {\na\n  ->b\n->c\n}", "archc 1\nblock b {\n    a\n        -> b\n        -> c\n}\n"),
        ("archc 1\nblock b {\nf(\na,\nb\n)\n}", "archc 1\nblock b {\n    f(\n        a,\n        b\n    )\n}\n"),
        ("archc 1\nlet x = [(1,\n2),\n(3,4),\n]\n", "archc 1\nlet x = [(1,\n    2),\n    (3, 4),\n]\n"),
        (
            "archc 1\nreplace a  with b keeping{x=y rows[0..3,new] ;z = w bias,center}expect 1   preserving\n",
            "archc 1\nreplace a with b keeping { x = y rows [0..3, new]; z = w bias, center } expect 1 preserving\n",
        ),
        (
            "archc 1\nreplace a with b keeping {\nx = y # why\n z=w\n}",
            "archc 1\nreplace a with b keeping {\n    x = y  # why\n    z = w\n}\n",
        ),
        ("archc 1\nset a.k=5 keeping  channels[0,mean]\n", "archc 1\nset a.k = 5 keeping channels [0, mean]\n"),
        ("archc 1\nblock b { input: a }", "archc 1\nblock b { input: a }\n"),
        ("archc 1\nnetwork n { input x:[N,3] }", "archc 1\nnetwork n { input x: [N, 3] }\n"),
        ("base r", "archc 1\n\nbase r\n"),
        ("", "archc 1\n"),
        ("# a\n\n\n# b\nbase r # c\n#d\n", "archc 1\n\n# a\n\n# b\nbase r  # c\n#d\n"),
        (
            "archc 1\nblock b { # a\n  # b\n\n  x # c\n\n  # d\n\n\n  y; # e\n  # f\n\n}",
            "archc 1\nblock b {  # a\n    # b\n\n    x  # c\n\n    # d\n\n    y  # e\n    # f\n}\n",
        ),
        (
            "archc 1\nlet x = f( # a\n 1, # b\n # c\n 2 # d\n)",
            "archc 1\nlet x = f(  # a\n    1,  # b\n    # c\n    2  # d\n)\n",
        ),
        ("archc 1\nblock b {\nx # a\n# b\n-> y\n}", "archc 1\nblock b {\n    x  # a\n        # b\n        -> y\n}\n"),
        ("archc 1\r\nbase r # c\r\n", "archc 1\r\nbase r  # c\r\n"),
        ("\u{feff}archc 1\n", "archc 1\n"),
        ("archc 1\nlet s = \"a  b#\\\"\"", "archc 1\nlet s = \"a  b#\\\"\"\n"),
    ];
    for (text, wanted) in cases {
        assert_eq!(check(text), wanted, "{text}");
    }
}

#[test]
fn a_file_with_errors_is_left_alone() {
    assert!(format(FileId(0), "remove\n").is_err());
    assert!(format(FileId(0), "let x = True\n").is_err());
}
