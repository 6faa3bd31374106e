//! What a table that a connector fills comes to, from scratch: its source read once more and every item
//! done in its turn. Slow and plain; for checks of what the pipeline keeps.

use crate::error::Result;
use crate::replay::{self, Until};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use highwater_engine::one_form;
use highwater_sql::lower::FedTable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The table's rows after what its source gives up to a place.
pub(crate) fn from_scratch(table: &FedTable, until: &Until) -> Result<Arc<dyn TableProvider>> {
    let given = concat_batches(&table.source.schema(), &replay::rows(table.source.as_ref(), until)?)?;
    let kept = UInt32Array::from(kept(table, &given)?);
    let columns = given.columns()[..table.schema.fields().len()].iter();
    let columns = columns.map(|column| take(column, &kept, None)).collect::<Result<_, _>>()?;
    let rows = RecordBatch::try_new(Arc::clone(&table.schema), columns)?;
    Ok(Arc::new(MemTable::try_new(Arc::clone(&table.schema), vec![vec![rows]])?))
}

/// The places of the rows that are there in the end.
fn kept(table: &FedTable, given: &RecordBatch) -> Result<Vec<u32>> {
    let columns = table.schema.fields().len();
    let reasons = given.columns().last().filter(|_| table.error_columns > 0);
    let deleted = table.deletes.then(|| given.column(columns).as_boolean());
    let keys: Vec<ArrayRef> = table.key.iter().map(|key| one_form(given.column(*key))).collect();
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let keys = if keys.is_empty() { None } else { Some(RowConverter::new(fields)?.convert_columns(&keys)?) };
    let (mut all, mut last) = (Vec::new(), BTreeMap::new());
    for row in 0..given.num_rows() {
        if reasons.is_some_and(|reasons| reasons.is_valid(row)) {
            continue;
        }
        let Some(keys) = &keys else {
            all.push(row as u32);
            continue;
        };
        let key = keys.row(row).owned();
        if deleted.is_some_and(|deleted| deleted.value(row)) {
            last.remove(&key);
        } else {
            last.insert(key, row as u32);
        }
    }
    all.extend(last.into_values());
    Ok(all)
}
