//! The calls that lead to a place: a block of the zoo is a text that its user did not write, and what is wrong in it is mostly
//! wrong in the line that called it.

use std::sync::Arc;

use super::Diagnostic;
use crate::source::Span;

/// A call of a block, a network or a function, and the calls around it.
#[derive(Debug)]
pub struct Call {
    pub span: Span,
    pub name: String,
    pub outer: Calls,
}

/// The innermost of the calls that lead somewhere; None outside of all.
pub type Calls = Option<Arc<Call>>;

/// One more call inside of others.
pub fn nest(outer: Calls, span: Span, name: &str) -> Calls {
    Some(Arc::new(Call { span, name: name.to_string(), outer }))
}

/// No more calls are shown: the innermost ones, and the outermost, which is the user's own.
const SHOWN: usize = 4;

impl Diagnostic {
    /// Shows the calls that lead to the place, unless some are shown already. What lies in the text of a call itself needs no
    /// word on that.
    pub fn called(mut self: Box<Self>, calls: &Calls) -> Box<Diagnostic> {
        let Some(place) = self.span.filter(|_| self.calls.is_empty()) else { return self };
        let mut found: Vec<(Span, String)> = vec![];
        let mut next = calls;
        while let Some(call) = next {
            next = &call.outer;
            // a block that calls itself does so at one place
            let is_inside = call.span.file == place.file && call.span.to(place) == call.span;
            let is_new = !is_inside && found.iter().all(|(span, _)| *span != call.span);
            if is_new {
                found.push((call.span, format!("`{}` is called from here", call.name)));
            }
        }
        if found.len() > SHOWN {
            let hidden = found.drain(SHOWN - 1..found.len() - 1).count();
            self.problem.notes.push(format!("{} between these are not shown", super::count(hidden, "call")));
        }
        self.calls = found;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Code, Problem};
    use crate::source::FileId;

    fn place(file: u32, start: usize, end: usize) -> Span {
        Span::new(FileId(file), start, end)
    }

    fn shown(calls: &Calls, at: Span) -> (Vec<Span>, Vec<String>) {
        let diagnostic = Problem::new(Code::BadValue, "wrong").at(at).called(calls);
        (diagnostic.calls.iter().map(|(span, _)| *span).collect(), diagnostic.problem.notes)
    }

    #[test]
    fn calls_are_shown_from_the_inside_out_and_not_the_text_itself() {
        let calls = nest(nest(None, place(0, 10, 20), "mine"), place(1, 5, 9), "theirs");
        assert_eq!(shown(&calls, place(2, 1, 2)), (vec![place(1, 5, 9), place(0, 10, 20)], vec![]));
        // an argument of the call
        assert_eq!(shown(&calls, place(1, 6, 7)).0, [place(0, 10, 20)]);
        assert_eq!(shown(&None, place(1, 6, 7)).0, []);
    }

    #[test]
    fn of_many_calls_the_innermost_and_the_outermost_are_shown() {
        let calls = (0..10).fold(None, |calls, at| nest(calls, place(1, 10 * at, 10 * at + 5), "block"));
        let (spans, notes) = shown(&calls, place(2, 1, 2));
        assert_eq!(spans, [90, 80, 70, 0].map(|at| place(1, at, at + 5)));
        assert_eq!(notes, ["6 calls between these are not shown"]);
        let again = (0..10).fold(None, |calls, _| nest(calls, place(1, 0, 5), "block"));
        assert_eq!(shown(&again, place(2, 1, 2)).0, [place(1, 0, 5)]);
    }
}
