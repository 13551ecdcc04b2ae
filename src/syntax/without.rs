//! A text without some of its statements.

use std::ops::Range;

/// The text without these statements: their lines where they have lines of their own, comments behind them included.
pub fn without(text: &str, statements: &[Range<usize>]) -> String {
    let mut places: Vec<Range<usize>> = statements.iter().map(|statement| place(text, statement)).collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.start));
    let mut left = text.to_string();
    places.into_iter().for_each(|place| left.replace_range(place, ""));
    left
}

/// What goes with a statement.
fn place(text: &str, statement: &Range<usize>) -> Range<usize> {
    let end = statement.start + text[statement.clone()].trim_end().len();
    let line = text[..statement.start].rfind('\n').map_or(0, |at| at + 1);
    let rest = &text[end..];
    let of_line = rest.find('\n').map_or(rest.len(), |at| at + 1);
    let behind = rest[..of_line].trim();
    let alone = text[line..statement.start].trim().is_empty();
    match behind.strip_prefix(';') {
        // another statement stands behind it
        Some(next) if !next.trim().is_empty() => {
            let skipped = rest.find(';').map_or(0, |at| at + 1);
            let blanks = rest[skipped..].len() - rest[skipped..].trim_start_matches(' ').len();
            statement.start..end + skipped + blanks
        }
        _ if alone => line..end + of_line,
        // one stands before it
        _ => {
            let before = text[line..statement.start].trim_end().trim_end_matches(';').trim_end();
            line + before.len()..end + behind.find(';').map_or(0, |at| rest.find(';').map_or(at, |at| at + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_go_with_their_lines() {
        let text = "base a\n  insert b  # why\ncut c; freeze d; remove e # end\nset f";
        let cut = |statements: &[&str]| {
            let places = statements.iter().map(|one| text.find(one).map(|at| at..at + one.len()).expect("in the text"));
            without(text, &places.collect::<Vec<_>>())
        };
        assert_eq!(cut(&["insert b"]), "base a\ncut c; freeze d; remove e # end\nset f");
        assert_eq!(cut(&["freeze d"]), "base a\n  insert b  # why\ncut c; remove e # end\nset f");
        assert_eq!(cut(&["remove e"]), "base a\n  insert b  # why\ncut c; freeze d # end\nset f");
        assert_eq!(cut(&["cut c", "insert b", "set f"]), "base a\nfreeze d; remove e # end\n");
    }
}
