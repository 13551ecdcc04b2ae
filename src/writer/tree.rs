//! What is to be written, before it is text: statements as the language has them, with references instead of names and
//! with expressions instead of numbers.
//!
//! A reference names a statement by a number of its own, so that a piece of the tree can be compared with another one,
//! moved into a block or taken for one round of a loop without a look at what things are called.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use rustc_hash::FxHashMap;

use crate::graph::NodeId;
use crate::ops::Entry;
use crate::ops::attr::Attr;

/// The number of a statement, or of what flows into braces.
pub type Id = u32;

/// A value of the network where it is used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ref {
    /// What a statement makes, or what flows into braces.
    Value(Id),
    /// One part of a `chunk`.
    Part(Id, usize),
    /// What lies at a path inside the scope that a statement opens, the scope itself where the path is empty.
    Inside(Id, String),
    /// A value that a block is given.
    External(usize),
}

/// An argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Value(Attr),
    /// A parameter of the block.
    Param(usize),
    /// A variable of a loop around it.
    Var(Id),
    /// A size of what flows into the innermost braces.
    In(Dim),
    Times(i64, Box<Expr>),
    /// Rounded down.
    Over(Box<Expr>, i64),
    Plus(Box<Expr>, i64),
    /// `factor * 2 ** exponent`
    Power(i64, Box<Expr>),
    /// `if var == 0 then first else rest`
    First(Id, Box<Expr>, Box<Expr>),
}

/// An axis of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    Channels,
    Height,
    Width,
    /// The last one.
    Features,
    /// As PyTorch counts them.
    Axis(usize),
}

#[derive(Clone, Debug)]
pub struct Label {
    /// The language gives this label where none is written.
    pub is_auto: bool,
    pub parts: Vec<LabelPart>,
}

#[derive(Clone, Debug)]
pub enum LabelPart {
    Text(String),
    /// Digits that are written as a number is.
    Number(Expr),
}

impl Label {
    pub fn new(text: &str, is_auto: bool) -> Label {
        let mut parts = vec![];
        let mut rest = text;
        while !rest.is_empty() {
            let is_digit = |c: char| c.is_ascii_digit();
            let digits = rest.starts_with(is_digit);
            let end = rest.find(|c| is_digit(c) != digits).unwrap_or(rest.len());
            let piece = &rest[..end];
            let number = piece.parse::<i64>().ok().filter(|number| digits && number.to_string() == piece);
            match (number, parts.last_mut()) {
                (Some(number), _) => parts.push(LabelPart::Number(Expr::Value(Attr::Int(number)))),
                (None, Some(LabelPart::Text(text))) => text.push_str(piece),
                (None, _) => parts.push(LabelPart::Text(piece.to_string())),
            }
            rest = &rest[end..];
        }
        Label { is_auto, parts }
    }

    /// The label, where no variable is in it.
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                LabelPart::Text(part) => text += part,
                LabelPart::Number(Expr::Value(number)) => text += &number.to_string(),
                LabelPart::Number(_) => return None,
            }
        }
        Some(text)
    }
}

/// Braces.
#[derive(Clone, Debug)]
pub struct Body {
    /// What flows in: the node, for its shape.
    pub input: Option<NodeId>,
    /// The number of what flows in.
    pub id: Id,
    pub stmts: Vec<Stmt>,
}

/// A step that stands in a line of its own.
#[derive(Clone, Debug)]
pub struct Stmt {
    pub id: Id,
    pub label: Label,
    /// The value that it takes from the chain; None for a step that takes none, or names its operands itself.
    pub takes: Option<Ref>,
    pub step: Step,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// A layer of one value or of none, or of several named in its call.
    Op {
        entry: &'static Entry,
        args: Vec<Arg>,
        operands: Vec<Ref>,
    },
    /// `a + b`, or with a number that stands on the left where it is `swapped`.
    Infix {
        sign: &'static str,
        operands: Vec<Ref>,
        number: Option<Expr>,
        swapped: bool,
    },
    /// A scope that is written where it is; its height is above those of the scopes in it.
    Scope {
        numbered: bool,
        class: Option<String>,
        height: usize,
        body: Body,
    },
    /// A scope that a block makes.
    Call {
        block: usize,
        args: Vec<(String, Expr)>,
        values: Vec<Ref>,
    },
    Residual {
        main: Body,
        side: Option<Body>,
        when: Option<Guard>,
    },
    Chunk {
        entry: &'static Entry,
        parts: usize,
        axis: Expr,
    },
    /// A layer once more, with the same tensors.
    Tied {
        of: Ref,
    },
    For(For),
    /// Statements that a block has for some of its calls.
    When {
        guard: Guard,
        stmts: Vec<Stmt>,
    },
    /// A value that becomes the result.
    Bare(Ref),
    Output {
        name: String,
        value: Ref,
    },
}

/// What decides whether a part of a block is there.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Of a residual: whether the side branch is meant, and not the addition.
    pub of_side: bool,
    /// What a parameter is called that says it.
    pub name: String,
    /// What flows into the residual.
    pub input: Option<NodeId>,
    pub condition: Condition,
}

/// A condition; a list of comparisons holds where one of them does.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Holds(Expr),
    Not(Expr),
    /// Pairs that are not equal.
    Differ(Vec<(Expr, Expr)>),
    /// Pairs that are all equal.
    Equal(Vec<(Expr, Expr)>),
}

/// `for`
#[derive(Clone, Debug)]
pub struct For {
    pub over: Over,
    /// The number of what flows into a round.
    pub carry: Id,
    pub stmts: Vec<Stmt>,
}

#[derive(Clone, Debug)]
pub enum Over {
    /// From a number on, so many rounds.
    Range { var: Id, from: i64, count: i64 },
    /// One row a round.
    Rows { vars: Vec<(Id, String)>, rows: Vec<Vec<Expr>> },
}

#[derive(Clone, Debug)]
pub struct Arg {
    pub name: &'static str,
    pub value: ArgValue,
}

#[derive(Clone, Debug)]
pub enum ArgValue {
    One(Expr),
    /// A list whose entries are told apart.
    Each(Vec<Expr>),
}

impl Stmt {
    /// Whether what it makes flows into the next statement.
    pub fn flows(&self) -> bool {
        match &self.step {
            Step::Op { entry, .. } => !crate::ops::makes_constant(entry.name),
            Step::Chunk { .. } | Step::Output { .. } => false,
            Step::For(one) => one.stmts.iter().any(Stmt::flows),
            _ => true,
        }
    }
}

/// What a walk over statements meets, in the order in which it is written.
pub enum Item<'a> {
    Token(u64),
    Text(&'a str),
    /// A literal: the argument's name, the label of its layer, and what flows into the innermost braces.
    Slot {
        value: &'a mut Expr,
        name: &'a str,
        label: &'a str,
        input: Option<NodeId>,
    },
    /// Whether a part of a block is there.
    Guard {
        value: &'a mut Expr,
        name: &'a str,
    },
    /// A number in a label.
    Number(&'a mut Expr),
    Use(&'a mut Ref),
    Var(Id),
    /// From here on there is a value or a variable of this number.
    Define(Id),
}

/// Where a walk is.
#[derive(Clone, Copy)]
struct At<'a> {
    name: &'a str,
    label: &'a str,
    input: Option<NodeId>,
}

/// Shows `see` everything about statements, in one order for statements that are alike.
pub fn walk(stmts: &mut [Stmt], input: Option<NodeId>, see: &mut dyn FnMut(Item<'_>)) {
    see(Item::Token(stmts.len() as u64));
    for stmt in stmts {
        walk_stmt(stmt, input, see);
    }
}

fn walk_stmt(stmt: &mut Stmt, input: Option<NodeId>, see: &mut dyn FnMut(Item<'_>)) {
    let text = stmt.label.text().unwrap_or_default();
    let at = At { name: "", label: &text, input };
    see(Item::Token(u64::from(stmt.label.is_auto)));
    if !stmt.label.is_auto {
        for part in &mut stmt.label.parts {
            match part {
                LabelPart::Text(text) => see(Item::Text(text)),
                LabelPart::Number(number @ Expr::Value(_)) => see(Item::Number(number)),
                LabelPart::Number(number) => walk_expr(number, At { name: "label", ..at }, see),
            }
        }
    }
    if let Some(takes) = &mut stmt.takes {
        see(Item::Use(takes));
    }
    match &mut stmt.step {
        Step::Op { entry, args, operands } => {
            see(Item::Text(entry.name));
            for arg in args {
                let at = At { name: arg.name, ..at };
                match &mut arg.value {
                    ArgValue::One(value) => walk_expr(value, at, see),
                    ArgValue::Each(list) => {
                        see(Item::Token(list.len() as u64));
                        list.iter_mut().for_each(|value| walk_expr(value, at, see));
                    }
                }
            }
            see(Item::Token(operands.len() as u64));
            operands.iter_mut().for_each(|operand| see(Item::Use(operand)));
        }
        Step::Infix { sign, operands, number, swapped } => {
            see(Item::Text(sign));
            see(Item::Token(operands.len() as u64 * 2 + u64::from(*swapped)));
            operands.iter_mut().for_each(|operand| see(Item::Use(operand)));
            if let Some(number) = number {
                walk_expr(number, At { name: "factor", ..at }, see);
            }
        }
        Step::Scope { numbered, class, body, .. } => {
            see(Item::Text("scope"));
            see(Item::Text(class.as_deref().unwrap_or_default()));
            see(Item::Token(u64::from(*numbered)));
            walk_body(body, see);
        }
        Step::Call { block, args, values } => {
            see(Item::Text("call"));
            see(Item::Token(*block as u64));
            for (name, arg) in args {
                walk_expr(arg, At { name, ..at }, see);
            }
            values.iter_mut().for_each(|value| see(Item::Use(value)));
        }
        Step::Residual { main, side, when } => {
            see(Item::Text("residual"));
            walk_guard(when.as_mut(), at, see);
            walk_body(main, see);
            see(Item::Token(u64::from(side.is_some())));
            if let Some(side) = side {
                walk_body(side, see);
            }
        }
        Step::Chunk { entry, parts, axis } => {
            see(Item::Text(entry.name));
            see(Item::Token(*parts as u64));
            walk_expr(axis, At { name: "axis", ..at }, see);
        }
        Step::Tied { of } => {
            see(Item::Text("tied"));
            see(Item::Use(of));
        }
        Step::For(one) => {
            see(Item::Text("for"));
            match &mut one.over {
                Over::Range { var, from, count } => {
                    see(Item::Token(*from as u64));
                    see(Item::Token(*count as u64));
                    see(Item::Define(*var));
                }
                Over::Rows { vars, rows } => {
                    see(Item::Token(rows.len() as u64));
                    see(Item::Token(vars.len() as u64));
                    for row in rows {
                        for (value, (_, name)) in row.iter_mut().zip(vars.iter()) {
                            walk_expr(value, At { name, ..at }, see);
                        }
                    }
                    vars.iter().for_each(|(var, _)| see(Item::Define(*var)));
                }
            }
            see(Item::Define(one.carry));
            walk(&mut one.stmts, input, see);
        }
        Step::When { guard, stmts } => {
            see(Item::Text("when"));
            walk_guard(Some(guard), at, see);
            walk(stmts, input, see);
        }
        Step::Bare(value) => {
            see(Item::Text("value"));
            see(Item::Use(value));
        }
        Step::Output { name, value } => {
            see(Item::Text("output"));
            see(Item::Text(name));
            see(Item::Use(value));
        }
    }
    see(Item::Define(stmt.id));
}

fn walk_body(body: &mut Body, see: &mut dyn FnMut(Item<'_>)) {
    see(Item::Token(u64::from(body.input.is_some())));
    see(Item::Define(body.id));
    walk(&mut body.stmts, body.input, see);
}

fn walk_guard(guard: Option<&mut Guard>, at: At<'_>, see: &mut dyn FnMut(Item<'_>)) {
    let Some(guard) = guard else { return see(Item::Token(0)) };
    see(Item::Token(1 + u64::from(guard.of_side)));
    let at = At { name: &guard.name, ..at };
    match &mut guard.condition {
        Condition::Holds(value @ Expr::Value(_)) => see(Item::Guard { value, name: at.name }),
        Condition::Holds(expr) => walk_expr(expr, at, see),
        Condition::Not(expr) => {
            see(Item::Text("not"));
            walk_expr(expr, at, see);
        }
        Condition::Differ(pairs) | Condition::Equal(pairs) => {
            see(Item::Token(pairs.len() as u64));
            for (left, right) in pairs {
                walk_expr(left, at, see);
                walk_expr(right, at, see);
            }
        }
    }
}

fn walk_expr(expr: &mut Expr, at: At<'_>, see: &mut dyn FnMut(Item<'_>)) {
    match expr {
        Expr::Value(_) => see(Item::Slot { value: expr, name: at.name, label: at.label, input: at.input }),
        Expr::Param(param) => {
            see(Item::Text("param"));
            see(Item::Token(*param as u64));
        }
        Expr::Var(var) => see(Item::Var(*var)),
        Expr::In(dim) => {
            let mut hasher = DefaultHasher::new();
            dim.hash(&mut hasher);
            see(Item::Token(hasher.finish()));
        }
        Expr::Times(factor, of) => {
            see(Item::Text("*"));
            see(Item::Token(*factor as u64));
            walk_expr(of, at, see);
        }
        Expr::Over(of, divisor) => {
            see(Item::Text("//"));
            see(Item::Token(*divisor as u64));
            walk_expr(of, at, see);
        }
        Expr::Plus(of, more) => {
            see(Item::Text("+"));
            see(Item::Token(*more as u64));
            walk_expr(of, at, see);
        }
        Expr::Power(factor, exponent) => {
            see(Item::Text("**"));
            see(Item::Token(*factor as u64));
            walk_expr(exponent, at, see);
        }
        Expr::First(var, first, rest) => {
            see(Item::Text("first"));
            see(Item::Var(*var));
            walk_expr(first, at, see);
            walk_expr(rest, at, see);
        }
    }
}

/// How references to values that are made elsewhere are told apart.
#[derive(Clone, Copy)]
pub enum Outer {
    /// By what they are; one of them flows into the first statement.
    Same { flow: Option<Id> },
    /// By the order in which they come: a block is given them.
    InOrder,
    /// Not at all.
    Any,
}

/// A number that statements have in common which differ in literals alone. Numbers in labels are such, too, where
/// `labels_vary`.
pub fn signature(stmts: &mut [Stmt], input: Option<(Option<NodeId>, Id)>, outer: Outer, labels_vary: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut known: FxHashMap<Id, u64> = FxHashMap::default();
    let mut externals: FxHashMap<Ref, u64> = FxHashMap::default();
    let define = |known: &mut FxHashMap<Id, u64>, id: Id| {
        let number = known.len() as u64;
        known.insert(id, number);
    };
    let node = input.and_then(|(node, id)| {
        define(&mut known, id);
        node
    });
    walk(stmts, node, &mut |item| match item {
        Item::Token(token) => (0u8, token).hash(&mut hasher),
        Item::Text(text) => (1u8, text).hash(&mut hasher),
        Item::Slot { .. } | Item::Guard { .. } => 2u8.hash(&mut hasher),
        Item::Number(number) => match number {
            Expr::Value(Attr::Int(number)) if !labels_vary => (3u8, *number).hash(&mut hasher),
            _ => 3u8.hash(&mut hasher),
        },
        Item::Var(var) => (4u8, known.get(&var).copied().unwrap_or(u64::MAX)).hash(&mut hasher),
        Item::Define(id) => define(&mut known, id),
        Item::Use(used) => {
            let (id, rest) = match &*used {
                Ref::Value(id) => (*id, None),
                Ref::Part(id, part) => (*id, Some(part.to_string())),
                Ref::Inside(id, path) => (*id, Some(format!(".{path}"))),
                Ref::External(external) => return (5u8, external).hash(&mut hasher),
            };
            match (known.get(&id), outer) {
                (_, Outer::Any) => 6u8.hash(&mut hasher),
                (Some(number), _) => (7u8, number, rest).hash(&mut hasher),
                (None, Outer::Same { flow }) if flow == Some(id) && rest.is_none() => 8u8.hash(&mut hasher),
                (None, Outer::Same { .. }) => (9u8, id, rest).hash(&mut hasher),
                (None, Outer::InOrder) => {
                    let next = externals.len() as u64;
                    let is_place = matches!(used, Ref::Inside(..));
                    (10u8, is_place, *externals.entry(used.clone()).or_insert(next)).hash(&mut hasher);
                }
            }
        }
    });
    hasher.finish()
}

/// Every scope that is written where it is, those inside others first.
pub fn each_scope(stmts: &mut [Stmt], see: &mut dyn FnMut(&mut Stmt)) {
    for stmt in stmts {
        match &mut stmt.step {
            Step::Scope { body, .. } => each_scope(&mut body.stmts, see),
            Step::Residual { main, side, .. } => {
                each_scope(&mut main.stmts, see);
                if let Some(side) = side {
                    each_scope(&mut side.stmts, see);
                }
            }
            Step::For(one) => each_scope(&mut one.stmts, see),
            Step::When { stmts, .. } => each_scope(stmts, see),
            _ => {}
        }
        if matches!(stmt.step, Step::Scope { .. }) {
            see(stmt);
        }
    }
}

/// The guards of statements, in the order in which a walk meets them.
pub fn each_guard(stmts: &mut [Stmt], see: &mut dyn FnMut(&mut Guard)) {
    for stmt in stmts {
        match &mut stmt.step {
            Step::Scope { body, .. } => each_guard(&mut body.stmts, see),
            Step::Residual { main, side, when } => {
                when.iter_mut().for_each(&mut *see);
                each_guard(&mut main.stmts, see);
                if let Some(side) = side {
                    each_guard(&mut side.stmts, see);
                }
            }
            Step::For(one) => each_guard(&mut one.stmts, see),
            Step::When { guard, stmts } => {
                see(guard);
                each_guard(stmts, see);
            }
            _ => {}
        }
    }
}

/// About how many lines and letters a statement takes.
pub fn measure(stmt: &Stmt) -> (usize, usize) {
    let label = if stmt.label.is_auto { 0 } else { 4 + stmt.label.parts.len() * 4 };
    let arg = |value: &Expr, name: &str| match value {
        Expr::Value(_) => name.len() + 6,
        _ => name.len() + 12,
    };
    let body = |stmts: &[Stmt], head: usize| {
        let (lines, width) = measure_all(stmts);
        // in one line where that is short
        if lines <= 3 && lines == stmts.len() && width + head < 76 { (1, width + head) } else { (lines + 2, 100) }
    };
    match &stmt.step {
        Step::Op { entry, args, operands } => {
            let shown = args.iter().filter(|arg| !super::text::is_default(entry, arg));
            let width: usize = shown
                .map(|arg| match &arg.value {
                    ArgValue::One(value) => self::width(value, arg.name).max(arg.name.len() + 4),
                    ArgValue::Each(list) => list.len() * 5,
                })
                .sum();
            let width = label + entry.name.len() + width + operands.len() * 12;
            (1 + width / 118, width)
        }
        Step::Scope { body: inner, .. } => body(&inner.stmts, label + 8),
        Step::Call { args, .. } => (1, label + 10 + args.iter().map(|(name, value)| arg(value, name)).sum::<usize>()),
        Step::Residual { main, side, .. } => {
            let side = side.as_ref().map_or(0, |side| body(&side.stmts, 24).0);
            (measure_all(&main.stmts).0 + 2 + side.saturating_sub(1), 100)
        }
        Step::For(one) => match &one.over {
            Over::Range { .. } => body(&one.stmts, 18),
            Over::Rows { vars, rows } => {
                let head = 20 + vars.len() * rows.len() * 6;
                let (lines, width) = body(&one.stmts, head.min(118));
                (lines + head / 118, width)
            }
        },
        Step::When { stmts, .. } => body(stmts, 16),
        _ => (1, label + 20),
    }
}

fn width(value: &Expr, name: &str) -> usize {
    match value {
        Expr::Value(value) => name.len() + 3 + value.to_string().len(),
        _ => name.len() + 12,
    }
}

pub fn measure_all(stmts: &[Stmt]) -> (usize, usize) {
    stmts.iter().map(measure).fold((0, 0), |(lines, width), (l, w)| (lines + l, width + w + 2))
}
