//! A source of numbers that can be told where to end and where to fail, plans over it, and the
//! recomputation of what they should hold.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_engine::core::KeyGroups;
use highwater_engine::plan::{
    Aggregate, AggregateFunction, Aggregation, Join, JoinKind, Node, NodeId, OnError, Operator, Plan, View,
};
use highwater_engine::source::{Offset, Polled, Source, SplitReader};
use highwater_engine::{CheckpointSettings, Error, Parallelism, Pipeline, PipelineSpec, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Rows (n % keys, n) for n from 0 to `end`, in three splits.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub end: AtomicU64,
    pub fail_at: AtomicU64,
    /// Who asks for its splits waits.
    pub held: AtomicBool,
    pub keys: u64,
    /// It ends for ever when it reaches its end.
    bounded: bool,
}

const SPLITS: u64 = 3;

impl Numbers {
    /// `end` 0 begins with nothing and never ends.
    pub(crate) fn new(end: u64, keys: u64) -> Arc<Self> {
        Arc::new(Self {
            end: AtomicU64::new(end),
            fail_at: AtomicU64::new(u64::MAX),
            held: AtomicBool::new(false),
            keys,
            bounded: end > 0,
        })
    }
}

fn schema() -> SchemaRef {
    let column = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![column("key"), column("value")]))
}

/// The source in a plan; a newtype, as the numbers are shared with the test.
#[derive(Debug)]
struct Shared(Arc<Numbers>);

impl Source for Shared {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn splits(&self) -> Result<Vec<String>> {
        while self.0.held.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok((0..SPLITS).map(|split| split.to_string()).collect())
    }

    fn blocking(&self) -> bool {
        false
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        let split: u64 = split.parse().map_err(|e| Error::data("numbers", e))?;
        let next = offset.and_then(Offset::as_u64).unwrap_or(split);
        Ok(Box::new(Reader { numbers: Arc::clone(&self.0), next }))
    }
}

/// A source that panics when a run begins.
#[derive(Debug)]
pub(crate) struct Panicking(pub Arc<Numbers>);

impl Source for Panicking {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn splits(&self) -> Result<Vec<String>> {
        Shared(Arc::clone(&self.0)).splits()
    }

    fn rows_per_second(&self) -> Option<f64> {
        panic!("told to panic")
    }

    fn blocking(&self) -> bool {
        false
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        Shared(Arc::clone(&self.0)).open(split, offset)
    }
}

struct Reader {
    numbers: Arc<Numbers>,
    next: u64,
}

impl SplitReader for Reader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        let end = self.numbers.end.load(Relaxed);
        if self.next >= end {
            return Ok(if self.numbers.bounded { Polled::End } else { Polled::Idle(Duration::from_millis(2)) });
        }
        if self.next >= self.numbers.fail_at.load(Relaxed) {
            return Err(Error::connector("numbers", "told to fail"));
        }
        let values: Vec<i64> = (self.next..end).step_by(SPLITS as usize).take(max_rows).map(|n| n as i64).collect();
        self.next += SPLITS * values.len() as u64;
        let keys: Int64Array = values.iter().map(|n| n % self.numbers.keys as i64).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(Int64Array::from(values))];
        Ok(Polled::Rows(RecordBatch::try_new(schema(), columns).expect("matches the schema")))
    }

    fn offset(&self) -> Offset {
        Offset::from(self.next)
    }
}

/// Which plan over the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// `SELECT key, count(*), sum(value) GROUP BY key`.
    View,
    /// And over it `SELECT count(*), sum(count), sum(sum)`.
    ViewOnView,
    /// And every number twice, with its group's row.
    Joined,
    /// And all pairs of numbers of one key.
    Squared,
}

fn aggregate(function: AggregateFunction, argument: Option<(&str, usize)>) -> Aggregate {
    Aggregate {
        distinct: false,
        function,
        argument: argument.map(|(name, at)| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>),
        filter: None,
        input: DataType::Int64,
        output: DataType::Int64,
    }
}

fn join_by_key() -> Join {
    let key = || vec![Arc::new(Column::new("key", 0)) as Arc<dyn PhysicalExpr>];
    Join {
        kind: JoinKind::Inner,
        left_keys: key(),
        right_keys: key(),
        nulls_match: false,
        filter: None,
        forgets: Vec::new(),
        temporal: false,
    }
}

pub(crate) fn plan_of(numbers: &Arc<Numbers>, wanted: Wanted) -> Plan {
    let column = |name: &str, nullable| Field::new(name, DataType::Int64, nullable);
    let groups = Arc::new(Schema::new(vec![column("key", false), column("n", false), column("s", true)]));
    let totals = Arc::new(Schema::new(vec![column("keys", false), column("n", true), column("s", true)]));
    let by_key = Aggregation {
        keys: vec![Arc::new(Column::new("key", 0))],
        aggregates: vec![
            aggregate(AggregateFunction::Count, None),
            aggregate(AggregateFunction::Sum, Some(("value", 1))),
        ],
    };
    let in_all = Aggregation {
        keys: Vec::new(),
        aggregates: vec![
            aggregate(AggregateFunction::Count, None),
            aggregate(AggregateFunction::Sum, Some(("n", 1))),
            aggregate(AggregateFunction::Sum, Some(("s", 2))),
        ],
    };
    let node = |name: &str, inputs: Vec<NodeId>, operator, schema: &SchemaRef, append_only| Node {
        name: name.to_owned(),
        incarnation: 0,
        inputs,
        operator,
        schema: Arc::clone(schema),
        append_only,
        on_error: OnError::Fail,
    };
    let mut nodes = vec![
        node("numbers", Vec::new(), Operator::Source(Arc::new(Shared(Arc::clone(numbers)))), &schema(), true),
        node("groups", vec![NodeId(0)], Operator::Aggregate(by_key), &groups, false),
    ];
    let view = |name: &str, at, schema: &SchemaRef| View {
        name: name.to_owned(),
        node: NodeId(at),
        finish: None,
        schema: Arc::clone(schema),
        on_error: OnError::Fail,
    };
    let mut views = vec![view("groups", 1, &groups)];
    if wanted == Wanted::ViewOnView {
        nodes.push(node("totals", vec![NodeId(1)], Operator::Aggregate(in_all), &totals, false));
        views.push(view("totals", 2, &totals));
    }
    if wanted == Wanted::Joined {
        let pairs = Arc::new(Schema::new([schema().fields().to_vec(), groups.fields().to_vec()].concat()));
        nodes.push(node("twice", vec![NodeId(0), NodeId(0)], Operator::Union, &schema(), true));
        nodes.push(node("join", vec![NodeId(2), NodeId(1)], Operator::Join(join_by_key()), &pairs, false));
        nodes.push(node("pairs", vec![NodeId(3)], Operator::Materialize, &pairs, false));
        views.push(view("pairs", 4, &pairs));
    }
    if wanted == Wanted::Squared {
        let pairs = Arc::new(Schema::new([schema().fields().to_vec(), schema().fields().to_vec()].concat()));
        nodes.push(node("join", vec![NodeId(0); 2], Operator::Join(join_by_key()), &pairs, false));
        nodes.push(node("pairs", vec![NodeId(2)], Operator::Materialize, &pairs, false));
        views.push(view("pairs", 3, &pairs));
    }
    Plan { nodes, views, ..Plan::default() }
}

pub(crate) fn spec_of(name: &str, numbers: &Arc<Numbers>, wanted: Wanted) -> PipelineSpec {
    PipelineSpec {
        paused: false,
        parallelism: Parallelism::Auto,
        name: name.to_owned(),
        sql: Vec::new(),
        plan: plan_of(numbers, wanted),
        key_groups: KeyGroups::DEFAULT,
        settings: CheckpointSettings::default(),
    }
}

/// What the view should hold after `rows` numbers.
pub(crate) fn groups_of(rows: u64, keys: u64) -> BTreeMap<i64, (i64, i64)> {
    let mut groups = BTreeMap::new();
    for n in 0..rows as i64 {
        let (count, sum) = groups.entry(n % keys as i64).or_insert((0, 0));
        *count += 1;
        *sum += n;
    }
    groups
}

/// What the view holds.
pub(crate) fn read_groups(pipeline: &Pipeline) -> BTreeMap<i64, (i64, i64)> {
    let scan = pipeline.scan(&["groups".to_owned()]).expect("reads");
    let mut groups = BTreeMap::new();
    for batch in &scan.views[0] {
        let [key, count, sum] = [0, 1, 2].map(|at| batch.column(at).as_primitive::<Int64Type>().values().to_vec());
        for ((key, count), sum) in key.into_iter().zip(count).zip(sum) {
            assert!(groups.insert(key, (count, sum)).is_none(), "key {key} stands in the view twice");
        }
    }
    groups
}

/// How often each row should be in the view of pairs after `rows` numbers.
pub(crate) fn pairs_of(rows: u64, keys: u64) -> BTreeMap<Vec<i64>, usize> {
    let groups = groups_of(rows, keys);
    let pair = |n: i64| {
        let key = n % keys as i64;
        (vec![key, n, key, groups[&key].0, groups[&key].1], 2)
    };
    (0..rows as i64).map(pair).collect()
}

/// How often each row is in the view of pairs.
pub(crate) fn read_pairs(pipeline: &Pipeline) -> BTreeMap<Vec<i64>, usize> {
    let scan = pipeline.scan(&["pairs".to_owned()]).expect("reads");
    let mut pairs = BTreeMap::new();
    for batch in &scan.views[0] {
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(row);
            *pairs.entry(batch.columns().iter().map(value).collect()).or_default() += 1;
        }
    }
    pairs
}

/// The one row of the second view.
pub(crate) fn total_of(batches: &[RecordBatch]) -> Option<(i64, i64, i64)> {
    let rows: Vec<&RecordBatch> = batches.iter().filter(|batch| batch.num_rows() > 0).collect();
    assert!(rows.len() <= 1 && rows.iter().all(|batch| batch.num_rows() == 1), "one group without keys");
    let get = |at: usize| rows[0].column(at).as_primitive::<Int64Type>().value(0);
    (!rows.is_empty()).then(|| (get(0), get(1), get(2)))
}
