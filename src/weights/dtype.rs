//! The number formats of weight files and their conversion to float32.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

const _: () = assert!(cfg!(target_endian = "little"), "weight files are little-endian and are read in place");

/// The number format of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    /// A format that archc does not read, as the file calls it. The tensor may still be ignored or dropped.
    Other(String),
}

impl DType {
    /// As a safetensors header calls it.
    pub fn named(name: &str) -> DType {
        match name {
            "F64" => DType::F64,
            "F32" => DType::F32,
            "F16" => DType::F16,
            "BF16" => DType::BF16,
            "I64" => DType::I64,
            "I32" => DType::I32,
            "I16" => DType::I16,
            "I8" => DType::I8,
            "U64" => DType::U64,
            "U32" => DType::U32,
            "U16" => DType::U16,
            "U8" => DType::U8,
            "BOOL" => DType::Bool,
            other => DType::Other(other.to_string()),
        }
    }

    /// The safetensors name.
    pub fn name(&self) -> &str {
        match self {
            DType::F64 => "F64",
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            DType::I64 => "I64",
            DType::I32 => "I32",
            DType::I16 => "I16",
            DType::I8 => "I8",
            DType::U64 => "U64",
            DType::U32 => "U32",
            DType::U16 => "U16",
            DType::U8 => "U8",
            DType::Bool => "BOOL",
            DType::Other(name) => name,
        }
    }

    /// Bytes a value, where the format is known.
    pub fn size(&self) -> Option<usize> {
        match self {
            DType::F64 | DType::I64 | DType::U64 => Some(8),
            DType::F32 | DType::I32 | DType::U32 => Some(4),
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => Some(2),
            DType::I8 | DType::U8 | DType::Bool => Some(1),
            DType::Other(_) => None,
        }
    }
}

/// The values in `bytes` as float32, each rounded to the nearest; None for a format that is not known. `bytes` may lie
/// at any address.
pub(super) fn to_f32(dtype: &DType, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        DType::F32 => each(bytes, f32::from_le_bytes),
        DType::F16 => chunks(bytes, f16_to_f32),
        DType::BF16 => each(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        DType::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        DType::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
        DType::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
        DType::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
        DType::I8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
        DType::U64 => each(bytes, |b| u64::from_le_bytes(b) as f32),
        DType::U32 => each(bytes, |b| u32::from_le_bytes(b) as f32),
        DType::U16 => each(bytes, |b| f32::from(u16::from_le_bytes(b))),
        DType::U8 => each(bytes, |[b]| f32::from(b)),
        DType::Bool => each(bytes, |[b]| f32::from(u8::from(b != 0))),
        DType::Other(_) => return None,
    })
}

/// Values a piece of work of one thread.
const CHUNK: usize = 1 << 16;

fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    chunks(bytes, |bytes: &[[u8; N]], out| {
        for (out, bytes) in out.iter_mut().zip(bytes) {
            *out = value(*bytes);
        }
    })
}

fn chunks<const N: usize>(bytes: &[u8], convert: impl Fn(&[[u8; N]], &mut [f32]) + Sync) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<N>();
    let mut out = vec![0.0; values.len()];
    out.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(out, values)| convert(values, out));
    out
}

fn f16_to_f32(bytes: &[[u8; 2]], out: &mut [f32]) {
    let mut piece = [f16::ZERO; 256];
    for (bytes, out) in bytes.chunks(piece.len()).zip(out.chunks_mut(piece.len())) {
        for (value, bytes) in piece.iter_mut().zip(bytes) {
            *value = f16::from_le_bytes(*bytes);
        }
        piece[..bytes.len()].convert_to_f32_slice(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn every_format_becomes_float32() {
        let cases: Vec<(DType, Vec<u8>, Vec<f32>)> = vec![
            (DType::F64, [1.5f64, -1e300].iter().flat_map(|v| v.to_le_bytes()).collect(), vec![1.5, f32::NEG_INFINITY]),
            (DType::F32, [1.5f32, -0.0].iter().flat_map(|v| v.to_le_bytes()).collect(), vec![1.5, -0.0]),
            (DType::I64, (-3i64).to_le_bytes().to_vec(), vec![-3.0]),
            (DType::I32, (-3i32).to_le_bytes().to_vec(), vec![-3.0]),
            (DType::I16, (-3i16).to_le_bytes().to_vec(), vec![-3.0]),
            (DType::I8, vec![253], vec![-3.0]),
            (DType::U64, 3u64.to_le_bytes().to_vec(), vec![3.0]),
            (DType::U32, 3u32.to_le_bytes().to_vec(), vec![3.0]),
            (DType::U16, 3u16.to_le_bytes().to_vec(), vec![3.0]),
            (DType::U8, vec![253], vec![253.0]),
            (DType::Bool, vec![0, 1], vec![0.0, 1.0]),
            (DType::BF16, bf16::from_f32(3.0).to_le_bytes().to_vec(), vec![3.0]),
        ];
        for (dtype, bytes, values) in cases {
            assert_eq!(DType::named(dtype.name()), dtype);
            assert_eq!(to_f32(&dtype, &bytes).unwrap(), values, "{}", dtype.name());
            assert_eq!(dtype.size().unwrap() * values.len(), bytes.len());
        }
        assert_eq!(to_f32(&DType::named("F8_E4M3"), &[0]), None);
    }

    #[test]
    fn half_precision_is_exact_over_all_its_values() {
        // One byte off, so that nothing may rely on alignment.
        let bytes: Vec<u8> = std::iter::once(0).chain((0..=u16::MAX).flat_map(u16::to_le_bytes)).collect();
        for (i, value) in to_f32(&DType::F16, &bytes[1..]).unwrap().into_iter().enumerate() {
            let exact = f16::from_bits(i as u16).to_f64_const();
            assert!(f64::from(value) == exact || (value.is_nan() && exact.is_nan()), "{i:#x}");
        }
        for (i, value) in to_f32(&DType::BF16, &bytes[1..]).unwrap().into_iter().enumerate() {
            let exact = bf16::from_bits(i as u16).to_f64_const();
            assert!(f64::from(value) == exact || (value.is_nan() && exact.is_nan()), "{i:#x}");
        }
    }
}
