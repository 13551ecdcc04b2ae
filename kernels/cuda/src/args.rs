//! What kernels take, declared once: `args!` makes a struct of Rust and the text of its twin in C++, `codes!` an enum.

use std::fmt::{Debug, Write};

/// The highest rank.
pub const RANK: usize = 8;

/// Structs that a kernel takes by value.
///
/// # Safety
/// Only for `repr(C)` structs of numbers, the same as the kernel's.
pub unsafe trait Args: Copy {
    /// As `cuLaunchKernel` wants it.
    fn pointer(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// What is declared in Rust and has a twin in C++.
pub trait Twin {
    /// The twin's declaration.
    fn declaration() -> String;
}

/// The type of a struct's field, in both languages.
pub trait Field {
    /// As Rust holds it: an address is a number.
    type Rust: Copy + Debug + Default + PartialEq;

    /// The field's declaration in C++.
    fn declare(name: &str) -> String;
}

/// What lies at an address.
pub trait Element {
    /// Its type in C++.
    const NAME: &'static str;
}

/// The variant's storage type, its `DTYPE`.
#[derive(Debug)]
pub enum Stored {}

/// The storage type that `copy` writes, its `TO`.
#[derive(Debug)]
pub enum To {}

/// How TMA reads a tensor; made by the device's driver.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TensorMap(pub [u64; 16]);

macro_rules! elements {
    ($($type:ty: $name:literal,)*) => {
        $(impl Element for $type {
            const NAME: &'static str = $name;
        })*
    };
}

elements! { Stored: "T", To: "TO", f32: "float", f64: "double", u32: "u32", }

impl<E: Element> Field for *const E {
    type Rust = u64;

    fn declare(name: &str) -> String {
        format!("const {}* {name}", E::NAME)
    }
}

impl<E: Element> Field for *mut E {
    type Rust = u64;

    fn declare(name: &str) -> String {
        format!("{}* {name}", E::NAME)
    }
}

impl<F: Field, const N: usize> Field for [F; N]
where
    [F::Rust; N]: Default,
{
    type Rust = [F::Rust; N];

    fn declare(name: &str) -> String {
        F::declare(&format!("{name}[{N}]"))
    }
}

/// Types that are the same on both sides.
macro_rules! fields {
    ($($type:ty: $name:expr,)*) => {
        $(impl $crate::Field for $type {
            type Rust = $type;

            fn declare(name: &str) -> String {
                format!("{} {name}", $name)
            }
        })*
    };
}

fields! { i32: "int", u32: "u32", f32: "float", f64: "double", TensorMap: "TensorMap", }

/// Declares an enum whose variants are the numbers from 0 on; the first is the default.
macro_rules! codes {
    ($(#[$meta:meta])* pub enum $name:ident {
        $(#[$first_meta:meta])* $first:ident,
        $($(#[$code_meta:meta])* $code:ident,)*
    }) => {
        $(#[$meta])*
        #[repr(i32)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            #[default]
            $(#[$first_meta])*
            $first,
            $($(#[$code_meta])* $code,)*
        }
        impl $crate::Twin for $name {
            fn declaration() -> String {
                let codes = [(stringify!($first), $name::$first as i64), $((stringify!($code), $name::$code as i64),)*];
                format!("enum class {} : int {{ {} }};\n", stringify!($name), $crate::args::list(&codes))
            }
        }
        fields! { $name: stringify!($name), }
    };
}

/// Declares what a file's kernels take, and `header`, the twins: what is used of other files, numbers that both sides know,
/// and structs, some with numbers of their own.
macro_rules! args {
    (
        $(use $($used:ty),+;)?
        $(const $const:ident: $const_type:ty = $value:expr;)*
        $(
            $(#[$meta:meta])*
            pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }
            $(impl $owner:ident { $($(#[$own_meta:meta])* const $own:ident: $own_type:ty = $own_value:expr;)* })?
        )*
    ) => {
        $(const $const: $const_type = $value;)*
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, PartialEq)]
            pub struct $name { $($(#[$field_meta])* pub $field: <$type as $crate::Field>::Rust,)* }
            // SAFETY: a repr(C) struct of numbers.
            unsafe impl $crate::Args for $name {}
            $(impl $owner { $($(#[$own_meta])* pub const $own: $own_type = $own_value;)* })?
            impl $crate::Twin for $name {
                fn declaration() -> String {
                    let own: &[(&str, i64)] = &[$($((stringify!($own), $own_value as i64),)*)?];
                    let fields = &[$((
                        stringify!($field),
                        <$type as $crate::Field>::declare(stringify!($field)),
                        std::mem::offset_of!($name, $field),
                    ),)*];
                    $crate::args::structure(stringify!($name), own, fields, size_of::<$name>())
                }
            }
            fields! { $name: stringify!($name), }
        )*

        /// The twins in C++.
        pub(super) fn header() -> String {
            let parts: &[String] = &[
                $($(<$used as $crate::Twin>::declaration(),)+)?
                $(format!("const int {} = {};\n", stringify!($const), $const as i64),)*
                $(<$name as $crate::Twin>::declaration(),)*
            ];
            parts.concat()
        }
    };
}

/// `A = 0, B = 1`
pub(super) fn list(numbers: &[(&str, i64)]) -> String {
    numbers.iter().map(|(name, number)| format!("{name} = {number}")).collect::<Vec<_>>().join(", ")
}

/// A struct of fields with declaration and offset, and the proof that it lies in memory as Rust's does.
pub(super) fn structure(name: &str, own: &[(&str, i64)], fields: &[(&str, String, usize)], size: usize) -> String {
    let mut text = format!("struct {name} {{\n");
    if !own.is_empty() {
        _ = writeln!(text, "    enum {{ {} }};", list(own));
    }
    for (_, declaration, _) in fields {
        _ = writeln!(text, "    {declaration};");
    }
    _ = writeln!(text, "}};\nstatic_assert(sizeof({name}) == {size}, \"as in Rust\");");
    for (field, _, offset) in fields {
        _ = writeln!(text, "static_assert(OFFSET({name}, {field}) == {offset}, \"as in Rust\");");
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::{RANK, Stored};

    codes! {
        pub enum Mode { Plain, Other, }
    }

    args! {
        use Mode;

        const THREADS: usize = 4 * 32;

        pub struct Some {
            x: *const Stored,
            floats: *mut f32,
            shape: [i32; RANK],
            mode: Mode,
            eps: f32,
        }
        impl Some {
            const LINE: usize = 16;
        }
    }

    #[test]
    fn what_rust_declares_has_a_twin() {
        let twin = "\
enum class Mode : int { Plain = 0, Other = 1 };
const int THREADS = 128;
struct Some {
    enum { LINE = 16 };
    const T* x;
    float* floats;
    int shape[8];
    Mode mode;
    float eps;
};
static_assert(sizeof(Some) == 56, \"as in Rust\");
static_assert(OFFSET(Some, x) == 0, \"as in Rust\");
static_assert(OFFSET(Some, floats) == 8, \"as in Rust\");
static_assert(OFFSET(Some, shape) == 16, \"as in Rust\");
static_assert(OFFSET(Some, mode) == 48, \"as in Rust\");
static_assert(OFFSET(Some, eps) == 52, \"as in Rust\");
";
        assert_eq!(header(), twin);
        assert_eq!([Mode::Plain, Mode::Other].map(|mode| mode as i32), [0, 1]);
        assert_eq!((size_of::<Some>(), Some::LINE, THREADS), (56, 16, 128));
    }
}
