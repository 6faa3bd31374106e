//! W3 `nexmark`: each query of the Nexmark benchmark as a materialized view over events at full
//! speed, checkpointed every ten seconds.
//!
//! A query of one kind of event reads the source of that kind; one that joins kinds reads the
//! combined stream, in which their event times go together. Rows are those that its sources gave.

use super::{Plan, Scratch, database, emit, execute, rounded, rss_mb, start_logs, wait_for};
use crate::exit::{Exit, Failure, Outcome};
use crate::figures;
use crate::process;
use crate::table::aligned;
use highwater::{CheckpointOutcome, Database, Pipeline};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The queries, as the tests run them.
const QUERIES: &str = include_str!("../../../../tests/nexmark/queries.sql");
/// The kinds of event, in the order of their numbers, with their columns.
const KINDS: [(&str, &[&str]); 3] = [
    ("person", &["id", "name", "email_address", "credit_card", "city", "state", "date_time", "extra"]),
    (
        "auction",
        &[
            "id",
            "item_name",
            "description",
            "initial_bid",
            "reserve",
            "date_time",
            "expires",
            "seller",
            "category",
            "extra",
        ],
    ),
    ("bid", &["auction", "bidder", "price", "channel", "url", "date_time", "extra"]),
];
/// How long a view runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// Rows of the table that q13 reads.
const SIDE_ROWS: u32 = 10_000;

/// Arguments of `highwater bench nexmark`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  highwater bench nexmark
  highwater bench nexmark --queries q5,q7,q8 --seconds 60")]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// Which queries; all by default
    #[arg(long, value_name = "Q", value_delimiter = ',')]
    queries: Vec<String>,
}

/// One query of the file.
struct Query {
    name: &'static str,
    sql: &'static str,
}

/// Runs the workload.
pub(super) fn main(arguments: &Arguments) -> Outcome {
    start_logs(&arguments.plan.flags)?;
    let all = queries();
    let wanted = |query: &&Query| arguments.queries.is_empty() || arguments.queries.iter().any(|n| n == query.name);
    if let Some(unknown) = arguments.queries.iter().find(|name| all.iter().all(|query| query.name != **name)) {
        let names: Vec<&str> = all.iter().map(|query| query.name).collect();
        return Err(Failure::usage(format!("no query {unknown}; there are {}", names.join(", "))));
    }
    let scratch = Scratch::new(&arguments.plan.flags)?;
    let mut lines = Vec::new();
    for query in all.iter().filter(wanted) {
        let (database, settings) = database(&scratch.flags(&arguments.plan.flags, query.name))?;
        lines.push(run(&database, query, settings.workers(), arguments.plan.seconds)?);
        database.shutdown().map_err(|error| Failure::new(Exit::Pipeline, error))?;
        std::fs::remove_dir_all(scratch.path.join(query.name))
            .map_err(|error| Failure::storage("scratch folder", error))?;
        show(lines.last().expect("pushed just now"), lines.len() == 1);
    }
    emit("nexmark", &arguments.plan, json!({"checkpoint_ms": 10_000, "queries": lines}))?;
    Ok(Exit::Done)
}

fn queries() -> Vec<Query> {
    let query = |part: &'static str| {
        let (head, sql) = part.split_once('\n')?;
        let name = head.split(' ').next().filter(|name| name.starts_with('q'))?;
        Some(Query { name, sql: sql.trim() })
    };
    QUERIES.split("\n-- ").filter_map(query).collect()
}

/// The kinds of event that a query reads.
fn kinds_of(sql: &str) -> Vec<&'static str> {
    let reads = |kind: &str| {
        [format!("FROM {kind} "), format!("FROM {kind}\n"), format!("JOIN {kind} "), format!("({kind},")]
            .iter()
            .any(|form| format!("{sql}\n").contains(form))
    };
    KINDS.into_iter().map(|(kind, _)| kind).filter(|kind| reads(kind)).collect()
}

fn create_sources(database: &Database, query: &Query, splits: usize) -> Outcome<()> {
    let kinds = kinds_of(query.sql);
    let columns = if query.sql.contains("proctime") { "(proctime timestamptz AS proctime()) " } else { "" };
    let source = |name: &str, options: &str| {
        format!("CREATE SOURCE {name} {columns}WITH (connector = 'nexmark', nexmark.split.num = '{splits}'{options})")
    };
    if let [kind] = kinds.as_slice() {
        let (first, rest) = kind.split_at(1);
        let option = format!(", nexmark.table.type = '{}{rest}'", first.to_uppercase());
        return execute(database, &source(kind, &option));
    }
    execute(database, &source("events", ""))?;
    let mut wanted = KINDS.iter().enumerate().filter(|(_, (kind, _))| kinds.contains(kind));
    wanted.try_for_each(|(number, (kind, columns))| {
        let columns: Vec<String> = columns.iter().map(|name| format!("({kind}).{name} AS {name}")).collect();
        let columns = columns.join(", ");
        execute(database, &format!("CREATE VIEW {kind} AS SELECT {columns} FROM events WHERE event_type = {number}"))
    })
}

fn run(database: &Database, query: &Query, splits: usize, seconds: u64) -> Outcome<Value> {
    create_sources(database, query, splits)?;
    if query.sql.contains("side_input") {
        execute(database, "CREATE TABLE side_input (key bigint PRIMARY KEY, value varchar)")?;
        let rows: Vec<String> = (0..SIDE_ROWS).map(|key| format!("({key}, 'value {key}')")).collect();
        execute(database, &format!("INSERT INTO side_input VALUES {}", rows.join(", ")))?;
    }
    let (name, sql) = (query.name, query.sql);
    execute(database, &format!("CREATE MATERIALIZED VIEW {name} WITH (checkpoint_interval = '10s') AS {sql}"))?;
    let pipeline = database.pipelines().into_iter().next();
    let pipeline = pipeline.ok_or_else(|| Failure::new(Exit::Pipeline, "the view has no pipeline"))?;
    std::thread::sleep(WARM_UP);
    measure(&pipeline, name, seconds)
}

fn measure(pipeline: &Pipeline, name: &str, seconds: u64) -> Outcome<Value> {
    pipeline.reset_histograms();
    let (started, cpu, rows) = (Instant::now(), process::cpu_time(), pipeline.metrics().rows_in);
    std::thread::sleep(Duration::from_secs(seconds));
    let elapsed = started.elapsed().as_secs_f64();
    let metrics = pipeline.metrics();
    wait_for(pipeline, "rows", Duration::from_secs(60), |pipeline| pipeline.metrics().rows_in > rows)?;
    let history = pipeline.history();
    let published = history.iter().filter(|report| report.outcome == CheckpointOutcome::Published).count();
    let ms = |us: u64| rounded(us as f64 / 1e3);
    Ok(json!({
        "query": name,
        "rows_per_s": ((metrics.rows_in - rows) as f64 / elapsed).round(),
        "gap_ms_p99": ms(metrics.gap_us.p99), "gap_ms_max": ms(metrics.gap_us.max),
        "epoch_ms_p99": ms(metrics.epoch_us.p99),
        "state_bytes": metrics.state_bytes.0,
        "keys": metrics.keys,
        "checkpoints": published,
        "failed_checkpoints": metrics.failed_checkpoints,
        "rss_mb": rss_mb(),
        "cpu_cores": rounded((process::cpu_time() - cpu).as_secs_f64() / elapsed),
    }))
}

fn show(line: &Value, first: bool) {
    let names = ["query", "rows/s", "gap p99 ms", "max", "state", "ckpts", "RSS MiB"];
    let number = |key: &str| line[key].as_f64().unwrap_or_default();
    let row = vec![
        line["query"].as_str().unwrap_or_default().to_owned(),
        figures::rate(number("rows_per_s")),
        number("gap_ms_p99").to_string(),
        number("gap_ms_max").to_string(),
        figures::bytes(number("state_bytes") as u64),
        number("checkpoints").to_string(),
        number("rss_mb").to_string(),
    ];
    let shown = aligned(&names.map(str::to_owned), &[false, true, true, true, true, true, true], &[row]);
    // The names of the columns once.
    let lines = shown.lines().enumerate().filter(|(at, line)| *at == 2 || first && *at < 2 && !line.is_empty());
    lines.for_each(|(_, line)| eprintln!("{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_queries_and_what_they_read() {
        let all = queries();
        assert_eq!(all.first().map(|query| query.name), Some("q0"));
        assert_eq!(all.last().map(|query| query.name), Some("q22"));
        let kinds = |name: &str| kinds_of(all.iter().find(|query| query.name == name).expect("it is there").sql);
        assert_eq!(kinds("q5"), ["bid"]);
        assert_eq!(kinds("q8"), ["person", "auction"]);
        assert_eq!(kinds("q12"), ["bid"]);
        assert_eq!(kinds("q9"), ["auction", "bid"]);
        assert!(all.iter().all(|query| query.sql.starts_with("SELECT") && !query.sql.contains("--")));
    }
}
