//! The streaming engine: Timely dataflows over Arrow batches, with one clock per pipeline, keyed
//! state in pages and checkpoints that flow with the data. It knows no SQL.

pub mod batch;
pub mod error;
pub mod plan;
pub mod sink;
pub mod source;

pub use batch::Batch;
pub use error::{Error, Result};
