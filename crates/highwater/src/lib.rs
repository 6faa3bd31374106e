//! Highwater as a library: a streaming SQL database in this process.
//!
//! [`Database::open`] goes on where the last process stopped; [`Database::execute`] takes statements
//! of the SQL that `highwater-sql` describes. The crate joins SQL, connectors and the engine and adds
//! what none of them has: the catalog, queries over views, recomputation. It knows no network.
//!
//! ```no_run
//! use highwater::{Config, Database};
//! # fn main() -> highwater::Result<()> {
//! let database = Database::open(Config::new("highwater-data"))?;
//! database.script(
//!     "CREATE SOURCE bid WITH (connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = 100000);
//!      CREATE MATERIALIZED VIEW bids AS SELECT auction, count(*) AS n FROM bid GROUP BY auction;
//!      FLUSH;",
//! )?;
//! let top = database.query("SELECT auction, n FROM bids ORDER BY n DESC LIMIT 3")?;
//! assert_eq!(top.count(), 3);
//! database.shutdown()
//! # }
//! ```

mod answer;
mod broken;
mod catalog;
mod compare;
mod config;
mod connection;
mod copy;
mod copy_in;
mod create;
mod cursor;
mod database;
mod dml;
mod error;
mod extent;
mod hw_catalog;
mod objects;
mod outcome;
mod parameters;
mod pg_catalog;
mod pg_functions;
mod pipelines;
mod point;
mod prepare;
mod prepared;
mod provider;
mod query;
mod replay;
mod settings;
mod show;
mod statements;
mod system;
mod values;

pub use answer::{Answer, RowStream, Tag};
pub use catalog::{Entry, Kind};
pub use compare::same_rows;
pub use config::Config;
pub use connection::{Canceller, Connection, SERVER_VERSION, TransactionState};
pub use copy_in::CopyIn;
pub use database::Database;
pub use error::{Error, Result};
pub use highwater_engine as engine;
pub use highwater_engine::checkpoint;
pub use highwater_engine::core::{Bytes, CheckpointId, Epoch, KeyGroups, Rng, WallMicros};
pub use highwater_engine::{
    CheckpointOutcome, CheckpointReport, CheckpointSettings, Metrics, Pipeline, Scan, Status, Trigger,
};
pub use highwater_sql::statement::{CopyOptions, Statement};
pub use highwater_sql::{Piece, Position, parse, split};
pub use highwater_tables::Usage as TablesUsage;
pub use outcome::{Outcome, Rows};
pub use parameters::Parameters;
pub use prepare::Described;
pub use query::{Compared, Offsets};
pub use replay::{SplitOffsets, Until, read_until};
