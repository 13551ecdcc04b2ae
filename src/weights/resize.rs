//! Tables of positions for another size than a network was trained at, as timm resizes them.
//!
//! A table of absolute positions [1, P + h w, D] is resampled as an image of D channels behind its P tokens that are no
//! places (timm's `resample_abs_pos_embed`: antialiased). A table of relative positions [(2 w - 1)^2, heads] is an image of
//! offsets: `bilinear` spreads the old offsets over the new window in a geometric progression and is linear between them
//! (`resize_rel_pos_bias_table`, as for Swin and BEiT), `bicubic` resamples it antialiased (`resize_rel_pos_bias_table_levit`).

use archc_base::Resample;

use super::pattern::Pattern;
use crate::diag::{Code, Problem};

/// A `resize` line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub pattern: Pattern,
    pub by: Resample,
    /// Height and width of the file's table, where its places are no square.
    pub from: Option<(usize, usize)>,
}

/// One table from its size to another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resize {
    by: Resample,
    table: Table,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Table {
    /// [1, tokens + h w, D]
    Positions { tokens: usize, from: (usize, usize), to: (usize, usize) },
    /// [side^2, heads], the side of a window w being 2 w - 1.
    Offsets { from: usize, to: usize },
}

impl Line {
    /// What it takes to make a table of shape `to` of the file's; None where the file's is of that size. `grids` are the sizes
    /// of the maps that the network makes.
    ///
    /// # Errors
    /// If these are no tables, or none of sizes that can be known.
    pub fn plan(
        &self,
        name: &str,
        from: &[usize],
        to: &[usize],
        grids: &[(usize, usize)],
    ) -> Result<Option<Resize>, Problem> {
        let wrong = |what: String| Problem::new(Code::WeightsMap, what);
        let table = match (from, to) {
            (&[1, rows, width], &[1, wanted, other]) if width == other => self.positions(name, rows, wanted, grids)?,
            (&[rows, heads], &[wanted, other])
                if heads == other
                    && let (Some(from), Some(to)) = (side(rows), side(wanted)) =>
            {
                if self.from.is_some() {
                    return Err(wrong(format!("`{name}` is a table of offsets, whose windows are square"))
                        .hint("leave `from` out"));
                }
                Table::Offsets { from, to }
            }
            _ => {
                let needs = if from == to { String::new() } else { format!(", the network needs {to:?}") };
                return Err(wrong(format!("`{name}` is no table of positions: it is {from:?}{needs}"))
                    .hint("a table is [1, P + h * w, D] on both sides, or [(2 * w - 1) ** 2, heads]")
                    .hint("write a regex that matches tables alone, such as `.*\\.relative_position_bias_table`"));
            }
        };
        Ok((!table.is_same()).then_some(Resize { by: self.by, table }))
    }

    fn positions(&self, name: &str, rows: usize, wanted: usize, grids: &[(usize, usize)]) -> Result<Table, Problem> {
        let wrong = |what: String| Problem::new(Code::WeightsMap, what);
        let square = rows.isqrt();
        let from = self.from.unwrap_or((square, square));
        let of_places = from.0.checked_mul(from.1).filter(|places| *places > 0);
        let Some(tokens) = of_places.and_then(|places| rows.checked_sub(places)) else {
            return Err(wrong(format!("`{name}` has {rows} rows, which are no {} x {} places", from.0, from.1))
                .hint("name the height and the width of the file's table: `from (14, 14)`"));
        };
        let places = wanted.saturating_sub(tokens);
        let side = places.isqrt();
        let found = grids.iter().copied().find(|(height, width)| height * width == places);
        let to = found.or((side > 0 && side * side == places).then_some((side, side)));
        let Some(to) = to else {
            let what = format!(
                "`{name}` of the file is {tokens} tokens and {} x {} places, which does not tell how {wanted} rows are laid out",
                from.0, from.1
            );
            return Err(
                wrong(what).hint("where its places are no square, name their height and width: `from (14, 20)`")
            );
        };
        Ok(Table::Positions { tokens, from, to })
    }
}

impl Table {
    fn is_same(&self) -> bool {
        match self {
            Table::Positions { from, to, .. } => from == to,
            Table::Offsets { from, to } => from == to,
        }
    }
}

impl Resize {
    /// The resized table; `shape` is the old one's.
    pub fn apply(&self, values: &[f32], shape: &[usize]) -> Vec<f32> {
        let width = shape.last().copied().unwrap_or(1);
        match self.table {
            Table::Positions { tokens, from, to } => {
                let (head, places) = values.split_at(tokens * width);
                [head, &resampled(places, width, from, to, self.by)].concat()
            }
            Table::Offsets { from, to } if self.by == Resample::Bilinear => spread(values, width, from, to),
            Table::Offsets { from, to } => resampled(values, width, (from, from), (to, to), self.by),
        }
    }
}

/// The side of a square of so many rows, where it is one of offsets.
fn side(rows: usize) -> Option<usize> {
    let side = rows.isqrt();
    (side * side == rows && side % 2 == 1).then_some(side)
}

/// An image [h, w, width] of another size, the columns first.
fn resampled(image: &[f32], width: usize, from: (usize, usize), to: (usize, usize), by: Resample) -> Vec<f32> {
    let axis = |from: usize, to: usize| -> Vec<(usize, Vec<f64>)> {
        (0..to).map(|at| by.antialiased(at as u64, from as f64 / to as f64, from)).collect()
    };
    // the sum of some pixels, `step` pixels apart
    let sum = |image: &[f32], first: usize, step: usize, weights: &[f64], out: &mut Vec<f32>| {
        let mut sums = vec![0f32; width];
        for (nth, weight) in weights.iter().enumerate() {
            let pixel = &image[(first + nth * step) * width..][..width];
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += value * *weight as f32;
            }
        }
        out.extend(sums);
    };
    let (columns, rows) = (axis(from.1, to.1), axis(from.0, to.0));
    let mut narrow = Vec::with_capacity(from.0 * to.1 * width);
    for y in 0..from.0 {
        for (start, weights) in &columns {
            sum(image, y * from.1 + start, 1, weights, &mut narrow);
        }
    }
    let mut out = Vec::with_capacity(to.0 * to.1 * width);
    for (start, weights) in &rows {
        for x in 0..to.1 {
            sum(&narrow, start * to.1 + x, to.1, weights, &mut out);
        }
    }
    out
}

/// A table of offsets [from^2, heads] whose offsets are spread over those of the new window in a geometric progression, and
/// linear between them.
fn spread(table: &[f32], heads: usize, from: usize, to: usize) -> Vec<f32> {
    let places = progression(from / 2, to / 2);
    let half = (to / 2) as f32;
    let axis: Vec<Between> = (0..to).map(|at| Between::new(&places, at as f32 - half)).collect();
    let mut out = Vec::with_capacity(to * to * heads);
    for y in &axis {
        for x in &axis {
            for head in 0..heads {
                let at = |row: usize, column: usize| table[(row * from + column) * heads + head];
                let sum = at(y.left, x.left) * (y.right_of * x.right_of)
                    + at(y.left, x.right) * (y.right_of * x.left_of)
                    + at(y.right, x.left) * (y.left_of * x.right_of)
                    + at(y.right, x.right) * (y.left_of * x.left_of);
                out.push(sum / ((y.left_of + y.right_of) * (x.left_of + x.right_of)));
            }
        }
    }
    out
}

/// Where the old offsets -n..=n lie among the new ones: 0, 1, 1 + q, 1 + q + q^2 .., so that the last is about `reach`.
fn progression(n: usize, reach: usize) -> Vec<f32> {
    let (mut left, mut right, mut q) = (1.01f64, 1.5f64, 1.01);
    while right - left > 1e-6 {
        q = (left + right) / 2.0;
        if (1.0 - q.powf(n as f64)) / (1.0 - q) > reach as f64 {
            right = q;
        } else {
            left = q;
        }
    }
    let mut places = vec![];
    let mut at = 1.0;
    for i in 0..n {
        places.push(at);
        at += q.powf((i + 1) as f64);
    }
    let left = places.iter().rev().map(|place| -place);
    left.chain([0.0]).chain(places.iter().copied()).map(|place| place as f32).collect()
}

/// A place between two others.
struct Between {
    left: usize,
    right: usize,
    /// How far it is from the left one, and from the right one; 1 each where both are the place itself.
    left_of: f32,
    right_of: f32,
}

impl Between {
    fn new(places: &[f32], at: f32) -> Between {
        let last = places.len() - 1;
        let right = places.partition_point(|place| *place < at).min(last);
        let left = right.saturating_sub(1);
        let (mut left_of, mut right_of) = ((at - places[left]).max(0.0), (places[right] - at).max(0.0));
        if left_of == 0.0 && right_of == 0.0 {
            (left_of, right_of) = (1.0, 1.0);
        }
        Between { left, right, left_of, right_of }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::store::Store;
    use super::*;

    /// Against timm's own, as tests/reference/resize.py has them.
    #[test]
    fn tables_are_resized_as_timm_does() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/resize.safetensors");
        let store = Store::open_file(&path).unwrap();
        let shape = |key: &str| store.tensors()[key].shape.clone();
        let mut count = 0;
        for name in store.tensors().keys().filter_map(|key| key.strip_suffix("/in")) {
            let [kind, mode, tokens, old, new] = name.split('/').collect::<Vec<_>>()[..] else { panic!("{name}") };
            let size = |text: &str| {
                let (height, width) = text.split_once('x').unwrap();
                (height.parse::<usize>().unwrap(), width.parse::<usize>().unwrap())
            };
            let from = (kind == "positions").then(|| size(old));
            let by = Resample::named(mode).unwrap();
            let line = Line { pattern: Pattern::new(".*", 1 << 20).unwrap(), by, from };
            let (has, wanted) = (shape(&format!("{name}/in")), shape(&format!("{name}/out")));
            let resize = line.plan(name, &has, &wanted, &[size(new)]).unwrap().expect("another size");
            if let Table::Positions { tokens: found, .. } = resize.table {
                assert_eq!(found, tokens.parse::<usize>().unwrap(), "{name}");
            }
            let resized = resize.apply(&store.read(&format!("{name}/in")).unwrap(), &has);
            let golden = store.read(&format!("{name}/out")).unwrap();
            assert_eq!(resized.len(), golden.len(), "{name}");
            for (at, (ours, theirs)) in resized.iter().zip(&golden).enumerate() {
                // sums of at most a few dozen float32 products of size 1, in another order
                assert!((ours - theirs).abs() < 1e-5, "{name}: value {at} is {ours}, timm has {theirs}");
            }
            count += 1;
        }
        assert!(count >= 26, "{count} tables");
    }
}
