//! Tables and checkpoints that are not of one database: a data folder that was lost and made anew, an older
//! one that was put back, one that has lost the end of its log, and two of them over one root. No view shows
//! rows that are not of its tables, however far these go on, and no table or subscription lacks in silence what
//! it was given.

use crate::parts::{Log, assert_equal_to_recomputation, number};
use highwater::{Config, Database, Rows, same_rows};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A view, and an index of the table.
const VIEWS: &str = "
    CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(a) AS s FROM t;
    CREATE INDEX t_by_part ON t (part);";
const TABLE: &str = "CREATE TABLE t (a bigint PRIMARY KEY, part bigint)";
const VIEW: &str = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(a) AS s FROM t";

fn config(folder: &Path, data: &str) -> Config {
    let mut config = Config::new(folder.join(data));
    config.workers = Some(1);
    config.checkpoints.interval = None;
    config.checkpoint_root = Some(folder.join("root").to_str().expect("text").to_owned());
    config
}

fn open(folder: &Path, data: &str) -> highwater::Result<Database> {
    Database::open(config(folder, data))
}

fn rows(database: &Database, sql: &str) -> Rows {
    database.query(sql).expect(sql)
}

fn insert(database: &Database, ids: std::ops::Range<u64>) {
    for id in ids {
        let sql = format!("INSERT INTO t VALUES ({id}, {})", id % 3);
        database.execute(&sql).expect(&sql);
    }
}

/// A database with a table of six rows in the folder `data`, whose views have a checkpoint of the rows.
fn made(folder: &Path) -> Database {
    let database = open(folder, "data").expect("a database");
    database.execute(TABLE).expect(TABLE);
    database.script(VIEWS).expect("views");
    insert(&database, 0..6);
    database.script("FLUSH; CHECKPOINT").expect("checkpoints");
    database
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}

fn log_of(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("tables")).expect("the folder is there").map(|entry| entry.expect("an entry"));
    let logs = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|of| of == "log"));
    logs.max_by_key(|path| fs::metadata(path).expect("it is there").len()).expect("a log")
}

/// The newest manifest of the view is removed, and that of the index cut short.
fn damage_newest(folder: &Path) {
    let newest = |pipeline: &str| {
        let entries =
            fs::read_dir(folder.join("root").join(pipeline).join("checkpoints")).expect("the folder is there");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.max_by_key(|path| (path.as_os_str().len(), path.clone())).expect("a checkpoint")
    };
    fs::remove_file(newest("v")).expect("removes");
    let manifest = newest("t_by_part");
    let text = fs::read(&manifest).expect("reads");
    fs::remove_file(&manifest).expect("removes");
    fs::write(manifest, &text[..text.len() / 2]).expect("writes");
}

/// The view and the index give what the table has.
fn assert_right(database: &Database) {
    database.execute("FLUSH").expect("flushes");
    let pairs = [
        ("SELECT n, s FROM v", "SELECT count(*) AS n, sum(a) AS s FROM t"),
        ("SELECT a FROM t WHERE part = 1", "SELECT a FROM t WHERE a % 3 = 1"),
    ];
    for (one, other) in pairs {
        let (ours, theirs) = (rows(database, one), rows(database, other));
        assert_eq!(same_rows(&ours.batches, &theirs.batches).expect("comparable"), None, "{one}");
        assert!(ours.count() > 0, "{one}");
    }
}

/// The view and the index are refused, and what is read without them is right.
fn assert_refused(database: &Database) {
    let broken = database.broken();
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken.iter().all(|reason| reason.contains("not of one database")), "{broken:?}");
    for sql in ["FLUSH", "SELECT * FROM v"] {
        let refused = database.execute(sql).expect_err(sql);
        assert!(refused.to_string().contains("not of one database"), "{sql}: {refused}");
    }
    let (ours, theirs) =
        (rows(database, "SELECT a FROM t WHERE part = 1"), rows(database, "SELECT a FROM t WHERE a % 3 = 1"));
    assert_eq!(same_rows(&ours.batches, &theirs.batches).expect("comparable"), None);
}

/// What the messages say to do.
fn make_anew(database: &Database) {
    database.script("DROP MATERIALIZED VIEW v; DROP INDEX t_by_part").expect("drops");
    database.script(VIEWS).expect("views");
    assert_right(database);
}

#[test]
fn a_new_database_does_not_take_up_views_of_a_lost_one() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(made(folder.path()));
    fs::remove_dir_all(folder.path().join("data")).expect("the data folder is lost");
    let database = open(folder.path(), "data").expect("a database");
    database.execute(TABLE).expect(TABLE);
    insert(&database, 100..110);
    let files = |folder: &TempDir| fs::read_dir(folder.path().join("root/v/checkpoints")).expect("a folder").count();
    let before = files(&folder);
    for statement in [VIEW, VIEW, "CREATE INDEX t_by_part ON t (part)"] {
        let refused = database.execute(statement).expect_err(statement);
        assert_eq!(refused.sqlstate(), "55000");
        assert!(refused.to_string().contains("another database"), "{refused}");
    }
    assert!(database.script(VIEWS).is_err(), "nor does a script");
    assert_eq!(files(&folder), before, "what is there is not removed");
    for folder in ["root/v", "root/t_by_part"].map(|name| folder.path().join(name)) {
        fs::remove_dir_all(folder).expect("removes");
    }
    database.script(VIEWS).expect("views");
    assert_right(&database);
    database.shutdown().expect("a clean stop");
}

#[test]
fn a_damaged_newest_checkpoint_makes_no_others_of_another_database_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = made(folder.path());
    for start in [6, 9] {
        insert(&database, start..start + 3);
        database.script("FLUSH; CHECKPOINT").expect("checkpoints");
    }
    drop(database);
    damage_newest(folder.path());
    fs::remove_dir_all(folder.path().join("data")).expect("the data folder is lost");
    let database = open(folder.path(), "data").expect("a database");
    database.execute(TABLE).expect(TABLE);
    insert(&database, 100..110);
    let files = |name: &str| fs::read_dir(folder.path().join("root").join(name)).map_or(0, Iterator::count);
    let before = ["v/checkpoints", "v/files", "t_by_part/checkpoints"].map(files);
    for statement in [VIEW, VIEW, "CREATE INDEX t_by_part ON t (part)"] {
        let refused = database.execute(statement).expect_err(statement);
        assert_eq!(refused.sqlstate(), "55000", "{refused}");
        assert!(refused.to_string().contains("another database"), "{refused}");
    }
    let other = "CREATE MATERIALIZED VIEW v AS SELECT 1 AS one";
    let refused = database.execute(other).expect_err("other statements made what is there");
    assert!(refused.to_string().contains("other statements"), "{refused}");
    assert_eq!(["v/checkpoints", "v/files", "t_by_part/checkpoints"].map(files), before);
}

#[test]
fn newer_checkpoints_of_which_the_newest_is_damaged_are_not_read_by_an_older_data_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    made(folder.path()).shutdown().expect("a clean stop");
    copy(&data, &folder.path().join("older"));
    let database = open(folder.path(), "data").expect("a database");
    for start in [100, 105] {
        insert(&database, start..start + 5);
        database.script("FLUSH; CHECKPOINT").expect("checkpoints");
    }
    drop(database);
    damage_newest(folder.path());
    fs::remove_dir_all(&data).expect("removes");
    fs::rename(folder.path().join("older"), &data).expect("puts it back");
    let database = open(folder.path(), "data").expect("a database");
    insert(&database, 200..210);
    assert_refused(&database);
}

#[test]
fn an_older_data_folder_is_refused_by_newer_checkpoints_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    made(folder.path()).shutdown().expect("a clean stop");
    copy(&data, &folder.path().join("older"));
    let database = open(folder.path(), "data").expect("a database");
    insert(&database, 100..105);
    database.script("FLUSH; CHECKPOINT").expect("checkpoints");
    assert_right(&database);
    drop(database);

    fs::remove_dir_all(&data).expect("removes");
    fs::rename(folder.path().join("older"), &data).expect("puts it back");
    for _ in 0..2 {
        let database = open(folder.path(), "data").expect("a database");
        let next = rows(&database, "SELECT * FROM t").count() as u64 + 200;
        insert(&database, next..next + 10);
        assert_refused(&database);
    }
    let database = open(folder.path(), "data").expect("a database");
    make_anew(&database);
    database.shutdown().expect("a clean stop");
    drop(database);
    assert_right(&open(folder.path(), "data").expect("a database"));
}

#[test]
fn a_log_that_lost_its_end_is_refused_and_then_the_views_that_have_seen_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    drop(made(folder.path()));
    // The rows are in a log of their own, so that only these are lost.
    let database = open(folder.path(), "data").expect("a database");
    assert_right(&database);
    insert(&database, 100..120);
    database.script("FLUSH; CHECKPOINT").expect("checkpoints");
    drop(database);
    let log = log_of(&data);
    let length = fs::metadata(&log).expect("it is there").len();
    fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(length / 2)).expect("cuts");
    for _ in 0..2 {
        let refused = open(folder.path(), "data").expect_err("writes are gone");
        assert!(refused.to_string().contains("tables.position"), "{refused}");
    }
    fs::remove_file(data.join("tables.position")).expect("removes");
    for _ in 0..2 {
        let database = open(folder.path(), "data").expect("a database");
        let next = rows(&database, "SELECT * FROM t").count() as u64 + 200;
        insert(&database, next..next + 30);
        assert_refused(&database);
    }
    make_anew(&open(folder.path(), "data").expect("a database"));
}

#[test]
fn a_checkpoint_that_failed_is_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path(), "data");
    config.checkpoints.timeout = Duration::from_secs(2);
    let database = Database::open(config).expect("a database");
    database.execute(TABLE).expect(TABLE);
    database.script(VIEWS).expect("views");
    insert(&database, 0..6);
    database.script("FLUSH; CHECKPOINT").expect("checkpoints");
    let of_view = folder.path().join("root/v");
    fs::remove_dir_all(&of_view).expect("removes");
    fs::write(&of_view, "in the way").expect("writes");
    insert(&database, 6..9);
    let refused = database.execute("CHECKPOINT WAIT").expect_err("it cannot be written");
    assert!(matches!(refused.sqlstate(), "58030" | "55000"), "{refused}");
    assert!(refused.to_string().contains(" v "), "{refused}");
}

#[test]
fn a_second_database_takes_over_no_view_of_the_first_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = made(folder.path());
    let second = open(folder.path(), "other").expect("a database");
    second.execute(TABLE).expect(TABLE);
    insert(&second, 100..109);
    let refused = second.execute(VIEW).expect_err("the root has one");
    assert!(refused.to_string().contains("another database"), "{refused}");
    second.execute("CREATE MATERIALIZED VIEW w AS SELECT max(a) AS m FROM t").expect("its own");
    insert(&first, 6..20);
    first.script("FLUSH; CHECKPOINT").expect("it still has its place");
    assert_right(&first);
    second.shutdown().expect("a clean stop");
    first.shutdown().expect("a clean stop");
    drop(first);
    assert_right(&open(folder.path(), "data").expect("a database"));
}

#[test]
fn a_new_database_gives_its_tables_all_that_a_sink_into_them_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "
        CREATE SOURCE s (v bigint) WITH (connector = 'datagen', datagen.rows = '10', fields.v.kind = 'event_number');
        CREATE TABLE t (n bigint PRIMARY KEY);
        CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s;
        CREATE SINK k INTO t AS SELECT n FROM v;
        FLUSH;";
    let given = |database: &Database| rows(database, "SELECT n FROM t WHERE n = 10").count();
    let database = open(folder.path(), "data").expect("a database");
    database.script(script).expect("a script");
    assert_eq!(given(&database), 1);
    database.shutdown().expect("a clean stop");
    drop(database);
    fs::remove_dir_all(folder.path().join("data")).expect("the data folder is lost");
    let database = open(folder.path(), "data").expect("a database");
    let refused = database.script(script).expect_err("the table would stay empty");
    assert!(refused.to_string().contains("another database"), "{refused}");
    fs::remove_dir_all(folder.path().join("root/v")).expect("removes");
    for statement in script.split(';').skip(2).map(str::trim).filter(|statement| !statement.is_empty()) {
        database.execute(statement).expect(statement);
    }
    assert_eq!(given(&database), 1);
    database.shutdown().expect("a clean stop");
}

/// A view over a source, which no table is behind, and a table for its rows.
const OVER_SOURCE: &str = "
    CREATE SOURCE s WITH (connector = 'log', follow = true);
    CREATE TABLE t (part bigint PRIMARY KEY, n bigint);
    CREATE TABLE other (a bigint);
    CREATE MATERIALIZED VIEW v AS SELECT part, count(*) AS n FROM s GROUP BY part;";

fn open_over(folder: &Path, log: &Log) -> Database {
    let mut config = config(folder, "data");
    config.sources.push(Arc::new(log.clone()));
    Database::open(config).expect("a database")
}

/// The pipeline is not begun, and tells which output of it lacks something; its view is read as its newest
/// checkpoint has it.
fn assert_not_begun(database: &Database, output: &str, numbers: i64) {
    let broken = database.broken();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].starts_with("v: ") && broken[0].contains("not of one database"), "{broken:?}");
    assert!(broken[0].contains(output), "{broken:?}");
    let refused = database.execute("FLUSH").expect_err("it does not run");
    assert!(refused.to_string().contains("not of one database"), "{refused}");
    let stale = database.execute("SELECT part, n FROM v").expect("its checkpoint is whole");
    assert!(stale.notices.iter().any(|notice| notice.contains(output)), "{:?}", stale.notices);
    assert_eq!(number(database, "SELECT CAST(sum(n) AS bigint) FROM v"), numbers);
}

/// A view over a source has an output into the tables' store, which an older data folder does not have all of.
fn an_output_is_missed(create: &str, remove: &str, output: &str) -> (TempDir, Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, older, log) = (folder.path().join("data"), folder.path().join("older"), Log::of(60));
    let database = open_over(folder.path(), &log);
    database.script(OVER_SOURCE).expect("a script");
    database.execute(create).expect(create);
    database.execute("FLUSH").expect("flushes");
    database.shutdown().expect("a clean stop");
    drop(database);
    copy(&data, &older);
    for end in [90, 120] {
        log.fill_to(end);
        let database = open_over(folder.path(), &log);
        assert!(database.broken().is_empty(), "its own folder goes on: {:?}", database.broken());
        database.execute("FLUSH").expect("flushes");
        database.shutdown().expect("a clean stop");
    }

    fs::remove_dir_all(&data).expect("removes");
    fs::rename(&older, &data).expect("puts it back");
    for _ in 0..2 {
        let database = open_over(folder.path(), &log);
        for id in 0..20 {
            database.execute(&format!("INSERT INTO other VALUES ({id})")).expect("tables work");
        }
        assert_not_begun(&database, output, 120);
    }
    let database = open_over(folder.path(), &log);
    database.execute(remove).expect(remove);
    assert!(database.broken().is_empty(), "it goes on without: {:?}", database.broken());
    database.execute(create).expect(create);
    log.fill_to(150);
    database.execute("FLUSH").expect("flushes");
    assert_eq!(number(&database, "SELECT CAST(sum(n) AS bigint) FROM v"), 150);
    assert_equal_to_recomputation(&database, "v");
    database.shutdown().expect("a clean stop");
    drop(database);
    let database = open_over(folder.path(), &log);
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    (folder, database)
}

#[test]
fn an_older_data_folder_does_not_go_on_without_what_a_sink_gave_its_table() {
    let sink = "CREATE SINK k INTO t AS SELECT part, n FROM v";
    let (_folder, database) = an_output_is_missed(sink, "DROP SINK k", "sink k into table t");
    let [given, view] = ["SELECT part, n FROM t", "SELECT part, n FROM v"].map(|sql| rows(&database, sql));
    assert_eq!(same_rows(&given.batches, &view.batches).expect("comparable"), None);
    database.shutdown().expect("a clean stop");
}

#[test]
fn an_older_data_folder_does_not_go_on_without_what_a_subscription_was_told() {
    let subscription = "CREATE SUBSCRIPTION f FROM v WITH (retention = '1 day')";
    let (_folder, database) = an_output_is_missed(subscription, "DROP SUBSCRIPTION f", "subscription f");
    database.execute("DECLARE c SUBSCRIPTION CURSOR FOR f SINCE begin()").expect("a cursor");
    assert_eq!(rows(&database, "FETCH 100 FROM c").count(), 20, "ten groups, each updated once");
    database.shutdown().expect("a clean stop");
}
