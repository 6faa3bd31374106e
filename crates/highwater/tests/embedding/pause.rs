//! Pipelines that somebody has paused: they stay so until they are resumed, whatever happens meanwhile.

use crate::parts::{number, wait_until};
use highwater::{Config, Database};
use std::path::Path;

fn open(folder: &Path) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config.checkpoints.interval = None;
    Database::open(config).expect("a database")
}

fn pause(database: &Database, paused: bool) {
    let pipelines = database.pipelines();
    let [pipeline] = &pipelines[..] else { panic!("it has one pipeline") };
    database.pause(pipeline, paused).expect("it is told");
    wait_until("it is not told", || pipeline.metrics().paused == paused);
}

/// One more row does not come, and FLUSH says why.
fn assert_paused(database: &Database, row: i64) {
    let pipelines = database.pipelines();
    wait_until("it is not paused", || pipelines.iter().all(|pipeline| pipeline.metrics().paused));
    database.execute(&format!("INSERT INTO t VALUES ({row})")).expect("it is written");
    let refused = database.execute("FLUSH").expect_err("a view does not show it");
    assert!(refused.sqlstate() == "55000" && refused.to_string().contains("pipeline v is paused"), "{refused}");
    assert_eq!(number(database, "SELECT n FROM v"), 1);
    database.execute("CHECKPOINT").expect("checkpoints go on");
}

#[test]
fn a_pause_lasts_until_it_is_resumed() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (a bigint);
        CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;
        INSERT INTO t VALUES (1);
        FLUSH;";
    database.script(script).expect("a script");
    pause(&database, true);
    assert_paused(&database, 2);
    let made = database.execute("CREATE MATERIALIZED VIEW w AS SELECT n FROM v").expect("it is made");
    assert!(made.notices.iter().any(|notice| notice.contains("resumed")), "{:?}", made.notices);
    assert_paused(&database, 3);
    let compared = database.recompute("v").expect("it can be compared");
    assert_eq!((compared.view.count(), compared.recomputed.count()), (1, 1));
    assert_paused(&database, 4);
    drop(database);

    let database = open(folder.path());
    assert_paused(&database, 5);
    pause(&database, false);
    database.execute("FLUSH").expect("all is shown");
    assert_eq!(number(&database, "SELECT n FROM v"), 5);
    assert_eq!(number(&database, "SELECT n FROM w"), 5);
    database.shutdown().expect("a clean stop");
    drop(database);
    let database = open(folder.path());
    database.script("INSERT INTO t VALUES (6); FLUSH;").expect("it is not paused");
    assert_eq!(number(&database, "SELECT n FROM v"), 6);
}
