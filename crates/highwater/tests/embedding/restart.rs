//! A program's source, sink and function over crashes: the database is dropped without a shutdown.

use crate::functions::Half;
use crate::parts::{Log, Numbers, Store, assert_equal_to_recomputation, number, open, wait_until};
use highwater::arrow::datatypes::SchemaRef;
use highwater::connector::{Offset, Result, Source, SplitReader, check_source};
use highwater::{Config, Database, Status};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

fn with_half(config: &mut Config) {
    config.functions.push(Arc::new(Half));
}

/// A source whose log has lost its end whenever it is opened again.
#[derive(Debug)]
struct Cut {
    numbers: Numbers,
    log: Log,
}

impl Source for Cut {
    fn schema(&self) -> SchemaRef {
        self.numbers.schema()
    }

    fn splits(&self) -> Result<Vec<String>> {
        self.numbers.splits()
    }

    fn blocking(&self) -> bool {
        false
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        self.log.cut(10);
        self.numbers.open(split, offset)
    }
}

fn script(options: &str) -> String {
    format!(
        "CREATE SOURCE s WITH (connector = 'log', {options});
         CREATE MATERIALIZED VIEW v AS
             SELECT part, count(*) AS n, sum(half(id * 2)) AS total FROM s GROUP BY part;
         CREATE MATERIALIZED VIEW w AS SELECT half(n * 2) AS n, count(*) AS parts FROM v GROUP BY 1;
         CREATE SINK k AS SELECT half(id * 2) AS id FROM s WHERE id % 3 = 0 WITH (connector = 'store');"
    )
}

/// The log grows in stages. Of each stage nothing is delivered when the database is dropped: it has
/// read some of it, or made a checkpoint of it, or neither.
fn survives_crashes(options: &str) {
    const STAGE: i64 = 50_000;
    let folder = tempfile::tempdir().expect("a folder");
    let (log, store) = (Log::of(STAGE), Store::default());
    for stage in 1..=5 {
        let database = open(folder.path(), &log, &store, with_half);
        assert!(database.broken().is_empty(), "{:?}", database.broken());
        store.lock().failures = 3;
        database.script(&script(options)).expect("a script");
        let third = (0..STAGE * stage).step_by(3).count();
        wait_until("not all is delivered", || store.count() == third);
        if stage % 2 == 0 {
            assert_equal_to_recomputation(&database, "v");
        }
        let read = |database: &Database| -> u64 { database.pipelines().iter().map(|p| p.metrics().rows_in).sum() };
        let before = read(&database);
        log.fill_to(STAGE * (stage + 1));
        wait_until("nothing is read", || stage == 1 || read(&database) > before);
        drop(database);
    }
    let rows = STAGE * 6;
    let database = open(folder.path(), &log, &store, with_half);
    database.script(&script(options)).expect("a script");
    database.execute("FLUSH").expect("flushes");
    assert_eq!(number(&database, "SELECT CAST(sum(n) AS bigint) FROM v"), rows);
    assert_eq!(number(&database, "SELECT CAST(sum(total) AS bigint) FROM v"), rows * (rows - 1) / 2);
    for view in ["v", "w"] {
        assert_equal_to_recomputation(&database, view);
    }
    database.shutdown().expect("a clean stop");
    store.assert_each_once(("k", 0), (0..rows).step_by(3));
    assert!(store.lock().again > 0, "a delivery that failed afterwards was made again");
}

#[test]
fn a_source_read_on_the_worker_a_view_and_a_sink_survive_crashes() {
    survives_crashes("follow = true, splits = 3");
}

#[test]
fn a_source_read_in_the_background_survives_crashes() {
    survives_crashes("follow = true, blocking = true");
}

#[test]
fn a_log_that_grows_is_followed_and_read_as_far_as_it_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, store) = (Log::of(1000), Store::default());
    let database = open(folder.path(), &log, &store, with_half);
    database.script(&script("follow = true, splits = 4")).expect("a script");
    for end in [1000, 1001, 5000] {
        log.fill_to(end);
        database.execute("FLUSH").expect("flushes");
        assert_eq!(number(&database, "SELECT CAST(sum(n) AS bigint) FROM v"), end);
        assert_eq!(number(&database, "SELECT count(*) FROM s"), end, "a query reads what is there");
        assert_equal_to_recomputation(&database, "v");
    }
    drop(database);
    log.fill_to(7000);
    let database = open(folder.path(), &log, &store, with_half);
    database.execute("FLUSH").expect("flushes");
    assert_eq!(number(&database, "SELECT CAST(sum(n) AS bigint) FROM v"), 7000);
    database.shutdown().expect("a clean stop");
    store.assert_each_once(("k", 0), (0..7000).step_by(3));
}

/// How many files of outboxes are on this machine.
fn outbox_files(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| match entry.path() {
        path if path.is_dir() => outbox_files(&path),
        path => usize::from(path.extension().is_some_and(|extension| extension == "outbox")),
    });
    files.sum()
}

#[test]
fn what_waits_for_a_target_that_is_down_is_merged_and_delivered_once_after_crashes() {
    const STAGES: i64 = 80;
    let folder = tempfile::tempdir().expect("a folder");
    let (log, store) = (Log::of(100), Store::default());
    let mut end = 100;
    store.lock().takes = Some(0);
    let database = open(folder.path(), &log, &store, with_half);
    database.execute("CREATE SOURCE s WITH (connector = 'log', follow = true)").expect("a source");
    database.execute("CREATE SINK k AS SELECT id FROM s WITH (connector = 'store')").expect("a sink");
    let read = || -> u64 { database.pipelines().iter().map(|pipeline| pipeline.metrics().rows_in).sum() };
    for stage in 1..=STAGES {
        // A few rows stand in the manifest, many in a file.
        end += if stage % 8 == 0 { 10_000 } else { 10 };
        log.fill_to(end);
        wait_until("not all is read", || read() == end as u64);
        database.execute("CHECKPOINT").expect("a checkpoint");
    }
    let waiting = || -> usize {
        let pipelines = database.pipelines();
        let failing = pipelines.iter().flat_map(|pipeline| pipeline.failing_deliveries());
        failing.map(|failing| failing.waiting).sum()
    };
    wait_until("it is not told what waits", || waiting() >= STAGES as usize);
    assert!(outbox_files(folder.path()) > 0, "many rows are in a file");
    wait_until("it waits in many files", || {
        database.execute("CHECKPOINT").expect("a checkpoint");
        outbox_files(folder.path()) < STAGES as usize / 2
    });
    drop(database);
    let database = open(folder.path(), &log, &store, with_half);
    database.execute("CHECKPOINT").expect("a checkpoint that holds what the one before held");
    assert_eq!(store.count(), 0);
    // It goes down again in the middle of what was merged.
    store.lock().takes = Some(20);
    wait_until("it is not tried again", || store.lock().takes == Some(0));
    database.execute("CHECKPOINT").expect("a checkpoint that holds the rest");
    drop(database);
    let database = open(folder.path(), &log, &store, with_half);
    assert!(store.count() < end as usize);
    store.lock().takes = None;
    wait_until("not all is delivered", || store.count() == end as usize);
    database.shutdown().expect("a clean stop");
    store.assert_each_once(("k", 0), 0..end);
}

#[test]
fn a_sink_of_a_dropped_ones_name_is_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, store) = (Log::of(500), Store::default());
    let database = open(folder.path(), &log, &store, with_half);
    let sink = "CREATE SINK k AS SELECT id FROM s WITH (connector = 'store')";
    database.execute("CREATE SOURCE s WITH (connector = 'log')").expect("a source");
    for incarnation in 0..3 {
        database.execute(sink).expect("a sink");
        database.execute("FLUSH").expect("flushes");
        store.assert_each_once(("k", incarnation), 0..500);
        database.execute("DROP SINK k").expect("drops");
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn a_restart_without_its_parts_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, store) = (Log::of(3000), Store::default());
    let more = "CREATE TABLE t (id bigint PRIMARY KEY, h bigint DEFAULT half(84));
                INSERT INTO t (id) VALUES (1), (2);
                CREATE MATERIALIZED VIEW of_t AS SELECT count(*) AS n, max(h) AS h FROM t;
                CREATE TABLE plain (x bigint);
                INSERT INTO plain VALUES (7);
                CREATE MATERIALIZED VIEW of_plain AS SELECT max(x) AS x FROM plain;";
    {
        let database = open(folder.path(), &log, &store, with_half);
        database.script(&format!("{} {more} FLUSH;", script("splits = 2"))).expect("a script");
        database.shutdown().expect("a clean stop");
    }
    {
        let database = Database::open(Config::new(folder.path())).expect("it opens all the same");
        let broken = database.broken().join("\n");
        for told in [
            "s: connector 'log' is not one that a source can have: there are 'nexmark', 'datagen', 'file'",
            "v: ",
            "w: ",
            "k: ",
            "t: function \"half\" does not exist",
            "of_t: ",
        ] {
            assert!(broken.contains(told), "{told:?} is not in:\n{broken}");
        }
        assert_eq!(database.broken().len(), 6, "{broken}");
        assert_eq!(number(&database, "SELECT x FROM of_plain"), 7);
        database.execute("INSERT INTO plain VALUES (8)").expect("it works");
        let used = database.query("SELECT * FROM v").expect_err("it cannot be read");
        assert!(!used.to_string().contains("panicked"), "{used}");
        let taken = database.execute("CREATE TABLE t (x bigint)").expect_err("it exists");
        assert!(taken.to_string().contains("function \"half\" does not exist"), "{taken}");
        drop(database);
    }
    log.fill_to(4000);
    let database = open(folder.path(), &log, &store, with_half);
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    database.execute("FLUSH").expect("flushes");
    assert_eq!(number(&database, "SELECT CAST(sum(n) AS bigint) FROM v"), 4000, "it went on from where it was");
    assert_eq!(number(&database, "SELECT h FROM of_t WHERE n = 2"), 42);
    assert_eq!(number(&database, "SELECT x FROM of_plain"), 8);
    for view in ["v", "w", "of_t"] {
        assert_equal_to_recomputation(&database, view);
    }
    database.shutdown().expect("a clean stop");
    store.assert_each_once(("k", 0), (0..4000).step_by(3));
}

#[test]
fn what_is_left_of_a_pipeline_goes_on_when_a_broken_view_of_it_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, store) = (Log::of(1), Store::default());
    {
        let database = open(folder.path(), &log, &store, with_half);
        let script = "CREATE TABLE t (id bigint PRIMARY KEY);
                      CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;
                      CREATE MATERIALIZED VIEW w AS SELECT half(n * 2) AS n FROM v;
                      INSERT INTO t VALUES (1), (2), (3);
                      FLUSH;";
        database.script(script).expect("a script");
        database.shutdown().expect("a clean stop");
    }
    for rows in [4, 5] {
        let database = open(folder.path(), &log, &store, |_| ());
        if rows == 4 {
            assert_eq!(database.broken().len(), 1, "{:?}", database.broken());
            database.execute("DROP MATERIALIZED VIEW w").expect("drops");
        }
        assert!(database.broken().is_empty(), "{:?}", database.broken());
        database.execute(&format!("INSERT INTO t VALUES ({rows})")).expect("inserts");
        database.execute("FLUSH").expect("flushes");
        assert_eq!(number(&database, "SELECT n FROM v"), rows);
        assert_equal_to_recomputation(&database, "v");
        database.shutdown().expect("a clean stop");
    }
}

#[test]
fn a_source_that_panics_fails_its_pipeline_alone_and_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, store) = (Log::of(100), Store::default());
    let database = open(folder.path(), &log, &store, with_half);
    database.execute("CREATE SOURCE s WITH (connector = 'log')").expect("a source");
    log.panics.store(1, SeqCst);
    let view = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s";
    let refused = database.execute(view).expect_err("its splits are not known").to_string();
    assert!(refused.contains("panicked: told to panic"), "{refused}");
    database.execute(view).expect("now they are");
    database.execute("FLUSH").expect("flushes");
    assert_eq!(number(&database, "SELECT n FROM v"), 100);
    assert_eq!(database.pipelines()[0].status(), Status::Finished);
    database.shutdown().expect("a clean stop");
}

#[test]
fn the_source_of_these_tests_keeps_its_contract_and_a_bad_one_is_found_out() {
    check_source(&Numbers::of(&Log::of(3000), 3), &[1, 10, 100]).expect("it keeps it");
    // A log that is cut: the same offset gives other rows.
    let log = Log::of(3000);
    let cut = Cut { numbers: Numbers::of(&log, 1), log };
    let found = check_source(&cut, &[100]).expect_err("it gives other rows").to_string();
    assert!(found.contains("gives other rows than read at once"), "{found}");
}
