//! Reading views: rows by their keys, views of a pipeline that failed, followers, and what is asked
//! while views are being restored.

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use highwater::{Config, Database, Status, ViewEvent};
use std::collections::BTreeMap;
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
fn nobody_else_waits_for_a_definition_whose_root_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let tables = "CREATE TABLE t (a int); CREATE MATERIALIZED VIEW w AS SELECT a, count(*) AS n FROM t GROUP BY a;";
    database.script(tables).expect("created");
    // Who claims the place of a pipeline waits for the lock beside its pointer.
    let place = folder.path().join("checkpoints").join("v");
    std::fs::create_dir_all(&place).expect("a folder");
    let lock = std::fs::File::create(place.join(".current.lock")).expect("a file");
    lock.lock().expect("nobody has it");
    let definition = "CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS s FROM t";
    let mut connection = database.connect();
    let canceller = connection.canceller();
    std::thread::scope(|scope| {
        let making = scope.spawn(|| database.execute_for(&mut connection, definition));
        let status = "SELECT status FROM hw_catalog.views WHERE name = 'v'";
        wait_for("the beginning", || rows(&database, status) == ["starting"]);
        for statement in ["INSERT INTO t VALUES (7)", "FLUSH", "CHECKPOINT", "SHOW JOBS"] {
            database.execute(statement).expect(statement);
        }
        assert_eq!(rows(&database, "SELECT * FROM w"), ["7|1"]);
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
    for refused in ["SELECT count(*) FROM v", "INSERT INTO u SELECT a, b FROM t", "UPDATE t SET b = 'other'"] {
        let error = database.execute(refused).expect_err(refused);
        assert_eq!(error.sqlstate(), "53200", "{refused}: {error}");
    }
    assert_eq!(rows(&database, "SELECT count(*) FROM t"), ["50000"]);
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
fn what_is_written_to_a_dropped_table_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.execute("CREATE TABLE t (v int)").expect("created");
    let mut connection = database.connect();
    database.execute_for(&mut connection, "BEGIN").expect("begun");
    database.execute_for(&mut connection, "INSERT INTO t VALUES (1)").expect("kept");
    database.execute("DROP TABLE t").expect("dropped");
    database.execute("CREATE TABLE t (v int)").expect("created");
    let refused = database.execute_for(&mut connection, "COMMIT").expect_err("its table is gone");
    assert_eq!(refused.sqlstate(), "42P01");
    assert_eq!(rows(&database, "SELECT v FROM t"), Vec::<String>::new());
    database.shutdown().expect("a clean stop");
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
