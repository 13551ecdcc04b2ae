//! Compiles a text as `archc check` does, for the other tests: the diagnostics as text and what came out.

use std::path::Path;

use archc::stages::compile::Compiled;
use archc::stages::graph::NodeId;
use archc::stages::typed::Typed;
use archc::{Files, Message, Model, Place, Severity, Spec};

/// What came of a text.
pub struct Run {
    pub messages: Vec<Message>,
    /// None for a library and after an error.
    pub model: Option<Model>,
    /// The folder of the text's files, which is not printed.
    dir: String,
}

/// Compiles `text` as a spec called `spec.arch` in the folder `dir`.
pub fn compile(text: &str, dir: &Path, set: &[(String, String)]) -> Run {
    let spec = Spec::from_text_in(text, "spec.arch", dir);
    let spec = set.iter().fold(spec, |spec, (name, value)| spec.set(name, value));
    let (messages, model) = match spec.check(Files::Weights) {
        Ok(model) => (model.as_ref().map_or(vec![], Model::warnings), model),
        Err(error) => (error.messages(), None),
    };
    Run { messages, model, dir: format!("{}/", dir.display()) }
}

impl Run {
    /// The stages' result, where it compiled.
    pub fn compiled(&self) -> Option<&Compiled> {
        self.model.as_ref().map(Model::compiled)
    }

    /// `error[shape-mismatch] 3:27 message`, and `label`, `see`, `edit`, `note`, `help` lines, a list a message.
    pub fn lines(&self) -> Vec<Vec<String>> {
        self.messages.iter().map(|one| self.message(one)).collect()
    }

    fn message(&self, one: &Message) -> Vec<String> {
        let severity = match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let place = one.place.as_ref().map_or("-".to_string(), |place| self.place(place));
        let mut lines = vec![format!("{severity}[{}] {place} {}", one.code, one.text)];
        lines.extend(one.label.iter().map(|label| format!("label {label}")));
        lines.extend(one.edit.iter().map(|edit| format!("edit {}", self.place(edit))));
        lines.extend(one.related.iter().map(|(place, label)| format!("see {} {label}", self.place(place))));
        lines.extend(one.notes.iter().map(|note| format!("note {note}")));
        lines.extend(one.hints.iter().map(|hint| format!("help {hint}")));
        lines.into_iter().map(|line| line.replace(&self.dir, "").replace('\n', " / ")).collect()
    }

    /// `3:27` in the spec, `zoo/resnet.arch:41:5` elsewhere.
    fn place(&self, place: &Place) -> String {
        let place = place.to_string().replace(&self.dir, "");
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
