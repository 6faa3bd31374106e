//! SHOW and DESCRIBE: what there is and how it is doing, as rows.

use crate::catalog::{Entry, Kind};
use crate::connection::Connection;
use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::objects::Object;
use crate::outcome::{Outcome, Rows};
use crate::settings::ON_ERROR;
use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray, UInt64Array};
use highwater_engine::checkpoint::inspect;
use highwater_engine::{CheckpointReport, FailingDelivery, Metrics, Pipeline, Status};
use highwater_sql::statement::{Name, Show};
use highwater_sql::types::pg_name;
use highwater_sql::with_settings;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Answers a SHOW. What is broken is told beside the names.
pub(crate) fn show(database: &Database, connection: &Connection, what: Show) -> Result<Outcome> {
    let notices = kind_of(&what).map_or_else(Vec::new, |kind| broken(&database.state(), kind));
    let shown = Outcome::rows("SHOW", rows(database, connection, what)?);
    Ok(notices.into_iter().fold(shown, Outcome::noticed))
}

/// The kind of the objects whose names are shown.
const fn kind_of(what: &Show) -> Option<Kind> {
    Some(match what {
        Show::Tables => Kind::Table,
        Show::Sources => Kind::Source,
        Show::Views => Kind::View,
        Show::MaterializedViews => Kind::MaterializedView,
        Show::Indexes(_) => Kind::Index,
        Show::Sinks => Kind::Sink,
        Show::Subscriptions => Kind::Subscription,
        Show::Functions
        | Show::Cursors
        | Show::SubscriptionCursors
        | Show::Jobs
        | Show::Checkpoints(_)
        | Show::Create(_)
        | Show::CreateFunction(_)
        | Show::Setting(_)
        | Show::All => return None,
    })
}

fn broken(state: &State, kind: Kind) -> Vec<String> {
    let of_kind = state.catalog.entries().iter().filter(|entry| entry.kind == kind);
    let told = of_kind.map(|entry| (entry, object_status(state, entry)));
    let broken = told.filter(|(_, status)| status.starts_with(BROKEN));
    broken.map(|(entry, status)| format!("{:?} is {status}", entry.name)).collect()
}

/// The rows of a SHOW.
pub(crate) fn rows(database: &Database, connection: &Connection, what: Show) -> Result<Rows> {
    Ok(match what {
        Show::Tables => names(database, Kind::Table),
        Show::Sources => names(database, Kind::Source),
        Show::Views => names(database, Kind::View),
        Show::MaterializedViews => names(database, Kind::MaterializedView),
        Show::Indexes(on) => crate::index::shown(database, on.as_ref())?,
        Show::Sinks => names(database, Kind::Sink),
        Show::Subscriptions => crate::subscription::shown(database),
        Show::Cursors => crate::cursor::shown(connection),
        Show::SubscriptionCursors => crate::subscription::shown_cursors(database, connection),
        Show::Functions => crate::functions::shown(database),
        Show::Jobs => jobs(database, connection)?,
        Show::Checkpoints(view) => checkpoints(database, connection, view.as_ref())?,
        Show::Create(name) => {
            let state = database.state();
            let entry = state.catalog.entry(&name.value).ok_or_else(|| unknown(&name))?;
            Rows::of(vec![("name", texts([entry.name.clone()])), ("create_sql", texts([created(entry)]))])
        }
        Show::CreateFunction(name) => {
            let state = database.state();
            let function = crate::functions::find(&state, &name)?;
            let (name, sql) = (function.name.clone(), function.sql.clone());
            Rows::of(vec![("name", texts([name])), ("create_sql", texts([sql]))])
        }
        Show::Setting(name) => return Err(unknown_setting(&name)),
        Show::All => settings(&database.connect().settings()),
    })
}

/// The CREATE of an object as it would be written now, with the settings that ALTER has changed.
fn created(entry: &Entry) -> String {
    let takes = |key: &str| match entry.kind {
        Kind::MaterializedView => true,
        Kind::Sink => key == ON_ERROR,
        _ => false,
    };
    let altered = entry.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let altered: BTreeMap<&str, &str> = altered.filter(|(key, _)| takes(key)).collect();
    // What is broken may have a text that does not parse.
    with_settings(&entry.sql, &altered).unwrap_or_else(|_| entry.sql.clone())
}

/// Answers DESCRIBE.
pub(crate) fn describe(state: &State, name: &Name) -> Result<Outcome> {
    let fields = find(state, name)?.schema.fields().clone();
    let columns = vec![
        ("name", texts(fields.iter().map(|f| f.name().clone()))),
        ("type", texts(fields.iter().map(|f| pg_name(f.data_type())))),
    ];
    Ok(Outcome::rows("DESCRIBE", Rows::of(columns)))
}

/// An object by name.
pub(crate) fn find<'a>(state: &'a State, name: &Name) -> Result<&'a Object> {
    state.objects.get(&name.value).ok_or_else(|| unknown(name))
}

/// The error for a name that stands for nothing.
pub(crate) fn unknown(name: &Name) -> Error {
    let kind = highwater_sql::Kind::Relation;
    highwater_sql::Error::Unknown { kind, name: name.value.clone(), position: Some(name.at) }.into()
}

pub(crate) fn texts(values: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(crate) fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn names(database: &Database, kind: Kind) -> Rows {
    let state = database.state();
    let of_kind = state.catalog.entries().iter().filter(|entry| entry.kind == kind);
    let mut names: Vec<String> = of_kind.map(|entry| entry.name.clone()).collect();
    names.sort();
    Rows::text("name", names)
}

/// The error for a setting that nobody set or knows.
pub(crate) fn unknown_setting(name: &Name) -> Error {
    let kind = highwater_sql::Kind::Setting;
    highwater_sql::Error::Unknown { kind, name: name.value.clone(), position: Some(name.at) }.into()
}

/// SHOW ALL.
pub(crate) fn settings(all: &BTreeMap<String, String>) -> Rows {
    Rows::of(vec![("name", texts(all.keys().cloned())), ("setting", texts(all.values().cloned()))])
}

fn jobs(database: &Database, connection: &Connection) -> Result<Rows> {
    let mut state = database.state();
    if state.deferring {
        state = database.settle(connection, state)?;
    }
    let pipelines: Vec<Pipeline> = state.running.values().cloned().collect();
    let told = |pipeline: &Pipeline| [vec![doing(&state, pipeline)], failing(&state, pipeline)].concat().join("; ");
    let told: Vec<String> = pipelines.iter().map(told).collect();
    let (mut stopped, mut reasons) = stopped(&state);
    // Who needs them begins them, and waits for the root, which may not answer.
    for pipeline in state.waiting.iter().filter(|pipeline| !state.running.contains_key(*pipeline)) {
        stopped.push(state.objects.title(pipeline).to_owned());
        reasons.push(NOT_RUNNING.to_owned());
    }
    drop(state);
    let mut metrics: Vec<Metrics> = pipelines.iter().map(Pipeline::metrics).collect();
    metrics.resize_with(pipelines.len() + stopped.len(), Metrics::default);
    let count = |of: fn(&Metrics) -> u64| numbers(metrics.iter().map(of));
    Ok(Rows::of(vec![
        ("name", texts(pipelines.iter().map(|p| p.title().to_owned()).chain(stopped))),
        ("status", texts(told.into_iter().chain(reasons))),
        ("backfill_percent", count(|m| m.backfill / 10)),
        ("rows_in", count(|m| m.rows_in)),
        ("epochs", count(|m| m.epochs)),
        ("epoch_us_p50", count(|m| m.epoch_us.p50)),
        ("epoch_us_p99", count(|m| m.epoch_us.p99)),
        ("keys", count(|m| m.keys)),
        ("state_bytes", count(|m| m.state_bytes.0)),
        ("checkpoints", count(|m| m.checkpoints)),
        ("failed_checkpoints", count(|m| m.failed_checkpoints)),
        ("freeze_us_max", count(|m| m.freeze_us.max)),
        ("restarts", count(|m| m.restarts)),
        ("skipped_rows", count(|m| m.skipped_rows)),
        ("late_rows", count(|m| m.late_rows)),
        ("failed_rows", count(|m| m.failed_rows)),
    ]))
}

/// The status of what a session is just beginning.
const BEING_BEGUN: &str = "starting";
/// The status of what nobody has begun yet.
const NOT_RUNNING: &str = "not running";
/// How the status of what could not be brought back begins.
const BROKEN: &str = "broken: ";

/// What an object's pipeline does, or why the object is broken; empty where there is nothing to tell.
pub(crate) fn object_status(state: &State, entry: &Entry) -> String {
    let broken = |reason: &str| format!("{BROKEN}{reason}");
    if let Some(reason) = state.broken.why(&entry.name) {
        return broken(reason);
    }
    let Some(pipeline) = &entry.pipeline else { return String::new() };
    match state.running.get(pipeline) {
        Some(running) => {
            let stuck = stuck_sinks(state, running).into_iter().filter(|(sink, _)| *sink == entry.name);
            std::iter::once(doing(state, running)).chain(stuck.map(|(_, told)| told)).collect::<Vec<_>>().join("; ")
        }
        None if state.restoring.is_being_begun(pipeline) => BEING_BEGUN.to_owned(),
        None if state.restoring.holds(pipeline) => "restoring".to_owned(),
        None => state.broken.why_not_running(pipeline).map_or_else(|| NOT_RUNNING.to_owned(), broken),
    }
}

/// The pipelines that are broken, and their status.
pub(crate) fn stopped(state: &State) -> (Vec<String>, Vec<String>) {
    let stopped = state.broken.stopped().into_iter();
    stopped.map(|(name, reason)| (state.objects.title(&name).to_owned(), format!("{BROKEN}{reason}"))).unzip()
}

/// The sinks of a pipeline that cannot deliver, or whose deliveries do not end, and why; and those that were given
/// more than there is.
pub(crate) fn failing(state: &State, pipeline: &Pipeline) -> Vec<String> {
    let ahead = pipeline.sinks_ahead().into_iter().map(|(sink, what)| {
        format!(
            "sink {:?} {what}: its target may have rows twice, and some that are gone; to be sure, empty the target, \
             drop the sink and create it anew",
            sink_name(state, &sink)
        )
    });
    stuck_sinks(state, pipeline).into_iter().map(|(_, told)| told).chain(ahead).collect()
}

/// What a sink of the engine is called.
fn sink_name(state: &State, sink: &str) -> String {
    let kept = sink.rsplit_once('/').map_or(sink, |(kept, _)| kept);
    state.objects.shown(kept).to_owned()
}

/// The sinks of a pipeline that cannot deliver, or whose deliveries do not end, by their names, and why.
fn stuck_sinks(state: &State, pipeline: &Pipeline) -> Vec<(String, String)> {
    let mut failing = pipeline.failing_deliveries();
    // Some have deliveries on several workers.
    failing.dedup_by(|one, other| {
        let is_same = one.sink == other.sink;
        if is_same {
            other.waiting += one.waiting;
            other.bytes.0 += one.bytes.0;
        }
        is_same
    });
    let told = |failing: FailingDelivery| {
        let name = sink_name(state, &failing.sink);
        let words = in_words(&name, &failing);
        (name, words)
    };
    failing.into_iter().map(told).collect()
}

fn in_words(name: &str, failing: &FailingDelivery) -> String {
    let FailingDelivery { hangs, reason, waiting, bytes, .. } = failing;
    let what = if *hangs { "hangs" } else { "cannot deliver for now, and is tried again" };
    format!("sink {name:?} {what}: {reason} ({waiting} deliveries of {bytes} wait)")
}

/// What a pipeline does, and whether somebody wants it to take no rows.
pub(crate) fn doing(state: &State, pipeline: &Pipeline) -> String {
    match pipeline.status() {
        _ if state.restoring.is_being_begun(pipeline.name()) => BEING_BEGUN.to_owned(),
        Status::Running if state.catalog.is_paused(pipeline.name()) => "paused".to_owned(),
        other => status(&other),
    }
}

fn status(status: &Status) -> String {
    match status {
        Status::Failed { reason, restarts } => format!("failed, {restarts} restarts: {reason}"),
        Status::Lost { reason } => format!("lost: {reason}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// One line of SHOW CHECKPOINTS: in full for those of this process, in part for older ones.
struct Line {
    pipeline: String,
    id: u64,
    epoch: u64,
    wall: i64,
    outcome: String,
    report: Option<CheckpointReport>,
    bytes: u64,
    files: u64,
}

fn checkpoints(database: &Database, connection: &Connection, view: Option<&Name>) -> Result<Rows> {
    let pipelines: Vec<Pipeline> = {
        let state = database.settle(connection, database.state())?;
        match view {
            Some(name) => vec![database.pipeline_named(&state, name)?],
            None => state.running.values().cloned().collect(),
        }
    };
    let asked = view.map_or("SHOW CHECKPOINTS", |name| name.value.as_str());
    let listing = inspect::list(database.engine.store());
    let is_wanted = || connection.check_cancelled().is_ok();
    let Some(stored) = database.engine.wait_for_root(asked, listing, is_wanted)? else {
        connection.check_cancelled()?;
        return Ok(no_checkpoints());
    };
    let mut lines = Vec::new();
    for pipeline in pipelines {
        let reports = pipeline.history();
        for summary in stored.iter().filter(|s| s.pipeline == pipeline.name()) {
            let older = summary.checkpoints.iter().filter(|c| {
                let same = |r: &CheckpointReport| {
                    r.id == c.entry.checkpoint && r.outcome == highwater_engine::CheckpointOutcome::Published
                };
                !reports.iter().any(same)
            });
            lines.extend(older.map(|c| stored_line(pipeline.title(), c)));
        }
        lines.extend(reports.into_iter().map(|r| report_line(pipeline.title(), r)));
    }
    Ok(checkpoint_rows(&lines))
}

/// The same columns without rows.
pub(crate) fn no_checkpoints() -> Rows {
    checkpoint_rows(&[])
}

fn stored_line(pipeline: &str, stored: &inspect::CheckpointSummary) -> Line {
    let content = stored.content.as_ref().ok();
    Line {
        pipeline: pipeline.to_owned(),
        id: stored.entry.checkpoint.0,
        epoch: content.map_or(0, |c| c.epoch.0),
        wall: stored.entry.wall.0,
        outcome: match &stored.content {
            Ok(_) => "published".to_owned(),
            Err(damage) => format!("damaged: {damage}"),
        },
        report: None,
        bytes: content.map_or(0, |c| c.bytes),
        files: content.map_or(0, |c| c.files as u64),
    }
}

fn report_line(pipeline: &str, report: CheckpointReport) -> Line {
    Line {
        pipeline: pipeline.to_owned(),
        id: report.id.0,
        epoch: report.epoch.0,
        wall: report.wall.0,
        outcome: match &report.outcome {
            highwater_engine::CheckpointOutcome::Failed(reason) => format!("failed: {reason}"),
            other => format!("{other:?}").to_lowercase(),
        },
        bytes: report.full_bytes.0,
        files: report.files as u64,
        report: Some(report),
    }
}

fn checkpoint_rows(lines: &[Line]) -> Rows {
    let told = |of: fn(&CheckpointReport) -> u64| -> ArrayRef {
        Arc::new(lines.iter().map(|l| l.report.as_ref().map(of)).collect::<UInt64Array>())
    };
    let trigger = lines.iter().map(|l| l.report.as_ref().map(|r| format!("{:?}", r.trigger).to_lowercase()));
    let walls = TimestampMicrosecondArray::from_iter_values(lines.iter().map(|l| l.wall));
    Rows::of(vec![
        ("pipeline", texts(lines.iter().map(|l| l.pipeline.clone()))),
        ("checkpoint", numbers(lines.iter().map(|l| l.id))),
        ("epoch", numbers(lines.iter().map(|l| l.epoch))),
        ("at", Arc::new(walls.with_timezone("UTC"))),
        ("trigger", Arc::new(trigger.collect::<StringArray>())),
        ("outcome", texts(lines.iter().map(|l| l.outcome.clone()))),
        ("freeze_us", told(|r| r.freeze_us)),
        ("duration_ms", told(|r| u64::try_from(r.duration.as_millis()).unwrap_or(u64::MAX))),
        ("changed_keys", told(|r| r.changed_keys)),
        ("delta_bytes", told(|r| r.delta_bytes.0)),
        ("uploaded_bytes", told(|r| r.uploaded_bytes.0)),
        ("full_bytes", numbers(lines.iter().map(|l| l.bytes))),
        ("files", numbers(lines.iter().map(|l| l.files))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_engine::core::Bytes;

    #[test]
    fn a_sink_that_hangs_is_told_apart_from_one_that_fails() {
        let (sink, reason) = ("k/sink".to_owned(), "boom".to_owned());
        let mut failing = FailingDelivery { sink, hangs: false, reason, waiting: 2, bytes: Bytes(10) };
        let fails = "sink \"k\" cannot deliver for now, and is tried again: boom (2 deliveries of 10 B wait)";
        assert_eq!(in_words("k", &failing), fails);
        failing.hangs = true;
        assert_eq!(in_words("k", &failing), "sink \"k\" hangs: boom (2 deliveries of 10 B wait)");
    }
}
