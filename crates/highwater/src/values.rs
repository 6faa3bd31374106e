//! The short way of INSERT ... VALUES: rows of literals and parameters become columns at once,
//! without a plan. What is more than that takes the long way.

use crate::composite::misfit;
use crate::connection::invalid;
use crate::dml::{Target, assign};
use crate::error::Result;
use crate::parameters::Parameters;
use crate::point::is_text;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StructArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Expr, UnaryOperator, Value, ValueWithSpan};
use highwater_sql::input::parse_text_column;
use highwater_sql::statement::{Name, Query};
use highwater_sql::{exact_number, is_default, numeral, row_columns, row_of, rows_of};
use std::borrow::Cow;
use std::sync::Arc;

/// Digits that a double gives back as they were written.
const OF_DOUBLES: u8 = 15;

/// Columns and their places in the table.
pub(crate) type Given = (Vec<ArrayRef>, Vec<usize>);

/// One literal or parameter.
enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Scalar(&'a ScalarValue),
}

/// The columns that `query` gives if it is a list of rows of nothing but literals and parameters.
pub(crate) fn values(target: &Target, names: &[Name], query: &Query, parameters: &Parameters) -> Result<Option<Given>> {
    let Some(rows) = rows_of(query) else { return Ok(None) };
    let width = rows.first().map_or(0, |row| row.len());
    let places = target.places(names, width)?;
    for row in &rows {
        if row.len() != width {
            return Err(invalid("42601", "VALUES lists must all be the same length", None));
        }
    }
    if width > places.len() {
        return Err(invalid("42601", "INSERT has more expressions than target columns", None));
    }
    if width < places.len() {
        return Err(invalid("42601", "INSERT has more target columns than expressions", None));
    }
    let mut arrays = Vec::with_capacity(width);
    let mut kept = Vec::with_capacity(width);
    for (column, place) in places.iter().enumerate() {
        let exprs: Vec<&Expr> = rows.iter().map(|row| &row[column]).collect();
        if exprs.iter().all(|expr| is_default(expr)) {
            continue;
        }
        let data_type = target.schema().field(*place).data_type();
        let Some(array) = column_given(&exprs, data_type, parameters)? else { return Ok(None) };
        arrays.push(array);
        kept.push(*place);
    }
    if arrays.is_empty() && rows.len() != 1 {
        return Ok(None);
    }
    Ok(Some((arrays, kept)))
}

/// A column of nothing but literals and parameters, or of rows of them; none when something else is there.
fn column_given(exprs: &[&Expr], data_type: &DataType, parameters: &Parameters) -> Result<Option<ArrayRef>> {
    if let DataType::Struct(fields) = data_type
        && exprs.iter().any(|expr| row_columns(expr).is_some())
    {
        return rows_given(exprs, fields, parameters);
    }
    let cells: Option<Vec<Cell<'_>>> = exprs.iter().map(|expr| cell(expr, data_type, parameters)).collect();
    match cells {
        Some(cells) => column_of(&cells, data_type),
        None => Ok(None),
    }
}

/// Composite values that are written as rows, or null.
fn rows_given(exprs: &[&Expr], fields: &Fields, parameters: &Parameters) -> Result<Option<ArrayRef>> {
    let null = Expr::Value(Value::Null.into());
    let mut rows = Vec::with_capacity(exprs.len());
    for expr in exprs {
        match row_columns(expr) {
            Some(row) if row.len() == fields.len() => rows.push(Some(row)),
            Some(row) => return Err(misfit(row.len(), fields)),
            None if **expr == null => rows.push(None),
            None => return Ok(None),
        }
    }
    let mut columns = Vec::with_capacity(fields.len());
    for (at, field) in fields.iter().enumerate() {
        let given: Vec<&Expr> = rows.iter().map(|row| row.as_ref().map_or(&null, |row| &row[at])).collect();
        let Some(column) = column_given(&given, field.data_type(), parameters)? else { return Ok(None) };
        columns.push(column);
    }
    let valid = NullBuffer::from(rows.iter().map(Option::is_some).collect::<Vec<bool>>());
    Ok(Some(Arc::new(StructArray::try_new(fields.clone(), columns, Some(valid))?)))
}

fn cell<'a>(expr: &'a Expr, data_type: &DataType, parameters: &'a Parameters) -> Option<Cell<'a>> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Null => Some(Cell::Null),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                Some(Cell::Text(Cow::Borrowed(text)))
            }
            Value::Number(text, _) => number(text, data_type).then_some(Cell::Text(Cow::Borrowed(text))),
            Value::Boolean(value) if *data_type == DataType::Boolean => {
                Some(Cell::Text(Cow::Borrowed(if *value { "t" } else { "f" })))
            }
            Value::Placeholder(name) => parameters.named(name).map(|value| match value {
                value if value.is_null() => Cell::Null,
                value => Cell::Scalar(value),
            }),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match cell(expr, data_type, parameters)? {
            Cell::Text(text) if matches!(**expr, Expr::Value(_)) => Some(Cell::Text(Cow::Owned(format!("-{text}")))),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a number's text is read as a value of the type as it stands: fractions are rounded, and
/// that is for the long way.
fn number(text: &str, data_type: &DataType) -> bool {
    let is_whole = text.bytes().all(|b| b.is_ascii_digit());
    match data_type {
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => true,
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Utf8 => is_whole,
        _ => false,
    }
}

/// A number that is written out as a column takes it that is none of floating point: it is numeric, whose halves are
/// rounded away from zero for whole numbers, and which has all of its digits. None for whatever else stands there.
pub(crate) fn as_taken(expr: &Expr, data_type: &DataType) -> Option<Expr> {
    match expr {
        Expr::Value(_) | Expr::UnaryOp { .. } if matches!(data_type, DataType::Decimal128(..)) => exact_number(expr),
        Expr::Value(value) if data_type.is_signed_integer() => {
            let Value::Number(text, is_long) = &value.value else { return None };
            let rounded = ValueWithSpan { value: Value::Number(rounded(text)?, *is_long), span: value.span };
            Some(Expr::Value(rounded))
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            let expr = Box::new(as_taken(expr, data_type)?);
            Some(Expr::UnaryOp { op: UnaryOperator::Minus, expr })
        }
        Expr::Nested(expr) => as_taken(expr, data_type),
        Expr::Array(array) => {
            let DataType::List(of) = data_type else { return None };
            let element = |expr: &Expr| as_taken(expr, of.data_type()).unwrap_or_else(|| expr.clone());
            let elem = array.elem.iter().map(element).collect();
            Some(Expr::Array(ast::Array { elem, named: array.named }))
        }
        row => {
            let DataType::Struct(fields) = data_type else { return None };
            let columns = row_columns(row).filter(|columns| columns.len() == fields.len())?;
            let column = |(expr, field): (Expr, &FieldRef)| as_taken(&expr, field.data_type()).unwrap_or(expr);
            Some(row_of(columns.into_iter().zip(fields).map(column).collect()))
        }
    }
}

/// Gives the texts that are written out in a column of several rows the column's type, where all else in it tells that
/// it is of that type, or is of a moment as the column is: rows of VALUES have one type.
pub(crate) fn type_texts(values: &mut ast::Values, column: usize, data_type: &DataType) {
    let Some(to) = sql_type(data_type) else { return };
    let (mut has_text, mut has_other) = (false, false);
    for expr in values.rows.iter().filter_map(|row| row.content.get(column)) {
        if is_quoted(expr) {
            has_text = true;
        } else if let Some(of) = type_of(expr) {
            let is_taken = of == to || is_moment(&of) && is_moment(&to);
            if !is_taken {
                return;
            }
            has_other = true;
        } else if !matches!(expr, Expr::Value(ValueWithSpan { value: Value::Null, .. })) {
            return;
        }
    }
    if !has_text || !has_other {
        return;
    }
    for expr in values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)) {
        if is_quoted(expr) || is_moment(&to) && type_of(expr).is_some() {
            let (kind, expr_of) = (ast::CastKind::DoubleColon, Box::new(expr.clone()));
            *expr = Expr::Cast { kind, expr: expr_of, data_type: to.clone(), array: false, format: None };
        }
    }
}

/// A text that is written out.
const fn is_quoted(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. }))
}

/// A date or a timestamp, each of which is assigned to the others as it is cast.
const fn is_moment(of: &ast::DataType) -> bool {
    matches!(of, ast::DataType::Date | ast::DataType::Timestamp(..))
}

/// A column's type as SQL has it, where a text is cast to it as it is assigned.
fn sql_type(of: &DataType) -> Option<ast::DataType> {
    Some(match of {
        DataType::Date32 => ast::DataType::Date,
        DataType::Timestamp(TimeUnit::Microsecond, None) => timestamp(ast::TimezoneInfo::None),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => timestamp(ast::TimezoneInfo::Tz),
        DataType::Binary => ast::DataType::Bytea,
        DataType::Boolean => ast::DataType::Boolean,
        _ => return None,
    })
}

const fn timestamp(zone: ast::TimezoneInfo) -> ast::DataType {
    ast::DataType::Timestamp(None, zone)
}

/// The type of an expression that tells it, if it is one of those that [`sql_type`] gives.
fn type_of(expr: &Expr) -> Option<ast::DataType> {
    use ast::TimezoneInfo::{None as Unzoned, Tz, WithTimeZone, WithoutTimeZone};
    let told = match expr {
        Expr::Cast { data_type, .. } => data_type,
        Expr::TypedString(typed) => &typed.data_type,
        Expr::Value(ValueWithSpan { value: Value::Boolean(_), .. }) => return Some(ast::DataType::Boolean),
        Expr::Function(function) => {
            return match function.name.to_string().to_lowercase().as_str() {
                "now" | "current_timestamp" => Some(timestamp(Tz)),
                "localtimestamp" => Some(timestamp(Unzoned)),
                "current_date" => Some(ast::DataType::Date),
                _ => None,
            };
        }
        _ => return None,
    };
    match told {
        ast::DataType::Date | ast::DataType::Bytea => Some(told.clone()),
        ast::DataType::Boolean | ast::DataType::Bool => Some(ast::DataType::Boolean),
        ast::DataType::Timestamp(_, WithTimeZone | Tz) => Some(timestamp(Tz)),
        ast::DataType::Timestamp(_, Unzoned | WithoutTimeZone) => Some(timestamp(Unzoned)),
        _ => None,
    }
}

/// The digits of a number that has some after its point, and no exponent.
fn rounded(text: &str) -> Option<String> {
    let (whole, fraction) = text.split_once('.')?;
    let is_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let number: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let is_up = fraction.bytes().next().is_some_and(|digit| digit >= b'5');
    number.checked_add(i128::from(is_up)).map(|number| number.to_string())
}

fn column_of(cells: &[Cell<'_>], data_type: &DataType) -> Result<Option<ArrayRef>> {
    if cells.iter().all(|cell| matches!(cell, Cell::Null)) {
        return Ok(Some(new_null_array(data_type, cells.len())));
    }
    if cells.iter().all(|cell| !matches!(cell, Cell::Scalar(_))) {
        let texts: StringArray = cells
            .iter()
            .map(|cell| match cell {
                Cell::Text(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        let parsed = parse_text_column(&texts, data_type);
        return Ok(Some(parsed.map_err(|bad| invalid(bad.sqlstate, bad.message, None))?));
    }
    if !cells.iter().any(|cell| matches!(cell, Cell::Scalar(value) if !matches!(value, ScalarValue::Decimal128(..)))) {
        return numerics(cells, data_type).map(Some);
    }
    let first = cells.iter().find_map(|cell| match cell {
        Cell::Scalar(value) => Some(value.data_type()),
        _ => None,
    });
    let Some(own) = first else { return Ok(None) };
    let null = ScalarValue::try_from(&own)?;
    let values: Option<Vec<ScalarValue>> = cells
        .iter()
        .map(|cell| match cell {
            Cell::Null => Some(null.clone()),
            Cell::Scalar(value) if value.data_type() == own => Some((*value).clone()),
            _ => None,
        })
        .collect();
    let Some(values) = values else { return Ok(None) };
    let array = ScalarValue::iter_to_array(values)?;
    if own == DataType::Utf8 && *data_type != DataType::Utf8 {
        let texts = array.as_string::<i32>();
        let parsed = parse_text_column(texts, data_type);
        return Ok(Some(parsed.map_err(|bad| invalid(bad.sqlstate, bad.message, None))?));
    }
    assign(&array, data_type).map(Some)
}

/// Literals, and parameters that are numerics, each of which has digits of its own.
fn numerics(cells: &[Cell<'_>], data_type: &DataType) -> Result<ArrayRef> {
    let value = |cell: &Cell<'_>| -> Result<ArrayRef> {
        match cell {
            Cell::Null => Ok(new_null_array(data_type, 1)),
            Cell::Text(text) => parse_text_column(&StringArray::from(vec![&**text]), data_type)
                .map_err(|bad| invalid(bad.sqlstate, bad.message, None)),
            Cell::Scalar(value) => assign(&value.to_array()?, data_type),
        }
    };
    let values = cells.iter().map(value).collect::<Result<Vec<ArrayRef>>>()?;
    let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
    Ok(concat(&values)?)
}

/// One literal or parameter as a column of one row; none when it is something else or does not fit.
pub(crate) fn value(expr: &Expr, data_type: &DataType, parameters: &Parameters) -> Option<ArrayRef> {
    column_of(&[cell(expr, data_type, parameters)?], data_type).ok().flatten()
}

/// The same, as a value that a column of the type can be equal to.
pub(crate) fn exact_value(expr: &Expr, data_type: &DataType, parameters: &Parameters) -> Option<ArrayRef> {
    // A text beside a number is compared as a number, which several texts are.
    if *data_type == DataType::Utf8 && !is_text(expr) {
        return None;
    }
    let cell = cell(expr, data_type, parameters)?;
    if is_exact(&cell, data_type) { column_of(&[cell], data_type).ok().flatten() } else { None }
}

/// Whether a value is the same in the type: one that an assignment would round is another one.
fn is_exact(cell: &Cell<'_>, data_type: &DataType) -> bool {
    match cell {
        Cell::Null => true,
        Cell::Text(text) => is_exact_text(text, data_type),
        Cell::Scalar(ScalarValue::Utf8(Some(text))) => is_exact_text(text, data_type),
        Cell::Scalar(value) if !is_told_apart(value, data_type) => false,
        Cell::Scalar(value) => {
            let own = value.data_type();
            let back = value.cast_to(data_type).and_then(|there| there.cast_to(&own));
            own == *data_type || back.is_ok_and(|back| back == **value)
        }
    }
}

/// From here on a double stands for several whole numbers.
const OF_WHOLE_DOUBLES: f64 = 9_007_199_254_740_992.0;

/// Whether a value that a type's are compared with can be equal to one of them only: numerics beside a double are
/// doubles, of which one may stand for several of more digits, and texts beside a number are numbers.
fn is_told_apart(value: &ScalarValue, data_type: &DataType) -> bool {
    match (value, data_type) {
        (ScalarValue::Float32(_), DataType::Decimal128(..)) | (_, DataType::Utf8) => false,
        (ScalarValue::Float64(_), DataType::Decimal128(precision, _)) => *precision <= OF_DOUBLES,
        (ScalarValue::Float64(Some(value)), DataType::Int64) => value.abs() < OF_WHOLE_DOUBLES,
        (ScalarValue::Float32(Some(value)), DataType::Int64) => f64::from(value.abs()) < OF_WHOLE_DOUBLES,
        _ => true,
    }
}

fn is_exact_text(text: &str, data_type: &DataType) -> bool {
    match data_type {
        // 0.1 is a numeric, which no real is.
        DataType::Float32 => false,
        // Each element may be rounded.
        DataType::List(of) => !matches!(of.data_type(), DataType::Float32 | DataType::Decimal128(..)),
        DataType::Struct(_) => false,
        DataType::Decimal128(_, scale) => {
            let digits = text.split_once('.').map_or("", |(_, digits)| digits).trim_end_matches('0');
            !text.contains(['e', 'E']) && digits.len() <= usize::from(scale.unsigned_abs())
        }
        _ => true,
    }
}

/// One literal as the value of a parameter of a type; none when it is something else or does not fit.
pub(crate) fn parameter(expr: &Expr, data_type: &DataType) -> Option<ScalarValue> {
    match cell(expr, data_type, &Parameters::none())? {
        Cell::Null => ScalarValue::try_from(data_type).ok(),
        Cell::Text(text) => read_text(&text, data_type).ok(),
        Cell::Scalar(_) => None,
    }
}

/// A value of a type from its text, as PostgreSQL's clients write it. A numeric keeps its own digits, and so do
/// those of an array, whatever the type says of them.
///
/// # Errors
/// `Sql` with 22P02, 22003 or their like when it is none.
pub fn read_text(text: &str, data_type: &DataType) -> Result<ScalarValue> {
    if let DataType::Decimal128(..) = data_type
        && let Some(value) = numeral(text)
    {
        return Ok(value);
    }
    let own = numeric_array(text, data_type);
    let data_type = own.as_ref().unwrap_or(data_type);
    let parsed = parse_text_column(&StringArray::from(vec![text]), &plain(data_type));
    let parsed = parsed.map_err(|bad| invalid(bad.sqlstate, bad.message, None))?;
    Ok(ScalarValue::try_from_array(&assign(&parsed, data_type)?, 0)?)
}

/// The type of an array of numerics that has all digits of each of them; none when a text is no such array.
fn numeric_array(text: &str, data_type: &DataType) -> Option<DataType> {
    let DataType::List(element) = data_type else { return None };
    let list_of = |of| DataType::List(Arc::new(element.as_ref().clone().with_data_type(of)));
    if !matches!(element.data_type(), DataType::Decimal128(..)) {
        return None;
    }
    let texts = parse_text_column(&StringArray::from(vec![text]), &list_of(DataType::Utf8)).ok()?;
    let (mut before, mut behind) = (0_u8, 0_u8);
    for text in texts.as_list::<i32>().values().as_string::<i32>().iter().flatten() {
        let ScalarValue::Decimal128(_, precision, scale) = numeral(text)? else { return None };
        let scale = scale.unsigned_abs();
        before = before.max(precision.saturating_sub(scale));
        behind = behind.max(scale);
    }
    // One that is too large then is refused when it is read.
    let precision = (before + behind).min(38);
    (precision > 0).then(|| list_of(DataType::Decimal128(precision, behind as i8)))
}

/// The type among those that tables have which is read for another one of Arrow's.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Null | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::List(of) => DataType::List(Arc::new(of.as_ref().clone().with_data_type(plain(of.data_type())))),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_the_digits_of_numerics() {
        let money = DataType::Decimal128(12, 2);
        assert_eq!(read_text("1.005", &money).expect("read"), ScalarValue::Decimal128(Some(1005), 4, 3));
        assert_eq!(read_text("20", &money).expect("read"), ScalarValue::Decimal128(Some(20), 2, 0));
        assert!(read_text("NaN", &money).is_err());
        let array = |of| DataType::List(Arc::new(arrow::datatypes::Field::new_list_field(of, true)));
        let read = |text: &str| read_text(text, &array(DataType::Decimal128(12, 2))).map(|value| value.data_type());
        assert_eq!(read("{1.005,NULL,200}").expect("read"), array(DataType::Decimal128(6, 3)));
        assert_eq!(read("{}").expect("read"), array(DataType::Decimal128(12, 2)));
        assert!(read(&format!("{{{}, 0.5}}", "9".repeat(38))).is_err());
    }

    #[test]
    fn numerics_of_several_scales_become_one_column() {
        let own = [ScalarValue::Decimal128(Some(1005), 4, 3), ScalarValue::Decimal128(Some(2), 1, 0)];
        let cells = [Cell::Scalar(&own[0]), Cell::Null, Cell::Text(Cow::Borrowed("3.5")), Cell::Scalar(&own[1])];
        let column = column_of(&cells, &DataType::Decimal128(12, 2)).expect("fits").expect("a column");
        let values = column.as_primitive::<arrow::datatypes::Decimal128Type>();
        assert_eq!(values.iter().collect::<Vec<_>>(), [Some(101), None, Some(350), Some(200)]);
        let whole = column_of(&cells, &DataType::Int32);
        assert!(whole.is_err(), "3.5 is no text of an integer");
    }

    #[test]
    fn written_fractions_are_rounded_by_their_digits() {
        let of = |text: &str| rounded(text).unwrap_or_default();
        assert_eq!(["2.5", "2.49", ".5", "9007199254740993.5", "7."].map(of), ["3", "2", "1", "9007199254740994", "7"]);
        assert_eq!(["7", "2.5e1", "1e3"].map(of), ["", "", ""]);
        assert_eq!(rounded(&format!("{}.5", i128::MAX)), None);
    }
}
