//! The batches of operators that keep whole rows by group: the group's key and the row, as bytes.
//!
//! Both are in row format, so the state keeps what comes and nothing is decoded before it is given
//! on. Rows that belong to no group, because a key is null and nulls do not pair, travel in batches
//! of one column, the row: see [`is_loose`]. Invariant: the group of a row depends on the row alone.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::keys::{KeyCodec, keyed};
use crate::ops::expressions::column;
use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::{and, is_not_null, not};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

/// What becomes of a row of which a key is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NullKeys {
    /// Nulls are equal: it belongs to a group like any other.
    Group,
    /// It belongs to no group, and is handed on.
    Loose,
    /// It is left out.
    Drop,
}

/// Makes batches of group keys and rows.
pub(crate) struct Grouping {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    types: Vec<DataType>,
    key_codec: KeyCodec,
    row_codec: KeyCodec,
    nulls: NullKeys,
}

/// Whether a batch holds rows that belong to no group.
pub(crate) fn is_loose(batch: &Batch) -> bool {
    batch.rows.num_columns() == 1
}

/// A codec for whole rows.
///
/// # Errors
/// `Plan` when a type cannot be kept.
pub(crate) fn row_codec(schema: &SchemaRef) -> Result<KeyCodec> {
    KeyCodec::new(schema.fields().iter().map(|field| field.data_type().clone()).collect())
}

fn broken(error: ArrowError) -> Error {
    Error::data("group", error)
}

impl Grouping {
    /// # Errors
    /// `Plan` when a key or a column cannot be kept.
    pub(crate) fn new(keys: &[Arc<dyn PhysicalExpr>], input: &SchemaRef, nulls: NullKeys) -> Result<Self> {
        let types = keys.iter().map(|key| key.data_type(input)).collect::<Result<Vec<_>, _>>();
        let types = types.map_err(|e| Error::Plan(e.to_string()))?;
        Ok(Self {
            keys: keys.to_vec(),
            key_codec: KeyCodec::new(types.clone())?,
            types,
            row_codec: row_codec(input)?,
            nulls,
        })
    }

    /// The types of the keys.
    pub(crate) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// One batch of keys and rows, and one of the rows that belong to no group.
    pub(crate) fn apply(&self, batch: &Batch) -> Result<Vec<Batch>> {
        self.of_rows(batch, &self.row_codec.wide(batch.rows.columns(), batch.len())?)
    }

    /// The same for rows of which the form that is kept is known.
    pub(crate) fn of_rows(&self, batch: &Batch, row: &ArrayRef) -> Result<Vec<Batch>> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| column(key, &batch.rows)).collect::<Result<_>>()?;
        let all = self.key_codec.key_wide_with(&keys, &[Arc::clone(row)], batch)?;
        let Some(valid) = self.valid(&keys)?.filter(|valid| valid.false_count() > 0) else { return Ok(vec![all]) };
        let mut parts = vec![all.filter(&valid).map_err(broken)?];
        if self.nulls == NullKeys::Loose {
            let null = not(&valid).map_err(broken)?;
            parts.push(keyed(Arc::clone(row), &[], batch)?.filter(&null).map_err(broken)?);
        }
        parts.retain(|part| !part.is_empty());
        Ok(parts)
    }

    /// For which rows no key is null; none where nulls are like other keys.
    fn valid(&self, keys: &[ArrayRef]) -> Result<Option<BooleanArray>> {
        let mut valid: Option<BooleanArray> = None;
        for key in keys.iter().filter(|key| self.nulls != NullKeys::Group && key.is_nullable()) {
            let here = is_not_null(key.as_ref()).map_err(broken)?;
            valid = Some(match valid {
                Some(before) => and(&before, &here).map_err(broken)?,
                None => here,
            });
        }
        Ok(valid)
    }
}
