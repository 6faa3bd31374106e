//! SIGKILL while a view changes: the journal of its subscription has every change once.

use crate::kill::Random;
use crate::server::{Server, runtime};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

const ROUNDS: u64 = 6;
const OPTIONS: [&str; 4] = ["--workers", "2", "--checkpoint-interval", "100ms"];
/// How long the journal may lag behind the view.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows and how often they are there.
type Rows = BTreeMap<Vec<String>, i64>;

#[test]
fn a_subscription_has_every_change_once_whatever_was_killed() {
    let data = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let mut server = Server::start(data.path(), &OPTIONS);
    runtime.block_on(async {
        let statements = "
            CREATE TABLE t (id bigint PRIMARY KEY, g bigint, v bigint);
            CREATE MATERIALIZED VIEW sums AS SELECT g, count(*) AS n, sum(v) AS s FROM t GROUP BY g;
            CREATE SUBSCRIPTION sub FROM sums WITH (retention = '1 day')";
        server.connect().await.batch_execute(statements).await.expect("prepared");
    });
    for round in 0..ROUNDS {
        let client = runtime.block_on(server.connect());
        let writer = runtime.spawn(write(client, round));
        let mut pause = Random(round + 99);
        std::thread::sleep(Duration::from_millis(100 + pause.below(600) as u64));
        server.kill();
        runtime.block_on(writer).expect("the writer ends");
        server = Server::start(data.path(), &OPTIONS);
        runtime.block_on(async { check(&server.connect().await, round).await });
    }
    assert_eq!(server.stop(), Some(0), "a clean stop");
}

/// Writes until the server dies.
async fn write(client: Client, round: u64) {
    let mut random = Random(round + 1);
    loop {
        let (id, g, v) = (random.below(200), random.below(7), random.below(100));
        let sql = match random.below(4) {
            0 => format!("DELETE FROM t WHERE id = {id}"),
            _ => format!(
                "INSERT INTO t VALUES ({id}, {g}, {v}) ON CONFLICT (id) DO UPDATE SET g = excluded.g, v = excluded.v"
            ),
        };
        if client.batch_execute(&sql).await.is_err() {
            return;
        }
    }
}

/// Adds up all changes and compares the sum with the view.
async fn check(client: &Client, round: u64) {
    client.batch_execute("FLUSH; CHECKPOINT").await.expect("flushed");
    let mut view = Rows::new();
    for row in rows(client, "SELECT g, n, s FROM sums").await {
        *view.entry(row).or_default() += 1;
    }
    client.batch_execute("DECLARE c SUBSCRIPTION CURSOR FOR sub SINCE begin()").await.expect("declared");
    let deadline = Instant::now() + PATIENCE;
    let mut sum = Rows::new();
    let mut newest = 0;
    while sum != view {
        assert!(Instant::now() < deadline, "round {round}: the changes add up to {sum:?}, the view is {view:?}");
        for mut row in rows(client, "FETCH 5000 FROM c WITH (timeout = '100ms')").await {
            let time: i64 = row.pop().and_then(|time| time.parse().ok()).expect("a time");
            assert!(time >= newest, "round {round}: {time} comes after {newest}");
            newest = time;
            let op = row.pop().expect("what it does");
            let weight = if op.ends_with("Insert") { 1 } else { -1 };
            let before = sum.remove(&row).unwrap_or(0);
            assert!(
                (0..=1).contains(&(before + weight)),
                "round {round}: {op} of {row:?}, which is there {before} times"
            );
            if before + weight > 0 {
                sum.insert(row, 1);
            }
        }
    }
    client.batch_execute("CLOSE c").await.expect("closed");
}

async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let texts = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(texts).collect()
}
