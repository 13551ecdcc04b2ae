//! Transcripts of the program: tests/cli/*.trycmd and the console blocks of README.
//! `TRYCMD=overwrite cargo test --test it cli` writes them anew.

#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd").case("README.md").env("NO_COLOR", "1");
}
