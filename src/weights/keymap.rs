//! `map "regex" to "text"` and `ignore "regex"`: how the keys of a file become the names that the network knows. A line
//! that does nothing is an error, for it was meant to do something.

use indexmap::IndexMap;
use regex_lite::{Regex, RegexBuilder};

use crate::diag::{Code, Problem, suggest};

/// No spec has more lines of a kind.
const MAX_LINES: usize = 2_000;
/// No line makes a key longer than this, in bytes.
const MAX_KEY: usize = 4096;
/// The compiled regular expressions have about so many bytes in all.
const MAX_COMPILED: usize = 64 << 20;

/// Which line of the `base` block a [`Fault`] is about, counted among its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Map(usize),
    Ignore(usize),
}

/// A mistake in one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub line: Line,
    pub problem: Problem,
}

/// Checked `map` and `ignore` lines.
#[derive(Clone, Debug, Default)]
pub struct KeyMap {
    maps: Vec<Map>,
    ignores: Vec<Pattern>,
}

/// What became of the keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapped {
    /// From the network's name to the file's key, in the file's order.
    pub names: IndexMap<String, String>,
    /// The file's keys that an `ignore` took out.
    pub unused: Vec<String>,
}

#[derive(Clone, Debug)]
struct Map {
    from: Pattern,
    to: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    /// Matches whole keys only.
    whole: Regex,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Group(usize),
}

impl KeyMap {
    /// The lines in their order: (regex, text) of every `map`, the regex of every `ignore`. All mistakes at once.
    pub fn new<'a>(
        maps: impl IntoIterator<Item = (&'a str, &'a str)>,
        ignores: impl IntoIterator<Item = &'a str>,
    ) -> Result<KeyMap, Vec<Fault>> {
        let (mut keymap, mut faults) = (KeyMap::default(), vec![]);
        let (maps, ignores): (Vec<_>, Vec<_>) = (maps.into_iter().collect(), ignores.into_iter().collect());
        for (line, count) in [(Line::Map(MAX_LINES), maps.len()), (Line::Ignore(MAX_LINES), ignores.len())] {
            if count > MAX_LINES {
                let problem = Problem::new(Code::Limit, format!("there are more than {MAX_LINES} lines of this kind"));
                let hint = "one regular expression can stand for many keys: `(.*)`";
                return Err(vec![Fault { line, problem: problem.hint(hint) }]);
            }
        }
        let each = (MAX_COMPILED / (maps.len() + ignores.len()).max(1)).clamp(128 << 10, 10 << 20);
        for (i, (from, to)) in maps.into_iter().enumerate() {
            let map = Pattern::new(from, each).and_then(|from| Ok(Map { to: parts(to, &from.whole)?, from }));
            match map {
                Ok(map) => keymap.maps.push(map),
                Err(problem) => faults.push(Fault { line: Line::Map(i), problem }),
            }
        }
        for (i, text) in ignores.into_iter().enumerate() {
            match Pattern::new(text, each) {
                Ok(pattern) => keymap.ignores.push(pattern),
                Err(problem) => faults.push(Fault { line: Line::Ignore(i), problem }),
            }
        }
        if faults.is_empty() { Ok(keymap) } else { Err(faults) }
    }

    /// Renames `keys`. Each `map` line sees what the lines above it made of them; an `ignore` takes out a key that it matches
    /// as the file has it or as the maps leave it.
    pub fn apply<'a>(&self, keys: impl IntoIterator<Item = &'a str>) -> Result<Mapped, Vec<Fault>> {
        let keys: Vec<&str> = keys.into_iter().collect();
        let mut names: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
        // The last line that changed each name, to blame where two meet.
        let mut last: Vec<Option<usize>> = vec![None; keys.len()];
        let mut faults = vec![];

        for (i, map) in self.maps.iter().enumerate() {
            let (mut matched, mut changed) = (false, false);
            for (name, last) in names.iter_mut().zip(&mut last) {
                let Some(new) = map.rename(name) else { continue };
                matched = true;
                if new.len() > MAX_KEY.max(name.len()) {
                    let problem = Problem::new(Code::Limit, format!("this makes a key of more than {MAX_KEY} bytes"));
                    let problem = problem.hint("a group that is written twice after `to` doubles what it holds");
                    faults.push(Fault { line: Line::Map(i), problem });
                    return Err(faults);
                }
                if new != *name {
                    changed = true;
                    *last = Some(i);
                    *name = new;
                }
            }
            if let Some(problem) = match (matched, changed) {
                (false, _) => Some(map.from.no_match("map", &names)),
                (true, false) => Some(
                    Problem::new(Code::WeightsMap, "this `map` changes no key")
                        .hint("leave it out, or write another text after `to`"),
                ),
                (true, true) => None,
            } {
                faults.push(Fault { line: Line::Map(i), problem });
            }
        }

        let mut ignored = vec![false; keys.len()];
        for (i, pattern) in self.ignores.iter().enumerate() {
            let mut matched = false;
            for ((key, name), ignored) in keys.iter().zip(&names).zip(&mut ignored) {
                if pattern.whole.is_match(key) || pattern.whole.is_match(name) {
                    (matched, *ignored) = (true, true);
                }
            }
            if !matched {
                faults.push(Fault { line: Line::Ignore(i), problem: pattern.no_match("ignore", &names) });
            }
        }

        let mut mapped = Mapped::default();
        let mut lines: IndexMap<&str, Option<usize>> = IndexMap::new();
        for (((key, name), last), ignored) in keys.iter().zip(&names).zip(&last).zip(ignored) {
            if ignored {
                mapped.unused.push(key.to_string());
                continue;
            }
            if let (Some(other), Some(before)) = (mapped.names.get(name), lines.get(name.as_str())) {
                // Keys are unique, so one of the two was renamed.
                let line = Line::Map((*last).max(*before).unwrap_or(0));
                let problem = Problem::new(Code::WeightsMap, format!("`{other}` and `{key}` both become `{name}`"))
                    .hint("write the regex so that it matches only one of them")
                    .hint(format!("or take the other one out: `ignore \"{}\"`", regex_lite::escape(other)));
                faults.push(Fault { line, problem });
                continue;
            }
            lines.insert(name, *last);
            mapped.names.insert(name.clone(), key.to_string());
        }
        if faults.is_empty() { Ok(mapped) } else { Err(faults) }
    }
}

impl Map {
    /// The new name, None where the regex does not match.
    fn rename(&self, name: &str) -> Option<String> {
        let groups = self.from.whole.captures(name)?;
        let mut new = String::new();
        for part in &self.to {
            match part {
                Part::Text(text) => new.push_str(text),
                Part::Group(group) => new.push_str(groups.get(*group).map_or("", |found| found.as_str())),
            }
        }
        Some(new)
    }
}

impl Pattern {
    /// A compiled regex of at most `limit` bytes.
    fn new(text: &str, limit: usize) -> Result<Pattern, Problem> {
        let bad = |error: &regex_lite::Error| {
            Problem::new(Code::WeightsMap, format!("this is no regular expression: {error}"))
                .hint("write `\\.` for a dot, `(.*)` for anything; the syntax is that of Rust's regex-lite crate")
        };
        let compile = |text: &str| RegexBuilder::new(text).size_limit(limit).build();
        compile(text).map_err(|error| bad(&error))?;
        let whole = compile(&format!(r"\A(?:{text})\z")).map_err(|error| bad(&error))?;
        Ok(Pattern { text: text.into(), whole })
    }

    fn no_match(&self, verb: &str, names: &[String]) -> Problem {
        let problem = Problem::new(Code::WeightsMap, format!("this `{verb}` matches no key"));
        let part = Regex::new(&self.text).ok().and_then(|part| names.iter().find(|name| part.is_match(name)));
        if let Some(name) = part {
            return problem.hint(format!(
                "it matches only a part of `{name}`: the whole key must match, so write `.*` for the rest"
            ));
        }
        // Without the marks of a regex it is often a key with a slip.
        let plain: String = self.text.chars().filter(|c| !r"\^$()[]{}*+?|".contains(*c)).collect();
        match suggest(&plain, names.iter().map(String::as_str)) {
            Some(hint) => problem.hint(hint),
            None => {
                let sample: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
                problem.hint(match sample.is_empty() {
                    true => "there are no keys at all".into(),
                    false => format!("the keys here look like {}", sample.join(", ")),
                })
            }
        }
    }
}

/// Takes `text` apart: `$1`, `${1}`, `$name`, `${name}` are groups of `regex`, `$$` is a dollar. Digits end at the first
/// other character, so that `$1_x` is group 1 and `_x`.
fn parts(text: &str, regex: &Regex) -> Result<Vec<Part>, Problem> {
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
        let group = number.or_else(|| regex.capture_names().position(|known| known.is_some_and(|known| known == name)));
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
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(maps: &[(&str, &str)], ignores: &[&str], keys: &[&str]) -> Result<Mapped, Vec<Fault>> {
        KeyMap::new(maps.iter().copied(), ignores.iter().copied())?.apply(keys.iter().copied())
    }

    fn names(maps: &[(&str, &str)], keys: &[&str]) -> Vec<String> {
        apply(maps, &[], keys).unwrap().names.into_keys().collect()
    }

    /// (line, message and hints) of the only fault.
    fn fault(maps: &[(&str, &str)], ignores: &[&str], keys: &[&str]) -> (Line, String) {
        let faults = apply(maps, ignores, keys).unwrap_err();
        let [fault] = faults.as_slice() else { panic!("{faults:?}") };
        assert!(matches!(fault.problem.code, Code::WeightsMap | Code::Limit));
        assert!(!fault.problem.hints.is_empty());
        (fault.line, format!("{}\n{}", fault.problem.message, fault.problem.hints.join("\n")))
    }

    #[test]
    fn keys_are_renamed_line_after_line() {
        assert_eq!(names(&[], &["b", "a"]), ["b", "a"]);
        assert_eq!(names(&[(r"module\.(.*)", "$1")], &["module.fc.weight", "fc.bias"]), ["fc.weight", "fc.bias"]);
        assert_eq!(names(&[("a(.*)", "b$1"), ("b(.)", "c$1")], &["a1", "b2", "a33"]), ["c1", "c2", "b33"]);
        assert_eq!(names(&[(r"(\w+)\.(\w+)", "${2}x$1_y$$")], &["a.b"]), ["bxa_y$"]);
        assert_eq!(names(&[(r"(?<stage>\d)", "layer$stage.0")], &["1"]), ["layer1.0"]);
        assert_eq!(names(&[(r"(?<stage>\d)(a)?", "layer${stage}_$2")], &["1"]), ["layer1_"]);
        // The whole key, the first alternative that fits it.
        assert_eq!(names(&[("a|ab", "x")], &["ab"]), ["x"]);
    }

    #[test]
    fn ignored_keys_are_listed_and_leave_their_names_free() {
        let mapped =
            apply(&[(r"m\.(.*)", "$1")], &[r"aux\..*", r"m\.old"], &["m.aux.w", "m.fc", "m.old", "old"]).unwrap();
        assert_eq!(mapped.unused, ["m.aux.w", "m.old"]);
        let names: Vec<(&str, &str)> = mapped.names.iter().map(|(name, key)| (name.as_str(), key.as_str())).collect();
        assert_eq!(names, [("fc", "m.fc"), ("old", "old")]);
    }

    #[test]
    fn two_keys_with_one_name_are_an_error() {
        let (line, text) = fault(&[("x", "y"), (r"(.)\d", "$1")], &[], &["x", "a1", "a2"]);
        assert_eq!(line, Line::Map(1));
        assert!(text.contains("`a1` and `a2` both become `a`"), "{text}");
        let (line, text) = fault(&[("b", "a")], &[], &["a", "b"]);
        assert_eq!(line, Line::Map(0));
        assert!(text.contains("`a` and `b` both become `a`"), "{text}");
    }

    #[test]
    fn a_line_that_does_nothing_is_an_error() {
        let keys = &["conv1.weight", "layer1.0.conv1.weight"];
        let cases: &[(&str, &str)] = &[
            (r"cov1\.weight", "did you mean `conv1.weight`"),
            (r"layer1\.", "it matches only a part of `layer1.0.conv1.weight`"),
            ("transformer.*", "the keys here look like `conv1.weight`, `layer1.0.conv1.weight`"),
        ];
        for (regex, message) in cases {
            let (line, text) = fault(&[(regex, "x")], &[], keys);
            assert_eq!(line, Line::Map(0));
            assert!(text.contains("this `map` matches no key") && text.contains(message), "{text}");
            let (line, text) = fault(&[], &[regex], keys);
            assert_eq!(line, Line::Ignore(0));
            assert!(text.contains("this `ignore` matches no key") && text.contains(message), "{text}");
        }
        let (_, text) = fault(&[("(.*)", "$1")], &[], keys);
        assert!(text.contains("changes no key"), "{text}");
        let (_, text) = fault(&[], &["a"], &[]);
        assert!(text.contains("no keys at all"), "{text}");
    }

    #[test]
    fn what_would_grow_without_end_is_refused() {
        let doubling = [("(.*)", "$1$1"); 40];
        let (line, text) = fault(&doubling, &[], &["fc.weight"]);
        assert_eq!(line, Line::Map(8));
        assert!(text.contains("more than 4096 bytes"), "{text}");

        let many: Vec<String> = (0..MAX_LINES + 1).map(|at| format!(r"layer{at}\.(\d+)\.(\w+)")).collect();
        let lines = |count: usize| many[..count].iter().map(String::as_str);
        let faults = KeyMap::new([], lines(MAX_LINES + 1)).unwrap_err();
        assert_eq!((faults[0].line, faults[0].problem.code), (Line::Ignore(MAX_LINES), Code::Limit));
        // lines of an ordinary kind may be that many
        assert!(KeyMap::new([], lines(MAX_LINES)).is_ok());
    }

    #[test]
    fn bad_lines_are_all_reported() {
        let faults = KeyMap::new([("a(", "x"), ("a", "$1"), ("b", "x")], ["[", "c"]).unwrap_err();
        let lines: Vec<Line> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [Line::Map(0), Line::Map(1), Line::Ignore(0)]);
        assert_eq!(faults[0].problem.message, "this is no regular expression: found open group without closing ')'");
        assert_eq!(faults[1].problem.message, "the regex has no group `1`");
        for (text, message) in [
            ("", "a key cannot become nothing"),
            ("${1", "`${` is never closed"),
            ("$2", "no group `2`"),
            ("$x", "no group `x`"),
            ("a$", "no group ``"),
            ("$99999999999999999999", "no group `99999999999999999999`"),
        ] {
            let faults = KeyMap::new([("(a)", text)], []).unwrap_err();
            assert!(faults[0].problem.message.contains(message), "{text}: {}", faults[0].problem.message);
        }
        // A regex that would take the memory of the machine is refused by the crate.
        let faults = KeyMap::new([("(((a{100}){100}){100}){100}", "x")], []).unwrap_err();
        assert!(faults[0].problem.message.contains("size limit"), "{}", faults[0].problem.message);
    }
}
