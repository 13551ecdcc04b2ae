//! How much the elaboration of one spec may do. What a text can multiply is counted, whoever does it: the base, the
//! edits, the lets of files, the `train` block. A text that asks for more is refused with the limit that it met.

use std::cell::Cell;

use crate::diag::{Code, Problem};

/// Something that is counted, and how much of it there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Rounds of loops.
    Steps,
    /// Calls of blocks, networks and functions.
    Calls,
    /// Scopes that braces, blocks and ties open.
    Scopes,
    /// Entries of lists and arguments of calls, each time they are put together.
    Elements,
    /// Expressions and statements, each time they are evaluated; also whatever else takes as long.
    Expressions,
    /// Bytes of texts, labels and paths.
    Text,
    /// Mistakes.
    Mistakes,
}

impl Limit {
    const ALL: [Limit; 7] =
        [Limit::Steps, Limit::Calls, Limit::Scopes, Limit::Elements, Limit::Expressions, Limit::Text, Limit::Mistakes];

    pub fn most(self) -> u64 {
        match self {
            Limit::Steps | Limit::Calls => 1_000_000,
            Limit::Scopes => 200_000,
            Limit::Elements => 4_000_000,
            Limit::Expressions => 20_000_000,
            Limit::Text => 32 << 20,
            Limit::Mistakes => 10_000,
        }
    }

    fn problem(self) -> Problem {
        let most = self.most();
        let (message, hint) = match self {
            Limit::Steps => (
                format!("loops run for more than {most} steps"),
                "repeat less often; loops in loops multiply their steps",
            ),
            Limit::Calls => (
                format!("blocks and functions are called more than {most} times"),
                "calls that call twice double at each level: repeat by a loop",
            ),
            Limit::Scopes => (
                format!("the network has more than {most} scopes"),
                "blocks that hold two blocks double at each level: repeat by a loop",
            ),
            Limit::Elements => (
                format!("lists and calls hold more than {most} values in all"),
                "make lists once, outside of loops; a list that holds another one twice doubles at each level",
            ),
            Limit::Expressions => (
                format!("more than {most} expressions are evaluated"),
                "name by a `let`, outside of the loop, what does not change in it",
            ),
            Limit::Text => (
                format!("labels, paths and texts have more than {} MiB in all", most >> 20),
                "shorten labels, and name texts by a `let` outside of loops",
            ),
            Limit::Mistakes => (format!("there are more than {most} mistakes"), "mend the first ones"),
        };
        Problem::new(Code::Limit, message).hint(hint)
    }
}

/// What was spent of each [`Limit`].
#[derive(Debug, Default)]
pub struct Budget {
    spent: [Cell<u64>; Limit::ALL.len()],
}

impl Budget {
    /// Counts `amount` more.
    ///
    /// # Errors
    /// If that is more than there may be.
    pub fn spend(&self, limit: Limit, amount: u64) -> Result<(), Problem> {
        let spent = &self.spent[limit as usize];
        spent.set(spent.get().saturating_add(amount));
        if spent.get() > limit.most() { Err(limit.problem()) } else { Ok(()) }
    }

    pub fn spent(&self, limit: Limit) -> u64 {
        self.spent[limit as usize].get()
    }

    /// Whether some limit was met, after which nothing more can be built.
    pub fn is_spent(&self) -> bool {
        Limit::ALL.into_iter().any(|limit| self.spent(limit) > limit.most())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_met_alone_and_says_so() {
        for limit in Limit::ALL {
            let budget = Budget::default();
            assert!(budget.spend(limit, limit.most()).is_ok() && !budget.is_spent(), "{limit:?}");
            let problem = budget.spend(limit, 1).expect_err("one too many");
            assert_eq!(problem.code, Code::Limit);
            let figure = if limit == Limit::Text { "32 MiB".to_string() } else { limit.most().to_string() };
            assert!(problem.message.contains(&figure) && problem.hints.len() == 1, "{problem:?}");
            assert!(budget.is_spent());
            let others = Limit::ALL.into_iter().filter(|other| *other != limit);
            assert!(others.map(|other| budget.spend(other, 1)).all(|spent| spent.is_ok()), "{limit:?}");
            // an amount beyond all numbers is one too many as well
            assert!(budget.spend(limit, u64::MAX).is_err());
        }
    }
}
