//! Ctrl-C: what waits for the server is told; with nothing waiting, a script ends and a terminal goes on.

use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Where Ctrl-C arrives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    pressed: Arc<Notify>,
    busy: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for Ctrl-C from now on.
    pub(crate) fn listen(interactive: bool) -> Self {
        let interrupt = Self::default();
        match Signals::new([SIGINT]) {
            Ok(signals) => interrupt.clone().forward(signals, interactive),
            Err(error) => eprintln!("highwater: warning: Ctrl-C cannot cancel statements: {error}"),
        }
        interrupt
    }

    fn forward(self, mut signals: Signals, interactive: bool) {
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if !interactive && !self.busy.load(Ordering::SeqCst) {
                    std::process::exit(130);
                }
                self.pressed.notify_waiters();
            }
        });
    }

    /// Does some work, during which each Ctrl-C calls `on_press`, until the work or a press that says so ends it.
    ///
    /// Gives nothing when a press ended it.
    pub(crate) async fn watch<T>(&self, work: impl Future<Output = T>, on_press: impl AsyncFn() -> bool) -> Option<T> {
        self.busy.store(true, Ordering::SeqCst);
        let mut work = std::pin::pin!(work);
        let mut pressed = std::pin::pin!(self.pressed.notified());
        let done = loop {
            tokio::select! {
                done = &mut work => break Some(done),
                () = &mut pressed => {
                    pressed.set(self.pressed.notified());
                    if on_press().await {
                        break None;
                    }
                }
            }
        };
        self.busy.store(false, Ordering::SeqCst);
        done
    }
}
