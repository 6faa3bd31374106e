//! PostgreSQL's functions about its catalog that the crate datafusion-pg-catalog does not have, or
//! answers for PostgreSQL.

use crate::connection::{Connection, SERVER_VERSION};
use crate::pg_catalog::Definitions;
use arrow::array::{Array as _, ArrayRef, AsArray, Int32Array, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use highwater_sql::DataError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Functions that are true of whatever they are asked about: there is one schema to see.
const TRUE: [&str; 10] = [
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_opfamily_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_type_is_visible",
];

/// Functions that know nothing: nothing has comments or sequences, and sizes and rules are not PostgreSQL's.
const NOTHING: [(&str, DataType); 10] = [
    ("col_description", DataType::Utf8),
    ("obj_description", DataType::Utf8),
    ("shobj_description", DataType::Utf8),
    ("pg_get_function_sqlbody", DataType::Utf8),
    ("pg_get_ruledef", DataType::Utf8),
    ("pg_get_serial_sequence", DataType::Utf8),
    ("pg_tablespace_location", DataType::Utf8),
    ("pg_size_pretty", DataType::Utf8),
    ("pg_table_size", DataType::Int64),
    ("pg_database_size", DataType::Int64),
];

/// Functions that fail for a name, with the SQLSTATE and the word for what is not there.
pub(crate) const NO_RELATION: &str = "hw_no_relation";
pub(crate) const NO_TYPE: &str = "hw_no_type";
const MISSING: [(&str, &str, &str); 2] = [(NO_RELATION, "42P01", "relation"), (NO_TYPE, "42704", "type")];

/// The functions for one query.
pub(crate) fn functions(
    connection: &Connection,
    definitions: Definitions,
    relations: Vec<String>,
    array_to_string: Arc<ScalarUDF>,
) -> Vec<ScalarUDF> {
    let user = connection.user();
    let text = |text: &str| Gives::Value(ScalarValue::from(text));
    let by_number = [
        ("pg_get_viewdef", definitions.views),
        ("pg_get_constraintdef", definitions.constraints),
        ("pg_get_function_arguments", definitions.arguments),
        ("pg_get_function_result", definitions.results),
        ("pg_get_functiondef", definitions.functions),
    ];
    let named = |name: String| [(format!("public.{name}"), name.clone()), (name.clone(), name)];
    let constants = [
        ("version", text(&format!("PostgreSQL {SERVER_VERSION}, a streaming SQL database"))),
        ("current_user", text(user)),
        ("user", text(user)),
        ("current_role", text(user)),
        ("session_user", text(user)),
        ("pg_get_userbyid", text(user)),
        ("inet_server_addr", text("127.0.0.1")),
        ("getdatabaseencoding", text("UTF8")),
        ("pg_char_to_encoding", Gives::Value(ScalarValue::from(6_i32))),
        ("current_setting", Gives::Setting(connection.settings())),
        ("to_regclass", Gives::ByText(relations.into_iter().flat_map(named).collect())),
        ("to_regtype", Gives::Type),
        ("pg_backend_pid", Gives::Value(ScalarValue::from(connection.number().unwrap_or(1)))),
        // There are none to give back; pools ask for it.
        ("pg_advisory_unlock_all", text("")),
        ("pg_is_in_recovery", Gives::Value(ScalarValue::from(false))),
        ("pg_get_expr", Gives::First),
        ("pg_get_indexdef", Gives::Index(definitions.indexes, definitions.index_columns)),
        ("quote_literal", Gives::Quoted),
        ("array_to_string", Gives::Joined(array_to_string)),
    ];
    let always = TRUE.map(|name| (name, Gives::Value(ScalarValue::from(true))));
    let nothing =
        NOTHING.into_iter().filter_map(|(name, of)| Some((name, Gives::Value(ScalarValue::try_from(&of).ok()?))));
    let by_number = by_number.map(|(name, texts)| (name, Gives::ByNumber(texts)));
    let missing = MISSING.map(|(name, sqlstate, what)| (name, Gives::Missing { sqlstate, what }));
    let all = by_number.into_iter().chain(constants).chain(always).chain(nothing).chain(missing);
    all.map(|(name, gives)| ScalarUDF::from(Function::new(name, gives))).collect()
}

/// What a function gives.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Gives {
    /// Always the same.
    Value(ScalarValue),
    /// Its first argument.
    First,
    /// Its first argument as a literal.
    Quoted,
    /// What another function gives for an array, and a text as it is: some columns of arrays are texts
    /// in datafusion-pg-catalog.
    Joined(Arc<ScalarUDF>),
    /// What its first argument stands for.
    ByText(BTreeMap<String, String>),
    /// The type that its first argument names, as PostgreSQL spells it.
    Type,
    /// A setting by its name. One that is not known fails, unless a second argument says that it may be missing.
    Setting(BTreeMap<String, String>),
    ByNumber(BTreeMap<i32, String>),
    /// No number: it fails for its first argument, a name.
    Missing {
        sqlstate: &'static str,
        what: &'static str,
    },
    /// The definition of an index by its number, or one of its columns by its place.
    Index(BTreeMap<i32, String>, BTreeMap<i32, Vec<String>>),
}

/// A function of any arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    gives: Gives,
    signature: Signature,
}

impl Function {
    fn new(name: &'static str, gives: Gives) -> Self {
        let any = vec![
            Signature::nullary(Volatility::Stable).type_signature,
            Signature::variadic_any(Volatility::Stable).type_signature,
        ];
        Self { name, gives, signature: Signature::one_of(any, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match &self.gives {
            Gives::Value(value) => value.data_type(),
            Gives::Missing { .. } => DataType::Int32,
            _ => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &self.gives {
            Gives::Value(value) => return Ok(ColumnarValue::Scalar(value.clone())),
            Gives::Joined(join) if args.args.first().is_some_and(|first| first.data_type().is_nested()) => {
                return join.invoke_with_args(args);
            }
            _ => {}
        }
        let first = match args.args.first() {
            Some(first) => first.to_array(args.number_rows)?,
            None => new_null_array(&DataType::Utf8, args.number_rows),
        };
        let given: ArrayRef = match &self.gives {
            Gives::ByNumber(texts) => {
                let numbers = cast(&first, &DataType::Int32)?;
                let numbers = numbers.as_primitive::<Int32Type>();
                Arc::new(numbers.iter().map(|number| texts.get(&number?)).collect::<StringArray>())
            }
            Gives::Index(texts, columns) => index(texts, columns, &first, args.args.get(1))?,
            Gives::ByText(texts) => {
                let names = cast(&first, &DataType::Utf8)?;
                let value = |name: Option<&str>| texts.get(&name?.to_ascii_lowercase());
                Arc::new(names.as_string::<i32>().iter().map(value).collect::<StringArray>())
            }
            Gives::Type => {
                let names = cast(&first, &DataType::Utf8)?;
                let named = |name: Option<&str>| type_named(name?);
                Arc::new(names.as_string::<i32>().iter().map(named).collect::<StringArray>())
            }
            Gives::Setting(settings) => setting(settings, &first, args.args.get(1))?,
            Gives::Quoted => {
                let texts = cast(&first, &DataType::Utf8)?;
                let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
                Arc::new(texts.as_string::<i32>().iter().map(|text| text.map(quoted)).collect::<StringArray>())
            }
            &Gives::Missing { sqlstate, what } => missing(sqlstate, what, &first)?,
            Gives::First | Gives::Joined(_) | Gives::Value(_) => cast(&first, &DataType::Utf8)?,
        };
        Ok(ColumnarValue::Array(given))
    }
}

/// Fails for the first name; without one there are no numbers.
fn missing(sqlstate: &'static str, what: &str, names: &ArrayRef) -> Result<ArrayRef> {
    let names = cast(names, &DataType::Utf8)?;
    let Some(name) = names.as_string::<i32>().iter().flatten().next() else {
        return Ok(new_null_array(&DataType::Int32, names.len()));
    };
    let name = if name.contains('"') { name.replace('"', "") } else { name.to_lowercase() };
    let message = format!("{what} \"{name}\" does not exist");
    Err(DataFusionError::External(Box::new(DataError { sqlstate, message })))
}

/// PostgreSQL's spelling of a type; none of one that no column here has. Digits that are asked for are no part
/// of a type, nor is how many dimensions an array has.
pub(crate) fn type_named(written: &str) -> Option<String> {
    let lower = written.trim().to_ascii_lowercase();
    let name = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
    let element = name.trim_end_matches("[]").trim_end();
    let (element, is_array) = match element.strip_prefix('_') {
        Some(element) => (element, true),
        None => (element, element.len() < name.len()),
    };
    let (element, has_digits) = match element.split_once('(') {
        Some((before, rest)) => {
            let (digits, after) = rest.split_once(')')?;
            let is_digits = digits.split(',').all(|part| part.trim().parse::<u16>().is_ok());
            (is_digits.then(|| format!("{}{after}", before.trim_end()))?, true)
        }
        None => (element.to_owned(), false),
    };
    let words: Vec<&str> = element.split_whitespace().collect();
    let spelled = match words.join(" ").as_str() {
        "bool" | "boolean" => "boolean",
        "int2" | "smallint" => "smallint",
        "int" | "int4" | "integer" => "integer",
        "int8" | "bigint" => "bigint",
        "float4" | "real" => "real",
        "float" | "float8" | "double precision" => "double precision",
        "numeric" | "decimal" | "dec" => "numeric",
        "text" => "text",
        "varchar" | "character varying" | "char varying" => "character varying",
        "json" => "json",
        "jsonb" => "jsonb",
        "bytea" => "bytea",
        "date" => "date",
        "time" | "time without time zone" => "time without time zone",
        "timestamp" | "timestamp without time zone" => "timestamp without time zone",
        "timestamptz" | "timestamp with time zone" => "timestamp with time zone",
        "interval" => "interval",
        "name" => "name",
        "oid" => "oid",
        _ => return None,
    };
    let takes_digits = spelled.starts_with("time") || matches!(spelled, "numeric" | "character varying" | "interval");
    if has_digits && !takes_digits {
        return None;
    }
    Some(format!("{spelled}{}", if is_array { "[]" } else { "" }))
}

/// Definitions of indexes, or their columns where a place is given.
fn index(
    texts: &BTreeMap<i32, String>,
    columns: &BTreeMap<i32, Vec<String>>,
    numbers: &ArrayRef,
    places: Option<&ColumnarValue>,
) -> Result<ArrayRef> {
    let places: ArrayRef = match places {
        Some(places) => cast(&places.to_array(numbers.len())?, &DataType::Int32)?,
        None => Arc::new(Int32Array::from(vec![0; numbers.len()])),
    };
    let text = |(number, place): (Option<i32>, Option<i32>)| match (number?, place?) {
        (number, 0) => texts.get(&number).map(String::as_str),
        (number, place) => {
            let columns = columns.get(&number)?;
            let column = usize::try_from(place).ok().and_then(|place| columns.get(place - 1));
            Some(column.map_or("", String::as_str))
        }
    };
    let numbers = cast(numbers, &DataType::Int32)?;
    let pairs = numbers.as_primitive::<Int32Type>().iter().zip(places.as_primitive::<Int32Type>());
    Ok(Arc::new(pairs.map(text).collect::<StringArray>()))
}

fn setting(
    settings: &BTreeMap<String, String>,
    names: &ArrayRef,
    may_miss: Option<&ColumnarValue>,
) -> Result<ArrayRef> {
    let may_miss = matches!(may_miss, Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
    let value = |name: Option<&str>| -> Result<Option<&str>> {
        let Some(name) = name else { return Ok(None) };
        match settings.get(&name.to_ascii_lowercase()) {
            None if !may_miss => {
                let message = format!("unrecognized configuration parameter \"{name}\"");
                Err(DataFusionError::External(Box::new(DataError { sqlstate: "42704", message })))
            }
            value => Ok(value.map(String::as_str)),
        }
    };
    let names = cast(names, &DataType::Utf8)?;
    Ok(Arc::new(names.as_string::<i32>().iter().map(value).collect::<Result<StringArray>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_all_their_names() {
        for (written, spelled) in [
            ("int4", "integer"),
            (" Pg_Catalog.INT8 ", "bigint"),
            ("numeric(10, 2)", "numeric"),
            ("timestamp(3)  with time zone", "timestamp with time zone"),
            ("character  varying(20)[]", "character varying[]"),
            ("_text", "text[]"),
            ("int[][]", "integer[]"),
        ] {
            assert_eq!(type_named(written).as_deref(), Some(spelled), "{written}");
        }
        for unknown in ["", "hstore", "[]", "int(", "numeric(x)", "float(24)", "public.int4"] {
            assert_eq!(type_named(unknown), None, "{unknown}");
        }
    }
}
