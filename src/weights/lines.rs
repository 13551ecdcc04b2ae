//! The lines of a base's braces that say what becomes of a file's tensors, as they are written, and which of them a mistake
//! is about.

use std::fmt;

use archc_base::Resample;

use super::recipe::Change;
use crate::diag::Problem;

/// All such lines of a base, in the order of the text a kind.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Which part of a file of several sets of weights is meant.
    pub part: Option<String>,
    pub maps: Vec<MapLine>,
    pub ignores: Vec<IgnoreLine>,
    pub joins: Vec<JoinLine>,
    pub resizes: Vec<ResizeLine>,
}

/// `map "regex" to "text" with permute(3, 2, 0, 1)`
#[derive(Clone, Debug)]
pub struct MapLine {
    pub from: String,
    pub to: String,
    pub changes: Vec<Change>,
    pub need: Need,
}

/// `ignore "regex"`
#[derive(Clone, Debug)]
pub struct IgnoreLine {
    pub regex: String,
    pub need: Need,
}

/// `join "regex" to "text" order [query, key, value]`
#[derive(Clone, Debug)]
pub struct JoinLine {
    pub from: String,
    pub to: String,
    pub order: Vec<String>,
}

/// `resize "regex" by bicubic from (14, 14)`
#[derive(Clone, Debug)]
pub struct ResizeLine {
    pub regex: String,
    pub by: Resample,
    /// Height and width of the file's table.
    pub from: Option<(usize, usize)>,
}

/// Whether a line may match nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `map`, `ignore`: it is there to do something.
    Must,
    /// `map?`, `ignore?`: for files of several kinds.
    May,
}

/// Which line a [`Fault`] is about, counted among its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Part,
    Map(usize),
    /// This change of this `map`.
    Change(usize, usize),
    Ignore(usize),
    Join(usize),
    Resize(usize),
}

/// A mistake in one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub line: Line,
    pub problem: Problem,
}

impl Lines {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        let Lines { part, maps, ignores, joins, resizes } = self;
        part.is_none() && maps.is_empty() && ignores.is_empty() && joins.is_empty() && resizes.is_empty()
    }
}

impl fmt::Display for Lines {
    /// `map "module\.(.*)" to "$1"; ignore "fc\..*"`, without the part, which belongs to another line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let maps = self.maps.iter().map(|map| format!("map \"{}\" to \"{}\"", map.from, map.to));
        let ignores = self.ignores.iter().map(|ignore| format!("ignore \"{}\"", ignore.regex));
        let resizes = self.resizes.iter().map(|resize| format!("resize \"{}\" by {}", resize.regex, resize.by.name()));
        f.write_str(&maps.chain(ignores).chain(resizes).collect::<Vec<String>>().join("; "))
    }
}

/// A line that is offered: it renames, and must.
impl MapLine {
    pub fn renaming(from: &str, to: &str) -> MapLine {
        MapLine { from: from.into(), to: to.into(), changes: vec![], need: Need::Must }
    }
}
