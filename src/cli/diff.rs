//! `archc diff`: what is different between the networks of two specs. As diff(1), it ends with 0 where they are the same,
//! 1 where not, 2 for anything else.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{BaseArgs, SpecArgs, name_and_value};
use super::session::Session;
use super::{Failure, Outcome};
use crate::compare::{Aspects, Changes, differing, layers, tensors, words};
use crate::compile::Compiled;
use crate::diag::one_line;
use crate::io::console::{print, print_json};
use crate::table::{change, count, giga, giga_change, thousands};
use crate::typed::Typed;

/// Compare the networks of two specs; exit status 0 if they are the same, 1 if not, 2 for anything else.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The one spec.
    #[arg(value_name = "A.arch")]
    pub a: PathBuf,
    /// The other.
    #[arg(value_name = "B.arch")]
    pub b: PathBuf,
    /// Give a `param` of both specs another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
    #[command(flatten)]
    pub on: BaseArgs,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(session: &mut Session, args: &Diff) -> Outcome {
    session.unwritten = 2;
    match compare(session, args) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Status(1)),
        Err(failure) => {
            if let Failure::Diagnostics(diagnostics) = failure {
                session.report(&diagnostics);
            }
            Err(Failure::Status(2))
        }
    }
}

/// Prints the difference; true where there is none.
fn compare(session: &mut Session, args: &Diff) -> Result<bool, Failure> {
    let mut compile = |spec: &Path| {
        session.compile(&SpecArgs { spec: spec.to_path_buf(), set: args.set.clone(), on: args.on.clone() })
    };
    let (a, b) = (compile(&args.a)?, compile(&args.b)?);
    let (a, b) = (a.compiled(), b.compiled());
    let layers = Changes::of(&layers(&a.typed), &layers(&b.typed));
    let weights = Changes::of(&tensors(&a.typed), &tensors(&b.typed));
    let sources = (weights_text(a), weights_text(b));
    let same = layers.is_empty() && weights.is_empty() && sources.0 == sources.1;
    if args.json {
        let json = json!({
            "same": same,
            "layers": json_of(&layers),
            "weights": json_of(&weights),
            "sources": [sources.0, sources.1],
            "parameters": [a.typed.totals().0, b.typed.totals().0],
            "macs": [a.typed.totals().1, b.typed.totals().1],
        });
        print_json(&json);
        return Ok(same);
    }
    if same {
        return Ok(true);
    }
    let mut text = String::new();
    for (sign, spec, compiled) in [("---", &args.a, &a), ("+++", &args.b, &b)] {
        let layers = count(compiled.typed.order().len(), "layer");
        text += &format!("{sign} {}: {}, {layers}\n", one_line(&spec.display().to_string()), compiled.settings.base);
    }
    text += &lines_of(&layers, "layers");
    if sources.0 != sources.1 {
        text += &format!("\nweights from\n- {}\n+ {}\n", sources.0, sources.1);
    }
    text += &lines_of(&weights, "weights");
    text += &cost(&a.typed, &b.typed);
    print(&text);
    Ok(false)
}

fn weights_text(compiled: &Compiled) -> String {
    let part = compiled.settings.intake.part().map(|part| format!(" part \"{part}\""));
    format!("{}{}", compiled.settings.weights, part.unwrap_or_default())
}

fn cost(a: &Typed, b: &Typed) -> String {
    let ((old, old_macs), (new, new_macs)) = (a.totals(), b.totals());
    let mut text = String::from("\ncost\n");
    let parameters = change(new as i64 - old as i64);
    text += &format!("  parameters     {} -> {} ({parameters})\n", thousands(old), thousands(new));
    let macs = giga_change(new_macs as i64 - old_macs as i64);
    text + &format!("  multiply-adds  {} -> {} ({macs})\n", giga(old_macs), giga(new_macs))
}

/// Of what changed, only the aspects that did.
fn lines_of(changes: &Changes, what: &str) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{what}\n");
    for (name, old) in &changes.only_a {
        text += &format!("- {name}: {}\n", words(old));
    }
    for (name, new) in &changes.only_b {
        text += &format!("+ {name}: {}\n", words(new));
    }
    for (name, old, new) in &changes.changed {
        text += &format!("! {name}: {} -> {}\n", words(&differing(old, new)), words(&differing(new, old)));
    }
    text
}

fn json_of(changes: &Changes) -> Value {
    let list = |list: &[(String, Aspects)]| -> Vec<Value> {
        list.iter().map(|(name, aspects)| json!({"name": name, "is": words(aspects)})).collect()
    };
    let changed = changes.changed.iter().map(|(name, a, b)| json!({"name": name, "a": words(a), "b": words(b)}));
    json!({
        "only_a": list(&changes.only_a),
        "only_b": list(&changes.only_b),
        "changed": changed.collect::<Vec<_>>(),
    })
}
