//! What this machine can do at most, measured: multiply-adds, bandwidth of each level of memory, and how long two cores
//! take to tell each other something.
//!
//! A peak is the best of a few short runs, as nothing that slows one down belongs to it. The threads are those of the
//! current rayon pool. The time of a team is from its first start to its last end.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

use super::kernels::{Isa, peak};
use crate::io::open;

/// The peaks of some threads together. Rates are per second.
#[derive(Clone, Debug)]
pub struct Peaks {
    pub isa: Isa,
    pub threads: usize,
    /// Floating point operations in float32.
    pub fma: f64,
    /// The same of bf16 dot products, where the CPU has them.
    pub bf16: Option<f64>,
    /// From the nearest to the farthest.
    pub levels: Vec<Level>,
}

/// A level of memory as some threads see it.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// `L2`, `L3`, `memory`
    pub name: &'static str,
    /// Bytes that it holds for all threads together.
    pub holds: f64,
    /// Bytes read.
    pub read: f64,
    /// Bytes read and written while copying.
    pub copy: f64,
}

/// Bytes that are moved, and how many lie between two uses of the same one, which is what a cache must hold.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub bytes: f64,
    pub reach: f64,
}

/// How long something would take at the roofline, and which of the peaks binds.
#[derive(Clone, Copy, Debug)]
pub struct Ideal {
    pub seconds: f64,
    pub bound: &'static str,
}

/// Which of the machine's rates of arithmetic something can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    F32,
    /// Dot products of bf16; float32 where the CPU has none.
    Bf16,
}

impl Arithmetic {
    /// Of a kernel by its name.
    pub fn of(kernel: &str) -> Arithmetic {
        let sums = ["direct bf16", "gemm bf16", "winograd f2 bf16"];
        let is_sum = sums.iter().any(|name| kernel.starts_with(name));
        if is_sum && !kernel.ends_with("in f32") { Arithmetic::Bf16 } else { Arithmetic::F32 }
    }
}

/// Bytes of each number of the weights that a kernel of this name reads.
pub fn weight_size(kernel: &str) -> usize {
    if Arithmetic::of(kernel) == Arithmetic::Bf16 || kernel == "dot products bf16" { 2 } else { 4 }
}

impl Peaks {
    /// Of all threads of the current pool. Takes less than a second.
    pub fn measure(isa: Isa) -> Peaks {
        Peaks::of(isa, rayon::current_num_threads())
    }

    /// Of one thread alone.
    pub fn of_one_thread(isa: Isa) -> Peaks {
        Peaks::of(isa, 1)
    }

    fn of(isa: Isa, threads: usize) -> Peaks {
        const ROUNDS: usize = 2 << 20;
        let fma = best(threads, || (), |()| peak::fma(isa, ROUNDS));
        let has_bf16 = peak::dot_bf16(isa, 1).is_some();
        let bf16 = has_bf16.then(|| best(threads, || (), |()| peak::dot_bf16(isa, ROUNDS).unwrap_or(0.0)));
        let [l2, l3] = cache_sizes();
        // a half of the own L2, then beyond all L2 but within L3, then beyond that
        let sizes = [l2 / 2, (4 * l2).min(l3 / 2 / threads).max(2 * l2), (4 * l3 / threads).max(64 << 20)];
        let names = [("L2", l2 * threads), ("L3", l3), ("memory", usize::MAX)];
        let level = |(size, (name, holds)): (usize, (&'static str, usize))| {
            let floats = size / size_of::<f32>();
            let passes = ((256 << 20) / size).max(1);
            let read =
                best(threads, || vec![1.0f32; floats], |data| (0..passes).map(|_| peak::read(isa, data)).sum::<f64>());
            let copy = best(
                threads,
                || (vec![1.0f32; floats / 2], vec![0.0f32; floats / 2]),
                |(from, to)| (0..passes).map(|_| peak::copy(isa, from, to)).sum::<f64>(),
            );
            Level { name, holds: holds as f64, read, copy }
        };
        Peaks { isa, threads, fma, bf16, levels: sizes.into_iter().zip(names).map(level).collect() }
    }

    /// The least time for `flops` operations and some traffic, each as fast as its peak and both at once.
    /// Bytes come from the nearest level that can hold what lies between two uses.
    pub fn ideal(&self, flops: f64, arithmetic: Arithmetic, traffic: &[Traffic]) -> Ideal {
        let mut moved = Ideal { seconds: 0.0, bound: "L2" };
        let mut slowest = 0.0;
        for one in traffic {
            let last = self.levels.last().expect("there is memory");
            let level = self.levels.iter().find(|level| one.reach <= level.holds).unwrap_or(last);
            let seconds = one.bytes / level.read;
            moved.seconds += seconds;
            if seconds > slowest {
                (slowest, moved.bound) = (seconds, level.name);
            }
        }
        let (rate, bound) = match (arithmetic, self.bf16) {
            (Arithmetic::Bf16, Some(rate)) => (rate, "bf16"),
            _ => (self.fma, "fma"),
        };
        let computed = flops / rate;
        if computed > moved.seconds { Ideal { seconds: computed, bound } } else { moved }
    }
}

/// The best rate of a few repetitions on `threads` threads of the current pool at once, each with its own data.
fn best<D>(threads: usize, data: impl Fn() -> D + Sync, work: impl Fn(&mut D) -> f64 + Sync) -> f64 {
    const REPEATS: usize = 6;
    let arrived = AtomicUsize::new(0);
    let one = || {
        let mut data = data();
        let repeat = |at: usize| {
            arrived.fetch_add(1, Ordering::AcqRel);
            let mut spins = 0u32;
            while arrived.load(Ordering::Acquire) < (at + 1) * threads {
                pause(&mut spins);
            }
            let start = Instant::now();
            let amount = work(&mut data);
            (start, Instant::now(), amount)
        };
        (0..REPEATS).map(repeat).collect::<Vec<_>>()
    };
    let runs = if threads == 1 { vec![one()] } else { rayon::broadcast(|_| one()) };
    let rate = |at: usize| {
        let spans = || runs.iter().map(move |run| run[at]);
        let start = spans().map(|span| span.0).min().expect("a thread or more");
        let end = spans().map(|span| span.1).max().expect("a thread or more");
        spans().map(|span| span.2).sum::<f64>() / (end - start).as_secs_f64().max(1e-9)
    };
    (0..REPEATS).map(rate).fold(0.0, f64::max)
}

/// Waits a little; gives the core away after a while, as the other thread may need it.
fn pause(spins: &mut u32) {
    *spins += 1;
    if spins.is_multiple_of(1 << 14) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Nanoseconds until one core sees what another wrote: half of a round between two threads, the median of some batches.
/// It says how far apart the cores lie, which moves the figures of small batches by 15 %. None on a single core.
pub fn core_to_core() -> Option<f64> {
    const BATCHES: usize = 25;
    const ROUNDS: u32 = 400;
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    /// A cache line or two of its own, as neighbouring lines are fetched together.
    #[repr(align(128))]
    struct Flag(AtomicU32);
    let (ping, pong) = (Flag(AtomicU32::new(0)), Flag(AtomicU32::new(0)));
    let total = BATCHES as u32 * ROUNDS;
    let wait = |flag: &Flag, round: u32| {
        let mut spins = 0;
        while flag.0.load(Ordering::Acquire) < round {
            pause(&mut spins);
        }
    };
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=total {
                wait(&ping, round);
                pong.0.store(round, Ordering::Release);
            }
        });
        let mut round = 0;
        let batch = |_| {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                round += 1;
                ping.0.store(round, Ordering::Release);
                wait(&pong, round);
            }
            start.elapsed().as_nanos() as f64 / f64::from(2 * ROUNDS)
        };
        (0..BATCHES).map(batch).collect()
    });
    times.sort_by(f64::total_cmp);
    Some(times[BATCHES / 2])
}

/// Bytes of a core's L2 and of the L3, as the system says; else what is common.
pub(super) fn cache_sizes() -> [usize; 2] {
    let mut sizes = [1 << 20, 32 << 20];
    for index in 0..8 {
        let read = |what: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{what}");
            open::read_text(Path::new(&path), 1 << 10).ok()
        };
        let (Some(level), Some(size)) = (read("level"), read("size")) else { continue };
        let size = size.trim().strip_suffix('K').and_then(|size| size.parse::<usize>().ok()).map(|size| size << 10);
        match (level.trim(), size) {
            ("2", Some(size)) => sizes[0] = size,
            ("3", Some(size)) => sizes[1] = size,
            _ => {}
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flops of 1, of bf16 2, and bytes of 1, 10, 100 a second.
    fn plain() -> Peaks {
        let level = |name, holds, read| Level { name, holds, read, copy: read };
        let levels = vec![level("L2", 10.0, 100.0), level("L3", 100.0, 10.0), level("memory", 1e30, 1.0)];
        Peaks { isa: Isa::detect(), threads: 1, fma: 1.0, bf16: Some(2.0), levels }
    }

    #[test]
    fn the_slower_of_arithmetic_and_traffic_binds() {
        let traffic = |bytes, reach| Traffic { bytes, reach };
        let cases = [
            (5.0, vec![traffic(100.0, 10.0)], 5.0, "fma"),
            (0.5, vec![traffic(100.0, 10.0)], 1.0, "L2"),
            (0.5, vec![traffic(100.0, 11.0)], 10.0, "L3"),
            (0.5, vec![traffic(10.0, 50.0), traffic(8.0, 1000.0)], 9.0, "memory"),
            (0.5, vec![], 0.5, "fma"),
        ];
        for (flops, traffic, seconds, bound) in cases {
            let ideal = plain().ideal(flops, Arithmetic::F32, &traffic);
            assert_eq!((ideal.seconds, ideal.bound), (seconds, bound), "{flops} {traffic:?}");
        }
        let bf16 = |peaks: Peaks| {
            let ideal = peaks.ideal(4.0, Arithmetic::of("direct bf16 12x32"), &[]);
            (ideal.seconds, ideal.bound)
        };
        assert_eq!(bf16(plain()), (2.0, "bf16"));
        assert_eq!(bf16(Peaks { bf16: None, ..plain() }), (4.0, "fma"));
    }

    #[test]
    fn the_cores_see_each_other() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(core_to_core().is_some_and(|ns| ns > 0.0), cores > 1);
    }
}
