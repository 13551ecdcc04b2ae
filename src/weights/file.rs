//! One file of weights, whatever its kind: told apart by content, so that a wrong ending does no harm.

use std::path::Path;
use std::sync::Arc;

use super::header::{self, Header};
use super::pytorch::{self, Checkpoint};
use crate::diag::{Code, Problem};
use crate::io::open::{self, Opened, Unreadable};

pub(super) enum Contents {
    Safetensors { file: Arc<Opened>, header: Header },
    PyTorch(Checkpoint),
}

impl Contents {
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Contents::Safetensors { header, .. } => header.tensors.keys().map(String::as_str).collect(),
            Contents::PyTorch(checkpoint) => checkpoint.tensors.keys().map(String::as_str).collect(),
        }
    }
}

/// Opens a safetensors file or a PyTorch checkpoint.
pub(super) fn open(path: &Path) -> Result<Contents, Problem> {
    let name = path.display();
    let wrong = |what: &str| Problem::new(Code::WeightsFile, format!("`{name}` {what}"));
    let mut file = open::plain(path).map_err(|error| cannot_read(path, error))?;
    let head = file.start(512).map_err(|error| cannot_read(path, error))?;
    match kind(path, &head) {
        Kind::Empty => Err(wrong("is empty").hint("fetch the file again")),
        Kind::LfsPointer => {
            Err(wrong("is a Git LFS pointer, not the weights").hint("fetch the weights with `git lfs pull`"))
        }
        Kind::WebPage => Err(wrong("is a web page, not weights").hint("fetch the file itself, by its download link")),
        Kind::Unknown => Err(wrong("is neither safetensors nor a PyTorch checkpoint")
            .hint("archc reads .safetensors, .safetensors.index.json, and .pth, .pt, .bin of `torch.save`")),
        Kind::Safetensors => {
            let header = header::read(&file).map_err(|reason| {
                wrong(&format!("is not a good safetensors file: {reason}"))
                    .hint("fetch or write the file again; an interrupted download often looks like this")
            })?;
            Ok(Contents::Safetensors { file: Arc::new(file), header })
        }
        Kind::PyTorch => pytorch::open(path, Arc::new(file), &head).map(Contents::PyTorch),
    }
}

/// The message for a file that cannot be opened; a missing one names what there is instead.
pub(super) fn cannot_read(path: &Path, error: Unreadable) -> Problem {
    let is_missing = error.is_missing();
    let is_folder = matches!(error, Unreadable::Other("a folder"));
    let mut problem = error.problem(Code::WeightsFile, path);
    if is_folder {
        let inside = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];
        if let Some(name) = inside.iter().find(|name| path.join(name).is_file()) {
            problem.hints = vec![format!("did you mean `{}`?", path.join(name).display())];
        }
    } else if is_missing && problem.hints.is_empty() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let names: Vec<String> = open::neighbours(folder).into_iter().filter(|name| is_weights(name)).collect();
        return problem.hint(match names.is_empty() {
            true => "paths are relative to the `.arch` file".into(),
            false => format!("`{}` has {}", folder.display(), list(&names)),
        });
    }
    if problem.hints.is_empty() { problem.hint("copy the file to another disk, or fetch it again") } else { problem }
}

/// Whether a file's name ends as that of weights.
fn is_weights(name: &str) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
}

const ENDINGS: [&str; 6] = ["safetensors", "pth", "pt", "bin", "ckpt", "json"];

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(4).map(|name| format!("`{name}`")).collect();
    let more = names.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// What a file is by its first bytes.
pub(super) enum Kind {
    Empty,
    LfsPointer,
    WebPage,
    Safetensors,
    PyTorch,
    Unknown,
}

/// `head`: the first 512 bytes.
pub(super) fn kind(path: &Path, head: &[u8]) -> Kind {
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
