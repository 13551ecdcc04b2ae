//! The network as passes and backends see it: fewer and plainer kinds of steps than the language has ops, each with an
//! epilogue. Weights are operands like any other value: constants where they are known when the network is loaded, states
//! where it learns.
//!
//! A kind has a file here, with everything that is true of it on every device: its fields, how its operands and its result
//! lie, what its epilogue may be, and its gradient. [`kinds!`] lists them. Logical axes stay as users write them
//! ([N, C, H, W]); where values lie in memory is the plan's business.

mod attention;
mod batch_norm;
mod binary;
mod channels;
mod constant;
mod conv;
mod conv_transpose;
mod dropout;
mod dump;
mod epilogue;
mod excitation;
mod gather;
mod gradient;
mod graph;
mod group_norm;
mod identity;
mod layer_norm;
mod linear;
mod loss;
mod lstm;
mod matmul;
mod movement;
mod normalize;
mod pool;
mod pooled_conv;
mod prelu;
mod reduce;
mod resize;
mod separable;
mod softmax;
mod step;
mod value;

pub use attention::Attention;
pub use batch_norm::{BatchNorm, BatchNormData, BatchNormSums, BatchStats, Running};
pub use binary::{Binary, SumTo};
pub use channels::{Channels, Sums};
pub use constant::{ChannelMap, Constant, Lies, Source};
pub use conv::{Conv, ConvData, ConvWeight};
pub use conv_transpose::ConvTranspose;
pub use dropout::{CLOCK, Dropout, Grain, clock};
pub use epilogue::{Epilogue, Squeeze};
pub use excitation::{Excitation, Excite, Means};
pub use gather::{Gather, GatherData};
pub use gradient::{Backward, backward};
pub use graph::{Id, Net, Node, State};
pub use group_norm::{GroupNorm, GroupNormData, GroupNormSums};
pub use identity::{ActData, Identity};
pub use layer_norm::{LayerNorm, LayerNormData, LayerNormSums};
pub use linear::{Linear, LinearData, LinearWeight};
pub use loss::{Loss, LossData};
pub use lstm::{LstmScan, LstmScanData};
pub use matmul::Matmul;
pub use movement::{Concat, Pad, Permute, Reshape, Roll, Slice, inverse};
pub use normalize::{Normalize, NormalizeData};
pub use pool::{AdaptivePool, AdaptivePoolData, Pool, PoolData};
pub use pooled_conv::PooledConv;
pub use prelu::{PRelu, PReluData, PReluSums};
pub use reduce::{MaxData, MeanData, Reduce};
pub use resize::{Antialias, Resize, ResizeData};
pub use separable::Separable;
pub use softmax::{Softmax, SoftmaxData};
pub use step::{Accepts, Layout, Need, Order, Step};
pub use value::{Gradient, Input, Stored};

/// Calls a macro with every kind that computes something from values in memory: what a backend has a kernel for.
macro_rules! kinds {
    ($with:ident) => {
        $with! {
            ActData, AdaptivePool, AdaptivePoolData, Antialias, Attention, BatchNorm, BatchNormData, BatchNormSums, BatchStats,
            Binary, Channels, Conv, ConvData, ConvTranspose, ConvWeight, Dropout, Excitation, Gather, GatherData, GroupNorm,
            GroupNormData, GroupNormSums, Identity, LayerNorm, LayerNormData, LayerNormSums, Linear, LinearData,
            LinearWeight, Loss, LossData, LstmScan, LstmScanData, Matmul, MaxData, MeanData, Normalize, NormalizeData, PRelu,
            PReluData, PReluSums, Pool, PoolData, PooledConv, Reduce, Resize, ResizeData, Running, Separable, Softmax, SoftmaxData,
            SumTo, Sums
        }
    };
}
pub(crate) use kinds;

macro_rules! kind {
    ($($kind:ident),*) => {
        /// What a node computes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Kind {
            Input(Input),
            /// A value of parameters alone.
            Constant(Constant),
            /// A state, as it is when the step runs.
            State(Stored),
            /// The gradient of a state: nothing reads it, it is kept.
            Gradient(Gradient),
            // what the plan makes views and copies of
            Concat(Concat),
            Means(Means),
            Pad(Pad),
            Permute(Permute),
            Reshape(Reshape),
            Roll(Roll),
            Slice(Slice),
            $($kind($kind),)*
        }

        impl std::ops::Deref for Kind {
            type Target = dyn Step;

            fn deref(&self) -> &(dyn Step + 'static) {
                match self {
                    Kind::Input(kind) => kind,
                    Kind::Constant(kind) => kind,
                    Kind::State(kind) => kind,
                    Kind::Gradient(kind) => kind,
                    Kind::Concat(kind) => kind,
                    Kind::Means(kind) => kind,
                    Kind::Pad(kind) => kind,
                    Kind::Permute(kind) => kind,
                    Kind::Reshape(kind) => kind,
                    Kind::Roll(kind) => kind,
                    Kind::Slice(kind) => kind,
                    $(Kind::$kind(kind) => kind,)*
                }
            }
        }

        $(impl From<$kind> for Kind {
            fn from(kind: $kind) -> Kind {
                Kind::$kind(kind)
            }
        })*
    };
}
kinds!(kind);

impl Kind {
    /// Whether its kernels have functions that are [rare](archc_base::Act::is_rare), as those of single values do.
    pub fn has_rare(&self) -> bool {
        matches!(self, Kind::Identity(_) | Kind::Binary(_) | Kind::Channels(_))
    }
}

macro_rules! others {
    ($($variant:ident: $kind:ident),*) => {
        $(impl From<$kind> for Kind {
            fn from(kind: $kind) -> Kind {
                Kind::$variant(kind)
            }
        })*
    };
}
others! {
    Input: Input, Constant: Constant, State: Stored, Gradient: Gradient, Concat: Concat, Means: Means, Pad: Pad,
    Permute: Permute, Reshape: Reshape, Roll: Roll, Slice: Slice
}
