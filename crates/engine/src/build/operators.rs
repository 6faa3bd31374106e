//! The Timely operators of a plan's nodes: when each runs, what it holds, whom it tells.
//!
//! Invariant: an operator that has more to do activates itself.

use super::changes::told_of;
use super::{Alarm, Builder, Built, Flows, Parcels, Wiring};
use crate::batch::Batch;
use crate::control::BACKFILLED;
use crate::error::{Error, Result};
use crate::fill::{Fill, Giving};
use crate::keys::{ByKeyGroup, KeyCodec, ToFirst};
use crate::ops::aggregate::Freeing;
use crate::ops::by_rows;
use crate::ops::departing::Departing;
use crate::ops::expressions::Preparation;
use crate::ops::grouping::Grouping;
use crate::ops::outbox::Outbox;
use crate::ops::sessions;
use crate::ops::source::SourceSplits;
use crate::parcel::Parcel;
use crate::plan::{Join, NodeId, OnError, Operator};
use crate::sink::Sink;
use crate::stateful::{Logic, Stateful, Surroundings, Turn};
use crate::tables;
use crate::tick::Tick;
use crate::wire::Flow;
use arrow::array::{ArrayRef, RecordBatch};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use timely::communication::Pull;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator as _;
use timely::dataflow::operators::generic::{InputHandleCore, OutputBuilder};
use timely::progress::frontier::MutableAntichain;

/// How soon an operator looks again at who reads and takes no rows.
const LATER: Duration = Duration::from_millis(100);

impl<'s> Wiring<'_, 's> {
    pub(super) fn stateless(
        &self,
        id: NodeId,
        apply: impl FnMut(Batch, &mut Vec<Batch>) -> Result<()> + 'static,
    ) -> Built<'s> {
        Built::changes(self.applied(id, self.input(id), apply))
    }

    /// A stream of a node's batches with something done to each.
    fn applied(
        &self,
        id: NodeId,
        stream: Flows<'s>,
        mut apply: impl FnMut(Batch, &mut Vec<Batch>) -> Result<()> + 'static,
    ) -> Flows<'s> {
        let name = self.spec.plan.nodes[id.0].name.clone();
        let on_error = self.spec.plan.nodes[id.0].on_error;
        let run = Arc::clone(&self.spec.run);
        stream.unary::<Builder<Flow>, _, _, _>(Pipeline, &name.clone(), move |_, _| {
            let mut out = Vec::new();
            move |input, output| {
                input.for_each(|time, flow| {
                    let Some(batch) = flow.0.take() else { return };
                    let applied = run.step(&name, || by_rows::apply(batch, on_error, &mut out, &mut apply));
                    let is_done = applied.is_some();
                    if let Some(left_out) = applied.flatten() {
                        run.left_out(&name, left_out);
                    }
                    let mut session = output.session(&time);
                    for batch in out.drain(..).filter(|batch| is_done && !batch.is_empty()) {
                        session.give_container(&mut Flow(Some(batch)));
                    }
                });
            }
        })
    }

    pub(super) fn source(
        &mut self,
        id: NodeId,
        source: &Arc<dyn crate::source::Source>,
        ticks: Parcels<'s, Tick>,
    ) -> Flows<'s> {
        let name = self.spec.plan.nodes[id.0].name.clone();
        let mut builder = OperatorBuilder::new(name.clone(), self.scope);
        let info = builder.operator_info();
        let mut input = builder.new_input(ticks, Pipeline);
        let (rows, changes) = builder.new_output::<Flow>();
        let mut teller = self.teller(id.0, &mut builder);
        let mut rows = OutputBuilder::<_, Builder<Flow>>::from(rows);
        let setup = self.spec.source(id, source, self.place, self.wake(&info.address));
        let (run, around) = (Arc::clone(&self.spec.run), self.around.clone());
        around.snapshots.expect_operator();
        let mut splits = run.step(&name, || SourceSplits::open(setup));
        builder.build(move |_| {
            move |frontiers| {
                let mut rows = rows.activate();
                input.for_each(|time, parcel| {
                    let Some(tick) = parcel.content.take() else { return };
                    let answered = run.step(&name, || {
                        let splits = splits.as_mut().ok_or_else(|| Error::connector(&name, "is not open"))?;
                        let mut session = rows.session(&time);
                        if tick.max_rows > 0 {
                            teller.asked = true;
                            let oldest = splits.answer(tick.max_rows as usize, tick.wall, |batch| {
                                teller.gave_rows = true;
                                session.give_container(&mut Flow(Some(Batch::inserts(batch))));
                            })?;
                            run.born(tick.epoch, oldest);
                        }
                        if let Some(checkpoint) = tick.checkpoint {
                            around.snapshots.offsets(checkpoint, &name, splits.offsets());
                        }
                        Ok(())
                    });
                    if answered.is_some() {
                        teller.answered(&time);
                    }
                });
                if frontiers[0].frontier().is_empty() {
                    teller.end();
                }
                let Some(splits) = splits.as_mut().filter(|_| teller.may_speak()) else { return };
                let supply = run.step(&name, || splits.refresh().map(|()| splits.supply(Duration::ZERO)));
                if let Some(supply) = supply {
                    teller.tell(told_of(supply), BACKFILLED);
                }
            }
        });
        changes
    }

    pub(super) fn aggregate(&mut self, id: NodeId) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::aggregate(&spec.tables(self.place), id));
        let (preparation, logic) = made.unzip();
        let keyed = self.keyed(id, preparation);
        let Some((last, groups)) = spec.frees(id) else {
            return self.stateful(id, Inputs::dealt(vec![keyed]), logic);
        };
        let logic = logic.map(|logic| logic.freeing(Freeing::new(last, groups)));
        let local = self.marks_of(&last.passing);
        self.stateful(id, Inputs { dealt: vec![keyed], local }, logic)
    }

    pub(super) fn sessions(&mut self, id: NodeId) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::sessions(&spec.tables(self.place), id));
        let (preparation, logic) = made.unzip();
        let keyed = self.keyed(id, preparation);
        let Some((last, _)) = spec.frees(id) else {
            return self.stateful(id, Inputs::dealt(vec![keyed]), logic);
        };
        let logic = logic.map(|logic| logic.freeing(sessions::Freeing::new(last)));
        let local = self.marks_of(&last.passing);
        self.stateful(id, Inputs { dealt: vec![keyed], local }, logic)
    }

    pub(super) fn materialize(&mut self, id: NodeId) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::materialize(&spec.tables(self.place), id));
        let (preparation, logic) = made.unzip();
        let keyed = self.keyed(id, preparation);
        self.stateful(id, Inputs::dealt(vec![keyed]), logic)
    }

    pub(super) fn upsert(&mut self, id: NodeId) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::upsert(&spec.tables(self.place), id));
        let (keying, logic) = made.unzip();
        let keyed = self.applied(id, self.input(id), move |batch, out| {
            if let Some(keying) = &keying {
                out.push(keying.apply(&batch)?);
            }
            Ok(())
        });
        self.stateful(id, Inputs::dealt(vec![keyed]), logic)
    }

    pub(super) fn join(&mut self, id: NodeId, join: &Join) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::join(&spec.tables(self.place), id));
        let (groupings, logic) = made.unzip();
        let node = &spec.plan.nodes[id.0];
        let skips = node.on_error == OnError::Skip;
        let logic = logic.map(|logic| if skips { logic.leaving_out(&node.name, &spec.run) } else { logic });
        let [left, right] = groupings.map_or([None, None], |groupings| groupings.map(Some));
        let dealt = vec![self.grouped(id, 0, left), self.grouped(id, 1, right)];
        let marks = join.forgets.iter().flat_map(|forget| self.marks_of(&forget.passing));
        let fills = spec.plan.awaited_by(id).into_iter().filter_map(|awaited| self.built[awaited.0].awaited.clone());
        let local = marks.chain(fills).collect();
        self.stateful(id, Inputs { dealt, local }, logic)
    }

    pub(super) fn first(&mut self, id: NodeId) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::first(&spec.tables(self.place), id));
        let (grouping, logic) = made.unzip();
        let grouped = self.grouped(id, 0, grouping);
        let (departing, local) = self.departing(id);
        let logic = logic.map(|logic| logic.departing(departing));
        self.stateful(id, Inputs { dealt: vec![grouped], local }, logic)
    }

    pub(super) fn regroup(&mut self, id: NodeId) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::regroup(&spec.tables(self.place), id));
        let (grouping, logic) = made.unzip();
        let grouped = self.grouped(id, 0, grouping);
        let (departing, local) = self.departing(id);
        let logic = logic.map(|logic| logic.departing(departing));
        self.stateful(id, Inputs { dealt: vec![grouped], local }, logic)
    }

    pub(super) fn index(&mut self, id: NodeId) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::index(&spec.tables(self.place), id));
        let (grouping, logic) = made.unzip();
        let grouped = self.grouped(id, 0, grouping);
        self.stateful(id, Inputs::dealt(vec![grouped]), logic)
    }

    pub(super) fn lifetime(&mut self, id: NodeId) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let made = spec.run.step(&spec.plan.nodes[id.0].name, || tables::lifetime(&spec.tables(self.place), id));
        let (timing, logic) = made.unzip();
        let timed = self.applied(id, self.input(id), move |batch, out| {
            if let Some(timing) = &timing {
                out.push(timing.apply(&batch)?);
            }
            Ok(())
        });
        self.stateful(id, Inputs::dealt(vec![timed]), logic)
    }

    pub(super) fn keyed(&self, id: NodeId, preparation: Option<Preparation>) -> Flows<'s> {
        self.applied(id, self.input(id), move |batch, out| {
            if let Some(preparation) = &preparation {
                out.extend(preparation.apply(&batch)?);
            }
            Ok(())
        })
    }

    /// What lets rows by group leave when they are final, where they are, and the marks that it goes by.
    fn departing(&self, id: NodeId) -> (Option<Departing>, Vec<Flows<'s>>) {
        let Some((last, _)) = self.spec.frees(id) else { return (None, Vec::new()) };
        let plan = &self.spec.plan;
        let made = self.spec.run.step(&plan.nodes[id.0].name, || tables::departing(plan, id, last));
        (made, self.marks_of(&last.passing))
    }

    fn grouped(&self, id: NodeId, at: usize, grouping: Option<Grouping>) -> Flows<'s> {
        self.applied(id, self.input_at(id, at), move |batch, out| {
            if let Some(grouping) = &grouping {
                out.extend(grouping.apply(&batch)?);
            }
            Ok(())
        })
    }

    fn living<L: Logic>(&self, id: NodeId, logic: L) -> Stateful<L> {
        let (name, number) = (self.spec.plan.nodes[id.0].name.clone(), self.spec.operator_ids[id.0]);
        let owned = self.spec.key_groups.owned_by(self.place.worker, self.place.workers);
        let giving = |(_, fill): (_, &Fill)| Giving::new(fill.clone(), self.spec.key_groups, owned.clone());
        let fills = self.spec.fills_of(id).map(giving).collect();
        Stateful::new(logic, name, number, self.around.clone(), fills)
    }

    pub(super) fn stateful<L: Logic + 'static>(&mut self, id: NodeId, from: Inputs<'s>, logic: Option<L>) -> Built<'s> {
        let node = &self.spec.plan.nodes[id.0];
        let mut builder = OperatorBuilder::new(node.name.clone(), self.scope);
        let info = builder.operator_info();
        let mut alarm = Alarm { here: Rc::new(self.scope.activator_for(Rc::clone(&info.address))), at: None };
        self.around.snapshots.wake_operator(self.scope.activator_for(Rc::clone(&info.address)));
        let (groups, workers) = (self.spec.key_groups, self.place.workers);
        let pact = || DistributorPact(move |_: usize| ByKeyGroup::new(groups, workers));
        let mut dealt: Vec<_> = from.dealt.into_iter().map(|input| builder.new_input(input, pact())).collect();
        let mut local: Vec<_> = from.local.into_iter().map(|input| builder.new_input(input, Pipeline)).collect();
        let (changes, changes_out) = builder.new_output::<Flow>();
        let mut changes = OutputBuilder::<_, Builder<Flow>>::from(changes);
        let (mut fills, mut fills_out) = (Vec::new(), Vec::new());
        for (_, fill) in self.spec.fills_of(id) {
            let (fill_in, fill_out) = builder.new_output::<Flow>();
            fills.push(OutputBuilder::<_, Builder<Flow>>::from(fill_in));
            fills_out.push((fill.readers.clone(), fill_out));
        }
        let (_done, done_out) = builder.new_output::<Parcel<()>>();
        let (run, name) = (Arc::clone(&self.spec.run), node.name.clone());
        let mut operator = logic.map(|logic| self.living(id, logic).woken_by(self.wake(&info.address)));
        let mut telling = self.own_telling(id, &mut builder);
        builder.build_reschedule(move |mut capabilities| {
            telling.begin(&mut capabilities);
            move |frontiers| {
                let Some(operator) = &mut operator else { return false };
                take_all(operator, &mut dealt, 0);
                take_all(operator, &mut local, dealt.len());
                if run.has_failed() || capabilities.is_empty() {
                    return false;
                }
                let frontier = least(frontiers);
                let mut changes = changes.activate();
                let mut fills: Vec<_> = fills.iter_mut().map(OutputBuilder::activate).collect();
                let turn = run.step(&name, || {
                    operator.turn(
                        |epoch| frontier.is_none_or(|frontier| frontier > epoch),
                        |epoch, emitted| {
                            let outputs = std::iter::once(&mut changes).chain(&mut fills).zip(&capabilities);
                            let given = std::iter::once(emitted.changes).chain(emitted.fills);
                            for ((output, capability), batches) in outputs.zip(given) {
                                let time = capability.delayed(&epoch);
                                for batch in batches.into_iter().filter(|batch| !batch.is_empty()) {
                                    output.session(&time).give_container(&mut Flow(Some(batch)));
                                }
                            }
                        },
                    )
                });
                if turn.is_some() {
                    telling.tell(operator.due(), operator.filling(), operator.open_epoch());
                }
                if frontier.is_none() && turn == Some(Turn::Rest) {
                    capabilities.clear();
                    telling.end();
                } else {
                    capabilities.iter_mut().for_each(|capability| capability.downgrade(&operator.open_epoch()));
                }
                // Timely takes the answer for whether the operator may end, not for when it runs again.
                match turn {
                    Some(Turn::Again) => alarm.here.activate(),
                    Some(Turn::Later) => alarm.set(LATER),
                    _ => {}
                }
                matches!(turn, Some(Turn::Again | Turn::Later))
            }
        });
        self.done.push(done_out);
        Built { fills: fills_out, ..Built::changes(changes_out) }
    }

    /// What a node reads, all of it on the first worker.
    fn on_one_worker(&self, id: NodeId) -> Flows<'s> {
        let input = self.input(id);
        if self.place.workers == 1 {
            return input;
        }
        input.unary::<Builder<Flow>, _, _, _>(DistributorPact(|_| ToFirst), "gather", move |_, _| {
            move |input, output| {
                input.for_each(|time, flow| {
                    let Some(batch) = flow.0.take() else { return };
                    output.session(&time).give_container(&mut Flow(Some(batch)));
                });
            }
        })
    }

    /// A sink's rows, on the worker that owns their key where the sink has one.
    fn input_of_sink(&self, id: NodeId, sink: &dyn Sink) -> Flows<'s> {
        let node = &self.spec.plan.nodes[id.0];
        // Whether it has one was checked when it was made, and is the same on every worker.
        let places = sink.key(&node.schema).unwrap_or_default();
        if places.is_empty() {
            return self.input(id);
        }
        let types = places.iter().map(|place| node.schema.field(*place).data_type().clone()).collect();
        let codec = self.spec.run.step(&node.name, || KeyCodec::new(types));
        let keyed = self.applied(id, self.input(id), move |batch, out| {
            if let Some(codec) = &codec {
                let keys: Vec<ArrayRef> = places.iter().map(|place| Arc::clone(batch.rows.column(*place))).collect();
                out.push(codec.key_wide_with(&keys, batch.rows.columns(), &batch)?);
            }
            Ok(())
        });
        let (groups, workers) = (self.spec.key_groups, self.place.workers);
        let pact = DistributorPact(move |_: usize| ByKeyGroup::new(groups, workers));
        let exchanged = keyed.unary::<Builder<Flow>, _, _, _>(pact, "by key", |_, _| {
            |input, output| {
                input.for_each(|time, flow| {
                    output.session(&time).give_container(flow);
                });
            }
        });
        let schema = Arc::clone(&node.schema);
        self.applied(id, exchanged, move |batch, out| {
            let columns = batch.rows.columns()[1..].to_vec();
            let rows = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|e| Error::data("sink", e))?;
            out.push(batch.with_rows(rows));
            Ok(())
        })
    }

    pub(super) fn sink(&mut self, id: NodeId) -> Built<'s> {
        let node = &self.spec.plan.nodes[id.0];
        let Operator::Sink(sink) = &node.operator else { unreachable!("called for sinks") };
        let input_stream =
            if sink.is_gathered() { self.on_one_worker(id) } else { self.input_of_sink(id, sink.as_ref()) };
        let mut builder = OperatorBuilder::new(node.name.clone(), self.scope);
        let info = builder.operator_info();
        let here = self.scope.activator_for(Rc::clone(&info.address));
        let wake = self.wake(&info.address);
        let mut input = builder.new_input(input_stream, Pipeline);
        let (_changes, changes_out) = builder.new_output::<Flow>();
        let (_done, done_out) = builder.new_output::<Parcel<()>>();
        self.around.snapshots.expect_operator();
        let mut outbox = OutboxEpochs {
            outbox: Outbox::new(self.spec.outbox(id, sink, self.place)),
            around: self.around.clone(),
            epoch: 0,
            stash: BTreeMap::new(),
        };
        let (run, name) = (Arc::clone(&self.spec.run), node.name.clone());
        builder.build(move |mut capabilities| {
            move |frontiers| {
                input.for_each(|time, flow| {
                    if let Some(batch) = flow.0.take() {
                        outbox.stash.entry(*time.time()).or_default().push(batch);
                    }
                });
                let frontier = frontiers[0].frontier().first().copied();
                let wake = Arc::clone(&wake);
                let delivered = outbox.outbox.delivered();
                let stepped = run.step(&name, || {
                    outbox.close_up_to(frontier)?;
                    Ok(outbox.outbox.deliver(move || wake()))
                });
                if outbox.outbox.delivered() > delivered {
                    // The clock may be waiting for the last delivery.
                    run.wake_clock();
                }
                if let Some(Some(wait)) = stepped {
                    here.activate_after(wait);
                }
                match frontier {
                    None => capabilities.clear(),
                    Some(_) if stepped.is_some() => {
                        for capability in &mut capabilities {
                            capability.downgrade(&outbox.epoch);
                        }
                    }
                    Some(_) => {}
                }
            }
        });
        self.done.push(done_out);
        Built::changes(changes_out)
    }
}

/// What an operator with state reads.
pub(super) struct Inputs<'s> {
    /// Dealt by key group.
    pub(super) dealt: Vec<Flows<'s>>,
    /// After them, taken as they are on each worker.
    pub(super) local: Vec<Flows<'s>>,
}

impl<'s> Inputs<'s> {
    const fn dealt(dealt: Vec<Flows<'s>>) -> Self {
        Self { dealt, local: Vec::new() }
    }
}

/// Hands an operator what came in on some of its inputs, which are numbered from `first` on.
fn take_all<L: Logic, P: Pull<Message<u64, Flow>>>(
    operator: &mut Stateful<L>,
    inputs: &mut [InputHandleCore<u64, Flow, P>],
    first: usize,
) {
    for (at, input) in inputs.iter_mut().enumerate() {
        input.for_each(|time, flow| {
            if let Some(batch) = flow.0.take() {
                operator.take(*time.time(), first + at, batch);
            }
        });
    }
}

/// The first epoch of which some input may send more; none when all have ended.
fn least(frontiers: &[MutableAntichain<u64>]) -> Option<u64> {
    frontiers.iter().filter_map(|input| input.frontier().first().copied()).min()
}

/// A sink's outbox and the order of its epochs.
struct OutboxEpochs {
    outbox: Outbox,
    around: Surroundings,
    epoch: u64,
    stash: BTreeMap<u64, Vec<Batch>>,
}

impl OutboxEpochs {
    /// Takes the rows of the open epoch that have come, and closes the epochs before `frontier`.
    fn close_up_to(&mut self, frontier: Option<u64>) -> Result<()> {
        loop {
            let Some(tick) = self.around.ticks.get(self.epoch) else { return Ok(()) };
            for batch in self.stash.remove(&self.epoch).into_iter().flatten() {
                self.outbox.put(&batch, &tick)?;
            }
            if frontier.is_some_and(|frontier| frontier <= self.epoch) {
                return Ok(());
            }
            // What was frozen before belongs to the checkpoint published before this epoch.
            if let Some(published) = tick.published {
                self.outbox.published(published);
            }
            if let Some(checkpoint) = tick.checkpoint {
                self.around.snapshots.outboxes(checkpoint, self.outbox.freeze(checkpoint));
            }
            self.epoch += 1;
        }
    }
}
