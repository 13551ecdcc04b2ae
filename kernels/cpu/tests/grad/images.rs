//! Pooling, resampling, and what is repeated.

use archc_base::{Pool, Resample, Window};
use archc_cpu::{ConvShape, Image, ImageMut, Isa, Strided, grad};

use crate::products::products;
use crate::support::{SHAPES, close, dense, on_threads, rng, spaced};

#[test]
fn pooling() {
    let window = |kernel, stride, padding, dilation| Window { kernel, stride, padding, dilation };
    let windows = [
        window([2, 2], [2, 2], [0; 4], [1, 1]),
        window([3, 3], [2, 2], [1; 4], [1, 1]),
        window([3, 2], [1, 2], [1, 0, 1, 1], [1, 1]),
        window([2, 2], [1, 1], [0; 4], [2, 2]),
    ];
    for (number, window) in windows.into_iter().enumerate() {
        for (n, [h, w]) in SHAPES.iter().copied() {
            for (kind, c) in
                [(Pool::Max, 19), (Pool::Mean { count_padding: true }, 5), (Pool::Mean { count_padding: false }, 33)]
            {
                if kind != Pool::Max && window.dilation != [1, 1] {
                    continue;
                }
                let conv = ConvShape { window, ..ConvShape::new(1, 1, 1) };
                let [oh, ow] = window.output([h, w]);
                let mut rng = rng(number as u64 + 230);
                // few values, so that maxima have equals
                let x: Vec<f32> = rng.vec(n * h * w * c).iter().map(|value| (value * 4.0).round()).collect();
                let dy = rng.vec(n * oh * ow * c);
                let mut seen = vec![vec![]; n * oh * ow];
                products(&conv, [n, h, w], |y, from, _| seen[y].push(from));
                let mut want = vec![0.0; x.len()];
                for (y, places) in seen.iter().enumerate() {
                    for channel in 0..c {
                        let d = f64::from(dy[y * c + channel]);
                        let value = |from: usize| x[from * c + channel];
                        match kind {
                            Pool::Max => {
                                let most = places.iter().map(|at| value(*at)).fold(f32::NEG_INFINITY, f32::max);
                                let first = places.iter().find(|at| value(**at) == most).expect("a window");
                                want[first * c + channel] += d;
                            }
                            Pool::Mean { count_padding } => {
                                let all = window.taps();
                                let count = if count_padding { all } else { places.len() };
                                places.iter().for_each(|at| want[at * c + channel] += d / count as f64);
                            }
                        }
                    }
                }
                let (x_gaps, dy_gaps) = (spaced(&x, c, c + 2), spaced(&dy, c, c + 1));
                for isa in Isa::all() {
                    let what = format!("{kind:?} {window:?} of {n} x {h} x {w} x {c} with {}", isa.name());
                    let got = on_threads(&what, || {
                        let mut out = vec![f32::NAN; n * h * w * (c + 3)];
                        let to = ImageMut::new(&mut out, [n, h, w, c]).spaced(c + 3);
                        let dy = Image::new(&dy_gaps, [n, oh, ow, c]).spaced(c + 1);
                        let x = Image::new(&x_gaps, [n, h, w, c]).spaced(c + 2);
                        grad::pool_data(isa, kind, &window, dy, x, to);
                        dense(&out, c, c + 3)
                    });
                    close(&got, &want, 1e-5, &what);
                }
            }
        }
    }
    // parts of an image that overlap where its size is no multiple
    for (kind, [oh, ow]) in [(Pool::Max, [3, 2]), (Pool::MEAN, [3, 4]), (Pool::MEAN, [1, 1])] {
        let [n, h, w, c] = [2, 7, 5, 18];
        let mut rng = rng(260);
        let (x, dy) = (rng.vec(n * h * w * c), rng.vec(n * oh * ow * c));
        let span = |at: usize, parts: usize, size: usize| at * size / parts..((at + 1) * size).div_ceil(parts);
        let mut want = vec![0.0; x.len()];
        for (at, d) in dy.iter().enumerate() {
            let (image, p, q, channel) = (at / (oh * ow * c), at / (ow * c) % oh, at / c % ow, at % c);
            let window: Vec<usize> = span(p, oh, h)
                .flat_map(|y| span(q, ow, w).map(move |x| ((image * h + y) * w + x) * c + channel))
                .collect();
            match kind {
                Pool::Max => {
                    let most = window.iter().copied().max_by(|a, b| x[*a].total_cmp(&x[*b])).expect("a window");
                    want[most] += f64::from(*d);
                }
                Pool::Mean { .. } => {
                    window.iter().for_each(|to| want[*to] += f64::from(*d) / window.len() as f64);
                }
            }
        }
        for isa in Isa::all() {
            let got = on_threads("adaptive", || {
                let mut out = vec![f32::NAN; x.len()];
                let (dy, x) = (Image::new(&dy, [n, oh, ow, c]), Image::new(&x, [n, h, w, c]));
                grad::adaptive_pool_data(isa, kind, dy, x, ImageMut::new(&mut out, [n, h, w, c]));
                out
            });
            close(&got, &want, 1e-5, &format!("{kind:?} to {oh} x {ow} with {}", isa.name()));
        }
    }
}

/// Resampling is linear, so that its backward is what makes `dy . resize(x) = resize_data(dy) . x` for every x: here for
/// each unit.

#[test]
fn resampling() {
    let [n, h, w, c] = [1, 4, 3, 5];
    for (_, mode) in Resample::ALL {
        for (scale, [oh, ow]) in [(None, [9, 7]), (Some([2.0, 1.5]), [8, 4]), (None, [2, 2])] {
            let dy = rng(290).vec(n * oh * ow * c);
            for isa in Isa::all() {
                let what = format!("{mode:?} to {oh} x {ow} with {}", isa.name());
                let mut want = vec![0.0; n * h * w * c];
                for (at, want) in want.iter_mut().enumerate() {
                    let mut unit = vec![0.0; n * h * w * c];
                    unit[at] = 1.0;
                    let mut y = vec![f32::NAN; n * oh * ow * c];
                    archc_cpu::resize(
                        isa,
                        mode,
                        scale,
                        Image::new(&unit, [n, h, w, c]),
                        ImageMut::new(&mut y, [n, oh, ow, c]),
                    );
                    *want = y.iter().zip(&dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum();
                }
                let got = on_threads(&what, || {
                    let mut out = vec![f32::NAN; n * h * w * c];
                    grad::resize_data(
                        isa,
                        mode,
                        scale,
                        Image::new(&dy, [n, oh, ow, c]),
                        ImageMut::new(&mut out, [n, h, w, c]),
                    );
                    out
                });
                close(&got, &want, 1e-5, &what);
            }
        }
    }
}

#[test]
fn what_was_repeated_is_summed() {
    let shape = [3, 5, 4, 19];
    let len = shape.iter().product::<usize>();
    let strides = [5 * 4 * 19, 4 * 19, 19, 1];
    let mut rng = rng(320);
    let (dy, other) = (rng.vec(len), rng.vec(len));
    for marks in 0..16usize {
        let marks: Vec<bool> = (0..4).map(|axis| marks >> axis & 1 == 1).collect();
        let place = |at: usize| {
            let mut to = 0;
            for axis in 0..4 {
                if !marks[axis] {
                    to = to * shape[axis] + at / strides[axis] % shape[axis];
                }
            }
            to
        };
        let rest: usize = (0..4).filter(|axis| !marks[*axis]).map(|axis| shape[axis]).product();
        let (mut plain, mut times) = (vec![0.0; rest], vec![0.0; rest]);
        for at in 0..len {
            plain[place(at)] += f64::from(dy[at]);
            times[place(at)] += f64::from(dy[at]) * f64::from(other[at]);
        }
        let view = |data| Strided { data, strides: &strides };
        for isa in Isa::all() {
            let what = format!("{marks:?} with {}", isa.name());
            let run = |other: Option<Strided>| {
                on_threads(&what, || {
                    let mut out = vec![f32::NAN; rest];
                    grad::sum_to(isa, &shape, &marks, view(&dy), other, &mut out);
                    out
                })
            };
            close(&run(None), &plain, 1e-5, &what);
            close(&run(Some(view(&other))), &times, 1e-5, &format!("products, {what}"));
        }
        // the mean's backward is the other way round
        let small = &dy[..rest];
        let mut small_strides = [0; 4];
        let mut step = 1;
        for axis in (0..4).rev().filter(|axis| !marks[*axis]) {
            small_strides[axis] = step;
            step *= shape[axis];
        }
        let mut out = vec![f32::NAN; len];
        grad::mean_data(&shape, Strided { data: small, strides: &small_strides }, 0.25, &mut out, &strides);
        close(&out, &(0..len).map(|at| 0.25 * f64::from(small[place(at)])).collect::<Vec<_>>(), 1e-6, "mean");
        // maxima, of few values, share with their equals
        let x: Vec<f32> = other.iter().map(|value| (value * 3.0).round()).collect();
        let mut most = vec![f32::NEG_INFINITY; rest];
        (0..len).for_each(|at| most[place(at)] = most[place(at)].max(x[at]));
        let mut counts = vec![0.0; rest];
        (0..len).for_each(|at| counts[place(at)] += f64::from(u8::from(x[at] == most[place(at)])));
        let share = |at: usize| {
            let to = place(at);
            if x[at] == most[to] { f64::from(small[to]) / counts[to] } else { 0.0 }
        };
        let mut out = vec![f32::NAN; len];
        grad::max_data(&shape, &marks, small, view(&x), &most, &mut out);
        close(&out, &(0..len).map(share).collect::<Vec<_>>(), 1e-6, "maxima");
    }
    let mut table = vec![f32::NAN; 12];
    grad::gather_data(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &[2.0, 0.0, 2.0], 3, &mut table);
    assert_eq!(table, [4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 8.0, 10.0, 12.0, 0.0, 0.0, 0.0]);
    // indices that name nothing
    grad::gather_data(&[1.0; 9], &[-1.0, 4.0, f32::NAN], 3, &mut table);
    assert!(table.iter().all(|value| *value == 0.0));
}
