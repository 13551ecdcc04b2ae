//! `archc plan`: edit by edit what happens to the network, then what becomes of the weights. Reads headers only.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::args::SpecArgs;
use super::inputs::{Together, given};
use super::progress;
use super::session::Session;
use super::{Failure, Outcome};
use crate::bind::{AdaptedTensor, Ledger, bind_headers};
use crate::compile::Compiled;
use crate::diag::{Diagnostics, one_line};
use crate::drift::{self, Outcome as Drifted};
use crate::edit::{Note, Report};
use crate::exec::{Draw, samples};
use crate::graph::path;
use crate::io::console::{print, print_json, say};
use crate::source::Sources;
use crate::syntax::joined;
use crate::table::{bytes_change, change, count, giga, giga_change, thousands};
use crate::typed::Typed;
use crate::weights::WeightsSource;

/// Places that a line names before it only counts them.
const NAMED: usize = 6;

/// Adapted tensors that are shown one by one.
const ADAPTED: usize = 8;

/// Show what each edit does, and what becomes of the weights.
#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Run the network before and after each edit, and say how far its outputs move. Reads the weights.
    #[arg(long)]
    pub drift: bool,
    /// What the network is run on, as in `archc run`; noise without it. The first 8 samples are used.
    #[arg(long, value_name = "PATH", requires = "drift")]
    pub input: Vec<PathBuf>,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Samples of the user's that a drift is measured on.
const SAMPLES: usize = 8;

pub fn run(session: &mut Session, args: &Plan) -> Outcome {
    let model = if args.drift { session.watch(&args.spec)? } else { session.compile(&args.spec)? };
    let compiled = model.compiled();
    let drift = if args.drift { drift(compiled, &args.input)? } else { vec![None; compiled.reports.len()] };
    if args.json {
        let edits: Vec<Value> = compiled
            .reports
            .iter()
            .zip(&drift)
            .map(|(report, drift)| report_json(&session.sources, report, drift.as_ref()))
            .collect();
        let ledger = ledger(compiled)?;
        let json = json!({
            "edits": edits,
            "ledger": {
                "kept": ledger.kept,
                "adapted": ledger.adapted.iter().map(adapted_json).collect::<Vec<_>>(),
                "dropped": ledger.dropped,
                "new": ledger.new,
                "reshaped": ledger.reshaped,
                "unused": ledger.unused,
                "absent": ledger.absent,
            },
        });
        print_json(&json);
        return Ok(());
    }
    let mut text = String::new();
    for (report, drift) in compiled.reports.iter().zip(&drift) {
        text += &report_text(&session.sources, report, drift.as_ref());
    }
    if compiled.reports.is_empty() {
        text += "no edits\n\n";
    }
    text += &format!("before   {}\n", cost(&compiled.base));
    text += &format!("after    {}\n", cost(&compiled.typed));
    // the edits are worth reading even where the weights are not there
    print(&text);
    let ledger = ledger(compiled)?;
    print(&format!("weights: {}\n", one_line(&ledger.to_string())));
    for tensor in ledger.adapted.iter().take(ADAPTED) {
        print(&format!("  {tensor}\n"));
    }
    if let Some(more) = ledger.adapted.len().checked_sub(ADAPTED).filter(|more| *more > 0) {
        print(&format!("  and {more} more, `--json` has all\n"));
    }
    if let WeightsSource::Hub(repo) = &compiled.settings.weights {
        say(format!("note: this is so if hf(\"{repo}\") has the base network's keys; `archc run` reads it"));
    }
    Ok(())
}

/// The fate of every tensor, by headers. A hub is asked when the network runs, not here: what it has is supposed to fit.
fn ledger(compiled: &Compiled) -> Result<Ledger, Diagnostics> {
    Ok(bind_headers(&compiled.settings, &compiled.base, &compiled.typed)?.ledger().clone())
}

fn cost(typed: &Typed) -> String {
    let (parameters, macs) = typed.totals();
    let layers = count(typed.order().len(), "layer");
    format!("{layers}, {} parameters, {} multiply-adds", thousands(parameters), giga(macs))
}

fn report_text(sources: &Sources, report: &Report, drift: Option<&Drifted>) -> String {
    let line = sources.line_column(report.span).0;
    let mut text = format!("line {line}: {}\n", joined(sources.text(report.span)));
    let matched: Vec<String> = report.matched.clone();
    let shown = |paths: &[String]| paths.iter().map(|one| path::display(one)).collect::<Vec<String>>();
    for (what, names) in [("matched", matched), ("added", shown(&report.added)), ("removed", shown(&report.removed))] {
        if !names.is_empty() {
            text += &format!("  {what:<8} {}\n", some(&names));
        }
    }
    for notes in report.notes.chunk_by(|a, b| a.what == b.what) {
        let places: Vec<String> = notes.iter().map(|note| note.place.clone()).collect();
        text += &format!("  note     {} {}\n", notes[0].what, some(&places));
    }
    let figures = (change(report.parameters), giga_change(report.macs), bytes_change(report.activations * 4));
    text += &format!("  change   {} parameters, {} multiply-adds, {} activations\n", figures.0, figures.1, figures.2);
    match drift {
        None => {}
        Some(Drifted::Unknown(why)) => text += &format!("  drift    not known: {why}\n"),
        Some(Drifted::Moved(drift)) if drift.largest == 0.0 => text += "  drift    none\n",
        Some(Drifted::Moved(drift)) => {
            let percent = drift.relative * 100.0;
            text += &format!(
                "  drift    `{}` by {percent:.3} % of its norm, {:.2e} at most, where its largest value is {:.2e}\n",
                drift.output, drift.largest, drift.scale
            );
        }
    }
    text + "\n"
}

fn adapted_json(tensor: &AdaptedTensor) -> Value {
    json!({
        "key": tensor.key,
        "from": tensor.from,
        "old_shape": tensor.old_shape,
        "shape": tensor.shape,
        "how": tensor.how,
    })
}

/// The first few names, and how many there are where that is not plain.
fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names[..names.len() - more].join(", ");
    match (more, names.len()) {
        (0, 1) => named,
        (0, all) => format!("{named} ({all})"),
        (more, all) => format!("{named} and {more} more ({all})"),
    }
}

fn report_json(sources: &Sources, report: &Report, drift: Option<&Drifted>) -> Value {
    let mut value = json!({
        "line": sources.line_column(report.span).0,
        "source": sources.text(report.span),
        "matched": report.matched,
        "added": report.added,
        "removed": report.removed,
        "parameters": report.parameters,
        "macs": report.macs,
        "activation_bytes": report.activations * 4,
        "notes": report.notes.iter().map(Note::to_string).collect::<Vec<_>>(),
    });
    if let Some(drift) = drift {
        value["drift"] = match drift {
            Drifted::Unknown(why) => json!({ "unknown": why }),
            Drifted::Moved(drift) => {
                json!({ "output": drift.output, "largest": drift.largest, "relative": drift.relative, "scale": drift.scale })
            }
        };
    }
    value
}

/// How far each edit moves the outputs.
fn drift(compiled: &Compiled, paths: &[PathBuf]) -> Result<Vec<Option<Drifted>>, Failure> {
    let Compiled { settings, base, typed, moved, .. } = compiled;
    samples::remark(typed, Draw::default().seed).iter().for_each(say);
    let wanted = settings.wanted(typed);
    let names: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
    let given = given(paths, &names)?;
    let mut inputs = vec![];
    if !given.is_noise() {
        let mut samples = given.samples(&wanted, SAMPLES);
        if let Some(Together { tensors, mut problems, .. }) = samples.next()? {
            if let Some(problem) = problems.pop() {
                return Err(Diagnostics::from(problem.anywhere()).into());
            }
            inputs = names.iter().map(|name| name.to_string()).zip(tensors).collect();
        }
    }
    let bar = progress::steps(moved.len());
    let outcomes = drift::measure(settings, base, moved, None, &progress::Bars, &inputs, || bar.inc(1));
    bar.finish_and_clear();
    let outcomes = outcomes?;
    let mut of_reports = vec![None; compiled.reports.len()];
    for (one, outcome) in moved.iter().zip(outcomes) {
        of_reports[one.report] = Some(outcome);
    }
    Ok(of_reports)
}
