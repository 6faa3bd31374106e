//! Columns of an operator in which no row has a null, as far as the plan tells.

use super::keys::column_of;
use datafusion::physical_expr::PhysicalExpr;
use highwater_engine::plan::{Join, JoinKind, Key, Node, Operator, Plan};
use std::sync::Arc;

/// The columns without nulls of each node of a plan.
pub(super) fn of_nodes(plan: &Plan) -> Vec<Key> {
    let mut known: Vec<Key> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let columns = of_node(plan, node, &known);
        known.push(columns);
    }
    known
}

fn of_node(plan: &Plan, node: &Node, known: &[Key]) -> Key {
    let input = || node.inputs.first().map(|input| known[input.0].clone()).unwrap_or_default();
    let width = || plan.nodes[node.inputs[0].0].schema.fields().len();
    match &node.operator {
        Operator::Changes(table) => table.key().into_iter().collect(),
        Operator::Upsert(upsert) => upsert.keys.iter().copied().collect(),
        Operator::Map(map) if map.columns.is_empty() && !node.schema.fields().is_empty() => input(),
        Operator::Map(map) => shown(&input(), &map.columns),
        Operator::Aggregate(aggregation) => shown(&input(), &aggregation.keys),
        Operator::Closing(closing) => shown(&input(), &closing.aggregation.keys),
        Operator::Hop(_) => input().into_iter().chain([width(), width() + 1]).collect(),
        Operator::Join(join) => of_join(join, &input(), &of_sides(node, known, width())),
        Operator::Watermark(_)
        | Operator::Materialize
        | Operator::Index(_)
        | Operator::First(_)
        | Operator::Lifetime(_)
        | Operator::Sink(_) => input(),
        Operator::Source(_) | Operator::Unnest(_) | Operator::Sessions(_) | Operator::Union | Operator::Regroup(_) => {
            Key::new()
        }
    }
}

/// Those of both inputs of a join, at their places in a pair.
pub(super) fn of_sides(join: &Node, known: &[Key], left_width: usize) -> Key {
    let side = |at: usize| join.inputs.get(at).into_iter().flat_map(|input| known[input.0].iter().copied());
    side(0).chain(side(1).map(|column| left_width + column)).collect()
}

/// A side of which rows may be missing has nulls.
fn of_join(join: &Join, left: &Key, both: &Key) -> Key {
    match join.kind {
        JoinKind::Inner => both.clone(),
        JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => left.clone(),
        JoinKind::Right => both.difference(left).copied().collect(),
        JoinKind::Full => Key::new(),
    }
}

/// Where those columns of an input stand in what is made of it.
fn shown(input: &Key, exprs: &[Arc<dyn PhysicalExpr>]) -> Key {
    let is_one = |at: &usize| column_of(&exprs[*at]).is_some_and(|column| input.contains(&column));
    (0..exprs.len()).filter(is_one).collect()
}
