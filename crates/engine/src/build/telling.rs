//! How sources tell the control on worker 0 what they have, and other operators when time alone changes
//! what they give, or how far they have filled new readers: through the dataflow or, where there is one
//! worker only, at once.

use super::{Builder, Parcels, SharedControl, WakeHere, Wiring};
use crate::control::{BACKFILLED, Supplied, SupplyTold};
use crate::parcel::Parcel;
use crate::plan::{NodeId, Operator};
use highwater_core::WallMicros;
use std::sync::Arc;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};

/// The output on which a source tells, after the one of its rows.
const TOLD: usize = 1;

/// Tells of a source's supply, after each tick that asked for rows and when it has changed.
pub(super) struct Teller {
    source: usize,
    worker: usize,
    way: Way,
    last: Option<(SupplyTold, u16)>,
    /// A tick asked for rows since it was told.
    pub(super) asked: bool,
    pub(super) gave_rows: bool,
}

enum Way {
    /// The capability is held on this output only, so that a source can speak up between ticks.
    Stream(OutputBuilder<u64, Builder<Parcel<Supplied>>>, Option<Capability<u64>>),
    /// The flag says whether it may speak.
    Direct(SharedControl, WakeHere, bool),
}

impl<'s> Wiring<'_, 's> {
    /// A teller for a source that has an output for its rows already.
    pub(super) fn teller(&mut self, source: usize, builder: &mut OperatorBuilder<'s, u64>) -> Teller {
        let way = match &self.direct {
            Some((control, wake)) => Way::Direct(control.clone(), wake.clone(), false),
            None => {
                let (told, supplies): (_, Parcels<'s, Supplied>) = builder.new_output();
                self.supplies.push(supplies);
                Way::Stream(OutputBuilder::from(told), None)
            }
        };
        Teller { source, worker: self.place.worker, way, last: None, asked: false, gave_rows: false }
    }

    /// What a stateful operator tells, which has its other outputs already.
    pub(super) fn own_telling(&mut self, id: NodeId, builder: &mut OperatorBuilder<'s, u64>) -> OwnTelling {
        let spec = Arc::clone(self.spec);
        let is_timed = matches!(spec.plan.nodes[id.0].operator, Operator::Lifetime(_));
        let time = is_timed.then(|| self.teller(id.0, builder));
        let fills = spec.fills_of(id).filter(|(_, fill)| !fill.at_once);
        OwnTelling { time, fills: fills.map(|(source, _)| self.teller(source, builder)).collect() }
    }
}

/// Tells when time alone changes what a stateful operator gives, and of its fills; says nothing for those that
/// have neither.
pub(super) struct OwnTelling {
    time: Option<Teller>,
    fills: Vec<Teller>,
}

impl OwnTelling {
    fn tellers(&mut self) -> impl DoubleEndedIterator<Item = &mut Teller> {
        self.time.iter_mut().chain(&mut self.fills)
    }

    /// It may speak from the start, with the capabilities of its outputs, which are the operator's last.
    pub(super) fn begin(&mut self, capabilities: &mut Vec<Capability<u64>>) {
        for teller in self.tellers().rev() {
            match &mut teller.way {
                Way::Stream(_, held) => *held = capabilities.pop(),
                Way::Direct(_, _, may) => *may = true,
            }
        }
    }

    /// Tells what is due, and how far the fills are; what it says from now on belongs to `epoch` or a later one.
    pub(super) fn tell(&mut self, due: Option<WallMicros>, fills: impl Iterator<Item = (SupplyTold, u16)>, epoch: u64) {
        if let Some(teller) = &mut self.time {
            teller.tell(SupplyTold::Due(due), BACKFILLED);
        }
        for (teller, (supply, share)) in self.fills.iter_mut().zip(fills) {
            teller.gave_rows = true;
            teller.tell(supply, share);
        }
        for teller in self.tellers() {
            if let Way::Stream(_, Some(held)) = &mut teller.way {
                held.downgrade(&epoch);
            }
        }
    }

    /// There will be no more epochs.
    pub(super) fn end(&mut self) {
        self.tellers().for_each(Teller::end);
    }
}

impl Teller {
    /// A tick was answered: from its time on, the source may speak.
    pub(super) fn answered(&mut self, time: &InputCapability<u64>) {
        match &mut self.way {
            Way::Stream(_, held) => *held = Some(time.retain(TOLD)),
            Way::Direct(_, _, may) => *may = true,
        }
    }

    /// There will be no more ticks.
    pub(super) fn end(&mut self) {
        match &mut self.way {
            Way::Stream(_, held) => *held = None,
            Way::Direct(_, _, may) => *may = false,
        }
    }

    /// Whether a tick was answered and more may come.
    pub(super) const fn may_speak(&self) -> bool {
        match &self.way {
            Way::Stream(_, held) => held.is_some(),
            Way::Direct(_, _, may) => *may,
        }
    }

    /// Tells it, unless that is known and nobody asked.
    pub(super) fn tell(&mut self, supply: SupplyTold, backfill: u16) {
        if !std::mem::take(&mut self.asked) && self.last == Some((supply, backfill)) {
            return;
        }
        self.last = Some((supply, backfill));
        let gave_rows = std::mem::take(&mut self.gave_rows);
        let said = Supplied { worker: self.worker, source: self.source, supply, gave_rows, backfill };
        match &mut self.way {
            Way::Stream(told, Some(time)) => {
                told.activate().session(time).give_container(&mut Parcel::new(0, said));
            }
            Way::Stream(_, None) => {}
            Way::Direct(control, wake, _) => {
                if let Some(control) = control.borrow_mut().as_mut() {
                    control.supplied(&said);
                }
                wake.activate();
            }
        }
    }
}
