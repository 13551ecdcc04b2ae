//! What becomes of a file's tensors before they are bound: the part of the file that is meant, its keys renamed or ignored
//! by `map` and `ignore`, then tensors stacked by `join`, then tables resized by `resize`. All of it is settled by names and
//! shapes; values are read when a tensor is asked for.

use indexmap::IndexMap;

use super::fit::Asked;
use super::join::Join;
use super::keymap::KeyMap;
use super::lines::{Fault, Line, Lines};
use super::pattern::Pattern;
use super::recipe::{Change, Recipe};
use super::resize;
use super::store::Store;
use crate::diag::{Code, Problem, suggest};

/// No spec has more lines of a kind.
const MAX_LINES: usize = 2_000;
/// The compiled regular expressions have about so many bytes in all.
const MAX_COMPILED: usize = 64 << 20;

/// Checked lines.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    part: Option<String>,
    keymap: KeyMap,
    /// Those of each `map`.
    changes: Vec<Vec<Change>>,
    joins: Vec<Join>,
    resizes: Vec<resize::Line>,
}

/// The tensors that a file has for a network.
#[derive(Clone, Debug, Default)]
pub struct Supply {
    /// By the network's name.
    pub tensors: IndexMap<String, Recipe>,
    /// The file's keys that are ignored.
    pub unused: Vec<String>,
}

impl Supply {
    /// Every tensor of a file under its own key.
    pub fn whole(store: &Store) -> Supply {
        let tensor = |(key, info): (&String, &super::TensorInfo)| (key.clone(), Recipe::stored(key, &info.shape));
        Supply { tensors: store.tensors().iter().map(tensor).collect(), unused: vec![] }
    }
}

impl Intake {
    /// Checks the lines.
    ///
    /// # Errors
    /// Every line that is wrong whatever the file has.
    pub fn new(lines: &Lines) -> Result<Intake, Vec<Fault>> {
        Intake::default().with(lines)
    }

    /// With further lines behind these.
    ///
    /// # Errors
    /// As [`Intake::new`].
    pub fn with(&self, lines: &Lines) -> Result<Intake, Vec<Fault>> {
        let Lines { part, maps, ignores, joins, resizes } = lines;
        let kinds = [
            (maps.len(), Line::Map(MAX_LINES), "map"),
            (ignores.len(), Line::Ignore(MAX_LINES), "ignore"),
            (joins.len(), Line::Join(MAX_LINES), "join"),
            (resizes.len(), Line::Resize(MAX_LINES), "resize"),
        ];
        let too_many = |(count, line, what): &(usize, Line, &str)| {
            let problem = Problem::new(Code::Limit, format!("a base has at most {MAX_LINES} lines `{what}`"));
            let problem = problem.hint("one regex may match many keys: `layer\\d+\\.(.*)`");
            (*count > MAX_LINES).then_some(Fault { line: *line, problem })
        };
        let mut faults: Vec<Fault> = kinds.iter().filter_map(too_many).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let count: usize = kinds.iter().map(|(count, ..)| count).sum();
        let limit = (MAX_COMPILED / count.max(1)).clamp(128 << 10, 10 << 20);

        let mut intake = self.clone();
        intake.part = part.clone().or(intake.part);
        intake.keymap.extend(maps, ignores, limit, &mut faults);
        intake.changes.extend(maps.iter().map(|map| map.changes.clone()));
        for (i, join) in joins.iter().enumerate() {
            match Join::new(join, limit) {
                Ok(join) => intake.joins.push(join),
                Err(problem) => faults.push(Fault { line: Line::Join(i), problem }),
            }
        }
        for (i, line) in resizes.iter().enumerate() {
            match Pattern::new(&line.regex, limit) {
                Ok(pattern) => intake.resizes.push(resize::Line { pattern, by: line.by, from: line.from }),
                Err(problem) => faults.push(Fault { line: Line::Resize(i), problem }),
            }
        }
        if faults.is_empty() { Ok(intake) } else { Err(faults) }
    }

    /// Which part of a file is meant, where it is said.
    pub fn part(&self) -> Option<&str> {
        self.part.as_deref()
    }

    /// The tensors that `store` has for the network that asks.
    ///
    /// # Errors
    /// Every line that does nothing, or cannot be done.
    pub fn apply(&self, store: &Store, asked: &Asked) -> Result<Supply, Vec<Fault>> {
        let prefix = match &self.part {
            None => String::new(),
            Some(part) if store.parts().contains(part) => format!("{part}."),
            Some(part) => return Err(vec![Fault { line: Line::Part, problem: no_part(store, part) }]),
        };
        let keys: Vec<&str> = store.tensors().keys().filter_map(|key| key.strip_prefix(&prefix)).collect();
        let mapped = self.keymap.apply(&keys)?;
        let mut faults = vec![];
        let mut tensors = IndexMap::with_capacity(mapped.names.len());
        for (name, named) in mapped.names {
            let key = format!("{prefix}{}", named.key);
            let shape = store.tensors().get(&key).map_or(&[][..], |info| &info.shape);
            let changes = named.maps.iter().flat_map(|map| {
                self.changes.get(*map).into_iter().flatten().enumerate().map(|(at, change)| (*map, at, change))
            });
            let mut recipe = Recipe::stored(&key, shape);
            for (map, at, change) in changes {
                match recipe.clone().changed(change, &named.key) {
                    Ok(changed) => recipe = changed,
                    Err(problem) => {
                        faults.push(Fault { line: Line::Change(map, at), problem });
                        break;
                    }
                }
            }
            tensors.insert(name, recipe);
        }
        if !faults.is_empty() {
            // of what is wrong with a line for many keys, the first is enough
            let mut seen: Vec<Line> = vec![];
            faults.retain(|fault| {
                !seen.contains(&fault.line) && {
                    seen.push(fault.line);
                    true
                }
            });
            return Err(faults);
        }
        for (i, join) in self.joins.iter().enumerate() {
            let fault = |problem| Fault { line: Line::Join(i), problem };
            tensors = join.apply(tensors).map_err(|problems| problems.into_iter().map(fault).collect::<Vec<_>>())?;
        }
        for (i, line) in self.resizes.iter().enumerate() {
            if let Err(problem) = resize_all(line, &mut tensors, asked) {
                faults.push(Fault { line: Line::Resize(i), problem });
            }
        }
        if faults.is_empty() { Ok(Supply { tensors, unused: mapped.unused }) } else { Err(faults) }
    }
}

/// Resizes what a line matches and the network asks for.
fn resize_all(line: &resize::Line, tensors: &mut IndexMap<String, Recipe>, asked: &Asked) -> Result<(), Problem> {
    let mut matched = false;
    for (name, recipe) in tensors.iter_mut().filter(|(name, _)| line.pattern.is_match(name)) {
        matched = true;
        let Some(decl) = asked.tensors.get(name).filter(|_| asked.taken.contains(name)) else { continue };
        if let Some(resize) = line.plan(name, recipe.shape(), &decl.shape, &asked.grids)? {
            *recipe = recipe.clone().resized(resize, decl.shape.clone());
        }
    }
    match matched {
        true => Ok(()),
        false => Err(line.pattern.no_match("resize", tensors.keys().map(String::as_str))),
    }
}

/// The message for a part that a file has not.
fn no_part(store: &Store, part: &str) -> Problem {
    let parts = store.parts();
    let problem = Problem::new(Code::WeightsFile, format!("`{}` has no part `{part}`", store.describe()));
    if parts.is_empty() {
        return problem.hint("it holds one set of weights: leave `part` out; `map` takes off what its keys begin with");
    }
    let hint = suggest(part, parts.iter().map(String::as_str))
        .unwrap_or_else(|| "name one of its parts, or leave `part` out and take all of them".into());
    problem.list("parts", parts.iter().map(|part| format!("it has the part `{part}`")).collect()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::super::lines::{IgnoreLine, Need};
    use super::*;

    #[test]
    fn there_is_an_end_to_lines() {
        let ignore = |at| IgnoreLine { regex: format!(r"layer{at}\.(\d+)\.(\w+)"), need: Need::Must };
        let lines = |count: usize| Lines { ignores: (0..count).map(ignore).collect(), ..Lines::default() };
        let faults = Intake::new(&lines(MAX_LINES + 1)).unwrap_err();
        assert_eq!((faults[0].line, faults[0].problem.code), (Line::Ignore(MAX_LINES), Code::Limit));
        // lines of an ordinary kind may be that many
        assert!(Intake::new(&lines(MAX_LINES)).is_ok());
    }
}
