//! Turns what pipelines say of themselves into readings for progress and measurements.

use crate::progress::{Checkpoint, Reading};
use highwater::{CheckpointOutcome, CheckpointReport, Database, Epoch, Pipeline, Status};
use std::collections::HashMap;
use std::time::Instant;

/// What was seen of a pipeline last time.
#[derive(Debug)]
struct Seen {
    at: Instant,
    rows: u64,
    epoch: Option<Epoch>,
}

/// Follows all pipelines of a database.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: HashMap<String, Seen>,
}

impl Watch {
    /// All pipelines now; rates and checkpoints are those since the last call.
    pub(crate) fn read(&mut self, database: &Database) -> Vec<Reading> {
        database.pipelines().iter().map(|pipeline| self.read_one(pipeline)).collect()
    }

    fn read_one(&mut self, pipeline: &Pipeline) -> Reading {
        let metrics = pipeline.metrics();
        let history = pipeline.history();
        let at = Instant::now();
        let name = pipeline.title().to_owned();
        let now = Seen { at, rows: metrics.rows_in, epoch: history.last().map(|report| report.epoch) };
        let before = self.seen.insert(name.clone(), now);
        let (rate, last) = before.map_or((0.0, None), |before| {
            let rows = metrics.rows_in.saturating_sub(before.rows);
            (rows as f64 / (at - before.at).as_secs_f64().max(1e-3), before.epoch)
        });
        Reading {
            pipeline: name,
            status: status(&pipeline.status()),
            rows: metrics.rows_in,
            rate,
            epoch_p50: metrics.epoch_us.p50,
            epoch_p99: metrics.epoch_us.p99,
            keys: metrics.keys,
            state: metrics.state_bytes.0,
            checkpoints: history
                .iter()
                .filter(|report| last.is_none_or(|last| report.epoch > last))
                .map(checkpoint)
                .collect(),
        }
    }
}

fn checkpoint(report: &CheckpointReport) -> Checkpoint {
    let failure = match &report.outcome {
        CheckpointOutcome::Published => None,
        CheckpointOutcome::Failed(reason) => Some(reason.clone()),
    };
    Checkpoint {
        id: report.id.0,
        failure,
        freeze_us: report.freeze_us,
        duration: report.duration,
        changed: report.changed_keys,
        delta: report.delta_bytes.0,
        uploaded: report.uploaded_bytes.0,
    }
}

fn status(status: &Status) -> String {
    match status {
        Status::Starting => "starting".to_owned(),
        Status::Running => "running".to_owned(),
        Status::Finished => "input ended".to_owned(),
        Status::Failed { reason, restarts } => format!("FAILED ({restarts} restarts): {reason}"),
        Status::Lost { reason } => format!("LOST: {reason}"),
        Status::Stopped => "stopped".to_owned(),
    }
}
