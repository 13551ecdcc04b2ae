//! Roles: what parts of a network are for, by name (`head`, `stem`, `stages`). Paths, as they are now: what moves a place
//! moves its roles along.

use super::{Graph, path};
use crate::diag::{Code, Problem, list, suggest};

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

impl RolePlace {
    /// As messages print it.
    pub fn display(&self) -> String {
        match &self.last {
            None => path::display(&self.first),
            Some(last) => format!("{}..={}", path::display(&self.first), path::display(last)),
        }
    }

    /// Gives the ends new paths, where `moved` has some.
    pub(super) fn follow(&mut self, moved: &impl Fn(&str) -> Option<String>) {
        for end in [Some(&mut self.first), self.last.as_mut()].into_iter().flatten() {
            if let Some(to) = moved(end) {
                *end = to;
            }
        }
        if self.last.as_ref() == Some(&self.first) {
            self.last = None;
        }
    }
}

impl Graph {
    /// A role by its name.
    ///
    /// # Errors
    /// If the network has no such role.
    pub fn role(&self, name: &str) -> Result<&Role, Problem> {
        self.roles.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.roles.keys().map(String::as_str).collect();
            let problem = Problem::new(Code::UnknownName, format!("the network has no role `{name}`"));
            if names.is_empty() {
                return problem.hint("a network says its roles in its braces: `roles { head = fc }`");
            }
            let all = format!("it has {}", list(&names).replace(" or ", " and "));
            problem.hint(suggest(name, names).unwrap_or(all))
        })
    }
}

/// A place of a role that edits took away.
pub fn gone(role: &str, place: &str) -> Problem {
    let message = format!("`@{role}` was `{}`, which the network has no more", path::display(place));
    Problem::new(Code::NoMatch, message).hint("name a place that is left")
}
