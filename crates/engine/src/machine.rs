//! The memory of the machine, or of the control group that the process is in.

use highwater_core::Bytes;
use std::fs::read_to_string;

/// What there is where the system does not say.
const UNKNOWN: u64 = 4 << 30;
/// Memory is short when less than this part of it is to be had.
const SHORT: u64 = 16;

/// Bytes that there are.
pub(crate) fn memory() -> u64 {
    let total = meminfo("MemTotal:").unwrap_or(UNKNOWN);
    group_limit().map_or(total, |limit| limit.min(total))
}

/// Bytes that are left when these are so few that the system may soon end processes.
pub(crate) fn short_memory() -> Option<Bytes> {
    let left = meminfo("MemAvailable:")?;
    let left = group_limit().and_then(group_left).map_or(left, |of_group| of_group.min(left));
    (left < memory() / SHORT).then_some(Bytes(left))
}

fn meminfo(field: &str) -> Option<u64> {
    let told = read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = told.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok())?;
    Some(kib << 10)
}

/// The group is the root of what a container sees.
fn group_limit() -> Option<u64> {
    read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()
}

/// Pages of files that are not in use can go at any time.
fn group_left(limit: u64) -> Option<u64> {
    let used: u64 = read_to_string("/sys/fs/cgroup/memory.current").ok()?.trim().parse().ok()?;
    let told = read_to_string("/sys/fs/cgroup/memory.stat").ok()?;
    let files: u64 = told.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok())?;
    Some(limit.saturating_sub(used.saturating_sub(files)))
}
