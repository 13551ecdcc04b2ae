//! Paths of the network as values: labels reached into, and, in the text of an edit, any path.

use super::value::{Place, Value};
use super::{Builder, Env, Limit};
use crate::diag::{Code, Problem, Result};
use crate::graph::path;
use crate::source::Span;

impl<'a> Builder<'a, '_> {
    /// The layer or scope at `at`.
    fn place(&self, at: &str) -> Option<Place> {
        if let Some(id) = self.patch.find(at) {
            return Some(Place { path: at.into(), output: Some(id) });
        }
        let scope = self.patch.scope(at)?;
        Some(Place { path: at.into(), output: scope.output })
    }

    /// What a bare name means as a path, where paths are seen.
    pub(super) fn path_value(&self, env: &Env<'a>, name: &str, span: Span) -> Result<Option<Value<'a>>> {
        if env.sees_paths { self.visible_place(env, name, span) } else { Ok(None) }
    }

    pub(super) fn place_child(
        &self,
        env: &Env<'a>,
        place: &Place,
        label: &str,
        span: Span,
    ) -> Result<Option<Value<'a>>> {
        self.visible_place(env, &path::join(&place.path, label), span)
    }

    /// `layer3[5]`; a negative index counts from the highest number.
    pub(super) fn place_index(&self, env: &Env<'a>, place: &Place, index: i64, span: Span) -> Result<Value<'a>> {
        if index >= 0
            && let Some(child) = self.visible_place(env, &path::join(&place.path, &index.to_string()), span)?
        {
            return Ok(child);
        }
        let labels = self.children(&place.path);
        self.spend(Limit::Expressions, labels.len(), span)?;
        let mut numbers: Vec<i64> = labels.iter().filter_map(|label| label.parse().ok()).collect();
        numbers.sort_unstable();
        if index < 0
            && let Some(number) = numbers.last().map(|last| last.saturating_add(1).saturating_add(index))
            && let Some(child) = self.visible_place(env, &path::join(&place.path, &number.to_string()), span)?
        {
            return Ok(child);
        }
        let shown = path::display(&place.path);
        let problem = Problem::new(Code::NoMatch, format!("`{shown}` has no entry {index}"));
        Err(match (numbers.first(), numbers.last()) {
            (Some(first), Some(last)) => problem.hint(format!("its entries are {first} to {last}")).at(span),
            _ => problem.hint(format!("`{shown}` has no numbered entries")).at(span),
        })
    }

    /// The place at `at`, unless the edit takes it away.
    fn visible_place(&self, env: &Env<'a>, at: &str, span: Span) -> Result<Option<Value<'a>>> {
        self.spend(Limit::Text, at.len(), span)?;
        let place = self.place(at);
        if place.is_none() && env.hidden.as_deref() == Some(at) {
            let message = format!("`{}` is replaced here, so its replacement cannot use it", path::display(at));
            return Err(Problem::new(Code::BadEdit, message).hint("`in` is what flows into it").at(span));
        }
        Ok(place.map(Value::Place))
    }

    /// The labels directly inside a scope, sorted.
    pub(super) fn children(&self, scope: &str) -> Vec<String> {
        let spot = self.patch.spot(scope);
        let inside = spot.into_iter().flat_map(|spot| self.patch.children(spot));
        let mut labels: Vec<String> = inside.map(|(label, _)| label.to_string()).collect();
        labels.sort_unstable();
        labels
    }
}
