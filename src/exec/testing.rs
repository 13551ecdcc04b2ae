//! What tests of every backend have in common: networks of every op, tensors and inputs, comparisons with the reference.

use super::{Backend, Executable, Tensors, reference};
use crate::diag::Problem;
use crate::graph::NodeId;
use crate::tensor::Tensor;
use crate::typed::Typed;

/// Tensors made of their names: the same on every call, variances positive.
pub struct Random<'a>(pub &'a Typed);

impl Tensors for Random<'_> {
    fn read(&self, node: NodeId, param: usize) -> Result<Vec<f32>, Problem> {
        let decl = &self.0.params(node)[param];
        let len: usize = decl.shape.iter().product();
        let mut values = noise(len, node.index() as u64 * 64 + param as u64);
        let fan_in: usize = decl.shape.iter().skip(1).product();
        let (scale, shift) = match decl.name {
            "running_var" => (0.25, 1.0),
            "weight" if decl.shape.len() == 1 => (0.25, 1.0),
            _ => (1.5 / (fan_in.max(1) as f32).sqrt(), 0.0),
        };
        values.iter_mut().for_each(|value| *value = *value * scale + shift);
        Ok(values)
    }
}

/// Numbers in -1..1.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A sample's values are the same bits wherever in the batch it stands: what a training run keeps of a frozen prefix is
/// what it would compute again.
pub fn moved_samples_keep_their_bits(backend: &dyn Backend, typed: &Typed, batch: usize) {
    let tensors = Random(typed);
    let mut executable = Executable::new(typed, &tensors, backend, batch).expect("small enough");
    let mut run = |by: usize| {
        let input = |(at, (name, id)): (usize, (&String, &NodeId))| {
            let shape = typed.shape(*id).concrete(batch);
            let len: usize = shape.iter().product();
            let mut values = noise(len, 1 << 40 | at as u64);
            if typed.shape(*id).batched {
                values.rotate_right(by * len / batch);
            }
            (name.clone(), Tensor::new(shape, values))
        };
        let inputs: Vec<(String, Tensor)> = typed.graph().inputs().iter().enumerate().map(input).collect();
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        executable.run(&inputs).expect("the inputs fit")
    };
    let first = run(0);
    for by in 1..batch {
        for ((name, first), (_, moved)) in first.iter().zip(run(by)) {
            let mut bits: Vec<u32> = first.data().iter().map(|value| value.to_bits()).collect();
            if typed.shape(typed.graph().outputs()[name].node).batched {
                let len = bits.len();
                bits.rotate_right(by * len / batch);
            }
            let same = bits.iter().zip(moved.data()).all(|(bits, value)| *bits == value.to_bits());
            assert!(same, "{name} has other bits {by} places on in\n{}", typed.graph());
        }
    }
}

/// Runs a network by the reference and on a backend with a batch, there twice, and compares every output.
pub fn compare_on(backend: &dyn Backend, typed: &Typed, batch: usize, tolerance: f64) {
    let tensors = Random(typed);
    let inputs: Vec<(String, Tensor)> = typed
        .graph()
        .inputs()
        .iter()
        .enumerate()
        .map(|(at, (name, id))| {
            let shape = typed.shape(*id).concrete(batch);
            let len = shape.iter().product();
            (name.clone(), Tensor::new(shape, noise(len, 1 << 40 | at as u64)))
        })
        .collect();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let want = reference::run(typed, &tensors, batch, &inputs).expect("nothing to fail");
    let mut executable = Executable::new(typed, &tensors, backend, batch).expect("small enough");
    let first = executable.run(&inputs).expect("the inputs fit");
    let got = executable.run(&inputs).expect("the inputs fit");
    for ((name, first), (_, got)) in first.iter().zip(&got) {
        let same = first.data().iter().zip(got.data()).all(|(first, got)| first.to_bits() == got.to_bits());
        assert!(same, "a second run gives other bits for {name}\n{}\n{}", typed.graph(), executable.plan().dump(typed));
    }
    for ((name, want), (same, got)) in want.iter().zip(&got) {
        assert_eq!(name, same);
        assert_eq!(want.shape(), got.shape(), "{name}");
        let error = distance(want.data(), got.data());
        assert!(
            error < tolerance,
            "{name} is off by {error:.1e} in\n{}\n{}",
            typed.graph(),
            executable.plan().dump(typed)
        );
    }
}

/// Relative distance in the Euclidean norm; infinite where one has what is no number and the other has not.
pub fn distance(want: &[f32], got: &[f32]) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for (want, got) in want.iter().zip(got) {
        if want.is_nan() != got.is_nan() || want.is_infinite() != got.is_infinite() {
            return f64::INFINITY;
        }
        if want.is_finite() {
            error += (*want as f64 - *got as f64).powi(2);
            norm += (*want as f64).powi(2);
        }
    }
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

/// Calls of every op, with the sizes of their operands after the batch; `p` before a size for a parameter, `+` for
/// values above 0.
pub const SAMPLES: &[(&str, &[&str])] = &[
    ("conv2d(7, kernel = 3)", &["[5, 9, 8]"]),
    ("conv2d(33, kernel = 1)", &["[512, 3, 5]"]),
    ("conv2d(6, kernel = [5, 2], stride = [2, 3], padding = [2, 1], dilation = [1, 2])", &["[3, 13, 11]"]),
    ("conv2d(12, kernel = 3, padding = 1, groups = 4)", &["[8, 5, 6]"]),
    ("conv2d(9, kernel = 5, stride = 2, padding = same, groups = 9, bias = false)", &["[9, 8, 9]"]),
    ("conv2d(18, kernel = 3, groups = 9)", &["[9, 8, 9]"]),
    ("conv2d(4, kernel = 3, stride = 2, padding = same)", &["[3, 8, 7]"]),
    ("conv1d(5, kernel = 3, stride = 2, padding = 1)", &["[4, 9]"]),
    ("conv1d(6, kernel = 4, dilation = 2, groups = 3, bias = false)", &["[3, 13]"]),
    ("conv1d(4, kernel = 3, padding = same)", &["[2, 8]"]),
    ("conv2d(7, kernel = 3, stride = 2, padding = 1)", &["p[5, 9, 8]"]),
    ("conv2d(6, kernel = 3, groups = 3)", &["p[2, 9, 5, 6]"]),
    ("conv1d(5, kernel = 3, padding = 1)", &["p[4, 9]"]),
    ("conv1d(6, kernel = 4, dilation = 2, groups = 3, bias = false)", &["p[2, 3, 13]"]),
    ("unfold([2, 3], stride = [2, 1], padding = [1, 0])", &["p[3, 6, 5]"]),
    ("fold([4, 7], kernel = 3, padding = 1)", &["p[18, 28]"]),
    ("fold([4, 5], kernel = 2)", &["p[2, 8, 12]"]),
    ("conv_transpose2d(6, kernel = 3, stride = 2, padding = 1, output_padding = 1)", &["p[4, 5, 3]"]),
    ("conv_transpose2d(6, kernel = [2, 3], dilation = 2, groups = 2)", &["p[3, 4, 5, 3]"]),
    ("unfold(3, padding = 1)", &["[5, 4, 7]"]),
    ("unfold([2, 3], stride = [2, 1], padding = [1, 0], dilation = [1, 2])", &["[3, 6, 9]"]),
    ("unfold(4, stride = 4)", &["[3, 8, 12]"]),
    ("fold([4, 7], kernel = 3, padding = 1)", &["[18, 28]"]),
    ("fold([7, 8], kernel = [2, 3], stride = [2, 3], dilation = [1, 2])", &["[12, 6]"]),
    ("conv_transpose2d(6, kernel = 3, stride = 2, padding = 1, output_padding = 1)", &["[4, 5, 3]"]),
    ("conv_transpose2d(6, kernel = [2, 3], dilation = 2, groups = 2)", &["[4, 5, 3]"]),
    ("linear(7)", &["[5]"]),
    ("linear(40, bias = false)", &["[3, 70]"]),
    ("linear(6)", &["[3, 4, 5]"]),
    ("linear(6)", &["[2, 3, 4, 5]"]),
    ("linear_with", &["[3, 70]", "p[40, 70]", "p[40]"]),
    ("linear_with", &["[5]", "p[7, 5]"]),
    ("conv2d_with(padding = 1)", &["[5, 6, 7]", "p[9, 5, 3, 3]", "p[9]"]),
    ("conv2d_with(stride = [2, 1], padding = same, groups = 3)", &["[6, 7, 5]", "p[9, 2, 2, 3]"]),
    ("linear_with(rows = [3, 6])", &["[4, 5]", "p[9, 5]", "p[9]"]),
    ("batch_norm2d", &["[5, 3, 4]"]),
    ("batch_norm2d(affine = false)", &["[5, 3, 4]"]),
    ("batch_norm1d", &["[5]"]),
    ("batch_norm1d", &["[5, 7]"]),
    ("batch_norm1d(axis = 2)", &["[7, 5]"]),
    ("batch_norm1d(axis = -1, affine = false)", &["[7, 5]"]),
    ("layer_norm", &["[5, 33]"]),
    ("layer_norm(affine = false)", &["[5, 33]"]),
    ("layer_norm(axis = 1)", &["[5, 7]"]),
    ("rms_norm", &["[5, 33]"]),
    ("rms_norm(1e-6, affine = false)", &["[33]"]),
    ("rms_norm(axis = 1)", &["[17, 3, 4]"]),
    ("layer_norm", &["[3, 4, 33]"]),
    ("layer_norm2d", &["[17, 3, 4]"]),
    ("layer_norm2d", &["[17, 5]"]),
    ("layer_norm2d(affine = false)", &["[17, 2, 3, 2]"]),
    ("group_norm(3)", &["[12, 3, 4]"]),
    ("group_norm(2)", &["[12, 7]"]),
    ("group_norm(4, affine = false)", &["[12, 3, 4]"]),
    ("instance_norm2d", &["[17, 3, 4]"]),
    ("instance_norm2d(affine = true)", &["[6, 3, 4]"]),
    ("relu", &["[3, 5, 4]"]),
    ("relu6", &["[35]"]),
    ("elu(0.7)", &["[3, 5]"]),
    ("leaky_relu", &["[3, 5, 4]"]),
    ("prelu", &["[3, 5, 4]"]),
    ("prelu(3)", &["[3, 5, 4]"]),
    ("prelu(3)", &["[3]"]),
    ("gelu", &["[3, 5, 4]"]),
    ("gelu(approximate = tanh)", &["[3, 5, 4]"]),
    ("silu", &["[3, 5, 4]"]),
    ("sigmoid", &["[3, 5, 4]"]),
    ("tanh", &["[3, 5, 4]"]),
    ("hardswish", &["[3, 5, 4]"]),
    ("hardsigmoid", &["[3, 5, 4]"]),
    ("softplus", &["[3, 5, 4]"]),
    ("mish", &["[3, 5, 4]"]),
    ("exp", &["[3, 5, 4]"]),
    ("exp(2.5)", &["[3, 5, 4]"]),
    ("exp(0.3)", &["[35]"]),
    ("sqrt", &["+[3, 5, 4]"]),
    ("rsqrt", &["+[3, 5, 4]"]),
    ("pow(3)", &["[3, 5, 4]"]),
    ("pow(2)", &["[3, 5, 4]"]),
    ("pow(0)", &["[3, 5, 4]"]),
    ("pow(-1.7)", &["+[3, 5, 4]"]),
    ("abs", &["[3, 5, 4]"]),
    ("neg", &["[3, 5, 4]"]),
    ("log", &["+[3, 5, 4]"]),
    ("sin", &["[3, 5, 4]"]),
    ("cos", &["[3, 5, 4]"]),
    ("softsign", &["[3, 5, 4]"]),
    ("log_sigmoid", &["[3, 5, 4]"]),
    ("celu(0.7)", &["[3, 5, 4]"]),
    ("selu", &["[3, 5, 4]"]),
    ("hardtanh(-0.5, max = 0.25)", &["[3, 5, 4]"]),
    ("glu", &["[3, 10]"]),
    ("glu(axis = 1)", &["[6, 5, 4]"]),
    ("clamp(min = -0.5, max = 0.25)", &["[3, 5, 4]"]),
    ("clamp(max = 0.25)", &["[3, 5, 4]"]),
    ("softmax", &["[3, 5, 17]"]),
    ("softmax(axis = 1)", &["[3, 5, 4]"]),
    ("softmax(axis = 2)", &["[3, 5]"]),
    ("log_softmax", &["[17]"]),
    ("normalize", &["[5, 17]"]),
    ("normalize(axis = 1)", &["[5, 3, 4]"]),
    ("identity", &["[5]"]),
    ("dropout", &["[5]"]),
    ("dropout2d", &["[5, 2, 2]"]),
    ("stochastic_depth(0.1)", &["[5]"]),
    ("dropout(0.4, always = true)", &["[37]"]),
    ("dropout(0.25, always = true)", &["[5, 7]"]),
    ("dropout(0.3, always = true)", &["[5, 3, 4]"]),
    ("dropout(0.3, always = true)", &["[2, 3, 2, 3]"]),
    ("dropout2d(0.4, always = true)", &["[19, 3, 4]"]),
    ("stochastic_depth(0.4, always = true)", &["[19, 3]"]),
    ("stochastic_depth(0.4, always = true)", &["[5, 3, 4]"]),
    ("max_pool2d(3, stride = 2, padding = 1)", &["[5, 9, 8]"]),
    ("max_pool2d([2, 3], ceil_mode = true)", &["[5, 9, 8]"]),
    ("max_pool2d(3, stride = 1, dilation = 2, padding = 1)", &["[5, 9, 8]"]),
    ("avg_pool2d(3, stride = 2, padding = 1, ceil_mode = true)", &["[5, 8, 8]"]),
    ("avg_pool2d(3, stride = 2, padding = 1, count_include_pad = false)", &["[5, 9, 8]"]),
    ("adaptive_avg_pool2d([3, 4])", &["[5, 7, 9]"]),
    ("adaptive_avg_pool2d(1)", &["[5, 7, 9]"]),
    ("adaptive_max_pool2d(2)", &["[5, 7, 9]"]),
    ("adaptive_max_pool2d(1)", &["[5, 7, 9]"]),
    ("global_avg_pool2d", &["[35, 7, 9]"]),
    ("global_max_pool2d", &["[5, 7, 9]"]),
    ("max_pool2d(3, stride = 2, padding = 1)", &["p[5, 9, 8]"]),
    ("avg_pool2d(2, ceil_mode = true)", &["p[2, 3, 5, 7]"]),
    ("adaptive_avg_pool2d([3, 4])", &["p[5, 7, 9]"]),
    ("adaptive_max_pool2d(2)", &["p[2, 3, 7, 5]"]),
    ("adaptive_avg_pool2d(1)", &["p[5, 7, 9]"]),
    ("global_avg_pool2d", &["p[35, 7, 9]"]),
    ("global_max_pool2d", &["p[2, 5, 7, 9]"]),
    ("mean(1, keep = true)", &["[5, 7, 9]"]),
    ("mean(3, keep = true)", &["[5, 7, 9]"]),
    ("mean([1, -1])", &["[5, 7, 9]"]),
    ("sum(1, keep = true)", &["[5, 7, 9]"]),
    ("sum([2, 3], keep = true)", &["[5, 7, 9]"]),
    ("sum(-1)", &["[5, 7]"]),
    ("var(1)", &["[5, 7, 9]"]),
    ("var([2, 3], keep = true, unbiased = false)", &["[5, 7, 9]"]),
    ("vector_norm([2, 3], keep = true)", &["[5, 7, 9]"]),
    ("vector_norm(1)", &["[5, 7]"]),
    ("amax(-1)", &["[5, 7, 9]"]),
    ("amax(2, keep = true)", &["[5, 7]"]),
    ("flatten", &["[5, 3, 4]"]),
    ("reshape(4, -1)", &["[6, 10]"]),
    ("reshape(2, 3, 5, 2, 4)", &["[6, 10, 4]"]),
    ("permute(0, 3, 1, 2)", &["[5, 3, 4]"]),
    ("chunk(3, axis = 1, part = 2)", &["[6, 3, 4]"]),
    ("chunk(2, axis = -1)", &["[6, 4]"]),
    ("slice(1, from = 1, to = 4)", &["[6, 3, 4]"]),
    ("slice(2, from = 1, to = -1)", &["[6, 3, 4]"]),
    ("pad(1, 2, 0, 3)", &["[5, 3, 4]"]),
    ("pad(1, 2, 0, 3, 2, 0)", &["[5, 3, 4]"]),
    ("pad(1, 2, 2, 0, value = -1.5)", &["[5, 3, 4]"]),
    ("pad(3, 1, 0, 2, mode = reflect)", &["[2, 3, 4]"]),
    ("pad(2, 3, 1, 0, 1, 1, mode = replicate)", &["[2, 3, 2]"]),
    ("pad(4, 1, 2, 3, mode = circular)", &["[2, 3, 4]"]),
    ("roll([1, -2], axes = [1, 2])", &["[5, 3, 4]"]),
    ("roll(2, axes = [1])", &["[5]"]),
    ("channel_shuffle(3)", &["[6, 3, 4]"]),
    ("pixel_shuffle(2)", &["[12, 3, 4]"]),
    ("pixel_shuffle(2)", &["p[12, 3, 4]"]),
    ("upsample(scale = 2)", &["[5, 3, 4]"]),
    ("upsample(size = [5, 9], mode = bilinear)", &["[5, 3, 4]"]),
    ("upsample(scale = 1.5, mode = bicubic)", &["[5, 4, 4]"]),
    ("upsample(size = [7, 9], mode = bicubic)", &["p[5, 3, 4]"]),
    ("upsample(scale = 2, mode = bilinear)", &["p[2, 3, 5, 4]"]),
    ("upsample(size = [3, 4], mode = bilinear, antialias = true)", &["[5, 8, 9]"]),
    ("upsample(scale = 1.5, mode = bilinear, antialias = true)", &["[5, 3, 4]"]),
    ("upsample(scale = 0.4, mode = bicubic, antialias = true)", &["[9, 9, 7]"]),
    ("upsample(size = [7, 2], mode = bicubic, antialias = true)", &["[5, 4, 9]"]),
    ("add", &["[5, 3, 4]", "[5, 3, 4]"]),
    ("add", &["[5, 3, 4]", "[5]"]),
    ("add", &["[5, 1, 4]", "[1, 3, 1]"]),
    ("add", &["[5, 3, 4]", "p[3, 1]"]),
    ("add(-1.5)", &["[5, 3, 4]"]),
    ("mul", &["[5]", "[5, 3, 4]"]),
    ("mul", &["[5, 3, 4]", "[1, 3, 4]"]),
    ("mul", &["[5, 3, 4]", "[5, 3, 1]"]),
    ("mul", &["[5, 3, 4]", "p[5, 1, 1]"]),
    ("mul", &["[5, 3, 4]", "p[4]"]),
    ("mul", &["p[2, 1]", "[1, 3]"]),
    ("mul(0.25)", &["[5, 3, 4]"]),
    ("sub", &["[5, 3, 4]", "[5, 3, 4]"]),
    ("sub", &["[5]", "[5, 3, 4]"]),
    ("sub", &["p[4]", "[5, 3, 4]"]),
    ("sub(0.25)", &["[5, 3, 4]"]),
    ("sub(0.25, swapped = true)", &["[5, 3, 4]"]),
    ("div", &["[5, 3, 4]", "+[5, 3, 4]"]),
    ("div", &["[5]", "+[5, 3, 4]"]),
    ("div", &["[5, 3, 4]", "+[5, 1, 1]"]),
    ("div", &["p[4]", "+[5, 3, 4]"]),
    ("div(3)", &["[5, 3, 4]"]),
    ("div(0.25, swapped = true)", &["+[5, 3, 4]"]),
    ("maximum", &["[5, 3, 4]", "[5, 3, 4]"]),
    ("maximum", &["[5]", "[5, 3, 4]"]),
    ("minimum", &["[5, 3, 4]", "p[4]"]),
    ("minimum", &["[5, 3, 4]", "[1, 3, 1]"]),
    ("concat", &["[5, 3, 4]", "[2, 3, 4]", "[512, 3, 4]"]),
    ("concat", &["p[1, 1, 6]", "[4, 6]"]),
    ("concat(axis = 2)", &["[5, 3, 4]", "[5, 1, 4]"]),
    ("concat(axis = -1)", &["[5, 3]", "[5, 2]"]),
    ("matmul", &["[5, 7]", "[7, 3]"]),
    ("matmul", &["[5]", "p[5, 3]"]),
    ("matmul", &["[4, 5]", "p[5, 3]"]),
    ("matmul", &["p[4, 5]", "[5, 3]"]),
    ("matmul", &["[2, 3, 4, 5]", "[2, 1, 5, 6]"]),
    ("gather", &["p[5, 3]", "p[4]"]),
    ("attention", &["[3, 7, 5]", "[3, 6, 5]", "[3, 6, 4]"]),
    ("attention(heads = 3, scale = 0.7)", &["[5, 9]", "[7, 9]", "[7, 6]"]),
    ("attention(heads = 2)", &["[6, 4]", "[5, 4]", "[5, 4]", "p[2, 6, 5]"]),
    ("attention(heads = 2)", &["[3, 4, 6]", "[3, 5, 6]", "[3, 5, 2]", "p[3, 1, 4, 5]"]),
    ("attention(heads = 2)", &["[3, 4, 6]", "[3, 4, 6]", "[3, 4, 6]", "[1, 2, 4, 1]"]),
    ("attention", &["[4, 70]", "[5, 70]", "[5, 261]", "[4, 5]"]),
    ("attention(heads = 2)", &["p[1, 3, 8]", "[5, 8]", "[5, 8]"]),
    ("lstm_scan", &["[5, 12]", "p[12, 3]"]),
    ("lstm_scan(reverse = true)", &["[4, 36]", "p[36, 9]"]),
    ("lstm_scan", &["[2, 5, 28]", "p[28, 7]", "[2, 5, 28]", "p[28, 7]"]),
    ("lstm_scan", &["[1, 3, 68]", "p[68, 17]"]),
    ("lstm_scan", &["[1, 20]", "p[20, 5]"]),
    ("lstm_scan", &["p[4, 12]", "p[12, 3]"]),
    ("window_index(3)", &[]),
    ("window_coords(3)", &[]),
    ("window_coords(3, pretrained = 5)", &[]),
    ("window_mask(4, 6, 2, 1)", &[]),
    ("window_index([2, 3])", &[]),
    ("window_coords([3, 2], pretrained = [4, 2])", &[]),
    ("window_mask(4, 6, [2, 3], [1, 0])", &[]),
    ("parameter([2, 3])", &[]),
    ("buffer([2, 3])", &[]),
    ("constant([[1, -0.5, 0.25], [1e-3, 0, 3]])", &[]),
];

/// Networks of a sample: the call alone; and, where it takes images, after steps that leave them channels-last, followed
/// by one that can be fused.
pub fn sample_network(call: &str, operands: &[&str]) -> Vec<String> {
    let mut text = String::from("zero = input([1])\n");
    let mut names = vec![];
    for (at, operand) in operands.iter().enumerate() {
        let shape = operand.trim_start_matches(['p', '+']);
        let op = if operand.starts_with('p') { "parameter" } else { "input" };
        text += &format!("v{at} = {op}({shape})\n");
        names.push(format!("v{at}"));
    }
    let call = |text: &str, names: &[String]| {
        let (mut text, mut names) = (text.to_string(), names.to_vec());
        for (at, _) in operands.iter().enumerate().filter(|(_, operand)| operand.starts_with('+')) {
            text += &format!("e{at} = exp <- {}\n", names[at]);
            names[at] = format!("e{at}");
        }
        format!("{text} y = {call} <- {}", names.join(", "))
    };
    let mut networks = vec![call(&text, &names)];
    let images = operands.iter().any(|operand| operand.matches(',').count() == 2);
    if images {
        for (at, operand) in operands.iter().enumerate() {
            if operand.matches(',').count() == 2 && !operand.starts_with('p') {
                let channels = operand.trim_start_matches(['+', '[']).split(',').next().expect("a first size");
                text += &format!("w{at} = conv2d({channels}, kernel = 1) <- v{at}\n");
                names[at] = format!("w{at}");
            }
        }
        networks.push(call(&text, &names) + "\n z = relu <- y");
    }
    networks
}
