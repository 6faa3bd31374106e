//! The types that a statement gives its parameters by where they stand: what stands beside them, and what is asked of
//! operands and arguments.
//!
//! DataFusion gives a parameter the type of what it is compared with. Operands whose type is another one than that
//! of what is beside them have it as they are bound ([`Operands`]), all others when the statement is
//! ([`parameter_types`]). What neither tells is for the caller, who takes it for text, as PostgreSQL does.

use crate::alike;
use crate::error::{self, DataError, Error};
use crate::jsonb::typed;
use crate::numbers;
use crate::types::{is_jsonb, is_text, pg_name};
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::{Alias, Case, Cast, Placeholder, WindowFunctionParams};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::type_coercion::functions::{UDFCoercionExt, fields_with_udf};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Union, WindowFunctionDefinition};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::collections::BTreeMap;
use std::sync::Arc;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// A numeric of which nothing more is known.
const NUMERIC: DataType = DataType::Decimal128(38, 10);

/// How many arguments of one call are looked for together: each may be of some types.
const MOST_OPEN: usize = 3;

/// A parameter's name and type.
type Told = (String, DataType);

/// The types of parameters by their names, where they are known. One that stands in several places has the type
/// of the first, and is cast in the others when it has a value.
#[must_use]
pub fn parameter_types(plan: &LogicalPlan) -> BTreeMap<String, DataType> {
    let mut found = BTreeMap::new();
    let walked = plan.apply_with_subqueries(|node| {
        for (name, of) in told_by_node(node) {
            found.entry(name).or_insert(of);
        }
        let schema = merge_schema(&node.inputs());
        let is_count = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let told = match open(expr) {
                    Some(name) if is_count => vec![(name.clone(), DataType::Int64)],
                    _ => told_by(expr, &schema),
                };
                for (name, of) in told {
                    found.entry(name).or_insert(of);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    // A walk that looks at expressions only does not fail.
    walked.map_or_else(|_| BTreeMap::new(), |_| found)
}

/// Refuses casts of parameters that Arrow has and PostgreSQL has not.
///
/// # Errors
/// `Invalid` (42846).
pub(crate) fn check(plan: &LogicalPlan) -> error::Result<()> {
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if refused.is_none() {
                    refused = no_cast(expr);
                }
                Ok(if refused.is_none() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })
    });
    walked.map_err(|e| Error::Plan(Box::new(e)))?;
    let Some((from, to)) = refused else { return Ok(()) };
    let message = format!("cannot cast type {} to {}", pg_name(&from), pg_name(&to));
    Err(Error::Invalid { sqlstate: "42846", message, position: None })
}

/// The types of a cast that is none.
fn no_cast(expr: &Expr) -> Option<(DataType, DataType)> {
    let Expr::Cast(Cast { expr, field }) = expr else { return None };
    let Expr::Placeholder(Placeholder { field: Some(of), .. }) = expr.as_ref() else { return None };
    let (from, to) = (of.data_type(), field.data_type());
    let is_none = match to {
        DataType::Boolean => matches!(from, DataType::Int16 | DataType::Int64),
        DataType::Date32 => from.is_integer(),
        _ => false,
    };
    is_none.then(|| (from.clone(), to.clone()))
}

/// Whether all places of parameters in a plan have these types, the first parameter's first.
#[must_use]
pub fn are_told(plan: &LogicalPlan, types: &[DataType]) -> bool {
    let mut all = true;
    let is_told = |id: &str, field: Option<&FieldRef>| {
        let number = id.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let of = number.and_then(|number| types.get(number.checked_sub(1)?));
        of.is_some() && of == field.map(|field| field.data_type())
    };
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Placeholder(Placeholder { id, field }) = expr {
                    all &= is_told(id, field.as_ref());
                }
                Ok(if all { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })
    });
    walked.is_ok() && all
}

/// The name of a parameter whose type nobody has told.
fn open(expr: &Expr) -> Option<&String> {
    match expr {
        Expr::Placeholder(Placeholder { id, field }) => {
            field.as_ref().is_none_or(|field| field.data_type().is_null()).then_some(id)
        }
        Expr::Alias(alias) => open(&alias.expr),
        _ => None,
    }
}

/// A value of one type where a parameter may stand.
fn is(expr: &Expr, of: &DataType) -> Vec<Told> {
    open(expr).map(|name| (name.clone(), of.clone())).into_iter().collect()
}

/// What a node of a plan tells: conditions, and the columns of unions.
fn told_by_node(node: &LogicalPlan) -> Vec<Told> {
    match node {
        LogicalPlan::Filter(filter) => is(&filter.predicate, &DataType::Boolean),
        LogicalPlan::Join(join) => join.filter.iter().flat_map(|on| is(on, &DataType::Boolean)).collect(),
        LogicalPlan::Union(union) => told_by_union(union),
        _ => Vec::new(),
    }
}

/// Parameters that are columns of a union have the types of the same columns of its other sides.
fn told_by_union(union: &Union) -> Vec<Told> {
    let mut told = Vec::new();
    for at in 0..union.schema.fields().len() {
        let types = union.inputs.iter().filter_map(|input| input.schema().fields().get(at));
        let Some(of) = types.map(|field| field.data_type()).find(|of| !of.is_null()) else { continue };
        let names = union.inputs.iter().filter_map(|input| open_column(input, at));
        told.extend(names.map(|name| (name.clone(), of.clone())));
    }
    told
}

/// The parameter that a plan gives as a column, if its type is not known.
fn open_column(plan: &LogicalPlan, at: usize) -> Option<&String> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    let mut expr = projection.expr.get(at)?;
    while let Expr::Alias(Alias { expr: of, .. }) | Expr::Cast(Cast { expr: of, .. }) = expr {
        expr = of;
    }
    match expr {
        Expr::Column(column) => open_column(&projection.input, projection.input.schema().index_of_column(column).ok()?),
        other => open(other),
    }
}

/// What an expression tells of the parameters in it.
fn told_by(expr: &Expr, schema: &DFSchema) -> Vec<Told> {
    match expr {
        Expr::Placeholder(Placeholder { id, field: Some(field) }) if !field.data_type().is_null() => {
            vec![(id.clone(), field.data_type().clone())]
        }
        Expr::Not(of)
        | Expr::IsTrue(of)
        | Expr::IsFalse(of)
        | Expr::IsUnknown(of)
        | Expr::IsNotTrue(of)
        | Expr::IsNotFalse(of)
        | Expr::IsNotUnknown(of) => is(of, &DataType::Boolean),
        Expr::Negative(of) => is(of, &DataType::Float64),
        Expr::Cast(Cast { expr: of, field }) if is_of_cast(field.data_type()) => is(of, field.data_type()),
        Expr::Case(case) => told_by_case(case, schema),
        Expr::ScalarFunction(call) if alike::is_alike(call.func.name()) => of_others(call.args.iter(), schema),
        Expr::ScalarFunction(call) => taken(call.func.as_ref(), &call.args, schema),
        Expr::AggregateFunction(call) => {
            let filter = call.params.filter.iter().flat_map(|filter| is(filter, &DataType::Boolean));
            filter.chain(taken(call.func.as_ref(), &call.params.args, schema)).collect()
        }
        Expr::WindowFunction(call) => told_by_window(&call.fun, &call.params, schema),
        _ => Vec::new(),
    }
}

/// Whether a parameter that is cast to a type is one of it. One that is cast to timestamptz stays a text: texts of
/// instants are read in the session's zone, which a parameter's value does not know. So do arrays of which clients'
/// binary form is not read.
fn is_of_cast(to: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Interval, List, Time64, Timestamp, Utf8};
    match to {
        List(of) => matches!(of.data_type(), Boolean | Utf8 | Interval(_)) || of.data_type().is_numeric(),
        Boolean | Date32 | Time64(_) | Timestamp(_, None) | Interval(_) | Binary => true,
        other => other.is_numeric(),
    }
}

/// What is compared in a CASE has one type, and so has what it gives.
fn told_by_case(case: &Case, schema: &DFSchema) -> Vec<Told> {
    let whens = case.when_then_expr.iter().map(|(when, _)| when.as_ref());
    let thens = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
    let mut told = match &case.expr {
        Some(of) => of_others(std::iter::once(of.as_ref()).chain(whens), schema),
        None => whens.flat_map(|when| is(when, &DataType::Boolean)).collect(),
    };
    told.extend(of_others(thens.chain(case.else_expr.as_deref()), schema));
    told
}

fn told_by_window(fun: &WindowFunctionDefinition, params: &WindowFunctionParams, schema: &DFSchema) -> Vec<Told> {
    let filter = params.filter.iter().flat_map(|filter| is(filter, &DataType::Boolean));
    let args = match (fun, params.args.as_slice()) {
        (WindowFunctionDefinition::WindowUDF(function), [value, count, others @ ..])
            if matches!(function.name(), "lag" | "lead" | "nth_value") =>
        {
            let others = of_others(std::iter::once(value).chain(others), schema);
            is(count, &DataType::Int32).into_iter().chain(others).collect()
        }
        (WindowFunctionDefinition::WindowUDF(function), args) => taken(function.as_ref(), args, schema),
        (WindowFunctionDefinition::AggregateUDF(function), args) => taken(function.as_ref(), args, schema),
    };
    filter.chain(args).collect()
}

/// Parameters among values that have one type, which the others tell.
fn of_others<'a>(values: impl Iterator<Item = &'a Expr> + Clone, schema: &DFSchema) -> Vec<Told> {
    let mut names = values.clone().filter_map(open).peekable();
    if names.peek().is_none() {
        return Vec::new();
    }
    let types = values.filter(|value| open(value).is_none()).filter_map(|value| value.get_type(schema).ok());
    let types: Vec<DataType> = types.filter(|of| !of.is_null()).collect();
    let of = match types.as_slice() {
        [of, others @ ..] if others.iter().all(|other| other == of) => Some(of.clone()),
        types => numbers::type_together(types.iter()).or_else(|| numbers::largest(types.iter())),
    };
    names.filter_map(|name| Some((name.clone(), of.clone()?))).collect()
}

/// Parameters in places where a function takes no texts: of the first types that it takes there.
fn taken<F: UDFCoercionExt>(function: &F, args: &[Expr], schema: &DFSchema) -> Vec<Told> {
    let count = args.iter().filter(|arg| open(arg).is_some()).count();
    if count == 0 || count > MOST_OPEN {
        return Vec::new();
    }
    let given: Option<Vec<Option<DataType>>> = args
        .iter()
        .map(|arg| if open(arg).is_some() { Some(None) } else { arg.get_type(schema).ok().map(Some) })
        .collect();
    let Some(given) = given else { return Vec::new() };
    let Some(types) = first_taken(function, &given, &mut Vec::new()) else { return Vec::new() };
    let told = args.iter().zip(types).filter_map(|(arg, of)| Some((open(arg)?.clone(), of)));
    told.filter(|(_, of)| !is_text(of)).collect()
}

/// The first types of all arguments that a function takes; `tried` are those of the first ones.
fn first_taken<F: UDFCoercionExt>(
    function: &F,
    given: &[Option<DataType>],
    tried: &mut Vec<DataType>,
) -> Option<Vec<DataType>> {
    let at = tried.len();
    let may_be = match given.get(at) {
        None => return takes(function, given, tried).then(|| tried.clone()),
        Some(Some(of)) => vec![of.clone()],
        Some(None) => candidates(function.name(), given, at),
    };
    for of in may_be {
        tried.push(of);
        let found = first_taken(function, given, tried);
        tried.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The types that an argument may have: as PostgreSQL, text before any other, and a double before other numbers.
fn candidates(function: &str, given: &[Option<DataType>], at: usize) -> Vec<DataType> {
    let is_exact = matches!((function, given.len(), at), ("round" | "trunc", 2, 0) | ("div", 2, _));
    let first = if is_exact { NUMERIC } else { DataType::Float64 };
    let others = given.iter().flatten().cloned();
    let rest = [
        DataType::Int32,
        DataType::Int64,
        NUMERIC,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        INTERVAL,
        DataType::Boolean,
        DataType::Date32,
    ];
    [DataType::Utf8, first].into_iter().chain(others).chain(rest).collect()
}

/// Whether a function takes arguments of these types, those that were open as they are or as the same in another size.
/// Where it takes a text, it reads it as what it takes.
fn takes<F: UDFCoercionExt>(function: &F, given: &[Option<DataType>], types: &[DataType]) -> bool {
    let fields: Vec<FieldRef> = types.iter().map(|of| Arc::new(Field::new("", of.clone(), true))).collect();
    let Ok(taken) = fields_with_udf(&fields, function) else { return false };
    let is_kept = |((given, of), taken): ((&Option<DataType>, &DataType), &FieldRef)| {
        let taken = taken.data_type();
        given.is_some()
            || is_text(of)
            || taken == of
            || of.is_integer() && taken.is_integer()
            || matches!((of, taken), (DataType::Timestamp(..), DataType::Timestamp(..)))
            || matches!((of, taken), (DataType::Decimal128(..), DataType::Decimal128(..)))
    };
    given.iter().zip(types).zip(&taken).all(is_kept)
}

/// Tells parameters their types where these are others than those of what is beside them.
#[derive(Debug)]
pub(crate) struct Operands;

impl ExprPlanner for Operands {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let told = match (open(&left).is_some(), open(&right).is_some()) {
            (true, true) => of_both(&op)?,
            (true, false) => right.get_type(schema).ok().and_then(|of| operand(&op, &of, true)),
            (false, true) => left.get_type(schema).ok().and_then(|of| operand(&op, &of, false)),
            (false, false) => None,
        };
        let (left, right) = match told {
            Some(of) => (typed(left, &of), typed(right, &of)),
            None => (left, right),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// The type of two operands of which nothing is known.
///
/// # Errors
/// Where PostgreSQL has several operators and none that it prefers.
fn of_both(op: &BinaryOperator) -> Result<Option<DataType>> {
    use BinaryOperator::{And, Divide, Minus, Modulo, Multiply, Or, Plus, StringConcat};
    match op {
        StringConcat => Ok(Some(DataType::Utf8)),
        And | Or => Ok(Some(DataType::Boolean)),
        Plus | Minus | Multiply | Divide | Modulo => {
            let message = format!("operator is not unique: unknown {op} unknown");
            Err(DataFusionError::External(Box::new(DataError { sqlstate: "42725", message })))
        }
        _ => Ok(None),
    }
}

/// The type of an operand of which nothing is known, beside one of a type, where it is another one; `is_left` says
/// that it is the first.
fn operand(op: &BinaryOperator, beside: &DataType, is_left: bool) -> Option<DataType> {
    use BinaryOperator::{Divide, Multiply, Plus, StringConcat};
    match (op, beside) {
        (Plus, DataType::Timestamp(..)) => Some(INTERVAL),
        (Multiply, DataType::Interval(_)) => Some(DataType::Float64),
        (Divide, DataType::Interval(_)) if !is_left => Some(DataType::Float64),
        (StringConcat, DataType::List(_)) => Some(beside.clone()),
        (StringConcat, of) if !of.is_nested() && !is_jsonb(of) && *of != DataType::Binary => Some(DataType::Utf8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Relations, Session};
    use crate::statement::Statement;
    use crate::types::array_of;
    use arrow::datatypes::Schema;

    fn relations() -> Relations {
        let mut relations = Relations::default();
        let field = |name, of| Field::new(name, of, true);
        let fields = vec![
            field("i", DataType::Int32),
            field("n", DataType::Decimal128(12, 2)),
            field("s", DataType::Utf8),
            field("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
            field("a", array_of(DataType::Int32)),
        ];
        relations.stream("t", Arc::new(Schema::new(fields)));
        relations
    }

    fn bound(text: &str) -> crate::Result<LogicalPlan> {
        let Ok(Statement::Query(query)) = crate::parse(text) else { panic!("{text}: a query") };
        Session::default().bind(&query, &relations())
    }

    fn types(text: &str) -> String {
        let told = parameter_types(&bound(text).expect(text));
        told.into_iter().map(|(name, of)| format!("{name} {of}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn parameters_have_the_type_of_their_first_place() {
        assert_eq!(
            types("SELECT i FROM t WHERE n = $1 AND i > $2 LIMIT $3"),
            "$1 Decimal128(12, 2), $2 Int32, $3 Int64"
        );
        assert_eq!(types("SELECT i FROM t OFFSET $1"), "$1 Int64");
        assert_eq!(types("SELECT i FROM t WHERE i = $1 AND n > $1"), "$1 Int32");
        assert_eq!(types("SELECT $1"), "");
    }

    #[test]
    fn operands_have_the_types_that_operators_take() {
        let [interval, stamp] =
            [INTERVAL, DataType::Timestamp(TimeUnit::Microsecond, None)].map(|of| format!("$1 {of}"));
        assert_eq!(types("SELECT ts + $1 FROM t"), interval);
        assert_eq!(types("SELECT $1 + ts FROM t"), interval);
        assert_eq!(types("SELECT ts - $1 FROM t"), stamp);
        assert_eq!(types("SELECT INTERVAL '1 day' * $1"), "$1 Float64");
        assert_eq!(types("SELECT $1 || $2"), "$1 Utf8, $2 Utf8");
        assert_eq!(types("SELECT i || $1 FROM t"), "$1 Utf8");
        assert_eq!(types("SELECT a || $1 FROM t"), format!("$1 {}", array_of(DataType::Int32)));
        assert_eq!(types("SELECT $1 AND $2"), "$1 Boolean, $2 Boolean");
        assert_eq!(types("SELECT -$1, $2::int"), "$1 Float64, $2 Int32");
        assert!(bound("SELECT $1 + $2").is_err());
    }

    #[test]
    fn casts_tell_the_types_of_what_is_read_alike_in_all_zones() {
        let [interval, stamp] =
            [INTERVAL, DataType::Timestamp(TimeUnit::Microsecond, None)].map(|of| format!("$1 {of}"));
        assert_eq!(types("SELECT $1::interval"), interval);
        assert_eq!(types("SELECT CAST($1 AS timestamp)"), stamp);
        assert_eq!(types("SELECT $1::date, $2::bytea, $3::timestamptz, $4::text"), "$1 Date32, $2 Binary");
        for (written, of) in [("int", DataType::Int32), ("text", DataType::Utf8)] {
            assert_eq!(types(&format!("SELECT $1::{written}[]")), format!("$1 {}", array_of(of)));
        }
        assert_eq!(types("SELECT $1::date[]"), "");
    }

    #[test]
    fn conditions_are_booleans() {
        for text in [
            "SELECT NOT $1",
            "SELECT $1 IS TRUE",
            "SELECT i FROM t WHERE $1",
            "SELECT CASE WHEN $1 THEN 1 END",
            "SELECT count(*) FILTER (WHERE $1) FROM t",
        ] {
            assert_eq!(types(text), "$1 Boolean", "{text}");
        }
    }

    #[test]
    fn arguments_are_texts_where_a_function_takes_them() {
        for (text, expected) in [
            ("SELECT upper($1)", ""),
            ("SELECT abs($1)", "$1 Float64"),
            ("SELECT sqrt($1)", "$1 Float64"),
            ("SELECT round($1, 2)", "$1 Decimal128(38, 10)"),
            ("SELECT round(n, $1) FROM t", "$1 Int32"),
            ("SELECT split_part(s, $1, $2) FROM t", "$2 Int32"),
            ("SELECT a[$1] FROM t", "$1 Int32"),
            ("SELECT to_timestamp($1)", "$1 Float64"),
            ("SELECT x FROM generate_series(1, $1) AS g (x)", "$1 Int32"),
            ("SELECT lag(i, $1, $2) OVER (ORDER BY i) FROM t", "$1 Int32, $2 Int32"),
        ] {
            assert_eq!(types(text), expected, "{text}");
        }
    }

    #[test]
    fn values_that_have_one_type_tell_each_other() {
        for text in [
            "SELECT coalesce($1, i) FROM t",
            "SELECT CASE WHEN true THEN i ELSE $1 END FROM t",
            "SELECT CASE $1 WHEN i THEN 'x' END FROM t",
            "SELECT i FROM t UNION ALL SELECT $1",
        ] {
            assert_eq!(types(text), "$1 Int32", "{text}");
        }
        assert_eq!(types("SELECT least($1, $2)"), "");
        assert_eq!(types("SELECT $1 + 1, coalesce($2, 3000000000, i) FROM t"), "$1 Int32, $2 Int64");
    }

    #[test]
    fn parameters_have_the_casts_that_postgresql_has() {
        let bound = |text: &str, of: DataType| {
            let Ok(Statement::Query(query)) = crate::parse(text) else { panic!("{text}: a query") };
            Session::default().bind_with(&query, &relations(), &[Some(of)])
        };
        for (text, of) in [
            ("SELECT $1::date", DataType::Int32),
            ("SELECT i FROM t WHERE $1::boolean", DataType::Int64),
            ("SELECT i FROM t WHERE i IN (SELECT i FROM t WHERE $1::boolean)", DataType::Int16),
        ] {
            let refused = bound(text, of).expect_err("no cast").to_string();
            assert!(refused.contains("cannot cast type"), "{refused}");
        }
        for (text, of) in [("SELECT $1::boolean", DataType::Int32), ("SELECT $1::date", DataType::Date32)] {
            assert!(bound(text, of).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_plan_is_told_when_all_places_are() {
        let plan = bound("SELECT $1 FROM t WHERE i = $1").expect("bound");
        assert!(!are_told(&plan, &[DataType::Int32]));
        let plan = bound("SELECT i FROM t WHERE i = $1").expect("bound");
        assert!(are_told(&plan, &[DataType::Int32]));
        assert!(!are_told(&plan, &[DataType::Utf8]));
        assert!(!are_told(&plan, &[]));
    }
}
