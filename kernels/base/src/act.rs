//! Activations: functions of one number, as PyTorch defines them.

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::fmt;
use std::mem::discriminant;

use crate::formula::sigmoid;

/// A function of one number, with its formula and gradient. NaN stays NaN.
///
/// Parameters are float32, as kernels compute with them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Act {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`, as `torch.nn.ReLU`.
    Relu,
    /// `min(max(x, lo), hi)`, as `torch.clamp`; an infinite bound is none, and `hi` wins where it is below `lo`.
    Clamp { lo: f32, hi: f32 },
    /// `x > 0 ? x : alpha (e^x - 1)`, as `torch.nn.ELU` (Clevert et al. 2015).
    Elu(f32),
    /// `x > 0 ? x : slope x`, as `torch.nn.LeakyReLU`.
    LeakyRelu(f32),
    /// `x / 2 (1 + erf(x / sqrt(2)))`, as `torch.nn.GELU` (Hendrycks and Gimpel 2016).
    Gelu,
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, as `torch.nn.GELU` with `approximate="tanh"`.
    GeluTanh,
    /// `x sigmoid(x)`, as `torch.nn.SiLU`.
    Silu,
    /// `1 / (1 + e^-x)`, as `torch.nn.Sigmoid`.
    Sigmoid,
    /// Hyperbolic tangent, as `torch.nn.Tanh`.
    Tanh,
    /// `x min(max(x + 3, 0), 6) / 6`, as `torch.nn.Hardswish` (Howard et al. 2019).
    HardSwish,
    /// `min(max(x + 3, 0), 6) / 6`, as `torch.nn.Hardsigmoid`.
    HardSigmoid,
    /// `ln(1 + e^x)`, and `x` above 20, as `torch.nn.Softplus`.
    Softplus,
    /// `x tanh(softplus(x))`, as `torch.nn.Mish` (Misra 2019).
    Mish,
    /// `e^x`, as `torch.exp`.
    Exp,
    /// `scale x + shift`
    Linear { scale: f32, shift: f32 },
    /// `x^2`
    Square,
    /// Square root, NaN below 0, as `torch.sqrt`.
    Sqrt,
    /// Square root of a sum of squares, whose gradient at 0 is 0, as that of `torch.linalg.vector_norm`.
    Length,
    /// `1 / sqrt(x)`, as `torch.rsqrt`.
    Rsqrt,
    /// `x` to this power, as `torch.pow`: NaN below 0 where the exponent is no integer; 1, with gradient 0, of anything to the
    /// power of 0.
    Pow(f32),
    /// This number over `x`, as `torch.reciprocal`.
    Over(f32),
    /// `|x|`, as `torch.abs`.
    Abs,
    /// Natural logarithm, as `torch.log`.
    Log,
    /// Sine of radians, as `torch.sin`.
    Sin,
    /// Cosine of radians, as `torch.cos`.
    Cos,
    /// `x / (1 + |x|)`, as `torch.nn.Softsign`.
    Softsign,
    /// `-ln(1 + e^-x)`, as `torch.nn.LogSigmoid`.
    LogSigmoid,
    /// `x > 0 ? x : alpha (e^(x / alpha) - 1)`, as `torch.nn.CELU` (Barron 2017).
    Celu(f32),
    /// `scale x` where `x > 0`, else `scale alpha (e^x - 1)`, as `torch.nn.SELU` (Klambauer et al. 2017), whose
    /// [`SELU_SCALE`](Act::SELU_SCALE) and [`SELU_ALPHA`](Act::SELU_ALPHA) they are.
    Selu,
}

impl Act {
    /// `min(max(x, 0), 6)`, as `torch.nn.ReLU6`.
    pub const RELU6: Act = Act::Clamp { lo: 0.0, hi: 6.0 };

    /// With these numbers a layer of mean 0 and variance 1 has such outputs (Klambauer et al. 2017).
    pub const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
    pub const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

    /// One of each, with parameters for a test to draw from. The place is its [code](Act::code), the name is that by which
    /// CUDA code knows it.
    pub const ALL: [(&str, Act); 30] = [
        ("None", Act::None),
        ("Relu", Act::Relu),
        ("Clamp", Act::Clamp { lo: -0.25, hi: 2.0 }),
        ("Elu", Act::Elu(1.5)),
        ("LeakyRelu", Act::LeakyRelu(0.01)),
        ("Gelu", Act::Gelu),
        ("GeluTanh", Act::GeluTanh),
        ("Silu", Act::Silu),
        ("Sigmoid", Act::Sigmoid),
        ("Tanh", Act::Tanh),
        ("HardSwish", Act::HardSwish),
        ("HardSigmoid", Act::HardSigmoid),
        ("Softplus", Act::Softplus),
        ("Mish", Act::Mish),
        ("Exp", Act::Exp),
        ("Linear", Act::Linear { scale: 0.5, shift: -2.0 }),
        ("Square", Act::Square),
        ("Sqrt", Act::Sqrt),
        ("Length", Act::Length),
        ("Rsqrt", Act::Rsqrt),
        ("Pow", Act::Pow(2.5)),
        ("Over", Act::Over(0.5)),
        ("Abs", Act::Abs),
        ("Log", Act::Log),
        ("Sin", Act::Sin),
        ("Cos", Act::Cos),
        ("Softsign", Act::Softsign),
        ("LogSigmoid", Act::LogSigmoid),
        ("Celu", Act::Celu(1.5)),
        ("Selu", Act::Selu),
    ];

    /// The number by which CUDA code knows the function.
    pub fn code(self) -> i32 {
        crate::place(&Act::ALL, |other| discriminant(other) == discriminant(&self))
    }

    /// The two parameters, 0 where there is none.
    pub fn parameters(self) -> [f32; 2] {
        match self {
            Act::Clamp { lo, hi } => [lo, hi],
            Act::Elu(alpha) => [alpha, 0.0],
            Act::LeakyRelu(slope) => [slope, 0.0],
            Act::Linear { scale, shift } => [scale, shift],
            Act::Pow(parameter) | Act::Over(parameter) | Act::Celu(parameter) => [parameter, 0.0],
            Act::None | Act::Relu | Act::Gelu | Act::GeluTanh | Act::Silu | Act::Sigmoid | Act::Tanh => [0.0; 2],
            Act::HardSwish | Act::HardSigmoid | Act::Softplus | Act::Mish | Act::Exp => [0.0; 2],
            Act::Square | Act::Sqrt | Act::Length | Act::Rsqrt | Act::Abs | Act::Log => [0.0; 2],
            Act::Sin | Act::Cos | Act::Softsign | Act::LogSigmoid | Act::Selu => [0.0; 2],
        }
    }

    /// The function's value.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Act::None => x,
            Act::Relu => clamp(x, 0.0, f64::INFINITY),
            Act::Clamp { lo, hi } => clamp(x, lo.into(), hi.into()),
            Act::Elu(_) | Act::LeakyRelu(_) if x > 0.0 => x,
            Act::Elu(alpha) => f64::from(alpha) * x.exp_m1(),
            Act::LeakyRelu(slope) => f64::from(slope) * x,
            Act::Gelu => 0.5 * x * erfc(-x * FRAC_1_SQRT_2),
            Act::GeluTanh => 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
            Act::Silu => x * sigmoid(x),
            Act::Sigmoid => sigmoid(x),
            Act::Tanh => x.tanh(),
            Act::HardSwish => x * clamp(x + 3.0, 0.0, 6.0) / 6.0,
            Act::HardSigmoid => clamp(x + 3.0, 0.0, 6.0) / 6.0,
            Act::Softplus => softplus(x),
            Act::Mish => x * softplus(x).tanh(),
            Act::Exp => x.exp(),
            Act::Linear { scale, shift } => f64::from(scale) * x + f64::from(shift),
            Act::Square => x * x,
            Act::Sqrt | Act::Length => x.sqrt(),
            Act::Rsqrt => 1.0 / x.sqrt(),
            Act::Pow(exponent) => x.powf(exponent.into()),
            Act::Over(number) => f64::from(number) / x,
            Act::Abs => x.abs(),
            Act::Log => x.ln(),
            Act::Sin => x.sin(),
            Act::Cos => x.cos(),
            Act::Softsign => x / (1.0 + x.abs()),
            Act::LogSigmoid => x.min(0.0) - (-x.abs()).exp().ln_1p(),
            Act::Celu(_) if x > 0.0 => x,
            Act::Celu(alpha) => f64::from(alpha) * (x / f64::from(alpha)).exp_m1(),
            Act::Selu if x > 0.0 => Act::SELU_SCALE * x,
            Act::Selu => Act::SELU_SCALE * Act::SELU_ALPHA * x.exp_m1(),
        }
    }

    /// The gradient at `x`; at a kink that of PyTorch.
    pub fn gradient(self, x: f64) -> f64 {
        let inside = |lo: f32, hi: f32| f64::from(u8::from(x > lo.into() && x < hi.into()));
        match self {
            Act::None => 1.0,
            Act::Relu => inside(0.0, f32::INFINITY),
            Act::Clamp { lo, hi } => inside(lo, hi),
            Act::Elu(_) | Act::LeakyRelu(_) if x > 0.0 => 1.0,
            Act::Elu(alpha) => f64::from(alpha) * x.exp(),
            Act::LeakyRelu(slope) => slope.into(),
            Act::Gelu => 0.5 * erfc(-x * FRAC_1_SQRT_2) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
            Act::GeluTanh => {
                let t = ((2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)).tanh();
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x)
            }
            Act::Silu => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
            Act::Sigmoid => sigmoid(x) * (1.0 - sigmoid(x)),
            Act::Tanh => 1.0 - x.tanh() * x.tanh(),
            Act::HardSwish if x <= -3.0 => 0.0,
            Act::HardSwish if x >= 3.0 => 1.0,
            Act::HardSwish => (2.0 * x + 3.0) / 6.0,
            Act::HardSigmoid => inside(-3.0, 3.0) / 6.0,
            Act::Softplus => sigmoid(x),
            Act::Mish => {
                let t = softplus(x).tanh();
                t + x * sigmoid(x) * (1.0 - t * t)
            }
            Act::Exp => x.exp(),
            Act::Linear { scale, .. } => scale.into(),
            Act::Square => 2.0 * x,
            Act::Length if x == 0.0 => 0.0,
            Act::Sqrt | Act::Length => 0.5 / x.sqrt(),
            Act::Rsqrt => -0.5 / (x * x.sqrt()),
            Act::Pow(0.0) => 0.0,
            Act::Pow(exponent) => f64::from(exponent) * x.powf(f64::from(exponent) - 1.0),
            Act::Over(number) => -f64::from(number) / (x * x),
            Act::Abs if x == 0.0 => 0.0,
            Act::Abs => x.signum(),
            Act::Log => 1.0 / x,
            Act::Sin => x.cos(),
            Act::Cos => -x.sin(),
            Act::Softsign => (1.0 + x.abs()).powi(-2),
            Act::LogSigmoid => sigmoid(-x),
            Act::Celu(_) if x > 0.0 => 1.0,
            Act::Celu(alpha) => (x / f64::from(alpha)).exp(),
            Act::Selu if x > 0.0 => Act::SELU_SCALE,
            Act::Selu => Act::SELU_SCALE * Act::SELU_ALPHA * x.exp(),
        }
    }

    /// Whether the gradient is a function of the result, so that a backward pass needs no operand.
    pub fn by_result(self) -> bool {
        match self {
            Act::Relu | Act::Clamp { .. } | Act::Sigmoid | Act::Tanh | Act::HardSigmoid | Act::Softplus => true,
            Act::Exp | Act::Linear { .. } | Act::None => true,
            Act::Elu(alpha) => alpha >= 0.0,
            Act::LeakyRelu(slope) => slope >= 0.0,
            Act::Gelu | Act::GeluTanh | Act::Silu | Act::HardSwish | Act::Mish => false,
            Act::Sqrt | Act::Length | Act::Rsqrt | Act::LogSigmoid | Act::Celu(_) | Act::Selu => true,
            Act::Square | Act::Pow(_) | Act::Over(_) | Act::Abs | Act::Log | Act::Sin | Act::Cos => false,
            Act::Softsign => false,
        }
    }

    /// Whether it seldom follows a sum of products: kernels of such sums do without it, as each function costs each of
    /// them code and registers, and those of single values have it.
    pub fn is_rare(self) -> bool {
        match self {
            Act::None | Act::Relu | Act::Clamp { .. } | Act::Elu(_) | Act::LeakyRelu(_) | Act::Gelu => false,
            Act::GeluTanh | Act::Silu | Act::Sigmoid | Act::Tanh | Act::HardSwish | Act::HardSigmoid => false,
            Act::Softplus | Act::Mish | Act::Exp | Act::Linear { .. } => false,
            Act::Square | Act::Sqrt | Act::Length | Act::Rsqrt | Act::Pow(_) | Act::Over(_) | Act::Abs => true,
            Act::Log | Act::Sin | Act::Cos | Act::Softsign | Act::LogSigmoid | Act::Celu(_) | Act::Selu => true,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::None => write!(f, "none"),
            Act::Relu => write!(f, "relu"),
            Act::Clamp { lo, hi } => write!(f, "clamp({lo}, {hi})"),
            Act::Elu(alpha) => write!(f, "elu({alpha})"),
            Act::LeakyRelu(slope) => write!(f, "leaky_relu({slope})"),
            Act::Gelu => write!(f, "gelu"),
            Act::GeluTanh => write!(f, "gelu(tanh)"),
            Act::Silu => write!(f, "silu"),
            Act::Sigmoid => write!(f, "sigmoid"),
            Act::Tanh => write!(f, "tanh"),
            Act::HardSwish => write!(f, "hardswish"),
            Act::HardSigmoid => write!(f, "hardsigmoid"),
            Act::Softplus => write!(f, "softplus"),
            Act::Mish => write!(f, "mish"),
            Act::Exp => write!(f, "exp"),
            Act::Linear { scale, shift } => write!(f, "* {scale} + {shift}"),
            Act::Square => write!(f, "square"),
            Act::Sqrt => write!(f, "sqrt"),
            Act::Length => write!(f, "length"),
            Act::Rsqrt => write!(f, "rsqrt"),
            Act::Pow(exponent) => write!(f, "pow({exponent})"),
            Act::Over(number) => write!(f, "{number} /"),
            Act::Abs => write!(f, "abs"),
            Act::Log => write!(f, "log"),
            Act::Sin => write!(f, "sin"),
            Act::Cos => write!(f, "cos"),
            Act::Softsign => write!(f, "softsign"),
            Act::LogSigmoid => write!(f, "log_sigmoid"),
            Act::Celu(alpha) => write!(f, "celu({alpha})"),
            Act::Selu => write!(f, "selu"),
        }
    }
}

fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// As PyTorch: NaN stays, and `hi` wins where it is below `lo`.
fn clamp(x: f64, lo: f64, hi: f64) -> f64 {
    if x.is_nan() { x } else { x.max(lo).min(hi) }
}

/// 1 - erf(x): a series of positive terms near zero, a continued fraction (Abramowitz and Stegun 7.1.14) beyond.
fn erfc(x: f64) -> f64 {
    let root_pi = PI.sqrt();
    if x.is_nan() {
        return x;
    }
    if x.abs() > 2.5 {
        let tail = (1..=60).rev().fold(x.abs(), |rest, n| x.abs() + n as f64 / 2.0 / rest);
        let tail = (-x * x).exp() / (tail * root_pi);
        return if x > 0.0 { tail } else { 2.0 - tail };
    }
    let (mut term, mut sum) = (x, 0.0);
    for n in 1..=80 {
        sum += term;
        term *= 2.0 * x * x / (2 * n + 1) as f64;
    }
    1.0 - 2.0 / root_pi * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of the fifth order, away from kinks, closer together towards poles.
    #[test]
    fn gradients_are_those_of_the_functions() {
        let more = [Act::Pow(3.0), Act::Pow(-2.0), Act::Pow(0.0), Act::Pow(-0.5), Act::Celu(-0.7)];
        for (name, act) in Act::ALL.into_iter().chain(more.map(|act| ("more", act))) {
            for x in (-600..600).map(|i| f64::from(i) * 0.01 + 0.005) {
                let (f, h) = (|x: f64| act.apply(x), 1e-3 * x.abs().min(0.1));
                if f(x).is_nan() {
                    continue;
                }
                let want = (8.0 * (f(x + h) - f(x - h)) - (f(x + 2.0 * h) - f(x - 2.0 * h))) / (12.0 * h);
                let got = act.gradient(x);
                assert!((got - want).abs() <= 1e-8 * want.abs().max(1.0), "{name}'({x}) is {got}, not {want}");
            }
        }
    }

    #[test]
    fn codes_are_places_in_the_list() {
        for (place, (name, act)) in Act::ALL.into_iter().enumerate() {
            assert_eq!(act.code(), place as i32, "{name}");
        }
        assert_eq!(Act::RELU6.code(), Act::Clamp { lo: -1.0, hi: 1.0 }.code());
    }

    #[test]
    fn nan_stays_and_bounds_hold() {
        assert!(Act::ALL.iter().all(|(_, act)| act.apply(f64::NAN).is_nan()));
        assert_eq!(Act::Relu.apply(f64::INFINITY), f64::INFINITY);
        assert_eq!(Act::Clamp { lo: 2.0, hi: 1.0 }.apply(0.0), 1.0);
        for (x, want) in [(0.0, 1.0), (1.0, 0.157_299_207_050_285_13), (-1.0, 1.842_700_792_949_715)] {
            assert!((erfc(x) - want).abs() < 1e-15, "{x}");
        }
    }
}
