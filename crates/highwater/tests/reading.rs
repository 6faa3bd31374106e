//! Reading views: rows by their keys, views of a pipeline that failed, followers, and what is asked
//! while views are being restored.

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use highwater::{Config, Database, Pipeline, Status, ViewEvent};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

const TABLES: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, name varchar, part int, amount numeric(10, 2));
CREATE MATERIALIZED VIEW by_name AS SELECT name, count(*) AS n, sum(amount) AS total FROM t GROUP BY name;
CREATE MATERIALIZED VIEW by_both AS SELECT part + 1 AS p, count(*) AS n, name AS who FROM t GROUP BY 1, name HAVING count(*) > 1;
CREATE MATERIALIZED VIEW whole AS SELECT id, amount FROM t WHERE amount > 3;
";

fn open(folder: &Path) -> Database {
    Database::open(config(folder)).expect("a database")
}

fn config(folder: &Path) -> Config {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config
}

fn rows(database: &Database, sql: &str) -> Vec<String> {
    let mut rows: Vec<String> = database.query(sql).expect(sql).batches.iter().flat_map(rows_of).collect();
    rows.sort();
    rows
}

fn rows_of(batch: &RecordBatch) -> Vec<String> {
    let cell = |column: &arrow::array::ArrayRef, row| array_value_to_string(column, row).expect("printable");
    let row = |row| batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn insert(database: &Database, from: u64, to: u64) {
    let row = |id: u64| format!("({id}, 'name {}', {}, {}.50)", id % 10, id % 3, id % 7);
    let rows: Vec<String> = (from..to).map(row).collect();
    database.execute(&format!("INSERT INTO t VALUES {}", rows.join(", "))).expect("inserted");
}

#[test]
fn a_row_is_looked_up_by_the_key_of_its_view() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script(TABLES).expect("created");
    insert(&database, 0, 1000);
    database.execute("INSERT INTO t VALUES (5000, 'alone', 1, 1)").expect("inserted");
    database.execute("FLUSH").expect("flushed");
    let scratch = rows(&database, "SELECT name, count(*), sum(amount) FROM t WHERE name = 'name 3' GROUP BY name");
    assert_eq!(rows(&database, "SELECT * FROM by_name WHERE name = 'name 3'"), scratch);
    assert_eq!(rows(&database, "SELECT v.n AS c, total FROM by_name v WHERE v.name = 'alone'"), ["1|1.00"]);
    assert!(rows(&database, "SELECT * FROM by_name WHERE name = 'nobody'").is_empty());
    // As the same condition in another form says, which reads all rows.
    for (by_key, otherwise) in [
        ("who = 'name 4' AND p = 2", "who || '' = 'name 4' AND p + 0 = 2"),
        ("1 = p AND who = 'name 4'", "who || '' = 'name 4' AND p + 0 = 1"),
        // HAVING leaves it out.
        ("who = 'alone' AND p = 2", "who || '' = 'alone' AND p + 0 = 2"),
        ("who = 'name 4' AND p = NULL", "false"),
        ("who = 'name 4'", "who || '' = 'name 4'"),
    ] {
        let found = rows(&database, &format!("SELECT * FROM by_both WHERE {by_key}"));
        assert_eq!(found, rows(&database, &format!("SELECT * FROM by_both WHERE {otherwise}")), "{by_key}");
    }
    assert_eq!(rows(&database, "SELECT * FROM whole WHERE id = 5"), ["5|5.50"]);
    database.shutdown().expect("stops");
}

#[test]
fn a_view_of_a_failed_pipeline_is_read_as_it_was_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database
        .script(
            "CREATE TABLE t (a int, b int);
             CREATE MATERIALIZED VIEW shares AS SELECT a, sum(100 / b) AS share FROM t GROUP BY a;
             CREATE MATERIALIZED VIEW counts AS SELECT a, count(*) AS n FROM t GROUP BY a;
             INSERT INTO t VALUES (1, 10), (1, 20), (2, 50); FLUSH; CHECKPOINT;",
        )
        .expect("created");
    database.execute("INSERT INTO t VALUES (3, 0)").expect("a table takes it");
    let shares = |database: &Database| {
        let found = database.pipelines().into_iter().find(|pipeline| pipeline.name() == "shares");
        found.expect("it is there")
    };
    wait_for("the failure", || matches!(shares(&database).status(), Status::Failed { .. }));
    let stale = database.execute("SELECT * FROM shares ORDER BY a").expect("it stays readable");
    let read: Vec<String> = stale.rows.expect("rows").batches.iter().flat_map(rows_of).collect();
    assert_eq!(read, ["1|15", "2|2"]);
    assert!(stale.notices[0].starts_with("shares: stale, as of checkpoint "), "{:?}", stale.notices);
    let told = "for the row a = 3, b = 0; ALTER MATERIALIZED VIEW shares SET (on_error = 'skip')";
    assert!(stale.notices[0].contains(told), "{:?}", stale.notices);
    assert!(stale.notices[0].contains("division by zero in "), "{:?}", stale.notices);
    // The other one goes on.
    wait_for("the other view", || rows(&database, "SELECT * FROM counts") == ["1|2", "2|1", "3|1"]);
    let both = rows(&database, "SELECT c.a, share, n FROM shares s JOIN counts c ON c.a = s.a");
    assert_eq!(both, ["1|15|2", "2|2|1"]);
    assert_eq!(rows(&database, "SELECT share FROM shares WHERE a = 2"), ["2"]);
    database.execute("DROP MATERIALIZED VIEW shares").expect("dropped");
    database.shutdown().expect("stops");
}

/// Makes the root of a database hang for who asks for a pipeline: nobody ever writes what is to be read.
fn hang_root(folder: &Path, pipeline: &str) {
    let (pointer, pipe) = (folder.join("checkpoints").join(pipeline).join("current"), folder.join("pipe"));
    assert!(pointer.exists());
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("a program for pipes");
    assert!(made.success());
    std::fs::rename(&pipe, &pointer).expect("in its place");
}

#[test]
fn who_reads_a_view_of_a_failed_pipeline_waits_alone_for_a_root_that_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database
        .script(
            "CREATE TABLE t (a int, b int);
             CREATE MATERIALIZED VIEW shares AS SELECT a, sum(100 / b) AS share FROM t GROUP BY a;
             CREATE MATERIALIZED VIEW counts AS SELECT a, count(*) AS n FROM t GROUP BY a;
             INSERT INTO t VALUES (1, 10), (2, 50); FLUSH; CHECKPOINT;
             INSERT INTO t VALUES (3, 0);",
        )
        .expect("created");
    let found = database.pipelines().into_iter().find(|pipeline| pipeline.name() == "shares");
    let shares = found.expect("it is there");
    wait_for("the failure", || matches!(shares.status(), Status::Failed { .. }));
    hang_root(folder.path(), "shares");
    let before = shares.metrics().restarts;
    wait_for("a restart, which hangs", || shares.metrics().restarts > before);
    let mut connection = database.connect();
    let canceller = connection.canceller();
    std::thread::scope(|scope| {
        let query = "SELECT a, share, n FROM shares JOIN counts USING (a)";
        let reading = scope.spawn(|| database.execute_for(&mut connection, query));
        for a in 4..10 {
            database.execute(&format!("INSERT INTO t VALUES ({a}, 1)")).expect("inserted");
            let row = format!("{a}|1");
            wait_for("the other view", || rows(&database, "SELECT * FROM counts").contains(&row));
        }
        assert!(!reading.is_finished());
        wait_for("the end of the read", || {
            canceller.cancel();
            reading.is_finished()
        });
        let error = reading.join().expect("it does not panic").expect_err("it was cancelled");
        assert_eq!(error.sqlstate(), "57014", "{error}");
    });
}

#[test]
fn a_table_beside_a_view_that_has_nothing_to_do_is_read_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (a int); CREATE TABLE u (x int); CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;
        INSERT INTO t VALUES (1); FLUSH; INSERT INTO u VALUES (7);";
    database.script(script).expect("created");
    let query = "SELECT n, x FROM v CROSS JOIN u";
    assert_eq!(rows(&database, query), ["1|7"], "though the view has not seen this moment");
    // For longer than the log is kept of a table that no view reads.
    let until = Instant::now() + Duration::from_secs(13);
    while Instant::now() < until {
        database.execute("UPDATE u SET x = x + 1").expect("updated");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(rows(&database, query), rows(&database, "SELECT 1 AS n, x FROM u"));
    database.execute("ALTER TABLE u ADD PRIMARY KEY (x)").expect("a key");
    assert_eq!(rows(&database, query).len(), 1, "it has a row, which it had before");
}

#[test]
fn a_table_is_read_as_the_views_beside_it_show_it_however_long_a_stale_one_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database
        .script(
            "CREATE TABLE t (a int, b int);
             CREATE TABLE u (x int);
             CREATE MATERIALIZED VIEW shares AS SELECT a, sum(100 / b) AS share FROM t GROUP BY a;
             CREATE MATERIALIZED VIEW counts AS SELECT a, count(*) AS n FROM t GROUP BY a;
             INSERT INTO t VALUES (1, 10), (2, 50); INSERT INTO u VALUES (7); FLUSH; CHECKPOINT;
             INSERT INTO t VALUES (3, 0);",
        )
        .expect("created");
    let found = database.pipelines().into_iter().find(|pipeline| pipeline.name() == "shares");
    let shares = found.expect("it is there");
    wait_for("the failure", || matches!(shares.status(), Status::Failed { .. }));
    let (pointer, kept) = (folder.path().join("checkpoints/shares/current"), folder.path().join("kept"));
    fs::copy(&pointer, &kept).expect("copied");
    hang_root(folder.path(), "shares");
    let mut connection = database.connect();
    std::thread::scope(|scope| {
        let query = "SELECT a, share, n, min(x) FROM shares JOIN counts USING (a) CROSS JOIN u GROUP BY a, share, n";
        let reading = scope.spawn(|| database.execute_for(&mut connection, query));
        // For longer than the log is kept of a table that no view reads.
        let until = Instant::now() + Duration::from_secs(13);
        while Instant::now() < until {
            database.execute("INSERT INTO u VALUES (8)").expect("inserted");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(!reading.is_finished());
        // Who waits for it finds nothing in it, and from then on what was there.
        let answer = File::options().write(true).open(&pointer).expect("somebody reads it");
        fs::rename(&kept, &pointer).expect("in its place");
        drop(answer);
        let read = reading.join().expect("it does not panic").expect("it is read");
        let mut found: Vec<String> = read.rows.expect("rows").batches.iter().flat_map(rows_of).collect();
        found.sort();
        assert_eq!(found, ["1|10|1|7", "2|2|1|7"]);
    });
}

const STATUS_OF_V: &str = "SELECT status FROM hw_catalog.views WHERE name = 'v'";

/// Makes who changes the pointer of a pipeline wait, until the lock beside it is dropped.
fn lock_pointer(folder: &Path, pipeline: &str) -> File {
    let place = folder.join("checkpoints").join(pipeline);
    fs::create_dir_all(&place).expect("a folder");
    let lock = File::create(place.join(".current.lock")).expect("a file");
    lock.lock().expect("it is free at last");
    lock
}

#[test]
fn nobody_else_waits_for_a_definition_whose_root_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let tables = "CREATE TABLE t (a int); CREATE MATERIALIZED VIEW w AS SELECT a, count(*) AS n FROM t GROUP BY a;";
    database.script(tables).expect("created");
    let _lock = lock_pointer(folder.path(), "v");
    let definition = "CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS s FROM t";
    let mut connection = database.connect();
    let canceller = connection.canceller();
    std::thread::scope(|scope| {
        let making = scope.spawn(|| database.execute_for(&mut connection, definition));
        let status = STATUS_OF_V;
        wait_for("the beginning", || rows(&database, status) == ["starting"]);
        for statement in ["INSERT INTO t VALUES (7)", "FLUSH", "CHECKPOINT", "SHOW JOBS"] {
            database.execute(statement).expect(statement);
        }
        assert_eq!(rows(&database, "SELECT * FROM w"), ["7|1"]);
        let refused = database.execute("CHECKPOINT v").expect_err("it does not run");
        assert!(refused.to_string().contains("it is yet to be begun"), "{refused}");
        assert!(!making.is_finished());
        wait_for("the end of the definition", || {
            canceller.cancel();
            making.is_finished()
        });
        let error = making.join().expect("it does not panic").expect_err("it was cancelled");
        assert_eq!(error.sqlstate(), "57014", "{error}");
        assert!(rows(&database, status).is_empty());
    });
    database.execute(definition).expect("of that name there is none");
    assert_eq!(rows(&database, "SELECT s FROM v"), ["7"]);
}

const FAILING: &str = "
CREATE TABLE t (a int, b int);
CREATE MATERIALIZED VIEW shares AS SELECT a, sum(100 / b) AS share FROM t GROUP BY a;
CREATE MATERIALIZED VIEW counts AS SELECT a, count(*) AS n FROM t GROUP BY a;
INSERT INTO t VALUES (1, 10), (2, 50); FLUSH; CHECKPOINT;
INSERT INTO t VALUES (3, 0);
";
const OVER_SHARES: &str = "CREATE MATERIALIZED VIEW v AS SELECT a FROM shares";

fn pipeline(database: &Database, name: &str) -> Pipeline {
    database.pipelines().into_iter().find(|pipeline| pipeline.name() == name).expect("it is there")
}

/// A database in which the view shares has failed, and whose root hangs for it.
fn failed_and_hung(folder: &Path) -> (Database, File) {
    let database = open(folder);
    database.script(FAILING).expect("created");
    wait_for("the failure", || matches!(pipeline(&database, "shares").status(), Status::Failed { .. }));
    let lock = lock_pointer(folder, "shares");
    (database, lock)
}

#[test]
fn nobody_else_waits_for_a_definition_over_a_failed_view_whose_root_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, lock) = failed_and_hung(folder.path());
    let mut connection = database.connect();
    let canceller = connection.canceller();
    let status_of_shares = || rows(&database, "SELECT status FROM hw_catalog.views WHERE name = 'shares'").concat();
    std::thread::scope(|scope| {
        let making = scope.spawn(|| database.execute_for(&mut connection, OVER_SHARES));
        wait_for("the beginning", || rows(&database, STATUS_OF_V) == ["starting"]);
        for a in 4..7 {
            database.execute(&format!("INSERT INTO t VALUES ({a}, 1)")).expect("inserted");
            let row = format!("{a}|1");
            wait_for("the other view", || rows(&database, "SELECT * FROM counts").contains(&row));
        }
        database.execute("SHOW JOBS").expect("shown");
        assert_eq!(status_of_shares(), "starting");
        assert!(!making.is_finished());
        wait_for("the end of the definition", || {
            canceller.cancel();
            making.is_finished()
        });
        let error = making.join().expect("it does not panic").expect_err("it was cancelled");
        assert_eq!(error.sqlstate(), "57014", "{error}");
    });
    assert!(rows(&database, STATUS_OF_V).is_empty());
    assert!(status_of_shares().starts_with("broken: "), "{}", status_of_shares());
    drop(lock);
    wait_for("the next try", || {
        database.retry_broken();
        !status_of_shares().starts_with("broken: ")
    });
    wait_for("the failure", || pipeline(&database, "shares").status() != Status::Running);
    database.execute("ALTER MATERIALIZED VIEW shares SET (on_error = 'skip')").expect("altered");
    wait_for("all rows", || database.execute("FLUSH").is_ok());
    assert_eq!(rows(&database, "SELECT * FROM shares"), ["1|10", "2|2", "4|100", "5|100", "6|100"]);
    database.shutdown().expect("stops");
}

#[test]
fn a_stop_does_not_wait_for_a_pipeline_that_is_begun_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, lock) = failed_and_hung(folder.path());
    let mut connection = database.connect();
    std::thread::scope(|scope| {
        let making = scope.spawn(|| database.execute_for(&mut connection, OVER_SHARES));
        wait_for("the beginning", || rows(&database, STATUS_OF_V) == ["starting"]);
        let began = Instant::now();
        database.shutdown().expect("what runs stops");
        assert!(began.elapsed() < Duration::from_secs(40), "it has waited for the root");
        let error = making.join().expect("it does not panic").expect_err("all ends");
        assert_eq!(error.sqlstate(), "55000", "{error}");
    });
    drop(lock);
    drop(database);
    let database = open(folder.path());
    assert!(rows(&database, STATUS_OF_V).is_empty(), "it was not made");
}

/// A database with a view that runs well, and whose root hangs for who begins that anew.
fn hung_for_w(folder: &Path) -> (Database, File) {
    let database = open(folder);
    let script = "CREATE TABLE t (a int); CREATE TABLE u (a int);
        CREATE MATERIALIZED VIEW w AS SELECT a, count(*) AS n FROM t GROUP BY a;
        CREATE MATERIALIZED VIEW x AS SELECT a FROM u;
        INSERT INTO t VALUES (7); FLUSH; CHECKPOINT;";
    database.script(script).expect("created");
    let lock = lock_pointer(folder, "w");
    (database, lock)
}

const STATUS_OF_W: &str = "SELECT status FROM hw_catalog.views WHERE name = 'w'";
/// In a script no checkpoint is made ahead, for which the root would be needed before.
const INDEX_OF_W: &str = "CREATE INDEX i ON w (n);";

#[test]
fn who_needs_a_view_waits_until_it_is_begun_anew_and_nobody_else_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, lock) = hung_for_w(folder.path());
    let (mut reader, mut flusher, mut definer) = (database.connect(), database.connect(), database.connect());
    std::thread::scope(|scope| {
        let making = scope.spawn(|| database.script(INDEX_OF_W));
        wait_for("the beginning", || rows(&database, STATUS_OF_W) == ["starting"]);
        let reading = scope.spawn(|| database.execute_for(&mut reader, "SELECT * FROM w"));
        let flushing = scope.spawn(|| database.execute_for(&mut flusher, "FLUSH"));
        let over_w = "CREATE MATERIALIZED VIEW y AS SELECT a FROM w WHERE n > 0";
        let defining = scope.spawn(|| database.execute_for(&mut definer, over_w));
        for a in 1..20 {
            database.execute(&format!("INSERT INTO u VALUES ({a})")).expect("inserted");
            wait_for("the other view", || rows(&database, "SELECT * FROM x").contains(&a.to_string()));
        }
        database.execute("SHOW JOBS").expect("shown");
        assert!(!making.is_finished() && !reading.is_finished());
        assert!(!flushing.is_finished() && !defining.is_finished());
        drop(lock);
        making.join().expect("it does not panic").expect("created");
        let read = reading.join().expect("it does not panic").expect("read");
        assert!(read.notices.is_empty(), "{:?}", read.notices);
        let read: Vec<String> = read.rows.expect("rows").batches.iter().flat_map(rows_of).collect();
        assert_eq!(read, ["7|1"]);
        flushing.join().expect("it does not panic").expect("flushed");
        defining.join().expect("it does not panic").expect("created");
    });
    database.script("INSERT INTO t VALUES (7); FLUSH;").expect("inserted");
    assert_eq!(rows(&database, "SELECT * FROM w WHERE n = 2"), ["7|2"]);
    assert_eq!(rows(&database, "SELECT * FROM y"), ["7"]);
    database.shutdown().expect("stops");
}

#[test]
fn a_pause_is_not_lost_while_a_pipeline_is_begun_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, lock) = hung_for_w(folder.path());
    std::thread::scope(|scope| {
        let making = scope.spawn(|| database.script(INDEX_OF_W));
        wait_for("the beginning", || rows(&database, STATUS_OF_W) == ["starting"]);
        database.pause(&pipeline(&database, "w"), true).expect("it is noted");
        drop(lock);
        making.join().expect("it does not panic").expect("created");
    });
    wait_for("the pause", || pipeline(&database, "w").metrics().paused);
    database.execute("INSERT INTO t VALUES (7)").expect("inserted");
    database.execute("FLUSH").expect_err("it shows nothing newer");
    database.pause(&pipeline(&database, "w"), false).expect("it goes on");
    database.execute("FLUSH").expect("flushed");
    assert_eq!(rows(&database, "SELECT * FROM w"), ["7|2"]);
    database.shutdown().expect("stops");
}

#[test]
fn a_definition_that_cannot_be_taken_back_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script("CREATE TABLE t (a int); INSERT INTO t VALUES (7);").expect("created");
    let lock = lock_pointer(folder.path(), "v");
    let mut connection = database.connect();
    let canceller = connection.canceller();
    std::thread::scope(|scope| {
        let definition = "CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS s FROM t";
        let making = scope.spawn(|| database.execute_for(&mut connection, definition));
        wait_for("the beginning", || rows(&database, STATUS_OF_V) == ["starting"]);
        // No new catalog can be written.
        fs::create_dir(folder.path().join("catalog.json.new")).expect("a folder");
        wait_for("the end of the definition", || {
            canceller.cancel();
            making.is_finished()
        });
        making.join().expect("it does not panic").expect_err("it is still there");
    });
    fs::remove_dir(folder.path().join("catalog.json.new")).expect("removed");
    assert!(rows(&database, STATUS_OF_V)[0].starts_with("broken: "));
    std::thread::scope(|scope| {
        let trying = scope.spawn(|| database.retry_broken());
        wait_for("the next try", || rows(&database, STATUS_OF_V) == ["restoring"]);
        // Nobody waits for it, nor is it begun with what has changed meanwhile.
        database.script("CREATE TABLE u (a int); ALTER TABLE t ADD COLUMN b int;").expect("defined");
        database.execute("FLUSH").expect_err("it does not run yet");
        assert!(!trying.is_finished());
        drop(lock);
    });
    database.execute("INSERT INTO t VALUES (1, 2)").expect("inserted");
    wait_for("the view", || {
        database.retry_broken();
        database.execute("FLUSH").is_ok()
    });
    assert_eq!(rows(&database, "SELECT s FROM v"), ["8"]);
}

#[test]
fn a_table_is_not_changed_while_a_view_of_it_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "CREATE TABLE t (a int);
        CREATE MATERIALIZED VIEW w AS SELECT a, count(*) AS n FROM t GROUP BY a;
        INSERT INTO t VALUES (1); FLUSH; CHECKPOINT;";
    database.script(script).expect("created");
    // The new column waits for a checkpoint of what reads the table, and the new view comes between.
    let lock_of_w = lock_pointer(folder.path(), "w");
    let lock_of_v = lock_pointer(folder.path(), "v");
    let manifests = folder.path().join("checkpoints").join("w").join("checkpoints");
    let manifests = || fs::read_dir(&manifests).expect("a folder").count();
    database.script("INSERT INTO t VALUES (2); FLUSH").expect("inserted");
    let before = manifests();
    let (mut altering, mut making) = (database.connect(), database.connect());
    std::thread::scope(|scope| {
        let altered = scope.spawn(|| database.execute_for(&mut altering, "ALTER TABLE t ADD COLUMN b int"));
        wait_for("the checkpoint", || manifests() > before);
        let definition = "CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS s FROM t";
        let made = scope.spawn(|| database.execute_for(&mut making, definition));
        wait_for("the beginning", || rows(&database, STATUS_OF_V) == ["starting"]);
        drop(lock_of_w);
        for _ in 0..50 {
            database.execute("CHECKPOINT").expect("it is published");
            database.query("SELECT b FROM t").expect_err("the view is yet to be made");
        }
        drop(lock_of_v);
        made.join().expect("it does not panic").expect("created");
        altered.join().expect("it does not panic").expect("altered");
    });
    database.script("INSERT INTO t (a, b) VALUES (4, 8); FLUSH").expect("inserted");
    assert_eq!(rows(&database, "SELECT s FROM v"), ["7"]);
    assert_eq!(rows(&database, "SELECT * FROM w"), ["1|1", "2|1", "4|1"]);
}

#[test]
fn views_of_several_pipelines_are_seen_at_one_position() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database
        .script(
            "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint);
             CREATE MATERIALIZED VIEW low AS SELECT sum(balance) AS s FROM accounts WHERE id < 50;
             CREATE MATERIALIZED VIEW high AS SELECT sum(balance) AS s FROM accounts WHERE id >= 50;",
        )
        .expect("created");
    let opened: Vec<String> = (0..100).map(|id| format!("({id}, 1000)")).collect();
    database.execute(&format!("INSERT INTO accounts VALUES {}", opened.join(", "))).expect("inserted");
    database.execute("FLUSH").expect("flushed");
    assert_eq!(database.pipelines().len(), 2, "each view has a pipeline of its own");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (database, over) = (&database, &over);
            scope.spawn(move || {
                let mut number = 0;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let (from, to) = (number % 50, 50 + (number * 7 + thread) % 50);
                    // One statement moves money from the one view to the other.
                    let transfer = format!(
                        "UPDATE accounts SET balance = balance + CASE WHEN id = {from} THEN -3 ELSE 3 END \
                         WHERE id = {from} OR id = {to}"
                    );
                    database.execute(&transfer).expect("moved");
                    number += 1;
                }
            });
        }
        let all = "SELECT l.s + h.s, (SELECT sum(balance) FROM accounts) FROM low l, high h";
        for _ in 0..200 {
            assert_eq!(rows(&database, all), ["100000|100000"]);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    database.shutdown().expect("stops");
}

#[test]
fn tables_of_one_statement_are_seen_at_one_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database
        .script(
            "CREATE TABLE here (v bigint); CREATE TABLE there (v bigint);
             INSERT INTO here VALUES (1000); INSERT INTO there VALUES (1000);
             CREATE TABLE seen (total bigint);",
        )
        .expect("created");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = database.connect();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                for sql in ["BEGIN", "UPDATE here SET v = v - 1", "UPDATE there SET v = v + 1", "COMMIT"] {
                    database.execute_for(&mut connection, sql).expect(sql);
                }
            }
        });
        for _ in 0..300 {
            assert_eq!(rows(&database, "SELECT a.v + b.v FROM here a, there b"), ["2000"]);
            database.execute("INSERT INTO seen SELECT a.v + b.v FROM here a, there b").expect("inserted");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(rows(&database, "SELECT DISTINCT total FROM seen"), ["2000"]);
    database.shutdown().expect("stops");
}

#[test]
fn a_query_takes_no_more_memory_than_it_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path());
    config.query_memory = highwater::Bytes(1 << 20);
    let database = Database::open(config).expect("a database");
    database
        .script(
            "CREATE TABLE t (a bigint PRIMARY KEY, b varchar);
             CREATE MATERIALIZED VIEW v AS SELECT a, b FROM t;
             CREATE TABLE u (a bigint, b varchar);",
        )
        .expect("created");
    for from in (0..50_000).step_by(10_000) {
        let some: Vec<String> = (from..from + 10_000).map(|id| format!("({id}, 'some text')")).collect();
        database.execute(&format!("INSERT INTO t VALUES {}", some.join(", "))).expect("inserted");
    }
    database.execute("FLUSH").expect("flushed");
    for refused in [
        "SELECT count(*) FROM v AS x JOIN v AS y ON x.a = y.a",
        "INSERT INTO u SELECT a, b FROM t",
        "UPDATE t SET b = 'other'",
    ] {
        let error = database.execute(refused).expect_err(refused);
        assert_eq!(error.sqlstate(), "53200", "{refused}: {error}");
    }
    assert_eq!(rows(&database, "SELECT count(*) FROM t"), ["50000"]);
    // A view that is read alone is not held in memory.
    assert_eq!(rows(&database, "SELECT count(*) FROM v"), ["50000"]);
    assert_eq!(rows(&database, "SELECT b FROM t WHERE a = 7"), ["some text"]);
    database.shutdown().expect("stops");
}

/// Applies events to a view's rows.
fn follow(event: ViewEvent, held: &mut BTreeMap<String, i64>) {
    match event {
        ViewEvent::Rows { rows, .. } => {
            held.clear();
            for row in rows.iter().flat_map(rows_of) {
                *held.entry(row).or_default() += 1;
            }
        }
        ViewEvent::Changes { changes, .. } => {
            assert!(!changes.is_empty(), "an epoch without changes is not told");
            for batch in &changes {
                for (at, row) in rows_of(&batch.rows).into_iter().enumerate() {
                    *held.entry(row).or_default() += batch.weight(at);
                }
            }
            held.retain(|_, count| *count != 0);
            assert!(held.values().all(|count| *count > 0), "what goes was there: {held:?}");
        }
    }
}

#[test]
fn a_follower_has_what_the_view_has_also_over_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script(TABLES).expect("created");
    insert(&database, 0, 100);
    database.execute("FLUSH").expect("flushed");
    for view in ["by_name", "by_both", "whole"] {
        let mut following = database.subscribe(view).expect("a view");
        assert_eq!(following.schema().fields().len(), rows(&database, &format!("DESCRIBE {view}")).len());
        let mut held = BTreeMap::new();
        let mut events = 0;
        let mut catch_up = |held: &mut BTreeMap<String, i64>| {
            database.execute("FLUSH").expect("flushed");
            let wanted = rows(&database, &format!("SELECT * FROM {view}"));
            wait_for("the follower", || {
                if let Some(event) = following.next(Duration::from_millis(50)).expect("it runs") {
                    events += u32::from(matches!(event, ViewEvent::Rows { .. }));
                    follow(event, held);
                }
                let now = held.iter().flat_map(|(row, count)| std::iter::repeat_n(row.clone(), *count as usize));
                now.collect::<Vec<_>>() == wanted
            });
        };
        catch_up(&mut held);
        insert(&database, 100, 200);
        database.execute("UPDATE t SET name = 'renamed', amount = amount + 1 WHERE id % 13 = 0").expect("updated");
        catch_up(&mut held);
        database.execute("DELETE FROM t WHERE id >= 100").expect("deleted");
        catch_up(&mut held);
        // The pipeline begins a new run with what reads the view.
        database
            .execute(&format!("CREATE MATERIALIZED VIEW over_it AS SELECT count(*) AS n FROM {view}"))
            .expect("new");
        database.execute("DELETE FROM t WHERE id % 7 = 0").expect("deleted");
        catch_up(&mut held);
        assert_eq!(events, 2, "the rows came at first and after the restart");
        database.execute("DROP MATERIALIZED VIEW over_it").expect("dropped");
        database.execute("DELETE FROM t").expect("deleted");
        insert(&database, 0, 100);
    }
    assert_eq!(database.subscribe("nothing").expect_err("unknown").sqlstate(), "42P01");
    assert_eq!(database.subscribe("t").expect_err("a table").sqlstate(), "42809");
    let mut following = database.subscribe("whole").expect("a view");
    assert!(following.next(Duration::from_secs(60)).expect("rows").is_some());
    database.execute("DROP MATERIALIZED VIEW whole").expect("dropped");
    let gone = loop {
        match following.next(Duration::from_secs(60)) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(gone.sqlstate(), "42P01");
    database.shutdown().expect("stops");
}

#[test]
fn a_query_waits_for_the_pipelines_of_its_views_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script(TABLES).expect("created");
    insert(&database, 0, 100);
    for view in 0..20 {
        let sql = format!(
            "CREATE MATERIALIZED VIEW v{view} AS SELECT id % {} AS k, count(*) AS n FROM t GROUP BY 1",
            view + 1
        );
        database.execute(&sql).expect("created");
    }
    database.script("FLUSH; CHECKPOINT;").expect("saved");
    drop(database);

    let database = Database::open_catalog(config(folder.path())).expect("opens");
    assert_eq!(database.restoring().len(), 23);
    assert!(database.pipelines().is_empty());
    // Tables need no pipeline.
    assert_eq!(rows(&database, "SELECT count(*) FROM t"), ["100"]);
    insert(&database, 100, 110);
    std::thread::scope(|scope| {
        let last = scope.spawn(|| rows(&database, "SELECT count(*) FROM v19"));
        wait_for("the hurry", || database.restoring().first().is_some_and(|first| first == "v19"));
        scope.spawn(|| database.restore_pipelines());
        assert_eq!(last.join().expect("it answers"), ["20"]);
        // A definition waits for all.
        database.execute("CREATE MATERIALIZED VIEW late AS SELECT count(*) AS n FROM v0").expect("created");
        assert!(database.restoring().is_empty());
    });
    database.execute("FLUSH").expect("flushed");
    assert_eq!(rows(&database, "SELECT n FROM v0"), ["110"]);
    assert_eq!(database.pipelines().len(), 23);
    assert!(database.broken().is_empty());
    database.shutdown().expect("stops");
}

#[test]
fn rows_without_a_key_are_added_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..3 {
        let database = open(folder.path());
        if round == 0 {
            // The newest table: no key of a later one is in the store's files.
            database.execute("CREATE TABLE bag (v int)").expect("created");
            database.execute("CREATE MATERIALIZED VIEW seen AS SELECT v FROM bag WHERE v >= 0").expect("created");
        }
        database.execute(&format!("INSERT INTO bag VALUES ({round})")).expect("inserted");
        database.execute("FLUSH").expect("flushed");
        let wanted: Vec<String> = (0..=round).map(|v| v.to_string()).collect();
        assert_eq!(rows(&database, "SELECT v FROM bag"), wanted, "round {round}");
        assert_eq!(rows(&database, "SELECT v FROM seen"), wanted, "round {round}");
        database.shutdown().expect("a clean stop");
    }
}

#[test]
fn a_view_may_run_on_one_worker_and_on_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script(TABLES).expect("created");
    database
        .execute(
            "CREATE MATERIALIZED VIEW narrow WITH (parallelism = 1) AS
             SELECT part, count(*) AS n, max(name) AS last FROM t GROUP BY part",
        )
        .expect("created");
    insert(&database, 0, 500);
    let wanted = || rows(&database, "SELECT part, count(*), max(name) FROM t GROUP BY part");
    for parallelism in ["1", "'all'", "'auto'", "1"] {
        let sql = format!("ALTER MATERIALIZED VIEW narrow SET (parallelism = {parallelism})");
        database.execute(&sql).expect("altered");
        database.execute("UPDATE t SET part = part + 1 WHERE id % 7 = 0").expect("updated");
        database.execute("FLUSH").expect("flushed");
        assert_eq!(rows(&database, "SELECT * FROM narrow"), wanted(), "{parallelism}");
    }
    let refused = database.execute("ALTER MATERIALIZED VIEW narrow SET (parallelism = 3)").expect_err("one or all");
    assert_eq!(refused.sqlstate(), "22023");
    database.shutdown().expect("a clean stop");
}

/// Lock files, which are empty, stay.
fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

#[test]
fn what_was_dropped_is_removed_at_the_next_start_at_the_latest() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script(TABLES).expect("created");
    insert(&database, 0, 10);
    database.execute("CHECKPOINT WAIT").expect("made");
    let root = folder.path().join("checkpoints");
    let there = |name: &str| files_below(&root.join(name)) > 0;
    assert!(there("by_name") && there("whole"));
    database.execute("DROP MATERIALIZED VIEW whole").expect("dropped");
    assert!(!there("whole"), "its checkpoints are gone");
    database.execute("DROP TABLE t CASCADE").expect("dropped");
    assert!(!there("by_name") && !there("by_both"));
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY)").expect("its name is free");
    assert_eq!(rows(&database, "SELECT id FROM t"), Vec::<String>::new());
    database.shutdown().expect("a clean stop");
}
