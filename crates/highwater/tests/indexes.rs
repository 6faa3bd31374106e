//! Indexes give what their relations give, while rows change and over crashes and restarts.

mod opened;

use arrow::array::AsArray;
use highwater::engine::core::Rng;
use highwater::{Database, Rows, same_rows};
use opened::open;

const PARTS: u64 = 5;

fn rows(database: &Database, sql: &str) -> Rows {
    database.query(sql).expect(sql)
}

/// What the index gives is what reading everything gives.
fn check(database: &Database, relation: &str) {
    for part in 0..PARTS {
        let by_index = format!("SELECT * FROM {relation} WHERE part = {part}");
        let plan = rows(database, &format!("EXPLAIN {by_index}"));
        assert!(plan.batches[0].column(0).as_string::<i32>().value(0).starts_with("IndexScan: "), "{by_index}");
        let all = rows(database, &format!("SELECT * FROM {relation} WHERE abs(part) = {part}"));
        // Without a plan, and with one over the rows that the index has.
        for by_index in [by_index.clone(), format!("{by_index} AND 1 = 1")] {
            let ours = rows(database, &by_index);
            assert_eq!(same_rows(&ours.batches, &all.batches).expect("comparable"), None, "{by_index}");
        }
        let several = format!("SELECT * FROM {relation} WHERE part IN ({part}, {})", (part + 1) % PARTS);
        let all = format!("SELECT * FROM {relation} WHERE abs(part) IN ({part}, {})", (part + 1) % PARTS);
        let (ours, all) = (rows(database, &several), rows(database, &all));
        assert_eq!(same_rows(&ours.batches, &all.batches).expect("comparable"), None, "{several}");
    }
}

/// Some writes, after each of which the table is read.
fn write(database: &Database, rng: &mut Rng) {
    for _ in 0..20 {
        let (id, part) = (rng.below(60), rng.below(PARTS));
        let statement = match rng.below(4) {
            0 => format!("DELETE FROM t WHERE id = {id}"),
            1 => format!("UPDATE t SET part = {part} WHERE id % 7 = {}", id % 7),
            2 => format!("UPDATE t SET part = NULL, label = 'none' WHERE id = {id}"),
            _ => format!("INSERT INTO t VALUES ({id}, {part}, 'v{part}') ON CONFLICT (id) DO UPDATE SET part = {part}"),
        };
        database.execute(&statement).expect(&statement);
        check(database, "t");
    }
}

#[test]
fn an_index_gives_what_its_relation_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rng = Rng::seeded(1);
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (id bigint PRIMARY KEY, part bigint, label varchar);
        CREATE MATERIALIZED VIEW v AS SELECT part, label FROM t;
        INSERT INTO t SELECT value, value % 5, 'first' FROM generate_series(0, 39) AS s(value);
        CREATE INDEX t_by_part ON t (part);
        FLUSH;
        CREATE INDEX v_by_part ON v (part);";
    database.script(script).expect("a script");
    check(&database, "v");
    write(&database, &mut rng);
    drop(database);

    // From before the indexes' first checkpoint, after one, and after a clean stop.
    for stage in 0..3 {
        let database = open(folder.path());
        check(&database, "t");
        write(&database, &mut rng);
        database.execute("FLUSH").expect("flushes");
        check(&database, "v");
        if stage == 0 {
            database.execute("CHECKPOINT").expect("a checkpoint");
        }
        write(&database, &mut rng);
        if stage == 1 {
            database.shutdown().expect("a clean stop");
        }
        drop(database);
    }
}

#[test]
fn a_state_without_bound_is_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let slow = "WITH (connector = 'datagen', datagen.rows.per.second = 10)";
    let told = |sql: &str| database.execute(sql).expect(sql).notices.join("\n");
    told(&format!("CREATE SOURCE s (k bigint, v bigint) {slow}"));
    let by_key = told("CREATE MATERIALIZED VIEW by_key AS SELECT k, count(*) AS n FROM s GROUP BY k");
    let begin =
        "the state of \"by_key\" can grow as long as it runs: by_key/aggregate(k) keeps a row for each group of \"s\"";
    assert!(by_key.starts_with(begin), "{by_key}");
    assert!(by_key.contains("a temporal filter bounds it"), "{by_key}");
    assert_eq!(told("CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM s"), "");
    let sink = "CREATE SINK k AS SELECT DISTINCT v FROM s WITH (connector = 'blackhole')";
    assert!(told(sink).contains("keeps a row for each group of \"s\", which never ends"), "{sink}");
    told("CREATE TABLE t (k int, v int)");
    assert_eq!(told("CREATE MATERIALIZED VIEW of_table AS SELECT k, count(*) AS n FROM t GROUP BY k"), "");
    database.shutdown().expect("a clean stop");
}

#[test]
fn sinks_and_indexes_are_explained_and_not_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let made = "CREATE TABLE t (k int, v bigint);
                CREATE TABLE sums (k int PRIMARY KEY, v bigint);
                CREATE MATERIALIZED VIEW m AS SELECT k, sum(v)::bigint AS v FROM t GROUP BY k";
    database.script(made).expect("a script");
    for (explained, node) in [
        ("CREATE INDEX i ON m (v)", "i/index <- "),
        ("CREATE INDEX i ON t (k)", "i/index <- "),
        ("CREATE SINK i FROM m WITH (connector = 'blackhole')", "i/sink <- "),
        ("CREATE SINK i INTO sums FROM m", "i/sink <- "),
    ] {
        let shown = rows(&database, &format!("EXPLAIN {explained}"));
        let lines: Vec<String> = shown
            .batches
            .iter()
            .flat_map(|batch| {
                batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        assert!(lines.iter().any(|line| line.starts_with(node)), "{explained}: {lines:?}");
    }
    let refused = database.execute("EXPLAIN CREATE SINK m FROM t WITH (connector = 'blackhole')").expect_err("taken");
    assert_eq!(refused.sqlstate(), "42P07");
    let refused = database.execute("EXPLAIN CREATE INDEX i ON m (other)").expect_err("no such column");
    assert_eq!(refused.sqlstate(), "42703");
    for none in ["SHOW INDEXES", "SHOW SINKS"] {
        assert_eq!(rows(&database, none).count(), 0, "{none}");
    }
}
