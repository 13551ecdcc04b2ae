//! How much memory there is, so that what cannot fit is an error before it is allocated.

use std::path::Path;

use crate::diag::{Code, Problem};
use crate::io::open;

/// Bytes that this process may still take: what the kernel says is available, or less where a control group or a limit of
/// the process (`ulimit -v`, `ulimit -d`) says so. Everything where none is known.
pub fn available() -> usize {
    let machine = told("/proc/meminfo").and_then(|text| mem_available(&text));
    machine.into_iter().chain(control_group()).chain(own_limits()).min().unwrap_or(usize::MAX)
}

/// `1.2 GB`
pub fn gigabytes(bytes: usize) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// The error of values that do not fit; `bytes` is the largest number where they cannot even be counted.
pub(super) fn too_large(bytes: usize, batch: usize) -> Problem {
    let needed = if bytes == usize::MAX { "more memory than can be counted".into() } else { gigabytes(bytes) };
    let message = format!("the values of the network for a batch of {batch} need {needed}");
    Problem::new(Code::Resource, message)
        .note(format!("{} are available", gigabytes(available())))
        .hint("a smaller batch or smaller images")
}

fn mem_available(meminfo: &str) -> Option<usize> {
    kilobytes(meminfo, "MemAvailable:")
}

/// What is left of the process's own limits, whichever is reached first.
fn own_limits() -> Option<usize> {
    left(&told("/proc/self/limits")?, &told("/proc/self/status")?)
}

fn left(limits: &str, used: &str) -> Option<usize> {
    let of = |limit: &str, now: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit))?;
        // the soft limit comes first; `unlimited` is no number
        let soft = line.split_whitespace().next()?.parse::<usize>().ok()?;
        Some(soft.saturating_sub(kilobytes(used, now)?))
    };
    of("Max address space", "VmSize:").into_iter().chain(of("Max data size", "VmData:")).min()
}

/// The bytes of a line `Name:  1024 kB`.
fn kilobytes(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// What is left of this process's memory limit, version 2 or 1 of control groups.
fn control_group() -> Option<usize> {
    let number = |path: &str| told(path)?.trim().parse::<usize>().ok();
    let left = |limit: &str, used: &str| Some(number(limit)?.saturating_sub(number(used)?));
    let own = told("/proc/self/cgroup").unwrap_or_default();
    let unified = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("").trim_end_matches('/');
    let root = "/sys/fs/cgroup";
    [unified, ""]
        .iter()
        .filter_map(|at| left(&format!("{root}{at}/memory.max"), &format!("{root}{at}/memory.current")))
        .chain(left(&format!("{root}/memory/memory.limit_in_bytes"), &format!("{root}/memory/memory.usage_in_bytes")))
        .min()
}

/// What the kernel writes in one of its files.
fn told(path: &str) -> Option<String> {
    open::read_text(Path::new(path), 1 << 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_counts_in_kilobytes() {
        let text = "MemTotal:       16384 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(mem_available(text), Some(1 << 20));
        assert_eq!(mem_available("MemTotal: 1 kB"), None);
        assert!(available() > 0);
    }

    #[test]
    fn limits_of_the_process_count() {
        let limits = |space: &str, data: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             {data}            unlimited            bytes     \n\
                 Max address space         {space}            unlimited            bytes     \n"
            )
        };
        let used = "VmSize:\t    1024 kB\nVmData:\t      24 kB\n";
        assert_eq!(left(&limits("unlimited", "unlimited"), used), None);
        assert_eq!(left(&limits("2097152", "unlimited"), used), Some(1 << 20));
        assert_eq!(left(&limits("2097152", "25576"), used), Some(1000));
        assert_eq!(left(&limits("1000", "unlimited"), used), Some(0));
    }

    #[test]
    fn the_message_names_the_figure() {
        let problem = too_large(12_345_678_901, 64);
        assert_eq!(problem.message, "the values of the network for a batch of 64 need 12.3 GB");
    }
}
