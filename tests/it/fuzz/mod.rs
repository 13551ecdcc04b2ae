//! Random input of every kind that archc reads: whatever it is, reading it ends, soon, in little memory and without a panic.
//!
//! PROPTEST_CASES says how many cases a test tries, ARCHC_FUZZ_SECONDS how long one may take; ARCHC_FUZZ_MIB, where
//! nothing else runs in the process, how much memory it may have held at most. `--nocapture` shows each test's slowest case.

use proptest::prelude::ProptestConfig;

mod growing;
mod hub;
mod imported;
mod readers;
mod spec;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
