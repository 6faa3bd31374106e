//! Rows that a query has by itself: those of VALUES, and the one row of a SELECT without FROM.
//!
//! They are a source of their own, whose offset is how many of them were given: so a view has them with its
//! first rows, and a restart does not give them again.

use super::Builder;
use super::flow::Flow;
use super::no_subquery;
use crate::error::{Error, Result};
use crate::session::view_schema;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{EmptyRelation, Expr, Values};
use highwater_engine::plan::Operator;
use highwater_engine::source::{Extent, Offset, Polled, Source, SplitReader};
use std::sync::Arc;

/// The name of the one split.
const SPLIT: &str = "rows";

impl Builder<'_> {
    /// The rows of VALUES.
    pub(super) fn values(&mut self, values: &Values, owner: &str) -> Result<Flow> {
        let schema = view_schema(&values.schema);
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (at, field) in schema.fields().iter().enumerate() {
            let constants = values.values.iter().map(|row| self.constant(&row[at])).collect::<Result<Vec<_>>>()?;
            let column = ScalarValue::iter_to_array(constants)
                .and_then(|column| cast(&column, field.data_type()).map_err(DataFusionError::from));
            columns.push(column.map_err(|e| Error::Plan(Box::new(e)))?);
        }
        self.constants(schema, columns, owner)
    }

    /// The row of a SELECT without FROM, or none.
    pub(super) fn no_relation(&mut self, empty: &EmptyRelation, owner: &str) -> Result<Flow> {
        let rows = usize::from(empty.produce_one_row);
        let schema = view_schema(&empty.schema);
        if !schema.fields().is_empty() {
            let nulls = schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
            return self.constants(schema, nulls, owner);
        }
        // A row that comes out of a node has columns; those above it do not read this one.
        let one: SchemaRef = Arc::new(Schema::new(vec![Field::new("one", DataType::Int64, true)]));
        let flow = self.constants(one, vec![Arc::new(Int64Array::from(vec![1; rows]))], owner)?;
        Ok(flow.project(Vec::new(), &schema))
    }

    fn constant(&self, expr: &Expr) -> Result<ScalarValue> {
        if let Expr::Literal(value, _) = expr {
            return Ok(value.clone());
        }
        no_subquery(expr)?;
        let value = self.session.computed(expr, 1)?;
        ScalarValue::try_from_array(&value, 0).map_err(|e| Error::Plan(Box::new(e)))
    }

    fn constants(&mut self, schema: SchemaRef, columns: Vec<ArrayRef>, owner: &str) -> Result<Flow> {
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns);
        let rows = rows.map_err(|e| Error::Plan(Box::new(DataFusionError::from(e))))?;
        let source: Arc<dyn Source> = Arc::new(Constants { rows });
        let node = self.add(owner, "values", Vec::new(), Operator::Source(source), &schema);
        Ok(Flow::whole(node, &schema))
    }
}

/// A source of rows that a query has.
#[derive(Debug)]
struct Constants {
    rows: RecordBatch,
}

impl Source for Constants {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn splits(&self) -> highwater_engine::Result<Vec<String>> {
        Ok(vec![SPLIT.to_owned()])
    }

    fn extent(&self) -> Extent {
        Extent::Constant
    }

    fn rows_per_second(&self) -> Option<f64> {
        Some(0.0)
    }

    fn blocking(&self) -> bool {
        false
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> highwater_engine::Result<Box<dyn SplitReader>> {
        let all = self.rows.num_rows();
        let given = match offset {
            None => Some(0),
            Some(offset) => offset.as_u64().and_then(|given| usize::try_from(given).ok()),
        };
        let given = given.filter(|given| *given <= all);
        let given = given.ok_or_else(|| highwater_engine::Error::data(split, format!("there are {all} VALUES")))?;
        Ok(Box::new(Reader { rows: self.rows.clone(), given }))
    }
}

struct Reader {
    rows: RecordBatch,
    /// How many of them were given.
    given: usize,
}

impl SplitReader for Reader {
    fn poll(&mut self, max_rows: usize) -> highwater_engine::Result<Polled> {
        let next = max_rows.min(self.rows.num_rows() - self.given);
        if next == 0 {
            return Ok(Polled::End);
        }
        let rows = self.rows.slice(self.given, next);
        self.given += next;
        Ok(Polled::Rows(rows))
    }

    fn offset(&self) -> Offset {
        Offset::from(self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    fn rest(reader: &mut dyn SplitReader) -> Vec<i64> {
        let mut rows = Vec::new();
        while let Polled::Rows(batch) = reader.poll(2).expect("rows") {
            rows.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
        }
        rows
    }

    #[test]
    fn rows_are_given_once() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]));
        let source = Constants { rows: RecordBatch::try_from_iter([("a", values)]).expect("one column") };
        let mut reader = source.open(SPLIT, None).expect("opens");
        assert!(matches!(reader.poll(2), Ok(Polled::Rows(rows)) if rows.num_rows() == 2));
        let offset = reader.offset();
        let mut again = source.open(SPLIT, Some(&offset)).expect("opens");
        assert_eq!(rest(again.as_mut()), [3, 4, 5]);
        assert_eq!(rest(reader.as_mut()), [3, 4, 5]);
        let end = reader.offset();
        assert!(rest(source.open(SPLIT, Some(&end)).expect("opens").as_mut()).is_empty());
        assert!(source.open(SPLIT, Some(&Offset::from(6))).is_err(), "there are five");
    }
}
