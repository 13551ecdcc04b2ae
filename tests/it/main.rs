//! The tests that see archc from outside, in one binary.

mod ops;
