//! Functions of two numbers.

use crate::formula::{choose, max, min};

/// Declares the functions, each with its [formula](crate::formula).
macro_rules! binaries {
    ($($(#[$doc:meta])* $Name:ident ($a:ident, $b:ident) = $value:expr,)*) => {
        /// A function of two numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Binary { $($(#[$doc])* $Name,)* }

        impl Binary {
            /// One of each, with the name by which CUDA code knows it.
            pub const ALL: &[(&str, Binary)] = &[$((stringify!($Name), Binary::$Name),)*];

            /// The function's value.
            pub fn apply(self, a: f64, b: f64) -> f64 {
                match self {
                    $(Binary::$Name => {
                        let ($a, $b) = (a, b);
                        $value
                    })*
                }
            }

            /// The value of `a` and `b` as a text of C++ but for the precision.
            pub fn formula(self) -> &'static str {
                match self {
                    $(Binary::$Name => stringify!($value),)*
                }
            }
        }
    };
}

binaries! {
    Add(a, b) = a + b,
    Sub(a, b) = a - b,
    SubFrom(a, b) = b - a,
    Mul(a, b) = a * b,
    Div(a, b) = a / b,
    DivFrom(a, b) = b / a,
    /// NaN where either is, as `torch.maximum`.
    Max(a, b) = max(a, b),
    /// NaN where either is, as `torch.minimum`.
    Min(a, b) = min(a, b),
    /// The share of `a` in the gradient of the larger one: equal ones have half each, as in PyTorch.
    Above(a, b) = choose(a > b, 1.0, choose(a == b, 0.5, 0.0)),
    /// The same of the smaller one.
    Below(a, b) = choose(a < b, 1.0, choose(a == b, 0.5, 0.0)),
    /// As `torch.nn.PReLU` with slope `b` (He et al. 2015).
    Prelu(a, b) = choose(a > 0.0, a, a * b),
}

impl Binary {
    /// Its place in [`Binary::ALL`].
    pub fn code(self) -> i32 {
        crate::place(Binary::ALL, |other| *other == self)
    }

    /// The function that gives the same of its operands in the other order, if there is one.
    pub fn swapped(self) -> Option<Binary> {
        match self {
            Binary::Add | Binary::Mul | Binary::Max | Binary::Min => Some(self),
            Binary::Sub => Some(Binary::SubFrom),
            Binary::SubFrom => Some(Binary::Sub),
            Binary::Div => Some(Binary::DivFrom),
            Binary::DivFrom => Some(Binary::Div),
            Binary::Above => Some(Binary::Below),
            Binary::Below => Some(Binary::Above),
            Binary::Prelu => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_operands() {
        for (name, binary) in Binary::ALL {
            let Some(swapped) = binary.swapped() else { continue };
            assert_eq!(binary.apply(3.0, 7.0), swapped.apply(7.0, 3.0), "{name}");
        }
    }
}
