//! Functions of two numbers.

use crate::formula::choose;

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
            Binary::Add | Binary::Mul => Some(self),
            Binary::Sub => Some(Binary::SubFrom),
            Binary::SubFrom => Some(Binary::Sub),
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
