//! Numbers that are written out with a fraction: double precision here, but exact where they are cast to
//! numeric or text, stand beside a numeric, or have more digits than a double.
//!
//! DataFusion's planner reads them as doubles. Those that would lose digits it is given as texts that are cast
//! to numeric; one that is left becomes numeric again by its shortest digits, which are those that it was
//! written with. A numeric beside any other double is a double, as in PostgreSQL.

use crate::division;
use crate::floats::{is_float, is_interval};
use crate::intervals::written;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, Cast, InList};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, cast, lit};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType as SqlType, ExactNumberInfo, Expr as SqlExpr, UnaryOperator, Value,
    ValueWithSpan,
};

/// Digits that a numeric has at most.
const MOST: usize = 38;
/// Digits that a double gives back as they were written.
pub(crate) const OF_DOUBLES: usize = 15;
/// Digits beyond which no double is told from another.
pub(crate) const OF_ALL_DOUBLES: usize = 17;

/// Whether a cast to a type wants the digits as they are written.
pub(crate) const fn is_exact(of: &SqlType) -> bool {
    matches!(
        of,
        SqlType::Numeric(_)
            | SqlType::Decimal(_)
            | SqlType::Dec(_)
            | SqlType::Text
            | SqlType::Varchar(_)
            | SqlType::CharacterVarying(_)
            | SqlType::CharVarying(_)
    )
}

/// Whether an operator is one of numbers.
pub(crate) const fn is_of_numbers(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Plus};
    matches!(op, Plus | Minus | Multiply | Divide | Modulo | Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// Gives the planner a number of more digits than so many as a numeric.
pub(crate) fn keep_digits(expr: &mut SqlExpr, more_than: usize) {
    match expr {
        SqlExpr::Nested(inner) => keep_digits(inner, more_than),
        SqlExpr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr: inner } => {
            keep_digits(inner, more_than);
        }
        SqlExpr::Value(ValueWithSpan { value: Value::Number(text, false), span }) => {
            let Some((digits, scale)) = size(text).filter(|(digits, _)| *digits > more_than) else { return };
            let text = Value::SingleQuotedString(text.clone());
            let info = ExactNumberInfo::PrecisionAndScale(digits as u64, scale as i64);
            *expr = SqlExpr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(SqlExpr::Value(ValueWithSpan { value: text, span: *span })),
                data_type: SqlType::Numeric(info),
                array: false,
                format: None,
            };
        }
        _ => {}
    }
}

/// The digits of a number, and how many of them stand behind the point; none when it is a whole number that is
/// an integer, has an exponent, or is no numeric.
fn size(text: &str) -> Option<(usize, usize)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = whole.bytes().chain(fraction.bytes()).all(|c| c.is_ascii_digit());
    if !is_digits || text.parse::<u64>().is_ok() {
        return None;
    }
    let digits = whole.trim_start_matches('0').len() + fraction.len();
    (1..=MOST).contains(&digits).then_some((digits, fraction.len()))
}

/// A double that is written out, as the numeric that it was written as.
fn as_numeric(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) if value.is_finite() => {
            let text = value.abs().to_string();
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
            let digits = whole.trim_start_matches('0').len() + fraction.len();
            let sign = if value.is_sign_negative() { "-" } else { "" };
            let number: i128 = format!("{sign}{whole}{fraction}").parse().ok()?;
            let (precision, scale) = (u8::try_from(digits).ok()?, i8::try_from(fraction.len()).ok()?);
            let value = ScalarValue::Decimal128(Some(number), precision, scale);
            (digits <= MOST).then_some(Expr::Literal(value, None))
        }
        Expr::Negative(inner) => as_numeric(inner).map(|inner| Expr::Negative(Box::new(inner))),
        _ => None,
    }
}

/// A numeric as a double; one that is written out is read as such.
fn as_double(expr: Expr) -> Expr {
    match expr {
        Expr::Negative(inner) => Expr::Negative(Box::new(as_double(*inner))),
        Expr::Cast(Cast { expr: inner, field }) => {
            let number = match inner.as_ref() {
                Expr::Literal(value, _) => value.try_as_str().flatten().and_then(|text| text.parse::<f64>().ok()),
                _ => None,
            };
            match number {
                Some(number) => lit(number),
                None => cast(Expr::Cast(Cast { expr: inner, field }), DataType::Float64),
            }
        }
        other => cast(other, DataType::Float64),
    }
}

/// A numeric and what stands beside it, which is a float.
fn side_by_side(numeric: Expr, float: Expr) -> (Expr, Expr) {
    match as_numeric(&float) {
        Some(exact) => (numeric, exact),
        None => (as_double(numeric), float),
    }
}

/// Binds operators of numerics and floating point.
#[derive(Debug)]
pub(crate) struct Numerals;

impl ExprPlanner for Numerals {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        if !is_of_numbers(&op) {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        // What has no type yet is left to others.
        let (left, right) = match (left.get_type(schema), right.get_type(schema)) {
            (Ok(DataType::Decimal128(..)), Ok(other)) if is_float(&other) => side_by_side(left, right),
            (Ok(other), Ok(DataType::Decimal128(..))) if is_float(&other) => {
                let (right, left) = side_by_side(right, left);
                (left, right)
            }
            _ => (left, right),
        };
        if op == BinaryOperator::Divide && division::is_of_numerics(&left, &right, schema) {
            return Ok(PlannerResult::Planned(division::quotient(left, right, schema)?));
        }
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// Lists and ranges that a numeric or an interval is looked up in, and `to_hex` of an integer that is written out.
#[derive(Debug)]
pub(crate) struct Lists;

impl FunctionRewrite for Lists {
    fn name(&self) -> &'static str {
        "lists_of_numerals"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let is_numeric = |of: &Expr| of.get_type(schema).is_ok_and(|of| matches!(of, DataType::Decimal128(..)));
        let is_of_intervals = |of: &Expr| of.get_type(schema).is_ok_and(|of| is_interval(&of));
        let exact = |of: Expr| as_numeric(&of).unwrap_or(of);
        Ok(match expr {
            Expr::InList(InList { expr, list, negated }) if is_numeric(&expr) => {
                let list = list.into_iter().map(exact).collect();
                Transformed::yes(Expr::InList(InList { expr, list, negated }))
            }
            Expr::Between(Between { expr, negated, low, high }) if is_numeric(&expr) => {
                let (low, high) = (Box::new(exact(*low)), Box::new(exact(*high)));
                Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
            }
            Expr::InList(InList { expr, list, negated }) if is_of_intervals(&expr) => {
                let list = list.into_iter().map(written).collect();
                Transformed::yes(Expr::InList(InList { expr, list, negated }))
            }
            Expr::Between(Between { expr, negated, low, high }) if is_of_intervals(&expr) => {
                let (low, high) = (Box::new(written(*low)), Box::new(written(*high)));
                Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
            }
            Expr::ScalarFunction(mut call) if call.func.name() == "to_hex" => {
                call.args = call.args.into_iter().map(small).collect();
                Transformed::yes(Expr::ScalarFunction(call))
            }
            other => Transformed::no(other),
        })
    }
}

/// A whole number that is written out as an integer, where it is one.
fn small(expr: Expr) -> Expr {
    let integer = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Int64(value), _) => *value,
        _ => None,
    };
    let value = match &expr {
        Expr::Negative(of) => integer(of).and_then(i64::checked_neg),
        _ => integer(&expr),
    };
    value.and_then(|value| i32::try_from(value).ok()).map_or(expr, lit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_many_digits_are_told_from_integers_and_exponents() {
        for (text, found) in [
            ("1.50", Some((3, 2))),
            ("0.05", Some((2, 2))),
            ("123456789012345678.91", Some((20, 2))),
            ("18446744073709551616", Some((20, 0))),
            ("18446744073709551615", None),
            ("1e5", None),
            ("1.5e5", None),
        ] {
            assert_eq!(size(text), found, "{text}");
        }
    }

    #[test]
    fn doubles_become_what_they_were_written_as() {
        for (value, number, precision, scale) in [(1.1, 11, 2, 1), (-0.05, -5, 2, 2), (5.0, 50, 2, 1)] {
            let numeric = ScalarValue::Decimal128(Some(number), precision, scale);
            assert_eq!(as_numeric(&lit(value)), Some(Expr::Literal(numeric, None)), "{value}");
        }
        assert_eq!(as_numeric(&lit(1e40)), None);
        let text = cast(lit("0.30000000000000004"), DataType::Decimal128(17, 17));
        assert_eq!(as_double(text), lit(0.300_000_000_000_000_04));
    }
}
