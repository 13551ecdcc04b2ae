//! Columns and figures as reports print them.

use std::borrow::Cow;

use crate::diag::one_line;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table as text: a line of heads, a line a row, two blanks between columns.
pub fn table(heads: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut lines: Vec<Vec<Cow<str>>> = vec![heads.iter().map(|(head, _)| Cow::from(*head)).collect()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut set = String::new();
        for ((cell, width), (_, align)) in line.iter().zip(&widths).zip(heads) {
            match align {
                Align::Left => set += &format!("{cell:<width$}  "),
                Align::Right => set += &format!("{cell:>width$}  "),
            }
        }
        text += set.trim_end();
        text.push('\n');
    }
    text
}

/// A table that fits a terminal's `width`: columns that are too many are left out from the right, after the cells of the `elastic`
/// column were cut where that is enough. The first column stays as it is.
pub fn fitted(heads: &[(&str, Align)], rows: &[Vec<String>], width: Option<usize>, elastic: Option<usize>) -> String {
    let length = |text: &str| text.chars().count();
    for columns in (1..=heads.len()).rev() {
        let mut rows: Vec<Vec<String>> = rows.iter().map(|row| row[..columns].to_vec()).collect();
        let text = table(&heads[..columns], &rows);
        let widest = text.lines().map(length).max().unwrap_or(0);
        let Some(width) = width.filter(|width| widest > *width && columns > 1) else { return text };
        let Some(elastic) = elastic.filter(|elastic| *elastic < columns) else { continue };
        let of_column = rows.iter().map(|row| length(&one_line(&row[elastic]))).max().unwrap_or(0);
        let room = (of_column + width).saturating_sub(widest);
        if room >= CUT {
            for row in &mut rows {
                row[elastic] = cut(&row[elastic], room);
            }
            return table(&heads[..columns], &rows);
        }
    }
    String::new()
}

/// Cells are not cut to less.
const CUT: usize = 14;

/// A text that is too long with two dots at its end.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let kept: String = text.chars().take(width.saturating_sub(2)).collect();
    format!("{kept}..")
}

/// `25,557,032`
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `+131,200`, `-2,028,510`, `0`
pub fn change(number: i64) -> String {
    match number {
        0 => "0".into(),
        _ => format!("{}{}", sign(number), thousands(number.unsigned_abs())),
    }
}

/// `4.089 G`, as multiply-adds are published; what is much less in M.
pub fn giga(number: u64) -> String {
    match number {
        100_000_000.. => format!("{:.3} G", number as f64 / 1e9),
        100_000.. => format!("{:.3} M", number as f64 / 1e6),
        _ => thousands(number),
    }
}

/// `632.046 M`, as the sizes of networks are published.
pub fn millions(number: u64) -> String {
    format!("{:.3} M", number as f64 / 1e6)
}

/// [`giga`] with its sign.
pub fn giga_change(number: i64) -> String {
    if number == 0 { "0".into() } else { format!("{}{}", sign(number), giga(number.unsigned_abs())) }
}

/// `+1.606 MB`
pub fn bytes_change(bytes: i64) -> String {
    if bytes == 0 { "0".into() } else { format!("{}{}", sign(bytes), bytes_of(bytes.unsigned_abs())) }
}

/// `1.606 MB`
pub fn bytes_of(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.3} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.3} MB", bytes as f64 / 1e6),
        1_000.. => format!("{:.3} kB", bytes as f64 / 1e3),
        _ => format!("{bytes} B"),
    }
}

/// `1 layer`, `2 layers`
pub fn count(number: usize, of: &str) -> String {
    format!("{} {of}{}", thousands(number as u64), if number == 1 { "" } else { "s" })
}

fn sign(number: i64) -> &'static str {
    if number < 0 { "-" } else { "+" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (25_557_032, "25,557,032")] {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(
            (change(-2_028_510), change(131_200), change(0)),
            ("-2,028,510".into(), "+131,200".into(), "0".into())
        );
        assert_eq!((giga(4_089_184_256), giga(300_774_272)), ("4.089 G".into(), "0.301 G".into()));
        assert_eq!((giga_change(-2_028_544), giga(640)), ("-2.029 M".into(), "640".into()));
        assert_eq!((bytes_change(-3960), bytes_of(12)), ("-3.960 kB".into(), "12 B".into()));
        assert_eq!((count(1, "layer"), count(2, "layer")), ("1 layer".into(), "2 layers".into()));
    }

    #[test]
    fn a_table_is_cut_and_then_loses_columns() {
        let heads = [("path", Align::Left), ("op", Align::Left), ("shape", Align::Left)];
        let rows = vec![vec!["conv1".into(), "conv2d(out = 64, kernel = 7)".into(), "[N, 64, 112, 112]".to_string()]];
        let fitted = |width: Option<usize>, elastic: Option<usize>| fitted(&heads, &rows, width, elastic);
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max();
        assert_eq!(fitted(None, Some(1)), table(&heads, &rows));
        let cut = fitted(Some(46), Some(1));
        assert!(cut.contains("conv1  conv2d(out = 64, k..  [N, 64, 112, 112]") && widest(&cut) == Some(46), "{cut}");
        // less than that would say nothing: the last column goes
        let fewer = fitted(Some(35), Some(1));
        assert!(fewer.contains("kernel = 7)") && !fewer.contains("[N") && widest(&fewer) == Some(35), "{fewer}");
        assert_eq!(fitted(Some(1), None), "path\nconv1\n");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["conv1".to_string(), "9,408".to_string()], vec!["fc".to_string(), "10".to_string()]];
        let text = table(&[("path", Align::Left), ("parameters", Align::Right)], &rows);
        assert_eq!(text, "path   parameters\nconv1       9,408\nfc             10\n");
    }
}
