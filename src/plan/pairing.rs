//! How the second operand of an arithmetic step pairs with the rows of the first: most steps need no general walk over
//! strides.

use super::View;
use super::view::Matrix;

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

/// Finds the pairing of `other`, stretched to the sizes of the first operand.
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
        let find = |other: View, from_left| pairing(&other.stretched(&dims, from_left), &IMAGE);
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
