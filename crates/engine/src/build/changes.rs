//! The Timely operator of a change source: read to the horizon of each tick, on one worker. Where a
//! temporal join waits for its backfill, it tells all workers in each epoch after which that goes on.

use super::{Builder, Built, Filling, Parcels, Wiring};
use crate::changes::{ChangeReader, ChangeSource};
use crate::clock::Supply;
use crate::control::{BACKFILLED, SupplyTold};
use crate::error::{Error, Result};
use crate::ops::join::filling;
use crate::plan::NodeId;
use crate::tick::Tick;
use crate::wire::Flow;
use highwater_state::hash_bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::InputCapability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// The name under which a change source's offset stands in manifests.
pub(crate) const LOG_SPLIT: &str = "log";

impl<'s> Wiring<'_, 's> {
    pub(super) fn changes(
        &mut self,
        id: NodeId,
        source: &Arc<dyn ChangeSource>,
        ticks: Parcels<'s, Tick>,
    ) -> Built<'s> {
        let name = self.spec.plan.nodes[id.0].name.clone();
        let mut builder = OperatorBuilder::new(name.clone(), self.scope);
        let info = builder.operator_info();
        let mut input = builder.new_input(ticks, Pipeline);
        let (rows, changes) = builder.new_output::<Flow>();
        let mut teller = self.teller(id.0, &mut builder);
        let mut rows = OutputBuilder::<_, Builder<Flow>>::from(rows);
        let (told, fills) = self.spec.plan.is_awaited(id).then(|| builder.new_output::<Flow>()).unzip();
        let told = told.map(OutputBuilder::<_, Builder<Flow>>::from);
        let (run, around, place) = (Arc::clone(&self.spec.run), self.around.clone(), self.place);
        around.snapshots.expect_operator();
        let is_ours = hash_bytes(name.as_bytes()) as usize % place.workers == place.worker;
        let wake = self.wake(&info.address);
        let offset = self.spec.log_offset(id);
        let open = || source.open(&run.pipeline, offset.as_ref(), wake).map(Some);
        let opened = if is_ours { run.step(&name, open).flatten() } else { None };
        let mut reader: Option<Box<dyn ChangeReader>> = opened;
        let filling = Filling::default();
        let mut backfilling = Backfilling { through: Filling::clone(&filling), told };
        builder.build(move |_| {
            move |frontiers| {
                let mut rows = rows.activate();
                input.for_each(|time, parcel| {
                    let Some(tick) = parcel.content.take() else { return };
                    let answered = run.step(&name, || {
                        let mut offsets = BTreeMap::new();
                        if is_ours {
                            let reader = reader.as_mut().ok_or_else(|| Error::connector(&name, "is not open"))?;
                            let mut session = rows.session(&time);
                            if tick.max_rows > 0 {
                                teller.asked = true;
                                reader.read(tick.horizon, tick.max_rows as usize, &mut |batch| {
                                    teller.gave_rows = true;
                                    run.counters.rows_in.fetch_add(batch.len() as u64, Relaxed);
                                    session.give_container(&mut Flow(Some(batch)));
                                })?;
                            }
                            if reader.backfill().is_some() {
                                backfilling.goes_on(tick.epoch, &time)?;
                            }
                            offsets.insert(LOG_SPLIT.to_owned(), reader.offset());
                        }
                        if let Some(checkpoint) = tick.checkpoint {
                            around.snapshots.offsets(checkpoint, &name, offsets);
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
                if teller.may_speak() {
                    let (supply, share) = supply_of(reader.as_deref());
                    teller.tell(supply, share);
                }
            }
        });
        let awaited = fills.map(|fills| self.everywhere(id, fills));
        Built { filling: Some(filling), awaited, ..Built::changes(changes) }
    }
}

/// Who is told that a backfill goes on after an epoch.
struct Backfilling {
    /// What is on this worker.
    through: Filling,
    /// Temporal joins, on all workers.
    told: Option<OutputBuilder<u64, Builder<Flow>>>,
}

impl Backfilling {
    fn goes_on(&mut self, epoch: u64, time: &InputCapability<u64>) -> Result<()> {
        self.through.set(Some(epoch));
        if let Some(told) = &mut self.told {
            told.activate().session(time).give_container(&mut Flow(Some(filling()?)));
        }
        Ok(())
    }
}

/// What a reader has, and how much of its backfill it gave in thousandths.
fn supply_of(reader: Option<&dyn ChangeReader>) -> (SupplyTold, u16) {
    let Some(reader) = reader else { return (SupplyTold::Ended, BACKFILLED) };
    let supply = if reader.has_more() { SupplyTold::Ready } else { SupplyTold::Waiting };
    (supply, reader.backfill().map_or(BACKFILLED, |share| (share * 999.0) as u16))
}

/// What a source's supply is called on its way to worker 0.
pub(super) const fn told_of(supply: Supply) -> SupplyTold {
    match supply {
        Supply::Ready => SupplyTold::Ready,
        Supply::At(wait) => SupplyTold::After(wait),
        Supply::Waiting => SupplyTold::Waiting,
        Supply::Ended => SupplyTold::Ended,
    }
}
