//! What expressions evaluate to while a network is built.

use std::rc::Rc;

use crate::diag::short;
use crate::graph::NodeId;
use crate::ops::Entry;
use crate::ops::attr::Attr;
use crate::resolve::ModuleId;
use crate::source::Span;
use crate::syntax::tree;

/// What a message shows of a list, counted in values; a longer one is only named.
const MAX_DESCRIBED: u64 = 32;
/// No argument of an op has more values.
pub const MAX_ATTR: u64 = 1 << 16;
/// Values lie in each other no deeper.
pub const MAX_NESTED: usize = 100;

#[derive(Clone)]
pub enum Value<'a> {
    Int(i64),
    Float(f64),
    Bool(bool),
    None,
    Str(Rc<str>),
    /// A bare name that means nothing else here.
    Word(Rc<str>),
    /// A call of a word: `normal(0.02)`, `hf("..")`.
    WordCall(Rc<str>, List<'a>),
    List(List<'a>),
    /// `shape[0]`
    Batch,
    /// The output of a node.
    Node(NodeId),
    /// A label or path: a layer or a scope.
    Place(Place),
    Callable(Callable<'a>),
    Function(Rc<Function<'a>>),
    /// Stands for something whose mistake is already reported.
    Poison,
}

/// A layer or scope by its path, and its output.
#[derive(Clone)]
pub struct Place {
    pub path: Rc<str>,
    pub output: Option<NodeId>,
}

/// Values, shared by everything that holds the list: to copy one costs nothing.
#[derive(Clone)]
pub struct List<'a>(Rc<Items<'a>>);

struct Items<'a> {
    values: Vec<Value<'a>>,
    /// How deep values lie in each other, the list itself counted.
    depth: usize,
    /// How many values a walk meets. A list that holds another one twice is small, and twice as long to walk.
    weight: u64,
    is_poison: bool,
}

impl<'a> List<'a> {
    pub fn new(values: Vec<Value<'a>>) -> List<'a> {
        List(Rc::new(Items {
            depth: 1 + values.iter().map(Value::depth).max().unwrap_or(0),
            weight: values.iter().fold(1, |weight, value| weight.saturating_add(value.weight())),
            is_poison: values.iter().any(Value::is_poison),
            values,
        }))
    }
}

impl<'a> std::ops::Deref for List<'a> {
    type Target = [Value<'a>];
    fn deref(&self) -> &[Value<'a>] {
        &self.0.values
    }
}

impl<'a> FromIterator<Value<'a>> for List<'a> {
    fn from_iter<I: IntoIterator<Item = Value<'a>>>(values: I) -> List<'a> {
        List::new(values.into_iter().collect())
    }
}

/// An op, block or network, with the arguments given so far.
#[derive(Clone)]
pub struct Callable<'a> {
    pub target: Target<'a>,
    pub args: Rc<Vec<CallArg<'a>>>,
    /// How deep its arguments lie in each other.
    depth: usize,
}

impl<'a> Callable<'a> {
    pub fn new(target: Target<'a>, args: Vec<CallArg<'a>>) -> Callable<'a> {
        let depth = args.iter().map(|arg| 1 + arg.value.depth()).max().unwrap_or(0);
        Callable { target, args: args.into(), depth }
    }
}

#[derive(Clone, Copy)]
pub enum Target<'a> {
    Op(&'static Entry),
    Block(ModuleId, &'a tree::Block),
    Network(ModuleId, &'a tree::Network),
}

impl<'a> Target<'a> {
    pub fn name(&self) -> &'a str {
        match self {
            Target::Op(entry) => entry.name,
            Target::Block(_, block) => &block.name.value,
            Target::Network(_, network) => &network.name.value,
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Op(_) => "an op",
            Target::Block(..) => "a block",
            Target::Network(..) => "a network",
        }
    }
}

/// An evaluated argument.
#[derive(Clone)]
pub struct CallArg<'a> {
    pub name: Option<&'a tree::Name>,
    pub value: Value<'a>,
    pub span: Span,
    /// As it was written.
    pub expr: &'a tree::Expr,
}

impl CallArg<'_> {
    /// The place of an element of the argument by its index, and so on in lists of lists; of the argument where it is not
    /// written as a list.
    pub fn place(&self, within: &[usize]) -> Span {
        place(self.expr, within)
    }
}

/// The place of an element of a list as it is written, by its index, and so on in lists of lists.
pub fn place(expr: &tree::Expr, within: &[usize]) -> Span {
    match (&expr.kind, within) {
        (tree::ExprKind::List(list), [at, rest @ ..]) => list.get(*at).map_or(expr.span, |item| place(item, rest)),
        _ => expr.span,
    }
}

/// `let wide(c, w) = ..`, with what it sees.
pub struct Function<'a> {
    pub name: &'a tree::Name,
    pub params: &'a [tree::Name],
    pub body: &'a tree::Expr,
    pub module: ModuleId,
    /// What the names in its body mean where it was written.
    pub seen: Vec<Binding<'a>>,
    /// How deep the values lie that it sees.
    depth: usize,
}

impl<'a> Function<'a> {
    pub fn new(
        name: &'a tree::Name,
        params: &'a [tree::Name],
        body: &'a tree::Expr,
        module: ModuleId,
        seen: Vec<Binding<'a>>,
    ) -> Function<'a> {
        let depth = 1 + seen.iter().map(|binding| binding.value.depth()).max().unwrap_or(0);
        Function { name, params, body, module, seen, depth }
    }
}

/// A name and what it means.
#[derive(Clone)]
pub struct Binding<'a> {
    pub name: Rc<str>,
    pub value: Value<'a>,
    pub kind: BindingKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingKind {
    /// A `let`, parameter or loop variable.
    Let,
    /// A label: visible until the end of its braces, also after the `for` or `if` that holds it.
    Label,
}

impl<'a> Value<'a> {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a boolean",
            Value::None => "none",
            Value::Str(_) => "a text",
            Value::Word(_) => "a word",
            Value::WordCall(..) => "a call",
            Value::List(_) => "a list",
            Value::Batch => "the batch, which is not a number",
            Value::Node(_) | Value::Place(_) => "a value of the network",
            Value::Callable(callable) => callable.target.kind(),
            Value::Function(_) => "a function",
            Value::Poison => "something that is reported elsewhere",
        }
    }

    /// Kind and value, for messages: `a word (clases)`.
    pub fn describe(&self) -> String {
        match self {
            Value::List(list) if self.weight() > MAX_DESCRIBED => format!("a list of {}", list.len()),
            _ if self.weight() > MAX_DESCRIBED => self.kind().to_string(),
            _ => match self.to_attr() {
                Some(Attr::None) | None => self.kind().to_string(),
                Some(attr) => format!("{} ({})", self.kind(), short(&attr.to_string())),
            },
        }
    }

    pub fn is_poison(&self) -> bool {
        match self {
            Value::Poison => true,
            Value::List(list) => list.0.is_poison,
            _ => false,
        }
    }

    /// Whether it may be what flows on from a statement: a value of the network, the parts of a `chunk`, or what a mistake left.
    pub fn flows(&self) -> bool {
        match self {
            Value::Node(_) | Value::Place(_) | Value::Poison => true,
            Value::List(list) => {
                list.0.is_poison
                    || (!list.is_empty() && list.iter().all(|one| matches!(one, Value::Node(_) | Value::Place(_))))
            }
            _ => false,
        }
    }

    /// How deep values lie in it; 0 where it holds none.
    pub fn depth(&self) -> usize {
        match self {
            Value::List(list) | Value::WordCall(_, list) => list.0.depth,
            Value::Callable(callable) => callable.depth,
            Value::Function(function) => function.depth,
            _ => 0,
        }
    }

    /// How many values a walk over it meets.
    pub fn weight(&self) -> u64 {
        match self {
            Value::List(list) | Value::WordCall(_, list) => list.0.weight,
            _ => 1,
        }
    }

    /// As an argument of an op; None where it cannot be one.
    pub fn to_attr(&self) -> Option<Attr> {
        if self.weight() > MAX_ATTR {
            return None;
        }
        Some(match self {
            Value::Int(value) => Attr::Int(*value),
            Value::Float(value) => Attr::Float(*value),
            Value::Bool(value) => Attr::Bool(*value),
            Value::None => Attr::None,
            Value::Str(text) => Attr::Str(text.to_string()),
            Value::Word(word) => Attr::Word(word.to_string()),
            // `identity` and `tanh` are words too, where a word is meant
            Value::Callable(Callable { target: Target::Op(entry), args, .. }) if args.is_empty() => {
                Attr::Word(entry.name.to_string())
            }
            // as is `constant(0.5)` where an initialiser is meant
            Value::Callable(Callable { target: Target::Op(entry), args, .. })
                if let [CallArg { value: value @ (Value::Int(_) | Value::Float(_)), .. }] = &args[..] =>
            {
                Attr::Call(entry.name.to_string(), vec![value.to_attr()?])
            }
            Value::WordCall(word, args) => {
                Attr::Call(word.to_string(), args.iter().map(Value::to_attr).collect::<Option<_>>()?)
            }
            Value::List(list) => Attr::List(list.iter().map(Value::to_attr).collect::<Option<_>>()?),
            _ => return None,
        })
    }

    /// A number as a float.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }
}

impl From<Attr> for Value<'_> {
    fn from(attr: Attr) -> Self {
        match attr {
            Attr::Int(value) => Value::Int(value),
            Attr::Float(value) => Value::Float(value),
            Attr::Bool(value) => Value::Bool(value),
            Attr::None => Value::None,
            Attr::Str(text) => Value::Str(text.into()),
            Attr::Word(word) => Value::Word(word.into()),
            Attr::Call(word, args) => Value::WordCall(word.into(), args.into_iter().map(Value::from).collect()),
            Attr::List(list) => Value::List(list.into_iter().map(Value::from).collect()),
        }
    }
}
