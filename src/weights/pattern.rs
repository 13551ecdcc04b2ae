//! Regular expressions that match whole keys, and texts that are made of their groups.

use regex_lite::{Captures, Regex, RegexBuilder};

use crate::diag::{Code, Problem, suggest};

/// A regular expression of a line.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    /// Matches whole keys only.
    whole: Regex,
}

impl Pattern {
    /// A compiled regex of at most `limit` bytes.
    ///
    /// # Errors
    /// If it is none, or larger.
    pub fn new(text: &str, limit: usize) -> Result<Pattern, Problem> {
        let bad = |error: &regex_lite::Error| {
            Problem::new(Code::WeightsMap, format!("this is no regular expression: {error}"))
                .hint("write `\\.` for a dot, `(.*)` for anything; the syntax is that of Rust's regex-lite crate")
        };
        let compile = |text: &str| RegexBuilder::new(text).size_limit(limit).build();
        compile(text).map_err(|error| bad(&error))?;
        let whole = compile(&format!(r"\A(?:{text})\z")).map_err(|error| bad(&error))?;
        Ok(Pattern { text: text.into(), whole })
    }

    pub fn is_match(&self, key: &str) -> bool {
        self.whole.is_match(key)
    }

    /// The groups of a key, None where the regex does not match.
    pub fn groups<'k>(&self, key: &'k str) -> Option<Captures<'k>> {
        self.whole.captures(key)
    }

    /// What to say where the line `verb` matches none of `names`.
    pub fn no_match<'n>(&self, verb: &str, names: impl Iterator<Item = &'n str> + Clone) -> Problem {
        let problem = Problem::new(Code::WeightsMap, format!("this `{verb}` matches no key"));
        let part = Regex::new(&self.text).ok().and_then(|part| names.clone().find(|name| part.is_match(name)));
        if let Some(name) = part {
            return problem.hint(format!(
                "it matches only a part of `{name}`: the whole key must match, so write `.*` for the rest"
            ));
        }
        // Without the marks of a regex it is often a key with a slip.
        let plain: String = self.text.chars().filter(|c| !r"\^$()[]{}*+?|".contains(*c)).collect();
        match suggest(&plain, names.clone()) {
            Some(hint) => problem.hint(hint),
            None => {
                let sample: Vec<String> = names.take(3).map(|name| format!("`{name}`")).collect();
                problem.hint(match sample.is_empty() {
                    true => "there are no keys at all".into(),
                    false => format!("the keys here look like {}", sample.join(", ")),
                })
            }
        }
    }
}

/// A text with groups in it.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    /// Takes `text` apart: `$1`, `${1}`, `$name`, `${name}` are groups of `pattern`, `$$` is a dollar. Digits end at the first
    /// other character, so that `$1_x` is group 1 and `_x`.
    ///
    /// # Errors
    /// A group that the pattern has not; a text of nothing.
    pub fn new(text: &str, pattern: &Pattern) -> Result<Template, Problem> {
        let regex = &pattern.whole;
        let bad = |what: String| Problem::new(Code::WeightsMap, what);
        let (mut parts, mut plain) = (vec![], String::new());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let name = if let Some(inside) = rest.strip_prefix('{') {
                let Some(end) = inside.find('}') else {
                    return Err(bad("`${` is never closed".into()).hint("write `${1}`, or `$$` for a dollar"));
                };
                rest = &inside[end + 1..];
                &inside[..end]
            } else {
                let digits = rest.starts_with(|c: char| c.is_ascii_digit());
                let belongs = |c: char| if digits { c.is_ascii_digit() } else { c.is_ascii_alphanumeric() || c == '_' };
                let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                rest = after;
                name
            };
            let number = name.parse::<usize>().ok().filter(|&group| group < regex.captures_len());
            let group =
                number.or_else(|| regex.capture_names().position(|known| known.is_some_and(|known| known == name)));
            let Some(group) = group else {
                let groups = regex.captures_len() - 1;
                return Err(bad(format!("the regex has no group `{name}`")).hint(match groups {
                    0 => "put the part to keep in parentheses, as in `map \"module\\.(.*)\" to \"$1\"`".to_string(),
                    1 => "it has one group, `$1`; a dollar is written `$$`".into(),
                    _ => format!("it has {groups} groups, `$1` to `${groups}`; a dollar is written `$$`"),
                }));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Group(group));
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        if parts.is_empty() {
            return Err(bad("a key cannot become nothing".into()).hint("to leave keys out write `ignore \"..\"`"));
        }
        Ok(Template(parts))
    }

    /// The text for these groups.
    pub fn fill(&self, groups: &Captures<'_>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Group(group) => text.push_str(groups.get(*group).map_or("", |found| found.as_str())),
            }
        }
        text
    }

    pub fn has_group(&self, group: usize) -> bool {
        self.0.contains(&Part::Group(group))
    }
}
