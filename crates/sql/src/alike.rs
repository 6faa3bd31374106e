//! Values that stand beside each other and are to have one type, where DataFusion finds none, or another one than
//! PostgreSQL.
//!
//! - A text that is written out has the type of what stands beside it: `b = 't'`, `y || '\x32'`,
//!   `coalesce(a, '{}')`, `CASE WHEN c THEN i ELSE '7' END`. A text of another kind has not.
//! - A date beside a timestamp is one, of microseconds: DataFusion compares both as nanoseconds, which reach from
//!   1677 to 2262. Sides of joins and set operations that it has given that type already have microseconds, too.
//! - Numbers have the types that `numbers` finds.

use crate::arrays;
use crate::error::DataError;
use crate::exact::compares;
use crate::floats::is_interval;
use crate::intervals::written;
use crate::matched;
use crate::numbers::{self, Brought};
use crate::numerals;
use crate::types::{catalog_name, is_text, pg_name};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, NullEquality, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::binary::comparison_coercion;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, InSubquery, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::{FunctionRewrite, NamePreserver};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Distinct, Expr, ExprSchemable, Join, JoinType, LogicalPlan, Operator, Projection, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery, Union, Volatility, cast,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::sync::Arc;

/// Functions whose arguments have one type.
const ALIKE: [&str; 4] = ["coalesce", "greatest", "least", "nullif"];

/// Whether the arguments of a function have one type.
pub(crate) fn is_alike(function: &str) -> bool {
    ALIKE.contains(&function)
}

/// Puts the functions in the places of DataFusion's.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for name in ALIKE {
        let function = Alike { own: state.udf(name)?, signature: Signature::user_defined(Volatility::Immutable) };
        state.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    state.register_function_rewrite(Arc::new(Beside))
}

/// Whether a text that is written out beside values of a type is read as one of them.
fn is_read(of: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Float32, Float64, Int16, Int32, Int64, Interval, List, Time64, Timestamp};
    match of {
        Boolean | Int16 | Int32 | Int64 | Float32 | Float64 | Binary | Date32 | Interval(_) | List(_) => true,
        Time64(unit) | Timestamp(unit, _) => *unit == TimeUnit::Microsecond,
        _ => false,
    }
}

/// Whether a type is a date or a timestamp as tables have them.
const fn is_moment(of: &DataType) -> bool {
    matches!(of, DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// The one type of values of these types, if they are all of it, or are dates and timestamps.
fn one_type<'a>(mut all: impl Iterator<Item = &'a DataType>) -> Option<DataType> {
    let mut found = all.next()?;
    for of in all {
        if of == found {
            continue;
        }
        if !is_moment(of) || !is_moment(found) {
            return None;
        }
        // An instant before what clocks show, and that before a date.
        if matches!(
            (found, of),
            (DataType::Date32, _) | (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(_)))
        ) {
            found = of;
        }
    }
    Some(found.clone())
}

/// A text that is written out, or null.
const fn is_written(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(_), _))
}

/// A text that is written out, as a value of a type.
fn read_as(text: Expr, of: &DataType) -> Expr {
    match of {
        DataType::List(_) => arrays::parsed(text, of.clone()),
        of if is_interval(of) => written(text),
        of => cast(text, of.clone()),
    }
}

/// Values that have one type, where it is found here; as they are where not.
fn alike<const N: usize>(values: [Expr; N], schema: &DFSchema) -> [Expr; N] {
    match type_beside(values.iter(), schema) {
        Some(of) => values.map(|value| brought(value, &of, schema)),
        None => values,
    }
}

/// The type that some of these values are to be brought to.
fn type_beside<'a>(values: impl Iterator<Item = &'a Expr> + Clone, schema: &DFSchema) -> Option<DataType> {
    let has_text = values.clone().any(is_written);
    let mut types = Vec::new();
    for value in values.filter(|value| !is_written(value)) {
        types.push(value.get_type(schema).ok()?);
    }
    types.retain(|of| !of.is_null());
    let of = one_type(types.iter())?;
    let is_mixed = types.iter().any(|other| *other != of);
    (has_text && is_read(&of) || is_mixed).then_some(of)
}

/// A value of a type that [`type_beside`] has found for it.
fn brought(value: Expr, to: &DataType, schema: &DFSchema) -> Expr {
    if is_written(&value) {
        return read_as(value, to);
    }
    match value.get_type(schema) {
        Ok(of) if of != *to && !of.is_null() => cast(value, to.clone()),
        _ => value,
    }
}

/// What a text that is written out is as an operand beside one of a type, if it is told here.
fn operand_of(operator: &BinaryOperator, beside: DataType) -> Option<DataType> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq, StringConcat};
    match (operator, beside) {
        (StringConcat, DataType::Binary) => Some(DataType::Binary),
        (Eq | NotEq | Lt | LtEq | Gt | GtEq, of @ (DataType::Binary | DataType::Boolean)) => Some(of),
        _ => None,
    }
}

/// Binds operators.
#[derive(Debug)]
pub(crate) struct Written;

impl ExprPlanner for Written {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let beside = match (is_written(&expr.left), is_written(&expr.right)) {
            (true, false) => expr.right.get_type(schema),
            (false, true) => expr.left.get_type(schema),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let Some(of) = beside.ok().and_then(|of| operand_of(&expr.op, of)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let RawBinaryExpr { op, left, right } = expr;
        let read = |side: Expr| if is_written(&side) { read_as(side, &of) } else { side };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left: read(left), right: read(right) }))
    }
}

/// Brings what stands beside each other to one type, before DataFusion does.
#[derive(Debug)]
pub(crate) struct Beside;

impl FunctionRewrite for Beside {
    fn name(&self) -> &'static str {
        "values_beside_each_other"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(Transformed::yes(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                let [left, right] = alike([*left, *right], schema).map(Box::new);
                Expr::BinaryExpr(BinaryExpr { left, op, right })
            }
            Expr::Between(between) => in_range(between, schema),
            Expr::InList(InList { expr, list, negated }) => {
                match type_beside(std::iter::once(expr.as_ref()).chain(&list), schema) {
                    Some(of) => {
                        let list = list.into_iter().map(|value| brought(value, &of, schema)).collect();
                        Expr::InList(InList { expr: Box::new(brought(*expr, &of, schema)), list, negated })
                    }
                    None => Expr::InList(InList { expr, list, negated }),
                }
            }
            Expr::InSubquery(within) => Expr::InSubquery(among(within, schema)?),
            Expr::Case(case) => Expr::Case(of_case(case, schema)),
            Expr::ScalarFunction(call) if ALIKE.contains(&call.func.name()) => match of_numbers(call, schema) {
                Transformed { data: Expr::ScalarFunction(call), .. } if ALIKE.contains(&call.func.name()) => {
                    Expr::ScalarFunction(of_function(call, schema)?)
                }
                other => other.data,
            },
            Expr::ScalarFunction(call) => return Ok(of_numbers(call, schema)),
            other => return Ok(Transformed::no(other)),
        }))
    }
}

/// A range that a value is looked up in: where dates and timestamps would be compared with one end as another type
/// than they are with the other, each end alone.
fn in_range(Between { expr, negated, low, high }: Between, schema: &DFSchema) -> Expr {
    let together = type_beside([expr.as_ref(), low.as_ref(), high.as_ref()].into_iter(), schema);
    let alone =
        |end: &Expr| type_beside([expr.as_ref(), end].into_iter(), schema).or_else(|| expr.get_type(schema).ok());
    let is_apart = together.as_ref().is_some_and(is_moment) && (alone(&low) != together || alone(&high) != together);
    if is_apart {
        let (first, last) = if negated { (Operator::Lt, Operator::Gt) } else { (Operator::GtEq, Operator::LtEq) };
        let compared = |left: Expr, op: Operator, right: Expr| {
            let [left, right] = alike([left, right], schema).map(Box::new);
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        };
        let first = compared(expr.as_ref().clone(), first, *low);
        let last = compared(*expr, last, *high);
        return if negated { first.or(last) } else { first.and(last) };
    }
    let [expr, low, high] = alike([*expr, *low, *high], schema).map(Box::new);
    Expr::Between(Between { expr, negated, low, high })
}

/// A call of a function whose arguments are numbers of several types, or arrays of such, as what it is in PostgreSQL.
fn of_numbers(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    if arrays::has_elements(&call.func) {
        return numbers::with_exact_elements(call, schema);
    }
    if let Some(chosen) = numbers::unless_equal(&call, schema) {
        return Transformed::yes(chosen);
    }
    if !matches!(call.func.name(), "coalesce" | "greatest" | "least" | "make_array") {
        return Transformed::no(Expr::ScalarFunction(call));
    }
    match numbers::together(call.args.iter(), schema) {
        Some(to) => {
            call.args = call.args.into_iter().map(|arg| numbers::brought(arg, &to, schema)).collect();
            Transformed::yes(Expr::ScalarFunction(call))
        }
        None => Transformed::no(Expr::ScalarFunction(call)),
    }
}

/// The values that a CASE gives.
fn given_by(case: &Case) -> impl Iterator<Item = &Expr> + Clone {
    case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref())
}

/// As what the values that a CASE gives have one type, where they are numbers of several.
fn numbers_given(case: &Case, schema: &DFSchema) -> Option<Brought> {
    numbers::together(given_by(case), schema).or_else(|| numbers::mixed(given_by(case), schema))
}

/// `CASE x WHEN a THEN b ... ELSE c END`: x and all a are alike, and all b and c.
fn of_case(case: Case, schema: &DFSchema) -> Case {
    let numbers = numbers_given(&case, schema);
    let Case { mut expr, mut when_then_expr, mut else_expr } = case;
    if let Some(to) = numbers {
        let thens = when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut else_expr);
        thens.for_each(|value| **value = numbers::brought(std::mem::take(&mut **value), &to, schema));
    }
    let whens = when_then_expr.iter().map(|(when, _)| when.as_ref());
    let asked = expr.as_deref().and_then(|of| type_beside(std::iter::once(of).chain(whens), schema));
    let thens = when_then_expr.iter().map(|(_, then)| then.as_ref());
    let given = type_beside(thens.chain(else_expr.as_deref()), schema);
    let bring = |value: &mut Box<Expr>, to: &DataType| **value = brought(std::mem::take(&mut **value), to, schema);
    if let (Some(to), Some(expr)) = (&asked, &mut expr) {
        bring(expr, to);
        when_then_expr.iter_mut().for_each(|(when, _)| bring(when, to));
    }
    if let Some(to) = &given {
        when_then_expr.iter_mut().for_each(|(_, then)| bring(then, to));
        else_expr.iter_mut().for_each(|value| bring(value, to));
    }
    Case { expr, when_then_expr, else_expr }
}

/// A call of a function whose arguments have one type.
///
/// # Errors
/// When one of them is a text that is not written out, and the others are none.
fn of_function(mut call: ScalarFunction, schema: &DFSchema) -> Result<ScalarFunction> {
    let name = call.func.name();
    let others = call.args.iter().filter(|arg| !is_written(arg));
    let types: Vec<DataType> = others.filter_map(|arg| arg.get_type(schema).ok()).filter(|of| !of.is_null()).collect();
    if let Some(text) = types.iter().find(|of| is_text(of))
        && let Some(other) = types.iter().find(|of| is_read(of) && !of.is_numeric())
    {
        let message = format!("{name} types {} and {} cannot be matched: cast one", pg_name(text), pg_name(other));
        return Err(DataFusionError::External(Box::new(DataError { sqlstate: "42804", message })));
    }
    if let Some(of) = type_beside(call.args.iter(), schema) {
        call.args = call.args.into_iter().map(|arg| brought(arg, &of, schema)).collect();
    }
    Ok(call)
}

/// `x IN (SELECT ...)` of dates and timestamps, and of numbers.
fn among(within: InSubquery, schema: &DFSchema) -> Result<InSubquery> {
    let InSubquery { mut expr, mut subquery, negated } = within;
    let mut found = subquery.subquery.schema().field(0).data_type().clone();
    let Ok(of) = expr.get_type(schema) else { return Ok(InSubquery { expr, subquery, negated }) };
    if matches!(found, DataType::Decimal128(..)) {
        expr = Box::new(numerals::exact(*expr));
    }
    if matches!(of, DataType::Decimal128(..))
        && let Some(numerics) = numbers::exact_column(&subquery.subquery, 0)
    {
        found = numerics.schema().field(0).data_type().clone();
        subquery.subquery = Arc::new(numerics);
    }
    let of = expr.get_type(schema).unwrap_or(of);
    let to = if is_moment(&of) && is_moment(&found) && of != found {
        one_type([&of, &found].into_iter())
    } else {
        numbers::type_compared([&of, &found].into_iter())
    };
    let Some(to) = to else { return Ok(InSubquery { expr, subquery, negated }) };
    let expr = Box::new(brought(*expr, &to, schema));
    if found == to {
        return Ok(InSubquery { expr, subquery, negated });
    }
    let column = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let plan = Projection::try_new(vec![cast(column, to)], subquery.subquery)?;
    let subquery = Subquery { subquery: Arc::new(LogicalPlan::Projection(plan)), ..subquery };
    Ok(InSubquery { expr, subquery, negated })
}

/// A join by dates and timestamps of which DataFusion has made nanoseconds, by their microseconds.
pub(crate) fn joined(mut join: Join) -> Transformed<Join> {
    let mut is_changed = false;
    for (one, other) in &mut join.on {
        let sides = (moment_in(one, join.left.schema()), moment_in(other, join.right.schema()));
        let (Some(from), Some(to)) = sides else { continue };
        let Some(of) = one_type([&from, &to].into_iter()) else { continue };
        for (side, schema) in [(one, join.left.schema()), (other, join.right.schema())] {
            if let Expr::Cast(Cast { expr, .. }) = std::mem::take(side) {
                *side = brought(*expr, &of, schema);
            }
        }
        is_changed = true;
    }
    Transformed::new_transformed(join, is_changed)
}

/// The type of a date or timestamp that is cast to nanoseconds.
fn moment_in(key: &Expr, schema: &DFSchema) -> Option<DataType> {
    let Expr::Cast(Cast { expr, field }) = key else { return None };
    let is_nanos = matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
    expr.get_type(schema).ok().filter(|of| is_nanos && is_moment(of))
}

/// A plan whose columns have the types that they will be given: where inputs of a union have dates and others
/// timestamps, where a CASE gives a text that is written out before a value of another type, and where numbers of
/// several types are to have one.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn settled(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut is_changed = false;
    let done = plan.transform_up_with_subqueries(|node| {
        let node = typed(node, is_changed)?;
        is_changed |= node.transformed;
        match if is_changed { told_within(node.data)? } else { node.data } {
            LogicalPlan::Union(union) => {
                let union = united(union, is_changed)?;
                is_changed |= union.transformed;
                Ok(union.update_data(LogicalPlan::Union))
            }
            LogicalPlan::Join(join) if is_of_sets(&join) => {
                let join = of_sets(join)?;
                is_changed |= join.transformed;
                let join = LogicalPlan::Join(join.data);
                if is_changed { join.recompute_schema().map(Transformed::yes) } else { Ok(Transformed::no(join)) }
            }
            // What is above has the types of what is below.
            other if is_changed => other.recompute_schema().map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        }
    })?;
    Ok(done.data)
}

/// A node whose subqueries know the columns around them by the types that these have now.
fn told_within(node: LogicalPlan) -> Result<LogicalPlan> {
    let node = match node {
        LogicalPlan::Join(mut join) => {
            join.right = Arc::new(told_around(Arc::unwrap_or_clone(join.right), join.left.schema())?.data);
            LogicalPlan::Join(join)
        }
        other => other,
    };
    let around = merge_schema(&node.inputs());
    Ok(node.map_subqueries(|subquery| told_around(subquery, &around))?.data)
}

/// A subquery among these columns, whose types it is to know.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn told_around(plan: LogicalPlan, around: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let mut is_changed = false;
    plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let done = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let done = expr.transform_up(|part| Ok(told_of(part, around)))?;
            Ok(if done.transformed { done.update_data(|expr| name.restore(expr)) } else { done })
        })?;
        is_changed |= done.transformed;
        if is_changed { done.data.recompute_schema().map(Transformed::yes) } else { Ok(done) }
    })
}

fn told_of(part: Expr, around: &DFSchema) -> Transformed<Expr> {
    let Expr::OuterReferenceColumn(field, column) = part else { return Transformed::no(part) };
    let now = around.maybe_index_of_column(&column).map(|at| around.field(at).data_type());
    match now.filter(|of| *of != field.data_type()) {
        Some(of) => {
            let field = Arc::new(field.as_ref().clone().with_data_type(of.clone()));
            Transformed::yes(Expr::OuterReferenceColumn(field, column))
        }
        None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
    }
}

/// A node whose expressions have the types that they will be given; `is_changed` says that what is below may have
/// other types than it had when the node was bound.
fn typed(node: LogicalPlan, is_changed: bool) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Values(values) = node {
        return numbers::values(values);
    }
    let mut is_found = is_changed;
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            is_found |= is_open(expr);
            Ok(if is_found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    if !is_found {
        return Ok(Transformed::no(node));
    }
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let mut is_changed = is_changed;
        let done = expr.transform_up(|expr| {
            let done = typed_part(expr, is_changed, &schema)?;
            is_changed |= done.transformed;
            Ok(done)
        })?;
        Ok(if done.transformed { done.update_data(|expr| name.restore(expr)) } else { done })
    })
}

/// Whether an expression is one whose type goes by several values.
fn is_open(expr: &Expr) -> bool {
    match expr {
        Expr::Case(_) => true,
        Expr::ScalarFunction(call) => {
            ALIKE.contains(&call.func.name()) || call.func.name() == "make_array" || arrays::has_elements(&call.func)
        }
        _ => false,
    }
}

fn typed_part(expr: Expr, is_changed: bool, schema: &DFSchema) -> Result<Transformed<Expr>> {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    Ok(match expr {
        Expr::Case(case) if gives_another(&case, schema) => Transformed::yes(Expr::Case(of_case(case, schema))),
        Expr::ScalarFunction(call) => of_numbers(call, schema),
        Expr::BinaryExpr(of) if is_changed && matches!(of.op, Plus | Minus | Multiply | Divide | Modulo) => {
            Transformed::yes(numerals::computed_anew(of, schema)?)
        }
        other => Transformed::no(other),
    })
}

/// Whether the first value that a CASE gives, by which its type is told, is a text that is written out.
fn begins_with_text(case: &Case) -> bool {
    case.when_then_expr.first().is_some_and(|(_, then)| is_written(then))
}

/// Whether the values of a CASE are of another type than the first one.
fn gives_another(case: &Case, schema: &DFSchema) -> bool {
    begins_with_text(case) && type_beside(given_by(case), schema).is_some() || numbers_given(case, schema).is_some()
}

/// A union whose columns have the types that they will be given.
fn united(union: Union, is_changed: bool) -> Result<Transformed<Union>> {
    let width = union.schema.fields().len();
    let is_even = union.inputs.iter().all(|input| input.schema().fields().len() == width);
    if !is_even {
        return Ok(Transformed::no(union));
    }
    let mut types = moments_of(&union, width);
    let inputs: Vec<&LogicalPlan> = union.inputs.iter().map(AsRef::as_ref).collect();
    let numbers = numbers::of_columns(&inputs, width);
    types.iter_mut().zip(&numbers.types).for_each(|(to, of)| *to = to.take().or_else(|| of.clone()));
    if !is_changed && numbers.exact.is_empty() && types.iter().all(Option::is_none) {
        return Ok(Transformed::no(union));
    }
    let inputs = union.inputs.into_iter().map(|input| with_types(with_exact(input, &numbers.exact), &types));
    Ok(Transformed::yes(Union::try_new_with_loose_types(inputs.collect::<Result<Vec<_>>>()?)?))
}

/// An input of a set operation in whose columns at these places numbers that are written out are numerics.
fn with_exact(input: Arc<LogicalPlan>, places: &[usize]) -> Arc<LogicalPlan> {
    places.iter().fold(input, |input, at| numbers::exact_column(&input, *at).map_or(input, Arc::new))
}

/// Whether a join is what EXCEPT or INTERSECT are planned as.
pub(crate) fn is_of_sets(join: &Join) -> bool {
    let is_kind = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti);
    let width = join.left.schema().fields().len();
    let is_whole = join.on.len() == width && join.right.schema().fields().len() == width;
    is_kind && is_whole && join.filter.is_none() && join.null_equality == NullEquality::NullEqualsNull
}

/// EXCEPT or INTERSECT, whose numbers are compared as they are in a union.
fn of_sets(mut join: Join) -> Result<Transformed<Join>> {
    let columns = numbers::of_columns(&[join.left.as_ref(), join.right.as_ref()], join.on.len());
    if columns.exact.is_empty() && columns.types.iter().all(Option::is_none) {
        return Ok(Transformed::no(join));
    }
    let brought = |input: Arc<LogicalPlan>| with_types(with_exact(input, &columns.exact), &columns.types);
    let side = |input: Arc<LogicalPlan>| -> Result<Arc<LogicalPlan>> {
        match Arc::unwrap_or_clone(input) {
            // Two numerics may be one double.
            LogicalPlan::Distinct(Distinct::All(input)) => {
                Ok(Arc::new(LogicalPlan::Distinct(Distinct::All(brought(input)?))))
            }
            other => brought(Arc::new(other)),
        }
    };
    join.left = side(join.left)?;
    join.right = side(join.right)?;
    Ok(Transformed::yes(join))
}

/// For each column of a union the type that dates in it are to have, if others are timestamps.
fn moments_of(union: &Union, width: usize) -> Vec<Option<DataType>> {
    let of_column = |at: usize| {
        let types = || union.inputs.iter().map(move |input| input.schema().field(at).data_type());
        let is_mixed = types().any(|of| Some(of) != types().next());
        one_type(types()).filter(|of| is_mixed && is_moment(of))
    };
    (0..width).map(of_column).collect()
}

/// An input of a set operation whose columns have these types, where there are some.
fn with_types(input: Arc<LogicalPlan>, to: &[Option<DataType>]) -> Result<Arc<LogicalPlan>> {
    let is_other = |(to, field): (&Option<DataType>, &FieldRef)| to.as_ref().is_some_and(|to| to != field.data_type());
    if !to.iter().zip(input.schema().fields()).any(is_other) {
        return Ok(input);
    }
    let columns = input.schema().iter().zip(to).map(|((relation, field), to)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        match to {
            Some(to) if to != field.data_type() => {
                cast(column, to.clone()).alias_qualified(relation.cloned(), field.name())
            }
            _ => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)))
}

/// One of [`ALIKE`], with the types that are found here.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Alike {
    own: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Alike {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn aliases(&self) -> &[String] {
        self.own.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        matched::arguments(self.name(), given)?;
        let together = match self.name() {
            "nullif" => numbers::type_compared(given.iter()),
            _ => numbers::type_together(given.iter()),
        };
        if let Some(of) = together {
            return Ok(vec![of; given.len()]);
        }
        let others = || given.iter().filter(|of| !of.is_null() && !is_text(of));
        let is_open = given.iter().any(is_text) || others().any(|of| Some(of) != others().next());
        if let Some(of) = one_type(others()).filter(|of| is_open && is_read(of)) {
            return Ok(vec![of; given.len()]);
        }
        let [value, other] = given else { return self.own.coerce_types(given) };
        if self.name() != "nullif" {
            return self.own.coerce_types(given);
        }
        match comparison_coercion(value, other) {
            Some(of) if of.is_null() => Ok(vec![DataType::Utf8; 2]),
            Some(of) => Ok(vec![of; 2]),
            None => plan_err!("operator does not exist: {} = {}", catalog_name(value), catalog_name(other)),
        }
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.own.return_type(args)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.own.return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.own.simplify(args, context)
    }

    fn short_circuits(&self) -> bool {
        self.own.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.own.conditional_arguments(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let are_arrays = args.args.iter().all(|arg| matches!(arg.data_type(), DataType::List(_)));
        match self.name() {
            "greatest" if are_arrays => arrays::outermost("greatest", &args, true),
            "least" if are_arrays => arrays::outermost("least", &args, false),
            _ => self.own.inner().invoke_with_args(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_beside_timestamps_are_timestamps_and_others_are_left_alone() {
        let stamp = || DataType::Timestamp(TimeUnit::Microsecond, None);
        let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let nanos = || DataType::Timestamp(TimeUnit::Nanosecond, None);
        for (types, expected) in [
            (vec![DataType::Date32, stamp()], Some(stamp())),
            (vec![instant(), DataType::Date32, stamp()], Some(instant())),
            (vec![DataType::Int32, DataType::Int32], Some(DataType::Int32)),
            (vec![DataType::Int32, DataType::Int64], None),
            (vec![DataType::Date32, nanos()], None),
            (vec![], None),
        ] {
            assert_eq!(one_type(types.iter()), expected, "{types:?}");
        }
    }

    #[test]
    fn texts_that_are_written_out_are_of_the_type_beside_them() {
        let schema = DFSchema::empty();
        let [text, _] = alike([text_of("t"), Expr::Literal(ScalarValue::Boolean(None), None)], &schema);
        assert_eq!(text, cast(text_of("t"), DataType::Boolean));
        let untouched = [text_of("t"), text_of("u")];
        assert_eq!(alike(untouched.clone(), &schema), untouched);
    }

    /// A text as it is written out.
    fn text_of(text: &str) -> Expr {
        Expr::Literal(ScalarValue::Utf8(Some(text.to_owned())), None)
    }
}
