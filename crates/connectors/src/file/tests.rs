//! Files of every format, whole, growing and bad, against the conformance suite and what was written.

use super::*;
use crate::conformance::{Then, check_resumes, drain, read, read_all, source_of, try_source};
use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimeUnit};
use highwater_engine::source::Polled;
use proptest::prelude::*;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>(),
    ))
}

fn id_and_name() -> SchemaRef {
    schema(&[("id", DataType::Int64), ("name", DataType::Utf8)])
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn put(folder: &TempDir, name: &str, content: &str) -> std::path::PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().expect("within the folder")).expect("made");
    fs::write(&path, content).expect("written");
    path
}

fn append(path: &Path, content: &str) {
    let mut file = OpenOptions::new().append(true).open(path).expect("opened");
    file.write_all(content.as_bytes()).expect("written");
}

/// The rows of a source with the columns id and name, as text.
fn shown(rows: &RecordBatch) -> Vec<String> {
    let ids = rows.column(0).as_primitive::<Int64Type>();
    let names = rows.column(1).as_string::<i32>();
    let id = |row| if ids.is_null(row) { "-".to_owned() } else { ids.value(row).to_string() };
    let name = |row| if names.is_null(row) { "-" } else { names.value(row) };
    (0..rows.num_rows()).map(|row| format!("{} {}", id(row), name(row))).collect()
}

fn shown_all(batches: &[RecordBatch]) -> Vec<String> {
    batches.iter().flat_map(shown).collect()
}

fn message(entries: &[(&str, &str)], declared: Option<SchemaRef>) -> String {
    try_source("file", entries, declared.as_ref(), None).expect_err("refused").to_string()
}

#[test]
fn ndjson_is_read_by_name() {
    let folder = folder();
    let content = "\u{FEFF}{\"id\":1,\"name\":\"a\",\"more\":[1,{}]}\n\n{\"name\":\"b\\n\"}\r\n  {\"id\":3}";
    let path = put(&folder, "a.ndjson", content);
    let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
    assert_eq!(source.splits().expect("splits"), ["a.ndjson"]);
    assert_eq!(shown(&read_all(source.as_ref())), ["1 a", "- b\n", "3 -"]);
    check_resumes(source.as_ref(), &[1]);
}

/// A column s with the fields id and name.
fn composite() -> SchemaRef {
    schema(&[("s", DataType::Struct(id_and_name().fields().clone()))])
}

#[test]
fn nested_objects_are_composite_values() {
    let folder = folder();
    let content = "{\"s\":{\"name\":\"a\",\"id\":1,\"more\":{}}}\n{\"s\":{\"id\":2}}\n{\"s\":null}\n{}\n{\"s\":{}}\n";
    let path = put(&folder, "a.ndjson", content);
    let source = source_of("file", &[("path", text(&path))], Some(composite()), None);
    let rows = read_all(source.as_ref());
    let values = rows.column(0).as_struct();
    let (ids, names) = (values.column(0).as_primitive::<Int64Type>(), values.column(1).as_string::<i32>());
    assert_eq!(ids, &Int64Array::from(vec![Some(1), Some(2), None, None, None]));
    assert_eq!(names, &StringArray::from(vec![Some("a"), None, None, None, None]));
    let valid: Vec<bool> = (0..rows.num_rows()).map(|row| values.is_valid(row)).collect();
    assert_eq!(valid, [true, true, false, false, true]);
    check_resumes(source.as_ref(), &[1]);
}

#[test]
fn what_is_no_composite_value_is_bad() {
    let folder = folder();
    for (at, value) in ["7", "[1,\"a\"]", "{\"id\":1.5}", "{\"id\":\"x\"}"].into_iter().enumerate() {
        let path = put(&folder, &format!("{at}.ndjson"), &format!("{{\"s\":{value}}}\n{{\"s\":{{\"id\":1}}}}\n"));
        let entries = [("path", text(&path)), ("on_error", "skip")];
        let source = source_of("file", &entries, Some(composite()), None);
        assert_eq!(read_all(source.as_ref()).num_rows(), 1, "{value}");
    }
    let path = put(&folder, "a.csv", "s\n");
    assert!(message(&[("path", text(&path))], Some(composite())).contains("of type STRUCT cannot be read from CSV"));
    let path = put(&folder, "b.ndjson", "");
    let document = schema(&[("s", DataType::Struct(vec![Field::new("j", DataType::LargeUtf8, true)].into()))]);
    assert!(message(&[("path", text(&path))], Some(document)).contains("STRUCT with jsonb in it"));
}

#[test]
fn csv_columns_are_found_in_the_header() {
    let folder = folder();
    let path = put(&folder, "a.csv", "extra,NAME,id\r\nx,\"b, \"\"c\"\"\nd\",1\r\ny,,2\r\n\r\nz,e,\r\n");
    let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
    assert_eq!(shown(&read_all(source.as_ref())), ["1 b, \"c\"\nd", "2 -", "- e"]);
    check_resumes(source.as_ref(), &[1, 2]);
    let path = put(&folder, "b.csv", "1\tx\n2\ty");
    let entries = [("path", text(&path)), ("csv.header", "false"), ("csv.delimiter", "\\t")];
    let source = source_of("file", &entries, Some(id_and_name()), None);
    assert_eq!(shown(&read_all(source.as_ref())), ["1 x", "2 y"]);
    check_resumes(source.as_ref(), &[1]);
}

#[test]
fn times_are_read_as_people_write_them() {
    let folder = folder();
    let declared = schema(&[("t", DataType::Timestamp(TimeUnit::Microsecond, None))]);
    let json = put(&folder, "a.json", "{\"t\":\"2024-01-02T03:04:05.678\"}\n{\"t\":\"2024-01-02 03:04:05.678\"}\n");
    let csv = put(&folder, "a.csv", "t\n2024-01-02T03:04:05.678\n2024-01-02 03:04:05.678\n");
    for path in [json, csv] {
        let rows = read_all(source_of("file", &[("path", text(&path))], Some(declared.clone()), None).as_ref());
        let times = rows.column(0).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        assert_eq!(times.values(), &[1_704_164_645_678_000; 2]);
    }
}

#[test]
fn a_bad_row_is_named_or_left_out() {
    let folder = folder();
    let bad_lines = ["{\"id\":\"x\"}", "{\"id\":5", "{} {}", "[1]", "nonsense", "{\"id\":{}}"];
    for bad in bad_lines {
        let path = put(&folder, "a.json", &format!("{{\"id\":1}}\n{{\"id\":2}}\n{bad}\n{{\"id\":4}}\n"));
        let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
        let mut reader = source.open("a.json", None).expect("opens");
        for _ in 0..2 {
            let error = reader.poll(100).expect_err("bad").to_string();
            assert!(error.starts_with(&format!("file '{}': line 3 (byte 18): ", path.display())), "{error}");
        }
        let source = source_of("file", &[("path", text(&path)), ("on_error", "skip")], Some(id_and_name()), None);
        let mut reader = source.open("a.json", None).expect("opens");
        assert_eq!(shown_all(&drain(reader.as_mut(), &[100]).0), ["1 -", "2 -", "4 -"], "{bad}");
        assert_eq!(reader.skipped(), 1);
        check_resumes(source.as_ref(), &[1, 3]);
    }
}

#[test]
fn an_object_over_two_lines_is_bad_wherever_it_is_cut() {
    let folder = folder();
    let path = put(&folder, "a.json", "{\"id\":1}\n{\"id\":\n2}\n{\"id\":3}{\"id\":4}\n{\"id\":5}\n");
    let source = source_of("file", &[("path", text(&path)), ("on_error", "skip")], Some(id_and_name()), None);
    for size in [1, 2, 3, 100] {
        let mut reader = source.open("a.json", None).expect("opens");
        assert_eq!(shown_all(&drain(reader.as_mut(), &[size]).0), ["1 -", "5 -"]);
        assert_eq!(reader.skipped(), 3);
    }
}

#[test]
fn bad_csv_rows() {
    let folder = folder();
    let path = put(&folder, "a.csv", "id,name\n1,\"a\nb\"\nx,c\n3\n4,d\n");
    let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
    let error = source.open("a.csv", None).expect("opens").poll(100).expect_err("bad").to_string();
    assert!(error.contains("line 4 (byte 16): "), "{error}");
    let source = source_of("file", &[("path", text(&path)), ("on_error", "skip")], Some(id_and_name()), None);
    let mut reader = source.open("a.csv", None).expect("opens");
    assert_eq!(shown_all(&drain(reader.as_mut(), &[100]).0), ["1 a\nb", "4 d"]);
    assert_eq!(reader.skipped(), 2);
    check_resumes(source.as_ref(), &[1]);
    let path = put(&folder, "b.csv", "id,title\n1,a\n");
    let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
    let error = source.open("b.csv", None).expect("opens").poll(100).expect_err("bad").to_string();
    assert!(error.ends_with("its header lacks the column 'name'; it has id, title"), "{error}");
}

#[test]
fn csv_values_are_read_as_postgresql_reads_texts() {
    let folder = folder();
    let path = put(&folder, "a.csv", "b,n\nt,1.005\nOFF,-1.005\n 1 ,1e2\n,\nmaybe,1\ny,99999999.995\n");
    let declared = schema(&[("b", DataType::Boolean), ("n", DataType::Decimal128(10, 2))]);
    let source = source_of("file", &[("path", text(&path)), ("on_error", "skip")], Some(declared.clone()), None);
    let rows = read_all(source.as_ref());
    let booleans: Vec<Option<bool>> = rows.column(0).as_boolean().iter().collect();
    assert_eq!(booleans, [Some(true), Some(false), Some(true), None]);
    let numbers = rows.column(1).as_primitive::<arrow::datatypes::Decimal128Type>();
    assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(101), Some(-101), Some(10_000), None]);
    check_resumes(source.as_ref(), &[1, 2]);
    let source = source_of("file", &[("path", text(&path))], Some(declared), None);
    let error = source.open("a.csv", None).expect("opens").poll(100).expect_err("bad").to_string();
    assert!(error.contains("line 6 (byte 33): column \"b\": invalid input syntax for type boolean"), "{error}");
}

#[test]
fn parquet_fractions_are_no_integers() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(1.6), None, Some(-1.6), Some(-2.0)]));
    write_parquet(&path, &RecordBatch::try_from_iter([("n", numbers)]).expect("a batch"), 3);
    let entries = [("path", text(&path)), ("on_error", "skip")];
    let source = source_of("file", &entries, Some(schema(&[("n", DataType::Int32)])), None);
    let rows = read_all(source.as_ref());
    let values = rows.column(0).as_primitive::<arrow::datatypes::Int32Type>();
    assert_eq!(values.iter().collect::<Vec<_>>(), [Some(1), None, Some(-2)]);
    check_resumes(source.as_ref(), &[1, 2]);
}

#[test]
fn a_followed_file_gives_complete_lines_only() {
    let folder = folder();
    let path = put(&folder, "in/a.json", "{\"id\":1}\n{\"id\":");
    let entries = [("path", text(path.parent().expect("a folder"))), ("file.watch", "true"), ("format", "json")];
    let source = source_of("file", &entries, Some(id_and_name()), None);
    let mut reader = source.open("a.json", None).expect("opens");
    let look = |reader: &mut dyn SplitReader| {
        let (batches, then) = drain(reader, &[10]);
        assert_eq!(then, Then::Waits);
        shown_all(&batches)
    };
    assert_eq!(look(reader.as_mut()), ["1 -"]);
    let offset = reader.offset();
    append(&path, "2}\n{\"id\":3}");
    assert_eq!(look(reader.as_mut()), ["2 -"]);
    append(&path, "\n");
    assert_eq!(look(reader.as_mut()), ["3 -"]);
    let mut again = source.open("a.json", Some(&offset)).expect("opens");
    assert_eq!(look(again.as_mut()), ["2 -", "3 -"]);
    fs::write(&path, "").expect("truncated");
    assert!(reader.poll(10).expect_err("shorter").to_string().contains("shorter than byte"));
    fs::remove_file(&path).expect("removed");
    let mut gone = source.open("a.json", Some(&offset)).expect("opens");
    assert!(matches!(gone.poll(10), Ok(Polled::End)));
}

#[test]
fn a_followed_csv_file_may_lack_its_header_yet() {
    let folder = folder();
    let path = put(&folder, "a.csv", "na");
    let source = source_of("file", &[("path", text(&path)), ("file.watch", "true")], Some(id_and_name()), None);
    let mut reader = source.open("a.csv", None).expect("opens");
    assert_eq!(drain(reader.as_mut(), &[10]).1, Then::Waits);
    append(&path, "me,id\n");
    assert_eq!(drain(reader.as_mut(), &[10]).1, Then::Waits);
    append(&path, "x,1\ny,");
    assert_eq!(shown_all(&drain(reader.as_mut(), &[10]).0), ["1 x"]);
    let mut again = source.open("a.csv", Some(&reader.offset())).expect("opens");
    append(&path, "2\n");
    assert_eq!(shown_all(&drain(again.as_mut(), &[10]).0), ["2 y"]);
}

#[test]
fn a_folder_grows() {
    let folder = folder();
    put(&folder, "b.json", "{\"id\":2}");
    put(&folder, "_done/c.json", "");
    put(&folder, ".hidden.json", "");
    put(&folder, "readme.txt", "");
    let entries =
        [("path", text(folder.path())), ("file.watch", "on"), ("file.discovery.interval", "20ms"), ("format", "json")];
    let source = source_of("file", &entries, Some(id_and_name()), None);
    assert_eq!(source.discovery(), Some(Duration::from_millis(20)));
    assert_eq!(source.splits().expect("splits"), ["b.json"]);
    put(&folder, "deep/a.jsonl", "{\"id\":1}");
    assert_eq!(source.splits().expect("splits"), ["b.json", "deep/a.jsonl"]);
    put(&folder, "d.json.gz", "");
    assert!(source.splits().expect_err("compressed").to_string().contains("compressed files cannot be read"));
}

#[test]
fn a_pattern_names_files() {
    let folder = folder();
    put(&folder, "x/1/a.json", "{\"id\":1}");
    put(&folder, "x/2/a.json", "{\"id\":2}");
    put(&folder, "x/2/b.json", "{\"id\":3}");
    let pattern = folder.path().join("x/*/a.json");
    let source = source_of("file", &[("path", text(&pattern))], Some(id_and_name()), None);
    assert_eq!(source.splits().expect("splits"), ["1/a.json", "2/a.json"]);
    assert_eq!(source.discovery(), None);
    assert_eq!(shown(&read_all(source.as_ref())), ["1 -", "2 -"]);
}

#[test]
fn statements_that_cannot_be_are_refused() {
    let folder = folder();
    let here = text(folder.path());
    assert!(message(&[("path", "/nowhere/at/all.json")], Some(id_and_name())).contains("'/nowhere/at/all.json'"));
    assert!(message(&[("path", here)], Some(id_and_name())).contains("add FORMAT PLAIN ENCODE"));
    assert!(message(&[("path", here), ("format", "csv")], Some(id_and_name())).contains("there is no CSV file"));
    assert!(message(&[], None).contains("needs the option 'path'"));
    let path = put(&folder, "a.csv", "id\n");
    assert!(message(&[("path", text(&path))], None).contains("declare the columns"));
    assert!(message(&[("path", text(&path)), ("csv.delimiter", ";;")], Some(id_and_name())).contains("one ASCII"));
    let nested = schema(&[("l", DataType::new_list(DataType::Int64, true))]);
    assert!(message(&[("path", text(&path))], Some(nested)).starts_with("column 'l' of type"));
    let zipped = put(&folder, "a.csv.gz", "");
    assert!(message(&[("path", text(&zipped)), ("format", "csv")], Some(id_and_name())).contains("compressed"));
}

fn write_parquet(path: &Path, rows: &RecordBatch, group: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let file = File::create(path).expect("created");
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).expect("a writer");
    writer.write(rows).expect("written");
    writer.close().expect("closed");
}

fn numbered(rows: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|id| format!("n{id}"))));
    let extra: ArrayRef = Arc::new(Float64Array::from_iter_values((0..rows).map(|id| id as f64 / 2.0)));
    RecordBatch::try_from_iter([("extra", extra), ("name", names), ("id", ids)]).expect("a batch")
}

#[test]
fn parquet_columns_are_found_by_name() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &numbered(100), 30);
    let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
    let rows = read_all(source.as_ref());
    assert_eq!(rows.num_rows(), 100);
    assert_eq!(shown(&rows)[99], "99 n99");
    check_resumes(source.as_ref(), &[7, 30, 1]);
    let inferred = source_of("file", &[("path", text(&path))], None, None);
    let names: Vec<String> = inferred.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["extra", "name", "id"]);
    assert_eq!(read_all(inferred.as_ref()).columns(), numbered(100).columns());
}

#[test]
fn composite_columns_of_parquet_are_cast_by_their_fields() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let nested = arrow::array::StructArray::from(numbered(10).project(&[1, 2]).expect("two columns"));
    let rows = RecordBatch::try_from_iter([("S", Arc::new(nested) as ArrayRef)]).expect("a batch");
    write_parquet(&path, &rows, 4);
    let source = source_of("file", &[("path", text(&path))], Some(composite()), None);
    let rows = read_all(source.as_ref());
    let values = RecordBatch::from(rows.column(0).as_struct());
    assert_eq!(shown(&values)[9], "9 n9");
}

#[test]
fn parquet_values_that_do_not_fit() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), Some("x"), None, Some("4")]));
    write_parquet(&path, &RecordBatch::try_from_iter([("name", names)]).expect("a batch"), 3);
    let declared = schema(&[("name", DataType::Int64)]);
    let source = source_of("file", &[("path", text(&path))], Some(declared.clone()), None);
    let mut reader = source.open("a.parquet", None).expect("opens");
    for _ in 0..2 {
        let error = reader.poll(100).expect_err("bad").to_string();
        assert!(error.ends_with("row 1 of row group 0: 'name' does not fit its type"), "{error}");
    }
    let source = source_of("file", &[("path", text(&path)), ("on_error", "skip")], Some(declared), None);
    let mut reader = source.open("a.parquet", None).expect("opens");
    let rows: usize = drain(reader.as_mut(), &[1]).0.iter().map(RecordBatch::num_rows).sum();
    assert_eq!((rows, reader.skipped()), (3, 1));
    check_resumes(source.as_ref(), &[1, 2]);
}

#[test]
fn parquet_values_that_no_statement_takes_are_bad() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let columns: [(&str, ArrayRef); 4] = [
        ("t", Arc::new(Int64Array::from(vec![-1, 0, 0, 0, 86_400_000_000]))),
        ("b", Arc::new(StringArray::from(vec!["00", "zz", "ff", "00", r"\xff"]))),
        ("j", Arc::new(StringArray::from(vec!["{}", "{}", "", "{}", "[1]"]))),
        ("v", Arc::new(StringArray::from(vec!["a", "a", "a", "a\0", "a"]))),
    ];
    write_parquet(&path, &RecordBatch::try_from_iter(columns).expect("a batch"), 9);
    let declared = schema(&[
        ("t", DataType::Time64(TimeUnit::Microsecond)),
        ("b", DataType::Binary),
        ("j", DataType::LargeUtf8),
        ("v", DataType::Utf8),
    ]);
    let source = source_of("file", &[("path", text(&path)), ("on_error", "skip")], Some(declared), None);
    let rows = read_all(source.as_ref());
    assert_eq!(rows.num_rows(), 1);
    assert_eq!(rows.column(1).as_binary::<i32>().value(0), [0xFF]);
    check_resumes(source.as_ref(), &[1, 2]);
    let declared = schema(&[("t", DataType::Boolean)]);
    let source = source_of("file", &[("path", text(&path)), ("on_error", "skip")], Some(declared), None);
    let error = source.open("a.parquet", None).expect("opens").poll(9).expect_err("refused").to_string();
    assert!(error.contains("column 't' is declared as Boolean but file '"), "{error}");
}

#[test]
fn texts_with_zero_bytes_are_bad() {
    let folder = folder();
    let json = put(&folder, "a.json", "{\"id\":1,\"name\":\"a\\u0000\"}\n{\"id\":2,\"name\":\"b\"}\n");
    let csv = put(&folder, "a.csv", "id,name\n1,a\0\n2,b\n");
    for path in [json, csv] {
        let entries = [("path", text(&path)), ("on_error", "skip")];
        let source = source_of("file", &entries, Some(id_and_name()), None);
        assert_eq!(shown(&read_all(source.as_ref())), ["2 b"], "{}", path.display());
    }
}

#[test]
fn a_parquet_file_may_be_incomplete_for_a_while() {
    let folder = folder();
    let path = put(&folder, "a.parquet", "PAR1");
    let entries = [("path", text(folder.path())), ("format", "parquet"), ("file.watch", "true")];
    let source = source_of("file", &entries, Some(id_and_name()), None);
    let mut reader = source.open("a.parquet", None).expect("opens");
    assert_eq!(drain(reader.as_mut(), &[10]).1, Then::Waits);
    write_parquet(&path, &numbered(3), 10);
    let (batches, then) = drain(reader.as_mut(), &[10]);
    assert_eq!((shown_all(&batches), then), (vec!["0 n0".into(), "1 n1".into(), "2 n2".into()], Then::Ended));
}

#[test]
fn a_parquet_file_that_is_shorter_than_before_is_refused() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &numbered(6), 2);
    let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
    let mut reader = source.open("a.parquet", None).expect("opens");
    assert_eq!(drain(reader.as_mut(), &[10]).1, Then::Ended);
    let (end, last_row) = (reader.offset(), serde_json::json!({ "group": 2, "row": 2 }));
    for offset in [&end, &last_row] {
        let mut reader = source.open("a.parquet", Some(offset)).expect("opens");
        assert_eq!(drain(reader.as_mut(), &[10]).1, Then::Ended, "{offset}");
    }
    write_parquet(&path, &numbered(5), 2);
    assert!(source.open("a.parquet", Some(&last_row)).expect("opens").poll(10).is_err(), "a row group is shorter");
    write_parquet(&path, &numbered(4), 2);
    let error = source.open("a.parquet", Some(&end)).expect("opens").poll(10).expect_err("shorter").to_string();
    assert!(error.contains("it ends before row 0 of row group 3"), "{error}");
}

#[test]
fn offsets_of_other_files_are_refused() {
    let folder = folder();
    let path = put(&folder, "a.json", "");
    let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
    assert!(source.open("a.json", Some(&Offset::Null)).is_ok(), "not read from yet");
    let wrong = serde_json::json!({ "group": 0, "row": 0 });
    let error = source.open("a.json", Some(&wrong)).err().expect("refused").to_string();
    assert!(error.contains("is not an offset of a text file"), "{error}");
}

#[test]
fn files_greater_than_the_buffer() {
    let folder = folder();
    let long = "x".repeat(3 << 20);
    let lines: String = (0..50_000).map(|id| format!("{{\"id\":{id},\"name\":\"name of {id}\"}}\n")).collect();
    let path = put(&folder, "a.json", &format!("{lines}{{\"id\":-1,\"name\":\"{long}\"}}\n{lines}"));
    let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
    let rows = read(source.as_ref(), "a.json", None, &[100_000]);
    assert_eq!(rows.num_rows(), 100_001);
    assert_eq!(rows.column(1).as_string::<i32>().value(50_000).len(), long.len());
    assert_eq!(shown(&rows.slice(100_000, 1)), ["49999 name of 49999"]);
}

fn csv_value(value: &str) -> String {
    if value.contains(['"', '\n', '\r', ',']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn csv_of_any_text_is_read_from_anywhere(
        values in prop::collection::vec("[ab\"\n\r, ]{1,6}", 1..40),
        sizes in prop::collection::vec(1usize..9, 1..6),
        last_newline: bool,
    ) {
        let folder = folder();
        let mut content = "id,name\n".to_owned();
        let lines: Vec<String> = values.iter().enumerate().map(|(id, v)| format!("{id},{}", csv_value(v))).collect();
        content.push_str(&lines.join("\n"));
        content.push_str(if last_newline { "\n" } else { "" });
        let path = put(&folder, "a.csv", &content);
        let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
        let expected: Vec<String> = values.iter().enumerate().map(|(id, v)| format!("{id} {v}")).collect();
        prop_assert_eq!(shown(&read_all(source.as_ref())), expected);
        check_resumes(source.as_ref(), &sizes);
    }

    #[test]
    fn json_of_any_text_is_read_from_anywhere(
        values in prop::collection::vec(prop::option::of("[ab\"\n{} ]{0,6}"), 1..40),
        bad in prop::collection::vec(0usize..40, 0..4),
        sizes in prop::collection::vec(1usize..9, 1..6),
        last_newline: bool,
    ) {
        let folder = folder();
        let mut lines = Vec::new();
        let mut expected = Vec::new();
        for (id, value) in values.iter().enumerate() {
            if bad.contains(&id) {
                lines.push("{\"id\":tru}".to_owned());
            } else {
                lines.push(serde_json::json!({ "id": id, "name": value }).to_string());
                expected.push(format!("{id} {}", value.as_deref().unwrap_or("-")));
            }
        }
        let path = put(&folder, "a.json", &(lines.join("\n") + if last_newline { "\n" } else { "" }));
        let source = source_of("file", &[("path", text(&path)), ("on_error", "skip")], Some(id_and_name()), None);
        prop_assert_eq!(shown(&read_all(source.as_ref())), expected);
        check_resumes(source.as_ref(), &sizes);
    }

    #[test]
    fn parquet_is_read_from_anywhere(
        rows in 1i64..60, group in 1usize..20, sizes in prop::collection::vec(1usize..30, 1..6),
    ) {
        let folder = folder();
        let path = folder.path().join("a.parquet");
        write_parquet(&path, &numbered(rows), group);
        let source = source_of("file", &[("path", text(&path))], Some(id_and_name()), None);
        prop_assert_eq!(read_all(source.as_ref()).num_rows() as i64, rows);
        check_resumes(source.as_ref(), &sizes);
    }
}
