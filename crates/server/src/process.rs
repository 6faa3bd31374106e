//! What the operating system says about this process, memory and CPU time, and what a child says.
//!
//! On systems without /proc the answers are 0, and figures made of them say so by being 0.

use crate::exit::{Exit, Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A line such as `VmRSS:   1234 kB` of a file of /proc, in bytes.
fn kilobytes(file: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    let number = line.trim_start_matches(':').split_whitespace().next().unwrap_or_default();
    number.parse::<u64>().unwrap_or(0) * 1024
}

/// The resident memory of this process.
pub(crate) fn resident() -> u64 {
    kilobytes("/proc/self/status", "VmRSS")
}

/// The CPU time this process has used, all threads together.
pub(crate) fn cpu_time() -> Duration {
    used(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default())
}

/// The CPU time in a line of /proc's `stat` files.
fn used(stat: &str) -> Duration {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_micros(ticks * 1_000_000 / per_second)
}

/// The CPU time of all threads of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ThreadTime {
    /// The threads' name.
    pub(crate) name: String,
    /// Their time together.
    pub(crate) cpu: Duration,
}

/// Every thread's CPU time so far, by name; the busiest first.
pub(crate) fn threads() -> Vec<ThreadTime> {
    let mut times: BTreeMap<String, Duration> = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(name, _)| name);
        *times.entry(name.to_owned()).or_default() += used(&stat);
    }
    let mut threads: Vec<_> = times.into_iter().map(|(name, cpu)| ThreadTime { name, cpu }).collect();
    threads.sort_by_key(|thread| std::cmp::Reverse(thread.cpu));
    threads
}

/// The CPU time of threads since an earlier reading, without those that did nothing.
pub(crate) fn threads_since(before: &[ThreadTime]) -> Vec<ThreadTime> {
    let mut now = threads();
    for thread in &mut now {
        let earlier = before.iter().find(|earlier| earlier.name == thread.name).map_or(Duration::ZERO, |t| t.cpu);
        thread.cpu = thread.cpu.saturating_sub(earlier);
    }
    now.retain(|thread| !thread.cpu.is_zero());
    now.sort_by_key(|thread| std::cmp::Reverse(thread.cpu));
    now
}

/// The JSON lines that a child says on its standard output, with the times at which they were read.
///
/// # Errors
/// When its output was not asked for.
pub(crate) fn listen(child: &mut Child) -> Outcome<Receiver<(Instant, Value)>> {
    let output = child.stdout.take().ok_or_else(|| Failure::new(Exit::Pipeline, "the child says nothing"))?;
    let (tell, said) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let value = serde_json::from_str(&line).unwrap_or(Value::Null);
            if tell.send((Instant::now(), value)).is_err() {
                return;
            }
        }
    });
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_answers() {
        assert!(resident() > 100 << 10);
        let before = cpu_time();
        let mut x = 1u64;
        while cpu_time() == before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(cpu_time() > before);
        assert!(!threads().is_empty());
    }
}
