//! A pipeline's plan as text: some lines an operator, with what it reads, does and keeps.

use crate::growth;
use crate::lower::keys;
use crate::types::pg_name;
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use highwater_engine::plan::{
    Aggregate, AggregateFunction, Aggregation, Closing, First, Join, JoinKind, Key, Lifetime, Map, Node, Operator,
    Passing, Plan, Ranking, Regroup, Sessions, SortKey, Unnest, View,
};
use std::sync::Arc;

/// The lines of EXPLAIN.
#[must_use]
pub fn explain(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let keys = keys::of_nodes(plan);
    for view in &plan.views {
        lines.extend(view_lines(plan, view, &keys));
    }
    for (node, keys) in plan.nodes.iter().zip(&keys) {
        lines.extend(node_lines(plan, node, keys));
    }
    lines
}

fn view_lines(plan: &Plan, view: &View, keys: &[Vec<Key>]) -> Vec<String> {
    let mut lines = vec![format!("view {} ({})", view.name, columns_of(&view.schema))];
    lines.push(format!("  reads {}", plan.nodes[view.node.0].name));
    if let Some(map) = &view.finish {
        lines.extend(map_lines(map, &view.schema));
    }
    lines.push(stream_key_line(&keys::of_view(plan, view, keys), &view.schema));
    lines
}

fn node_lines(plan: &Plan, node: &Node, keys: &[Key]) -> Vec<String> {
    let inputs: Vec<&str> = node.inputs.iter().map(|i| plan.nodes[i.0].name.as_str()).collect();
    let mut lines = vec![match inputs.as_slice() {
        [] => node.name.clone(),
        inputs => format!("{} <- {}", node.name, inputs.join(", ")),
    }];
    match &node.operator {
        Operator::Source(_) | Operator::Changes(_) => lines.push(format!("  columns: {}", columns_of(&node.schema))),
        Operator::Watermark(watermark) => {
            let time = node.schema.field(watermark.time).name();
            lines.push(format!("  watermark: {time} less {} us; rows before it are left out", watermark.delay_us));
            lines.push("  state: the watermark".to_owned());
        }
        Operator::Map(map) => lines.extend(map_lines(map, &node.schema)),
        Operator::Hop(hop) => lines.push(format!(
            "  time: {}, slide: {} us, size: {} us",
            node.schema.field(hop.time).name(),
            hop.slide_us,
            hop.size_us
        )),
        Operator::Unnest(unnest) => lines.push(format!("  elements: {}", unnested(unnest, &node.schema))),
        Operator::Aggregate(aggregation) => {
            lines.extend(aggregation_lines(aggregation));
            lines.extend(kept_lines(plan, node));
        }
        Operator::Closing(closing) => lines.extend(closing_lines(plan, node, closing)),
        Operator::Sessions(sessions) => lines.extend(sessions_lines(plan, node, sessions)),
        Operator::Union => {}
        Operator::Join(join) => lines.extend(join_lines(plan, node, join)),
        Operator::First(first) => {
            lines.extend(first_lines(first));
            lines.extend(freeing_lines(plan, node, "forgotten when", |key| told(&first.keys[key])));
        }
        Operator::Regroup(regroup) => {
            lines.extend(regroup_lines(regroup));
            lines.extend(freeing_lines(plan, node, "forgotten when", |key| told(&regroup.keys[key])));
        }
        Operator::Lifetime(lifetime) => lines.extend(lifetime_lines(lifetime, &node.schema)),
        Operator::Materialize => lines.push("  state: one row for each distinct row".to_owned()),
        Operator::Index(index) => {
            let keys: Vec<String> = index.keys.iter().map(|key| node.schema.field(*key).name().clone()).collect();
            lines.extend([key_line(&keys), "  state: the rows of each key".to_owned()]);
        }
        Operator::Upsert(upsert) => {
            let keys: Vec<String> = upsert.keys.iter().map(|key| node.schema.field(*key).name().clone()).collect();
            lines.extend([key_line(&keys), "  state: the last row of each key".to_owned()]);
        }
        Operator::Sink(_) => lines.push("  state: the outbox of one checkpoint".to_owned()),
    }
    lines.extend(growth::size(plan, node).map(|size| format!("  size: {size}")));
    lines.push(stream_key_line(keys, &node.schema));
    lines.push(format!("  append-only: {}", if node.append_only { "yes" } else { "no" }));
    lines
}

/// By which columns rows are told apart; a name that several columns have comes with the column's place.
fn stream_key_line(keys: &[Key], schema: &SchemaRef) -> String {
    let name = |column: &usize| {
        let name = schema.field(*column).name();
        let is_alone = schema.fields().iter().filter(|field| field.name() == name).count() == 1;
        if is_alone { name.clone() } else { format!("{name}@{column}") }
    };
    let names = |key: &Key| format!("({})", key.iter().map(name).collect::<Vec<_>>().join(", "));
    let keys: Vec<String> = keys.iter().map(names).collect();
    match keys.as_slice() {
        [] => "  stream key: none, rows may repeat".to_owned(),
        [one] if one == "()" => "  stream key: (), at most one row".to_owned(),
        keys => format!("  stream key: {}", keys.join(" or ")),
    }
}

/// An expression with the operators that it is written with.
fn told(expr: &Arc<dyn PhysicalExpr>) -> String {
    highwater_engine::written(expr).to_string()
}

fn columns_of(schema: &SchemaRef) -> String {
    let column = |f: &Arc<arrow::datatypes::Field>| format!("{} {}", f.name(), pg_name(f.data_type()));
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

fn unnested(unnest: &Unnest, schema: &SchemaRef) -> String {
    let is_element = |(at, _): &(usize, &Arc<arrow::datatypes::Field>)| unnest.lists.contains(&unnest.columns[*at]);
    let elements = schema.fields().iter().enumerate().filter(is_element);
    elements.map(|(_, field)| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn map_lines(map: &Map, schema: &SchemaRef) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(filter) = &map.filter {
        lines.push(format!("  filter: {}", told(filter)));
    }
    if !map.columns.is_empty() {
        let columns = map.columns.iter().zip(schema.fields());
        let columns: Vec<String> = columns.map(|(c, f)| format!("{} = {}", f.name(), told(c))).collect();
        lines.push(format!("  columns: {}", columns.join(", ")));
    }
    lines
}

fn join_lines(plan: &Plan, node: &Node, join: &Join) -> Vec<String> {
    let kind = match join.kind {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
        JoinKind::Right => "right",
        JoinKind::Full => "full",
        JoinKind::Semi => "semi",
        JoinKind::Anti => "anti",
        JoinKind::Mark => "mark",
    };
    let when = if join.temporal { ", each left row once, with the right side as it is then" } else { "" };
    let mut lines = vec![format!("  kind: {kind}{when}")];
    let same = if join.nulls_match { "is not distinct from" } else { "=" };
    let pairs = join.left_keys.iter().zip(&join.right_keys);
    let pairs: Vec<String> = pairs.map(|(left, right)| format!("{} {same} {}", told(left), told(right))).collect();
    lines.push(key_line(&pairs));
    if let Some(filter) = &join.filter {
        lines.push(format!("  filter: {}", told(filter)));
    }
    for forget in &join.forgets {
        let side = if forget.side == 0 { "forgets left rows when" } else { "forgets right rows when" };
        let time = plan.nodes[node.inputs[forget.side].0].schema.field(forget.time).name();
        lines.extend(forget.passing.iter().map(|passing| passing_line(plan, side, time, *passing)));
    }
    let sides = if join.temporal { "the right side" } else { "both sides" };
    lines.push(format!("  state: the rows of {sides} by key"));
    lines
}

fn first_lines(first: &First) -> Vec<String> {
    let keys: Vec<String> = first.keys.iter().map(told).collect();
    let order = |key: &SortKey| {
        let direction = if key.options.descending { "desc" } else { "asc" };
        let nulls = if key.options.nulls_first { "first" } else { "last" };
        format!("{} {direction} nulls {nulls}", told(&key.expr))
    };
    let order: Vec<String> = first.order.iter().map(order).collect();
    let ties = match first.ranking {
        Ranking::RowNumber => "",
        Ranking::Rank => " and what is tied with the last",
        Ranking::DenseRank => " places",
    };
    vec![
        key_line(&keys),
        format!("  rows: {}{ties} of each group, by {}", first.rows, order.join(", ")),
        "  state: the rows of each group; of an append-only input only those that are given".to_owned(),
    ]
}

fn regroup_lines(regroup: &Regroup) -> Vec<String> {
    let keys: Vec<String> = regroup.keys.iter().map(told).collect();
    let mut lines = vec![key_line(&keys)];
    lines.extend(regroup.recompute.describe().lines().map(|line| format!("  computes: {line}")));
    lines.push("  state: the rows of each group, and what it gave".to_owned());
    lines
}

fn lifetime_lines(lifetime: &Lifetime, schema: &SchemaRef) -> Vec<String> {
    let mut lines = Vec::new();
    for (word, column) in [("from", lifetime.from), ("until", lifetime.until)] {
        lines.extend(column.map(|column| format!("  {word}: {}", schema.field(column).name())));
    }
    lines.push("  state: one row for each distinct row that is not over".to_owned());
    lines
}

fn key_line(keys: &[String]) -> String {
    if keys.is_empty() { "  key: none, there is one group".to_owned() } else { format!("  key: {}", keys.join(", ")) }
}

fn aggregation_lines(aggregation: &Aggregation) -> Vec<String> {
    let keys: Vec<String> = aggregation.keys.iter().map(told).collect();
    let mut lines = vec![key_line(&keys)];
    let calls: Vec<String> = aggregation.aggregates.iter().map(call).collect();
    if !calls.is_empty() {
        lines.push(format!("  aggregates: {}", calls.join(", ")));
    }
    lines
}

/// What an aggregation keeps, and when it forgets that.
fn kept_lines(plan: &Plan, node: &Node) -> Vec<String> {
    let what = match growth::frees(plan, node) {
        Some((_, true)) => "forgotten when",
        Some((_, false)) => "forgets values of DISTINCT when",
        None => return vec!["  state: one row a key".to_owned()],
    };
    let mut lines = freeing_lines(plan, node, what, |key| node.schema.field(key).name().clone());
    let until = if what == "forgotten when" { " until it is forgotten" } else { "" };
    lines.push(format!("  state: one row a key{until}"));
    lines
}

/// When a node forgets groups, if it does; `key` is how a key of them is called.
fn freeing_lines(plan: &Plan, node: &Node, what: &str, key: impl Fn(usize) -> String) -> Vec<String> {
    let Some((last, _)) = growth::frees(plan, node) else { return Vec::new() };
    last.passing.iter().map(|passing| passing_line(plan, what, &key(last.time), *passing)).collect()
}

fn closing_lines(plan: &Plan, node: &Node, closing: &Closing) -> Vec<String> {
    let mut lines = aggregation_lines(&closing.aggregation);
    let time = node.schema.field(closing.time).name();
    lines.extend(closing.passing.iter().map(|passing| passing_line(plan, "given when", time, *passing)));
    lines.push("  state: one row a key until it is given".to_owned());
    lines
}

fn sessions_lines(plan: &Plan, node: &Node, sessions: &Sessions) -> Vec<String> {
    let mut lines = aggregation_lines(&sessions.aggregation);
    let time = plan.nodes[node.inputs[0].0].schema.field(sessions.time).name();
    lines.push(format!("  session: rows of which {time} is less than {} us after that of another", sessions.gap_us));
    lines.extend(freeing_lines(plan, node, "forgotten when", |_| format!("the last {time} + {} us", sessions.gap_us)));
    lines.push("  state: one row a session".to_owned());
    lines
}

/// What happens when the watermark of a node is beyond a value.
fn passing_line(plan: &Plan, what: &str, value: &str, passing: Passing) -> String {
    let watermark = &plan.nodes[passing.watermark.0].name;
    format!("  {what}: {value} + {} us <= {watermark}", passing.after_us)
}

fn call(aggregate: &Aggregate) -> String {
    let name = match aggregate.function {
        AggregateFunction::Count => "count",
        AggregateFunction::Sum => "sum",
        AggregateFunction::Avg => "avg",
        AggregateFunction::Min => "min",
        AggregateFunction::Max => "max",
    };
    let argument = aggregate.argument.as_ref().map_or_else(|| "*".to_owned(), told);
    let argument = if aggregate.distinct { format!("distinct {argument}") } else { argument };
    match &aggregate.filter {
        Some(filter) => format!("{name}({argument}) filter ({})", told(filter)),
        None => format!("{name}({argument})"),
    }
}
