//! What names mean at one point of a text, and where its layers go.

use rustc_hash::FxHashSet;

use super::value::{Binding, BindingKind, Value};
use crate::resolve::ModuleId;
use crate::syntax::tree::Expr;

/// How unlabelled layers of a scope are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By their op or block.
    ByOp,
    /// By their position, as in `seq`.
    Numbered,
}

/// The surroundings of a statement.
#[derive(Clone)]
pub struct Env<'a> {
    pub module: ModuleId,
    bindings: Vec<Binding<'a>>,
    /// The path of the scope that layers are made in.
    pub scope: String,
    pub naming: Naming,
    /// `in`
    pub input: Option<Value<'a>>,
    /// `prev`: what the next chain takes.
    pub prev: Option<Value<'a>>,
    /// The text of an edit: paths of the network are values.
    pub sees_paths: bool,
    /// The place that an edit takes away, which its text may not name.
    pub hidden: Option<String>,
}

impl<'a> Env<'a> {
    /// The top of a file.
    pub fn file(module: ModuleId) -> Env<'a> {
        Env {
            module,
            bindings: vec![],
            scope: String::new(),
            naming: Naming::ByOp,
            input: None,
            prev: None,
            sees_paths: false,
            hidden: None,
        }
    }

    /// The inside of a block of file `module`, of a scope at `scope`.
    pub fn block(module: ModuleId, scope: &str, naming: Naming, input: Option<Value<'a>>) -> Env<'a> {
        Env { scope: scope.to_string(), naming, prev: input.clone(), input, ..Env::file(module) }
    }

    pub fn bind(&mut self, name: &str, value: Value<'a>, kind: BindingKind) {
        self.bindings.push(Binding { name: name.to_string(), value, kind });
    }

    /// What `name` means to an expression: the latest binding.
    pub fn lookup(&self, name: &str) -> Option<&Value<'a>> {
        self.find(name, |_| true)
    }

    /// What `name` means to a step: the latest binding that holds an op, a block or none. Labels never count.
    pub fn lookup_step(&self, name: &str) -> Option<&Value<'a>> {
        self.find(name, is_step)
    }

    /// What `name` means to an operand: the latest binding that is no op.
    pub fn lookup_operand(&self, name: &str) -> Option<&Value<'a>> {
        self.find(name, |binding| !matches!(binding.value, Value::Callable(_)))
    }

    fn find(&self, name: &str, wanted: impl Fn(&Binding<'a>) -> bool) -> Option<&Value<'a>> {
        let found = self.bindings.iter().rev().find(|binding| binding.name == name && wanted(binding));
        found.map(|binding| &binding.value)
    }

    /// How many bindings there are, to go back to.
    pub fn mark(&self) -> usize {
        self.bindings.len()
    }

    /// Forgets everything bound since `mark`: the end of braces.
    pub fn forget(&mut self, mark: usize) {
        self.bindings.truncate(mark);
    }

    /// Forgets what was bound since `mark` except labels: the end of a `for` or `if`.
    pub fn forget_lets(&mut self, mark: usize) {
        let fresh = self.bindings.split_off(mark);
        self.bindings.extend(fresh.into_iter().filter(|binding| binding.kind == BindingKind::Label));
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.bindings.iter().map(|binding| binding.name.as_str())
    }

    /// What the names in a function's body mean here: of each the latest binding of every sort that a name is looked up
    /// as.
    pub fn seen_by(&self, body: &Expr) -> Vec<Binding<'a>> {
        let mut names = FxHashSet::default();
        body.each_name(&mut |name| {
            names.insert(name);
        });
        let mut seen: Vec<usize> = vec![];
        for name in names {
            let of_name = || (0..self.bindings.len()).rev().filter(|at| self.bindings[*at].name == name);
            let is_op = |at: &usize| matches!(self.bindings[*at].value, Value::Callable(_));
            let is_step = |at: &usize| is_step(&self.bindings[*at]);
            seen.extend(of_name().next());
            seen.extend(of_name().find(is_step));
            seen.extend(of_name().find(|at| !is_op(at)));
        }
        seen.sort_unstable();
        seen.dedup();
        seen.into_iter().map(|at| self.bindings[at].clone()).collect()
    }

    pub fn with_bindings(mut self, bindings: Vec<Binding<'a>>) -> Env<'a> {
        self.bindings = bindings;
        self
    }

    pub fn into_bindings(self) -> Vec<Binding<'a>> {
        self.bindings
    }
}

/// Whether a binding may be meant by a step.
fn is_step(binding: &Binding<'_>) -> bool {
    let is_step = matches!(binding.value, Value::Callable(_) | Value::None | Value::Poison);
    binding.kind == BindingKind::Let && is_step
}
