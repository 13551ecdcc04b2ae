//! Pieces that were written as blocks and are called in one place in the end, because what called them became one block, are
//! written there again. Blocks of a class keep its name.

use super::block::Block;
use super::tree::{ArgValue, Body, Condition, Expr, LabelPart, Over, Step, Stmt};

/// Puts the bodies of such blocks in the places of their calls.
pub fn inline(root: &mut Body, blocks: &mut Vec<Block>) {
    // the last ones call those before
    for at in (0..blocks.len()).rev() {
        let block = &blocks[at];
        if block.has_class || !block.values.is_empty() {
            continue;
        }
        let mut calls = 0;
        let mut is_plain = true;
        for stmts in std::iter::once(&mut root.stmts).chain(blocks.iter_mut().map(|block| &mut block.body.stmts)) {
            each_stmt(stmts, &mut |stmt| {
                if let Step::Call { block, args, .. } = &stmt.step
                    && *block == at
                {
                    calls += 1;
                    // what flows into braces is another value inside of them
                    is_plain &= args.iter().all(|(_, value)| !has_input(value));
                }
            });
        }
        if calls != 1 || !is_plain {
            continue;
        }
        let block = blocks.remove(at);
        let mut body = Some(block.body);
        for stmts in std::iter::once(&mut root.stmts).chain(blocks.iter_mut().map(|block| &mut block.body.stmts)) {
            each_stmt(stmts, &mut |stmt| match &mut stmt.step {
                Step::Call { block: called, .. } if *called > at => *called -= 1,
                Step::Call { block: called, args, .. } if *called == at => {
                    let mut body = body.take().expect("there is one call");
                    let given: Vec<Expr> = args.iter().map(|(_, value)| value.clone()).collect();
                    each_stmt(&mut body.stmts, &mut |stmt| each_expr(stmt, &mut |expr| put(expr, &given)));
                    stmt.step = Step::Scope { numbered: block.numbered, class: None, height: 0, body };
                }
                _ => {}
            });
        }
    }
}

/// Every statement; those inside of one before it.
fn each_stmt(stmts: &mut [Stmt], see: &mut dyn FnMut(&mut Stmt)) {
    for stmt in stmts {
        match &mut stmt.step {
            Step::Scope { body, .. } => each_stmt(&mut body.stmts, see),
            Step::Residual { main, side, .. } => {
                each_stmt(&mut main.stmts, see);
                if let Some(side) = side {
                    each_stmt(&mut side.stmts, see);
                }
            }
            Step::For(one) => each_stmt(&mut one.stmts, see),
            Step::When { stmts, .. } => each_stmt(stmts, see),
            _ => {}
        }
        see(stmt);
    }
}

/// The expressions of a statement itself.
fn each_expr(stmt: &mut Stmt, see: &mut dyn FnMut(&mut Expr)) {
    for part in &mut stmt.label.parts {
        if let LabelPart::Number(number) = part {
            see(number);
        }
    }
    let of_condition = |condition: &mut Condition, see: &mut dyn FnMut(&mut Expr)| match condition {
        Condition::Holds(expr) | Condition::Not(expr) => see(expr),
        Condition::Differ(pairs) | Condition::Equal(pairs) => pairs.iter_mut().for_each(|(left, right)| {
            see(left);
            see(right);
        }),
    };
    match &mut stmt.step {
        Step::Op { args, .. } => args.iter_mut().for_each(|arg| match &mut arg.value {
            ArgValue::One(value) => see(value),
            ArgValue::Each(list) => list.iter_mut().for_each(&mut *see),
        }),
        Step::Infix { number, .. } => number.iter_mut().for_each(see),
        Step::Call { args, .. } => args.iter_mut().for_each(|(_, value)| see(value)),
        Step::Chunk { axis, .. } => see(axis),
        Step::Residual { when: Some(guard), .. } => of_condition(&mut guard.condition, see),
        Step::When { guard, .. } => of_condition(&mut guard.condition, see),
        Step::For(one) => {
            if let Over::Rows { rows, .. } = &mut one.over {
                rows.iter_mut().flatten().for_each(see);
            }
        }
        Step::Scope { .. } | Step::Residual { .. } | Step::Tied { .. } | Step::Bare(_) | Step::Output { .. } => {}
    }
}

/// Puts what a call gives in the places of the block's parameters.
fn put(expr: &mut Expr, given: &[Expr]) {
    match expr {
        Expr::Param(param) => *expr = given[*param].clone(),
        Expr::Times(_, of) | Expr::Over(of, _) | Expr::Plus(of, _) | Expr::Power(_, of) => put(of, given),
        Expr::First(_, first, rest) => {
            put(first, given);
            put(rest, given);
        }
        Expr::Value(_) | Expr::Var(_) | Expr::In(_) => {}
    }
}

fn has_input(expr: &Expr) -> bool {
    match expr {
        Expr::In(_) => true,
        Expr::Times(_, of) | Expr::Over(of, _) | Expr::Plus(of, _) | Expr::Power(_, of) => has_input(of),
        Expr::First(_, first, rest) => has_input(first) || has_input(rest),
        Expr::Value(_) | Expr::Param(_) | Expr::Var(_) => false,
    }
}
