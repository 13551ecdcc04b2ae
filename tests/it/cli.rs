//! Transcripts of the program: tests/cli/*.trycmd. `TRYCMD=overwrite cargo test --test it cli` writes them anew.

#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd").env("NO_COLOR", "1");
}
