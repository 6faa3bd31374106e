//! A pipeline's operators as a graph of plain descriptions, before any of them runs.
//!
//! The SQL layer makes a [`Plan`]; the engine makes a Timely dataflow of it, the same on every
//! worker. Expressions are DataFusion physical expressions over the input node's columns.
//! Invariants: a node's inputs come before it; names are unique and semantic, so that a changed
//! query finds the state of what did not change.

use crate::changes::ChangeSource;
use crate::ops::accumulate::is_combinable;
use crate::sink::Sink;
use crate::source::Source;
use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The place of a node in [`Plan::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Columns, by their places, in which no two rows agree; nulls are equal.
pub type Key = BTreeSet<usize>;

/// The graph of one pipeline: what its views and sinks need, with shared parts shared.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In an order in which every node comes after its inputs.
    pub nodes: Vec<Node>,
    /// What can be read, by name.
    pub views: Vec<View>,
    /// Of nodes whose groups come to be final by watermarks, when they are: of [`Operator::Aggregate`],
    /// [`Operator::First`], [`Operator::Regroup`] and [`Operator::Sessions`].
    pub finals: BTreeMap<NodeId, Final>,
}

impl Plan {
    /// Whether any node reads this one's changes.
    #[must_use]
    pub fn is_read(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|other| other.inputs.contains(&node))
    }

    /// Whether only logs read a node, directly or through maps; see [`Sink::is_log`].
    #[must_use]
    pub fn is_for_logs(&self, node: NodeId) -> bool {
        match &self.nodes[node.0].operator {
            Operator::Sink(sink) => sink.is_log(),
            Operator::Map(_) => {
                let mut readers = (0..self.nodes.len()).filter(|&at| self.nodes[at].inputs.contains(&node));
                self.is_read(node) && readers.all(|at| self.is_for_logs(NodeId(at)))
            }
            _ => false,
        }
    }

    /// When what a node keeps of groups can be forgotten, and whether the groups themselves can: those of a
    /// view's own node are the view's rows, so that only the values beside them go.
    #[must_use]
    pub fn frees(&self, node: NodeId) -> Option<(&Final, bool)> {
        let last = self.finals.get(&node)?;
        let is_shown = self.views.iter().any(|view| view.node == node);
        let has_values = match &self.nodes[node.0].operator {
            Operator::Aggregate(aggregation) => aggregation.aggregates.iter().any(|call| call.distinct),
            _ => false,
        };
        (!is_shown || has_values).then_some((last, !is_shown))
    }

    /// The change sources behind the right side of a temporal join: its left rows wait until all of
    /// those have given their backfills.
    #[must_use]
    pub fn awaited_by(&self, join: NodeId) -> Vec<NodeId> {
        let node = &self.nodes[join.0];
        if !matches!(&node.operator, Operator::Join(join) if join.temporal) {
            return Vec::new();
        }
        let mut is_behind = vec![false; join.0];
        is_behind[node.inputs[1].0] = true;
        for at in (0..join.0).rev() {
            if is_behind[at] {
                self.nodes[at].inputs.iter().for_each(|input| is_behind[input.0] = true);
            }
        }
        let is_awaited = |at: &usize| is_behind[*at] && matches!(self.nodes[*at].operator, Operator::Changes(_));
        (0..join.0).filter(is_awaited).map(NodeId).collect()
    }

    /// Whether left rows of a temporal join wait for the backfill of a change source.
    #[must_use]
    pub fn is_awaited(&self, source: NodeId) -> bool {
        (source.0 + 1..self.nodes.len()).any(|join| self.awaited_by(NodeId(join)).contains(&source))
    }

    /// The columns of a view by which its rows can be looked up, in the order of the keys of its
    /// node; none when it has no key, or does not show all of it.
    #[must_use]
    pub fn lookup_columns(&self, view: &View) -> Option<Vec<usize>> {
        let keys: Vec<usize> = match &self.nodes[view.node.0].operator {
            Operator::Aggregate(aggregation) => (0..aggregation.keys.len()).collect(),
            Operator::Sessions(sessions) => (0..sessions.columns.len()).collect(),
            Operator::Upsert(upsert) => upsert.keys.clone(),
            Operator::Index(index) => index.keys.clone(),
            _ => return None,
        };
        let Some(map) = view.finish.as_ref().filter(|map| !map.columns.is_empty()) else { return Some(keys) };
        let shows = |column: &Arc<dyn PhysicalExpr>, key: usize| {
            let any: &dyn Any = column.as_ref();
            any.downcast_ref::<Column>().is_some_and(|column| column.index() == key)
        };
        keys.into_iter().map(|key| map.columns.iter().position(|column| shows(column, key))).collect()
    }
}

/// One operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its stable semantic id, such as `q5/aggregate(auction)`; its state and offsets are kept under it.
    pub name: String,
    /// Which object of that name it belongs to: state and offsets of another one are not its own.
    pub incarnation: u64,
    /// What it reads.
    pub inputs: Vec<NodeId>,
    /// What it does.
    pub operator: Operator,
    /// The columns it gives.
    pub schema: SchemaRef,
    /// Whether it only ever inserts.
    pub append_only: bool,
    /// What becomes of a row for which one of its expressions cannot be computed.
    pub on_error: OnError,
}

/// What becomes of a row for which an expression cannot be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The pipeline fails and tells which row it was.
    #[default]
    Fail,
    /// The row is left out, when it comes and when it goes, and counted.
    Skip,
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum Operator {
    /// Reads a source; no inputs.
    Source(Arc<dyn Source>),
    /// Reads changes up to the horizon that the clock has chosen; no inputs.
    Changes(Arc<dyn ChangeSource>),
    /// Keeps the watermark of its input, and leaves out the rows that are late.
    Watermark(Watermark),
    /// Filters, then projects. Stateless.
    Map(Map),
    /// HOP: one row in, one row per window out, with `window_start` and `window_end` appended.
    Hop(Hop),
    /// One row in, one row per element out. Stateless.
    Unnest(Unnest),
    /// GROUP BY: keeps accumulators by key; its output columns are the keys, then the aggregates.
    Aggregate(Aggregation),
    /// GROUP BY of which each group is given once, when its time is final, and is forgotten then.
    Closing(Closing),
    /// GROUP BY over windows of rows that follow each other closely: keeps accumulators by window.
    Sessions(Sessions),
    /// Keeps the rows themselves with their counts, so that they can be read and changes consolidate.
    Materialize,
    /// Keeps the last row of each key; its input only ever adds rows.
    Upsert(Upsert),
    /// Keeps its input's rows by some columns, so that those with given values can be looked up; gives
    /// nothing on.
    Index(Index),
    /// The rows of all its inputs, which have the same columns.
    Union,
    /// Pairs the rows of its two inputs.
    Join(Join),
    /// Passes on the first rows of each group in an order.
    First(First),
    /// Keeps its input's rows by group; at an epoch's end what each touched group gives is computed anew.
    Regroup(Regroup),
    /// Gives each row while its time has come and is not over.
    Lifetime(Lifetime),
    /// Collects its input for an outside target.
    Sink(Arc<dyn Sink>),
}

impl Operator {
    /// Whether it keeps nothing: what it gives it makes of each row that comes, at once.
    pub(crate) const fn is_stateless(&self) -> bool {
        matches!(self, Self::Map(_) | Self::Hop(_) | Self::Unnest(_) | Self::Union)
    }
}

/// Which rows replace which, and what deletes them.
#[derive(Clone, Debug)]
pub struct Upsert {
    /// The places of the key's columns among the node's; none of them is null. The input's first
    /// columns are the node's.
    pub keys: Vec<usize>,
    /// Whether the input has one column more, a boolean that is true where the key's row is deleted.
    pub deletes: bool,
}

/// By what rows are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The places of the columns; rows with a null there are left out. Not empty.
    pub keys: Vec<usize>,
}

/// How a watermark is made. After an epoch it is the greatest time that was seen less the delay, and it
/// never goes back; a row whose time is before the watermark of the epoch before is late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The event time: a column of the input, a timestamp in microseconds. Rows without one are never late.
    pub time: usize,
    /// How far behind the greatest time it is.
    pub delay_us: i64,
}

/// When the values of a column are final by one watermark: a value `v` when `v + after_us` is not
/// beyond it. Then no row with that value comes any more, nor does one with a smaller value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    /// A node with [`Operator::Watermark`].
    pub watermark: NodeId,
    /// How far it must be beyond the value.
    pub after_us: i64,
}

/// When no row of a group comes any more, nor goes: when the value of one of its keys is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    /// Which of the keys, a timestamp in microseconds; of sessions, which column of the input. A group without
    /// one is never final.
    pub time: usize,
    /// When its values are final: when they are by all of these. Not empty.
    pub passing: Vec<Passing>,
}

/// A GROUP BY whose groups are given when they are final.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Its keys and aggregates; there are keys.
    pub aggregation: Aggregation,
    /// Which of the keys is the time, a timestamp in microseconds. A group without one is never given.
    pub time: usize,
    /// When its values are final: when they are by all of these. Not empty.
    pub passing: Vec<Passing>,
}

/// A GROUP BY of each session of some keys: of the rows with equal keys of which each is less than a gap
/// after the one before. Its input only ever inserts.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// The keys whose rows are together, and the aggregates, which are all [combinable]. There may be no
    /// keys.
    ///
    /// [combinable]: Aggregate::is_combinable
    pub aggregation: Aggregation,
    /// The event time: a column of the input, a timestamp in microseconds that is never null.
    pub time: usize,
    /// More than 0.
    pub gap_us: i64,
    /// The node's columns before the aggregates. All keys are among them, and the start or the end.
    pub columns: Vec<SessionColumn>,
}

/// What tells a session from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionColumn {
    /// One of its keys.
    Key(usize),
    /// The time of its first row.
    Start,
    /// A gap after its last row.
    End,
}

/// A join of a left input, which is the first, and a right one.
#[derive(Clone, Debug)]
pub struct Join {
    /// Which rows it gives.
    pub kind: JoinKind,
    /// Over the left input's columns. Empty for one group that holds all rows.
    pub left_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Over the right input's columns; as many, and of the same types.
    pub right_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether keys that are null pair with each other.
    pub nulls_match: bool,
    /// What else a pair must fulfil, over the left columns and then the right ones.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Which rows need not be kept for ever; at most one entry a side.
    pub forgets: Vec<Forget>,
    /// Whether left rows, which are only ever added, are paired once, with the right rows that are there
    /// after their epoch, and are not kept. Then it is [`JoinKind::Inner`] or [`JoinKind::Left`] and
    /// forgets nothing.
    pub temporal: bool,
}

/// Rows of one side of a join that never pair with rows that are yet to come, nor change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forget {
    /// 0 for the left one.
    pub side: usize,
    /// A column of the side, a timestamp in microseconds. Rows without one are kept.
    pub time: usize,
    /// When its values are final in this sense: when they are by all of these. Not empty.
    pub passing: Vec<Passing>,
}

/// Which rows a join gives. Those of one side come without the other side's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// The pairs.
    Inner,
    /// The pairs, and left rows without one with nulls.
    Left,
    /// The pairs, and right rows without one with nulls.
    Right,
    /// The pairs, and rows of both sides without one with nulls.
    Full,
    /// Left rows that have a pair.
    Semi,
    /// Left rows that have none.
    Anti,
    /// All left rows, with a boolean column that says whether they have a pair.
    Mark,
}

/// The first rows of groups. Rows that the order does not tell apart come in the order of their values.
#[derive(Clone, Debug)]
pub struct First {
    /// The groups' keys, over the input's columns; nulls are equal. Empty for one group.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The order, over the input's columns.
    pub order: Vec<SortKey>,
    /// The greatest number of a row that is passed on; more than 0.
    pub rows: usize,
    /// How the rows of a group are numbered.
    pub ranking: Ranking,
}

/// How rows are numbered in an order, from 1 on. Rows that it does not tell apart are tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// Each row has its own number.
    RowNumber,
    /// Tied rows have one, which is that of the first of them: `rank()`.
    Rank,
    /// Tied rows have one, which is the next one: `dense_rank()`.
    DenseRank,
}

/// One expression to order by.
#[derive(Clone, Debug)]
pub struct SortKey {
    /// Over the input's columns.
    pub expr: Arc<dyn PhysicalExpr>,
    /// Its direction, and where nulls stand.
    pub options: SortOptions,
}

/// Groups of rows whose output is computed anew when they change.
#[derive(Clone, Debug)]
pub struct Regroup {
    /// The groups' keys, over the input's columns; nulls are equal. Empty for one group.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Each group's output from its rows.
    pub recompute: Arc<dyn Recompute>,
}

/// How the output of groups is computed; shared by all workers.
pub trait Recompute: std::fmt::Debug + Send + Sync {
    /// What it does in words for people.
    fn describe(&self) -> String;

    /// What it does in words that stay the same when it is planned again, also by a later version: the
    /// state of a `Regroup` is kept for the same words. Expressions in them are as in
    /// [`identity`](crate::identity).
    ///
    /// # Errors
    /// `Plan` when a part of it has no such words.
    fn identity(&self) -> crate::error::Result<String>;

    /// Keys of the rows that it gives, of those of the rows that it is given; none that it does not know.
    fn unique(&self, _input: &[Key]) -> Vec<Key> {
        Vec::new()
    }

    /// Begins on one worker.
    ///
    /// # Errors
    /// `Plan` when it cannot be computed.
    fn start(&self) -> crate::error::Result<Box<dyn Compute>>;
}

/// A worker's computation of groups.
pub trait Compute {
    /// The output of whole groups from all of their rows, which come in the order of their row format:
    /// the same rows in the same order. What a group gives does not depend on the other groups.
    ///
    /// # Errors
    /// `Data` when a row cannot be computed with.
    fn compute(&mut self, rows: RecordBatch) -> crate::error::Result<RecordBatch>;
}

/// When rows are there. Times are microseconds since 1970, in columns of whole numbers without nulls,
/// and are compared with the time of each epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The column with the first microsecond at which a row is there; always when absent.
    pub from: Option<usize>,
    /// The column with the first one at which it is no more; never when absent.
    pub until: Option<usize>,
}

/// A filter and a projection over one input.
#[derive(Clone, Debug)]
pub struct Map {
    /// Rows for which this is not true are left out.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The output columns, in order; named and typed by the node's schema. Empty keeps the input's, unless
    /// the schema has none.
    pub columns: Vec<Arc<dyn PhysicalExpr>>,
}

/// Overlapping windows of `size` that start every `slide`, in microseconds.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The event time: a timestamp column of the input, of any unit.
    pub time: usize,
    /// Between two starts; more than 0.
    pub slide_us: i64,
    /// The length of each; a multiple of `slide_us` is not required.
    pub size_us: i64,
}

/// Arrays of a row as rows: as many as the longest one has elements, where the others have nulls.
#[derive(Clone, Debug)]
pub struct Unnest {
    /// The places of the arrays among the input's columns, which are lists; at least one.
    pub lists: Vec<usize>,
    /// For each output column the input's column that it repeats or, where that is an array, whose
    /// elements it gives.
    pub columns: Vec<usize>,
    /// Whether a row without any element stays, with nulls for elements.
    pub keeps_empty: bool,
}

/// The keys and aggregates of a GROUP BY.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// Empty for a single global group, which exists from the start.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// In output order after the keys.
    pub aggregates: Vec<Aggregate>,
}

/// One aggregate function over one input expression.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// Which function.
    pub function: AggregateFunction,
    /// Its argument, already cast to what the function takes; absent for count(*).
    pub argument: Option<Arc<dyn PhysicalExpr>>,
    /// DISTINCT: each value of a group counts once.
    pub distinct: bool,
    /// FILTER (WHERE ...).
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The type of the argument as the function sees it.
    pub input: DataType,
    /// The type of the result.
    pub output: DataType,
}

impl Aggregate {
    /// Whether two groups of a stream that only inserts can become one: what is kept of each tells what is
    /// kept of both.
    #[must_use]
    pub fn is_combinable(&self) -> bool {
        is_combinable(self)
    }
}

/// The aggregate functions that are kept incrementally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// count(*) when the argument is absent, else the number of non-null arguments.
    Count,
    /// Null for no rows; overflow is an error.
    Sum,
    /// Null for no rows.
    Avg,
    /// Right under deletes.
    Min,
    /// Right under deletes.
    Max,
}

/// How a view is read: the table of a stateful node, and what to do with its rows on the way out.
#[derive(Clone, Debug)]
pub struct View {
    /// The view's name.
    pub name: String,
    /// A node that keeps rows and can be read: [`Operator::Aggregate`], [`Operator::Sessions`],
    /// [`Operator::Materialize`] or [`Operator::Upsert`]; or looked up and nothing else: [`Operator::Index`].
    pub node: NodeId,
    /// A projection and HAVING applied when reading; the view's own table is not stored twice.
    pub finish: Option<Map>,
    /// The view's columns.
    pub schema: SchemaRef,
    /// What becomes of a row for which `finish` cannot be computed.
    pub on_error: OnError,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::sink::Target;
    use arrow::datatypes::Schema;

    #[derive(Debug)]
    struct Nowhere {
        is_log: bool,
    }

    impl Sink for Nowhere {
        fn check(&self, _: &SchemaRef, _: bool) -> Result<()> {
            Ok(())
        }

        fn open(&self, _: &SchemaRef) -> Result<Box<dyn Target>> {
            Err(crate::Error::Plan("nobody delivers".to_owned()))
        }

        fn is_log(&self) -> bool {
            self.is_log
        }
    }

    #[test]
    fn what_only_logs_read_is_for_logs() {
        let map = || Operator::Map(Map { filter: None, columns: Vec::new() });
        let sink = |is_log| Operator::Sink(Arc::new(Nowhere { is_log }));
        let nodes = [
            (vec![], Operator::Materialize),
            (vec![NodeId(0)], map()),
            (vec![NodeId(1)], sink(true)),
            (vec![NodeId(0)], sink(true)),
            (vec![NodeId(0)], map()),
            (vec![NodeId(4)], sink(true)),
            (vec![NodeId(4)], sink(false)),
            (vec![NodeId(0)], map()),
        ];
        let node = |(inputs, operator)| Node {
            name: String::new(),
            incarnation: 0,
            inputs,
            operator,
            schema: Arc::new(Schema::empty()),
            append_only: false,
            on_error: OnError::Fail,
        };
        let plan = Plan { nodes: nodes.into_iter().map(node).collect(), ..Plan::default() };
        let for_logs: Vec<usize> = (0..plan.nodes.len()).filter(|&at| plan.is_for_logs(NodeId(at))).collect();
        assert_eq!(for_logs, [1, 2, 3, 5]);
    }
}
