//! All that is printed. Data goes to stdout, everything else to stderr, and both only through here: what controls a
//! terminal is spelt out, a stream that cannot be written ends nothing, and what became of stdout is known at the end.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Mutex;

use serde_json::Value;

use super::atomic::reason;
use crate::diag::{Code, Problem, one_line, printable, printable_json};

/// What became of stdout: nothing more is written after an error.
static STDOUT: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes lines to stdout.
pub fn print(text: &str) {
    write_out(&printable(text));
}

/// Writes JSON to stdout, and a line's end.
pub fn print_json(value: &Value) {
    write_out(&printable_json(&format!("{value:#}\n")));
}

/// Writes a text of the user's to stdout, to the byte; on a terminal as [`print()`] does.
pub fn print_exact(text: &str) {
    if io::stdout().is_terminal() { print(text) } else { write_out(text) }
}

/// Writes to stdout text that may hold colours, and nothing else that is not printable.
pub fn print_rendered(text: &str) {
    write_out(text);
}

/// Writes one line to stderr.
pub fn say(line: impl Display) {
    write_err(&format!("{}\n", one_line(&line.to_string())));
}

/// Writes lines to stderr.
pub fn say_lines(text: &str) {
    write_err(&printable(text));
}

/// Writes to stderr what [`render`](crate::diag::render) made: it may hold colours, and nothing else that is not printable.
pub fn say_rendered(text: &str) {
    write_err(text);
}

/// Writes to stderr without taking memory, where there is none: numbers and text of archc's own.
pub fn say_unallocated(text: std::fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// How many characters a line of stdout has, where that is a terminal.
#[cfg(feature = "cli")]
pub fn width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// How many lines stdout has, where that is a terminal.
#[cfg(feature = "cli")]
pub fn height() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(_, height)| usize::from(height.0))
}

/// Whether stderr shows colours and bars.
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether stdout is read by somebody as it comes.
pub fn is_terminal_stdout() -> bool {
    io::stdout().is_terminal()
}

/// Whether stdout may be coloured: on a terminal unless NO_COLOR is set.
pub fn colours_stdout() -> bool {
    io::stdout().is_terminal() && wants_colour()
}

/// Whether stderr may be coloured: on a terminal unless NO_COLOR is set.
pub fn colours_stderr() -> bool {
    is_terminal() && wants_colour()
}

/// Why something was not written to stdout, if so. A reader that went away has seen what it wanted: that is no fault.
pub fn stdout_problem() -> Option<Problem> {
    let state = STDOUT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let error = state.as_ref().filter(|error| error.kind() != ErrorKind::BrokenPipe)?;
    let problem = Problem::new(Code::Output, format!("standard output cannot be written: {}", reason(error)));
    Some(problem.hint("send it elsewhere, or free some space where it goes"))
}

fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn write_out(text: &str) {
    let mut state = STDOUT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if state.is_some() {
        return;
    }
    let mut out = io::stdout().lock();
    *state = out.write_all(text.as_bytes()).and_then(|()| out.flush()).err();
}

fn write_err(text: &str) {
    // a closed stderr leaves nobody to tell
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
