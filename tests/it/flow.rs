//! The architecture's invariant: data flows down the list of modules, and nothing imports upwards.
//!
//! A file is read as tokens: comments and literals are left out, and items under `#[cfg(test)]`, which may look up.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the bottom up.
const FLOW: &[&str] = &[
    "source", "diag", "table", "tensor", "philox", "words", "io", "data", "ops", "syntax", "zoo", "graph", "resolve",
    "build", "edit", "typed", "outline", "compare", "weights", "settings", "net", "opt", "plan", "exec", "merge",
    "bind", "onnx", "drift", "train", "compile", "writer", "export", "doctor", "import", "answers", "card", "view",
    "face", "cli",
];

#[test]
fn nothing_imports_upwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files(&src);
    let read = |file: &PathBuf| Scan::of(&fs::read_to_string(file).expect("a source file is text"));
    let scans: Vec<Scan> = files.iter().map(read).collect();
    let of_tests =
        |(file, scan): (&PathBuf, &Scan)| scan.test_files.iter().map(|name| folder(file).join(name)).collect();
    let tests: BTreeSet<PathBuf> = files.iter().zip(&scans).flat_map::<Vec<PathBuf>, _>(of_tests).collect();
    let mut wrong = vec![];
    for (file, scan) in files.iter().zip(&scans) {
        let relative = file.strip_prefix(&src).expect("a file of src");
        let module = relative.iter().next().expect("a path has parts").to_string_lossy().replace(".rs", "");
        let Some(own) = FLOW.iter().position(|name| *name == module) else {
            assert!(module == "lib" || module == "main", "{module} is missing in FLOW");
            continue;
        };
        if file.ancestors().any(|part| tests.contains(&part.with_extension(""))) {
            continue;
        }
        for name in &scan.used {
            if FLOW.iter().position(|other| other == name).is_some_and(|used| used > own) {
                wrong.push(format!("{}: `{module}` uses `{name}`", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the flow:\n{}", wrong.join("\n"));
}

#[test]
fn every_use_outside_tests_is_seen() {
    let cases: &[(&str, &[&str])] = &[
        ("use crate::cli::args;", &["cli"]),
        ("pub use crate::cli;", &["cli"]),
        ("use crate::{cli, train::{a, b}, diag};", &["cli", "train", "diag"]),
        ("use crate::{\n    diag, // crate::exec\n    cli::{args::{a, b}, c},\n};", &["diag", "cli"]),
        ("fn f() -> crate::cli::A { crate::train::g() }", &["cli", "train"]),
        ("mod inner {\n    mod deeper {\n        use crate::cli;\n    }\n}", &["cli"]),
        ("macro_rules! m { () => { $crate::cli::f() } }", &["cli"]),
        // a test's item ends where it ends, and code goes on behind it
        ("#[cfg(test)]\nmod tests;\nuse crate::cli;", &["cli"]),
        ("#[cfg(test)]\n#[path = \"a.rs\"]\npub(crate) mod tests;\nuse crate::cli;", &["cli"]),
        ("#[cfg(test)]\nmod tests { use crate::exec; fn f() { {} } }\nuse crate::cli;", &["cli"]),
        ("#[cfg(test)]\nuse crate::exec::{a, b};\nuse crate::cli;", &["cli"]),
        (
            "impl A {\n    #[cfg(test)]\n    fn f(x: [u8; 2]) { crate::exec::g() }\n    fn h() { crate::cli::k() }\n}",
            &["cli"],
        ),
        ("struct A {\n    #[cfg(test)]\n    x: crate::exec::B\n}\nuse crate::cli;", &["cli"]),
        // no code
        ("// use crate::exec;\n/* use crate::exec; /* nested */ crate::exec */ use crate::cli;", &["cli"]),
        ("const A: &str = \"crate::exec \\\" crate::exec\";\nuse crate::cli;", &["cli"]),
        ("const A: &str = r#\"crate::exec \" // \"#;\nuse crate::cli;", &["cli"]),
        ("const A: [char; 3] = ['\"', '\\'', '{'];\nfn f<'a>(x: &'a str) {}\nuse crate::cli;", &["cli"]),
        ("use other_crate::exec;\nuse crate::cli;", &["cli"]),
    ];
    for (text, used) in cases {
        assert_eq!(Scan::of(text).used, *used, "{text}");
    }
    assert_eq!(Scan::of("#[cfg(test)]\npub(crate) mod samples;\nmod kept;").test_files, ["samples"]);
}

/// What the code of a file names.
struct Scan {
    /// The modules of the crate that code outside tests names, in order.
    used: Vec<String>,
    /// The modules in files of their own that are compiled for tests only.
    test_files: Vec<String>,
}

impl Scan {
    fn of(text: &str) -> Scan {
        let tokens = tokens(text);
        let at = |idx: usize| tokens.get(idx).map_or("", String::as_str);
        let (mut used, mut test_files) = (vec![], vec![]);
        let mut idx = 0;
        while idx < tokens.len() {
            if (0..7).all(|k| at(idx + k) == ["#", "[", "cfg", "(", "test", ")", "]"][k]) {
                let end = item_end(&tokens, idx + 7);
                if let Some(name) = (idx..end).find(|k| at(*k) == "mod" && at(k + 2) == ";").map(|k| at(k + 1)) {
                    test_files.push(name.to_string());
                }
                idx = end;
                continue;
            }
            if at(idx) == "crate" && at(idx + 1) == "::" {
                used.extend(roots(&tokens, idx + 2));
            }
            idx += 1;
        }
        Scan { used, test_files }
    }
}

/// Where the item that begins at `idx`, with its attributes, ends.
fn item_end(tokens: &[String], mut idx: usize) -> usize {
    let mut depth = 0;
    while let Some(token) = tokens.get(idx) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            // the end of what holds the item: a field without a comma
            ")" | "]" | "}" if depth == 0 => return idx,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        idx += 1;
        if depth == 0 && (token == ";" || token == "}") {
            break;
        }
    }
    idx
}

/// The first names of what stands behind `crate::`: one, or those of a group.
fn roots(tokens: &[String], start: usize) -> Vec<String> {
    if tokens.get(start).is_none_or(|token| token != "{") {
        return tokens.get(start).cloned().into_iter().collect();
    }
    let (mut names, mut depth) = (vec![], 0);
    for pair in tokens[start..].windows(2) {
        match pair[0].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (pair[0] == "{" || pair[0] == ",") && pair[1] != "}" {
            names.push(pair[1].clone());
        }
    }
    names
}

/// Words, `::` and single signs; comments and literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = vec![];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let raw = rest.trim_start_matches('b').strip_prefix('r').map(|raw| raw.trim_start_matches('#'));
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(body) = raw.and_then(|raw| raw.strip_prefix('"')) {
            let open = rest.len() - body.len();
            let close = format!("\"{}", "#".repeat(rest[..open].matches('#').count()));
            body.find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if first == '"' {
            literal(rest, '"')
        } else if rest.starts_with("'\\") || (first == '\'' && rest.chars().nth(2) == Some('\'')) {
            literal(rest, '\'')
        } else {
            let sign = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            let len = if word > 0 { word } else { sign };
            tokens.extend((!first.is_whitespace()).then(|| rest[..len].to_string()));
            len
        };
        rest = &rest[taken..];
    }
    tokens
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    for (at, _) in text.char_indices() {
        match text.get(at..at + 2) {
            Some("/*") => depth += 1,
            Some("*/") if depth == 1 => return at + 2,
            Some("*/") => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a literal that ends with `quote`.
fn literal(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
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

/// The folder that holds the modules in files of their own of a file's module.
fn folder(file: &Path) -> PathBuf {
    let holds = ["mod", "lib", "main"].iter().any(|name| file.file_stem().is_some_and(|stem| stem == *name));
    if holds { file.parent().expect("a file lies in a folder").to_path_buf() } else { file.with_extension("") }
}
