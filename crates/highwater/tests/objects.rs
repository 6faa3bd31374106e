//! Objects that are changed while they are in use, over crashes and restarts: names, columns, and
//! sinks into tables.

mod opened;

use arrow::array::AsArray as _;
use highwater::{Config, Database, Rows, same_rows};
use opened::open;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

fn assert_equal_to_recomputation(database: &Database, view: &str) {
    let compared = database.recompute(view).expect(view);
    let (ours, theirs) = (&compared.view.batches, &compared.recomputed.batches);
    assert_eq!(same_rows(ours, theirs).expect("comparable"), None, "{view}");
    assert!(compared.view.count() > 0, "{view} has rows");
}

fn rows(database: &Database, sql: &str) -> Rows {
    database.query(sql).expect(sql)
}

/// Two queries give the same rows, and as many as are expected.
fn assert_same(database: &Database, one: &str, other: &str, count: usize) {
    let (one, other) = (rows(database, one), rows(database, other));
    assert_eq!(same_rows(&one.batches, &other.batches).expect("comparable"), None);
    assert_eq!(one.count(), count);
}

fn titles(database: &Database) -> Vec<(String, String)> {
    let mut titles: Vec<_> = database.pipelines().iter().map(|p| (p.name().to_owned(), p.title().to_owned())).collect();
    titles.sort();
    titles
}

fn pair(kept: &str, title: &str) -> (String, String) {
    (kept.to_owned(), title.to_owned())
}

#[test]
fn renamed_objects_find_their_state_after_a_crash_and_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (id bigint PRIMARY KEY, grp bigint);
        CREATE MATERIALIZED VIEW v AS SELECT t.grp, count(*) AS n FROM t GROUP BY t.grp;
        CREATE MATERIALIZED VIEW w AS SELECT max(v.n) AS most FROM v;
        INSERT INTO t VALUES (1, 1), (2, 1), (3, 2);
        FLUSH;
        CHECKPOINT;
        ALTER TABLE t RENAME TO u;
        ALTER MATERIALIZED VIEW v RENAME TO groups;
        INSERT INTO u VALUES (4, 2), (5, 2);";
    database.script(script).expect("a script");
    assert_eq!(titles(&database), [pair("v", "groups")]);
    drop(database);

    let database = open(folder.path());
    assert_eq!(titles(&database), [pair("v", "groups")]);
    let script = "
        INSERT INTO u VALUES (6, 3);
        CREATE TABLE t (a bigint);
        CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;
        INSERT INTO t VALUES (1), (2);
        FLUSH;
        CHECKPOINT;";
    database.script(script).expect("a script");
    assert_eq!(titles(&database), [pair("v", "groups"), pair("v#2", "v")]);
    for view in ["groups", "w", "v"] {
        assert_equal_to_recomputation(&database, view);
    }
    assert_same(&database, "SELECT * FROM groups", "SELECT grp, count(*) FROM u GROUP BY grp", 3);
    database.shutdown().expect("a clean stop");
    drop(database);

    let database = open(folder.path());
    database.script("DROP TABLE t CASCADE; ALTER MATERIALIZED VIEW groups RENAME TO v; FLUSH;").expect("a script");
    assert_eq!(titles(&database), [pair("v", "v")]);
    for view in ["v", "w"] {
        assert_equal_to_recomputation(&database, view);
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn added_columns_are_there_for_new_readers_only_after_a_crash_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (id bigint PRIMARY KEY, a varchar);
        CREATE MATERIALIZED VIEW early AS SELECT * FROM t;
        INSERT INTO t VALUES (1, 'x'), (2, NULL), (3, 'z');
        FLUSH;
        CHECKPOINT;
        UPDATE t SET a = 'y' WHERE id = 2;
        ALTER TABLE t ADD COLUMN b bigint DEFAULT 7;
        UPDATE t SET b = 8 WHERE id = 1;
        DELETE FROM t WHERE id = 3;
        INSERT INTO t (id, a) VALUES (4, 'new');";
    database.script(script).expect("a script");
    drop(database);

    // The log that the view goes on from has rows of both kinds.
    let database = open(folder.path());
    let script = "
        ALTER TABLE t ADD COLUMN c varchar;
        INSERT INTO t VALUES (5, 'newer', 9, 'c');
        CREATE MATERIALIZED VIEW late AS SELECT * FROM t;
        FLUSH;";
    database.script(script).expect("a script");
    for view in ["early", "late"] {
        assert_equal_to_recomputation(&database, view);
    }
    assert_same(&database, "SELECT * FROM early", "SELECT id, a FROM t", 4);
    assert_same(&database, "SELECT * FROM late", "SELECT * FROM t", 4);
    assert_eq!(rows(&database, "SELECT id FROM t WHERE b = 7 AND c IS NULL").count(), 2);
    database.shutdown().expect("a clean stop");
    drop(database);

    let database = open(folder.path());
    database.script("UPDATE t SET b = b + 1; FLUSH;").expect("a script");
    for view in ["early", "late"] {
        assert_equal_to_recomputation(&database, view);
    }
    assert_same(&database, "SELECT * FROM late", "SELECT * FROM t", 4);
    database.shutdown().expect("a clean stop");
}

#[test]
fn an_added_column_leaves_alone_what_is_kept_over_all_columns() {
    const VIEWS: [(&str, &str); 5] = [
        ("numbered", "SELECT a, b, row_number() OVER (PARTITION BY b ORDER BY a) AS r FROM t"),
        ("most", "SELECT b, max(r) AS m FROM numbered GROUP BY b"),
        ("listed", "SELECT b, string_agg(a::varchar, ',' ORDER BY a) AS l FROM t GROUP BY b"),
        ("pairs", "SELECT x.a, x.b, y.a AS c FROM t AS x JOIN t AS y ON x.b = y.b"),
        ("chosen", "SELECT b, a FROM t WHERE a IN (SELECT a FROM u)"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script("CREATE TABLE t (a bigint PRIMARY KEY, b bigint); CREATE TABLE u (a bigint);").expect("tables");
    for (view, query) in VIEWS {
        database.execute(&format!("CREATE MATERIALIZED VIEW {view} AS {query}")).expect(view);
    }
    let script = "
        INSERT INTO t SELECT value, value % 7 FROM generate_series(1, 100) AS s(value);
        INSERT INTO u SELECT value FROM generate_series(1, 50) AS s(value);
        FLUSH;
        CHECKPOINT;
        UPDATE t SET b = 3 WHERE a % 10 = 0;
        ALTER TABLE t ADD COLUMN c bigint DEFAULT 7;
        ALTER TABLE u ADD COLUMN d varchar;
        INSERT INTO t VALUES (101, 3, 8);
        DELETE FROM u WHERE a = 1;
        FLUSH;";
    database.script(script).expect("a script");
    for (view, _) in VIEWS {
        assert_equal_to_recomputation(&database, view);
    }
    drop(database);

    let database = open(folder.path());
    database
        .script("DELETE FROM t WHERE a < 20; INSERT INTO u VALUES (60, 'x'); FLUSH; CHECKPOINT;")
        .expect("a script");
    for (view, _) in VIEWS {
        assert_equal_to_recomputation(&database, view);
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn many_rows_from_before_and_after_a_column_was_added_reach_a_view() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (a bigint);
        CREATE MATERIALIZED VIEW v AS SELECT a % 10 AS part, count(*) AS n FROM t GROUP BY 1;
        INSERT INTO t SELECT value FROM generate_series(1, 5000) AS s(value);
        ALTER TABLE t ADD COLUMN b bigint DEFAULT 1;
        CREATE MATERIALIZED VIEW w AS SELECT b, count(*) AS n FROM t GROUP BY b;
        INSERT INTO t SELECT value, 2 FROM generate_series(1, 3000) AS s(value);
        FLUSH;";
    database.script(script).expect("a script");
    for view in ["v", "w"] {
        assert_equal_to_recomputation(&database, view);
    }
    assert_eq!(rows(&database, "SELECT * FROM w WHERE b = 1 AND n = 5000").count(), 1);
    assert_eq!(rows(&database, "SELECT * FROM w WHERE b = 2 AND n = 3000").count(), 1);
    database.shutdown().expect("a clean stop");
}

/// The pipeline of the sink is the first by its name.
#[test]
fn a_column_is_known_to_all_views_of_a_table_before_a_sink_fills_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let views = ["m", "n", "o", "p", "q"];
    let script = "
        CREATE TABLE s (id bigint PRIMARY KEY);
        CREATE TABLE t (id bigint PRIMARY KEY);
        CREATE MATERIALIZED VIEW a WITH (checkpoint_interval = '20ms') AS SELECT id FROM s;
        CREATE SINK k INTO t FROM a;";
    database.script(script).expect("a script");
    for view in views {
        let query = "SELECT id % 3 AS part, count(*) AS n FROM t GROUP BY 1";
        database.execute(&format!("CREATE MATERIALIZED VIEW {view} AS {query}")).expect("a view");
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = database.connect();
            for id in 0.. {
                let insert = format!("INSERT INTO s VALUES ({id})");
                database.execute_for(&mut connection, &insert).expect("inserted");
                if over.load(Relaxed) {
                    break;
                }
            }
        });
        let altered = ["x", "y", "z"].map(|name| database.execute(&format!("ALTER TABLE t ADD COLUMN {name} int")));
        over.store(true, Relaxed);
        for altered in altered {
            altered.expect("a column");
        }
    });
    database.execute("FLUSH").expect("all views run");
    assert!(database.pipelines().iter().all(|pipeline| pipeline.metrics().restarts == 0));
    assert_same(&database, "SELECT id FROM t", "SELECT id FROM s", rows(&database, "SELECT id FROM a").count());
    for view in views {
        assert_equal_to_recomputation(&database, view);
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn a_key_that_a_table_gets_is_its_key_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (id int, v varchar) WITH (fillfactor = 90);
        INSERT INTO t SELECT g, 'row ' || g::varchar FROM generate_series(1, 20000) AS s (g);
        ALTER TABLE t ADD COLUMN w int DEFAULT 7;
        INSERT INTO t VALUES (0, 'new', 1);
        CREATE TABLE other (id int PRIMARY KEY);
        ALTER TABLE t ADD PRIMARY KEY (id);
        CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, sum(w) AS w FROM t;
        INSERT INTO t VALUES (30000, 'newer', 2) ON CONFLICT (id) DO NOTHING;
        FLUSH;";
    database.script(script).expect("a script");
    let check = |database: &Database| {
        database.execute("FLUSH").expect("they run");
        assert_equal_to_recomputation(database, "sums");
        assert_same(database, "SELECT n, w FROM sums", "SELECT count(*) AS n, sum(w) AS w FROM t", 1);
        assert_same(database, "SELECT n FROM sums WHERE w = 140003", "SELECT count(*) AS n FROM t", 1);
        assert_same(database, "SELECT id, w FROM t WHERE id = 17", "SELECT id, w FROM t WHERE v = 'row 17'", 1);
        let twice = database.execute("INSERT INTO t VALUES (17, 'again', 0)").expect_err("the key is taken");
        assert_eq!(twice.sqlstate(), "23505");
    };
    check(&database);
    drop(database);
    check(&open(folder.path()));
}

#[test]
fn rows_that_are_written_while_a_table_gets_its_key_are_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.execute("CREATE TABLE t (id int, v int)").expect("a table");
    database.execute("INSERT INTO t SELECT g, 0 FROM generate_series(1, 50000) AS s (g)").expect("rows");
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut connection = database.connect();
            let mut written = 50_000;
            for id in 50_001..50_061 {
                let insert = format!("INSERT INTO t VALUES ({id}, 1)");
                match database.execute_for(&mut connection, &insert) {
                    Ok(_) => written += 1,
                    Err(error) => assert_eq!(error.sqlstate(), "40001", "{error}"),
                }
            }
            written
        });
        let mut connection = database.connect();
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = database.execute_for(&mut connection, "ALTER TABLE t ADD PRIMARY KEY (id)") {
            assert_eq!(error.sqlstate(), "55006", "{error}");
            assert!(Instant::now() < deadline, "the writer ends");
        }
        writer.join().expect("it writes")
    });
    assert_eq!(rows(&database, "SELECT id FROM t").count(), written);
    assert_eq!(rows(&database, "SELECT DISTINCT id FROM t").count(), written);
    let twice = database.execute("INSERT INTO t VALUES (1, 1)").expect_err("the key is taken");
    assert_eq!(twice.sqlstate(), "23505");
}

#[test]
fn an_open_transaction_does_not_see_a_table_without_its_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.execute("CREATE TABLE t (id int)").expect("a table");
    database.execute("INSERT INTO t VALUES (1), (2)").expect("rows");
    let mut connection = database.connect();
    for sql in ["BEGIN", "INSERT INTO t VALUES (3)"] {
        database.execute_for(&mut connection, sql).expect(sql);
    }
    let refused = database.execute_for(&mut connection, "ALTER TABLE t ADD PRIMARY KEY (id)");
    assert_eq!(refused.expect_err("it has rows of its own").sqlstate(), "55006");
    for sql in ["ROLLBACK", "BEGIN", "INSERT INTO t VALUES (3)"] {
        database.execute_for(&mut connection, sql).expect(sql);
    }
    database.execute("ALTER TABLE t ADD PRIMARY KEY (id)").expect("nobody has committed meanwhile");
    let read = database.execute_for(&mut connection, "SELECT id FROM t");
    assert_eq!(read.expect_err("as of then the table has no rows").sqlstate(), "40001");
    database.execute_for(&mut connection, "ROLLBACK").expect("it ends");
    assert_eq!(rows(&database, "SELECT id FROM t").count(), 2);
}

#[test]
fn a_column_of_few_characters_holds_its_default_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (id int PRIMARY KEY, a varchar(2) DEFAULT 'too long');
        INSERT INTO t VALUES (1, 'x');
        ALTER TABLE t ADD COLUMN b varchar(2) DEFAULT 'y     ';
        ALTER TABLE t ADD COLUMN c char(2) DEFAULT 'z     ';";
    database.script(script).expect("a script");
    let check = |database: &Database| {
        assert_same(database, "SELECT id FROM t WHERE b = 'y ' AND c = 'z'", "SELECT id FROM t WHERE id = 1", 1);
        let refused = database.execute("INSERT INTO t (id) VALUES (2)").expect_err("its default has too many");
        assert_eq!(refused.sqlstate(), "22001");
    };
    check(&database);
    drop(database);
    check(&open(folder.path()));
}

/// Stages of writes; after each the database is dropped at another moment of a delivery.
#[test]
fn a_sink_brings_each_change_into_a_table_once_over_crashes() {
    const STAGE: u64 = 1000;
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE events (id bigint, grp bigint) APPEND ONLY;
        CREATE MATERIALIZED VIEW counts AS SELECT grp, count(*) AS n FROM events GROUP BY grp;
        CREATE MATERIALIZED VIEW few AS SELECT n, count(*) AS groups FROM counts GROUP BY n;
        CREATE TABLE log (id bigint, grp bigint);
        CREATE TABLE report (n bigint PRIMARY KEY, groups bigint);
        CREATE SINK appended INTO log FROM events;
        CREATE SINK kept INTO report FROM few;
        CREATE MATERIALIZED VIEW seen AS SELECT count(*) AS n FROM log;";
    database.script(script).expect("a script");
    drop(database);
    for stage in 1..=6 {
        let database = open(folder.path());
        let from = (stage - 1) * STAGE;
        let insert = format!(
            "INSERT INTO events SELECT value, value % {} FROM generate_series({}, {}) AS s(value)",
            stage + 2,
            from + 1,
            from + STAGE
        );
        database.execute(&insert).expect("inserts");
        match stage % 3 {
            0 => drop(database.execute("FLUSH").expect("flushes")),
            // It is published, and delivered or not.
            1 => drop(database.execute("CHECKPOINT").expect("a checkpoint")),
            _ => {}
        }
        drop(database);
    }
    let database = open(folder.path());
    database.execute("FLUSH").expect("flushes");
    assert_same(&database, "SELECT * FROM log", "SELECT * FROM events", 6000);
    let groups = rows(&database, "SELECT * FROM few").count();
    assert_same(&database, "SELECT * FROM report", "SELECT * FROM few", groups);
    assert_eq!(rows(&database, "SELECT n FROM seen WHERE n = 6000").count(), 1);
    for view in ["counts", "few", "seen"] {
        assert_equal_to_recomputation(&database, view);
    }
    database.shutdown().expect("a clean stop");
}

/// Numbers of checkpoints would begin anew, and the fences in the tables' store would take them for old.
/// Whether FLUSH tells of a sink that was given more than what is gone on from.
fn is_told(database: &Database) -> bool {
    let flushed = database.execute("FLUSH").expect("flushes");
    flushed.notices.iter().any(|told| told.contains("drop the sink"))
}

#[test]
fn a_lost_root_makes_no_sink_leave_rows_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    let open = || {
        let mut config = Config::new(folder.path().join("data"));
        config.workers = Some(2);
        config.checkpoints.interval = None;
        config.checkpoint_root = Some(root.to_str().expect("text").to_owned());
        Database::open(config).expect("a database")
    };
    let database = open();
    let script = "
        CREATE TABLE events (id bigint PRIMARY KEY, grp bigint);
        CREATE MATERIALIZED VIEW counts AS SELECT grp, count(*) AS n FROM events GROUP BY grp;
        CREATE TABLE report (grp bigint PRIMARY KEY, n bigint);
        CREATE SINK s INTO report FROM counts;";
    database.script(script).expect("a script");
    for id in 1..=5 {
        database.execute(&format!("INSERT INTO events VALUES ({id}, {id})")).expect("inserts");
        database.execute("FLUSH").expect("flushes");
    }
    assert_same(&database, "SELECT * FROM report", "SELECT * FROM counts", 5);
    drop(database);
    std::fs::remove_dir_all(&root).expect("the root is lost");
    let database = open();
    let broken = database.broken();
    assert!(broken.len() == 1 && broken[0].contains("is that mounted"), "{broken:?}");
    drop(database);
    for pipeline in std::fs::read_dir(folder.path().join("data/files")).expect("a folder") {
        // It is lost indeed.
        std::fs::remove_file(pipeline.expect("a folder").path().join("published-to")).expect("a note of the root");
    }
    let database = open();
    database.execute("INSERT INTO events VALUES (6, 1), (7, 7)").expect("inserts");
    assert!(is_told(&database));
    assert_equal_to_recomputation(&database, "counts");
    assert_same(&database, "SELECT * FROM report", "SELECT * FROM counts", 6);
    database.shutdown().expect("a clean stop");
    drop(database);
    let database = open();
    assert!(is_told(&database), "it is known after a restart");
    database.script("DROP SINK s; CREATE SINK s INTO report FROM counts").expect("a new sink");
    assert!(!is_told(&database));

    database.script("INSERT INTO events VALUES (8, 8); FLUSH").expect("a checkpoint with rows for the sink");
    drop(database);
    let manifests = std::fs::read_dir(root.join("counts/checkpoints")).expect("manifests");
    let newest = manifests.map(|file| file.expect("a manifest").path()).max().expect("some");
    std::fs::write(newest, "damaged").expect("the newest checkpoint is damaged");
    let database = open();
    assert!(is_told(&database), "an older checkpoint is gone on with");
    assert_same(&database, "SELECT * FROM report", "SELECT * FROM counts", 7);
    database.shutdown().expect("a clean stop");
}

/// A database whose checkpoints are in a folder beside its own.
fn open_with_root(folder: &Path) -> Database {
    let mut config = Config::new(folder.join("data"));
    config.workers = Some(2);
    config.checkpoints.interval = None;
    config.checkpoint_root = Some(folder.join("root").to_str().expect("text").to_owned());
    Database::open(config).expect("a database")
}

/// The same, in which nothing is broken.
fn with_root(folder: &Path) -> Database {
    let database = open_with_root(folder);
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    database
}

/// A table, and a view of its rows of which there is a checkpoint.
const CHECKPOINTED: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY);
    CREATE MATERIALIZED VIEW j AS SELECT id FROM t;
    INSERT INTO t SELECT x.g FROM generate_series(1, 1000) AS x(g);
    FLUSH;
    CHECKPOINT;";
const DOUBLED: &str = "CREATE MATERIALIZED VIEW j AS SELECT id * 2 AS d FROM t";

fn assert_doubled(database: &Database) {
    database.execute("FLUSH").expect("flushes");
    assert_equal_to_recomputation(database, "j");
    assert_same(database, "SELECT d FROM j", "SELECT id * 2 AS d FROM t", 1000);
}

#[test]
fn a_view_does_not_go_on_from_a_dropped_one_whose_checkpoints_could_not_be_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, away) = (folder.path().join("root"), folder.path().join("away"));
    let current = root.join("j/current");
    let database = with_root(folder.path());
    database.script(CHECKPOINTED).expect("a script");
    assert!(current.exists());
    std::fs::rename(&root, &away).expect("the root is away");
    let dropped = database.execute("DROP MATERIALIZED VIEW j").expect("drops");
    assert!(dropped.notices.iter().any(|told| told.contains("are removed later")), "{:?}", dropped.notices);
    database.retry_broken();
    if root.exists() {
        std::fs::remove_dir_all(&root).expect("what was made there meanwhile");
    }
    std::fs::rename(&away, &root).expect("the root is back");

    database.execute(DOUBLED).expect("its name is free");
    assert_doubled(&database);
    assert!(current.exists(), "nobody has tried again");
    database.retry_broken();
    assert!(!current.exists(), "it is removed without a restart");
    assert_doubled(&database);
    database.execute("CHECKPOINT").expect("made");
    drop(database);
    let database = with_root(folder.path());
    assert_doubled(&database);
    database.shutdown().expect("a clean stop");
    drop(database);
    let database = with_root(folder.path());
    assert_doubled(&database);
    let dropped = database.execute("DROP MATERIALIZED VIEW j").expect("drops");
    assert_eq!(dropped.notices, Vec::<String>::new());
    database.execute(DOUBLED).expect("made anew");
    assert_doubled(&database);
    assert!(current.exists(), "it is kept under its own name again");
    database.shutdown().expect("a clean stop");
}

#[test]
fn what_a_dropped_object_has_left_is_removed_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, away) = (folder.path().join("root"), folder.path().join("away"));
    let database = with_root(folder.path());
    database.script(CHECKPOINTED).expect("a script");
    std::fs::rename(&root, &away).expect("the root is away");
    database.execute("DROP MATERIALIZED VIEW j").expect("drops");
    drop(database);
    // The server makes a root that is not there.
    drop(with_root(folder.path()));
    std::fs::remove_dir_all(&root).expect("the empty one");
    std::fs::rename(&away, &root).expect("the root is back");
    assert!(root.join("j/current").exists());
    let database = with_root(folder.path());
    assert!(!root.join("j/current").exists());
    database.execute(DOUBLED).expect("made anew");
    assert_doubled(&database);
    database.shutdown().expect("a clean stop");
}

const SUMS: &str = "CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, sum(id) AS s FROM t";

#[test]
fn nothing_new_is_begun_in_the_place_of_a_root_that_is_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, away) = (folder.path().join("root"), folder.path().join("away"));
    let database = with_root(folder.path());
    database.script(CHECKPOINTED).expect("a script");
    let other = "CREATE MATERIALIZED VIEW other AS SELECT max(id) AS m FROM t";
    for leaves_a_folder in [true, false] {
        std::fs::rename(&root, &away).expect("it is unmounted");
        if leaves_a_folder {
            std::fs::create_dir(&root).expect("an empty folder is left");
        }
        for statement in [SUMS, other, SUMS] {
            let refused = database.execute(statement).expect_err("the root is away");
            assert_eq!(refused.sqlstate(), "58030", "{refused}");
            let told = refused.to_string();
            assert!(told.contains(root.to_str().expect("text")) && told.contains("is that mounted"), "{told}");
        }
        assert_same(&database, "SELECT id FROM j", "SELECT id FROM t", 1000);
        if leaves_a_folder {
            std::fs::remove_dir(&root).expect("nothing was put there");
        }
        assert!(!root.exists(), "nor is it made");
        std::fs::rename(&away, &root).expect("it is mounted again");
    }
    database.execute(SUMS).expect("the root is there");
    database.script("FLUSH; CHECKPOINT").expect("checkpoints");
    drop(database);
    let database = with_root(folder.path());
    database.execute("FLUSH").expect("flushes");
    assert_equal_to_recomputation(&database, "sums");
    assert_equal_to_recomputation(&database, "j");
    database.shutdown().expect("a clean stop");
}

#[test]
fn nothing_new_is_begun_while_what_was_dropped_is_in_a_root_that_is_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, away) = (folder.path().join("root"), folder.path().join("away"));
    let database = with_root(folder.path());
    database.script(CHECKPOINTED).expect("a script");
    std::fs::rename(&root, &away).expect("it is unmounted");
    database.execute("DROP MATERIALIZED VIEW j").expect("drops");
    let refused = database.execute(SUMS).expect_err("the root is away");
    assert!(refused.sqlstate() == "58030" && refused.to_string().contains("j/left-in"), "{refused}");
    std::fs::remove_file(folder.path().join("data/files/j/left-in")).expect("it is lost, as the message says");
    database.execute(SUMS).expect("nothing is known of another root");
    assert!(root.join("sums/current").exists());
    database.execute("FLUSH").expect("flushes");
    assert_equal_to_recomputation(&database, "sums");
    database.shutdown().expect("a clean stop");
}

#[test]
fn what_was_killed_while_it_was_made_waits_for_the_root_of_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, away) = (folder.path().join("root"), folder.path().join("away"));
    let database = with_root(folder.path());
    database.script(CHECKPOINTED).expect("a script");
    database.script(&format!("{SUMS}; FLUSH; CHECKPOINT")).expect("a script");
    drop(database);
    for left in ["root/sums", "data/files/sums"] {
        std::fs::remove_dir_all(folder.path().join(left)).expect("as when the catalog alone has it");
    }
    std::fs::rename(&root, &away).expect("it is unmounted");
    let database = open_with_root(folder.path());
    let broken = database.broken();
    assert!(broken.len() == 2 && broken.iter().all(|told| told.contains("is that mounted")), "{broken:?}");
    std::fs::remove_dir(&root).expect("nothing was put there");
    std::fs::rename(&away, &root).expect("it is mounted again");
    database.retry_broken();
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    database.execute("FLUSH").expect("flushes");
    assert_equal_to_recomputation(&database, "sums");
    assert_equal_to_recomputation(&database, "j");
    database.shutdown().expect("a clean stop");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copies");
        }
    }
}

/// The names of the files that a sink has delivered, once there are so many.
fn delivered(out: &Path, count: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let entries = std::fs::read_dir(out).into_iter().flatten().map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        if names.len() >= count {
            return names;
        }
        assert!(Instant::now() < deadline, "{names:?} instead of {count}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file sink cannot tell what its target has.
#[test]
fn an_older_root_tells_of_the_sinks_that_were_given_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let [data, out, older] = ["data", "out", "older"].map(|name| folder.path().join(name));
    let root = data.join("checkpoints");
    let sink = format!(
        "CREATE SINK f FROM m WITH (connector = 'file', path = '{}', type = 'changelog') FORMAT PLAIN ENCODE JSON",
        out.display()
    );
    let database = open(&data);
    database
        .script("CREATE TABLE t (id bigint PRIMARY KEY, n bigint); CREATE MATERIALIZED VIEW m AS SELECT id, n FROM t")
        .expect("a script");
    database.execute(&sink).expect("a sink");
    database.script("FLUSH; CHECKPOINT").expect("checkpoints");
    drop(database);
    copy(&root, &older);
    let database = open(&data);
    database.script("INSERT INTO t VALUES (1, 1); FLUSH; CHECKPOINT").expect("a script");
    assert!(!is_told(&database));
    let before = delivered(&out, 1);
    drop(database);
    let database = open(&data);
    assert!(!is_told(&database), "nothing is lost");
    drop(database);

    std::fs::remove_dir_all(&root).expect("removes");
    std::fs::rename(&older, &root).expect("puts it back");
    let database = open(&data);
    assert!(is_told(&database));
    database.execute("CHECKPOINT").expect("a checkpoint");
    let after = delivered(&out, before.len() + 1);
    assert_eq!(&after[..before.len()], &before[..], "the row comes again, under a number that none had");
    assert_equal_to_recomputation(&database, "m");
    drop(database);
    let database = open(&data);
    assert!(is_told(&database), "its checkpoints keep it");
    database.script(&format!("DROP SINK f; {sink}")).expect("a new sink");
    assert!(!is_told(&database));
    database.shutdown().expect("a clean stop");
    drop(database);
    assert!(!is_told(&open(&data)));
}

#[test]
fn a_view_refuses_the_checkpoints_of_a_dropped_one_that_are_put_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (kept, away) = (folder.path().join("root/j"), folder.path().join("away"));
    let database = with_root(folder.path());
    database.script(CHECKPOINTED).expect("a script");
    copy(&kept, &away);
    let dropped = database.execute("DROP MATERIALIZED VIEW j").expect("drops");
    assert_eq!(dropped.notices, Vec::<String>::new());
    assert!(!kept.join("current").exists());
    copy(&away, &kept);
    for _ in 0..2 {
        let refused = database.execute(DOUBLED).expect_err("it is of another object");
        assert_eq!(refused.sqlstate(), "55000", "{refused}");
    }
    assert!(kept.join("current").exists(), "nothing of it is removed");
    std::fs::remove_dir_all(&kept).expect("as the message says");
    database.execute(DOUBLED).expect("made anew");
    assert_doubled(&database);
    database.shutdown().expect("a clean stop");
}

#[test]
fn a_sink_whose_rows_a_table_refuses_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE given (id bigint PRIMARY KEY, name text);
        CREATE TABLE taken (id bigint PRIMARY KEY, name text NOT NULL);
        CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM given;
        CREATE SINK s INTO taken FROM given;
        INSERT INTO given VALUES (1, 'a'), (2, NULL);";
    database.script(script).expect("a script");
    let is_told = |text: &String| text.contains("sink \"s\" cannot deliver for now");
    let flushed = database.execute("FLUSH").expect("flushes");
    assert!(flushed.notices.iter().any(is_told), "{:?}", flushed.notices);
    assert_eq!(rows(&database, "SELECT n FROM v WHERE n = 2").count(), 1);
    let jobs = rows(&database, "SHOW JOBS");
    let status = jobs.batches[0].column_by_name("status").expect("a column").as_string::<i32>();
    assert!(status.iter().flatten().any(|status| is_told(&status.to_owned())), "{status:?}");

    let begun = Instant::now();
    database.execute("DROP SINK s").expect("drops");
    assert!(begun.elapsed() < Duration::from_secs(8), "nobody waits for what is not delivered");
    assert_eq!(database.execute("FLUSH").expect("flushes").notices, Vec::<String>::new());
    database.shutdown().expect("a clean stop");
}

#[test]
fn functions_are_there_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql AS $$ SELECT a + b $$;
        CREATE FUNCTION twice(x int) RETURNS int RETURN plus(x, x);
        CREATE TABLE t (id int PRIMARY KEY, n int, d int AS (twice(n)), e int DEFAULT plus(1, 2));
        CREATE MATERIALIZED VIEW v AS
            SELECT twice(n) AS m, count(*) AS c FROM t WHERE plus(id, 1) > 1 GROUP BY twice(n);
        INSERT INTO t (id, n) VALUES (1, 10), (2, 10), (3, 20);
        FLUSH;";
    database.script(script).expect("a script");
    database.shutdown().expect("a clean stop");
    drop(database);

    let database = open(folder.path());
    database.script("INSERT INTO t (id, n) VALUES (4, 20); FLUSH").expect("a script");
    assert_equal_to_recomputation(&database, "v");
    assert_same(&database, "SELECT m, c FROM v", "SELECT n + n AS m, count(*) AS c FROM t GROUP BY n + n", 2);
    assert_same(&database, "SELECT d, e FROM t", "SELECT n + n AS d, CAST(3 AS int) AS e FROM t", 4);
    let refused = database.execute("DROP FUNCTION plus").expect_err("it is in use");
    assert_eq!(refused.sqlstate(), "2BP01");
    database.script("DROP TABLE t CASCADE; DROP FUNCTION plus CASCADE").expect("a script");
    database.shutdown().expect("a clean stop");
    drop(database);
    assert_eq!(rows(&open(folder.path()), "SHOW FUNCTIONS").count(), 0);
}
