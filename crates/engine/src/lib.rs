//! The streaming engine: Timely dataflows over Arrow batches, with one clock per pipeline, keyed
//! state in pages and checkpoints that flow with the data. It knows no SQL.
//!
//! A [`plan::Plan`] says what a pipeline does; [`Engine::create`] runs it. The way of a row:
//! [`source`] → `ops` → `keys` (exchange by key group) → `stateful` → the tables of
//! `highwater-state`. The way of a checkpoint: `clock` → `tick` → `stateful` (freeze, copy out) →
//! `snapshot` (file, upload, receipt) → `checkpointing` (publish) → `ops::outbox` (deliver).

pub mod batch;
pub mod changes;
pub mod conditions;
pub mod decimal;
pub mod error;
pub mod identity;
pub mod metrics;
pub mod plan;
pub mod sink;
pub mod source;

mod apart;
mod background;
mod backlog;
mod build;
mod cancel;
mod checkpointing;
mod clock;
mod columns_read;
mod control;
mod feed;
mod fill;
mod kept_rows;
mod keys;
mod lost;
mod machine;
mod memory;
mod merged;
mod ops;
mod outside;
mod parcel;
mod pipeline;
mod positions;
mod reads;
mod run;
mod runtime;
mod saved;
mod shared;
mod slices;
mod snapshot;
mod stateful;
mod subscription;
mod tables;
mod tick;
mod twins;
mod wire;

pub use batch::Batch;
pub use checkpointing::{CheckpointOutcome, CheckpointReport, CheckpointSettings};
pub use error::{Error, Result, written};
pub use highwater_checkpoint as checkpoint;
pub use highwater_checkpoint::Trigger;
pub use highwater_core as core;
pub use keys::{has_forms, one_form};
pub use outside::Outside;
pub use pipeline::{BegunScan, Metrics, OpenScan, Pipeline, Scan, Status, Subscription, ViewReader};
pub use positions::{check_positions, log_offsets};
pub use run::{Parallelism, PipelineSpec, kept_otherwise};
pub use runtime::{Engine, EngineConfig};
pub use saved::Saved;
pub use shared::FailingDelivery;
