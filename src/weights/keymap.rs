//! `map "regex" to "text"` and `ignore "regex"`: how the keys of a file become the names that the network knows. A line
//! that does nothing is an error, for it was meant to do something.

use indexmap::IndexMap;

use super::lines::{Fault, IgnoreLine, Line, MapLine, Need};
use super::pattern::{Pattern, Template};
use crate::diag::{Code, Problem};

/// No line makes a key longer than this, in bytes.
const MAX_KEY: usize = 4096;

/// Checked `map` and `ignore` lines.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyMap {
    maps: Vec<Map>,
    ignores: Vec<Ignore>,
}

/// What became of the keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mapped {
    /// By the network's name, in the file's order.
    pub names: IndexMap<String, Named>,
    /// The file's keys that an `ignore` took out.
    pub unused: Vec<String>,
}

/// A key that has got its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    /// The file's.
    pub key: String,
    /// The `map` lines that matched it, in their order.
    pub maps: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Map {
    from: Pattern,
    to: Template,
    /// Whether it changes the tensors too, so that a key may stay as it is.
    changes: bool,
    need: Need,
}

#[derive(Clone, Debug)]
struct Ignore {
    pattern: Pattern,
    need: Need,
}

impl KeyMap {
    /// Checks further lines, each regex of at most `limit` bytes, and puts them behind those that are there.
    pub fn extend(&mut self, maps: &[MapLine], ignores: &[IgnoreLine], limit: usize, faults: &mut Vec<Fault>) {
        for (i, MapLine { from, to, changes, need }) in maps.iter().enumerate() {
            let map = Pattern::new(from, limit).and_then(|from| {
                let to = Template::new(to, &from)?;
                Ok(Map { from, to, changes: !changes.is_empty(), need: *need })
            });
            match map {
                Ok(map) => self.maps.push(map),
                Err(problem) => faults.push(Fault { line: Line::Map(i), problem }),
            }
        }
        for (i, IgnoreLine { regex, need }) in ignores.iter().enumerate() {
            match Pattern::new(regex, limit) {
                Ok(pattern) => self.ignores.push(Ignore { pattern, need: *need }),
                Err(problem) => faults.push(Fault { line: Line::Ignore(i), problem }),
            }
        }
    }

    /// Renames `keys`. Each `map` line sees what the lines above it made of them; an `ignore` takes out a key that it matches
    /// as the file has it or as the maps leave it.
    pub fn apply(&self, keys: &[&str]) -> Result<Mapped, Vec<Fault>> {
        let mut names: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
        // the lines that matched each key, and the last one that renamed it, to blame where two meet
        let mut matches: Vec<Vec<usize>> = vec![vec![]; keys.len()];
        let mut last: Vec<Option<usize>> = vec![None; keys.len()];
        let mut faults = vec![];

        for (i, map) in self.maps.iter().enumerate() {
            let (mut matched, mut changed) = (false, map.changes);
            for ((name, last), matches) in names.iter_mut().zip(&mut last).zip(&mut matches) {
                let Some(groups) = map.from.groups(name) else { continue };
                let new = map.to.fill(&groups);
                matched = true;
                matches.push(i);
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
                (false, _) if map.need == Need::May => None,
                (false, _) => Some(map.from.no_match("map", names.iter().map(String::as_str))),
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
        for (i, Ignore { pattern, need }) in self.ignores.iter().enumerate() {
            let mut matched = false;
            for ((key, name), ignored) in keys.iter().zip(&names).zip(&mut ignored) {
                if pattern.is_match(key) || pattern.is_match(name) {
                    (matched, *ignored) = (true, true);
                }
            }
            if !matched && *need == Need::Must {
                let problem = pattern.no_match("ignore", names.iter().map(String::as_str));
                faults.push(Fault { line: Line::Ignore(i), problem });
            }
        }

        let mut mapped = Mapped::default();
        let mut lines: IndexMap<&str, Option<usize>> = IndexMap::new();
        for ((((key, name), maps), last), ignored) in keys.iter().zip(&names).zip(matches).zip(&last).zip(ignored) {
            if ignored {
                mapped.unused.push(key.to_string());
                continue;
            }
            if let (Some(other), Some(before)) = (mapped.names.get(name), lines.get(name.as_str())) {
                // Keys are unique, so one of the two was renamed.
                let line = Line::Map((*last).max(*before).unwrap_or(0));
                let other = &other.key;
                let problem = Problem::new(Code::WeightsMap, format!("`{other}` and `{key}` both become `{name}`"))
                    .hint("write the regex so that it matches only one of them")
                    .hint(format!("or take the other one out: `ignore \"{}\"`", regex_lite::escape(other)));
                faults.push(Fault { line, problem });
                continue;
            }
            lines.insert(name, *last);
            mapped.names.insert(name.clone(), Named { key: key.to_string(), maps });
        }
        if faults.is_empty() { Ok(mapped) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keymap(maps: &[(&str, &str)], ignores: &[&str], need: Need) -> Result<KeyMap, Vec<Fault>> {
        let map = |(from, to): &(&str, &str)| MapLine { need, ..MapLine::renaming(from, to) };
        let maps: Vec<MapLine> = maps.iter().map(map).collect();
        let ignores: Vec<IgnoreLine> =
            ignores.iter().map(|regex| IgnoreLine { regex: regex.to_string(), need }).collect();
        let (mut keymap, mut faults) = (KeyMap::default(), vec![]);
        keymap.extend(&maps, &ignores, 1 << 20, &mut faults);
        if faults.is_empty() { Ok(keymap) } else { Err(faults) }
    }

    fn apply(maps: &[(&str, &str)], ignores: &[&str], keys: &[&str]) -> Result<Mapped, Vec<Fault>> {
        keymap(maps, ignores, Need::Must)?.apply(keys)
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
        let names: Vec<(&str, &str)> =
            mapped.names.iter().map(|(name, named)| (name.as_str(), named.key.as_str())).collect();
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
        let may = keymap(&[("transformer.*", "x")], &["aux.*"], Need::May).unwrap();
        assert_eq!(may.apply(keys).unwrap().names.len(), 2);
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
    }

    #[test]
    fn bad_lines_are_all_reported() {
        let faults = keymap(&[("a(", "x"), ("a", "$1"), ("b", "x")], &["[", "c"], Need::Must).unwrap_err();
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
            let faults = keymap(&[("(a)", text)], &[], Need::Must).unwrap_err();
            assert!(faults[0].problem.message.contains(message), "{text}: {}", faults[0].problem.message);
        }
        // A regex that would take the memory of the machine is refused by the crate.
        let faults = keymap(&[("(((a{100}){100}){100}){100}", "x")], &[], Need::Must).unwrap_err();
        assert!(faults[0].problem.message.contains("size limit"), "{}", faults[0].problem.message);
    }
}
