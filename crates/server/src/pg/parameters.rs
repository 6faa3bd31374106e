//! The values that a client binds to a statement's parameters: as text or binary, of a type that the
//! client tells or leaves to the statement.

use super::encode::pg_type;
use super::extended::Prepared;
use super::{binary, errors};
use arrow::array::AsArray as _;
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use arrow_pg::datatypes::df::deserialize_parameters;
use bytes::Bytes;
use datafusion_common::{ParamValues, ScalarValue};
use highwater::Parameters;
use pgwire::api::Type;
use pgwire::api::portal::Portal;
use pgwire::api::stmt::StoredStatement;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::extendedquery::Bind;
use std::sync::Arc;
use tokio_postgres::types::Kind;

/// A numeric of which nothing more is known: its values have digits of their own.
const NUMERIC: DataType = DataType::Decimal128(38, 10);

/// The Arrow type of a parameter whose type the client tells; none leaves it to the statement.
pub(super) fn told(told: &Type) -> Option<DataType> {
    Some(match *told {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => NUMERIC,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => DataType::Utf8,
        Type::JSONB | Type::JSON => DataType::LargeUtf8,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        _ => match told.kind() {
            Kind::Array(of) => DataType::List(Arc::new(Field::new_list_field(self::told(of)?, true))),
            _ => return None,
        },
    })
}

/// The values of a portal's parameters.
pub(super) fn bound(portal: &Portal<Prepared>, types: &[DataType]) -> PgWireResult<Parameters> {
    if portal.parameter_len() != types.len() {
        let message = format!(
            "bind message supplies {} parameters, but the statement requires {}",
            portal.parameter_len(),
            types.len()
        );
        return Err(errors::error("08P01", message));
    }
    let whole = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    let value = |(at, data_type): (usize, &DataType)| match data_type {
        // The numbers of the catalog's objects are kept as whole numbers.
        DataType::List(of) if of.data_type() == &DataType::UInt32 => value(portal, at, &whole),
        data_type => value(portal, at, data_type),
    };
    Ok(Parameters(types.iter().enumerate().map(value).collect::<PgWireResult<_>>()?))
}

fn value(portal: &Portal<Prepared>, at: usize, data_type: &DataType) -> PgWireResult<ScalarValue> {
    let told = portal.statement.parameter_types.get(at).cloned().flatten();
    match portal.parameters.get(at) {
        Some(Some(given)) if portal.parameter_format.is_binary(at) => {
            let of = told.clone().map_or_else(|| pg_type(data_type), Ok)?;
            if of == Type::INTERVAL && !binary::is_kept_interval(given) {
                return Err(errors::error("22008", "interval out of range"));
            }
            let numeric = match of {
                Type::NUMERIC => Some(binary::numeric_text(given)),
                Type::NUMERIC_ARRAY => Some(binary::numeric_array_text(given)),
                _ => None,
            };
            if let Some(text) = numeric {
                return read(&text.ok_or_else(|| errors::error("22P03", "incorrect binary data format"))?, data_type);
            }
            if matches!(told, Some(Type::JSONB | Type::JSON)) || told.is_none() && *data_type == DataType::LargeUtf8 {
                let text = match given.split_first() {
                    _ if told == Some(Type::JSON) => &given[..],
                    Some((&binary::JSONB_VERSION, text)) => text,
                    _ => return Err(errors::error("22P03", "unsupported jsonb version number")),
                };
                return read(as_text(text)?, data_type);
            }
            if *data_type == DataType::Utf8 && told.as_ref().is_none_or(|told| self::told(told) == Some(DataType::Utf8))
            {
                return read(as_text(given)?, data_type);
            }
            let value = decoded(portal, told, given, data_type)?;
            if has_zero(&value) { Err(errors::no_text()) } else { Ok(value) }
        }
        Some(Some(given)) => read(as_text(given)?, data_type),
        _ => ScalarValue::try_from(data_type).map_err(|error| errors::error("XX000", error.to_string())),
    }
}

fn as_text(bytes: &[u8]) -> PgWireResult<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => Ok(text),
        _ => Err(errors::no_text()),
    }
}

/// Whether one of an array of texts has the byte that none may have.
fn has_zero(value: &ScalarValue) -> bool {
    let ScalarValue::List(array) = value else { return false };
    let texts = array.values().as_string_opt::<i32>();
    texts.is_some_and(|texts| texts.iter().flatten().any(|text| text.contains('\0')))
}

fn read(text: &str, data_type: &DataType) -> PgWireResult<ScalarValue> {
    highwater::read_text(text, data_type).map_err(|error| errors::of(&error, 0))
}

/// A value in binary form, by arrow-pg, which reads all parameters of a portal: here of one with one.
fn decoded(
    portal: &Portal<Prepared>,
    told: Option<Type>,
    given: &Bytes,
    data_type: &DataType,
) -> PgWireResult<ScalarValue> {
    let told = match told {
        Some(told) => told,
        None => pg_type(data_type)?,
    };
    let statement = StoredStatement::new(String::new(), portal.statement.statement.clone(), vec![Some(told)]);
    let bind = Bind::new(None, None, vec![1], vec![Some(given.clone())], Vec::new());
    let alone = Portal::try_new(&bind, Arc::new(statement))?;
    let read = deserialize_parameters(&alone, &[Some(data_type)]).map_err(|error| match error {
        PgWireError::FailedToParseParameter(_) => errors::error("22P03", "incorrect binary data format"),
        error => error,
    });
    match read? {
        ParamValues::List(mut values) if values.len() == 1 => Ok(values.remove(0).value),
        _ => Err(errors::error("XX000", "a parameter came as something else")),
    }
}
