//! What a program needs to give the database sources and sinks of its own.
//!
//! A [`SourceConnector`] makes a [`Source`] of each CREATE SOURCE that names it, a [`SinkConnector`]
//! a [`Sink`] of each CREATE SINK; both are put into [`Config`](crate::Config). The contracts that
//! exactly-once rests on are told by [`Source`]'s and [`Sink`]'s modules,
//! [`engine::source`](crate::engine::source) and [`engine::sink`](crate::engine::sink), and page by
//! page in `docs/embedding.md`; [`check_source`] checks most of a source's in a test.
//!
//! ```
//! use highwater::arrow::array::{ArrayRef, Int64Array, RecordBatch};
//! use highwater::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
//! use highwater::connector::{
//!     Extent, Kind, Offset, OptionSpec, Polled, Result, Source, SourceConnector, SourceRequest, SplitReader,
//!     check_source,
//! };
//! use highwater::{Config, Database};
//! use std::sync::Arc;
//!
//! /// `connector = 'squares'`: the squares of 0, 1, 2, ..., as many as `count` says.
//! #[derive(Debug)]
//! struct Squares;
//!
//! impl SourceConnector for Squares {
//!     fn name(&self) -> &str {
//!         "squares"
//!     }
//!
//!     fn options(&self) -> &[OptionSpec] {
//!         const OPTIONS: &[OptionSpec] = &[OptionSpec::new("count", Kind::COUNT, "How many.").required()];
//!         OPTIONS
//!     }
//!
//!     fn source(&self, asked: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
//!         let count = asked.settings.integer("count").expect("it is required");
//!         Ok(Arc::new(Limited { next: 0, count }))
//!     }
//! }
//!
//! /// The source, and a reader of it.
//! #[derive(Clone, Debug)]
//! struct Limited {
//!     next: i64,
//!     count: i64,
//! }
//!
//! impl Source for Limited {
//!     fn schema(&self) -> SchemaRef {
//!         Arc::new(Schema::new(vec![Field::new("square", DataType::Int64, false)]))
//!     }
//!
//!     fn splits(&self) -> Result<Vec<String>> {
//!         Ok(vec!["all".to_owned()])
//!     }
//!
//!     fn extent(&self) -> Extent {
//!         Extent::Bounded
//!     }
//!
//!     fn blocking(&self) -> bool {
//!         false
//!     }
//!
//!     fn open(&self, _split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
//!         let next = offset.and_then(Offset::as_i64).unwrap_or(0);
//!         Ok(Box::new(Self { next, ..self.clone() }))
//!     }
//! }
//!
//! impl SplitReader for Limited {
//!     fn poll(&mut self, max_rows: usize) -> Result<Polled> {
//!         let end = self.count.min(self.next + max_rows as i64);
//!         if end == self.next {
//!             return Ok(Polled::End);
//!         }
//!         let squares: ArrayRef = Arc::new(Int64Array::from_iter_values((self.next..end).map(|n| n * n)));
//!         self.next = end;
//!         let rows = RecordBatch::try_new(self.schema(), vec![squares]);
//!         Ok(Polled::Rows(rows.expect("the column is as declared")))
//!     }
//!
//!     fn offset(&self) -> Offset {
//!         self.next.into()
//!     }
//! }
//!
//! # fn main() -> highwater::Result<()> {
//! check_source(&Limited { next: 0, count: 100 }, &[1, 7])?;
//! # let folder = tempfile::tempdir().expect("a folder");
//! let mut config = Config::new(folder.path());
//! config.sources.push(Arc::new(Squares));
//! let database = Database::open(config)?;
//! database.script(
//!     "CREATE SOURCE s WITH (connector = 'squares', count = 1000);
//!      CREATE MATERIALIZED VIEW ends AS SELECT square % 10 AS digit, count(*) AS n FROM s GROUP BY 1;
//!      FLUSH;",
//! )?;
//! assert_eq!(database.query("SELECT * FROM ends")?.count(), 6, "no square ends with 2, 3, 7 or 8");
//! database.shutdown()
//! # }
//! ```

pub use highwater_connectors::{
    Envelope, Format, Included, Kind, Metadata, OptionSpec, Settings, Shape, SinkConnector, SinkRequest,
    SourceConnector, SourceRequest, check_source,
};
pub use highwater_engine::sink::{DeliveryPermit, Sink, Target};
pub use highwater_engine::source::{Extent, Offset, Polled, Source, SplitReader};
pub use highwater_engine::{Batch, Error, Result};
