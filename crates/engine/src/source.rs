//! What a source of rows must offer, and nothing of how a pipeline drives it.
//!
//! A source is divided into *splits*, each with an *offset*: a JSON value that only the source
//! understands, and from which reading goes on exactly. The engine deals splits over workers, keeps
//! offsets in checkpoints and seeks on restore. A source never sees epochs or checkpoints.
//!
//! What a source promises, and exactly-once rests on:
//!
//! 1. From one offset on, a split gives the same rows in the same order, whoever opens it, when and
//!    how often, and however many rows are asked for at a time. Rows after an offset stay readable
//!    as long as a checkpoint that holds it is kept.
//! 2. [`SplitReader::offset`] is the place right after the rows given so far.
//! 3. Of two offsets of a split [`order`] finds the later one greater: so that a source can be read
//!    up to an offset, for recomputation.
//! 4. A split's name is never given to another one.

use crate::error::{Error, Result};
use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use highwater_core::WallMicros;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// A position in a split, opaque to the engine but for its [`order`]. It is stored as JSON text, so
/// a number must be one that JSON keeps: whole, or a finite float.
pub type Offset = serde_json::Value;

/// How far a source goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// It has its rows at hand and gives them at once: who creates a view waits for them.
    Constant,
    /// It ends by itself: FLUSH waits for its end, and a query reads all of it.
    Bounded,
    /// It has so many rows now and may have more later: FLUSH waits until it gives nothing for a
    /// moment, and a query reads what is there.
    Growing,
    /// It gives rows for ever: FLUSH waits for one epoch, and a query over it is refused.
    Endless,
}

/// What is read of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Nothing.
    Nothing,
    /// Fields of a struct, by name.
    Fields(BTreeSet<String>),
    /// All of it.
    Whole,
}

impl Read {
    /// Adds a field that is read, or the whole column.
    pub(crate) fn add(&mut self, field: Option<&str>) {
        match (&mut *self, field) {
            (Self::Whole, _) => {}
            (_, None) => *self = Self::Whole,
            (Self::Fields(fields), Some(field)) => drop(fields.insert(field.to_owned())),
            (Self::Nothing, Some(field)) => *self = Self::Fields(BTreeSet::from([field.to_owned()])),
        }
    }

    /// Whether a field of the column is read.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Fields(fields) => fields.contains(field),
            Self::Whole => true,
        }
    }
}

/// A source as a statement describes it; shared by all workers.
pub trait Source: Debug + Send + Sync {
    /// The columns it gives.
    fn schema(&self) -> SchemaRef;

    /// The splits that exist now, by names that stay theirs for ever. May read from outside; called
    /// at each start, before the pipeline runs, and then on a background thread every
    /// [`Source::discovery`] interval.
    ///
    /// # Errors
    /// `Connector` when the outside cannot be asked.
    fn splits(&self) -> Result<Vec<String>>;

    /// How often to look for new splits; `None` when the first answer is complete. A source that
    /// looks for splits never ends.
    fn discovery(&self) -> Option<Duration> {
        None
    }

    /// How far it goes.
    fn extent(&self) -> Extent {
        Extent::Endless
    }

    /// How many rows a second it gives at most, once it has caught up; `None` when nobody can say.
    /// Pipelines of which all sources give few may run on one worker.
    fn rows_per_second(&self) -> Option<f64> {
        None
    }

    /// The places of columns that say when a row came. Readers leave them null, and whoever reads rows
    /// gives them a time, a pipeline that of its epoch; they are instants of UTC in microseconds.
    fn arrivals(&self) -> &[usize] {
        &[]
    }

    /// Whether [`SplitReader::poll`] may wait for I/O or parse for long. Such readers run on
    /// background threads behind a bounded queue; others run on the worker itself.
    fn blocking(&self) -> bool;

    /// The same source for who reads so much of each column: its columns, rows and offsets are the same, and what
    /// is not read it may leave null, where the column can be. None when it makes all of them anyhow. Not for a
    /// source whose bad values are to be found, whoever reads them.
    fn reading(&self, _read: &[Read]) -> Option<Arc<dyn Source>> {
        None
    }

    /// Opens a split after `offset`, or at its start. May be called while other readers of the split
    /// are open.
    ///
    /// # Errors
    /// `Connector` when it cannot be opened, `Data` when the offset is not one of this source's.
    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>>;
}

/// What a poll of a split found.
#[derive(Debug)]
pub enum Polled {
    /// Rows, at most as many as asked for and at least one.
    Rows(RecordBatch),
    /// Nothing now; ask again after this time.
    Idle(Duration),
    /// The split has ended and will never have more.
    End,
}

/// An open split.
pub trait SplitReader: Send {
    /// The next rows, at most `max_rows`. Waits at most some tens of milliseconds, and not at all
    /// when the source is not [`Source::blocking`].
    ///
    /// # Errors
    /// `Connector` when reading fails, `Data` when a row is bad and the source's policy is to fail.
    /// The pipeline fails, and begins again from its last checkpoint after a pause.
    fn poll(&mut self, max_rows: usize) -> Result<Polled>;

    /// The position after the rows given so far. Rows that were passed over may lie before it.
    fn offset(&self) -> Offset;

    /// How long ago the oldest row of the last poll came to be, where the source knows.
    fn age(&self) -> Option<Duration> {
        None
    }

    /// Rows left out so far because they were bad and the policy says to skip them.
    fn skipped(&self) -> u64 {
        0
    }
}

/// Rows with a time in the columns that say when they came.
///
/// # Errors
/// `Data` when such a column is no instant.
pub fn stamped(rows: RecordBatch, arrivals: &[usize], time: WallMicros) -> Result<RecordBatch> {
    if arrivals.is_empty() {
        return Ok(rows);
    }
    let mut columns = rows.columns().to_vec();
    for at in arrivals {
        columns[*at] = Arc::new(TimestampMicrosecondArray::from_value(time.0, rows.num_rows()).with_timezone("UTC"));
    }
    RecordBatch::try_new(rows.schema(), columns).map_err(|e| Error::data("proctime()", e))
}

/// The order of two offsets of one split; none when they are of different kinds. Null comes first;
/// numbers are ordered by value, texts by their bytes, arrays of one length and objects of the same
/// fields by their first difference, in the order in which the fields stand.
#[must_use]
pub fn order(a: &Offset, b: &Offset) -> Option<Ordering> {
    match (a, b) {
        (Offset::Null, Offset::Null) => Some(Ordering::Equal),
        (Offset::Null, _) => Some(Ordering::Less),
        (_, Offset::Null) => Some(Ordering::Greater),
        (Offset::Bool(a), Offset::Bool(b)) => Some(a.cmp(b)),
        (Offset::Number(a), Offset::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Offset::String(a), Offset::String(b)) => Some(a.cmp(b)),
        (Offset::Array(a), Offset::Array(b)) if a.len() == b.len() => lexicographic(a.iter().zip(b)),
        (Offset::Object(a), Offset::Object(b)) if a.keys().eq(b.keys()) => lexicographic(a.values().zip(b.values())),
        _ => None,
    }
}

fn lexicographic<'a>(pairs: impl Iterator<Item = (&'a Offset, &'a Offset)>) -> Option<Ordering> {
    for (a, b) in pairs {
        match order(a, b)? {
            Ordering::Equal => {}
            unequal => return Some(unequal),
        }
    }
    Some(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, ArrayRef, AsArray, Int64Array, new_null_array};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
    use serde_json::json;

    #[test]
    fn rows_are_stamped_where_they_say_when_they_came() {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = [("a", DataType::Int64), ("p", instant.clone())].map(|(name, of)| Field::new(name, of, true));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let columns = vec![Arc::clone(&numbers), new_null_array(&instant, 2)];
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).expect("two columns");
        let same = stamped(rows.clone(), &[], WallMicros(7)).expect("nothing to stamp");
        assert_eq!(same.column(1).null_count(), 2);
        let all = stamped(rows.clone(), &[1], WallMicros(7)).expect("stamps");
        assert_eq!(all.column(0), &numbers);
        assert_eq!(all.column(1).as_primitive::<TimestampMicrosecondType>().values()[..], [7, 7]);
        assert!(stamped(rows, &[0], WallMicros(7)).is_err(), "a number is no instant");
    }

    #[test]
    fn offsets_are_ordered_field_by_field() {
        let rising = [
            json!(null),
            json!({ "file": "a", "row": 9 }),
            json!({ "file": "a", "row": 10 }),
            json!({ "file": "b", "row": 0 }),
        ];
        for pair in rising.windows(2) {
            assert_eq!(order(&pair[0], &pair[1]), Some(Ordering::Less), "{pair:?}");
            assert_eq!(order(&pair[1], &pair[0]), Some(Ordering::Greater), "{pair:?}");
            assert_eq!(order(&pair[1], &pair[1]), Some(Ordering::Equal), "{pair:?}");
        }
        assert_eq!(order(&json!(u64::MAX), &json!(-1)), Some(Ordering::Greater));
        assert_eq!(order(&json!([1, 2]), &json!([1, 3])), Some(Ordering::Less));
        for (a, b) in [(json!(1), json!("1")), (json!([1]), json!([1, 2])), (json!({ "a": 1 }), json!({ "b": 1 }))] {
            assert_eq!(order(&a, &b), None, "{a} {b}");
        }
    }
}
