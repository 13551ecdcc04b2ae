//! Functions of two numbers.

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `b - a`
    SubFrom,
    /// `a b`
    Mul,
    /// `a > 0 ? a : a b`, as `torch.nn.PReLU` (He et al. 2015).
    Prelu,
}

impl Binary {
    /// One of each, with the name by which CUDA code knows it.
    pub const ALL: [(&str, Binary); 5] = [
        ("Add", Binary::Add),
        ("Sub", Binary::Sub),
        ("SubFrom", Binary::SubFrom),
        ("Mul", Binary::Mul),
        ("Prelu", Binary::Prelu),
    ];

    /// Its place in [`Binary::ALL`].
    pub fn code(self) -> i32 {
        crate::place(&Binary::ALL, |other| *other == self)
    }

    /// The function's value.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::SubFrom => b - a,
            Binary::Prelu if a > 0.0 => a,
            Binary::Mul | Binary::Prelu => a * b,
        }
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
