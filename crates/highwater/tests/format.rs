//! A database that was written in format 1: the present code reads its catalog, tables and checkpoints, and
//! every operator goes on from its state. Its checkpoints do not tell how far the targets of sinks had come, so
//! nothing is compared with these.
//!
//! The fixture was written by `HIGHWATER_WRITE_FIXTURES=1 cargo test -p highwater --test format`; one that
//! was committed is never written again. It holds no log (`LOG`) of RocksDB, and nothing that is a copy.

mod opened;

use highwater::{Database, same_rows};
use opened::open;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const TABLES: &str = "
    CREATE TABLE l (id int PRIMARY KEY, k int, g varchar, x int);
    CREATE TABLE r (id int PRIMARY KEY, k int, h varchar, y int);
    CREATE TABLE e (k int, v int, ts timestamp, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) APPEND ONLY;
    CREATE TABLE p (id int PRIMARY KEY, ts timestamptz);
    CREATE TABLE report (g varchar PRIMARY KEY, n bigint);";

/// One query at least for each kind of state.
const QUERIES: [(&str, &str); 17] = [
    ("words", "SELECT k, count(*) AS n, count(x) AS some, sum(x) AS total, avg(x) AS mean FROM l GROUP BY k"),
    ("texts", "SELECT g, count(*) AS n, min(x) AS low, max(x) AS high FROM l GROUP BY g"),
    ("doubles", "SELECT k, sum(CAST(x AS double precision)) AS total FROM l GROUP BY k"),
    ("decimals", "SELECT g, sum(CAST(x AS numeric(10, 2))) AS total FROM l GROUP BY g"),
    (
        "distinct_values",
        "SELECT g, count(DISTINCT x) AS n, sum(DISTINCT x) AS total, avg(id) AS mean FROM l GROUP BY g",
    ),
    ("overall", "SELECT count(*) AS n, sum(x) AS total FROM l"),
    ("whole_rows", "SELECT k, x FROM l UNION ALL SELECT k, y FROM r"),
    ("full_join", "SELECT l.id AS lid, r.id AS rid FROM l FULL JOIN r ON l.k = r.k AND l.x < r.y"),
    ("left_join", "SELECT l.id AS lid, r.id AS rid, y FROM l LEFT JOIN r ON l.k = r.k"),
    ("semi_join", "SELECT id FROM l WHERE EXISTS (SELECT 1 FROM r WHERE r.k = l.k AND r.y > l.x)"),
    ("anti_join", "SELECT id FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.k = l.k AND r.y < 4)"),
    ("mark_join", "SELECT id FROM l WHERE x > 5 OR EXISTS (SELECT 1 FROM r WHERE r.k = l.k)"),
    (
        "first_rows",
        "SELECT k, id FROM (SELECT k, id, row_number() OVER (PARTITION BY k ORDER BY x DESC NULLS LAST, id) AS n
        FROM l) t WHERE n <= 2",
    ),
    ("limited", "SELECT id, x FROM l ORDER BY x DESC NULLS LAST, id LIMIT 5"),
    ("running", "SELECT id, sum(x) OVER (PARTITION BY k ORDER BY id) AS a FROM l"),
    ("listed", "SELECT g, string_agg(id::varchar, ',' ORDER BY id) AS ids FROM l GROUP BY g"),
    ("unexpired", "SELECT id FROM p WHERE ts > now() - INTERVAL '1 hour'"),
];

const OTHERS: &str = "
    CREATE MATERIALIZED VIEW closed AS SELECT window_start, count(*) AS n, sum(v) AS total
        FROM TUMBLE(e, ts, INTERVAL '10' SECOND) GROUP BY window_start EMIT ON WINDOW CLOSE;
    CREATE INDEX l_by_g ON l (g);
    CREATE MATERIALIZED VIEW sizes AS SELECT g, count(*) AS n FROM l GROUP BY g;
    CREATE SINK reported INTO report FROM sizes;
    CREATE SUBSCRIPTION told FROM sizes WITH (retention = '36500 days');
    CREATE VIEW plain AS SELECT g, n FROM sizes WHERE n > 1;";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1")
}

fn execute(database: &Database, statements: &[&str]) {
    for statement in statements {
        database.execute(statement).expect(statement);
    }
}

/// Rows of `l` or `r`, some of them with nulls.
fn rows(ids: std::ops::Range<u64>) -> String {
    let or_null = |value: u64, id: u64| if id.is_multiple_of(11) { "NULL".to_owned() } else { value.to_string() };
    let mut rows = String::new();
    for id in ids {
        let comma = if rows.is_empty() { "" } else { ", " };
        write!(rows, "{comma}({id}, {}, 'g{}', {})", or_null(id % 5, id + 1), id % 3, or_null(id * 7 % 10, id))
            .expect("strings take all");
    }
    rows
}

/// Two checkpoints, so that there are changes behind whole pages, and a clean stop.
fn write_fixture(folder: &Path) {
    let scratch = tempfile::tempdir().expect("a folder");
    let database = open(scratch.path());
    database.script(TABLES).expect("tables");
    for (name, query) in QUERIES {
        database.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).expect(name);
    }
    database.script(OTHERS).expect("other objects");
    let (left, right) = (rows(1..60), rows(1..40));
    execute(
        &database,
        &[
            &format!("INSERT INTO l VALUES {left}"),
            &format!("INSERT INTO r VALUES {right}"),
            "INSERT INTO p VALUES (1, '2001-01-01'), (2, '2201-01-01'), (3, NULL), (4, '2202-01-01')",
            "INSERT INTO e VALUES (1, 10, '2026-01-01 00:00:01'), (2, 20, '2026-01-01 00:00:04')",
            "FLUSH",
            "CHECKPOINT",
            "DELETE FROM l WHERE id % 4 = 0",
            "UPDATE r SET y = 9 WHERE id % 5 = 0",
            "ALTER TABLE p ADD COLUMN note varchar",
            "ALTER INDEX l_by_g RENAME TO by_group",
            "CREATE TABLE gone (a int)",
            "DROP TABLE gone",
            "INSERT INTO e VALUES (1, 5, '2026-01-01 00:00:11')",
            "FLUSH",
            "CHECKPOINT",
        ],
    );
    database.shutdown().expect("a clean stop");
    drop(database);
    for part in ["catalog.json", "tables", "checkpoints"] {
        copy(&scratch.path().join(part), &folder.join(part));
    }
}

/// Copies a file, or a folder and what is in it, without locks and logs of what happened.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("the folder is there") {
            let name = entry.expect("an entry").file_name();
            let text = name.to_str().expect("text");
            if !text.starts_with("LOG") && text != "LOCK" && !text.ends_with(".lock") {
                copy(&from.join(&name), &to.join(&name));
            }
        }
    } else {
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(from, to).expect("the file is there");
    }
}

fn count(database: &Database, query: &str) -> usize {
    database.query(query).expect(query).count()
}

fn assert_same(database: &Database, one: &str, other: &str) {
    let [left, right] = [one, other].map(|query| database.query(query).expect(query));
    assert_eq!(same_rows(&left.batches, &right.batches).expect("comparable"), None, "{one} and {other}");
    assert!(left.count() > 0, "{one} has rows");
}

fn check(database: &Database) {
    for (name, query) in QUERIES {
        assert_same(database, &format!("SELECT * FROM {name}"), query);
    }
    assert_same(database, "SELECT * FROM report", "SELECT g, count(*) AS n FROM l GROUP BY g");
    assert_same(database, "SELECT id FROM l WHERE g = 'g1'", "SELECT id FROM l WHERE g || '' = 'g1'");
    assert_same(database, "SELECT * FROM plain", "SELECT g, count(*) AS n FROM l GROUP BY g HAVING count(*) > 1");
}

#[test]
fn a_database_of_format_1_goes_on() {
    let fixture = fixture();
    if std::env::var_os("HIGHWATER_WRITE_FIXTURES").is_some() && !fixture.exists() {
        write_fixture(&fixture);
    }
    let folder = tempfile::tempdir().expect("a folder");
    copy(&fixture, folder.path());
    let database = open(folder.path());
    database.execute("FLUSH").expect("flushes");
    let read: u64 = database.pipelines().iter().map(|pipeline| pipeline.metrics().rows_in).sum();
    assert_eq!(read, 0, "nothing is read again: all is in the checkpoints");
    assert_eq!(count(&database, "SELECT n FROM overall WHERE n = 45 AND total IS NOT NULL"), 1);
    assert_eq!(count(&database, "SELECT * FROM p WHERE note IS NULL"), 4);
    assert_eq!(count(&database, "SELECT * FROM e WHERE k < 3"), 3);
    assert_eq!(count(&database, "SELECT * FROM closed"), 0);
    database.execute("DECLARE c SUBSCRIPTION CURSOR FOR told SINCE begin()").expect("a cursor");
    assert_eq!(count(&database, "FETCH 100 FROM c"), 9, "three groups that came, and changed once");
    check(&database);

    let (left, right) = (rows(60..70), rows(40..50));
    execute(
        &database,
        &[
            "DELETE FROM l WHERE id % 3 = 0",
            "UPDATE l SET x = x + 1, k = 2 WHERE id % 5 = 0",
            "DELETE FROM r WHERE id % 4 = 1",
            "DELETE FROM p WHERE id = 2",
            &format!("INSERT INTO l VALUES {left}"),
            &format!("INSERT INTO r VALUES {right}"),
            "INSERT INTO e VALUES (1, 1, '2026-01-01 00:00:15')",
            "FLUSH",
        ],
    );
    check(&database);
    let closed = "SELECT * FROM closed WHERE window_start = '2026-01-01 00:00:00' AND n = 2 AND total = 30";
    assert_eq!(count(&database, closed), 1, "the rows of the window from before and the watermark");
    database.shutdown().expect("a clean stop");
}
