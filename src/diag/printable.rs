//! Text that a terminal shows and does not obey. Names of files, keys, classes and labels come from anywhere: an escape
//! sequence in one could retitle the window, hide a line or type an answer, and a bidirectional control shows letters in an
//! order that is not theirs. Such characters are spelt out: `\u{1b}`.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with everything that controls a terminal spelt out; lines and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |at, c| match c {
        '\n' | '\t' => false,
        // the end of a line, as Windows writes it
        '\r' => !text[at..].starts_with("\r\n"),
        _ => controls(c),
    })
}

/// [`printable`] for what is one line: a name cannot begin another.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_, c| controls(c))
}

/// JSON whose strings a terminal shows and does not obey; it means the same. Whatever controls a terminal and is not
/// escaped yet can only be part of a string, but for line ends and blanks.
pub fn printable_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !controls(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Whether a terminal, or the layout of text on it, does something at the character: C0, DEL and C1, bidirectional
/// controls (Unicode Standard Annex #9, section 2), separators of lines and paragraphs, and marks without a glyph.
fn controls(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn escaped(text: &str, is_bad: impl Fn(usize, char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.char_indices().find(|(at, c)| is_bad(*at, *c)).map(|(at, _)| at) else {
        return Cow::Borrowed(text);
    };
    let mut out = text[..first].to_string();
    for (at, c) in text[first..].char_indices() {
        if is_bad(first + at, c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_spelt_out_and_letters_stay() {
        for (text, want) in [
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("title \u{9b}31m", "title \\u{9b}31m"),
            ("\x07\x08\x7f\r", "\\u{7}\\u{8}\\u{7f}\\u{d}"),
            ("ab\u{202e}cd\u{2069}", "ab\\u{202e}cd\\u{2069}"),
            ("one\u{2028}two\u{feff}", "one\\u{2028}two\\u{feff}"),
            ("Käse, 猫, кот, \u{1f408}\u{200d}\u{2b1b}, قط", "Käse, 猫, кот, \u{1f408}\u{200d}\u{2b1b}, قط"),
        ] {
            assert_eq!(printable(text), want);
            assert_eq!(one_line(text), want);
        }
        assert_eq!(printable("a\tb\r\nc\n"), "a\tb\r\nc\n");
        assert_eq!(one_line("a\tb\nerror: x"), "a\\u{9}b\\u{a}error: x");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "a\u{9b}b\x1b": ["\u{7f}", "\u{202e}", "new\nline", "\u{1f408}"] });
        let text = printable_json(&format!("{value:#}\n"));
        assert!(text.contains("a\\u009bb\\u001b") && text.contains("\\u007f") && text.contains("\\u202e"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
