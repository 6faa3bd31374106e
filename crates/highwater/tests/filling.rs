//! Views that hold much: views over them, made while rows change and the program is killed, and reads of them.

mod opened;

use arrow::array::AsArray as _;
use arrow::datatypes::{Int64Type, UInt64Type};
use highwater::engine::core::Rng;
use highwater::{Database, same_rows};
use opened::open;

/// Above some epochs' worth of rows.
const GROUPS: u64 = 400_000;
/// Rows of a view that are more than are read ahead.
const MANY: usize = 300_000;

/// How much of the slowest backfill is done, as SHOW JOBS says it.
fn percent(database: &Database) -> u64 {
    let jobs = database.query("SHOW JOBS").expect("jobs");
    let shares = jobs.batches.iter().map(|batch| batch.column_by_name("backfill_percent").expect("a column"));
    let shares = shares.flat_map(|column| column.as_primitive::<UInt64Type>().values().to_vec());
    shares.min().expect("a pipeline")
}

fn write(database: &Database, rng: &mut Rng) {
    let (low, add) = (rng.below(GROUPS), rng.below(5));
    for statement in [
        format!("UPDATE t SET x = x + {add} WHERE id BETWEEN {low} AND {low} + 300"),
        format!("DELETE FROM t WHERE id BETWEEN {low} + 400 AND {low} + 450"),
        format!(
            "INSERT INTO t SELECT v, 1 FROM generate_series({low} + 410, {low} + 420) AS s(v) ON CONFLICT DO NOTHING"
        ),
    ] {
        database.execute(&statement).expect(&statement);
    }
}

/// After FLUSH each view is what its query gives on the table.
fn check(database: &Database, views: &[(&str, &str)]) {
    database.execute("FLUSH").expect("flushes");
    let of_table =
        |sql: &str| sql.replace("sums", "(SELECT id % 399000 AS g, sum(x) AS s, count(*) AS c FROM t GROUP BY 1)");
    for (view, query) in views {
        let ours = database.query(&format!("SELECT * FROM {view}")).expect("a query");
        let theirs = database.query(&of_table(query)).expect("a query");
        assert_eq!(same_rows(&ours.batches, &theirs.batches).expect("comparable"), None, "{view}");
    }
}

/// Of every kind that reads another view: by key, by whole rows, joined with itself, first rows, an index's.
const VIEWS: [(&str, &str); 4] = [
    ("by_sum", "SELECT s, count(*) AS n, sum(c) AS many FROM sums AS q GROUP BY s"),
    ("few", "SELECT g, s FROM sums AS q WHERE s % 3 = 0"),
    ("pairs", "SELECT a.g, b.s FROM sums AS a JOIN sums AS b ON a.g = b.g + 1 WHERE b.s < 3"),
    ("most", "SELECT g, s FROM sums AS q ORDER BY s DESC, g LIMIT 10"),
];

#[test]
fn views_over_a_large_view_are_filled_over_checkpoints_and_crashes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rng = Rng::seeded(11);
    let mut database = open(folder.path());
    let script = format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, x bigint);
        INSERT INTO t SELECT value, value % 7 FROM generate_series(1, {GROUPS}) AS s(value);
        CREATE MATERIALIZED VIEW sums AS SELECT id % 399000 AS g, sum(x) AS s, count(*) AS c FROM t GROUP BY 1;
        CHECKPOINT;"
    );
    database.script(&script).expect("a script");
    let mut midway = 0;
    for (at, (view, query)) in VIEWS.iter().enumerate() {
        database
            .script(&format!("SET background_ddl = on; CREATE MATERIALIZED VIEW {view} AS {query}"))
            .expect("a view in the background");
        for _ in 0..2 {
            database.execute("CHECKPOINT").expect("a checkpoint");
            midway += u64::from(percent(&database) < 100);
            write(&database, &mut rng);
            // Killed, as far as the folders can tell.
            drop(database);
            database = open(folder.path());
        }
        check(&database, &VIEWS[..=at]);
    }
    println!("{midway} crashes in the midst of a fill");
    database.execute("CREATE INDEX by_s ON sums (s)").expect("an index");
    write(&database, &mut rng);
    check(&database, &VIEWS);
    let (all, by_index) = ("SELECT g FROM sums WHERE abs(s) = 3 AND s > 0", "SELECT g FROM sums WHERE s = 3");
    let [all, by_index] = [all, by_index].map(|sql| database.query(sql).expect("a query"));
    assert_eq!(same_rows(&all.batches, &by_index.batches).expect("comparable"), None);
}

#[test]
fn a_large_view_is_read_as_its_rows_are_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database
        .script(
            "CREATE TABLE t (a bigint PRIMARY KEY, b varchar);
             CREATE MATERIALIZED VIEW v AS SELECT a, b FROM t WHERE a > 0;",
        )
        .expect("created");
    for from in (0..MANY).step_by(100_000) {
        let to = from + 100_000;
        let numbers = format!("generate_series({}, {to}) AS i", from + 1);
        database.execute(&format!("INSERT INTO t SELECT i, 'a text that is not short' FROM {numbers}")).expect("rows");
    }
    database.execute("FLUSH").expect("flushed");
    let number = |sql: &str| database.query(sql).expect(sql).batches[0].column(0).as_primitive::<Int64Type>().value(0);
    let most = i64::try_from(MANY / 3 * 2).expect("a number");
    let mut connection = database.connect();
    let mut count = |sql: &str| {
        let outcome = database.execute_for(&mut connection, sql).expect(sql);
        outcome.rows.map_or(0, |rows| rows.count())
    };
    assert_eq!(count("SELECT * FROM v LIMIT 7"), 7);
    count("BEGIN");
    count("DECLARE c CURSOR FOR SELECT a FROM v");
    count("DECLARE other CURSOR FOR SELECT b FROM v");
    assert_eq!(count("FETCH 10 FROM c"), 10);
    // What waits for the view has its turn, and the cursor what it was declared over.
    database.execute("DELETE FROM t WHERE a % 3 = 0").expect("deleted");
    database.execute("FLUSH").expect("flushed");
    assert_eq!(number("SELECT count(*) FROM v"), most);
    database.execute("CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM v").expect("a view over it");
    assert_eq!(number("SELECT n FROM w"), most);
    assert_eq!(count("FETCH ALL FROM c"), MANY - 10);
    count("CLOSE other");
    count("COMMIT");
    drop(connection);
    database.shutdown().expect("stops");
}
