//! Keys: by which columns the rows of an operator are told apart.
//!
//! A key of a node is a set of its columns in which no two of the rows agree that it has given and not taken back,
//! at the end of each epoch; within one, a row may come before the row of its key has gone. Values agree as those of
//! GROUP BY do: nulls with nulls, the zeros of floating point with each other, and intervals of one length. A node
//! without a key may have a row several times, and one with the empty key has at most one row. Keys are told from the
//! plan alone: each one that is told is true, but not each one that is true is told. Invariant: none of a node's keys
//! is part of another one, and those of the fewest columns come first.

use super::not_null;
use super::ties::unaliased;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Operator as Compare, Window};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use highwater_engine::has_forms;
use highwater_engine::plan::{
    First, Hop, Join, JoinKind, Key, Map, Node, Operator, Plan, Ranking, SessionColumn, Sessions, View,
};
use std::sync::Arc;

/// How many keys of a node are told.
const MOST_KEYS: usize = 8;

/// The keys of each node of a plan.
pub(crate) fn of_nodes(plan: &Plan) -> Vec<Vec<Key>> {
    let mut known: Vec<Vec<Key>> = Vec::with_capacity(plan.nodes.len());
    let filled = not_null::of_nodes(plan);
    for node in &plan.nodes {
        let keys = of_node(plan, node, &known, &filled);
        known.push(fewest(keys));
    }
    known
}

/// The keys of what a view shows, of those of the nodes.
pub(crate) fn of_view(plan: &Plan, view: &View, nodes: &[Vec<Key>]) -> Vec<Key> {
    let (keys, from) = (nodes[view.node.0].as_slice(), &plan.nodes[view.node.0].schema);
    let shown = |map: &Map| fewest(mapped(map, from, view.schema.fields().len(), keys));
    view.finish.as_ref().map_or_else(|| keys.to_vec(), shown)
}

fn of_node(plan: &Plan, node: &Node, known: &[Vec<Key>], filled: &[Key]) -> Vec<Key> {
    let of_input = |at: usize| node.inputs.get(at).map(|input| known[input.0].as_slice()).unwrap_or_default();
    let input = of_input(0);
    let from = || &plan.nodes[node.inputs[0].0].schema;
    let width = || from().fields().len();
    match &node.operator {
        Operator::Changes(table) => some_columns(table.key()),
        // A row that is late would not be taken back.
        Operator::Watermark(_) if !plan.nodes[node.inputs[0].0].append_only => Vec::new(),
        Operator::Watermark(_)
        | Operator::Materialize
        | Operator::Index(_)
        | Operator::Lifetime(_)
        | Operator::Sink(_) => input.to_vec(),
        Operator::Map(map) => mapped(map, from(), node.schema.fields().len(), input),
        Operator::Hop(hop) => windowed(hop, input, width()),
        Operator::Aggregate(aggregation) => grouped(&aggregation.keys, input),
        Operator::Closing(closing) => grouped(&closing.aggregation.keys, input),
        Operator::Sessions(sessions) => of_sessions(sessions),
        Operator::Upsert(upsert) => some_columns(upsert.keys.clone()),
        Operator::Union if node.inputs.len() == 1 => input.to_vec(),
        // Rows of a source may be alike, as elements of an array and rows of two inputs may.
        Operator::Source(_) | Operator::Unnest(_) | Operator::Union => Vec::new(),
        Operator::Join(join) => joined(join, [input, of_input(1)], width(), &not_null::of_sides(node, filled, width())),
        Operator::First(first) => of_first(first, input),
        Operator::Regroup(regroup) => regroup.recompute.unique(input),
    }
}

/// The keys that no other one is part of.
fn fewest(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let mut fewest: Vec<Key> = Vec::new();
    for key in keys {
        if fewest.len() < MOST_KEYS && !fewest.iter().any(|less| less.is_subset(&key)) {
            fewest.push(key);
        }
    }
    fewest
}

/// A key of some columns, if there are any.
fn some_columns(columns: Vec<usize>) -> Vec<Key> {
    if columns.is_empty() { Vec::new() } else { vec![columns.into_iter().collect()] }
}

/// Keys of columns that stand elsewhere now; those are left out of which a column is gone.
fn moved(keys: &[Key], to: impl Fn(usize) -> Option<usize>) -> Vec<Key> {
    keys.iter().filter_map(|key| key.iter().map(|column| to(*column)).collect::<Option<Key>>()).collect()
}

pub(super) fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

fn place_of(column: usize, exprs: &[Arc<dyn PhysicalExpr>]) -> Option<usize> {
    exprs.iter().position(|expr| column_of(expr) == Some(column))
}

/// Those whose columns pass as they are, but for columns that have one value.
fn mapped(map: &Map, from: &SchemaRef, width: usize, input: &[Key]) -> Vec<Key> {
    let mut fixed = Key::new();
    map.filter.iter().for_each(|filter| add_fixed(&mut fixed, filter, from));
    let needed: Vec<Key> = input.iter().map(|key| key - &fixed).collect();
    let kept = |column: usize| (column < width).then_some(column);
    moved(&needed, |column| if map.columns.is_empty() { kept(column) } else { place_of(column, &map.columns) })
}

/// Adds the columns of which a condition says the value.
fn add_fixed(fixed: &mut Key, condition: &Arc<dyn PhysicalExpr>, from: &SchemaRef) {
    let Some(binary) = condition.downcast_ref::<BinaryExpr>() else { return };
    let (left, right) = (binary.left(), binary.right());
    match binary.op() {
        Compare::And => [left, right].into_iter().for_each(|part| add_fixed(fixed, part, from)),
        Compare::Eq if right.is::<Literal>() => fixed.extend(column_of(left).filter(|at| is_plain(*at, from))),
        Compare::Eq if left.is::<Literal>() => fixed.extend(column_of(right).filter(|at| is_plain(*at, from))),
        _ => {}
    }
}

/// Whether equal values of a column are the same.
fn is_plain(column: usize, from: &SchemaRef) -> bool {
    match from.field(column).data_type() {
        DataType::Boolean | DataType::Utf8 | DataType::Date32 | DataType::Timestamp(..) => true,
        other => other.is_integer(),
    }
}

/// A row is in each window once, and in no other one where they do not overlap.
fn windowed(hop: &Hop, input: &[Key], width: usize) -> Vec<Key> {
    if hop.size_us <= hop.slide_us {
        return input.to_vec();
    }
    let bounds = [width, width + 1];
    input.iter().flat_map(|key| bounds.map(|bound| with(key, bound))).collect()
}

fn with(key: &Key, column: usize) -> Key {
    key.iter().copied().chain([column]).collect()
}

/// The groups' columns, and those of them that have a key of the input, as then each row is a group.
fn grouped(by: &[Arc<dyn PhysicalExpr>], input: &[Key]) -> Vec<Key> {
    let mut keys = moved(input, |column| place_of(column, by));
    keys.push((0..by.len()).collect());
    keys
}

/// Windows of the same keys neither begin nor end together.
fn of_sessions(sessions: &Sessions) -> Vec<Key> {
    let columns = &sessions.columns;
    let place = |key: usize| columns.iter().position(|column| *column == SessionColumn::Key(key));
    let keys: Option<Key> = (0..sessions.aggregation.keys.len()).map(place).collect();
    let Some(keys) = keys else { return Vec::new() };
    let is_bound = |column: &SessionColumn| !matches!(column, SessionColumn::Key(_));
    let bounds = columns.iter().enumerate().filter(|(_, column)| is_bound(column));
    bounds.map(|(at, _)| with(&keys, at)).collect()
}

fn of_first(first: &First, input: &[Key]) -> Vec<Key> {
    let mut keys = input.to_vec();
    if first.rows == 1 && first.ranking == Ranking::RowNumber {
        keys.extend(first.keys.iter().map(column_of).collect::<Option<Key>>());
    }
    keys
}

/// A pair is told apart by both of its rows. Of the second, those columns may be left out by which it was found: the
/// first row says what is in them. A row of one side without a pair has a key of that side, as all of its pairs have,
/// but shares the nulls that stand for the other side: a full join has both keys together, of which a part is never
/// null in its side, as else a row of each side without a pair may be alike in them.
fn joined(join: &Join, [left, right]: [&[Key]; 2], width: usize, filled: &Key) -> Vec<Key> {
    let right = moved(right, |column| Some(width + column));
    let left_by: Key = join.left_keys.iter().filter_map(column_of).collect();
    let right_by: Key = join.right_keys.iter().filter_map(column_of).map(|column| width + column).collect();
    match join.kind {
        JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => left.to_vec(),
        JoinKind::Left => paired(left, &right, &right_by),
        JoinKind::Right => paired(&right, left, &left_by),
        JoinKind::Full => {
            let mut keys = paired(left, &right, &Key::new());
            keys.retain(|key| !key.is_disjoint(filled));
            keys
        }
        // A right row of one key is paired as it is at one time, and another time as it is then.
        JoinKind::Inner if join.temporal => paired(left, &right, &right_by),
        JoinKind::Inner => {
            let mut keys = paired(left, &right, &right_by);
            keys.extend(paired(&right, left, &left_by));
            keys
        }
    }
}

/// Each key of a side with what of the other side's keys is not among the columns by which its rows are found.
fn paired(side: &[Key], other: &[Key], found_by: &Key) -> Vec<Key> {
    let pair = |key: &Key| other.iter().map(|more| key | &(more - found_by)).collect::<Vec<Key>>();
    side.iter().flat_map(pair).collect()
}

/// The keys of groups that are computed anew, of those of the rows that they are computed from.
pub(super) fn of_computed(node: &LogicalPlan, rows: &[Key]) -> Vec<Key> {
    match node {
        LogicalPlan::TableScan(_) => rows.to_vec(),
        LogicalPlan::SubqueryAlias(alias) => of_computed(&alias.input, rows),
        LogicalPlan::Filter(filter) => of_computed(&filter.input, rows),
        LogicalPlan::Sort(sort) => of_computed(&sort.input, rows),
        LogicalPlan::Limit(limit) => of_computed(&limit.input, rows),
        LogicalPlan::Projection(projection) => {
            let from = projection.input.schema();
            moved(&of_computed(&projection.input, rows), |column| shown_at(column, &projection.expr, from))
        }
        LogicalPlan::Window(window) => {
            let mut keys = of_computed(&window.input, rows);
            keys.extend(numbered(window));
            keys
        }
        LogicalPlan::Aggregate(aggregate) => aggregated(aggregate, &of_computed(&aggregate.input, rows)),
        _ => Vec::new(),
    }
}

/// The place of a column of a schema, if an expression over it is one.
fn place_in(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match unaliased(expr) {
        Expr::Column(column) => schema.index_of_column(column).ok(),
        _ => None,
    }
}

fn shown_at(column: usize, exprs: &[Expr], schema: &DFSchema) -> Option<usize> {
    exprs.iter().position(|expr| place_in(expr, schema) == Some(column))
}

/// Each row_number() with the columns of its partition. Where equal values may differ, they may be in two partitions.
fn numbered(window: &Window) -> Vec<Key> {
    let input = window.input.schema();
    let width = input.fields().len();
    let plain = |expr: &Expr| place_in(expr, input).filter(|at| !has_forms(input.field(*at).data_type()));
    let key = |(at, expr): (usize, &Expr)| {
        let Expr::WindowFunction(call) = unaliased(expr) else { return None };
        let partition = call.params.partition_by.iter().map(plain).chain([Some(width + at)]);
        let is_number = call.fun.name() == "row_number" && call.params.filter.is_none();
        if is_number { partition.collect::<Option<Key>>() } else { None }
    };
    window.window_expr.iter().enumerate().filter_map(key).collect()
}

/// As [`grouped`]; where equal values may differ, they may be in two groups. Of groups that are one row each,
/// first_value() passes a column as it is.
fn aggregated(aggregate: &Aggregate, input: &[Key]) -> Vec<Key> {
    let (by, schema) = (aggregate.group_expr.as_slice(), aggregate.input.schema());
    if by.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return Vec::new();
    }
    let mut keys = moved(input, |column| shown_at(column, by, schema));
    if !keys.is_empty() {
        let is_first_of = |expr: &Expr, column: usize| first_value_of(expr, schema) == Some(column);
        let place = |column: usize| aggregate.aggr_expr.iter().position(|expr| is_first_of(expr, column));
        keys.extend(moved(input, |column| place(column).map(|at| by.len() + at)));
    }
    if (0..by.len()).all(|at| !has_forms(aggregate.schema.field(at).data_type())) {
        keys.push((0..by.len()).collect());
    }
    keys
}

/// The column whose first value an expression is.
fn first_value_of(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    let Expr::AggregateFunction(call) = unaliased(expr) else { return None };
    match call.params.args.as_slice() {
        [of] if call.func.name() == "first_value" && call.params.filter.is_none() => place_in(of, schema),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
