//! Types that do not go together, such as a number and a date, told in PostgreSQL's words.
//!
//! DataFusion takes some for each other, a number for the days since 1970 or for a truth, and refuses others in its own
//! words. Only what was written is looked at: operators and `ARRAY` while they are bound, arguments of `coalesce` and
//! the like when their types are settled, and everything else in the bound plan, before it is rewritten. Texts, nulls,
//! jsonb and composite values go by rules of their own and are passed over here.

use crate::alike;
use crate::error::{DataError, between};
use crate::types::{catalog_name, is_text};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Diagnostic, Result, ScalarValue, Spans, plan_err};
use datafusion::logical_expr::expr::{Between, Case, InList, Like};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, ExprSchemable, JoinType, LogicalPlan, Operator, Subquery, Union,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::cell::LazyCell;

/// How PostgreSQL ends what it says of values that are to have one type (42804).
pub(crate) const UNMATCHED: &str = "cannot be matched";

/// Types of which one is taken for another; intervals and times are, in comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Moment,
    Span,
    Bytes,
}

/// The kind of a type, and whether it is of arrays of that kind; none of those that are passed over.
fn kind(of: &DataType) -> Option<(Kind, bool)> {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Duration, FixedSizeList, Interval, LargeBinary, LargeList, List,
        Time32, Time64, Timestamp,
    };
    let found = match of {
        Boolean => Kind::Boolean,
        Date32 | Date64 | Timestamp(..) => Kind::Moment,
        Time32(_) | Time64(_) | Interval(_) | Duration(_) => Kind::Span,
        Binary | LargeBinary | BinaryView => Kind::Bytes,
        List(item) | LargeList(item) | FixedSizeList(item, _) => {
            return kind(item.data_type()).map(|(found, _)| (found, true));
        }
        of if of.is_numeric() => Kind::Number,
        _ => return None,
    };
    Some((found, false))
}

/// Among types of a kind, the one with the highest rank is that of their values together.
const fn rank(of: &DataType) -> u8 {
    use DataType::{
        Decimal128, Decimal256, Float16, Float32, Float64, Int32, Int64, Timestamp, UInt16, UInt32, UInt64,
    };
    match of {
        Int32 | UInt16 | Timestamp(_, None) => 1,
        Int64 | UInt32 | Timestamp(_, Some(_)) => 2,
        UInt64 | Decimal128(..) | Decimal256(..) => 3,
        Float16 | Float32 => 4,
        Float64 => 5,
        _ => 0,
    }
}

/// The places of the first two types that do not go together; the first is what those before the second have together.
fn apart(types: &[DataType]) -> Option<(usize, usize)> {
    let mut found: Option<usize> = None;
    for (at, of) in types.iter().enumerate() {
        let Some(here) = kind(of) else { continue };
        match found {
            Some(before) if kind(&types[before]) != Some(here) => return Some((before, at)),
            Some(before) if rank(of) <= rank(&types[before]) => {}
            _ => found = Some(at),
        }
    }
    None
}

/// The type of a value; null where it has none yet.
fn type_of(value: &Expr, schema: &DFSchema) -> DataType {
    value.get_type(schema).unwrap_or(DataType::Null)
}

/// What PostgreSQL calls the type of a value: numbers that are written out with a fraction are numerics.
fn name_of(value: &Expr, of: &DataType) -> String {
    match value {
        Expr::Alias(alias) => name_of(&alias.expr, of),
        Expr::Negative(inner) => name_of(inner, of),
        Expr::Literal(ScalarValue::Float64(Some(_)), _) => "numeric".to_owned(),
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _) => "unknown".to_owned(),
        _ => catalog_name(of),
    }
}

/// A refusal at the place of a value, if it has one.
fn refused(sqlstate: &'static str, message: String, at: &Expr) -> DataFusionError {
    let span = at.spans().and_then(Spans::first);
    let error = DataFusionError::External(Box::new(DataError { sqlstate, message: message.clone() }));
    match span {
        Some(_) => error.with_diagnostic(Diagnostic::new_error(message, span)),
        None => error,
    }
}

fn no_operator(left: &Expr, operator: &str, right: &Expr, schema: &DFSchema) -> DataFusionError {
    let (one, other) = (name_of(left, &type_of(left, schema)), name_of(right, &type_of(right, schema)));
    refused("42883", format!("operator does not exist: {one} {operator} {other}"), left)
}

/// Values that are to have one type.
fn together(construct: &str, values: &[&Expr], schema: &DFSchema) -> Result<()> {
    let types: Vec<DataType> = values.iter().map(|value| type_of(value, schema)).collect();
    let Some((before, at)) = apart(&types) else { return Ok(()) };
    let (one, other) = (name_of(values[before], &types[before]), name_of(values[at], &types[at]));
    Err(refused("42804", format!("{construct} types {one} and {other} {UNMATCHED}"), values[at]))
}

/// Two values that are compared.
fn compared(left: &Expr, operator: &str, right: &Expr, schema: &DFSchema) -> Result<()> {
    if apart(&[type_of(left, schema), type_of(right, schema)]).is_some() {
        return Err(no_operator(left, operator, right, schema));
    }
    Ok(())
}

/// A value that is to be true or false.
fn condition(of: &str, value: &Expr, schema: &DFSchema) -> Result<()> {
    let given = type_of(value, schema);
    if kind(&given).is_none_or(|found| found == (Kind::Boolean, false)) {
        return Ok(());
    }
    let message = format!("argument of {of} must be type boolean, not type {}", name_of(value, &given));
    Err(refused("42804", message, value))
}

/// The types of arguments that are to have one.
///
/// # Errors
/// `Plan` in PostgreSQL's words when they do not go together.
pub(crate) fn arguments(function: &str, given: &[DataType]) -> Result<()> {
    let Some((before, at)) = apart(given) else { return Ok(()) };
    let (one, other) = (catalog_name(&given[before]), catalog_name(&given[at]));
    if function == "nullif" {
        return plan_err!("operator does not exist: {one} = {other}");
    }
    plan_err!("{} types {one} and {other} {UNMATCHED}", function.to_uppercase())
}

/// Binds operators and ARRAY, after all others have looked at them.
#[derive(Debug)]
pub(crate) struct Matched;

impl ExprPlanner for Matched {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{And, Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Or, Plus};
        let RawBinaryExpr { op, left, right } = &expr;
        match op {
            Eq | NotEq | Lt | LtEq | Gt | GtEq => compared(left, &op.to_string(), right, schema)?,
            Plus | Minus | Multiply | Divide | Modulo if is_no_arithmetic(op, left, right, schema) => {
                return Err(no_operator(left, &op.to_string(), right, schema));
            }
            And | Or => {
                condition(&op.to_string(), left, schema)?;
                condition(&op.to_string(), right, schema)?;
            }
            _ => {}
        }
        Ok(PlannerResult::Original(expr))
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, schema: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        together("ARRAY", &exprs.iter().collect::<Vec<_>>(), schema)?;
        Ok(PlannerResult::Original(exprs))
    }
}

/// Whether there is no such arithmetic in PostgreSQL: of booleans, bytes, arrays and texts from elsewhere, of moments
/// and numbers but for a date and days, and sums of spans of time and numbers.
fn is_no_arithmetic(op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    use BinaryOperator::{Minus, Plus};
    let (one, other) = (type_of(left, schema), type_of(right, schema));
    let is_found =
        |value: &Expr, of: &DataType| is_text(of) && !matches!(value, Expr::Literal(..) | Expr::Placeholder(_));
    match (kind(&one), kind(&other)) {
        (Some((Kind::Boolean | Kind::Bytes, _) | (_, true)), Some(_))
        | (Some(_), Some((Kind::Boolean | Kind::Bytes, _) | (_, true))) => true,
        (Some((Kind::Number, _)), None) => is_found(right, &other),
        (None, Some((Kind::Number, _))) => is_found(left, &one),
        (Some((Kind::Moment, _)), Some((Kind::Number, _))) => {
            !matches!(op, Plus | Minus) || one != DataType::Date32 || !other.is_integer()
        }
        (Some((Kind::Number, _)), Some((Kind::Moment, _))) => {
            *op != Plus || other != DataType::Date32 || !one.is_integer()
        }
        (Some((Kind::Span, _)), Some((Kind::Number, _))) | (Some((Kind::Number, _)), Some((Kind::Span, _))) => {
            matches!(op, Plus | Minus)
        }
        _ => false,
    }
}

/// Refuses values of a bound query that stand beside each other and do not go together.
///
/// # Errors
/// `External` with a [`DataError`], where there is a place with it.
pub(crate) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        columns(node)?;
        let schema = LazyCell::new(|| merge_schema(&node.inputs()));
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if is_of_several(part) {
                    parts(part, &schema)?;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// Whether an expression is one of those that [`parts`] looks at.
fn is_of_several(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(of) => matches!(of.op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom),
        Expr::Between(_)
        | Expr::InList(_)
        | Expr::InSubquery(_)
        | Expr::SetComparison(_)
        | Expr::Like(_)
        | Expr::Case(_) => true,
        _ => false,
    }
}

fn parts(expr: &Expr, schema: &DFSchema) -> Result<()> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => compared(left, "=", right, schema),
        Expr::Between(Between { expr, negated, low, high }) => {
            let (first, last) = if *negated { ("<", ">") } else { (">=", "<=") };
            compared(expr, first, low, schema)?;
            compared(expr, last, high, schema)
        }
        Expr::InList(InList { expr, list, negated }) => {
            let operator = if *negated { "<>" } else { "=" };
            list.iter().try_for_each(|value| compared(expr, operator, value, schema))
        }
        Expr::InSubquery(of) => looked_up(&of.expr, "=", &of.subquery, schema),
        Expr::SetComparison(of) => looked_up(&of.expr, sign(&of.op.to_string()), &of.subquery, schema),
        Expr::Like(of) => like(of, schema),
        Expr::Case(of) => case(of, schema),
        _ => Ok(()),
    }
}

/// A comparison's sign in PostgreSQL.
fn sign(operator: &str) -> &str {
    match operator {
        "!=" => "<>",
        "IS DISTINCT FROM" | "IS NOT DISTINCT FROM" => "=",
        other => other,
    }
}

/// A value that is compared with those that a subquery gives.
fn looked_up(value: &Expr, operator: &str, within: &Subquery, schema: &DFSchema) -> Result<()> {
    let (given, found) = (type_of(value, schema), within.subquery.schema().field(0).data_type());
    if apart(&[given.clone(), found.clone()]).is_none() {
        return Ok(());
    }
    let (one, other) = (name_of(value, &given), name_of(&column_of(&within.subquery, 0), found));
    Err(refused("42883", format!("operator does not exist: {one} {operator} {other}"), value))
}

/// `value LIKE pattern` of texts, or of bytes.
fn like(Like { negated, expr, pattern, case_insensitive, .. }: &Like, schema: &DFSchema) -> Result<()> {
    let is_other = |of: &Expr| kind(&type_of(of, schema)).is_some_and(|found| !matches!(found, (Kind::Bytes, false)));
    if !is_other(expr) && !is_other(pattern) {
        return Ok(());
    }
    let operator = match (negated, case_insensitive) {
        (false, false) => "~~",
        (true, false) => "!~~",
        (false, true) => "~~*",
        (true, true) => "!~~*",
    };
    Err(no_operator(expr, operator, pattern, schema))
}

/// `CASE`, whose ELSE PostgreSQL looks at first.
fn case(Case { expr, when_then_expr, else_expr }: &Case, schema: &DFSchema) -> Result<()> {
    for (when, _) in when_then_expr {
        match expr {
            Some(value) => compared(value, "=", when, schema)?,
            None => condition("CASE/WHEN", when, schema)?,
        }
    }
    let thens = when_then_expr.iter().map(|(_, then)| then.as_ref());
    let given: Vec<&Expr> = else_expr.as_deref().into_iter().chain(thens).collect();
    together("CASE", &given, schema)
}

/// The columns of set operations and joins.
fn columns(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Union(Union { inputs, schema }) => {
            let width = schema.fields().len();
            let inputs: Vec<&LogicalPlan> = inputs.iter().map(AsRef::as_ref).collect();
            if inputs.iter().any(|input| input.schema().fields().len() != width) {
                return Ok(());
            }
            (0..width).try_for_each(|at| of_sets("UNION", &inputs, at))
        }
        LogicalPlan::Join(join) if alike::is_of_sets(join) => {
            let operation = if join.join_type == JoinType::LeftSemi { "INTERSECT" } else { "EXCEPT" };
            (0..join.on.len()).try_for_each(|at| of_sets(operation, &[join.left.as_ref(), join.right.as_ref()], at))
        }
        LogicalPlan::Join(join) => join.on.iter().try_for_each(|(left, right)| {
            match apart(&[type_of(left, join.left.schema()), type_of(right, join.right.schema())]) {
                Some(_) => Err(no_operator(left, "=", right, &merge_schema(&node.inputs()))),
                None => Ok(()),
            }
        }),
        _ => Ok(()),
    }
}

/// A column of the inputs of a set operation.
fn of_sets(operation: &str, inputs: &[&LogicalPlan], at: usize) -> Result<()> {
    let types: Vec<DataType> = inputs.iter().map(|input| input.schema().field(at).data_type().clone()).collect();
    let Some((one, other)) = apart(&types) else { return Ok(()) };
    let (before, here) = (column_of(inputs[one], at), column_of(inputs[other], at));
    let (one, other) = (name_of(&before, &types[one]), name_of(&here, &types[other]));
    Err(refused("42804", format!("{operation} types {one} and {other} {UNMATCHED}"), &here))
}

/// What a query gives as a column.
fn column_of(plan: &LogicalPlan, at: usize) -> Expr {
    match plan {
        LogicalPlan::Projection(given) if at < given.expr.len() => given.expr[at].clone().unalias(),
        LogicalPlan::Distinct(Distinct::All(input)) => column_of(input, at),
        other => Expr::Column(Column::from(other.schema().qualified_field(at))),
    }
}

/// What DataFusion says of two operands, before these and their operator.
const OF_OPERANDS: [&str; 6] = [
    "Cannot infer common argument type for comparison operation ",
    "Cannot infer common argument type for regex operation ",
    "Cannot infer common type for bitwise operation ",
    "Cannot infer common string type for string concat operation ",
    "Cannot infer common argument type for operation ",
    "Cannot coerce arithmetic expression ",
];

/// What DataFusion's planner says of types that do not go together, in PostgreSQL's words and with its SQLSTATE.
pub(crate) fn in_postgres_words(message: &str) -> Option<(&'static str, String)> {
    let after = |start: &&str| message.split_once(*start).map(|(_, rest)| rest);
    if let Some(given) = OF_OPERANDS.iter().find_map(after) {
        let (left, operator, right) = operands(given.strip_suffix(" to valid types").unwrap_or(given))?;
        let (left, operator, right) = (named(left)?, sign(operator), named(right)?);
        return Some(("42883", format!("operator does not exist: {left} {operator} {right}")));
    }
    if let Some(given) = after(&"Cannot infer common argument type for logical boolean operation ") {
        let (left, operator, right) = operands(given)?;
        let other = [left, right].into_iter().find(|of| !matches!(*of, "Boolean" | "Null"))?;
        return Some(no_condition(operator, &named(other)?));
    }
    if let Some(given) = after(&"Unary operator 'NOT' requires a boolean expression, got ") {
        return Some(no_condition("NOT", &named(given)?));
    }
    if let Some(given) = after(&"Inconsistent data type across values list at row ") {
        let (before, found) = given.split_once(". Was ")?.1.split_once(" but found ")?;
        // Numbers that are written out with a fraction are doubles to the planner.
        let written = |of: &str| if of == "Float64" { Some("numeric".to_owned()) } else { named(of) };
        return Some(("42804", format!("VALUES types {} and {} {UNMATCHED}", written(before)?, written(found)?)));
    }
    if let Some(given) = after(&"Failed to unify argument types of make_array: [") {
        let types = listed(given.strip_suffix(']')?)?;
        let other = types.iter().find(|of| **of != types[0])?;
        return Some(("42804", format!("ARRAY types {} and {other} {UNMATCHED}", types[0])));
    }
    // What is said of percentile_cont tells its types.
    let function = between(message, "Function '", "' ").filter(|name| name != "percentile_cont")?;
    let is_of_types = [" requires ", " expects "].iter().any(|says| message.contains(&format!("'{function}'{says}")));
    let given = between(message, "argument types '", "'").filter(|_| is_of_types)?;
    Some(("42883", format!("function {} does not exist", called(&given)?)))
}

fn no_condition(of: &str, given: &str) -> (&'static str, String) {
    ("42804", format!("argument of {of} must be type boolean, not type {given}"))
}

/// PostgreSQL's name of a type that DataFusion shows.
fn named(shown: &str) -> Option<String> {
    shown.parse::<DataType>().ok().map(|of| catalog_name(&of))
}

/// `left operator right` as DataFusion shows it; spaces in parentheses are types' own.
fn operands(shown: &str) -> Option<(&str, &str, &str)> {
    let mut depth = 0;
    let is_between = |(at, c): (usize, char)| (nested(c, &mut depth) == 0 && c == ' ').then_some(at);
    let spaces: Vec<usize> = shown.char_indices().filter_map(is_between).collect();
    let (first, last) = (*spaces.first()?, *spaces.last()?);
    (first < last).then(|| (&shown[..first], &shown[first + 1..last], &shown[last + 1..]))
}

/// In how many parentheses a text is after its next character.
fn nested(next: char, depth: &mut usize) -> usize {
    match next {
        '(' => *depth += 1,
        ')' => *depth = depth.saturating_sub(1),
        _ => {}
    }
    *depth
}

/// A call with the types that DataFusion shows, in PostgreSQL's names.
pub(crate) fn called(shown: &str) -> Option<String> {
    let (name, types) = shown.strip_suffix(')')?.split_once('(')?;
    Some(format!("{name}({})", listed(types)?.join(", ")))
}

/// PostgreSQL's names of the types that DataFusion lists.
fn listed(types: &str) -> Option<Vec<String>> {
    let mut depth = 0;
    let types = types.split(|c| nested(c, &mut depth) == 0 && c == ',').map(str::trim);
    types.filter(|of| !of.is_empty()).map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn types_are_apart_where_they_are_of_several_kinds() {
        let stamp = || DataType::Timestamp(TimeUnit::Microsecond, None);
        let array = || crate::types::array_of(DataType::Int32);
        for (types, expected) in [
            (vec![DataType::Int32, DataType::Date32], Some((0, 1))),
            (vec![DataType::Int32, DataType::Float64, DataType::Date32], Some((1, 2))),
            (vec![DataType::Float64, DataType::Int32, stamp()], Some((0, 2))),
            (vec![DataType::Date32, stamp(), DataType::Boolean], Some((1, 2))),
            (vec![DataType::Null, DataType::Utf8, DataType::Date32, DataType::Int16], Some((2, 3))),
            (vec![array(), DataType::Int32], Some((0, 1))),
            (vec![array(), array()], None),
            (vec![DataType::Int32, DataType::Int64, DataType::Utf8, DataType::LargeUtf8], None),
            (vec![DataType::Date32, stamp()], None),
            (vec![], None),
        ] {
            assert_eq!(apart(&types), expected, "{types:?}");
        }
    }

    #[test]
    fn what_the_planner_says_is_told_in_postgres_words() {
        for (said, expected) in [
            (
                "Cannot infer common argument type for comparison operation Int32 = Boolean",
                Some(("42883", "operator does not exist: integer = boolean")),
            ),
            (
                "Cannot infer common argument type for comparison operation Decimal128(38, 10) != Boolean",
                Some(("42883", "operator does not exist: numeric <> boolean")),
            ),
            (
                "Cannot infer common argument type for comparison operation Int64 IS DISTINCT FROM Boolean",
                Some(("42883", "operator does not exist: bigint = boolean")),
            ),
            (
                "Cannot coerce arithmetic expression Utf8 + Int64 to valid types",
                Some(("42883", "operator does not exist: text + bigint")),
            ),
            (
                "Cannot infer common argument type for logical boolean operation Boolean AND Int32",
                Some(("42804", "argument of AND must be type boolean, not type integer")),
            ),
            (
                "Inconsistent data type across values list at row 1 column 0. Was Int32 but found Date32",
                Some(("42804", "VALUES types integer and date cannot be matched")),
            ),
            (
                "Function 'lower' requires String, but received Int32 (DataType: Int32).. No function matches the \
                 given name and argument types 'lower(Int32)'. You might need to add explicit type casts",
                Some(("42883", "function lower(integer) does not exist")),
            ),
            (
                "Failed to unify argument types of make_array: [Int32, Int32, Timestamp(µs)]",
                Some(("42804", "ARRAY types integer and timestamp without time zone cannot be matched")),
            ),
            ("Function 'percentile_cont' requires Numeric", None),
            ("something else", None),
        ] {
            let told = in_postgres_words(said);
            assert_eq!(told.as_ref().map(|(sqlstate, words)| (*sqlstate, words.as_str())), expected, "{said}");
        }
    }

    #[test]
    fn calls_are_told_with_the_names_of_types() {
        assert_eq!(called("f(Int32, Decimal128(38, 10))").as_deref(), Some("f(integer, numeric)"));
        assert_eq!(called("f()").as_deref(), Some("f()"));
        assert_eq!(called("f"), None);
    }
}
