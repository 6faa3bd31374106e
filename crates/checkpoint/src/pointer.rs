//! The pointer `current`: who holds the pipeline and which checkpoints it has. Its shape and how it
//! changes, purely; reading and replacing it is [`crate::publish`]'s.
//!
//! It lists every checkpoint that may be restored, not only the newest: so publishing a checkpoint,
//! expiring old ones and losing a claim are all decided by the compare-and-set of one object, and a
//! manifest whose publishing failed half way can never be mistaken for a checkpoint.
//!
//! Invariants: checkpoints are listed once, in rising order; the generation never falls; the owner
//! changes with every claim.

use crate::digest::Digest;
use crate::error::Result;
use crate::sealed;
use highwater_core::{CheckpointId, Generation, WallMicros};
use serde::{Deserialize, Serialize};

/// The newest format of pointers that this crate writes and reads.
pub const FORMAT: u32 = 1;

/// What the object `current` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The format of this text.
    pub format: u32,
    /// Which pipeline.
    pub pipeline: String,
    /// The claim that may publish.
    pub generation: Generation,
    /// A random mark of that claim: two processes never hold the same, whatever their generation.
    pub owner: String,
    /// The checkpoints that may be restored, oldest first.
    pub checkpoints: Vec<Entry>,
}

/// One listed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// The claim under which it was published.
    pub generation: Generation,
    /// When its barrier stood.
    pub wall: WallMicros,
    /// The digest of its manifest's text.
    pub manifest: Digest,
    /// It did not verify once and the pipeline went on from an older one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspect: bool,
    /// Somebody's name for it; it stays until unpinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
}

impl Pointer {
    /// The newest checkpoint.
    #[must_use]
    pub fn newest(&self) -> Option<&Entry> {
        self.checkpoints.last()
    }

    /// A listed checkpoint.
    #[must_use]
    pub fn entry(&self, checkpoint: CheckpointId) -> Option<&Entry> {
        self.checkpoints.iter().find(|entry| entry.checkpoint == checkpoint)
    }

    /// The same list under the next generation and a new owner.
    #[must_use]
    pub fn claimed(mut self, owner: String) -> Self {
        self.generation = self.generation.next();
        self.owner = owner;
        self
    }

    /// The list with one more checkpoint, which is newer than all others.
    ///
    /// # Panics
    /// When it is not newer: a number would have been reused.
    #[must_use]
    pub fn with(mut self, entry: Entry) -> Self {
        assert!(
            self.newest().is_none_or(|newest| newest.checkpoint < entry.checkpoint),
            "checkpoint numbers only grow"
        );
        self.checkpoints.push(entry);
        self
    }

    /// The list without some checkpoints.
    #[must_use]
    pub fn without(mut self, expired: &[CheckpointId]) -> Self {
        self.checkpoints.retain(|entry| !expired.contains(&entry.checkpoint));
        self
    }

    /// The list with some checkpoints marked as suspect.
    #[must_use]
    pub fn suspecting(mut self, suspects: &[CheckpointId]) -> Self {
        for entry in &mut self.checkpoints {
            entry.suspect |= suspects.contains(&entry.checkpoint);
        }
        self
    }

    /// The text of the object.
    #[must_use]
    pub fn to_text(&self) -> String {
        sealed::seal(self)
    }

    /// Reads the object named `object`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] and [`crate::Error::Newer`].
    pub fn from_text(object: &str, bytes: &[u8]) -> Result<Self> {
        sealed::open(object, bytes, FORMAT)
    }
}
