//! The `archc` program: memory, arguments, dispatch, exit code.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Rust's own default for the stack of a thread.
const STACK: usize = 2 << 20;

fn main() -> std::process::ExitCode {
    let asked = std::env::var("RUST_MIN_STACK").ok().and_then(|bytes| bytes.parse::<usize>().ok());
    if asked.is_some_and(|bytes| bytes < STACK) {
        // SAFETY: no other thread runs yet that could read the environment
        unsafe { std::env::remove_var("RUST_MIN_STACK") };
    }
    archc::cli::main()
}

/// The system's allocator, but that a program without memory ends with a message and the exit status of a missing resource
/// instead of by an abort.
struct Reporting;

#[global_allocator]
static ALLOCATOR: Reporting = Reporting;

thread_local! {
    /// Whether the thread is about to say so. Neither its creation nor its end takes memory.
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call is the system allocator's with the caller's arguments, whose contract is the same; what it returns is
// handed on as it is, or the process ends
unsafe impl GlobalAlloc for Reporting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract
        or_end(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract
        or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's contract
        or_end(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn or_end(pointer: *mut u8, bytes: usize) -> *mut u8 {
    // the second time it is the message that wants memory: the caller sees to it
    if pointer.is_null() && !ENDS.replace(true) {
        archc::cli::out_of_memory(bytes);
    }
    pointer
}
