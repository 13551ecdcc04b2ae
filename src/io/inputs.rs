//! What `--input` names: pictures, folders of them, files of tensors. [`expand`] finds out what there is without reading
//! it; [`Inputs::batches`] reads it piece by piece, decoding a batch's pictures on all threads. A file that cannot be
//! read is a problem of its batch and not the end of the run.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::open::{self, Unreadable};
use super::picture::{self, Format};
use super::tensors::{self, Loaded, Wanted};
use crate::diag::{Code, Diagnostics, Problem};
use crate::tensor::Tensor;

/// One file of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub path: PathBuf,
    /// Whether it holds tensors; else it is a picture.
    pub tensors: bool,
}

impl Item {
    /// What results call it: the path as it was given.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// The files of the input in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    pub items: Vec<Item>,
    /// Files of folders that are no pictures.
    pub skipped: usize,
}

/// Samples that are run at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// One a sample: the file, and `[i]` after it where a file holds several.
    pub names: Vec<String>,
    /// [B, ..] of what the network takes; B is 0 where no file could be read.
    pub tensor: Tensor,
    /// The files that could not be read and were left out.
    pub problems: Vec<Problem>,
}

/// Finds the files. A folder gives its pictures in order of name, not recursively: files called .png, .jpg and .jpeg,
/// and those that begin as such. Every path that gives nothing is an error.
pub fn expand(paths: &[PathBuf]) -> Result<Inputs, Diagnostics> {
    let mut inputs = Inputs::default();
    let mut problems = Diagnostics::new();
    for path in paths {
        let found = match fs::metadata(path) {
            Err(error) => Err(unreadable(path, error)),
            Ok(found) if found.is_dir() => folder(path).map(|(items, skipped)| {
                inputs.skipped += skipped;
                items
            }),
            Ok(_) => match open::plain_or_stream(path) {
                Ok(_) => Ok(vec![Item { path: path.clone(), tensors: has_extension(path, &["npy", "safetensors"]) }]),
                Err(error) => Err(unreadable(path, error)),
            },
        };
        match found {
            Ok(items) => inputs.items.extend(items),
            Err(problem) => problems.push(problem.anywhere()),
        }
    }
    if problems.has_errors() { Err(problems) } else { Ok(inputs) }
}

impl Inputs {
    /// The samples in order, at most `batch` at once, as `wanted` says.
    ///
    /// # Panics
    /// If `batch` is 0.
    pub fn batches<'a>(&'a self, wanted: &'a Wanted, batch: usize) -> Batches<'a> {
        assert!(batch > 0, "a batch has at least one sample");
        Batches { items: &self.items, wanted, batch, waiting: VecDeque::new() }
    }
}

/// See [`Inputs::batches`].
pub struct Batches<'a> {
    items: &'a [Item],
    wanted: &'a Wanted,
    batch: usize,
    waiting: VecDeque<Source>,
}

/// Samples that are read and not yet handed out.
struct Source {
    name: String,
    /// [B, ..].
    tensor: Tensor,
    /// How many of them are gone.
    used: usize,
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.items.is_empty() && self.waiting.is_empty() {
            return None;
        }
        let mut problems = vec![];
        loop {
            let ready: usize = self.waiting.iter().map(Source::left).sum();
            if ready >= self.batch || self.items.is_empty() {
                break;
            }
            self.read(self.batch - ready, &mut problems);
        }
        let mut names = vec![];
        let mut data = vec![];
        while names.len() < self.batch {
            let Some(source) = self.waiting.front_mut() else { break };
            source.take(self.batch - names.len(), &mut names, &mut data);
            if source.left() == 0 {
                self.waiting.pop_front();
            }
        }
        let mut shape = vec![names.len()];
        shape.extend_from_slice(&self.wanted.shape);
        Some(Batch { names, tensor: Tensor::new(shape, data), problems })
    }
}

impl Batches<'_> {
    /// Reads the next tensor file, or up to `most` pictures at once.
    fn read(&mut self, most: usize, problems: &mut Vec<Problem>) {
        let pictures = self.items.iter().take(most).take_while(|item| !item.tensors).count();
        let (now, later) = self.items.split_at(pictures.max(1).min(self.items.len()));
        self.items = later;
        let wanted = self.wanted;
        let read: Vec<Result<Tensor, Problem>> = now.par_iter().map(|item| read(item, wanted)).collect();
        for (item, result) in now.iter().zip(read) {
            match result {
                Ok(tensor) => self.waiting.push_back(Source { name: item.name(), tensor, used: 0 }),
                Err(problem) => problems.push(problem),
            }
        }
    }
}

impl Source {
    fn left(&self) -> usize {
        self.tensor.shape()[0] - self.used
    }

    fn take(&mut self, most: usize, names: &mut Vec<String>, data: &mut Vec<f32>) {
        let count = most.min(self.left());
        let of = self.tensor.shape()[0];
        let size = self.tensor.len() / of;
        data.extend_from_slice(&self.tensor.data()[self.used * size..][..count * size]);
        let name = &self.name;
        names.extend(
            (self.used..self.used + count).map(|i| if of == 1 { name.clone() } else { format!("{name}[{i}]") }),
        );
        self.used += count;
    }
}

/// The samples of one file, [B, ..].
fn read(item: &Item, wanted: &Wanted) -> Result<Tensor, Problem> {
    let name = item.name();
    let loaded = if item.tensors {
        tensors::load(&item.path, &wanted.name)?
    } else {
        // a picture and its sample are never both kept for a whole batch
        let image = wanted.image()?;
        wanted.preprocess.check(image)?;
        Loaded::Pictures(vec![picture::read_with(&item.path, open::plain_or_stream)?])
    };
    let pictures = match loaded {
        Loaded::Float(tensor) => return tensors::batched(tensor, &name, wanted),
        Loaded::Pictures(pictures) => pictures,
    };
    let image = wanted.image()?;
    let mut data = vec![];
    for picture in &pictures {
        data.extend_from_slice(wanted.preprocess.apply(picture, image)?.data());
    }
    let mut shape = vec![pictures.len()];
    shape.extend_from_slice(&image);
    Ok(Tensor::new(shape, data))
}

/// The pictures of a folder in order of name, and the number of its other files.
fn folder(path: &Path) -> Result<(Vec<Item>, usize), Problem> {
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, error))?;
    let (mut items, mut skipped, mut folders) = (vec![], 0, 0);
    for entry in entries {
        let path = entry.map_err(|error| unreadable(path, error))?.path();
        if path.is_dir() {
            folders += 1;
        } else if is_picture(&path) {
            items.push(Item { path, tensors: false });
        } else {
            skipped += 1;
        }
    }
    if items.is_empty() {
        let name = path.display();
        let problem = Problem::new(Code::Input, format!("the folder `{name}` holds no picture (.png, .jpg, .jpeg)"));
        return Err(match (folders, skipped) {
            (0, 0) => problem.note("it is empty"),
            (0, _) => problem.note(format!("{skipped} other files were skipped")),
            _ => problem
                .note(format!("it holds {folders} folders, which are not searched"))
                .hint(format!("name one of them, or several: `--input {name}/..`")),
        });
    }
    items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((items, skipped))
}

fn is_picture(path: &Path) -> bool {
    if has_extension(path, &["png", "jpg", "jpeg"]) {
        return true;
    }
    open::plain(path).and_then(|mut file| file.start(8)).is_ok_and(|start| Format::of(&start).is_some())
}

fn unreadable(path: &Path, error: impl Into<Unreadable>) -> Problem {
    error.into().problem(Code::Input, path)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|ext| extensions.iter().any(|known| ext.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::npy;
    use crate::io::preprocess::Preprocess;

    fn pictures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures")
    }

    fn wanted(shape: &[usize]) -> Wanted {
        Wanted { name: "image".into(), shape: shape.to_vec(), preprocess: Preprocess::default() }
    }

    /// A folder with three pictures (one without a name that says so), a broken one, a text and a folder.
    fn sample() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::copy(pictures().join("rgb.png"), at("b.PNG")).unwrap();
        fs::copy(pictures().join("baseline.jpg"), at("a.jpg")).unwrap();
        fs::copy(pictures().join("grey.jpg"), at("noname")).unwrap();
        fs::write(at("c.png"), "no picture").unwrap();
        fs::write(at("notes.txt"), "text").unwrap();
        fs::write(at("x"), "y").unwrap();
        fs::create_dir(at("deep")).unwrap();
        fs::copy(pictures().join("rgb.png"), at("deep/d.png")).unwrap();
        folder
    }

    #[test]
    fn folders_are_taken_in_order_and_broken_files_are_named() {
        let folder = sample();
        let inputs = expand(&[folder.path().to_path_buf(), pictures().join("rgb.png")]).unwrap();
        let names: Vec<_> = inputs.items.iter().map(|item| item.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.jpg", "b.PNG", "c.png", "noname", "rgb.png"]);
        assert_eq!(inputs.skipped, 2);

        let wanted = wanted(&[3, 8, 8]);
        let batches: Vec<Batch> = inputs.batches(&wanted, 3).collect();
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.names.len()).collect();
        assert_eq!(sizes, [3, 1]);
        assert_eq!(batches[0].tensor.shape(), [3, 3, 8, 8]);
        assert_eq!(batches[1].tensor.shape(), [1, 3, 8, 8]);
        assert!(batches[0].names[2].ends_with("noname"));
        assert_eq!((batches[0].problems.len(), batches[1].problems.len()), (1, 0));
        assert!(batches[0].problems[0].message.contains("c.png` is not a PNG or JPEG"), "{:?}", batches[0].problems);
    }

    #[test]
    fn tensors_are_cut_and_joined() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        fs::write(&path, npy::write(&Tensor::new([5, 1], vec![0.0, 1.0, 2.0, 3.0, 4.0]))).unwrap();
        let inputs = expand(&[path.clone(), path]).unwrap();
        let wanted = wanted(&[1]);
        let batches: Vec<Batch> = inputs.batches(&wanted, 4).collect();
        let values: Vec<&[f32]> = batches.iter().map(|batch| batch.tensor.data()).collect();
        assert_eq!(values, [&[0.0, 1.0, 2.0, 3.0][..], &[4.0, 0.0, 1.0, 2.0], &[3.0, 4.0]]);
        assert!(batches[1].names[0].ends_with("x.npy[4]") && batches[1].names[1].ends_with("x.npy[0]"));
    }

    #[test]
    fn where_nothing_can_be_read_there_is_an_empty_batch_with_the_problems() {
        let inputs = Inputs { items: vec![Item { path: "no.png".into(), tensors: false }], skipped: 0 };
        let wanted = wanted(&[3, 4, 4]);
        let batches: Vec<Batch> = inputs.batches(&wanted, 2).collect();
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].tensor.shape(), batches[0].problems.len()), (&[0, 3, 4, 4][..], 1));
        let flat = Wanted { shape: vec![10], ..wanted };
        let problem = &inputs.batches(&flat, 2).next().unwrap().problems[0];
        assert_eq!(problem.message, "`image` takes [N, 10], a picture is [N, C, H, W]");
    }

    #[test]
    fn every_path_that_gives_nothing_is_reported() {
        let folder = sample();
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).unwrap();
        let above = tempfile::tempdir().unwrap();
        fs::create_dir(above.path().join("cats")).unwrap();
        let paths = [empty, above.path().to_path_buf(), folder.path().join("a.jpeg")];
        let problems = expand(&paths).unwrap_err();
        let problems: Vec<&Problem> = problems.iter().map(|diagnostic| &diagnostic.problem).collect();
        assert_eq!(problems.len(), 3);
        assert!(problems[0].message.contains("holds no picture") && problems[0].notes == ["it is empty"]);
        assert!(problems[1].notes[0].contains("1 folders, which are not searched"), "{:?}", problems[1]);
        assert_eq!(problems[2].hints, ["did you mean `a.jpg`?"]);
    }
}
