//! The arguments of ops: their values, their types, and how a call's arguments become an op.

use std::fmt;

use super::init::Init;
use crate::diag::{Code, Problem, count, short, suggest};

/// The value of an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    Int(i64),
    Float(f64),
    Bool(bool),
    None,
    Str(String),
    /// A bare name that is nothing else: `bilinear`, `same`, `zeros`.
    Word(String),
    /// A word with arguments: `constant(0.5)`.
    Call(String, Vec<Attr>),
    List(Vec<Attr>),
}

impl Attr {
    /// What it is, for messages: `an integer`.
    pub fn kind(&self) -> &'static str {
        match self {
            Attr::Int(_) => "an integer",
            Attr::Float(_) => "a float",
            Attr::Bool(_) => "a boolean",
            Attr::None => "none",
            Attr::Str(_) => "a text",
            Attr::Word(_) => "a word",
            Attr::Call(..) => "a call",
            Attr::List(_) => "a list",
        }
    }

    /// The element at those indices of a list, of lists of lists; what is there instead where one is no list.
    pub fn within(&self, indices: &[usize]) -> &Attr {
        let mut attr = self;
        for index in indices {
            let Attr::List(list) = attr else { break };
            let Some(element) = list.get(*index) else { break };
            attr = element;
        }
        attr
    }

    /// A pair with equal halves as one number, as `where` compares it.
    pub fn simplified(self) -> Attr {
        match self {
            Attr::List(list) if list.len() == 2 && list[0] == list[1] => list.into_iter().next().unwrap_or(Attr::None),
            other => other,
        }
    }
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |list: &[Attr]| list.iter().map(Attr::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Attr::Int(value) => write!(f, "{value}"),
            Attr::Float(value) => write!(f, "{value:?}"),
            Attr::Bool(value) => write!(f, "{value}"),
            Attr::None => f.write_str("none"),
            Attr::Str(text) => write!(f, "{text:?}"),
            Attr::Word(word) => f.write_str(word),
            Attr::Call(word, args) => write!(f, "{word}({})", join(args)),
            Attr::List(list) => write!(f, "[{}]", join(list)),
        }
    }
}

/// One argument of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    pub name: Option<String>,
    pub value: Attr,
}

/// A problem with a call's arguments, and which of them is to blame.
#[derive(Clone, Debug, PartialEq)]
pub struct ArgProblem {
    pub problem: Problem,
    pub arg: Option<usize>,
    /// Of a list, the element that is to blame: its index, and so on in lists of lists.
    pub within: Vec<usize>,
}

impl From<Problem> for ArgProblem {
    fn from(problem: Problem) -> ArgProblem {
        ArgProblem { problem, arg: None, within: vec![] }
    }
}

/// How many of an op's arguments may be given by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positional {
    /// Only the first.
    First,
    /// All, in order.
    All,
    /// Any number of integers, together the first argument (`reshape(512, 3, 3)`).
    Gathered,
}

/// One argument in an op's declaration.
#[derive(Clone, Copy, Debug)]
pub struct ArgDecl {
    pub name: &'static str,
    pub doc: &'static str,
    /// `integer`, `pair` ..
    pub kind: &'static str,
    /// As it is written in the language; None where the argument must be given.
    pub default: Option<&'static str>,
}

/// Matches a call's arguments with an op's declared ones, each at most once.
pub struct ArgReader<'a> {
    op: &'static str,
    decls: &'static [ArgDecl],
    values: Vec<Option<(usize, Attr)>>,
    args: &'a [Arg],
}

/// What PyTorch and other frameworks call an argument that archc calls something else, or infers.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("kernel_size", "kernel"),
    ("dim", "axis"),
    ("dims", "axes"),
    ("axis", "axes"),
    ("axes", "axis"),
    ("alpha", "slope"),
    ("shifts", "shift"),
    ("out_channels", "out"),
    ("out_features", "out"),
    ("negative_slope", "slope"),
    ("num_heads", "heads"),
    ("num_groups", "groups"),
    ("output_size", "size"),
    ("scale_factor", "scale"),
    ("upscale_factor", "r"),
    ("scale", "r"),
    ("chunks", "parts"),
    ("dims", "axis"),
    ("pad", "sizes"),
    ("keepdim", "keep"),
    ("num_parameters", "parameters"),
    ("num_features", "features"),
    ("start", "from"),
    ("end", "to"),
];
const INFERRED: &[&str] =
    &["in_channels", "in_features", "num_features", "num_channels", "normalized_shape", "embed_dim"];

impl<'a> ArgReader<'a> {
    pub fn new(
        op: &'static str,
        decls: &'static [ArgDecl],
        positional: Positional,
        args: &'a [Arg],
    ) -> Result<ArgReader<'a>, ArgProblem> {
        let mut reader = ArgReader { op, decls, values: vec![None; decls.len()], args };
        let allowed = if positional == Positional::All { decls.len() } else { 1.min(decls.len()) };
        let mut position = 0;
        let mut gathered: Vec<Attr> = vec![];
        for (idx, arg) in args.iter().enumerate() {
            let gathers = positional == Positional::Gathered && !matches!(arg.value, Attr::List(_));
            let at = match &arg.name {
                None if gathers && (position == 0 || !gathered.is_empty()) => {
                    gathered.push(arg.value.clone());
                    position = 1;
                    continue;
                }
                None if position < allowed => position,
                None => {
                    return Err(ArgProblem {
                        problem: reader.too_many(positional, position),
                        arg: Some(idx),
                        within: vec![],
                    });
                }
                Some(name) => match decls.iter().position(|decl| decl.name == name) {
                    Some(at) => at,
                    None => return Err(ArgProblem { problem: reader.unknown(name), arg: Some(idx), within: vec![] }),
                },
            };
            if arg.name.is_none() {
                position += 1;
            }
            if reader.values[at].is_some() || at == 0 && !gathered.is_empty() {
                return Err(ArgProblem { problem: reader.twice(at), arg: Some(idx), within: vec![] });
            }
            reader.values[at] = Some((idx, arg.value.clone()));
        }
        if !gathered.is_empty() {
            let first = args.iter().position(|arg| arg.name.is_none()).unwrap_or(0);
            if reader.values[0].is_some() {
                return Err(ArgProblem { problem: reader.twice(0), arg: Some(first), within: vec![] });
            }
            reader.values[0] = Some((first, Attr::List(gathered)));
        }
        Ok(reader)
    }

    /// The argument `name`, converted; `default` where the call leaves it out.
    pub fn take<T: FromAttr>(&mut self, name: &str, default: Option<T>) -> Result<T, ArgProblem> {
        let at = self.decls.iter().position(|decl| decl.name == name).expect("the macro reads what it declares");
        let Some((idx, attr)) = self.values[at].take() else {
            return default.ok_or_else(|| ArgProblem { problem: self.missing(name), arg: None, within: vec![] });
        };
        T::from_attr(&attr).map_err(|wanted| {
            let blamed = attr.within(&wanted.within);
            let shown = blamed.to_string();
            let shown = short(&shown);
            let message = format!("`{name}` of `{}` needs {wanted}, got {} ({shown})", self.op, blamed.kind());
            let code = if wanted.is_value { Code::BadValue } else { Code::TypeMismatch };
            let message = if wanted.is_value {
                format!("`{name}` of `{}` needs {wanted}, got {shown}", self.op)
            } else {
                message
            };
            ArgProblem { problem: Problem::new(code, message), arg: Some(idx), within: wanted.within }
        })
    }

    fn missing(&self, name: &str) -> Problem {
        let decl = self.decls.iter().find(|decl| decl.name == name).expect("a declared argument");
        Problem::new(Code::MissingArgument, format!("`{}` needs `{name}`: {}", self.op, decl.doc))
            .hint(format!("{} = .. ({})", decl.name, decl.kind))
    }

    fn unknown(&self, name: &str) -> Problem {
        let problem = Problem::new(Code::UnknownArgument, format!("`{}` has no argument `{name}`", self.op));
        let known = |wanted: &str| self.decls.iter().any(|decl| decl.name == wanted);
        if let Some((_, ours)) = OTHER_NAMES.iter().find(|(other, ours)| *other == name && known(ours)) {
            return problem.hint(format!("it is called `{ours}` here"));
        }
        if INFERRED.contains(&name) {
            return problem.hint("the input's size is inferred: leave it out");
        }
        match suggest(name, self.decls.iter().map(|decl| decl.name)) {
            Some(hint) => problem.hint(hint),
            None if self.decls.is_empty() => problem.hint(format!("`{}` takes no arguments", self.op)),
            None => {
                let names: Vec<String> = self.decls.iter().map(|decl| format!("`{}`", decl.name)).collect();
                problem.hint(format!("it takes {}", names.join(", ")))
            }
        }
    }

    fn twice(&self, at: usize) -> Problem {
        Problem::new(Code::Duplicate, format!("`{}` is given `{}` twice", self.op, self.decls[at].name))
    }

    fn too_many(&self, positional: Positional, position: usize) -> Problem {
        let wrong = |message: String| Problem::new(Code::UnknownArgument, message);
        if self.decls.is_empty() {
            let problem = wrong(format!("`{}` takes no arguments", self.op));
            // the first axis of torch.flatten
            return match (self.op, self.args) {
                ("flatten", [Arg { value: Attr::Int(2..), .. }, ..]) => problem
                    .note("it joins all axes behind the batch, as `flatten(1)` in PyTorch")
                    .hint("to keep the channels, as `flatten(2)` in PyTorch: `reshape(in.channels, -1)`"),
                _ => problem.hint(format!("write `{}` alone", self.op)),
            };
        }
        if positional == Positional::All {
            return wrong(format!("`{}` takes {} at most", self.op, count(self.decls.len(), "argument")));
        }
        let problem = wrong(format!("`{}` takes its arguments after the first by name", self.op));
        if let ("group_norm", [Arg { name: None, value, .. }, Arg { name: None, value: Attr::Int(_), .. }]) =
            (self.op, self.args)
        {
            return problem.hint(format!("the input's size is inferred: `group_norm({value})`"));
        }
        if let Some(call) = self.without_input() {
            return problem.hint(format!("the input's size is inferred: `{call}`"));
        }
        // a word that only one argument knows
        if let Some(Arg { value: Attr::Word(word), .. }) = self.args.iter().filter(|arg| arg.name.is_none()).nth(1) {
            let quoted = format!("`{word}`");
            let mut knowing = self.decls.iter().filter(|decl| decl.doc.contains(&quoted));
            if let (Some(only), None) = (knowing.next(), knowing.next()) {
                return problem.hint(format!("write `{} = {word}`", only.name));
            }
        }
        match self.decls.get(position.max(1)) {
            Some(next) => problem.hint(format!("write `{} = ..`", next.name)),
            None => problem,
        }
    }

    /// The call without its first argument, where that is the size of the input, as PyTorch's modules take it, and the
    /// rest makes an op.
    fn without_input(&self) -> Option<String> {
        let (first, rest) = self.args.split_first()?;
        // PyTorch's other modules begin with what the op begins with
        if !matches!(self.op, "conv2d" | "conv_transpose2d" | "linear")
            || first.name.is_some()
            || !matches!(first.value, Attr::Int(_))
        {
            return None;
        }
        let mut position = 0;
        let mut args: Vec<Arg> = vec![];
        for arg in rest {
            let mut arg = arg.clone();
            if arg.name.is_none() {
                if position > 0 {
                    arg.name = Some(self.decls.get(position)?.name.to_string());
                }
                position += 1;
            }
            args.push(arg);
        }
        (super::find(self.op)?.make)(&args).ok()?;
        let shown = |arg: &Arg| match &arg.name {
            Some(name) => format!("{name} = {}", arg.value),
            None => arg.value.to_string(),
        };
        Some(format!("{}({})", self.op, args.iter().map(shown).collect::<Vec<_>>().join(", ")))
    }

    /// The call as it was written.
    pub fn args(&self) -> &[Arg] {
        self.args
    }
}

/// What a conversion wanted: `an integer of 1 or more`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub text: String,
    /// The type was right and the value was not.
    pub is_value: bool,
    /// The element of a list that is not so, as in [`ArgProblem`].
    pub within: Vec<usize>,
}

impl Wanted {
    pub fn kind(text: impl Into<String>) -> Wanted {
        Wanted { text: text.into(), is_value: false, within: vec![] }
    }

    pub fn value(text: impl Into<String>) -> Wanted {
        Wanted { text: text.into(), is_value: true, within: vec![] }
    }

    /// Of that element of a list.
    #[must_use]
    pub fn at(self, within: &[usize]) -> Wanted {
        Wanted { within: within.to_vec(), ..self }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A type that an argument can have.
pub trait FromAttr: Sized {
    /// As the manual names it.
    const KIND: &'static str;
    fn from_attr(attr: &Attr) -> Result<Self, Wanted>;
    fn to_attr(&self) -> Attr;
}

/// A number of things: 1 or more.
impl FromAttr for usize {
    const KIND: &'static str = "integer";
    fn from_attr(attr: &Attr) -> Result<usize, Wanted> {
        match attr {
            Attr::Int(value @ 1..) if *value <= super::shape::MAX_DIM as i64 => Ok(*value as usize),
            Attr::Int(_) => Err(Wanted::value("an integer from 1 to 2^31")),
            _ => Err(Wanted::kind("an integer")),
        }
    }
    fn to_attr(&self) -> Attr {
        Attr::Int(*self as i64)
    }
}

impl FromAttr for i64 {
    const KIND: &'static str = "integer";
    fn from_attr(attr: &Attr) -> Result<i64, Wanted> {
        match attr {
            Attr::Int(value) => Ok(*value),
            _ => Err(Wanted::kind("an integer")),
        }
    }
    fn to_attr(&self) -> Attr {
        Attr::Int(*self)
    }
}

/// Any number; an integer counts as a float here.
impl FromAttr for f64 {
    const KIND: &'static str = "number";
    fn from_attr(attr: &Attr) -> Result<f64, Wanted> {
        match attr {
            Attr::Int(value) => Ok(*value as f64),
            Attr::Float(value) => Ok(*value),
            _ => Err(Wanted::kind("a number")),
        }
    }
    fn to_attr(&self) -> Attr {
        Attr::Float(*self)
    }
}

impl FromAttr for bool {
    const KIND: &'static str = "boolean";
    fn from_attr(attr: &Attr) -> Result<bool, Wanted> {
        match attr {
            Attr::Bool(value) => Ok(*value),
            _ => Err(Wanted::kind("true or false")),
        }
    }
    fn to_attr(&self) -> Attr {
        Attr::Bool(*self)
    }
}

/// `none` or the type.
impl<T: FromAttr> FromAttr for Option<T> {
    const KIND: &'static str = T::KIND;
    fn from_attr(attr: &Attr) -> Result<Option<T>, Wanted> {
        if *attr == Attr::None { Ok(None) } else { T::from_attr(attr).map(Some) }
    }
    fn to_attr(&self) -> Attr {
        self.as_ref().map_or(Attr::None, T::to_attr)
    }
}

/// A list of integers; a single one is a list of one.
impl FromAttr for Vec<i64> {
    const KIND: &'static str = "integers";
    fn from_attr(attr: &Attr) -> Result<Vec<i64>, Wanted> {
        match attr {
            Attr::List(list) => list.iter().map(i64::from_attr).collect(),
            Attr::Int(value) => Ok(vec![*value]),
            _ => Err(Wanted::kind("an integer or a list of them")),
        }
    }
    fn to_attr(&self) -> Attr {
        Attr::List(self.iter().map(i64::to_attr).collect())
    }
}

/// (vertical, horizontal); one number means both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    pub h: usize,
    pub w: usize,
}

impl Pair {
    pub const fn both(value: usize) -> Pair {
        Pair { h: value, w: value }
    }

    /// Along y and x.
    pub fn sides(self) -> [usize; 2] {
        [self.h, self.w]
    }

    /// Converts with `least` as the smallest number that is meant.
    fn read(attr: &Attr, least: i64) -> Result<Pair, Wanted> {
        let side = |attr: &Attr| match attr {
            Attr::Int(value) if (least..=super::shape::MAX_DIM as i64).contains(value) => Ok(*value as usize),
            Attr::Int(_) => Err(Wanted::value(format!("integers from {least} to 2^31"))),
            _ => Err(Wanted::kind("an integer or a pair of them")),
        };
        match attr {
            Attr::List(list) if list.len() == 2 => Ok(Pair { h: side(&list[0])?, w: side(&list[1])? }),
            Attr::List(_) => Err(Wanted::value("an integer or a pair of them")),
            one => side(one).map(Pair::both),
        }
    }

    fn write(self) -> Attr {
        if self.h == self.w {
            return Attr::Int(self.h as i64);
        }
        Attr::List(vec![Attr::Int(self.h as i64), Attr::Int(self.w as i64)])
    }
}

impl FromAttr for Pair {
    const KIND: &'static str = "pair";
    fn from_attr(attr: &Attr) -> Result<Pair, Wanted> {
        Pair::read(attr, 1)
    }
    fn to_attr(&self) -> Attr {
        self.write()
    }
}

/// A pair whose halves may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair0(pub Pair);

impl FromAttr for Pair0 {
    const KIND: &'static str = "pair";
    fn from_attr(attr: &Attr) -> Result<Pair0, Wanted> {
        Pair::read(attr, 0).map(Pair0)
    }
    fn to_attr(&self) -> Attr {
        self.0.write()
    }
}

/// The padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// The same on both sides.
    Each(Pair),
    /// As TensorFlow pads: the output has ceil(size / stride) pixels, the odd pixel goes right and below.
    Same,
}

impl FromAttr for Padding {
    const KIND: &'static str = "pair or `same`";
    fn from_attr(attr: &Attr) -> Result<Padding, Wanted> {
        match attr {
            Attr::Word(word) if word == "same" => Ok(Padding::Same),
            Attr::Word(_) | Attr::Str(_) => Err(Wanted::value("an integer, a pair of them, or `same`")),
            other => Pair::read(other, 0).map(Padding::Each),
        }
    }
    fn to_attr(&self) -> Attr {
        match self {
            Padding::Each(pair) => pair.write(),
            Padding::Same => Attr::Word("same".into()),
        }
    }
}

impl FromAttr for Init {
    const KIND: &'static str = "initialiser";
    fn from_attr(attr: &Attr) -> Result<Init, Wanted> {
        let (name, args) = match attr {
            Attr::Word(word) => (word.as_str(), [].as_slice()),
            Attr::Call(word, args) => (word.as_str(), args.as_slice()),
            _ => return Err(Wanted::kind("an initialiser such as `zeros` or `normal(0.02)`")),
        };
        let number = |attr: &Attr| f64::from_attr(attr).map_err(|_| Wanted::kind(format!("a number in `{name}(..)`")));
        Ok(match (name, args) {
            ("zeros", []) => Init::Zeros,
            ("ones", []) => Init::Ones,
            ("kaiming_normal", []) => Init::KaimingNormal,
            ("kaiming_uniform", []) => Init::KaimingUniform,
            ("xavier_uniform", []) => Init::XavierUniform,
            ("identity", []) => Init::Identity,
            ("constant", [value]) => Init::Constant(number(value)?),
            ("normal", [std]) => Init::Normal { std: number(std)? },
            ("trunc_normal", [std]) => Init::TruncNormal { std: number(std)? },
            ("uniform", [bound]) => Init::Uniform { bound: number(bound)? },
            ("from", [Attr::Str(file), Attr::Str(key)]) => Init::From { file: file.clone(), key: key.clone() },
            _ => {
                return Err(Wanted::value(
                    "one of `kaiming_normal`, `kaiming_uniform`, `xavier_uniform`, `zeros`, `ones`, `constant(v)`, \
                     `normal(std)`, `trunc_normal(std)`, `uniform(bound)`, `identity`, `from(\"file.safetensors\", \"key\")`",
                ));
            }
        })
    }
    fn to_attr(&self) -> Attr {
        let call = |name: &str, value: f64| Attr::Call(name.into(), vec![Attr::Float(value)]);
        match self {
            Init::Zeros => Attr::Word("zeros".into()),
            Init::Ones => Attr::Word("ones".into()),
            Init::KaimingNormal => Attr::Word("kaiming_normal".into()),
            Init::KaimingUniform => Attr::Word("kaiming_uniform".into()),
            Init::XavierUniform => Attr::Word("xavier_uniform".into()),
            Init::Identity => Attr::Word("identity".into()),
            Init::Constant(value) => call("constant", *value),
            Init::Normal { std } => call("normal", *std),
            Init::TruncNormal { std } => call("trunc_normal", *std),
            Init::Uniform { bound } => call("uniform", *bound),
            Init::From { file, key } => {
                Attr::Call("from".into(), vec![Attr::Str(file.clone()), Attr::Str(key.clone())])
            }
        }
    }
}

/// Declares an enum whose variants are words of the language.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),* }

        impl $crate::ops::attr::FromAttr for $name {
            const KIND: &'static str = "word";
            fn from_attr(attr: &$crate::ops::attr::Attr) -> Result<$name, $crate::ops::attr::Wanted> {
                let word = match attr {
                    $crate::ops::attr::Attr::Word(word) => word.as_str(),
                    $crate::ops::attr::Attr::None => "none",
                    _ => "",
                };
                match word {
                    $($word => Ok($name::$variant),)*
                    _ => Err($crate::ops::attr::Wanted::value(concat!("one of " $(, "`", $word, "` ")*).trim_end())),
                }
            }
            fn to_attr(&self) -> $crate::ops::attr::Attr {
                match self {
                    $($name::$variant if $word == "none" => $crate::ops::attr::Attr::None,
                      $name::$variant => $crate::ops::attr::Attr::Word($word.into()),)*
                }
            }
        }
    };
}
pub(crate) use words;
