//! Ctrl-C, SIGTERM and SIGHUP: files that are not finished are removed, then the process dies by the signal, so that who
//! started it sees why it ended. A command that has something to bring to an end asks to be told first.
//!
//! A file that grows beyond `ulimit -f` is an error of its writer: SIGXFSZ, which would end the process without a word, is
//! caught and not heeded.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::exec::cpu::kernels::NoMemory;
use crate::io::{atomic, console};

/// Whether the first signal is a wish.
static WAITS: AtomicBool = AtomicBool::new(false);
/// The signal that was such a wish, 0 before.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// Whether it is being said that there is no memory.
static SAYS: AtomicBool = AtomicBool::new(false);

/// Takes over the signals. Those that are ignored stay so: `nohup` and shells without job control mean it.
pub fn install() {
    system::install();
    let panics = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // kernels know no messages: one that finds no memory for its weights panics
        if panic.payload().is::<NoMemory>() {
            no_memory("packed weights");
        }
        panics(panic);
    }));
}

/// While it lives, the first signal is a wish to stop, which [`asked`] knows; the second ends the process.
pub struct Waits;

impl Waits {
    pub fn new() -> Waits {
        WAITS.store(true, Ordering::SeqCst);
        Waits
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        WAITS.store(false, Ordering::SeqCst);
    }
}

/// The exit status to stop with, as a shell gives it for the signal, where that was asked.
pub fn asked() -> Option<u8> {
    match ASKED.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(128 + signal),
    }
}

/// Ends a process that got no memory, `bytes` of them, with what can be said and done without taking any.
pub fn out_of_memory(bytes: usize) -> ! {
    no_memory(format_args!("{bytes} bytes more"))
}

fn no_memory(what: impl std::fmt::Display) -> ! {
    if SAYS.swap(true, Ordering::SeqCst) {
        // another thread is at it, and ends this one too
        std::thread::sleep(std::time::Duration::from_secs(1));
        std::process::exit(3)
    }
    atomic::abandon_what_is_free();
    console::say_unallocated(format_args!(
        "error[resource]: memory ran out: the system has none for {what}\n  \
         = help: a smaller `--batch`, fewer `--threads`, or a larger limit (`ulimit -v`, the container's)\n"
    ));
    std::process::exit(3)
}

fn received(signal: u8) {
    let waits = WAITS.load(Ordering::SeqCst);
    if waits && ASKED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        console::say_lines("\nfinishing the step; once more to stop at once\n");
        return;
    }
    atomic::abandon();
    system::die(signal);
}

#[cfg(unix)]
mod system {
    use std::path::Path;
    use std::sync::Arc;
    use std::thread;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::iterator::Signals;
    use signal_hook::{flag, low_level};

    use crate::io::open;

    pub fn install() {
        // nobody reads the flag: a signal with a handler does not end the process
        let _ = flag::register(SIGXFSZ, Arc::default());
        let Some(ignored) = ignored() else { return };
        let heard: Vec<i32> = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|s| ignored >> (s - 1) & 1 == 0).collect();
        // without a thread, signals do what they always do
        let _ = thread::Builder::new().name("signals".into()).spawn(move || {
            if let Ok(mut signals) = Signals::new(heard) {
                signals.forever().for_each(|signal| super::received(signal as u8));
            }
        });
    }

    pub fn die(signal: u8) -> ! {
        // the kernel keeps the first process of a container from dying by its own signal
        if std::process::id() != 1 {
            let _ = low_level::emulate_default_handler(signal.into());
        }
        std::process::exit(128 + i32::from(signal))
    }

    /// The signals that this process was told to ignore, a bit each; where the system does not say, none.
    fn ignored() -> Option<u64> {
        let Ok(status) = open::read_text(Path::new("/proc/self/status"), 1 << 16) else { return Some(0) };
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    }
}

#[cfg(not(unix))]
mod system {
    const INTERRUPT: u8 = 2;

    pub fn install() {
        // without a handler, Ctrl-C does what it always does
        let _ = ctrlc::set_handler(|| super::received(INTERRUPT));
    }

    pub fn die(signal: u8) -> ! {
        std::process::exit(128 + i32::from(signal))
    }
}
