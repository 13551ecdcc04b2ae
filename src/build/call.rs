//! Calls of ops, blocks and networks as layers.

use super::value::{BindingKind, CallArg, Callable, Target, Value, place};
use super::{Builder, Env, Labelled, Limit, Naming};
use rustc_hash::FxHashMap;

use crate::diag::{Code, Problem, Result, count, suggest};
use crate::graph::{NodeId, path};
use crate::ops::{self, Arity, Op};
use crate::resolve::ModuleId;
use crate::source::Span;
use crate::syntax::tree::{self, Spanned};

impl<'a> Builder<'a, '_> {
    /// The callable with further arguments: later ones win by name, positional ones follow those already given.
    pub(super) fn with_args(
        &mut self,
        env: &mut Env<'a>,
        callable: Callable<'a>,
        args: &'a tree::Args,
    ) -> Result<Callable<'a>> {
        let mut fresh: Vec<CallArg<'a>> = vec![];
        let mut named: FxHashMap<&str, Span> = FxHashMap::default();
        for arg in &args.args {
            let value = self.eval(env, &arg.value)?;
            let span = arg.value.span;
            if let Some(name) = &arg.name
                && let Some(first) = named.insert(&name.value, span)
            {
                let problem = Problem::new(Code::Duplicate, format!("`{}` is given twice", name.value));
                return Err(problem.see(first, "first given here").at(name.span));
            }
            fresh.push(CallArg { name: arg.name.as_ref(), value, span, expr: &arg.value });
        }
        self.spend(Limit::Elements, callable.args.len() + fresh.len(), args.span)?;
        let is_new = |old: &CallArg<'a>| old.name.is_some_and(|old| named.contains_key(old.value.as_str()));
        let kept = callable.args.iter().filter(|old| !is_new(old)).cloned();
        let callable = Callable::new(callable.target, kept.chain(fresh).collect());
        self.check_nesting(&Value::Callable(callable.clone()), args.span)?;
        Ok(callable)
    }

    /// Makes the layer or scope that a step calls for.
    pub(super) fn apply(
        &mut self,
        env: &mut Env<'a>,
        label: Option<&Labelled>,
        callable: Callable<'a>,
        value: Option<Value<'a>>,
        span: Span,
    ) -> Result<Option<Value<'a>>> {
        let name = callable.target.name();
        if let Target::Op(entry) = callable.target {
            return self.apply_op(env, label, entry, &callable.args, value, span);
        }
        let at = self.entry_path(env, label, name, span)?;
        self.spend(Limit::Calls, 1, span)?;
        self.deeper(span, name, |builder| match callable.target {
            Target::Block(module, block) => builder.apply_block(module, block, &callable.args, &at, value, span),
            Target::Network(module, network) => {
                builder.apply_network(module, network, &callable.args, &at, value, span)
            }
            Target::Op(_) => unreachable!("ops were handled"),
        })
    }

    fn apply_op(
        &mut self,
        env: &mut Env<'a>,
        label: Option<&Labelled>,
        entry: &'static ops::Entry,
        args: &[CallArg<'a>],
        value: Option<Value<'a>>,
        span: Span,
    ) -> Result<Option<Value<'a>>> {
        let Some(op) = self.make_op(env, entry, args, span)? else {
            return Ok(Some(Value::Poison));
        };
        self.put_op(env, label, op, value, span)
    }

    /// Makes the layer of an op of one value, or of none.
    pub(super) fn put_op(
        &mut self,
        env: &mut Env<'a>,
        label: Option<&Labelled>,
        op: Op,
        value: Option<Value<'a>>,
        span: Span,
    ) -> Result<Option<Value<'a>>> {
        let name = op.name();
        if matches!(op, Op::Input(_)) {
            let problem = Problem::new(Code::BadEdit, "`input` is declared by a network, not made as a layer");
            return Err(problem.at(span));
        }
        if op.arity() == Arity::Exactly(0) {
            return self.add_node(env, label, op, vec![], span).map(|id| Some(Value::Node(id)));
        }
        let operand = match value {
            Some(Value::Poison) => return Ok(Some(Value::Poison)),
            Some(value) => self.node(&value, span)?,
            None => {
                let problem = Problem::new(Code::BadEdit, format!("`{name}` has nothing to take here"));
                return Err(problem.hint("begin the chain with a value: `in -> ..`").at(span));
            }
        };
        if op.arity() != Arity::Exactly(1) {
            let problem = Problem::new(Code::MissingArgument, format!("`{name}` takes several values"));
            let hint = format!("write `{name}(prev, other)` at the head of a statement");
            return Err(problem.hint(hint).at(span));
        }
        if let Op::Chunk(chunk) = &op {
            return self.apply_chunk(env, label, chunk, operand, span).map(Some);
        }
        self.add_node(env, label, op, vec![operand], span).map(|id| Some(Value::Node(id)))
    }

    /// `same`, the layer that an edit replaces, perhaps with some arguments changed.
    pub(super) fn same(
        &mut self,
        env: &mut Env<'a>,
        label: Option<&Labelled>,
        args: Option<&'a tree::Args>,
        value: Option<Value<'a>>,
        span: Span,
    ) -> Result<Option<Value<'a>>> {
        let same = env.same.clone().expect("the caller looked");
        let Some(op) = &same.op else {
            let problem =
                Problem::new(Code::BadEdit, format!("`same` is one layer again, and `{}` is more", same.shown));
            return Err(problem.hint("name its block, or its layers one by one").at(span));
        };
        let mut changes = vec![];
        let first = ops::find(op.name()).and_then(|entry| entry.args.first()).map(|first| first.name);
        for (at, arg) in args.into_iter().flat_map(|args| &args.args).enumerate() {
            let name = match (&arg.name, first) {
                (Some(name), _) => name.clone(),
                (None, Some(first)) if at == 0 => Spanned { value: first.to_string(), span: arg.value.span },
                (None, _) => {
                    let problem = Problem::new(Code::UnknownArgument, "the arguments of `same` go by name");
                    return Err(problem.at(arg.value.span));
                }
            };
            changes.push((name, &arg.value));
        }
        let op = self.changed(env, op, &same.shown, &changes, span)?;
        self.put_op(env, label, op, value, span)
    }

    /// An op with some of its arguments changed. `layer` is whose op it is, as messages print it.
    pub fn changed(
        &mut self,
        env: &mut Env<'a>,
        op: &Op,
        layer: &str,
        changes: &[(tree::Name, &'a tree::Expr)],
        span: Span,
    ) -> Result<Op> {
        let mut args = vec![];
        for (name, expr) in changes {
            let value = self.eval(env, expr)?;
            let Some(value) = value.to_attr() else {
                let problem = Problem::new(Code::TypeMismatch, format!("`{}` cannot be {}", name.value, value.kind()));
                return Err(problem.at(expr.span));
            };
            args.push(ops::attr::Arg { name: Some(name.value.clone()), value });
        }
        op.with_attrs(&args).map_err(|found| {
            let span = found.arg.and_then(|at| changes.get(at)).map_or(span, |(name, expr)| {
                let of_name = matches!(found.problem.code, Code::UnknownArgument | Code::Duplicate);
                if of_name { name.span } else { place(expr, &found.within) }
            });
            found.problem.note(format!("`{layer}` is a `{}`", op.name())).at(span)
        })
    }

    /// `chunk(n)`: a scope of n nodes, numbered from 0, each one part.
    fn apply_chunk(
        &mut self,
        env: &Env<'a>,
        label: Option<&Labelled>,
        chunk: &ops::layout::Chunk,
        operand: NodeId,
        span: Span,
    ) -> Result<Value<'a>> {
        let at = self.entry_path(env, label, "chunk", span)?;
        self.open_scope(&at, None, Naming::Numbered, Some(operand), span)?;
        let mut parts = vec![];
        for part in 0..chunk.parts {
            let op = Op::Chunk(ops::layout::Chunk { part: part as i64, ..chunk.clone() });
            let id = self.add_node_at(path::join(&at, &part.to_string()), op, vec![operand], span)?;
            parts.push(Value::Node(id));
        }
        self.list(parts, span).map(Value::List)
    }

    fn apply_block(
        &mut self,
        module: ModuleId,
        block: &'a tree::Block,
        args: &[CallArg<'a>],
        at: &str,
        value: Option<Value<'a>>,
        span: Span,
    ) -> Result<Option<Value<'a>>> {
        let input = self.flowing(&value, span)?;
        let naming = if block.seq { Naming::Numbered } else { Naming::ByOp };
        let mut env = Env::block(module, at, naming, value.clone());
        self.bind_params(&mut env, &block.name, &block.params, args, span)?;
        self.open_scope(at, Some(&block.name.value), naming, input, span)?;
        let result = self.braces(&mut env, &block.body, value)?;
        let output = self.flowing(&result, span)?;
        self.close_scope(at, output);
        Ok(result)
    }

    /// Binds a block's or network's parameters: positional arguments in order, then by name, then defaults, which see
    /// the parameters before them and `in`.
    pub(super) fn bind_params(
        &mut self,
        env: &mut Env<'a>,
        name: &'a tree::Name,
        params: &'a [tree::Param],
        args: &[CallArg<'a>],
        span: Span,
    ) -> Result<()> {
        let mut given: Vec<Option<&CallArg<'a>>> = vec![None; params.len()];
        let mut position = 0;
        let places: FxHashMap<&str, usize> = params.iter().map(|param| param.name.value.as_str()).zip(0..).collect();
        for arg in args {
            let at = match arg.name {
                None => {
                    position += 1;
                    if position > params.len() {
                        let message = format!("`{}` takes {}, got more", name.value, count(params.len(), "argument"));
                        let problem = Problem::new(Code::UnknownArgument, message);
                        return Err(with_parameters(problem, name, params).at(arg.span));
                    }
                    position - 1
                }
                Some(named) => match places.get(named.value.as_str()) {
                    Some(at) => *at,
                    None => {
                        let message = format!("`{}` has no argument `{}`", name.value, named.value);
                        let problem = Problem::new(Code::UnknownArgument, message);
                        let names = params.iter().map(|param| param.name.value.as_str());
                        let problem = match suggest(&named.value, names) {
                            Some(hint) => problem.hint(hint),
                            None => with_parameters(problem, name, params),
                        };
                        return Err(problem.at(named.span));
                    }
                },
            };
            if given[at].is_some() {
                let message = format!("`{}` is given `{}` twice", name.value, params[at].name.value);
                return Err(Problem::new(Code::Duplicate, message).at(arg.span));
            }
            given[at] = Some(arg);
        }
        for (param, given) in params.iter().zip(given) {
            let value = match (given, &param.default) {
                // a word is a name that nothing has, unless a word may be meant
                (Some(CallArg { value: Value::Word(word), span, .. }), _) if !takes_words(param) => {
                    return Err(self.unknown_name(env, word).at(*span));
                }
                (Some(arg), _) => arg.value.clone(),
                (None, Some(default)) => self.eval(env, default)?,
                (None, None) => {
                    let message = format!("`{}` needs `{}`", name.value, param.name.value);
                    let problem = Problem::new(Code::MissingArgument, message).see(param.span, "declared here");
                    return Err(problem.at(span));
                }
            };
            env.bind(&param.name.value, value, BindingKind::Let);
        }
        Ok(())
    }
}

/// Whether a parameter may be a bare word (`nearest`): not where its default is a number or a list.
fn takes_words(param: &tree::Param) -> bool {
    use tree::ExprKind::{Bool, Float, Int, List};
    !matches!(param.default.as_ref().map(|default| &default.kind), Some(Int(_) | Float(_) | Bool(_) | List(_)))
}

fn with_parameters(problem: Problem, name: &tree::Name, params: &[tree::Param]) -> Problem {
    let names: Vec<&str> = params.iter().map(|param| param.name.value.as_str()).collect();
    problem.hint(format!("it is `{}({})`", name.value, names.join(", "))).see(name.span, "defined here")
}
