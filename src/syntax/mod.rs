//! Text to tree: parsing, the tree, and formatting.

pub mod tree;
