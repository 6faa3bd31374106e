//! The memory of the machine, or of the control groups (version 2) that the process is in.

use highwater_core::Bytes;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// What there is where the system does not say.
const UNKNOWN: u64 = 4 << 30;
const GROUPS: &str = "/sys/fs/cgroup";

/// Memory that there is.
pub(crate) fn memory() -> Bytes {
    let limits = groups().into_iter().filter_map(|group| limit(&group));
    Bytes(limits.chain(meminfo("MemTotal:")).min().unwrap_or(UNKNOWN))
}

/// Memory that can still be had; none where the system does not say.
pub(crate) fn memory_left() -> Option<Bytes> {
    let left = groups().into_iter().filter_map(|group| left_in(&group));
    left.chain(meminfo("MemAvailable:")).min().map(Bytes)
}

fn meminfo(field: &str) -> Option<u64> {
    let kib = number_of(&read_to_string("/proc/meminfo").ok()?, field)?;
    Some(kib << 10)
}

/// The group of this process and all that it is in.
fn groups() -> Vec<PathBuf> {
    let told = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = told.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let all = Path::new(GROUPS).join(own);
    all.ancestors().take_while(|group| group.starts_with(GROUPS)).map(Path::to_owned).collect()
}

/// None when it has no limit, which is written as a word.
fn limit(group: &Path) -> Option<u64> {
    read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()
}

/// What the kernel caches can go at any time.
fn left_in(group: &Path) -> Option<u64> {
    let limit = limit(group)?;
    let used: u64 = read_to_string(group.join("memory.current")).ok()?.trim().parse().ok()?;
    let told = read_to_string(group.join("memory.stat")).ok()?;
    let cached = ["active_file ", "inactive_file ", "slab_reclaimable "].map(|field| number_of(&told, field));
    let cached: u64 = cached.into_iter().flatten().sum();
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

/// The number behind a word that begins a line.
fn number_of(told: &str, field: &str) -> Option<u64> {
    let line = told.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_words() {
        let told = "MemTotal:       16384 kB\nMemAvailable:    4096 kB\n";
        assert_eq!(number_of(told, "MemAvailable:"), Some(4096));
        assert_eq!(number_of(told, "MemFree:"), None);
    }

    #[test]
    fn a_group_has_left_what_is_neither_used_nor_cached() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("memory.max", "max\n");
        assert_eq!(left_in(folder.path()), None);
        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        write("memory.stat", "anon 500\ninactive_file 100\nactive_file 250\nslab_reclaimable 50\n");
        assert_eq!((limit(folder.path()), left_in(folder.path())), (Some(1000), Some(500)));
    }

    #[test]
    fn some_of_the_memory_is_left() {
        let left = memory_left().expect("the system says it");
        assert!(left <= memory());
    }
}
