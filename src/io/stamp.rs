//! Whether a file is still the one that was read: a hash of its content that is known need not be made again.

use std::fs::Metadata;

use serde::{Deserialize, Serialize};

/// What a file that has not been touched keeps. The number tells files apart that were made at one time and renamed; the
/// time of the last change, unlike that of the content, cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    bytes: u64,
    number: u64,
    /// In nanoseconds since 1970.
    changed: i64,
}

impl Stamp {
    /// None where the system has neither number nor time.
    #[cfg(unix)]
    pub fn of(found: &Metadata) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let changed = found.ctime().wrapping_mul(1_000_000_000).wrapping_add(found.ctime_nsec());
        Some(Stamp { bytes: found.len(), number: found.ino(), changed })
    }

    #[cfg(not(unix))]
    pub fn of(_found: &Metadata) -> Option<Stamp> {
        None
    }

    /// Whether a change that comes now would have another time: clocks of file systems are coarse.
    pub fn is_settled(&self) -> bool {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as i128 - i128::from(self.changed) > 2_000_000_000
    }
}
