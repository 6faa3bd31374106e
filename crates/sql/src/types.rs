//! PostgreSQL's type names and the Arrow types that stand for them.

use crate::error::{Error, Kind, Result};
use crate::text::Position;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef, TimeUnit};
use datafusion::common::{DataFusionError, not_impl_err};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, TimezoneInfo};
use std::sync::Arc;

/// The type of jsonb, which nothing else has: see `jsonb`.
pub const JSONB: DataType = DataType::LargeUtf8;

/// Digits of a `numeric` without precision.
const NUMERIC: (u8, i8) = (38, 10);

/// The type `numeric` without precision.
pub(crate) const fn numeric() -> DataType {
    DataType::Decimal128(NUMERIC.0, NUMERIC.1)
}

/// The Arrow type of a column or cast.
///
/// # Errors
/// `Unsupported` for types that exist but are not kept yet, `Unknown` for the rest.
pub fn arrow_type(sql: &SqlType, at: Option<Position>) -> Result<DataType> {
    match scalar(sql) {
        Some(known) => Ok(known),
        None => refused(sql, at),
    }
}

fn scalar(sql: &SqlType) -> Option<DataType> {
    Some(match sql {
        SqlType::Bool | SqlType::Boolean => DataType::Boolean,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::DoublePrecision | SqlType::Float8 | SqlType::Double(ExactNumberInfo::None) => DataType::Float64,
        SqlType::Float(ExactNumberInfo::Precision(bits)) if *bits <= 24 => DataType::Float32,
        SqlType::Float(_) => DataType::Float64,
        SqlType::Numeric(info) | SqlType::Decimal(info) | SqlType::Dec(info) => return decimal(info),
        SqlType::Varchar(None)
        | SqlType::CharacterVarying(None)
        | SqlType::CharVarying(None)
        | SqlType::Text
        | SqlType::String(_) => DataType::Utf8,
        SqlType::JSONB | SqlType::JSON => JSONB,
        SqlType::Bytea => DataType::Binary,
        SqlType::Date => DataType::Date32,
        SqlType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Time64(TimeUnit::Microsecond),
        SqlType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        SqlType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        SqlType::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        SqlType::Array(ArrayElemTypeDef::SquareBracket(of, _)) if !matches!(**of, SqlType::Array(_)) => {
            array_of(scalar(of)?)
        }
        _ => return None,
    })
}

/// The type of arrays of one dimension; how many elements they have is no part of it.
pub(crate) fn array_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

fn decimal(info: &ExactNumberInfo) -> Option<DataType> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => NUMERIC,
        ExactNumberInfo::Precision(p) => (u8::try_from(p).ok()?, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (u8::try_from(p).ok()?, i8::try_from(s).ok()?),
    };
    let fits = (1..=38).contains(&precision) && scale >= 0 && scale.unsigned_abs() <= precision;
    fits.then_some(DataType::Decimal128(precision, scale))
}

fn refused(sql: &SqlType, at: Option<Position>) -> Result<DataType> {
    let hint = match sql {
        SqlType::Array(ArrayElemTypeDef::SquareBracket(of, _)) if !matches!(**of, SqlType::Array(_)) => {
            return refused(of, at);
        }
        SqlType::Array(_) => "an array has one dimension and is written as int[]",
        SqlType::Struct(..) | SqlType::Tuple(_) | SqlType::Map(..) => "give its fields columns of their own",
        SqlType::Numeric(_) | SqlType::Decimal(_) | SqlType::Dec(_) => {
            "a numeric has 1 to 38 digits, of which 0 or more after the point"
        }
        SqlType::Varchar(_) | SqlType::CharacterVarying(_) | SqlType::CharVarying(_) => "leave the length out",
        SqlType::Char(_) | SqlType::Character(_) | SqlType::Uuid => "use varchar",
        SqlType::Time(..) => "use time without time zone",
        _ => return Err(Error::Unknown { kind: Kind::Type, name: sql.to_string(), position: at }),
    };
    Err(Error::unsupported(format!("type {sql}"), hint, at))
}

/// Whether a type is jsonb.
pub(crate) const fn is_jsonb(arrow: &DataType) -> bool {
    matches!(arrow, DataType::LargeUtf8)
}

/// Whether a type is one of texts.
pub(crate) const fn is_text(arrow: &DataType) -> bool {
    matches!(arrow, DataType::Utf8 | DataType::Utf8View)
}

/// Whether columns of sources and tables can have an Arrow type.
#[must_use]
pub fn is_kept(arrow: &DataType) -> bool {
    match arrow {
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond, None)
        | DataType::Interval(IntervalUnit::MonthDayNano) => true,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => zone.as_ref() == "UTC",
        DataType::Decimal128(precision, scale) => {
            (1..=38).contains(precision) && *scale >= 0 && scale.unsigned_abs() <= *precision
        }
        DataType::List(of) => !of.data_type().is_nested() && is_kept(of.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_kept(field.data_type())),
        _ => false,
    }
}

/// The type that a view's column has instead of one that PostgreSQL does not have; none when it has it.
pub(crate) fn plain(arrow: &DataType) -> Option<DataType> {
    match arrow {
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::BinaryView | DataType::LargeBinary => Some(DataType::Binary),
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => Some(DataType::Time64(TimeUnit::Microsecond)),
        DataType::UInt8 => Some(DataType::Int16),
        DataType::UInt16 => Some(DataType::Int32),
        DataType::UInt32 | DataType::UInt64 => Some(DataType::Int64),
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
            let same = array_of(plain(of.data_type()).unwrap_or_else(|| of.data_type().clone()));
            (same != *arrow).then_some(same)
        }
        _ => None,
    }
}

/// Columns with types that PostgreSQL has; the same ones where they have them.
#[must_use]
pub fn plain_columns(schema: &SchemaRef) -> SchemaRef {
    if schema.fields().iter().all(|field| plain(field.data_type()).is_none()) {
        return Arc::clone(schema);
    }
    let field = |field: &FieldRef| match plain(field.data_type()) {
        Some(of) => Arc::new(field.as_ref().clone().with_data_type(of)),
        None => Arc::clone(field),
    };
    let fields: Vec<FieldRef> = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// PostgreSQL's name of an Arrow type.
#[must_use]
pub fn pg_name(arrow: &DataType) -> String {
    match arrow {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 => "numeric".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => format!("numeric({p},{s})"),
        DataType::Utf8 | DataType::Utf8View => "varchar".into(),
        DataType::LargeUtf8 => "jsonb".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::List(item) | DataType::LargeList(item) => format!("{}[]", pg_name(item.data_type())),
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| format!("{} {}", field.name(), pg_name(field.data_type()));
            format!("struct<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}

/// A type as PostgreSQL's catalogs call it: in the standard's words, without digits.
#[must_use]
pub fn catalog_name(arrow: &DataType) -> String {
    let words = match arrow {
        DataType::Null => "unknown",
        DataType::Decimal128(..) | DataType::Decimal256(..) => "numeric",
        DataType::Utf8 | DataType::Utf8View => "text",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::List(item) | DataType::LargeList(item) => return format!("{}[]", catalog_name(item.data_type())),
        other => return pg_name(other),
    };
    words.to_owned()
}

/// Gives casts in queries the same types as columns of sources have.
#[derive(Debug)]
pub(crate) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &SqlType) -> Result<Option<FieldRef>, DataFusionError> {
        if let SqlType::Array(ArrayElemTypeDef::SquareBracket(of, _)) = sql
            && matches!(**of, SqlType::Array(_))
        {
            return not_impl_err!("an array of more than one dimension");
        }
        Ok(scalar(sql).map(|arrow| Arc::new(Field::new("", arrow, true))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::parser::Parser;

    fn arrow(name: &str) -> Result<DataType> {
        let sql = Parser::new(&crate::text::DIALECT)
            .try_with_sql(name)
            .and_then(|mut p| p.parse_data_type())
            .expect("a type");
        arrow_type(&sql, None)
    }

    #[test]
    fn names_and_types_agree_in_both_directions() {
        for (written, shown) in [
            ("boolean", "boolean"),
            ("smallint", "smallint"),
            ("int", "integer"),
            ("int8", "bigint"),
            ("real", "real"),
            ("float", "double precision"),
            ("double precision", "double precision"),
            ("numeric", "numeric(38,10)"),
            ("decimal(12, 2)", "numeric(12,2)"),
            ("text", "varchar"),
            ("varchar", "varchar"),
            ("character varying", "varchar"),
            ("bytea", "bytea"),
            ("jsonb", "jsonb"),
            ("json", "jsonb"),
            ("jsonb[]", "jsonb[]"),
            ("date", "date"),
            ("time", "time"),
            ("timestamp", "timestamp"),
            ("timestamp without time zone", "timestamp"),
            ("timestamptz", "timestamptz"),
            ("timestamp with time zone", "timestamptz"),
            ("interval", "interval"),
            ("int[]", "integer[]"),
            ("text[3]", "varchar[]"),
            ("numeric(12, 2)[]", "numeric(12,2)[]"),
        ] {
            assert_eq!(pg_name(&arrow(written).expect(written)), shown, "{written}");
            assert!(is_kept(&arrow(written).expect(written)), "{written}");
        }
    }

    #[test]
    fn other_types_are_refused_by_name() {
        for (written, sqlstate) in [
            ("int[][]", "0A000"),
            ("uuid[]", "0A000"),
            ("flurb[]", "42704"),
            ("numeric(40, 2)", "0A000"),
            ("varchar(10)", "0A000"),
            ("uuid", "0A000"),
            ("flurb", "42704"),
        ] {
            let error = arrow(written).expect_err(written);
            assert_eq!(error.sqlstate(), sqlstate, "{written}: {error}");
        }
    }
}
