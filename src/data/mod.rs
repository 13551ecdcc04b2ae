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

pub use batch::{Batch, Mixup, Recipe, Targets, Want};
pub use csv::{Columns, csv};
pub use draws::Draws;
pub use folder::{eval_folder, folder};
pub use loader::{Loader, Order};

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
}

#[cfg(test)]
mod tests;
