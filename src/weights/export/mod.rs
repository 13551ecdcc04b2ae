//! The formats in which weights are written: each a file, and its line in [`FORMATS`].

mod safetensors;

use std::path::Path;

use indexmap::IndexMap;
pub use safetensors::write_safetensors;

use super::dtype::DType;
use crate::diag::Problem;

/// Every format, in the order of the help.
pub static FORMATS: &[Format] = &[Format::SAFETENSORS];

/// A format of files of weights.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// As `--to` says it, and as files end.
    pub name: &'static str,
    /// Writes tensors and metadata into a file that takes its place only when it is whole.
    pub(crate) write: Write,
}

type Write = fn(&Path, &[TensorOut<'_>], &IndexMap<String, String>) -> Result<(), Problem>;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorOut<'a> {
    pub key: &'a str,
    pub shape: &'a [usize],
    pub data: Data<'a>,
}

/// The values of a [`TensorOut`], row-major.
#[derive(Clone, Debug)]
pub enum Data<'a> {
    F32(&'a [f32]),
    /// Written as float16, rounded to the nearest.
    AsF16(&'a [f32]),
    /// Written as bfloat16, rounded to the nearest.
    AsBF16(&'a [f32]),
    /// `num_batches_tracked` and other counters.
    I64(&'a [i64]),
    /// Little-endian bytes as `Store::raw` gives them.
    Raw(DType, &'a [u8]),
}

impl Data<'_> {
    fn dtype(&self) -> DType {
        match self {
            Data::F32(_) => DType::F32,
            Data::AsF16(_) => DType::F16,
            Data::AsBF16(_) => DType::BF16,
            Data::I64(_) => DType::I64,
            Data::Raw(dtype, _) => dtype.clone(),
        }
    }

    /// Bytes in the file.
    fn len(&self) -> usize {
        match self {
            Data::F32(values) => 4 * values.len(),
            Data::AsF16(values) | Data::AsBF16(values) => 2 * values.len(),
            Data::I64(values) => 8 * values.len(),
            Data::Raw(_, bytes) => bytes.len(),
        }
    }
}
