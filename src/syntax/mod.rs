//! Text to tree: parsing, the tree, and formatting.

pub mod tree;

pub fn parse(_f: crate::source::FileId, _t: &str) -> (tree::File, crate::diag::Diagnostics) { (tree::File::default(), crate::diag::Diagnostics::new()) }
