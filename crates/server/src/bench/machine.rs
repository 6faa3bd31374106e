//! What the machine itself does to a thread that never waits: the floor under every gap measured.

use highwater::engine::metrics::Histogram;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Gaps are told as the longest in such a window, as those of the workers are.
const WINDOW: Duration = Duration::from_millis(100);

/// The longest pauses, in windows of 100 ms, of a thread a core that does nothing but read the clock.
pub(super) fn gaps() -> Arc<Histogram> {
    let longest = Arc::new(Histogram::default());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| spin(&longest));
        }
    });
    longest
}

fn spin(into: &Histogram) {
    let begun = Instant::now();
    let (mut last, mut window, mut longest) = (begun, begun, Duration::ZERO);
    while last - begun < LOOK {
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
        if now - window >= WINDOW {
            into.record(longest);
            (window, longest) = (now, Duration::ZERO);
        }
    }
}
