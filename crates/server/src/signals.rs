//! SIGINT and SIGTERM: the first asks for a clean stop, the second ends the process at once.

use crate::exit::{Exit, Failure, Outcome};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whether a clean stop has been asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    inner: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    /// Listens for signals from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn on_signals() -> Outcome<Self> {
        let stop = Self::default();
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).map_err(|error| Failure::new(Exit::Usage, format!("signals: {error}")))?;
        let told = stop.clone();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if told.asked() {
                    // Others go on meanwhile: nothing is destroyed under them, and nothing waited for.
                    signal_hook::low_level::exit(i32::from(Exit::Interrupted.code()));
                }
                told.ask();
            }
        });
        Ok(stop)
    }

    /// Asks for a clean stop.
    pub(crate) fn ask(&self) {
        *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.1.notify_all();
    }

    /// Whether it has been asked for.
    pub(crate) fn asked(&self) -> bool {
        *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is asked for or time is up; tells whether it has been.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let asked = self.inner.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, _) =
            self.inner.1.wait_timeout_while(asked, timeout, |asked| !*asked).unwrap_or_else(PoisonError::into_inner);
        *asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_a_stop_is_asked_for() {
        let stop = Stop::default();
        assert!(!stop.wait(Duration::ZERO));
        let asker = stop.clone();
        let thread = std::thread::spawn(move || asker.ask());
        assert!(stop.wait(Duration::from_secs(60)));
        assert!(stop.asked());
        thread.join().expect("asks and ends");
    }
}
