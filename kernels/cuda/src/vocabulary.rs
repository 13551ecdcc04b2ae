//! The vocabulary of `archc-base` in C++: an enum for each concept, made of its list, so that a code means the same on both
//! sides; and a function for the formulas of each that has them.

use std::fmt::Write;
use std::marker::PhantomData;

use archc_base::{Binary, Loss, ValueLoss};

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

/// `combine(op, a, b)`
impl Twin for Binary {
    fn declaration() -> String {
        let mut text = String::from("DEV float combine(BinaryOp op, float a, float b) {\n    switch (op) {\n");
        for (name, binary) in Binary::ALL {
            _ = writeln!(text, "    case BinaryOp::{name}: return {};", in_float32(binary.formula()));
        }
        text + "    }\n    return NO_NUMBER;\n}\n"
    }
}

/// `value_of(kind, parameter, output, target, gradient)`, which leaves the gradient by the output as well.
impl Twin for ValueLoss {
    fn declaration() -> String {
        let mut text = String::from(
            "DEV float value_of(LossKind kind, float parameter, float output, float target, float& gradient) {\n    switch (kind) {\n",
        );
        for (name, loss) in Loss::ALL {
            let Loss::OfValues(loss) = loss else {
                _ = writeln!(text, "    case LossKind::{name}: break;");
                continue;
            };
            let formulas = loss.formulas();
            let [z, t] = formulas.variables;
            let parameter = formulas.parameter.map_or(String::new(), |name| format!(", {name} = parameter"));
            let [value, gradient] = [formulas.value, formulas.gradient].map(in_float32);
            _ = writeln!(text, "    case LossKind::{name}: {{");
            _ = writeln!(text, "        const float {z} = output, {t} = target{parameter};");
            _ = writeln!(text, "        gradient = {gradient};\n        return {value};\n    }}");
        }
        text + "    }\n    gradient = NO_NUMBER;\n    return NO_NUMBER;\n}\n"
    }
}

/// A formula of `archc-base` in the words of C++: its numbers are float32, and so are the functions that it calls.
fn in_float32(formula: &str) -> String {
    let (mut text, mut rest) = (String::new(), formula);
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|letter| is_part(letter) != is_part(first)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        text += match word {
            "abs" => "fabsf",
            "exp" => "expf",
            "log1p" => "log1pf",
            "max" => "larger",
            "min" => "smaller",
            _ => word,
        };
        text += if first.is_ascii_digit() { "f" } else { "" };
        rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_in_float32() {
        assert_eq!(in_float32("max(z_1, 0.0) - 2.0 * log1p(z)"), "larger(z_1, 0.0f) - 2.0f * log1pf(z)");
        let text = ValueLoss::declaration();
        assert!(text.contains("        gradient = 2.0f * (z - t);\n        return (z - t) * (z - t);\n"), "{text}");
        assert!(text.contains("const float z = output, t = target, delta = parameter;"), "{text}");
    }

    #[test]
    fn a_concept_has_an_enum() {
        assert_eq!(
            Code::<archc_base::Reduce>::declaration(),
            "enum class ReduceOp : int { Mean = 0, Sum = 1, Max = 2 };\n"
        );
        assert_eq!(Code::<archc_base::Reduce>::declare("op"), "ReduceOp op");
    }
}
