//! Winograd's algorithm: all sizes of tiles against a plain loop, and its error for data that is hard on it.

use archc_base::Window;

use super::conv::{case, naive};
use super::*;

const BOTH: [Algorithm; 2] = [Algorithm::Winograd2, Algorithm::Winograd4];

#[test]
fn winograd_matches_a_plain_loop() {
    let three = [3, 3];
    let cases = [
        // smaller than a tile, exact tiles, tails of both kinds
        case(1, 1, 1, 16, 16, three, 1).pad([1; 4]),
        case(1, 3, 3, 5, 7, three, 1),
        case(1, 3, 9, 17, 33, three, 1),
        case(1, 8, 8, 32, 64, three, 1).pad([1; 4]),
        case(3, 7, 7, 20, 40, three, 1).pad([1; 4]),
        case(1, 13, 11, 33, 31, three, 1).pad([1; 4]),
        case(3, 6, 5, 16, 70, three, 1).pad([0, 1, 2, 1]),
        case(1, 9, 10, 64, 12, three, 1).pad([2, 0, 0, 3]),
        // rows of tiles that see padding alone
        case(1, 5, 5, 16, 16, three, 1).pad([6, 5, 7, 4]),
        // many blocks; a block begins and ends inside of a row of tiles
        case(1, 41, 43, 40, 24, three, 1).pad([1; 4]),
        case(3, 30, 30, 130, 16, three, 1).pad([1; 4]),
        // groups: whole vectors, merged, with tails
        case(1, 9, 9, 96, 96, three, 3).pad([1; 4]),
        case(1, 9, 9, 64, 64, three, 16).pad([1; 4]),
        case(1, 9, 9, 60, 90, three, 3).pad([1; 4]),
        case(3, 9, 9, 24, 12, three, 12).pad([1; 4]),
        case(1, 30, 20, 48, 24, three, 6).pad([1; 4]),
    ];
    for isa in Isa::all() {
        let mut rng = Rng::new(17);
        for case in &cases {
            for algorithm in BOTH {
                case.check(isa, algorithm, &mut rng);
                case.check(isa, algorithm, &mut rng);
            }
        }
    }
}

/// A value of about the standard normal distribution.
fn normal(rng: &mut Rng) -> f32 {
    (0..12).map(|_| rng.float()).sum::<f32>() / 2.0
}

/// The relative L2 error of each algorithm, and the largest error over the outputs' root mean square.
fn errors(isa: Isa, c: usize, x: &[f32], size: usize, rng: &mut Rng) -> [[f64; 2]; 3] {
    let shape = ConvShape { window: Window { padding: [1; 4], ..Window::square(3) }, ..ConvShape::new(c, 32, 3) };
    let weights: Vec<f32> = (0..shape.weight_len()).map(|_| normal(rng) / ((9 * c) as f32).sqrt()).collect();
    let x = Image::new(x, [1, size, size, c]);
    let want = naive(&shape, &x, &weights);
    let square = want.iter().map(|v| v * v).sum::<f64>();
    [Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4].map(|algorithm| {
        let packed = PackedConv::pack_for(isa, &shape, algorithm, &weights);
        let mut y = poison(size * size * 32);
        packed.run(x, ImageMut::new(&mut y, [1, size, size, 32]), &Epilogue::default());
        let errors = y.iter().zip(&want).map(|(&y, want)| (f64::from(y) - want).abs());
        let sum: f64 = errors.clone().map(|e| e * e).sum();
        [(sum / square).sqrt(), errors.fold(0.0, f64::max) / (square / want.len() as f64).sqrt()]
    })
}

/// A network's budget is 1e-4 over all its layers (relative L2). Measured, over both sizes and all kinds of data: direct
/// 2.9e-7 to 8.5e-7 of the L2 norm, F2 2.0e-7 to 4.9e-7, F4 6.7e-7 to 1.6e-6; the largest error over the root mean
/// square: direct 8.5e-6, F2 7.3e-6, F4 3.1e-5. The bounds leave twice that for other seeds and sums in another order.
#[test]
fn the_error_stays_near_that_of_the_direct_kernel() {
    let size = 22;
    for isa in Isa::all() {
        for c in [64, 256] {
            let mut rng = Rng::new(c as u64);
            let mut draw = |map: &dyn Fn(usize, &mut Rng) -> f32| -> Vec<f32> {
                (0..size * size * c).map(|i| map(i % c, &mut rng)).collect()
            };
            let kinds = [
                ("normal", draw(&|_, rng| normal(rng))),
                ("one value in 1000 times 100", {
                    draw(&|_, rng| normal(rng).max(0.0) * if rng.pick(0, 999) == 0 { 100.0 } else { 1.0 })
                }),
                ("one channel in 64 times 100", {
                    draw(&|channel, rng| normal(rng).max(0.0) * if channel % 64 == 5 { 100.0 } else { 1.0 })
                }),
            ];
            for (kind, x) in &kinds {
                let [direct, two, four] = errors(isa, c, x, size, &mut Rng::new(3));
                let bounds =
                    [("direct", direct, [2e-6, 2e-5]), ("F2", two, [1e-6, 1.5e-5]), ("F4", four, [3e-6, 6e-5])];
                for (name, [l2, most], bound) in bounds {
                    let what = format!("{name} {} {c} channels, {kind}: {l2:.1e} and at most {most:.1e}", isa.name());
                    assert!(l2 <= bound[0] && most <= bound[1], "{what}");
                }
            }
        }
    }
}

#[test]
fn the_choice_follows_sizes_and_policy() {
    let Some(isa) = Isa::named("avx512") else { return };
    let pick = |batch, size, policy, shape: ConvShape| {
        choose::<f32>(
            isa,
            &ConvShape { window: Window { padding: [1; 4], ..shape.window }, ..shape },
            &Site { batch, size: [size; 2], policy },
        )
    };
    let square = |c| ConvShape::new(c, c, 3);
    let fast = |batch, size, c| pick(batch, size, Policy::Fast, square(c));
    // plenty of tiles: four times fewer products
    for (size, c) in [(224, 64), (112, 128), (56, 64), (56, 256), (28, 128), (28, 512)] {
        assert_eq!(fast(1, size, c), Algorithm::Winograd4, "{size} {c}");
    }
    // few tiles: all time is reading weights, of which there are 36, 16 or 9 for a window
    assert_eq!(fast(1, 14, 512), Algorithm::Winograd2);
    assert_eq!(fast(1, 7, 512), Algorithm::Winograd2);
    assert_eq!(fast(1, 3, 512), Algorithm::Direct);
    assert_eq!(fast(8, 14, 512), Algorithm::Winograd4);
    assert_eq!(fast(8, 7, 512), Algorithm::Winograd4);
    // few channels, groups, other windows
    assert_eq!(pick(1, 224, Policy::Fast, ConvShape::new(3, 64, 3)), Algorithm::Direct);
    assert_eq!(pick(1, 56, Policy::Fast, ConvShape { groups: 64, ..square(64) }), Algorithm::Direct);
    assert_eq!(pick(1, 56, Policy::Fast, ConvShape { groups: 32, ..square(128) }), Algorithm::Direct);
    assert_eq!(pick(1, 28, Policy::Fast, ConvShape { groups: 8, ..square(256) }), Algorithm::Winograd4);
    assert_eq!(
        pick(1, 56, Policy::Fast, ConvShape { window: Window { stride: [2; 2], ..Window::square(3) }, ..square(64) }),
        Algorithm::Direct
    );
    assert_eq!(
        pick(1, 56, Policy::Fast, ConvShape { window: Window { dilation: [2; 2], ..Window::square(3) }, ..square(64) }),
        Algorithm::Direct
    );
    assert_eq!(pick(1, 56, Policy::Fast, ConvShape::new(64, 64, 5)), Algorithm::Direct);
    // what is to run once does not pay for its start where weights are many
    assert_eq!(pick(1, 56, Policy::Exact, square(64)), Algorithm::Direct);
    assert_eq!(pick(1, 56, Policy::Runs(1), square(64)), Algorithm::Winograd4);
    assert_eq!(pick(1, 14, Policy::Runs(1), square(512)), Algorithm::Direct);
    assert_eq!(pick(1, 14, Policy::Runs(1000), square(512)), Algorithm::Winograd2);
}
