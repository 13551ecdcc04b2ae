//! The generic entry points for each pair of formats, so that this crate holds an instance of each.
//!
//! rustc shares a crate's instances with the crates that use it up to opt-level 1, that of tests: without this list each
//! of those would compile half of the kernels again, which takes minutes. A release build does not share, and compiles
//! them in each.

use half::bf16;

use super::{Element, PackedConv, PackedMat, adaptive_pool, bf16 as reduced, pool};
use crate::bf16::Unit;
use crate::{choose, estimate};

/// Entry points; nothing is meant to call it.
#[doc(hidden)]
pub fn instances() -> Vec<*const ()> {
    let of = [into::<f32, f32>(), into::<bf16, bf16>(), into::<bf16, f32>(), into::<f32, bf16>()];
    of.into_iter().flatten().chain(from::<f32>()).chain(from::<bf16>()).collect()
}

fn from<T: Element>() -> [*const (); 8] {
    [
        PackedConv::<T>::pack as fn(Unit, _, _, _) -> _ as *const (),
        PackedConv::<T>::pack_for as fn(Unit, _, _, _, _) -> _ as *const (),
        PackedConv::<T>::kernel as fn(_) -> _ as *const (),
        PackedConv::<T>::streamed as fn(_, _) -> _ as *const (),
        PackedConv::<T>::room as fn(_, _) -> _ as *const (),
        PackedMat::<T>::from_nk as fn(Unit, _) -> _ as *const (),
        choose::<T> as fn(Unit, _, _) -> _ as *const (),
        estimate::<T> as fn(Unit, _, _, _) -> _ as *const (),
    ]
}

fn into<T: Element, O: Element>() -> [*const (); 7] {
    [
        PackedConv::<T>::run::<O> as fn(_, _, _, _) as *const (),
        PackedConv::<T>::run_io::<O> as fn(_, _, _) as *const (),
        PackedMat::<T>::run::<O> as fn(_, _, _, _) as *const (),
        PackedMat::<T>::run_wide::<O> as fn(_, _, _, _) as *const (),
        pool::<T, O> as fn(Unit, _, _, _, _) as *const (),
        adaptive_pool::<T, O> as fn(Unit, _, _, _) as *const (),
        reduced::copy::<T, O> as fn(_, _, _, _, _) as *const (),
    ]
}
