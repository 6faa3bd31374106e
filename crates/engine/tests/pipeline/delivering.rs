//! Deliveries to a sink while checkpoints fail: each row once, whatever fails and ends when.

use crate::numbers::{Numbers, Wanted, read_groups, spec_of};
use crate::wait_for;
use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, SchemaRef};
use highwater_engine::core::CheckpointId;
use highwater_engine::plan::{Node, NodeId, OnError, Operator};
use highwater_engine::sink::{DeliveryPermit, Sink, Target};
use highwater_engine::{
    Batch, CheckpointOutcome, CheckpointSettings, Engine, EngineConfig, Pipeline, PipelineSpec, Result, Trigger,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

/// A target that takes each part of a checkpoint once, as long as their numbers rise.
#[derive(Clone, Debug, Default)]
struct Ledger(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    /// The newest checkpoint, by part.
    fences: BTreeMap<u32, u64>,
    values: Vec<i64>,
}

impl Ledger {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().expect("no delivery panics")
    }
}

impl Sink for Ledger {
    fn check(&self, _: &SchemaRef, _: bool) -> Result<()> {
        Ok(())
    }

    fn open(&self, _: &SchemaRef) -> Result<Box<dyn Target>> {
        Ok(Box::new(self.clone()))
    }

    fn delivered(&self) -> Result<Option<CheckpointId>> {
        // It answers while nobody else is at it.
        drop(self.taken());
        Ok(None)
    }
}

impl Target for Ledger {
    fn deliver(&mut self, permit: DeliveryPermit, part: u32, rows: &[Batch]) -> Result<()> {
        let mut taken = self.taken();
        let number = permit.checkpoint().0;
        if taken.fences.get(&part).is_some_and(|newest| *newest >= number) {
            return Ok(());
        }
        taken.fences.insert(part, number);
        for batch in rows {
            taken.values.extend(batch.rows.column(1).as_primitive::<Int64Type>().values().iter());
        }
        Ok(())
    }
}

/// The numbers' view, and a sink of all numbers; no checkpoint is made unless it is asked for.
fn spec(numbers: &Arc<Numbers>, ledger: &Ledger) -> PipelineSpec {
    let mut spec = spec_of("p", numbers, Wanted::View);
    let schema = Arc::clone(&spec.plan.nodes[0].schema);
    spec.plan.nodes.push(Node {
        name: "ledger".to_owned(),
        incarnation: 0,
        inputs: vec![NodeId(0)],
        operator: Operator::Sink(Arc::new(ledger.clone())),
        schema,
        append_only: true,
        on_error: OnError::Fail,
    });
    spec.settings = CheckpointSettings { interval: None, ..CheckpointSettings::default() };
    spec
}

/// A checkpoint root that can be taken away.
struct Root {
    path: PathBuf,
    away: PathBuf,
}

impl Root {
    fn under(folder: &Path) -> Self {
        Self { path: folder.join("root"), away: folder.join("away") }
    }

    fn take_away(&self) {
        fs::rename(&self.path, &self.away).expect("moved");
        // Else the folder would be made again.
        fs::write(&self.path, b"").expect("written");
    }

    fn bring_back(&self) {
        fs::remove_file(&self.path).expect("removed");
        fs::rename(&self.away, &self.path).expect("moved");
    }
}

/// Gives so many numbers more, makes a checkpoint when the view has them, and tells whether it is published.
pub(crate) fn grow(pipeline: &Pipeline, numbers: &Numbers, rows: u64) -> bool {
    let all = numbers.end.fetch_add(rows, Relaxed) + rows;
    wait_for("reading to the end", || {
        read_groups(pipeline).values().map(|(count, _)| count).sum::<i64>() == all as i64
    });
    let report = pipeline.checkpoint(Trigger::Manual).expect("it runs");
    report.outcome == CheckpointOutcome::Published
}

#[test]
fn a_target_that_does_not_answer_is_not_told_of_the_root() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = EngineConfig { workers: 1, ..EngineConfig::new(folder.path()) };
    let engine = Engine::start(config).expect("an engine starts");
    let (numbers, ledger) = (Numbers::new(0, 100), Ledger::default());
    let taken = ledger.taken();
    let given_up = engine.create_while(spec(&numbers, &ledger), |has_answered| !has_answered);
    assert!(given_up.expect("nothing has failed").is_none());
    drop(taken);
    engine.shutdown().expect("stops");
}

#[test]
fn what_failed_checkpoints_held_for_a_sink_is_delivered_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, numbers, ledger) = (Root::under(folder.path()), Numbers::new(0, 100), Ledger::default());
    for heals in [true, false, true] {
        let config = EngineConfig {
            workers: 2,
            checkpoint_root: root.path.display().to_string(),
            ..EngineConfig::new(folder.path().join("data"))
        };
        let engine = Engine::start(config).expect("an engine starts");
        let pipeline = engine.create(spec(&numbers, &ledger)).expect("creates");
        assert!(grow(&pipeline, &numbers, 1000));
        root.take_away();
        // While there is nothing to upload they fail in their publications.
        for rows in [30, 30, 30_000, 30] {
            assert!(!grow(&pipeline, &numbers, rows), "there is no root");
        }
        if heals {
            root.bring_back();
            assert!(grow(&pipeline, &numbers, 30));
            let all = numbers.end.load(Relaxed) as usize;
            wait_for("the deliveries", || ledger.taken().values.len() >= all);
            engine.shutdown().expect("stops");
        } else {
            drop(engine);
            root.bring_back();
        }
    }
    let mut values = std::mem::take(&mut ledger.taken().values);
    values.sort_unstable();
    assert!(values.into_iter().eq(0..numbers.end.load(Relaxed) as i64), "each number once");
}
