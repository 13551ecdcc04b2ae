//! How what lies beside a card is used.

use super::{Card, Made, Record};
use crate::export::pytorch;

impl Card {
    /// A title, the language, and lines of code each.
    pub(super) fn uses(&self, record: &Record) -> Vec<(String, &'static str, String)> {
        let first = record.outputs.first().map_or("model.safetensors", |output| output.name.as_str());
        let spec = match &record.made {
            Made::Train { .. } => "spec.arch".to_string(),
            Made::Export { .. } => format!("{}.arch", self.name),
        };
        let run = |weights: &str| format!("archc run {spec} --weights {weights} --input picture.png\n");
        let to = match &record.made {
            Made::Export { to, .. } => to.as_str(),
            Made::Train { .. } => "safetensors",
        };
        let saved = match &record.made {
            Made::Train { .. } => "In archc".to_string(),
            Made::Export { .. } => format!("In archc, with the spec below saved as `{spec}`"),
        };
        let is_weights = |name: &str| name.ends_with(".safetensors");
        let weights = record.outputs.iter().map(|output| output.name.as_str()).find(|name| is_weights(name));
        let mut uses = vec![];
        if let Some(weights) = weights {
            uses.push((format!("{saved}:"), "sh", run(weights)));
        }
        if let (pytorch::NAME, Some(weights)) = (to, weights)
            && let Some(code) = pytorch::usage(self.base.rsplit('/').next().unwrap_or_default(), first, weights)
        {
            uses.push(("In PyTorch:".into(), "python", code));
        }
        if let Made::Export { onnx: Some(onnx), .. } = &record.made {
            // any name is good that Python takes
            let values: Vec<String> =
                self.takes.iter().enumerate().map(|(at, (name, _))| format!("{}: x{at}", quoted(name))).collect();
            let note = match onnx.with_preprocess {
                true => "# x0: pictures, uint8 [N, height, width, 3]\n".to_string(),
                false => (self.takes.iter().enumerate())
                    .map(|(at, (_, shape))| format!("# x{at}: float32 {shape}\n"))
                    .collect(),
            };
            let code = format!(
                "import onnxruntime\n\n{note}session = onnxruntime.InferenceSession({})\noutputs = session.run(None, {{{}}})\n",
                quoted(first),
                values.join(", ")
            );
            uses.push(("In ONNX Runtime:".into(), "python", code));
        }
        if to == "safetensors" {
            let code = format!(
                "from safetensors.torch import load_file\n\nstate_dict = load_file(\"{first}\")  # the keys of the module that the \
                 network was written after\n"
            );
            uses.push(("Its tensors in PyTorch:".into(), "python", code));
        }
        uses
    }
}

/// A text as Python writes it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}
