//! One file of weights, whatever its kind: told apart by content, so that a wrong ending does no harm.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use super::header::{self, Header};
use super::mapped::MappedFile;
use super::pytorch;
use super::store::TensorInfo;
use crate::diag::{Code, Problem, suggest};
use crate::io::atomic::reason;

pub(super) enum Opened {
    Safetensors { file: Arc<MappedFile>, header: Header },
    PyTorch(IndexMap<String, (TensorInfo, pytorch_reader::Tensor)>),
}

impl Opened {
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Opened::Safetensors { header, .. } => header.tensors.keys().map(String::as_str).collect(),
            Opened::PyTorch(tensors) => tensors.keys().map(String::as_str).collect(),
        }
    }
}

/// Opens a safetensors file or a PyTorch checkpoint.
pub(super) fn open(path: &Path) -> Result<Opened, Problem> {
    let name = path.display();
    let wrong = |what: &str| Problem::new(Code::WeightsFile, format!("`{name}` {what}"));
    let file = open_plain(path)?;
    let file = Arc::new(MappedFile::new(&file).map_err(|error| cannot_read(path, &error))?);
    match kind(path, file.all()) {
        Kind::Empty => Err(wrong("is empty").hint("fetch the file again")),
        Kind::LfsPointer => {
            Err(wrong("is a Git LFS pointer, not the weights").hint("fetch the weights with `git lfs pull`"))
        }
        Kind::WebPage => Err(wrong("is a web page, not weights").hint("fetch the file itself, by its download link")),
        Kind::Unknown => Err(wrong("is neither safetensors nor a PyTorch checkpoint")
            .hint("archc reads .safetensors, .safetensors.index.json, and .pth, .pt, .bin of `torch.save`")),
        Kind::Safetensors => {
            let header = header::parse(file.all()).map_err(|reason| {
                wrong(&format!("is not a good safetensors file: {reason}"))
                    .hint("fetch or write the file again; an interrupted download often looks like this")
            })?;
            Ok(Opened::Safetensors { file, header })
        }
        Kind::PyTorch => {
            let length = file.all().len();
            drop(file);
            pytorch::open(path, length).map(Opened::PyTorch)
        }
    }
}

/// Opens a plain file for reading; what else it may be is said.
pub(super) fn open_plain(path: &Path) -> Result<File, Problem> {
    let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
    let about = file.metadata().map_err(|error| cannot_read(path, &error))?;
    let wrong = |what: &str| Problem::new(Code::WeightsFile, format!("`{}` {what}", path.display()));
    if about.is_dir() {
        let inside = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];
        let found = inside.iter().find(|name| path.join(name).is_file());
        return Err(wrong("is a folder, not a file").hint(match found {
            Some(name) => format!("did you mean `{}`?", path.join(name).display()),
            None => "name the file of weights in it".into(),
        }));
    }
    if !about.is_file() {
        return Err(wrong("is not a plain file").hint("copy it to one: its parts are read in no fixed order"));
    }
    Ok(file)
}

/// The message for a file that cannot be opened; a missing one names its nearest neighbour.
pub(super) fn cannot_read(path: &Path, error: &io::Error) -> Problem {
    let name = path.display();
    let problem = Problem::new(Code::WeightsFile, format!("`{name}` cannot be read: {}", reason(error)));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match error.kind() {
        io::ErrorKind::NotFound if !folder.exists() => {
            problem.hint(format!("there is no folder `{}`", folder.display()))
        }
        io::ErrorKind::NotFound => {
            let wanted = path.file_name().unwrap_or_default().to_string_lossy();
            let names = neighbours(folder);
            match suggest(&wanted, names.iter().map(String::as_str)) {
                Some(hint) => problem.hint(hint),
                None if names.is_empty() => problem.hint("paths are relative to the `.arch` file"),
                None => problem.hint(format!("`{}` has {}", folder.display(), list(&names))),
            }
        }
        io::ErrorKind::NotADirectory => problem.hint(format!("`{}` is a file, not a folder", folder.display())),
        io::ErrorKind::PermissionDenied => problem.hint(format!("make it readable: `chmod +r {name}`")),
        _ => problem.hint("copy the file to another disk, or fetch it again"),
    }
}

const ENDINGS: [&str; 6] = ["safetensors", "pth", "pt", "bin", "ckpt", "json"];

/// The files of weights in a folder, by name; at most a thousand are looked at.
fn neighbours(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut names: Vec<String> = entries
        .take(1000)
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(4).map(|name| format!("`{name}`")).collect();
    let more = names.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

enum Kind {
    Empty,
    LfsPointer,
    WebPage,
    Safetensors,
    PyTorch,
    Unknown,
}

fn kind(path: &Path, bytes: &[u8]) -> Kind {
    let head = &bytes[..bytes.len().min(512)];
    if head.is_empty() {
        return Kind::Empty;
    }
    if head.starts_with(b"version https://git-lfs") {
        return Kind::LfsPointer;
    }
    if head.trim_ascii_start().starts_with(b"<") {
        return Kind::WebPage;
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Kind::PyTorch;
    }
    // The first byte of the JSON after a length that the format allows.
    let length = head.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    if length.is_some_and(|length| length <= 100_000_000) && head.get(8) == Some(&b'{') {
        return Kind::Safetensors;
    }
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("safetensors") => Kind::Safetensors,
        Some("pth" | "pt" | "bin" | "ckpt" | "tar" | "pkl") => Kind::PyTorch,
        // A pickle's protocol mark, as old checkpoints begin.
        _ if head.starts_with(&[0x80, 2]) || head.get(257..262) == Some(b"ustar") => Kind::PyTorch,
        _ => Kind::Unknown,
    }
}
