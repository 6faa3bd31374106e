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
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion_common::{DataFusionError, internal_err};
use datafusion_physical_expr::expressions::{Column, LambdaExpr, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::{Arc, OnceLock};

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
    /// What the projection is computed from, where rows are filtered before: only that is.
    parts: Option<Parts>,
}

/// Parts of rows, and what is computed of them.
#[derive(Clone, Debug)]
struct Parts {
    /// Columns, and fields of columns.
    of: Vec<Arc<dyn PhysicalExpr>>,
    /// The output's columns, over the parts.
    columns: Vec<Arc<dyn PhysicalExpr>>,
    /// The columns that the parts are.
    schema: OnceLock<SchemaRef>,
}

impl Mapper {
    pub(crate) fn new(map: Map, schema: SchemaRef) -> Self {
        let is_narrower = map.filter.is_some() && !map.columns.is_empty();
        let parts = if is_narrower { Parts::of(&map.columns) } else { None };
        Self { map, schema, parts }
    }

    /// The rows that pass, projected; none when no row passes.
    pub(crate) fn apply(&self, batch: Batch) -> Result<Option<Batch>> {
        let Some(filter) = &self.map.filter else { return self.project(&self.map.columns, batch).map(Some) };
        let mask = mask(filter, &batch.rows)?;
        let passing = mask.true_count();
        if passing == 0 {
            return Ok(None);
        }
        if passing == batch.len() {
            return self.project(&self.map.columns, batch).map(Some);
        }
        let (columns, batch) = match &self.parts {
            Some(parts) => (&parts.columns, parts.take(&batch)?),
            None => (&self.map.columns, batch),
        };
        let batch = batch.filter(&mask).map_err(|e| Error::data("filter", e))?;
        self.project(columns, batch).map(Some)
    }

    fn project(&self, columns: &[Arc<dyn PhysicalExpr>], batch: Batch) -> Result<Batch> {
        if columns.is_empty() && !self.schema.fields().is_empty() {
            return Ok(batch);
        }
        let columns: Vec<ArrayRef> = columns.iter().map(|c| column(c, &batch.rows)).collect::<Result<_>>()?;
        let rows = record_batch(&self.schema, columns, batch.len()).map_err(|e| Error::data("projection", e))?;
        Ok(batch.with_rows(rows))
    }
}

impl Parts {
    /// What some expressions read, and these over that; none where it cannot be told.
    fn of(columns: &[Arc<dyn PhysicalExpr>]) -> Option<Self> {
        let mut of: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        let mut over = |expr: Arc<dyn PhysicalExpr>| {
            if expr.is::<LambdaExpr>() {
                return internal_err!("a lambda finds columns by itself");
            }
            let Some((_, path)) = part_of(&expr) else { return Ok(Transformed::no(expr)) };
            let name = path.last().copied().or_else(|| expr.downcast_ref::<Column>().map(Column::name));
            let name = name.unwrap_or_default().to_owned();
            let place = of.iter().position(|known| known == &expr).unwrap_or_else(|| {
                of.push(Arc::clone(&expr));
                of.len() - 1
            });
            let part: Arc<dyn PhysicalExpr> = Arc::new(Column::new(&name, place));
            Ok(Transformed::new(part, true, TreeNodeRecursion::Jump))
        };
        let columns: Vec<_> = columns
            .iter()
            .map(|expr| Arc::clone(expr).transform_down(&mut over).map(|over| over.data))
            .collect::<Result<_, DataFusionError>>()
            .ok()?;
        (!of.is_empty()).then(|| Self { of, columns, schema: OnceLock::new() })
    }

    fn take(&self, batch: &Batch) -> Result<Batch> {
        let schema = match self.schema.get() {
            Some(schema) => schema,
            None => {
                let of = |part: &Arc<dyn PhysicalExpr>| part.return_field(batch.rows.schema_ref());
                let fields: Vec<FieldRef> =
                    self.of.iter().map(of).collect::<Result<_, _>>().map_err(|e| Error::data("filter", e))?;
                self.schema.get_or_init(|| Arc::new(Schema::new(fields)))
            }
        };
        let columns: Vec<ArrayRef> = self.of.iter().map(|part| column(part, &batch.rows)).collect::<Result<_>>()?;
        let rows = record_batch(schema, columns, batch.len()).map_err(|e| Error::data("filter", e))?;
        Ok(batch.with_rows(rows))
    }
}

/// The column that an expression is, or is a field of, or a field of a field; and the names of the fields.
pub(crate) fn part_of(expr: &Arc<dyn PhysicalExpr>) -> Option<(usize, Vec<&str>)> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Some((column.index(), Vec::new()));
    }
    let call = expr.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.name() == "get_field")?;
    let (of, names) = call.args().split_first()?;
    let (column, mut path) = part_of(of)?;
    for name in names {
        path.push(name.downcast_ref::<Literal>()?.value().try_as_str()??);
    }
    Some((column, path))
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
