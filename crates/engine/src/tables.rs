//! The stateful operators of a plan on one worker: their tables, new or restoring, and their logic.

use crate::error::{Error, Result};
use crate::identity::{self, types};
use crate::keys::KeyCodec;
use crate::ops::accumulate::{self, Layout};
use crate::ops::aggregate::{Aggregate, Closing, Shape};
use crate::ops::departing::Departing;
use crate::ops::distinct::Distinct;
use crate::ops::expressions::Preparation;
use crate::ops::extremes::Extremes;
use crate::ops::first::First;
use crate::ops::gathered::{GROUP_WORDS, Gathered, ROW_WORDS};
use crate::ops::grouping::{Grouping, NullKeys, row_codec};
use crate::ops::index::Index;
use crate::ops::join::{Forgetting, Join, Temporal};
use crate::ops::lifetime::{self, Lifetime, Timing};
use crate::ops::materialize::Materialize;
use crate::ops::pairs::Condition;
use crate::ops::regroup::Regroup;
use crate::ops::sessions::{self, Sessions};
use crate::ops::source::Place;
use crate::ops::upsert::{Keying, Upsert};
use crate::ops::watermark::{Bound, KEEPER_WORDS, Keeper};
use crate::plan::{self, Aggregation, Final, NodeId, Operator, Plan, Ranking, SessionColumn};
use crate::run::is_of;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_checkpoint::{Manifest, OperatorMeta};
use highwater_core::{KeyGroups, OperatorId};
use highwater_state::{KeyKind, PageSource, Restore, Table, TableId, TableOptions, hash_bytes};
use std::sync::Arc;

/// Whose tables are made, and from what.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a> {
    pub(crate) plan: &'a Plan,
    /// By node.
    pub(crate) operator_ids: &'a [OperatorId],
    pub(crate) key_groups: KeyGroups,
    /// Where evicted pages are read from.
    pub(crate) source: &'a PageSource,
    pub(crate) restored: Option<(&'a Manifest, &'a Arc<Restore>)>,
    pub(crate) place: Place,
}

impl Tables<'_> {
    /// Whether a node has no state in the checkpoint that is restored.
    pub(crate) fn is_new(&self, node: NodeId) -> bool {
        self.restored.is_none_or(|(manifest, _)| is_new(self.plan, &manifest.operators, node))
    }

    fn table(&self, node: NodeId, number: u8, key: KeyKind, words: usize) -> Table {
        let options = TableOptions {
            id: TableId { operator: self.operator_ids[node.0], table: number },
            key,
            words,
            groups: self.key_groups,
            owned: self.key_groups.owned_by(self.place.worker, self.place.workers),
            source: Some(self.source.clone()),
        };
        match self.restored.filter(|_| !self.is_new(node)) {
            Some((_, restore)) => Table::restoring(options, Arc::clone(restore)),
            None => Table::new(options),
        }
    }
}

/// Whether a node is of no operator that a checkpoint has. One that keeps nothing is as new as what reads it:
/// its name counts those like it, and says nothing of whom its rows are for.
pub(crate) fn is_new(plan: &Plan, kept: &[OperatorMeta], node: NodeId) -> bool {
    let this = &plan.nodes[node.0];
    if this.operator.is_stateless() {
        let mut behind = node.0 + 1..plan.nodes.len();
        return behind.any(|at| plan.nodes[at].inputs.contains(&node) && is_new(plan, kept, NodeId(at)));
    }
    kept.iter().all(|operator| !is_of(this, operator))
}

/// What a node keeps, in words: two of a pipeline's runs with different shapes cannot share state. The
/// words are those of docs/formats/identities.md.
pub(crate) fn shape_of(spec: &Plan, node: NodeId) -> Result<String> {
    let plan = &spec.nodes[node.0];
    let input = |side: usize| &spec.nodes[plan.inputs[side].0];
    Ok(match &plan.operator {
        Operator::Source(_) => "source".into(),
        Operator::Changes(_) => format!("changes of {}", types(&plan.schema)?),
        Operator::Watermark(watermark) => {
            format!("watermark of column {} less {} us", watermark.time, watermark.delay_us)
        }
        Operator::Map(_) => "map".into(),
        Operator::Hop(_) => "hop".into(),
        Operator::Unnest(_) => "unnest".into(),
        Operator::Sink(_) => "sink".into(),
        Operator::Union => "union".into(),
        Operator::Join(join) => join_of(join, &input(0).schema, &input(1).schema)?,
        Operator::First(first) => first_of(first, input(0))?,
        Operator::Regroup(regroup) => {
            let (keys, what) = (identity::keys(&regroup.keys, &input(0).schema)?, regroup.recompute.identity()?);
            format!("rows of {} by {keys} for {what}", types(&input(0).schema)?)
        }
        Operator::Lifetime(times) => {
            let column = |column: Option<usize>| column.map_or_else(|| "none".to_owned(), |at| at.to_string());
            let (from, until) = (column(times.from), column(times.until));
            format!("lifetimes of {} from column {from} until column {until}", types(&plan.schema)?)
        }
        Operator::Materialize => format!("rows of {}", types(&plan.schema)?),
        Operator::Index(index) => format!("rows of {} for look-ups by {}", types(&plan.schema)?, list(&index.keys)),
        Operator::Upsert(upsert) => format!("last rows of {} by {}", types(&plan.schema)?, list(&upsert.keys)),
        Operator::Aggregate(aggregation) => groups_of(spec, node, aggregation)?,
        Operator::Closing(closing) => {
            let after: Vec<i64> = closing.passing.iter().map(|passing| passing.after_us).collect();
            let groups = groups_of(spec, node, &closing.aggregation)?;
            format!("{groups}, given when key {} is final after {} us", closing.time, list(&after))
        }
        Operator::Sessions(sessions) => sessions_of(plan, sessions, input(0))?,
    })
}

/// Whether a node goes on from what is kept for it in these words: a table may have got columns since.
pub(crate) fn goes_on(operator: &Operator, kept: &str, shape: &str) -> bool {
    let has_more = || shape.strip_prefix(kept).is_some_and(|more| more.starts_with(", "));
    kept == shape || matches!(operator, Operator::Changes(_)) && has_more()
}

fn join_of(join: &plan::Join, left: &SchemaRef, right: &SchemaRef) -> Result<String> {
    let filter = match &join.filter {
        Some(filter) => format!(" if {}", identity::expression(filter)?),
        None => String::new(),
    };
    Ok(format!(
        "{}{} join of {} with {} on {} = {}{}{filter}",
        if join.temporal { "temporal " } else { "" },
        join.kind.word(),
        types(left)?,
        types(right)?,
        identity::keys(&join.left_keys, left)?,
        identity::keys(&join.right_keys, right)?,
        if join.nulls_match { ", nulls too" } else { "" },
    ))
}

fn first_of(first: &plan::First, input: &plan::Node) -> Result<String> {
    let order: Vec<String> = first.order.iter().map(identity::sort_key).collect::<Result<_>>()?;
    let numbered = match first.ranking {
        Ranking::RowNumber => "rows",
        Ranking::Rank => "ranks",
        Ranking::DenseRank => "dense ranks",
    };
    Ok(format!(
        "{} {numbered} of {} by {} in order of {}{}",
        first.rows,
        types(&input.schema)?,
        identity::keys(&first.keys, &input.schema)?,
        order.join(", "),
        if input.append_only { ", no others" } else { "" },
    ))
}

fn groups_of(spec: &Plan, node: NodeId, aggregation: &Aggregation) -> Result<String> {
    let plan = &spec.nodes[node.0];
    let input = &spec.nodes[plan.inputs[0].0];
    let (preparation, layout) = prepare(aggregation, &input.schema, input.append_only)?;
    let keys = identity::keys(&aggregation.keys, &input.schema)?;
    Ok(format!("groups of {} by {keys}: {}", types(&plan.schema)?, accumulators_of(&preparation, &layout)?))
}

fn sessions_of(plan: &plan::Node, sessions: &plan::Sessions, input: &plan::Node) -> Result<String> {
    let (preparation, layout) = prepare_sessions(sessions, input)?;
    let column = |column: &SessionColumn| match column {
        SessionColumn::Key(key) => format!("key {key}"),
        SessionColumn::Start => "start".to_owned(),
        SessionColumn::End => "end".to_owned(),
    };
    let columns: Vec<String> = sessions.columns.iter().map(column).collect();
    Ok(format!(
        "sessions of {} by {} less than {} us apart in column {} as [{}]: {}",
        types(&plan.schema)?,
        identity::keys(&sessions.aggregation.keys, &input.schema)?,
        sessions.gap_us,
        sessions.time,
        columns.join(", "),
        accumulators_of(&preparation, &layout)?,
    ))
}

/// What is kept of each group.
fn accumulators_of(preparation: &Preparation, layout: &Layout) -> Result<String> {
    let keep = |(place, of): &(accumulate::Place, DataType)| -> Result<String> {
        Ok(format!("{}: {}", place.words(), identity::data_type(of)?))
    };
    let keeps: Vec<String> = layout.places.iter().map(keep).collect::<Result<_>>()?;
    let distinct = match preparation.distinct.as_slice() {
        [] => String::new(),
        columns => format!(", distinct {}", list(columns)),
    };
    let arguments = preparation.words()?.join(", ");
    Ok(format!("{} words, [{}] over [{arguments}]{distinct}", layout.words, keeps.join(", ")))
}

fn list(numbers: &[impl ToString]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(", "))
}

fn prepare(aggregation: &Aggregation, input: &SchemaRef, append_only: bool) -> Result<(Preparation, Layout)> {
    let preparation = Preparation::new(aggregation, input)?;
    let layout = Layout::new(&aggregation.aggregates, &preparation.described, &preparation.columns, append_only)?;
    Ok((preparation, layout))
}

fn prepare_sessions(sessions: &plan::Sessions, input: &plan::Node) -> Result<(Preparation, Layout)> {
    let preparation = Preparation::of_sessions(sessions, &input.schema)?;
    let aggregates = &sessions.aggregation.aggregates;
    if !input.append_only || !aggregates.iter().all(plan::Aggregate::is_combinable) {
        let message = "sessions are of rows that only come, and have aggregates that can be combined";
        return Err(Error::Plan(message.to_owned()));
    }
    let layout = Layout::new(aggregates, &preparation.described, &preparation.columns, true)?;
    Ok((preparation, layout))
}

/// A GROUP BY of one worker.
pub(crate) fn aggregate(tables: &Tables<'_>, node: NodeId) -> Result<(Preparation, Aggregate)> {
    let Operator::Aggregate(aggregation) = &tables.plan.nodes[node.0].operator else {
        unreachable!("called for aggregations")
    };
    groups(tables, node, aggregation, tables.plan.is_read(node))
}

/// A GROUP BY of one worker that gives each group once.
pub(crate) fn closing(tables: &Tables<'_>, node: NodeId) -> Result<(Preparation, Closing)> {
    let Operator::Closing(plan) = &tables.plan.nodes[node.0].operator else {
        unreachable!("called for groups that are closed")
    };
    let (preparation, groups) = groups(tables, node, &plan.aggregation, false)?;
    Ok((preparation, Closing::new(groups, plan.time, Bound::new(plan.passing.clone()))))
}

/// The keeper of a watermark, on whichever worker.
pub(crate) fn watermark(tables: &Tables<'_>, node: NodeId) -> Result<Keeper> {
    let Operator::Watermark(watermark) = &tables.plan.nodes[node.0].operator else {
        unreachable!("called for watermarks")
    };
    Ok(Keeper::new(watermark, tables.table(node, 0, KeyKind::Bytes, KEEPER_WORDS)))
}

/// The groups of an aggregation on one worker; `emits` says whether their changes are given.
fn groups(
    tables: &Tables<'_>,
    node: NodeId,
    aggregation: &Aggregation,
    emits: bool,
) -> Result<(Preparation, Aggregate)> {
    let plan = &tables.plan.nodes[node.0];
    let input = &tables.plan.nodes[plan.inputs[0].0];
    let (preparation, layout) = prepare(aggregation, &input.schema, input.append_only)?;
    let codec = preparation.codec()?;
    let narrow = codec.is_narrow().then(|| tables.table(node, 0, KeyKind::U64, layout.words));
    let wide = tables.table(node, 1, KeyKind::Bytes, layout.words);
    let mut sets = Vec::new();
    for (number, (column, data_type)) in layout.sets.iter().enumerate() {
        let set = tables.table(node, number as u8 + 2, KeyKind::Placed, 1);
        sets.push(Extremes::new(set, *column, data_type)?);
    }
    let mut distincts = Vec::new();
    for (number, column) in preparation.distinct.iter().enumerate() {
        let table = tables.table(node, (sets.len() + number) as u8 + 2, KeyKind::Placed, 1);
        distincts.push(Distinct::new(table, *column, &preparation.described[*column].data_type)?);
    }
    let owns_global = wide.owns(hash_bytes(&[]));
    let shape = Shape {
        codec,
        layout,
        schema: Arc::clone(&plan.schema),
        keys: aggregation.keys.len(),
        emits,
        creates_global: aggregation.keys.is_empty() && owns_global && tables.is_new(node),
    };
    Ok((preparation, Aggregate::new(shape, narrow, wide, sets, distincts)?))
}

/// The sessions of one worker, and what prepares its input.
pub(crate) fn sessions(tables: &Tables<'_>, node: NodeId) -> Result<(Preparation, Sessions)> {
    let plan = &tables.plan.nodes[node.0];
    let Operator::Sessions(spec) = &plan.operator else { unreachable!("called for sessions") };
    let (preparation, layout) = prepare_sessions(spec, &tables.plan.nodes[plan.inputs[0].0])?;
    let keys = tables.table(node, 0, KeyKind::Bytes, sessions::KEY_WORDS);
    let table = tables.table(node, 1, KeyKind::Placed, layout.words + sessions::OWN);
    let shape = sessions::Shape {
        codec: preparation.codec()?,
        layout,
        schema: Arc::clone(&plan.schema),
        columns: spec.columns.clone(),
        gap_us: spec.gap_us,
        emits: tables.plan.is_read(node),
    };
    Ok((preparation, Sessions::new(shape, keys, table)))
}

/// A view's own rows on one worker.
pub(crate) fn materialize(tables: &Tables<'_>, node: NodeId) -> Result<(Preparation, Materialize)> {
    let plan = &tables.plan.nodes[node.0];
    let columns = plan.schema.fields().iter().enumerate();
    let keys = columns.map(|(i, field)| Arc::new(Column::new(field.name(), i)) as _).collect();
    let rows = Aggregation { keys, aggregates: Vec::new() };
    let preparation = Preparation::of_whole_rows(&rows, &plan.schema)?;
    let types = plan.schema.fields().iter().map(|field| field.data_type().clone()).collect();
    let codec = KeyCodec::new(types).map_err(|e| Error::Plan(format!("{}: {e}", plan.name)))?;
    let table = tables.table(node, 0, KeyKind::Bytes, 1);
    let logic = Materialize::new(codec, Arc::clone(&plan.schema), table, tables.plan.is_read(node));
    Ok((preparation, logic))
}

/// The last rows of keys on one worker, and what prepares its input.
pub(crate) fn upsert(tables: &Tables<'_>, node: NodeId) -> Result<(Keying, Upsert)> {
    let plan = &tables.plan.nodes[node.0];
    let Operator::Upsert(upsert) = &plan.operator else { unreachable!("called for upserts") };
    let named = |error: Error| Error::Plan(format!("{}: {error}", plan.name));
    let kept = [tables.table(node, 0, KeyKind::Bytes, 1), tables.table(node, 1, KeyKind::Placed, 0)];
    let logic = Upsert::new(upsert, &plan.schema, kept, tables.plan.is_read(node)).map_err(named)?;
    Ok((Keying::new(upsert, &plan.schema).map_err(named)?, logic))
}

/// A join of one worker, and what prepares each of its inputs.
pub(crate) fn join(tables: &Tables<'_>, node: NodeId) -> Result<([Grouping; 2], Join)> {
    let plan = &tables.plan.nodes[node.0];
    let Operator::Join(join) = &plan.operator else { unreachable!("called for joins") };
    let schemas = [0, 1].map(|side| &tables.plan.nodes[plan.inputs[side].0].schema);
    let [left, right] = [grouping_of(join, schemas[0], 0)?, grouping_of(join, schemas[1], 1)?];
    if left.types() != right.types() {
        return Err(Error::Plan(format!("{}: the keys of a join's sides are of different types", plan.name)));
    }
    let condition = join.filter.as_ref().map(|filter| Condition::new(filter, schemas[0], schemas[1])).transpose()?;
    let words_of = |side: usize| ROW_WORDS + usize::from(join.filter.is_some() && join.kind.gives_rows_of(side));
    let rows = [0, 1].map(|side| tables.table(node, side as u8 + 1, KeyKind::Placed, words_of(side)));
    let gathered = Gathered::new(tables.table(node, 0, KeyKind::Bytes, 2 * GROUP_WORDS), rows.into());
    let codecs = [row_codec(schemas[0])?, row_codec(schemas[1])?];
    let logic = Join::new(join.kind, Arc::clone(&plan.schema), gathered, codecs, condition);
    if join.temporal {
        if !matches!(join.kind, plan::JoinKind::Inner | plan::JoinKind::Left) {
            return Err(Error::Plan(format!("{}: a temporal join gives pairs, or pairs and left rows", plan.name)));
        }
        let grouping = grouping_of(join, schemas[0], 0)?;
        let temporal = Temporal::new(Arc::clone(schemas[0]), grouping, !tables.is_new(node));
        return Ok(([left, right], logic.temporal(temporal)));
    }
    if join.forgets.is_empty() {
        return Ok(([left, right], logic));
    }
    let groupings = [grouping_of(join, schemas[0], 0)?, grouping_of(join, schemas[1], 1)?];
    let forgetting = Forgetting::new(&join.forgets, schemas.map(Arc::clone), groupings);
    Ok(([left, right], logic.forgetting(forgetting)))
}

fn grouping_of(join: &plan::Join, input: &SchemaRef, side: usize) -> Result<Grouping> {
    let keys = if side == 0 { &join.left_keys } else { &join.right_keys };
    let nulls = match (join.nulls_match, join.kind.gives_rows_of(side) && join.kind != plan::JoinKind::Semi) {
        (true, _) => NullKeys::Group,
        (false, true) => NullKeys::Loose,
        (false, false) => NullKeys::Drop,
    };
    Grouping::new(keys, input, nulls)
}

/// The first rows of groups, on one worker.
pub(crate) fn first(tables: &Tables<'_>, node: NodeId) -> Result<(Grouping, First)> {
    let plan = &tables.plan.nodes[node.0];
    let Operator::First(first) = &plan.operator else { unreachable!("called for first rows") };
    let input = &tables.plan.nodes[plan.inputs[0].0];
    let grouping = Grouping::new(&first.keys, &input.schema, NullKeys::Group)?;
    let rows = tables.table(node, 1, KeyKind::Placed, ROW_WORDS);
    let gathered = Gathered::new(tables.table(node, 0, KeyKind::Bytes, GROUP_WORDS), vec![rows]);
    let (schema, codec) = (Arc::clone(&plan.schema), row_codec(&input.schema)?);
    let logic = First::new(gathered, schema, codec, first, input.append_only)?;
    Ok((grouping, logic))
}

/// Groups that are computed anew, on one worker.
pub(crate) fn regroup(tables: &Tables<'_>, node: NodeId) -> Result<(Grouping, Regroup)> {
    let plan = &tables.plan.nodes[node.0];
    let Operator::Regroup(regroup) = &plan.operator else { unreachable!("called for regroupings") };
    let input = &tables.plan.nodes[plan.inputs[0].0].schema;
    let grouping = Grouping::new(&regroup.keys, input, NullKeys::Group)?;
    let rows = tables.table(node, 1, KeyKind::Placed, ROW_WORDS);
    let gathered = Gathered::new(tables.table(node, 0, KeyKind::Bytes, GROUP_WORDS), vec![rows]);
    let codecs = [row_codec(input)?, row_codec(&plan.schema)?];
    let schemas = [Arc::clone(input), Arc::clone(&plan.schema)];
    Ok((grouping, Regroup::new(regroup.recompute.start()?, gathered, schemas, codecs)))
}

/// What lets the rows of first rows or of groups that are computed anew leave.
pub(crate) fn departing(plan: &Plan, node: NodeId, last: &Final) -> Result<Departing> {
    let node = &plan.nodes[node.0];
    let keys = match &node.operator {
        Operator::First(first) => &first.keys,
        Operator::Regroup(regroup) => &regroup.keys,
        _ => unreachable!("called for rows by group"),
    };
    Departing::new(last, keys, &plan.nodes[node.inputs[0].0].schema)
}

/// Rows that can be looked up, on one worker.
pub(crate) fn index(tables: &Tables<'_>, node: NodeId) -> Result<(Grouping, Index)> {
    let plan = &tables.plan.nodes[node.0];
    let Operator::Index(index) = &plan.operator else { unreachable!("called for indexes") };
    let input = &tables.plan.nodes[plan.inputs[0].0].schema;
    let column = |key: &usize| Arc::new(Column::new(input.field(*key).name(), *key)) as Arc<dyn PhysicalExpr>;
    let keys: Vec<Arc<dyn PhysicalExpr>> = index.keys.iter().map(column).collect();
    let grouping = Grouping::new(&keys, input, NullKeys::Drop)?;
    let rows = tables.table(node, 1, KeyKind::Placed, ROW_WORDS);
    let gathered = Gathered::new(tables.table(node, 0, KeyKind::Bytes, GROUP_WORDS), vec![rows]);
    let codec = KeyCodec::new(grouping.types().to_vec())?;
    Ok((grouping, Index::new(gathered, Arc::clone(&plan.schema), codec, row_codec(input)?)))
}

/// Rows with lifetimes, on one worker.
pub(crate) fn lifetime(tables: &Tables<'_>, node: NodeId) -> Result<(Timing, Lifetime)> {
    let plan = &tables.plan.nodes[node.0];
    let Operator::Lifetime(times) = &plan.operator else { unreachable!("called for lifetimes") };
    let input = &tables.plan.nodes[plan.inputs[0].0].schema;
    let table = tables.table(node, 0, KeyKind::Bytes, lifetime::WORDS);
    Ok((Timing::new(times.clone(), input)?, Lifetime::new(Arc::clone(&plan.schema), table)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Aggregate, AggregateFunction, First, Join, JoinKind, Node, OnError, SortKey};
    use arrow::compute::SortOptions;
    use arrow::datatypes::{Field, Schema, TimeUnit};
    use datafusion_expr::Operator as Compare;
    use datafusion_physical_expr::expressions::{binary, lit};

    fn column(at: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new("c", at))
    }

    fn node(inputs: Vec<NodeId>, operator: Operator, types: &[DataType]) -> Node {
        let fields = types.iter().map(|of| Field::new("c", of.clone(), true)).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(fields));
        Node {
            name: "v/x".to_owned(),
            incarnation: 0,
            inputs,
            operator,
            schema,
            append_only: false,
            on_error: OnError::Fail,
        }
    }

    /// What an operator over an input of a number and a text is called.
    fn shape(operator: Operator, inputs: usize, types: &[DataType]) -> String {
        let input = node(Vec::new(), Operator::Materialize, &[DataType::Int64, DataType::Utf8]);
        let operator = node(vec![NodeId(0); inputs], operator, types);
        let plan = Plan { nodes: vec![input, operator], ..Plan::default() };
        shape_of(&plan, NodeId(1)).expect("known")
    }

    /// Nodes over one another, each over the one before it.
    fn chain(names: &[&str]) -> Plan {
        let mut nodes: Vec<Node> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let operator = match name.split(['/', '#']).nth(1) {
                Some("map") => Operator::Map(plan::Map { filter: None, columns: vec![column(0)] }),
                _ => Operator::Materialize,
            };
            let inputs = at.checked_sub(1).map(NodeId).into_iter().collect();
            nodes.push(Node { name: (*name).to_owned(), ..node(inputs, operator, &[DataType::Int64]) });
        }
        Plan { nodes, ..Plan::default() }
    }

    #[test]
    fn what_keeps_nothing_is_as_new_as_what_reads_it() {
        let kept = ["v/join", "v/map", "v/rows", "w/map"].map(|name| OperatorMeta {
            id: OperatorId(0),
            name: name.to_owned(),
            incarnation: 0,
            kind: "rows of int64".to_owned(),
            version: 1,
            keys: 0,
            bytes: 0,
        });
        let plan = chain(&["t/rows", "v/map", "v/join", "v/map#2", "v/rows", "w/map", "w/rows"]);
        let new: Vec<usize> = (0..plan.nodes.len()).filter(|at| is_new(&plan, &kept, NodeId(*at))).collect();
        assert_eq!(new, [0, 5, 6], "of the maps only that of the new view");
    }

    #[test]
    fn plans_are_told_apart_by_what_they_keep() {
        let before = chain(&["t/rows", "v/join", "v/map", "v/rows"]);
        let told = |after: &Plan| crate::run::kept_otherwise(&before, after).expect("known").map(str::to_owned);
        assert_eq!(told(&chain(&["t/rows", "v/map", "v/join", "v/map#2", "v/rows"])), None);
        assert_eq!(told(&chain(&["t/rows", "v/join(b)", "v/map", "v/rows"])).as_deref(), Some("v/join"));
        assert_eq!(told(&chain(&["t/rows", "v/join", "v/rows", "w/rows"])).as_deref(), Some("w/rows"));
        let mut wider = chain(&["t/rows", "v/join", "v/map", "v/rows"]);
        wider.nodes[3].schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Utf8, true)]));
        assert_eq!(told(&wider).as_deref(), Some("v/rows"));
    }

    /// As they are persisted: what fails here makes state of the version before unreadable.
    #[test]
    fn shapes_are_words_of_ours() {
        let number = [DataType::Int64];
        assert_eq!(shape(Operator::Materialize, 1, &number), "rows of int64");
        let index = plan::Index { keys: vec![1, 0] };
        assert_eq!(shape(Operator::Index(index), 1, &number), "rows of int64 for look-ups by [1, 0]");
        let lifetime = plan::Lifetime { from: None, until: Some(1) };
        let expected = "lifetimes of int64 from column none until column 1";
        assert_eq!(shape(Operator::Lifetime(lifetime), 1, &number), expected);
        let options = SortOptions { descending: true, nulls_first: true };
        let order = vec![SortKey { expr: column(0), options }];
        let first = First { keys: vec![column(1)], order, rows: 3, ranking: Ranking::Rank };
        let expected = "3 ranks of int64, utf8 by (#1: utf8) in order of #0 desc nulls first";
        assert_eq!(shape(Operator::First(first), 1, &number), expected);
    }

    #[test]
    fn sessions_say_what_parts_them() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut input = node(Vec::new(), Operator::Materialize, &[DataType::Int64, time.clone()]);
        input.append_only = true;
        let count = Aggregate {
            function: AggregateFunction::Count,
            argument: None,
            distinct: false,
            filter: None,
            input: DataType::Int64,
            output: DataType::Int64,
        };
        let sessions = plan::Sessions {
            aggregation: Aggregation { keys: vec![column(0)], aggregates: vec![count] },
            time: 1,
            gap_us: 5,
            columns: vec![SessionColumn::Key(0), SessionColumn::End],
        };
        let types = [DataType::Int64, time, DataType::Int64];
        let operator = node(vec![NodeId(0)], Operator::Sessions(sessions), &types);
        let mut plan = Plan { nodes: vec![input, operator], ..Plan::default() };
        let expected = "sessions of int64, timestamp(us), int64 by (#0: int64) less than 5 us apart in column 1 \
                        as [key 0, end]: 1 words, [rows: int64] over []";
        assert_eq!(shape_of(&plan, NodeId(1)).expect("known"), expected);
        plan.nodes[0].append_only = false;
        assert!(shape_of(&plan, NodeId(1)).is_err(), "rows that go cannot be taken out of sessions");
    }

    #[test]
    fn joins_and_groups_say_what_they_compute() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
        let less = binary(column(0), Compare::Lt, lit(5_i64), &schema).expect("a condition");
        let join = Join {
            kind: JoinKind::Left,
            left_keys: vec![column(0)],
            right_keys: vec![column(0)],
            nulls_match: false,
            filter: Some(Arc::clone(&less)),
            forgets: Vec::new(),
            temporal: false,
        };
        let expected = "left join of int64, utf8 with int64, utf8 on (#0: int64) = (#0: int64) if (#0 < 5:int64)";
        assert_eq!(shape(Operator::Join(join), 2, &[DataType::Int64]), expected);
        let call = |function, filter: Option<Arc<dyn PhysicalExpr>>| Aggregate {
            function,
            argument: Some(column(0)),
            distinct: false,
            filter,
            input: DataType::Int64,
            output: DataType::Int64,
        };
        let count = Aggregate { argument: None, ..call(AggregateFunction::Count, None) };
        let aggregates = vec![count, call(AggregateFunction::Sum, Some(less)), call(AggregateFunction::Max, None)];
        let aggregation = Aggregation { keys: vec![column(1)], aggregates };
        let types = [DataType::Utf8, DataType::Int64, DataType::Int64, DataType::Int64];
        let expected = "groups of utf8, int64, int64, int64 by (#1: utf8): 3 words, \
                        [rows: int64, integer sum 2 count 1: int64, max of set 0: int64] \
                        over [#0 where (#0 < 5:int64): int64 or null, #0: int64 or null]";
        assert_eq!(shape(Operator::Aggregate(aggregation), 1, &types), expected);
    }
}
