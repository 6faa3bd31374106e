//! The relations of `hw_catalog`: what the database is made of and how it is doing.

use crate::catalog::{Entry, Kind};
use crate::connection::Connection;
use crate::database::Database;
use crate::error::Result;
use crate::objects::{Body, Object, Subscribed};
use crate::outcome::Rows;
use crate::pipelines::for_a_while;
use crate::show::{self, numbers, texts};
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use highwater_engine::checkpoint::{Manifest, inspect};
use highwater_engine::{Metrics, Pipeline};
use highwater_sql::lower::errors_name;
use highwater_sql::statement::Show;
use std::sync::Arc;

type Named = (&'static str, Arc<dyn TableProvider>);

const NAMES: [&str; 13] = [
    "tables",
    "functions",
    "views",
    "view_progress",
    "sources",
    "source_splits",
    "dead_letters",
    "sinks",
    "indexes",
    "subscriptions",
    "operators",
    "settings",
    "checkpoints",
];

/// All of them as they are now. Those that read the store are empty unless the query's text names
/// them.
pub(crate) fn tables(database: &Database, connection: &Connection, text: &str) -> Result<Vec<Named>> {
    let text = text.to_lowercase();
    let table = |name| {
        let rows = relation(database, connection, name, text.contains(name))?;
        let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(rows.schema, vec![rows.batches])?);
        Ok((name, table))
    };
    NAMES.into_iter().map(table).collect()
}

fn relation(database: &Database, connection: &Connection, name: &str, is_named: bool) -> Result<Rows> {
    let newest = || if is_named { manifests(database) } else { Vec::new() };
    Ok(match name {
        "tables" => objects(database, Kind::Table),
        "functions" => crate::functions::listed(database),
        "views" => views(database),
        "view_progress" => progress(database),
        "sources" => objects(database, Kind::Source),
        "source_splits" => splits(database, newest()),
        "dead_letters" => dead_letters(database, connection, is_named)?,
        "sinks" => objects(database, Kind::Sink),
        "indexes" => indexes(database),
        "subscriptions" => subscriptions(database),
        "operators" => operators(database, newest()),
        "settings" => show::settings(&connection.settings()),
        _ if is_named => tokio::task::block_in_place(|| show::rows(database, connection, Show::Checkpoints(None)))?,
        _ => show::no_checkpoints(),
    })
}

fn objects(database: &Database, kind: Kind) -> Rows {
    let state = database.state();
    let all: Vec<&Entry> = state.catalog.entries().iter().filter(|entry| entry.kind == kind).collect();
    Rows::of(vec![
        ("id", numbers(all.iter().map(|entry| entry.id))),
        ("name", texts(all.iter().map(|entry| entry.name.clone()))),
        ("definition", texts(all.iter().map(|entry| entry.sql.clone()))),
        ("status", texts(all.iter().map(|entry| show::object_status(&state, entry)))),
    ])
}

fn indexes(database: &Database) -> Rows {
    let state = database.state();
    let index = |object: &Object| {
        let Body::Index(index) = &object.body else { return None };
        let key: Vec<&str> = index.columns.iter().map(|name| name.value.as_str()).collect();
        let texts = [object.name().to_owned(), index.on.value.clone(), key.join(", "), object.entry.sql.clone()];
        Some((object.entry.id, texts))
    };
    let all: Vec<(u64, [String; 4])> = state.objects.iter().filter_map(index).collect();
    let column = |at: usize| texts(all.iter().map(|(_, texts)| texts[at].clone()));
    Rows::of(vec![
        ("id", numbers(all.iter().map(|(id, _)| *id))),
        ("name", column(0)),
        ("relation", column(1)),
        ("key", column(2)),
        ("definition", column(3)),
    ])
}

fn subscriptions(database: &Database) -> Rows {
    let state = database.state();
    let subscription = |object: &Object| {
        let Body::Subscription(Subscribed { statement, journal }) = &object.body else { return None };
        let texts = [object.name().to_owned(), statement.from.value.clone(), object.entry.sql.clone()];
        Some(([object.entry.id, journal.spec().retention.as_secs()], texts))
    };
    let all: Vec<([u64; 2], [String; 3])> = state.objects.iter().filter_map(subscription).collect();
    let column = |at: usize| texts(all.iter().map(|(_, texts)| texts[at].clone()));
    let number = |at: usize| numbers(all.iter().map(|(numbers, _)| numbers[at]));
    Rows::of(vec![
        ("id", number(0)),
        ("name", column(0)),
        ("relation", column(1)),
        ("retention_seconds", number(1)),
        ("definition", column(2)),
    ])
}

fn views(database: &Database) -> Rows {
    let state = database.state();
    let is_view = |entry: &&Entry| matches!(entry.kind, Kind::View | Kind::MaterializedView);
    let all: Vec<&Entry> = state.catalog.entries().iter().filter(is_view).collect();
    let pipeline = |entry: &&Entry| {
        entry.pipeline.as_deref().map_or_else(String::new, |pipeline| state.objects.title(pipeline).to_owned())
    };
    Rows::of(vec![
        ("id", numbers(all.iter().map(|entry| entry.id))),
        ("name", texts(all.iter().map(|entry| entry.name.clone()))),
        ("materialized", texts(all.iter().map(|entry| (entry.kind == Kind::MaterializedView).to_string()))),
        ("pipeline", texts(all.iter().map(pipeline))),
        ("status", texts(all.iter().map(|entry| show::object_status(&state, entry)))),
        ("definition", texts(all.iter().map(|entry| entry.sql.clone()))),
    ])
}

/// All pipelines: those that run, then those that are broken.
fn progress(database: &Database) -> Rows {
    let state = database.state();
    let pipelines: Vec<Pipeline> = state.running.values().cloned().collect();
    let running: Vec<String> = pipelines.iter().map(|pipeline| show::doing(&state, pipeline)).collect();
    let (stopped, reasons) = show::stopped(&state);
    drop(state);
    let mut metrics: Vec<Metrics> = pipelines.iter().map(Pipeline::metrics).collect();
    metrics.resize_with(pipelines.len() + stopped.len(), Metrics::default);
    let count = |of: fn(&Metrics) -> u64| numbers(metrics.iter().map(of));
    let newest = database.tables.position();
    let last = pipelines.iter().map(Pipeline::last_failed_row).chain(reasons.iter().map(|_| None));
    Rows::of(vec![
        ("pipeline", texts(pipelines.iter().map(|p| p.title().to_owned()).chain(stopped))),
        ("status", texts(running.into_iter().chain(reasons.clone()))),
        ("backfill_percent", numbers(metrics.iter().map(|m| m.backfill / 10))),
        ("rows_in", count(|m| m.rows_in)),
        ("late_rows", count(|m| m.late_rows)),
        ("failed_rows", count(|m| m.failed_rows)),
        ("epochs", count(|m| m.epochs)),
        ("log_position", count(|m| m.horizon)),
        ("log_newest", numbers(metrics.iter().map(|_| newest))),
        ("epoch_us_p50", count(|m| m.epoch_us.p50)),
        ("epoch_us_p99", count(|m| m.epoch_us.p99)),
        ("keys", count(|m| m.keys)),
        ("state_bytes", count(|m| m.state_bytes.0)),
        ("restarts", count(|m| m.restarts)),
        ("last_failed_row", Arc::new(last.collect::<StringArray>())),
    ])
}

/// Manifests of the newest checkpoints of all running pipelines, as far as the root gives them in time.
fn manifests(database: &Database) -> Vec<(String, Manifest)> {
    let names: Vec<String> = database.state().running.keys().cloned().collect();
    // All together: a root that hangs is not waited for once a pipeline.
    let mut in_time = for_a_while();
    let manifest = |name: String| {
        let showing = inspect::show(database.engine.store(), &name, None);
        let shown = database.engine.wait_for_root(&name, showing, &mut in_time);
        shown.ok().flatten().map(|manifest| (name, manifest))
    };
    tokio::task::block_in_place(|| names.into_iter().filter_map(manifest).collect())
}

fn splits(database: &Database, manifests: Vec<(String, Manifest)>) -> Rows {
    let mut rows: Vec<[String; 4]> = Vec::new();
    let state = database.state();
    for (pipeline, manifest) in manifests {
        // What joined the pipeline later has nodes of its own.
        let readers: Vec<String> = state.objects.of_pipeline(&pipeline).map(|o| format!("{}:", o.kept())).collect();
        // What a query has by itself is no source.
        let sources =
            manifest.sources.iter().filter_map(|(node, splits)| Some((node.strip_suffix("/source")?, splits)));
        for (source, splits) in sources {
            for (split, offset) in splits {
                let of_reader = readers.iter().find_map(|reader| source.strip_prefix(reader.as_str()));
                let source = of_reader.unwrap_or(source);
                let title = state.objects.title(&pipeline).to_owned();
                let source = state.objects.shown(source).to_owned();
                rows.push([title, source, split.clone(), offset.to_string()]);
            }
        }
    }
    let column = |at: usize| texts(rows.iter().map(|row| row[at].clone()));
    Rows::of(vec![
        ("pipeline", column(0)),
        ("source", column(1)),
        ("split", column(2)),
        ("checkpointed_offset", column(3)),
    ])
}

/// The rows that connectors' tables could not read, as their pipelines keep them. The columns are those
/// of [`highwater_connectors::ERROR_COLUMNS`] with the table in the place of the first one.
fn dead_letters(database: &Database, connection: &Connection, is_named: bool) -> Result<Rows> {
    let names = ["source", "split", "offset", "at", "raw", "error"];
    let types = [
        DataType::Utf8,
        DataType::Utf8,
        DataType::Utf8,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Utf8,
        DataType::Utf8,
    ];
    let fields = names.into_iter().zip(types).map(|(name, of)| Field::new(name, of, true));
    let mut rows = Rows { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), batches: Vec::new() };
    if is_named {
        rows.batches = tokio::task::block_in_place(|| kept_letters(database, connection, &rows.schema))?;
    }
    Ok(rows)
}

fn kept_letters(database: &Database, connection: &Connection, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    // By the name under which a table and its pipeline are kept, what it is called.
    let keeping: Vec<(String, String)> = {
        let state = database.state();
        let keeps = |object: &&Object| matches!(&object.body, Body::Fed(fed) if fed.table.error_columns > 0);
        let names = |object: &Object| (object.kept().to_owned(), object.name().to_owned());
        state.objects.iter().filter(keeps).map(names).collect()
    };
    database.wait_for_pipelines(connection, &keeping.iter().map(|(kept, _)| kept.clone()).collect())?;
    let mut all = Vec::new();
    for (kept, table) in keeping {
        let running = database.running(&database.state(), &kept)?;
        for batch in running.scan(&[errors_name(&kept)])?.views.into_iter().flatten() {
            let mut columns = batch.columns().to_vec();
            columns[0] = texts((0..batch.num_rows()).map(|_| table.clone()));
            all.push(RecordBatch::try_new(Arc::clone(schema), columns)?);
        }
    }
    Ok(all)
}

fn operators(database: &Database, manifests: Vec<(String, Manifest)>) -> Rows {
    let state = database.state();
    let mut rows: Vec<(String, highwater_engine::checkpoint::OperatorMeta)> = Vec::new();
    for (pipeline, manifest) in manifests {
        rows.extend(manifest.operators.into_iter().map(|operator| (pipeline.clone(), operator)));
    }
    Rows::of(vec![
        ("pipeline", texts(rows.iter().map(|(pipeline, _)| state.objects.title(pipeline).to_owned()))),
        ("id", numbers(rows.iter().map(|(_, operator)| u64::from(operator.id.0)))),
        ("name", texts(rows.iter().map(|(_, operator)| operator.name.clone()))),
        ("kind", texts(rows.iter().map(|(_, operator)| operator.kind.clone()))),
        ("keys", numbers(rows.iter().map(|(_, operator)| operator.keys))),
        ("bytes", numbers(rows.iter().map(|(_, operator)| operator.bytes))),
    ])
}
