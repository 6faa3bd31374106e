//! Which positions of a log the checkpoints of a pipeline may come back to, and how far the targets of its
//! sinks had come at each.
//!
//! A change source's log must keep what follows the oldest checkpoint that may be restored. The
//! offsets of checkpoints that this run neither published nor restored are not known here, so
//! nothing is told until these have left the list.
//!
//! What a checkpoint counts as delivered is in no outbox of it, so nobody gives it again: a target that was
//! put back from an older copy would lack it. Invariant: a pipeline goes on only from a checkpoint whose logs
//! and targets are those that are there, and have come as far.

use crate::build::changes::LOG_SPLIT;
use crate::changes::ChangeSource;
use crate::error::Result;
use crate::lost::check_object;
use crate::plan::{Operator, Plan};
use crate::run::is_of;
use crate::shared::caught;
use crate::sink::Sink;
use crate::source::Offset;
use highwater_checkpoint::Manifest;
use highwater_core::CheckpointId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the change sources of a plan would go on from a checkpoint.
pub fn log_offsets<'a>(
    plan: &'a Plan,
    manifest: &'a Manifest,
) -> impl Iterator<Item = (&'a Arc<dyn ChangeSource>, &'a Offset)> {
    plan.nodes.iter().filter_map(move |node| {
        let Operator::Changes(source) = &node.operator else { return None };
        Some((source, manifest.sources.get(&node.name)?.get(LOG_SPLIT)?))
    })
}

/// Refuses a checkpoint of another object of the pipeline's name, or that goes on from other logs than those of a
/// plan, or whose sinks were given what their targets do not have. Of checkpoints that do not tell what targets had
/// that is not known.
///
/// # Errors
/// `Connector` for another object; those of [`ChangeSource::check`] and [`Sink::check_reached`].
pub fn check_positions(plan: &Plan, manifest: &Manifest) -> Result<()> {
    check_object(plan, manifest)?;
    log_offsets(plan, manifest).try_for_each(|(source, offset)| source.check(offset))?;
    for node in &plan.nodes {
        let (Operator::Sink(sink), Some(reached)) = (&node.operator, manifest.sinks.get(&node.name)) else { continue };
        // Of what another sink of its name was given it needs nothing.
        if manifest.operators.iter().any(|operator| is_of(node, operator)) {
            caught(&node.name, || sink.check_reached(reached))?;
        }
    }
    Ok(())
}

/// The change sources of a plan, by their nodes' names.
pub(crate) fn change_sources(plan: &Plan) -> impl Iterator<Item = (&str, &Arc<dyn ChangeSource>)> {
    plan.nodes.iter().filter_map(|node| match &node.operator {
        Operator::Changes(source) => Some((node.name.as_str(), source)),
        _ => None,
    })
}

/// The sinks of a plan, by their nodes' names.
fn sinks(plan: &Plan) -> impl Iterator<Item = (&str, &Arc<dyn Sink>)> {
    plan.nodes.iter().filter_map(|node| match &node.operator {
        Operator::Sink(sink) => Some((node.name.as_str(), sink)),
        _ => None,
    })
}

/// The change sources of a run and their offsets in its checkpoints, and its sinks.
#[derive(Clone, Default)]
pub(crate) struct Positions {
    sources: Arc<Vec<(String, Arc<dyn ChangeSource>)>>,
    sinks: Arc<Vec<(String, Arc<dyn Sink>)>>,
    known: Arc<Mutex<BTreeMap<CheckpointId, Vec<Option<Offset>>>>>,
}

impl Positions {
    /// Those of a plan, and what was restored.
    pub(crate) fn new(plan: &Plan, restored: Option<&Manifest>) -> Self {
        let sources = change_sources(plan).map(|(name, source)| (name.to_owned(), Arc::clone(source))).collect();
        let sinks = sinks(plan).map(|(name, sink)| (name.to_owned(), Arc::clone(sink))).collect();
        let this = Self { sources: Arc::new(sources), sinks: Arc::new(sinks), known: Arc::default() };
        if let Some(manifest) = restored {
            this.note(manifest);
        }
        this
    }

    /// How far the targets of sinks have come, of those that tell.
    ///
    /// # Errors
    /// Those of [`Sink::reached`].
    pub(crate) fn reached(&self) -> Result<BTreeMap<String, Offset>> {
        let mut all = BTreeMap::new();
        for (name, sink) in self.sinks.iter() {
            if let Some(reached) = caught(name, || sink.reached())? {
                all.insert(name.clone(), reached);
            }
        }
        Ok(all)
    }

    fn note(&self, manifest: &Manifest) {
        let offset = |name: &String| manifest.sources.get(name).and_then(|splits| splits.get(LOG_SPLIT)).cloned();
        let offsets = self.sources.iter().map(|(name, _)| offset(name)).collect();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(manifest.checkpoint, offsets);
    }

    /// A checkpoint of `pipeline` was published; these are the ones that may be restored now.
    pub(crate) fn published(&self, pipeline: &str, manifest: &Manifest, listed: &[CheckpointId]) {
        if self.sources.is_empty() {
            return;
        }
        self.note(manifest);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|checkpoint, _| listed.contains(checkpoint));
        if listed.iter().any(|checkpoint| !known.contains_key(checkpoint)) {
            return;
        }
        for (at, (_, source)) in self.sources.iter().enumerate() {
            // A checkpoint without an offset was made before the source was read: it begins anew.
            let offsets: Vec<Offset> = known.values().filter_map(|offsets| offsets[at].clone()).collect();
            source.retained(pipeline, &offsets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::plan::{Node, OnError};
    use crate::sink::Target;
    use arrow::datatypes::{Schema, SchemaRef};
    use highwater_checkpoint::{OperatorMeta, Trigger};
    use highwater_core::OperatorId;

    /// A sink whose target has come so far, if it tells.
    #[derive(Debug)]
    struct Tape(Option<u64>);

    impl Sink for Tape {
        fn check(&self, _: &SchemaRef, _: bool) -> Result<()> {
            Ok(())
        }

        fn open(&self, _: &SchemaRef) -> Result<Box<dyn Target>> {
            Err(Error::Plan("nobody delivers".to_owned()))
        }

        fn reached(&self) -> Result<Option<Offset>> {
            Ok(self.0.map(Offset::from))
        }

        fn check_reached(&self, reached: &Offset) -> Result<()> {
            match self.0 {
                Some(length) if reached.as_u64().is_some_and(|reached| reached <= length) => Ok(()),
                _ => Err(Error::data("tape", "it is another one")),
            }
        }
    }

    fn plan(sinks: &[(&str, u64, Option<u64>)]) -> Plan {
        let node = |(name, incarnation, length): &(&str, u64, Option<u64>)| Node {
            name: (*name).to_owned(),
            incarnation: *incarnation,
            inputs: Vec::new(),
            operator: Operator::Sink(Arc::new(Tape(*length))),
            schema: Arc::new(Schema::empty()),
            append_only: true,
            on_error: OnError::Fail,
        };
        Plan { nodes: sinks.iter().map(node).collect(), ..Plan::default() }
    }

    /// A checkpoint of a plan as it is now.
    fn checkpoint(plan: &Plan) -> Manifest {
        let operator = |(at, node): (usize, &Node)| OperatorMeta {
            id: OperatorId(at as u32),
            name: node.name.clone(),
            incarnation: node.incarnation,
            kind: "sink".to_owned(),
            version: 1,
            keys: 0,
            bytes: 0,
        };
        Manifest {
            operators: plan.nodes.iter().enumerate().map(operator).collect(),
            sinks: Positions::new(plan, None).reached().expect("they tell"),
            ..Manifest::draft("p", Trigger::Manual)
        }
    }

    #[test]
    fn a_checkpoint_is_refused_by_targets_that_have_not_come_so_far() {
        let made = checkpoint(&plan(&[("a", 0, Some(7)), ("b", 0, None), ("c", 0, Some(2))]));
        assert_eq!(made.sinks, BTreeMap::from([("a".to_owned(), 7.into()), ("c".to_owned(), 2.into())]));
        let goes_on = |sinks: &[(&str, u64, Option<u64>)]| check_positions(&plan(sinks), &made).is_ok();
        assert!(goes_on(&[("a", 0, Some(7)), ("b", 0, None), ("c", 0, Some(9))]));
        assert!(!goes_on(&[("a", 0, Some(6)), ("b", 0, None), ("c", 0, Some(9))]));
        assert!(!goes_on(&[("c", 0, Some(1))]));
        assert!(goes_on(&[("a", 1, Some(0)), ("d", 0, Some(0))]), "others were given nothing");
        assert!(goes_on(&[]));
        let older = Manifest { sinks: BTreeMap::new(), ..made.clone() };
        assert!(check_positions(&plan(&[("a", 0, Some(0)), ("c", 0, None)]), &older).is_ok(), "it does not tell");
    }

    #[test]
    fn a_checkpoint_is_refused_by_another_object_of_the_pipelines_name() {
        let made = checkpoint(&plan(&[("t/source", 0, None), ("p/map", 1, None), ("q/sink", 2, None)]));
        let goes_on = |sinks: &[(&str, u64, Option<u64>)]| check_positions(&plan(sinks), &made).is_ok();
        assert!(goes_on(&[("t/source", 0, None), ("p/sink", 1, None)]));
        assert!(goes_on(&[("q/sink", 3, None), ("p/x/sink", 7, None), ("p/map", 1, None)]), "others may be made anew");
        for incarnation in [0, 2] {
            assert!(!goes_on(&[("t/source", 0, None), ("p/sink", incarnation, None)]), "{incarnation}");
        }
        let refused = check_positions(&plan(&[("p/sink", 2, None)]), &made).expect_err("another object").to_string();
        assert!(refused.contains("number 1 where this one is number 2"), "{refused}");
    }
}
