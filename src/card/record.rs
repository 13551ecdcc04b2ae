//! What a card says to programs: a block of JSON at its end, from which what was made is made again.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fenced;
use crate::diag::{Code, Problem};
use crate::io::digest::hex;
use crate::io::open;

/// Everything that the files beside the card are a function of, and what they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of archc.
    pub archc: String,
    pub made: Made,
    /// What the spec was called.
    pub name: String,
    /// SHA-256 of the spec as the card has it.
    pub spec: String,
    /// The files that the spec reads, in the order of reading.
    pub inputs: Vec<Stamped>,
    /// The samples of a training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Seen>,
    /// The files that were written.
    pub outputs: Vec<Stamped>,
    /// Figures by name.
    #[serde(default)]
    pub results: IndexMap<String, f64>,
}

/// The command, with the options that change what comes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Made {
    Export {
        to: String,
        dtype: String,
        #[serde(default)]
        fold: bool,
        #[serde(default)]
        merge: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        onnx: Option<OfOnnx>,
        /// Weights of the edited network, from the card's folder on.
        #[serde(default)]
        weights: Option<String>,
        #[serde(default)]
        seed: Option<u64>,
    },
    Train {
        dtype: String,
        #[serde(default)]
        tf32: bool,
        #[serde(default)]
        exact: bool,
        prefix_cache: bool,
        #[serde(default)]
        batch: Option<usize>,
        #[serde(default)]
        weights: Option<String>,
        #[serde(default)]
        seed: Option<u64>,
    },
}

/// What an export to ONNX was given beside.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfOnnx {
    pub opset: i64,
    #[serde(default)]
    pub external_data: Option<bool>,
    #[serde(default)]
    pub with_preprocess: bool,
}

/// A file by name, and what is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamped {
    /// What it is of.
    pub what: String,
    /// From the card's folder on; of a hub's file, the repository.
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

/// The samples of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub training: usize,
    pub validation: usize,
    /// Of names, labels and pictures.
    pub sha256: String,
}

impl Stamped {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path, what: &str, name: String) -> Result<Stamped, Problem> {
        let unreadable = |error: open::Unreadable| error.problem(Code::Input, path);
        let file = open::plain(path).map_err(unreadable)?;
        let (mut hash, bytes) = (Sha256::new(), file.len());
        let mut piece = vec![0; PIECE];
        for from in (0..bytes).step_by(PIECE) {
            let piece = &mut piece[..(bytes - from).min(PIECE as u64) as usize];
            file.exact_at(piece, from).map_err(|error| unreadable(open::Unreadable::System(error)))?;
            hash.update(&*piece);
        }
        Ok(Stamped { what: what.into(), name, bytes, sha256: hex(hash.finalize()) })
    }

    /// Of a text.
    pub fn of_text(text: &str, what: &str, name: String) -> Stamped {
        Stamped { what: what.into(), name, bytes: text.len() as u64, sha256: sha256(text) }
    }
}

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// SHA-256 of a text, in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    hex(Sha256::digest(text))
}

/// Bytes of a card that is read.
const MAX_CARD: u64 = 16 << 20;

/// A card that was read: the spec, and what is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    pub spec: String,
    pub record: Record,
}

impl Read {
    /// Reads the card at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, or is no card of archc's, or one of another version.
    pub fn open(path: &Path) -> Result<Read, Problem> {
        let text = open::read_text(path, MAX_CARD).map_err(|error| error.problem(Code::Input, path))?;
        Read::of(&text).map_err(|why| {
            Problem::new(Code::Input, format!("`{}` is no model card of archc: {why}", path.display()))
                .hint("name the README.md that `archc export` or `archc train` wrote beside its files")
        })
    }

    /// Reads a card's text. The reason where it is none.
    pub fn of(text: &str) -> Result<Read, String> {
        if !text.contains(super::MARK) {
            return Err(format!("it lacks the line `{}`", super::MARK));
        }
        let spec = fenced::find(text, super::SPEC).ok_or_else(|| lacks(super::SPEC))?;
        let record = fenced::find(text, super::RECORD).ok_or_else(|| lacks(super::RECORD))?;
        let record: Record =
            serde_json::from_str(&record).map_err(|error| format!("its block `{}`: {error}", super::RECORD))?;
        Ok(Read { spec, record })
    }

    /// Whether somebody has changed the spec in the card.
    pub fn is_edited(&self) -> bool {
        sha256(&self.spec) != self.record.spec
    }
}

fn lacks(block: &str) -> String {
    format!("it lacks a block that begins with ```` ```{block} ````")
}
