//! Files of changes, files in order, what is included, and rows that could not be read.

use crate::conformance::{Then, check_resumes, drain, read_all, try_shaped};
use crate::shape::{Envelope, Included, Metadata, Shape};
use crate::{Format, Options};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use highwater_engine::source::{Offset, Source};
use std::fs;
use std::sync::Arc;
use tempfile::TempDir;

fn declared() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, false),
    ]))
}

/// One file a text.
fn files(texts: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (at, text) in texts.iter().enumerate() {
        fs::write(folder.path().join(format!("{at}.json")), text).expect("written");
    }
    folder
}

fn source(folder: &TempDir, entries: &[(&str, &str)], shape: Shape<'_>) -> Arc<dyn Source> {
    let mut all = vec![("path", folder.path().to_str().expect("UTF-8"))];
    all.extend(entries);
    try_shaped(&all, &declared(), Format::Json, shape).expect("a source")
}

/// Rows as text; nulls are dashes.
fn shown(rows: &RecordBatch, columns: usize) -> Vec<String> {
    let value = |column: usize, row: usize| {
        let column = rows.column(column);
        if column.is_null(row) { "-".to_owned() } else { array_value_to_string(column, row).expect("printable") }
    };
    let line = |row| (0..columns).map(|column| value(column, row)).collect::<Vec<_>>().join(" ");
    (0..rows.num_rows()).map(line).collect()
}

fn id() -> Vec<String> {
    vec!["id".to_owned()]
}

#[test]
fn upserts_are_keys_with_and_without_a_row() {
    let key = id();
    let shape = Shape { envelope: Envelope::Upsert, key: &key, included: &[] };
    let text = r#"{"key":{"id":1},"value":{"id":1,"name":"a","n":1,"more":[]}}

{"value":{"id":2,"n":2},"key":"whatever"}
{"key":{"id":1,"name":"gone"},"value":null}"#;
    let folder = files(&[text]);
    let source = source(&folder, &[], shape);
    assert_eq!(source.splits().expect("splits"), ["all"]);
    assert_eq!(shown(&read_all(source.as_ref()), 4), ["1 a 1 false", "2 - 2 false", "1 gone - true"]);
    check_resumes(source.as_ref(), &[1, 2]);
}

#[test]
fn a_key_may_be_a_column_of_its_own() {
    let key = vec!["k".to_owned()];
    let included = [Included { what: Metadata::Key, name: "k".to_owned() }];
    let shape = Shape { envelope: Envelope::Upsert, key: &key, included: &included };
    let text = r#"{"key":"a b","value":{"id":1,"n":1}}
{"key":{"id":"x"},"value":null}
{"key":null,"value":{"id":1,"n":1}}
"#;
    let folder = files(&[text]);
    let source = source(&folder, &[("on_error", "skip")], shape);
    assert_eq!(shown(&read_all(source.as_ref()), 5), ["1 - 1 a b false", r#"- - - {"id":"x"} true"#]);
    check_resumes(source.as_ref(), &[1, 2]);
}

#[test]
fn debezium_changes_are_taken_apart() {
    let key = id();
    let shape = Shape { envelope: Envelope::Debezium, key: &key, included: &[] };
    let good = r#"{"before":null,"after":{"id":1,"name":"a","n":1},"op":"c"}
{"schema":{},"payload":{"before":{"id":1,"n":1},"after":{"id":1,"n":2},"op":"u"}}
null
{"before":{"id":1},"after":null,"op":"d"}
"#;
    let expected = ["1 a 1 false", "1 - 2 false", "1 - - true"];
    for bad in [
        r#"{"id":1,"n":1}"#,
        r#"{"op":"c","after":{"id":1,"n":1.5}}"#,
        r#"{"op":"c","after":{"n":1}}"#,
        r#"{"op":"c","after":{"id":1}}"#,
        r#"{"op":"d","before":{"n":1}}"#,
        r#"{"op":"t"}"#,
        r#"{"op":"c","after":[1]}"#,
    ] {
        let folder = files(&[&format!("{good}{bad}\n")]);
        let skipping = source(&folder, &[("on_error", "skip")], shape);
        assert_eq!(shown(&read_all(skipping.as_ref()), 4), expected, "{bad}");
        check_resumes(skipping.as_ref(), &[1, 2]);
        let failing = source(&folder, &[], shape);
        let mut reader = failing.open("all", None).expect("opens");
        assert!(reader.poll(100).expect_err(bad).to_string().contains("line 5 "), "{bad}");
    }
}

#[test]
fn files_of_rows_that_replace_each_other_are_read_in_order() {
    let key = id();
    let shape = Shape { key: &key, ..Shape::default() };
    let line = |id: i64, n: i64| format!("{{\"id\":{id},\"n\":{n}}}");
    let folder = files(&[&(line(1, 1) + "\n" + &line(2, 1)), "", &(line(1, 2) + "\n")]);
    let bounded = source(&folder, &[], shape);
    assert_eq!(shown(&read_all(bounded.as_ref()), 3), ["1 - 1", "2 - 1", "1 - 2"]);
    check_resumes(bounded.as_ref(), &[1, 2]);

    let watched = source(&folder, &[("file.watch", "true")], shape);
    assert_eq!(watched.discovery(), None);
    let mut reader = watched.open("all", None).expect("opens");
    let (batches, then) = drain(reader.as_mut(), &[5]);
    assert_eq!((batches.iter().map(RecordBatch::num_rows).sum::<usize>(), then), (3, Then::Waits));
    // The last file's next line has no end until another file comes.
    fs::write(folder.path().join("2.json"), line(1, 2) + "\n" + &line(2, 3)).expect("written");
    assert_eq!(drain(reader.as_mut(), &[5]), (Vec::new(), Then::Waits));
    let at = reader.offset();
    fs::write(folder.path().join("3.json"), line(2, 4) + "\n").expect("written");
    let again = watched.open("all", Some(&at)).expect("opens");
    for mut reader in [reader, again] {
        let (batches, then) = drain(reader.as_mut(), &[5]);
        let rows = concat_batches(&watched.schema(), &batches).expect("one schema");
        assert_eq!((shown(&rows, 3), then), (vec!["2 - 3".to_owned(), "2 - 4".to_owned()], Then::Waits));
    }
    // A file that is gone was read.
    for name in ["0.json", "1.json", "2.json"] {
        fs::remove_file(folder.path().join(name)).expect("removed");
    }
    let mut reader = watched.open("all", Some(&at)).expect("opens");
    let (batches, _) = drain(reader.as_mut(), &[5]);
    assert_eq!(shown(&batches[0], 3), ["2 - 4"]);
    let wrong: Offset = 7.into();
    assert!(watched.open("all", Some(&wrong)).is_err());
}

#[test]
fn where_a_row_stands_is_included() {
    let included = [(Metadata::Offset, "at"), (Metadata::File, "file")];
    let included = included.map(|(what, name)| Included { what, name: name.to_owned() });
    let shape = Shape { included: &included, ..Shape::default() };
    let folder = files(&["{\"id\":1,\"n\":1}\n\nbad\n{\"id\":2,\"n\":2}\n"]);
    let source = source(&folder, &[("on_error", "skip")], shape);
    assert_eq!(shown(&read_all(source.as_ref()), 5), ["1 - 1 0 0.json", "2 - 2 20 0.json"]);
    check_resumes(source.as_ref(), &[1]);
}

#[test]
fn rows_that_cannot_be_read_are_given_in_their_places() {
    let folder = files(&["{\"id\":1,\"n\":1}\nbad\n{\"id\":2,\"n\":2}\n{\"id\":3}\n"]);
    let source = source(&folder, &[("on_error", "dead_letter")], Shape::default());
    for sizes in [&[1], &[2], &[3], &[100]] {
        let mut reader = source.open("0.json", None).expect("opens");
        let (batches, then) = drain(reader.as_mut(), sizes);
        assert_eq!((then, reader.skipped()), (Then::Ended, 2));
        let rows = concat_batches(&source.schema(), &batches).expect("one schema");
        let values = shown(&rows, 6);
        assert_eq!(values[0], "1 - 1 - - -");
        assert_eq!(values[1], r#"- - - 0 0.json {"byte":15,"line":1}"#);
        assert_eq!(values[2], "2 - 2 - - -");
        assert_eq!(values[3], r#"- - - 1 0.json {"byte":34,"line":3}"#);
        let last = rows.columns().len() - 1;
        assert_eq!(rows.column(last).null_count(), 2, "only what was not read has a reason");
        let texts = rows.column(last - 1).as_string::<i32>();
        assert_eq!((texts.value(1), texts.value(3)), ("bad", "{\"id\":3}"));
        assert_eq!(reader.offset().to_string(), r#"{"byte":43,"line":4,"bad":2}"#);
    }
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let key = id();
    let folder = files(&[""]);
    let path = folder.path().to_str().expect("UTF-8");
    let refused = |entries: &[(&str, &str)], format, shape| {
        let mut all = vec![("path", path), ("file.watch", "true")];
        all.extend(entries);
        try_shaped(&all, &declared(), format, shape).expect_err("refused").to_string()
    };
    let upsert = Shape { envelope: Envelope::Upsert, key: &key, included: &[] };
    assert_eq!(refused(&[], Format::Csv, upsert), "FORMAT UPSERT is for JSON files, not CSV");
    let file = [Included { what: Metadata::File, name: "id".to_owned() }];
    let included = Shape { included: &file, ..Shape::default() };
    assert_eq!(refused(&[], Format::Json, included), "two columns of the source are named 'id'");
    assert!(refused(&[], Format::Parquet, included).contains("is for JSON and CSV files"));
    assert!(refused(&[("on_error", "dead_letter")], Format::Parquet, Shape::default()).contains("use 'skip'"));
    let options = Options::new([("connector".to_owned(), "datagen".to_owned())]).expect("options");
    let columns = declared();
    let created = crate::Created {
        connector: "datagen",
        name: "s",
        incarnation: 0,
        options: &options,
        columns: Some(&columns),
        format: None,
        shape: upsert,
    };
    let error = crate::Connectors::default().source(&created).expect_err("refused").to_string();
    assert_eq!(error, "FORMAT UPSERT is not for a source with connector 'datagen': only 'file' has it");
}
