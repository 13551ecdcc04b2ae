//! How a fresh tensor is filled. Only the description; `weights::init` draws the numbers.

/// An initialiser, as `init S with I` and the argument `init = ..` name it. Fans are PyTorch's: for a tensor
/// [out, in, ..] `fan_in` is in times the product of the rest.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    Zeros,
    Ones,
    Constant(f64),
    /// Mean 0.
    Normal {
        std: f64,
    },
    /// Mean 0, cut off at -2 and 2 (absolute values, as `torch.nn.init.trunc_normal_`).
    TruncNormal {
        std: f64,
    },
    /// Uniform in [-bound, bound): PyTorch's default for convolutions, linears and their biases.
    Uniform {
        bound: f64,
    },
    /// Normal with std sqrt(2 / fan_in).
    KaimingNormal,
    /// Uniform with bound sqrt(6 / fan_in).
    KaimingUniform,
    /// Uniform with bound sqrt(6 / (fan_in + fan_out)).
    XavierUniform,
    /// The identity map: for square convolutions (a one in the middle), linears, and norms (scale one).
    Identity,
    /// A tensor of another safetensors file, found relative to the spec.
    From {
        file: String,
        key: String,
    },
}
