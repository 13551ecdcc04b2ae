//! The names of classes: a text file with one a line, or ImageNet's thousand, which archc carries.

use std::path::Path;

use super::open;
use crate::diag::{Code, Problem};

/// Names by class index.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    names: Vec<String>,
}

impl Labels {
    /// `labels imagenet`: as torchvision lists them.
    pub fn imagenet() -> Labels {
        Labels { names: IMAGENET.lines().map(str::to_string).collect() }
    }

    /// `labels "file.txt"`.
    pub fn load(path: &Path) -> Result<Labels, Problem> {
        let bytes = open::read(path, MAX_BYTES).map_err(|error| error.problem(Code::File, path))?;
        Labels::parse(&bytes, &path.display().to_string())
    }

    /// One name a line; blanks around it, a byte order mark and blank lines at the end do not count.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Labels, Problem> {
        let bad = |what: String| Problem::new(Code::File, format!("`{name}` holds no labels that can be read: {what}"));
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).trim_end(),
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                return Err(bad(format!("line {line} is not UTF-8")).hint("save it as UTF-8, one name a line"));
            }
        };
        if text.is_empty() {
            return Err(bad("it is empty".into()).hint("write one name a line, the first for class 0"));
        }
        let mut names = vec![];
        for (i, line) in text.lines().enumerate() {
            let name = line.trim();
            if name.is_empty() {
                return Err(bad(format!("line {} is blank", i + 1))
                    .hint("a class without a name would move all behind it; give it one"));
            }
            if name.contains(|c: char| c.is_control() && c != '\t') {
                return Err(bad(format!("line {} holds control characters", i + 1)));
            }
            names.push(name.to_string());
        }
        Ok(Labels { names })
    }

    /// The name of class `index`, where there is one.
    pub fn name(&self, index: usize) -> Option<&str> {
        self.names.get(index).map(String::as_str)
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl From<Vec<String>> for Labels {
    /// The class names that a trained file carries.
    fn from(names: Vec<String>) -> Labels {
        Labels { names }
    }
}

const IMAGENET: &str = include_str!("../../zoo/labels/imagenet1k.txt");
const MAX_BYTES: u64 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet_has_its_thousand_names() {
        let labels = Labels::imagenet();
        assert_eq!(labels.len(), 1000);
        assert_eq!((labels.name(0), labels.name(967)), (Some("tench"), Some("espresso")));
        assert_eq!((labels.name(999), labels.name(1000)), (Some("toilet tissue"), None));
    }

    #[test]
    fn lines_are_names() {
        let labels =
            Labels::parse("\u{feff}cat\r\n hot dog, \"plain\" \n\u{e9}l\u{e9}phant\n\n\n".as_bytes(), "a").unwrap();
        assert_eq!(labels.names(), ["cat", "hot dog, \"plain\"", "\u{e9}l\u{e9}phant"]);
    }

    #[test]
    fn bad_files_are_refused() {
        for (bytes, found) in [
            (&b""[..], "it is empty"),
            (b"\n \n", "it is empty"),
            (b"a\n\nb", "line 2 is blank"),
            (b"a\nb\xff\n", "line 2 is not UTF-8"),
            (b"a\nb\x00c\n", "line 2 holds control characters"),
        ] {
            let problem = Labels::parse(bytes, "a.txt").unwrap_err();
            assert_eq!(problem.code, Code::File);
            assert!(problem.message.contains(found), "{found}: {}", problem.message);
        }
        let problem =
            Labels::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo/labels/imagenet1k.tx")).unwrap_err();
        assert_eq!((problem.code, problem.hints), (Code::File, vec!["did you mean `imagenet1k.txt`?".to_string()]));
    }
}
