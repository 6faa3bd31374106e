//! Functions over jsonb by column, and the jsonb of every kind of value.

use super::*;
use arrow::array::{Date32Array, Decimal128Array, Float64Array, TimestampMicrosecondArray};

fn column(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<LargeStringArray>())
}

fn words(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<StringArray>())
}

#[test]
fn members_and_elements_are_found_by_row() {
    let values = column(&[Some(r#"{"a": 1, "b": null}"#), None, Some("[1, 2]"), Some(r#"{"b": "x"}"#)]);
    let keys = words(&[Some("a"), Some("a"), Some("a"), Some("b")]);
    let args = [Arc::clone(&values), keys];
    assert_eq!(found(&args), [Some("1"), None, None, Some("\"x\"")]);
    let args: [ArrayRef; 2] =
        [values, Arc::new(arrow::array::Int64Array::from(vec![Some(0), Some(0), Some(-1), None]))];
    assert_eq!(found(&args), [None, None, Some("2"), None]);
    let texts = texts_of(vec![Some("\"a\\\"\""), Some("null"), Some("1.50"), None]);
    assert_eq!(texts.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a\""), None, Some("1.50"), None]);
}

#[test]
fn values_of_all_kinds_have_a_jsonb() {
    let one = |array: ArrayRef| values_of(&array).expect("a jsonb").value(0).to_owned();
    assert_eq!(one(Arc::new(Float64Array::from(vec![1e20]))), "100000000000000000000");
    assert_eq!(one(Arc::new(Float64Array::from(vec![f64::NAN]))), "\"NaN\"");
    let decimal = Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).expect("a decimal");
    assert_eq!(one(Arc::new(decimal)), "1.50");
    assert_eq!(one(Arc::new(Date32Array::from(vec![0]))), "\"1970-01-01\"");
    let instant = TimestampMicrosecondArray::from(vec![0]);
    assert_eq!(one(Arc::new(instant.clone())), "\"1970-01-01T00:00:00\"");
    assert_eq!(one(Arc::new(instant.with_timezone("UTC"))), "\"1970-01-01T00:00:00+00:00\"");
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
    assert_eq!(one(Arc::new(list)), "[1, null]");
    assert_eq!(one(words(&[Some("a\"b")])), "\"a\\\"b\"");
}

#[test]
fn objects_are_built_with_the_last_of_equal_keys() {
    let args = [words(&[Some("b")]), words(&[Some("x")]), words(&[Some("a")]), words(&[None])];
    let built = object(&args, 1).expect("an object");
    assert_eq!(built.as_string::<i64>().value(0), r#"{"a": null, "b": "x"}"#);
    assert!(object(&args[..1], 1).is_err() && object(&[words(&[None]), words(&[None])], 1).is_err());
    let pairs = pair(&[words(&[Some("k"), Some("k")]), column(&[Some("1"), Some("2")])]).expect("pairs");
    let offsets = OffsetBuffer::from_lengths([2]);
    let field = Arc::new(Field::new_list_field(DataType::LargeUtf8, true));
    let lists: ArrayRef = Arc::new(ListArray::new(field, offsets, pairs, None));
    assert_eq!(from_pairs(&[lists]).expect("an object").as_string::<i64>().value(0), r#"{"k": 2}"#);
}

#[test]
fn numbers_are_cast_as_numerics() {
    let one = |text: &str, to: DataType| cast_to(&[column(&[Some(text)])], &to);
    let whole = one("2.5", DataType::Int32).expect("a number");
    assert_eq!(whole.as_primitive::<Int32Type>().value(0), 3);
    for (text, to) in [
        ("\"1\"", DataType::Int32),
        ("null", DataType::Boolean),
        ("40000", DataType::Int16),
        ("1000", DataType::Decimal128(5, 2)),
    ] {
        assert!(one(text, to.clone()).is_err(), "{text} as {to}");
    }
}

/// One list of texts a row.
fn lists(rows: &[&[Option<&str>]]) -> ArrayRef {
    let all: Vec<Option<&str>> = rows.iter().flat_map(|row| row.iter().copied()).collect();
    let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.len()));
    Arc::new(ListArray::new(field, offsets, words(&all), None))
}

#[test]
fn parts_are_changed_by_row() {
    let own = column(&[Some(r#"{"a": 1}"#), Some("[1]"), None]);
    let paths = lists(&[&[Some("b")], &[Some("0")], &[]]);
    let new = column(&[Some("2"), Some("3"), Some("4")]);
    let all = |made: Result<ArrayRef>| {
        let made = made.expect("values");
        made.as_string::<i64>().iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>()
    };
    let args = [Arc::clone(&own), Arc::clone(&paths), Arc::clone(&new)];
    assert_eq!(all(set(&args)), [Some(r#"{"a": 1, "b": 2}"#.to_owned()), Some("[3]".to_owned()), None]);
    assert_eq!(all(inserted(&args)), [Some(r#"{"a": 1, "b": 2}"#.to_owned()), Some("[3, 1]".to_owned()), None]);
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(false), None, Some(true)]));
    let args = [Arc::clone(&own), Arc::clone(&paths), new, flags];
    assert_eq!(all(set(&args)), [Some(r#"{"a": 1}"#.to_owned()), None, None]);
    assert_eq!(all(without_path(&[own, paths])), [Some(r#"{"a": 1}"#.to_owned()), Some("[]".to_owned()), None]);
}

#[test]
fn objects_are_made_of_texts() {
    let one = |args: &[ArrayRef]| object_of_texts(args).map(|made| made.as_string::<i64>().value(0).to_owned());
    let both = lists(&[&[Some("b"), Some("1"), Some("a"), None]]);
    assert_eq!(one(&[both]).expect("an object"), r#"{"a": null, "b": "1"}"#);
    assert_eq!(one(&[lists(&[&[]])]).expect("an object"), "{}");
    let (keys, values) = (lists(&[&[Some("a"), Some("a")]]), lists(&[&[Some("1"), Some("2")]]));
    assert_eq!(one(&[Arc::clone(&keys), values]).expect("an object"), r#"{"a": "2"}"#);
    assert!(one(&[lists(&[&[Some("a")]])]).is_err() && one(&[lists(&[&[None, None]])]).is_err());
    assert!(one(&[keys, lists(&[&[Some("1")]])]).is_err());
}
