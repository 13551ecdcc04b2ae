//! The samples of a run as they were when it began: where each lies below the data's folder, its label, and the SHA-256 of
//! its file. Their digest is in every checkpoint; the list itself is a file of the run's folder, which says what has changed
//! where the digest differs, and saves reading again a file that has not been touched since. Without the list
//! every file is read, and a difference cannot be named: nothing else depends on it.

use std::fs::{self, Metadata};
use std::io::Write;
use std::path::Path;

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::{Dataset, Label};
use crate::diag::Problem;
use crate::io::digest::hex;
use crate::io::stamp::Stamp;
use crate::io::{atomic, open, picture};

/// The list; a line of JSON a sample in its file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    part: Part,
    path: String,
    label: String,
    stamp: Option<Stamp>,
    /// Empty where the file cannot be read.
    sha256: String,
}

/// What a sample is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Training,
    Validation,
}

impl Part {
    /// `training`, `validation`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Training => "training",
            Part::Validation => "validation",
        }
    }
}

impl Samples {
    /// The samples of both parts as they are now. `classes` names the labels.
    pub fn of(train: &Dataset, val: &Dataset, classes: &[String], listed: Option<&Samples>) -> Samples {
        let listed = listed.map(Samples::by_path).unwrap_or_default();
        let parts = [(Part::Training, train), (Part::Validation, val)];
        let all: Vec<(Part, &Dataset, usize)> =
            parts.into_iter().flat_map(|(part, data)| (0..data.len()).map(move |at| (part, data, at))).collect();
        let entry = |(part, data, at): (Part, &Dataset, usize)| {
            let sample = &data.samples[at];
            let path = data.name(sample).to_string_lossy().into_owned();
            let found = fs::metadata(&sample.path).ok().filter(Metadata::is_file);
            let stamp = found.as_ref().and_then(Stamp::of);
            let known = listed.get(&(part, path.as_str()));
            let known = known.filter(|known| stamp.is_some() && known.stamp == stamp);
            let sha256 = match (known, found) {
                (Some(known), _) if !known.sha256.is_empty() => known.sha256.clone(),
                (_, Some(_)) => content(&sample.path),
                _ => String::new(),
            };
            Entry { part, path, label: label(&sample.label, classes), stamp, sha256 }
        };
        Samples(all.into_par_iter().map(entry).collect())
    }

    /// Reads the list that has this digest; None where there is none, or another.
    pub fn read(path: &Path, digest: &str) -> Option<Samples> {
        let text = open::read_text(path, MAX_BYTES).ok()?;
        let lines = text.lines().map(|line| serde_json::from_str(line).ok());
        let samples = Samples(lines.collect::<Option<_>>()?);
        (samples.digest() == digest).then_some(samples)
    }

    /// Writes the list.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Problem> {
        atomic::write(path, |out| {
            for entry in &self.0 {
                serde_json::to_writer(&mut *out, entry)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })
    }

    /// SHA-256 of everything but the stamps, which a copy of the data changes.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }

    /// [`Samples::digest`] of one part.
    pub fn part_digest(&self, part: Part) -> String {
        digest(self.0.iter().filter(|entry| entry.part == part))
    }

    /// What is other in `now`, a phrase each.
    pub fn differences(&self, now: &Samples) -> Vec<String> {
        let (old, new) = (self.by_path(), now.by_path());
        // the share that is kept for validation moves with every picture that is added or gone
        let (mut found, mut moved) = (vec![], vec![]);
        for entry in &self.0 {
            let Entry { part, path, label, sha256, .. } = entry;
            let other = if *part == Part::Training { Part::Validation } else { Part::Training };
            let elsewhere = new.get(&(other, path.as_str())).filter(|_| !old.contains_key(&(other, path.as_str())));
            let now = new.get(&(*part, path.as_str())).or(elsewhere);
            match now {
                Some(now) if now.sha256.is_empty() && !sha256.is_empty() => {
                    found.push(format!("the picture `{path}` cannot be read any more"));
                }
                Some(now) if now.sha256 != *sha256 => found.push(format!("the picture `{path}` has changed")),
                Some(now) if now.label != *label => {
                    found.push(format!("the label of `{path}` was {label}, is {}", now.label));
                }
                Some(now) if now.part != *part => {
                    moved.push(format!("the picture `{path}` was for {}, is for {}", part.name(), other.name()));
                }
                Some(_) => {}
                None => found.push(format!("the picture `{path}` is gone")),
            }
        }
        let both = [Part::Training, Part::Validation];
        let is_new = |entry: &&Entry| both.iter().all(|part| !old.contains_key(&(*part, entry.path.as_str())));
        found.extend(now.0.iter().filter(is_new).map(|entry| format!("the picture `{}` is new", entry.path)));
        found.extend(moved);
        if found.is_empty() && self.digest() != now.digest() {
            found.push("the samples come in another order".into());
        }
        found
    }

    fn by_path(&self) -> FxHashMap<(Part, &str), &Entry> {
        self.0.iter().map(|entry| ((entry.part, entry.path.as_str()), entry)).collect()
    }
}

fn digest<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let mut digest = Sha256::new();
    for Entry { part, path, label, sha256, .. } in entries {
        digest.update(format!("{}\0{path}\0{label}\0{sha256}\n", part.name()));
    }
    hex(digest.finalize())
}

fn label(label: &Label, classes: &[String]) -> String {
    match label {
        Label::Class(class) => classes.get(*class).map_or_else(|| class.to_string(), |name| format!("`{name}`")),
        Label::Numbers(numbers) => numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// SHA-256 of a picture's file.
fn content(path: &Path) -> String {
    open::read(path, picture::MAX_FILE).map_or(String::new(), |bytes| hex(Sha256::digest(bytes)))
}

/// Lines of more samples than any data has.
const MAX_BYTES: u64 = 1 << 32;
