//! `dml`: how many single-row INSERTs, UPDATEs, COPY rows and point reads a second, over the wire with several
//! connections, how many rows a second a program that embeds the database inserts by batches, and the same on a
//! PostgreSQL beside it when one is named. Point reads are of a table and of a materialized view, one after another
//! on each connection, and pipelined: many are under way on each.

use super::{Plan, Scratch, emit, rounded, start_logs};
use crate::exit::{Exit, Failure, Outcome};
use crate::figures;
use crate::table::aligned;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::SinkExt as _;
use highwater::{Config, Database};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

/// Rows of a batch that a program inserts.
const BATCH_ROWS: i64 = 50_000;
/// Keys of the view that is read, at most.
const VIEW_KEYS: i64 = 1_000_000;
/// The view's query up to its condition.
const VIEW: &str = "SELECT id, max(a) AS a, max(b) AS b FROM bench_copy";
/// Requests that are under way on each connection when they are pipelined.
const IN_FLIGHT: usize = 64;

/// Arguments of `highwater bench dml`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  highwater bench dml --seconds 10
  highwater bench dml --beside 'host=127.0.0.1 port=5432 user=postgres'")]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// Clients at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    /// Rows that COPY brings in each round
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    copy_rows: u64,
    /// A PostgreSQL to measure in the same run, as a connection string
    #[arg(long, value_name = "DSN")]
    beside: Option<String>,
}

/// A server of this program, killed in the end.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        // It has ended or ends now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the workload.
pub(super) fn main(arguments: &Arguments) -> Outcome {
    start_logs(&arguments.plan.flags)?;
    let scratch = Scratch::new(&arguments.plan.flags)?;
    let port = free_port()?;
    let program = std::env::current_exe().map_err(|error| Failure::usage(error.to_string()))?;
    let served = Command::new(program)
        .args(["serve", "--pg-listen", &format!("127.0.0.1:{port}"), "--http-listen", "off", "--data"])
        .arg(scratch.path.join("dml"))
        .args(["--log", "warn"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map(Served)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::usage(error.to_string()))?;
    let ours = format!("host=127.0.0.1 port={port} user=bench dbname=bench");
    let measured = runtime.block_on(async {
        wait_for_server(&ours).await?;
        let highwater = measure(&ours, arguments, false).await?;
        let beside = match &arguments.beside {
            Some(dsn) => Some(measure(dsn, arguments, true).await?),
            None => None,
        };
        Ok::<_, tokio_postgres::Error>((highwater, beside))
    });
    drop(served);
    let batches = batches(&scratch.path.join("batches"), arguments.plan.seconds);
    let (highwater, beside) = measured.map_err(|error| Failure::new(Exit::Statement, told(&error)))?;
    let mut fields = json!({ "connections": arguments.connections, "copy_rows": arguments.copy_rows });
    fields["highwater"] = highwater;
    fields["highwater"]["batch_rows_per_s"] =
        json!(batches.map_err(|error| Failure::new(Exit::Statement, error.to_string()))?.round());
    fields["postgresql"] = beside.unwrap_or(Value::Null);
    show(&fields);
    emit("dml", &arguments.plan, fields)?;
    Ok(Exit::Done)
}

fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| format!("{}: {}", db.code().code(), db.message()))
}

fn free_port() -> Outcome<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| Failure::usage(error.to_string()))
}

async fn connect(dsn: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn wait_for_server(dsn: &str) -> Result<(), tokio_postgres::Error> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match connect(dsn).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn measure(dsn: &str, arguments: &Arguments, is_beside: bool) -> Result<Value, tokio_postgres::Error> {
    let client = connect(dsn).await?;
    client.batch_execute("DROP TABLE IF EXISTS bench_one; DROP TABLE IF EXISTS bench_copy").await?;
    client.batch_execute("CREATE TABLE bench_one (id bigint PRIMARY KEY, a bigint, b varchar)").await?;
    client.batch_execute("CREATE TABLE bench_copy (id bigint PRIMARY KEY, a bigint, b varchar)").await?;
    let (copied, copy_rate) = copy(&client, arguments).await?;
    let inserts = all_at_once(dsn, arguments, Kind::Insert).await?;
    let in_view = copied.min(VIEW_KEYS);
    client
        .batch_execute(&format!("CREATE MATERIALIZED VIEW bench_view AS {VIEW} WHERE id < {in_view} GROUP BY id"))
        .await?;
    if is_beside {
        // A view's own key needs none here.
        client.batch_execute("CREATE UNIQUE INDEX ON bench_view (id); ANALYZE bench_copy; ANALYZE bench_view").await?;
    }
    let read = |from, keys, in_flight| all_at_once(dsn, arguments, Kind::Read { from, keys, in_flight });
    let reads = read("bench_copy", copied, 1).await?;
    let pipelined_reads = read("bench_copy", copied, IN_FLIGHT).await?;
    let view_reads = read("bench_view", in_view, 1).await?;
    let pipelined_view_reads = read("bench_view", in_view, IN_FLIGHT).await?;
    client.batch_execute("DROP MATERIALIZED VIEW bench_view").await?;
    let updates = all_at_once(dsn, arguments, Kind::Update { keys: copied }).await?;
    client.batch_execute("DROP TABLE bench_one; DROP TABLE bench_copy").await?;
    Ok(json!({
        "copy_rows_per_s": copy_rate.round(),
        "inserts_per_s": inserts.round(),
        "point_reads_per_s": reads.round(),
        "pipelined_reads_per_s": pipelined_reads.round(),
        "view_reads_per_s": view_reads.round(),
        "pipelined_view_reads_per_s": pipelined_view_reads.round(),
        "updates_per_s": updates.round(),
    }))
}

/// Brings in rows by COPY for the time of a phase; gives how many, and how many a second.
async fn copy(client: &Client, arguments: &Arguments) -> Result<(i64, f64), tokio_postgres::Error> {
    let started = Instant::now();
    let mut next: i64 = 0;
    while started.elapsed() < Duration::from_secs(arguments.plan.seconds) {
        let sink = client.copy_in("COPY bench_copy FROM STDIN").await?;
        futures::pin_mut!(sink);
        let end = next + arguments.copy_rows as i64;
        while next < end {
            let mut text = String::with_capacity(64 << 10);
            let until = (next + 2000).min(end);
            for id in next..until {
                text.push_str(&format!("{id}\t{}\tname {id}\n", id * 7));
            }
            next = until;
            sink.send(bytes::Bytes::from(text)).await?;
        }
        sink.finish().await?;
    }
    Ok((next, next as f64 / started.elapsed().as_secs_f64()))
}

/// Rows a second that a program brings in by [`Database::insert`], a batch at a time.
fn batches(folder: &Path, seconds: u64) -> highwater::Result<f64> {
    let database = Database::open(Config::new(folder))?;
    database.execute("CREATE TABLE bench_batch (id bigint PRIMARY KEY, a bigint, b varchar)")?;
    let started = Instant::now();
    let mut next: i64 = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        let ids = next..next + BATCH_ROWS;
        let id = Int64Array::from_iter_values(ids.clone());
        let a = Int64Array::from_iter_values(ids.clone().map(|id| id * 7));
        let b = StringArray::from_iter_values(ids.map(|id| format!("name {id}")));
        let columns: [(&str, ArrayRef); 3] = [("id", Arc::new(id)), ("a", Arc::new(a)), ("b", Arc::new(b))];
        let rows = RecordBatch::try_from_iter(columns).map_err(highwater::Error::from)?;
        database.insert("bench_batch", &rows)?;
        next += BATCH_ROWS;
    }
    let rate = next as f64 / started.elapsed().as_secs_f64();
    database.shutdown()?;
    Ok(rate)
}

/// What each connection does over and over.
#[derive(Clone, Copy)]
enum Kind {
    Insert,
    Read { from: &'static str, keys: i64, in_flight: usize },
    Update { keys: i64 },
}

/// Statements a second of all connections together.
async fn all_at_once(dsn: &str, arguments: &Arguments, kind: Kind) -> Result<f64, tokio_postgres::Error> {
    let done = Arc::new(AtomicU64::new(0));
    let (started, length) = (Instant::now(), Duration::from_secs(arguments.plan.seconds));
    let mut tasks = Vec::new();
    for number in 0..arguments.connections {
        let (client, done) = (connect(dsn).await?, Arc::clone(&done));
        let seed = arguments.plan.seed;
        tasks.push(tokio::spawn(async move {
            let text = match kind {
                Kind::Insert => "INSERT INTO bench_one VALUES ($1, $2, $3)",
                Kind::Read { from, .. } => &format!("SELECT a, b FROM {from} WHERE id = $1"),
                Kind::Update { .. } => "UPDATE bench_copy SET a = $2 WHERE id = $1",
            };
            let statement = client.prepare(text).await?;
            let mut random = highwater::engine::core::Rng::seeded(seed * 1000 + number);
            let mut id = number as i64 * 1_000_000_000;
            while started.elapsed() < length {
                match kind {
                    Kind::Insert => {
                        id += 1;
                        client.execute(&statement, &[&id, &(id * 3), &"some text"]).await?;
                    }
                    Kind::Read { keys, in_flight, .. } => {
                        let next = || (random.next_u64() % keys as u64) as i64;
                        let asked: Vec<i64> = std::iter::repeat_with(next).take(in_flight).collect();
                        let (client, statement) = (&client, &statement);
                        let read = |key| async move { client.query(statement, &[key as &(dyn ToSql + Sync)]).await };
                        futures::future::try_join_all(asked.iter().map(read)).await?;
                        done.fetch_add(in_flight as u64 - 1, Relaxed);
                    }
                    Kind::Update { keys } => {
                        let key = (random.next_u64() % keys as u64) as i64;
                        client.execute(&statement, &[&key, &id]).await?;
                    }
                }
                done.fetch_add(1, Relaxed);
            }
            Ok::<_, tokio_postgres::Error>(())
        }));
    }
    for task in tasks {
        match task.await {
            Ok(finished) => finished?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(done.load(Relaxed) as f64 / started.elapsed().as_secs_f64())
}

fn show(fields: &Value) {
    const SHOWN: [(&str, &str); 8] = [
        ("copy_rows_per_s", "COPY rows/s"),
        ("batch_rows_per_s", "batch rows/s"),
        ("inserts_per_s", "INSERTs/s"),
        ("updates_per_s", "UPDATEs/s"),
        ("point_reads_per_s", "point reads/s"),
        ("pipelined_reads_per_s", "pipelined"),
        ("view_reads_per_s", "view reads/s"),
        ("pipelined_view_reads_per_s", "pipelined"),
    ];
    let mut rows = Vec::new();
    for server in ["highwater", "postgresql"] {
        if fields[server].is_null() {
            continue;
        }
        let cell = |key: &str| match fields[server][key].as_f64() {
            Some(rate) => figures::rate(rounded(rate)),
            None => "-".to_owned(),
        };
        let cells = SHOWN.iter().map(|(key, _)| cell(key));
        rows.push([server.to_owned()].into_iter().chain(cells).collect());
    }
    let names: Vec<String> = ["server"].into_iter().chain(SHOWN.map(|(_, name)| name)).map(str::to_owned).collect();
    let mut is_right = [true; 9];
    is_right[0] = false;
    eprint!("{}", aligned(&names, &is_right, &rows));
}
