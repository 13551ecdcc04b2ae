//! What proves that a file is the one that the hub promised: its length, its hash, and a header that can be read.

use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::super::file::{self, Kind};
use super::super::{header, index};
use super::config;
use super::repo::is_plain;
use crate::io::atomic::reason;
use crate::io::digest::hex;
use crate::io::open;

/// The hub's name for the contents of a file, which names the file in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Etag {
    /// The sha256 of a large file.
    Sha256(String),
    /// The sha1 of a file that Git keeps itself, as Git counts it; some mirrors give that of the bytes alone.
    Sha1(String),
    /// A mirror's own name, which proves nothing.
    Other(String),
}

impl Etag {
    /// None where it cannot name a file.
    pub fn parse(text: &str) -> Option<Etag> {
        let name = text.trim_start_matches("W/").trim_matches('"');
        let is_hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        match name.len() {
            _ if !is_plain(name) => None,
            64 if is_hex => Some(Etag::Sha256(name.into())),
            40 if is_hex => Some(Etag::Sha1(name.into())),
            _ => Some(Etag::Other(name.into())),
        }
    }

    pub fn name(&self) -> &str {
        let (Etag::Sha256(name) | Etag::Sha1(name) | Etag::Other(name)) = self;
        name
    }

    pub fn is_hash(&self) -> bool {
        !matches!(self, Etag::Other(_))
    }

    /// Reads a file and compares.
    pub fn check(&self, path: &Path) -> Result<(), String> {
        let mut sum = Sum::new(self);
        if let Sum::Sha256 { .. } = &sum {
            pieces(path, |piece| sum.update(piece))?;
        }
        sum.check(path)
    }
}

/// The hash of a file while it arrives.
pub enum Sum {
    Sha256 { hash: Box<Sha256>, want: String },
    Sha1 { want: String },
    None,
}

impl Sum {
    pub fn new(etag: &Etag) -> Sum {
        match etag {
            Etag::Sha256(want) => Sum::Sha256 { hash: Box::default(), want: want.to_ascii_lowercase() },
            Etag::Sha1(want) => Sum::Sha1 { want: want.to_ascii_lowercase() },
            Etag::Other(_) => Sum::None,
        }
    }

    pub fn update(&mut self, piece: &[u8]) {
        if let Sum::Sha256 { hash, .. } = self {
            hash.update(piece);
        }
    }

    /// Compares, when the whole file is written to `path`.
    pub fn check(self, path: &Path) -> Result<(), String> {
        match self {
            Sum::None => Ok(()),
            Sum::Sha256 { hash, want } => same("sha256", &want, &hex(hash.finalize())),
            Sum::Sha1 { want } => {
                // Git puts the length first, which is known only now; what Git keeps itself is small
                let length = path.metadata().map_err(|error| reason(&error))?.len();
                let (mut git, mut plain) = (Sha1::new_with_prefix(format!("blob {length}\0")), Sha1::new());
                pieces(path, |piece| {
                    git.update(piece);
                    plain.update(piece);
                })?;
                let git = hex(git.finalize());
                if hex(plain.finalize()) == want { Ok(()) } else { same("Git hash", &want, &git) }
            }
        }
    }
}

fn same(what: &str, want: &str, got: &str) -> Result<(), String> {
    if want == got {
        return Ok(());
    }
    let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_string();
    Err(format!("is not the file that the hub names: expected {what} {}.., got {}..", short(want), short(got)))
}

fn pieces(path: &Path, mut each: impl FnMut(&[u8])) -> Result<(), String> {
    let opened = open::plain(path).map_err(|error| format!("cannot be read: {error}"))?;
    let (mut file, mut piece) = (opened.file(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut piece).map_err(|error| format!("cannot be read: {}", reason(&error)))? {
            0 => return Ok(()),
            count => each(&piece[..count]),
        }
    }
}

/// Whether the file at `path` can be what the hub calls `file`: weights whose header fits the length, or an index.
pub fn check(path: &Path, file: &str) -> Result<(), String> {
    if file == config::FILE {
        return config::read(path).map(drop);
    }
    if index::is_index(Path::new(file)) {
        return index::read(path).map(drop).map_err(|_| "is no index of weights".into());
    }
    let unreadable = |error: open::Unreadable| format!("cannot be read: {error}");
    let mut opened = open::plain(path).map_err(unreadable)?;
    let head = opened.start(512).map_err(unreadable)?;
    match file::kind(Path::new(file), &head) {
        Kind::Empty => Err("is empty".into()),
        Kind::LfsPointer => Err("is a Git LFS pointer, not the weights".into()),
        Kind::WebPage => Err("is a web page, not weights".into()),
        Kind::Safetensors => header::read(&opened).map(drop).map_err(|why| format!("is no safetensors file: {why}")),
        Kind::PyTorch if !file.ends_with(".safetensors") => Ok(()),
        Kind::PyTorch | Kind::Unknown => Err("is neither safetensors nor a PyTorch checkpoint".into()),
    }
}
