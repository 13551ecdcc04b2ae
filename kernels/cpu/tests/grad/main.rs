//! Every kernel of training against a plain loop in f64, on every instruction set of this CPU: odd sizes, tails, pixels with
//! gaps, outputs full of NaN before the call, and the same bits on one, two, three and eight threads.

mod images;
mod learn;
mod lstm;
mod norms;
mod products;
mod support;
mod values;
