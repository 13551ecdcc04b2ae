//! Elaborates networks, blocks and the bodies of edits into nodes of a graph.
//!
//! An interpreter over the syntax tree: expressions become [`Value`]s, steps become nodes. Blocks run where they are
//! called, with the shapes that flow in, so `in.channels` is a number. A mistake in a statement is reported, and what
//! depends on it is [`Value::Poison`], which is silent. Knows nothing of edits' verbs, weights or files.

mod budget;
mod call;
mod chain;
mod env;
mod expr;
mod network;
pub mod number;
mod place;
mod tied;
mod value;

use std::cell::OnceCell;
use std::collections::HashMap;

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};

pub use budget::{Budget, Limit};
pub use env::{Env, Naming, Outputs, Same};
pub use network::{BaseInfo, build_base};
use value::MAX_NESTED;
pub use value::{BindingKind, List, Target, Value};

use crate::diag::{At, Code, Diagnostic, Diagnostics, Problem, Result, nest};
use crate::graph::{Graph, Map, NewNode, NodeId, Patch, Scope, path};
use crate::ops::Op;
use crate::resolve::{ModuleId, Program};
use crate::source::Span;
use crate::syntax::tree;

/// No network has more layers.
pub const MAX_LAYERS: usize = 100_000;
/// Blocks are nested no deeper.
pub const MAX_DEPTH: usize = 64;

/// The state of building: the graph, counters, and what was found wrong.
pub struct Builder<'a, 'p> {
    pub program: &'a Program,
    pub patch: &'p mut Patch,
    pub problems: Diagnostics,
    /// Shapes that were asked for while unknown; a mistake only if nothing else is wrong.
    pub unknown: Diagnostics,
    pub globals: &'p Globals<'a>,
    depth: usize,
    /// Mistakes that were met, said or not.
    pub mistakes: usize,
    /// Places and codes of the mistakes that were said: a block makes them again at every call.
    said: FxHashSet<(Span, Code)>,
    /// A loop ended early, so that names are missing that it would have made.
    cut: bool,
    /// A limit was met: nothing more is built.
    halted: bool,
    /// The next number of each numbered scope.
    entries: FxHashMap<String, usize>,
    /// Labels in use, for the message about a second one.
    labels: FxHashMap<String, Span>,
    /// The maps of the network as the edit at work found it.
    maps: OnceCell<Vec<Map>>,
    /// What the base says of further outputs: by name, with the line.
    further: IndexMap<String, (NodeId, Span)>,
    /// `out` in the text of `insert .. beside`, and in the blocks that it calls.
    pub out: Option<NodeId>,
}

/// What everything that is built for one spec shares.
pub struct Globals<'a> {
    /// The values of each file's lets and params.
    values: HashMap<ModuleId, Env<'a>>,
    pub budget: Budget,
}

/// An evaluated label.
#[derive(Clone, Debug)]
pub struct Labelled {
    pub text: String,
    /// What is seen of a label that is a path: its first label, where that is a name.
    pub head: Option<Option<String>>,
    pub span: Span,
}

impl<'a, 'p> Builder<'a, 'p> {
    pub fn new(program: &'a Program, patch: &'p mut Patch, globals: &'p Globals<'a>) -> Builder<'a, 'p> {
        Builder {
            program,
            patch,
            globals,
            problems: Diagnostics::new(),
            unknown: Diagnostics::new(),
            depth: 0,
            mistakes: 0,
            said: FxHashSet::default(),
            cut: false,
            halted: false,
            entries: FxHashMap::default(),
            labels: FxHashMap::default(),
            maps: OnceCell::new(),
            further: IndexMap::new(),
            out: None,
        }
    }

    /// Makes a layer in the scope of `env`, named by `label` or else automatically.
    fn add_node(
        &mut self,
        env: &Env<'a>,
        label: Option<&Labelled>,
        op: Op,
        operands: Vec<NodeId>,
        span: Span,
    ) -> Result<NodeId> {
        let path = self.entry_path(env, label, op.name(), span)?;
        self.add_node_at(path, op, operands, span)
    }

    fn add_node_at(&mut self, path: String, op: Op, operands: Vec<NodeId>, span: Span) -> Result<NodeId> {
        if self.patch.len() >= MAX_LAYERS {
            let problem = Problem::new(Code::Limit, format!("the network has more than {MAX_LAYERS} layers"));
            return Err(problem.at(span));
        }
        Ok(self.patch.add(NewNode { path, op, operands, span }))
    }

    /// The path of the next entry of `env`'s scope: its label, its number in a `seq`, else the first free of `name`,
    /// `name_1` ..
    fn entry_path(&mut self, env: &Env<'a>, label: Option<&Labelled>, name: &str, span: Span) -> Result<String> {
        let numbered = env.naming == Naming::Numbered;
        self.spend(Limit::Text, env.scope.len() + label.map_or(name, |label| &label.text).len(), span)?;
        let mut number = 0;
        if numbered {
            match self.entries.get_mut(&env.scope) {
                Some(next) => {
                    number = *next;
                    *next += 1;
                }
                None => drop(self.entries.insert(env.scope.clone(), 1)),
            }
        }
        let taken = |path: &str| Problem::new(Code::Duplicate, format!("there is a `{}` already", path::display(path)));
        if let Some(label) = label {
            let path = path::join(&env.scope, &label.text);
            if let Some(holder) = self.layer_above(&env.scope, &path) {
                let problem = Problem::new(Code::Duplicate, format!("`{}` is a layer", path::display(&holder)));
                return Err(problem.hint("what lies in a scope has labels of its own").at(label.span));
            }
            if self.patch.is_taken(&path) {
                let problem = match self.labels.get(&path) {
                    Some(first) if *first != label.span => taken(&path).see(*first, "first used here"),
                    Some(_) => taken(&path).hint("labels in a loop need its variable: `\"layer{i}\": ..`"),
                    None => taken(&path).hint("choose another label"),
                };
                return Err(problem.at(label.span));
            }
            self.labels.insert(path.clone(), label.span);
            self.open_holders(&env.scope, &path, label.span)?;
            return Ok(path);
        }
        if numbered {
            let path = path::join(&env.scope, &number.to_string());
            return if self.patch.is_taken(&path) { Err(taken(&path).at(span)) } else { Ok(path) };
        }
        Ok(self.patch.free_path(&env.scope, name))
    }

    /// A layer in `scope` inside which a path would lie.
    fn layer_above(&self, scope: &str, path: &str) -> Option<String> {
        let holders = std::iter::successors(path::holder(path), |holder| path::holder(holder));
        holders
            .take_while(|holder| holder.len() > scope.len())
            .find(|holder| self.patch.find(holder).is_some())
            .map(str::to_string)
    }

    /// Makes scopes of those that a label names which is a path.
    fn open_holders(&mut self, scope: &str, path: &str, span: Span) -> Result<()> {
        let holders = std::iter::successors(path::holder(path), |holder| path::holder(holder));
        let new: Vec<String> = holders
            .take_while(|holder| holder.len() > scope.len() && !self.patch.is_taken(holder))
            .map(str::to_string)
            .collect();
        for holder in new.iter().rev() {
            self.spend(Limit::Text, holder.len(), span)?;
            self.open_scope(holder, None, Naming::ByOp, None, span)?;
        }
        Ok(())
    }

    fn open_scope(
        &mut self,
        path: &str,
        block: Option<&str>,
        naming: Naming,
        input: Option<NodeId>,
        span: Span,
    ) -> Result<()> {
        self.spend(Limit::Scopes, 1, span)?;
        let block = block.map(str::to_string);
        let numbered = naming == Naming::Numbered;
        self.patch.add_scope(path, Scope { block, numbered, input, output: None, additions: vec![], span });
        Ok(())
    }

    fn close_scope(&mut self, path: &str, output: Option<NodeId>) {
        self.patch.set_scope_output(path, output);
    }

    /// Runs `inside` one block deeper.
    fn deeper<T>(&mut self, span: Span, name: &str, inside: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            let problem = Problem::new(Code::Limit, format!("blocks are nested more than {MAX_DEPTH} deep"));
            return Err(problem.note(format!("`{name}` is called inside itself, or nearly so")).at(span));
        }
        self.depth += 1;
        let result = self.called(span, name, inside);
        self.depth -= 1;
        result
    }

    /// Runs what a call at `span` asks for: a mistake in it is shown with the call.
    fn called<T>(&mut self, span: Span, name: &str, inside: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = self.patch.calls.clone();
        self.patch.calls = nest(outer.clone(), span, name);
        let result = inside(self).map_err(|problem| problem.called(&self.patch.calls));
        self.patch.calls = outer;
        result
    }

    /// Counts something against its limit.
    fn spend(&self, limit: Limit, amount: usize, span: Span) -> Result<()> {
        self.globals.budget.spend(limit, amount as u64).at(span)
    }

    /// A list of evaluated values.
    fn list(&self, values: Vec<Value<'a>>, span: Span) -> Result<List<'a>> {
        self.spend(Limit::Elements, values.len(), span)?;
        let list = Value::List(List::new(values));
        self.check_nesting(&list, span)?;
        let Value::List(list) = list else { unreachable!("a list was made") };
        Ok(list)
    }

    /// Refuses what whoever walks over it could not walk over.
    fn check_nesting(&self, value: &Value<'a>, span: Span) -> Result<()> {
        if value.depth() <= MAX_NESTED {
            return Ok(());
        }
        let what = match value {
            Value::Function(_) => "functions see each other",
            Value::Callable(_) => "arguments hold each other",
            _ => "lists hold each other",
        };
        Err(Problem::new(Code::Limit, format!("{what} more than {MAX_NESTED} deep")).at(span))
    }

    /// Says a mistake, once at each place, and what follows from a loop that ended early not at all.
    fn report(&mut self, problem: Box<Diagnostic>) {
        self.mistakes += 1;
        let problem = problem.called(&self.patch.calls);
        let code = problem.problem.code;
        self.halted |= code == Code::Limit;
        let follows = self.cut && code == Code::UnknownName;
        if follows || problem.span.is_some_and(|span| !self.said.insert((span, code))) {
            return;
        }
        let counted = self.globals.budget.spend(Limit::Mistakes, 1);
        self.halted |= counted.is_err();
        let span = problem.span;
        self.problems.push(problem);
        if let Err(limit) = counted {
            self.problems.push(span.map_or_else(|| limit.clone().anywhere(), |span| limit.clone().at(span)));
        }
    }
}

/// Evaluates the lets and params of every file, in order. `set` holds the `--set` options.
pub fn globals<'a>(program: &'a Program, set: &[(String, String)]) -> (Globals<'a>, Diagnostics) {
    let values = program.modules().map(|id| (id, Env::file(id))).collect();
    let mut globals = Globals { values, budget: Budget::default() };
    let mut problems = Diagnostics::new();
    for (name, _) in set {
        if !program.params().any(|param| param.name.value == *name) {
            let problem = Problem::new(Code::UnknownName, format!("the spec has no `param {name}`"));
            let names = program.params().map(|param| param.name.value.as_str());
            problems.push(problem.hints(crate::diag::suggest(name, names)).anywhere());
        }
    }
    // used files come after their users, so the last are evaluated first
    let mut order: Vec<ModuleId> = program.modules().collect();
    order.reverse();
    'files: for id in order {
        let mut env = Env::file(id);
        for item in &program.module(id).tree.items {
            let mut graph = Graph::new();
            let outcome = graph.patch(|patch| {
                let mut builder = Builder::new(program, patch, &globals);
                builder.mistakes = problems.errors();
                match item {
                    tree::Item::Let(one) => builder.bind_let(&mut env, one),
                    tree::Item::Param(param) if id == Program::SPEC => {
                        let given = set.iter().rev().find(|(name, _)| *name == param.name.value);
                        builder.bind_param(&mut env, param, given.map(|(_, text)| text.as_str()))
                    }
                    tree::Item::Param(param) => {
                        let message = "`param` belongs in the spec, not in a file that it uses";
                        Err(Problem::new(Code::Syntax, message).hint("use `let`").at(param.span))
                    }
                    _ => Ok(()),
                }
            });
            let (name, span) = match item {
                tree::Item::Param(param) => (&param.name, param.span),
                tree::Item::Let(tree::Let::Function { name, span, .. }) => (name, *span),
                tree::Item::Let(tree::Let::Values { names, span, .. }) => (&names[0], *span),
                _ => continue,
            };
            if let Err(problem) = outcome {
                problems.push(problem);
                if globals.budget.is_spent() {
                    break 'files;
                }
                env.bind(&name.value, Value::Poison, BindingKind::Let);
            } else if !graph.is_empty() {
                let message = "a `let` of a file holds numbers, ops and functions, not layers";
                let problem = Problem::new(Code::BadEdit, message).hint("make the layers in a block");
                problems.push(problem.at(span));
                env.bind(&name.value, Value::Poison, BindingKind::Let);
            }
        }
        globals.values.insert(id, env);
    }
    (globals, problems)
}
