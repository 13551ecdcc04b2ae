//! A statement as one line, for reports.

use super::layout::lay_out;
use crate::diag::Diagnostics;
use crate::source::FileId;

/// `text` without comments, its lines joined: with `;` where a line end separates, with a blank where it counts for
/// nothing.
pub fn joined(text: &str) -> String {
    // places in it are not asked for
    let laid = lay_out(FileId(0), text, &mut Diagnostics::new());
    let mut line = String::new();
    for piece in laid.lines().map(single_blanks).filter(|piece| !piece.is_empty()) {
        if !line.is_empty() {
            line += if goes_on(&line, &piece) { " " } else { "; " };
        }
        line += &piece;
    }
    line
}

/// Whether a line end between the two separates nothing.
fn goes_on(before: &str, after: &str) -> bool {
    let ends =
        ["{", "->", ",", "=", "+", "-", "*", "/", "%", ";", "<", ">", "and", "or", "not", "then", "else", "with"];
    let begins = ["}", "->", ";"];
    let word =
        |text: &str| after.strip_prefix(text).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()));
    ends.iter().any(|end| ends_with(before, end))
        || begins.iter().any(|begin| after.starts_with(begin))
        || word("else")
        || word("shortcut")
}

/// Whether a text ends with an operator or a word of its own.
fn ends_with(text: &str, end: &str) -> bool {
    let Some(before) = text.strip_suffix(end) else { return false };
    let is_word = end.starts_with(|c: char| c.is_ascii_alphabetic());
    !(is_word && before.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Runs of blanks outside of quotes as one.
fn single_blanks(line: &str) -> String {
    let (mut text, mut quoted, mut escaped) = (String::new(), false, false);
    for c in line.trim().chars() {
        if !quoted && c.is_whitespace() && text.ends_with([' ', '(', '[']) {
            continue;
        }
        if !quoted && matches!(c, ')' | ']') && text.ends_with(' ') {
            text.pop();
        }
        text.push(if quoted || !c.is_whitespace() { c } else { ' ' });
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn lines_are_joined_as_they_separate() {
        let cases = [
            ("freeze all", "freeze all"),
            (
                "replace fc with {\n    relu # one\n\n    # two\n    linear(10)\n}",
                "replace fc with { relu; linear(10) }",
            ),
            (
                "append {\n  in -> conv2d(\n    8,\n    kernel = 3\n  )\n    -> relu\n}",
                "append { in -> conv2d(8, kernel = 3) -> relu }",
            ),
            (
                "append {\n  a: relu;\n  if true {\n gelu\n }\n else {\n relu }\n}",
                "append { a: relu; if true { gelu } else { relu } }",
            ),
            (
                "append {\n  residual { relu }\n  shortcut {\n gelu }\n  shortcuts: relu\n}",
                "append { residual { relu } shortcut { gelu }; shortcuts: relu }",
            ),
            ("set fc {\n  out = 3,\n  bias =\n false }", "set fc { out = 3, bias = false }"),
            ("output  a  =  \"x  # y\"", "output a = \"x  # y\""),
        ];
        for (text, line) in cases {
            assert_eq!(joined(text), line);
        }
    }
}
