//! Memory that ends where a page begins that cannot be touched.

use std::ptr::{self, NonNull};

const PAGE: usize = 4096;

/// Numbers, all bytes 0xff at first (not a number in every type). They end at a guard page, so that a kernel that goes
/// beyond them is caught; its start is on 16 bytes.
pub struct Buffer<T> {
    pages: NonNull<u8>,
    bytes: usize,
    start: NonNull<T>,
    len: usize,
}

// SAFETY: it owns its memory, as a vector does.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T: Copy> Buffer<T> {
    /// # Panics
    /// If there is no memory.
    pub fn new(len: usize) -> Buffer<T> {
        Buffer::shifted(len, 0)
    }

    /// With its start so many elements beyond 16 bytes.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn shifted(len: usize, by: usize) -> Buffer<T> {
        let used = ((len + by) * size_of::<T>()).next_multiple_of(16);
        let bytes = used.next_multiple_of(PAGE) + PAGE;
        // SAFETY: a new private mapping.
        let pages = unsafe {
            let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0)
        };
        assert!(pages != libc::MAP_FAILED, "memory for {bytes} bytes");
        let pages = NonNull::new(pages.cast::<u8>()).expect("a mapping is not at 0");
        // SAFETY: all of it lies within the mapping, whose last page becomes the guard.
        unsafe {
            pages.as_ptr().write_bytes(0xff, bytes - PAGE);
            assert_eq!(libc::mprotect(pages.as_ptr().add(bytes - PAGE).cast(), PAGE, libc::PROT_NONE), 0);
            let start = pages.add(bytes - PAGE - used).cast::<T>().add(by);
            Buffer { pages, bytes, start, len }
        }
    }

    pub fn of(values: &[T]) -> Buffer<T> {
        let mut buffer = Buffer::new(values.len());
        buffer.values_mut().copy_from_slice(values);
        buffer
    }

    /// As kernels see it.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    pub fn values(&self) -> &[T] {
        // SAFETY: `len` elements from `start` are this buffer's and initialised; any bits are numbers.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this buffer's alone.
        unsafe {
            libc::munmap(self.pages.as_ptr().cast(), self.bytes);
        }
    }
}
