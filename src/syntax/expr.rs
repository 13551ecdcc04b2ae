//! Building the tree of expressions: precedence, postfixes, calls.

use super::items::SHAPE;
use super::parse::{Builder, Pair, Rule, child};
use super::tree::*;
use crate::diag::{Code, Problem, Result};
use crate::source::Span;

/// How tight an operator binds; looser is less. `not` stands between `and` and the comparisons, unary minus between
/// the products and `**`.
fn power(operator: Binary) -> u8 {
    match operator {
        Binary::Or => 1,
        Binary::And => 2,
        Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => 4,
        Binary::Add | Binary::Sub => 5,
        Binary::Mul | Binary::Div | Binary::FloorDiv | Binary::Rem => 6,
        Binary::Pow => 8,
    }
}

const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const NEG: u8 = 7;
const POW: u8 = 8;

fn binary(text: &str) -> Binary {
    match text {
        "or" => Binary::Or,
        "and" => Binary::And,
        "==" => Binary::Eq,
        "!=" => Binary::Ne,
        "<" => Binary::Lt,
        "<=" => Binary::Le,
        ">" => Binary::Gt,
        ">=" => Binary::Ge,
        "+" => Binary::Add,
        "-" => Binary::Sub,
        "*" => Binary::Mul,
        "/" => Binary::Div,
        "//" => Binary::FloorDiv,
        "%" => Binary::Rem,
        _ => Binary::Pow,
    }
}

/// What a flat expression is made of, in reading order.
enum Token<'i> {
    Unary(Unary, Span),
    Binary(Binary, Span),
    Atom(Pair<'i>),
}

/// The tokens of a flat expression, read from the front.
struct Tokens<'i> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token<'i>>>,
    /// How deep the atoms lie.
    depth: usize,
}

impl Builder<'_> {
    pub fn expr(&mut self, pair: Pair) -> Result<Expr> {
        self.expr_at(pair, self.depth)
    }

    /// An expression that has `depth` others around it.
    pub fn expr_at(&mut self, pair: Pair, depth: usize) -> Result<Expr> {
        let mut arms = vec![];
        let mut last = None;
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::arm => arms.push(pair),
                _ => last = Some(pair),
            }
        }
        let last = last.expect(SHAPE);
        let depth = depth + arms.len() + 1;
        self.check_depth(depth, self.span(&last))?;
        let value = self.flat(last, depth)?;
        arms.into_iter().rev().try_fold(value, |value, arm| self.arm(arm, value, depth))
    }

    /// `if a then b else` before `otherwise`.
    #[inline(never)]
    fn arm(&mut self, pair: Pair, otherwise: Expr, depth: usize) -> Result<Expr> {
        let span = self.span(&pair).to(otherwise.span);
        let mut parts = pair.into_inner().filter(|pair| pair.as_rule() == Rule::flat);
        let condition = self.flat(parts.next().expect(SHAPE), depth)?;
        let then = self.flat(parts.next().expect(SHAPE), depth)?;
        Ok(Expr { kind: ExprKind::If(Box::new(condition), Box::new(then), Box::new(otherwise)), span })
    }

    fn flat(&mut self, pair: Pair, depth: usize) -> Result<Expr> {
        let span = self.span(&pair);
        let mut tokens = vec![];
        for pair in pair.into_inner() {
            let place = self.span(&pair);
            tokens.push(match pair.as_rule() {
                Rule::neg => Token::Unary(Unary::Neg, place),
                Rule::kw_not => Token::Unary(Unary::Not, place),
                Rule::binary => Token::Binary(binary(pair.as_str().trim_end()), place),
                _ => Token::Atom(pair),
            });
        }
        let depth = depth + tokens.iter().filter(|token| !matches!(token, Token::Atom(_))).count();
        self.check_depth(depth, span)?;
        self.climb(&mut Tokens { tokens: tokens.into_iter().peekable(), depth }, 0)
    }

    /// Precedence climbing: an operand and all operators behind it that bind at least as tight as `least`.
    fn climb(&mut self, tokens: &mut Tokens, least: u8) -> Result<Expr> {
        let mut left = match tokens.tokens.next().expect(SHAPE) {
            Token::Atom(pair) => self.atom(pair, tokens.depth)?,
            Token::Unary(Unary::Not, span) if least > NOT => {
                let (what, hint) =
                    ("`not` binds looser than the operator before it", "put it in parentheses: `(not ..)`");
                return misplaced(what, hint, span);
            }
            Token::Unary(unary, span) => {
                let operand = self.climb(tokens, if unary == Unary::Neg { NEG } else { NOT })?;
                let span = span.to(operand.span);
                Expr { kind: ExprKind::Unary(unary, Box::new(operand)), span }
            }
            Token::Binary(..) => unreachable!("{SHAPE}"),
        };
        let mut compared = false;
        while let Some(Token::Binary(operator, place)) = tokens.tokens.peek() {
            let (operator, place) = (*operator, *place);
            let power = power(operator);
            if power < least {
                break;
            }
            if power == COMPARISON && std::mem::replace(&mut compared, true) {
                return misplaced("comparisons do not chain", "write `a < b and b < c`", place);
            }
            tokens.tokens.next();
            // `**` takes a unary minus and another `**` on its right.
            let right = self.climb(tokens, if power == POW { NEG } else { power + 1 })?;
            let span = left.span.to(right.span);
            left = Expr { kind: ExprKind::Binary(operator, Box::new(left), Box::new(right)), span };
        }
        Ok(left)
    }

    fn atom(&mut self, pair: Pair, depth: usize) -> Result<Expr> {
        let span = self.span(&pair);
        let mut parts = pair.into_inner();
        let first = parts.next().expect(SHAPE);
        let postfixes: Vec<Pair> = parts.collect();
        let depth = depth + postfixes.len();
        self.check_depth(depth, span)?;
        let mut value = self.primary(first, depth)?;
        for postfix in postfixes {
            value = self.postfix(postfix, value, depth)?;
        }
        Ok(value)
    }

    #[inline(never)]
    fn postfix(&mut self, pair: Pair, value: Expr, depth: usize) -> Result<Expr> {
        let end = self.span(&pair);
        let span = value.span.to(end);
        let kind = match pair.as_rule() {
            Rule::field if matches!(value.kind, ExprKind::Int(_) | ExprKind::Float(_)) => {
                return Err(Problem::new(Code::Syntax, "a number has no parts").at(end));
            }
            Rule::field => ExprKind::Field(Box::new(value), self.field(pair)),
            _ => self.index(pair, value, depth)?,
        };
        Ok(Expr { kind, span })
    }

    fn field(&self, pair: Pair) -> Name {
        let name = pair.into_inner().find(|pair| pair.as_rule() != Rule::dot).expect(SHAPE);
        if name.as_rule() == Rule::string { self.string(&name) } else { self.name(&name) }
    }

    fn index(&mut self, pair: Pair, value: Expr, depth: usize) -> Result<ExprKind> {
        let (mut from, mut to, mut slice) = (None, None, false);
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::dotdot => slice = true,
                Rule::expr if slice => to = Some(Box::new(self.expr_at(pair, depth)?)),
                Rule::expr => from = Some(Box::new(self.expr_at(pair, depth)?)),
                _ => {}
            }
        }
        Ok(match from {
            Some(index) if !slice => ExprKind::Index(Box::new(value), index),
            from => ExprKind::Slice(Box::new(value), from, to),
        })
    }

    /// A literal, a name, a call, a list, or what stands in parentheses.
    pub fn primary(&mut self, pair: Pair, depth: usize) -> Result<Expr> {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::int => ExprKind::Int(self.int(&pair)?.value),
            Rule::float => match pair.as_str().trim_end().parse::<f64>() {
                Ok(value) if value.is_finite() => ExprKind::Float(value),
                _ => return Err(Problem::new(Code::Arithmetic, "this number is too large").at(span)),
            },
            Rule::string => ExprKind::Str(self.string(&pair).value),
            Rule::role => ExprKind::Role(pair.as_str().trim_end()[1..].to_string()),
            Rule::kw_true => ExprKind::Bool(true),
            Rule::kw_false => ExprKind::Bool(false),
            Rule::kw_none => ExprKind::None,
            Rule::kw_in => ExprKind::In,
            Rule::kw_prev => ExprKind::Prev,
            Rule::call => return self.call(pair, depth),
            Rule::list => {
                let values = pair.into_inner().filter(|pair| pair.as_rule() == Rule::expr);
                ExprKind::List(values.map(|value| self.expr_at(value, depth)).collect::<Result<_>>()?)
            }
            _ => self.paren(pair, depth)?,
        };
        Ok(Expr { kind, span })
    }

    fn call(&mut self, pair: Pair, depth: usize) -> Result<Expr> {
        let span = self.span(&pair);
        let name = self.name(&child(&pair, Rule::name).expect(SHAPE));
        if let Some(args) = child(&pair, Rule::args) {
            let args = self.args(Some(args), name.span, depth)?;
            return Ok(Expr { kind: ExprKind::Call(name, args), span });
        }
        let python = [("True", "true"), ("False", "false"), ("None", "none")];
        if let Some((_, ours)) = python.iter().find(|(python, _)| *python == name.value) {
            let message = format!("expected `{ours}`, found Python's `{}`", name.value);
            return Err(Problem::new(Code::Syntax, message).at(span));
        }
        Ok(Expr { kind: ExprKind::Name(name.value), span })
    }

    /// Arguments; where there are none they stand, empty, behind `after`.
    pub fn args(&mut self, pair: Option<Pair>, after: Span, depth: usize) -> Result<Args> {
        let Some(pair) = pair else {
            return Ok(Args { args: vec![], span: Span { start: after.end, ..after } });
        };
        let span = self.span(&pair);
        let args = pair.into_inner().filter(|pair| pair.as_rule() == Rule::arg);
        let args = args.map(|arg| {
            let name = child(&arg, Rule::name).map(|name| self.name(&name));
            Ok(Arg { name, value: self.expr_at(child(&arg, Rule::expr).expect(SHAPE), depth)? })
        });
        Ok(Args { args: args.collect::<Result<_>>()?, span })
    }

    /// `(chain)` is a value, `(a, b)` and `(a,)` are lists.
    fn paren(&mut self, pair: Pair, depth: usize) -> Result<ExprKind> {
        let is_list = child(&pair, Rule::comma).is_some();
        let mut chains = vec![];
        for pair in pair.into_inner().filter(|pair| pair.as_rule() == Rule::chain) {
            chains.push(self.chain(pair, depth)?);
        }
        if !is_list {
            return Ok(ExprKind::Paren(Box::new(chains.pop().expect(SHAPE))));
        }
        let values = chains.into_iter().map(|mut chain| {
            let span = chain.span;
            match (chain.steps.pop(), chain.steps.is_empty()) {
                (Some(Step { label: None, kind: StepKind::Expr(value), .. }), true) => Ok(value),
                _ => {
                    let problem = Problem::new(Code::Syntax, "expected a value in this list, found a chain");
                    Err(problem.hint("put the chain in parentheses of its own").at(span))
                }
            }
        });
        Ok(ExprKind::List(values.collect::<Result<_>>()?))
    }
}

/// An operator that cannot stand where it does.
#[inline(never)]
fn misplaced(what: &str, hint: &str, span: Span) -> Result<Expr> {
    Err(Problem::new(Code::Syntax, what).hint(hint).at(span))
}
