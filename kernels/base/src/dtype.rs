//! The number formats of activations.

/// How activations lie in memory; sums are float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    #[default]
    F32,
    /// IEEE 754's binary16.
    F16,
    /// bfloat16: float32 without the lower half of its bits.
    Bf16,
}

impl DType {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
        }
    }

    /// Bytes of a value.
    pub fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 => 2,
        }
    }
}
