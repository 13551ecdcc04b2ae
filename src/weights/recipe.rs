//! How a tensor of a network is made of those of a file: read as it is, changed in shape, stacked, or resized. Shapes are
//! known before anything is read, and of the file nothing is read that is not asked for.

use std::fmt;
use std::ops::Range;

use super::resize::Resize;
use super::store::Store;
use crate::diag::{Code, Problem};

/// A tensor in the making: its shape, and where its values come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    shape: Vec<usize>,
    how: How,
}

#[derive(Clone, Debug, PartialEq)]
enum How {
    /// The file's tensor of this key.
    Stored(String),
    Changed(Change, Box<Recipe>),
    /// One behind the other along the first axis.
    Stacked(Vec<Recipe>),
    Resized(Resize, Box<Recipe>),
}

/// What `with` asks for behind a `map`.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `permute(3, 2, 0, 1)`: axis i of the result is this axis of the tensor.
    Permute(Vec<usize>),
    /// `reshape(768, 3, 16, 16)`: the same values in another shape, row-major; None, at most once, is what is left.
    Reshape(Vec<Option<usize>>),
    /// `rows 0..10`: a part of the first axis.
    Rows(Range<usize>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Permute(axes) => {
                write!(f, "permute({})", axes.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
            }
            Change::Reshape(shape) => {
                let size = |size: &Option<usize>| size.map_or("-1".into(), |size| size.to_string());
                write!(f, "reshape({})", shape.iter().map(size).collect::<Vec<_>>().join(", "))
            }
            Change::Rows(rows) => write!(f, "rows {}..{}", rows.start, rows.end),
        }
    }
}

impl Recipe {
    /// The file's tensor of this key, as it is.
    pub fn stored(key: &str, shape: &[usize]) -> Recipe {
        Recipe { shape: shape.into(), how: How::Stored(key.into()) }
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The keys of the file that it is made of.
    pub fn keys(&self) -> Vec<&str> {
        match &self.how {
            How::Stored(key) => vec![key],
            How::Changed(_, of) | How::Resized(_, of) => of.keys(),
            How::Stacked(parts) => parts.iter().flat_map(Recipe::keys).collect(),
        }
    }

    /// It, changed; `name` is what messages call it.
    ///
    /// # Errors
    /// If its shape does not go with the change.
    pub(super) fn changed(self, change: &Change, name: &str) -> Result<Recipe, Problem> {
        let shape = change.shape_of(&self.shape, name)?;
        Ok(Recipe { shape, how: How::Changed(change.clone(), Box::new(self)) })
    }

    /// These one behind the other along the first axis.
    ///
    /// # Errors
    /// The place of the first whose other axes differ from those of the one before.
    pub(super) fn stacked(parts: Vec<Recipe>) -> Result<Recipe, usize> {
        let rest = |part: &Recipe| part.shape.get(1..).map(<[usize]>::to_vec);
        if let Some(at) = (0..parts.len()).find(|at| {
            let shape = rest(&parts[*at]);
            shape.is_none() || shape != rest(&parts[at.saturating_sub(1)])
        }) {
            return Err(at);
        }
        let rows = parts.iter().map(|part| part.shape[0]).fold(0usize, usize::saturating_add);
        let shape = std::iter::once(rows).chain(parts[0].shape[1..].iter().copied()).collect();
        Ok(Recipe { shape, how: How::Stacked(parts) })
    }

    pub(super) fn resized(self, resize: Resize, shape: Vec<usize>) -> Recipe {
        Recipe { shape, how: How::Resized(resize, Box::new(self)) }
    }

    /// Whether the file has all that it is made of, in number formats that can be read.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, store: &Store) -> Result<(), Problem> {
        self.keys().into_iter().try_for_each(|key| store.check(key))
    }

    /// Its values, row-major.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, store: &Store) -> Result<Vec<f32>, Problem> {
        match &self.how {
            How::Stored(key) => store.read(key),
            How::Changed(Change::Rows(rows), of) => of.rows(store, rows.clone()),
            How::Changed(Change::Reshape(_), of) => of.read(store),
            How::Changed(Change::Permute(axes), of) => Ok(permuted(&of.read(store)?, of.shape(), axes)),
            How::Stacked(parts) => {
                let mut values = vec![];
                for part in parts {
                    values.extend(part.read(store)?);
                }
                Ok(values)
            }
            How::Resized(resize, of) => Ok(resize.apply(&of.read(store)?, of.shape())),
        }
    }

    /// Some rows of it.
    fn rows(&self, store: &Store, rows: Range<usize>) -> Result<Vec<f32>, Problem> {
        let row: usize = self.shape[1..].iter().product();
        let values = rows.start * row..rows.end * row;
        match &self.how {
            How::Stored(key) => store.read_part(key, values),
            _ => Ok(self.read(store)?[values].to_vec()),
        }
    }
}

impl Change {
    /// What becomes of a shape.
    fn shape_of(&self, shape: &[usize], name: &str) -> Result<Vec<usize>, Problem> {
        let wrong = |what: String| Problem::new(Code::WeightsMap, what);
        match self {
            Change::Permute(axes) => {
                let mut seen = vec![false; shape.len()];
                let is_good = axes.len() == shape.len()
                    && axes.iter().all(|axis| seen.get_mut(*axis).is_some_and(|seen| !std::mem::replace(seen, true)));
                if is_good {
                    return Ok(axes.iter().map(|axis| shape[*axis]).collect());
                }
                let message = format!("`{self}` cannot be made of `{name}`, which is {shape:?}");
                let axes: Vec<String> = (0..shape.len()).rev().map(|axis| axis.to_string()).collect();
                Err(wrong(message).hint(match shape.len() {
                    0 | 1 => "it has no axes to exchange: write a regex that does not match it".to_string(),
                    n => format!("name each of its {n} axes once, as in `permute({})`", axes.join(", ")),
                }))
            }
            Change::Reshape(to) => {
                // a file may claim any shape that has no values
                let has = shape.iter().fold(1usize, |all, size| all.saturating_mul(*size));
                let known = to.iter().flatten().try_fold(1usize, |all, size| all.checked_mul(*size));
                let left = known.filter(|known| *known > 0).map(|known| (has / known, has % known));
                let is_open = to.contains(&None);
                match left {
                    Some((left, 0)) if is_open || left == 1 => {
                        return Ok(to.iter().map(|size| size.unwrap_or(left)).collect());
                    }
                    _ => {}
                }
                let message = format!("`{self}` cannot be made of `{name}`, which is {shape:?}");
                let count = known.map_or("too many".into(), |known| known.to_string());
                let times = if is_open { "a multiple of " } else { "" };
                let note = format!("the new shape has {times}{count} values, the old one {has}");
                Err(wrong(message).note(note).hint("a reshape keeps every value"))
            }
            Change::Rows(rows) => match shape.split_first() {
                Some((first, rest)) if rows.start < rows.end && rows.end <= *first => {
                    Ok(std::iter::once(rows.len()).chain(rest.iter().copied()).collect())
                }
                Some((first, _)) => Err(wrong(format!("`{self}` is not within the {first} rows of `{name}`"))
                    .hint(format!("rows count from 0, and the last is not part of it: `rows 0..{first}` is all"))),
                None => Err(wrong(format!("`{name}` is a single value and has no rows"))
                    .hint("write a regex that does not match it")),
            },
        }
    }
}

/// The values with axis i of the result being axis `axes[i]` of `shape`.
fn permuted(values: &[f32], shape: &[usize], axes: &[usize]) -> Vec<f32> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    let dims: Vec<(usize, usize)> = axes.iter().map(|axis| (shape[*axis], strides[*axis])).collect();
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(values.len());
    while out.len() < values.len() {
        out.push(values[at]);
        // the next index, as an odometer counts
        for (digit, (dim, stride)) in index.iter_mut().zip(&dims).rev() {
            *digit += 1;
            at += stride;
            if *digit < *dim {
                break;
            }
            at -= *digit * stride;
            *digit = 0;
        }
    }
    out
}
