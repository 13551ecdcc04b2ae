//! The emulator of `kernels/emulator` as a driver: device memory is memory of this process, and a graph is a
//! list. Kernels are checked for accesses beyond an allocation and for missing barriers as they run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use archc::stages::diag::{Code, Problem};
use archc::stages::exec::cuda::driver::{Driver, Facts, Fault, Graph, Kernel, Launch, Staging};
use archc_cuda::{Boxes, TensorMap, Variant};

/// A device of a stated size, whose graphs are lists.
pub struct Emulated {
    facts: Facts,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    memory: Mutex<BTreeMap<u64, archc_emu::Buffer<u8>>>,
    kernels: Mutex<Vec<(String, &'static str)>>,
    /// The launch, counted from the first, that fails.
    fails: Option<usize>,
    launched: AtomicUsize,
}

impl Emulated {
    /// With so many multiprocessors and bytes; with several it multiplies as Hopper does.
    pub fn new(processors: usize, memory: usize) -> Emulated {
        let facts = Facts {
            name: "emulator".into(),
            capability: (9, 0),
            processors,
            clock: 1e9,
            memory,
            l2: 1 << 16,
            wgmma: processors > 1,
            tma: processors > 1,
        };
        Emulated { facts, state: Arc::default() }
    }

    /// On which launch number `at` fails, as on a GPU: the launch itself succeeds, and whatever comes after it says so.
    pub fn failing(processors: usize, memory: usize, at: usize) -> Emulated {
        let state = State { fails: Some(at), ..State::default() };
        Emulated { state: Arc::new(state), ..Emulated::new(processors, memory) }
    }

    /// Bytes that are allocated.
    pub fn taken(&self) -> usize {
        let memory = self.state.memory.lock().expect("no test panics while it holds the lock");
        memory.values().map(|buffer| buffer.values().len()).sum()
    }
}

impl State {
    /// Why nothing can be asked any more, if so.
    fn check(&self) -> Result<(), Fault> {
        let failed = self.fails.is_some_and(|at| self.launched.load(Ordering::SeqCst) > at);
        if failed {
            Err(fault("waiting for the device", "an illegal memory access was encountered".into()))
        } else {
            Ok(())
        }
    }

    fn launch(&self, launch: &Launch) -> Result<(), Fault> {
        let at = self.launched.fetch_add(1, Ordering::SeqCst);
        if self.fails.is_some_and(|fails| at >= fails) {
            return Ok(());
        }
        let (variant, kernel) = {
            let kernels = self.kernels.lock().expect("no test panics while it holds the lock");
            kernels[launch.kernel.0].clone()
        };
        let args = &mut [launch.args.pointer()];
        // SAFETY: addresses come from this driver's allocations, which their owner keeps.
        unsafe { archc_emu::launch(&variant, kernel, launch.grid, launch.block, launch.shared, args) }
            .map_err(|message| fault("starting a kernel", format!("{message} ({launch:?})")))
    }
}

fn fault(call: &'static str, message: String) -> Fault {
    Fault { call, message, out_of_memory: false, launch: None }
}

struct Host(Vec<u8>);

impl Staging for Host {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

struct List {
    state: Arc<State>,
    launches: Vec<Launch>,
}

impl Graph for List {
    fn replay(&self) -> Result<(), Fault> {
        self.state.check()?;
        for (at, launch) in self.launches.iter().enumerate() {
            self.state.launch(launch).map_err(|fault| Fault { launch: Some(at), ..fault })?;
        }
        Ok(())
    }

    fn time(&self, count: usize) -> Result<Vec<Duration>, Fault> {
        let one = |_| {
            let start = Instant::now();
            self.replay().map(|()| start.elapsed())
        };
        (0..count).map(one).collect()
    }
}

impl Driver for Emulated {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn kernels(&self, wanted: &[(Variant, &'static str, u32)]) -> Result<Vec<Kernel>, Problem> {
        let mut kernels = self.state.kernels.lock().expect("no test panics while it holds the lock");
        let one = |(variant, kernel, _): &(Variant, &'static str, u32)| {
            if archc_emu::args_bytes(&variant.name(), kernel) == 0 {
                return Err(Problem::new(Code::Resource, format!("no kernel {kernel} in {}", variant.name())));
            }
            kernels.push((variant.name(), kernel));
            Ok(Kernel(kernels.len() - 1))
        };
        wanted.iter().map(one).collect()
    }

    fn free_memory(&self) -> usize {
        self.facts.memory.saturating_sub(self.taken())
    }

    fn alloc(&self, bytes: usize) -> Result<u64, Fault> {
        self.state.check()?;
        if bytes > self.free_memory() {
            return Err(Fault { out_of_memory: true, ..fault("allocating memory", "out of memory".into()) });
        }
        // a device's allocations are on 256 bytes, and a buffer ends at a page
        let mut buffer = archc_emu::Buffer::<u8>::new(bytes.next_multiple_of(256));
        // not a number in any dtype
        buffer.values_mut().fill(0xff);
        let at = buffer.address();
        self.state.memory.lock().expect("no test panics while it holds the lock").insert(at, buffer);
        Ok(at)
    }

    fn free(&self, at: u64) {
        let freed = self.state.memory.lock().expect("no test panics while it holds the lock").remove(&at);
        assert!(freed.is_some(), "what is freed was allocated");
    }

    fn staging(&self, bytes: usize) -> Result<Box<dyn Staging>, Fault> {
        Ok(Box::new(Host(vec![0; bytes])))
    }

    fn write(&self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        // SAFETY: an allocation of this driver with room for as many bytes, and not that of `bytes`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    fn zero(&self, at: u64, bytes: usize) -> Result<(), Fault> {
        // SAFETY: as above.
        unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) };
        Ok(())
    }

    fn start_write(&self, to: u64, from: &dyn Staging) -> Result<(), Fault> {
        self.state.check()?;
        self.write(to, from.bytes())
    }

    fn start_read(&self, from: u64, to: &mut dyn Staging) -> Result<(), Fault> {
        self.state.check()?;
        let bytes = to.bytes_mut();
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn tensor_map(&self, boxes: &Boxes) -> Result<TensorMap, Fault> {
        archc_emu::tensor_map(boxes).map_err(|message| fault("describing a tensor", message))
    }

    fn launch(&self, launch: &Launch) -> Result<(), Fault> {
        self.state.check()?;
        self.state.launch(launch)
    }

    fn capture(&self, launches: &[Launch]) -> Result<Box<dyn Graph>, Fault> {
        Ok(Box::new(List { state: self.state.clone(), launches: launches.to_vec() }))
    }

    fn time_each(&self, launches: &[Launch], _count: usize) -> Result<Vec<Duration>, Fault> {
        let one = |launch: &Launch| {
            let start = Instant::now();
            self.state.launch(launch).map(|()| start.elapsed())
        };
        launches.iter().map(one).collect()
    }

    fn wait(&self) -> Result<(), Fault> {
        self.state.check()
    }
}
