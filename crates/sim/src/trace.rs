//! What happened in a run, line by line, and its digest.

use highwater_checkpoint::Digest;
use highwater_checkpoint::digest::Hashing;
use std::io::Write;
use std::time::Duration;

/// The lines of one run.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Vec<String>,
}

impl Trace {
    /// Adds what happened at a time of the virtual clock.
    pub fn add(&mut self, at: Duration, what: &str) {
        self.lines.push(format!("{:>12.6} {what}", at.as_secs_f64()));
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The digest of all lines: equal for equal runs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hashing = Hashing::default();
        for line in &self.lines {
            writeln!(hashing, "{line}").expect("a digest accepts every byte");
        }
        hashing.finish().0
    }
}
