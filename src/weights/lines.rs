//! The lines of a base's braces that say what becomes of a file's tensors, as they are written, and which of them a mistake
//! is about.

use std::fmt;

use archc_base::Resample;

use super::recipe::Change;
use crate::diag::Problem;
use crate::syntax::quoted;

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

impl Lines {
    /// Each line as a spec has it, in the order in which they work. The part is left out: it belongs to another line.
    pub fn texts(&self) -> Vec<String> {
        let maps = self.maps.iter().map(MapLine::to_string);
        let ignores = self.ignores.iter().map(|IgnoreLine { regex, need }| format!("ignore{need} {}", written(regex)));
        let join = |JoinLine { from, to, order }: &JoinLine| {
            format!("join {} to {} order [{}]", written(from), written(to), order.join(", "))
        };
        let resize = |ResizeLine { regex, by, from }: &ResizeLine| {
            let from = from.map_or_else(String::new, |(height, width)| format!(" from ({height}, {width})"));
            format!("resize {} by {}{from}", written(regex), by.name())
        };
        maps.chain(ignores).chain(self.joins.iter().map(join)).chain(self.resizes.iter().map(resize)).collect()
    }
}

impl fmt::Display for Lines {
    /// `map "module\.(.*)" to "$1"; ignore "fc\..*"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().join("; "))
    }
}

impl fmt::Display for MapLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MapLine { from, to, changes, need } = self;
        write!(f, "map{need} {} to {}", written(from), written(to))?;
        for (at, change) in changes.iter().enumerate() {
            write!(f, "{} {change}", if at == 0 { " with" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Need {
    /// Behind the word of a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::Must => "",
            Need::May => "?",
        })
    }
}

/// A text of a line as a spec has it. One of several lines cannot be written; nobody offers it.
fn written(text: &str) -> String {
    quoted(text).unwrap_or_else(|| format!("{text:?}"))
}

/// A line that is offered: it renames, and must.
impl MapLine {
    pub fn renaming(from: &str, to: &str) -> MapLine {
        MapLine { from: from.into(), to: to.into(), changes: vec![], need: Need::Must }
    }
}
