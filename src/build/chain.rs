//! Statements, chains and steps.

use super::value::{BindingKind, Function, Place, Value};
use super::{Builder, Env, Labelled, Limit, Naming, Outputs, Target};
use crate::diag::{At, Code, Problem, Result};
use crate::graph::{NodeId, OWN_OUTPUT, path};
use crate::ops;
use crate::source::Span;
use crate::syntax::tree::{self, Body, Chain, ExprKind, LabelPart, Let, Over, Step, StepKind, Stmt};

/// No label is longer, in bytes.
const MAX_LABEL: usize = 1_000;

impl<'a> Builder<'a, '_> {
    /// Runs braces with `input` as `in`, in the scope of `env`, and gives the value that they end with.
    pub fn braces(&mut self, env: &mut Env<'a>, body: &'a Body, input: Option<Value<'a>>) -> Result<Option<Value<'a>>> {
        let mark = env.mark();
        let outer_input = std::mem::replace(&mut env.input, input.clone());
        let outer_prev = std::mem::replace(&mut env.prev, input);
        self.stmts(env, &body.stmts);
        let result = std::mem::replace(&mut env.prev, outer_prev);
        env.input = outer_input;
        env.forget(mark);
        Ok(result)
    }

    /// Runs statements; a mistake in one is reported and poisons what follows.
    fn stmts(&mut self, env: &mut Env<'a>, stmts: &'a [Stmt]) {
        for stmt in stmts {
            if self.halted {
                return;
            }
            let counted = self.globals.budget.spend(Limit::Expressions, 1).at(span_of(stmt));
            if let Err(problem) = counted.and_then(|()| self.stmt(env, stmt)) {
                self.report(problem);
                env.prev = Some(Value::Poison);
                self.poison_names(env, stmt);
            }
        }
    }

    /// Binds what a failed statement would have named, so that its names are not reported as unknown.
    fn poison_names(&self, env: &mut Env<'a>, stmt: &'a Stmt) {
        match stmt {
            Stmt::Let(Let::Values { names, .. }) => {
                for name in names {
                    env.bind(&name.value, Value::Poison, BindingKind::Let);
                }
            }
            Stmt::Let(Let::Function { name, .. }) => env.bind(&name.value, Value::Poison, BindingKind::Let),
            Stmt::Chain(chain) => {
                for step in &chain.steps {
                    if let Some(tree::Label { parts, .. }) = &step.label
                        && let [LabelPart::Text(text)] = parts.as_slice()
                        && env.lookup(text).is_none()
                    {
                        env.bind(text, Value::Poison, BindingKind::Label);
                    }
                }
            }
            _ => {}
        }
    }

    fn stmt(&mut self, env: &mut Env<'a>, stmt: &'a Stmt) -> Result<()> {
        match stmt {
            Stmt::Let(one) => self.bind_let(env, one),
            Stmt::For(one) => self.run_for(env, one),
            Stmt::If(one) => {
                let mark = env.mark();
                match self.condition(env, &one.condition)? {
                    Some(true) => self.stmts(env, &one.then.stmts),
                    Some(false) => {
                        if let Some(otherwise) = &one.otherwise {
                            self.stmts(env, &otherwise.stmts);
                        }
                    }
                    None => env.prev = Some(Value::Poison),
                }
                env.forget_lets(mark);
                Ok(())
            }
            Stmt::Output(one) => self.further_output(env, one),
            Stmt::Chain(chain) => {
                let result = self.chain(env, chain, env.prev.clone())?;
                if let Some(value) = result.as_ref().filter(|value| !value.flows()) {
                    return Err(makes_nothing(value).at(chain.span));
                }
                // a statement that is only a parameter is no result
                let is_parameter = chain.steps.len() == 1 && self.takes_nothing(env, &chain.steps[0]);
                if let Some(result) = result.filter(|_| !is_parameter) {
                    env.prev = Some(result);
                }
                Ok(())
            }
        }
    }

    /// `output NAME = ..`: one more output, which is never the result.
    fn further_output(&mut self, env: &mut Env<'a>, one: &'a tree::FurtherOutput) -> Result<()> {
        match env.outputs {
            Outputs::Named => {}
            Outputs::Left => return Ok(()),
            Outputs::Refused => {
                let problem = Problem::new(Code::BadEdit, "only the body of a network has further outputs");
                return Err(problem.hint("an edit adds one by itself: `output aux = layer3 -> ..`").at(one.span));
            }
        }
        let prev = env.prev.clone();
        let value = self.value_of_chain(env, &one.value);
        env.prev = prev;
        let Some(node) = self.flowing(&Some(value?), one.value.span)? else { return Ok(()) };
        let name = &one.name.value;
        if name == OWN_OUTPUT {
            let problem = Problem::new(Code::Duplicate, format!("`{name}` is the network's own output"));
            return Err(problem.hint("choose another name for a further one").at(one.name.span));
        }
        if let Some((_, first)) = self.further.get(name) {
            let problem = Problem::new(Code::Duplicate, format!("there is an output `{name}` already"));
            return Err(problem.see(*first, "named here").at(one.name.span));
        }
        self.further.insert(name.clone(), (node, one.span));
        Ok(())
    }

    fn run_for(&mut self, env: &mut Env<'a>, one: &'a tree::For) -> Result<()> {
        match &one.over {
            Over::List(list) => {
                let items = match self.eval_operand(env, list)? {
                    Value::List(items) => items,
                    Value::Poison => return Ok(()),
                    other => {
                        let message = format!("`for` runs over a list or a range, got {}", other.describe());
                        return Err(Problem::new(Code::TypeMismatch, message).at(list.span));
                    }
                };
                for item in items.iter() {
                    if !self.loop_step(env, one, item.clone())? {
                        break;
                    }
                }
            }
            Over::Range { from, to, inclusive } => {
                let mut ends = [0i64; 2];
                for (end, expr) in ends.iter_mut().zip([from, to]) {
                    match self.eval_operand(env, expr)? {
                        Value::Int(value) => *end = value,
                        Value::Poison => return Ok(()),
                        other => {
                            let message = format!("a range needs integers, got {}", other.describe());
                            return Err(Problem::new(Code::TypeMismatch, message).at(expr.span));
                        }
                    }
                }
                let last = if *inclusive { Some(ends[1]) } else { ends[1].checked_sub(1) };
                let mut at = ends[0];
                while last.is_some_and(|last| at <= last) && self.loop_step(env, one, Value::Int(at))? {
                    let Some(next) = at.checked_add(1) else { break };
                    at = next;
                }
            }
        }
        Ok(())
    }

    /// One round of a loop; false where it was the last: a mistake would be made again in each further one.
    fn loop_step(&mut self, env: &mut Env<'a>, one: &'a tree::For, item: Value<'a>) -> Result<bool> {
        self.spend(Limit::Steps, 1, one.span)?;
        let mark = env.mark();
        let mistakes = self.mistakes;
        self.bind_names(env, &one.names, item)?;
        self.stmts(env, &one.body.stmts);
        env.forget_lets(mark);
        let goes_on = self.mistakes == mistakes && !self.halted;
        if !goes_on {
            self.cut = true;
            env.prev = Some(Value::Poison);
        }
        Ok(goes_on)
    }

    /// Binds one name to a value, or several to the items of a list.
    fn bind_names(&mut self, env: &mut Env<'a>, names: &'a [tree::Name], value: Value<'a>) -> Result<()> {
        let items = match (names, value) {
            ([name], value) => {
                env.bind(&name.value, value, BindingKind::Let);
                return Ok(());
            }
            (_, Value::List(items)) if items.len() == names.len() => items,
            (_, Value::Poison) => vec![Value::Poison; names.len()].into_iter().collect(),
            (_, other) => {
                let got = match &other {
                    Value::List(items) => format!("a list of {}", items.len()),
                    other => other.describe(),
                };
                let message = format!("{} names need a list of {}, got {got}", names.len(), names.len());
                let span = names[0].span.to(names[names.len() - 1].span);
                return Err(Problem::new(Code::TypeMismatch, message).at(span));
            }
        };
        for (name, item) in names.iter().zip(items.iter()) {
            env.bind(&name.value, item.clone(), BindingKind::Let);
        }
        Ok(())
    }

    pub(super) fn bind_let(&mut self, env: &mut Env<'a>, one: &'a Let) -> Result<()> {
        match one {
            Let::Function { name, params, value, .. } => {
                let seen = env.seen_by(value);
                self.spend(Limit::Elements, seen.len(), name.span)?;
                let function = Value::Function(Function::new(name, params, value, env.module, seen).into());
                self.check_nesting(&function, name.span)?;
                env.bind(&name.value, function, BindingKind::Let);
                Ok(())
            }
            Let::Values { names, value, .. } => {
                // a `let` never becomes the result
                let prev = env.prev.clone();
                let result = self.let_value(env, value);
                env.prev = prev;
                self.bind_names(env, names, result?)
            }
        }
    }

    /// An op or block alone and without label names the op; everything else is a value.
    fn let_value(&mut self, env: &mut Env<'a>, chain: &'a Chain) -> Result<Value<'a>> {
        if let [Step { label: None, kind: StepKind::Expr(expr), .. }] = chain.steps.as_slice() {
            return match self.eval(env, expr)? {
                // a word that was picked among others is meant as one
                Value::Word(word) if matches!(expr.kind, ExprKind::Name(_)) => {
                    Err(self.unknown_name(env, &word).at(expr.span))
                }
                value => Ok(value),
            };
        }
        self.value_of_chain(env, chain)
    }

    /// A chain as a value: its head must not need a result to take.
    pub(super) fn value_of_chain(&mut self, env: &mut Env<'a>, chain: &'a Chain) -> Result<Value<'a>> {
        let head = &chain.steps[0];
        if !self.head_is_value(env, head) && !self.takes_nothing(env, head) {
            let problem = Problem::new(Code::BadEdit, "this chain has nothing to take");
            return Err(problem.hint("begin it with a value: `in -> ..` or `prev -> ..`").at(head.span));
        }
        let result = self.chain(env, chain, None)?;
        result.ok_or_else(|| Problem::new(Code::TypeMismatch, "this makes no value").at(chain.span))
    }

    /// Whether the head of a chain is a value and not a step.
    fn head_is_value(&self, env: &Env<'a>, step: &'a Step) -> bool {
        let StepKind::Expr(expr) = &step.kind else { return false };
        match &expr.kind {
            ExprKind::Name(name) => match self.step_value(env, name) {
                // a name whose mistake is reported is silent as a value
                None if is_same(env, name) => false,
                Some(Value::Poison) | None => true,
                Some(_) => false,
            },
            ExprKind::Call(name, _) => {
                let is_step =
                    name.value == "tied" || is_same(env, &name.value) || self.step_value(env, &name.value).is_some();
                ops::OPERAND_OPS.contains(&name.value.as_str()) || !is_step
            }
            _ => true,
        }
    }

    /// Whether a step is a layer without operands: a parameter or a table.
    fn takes_nothing(&self, env: &Env<'a>, step: &'a Step) -> bool {
        let StepKind::Expr(expr) = &step.kind else { return false };
        let name = match &expr.kind {
            ExprKind::Name(name) => name,
            ExprKind::Call(name, _) => &name.value,
            _ => return false,
        };
        let Some(Value::Callable(callable)) = self.step_value(env, name) else { return false };
        matches!(callable.target, Target::Op(entry) if ops::makes_constant(entry.name))
    }

    /// Runs a chain. `start` is what its first step takes, where that is no value itself.
    pub(super) fn chain(
        &mut self,
        env: &mut Env<'a>,
        chain: &'a Chain,
        start: Option<Value<'a>>,
    ) -> Result<Option<Value<'a>>> {
        let (head, rest) = chain.steps.split_first().expect("a chain has a step");
        if let (Some(label), StepKind::Expr(expr), Some(next)) = (&head.label, &head.kind, rest.first())
            && self.head_is_value(env, head)
            && !makes_layer(expr)
            && self.eval_operand(env, expr).is_ok()
        {
            let label = self.label(env, label)?;
            let problem = labels_no_layer(&label).hints(label_behind(expr, &label, next));
            return Err(problem.at(label.span));
        }
        let first =
            if self.head_is_value(env, head) { Some(self.head(env, head)?) } else { self.step(env, head, start)? };
        rest.iter().try_fold(first, |value, step| self.step(env, step, value))
    }

    /// The head of a chain that is a value, perhaps labelled.
    fn head(&mut self, env: &mut Env<'a>, step: &'a Step) -> Result<Value<'a>> {
        let label = step.label.as_ref().map(|label| self.label(env, label)).transpose()?;
        self.head_as(env, step, label)
    }

    fn head_as(&mut self, env: &mut Env<'a>, step: &'a Step, label: Option<Labelled>) -> Result<Value<'a>> {
        let StepKind::Expr(expr) = &step.kind else { unreachable!("the caller looked") };
        let Some(label) = label else { return self.eval_operand(env, expr) };
        if !makes_layer(expr) {
            if let ExprKind::Name(name) = &expr.kind
                && env.lookup(name).is_none()
            {
                return Err(self.unknown_name(env, name).at(expr.span));
            }
            let hint = format!("`let {} = ..` names a value", label.text);
            return Err(labels_no_layer(&label).hint(hint).at(label.span));
        }
        let value = self.eval_as(env, expr, Some(&label))?;
        self.bind_label(env, &label, &value, step.span);
        Ok(value)
    }

    /// Fills in the expressions of a quoted label.
    pub(super) fn label(&mut self, env: &mut Env<'a>, label: &'a tree::Label) -> Result<Labelled> {
        let mut text = String::new();
        for part in &label.parts {
            match part {
                LabelPart::Text(part) => text += part,
                LabelPart::Expr(expr) => match self.eval_operand(env, expr)? {
                    Value::Int(value) => text += &value.to_string(),
                    Value::Float(value) => text += &value.to_string(),
                    Value::Str(value) | Value::Word(value) => text += &value,
                    Value::Poison => text += "?",
                    other => {
                        let message = format!("a label is made of numbers and texts, got {}", other.describe());
                        return Err(Problem::new(Code::TypeMismatch, message).at(expr.span));
                    }
                },
            }
        }
        self.spend(Limit::Text, text.len(), label.span)?;
        if text.len() > MAX_LABEL {
            let message = format!("a label has at most {MAX_LABEL} bytes, got {}", text.len());
            return Err(Problem::new(Code::BadValue, message).at(label.span));
        }
        let is_label = |text: &str| !text.is_empty() && !text.contains(['.', '[', ']']);
        let is_one = if label.path.is_some() { text.split('.').all(is_label) } else { is_label(&text) };
        if !is_one {
            let message = format!("a label is text without `.`, `[` and `]`, got {text:?}");
            return Err(Problem::new(Code::BadValue, message).at(label.span));
        }
        let head = label.path.as_ref().map(|head| match head {
            tree::PathHead::Name(name) => Some(name.clone()),
            tree::PathHead::Quoted => None,
        });
        Ok(Labelled { text, head, span: label.span })
    }

    /// Makes a label visible from here on.
    fn bind_label(&self, env: &mut Env<'a>, label: &Labelled, value: &Value<'a>, span: Span) {
        if let Some(head) = &label.head {
            // the scope that it lies in is seen
            let Some(head) = head else { return };
            let path = path::join(&env.scope, head);
            let is_seen = matches!(env.lookup(head), Some(Value::Place(place)) if *place.path == *path);
            if !is_seen {
                env.bind(head, Value::Place(Place { path: path.into(), output: None }), BindingKind::Label);
            }
            return;
        }
        let bound = match value {
            Value::Poison => Value::Poison,
            // the parts of a `chunk` are taken apart by name, its path is a scope
            list @ Value::List(_) => list.clone(),
            value => {
                let output = self.node(value, span).ok();
                Value::Place(Place { path: path::join(&env.scope, &label.text).into(), output })
            }
        };
        env.bind(&label.text, bound, BindingKind::Label);
    }

    /// Runs one step on what flows into it.
    fn step(&mut self, env: &mut Env<'a>, step: &'a Step, value: Option<Value<'a>>) -> Result<Option<Value<'a>>> {
        let label = step.label.as_ref().map(|label| self.label(env, label)).transpose()?;
        self.step_as(env, step, label, value)
    }

    /// Runs one step whose layer or scope is called `label`.
    fn step_as(
        &mut self,
        env: &mut Env<'a>,
        step: &'a Step,
        label: Option<Labelled>,
        value: Option<Value<'a>>,
    ) -> Result<Option<Value<'a>>> {
        let result = match &step.kind {
            StepKind::Seq(body) => {
                let at = self.entry_path(env, label.as_ref(), "seq", step.span)?;
                self.scope(env, &at, Naming::Numbered, body, value, step.span)?
            }
            StepKind::Braces(body) if label.is_some() || env.naming == Naming::Numbered => {
                let at = self.entry_path(env, label.as_ref(), "braces", step.span)?;
                self.scope(env, &at, Naming::ByOp, body, value, step.span)?
            }
            StepKind::Braces(body) => self.braces(env, body, value)?,
            StepKind::Residual(residual) => self.residual(env, label.as_ref(), residual, value)?,
            StepKind::Expr(expr) => {
                let (name, args, name_span) = match &expr.kind {
                    ExprKind::Name(name) => (name, None, expr.span),
                    ExprKind::Call(name, args) => (&name.value, Some(args), name.span),
                    _ => return Err(value_in_chain("this").at(expr.span)),
                };
                match self.step_value(env, name) {
                    None if name == "tied" => Some(self.tied(env, label.as_ref(), args, value, step.span)?),
                    None if is_same(env, name) => self.same(env, label.as_ref(), args, value, step.span)?,
                    None if env.lookup(name).is_some() => {
                        return Err(value_in_chain(&format!("`{name}`")).at(name_span));
                    }
                    None => return Err(self.unknown_name(env, name).at(name_span)),
                    Some(Value::None) => return Ok(value),
                    Some(Value::Callable(callable)) => {
                        let callable = match args {
                            Some(args) => self.with_args(env, callable, args)?,
                            None => callable,
                        };
                        self.apply(env, label.as_ref(), callable, value, step.span)?
                    }
                    Some(_) => Some(Value::Poison),
                }
            }
        };
        if let Some(label) = &label {
            self.bind_label(env, label, result.as_ref().unwrap_or(&Value::Poison), step.span);
        }
        Ok(result)
    }

    /// Makes what an edit puts in, `input` flowing into it, and gives the node that it ends with; None where a mistake
    /// is already reported.
    ///
    /// With `at` it becomes the layer or scope of that path: a single layer or block itself, several layers a `seq`.
    /// Without, its layers go into the scope of `env` under names of their own.
    pub fn new_layers(
        &mut self,
        env: &mut Env<'a>,
        new: &'a tree::New,
        at: Option<&str>,
        input: NodeId,
    ) -> Result<Option<NodeId>> {
        let before = self.patch.len();
        let chain = &new.chain;
        let start = Some(Value::Node(input));
        (env.input, env.prev) = (start.clone(), start.clone());
        let result = match at {
            None => self.chain(env, chain, start)?,
            Some(at) => self.chain_at(env, chain, at, start)?,
        };
        let Some(result) = result.filter(|value| !value.is_poison()) else { return Ok(None) };
        let node = self.node(&result, chain.span)?;
        if self.patch.len() == before {
            let problem = Problem::new(Code::BadEdit, "this makes no layer");
            return Err(problem.hint("`identity` is a layer that does nothing").at(chain.span));
        }
        Ok(Some(node))
    }

    fn chain_at(
        &mut self,
        env: &mut Env<'a>,
        chain: &'a Chain,
        at: &str,
        start: Option<Value<'a>>,
    ) -> Result<Option<Value<'a>>> {
        let (head, rest) = chain.steps.split_first().expect("a chain has a step");
        let head_is_value = self.head_is_value(env, head);
        let plain_head = head_is_value && matches!(&head.kind, StepKind::Expr(expr) if !makes_layer(expr));
        let layers = if plain_head { rest } else { &chain.steps[..] };
        env.scope = path::parent(at).to_string();
        let [only] = layers else {
            let input = self.flowing(&start, chain.span)?;
            self.open_scope(at, None, Naming::Numbered, input, chain.span)?;
            (env.scope, env.naming) = (at.to_string(), Naming::Numbered);
            let result = self.chain(env, chain, start)?;
            let output = self.flowing(&result, chain.span)?;
            self.close_scope(at, output);
            return Ok(result);
        };
        if let Some(label) = &only.label {
            let text = self.label(env, label)?.text;
            let message = format!("a single layer takes the path of its place, not the label `{text}`");
            let problem = Problem::new(Code::BadEdit, message);
            return Err(problem.hint(format!("name it with `as {text}`")).at(label.span));
        }
        let label = Some(Labelled { text: path::last(at).to_string(), head: None, span: only.span });
        if plain_head {
            let value = self.head(env, head)?;
            self.step_as(env, only, label, Some(value))
        } else if head_is_value {
            self.head_as(env, only, label).map(Some)
        } else {
            self.step_as(env, only, label, start)
        }
    }

    /// Opens the scope at `at`, runs its braces and closes it.
    fn scope(
        &mut self,
        env: &mut Env<'a>,
        at: &str,
        naming: Naming,
        body: &'a Body,
        value: Option<Value<'a>>,
        span: Span,
    ) -> Result<Option<Value<'a>>> {
        let input = self.flowing(&value, span)?;
        self.open_scope(at, None, naming, input, span)?;
        let outer_scope = std::mem::replace(&mut env.scope, at.to_string());
        let outer_naming = std::mem::replace(&mut env.naming, naming);
        let result = self.braces(env, body, value);
        env.scope = outer_scope;
        env.naming = outer_naming;
        let result = result?;
        let output = self.flowing(&result, span)?;
        self.close_scope(at, output);
        Ok(result)
    }

    /// The node that flows, where one does.
    pub(super) fn flowing(&self, value: &Option<Value<'a>>, span: Span) -> Result<Option<NodeId>> {
        match value {
            None | Some(Value::Poison) => Ok(None),
            Some(value) => self.node(value, span).map(Some),
        }
    }

    /// `residual { main } shortcut { side }`: an `add` of both, main first. A scope only where it is labelled or an
    /// entry of a `seq`.
    fn residual(
        &mut self,
        env: &mut Env<'a>,
        label: Option<&Labelled>,
        residual: &'a tree::Residual,
        value: Option<Value<'a>>,
    ) -> Result<Option<Value<'a>>> {
        if label.is_none() && env.naming == Naming::ByOp {
            return self.residual_branches(env, residual, value);
        }
        let span = residual.span;
        let input = self.flowing(&value, span)?;
        let at = self.entry_path(env, label, "residual", span)?;
        self.open_scope(&at, None, Naming::ByOp, input, span)?;
        let outer = (std::mem::replace(&mut env.scope, at.clone()), env.naming);
        env.naming = Naming::ByOp;
        let result = self.residual_branches(env, residual, value);
        (env.scope, env.naming) = outer;
        let result = result?;
        let output = self.flowing(&result, span)?;
        self.close_scope(&at, output);
        Ok(result)
    }

    fn residual_branches(
        &mut self,
        env: &mut Env<'a>,
        residual: &'a tree::Residual,
        value: Option<Value<'a>>,
    ) -> Result<Option<Value<'a>>> {
        // conditions see as `in` what flows into the residual
        let outer_input = std::mem::replace(&mut env.input, value.clone());
        let adds = self.optional_condition(env, residual.condition.as_ref());
        let projects = match &residual.shortcut {
            Some(shortcut) if matches!(adds, Ok(Some(true))) => {
                self.optional_condition(env, shortcut.condition.as_ref())
            }
            _ => Ok(Some(false)),
        };
        env.input = outer_input;
        let (adds, projects) = (adds?, projects?);
        let main = self.braces(env, &residual.main, value.clone())?;
        let side = match (&residual.shortcut, projects) {
            (Some(shortcut), Some(true)) => self.braces(env, &shortcut.body, value)?,
            _ => value,
        };
        let (Some(adds), Some(_)) = (adds, projects) else { return Ok(Some(Value::Poison)) };
        if !adds {
            return Ok(main);
        }
        let (Some(main), Some(side)) = (main, side) else {
            return Err(Problem::new(Code::BadEdit, "a residual needs something to flow into it").at(residual.span));
        };
        if main.is_poison() || side.is_poison() {
            return Ok(Some(Value::Poison));
        }
        let operands = vec![self.node(&main, residual.span)?, self.node(&side, residual.span)?];
        let op = ops::join::Add { number: None }.into();
        let path = self.patch.free_path(&env.scope, "add");
        let id = self.add_node_at(path, op, operands, word(residual.span))?;
        self.patch.add_addition(&env.scope, id);
        Ok(Some(Value::Node(id)))
    }

    fn optional_condition(&mut self, env: &mut Env<'a>, expr: Option<&'a tree::Expr>) -> Result<Option<bool>> {
        expr.map_or(Ok(Some(true)), |expr| self.condition(env, expr))
    }
}

/// Whether a name that no op or block has is the layer that an edit replaces.
fn is_same(env: &Env<'_>, name: &str) -> bool {
    name == "same" && env.same.is_some()
}

/// Whether a value at the head of a chain is a layer of its own: an operator or a call.
fn makes_layer(expr: &tree::Expr) -> bool {
    matches!(expr.kind, ExprKind::Binary(..) | ExprKind::Call(..) | ExprKind::Unary(tree::Unary::Neg, _))
}

fn span_of(stmt: &Stmt) -> Span {
    match stmt {
        Stmt::Let(Let::Function { span, .. } | Let::Values { span, .. }) => *span,
        Stmt::For(one) => one.span,
        Stmt::If(one) => one.span,
        Stmt::Output(one) => one.span,
        Stmt::Chain(chain) => chain.span,
    }
}

/// A statement that is a number or a word.
fn makes_nothing(value: &Value<'_>) -> Problem {
    let problem = Problem::new(Code::BadEdit, format!("this statement makes no layer: it is {}", value.describe()));
    match value {
        Value::WordCall(word, _) if &**word == "constant" => problem.hint(
            "a tensor of fixed values is `buffer([1], init = constant(3))`; beside a value stands the number alone",
        ),
        Value::Callable(callable) => {
            problem.hint(format!("a layer is made by `{}`, without parentheses", callable.target.name()))
        }
        _ => problem.hint("`let name = ..` names it"),
    }
}

fn labels_no_layer(label: &Labelled) -> Problem {
    Problem::new(Code::BadEdit, format!("`{}:` labels a layer, and this makes none", label.text))
}

/// `(layer3) -> l4: conv2d(..)`, where `l4: (layer3) -> conv2d(..)` was written.
fn label_behind(head: &tree::Expr, label: &Labelled, next: &Step) -> Option<String> {
    let head = match &head.kind {
        ExprKind::Name(name) => name.clone(),
        ExprKind::In => "in".to_string(),
        ExprKind::Prev => "prev".to_string(),
        ExprKind::Paren(chain) => match chain.steps.as_slice() {
            [Step { kind: StepKind::Expr(tree::Expr { kind: ExprKind::Name(name), .. }), .. }] => format!("({name})"),
            _ => "(..)".to_string(),
        },
        _ => return None,
    };
    let next = match &next.kind {
        _ if next.label.is_some() => {
            return Some("the layer behind it has a label of its own: leave this one out".into());
        }
        StepKind::Expr(tree::Expr { kind: ExprKind::Name(name), .. }) => name.clone(),
        StepKind::Expr(tree::Expr { kind: ExprKind::Call(name, _), .. }) => format!("{}(..)", name.value),
        StepKind::Seq(_) => "seq { .. }".to_string(),
        StepKind::Braces(_) => "{ .. }".to_string(),
        StepKind::Residual(_) => "residual { .. }".to_string(),
        StepKind::Expr(_) => return None,
    };
    Some(format!("put the label before the layer: `{head} -> {}: {next}`", label.text))
}

fn value_in_chain(what: &str) -> Problem {
    let problem = Problem::new(Code::Syntax, format!("{what} is a value, and a step after `->` is an op or a block"));
    problem.hint("values stand at the head of a chain")
}

/// The word `residual`, so that a message about the addition marks that and not all of its branches.
fn word(residual: Span) -> Span {
    Span { end: residual.end.min(residual.start + "residual".len() as u32), ..residual }
}
