//! The ops of the language: one declaration each says its name, arguments and docs; one `impl Operation` its shapes,
//! parameters, cost and meaning. A new op is a struct in a family's file and its line in the list at the end of this
//! one. Passes ask questions ([`Op::activation`]) instead of matching over all ops.
//!
//! Ops know nothing of graphs, files or backends. Their formulas are PyTorch's; [`Operation::eval`] is the plain
//! reference that every backend is tested against.

pub mod attr;
pub mod init;
pub mod shape;

pub mod activation;
pub mod aten;
pub mod attention;
pub mod constant;
pub mod conv;
pub mod dropout;
mod eval;
pub mod join;
pub mod layout;
pub mod linear;
pub mod norm;
pub mod pool;
pub mod recurrent;
pub mod reduce;
pub mod resample;
pub mod unfold;
pub mod window;

use crate::diag::{Code, Problem};
use crate::tensor::Tensor;
use archc_base::Act;
use attr::{Arg, ArgDecl, ArgProblem, Attr, FromAttr, Positional};
use dropout::Drops;
use init::Init;
use shape::Shape;

/// A tensor that belongs to a layer, by its key after the layer's path (`weight`, `out_proj.weight`).
#[derive(Clone, Debug, PartialEq)]
pub struct ParamDecl {
    /// Empty where the layer's path is the key (`parameter`).
    pub name: &'static str,
    pub shape: Vec<usize>,
    pub init: Init,
    pub role: Role,
    /// Whether a file that is written has it: all but what PyTorch computes anew.
    pub is_exported: bool,
}

/// What a tensor of a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Learned.
    Weight,
    /// A running statistic: kept with the weights, not learned, required in a weight file.
    Statistic,
    /// Can be computed (`num_batches_tracked`, `window_index`): carried where a file has it, required nowhere.
    Computed,
}

impl ParamDecl {
    pub fn weight(name: &'static str, shape: impl Into<Vec<usize>>, init: Init) -> ParamDecl {
        ParamDecl { name, shape: shape.into(), init, role: Role::Weight, is_exported: true }
    }
}

/// How many operands an op takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    Exactly(usize),
    AtLeast(usize),
    /// So many at least and at most: the last ones may be left out.
    Between(usize, usize),
}

impl Arity {
    /// So many at least.
    pub fn least(self) -> usize {
        let (Arity::Exactly(n) | Arity::AtLeast(n) | Arity::Between(n, _)) = self;
        n
    }

    /// Whether it is `count`.
    pub fn fits(self, count: usize) -> bool {
        match self {
            Arity::Exactly(n) => count == n,
            Arity::AtLeast(n) => count >= n,
            Arity::Between(least, most) => (least..=most).contains(&count),
        }
    }
}

impl std::fmt::Display for Arity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Arity::Exactly(n) => write!(f, "{n}"),
            Arity::AtLeast(n) => write!(f, "{n} or more"),
            Arity::Between(least, most) => write!(f, "{least} to {most}"),
        }
    }
}

/// An operand of [`Operation::eval`]: its value, and whether axis 0 is the batch.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    pub value: &'a Tensor,
    pub batched: bool,
}

impl Operand<'_> {
    /// The value's shape.
    pub fn shape(&self) -> Shape {
        Shape { batched: self.batched, dims: self.value.shape()[usize::from(self.batched)..].to_vec() }
    }
}

/// What `op!` makes of an op's declaration.
pub trait Declared: Sized {
    /// As it is written.
    const NAME: &'static str;
    /// The manual, in Markdown.
    const DOC: &'static str;
    /// The operators of PyTorch that it is, without `aten::`; see [`aten`].
    const ATEN: &'static [&'static str];
    const POSITIONAL: Positional;
    const ARGS: &'static [ArgDecl];
    fn from_args(args: &[Arg]) -> Result<Self, ArgProblem>;
    /// Every argument with its value, in the order of [`Declared::ARGS`].
    fn attrs(&self) -> Vec<(&'static str, Attr)>;
}

/// What an op means.
pub trait Operation {
    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    /// Refuses arguments that cannot be meant together.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// The output's shape. The number of operands already fits [`Operation::arity`].
    fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem>;

    /// The layer's tensors, in the order of PyTorch's `state_dict`. Only called where `infer` succeeded.
    fn params(&self, _ins: &[&Shape]) -> Vec<ParamDecl> {
        vec![]
    }

    /// Multiply-adds a sample, as torchvision counts them (convolutions, linears, matmuls).
    fn macs(&self, _ins: &[&Shape], _out: &Shape) -> u64 {
        0
    }

    /// The function that the op applies to each value, where it does only that.
    fn activation(&self) -> Option<Act> {
        None
    }

    /// How the op zeroes values at random, where it does only that: in training, and in eval mode nothing unless it always
    /// does. [`Operation::eval`] is what it does where nothing is drawn.
    fn drops(&self) -> Option<Drops> {
        None
    }

    /// Whether what the op gives in training is drawn.
    fn is_random(&self) -> bool {
        self.drops().is_some()
    }

    /// Whether each value of the result is made of the values at the same place of the broadcast operands alone.
    fn is_elementwise(&self) -> bool {
        self.activation().is_some() || self.is_random()
    }

    /// The plain reference in eval mode: loops, sums in float64. `params` are those of [`Operation::params`], in order;
    /// `out` is the concrete output shape.
    fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor;
}

/// Declares an op: `op! { /// docs .. pub struct Conv2d = "conv2d", First, aten ["conv2d"] { /// docs .. out: usize, stride: Pair = "1" } }`.
/// A default is written as in the language.
macro_rules! op {
    ($(#[doc = $doc:literal])* pub struct $Name:ident = $name:literal, $positional:ident, aten [$($aten:literal),*] {
        $($(#[doc = $arg_doc:literal])* $field:ident : $ty:ty $(= $default:literal)?),* $(,)?
    }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name { $($(#[doc = $arg_doc])* pub $field: $ty),* }

        impl $crate::ops::Declared for $Name {
            const NAME: &'static str = $name;
            const DOC: &'static str = concat!($($doc, "\n"),*);
            const ATEN: &'static [&'static str] = &[$($aten),*];
            const POSITIONAL: $crate::ops::attr::Positional = $crate::ops::attr::Positional::$positional;
            const ARGS: &'static [$crate::ops::attr::ArgDecl] = &[$($crate::ops::attr::ArgDecl {
                name: stringify!($field),
                doc: concat!($($arg_doc),*).trim_ascii(),
                kind: <$ty as $crate::ops::attr::FromAttr>::KIND,
                default: $crate::ops::op!(@default $($default)?),
            }),*];

            #[allow(unused_mut, unused_variables, reason = "a type may have no fields")]
            fn from_args(args: &[$crate::ops::attr::Arg]) -> Result<$Name, $crate::ops::attr::ArgProblem> {
                let mut reader = $crate::ops::attr::ArgReader::new($name, Self::ARGS, Self::POSITIONAL, args)?;
                Ok($Name { $($field: reader.take(stringify!($field), $crate::ops::op!(@value $ty $(, $default)?))?),* })
            }

            fn attrs(&self) -> Vec<(&'static str, $crate::ops::attr::Attr)> {
                vec![$((stringify!($field), $crate::ops::attr::FromAttr::to_attr(&self.$field))),*]
            }
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@value $ty:ty) => { None };
    (@value $ty:ty, $default:literal) => { Some($crate::ops::default_value::<$ty>($default)) };
}
pub(crate) use op;

/// The value that a declaration's default text stands for.
pub(crate) fn default_value<T: FromAttr>(text: &str) -> T {
    let word = |text: &str| match text.trim() {
        "none" => Attr::None,
        "true" => Attr::Bool(true),
        "false" => Attr::Bool(false),
        text => match (text.parse(), text.parse()) {
            (Ok(int), _) => Attr::Int(int),
            (_, Ok(float)) => Attr::Float(float),
            _ => Attr::Word(text.into()),
        },
    };
    let attr = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(list) => Attr::List(list.split(',').map(word).collect()),
        None => word(text),
    };
    T::from_attr(&attr).expect("a declared default has the argument's type")
}

/// One line an op: its module and its struct.
macro_rules! ops {
    ($($module:ident :: $Name:ident,)*) => {
        /// An op with its arguments.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op { $($Name($module::$Name)),* }

        $(impl From<$module::$Name> for Op {
            fn from(op: $module::$Name) -> Op {
                Op::$Name(op)
            }
        })*

        /// What the manual says of every op, in the order of the list.
        pub static MANUAL: &[Entry] = &[$(Entry {
            name: <$module::$Name as Declared>::NAME,
            doc: <$module::$Name as Declared>::DOC,
            aten: <$module::$Name as Declared>::ATEN,
            args: <$module::$Name as Declared>::ARGS,
            positional: <$module::$Name as Declared>::POSITIONAL,
            make: |args| {
                let op = <$module::$Name as Declared>::from_args(args)?;
                Operation::check(&op)?;
                Ok(Op::$Name(op))
            },
        }),*];

        impl Op {
            pub fn name(&self) -> &'static str {
                match self { $(Op::$Name(_) => <$module::$Name as Declared>::NAME),* }
            }

            /// Every argument with its value, as declared.
            pub fn attrs(&self) -> Vec<(&'static str, Attr)> {
                match self { $(Op::$Name(op) => op.attrs()),* }
            }

            fn operation(&self) -> &dyn Operation {
                match self { $(Op::$Name(op) => op),* }
            }
        }
    };
}

/// An op in the manual, and how a call of it becomes an [`Op`].
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    pub doc: &'static str,
    /// The operators of PyTorch that it is, without `aten::`.
    pub aten: &'static [&'static str],
    pub args: &'static [ArgDecl],
    pub positional: Positional,
    pub make: fn(&[Arg]) -> Result<Op, ArgProblem>,
}

/// Ops that take nothing and make a value without a batch.
pub fn makes_constant(name: &str) -> bool {
    matches!(name, "parameter" | "buffer" | "constant" | "window_index" | "window_coords" | "window_mask")
}

/// The manual's entry of the op `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    MANUAL.iter().find(|entry| entry.name == name)
}

/// What others call an op.
pub const OTHER_NAMES: &[(&str, &str)] = &[
    ("dense", "linear"),
    ("fc", "linear"),
    ("fully_connected", "linear"),
    ("conv", "conv2d"),
    ("bn", "batch_norm2d"),
    ("view", "reshape"),
    ("swish", "silu"),
    ("cat", "concat"),
    ("interpolate", "upsample"),
    ("global_avg_pool", "global_avg_pool2d"),
    ("gap", "global_avg_pool2d"),
];

/// Ops that take their operands in the call (`concat(a, b)`) instead of from the chain.
pub const OPERAND_OPS: &[&str] = &[
    "add",
    "mul",
    "sub",
    "div",
    "maximum",
    "minimum",
    "concat",
    "matmul",
    "gather",
    "linear_with",
    "conv2d_with",
    "attention",
    "lstm_scan",
];

impl Op {
    /// The function that the op applies to each value, where it does only that: what a backend fuses.
    pub fn activation(&self) -> Option<Act> {
        self.operation().activation()
    }

    /// Whether what the op gives in training is drawn: dropouts, stochastic depth, attention with dropout.
    pub fn is_random(&self) -> bool {
        self.operation().is_random()
    }

    /// How the op zeroes values at random, where it does only that: dropouts and stochastic depth.
    pub fn drops(&self) -> Option<Drops> {
        self.operation().drops()
    }

    /// Whether what the op gives is drawn in eval mode too.
    pub fn draws_always(&self) -> bool {
        self.drops().is_some_and(|drops| drops.always && drops.p > 0.0)
    }

    /// Whether each value of the result is made of the values at the same place of the broadcast operands alone, and so
    /// does not depend on the layout.
    pub fn is_elementwise(&self) -> bool {
        self.operation().is_elementwise()
    }

    /// The value of one argument.
    pub fn attr(&self, name: &str) -> Option<Attr> {
        self.attrs().into_iter().find(|(attr, _)| *attr == name).map(|(_, value)| value)
    }

    /// The same op with some arguments changed, as `set` does.
    pub fn with_attrs(&self, changes: &[Arg]) -> Result<Op, ArgProblem> {
        let entry = find(self.name()).expect("every op is in the manual");
        let unknown =
            changes.iter().position(|change| !entry.args.iter().any(|decl| Some(decl.name) == change.name.as_deref()));
        if let Some(arg) = unknown {
            // the reader words the error; positions are those of `changes`
            let problem = (entry.make)(&changes[arg..=arg]).expect_err("the argument is unknown").problem;
            return Err(ArgProblem { problem, arg: Some(arg), within: vec![] });
        }
        let is_changed = |name: &str| changes.iter().any(|change| change.name.as_deref() == Some(name));
        // a norm that has no weight any more fills none
        let is_bare = changes.iter().any(|c| c.name.as_deref() == Some("affine") && c.value == Attr::Bool(false));
        let is_replaced = |name: &str| is_changed(name) || is_bare && name == "init";
        let kept = self.attrs().into_iter().filter(|(name, _)| !is_replaced(name));
        let mut args: Vec<Arg> = changes.to_vec();
        args.extend(kept.map(|(name, value)| Arg { name: Some(name.into()), value }));
        (entry.make)(&args)
    }

    pub fn arity(&self) -> Arity {
        self.operation().arity()
    }

    /// The output's shape, or why there is none.
    pub fn infer(&self, ins: &[&Shape]) -> Result<Shape, Problem> {
        let arity = self.arity();
        if !arity.fits(ins.len()) {
            let message = format!("`{}` takes {arity} values, got {}", self.name(), ins.len());
            return Err(Problem::new(Code::ShapeMismatch, message));
        }
        let shape = self.operation().infer(ins)?;
        shape.check()?;
        for param in self.params(ins) {
            shape::check_dims(&param.shape)?;
        }
        Ok(shape)
    }

    pub fn params(&self, ins: &[&Shape]) -> Vec<ParamDecl> {
        self.operation().params(ins)
    }

    pub fn macs(&self, ins: &[&Shape], out: &Shape) -> u64 {
        self.operation().macs(ins, out)
    }

    pub fn eval(&self, ins: &[Operand<'_>], params: &[&Tensor], out: &[usize]) -> Tensor {
        self.operation().eval(ins, params, out)
    }
}

impl std::fmt::Display for Op {
    /// As a call with every argument that differs from its default: `conv2d(out = 64, kernel = 7, stride = 2)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entry = find(self.name()).expect("every op is in the manual");
        let mut shown: Vec<String> = vec![];
        for ((name, value), decl) in self.attrs().into_iter().zip(entry.args) {
            if !decl.is_default(&value) {
                shown.push(format!("{name} = {value}"));
            }
        }
        if shown.is_empty() { f.write_str(self.name()) } else { write!(f, "{}({})", self.name(), shown.join(", ")) }
    }
}

impl ArgDecl {
    /// Whether a value is what is meant where a call does not say it.
    pub fn is_default(&self, value: &Attr) -> bool {
        self.default.map(default_value::<RawAttr>).is_some_and(|default| default.same(value))
    }
}

/// An argument of any type.
struct RawAttr(Attr);

impl RawAttr {
    /// Equal as values: 1 and 1.0, one number and a list of it.
    fn same(&self, other: &Attr) -> bool {
        match (&self.0, other) {
            (Attr::Int(a), Attr::Float(b)) => *a as f64 == *b,
            (a, b) => a == b || *a == b.clone().simplified(),
        }
    }
}

impl FromAttr for RawAttr {
    const KIND: &'static str = "value";
    fn from_attr(attr: &Attr) -> Result<RawAttr, attr::Wanted> {
        Ok(RawAttr(attr.clone()))
    }
    fn to_attr(&self) -> Attr {
        self.0.clone()
    }
}

/// Shapes that do not fit.
fn mismatch(message: impl Into<String>) -> Problem {
    Problem::new(Code::ShapeMismatch, message)
}

/// An argument that cannot be meant.
fn bad_value(message: impl Into<String>) -> Problem {
    Problem::new(Code::BadValue, message)
}

/// `axis` of `input` as `op` was given it, resolved; never the batch.
fn inner_axis(op: &str, input: &Shape, axis: i64) -> Result<usize, Problem> {
    match input.resolve_axis(axis) {
        Ok(0) if input.batched => Err(mismatch(format!("`{op}` needs an axis of {input} after the batch, got {axis}"))),
        Ok(at) => Ok(at),
        Err(_) => Err(mismatch(format!("`{op}` needs an axis of {input}, got {axis}"))),
    }
}

ops! {
    conv::Conv2d,
    conv::Conv2dWith,
    conv::Conv1d,
    conv::ConvTranspose2d,
    linear::Linear,
    linear::LinearWith,
    norm::BatchNorm1d,
    norm::BatchNorm2d,
    norm::LayerNorm,
    norm::LayerNorm2d,
    norm::RmsNorm,
    norm::GroupNorm,
    norm::InstanceNorm2d,
    attention::Attention,
    recurrent::LstmScan,
    activation::Relu,
    activation::Relu6,
    activation::Elu,
    activation::LeakyRelu,
    activation::Prelu,
    activation::Gelu,
    activation::Silu,
    activation::Sigmoid,
    activation::Tanh,
    activation::Hardswish,
    activation::Hardsigmoid,
    activation::Softplus,
    activation::Mish,
    activation::Exp,
    activation::Sqrt,
    activation::Rsqrt,
    activation::Pow,
    activation::Abs,
    activation::Neg,
    activation::Log,
    activation::Sin,
    activation::Cos,
    activation::Softsign,
    activation::LogSigmoid,
    activation::Celu,
    activation::Selu,
    activation::Clamp,
    activation::Hardtanh,
    activation::Glu,
    activation::Softmax,
    activation::LogSoftmax,
    activation::Normalize,
    dropout::Identity,
    dropout::Dropout,
    dropout::Dropout2d,
    dropout::StochasticDepth,
    pool::MaxPool2d,
    pool::AvgPool2d,
    pool::AdaptiveAvgPool2d,
    pool::AdaptiveMaxPool2d,
    pool::GlobalAvgPool2d,
    pool::GlobalMaxPool2d,
    reduce::Mean,
    reduce::Sum,
    reduce::Var,
    reduce::VectorNorm,
    reduce::Amax,
    layout::Flatten,
    layout::Reshape,
    layout::Permute,
    layout::Chunk,
    layout::Slice,
    layout::Pad,
    layout::Roll,
    unfold::Unfold,
    unfold::Fold,
    resample::ChannelShuffle,
    resample::PixelShuffle,
    resample::Upsample,
    join::Add,
    join::Mul,
    join::Sub,
    join::Div,
    join::Maximum,
    join::Minimum,
    join::Concat,
    join::Matmul,
    join::Gather,
    window::WindowIndex,
    window::WindowCoords,
    window::WindowMask,
    constant::Input,
    constant::Parameter,
    constant::Buffer,
    constant::Constant,
}
