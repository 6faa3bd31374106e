//! A source with columns that are computed from the connector's own, or that say when a row came.
//!
//! It knows nothing of the connector: it gives the same splits, offsets and rows, each with more
//! columns, so what the connector promises of them holds here too.

use crate::dml::assign;
use crate::error::Result;
use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use highwater_engine::source::{Extent, Offset, Polled, Source, SplitReader};
use highwater_sql::Generated;
use std::sync::Arc;
use std::time::Duration;

/// A source and what is computed of its rows.
#[derive(Debug)]
pub(crate) struct ComputedSource {
    inner: Arc<dyn Source>,
    columns: Arc<Columns>,
    /// See [`Source::arrivals`].
    arrivals: Vec<usize>,
}

/// All columns, and how those come about that the connector does not give.
#[derive(Debug)]
struct Columns {
    schema: SchemaRef,
    generated: Generated,
    /// For each column its place among the connector's; none for those that are computed.
    given: Vec<Option<usize>>,
}

impl Columns {
    fn of(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let column = |(given, field): (&Option<usize>, &Arc<arrow::datatypes::Field>)| match given {
            Some(at) => Arc::clone(rows.column(*at)),
            None => new_null_array(field.data_type(), rows.num_rows()),
        };
        let mut columns: Vec<_> = self.given.iter().zip(self.schema.fields()).map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let whole = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.clone(), &options)?;
        for (at, values) in self.generated.compute(&whole)? {
            columns[at] = assign(&values, self.schema.field(at).data_type())?;
        }
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl ComputedSource {
    /// `generated` is over `schema`, whose other columns are those of the source by their names.
    pub(crate) fn new(inner: Arc<dyn Source>, schema: SchemaRef, generated: Generated) -> Self {
        let known = inner.schema();
        let place = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| match generated.has(at) {
            true => None,
            false => known.index_of(field.name()).ok(),
        };
        let given: Vec<Option<usize>> = schema.fields().iter().enumerate().map(place).collect();
        let is_arrival = |at: &usize| match given[*at] {
            Some(from) => inner.arrivals().contains(&from),
            None => generated.arrivals().contains(at),
        };
        let arrivals = (0..given.len()).filter(is_arrival).collect();
        Self { inner, columns: Arc::new(Columns { schema, generated, given }), arrivals }
    }

    /// Refuses values that are not of their columns' types.
    pub(crate) fn check(&self) -> Result<()> {
        self.columns.of(&RecordBatch::new_empty(self.inner.schema())).map(|_| ())
    }
}

impl Source for ComputedSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.schema)
    }

    fn splits(&self) -> highwater_engine::Result<Vec<String>> {
        self.inner.splits()
    }

    fn discovery(&self) -> Option<Duration> {
        self.inner.discovery()
    }

    fn extent(&self) -> Extent {
        self.inner.extent()
    }

    fn rows_per_second(&self) -> Option<f64> {
        self.inner.rows_per_second()
    }

    fn arrivals(&self) -> &[usize] {
        &self.arrivals
    }

    fn blocking(&self) -> bool {
        self.inner.blocking()
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> highwater_engine::Result<Box<dyn SplitReader>> {
        let inner = self.inner.open(split, offset)?;
        Ok(Box::new(ComputedReader { inner, split: split.to_owned(), columns: Arc::clone(&self.columns) }))
    }
}

struct ComputedReader {
    inner: Box<dyn SplitReader>,
    split: String,
    columns: Arc<Columns>,
}

impl SplitReader for ComputedReader {
    fn poll(&mut self, max_rows: usize) -> highwater_engine::Result<Polled> {
        match self.inner.poll(max_rows)? {
            Polled::Rows(rows) => {
                let whole = self.columns.of(&rows);
                whole.map(Polled::Rows).map_err(|e| highwater_engine::Error::data(&self.split, e))
            }
            other => Ok(other),
        }
    }

    fn offset(&self) -> Offset {
        self.inner.offset()
    }

    fn age(&self) -> Option<Duration> {
        self.inner.age()
    }

    fn skipped(&self) -> u64 {
        self.inner.skipped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use highwater_sql::Session;
    use highwater_sql::statement::Statement;

    #[test]
    fn columns_stand_where_the_statement_has_them() {
        let text = "CREATE SOURCE s (b bigint AS a * 2 + c, a bigint, d bigint AS c + 1, c bigint,
            p timestamptz AS PROCTIME()) WITH (connector = 'x')";
        let Ok(Statement::CreateSource(source)) = highwater_sql::parse(text) else { panic!("a source") };
        let field = |c: &highwater_sql::statement::Column| Field::new(&c.name.value, c.data_type.clone(), true);
        let schema = Arc::new(Schema::new(source.columns.iter().map(field).collect::<Vec<_>>()));
        let exprs = source.columns.iter().enumerate();
        let exprs: Vec<_> = exprs.filter_map(|(at, c)| Some((at, c.generated.as_ref()?))).collect();
        let generated = Session::new(1).generated(&source.name, &schema, &exprs, text).expect("binds");
        let columns = Columns { schema, generated, given: vec![None, Some(0), None, Some(1), None] };
        assert_eq!(columns.generated.arrivals(), [4]);
        let given = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("c", DataType::Int64, true)]);
        let numbers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let rows = vec![numbers(vec![Some(1), None]), numbers(vec![Some(10), Some(20)])];
        let whole = columns.of(&RecordBatch::try_new(Arc::new(given), rows).expect("rows")).expect("computes");
        assert_eq!(whole.column(0), &numbers(vec![Some(12), None]));
        assert_eq!(whole.column(2), &numbers(vec![Some(11), Some(21)]));
        assert_eq!(whole.column(4).null_count(), 2, "who reads it knows when");
        let wrong = |text: &str| {
            let Ok(Statement::CreateTable(table)) = highwater_sql::parse(text) else { panic!("a table") };
            let field =
                |c: &highwater_sql::statement::TableColumn| Field::new(&c.column.name.value, DataType::Int64, true);
            let schema: SchemaRef = Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()));
            let exprs = table.columns.iter().enumerate();
            let exprs: Vec<_> = exprs.filter_map(|(at, c)| Some((at, c.column.generated.as_ref()?))).collect();
            Session::new(1).generated(&table.name, &schema, &exprs, text).expect_err("is refused").sqlstate()
        };
        assert_eq!(wrong("CREATE TABLE t (a bigint, b bigint AS a + 1, c bigint AS b + 1)"), "42P17");
        assert_eq!(wrong("CREATE TABLE t (a bigint, b bigint AS sum(a))"), "42803");
        assert_eq!(wrong("CREATE TABLE t (a bigint, b bigint AS a + random())"), "0A000");
        assert_eq!(wrong("CREATE TABLE t (a bigint, b bigint AS x)"), "42703");
        assert_eq!(wrong("CREATE TABLE t (a bigint, b timestamptz AS proctime() + INTERVAL '1 h')"), "0A000");
        let reads_other = "CREATE TABLE t (p timestamptz AS proctime(), d bigint AS p) APPEND ONLY";
        assert_eq!(wrong(reads_other), "42P17");
    }
}
