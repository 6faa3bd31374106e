//! Whether what moves bytes goes on: an attempt is given up when it stands still, not when it takes long.
//!
//! Invariant: who moves bytes for an attempt that nobody waits for any more is told to stop.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// Steps forward of many attempts; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Something has come a step forward.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// So many steps were taken.
    pub(crate) fn steps(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One attempt, for who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Watch(Arc<AtomicU64>);

impl Watch {
    /// The same for who moves its bytes; the steps are part of `total` as well.
    pub(crate) fn moving(&self, total: Option<&Progress>) -> Moving {
        Moving { steps: Arc::downgrade(&self.0), total: total.cloned() }
    }

    /// So many steps were taken.
    pub(crate) fn steps(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One attempt, for who moves its bytes.
#[derive(Debug)]
pub(crate) struct Moving {
    steps: Weak<AtomicU64>,
    total: Option<Progress>,
}

impl Moving {
    /// Some bytes have moved.
    ///
    /// # Errors
    /// When nobody waits for the attempt any more.
    pub(crate) fn note(&self) -> io::Result<()> {
        let steps = self.steps.upgrade().ok_or_else(|| io::Error::other("nobody waits for it any more"))?;
        steps.fetch_add(1, Relaxed);
        if let Some(total) = &self.total {
            total.note();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_moves_bytes_is_told_when_nobody_waits() {
        let (total, watch) = (Progress::default(), Watch::default());
        let moving = watch.moving(Some(&total));
        assert!(moving.note().is_ok());
        assert_eq!((watch.steps(), total.steps()), (1, 1));
        drop(watch);
        assert!(moving.note().is_err());
        assert_eq!(total.steps(), 1);
    }
}
