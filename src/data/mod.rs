//! What a network learns from: pictures and their labels, found, split, shuffled, changed at random and handed out in
//! batches ahead of the step that wants them.
//!
//! Everything is a function of (seed, epoch, sample): which samples are kept for validation, the order of an epoch, every
//! random change of a picture. Threads decide nothing, and a run that goes on in the middle of an epoch sees the batches
//! of an unbroken one. Knows nothing of networks beyond the shape of their input and how pictures are prepared for them.

pub mod augment;
mod batch;
mod csv;
mod draws;
mod folder;
mod loader;
mod split;

use std::path::{Path, PathBuf};

pub use batch::{Batch, Recipe, Targets, Want};
pub use csv::{Columns, EvalTable, csv};
pub use draws::Draws;
pub use folder::{eval_folder, folder};
pub use loader::{Loader, Order};

use crate::diag::{Code, Problem};
use crate::source::below;
use crate::words::{Kind, choices};

choices! {
    /// The samples that a `data` line names.
    pub enum DataSource {
        /// train/CLASS/ and val/CLASS/ of pictures, as torchvision's ImageFolder, or CLASS/ alone; without a val folder the
        /// share `split` of each class is kept for validation; with `skip_corrupt` pictures that cannot be read are left out
        Folder = "folder" {
            path: String,
            shuffle: bool = true,
            split: f64[Kind::Fraction] = 0.2,
            skip_corrupt: bool = false,
        },
        /// a row a sample: the picture's file, then its label or numbers; `val` is such a table for validation
        Csv = "csv" {
            path: String,
            shuffle: bool = true,
            val: String = String::new(),
            split: f64[Kind::Fraction] = 0.2,
            skip_corrupt: bool = false,
        },
    }
}

impl DataSource {
    pub fn shuffle(&self) -> bool {
        let (DataSource::Folder { shuffle, .. } | DataSource::Csv { shuffle, .. }) = self;
        *shuffle
    }

    pub fn skip_corrupt(&self) -> bool {
        let (DataSource::Folder { skip_corrupt, .. } | DataSource::Csv { skip_corrupt, .. }) = self;
        *skip_corrupt
    }

    /// Finds the samples, with paths from `dir` on. `seed` chooses what is kept for validation.
    ///
    /// # Errors
    /// Data that is not there or not of the form.
    pub fn find(&self, want: Want, dir: &Path, seed: u64) -> Result<Data, Problem> {
        match self {
            DataSource::Folder { path, split, .. } => folder(&below(dir, path), *split, seed),
            DataSource::Csv { path, val, split, skip_corrupt, .. } => {
                let val = Some(val).filter(|val| !val.is_empty()).map(|val| below(dir, val));
                let columns = match want {
                    Want::Numbers | Want::OneHot => Columns::Numbers,
                    Want::Classes | Want::Image => Columns::Label,
                };
                let data = csv(&below(dir, path), val.as_deref(), columns, *split, seed)?;
                if !skip_corrupt {
                    data.check_files(path)?;
                }
                Ok(data)
            }
        }
    }
}

/// One picture and what is to be learned of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub path: PathBuf,
    pub label: Label,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    /// The index of a class.
    Class(usize),
    /// The numbers of a table's row.
    Numbers(Vec<f32>),
}

/// Samples with one kind of label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    pub samples: Vec<Sample>,
    /// The data folder, or the table's: samples are named from there, wherever it lies.
    pub root: PathBuf,
}

/// What a `data` line names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Data {
    pub train: Dataset,
    /// Empty where nothing is kept for validation.
    pub val: Dataset,
    /// Names of classes by index; none where the labels are numbers.
    pub classes: Vec<String>,
    /// What was found and is worth a line: files that are no pictures, a split that was made.
    pub remarks: Vec<String>,
}

impl Data {
    /// Whether the pictures that a table names are there.
    fn check_files(&self, table: &str) -> Result<(), Problem> {
        let samples = || self.train.samples.iter().chain(&self.val.samples);
        let gone: Vec<&Path> = samples().map(|sample| sample.path.as_path()).filter(|path| !path.exists()).collect();
        let Some(first) = gone.first() else { return Ok(()) };
        let message = format!("{} of {} pictures of `{table}` are not there", gone.len(), samples().count());
        Err(Problem::new(Code::Input, message)
            .note(format!("the first is `{}`", first.display()))
            .hint("files are found from the table's folder; `skip_corrupt = true` leaves out what cannot be read"))
    }
}

impl Dataset {
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The path of a sample as it is below the data's folder.
    pub fn name<'a>(&self, sample: &'a Sample) -> &'a Path {
        sample.path.strip_prefix(&self.root).unwrap_or(&sample.path)
    }

    /// How many samples each class has.
    pub fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for sample in &self.samples {
            if let Label::Class(class) = sample.label
                && let Some(count) = counts.get_mut(class)
            {
                *count += 1;
            }
        }
        counts
    }

    /// The classes of some of its samples, where these have classes.
    pub fn classes_of(&self, samples: &[usize]) -> impl Iterator<Item = usize> {
        let labels = samples.iter().filter_map(|at| self.samples.get(*at)).map(|sample| &sample.label);
        labels.filter_map(|label| if let Label::Class(class) = label { Some(*class) } else { None })
    }
}

#[cfg(test)]
mod tests;
