//! The database as a program uses it: views against recomputation, restarts, definitions, errors.

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use highwater::engine::core::Rng;
use highwater::{Config, Connection, Database, Error, Rows, Status, same_rows};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const NEXMARK: &str = "
CREATE SOURCE bid WITH (
    connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = 60000, nexmark.split.num = 2
);
CREATE MATERIALIZED VIEW passes AS
    SELECT auction, bidder, price * 2 AS twice, url FROM bid WHERE auction % 7 = 0;
CREATE MATERIALIZED VIEW totals AS
    SELECT auction, count(*) AS bids, sum(price) AS total, avg(price) AS mean, min(price) AS low,
           max(price) AS high, count(*) FILTER (WHERE price > 1000) AS dear
    FROM bid GROUP BY auction HAVING count(*) > 1;
CREATE MATERIALIZED VIEW overall AS SELECT count(*) AS bids, max(channel) AS last FROM bid;
CREATE MATERIALIZED VIEW channels AS SELECT DISTINCT channel, bidder % 10 AS part FROM bid;
CREATE MATERIALIZED VIEW minutes AS
    SELECT window_start, window_end, count(*) AS bids
    FROM TUMBLE(bid, date_time, INTERVAL '1' SECOND) GROUP BY window_start, window_end;
CREATE MATERIALIZED VIEW sliding AS
    SELECT h.auction, h.window_start, count(*) AS bids
    FROM HOP(bid, date_time, INTERVAL '300' MILLISECOND, INTERVAL '1' SECOND) AS h
    WHERE h.price > 100 GROUP BY h.auction, h.window_start;
CREATE VIEW dear AS SELECT auction, high FROM totals WHERE high > 500;
CREATE MATERIALIZED VIEW by_count AS SELECT bids, count(*) AS auctions, max(high) AS top FROM totals GROUP BY bids;
CREATE MATERIALIZED VIEW dearest AS SELECT max(high) AS top, count(*) AS n FROM dear;
CREATE MATERIALIZED VIEW few AS SELECT auction, bids FROM totals WHERE bids < 5;
FLUSH;
";

const VIEWS: [&str; 9] =
    ["passes", "totals", "overall", "channels", "minutes", "sliding", "by_count", "dearest", "few"];

fn open(folder: &Path, resume: bool) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config.resume = resume;
    config.checkpoints.interval = None;
    Database::open(config).expect("a database")
}

fn assert_equal_to_recomputation(database: &Database, view: &str) {
    let compared = database.recompute(view).expect(view);
    let (ours, theirs) = (&compared.view.batches, &compared.recomputed.batches);
    assert_eq!(same_rows(ours, theirs).expect("comparable"), None, "{view}");
    assert!(compared.view.count() > 0, "{view} has rows");
}

fn text(rows: &Rows) -> String {
    arrow::util::pretty::pretty_format_batches(&rows.batches).expect("printable").to_string()
}

#[test]
fn views_equal_recomputation_now_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), true);
    database.script(NEXMARK).expect("a script");
    for view in VIEWS {
        assert_equal_to_recomputation(&database, view);
    }
    let before: Vec<Rows> = VIEWS.iter().map(|v| database.query(&format!("SELECT * FROM {v}")).expect(v)).collect();
    database.shutdown().expect("a clean stop");
    drop(database);

    let again = open(folder.path(), true);
    let outcomes = again.script(NEXMARK).expect("the same script");
    assert!(outcomes[0].notices[0].contains("goes on"), "{:?}", outcomes[0]);
    for (view, before) in VIEWS.iter().zip(&before) {
        let now = again.query(&format!("SELECT * FROM {view}")).expect(view);
        assert_eq!(same_rows(&now.batches, &before.batches).expect("comparable"), None, "{view}");
    }
    let changed = again.execute("CREATE MATERIALIZED VIEW overall AS SELECT count(*) AS bids FROM bid");
    assert!(changed.expect_err("another definition").to_string().contains("another definition"));
    again.shutdown().expect("a clean stop");
}

#[test]
fn the_last_handle_may_be_let_go_in_a_task() {
    let folder = tempfile::tempdir().expect("a folder");
    for is_new in [true, false] {
        let database = std::sync::Arc::new(open(folder.path(), true));
        if is_new {
            database
                .script(
                    "CREATE TABLE t (id int PRIMARY KEY);
                     CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;",
                )
                .expect("a script");
        }
        assert_eq!(database.query("SELECT n FROM v").expect("rows").count(), 1);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        runtime.block_on(async { runtime.spawn(async move { drop(database) }).await }).expect("no panic");
    }
}

#[test]
fn an_endless_source_is_compared_while_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), false);
    database
        .script(
            "CREATE SOURCE bid WITH (connector = 'nexmark', nexmark.table.type = 'Bid');
             CREATE MATERIALIZED VIEW v AS SELECT auction % 100 AS part, count(*) AS n, sum(price) AS total FROM bid GROUP BY 1;
             FLUSH;",
        )
        .expect("a script");
    let deadline = Instant::now() + Duration::from_secs(60);
    while database.query("SELECT * FROM v").expect("rows").count() == 0 {
        assert!(Instant::now() < deadline, "the view stays empty");
    }
    for _ in 0..3 {
        assert_equal_to_recomputation(&database, "v");
    }
    let refused = database.query("SELECT count(*) FROM bid").expect_err("it never ends");
    assert_eq!(refused.sqlstate(), "0A000");
    database.shutdown().expect("a clean stop");
}

#[test]
fn a_view_joins_a_running_pipeline_and_sees_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), false);
    database
        .script(
            "CREATE SOURCE s (k bigint, v bigint) WITH (connector = 'datagen', datagen.rows = 5000,
                 fields.k.kind = 'random', fields.k.min = 0, fields.k.max = 99, fields.v.kind = 'event_number');
             CREATE MATERIALIZED VIEW sums AS SELECT k, sum(v) AS total FROM s GROUP BY k; FLUSH;",
        )
        .expect("a script");
    database
        .execute("CREATE MATERIALIZED VIEW parity AS SELECT total % 2 AS odd, count(*) AS n FROM sums GROUP BY 1")
        .expect("a view over a view");
    assert_equal_to_recomputation(&database, "parity");
    assert_equal_to_recomputation(&database, "sums");
    assert_eq!(database.pipelines().len(), 1, "it joins the pipeline of what it reads");

    let in_use = database.execute("DROP MATERIALIZED VIEW sums").expect_err("parity needs it");
    assert!(matches!(&in_use, Error::InUse { needed_by, .. } if needed_by == &["parity"]), "{in_use}");
    database.execute("DROP MATERIALIZED VIEW parity").expect("nothing needs it");
    assert_equal_to_recomputation(&database, "sums");
    database.execute("CREATE MATERIALIZED VIEW parity AS SELECT count(*) AS n FROM sums").expect("its name is free");
    assert_equal_to_recomputation(&database, "parity");
    database.execute("DROP SOURCE s CASCADE").expect("all of it");
    assert!(database.pipelines().is_empty());
    assert_eq!(database.query("SHOW MATERIALIZED VIEWS").expect("rows").count(), 0);
    database.shutdown().expect("a clean stop");
}

#[test]
fn statements_that_show_and_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), false);
    database.script(NEXMARK).expect("a script");
    let shown = text(&database.query("DESCRIBE totals").expect("rows"));
    assert!(shown.contains("| mean    | double precision |"), "{shown}");
    assert_eq!(database.query("SHOW MATERIALIZED VIEWS").expect("rows").count(), VIEWS.len());
    assert!(text(&database.query("SHOW CREATE VIEW dear").expect("rows")).contains("high > 500"));
    assert!(text(&database.query("SHOW JOBS").expect("rows")).contains("finished"));
    let explained = database.query("EXPLAIN CREATE MATERIALIZED VIEW x AS SELECT max(n) FROM dearest").expect("rows");
    assert!(text(&explained).contains("x/aggregate()"), "{}", text(&explained));
    database.execute("ALTER MATERIALIZED VIEW totals SET (checkpoint_interval = '1s', retain = 5)").expect("settings");
    let wrong = database.execute("ALTER MATERIALIZED VIEW totals SET (checkpoint_interval = 'soon')");
    assert_eq!(wrong.expect_err("no time").sqlstate(), "22023");
    database.execute("CHECKPOINT totals WAIT").expect("a checkpoint");
    let checkpoints = text(&database.query("SHOW CHECKPOINTS FOR totals").expect("rows"));
    assert!(checkpoints.contains("published"), "{checkpoints}");
    let joined =
        database.query("SELECT t.auction FROM totals t JOIN few f ON t.auction = f.auction ORDER BY 1 LIMIT 3");
    assert_eq!(joined.expect("rows").count(), 3);
    let counted = database.query("SELECT count(*) AS n FROM bid").expect("a bounded source is read");
    assert!(text(&counted).contains("55200"), "{}", text(&counted));
    for pipeline in database.pipelines() {
        assert_eq!(pipeline.status(), Status::Finished);
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn mistakes_have_their_sqlstate_and_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), false);
    database.execute("CREATE SOURCE s (a bigint) WITH (connector = 'datagen', datagen.rows = 10)").expect("a source");
    for (sql, sqlstate) in [
        ("CREATE SOURCE s (a bigint) WITH (connector = 'datagen')", "42P07"),
        ("CREATE SOURCE t (a bigint) WITH (connector = 'nothing')", "22023"),
        ("CREATE SOURCE t (a bigint) WITH (path = 'x')", "22023"),
        ("CREATE MATERIALIZED VIEW v AS SELECT b FROM s", "42703"),
        ("CREATE MATERIALIZED VIEW v WITH (colour = 'red') AS SELECT a FROM s", "22023"),
        ("CREATE MATERIALIZED VIEW v AS SELECT a FROM s LIMIT 1", "0A000"),
        ("DROP SOURCE nothing", "42P01"),
        ("DROP VIEW s", "42809"),
        ("SHOW CREATE SOURCE nothing", "42P01"),
        ("SHOW nothing", "42704"),
        ("CHECKPOINT s", "42809"),
        ("SELECT 1 +", "42601"),
    ] {
        let error = database.execute(sql).expect_err(sql);
        assert_eq!(error.sqlstate(), sqlstate, "{sql}: {error}");
    }
    assert_eq!(database.query("SHOW SOURCES").expect("rows").count(), 1);
    assert!(database.execute("DROP VIEW IF EXISTS nothing").expect("skipped").notices[0].contains("skipping"));
    let config = Config::new(folder.path());
    assert!(matches!(Database::open(config), Err(Error::Folder { .. })), "one process at a time");
    database.shutdown().expect("a clean stop");
}

#[test]
fn a_sink_delivers_every_row_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let script = format!(
        "CREATE SOURCE s (a bigint) WITH (connector = 'datagen', datagen.rows = 3000, fields.a.kind = 'event_number');
         CREATE SINK k AS SELECT a FROM s WHERE a % 3 = 0 WITH (connector = 'file', path = '{}') FORMAT PLAIN ENCODE JSON;
         FLUSH;",
        out.display()
    );
    let database = open(&folder.path().join("data"), false);
    database.script(&script).expect("a script");
    database.shutdown().expect("a clean stop");
    let mut lines = 0;
    for entry in std::fs::read_dir(&out).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "json" || e == "ndjson" || e == "jsonl") {
            lines += std::fs::read_to_string(path).expect("text").lines().count();
        }
    }
    assert_eq!(lines, 1000);
}

fn file_source(folder: &Path, ids: std::ops::Range<u64>) -> String {
    let path = folder.join("in");
    std::fs::create_dir_all(&path).expect("a folder");
    let rows: String = ids.clone().map(|id| format!("{{\"id\":{id}}}\n")).collect();
    std::fs::write(path.join(format!("{:09}.ndjson", ids.start)), rows).expect("rows");
    format!(
        "CREATE SOURCE s (id bigint) WITH (connector = 'file', path = '{}/*.ndjson', file.watch = 'true')
             FORMAT PLAIN ENCODE JSON;",
        path.display()
    )
}

fn flushed(database: &Database, query: &str) -> String {
    database.execute("FLUSH").expect("flushes");
    text(&database.query(query).expect(query)).replace(' ', "")
}

/// Files are looked for once a second.
fn wait_for(database: &Database, query: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = flushed(database, query);
        if found.contains(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{query}: {found}");
    }
}

#[test]
fn a_dropped_view_leaves_nothing_to_one_of_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let source = file_source(folder.path(), 0..5000);
    let m2 = |what: &str| {
        format!("CREATE MATERIALIZED VIEW m2 AS SELECT id % 5 AS g, count(*) AS n FROM m {what} GROUP BY 1;")
    };
    let sum = "SELECT count(*) AS groups, sum(n) AS n FROM m2";
    {
        let database = open(&data, true);
        database
            .script(&format!(
                "{source} CREATE MATERIALIZED VIEW m AS SELECT id, count(*) AS c FROM s GROUP BY id; {}",
                m2("")
            ))
            .expect("a script");
        assert!(flushed(&database, sum).contains("|5|5000|"));
        database.script(&format!("DROP MATERIALIZED VIEW m2; {}", m2("WHERE id < 5"))).expect("a script");
        assert!(flushed(&database, sum).contains("|5|5|"), "{}", flushed(&database, sum));
        database.execute("CHECKPOINT").expect("a checkpoint");
        database.execute("DROP MATERIALIZED VIEW m2").expect("drops");
        database.execute(&m2("WHERE id < 50")).expect("creates");
        // No clean stop: what the root holds is of an older plan.
    }
    let database = open(&data, true);
    assert!(flushed(&database, sum).contains("|5|50|"), "{}", flushed(&database, sum));
    database.execute("DROP MATERIALIZED VIEW m2").expect("drops");
    drop(database);
    let database = open(&data, true);
    assert!(flushed(&database, "SELECT count(*) AS n FROM m").contains("|5000|"));
}

#[test]
fn extremes_over_a_view_are_right_after_an_idle_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let views = "CREATE MATERIALIZED VIEW m AS SELECT id / 10 AS g, sum(id) AS s FROM s GROUP BY 1;
                 CREATE MATERIALIZED VIEW m2 AS SELECT g % 2 AS h, max(s) AS most, min(s) AS least FROM m GROUP BY 1;
                 CREATE MATERIALIZED VIEW m3 AS SELECT max(most) AS most FROM m2;";
    let script = format!("{}{views}", file_source(folder.path(), 0..1000));
    {
        let database = open(&data, true);
        database.script(&script).expect("a script");
        assert_eq!(flushed(&database, "SELECT most FROM m3"), flushed(&database, "SELECT max(s) AS most FROM m"));
        database.shutdown().expect("a clean stop");
    }
    let database = open(&data, true);
    database.script(&script).expect("the same script");
    let before = flushed(&database, "SELECT most FROM m3");
    file_source(folder.path(), 1000..1025);
    let deadline = Instant::now() + Duration::from_secs(60);
    while flushed(&database, "SELECT most FROM m3") == before {
        assert!(Instant::now() < deadline, "new rows are not seen");
    }
    for view in ["m2", "m3"] {
        assert_equal_to_recomputation(&database, view);
    }
}

#[test]
fn names_lead_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, victim) = (folder.path().join("data"), folder.path().join("victim"));
    std::fs::create_dir_all(&victim).expect("a folder");
    std::fs::write(victim.join("precious"), "x").expect("a file");
    let database = open(&data, true);
    database.execute("CREATE SOURCE g (id bigint) WITH (connector = 'datagen', datagen.rows.total = '10')").ok();
    database.script(&file_source(folder.path(), 0..10)).expect("a source");
    for name in ["../victim".to_owned(), "..".to_owned(), victim.display().to_string()] {
        let create = format!("CREATE MATERIALIZED VIEW \"{name}\" AS SELECT count(*) AS n FROM s");
        database.execute(&create).expect("any name will do");
        assert!(flushed(&database, &format!("SELECT n FROM \"{name}\"")).contains("10"));
        database.execute(&format!("DROP MATERIALIZED VIEW \"{name}\"")).expect("drops");
        assert!(victim.join("precious").exists() && data.join("catalog.json").exists(), "{name}");
    }
    let long = format!("CREATE MATERIALIZED VIEW \"{}\" AS SELECT count(*) AS n FROM s", "ü".repeat(60));
    assert_eq!(database.execute(&long).expect_err("too long").sqlstate(), "42602");
    drop(database);
    open(&data, true);
}

#[test]
fn arithmetic_that_overflows_is_an_error_and_never_a_wrong_row() {
    for (id, expression) in [(i64::MAX - 1, "id + 5"), (i64::MAX / 2 + 1, "id * 2"), (i64::MIN, "-id")] {
        let folder = tempfile::tempdir().expect("a folder");
        let database = open(&folder.path().join("data"), true);
        let path = folder.path().join("one.ndjson");
        std::fs::write(&path, format!("{{\"id\":{id}}}\n")).expect("a row");
        let script = format!(
            "CREATE SOURCE s (id bigint) WITH (connector = 'file', path = '{}') FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW v AS SELECT {expression} AS more FROM s;",
            path.display()
        );
        database.script(&script).expect("a script");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match database.pipelines()[0].status() {
                Status::Failed { reason, .. } => break assert!(reason.contains("bigint out of range"), "{reason}"),
                other => assert!(Instant::now() < deadline, "{expression}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_cannot_be_brought_back_leaves_the_rest_alone_and_can_be_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    let path = folder.path().join("one.ndjson");
    std::fs::write(&path, "{\"id\":1}\n").expect("rows");
    let one = format!(
        "CREATE SOURCE one (id bigint) WITH (connector = 'file', path = '{}') FORMAT PLAIN ENCODE JSON;
         CREATE MATERIALIZED VIEW v1 AS SELECT count(*) AS n FROM one;
         CREATE MATERIALIZED VIEW v2 AS SELECT n FROM v1;",
        path.display()
    );
    let rest = "CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM s;";
    {
        let database = open(&data, true);
        database.script(&format!("{one}{}{rest}", file_source(&other, 0..10))).expect("a script");
        database.execute("FLUSH").expect("flushes");
        database.shutdown().expect("a clean stop");
    }
    std::fs::remove_file(&path).expect("removes");
    {
        let database = open(&data, true);
        // The source and the pipeline; the views are whole.
        assert_eq!(database.broken().len(), 2, "{:?}", database.broken());
        let told = database.execute("FLUSH").expect_err("v1 does not run").to_string();
        assert!(told.contains("is not running: "), "{told}");
        assert!(text(&database.query("SELECT n FROM w").expect("w runs")).contains("10"));
        let jobs = text(&database.query("SHOW JOBS").expect("jobs"));
        assert!(jobs.contains("broken: "), "{jobs}");
        assert!(text(&database.query("SELECT n FROM v1").expect("its checkpoint is whole")).contains("| 1 |"));
        assert_eq!(database.query("SELECT id FROM one").expect_err("its file is gone").sqlstate(), "55000");
        assert!(database.execute("DROP SOURCE one").expect_err("needed").to_string().contains("v1"));
        database.execute("DROP SOURCE one CASCADE").expect("drops");
        assert!(database.broken().is_empty());
    }
    let database = open(&data, true);
    assert!(database.broken().is_empty() && flushed(&database, "SELECT n FROM w").contains("|10|"));
}

fn away_script(path: &Path) -> String {
    format!(
        "CREATE SOURCE s (id bigint) WITH (connector = 'file', path = '{}', file.watch = 'true')
             FORMAT PLAIN ENCODE JSON;
         CREATE TABLE t (n bigint PRIMARY KEY);
         CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s;
         CREATE MATERIALIZED VIEW w AS SELECT n + 1 AS more FROM v;
         CREATE VIEW plain AS SELECT id FROM s;
         CREATE SINK k INTO t AS SELECT n FROM v;",
        path.display()
    )
}

#[test]
fn a_source_that_is_away_is_told_and_comes_back_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, path, away) = (folder.path().join("data"), folder.path().join("in"), folder.path().join("away"));
    file_source(folder.path(), 0..10);
    {
        let database = open(&data, true);
        database.script(&away_script(&path)).expect("a script");
        assert!(flushed(&database, "SELECT n FROM t").contains("|10|"));
        database.shutdown().expect("a clean stop");
    }
    std::fs::rename(&path, &away).expect("moved");
    let database = open(&data, true);
    let shown = |sql: &str| text(&database.query(sql).expect(sql)).replace(' ', "");
    let state = |sql: &str| database.execute(sql).expect_err(sql).sqlstate();
    assert_eq!(database.broken().len(), 2, "{:?}", database.broken());
    for (show, names) in [("SHOW SOURCES", vec!["s"]), ("SHOW MATERIALIZED VIEWS", vec!["v", "w"])] {
        let outcome = database.execute(show).expect(show);
        let rows = text(&outcome.rows.expect("rows"));
        assert!(names.iter().all(|name| rows.contains(&format!("| {name} "))), "{rows}");
        let told = |name: &str| outcome.notices.iter().any(|n| n.starts_with(&format!("\"{name}\" is broken: ")));
        assert!(names.iter().all(|name| told(name)), "{:?}", outcome.notices);
    }
    let sources = shown("SELECT name, status FROM hw_catalog.sources");
    assert!(sources.contains("|s|broken:"), "{sources}");
    let views = shown("SELECT name, status FROM hw_catalog.views WHERE materialized = 'true'");
    assert_eq!(views.matches("|broken:\"s\"cannotbeused:").count(), 2, "{views}");
    let stale = database.execute("SELECT n FROM v").expect("its checkpoint is whole");
    assert!(text(&stale.rows.expect("rows")).contains("| 10 |"));
    assert!(stale.notices.iter().any(|notice| notice.contains("stale")), "{:?}", stale.notices);
    for sql in [
        "SELECT id FROM s",
        "SELECT count(*) FROM plain",
        "CREATE TABLE s (id bigint)",
        "CREATE MATERIALIZED VIEW x AS SELECT max(id) AS id FROM s",
        "CREATE MATERIALIZED VIEW x AS SELECT n FROM v",
        "ALTER MATERIALIZED VIEW v SET (retain = 3)",
        "FLUSH",
    ] {
        assert_eq!(state(sql), "55000", "{sql}");
    }
    assert_eq!(state("SELECT id FROM x"), "42P01");
    for sql in ["DROP TABLE t", "DROP SOURCE s", "DROP MATERIALIZED VIEW v"] {
        assert_eq!(state(sql), "2BP01", "{sql}");
    }
    assert_eq!(state("DROP VIEW s"), "42809");
    assert!(shown("SELECT more FROM w").contains("|11|"), "it is read as before");
    database.execute("ALTER SOURCE s RENAME TO s2").expect("its readers are told");
    database.retry_broken();
    assert_eq!(database.broken().len(), 2, "{:?}", database.broken());
    std::fs::rename(&away, &path).expect("moved");
    file_source(folder.path(), 10..15);
    database.retry_broken();
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    wait_for(&database, "SELECT n FROM v", "|15|");
    assert!(shown("SELECT count(*) AS n FROM plain").contains("|15|"));
    let delivered = shown("SELECT n FROM t");
    assert!(delivered.contains("|15|") && !delivered.contains("|10|"), "{delivered}");
    for view in ["v", "w"] {
        assert_equal_to_recomputation(&database, view);
    }
    database.shutdown().expect("a clean stop");
    database.retry_broken();
    assert!(database.pipelines().is_empty(), "nothing is begun any more");
}

#[test]
fn what_only_a_missing_source_knows_comes_back_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, path, away) = (folder.path().join("data"), folder.path().join("in"), folder.path().join("away"));
    let files = path.display().to_string();
    file_source(folder.path(), 0..10);
    {
        let database = open(&data, true);
        let script = format!(
            "CREATE TABLE fed (id bigint PRIMARY KEY) WITH (connector = 'file', path = '{files}', file.watch = 'true')
                 FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM fed;
             CREATE TABLE t (id bigint PRIMARY KEY);
             INSERT INTO t VALUES (1), (2), (20);
             CREATE MATERIALIZED VIEW both AS SELECT t.id FROM t JOIN fed ON t.id = fed.id;"
        );
        database.script(&script).expect("a script");
        assert!(flushed(&database, "SELECT count(*) AS n FROM both").contains("|2|"));
        database.shutdown().expect("a clean stop");
    }
    std::fs::rename(&path, &away).expect("moved");
    let database = open(&data, true);
    let shown = |sql: &str| text(&database.query(sql).expect(sql)).replace(' ', "");
    assert!(shown("SELECT count(*) AS n FROM fed").contains("|10|"));
    assert!(shown("SELECT n FROM v").contains("|10|") && shown("SELECT max(id) AS id FROM both").contains("|2|"));
    database.execute("INSERT INTO t VALUES (3)").expect("tables work");
    std::fs::rename(&away, &path).expect("moved");
    file_source(folder.path(), 20..22);
    database.retry_broken();
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    wait_for(&database, "SELECT n FROM v", "|12|");
    assert!(shown("SELECT count(*) AS n FROM both").contains("|4|"));
    for view in ["v", "both"] {
        assert_equal_to_recomputation(&database, view);
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn a_new_table_never_begins_with_what_another_one_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, older) = (folder.path().join("data"), folder.path().join("older.json"));
    let catalog = data.join("catalog.json");
    {
        let database = open(&data, false);
        database.execute("CREATE TABLE a (k int PRIMARY KEY)").expect("created");
        std::fs::copy(&catalog, &older).expect("copied");
        database.script("CREATE TABLE b (k int PRIMARY KEY); INSERT INTO b VALUES (1), (2);").expect("a script");
        database.shutdown().expect("a clean stop");
    }
    std::fs::copy(&older, &catalog).expect("put back");
    for rows in [0, 1] {
        let database = open(&data, false);
        if rows == 0 {
            database.execute("CREATE TABLE c (k int PRIMARY KEY)").expect("created");
        }
        let found = text(&database.query("SELECT count(*) AS n FROM c").expect("c"));
        assert!(found.contains(&format!("| {rows} |")), "{found}");
        database.execute(&format!("INSERT INTO c VALUES ({rows})")).expect("nothing is there");
        database.shutdown().expect("a clean stop");
    }
    std::fs::remove_file(&catalog).expect("removed");
    let refused = Database::open(Config::new(&data)).expect_err("tables without a catalog");
    assert!(matches!(refused, Error::Folder { .. }) && refused.to_string().contains("catalog.json: it is missing"));
}

#[test]
fn a_flush_does_not_wait_for_views_that_are_dropped_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), false);
    let script = "
        CREATE SOURCE slow (v bigint) WITH (connector = 'datagen', datagen.rows = '1000000',
            datagen.rows.per.second = '100', fields.v.kind = 'event_number');
        CREATE TABLE t (k int PRIMARY KEY);
        CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM t;";
    database.script(script).expect("a script");
    for round in 0..3 {
        // FLUSH would wait for hours for the end of its source.
        database.execute("CREATE MATERIALIZED VIEW x AS SELECT max(v) AS v FROM slow").expect("created");
        std::thread::scope(|scope| {
            let flush = || database.execute_for(&mut database.connect(), "FLUSH").map(drop);
            let flush = scope.spawn(move || flush().map_err(|error| error.to_string()));
            database.execute(&format!("INSERT INTO t VALUES ({round})")).expect("inserted");
            let n = format!("| {} |", round + 1);
            let deadline = Instant::now() + Duration::from_secs(60);
            while !text(&database.query("SELECT n FROM kept").expect("it runs")).contains(&n) {
                assert!(Instant::now() < deadline, "the other view does not show it");
            }
            database.execute("DROP MATERIALIZED VIEW x").expect("dropped");
            flush.join().expect("no panic").expect("it waits for the others only");
        });
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn the_zeros_of_floating_point_are_one_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(&folder.path().join("data"), true);
    let path = folder.path().join("zeros.ndjson");
    std::fs::write(&path, "{\"x\":0.0}\n{\"x\":-0.0}\n{\"x\":1.5}\n").expect("rows");
    let script = format!(
        "CREATE SOURCE z (x double precision) WITH (connector = 'file', path = '{}') FORMAT PLAIN ENCODE JSON;
         CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM z GROUP BY x;
         CREATE MATERIALIZED VIEW w AS SELECT x, n % 2 AS odd, count(*) AS n FROM v GROUP BY 1, 2;",
        path.display()
    );
    database.script(&script).expect("a script");
    assert!(flushed(&database, "SELECT count(*) AS g, max(n) AS n FROM v").contains("|2|2|"));
    assert!(flushed(&database, "SELECT count(*) AS g FROM w").contains("|2|"));
}

#[test]
fn a_program_inserts_batches_and_streams_rows() {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Database::open(Config::new(folder.path())).expect("opens");
    let database = open();
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, name varchar, n int DEFAULT 7)").expect("created");
    database.execute("CREATE MATERIALIZED VIEW v AS SELECT name, count(*) AS c FROM t GROUP BY name").expect("created");
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..20_000).map(|i| format!("name {}", i % 4))));
    let rows = RecordBatch::try_from_iter([("name", names), ("id", ids)]).expect("a batch");
    database.insert("t", &rows).expect("inserted");
    assert_eq!(database.insert("t", &rows.slice(0, 1)).expect_err("it exists").sqlstate(), "23505");
    database.execute("FLUSH").expect("flushed");
    assert_eq!(database.query("SELECT * FROM v").expect("read").count(), 4);
    let mut connection = database.connect();
    let batches = database.stream(&mut connection, "SELECT n, id FROM t WHERE n = 7").expect("a query");
    let sizes: Vec<usize> = batches.map(|batch| batch.expect("rows").num_rows()).collect();
    assert!(sizes.len() > 1 && sizes.iter().sum::<usize>() == 20_000, "{sizes:?}");
    let compared = database.recompute("v").expect("recomputed");
    let difference = highwater::same_rows(&compared.view.batches, &compared.recomputed.batches);
    assert_eq!(difference.expect("comparable"), None);
    database.shutdown().expect("stops");
    drop(database);
    let database = open();
    assert_eq!(database.query("SELECT * FROM t WHERE id = 19999").expect("read").count(), 1);
    database.shutdown().expect("stops");
}

/// The rows of `t`, two numbers each, as a connection sees them.
fn pairs(database: &Database, connection: &mut Connection) -> BTreeMap<i64, i64> {
    let rows = database.execute_for(connection, "SELECT id, v FROM t").expect("read").rows.expect("rows");
    let mut pairs = BTreeMap::new();
    for batch in &rows.batches {
        let [ids, values] = [0, 1].map(|at| batch.column(at).as_primitive::<Int64Type>().values());
        pairs.extend(ids.iter().copied().zip(values.iter().copied()));
    }
    pairs
}

#[test]
fn savepoints_take_back_what_copies_of_all_rows_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), true);
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v bigint)").expect("created");
    let (mut connection, mut other) = (database.connect(), database.connect());
    let mut rng = Rng::seeded(3);
    let mut committed: BTreeMap<i64, i64> = BTreeMap::new();
    for _ in 0..20 {
        database.execute_for(&mut connection, "BEGIN").expect("begun");
        let mut rows = committed.clone();
        let mut copies: Vec<(u64, BTreeMap<i64, i64>)> = Vec::new();
        for _ in 0..50 {
            let (id, v, name) = (rng.below(6) as i64, rng.below(100) as i64, rng.below(3));
            let known = copies.iter().rposition(|(known, _)| *known == name);
            let statement = match (rng.below(6), known) {
                (0, _) => {
                    copies.push((name, rows.clone()));
                    format!("SAVEPOINT s{name}")
                }
                (1, Some(at)) => {
                    copies.truncate(at + 1);
                    rows.clone_from(&copies[at].1);
                    format!("ROLLBACK TO s{name}")
                }
                (2, Some(at)) => {
                    copies.truncate(at);
                    format!("RELEASE s{name}")
                }
                (3, _) => {
                    rows.remove(&id);
                    format!("DELETE FROM t WHERE id = {id}")
                }
                (4, _) if rows.contains_key(&id) => {
                    // Only the newest savepoint gives the transaction its life back.
                    let Some((newest, copy)) = copies.last() else { continue };
                    let insert = format!("INSERT INTO t VALUES ({}, {v}), ({id}, {v})", id + 10);
                    let refused = database.execute_for(&mut connection, &insert).expect_err("the key is taken");
                    assert_eq!(refused.sqlstate(), "23505");
                    rows.clone_from(copy);
                    format!("ROLLBACK TO s{newest}")
                }
                _ => {
                    rows.insert(id, v);
                    format!("INSERT INTO t VALUES ({id}, {v}) ON CONFLICT (id) DO UPDATE SET v = excluded.v")
                }
            };
            database.execute_for(&mut connection, &statement).expect(&statement);
            assert_eq!(pairs(&database, &mut connection), rows, "after {statement}");
        }
        let commits = rng.below(4) > 0;
        let end = if commits { "COMMIT" } else { "ROLLBACK" };
        database.execute_for(&mut connection, end).expect(end);
        if commits {
            committed = rows;
        }
        assert_eq!(pairs(&database, &mut other), committed);
    }
    database.shutdown().expect("stops");
}

#[test]
fn what_is_written_to_a_dropped_table_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), true);
    database.execute("CREATE TABLE t (v int)").expect("created");
    let mut connection = database.connect();
    database.execute_for(&mut connection, "BEGIN").expect("begun");
    database.execute_for(&mut connection, "INSERT INTO t VALUES (1)").expect("kept");
    database.execute("DROP TABLE t").expect("dropped");
    database.execute("CREATE TABLE t (v int)").expect("created");
    let refused = database.execute_for(&mut connection, "COMMIT").expect_err("its table is gone");
    assert_eq!(refused.sqlstate(), "42P01");
    assert_eq!(database.query("SELECT v FROM t").expect("rows").count(), 0);
    database.shutdown().expect("a clean stop");
}
