//! The lines of a `train` block, each declared once: its field in [`TrainSpec`], what may follow its word, what stands where it
//! is left out, and a sentence for the manual. Knows nothing of how any of it runs.

use super::loss::Loss;
use super::optimizer::Optimizer;
use super::schedule::Schedule;
use crate::data::DataSource;
use crate::data::augment::Augment;
use crate::graph::NodeId;
use crate::source::Span;
use crate::syntax::tree::Spanned;
use crate::words::{ANY, Argument, COUNT, Call, Choices, Kind, Setting, choices};

/// One word: `optimizer sgd(lr = 0.01)`, `epochs 5`.
pub struct Word {
    pub name: &'static str,
    pub takes: Takes,
    /// One sentence for the manual.
    pub doc: &'static str,
    /// Puts what was read into the word's field; false where it is of another type.
    pub(super) put: fn(&mut Draft, Said) -> bool,
}

/// What follows a word.
pub enum Takes {
    /// One of these, called with arguments. Without a default the word must be there.
    One { of: &'static [Call], default: Option<&'static str> },
    /// Any number of these, applied in the order written; none is the default.
    Many(&'static [Call]),
    /// A value.
    Value { kind: Kind, default: Setting },
}

/// The values that were read behind a word.
pub(super) enum Said {
    One(Chosen),
    Many(Vec<Chosen>),
    Value(Setting),
}

/// `sgd(lr = 0.01)` with every argument.
pub(super) struct Chosen {
    pub name: &'static str,
    pub args: Vec<Setting>,
    pub span: Span,
}

/// A type that a line's field may have.
trait Field: Sized {
    /// None where the line says something of another type.
    fn read(said: Said) -> Option<Self>;
}

impl<T: Choices> Field for Spanned<T> {
    fn read(said: Said) -> Option<Spanned<T>> {
        let Said::One(Chosen { name, args, span }) = said else { return None };
        Some(Spanned { value: T::read(name, args)?, span })
    }
}

impl<T: Choices> Field for Vec<T> {
    fn read(said: Said) -> Option<Vec<T>> {
        let Said::Many(choices) = said else { return None };
        choices.into_iter().map(|Chosen { name, args, .. }| T::read(name, args)).collect()
    }
}

impl<T: Argument> Field for T {
    fn read(said: Said) -> Option<T> {
        if let Said::Value(setting) = said { T::read(setting) } else { None }
    }
}

macro_rules! lines {
    ($($(#[doc = $doc:literal])* $word:ident: $ty:ty = $takes:expr;)*) => {
        /// A checked `train` block, complete with defaults.
        #[derive(Clone, Debug)]
        pub struct TrainSpec {
            $($(#[doc = $doc])* pub $word: $ty,)*
            pub(super) factors: Vec<(NodeId, f64)>,
            pub(super) unfreezes: Vec<(NodeId, usize)>,
        }

        /// A block of which some lines are read.
        #[derive(Default)]
        pub(super) struct Draft {
            $(pub $word: Option<$ty>,)*
            pub factors: Vec<(NodeId, f64)>,
            pub unfreezes: Vec<(NodeId, usize)>,
        }

        impl Draft {
            /// The whole; None where a line is missing.
            pub fn finish(self) -> Option<TrainSpec> {
                Some(TrainSpec { $($word: self.$word?,)* factors: self.factors, unfreezes: self.unfreezes })
            }
        }

        /// Every word but `lr` and `unfreeze`, which take a selector.
        pub static WORDS: &[Word] = &[$(Word {
            name: stringify!($word),
            takes: $takes,
            doc: concat!($($doc),*).trim_ascii(),
            put: |draft, said| {
                draft.$word = Field::read(said);
                draft.$word.is_some()
            },
        }),*];
    };
}

lines! {
    /// what is learned from
    data: Spanned<DataSource> = one::<DataSource>(None);
    /// what is made small
    loss: Spanned<Loss> = one::<Loss>(None);
    /// how a gradient changes a tensor
    optimizer: Spanned<Optimizer> = one::<Optimizer>(Some("sgd"));
    /// how the rate changes over the epochs; `warmup` epochs lead linearly up to it
    schedule: Spanned<Schedule> = one::<Schedule>(Some("constant"));
    /// how often all data is seen
    epochs: usize = Takes::Value { kind: Kind::Int { min: 1, max: 1_000_000 }, default: Setting::Int(1) };
    /// samples a step
    batch: usize = Takes::Value { kind: Kind::Int { min: 1, max: 65_536 }, default: Setting::Int(32) };
    /// random changes of the training pictures, in the order written
    augment: Vec<Augment> = Takes::Many(Augment::CALLS);
    /// whether the run ends early; an epoch is better with more right answers, or as many and a smaller loss
    early_stopping: Spanned<EarlyStopping> = one::<EarlyStopping>(Some("off"));
    /// steps whose gradients are averaged for an update
    accumulate: u64 = Takes::Value { kind: Kind::Int { min: 1, max: 65_536 }, default: Setting::Int(1) };
    /// the most that the norm of all gradients may be; 0 for no limit
    clip: f64 = Takes::Value { kind: ANY, default: Setting::Float(0.0) };
    /// how much of the exponential moving average of the weights an update keeps; what is evaluated and written is the
    /// average; 0 for none
    average: f64 = Takes::Value { kind: Kind::Fraction, default: Setting::Float(0.0) };
    /// what every draw is keyed by
    seed: u64 = Takes::Value { kind: Kind::Int { min: 0, max: i64::MAX }, default: Setting::Int(0) };
}

/// The choice `name` of a word.
pub fn call(word: &str, name: &str) -> Option<&'static Call> {
    let (Takes::One { of, .. } | Takes::Many(of)) = WORDS.iter().find(|one| one.name == word)?.takes else {
        return None;
    };
    of.iter().find(|call| call.name == name)
}

const fn one<T: Choices>(default: Option<&'static str>) -> Takes {
    Takes::One { of: T::CALLS, default }
}

choices! {
    /// When a run ends before its last epoch.
    #[derive(Copy)]
    pub enum EarlyStopping {
        /// all epochs are run
        Off = "off",
        /// ends after so many epochs without a better one
        Patience = "patience" { epochs: usize[COUNT] },
    }
}

impl TrainSpec {
    /// The learning rate's factor for the tensors of a layer.
    pub fn factor(&self, id: NodeId) -> f64 {
        self.factors.iter().find(|(other, _)| *other == id).map_or(1.0, |(_, factor)| *factor)
    }

    /// The frozen layers that learn after so many epochs.
    pub fn unfreezes(&self) -> &[(NodeId, usize)] {
        &self.unfreezes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every choice of the tables, with what stands for arguments that must be given, is read into its field.
    #[test]
    fn kinds_are_those_of_the_types() {
        let value = |arg: &crate::words::Arg| match (arg.default, arg.kind) {
            (Some(default), _) => default(),
            (None, Kind::Path) => Setting::Path("data".into()),
            (None, Kind::Int { min, .. }) => Setting::Int(min),
            (None, _) => Setting::Float(1.0),
        };
        let span = Span::new(crate::source::Sources::new().add("a", "", None), 0, 0);
        let chosen = |call: &Call| Chosen { name: call.name, args: call.args.iter().map(value).collect(), span };
        for word in WORDS {
            let said: Vec<Said> = match &word.takes {
                Takes::One { of, default } => {
                    assert!(default.is_none_or(|name| of.iter().any(|call| call.name == name)), "{}", word.name);
                    of.iter().map(|call| Said::One(chosen(call))).collect()
                }
                Takes::Many(of) => vec![Said::Many(of.iter().map(chosen).collect())],
                Takes::Value { default, .. } => vec![Said::Value(default.clone())],
            };
            for said in said {
                assert!((word.put)(&mut Draft::default(), said), "{}", word.name);
            }
        }
    }
}
