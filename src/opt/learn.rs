//! What training adds to the kinds of a [`Net`](super::Net): steps whose weights are values, because they change from step
//! to step, and the steps of the backward pass. Each computes one value, so that passes and plan need to know nothing of
//! gradients; what has several (a batch norm's statistics, its sums) is two steps.

use archc_base::{Act, Loss, Pool, Reduce, Resample, Window};

/// What is zeroed together by noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Every value alone.
    Value,
    /// The channels of every sample.
    Channel,
    /// Every sample.
    Sample,
}

/// What a step computes. Operands are listed in brackets; `dy` is the loss's derivative by the value `y`.
#[derive(Clone, Debug, PartialEq)]
pub enum Learn {
    /// `[x, weight]` or `[x, weight, bias]`
    Conv { window: Window, groups: usize },
    /// `[x, weight]` or `[x, weight, bias]`
    ConvTranspose { window: Window, groups: usize, output_padding: [usize; 2] },
    /// `[x, weight]` or `[x, weight, bias]`, over the last axis.
    Linear,
    /// `[x]`: means and biased variances of the channels, [2, C].
    BatchStats,
    /// `[x, statistics, weight, bias]`
    BatchNorm { eps: f32 },
    /// `[x, weight, bias]`
    LayerNorm { axis: usize, eps: f32 },
    /// `[x, weight, bias]`
    GroupNorm { groups: usize, eps: f32 },
    /// `[x, slope]`
    PRelu,
    /// `[x, clock]`: zeroed with probability `p`, else divided by 1 - p. `stream` names the draw; backward is the same of dy.
    Noise { p: f64, grain: Grain, stream: u64 },
    /// `[dy, weight]` to dx
    ConvData { window: Window, groups: usize },
    /// `[x, dy]` to the weight's derivative. Of a transposed convolution: `[dy, x]`.
    ConvWeight { window: Window, groups: usize },
    /// `[dy, weight]`
    LinearData,
    /// `[x, dy]`
    LinearWeight,
    /// `[dy]`: sums over all but `axis`.
    Sums { axis: usize },
    /// `[dy, x]` multiplied, or `[dy]` alone, then summed over what stretching repeated.
    Unstretch { from_left: bool },
    /// `[dy, y]`, or `[dy, x]` where the derivative is no function of the result.
    ActData { act: Act },
    /// `[dy, x, statistics, weight, bias]`: derivatives of weight and bias, [2, C]. With `relu` dy is that of the result's
    /// relu, and counts where the result is positive.
    BatchNormSums { eps: f32, relu: bool },
    /// `[dy, x, statistics, weight, bias, sums]`
    BatchNormData { eps: f32, relu: bool },
    /// `[dy, x, weight]`
    LayerNormData { axis: usize, eps: f32 },
    /// `[dy, x]`: [2, C]
    LayerNormSums { axis: usize, eps: f32 },
    /// `[dy, x, weight]`
    GroupNormData { groups: usize, eps: f32 },
    /// `[dy, x]`: [2, C]
    GroupNormSums { groups: usize, eps: f32 },
    /// `[dy, x, slope]`
    PReluData,
    /// `[dy, x]`: one number a slope.
    PReluSums,
    /// `[dy, y]`
    SoftmaxData { axis: usize, log: bool },
    /// `[dy, x]`
    NormalizeData { axis: usize, eps: f32 },
    /// `[dy, x]`
    PoolData { pool: Pool, window: Window },
    /// `[dy, x]`
    AdaptivePoolData { reduce: Reduce },
    /// `[dy]`: repeated along the axes of a mean, divided by their length.
    MeanData { axes: Vec<usize> },
    /// `[dy, x, y]`: to the largest along the axes, shared by equals.
    MaxData { axes: Vec<usize> },
    /// `[dy]`
    ResizeData { mode: Resample, scale: Option<[f64; 2]> },
    /// `[dy, index]`: rows summed into a table.
    GatherData,
    /// `[output, target]`: one number.
    Loss(Loss),
    /// `[output, target]`
    LossData(Loss),
    /// [derivative of state]: nothing reads it, it is kept.
    Gradient { state: usize },
    /// `[statistics]`: moves the running mean (the state) and variance (the next) towards them. `count` values a sample
    /// each was taken of.
    Running { state: usize, momentum: f32, count: usize },
}

impl Learn {
    /// Whether the step is run for what it keeps, not for its value.
    pub fn is_sink(&self) -> bool {
        matches!(self, Learn::Gradient { .. } | Learn::Running { .. })
    }

    /// As [`Kind::takes_epilogue`](super::Kind::takes_epilogue).
    pub fn takes_epilogue(&self) -> bool {
        matches!(self, Learn::Conv { .. } | Learn::Linear | Learn::BatchNorm { .. } | Learn::ConvData { .. })
    }

    /// Whether the result may be written over the first operand: each value depends on the one at its place.
    pub fn is_single(&self) -> bool {
        use Learn::*;
        matches!(self, BatchNorm { .. } | Noise { .. } | ActData { .. } | BatchNormData { .. } | PReluData)
            || matches!(self, SoftmaxData { .. } | LayerNormData { .. } | NormalizeData { .. })
    }

    /// As it is shown in steps and snapshots.
    pub fn name(&self) -> &'static str {
        match self {
            Learn::Conv { .. } => "conv2d",
            Learn::ConvTranspose { .. } => "conv_transpose2d",
            Learn::Linear => "linear",
            Learn::BatchStats => "batch_statistics",
            Learn::BatchNorm { .. } => "batch_norm2d",
            Learn::LayerNorm { .. } => "layer_norm",
            Learn::GroupNorm { .. } => "group_norm",
            Learn::PRelu => "prelu",
            Learn::Noise { .. } => "noise",
            Learn::ConvData { .. } => "conv2d_data",
            Learn::ConvWeight { .. } => "conv2d_weight",
            Learn::LinearData => "linear_data",
            Learn::LinearWeight => "linear_weight",
            Learn::Sums { .. } => "sums",
            Learn::Unstretch { .. } => "unstretch",
            Learn::ActData { .. } => "act_data",
            Learn::BatchNormSums { .. } => "batch_norm2d_sums",
            Learn::BatchNormData { .. } => "batch_norm2d_data",
            Learn::LayerNormData { .. } => "layer_norm_data",
            Learn::LayerNormSums { .. } => "layer_norm_sums",
            Learn::GroupNormData { .. } => "group_norm_data",
            Learn::GroupNormSums { .. } => "group_norm_sums",
            Learn::PReluData => "prelu_data",
            Learn::PReluSums => "prelu_sums",
            Learn::SoftmaxData { .. } => "softmax_data",
            Learn::NormalizeData { .. } => "normalize_data",
            Learn::PoolData { .. } => "pool_data",
            Learn::AdaptivePoolData { .. } => "adaptive_pool_data",
            Learn::MeanData { .. } => "mean_data",
            Learn::MaxData { .. } => "amax_data",
            Learn::ResizeData { .. } => "upsample_data",
            Learn::GatherData => "gather_data",
            Learn::Loss(_) => "loss",
            Learn::LossData(_) => "loss_data",
            Learn::Gradient { .. } => "gradient",
            Learn::Running { .. } => "running_statistics",
        }
    }
}
