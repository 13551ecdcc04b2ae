//! One thread at a time holds what is big: each takes its turn and gives it back when it drops it. A thread that has its turn
//! already does not wait for itself.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

static BIG: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread has its turn.
    static HAS: Cell<bool> = const { Cell::new(false) };
}

/// A thread's turn. It cannot leave its thread.
#[derive(Debug)]
pub(super) struct Turn {
    guard: Option<MutexGuard<'static, ()>>,
}

impl Turn {
    /// Waits until no other thread has its turn.
    pub fn wait() -> Turn {
        if HAS.get() {
            return Turn { guard: None };
        }
        let guard = BIG.lock().unwrap_or_else(PoisonError::into_inner);
        HAS.set(true);
        Turn { guard: Some(guard) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.guard.is_some() {
            HAS.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_wait_for_each_other_and_not_for_themselves() {
        static INSIDE: Mutex<usize> = Mutex::new(0);
        let both = || {
            for _ in 0..50 {
                let first = Turn::wait();
                let second = Turn::wait();
                *INSIDE.lock().unwrap() += 1;
                std::thread::yield_now();
                assert_eq!(*INSIDE.lock().unwrap(), 1);
                *INSIDE.lock().unwrap() -= 1;
                drop(second);
                drop(first);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(both);
            scope.spawn(both);
        });
    }
}
