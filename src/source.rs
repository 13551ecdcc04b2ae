//! Source texts and places in them.
//!
//! Every text that archc reads as a program (the spec, what it uses, the zoo) is kept here once, so that a place is a
//! small copyable [`Span`]. Knows nothing of syntax.

use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// One text in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A half-open range of bytes in one source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub file: FileId,
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(file: FileId, start: usize, end: usize) -> Span {
        Span { file, start: start as u32, end: end as u32 }
    }

    /// The smallest span that holds both; `self` where they lie in different files.
    pub fn to(self, other: Span) -> Span {
        if self.file != other.file {
            return self;
        }
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// The path `path` as it is written in a file of the folder `dir`, without what changes nothing: `./../w` is `../w`.
pub fn below(dir: &Path, path: impl AsRef<Path>) -> PathBuf {
    let joined = dir.join(path);
    let short: PathBuf = joined.components().filter(|part| *part != Component::CurDir).collect();
    if short.as_os_str().is_empty() { joined } else { short }
}

/// The files that a spec may use, where they do not lie on the disk.
///
/// A map of paths and texts is one, in which `zoo/NAME` is a file of the zoo.
pub trait Loader: Debug + Send + Sync {
    /// The content of the file at `path`, UTF-8. Paths are as they are written, from the folder of the spec on, without
    /// `.` and `..` where that is possible.
    ///
    /// # Errors
    /// Why there is none; it is told as the reason why the file cannot be read.
    fn load(&self, path: &Path) -> std::io::Result<Vec<u8>>;

    /// Names and texts of files that stand in the zoo, before archc's own: `base` finds the networks that begin a line there,
    /// and `use "zoo:NAME"` the files.
    fn zoo(&self) -> Vec<(String, String)> {
        vec![]
    }
}

impl Loader for std::collections::BTreeMap<PathBuf, String> {
    fn load(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn zoo(&self) -> Vec<(String, String)> {
        let name = |path: &Path| path.strip_prefix("zoo").ok().map(|name| name.display().to_string());
        self.iter().filter_map(|(path, text)| Some((name(path)?, text.clone()))).collect()
    }
}

/// A text and where it came from.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As it is printed: a path relative to where archc was started, `zoo/resnet.arch`, `<stdin>`.
    pub name: String,
    pub text: String,
    /// Where relative paths written in this file start. None for archc's own files.
    pub dir: Option<PathBuf>,
    /// True for the files that ship with archc.
    pub builtin: bool,
    /// Where each line starts, once somebody asks.
    lines: OnceLock<Vec<usize>>,
}

/// All texts of one compilation. A file is never removed, so a [`FileId`] stays valid.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
    /// Where used files come from; None for the disk.
    loader: Option<Arc<dyn Loader>>,
}

impl Sources {
    pub fn new() -> Sources {
        Sources::default()
    }

    /// Without texts yet; those that are used come from `loader` instead of the disk.
    pub fn with_loader(loader: Arc<dyn Loader>) -> Sources {
        Sources { loader: Some(loader), ..Sources::default() }
    }

    /// Where used files come from; None for the disk.
    pub fn loader(&self) -> Option<&Arc<dyn Loader>> {
        self.loader.as_ref()
    }

    /// Adds a text. `dir` is the folder that its relative paths start from.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>, dir: Option<&Path>) -> FileId {
        self.push(SourceFile {
            name: name.into(),
            text: text.into(),
            dir: dir.map(Path::to_path_buf),
            builtin: false,
            lines: OnceLock::new(),
        })
    }

    /// Adds one of archc's own files.
    pub fn add_builtin(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        self.push(SourceFile { name: name.into(), text: text.into(), dir: None, builtin: true, lines: OnceLock::new() })
    }

    fn push(&mut self, file: SourceFile) -> FileId {
        self.files.push(file);
        FileId(self.files.len() as u32 - 1)
    }

    pub fn file(&self, id: FileId) -> &SourceFile {
        &self.files[id.0 as usize]
    }

    /// All texts, in the order in which they were added.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    pub fn text(&self, span: Span) -> &str {
        self.file(span.file).text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Line and column of the start of `span`, both from 1; the column counts characters.
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        self.position(span.file, span.start as usize)
    }

    /// Line and column of the end of `span`, both from 1.
    pub fn end_line_column(&self, span: Span) -> (usize, usize) {
        self.position(span.file, span.end as usize)
    }

    /// `head.arch:3:27`.
    pub fn place(&self, span: Span) -> String {
        let (line, column) = self.line_column(span);
        format!("{}:{line}:{column}", self.file(span.file).name)
    }

    fn position(&self, file: FileId, offset: usize) -> (usize, usize) {
        let SourceFile { text, lines, .. } = self.file(file);
        let starts = || std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let lines: &Vec<usize> = lines.get_or_init(starts);
        let offset = if text.is_char_boundary(offset) { offset } else { 0 };
        let line = lines.partition_point(|start| *start <= offset);
        (line, text[lines[line - 1]..offset].chars().count() + 1)
    }
}
