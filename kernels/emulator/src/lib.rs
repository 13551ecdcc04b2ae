//! Runs archc's CUDA kernels on the CPU, for tests: the same .cu files, compiled as C++, behind a launch of the shape of
//! `cuLaunchKernel` whose device addresses are addresses of this process.
//!
//! Found and reported with kernel, block and thread: accesses beyond a [`Buffer`] or beyond shared memory, collectives that
//! not all lanes reach, deadlocks, misaligned copies. Shared memory starts as NaN and asynchronous copies arrive as late
//! as they may, so that a missing wait or barrier shows in the numbers. It says nothing about speed, and it does not model
//! weak memory: a missing fence passes.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use archc_cuda::{Args, Launch};
use rayon::prelude::*;

mod buffer;
mod map;
mod pack;

pub use buffer::Buffer;
pub use map::tensor_map;
pub use pack::pack_conv;

unsafe extern "C" {
    fn emu_args_bytes(variant: *const c_char, kernel: *const c_char) -> usize;
    fn emu_launch(
        variant: *const c_char,
        kernel: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared: usize,
        args: *const *mut c_void,
        from: u64,
        to: u64,
        seed: u64,
        error: *mut c_char,
        error_bytes: usize,
    ) -> c_int;
}

/// Bytes of the kernel's argument; 0 where there is no such kernel.
pub fn args_bytes(variant: &str, kernel: &str) -> usize {
    let (variant, kernel) = (name(variant), name(kernel));
    // SAFETY: both are strings that end with zero.
    unsafe { emu_args_bytes(variant.as_ptr(), kernel.as_ptr()) }
}

/// Runs a kernel of the variant of that name. Blocks are spread over rayon's threads; threads of a block take turns in an
/// order that follows `seed`.
///
/// # Safety
/// `args` holds a pointer to the kernel's argument, whose addresses are those of memory that the kernel may use as
/// archc-cuda says.
///
/// # Errors
/// What the kernel did wrong, with block and thread.
pub unsafe fn launch_seeded(
    variant: &str,
    kernel: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    args: &mut [*mut c_void],
    seed: u64,
) -> Result<(), String> {
    let (variant, kernel) = (name(variant), name(kernel));
    let blocks: u64 = grid.iter().map(|len| u64::from(*len)).product();
    let parts = (rayon::current_num_threads() as u64 * 4).min(blocks).max(1);
    let args = Pointers(args.as_ptr());
    (0..parts).into_par_iter().try_for_each(|part| {
        let args = &args;
        let mut error = vec![0u8; 4096];
        let (from, to) = (blocks * part / parts, blocks * (part + 1) / parts);
        // SAFETY: strings end with zero, grid and block have three numbers, the error buffer is as long as said; the
        // rest is the caller's promise.
        let code = unsafe {
            let (grid, block, error_at) = (grid.as_ptr(), block.as_ptr(), error.as_mut_ptr().cast());
            let (variant, kernel) = (variant.as_ptr(), kernel.as_ptr());
            emu_launch(variant, kernel, grid, block, shared as usize, args.0, from, to, seed, error_at, error.len())
        };
        if code == 0 {
            return Ok(());
        }
        Err(CStr::from_bytes_until_nul(&error).map_or_else(|_| "?".into(), |text| text.to_string_lossy().into_owned()))
    })
}

/// [`launch_seeded`] with the order of thread numbers.
///
/// # Safety
/// As [`launch_seeded`].
///
/// # Errors
/// As [`launch_seeded`].
pub unsafe fn launch(
    variant: &str,
    kernel: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    args: &mut [*mut c_void],
) -> Result<(), String> {
    // SAFETY: the caller's promise.
    unsafe { launch_seeded(variant, kernel, grid, block, shared, args, 0) }
}

/// Runs what a launch names.
///
/// # Safety
/// As [`launch_seeded`].
///
/// # Errors
/// As [`launch_seeded`]; also where the argument has another size than the kernel's.
pub unsafe fn run<A: Args>(launch: &Launch, args: &A, seed: u64) -> Result<(), String> {
    let variant = launch.variant.name();
    let bytes = args_bytes(&variant, launch.kernel);
    if bytes != size_of::<A>() {
        return Err(format!("{variant}: {} takes {bytes} bytes, got {}", launch.kernel, size_of::<A>()));
    }
    let Launch { kernel, grid, block, shared, .. } = launch;
    // SAFETY: the caller's promise.
    unsafe { launch_seeded(&variant, kernel, *grid, *block, *shared, &mut [args.pointer()], seed) }
}

/// Arguments are only read.
struct Pointers(*const *mut c_void);
// SAFETY: no thread writes through it.
unsafe impl Sync for Pointers {}

fn name(text: &str) -> CString {
    CString::new(text).expect("names have no zero in them")
}
