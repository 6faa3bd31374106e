//! Temporal filters: WHERE that compares a time of the row with now(), as the row's lifetime.
//!
//! `ts > now() - INTERVAL '1 hour'` is true of a row until an hour after its `ts`. In a view such
//! conditions leave WHERE and become the times between which a row is there; the engine lets them pass.
//! now() is then the time of the epoch, in whole microseconds. A query that runs once keeps its WHERE.
//!
//! Taken are `<`, `<=`, `>`, `>=` and BETWEEN, connected by AND, of a time that the row alone decides and
//! now(), more or less intervals of fixed length. now() anywhere else is refused as before: where it
//! stands by [`clocks`], which looks at the syntax, and once more when the plan is checked. proctime()
//! has become now() before.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue, plan_err};
use datafusion::functions::core::{greatest, least};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, Extension, Filter, LogicalPlan, LogicalPlanBuilder, Operator,
    UserDefinedLogicalNodeCore, cast, lit,
};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Spanned};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Rows that are there between two times, each in microseconds since 1970 and never null.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lifetime {
    pub(crate) input: LogicalPlan,
    /// The first microsecond at which a row is there; always when absent.
    pub(crate) from: Option<Expr>,
    /// The first one at which it is no more; never when absent.
    pub(crate) until: Option<Expr>,
}

/// The lifetime that a node is, if it is one.
pub(crate) fn lifetime_of(node: &LogicalPlan) -> Option<&Lifetime> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

impl PartialOrd for Lifetime {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Lifetime {
    fn name(&self) -> &'static str {
        "Lifetime"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.from.iter().chain(&self.until).cloned().collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lifetime:")?;
        if let Some(from) = &self.from {
            write!(f, " from={from}")?;
        }
        if let Some(until) = &self.until {
            write!(f, " until={until}")?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Ok([input]) = <[LogicalPlan; 1]>::try_from(inputs) else {
            return plan_err!("a lifetime has one input");
        };
        let mut exprs = exprs.into_iter();
        let from = self.from.as_ref().and_then(|_| exprs.next());
        let until = self.until.as_ref().and_then(|_| exprs.next());
        Ok(Self { input, from, until })
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output.to_vec()])
    }
}

/// Makes lifetimes of the conditions of a plan that compare with now(), in subqueries too.
pub(crate) fn bounded(plan: LogicalPlan) -> Result<LogicalPlan> {
    let bounded = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) => in_filter(filter),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bounded.data)
}

/// The times that conditions set.
#[derive(Default)]
struct Bounds {
    from: Vec<Expr>,
    until: Vec<Expr>,
}

fn in_filter(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    if !filter.predicate.exists(|e| Ok(is_now(e)))? {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let schema = Arc::clone(filter.input.schema());
    let (mut bounds, mut kept, mut outer) = (Bounds::default(), Vec::new(), Vec::new());
    for part in split_conjunction_owned(filter.predicate.clone()).into_iter().flat_map(comparisons) {
        match bounds.take(&part, &schema) {
            // A time that is null compares with nothing.
            Some(time) => kept.push(time.is_not_null()),
            // What a subquery reads of the query around it stays where decorrelation finds it.
            None if part.contains_outer() => outer.push(part),
            None => kept.push(part),
        }
    }
    if bounds.from.is_empty() && bounds.until.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let mut builder = LogicalPlanBuilder::from(filter.input);
    if let Some(kept) = conjunction(kept) {
        builder = builder.filter(kept)?;
    }
    let Bounds { mut from, mut until } = bounds;
    let from = if from.len() > 1 { Some(greatest().call(from)) } else { from.pop() };
    let until = if until.len() > 1 { Some(least().call(until)) } else { until.pop() };
    let node = Lifetime { input: builder.build()?, from, until };
    let mut plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    if let Some(outer) = conjunction(outer) {
        plan = LogicalPlan::Filter(Filter::try_new(outer, Arc::new(plan))?);
    }
    Ok(Transformed::yes(plan))
}

/// A condition as what must hold together: BETWEEN is two comparisons.
fn comparisons(part: Expr) -> Vec<Expr> {
    match part {
        Expr::Between(between) if !between.negated => {
            let least = between.expr.as_ref().clone().gt_eq(*between.low);
            vec![least, between.expr.lt_eq(*between.high)]
        }
        other => vec![other],
    }
}

impl Bounds {
    /// Takes a comparison of a row's time with now(), which gives the time; none when it is another
    /// condition.
    fn take(&mut self, part: &Expr, schema: &DFSchema) -> Option<Expr> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { return None };
        let (time, op, shift) = match (shift_of(left), shift_of(right)) {
            (None, Some(shift)) => (left, *op, shift),
            (Some(shift), None) => (right, op.swap()?, shift),
            _ => return None,
        };
        let micros = micros_of(time, schema)?;
        // `time op now + shift`, both in whole microseconds.
        let (bounds, shift) = match op {
            Operator::Gt => (&mut self.until, shift),
            Operator::GtEq => (&mut self.until, shift.checked_sub(1)?),
            Operator::Lt => (&mut self.from, shift.checked_sub(1)?),
            Operator::LtEq => (&mut self.from, shift),
            _ => return None,
        };
        bounds.push(if shift == 0 { micros } else { micros - lit(shift) });
        Some(time.as_ref().clone())
    }
}

fn is_now(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == "now" && call.args.is_empty())
}

/// By how many microseconds an expression is more than now(), if that is all it is.
fn shift_of(expr: &Expr) -> Option<i64> {
    match expr {
        now if is_now(now) => Some(0),
        // now() has no more than microseconds in a view.
        Expr::Cast(Cast { expr, field }) => match field.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => shift_of(expr),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => match (shift_of(left), shift_of(right)) {
            (Some(shift), None) => shift.checked_add(interval_of(right)?),
            (None, Some(shift)) => shift.checked_add(interval_of(left)?),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            shift_of(left)?.checked_sub(interval_of(right)?)
        }
        _ => None,
    }
}

/// A literal interval of fixed length, in microseconds.
fn interval_of(expr: &Expr) -> Option<i64> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) = expr else { return None };
    if value.months != 0 || value.nanoseconds % 1000 != 0 {
        return None;
    }
    i64::from(value.days).checked_mul(86_400_000_000)?.checked_add(value.nanoseconds / 1000)
}

/// A time that the row alone decides, in microseconds.
fn micros_of(time: &Expr, schema: &DFSchema) -> Option<Expr> {
    let reads_more = |e: &Expr| {
        let more = matches!(
            e,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        );
        Ok(more || is_now(e))
    };
    if time.exists(reads_more).unwrap_or(true) {
        return None;
    }
    let time = match time.get_type(schema).ok()? {
        DataType::Timestamp(TimeUnit::Microsecond, _) => time.clone(),
        DataType::Date32 => cast(time.clone(), DataType::Timestamp(TimeUnit::Microsecond, None)),
        _ => return None,
    };
    Some(cast(time, DataType::Int64))
}

/// Where now() stands in a WHERE as it may.
pub(crate) fn clocks(condition: &ast::Expr, found: &mut Vec<Span>) {
    match condition {
        ast::Expr::Nested(inner) => clocks(inner, found),
        ast::Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            clocks(left, found);
            clocks(right, found);
        }
        ast::Expr::BinaryOp {
            left,
            op: BinaryOperator::Gt | BinaryOperator::GtEq | BinaryOperator::Lt | BinaryOperator::LtEq,
            right,
        } => found.extend(clock(left).into_iter().chain(clock(right))),
        ast::Expr::Between { expr, negated: false, low, high } => {
            found.extend([expr, low, high].into_iter().filter_map(|part| clock(part)));
        }
        _ => {}
    }
}

/// Where now() stands in what is now() but for intervals of fixed length.
fn clock(expr: &ast::Expr) -> Option<Span> {
    match expr {
        ast::Expr::Function(call) => {
            let name = call.name.to_string().to_lowercase();
            ["now", "current_timestamp", "proctime"].contains(&name.as_str()).then(|| call.name.span())
        }
        ast::Expr::Nested(inner) | ast::Expr::Cast { expr: inner, .. } => clock(inner),
        ast::Expr::BinaryOp { left, op: BinaryOperator::Plus | BinaryOperator::Minus, right } => {
            clock(left).or_else(|| clock(right))
        }
        _ => None,
    }
}
