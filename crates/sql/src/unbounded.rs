//! What of a view's state has no bound: the first of its operators that keeps more and more of a source that never
//! ends, and what would bound it.
//!
//! A table is as large as who writes it makes it, and so is what is kept of one, or of a source by its rows' key.
//! Invariant: an operator that lets go of what watermarks have passed, or of what is over, is not told of.

use crate::growth;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Column, Literal};
use highwater_engine::plan::{
    Aggregate, AggregateFunction, Aggregation, First, Join, JoinKind, Node, NodeId, Operator, Plan, Ranking,
};
use highwater_engine::source::Extent;
use std::sync::Arc;

const FILTER: &str = "a temporal filter bounds it, such as WHERE ts > now() - INTERVAL '1 day'";
const OF_GROUPS: &str = "a temporal filter bounds it, such as WHERE ts > now() - INTERVAL '1 day', and in a sink \
                         EMIT ON WINDOW CLOSE";
const OF_SIDES: &str = "a temporal filter bounds it, or watermarks on both sides and a condition on how far their \
                        times are from each other, or on equal windows";

/// State that has no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbounded {
    /// The operator that keeps it.
    pub node: String,
    /// What it keeps of the source.
    pub keeps: &'static str,
    /// The source, as its node is called.
    pub source: String,
    /// Whether each row makes it larger, and not only one with a new key or value.
    pub surely: bool,
    /// What to do, in words.
    pub bound: &'static str,
}

/// Rows of which there are ever more.
#[derive(Clone, Copy, Debug)]
struct Growing<'a> {
    source: &'a str,
    /// Whether they are the source's own, and not one or some for each of its groups.
    each: bool,
}

impl Growing<'_> {
    fn rows(self, node: &Node, bound: &'static str) -> Unbounded {
        self.keeps(node, if self.each { "rows" } else { "rows for each group" }, bound)
    }

    fn keeps(self, node: &Node, keeps: &'static str, bound: &'static str) -> Unbounded {
        let surely = self.each && keeps == "rows";
        Unbounded { node: node.name.clone(), keeps, source: self.source.to_owned(), surely, bound }
    }
}

/// The first of the operators of a view or sink that keeps ever more, if one does.
#[must_use]
pub fn unbounded(plan: &Plan, owner: &str) -> Option<Unbounded> {
    let mut given: Vec<Option<Growing<'_>>> = Vec::new();
    for node in &plan.nodes {
        let inputs: Vec<Option<Growing<'_>>> = node.inputs.iter().map(|input| given[input.0]).collect();
        let is_ours = node.name.strip_prefix(owner).is_some_and(|rest| rest.starts_with('/'));
        if let Some(found) = kept(plan, node, &inputs).filter(|_| is_ours) {
            return Some(found);
        }
        given.push(gives(plan, node, &inputs));
    }
    None
}

/// What a node keeps that has no bound, by what its inputs give.
fn kept(plan: &Plan, node: &Node, inputs: &[Option<Growing<'_>>]) -> Option<Unbounded> {
    let below = inputs.iter().flatten().copied().next()?;
    let forgets = growth::frees(plan, node);
    if forgets.is_some_and(|(_, groups)| groups) {
        return None;
    }
    let inserts = node.inputs.iter().all(|input| plan.nodes[input.0].append_only);
    match &node.operator {
        Operator::Join(join) => Some(side_kept(join, inputs)?.rows(node, OF_SIDES)),
        Operator::Regroup(_) | Operator::Materialize | Operator::Index(_) => Some(below.rows(node, FILTER)),
        // It forgets what is not among the first rows, unless that may go again.
        Operator::First(_) if !inserts => Some(below.rows(node, FILTER)),
        Operator::First(first) if !are_few(plan, node, &first.keys) => {
            Some(below.keeps(node, "the first rows of each group", FILTER))
        }
        Operator::First(first) => {
            (first.ranking != Ranking::RowNumber).then(|| below.keeps(node, "the first rows and their ties", FILTER))
        }
        Operator::Lifetime(lifetime) => lifetime.until.is_none().then(|| below.rows(node, FILTER)),
        Operator::Sessions(_) => Some(below.keeps(node, "a row for each session", FILTER)),
        Operator::Aggregate(Aggregation { keys, .. }) if !are_few(plan, node, keys) => {
            Some(below.keeps(node, "a row for each group", OF_GROUPS))
        }
        Operator::Aggregate(Aggregation { aggregates, .. }) => {
            let keeps_values = aggregates.iter().any(|call| keeps_values(call, inserts));
            (keeps_values && forgets.is_none()).then(|| below.keeps(node, "the distinct values", FILTER))
        }
        _ => None,
    }
}

/// Rows of a side that a join never forgets.
fn side_kept<'a>(join: &Join, inputs: &[Option<Growing<'a>>]) -> Option<Growing<'a>> {
    let sides = usize::from(join.temporal)..inputs.len();
    let mut kept = sides.filter(|side| join.forgets.iter().all(|forget| forget.side != *side));
    kept.find_map(|side| inputs[side])
}

/// Whether an aggregate needs the values themselves.
fn keeps_values(call: &Aggregate, inserts: bool) -> bool {
    let is_extreme = matches!(call.function, AggregateFunction::Min | AggregateFunction::Max);
    call.distinct || is_extreme && !inserts
}

/// Whether there are ever more of the rows that a node gives and does not take back.
fn gives<'a>(plan: &'a Plan, node: &'a Node, inputs: &[Option<Growing<'a>>]) -> Option<Growing<'a>> {
    let below = inputs.iter().flatten().copied().next();
    let grouped = |keys: &[Arc<dyn PhysicalExpr>]| {
        below.filter(|_| !are_few(plan, node, keys)).map(|of| Growing { each: false, ..of })
    };
    match &node.operator {
        Operator::Source(source) if source.extent() == Extent::Endless => {
            let source = node.name.strip_suffix("/source")?;
            Some(Growing { source: source.rsplit(':').next().unwrap_or(source), each: true })
        }
        Operator::Aggregate(aggregation) => grouped(&aggregation.keys),
        Operator::Closing(closing) => grouped(&closing.aggregation.keys),
        Operator::Sessions(_) => below.map(|of| Growing { each: false, ..of }),
        Operator::First(First { ranking: Ranking::RowNumber, keys, .. }) => grouped(keys),
        Operator::Upsert(_) => None,
        Operator::Lifetime(lifetime) if lifetime.until.is_some() => None,
        Operator::Join(
            Join { temporal: true, .. } | Join { kind: JoinKind::Semi | JoinKind::Anti | JoinKind::Mark, .. },
        ) => inputs[0],
        _ => below,
    }
}

/// Whether there are only so many values of some keys, whatever comes: as a GROUP BY without keys has one group.
fn are_few(plan: &Plan, node: &Node, keys: &[Arc<dyn PhysicalExpr>]) -> bool {
    keys.iter().all(|key| is_of_few(plan, node.inputs[0], key))
}

/// Whether an expression over a node's columns has only so many values: constants, truths and remainders.
fn is_of_few(plan: &Plan, node: NodeId, expr: &Arc<dyn PhysicalExpr>) -> bool {
    let Node { schema, operator, inputs, .. } = &plan.nodes[node.0];
    let Ok(data_type) = expr.data_type(schema) else { return false };
    if data_type == DataType::Boolean || expr.downcast_ref::<Literal>().is_some() {
        return true;
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let by_constant = binary.right().downcast_ref::<Literal>().is_some();
        let is_cut = matches!(binary.op(), Op::Modulo | Op::BitwiseAnd) && by_constant && data_type.is_integer();
        let are_few = || [binary.left(), binary.right()].iter().all(|side| is_of_few(plan, node, side));
        return is_cut || are_few();
    }
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        let mut values = case.when_then_expr().iter().map(|(_, then)| then).chain(case.else_expr());
        return values.all(|value| is_of_few(plan, node, value));
    }
    match (expr.downcast_ref::<Column>(), operator) {
        (Some(column), Operator::Map(map)) => {
            map.columns.get(column.index()).is_some_and(|below| is_of_few(plan, inputs[0], below))
        }
        _ => false,
    }
}
