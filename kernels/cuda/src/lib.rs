//! The CUDA kernels: their sources, which variants of them there are, what each kernel takes and how it is launched.
//! kernels/README.md says the rules that all of them keep.
//!
//! Every kernel takes one struct by value, whose twin in C++ stands at the head of the kernel's file. Addresses are device
//! addresses as numbers, 0 for none; lengths and distances count elements. Nothing here runs a kernel, and nothing but `std`
//! is needed: the runtime, the emulator and its build script share this crate.

#[macro_use]
mod args;
mod conv;
mod launch;
mod learn;
mod tma;
mod update;

pub use args::*;
pub use conv::*;
pub use learn::*;
pub use tma::*;
pub use update::*;

/// What values are stored as and multiplied in; sums are float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    F32,
    /// float32 in memory; operands of matrix products are rounded to 10 bits.
    Tf32,
    Bf16,
    F16,
}

impl Dtype {
    pub const ALL: [Dtype; 4] = [Dtype::F32, Dtype::Tf32, Dtype::Bf16, Dtype::F16];
    pub const STORED: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::F16];

    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Tf32 => "tf32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        }
    }

    /// What it is in memory.
    pub fn stored(self) -> Dtype {
        if self == Dtype::Tf32 { Dtype::F32 } else { self }
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        if self.stored() == Dtype::F32 { 4 } else { 2 }
    }

    /// Elements of 16 bytes.
    pub fn vector(self) -> usize {
        16 / self.size()
    }
}

/// A file compiled with some macros.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// The file without `.cu`.
    pub file: &'static str,
    pub defines: Vec<(&'static str, String)>,
}

impl Variant {
    /// `file.value.value..`, unique among all variants.
    pub fn name(&self) -> String {
        self.defines.iter().fold(self.file.to_string(), |name, (_, value)| name + "." + value)
    }

    /// Whether it is for sm_90a alone.
    pub fn is_hopper(&self) -> bool {
        self.defines.iter().any(|(name, _)| *name == "HOPPER")
    }

    /// The file that it is made of.
    pub fn of(&self) -> &'static File {
        FILES.iter().find(|file| file.name == self.file).expect("variants name files of the list")
    }

    /// The kernels in it.
    pub fn kernels(&self) -> &'static [&'static str] {
        self.of().kernels
    }

    fn stored(file: &'static str, dtype: Dtype) -> Variant {
        Variant { file, defines: vec![("DTYPE", dtype.stored().name().into())] }
    }

    fn multiplied(file: &'static str, dtype: Dtype) -> Variant {
        Variant { file, defines: vec![("DTYPE", dtype.name().into())] }
    }
}

/// A file of kernels.
#[derive(Debug)]
pub struct File {
    /// Without `.cu`.
    pub name: &'static str,
    pub source: &'static str,
    pub kernels: &'static [&'static str],
}

/// What every file includes.
pub const COMMON: &str = include_str!("common.cuh");

macro_rules! files {
    ($($name:ident: $kernels:expr,)*) => {
        &[$(File {
            name: stringify!($name),
            source: include_str!(concat!(stringify!($name), ".cu")),
            kernels: &$kernels,
        },)*]
    };
}

/// All files.
pub const FILES: &[File] = files! {
    conv_igemm: ["conv_igemm"],
    conv_tma: ["conv_tma"],
    linear_rows: ["linear_rows"],
    depthwise: ["depthwise", "depthwise_3x3", "depthwise_3x3_by_2", "depthwise_5x5", "depthwise_5x5_by_2"],
    excitation: ["excitation"],
    pool: ["pool"],
    resize: ["resize"],
    elementwise: ["map", "binary", "broadcast"],
    copy: ["copy", "copy_few", "copy_tiles"],
    fill: ["fill"],
    rows: ["layer_norm", "normalize", "softmax", "log_softmax"],
    group_norm: ["group_norm"],
    reduce: ["reduce_columns", "reduce_rows"],
    matmul: ["matmul"],
    attention: ["attention"],
    dropout: ["dropout"],
    conv_weight: ["conv_weight"],
    weight_end: ["weight_end"],
    depthwise_grad: ["depthwise_data", "depthwise_weight"],
    columns: ["sums", "statistics", "norm_sums", "normed_sums", "slope_sums", "column_end", "slope_end", "running"],
    batch_norm: ["batch_norm", "batch_norm_data"],
    act_data: ["act_data", "prelu_data"],
    rows_data: ["row_moments", "layer_norm_data", "softmax_data", "log_softmax_data", "normalize_data"],
    group_norm_data: ["group_moments", "group_norm_data"],
    pool_data: ["pool_data"],
    resize_data: ["resize_data"],
    spread: ["spread", "spread_rows", "max_data", "unstretch", "unstretch_rows", "unstretch_end", "gather", "gather_data"],
    loss: ["cross_entropy", "cross_entropy_data", "value_loss", "value_loss_data", "loss_end"],
    update: ["update", "squares", "norm_of", "accumulate"],
};

/// Every variant that a launch can name.
#[must_use]
pub fn variants() -> Vec<Variant> {
    let mut all = vec![];
    for dtype in Dtype::ALL {
        for tile in TILES {
            all.push(conv::variant(dtype, tile, dtype.vector()));
        }
        if dtype.size() == 2 {
            all.push(conv::variant(dtype, NARROW, 4));
            all.push(conv::gated(conv::variant(dtype, NARROW, 4)));
            all.extend([HOPPER_LARGE, HOPPER_NARROW].map(|tile| conv::variant(dtype, tile, 8)));
            all.push(conv::variant(dtype, HOPPER_NARROW, 4));
            all.extend(TmaTile::ALL.map(|tile| tile.variant(dtype)));
        }
        all.push(conv::variant(dtype, SMALL, 1));
        let gated = [(NARROW, dtype.vector()), (SMALL, dtype.vector()), (SMALL, 1)];
        all.extend(gated.map(|(tile, vec)| conv::gated(conv::variant(dtype, tile, vec))));
    }
    for dtype in Dtype::STORED {
        let files = [
            "linear_rows",
            "depthwise",
            "excitation",
            "pool",
            "resize",
            "elementwise",
            "fill",
            "rows",
            "group_norm",
            "reduce",
            "dropout",
            "matmul",
        ];
        all.extend(files.map(|file| Variant::stored(file, dtype)));
        all.extend(Attention::DIMS.map(|dim| launch::attention_variant(dtype, dim)));
    }
    all.extend(learn::variants());
    for from in Dtype::STORED {
        all.extend(
            Dtype::STORED
                .iter()
                .filter(|to| from == **to || from == Dtype::F32 || **to == Dtype::F32)
                .map(|to| launch::copy_variant(from, *to)),
        );
    }
    all
}

/// One launch, but for its argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub variant: Variant,
    pub kernel: &'static str,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}
