//! The type of a verb. The examples of all are for `base resnet18`, and a test compiles them.

use super::{Ctx, Outcome};
use crate::syntax::tree::Part;

/// A verb: its page in the manual (`archc explain replace`), and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    pub name: &'static str,
    /// The forms it has; S is a selector, T one place or a selector of several, P one place, B new layers.
    pub syntax: &'static [&'static str],
    pub meaning: &'static str,
    pub example: &'static str,
    /// Applies an edit, given what the grammar's rule has behind the verb.
    pub(super) apply: for<'a> fn(&mut Ctx<'a, '_, '_>, &'a [Part]) -> Outcome<()>,
}

/// Why an edit of other parts than those cannot be.
pub(super) const SHAPE: &str = "the grammar fixes the parts of every verb";

#[cfg(test)]
mod tests {
    use crate::compile::{self, Outcome};
    use crate::diag::render;
    use crate::edit::VERBS;
    use crate::source::Sources;

    #[test]
    fn every_example_is_right() {
        for verb in VERBS {
            let mut sources = Sources::new();
            let file = sources.add("example.arch", format!("base resnet18\n{}\n", verb.example), None);
            match compile::compile(&mut sources, file, &[]) {
                Ok(Outcome::Spec(compiled)) => assert!(compiled.warnings.is_empty(), "{}", verb.name),
                Ok(Outcome::Library) => panic!("{}: no base", verb.name),
                Err(problems) => panic!("{}", render(&problems, &sources, false)),
            }
        }
    }

    #[test]
    fn every_verb_of_the_grammar_is_here() {
        let others = ["archc", "use", "param", "let", "block", "network", "base", "train"];
        for word in crate::syntax::words().filter(|word| !others.contains(word)) {
            assert!(VERBS.iter().any(|verb| verb.name == word), "{word}");
        }
    }
}
