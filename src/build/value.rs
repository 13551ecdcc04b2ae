//! What expressions evaluate to while a network is built.

use std::rc::Rc;

use crate::graph::NodeId;
use crate::ops::Entry;
use crate::ops::attr::Attr;
use crate::resolve::ModuleId;
use crate::source::Span;
use crate::syntax::tree;

#[derive(Clone)]
pub enum Value<'a> {
    Int(i64),
    Float(f64),
    Bool(bool),
    None,
    Str(String),
    /// A bare name that means nothing else here.
    Word(String),
    /// A call of a word: `normal(0.02)`, `hf("..")`.
    WordCall(String, Vec<Value<'a>>),
    List(Vec<Value<'a>>),
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
    pub path: String,
    pub output: Option<NodeId>,
}

/// An op, block or network, with the arguments given so far.
#[derive(Clone)]
pub struct Callable<'a> {
    pub target: Target<'a>,
    pub args: Vec<CallArg<'a>>,
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
}

/// `let wide(c, w) = ..`, with what it sees.
pub struct Function<'a> {
    pub name: &'a tree::Name,
    pub params: &'a [tree::Name],
    pub body: &'a tree::Expr,
    pub module: ModuleId,
    pub seen: Vec<Binding<'a>>,
}

/// A name and what it means.
#[derive(Clone)]
pub struct Binding<'a> {
    pub name: String,
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
        match self.to_attr() {
            Some(Attr::None) | None => self.kind().to_string(),
            Some(attr) => format!("{} ({attr})", self.kind()),
        }
    }

    pub fn is_poison(&self) -> bool {
        match self {
            Value::Poison => true,
            Value::List(list) => list.iter().any(Value::is_poison),
            _ => false,
        }
    }

    /// As an argument of an op; None where it cannot be one.
    pub fn to_attr(&self) -> Option<Attr> {
        Some(match self {
            Value::Int(value) => Attr::Int(*value),
            Value::Float(value) => Attr::Float(*value),
            Value::Bool(value) => Attr::Bool(*value),
            Value::None => Attr::None,
            Value::Str(text) => Attr::Str(text.clone()),
            Value::Word(word) => Attr::Word(word.clone()),
            // `identity` and `tanh` are words too, where a word is meant
            Value::Callable(Callable { target: Target::Op(entry), args }) if args.is_empty() => {
                Attr::Word(entry.name.to_string())
            }
            Value::WordCall(word, args) => {
                Attr::Call(word.clone(), args.iter().map(Value::to_attr).collect::<Option<_>>()?)
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
            Attr::Str(text) => Value::Str(text),
            Attr::Word(word) => Value::Word(word),
            Attr::Call(word, args) => Value::WordCall(word, args.into_iter().map(Value::from).collect()),
            Attr::List(list) => Value::List(list.into_iter().map(Value::from).collect()),
        }
    }
}
