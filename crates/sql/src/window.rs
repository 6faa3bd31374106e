//! TUMBLE, HOP and SESSION in FROM: how they are bound, and what TUMBLE and HOP mean in batch.
//!
//! TUMBLE is a projection. HOP is a node of its own, which a dataflow runs as an operator and a
//! batch query as an unnested list of window starts. A window starts at a multiple of its slide
//! since 1970 and contains its start but not its end; rows without a time are in no hopping window.
//! SESSION is a node that `session_window` owns.

use crate::date_bin;
use crate::present::present_of;
use crate::session_window::{self, session_of};
use crate::titles;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{
    Column, DFSchema, DFSchemaRef, DataFusionError, Diagnostic, NullHandling, Result, ScalarValue, Span,
    TableReference, UnnestOptions, exec_err, plan_datafusion_err, plan_err,
};
use datafusion::functions::datetime;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, UserDefinedLogicalNodeCore, Volatility, col, lit,
};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, Spanned, TableAlias, TableFactor,
};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// The column that a window's start has.
pub(crate) const START: &str = "window_start";
/// The column that a window's end has.
pub(crate) const END: &str = "window_end";

/// The most windows that HOP puts one row into.
const MOST_WINDOWS: i64 = 10_000;

/// Binds TUMBLE(t, ts, size), HOP(t, ts, slide, size) and SESSION(t, keys, ts, gap).
#[derive(Debug)]
pub(crate) struct Windows;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Tumble,
    Hop,
    Session,
}

/// A call as it stands in FROM.
struct Call {
    function: Function,
    arguments: Vec<SqlExpr>,
    alias: Option<TableAlias>,
    span: Option<Span>,
}

impl Function {
    fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "tumble" => Some(Self::Tumble),
            "hop" => Some(Self::Hop),
            "session" => Some(Self::Session),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Session => "SESSION",
        }
    }

    /// How many intervals stand at the end.
    const fn intervals(self) -> usize {
        match self {
            Self::Hop => 2,
            Self::Tumble | Self::Session => 1,
        }
    }

    /// Refuses another number of arguments than it takes.
    fn check(self, arguments: usize) -> Result<()> {
        match (self, arguments) {
            (Self::Tumble, 3) | (Self::Hop, 4) | (Self::Session, 3..) => Ok(()),
            (Self::Tumble, _) => plan_err!("TUMBLE takes 3 arguments: TUMBLE(table, time, size)"),
            (Self::Hop, _) => plan_err!("HOP takes 4 arguments: HOP(table, time, slide, size)"),
            (Self::Session, _) => {
                plan_err!("SESSION takes 3 or more arguments: SESSION(table, key, ..., time, gap)")
            }
        }
    }
}

/// Whether a name in FROM is one of these functions.
pub(crate) fn is_window(name: &str) -> bool {
    Function::of(name).is_some()
}

impl RelationPlanner for Windows {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let Some(call) = window_call(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let span = call.span;
        let alias = call.alias.clone();
        let plan = plan_call(call, context).map_err(|e| match e.diagnostic() {
            Some(_) => e,
            None => {
                let message = e.message().into_owned();
                e.with_diagnostic(Diagnostic::new_error(message, span))
            }
        })?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn window_call(relation: &TableFactor) -> Option<Call> {
    let TableFactor::Table { name, alias, args: Some(args), .. } = relation else { return None };
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
    let function = Function::of(&ident.value)?;
    let arguments = args
        .args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    let span = Span::try_from_sqlparser_span(ident.span);
    Some(Call { function, arguments, alias: alias.clone(), span })
}

fn plan_call(call: Call, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let Call { function, mut arguments, .. } = call;
    let name = function.name();
    function.check(arguments.len())?;
    let intervals = arguments.split_off(arguments.len() - function.intervals());
    let time_sql = arguments.pop().expect("counted above");
    let mut arguments = arguments.into_iter();
    let input = context.plan(table_of(arguments.next().expect("counted above"), name)?).and_then(titles::outside)?;
    let time_span = Span::try_from_sqlparser_span(time_sql.span());
    let time = context.sql_to_expr(time_sql, input.schema())?;
    let unit_us = unit_of(&time, input.schema(), name).map_err(|e| {
        let message = e.message().into_owned();
        e.with_diagnostic(Diagnostic::new_error(message, time_span))
    })?;
    let keys = arguments.map(|sql| context.sql_to_expr(sql, input.schema())).collect::<Result<Vec<_>>>()?;
    let mut durations = Vec::new();
    for sql in intervals {
        let span = Span::try_from_sqlparser_span(sql.span());
        let expr = context.sql_to_expr(sql, &DFSchema::empty())?;
        durations.push(micros_of(&expr, unit_us).map_err(|e| {
            let message = e.message().into_owned();
            e.with_diagnostic(Diagnostic::new_error(message, span))
        })?);
    }
    match (function, durations.as_slice()) {
        (Function::Session, [gap]) => session_window::session(input, keys, time, *gap),
        (Function::Tumble, [size]) => tumble(input, time, *size),
        (Function::Hop, [slide, size]) if *slide > 0 && size / slide > MOST_WINDOWS => {
            plan_err!("HOP puts each row into {} windows; at most {MOST_WINDOWS} are possible", size / slide)
        }
        (Function::Hop, [slide, size]) => hop(input, time, *slide, *size),
        _ => plan_err!("{name} has the wrong number of intervals"),
    }
}

/// The first argument names a relation or is a query in parentheses.
fn table_of(argument: SqlExpr, name: &str) -> Result<TableFactor> {
    let parts: Vec<Ident> = match argument {
        SqlExpr::Identifier(ident) => vec![ident],
        SqlExpr::CompoundIdentifier(idents) => idents,
        SqlExpr::Subquery(subquery) => {
            return Ok(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None });
        }
        other => return plan_err!("{name}'s first argument is a table, not {other}"),
    };
    Ok(TableFactor::Table {
        name: ObjectName(parts.into_iter().map(ObjectNamePart::Identifier).collect()),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    })
}

/// How many microseconds the time column's unit has: 0 for nanoseconds.
fn unit_of(time: &Expr, schema: &DFSchema, name: &str) -> Result<i64> {
    match time.get_type(schema)? {
        DataType::Timestamp(unit, _) => Ok(match unit {
            TimeUnit::Second => 1_000_000,
            TimeUnit::Millisecond => 1000,
            TimeUnit::Microsecond => 1,
            TimeUnit::Nanosecond => 0,
        }),
        other => plan_err!("{name}'s time is a timestamp, not {}", crate::types::pg_name(&other)),
    }
}

/// A literal interval of fixed length, in microseconds.
fn micros_of(interval: &Expr, unit_us: i64) -> Result<i64> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) = interval else {
        return plan_err!("a window's length is a literal such as INTERVAL '10' SECOND");
    };
    if value.months != 0 {
        return plan_err!("a window's length has no months or years, which differ in length");
    }
    if value.nanoseconds % 1000 != 0 {
        return plan_err!("a window's length is a whole number of microseconds");
    }
    let days = i64::from(value.days).checked_mul(86_400_000_000);
    let micros = days.and_then(|days| days.checked_add(value.nanoseconds / 1000));
    let Some(micros) = micros else { return plan_err!("a window's length is less than 292 years") };
    if micros <= 0 {
        return plan_err!("a window's length is more than 0");
    }
    if unit_us > 1 && micros % unit_us != 0 {
        return plan_err!("a window's length is a multiple of the time column's unit");
    }
    Ok(micros)
}

pub(crate) fn interval(micros: i64) -> Result<Expr> {
    let nanos =
        micros.checked_mul(1000).ok_or_else(|| plan_datafusion_err!("a window's length is less than 292 years"))?;
    Ok(lit(ScalarValue::new_interval_mdn(0, 0, nanos)))
}

/// The qualifier that all columns share, for the window's columns to share too.
pub(crate) fn qualifier(schema: &DFSchema) -> Option<TableReference> {
    let mut all = schema.iter().map(|(q, _)| q);
    let first = all.next()??;
    all.all(|q| q == Some(first)).then(|| first.clone())
}

pub(crate) fn all_columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(col).collect()
}

fn tumble(input: LogicalPlan, time: Expr, size_us: i64) -> Result<LogicalPlan> {
    let relation = qualifier(input.schema());
    let is_instant = date_bin::takes(&time.get_type(input.schema())?);
    let bin = if is_instant { Arc::new(date_bin::of_instants()) } else { datetime::date_bin() };
    let start = bin.call(vec![interval(size_us)?, time]);
    let end = start.clone() + interval(size_us)?;
    let mut columns = all_columns(&input);
    columns.push(start.alias_qualified(relation.clone(), START));
    columns.push(end.alias_qualified(relation, END));
    LogicalPlanBuilder::from(input).project(columns)?.build()
}

fn hop(input: LogicalPlan, time: Expr, slide_us: i64, size_us: i64) -> Result<LogicalPlan> {
    if !matches!(time, Expr::Column(_)) {
        return plan_err!("HOP's time is a column: compute it in a subquery");
    }
    let node = Hop::new(input, time, slide_us, size_us)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// HOP: every row once for each window that contains its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hop {
    pub(crate) input: LogicalPlan,
    pub(crate) time: Expr,
    pub(crate) slide_us: i64,
    pub(crate) size_us: i64,
    schema: DFSchemaRef,
}

impl PartialOrd for Hop {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl Hop {
    fn new(input: LogicalPlan, time: Expr, slide_us: i64, size_us: i64) -> Result<Self> {
        let relation = qualifier(input.schema());
        let data_type = time.get_type(input.schema())?;
        let mut fields: Vec<_> = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        for name in [START, END] {
            fields.push((relation.clone(), Arc::new(Field::new(name, data_type.clone(), true))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(Self { input, time, slide_us, size_us, schema: Arc::new(schema) })
    }

    /// The same in terms that DataFusion can run.
    fn expand(self) -> Result<LogicalPlan> {
        const LIST: &str = "__windows";
        let relation = qualifier(self.input.schema());
        let columns = all_columns(&self.input);
        let starts = ScalarUDF::from(HopStarts::new(self.slide_us, self.size_us));
        let mut listed = columns.clone();
        listed.push(starts.call(vec![self.time]).alias(LIST));
        let options = UnnestOptions { null_handling: NullHandling::Drop, ..UnnestOptions::default() };
        let start = || col(Column::new_unqualified(LIST));
        let mut shown = columns;
        shown.push(start().alias_qualified(relation.clone(), START));
        shown.push((start() + interval(self.size_us)?).alias_qualified(relation, END));
        LogicalPlanBuilder::from(self.input)
            .project(listed)?
            .unnest_column_with_options(LIST, options)?
            .project(shown)?
            .build()
    }
}

impl UserDefinedLogicalNodeCore for Hop {
    fn name(&self) -> &'static str {
        "Hop"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone()]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        [START.to_owned(), END.to_owned()].into()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hop: {} slide={}us size={}us", self.time, self.slide_us, self.size_us)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Ok([time]), Ok([input])) = (<[Expr; 1]>::try_from(exprs), <[LogicalPlan; 1]>::try_from(inputs)) else {
            return plan_err!("HOP has one time and one input");
        };
        Self::new(input, time, self.slide_us, self.size_us)
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let inputs = self.input.schema().fields().len();
        Some(vec![output.iter().copied().filter(|i| *i < inputs).collect()])
    }
}

/// Replaces every [`Hop`] and every SESSION by nodes that DataFusion can run, in subqueries too, and
/// every table at present by the table.
pub(crate) fn expand(plan: LogicalPlan) -> Result<LogicalPlan> {
    let expanded = plan.transform_up_with_subqueries(|node| {
        if let Some(hop) = hop_of(&node) {
            return Ok(Transformed::yes(hop.clone().expand()?));
        }
        if let Some(present) = present_of(&node) {
            return Ok(Transformed::yes(present.input.clone()));
        }
        match session_of(&node) {
            Some(session) => Ok(Transformed::yes(session.over(session.input.clone())?)),
            None => Ok(Transformed::no(node)),
        }
    })?;
    Ok(expanded.data)
}

/// The HOP that a node is, if it is one.
pub(crate) fn hop_of(node: &LogicalPlan) -> Option<&Hop> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// `hop_starts(time)`: the starts of the windows that contain a time, as a list.
#[derive(Debug, PartialEq, Eq, Hash)]
struct HopStarts {
    slide_us: i64,
    size_us: i64,
    signature: Signature,
}

impl HopStarts {
    fn new(slide_us: i64, size_us: i64) -> Self {
        Self { slide_us, size_us, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HopStarts {
    fn name(&self) -> &'static str {
        "hop_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [item] = arguments else { return plan_err!("hop_starts takes one argument") };
        Ok(DataType::List(Arc::new(Field::new_list_field(item.clone(), true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(self.lists(&times)?))
    }
}

impl HopStarts {
    fn lists(&self, times: &ArrayRef) -> Result<ArrayRef> {
        let data_type = times.data_type().clone();
        let DataType::Timestamp(unit, _) = &data_type else {
            return exec_err!("hop_starts takes a timestamp");
        };
        let (slide, size) = (in_unit(self.slide_us, *unit)?, in_unit(self.size_us, *unit)?);
        let instants = cast(times, &DataType::Int64)?;
        let instants = instants.as_primitive::<Int64Type>();
        let mut starts = Vec::new();
        let mut lengths = Vec::with_capacity(instants.len());
        for instant in instants {
            let before = starts.len();
            if let Some(instant) = instant {
                push_starts(instant, slide, size, &mut starts)?;
            }
            lengths.push(starts.len() - before);
        }
        let values = cast(&Int64Array::from(starts), &data_type)?;
        let item = Arc::new(Field::new_list_field(data_type, true));
        let lists = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, None)?;
        Ok(Arc::new(lists))
    }
}

fn in_unit(micros: i64, unit: TimeUnit) -> Result<i64> {
    let value = match unit {
        TimeUnit::Second => Some(micros / 1_000_000),
        TimeUnit::Millisecond => Some(micros / 1000),
        TimeUnit::Microsecond => Some(micros),
        TimeUnit::Nanosecond => micros.checked_mul(1000),
    };
    value.ok_or_else(|| DataFusionError::Execution("a window's length is out of range".to_owned()))
}

/// The starts of all windows with `start <= instant < start + size`, in ascending order.
fn push_starts(instant: i64, slide: i64, size: i64, starts: &mut Vec<i64>) -> Result<()> {
    let range = || DataFusionError::Execution(format!("time {instant} is out of range for HOP"));
    let last = instant.div_euclid(slide).checked_mul(slide).ok_or_else(range)?;
    let before = instant.checked_sub(size).ok_or_else(range)?;
    let from = starts.len();
    let mut start = last;
    while start > before {
        starts.push(start);
        start = start.checked_sub(slide).ok_or_else(range)?;
    }
    starts[from..].reverse();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_every_window_that_contains_it_and_in_no_other() {
        for (slide, size) in [(2, 10), (10, 10), (3, 10), (7, 5), (5, 7)] {
            for instant in -40..40 {
                let mut found = Vec::new();
                push_starts(instant, slide, size, &mut found).expect("in range");
                let expected: Vec<i64> = (-100..100)
                    .filter(|start| start % slide == 0)
                    .filter(|start| *start <= instant && instant < start + size)
                    .collect();
                assert_eq!(found, expected, "{instant} slide {slide} size {size}");
            }
        }
    }

    #[test]
    fn times_at_the_end_of_the_range_are_errors_not_wraps() {
        let mut starts = Vec::new();
        assert!(push_starts(i64::MIN, 10, 20, &mut starts).is_err());
        assert!(push_starts(i64::MAX, 10, 20, &mut starts).is_ok());
    }
}
