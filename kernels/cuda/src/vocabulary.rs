//! The vocabulary of `archc-base` in C++: an enum for each concept, made of its list, so that a code means the same on both
//! sides.

use std::marker::PhantomData;

use super::args::list;
use super::{Field, Twin};

/// A concept whose values have codes.
pub trait Coded: 'static + Sized {
    /// The enum in C++.
    const NAME: &'static str;

    /// The names of its values, each at the place of its code.
    fn names() -> Vec<&'static str>;
}

/// The type of a field that is the code of a value; Rust holds the number.
#[derive(Debug)]
pub struct Code<T>(PhantomData<T>);

impl<T: Coded> Field for Code<T> {
    type Rust = i32;

    fn declare(name: &str) -> String {
        format!("{} {name}", T::NAME)
    }
}

impl<T: Coded> Twin for Code<T> {
    fn declaration() -> String {
        let names = T::names();
        let codes: Vec<(&str, i64)> = names.into_iter().zip(0..).collect();
        format!("enum class {} : int {{ {} }};\n", T::NAME, list(&codes))
    }
}

macro_rules! coded {
    ($($concept:ident $name:literal,)*) => {
        $(impl Coded for archc_base::$concept {
            const NAME: &'static str = $name;

            fn names() -> Vec<&'static str> {
                archc_base::$concept::ALL.iter().map(|(name, _)| *name).collect()
            }
        })*
    };
}

coded! {
    Act "ActCode",
    Binary "BinaryOp",
    Loss "LossKind",
    Pool "PoolMode",
    Reduce "ReduceOp",
    Resample "ResizeMode",
    Rule "UpdateRule",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concept_has_an_enum() {
        assert_eq!(Code::<archc_base::Reduce>::declaration(), "enum class ReduceOp : int { Mean = 0, Max = 1 };\n");
        assert_eq!(Code::<archc_base::Reduce>::declare("op"), "ReduceOp op");
    }
}
