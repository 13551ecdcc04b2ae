//! Expressions.

use std::rc::Rc;

use super::number;
use super::value::{BindingKind, CallArg, Callable, Function, MAX_ATTR, Place, Target, Value};
use super::{Builder, Env, Labelled, Limit};
use crate::diag::{At, Code, Diagnostic, Problem, Result, SHOWN, suggest};
use crate::graph::{NodeId, path};
use crate::ops::attr::{Arg, Attr};
use crate::ops::{self, Op};
use crate::resolve::{Found, Program};
use crate::source::Span;
use crate::syntax::tree::{self, Binary, Expr, ExprKind};

/// Words that take arguments: initialisers, where weights come from, and the parts of a `train` block.
const WORD_CALLS: &[&str] = &["normal", "trunc_normal", "uniform", "from", "hf", "random"];

impl<'a> Builder<'a, '_> {
    pub fn eval(&mut self, env: &mut Env<'a>, expr: &'a Expr) -> Result<Value<'a>> {
        self.eval_as(env, expr, None)
    }

    /// Evaluates; where the outermost operation makes a layer, that is called `label`.
    pub(super) fn eval_as(&mut self, env: &mut Env<'a>, expr: &'a Expr, label: Option<&Labelled>) -> Result<Value<'a>> {
        self.spend(Limit::Expressions, 1, expr.span)?;
        match &expr.kind {
            ExprKind::Int(value) => Ok(Value::Int(*value)),
            ExprKind::Float(value) => Ok(Value::Float(*value)),
            ExprKind::Bool(value) => Ok(Value::Bool(*value)),
            ExprKind::None => Ok(Value::None),
            ExprKind::Str(text) => {
                self.spend(Limit::Text, text.len(), expr.span)?;
                Ok(Value::Str(text.as_str().into()))
            }
            ExprKind::List(list) => {
                let values = list.iter().map(|item| self.eval(env, item)).collect::<Result<_>>()?;
                self.list(values, expr.span).map(Value::List)
            }
            ExprKind::Name(name) => self.name_value(env, name, expr.span),
            ExprKind::Role(name) => self.role_value(env, name, expr.span),
            ExprKind::In => env.input.clone().ok_or_else(|| no_input("in").at(expr.span)),
            ExprKind::Prev => env.prev.clone().ok_or_else(|| no_input("prev").at(expr.span)),
            ExprKind::Call(name, args) => self.call_value(env, name, args, label, expr.span),
            ExprKind::Field(of, field) => self.field(env, of, field, expr.span),
            ExprKind::Index(of, index) => self.index(env, of, index, expr.span),
            ExprKind::Slice(of, from, to) => self.slice(env, of, from.as_deref(), to.as_deref(), expr.span),
            ExprKind::Unary(op, of) => {
                let value = self.eval_operand(env, of)?;
                if *op == tree::Unary::Neg && is_tensor(&value) {
                    let node = self.node(&value, of.span)?;
                    let neg = layer("neg", &[]).at(expr.span)?;
                    return self.add_node(env, label, neg, vec![node], expr.span).map(Value::Node);
                }
                let number = number::unary(*op, value).at(expr.span)?;
                match label.filter(|_| !number.is_poison()) {
                    Some(label) => Err(labels_a_number(label)),
                    None => Ok(number),
                }
            }
            ExprKind::Binary(op, left, right) => self.binary(env, *op, left, right, label, expr.span),
            ExprKind::If(condition, then, otherwise) => match self.condition(env, condition)? {
                Some(true) => self.eval(env, then),
                Some(false) => self.eval(env, otherwise),
                None => Ok(Value::Poison),
            },
            ExprKind::Paren(chain) => match chain.steps.as_slice() {
                [tree::Step { label: None, kind: tree::StepKind::Expr(inner), .. }] => self.eval_operand(env, inner),
                _ => self.value_of_chain(env, chain),
            },
        }
    }

    /// Evaluates a condition; None where its mistake is already reported.
    pub(super) fn condition(&mut self, env: &mut Env<'a>, expr: &'a Expr) -> Result<Option<bool>> {
        match self.eval(env, expr)? {
            Value::Bool(value) => Ok(Some(value)),
            Value::Poison => Ok(None),
            other => {
                let message = format!("a condition is true or false, got {}", other.describe());
                Err(Problem::new(Code::TypeMismatch, message).at(expr.span))
            }
        }
    }

    /// An expression where an op cannot be meant: a bare name skips ops and blocks.
    pub(super) fn eval_operand(&mut self, env: &mut Env<'a>, expr: &'a Expr) -> Result<Value<'a>> {
        let ExprKind::Name(name) = &expr.kind else { return self.eval(env, expr) };
        let global = || self.global(env, name).filter(|value| !matches!(value, Value::Callable(_)));
        if let Some(value) = env.lookup_operand(name).cloned().or_else(global) {
            return Ok(value);
        }
        if let Some(place) = self.path_value(env, name, expr.span)? {
            return Ok(place);
        }
        if let (Some(out), "out") = (self.out, name.as_str()) {
            return Ok(Value::Node(out));
        }
        let held = env.lookup(name).cloned().or_else(|| self.global(env, name));
        if let Some(Value::Callable(callable)) = held {
            return Err(self.holds_no_value(env, name, &callable).at(expr.span));
        }
        let Some(callable) = self.callable(env, name) else {
            return Err(self.unknown_name(env, name).at(expr.span));
        };
        let message = format!("`{name}` is {}, and no value has that name here", callable.target.kind());
        let problem = Problem::new(Code::UnknownName, message);
        Err(problem.hint(format!("label the layer that is meant: `{name}_out: {name}`")).at(expr.span))
    }

    /// A parameter or `let` that names an op or a block, where a value of the network is needed.
    fn holds_no_value(&self, env: &Env<'a>, name: &str, callable: &Callable<'a>) -> Problem {
        let (kind, target) = (callable.target.kind(), callable.target.name());
        let kind = kind.split_once(' ').map_or(kind, |(_, kind)| kind);
        let message = format!("`{name}` is the {kind} `{target}` here, and a value of the network is needed");
        let problem = Problem::new(Code::UnknownName, message);
        let is_place = self.patch.is_taken(target);
        // inside a block the name is most likely its parameter
        let is_given = !env.sees_paths && env.lookup(name).is_some() && callable.args.is_empty();
        match self.patch.edit {
            // an argument is an op before it is a place of the network; in parentheses it is a place
            Some(_) if is_place && is_given => {
                problem.hint(format!("if the layer `{target}` is meant, write `({target})` where `{name}` is given"))
            }
            _ => problem.hint(format!("give `{name}` a value: the label of a layer, `in` or `prev`")),
        }
    }

    /// A let or param that the spec sees.
    pub fn of_spec(&self, name: &str) -> Option<Value<'a>> {
        self.global(&Env::file(Program::SPEC), name)
    }

    /// A let or param of the file, or of a file that it uses.
    fn global(&self, env: &Env<'a>, name: &str) -> Option<Value<'a>> {
        let Found::Let(module) = self.program.find(env.module, name)? else { return None };
        self.globals.values.get(&module)?.lookup(name).cloned()
    }

    /// The op, block or network that `name` is, no bindings considered.
    pub(super) fn callable(&self, env: &Env<'a>, name: &str) -> Option<Callable<'a>> {
        let program: &'a Program = self.program;
        let target = match program.find(env.module, name) {
            Some(Found::Block(module, block)) => Target::Block(module, block),
            Some(Found::Network(module, network)) => Target::Network(module, network),
            Some(Found::Let(_)) | None => Target::Op(ops::find(name)?),
        };
        Some(Callable::new(target, vec![]))
    }

    /// What a bare name means in an expression.
    fn name_value(&mut self, env: &mut Env<'a>, name: &str, span: Span) -> Result<Value<'a>> {
        let bound = env.lookup(name).cloned().or_else(|| self.global(env, name));
        if let Some(value) = bound.or_else(|| self.callable(env, name).map(Value::Callable)) {
            return Ok(value);
        }
        if let Some(place) = self.path_value(env, name, span)? {
            return Ok(place);
        }
        self.spend(Limit::Text, name.len(), span)?;
        Ok(Value::Word(name.into()))
    }

    /// What a step's name means: an op, a block, or a parameter or let that holds one.
    pub(super) fn step_value(&self, env: &Env<'a>, name: &str) -> Option<Value<'a>> {
        if let Some(value) = env.lookup_step(name) {
            return Some(value.clone());
        }
        let global = self.global(env, name).filter(|value| matches!(value, Value::Callable(_) | Value::None));
        global.or_else(|| self.callable(env, name).map(Value::Callable))
    }

    pub(super) fn unknown_name(&self, env: &Env<'a>, name: &str) -> Problem {
        let problem = Problem::new(Code::UnknownName, format!("nothing is called `{name}` here"));
        // to look for the nearest name takes long, and so many are not shown
        if self.mistakes >= SHOWN {
            return problem;
        }
        let visible = self.program.visible(env.module);
        let ops = ops::MANUAL.iter().map(|entry| entry.name);
        let functions = number::FUNCTIONS.iter().copied();
        let names = env.names().chain(visible).chain(ops).chain(functions);
        if name == "same" {
            return problem
                .hint("`same` is the layer that a `replace` replaces: `replace conv1 with same(stride = 1)`");
        }
        let ours = ops::OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, ours)| *ours);
        problem.hints(ours.map(|ours| format!("it is called `{ours}` here")).or_else(|| suggest(name, names)))
    }

    /// A call in an expression: a function, an op of several values, a word with arguments, or an op or block with some
    /// of its arguments filled in.
    fn call_value(
        &mut self,
        env: &mut Env<'a>,
        name: &'a tree::Name,
        args: &'a tree::Args,
        label: Option<&Labelled>,
        span: Span,
    ) -> Result<Value<'a>> {
        let bound = env.lookup(&name.value).cloned().or_else(|| self.global(env, &name.value));
        match bound {
            Some(Value::Function(function)) => return self.call_function(env, &function, args, span),
            Some(Value::Callable(callable)) => return self.with_args(env, callable, args).map(Value::Callable),
            Some(Value::Poison) => return Ok(Value::Poison),
            _ => {}
        }
        if number::FUNCTIONS.contains(&name.value.as_str()) {
            let mut values = vec![];
            for arg in &args.args {
                if let Some(named) = &arg.name {
                    let message = format!("`{}` takes no named arguments", name.value);
                    return Err(Problem::new(Code::UnknownArgument, message).at(named.span));
                }
                values.push(self.eval_operand(env, &arg.value)?);
            }
            // what the functions of lists walk over, and what `zip` makes
            let length = |value: &Value<'a>| if let Value::List(list) = value { list.len() } else { 1 };
            self.spend(Limit::Elements, values.iter().map(length).sum(), span)?;
            let value = number::call(&name.value, values).at(span)?;
            self.check_nesting(&value, span)?;
            return Ok(value);
        }
        if ops::OPERAND_OPS.contains(&name.value.as_str()) {
            return self.call_operands(env, name, args, label, span);
        }
        if let Some(callable) = self.callable(env, &name.value) {
            return self.with_args(env, callable, args).map(Value::Callable);
        }
        if let Some(value) = env.lookup(&name.value).cloned().or_else(|| self.global(env, &name.value)) {
            let message = format!("`{}` is {}, which takes no arguments", name.value, value.describe());
            return Err(Problem::new(Code::TypeMismatch, message).at(name.span));
        }
        if env.sees_paths && name.value == "tap" {
            return self.tap_value(env, args, span);
        }
        if WORD_CALLS.contains(&name.value.as_str()) {
            // one argument by name is as good as by position: `random(seed = 0)`
            let values = args.args.iter().map(|arg| self.eval(env, &arg.value)).collect::<Result<_>>()?;
            let values = self.list(values, span)?;
            return Ok(Value::WordCall(name.value.as_str().into(), values));
        }
        Err(self.unknown_name(env, &name.value).at(name.span))
    }

    /// `concat(a, b, axis = 1)`: operands by position, arguments by name.
    fn call_operands(
        &mut self,
        env: &mut Env<'a>,
        name: &'a tree::Name,
        args: &'a tree::Args,
        label: Option<&Labelled>,
        span: Span,
    ) -> Result<Value<'a>> {
        let mut operands = vec![];
        let mut named = vec![];
        for arg in &args.args {
            match &arg.name {
                Some(arg_name) => {
                    let value = self.eval(env, &arg.value)?;
                    named.push(CallArg { name: Some(arg_name), value, span: arg.value.span, expr: &arg.value });
                }
                None => operands.push((self.eval_tensor(env, &arg.value)?, arg.value.span)),
            }
        }
        let arithmetic = match name.value.as_str() {
            "add" => Some(Binary::Add),
            "sub" => Some(Binary::Sub),
            "mul" => Some(Binary::Mul),
            "div" => Some(Binary::Div),
            _ => None,
        };
        if let ([(left, _), (right, _)], Some(op), true) = (operands.as_slice(), arithmetic, named.is_empty()) {
            return self.operate(env, op, left.clone(), right.clone(), label, span);
        }
        if operands.iter().any(|(value, _)| value.is_poison()) {
            return Ok(Value::Poison);
        }
        let mut nodes = vec![];
        for (value, span) in operands {
            // a list of values is as good as its values: `concat(parts)` after `let parts = in -> chunk(2)`
            match value {
                Value::List(list) => {
                    self.spend(Limit::Elements, list.len(), span)?;
                    for value in list.iter() {
                        nodes.push(self.node(value, span)?);
                    }
                }
                value => nodes.push(self.node(&value, span)?),
            }
        }
        let entry = ops::find(&name.value).expect("operand ops are ops");
        let Some(op) = self.make_op(env, entry, &named, span)? else { return Ok(Value::Poison) };
        if !op.arity().fits(nodes.len()) {
            let message = format!("`{}` takes {} values, got {}", name.value, op.arity(), nodes.len());
            let hint = format!("`{}({})`", name.value, ["a", "b", "c"][..op.arity().least().clamp(2, 3)].join(", "));
            return Err(Problem::new(Code::MissingArgument, message).hint(hint).at(span));
        }
        self.add_node(env, label, op, nodes, span).map(Value::Node)
    }

    fn binary(
        &mut self,
        env: &mut Env<'a>,
        op: Binary,
        left: &'a Expr,
        right: &'a Expr,
        label: Option<&Labelled>,
        span: Span,
    ) -> Result<Value<'a>> {
        if matches!(op, Binary::And | Binary::Or) {
            return match self.condition(env, left)? {
                None => Ok(Value::Poison),
                Some(value) if value == (op == Binary::Or) => Ok(Value::Bool(value)),
                Some(_) => Ok(self.condition(env, right)?.map_or(Value::Poison, Value::Bool)),
            };
        }
        if matches!(op, Binary::Eq | Binary::Ne) {
            let (left, right) = (self.eval(env, left)?, self.eval(env, right)?);
            let walked = left.weight().min(right.weight());
            if walked > 1 {
                self.globals.budget.spend(Limit::Elements, walked).at(span)?;
            }
            return number::binary(op, left, right).at(span);
        }
        let (left, right) = (self.eval_tensor(env, left)?, self.eval_tensor(env, right)?);
        self.operate(env, op, left, right, label, span)
    }

    /// An operand; a call of an op that takes nothing is a layer there: `prev + window_mask(56, 56, 7, 3)`.
    fn eval_tensor(&mut self, env: &mut Env<'a>, expr: &'a Expr) -> Result<Value<'a>> {
        match self.eval_operand(env, expr)? {
            Value::Callable(Callable { target: Target::Op(entry), args, .. }) if ops::makes_constant(entry.name) => {
                let op = self.make_op(env, entry, &args, expr.span)?;
                op.map_or(Ok(Value::Poison), |op| self.add_node(env, None, op, vec![], expr.span).map(Value::Node))
            }
            value => Ok(value),
        }
    }

    /// Arithmetic of evaluated operands: of numbers, or a layer where one is a value of the network.
    fn operate(
        &mut self,
        env: &mut Env<'a>,
        op: Binary,
        left: Value<'a>,
        right: Value<'a>,
        label: Option<&Labelled>,
        span: Span,
    ) -> Result<Value<'a>> {
        if left.is_poison() || right.is_poison() {
            return Ok(Value::Poison);
        }
        if !is_tensor(&left) && !is_tensor(&right) {
            if let Some(label) = label {
                return Err(labels_a_number(label));
            }
            return number::binary(op, left, right).at(span);
        }
        let name = match op {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Pow => return self.power(env, &left, &right, label, span),
            _ => {
                let message = format!("`{}` does not work on values of the network", number::symbol(op));
                return Err(Problem::new(Code::TypeMismatch, message).hint("`+ - * / **` do").at(span));
            }
        };
        let mut nodes = vec![];
        let mut args: Vec<Arg> = vec![];
        for (at, value) in [&left, &right].into_iter().enumerate() {
            let Some(number) = value.as_float() else {
                nodes.push(self.node(value, span)?);
                continue;
            };
            args.push(Arg { name: Some("number".into()), value: Attr::Float(number) });
            if matches!(op, Binary::Sub | Binary::Div) && at == 0 {
                args.push(Arg { name: Some("swapped".into()), value: Attr::Bool(true) });
            }
        }
        self.add_node(env, label, layer(name, &args).at(span)?, nodes, span).map(Value::Node)
    }

    /// A value to the power of a number, or a number to the power of a value.
    fn power(
        &mut self,
        env: &mut Env<'a>,
        value: &Value<'a>,
        exponent: &Value<'a>,
        label: Option<&Labelled>,
        span: Span,
    ) -> Result<Value<'a>> {
        let (name, number, of) = match (value.as_float(), exponent.as_float()) {
            (_, Some(exponent)) => ("pow", exponent, value),
            (Some(base), None) => ("exp", base, exponent),
            (None, None) => {
                let (value, exponent) = (value.describe(), exponent.describe());
                let message = format!("`**` needs a number on one side, got {value} and {exponent}");
                let hint = "of two values it is the `exp` of one times the `log` of the other";
                return Err(Problem::new(Code::TypeMismatch, message).hint(hint).at(span));
            }
        };
        let node = self.node(of, span)?;
        let number = Arg { name: None, value: Attr::Float(number) };
        self.add_node(env, label, layer(name, &[number]).at(span)?, vec![node], span).map(Value::Node)
    }

    /// The node behind a value that flows.
    pub(super) fn node(&self, value: &Value<'a>, span: Span) -> Result<NodeId> {
        match value {
            Value::Node(id) => Ok(*id),
            Value::Place(Place { output: Some(id), .. }) => Ok(*id),
            Value::Place(place) => {
                let message = format!("`{}` has no output", path::display(&place.path));
                Err(Problem::new(Code::TypeMismatch, message).at(span))
            }
            Value::List(list) if !list.is_empty() && list.iter().all(|one| matches!(one, Value::Node(_))) => {
                let message = format!("one value is needed, got the {} parts of a `chunk`", list.len());
                let problem = Problem::new(Code::TypeMismatch, message);
                Err(problem.hint("take them apart: `let a, b = in -> chunk(2)`").at(span))
            }
            other => {
                let message = format!("a value of the network is needed, got {}", other.describe());
                Err(Problem::new(Code::TypeMismatch, message).at(span))
            }
        }
    }

    fn call_function(
        &mut self,
        env: &mut Env<'a>,
        function: &Rc<Function<'a>>,
        args: &'a tree::Args,
        span: Span,
    ) -> Result<Value<'a>> {
        let name = &function.name.value;
        let mut values: Vec<Option<Value<'a>>> = vec![None; function.params.len()];
        for (position, arg) in args.args.iter().enumerate() {
            let by_name = |named: &tree::Name| function.params.iter().position(|param| param.value == named.value);
            let at = arg.name.as_ref().map_or(Some(position), by_name);
            let value = self.eval_operand(env, &arg.value)?;
            match at.and_then(|at| values.get_mut(at)) {
                Some(slot @ None) => *slot = Some(value),
                _ => {
                    let params: Vec<&str> = function.params.iter().map(|param| param.value.as_str()).collect();
                    let message = format!("`{name}` takes ({}), each once", params.join(", "));
                    return Err(Problem::new(Code::UnknownArgument, message).at(arg.value.span));
                }
            }
        }
        self.spend(Limit::Elements, function.seen.len(), span)?;
        let mut inner = Env::file(function.module).with_bindings(function.seen.clone());
        for (param, value) in function.params.iter().zip(values) {
            let Some(value) = value else {
                let message = format!("`{name}` needs `{}`", param.value);
                return Err(Problem::new(Code::MissingArgument, message).at(span));
            };
            inner.bind(&param.value, value, BindingKind::Let);
        }
        self.spend(Limit::Calls, 1, span)?;
        self.deeper(span, name, |builder| builder.eval(&mut inner, function.body))
    }

    fn index(&mut self, env: &mut Env<'a>, of: &'a Expr, index: &'a Expr, span: Span) -> Result<Value<'a>> {
        let of = self.eval_operand(env, of)?;
        let index = self.eval_operand(env, index)?;
        let message = match (of, index) {
            (Value::Poison, _) | (_, Value::Poison) => return Ok(Value::Poison),
            (Value::Place(place), Value::Int(index)) => return self.place_index(env, &place, index, span),
            (Value::List(list), Value::Int(index)) => {
                let at = if index < 0 { index + list.len() as i64 } else { index };
                match usize::try_from(at).ok().and_then(|at| list.get(at)) {
                    Some(value) => return Ok(value.clone()),
                    None => {
                        let message = format!("index {index} of a list of {}", list.len());
                        return Err(Problem::new(Code::BadValue, message).at(span));
                    }
                }
            }
            (Value::List(_) | Value::Place(_), other) => format!("an index is an integer, got {}", other.describe()),
            (other, _) => format!("a list is needed before `[`, got {}", other.describe()),
        };
        Err(Problem::new(Code::TypeMismatch, message).at(span))
    }

    fn slice(
        &mut self,
        env: &mut Env<'a>,
        of: &'a Expr,
        from: Option<&'a Expr>,
        to: Option<&'a Expr>,
        span: Span,
    ) -> Result<Value<'a>> {
        let list = match self.eval_operand(env, of)? {
            Value::List(list) => list,
            Value::Poison => return Ok(Value::Poison),
            other => {
                let message = format!("a list is needed before `[..]`, got {}", other.describe());
                return Err(Problem::new(Code::TypeMismatch, message).at(span));
            }
        };
        let mut ends = [0, list.len()];
        for (end, expr) in ends.iter_mut().zip([from, to]) {
            let Some(expr) = expr else { continue };
            match self.eval_operand(env, expr)? {
                Value::Poison => return Ok(Value::Poison),
                Value::Int(value) if (0..=list.len() as i64).contains(&value) => *end = value as usize,
                other => {
                    let message = format!("an end of a slice is from 0 to {}, got {}", list.len(), other.describe());
                    return Err(Problem::new(Code::BadValue, message).at(expr.span));
                }
            }
        }
        self.list(list.get(ends[0]..ends[1]).unwrap_or(&[]).to_vec(), span).map(Value::List)
    }

    /// `value.channels`, `scope.label`.
    fn field(&mut self, env: &mut Env<'a>, of: &'a Expr, field: &'a tree::Name, span: Span) -> Result<Value<'a>> {
        let value = self.eval_operand(env, of)?;
        if value.is_poison() {
            return Ok(Value::Poison);
        }
        if let Value::Place(place) = &value
            && let Some(inner) = self.place_child(env, place, &field.value, span)?
        {
            return Ok(inner);
        }
        let axis = match field.value.as_str() {
            "channels" => 1,
            "height" => 2,
            "width" => 3,
            "features" | "shape" => 0,
            other => return Err(self.unknown_field(&value, other).at(field.span)),
        };
        let node = self.node(&value, of.span)?;
        let Some(shape) = self.patch.node(node).shape.clone() else {
            let name = path::display(&self.patch.node(node).path);
            let problem = Problem::new(Code::ShapeUnknown, format!("the shape of `{name}` is not known here"));
            let asked = problem.note("something before it does not fit").at(span);
            self.unknown.push(asked.called(&self.patch.calls));
            return Ok(Value::Poison);
        };
        if field.value == "shape" {
            let batch = shape.batched.then_some(Value::Batch);
            let dims = shape.dims.iter().map(|dim| Value::Int(*dim as i64));
            return self.list(batch.into_iter().chain(dims).collect(), span).map(Value::List);
        }
        let (found, wanted) = match axis {
            0 => (shape.last(), "[.., features]"),
            axis => (shape.as_images().map(|(c, h, w)| [c, h, w][axis - 1]), "[N, C, H, W]"),
        };
        found.map(|dim| Value::Int(dim as i64)).ok_or_else(|| {
            Problem::new(Code::ShapeMismatch, format!("`.{}` needs {wanted}, got {shape}", field.value)).at(span)
        })
    }

    fn unknown_field(&self, value: &Value<'a>, field: &str) -> Problem {
        let fields = ["channels", "height", "width", "features", "shape"];
        if let Value::Place(place) = value {
            let children = self.children(&place.path);
            let shown = path::display(&place.path);
            let problem = Problem::new(Code::UnknownName, format!("`{shown}` has no `{field}`"));
            return problem.hints(suggest(field, children.iter().map(String::as_str).chain(fields)));
        }
        let problem = Problem::new(Code::UnknownName, format!("a value has no `{field}`"));
        match suggest(field, fields) {
            Some(hint) => problem.hint(hint),
            None => problem.hint("there are `channels`, `height`, `width`, `features` and `shape`"),
        }
    }

    /// An op from evaluated arguments; None where one of them is poison.
    pub(super) fn make_op(
        &mut self,
        env: &Env<'a>,
        entry: &'static ops::Entry,
        args: &[CallArg<'a>],
        span: Span,
    ) -> Result<Option<Op>> {
        if args.iter().any(|arg| arg.value.is_poison()) {
            return Ok(None);
        }
        let mut attrs = vec![];
        let walked = args.iter().fold(0u64, |sum, arg| sum.saturating_add(arg.value.weight() - 1));
        self.globals.budget.spend(Limit::Elements, walked).at(span)?;
        for arg in args {
            let Some(value) = arg.value.to_attr() else {
                let what = arg.name.map_or("an argument".to_string(), |name| format!("`{}`", name.value));
                if arg.value.weight() > MAX_ATTR {
                    let message = format!("{what} of `{}` has more than {MAX_ATTR} values", entry.name);
                    let problem = Problem::new(Code::TooLarge, message);
                    return Err(problem
                        .hint("a tensor of that size comes from a file: `buffer([..], init = from(\"file\", \"key\"))`")
                        .at(arg.span));
                }
                let message = format!("{what} of `{}` cannot be {}", entry.name, arg.value.kind());
                let mut problem = Problem::new(Code::TypeMismatch, message);
                if ops::OPERAND_OPS.contains(&entry.name) && arg.name.is_some() {
                    let op = entry.name;
                    problem = problem.hint(format!(
                        "`{op}` takes its values without names, before its arguments: `archc explain {op}` has their order"
                    ));
                }
                return Err(problem.at(arg.span));
            };
            attrs.push(Arg { name: arg.name.map(|name| name.value.clone()), value });
        }
        (entry.make)(&attrs).map(Some).map_err(|found| {
            let Some(at) = found.arg else { return found.problem.at(span) };
            let (arg, attr) = (&args[at], &attrs[at]);
            match (attr.value.within(&found.within), found.problem.code) {
                // a word where none is wanted is a name that nothing has
                (Attr::Word(word), Code::TypeMismatch) => self.unknown_name(env, word).at(arg.place(&found.within)),
                (_, Code::UnknownArgument | Code::Duplicate) => {
                    found.problem.at(arg.name.map_or(arg.span, |name| name.span))
                }
                _ => found.problem.at(arg.place(&found.within)),
            }
        })
    }
}

fn labels_a_number(label: &Labelled) -> Box<Diagnostic> {
    let message = format!("`{}:` labels a layer, and this is a number", label.text);
    Problem::new(Code::TypeMismatch, message).hint(format!("`let {} = ..`", label.text)).at(label.span)
}

/// Whether a value flows through the network.
fn is_tensor(value: &Value) -> bool {
    matches!(value, Value::Node(_) | Value::Place(_))
}

/// The op of that name.
fn layer(name: &str, args: &[Arg]) -> std::result::Result<Op, Problem> {
    (ops::find(name).expect("an op").make)(args).map_err(|problem| problem.problem)
}

fn no_input(word: &str) -> Problem {
    let problem = Problem::new(Code::UnknownName, format!("`{word}` has no value here"));
    problem.hint("name the input that is meant")
}
