//! A GPU through NVIDIA's driver, which is found when it is first needed.
//!
//! One context (the device's primary one), one stream, no allocation while it runs. cudarc panics at the first call where
//! the driver library or a function of it is missing, so that [`Device::new`] asks for both before.

use std::ffi::{CString, c_int, c_void};
use std::sync::Mutex;
use std::time::Duration;

use cudarc::driver::{DriverError, result, sys};
use rustc_hash::FxHashMap;

use super::cache::Cache;
use super::compile;
use super::driver::{Driver, Facts, Fault, Graph, Kernel, Launch, Staging};
use super::nvrtc::{Nvrtc, nvrtc};
use crate::diag::{Code, Problem};
use archc_cuda::{Boxes, Dtype, Kind, TensorMap, Variant};

/// The oldest driver whose functions are all there: CUDA 12.4.
const OLDEST_DRIVER: c_int = 12040;
/// Ampere: matrix instructions on bf16 and asynchronous copies.
const OLDEST_CAPABILITY: (u32, u32) = (8, 0);

/// Whether there is a driver, and its version: 13.0 is (13, 0).
///
/// # Errors
/// Why there is none that can be used.
pub fn driver_version() -> Result<(u32, u32), String> {
    // SAFETY: looks for the library and keeps it loaded; NVIDIA's initialisers need nothing of this process.
    if !unsafe { sys::is_culib_present() } {
        return Err("libcuda.so.1, which comes with NVIDIA's driver, is not found".into());
    }
    let mut version = 0;
    // SAFETY: the library is there, the function in all its versions, and the pointer is to a number.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|error| text(error).1)?;
    let pair = ((version / 1000) as u32, (version % 1000 / 10) as u32);
    match old(version) {
        Some(why) => Err(why),
        None => Ok(pair),
    }
}

/// Why a driver of that version cannot be used, if so.
fn old(version: c_int) -> Option<String> {
    let (major, minor) = (version / 1000, version % 1000 / 10);
    (version < OLDEST_DRIVER).then(|| format!("the driver is for CUDA {major}.{minor}, and 12.4 or newer is needed"))
}

/// What is known of each GPU.
///
/// # Errors
/// Why there are none.
pub fn devices() -> Result<Vec<Facts>, String> {
    driver_version()?;
    result::init().map_err(|error| text(error).1)?;
    let count = result::device::get_count().map_err(|error| text(error).1)?;
    (0..count).map(|ordinal| facts(ordinal).map_err(|error| text(error).1)).collect()
}

/// Why a GPU of that capability cannot be used, if so.
pub fn refusal((major, minor): (u32, u32)) -> Option<String> {
    ((major, minor) < OLDEST_CAPABILITY)
        .then(|| format!("it has compute capability {major}.{minor}, and the kernels need 8.0 (Ampere) or newer"))
}

fn facts(ordinal: c_int) -> Result<Facts, DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = result::device::get(ordinal)?;
    // SAFETY: `device` came from the driver.
    let number = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    let capability = (
        number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
        number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
    );
    Ok(Facts {
        name: result::device::get_name(device)?,
        capability,
        processors: number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
        clock: 1e3 * f64::from(number(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?),
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device) }?,
        l2: number(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
        // ways to compare on one machine
        wgmma: capability == (9, 0) && !switched_off("ARCHC_WGMMA"),
        tma: capability == (9, 0) && !switched_off("ARCHC_WGMMA") && !switched_off("ARCHC_TMA"),
    })
}

/// Whether the variable of that name is 0.
fn switched_off(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "0")
}

/// How a kernel follows the one before it in the queue.
#[derive(Clone, Copy, PartialEq)]
enum Follow {
    /// By programmatic dependent launch: its blocks are scheduled while the one before ends, and wait there.
    Overlapping,
    /// Starts when the one before is done.
    Apart,
}

/// One GPU with a compiler for it.
pub struct Device {
    facts: Facts,
    driver: (u32, u32),
    context: sys::CUcontext,
    stream: sys::CUstream,
    nvrtc: &'static Nvrtc,
    cache: Cache,
    loaded: Mutex<FxHashMap<Variant, Module>>,
}

#[derive(Clone)]
struct Module(sys::CUmodule);

// SAFETY: handles of the driver, which may be used from any thread; each call binds the context to its thread first, and
// what is not synchronised by the driver (graphs) is behind `&mut` or used by one owner.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}
// SAFETY: as above.
unsafe impl Send for Module {}

impl Device {
    /// GPU number `ordinal`.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn new(ordinal: usize) -> Result<Device, Problem> {
        let driver = driver_version().map_err(|why| {
            missing(&why)
                .hint("install NVIDIA's driver, or leave `--device` out to run on the CPU")
                .hint("`archc devices` lists what is there")
        })?;
        let devices = devices().map_err(|why| missing(&why).hint("leave `--device` out to run on the CPU"))?;
        let Some(facts) = devices.get(ordinal).cloned() else {
            let plural = if devices.len() == 1 { "GPU" } else { "GPUs" };
            let message = format!("there is no device cuda:{ordinal}: this machine has {} {plural}", devices.len());
            return Err(Problem::new(Code::Resource, message).hint("`archc devices` lists what is there"));
        };
        if let Some(why) = refusal(facts.capability) {
            let message = format!("cuda:{ordinal} ({}) cannot be used: {why}", facts.name);
            return Err(Problem::new(Code::Resource, message).hint("leave `--device` out to run on the CPU"));
        }
        let nvrtc = nvrtc().map_err(|why| no_compiler(&why))?;
        let (major, minor) = facts.capability;
        if !nvrtc.architectures().contains(&(10 * major + minor)) {
            let (has, too) = nvrtc.version;
            let message = format!("the CUDA compiler {has}.{too} does not know compute capability {major}.{minor}");
            return Err(Problem::new(Code::Resource, message).hint(INSTALL));
        }
        let open = || {
            let device = result::device::get(ordinal as c_int)?;
            // SAFETY: `device` came from the driver; the context is kept for the life of the process.
            let context = unsafe { result::primary_ctx::retain(device) }?;
            // SAFETY: the context was just retained.
            unsafe { result::ctx::set_current(context) }?;
            Ok((context, result::stream::create(result::stream::StreamKind::NonBlocking)?))
        };
        let (context, stream) = open().map_err(|error| {
            let message = format!("cuda:{ordinal} ({}) cannot be opened: {}", facts.name, text(error).1);
            Problem::new(Code::Resource, message)
        })?;
        let loaded = Mutex::new(FxHashMap::default());
        Ok(Device { facts, driver, context, stream, nvrtc, cache: Cache::new(), loaded })
    }

    fn bind(&self) -> Result<(), DriverError> {
        // SAFETY: the context lives as long as the process.
        unsafe { result::ctx::set_current(self.context) }
    }

    /// The loaded modules of `variants`.
    fn modules(&self, variants: &[Variant]) -> Result<Vec<sys::CUmodule>, Problem> {
        let mut loaded = self.loaded.lock().expect("no thread panics while it holds the lock");
        let mut new: Vec<Variant> = variants.iter().filter(|one| !loaded.contains_key(one)).cloned().collect();
        new.sort();
        new.dedup();
        let architecture = compile::architecture(self.facts.capability);
        let codes = compile::compile(self.nvrtc, &self.cache, &architecture, &new)?;
        for (variant, code) in new.into_iter().zip(codes) {
            let module = self.module(&architecture, &variant, &code)?;
            loaded.insert(variant, Module(module));
        }
        Ok(variants.iter().map(|variant| loaded[variant].0).collect())
    }

    /// Loads machine code; where the driver refuses what the cache had, it is compiled once more.
    fn module(&self, architecture: &str, variant: &Variant, code: &[u8]) -> Result<sys::CUmodule, Problem> {
        // SAFETY: the driver reads as many bytes as the image's own header says; the cache has checked that they are all there.
        let load = |code: &[u8]| unsafe { result::module::load_data(code.as_ptr().cast()) };
        let again = || compile::again(self.nvrtc, &self.cache, architecture, variant);
        loaded(code, load, again).map_err(|error| refused(variant, &text(error).1, self.driver, self.nvrtc.version))
    }
}

/// Machine code by `load`; where that refuses it, what `again` makes; the first error where neither can be loaded.
fn loaded<M, E>(
    code: &[u8],
    load: impl Fn(&[u8]) -> Result<M, E>,
    again: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<M, E> {
    load(code).or_else(|first| match again().map(|code| load(&code)) {
        Ok(Ok(module)) => Ok(module),
        _ => Err(first),
    })
}

/// That the driver does not take what the compiler made, most likely as it is older.
fn refused(variant: &Variant, why: &str, driver: (u32, u32), nvrtc: (u32, u32)) -> Problem {
    Problem::new(Code::Resource, format!("the driver does not load the kernel `{}`: {why}", variant.name()))
        .note(format!("the driver is for CUDA {}.{}, the compiler {}.{}", driver.0, driver.1, nvrtc.0, nvrtc.1))
        .hint("update NVIDIA's driver, or name an older compiler by ARCHC_NVRTC=/path/of/libnvrtc.so")
}

/// How to get a compiler.
pub const INSTALL: &str = "`pip install nvidia-cuda-nvrtc==13.0.88` into the active Python environment, install the CUDA toolkit, or name \
     one by ARCHC_NVRTC=/path/of/libnvrtc.so";

fn missing(why: &str) -> Problem {
    Problem::new(Code::Resource, format!("there is no CUDA device: {why}"))
}

fn no_compiler(why: &str) -> Problem {
    Problem::new(Code::Resource, format!("the kernels cannot be compiled: {why}"))
        .hint(INSTALL)
        .hint("leave `--device` out to run on the CPU")
}

/// The name of an error, and what it means.
fn text(error: DriverError) -> (String, String) {
    let get = |text: Result<&std::ffi::CStr, DriverError>| {
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_else(|_| format!("error {}", error.0 as u32))
    };
    (get(error.error_name()), get(error.error_string()))
}

fn fault(call: &'static str) -> impl Fn(DriverError) -> Fault {
    move |error| {
        let (name, meaning) = text(error);
        let out_of_memory = error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        Fault { call, message: format!("{meaning} ({name})"), out_of_memory, launch: None }
    }
}

impl Driver for Device {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn kernels(&self, wanted: &[(Variant, &'static str, u32)]) -> Result<Vec<Kernel>, Problem> {
        let resource = |error: Fault| Problem::new(Code::Resource, format!("{}: {}", error.call, error.message));
        self.bind().map_err(fault("binding the context")).map_err(resource)?;
        let variants: Vec<Variant> = wanted.iter().map(|(variant, ..)| variant.clone()).collect();
        let modules = self.modules(&variants)?;
        let one = |(module, (_, name, shared)): (sys::CUmodule, &(Variant, &'static str, u32))| {
            let name = CString::new(*name).expect("names of kernels have no zero byte");
            // SAFETY: the module is loaded and stays so.
            let function = unsafe { result::module::get_function(module, name) }.map_err(fault("finding a kernel"))?;
            let registers = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_NUM_REGS;
            // Asked so that the driver loads the kernel now, and not during stream capture, when it may not.
            // SAFETY: the function is of a loaded module.
            unsafe { result::function::get_function_attribute(function, registers) }
                .map_err(fault("loading a kernel"))?;
            // beyond 48 KiB it is asked for, what the kernel has of its own counted
            if *shared > 0 {
                let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: the function is of a loaded module.
                let set = unsafe { result::function::set_function_attribute(function, attribute, *shared as c_int) };
                set.map_err(fault("asking for shared memory"))?;
            }
            Ok(Kernel(function as usize))
        };
        modules.into_iter().zip(wanted).map(one).collect::<Result<_, _>>().map_err(resource)
    }

    fn free_memory(&self) -> usize {
        self.bind().and_then(|()| result::mem_get_info()).map_or(self.facts.memory, |(free, _)| free)
    }

    fn alloc(&self, bytes: usize) -> Result<u64, Fault> {
        self.bind().map_err(fault("binding the context"))?;
        // SAFETY: a size of at least one byte; nothing is assumed of what is in it.
        unsafe { result::malloc_sync(bytes.max(1)) }.map_err(fault("allocating memory"))
    }

    fn free(&self, at: u64) {
        // SAFETY: `at` came from `alloc`, and its one owner gives it back once. An error here is of something before.
        let _ = self.bind().and_then(|()| unsafe { result::free_sync(at) });
    }

    fn staging(&self, bytes: usize) -> Result<Box<dyn Staging>, Fault> {
        self.bind().map_err(fault("binding the context"))?;
        // SAFETY: a size of at least one byte.
        let at = unsafe { result::malloc_host(bytes.max(1), 0) }.map_err(fault("allocating pinned memory"))?;
        // SAFETY: it was just allocated with so many bytes.
        unsafe { std::ptr::write_bytes(at.cast::<u8>(), 0, bytes.max(1)) };
        Ok(Box::new(Pinned { at: at.cast(), bytes, context: self.context }))
    }

    fn write(&self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.bind().map_err(fault("binding the context"))?;
        // SAFETY: the caller's memory is of the device and large enough; the copy is over when the call returns.
        unsafe { result::memcpy_htod_sync(to, bytes) }.map_err(fault("copying to the device"))
    }

    fn zero(&self, at: u64, bytes: usize) -> Result<(), Fault> {
        self.bind().map_err(fault("binding the context"))?;
        // SAFETY: as above.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream) }.map_err(fault("clearing memory"))
    }

    fn start_write(&self, to: u64, from: &dyn Staging) -> Result<(), Fault> {
        self.bind().map_err(fault("binding the context"))?;
        // SAFETY: both sides are as long; staging memory stays until the owner waited for the queue.
        unsafe { result::memcpy_htod_async(to, from.bytes(), self.stream) }.map_err(fault("copying to the device"))
    }

    fn start_read(&self, from: u64, to: &mut dyn Staging) -> Result<(), Fault> {
        self.bind().map_err(fault("binding the context"))?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(to.bytes_mut(), from, self.stream) }
            .map_err(fault("copying from the device"))
    }

    fn tensor_map(&self, boxes: &Boxes) -> Result<TensorMap, Fault> {
        self.bind().map_err(fault("binding the context"))?;
        encode(boxes, self.driver).map_err(fault("describing a tensor"))
    }

    fn launch(&self, launch: &Launch) -> Result<(), Fault> {
        self.bind().map_err(fault("binding the context"))?;
        self.start(launch, Follow::Apart).map_err(fault("starting a kernel"))
    }

    fn capture(&self, launches: &[Launch]) -> Result<Box<dyn Graph>, Fault> {
        let mut last = 0;
        let mut capture = |follow: Follow| {
            self.capture_each(launches.len(), |at| {
                last = at;
                self.start(&launches[at], follow)
            })
        };
        let overlapping = self.facts.capability >= (9, 0) && !switched_off("ARCHC_PDL");
        // where the driver does not capture such launches, plain ones
        let graph = match overlapping.then(|| capture(Follow::Overlapping)) {
            Some(Ok(graph)) => Ok(graph),
            _ => capture(Follow::Apart),
        };
        let graph = graph.map_err(|error| Fault { launch: Some(last), ..fault("capturing the kernels")(error) })?;
        Ok(Box::new(graph))
    }

    fn time_each(&self, launches: &[Launch], count: usize) -> Result<Vec<Duration>, Fault> {
        // events inside of the graph, so that what the host does meanwhile does not show; beside it where the driver will not have it
        self.times(launches, count, true)
            .or_else(|_| self.times(launches, count, false))
            .map_err(fault("timing kernels"))
    }

    fn wait(&self) -> Result<(), Fault> {
        self.bind().map_err(fault("binding the context"))?;
        // SAFETY: the stream lives as long as the process.
        unsafe { result::stream::synchronize(self.stream) }.map_err(fault("waiting for the device"))
    }
}

/// The driver's own form of a tensor map.
fn encode(boxes: &Boxes, driver: (u32, u32)) -> Result<TensorMap, DriverError> {
    use sys::{
        CUtensorMapDataType_enum as Element, CUtensorMapFloatOOBfill_enum as Outside,
        CUtensorMapInterleave_enum as Interleave, CUtensorMapL2promotion_enum as Promotion,
        CUtensorMapSwizzle_enum as Swizzle,
    };
    let Boxes { at, dtype, rank, dims, strides, kind } = *boxes;
    let element = match dtype {
        Dtype::F16 => Element::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        _ => Element::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
    };
    let interleave = Interleave::CU_TENSOR_MAP_INTERLEAVE_NONE;
    let swizzle = Swizzle::CU_TENSOR_MAP_SWIZZLE_128B;
    let promotion = Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
    let outside = Outside::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
    let mut map = TensorMap::default();
    let to = (&raw mut map).cast::<sys::CUtensorMap>();
    let (dims_at, strides_at) = (dims.as_ptr(), strides.as_ptr());
    match kind {
        Kind::Tiled([rows, matrices]) => {
            let (lens, steps) = ([64, rows, matrices], [1u32; 3]);
            // SAFETY: a map has 128 bytes on 64; the arrays have as many numbers as `rank`, which is 2 or 3, asks for.
            // The driver looks at the address only when kernels use the map.
            unsafe {
                sys::cuTensorMapEncodeTiled(
                    to,
                    element,
                    rank as u32,
                    at as *mut c_void,
                    dims_at,
                    strides_at,
                    lens.as_ptr(),
                    steps.as_ptr(),
                    interleave,
                    swizzle,
                    promotion,
                    outside,
                )
            }
            .result()?;
        }
        Kind::Windows { lower, upper, steps: [across, down], pixels } => {
            let steps = [1, across, down, 1];
            // SAFETY: as above, with a rank of 4 and two corners of two numbers.
            unsafe {
                sys::cuTensorMapEncodeIm2col(
                    to,
                    element,
                    rank as u32,
                    at as *mut c_void,
                    dims_at,
                    strides_at,
                    lower.as_ptr(),
                    upper.as_ptr(),
                    64,
                    pixels,
                    steps.as_ptr(),
                    interleave,
                    swizzle,
                    promotion,
                    outside,
                )
            }
            .result()?;
        }
    }
    // Drivers up to CUDA 13.1 set a bit that they should not where a tensor is below 128 KiB; CUTLASS and Triton clear it
    // as well.
    let distances = [2].into_iter().chain(strides);
    let span: u64 = dims[..rank].iter().zip(distances).map(|(len, distance)| (len - 1) * distance).sum();
    if driver <= (13, 1) && span + 1 < 128 << 10 {
        map.0[1] &= !(1 << 21);
    }
    Ok(map)
}

/// `CU_EVENT_RECORD_EXTERNAL`: the event is recorded at every replay, where the host can read it.
const EXTERNAL: u32 = 1;

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Device {
    fn times(&self, launches: &[Launch], count: usize, in_graph: bool) -> Result<Vec<Duration>, DriverError> {
        self.bind()?;
        let events = Events::new(launches.len() + 1)?;
        let each = |at: usize| {
            let flags = if in_graph { EXTERNAL } else { 0 };
            // SAFETY: the event and the stream are alive.
            unsafe { sys::cuEventRecordWithFlags(events.0[at], self.stream, flags) }.result()?;
            launches.get(at).map_or(Ok(()), |launch| self.start(launch, Follow::Apart))
        };
        let graph = if in_graph { Some(self.capture_each(launches.len() + 1, each)?) } else { None };
        let mut times = vec![vec![]; launches.len()];
        for _ in 0..count {
            match &graph {
                Some(graph) => graph.start()?,
                None => (0..=launches.len()).try_for_each(each)?,
            }
            // SAFETY: the stream is alive.
            unsafe { result::stream::synchronize(self.stream) }?;
            for (at, times) in times.iter_mut().enumerate() {
                times.push(events.between(at, at + 1)?);
            }
        }
        Ok(times.iter_mut().map(|times| median(times)).collect())
    }

    fn start(&self, launch: &Launch, follow: Follow) -> Result<(), DriverError> {
        let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (launch.grid, launch.block);
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID_enum::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue_union { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: grid_x,
            gridDimY: grid_y,
            gridDimZ: grid_z,
            blockDimX: block_x,
            blockDimY: block_y,
            blockDimZ: block_z,
            sharedMemBytes: launch.shared,
            hStream: self.stream,
            attrs: &raw mut attribute,
            numAttrs: u32::from(follow == Follow::Overlapping),
        };
        let mut params: [*mut c_void; 1] = [launch.args.pointer()];
        let function = launch.kernel.0 as sys::CUfunction;
        // SAFETY: the kernel takes one struct, which the contract says; the addresses in it are of memory that its owner
        // keeps, and the driver copies the argument and the attribute before it returns. A kernel that follows closely
        // waits before it touches memory: every kernel does so by `follow`.
        unsafe { sys::cuLaunchKernelEx(&raw const config, function, params.as_mut_ptr(), std::ptr::null_mut()) }
            .result()
    }

    /// A graph of what `each` starts for 0, 1, .. below `count`.
    fn capture_each(
        &self,
        count: usize,
        mut each: impl FnMut(usize) -> Result<(), DriverError>,
    ) -> Result<Captured, DriverError> {
        self.bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive and captures nothing yet.
        unsafe { result::stream::begin_capture(self.stream, mode) }?;
        let started = (0..count).try_for_each(&mut each);
        // SAFETY: the capture was begun on this stream by this thread; it is ended in any case.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        started?;
        let graph = graph?;
        // SAFETY: the graph was just made.
        let exec = match unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) } {
            Ok(exec) => exec,
            Err(error) => {
                // SAFETY: the graph is ours, and nothing uses it.
                let _ = unsafe { result::graph::destroy(graph) };
                return Err(error);
            }
        };
        let captured = Captured { graph, exec, stream: self.stream, context: self.context };
        // SAFETY: graph and stream are alive.
        unsafe { result::graph::upload(exec, self.stream) }?;
        Ok(captured)
    }
}

/// A CUDA graph.
struct Captured {
    graph: sys::CUgraph,
    exec: sys::CUgraphExec,
    stream: sys::CUstream,
    context: sys::CUcontext,
}

// SAFETY: handles of the driver; the graph has one owner.
unsafe impl Send for Captured {}

impl Captured {
    fn start(&self) -> Result<(), DriverError> {
        // SAFETY: context, graph and stream are alive.
        unsafe {
            result::ctx::set_current(self.context)?;
            result::graph::launch(self.exec, self.stream)
        }
    }
}

impl Graph for Captured {
    fn replay(&self) -> Result<(), Fault> {
        self.start().map_err(fault("starting the graph of kernels"))
    }

    fn time(&self, count: usize) -> Result<Vec<Duration>, Fault> {
        let run = || {
            let events = Events::new(2 * count)?;
            for pair in events.0.chunks_exact(2) {
                // SAFETY: events and stream are alive.
                unsafe { result::event::record(pair[0], self.stream) }?;
                self.start()?;
                // SAFETY: as above.
                unsafe { result::event::record(pair[1], self.stream) }?;
            }
            // SAFETY: the stream is alive.
            unsafe { result::stream::synchronize(self.stream) }?;
            (0..count).map(|at| events.between(2 * at, 2 * at + 1)).collect::<Result<_, _>>()
        };
        run().map_err(fault("timing the graph of kernels"))
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: both are ours and nothing uses them any more. Errors here are of something before.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::graph::exec_destroy(self.exec);
            let _ = result::graph::destroy(self.graph);
        }
    }
}

/// Events that keep the time.
struct Events(Vec<sys::CUevent>);

impl Events {
    fn new(count: usize) -> Result<Events, DriverError> {
        let mut events = Events(vec![]);
        for _ in 0..count {
            events.0.push(result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)?);
        }
        Ok(events)
    }

    fn between(&self, from: usize, to: usize) -> Result<Duration, DriverError> {
        let mut milliseconds = 0f32;
        // SAFETY: both events are alive and were recorded.
        unsafe { sys::cuEventElapsedTime(&mut milliseconds, self.0[from], self.0[to]) }.result()?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        for event in &self.0 {
            // SAFETY: ours, and nothing uses it any more.
            let _ = unsafe { result::event::destroy(*event) };
        }
    }
}

/// Pinned memory of the host.
struct Pinned {
    at: *mut u8,
    bytes: usize,
    context: sys::CUcontext,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Staging for Pinned {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the allocation has so many bytes, all of them written once.
        unsafe { std::slice::from_raw_parts(self.at, self.bytes) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: it came from `malloc_host` and is given back once, after the queue was waited for.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::free_host(self.at.cast());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_refused_with_what_is_needed() {
        for capability in [(3, 5), (6, 1), (7, 0), (7, 5)] {
            let why = refusal(capability).expect("the kernels need newer instructions");
            let has = format!("capability {}.{}", capability.0, capability.1);
            assert!(why.contains(&has) && why.contains("8.0 (Ampere) or newer"), "{why}");
        }
        for capability in [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)] {
            assert_eq!(refusal(capability), None);
        }
        assert_eq!(old(12_030).as_deref(), Some("the driver is for CUDA 12.3, and 12.4 or newer is needed"));
        assert_eq!([12_040, 12_080, 13_000].map(old), [None, None, None]);
    }

    #[test]
    fn code_that_the_driver_refuses_is_compiled_once_more() {
        let takes = |good: &'static [u8]| move |code: &[u8]| if code == good { Ok("module") } else { Err("no image") };
        let again = || Ok(b"new".to_vec());
        assert_eq!(loaded(b"old", takes(b"old"), || panic!("there is nothing to compile")), Ok("module"));
        // an entry of the cache that this driver does not know
        assert_eq!(loaded(b"old", takes(b"new"), again), Ok("module"));
        // a driver older than the compiler
        assert_eq!(loaded(b"old", takes(b"another"), again), Err("no image"));
        assert_eq!(loaded(b"old", takes(b"new"), || Err("no compiler".into())), Err("no image"));
        let fill = archc_cuda::variants().into_iter().find(|one| one.file == "fill").expect("a variant");
        let problem = refused(&fill, "no kernel image is available", (12, 4), (13, 0));
        assert_eq!(problem.message, "the driver does not load the kernel `fill.f32`: no kernel image is available");
        assert_eq!(problem.notes, ["the driver is for CUDA 12.4, the compiler 13.0"]);
        assert!(problem.hints[0].contains("update NVIDIA's driver"));
    }

    #[test]
    fn a_missing_compiler_says_how_to_get_one() {
        let problem = no_compiler("libnvrtc, the CUDA compiler, is not found");
        assert_eq!(problem.code, Code::Resource);
        assert!(problem.message.contains("not found") && problem.hints[0].contains("pip install nvidia-cuda-nvrtc"));
    }
}
