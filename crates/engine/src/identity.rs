//! What expressions, types and values are called in a checkpoint, so that an operator is recognised at
//! the next start.
//!
//! The text is made here from what an expression is, and never of what a library shows of it: so it stays
//! when a library is replaced. It is written in docs/formats/identities.md. Invariants: what computes
//! different values has different texts; a column is its place, whatever its name; what is not known here
//! is refused. The words are persisted: none is changed, and none is used for something else.

use crate::error::{Error, Result};
use crate::plan::SortKey;
use arrow::array::{Array, ArrayRef};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef, IntervalUnit, SchemaRef, TimeUnit};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LambdaExpr, LambdaVariable,
    LikeExpr, Literal, NegativeExpr, NotExpr, TryCastExpr,
};
use datafusion_physical_expr::{HigherOrderFunctionExpr, PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// An expression over a node's columns.
///
/// # Errors
/// `Plan` when a part of it is of a kind that has no text.
pub fn expression(expr: &Arc<dyn PhysicalExpr>) -> Result<String> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Ok(format!("#{}", column.index()));
    }
    if let Some(own) = expr.downcast_ref::<Literal>() {
        return literal(own.value());
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (expression(binary.left())?, expression(binary.right())?);
        return Ok(format!("({left} {} {right})", operator(*binary.op())?));
    }
    if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return call(function.name(), function.args(), function.return_type());
    }
    if let Some(function) = expr.downcast_ref::<HigherOrderFunctionExpr>() {
        return call(function.name(), function.args(), function.return_type());
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let word = if cast.cast_options().safe { "try_cast" } else { "cast" };
        return Ok(format!("{word}({} as {})", expression(cast.expr())?, data_type(cast.cast_type())?));
    }
    if let Some(cast) = expr.downcast_ref::<TryCastExpr>() {
        return Ok(format!("try_cast({} as {})", expression(cast.expr())?, data_type(cast.cast_type())?));
    }
    match of_conditions(expr)? {
        Some(text) => Ok(text),
        None => Err(unknown("an expression", expr)),
    }
}

/// The kinds that choose, and those that say yes or no.
fn of_conditions(expr: &Arc<dyn PhysicalExpr>) -> Result<Option<String>> {
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        return case_of(case).map(Some);
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        let (value, pattern) = (expression(like.expr())?, expression(like.pattern())?);
        return Ok(Some(format!("({value} {} {pattern})", like_word(like.negated(), like.case_insensitive()))));
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        let word = if list.negated() { "not in" } else { "in" };
        return Ok(Some(format!("({} {word} [{}])", expression(list.expr())?, expressions(list.list())?)));
    }
    if let Some(lambda) = expr.downcast_ref::<LambdaExpr>() {
        return Ok(Some(format!("lambda({},{})", lambda.params().len(), expression(lambda.body())?)));
    }
    if let Some(variable) = expr.downcast_ref::<LambdaVariable>() {
        return Ok(Some(format!("@{}", variable.index())));
    }
    let (word, of) = if let Some(not) = expr.downcast_ref::<NotExpr>() {
        ("not", not.arg())
    } else if let Some(null) = expr.downcast_ref::<IsNullExpr>() {
        ("is_null", null.arg())
    } else if let Some(not_null) = expr.downcast_ref::<IsNotNullExpr>() {
        ("is_not_null", not_null.arg())
    } else if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
        ("negative", negative.arg())
    } else {
        return Ok(None);
    };
    Ok(Some(format!("{word}({})", expression(of)?)))
}

fn case_of(case: &CaseExpr) -> Result<String> {
    let mut text = "case(".to_owned();
    if let Some(of) = case.expr() {
        text += &expression(of)?;
    }
    for (when, then) in case.when_then_expr() {
        text += &format!(" when {} then {}", expression(when)?, expression(then)?);
    }
    if let Some(otherwise) = case.else_expr() {
        text += &format!(" else {}", expression(otherwise)?);
    }
    Ok(text + ")")
}

fn call(name: &str, arguments: &[Arc<dyn PhysicalExpr>], returns: &DataType) -> Result<String> {
    Ok(format!("{}({}):{}", self::name(name), expressions(arguments)?, data_type(returns)?))
}

fn expressions(all: &[Arc<dyn PhysicalExpr>]) -> Result<String> {
    let all: Vec<String> = all.iter().map(expression).collect::<Result<_>>()?;
    Ok(all.join(","))
}

/// Keys with their types.
pub(crate) fn keys(keys: &[Arc<dyn PhysicalExpr>], input: &SchemaRef) -> Result<String> {
    let describe = |key: &Arc<dyn PhysicalExpr>| -> Result<String> {
        let of = key.data_type(input).map_err(|e| Error::Plan(e.to_string()))?;
        Ok(format!("{}: {}", expression(key)?, data_type(&of)?))
    };
    let keys: Vec<String> = keys.iter().map(describe).collect::<Result<_>>()?;
    Ok(format!("({})", keys.join(", ")))
}

/// One expression to order by.
pub(crate) fn sort_key(key: &SortKey) -> Result<String> {
    Ok(format!("{} {}", expression(&key.expr)?, direction(key.options)))
}

/// How an order goes, and where nulls stand.
#[must_use]
pub const fn direction(options: SortOptions) -> &'static str {
    match (options.descending, options.nulls_first) {
        (false, false) => "asc nulls last",
        (false, true) => "asc nulls first",
        (true, false) => "desc nulls last",
        (true, true) => "desc nulls first",
    }
}

/// The word of a LIKE.
#[must_use]
pub const fn like_word(negated: bool, case_insensitive: bool) -> &'static str {
    match (negated, case_insensitive) {
        (false, false) => "like",
        (true, false) => "not like",
        (false, true) => "ilike",
        (true, true) => "not ilike",
    }
}

/// The columns' types.
pub(crate) fn types(schema: &SchemaRef) -> Result<String> {
    let types: Vec<String> = schema.fields().iter().map(|field| data_type(field.data_type())).collect::<Result<_>>()?;
    Ok(types.join(", "))
}

/// An operator between two values.
///
/// # Errors
/// `Plan` for one that SQL does not make.
pub fn operator(operator: Operator) -> Result<&'static str> {
    use Operator as O;
    Ok(match operator {
        O::Eq => "=",
        O::NotEq => "<>",
        O::Lt => "<",
        O::LtEq => "<=",
        O::Gt => ">",
        O::GtEq => ">=",
        O::Plus => "+",
        O::Minus => "-",
        O::Multiply => "*",
        O::Divide => "/",
        O::IntegerDivide => "div",
        O::Modulo => "%",
        O::And => "and",
        O::Or => "or",
        O::IsDistinctFrom => "is distinct from",
        O::IsNotDistinctFrom => "is not distinct from",
        O::RegexMatch => "~",
        O::RegexIMatch => "~*",
        O::RegexNotMatch => "!~",
        O::RegexNotIMatch => "!~*",
        O::LikeMatch => "~~",
        O::ILikeMatch => "~~*",
        O::NotLikeMatch => "!~~",
        O::NotILikeMatch => "!~~*",
        O::BitwiseAnd => "&",
        O::BitwiseOr => "|",
        O::BitwiseXor => "xor",
        O::BitwiseShiftRight => ">>",
        O::BitwiseShiftLeft => "<<",
        O::StringConcat => "||",
        other => return Err(unknown("an operator", other)),
    })
}

/// A value and its type.
///
/// # Errors
/// `Plan` for a kind of value that has no text.
pub fn literal(value: &ScalarValue) -> Result<String> {
    use ScalarValue as V;
    let of = data_type(&value.data_type())?;
    if value.is_null() {
        return Ok(format!("null:{of}"));
    }
    let text = match value {
        V::List(list) => elements(&list.value(0))?,
        V::LargeList(list) => elements(&list.value(0))?,
        V::FixedSizeList(list) => elements(&list.value(0))?,
        V::Struct(row) => {
            let fields = row.columns().iter().map(|column| element(column, 0));
            format!("{{{}}}", fields.collect::<Result<Vec<_>>>()?.join(","))
        }
        V::Dictionary(_, value) => literal(value)?,
        other => plain(other).ok_or_else(|| unknown("a value of type", &of))?,
    };
    Ok(format!("{text}:{of}"))
}

fn elements(array: &ArrayRef) -> Result<String> {
    let elements: Vec<String> = (0..array.len()).map(|at| element(array, at)).collect::<Result<_>>()?;
    Ok(format!("[{}]", elements.join(",")))
}

fn element(array: &ArrayRef, at: usize) -> Result<String> {
    let value = ScalarValue::try_from_array(array, at);
    literal(&value.map_err(|e: DataFusionError| Error::Plan(e.to_string()))?)
}

/// A value that holds no other; none when it is null or of another kind. Floating-point numbers are
/// their bits.
fn plain(value: &ScalarValue) -> Option<String> {
    use ScalarValue as V;
    Some(match value {
        V::Boolean(v) => (if (*v)? { "true" } else { "false" }).to_owned(),
        V::Int8(v) => (*v)?.to_string(),
        V::Int16(v) => (*v)?.to_string(),
        V::Int32(v)
        | V::Date32(v)
        | V::Time32Second(v)
        | V::Time32Millisecond(v)
        | V::IntervalYearMonth(v)
        | V::Decimal32(v, _, _) => (*v)?.to_string(),
        V::Int64(v)
        | V::Date64(v)
        | V::Time64Microsecond(v)
        | V::Time64Nanosecond(v)
        | V::TimestampSecond(v, _)
        | V::TimestampMillisecond(v, _)
        | V::TimestampMicrosecond(v, _)
        | V::TimestampNanosecond(v, _)
        | V::DurationSecond(v)
        | V::DurationMillisecond(v)
        | V::DurationMicrosecond(v)
        | V::DurationNanosecond(v)
        | V::Decimal64(v, _, _) => (*v)?.to_string(),
        V::Decimal128(v, _, _) => (*v)?.to_string(),
        V::Decimal256(v, _, _) => hex(&(*v)?.to_be_bytes()),
        V::UInt8(v) => (*v)?.to_string(),
        V::UInt16(v) => (*v)?.to_string(),
        V::UInt32(v) => (*v)?.to_string(),
        V::UInt64(v) => (*v)?.to_string(),
        V::Float16(v) => format!("{:04x}", (*v)?.to_bits()),
        V::Float32(v) => format!("{:08x}", (*v)?.to_bits()),
        V::Float64(v) => format!("{:016x}", (*v)?.to_bits()),
        V::Utf8(v) | V::Utf8View(v) | V::LargeUtf8(v) => quoted(v.as_ref()?),
        V::Binary(v) | V::BinaryView(v) | V::LargeBinary(v) | V::FixedSizeBinary(_, v) => hex(v.as_ref()?),
        V::IntervalDayTime(v) => {
            let v = (*v)?;
            format!("{}d{}ms", v.days, v.milliseconds)
        }
        V::IntervalMonthDayNano(v) => {
            let v = (*v)?;
            format!("{}m{}d{}ns", v.months, v.days, v.nanoseconds)
        }
        _ => return None,
    })
}

/// A type.
///
/// # Errors
/// `Plan` for a type that no column of ours has.
pub fn data_type(of: &DataType) -> Result<String> {
    use DataType as T;
    let word = match of {
        T::Null => "null",
        T::Boolean => "boolean",
        T::Int8 => "int8",
        T::Int16 => "int16",
        T::Int32 => "int32",
        T::Int64 => "int64",
        T::UInt8 => "uint8",
        T::UInt16 => "uint16",
        T::UInt32 => "uint32",
        T::UInt64 => "uint64",
        T::Float16 => "float16",
        T::Float32 => "float32",
        T::Float64 => "float64",
        T::Date32 => "date32",
        T::Date64 => "date64",
        T::Binary => "binary",
        T::LargeBinary => "large_binary",
        T::BinaryView => "binary_view",
        T::Utf8 => "utf8",
        T::LargeUtf8 => "large_utf8",
        T::Utf8View => "utf8_view",
        T::Interval(IntervalUnit::YearMonth) => "interval(year_month)",
        T::Interval(IntervalUnit::DayTime) => "interval(day_time)",
        T::Interval(IntervalUnit::MonthDayNano) => "interval(month_day_nano)",
        other => return with_parts(other),
    };
    Ok(word.to_owned())
}

fn with_parts(of: &DataType) -> Result<String> {
    use DataType as T;
    let element = |field: &FieldRef| data_type(field.data_type());
    Ok(match of {
        T::Timestamp(of, None) => format!("timestamp({})", unit(*of)),
        T::Timestamp(of, Some(zone)) => format!("timestamp({},{})", unit(*of), quoted(zone)),
        T::Time32(of) => format!("time32({})", unit(*of)),
        T::Time64(of) => format!("time64({})", unit(*of)),
        T::Duration(of) => format!("duration({})", unit(*of)),
        T::Decimal32(precision, scale) => format!("decimal32({precision},{scale})"),
        T::Decimal64(precision, scale) => format!("decimal64({precision},{scale})"),
        T::Decimal128(precision, scale) => format!("decimal128({precision},{scale})"),
        T::Decimal256(precision, scale) => format!("decimal256({precision},{scale})"),
        T::FixedSizeBinary(length) => format!("fixed_size_binary({length})"),
        T::List(of) => format!("list({})", element(of)?),
        T::LargeList(of) => format!("large_list({})", element(of)?),
        T::FixedSizeList(of, length) => format!("fixed_size_list({},{length})", element(of)?),
        T::Map(entries, _) => format!("map({})", element(entries)?),
        T::Dictionary(keys, values) => format!("dictionary({},{})", data_type(keys)?, data_type(values)?),
        T::Struct(fields) => {
            let field =
                |field: &FieldRef| -> Result<String> { Ok(format!("{}:{}", quoted(field.name()), element(field)?)) };
            format!("struct({})", fields.iter().map(field).collect::<Result<Vec<_>>>()?.join(","))
        }
        other => return Err(unknown("a type", other)),
    })
}

const fn unit(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

/// The name of a function, which may hold any character.
#[must_use]
pub fn name(name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_plain { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What has no text here.
pub fn unknown(what: &str, it: impl std::fmt::Display) -> Error {
    Error::Plan(format!("{what} ({it}) by which no state can be found again: write it in other words"))
}

#[cfg(test)]
mod tests;
