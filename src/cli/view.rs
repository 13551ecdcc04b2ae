//! `archc view`: the network as a picture, what edits did to it, the difference of two, or what executes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::Value;

use super::args::{SpecArgs, positive};
use super::session::Session;
use super::{Failure, Outcome};
use crate::compile;
use crate::diag::{Code, Problem, one_line};
use crate::exec::Backend;
use crate::exec::cpu::Cpu;
use crate::graph::NodeId;
use crate::io::console::{self, print_exact, say};
use crate::io::{atomic, open, output};
use crate::source::FileId;
use crate::view::{self, Depth, FORMATS, Format, Part, Picture};
use crate::{opt, plan};

/// A report of times has no more bytes.
const MAX_TIMES: u64 = 64 << 20;

/// Draw the network: scopes fold, equal neighbours are one box, what edits did is coloured; of two specs, the difference.
///
/// Without `--output` and `--to`, a page is opened in the browser, where there is a desktop.
#[derive(Debug, clap::Args)]
pub struct View {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Another spec: draws what is different in it.
    #[arg(value_name = "OTHER.arch", conflicts_with_all = ["before", "select", "steps"])]
    pub other: Option<PathBuf>,
    /// The format: a page that folds and searches, a picture, Graphviz, or Mermaid in Markdown. Without it, that of the ending
    /// of `--output`.
    #[arg(long, value_parser = formats())]
    pub to: Option<Format>,
    /// The file to write; stdout without it.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The base network, before the edits.
    #[arg(long)]
    pub before: bool,
    /// Only what a selector matches, and the layers beside it: 'layer1[0]'.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "steps")]
    pub select: Option<String>,
    /// Fold what lies deeper than N labels; without it, as much is unfolded as fits a page.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub depth: Option<usize>,
    /// Everything unfolded, and equal neighbours one by one.
    #[arg(long, conflicts_with = "depth")]
    pub wide: bool,
    /// The steps that will execute, after fusion, for one sample on the CPU.
    #[arg(long)]
    pub steps: bool,
    /// With `--steps`: those that were measured, with their times, from `archc bench --profile --json`.
    #[arg(long, value_name = "FILE", requires = "steps")]
    pub times: Option<PathBuf>,
    /// Do not open the page in the browser.
    #[arg(long)]
    pub no_open: bool,
}

/// The values of `--to`.
fn formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(FORMATS.iter().map(|format| format.name))
        .map(|name| Format::named(&name).expect("clap lets these alone through"))
}

/// Where the picture goes.
enum Target<'a> {
    File(&'a Path),
    Stdout,
    /// A file among the temporary ones, for the browser.
    Browser,
}

pub fn run(session: &mut Session, args: &View) -> Outcome {
    let (format, target) = target(args)?;
    if let Target::File(path) = target {
        atomic::check_writable(path)?;
        let read = [Some(&args.spec.spec), args.other.as_ref(), args.times.as_ref()];
        output::refuse_what_is_read(path, read.into_iter().flatten().map(PathBuf::as_path))?;
    }
    let picture = picture(session, args)?;
    let depth = match (args.depth, args.wide) {
        (Some(labels), _) => Depth::Labels(labels),
        (None, true) => Depth::Whole,
        (None, false) => Depth::Fitting,
    };
    let text = format.write(&picture, depth)?;
    match target {
        Target::Stdout => print_exact(&text),
        Target::File(path) => {
            atomic::write_bytes(path, text.as_bytes())?;
            say(format!("wrote {}", path.display()));
            if format.name == "html" && !args.no_open && console::is_terminal_stdout() {
                browse(path);
            }
        }
        Target::Browser => {
            let path = temporary(&args.spec.spec)?;
            atomic::write_bytes(&path, text.as_bytes())?;
            say(format!("wrote {}", path.display()));
            browse(&path);
        }
    }
    Ok(())
}

/// # Errors
/// An ending that is no format's, or one that is not that of `--to`; a page that nobody would see.
fn target(args: &View) -> Result<(Format, Target<'_>), Failure> {
    let usage = |message: String, hint: &str| Failure::from(Problem::new(Code::Usage, message).hint(hint));
    let html = Format::named("html").expect("it is listed");
    let Some(path) = &args.output else {
        let is_shown = args.to.is_none_or(|format| format == html) && console::is_terminal_stdout();
        return match args.to {
            _ if is_shown && !args.no_open && has_desktop() => Ok((html, Target::Browser)),
            _ if is_shown => {
                let message = "a page is nothing to read in a terminal".to_string();
                Err(usage(message, "`--output NAME.html` writes it to a file, `--to md` prints a diagram"))
            }
            to => Ok((to.unwrap_or(html), Target::Stdout)),
        };
    };
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    match (args.to, ending.as_deref().and_then(Format::named)) {
        (Some(to), Some(format)) if to != format => Err(usage(
            format!("`{}` does not end in .{}", path.display(), to.name),
            "leave `--to` out, or name another file",
        )),
        (Some(format), _) | (None, Some(format)) => Ok((format, Target::File(path))),
        (None, None) => {
            let names: Vec<String> = FORMATS.iter().map(|format| format!(".{}", format.name)).collect();
            let message = format!("`{}` ends in none of {}", path.display(), names.join(", "));
            Err(usage(message, "another ending, or the format by `--to`"))
        }
    }
}

fn picture(session: &mut Session, args: &View) -> Result<Picture, Failure> {
    let title = |path: &Path| match path.file_name() {
        Some(name) if path.as_os_str() != "-" => one_line(&name.to_string_lossy()).into_owned(),
        _ => "standard input".to_string(),
    };
    let own = title(&args.spec.spec);
    let file = session.open(&args.spec)?;
    let model = session.compile_file(file, &args.spec)?;
    let compiled = model.compiled();
    if let Some(path) = &args.other {
        let other = session.compile(&SpecArgs { spec: path.clone(), ..args.spec.clone() })?;
        // two files of one name are told apart by their folders
        let (a, b) = match (own, title(path)) {
            (a, b) if a == b => (args.spec.spec.display().to_string(), path.display().to_string()),
            names => names,
        };
        return Ok(view::difference((&one_line(&a), &one_line(&b)), compiled, other.compiled()));
    }
    let typed = if args.before { &compiled.base } else { &compiled.typed };
    let own = if args.before { format!("{own}, before the edits") } else { own };
    if args.steps {
        if let Some(path) = &args.times {
            return Ok(view::measured(&own, typed, &times(path)?)?);
        }
        let cpu = Cpu::new();
        let plan = plan::plan(opt::optimise(typed, cpu.fusions()), &cpu.options(1))?;
        return Ok(view::planned(&own, typed, &plan));
    }
    let nodes = match &args.select {
        Some(selector) => Some(selected(session, args, file, typed, selector)?),
        None => None,
    };
    let own = args.select.as_ref().map_or(own.clone(), |selector| format!("{own}: {}", one_line(selector)));
    let part = Part(nodes.as_deref());
    Ok(match args.before {
        true => view::network(&own, typed, part),
        false => view::spec(&own, &session.sources, compiled, part),
    })
}

/// The layers that a selector matches, each once, in running order.
fn selected(
    session: &mut Session,
    args: &View,
    file: FileId,
    typed: &crate::typed::Typed,
    selector: &str,
) -> Result<Vec<NodeId>, Failure> {
    let graph = typed.graph();
    let places = compile::select(Arc::make_mut(&mut session.sources), file, &args.spec.set, graph, selector)?;
    let nodes: Vec<NodeId> = places.iter().flat_map(|place| place.nodes(graph)).collect();
    Ok(graph.order_of(&nodes))
}

/// The report in a file.
fn times(path: &Path) -> Result<Value, Problem> {
    let shown = path.display();
    let bytes =
        open::read(path, MAX_TIMES).map_err(|why| Problem::new(Code::File, format!("cannot read `{shown}`: {why}")))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let problem = Problem::new(Code::File, format!("`{shown}` is no JSON: {error}"));
        problem.hint("`archc bench SPEC --profile --json > FILE` writes one")
    })
}

/// A file for the browser, which reads it when this process is gone.
fn temporary(spec: &Path) -> Result<PathBuf, Problem> {
    let stem = spec.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let plain: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
    let made = tempfile::Builder::new().prefix(&format!("archc-{plain}-")).suffix(".html").tempfile();
    let kept = made.map_err(|error| error.to_string()).and_then(|file| file.keep().map_err(|error| error.to_string()));
    let (_, path) = kept.map_err(|why| {
        let problem = Problem::new(Code::Output, format!("cannot make a temporary file: {why}"));
        problem.hint("`--output NAME.html` writes the page to a file of yours")
    })?;
    Ok(path)
}

/// Whether a browser could show something.
fn has_desktop() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(any(target_os = "macos", windows)) || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

/// Opens a page in the browser of the desktop, where there is one; that there is none is no fault.
fn browse(path: &Path) {
    if !has_desktop() {
        return;
    }
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else {
        "xdg-open"
    };
    // a path that begins with a dash would be an option
    let whole = std::path::absolute(path).unwrap_or(path.to_path_buf());
    let started =
        Command::new(program).arg(whole).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = started {
        say(format!("note: the page could not be opened by {program}: {}", atomic::reason(&error)));
    }
}
