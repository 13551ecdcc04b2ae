//! What the backend needs of a device: memory, kernels, launches, graphs of them. The real one is
//! [`Device`](super::Device); the tests of `kernels/emulator` put an emulator behind the same trait, so that
//! everything above it runs where there is no GPU.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use crate::diag::{Code, Problem};
use archc_cuda::{Args, Boxes, Choice, Conv, Dtype, TensorMap, Tma, Variant};

/// What is known of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub name: String,
    /// Its compute capability: 9.0 is (9, 0).
    pub capability: (u32, u32),
    pub processors: usize,
    /// Cycles a second at most.
    pub clock: f64,
    /// Bytes.
    pub memory: usize,
    pub l2: usize,
    /// Whether kernels may use the matrix instructions that sm_90a alone has.
    pub wgmma: bool,
    /// Whether TMA may bring operands; only with `wgmma`.
    pub tma: bool,
}

impl Facts {
    /// A convolution whose operands TMA brings, where that is best on this device.
    pub fn choose_tma(&self, conv: &Conv, dtype: Dtype) -> Option<Tma> {
        if self.tma { conv.choose_tma(dtype, self.processors) } else { None }
    }

    /// How another convolution is cut for this device.
    pub fn choose(&self, conv: &Conv, dtype: Dtype) -> Choice {
        if self.wgmma { conv.choose_for_hopper(dtype, self.processors) } else { conv.choose(dtype, self.processors) }
    }
}

/// A call to the device that went wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub call: &'static str,
    pub message: String,
    pub out_of_memory: bool,
    /// Which launch of a sequence, where that is known.
    pub launch: Option<usize>,
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Problem {
        Problem::new(Code::Resource, format!("{}: {}", fault.call, fault.message))
    }
}

/// A kernel of a loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel(pub usize);

/// A kernel with everything that a launch needs.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kernel: Kernel,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    /// The kernel's one argument.
    pub args: Packed,
}

/// The bytes of a kernel's argument, aligned as every struct of the kernels is.
#[derive(Clone, Debug)]
pub struct Packed(Vec<Line>);

#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Line([u64; 8]);

impl Packed {
    pub fn new<A: Args>(args: &A) -> Packed {
        let mut words = vec![Line([0; 8]); size_of::<A>().div_ceil(size_of::<Line>())];
        // SAFETY: `A` is a repr(C) struct of numbers without padding that matters, `words` has room for it, and both are
        // different memory.
        unsafe {
            std::ptr::copy_nonoverlapping(args.pointer().cast::<u8>(), words.as_mut_ptr().cast(), size_of::<A>())
        };
        Packed(words)
    }

    /// Sets the address that lies so many bytes from the start, a multiple of 8.
    pub fn set_address(&mut self, at: usize, address: u64) {
        self.0[at / size_of::<Line>()].0[at % size_of::<Line>() / 8] = address;
    }

    pub fn pointer(&self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }
}

/// A graph of launches one after another.
pub trait Graph: Send {
    /// Starts all of it.
    fn replay(&self) -> Result<(), Fault>;

    /// Starts it `count` times, and says how long each took on the device.
    fn time(&self, count: usize) -> Result<Vec<Duration>, Fault>;
}

/// Pinned memory of the host.
pub trait Staging: Send {
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// A device with one queue: what is started on it runs in that order.
pub trait Driver: Send + Sync {
    fn facts(&self) -> &Facts;

    /// Compiles and loads what is not loaded yet. A kernel is named by its variant and its name in the file; the last
    /// number is the dynamic shared memory that it will want.
    fn kernels(&self, wanted: &[(Variant, &'static str, u32)]) -> Result<Vec<Kernel>, Problem>;

    /// Bytes of the device that nobody has taken.
    fn free_memory(&self) -> usize;

    /// On 256 bytes at least.
    fn alloc(&self, bytes: usize) -> Result<u64, Fault>;
    fn free(&self, at: u64);
    fn staging(&self, bytes: usize) -> Result<Box<dyn Staging>, Fault>;

    /// Waits until it is there.
    fn write(&self, to: u64, bytes: &[u8]) -> Result<(), Fault>;
    /// In the queue.
    fn zero(&self, at: u64, bytes: usize) -> Result<(), Fault>;

    /// Copies between the device and staging memory, in the queue.
    fn start_write(&self, to: u64, from: &dyn Staging) -> Result<(), Fault>;
    fn start_read(&self, from: u64, to: &mut dyn Staging) -> Result<(), Fault>;

    /// How TMA reads a tensor.
    fn tensor_map(&self, boxes: &Boxes) -> Result<TensorMap, Fault>;

    fn launch(&self, launch: &Launch) -> Result<(), Fault>;
    /// A graph of the launches, by stream capture.
    fn capture(&self, launches: &[Launch]) -> Result<Box<dyn Graph>, Fault>;
    /// Runs the sequence `count` times, and says how long each launch took, the median of the runs.
    fn time_each(&self, launches: &[Launch], count: usize) -> Result<Vec<Duration>, Fault>;

    /// Waits for everything that was started.
    fn wait(&self) -> Result<(), Fault>;
}

/// Device memory that is given back when it is dropped.
pub struct Memory {
    driver: Arc<dyn Driver>,
    pub at: u64,
    pub bytes: usize,
}

impl Memory {
    pub fn new(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Memory, Fault> {
        let at = driver.alloc(bytes.max(1))?;
        Ok(Memory { driver: driver.clone(), at, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.driver.free(self.at);
    }
}

/// The driver's launch of a kernel's one.
pub fn bound(kernel: Kernel, launch: &archc_cuda::Launch, args: Packed) -> Launch {
    Launch { kernel, grid: launch.grid, block: launch.block, shared: launch.shared, args }
}
