//! What every command needs: the sources, compiling a spec, and printing messages.

use std::io::{IsTerminal, Write};

use super::Failure;
use super::args::SpecArgs;
use crate::compile::{self, Compiled, Outcome};
use crate::diag::{Diagnostics, render};
use crate::source::{FileId, Sources};

pub struct Session {
    pub sources: Sources,
}

impl Session {
    pub fn new() -> Session {
        Session { sources: Sources::new() }
    }

    /// Prints messages to stderr, in colour on a terminal unless NO_COLOR is set.
    pub fn report(&self, diagnostics: &Diagnostics) {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = std::io::stderr().is_terminal() && !no_color;
        let text = render(diagnostics, &self.sources, colour);
        // a closed stderr leaves nobody to tell
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    pub fn open(&mut self, args: &SpecArgs) -> Result<FileId, Failure> {
        Ok(compile::open(&mut self.sources, &args.spec)?)
    }

    /// Compiles a spec; a library is an error. Warnings are printed.
    pub fn compile(&mut self, args: &SpecArgs) -> Result<Compiled, Failure> {
        let file = self.open(args)?;
        self.compile_file(file, args)
    }

    /// [`Session::compile`] for a spec that was opened already.
    pub fn compile_file(&mut self, file: FileId, args: &SpecArgs) -> Result<Compiled, Failure> {
        match compile::compile(&mut self.sources, file, &args.set)? {
            Outcome::Spec(compiled) => {
                self.report(&compiled.warnings);
                Ok(*compiled)
            }
            Outcome::Library => Err(compile::not_a_spec(&self.sources, file).into()),
        }
    }
}

/// Writes to stdout. A reader that went away ends the program quietly, as a closed pipe should.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            let _ = writeln!(std::io::stderr(), "archc: cannot write to stdout: {error}");
        }
        std::process::exit(if error.kind() == std::io::ErrorKind::BrokenPipe { 0 } else { 1 });
    }
}
