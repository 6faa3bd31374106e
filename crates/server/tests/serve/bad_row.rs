//! A row that a view cannot compute: the view fails alone and stays readable, also after a kill, and goes
//! on when it is told to leave such rows out.

use crate::server::{Server, runtime};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

fn start(data: &Path) -> Server {
    Server::start(data, &["--workers", "2"])
}

async fn done(client: &Client, sql: &str) {
    client.batch_execute(sql).await.expect(sql);
}

/// The first column of a query's rows.
async fn column(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.expect(sql);
    let value = |message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    messages.into_iter().filter_map(value).collect()
}

/// FLUSH fails for the view and tells what to do, while the other view shows what there is.
async fn fails_alone(client: &Client, rows: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let told = loop {
        let error = client.batch_execute("FLUSH").await.expect_err("a view fails");
        let error = error.as_db_error().expect("the server's word").clone();
        // Between two tries it may be on its way.
        if error.message().contains("ALTER") {
            break error;
        }
        assert!(Instant::now() < deadline, "{error}");
    };
    assert_eq!(told.code().code(), "55000");
    for part in ["division by zero", "id = 3, b = 0", "ALTER MATERIALIZED VIEW q SET (on_error = 'skip')"] {
        assert!(told.message().contains(part), "{told}");
    }
    assert_eq!(column(client, "SELECT n FROM n").await, [rows]);
}

#[test]
fn a_view_that_fails_for_a_row_goes_on_without_it() {
    let data = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let server = start(data.path());
    runtime.block_on(async {
        let client = server.connect().await;
        done(&client, "CREATE TABLE t (id int PRIMARY KEY, b int)").await;
        done(&client, "CREATE MATERIALIZED VIEW q AS SELECT id, 12 / b AS x FROM t").await;
        done(&client, "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM t").await;
        done(&client, "INSERT INTO t VALUES (1, 3), (2, 4)").await;
        done(&client, "FLUSH").await;
        done(&client, "CHECKPOINT").await;
        done(&client, "INSERT INTO t VALUES (3, 0)").await;
        fails_alone(&client, "3").await;
        // Its last state.
        assert_eq!(column(&client, "SELECT x FROM q ORDER BY id").await, ["4", "3"]);
    });
    server.kill();
    let server = start(data.path());
    runtime.block_on(async {
        let client = server.connect().await;
        done(&client, "INSERT INTO t VALUES (4, 6)").await;
        fails_alone(&client, "4").await;
        done(&client, "ALTER MATERIALIZED VIEW q SET (on_error = 'skip')").await;
        done(&client, "FLUSH").await;
        assert_eq!(column(&client, "SELECT x FROM q ORDER BY id").await, ["4", "3", "2"]);
    });
    server.kill();
    let server = start(data.path());
    runtime.block_on(async {
        let client = server.connect().await;
        done(&client, "DELETE FROM t WHERE id = 3").await;
        done(&client, "INSERT INTO t VALUES (5, 0), (6, 12)").await;
        done(&client, "FLUSH").await;
        assert_eq!(column(&client, "SELECT x FROM q ORDER BY id").await, ["4", "3", "2", "1"]);
    });
    assert_eq!(server.stop(), Some(0), "a clean stop");
}
