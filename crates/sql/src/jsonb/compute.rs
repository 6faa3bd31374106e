//! What the functions over jsonb compute, a column at a time.
//!
//! Arguments have the types that `function` has brought them to. Invariant: what is given is in
//! normal form.

use crate::bounded::{MOST_BYTES, too_much};
use crate::error::DataError;
use crate::spelling;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, GenericStringBuilder, Int32Array, LargeStringArray,
    LargeStringBuilder, ListArray, OffsetSizeTrait, PrimitiveArray, StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use datafusion::common::{DataFusionError, Result, not_impl_err};
use highwater_jsonb::{self as jsonb, Jsonpath, Malformed};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

fn values(array: &ArrayRef) -> &LargeStringArray {
    array.as_string::<i64>()
}

fn texts(array: &ArrayRef) -> &StringArray {
    array.as_string::<i32>()
}

/// The class of an argument that is of the right type but has no answer.
const NO_ANSWER: &str = "22023";

fn refused(sqlstate: &'static str, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate, message: message.into() }))
}

/// What is wrong with a text that is no JSON.
pub(super) fn malformed(bad: Malformed) -> DataFusionError {
    let Malformed { sqlstate, message, detail } = bad;
    refused(sqlstate, detail.map_or_else(|| message.to_owned(), |detail| format!("{message}: {detail}")))
}

/// Keys in quotes; those of rows with the same key are made once.
#[derive(Default)]
struct Quoted<'a> {
    text: Option<&'a str>,
    quoted: String,
}

impl<'a> Quoted<'a> {
    fn of(&mut self, text: &'a str) -> &str {
        if self.text != Some(text) {
            self.text = Some(text);
            self.quoted = jsonb::quoted(text);
        }
        &self.quoted
    }
}

/// What a jsonpath may be.
pub(super) const PATHS: &str = "there are lax paths of keys, .*, [*], [n] and [last]: take parts with -> and #>";

/// Jsonpaths; that of rows with the same one is read once.
#[derive(Default)]
struct Paths<'a> {
    text: Option<&'a str>,
    path: Jsonpath,
}

impl<'a> Paths<'a> {
    fn of(&mut self, text: &'a str) -> Result<&Jsonpath> {
        if self.text != Some(text) {
            let path = Jsonpath::of(text);
            self.path =
                path.ok_or_else(|| refused("0A000", format!("the jsonpath {text:?} is not supported: {PATHS}")))?;
            self.text = Some(text);
        }
        Ok(&self.path)
    }
}

/// What is made of each row's value and jsonpath.
fn along<'a, T>(
    args: &'a [ArrayRef],
    made: impl Fn(&Jsonpath, &'a str) -> Option<T>,
) -> impl Iterator<Item = Result<Option<T>>> {
    let (own, paths, mut read) = (values(&args[0]), texts(&args[1]), Paths::default());
    (0..own.len()).map(move |row| -> Result<Option<T>> {
        if own.is_null(row) || paths.is_null(row) {
            return Ok(None);
        }
        Ok(made(read.of(paths.value(row))?, own.value(row)))
    })
}

/// `jsonb_path_exists(value, path)` and `value @? path`
pub(super) fn path_exists(args: &[ArrayRef]) -> Result<ArrayRef> {
    let found = along(args, |path, value| Some(path.first(value).is_some()));
    Ok(Arc::new(found.collect::<Result<BooleanArray>>()?))
}

/// `jsonb_path_query_first(value, path)`
pub(super) fn path_first(args: &[ArrayRef]) -> Result<ArrayRef> {
    let found = along(args, Jsonpath::first);
    Ok(Arc::new(found.collect::<Result<LargeStringArray>>()?))
}

/// `jsonb_path_query_array(value, path)`
pub(super) fn path_all(args: &[ArrayRef]) -> Result<ArrayRef> {
    let found = along(args, |path, value| Some(format!("[{}]", path.all(value).join(", "))));
    Ok(Arc::new(found.collect::<Result<LargeStringArray>>()?))
}

/// One value a row, or null where any argument is.
fn each(args: &[ArrayRef], made: impl Fn(usize) -> Result<String>) -> Result<ArrayRef> {
    let rows = args[0].len();
    let mut builder = LargeStringBuilder::with_capacity(rows, 0);
    for row in 0..rows {
        if args.iter().all(|array| array.is_valid(row)) {
            builder.append_value(made(row)?);
        } else {
            builder.append_null();
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn each_is(args: &[ArrayRef], mut is: impl FnMut(usize) -> bool) -> ArrayRef {
    let answer = |row: usize| args.iter().all(|array| array.is_valid(row)).then(|| is(row));
    Arc::new((0..args[0].len()).map(answer).collect::<BooleanArray>())
}

/// The places of a list's elements among all elements.
fn places(lists: &ListArray, row: usize) -> Range<usize> {
    let offsets = lists.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

/// `value -> key` and `value -> number`
pub(super) fn found(args: &[ArrayRef]) -> Vec<Option<&str>> {
    let own = values(&args[0]);
    let rows = (0..own.len()).map(|row| (own.is_valid(row) && args[1].is_valid(row)).then_some(row));
    if let Some(indices) = args[1].as_primitive_opt::<Int64Type>() {
        return rows.map(|row| row.and_then(|row| jsonb::item(own.value(row), indices.value(row)))).collect();
    }
    let (keys, mut quoted) = (texts(&args[1]), Quoted::default());
    rows.map(|row| row.and_then(|row| jsonb::get(own.value(row), quoted.of(keys.value(row))))).collect()
}

/// `value #> path`; a null in the path leads nowhere.
pub(super) fn led_to(args: &[ArrayRef]) -> Vec<Option<&str>> {
    let (own, paths) = (values(&args[0]), args[1].as_list::<i32>());
    let steps = texts(paths.values());
    let found = |row: usize| {
        if own.is_null(row) || paths.is_null(row) || places(paths, row).any(|at| steps.is_null(at)) {
            return None;
        }
        jsonb::path(own.value(row), places(paths, row).map(|at| steps.value(at)))
    };
    (0..own.len()).map(found).collect()
}

/// `jsonb_extract_path(value, step, ...)`
pub(super) fn extracted(args: &[ArrayRef]) -> Vec<Option<&str>> {
    let own = values(&args[0]);
    let found = |row: usize| {
        if args.iter().any(|array| array.is_null(row)) {
            return None;
        }
        jsonb::path(own.value(row), args[1..].iter().map(|step| texts(step).value(row)))
    };
    (0..own.len()).map(found).collect()
}

/// Values as texts: strings without quotes, null as nothing.
pub(super) fn texts_of(found: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(found.into_iter().map(|value| value.and_then(jsonb::text_of)).collect::<StringArray>())
}

/// `value @> value`
pub(super) fn contains(args: &[ArrayRef]) -> ArrayRef {
    let (left, right) = (values(&args[0]), values(&args[1]));
    each_is(args, |row| jsonb::contains(left.value(row), right.value(row)))
}

/// `value ? key`
pub(super) fn exists(args: &[ArrayRef]) -> ArrayRef {
    let (own, keys, mut quoted) = (values(&args[0]), texts(&args[1]), Quoted::default());
    each_is(args, |row| jsonb::exists(own.value(row), quoted.of(keys.value(row))))
}

/// `value ?| keys` and `value ?& keys`; keys that are null are passed over.
pub(super) fn exist(args: &[ArrayRef], all: bool) -> ArrayRef {
    let (own, lists) = (values(&args[0]), args[1].as_list::<i32>());
    let keys = texts(lists.values());
    each_is(args, |row| {
        let mut given = places(lists, row).filter(|at| keys.is_valid(*at));
        let is_there = |at: usize| jsonb::exists(own.value(row), &jsonb::quoted(keys.value(at)));
        if all { given.all(is_there) } else { given.any(is_there) }
    })
}

/// `value || value`
pub(super) fn joined(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (left, right) = (values(&args[0]), values(&args[1]));
    each(args, |row| jsonb::joined(left.value(row), right.value(row)).map_err(malformed))
}

/// `value - key`, `value - number` and `value - keys`
pub(super) fn without(args: &[ArrayRef]) -> Result<ArrayRef> {
    let own = values(&args[0]);
    if let Some(indices) = args[1].as_primitive_opt::<Int64Type>() {
        let made = |row| jsonb::without_item(own.value(row), indices.value(row));
        return each(args, |row| made(row).map_err(|why| refused(NO_ANSWER, why)));
    }
    if let Some(lists) = args[1].as_list_opt::<i32>() {
        let keys = texts(lists.values());
        return each(args, |row| {
            let given = places(lists, row).filter(|at| keys.is_valid(*at));
            let quoted: Vec<String> = given.map(|at| jsonb::quoted(keys.value(at))).collect();
            jsonb::without_keys(own.value(row), &quoted).map_err(|why| refused(NO_ANSWER, why))
        });
    }
    let keys = texts(&args[1]);
    each(args, |row| {
        let quoted = [jsonb::quoted(keys.value(row))];
        jsonb::without_keys(own.value(row), &quoted).map_err(|why| refused(NO_ANSWER, why))
    })
}

fn unchangeable(why: jsonb::Unchangeable) -> DataFusionError {
    refused(why.sqlstate, why.message)
}

/// The values of a list, with its nulls.
fn steps(lists: &ListArray, row: usize) -> Vec<Option<&str>> {
    let all = texts(lists.values());
    places(lists, row).map(|at| all.is_valid(at).then(|| all.value(at))).collect()
}

/// `value #- path`
pub(super) fn without_path(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (own, paths) = (values(&args[0]), args[1].as_list::<i32>());
    let made = |row| jsonb::changed(own.value(row), &steps(paths, row), jsonb::Change::Delete);
    each(args, |row| made(row).map_err(unchangeable))
}

/// `jsonb_set(value, path, new, create)`
pub(super) fn set(args: &[ArrayRef]) -> Result<ArrayRef> {
    changed(args, true, |value, create| jsonb::Change::Set { value, create })
}

/// `jsonb_insert(value, path, new, after)`
pub(super) fn inserted(args: &[ArrayRef]) -> Result<ArrayRef> {
    changed(args, false, |value, after| jsonb::Change::Insert { value, after })
}

fn changed(
    args: &[ArrayRef],
    left_out: bool,
    change: impl for<'a> Fn(&'a str, bool) -> jsonb::Change<'a>,
) -> Result<ArrayRef> {
    let (own, paths, new) = (values(&args[0]), args[1].as_list::<i32>(), values(&args[2]));
    let flags = args.get(3).map(|flags| flags.as_boolean());
    each(args, |row| {
        let change = change(new.value(row), flags.map_or(left_out, |flags| flags.value(row)));
        jsonb::changed(own.value(row), &steps(paths, row), change).map_err(unchangeable)
    })
}

/// `jsonb_strip_nulls(value)`
pub(super) fn without_nulls(args: &[ArrayRef]) -> Result<ArrayRef> {
    let own = values(&args[0]);
    each(args, |row| Ok(jsonb::without_nulls(own.value(row))))
}

/// `jsonb_pretty(value)`
pub(super) fn pretty(args: &[ArrayRef]) -> Result<ArrayRef> {
    let mut left = MOST_BYTES as usize;
    let mut made = |value: &str| -> Result<String> {
        let text = jsonb::pretty(value, left).ok_or_else(|| too_much("jsonb_pretty"))?;
        left -= text.len();
        Ok(text)
    };
    let all = values(&args[0]).iter().map(|value| value.map(&mut made).transpose());
    Ok(Arc::new(all.collect::<Result<StringArray>>()?))
}

/// `jsonb_object(keys and values)` and `jsonb_object(keys, values)`
pub(super) fn object_of_texts(args: &[ArrayRef]) -> Result<ArrayRef> {
    let lists: Vec<&ListArray> = args.iter().map(|array| array.as_list::<i32>()).collect();
    each(args, |row| {
        let given: Vec<Vec<Option<&str>>> = lists.iter().map(|lists| steps(lists, row)).collect();
        let mut members = Vec::new();
        for (key, value) in pairs(&given)? {
            let key = key.ok_or_else(|| refused("22004", "null value not allowed for object key"))?;
            members.push((jsonb::quoted(key), value.map_or_else(|| "null".to_owned(), jsonb::quoted)));
        }
        jsonb::object_of(members.iter().map(|(key, value)| (key.as_str(), value.as_str()))).map_err(malformed)
    })
}

type Pair<'a> = (Option<&'a str>, Option<&'a str>);

fn pairs<'a>(given: &[Vec<Option<&'a str>>]) -> Result<Vec<Pair<'a>>> {
    let refused = |message| Err(refused("2202E", message));
    match given {
        [both] if both.len() % 2 == 1 => refused("array must have even number of elements"),
        [both] => Ok(both.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()),
        [keys, values] if keys.is_empty() != values.is_empty() => refused("wrong number of array subscripts"),
        [keys, values] if keys.len() != values.len() => refused("mismatched array dimensions"),
        [keys, values] => Ok(keys.iter().copied().zip(values.iter().copied()).collect()),
        _ => Ok(Vec::new()),
    }
}

/// `jsonb_typeof(value)`
pub(super) fn type_of(args: &[ArrayRef]) -> ArrayRef {
    let name = |value: &str| jsonb::Kind::of(value).name();
    Arc::new(values(&args[0]).iter().map(|value| value.map(name)).collect::<StringArray>())
}

/// `jsonb_array_length(value)`
pub(super) fn length(args: &[ArrayRef]) -> Result<ArrayRef> {
    let length = |value: &str| match jsonb::Kind::of(value) {
        jsonb::Kind::Array => Ok(jsonb::elements(value).count() as i32),
        jsonb::Kind::Object => Err(refused(NO_ANSWER, "cannot get array length of a non-array")),
        _ => Err(refused(NO_ANSWER, "cannot get array length of a scalar")),
    };
    let lengths = values(&args[0]).iter().map(|value| value.map(length).transpose());
    Ok(Arc::new(lengths.collect::<Result<Int32Array>>()?))
}

/// A column's values as jsonb; nulls stay.
pub(super) fn values_of(array: &ArrayRef) -> Result<LargeStringArray> {
    let quoted = |text: Option<&str>| text.map(jsonb::quoted);
    Ok(match array.data_type() {
        DataType::LargeUtf8 => values(array).clone(),
        DataType::Null => LargeStringArray::new_null(array.len()),
        DataType::Boolean => array.as_boolean().iter().map(|v| v.map(|v| if v { "true" } else { "false" })).collect(),
        DataType::Utf8 => texts(array).iter().map(quoted).collect(),
        DataType::List(_) => lists(array.as_list::<i32>())?,
        DataType::Timestamp(..) => {
            let written = spelling::element_texts(array)?;
            written.iter().map(|text| text.map(|text| jsonb::quoted(&iso(text)))).collect()
        }
        of if of.is_numeric() => spelling::element_texts(array)?.iter().map(|text| text.map(number)).collect(),
        _ => spelling::element_texts(array)?.iter().map(quoted).collect(),
    })
}

/// A number as it is written; what no number of JSON is, such as NaN, is a string.
fn number(text: &str) -> String {
    let number = jsonb::is_number(text).then(|| jsonb::normal(text).ok()).flatten();
    number.unwrap_or_else(|| jsonb::quoted(text))
}

/// A timestamp as ISO 8601 has it: `2024-01-01T12:00:00`, and with minutes in an offset from UTC.
fn iso(text: &str) -> String {
    let Some((day, time)) = text.split_once(' ') else { return text.to_owned() };
    let (time, era) = time.split_once(' ').map_or((time, ""), |(time, _)| (time, " BC"));
    let hours = time.rfind(['+', '-']).map(|sign| time.len() - sign);
    let minutes = if hours == Some("+00".len()) { ":00" } else { "" };
    format!("{day}T{time}{minutes}{era}")
}

/// Arrays as jsonb.
fn lists(lists: &ListArray) -> Result<LargeStringArray> {
    let elements = values_of(lists.values())?;
    let array = |row: usize| jsonb::array_of(places(lists, row).map(|at| value_at(&elements, at))).map_err(malformed);
    (0..lists.len()).map(|row| lists.is_valid(row).then(|| array(row)).transpose()).collect()
}

fn value_at(values: &LargeStringArray, row: usize) -> &str {
    if values.is_valid(row) { values.value(row) } else { "null" }
}

/// `jsonb_build_array(value, ...)`
pub(super) fn array(args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let all = args.iter().map(values_of).collect::<Result<Vec<_>>>()?;
    let array = |row: usize| jsonb::array_of(all.iter().map(|values| value_at(values, row))).map_err(malformed);
    Ok(Arc::new((0..rows).map(|row| array(row).map(Some)).collect::<Result<LargeStringArray>>()?))
}

/// A key as an object has it, from the jsonb of its value.
fn key_of(value: &str) -> Cow<'_, str> {
    if jsonb::Kind::of(value) == jsonb::Kind::String {
        return Cow::Borrowed(value);
    }
    Cow::Owned(jsonb::quoted(value))
}

/// `jsonb_build_object(key, value, ...)`
pub(super) fn object(args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    if args.len() % 2 == 1 {
        return Err(refused(NO_ANSWER, "argument list must have even number of elements"));
    }
    let all = args.iter().map(values_of).collect::<Result<Vec<_>>>()?;
    let mut builder = LargeStringBuilder::with_capacity(rows, 0);
    for row in 0..rows {
        let mut members = Vec::with_capacity(all.len() / 2);
        for (at, pair) in all.chunks_exact(2).enumerate() {
            if pair[0].is_null(row) {
                return Err(refused(NO_ANSWER, format!("argument {}: key must not be null", 2 * at + 1)));
            }
            members.push((key_of(pair[0].value(row)), value_at(&pair[1], row)));
        }
        let members = members.iter().map(|(key, value)| (&**key, *value));
        builder.append_value(jsonb::object_of(members).map_err(malformed)?);
    }
    Ok(Arc::new(builder.finish()))
}

/// A key and a value as an array of two, for `jsonb_object_agg`.
pub(super) fn pair(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (keys, all) = (values_of(&args[0])?, values_of(&args[1])?);
    let mut builder = LargeStringBuilder::with_capacity(keys.len(), 0);
    for row in 0..keys.len() {
        if keys.is_null(row) {
            return Err(refused(NO_ANSWER, "field name must not be null"));
        }
        let key = key_of(keys.value(row));
        builder.append_value(jsonb::array_of([&*key, value_at(&all, row)]).map_err(malformed)?);
    }
    Ok(Arc::new(builder.finish()))
}

/// An object of keys and values as `pair` gives them.
pub(super) fn from_pairs(args: &[ArrayRef]) -> Result<ArrayRef> {
    let lists = args[0].as_list::<i32>();
    let pairs = values(lists.values());
    each(args, |row| {
        let parts = places(lists, row).filter_map(|at| {
            let mut parts = jsonb::elements(value_at(pairs, at));
            Some((parts.next()?, parts.next()?))
        });
        jsonb::object_of(parts).map_err(malformed)
    })
}

type Parts<'a> = Vec<Option<Cow<'a, str>>>;

/// The parts of each value as an array of texts, with offsets of the width that tells jsonb.
fn parts_of<'a, O: OffsetSizeTrait>(
    args: &'a [ArrayRef],
    parts: impl Fn(&'a str) -> Result<Parts<'a>>,
) -> Result<ArrayRef> {
    let own = values(&args[0]);
    let mut made = GenericStringBuilder::<O>::new();
    let mut lengths = Vec::with_capacity(own.len());
    for row in 0..own.len() {
        let found = if own.is_valid(row) { parts(own.value(row))? } else { Vec::new() };
        lengths.push(found.len());
        found.into_iter().for_each(|part| made.append_option(part));
    }
    let made = made.finish();
    let field = Arc::new(Field::new_list_field(made.data_type().clone(), true));
    let lists = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), Arc::new(made), own.nulls().cloned())?;
    Ok(Arc::new(lists))
}

fn check_array(value: &str) -> Result<()> {
    match jsonb::Kind::of(value) {
        jsonb::Kind::Array => Ok(()),
        jsonb::Kind::Object => Err(refused(NO_ANSWER, "cannot extract elements from an object")),
        _ => Err(refused(NO_ANSWER, "cannot extract elements from a scalar")),
    }
}

fn check_object(value: &str, function: &str) -> Result<()> {
    match jsonb::Kind::of(value) {
        jsonb::Kind::Object => Ok(()),
        _ if function == "jsonb_each" => Err(refused(NO_ANSWER, "cannot call jsonb_each on a non-object")),
        jsonb::Kind::Array => Err(refused(NO_ANSWER, format!("cannot call {function} on an array"))),
        _ => Err(refused(NO_ANSWER, format!("cannot call {function} on a scalar"))),
    }
}

/// The array that `jsonb_array_elements` gives as rows.
pub(super) fn elements(args: &[ArrayRef]) -> Result<ArrayRef> {
    parts_of::<i64>(args, |value| {
        check_array(value)?;
        Ok(jsonb::elements(value).map(|part| Some(Cow::Borrowed(part))).collect())
    })
}

/// The array that `jsonb_array_elements_text` gives as rows.
pub(super) fn element_texts(args: &[ArrayRef]) -> Result<ArrayRef> {
    parts_of::<i32>(args, |value| {
        check_array(value)?;
        Ok(jsonb::elements(value).map(jsonb::text_of).collect())
    })
}

/// The array that `jsonb_object_keys` gives as rows.
pub(super) fn keys(args: &[ArrayRef]) -> Result<ArrayRef> {
    parts_of::<i32>(args, |value| {
        check_object(value, "jsonb_object_keys")?;
        Ok(jsonb::members(value).map(|(key, _)| jsonb::text_of(key)).collect())
    })
}

/// The array of the values that `jsonb_each` gives as rows.
pub(super) fn members(args: &[ArrayRef]) -> Result<ArrayRef> {
    parts_of::<i64>(args, |value| {
        check_object(value, "jsonb_each")?;
        Ok(jsonb::members(value).map(|(_, part)| Some(Cow::Borrowed(part))).collect())
    })
}

/// The array of the values that `jsonb_each_text` gives as rows.
pub(super) fn member_texts(args: &[ArrayRef]) -> Result<ArrayRef> {
    parts_of::<i32>(args, |value| {
        check_object(value, "jsonb_each")?;
        Ok(jsonb::members(value).map(|(_, part)| jsonb::text_of(part)).collect())
    })
}

/// `text::jsonb`
pub(super) fn parsed(args: &[ArrayRef]) -> Result<ArrayRef> {
    let texts = texts(&args[0]);
    each(args, |row| jsonb::normal(texts.value(row)).map_err(malformed))
}

/// `value::integer` and the like.
pub(super) fn cast_to(args: &[ArrayRef], to: &DataType) -> Result<ArrayRef> {
    let own = values(&args[0]);
    let whole = |number: &str| jsonb::decimal(number, 0);
    Ok(match to {
        DataType::Boolean => Arc::new(booleans(own)?),
        DataType::Int16 => Arc::new(numbers::<Int16Type>(own, to, |n| i16::try_from(whole(n)?).ok())?),
        DataType::Int32 => Arc::new(numbers::<Int32Type>(own, to, |n| i32::try_from(whole(n)?).ok())?),
        DataType::Int64 => Arc::new(numbers::<Int64Type>(own, to, |n| i64::try_from(whole(n)?).ok())?),
        DataType::Float32 => {
            Arc::new(numbers::<Float32Type>(own, to, |n| n.parse().ok().filter(|x: &f32| x.is_finite()))?)
        }
        DataType::Float64 => {
            Arc::new(numbers::<Float64Type>(own, to, |n| n.parse().ok().filter(|x: &f64| x.is_finite()))?)
        }
        DataType::Decimal128(precision, scale) => {
            let limit = 10_u128.pow(u32::from(*precision).min(38));
            let places = usize::from(scale.unsigned_abs());
            let read = |n: &str| jsonb::decimal(n, places).filter(|value| value.unsigned_abs() < limit);
            Arc::new(numbers::<Decimal128Type>(own, to, read)?.with_precision_and_scale(*precision, *scale)?)
        }
        other => return not_impl_err!("a cast of jsonb to {other}"),
    })
}

fn cannot_cast(value: &str, to: &DataType) -> DataFusionError {
    let kind = match jsonb::Kind::of(value) {
        jsonb::Kind::Number => "numeric",
        kind => kind.name(),
    };
    let to = match to {
        DataType::Decimal128(..) => "numeric".to_owned(),
        to => crate::types::pg_name(to),
    };
    refused(NO_ANSWER, format!("cannot cast jsonb {kind} to type {to}"))
}

fn booleans(own: &LargeStringArray) -> Result<BooleanArray> {
    let read = |value: &str| match value {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(cannot_cast(other, &DataType::Boolean)),
    };
    own.iter().map(|value| value.map(read).transpose()).collect()
}

fn numbers<T: ArrowPrimitiveType>(
    own: &LargeStringArray,
    to: &DataType,
    read: impl Fn(&str) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let mut natives = Vec::with_capacity(own.len());
    for value in own {
        natives.push(match value {
            None => T::default_value(),
            Some(value) if jsonb::Kind::of(value) != jsonb::Kind::Number => return Err(cannot_cast(value, to)),
            Some(value) => read(value).ok_or_else(|| out_of_range(value, to))?,
        });
    }
    Ok(PrimitiveArray::new(natives.into(), own.nulls().cloned()))
}

fn out_of_range(value: &str, to: &DataType) -> DataFusionError {
    let name = crate::types::pg_name(to);
    refused(
        "22003",
        match to {
            DataType::Decimal128(..) => "numeric field overflow".to_owned(),
            to if to.is_floating() => format!("\"{value}\" is out of range for type {name}"),
            _ => format!("{name} out of range"),
        },
    )
}

#[cfg(test)]
mod tests;
