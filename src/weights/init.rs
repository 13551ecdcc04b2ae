//! Fresh tensors. A tensor's numbers depend on (seed, key, initialiser, shape) and on nothing else: not on the threads, not
//! on the machine, not on the other tensors. All arithmetic is plain float32 without fused operations, and logarithm,
//! sine and cosine are spelt out, so that the bits are the same everywhere.
//!
//! The values of a tensor are drawn in runs of 64 from 16 consecutive Philox blocks, words first: value `16 w + b` of a
//! run is word `w` of block `b`.

use rayon::prelude::*;

use super::store::Store;
use crate::diag::{Code, Problem};
use crate::ops::init::Init;
use crate::philox::{LANES, Philox};

/// The values of a tensor of `shape` that `init` describes, for the tensor `key` in a run with `seed`. Fans are PyTorch's.
/// [`Init::From`] needs an opened file: see [`from_file`].
pub fn fill(init: &Init, shape: &[usize], seed: u64, key: &str) -> Result<Vec<f32>, Problem> {
    let len = count(shape, key)?;
    let philox = Philox::named(seed, key);
    let bad = |what: String| Problem::new(Code::BadValue, what);
    let std = |std: f64| match std {
        std if std >= 0.0 && std.is_finite() => Ok(std as f32),
        other => Err(bad(format!("`{key}` needs a standard deviation of at least 0, got {other}"))),
    };
    let fans = || {
        let fans = fans(shape);
        fans.ok_or_else(|| {
            bad(format!("`{key}` needs at least two axes for its fans, got {shape:?}"))
                .hint("fill it with `normal(0.01)`, `zeros`, `ones` or `constant(..)`")
        })
    };
    Ok(match *init {
        Init::Zeros => zeros(len, key)?,
        Init::Ones => constant(zeros(len, key)?, 1.0),
        Init::Constant(value) => constant(zeros(len, key)?, value as f32),
        Init::Normal { std: s } => normal(zeros(len, key)?, philox, std(s)?),
        Init::TruncNormal { std: s } => trunc_normal(zeros(len, key)?, philox, std(s)?),
        Init::Uniform { bound } if bound >= 0.0 && bound.is_finite() => uniform(zeros(len, key)?, philox, bound as f32),
        Init::Uniform { bound } => return Err(bad(format!("`{key}` needs a bound of at least 0, got {bound}"))),
        Init::KaimingNormal => {
            let (fan_in, _) = fans()?;
            normal(zeros(len, key)?, philox, (2.0 / fan_in).sqrt() as f32)
        }
        Init::KaimingUniform => {
            let (fan_in, _) = fans()?;
            uniform(zeros(len, key)?, philox, (6.0 / fan_in).sqrt() as f32)
        }
        Init::XavierUniform => {
            let (fan_in, fan_out) = fans()?;
            uniform(zeros(len, key)?, philox, (6.0 / (fan_in + fan_out)).sqrt() as f32)
        }
        Init::Identity => identity(zeros(len, key)?, shape, key)?,
        Init::From { .. } => return Err(bad(format!("`{key}` is to be read from a file, not drawn"))),
    })
}

/// The values for `init .. with from("file", "theirs")`: the tensor `theirs` of `store`, which must have the shape of `key`.
pub fn from_file(store: &Store, theirs: &str, shape: &[usize], key: &str) -> Result<Vec<f32>, Problem> {
    check_from(store, theirs, shape, key)?;
    store.read(theirs)
}

/// Whether [`from_file`] would read it, as far as the file's header says.
pub fn check_from(store: &Store, theirs: &str, shape: &[usize], key: &str) -> Result<(), Problem> {
    if let Some(info) = store.tensors().get(theirs)
        && info.shape != shape
    {
        let message =
            format!("`{key}` needs {shape:?}, got {:?} from `{theirs}` of `{}`", info.shape, store.describe());
        let same =
            store.tensors().iter().filter(|(_, info)| info.shape == shape && info.dtype.size().is_some()).take(3);
        let same: Vec<String> = same.map(|(key, _)| format!("`{key}`")).collect();
        return Err(Problem::new(Code::ShapeMismatch, message).hint(match same.is_empty() {
            false => format!("of that shape it has {}", same.join(", ")),
            true => "name a tensor of that shape; this file has none".into(),
        }));
    }
    store.check(theirs)
}

/// The number of values, refused where it cannot be held.
fn count(shape: &[usize], key: &str) -> Result<usize, Problem> {
    let len = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    len.filter(|&len| len <= isize::MAX as usize / 4).ok_or_else(|| {
        Problem::new(Code::TooLarge, format!("`{key}` of shape {shape:?} has more values than can be counted"))
            .hint("make its layer smaller")
    })
}

fn zeros(len: usize, key: &str) -> Result<Vec<f32>, Problem> {
    // Asked for first, so that what does not fit is a message and not the end of the process.
    let mut probe: Vec<f32> = vec![];
    match probe.try_reserve_exact(len) {
        Ok(()) => {
            drop(probe);
            Ok(vec![0.0; len])
        }
        Err(_) => Err(Problem::new(Code::Resource, format!("`{key}` needs {} MB of memory", len / 250_000))
            .hint("make its layer smaller, or run it on a machine with more memory")),
    }
}

/// (fan_in, fan_out) of a weight [out, in, ..], None below two axes. At least one each, so that an empty tensor's are
/// no division by zero.
fn fans(shape: &[usize]) -> Option<(f64, f64)> {
    let [out, ins, field @ ..] = shape else { return None };
    let field: f64 = field.iter().map(|&size| size as f64).product();
    Some(((*ins as f64 * field).max(1.0), (*out as f64 * field).max(1.0)))
}

fn constant(mut values: Vec<f32>, value: f32) -> Vec<f32> {
    values.par_chunks_mut(CHUNK).for_each(|values| values.fill(value));
    values
}

fn identity(mut values: Vec<f32>, shape: &[usize], key: &str) -> Result<Vec<f32>, Problem> {
    let refuse = |need: &str| {
        Problem::new(Code::BadValue, format!("`{key}` cannot be the identity: it needs {need}, got {shape:?}"))
            .hint("where the layer is to start as nothing, `init = zeros` in a residual does it")
    };
    match *shape {
        // The scale of a norm.
        [_] => return Ok(constant(values, 1.0)),
        [out, ins, ref kernel @ ..] => {
            if out != ins {
                return Err(refuse("as many inputs as outputs"));
            }
            if kernel.iter().any(|size| size % 2 == 0) {
                return Err(refuse("a kernel with a middle, of odd size"));
            }
            let field: usize = kernel.iter().product();
            for channel in 0..out {
                if let Some(value) = values.get_mut((channel * ins + channel) * field + field / 2) {
                    *value = 1.0;
                }
            }
        }
        [] => return Err(refuse("a norm's scale, a square linear or a square convolution")),
    }
    Ok(values)
}

/// Values a piece of work; a multiple of a run.
const CHUNK: usize = 1 << 16;
const RUN: usize = 4 * LANES;

fn draw(
    mut values: Vec<f32>,
    philox: Philox,
    make: impl Fn([[u32; LANES]; 4]) -> [[f32; LANES]; 4] + Sync,
) -> Vec<f32> {
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut block = (chunk * (CHUNK / 4)) as u64;
        for values in values.chunks_mut(RUN) {
            let run = make(philox.batch(block));
            values.copy_from_slice(&run.as_flattened()[..values.len()]);
            block += LANES as u64;
        }
    });
    values
}

fn uniform(values: Vec<f32>, philox: Philox, bound: f32) -> Vec<f32> {
    // The upper 24 bits as a signed number, so that [-bound, bound) is met evenly around 0.
    let scale = bound / 8_388_608.0;
    draw(values, philox, |words| words.map(|word| word.map(|bits| (bits as i32 >> 8) as f32 * scale)))
}

/// Box and Muller's: two words make two normals.
fn normal(values: Vec<f32>, philox: Philox, std: f32) -> Vec<f32> {
    draw(values, philox, |words| {
        let mut out = [[0.0; LANES]; 4];
        for pair in [0, 2] {
            for lane in 0..LANES {
                // In (0, 1]: half a step above the lowest of 2^31 values, so that the tail reaches 6.6.
                let unit = ((words[pair][lane] >> 1) as i32 as f32 + 0.5) * (1.0 / 2_147_483_648.0);
                let radius = (-2.0 * ln(unit)).sqrt() * std;
                let (sin, cos) = sin_cos_turn(words[pair + 1][lane]);
                out[pair][lane] = radius * cos;
                out[pair + 1][lane] = radius * sin;
            }
        }
        out
    })
}

/// As `torch.nn.init.trunc_normal_(std = std)`: by the inverse of the distribution, cut off at -2 and 2.
fn trunc_normal(values: Vec<f32>, philox: Philox, std: f32) -> Vec<f32> {
    if std == 0.0 {
        return values;
    }
    const ROOT_2: f64 = std::f64::consts::SQRT_2;
    // The probability between the cuts, and the largest argument that still has a finite inverse in float32.
    let reach = (erf(2.0 / (f64::from(std) * ROOT_2)) as f32).min(1.0 - f32::EPSILON / 2.0);
    let scale = (f64::from(std) * ROOT_2) as f32;
    draw(values, philox, |words| {
        let mut out = [[0.0; LANES]; 4];
        for (out, word) in out.iter_mut().zip(&words) {
            for (out, &bits) in out.iter_mut().zip(word) {
                let unit = ((bits as i32 >> 1) as f32 + 0.5) * (1.0 / 1_073_741_824.0);
                *out = (erf_inv(unit * reach) * scale).clamp(-2.0, 2.0);
            }
        }
        out
    })
}

/// The natural logarithm of a normal, positive number, within 1e-7 relative (Cephes' logf).
#[inline(always)]
fn ln(x: f32) -> f32 {
    const ROOT_HALF: u32 = 0x3f35_04f3;
    let exponent = (x.to_bits().wrapping_sub(ROOT_HALF) as i32) >> 23;
    let f = f32::from_bits(x.to_bits().wrapping_sub((exponent << 23) as u32)) - 1.0;
    let e = exponent as f32;
    let z = f * f;
    let mut p = 7.037_683_6e-2;
    p = p * f - 1.151_461e-1;
    p = p * f + 1.167_699_9e-1;
    p = p * f - 1.242_014_1e-1;
    p = p * f + 1.424_932_3e-1;
    p = p * f - 1.666_805_7e-1;
    p = p * f + 2.000_071_5e-1;
    p = p * f - 2.499_999_4e-1;
    p = p * f + 3.333_333e-1;
    let tail = p * f * z - e * 2.121_944_4e-4 - 0.5 * z;
    (f + tail) + e * 0.693_359_4
}

/// Sine and cosine of `turn` / 2^32 of a full turn (Cephes' polynomials on an eighth of it).
#[inline(always)]
fn sin_cos_turn(turn: u32) -> (f32, f32) {
    let quadrant = turn.wrapping_add(1 << 29) >> 30;
    let x = turn.wrapping_sub(quadrant << 30) as i32 as f32 * (std::f32::consts::TAU / 4_294_967_296.0);
    let z = x * x;
    let s = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1) * z * x + x;
    let c = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z - 0.5 * z + 1.0;
    let swap = quadrant & 1 == 1;
    let (sin, cos) = if swap { (c, s) } else { (s, c) };
    // Quadrants 2 and 3 turn the sine's sign, 1 and 2 the cosine's.
    let sin_sign = (quadrant & 2) << 30;
    let cos_sign = (quadrant.wrapping_add(1) & 2) << 30;
    (f32::from_bits(sin.to_bits() ^ sin_sign), f32::from_bits(cos.to_bits() ^ cos_sign))
}

/// The inverse of the error function for |x| < 1 (M. Giles, "Approximating the erfinv function", single precision).
#[inline(always)]
fn erf_inv(x: f32) -> f32 {
    let w = -ln((1.0 - x) * (1.0 + x));
    let near = w - 2.5;
    let far = w.max(0.0).sqrt() - 3.0;
    let mut p = 2.810_226_4e-8;
    p = p * near + 3.432_739_4e-7;
    p = p * near - 3.523_387_7e-6;
    p = p * near - 4.391_506_5e-6;
    p = p * near + 2.185_808_7e-4;
    p = p * near - 1.253_725_1e-3;
    p = p * near - 4.177_681_6e-3;
    p = p * near + 2.466_407_3e-1;
    p = p * near + 1.501_409_4;
    let mut q = -2.002_142_6e-4;
    q = q * far + 1.009_505_6e-4;
    q = q * far + 1.349_343_2e-3;
    q = q * far - 3.673_428_4e-3;
    q = q * far + 5.739_507_7e-3;
    q = q * far - 7.622_461_3e-3;
    q = q * far + 9.438_870_5e-3;
    q = q * far + 1.001_674;
    q = q * far + 2.832_976_8;
    (if w < 5.0 { p } else { q }) * x
}

/// The error function for x >= 0 by its series; from 4 on it is 1 within float32.
fn erf(x: f64) -> f64 {
    if x > 4.0 {
        return 1.0;
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[cfg(test)]
mod tests;
