//! Every kernel on the emulator, against plain float64.

mod conv;
mod elementwise;
mod excitation;
mod faults;
mod images;
mod learn;
mod lstm;
mod rows;
mod support;
