//! Compiles a text as `archc check` does, for the other tests: the diagnostics as text and what came out.

use std::path::Path;

use archc::bind::bind_headers;
use archc::compile::{self, Compiled, Files, Outcome};
use archc::diag::{Diagnostic, Diagnostics, Severity};
use archc::graph::NodeId;
use archc::source::{Sources, Span};
use archc::typed::Typed;

/// What came of a text.
pub struct Run {
    pub sources: Sources,
    pub diagnostics: Diagnostics,
    /// None for a library and after an error.
    pub compiled: Option<Box<Compiled>>,
    /// The ledger's line, where the weights were bound.
    pub ledger: Option<String>,
    /// The keys of the edited network.
    pub keys: Vec<String>,
    /// The folder of the text's files, which is not printed.
    dir: String,
}

/// Compiles `text` as a spec called `spec.arch` in the folder `dir`.
pub fn compile(text: &str, dir: &Path, set: &[(String, String)]) -> Run {
    let mut sources = Sources::new();
    let file = sources.add("spec.arch", text, Some(dir));
    let dir = format!("{}/", dir.display());
    let mut run = Run { sources, diagnostics: Diagnostics::new(), compiled: None, ledger: None, keys: vec![], dir };
    match compile::check(&mut run.sources, file, set, Files::Weights) {
        Err(found) => run.diagnostics = found,
        Ok(Outcome::Library) => {}
        Ok(Outcome::Spec(compiled)) => {
            run.diagnostics = compiled.warnings.clone();
            let bound = bind_headers(&compiled.settings, &compiled.base, &compiled.typed).expect("it was checked");
            run.ledger = Some(bound.ledger().to_string());
            run.keys = bound.keys().map(|(key, _)| key.to_string()).collect();
            run.compiled = Some(compiled);
        }
    }
    run
}

impl Run {
    /// `error[shape-mismatch] 3:27 message`, and `label`, `see`, `edit`, `note`, `help` lines, a list a diagnostic.
    pub fn lines(&self) -> Vec<Vec<String>> {
        self.diagnostics.iter().map(|one| self.diagnostic(one)).collect()
    }

    fn diagnostic(&self, one: &Diagnostic) -> Vec<String> {
        let severity = match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let problem = &one.problem;
        let place = one.span.map_or("-".to_string(), |span| self.place(span));
        let mut lines = vec![format!("{severity}[{}] {place} {}", problem.code, problem.message)];
        lines.extend(problem.label.iter().map(|label| format!("label {label}")));
        lines.extend(one.edit.filter(|edit| Some(*edit) != one.span).map(|edit| format!("edit {}", self.place(edit))));
        lines.extend(problem.related.iter().map(|(span, label)| format!("see {} {label}", self.place(*span))));
        lines.extend(problem.notes.iter().map(|note| format!("note {note}")));
        lines.extend(problem.hints.iter().map(|hint| format!("help {hint}")));
        lines.into_iter().map(|line| line.replace(&self.dir, "").replace('\n', " / ")).collect()
    }

    /// `3:27` in the spec, `zoo/resnet.arch:41:5` elsewhere.
    fn place(&self, span: Span) -> String {
        let place = self.sources.place(span).replace(&self.dir, "");
        place.strip_prefix("spec.arch:").unwrap_or(&place).to_string()
    }
}

/// What the base costs, with what each edit changes, is what the edited network costs.
pub fn assert_the_changes_add_up(compiled: &Compiled, name: &str) {
    let cost = |typed: &Typed| {
        let layers = || typed.order().iter().filter(|id| !typed.graph().inputs().values().any(|input| input == *id));
        let sum = |of: &dyn Fn(NodeId) -> i64| layers().map(|id| of(*id)).sum::<i64>();
        [
            layers().count() as i64,
            sum(&|id| typed.parameter_count(id) as i64),
            sum(&|id| typed.macs(id) as i64),
            sum(&|id| typed.shape(id).len() as i64),
        ]
    };
    let mut sum = cost(&compiled.base);
    for report in &compiled.reports {
        let layers = report.added.len() as i64 - report.removed.len() as i64;
        for (sum, change) in sum.iter_mut().zip([layers, report.parameters, report.macs, report.activations]) {
            *sum += change;
        }
    }
    let after = cost(&compiled.typed);
    assert_eq!(sum, after, "{name}: layers, parameters, multiply-adds and activations before and after");
}
