//! A file mapped into memory, read-only.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{Mmap, UncheckedAdvice};

/// The bytes of a whole file, read from the disk page by page as they are touched.
pub(super) struct MappedFile(Mmap);

impl MappedFile {
    pub fn new(file: &File) -> io::Result<MappedFile> {
        // SAFETY: the map is private to this process and read-only, and every byte pattern is a valid `u8`. What Rust cannot
        // rule out is another process that shortens or rewrites the file meanwhile; archc itself replaces files by rename
        // (see `io::atomic`), which leaves the mapped one as it is.
        unsafe { Mmap::map(file) }.map(MappedFile)
    }

    pub fn all(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of a range that a checked header names.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.0.get(range.clone()).expect("the header's ranges were checked against the file's length")
    }

    /// Maps the pages of `range` at once, which is faster than a fault for every few of them.
    pub fn want(&self, range: &Range<usize>) {
        #[cfg(target_os = "linux")]
        // Older kernels know no such advice: then pages come as they are touched.
        let _ = self.0.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    /// Drops the pages of `range` (and what else lies on its first and last) from this process' memory.
    pub fn release(&self, range: &Range<usize>) {
        if range.is_empty() {
            return;
        }
        // SAFETY: `DontNeed` on a read-only map of a file only forgets pages; the next access, by whoever holds a slice,
        // reads the same bytes from the file again.
        let advised = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        // Where the system knows no such advice, the pages stay; nothing depends on it.
        drop(advised);
    }
}
