//! SIGKILL under concurrent writers: what was acknowledged is there, what was not is there whole or
//! not at all, and every view equals its query over the tables.
//!
//! Each writer owns rows of its own, so it knows what must be there: the last acknowledged state of
//! each row, or the one it had asked for when the server died. A transfer between two accounts is
//! one transaction, so the sum of all accounts never changes.

use crate::server::{Server, runtime};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_postgres::Client;

const WRITERS: i64 = 4;
const ROWS: i64 = 40;
const ACCOUNTS: i64 = 10;

/// What a writer knows of its rows: values by key, and for the one it was changing the other value
/// that may be there.
#[derive(Clone, Debug, Default)]
struct Known {
    rows: BTreeMap<i64, i64>,
    /// Events that were acknowledged.
    events: i64,
    doubt: Option<(i64, Option<i64>)>,
}

/// Small numbers that look random; the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as i64
    }
}

fn rounds() -> u64 {
    std::env::var("HIGHWATER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(50)
}

#[test]
fn acknowledged_writes_survive_a_kill_and_views_equal_recomputation() {
    let data = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let mut known = vec![Known::default(); WRITERS as usize];
    let mut server = Server::start(data.path(), &["--checkpoint-interval", "500ms"]);
    runtime.block_on(async { prepare(&server.connect().await).await });
    for round in 0..rounds() {
        let died = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (known, died) = (known[number as usize].clone(), Arc::clone(&died));
                let seed = Random(round * 100 + number as u64 + 1);
                let client = runtime.block_on(server.connect());
                runtime.spawn(write(client, number, known, seed, died))
            })
            .collect();
        let mut pause = Random(round + 7777);
        std::thread::sleep(Duration::from_millis(100 + pause.below(900) as u64));
        server.kill();
        died.store(true, Ordering::Relaxed);
        for (writer, known) in writers.into_iter().zip(&mut known) {
            *known = runtime.block_on(writer).expect("a writer ends");
        }
        server = Server::start(data.path(), &["--checkpoint-interval", "500ms"]);
        runtime.block_on(async { check(&server.connect().await, &mut known, round).await });
    }
    assert_eq!(server.stop(), Some(0), "a clean stop");
}

async fn prepare(client: &Client) {
    let statements = "
        CREATE TABLE t (id bigint PRIMARY KEY, writer bigint, v bigint);
        CREATE TABLE events (writer bigint, v bigint) APPEND ONLY;
        CREATE TABLE account (id bigint PRIMARY KEY, balance bigint);
        CREATE MATERIALIZED VIEW by_writer AS SELECT writer, count(*) AS n, sum(v) AS s, max(v) AS m FROM t GROUP BY writer;
        CREATE MATERIALIZED VIEW total AS SELECT sum(balance) AS s, count(*) AS n FROM account;
        CREATE MATERIALIZED VIEW large AS SELECT id, v FROM t WHERE v > 500;
        CREATE MATERIALIZED VIEW spread AS SELECT n, count(*) AS writers FROM by_writer GROUP BY n;
        CREATE MATERIALIZED VIEW counted AS SELECT writer, count(*) AS n FROM events GROUP BY writer";
    client.batch_execute(statements).await.expect("prepared");
    for id in 0..ACCOUNTS {
        client.execute("INSERT INTO account VALUES ($1, 100)", &[&id]).await.expect("an account");
    }
}

/// Writes until the server dies; gives what it knows then.
async fn write(client: Client, number: i64, mut known: Known, mut random: Random, died: Arc<AtomicBool>) -> Known {
    loop {
        let id = number * ROWS + random.below(ROWS);
        let value = random.below(1000);
        let before = known.rows.get(&id).copied();
        let (wanted, done) = match (before, random.below(4)) {
            (None, _) => {
                let sql = "INSERT INTO t VALUES ($1, $2, $3)";
                (Some(value), client.execute(sql, &[&id, &number, &value]).await)
            }
            (Some(_), 0) => (None, client.execute("DELETE FROM t WHERE id = $1", &[&id]).await),
            (Some(_), _) => (Some(value), client.execute("UPDATE t SET v = $2 WHERE id = $1", &[&id, &value]).await),
        };
        match done {
            Ok(count) => {
                assert_eq!(count, 1, "row {id} was {before:?} and became {wanted:?}");
                match wanted {
                    Some(value) => known.rows.insert(id, value),
                    None => known.rows.remove(&id),
                };
            }
            Err(error) => {
                assert!(error.as_db_error().is_none() || died.load(Ordering::Relaxed), "{error:?}");
                known.doubt = Some((id, wanted));
                return known;
            }
        }
        if transfer(&client, &mut random).await.is_err()
            || client.execute("INSERT INTO events VALUES ($1, $2)", &[&number, &value]).await.is_err()
        {
            return known;
        }
        known.events += 1;
    }
}

/// Moves money between two accounts; a lost race is no error.
async fn transfer(client: &Client, random: &mut Random) -> Result<(), tokio_postgres::Error> {
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    let amount = random.below(50);
    let sql = "BEGIN";
    client.batch_execute(sql).await?;
    let moved = async {
        client.execute("UPDATE account SET balance = balance - $2 WHERE id = $1", &[&from, &amount]).await?;
        client.execute("UPDATE account SET balance = balance + $2 WHERE id = $1", &[&to, &amount]).await?;
        client.batch_execute("COMMIT").await
    };
    match moved.await {
        Err(error) if error.as_db_error().is_some() => client.batch_execute("ROLLBACK").await,
        done => done,
    }
}

async fn check(client: &Client, known: &mut [Known], round: u64) {
    client.batch_execute("FLUSH").await.expect("flushed");
    let rows = client.query("SELECT id, v FROM t", &[]).await.expect("rows");
    let mut there: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (writer, known) in known.iter_mut().enumerate() {
        let sql = format!("SELECT count(*) FROM events WHERE writer = {writer}");
        let events: i64 = client.query_one(&sql, &[]).await.expect("a count").get(0);
        // One may have been on its way.
        assert!((known.events..=known.events + 1).contains(&events), "round {round}: {events} events, {known:?}");
        known.events = events;
        if let Some((id, wanted)) = known.doubt.take() {
            let found = there.get(&id).copied();
            let before = known.rows.get(&id).copied();
            assert!(
                found == wanted || found == before,
                "round {round}: row {id} is {found:?}, not {before:?} or {wanted:?}"
            );
            match found {
                Some(value) => known.rows.insert(id, value),
                None => known.rows.remove(&id),
            };
        }
        for (id, value) in &known.rows {
            assert_eq!(there.remove(id), Some(*value), "round {round}: row {id}");
        }
    }
    assert!(there.is_empty(), "round {round}: rows that nobody wrote: {there:?}");
    let same = [
        ("SELECT writer, n, s, m FROM by_writer", "SELECT writer, count(*), sum(v), max(v) FROM t GROUP BY writer"),
        ("SELECT id, v FROM large", "SELECT id, v FROM t WHERE v > 500"),
        ("SELECT s, n FROM total", "SELECT sum(balance), count(*) FROM account"),
        ("SELECT writer, n FROM counted", "SELECT writer, count(*) FROM events GROUP BY writer"),
        (
            "SELECT n, writers FROM spread",
            "SELECT n, count(*) FROM (SELECT count(*) AS n FROM t GROUP BY writer) AS x GROUP BY n",
        ),
    ];
    for (view, query) in same {
        assert_eq!(texts(client, view).await, texts(client, query).await, "round {round}: {view}");
    }
    let total: i64 = ACCOUNTS * 100;
    assert_eq!(
        texts(client, "SELECT s FROM total").await,
        [total.to_string()],
        "round {round}: money was made or lost"
    );
}

/// A query's rows as sorted lines.
async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let mut lines: Vec<String> = messages
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        })
        .collect();
    lines.sort();
    lines
}
