//! Composite values as wholes: comparisons, tests for null, sort keys, and what is refused.
//!
//! They are Arrow structs. Columns have them by `STRUCT<x int, y varchar>`, expressions by `row(...)`. DataFusion
//! brings structs to one type by the names of their fields, and takes their nulls for the least; here fields go by
//! their places, and nulls are equal to each other and greater than all else, as in PostgreSQL. `input` reads their
//! text form, `spelling` writes it, `function` computes.

mod function;

pub(crate) use function::{ABSENT, ALL_NULL, BROUGHT, EMPTIED, NONE_NULL};

use crate::arrays;
use crate::error::DataError;
use crate::exact::compares;
use crate::floats;
use crate::input::parse_text_column;
use crate::types::{is_jsonb, is_text, pg_name};
use arrow::array::StringArray;
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, Sort};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use function::{Kind, call, is_emptied};
use std::fmt::Display;

/// Functions that compare their arguments, which composite values are not taken for.
const COMPARE: [&str; 3] = ["nullif", "greatest", "least"];

fn refused(sqlstate: &'static str, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate, message: message.into() }))
}

fn unsupported(what: &str) -> DataFusionError {
    refused("0A000", format!("{what} composite values is not supported: name their fields, as in (a).x"))
}

const fn is_composite(of: &DataType) -> bool {
    matches!(of, DataType::Struct(_))
}

/// Whether a type is jsonb, which has no order, or has it within.
pub(crate) fn has_jsonb(of: &DataType) -> bool {
    match of {
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => has_jsonb(of.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_jsonb(field.data_type())),
        other => is_jsonb(other),
    }
}

fn is_one(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| is_composite(&of))
}

/// Brings composite values that are compared to one type, before DataFusion does.
#[derive(Debug)]
pub(crate) struct Composites;

impl FunctionRewrite for Composites {
    fn name(&self) -> &'static str {
        "composite_values"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let is_one = |expr: &Expr| is_one(expr, schema);
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) && (is_one(&left) || is_one(&right)) => {
                compared(*left, op, *right, schema).map(Transformed::yes)
            }
            Expr::InList(InList { expr, list, negated }) if is_one(&expr) => {
                let equal = |other: Expr| compared(expr.as_ref().clone(), Operator::Eq, other, schema);
                let Some(any) = disjunction(list.into_iter().map(equal).collect::<Result<Vec<_>>>()?) else {
                    return Err(unsupported("IN () of"));
                };
                Ok(Transformed::yes(if negated { Expr::Not(Box::new(any)) } else { any }))
            }
            Expr::Between(Between { expr, .. }) if is_one(&expr) => Err(unsupported("BETWEEN of")),
            Expr::Case(Case { expr: Some(of), .. }) if is_one(&of) => Err(unsupported("CASE x WHEN of")),
            Expr::InSubquery(within) if is_one(&within.expr) => Err(unsupported("IN (SELECT ...) of")),
            Expr::ScalarFunction(call) if COMPARE.contains(&call.func.name()) && call.args.iter().any(is_one) => {
                Err(unsupported(&format!("{}() of", call.func.name())))
            }
            Expr::AggregateFunction(call)
                if matches!(call.func.name(), "min" | "max") && call.params.args.iter().any(is_one) =>
            {
                Err(unsupported(&format!("{}() of", call.func.name())))
            }
            Expr::WindowFunction(call)
                if call.params.order_by.iter().any(|sort| is_one(&sort.expr))
                    || matches!(call.fun.name(), "min" | "max") && call.params.args.iter().any(is_one) =>
            {
                Err(unsupported("OVER with an order of"))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

impl ExprPlanner for Composites {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        let is_compared = matches!(expr.op, Eq | NotEq | Lt | LtEq | Gt | GtEq);
        if !is_compared || !(is_one(&expr.left, schema) || is_one(&expr.right, schema)) {
            return Ok(PlannerResult::Original(expr));
        }
        let RawBinaryExpr { op, left, right } = expr;
        let (left, right) = sides(left, &op, right, schema)?;
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

fn compared(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Expr> {
    let (left, right) = sides(left, &op, right, schema)?;
    Ok(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) }))
}

/// The sides of a comparison as values of one type.
fn sides(left: Expr, op: &dyn Display, right: Expr, schema: &DFSchema) -> Result<(Expr, Expr)> {
    let (own, other) = (left.get_type(schema)?, right.get_type(schema)?);
    let (left, right) = (beside(left, &other)?, beside(right, &own)?);
    let (own, other) = (left.get_type(schema)?, right.get_type(schema)?);
    // The type of a parameter is that of what it is compared with.
    if own.is_null() || other.is_null() {
        return Ok((left, right));
    }
    if !is_composite(&own) || !is_composite(&other) {
        let message = format!("operator does not exist: {} {op} {}", pg_name(&own), pg_name(&other));
        return Err(refused("42883", message));
    }
    let to = together(&own, &other)?;
    let brought = |value: Expr, of: &DataType| if *of == to { value } else { call(Kind::Brought(to.clone()), value) };
    Ok((brought(left, &own), brought(right, &other)))
}

/// A text that is written out, or a null, as a value of the composite type beside it.
fn beside(value: Expr, of: &DataType) -> Result<Expr> {
    match &value {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) if is_composite(of) => {
            let read = parse_text_column(&StringArray::from(vec![text.as_str()]), of);
            let read = read.map_err(|bad| refused(bad.sqlstate, bad.message))?;
            Ok(Expr::Literal(ScalarValue::try_from_array(&read, 0)?, None))
        }
        Expr::Literal(value, _) if value.is_null() && is_composite(of) && !is_composite(&value.data_type()) => {
            Ok(Expr::Literal(ScalarValue::try_from(of)?, None))
        }
        _ => Ok(value),
    }
}

/// The type that two composite values are compared in, with the first one's names.
fn together(left: &DataType, right: &DataType) -> Result<DataType> {
    if left == right {
        return Ok(left.clone());
    }
    let (DataType::Struct(own), DataType::Struct(other)) = (left, right) else {
        return Ok(left.clone());
    };
    if own.len() != other.len() {
        return Err(refused("42804", "cannot compare record types with different numbers of columns"));
    }
    let field = |(at, (own, other)): (usize, (&FieldRef, &FieldRef))| -> Result<Field> {
        let to = match (own.data_type(), other.data_type()) {
            (left @ DataType::Struct(_), right @ DataType::Struct(_)) => together(left, right)?,
            (left, right) => both(left, right).ok_or_else(|| {
                let types = format!("{} and {}", pg_name(left), pg_name(right));
                let at = at + 1;
                refused("42804", format!("cannot compare dissimilar column types {types} at record column {at}"))
            })?,
        };
        Ok(Field::new(own.name(), to, true))
    };
    let fields = own.iter().zip(other.iter()).enumerate().map(field).collect::<Result<Vec<Field>>>()?;
    Ok(DataType::Struct(fields.into()))
}

/// The type that holds the values of two types as they are.
fn both(left: &DataType, right: &DataType) -> Option<DataType> {
    match (left, right) {
        (left, right) if left == right => Some(left.clone()),
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        (left, right) if left.is_signed_integer() && right.is_signed_integer() => {
            let wider = if left.primitive_width() < right.primitive_width() { right } else { left };
            Some(wider.clone())
        }
        (left, right) if is_text(left) && is_text(right) => Some(DataType::Utf8),
        (DataType::Decimal128(own, own_scale), DataType::Decimal128(other, other_scale)) => {
            let whole = |digits: &u8, scale: &i8| i16::from(*digits) - i16::from(*scale);
            let scale = *own_scale.max(other_scale);
            let digits = whole(own, own_scale).max(whole(other, other_scale)) + i16::from(scale);
            let digits = u8::try_from(digits).ok().filter(|digits| *digits <= Decimal128Type::MAX_PRECISION)?;
            Some(DataType::Decimal128(digits, scale))
        }
        _ => None,
    }
}

/// An expression over composite values as PostgreSQL means it, once types are settled.
///
/// # Errors
/// For what is not computed.
pub(crate) fn exact(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_one = |expr: &Expr| is_one(expr, schema);
    match expr {
        Expr::IsNull(of) if is_one(&of) => Ok(Transformed::yes(call(Kind::AllNull, *of))),
        Expr::IsNotNull(of) if is_one(&of) => Ok(Transformed::yes(call(Kind::NoneNull, *of))),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) && is_one(&left) && is_one(&right) => {
            let (left, right) = (floats::key(*left, schema)?, floats::key(*right, schema)?);
            if arrays::orders(op) && has_jsonb(&left.get_type(schema)?) {
                return Err(unsupported("an order of jsonb in"));
            }
            if arrays::orders(op) {
                return arrays::ordered(left, op, right).map(Transformed::yes);
            }
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })))
        }
        Expr::Cast(Cast { expr, field }) if is_composite(field.data_type()) => cast(Cast { expr, field }, schema),
        // What a CASE leaves out, Arrow takes the whole away of and leaves its fields there.
        case @ Expr::Case(_) if is_one(&case) => Ok(Transformed::yes(call(Kind::Emptied, case))),
        again if is_emptied(&again) => Ok(match again {
            Expr::ScalarFunction(mut of) if of.args.first().is_some_and(is_emptied) => {
                Transformed::yes(of.args.remove(0))
            }
            once => Transformed::no(once),
        }),
        other => Ok(Transformed::no(other)),
    }
}

/// A cast that DataFusion would do by the names of fields.
fn cast(cast: Cast, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type());
    if from == *to || from.is_null() {
        return Ok(Transformed::no(Expr::Cast(cast)));
    }
    Err(refused("0A000", format!("a cast of {} to {} is not supported", pg_name(&from), pg_name(to))))
}

/// Sort keys of which those that are composite are sorted by their fields, one after the other; where there is no
/// value, it stands where the key wants nulls.
///
/// # Errors
/// When the type of a key is not known.
pub(crate) fn by_fields(sorts: Vec<Sort>, schema: &DFSchema) -> Result<Vec<Sort>> {
    let mut keys = Vec::with_capacity(sorts.len());
    for sort in sorts {
        push_fields(sort, schema, &mut keys)?;
    }
    Ok(keys)
}

fn push_fields(sort: Sort, schema: &DFSchema, keys: &mut Vec<Sort>) -> Result<()> {
    let of = sort.expr.get_type(schema)?;
    let DataType::Struct(fields) = &of else {
        keys.push(sort);
        return Ok(());
    };
    if has_jsonb(&of) {
        return Err(unsupported("an order of jsonb in"));
    }
    keys.push(call(Kind::Absent, sort.expr.clone()).sort(!sort.nulls_first, false));
    for field in fields {
        let expr = get_field(sort.expr.clone(), field.name().as_str());
        push_fields(Sort { expr, asc: sort.asc, nulls_first: !sort.asc }, schema, keys)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;
    use datafusion::logical_expr::col;

    fn composite(fields: &[(&str, DataType)]) -> DataType {
        DataType::Struct(fields.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect())
    }

    #[test]
    fn fields_are_compared_by_their_places() {
        let own = composite(&[("x", DataType::Int32), ("y", DataType::Decimal128(8, 2))]);
        let row = composite(&[("c0", DataType::Int64), ("c1", DataType::Decimal128(6, 4))]);
        let to = composite(&[("x", DataType::Int64), ("y", DataType::Decimal128(10, 4))]);
        assert_eq!(together(&own, &row).expect("alike"), to);
        assert_eq!(together(&own, &own).expect("the same"), own);
        for other in [composite(&[("x", DataType::Int32)]), composite(&[("x", DataType::Utf8), ("y", DataType::Utf8)])]
        {
            let error = together(&own, &other).expect_err("not alike");
            assert!(matches!(error, DataFusionError::External(_)), "{error}");
        }
    }

    #[test]
    fn a_key_that_is_composite_becomes_those_of_its_fields() {
        let inner = composite(&[("z", DataType::Int32)]);
        let schema = Schema::new(vec![Field::new("a", composite(&[("x", DataType::Utf8), ("b", inner)]), true)]);
        let schema = DFSchema::try_from(schema).expect("a schema");
        let absent = |value: Expr| call(Kind::Absent, value).sort(false, false);
        let keys = by_fields(vec![col("a").sort(false, true)], &schema).expect("known types");
        let b = get_field(col("a"), "b");
        let expected = vec![
            absent(col("a")),
            get_field(col("a"), "x").sort(false, true),
            absent(b.clone()),
            get_field(b, "z").sort(false, true),
        ];
        assert_eq!(keys, expected);
        assert_eq!(by_fields(keys.clone(), &schema).expect("known types"), keys);
    }
}
