//! `join "(.*)\.(query|key|value)\.weight" to "$1.qkv.weight" order [query, key, value]`: tensors whose keys differ in one
//! alternation become one, stacked along the first axis.

use indexmap::IndexMap;

use super::lines::JoinLine;
use super::pattern::{Pattern, Template};
use super::recipe::Recipe;
use crate::diag::{Code, Problem, list, suggest};

/// A checked `join` line.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pattern: Pattern,
    to: Template,
    /// The number of the alternation among the regex' groups.
    alternation: usize,
    order: Vec<String>,
}

impl Join {
    /// # Errors
    /// A regex that is none, or has no such alternation.
    pub fn new(line: &JoinLine, limit: usize) -> Result<Join, Problem> {
        let JoinLine { from, to, order } = line;
        let wrong = |what: String| Problem::new(Code::WeightsMap, what);
        let pattern = Pattern::new(from, limit)?;
        let to = Template::new(to, &pattern)?;
        let written = format!("({})", order.join("|"));
        if let Some(twice) = order.iter().enumerate().find(|(at, word)| order[..*at].contains(word)) {
            return Err(wrong(format!("`order` names `{}` twice", twice.1)).hint("each part has one place"));
        }
        if order.len() < 2 {
            return Err(wrong("a `join` is of two parts or more".into())
                .hint("one tensor alone is renamed by `map \"..\" to \"..\"`"));
        }
        let mut sorted = order.clone();
        sorted.sort();
        let is_meant = |words: &Vec<&str>| {
            let mut words = words.clone();
            words.sort_unstable();
            words == sorted
        };
        let found = alternations(from);
        let Some((alternation, _)) = found.iter().find(|(_, words)| is_meant(words)) else {
            let problem = wrong(format!("the regex has no alternation of just these: `{written}`"));
            return Err(match found.first() {
                Some((_, words)) => problem.hint(format!("it has {}: `order` puts all of them in order", list(words))),
                None => problem.hint(format!("write it where the keys differ: `{written}`")),
            });
        };
        if to.has_group(*alternation) {
            let message =
                format!("`${alternation}` is the part that differs, so that the tensors would get several names");
            return Err(wrong(message).hint(format!("write a word in the place of `${alternation}`, such as `qkv`")));
        }
        Ok(Join { pattern, to, alternation: *alternation, order: order.clone() })
    }

    /// Stacks what it matches of `tensors`; a result stands where its first part stood.
    ///
    /// # Errors
    /// If it matches nothing; a part that is missing, given twice or of another shape; a name that is taken.
    pub fn apply(&self, tensors: IndexMap<String, Recipe>) -> Result<IndexMap<String, Recipe>, Vec<Problem>> {
        let wrong = |what: String| Problem::new(Code::WeightsMap, what);
        // by the name of each result, the keys of its parts
        let mut results: IndexMap<String, Vec<Option<String>>> = IndexMap::new();
        let mut results_of: IndexMap<&str, String> = IndexMap::new();
        let mut problems = vec![];
        for key in tensors.keys() {
            let Some(groups) = self.pattern.groups(key) else { continue };
            let word = groups.get(self.alternation).map_or("", |found| found.as_str());
            let Some(place) = self.order.iter().position(|known| known == word) else { continue };
            let result = self.to.fill(&groups);
            let parts = results.entry(result.clone()).or_insert_with(|| vec![None; self.order.len()]);
            if let Some(other) = parts[place].replace(key.clone()) {
                let message = format!("`{other}` and `{key}` are both `{word}` of `{result}`");
                problems.push(wrong(message).hint("write the regex so that it matches only one of them"));
            }
            results_of.insert(key, result);
        }
        if results.is_empty() {
            return Err(vec![self.pattern.no_match("join", tensors.keys().map(String::as_str))]);
        }
        for (result, parts) in &results {
            problems.extend(self.missing(result, parts, &tensors));
            if tensors.contains_key(result) && !results_of.contains_key(result.as_str()) {
                let problem = wrong(format!("this makes `{result}`, which the file has already"));
                let other = regex_lite::escape(result);
                problems.push(problem.hint(format!("take the other one out: `ignore \"{other}\"`")));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut made = IndexMap::with_capacity(tensors.len());
        for (key, recipe) in &tensors {
            let Some(result) = results_of.get(key.as_str()) else {
                made.insert(key.clone(), recipe.clone());
                continue;
            };
            // its other parts come with the first
            let Some(parts) = results.swap_remove(result) else { continue };
            let keys: Vec<String> = parts.into_iter().flatten().collect();
            let parts: Vec<Recipe> = keys.iter().map(|key| tensors[key].clone()).collect();
            let shapes: Vec<Vec<usize>> = parts.iter().map(|part| part.shape().to_vec()).collect();
            match Recipe::stacked(parts) {
                Ok(stacked) => _ = made.insert(result.clone(), stacked),
                Err(at) => problems.push(unequal(&keys, &shapes, at)),
            }
        }
        if problems.is_empty() { Ok(made) } else { Err(problems) }
    }

    fn missing(&self, result: &str, parts: &[Option<String>], tensors: &IndexMap<String, Recipe>) -> Option<Problem> {
        let at = parts.iter().position(Option::is_none)?;
        let word = &self.order[at];
        let message = format!("`{result}` lacks its part `{word}`");
        let known: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
        let problem = Problem::new(Code::WeightsMap, message).note(format!("its other parts are {}", known.join(", ")));
        // the key that was likely meant for it
        let near = known.first().and_then(|key| {
            let groups = self.pattern.groups(key)?;
            let differs = groups.get(self.alternation)?;
            let meant = format!("{}{word}{}", &key[..differs.start()], &key[differs.end()..]);
            suggest(&meant, tensors.keys().map(String::as_str).filter(|key| !known.contains(key)))
        });
        Some(problem.hints(near).hint("a `map` above it renames keys, so that all parts match"))
    }
}

fn unequal(keys: &[String], shapes: &[Vec<usize>], at: usize) -> Problem {
    let other = at.saturating_sub(1);
    if shapes[at].is_empty() {
        return Problem::new(Code::WeightsMap, format!("`{}` is a single value and cannot be stacked", keys[at]))
            .hint("write a regex that does not match it");
    }
    let message =
        format!("`{}` is {:?}, `{}` is {:?}: they do not stack", keys[other], shapes[other], keys[at], shapes[at]);
    Problem::new(Code::WeightsMap, message)
        .hint("all axes but the first must be alike; `map .. with reshape(..)` changes a shape")
}

/// The groups of a regex that are words beside each other, `(a|b|c)`, with their numbers.
fn alternations(regex: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found = vec![];
    let (mut group, mut is_escaped, mut in_class) = (0, false, false);
    for (at, c) in regex.char_indices() {
        if is_escaped {
            is_escaped = false;
            continue;
        }
        match c {
            '\\' => is_escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                let inside = &regex[at + 1..];
                // `(?:` holds none, `(?P<name>` and `(?<name>` one
                let named = inside.strip_prefix("?P<").or_else(|| inside.strip_prefix("?<"));
                let inside = match named {
                    Some(named) => named.split_once('>').map_or("", |(_, inside)| inside),
                    None if inside.starts_with('?') => continue,
                    None => inside,
                };
                group += 1;
                let Some((inside, _)) = inside.split_once(')') else { continue };
                let words: Vec<&str> = inside.split('|').collect();
                let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_');
                if words.len() > 1 && words.iter().all(|word| is_word(word)) {
                    found.push((group, words));
                }
            }
            _ => {}
        }
    }
    found
}
