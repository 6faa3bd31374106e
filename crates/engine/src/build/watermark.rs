//! The Timely operators of a watermark and of what goes by it.
//!
//! ```text
//! rows ─┬▶ seen ─ to the owner ─▶ keeper ─▶ marks, one a worker ─┬▶ closing groups
//!       └──────────────────────────────▶ on time ◀───────────────┘
//! ```
//! An epoch's rows wait until its mark is known to be final, which the frontier of the marks says.
//! Invariant: what a backfill gives before its last piece moves no watermark.

use super::operators::Inputs;
use super::{Builder, Built, Filling, Flows, Wiring};
use crate::batch::Batch;
use crate::keys::ToAll;
use crate::ops::watermark::{Marks, broken, on_time, seen};
use crate::plan::{Closing, NodeId, Passing, Watermark};
use crate::tables;
use crate::wire::Flow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator as _;

impl<'s> Wiring<'_, 's> {
    pub(super) fn watermark(&mut self, id: NodeId, watermark: &Watermark) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let node = &spec.plan.nodes[id.0];
        let rows = self.input_at(id, 0);
        let filling = self.built[node.inputs[0].0].filling.clone();
        let told = self.seen(id, watermark.time, rows.clone(), filling);
        let keeper = spec.run.step(&node.name, || tables::watermark(&spec.tables(self.place), id));
        let kept = self.stateful(id, Inputs { dealt: vec![told], local: Vec::new() }, keeper);
        let marks = self.everywhere(id, kept.changes);
        let changes = self.on_time(id, watermark.time, rows, marks.clone());
        Built { marks: Some(marks), ..Built::changes(changes) }
    }

    pub(super) fn closing(&mut self, id: NodeId, closing: &Closing) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::closing(&spec.tables(self.place), id));
        let (preparation, logic) = made.unzip();
        let keyed = self.keyed(id, preparation);
        let local = self.marks_of(&closing.passing);
        self.stateful(id, Inputs { dealt: vec![keyed], local }, logic)
    }

    /// The marks of some watermarks, in their order.
    pub(super) fn marks_of(&self, passing: &[Passing]) -> Vec<Flows<'s>> {
        let marks = |passing: &Passing| {
            let built = &self.built[passing.watermark.0];
            built.marks.clone().expect("what goes by a watermark names the node that keeps it")
        };
        passing.iter().map(marks).collect()
    }

    /// What this worker tells the keeper of its rows.
    fn seen(&self, id: NodeId, time: usize, rows: Flows<'s>, filling: Option<Filling>) -> Flows<'s> {
        let name = self.spec.plan.nodes[id.0].name.clone();
        let (run, worker) = (Arc::clone(&self.spec.run), self.place.worker);
        rows.unary::<Builder<Flow>, _, _, _>(Pipeline, &name.clone(), move |_, _| {
            move |input, output| {
                input.for_each(|at, flow| {
                    let Some(batch) = flow.0.take() else { return };
                    let through = filling.as_ref().and_then(|filling| filling.get());
                    let fills = through.is_some_and(|through| *at.time() <= through);
                    let told = run.step(&name, || seen(&batch, time, worker, fills)).flatten();
                    if let Some(told) = told {
                        output.session(&at).give_container(&mut Flow(Some(told)));
                    }
                });
            }
        })
    }

    /// A stream of few batches of one worker, on all of them.
    ///
    /// Each row is sent once for each worker, so that as many rows are received as were sent: Timely would take an
    /// epoch for complete whose rows have reached one worker, and not yet the others.
    pub(super) fn everywhere(&self, id: NodeId, stream: Flows<'s>) -> Flows<'s> {
        let workers = self.place.workers;
        if workers == 1 {
            return stream;
        }
        let name = &self.spec.plan.nodes[id.0].name;
        let (run, node) = (Arc::clone(&self.spec.run), name.clone());
        let copies = stream.unary::<Builder<Flow>, _, _, _>(Pipeline, name, move |_, _| {
            move |input, output| {
                input.for_each(|time, flow| {
                    let Some(batch) = flow.0.take() else { return };
                    if let Some(copies) = run.step(&node, || batch.repeated(workers).map_err(broken)) {
                        output.session(&time).give_container(&mut Flow(Some(copies)));
                    }
                });
            }
        });
        copies.unary::<Builder<Flow>, _, _, _>(DistributorPact(|_| ToAll), name, |_, _| {
            |input, output| {
                input.for_each(|time, flow| {
                    output.session(&time).give_container(flow);
                });
            }
        })
    }

    /// The rows that are not late.
    fn on_time(&self, id: NodeId, time: usize, rows: Flows<'s>, marks: Flows<'s>) -> Flows<'s> {
        let name = self.spec.plan.nodes[id.0].name.clone();
        let mut builder = OperatorBuilder::new(name.clone(), self.scope);
        let mut rows = builder.new_input(rows, Pipeline);
        let mut marks = builder.new_input(marks, Pipeline);
        let (output, changes) = builder.new_output::<Flow>();
        let mut output = OutputBuilder::<_, Builder<Flow>>::from(output);
        let run = Arc::clone(&self.spec.run);
        builder.build(move |_| {
            let mut held: BTreeMap<u64, (Capability<u64>, Vec<Batch>)> = BTreeMap::new();
            let mut told = Marks::default();
            move |frontiers| {
                rows.for_each(|at, flow| {
                    if let Some(batch) = flow.0.take() {
                        held.entry(*at.time()).or_insert_with(|| (at.retain(0), Vec::new())).1.push(batch);
                    }
                });
                marks.for_each(|at, flow| {
                    if let Some(batch) = flow.0.take() {
                        told.take(*at.time(), &batch);
                    }
                });
                let frontier = frontiers[1].frontier().first().copied();
                let mut output = output.activate();
                while let Some(first) = held.first_entry()
                    && frontier.is_none_or(|frontier| frontier > *first.key())
                {
                    let (epoch, (capability, batches)) = first.remove_entry();
                    let watermark = told.before(epoch);
                    for batch in batches {
                        let Some((batch, late)) = run.step(&name, || on_time(batch, time, watermark)) else { continue };
                        run.counters.late_rows.fetch_add(late as u64, Relaxed);
                        if !batch.is_empty() {
                            output.session(&capability).give_container(&mut Flow(Some(batch)));
                        }
                    }
                }
                told.pass(frontier);
            }
        });
        changes
    }
}
