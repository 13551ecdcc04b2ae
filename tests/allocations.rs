//! A steady-state run allocates nothing. Alone in its binary, as it counts what the whole process allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use archc::{Device, Options, Spec, Tensor};

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's.
        unsafe { System.realloc(old, layout, size) }
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Networks that between them use every kernel that large networks spend their time in.
const SPECS: &[(&str, usize, &str)] = &[
    ("resnet18", 64, ""),
    ("resnet50", 64, "insert se(reduction = 16) at layer*[-1]"),
    ("mobilenet_v2", 64, ""),
    ("mobilenet_v3_small", 96, ""),
    ("efficientnet_b0", 64, ""),
    ("resnext50_32x4d", 64, "replace fc with linear(10)"),
    ("densenet121", 64, ""),
    ("convnext_tiny", 64, ""),
];

#[test]
fn a_steady_state_run_allocates_nothing() {
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        for (base, side, edits) in SPECS {
            let text = format!("archc 1\nbase {base} {{ input [N, 3, {side}, {side}] }}\n{edits}\n");
            let found = pool.install(|| allocations(&text));
            assert_eq!(found, 0, "allocations in a run of {base} on {threads} threads");
        }
    }
}

/// How many allocations three runs make at least, after those that fill the threads' scratch memory.
fn allocations(text: &str) -> usize {
    let model = Spec::from_text(text).compile().expect("it compiles");
    let options = Options { batch: Some(2), seed: Some(1), ..Options::default() };
    let mut session = model.load(Device::Cpu, options).expect("it fits");
    let executable = session.executable();
    let inputs: Vec<Tensor> = executable.plan().inputs().iter().map(|(_, dims)| Tensor::zeros(dims.clone())).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Tensor::data).collect();
    let mut outputs = executable.outputs();
    let mut run = |times| {
        for _ in 0..times {
            executable.run_into(&inputs, &mut outputs).expect("the CPU does not fail");
        }
    };
    // Which thread does which task is chance, and a thread's scratch grows with the first task that wants it. On a busy
    // machine a thread may come late to it, so that some tries find growth; what every run allocates, all of them find.
    run(12);
    let mut counted = || {
        ALLOCATIONS.store(0, Ordering::Relaxed);
        COUNTS.store(true, Ordering::Relaxed);
        run(3);
        COUNTS.store(false, Ordering::Relaxed);
        ALLOCATIONS.load(Ordering::Relaxed)
    };
    let mut least = usize::MAX;
    for _ in 0..20 {
        least = least.min(counted());
        if least == 0 {
            break;
        }
    }
    least
}
