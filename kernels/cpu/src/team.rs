//! The threads of one run, kept together from its first step to its last.
//!
//! Waking a thread costs tens of microseconds, as much as a whole layer of a small network. So a run ([`with`]) asks the
//! rayon pool for its threads once; they stay, and `share` hands each step's tasks to them through a few cache lines:
//! - a segment of the tasks for each thread, in order, so that a thread works on the same rows of the image from step
//!   to step and finds them in its own cache; who has finished takes what is left of others, from their end;
//! - who waits spins for some microseconds and then sleeps: a run on a busy machine must not burn what others need;
//! - nothing is allocated, and no lock is taken.
//!
//! Nobody waits for a thread that has not come: the one that runs the steps does all tasks that nobody else takes. So a
//! pool that is busy elsewhere, or runs several networks at once, makes a run slower, never wrong or stuck.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Threads of a team, at most; more would not find work in one image.
const MOST: usize = 64;

/// How long a thread spins for the next step before it sleeps.
const PATIENCE: Duration = Duration::from_micros(60);

/// What is alone on its cache lines (two, as they are fetched in pairs).
#[repr(align(128))]
struct Alone<T>(T);

/// One thread's place in a team.
struct Slot {
    /// The tasks of its segment that nobody has taken: first in the high half, end in the low half.
    tasks: AtomicU64,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

/// The tasks of a step. Valid as long as one of them is not finished.
#[derive(Clone, Copy)]
struct Job<'a> {
    run: &'a (dyn Fn(usize) + Sync),
}

struct Team {
    slots: [Alone<Slot>; MOST],
    /// Seats in use.
    size: usize,
    joined: Alone<AtomicUsize>,
    /// Counts the steps, so that who waits reads one line.
    steps: Alone<AtomicUsize>,
    sleepers: AtomicUsize,
    over: AtomicBool,
    /// Tasks of the current step that are not finished.
    pending: Alone<AtomicUsize>,
    panicked: AtomicBool,
    job: UnsafeCell<MaybeUninit<Job<'static>>>,
}
// SAFETY: `job` is written by the leader only while no task is untaken or unfinished, and read only by who has taken one.
unsafe impl Sync for Team {}

thread_local! {
    /// The team whose steps this thread runs; null for none.
    static LEADS: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
    /// Whether this thread does a task of a team: tasks inside are done in order, here.
    static WORKS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `inside` on this thread with the others of the current rayon pool at hand.
pub fn with<R: Send>(inside: impl FnOnce() -> R + Send) -> R {
    let size = rayon::current_num_threads().min(MOST);
    if size == 1 || WORKS.get() || !LEADS.get().is_null() {
        return inside();
    }
    let slot = || Alone(Slot { tasks: AtomicU64::new(0), asleep: AtomicBool::new(false), thread: OnceLock::new() });
    let team = Team {
        slots: std::array::from_fn(|_| slot()),
        size,
        joined: Alone(AtomicUsize::new(1)),
        steps: Alone(AtomicUsize::new(0)),
        sleepers: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        pending: Alone(AtomicUsize::new(0)),
        panicked: AtomicBool::new(false),
        job: UnsafeCell::new(MaybeUninit::uninit()),
    };
    let lead = || {
        let _over = Over(&team);
        LEADS.set(&team);
        inside()
    };
    rayon::join(lead, || team.spread(size - 1)).0
}

/// Does tasks 0..n on the threads of this thread's team; false where it leads none.
pub(super) fn share(n: usize, run: &(dyn Fn(usize) + Sync)) -> bool {
    if WORKS.get() {
        (0..n).for_each(run);
        return true;
    }
    let team = LEADS.get();
    if team.is_null() {
        return false;
    }
    // SAFETY: `with` sets the pointer, and takes it back before the team is gone.
    unsafe { &*team }.share(n, run);
    true
}

/// Ends a team, also when a step panics.
struct Over<'a>(&'a Team);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        LEADS.set(std::ptr::null());
        self.0.over.store(true, Ordering::SeqCst);
        self.0.call();
    }
}

impl Team {
    /// Seats the thread that comes here, and asks for `more - 1` others.
    fn spread(&self, more: usize) {
        if more > 1 {
            rayon::join(|| self.attend(), || self.spread(more - 1));
        } else {
            self.attend();
        }
    }

    /// A thread's time in the team.
    fn attend(&self) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        let own = self.joined.0.fetch_add(1, Ordering::Relaxed);
        self.slots[own].0.thread.get_or_init(thread::current);
        loop {
            let seen = self.steps.0.load(Ordering::Acquire);
            self.work(own);
            if self.over.load(Ordering::Acquire) {
                return;
            }
            self.wait(own, seen);
        }
    }

    /// Waits for a step after the `seen`-th, or the end.
    fn wait(&self, own: usize, seen: usize) {
        let news = || self.steps.0.load(Ordering::SeqCst) != seen || self.over.load(Ordering::SeqCst);
        let mut start = None;
        loop {
            for _ in 0..64 {
                if news() {
                    return;
                }
                std::hint::spin_loop();
            }
            if start.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                break;
            }
        }
        let slot = &self.slots[own].0;
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        slot.asleep.store(true, Ordering::SeqCst);
        // whoever has news from here on sees that this thread sleeps
        while !news() && slot.asleep.load(Ordering::SeqCst) {
            thread::park();
        }
        slot.asleep.store(false, Ordering::SeqCst);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes those that sleep.
    fn call(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) == 0 {
            return;
        }
        for slot in &self.slots[..self.size] {
            if slot.0.asleep.swap(false, Ordering::SeqCst)
                && let Some(thread) = slot.0.thread.get()
            {
                thread.unpark();
            }
        }
    }

    fn share(&self, n: usize, run: &(dyn Fn(usize) + Sync)) {
        // The tasks of a slot are two halves of a word.
        assert!(n <= u32::MAX as usize, "too many tasks");
        // SAFETY: only the lifetime changes. All tasks are finished before this function returns, and nobody reads the job
        // who has not taken one.
        let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(Job { run }) };
        // SAFETY: this is the leader, and the tasks of the step before are finished.
        unsafe { (*self.job.get()).write(job) };
        self.pending.0.store(n, Ordering::Relaxed);
        for (own, slot) in self.slots[..self.size].iter().enumerate() {
            let (first, end) = (n * own / self.size, n * (own + 1) / self.size);
            slot.0.tasks.store((first as u64) << 32 | end as u64, Ordering::Release);
        }
        self.steps.0.fetch_add(1, Ordering::SeqCst);
        self.call();
        self.work(0);
        let mut spins = 0u32;
        while self.pending.0.load(Ordering::Acquire) > 0 {
            spins += 1;
            // who has the last task may have lost its core to another process
            if spins.is_multiple_of(1 << 12) { thread::yield_now() } else { std::hint::spin_loop() }
        }
        if self.panicked.load(Ordering::Relaxed) {
            panic!("a task panicked on another thread");
        }
    }

    /// Does tasks, its own first, until none is left.
    fn work(&self, own: usize) {
        WORKS.set(true);
        for turn in 0..self.size {
            let slot = &self.slots[(own + turn) % self.size].0;
            while let Some(task) = slot.take(turn == 0) {
                // SAFETY: the job was written before its tasks were offered, and lives until this one is counted below.
                let job = unsafe { (*self.job.get()).assume_init() };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.run)(task))) {
                    self.panicked.store(true, Ordering::Relaxed);
                    self.pending.0.fetch_sub(1, Ordering::Release);
                    WORKS.set(false);
                    if own == 0 {
                        // others may still be at their tasks
                        while self.drain() {}
                        while self.pending.0.load(Ordering::Acquire) > 0 {
                            thread::yield_now();
                        }
                    }
                    resume_unwind(panic);
                }
                self.pending.0.fetch_sub(1, Ordering::Release);
            }
        }
        WORKS.set(false);
    }

    /// Takes back a task that nobody has taken; false where there is none.
    fn drain(&self) -> bool {
        let taken = self.slots[..self.size].iter().any(|slot| slot.0.take(true).is_some());
        if taken {
            self.pending.0.fetch_sub(1, Ordering::Release);
        }
        taken
    }
}

impl Slot {
    /// The first or the last task that nobody has taken.
    fn take(&self, first: bool) -> Option<usize> {
        let mut now = self.tasks.load(Ordering::Acquire);
        loop {
            let (from, end) = (now >> 32, now & u64::from(u32::MAX));
            if from >= end {
                return None;
            }
            let (task, next) = if first { (from, (from + 1) << 32 | end) } else { (end - 1, from << 32 | (end - 1)) };
            // Who succeeds has a task of the step that is current now, even if all has changed since `now` was read.
            match self.tasks.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(task as usize),
                Err(other) => now = other,
            }
        }
    }
}
