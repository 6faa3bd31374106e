//! The words every other crate shares: numbered things as newtypes ([`ids`]), time that can be
//! injected ([`clock`]) and randomness that can be seeded ([`rng`]).
//!
//! This crate knows no I/O, no threads and no formats; it depends on nothing of Highwater.

pub mod clock;
pub mod ids;
pub mod rng;

pub use clock::{Clock, ManualClock, SystemClock, WallMicros};
pub use ids::{Bytes, CheckpointId, Epoch, Generation, KeyGroup, KeyGroups, OperatorId, StoreId, WorkerIndex};
pub use rng::{Rng, splitmix64};
