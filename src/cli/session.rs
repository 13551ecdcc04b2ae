//! What every command needs: the sources, compiling a spec, and printing messages.

use std::sync::Arc;

use super::Failure;
use super::args::SpecArgs;
use crate::compile::{self, Outcome};
use crate::diag::{Diagnostic, Diagnostics, render};
use crate::face::Model;
use crate::io::console;
use crate::source::{FileId, Sources};

pub struct Session {
    pub sources: Arc<Sources>,
    /// Whether lists in messages are printed whole.
    pub verbose: bool,
    /// The least exit status where stdout cannot be written.
    pub unwritten: u8,
}

impl Session {
    pub fn new() -> Session {
        Session { sources: Arc::default(), verbose: false, unwritten: 1 }
    }

    /// Prints messages to stderr, in colour on a terminal unless NO_COLOR is set.
    pub fn report(&self, diagnostics: &Diagnostics) {
        let in_full = |mut diagnostic: Diagnostic| {
            diagnostic.problem = diagnostic.problem.in_full();
            Box::new(diagnostic)
        };
        let full = self.verbose.then(|| diagnostics.clone().map(in_full));
        console::say_rendered(&render(full.as_ref().unwrap_or(diagnostics), &self.sources, console::colours_stderr()));
    }

    pub fn open(&mut self, args: &SpecArgs) -> Result<FileId, Failure> {
        let sources = Arc::make_mut(&mut self.sources);
        let file = compile::open(sources, &args.spec)?;
        let (base, weights) = (args.on.base.as_deref(), args.on.base_weights.as_deref());
        if base.is_none() && weights.is_none() {
            return Ok(file);
        }
        let (file, lacks_weights) = compile::rebase(sources, file, base, weights)?;
        if lacks_weights {
            console::say(
                "note: the weights that the spec names are its own base's; `--base-weights FILE` gives this one's",
            );
        }
        Ok(file)
    }

    /// Compiles a spec; a library is an error. Warnings are printed.
    pub fn compile(&mut self, args: &SpecArgs) -> Result<Model, Failure> {
        let file = self.open(args)?;
        self.compile_file(file, args)
    }

    /// [`Session::compile`], with the networks before and after every edit.
    pub fn watch(&mut self, args: &SpecArgs) -> Result<Model, Failure> {
        let file = self.open(args)?;
        let outcome = compile::watch(Arc::make_mut(&mut self.sources), file, &args.set);
        self.model(file, args, outcome)
    }

    /// [`Session::compile`] for a spec that was opened already.
    pub fn compile_file(&mut self, file: FileId, args: &SpecArgs) -> Result<Model, Failure> {
        let outcome = compile::compile(Arc::make_mut(&mut self.sources), file, &args.set);
        self.model(file, args, outcome)
    }

    fn model(
        &mut self,
        file: FileId,
        args: &SpecArgs,
        outcome: Result<Outcome, Diagnostics>,
    ) -> Result<Model, Failure> {
        match outcome? {
            Outcome::Spec(compiled) => {
                self.report(&compiled.warnings);
                Ok(Model::new(self.sources.clone(), file, args.set.clone(), *compiled))
            }
            Outcome::Library => Err(compile::not_a_spec(&self.sources, file).into()),
        }
    }
}
