//! Random input of every kind that archc reads: whatever it is, reading it ends, soon, and without a panic.
//! PROPTEST_CASES says how many cases a test tries.

use proptest::prelude::ProptestConfig;

mod hub;
mod readers;
mod spec;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
