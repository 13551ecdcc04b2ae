//! metrics.jsonl: a line a step, a line an epoch. Nothing in it depends on the clock, so that a run that was cut off leaves
//! the same file as an unbroken one.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diag::{Code, Problem};
use crate::io::atomic::problem;
use crate::io::open;

/// One line: of a step where `step` is there, else of an epoch. Epochs and steps count from 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    pub epoch: usize,
    /// Of a step: the mean of its batch; of an epoch: the mean of its samples.
    pub loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_accuracy: Option<f64>,
}

/// The file, open at its end.
pub struct Metrics {
    path: PathBuf,
    file: File,
    len: u64,
    lost: Option<Lost>,
}

/// See [`Metrics::open`].
pub struct Lost {
    /// Where the lines are that were left.
    pub aside: Option<PathBuf>,
}

impl Metrics {
    /// Opens the file with its first `len` bytes; what a run wrote after its last checkpoint is written again. A file that
    /// has fewer is put aside, since lines cannot be made up, and a new one is begun: see [`Metrics::lost`].
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: &Path, len: u64) -> Result<Metrics, Problem> {
        let held = fs::metadata(path).map_or(0, |found| if found.is_file() { found.len() } else { 0 });
        let lost = (held < len).then(|| Lost { aside: (held > 0).then(|| path.with_extension("jsonl.short")) });
        let len = if lost.is_some() { 0 } else { len };
        let open = || {
            if let Some(aside) = lost.as_ref().and_then(|lost| lost.aside.as_ref()) {
                fs::rename(path, aside)?;
            }
            let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
            file.set_len(len)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|error| problem(path, &error))?;
        Ok(Metrics { path: path.to_path_buf(), file, len, lost })
    }

    /// What became of lines of steps done which the file should hold and does not.
    pub fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }

    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, line: &Line) -> Result<(), Problem> {
        let mut text = serde_json::to_string(line).expect("JSON of numbers");
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|error| problem(&self.path, &error))?;
        self.len += text.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.len
    }
}

/// The lines of a file; what is no line of metrics is left out.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Vec<Line>, Problem> {
    let text = open::read_text(path, MAX_BYTES).map_err(|error| error.problem(Code::Input, path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Lines of more steps than any run has.
const MAX_BYTES: u64 = 1 << 32;
