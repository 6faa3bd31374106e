//! The rows that UPDATE and DELETE change, and those of FROM and USING that are paired with them.
//!
//! Invariant: a row is changed once, however many rows are paired with it; one of these counts, and all columns of
//! FROM are that one's.

use crate::connection::{Connection, invalid};
use crate::database::Database;
use crate::dml::{Target, bytes};
use crate::error::Result;
use crate::outcome::Rows;
use crate::parameters::Parameters;
use crate::provider::TableRows;
use crate::query::Special;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema};
use datafusion::common::TableReference;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::SetExpr;
use highwater_sql::statement::{Name, Query};
use std::collections::HashSet;
use std::sync::Arc;

/// Columns that stand before those of the table: a row's key and its stored form.
const HIDDEN: usize = 2;

/// A relation of FROM, with one row for each that is changed.
#[derive(Clone, Debug)]
pub(crate) struct Paired {
    /// What it is called.
    pub(crate) name: String,
    pub(crate) rows: RecordBatch,
}

/// The rows that a statement changes.
pub(crate) struct Found {
    /// Each row's key and stored form, and the table's columns.
    pub(crate) rows: Vec<RecordBatch>,
    /// The relations of FROM, where RETURNING may name them.
    pub(crate) paired: Vec<Paired>,
}

impl Database {
    /// What a query of an UPDATE or DELETE finds.
    pub(crate) async fn rows_to_change(
        &self,
        connection: &mut Connection,
        (name, target): (&Name, &Target),
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Found> {
        let snapshot = connection.snapshot(&self.tables)?;
        let over = connection.overlay(&target.table);
        let rows = TableRows::new(&target.table, &snapshot, over, true);
        let special = Special { table: &name.value, rows, beside: Vec::new() };
        let plan = self.planned_with(connection, query, parameters, Some(special)).await?;
        let paired = paired_in(&plan, target)?;
        let mut found = self.run_plan(&plan).await?.collect_within(self.config.query_memory.0).await?;
        if is_joined(query) {
            found.batches = once(&found.batches)?;
        }
        divided(found, HIDDEN + target.schema().fields().len(), paired)
    }
}

/// The relations of FROM whose columns a plan for the rows to change gives, without rows.
pub(crate) fn paired_in(plan: &LogicalPlan, target: &Target) -> Result<Vec<Paired>> {
    let mut relations: Vec<(&str, Vec<Field>)> = Vec::new();
    for (relation, field) in plan.schema().iter().skip(HIDDEN + target.schema().fields().len()) {
        let unknown = || invalid("XX000", "a column of FROM came without its relation", None);
        let name = relation.map(TableReference::table).ok_or_else(unknown)?;
        let field = Field::new(field.name(), field.data_type().clone(), true);
        match relations.last_mut() {
            Some((last, fields)) if *last == name => fields.push(field),
            _ => relations.push((name, vec![field])),
        }
    }
    let paired = |(name, fields): (&str, Vec<Field>)| Paired {
        name: name.to_owned(),
        rows: RecordBatch::new_empty(Arc::new(Schema::new(fields))),
    };
    Ok(relations.into_iter().map(paired).collect())
}

/// Whether a query for the rows to change reads more than these.
fn is_joined(query: &Query) -> bool {
    matches!(query.ast.body.as_ref(), SetExpr::Select(select) if select.from.len() > 1)
}

/// The first of the rows of each key.
fn once(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut kept = Vec::with_capacity(batches.len());
    for batch in batches {
        let keys = bytes(batch, 0)?.iter();
        let is_first: Vec<bool> = keys.map(|key| key.is_some_and(|key| seen.insert(key.to_vec()))).collect();
        kept.push(filter_record_batch(batch, &BooleanArray::from(is_first))?);
    }
    Ok(kept)
}

/// The rows with the `own` first columns, and the columns of FROM behind them as rows of its relations.
fn divided(found: Rows, own: usize, mut paired: Vec<Paired>) -> Result<Found> {
    let mut first = own;
    for relation in &mut paired {
        let places: Vec<usize> = (first..first + relation.rows.num_columns()).collect();
        let named = relation.rows.schema();
        let types = found.schema.project(&places)?;
        let fields = named.fields().iter().zip(types.fields().iter());
        let fields = fields.map(|(named, of)| Field::new(named.name(), of.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let parts = found.batches.iter().map(|batch| {
            let columns = places.iter().map(|at| Arc::clone(batch.column(*at))).collect();
            RecordBatch::try_new(Arc::clone(&schema), columns)
        });
        let parts = parts.collect::<std::result::Result<Vec<_>, _>>()?;
        relation.rows = concat_batches(&schema, &parts)?;
        first += places.len();
    }
    if paired.is_empty() {
        return Ok(Found { rows: found.batches, paired });
    }
    let places: Vec<usize> = (0..own).collect();
    let rows = found.batches.iter().map(|batch| batch.project(&places)).collect::<std::result::Result<_, _>>()?;
    Ok(Found { rows, paired })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, BinaryArray, Int32Array};
    use arrow::datatypes::{DataType, Int32Type};

    /// Rows of keys, stored forms, a column of the table, and one of FROM.
    fn batch(rows: &[(&str, i32, i32)]) -> RecordBatch {
        let keys = || BinaryArray::from_iter_values(rows.iter().map(|(key, ..)| key.as_bytes()));
        let column = |of: fn(&(&str, i32, i32)) -> i32| Int32Array::from_iter_values(rows.iter().map(of));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("key", Arc::new(keys())),
            ("value", Arc::new(keys())),
            ("a", Arc::new(column(|row| row.1))),
            ("x", Arc::new(column(|row| row.2))),
        ];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    #[test]
    fn a_row_is_changed_once_with_what_it_was_first_paired_with() {
        let batches = [batch(&[("k", 1, 10), ("l", 2, 20), ("k", 3, 30)]), batch(&[("l", 4, 40), ("m", 5, 50)])];
        let kept = once(&batches).expect("keys");
        assert_eq!(kept, [batch(&[("k", 1, 10), ("l", 2, 20)]), batch(&[("m", 5, 50)])]);
        let schema = Schema::new(vec![Field::new("y", DataType::Int32, true)]);
        let paired = vec![Paired { name: "s".to_owned(), rows: RecordBatch::new_empty(Arc::new(schema)) }];
        let found = Rows { schema: kept[0].schema(), batches: kept };
        let divided = divided(found, 3, paired).expect("columns");
        assert_eq!(divided.rows.iter().map(RecordBatch::num_columns).collect::<Vec<_>>(), [3, 3]);
        let rows = &divided.paired[0].rows;
        assert_eq!(rows.schema().field(0).name(), "y");
        assert_eq!(rows.column(0).as_primitive::<Int32Type>().values(), &[10, 20, 50]);
    }
}
