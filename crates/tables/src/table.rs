//! One table: its columns and key, how its rows are encoded, and the change source that views read.

use crate::codec::RowCodec;
use crate::error::{Error, Result};
use crate::place::Place;
use crate::reader::TableReader;
use crate::store::Core;
use crate::write::{Change, Insert, InsertPart};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use highwater_engine::Batch;
use highwater_engine::changes::{ChangeReader, ChangeSource, SharedLog, Wake};
use highwater_engine::source::Offset;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a table is, as its creator says it.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Never used twice in a store.
    pub id: u32,
    /// For messages.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// The columns of its primary key, in order; empty for none.
    pub key: Vec<usize>,
    /// Rows are only ever inserted.
    pub append_only: bool,
    /// For each of the last columns, which it got later: the one value that older rows have there.
    pub added: Vec<ArrayRef>,
}

/// A table of an open store.
#[derive(Debug)]
pub struct Table {
    spec: TableSpec,
    codec: RowCodec,
    /// Shared by all that the table was and is: [`Table::renamed`], [`Table::with_column`], [`Table::with_column_name`].
    next_row: Arc<AtomicU64>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// From which position on it has its rows, see [`crate::TableStore::replace`]; shared in the same way.
    begins: Arc<AtomicU64>,
}

impl Table {
    pub(crate) fn new(spec: TableSpec, next_row: u64) -> Result<Self> {
        let codec = RowCodec::new(Arc::clone(&spec.schema), spec.key.clone(), &spec.added)?;
        let next_row = Arc::new(AtomicU64::new(next_row));
        Ok(Self { spec, codec, next_row, turn: Arc::default(), begins: Arc::default() })
    }

    /// The same table under another name.
    ///
    /// # Errors
    /// None that a table which exists gives.
    pub fn renamed(&self, name: &str) -> Result<Self> {
        self.changed(TableSpec { name: name.to_owned(), ..self.spec.clone() })
    }

    /// The same table with one more column, where the rows that are there have the one value of `held`.
    /// What holds the table as it was reads no row that is written with the new column, and fails with
    /// `Altered` when it meets one.
    ///
    /// # Errors
    /// `Corrupt` when the column's type cannot be stored, `TooMuch` when it has got too many columns.
    pub fn with_column(&self, field: Field, held: ArrayRef) -> Result<Self> {
        let mut spec = self.spec.clone();
        let fields = spec.schema.fields().iter().cloned().chain([Arc::new(field)]);
        spec.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        spec.added.push(held);
        self.changed(spec)
    }

    /// The same table with another name for the column at a place.
    ///
    /// # Errors
    /// None that a table which exists gives.
    pub fn with_column_name(&self, at: usize, name: &str) -> Result<Self> {
        let fields = self.spec.schema.fields().iter().enumerate().map(|(place, field)| {
            if place == at { Arc::new(field.as_ref().clone().with_name(name)) } else { Arc::clone(field) }
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.changed(TableSpec { schema, ..self.spec.clone() })
    }

    fn changed(&self, spec: TableSpec) -> Result<Self> {
        let codec = RowCodec::new(Arc::clone(&spec.schema), spec.key.clone(), &spec.added)?;
        let (next_row, turn, begins) = (Arc::clone(&self.next_row), Arc::clone(&self.turn), Arc::clone(&self.begins));
        Ok(Self { spec, codec, next_row, turn, begins })
    }

    /// A batch that was decoded, or handed in, when the table had fewer columns, or more, or called them otherwise.
    pub(crate) fn fitted(&self, batch: &Batch) -> Result<Batch> {
        let (has, wants) = (batch.rows.num_columns(), self.spec.schema.fields().len());
        let mut named = batch.rows.schema_ref().fields().iter().zip(self.spec.schema.fields());
        if has == wants && named.all(|(has, wants)| has.name() == wants.name()) {
            return Ok(batch.clone());
        }
        let mut columns = batch.rows.columns().to_vec();
        columns.truncate(wants);
        let places = UInt32Array::from(vec![0; batch.len()]);
        let base = wants - self.spec.added.len();
        for at in has..wants {
            let held = self.spec.added[at - base].as_ref();
            columns.push(arrow::compute::take(held, &places, None).map_err(Error::corrupt)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.spec.schema), columns, &options);
        Ok(batch.with_rows(rows.map_err(Error::corrupt)?))
    }

    /// What it is.
    #[must_use]
    pub const fn spec(&self) -> &TableSpec {
        &self.spec
    }

    /// Where statements that lost against another one queue, so that one of them tries at a time.
    #[must_use]
    pub fn turn(&self) -> &tokio::sync::Mutex<()> {
        &self.turn
    }

    pub(crate) const fn id(&self) -> u32 {
        self.spec.id
    }

    /// The first position as of which it has all of its rows.
    pub(crate) fn begins(&self) -> u64 {
        self.begins.load(Ordering::Acquire)
    }

    /// It has its rows from this position on.
    pub(crate) fn begin_at(&self, position: u64) {
        self.begins.store(position, Ordering::Release);
    }

    /// Whether its rows have keys of their own.
    #[must_use]
    pub const fn has_key(&self) -> bool {
        self.codec.has_key()
    }

    /// Rows of the table's schema as new rows. Of a table without a primary key they get numbers.
    ///
    /// # Errors
    /// `Corrupt` when the rows are not of the table's schema.
    pub fn insert(&self, rows: RecordBatch) -> Result<Insert> {
        let keys = if self.has_key() {
            self.codec.keys_of(&self.codec.key_columns_of(&rows))?
        } else {
            let count = rows.num_rows() as u64;
            let first = self.next_row.fetch_add(count, Ordering::Relaxed);
            BinaryArray::from_iter_values((first..first + count).map(u64::to_be_bytes))
        };
        let values = self.codec.values_of(&rows)?;
        Ok(Insert { parts: vec![InsertPart { keys, values, rows }] })
    }

    /// The keys of rows that have these values in the key's columns.
    ///
    /// # Errors
    /// As [`Table::insert`].
    pub fn keys(&self, columns: &[ArrayRef]) -> Result<BinaryArray> {
        self.codec.keys_of(columns)
    }

    /// Rows from their keys and values.
    ///
    /// # Errors
    /// `Corrupt` when they are not rows of this table.
    pub fn decode(&self, keys: &[&[u8]], values: &[&[u8]]) -> Result<RecordBatch> {
        self.codec.decode(keys, values)
    }

    /// The keys and values of rows that replace others, for [`crate::Change`]s. A table without a
    /// primary key keeps the old keys.
    ///
    /// # Errors
    /// As [`Table::insert`].
    pub fn encode(&self, rows: &RecordBatch) -> Result<(Option<BinaryArray>, BinaryArray)> {
        let keys = self.has_key().then(|| self.codec.keys_of(&self.codec.key_columns_of(rows))).transpose()?;
        Ok((keys, self.codec.values_of(rows)?))
    }

    /// The error for a key that exists, in PostgreSQL's words for it: `(a, b)=(1, x)`.
    pub(crate) fn duplicate(&self, key: &[u8], value: &[u8]) -> Error {
        let names: Vec<&str> = self.spec.key.iter().map(|at| self.spec.schema.field(*at).name().as_str()).collect();
        let values = self.codec.decode(&[key], &[value]).map(|row| {
            let text = |at: &usize| array_value_to_string(row.column(*at), 0).unwrap_or_default();
            self.spec.key.iter().map(text).collect::<Vec<_>>().join(", ")
        });
        let key = format!("({})=({})", names.join(", "), values.unwrap_or_default());
        Error::Duplicate { table: self.spec.name.clone(), key }
    }

    /// The error of a change that puts a row where there is one.
    #[must_use]
    pub fn duplicate_of(&self, change: &Change) -> Error {
        self.duplicate(&change.key, change.new.as_deref().unwrap_or_default())
    }

    pub(crate) fn conflict(&self) -> Error {
        Error::Conflict { table: self.spec.name.clone() }
    }

    /// Changes of a few rows as a batch.
    pub(crate) fn batch(&self, keys: &[&[u8]], values: &[&[u8]], weights: Option<Vec<i64>>) -> Result<Batch> {
        let rows = self.codec.decode(keys, values)?;
        Ok(match weights {
            Some(weights) => Batch::weighted(rows, weights.into()),
            None => Batch::inserts(rows),
        })
    }
}

/// A table as views read it: what it held, and then its changes.
#[derive(Clone, Debug)]
pub struct TableSource {
    pub(crate) core: Arc<Core>,
    pub(crate) table: Arc<Table>,
}

impl ChangeSource for TableSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.spec.schema)
    }

    fn append_only(&self) -> bool {
        self.table.spec.append_only
    }

    fn key(&self) -> Vec<usize> {
        self.table.spec.key.clone()
    }

    fn log(&self) -> Arc<dyn SharedLog> {
        Arc::clone(&self.core) as _
    }

    fn open(
        &self,
        reader: &str,
        offset: Option<&Offset>,
        wake: Wake,
    ) -> highwater_engine::Result<Box<dyn ChangeReader>> {
        Ok(Box::new(TableReader::open(self, reader, offset, wake)?))
    }

    fn check(&self, offset: &Offset) -> highwater_engine::Result<()> {
        Ok(Place::read(offset)?.check(&self.core)?)
    }

    fn retained(&self, reader: &str, offsets: &[Offset]) {
        let positions = offsets.iter().map(|offset| offset["position"].as_u64().unwrap_or(0));
        self.core.log.retain(self.table.id(), reader, positions.min());
    }
}
