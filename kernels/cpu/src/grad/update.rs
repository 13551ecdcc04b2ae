//! Optimisers: PyTorch's rules, one pass over weights, gradients and moments.
//!
//! Memory is the limit: every number is read and written once. The loops are plain, and vector code where the
//! instruction set allows.

use archc_base::Rule;

use super::super::par::{Shared, ranges};
use super::super::simd::{Isa, Simd, Task};

/// Arrays of the same length.
pub struct Slots<'a> {
    pub weights: &'a mut [f32],
    pub gradients: &'a [f32],
    /// As many as [`Rule::moments`] says.
    pub moments: Vec<&'a mut [f32]>,
}

/// Changes weights with rate `lr`; gradients count times `scale`, and `decay` times the weight is added to them (or, if
/// decoupled, subtracted from the weight).
pub fn update(isa: Isa, rule: Rule, lr: f64, decay: f64, scale: f32, slots: Slots) {
    let Slots { weights, gradients, moments } = slots;
    let len = weights.len();
    assert!(gradients.len() >= len && moments.len() >= rule.moments(), "arrays of other lengths");
    assert!(moments.iter().all(|moment| moment.len() >= len), "arrays of other lengths");
    let w = Shared(weights.as_mut_ptr());
    let moments: Vec<Shared> = moments.into_iter().map(|moment| Shared(moment.as_mut_ptr())).collect();
    ranges(len, 8, |range| {
        let own = |shared: Shared| {
            // SAFETY: each task has its own part of every array.
            unsafe { std::slice::from_raw_parts_mut(shared.at(range.start), range.len()) }
        };
        let mut moments: [&mut [f32]; 3] =
            std::array::from_fn(|at| moments.get(at).map_or(&mut [] as &mut [f32], |moment| own(*moment)));
        isa.run(Part { rule, lr, decay, scale, w: own(w), g: &gradients[range.clone()], moments: &mut moments });
    });
}

struct Part<'a, 'b> {
    rule: Rule,
    lr: f64,
    decay: f64,
    scale: f32,
    w: &'a mut [f32],
    g: &'a [f32],
    moments: &'a mut [&'b mut [f32]; 3],
}

impl Task for Part<'_, '_> {
    type Output = ();
    /// # Safety
    /// As [`Task::run`].
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Part { rule, lr, decay, scale, w, g, moments } = self;
        let [first, second, third] = moments;
        let (rate, decay32) = (lr as f32, decay as f32);
        match rule {
            Rule::Sgd { momentum: 0.0, .. } => {
                for (w, g) in w.iter_mut().zip(g) {
                    *w -= rate * (g * scale + decay32 * *w);
                }
            }
            Rule::Sgd { momentum, dampening, nesterov, first: begins } => {
                // the first gradient is the momentum as it is
                let (keep, take) = if begins { (0.0, 1.0) } else { (momentum, 1.0 - dampening) };
                let (direct, by) = if nesterov { (1.0, momentum) } else { (0.0, 1.0) };
                for ((w, g), m) in w.iter_mut().zip(g).zip(first.iter_mut()) {
                    let d = g * scale + decay32 * *w;
                    *m = keep * *m + take * d;
                    *w -= rate * (direct * d + by * *m);
                }
            }
            Rule::Adam { betas, eps, decoupled, amsgrad, corrections } => {
                let shrink = if decoupled { (1.0 - lr * decay) as f32 } else { 1.0 };
                let decay = if decoupled { 0.0 } else { decay32 };
                let [b1, b2] = betas.map(|beta| beta as f32);
                let (rate, root) = ((lr / corrections[0]) as f32, 1.0 / (corrections[1].sqrt() as f32));
                let pairs = w.iter_mut().zip(g).zip(first.iter_mut()).zip(second.iter_mut());
                if amsgrad {
                    for ((((w, g), m), v), most) in pairs.zip(third.iter_mut()) {
                        let d = g * scale + decay * *w;
                        *m += (1.0 - b1) * (d - *m);
                        *v = b2 * *v + (1.0 - b2) * d * d;
                        *most = most.max(*v);
                        *w = *w * shrink - rate * *m / (most.sqrt() * root + eps);
                    }
                } else {
                    for (((w, g), m), v) in pairs {
                        let d = g * scale + decay * *w;
                        *m += (1.0 - b1) * (d - *m);
                        *v = b2 * *v + (1.0 - b2) * d * d;
                        *w = *w * shrink - rate * *m / (v.sqrt() * root + eps);
                    }
                }
            }
            Rule::RmsProp { alpha, eps, momentum, centered } => {
                let at = |moments: &mut [f32], i: usize| moments.get(i).copied().unwrap_or(0.0);
                for i in 0..w.len() {
                    let d = g[i] * scale + decay32 * w[i];
                    first[i] = alpha * first[i] + (1.0 - alpha) * d * d;
                    let mut square = first[i];
                    if centered {
                        second[i] += (1.0 - alpha) * (d - second[i]);
                        square -= second[i] * second[i];
                    }
                    let step = d / (square.sqrt() + eps);
                    if momentum == 0.0 {
                        w[i] -= rate * step;
                    } else {
                        let buffer: &mut [f32] = if centered { third } else { second };
                        let moved = momentum * at(buffer, i) + step;
                        buffer[i] = moved;
                        w[i] -= rate * moved;
                    }
                }
            }
        }
    }
}

/// The sum of squares, by blocks of a fixed size, in float64.
pub fn norm_squared(values: &[f32]) -> f64 {
    let block = |values: &[f32]| values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
    values.chunks(1 << 16).map(block).sum()
}
