//! Highwater as a library: a streaming SQL database in this process.
//!
//! [`Database::open`] goes on where the last process stopped; [`Database::execute`] takes statements
//! of PostgreSQL's SQL with those of a streaming database (`docs/queries.md`, `docs/connectors.md`).
//! The crate joins SQL, connectors and the engine and adds what none of them has: the catalog, queries
//! over views, recomputation. It knows no network.
//!
//! ```
//! use highwater::{Config, Database};
//! # fn main() -> highwater::Result<()> {
//! # let folder = tempfile::tempdir().expect("a folder");
//! # let folder = folder.path().join("highwater-data");
//! let database = Database::open(Config::new(&folder))?;
//! database.script(
//!     "CREATE TABLE orders (id bigint PRIMARY KEY, customer varchar, amount bigint);
//!      CREATE MATERIALIZED VIEW spending AS
//!          SELECT customer, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY customer;
//!      INSERT INTO orders VALUES (1, 'ann', 10), (2, 'bob', 20), (3, 'ann', 5);
//!      FLUSH;",
//! )?;
//! let rows = database.query("SELECT customer, total FROM spending ORDER BY total DESC")?;
//! assert_eq!(rows.count(), 2);
//! database.shutdown()
//! # }
//! ```
//!
//! Rows go in and come out as Arrow record batches too: [`Database::insert`], [`Database::stream`],
//! and [`Database::subscribe`] for what changes in a view.
//!
//! Calls block; an asynchronous program makes them on threads for blocking work, or awaits
//! [`Database::run`]. Dropping a [`Database`] without [`Database::shutdown`] is like a crash: nothing
//! that was acknowledged is lost, and the next process goes on from the last checkpoints.
//!
//! # What a program can add
//!
//! Sources, sinks and functions of its own stand in [`Config`] and are used by their names in SQL. A
//! function is a [`ScalarFunction`]; connectors and their contracts are in [`connector`]; all three at
//! work, across a crash, are in `examples/custom.rs`.
//!
//! ```
//! use highwater::arrow::array::{ArrayRef, AsArray, Float64Array};
//! use highwater::arrow::datatypes::{DataType, Float64Type};
//! use highwater::{CallError, Config, Database, ScalarFunction, Volatility};
//! use std::sync::Arc;
//!
//! /// `fahrenheit(celsius)`.
//! #[derive(Debug)]
//! struct Fahrenheit;
//!
//! impl ScalarFunction for Fahrenheit {
//!     fn name(&self) -> &str {
//!         "fahrenheit"
//!     }
//!
//!     fn arguments(&self) -> Vec<DataType> {
//!         vec![DataType::Float64]
//!     }
//!
//!     fn returns(&self) -> DataType {
//!         DataType::Float64
//!     }
//!
//!     fn volatility(&self) -> Volatility {
//!         Volatility::Immutable
//!     }
//!
//!     fn call(&self, arguments: &[ArrayRef], _rows: usize) -> Result<ArrayRef, CallError> {
//!         let celsius = arguments[0].as_primitive::<Float64Type>();
//!         let fahrenheit: Float64Array = celsius.unary(|degrees| degrees * 1.8 + 32.0);
//!         Ok(Arc::new(fahrenheit))
//!     }
//! }
//!
//! # fn main() -> highwater::Result<()> {
//! # let folder = tempfile::tempdir().expect("a folder");
//! let mut config = Config::new(folder.path());
//! config.functions.push(Arc::new(Fahrenheit));
//! let database = Database::open(config)?;
//! let rows = database.query("SELECT fahrenheit(100) AS f")?;
//! assert_eq!(rows.batches[0].column(0).as_primitive::<Float64Type>().value(0), 212.0);
//! database.shutdown()
//! # }
//! ```

mod add_key;
mod advice;
mod again;
mod ahead;
mod alter;
mod answer;
mod away;
mod begin;
mod broken;
mod catalog;
mod catalog_queries;
mod characters;
mod compare;
mod composite;
mod config;
mod connection;
pub mod connector;
mod copy;
mod copy_in;
mod create;
mod cursor;
mod database;
mod dml;
mod embed;
mod error;
mod fed;
mod flush;
mod functions;
mod generated;
mod hw_catalog;
mod index;
mod information_schema;
mod joined;
mod key_reads;
mod keyed_values;
mod leaving;
mod listed;
mod lookups;
mod narrowed;
mod objects;
mod oid_names;
mod outcome;
mod parameters;
mod pause;
mod pg_catalog;
mod pg_functions;
mod pipelines;
mod point;
mod prepare;
mod prepared;
mod provider;
mod query;
mod query_memory;
mod replay;
mod restore;
mod retry;
mod returning;
mod sessions;
mod set_config;
mod settings;
mod show;
mod sleep;
mod statements;
mod subscribe;
mod subscription;
mod system;
mod table_sink;
mod threads;
mod truncate;
mod turns;
mod unoptimized;
mod upsert;
mod vacuum;
mod values;
mod view_rows;
mod views;
mod zone;

pub use again::ToldWrite;
pub use answer::{Answer, RowStream, Tag, Warning};
pub use compare::same_rows;
pub use config::Config;
pub use connection::{Canceller, Connection, SERVER_VERSION, TransactionState};
pub use copy_in::CopyIn;
pub use database::{Database, STACK_BYTES};
pub use embed::Batches;
pub use error::{Error, Result};
pub use key_reads::{KeyRead, KeyRows, ReadForm};
pub use outcome::{Outcome, Rows};
pub use parameters::Parameters;
pub use pg_catalog::VECTOR;
pub use prepare::Described;
pub use query::{Compared, Offsets, SplitOffsets};
pub use sessions::{Client, Ending};
pub use subscribe::{Subscription, ViewEvent};
pub use values::read_text;

/// Rows and their columns: the version whose types this crate takes and gives.
pub use arrow;
/// The value of a parameter.
pub use datafusion::common::ScalarValue;
/// The streaming engine below: for its own inspection, which [`Database::engine`] gives.
pub use highwater_engine as engine;
/// The store of checkpoints: for looking into a root, with or without a database.
pub use highwater_engine::checkpoint;
pub use highwater_engine::core::{Bytes, CheckpointId, Epoch, KeyGroups, WallMicros};
pub use highwater_engine::{
    Batch, CheckpointOutcome, CheckpointReport, CheckpointSettings, Metrics, Pipeline, Scan, Status, Trigger,
};
/// Values in PostgreSQL's text form.
pub use highwater_sql::spelling;
pub use highwater_sql::statement::{CopyOptions, SetScope, Statement};
pub use highwater_sql::{CallError, CallFailed, Piece, Position, ScalarFunction, Volatility, parse, split};
pub use highwater_tables::Usage as TablesUsage;
