//! The architecture's invariant: data flows down the list of modules, and nothing imports upwards.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the bottom up.
const FLOW: &[&str] = &[
    "source", "diag", "tensor", "philox", "io", "data", "ops", "syntax", "zoo", "graph", "resolve", "build", "edit",
    "typed", "weights", "settings", "opt", "plan", "exec", "bind", "train", "compile", "cli",
];

#[test]
fn nothing_imports_upwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = vec![];
    for file in files(&src) {
        let relative = file.strip_prefix(&src).expect("a file of src");
        let module = relative.iter().next().expect("a path has parts").to_string_lossy().replace(".rs", "");
        let Some(own) = FLOW.iter().position(|name| *name == module) else {
            assert!(module == "lib" || module == "main", "{module} is missing in FLOW");
            continue;
        };
        // unit tests may look up
        if relative.iter().any(|part| part == "tests" || part == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file is text");
        let code = text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
        let code = code.filter(|line| !line.starts_with("//"));
        for line in code {
            for (at, _) in line.match_indices("crate::") {
                let name: String =
                    line[at + "crate::".len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(used) = FLOW.iter().position(|other| *other == name) else { continue };
                if used > own {
                    wrong.push(format!("{}: `{module}` uses `{name}`", relative.display()));
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "imports against the flow:\n{}", wrong.join("\n"));
}

pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
