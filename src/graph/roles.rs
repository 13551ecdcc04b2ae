//! Roles: what parts of a network are for, by name (`head`, `stem`, `stages`). Paths, as they are now: what moves a place
//! moves its roles along.

use indexmap::IndexMap;
use rustc_hash::FxHashMap;

use super::path;
use crate::diag::{Code, Problem, and, suggest};

/// The roles of a network.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    by_name: IndexMap<String, Role>,
    /// The places that begin or end at a path: the numbers of role and place.
    ends: FxHashMap<String, Vec<(usize, usize)>>,
}

/// The places of a role.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    pub places: Vec<RolePlace>,
    /// Its places are counted, `@stages[-1]`, though there may be one alone.
    pub is_list: bool,
}

/// A layer, a scope, or a range of them.
#[derive(Clone, Debug, PartialEq)]
pub struct RolePlace {
    pub first: String,
    /// The last place of a range.
    pub last: Option<String>,
}

impl Roles {
    /// A role by its name.
    ///
    /// # Errors
    /// If the network has no such role.
    pub fn get(&self, name: &str) -> Result<&Role, Problem> {
        self.by_name.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let problem = Problem::new(Code::UnknownName, format!("the network has no role `{name}`"));
            if names.is_empty() {
                return problem.hint("a network says its roles in its braces: `roles { head = fc }`");
            }
            let all = format!("it has {}", and(&names));
            problem.hint(suggest(name, names).unwrap_or(all))
        })
    }

    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Every role with its name, in the order in which they were said.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Role)> {
        self.by_name.iter().map(|(name, role)| (name.as_str(), role))
    }

    /// Whether some place of a role begins or ends at a path.
    pub fn is_end(&self, path: &str) -> bool {
        self.ends.contains_key(path)
    }

    /// The paths at which places begin or end, in no particular order.
    pub fn ends(&self) -> impl Iterator<Item = &str> {
        self.ends.keys().map(String::as_str)
    }

    pub(super) fn set(&mut self, name: &str, role: Role) {
        let number = self.by_name.len();
        for (at, place) in role.places.iter().enumerate() {
            for end in place.ends() {
                self.ends.entry(end.to_string()).or_default().push((number, at));
            }
        }
        self.by_name.insert(name.to_string(), role);
    }

    /// Lets ends at the path `from` be at `to`.
    pub(super) fn lead(&mut self, from: &str, to: &str) {
        let moved = self.ends.remove(from).unwrap_or_default();
        for (number, at) in &moved {
            let place = &mut self.by_name[*number].places[*at];
            for end in [Some(&mut place.first), place.last.as_mut()].into_iter().flatten().filter(|end| *end == from) {
                *end = to.to_string();
            }
            if place.last.as_ref() == Some(&place.first) {
                place.last = None;
            }
        }
        self.ends.entry(to.to_string()).or_default().extend(moved);
    }
}

impl RolePlace {
    /// Its first and last path.
    pub fn ends(&self) -> impl Iterator<Item = &str> {
        [Some(&self.first), self.last.as_ref()].into_iter().flatten().map(String::as_str)
    }

    /// As messages print it.
    pub fn display(&self) -> String {
        match &self.last {
            None => path::display(&self.first),
            Some(last) => format!("{}..={}", path::display(&self.first), path::display(last)),
        }
    }
}

/// A place of a role that edits took away.
pub fn gone(role: &str, place: &str) -> Problem {
    let message = format!("`@{role}` was `{}`, which the network has no more", path::display(place));
    Problem::new(Code::NoMatch, message).hint("name a place that is left")
}
