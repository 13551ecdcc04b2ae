//! How far an edit moves the outputs: the network before it and after it on the same inputs, in float32 on the CPU.
//!
//! `preserving` promises that nothing moves; the promise is looked at when weights are bound, as without their values
//! nothing can be said. `archc plan --drift` asks for every edit.

use crate::bind::bind;
use crate::diag::{Code, Diagnostics, Problem, Result};
use crate::exec::device::{Device, Precision};
use crate::exec::{Executable, noise};
use crate::settings::Settings;
use crate::source::Span;
use crate::tensor::Tensor;
use crate::typed::Typed;
use crate::weights::Downloads;

/// Samples that are looked at where the user gives none.
const SAMPLES: usize = 2;
/// Outputs that differ by no more than this part of the largest, or of 1, are as before.
const TOLERANCE: f64 = 1e-4;

/// The networks before and after an edit; None where shapes do not fit before a later one.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Which of the spec's reports is the edit's.
    pub report: usize,
    pub before: Option<Typed>,
    pub after: Option<Typed>,
    /// The word that promises equal outputs.
    pub preserving: Option<Span>,
    /// What would do where they are not.
    pub hint: Option<String>,
}

/// How far an output is from what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// Of several outputs, the one that is farthest for its size.
    pub output: String,
    /// The largest difference of two values.
    pub largest: f64,
    /// The norm of the differences over that of the values before.
    pub relative: f64,
    /// The largest value before.
    pub scale: f64,
}

/// What can be said of an edit.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Moved(Drift),
    /// In words.
    Unknown(String),
}

impl Moved {
    /// What a promise says of shapes alone.
    ///
    /// # Errors
    /// Outputs of other shapes, or of none that are known.
    pub fn check_shapes(&self) -> Result<()> {
        let Some(span) = self.preserving else { return Ok(()) };
        let fail = |message: String| Err(Problem::new(Code::BadEdit, message).at(span));
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return fail("nothing can be compared here: shapes fit only after a later edit".into());
        };
        match differing(before, after) {
            Some(differing) => fail(format!("the outputs are not as before: {differing}")),
            None => Ok(()),
        }
    }
}

/// The first output that is missing afterwards or has another shape.
fn differing(before: &Typed, after: &Typed) -> Option<String> {
    before.graph().outputs().iter().find_map(|(name, output)| {
        let was = before.shape(output.node);
        match after.graph().outputs().get(name) {
            None => Some(format!("`{name}` is gone")),
            Some(now) if after.shape(now.node) != was => {
                Some(format!("`{name}` was {was} and is {}", after.shape(now.node)))
            }
            Some(_) => None,
        }
    })
}

/// Runs the network before and after each edit. What an input is not given is noise. `done` is called after each.
///
/// # Errors
/// Weights that cannot be read, memory that does not suffice.
pub fn measure(
    settings: &Settings,
    base: &Typed,
    moved: &[Moved],
    seed: Option<u64>,
    downloads: &dyn Downloads,
    given: &[(String, Tensor)],
    mut done: impl FnMut(),
) -> std::result::Result<Vec<Outcome>, Diagnostics> {
    let mut outcomes = vec![];
    // the network after an edit is most often the one before the next
    let mut last: Option<(usize, Vec<(String, Tensor)>)> = None;
    for (at, one) in moved.iter().enumerate() {
        if at > 0 {
            done();
        }
        let (Some(before), Some(after)) = (&one.before, &one.after) else {
            outcomes.push(Outcome::Unknown("shapes fit only after a later edit".into()));
            last = None;
            continue;
        };
        if let Some(differing) = differing(before, after) {
            outcomes.push(Outcome::Unknown(differing));
            last = None;
            continue;
        }
        let run = |typed: &Typed| outputs(settings, base, typed, seed, downloads, given);
        let was = match last.take() {
            Some((report, outputs)) if report + 1 == one.report => outputs,
            _ => run(before)?,
        };
        let is = run(after)?;
        outcomes.push(match drift(&was, &is) {
            Some(drift) => Outcome::Moved(drift),
            None => Outcome::Unknown("no output is left".into()),
        });
        last = Some((one.report, is));
    }
    Ok(outcomes)
}

/// Whether the promises are kept, with the weights that the spec names.
///
/// # Errors
/// Each that is not, and those of [`measure`].
pub fn check(
    settings: &Settings,
    base: &Typed,
    moved: &[Moved],
    seed: Option<u64>,
    downloads: &dyn Downloads,
) -> std::result::Result<(), Diagnostics> {
    let promised: Vec<Moved> = moved.iter().filter(|one| one.preserving.is_some()).cloned().collect();
    let mut problems = Diagnostics::new();
    let outcomes = measure(settings, base, &promised, seed, downloads, &[], || {})?;
    for (one, outcome) in promised.iter().zip(outcomes) {
        let (Outcome::Moved(drift), Some(span)) = (outcome, one.preserving) else { continue };
        if drift.is_none() {
            continue;
        }
        let message = format!(
            "the outputs are not as before: `{}` moves by {:.2e}, where its largest value is {:.2e}",
            drift.output, drift.largest, drift.scale
        );
        let problem = Problem::new(Code::BadEdit, message).note(format!("on {SAMPLES} samples of noise, in float32"));
        let hint = one.hint.clone().unwrap_or_else(|| "leave `preserving` out where that is meant".into());
        problems.push(problem.hint(hint).at(span));
    }
    if problems.has_errors() { Err(problems) } else { Ok(()) }
}

fn outputs(
    settings: &Settings,
    base: &Typed,
    typed: &Typed,
    seed: Option<u64>,
    downloads: &dyn Downloads,
    given: &[(String, Tensor)],
) -> std::result::Result<Vec<(String, Tensor)>, Diagnostics> {
    let bound = bind(settings, base, typed, seed, downloads)?;
    let run = || -> std::result::Result<Vec<(String, Tensor)>, Problem> {
        bound.check_memory()?;
        // an algorithm that rounds otherwise is no move
        let exact = Precision { exact: true, ..Precision::default() };
        let chosen = Device::Cpu.backend(exact, Some(1))?;
        let samples = given.first().map_or(SAMPLES, |(_, tensor)| tensor.shape()[0]);
        let mut executable = Executable::new(typed, &bound, chosen.backend.as_ref(), samples)?;
        let inputs: Vec<(&str, Tensor)> = typed
            .graph()
            .inputs()
            .iter()
            .map(|(name, id)| {
                let shape = &typed.shape(*id).dims;
                let own = given.iter().find(|(other, tensor)| other == name && tensor.shape()[1..] == shape[..]);
                let tensor = own.map_or_else(|| noise(name, shape, samples, 0), |(_, tensor)| tensor.clone());
                (name.as_str(), tensor)
            })
            .collect();
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
        executable.run(&inputs)
    };
    run().map_err(|problem| problem.anywhere().into())
}

impl Drift {
    fn of(name: &str, before: &Tensor, after: &Tensor) -> Drift {
        let (mut largest, mut scale, mut apart, mut norm) = (0f64, 0f64, 0f64, 0f64);
        for (was, is) in before.data().iter().zip(after.data()) {
            let (was, is) = (f64::from(*was), f64::from(*is));
            let difference = (was - is).abs();
            // a comparison would pass over what is not a number
            largest = if largest.is_nan() || difference.is_nan() { f64::NAN } else { largest.max(difference) };
            scale = scale.max(was.abs());
            apart += difference * difference;
            norm += was * was;
        }
        let relative = if apart == 0.0 { 0.0 } else { (apart / norm).sqrt() };
        Drift { output: name.to_string(), largest, relative, scale }
    }

    /// The largest difference as a part of the largest value, or of 1. What is not a number is infinitely far.
    fn part(&self) -> f64 {
        if self.largest.is_nan() { f64::INFINITY } else { self.largest / self.scale.max(1.0) }
    }

    /// Whether it is as before but for rounding.
    fn is_none(&self) -> bool {
        self.part() <= TOLERANCE
    }
}

/// Of the outputs that both have, the one that is farthest.
fn drift(before: &[(String, Tensor)], after: &[(String, Tensor)]) -> Option<Drift> {
    let of = |(name, was): &(String, Tensor)| {
        let (_, is) = after.iter().find(|(other, _)| other == name)?;
        Some(Drift::of(name, was, is))
    };
    before.iter().filter_map(of).max_by(|a, b| a.part().total_cmp(&b.part()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_apart_are_measured() {
        let of = |values: &[f32]| Tensor::new(vec![values.len()], values.to_vec());
        let apart = |was: &[f32], is: &[f32]| {
            let drift = Drift::of("output", &of(was), &of(is));
            (drift.largest, drift.relative, drift.scale)
        };
        assert_eq!(apart(&[3.0, -4.0], &[3.0, -4.0]), (0.0, 0.0, 4.0));
        assert_eq!(apart(&[3.0, -4.0], &[3.0, 1.0]), (5.0, 1.0, 4.0));
        assert!(apart(&[f32::NAN, 1.0], &[0.0, 1.0]).0.is_nan());
        // a large output does not hide what a small one does
        let both =
            |large: f32, small: f32| vec![("large".to_string(), of(&[large])), ("small".to_string(), of(&[small]))];
        let drift = self::drift(&both(1e6, 1.0), &both(1e6 + 1.0, 1.5)).expect("two outputs");
        assert_eq!((drift.output.as_str(), drift.largest, drift.is_none()), ("small", 0.5, false));
        // nor does one that is small altogether, of which the tenth part is nothing
        let drift = self::drift(&both(1.0, 1e-6), &both(1.05, 1.1e-6)).expect("two outputs");
        assert_eq!((drift.output.as_str(), drift.is_none()), ("large", false));
    }
}
