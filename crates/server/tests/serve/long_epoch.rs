//! Joins that give hundreds of millions of rows: whoever makes such a view can be cancelled, it can be dropped,
//! others go on meanwhile, and it does not take more memory than there is.

use crate::server::{Server, runtime};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

/// Far more than anything here takes on a machine that does other work as well, and far less than the join.
const PATIENCE: Duration = Duration::from_secs(60);

/// 720 million pairs of 60,000 rows.
const PAIRS: &str = "CREATE MATERIALIZED VIEW j AS SELECT x.a, y.a AS b FROM t x JOIN t y ON x.b = y.b";
const ROWS: &str = "INSERT INTO t SELECT g, g % 5 FROM generate_series(1, 60000) AS x(g)";

async fn in_time<T>(what: &str, done: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, done).await;
    waited.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

async fn done(client: &Client, sql: &str) {
    in_time(sql, client.batch_execute(sql)).await.expect(sql);
}

/// The first column of a query's rows.
async fn column(client: &Client, sql: &str) -> Vec<String> {
    let messages = in_time(sql, client.simple_query(sql)).await.expect(sql);
    let value = |message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    messages.into_iter().filter_map(value).collect()
}

fn code(error: &Error) -> &str {
    error.code().map_or("none", |code| code.code())
}

/// Waits until the view is being filled.
async fn is_there(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    while !column(client, "SHOW MATERIALIZED VIEWS").await.contains(&"j".to_owned()) {
        assert!(Instant::now() < deadline, "the view does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Some of its epochs.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// What others do.
async fn others_go_on(server: &Server, client: &Client) {
    assert_eq!(column(client, "SELECT count(*) FROM u").await, ["1"]);
    assert_eq!(column(client, "SELECT n FROM n").await, ["1"]);
    column(client, "SHOW JOBS").await;
    let other = in_time("a new connection", server.connect()).await;
    done(&other, "CREATE TABLE z (a int)").await;
    done(&other, "DROP TABLE z").await;
}

#[test]
fn who_waits_for_a_large_join_is_cancelled_and_others_go_on() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &["--workers", "2", "--state-memory", "8GiB"]);
    runtime().block_on(async {
        let client = server.connect().await;
        done(&client, "CREATE TABLE t (a int PRIMARY KEY, b int)").await;
        done(&client, ROWS).await;
        done(&client, "CREATE TABLE u (a int PRIMARY KEY)").await;
        done(&client, "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM u").await;
        done(&client, "INSERT INTO u VALUES (1)").await;
        done(&client, "FLUSH").await;
        // Cancelled by who makes it.
        let maker = server.connect().await;
        let cancel = maker.cancel_token();
        let making = tokio::spawn(async move { maker.batch_execute(PAIRS).await });
        is_there(&client).await;
        cancel.cancel_query(NoTls).await.expect("the server is told");
        others_go_on(&server, &client).await;
        let refused = in_time("the cancel", making).await.expect("no panic").expect_err("it is cancelled");
        assert_eq!(code(&refused), "57014", "{refused}");
        assert_eq!(column(&client, "SHOW MATERIALIZED VIEWS").await, ["n"]);
        // Dropped by another one.
        let maker = server.connect().await;
        let making = tokio::spawn(async move { maker.batch_execute(PAIRS).await });
        is_there(&client).await;
        others_go_on(&server, &client).await;
        done(&client, "DROP MATERIALIZED VIEW j").await;
        let refused = in_time("the end", making).await.expect("no panic").expect_err("it is dropped");
        assert_eq!(code(&refused), "55000", "{refused}");
        assert_eq!(column(&client, "SHOW MATERIALIZED VIEWS").await, ["n"]);
    });
    assert_eq!(server.stop(), Some(0), "a clean stop");
}

#[test]
fn a_write_is_done_when_the_wait_for_a_large_join_is_cancelled() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &["--workers", "2", "--state-memory", "8GiB"]);
    runtime().block_on(async {
        let client = server.connect().await;
        done(&client, "CREATE TABLE t (a int PRIMARY KEY, b int)").await;
        done(&client, PAIRS).await;
        let writer = server.connect().await;
        done(&writer, "SET rw_implicit_flush TO on").await;
        let cancel = writer.cancel_token();
        let writing = tokio::spawn(async move { writer.batch_execute(ROWS).await });
        let deadline = Instant::now() + PATIENCE;
        while column(&client, "SELECT count(*) FROM t").await == ["0"] {
            assert!(Instant::now() < deadline, "it is never written");
        }
        cancel.cancel_query(NoTls).await.expect("the server is told");
        in_time("the cancel", writing).await.expect("no panic").expect("it is written, and told so");
    });
    server.kill();
}

#[test]
fn an_epoch_that_does_not_fit_into_memory_fails_its_view_alone() {
    let data = tempfile::tempdir().expect("a folder");
    // There is never so much left.
    let server = Server::start(data.path(), &["--workers", "2", "--memory-reserve", "1000GiB"]);
    runtime().block_on(async {
        let client = server.connect().await;
        done(&client, "CREATE TABLE t (a int PRIMARY KEY, b int)").await;
        done(&client, "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM t").await;
        done(&client, PAIRS).await;
        done(&client, ROWS).await;
        let refused = in_time("FLUSH", client.batch_execute("FLUSH")).await.expect_err("the view fails");
        let told = refused.as_db_error().expect("the server's word").message().to_owned();
        assert!(told.contains("pipeline j") && told.contains("the machine has"), "{told}");
        assert_eq!(column(&client, "SELECT n FROM n").await, ["60000"]);
        done(&client, "DROP MATERIALIZED VIEW j").await;
        done(&client, "FLUSH").await;
        // The first rows of a new view: that view fails, and is not made.
        let refused = in_time("CREATE", client.batch_execute(PAIRS)).await.expect_err("it is too large");
        assert_eq!(code(&refused), "53200", "{refused}");
        assert_eq!(column(&client, "SHOW MATERIALIZED VIEWS").await, ["n"]);
        done(&client, "FLUSH").await;
    });
    assert_eq!(server.stop(), Some(0), "a clean stop");
}
