//! Following a view from within the program: its rows, and then what each epoch changes.

use crate::connection::Connection;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::objects::Body;
use crate::views::shaped;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use highwater_engine::core::Epoch;
use highwater_engine::{Batch, Pipeline};
use highwater_sql::statement::Name;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after its pipeline ended a subscription looks whether it runs again.
const LOOK_UP: Duration = Duration::from_millis(20);

/// What a subscriber is told.
#[derive(Clone, Debug)]
pub enum ViewEvent {
    /// All rows of the view as of an epoch. What was told before is superseded: it comes first, and
    /// again when the pipeline was restarted or the subscriber was too far behind.
    Rows {
        /// The epoch.
        epoch: Epoch,
        /// The rows.
        rows: Vec<RecordBatch>,
    },
    /// What an epoch changed, whole.
    Changes {
        /// The epoch, which is after that of the event before.
        epoch: Epoch,
        /// Rows with weights: +1 for a row that came, -1 for one that went; an update is both.
        changes: Vec<Batch>,
    },
}

/// Follows one view; see [`Database::subscribe`].
#[derive(Debug)]
pub struct Subscription<'a> {
    database: &'a Database,
    view: String,
    schema: SchemaRef,
    current: Option<highwater_engine::Subscription>,
}

impl Database {
    /// Follows a materialized view, or a table that a connector fills: its rows as of one epoch, and
    /// then the changes of every epoch after it. Waits until all pipelines are restored. Nothing waits for a subscriber; who falls some millions of rows behind is given the
    /// rows anew.
    ///
    /// ```no_run
    /// # use highwater::{Config, Database, ViewEvent};
    /// # fn main() -> highwater::Result<()> {
    /// # let database = Database::open(Config::new("highwater-data"))?;
    /// let mut following = database.subscribe("bids_per_auction")?;
    /// while let Some(event) = following.next(std::time::Duration::from_secs(5))? {
    ///     match event {
    ///         ViewEvent::Rows { epoch, rows } => println!("{epoch:?}: {} batches of rows", rows.len()),
    ///         ViewEvent::Changes { epoch, changes } => println!("{epoch:?}: {} batches of changes", changes.len()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Sql` with 42P01 when there is no such relation, 42809 when it is neither of the two; `Engine`
    /// with `NotRunning` when its pipeline does not run.
    pub fn subscribe(&self, view: &str) -> Result<Subscription<'_>> {
        drop(self.wait_for_all_pipelines(&Connection::new())?);
        let (_, _, schema) = self.followed(view)?;
        Ok(Subscription { database: self, view: view.to_owned(), schema, current: None })
    }

    /// A view's pipeline, its name there, and its columns.
    fn followed(&self, view: &str) -> Result<(Pipeline, String, SchemaRef)> {
        let name = Name { value: view.to_owned(), at: highwater_sql::Position { offset: 1, line: 1, column: 1 } };
        let state = self.settle(&Connection::new(), self.state())?;
        let object = crate::show::find(&state, &name)?;
        if !matches!(object.body, Body::Materialized(_) | Body::Fed(_)) {
            let message = format!("{view:?} is a {}, not a MATERIALIZED VIEW", object.entry.kind);
            return Err(crate::connection::invalid("42809", message, None));
        }
        let schema = Arc::clone(&object.schema);
        let pipeline = object.entry.pipeline.clone().unwrap_or_default();
        Ok((self.running(&state, &pipeline)?, object.kept().to_owned(), schema))
    }
}

impl Subscription<'_> {
    /// The view's columns.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next event. Nothing when none came within `patience`, as when nothing changes. Blocks.
    ///
    /// # Errors
    /// Those of [`Database::subscribe`] when the view was dropped; `Engine` with `NotRunning` when
    /// its pipeline does not run and did not come back within `patience`.
    pub fn next(&mut self, patience: Duration) -> Result<Option<ViewEvent>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let told = match &mut self.current {
                Some(current) => {
                    current.next(left).map(|told| told.map(|(epoch, changes)| ViewEvent::Changes { epoch, changes }))
                }
                None => self.begin().map(Some),
            };
            match told {
                Ok(Some(event)) => return Ok(Some(self.in_shape(event)?)),
                Ok(None) => return Ok(None),
                Err(ended @ highwater_engine::Error::NotRunning { .. }) => {
                    let was_following = self.current.take().is_some();
                    // The error when the view is gone for good.
                    self.database.followed(&self.view).map(|_| ()).or_else(not_yet)?;
                    if !was_following {
                        if left.is_zero() {
                            return Err(ended.into());
                        }
                        std::thread::sleep(LOOK_UP.min(left));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn begin(&mut self) -> highwater_engine::Result<ViewEvent> {
        let not_running = |reason: Error| match reason {
            Error::Engine(error) => error,
            other => highwater_engine::Error::NotRunning { pipeline: self.view.clone(), reason: other.to_string() },
        };
        let (pipeline, kept, _) = self.database.followed(&self.view).map_err(not_running)?;
        let mut current = pipeline.subscribe(&kept)?;
        let (epoch, rows) = (current.epoch, std::mem::take(&mut current.rows));
        self.current = Some(current);
        Ok(ViewEvent::Rows { epoch, rows })
    }

    fn in_shape(&self, event: ViewEvent) -> Result<ViewEvent> {
        Ok(match event {
            ViewEvent::Rows { epoch, rows } => ViewEvent::Rows { epoch, rows: shaped(&self.schema, rows)? },
            ViewEvent::Changes { epoch, changes } => {
                let shape = |batch: Batch| -> Result<Batch> {
                    let rows = shaped(&self.schema, vec![batch.rows.clone()])?;
                    Ok(batch.with_rows(rows.into_iter().next().expect("one batch gives one")))
                };
                ViewEvent::Changes { epoch, changes: changes.into_iter().map(shape).collect::<Result<_>>()? }
            }
        })
    }
}

/// A pipeline that does not run at this moment is not an error.
fn not_yet(error: Error) -> Result<()> {
    match error {
        Error::Engine(highwater_engine::Error::NotRunning { .. }) => Ok(()),
        other => Err(other),
    }
}
