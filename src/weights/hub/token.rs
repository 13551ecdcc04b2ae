//! The token that opens private repositories. It is shown nowhere: not in a message, not in Debug.

use std::fmt;
use std::path::Path;

use crate::diag::{Code, Problem};
use crate::io::open;

/// The longest file of a token that is read, in bytes.
const MAX_FILE: u64 = 1 << 16;
/// No token is shorter; what is could be part of any word of a message.
const SHORTEST: usize = 8;

/// A token that can stand in a header of HTTP.
#[derive(Clone)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token in a text, with blanks and line ends around it; None where there is nothing else.
    ///
    /// # Errors
    /// Where a header cannot hold it; says so of `place`.
    pub fn parse(text: &str, place: &str) -> Result<Option<Token>, Problem> {
        let token = text.trim();
        match token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true if token.is_empty() => Ok(None),
            true => Ok(Some(Token(token.into()))),
            false => Err(Problem::new(Code::WeightsFile, format!("{place} holds no token"))
                .note("a token is one word of ASCII letters, digits and signs; it is not shown here")
                .hint("put the token alone there, which begins with `hf_`, or leave it empty")),
        }
    }

    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// The problem without the token, whatever case it is written in.
    pub fn hidden(&self, mut problem: Problem) -> Problem {
        let texts = problem.notes.iter_mut().chain(&mut problem.hints).chain([&mut problem.message]);
        texts.chain(&mut problem.label).for_each(|text| self.hide(text));
        problem
    }

    fn hide(&self, text: &mut String) {
        if self.0.len() < SHORTEST {
            return;
        }
        let token = self.0.to_ascii_lowercase();
        while let Some(at) = text.to_ascii_lowercase().find(&token) {
            text.replace_range(at..at + token.len(), "..");
        }
    }
}

/// The token of HF_TOKEN, else that of the file `token` in `home`.
pub fn of_user(home: Option<&Path>) -> Result<Option<Token>, Problem> {
    if let Some(text) = std::env::var_os("HF_TOKEN").filter(|text| !text.is_empty()) {
        // bytes that are no text become a character that no token has
        return Token::parse(&text.to_string_lossy(), "HF_TOKEN");
    }
    let Some(path) = home.map(|home| home.join("token")) else { return Ok(None) };
    match open::read(&path, MAX_FILE) {
        Ok(bytes) => Token::parse(&String::from_utf8_lossy(&bytes), &format!("`{}`", path.display())),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.problem(Code::WeightsFile, &path).hint("or set HF_TOKEN")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_named_and_not_shown() {
        for text in
            ["hf_secret\nsecond", "hf_sécret", "hf_secret two", "hf_\u{7f}secret", "hf_secret\0", "hf_\u{fffd}secret"]
        {
            let problem = Token::parse(text, "HF_TOKEN").unwrap_err();
            assert_eq!(problem.message, "HF_TOKEN holds no token");
            assert!(!format!("{problem:?}").contains("cret"), "{problem:?}");
        }
        for (text, want) in [(" hf_a.B-1\n", Some("Bearer hf_a.B-1")), ("\r\n", None), ("", None)] {
            assert_eq!(Token::parse(text, "HF_TOKEN").unwrap().map(|token| token.header()).as_deref(), want);
        }
    }

    #[test]
    fn a_token_is_hidden_in_messages() {
        let token = Token::parse("hf_Secret1", "HF_TOKEN").unwrap().unwrap();
        assert_eq!(format!("{token:?}"), "Token(..)");
        let problem = Problem::new(Code::WeightsFile, "https://hf_secret1.x, HF_SECRET1")
            .hint("hf_Secret1 é")
            .note("é hf_secret1");
        let hidden = token.hidden(problem);
        assert_eq!((hidden.message.as_str(), hidden.hints[0].as_str()), ("https://...x, ..", ".. é"));
        assert_eq!(hidden.notes, ["é .."]);
    }
}
