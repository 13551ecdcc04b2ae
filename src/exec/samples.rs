//! Several runs of a network that draws at inference: which layers draw, and what their outputs come to.

use crate::diag::{Code, Problem, and, count};
use crate::graph::{NodeId, path};
use crate::tensor::Tensor;
use crate::typed::Typed;

/// Layers that a message names before it counts the rest.
const SHOWN: usize = 4;

/// The layers that some output needs and that draw at inference, in the order of running.
pub fn drawing(typed: &Typed) -> Vec<NodeId> {
    layers(typed, |op| op.draws_always())
}

fn layers(typed: &Typed, is_one: impl Fn(&crate::ops::Op) -> bool) -> Vec<NodeId> {
    let (graph, live) = (typed.graph(), typed.graph().live());
    typed.order().iter().copied().filter(|id| live.contains(id) && is_one(&graph.node(*id).op)).collect()
}

/// Refuses a network that gives the same outputs in every run.
///
/// # Errors
/// With the layers that could draw, and how they are made to.
pub fn check(typed: &Typed) -> Result<(), Problem> {
    if !drawing(typed).is_empty() {
        return Ok(());
    }
    let problem =
        Problem::new(Code::Usage, "no layer of the network draws at inference: all samples would be the same");
    let graph = typed.graph();
    let could = layers(typed, |op| op.drops().is_some_and(|drops| drops.p > 0.0));
    let Some(first) = could.first() else {
        return Err(problem.hint("put a layer in that does: `insert dropout(0.1, always = true) before T`"));
    };
    let op = graph.node(*first).op.name();
    let paths: Vec<String> = could.iter().map(|id| path::display(&graph.node(*id).path)).collect();
    let shown = match paths.len().checked_sub(SHOWN) {
        Some(more @ 1..) => {
            let names: Vec<String> = paths[..SHOWN].iter().map(|path| format!("`{path}`")).collect();
            format!("{} and {more} more", names.join(", "))
        }
        _ => and(&paths),
    };
    Err(problem
        .note(format!("{} in training alone: {shown}", if could.len() == 1 { "one draws" } else { "these draw" }))
        .hint(format!("`set **:{op} {{ always = true }}` as the spec's last edit lets them draw at inference too")))
}

/// What is to be said of one run of a network that draws; None where none of its layers does.
pub fn remark(typed: &Typed, seed: u64) -> Option<String> {
    let drawing = drawing(typed).len();
    let draw = if drawing == 1 { "draws" } else { "draw" };
    (drawing > 0).then(|| {
        format!("note: {} {draw} at inference, and this is one sample, of seed {seed}", count(drawing, "layer"))
    })
}

/// Mean and standard deviation of numbers that are drawn several times, each for itself, by Welford's recurrence (1962) in
/// float64.
#[derive(Clone, Debug, Default)]
pub struct Moments {
    samples: u64,
    mean: Vec<f64>,
    /// Sums of squared differences from the mean.
    squares: Vec<f64>,
}

impl Moments {
    /// Adds a sample: as many numbers as the first had.
    ///
    /// # Panics
    /// If there are more or fewer.
    pub fn add(&mut self, values: impl ExactSizeIterator<Item = f64>) {
        if self.samples == 0 {
            self.mean = vec![0.0; values.len()];
            self.squares = vec![0.0; values.len()];
        }
        assert_eq!(values.len(), self.mean.len(), "a sample of other numbers");
        self.samples += 1;
        for ((mean, squares), value) in self.mean.iter_mut().zip(&mut self.squares).zip(values) {
            let apart = value - *mean;
            *mean += apart / self.samples as f64;
            *squares += apart * (value - *mean);
        }
    }

    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// With n - 1 as the divisor, as `torch.std`; NaN of a single sample.
    pub fn std(&self) -> Vec<f64> {
        let divisor = self.samples as f64 - 1.0;
        self.squares.iter().map(|squares| (squares / divisor).sqrt()).collect()
    }
}

/// Mean and standard deviation of every output of several runs.
#[derive(Clone, Debug, Default)]
pub struct Sampled(Vec<(String, Vec<usize>, Moments)>);

impl Sampled {
    /// Adds the outputs of a run.
    pub fn add(&mut self, outputs: &[(String, Tensor)]) {
        if self.0.is_empty() {
            self.0 = outputs.iter().map(|(name, y)| (name.clone(), y.shape().to_vec(), Moments::default())).collect();
        }
        for ((_, _, moments), (_, y)) in self.0.iter_mut().zip(outputs) {
            moments.add(y.data().iter().map(|value| f64::from(*value)));
        }
    }

    /// The mean of each output, and its standard deviation.
    pub fn finish(self) -> [Vec<(String, Tensor)>; 2] {
        let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
        let (mut means, mut stds) = (vec![], vec![]);
        for (name, shape, moments) in self.0 {
            means.push((name.clone(), Tensor::new(shape.clone(), single(moments.mean()))));
            stds.push((name, Tensor::new(shape, single(&moments.std()))));
        }
        [means, stds]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_textbook() {
        let samples = [[1e6 + 1.0, 3.0], [1e6 + 2.0, 3.0], [1e6 + 4.0, 3.0], [1e6 + 9.0, 3.0]];
        let mut moments = Moments::default();
        samples.iter().for_each(|sample| moments.add(sample.iter().copied()));
        assert_eq!(moments.mean(), [1e6 + 4.0, 3.0]);
        // (9 + 4 + 0 + 25) / 3
        assert!((moments.std()[0] - (38.0f64 / 3.0).sqrt()).abs() < 1e-9, "{:?}", moments.std());
        assert_eq!(moments.std()[1], 0.0);
        let mut one = Moments::default();
        one.add([5.0].into_iter());
        assert!(one.std()[0].is_nan());
        let mut odd = Moments::default();
        [1.0, f64::NAN, 2.0].iter().for_each(|value| odd.add([*value].into_iter()));
        assert!(odd.mean()[0].is_nan() && odd.std()[0].is_nan());
    }
}
