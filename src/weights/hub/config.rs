//! `config.json`, which timm writes beside a network's weights: how pictures are prepared for it, what its classes are
//! called, and under which licence it is given (timm's models/_hub.py, `save_config_for_hf`).

use std::path::Path;

use archc_base::Resample;
use serde_json::{Map, Value};

use crate::diag::{Code, Problem, short};
use crate::io::open;
use crate::io::preprocess::{Preprocess, Resize};

/// The file's name.
pub(super) const FILE: &str = "config.json";

/// The names of 20,000 classes with their descriptions are two of these.
const MAX_JSON: u64 = 16 << 20;

/// How pictures are prepared, and the height and width that they have then.
pub type Prepared = (Preprocess, (u32, u32));

/// What a repository says of its network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pretrained {
    pub preprocess: Option<Prepared>,
    pub classes: Option<usize>,
    /// A name for each class, in the order of the outputs.
    pub labels: Option<Vec<String>>,
    pub licence: Option<String>,
}

/// Which of timm's networks a repository holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    pub name: String,
    pub classes: Option<usize>,
    /// Channels, height and width of its input.
    pub input: Option<[usize; 3]>,
}

/// Whether a licence lets everybody do as he likes.
pub fn is_permissive(licence: &str) -> bool {
    let licence = licence.to_ascii_lowercase();
    licence == "apache-2.0" || licence == "mit" || licence.starts_with("bsd-")
}

/// Reads the file.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(path: &Path) -> Result<Pretrained, String> {
    parse(&text(path)?)
}

/// Reads a config.json that the user names.
///
/// # Errors
/// What is wrong with it; one that says nothing of timm's.
pub fn pretrained_cfg(path: &Path) -> Result<Pretrained, Problem> {
    let wrong = |why: &str| Problem::new(Code::Import, format!("`{}` {why}", path.display()));
    let said = read(path).map_err(|why| wrong(&why))?;
    if said == Pretrained::default() {
        return Err(wrong("has no `pretrained_cfg`").hint("timm's repositories have a config.json with one"));
    }
    Ok(said)
}

/// Reads which network it is of; None where it says nothing of timm's.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_architecture(path: &Path) -> Result<Option<Architecture>, String> {
    architecture(&text(path)?)
}

fn text(path: &Path) -> Result<String, String> {
    open::read_text(path, MAX_JSON).map_err(|error| format!("cannot be read: {error}"))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))? {
        Value::Object(root) => Ok(root),
        _ => Err("is no JSON object".into()),
    }
}

/// How many classes the network tells apart, as both levels of the file may say.
fn classes(root: &Map<String, Value>, own: &Map<String, Value>) -> Option<usize> {
    let classes = own.get("num_classes").or_else(|| root.get("num_classes"));
    classes.and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok())
}

fn parse(text: &str) -> Result<Pretrained, String> {
    let root = &object(text)?;
    // other libraries write a file of that name too
    let Some(own) = root.get("pretrained_cfg").and_then(Value::as_object) else { return Ok(Pretrained::default()) };
    let classes = classes(root, own);
    Ok(Pretrained {
        preprocess: preprocess(own)?,
        classes,
        labels: labels(root, own).filter(|labels| classes.is_none_or(|classes| classes == labels.len())),
        licence: own.get("license").and_then(Value::as_str).map(str::to_string),
    })
}

/// The largest number of channels, height or width that a network may be said to take.
const MAX_INPUT: u64 = 65536;

fn architecture(text: &str) -> Result<Option<Architecture>, String> {
    let root = &object(text)?;
    let (Some(name), Some(own)) =
        (root.get("architecture").and_then(Value::as_str), root.get("pretrained_cfg").and_then(Value::as_object))
    else {
        return Ok(None);
    };
    let mut input = None;
    if let Some(size) = own.get("input_size") {
        let sizes: Option<Vec<u64>> = size.as_array().and_then(|sizes| sizes.iter().map(Value::as_u64).collect());
        let sizes = sizes.filter(|sizes| sizes.iter().all(|size| (1..=MAX_INPUT).contains(size)));
        let sizes = sizes.and_then(|sizes| <[u64; 3]>::try_from(sizes).ok());
        input =
            Some(sizes.ok_or("has an `input_size` that is no [channels, height, width]")?.map(|size| size as usize));
    }
    for (name, value) in root.get("model_args").and_then(Value::as_object).into_iter().flatten() {
        match (name.as_str(), value.as_u64().filter(|size| (1..=MAX_INPUT).contains(size))) {
            ("img_size", Some(size)) => {
                let channels = input.map_or(3, |[channels, ..]| channels);
                input = Some([channels, size as usize, size as usize]);
            }
            _ => return Err(format!("makes the network with `{}`, which archc does not know", short(name))),
        }
    }
    Ok(Some(Architecture { name: name.to_string(), classes: classes(root, own), input }))
}

/// timm's transform of evaluation: the shorter side to `size / crop_pct`, or both sides, which is its "squash", then the
/// middle. None for no pictures in colour.
fn preprocess(own: &Map<String, Value>) -> Result<Option<Prepared>, String> {
    let Some(size) = own.get("input_size") else { return Ok(None) };
    let size: Option<Vec<u64>> = size.as_array().and_then(|size| size.iter().map(Value::as_u64).collect());
    let (height, width) = match size.as_deref() {
        Some([3, height @ 1..=65536, width @ 1..=65536]) => (*height as u32, *width as u32),
        Some([channels, _, _]) if *channels != 3 => return Ok(None),
        _ => return Err("has an `input_size` that is no [channels, height, width]".into()),
    };
    let mode = own.get("crop_mode").and_then(Value::as_str).unwrap_or("center");
    let is_known = match mode {
        "squash" => true,
        "center" => height == width,
        _ => false,
    };
    if !is_known {
        return Err(format!("prepares pictures by `crop_mode` {mode:?} to {height} x {width}, which archc does not"));
    }
    let share = own.get("crop_pct").map_or(Some(0.875), Value::as_f64);
    let enlarged = |side: u32| {
        let side = share.map(|share| (f64::from(side) / share).floor()).filter(|side| (1.0..=65536.0).contains(side));
        side.map(|side| side as u32).ok_or("has a `crop_pct` that cannot be meant")
    };
    let resize = match mode {
        "squash" => Resize::Both(enlarged(height)?, enlarged(width)?),
        _ => Resize::Shorter(enlarged(height)?),
    };
    let word = own.get("interpolation").map_or(Some("bicubic"), Value::as_str);
    let interpolation = word.and_then(Resample::named).ok_or("has an `interpolation` that archc does not know")?;
    let three = |name: &str, default: [f64; 3]| {
        let Some(value) = own.get(name) else { return Ok(default) };
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        match numbers.as_deref() {
            Some(&[red, green, blue]) => Ok([red, green, blue]),
            _ => Err(format!("has a `{name}` that is no list of three numbers")),
        }
    };
    let mean = three("mean", [0.485, 0.456, 0.406])?;
    let std = three("std", [0.229, 0.224, 0.225])?;
    let preprocess = Preprocess { resize: Some(resize), crop: Some((height, width)), interpolation, mean, std };
    Ok(Some((preprocess, (height, width))))
}

/// The classes by what they are, where that is said, else by their names.
fn labels(root: &Map<String, Value>, own: &Map<String, Value>) -> Option<Vec<String>> {
    let find = |name: &str| root.get(name).or_else(|| own.get(name));
    let names: Vec<&str> = match find("label_names")? {
        Value::Array(names) => names.iter().map(Value::as_str).collect::<Option<_>>()?,
        // by index
        Value::Object(names) => {
            (0..names.len()).map(|at| names.get(&at.to_string())?.as_str()).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let descriptions = find("label_descriptions").and_then(Value::as_object);
    let described = |name: &str| descriptions.and_then(|known| known.get(name)?.as_str()).unwrap_or(name).to_string();
    Some(names.into_iter().map(described).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_timm_says_nothing_and_what_is_odd_is_an_error() {
        assert_eq!(parse(r#"{"architectures": ["ViTModel"], "image_size": 224}"#), Ok(Pretrained::default()));
        let said = |own: &str| parse(&format!(r#"{{"pretrained_cfg": {{{own}}}}}"#));
        let plain = said(r#""input_size": [3, 224, 224]"#).unwrap().preprocess.unwrap().0;
        assert_eq!((plain.resize, plain.crop), (Some(Resize::Shorter(256)), Some((224, 224))));
        let squashed = said(r#""input_size": [3, 448, 336], "crop_pct": 0.95, "crop_mode": "squash""#).unwrap();
        let (squashed, size) = squashed.preprocess.unwrap();
        assert_eq!((squashed.resize, squashed.crop), (Some(Resize::Both(471, 353)), Some((448, 336))));
        assert_eq!(size, (448, 336));
        assert_eq!((plain.interpolation, plain.mean[0]), (Resample::Bicubic, 0.485));
        // spectrograms and the like
        assert_eq!(said(r#""input_size": [1, 128, 1024]"#).unwrap().preprocess, None);
        for (own, message) in [
            (r#""input_size": 224"#, "an `input_size`"),
            (r#""input_size": [3, 0, 224]"#, "an `input_size`"),
            (r#""input_size": [3, 224, 224], "crop_pct": 0"#, "a `crop_pct`"),
            (r#""input_size": [3, 224, 224], "crop_pct": 1e-9"#, "a `crop_pct`"),
            (r#""input_size": [3, 224, 224], "interpolation": "lanczos""#, "an `interpolation`"),
            (r#""input_size": [3, 224, 224], "mean": [0.5]"#, "a `mean`"),
            (r#""input_size": [3, 224, 224], "std": [0.5, "a", 1]"#, "a `std`"),
            (r#""input_size": [3, 224, 224], "crop_mode": "border""#, "\"border\""),
            (r#""input_size": [3, 224, 224], "crop_mode": "squash", "crop_pct": 0"#, "a `crop_pct`"),
            (r#""input_size": [3, 224, 320]"#, "224 x 320"),
        ] {
            let told = said(own).map(|said| said.preprocess);
            assert!(told.as_ref().is_err_and(|told| told.contains(message)), "{own}: {told:?}");
        }
        assert!(parse("{").is_err() && parse("[]").is_err());
        for (licence, is) in [("apache-2.0", true), ("MIT", true), ("bsd-3-clause", true), ("cc-by-nc-4.0", false)] {
            assert_eq!(is_permissive(licence), is);
        }
    }
}
