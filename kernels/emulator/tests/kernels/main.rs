//! Every kernel on the emulator, against plain float64.

mod conv;
mod support;
