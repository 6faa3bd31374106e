//! Stateless work on one batch: filters, projections, and the preparation of keyed batches.
//!
//! Expressions are DataFusion's, evaluated a column at a time; nothing here is per row.

use crate::batch::{Batch, record_batch};
use crate::conditions;
use crate::error::{Error, Result};
use crate::identity;
use crate::keys::KeyCodec;
use crate::ops::accumulate::Argument;
use crate::plan::{Aggregation, Map, Sessions};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{not, nullif, prep_null_mask_filter};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use std::sync::Arc;

/// Evaluates an expression over a batch.
pub(crate) fn column(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    let value = expression.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()));
    value.map_err(|error| Error::expression(expression, error))
}

/// The rows for which an expression is true; nulls count as false. Of conditions that must hold together each is
/// computed for the rows that others leave, where they cannot be computed as one.
pub(crate) fn mask(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<BooleanArray> {
    let mask = match column(expression, rows) {
        Err(error) => return conditions::held(expression, rows).ok_or(error),
        Ok(mask) => mask,
    };
    let mask = mask.as_boolean_opt().ok_or_else(|| Error::data(expression.to_string(), "is not a condition"))?;
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}

/// A filter and a projection, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Mapper {
    map: Map,
    schema: SchemaRef,
}

impl Mapper {
    pub(crate) const fn new(map: Map, schema: SchemaRef) -> Self {
        Self { map, schema }
    }

    /// The rows that pass, projected; none when no row passes.
    pub(crate) fn apply(&self, batch: Batch) -> Result<Option<Batch>> {
        let batch = match &self.map.filter {
            Some(filter) => {
                let mask = mask(filter, &batch.rows)?;
                match mask.true_count() {
                    0 => return Ok(None),
                    all if all == batch.len() => batch,
                    _ => batch.filter(&mask).map_err(|e| Error::data("filter", e))?,
                }
            }
            None => batch,
        };
        if self.map.columns.is_empty() && !self.schema.fields().is_empty() {
            return Ok(Some(batch));
        }
        let columns: Vec<ArrayRef> = self.map.columns.iter().map(|c| column(c, &batch.rows)).collect::<Result<_>>()?;
        let rows = record_batch(&self.schema, columns, batch.len()).map_err(|e| Error::data("projection", e))?;
        Ok(Some(batch.with_rows(rows)))
    }
}

/// An argument, its FILTER, its type, and whether it is DISTINCT.
type PreparedArgument = (Arc<dyn PhysicalExpr>, Option<Arc<dyn PhysicalExpr>>, DataType, bool);

/// Makes keyed batches for an aggregation: the key, then each distinct argument once.
pub(crate) struct Preparation {
    codec: KeyCodec,
    types: Vec<DataType>,
    /// Keys are whole rows, always in bytes form.
    whole_rows: bool,
    /// What comes behind the arguments, where keys are always in bytes form too.
    time: Option<Arc<dyn PhysicalExpr>>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    arguments: Vec<PreparedArgument>,
    /// For each aggregate, its argument's place; none for count(*).
    pub(crate) columns: Vec<Option<usize>>,
    /// What each argument column is.
    pub(crate) described: Vec<Argument>,
    /// The argument columns of which each value counts once.
    pub(crate) distinct: Vec<usize>,
}

impl Preparation {
    /// # Errors
    /// `Plan` when a key cannot be one.
    pub(crate) fn new(aggregation: &Aggregation, input: &SchemaRef) -> Result<Self> {
        let plan = |e: datafusion_common::DataFusionError| Error::Plan(e.to_string());
        let types = aggregation.keys.iter().map(|k| k.data_type(input)).collect::<Result<Vec<_>, _>>().map_err(plan)?;
        let mut this = Self {
            codec: KeyCodec::new(types.clone())?,
            types,
            whole_rows: false,
            time: None,
            keys: aggregation.keys.clone(),
            arguments: Vec::new(),
            columns: Vec::new(),
            described: Vec::new(),
            distinct: Vec::new(),
        };
        for aggregate in &aggregation.aggregates {
            let argument = match (&aggregate.argument, &aggregate.filter) {
                (None, None) => {
                    this.columns.push(None);
                    continue;
                }
                (Some(argument), _) => Arc::clone(argument),
                // count(*) FILTER (WHERE f) is the count of a constant where f is true.
                (None, Some(_)) => datafusion_physical_expr::expressions::lit(1_i64),
            };
            let data_type = if aggregate.argument.is_some() { aggregate.input.clone() } else { DataType::Int64 };
            // Of DISTINCT arguments not every row counts, as if it were null.
            let distinct = aggregate.distinct;
            let nullable = distinct || aggregate.filter.is_some() || argument.nullable(input).map_err(plan)?;
            let wanted = (argument, aggregate.filter.clone(), data_type.clone(), distinct);
            let known = this.arguments.iter().position(|known| *known == wanted);
            let at = known.unwrap_or_else(|| {
                this.arguments.push(wanted);
                this.described.push(Argument { data_type, nullable });
                let at = this.arguments.len() - 1;
                this.distinct.extend(distinct.then_some(at));
                at
            });
            this.columns.push(Some(at));
        }
        Ok(this)
    }

    /// Keyed batches whose keys are whole rows, with nothing beside them.
    ///
    /// # Errors
    /// As [`Preparation::new`].
    pub(crate) fn of_whole_rows(rows: &Aggregation, input: &SchemaRef) -> Result<Self> {
        Ok(Self { whole_rows: true, ..Self::new(rows, input)? })
    }

    /// Keyed batches in bytes form, with the rows' times behind the arguments.
    ///
    /// # Errors
    /// As [`Preparation::new`].
    pub(crate) fn of_sessions(sessions: &Sessions, input: &SchemaRef) -> Result<Self> {
        let time = Column::new(input.field(sessions.time).name(), sessions.time);
        Ok(Self { time: Some(Arc::new(time)), ..Self::new(&sessions.aggregation, input)? })
    }

    /// What the argument columns are called where state is kept for them.
    ///
    /// # Errors
    /// `Plan` when an expression has no words.
    pub(crate) fn words(&self) -> Result<Vec<String>> {
        let argument = |((argument, filter, ..), described): (&PreparedArgument, &Argument)| -> Result<String> {
            let filter = match filter {
                Some(filter) => format!(" where {}", identity::expression(filter)?),
                None => String::new(),
            };
            let nulls = if described.nullable { " or null" } else { "" };
            let (argument, of) = (identity::expression(argument)?, identity::data_type(&described.data_type)?);
            Ok(format!("{argument}{filter}: {of}{nulls}"))
        };
        self.arguments.iter().zip(&self.described).map(argument).collect()
    }

    /// A codec for the same keys, for who reads them.
    pub(crate) fn codec(&self) -> Result<KeyCodec> {
        KeyCodec::new(self.types.clone())
    }

    /// One keyed batch, or two where some keys are null.
    pub(crate) fn apply(&self, batch: &Batch) -> Result<Vec<Batch>> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| column(k, &batch.rows)).collect::<Result<_>>()?;
        let mut arguments: Vec<ArrayRef> =
            self.arguments.iter().map(|(a, f, t, _)| argument(a, f.as_ref(), t, &batch.rows)).collect::<Result<_>>()?;
        if self.whole_rows {
            return self.codec.key_wide(&keys, batch);
        }
        if let Some(time) = &self.time {
            arguments.push(column(time, &batch.rows)?);
            return Ok(vec![self.codec.key_wide_with(&keys, &arguments, batch)?]);
        }
        self.codec.key(&keys, &arguments, batch)
    }
}

/// An argument column; null where the filter does not hold.
fn argument(
    expression: &Arc<dyn PhysicalExpr>,
    filter: Option<&Arc<dyn PhysicalExpr>>,
    data_type: &DataType,
    rows: &RecordBatch,
) -> Result<ArrayRef> {
    let mut values = column(expression, rows)?;
    if values.data_type() != data_type {
        let cast = arrow::compute::cast(&values, data_type);
        values = cast.map_err(|error| Error::expression(expression, error.into()))?;
    }
    let Some(filter) = filter else { return Ok(values) };
    let left_out = not(&mask(filter, rows)?).map_err(|e| Error::data(filter.to_string(), e))?;
    nullif(&values, &left_out).map_err(|e| Error::data(filter.to_string(), e))
}
