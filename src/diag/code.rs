//! The codes of archc's messages. Each has a page, `codes/NAME.md`, that `archc explain NAME` prints; its wrong and
//! right examples are run by a test.

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident $name:literal,)*) => {
        /// What kind of mistake a message is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $doc])* $variant,)* }

        impl Code {
            /// Every code, in the order of the manual.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// As it is printed: `shape-mismatch`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// One sentence.
            pub fn summary(self) -> &'static str {
                match self { $(Code::$variant => concat!($($doc),*),)* }
            }

            /// What it means and what to do, with a wrong and a right example, as Markdown.
            pub fn page(self) -> &'static str {
                match self { $(Code::$variant => include_str!(concat!("codes/", $name, ".md")),)* }
            }
        }
    };
}

codes! {
    /// The text is not of the language's grammar.
    Syntax "syntax",
    /// The file is not UTF-8.
    Encoding "encoding",
    /// A name that nothing here has.
    UnknownName "unknown-name",
    /// An argument that the op, block or verb does not take.
    UnknownArgument "unknown-argument",
    /// An argument without a default was left out.
    MissingArgument "missing-argument",
    /// A value of another type than is needed.
    TypeMismatch "type-mismatch",
    /// A value of the right type that cannot be meant.
    BadValue "bad-value",
    /// Overflow, division by zero, or an inexact division of integers.
    Arithmetic "arithmetic",
    /// A name, label or definition used twice.
    Duplicate "duplicate",
    /// A file named by `use` or `labels` cannot be read.
    File "file",
    /// Files that use each other in a circle.
    UseCycle "use-cycle",
    /// Too many layers, too many loop steps, or blocks nested too deep.
    Limit "limit",
    /// The spec has no base, or more than one.
    Base "base",
    /// Shapes that do not fit together.
    ShapeMismatch "shape-mismatch",
    /// A shape is asked for that is not known here.
    ShapeUnknown "shape-unknown",
    /// A dimension or a tensor beyond what archc accepts.
    TooLarge "too-large",
    /// A selector that matches nothing.
    NoMatch "no-match",
    /// `expect` names another number of places than were matched.
    ExpectCount "expect-count",
    /// A place with several ways in or out, where one is needed.
    SeveralWays "several-ways",
    /// Places of one edit that lie inside each other.
    Overlap "overlap",
    /// An edit that would make the network run in a circle.
    Cycle "cycle",
    /// An edit that cannot be made there.
    BadEdit "bad-edit",
    /// A layer with weights that reaches no output.
    Unreachable "unreachable",
    /// Maps of one pixel, of which a kernel sees nothing but padding around it.
    SmallMap "small-map",
    /// What one edit made, a later one takes away.
    Undone "undone",
    /// A weight file that cannot be read.
    WeightsFile "weights-file",
    /// Keys of the weight file that are missing, unexpected or of another shape.
    WeightsMismatch "weights-mismatch",
    /// A `map` or `ignore` line that does not work.
    WeightsMap "weights-map",
    /// Weights or a loss that are not finite.
    NonFinite "non-finite",
    /// A network of another program that cannot be imported.
    Import "import",
    /// A `train` block that cannot be meant.
    Train "train",
    /// An input that the network cannot take.
    Input "input",
    /// An output that cannot be written.
    Output "output",
    /// A device, memory or network that is not there.
    Resource "resource",
    /// A command line that cannot be meant.
    Usage "usage",
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
