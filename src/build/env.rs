//! What names mean at one point of a text, and where its layers go.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::value::{Binding, BindingKind, Value};
use crate::ops::Op;
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

/// What becomes of `output NAME = ..` in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// The network is the base: it has one more output.
    Named,
    /// The network is a layer of another, which takes its own result alone: the line is left out.
    Left,
    /// A block and the text of an edit have one result.
    Refused,
}

/// The surroundings of a statement.
#[derive(Clone)]
pub struct Env<'a> {
    pub module: ModuleId,
    /// The latest last.
    bindings: Vec<Binding<'a>>,
    /// The latest bindings of each name.
    by_name: FxHashMap<Rc<str>, Latest>,
    /// For each binding, what its name meant before.
    before: Vec<Option<Latest>>,
    /// The path of the scope that layers are made in.
    pub scope: String,
    pub naming: Naming,
    /// `in`
    pub input: Option<Value<'a>>,
    /// `prev`: what the next chain takes.
    pub prev: Option<Value<'a>>,
    pub outputs: Outputs,
    /// The text of an edit: paths of the network are values.
    pub sees_paths: bool,
    /// What `same` is, in the text of a `replace`.
    pub same: Option<Rc<Same>>,
    /// The place that an edit takes away, which its text may not name.
    pub hidden: Option<String>,
}

/// What a `replace` takes away.
pub struct Same {
    /// As messages print it.
    pub shown: String,
    /// Of a single layer.
    pub op: Option<Op>,
}

/// A binding, and the latest of the same name, itself counted, that an operand and a step can mean.
#[derive(Clone, Copy)]
struct Latest {
    any: usize,
    operand: Option<usize>,
    step: Option<usize>,
}

impl<'a> Env<'a> {
    /// The top of a file.
    pub fn file(module: ModuleId) -> Env<'a> {
        Env {
            module,
            bindings: vec![],
            by_name: FxHashMap::default(),
            before: vec![],
            scope: String::new(),
            naming: Naming::ByOp,
            input: None,
            prev: None,
            outputs: Outputs::Refused,
            sees_paths: false,
            same: None,
            hidden: None,
        }
    }

    /// The inside of a block of file `module`, of a scope at `scope`.
    pub fn block(module: ModuleId, scope: &str, naming: Naming, input: Option<Value<'a>>) -> Env<'a> {
        Env { scope: scope.to_string(), naming, prev: input.clone(), input, ..Env::file(module) }
    }

    pub fn bind(&mut self, name: &str, value: Value<'a>, kind: BindingKind) {
        self.push(Binding { name: name.into(), value, kind });
    }

    fn push(&mut self, binding: Binding<'a>) {
        let any = self.bindings.len();
        let is_operand = !matches!(binding.value, Value::Callable(_));
        let is_step = matches!(binding.value, Value::Callable(_) | Value::None | Value::Poison);
        let is_step = is_step && binding.kind == BindingKind::Let;
        let before = self.by_name.get(&binding.name).copied();
        let operand = if is_operand { Some(any) } else { before.and_then(|before| before.operand) };
        let step = if is_step { Some(any) } else { before.and_then(|before| before.step) };
        self.by_name.insert(binding.name.clone(), Latest { any, operand, step });
        self.before.push(before);
        self.bindings.push(binding);
    }

    /// Takes the latest binding away.
    fn pop(&mut self) -> Option<Binding<'a>> {
        let binding = self.bindings.pop()?;
        match self.before.pop().flatten() {
            Some(before) => self.by_name.insert(binding.name.clone(), before),
            None => self.by_name.remove(&binding.name),
        };
        Some(binding)
    }

    /// What `name` means to an expression: the latest binding.
    pub fn lookup(&self, name: &str) -> Option<&Value<'a>> {
        self.find(name, |latest| Some(latest.any))
    }

    /// What `name` means to a step: the latest binding that holds an op, a block or none. Labels never count.
    pub fn lookup_step(&self, name: &str) -> Option<&Value<'a>> {
        self.find(name, |latest| latest.step)
    }

    /// What `name` means to an operand: the latest binding that is no op.
    pub fn lookup_operand(&self, name: &str) -> Option<&Value<'a>> {
        self.find(name, |latest| latest.operand)
    }

    fn find(&self, name: &str, pick: fn(&Latest) -> Option<usize>) -> Option<&Value<'a>> {
        let at = pick(self.by_name.get(name)?)?;
        Some(&self.bindings[at].value)
    }

    /// How many bindings there are, to go back to.
    pub fn mark(&self) -> usize {
        self.bindings.len()
    }

    /// Forgets everything bound since `mark`: the end of braces.
    pub fn forget(&mut self, mark: usize) {
        while self.bindings.len() > mark {
            self.pop();
        }
    }

    /// Forgets what was bound since `mark` except labels: the end of a `for` or `if`.
    pub fn forget_lets(&mut self, mark: usize) {
        let mut fresh = vec![];
        while self.bindings.len() > mark {
            fresh.extend(self.pop());
        }
        let labels = fresh.into_iter().rev().filter(|binding| binding.kind == BindingKind::Label);
        labels.for_each(|binding| self.push(binding));
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.bindings.iter().map(|binding| &*binding.name)
    }

    /// What the names in a function's body mean here: of each the latest binding of every sort that a name is looked up
    /// as.
    pub fn seen_by(&self, body: &Expr) -> Vec<Binding<'a>> {
        let mut names = FxHashSet::default();
        body.each_name(&mut |name| {
            names.insert(name);
        });
        let mut seen: Vec<usize> = vec![];
        for latest in names.into_iter().filter_map(|name| self.by_name.get(name)) {
            seen.extend([Some(latest.any), latest.operand, latest.step].into_iter().flatten());
        }
        seen.sort_unstable();
        seen.dedup();
        seen.into_iter().map(|at| self.bindings[at].clone()).collect()
    }

    pub fn with_bindings(mut self, bindings: Vec<Binding<'a>>) -> Env<'a> {
        bindings.into_iter().for_each(|binding| self.push(binding));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Program;

    fn number(value: Option<&Value<'_>>) -> Option<i64> {
        if let Some(Value::Int(value)) = value { Some(*value) } else { None }
    }

    #[test]
    fn the_latest_binding_of_the_right_kind_is_found_and_forgotten() {
        let mut env = Env::file(Program::SPEC);
        env.bind("a", Value::Int(1), BindingKind::Let);
        env.bind("a", Value::None, BindingKind::Let);
        env.bind("a", Value::Int(2), BindingKind::Label);
        assert_eq!(number(env.lookup("a")), Some(2));
        assert!(matches!(env.lookup_step("a"), Some(Value::None)));
        let mark = env.mark();
        env.bind("a", Value::Int(3), BindingKind::Let);
        env.bind("b", Value::Int(4), BindingKind::Label);
        assert_eq!(number(env.lookup_operand("a")), Some(3));
        env.forget_lets(mark);
        assert_eq!((number(env.lookup("a")), number(env.lookup("b"))), (Some(2), Some(4)));
        env.forget(1);
        assert_eq!((number(env.lookup("a")), number(env.lookup("b"))), (Some(1), None));
        assert!(env.lookup_step("a").is_none());
        assert_eq!(env.names().collect::<Vec<_>>(), ["a"]);
    }
}
