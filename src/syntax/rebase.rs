//! A spec on another base: its text with the base's name changed, or the weights that it names. What follows, messages and
//! what a run writes down among it, then is of the text that was meant.

use std::ops::Range;

use pest::Parser;

use super::layout::lay_out;
use super::parse::{Grammar, Pair, Rule, child, quoted};
use crate::diag::Diagnostics;
use crate::source::FileId;

/// A text after [`rebase`].
#[derive(Debug, PartialEq)]
pub struct Rebased {
    pub text: String,
    /// Lines about the weights of its own base were left out, and no others given.
    pub lacks_weights: bool,
}

/// The text of a spec whose base is the network `base`, with the file `weights`. Lines that are about the file of another base
/// (`weights`, `map` and the like) are left out; without another base, all but the file's name is for the other file too, `part`
/// among it. A text without a base stays as it is.
pub fn rebase(text: &str, base: Option<&str>, weights: Option<&str>) -> Rebased {
    // where it does not parse, the compiler says so
    let laid = lay_out(FileId(0), text, &mut Diagnostics::new());
    let file = Grammar::parse(Rule::file, &laid).ok().and_then(|mut pairs| pairs.next());
    let statement = file.into_iter().flat_map(Pair::into_inner).find(|pair| pair.as_rule() == Rule::base);
    let Some(statement) = statement else { return Rebased { text: text.to_string(), lacks_weights: false } };
    let mut changes: Vec<(Range<usize>, String)> = vec![];
    let name = child(&statement, Rule::name).map(|name| place(&name));
    changes.extend(name.clone().zip(base.map(str::to_string)));
    let args = child(&statement, Rule::args);
    // a repository's name is of the base `hf` alone, and is a line about weights, too
    let hosted = args.clone().filter(|_| base.is_some() && name.clone().is_some_and(|name| &text[name] == "hf"));
    let mut has_weights = hosted.is_some();
    changes.extend(hosted.map(|args| (place(&args), String::new())));
    let body = child(&statement, Rule::basebody);
    // another file of the same network is laid out as the one that it stands for
    let mut part = None;
    for line in body.clone().into_iter().flat_map(Pair::into_inner) {
        let goes = match line.as_rule() {
            Rule::weights => base.is_some() || weights.is_some(),
            Rule::input | Rule::preprocess | Rule::labels => false,
            Rule::lbrace | Rule::rbrace | Rule::end | Rule::bad => false,
            _ => base.is_some(),
        };
        has_weights |= goes;
        if line.as_rule() == Rule::weights && base.is_none() {
            part = part.or(child(&line, Rule::string).map(|part| text[place(&part)].to_string()));
        }
        if goes {
            let place = place(&line);
            let blank =
                text[place.clone()].chars().map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) });
            changes.push((place, blank.collect()));
        }
    }
    if let Some(file) = weights.and_then(quoted) {
        let part = part.map_or_else(String::new, |part| format!(" part {part}"));
        let line = format!("weights {file}{part}");
        let open = body.and_then(|body| child(&body, Rule::lbrace)).map(|open| place(&open).end);
        let end = args.map(|args| place(&args)).or(name).map_or(0, |place| place.end);
        changes.push(match open {
            Some(open) => (open..open, format!(" {line};")),
            None => (end..end, format!(" {{ {line} }}")),
        });
    }
    let mut changed = text.to_string();
    changes.sort_by_key(|(place, _)| place.start);
    changes.iter().rev().for_each(|(place, with)| changed.replace_range(place.clone(), with));
    Rebased { text: changed, lacks_weights: has_weights && weights.is_none() }
}

/// Where a pair stands, without the blanks that pest counts to its end.
fn place(pair: &Pair) -> Range<usize> {
    let start = pair.as_span().start();
    start..start + pair.as_str().trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_another_one() {
        let text = "# base one\nbase one(3) {\n    weights \"one.pth\"; labels \"a\"\n    map \"x\" to \"y\" # why\n}\nremove fc";
        let of = |base, weights| rebase(text, base, weights);
        let two =
            "# base one\nbase two(3) {\n                     ; labels \"a\"\n                   # why\n}\nremove fc";
        assert_eq!(of(Some("two"), None), Rebased { text: two.into(), lacks_weights: true });
        let file =
            text.replace("weights \"one.pth\"", &" ".repeat(17)).replace("(3) {", "(3) { weights \"a \\\"b\\\\\";");
        assert_eq!(of(None, Some("a \"b\\")), Rebased { text: file, lacks_weights: false });
        let parts = |base| rebase("base one { weights \"a\" part \"ema\"; map \"x\" to \"y\" }", base, Some("b")).text;
        assert_eq!(
            parts(None),
            format!("base one {{ weights \"b\" part \"ema\"; {}; map \"x\" to \"y\" }}", " ".repeat(22))
        );
        assert_eq!(parts(Some("two")), format!("base two {{ weights \"b\"; {}; {} }}", " ".repeat(22), " ".repeat(14)));
        let short = rebase("base one\nremove fc", Some("two"), Some("w.pth"));
        assert_eq!(short, Rebased { text: "base two { weights \"w.pth\" }\nremove fc".into(), lacks_weights: false });
        let args = rebase("base one(classes = 3)", None, Some("w")).text;
        assert_eq!(args, "base one(classes = 3) { weights \"w\" }");
        let hosted = rebase("base hf(\"a/b\") { labels \"a\" }", Some("two"), None);
        assert_eq!(hosted, Rebased { text: "base two { labels \"a\" }".into(), lacks_weights: true });
        for same in ["block a { relu }", "base {", ""] {
            assert_eq!(rebase(same, Some("two"), None), Rebased { text: same.into(), lacks_weights: false });
        }
    }
}
