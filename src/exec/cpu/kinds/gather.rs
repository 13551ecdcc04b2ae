//! Rows of a table.

use super::super::kernels::grad;
use super::super::step::Opened;

super::float! {
    Gather, "gather", |_, _isa, io, Opened { y, reads: [table, index, ..], .. }| {
        let cols: usize = io.reads[0].dims[1..].iter().product();
        for (row, at) in y.chunks_exact_mut(cols).zip(index) {
            // an index that is no row gives NaN
            match (*at >= 0.0).then(|| table.chunks_exact(cols).nth(*at as usize)).flatten() {
                Some(from) => row.copy_from_slice(from),
                None => row.fill(f32::NAN),
            }
        }
    };
    GatherData, "gather_data", |_, _isa, io, Opened { y, reads: [dy, index, ..], .. }| {
        grad::gather_data(dy, index, io.write.dims[1..].iter().product(), y);
    };
}
