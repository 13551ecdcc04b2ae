//! torchvision's ImageFolder layout: a folder a class, classes in sorted order, pictures in it at any depth. Links to folders
//! are followed, and every folder is read once a class, so that links in a circle end.

use std::collections::HashSet;
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
    let (mut others, mut again) = (train.others, train.again);
    data.train = train.samples(path, &root, &data.classes)?;
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
        again += found.again;
        data.val = found.samples(path, &val, &data.classes)?;
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
    if again > 0 {
        let (links, lead) = if again == 1 { ("link", "leads") } else { ("links", "lead") };
        data.remarks.push(format!("skipped: {again} {links} that {lead} to a folder which is read already"));
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
    Ok((found.samples(path, &root, &classes)?, classes))
}

/// The class folders of a folder and their pictures.
struct Classes {
    names: Vec<String>,
    /// In order of path, a list a class.
    pictures: Vec<Vec<PathBuf>>,
    /// Files that are no pictures.
    others: usize,
    /// Links to folders that were read already.
    again: usize,
}

impl Classes {
    fn of(root: &Path) -> Result<Classes, Problem> {
        let mut classes = Classes { names: vec![], pictures: vec![], others: 0, again: 0 };
        let above = ancestors(root);
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
            let mut gathered = Gathered { known: above.clone(), ..Gathered::default() };
            // a class that is the data folder itself, or lies above it, has the pictures of all classes
            if !gathered.is_new(&path) {
                classes.again += 1;
                continue;
            }
            gathered.add(path)?;
            gathered.pictures.sort();
            classes.others += gathered.others;
            classes.again += gathered.again;
            classes.names.push(name);
            classes.pictures.push(gathered.pictures);
        }
        Ok(classes)
    }

    fn unknown<'a>(&'a self, classes: &[String]) -> Vec<&'a str> {
        self.names.iter().filter(|name| !classes.contains(name)).map(String::as_str).collect()
    }

    /// The pictures with the indices that `classes` gives them; `data` is the folder that they are named from.
    fn samples(&self, data: &Path, root: &Path, classes: &[String]) -> Result<Dataset, Problem> {
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
        Ok(Dataset { samples, root: data.to_path_buf() })
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

/// What lies below a class.
#[derive(Default)]
struct Gathered {
    pictures: Vec<PathBuf>,
    /// Files that are no pictures.
    others: usize,
    /// Links to folders that are known.
    again: usize,
    /// The folders that were read, or must not be, without links in their paths.
    known: HashSet<PathBuf>,
}

impl Gathered {
    /// Adds what lies in a folder that is known by now, and below it. A folder comes before the links to it, so that
    /// pictures have the names that they have without links.
    fn add(&mut self, class: PathBuf) -> Result<(), Problem> {
        let (mut folders, mut links) = (vec![class], vec![]);
        while let Some(folder) = folders.pop() {
            for entry in entries(&folder)? {
                if !entry.is_dir() {
                    if is_picture(&entry) {
                        self.pictures.push(entry);
                    } else {
                        self.others += 1;
                    }
                } else if entry.is_symlink() {
                    links.push(entry);
                } else if self.is_new(&entry) {
                    folders.push(entry);
                }
            }
            // which of two links to one folder counts must not depend on the order of the file system
            links.sort_by(|a, b| b.cmp(a));
            while folders.is_empty()
                && let Some(link) = links.pop()
            {
                if self.is_new(&link) {
                    folders.push(link);
                } else {
                    self.again += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether a folder was not known; from now on it is.
    fn is_new(&mut self, folder: &Path) -> bool {
        self.known.insert(folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf()))
    }
}

/// A folder and all above it, without links.
fn ancestors(folder: &Path) -> HashSet<PathBuf> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    folder.ancestors().map(Path::to_path_buf).collect()
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
