//! How large the state of an operator becomes, in words: what the number of its rows goes by, and about how
//! many bytes a row takes.
//!
//! It is told from the plan and its types alone. Text counts 16 bytes, a jsonb 64, and what is kept beside a row as many
//! words as it has; pages, indexes and how well rows are packed do not count.

use crate::types::is_jsonb;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use highwater_engine::plan::{
    Aggregate, AggregateFunction, Aggregation, Final, First, Join, JoinKind, Node, NodeId, Operator, Plan, Ranking,
    SessionColumn, Sessions,
};
use highwater_engine::source::Extent;
use std::sync::Arc;

/// What a value of no fixed width is taken to have.
const TEXT: usize = 16;
/// The same of a jsonb, whose keys are in it.
const DOCUMENT: usize = 64;
const WORD: usize = 8;
/// What a row by group has besides itself: its place, its count and its neighbours.
const BY_GROUP: usize = 1 + 2 * WORD;
/// What a session has besides its key and its accumulators: its place and birth, its times, its neighbour, and
/// what it is in an epoch.
const BY_SESSION: usize = 1 + 5 * WORD;
/// What a row with a lifetime has besides itself.
const BY_TIME: usize = 4 * WORD;

/// What a number of rows goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rows {
    /// What a source gives, and whether it does so for ever.
    Source(String, bool),
    /// The query's own.
    Constant,
    /// What a table holds.
    Table(String),
    /// One for all of some keys' values.
    Keys(String),
    /// One more for each value in them.
    Values,
    /// So many, as the first part says, for all of some keys' values.
    First(String, String),
    /// Those of others that are not over.
    Living(String),
    /// Those of others that watermarks have not passed.
    Pairing(String),
    /// Groups that are not closed.
    Open,
    /// What comes between two checkpoints.
    Interval,
}

/// The size of a node's state; none where it has no rows.
pub(crate) fn size(plan: &Plan, node: &Node) -> Option<String> {
    let (rows, bytes) = kept(plan, node)?;
    let end = end_of(&rows).map(|end| format!(": {end}")).unwrap_or_default();
    let rows: Vec<String> = rows.iter().map(text_of).collect();
    let bytes: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    Some(format!("{}{end}; about {} bytes a row", rows.join(", and "), bytes.join(" and ")))
}

/// What a node keeps, and about how large rows of each kind are.
fn kept(plan: &Plan, node: &Node) -> Option<(Vec<Rows>, Vec<usize>)> {
    let row = bytes_of(&node.schema);
    let input = || rows_of(plan, node.inputs[0]);
    let input_bytes = |at: usize| bytes_of(&plan.nodes[node.inputs[at].0].schema);
    Some(match &node.operator {
        Operator::Source(_)
        | Operator::Changes(_)
        | Operator::Map(_)
        | Operator::Hop(_)
        | Operator::Unnest(_)
        | Operator::Union => {
            return None;
        }
        Operator::Watermark(_) => (vec![Rows::Keys(String::new())], vec![2 * WORD]),
        Operator::Aggregate(aggregation) if frees(plan, node).is_some_and(|(_, groups)| groups) => {
            (vec![Rows::Open], groups(plan, node, aggregation).1)
        }
        Operator::Aggregate(aggregation) => groups(plan, node, aggregation),
        Operator::Closing(closing) => (vec![Rows::Open], groups(plan, node, &closing.aggregation).1),
        Operator::Sessions(sessions) => {
            let is_key = |column: &SessionColumn| matches!(column, SessionColumn::Key(_));
            let columns = sessions.columns.iter().enumerate().filter(|(_, column)| is_key(column));
            let keys: usize = columns.map(|(at, _)| width(node.schema.field(at).data_type())).sum();
            let rows = if frees(plan, node).is_some() { Rows::Open } else { sessions_of(node, sessions) };
            (vec![rows], vec![keys + words_of(&sessions.aggregation) + BY_SESSION])
        }
        Operator::Materialize => (input(), vec![row + WORD]),
        Operator::Upsert(upsert) => {
            let keys = upsert.keys.iter().map(|key| width(node.schema.field(*key).data_type())).sum::<usize>();
            (vec![Rows::Keys(key_names(node, &upsert.keys))], vec![keys + WORD + row + 1])
        }
        Operator::Join(join) => sides(plan, node, join),
        Operator::First(_) | Operator::Regroup(_) if frees(plan, node).is_some() => {
            (vec![Rows::Open], vec![input_bytes(0) + BY_GROUP])
        }
        Operator::First(first) if plan.nodes[node.inputs[0].0].append_only => {
            (vec![of_first(first)], vec![input_bytes(0) + BY_GROUP])
        }
        Operator::First(_) | Operator::Regroup(_) | Operator::Index(_) => (input(), vec![input_bytes(0) + BY_GROUP]),
        Operator::Lifetime(_) => (rows_of_node(plan, node), vec![row + BY_TIME]),
        Operator::Sink(_) => (vec![Rows::Interval], vec![row]),
    })
}

/// When a node forgets what it keeps of groups, and whether the groups go themselves.
pub(crate) fn frees<'a>(plan: &'a Plan, node: &Node) -> Option<(&'a Final, bool)> {
    let at = plan.nodes.iter().position(|other| other.name == node.name)?;
    plan.frees(NodeId(at))
}

/// Groups with their accumulators, and the values that some of those need.
fn groups(plan: &Plan, node: &Node, aggregation: &Aggregation) -> (Vec<Rows>, Vec<usize>) {
    let places: Vec<usize> = (0..aggregation.keys.len()).collect();
    let keys: usize = places.iter().map(|key| width(node.schema.field(*key).data_type())).sum();
    let (mut rows, mut bytes) = (vec![Rows::Keys(key_names(node, &places))], vec![keys + words_of(aggregation)]);
    let inserts = plan.nodes[node.inputs[0].0].append_only;
    let is_extreme = |function| matches!(function, AggregateFunction::Min | AggregateFunction::Max);
    let of_values = aggregation.aggregates.iter().filter(|call| call.distinct || is_extreme(call.function) && !inserts);
    if let Some(value) = of_values.map(|call| width(&call.input)).max() {
        rows.push(Rows::Values);
        bytes.push(1 + keys + value + WORD);
    }
    (rows, bytes)
}

/// How many bytes the accumulators of a group have, with its count.
fn words_of(aggregation: &Aggregation) -> usize {
    let words = |call: &Aggregate| if call.function == AggregateFunction::Count { 1_usize } else { 2 };
    WORD * (1 + aggregation.aggregates.iter().map(words).sum::<usize>())
}

/// The rows of the sides of a join that are kept.
fn sides(plan: &Plan, node: &Node, join: &Join) -> (Vec<Rows>, Vec<usize>) {
    let (mut rows, mut bytes) = (Vec::new(), Vec::new());
    for side in usize::from(join.temporal)..2 {
        let input = node.inputs[side];
        let of_side = rows_of(plan, input);
        if join.forgets.iter().any(|forget| forget.side == side) {
            add(&mut rows, vec![Rows::Pairing(names_of(&of_side))]);
        } else {
            add(&mut rows, of_side);
        }
        bytes.push(bytes_of(&plan.nodes[input.0].schema) + BY_GROUP);
    }
    (rows, bytes)
}

fn rows_of(plan: &Plan, node: NodeId) -> Vec<Rows> {
    rows_of_node(plan, &plan.nodes[node.0])
}

/// What the number of rows goes by that a node has given and not taken back.
fn rows_of_node(plan: &Plan, node: &Node) -> Vec<Rows> {
    let all = |inputs: &[NodeId]| {
        let mut rows = Vec::new();
        inputs.iter().for_each(|input| add(&mut rows, rows_of(plan, *input)));
        rows
    };
    match &node.operator {
        Operator::Source(source) if source.extent() == Extent::Constant => vec![Rows::Constant],
        Operator::Source(source) => vec![Rows::Source(relation(node), source.extent() == Extent::Endless)],
        Operator::Changes(_) => vec![Rows::Table(relation(node))],
        Operator::Aggregate(Aggregation { keys, .. }) => {
            vec![Rows::Keys(key_names(node, &(0..keys.len()).collect::<Vec<_>>()))]
        }
        Operator::Closing(closing) => {
            vec![Rows::Keys(key_names(node, &(0..closing.aggregation.keys.len()).collect::<Vec<_>>()))]
        }
        Operator::Sessions(sessions) => vec![sessions_of(node, sessions)],
        Operator::Upsert(upsert) => vec![Rows::Keys(key_names(node, &upsert.keys))],
        Operator::First(first) => vec![of_first(first)],
        Operator::Lifetime(lifetime) if lifetime.until.is_some() => {
            vec![Rows::Living(names_of(&all(&node.inputs)))]
        }
        Operator::Join(join)
            if join.temporal || matches!(join.kind, JoinKind::Semi | JoinKind::Anti | JoinKind::Mark) =>
        {
            all(&node.inputs[..1])
        }
        _ => all(&node.inputs),
    }
}

fn add(rows: &mut Vec<Rows>, more: Vec<Rows>) {
    for one in more {
        if !rows.contains(&one) {
            rows.push(one);
        }
    }
}

fn sessions_of(node: &Node, sessions: &Sessions) -> Rows {
    Rows::Keys(key_names(node, &(0..sessions.columns.len()).collect::<Vec<_>>()))
}

fn of_first(first: &First) -> Rows {
    let name = |key: &Arc<dyn PhysicalExpr>| match key.downcast_ref::<Column>() {
        Some(column) => column.name().to_owned(),
        None => highwater_engine::written(key).to_string(),
    };
    let most = match first.ranking {
        Ranking::RowNumber => format!("at most {} rows", first.rows),
        Ranking::Rank => format!("at most {} rows, and what is tied with the last,", first.rows),
        Ranking::DenseRank => format!("the rows of at most {} places", first.rows),
    };
    Rows::First(most, first.keys.iter().map(name).collect::<Vec<_>>().join(", "))
}

/// The source or table that a node reads.
fn relation(node: &Node) -> String {
    let name = node.name.strip_suffix("/source").unwrap_or(&node.name);
    name.rsplit(':').next().unwrap_or(name).to_owned()
}

fn key_names(node: &Node, keys: &[usize]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| node.schema.field(*key).name().as_str()).collect();
    names.join(", ")
}

fn text_of(rows: &Rows) -> String {
    match rows {
        Rows::Source(name, true) => format!("every row of {name}, which never ends"),
        Rows::Source(name, false) | Rows::Table(name) => format!("the rows of {name}"),
        Rows::Constant => "the rows of the query itself".to_owned(),
        Rows::Keys(keys) if keys.is_empty() => "one row".to_owned(),
        Rows::Keys(keys) => format!("one row a distinct ({keys})"),
        Rows::Values => "one a value in it".to_owned(),
        Rows::First(most, keys) if keys.is_empty() => most.trim_end_matches(',').to_owned(),
        Rows::First(most, keys) => format!("{most} a distinct ({keys})"),
        Rows::Living(names) => format!("the rows of {names} that are not over"),
        Rows::Pairing(names) => format!("the rows of {names} that can still pair"),
        Rows::Open => "the rows of open windows".to_owned(),
        Rows::Interval => "the rows of one checkpoint interval".to_owned(),
    }
}

/// Rows as others speak of them.
fn names_of(rows: &[Rows]) -> String {
    let name = |rows: &Rows| match rows {
        Rows::Source(name, _) | Rows::Table(name) | Rows::Living(name) | Rows::Pairing(name) => name.clone(),
        Rows::Keys(keys) | Rows::First(_, keys) => format!("distinct ({keys})"),
        Rows::Constant => "the query itself".to_owned(),
        Rows::Values => "values".to_owned(),
        Rows::Open => "open windows".to_owned(),
        Rows::Interval => "one checkpoint interval".to_owned(),
    };
    rows.iter().map(name).collect::<Vec<_>>().join(" and ")
}

/// Where the number of rows ends: what grows most says so.
fn end_of(rows: &[Rows]) -> Option<&'static str> {
    let has = |is: fn(&Rows) -> bool| rows.iter().any(is);
    if has(|rows| matches!(rows, Rows::Source(_, true))) {
        Some("grows without bound")
    } else if has(|rows| matches!(rows, Rows::Keys(keys) | Rows::First(_, keys) if !keys.is_empty())) {
        Some("grows with new keys")
    } else if has(|rows| *rows == Rows::Values) {
        Some("grows with new values")
    } else if has(|rows| matches!(rows, Rows::Living(_))) {
        Some("bounded by time")
    } else if has(|rows| matches!(rows, Rows::Pairing(_))) {
        Some("bounded by watermarks")
    } else {
        has(|rows| *rows == Rows::Open).then_some("bounded by the watermark")
    }
}

fn bytes_of(schema: &SchemaRef) -> usize {
    schema.fields().iter().map(|field| width(field.data_type())).sum()
}

fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Null => 0,
        DataType::Boolean => 1,
        document if is_jsonb(document) => DOCUMENT,
        other => other.primitive_width().unwrap_or(TEXT),
    }
}
