//! `tied(label)`: a layer or scope once more, with the same weights and paths of its own.

use std::collections::HashMap;

use super::value::{Place, Value};
use super::{Builder, Env, Labelled, Limit};
use crate::diag::{Code, Problem, Result};
use crate::graph::{NodeId, Scope, path};
use crate::ops::Arity;
use crate::source::Span;
use crate::syntax::tree;

impl<'a> Builder<'a, '_> {
    pub(super) fn tied(
        &mut self,
        env: &mut Env<'a>,
        label: Option<&Labelled>,
        args: Option<&'a tree::Args>,
        value: Option<Value<'a>>,
        span: Span,
    ) -> Result<Value<'a>> {
        let Some([tree::Arg { name: None, value: of }]) = args.map(|args| args.args.as_slice()) else {
            let problem = Problem::new(Code::MissingArgument, "`tied` takes the label of a layer or scope");
            return Err(problem.hint("`tied(mlp)`").at(span));
        };
        let place: Place = match self.eval_operand(env, of)? {
            Value::Place(place) => place,
            Value::Poison => return Ok(Value::Poison),
            other => {
                let message = format!("`tied` takes the label of a layer or scope, got {}", other.describe());
                return Err(Problem::new(Code::TypeMismatch, message).at(of.span));
            }
        };
        let at = self.entry_path(env, label, path::last(&place.path), span)?;
        let Some(input) = self.flowing(&value, span)? else { return Ok(Value::Poison) };
        let hidden = env.hidden.clone();
        self.copy_tied(&place.path, &at, input, hidden.as_deref(), span).map(Value::Node)
    }

    /// Copies a layer or scope to `to`; what took its input takes `input`. What `hidden` says goes away cannot be in it.
    fn copy_tied(&mut self, from: &str, to: &str, input: NodeId, hidden: Option<&str>, span: Span) -> Result<NodeId> {
        let refuse = |what: &str| {
            let message = format!("`{}` {what}, so it cannot be tied", path::display(from));
            Err(Problem::new(Code::BadEdit, message).at(span))
        };
        if hidden.is_some_and(|hidden| path::within(hidden, from)) {
            return refuse("holds what is replaced here");
        }
        if let Some(id) = self.patch.find(from) {
            let op = self.patch.node(id).op.clone();
            if op.arity() != Arity::Exactly(1) {
                return refuse("does not take one value");
            }
            return self.copy_node(id, to.to_string(), vec![input], span);
        }
        let Some(scope) = self.patch.scope(from).cloned() else { return refuse("is gone") };
        let Some(output) = scope.output else { return refuse("has no output") };
        let moved = |path: &str| format!("{to}{}", &path[from.len()..]);
        let mut copies: HashMap<NodeId, NodeId> = scope.input.map(|old| (old, input)).into_iter().collect();
        let members = self.patch.order_of(&self.patch.layers(from).collect::<Vec<_>>());
        let within = self.patch.scopes(from);
        let scopes: Vec<(String, Scope)> = within.map(|(path, scope)| (moved(&path), scope.clone())).collect();
        for id in members {
            let at = moved(&self.patch.node(id).path);
            let operands =
                self.patch.operands(id).into_iter().map(|id| copies.get(&id).copied().unwrap_or(id)).collect();
            let copy = self.copy_node(id, at, operands, span)?;
            copies.insert(id, copy);
        }
        let copied = |id: NodeId| copies.get(&id).copied().unwrap_or(id);
        self.spend(Limit::Scopes, scopes.len(), span)?;
        self.spend(Limit::Text, scopes.iter().map(|(at, _)| at.len()).sum(), span)?;
        for (at, mut scope) in scopes {
            scope.input = scope.input.map(copied);
            scope.output = scope.output.map(copied);
            scope.additions = scope.additions.into_iter().map(copied).collect();
            self.patch.add_scope(&at, scope);
        }
        Ok(copied(output))
    }

    fn copy_node(&mut self, id: NodeId, at: String, operands: Vec<NodeId>, span: Span) -> Result<NodeId> {
        let op = self.patch.node(id).op.clone();
        self.spend(Limit::Text, at.len(), span)?;
        let copy = self.add_node_at(at, op, operands, span)?;
        self.patch.tie(copy, self.patch.owner(id));
        Ok(copy)
    }
}
