//! docs/LANGUAGE.md: every block comes to what its `#!` lines say, as the cases of tests/suite do, and finds the files that
//! the pages of the codes speak of beside it. `ARCHC_BLESS=1` writes what came instead.

use std::fmt::Write as _;
use std::path::Path;

use crate::{pages, suite};

const FENCE: &str = "```";

#[test]
fn the_reference_tells_the_truth() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/LANGUAGE.md");
    let text = std::fs::read_to_string(&file).expect("a readable file");
    let mut came = String::new();
    let mut differences = String::new();
    for (at, part) in text.split(FENCE).enumerate() {
        // every second part is a block
        if at % 2 == 0 {
            came += part;
            continue;
        }
        let block = part.strip_prefix("arch\n").expect("a block of the language");
        let got = result(block);
        if got != block {
            let line = came.matches('\n').count() + 1;
            let _ = writeln!(differences, "line {line}:\n{block}comes to\n{got}");
        }
        let _ = write!(came, "{FENCE}arch\n{got}{FENCE}");
    }
    assert!(text.matches(FENCE).count() > 60, "the blocks are found");
    if std::env::var_os("ARCHC_BLESS").is_some() {
        std::fs::write(&file, came).expect("a writable file");
    } else {
        assert!(differences.is_empty(), "{differences}");
    }
}

/// The block with the lines that say what comes of it.
fn result(block: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    pages::files(dir.path());
    let came = suite::run(&format!("=== block\n{block}"), dir.path());
    came.split_once('\n').expect("a title, then the case").1.to_string()
}
