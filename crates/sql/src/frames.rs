//! Frames of OVER: by which types there are any, and aggregates over frames that move, as in
//! `sum(x) OVER (ORDER BY t ROWS 9 PRECEDING)`.
//!
//! Most aggregates cannot take a value away again, or not exactly: in a sum of floating point digits are gone, and
//! a NaN or an infinity stays. For these what a frame holds is kept, and is aggregated anew for each row, as
//! PostgreSQL does it. Invariant: values leave a frame in the order in which they came into it.

use crate::error::Error;
use crate::floats;
use crate::interval_lengths;
use crate::references::called_at;
use crate::statement::Query;
use crate::types::pg_name;
use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, GroupsAccumulator, LogicalPlan, Signature,
    WindowFrame, WindowFrameBound, WindowFrameUnits, cast,
};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use std::any::Any;
use std::sync::Arc;

/// Refuses OVER by a type whose values have no distance, by which DataFusion knows frames.
///
/// # Errors
/// `Unsupported` with the type and, where it can be told, the function's place.
pub(crate) fn check(plan: &LogicalPlan, query: &Query) -> std::result::Result<(), Error> {
    let mut found: Option<(String, DataType)> = None;
    let walked = plan.apply_with_subqueries(|node| {
        let LogicalPlan::Window(window) = node else { return Ok(TreeNodeRecursion::Continue) };
        for expr in &window.window_expr {
            let Expr::WindowFunction(call) = expr else { continue };
            let (frame, Some(first)) = (&call.params.window_frame, call.params.order_by.first()) else { continue };
            let Ok(data_type) = first.expr.get_type(window.input.schema()) else { continue };
            let is_far = match &data_type {
                DataType::Interval(_) => is_by_distance(frame),
                other => *other == DataType::Binary,
            };
            if is_far && frame.units == WindowFrameUnits::Range {
                found = Some((call.fun.name().to_owned(), data_type));
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| Error::Plan(Box::new(e)))?;
    let Some((function, data_type)) = found else { return Ok(()) };
    let clause = format!("OVER (ORDER BY ...) of type {}", pg_name(&data_type));
    let hint = "order by a number, as extract(epoch FROM ...) gives it, or by a text";
    Err(Error::unsupported(clause, hint, called_at(query, &function)))
}

/// Whether a frame begins or ends so far from a row.
pub(crate) fn is_by_distance(frame: &WindowFrame) -> bool {
    [&frame.start_bound, &frame.end_bound].into_iter().any(|bound| match bound {
        WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => !by.is_null(),
        WindowFrameBound::CurrentRow => false,
    })
}

/// Makes numbers of the times of day and the intervals that a window goes by: DataFusion knows no frames of these.
#[derive(Debug)]
pub(crate) struct RangeKeys;

impl FunctionRewrite for RangeKeys {
    fn name(&self) -> &'static str {
        "range_keys"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::WindowFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
        let is_range = call.params.window_frame.units == WindowFrameUnits::Range;
        let is_changed = match call.params.order_by.first_mut().filter(|_| is_range) {
            Some(sort) => match sort.expr.get_type(schema) {
                Ok(DataType::Time64(_)) => {
                    // A cast has the name of what is cast.
                    sort.expr = cast(std::mem::take(&mut sort.expr), DataType::Int64);
                    true
                }
                Ok(of) if floats::is_interval(&of) => {
                    sort.expr = interval_lengths::length_of(std::mem::take(&mut sort.expr));
                    true
                }
                _ => false,
            },
            None => false,
        };
        Ok(Transformed::new_transformed(Expr::WindowFunction(call), is_changed))
    }
}

/// Whether a function has taken the place of an aggregate over a frame.
pub(crate) fn is_framed(function: &AggregateUDF) -> bool {
    let any: &dyn Any = function.inner().as_ref();
    any.is::<Framed>()
}

/// The function that takes the place of an aggregate over a frame, if any does.
///
/// # Errors
/// When the type of an argument is not known.
pub(crate) fn framed(
    function: &Arc<AggregateUDF>,
    args: &[Expr],
    is_distinct: bool,
    schema: &DFSchema,
) -> Result<Option<Arc<AggregateUDF>>> {
    if is_framed(function) || takes_away(function.name(), args, is_distinct, schema)? {
        return Ok(None);
    }
    Ok(Some(Arc::new(AggregateUDF::from(Framed(Arc::clone(function))))))
}

/// Whether an aggregate gives exactly what is left when values have been taken away from it.
fn takes_away(function: &str, args: &[Expr], is_distinct: bool, schema: &DFSchema) -> Result<bool> {
    match function {
        "count" | "min" | "max" => Ok(true),
        "array_agg" | "bit_xor" => Ok(!is_distinct),
        // Of values that count once those are known that are bigints.
        "sum" | "avg" if is_distinct => {
            Ok(function == "sum" && matches!(args, [of] if of.get_type(schema)? == DataType::Int64))
        }
        "sum" | "avg" => {
            for arg in args {
                if floats::is_float(&arg.get_type(schema)?) && !is_whole(arg, schema)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether values are whole and so small that sums of them are exact.
fn is_whole(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let Expr::Cast(Cast { expr, .. }) = expr else { return Ok(false) };
    Ok(matches!(expr.get_type(schema)?, DataType::Int16 | DataType::Int32))
}

/// An aggregate that is computed anew for each frame.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Framed(Arc<AggregateUDF>);

impl AggregateUDFImpl for Framed {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(given)
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.return_type(args)
    }

    fn return_field(&self, args: &[FieldRef]) -> Result<FieldRef> {
        self.0.return_field(args)
    }

    fn is_nullable(&self) -> bool {
        self.0.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.0.default_value(data_type)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Frame { function: Arc::clone(&self.0), told: Told::of(&args), held: Vec::new() }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.0.create_groups_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }
}

/// What an accumulator is told, for as many of them as there are frames.
#[derive(Debug)]
struct Told {
    return_field: FieldRef,
    schema: Schema,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    is_reversed: bool,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl Told {
    fn of(args: &AccumulatorArgs<'_>) -> Self {
        Self {
            return_field: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys.to_vec(),
            is_reversed: args.is_reversed,
            name: args.name.to_owned(),
            is_distinct: args.is_distinct,
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
        }
    }

    fn args(&self) -> AccumulatorArgs<'_> {
        AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        }
    }
}

/// One frame as it moves.
#[derive(Debug)]
struct Frame {
    function: Arc<AggregateUDF>,
    told: Told,
    /// The arguments of the rows in the frame, in the order in which they came; none before the first.
    held: Vec<ArrayRef>,
}

impl Accumulator for Frame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if self.held.is_empty() {
            self.held = values.to_vec();
            return Ok(());
        }
        for (held, values) in self.held.iter_mut().zip(values) {
            *held = concat(&[held.as_ref(), values.as_ref()])?;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let gone = values.first().map_or(0, |values| values.len());
        for held in &mut self.held {
            let Some(left) = held.len().checked_sub(gone) else {
                return plan_err!("more rows leave a frame than are in it");
            };
            *held = held.slice(gone, left);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        plan_err!("a frame is in one place")
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        plan_err!("a frame is in one place")
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut whole = self.function.accumulator(self.told.args())?;
        if !self.held.is_empty() {
            whole.update_batch(&self.held)?;
        }
        whole.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.held.iter().map(|held| held.get_array_memory_size()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
