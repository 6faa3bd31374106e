//! Deliveries once, twice and half-way, read back as people would.

use super::*;
use crate::conformance::{read_all, settings, source_of};
use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Float32Array, Float64Array, Int64Array, IntervalMonthDayNanoArray,
    LargeStringArray, ListArray, StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use std::fs;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn sink(folder: &TempDir, entries: &[(&str, &str)]) -> FileSink {
    try_sink(folder, entries).expect("a sink")
}

fn try_sink(folder: &TempDir, entries: &[(&str, &str)]) -> Result<FileSink> {
    let mut all = vec![("path", folder.path().to_str().expect("UTF-8"))];
    all.extend(entries);
    let settings = &settings("file", OPTIONS, &all)?;
    let envelope = Envelope::Plain;
    FileSink::new(&SinkRequest { name: "out", incarnation: 0, settings, format: None, envelope })
}

fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let names: ArrayRef =
        Arc::new(StringArray::from_iter(ids.clone().map(|id| (id % 3 > 0).then(|| format!("n{id}")))));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(ids.clone().map(|id| id * 1_500_000)));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("t", times.data_type().clone(), true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![ids, names, times]).expect("a batch")
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn content(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).expect("read")
}

const FIRST: &str = "out-00000000000000000007-00003.ndjson";

fn first_part() -> (CheckpointId, u32) {
    (CheckpointId(7), 3)
}

#[test]
fn a_part_delivered_twice_is_there_once() {
    let folder = folder();
    let sink = sink(&folder, &[("format", "json")]);
    let (checkpoint, part) = first_part();
    let batches = [Batch::inserts(rows(0..2))];
    sink.target(&rows(0..0).schema()).expect("opens").put(checkpoint, part, &batches).expect("delivered");
    let expected = "{\"id\":0,\"name\":null,\"t\":\"1970-01-01T00:00:00\"}\n{\"id\":1,\"name\":\"n1\",\"t\":\"1970-01-01T00:00:01.500\"}\n";
    assert_eq!(content(&folder, FIRST), expected);
    // Again, in other batches and by another target, as after a crash.
    let again = [Batch::inserts(rows(0..1)), Batch::inserts(rows(1..2))];
    let target = sink.target(&rows(0..0).schema()).expect("opens");
    target.put(checkpoint, part, &again).expect("delivered before");
    assert_eq!(names(&folder), [FIRST]);
    assert_eq!(content(&folder, FIRST), expected);
    target.put(checkpoint.next(), part, &again).expect("delivered");
    assert_eq!(names(&folder).len(), 2);
}

#[test]
fn every_format_reads_back_as_it_was() {
    for format in ["json", "csv", "parquet"] {
        let folder = folder();
        let sink = sink(&folder, &[("format", format), ("prefix", "x-1")]);
        let target = sink.target(&rows(0..0).schema()).expect("opens");
        let (checkpoint, part) = first_part();
        for _ in 0..2 {
            target.put(checkpoint, part, &[Batch::inserts(rows(0..5)), Batch::inserts(rows(5..9))]).expect("delivered");
        }
        target.put(checkpoint, part + 1, &[Batch::inserts(rows(9..10))]).expect("delivered");
        let entries = [("path", folder.path().to_str().expect("UTF-8")), ("format", format)];
        let source = source_of("file", &entries, Some(rows(0..0).schema()), None);
        assert_eq!(source.splits().expect("splits").len(), 2);
        assert_eq!(read_all(source.as_ref()), rows(0..10), "{format}");
    }
}

/// Two rows of values that Arrow's own writers have no form for, or none that is read back.
fn unusual() -> RecordBatch {
    let zoned = TimestampMicrosecondArray::from(vec![253_402_300_800_500_000, -62_135_596_800_000_001]);
    let intervals = [IntervalMonthDayNano::new(14, -2, 3_000_000_000), IntervalMonthDayNano::new(0, 0, 0)];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("t", Arc::new(Time64MicrosecondArray::from(vec![86_400_000_000, 1]))),
        ("d", Arc::new(Date32Array::from(vec![2_145_042_905, -719_163]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(zoned.values().to_vec()))),
        ("tz", Arc::new(zoned.with_timezone("UTC"))),
        ("i", Arc::new(IntervalMonthDayNanoArray::from(intervals.to_vec()))),
        ("x", Arc::new(Float64Array::from(vec![f64::NAN, 1e20]))),
        ("r", Arc::new(Float32Array::from(vec![f32::NEG_INFINITY, f32::INFINITY]))),
        ("j", Arc::new(LargeStringArray::from(vec![r#"{"a": [1, null]}"#, r#""x""#]))),
        ("b", Arc::new(BinaryArray::from_vec(vec![&b"\x00\xff"[..], b""]))),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch")
}

#[test]
fn unusual_values_read_back_as_they_were() {
    let json = r#"{"t":"24:00:00","d":"5874897-12-31","ts":"10000-01-01T00:00:00.500","tz":"10000-01-01T00:00:00.500Z","i":"1 year 2 mons -2 days +00:00:03","x":"NaN","r":"-Infinity","j":{"a": [1, null]},"b":"00ff"}"#;
    // An empty value of CSV is a null.
    let with_bytes = unusual();
    let without = with_bytes.project(&[0, 1, 2, 3, 4, 5, 6, 7]).expect("a projection");
    for (format, rows) in [("json", with_bytes), ("csv", without)] {
        let folder = folder();
        let sink = sink(&folder, &[("format", format)]);
        sink.check(&rows.schema(), true).expect("it can be written");
        let (checkpoint, part) = first_part();
        let target = sink.target(&rows.schema()).expect("opens");
        target.put(checkpoint, part, &[Batch::inserts(rows.clone())]).expect("delivered");
        if format == "json" {
            assert_eq!(content(&folder, FIRST).lines().next(), Some(json));
        }
        let entries = [("path", folder.path().to_str().expect("UTF-8")), ("format", format)];
        let source = source_of("file", &entries, Some(rows.schema()), None);
        assert_eq!(read_all(source.as_ref()), rows, "{format}");
    }
}

#[test]
fn arrays_and_keys_hold_the_same_values() {
    let times = DataType::new_list(DataType::Time64(TimeUnit::Microsecond), true);
    let DataType::List(element) = &times else { unreachable!("it is one") };
    let values: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![Some(86_400_000_000), None]));
    let lists = ListArray::new(Arc::clone(element), OffsetBuffer::from_lengths([2]), values, None);
    let documents: ArrayRef = Arc::new(LargeStringArray::from(vec![r#"{"a": 1}"#]));
    let rows = RecordBatch::try_from_iter([("j", documents), ("l", Arc::new(lists) as ArrayRef)]).expect("a batch");
    let folder = folder();
    let sink = sink(&folder, &[("format", "json"), ("type", "upsert"), ("primary_key", "j")]);
    let (checkpoint, part) = first_part();
    let target = sink.target(&rows.schema()).expect("opens");
    target.put(checkpoint, part, &[Batch::inserts(rows)]).expect("delivered");
    let expected = r#"{"key":{"j":{"a": 1}},"value":{"j":{"a": 1},"l":["24:00:00",null]}}"#;
    assert_eq!(content(&folder, FIRST), format!("{expected}\n"));
}

/// Composite values, of which the last one of three is null.
fn composite(columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Arc::new(StructArray::new(fields, columns, Some(NullBuffer::from(vec![true, true, false]))))
}

#[test]
fn composite_values_are_nested_objects() {
    let days = composite(vec![("d", Arc::new(Date32Array::from(vec![Some(19_723), None, None])))]);
    let values = composite(vec![
        ("t", Arc::new(Time64MicrosecondArray::from(vec![Some(86_400_000_000), None, None]))),
        ("x", Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, 1.5, 0.0]))),
        ("c", days),
    ]);
    let documents = composite(vec![("j", Arc::new(LargeStringArray::from(vec![Some(r#"{"a": 1}"#), None, None])))]);
    let schema = Schema::new(vec![
        Field::new("s", values.data_type().clone(), true),
        Field::new("k", documents.data_type().clone(), true),
    ]);
    let rows = RecordBatch::try_new(Arc::new(schema), vec![values, documents]).expect("a batch");
    let json = r#"{"s":{"t":"24:00:00","x":"-Infinity","c":{"d":"2024-01-01"}},"k":{"j":{"a": 1}}}
{"s":{"t":null,"x":1.5,"c":{"d":null}},"k":{"j":null}}
{"s":null,"k":null}
"#;
    for format in ["json", "parquet"] {
        let folder = folder();
        let sink = sink(&folder, &[("format", format)]);
        sink.check(&rows.schema(), true).expect("it can be written");
        let (checkpoint, part) = first_part();
        let target = sink.target(&rows.schema()).expect("opens");
        target.put(checkpoint, part, &[Batch::inserts(rows.clone())]).expect("delivered");
        if format == "json" {
            assert_eq!(content(&folder, FIRST), json);
        }
        // There is no jsonb in composite values of files that are read.
        let expected = rows.project(&[0]).expect("a projection");
        let entries = [("path", folder.path().to_str().expect("UTF-8")), ("format", format)];
        let source = source_of("file", &entries, Some(expected.schema()), None);
        assert_eq!(read_all(source.as_ref()), expected, "{format}");
    }
    let folder = folder();
    let error = sink(&folder, &[("format", "csv")]).check(&rows.schema(), true).expect_err("nested").to_string();
    assert!(error.starts_with("column 's' cannot be written to CSV"), "{error}");
}

#[test]
fn what_has_no_text_is_refused() {
    let folder = folder();
    for format in ["json", "csv"] {
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("s", seconds, true)]));
        let error = sink(&folder, &[("format", format)]).check(&schema, true).expect_err("no text").to_string();
        assert!(error.starts_with("column 's' cannot be written"), "{error}");
    }
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let folder = folder();
    let sink = sink(&folder, &[("format", "json")]);
    let leftover = format!(".{FIRST}.00000000000000ff-0.tmp");
    fs::write(folder.path().join(&leftover), "{\"id\":0,\"na").expect("written");
    fs::write(folder.path().join(".out-1-00000000000000000007-00003.ndjson.00000000000000ff-0.tmp"), "")
        .expect("written");
    let own = temporary_name(FIRST);
    fs::write(folder.path().join(&own), "").expect("written");
    let target = sink.target(&rows(0..0).schema()).expect("opens");
    let mut kept = vec![".out-1-00000000000000000007-00003.ndjson.00000000000000ff-0.tmp".to_owned(), own];
    kept.sort();
    assert_eq!(names(&folder), kept, "only dead processes' files of this sink are removed");
    let (checkpoint, part) = first_part();
    target.put(checkpoint, part, &[Batch::inserts(rows(0..2))]).expect("delivered");
    assert_eq!(content(&folder, FIRST).lines().count(), 2);
}

#[test]
fn a_delivery_that_fails_leaves_nothing() {
    let folder = folder();
    let sink = sink(&folder, &[("format", "json")]);
    let target = sink.target(&rows(0..0).schema()).expect("opens");
    let (checkpoint, part) = first_part();
    fs::create_dir(folder.path().join("gone")).expect("made");
    let elsewhere = FileTarget {
        sink: FileSink { folder: folder.path().join("gone"), ..sink },
        schema: target.schema.clone(),
        keys: Vec::new(),
    };
    fs::remove_dir(folder.path().join("gone")).expect("removed");
    let error = elsewhere.put(checkpoint, part, &[Batch::inserts(rows(0..2))]).expect_err("no folder");
    assert!(matches!(error, Error::Connector { .. }), "{error}");
    assert!(names(&folder).is_empty());
    target.put(checkpoint, part, &[Batch::inserts(rows(0..2))]).expect("delivered");
}

#[test]
fn another_sinks_files_are_not_taken_for_ones_own() {
    for format in ["json", "parquet"] {
        let folder = folder();
        let target = sink(&folder, &[("format", format)]).target(&rows(0..0).schema()).expect("opens");
        let (checkpoint, part) = first_part();
        target.put(checkpoint, part, &[Batch::inserts(rows(0..2))]).expect("delivered");
        let error = target.put(checkpoint, part, &[Batch::inserts(rows(0..3))]).expect_err("other rows").to_string();
        assert!(error.contains("it exists and holds other rows"), "{error}");
        assert_eq!(names(&folder).len(), 1);
    }
}

#[test]
fn weights_become_rows() {
    let weights = Int64Array::from(vec![2, -1, 0, 1]);
    let batch = Batch::weighted(rows(0..4).project(&[0]).expect("a projection"), weights);
    let (checkpoint, part) = first_part();
    let delivered = |entries: &[(&str, &str)], batch: &Batch| {
        let folder = folder();
        let mut all = vec![("format", "csv")];
        all.extend(entries);
        let target = sink(&folder, &all).target(&batch.rows.schema()).expect("opens");
        let put = target.put(checkpoint, part, std::slice::from_ref(batch));
        put.map(|()| content(&folder, "out-00000000000000000007-00003.csv"))
    };
    assert_eq!(delivered(&[("type", "changelog")], &batch).expect("delivered"), "id,__op\n0,I\n0,I\n1,D\n3,I\n");
    assert_eq!(delivered(&[("force_append_only", "true")], &batch).expect("delivered"), "id\n0\n0\n3\n");
    assert!(delivered(&[], &batch).expect_err("a delete").to_string().contains("a delete came"));
    let inserts = Batch::inserts(batch.rows.clone());
    assert_eq!(delivered(&[("type", "changelog")], &inserts).expect("delivered").lines().last(), Some("3,I"));
}

/// Of keys from 0 on: unchanged, replaced in either order of its changes, gone, there for a while, new.
fn changes_by_key() -> [Batch; 2] {
    let batch = |changes: &[(i64, &str, i64)]| {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.0)));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(changes.iter().map(|change| change.1)));
        let rows = RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("a batch");
        Batch::weighted(rows, Int64Array::from_iter_values(changes.iter().map(|change| change.2)))
    };
    let first = batch(&[(5, "new", 1), (1, "b", 1), (0, "a", -1), (1, "a", -1), (2, "a", -1), (2, "b", 1)]);
    let second = batch(&[(0, "a", 1), (3, "a", -1), (4, "a", 1), (4, "a", -1), (2, "b", -1), (2, "c", 1)]);
    [first, second]
}

#[test]
fn what_became_of_each_key_is_written() {
    let delivered = |kind: &str, key: &str| {
        let folder = folder();
        let sink = sink(&folder, &[("format", "json"), ("type", kind), ("primary_key", key)]);
        let batches = changes_by_key();
        let target = sink.target(&batches[0].rows.schema()).expect("opens");
        let (checkpoint, part) = first_part();
        target.put(checkpoint, part, &batches).map(|()| content(&folder, FIRST))
    };
    let upserts = r#"{"key":{"id":1},"value":{"id":1,"name":"b"}}
{"key":{"id":2},"value":{"id":2,"name":"c"}}
{"key":{"id":3},"value":null}
{"key":{"id":5},"value":{"id":5,"name":"new"}}
"#;
    assert_eq!(delivered("upsert", "id").expect("delivered"), upserts);
    let changes = r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u"}
{"before":{"id":2,"name":"a"},"after":{"id":2,"name":"c"},"op":"u"}
{"before":{"id":3,"name":"a"},"after":null,"op":"d"}
{"before":null,"after":{"id":5,"name":"new"},"op":"c"}
"#;
    assert_eq!(delivered("debezium", "id").expect("delivered"), changes);
    let error = delivered("upsert", "name").expect_err("not a key").to_string();
    assert!(error.contains("two rows have the same primary key"), "{error}");
}

#[test]
fn no_rows_make_no_file() {
    let folder = folder();
    let target = sink(&folder, &[("format", "csv")]).target(&rows(0..0).schema()).expect("opens");
    target.put(CheckpointId(1), 0, &[]).expect("delivered");
    target.put(CheckpointId(2), 0, &[Batch::inserts(rows(0..0))]).expect("delivered");
    assert!(names(&folder).is_empty());
}

#[test]
fn statements_that_cannot_be_are_refused() {
    let folder = folder();
    let schema = rows(0..0).schema();
    let refused = |entries: &[(&str, &str)]| try_sink(&folder, entries).expect_err("refused").to_string();
    assert!(refused(&[]).contains("add FORMAT PLAIN ENCODE"));
    assert!(refused(&[("format", "csv"), ("prefix", "a/b")]).contains("expected letters"));
    assert!(refused(&[("format", "csv"), ("type", "other")]).contains("expected 'append-only' or 'changelog'"));
    assert!(refused(&[("format", "json"), ("type", "upsert")]).contains("need the option 'primary_key'"));
    assert!(refused(&[("format", "csv"), ("type", "upsert"), ("primary_key", "id")]).contains("write JSON, not CSV"));
    assert!(refused(&[("format", "json"), ("primary_key", "id")]).contains("it goes with type = 'upsert'"));
    let by_key = sink(&folder, &[("format", "json"), ("type", "upsert"), ("primary_key", "name, age")]);
    let error = by_key.check(&schema, false).expect_err("no such column").to_string();
    assert_eq!(error, "option 'primary_key' names 'age', which the input does not have");
    assert!(refused(&[("format", "csv"), ("type", "changelog"), ("force_append_only", "true")]).contains("goes with"));
    let plain = sink(&folder, &[("format", "csv")]);
    assert!(plain.check(&schema, true).is_ok());
    assert!(plain.check(&schema, false).expect_err("updates").to_string().contains("set type = 'changelog'"));
    assert!(sink(&folder, &[("format", "csv"), ("type", "changelog")]).check(&schema, false).is_ok());
    assert!(sink(&folder, &[("format", "csv"), ("force_append_only", "true")]).check(&schema, false).is_ok());
    let nested: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("l", DataType::new_list(DataType::Int64, true), true)]));
    assert!(
        plain.check(&nested, true).expect_err("nested").to_string().starts_with("column 'l' cannot be written to CSV")
    );
    assert!(sink(&folder, &[("format", "json")]).check(&nested, true).is_ok());
    assert!(sink(&folder, &[("format", "parquet")]).check(&nested, true).is_ok());
    assert_eq!(safe("my sink/ü"), "my_sink__");
}
