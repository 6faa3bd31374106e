//! Subscriptions: what changes in a view, kept for a time, and the cursors that read it.
//!
//! A subscription is a sink of its view whose target is a journal in the table store, so a change is
//! there once its checkpoint is published. Invariant: a cursor gives every change after the place
//! where it began once, in the order of epochs, or an error.

use crate::answer::{Answer, Tag};
use crate::connection::{Connection, invalid};
use crate::cursor::{self, Cursor};
use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::objects::{Body, Subscribed};
use crate::outcome::Rows;
use crate::settings::duration;
use crate::show::{self, numbers, texts};
use crate::views::shaped;
use arrow::array::{ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use highwater_engine::Pipeline;
use highwater_engine::core::{Clock as _, SystemClock, WallMicros};
use highwater_sql::statement::{CreateSubscription, DeclareSubscription, Name, Property, Since};
use highwater_sql::{Error as SqlError, Position};
use highwater_tables::{Journal, JournalPlace, JournalRead, JournalSpec};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a FETCH waits at most.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
/// The columns of a journal that are not the view's: what a change does, its epoch, its time.
const ADDED: usize = 3;

/// How long a subscription keeps changes.
pub(crate) fn retention(statement: &CreateSubscription) -> Result<Duration> {
    let wrong = |key: &str, reason: &str, at: Position| -> Error { SqlError::option(key, reason, Some(at)).into() };
    let mut found = None;
    for option in &statement.options {
        if option.key != "retention" {
            return Err(wrong(&option.key, "is unknown: a subscription has a retention", option.at));
        }
        let time = duration(&option.value.to_lowercase()).filter(|time| !time.is_zero());
        found = Some(time.ok_or_else(|| wrong("retention", "takes a time such as '1 day' or '12h'", option.at))?);
    }
    found.ok_or_else(|| wrong("retention", "is missing: how long are changes kept?", statement.name.at))
}

/// The pipeline of the view that a subscription is to be of.
pub(crate) fn subject(state: &State, from: &Name) -> Result<String> {
    let object = show::find(state, from)?;
    match &object.body {
        Body::Materialized(_) => Ok(object.entry.pipeline.clone().unwrap_or_default()),
        Body::Table(_) => {
            let hint = "make it of a materialized view: CREATE MATERIALIZED VIEW v AS SELECT * FROM the table";
            let (clause, hint) = ("CREATE SUBSCRIPTION FROM a table".to_owned(), hint.to_owned());
            Err(SqlError::Unsupported { clause, hint, position: Some(from.at) }.into())
        }
        _ => {
            let message = format!("{:?} is a {}, not a MATERIALIZED VIEW", from.value, object.entry.kind);
            Err(invalid("42809", message, Some(from)))
        }
    }
}

/// SHOW SUBSCRIPTIONS.
pub(crate) fn shown(database: &Database) -> Rows {
    let state = database.state();
    let of_object = |object: &crate::objects::Object| match &object.body {
        Body::Subscription(Subscribed { statement, journal }) => {
            let retention = journal.spec().retention.as_secs();
            Some((object.name().to_owned(), statement.from.value.clone(), retention))
        }
        _ => None,
    };
    let mut all: Vec<(String, String, u64)> = state.objects.iter().filter_map(of_object).collect();
    all.sort();
    Rows::of(vec![
        ("name", texts(all.iter().map(|(name, ..)| name.clone()))),
        ("relation", texts(all.iter().map(|(_, from, _)| from.clone()))),
        ("retention_seconds", numbers(all.iter().map(|(.., retention)| *retention))),
    ])
}

/// SHOW SUBSCRIPTION CURSORS: the session's, with what their subscriptions are called now.
pub(crate) fn shown_cursors(database: &Database, connection: &Connection) -> Rows {
    let state = database.state();
    let called = |journal: &JournalSpec| {
        let object = state.objects.get_numbered(u64::from(journal.id));
        object.map_or_else(|| journal.name.clone(), |object| object.name().to_owned())
    };
    let cursors = connection.all_cursors();
    let found = cursors.filter_map(|(name, cursor)| Some((name.clone(), called(cursor.journal()?))));
    let (names, subscriptions): (Vec<_>, Vec<_>) = found.unzip();
    Rows::of(vec![("cursor_name", texts(names)), ("subscription_name", texts(subscriptions))])
}

/// How long a FETCH waits for rows, if it does.
pub(crate) fn patience(options: &[Property]) -> Result<Option<Duration>> {
    let mut patience = None;
    for option in options {
        let wrong = |reason: &str| SqlError::option(&option.key, reason, Some(option.at));
        if option.key != "timeout" {
            return Err(wrong("is unknown: FETCH has a timeout").into());
        }
        let time = duration(&option.value.to_lowercase());
        patience = Some(time.ok_or_else(|| wrong("takes a time such as '1s'"))?.min(LONGEST_WAIT));
    }
    Ok(patience)
}

impl Database {
    pub(crate) fn declare_subscription(
        &self,
        connection: &mut Connection,
        declared: &DeclareSubscription,
    ) -> Result<Answer> {
        cursor::check_new(connection, &declared.cursor)?;
        let name = &declared.subscription;
        let (subscribed, columns, pipeline) = {
            let state = self.state();
            let object = show::find(&state, name)?;
            let Body::Subscription(subscribed) = &object.body else {
                let message = format!("{:?} is a {}, not a SUBSCRIPTION", name.value, object.entry.kind);
                return Err(invalid("42809", message, Some(name)));
            };
            (subscribed.clone(), Arc::clone(&object.schema), object.entry.pipeline.clone().unwrap_or_default())
        };
        let Subscribed { statement, journal } = subscribed;
        let mut following = Following::new(journal, columns);
        match declared.since {
            Since::Now => following.begin_now(),
            Since::Begin => {}
            Since::Time(millis) => following.begin_at(millis, declared)?,
            Since::Full => {
                let needed = BTreeSet::from([pipeline.clone()]);
                tokio::task::block_in_place(|| self.wait_for_pipelines(connection, &needed))?;
                let (running, view) = {
                    let state = self.state();
                    (self.running(&state, &pipeline)?, state.objects.kept_of(&statement.from.value).to_owned())
                };
                following.begin_full(running, &view)?;
            }
        }
        let text = format!("SUBSCRIPTION {}", name.value);
        connection.held.insert(declared.cursor.value.clone(), Cursor::of_changes(text, following));
        Ok(Answer::done(Tag::Plain("DECLARE CURSOR".to_owned())))
    }
}

/// The rows that were there when a cursor was declared with FULL.
#[derive(Debug)]
struct Stock {
    /// They show all changes up to this epoch.
    epoch: i64,
    pipeline: Pipeline,
    /// How often the pipeline had failed then: after a failure epochs are numbered anew.
    restarts: u64,
}

/// A reader of a journal.
#[derive(Debug)]
pub(crate) struct Following {
    journal: Arc<Journal>,
    schema: SchemaRef,
    place: JournalPlace,
    /// Changes before this time are left out.
    since: i64,
    stock: Option<Stock>,
    /// What was read and not yet taken.
    ready: VecDeque<RecordBatch>,
}

impl Following {
    /// A reader of all that is kept of a view with these columns.
    fn new(journal: Arc<Journal>, columns: SchemaRef) -> Self {
        let mut fields: Vec<FieldRef> = columns.fields().to_vec();
        fields.push(Arc::new(Field::new("op", DataType::Utf8, true)));
        fields.push(Arc::new(Field::new("rw_timestamp", DataType::Int64, true)));
        let place = journal.begin();
        let schema = Arc::new(Schema::new(fields));
        Self { journal, schema, place, since: i64::MIN, stock: None, ready: VecDeque::new() }
    }

    pub(crate) const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn journal(&self) -> &JournalSpec {
        self.journal.spec()
    }

    /// Only what changes from now on.
    fn begin_now(&mut self) {
        self.since = SystemClock::default().wall().0;
        self.place = self.journal.end();
    }

    /// What changed at a time or later.
    fn begin_at(&mut self, millis: i64, declared: &DeclareSubscription) -> Result<()> {
        let time = millis.saturating_mul(1000);
        let now = SystemClock::default().wall().0;
        let kept = i64::try_from(self.journal.spec().retention.as_micros()).unwrap_or(i64::MAX);
        if time > now || time < now.saturating_sub(kept) {
            let message = format!("SINCE {millis} is not within the subscription's retention");
            let position = Some(declared.at);
            return Err(SqlError::Invalid { sqlstate: "22023", message, position }.into());
        }
        self.since = time;
        self.place = self.journal.since(WallMicros(time));
        Ok(())
    }

    /// All rows of the view, and then what changes in them.
    fn begin_full(&mut self, pipeline: Pipeline, view: &str) -> Result<()> {
        // What is written to the journal meanwhile is read, and left out where the rows show it.
        self.place = self.journal.end();
        let restarts = pipeline.metrics().restarts;
        let read = tokio::task::block_in_place(|| pipeline.subscribe(view))?;
        let epoch = i64::try_from(read.epoch.0).unwrap_or(i64::MAX);
        let width = self.schema.fields().len() - 2;
        let columns: SchemaRef = Arc::new(Schema::new(self.schema.fields()[..width].to_vec()));
        for rows in shaped(&columns, read.rows)? {
            let mut arrays = rows.columns().to_vec();
            arrays.push(Arc::new(StringArray::from(vec!["Insert"; rows.num_rows()])));
            arrays.push(Arc::new(Int64Array::new_null(rows.num_rows())));
            self.ready.push_back(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?);
        }
        self.stock = Some(Stock { epoch, pipeline, restarts });
        Ok(())
    }

    /// Up to `count` rows, or all that are there. With `patience` it waits for them. What a future
    /// has read that was dropped meanwhile is given by the next one.
    pub(crate) async fn take(&mut self, count: Option<usize>, patience: Option<Duration>) -> Result<Vec<RecordBatch>> {
        let deadline = Instant::now() + patience.unwrap_or_default();
        loop {
            let journal = Arc::clone(&self.journal);
            let more = journal.more();
            let ready = tokio::task::block_in_place(|| self.read_ahead(count))?;
            let is_enough = count.map_or(ready > 0, |count| ready >= count);
            if is_enough || patience.is_none() || timeout_at(deadline, more).await.is_err() {
                break;
            }
        }
        let mut taken = Vec::new();
        let mut wanted = count.unwrap_or(usize::MAX);
        while wanted > 0
            && let Some(batch) = self.ready.pop_front()
        {
            if batch.num_rows() > wanted {
                self.ready.push_front(batch.slice(wanted, batch.num_rows() - wanted));
            }
            taken.push(batch.slice(0, batch.num_rows().min(wanted)));
            wanted -= wanted.min(batch.num_rows());
        }
        Ok(taken)
    }

    /// Reads until so many rows are ready, or there is nothing more; gives how many are.
    fn read_ahead(&mut self, count: Option<usize>) -> Result<usize> {
        let wanted = count.unwrap_or(usize::MAX);
        let mut ready: usize = self.ready.iter().map(RecordBatch::num_rows).sum();
        while ready < wanted {
            match self.read() {
                Ok(None) => break,
                Ok(Some(rows)) => {
                    ready += rows.num_rows();
                    self.ready.push_back(rows);
                }
                // What is ready comes first.
                Err(_) if ready > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(ready)
    }

    /// The next piece of the journal.
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let name = &self.journal.spec().name;
        let (changes, after) = match self.journal.read(self.place)? {
            JournalRead::Changes(changes, after) => (changes, after),
            JournalRead::Nothing => return Ok(None),
            JournalRead::Gone => {
                let message = format!("changes of {name:?} that this cursor has not read are older than its retention");
                return Err(invalid("55000", format!("{message}: declare it anew"), None));
            }
            JournalRead::Dropped => {
                return Err(invalid("42704", format!("subscription {name:?} was dropped"), None));
            }
        };
        let rows = self.wanted(&changes)?;
        self.place = after;
        Ok(Some(rows))
    }

    /// The changes that the cursor gives, as it gives them.
    fn wanted(&mut self, changes: &RecordBatch) -> Result<RecordBatch> {
        let width = changes.num_columns() - ADDED;
        let (epochs, times) = (changes.column(width + 1), changes.column(width + 2));
        let epochs = epochs.as_primitive::<Int64Type>();
        let times = times.as_primitive::<Int64Type>();
        let shown = self.stock.as_ref().map_or(i64::MIN, |stock| stock.epoch);
        if let Some(stock) = &self.stock {
            if stock.pipeline.metrics().restarts > stock.restarts {
                let message = "the view's pipeline was restarted before this cursor had caught up: declare it anew";
                return Err(invalid("55000", message, None));
            }
            if epochs.values().iter().any(|epoch| *epoch > shown) {
                self.stock = None;
            }
        }
        let pairs = epochs.values().iter().zip(times.values().iter());
        let kept: BooleanArray = pairs.map(|(epoch, time)| Some(*epoch > shown && *time >= self.since)).collect();
        let millis: ArrayRef = Arc::new(times.unary::<_, Int64Type>(|time| time.div_euclid(1000)));
        let columns = changes.columns()[..=width].iter().cloned().chain([millis]);
        let columns = columns.zip(self.schema.fields());
        // What was written before a column got another type may not fit it; it is no null.
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = columns.map(|(column, field)| cast_with_options(&column, field.data_type(), &strict));
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)?;
        Ok(if kept.true_count() == kept.len() { rows } else { filter_record_batch(&rows, &kept)? })
    }
}
