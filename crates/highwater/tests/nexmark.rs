//! The queries of the Nexmark benchmark as materialized views, against the same SELECTs over the same
//! events, on one worker and on all: after the input has ended, and after crashes in mid-stream. q12 goes
//! by the time at which events come, so it is looked at in another way.

mod benchmark;

use benchmark::queries;
use highwater::{Config, Database, same_rows};
use std::path::Path;
use std::time::Duration;

const QUERIES: &str = include_str!("../../../tests/nexmark/queries.sql");
/// The query whose windows are of processing time.
const BY_CLOCK: &str = "q12";
/// The queries whose answer may be empty over so few events.
const MAYBE_EMPTY: [&str; 2] = ["q13", "q2"];

fn open(folder: &Path) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config.checkpoints.interval = Some(Duration::from_millis(200));
    Database::open(config).expect("a database")
}

/// The queries whose answer the events decide.
fn by_events() -> impl Iterator<Item = (&'static str, &'static str)> {
    queries(QUERIES).into_iter().filter(|(name, _)| *name != BY_CLOCK)
}

fn create(database: &Database, options: &str) {
    for (name, kind) in [("person", "Person"), ("auction", "Auction"), ("bid", "Bid")] {
        let source = format!(
            "CREATE SOURCE {name} WITH (connector = 'nexmark', nexmark.table.type = '{kind}', nexmark.split.num = 2,
             nexmark.event.num = 20000{options})"
        );
        database.execute(&source).expect("a source");
    }
    let rows: Vec<String> = (0..2000).map(|key| format!("({key}, 'value {key}')")).collect();
    database.execute("CREATE TABLE side_input (key bigint PRIMARY KEY, value varchar)").expect("a table");
    database.execute(&format!("INSERT INTO side_input VALUES {}", rows.join(", "))).expect("rows");
    for (at, (name, sql)) in by_events().enumerate() {
        let parallelism = if at % 2 == 0 { "1" } else { "'all'" };
        let create = format!("CREATE MATERIALIZED VIEW {name} WITH (parallelism = {parallelism}) AS {sql}");
        database.execute(&create).expect(name);
    }
}

fn compare(database: &Database) {
    database.execute("FLUSH").expect("flushed");
    for (name, sql) in by_events() {
        let ours = database.query(&format!("SELECT * FROM {name}")).expect(name);
        let theirs = database.query(sql).expect(name);
        assert_eq!(same_rows(&ours.batches, &theirs.batches).expect("comparable"), None, "{name}");
        assert!(MAYBE_EMPTY.contains(&name) || ours.count() > 0, "{name} has rows");
    }
}

#[test]
fn the_queries_equal_their_batch_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    create(&database, "");
    compare(&database);
    database.shutdown().expect("a clean stop");
}

#[test]
fn the_queries_survive_crashes_in_mid_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    create(&database, ", nexmark.events.per.second = 10000");
    let mut database = Some(database);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(500));
        drop(database.take());
        database = Some(open(folder.path()));
    }
    let database = database.expect("it is open");
    compare(&database);
    database.shutdown().expect("a clean stop");
}

#[test]
fn bids_are_counted_by_the_time_at_which_they_come() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut database = Some(open(folder.path()));
    let (_, sql) = queries(QUERIES).into_iter().find(|(name, _)| *name == BY_CLOCK).expect("it is there");
    let view = format!("CREATE MATERIALIZED VIEW q12 WITH (parallelism = 'all') AS {sql}");
    for statement in [
        "CREATE SOURCE bid (proctime timestamptz AS proctime()) WITH (connector = 'nexmark',
         nexmark.table.type = 'Bid', nexmark.split.num = 2, nexmark.event.num = 20000,
         nexmark.events.per.second = 10000)",
        view.as_str(),
    ] {
        database.as_ref().expect("it is open").execute(statement).expect("created");
    }
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(500));
        drop(database.take());
        database = Some(open(folder.path()));
    }
    let database = database.expect("it is open");
    database.execute("FLUSH").expect("flushed");
    // Each bid is in one window, whatever window that is.
    let ours = database.query("SELECT bidder, sum(bid_count) AS n FROM q12 GROUP BY bidder").expect("counted");
    let theirs = database.query("SELECT bidder, count(*) AS n FROM bid GROUP BY bidder").expect("counted");
    assert!(ours.count() > 0, "there are bidders");
    assert_eq!(same_rows(&ours.batches, &theirs.batches).expect("comparable"), None);
    let elsewhere = "SELECT * FROM q12 WHERE endtime <> starttime + INTERVAL '10' SECOND
        OR starttime > now() OR endtime < now() - INTERVAL '10 minutes'";
    assert_eq!(database.query(elsewhere).expect("windows").count(), 0, "bids come while the test runs");
    let refused = database.compute("q12", None).expect_err("nobody knows when they came");
    assert!(refused.to_string().contains("proctime()"), "{refused}");
    database.shutdown().expect("a clean stop");
}
