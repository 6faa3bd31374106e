//! What a plan says exactly, once its types are settled: arithmetic and aggregates that give no wrong number,
//! conditions that keep their nulls, keys of floating point in one form, casts to text as PostgreSQL writes
//! values and of texts to times as it reads them, and a LIMIT whose order leaves no rows equal.
//!
//! It is part of the analysis of every plan, of a query that runs once as of a view, so that both give the
//! same. It can be done again to what it has been done to. Windows come last, when only the columns are left
//! that the query needs: in a query that runs once by a rule, in a view when it is lowered.

use crate::aggregates;
use crate::alike;
use crate::arithmetic;
use crate::arrays;
use crate::composites;
use crate::dependencies::{DistinctRows, NeededColumns, NeededJoins, SortKeys};
use crate::equal_nulls::{CrossJoins, JoinKeys};
use crate::floats;
use crate::frames;
use crate::guards;
use crate::lateral_joins;
use crate::lower::ties;
use crate::nulled_keys::NulledKeys;
use crate::nulls;
use crate::ordered_sets;
use crate::printed::printed;
use crate::rounding;
use crate::scalars;
use crate::spreads;
use crate::together::Together;
use crate::undealt::Undealt;
use crate::window_keys::WindowKeys;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinConstraint, Result, ScalarValue};
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, InList, InSubquery, ScalarFunction, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Case, Distinct, Expr, ExprSchemable, Join, LogicalPlan, Operator, Projection, SortExpr,
    Subquery, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, cast,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{AnalyzerRule, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use highwater_engine::{has_forms, one_form};
use std::sync::Arc;

/// Numerics that hold all integers, and what comes of adding two.
const WIDE: DataType = DataType::Decimal128(38, 0);

/// Functions that compare their arguments with each other.
const COMPARE: [&str; 3] = ["greatest", "least", "nullif"];

/// See above.
#[derive(Debug)]
pub(crate) struct Exact;

impl AnalyzerRule for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let done = plan.transform_up_with_subqueries(|node| {
            let schema = schema_of(&node)?;
            let names = NamePreserver::new(&node);
            let done = node.map_expressions(|expr| {
                let name = names.save(&expr);
                let done = expr.transform_up(|expr| exact(expr, &schema))?;
                Ok(if done.transformed { done.update_data(|expr| name.restore(expr)) } else { done })
            })?;
            done.transform_data(|node| ordered(node, &schema))
        })?;
        Ok(done.data)
    }
}

/// What the expressions of a node may read.
fn schema_of(node: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&node.inputs());
    if let LogicalPlan::TableScan(scan) = node {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    Ok(schema)
}

/// An expression whose parts have been made exact.
///
/// # Errors
/// When a type is not known.
pub(crate) fn exact(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    composites::exact(expr, schema)?.transform_data(|expr| exact_of_one(expr, schema))
}

fn exact_of_one(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_turned(&left, op, &right) => {
            let turned = BinaryExpr { left: right, op: op.swap().unwrap_or(op), right: left };
            Ok(Transformed::yes(exact_of_one(Expr::BinaryExpr(turned), schema)?.data))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if nulls::is_unknown(&left, op, &right) => {
            Ok(Transformed::yes(nulls::unknown()))
        }
        Expr::AggregateFunction(call) => aggregate(call, schema),
        Expr::WindowFunction(call) => window(*call, schema),
        Expr::Cast(cast) if cast.field.data_type().is_temporal() => scalars::time_of_text(cast, schema),
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Binary => Ok(scalars::from_text(cast, schema)),
        Expr::Cast(cast) if rounding::is_by_digits(&cast, schema) => Ok(rounding::exact(cast, schema)),
        Expr::Cast(cast) => Ok(printed(cast, schema)),
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if arrays::orders(op) && is_array(&left, schema) && is_array(&right, schema) =>
        {
            array_ordered(*left, op, *right, schema).map(Transformed::yes)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if compares(op) && is_formed(&left, schema) && is_formed(&right, schema) =>
        {
            let (left, right) = (Box::new(floats::key(*left, schema)?), Box::new(floats::key(*right, schema)?));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::Between(between) if is_array(&between.expr, schema) => {
            array_between(between, schema).map(Transformed::yes)
        }
        Expr::Between(Between { expr, negated, low, high }) if is_interval(&expr, schema) => {
            let [expr, low, high] = [expr, low, high].map(|part| floats::key(*part, schema).map(Box::new));
            Ok(Transformed::yes(Expr::Between(Between { expr: expr?, negated, low: low?, high: high? })))
        }
        Expr::InList(list) if may_differ(&list.expr, schema) => among_keys(list, schema).map(Transformed::yes),
        Expr::InSubquery(within) if is_formed(&within.expr, schema) => among_lengths(within, schema),
        Expr::Case(Case { expr: Some(of), when_then_expr, else_expr }) if may_differ(&of, schema) => {
            let of = Some(Box::new(floats::key(*of, schema)?));
            let key =
                |(when, then): (Box<Expr>, Box<Expr>)| floats::key(*when, schema).map(|when| (Box::new(when), then));
            let when_then_expr = when_then_expr.into_iter().map(key).collect::<Result<_>>()?;
            Ok(Transformed::yes(Expr::Case(Case { expr: of, when_then_expr, else_expr })))
        }
        Expr::ScalarFunction(call) if COMPARE.contains(&call.func.name()) => compared(call, schema),
        Expr::ScalarFunction(call) if call.func.name() == "round" => {
            Ok(Transformed::yes(rounding::to_even(call, schema)))
        }
        Expr::ScalarFunction(call) if call.func.name() == "regexp_like" => Ok(nulls::matched_by_call(call)),
        Expr::BinaryExpr(of) if nulls::is_match(of.op) => Ok(nulls::matched(of)),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            match nulls::joined(&left, op, &right) {
                Some(joined) => Ok(Transformed::yes(joined)),
                None if op == Operator::Or => either(*left, *right, schema),
                None => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            }
        }
        Expr::InList(list) => Ok(nulls::listed(list)),
        other => arithmetic::exact(other, schema),
    }
}

/// Whether an operator compares two values.
pub(crate) const fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether a constant is compared with what is none, as in `2 = k`. DataFusion takes such a comparison for another one
/// than `k = 2`, and makes of both that nothing is left, or takes `1 < k` for `k >= 1`, of which it keeps one.
fn is_turned(left: &Expr, op: Operator, right: &Expr) -> bool {
    compares(op) && op.swap().is_some() && left.column_refs().is_empty() && !right.column_refs().is_empty()
}

/// Whether a value is an interval.
fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| floats::is_interval(&of))
}

fn is_array(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| matches!(of, DataType::List(_)))
}

/// Whether a value is of a type with several forms of equal values that DataFusion tells apart.
pub(crate) fn is_formed(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| has_form(&of))
}

/// Whether a value is of a type of which equal values may differ, such as the two zeros.
fn may_differ(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| has_forms(&of))
}

fn array_ordered(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Expr> {
    arrays::ordered(floats::key(left, schema)?, op, floats::key(right, schema)?)
}

fn array_between(Between { expr, negated, low, high }: Between, schema: &DFSchema) -> Result<Expr> {
    let (first, last) = if negated { (Operator::Lt, Operator::Gt) } else { (Operator::GtEq, Operator::LtEq) };
    let first = array_ordered(*expr.clone(), first, *low, schema)?;
    let last = array_ordered(*expr, last, *high, schema)?;
    Ok(if negated { first.or(last) } else { first.and(last) })
}

/// `x IN (SELECT ...)`, in which x is looked for by its length.
fn among_lengths(within: InSubquery, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let InSubquery { expr, subquery, negated } = within;
    let expr = Box::new(floats::key(*expr, schema)?);
    let plan = match Arc::unwrap_or_clone(subquery.subquery) {
        LogicalPlan::Projection(Projection { mut expr, input, .. }) => {
            for value in expr.iter_mut().take(1) {
                *value = named_key(std::mem::take(value), input.schema())?;
            }
            Projection::try_new(expr, input)?
        }
        other => {
            let columns = other.schema().columns().into_iter().map(Expr::Column);
            let values = columns.map(|column| named_key(column, other.schema())).collect::<Result<_>>()?;
            Projection::try_new(values, Arc::new(other))?
        }
    };
    let subquery = Subquery { subquery: Arc::new(LogicalPlan::Projection(plan)), ..subquery };
    Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })))
}

/// `x IN (a, b)` by the one form of x, a and b.
fn among_keys(InList { expr, list, negated }: InList, schema: &DFSchema) -> Result<Expr> {
    let of = expr.get_type(schema)?;
    let is_apart = floats::is_float(&of) || matches!(of, DataType::List(_));
    let expr = Box::new(floats::key(*expr, schema)?);
    let list = list.into_iter().map(|value| listed_key(value, schema)).collect::<Result<_>>()?;
    let list = InList { expr, list, negated };
    Ok(if is_apart { nulls::listed(list).data } else { Expr::InList(list) })
}

/// A key in a list. A float that is written out stays a constant, so that lists of which nothing is left are known.
fn listed_key(value: Expr, schema: &DFSchema) -> Result<Expr> {
    match nulls::value(&value) {
        Some(constant) if floats::is_float(&constant.data_type()) => {
            let one = one_form(&constant.to_array()?);
            Ok(Expr::Literal(ScalarValue::try_from_array(&one, 0)?, None))
        }
        _ => floats::key(value, schema),
    }
}

/// One or the other. The simplifier makes a list of a column's equalities with constants, and a long list tells the
/// two zeros apart: floating point is looked up by its key.
fn either(left: Expr, right: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (left, right) = (with_key(left, schema)?, with_key(right, schema)?);
    let is_changed = left.transformed || right.transformed;
    Ok(Transformed::new_transformed(left.data.or(right.data), is_changed))
}

/// The equality of floating point with a constant, by its key; anything else as it is.
fn with_key(side: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_float = |of: &Expr| of.get_type(schema).is_ok_and(|of| floats::is_float(&of));
    match side {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right })
            if is_float(&left) && is_float(&right) && !(left.any_column_refs() && right.any_column_refs()) =>
        {
            Ok(Transformed::yes(floats::key(*left, schema)?.eq(floats::key(*right, schema)?)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// A function that compares its arguments with each other.
fn compared(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if call.func.name() == "nullif" {
        let chosen = unless_equal(&call, schema)?;
        return Ok(chosen.map_or_else(|| Transformed::no(Expr::ScalarFunction(call)), Transformed::yes));
    }
    // Of the two zeros either is the greatest, but intervals of one length are to be one.
    if !call.args.iter().all(|of| is_interval(of, schema)) {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    }
    call.args = keys(call.args, schema)?;
    Ok(Transformed::yes(Expr::ScalarFunction(call)))
}

/// `nullif(a, b)` of a type of which equal values may differ; none of other types.
fn unless_equal(call: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
    let [value, other] = call.args.as_slice() else { return Ok(None) };
    let (Ok(of), Ok(beside)) = (value.get_type(schema), other.get_type(schema)) else { return Ok(None) };
    // The value is written twice, and what is volatile would be another one.
    if of != beside || !has_forms(&of) || value.is_volatile() {
        return Ok(None);
    }
    let equal = floats::key(value.clone(), schema)?.eq(floats::key(other.clone(), schema)?);
    Ok(Some(Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(equal), Box::new(Expr::Literal(ScalarValue::try_from(&of)?, None)))],
        else_expr: Some(Box::new(value.clone())),
    })))
}

fn aggregate(mut call: AggregateFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Some(function) = aggregates::exact(&call.func, &call.params.args, schema)? {
        call.func = function;
    }
    if let Some(function) = spreads::exact(&call.func, &call.params.args, call.params.distinct, schema)? {
        call.func = function;
    }
    let name = call.func.name();
    guards::filtered(call.params.filter.as_deref(), &mut call.params.args, &mut call.params.order_by, schema);
    // DISTINCT wants to find what it is sorted by among its arguments.
    if ties::BY_ORDER.contains(&name) && !call.params.distinct {
        let order = floats::sort_keys(call.params.order_by, schema)?;
        call.params.order_by = ties::keys_once(name, order);
    }
    if matches!(name, "min" | "max") || call.params.distinct {
        call.params.args = keys(call.params.args, schema)?;
    }
    if call.params.distinct {
        let by_key = |SortExpr { expr, asc, nulls_first }: SortExpr| {
            floats::key(expr, schema).map(|expr| SortExpr { expr, asc, nulls_first })
        };
        call.params.order_by = call.params.order_by.into_iter().map(by_key).collect::<Result<_>>()?;
    }
    if name == "nth_value" {
        check_place(&call.params.args, schema)?;
    }
    // DataFusion knows the place as a bigint alone.
    if name == "nth_value"
        && let Some(Expr::Literal(place @ ScalarValue::Int32(_), _)) = call.params.args.get_mut(1)
    {
        *place = place.cast_to(&DataType::Int64)?;
    }
    if ordered_sets::is_one(name)
        && let Some(value) = call.params.args.first_mut()
    {
        *value = floats::key(value.clone(), schema)?;
    }
    Ok(Transformed::yes(Expr::AggregateFunction(call)))
}

fn window(mut call: WindowFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, distinct, .. } = &mut call.params;
    if let WindowFunctionDefinition::AggregateUDF(function) = &mut call.fun {
        guards::filtered(filter.as_deref(), args, &mut [], schema);
        // A plan may come here twice.
        if !frames::is_framed(function)
            && let Some(exact) = aggregates::exact(function, args, schema)?
        {
            *function = exact;
        }
        if matches!(function.name(), "min" | "max") || *distinct {
            *args = keys(std::mem::take(args), schema)?;
        }
        if let Some(framed) = frames::framed(function, args, *distinct, schema)? {
            *function = framed;
        }
    }
    if call.fun.name() == "nth_value" {
        check_place(args, schema)?;
    }
    beyond_limits(order_by, window_frame, schema)?;
    *partition_by = keys(std::mem::take(partition_by), schema)?;
    *order_by = floats::sort_keys(std::mem::take(order_by), schema)?;
    Ok(Transformed::yes(Expr::WindowFunction(Box::new(call))))
}

/// The place that `nth_value` asks for: DataFusion counts one below zero from the end.
fn check_place(args: &[Expr], schema: &DFSchema) -> Result<()> {
    let Some(place) = args.get(1) else { return Ok(()) };
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    let Expr::Literal(place, _) = ExprSimplifier::new(context).simplify(place.clone())? else { return Ok(()) };
    match place.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(..=0))) => {
            Err(scalars::refused("22016", "argument of nth_value must be greater than zero"))
        }
        _ => Ok(()),
    }
}

/// Makes numerics of the integers that a frame goes by, as in `RANGE 1 FOLLOWING`: near the limits of their type
/// there would be no integer where it ends, and it would take nulls in.
fn beyond_limits(order_by: &mut [SortExpr], frame: &mut WindowFrame, schema: &DFSchema) -> Result<()> {
    let ([sort], WindowFrameUnits::Range) = (order_by, frame.units) else { return Ok(()) };
    let is_integer = matches!(sort.expr.get_type(schema)?, DataType::Int16 | DataType::Int32 | DataType::Int64);
    if !is_integer || !frames::is_by_distance(frame) {
        return Ok(());
    }
    for bound in [&mut frame.start_bound, &mut frame.end_bound] {
        if let WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) = bound
            && !by.is_null()
        {
            *by = by.cast_to(&WIDE)?;
        }
    }
    sort.expr = cast(sort.expr.clone(), WIDE);
    Ok(())
}

fn keys(exprs: Vec<Expr>, schema: &DFSchema) -> Result<Vec<Expr>> {
    exprs.into_iter().map(|expr| floats::key(expr, schema)).collect()
}

/// A node whose order is that of its keys' values, and a LIMIT over an order without ties.
fn ordered(node: LogicalPlan, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Sort(mut sort) => {
            sort.expr = floats::sort_keys(sort.expr, schema)?;
            Ok(Transformed::yes(LogicalPlan::Sort(sort)))
        }
        LogicalPlan::Limit(mut limit) => {
            limit.input = Arc::new(untied(Arc::unwrap_or_clone(limit.input))?);
            Ok(Transformed::yes(LogicalPlan::Limit(limit)))
        }
        LogicalPlan::Aggregate(grouped) if grouped.group_expr.iter().any(|key| is_open(key, schema)) => {
            let Aggregate { input, group_expr, aggr_expr, .. } = grouped;
            let group_expr = group_expr.into_iter().map(|key| named_key(key, schema)).collect::<Result<_>>()?;
            Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?)))
        }
        LogicalPlan::Join(join) => {
            Ok(alike::joined(join).transform_data(joined_by_length)?.update_data(LogicalPlan::Join))
        }
        LogicalPlan::Distinct(Distinct::All(input)) if input.schema().fields().iter().any(is_of_intervals) => {
            let columns = input.schema().columns().into_iter().map(Expr::Column);
            let keys = columns.map(|column| named_key(column, input.schema())).collect::<Result<Vec<_>>>()?;
            let input = LogicalPlan::Projection(Projection::try_new(keys, input)?);
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn is_of_intervals(field: &FieldRef) -> bool {
    has_form(field.data_type())
}

/// Whether DataFusion would take equal values of a type for different ones where it groups by them.
fn has_form(of: &DataType) -> bool {
    has_forms(of) && !floats::is_float(of)
}

/// Whether rows are grouped by an interval as it is written, or an array or a composite value.
fn is_open(key: &Expr, schema: &DFSchema) -> bool {
    let plain = key.clone().unalias();
    floats::keyed(&plain).is_none() && is_formed(&plain, schema)
}

/// An interval in its one form as a key; anything else as it is.
fn length(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    if is_open(&expr, schema) { floats::key(expr, schema) } else { Ok(expr) }
}

/// A join by intervals, of which USING, NATURAL, EXCEPT and INTERSECT make keys as they are written.
fn joined_by_length(mut join: Join) -> Result<Transformed<Join>> {
    let (left, right) = (join.left.schema(), join.right.schema());
    if !join.on.iter().any(|(one, other)| is_open(one, left) || is_open(other, right)) {
        return Ok(Transformed::no(join));
    }
    let on = std::mem::take(&mut join.on).into_iter();
    let on = on.map(|(one, other)| length(one, left).and_then(|one| Ok((one, length(other, right)?))));
    join.on = on.collect::<Result<_>>()?;
    // The keys of USING are columns.
    join.join_constraint = JoinConstraint::On;
    Ok(Transformed::yes(join))
}

/// A key of groups under the name that it had.
fn named_key(key: Expr, schema: &DFSchema) -> Result<Expr> {
    if !is_open(&key, schema) {
        return Ok(key);
    }
    let (relation, name) = key.qualified_name();
    Ok(floats::key(key.unalias(), schema)?.alias_qualified(relation, name))
}

/// What a LIMIT takes the first rows of: where it is sorted, all other columns decide among rows that are
/// equal, as in a view.
fn untied(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(mut sort) => {
            sort.expr = ties::untied(&sort.expr, sort.input.schema());
            Ok(LogicalPlan::Sort(sort))
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            Ok(plan.map_children(|input| untied(input).map(Transformed::yes))?.data)
        }
        other => Ok(other),
    }
}

/// DataFusion's rules, but for what is to be exact.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let own: [Arc<dyn OptimizerRule + Send + Sync>; 8] = [
        Arc::new(SingleDistinct(SingleDistinctToGroupBy::new())),
        Arc::new(FiltersDown::default()),
        Arc::new(JoinKeys::default()),
        Arc::new(CrossJoins::default()),
        Arc::new(DistinctRows::default()),
        Arc::new(SortKeys::default()),
        Arc::new(NeededJoins::default()),
        Arc::new(NeededColumns::default()),
    ];
    let exact = |rule: Arc<dyn OptimizerRule + Send + Sync>| {
        let own = own.iter().find(|own| own.name() == rule.name());
        own.map_or(rule, Arc::clone)
    };
    let mut rules: Vec<_> = Optimizer::new().rules.into_iter().map(exact).collect();
    lateral_joins::put_first(&mut rules);
    rules
}

/// DataFusion's rules for physical plans, but for those that hand filters down. They know columns by name
/// alone, and where a join of a table with itself has its sides exchanged, two have one name: they would take
/// a condition on both sides for one on one side. What they could reach below takes no filters, and the
/// logical plan's have been handed down already. First of all comes what makes conditions hold in any order, so
/// that the others know what it leaves to know of a filter, at last what keeps the order of a result and what looks
/// whether windows can begin.
#[must_use]
pub fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.insert(0, Arc::new(Together::Fallible));
    rules.insert(1, Arc::new(NulledKeys));
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    rules.push(Arc::new(Undealt));
    rules.push(Arc::new(WindowKeys::Known));
    rules
}

/// The same rules, but knowing nothing of what filters leave, such as that a column has one value, and nothing of
/// the rows of windows. DataFusion goes by that when it leaves out sorts, and knows it no longer when its last check
/// looks for them, or when the window begins.
#[must_use]
pub fn unknowing_physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = physical_rules();
    rules[0] = Arc::new(Together::All);
    rules.insert(1, Arc::new(WindowKeys::Unknown));
    rules
}

/// DISTINCT by way of GROUP BY, which makes sums of sums of what stands beside it: not where these may be
/// no bigint though the whole is one.
#[derive(Debug)]
struct SingleDistinct(SingleDistinctToGroupBy);

impl OptimizerRule for SingleDistinct {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let is_sum = |expr: &Expr| match expr {
            Expr::AggregateFunction(call) => !call.params.distinct && aggregates::is_exact_sum(&call.func),
            _ => false,
        };
        let has_sum = matches!(&plan, LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().any(is_sum));
        if has_sum { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// Filters are handed down, but not into a GROUP BY that has a row also when there is none to group: what reads
/// no column, such as `HAVING false`, is about that row.
#[derive(Debug, Default)]
pub(crate) struct FiltersDown(PushDownFilter);

impl OptimizerRule for FiltersDown {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let is_over_total = matches!(&plan, LogicalPlan::Filter(filter) if has_total(&filter.input));
        if is_over_total { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// Whether a plan is such a GROUP BY, with filters over it or without: DataFusion makes one of several filters, and
/// hands that down at once.
fn has_total(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => has_total(&filter.input),
        LogicalPlan::Aggregate(of) => of.group_expr.iter().all(|key| matches!(key, Expr::GroupingSet(_))),
        _ => false,
    }
}

/// Window functions that tell rows with equal sort keys apart go by all columns then, as a view's do.
#[derive(Debug)]
pub(crate) struct UntiedWindows;

impl OptimizerRule for UntiedWindows {
    fn name(&self) -> &'static str {
        "untied_windows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Window(window) = plan else { return Ok(Transformed::no(plan)) };
        let input = window.input.schema();
        let exprs: Vec<Expr> = window.window_expr.iter().map(|expr| ties::window(expr, input)).collect();
        if exprs == window.window_expr {
            return Ok(Transformed::no(LogicalPlan::Window(window)));
        }
        Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(exprs, Arc::clone(&window.input))?)))
    }
}
