//! The names that an expression mentions.

use super::tree::{Body, Chain, Expr, ExprKind, LabelPart, Let, Over, Residual, Step, StepKind, Stmt};

impl Expr {
    /// Calls `found` with every name that stands in the expression, what is bound inside it too.
    pub fn each_name<'t>(&'t self, found: &mut dyn FnMut(&'t str)) {
        match &self.kind {
            ExprKind::Int(_)
            | ExprKind::Float(_)
            | ExprKind::Bool(_)
            | ExprKind::None
            | ExprKind::Str(_)
            | ExprKind::Role(_)
            | ExprKind::In
            | ExprKind::Prev => {}
            ExprKind::Name(name) => found(name),
            ExprKind::List(list) => list.iter().for_each(|one| one.each_name(found)),
            ExprKind::Call(name, args) => {
                found(&name.value);
                args.args.iter().for_each(|arg| arg.value.each_name(found));
            }
            ExprKind::Field(of, _) | ExprKind::Unary(_, of) => of.each_name(found),
            ExprKind::Index(left, right) | ExprKind::Binary(_, left, right) => {
                left.each_name(found);
                right.each_name(found);
            }
            ExprKind::Slice(of, from, to) => {
                of.each_name(found);
                [from, to].into_iter().flatten().for_each(|end| end.each_name(found));
            }
            ExprKind::If(condition, then, otherwise) => {
                [condition, then, otherwise].into_iter().for_each(|part| part.each_name(found));
            }
            ExprKind::Paren(chain) => in_chain(chain, found),
        }
    }
}

fn in_chain<'t>(chain: &'t Chain, found: &mut dyn FnMut(&'t str)) {
    for Step { label, kind, .. } in &chain.steps {
        for part in label.iter().flat_map(|label| &label.parts) {
            if let LabelPart::Expr(expr) = part {
                expr.each_name(found);
            }
        }
        match kind {
            StepKind::Seq(body) | StepKind::Braces(body) => in_body(body, found),
            StepKind::Residual(Residual { condition, main, shortcut, .. }) => {
                condition.iter().for_each(|condition| condition.each_name(found));
                in_body(main, found);
                if let Some(shortcut) = shortcut {
                    shortcut.condition.iter().for_each(|condition| condition.each_name(found));
                    in_body(&shortcut.body, found);
                }
            }
            StepKind::Expr(expr) => expr.each_name(found),
        }
    }
}

fn in_body<'t>(body: &'t Body, found: &mut dyn FnMut(&'t str)) {
    for stmt in &body.stmts {
        match stmt {
            Stmt::Let(Let::Function { value, .. }) => value.each_name(found),
            Stmt::Let(Let::Values { value, .. }) => in_chain(value, found),
            Stmt::For(one) => {
                match &one.over {
                    Over::Range { from, to, .. } => [from, to].into_iter().for_each(|end| end.each_name(found)),
                    Over::List(list) => list.each_name(found),
                }
                in_body(&one.body, found);
            }
            Stmt::If(one) => {
                one.condition.each_name(found);
                in_body(&one.then, found);
                one.otherwise.iter().for_each(|body| in_body(body, found));
            }
            Stmt::Output(one) => in_chain(&one.value, found),
            Stmt::Chain(chain) => in_chain(chain, found),
        }
    }
}
