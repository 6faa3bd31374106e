//! Numbers that are written out with a fraction: double precision here, but exact where they are cast to
//! numeric or text, stand beside a numeric, or have more digits than a double. And what numbers of several types
//! are compared and computed as.
//!
//! DataFusion's planner reads them as doubles. Those that would lose digits it is given as texts that are cast
//! to numeric; one that is left becomes numeric again by its shortest digits, which are those that it was
//! written with, and so does a text in quotes. A numeric beside any other double is a double, as in PostgreSQL,
//! and so is an integer beside a real. `numbers` has what they are where they are to have one type.
//!
//! Numerics are compared with all digits that they have: where no numeric holds both, in 256 bits.

use crate::division;
use crate::exact::compares;
use crate::floats::{is_float, is_interval};
use crate::intervals::written;
use crate::literals;
use crate::numbers::{self, Brought};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, Case, Cast, InList};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, cast, lit, not};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType as SqlType, ExactNumberInfo, Expr as SqlExpr, UnaryOperator, Value,
    ValueWithSpan,
};

/// Digits that a numeric has at most.
const MOST: usize = 38;
/// The type in which all numerics are what they are.
pub(crate) const WIDEST: DataType = DataType::Decimal256(76, 38);
/// The largest exponent of a number that is read as a numeric.
const FARTHEST: u64 = 1000;
/// Digits that a double gives back as they were written.
pub(crate) const OF_DOUBLES: usize = 15;

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
            if more_than == 0
                && let Some(plain) = literals::without_exponent(text)
            {
                *text = plain;
            }
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

/// A number of more digits than a double gives back, as the numeric that it is; none for whatever else stands there.
#[must_use]
pub fn exact_number(expr: &SqlExpr) -> Option<SqlExpr> {
    let mut exact = expr.clone();
    keep_digits(&mut exact, OF_DOUBLES);
    (exact != *expr).then_some(exact)
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

/// A text that is a number as the numeric that it stands for, with its own digits before and behind the point;
/// none when it is no number, or one that is too large.
///
/// Of more than 38 digits the last ones are left out, but for the trace that there were some: the numeric is
/// then neither equal to one with fewer digits nor half way between two.
#[must_use]
pub fn numeral(text: &str) -> Option<ScalarValue> {
    let text = text.trim_matches([' ', '\t', '\n', '\x0B', '\x0C', '\r']);
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) || exponent.unsigned_abs() > FARTHEST {
        return None;
    }
    let mut scale = i64::try_from(fraction.len()).ok()? - exponent;
    if scale < 0 {
        digits.push_str(&"0".repeat(usize::try_from(-scale).ok()?));
        scale = 0;
    }
    let (digits, mut scale) = (digits.trim_start_matches('0'), usize::try_from(scale).ok()?);
    let left_out = digits.len().max(scale).saturating_sub(MOST);
    if left_out > scale {
        return None;
    }
    scale -= left_out;
    let (kept, lost) = digits.split_at(digits.len().saturating_sub(left_out));
    let mut number: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    if number % 5 == 0 && lost.bytes().any(|digit| digit != b'0') {
        number += 1;
    }
    let (precision, scale) = (u8::try_from(kept.len().max(scale).max(1)).ok()?, i8::try_from(scale).ok()?);
    Some(ScalarValue::Decimal128(Some(if is_negative { -number } else { number }), precision, scale))
}

/// A double that is written out, as the numeric that it was written as.
pub(crate) fn as_numeric(expr: &Expr) -> Option<Expr> {
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

/// A number or a text that is written out beside a numeric, as the numeric that it was written as.
pub(crate) fn exact(expr: Expr) -> Expr {
    let numeric = match &expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => numeral(text).map(|value| Expr::Literal(value, None)),
        other => as_numeric(other),
    };
    numeric.unwrap_or(expr)
}

/// A numeric as a double; one that is written out is read as such.
pub(crate) fn as_double(expr: Expr) -> Expr {
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
        let (left, right) = operands(left, right, schema);
        if op == BinaryOperator::Divide && division::is_of_numerics(&left, &right, schema) {
            return Ok(PlannerResult::Planned(division::quotient(left, right, schema)?));
        }
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// Operands of numbers, brought to types for which the operator gives what PostgreSQL's does.
fn operands(left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    // What has no type yet is left to others.
    match (left.get_type(schema), right.get_type(schema)) {
        (Ok(DataType::Decimal128(..)), Ok(other)) if is_float(&other) => side_by_side(left, right),
        (Ok(other), Ok(DataType::Decimal128(..))) if is_float(&other) => {
            let (right, left) = side_by_side(right, left);
            (left, right)
        }
        (Ok(DataType::Decimal128(..)), Ok(DataType::Utf8)) => (left, exact(right)),
        (Ok(DataType::Utf8), Ok(DataType::Decimal128(..))) => (exact(left), right),
        (Ok(one), Ok(other)) if are_real_and_whole(&[one.clone(), other.clone()]) => {
            (cast(left, DataType::Float64), cast(right, DataType::Float64))
        }
        _ => (left, right),
    }
}

/// Arithmetic over operands whose types have become others since it was bound.
///
/// # Errors
/// When a type is not known.
pub(crate) fn computed_anew(BinaryExpr { left, op, right }: BinaryExpr, schema: &DFSchema) -> Result<Expr> {
    let (left, right) = operands(*left, *right, schema);
    if op == Operator::Divide && division::is_of_numerics(&left, &right, schema) {
        return division::quotient(left, right, schema);
    }
    Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
}

/// Whether there are reals and integers among types, and nothing else: PostgreSQL takes them for doubles.
fn are_real_and_whole(types: &[DataType]) -> bool {
    let is_real = |of: &DataType| *of == DataType::Float32;
    types.iter().any(is_real)
        && types.iter().any(DataType::is_integer)
        && types.iter().all(|of| is_real(of) || of.is_integer())
}

/// Whether there are numerics among types for which there is no numeric that holds the values of all.
fn are_too_wide(types: &[DataType]) -> bool {
    let (mut before, mut behind) = (0_i16, 0_i16);
    for of in types.iter().filter(|of| !of.is_null()) {
        let Some(DataType::Decimal128(precision, scale)) = division::numeric_of(of) else { return false };
        before = before.max(i16::from(precision) - i16::from(scale));
        behind = behind.max(i16::from(scale));
    }
    types.iter().any(is_numeric) && usize::try_from(before + behind).is_ok_and(|digits| digits > MOST)
}

const fn is_numeric(of: &DataType) -> bool {
    matches!(of, DataType::Decimal128(..))
}

/// As what values are compared.
enum Compared {
    AsTheyAre,
    Exact,
    Widest,
    /// As floating point.
    To(Brought),
}

impl Compared {
    fn of(&self, value: Expr, schema: &DFSchema) -> Expr {
        match self {
            Self::AsTheyAre => value,
            Self::Exact => exact(value),
            Self::Widest => cast(exact(value), WIDEST),
            Self::To(to) => numbers::brought(value, to, schema),
        }
    }
}

/// As what values are compared with each other, so that none becomes another one than it is.
fn comparable(values: &[&Expr], schema: &DFSchema) -> Compared {
    let types = values.iter().map(|of| of.get_type(schema)).collect::<Result<Vec<DataType>>>();
    // What has no type yet is left to others.
    let Ok(types) = types else { return Compared::AsTheyAre };
    if let Some(to) = numbers::compared(values.iter().copied(), schema) {
        return Compared::To(to);
    }
    if !types.iter().any(is_numeric) {
        return Compared::AsTheyAre;
    }
    let own = |(of, data_type): (&&Expr, DataType)| match of {
        Expr::Literal(..) | Expr::Negative(_) => exact((*of).clone()).get_type(schema).unwrap_or(data_type),
        _ => data_type,
    };
    let types: Vec<DataType> = values.iter().zip(types).map(own).collect();
    if are_too_wide(&types) { Compared::Widest } else { Compared::Exact }
}

/// Two values that are compared.
pub(crate) fn compared(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Expr {
    let given = comparable(&[&left, &right], schema);
    let (left, right) = (given.of(left, schema), given.of(right, schema));
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// A range that a value is looked up in: where the three are compared as floating point and are not, each end alone.
fn in_range(Between { expr, negated, low, high }: Between, schema: &DFSchema) -> Expr {
    let given = comparable(&[expr.as_ref(), low.as_ref(), high.as_ref()], schema);
    if let Compared::To(_) = given {
        let (first, last) = if negated { (Operator::Lt, Operator::Gt) } else { (Operator::GtEq, Operator::LtEq) };
        let first = compared(expr.as_ref().clone(), first, *low, schema);
        let last = compared(*expr, last, *high, schema);
        return if negated { first.or(last) } else { first.and(last) };
    }
    let [expr, low, high] = [expr, low, high].map(|of| Box::new(given.of(*of, schema)));
    Expr::Between(Between { expr, negated, low, high })
}

/// A list that a value is looked up in, as PostgreSQL does it where numbers are of several types: several constants
/// have one type with the value, which is compared with anything else by itself.
fn in_list(InList { expr, list, negated }: InList, schema: &DFSchema) -> Expr {
    let values: Vec<&Expr> = std::iter::once(expr.as_ref()).chain(&list).collect();
    let is_mixed = numbers::compared(values.iter().copied(), schema).is_some()
        || numbers::together(values.iter().copied(), schema).is_some_and(|to| to != Brought::Exact);
    if !is_mixed {
        let given = comparable(&values, schema);
        let list = list.into_iter().map(|value| given.of(value, schema)).collect();
        return Expr::InList(InList { expr: Box::new(given.of(*expr, schema)), list, negated });
    }
    let (constants, others): (Vec<Expr>, Vec<Expr>) = list.into_iter().partition(|value| !value.any_column_refs());
    let (constants, others) =
        if constants.len() > 1 { (constants, others) } else { (Vec::new(), [constants, others].concat()) };
    let equal = |other: Expr| compared(expr.as_ref().clone(), Operator::Eq, other, schema);
    let mut parts: Vec<Expr> = others.into_iter().map(equal).collect();
    if !constants.is_empty() {
        let values: Vec<&Expr> = std::iter::once(expr.as_ref()).chain(&constants).collect();
        let given = match numbers::compared_at_once(values.iter().copied(), schema) {
            Some(to) => Compared::To(to),
            None => comparable(&values, schema),
        };
        let constants = constants.into_iter().map(|value| given.of(value, schema)).collect();
        parts.push(given.of(*expr, schema).in_list(constants, false));
    }
    let found = disjunction(parts).unwrap_or_else(|| lit(false));
    if negated { not(found) } else { found }
}

/// `CASE x WHEN a THEN ...`: where x and all a are compared as floating point and are not, each a alone.
fn chosen(case: Case, schema: &DFSchema) -> Expr {
    let Case { expr: Some(of), when_then_expr, else_expr } = case else { return Expr::Case(case) };
    let whens = when_then_expr.iter().map(|(when, _)| when.as_ref());
    let values: Vec<&Expr> = std::iter::once(of.as_ref()).chain(whens).collect();
    let given = comparable(&values, schema);
    let is_mixed = matches!(given, Compared::To(_));
    let asked = |when: Expr| {
        if is_mixed { compared(of.as_ref().clone(), Operator::Eq, when, schema) } else { given.of(when, schema) }
    };
    let when_then_expr = when_then_expr.into_iter().map(|(when, then)| (Box::new(asked(*when)), then)).collect();
    let expr = (!is_mixed).then(|| Box::new(given.of(of.as_ref().clone(), schema)));
    Expr::Case(Case { expr, when_then_expr, else_expr })
}

/// A numeric that is written out, or that a parameter stands for, as a double: by its digits.
fn read_as_double(cast: &Cast) -> Option<Expr> {
    match cast.expr.as_ref() {
        Expr::Literal(ScalarValue::Decimal128(Some(value), precision, scale), _)
            if *cast.field.data_type() == DataType::Float64 =>
        {
            let number = Decimal128Type::format_decimal(*value, *precision, *scale).parse::<f64>();
            number.ok().map(lit)
        }
        _ => None,
    }
}

/// What is compared with each other, lists and ranges that an interval is looked up in, and numerics that are written
/// out and cast to doubles.
#[derive(Debug)]
pub(crate) struct Lists;

impl FunctionRewrite for Lists {
    fn name(&self) -> &'static str {
        "lists_of_numerals"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let is_of_intervals = |of: &Expr| of.get_type(schema).is_ok_and(|of| is_interval(&of));
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                Transformed::yes(compared(*left, op, *right, schema))
            }
            Expr::InList(InList { expr, list, negated }) if is_of_intervals(&expr) => {
                let list = list.into_iter().map(written).collect();
                Transformed::yes(Expr::InList(InList { expr, list, negated }))
            }
            Expr::Between(Between { expr, negated, low, high }) if is_of_intervals(&expr) => {
                let (low, high) = (Box::new(written(*low)), Box::new(written(*high)));
                Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
            }
            Expr::InList(list) => Transformed::yes(in_list(list, schema)),
            Expr::Between(between) => Transformed::yes(in_range(between, schema)),
            Expr::Case(case) if case.expr.is_some() => Transformed::yes(chosen(case, schema)),
            Expr::Cast(cast) => match read_as_double(&cast) {
                Some(double) => Transformed::yes(double),
                None => Transformed::no(Expr::Cast(cast)),
            },
            other => Transformed::no(other),
        })
    }
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
    fn texts_become_numerics_of_their_own_digits() {
        let thirds = format!("0.{}", "3".repeat(50));
        let nearly_half = format!("0.5{}1", "0".repeat(50));
        let least_half = format!("0.5{}1", "0".repeat(36));
        for (text, found) in [
            ("1.005", Some((1005, 4, 3))),
            (" -0.050 ", Some((-50, 3, 3))),
            ("+007", Some((7, 1, 0))),
            ("0", Some((0, 1, 0))),
            ("0.00", Some((0, 2, 2))),
            (".5", Some((5, 1, 1))),
            ("1.5e3", Some((1500, 4, 0))),
            ("15E-3", Some((15, 3, 3))),
            ("1e20", Some((10_i128.pow(20), 21, 0))),
            (thirds.as_str(), Some(((10_i128.pow(38) - 1) / 3, 38, 38))),
            (nearly_half.as_str(), Some((5 * 10_i128.pow(37) + 1, 38, 38))),
            (least_half.as_str(), Some((5 * 10_i128.pow(37) + 1, 38, 38))),
            ("1e38", None),
            ("1e999999999999", None),
            ("NaN", None),
            ("1 2", None),
            ("-", None),
            ("", None),
        ] {
            let numeric = |(value, precision, scale)| ScalarValue::Decimal128(Some(value), precision, scale);
            assert_eq!(numeral(text), found.map(numeric), "{text}");
        }
    }

    #[test]
    fn numbers_are_compared_as_what_holds_them_all() {
        let numeric = |precision, scale| DataType::Decimal128(precision, scale);
        for (types, is_too_wide) in [
            (vec![numeric(38, 0), numeric(20, 4)], true),
            (vec![numeric(38, 10), numeric(12, 2)], false),
            (vec![numeric(38, 10), DataType::Int64], false),
            (vec![numeric(38, 20), DataType::Int64], true),
            (vec![numeric(38, 20), DataType::Null], false),
            (vec![numeric(38, 0), DataType::Float64], false),
            (vec![DataType::Int64, DataType::Int32], false),
        ] {
            assert_eq!(are_too_wide(&types), is_too_wide, "{types:?}");
        }
        assert!(are_real_and_whole(&[DataType::Int32, DataType::Float32]));
        assert!(!are_real_and_whole(&[DataType::Float32, DataType::Float32]));
        assert!(!are_real_and_whole(&[DataType::Float32, DataType::Int32, DataType::Float64]));
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
