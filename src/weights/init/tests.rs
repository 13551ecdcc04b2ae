//! The distributions' moments and bounds, the shapes that identity takes, and snapshots that pin the bits.

use super::*;

const N: usize = 1 << 20;

fn filled(init: Init, shape: &[usize]) -> Vec<f32> {
    fill(&init, shape, 0, "fc.weight").unwrap_or_else(|problem| panic!("{problem:?}"))
}

/// (mean, standard deviation, fourth moment over the square of the second, smallest, largest)
fn moments(values: &[f32]) -> (f64, f64, f64, f32, f32) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let central = |power: i32| values.iter().map(|&v| (f64::from(v) - mean).powi(power)).sum::<f64>() / n;
    let (second, fourth) = (central(2), central(4));
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    (mean, second.sqrt(), fourth / (second * second), low, high)
}

/// The share of `values` below each of `at` must be what `cdf` says, within 5 standard errors.
fn follows(values: &[f32], at: &[f32], cdf: impl Fn(f64) -> f64) {
    let n = values.len() as f64;
    for &x in at {
        let share = values.iter().filter(|&&v| v < x).count() as f64 / n;
        let p = cdf(f64::from(x));
        let error = (p * (1.0 - p) / n).sqrt();
        assert!((share - p).abs() <= 5.0 * error + 1e-9, "below {x}: {share}, expected {p}");
    }
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + x.signum() * erf(x.abs() / std::f64::consts::SQRT_2))
}

#[test]
fn normals_are_normal() {
    let values = filled(Init::Normal { std: 2.0 }, &[N]);
    let (mean, std, kurtosis, low, high) = moments(&values);
    assert!(mean.abs() < 0.01, "{mean}");
    assert!((std - 2.0).abs() < 0.01, "{std}");
    assert!((kurtosis - 3.0).abs() < 0.03, "{kurtosis}");
    assert!((-14.0..-8.0).contains(&low) && (8.0..14.0).contains(&high), "{low} {high}");
    follows(&values, &[-8.0, -6.0, -4.0, -2.0, -1.0, -0.1, 0.0, 0.5, 1.0, 3.0, 5.0, 7.0], |x| normal_cdf(x / 2.0));
    // The two of a pair do not hang together.
    let product: f64 = (0..N / 64)
        .flat_map(|run| (0..16).map(move |b| run * 64 + b))
        .fold(0.0, |sum, i| sum + f64::from(values[i]) * f64::from(values[i + 16]));
    assert!((product / (N / 4) as f64).abs() < 0.05, "{product}");
}

#[test]
fn uniforms_are_uniform_and_in_bounds() {
    let values = filled(Init::Uniform { bound: 0.3 }, &[N]);
    let (mean, std, kurtosis, low, high) = moments(&values);
    assert!(mean.abs() < 1e-3, "{mean}");
    assert!((std - 0.3 / 3f64.sqrt()).abs() < 1e-3, "{std}");
    assert!((kurtosis - 1.8).abs() < 0.01, "{kurtosis}");
    assert!((-0.3..-0.29999).contains(&low) && (0.29999..0.3).contains(&high), "{low} {high}");
    follows(&values, &[-0.25, -0.1, 0.0, 0.2, 0.29], |x| (x / 0.3 + 1.0) / 2.0);
}

#[test]
fn truncated_normals_are_cut_at_two() {
    // Narrow: nothing to cut, a plain normal.
    let (mean, std, kurtosis, low, high) = moments(&filled(Init::TruncNormal { std: 0.02 }, &[N]));
    assert!(mean.abs() < 1e-4 && (std - 0.02).abs() < 1e-4 && (kurtosis - 3.0).abs() < 0.03, "{mean} {std} {kurtosis}");
    assert!((-0.13..-0.08).contains(&low) && (0.08..0.13).contains(&high), "{low} {high}");
    // As wide as the cut: the normal between -2 and 2 standard deviations.
    let values = filled(Init::TruncNormal { std: 1.0 }, &[N]);
    let (_, std, _, low, high) = moments(&values);
    assert!((std - 0.879_626).abs() < 0.005, "{std}");
    assert!((-2.0..-1.999).contains(&low) && (1.999..=2.0).contains(&high), "{low} {high}");
    let inside = normal_cdf(2.0) - normal_cdf(-2.0);
    follows(&values, &[-1.9, -1.0, 0.0, 0.7, 1.8], |x| (normal_cdf(x) - normal_cdf(-2.0)) / inside);
    // Far wider: uniform.
    let values = filled(Init::TruncNormal { std: 1e6 }, &[N]);
    follows(&values, &[-1.5, -0.5, 0.0, 1.0, 1.9], |x| (x + 2.0) / 4.0);
    assert_eq!(filled(Init::TruncNormal { std: 0.0 }, &[3]), [0.0; 3]);
}

#[test]
fn fans_are_those_of_pytorch() {
    // conv [64, 32, 3, 3]: fan_in 288, fan_out 576.
    let shape = &[64, 32, 3, 3];
    let bound = |init| moments(&filled(init, shape)).4;
    let near = |got: f32, expected: f64| assert!((f64::from(got) / expected - 1.0).abs() < 1e-3, "{got} {expected}");
    near(bound(Init::KaimingUniform), (6.0f64 / 288.0).sqrt());
    near(bound(Init::XavierUniform), (6.0f64 / 864.0).sqrt());
    let (_, std, ..) = moments(&filled(Init::KaimingNormal, shape));
    assert!((std / (2.0f64 / 288.0).sqrt() - 1.0).abs() < 0.02, "{std}");
    let problem = fill(&Init::KaimingNormal, &[10], 0, "fc.bias").unwrap_err();
    assert_eq!(problem.message, "`fc.bias` needs at least two axes for its fans, got [10]");
    assert_eq!(filled(Init::KaimingNormal, &[0, 0, 3]), [0f32; 0]);
}

#[test]
fn constants_fill() {
    assert_eq!(filled(Init::Zeros, &[2, 2]), [0.0; 4]);
    assert_eq!(filled(Init::Ones, &[3]), [1.0; 3]);
    assert_eq!(filled(Init::Constant(-4.6), &[]), [-4.6]);
    assert_eq!(filled(Init::Ones, &[0, 5]), [0f32; 0]);
}

#[test]
fn identity_is_a_one_in_the_middle() {
    assert_eq!(filled(Init::Identity, &[2]), [1.0, 1.0]);
    assert_eq!(filled(Init::Identity, &[2, 2]), [1.0, 0.0, 0.0, 1.0]);
    let conv = filled(Init::Identity, &[3, 3, 3, 5]);
    for (i, value) in conv.iter().enumerate() {
        let (out, ins, place) = (i / 45, i / 15 % 3, i % 15);
        assert_eq!(*value, if out == ins && place == 7 { 1.0 } else { 0.0 }, "{i}");
    }
    for (shape, message) in [
        (&[2, 3][..], "as many inputs as outputs"),
        (&[2, 2, 2, 3], "odd size"),
        (&[2, 2, 0, 3], "odd size"),
        (&[4, 1, 3, 3], "as many inputs as outputs"),
        (&[], "a norm's scale"),
    ] {
        let problem = fill(&Init::Identity, shape, 0, "conv.weight").unwrap_err();
        assert!(problem.message.contains(message), "{shape:?}: {}", problem.message);
    }
}

#[test]
fn a_tensor_depends_on_seed_and_key_and_not_on_threads() {
    let init = Init::Normal { std: 1.0 };
    let one = fill(&init, &[200_003], 1, "a").unwrap();
    assert_ne!(one, fill(&init, &[200_003], 2, "a").unwrap());
    assert_ne!(one, fill(&init, &[200_003], 1, "b").unwrap());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(one, pool.install(|| fill(&init, &[200_003], 1, "a").unwrap()));
    }
    // A longer tensor begins with the same numbers.
    assert_eq!(one[..1000], fill(&init, &[1000], 1, "a").unwrap());
}

#[test]
fn what_cannot_be_meant_or_held_is_said() {
    let code = |init: Init, shape: &[usize]| fill(&init, shape, 0, "x").unwrap_err().code;
    assert_eq!(code(Init::Zeros, &[usize::MAX, 2]), Code::TooLarge);
    assert_eq!(code(Init::Zeros, &[1 << 60]), Code::Resource);
    assert_eq!(code(Init::Normal { std: -1.0 }, &[1]), Code::BadValue);
    assert_eq!(code(Init::Normal { std: f64::NAN }, &[1]), Code::BadValue);
    assert_eq!(code(Init::TruncNormal { std: f64::INFINITY }, &[1]), Code::BadValue);
    assert_eq!(code(Init::Uniform { bound: f64::NAN }, &[1]), Code::BadValue);
    assert_eq!(code(Init::From { file: "a".into(), key: "b".into() }, &[1]), Code::BadValue);
}

#[test]
fn the_functions_are_as_exact_as_float32() {
    for i in 1..200_000 {
        let x = i as f32 / 200_000.0;
        let exact = f64::from(x).ln();
        assert!((f64::from(ln(x)) - exact).abs() <= 2e-7 * exact.abs() + 1e-9, "ln {x}");
        let turn = (i as u32).wrapping_mul(21_474);
        let angle = f64::from(turn) / 4_294_967_296.0 * std::f64::consts::TAU;
        let (sin, cos) = sin_cos_turn(turn);
        assert!((f64::from(sin) - angle.sin()).abs() < 1.5e-7, "sin {angle}");
        assert!((f64::from(cos) - angle.cos()).abs() < 1.5e-7, "cos {angle}");
        // The inverse goes back through the function.
        let back = erf(f64::from(erf_inv(x * 0.999)));
        assert!((back - f64::from(x * 0.999)).abs() < 1e-6, "erf_inv {x}: {back}");
    }
}

#[test]
fn the_bits_stay_what_they_are() {
    // A change here changes every fresh network; it is a change of the language and belongs into the changelog.
    let some = |init: Init| -> Vec<u32> { filled(init, &[20, 4]).iter().step_by(13).map(|v| v.to_bits()).collect() };
    let uniform = [1041924448, 1057637104, 3172101888, 3203799820, 1045176968, 1057513250, 1046447216];
    let normal = [3216149355, 1060957685, 3179607995, 3196268932, 1049990131, 1067638901, 3221247965];
    let trunc_normal = [1043978531, 1060304939, 3173989081, 3206310624, 1047957752, 1060116497, 1049051286];
    assert_eq!(some(Init::Uniform { bound: 1.0 }), uniform);
    assert_eq!(some(Init::Normal { std: 1.0 }), normal);
    assert_eq!(some(Init::TruncNormal { std: 1.0 }), trunc_normal);
    // The order that this file's head tells: value 16 w + b of a run is word w of block b.
    let philox = Philox::named(0, "fc.weight");
    for (i, value) in filled(Init::Uniform { bound: 2.0 }, &[1000]).into_iter().enumerate() {
        let (run, place) = (i / 64, i % 64);
        let word = philox.block((run * 16 + place % 16) as u64)[place / 16];
        assert_eq!(value, crate::philox::unit(word.wrapping_add(1 << 31)) * 4.0 - 2.0);
    }
}

#[test]
fn a_tensor_of_another_file_must_fit() {
    use crate::weights::samples::{self, Sample};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    std::fs::write(&path, samples::safetensors(&[Sample::f32("head.weight", &[2, 1], &[1.0, 2.0])])).unwrap();
    let store = Store::open_file(&path).unwrap();
    assert_eq!(from_file(&store, "head.weight", &[2, 1], "fc.weight").unwrap(), [1.0, 2.0]);
    let problem = from_file(&store, "head.weight", &[1, 2], "fc.weight").unwrap_err();
    assert!(
        problem.message.starts_with("`fc.weight` needs [1, 2], got [2, 1] from `head.weight`"),
        "{}",
        problem.message
    );
    let problem = from_file(&store, "haed.weight", &[2, 1], "fc.weight").unwrap_err();
    assert_eq!(problem.hints, ["did you mean `head.weight`?"]);
}
