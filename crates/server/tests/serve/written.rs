//! What is written and not answered yet when somebody cancels it: it is told, as it cannot be taken back.

use crate::server::{Server, runtime};
use crate::wire::Wire;
use std::time::{Duration, Instant};

const ROWS: usize = 50_000;

#[test]
fn a_write_whose_rows_are_on_their_way_is_not_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    runtime().block_on(async {
        let client = server.connect().await;
        client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, s varchar)").await.expect("created");
        // More than sockets hold, so that its rows wait for their reader.
        let insert =
            format!("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, {ROWS}) AS g RETURNING *");
        let mut wire = Wire::connect(&server).query(&insert).send();
        let deadline = Instant::now() + Duration::from_secs(60);
        let count = async || -> i64 { client.query_one("SELECT count(*) FROM t", &[]).await.expect("a row").get(0) };
        while count().await == 0 {
            assert!(Instant::now() < deadline, "it is never written");
        }
        let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'INSERT%'";
        assert!(client.query_one(cancel, &[]).await.expect("one session").get::<_, bool>(0));
        let told = tokio::task::spawn_blocking(move || wire.bytes_until_ready());
        let kinds: Vec<u8> = told.await.expect("no panic").iter().map(|message| message[0]).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == b'D').count(), ROWS);
        assert_eq!(kinds[kinds.len() - 2..], *b"CZ");
        assert_eq!(count().await, ROWS as i64);
    });
    server.stop();
}
