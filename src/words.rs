//! How the words of a `train` block are declared: an enum for a word, a variant for each choice, with its arguments, their
//! ranges and defaults, and a sentence. Messages, the manual and the reading into typed values come from that one
//! declaration, so that nothing matches on a name afterwards. Knows neither the language nor what a choice does.

use std::fmt;

/// One choice of a word, `sgd(lr = 0.001, ..)`.
#[derive(Debug)]
pub struct Call {
    pub name: &'static str,
    /// In the order of [`Choices::read`].
    pub args: &'static [Arg],
    /// One sentence for the manual.
    pub doc: &'static str,
}

#[derive(Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: Kind,
    /// None where it must be given.
    pub default: Option<fn() -> Setting>,
}

/// The type and range of a value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A float from `min` to `max`, both included; a whole number is one too.
    Float {
        min: f64,
        max: f64,
    },
    /// Floats from 0 up to, not including, 1.
    Fraction,
    /// As `Float`, above 0.
    Positive,
    Int {
        min: i64,
        max: i64,
    },
    Bool,
    /// A text that names a file or folder.
    Path,
    /// The name of one of these, which have no arguments.
    Word(&'static [Call]),
    /// Two floats from `min` to `max`, the first no larger than the second.
    Range {
        min: f64,
        max: f64,
    },
    /// Two floats from 0 up to, not including, 1.
    Fractions,
}

/// A value that its kind was checked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    Float(f64),
    Int(i64),
    Bool(bool),
    Path(String),
    Word(&'static str),
    Floats((f64, f64)),
}

/// A type with the choices of a word; [`choices!`] implements it.
pub trait Choices: Sized {
    const CALLS: &'static [Call];
    /// The choice of this name with a value for each of its arguments, in their order; None where they do not fit.
    fn read(name: &str, args: Vec<Setting>) -> Option<Self>;
    fn name(&self) -> &'static str;

    /// The choice of this name with its defaults; None where there is none, or an argument must be given.
    fn named(name: &str) -> Option<Self> {
        let call = Self::CALLS.iter().find(|call| call.name == name)?;
        let defaults = call.args.iter().map(|arg| Some(arg.default?()));
        Self::read(name, defaults.collect::<Option<_>>()?)
    }
}

/// A type that an argument may have.
pub trait Argument: Sized {
    /// Where the declaration says no other.
    const KIND: Kind;
    /// None for a value of another type.
    fn read(setting: Setting) -> Option<Self>;
    fn setting(self) -> Setting;
}

/// Any float that is not negative.
pub const ANY: Kind = Kind::Float { min: 0.0, max: f64::MAX };
pub const CHANCE: Kind = Kind::Float { min: 0.0, max: 1.0 };
pub const COUNT: Kind = Kind::Int { min: 1, max: i64::MAX };

/// Declares an enum of choices: `Sgd = "sgd" { lr: f64 = 1e-3, nesterov: bool = false }`. An argument's range stands in
/// brackets behind its type where it is not the type's own; an argument without a default must be given.
macro_rules! choices {
    ($(#[$meta:meta])* pub enum $Name:ident { $(
        $(#[doc = $doc:literal])* $Variant:ident = $name:literal
        $({ $($arg:ident : $ty:ty $([$kind:expr])? $(= $default:expr)?),* $(,)? })?
    ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $Name { $($(#[doc = $doc])* $Variant $({ $($arg: $ty),* })?),* }

        impl $crate::words::Choices for $Name {
            const CALLS: &'static [$crate::words::Call] = &[$($crate::words::Call {
                name: $name,
                args: &[$($($crate::words::Arg {
                    name: stringify!($arg),
                    kind: $crate::words::choices!(@kind $ty $(, $kind)?),
                    default: $crate::words::choices!(@default $ty $(, $default)?),
                }),*)?],
                doc: concat!($($doc),*).trim_ascii(),
            }),*];

            #[allow(unused_mut, unused_variables, reason = "a choice may have no arguments")]
            fn read(name: &str, args: Vec<$crate::words::Setting>) -> Option<$Name> {
                let mut args = args.into_iter();
                match name {
                    $($name => Some($Name::$Variant $({ $($arg: $crate::words::Argument::read(args.next()?)?),* })?),)*
                    _ => None,
                }
            }

            fn name(&self) -> &'static str {
                match self { $($Name::$Variant { .. } => $name),* }
            }
        }
    };
    (@kind $ty:ty) => { <$ty as $crate::words::Argument>::KIND };
    (@kind $ty:ty, $kind:expr) => { $kind };
    (@default $ty:ty) => { None };
    (@default $ty:ty, $default:expr) => { Some(|| <$ty as $crate::words::Argument>::setting($default)) };
}
pub(crate) use choices;

macro_rules! arguments {
    ($($ty:ty: $Setting:ident = $kind:expr;)*) => {
        $(impl Argument for $ty {
            const KIND: Kind = $kind;

            fn read(setting: Setting) -> Option<$ty> {
                if let Setting::$Setting(value) = setting { value.try_into().ok() } else { None }
            }

            fn setting(self) -> Setting {
                Setting::$Setting(self.try_into().expect("a default is no huge number"))
            }
        })*
    };
}

arguments! {
    f64: Float = ANY;
    usize: Int = COUNT;
    u64: Int = Kind::Int { min: 0, max: i64::MAX };
    bool: Bool = Kind::Bool;
    String: Path = Kind::Path;
    (f64, f64): Floats = Kind::Fractions;
}

impl<T: Choices> Argument for T {
    const KIND: Kind = Kind::Word(T::CALLS);

    fn read(setting: Setting) -> Option<T> {
        if let Setting::Word(name) = setting { T::named(name) } else { None }
    }

    fn setting(self) -> Setting {
        Setting::Word(self.name())
    }
}

impl Kind {
    /// As messages name it: `a float from 0 to 1`.
    pub fn describe(self) -> String {
        match self {
            Kind::Float { min, max } if max == f64::MAX => format!("a float of {min} or more"),
            Kind::Float { min, max } => format!("a float from {min} to {max}"),
            Kind::Fraction => "a float of 0 or more and less than 1".into(),
            Kind::Positive => "a float above 0".into(),
            Kind::Int { min, max } if max == i64::MAX => format!("an integer of {min} or more"),
            Kind::Int { min, max } => format!("an integer from {min} to {max}"),
            Kind::Bool => "`true` or `false`".into(),
            Kind::Path => "a text".into(),
            Kind::Word(calls) => calls.iter().map(|call| format!("`{}`", call.name)).collect::<Vec<_>>().join(" or "),
            Kind::Range { min, max } if max == f64::MAX => format!("two floats of {min} or more, the smaller first"),
            Kind::Range { min, max } => format!("two floats from {min} to {max}, the smaller first"),
            Kind::Fractions => "two floats of 0 or more and less than 1".into(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Float(value) => write!(f, "{value}"),
            Setting::Int(value) => write!(f, "{value}"),
            Setting::Bool(value) => write!(f, "{value}"),
            Setting::Path(path) => write!(f, "\"{path}\""),
            Setting::Word(word) => f.write_str(word),
            Setting::Floats((first, second)) => {
                let short = |value: &f64| format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_string();
                write!(f, "[{}, {}]", short(first), short(second))
            }
        }
    }
}
