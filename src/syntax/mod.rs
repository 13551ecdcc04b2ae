//! Text to tree: parsing, the tree, and formatting.
//!
//! [`parse`] never fails: what could not be understood is reported and left out. [`format()`] writes a file in its
//! canonical form. Neither knows ops, blocks or networks.

mod edits;
mod explain;
mod expr;
mod fmt;
mod items;
mod joined;
mod layout;
mod names;
mod parse;
mod rebase;
mod statements;
mod stmts;
#[cfg(test)]
mod tests;
pub mod tree;
mod without;

pub use fmt::{format, meaning};
pub use joined::joined;
pub(crate) use layout::{MAX_TOKENS, token_count};
pub use parse::{parse, parse_at, parse_selector, quoted};
pub use rebase::rebase;
#[cfg(test)]
pub(crate) use statements::words;
pub use without::without;
