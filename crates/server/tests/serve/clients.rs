//! What drivers and psql do with a server.

use crate::server::{Server, runtime};
use std::time::{Duration, Instant, SystemTime};

#[test]
fn a_driver_prepares_binds_and_reads_in_binary() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let mut client = server.connect().await;
        let create = "CREATE TABLE t (id bigint PRIMARY KEY, name varchar, price double precision, ok boolean, n int)";
        client.batch_execute(create).await.expect("created");
        let insert = client.prepare("INSERT INTO t VALUES ($1, $2, $3, $4, $5)").await.expect("prepared");
        for id in 0..100_i64 {
            let name = (id % 10 != 0).then(|| format!("name {id}"));
            let changed =
                client.execute(&insert, &[&id, &name, &(id as f64 / 4.0), &(id % 2 == 0), &(id as i32)]).await;
            assert_eq!(changed.expect("inserted"), 1);
        }
        let row =
            client.query_one("SELECT id, name, price, ok, n FROM t WHERE id = $1", &[&42_i64]).await.expect("a row");
        assert_eq!(row.get::<_, i64>(0), 42);
        assert_eq!(row.get::<_, Option<&str>>(1), Some("name 42"));
        assert_eq!((row.get::<_, f64>(2), row.get::<_, bool>(3), row.get::<_, i32>(4)), (10.5, true, 42));
        let missing =
            client.query_opt("SELECT name FROM t WHERE id = $1", &[&40_i64]).await.expect("a row").expect("one");
        assert_eq!(missing.get::<_, Option<&str>>(0), None);

        let transaction = client.transaction().await.expect("begun");
        transaction.execute("DELETE FROM t WHERE id < $1", &[&50_i64]).await.expect("deleted");
        let left = transaction.query_one("SELECT count(*) FROM t", &[]).await.expect("counted");
        assert_eq!(left.get::<_, i64>(0), 50);
        transaction.rollback().await.expect("rolled back");
        let all = client.query_one("SELECT count(*) FROM t", &[]).await.expect("counted");
        assert_eq!(all.get::<_, i64>(0), 100);

        let transaction = client.transaction().await.expect("begun");
        let portal = transaction.bind("SELECT id FROM t ORDER BY id", &[]).await.expect("bound");
        let first = transaction.query_portal(&portal, 30).await.expect("rows");
        let second = transaction.query_portal(&portal, i32::MAX).await.expect("rows");
        assert_eq!((first.len(), second.len()), (30, 70));
        assert_eq!(second[0].get::<_, i64>(0), 30);
        assert_eq!(transaction.query_portal(&portal, 0).await.expect("no more rows").len(), 0);
        transaction.commit().await.expect("committed");

        let transaction = client.transaction().await.expect("begun");
        let portal = transaction.bind("UPDATE t SET n = n + 1", &[]).await.expect("bound");
        transaction.query_portal(&portal, 0).await.expect("updated");
        let error = transaction.query_portal(&portal, 0).await.expect_err("it is done");
        assert_eq!(error.code().expect("a code").code(), "55000");
        transaction.rollback().await.expect("rolled back");

        let error = client.execute(&insert, &[&1_i64, &"x", &0.0, &true, &0]).await.expect_err("it exists");
        assert_eq!(error.code().expect("a code").code(), "23505");
        let error = client.query("SELECT nothing FROM t", &[]).await.expect_err("no such column");
        let error = error.as_db_error().expect("the server's");
        assert_eq!(error.code().code(), "42703");
        assert_eq!(error.position(), Some(&tokio_postgres::error::ErrorPosition::Original(8)));
    });
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_driver_binds_what_is_cast_in_binary() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let client = server.connect().await;
        let cast = "SELECT $1::int[], $2::text[], $3::bytea, $4::timestamp, $5::date - date '2024-01-01'";
        let (numbers, texts, bytes) = (vec![Some(1_i32), None], vec!["a", ""], vec![0_u8, 7]);
        let error = client.query_one(cast, &[&numbers, &texts, &bytes, &SystemTime::UNIX_EPOCH, &1_i32]).await;
        assert!(error.is_err(), "the fifth is told to be a date");
        let cast = "SELECT $1::int[], $2::text[], $3::bytea, $4::timestamp";
        let row = client.query_one(cast, &[&numbers, &texts, &bytes, &SystemTime::UNIX_EPOCH]).await.expect("a row");
        assert_eq!(row.get::<_, Vec<Option<i32>>>(0), numbers);
        assert_eq!(row.get::<_, Vec<String>>(1), texts);
        assert_eq!(row.get::<_, Vec<u8>>(2), bytes);
        assert_eq!(row.get::<_, SystemTime>(3), SystemTime::UNIX_EPOCH);
    });
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn queries_that_compute_without_a_pause_are_ended_and_hold_nobody_up() {
    const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 300000) AS a(x), generate_series(1, 300000) AS b(y)
        WHERE x + y < 0";
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let ended = || async {
            let client = server.connect().await;
            client.batch_execute("SET statement_timeout TO '1s'").await.expect("set");
            let error = client.batch_execute(ENDLESS).await.expect_err("it takes too long");
            assert_eq!(error.code().expect("a code").code(), "57014");
        };
        let begun = Instant::now();
        tokio::join!(ended(), ended(), ended(), ended());
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    });
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn sessions_see_and_end_each_other() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let (one, two) = (server.connect().await, server.connect().await);
        one.batch_execute("SET application_name TO 'first'").await.expect("set");
        let number: i32 = one.query_one("SELECT pg_backend_pid()", &[]).await.expect("a row").get(0);
        let asked =
            format!("SELECT state, query, application_name, usename FROM pg_stat_activity WHERE pid = {number}");
        let seen = async || {
            let row = two.query_one(&asked, &[]).await.expect("a row");
            (0..4).map(|at| row.get::<_, String>(at)).collect::<Vec<_>>()
        };
        assert_eq!(seen().await, ["idle", "SELECT pg_backend_pid()", "first", "tester"]);
        one.batch_execute("BEGIN; SELECT 1").await.expect("begun");
        assert_eq!(seen().await[0], "idle in transaction");
        one.batch_execute("ROLLBACK").await.expect("rolled back");
        let deadline = Instant::now() + Duration::from_secs(60);
        let cancel = async {
            while seen().await[..2] != ["active", "SELECT pg_sleep(3600)"] {
                assert!(Instant::now() < deadline, "it is never seen to sleep");
            }
            let cancel = format!("SELECT pg_cancel_backend({number})");
            assert!(two.query_one(&cancel, &[]).await.expect("a row").get::<_, bool>(0));
        };
        let (slept, ()) = tokio::join!(one.batch_execute("SELECT pg_sleep(3600)"), cancel);
        assert_eq!(slept.expect_err("it is cancelled").code().expect("a code").code(), "57014");
        one.batch_execute("SELECT 1").await.expect("the session goes on");
        let terminate = format!("SELECT pg_terminate_backend({number})");
        assert!(two.query_one(&terminate, &[]).await.expect("a row").get::<_, bool>(0));
        while one.batch_execute("SELECT 1").await.is_ok() {
            assert!(Instant::now() < deadline, "it is never ended");
        }
        while two.query_opt(&asked, &[]).await.expect("an answer").is_some() {
            assert!(Instant::now() < deadline, "it never goes");
        }
        assert!(!two.query_one(&terminate, &[]).await.expect("a row").get::<_, bool>(0));
    });
    assert_eq!(server.stop(), Some(0));
}

/// One HTTP request; the status and the body.
fn get(port: u16, path: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("asked");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

#[test]
fn http_tells_health_metrics_and_views() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let client = server.connect().await;
        let create = "CREATE TABLE t (x int); CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t";
        client.batch_execute(create).await.expect("created");
        client.batch_execute("INSERT INTO t VALUES (1), (2); FLUSH").await.expect("written");
    });
    assert_eq!(get(server.http, "/health").0, 200);
    let (status, body) = get(server.http, "/ready");
    assert_eq!(status, 200, "{body}");
    let (status, metrics) = get(server.http, "/metrics");
    assert_eq!(status, 200);
    for wanted in ["highwater_pipeline_up{pipeline=\"v\"} 1", "highwater_log_position", "highwater_build_info"] {
        assert!(metrics.contains(wanted), "no {wanted} in {metrics}");
    }
    let (status, views) = get(server.http, "/api/v1/views");
    assert_eq!(status, 200, "{views}");
    assert!(views.contains("\"v\""), "{views}");
    assert_eq!(get(server.http, "/api/v1/pipelines/nothing").0, 404);
    let (status, document) = get(server.http, "/api/v1/openapi.json");
    assert!(status == 200 && document.contains("/api/v1/pipelines/{name}/checkpoint"), "{document}");
    assert_eq!(server.stop(), Some(0));
}
