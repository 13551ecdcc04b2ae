//! What a spec says beside its network: where the weights come from, how pictures are prepared, what classes are called.

mod intake;

use std::path::PathBuf;

use archc_base::Resample;

use crate::build::{BaseInfo, Value};
use crate::diag::{At, Code, Diagnostic, Diagnostics, Problem, Result, short, suggest};
use crate::graph::OWN_OUTPUT;
use crate::io::labels::Labels;
use crate::io::open;
use crate::io::preprocess::{Preprocess, Resize};
use crate::io::tensors::Wanted;
use crate::ops::shape::Shape;
use crate::resolve::Program;
use crate::source::{Sources, Span, below};
use crate::syntax::tree::{self, ExprKind};
use crate::typed::Typed;
use crate::weights::{Fault, Intake, Pretrained, WeightsSource, is_permissive};

/// The checked settings of a spec.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The base network's name.
    pub base: String,
    /// Where the spec names it.
    pub base_span: Span,
    /// The folder that the spec's relative paths start from.
    pub dir: PathBuf,
    pub weights: WeightsSource,
    /// The `weights` line; None where there is none, and the weights are random.
    pub weights_span: Option<Span>,
    /// What becomes of the file's tensors before they are bound.
    pub intake: Intake,
    intake_places: intake::Places,
    /// None where pictures cannot be prepared: the network says nothing, or has no picture as input.
    pub preprocess: Option<Preprocess>,
    /// Whether the spec itself says how pictures are prepared.
    has_preprocess: bool,
    pub labels: Option<LabelsSource>,
    /// Under which licence the weights are given, where a hub says it.
    pub licence: Option<String>,
    /// Whether the spec itself says what the classes are called.
    has_labels: bool,
    /// Where names are given that must be as many as the network has outputs; those of a network that is called with
    /// other arguments, or ImageNet's as the zoo has them, need not.
    labels_span: Option<Span>,
}

/// Where class names come from.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelsSource {
    /// The 1000 names of ImageNet that ship with archc.
    Imagenet,
    File(PathBuf, Span),
    /// Those that a hub names.
    Named(Vec<String>),
}

impl Settings {
    /// Reads them off the base and what building it found. What is wrong comes beside them and is left out of them.
    pub fn new(
        sources: &Sources,
        program: &Program,
        base: &tree::Base,
        info: &BaseInfo<'_>,
        typed: &Typed,
    ) -> (Settings, Diagnostics) {
        let mut problems = Diagnostics::new();
        let file = sources.file(program.module(Program::SPEC).file);
        let dir = file.dir.clone().unwrap_or_default();
        let (mut weights, mut weights_span) =
            problems.take(weights(base)).unwrap_or((WeightsSource::Random { seed: 0 }, None));
        let (intake, intake_places) = match intake::of(base, &weights) {
            Ok(intake) => intake,
            Err(found) => {
                problems.extend(found);
                // without its lines the file's tensors mean nothing
                (weights, weights_span) = (WeightsSource::Random { seed: 0 }, None);
                Default::default()
            }
        };
        let preprocess = problems.take(preprocess(info, typed)).flatten();
        let labels = problems.take(labels(info, &dir)).flatten();
        let is_meant = match &labels {
            _ if !base.labels.is_empty() => true,
            Some(LabelsSource::File(..)) => base.args.args.is_empty(),
            Some(LabelsSource::Imagenet | LabelsSource::Named(_)) | None => false,
        };
        let labels_span = info.labels.as_ref().map(|(_, span)| *span).filter(|_| is_meant);
        let is_own = |span: &Span| span.file == program.module(Program::SPEC).file;
        let (base, base_span) = (info.name.clone(), base.name.span);
        let settings = Settings {
            base,
            base_span,
            dir,
            weights,
            weights_span,
            intake,
            intake_places,
            preprocess,
            has_preprocess: info.preprocess.as_ref().is_some_and(|(_, span)| is_own(span)),
            labels,
            licence: None,
            has_labels: info.labels.as_ref().is_some_and(|(_, span)| is_own(span)),
            labels_span,
        };
        (settings, problems)
    }

    /// Whether there are as many names as the base network has outputs, or the edited one. Names of the base's outputs are
    /// no mistake where an edit made others, but are not used.
    ///
    /// # Errors
    /// A file that cannot be read; another number of names.
    pub fn check_labels(&self, base: &Typed, typed: &Typed) -> Result<()> {
        let (name, labels) = match &self.labels {
            None => return Ok(()),
            Some(LabelsSource::Imagenet) => ("imagenet".to_string(), Labels::imagenet()),
            Some(LabelsSource::File(path, span)) => (path.display().to_string(), Labels::load(path).at(*span)?),
            // they are of the network as it is
            Some(LabelsSource::Named(_)) => return Ok(()),
        };
        let Some(span) = self.labels_span else { return Ok(()) };
        let (before, after) = (classes(base), classes(typed));
        let (Some(wanted), false) = (after.or(before), [before, after].contains(&Some(labels.len()))) else {
            return Ok(());
        };
        let problem = Problem::new(
            Code::BadValue,
            format!("the network has {wanted} outputs, `{name}` has {} names", labels.len()),
        );
        let problem = match before.filter(|before| *before != wanted) {
            Some(before) => problem.note(format!("before the edits it has {before}")),
            None => problem,
        };
        let hint = match self.labels {
            Some(LabelsSource::File(..)) => format!("one name for each output, in their order: {wanted} lines"),
            _ => "leave `labels` out: indices are printed".into(),
        };
        Err(problem.hint(hint).at(span))
    }

    /// As a hub has it, where the spec does not say it itself, for the edited network; and a line for each thing that is worth
    /// knowing.
    pub fn with(&self, said: Pretrained, typed: &Typed) -> (Settings, Vec<String>) {
        let (mut settings, mut remarks) = (self.clone(), vec![]);
        let source = &self.weights;
        let input = typed.graph().inputs().values().find_map(|id| typed.shape(*id).as_image());
        if let (Some((preprocess, size)), Some((channels, height, width)), false) =
            (said.preprocess, input, self.has_preprocess)
        {
            let preprocess = preprocess.scaled(size, (height as u32, width as u32));
            if preprocess.check([channels, height, width]).is_ok() && settings.preprocess.as_ref() != Some(&preprocess)
            {
                let old = self.preprocess.as_ref().map_or_else(|| "preprocess: none".into(), Preprocess::to_string);
                remarks.push(format!("{source} prepares pictures in another way than the network's own {old}"));
                settings.preprocess = Some(preprocess);
            }
        }
        if let (Some(labels), false) = (said.labels, self.has_labels)
            && classes(typed) == Some(labels.len())
        {
            settings.labels = Some(LabelsSource::Named(labels));
        }
        if let Some(licence) = said.licence.as_ref().filter(|licence| !is_permissive(licence)) {
            remarks.push(format!("{source} is given under the licence {}", short(licence)));
        }
        settings.licence = said.licence;
        (settings, remarks)
    }

    /// Whether the spec itself names the classes.
    pub fn has_own_labels(&self) -> bool {
        self.has_labels
    }

    /// What each input takes. The network's preprocessing is that of its first picture; others are prepared in proportion.
    pub fn wanted(&self, typed: &Typed) -> Vec<Wanted> {
        let preprocess = self.preprocess.clone().unwrap_or_default();
        let size = |shape: &Shape| shape.as_image().map(|(_, height, width)| (height as u32, width as u32));
        let first = typed.graph().inputs().values().find_map(|id| size(typed.shape(*id)));
        let of = |shape: &Shape| match (first, size(shape)) {
            (Some(first), Some(own)) => preprocess.scaled(first, own),
            _ => preprocess.clone(),
        };
        let inputs = typed.graph().inputs().iter().map(|(name, id)| (name.clone(), typed.shape(*id)));
        inputs.map(|(name, shape)| Wanted { name, shape: shape.dims.clone(), preprocess: of(shape) }).collect()
    }

    /// A mistake of a line of the base's braces at its place.
    pub fn place(&self, fault: Fault) -> Box<Diagnostic> {
        self.intake_places.place(fault)
    }
}

/// `weights "file"`, `weights hf("..")`, `weights random(seed = 0)`.
fn weights(base: &tree::Base) -> Result<(WeightsSource, Option<Span>)> {
    let Some(tree::Weights { source: expr, .. }) = base.weights.first() else {
        return Ok((WeightsSource::Random { seed: 0 }, None));
    };
    if let Some(twice) = base.weights.get(1) {
        let problem = Problem::new(Code::Duplicate, "`weights` is given twice").see(expr.span, "first given here");
        return Err(problem.at(twice.source.span));
    }
    let source = match &expr.kind {
        ExprKind::Str(path) if path.is_empty() => None,
        ExprKind::Str(path) => Some(WeightsSource::File(path.clone())),
        ExprKind::Name(name) if name == "random" => Some(WeightsSource::Random { seed: 0 }),
        ExprKind::Call(name, args) => match (name.value.as_str(), args.args.as_slice()) {
            ("random", []) => Some(WeightsSource::Random { seed: 0 }),
            ("random", [arg]) if arg.name.as_ref().is_none_or(|name| name.value == "seed") => match arg.value.kind {
                ExprKind::Int(seed @ 0..) => Some(WeightsSource::Random { seed: seed as u64 }),
                _ => {
                    let problem = Problem::new(Code::BadValue, "a seed is an integer of 0 or more");
                    return Err(problem.at(arg.value.span));
                }
            },
            ("hf", [tree::Arg { name: None, value: tree::Expr { kind: ExprKind::Str(repo), .. } }]) => {
                Some(WeightsSource::Hub(repo.clone()))
            }
            _ => None,
        },
        _ => None,
    };
    let source = source.ok_or_else(|| {
        Problem::new(Code::BadValue, "weights come from a file, a hub, or at random")
            .hint("`weights \"resnet50.safetensors\"`, `weights hf(\"timm/resnet50.a1_in1k\")` or `weights random(seed = 0)`")
            .at(expr.span)
    })?;
    Ok((source, Some(expr.span)))
}

/// The evaluated `preprocess` entries, for the input's size.
fn preprocess(info: &BaseInfo<'_>, typed: &Typed) -> Result<Option<Preprocess>> {
    let Some((entries, span)) = &info.preprocess else { return Ok(None) };
    let mut preprocess = Preprocess::default();
    let mut seen: Vec<&str> = vec![];
    for (name, value, span) in entries {
        if seen.contains(&name.as_str()) {
            return Err(Problem::new(Code::Duplicate, format!("`{name}` is given twice")).at(*span));
        }
        seen.push(name);
        entry(&mut preprocess, name, value).at(*span)?;
    }
    let input = typed.graph().inputs().values().find_map(|id| typed.shape(*id).as_image());
    let Some((channels, height, width)) = input else { return Ok(None) };
    if let ([_, old_height, old_width], true) = (info.declared.as_slice(), info.resized) {
        let from = (*old_height as u32, *old_width as u32);
        preprocess = preprocess.scaled(from, (height as u32, width as u32));
    }
    // a network of other inputs than pictures may still say how its pictures were made
    if channels == 1 || channels == 3 {
        preprocess.check([channels, height, width]).at(*span)?;
    }
    Ok(Some(preprocess))
}

fn entry(preprocess: &mut Preprocess, name: &str, value: &Value<'_>) -> std::result::Result<(), Problem> {
    let wrong =
        |wanted: &str| Problem::new(Code::TypeMismatch, format!("`{name}` is {wanted}, got {}", value.describe()));
    let size = |value: &Value<'_>| match value {
        Value::Int(size @ 1..=65536) => Some(*size as u32),
        _ => None,
    };
    let pair = |value: &Value<'_>| match value {
        Value::List(list) if list.len() == 2 => size(&list[0]).zip(size(&list[1])),
        _ => None,
    };
    let sizes = "a size from 1 to 65536, or a pair";
    match name {
        "resize" => {
            let both = pair(value).map(|(height, width)| Resize::Both(height, width));
            let resize = both.or_else(|| size(value).map(Resize::Shorter));
            preprocess.resize = Some(resize.ok_or_else(|| wrong(sizes))?);
        }
        "crop" => {
            let crop = pair(value).or_else(|| size(value).map(|size| (size, size)));
            preprocess.crop = Some(crop.ok_or_else(|| wrong(sizes))?);
        }
        "interpolation" => {
            let word = if let Value::Word(word) | Value::Str(word) = value { Some(word) } else { None };
            let known = word.and_then(|word| Resample::named(word));
            preprocess.interpolation = known.ok_or_else(|| wrong("`nearest`, `bilinear` or `bicubic`"))?;
        }
        "mean" | "std" => {
            let numbers: Option<Vec<f64>> = match value {
                Value::List(list) => list.iter().map(Value::as_float).collect(),
                one => one.as_float().map(|one| vec![one; 3]),
            };
            let three = match numbers.as_deref() {
                Some(&[r, g, b]) => [r, g, b],
                Some(&[one]) => [one; 3],
                _ => return Err(wrong("a list of three numbers")),
            };
            *(if name == "mean" { &mut preprocess.mean } else { &mut preprocess.std }) = three;
        }
        other => {
            let problem = Problem::new(Code::UnknownArgument, format!("`preprocess` has no `{other}`"));
            let names = ["resize", "crop", "interpolation", "mean", "std"];
            return Err(problem.hints(suggest(other, names)).note(format!("it has {}", names.join(", "))));
        }
    }
    Ok(())
}

/// How many classes the network's own output tells apart: the values of [N, C], the channels of [N, C, H, W].
pub fn classes(typed: &Typed) -> Option<usize> {
    let shape = typed.shape(typed.graph().outputs().get(OWN_OUTPUT)?.node);
    match (shape.batched, shape.dims.as_slice()) {
        (true, [classes] | [classes, _, _]) => Some(*classes),
        _ => None,
    }
}

/// `labels imagenet` or `labels "file.txt"`; the file must be there, it is read when labels are printed.
fn labels(info: &BaseInfo<'_>, dir: &std::path::Path) -> Result<Option<LabelsSource>> {
    let Some((value, span)) = &info.labels else { return Ok(None) };
    match value {
        Value::Word(word) if **word == *"imagenet" => Ok(Some(LabelsSource::Imagenet)),
        Value::Str(path) => {
            let full = below(dir, &**path);
            open::plain(&full).map_err(|error| error.problem(Code::File, &full).at(*span))?;
            Ok(Some(LabelsSource::File(full, *span)))
        }
        other => {
            let message = format!("labels are `imagenet` or a file of names, got {}", other.describe());
            Err(Problem::new(Code::BadValue, message).at(*span))
        }
    }
}
