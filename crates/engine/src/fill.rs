//! The contents of an operator, given to operators that are new to it.
//!
//! A fill gives one key group after the other, some of them in each epoch, and of every epoch's changes
//! those of the groups that it gave before. So after each epoch its readers have what the operator has in
//! these groups: a checkpoint keeps which they are, a restart goes on with the next one, and what an epoch
//! changes at the readers is about a group, however much there is. Readers that go by a watermark, or pair
//! a row once, are given all in the first epoch of the run: a row that came later would be late.
//! Invariants: a key group is given whole in one epoch; a fill reads nothing but the operator's own worker's
//! groups, and so needs nobody's leave.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::plan::{NodeId, Operator, Plan};
use crate::source::Offset;
use crate::tables::is_new;
use arrow::array::BooleanArray;
use highwater_checkpoint::{Manifest, OperatorMeta};
use highwater_core::{KeyGroups, WorkerIndex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// With what the names begin under which fills stand among an operator's offsets.
const NAME: &str = "fill ";

/// Operators with state, by name and incarnation.
type Operators = BTreeSet<(String, u64)>;

/// A fill that is not over, as all workers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Whose contents are given.
    pub(crate) from: NodeId,
    /// The nodes that read it.
    pub(crate) readers: BTreeSet<NodeId>,
    /// The operators with state whose input it is, maybe through others.
    pub(crate) operators: Operators,
    /// By key group.
    given: Vec<bool>,
    /// Whether all that is not given yet is given in the first epoch.
    pub(crate) at_once: bool,
}

/// A fill in a checkpoint, as one worker keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    operators: Operators,
    /// The key groups that are given: from each first number to before the second.
    given: Vec<(usize, usize)>,
}

/// The fills of a plan after a checkpoint: those that it was in the midst of, and one of each operator with
/// contents that has new readers.
///
/// # Errors
/// `Data` when what the checkpoint has of a fill is damaged.
pub(crate) fn fills(plan: &Plan, manifest: Option<&Manifest>, groups: KeyGroups) -> Result<Vec<Fill>> {
    let Some(manifest) = manifest else { return Ok(Vec::new()) };
    let mut fills: Vec<Fill> = Vec::new();
    for from in (0..plan.nodes.len()).map(NodeId) {
        if !has_contents(&plan.nodes[from.0].operator) || is_new(plan, &manifest.operators, from) {
            continue;
        }
        let offsets = manifest.sources.get(&plan.nodes[from.0].name);
        let mut known: BTreeMap<Operators, Vec<bool>> = BTreeMap::new();
        for (_, kept) in offsets.into_iter().flatten().filter(|(name, _)| name.starts_with(NAME)) {
            let Kept { operators, given } =
                serde_json::from_value(kept.clone()).map_err(|error| Error::data("a fill", error))?;
            let all = known.entry(operators).or_insert_with(|| vec![false; groups.count()]);
            for (first, end) in given {
                let given = all.get_mut(first..end).ok_or_else(|| Error::data("a fill", "key groups that are none"))?;
                given.fill(true);
            }
        }
        let known = known.into_iter().filter(|(_, given)| given.contains(&false));
        fills.extend(known.filter_map(|(operators, given)| {
            let reads = |reader: NodeId| {
                !is_new(plan, &manifest.operators, reader) && !behind(plan, reader).is_disjoint(&operators)
            };
            Fill::of(plan, from, reads, operators.clone(), given)
        }));
        let reads = |reader: NodeId| is_new(plan, &manifest.operators, reader);
        let operators = new_behind(plan, &manifest.operators, from);
        fills.extend(Fill::of(plan, from, reads, operators, vec![false; groups.count()]));
        let forgets = plan.frees(from).is_some_and(|(_, groups)| groups);
        if forgets && fills.last().is_some_and(|fill| fill.from == from) {
            let name = &plan.nodes[from.0].name;
            let message = format!("{name} has forgotten the groups that are final: what reads it must be made anew");
            return Err(Error::Plan(message));
        }
    }
    Ok(fills)
}

/// Whether an operator keeps what it gave. That of others is gone, or theirs to give again.
const fn has_contents(operator: &Operator) -> bool {
    !operator.is_stateless()
        && !matches!(operator, Operator::Source(_) | Operator::Changes(_) | Operator::Watermark(_) | Operator::Sink(_))
}

/// The nodes that read a node.
fn readers_of(plan: &Plan, node: NodeId) -> impl Iterator<Item = NodeId> {
    (node.0 + 1..plan.nodes.len()).filter(move |at| plan.nodes[*at].inputs.contains(&node)).map(NodeId)
}

/// The operators with state that a node gives its rows to, maybe through others; itself if it is one.
fn behind(plan: &Plan, node: NodeId) -> Operators {
    let this = &plan.nodes[node.0];
    if this.operator.is_stateless() {
        return readers_of(plan, node).flat_map(|reader| behind(plan, reader)).collect();
    }
    BTreeSet::from([(this.name.clone(), this.incarnation)])
}

/// Those behind the readers of a node that a checkpoint does not know.
fn new_behind(plan: &Plan, kept: &[OperatorMeta], node: NodeId) -> Operators {
    let is_known =
        |(name, incarnation): &(String, u64)| kept.iter().any(|o| o.name == *name && o.incarnation == *incarnation);
    let all = readers_of(plan, node).flat_map(|reader| behind(plan, reader));
    all.filter(|operator| !is_known(operator)).collect()
}

/// Whether rows of a node go, maybe through others, to what a row that comes an epoch later is not the same to.
fn goes_by_time(plan: &Plan, node: NodeId) -> bool {
    let by_time = match &plan.nodes[node.0].operator {
        Operator::Watermark(_) | Operator::Closing(_) => true,
        Operator::Join(join) => join.temporal || !join.forgets.is_empty(),
        _ => false,
    };
    by_time || readers_of(plan, node).any(|reader| goes_by_time(plan, reader))
}

impl Fill {
    fn of(
        plan: &Plan,
        from: NodeId,
        reads: impl Fn(NodeId) -> bool,
        operators: Operators,
        given: Vec<bool>,
    ) -> Option<Self> {
        let readers: BTreeSet<NodeId> =
            readers_of(plan, from).filter(|reader| reads(*reader) && !plan.is_for_logs(*reader)).collect();
        let at_once = readers.iter().any(|reader| goes_by_time(plan, *reader));
        (!readers.is_empty()).then_some(Self { from, readers, operators, given, at_once })
    }

    /// Whether a node gets rows of it, maybe through others.
    pub(crate) fn reaches(&self, plan: &Plan, node: NodeId) -> bool {
        let mut reached: Vec<bool> = Vec::with_capacity(node.0 + 1);
        for (at, this) in plan.nodes[..=node.0].iter().enumerate() {
            let is_reached = this.inputs.iter().any(|input| reached[input.0]);
            reached.push(is_reached || self.readers.contains(&NodeId(at)));
        }
        reached[node.0]
    }
}

/// A fill on one of the operator's workers.
#[derive(Debug)]
pub(crate) struct Giving {
    fill: Fill,
    groups: KeyGroups,
    owned: Range<usize>,
}

impl Giving {
    /// `owned` are the worker's key groups.
    pub(crate) const fn new(fill: Fill, groups: KeyGroups, owned: Range<usize>) -> Self {
        Self { fill, groups, owned }
    }

    pub(crate) const fn is_at_once(&self) -> bool {
        self.fill.at_once
    }

    /// The key group that is to be given next; none when it is over.
    pub(crate) fn next(&self) -> Option<u16> {
        self.owned.clone().find(|group| !self.fill.given[*group]).map(|group| group as u16)
    }

    /// A key group was given.
    pub(crate) fn gave(&mut self, group: u16) {
        self.fill.given[usize::from(group)] = true;
    }

    /// How much is given, in thousandths.
    pub(crate) fn share(&self) -> u16 {
        let given = self.fill.given[self.owned.clone()].iter().filter(|given| **given).count();
        (given * 1000).checked_div(self.owned.len()).unwrap_or(1000) as u16
    }

    /// What of some changes is for the readers, `hashes` being those of their keys.
    pub(crate) fn follow(&self, changes: &Batch, hashes: &[u64]) -> Result<Option<Batch>> {
        let is_given = |hash: &u64| self.fill.given[self.groups.of_hash(*hash)];
        let keep: BooleanArray = hashes.iter().map(|hash| Some(is_given(hash))).collect();
        if keep.true_count() == keep.len() {
            return Ok(Some(changes.clone()));
        }
        let kept = changes.filter(&keep).map_err(|error| Error::data("a fill", error))?;
        Ok((!kept.is_empty()).then_some(kept))
    }

    /// Enters what this worker has given among an operator's offsets; `number` tells its fills apart.
    pub(crate) fn keep(
        &self,
        number: usize,
        worker: WorkerIndex,
        offsets: &mut BTreeMap<String, Offset>,
    ) -> Result<()> {
        let mut given: Vec<(usize, usize)> = Vec::new();
        for group in self.owned.clone().filter(|group| self.fill.given[*group]) {
            match given.last_mut() {
                Some((_, end)) if *end == group => *end += 1,
                _ => given.push((group, group + 1)),
            }
        }
        let kept = Kept { operators: self.fill.operators.clone(), given };
        let kept = serde_json::to_value(kept).map_err(|error| Error::data("a fill", error))?;
        offsets.insert(format!("{NAME}{number} of worker {}", worker.0), kept);
        Ok(())
    }
}
