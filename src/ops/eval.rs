//! What the plain references share: walking over indices and along axes. Slow and obvious.

use crate::tensor::Tensor;

/// The tensor of `shape` that has `value(index)` at every index.
pub fn build(shape: &[usize], mut value: impl FnMut(&[usize]) -> f32) -> Tensor {
    let len: usize = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut data = Vec::with_capacity(len);
    for _ in 0..len {
        data.push(value(&index));
        for (at, len) in index.iter_mut().zip(shape).rev() {
            *at += 1;
            if *at < *len {
                break;
            }
            *at = 0;
        }
    }
    Tensor::new(shape, data)
}

/// The value of `x` at `index`.
pub fn at(x: &Tensor, index: &[usize]) -> f32 {
    x.data()[index.iter().zip(x.shape()).fold(0, |offset, (at, len)| offset * len + at)]
}

/// What `of` makes of samples [N, ..] of so many axes each: of a value that has no more axes, as of one sample.
pub fn samples(x: &Tensor, axes: usize, out: &[usize], of: impl FnOnce(&Tensor, &[usize]) -> Tensor) -> Tensor {
    if x.shape().len() > axes {
        return of(x, out);
    }
    let one = |shape: &[usize]| [&[1][..], shape].concat();
    of(&x.clone().reshape(one(x.shape())), &one(out)).reshape(out)
}

/// `x` with `change` applied to every run of values along `axis`.
pub fn along(x: &Tensor, axis: usize, change: impl Fn(&mut [f64])) -> Tensor {
    let (len, inner) = (x.shape()[axis], x.shape()[axis + 1..].iter().product::<usize>());
    let mut result = x.clone();
    let mut lane = vec![0.0; len];
    for block in result.data_mut().chunks_exact_mut((len * inner).max(1)) {
        for at in 0..inner {
            for (k, value) in lane.iter_mut().enumerate() {
                *value = block[k * inner + at] as f64;
            }
            change(&mut lane);
            for (k, value) in lane.iter().enumerate() {
                block[k * inner + at] = *value as f32;
            }
        }
    }
    result
}

/// Every value of `x` changed on its own.
pub fn each(x: &Tensor, change: impl Fn(f64) -> f64) -> Tensor {
    Tensor::new(x.shape(), x.data().iter().map(|value| change(*value as f64) as f32).collect())
}

/// `axis`, counted from the end where negative. The axis was checked when the shape was inferred.
pub fn axis_of(axis: i64, x: &Tensor) -> usize {
    let rank = x.shape().len() as i64;
    (if axis < 0 { axis + rank } else { axis }) as usize
}

/// Start of every channel's block of a tensor [N, C, ..]: (channel, values), in order.
pub fn channels(x: &mut Tensor) -> impl Iterator<Item = (usize, &mut [f32])> {
    let channels = x.shape()[1];
    let size = x.shape()[2..].iter().product::<usize>().max(1);
    x.data_mut().chunks_exact_mut(size).enumerate().map(move |(block, values)| (block % channels, values))
}
