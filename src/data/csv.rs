//! A table of samples: a row a sample, the picture's file first, then its label or its numbers. Fields may be quoted as in
//! RFC 4180. A first row whose first field is `path`, `file`, `image` or `filename` is a heading. Files are found from the
//! table's folder.

use std::path::{Path, PathBuf};

use super::split::split;
use super::{Data, Dataset, Label, Sample};
use crate::diag::{Code, Problem, count, list};
use crate::io::open;

/// What the columns after the file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// One label: a class each distinct one, whole numbers in order of size, else in sorted order.
    Label,
    /// Numbers, the same count in each row.
    Numbers,
}

/// `csv("table.csv")`. `val` is another table for validation; without it a share of `part` is kept, chosen by `seed`.
///
/// # Errors
/// A table that cannot be read, a row without a label, with an unknown one, or with a field that is no number.
pub fn csv(path: &Path, val: Option<&Path>, columns: Columns, part: f64, seed: u64) -> Result<Data, Problem> {
    let rows = rows(path, columns)?;
    let mut data = Data::default();
    if columns == Columns::Label {
        data.classes = classes(&rows);
    }
    data.train = dataset(path, &rows, columns, &data.classes)?;
    if let Some(val) = val {
        data.val = dataset(val, &self::rows(val, columns)?, columns, &data.classes)?;
        check_width(val, &data.val, &data.train)?;
    } else if part > 0.0 {
        data.val = split(&mut data.train, part, seed);
        let (kept, all) = (data.val.len(), data.val.len() + data.train.len());
        data.remarks.push(format!("{kept} of {all} pictures are kept for validation (seed {seed})"));
    }
    Ok(data)
}

/// A table of pictures that are to be classified.
pub struct EvalTable<'a> {
    pub path: &'a Path,
    /// What is kept of it for validation as [`csv`] does it: the other table, the share, the seed. None for all of it.
    pub kept: Option<(Option<&'a Path>, f64, u64)>,
}

impl EvalTable<'_> {
    /// The pictures under the class indices of `classes`, or, where those are not known, of the table's own labels; these are
    /// returned too.
    ///
    /// # Errors
    /// Those of [`csv`], labels that `classes` has not, a table of which nothing is kept.
    pub fn read(&self, classes: Option<&[String]>) -> Result<(Dataset, Vec<String>), Problem> {
        let (val, part, seed) = self.kept.unwrap_or((None, 0.0, 0));
        let data = csv(self.path, val, Columns::Label, part, seed)?;
        let mut dataset = if self.kept.is_some() { data.val } else { data.train };
        if dataset.is_empty() {
            let message = format!("nothing of the table `{}` is kept for validation", self.path.display());
            return Err(Problem::new(Code::Input, message).hint("`--data TABLE.csv` takes all of a table"));
        }
        let Some(classes) = classes else { return Ok((dataset, data.classes)) };
        let places: Vec<Option<usize>> =
            data.classes.iter().map(|name| classes.iter().position(|class| class == name)).collect();
        let unknown = data.classes.iter().zip(&places).filter(|(_, place)| place.is_none());
        let unknown: Vec<&str> = unknown.map(|(name, _)| name.as_str()).take(SHOWN).collect();
        if !unknown.is_empty() {
            let message = format!("`{}` has {}, which the network does not know", self.path.display(), list(&unknown));
            let known: Vec<&str> = classes.iter().take(SHOWN).map(String::as_str).collect();
            return Err(Problem::new(Code::Input, message).note(format!("it knows {}", list(&known))));
        }
        for sample in &mut dataset.samples {
            if let Label::Class(class) = &mut sample.label {
                *class = places[*class].expect("every name has a place");
            }
        }
        Ok((dataset, classes.to_vec()))
    }
}

/// So many labels are named.
const SHOWN: usize = 20;

/// A row each of ten million pictures.
const MAX_BYTES: u64 = 1 << 30;
/// The longest path, label or number, in bytes: that of a path on Linux.
const MAX_FIELD: usize = 4096;
/// The most numbers that a sample has.
const MAX_FIELDS: usize = 1 << 16;

struct Row {
    line: usize,
    fields: Vec<String>,
}

fn rows(path: &Path, columns: Columns) -> Result<Vec<Row>, Problem> {
    let bytes = open::read(path, MAX_BYTES).map_err(|error| {
        let problem = error.problem(Code::Input, path).hint("paths in a spec start from the spec's own folder");
        Problem { message: format!("the table {}", problem.message), ..problem }
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::new(Code::Input, format!("the table `{}` is not UTF-8", path.display())))?;
    let mut rows = parse(text.strip_prefix('\u{feff}').unwrap_or(&text), path)?;
    let headings = ["path", "file", "image", "filename"];
    if rows.first().is_some_and(|row| headings.contains(&row.fields[0].to_ascii_lowercase().as_str())) {
        rows.remove(0);
    }
    if rows.is_empty() {
        return Err(Problem::new(Code::Input, format!("the table `{}` has no rows", path.display()))
            .hint("a row a sample: `cats/1.png,cat`"));
    }
    for row in &rows {
        if columns == Columns::Label && row.fields.len() != 2 {
            let fields = count(row.fields.len(), "field");
            let message = format!("line {} of `{}` has {fields}", row.line, path.display());
            return Err(Problem::new(Code::Input, message)
                .hint("a row holds the picture's file and its label: `cats/1.png,cat`"));
        }
        if let Some(empty) = row.fields.iter().position(String::is_empty) {
            let message = format!("field {} of line {} of `{}` is empty", empty + 1, row.line, path.display());
            return Err(Problem::new(Code::Input, message)
                .hint("fill it in, or leave the row out: a row holds the picture's file, then its label or numbers"));
        }
        if row.fields.len() < 2 {
            let message = format!("line {} of `{}` has one field", row.line, path.display());
            return Err(
                Problem::new(Code::Input, message).hint("a row holds the picture's file, then its label or numbers")
            );
        }
    }
    Ok(rows)
}

/// The rows of a table of comma-separated fields.
fn parse(text: &str, path: &Path) -> Result<Vec<Row>, Problem> {
    let mut rows = vec![];
    let (mut line, mut start) = (1, 1);
    let (mut fields, mut field): (Vec<String>, String) = (vec![], String::new());
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    let mut end_row = |fields: &mut Vec<String>, field: &mut String, line: usize| {
        fields.push(std::mem::take(field).trim().to_string());
        let fields = std::mem::take(fields);
        if fields.len() > 1 || !fields[0].is_empty() {
            rows.push(Row { line, fields });
        }
    };
    let unclosed = |line: usize| {
        let message = format!("a quoted field that begins on line {line} of `{}` does not end", path.display());
        Problem::new(Code::Input, message).hint("a quote in a quoted field is written twice")
    };
    while let Some(letter) = letters.next() {
        line += usize::from(letter == '\n');
        if field.len() > MAX_FIELD || fields.len() > MAX_FIELDS {
            if quoted {
                return Err(unclosed(start));
            }
            let what = match fields.len() > MAX_FIELDS {
                true => format!("more than {MAX_FIELDS} fields"),
                false => format!("a field of more than {MAX_FIELD} bytes"),
            };
            return Err(Problem::new(Code::Input, format!("line {start} of `{}` has {what}", path.display()))
                .hint("a row holds the picture's file, then its label or numbers: `cats/1.png,cat`"));
        }
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.trim().is_empty() => {
                field.clear();
                quoted = true;
            }
            ',' if !quoted => fields.push(std::mem::take(&mut field).trim().to_string()),
            '\n' if !quoted => {
                end_row(&mut fields, &mut field, start);
                start = line;
            }
            letter => field.push(letter),
        }
    }
    if quoted {
        return Err(unclosed(start));
    }
    end_row(&mut fields, &mut field, start);
    Ok(rows)
}

fn classes(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<String> = rows.iter().map(|row| row.fields[1].clone()).collect();
    names.sort();
    names.dedup();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or(0));
    }
    names
}

fn dataset(path: &Path, rows: &[Row], columns: Columns, classes: &[String]) -> Result<Dataset, Problem> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let width = rows.first().map_or(0, |row| row.fields.len());
    let mut samples = vec![];
    for row in rows {
        let label = match columns {
            Columns::Label => {
                let class = classes.iter().position(|name| *name == row.fields[1]);
                Label::Class(class.ok_or_else(|| {
                    let message = format!(
                        "line {} of `{}` has the label `{}`, which no training sample has",
                        row.line,
                        path.display(),
                        row.fields[1]
                    );
                    let known: Vec<&str> = classes.iter().take(SHOWN).map(String::as_str).collect();
                    Problem::new(Code::Input, message).note(format!("labels to learn: {}", list(&known)))
                })?)
            }
            Columns::Numbers => Label::Numbers(numbers(path, row, width)?),
        };
        let file = PathBuf::from(&row.fields[0]);
        samples.push(Sample { path: if file.is_absolute() { file } else { folder.join(file) }, label });
    }
    Ok(Dataset { samples, root: folder.to_path_buf() })
}

fn numbers(path: &Path, row: &Row, width: usize) -> Result<Vec<f32>, Problem> {
    if row.fields.len() != width {
        let message = format!(
            "line {} of `{}` has {}, the first row has {}",
            row.line,
            path.display(),
            count(row.fields.len() - 1, "number"),
            width - 1
        );
        return Err(Problem::new(Code::Input, message).hint("every row holds the same count of numbers"));
    }
    let number = |field: &String| {
        field.parse::<f32>().ok().filter(|number| number.is_finite()).ok_or_else(|| {
            let message = format!("line {} of `{}` has `{field}`, which is no number", row.line, path.display());
            Problem::new(Code::Input, message).hint("a loss over numbers needs numbers after the picture's file")
        })
    };
    row.fields[1..].iter().map(number).collect()
}

fn check_width(path: &Path, val: &Dataset, train: &Dataset) -> Result<(), Problem> {
    let width = |dataset: &Dataset| match dataset.samples.first().map(|sample| &sample.label) {
        Some(Label::Numbers(numbers)) => Some(numbers.len()),
        _ => None,
    };
    match (width(val), width(train)) {
        (Some(val), Some(train)) if val != train => {
            let message = format!("`{}` has {val} numbers a row, the training table has {train}", path.display());
            Err(Problem::new(Code::Input, message))
        }
        _ => Ok(()),
    }
}
