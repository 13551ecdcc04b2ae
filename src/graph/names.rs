//! Automatic names: the first of `relu`, `relu_1`, `relu_2` .. that is free.

use rustc_hash::FxHashMap;

/// How far the numbers behind each name are taken, so that finding the next one does not try them all again.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(FxHashMap<String, usize>);

impl Names {
    /// The first free number, from 1 on, behind a path that is taken itself.
    pub fn free(&mut self, path: &str, is_taken: impl Fn(&str) -> bool) -> String {
        let known = self.0.get(path).copied().unwrap_or(1);
        let free = (known..).map(|number| (number, format!("{path}_{number}")));
        let (number, free) = free.into_iter().find(|(_, free)| !is_taken(free)).expect("numbers do not end");
        if number > known {
            self.0.insert(path.to_string(), number);
        }
        free
    }

    /// A path is free again.
    pub fn give_back(&mut self, path: &str) {
        let Some((name, number)) = path.rsplit_once('_') else { return };
        if let (Some(known), Ok(number @ 1..)) = (self.0.get_mut(name), number.parse()) {
            *known = number.min(*known);
        }
    }
}
