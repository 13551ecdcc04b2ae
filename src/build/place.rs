//! Paths of the network as values: labels reached into, and, in the text of an edit, any path.

use super::value::{Place, Value};
use super::{Builder, Env, Limit};
use crate::diag::{At, Code, Problem, Result, joined};
use crate::graph::{NodeId, gone, path};
use crate::source::Span;
use crate::syntax::tree;

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
        let inside = self.patch.spot(&place.path).into_iter().flat_map(|spot| self.patch.children(spot));
        let (mut ends, mut labels): (Option<(i64, i64)>, usize) = (None, 0);
        for (label, _) in inside {
            labels += 1;
            if let Ok(number) = label.parse() {
                ends = Some(ends.map_or((number, number), |(first, last)| (number.min(first), number.max(last))));
            }
        }
        self.spend(Limit::Expressions, labels, span)?;
        if index < 0
            && let Some(number) = ends.map(|(_, last)| last.saturating_add(1).saturating_add(index))
            && let Some(child) = self.visible_place(env, &path::join(&place.path, &number.to_string()), span)?
        {
            return Ok(child);
        }
        let shown = path::display(&place.path);
        let problem = Problem::new(Code::NoMatch, format!("`{shown}` has no entry {index}"));
        Err(match ends {
            Some((first, last)) => problem.hint(format!("its entries are {first} to {last}")).at(span),
            None => problem.hint(format!("`{shown}` has no numbered entries")).at(span),
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

    /// `@head`: the place of a role, or the list of its places.
    pub(super) fn role_value(&self, env: &Env<'a>, name: &str, span: Span) -> Result<Value<'a>> {
        if !env.sees_paths {
            let problem = Problem::new(Code::UnknownName, format!("`@{name}` is known in the text of edits alone"));
            return Err(problem.hint("give it to the block as an argument").at(span));
        }
        let role = self.patch.roles().get(name).at(span)?;
        let mut places = vec![];
        for place in &role.places {
            // a range ends with what its last place ends with
            let end = place.last.as_ref().unwrap_or(&place.first);
            places.push(self.visible_place(env, end, span)?.ok_or_else(|| gone(name, end).at(span))?);
        }
        match (role.is_list, places.as_slice()) {
            (false, [one]) => Ok(one.clone()),
            _ => self.list(places, span).map(Value::List),
        }
    }

    /// `tap(16)` as a value.
    pub(super) fn tap_value(&mut self, env: &mut Env<'a>, args: &'a tree::Args, span: Span) -> Result<Value<'a>> {
        let wrong = || Problem::new(Code::MissingArgument, "`tap` takes a stride").hint("`tap(16)`");
        let [tree::Arg { name: None, value }] = args.args.as_slice() else { return Err(wrong().at(span)) };
        match self.eval_operand(env, value)? {
            Value::Int(stride) => Ok(Value::Node(self.tap(stride).at(span)?)),
            Value::Poison => Ok(Value::Poison),
            other => {
                let message = format!("a stride is an integer, got {}", other.describe());
                Err(Problem::new(Code::TypeMismatch, message).at(value.span))
            }
        }
    }

    /// The last layer, as the network runs, whose map is one part in `stride` of the picture each way. What the edit at
    /// work has made is left out.
    ///
    /// # Errors
    /// If there is none, with the strides that there are.
    pub fn tap(&self, stride: i64) -> std::result::Result<NodeId, Problem> {
        let maps = self.maps.get_or_init(|| self.patch.maps(&self.patch.made_since(0)));
        let fits = |stride: i64| usize::try_from(stride).ok().and_then(|s| maps.iter().rev().find(|map| map.fits(s)));
        if let Some(map) = fits(stride) {
            return Ok(map.node);
        }
        let mut strides: Vec<usize> = maps.iter().filter_map(|map| map.stride()).collect();
        strides.sort_unstable();
        strides.dedup();
        let strides: Vec<String> = strides.iter().map(usize::to_string).collect();
        let problem =
            Problem::new(Code::NoMatch, format!("no map that the output depends on has a stride of {stride}"));
        Err(match strides.is_empty() {
            true => problem.hint("taps are maps of a picture, and this network has none"),
            false => problem.hint(format!("there are taps of {}", joined(&strides, "and"))),
        })
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
