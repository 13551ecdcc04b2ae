//! Networks as programs of other tools, beside the files of weights that they load.
//!
//! An exporter takes a graph whose shapes are known, and what the spec says beside it. It knows nothing of weights' values:
//! these are written by [`crate::bind`] under the same keys.

pub mod pytorch;
