//! What is written and not answered yet when somebody cancels it: it is told, as it cannot be taken back.

use crate::server::{Server, runtime};
use crate::wire::{Wire, text};
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

#[test]
fn a_write_that_cannot_be_told_as_it_was_described_is_not_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let parse = |name: &str, sql: &str| [text(name), text(sql), vec![0; 2]].concat();
    // Both columns in binary.
    let bind = |name: &str| [text(""), text(name), vec![0; 4], vec![0, 2, 0, 1, 0, 1]].concat();
    let run = |wire: Wire, name: &str| {
        wire.message(b'B', &bind(name)).message(b'E', &[text(""), vec![0; 4]].concat()).sync().send()
    };
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int, s varchar)");
    wire = wire.message(b'P', &parse("all", "INSERT INTO t (id, s) VALUES (1, 'a') RETURNING *"));
    wire = wire.message(b'P', &parse("named", "INSERT INTO t (id, s) VALUES (2, 'b') RETURNING id, s"));
    wire = run(run(wire, "all"), "named");
    assert_eq!(wire.answers(12), "C ZI 1 1 2 D C ZI 2 D C ZI");
    wire = run(run(wire.query("ALTER TABLE t ADD COLUMN b int"), "all"), "named");
    assert_eq!(wire.answers(9), "C ZI 2 E0A000 ZI 2 D C ZI");
    runtime().block_on(async {
        let client = server.connect().await;
        let row = client.query_one("SELECT count(*), sum(id) FROM t", &[]).await.expect("a row");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (3, 5));
    });
    server.stop();
}

#[test]
fn what_execute_writes_is_part_of_its_pipeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)");
    wire = wire.query("PREPARE p (int) AS INSERT INTO t VALUES ($1)").execute("EXECUTE p (1)").sync().send();
    assert_eq!(wire.answers(8), "C ZI C ZI 1 2 C ZI");
    wire = wire.execute("EXECUTE p (2)").execute("EXECUTE p (1)").sync().send();
    assert_eq!(wire.answers(7), "1 2 C 1 2 E23505 ZI");
    runtime().block_on(async {
        let client = server.connect().await;
        let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.expect("a row").get(0);
        assert_eq!(count, 1, "the error takes all of the pipeline back");
    });
    wire = wire
        .execute("EXECUTE p (2)")
        .execute("EXECUTE p (3)")
        .message(b'H', &[])
        .execute("SELECT 1 AS x")
        .sync()
        .send();
    assert_eq!(wire.answers(11), "1 2 C 1 2 C 1 2 D C ZI");
    server.stop();
}
