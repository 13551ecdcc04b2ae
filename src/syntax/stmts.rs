//! Building the tree of statements: bodies, chains, labels, loops.

use pest::Parser;

use super::explain;
use super::items::SHAPE;
use super::layout;
use super::parse::{Builder, Context, Grammar, MAX_DEPTH, Pair, Rule, child};
use super::tree::*;
use crate::diag::{Code, Problem, Result};
use crate::source::Span;

impl Builder<'_> {
    pub fn body(&mut self, pair: Pair, context: Context) -> Body {
        let span = self.span(&pair);
        let mut stmts = vec![];
        for pair in pair.into_inner() {
            self.body_part(pair, context, &mut stmts);
        }
        Body { stmts, span }
    }

    /// One statement, bad statement or token of a body.
    pub fn body_part(&mut self, pair: Pair, context: Context, stmts: &mut Vec<Stmt>) {
        let stmt = match pair.as_rule() {
            Rule::let_stmt => self.let_stmt(pair).map(Stmt::Let),
            Rule::for_stmt => self.for_stmt(pair).map(Stmt::For),
            Rule::if_stmt => self.if_stmt(pair).map(Stmt::If),
            Rule::out_stmt => self.out_stmt(pair).map(Stmt::Output),
            Rule::chain => self.chain(pair, self.depth).map(Stmt::Chain),
            Rule::bad => return self.bad(&pair, context),
            _ => return,
        };
        self.keep(stmt, stmts);
    }

    pub fn let_stmt(&mut self, pair: Pair) -> Result<Let> {
        let span = self.span(&pair);
        if let Some(function) = child(&pair, Rule::let_function) {
            let mut names = function.clone().into_inner().filter(|pair| pair.as_rule() == Rule::name);
            let name = self.name(&names.next().expect(SHAPE));
            let params = names.map(|name| self.name(&name)).collect();
            let value = self.expr(child(&function, Rule::expr).expect(SHAPE))?;
            return Ok(Let::Function { name, params, value, span });
        }
        let values = child(&pair, Rule::let_values).expect(SHAPE);
        let names = self.names(child(&values, Rule::names).expect(SHAPE));
        Ok(Let::Values { names, value: self.chain(child(&values, Rule::chain).expect(SHAPE), self.depth)?, span })
    }

    fn names(&self, pair: Pair) -> Vec<Name> {
        pair.into_inner().filter(|pair| pair.as_rule() == Rule::name).map(|name| self.name(&name)).collect()
    }

    fn for_stmt(&mut self, pair: Pair) -> Result<For> {
        let span = self.span(&pair);
        let names = self.names(child(&pair, Rule::names).expect(SHAPE));
        let mut ends = pair.clone().into_inner().filter(|pair| pair.as_rule() == Rule::expr);
        let from = self.expr(ends.next().expect(SHAPE));
        let to = ends.next().map(|to| self.expr(to));
        let body = self.body(child(&pair, Rule::body).expect(SHAPE), Context::Body);
        let over = match to {
            None => Over::List(from?),
            Some(to) => Over::Range { from: from?, to: to?, inclusive: child(&pair, Rule::dotdot_eq).is_some() },
        };
        Ok(For { names, over, body, span })
    }

    fn if_stmt(&mut self, pair: Pair) -> Result<If> {
        let span = self.span(&pair);
        // The condition and body of each arm; an `else` alone has no condition.
        let mut arms: Vec<(Option<Result<Expr>>, Body, Span)> = vec![];
        let (mut condition, mut start) = (None, span);
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::kw_if => start = self.span(&pair),
                Rule::expr => condition = Some(self.expr(pair)),
                Rule::body => {
                    let body = self.body(pair, Context::Body);
                    arms.push((condition.take(), body, start));
                }
                _ => {}
            }
        }
        if arms.len() > layout::MAX_NESTING {
            let message = format!("more than {} arms of one `if`", layout::MAX_NESTING);
            return Err(Problem::new(Code::Limit, message).at(span));
        }
        let mut built: Option<If> = None;
        let mut last: Option<Body> = None;
        for (condition, then, start) in arms.into_iter().rev() {
            let Some(condition) = condition else {
                last = Some(then);
                continue;
            };
            let otherwise = match built.take() {
                Some(inner) => Some(Body { span: inner.span, stmts: vec![Stmt::If(inner)] }),
                None => last.take(),
            };
            let end = otherwise.as_ref().map_or(then.span, |body| body.span);
            built = Some(If { condition: condition?, then, otherwise, span: start.to(end) });
        }
        Ok(built.expect(SHAPE))
    }

    fn out_stmt(&mut self, pair: Pair) -> Result<FurtherOutput> {
        let name = self.name(&child(&pair, Rule::name).expect(SHAPE));
        let value = self.chain(child(&pair, Rule::chain).expect(SHAPE), self.depth)?;
        Ok(FurtherOutput { name, value, span: self.span(&pair) })
    }

    pub fn chain(&mut self, pair: Pair, depth: usize) -> Result<Chain> {
        let span = self.span(&pair);
        let mut steps = vec![];
        // loops, not adapters: chains nest, and each level of those takes ten frames
        for pair in pair.into_inner().filter(|pair| matches!(pair.as_rule(), Rule::step | Rule::link)) {
            steps.push(self.step(pair, depth)?);
        }
        Ok(Chain { steps, span })
    }

    fn step(&mut self, pair: Pair, depth: usize) -> Result<Step> {
        let outer = std::mem::replace(&mut self.depth, depth + 1);
        let step = self.step_inside(pair, depth);
        self.depth = outer;
        step
    }

    fn step_inside(&mut self, pair: Pair, depth: usize) -> Result<Step> {
        let span = self.span(&pair);
        let mut label = None;
        let mut kind = None;
        for pair in pair.into_inner() {
            kind = Some(match pair.as_rule() {
                Rule::label => {
                    label = Some(self.label(pair)?);
                    continue;
                }
                Rule::seq_step | Rule::braces | Rule::residual => self.bodies(pair)?,
                Rule::expr => StepKind::Expr(self.expr_at(pair, depth)?),
                Rule::call | Rule::kw_none => StepKind::Expr(self.primary(pair, depth)?),
                _ => continue,
            });
        }
        Ok(Step { label, kind: kind.expect(SHAPE), span })
    }

    /// A step that is made of bodies. A function of its own, as are others here: expressions nest by way of steps, and what
    /// a frame holds for other kinds of steps would count for each level.
    #[inline(never)]
    fn bodies(&mut self, pair: Pair) -> Result<StepKind> {
        let body = |builder: &mut Self| builder.body(child(&pair, Rule::body).expect(SHAPE), Context::Body);
        Ok(match pair.as_rule() {
            Rule::seq_step => StepKind::Seq(body(self)),
            Rule::braces => StepKind::Braces(body(self)),
            _ => StepKind::Residual(self.residual(pair)?),
        })
    }

    fn residual(&mut self, pair: Pair) -> Result<Residual> {
        let span = self.span(&pair);
        let condition = child(&pair, Rule::expr).map(|expr| self.expr(expr));
        let main = self.body(child(&pair, Rule::body).expect(SHAPE), Context::Body);
        let shortcut = child(&pair, Rule::shortcut).map(|pair| -> Result<Shortcut> {
            let condition = child(&pair, Rule::expr).map(|expr| self.expr(expr));
            let body = self.body(child(&pair, Rule::body).expect(SHAPE), Context::Body);
            Ok(Shortcut { condition: condition.transpose()?, body })
        });
        Ok(Residual { condition: condition.transpose()?, main, shortcut: shortcut.transpose()?, span })
    }

    #[inline(never)]
    fn label(&mut self, pair: Pair) -> Result<Label> {
        let whole = self.span(&pair);
        let mut inside = pair.into_inner().filter(|pair| !matches!(pair.as_rule(), Rule::dot | Rule::colon)).peekable();
        let first = inside.next().expect(SHAPE);
        let first_span = self.span(&first);
        let (mut parts, quoted) = match first.as_rule() {
            Rule::string => (self.template(first.as_str().trim_end(), first_span)?, true),
            _ => (vec![LabelPart::Text(self.name(&first).value)], false),
        };
        if inside.peek().is_none() {
            return Ok(Label { parts, quoted, path: None, span: first_span });
        }
        let path = Some(match parts.as_slice() {
            [LabelPart::Text(name)] if !quoted => PathHead::Name(name.clone()),
            _ => PathHead::Quoted,
        });
        for pair in inside {
            parts.push(LabelPart::Text(".".into()));
            let variable = if pair.as_rule() == Rule::label_index { child(&pair, Rule::name) } else { None };
            if let Some(variable) = variable {
                let name = self.name(&variable);
                parts.push(LabelPart::Expr(Expr { kind: ExprKind::Name(name.value), span: name.span }));
                continue;
            }
            match pair.as_rule() {
                Rule::string => parts.extend(self.template(pair.as_str().trim_end(), self.span(&pair))?),
                Rule::label_index => {
                    parts.push(LabelPart::Text(child(&pair, Rule::int).expect(SHAPE).as_str().trim_end().to_string()));
                }
                _ => parts.push(LabelPart::Text(pair.as_str().trim_end().to_string())),
            }
        }
        let span = Span { end: whole.end.saturating_sub(1), ..whole };
        Ok(Label { parts, quoted, path, span })
    }

    /// The parts of a quoted label; `quoted` stands at `span`, quotes included.
    fn template(&mut self, quoted: &str, span: Span) -> Result<Vec<LabelPart>> {
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
        let start = span.start as usize + 1;
        let mut parts = vec![];
        let mut at = 0;
        while at < inner.len() {
            let rest = &inner[at..];
            let text = &rest[..rest.find('{').unwrap_or(rest.len())];
            if let Some(length) = text.find(['.', '[', ']', '}']) {
                let place = Span::new(self.file, start + at + length, start + at + length + 1);
                let found = &text[length..length + 1];
                return Err(match found {
                    "}" => Problem::new(Code::Syntax, "`}` in a label without a `{` before it").at(place),
                    _ => Problem::new(Code::Syntax, format!("a label cannot hold `{found}`"))
                        .hint("a scope in a scope is written `outer: { inner: .. }`")
                        .at(place),
                });
            }
            if !text.is_empty() {
                parts.push(LabelPart::Text(super::parse::unescape(text)));
            }
            at += text.len();
            if at == inner.len() {
                break;
            }
            let Some(length) = inner[at..].find('}') else {
                let place = Span::new(self.file, start + at, start + at + 1);
                return Err(Problem::new(Code::Syntax, "this `{` in a label is never closed").at(place));
            };
            parts.push(LabelPart::Expr(self.filled_in(&inner[at + 1..at + length], start + at + 1)?));
            at += length + 1;
        }
        if parts.is_empty() {
            return Err(Problem::new(Code::Syntax, "a label cannot be empty").at(span));
        }
        Ok(parts)
    }

    /// The expression in the braces of a label.
    fn filled_in(&mut self, text: &str, offset: usize) -> Result<Expr> {
        let span = Span::new(self.file, offset, offset + text.len());
        if layout::too_deep(text) {
            return Err(Problem::new(Code::Limit, "brackets are nested too deep").at(span));
        }
        let trimmed = text.trim_start();
        let offset = offset + text.len() - trimmed.len();
        match Grammar::parse(Rule::only_expr, trimmed) {
            Ok(mut pairs) => {
                let mut nested = self.nested(offset);
                let expr = nested.expr_at(child(&pairs.next().expect(SHAPE), Rule::expr).expect(SHAPE), 0);
                self.problems.extend(nested.problems);
                expr
            }
            Err(error) => Err(explain::explain_label(self.source, span, trimmed, &error)),
        }
    }

    /// Fails where an expression is nested too deep for those who walk over it.
    #[inline(never)]
    pub fn check_depth(&self, depth: usize, span: Span) -> Result<()> {
        if depth > MAX_DEPTH {
            let message = format!("an expression of more than {MAX_DEPTH} nested operators");
            return Err(Problem::new(Code::Limit, message).hint("give parts of it names with `let`").at(span));
        }
        Ok(())
    }
}
