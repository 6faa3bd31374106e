//! Views that take long to be made, as other sessions see it.

use crate::server::{Server, runtime};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

/// How long what does not wait may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first column of a query.
async fn column(client: &Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).await.expect(query);
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    });
    rows.collect()
}

async fn done(client: &Client, statement: &str) {
    let done = tokio::time::timeout(PATIENCE, client.batch_execute(statement)).await;
    done.expect("it does not wait").expect(statement);
}

#[test]
fn flush_does_not_wait_for_a_view_that_another_session_makes() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let client = server.connect().await;
        done(&client, "CREATE TABLE t (a int PRIMARY KEY, b int)").await;
        done(&client, "INSERT INTO t SELECT g, g % 10 FROM generate_series(1, 20000) AS s(g)").await;
        done(&client, "CREATE TABLE u (a int PRIMARY KEY)").await;
        done(&client, "CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM u").await;
        let maker = server.connect().await;
        // Of 40 million rows, which nobody waits for here.
        let large = "CREATE MATERIALIZED VIEW j AS SELECT x.a, y.a AS b FROM t AS x JOIN t AS y ON x.b = y.b";
        let made = tokio::spawn(async move { maker.batch_execute(large).await });
        let deadline = Instant::now() + PATIENCE;
        while column(&client, "SELECT name FROM hw_catalog.views WHERE name = 'j'").await.is_empty() {
            assert!(Instant::now() < deadline, "it is not made");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        done(&client, "INSERT INTO u VALUES (1)").await;
        done(&client, "FLUSH").await;
        assert_eq!(column(&client, "SELECT n FROM w").await, ["1"]);
        done(&client, "SET rw_implicit_flush = on").await;
        done(&client, "INSERT INTO u VALUES (2)").await;
        assert_eq!(column(&client, "SELECT n FROM w").await, ["2"]);
        assert!(!made.is_finished(), "it was made meanwhile: the join is to be larger");
    });
    server.kill();
}
