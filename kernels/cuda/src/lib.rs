//! The CUDA kernels, in pairs: `pool.cu` computes, `pool.rs` beside it says what its kernels take, which variants of the
//! file there are and how each kernel is launched. kernels/README.md says the rules that all of them keep, and how to add one.
//!
//! Every kernel takes one struct by value. Addresses are device addresses as numbers, 0 for none; lengths and strides count
//! elements. The struct and the numbers that both sides know are declared in Rust alone: [`File::text`] puts their
//! twins in C++ before the source; codes and formulas of activations and the like are those of `archc-base`. Nothing here
//! runs a kernel.

#[macro_use]
mod args;
mod act;
mod common;
mod launch;
mod vocabulary;

pub use args::{Args, Element, Field, RANK, Stored, TensorMap, To, Twin};
pub use common::{Act, Backward, Epilogue, Sums, Window};
pub use vocabulary::{Code, Coded};

/// The pairs, by name.
macro_rules! kernels {
    ($($name:ident $(+ $shared:ident)? $(: $variants:ident)?)*) => {
        $(
            mod $name;
            #[allow(unused_imports, reason = "a pair may launch structs of others alone")]
            pub use $name::*;
        )*

        /// All files of kernels.
        pub static FILES: &[File] = &[$(File {
            name: stringify!($name),
            source: include_str!(concat!(stringify!($name), ".cu")),
            shared: &[$((stringify!($shared), include_str!(concat!(stringify!($shared), ".cuh"))))?],
            header: $name::header,
            variants: [$(Some($name::$variants as fn() -> Vec<Variant>),)? None][0],
        },)*];
    };
}

kernels! {
    act_data
    attention + scores: variants
    banded
    batch_norm + line
    columns + line
    conv_igemm: variants
    conv_tma: variants
    conv_weight: variants
    copy: variants
    depthwise
    depthwise_grad
    dropout
    elementwise
    excitation
    fill
    group_norm + groups
    group_norm_data + groups
    linear_rows
    long_attention + scores
    loss
    lstm_scan + sequences
    lstm_scan_data + sequences
    matmul
    pool + windows
    pool_data + windows
    reduce
    resize + taps
    resize_data + taps
    rows
    rows_data
    spread
    update: variants
    weight_end: variants
}

/// A file of kernels.
#[derive(Debug)]
pub struct File {
    /// Without `.cu`.
    pub name: &'static str,
    source: &'static str,
    /// Name and text of what it has in common with another file, `+ NAME` in the list.
    shared: &'static [(&'static str, &'static str)],
    header: fn() -> String,
    /// Where they are not one for each stored dtype, `: FUNCTION` in the list.
    variants: Option<fn() -> Vec<Variant>>,
}

impl File {
    /// All that a compiler needs: what every kernel shares, the structs that these kernels take, the source.
    #[must_use]
    pub fn text(&self) -> String {
        let shared: String = self.shared.iter().map(|(name, text)| part(name, "cuh", text)).collect();
        [prelude(), part(self.name, "rs", &(self.header)()), shared, part(self.name, "cu", self.source)].concat()
    }

    /// The variants that a launch can name.
    #[must_use]
    pub fn variants(&self) -> Vec<Variant> {
        match self.variants {
            Some(own) => own(),
            None => Dtype::STORED.map(|dtype| Variant::stored(self.name, dtype)).into(),
        }
    }

    /// The kernels in it.
    #[must_use]
    pub fn kernels(&self) -> Vec<&'static str> {
        let name = |rest: &'static str| rest.split(',').next().expect("a split has a first part");
        let mut kernels: Vec<&str> = self.source.split("\nKERNEL(").skip(1).map(name).collect();
        // where dtypes have kernels of their own, both have the name
        kernels.dedup();
        kernels
    }
}

/// What stands before the structs of a file: the device's instructions and storage types, activations, and what every kernel
/// shares.
#[must_use]
pub fn prelude() -> String {
    let parts = [
        part("device", "cuh", include_str!("device.cuh")),
        part("common", "rs", &common::header()),
        part("functions", "cuh", include_str!("functions.cuh")),
        part("act", "rs", &act::Values::declaration()),
        part("common", "cuh", include_str!("common.cuh")),
    ];
    parts.concat()
}

/// A part of a text, of which messages name the file.
fn part(name: &str, end: &str, text: &str) -> String {
    format!("#line 1 \"{name}.{end}\"\n{text}")
}

/// Every variant that a launch can name.
#[must_use]
pub fn variants() -> Vec<Variant> {
    FILES.iter().flat_map(File::variants).collect()
}

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
    ///
    /// # Panics
    /// If the list has no file of that name.
    pub fn of(&self) -> &'static File {
        FILES.iter().find(|file| file.name == self.file).expect("variants name files of the list")
    }

    fn stored(file: &'static str, dtype: Dtype) -> Variant {
        Variant { file, defines: vec![("DTYPE", dtype.stored().name().into())] }
    }

    fn multiplied(file: &'static str, dtype: Dtype) -> Variant {
        Variant { file, defines: vec![("DTYPE", dtype.name().into())] }
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn files_and_variants_belong_together() {
        let all = variants();
        let names: BTreeSet<String> = all.iter().map(Variant::name).collect();
        assert_eq!(names.len(), all.len(), "a name has one variant");
        for file in FILES {
            assert!(!file.kernels().is_empty(), "{} has kernels", file.name);
            assert!(file.variants().iter().all(|variant| variant.file == file.name), "{} names itself", file.name);
            assert!(!file.variants().is_empty(), "{} has variants", file.name);
        }
    }
}
