//! torchvision's ImageFolder layout: a folder a class, classes in sorted order, pictures in it at any depth.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::split::split;
use super::{Data, Dataset, Label, Sample};
use crate::diag::{Code, Problem, list};
use crate::io::atomic::reason;

/// `folder("dir")`: `dir/train/CLASS/` and `dir/val/CLASS/`, or, where there is no `train`, `dir/CLASS/`. Without a `val`
/// a share of `part` is kept for validation, chosen by `seed`.
///
/// # Errors
/// A folder that is not there or cannot be read, classes without pictures, none at all, classes of `val` that `train` lacks.
pub fn folder(path: &Path, part: f64, seed: u64) -> Result<Data, Problem> {
    if !path.is_dir() {
        return Err(missing(path));
    }
    let nested = path.join("train").is_dir();
    let root = if nested { path.join("train") } else { path.to_path_buf() };
    let train = Classes::of(&root)?;
    if train.names.is_empty() {
        return Err(no_classes(&root));
    }
    let mut data = Data { classes: train.names.clone(), ..Data::default() };
    let mut others = train.others;
    data.train = train.samples(&root, &data.classes)?;
    let val = path.join("val");
    if nested && val.is_dir() {
        let found = Classes::of(&val)?;
        let unknown: Vec<&str> = found.unknown(&data.classes);
        if !unknown.is_empty() {
            let message = format!("`{}` has {}, which `{}` lacks", val.display(), list(&unknown), root.display());
            return Err(Problem::new(Code::Input, message)
                .hint("a class that is never learned cannot be told: take it out, or give it training pictures")
                .note(format!("classes to learn: {}", list(&first(&data.classes)))));
        }
        others += found.others;
        data.val = found.samples(&val, &data.classes)?;
        for name in data.classes.iter().filter(|name| !found.names.contains(name)) {
            data.remarks.push(format!("`{}` has no pictures of `{name}`", val.display()));
        }
    } else if part > 0.0 {
        data.val = split(&mut data.train, part, seed);
        let (kept, all) = (data.val.len(), data.val.len() + data.train.len());
        data.remarks.push(format!("{kept} of {all} pictures are kept for validation (no `val` folder; seed {seed})"));
    }
    if others > 0 {
        let plural = if others == 1 { "" } else { "s" };
        data.remarks.push(format!("skipped: {others} other file{plural}"));
    }
    Ok(data)
}

/// The pictures of `path/CLASS/` under the class indices of `classes`, or, where those are not known, of the folder's own
/// sorted names; the names are returned too.
///
/// # Errors
/// Those of [`folder`].
pub fn eval_folder(path: &Path, classes: Option<&[String]>) -> Result<(Dataset, Vec<String>), Problem> {
    if !path.is_dir() {
        return Err(missing(path));
    }
    // the folder of a data set is named as often as its val folder
    let val = path.join("val");
    let root = if val.is_dir() && path.join("train").is_dir() { val } else { path.to_path_buf() };
    let found = Classes::of(&root)?;
    let classes = classes.map_or_else(|| found.names.clone(), <[String]>::to_vec);
    let unknown = found.unknown(&classes);
    if !unknown.is_empty() {
        let message = format!("`{}` has {}, which the network does not know", root.display(), list(&unknown));
        return Err(Problem::new(Code::Input, message).note(format!("it knows {}", list(&first(&classes)))));
    }
    if found.names.is_empty() {
        return Err(no_classes(&root));
    }
    Ok((found.samples(&root, &classes)?, classes))
}

/// The class folders of a folder and their pictures.
struct Classes {
    names: Vec<String>,
    /// In order of path, a list a class.
    pictures: Vec<Vec<PathBuf>>,
    /// Files that are no pictures.
    others: usize,
}

impl Classes {
    fn of(root: &Path) -> Result<Classes, Problem> {
        let mut classes = Classes { names: vec![], pictures: vec![], others: 0 };
        let mut folders = vec![];
        for path in entries(root)? {
            match (path.is_dir(), path.file_name().and_then(OsStr::to_str)) {
                (true, Some(name)) if !name.starts_with('.') => folders.push((name.to_string(), path.clone())),
                (true, Some(_)) => {}
                (true, None) => {
                    let message = format!("`{}` is not UTF-8, and a class needs a name", path.display());
                    return Err(Problem::new(Code::Input, message).hint("rename the folder"));
                }
                (false, _) => classes.others += 1,
            }
        }
        folders.sort();
        for (name, path) in folders {
            let mut pictures = vec![];
            classes.others += gather(&path, &mut pictures, 0)?;
            pictures.sort();
            classes.names.push(name);
            classes.pictures.push(pictures);
        }
        Ok(classes)
    }

    fn unknown<'a>(&'a self, classes: &[String]) -> Vec<&'a str> {
        self.names.iter().filter(|name| !classes.contains(name)).map(String::as_str).collect()
    }

    /// The pictures with the indices that `classes` gives them.
    fn samples(&self, root: &Path, classes: &[String]) -> Result<Dataset, Problem> {
        let empty = self.names.iter().zip(&self.pictures).filter(|(_, pictures)| pictures.is_empty());
        let empty: Vec<&str> = empty.map(|(name, _)| name.as_str()).collect();
        if !empty.is_empty() {
            let message = format!("no pictures in {} of `{}`", list(&empty), root.display());
            return Err(Problem::new(Code::Input, message)
                .note("pictures are called .png, .jpg or .jpeg")
                .hint("put some there, or remove the folder"));
        }
        let mut samples = vec![];
        for (name, pictures) in self.names.iter().zip(&self.pictures) {
            let Some(class) = classes.iter().position(|other| other == name) else { continue };
            samples.extend(pictures.iter().map(|path| Sample { path: path.clone(), label: Label::Class(class) }));
        }
        Ok(Dataset { samples })
    }
}

fn no_classes(root: &Path) -> Problem {
    Problem::new(Code::Input, format!("`{}` has no class folders", root.display()))
        .hint("a folder a class, with its pictures in it: `cat/1.png`, `dog/1.png`")
}

fn first(names: &[String]) -> Vec<&str> {
    names.iter().take(20).map(String::as_str).collect()
}

fn missing(path: &Path) -> Problem {
    let what = if path.exists() { "is not a folder" } else { "is not there" };
    Problem::new(Code::Input, format!("the data folder `{}` {what}", path.display()))
        .hint("paths in a spec start from the spec's own folder")
}

/// How deep pictures may lie below their class, which ends what links would make endless.
const DEPTH: usize = 16;

/// Adds the pictures below `path`; returns how many other files there are.
fn gather(path: &Path, pictures: &mut Vec<PathBuf>, depth: usize) -> Result<usize, Problem> {
    let mut others = 0;
    for entry in entries(path)? {
        if entry.is_dir() {
            if depth < DEPTH {
                others += gather(&entry, pictures, depth + 1)?;
            }
        } else if is_picture(&entry) {
            pictures.push(entry);
        } else {
            others += 1;
        }
    }
    Ok(others)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let failed = |error: std::io::Error| {
        Problem::new(Code::Input, format!("the folder `{}` cannot be read: {}", path.display(), reason(&error)))
    };
    fs::read_dir(path).map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}
