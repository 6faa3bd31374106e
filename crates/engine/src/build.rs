//! Makes a Timely dataflow of a plan, the same on every worker.
//!
//! ```text
//! clock ─ticks▶ ticker ─▶ sources ─▶ map, hop, unnest ─▶ prepare ─▶ exchange ─▶ stateful ─▶ ... ─▶ outboxes
//!   ▲                        │ supplies                        │ done                        │ done
//!   └── coordinator ◀────────┴─────────── receipts ◀── snapshot operator ◀───────────────────┘
//! ```
//! It owns how operators are wired and when they run, and nothing of what they compute. Invariants:
//! every worker builds the same operators in the same order; a capability is held exactly for the
//! epochs in which an operator may still send; an operator of a failed run does nothing.

pub(crate) mod changes;
mod operators;
mod telling;
mod watermark;

use crate::backlog::Backlog;
use crate::batch::{Batch, record_batch};
use crate::changes::Wake;
use crate::control::{Control, Next, Supplied};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::ops::expressions::Mapper;
use crate::ops::hop::hop;
use crate::ops::source::Place;
use crate::ops::unnest::unnest;
use crate::parcel::{ByAddress, Parcel};
use crate::plan::{NodeId, Operator};
use crate::run::RunSpec;
use crate::snapshot::{Receipt, Shipment, Snapshots};
use crate::stateful::Surroundings;
use crate::tick::{Tick, TickLog};
use crate::wire::Flow;
use arrow::datatypes::SchemaRef;
use highwater_core::{CheckpointId, WorkerIndex};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::core::Concatenate;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator as _;
use timely::dataflow::{Scope, Stream};
use timely::worker::Worker;

type Flows<'s> = Stream<'s, u64, Flow>;
type Parcels<'s, T> = Stream<'s, u64, Parcel<T>>;
type Builder<T> = CapacityContainerBuilder<T>;

/// A node's outputs.
#[derive(Clone)]
struct Built<'s> {
    changes: Flows<'s>,
    /// The changes for readers that are new, in the midst of which a restored node's contents come: by fill.
    fills: Vec<(BTreeSet<NodeId>, Flows<'s>)>,
    /// The marks of a watermark, on every worker.
    marks: Option<Flows<'s>>,
    /// Up to which epoch a change source's rows are of its backfill, all of which are not given yet.
    filling: Option<Filling>,
    /// A row in each epoch after which a change source's backfill is not over, on every worker; none
    /// where no temporal join waits for it.
    awaited: Option<Flows<'s>>,
}

/// The last epoch of which something is so; none when none is.
type Filling = Rc<Cell<Option<u64>>>;

impl<'s> Built<'s> {
    /// Of a node that gives changes and nothing else.
    const fn changes(changes: Flows<'s>) -> Self {
        Self { changes, fills: Vec::new(), marks: None, filling: None, awaited: None }
    }
}

/// Builds the dataflow of a run on one worker.
pub(crate) fn build(worker: &mut Worker, spec: &Arc<RunSpec>, memory: &Memory) {
    let place = Place { worker: worker.index(), workers: worker.peers() };
    let name = spec.run.pipeline.clone();
    worker.dataflow_named::<u64, _, _>(&name, |scope| {
        let ticks = TickLog::default();
        let snapshots = Snapshots::new(WorkerIndex(place.worker as u32), Arc::clone(&spec.shipping));
        let around = Surroundings {
            run: Arc::clone(&spec.run),
            ticks: ticks.clone(),
            snapshots: snapshots.clone(),
            reads: spec.reads.clone(),
            worker: WorkerIndex(place.worker as u32),
            memory: memory.clone(),
            backlog: Backlog::default(),
        };
        let mut wiring = Wiring {
            scope,
            spec,
            place,
            around,
            built: Vec::new(),
            done: Vec::new(),
            supplies: Vec::new(),
            direct: None,
        };
        let control = Rc::new(RefCell::new(None));
        let (clock, wake_clock) = wiring.clock(&control);
        let alone = place.workers == 1;
        wiring.direct = alone.then(|| (Rc::clone(&control), Rc::clone(&wake_clock)));
        let ticks = if alone { clock } else { wiring.ticker(clock) };
        for node in 0..spec.plan.nodes.len() {
            let built = wiring.node(NodeId(node), &ticks);
            wiring.built.push(built);
        }
        let receipts = wiring.snapshot(&control, &wake_clock);
        wiring.coordinator(receipts, &control, &wake_clock);
    });
}

type SharedControl = Rc<RefCell<Option<Control>>>;
type WakeHere = Rc<timely::scheduling::Activator>;

struct Wiring<'a, 's> {
    scope: Scope<'s, u64>,
    spec: &'a Arc<RunSpec>,
    place: Place,
    around: Surroundings,
    built: Vec<Built<'s>>,
    done: Vec<Parcels<'s, ()>>,
    supplies: Vec<Parcels<'s, Supplied>>,
    /// What sources tell at once, when this is the only worker.
    direct: Option<(SharedControl, WakeHere)>,
}

impl<'s> Wiring<'_, 's> {
    /// Wakes an operator from any thread.
    fn wake(&self, address: &[usize]) -> Wake {
        let activator = self.scope.worker().sync_activator_for(address.to_vec());
        Arc::new(move || {
            // The worker may have gone; then there is nothing to wake.
            let _ = activator.activate();
        })
    }

    /// The clock: on worker 0 it owns the control, elsewhere it ends at once.
    fn clock(&self, control: &SharedControl) -> (Parcels<'s, Tick>, WakeHere) {
        let mut builder = OperatorBuilder::new("clock".to_owned(), self.scope);
        let info = builder.operator_info();
        let wake_here = Rc::new(self.scope.activator_for(Rc::clone(&info.address)));
        let (output, ticks) = builder.new_output::<Parcel<Tick>>();
        let mut output = OutputBuilder::<_, Builder<Parcel<Tick>>>::from(output);
        if self.place.worker == 0 {
            let wake = self.wake(&info.address);
            *control.borrow_mut() = Some(self.spec.start_control(&wake));
        }
        let (control, here, workers) = (Rc::clone(control), Rc::clone(&wake_here), self.place.workers);
        let run = Arc::clone(&self.spec.run);
        // Where there is no ticker, what it does is done here.
        let log = (workers == 1).then(|| self.around.ticks.clone());
        let mut alarm = Alarm { here: Rc::clone(&here), at: None };
        builder.build(move |mut capabilities| {
            let mut capability = capabilities.pop().filter(|_| control.borrow().is_some());
            move |_| {
                let Some(held) = &mut capability else { return };
                let ended = run.step("clock", || {
                    let mut control = control.borrow_mut();
                    let control = control.as_mut().expect("worker 0 has the control");
                    let mut output = output.activate();
                    Ok(tick_on(control, held, workers, &mut alarm, |time, parcel| {
                        if let (Some(log), Some(tick)) = (&log, &parcel.content) {
                            log.record(tick.clone());
                        }
                        output.session(time).give_container(parcel);
                    }))
                });
                if ended == Some(true) {
                    capability = None;
                }
            }
        });
        (ticks, wake_here)
    }

    /// Keeps each tick in the worker's log before anything of its epoch can happen.
    fn ticker(&self, ticks: Parcels<'s, Tick>) -> Parcels<'s, Tick> {
        let log = self.around.ticks.clone();
        let pact = DistributorPact(|_| ByAddress);
        ticks.unary::<Builder<Parcel<Tick>>, _, _, _>(pact, "ticker", move |_, _| {
            move |input, output| {
                input.for_each(|time, parcel| {
                    if let Some(tick) = parcel.content.take() {
                        log.record(tick.clone());
                        output.session(&time).give_container(&mut Parcel::new(0, tick));
                    }
                });
            }
        })
    }

    fn node(&mut self, id: NodeId, ticks: &Parcels<'s, Tick>) -> Built<'s> {
        let spec = Arc::clone(self.spec);
        let node = &spec.plan.nodes[id.0];
        match &node.operator {
            Operator::Source(source) => {
                let needed = source.reading(&spec.plan.read_of(id));
                Built::changes(self.source(id, needed.as_ref().unwrap_or(source), ticks.clone()))
            }
            Operator::Changes(source) => self.changes(id, source, ticks.clone()),
            Operator::Watermark(watermark) => self.watermark(id, watermark),
            Operator::Map(map) => {
                let mapper = Mapper::new(map.clone(), Arc::clone(&node.schema));
                self.stateless(id, move |batch, out| {
                    out.extend(mapper.apply(batch)?);
                    Ok(())
                })
            }
            Operator::Hop(plan) => {
                let (plan, schema) = (plan.clone(), Arc::clone(&node.schema));
                self.stateless(id, move |batch, out| {
                    out.extend(hop(&plan, &schema, &batch)?);
                    Ok(())
                })
            }
            Operator::Unnest(plan) => {
                let (plan, schema) = (plan.clone(), Arc::clone(&node.schema));
                self.stateless(id, move |batch, out| unnest(&plan, &schema, &batch, out))
            }
            Operator::Aggregate(_) => self.aggregate(id),
            Operator::Closing(closing) => self.closing(id, closing),
            Operator::Sessions(_) => self.sessions(id),
            Operator::Materialize => self.materialize(id),
            Operator::Upsert(_) => self.upsert(id),
            Operator::Index(_) => self.index(id),
            Operator::Union => {
                let schema = Arc::clone(&node.schema);
                self.stateless(id, move |batch, out| {
                    out.push(renamed(batch, &schema)?);
                    Ok(())
                })
            }
            Operator::Join(join) => self.join(id, join),
            Operator::First(_) => self.first(id),
            Operator::Regroup(_) => self.regroup(id),
            Operator::Lifetime(_) => self.lifetime(id),
            Operator::Sink(_) => self.sink(id),
        }
    }

    /// What a node reads of all its inputs, as one stream.
    fn input(&self, id: NodeId) -> Flows<'s> {
        let inputs = self.spec.plan.nodes[id.0].inputs.len();
        if inputs == 1 {
            return self.input_at(id, 0);
        }
        self.scope.concatenate((0..inputs).map(|at| self.input_at(id, at)).collect::<Vec<_>>())
    }

    /// What a node reads of one input: its changes, or those of the fill that is for this node.
    fn input_at(&self, id: NodeId, at: usize) -> Flows<'s> {
        let input = self.spec.plan.nodes[id.0].inputs[at];
        let built = self.built[input.0].clone();
        let fill = built.fills.into_iter().find(|(readers, _)| readers.contains(&id));
        fill.map_or(built.changes, |(_, changes)| changes)
    }

    /// Sees which epochs are complete everywhere, and ships this worker's part of checkpoints.
    fn snapshot(&mut self, control: &SharedControl, wake_clock: &WakeHere) -> Parcels<'s, Receipt> {
        let done = self.scope.concatenate(std::mem::take(&mut self.done));
        let mut builder = OperatorBuilder::new("snapshot".to_owned(), self.scope);
        let info = builder.operator_info();
        let wake = self.wake(&info.address);
        self.around.snapshots.wake_shipper(self.scope.activator_for(info.address));
        let mut input = builder.new_input(done, Pipeline);
        let (output, receipts) = builder.new_output::<Parcel<Receipt>>();
        let mut output = OutputBuilder::<_, Builder<Parcel<Receipt>>>::from(output);
        let mut shipper = Shipper { around: self.around.clone(), wake, seen: 0, to_ship: None, shipment: None };
        let (control, wake_clock) = (Rc::clone(control), Rc::clone(wake_clock));
        let (run, ended) = (Arc::clone(&self.spec.run), self.spec.ended.clone());
        builder.build(move |mut capabilities| {
            move |frontiers| {
                input.for_each(|_, _| {});
                let frontier = frontiers[0].frontier().first().copied();
                if let Some(complete) = frontier
                    && complete > shipper.seen
                {
                    if let Some(capability) = capabilities.first() {
                        shipper.see(complete, capability);
                    }
                    for capability in &mut capabilities {
                        capability.downgrade(&complete);
                    }
                    if let Some(control) = control.borrow_mut().as_mut() {
                        control.completed_before(complete);
                    }
                    wake_clock.activate();
                }
                let receipt = run.step("snapshot", || Ok(shipper.ship_on()));
                if let Some(Some((receipt, time))) = receipt {
                    output.activate().session(&time).give_container(&mut Parcel::new(0, receipt));
                }
                if frontier.is_none() && !capabilities.is_empty() {
                    capabilities.clear();
                    ended.worker_ended();
                }
            }
        });
        receipts
    }

    /// Gathers receipts and supplies for the control, on worker 0.
    fn coordinator(&mut self, receipts: Parcels<'s, Receipt>, control: &SharedControl, wake_clock: &WakeHere) {
        let supplies = self.scope.concatenate(std::mem::take(&mut self.supplies));
        let mut builder = OperatorBuilder::new("coordinator".to_owned(), self.scope);
        let mut receipts = builder.new_input(receipts, DistributorPact(|_| ByAddress));
        let mut supplies = builder.new_input(supplies, DistributorPact(|_| ByAddress));
        let (control, wake_clock, run) = (Rc::clone(control), Rc::clone(wake_clock), Arc::clone(&self.spec.run));
        builder.build(move |_| {
            let mut waiting: BTreeMap<u64, Vec<Receipt>> = BTreeMap::new();
            move |frontiers| {
                let mut control = control.borrow_mut();
                receipts.for_each(|time, parcel| {
                    waiting.entry(*time.time()).or_default().extend(parcel.content.take());
                });
                supplies.for_each(|_, parcel| {
                    if let (Some(control), Some(told)) = (control.as_mut(), parcel.content.take()) {
                        control.supplied(&told);
                    }
                });
                let Some(control) = control.as_mut() else { return };
                let frontier = frontiers[0].frontier().first().copied();
                while let Some(first) = waiting.first_entry()
                    && frontier.is_none_or(|frontier| frontier > *first.key())
                {
                    let all = first.remove();
                    run.step("coordinator", || {
                        control.receipts(all);
                        Ok(())
                    });
                }
                wake_clock.activate();
            }
        });
    }
}

/// The same rows under the names of another schema.
fn renamed(batch: Batch, schema: &SchemaRef) -> Result<Batch> {
    if batch.rows.schema_ref() == schema {
        return Ok(batch);
    }
    let rows = record_batch(schema, batch.rows.columns().to_vec(), batch.len());
    Ok(Batch { rows: rows.map_err(|e| Error::data("union", e))?, weights: batch.weights })
}

/// Wakes an operator at a time. Timely's timers cannot be taken back and each costs a turn when it is
/// over, so one is set only when none is due as early.
struct Alarm {
    here: WakeHere,
    at: Option<Instant>,
}

impl Alarm {
    fn set(&mut self, wait: Duration) {
        let now = Instant::now();
        let at = now + wait;
        if self.at.is_none_or(|set| set <= now || at < set) {
            self.here.activate_after(wait);
            self.at = Some(at);
        }
    }
}

/// Lets the control tick until it wants to wait; true when the pipeline has ended.
fn tick_on(
    control: &mut Control,
    held: &mut Capability<u64>,
    workers: usize,
    alarm: &mut Alarm,
    mut send: impl FnMut(&Capability<u64>, &mut Parcel<Tick>),
) -> bool {
    loop {
        match control.look() {
            Next::Tick(tick) => {
                held.downgrade(&tick.epoch);
                for worker in 0..workers {
                    send(held, &mut Parcel::new(worker, tick.clone()));
                }
                held.downgrade(&(tick.epoch + 1));
            }
            Next::Wait(wait) => {
                if let Some(wait) = wait {
                    alarm.set(wait);
                }
                return false;
            }
            Next::End => return true,
        }
    }
}

/// Ships checkpoints: from the moment all operators are frozen until the receipt is sent.
struct Shipper {
    around: Surroundings,
    wake: Wake,
    /// Epochs before this one are complete everywhere.
    seen: u64,
    to_ship: Option<(CheckpointId, Capability<u64>)>,
    shipment: Option<Shipment>,
}

impl Shipper {
    /// Epochs up to `complete` are complete; `capability` is held since the last call.
    fn see(&mut self, complete: u64, capability: &Capability<u64>) {
        for epoch in self.seen..complete {
            let Some(tick) = self.around.ticks.get(epoch) else { continue };
            if tick.published.is_some() {
                self.around.snapshots.published();
            }
            if let Some(checkpoint) = tick.checkpoint {
                self.to_ship = Some((checkpoint, capability.delayed(&epoch)));
            }
        }
        self.seen = complete;
        self.around.ticks.forget_before(complete);
    }

    fn ship_on(&mut self) -> Option<(Receipt, Capability<u64>)> {
        let (checkpoint, _) = self.to_ship.as_ref()?;
        let snapshots = &self.around.snapshots;
        if self.shipment.is_none() && snapshots.is_whole(*checkpoint) {
            let wake = Arc::clone(&self.wake);
            self.shipment = Some(snapshots.ship(move || wake()));
        }
        let receipt = snapshots.receipt(self.shipment.as_ref()?)?;
        self.shipment = None;
        let (_, time) = self.to_ship.take()?;
        Some((receipt, time))
    }
}
