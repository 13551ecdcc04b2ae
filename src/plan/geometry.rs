//! What kernels need to know of a step's views besides their rows, worked out once for every backend and number format: how
//! operands pair, how matrices follow one another, over which axes sums go.

use archc_base::Binary;

use super::view::Matrix;
use super::{Step, View, Work};
use crate::net::{Id, Kind, Net};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Geometry {
    /// Nothing else.
    #[default]
    Rows,
    Pairs(Pairs),
    Products(Products),
    Over(Over),
    Heads(Heads),
    Steps(Steps),
}

/// How the second operand of an arithmetic step pairs with the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    /// Swapped where the operands are.
    pub op: Binary,
    /// Which read is the first operand.
    pub first: usize,
    pub pairing: Pairing,
    /// Of the result in the order of its memory, and the strides of both operands there.
    pub shape: Vec<usize>,
    pub strides: [Vec<usize>; 2],
}

/// Batches of products of matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct Products {
    /// Axes of matrices from the outermost, one at least: how many, and how far apart they are in both operands and the
    /// result.
    pub levels: Vec<(usize, [usize; 3])>,
    /// Values from one row to the next.
    pub leading: [usize; 3],
    /// Rows, terms and columns.
    pub sizes: [usize; 3],
    /// Whether the second operand lies by columns.
    pub transposed: bool,
}

/// A walk over the axes of an operand, some of which the result lacks: they are summed, or what lies there is repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    /// The axes with their strides in the operand, those of the result in the order in which it lies.
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
    /// Which axes the result lacks.
    pub missing: Vec<bool>,
}

/// The sizes of an attention, and where what is added to its scores lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Heads {
    /// Values before the last two axes: images, or their windows.
    pub n: usize,
    pub heads: usize,
    /// Features of a head of queries and keys, and of a head of values.
    pub dim: usize,
    pub value_dim: usize,
    pub queries: usize,
    pub keys: usize,
    pub mask: Option<Mask>,
}

/// How the steps of sequences follow one another among rows: row `(outer * steps + step) * inner + at` is a step of sequence
/// `outer * inner + at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub outer: usize,
    pub steps: usize,
    pub inner: usize,
}

/// How far apart the values of a mask are by its axes; 0 where it is broadcast.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// The axes before the heads with their strides, from the outermost; as few as say it.
    pub before: Vec<(usize, usize)>,
    pub head: usize,
    pub query: usize,
    pub key: usize,
}

impl Geometry {
    pub(super) fn of(net: &Net, step: &Step) -> Geometry {
        let Work::Node(id) = step.work else { return Geometry::Rows };
        match &net.node(id).kind {
            Kind::Binary(binary) => Geometry::Pairs(pairs(net, id, step, binary.op)),
            Kind::Matmul(_) => Geometry::Products(products(step)),
            Kind::Reduce(reduce) => {
                let (from, to) = (&step.reads[0], &step.write);
                let kept = from.dims.len() == to.dims.len();
                let order: Vec<usize> = if kept { to.order() } else { (0..from.dims.len()).collect() };
                let view = from.permuted(&order);
                let missing = order.iter().map(|axis| reduce.axes.contains(axis)).collect();
                Geometry::Over(Over { shape: view.dims, strides: view.strides, missing })
            }
            Kind::MeanData(mean) => {
                // of the result, which has the axes that the operand may lack
                let to = &step.write;
                let mut strides = step.reads[0].strides.clone();
                if strides.len() < to.dims.len() {
                    mean.axes.iter().for_each(|axis| strides.insert(*axis, 0));
                }
                mean.axes.iter().for_each(|axis| strides[*axis] = 0);
                let missing = (0..to.dims.len()).map(|axis| mean.axes.contains(&axis)).collect();
                Geometry::Over(Over { shape: to.dims.clone(), strides, missing })
            }
            Kind::MaxData(max) => {
                let x = &step.reads[1];
                let missing = (0..x.dims.len()).map(|axis| max.axes.contains(&axis)).collect();
                Geometry::Over(Over { shape: x.dims.clone(), strides: x.strides.clone(), missing })
            }
            Kind::SumTo(sum) => {
                let (from, to) = (&step.reads[0], &step.write.dims);
                let offset = if sum.from_left { 0 } else { from.dims.len() - to.len() };
                let is_missing = |axis: usize| match axis.checked_sub(offset).and_then(|axis| to.get(axis)) {
                    Some(own) => *own != from.dims[axis],
                    None => true,
                };
                let missing = (0..from.dims.len()).map(is_missing).collect();
                Geometry::Over(Over { shape: from.dims.clone(), strides: from.strides.clone(), missing })
            }
            Kind::Attention(attention) => Geometry::Heads(heads(step, attention.heads)),
            Kind::LstmScan(_) | Kind::LstmScanData(_) => Geometry::Steps(steps(step)),
            _ => Geometry::Rows,
        }
    }

    /// # Panics
    /// If the step is no attention.
    pub fn heads(&self) -> &Heads {
        let Geometry::Heads(heads) = self else { panic!("the plan splits heads") };
        heads
    }

    /// # Panics
    /// If the step has no steps of sequences.
    pub fn steps(&self) -> Steps {
        let Geometry::Steps(steps) = self else { panic!("the plan finds steps") };
        *steps
    }

    /// # Panics
    /// If the step is not of two values.
    pub fn pairs(&self) -> &Pairs {
        let Geometry::Pairs(pairs) = self else { panic!("the plan pairs operands") };
        pairs
    }

    /// # Panics
    /// If the step is no product.
    pub fn products(&self) -> &Products {
        let Geometry::Products(products) = self else { panic!("the plan lays products out") };
        products
    }

    /// # Panics
    /// If the step is no walk over axes.
    pub fn over(&self) -> &Over {
        let Geometry::Over(over) = self else { panic!("the plan splits axes") };
        over
    }
}

impl Over {
    /// How many values of the operand there are for each of the result.
    pub fn each(&self) -> usize {
        self.axes(true).map(|(len, _)| len).product()
    }

    /// Lengths and strides of the axes that the result lacks, or of the others.
    pub fn axes(&self, missing: bool) -> impl Iterator<Item = (usize, usize)> + '_ {
        let own = self.missing.iter().zip(self.shape.iter().zip(&self.strides));
        own.filter(move |(own, _)| **own == missing).map(|(_, (len, stride))| (*len, *stride))
    }
}

fn pairs(net: &Net, id: Id, step: &Step, op: Binary) -> Pairs {
    let (dims, order) = (&step.write.dims, step.write.order());
    let from_left = net.node(id).operands.iter().all(|operand| net.node(*operand).shape.batched);
    let views: Vec<View> = step.reads.iter().map(|view| view.broadcast(dims, from_left)).collect();
    let whole = |at: &usize| step.reads[*at].dims == *dims && step.reads[*at].matrix(&order).is_some();
    let found = (0..2).find(whole).filter(|_| step.write.matrix(&order).is_some());
    let first = found.unwrap_or(0);
    let pairing = if found.is_some() { pairing(&views[1 - first], &order) } else { Pairing::Broadcast };
    let op = if first == 0 { op } else { op.swapped().expect("the net has sums, differences and products") };
    let lie = |view: &View| view.permuted(&order).strides;
    let strides = [lie(&views[first]), lie(&views[1 - first])];
    Pairs { op, first, pairing, shape: order.iter().map(|axis| dims[*axis]).collect(), strides }
}

fn products(step: &Step) -> Products {
    let out = &step.write;
    let rank = out.dims.len();
    let broadcast = |view: &View| {
        // the last two axes are the matrix
        let mut dims = out.dims.clone();
        dims[rank - 2..].copy_from_slice(&view.dims[view.dims.len() - 2..]);
        view.broadcast(&dims, false)
    };
    let (a, b) = (broadcast(&step.reads[0]), broadcast(&step.reads[1]));
    let sizes = [a.dims[rank - 2], a.dims[rank - 1], b.dims[rank - 1]];
    let [m, k, n] = sizes;
    let transposed = b.strides[rank - 1] != 1 && b.dims[rank - 1] != 1;
    // of a single row the distance says nothing, and may be less than a row is long
    let own = |stride: usize, rows: usize, cols: usize| if rows == 1 { stride.max(cols) } else { stride };
    let of_b = if transposed { own(b.strides[rank - 1], n, k) } else { own(b.strides[rank - 2], k, n) };
    let leading = [own(a.strides[rank - 2], m, k), of_b, own(out.strides[rank - 2], m, n)];
    // From the innermost batch axis on, axes that go on evenly in all three are one.
    let mut levels: Vec<(usize, [usize; 3])> = vec![];
    for axis in (0..rank - 2).filter(|axis| out.dims[*axis] != 1).rev() {
        let steps = [a.strides[axis], b.strides[axis], out.strides[axis]];
        match levels.last_mut() {
            Some((count, inner)) if (0..3).all(|at| steps[at] == inner[at] * *count) => *count *= out.dims[axis],
            _ => levels.push((out.dims[axis], steps)),
        }
    }
    levels.reverse();
    if levels.is_empty() {
        levels.push((1, [0; 3]));
    }
    Products { levels, leading, sizes, transposed }
}

fn heads(step: &Step, heads: usize) -> Heads {
    let [q, k, v] = [0, 1, 2].map(|at| &step.reads[at].dims);
    let (before, inner) = step.write.dims.split_at(step.write.dims.len() - 2);
    let (queries, keys) = (inner[0], k[k.len() - 2]);
    let mask = step.reads.get(3).map(|mask| {
        let mut scores = before.to_vec();
        scores.extend((heads > 1).then_some(heads));
        scores.extend([queries, keys]);
        let strides = mask.broadcast(&scores, false).strides;
        let (outer, inner) = strides.split_at(before.len());
        let before = merged(before.iter().copied().zip(outer.iter().copied()));
        let head = if heads > 1 { inner[0] } else { 0 };
        Mask { before, head, query: inner[inner.len() - 2], key: inner[inner.len() - 1] }
    });
    let [dim, value_dim] = [q, v].map(|dims| dims[dims.len() - 1] / heads);
    Heads { n: before.iter().product(), heads, dim, value_dim, queries, keys, mask }
}

fn steps(step: &Step) -> Steps {
    // rows lie in the order of the axes before the last
    let (dims, axes) = (&step.write.dims, &step.order[..step.order.len() - 1]);
    let time = dims.len() - 2;
    let at = axes.iter().position(|axis| *axis == time).expect("the order has every axis");
    let count = |axes: &[usize]| axes.iter().map(|axis| dims[*axis]).product();
    Steps { outer: count(&axes[..at]), steps: dims[time], inner: count(&axes[at + 1..]) }
}

/// Axes with their strides from the outermost, those that go on evenly as one, those of length 1 left out.
fn merged(axes: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let mut merged: Vec<(usize, usize)> = vec![];
    for (len, stride) in axes.filter(|(len, _)| *len != 1) {
        match merged.last_mut() {
            Some((outer, step)) if *step == len * stride => (*outer, *step) = (*outer * len, stride),
            _ => merged.push((len, stride)),
        }
    }
    merged
}

/// What the second operand gives each value of the first, rows and columns of which are those of an order of axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// A value of its own.
    Rows(Matrix),
    /// One for all.
    Scalar,
    /// One a column.
    Row,
    /// One a column, others for every so many rows.
    Gate { rows_each: usize },
    /// One a row.
    Column,
    /// None of these.
    Broadcast,
}

/// Finds the pairing of `other`, broadcast to the sizes of the first operand.
pub fn pairing(other: &View, order: &[usize]) -> Pairing {
    let axes: Vec<usize> = order.iter().copied().filter(|axis| other.dims[*axis] != 1).collect();
    let stride = |axis: &usize| other.strides[*axis];
    let zero = |axes: &[usize]| axes.iter().all(|axis| stride(axis) == 0);
    let Some((last, outer)) = axes.split_last() else { return Pairing::Scalar };
    if zero(&axes) {
        return Pairing::Scalar;
    }
    if let Some(matrix) = other.matrix(order) {
        return Pairing::Rows(matrix);
    }
    // a last axis of length 1 is all there is of a row
    let innermost = order.last() == Some(last);
    if innermost && stride(last) == 1 {
        if zero(outer) {
            return Pairing::Row;
        }
        if let [first, middle @ ..] = outer
            && zero(middle)
            && stride(first) == other.dims[*last]
        {
            let rows_each = middle.iter().map(|axis| other.dims[*axis]).product();
            return Pairing::Gate { rows_each };
        }
    }
    if innermost && stride(last) == 0 {
        let mut step = 1;
        let one_a_row = outer.iter().rev().all(|axis| {
            let fits = stride(axis) == step;
            step *= other.dims[*axis];
            fits
        });
        if one_a_row {
            return Pairing::Column;
        }
    }
    Pairing::Broadcast
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::super::view::IMAGE;
    use super::*;

    #[test]
    fn the_usual_pairs_are_found() {
        let dims = [2, 5, 3, 4];
        let view = |dims: &[usize]| View::plain(Place::Buffer(0), dims);
        let find = |other: View, from_left| pairing(&other.broadcast(&dims, from_left), &IMAGE);
        assert_eq!(find(view(&[2, 5]), true), Pairing::Gate { rows_each: 12 });
        assert_eq!(find(view(&[2, 5, 1, 1]), true), Pairing::Gate { rows_each: 12 });
        assert_eq!(find(view(&[2, 1, 3, 4]), true), Pairing::Column);
        assert_eq!(find(view(&[5, 1, 1]), false), Pairing::Row);
        assert_eq!(find(view(&[1]), false), Pairing::Scalar);
        assert_eq!(find(view(&[4]), false), Pairing::Broadcast);
        assert_eq!(find(view(&[2, 5, 3, 1]), true), Pairing::Broadcast);
        assert_eq!(find(view(&dims), true), Pairing::Broadcast);
        assert!(matches!(find(View::ordered(Place::Buffer(0), &dims, &IMAGE), true), Pairing::Rows(_)));
    }
}
