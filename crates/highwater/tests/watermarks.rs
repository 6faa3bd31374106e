//! Views that are emitted on window close against their queries from scratch, less the windows that
//! are open, under random rows, after a clean restart and after a stop without one.

use highwater::{Config, Database, same_rows};
use std::fmt::Write as _;
use std::path::Path;

const TABLES: &str = "
CREATE TABLE t (k int, v int, ts timestamp, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) APPEND ONLY;
CREATE TABLE u (k int, w int, ts timestamp, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) APPEND ONLY;
";

const OF_T: &str = "(SELECT max(ts) FROM t) - INTERVAL '5' SECOND";
const OF_U: &str = "(SELECT max(ts) FROM u) - INTERVAL '2' SECOND";

/// Name, query, and the time that is final when it is not beyond the watermarks of `t`, and of `u` if
/// that is said.
const QUERIES: [(&str, &str, &str, bool); 8] = [
    (
        "tumbling",
        "SELECT window_start, window_end, count(*) AS n, sum(v) AS total, min(v) AS low, max(v) AS high
        FROM TUMBLE(t, ts, INTERVAL '7' SECOND) GROUP BY window_start, window_end",
        "window_end",
        false,
    ),
    (
        "hopping",
        "SELECT k, window_start, count(*) AS n, count(DISTINCT v) AS kinds, avg(v) AS mean
        FROM HOP(t, ts, INTERVAL '3' SECOND, INTERVAL '9' SECOND) GROUP BY k, window_start",
        "window_start + INTERVAL '9' SECOND",
        false,
    ),
    (
        "starts",
        "SELECT window_start AS s, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '4' SECOND) GROUP BY window_start",
        "s + INTERVAL '4' SECOND",
        false,
    ),
    (
        "times",
        "SELECT ts, k, count(*) AS n FROM t WHERE v > 2 GROUP BY ts, k HAVING count(*) > 1",
        "ts + INTERVAL '1 microsecond'",
        false,
    ),
    ("different", "SELECT DISTINCT window_end, k FROM TUMBLE(t, ts, INTERVAL '5' SECOND)", "window_end", false),
    (
        "both",
        "SELECT window_end, count(*) AS n, sum(v) AS total FROM TUMBLE(
            (SELECT v, ts FROM t UNION ALL SELECT w, ts FROM u), ts, INTERVAL '6' SECOND) GROUP BY window_end",
        "window_end",
        true,
    ),
    (
        "paired",
        "SELECT a.window_start AS s, count(*) AS n, min(w) AS low
        FROM TUMBLE(t, ts, INTERVAL '4' SECOND) a JOIN TUMBLE(u, ts, INTERVAL '4' SECOND) b
        ON a.window_start = b.window_start AND a.k = b.k GROUP BY a.window_start",
        "s + INTERVAL '4' SECOND",
        true,
    ),
    (
        "paired_or_not",
        "SELECT a.window_end AS e, count(*) AS n, count(w) AS paired, max(w) AS high
        FROM TUMBLE(t, ts, INTERVAL '4' SECOND) a LEFT JOIN TUMBLE(u, ts, INTERVAL '4' SECOND) b
        ON a.window_end = b.window_end AND a.k = b.k GROUP BY a.window_end",
        "e",
        true,
    ),
];

fn open(folder: &Path) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config.checkpoints.interval = None;
    Database::open(config).expect("a database")
}

/// A sequence that looks random and is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Rows around a time that goes on, out of order by less than the watermarks allow.
fn grow(database: &Database, dice: &mut Dice, now: &mut u64) {
    for _ in 0..5 {
        *now += dice.below(6);
        for (table, spread) in [("t", 5), ("u", 2)] {
            let mut rows = String::new();
            for _ in 0..=dice.below(8) {
                let comma = if rows.is_empty() { "" } else { ", " };
                let second = *now - dice.below(spread);
                let time = format!("TIMESTAMP '2026-01-01 00:00:00' + INTERVAL '{second}' SECOND");
                write!(rows, "{comma}({}, {}, {time})", dice.below(3), dice.below(6)).expect("strings take all");
            }
            let sql = format!("INSERT INTO {table} VALUES {rows}");
            database.execute(&sql).expect(&sql);
        }
    }
}

fn check(database: &Database, when: &str) {
    database.execute("FLUSH").expect("flushes");
    for (name, query, time, goes_by_both) in &QUERIES {
        let of_u = if *goes_by_both { format!(" AND {time} <= {OF_U}") } else { String::new() };
        let closed = format!("SELECT * FROM ({query}) AS q WHERE {time} <= {OF_T}{of_u}");
        let kept = database.query(&format!("SELECT * FROM {name}")).expect(name);
        let now = database.query(&closed).expect(&closed);
        let difference = same_rows(&kept.batches, &now.batches).expect(name);
        assert_eq!(difference, None, "{name}, {when}: {closed}");
    }
    let kept = database.query("SELECT * FROM over_closed").expect("a view over one");
    let now = database.query("SELECT sum(n) AS n FROM tumbling").expect("the same");
    assert_eq!(same_rows(&kept.batches, &now.batches).expect("comparable"), None, "over_closed, {when}");
    let kept = database.query("SELECT * FROM elsewhere").expect("a view over two pipelines");
    let now = database.query("SELECT starts.n, high FROM starts JOIN tumbling ON s = window_start").expect("the same");
    assert_eq!(same_rows(&kept.batches, &now.batches).expect("comparable"), None, "elsewhere, {when}");
}

#[test]
fn windows_that_are_closed_are_those_of_the_query() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut dice, mut now) = (Dice(3), 100);
    let database = open(folder.path());
    database.script(TABLES).expect("tables");
    grow(&database, &mut dice, &mut now);
    for (name, query, _, _) in &QUERIES {
        let sql = format!("CREATE MATERIALIZED VIEW {name} AS {query} EMIT ON WINDOW CLOSE");
        database.execute(&sql).expect(&sql);
    }
    for sql in [
        "CREATE MATERIALIZED VIEW over_closed AS SELECT sum(n) AS n FROM tumbling",
        "CREATE MATERIALIZED VIEW elsewhere AS SELECT starts.n, high FROM starts JOIN tumbling ON s = window_start",
    ] {
        database.execute(sql).expect(sql);
    }
    check(&database, "filled");
    for round in 0..4 {
        grow(&database, &mut dice, &mut now);
        check(&database, &format!("round {round}"));
    }
    let refused = database.recompute("tumbling").expect_err("it depends on when rows came");
    assert!(refused.to_string().contains("EMIT ON WINDOW CLOSE"), "{refused}");
    database.shutdown().expect("a clean stop");
    drop(database);

    let database = open(folder.path());
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    check(&database, "after a clean restart");
    grow(&database, &mut dice, &mut now);
    check(&database, "grown after a clean restart");
    database.execute("CHECKPOINT").expect("a checkpoint");
    grow(&database, &mut dice, &mut now);
    // No clean stop: what came after the checkpoint is in the log of tables alone.
    drop(database);

    let database = open(folder.path());
    check(&database, "after a crash");
    grow(&database, &mut dice, &mut now);
    check(&database, "grown after a crash");
    database.shutdown().expect("a clean stop");
}
