//! The hub's client against a server on the loopback device: right answers, answers of every wrong kind, and caches that
//! are damaged. Nothing wrong is ever kept, and nothing of a token is shown or sent elsewhere.

mod answers;
mod cache;
mod config;
mod secrets;
pub mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use archc::stages::diag::{Code, Problem};
use archc::stages::weights::hub::{Hub, Token};

pub const TOKEN: &str = "hf_SecretToken123";

pub fn hub(endpoint: &str, cache: &Path) -> Hub {
    Hub {
        endpoint: endpoint.into(),
        cache: cache.into(),
        token: Token::parse(TOKEN, "the test"),
        offline: false,
        // a machine that does much else is slow to answer
        patience: Duration::from_secs(20),
    }
}

/// All that a message says; it says nothing of the token, and always a way out.
pub fn text(problem: &Problem) -> String {
    assert_eq!(problem.code, Code::WeightsFile);
    assert!(!problem.hints.is_empty(), "{}: no way out", problem.message);
    let text = [&[problem.message.clone()][..], &problem.notes, &problem.hints].concat().join("\n");
    assert!(!text.to_lowercase().contains(&TOKEN.to_lowercase()), "{text}");
    text
}

/// All files below a folder, links as well.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
