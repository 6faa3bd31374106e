//! Tables that files of changes fill, over crashes: the database is dropped without a shutdown.

use crate::parts::{Log, Store, assert_equal_to_recomputation, number, open, wait_until};
use highwater::Database;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// What a table holds: n by id.
type Twin = BTreeMap<i64, i64>;

fn begin(folder: &Path) -> Database {
    open(folder, &Log::of(0), &Store::default(), |_| {})
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
    file.write_all(text.as_bytes()).expect("written");
}

/// The rows of a query of two columns of numbers.
fn pairs(database: &Database, query: &str) -> Twin {
    use highwater::arrow::array::AsArray;
    use highwater::arrow::datatypes::Int64Type;
    let rows = database.query(query).expect(query);
    let of_batch = |batch: &highwater::arrow::array::RecordBatch| {
        let [keys, values] = [0, 1].map(|column| batch.column(column).as_primitive::<Int64Type>().values().to_vec());
        keys.into_iter().zip(values)
    };
    let pairs: Vec<(i64, i64)> = rows.batches.iter().flat_map(of_batch).collect();
    let count = pairs.len();
    let twin: Twin = pairs.into_iter().collect();
    assert_eq!(twin.len(), count, "a key has one row");
    twin
}

/// Changes of one stage, as Debezium writes them.
fn changes(stage: i64, twin: &mut Twin) -> String {
    let mut text = String::new();
    let row = |id: i64, n: i64| format!("{{\"id\":{id},\"n\":{n}}}");
    for id in 0..40 {
        let before = twin.get(&id).map_or_else(|| "null".to_owned(), |n| row(id, *n));
        if twin.contains_key(&id) && (id + stage) % 5 == 0 {
            twin.remove(&id);
            writeln!(text, "{{\"before\":{before},\"after\":null,\"op\":\"d\"}}").expect("text");
        } else if (id + stage) % 3 > 0 {
            let op = if twin.insert(id, stage * 100 + id).is_some() { "u" } else { "c" };
            let after = row(id, stage * 100 + id);
            writeln!(text, "{{\"payload\":{{\"before\":{before},\"after\":{after},\"op\":\"{op}\"}}}}").expect("text");
        }
    }
    text
}

/// What the files of an upsert sink come to, in the order of their names.
fn delivered(folder: &Path) -> Twin {
    let Ok(entries) = fs::read_dir(folder) else { return Twin::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    paths.sort();
    let mut twin = Twin::new();
    for path in paths {
        for line in fs::read_to_string(path).expect("read").lines() {
            let change: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let id = change["key"]["id"].as_i64().expect("a key");
            match change["value"]["n"].as_i64() {
                Some(n) => twin.insert(id, n),
                None => twin.remove(&id),
            };
        }
    }
    twin
}

#[test]
fn a_table_of_changes_a_view_and_a_sink_survive_crashes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, log, out) = (folder.path().join("data"), folder.path().join("log"), folder.path().join("out"));
    fs::create_dir(&log).expect("made");
    let script = format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL) WITH (
             connector = 'file', path = '{}', format = 'json', file.watch = 'true', file.discovery.interval = '10ms'
         ) FORMAT DEBEZIUM ENCODE JSON;
         CREATE MATERIALIZED VIEW v AS SELECT n / 100 AS stage, count(*) AS c FROM t GROUP BY 1;
         CREATE MATERIALIZED VIEW w AS SELECT a.id, b.n FROM t a JOIN t b ON a.id = b.id WHERE a.n > 0;
         CREATE SINK k FROM t WITH (connector = 'file', path = '{}', primary_key = 'id') FORMAT UPSERT ENCODE JSON;",
        log.display(),
        out.display()
    );
    let mut twin = Twin::new();
    for stage in 1..=6 {
        // Every other stage begins a new file.
        append(&log.join(format!("{}.json", stage / 2)), &changes(stage, &mut twin));
        let database = begin(&data);
        database.script(&script).expect("a script");
        database.execute("FLUSH").expect("flushes");
        assert_eq!(pairs(&database, "SELECT id, n FROM t"), twin, "stage {stage}");
        assert_eq!(pairs(&database, "SELECT id, n FROM w"), twin, "stage {stage}");
        assert_eq!(number(&database, "SELECT CAST(sum(c) AS bigint) FROM v"), twin.len() as i64);
        for view in ["v", "w"] {
            assert_equal_to_recomputation(&database, view);
        }
        let (id, n) = twin.iter().next().expect("there are rows");
        assert_eq!(number(&database, &format!("SELECT n FROM t WHERE id = {id}")), *n, "looked up by its key");
        drop(database);
    }
    let database = begin(&data);
    database.script(&script).expect("a script");
    wait_until("not all is delivered", || delivered(&out) == twin);
    let refused = database.execute("DELETE FROM t").expect_err("not written by clients").to_string();
    assert!(refused.contains("\"t\" is filled by its connector"), "{refused}");
    database.execute("DROP TABLE t CASCADE").expect("dropped");
    database.execute("CREATE TABLE t (id bigint)").expect("another one");
    database.shutdown().expect("a clean stop");
}

#[test]
fn rows_that_cannot_be_read_are_kept_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, path) = (folder.path().join("data"), folder.path().join("orders.json"));
    let script = format!(
        "CREATE TABLE orders (id bigint NOT NULL) INCLUDE FILE AS file WITH (
             connector = 'file', path = '{}', file.watch = 'true', file.discovery.interval = '10ms',
             on_error = 'dead_letter'
         ) FORMAT PLAIN ENCODE JSON;",
        path.display()
    );
    for stage in 1..=3 {
        append(&path, "{\"id\":1}\nnonsense\n{\"id\":2}\n{\"id\":null}\n");
        let database = begin(&data);
        database.script(&script).expect("a script");
        database.execute("FLUSH").expect("flushes");
        assert_eq!(number(&database, "SELECT count(*) FROM orders WHERE file = 'orders.json'"), 2 * stage);
        let dead = "hw_catalog.dead_letters WHERE source = 'orders' AND split = 'orders.json' AND \"at\" IS NOT NULL";
        assert_eq!(number(&database, &format!("SELECT count(*) FROM {dead}")), 2 * stage);
        let texts = format!("SELECT count(DISTINCT \"offset\") FROM {dead} AND raw IN ('nonsense', '{{\"id\":null}}')");
        assert_eq!(number(&database, &texts), 2 * stage);
        drop(database);
    }
}

#[test]
fn equal_floats_are_one_key_also_when_they_are_computed_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = begin(&folder.path().join("data"));
    let path = folder.path().join("rows.json");
    append(&path, "{\"x\":0.0,\"n\":1}\n{\"x\":1.5,\"n\":2}\n{\"x\":-0.0,\"n\":3}\n");
    let with = format!("WITH (connector = 'file', path = '{}')", path.display());
    database.execute(&format!("CREATE TABLE t (x double precision PRIMARY KEY, n bigint) {with}")).expect("a table");
    database.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM t").expect("a view");
    database.execute("FLUSH").expect("flushes");
    assert_eq!(number(&database, "SELECT sum(n)::bigint FROM v"), 5, "the last row of zero counts");
    assert_equal_to_recomputation(&database, "v");
    database.shutdown().expect("a clean stop");
}

#[test]
fn statements_that_cannot_be_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = begin(&folder.path().join("data"));
    let path = folder.path().join("rows.json");
    append(&path, "{\"id\":1,\"n\":1}\n{\"id\":1,\"n\":2}\n");
    let with = format!("WITH (connector = 'file', path = '{}'", path.display());
    let refused = |statement: String| database.execute(&statement).expect_err(&statement).to_string();
    let error = refused(format!("CREATE SOURCE s (id bigint) {with}, on_error = 'dead_letter')"));
    assert!(error.contains("on_error = 'dead_letter' of a source"), "{error}");
    let error = refused("CREATE TABLE t (id bigint PRIMARY KEY) WITH (connector = 'nowhere')".to_owned());
    assert!(error.contains("connector 'nowhere' is not one"), "{error}");
    database.execute(&format!("CREATE TABLE t (id bigint PRIMARY KEY, n bigint) {with})")).expect("a table");
    database.execute("FLUSH").expect("flushes");
    assert_eq!(pairs(&database, "SELECT id, n FROM t"), Twin::from([(1, 2)]), "the last row of a key counts");
    let sink = |options: &str| {
        format!(
            "CREATE SINK k FROM t WITH (connector = 'file', path = '{}'{options})",
            folder.path().join("k").display()
        )
    };
    let error = refused(sink("") + " FORMAT PLAIN ENCODE JSON");
    assert!(error.contains("the input updates or deletes rows"), "{error}");
    let error = refused(sink(", primary_key = 'm'") + " FORMAT DEBEZIUM ENCODE JSON");
    assert!(error.contains("option 'primary_key' names 'm'"), "{error}");
    let error = refused(sink(", type = 'upsert', primary_key = 'id'") + " FORMAT DEBEZIUM ENCODE JSON");
    assert!(error.contains("but the statement says FORMAT DEBEZIUM"), "{error}");
    database.shutdown().expect("a clean stop");
}
