//! A checkpoint root that is away while something is defined over a pipeline that runs.

use crate::parts::{assert_equal_to_recomputation, number};
use highwater::{Config, Database};
use std::fs;
use std::path::Path;

const SCRIPT: &str = "
    CREATE TABLE t (a bigint PRIMARY KEY, b bigint);
    INSERT INTO t VALUES (1, 1), (2, 1), (3, 2);
    CREATE MATERIALIZED VIEW v AS SELECT b, count(*) AS n FROM t GROUP BY b;
    CREATE MATERIALIZED VIEW above AS SELECT n FROM v;
    CREATE MATERIALIZED VIEW other AS SELECT count(*) AS n FROM t;
    FLUSH;
    CHECKPOINT;";

/// What stands where a pipeline has its checkpoints is put away, or back.
fn put(away: bool, folder: &Path) {
    let (place, aside) = (folder.join("root/v"), folder.join("aside"));
    if away {
        fs::rename(&place, aside).expect("moves");
        fs::write(place, "in the way").expect("writes");
    } else {
        fs::remove_file(&place).expect("removes");
        fs::rename(aside, place).expect("moves");
    }
}

#[test]
fn a_definition_is_refused_and_a_drop_is_done_and_the_rest_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::new(folder.path().join("data"));
    config.workers = Some(1);
    config.checkpoints.interval = None;
    config.checkpoint_root = Some(folder.path().join("root").to_str().expect("text").to_owned());
    let database = Database::open(config).expect("a database");
    database.script(SCRIPT).expect("a script");
    put(true, folder.path());
    database.execute("INSERT INTO t VALUES (4, 2)").expect("tables work");
    let create = "CREATE MATERIALIZED VIEW more AS SELECT b FROM v";
    let refused = database.execute(create).expect_err("it would stop what runs");
    assert_eq!(refused.sqlstate(), "58030", "{refused}");
    assert_eq!(number(&database, "SELECT CAST(sum(n) AS bigint) FROM v"), 4, "it runs");
    database.execute("DROP MATERIALIZED VIEW above").expect("what is dropped is dropped");
    // The pipeline cannot go on without its checkpoints; all others do.
    for statement in ["SHOW JOBS", "INSERT INTO t VALUES (5, 2)", "CREATE TABLE u (a int)", "CHECKPOINT other"] {
        database.execute(statement).expect(statement);
    }
    let refused = database.execute("FLUSH").expect_err("v does not run");
    assert_eq!(refused.sqlstate(), "55000", "{refused}");
    assert_eq!(number(&database, "SELECT n FROM other"), 5);
    assert_eq!(database.broken().len(), 1, "{:?}", database.broken());
    put(false, folder.path());
    database.retry_broken();
    assert_eq!(database.broken(), Vec::<String>::new());
    database.execute("FLUSH").expect("all run");
    assert_eq!(number(&database, "SELECT CAST(sum(n) AS bigint) FROM v"), 5);
    assert_equal_to_recomputation(&database, "v");
    database.execute(create).expect("it can be made now");
    database.shutdown().expect("a clean stop");
}
