//! A model card's spec once more, and whether the same comes out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Error, Onnx, Options, Results, Spec, Start, Trained};
use crate::card::{self, Made, OfOnnx, Read, Record, Stamped, inputs};
use crate::diag::{Code, Problem, count};
use crate::exec::device::Device;
use crate::export::pytorch;
use crate::table::thousands;
use crate::train::run::Watch;
use crate::weights::{DType, Downloads, FORMATS, Store};

/// How far tensors may be from each other where all that differs is the order of sums, as a share of the largest value.
const ROUNDING: f64 = 1e-5;

/// How far losses and accuracies of two trainings may be from each other, absolutely, where their bits differ: rounding grows
/// from step to step.
const TRAINED: f64 = 0.02;

/// How alike two results are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// To the bit.
    Same,
    /// As two kinds of CPUs differ.
    Close,
    Other,
}

/// One result beside what the card says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// A file, or a figure.
    pub name: String,
    pub likeness: Likeness,
    /// In words.
    pub what: String,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Reproduced {
    /// The card's version of archc, where it is another one.
    pub archc: Option<String>,
    pub compared: Vec<Compared>,
}

impl Reproduced {
    /// The least alike of all.
    pub fn likeness(&self) -> Likeness {
        self.compared.iter().map(|one| one.likeness).max().unwrap_or(Likeness::Same)
    }
}

/// Runs the spec of the model card at `card` again, into the folder `out`, and compares what comes out with what the card says.
/// None where `watch` stopped it. Nothing beside the card is changed.
///
/// # Errors
/// No card; files, samples or a spec that are not those that the card was made of; what the command itself may meet.
pub fn reproduce(
    card: impl AsRef<Path>,
    out: impl AsRef<Path>,
    device: Device,
    downloads: Option<Arc<dyn Downloads>>,
    watch: &mut dyn Watch,
) -> Result<Option<Reproduced>, Error> {
    let (path, out) = (card.as_ref(), out.as_ref());
    let read = Read::open(path)?;
    if read.is_edited() {
        let message = format!("the spec in `{}` is not the one that its files were made of", path.display());
        let hint = "put it back, or save it as a file of its own and use that: `archc train`, `archc export`";
        return Err(Problem::new(Code::Input, message).note("its SHA-256 is another one").hint(hint).into());
    }
    let (folder, record) = (card::folder(path), &read.record);
    let model = Spec::from_text_in(&read.spec, &record.name, folder).compile()?;
    let options = Options { downloads, ..options(record, folder, path)? };
    let (bound, _) = model.bind(&options)?;
    let mut changed = differences(&record.inputs, &inputs(model.text(), &bound, folder)?);
    drop(bound);
    let trainer = match &record.made {
        Made::Train { prefix_cache, .. } => {
            let trainer = model.trainer(device, options.clone())?.without_card();
            Some(if *prefix_cache { trainer } else { trainer.without_prefix_cache() })
        }
        Made::Export { .. } => None,
    };
    if let (Some(trainer), Some(seen)) = (&trainer, &record.data)
        && trainer.samples()? != seen.sha256
    {
        let all = count(seen.training + seen.validation, "sample");
        changed.push(format!("the samples are not the {all} that it was trained with"));
    }
    if let Some(first) = changed.first() {
        let message = format!("what `{}` was made of has changed: {first}", path.display());
        let problem =
            changed[1..].iter().fold(Problem::new(Code::Input, message), |problem, one| problem.note(one.clone()));
        return Err(problem.hint("put back what has changed").into());
    }
    let results = match (&trainer, &record.made) {
        (Some(trainer), _) => match trainer.run(out, Start::Fresh, watch)? {
            Trained::Done(results) => Some(results),
            Trained::Stopped { .. } => return Ok(None),
        },
        (None, Made::Export { to, fold, merge, onnx, .. }) => {
            let format = FORMATS.iter().find(|format| format.name == to).copied();
            let name = record.outputs.first().ok_or_else(|| unknown(path, "output", ""))?.name.clone();
            let mut exporter = model.exporter(&options)?;
            // of ONNX, what is folded are batch norms
            if *fold && onnx.is_none() {
                exporter.fold()?;
            }
            if let Some(block) = merge {
                exporter.merge(block)?;
            }
            let target = out.join(plain(path, &name)?);
            match format {
                Some(format) => _ = exporter.write(target, format, options.dtype)?,
                None if let Some(OfOnnx { opset, external_data, with_preprocess }) = *onnx => {
                    let onnx = Onnx { opset, fold: *fold, dtype: options.dtype, external_data, with_preprocess };
                    exporter.write_onnx_of(&target, folder, &onnx)?;
                }
                None if to == pytorch::NAME => _ = exporter.write_pytorch(target, options.dtype)?,
                None => return Err(unknown(path, "format", to).into()),
            }
            None
        }
        (None, Made::Train { .. }) => unreachable!("a training has its trainer"),
    };
    let figures = results.map(|results| figures(record, &results)).unwrap_or_default();
    // rounding moves the weights of a training further than its figures: these say whether it is the same one
    let is_near = !figures.is_empty() && figures.iter().all(|one| one.likeness <= Likeness::Close);
    let mut compared = vec![];
    for output in &record.outputs {
        let name = plain(path, &output.name)?;
        let (mut one, may_be_rounding) = compare(output, &folder.join(&name), &out.join(&name))?;
        if is_near && may_be_rounding {
            one.likeness = one.likeness.min(Likeness::Close);
        }
        compared.push(one);
    }
    compared.extend(figures);
    let archc = Some(record.archc.clone()).filter(|archc| archc != env!("CARGO_PKG_VERSION"));
    Ok(Some(Reproduced { archc, compared }))
}

/// The options that the card names.
fn options(record: &Record, folder: &Path, card: &Path) -> Result<Options, Problem> {
    let (Made::Export { dtype, weights, seed, .. } | Made::Train { dtype, weights, seed, .. }) = &record.made;
    let dtypes = [archc_base::DType::F32, archc_base::DType::F16, archc_base::DType::Bf16];
    let found = dtypes.into_iter().find(|one| one.name() == dtype);
    let dtype = found.ok_or_else(|| unknown(card, "number format", dtype))?;
    let weights = weights.as_ref().map(|path| folder.join(path));
    let options = Options { dtype, weights, seed: *seed, ..Options::default() };
    Ok(match record.made {
        Made::Train { tf32, exact, batch, .. } => {
            Options { tf32, exact, batch: batch.filter(|batch| *batch > 0), ..options }
        }
        Made::Export { .. } => options,
    })
}

fn unknown(card: &Path, what: &str, name: &str) -> Problem {
    let message = format!("`{}` names the {what} `{name}`, which this archc does not know", card.display());
    Problem::new(Code::Input, message).hint("use the version of archc that wrote the card")
}

/// A file's name without a folder: what a card says may not lead elsewhere.
fn plain(card: &Path, name: &str) -> Result<PathBuf, Problem> {
    let plain = Path::new(name).file_name().filter(|plain| plain.to_str() == Some(name));
    plain.map(PathBuf::from).ok_or_else(|| unknown(card, "output", name))
}

/// What is other in `now`, a phrase each.
fn differences(old: &[Stamped], now: &[Stamped]) -> Vec<String> {
    let mut found = vec![];
    for Stamped { name, sha256, .. } in old {
        match now.iter().find(|one| one.name == *name) {
            None => found.push(format!("`{name}` is not read any more")),
            Some(one) if one.sha256 != *sha256 => {
                found.push(format!("the sha256 of `{name}` was {}, is {}", short(sha256), short(&one.sha256)));
            }
            Some(_) => {}
        }
    }
    let is_new = |one: &&Stamped| !old.iter().any(|known| known.name == one.name);
    found.extend(now.iter().filter(is_new).map(|one| format!("`{}` was not read then", one.name)));
    found
}

fn short(digest: &str) -> String {
    format!("{}..", digest.get(..16).unwrap_or(digest))
}

/// A written file beside the card's, and whether rounding alone may have made the difference.
fn compare(output: &Stamped, old: &Path, new: &Path) -> Result<(Compared, bool), Problem> {
    let found = Stamped::of(new, &output.what, output.name.clone())?;
    let name = output.name.clone();
    let compared = |likeness, what: String| Compared { name, likeness, what };
    if found.sha256 == output.sha256 {
        return Ok((compared(Likeness::Same, format!("the same {} bytes", thousands(found.bytes))), true));
    }
    let other = format!("other bytes: sha256 {} in the card, {} now", short(&output.sha256), short(&found.sha256));
    let is_kept = Stamped::of(old, &output.what, output.name.clone()).is_ok_and(|kept| kept.sha256 == output.sha256);
    if !is_kept || !output.name.ends_with(".safetensors") {
        return Ok((compared(Likeness::Other, other), true));
    }
    Ok(match distance(&Store::open_file(old)?, &Store::open_file(new)?)? {
        None => (compared(Likeness::Other, format!("{other}; other tensors")), false),
        Some((share, key)) => {
            let likeness = if share <= ROUNDING { Likeness::Close } else { Likeness::Other };
            let what = format!("other bits: at most {share:.1e} of the largest value, in `{key}`");
            (compared(likeness, what), true)
        }
    })
}

/// The largest difference of two files' tensors, as a share of the largest value of the tensor, and where it is. None where
/// keys, shapes or number formats differ.
fn distance(old: &Store, new: &Store) -> Result<Option<(f64, String)>, Problem> {
    if old.tensors() != new.tensors() {
        return Ok(None);
    }
    let mut largest = (0.0, String::new());
    for (key, info) in old.tensors() {
        if info.dtype == DType::I64 {
            if old.raw(key)? != new.raw(key)? {
                return Ok(None);
            }
            continue;
        }
        let (a, b) = (old.read(key)?, new.read(key)?);
        let scale = a.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        let difference = a.iter().zip(&b).fold(0f32, |most, (a, b)| match (a - b).abs() {
            // a NaN is as far as can be, unless both are
            difference if difference.is_nan() => {
                if a.is_nan() && b.is_nan() {
                    most
                } else {
                    f32::INFINITY
                }
            }
            difference => most.max(difference),
        });
        let share = f64::from(difference) / f64::from(scale);
        if largest.1.is_empty() || share > largest.0 {
            largest = (share, key.clone());
        }
    }
    Ok(Some(largest))
}

/// The figures of a training beside the card's.
fn figures(record: &Record, results: &Results) -> Vec<Compared> {
    let now = results.figures();
    let mut compared = vec![];
    for (name, was) in &record.results {
        let is = now.get(name).copied();
        let likeness = match is {
            Some(is) if is.to_bits() == was.to_bits() => Likeness::Same,
            Some(is) if (is - was).abs() <= TRAINED => Likeness::Close,
            _ => Likeness::Other,
        };
        let is = is.map_or("not there".into(), |is| format!("{is}"));
        let what = if likeness == Likeness::Same { is } else { format!("{is}, in the card {was}") };
        compared.push(Compared { name: name.clone(), likeness, what });
    }
    compared
}
