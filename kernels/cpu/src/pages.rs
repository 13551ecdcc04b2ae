//! Memory for weights and values: zeroed, on huge pages where the system has them.
//!
//! Pages of 4 KiB cost a fault each when they are first touched, half of a cold start, and a miss of the TLB now and then
//! in every run. So memory is mapped in slabs of many pages that ask for huge ones; what is never touched costs nothing.

use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// A huge page of x86-64, in bytes.
const HUGE: usize = 2 << 20;
/// What is mapped at once for smaller pieces, in bytes.
const SLAB: usize = 32 << 20;
/// In bytes: floats start on a cache line.
const LINE: usize = 64;

/// Zeroed floats that start on a cache line.
pub struct Pages {
    /// Holds the memory; others may have their own parts of it.
    _map: Arc<Mapping>,
    start: *mut f32,
    len: usize,
}
// SAFETY: a `Pages` is the only owner of its part of the mapping.
unsafe impl Send for Pages {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Pages {}

struct Mapping {
    // only its address is used
    _map: MmapMut,
    start: *mut u8,
    len: usize,
}
// SAFETY: the pointer is only handed out in parts that do not overlap.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// The mapping that pieces are cut from, and how many of its bytes are taken.
static CURRENT: Mutex<Option<(Arc<Mapping>, usize)>> = Mutex::new(None);

impl Pages {
    /// None if the memory cannot be had.
    pub fn zeros(len: usize) -> Option<Pages> {
        let bytes = len.checked_mul(size_of::<f32>())?.checked_next_multiple_of(LINE)?;
        if bytes > SLAB / 4 {
            let map = Arc::new(Mapping::new(bytes)?);
            return Some(Pages { start: map.start.cast(), len, _map: map });
        }
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(map, taken)| map.len - taken < bytes) {
            *current = Some((Arc::new(Mapping::new(SLAB)?), 0));
        }
        let (map, taken) = current.as_mut()?;
        let start = map.start.wrapping_add(*taken).cast();
        *taken += bytes;
        Some(Pages { start, len, _map: map.clone() })
    }
}

impl Mapping {
    fn new(bytes: usize) -> Option<Mapping> {
        let len = bytes.checked_next_multiple_of(HUGE)?;
        let mut map = MmapMut::map_anon(len.checked_add(HUGE)?).ok()?;
        #[cfg(target_os = "linux")]
        // Without huge pages all is a little slower, and nothing else.
        let _ = map.advise(memmap2::Advice::HugePage);
        let start = map.as_mut_ptr();
        let start = start.wrapping_add(start.align_offset(HUGE));
        Some(Mapping { _map: map, start, len })
    }
}

impl Deref for Pages {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: these bytes of the mapping are this value's own, mapped as long as it lives, and zeroed at first.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeroed_and_apart() {
        let mut pieces: Vec<Pages> = [0, 1, 17, 1000, 3 << 20, 5].map(|len| Pages::zeros(len).expect("memory")).into();
        for (at, piece) in pieces.iter_mut().enumerate() {
            assert_eq!(piece.as_ptr() as usize % LINE, 0);
            assert!(piece.iter().all(|value| *value == 0.0));
            piece.fill(at as f32);
        }
        for (at, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|value| *value == at as f32));
        }
        assert!(Pages::zeros(usize::MAX / 8).is_none());
    }
}
