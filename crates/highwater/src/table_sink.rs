//! Sinks into tables: the changes of a query, written by the table's primary key.
//!
//! All rows of such a sink are delivered by one worker, so those of a key come in the order in which
//! they changed. A delivery and its fence are one write of the store. Invariants: a delivery is written
//! once; a table is never fed from itself; where rows that the table does not take are left out, they are
//! left out when they come and when they go.

use crate::connection::invalid;
use crate::database::State;
use crate::dml::Target;
use crate::error::Result;
use crate::objects::Body;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{Row, RowConverter, SortField};
use highwater_engine::Batch;
use highwater_engine::core::CheckpointId;
use highwater_engine::sink::{DeliveryPermit, Sink, Target as Deliverer};
use highwater_engine::source::Offset;
use highwater_sql::statement::{CreateSink, Name};
use highwater_sql::types::pg_name;
use highwater_sql::{Session, references};
use highwater_tables::{Change, Error as TablesError, Fence, Overlay, TableWrite, Write, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows that are looked up at a time.
const PIECE_ROWS: usize = 8192;
/// How often a delivery is done again at once when others change the same rows.
const MOST_TRIES: usize = 20;

/// A sink whose target is a table.
#[derive(Clone, Debug)]
pub(crate) struct TableSink {
    inner: Arc<Inner>,
    left_out: LeftOut,
}

/// How many rows were left out, and why the first one was.
type LeftOut = Option<(u64, String)>;

#[derive(Debug)]
struct Inner {
    writer: Writer,
    session: Session,
    target: Target,
    /// The name under which the sink is kept.
    name: String,
    /// Whose deliveries they are.
    of: String,
    /// Whether rows that the table does not take are left out.
    skips: bool,
}

/// By key, what is to stand there; none where a row is gone.
type Wanted = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl TableSink {
    /// The sink of this name and incarnation.
    pub(crate) fn new(
        writer: Writer,
        session: Session,
        target: Target,
        (name, incarnation): (&str, u64),
        skips: bool,
    ) -> Self {
        let (name, of) = (name.to_owned(), format!("{incarnation}:{name}"));
        Self { inner: Arc::new(Inner { writer, session, target, name, of, skips }), left_out: None }
    }
}

impl Sink for TableSink {
    fn check(&self, _: &SchemaRef, _: bool) -> highwater_engine::Result<()> {
        // The statement was checked by `check` below, which knows where its names stand.
        Ok(())
    }

    fn open(&self, _: &SchemaRef) -> highwater_engine::Result<Box<dyn Deliverer>> {
        Ok(Box::new(self.clone()))
    }

    fn is_gathered(&self) -> bool {
        true
    }

    fn delivered(&self) -> highwater_engine::Result<Option<CheckpointId>> {
        let Inner { writer, target, of, .. } = self.inner.as_ref();
        let spec = target.table.spec();
        let delivered = writer.delivered(spec.id, of);
        let failed = |e| highwater_engine::Error::connector(format!("table {}", spec.name), e);
        Ok(delivered.map_err(failed)?.map(CheckpointId))
    }

    fn reached(&self) -> highwater_engine::Result<Option<Offset>> {
        Ok(Some(self.inner.writer.reached()))
    }

    fn check_reached(&self, reached: &Offset) -> highwater_engine::Result<()> {
        let Inner { writer, target, name, .. } = self.inner.as_ref();
        let object = || format!("sink {name} into table {}", target.table.spec().name);
        writer.check_reached(reached).map_err(|error| highwater_engine::Error::data(object(), error))
    }
}

impl Deliverer for TableSink {
    fn deliver(&mut self, permit: DeliveryPermit, part: u32, rows: &[Batch]) -> highwater_engine::Result<()> {
        let table = &self.inner.target.table;
        let fence = Fence::new(table.spec().id, part, &self.inner.of, permit.checkpoint().0);
        let delivered = self.inner.deliver(&fence, rows);
        self.left_out =
            delivered.map_err(|e| highwater_engine::Error::connector(format!("table {}", table.spec().name), e))?;
        Ok(())
    }

    fn left_out(&mut self) -> LeftOut {
        self.left_out.take()
    }
}

impl Inner {
    /// Gives the rows that came and were left out.
    fn deliver(&self, fence: &Fence, batches: &[Batch]) -> Result<LeftOut> {
        let Some(first) = batches.first() else { return Ok(None) };
        if self.writer.is_delivered(fence)? {
            return Ok(None);
        }
        let (inserted, deleted) = net(&first.rows.schema(), batches)?;
        let mut left_out = None;
        let inserted = if self.skips { self.fitting(&inserted, &mut left_out)? } else { self.taken(&inserted)? };
        let table = &self.target.table;
        if !table.has_key() {
            let write = Write::Insert(table.insert(inserted)?);
            self.writer.deliver(self.writes(write), fence.clone())?;
            return Ok(left_out);
        }
        let deleted = if self.skips { self.fitting(&deleted, &mut None)? } else { self.completed(&deleted)? };
        let wanted = self.wanted(&inserted, &deleted)?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.writer.deliver(self.writes(self.changes(&wanted)?), fence.clone()) {
                // Another transaction changed some of the rows meanwhile.
                Err(TablesError::Conflict { .. } | TablesError::Duplicate { .. }) if tries < MOST_TRIES => {}
                done => return Ok(done.map(|()| left_out)?),
            }
        }
    }

    /// Rows of the sink as rows of the table.
    fn completed(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let fields = self.target.schema().fields();
        let given = rows.columns().iter().zip(fields);
        let given =
            given.map(|(array, field)| crate::dml::assign(array, field.data_type())).collect::<Result<Vec<_>>>()?;
        let places: Vec<usize> = (0..given.len()).collect();
        self.target.completed(&self.session, &given, &places, rows.num_rows(), None)
    }

    /// The same, and the table takes them.
    fn taken(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let rows = self.completed(rows)?;
        self.target.check_nulls(&rows)?;
        Ok(rows)
    }

    /// Those of some rows that the table takes, as its rows.
    fn fitting(&self, rows: &RecordBatch, left_out: &mut LeftOut) -> Result<RecordBatch> {
        let mut parts = Vec::new();
        self.fit(rows, &mut parts, left_out)?;
        Ok(concat_batches(self.target.schema(), &parts)?)
    }

    /// In halves where they are not taken together, down to single rows.
    fn fit(&self, rows: &RecordBatch, parts: &mut Vec<RecordBatch>, left_out: &mut LeftOut) -> Result<()> {
        match self.taken(rows) {
            Ok(taken) => parts.push(taken),
            Err(error) if !is_of_data(&error) => return Err(error),
            Err(error) if rows.num_rows() < 2 => {
                left_out.get_or_insert_with(|| (0, error.to_string())).0 += rows.num_rows() as u64;
            }
            Err(_) => {
                let middle = rows.num_rows() / 2;
                self.fit(&rows.slice(0, middle), parts, left_out)?;
                self.fit(&rows.slice(middle, rows.num_rows() - middle), parts, left_out)?;
            }
        }
        Ok(())
    }

    /// Of several rows with one key the last one stays.
    fn wanted(&self, inserted: &RecordBatch, deleted: &RecordBatch) -> Result<Wanted> {
        let table = &self.target.table;
        let mut wanted = BTreeMap::new();
        let (keys, _) = table.encode(deleted)?;
        for key in keys.iter().flat_map(|keys| keys.iter().flatten()) {
            wanted.insert(key.to_vec(), None);
        }
        let (keys, values) = table.encode(inserted)?;
        for (key, value) in keys.iter().flat_map(|keys| keys.iter().flatten()).zip(values.iter().flatten()) {
            wanted.insert(key.to_vec(), Some(value.to_vec()));
        }
        Ok(wanted.into_iter().collect())
    }

    /// How the table must change to have what is wanted.
    fn changes(&self, wanted: &Wanted) -> Result<Write> {
        let table = &self.target.table;
        let snapshot = self.writer.snapshot()?;
        let mut changes = Vec::new();
        for piece in wanted.chunks(PIECE_ROWS) {
            let keys: Vec<&[u8]> = piece.iter().map(|(key, _)| key.as_slice()).collect();
            for ((key, new), old) in piece.iter().zip(snapshot.get(table, &keys, &Overlay::new())?) {
                let stays = *new == old || (table.spec().append_only && old.is_some());
                if !stays {
                    changes.push(Change { key: key.clone(), old, new: new.clone() });
                }
            }
        }
        Ok(Write::Changes(changes))
    }

    fn writes(&self, write: Write) -> Vec<TableWrite> {
        if write.is_empty() { Vec::new() } else { vec![TableWrite { table: Arc::clone(&self.target.table), write }] }
    }
}

/// Whether the data is to blame: by its values (class 22), by constraints (23) or in a function (38).
fn is_of_data(error: &crate::error::Error) -> bool {
    matches!(&error.sqlstate()[..2], "22" | "23" | "38")
}

/// What batches come to: the rows that there are more of, as often, and those that there are less of.
fn net(schema: &SchemaRef, batches: &[Batch]) -> Result<(RecordBatch, RecordBatch)> {
    let all = concat_batches(schema, batches.iter().map(|batch| &batch.rows))?;
    if batches.iter().all(|batch| batch.weights.is_none()) {
        let none = all.slice(0, 0);
        return Ok((all, none));
    }
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(all.columns())?;
    let weights = batches.iter().flat_map(|batch| (0..batch.len()).map(move |row| batch.weight(row)));
    let mut sums: BTreeMap<Row<'_>, (u32, i64)> = BTreeMap::new();
    for ((at, row), weight) in rows.iter().enumerate().zip(weights) {
        sums.entry(row).or_insert((at as u32, 0)).1 += weight;
    }
    let (mut more, mut less) = (Vec::new(), Vec::new());
    for (at, weight) in sums.into_values() {
        match weight {
            1.. => more.extend((0..weight).map(|_| at)),
            0 => {}
            _ => less.push(at),
        }
    }
    let taken = |places: Vec<u32>| take_record_batch(&all, &UInt32Array::from(places));
    Ok((taken(more)?, taken(less)?))
}

/// The table that a sink names.
pub(crate) fn table_of(state: &State, into: &Name) -> Result<Target> {
    let object = crate::show::find(state, into)?;
    match &object.body {
        Body::Table(target) => Ok(target.clone()),
        Body::Fed(_) => {
            let message = format!("{:?} is filled by its connector and cannot be written", into.value);
            Err(invalid("42809", message, Some(into)))
        }
        _ => Err(invalid("42809", format!("{:?} is a {}, not a TABLE", into.value, object.entry.kind), Some(into))),
    }
}

/// Refuses a sink that would feed a table from itself.
pub(crate) fn check_into(state: &State, sink: &CreateSink) -> Result<()> {
    let Some(into) = &sink.into else { return Ok(()) };
    table_of(state, into)?;
    let is_fed = |name: &String| state.objects.tables_behind(&BTreeSet::from([name.clone()])).contains(&into.value);
    let through: Vec<String> = references(&sink.query).into_iter().filter(is_fed).collect();
    if through.is_empty() {
        return Ok(());
    }
    let (sink, table, through) = (&sink.name.value, &into.value, through.join(", "));
    let message = format!("sink {sink:?} would feed table {table:?} from itself: {through} is made of it");
    Err(invalid("42P17", message, Some(into)))
}

/// Refuses rows that a table cannot take.
pub(crate) fn check(target: &Target, into: &Name, rows: &SchemaRef, append_only: bool) -> Result<()> {
    let spec = target.table.spec();
    let refused = |sqlstate, message: String| Err(invalid(sqlstate, message, Some(into)));
    let (given, known) = (rows.fields().len(), spec.schema.fields().len());
    if given > known {
        return refused("42601", format!("the sink gives {given} columns, and {:?} has {known}", spec.name));
    }
    for (at, (from, to)) in rows.fields().iter().zip(spec.schema.fields()).enumerate() {
        if target.generated.has(at) {
            return refused("428C9", format!("cannot insert a non-DEFAULT value into column {:?}", to.name()));
        }
        if !fits(from.data_type(), to.data_type()) {
            let (from, name, to) = (pg_name(from.data_type()), to.name(), pg_name(to.data_type()));
            return refused("42804", format!("column {name:?} is of type {to} but the sink gives {from}"));
        }
    }
    if let Some(at) = spec.key.iter().find(|at| target.statement.columns[**at].characters.is_some()) {
        let name = spec.schema.field(*at).name();
        let what = "a sink into a table with char(n) or varchar(n) in its primary key";
        return refused("0A000", format!("{what}, {name:?}: use varchar, without a length"));
    }
    for (at, column) in target.statement.columns.iter().enumerate().skip(given) {
        let name = &column.column.name.value;
        if target.generated.has(at) {
            continue;
        }
        if spec.key.contains(&at) {
            return refused("42601", format!("the sink does not give column {name:?} of the primary key"));
        }
        if column.column.not_null && column.default.is_none() {
            return refused("23502", format!("the sink does not give column {name:?}, which takes no nulls"));
        }
    }
    if append_only || (target.table.has_key() && !spec.append_only) {
        return Ok(());
    }
    let what = if spec.append_only { "is APPEND ONLY" } else { "has no primary key" };
    refused("0A000", format!("rows of the sink are changed and deleted, and {:?} {what}", spec.name))
}

/// Whether an assignment makes one type of another.
fn fits(from: &DataType, to: &DataType) -> bool {
    let is_time = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32);
    from == to
        || *to == DataType::Utf8
        || *from == DataType::Null
        || (from.is_numeric() && to.is_numeric())
        || (is_time(from) && is_time(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::{Field, Int64Type, Schema};

    #[test]
    fn changes_come_to_what_is_more_and_what_is_less() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let batch = |values: Vec<i64>, weights: Option<Vec<i64>>| {
            let column: ArrayRef = Arc::new(Int64Array::from(values));
            let rows = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("one column");
            weights.map_or_else(|| Batch::inserts(rows.clone()), |w| Batch::weighted(rows.clone(), w.into()))
        };
        let numbers = |rows: &RecordBatch| rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        let batches = [batch(vec![1, 2, 3], None), batch(vec![2, 4, 3, 3, 5], Some(vec![-1, -1, 1, -1, 2]))];
        let (more, less) = net(&schema, &batches).expect("adds up");
        assert_eq!((numbers(&more), numbers(&less)), (vec![1, 3, 5, 5], vec![4]));
        let (more, less) = net(&schema, &batches[..1]).expect("adds up");
        assert_eq!((numbers(&more), numbers(&less)), (vec![1, 2, 3], Vec::new()));
    }

    #[test]
    fn types_fit_as_an_assignment_casts() {
        let cases = [
            (DataType::Int64, DataType::Int32, true),
            (DataType::Int64, DataType::Decimal128(10, 2), true),
            (DataType::Boolean, DataType::Utf8, true),
            (DataType::Utf8, DataType::Int64, false),
            (DataType::Date32, DataType::Boolean, false),
            (DataType::LargeUtf8, DataType::Utf8, true),
            (DataType::Utf8, DataType::LargeUtf8, false),
            (DataType::Int64, DataType::LargeUtf8, false),
        ];
        for (from, to, expected) in cases {
            assert_eq!(fits(&from, &to), expected, "{from} {to}");
        }
    }
}
