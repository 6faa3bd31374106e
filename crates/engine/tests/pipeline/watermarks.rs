//! Windows that are given when a watermark has passed them, each once, over stops, crashes and other
//! numbers of workers; groups that are forgotten then; and rows that are late.

use super::{engine, wait_for};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_engine::core::KeyGroups;
use highwater_engine::plan::{
    Aggregate, AggregateFunction, Aggregation, Closing, Final, Node, NodeId, OnError, Operator, Passing, Plan, View,
    Watermark,
};
use highwater_engine::source::{Offset, Polled, Source, SplitReader};
use highwater_engine::{CheckpointSettings, Parallelism, Pipeline, PipelineSpec, Result, Trigger};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How far a window goes, and how far the watermark is behind.
const SIZE: i64 = 100;
const DELAY: i64 = 250;
/// Rows that are later by at most this than the newest ones are not late.
const SPREAD: u64 = 200;

/// Rows up to a number, in one split, out of order by less than the watermark allows.
#[derive(Debug, Default)]
struct Times {
    end: AtomicU64,
    /// All rows are late from now on.
    late: AtomicBool,
}

/// The time of a row: out of order within blocks.
fn time_of(n: u64) -> i64 {
    let (block, within) = (n / SPREAD, n % SPREAD);
    (block * SPREAD + (within * 7) % SPREAD) as i64
}

fn schema() -> SchemaRef {
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true);
    Arc::new(Schema::new(vec![time("ts"), time("end"), Field::new("value", DataType::Int64, true)]))
}

fn end_of(time: i64) -> i64 {
    (time.div_euclid(SIZE) + 1) * SIZE
}

#[derive(Debug)]
struct Shared(Arc<Times>);

impl Source for Shared {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn splits(&self) -> Result<Vec<String>> {
        Ok(vec!["0".to_owned()])
    }

    fn blocking(&self) -> bool {
        false
    }

    fn open(&self, _: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        let next = offset.and_then(Offset::as_u64).unwrap_or(0);
        Ok(Box::new(Reader { times: Arc::clone(&self.0), next }))
    }
}

struct Reader {
    times: Arc<Times>,
    next: u64,
}

impl SplitReader for Reader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        let end = self.times.end.load(Relaxed);
        if self.next >= end {
            return Ok(Polled::Idle(Duration::from_millis(2)));
        }
        let numbers: Vec<u64> = (self.next..end).take(max_rows).collect();
        self.next += numbers.len() as u64;
        let late = self.times.late.load(Relaxed);
        let times: Vec<i64> = numbers.iter().map(|n| if late { 5 } else { time_of(*n) }).collect();
        let ends: TimestampMicrosecondArray = times.iter().map(|time| Some(end_of(*time))).collect();
        let values: Int64Array = numbers.iter().map(|n| Some(*n as i64)).collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(TimestampMicrosecondArray::from(times)), Arc::new(ends), Arc::new(values)];
        Ok(Polled::Rows(RecordBatch::try_new(schema(), columns).expect("matches the schema")))
    }

    fn offset(&self) -> Offset {
        Offset::from(self.next)
    }
}

fn node(name: &str, inputs: Vec<NodeId>, operator: Operator, schema: &SchemaRef) -> Node {
    let (name, schema) = (name.to_owned(), Arc::clone(schema));
    Node { name, incarnation: 0, inputs, operator, schema, append_only: true, on_error: OnError::Fail }
}

/// `SELECT end, count(*), sum(value) GROUP BY end EMIT ON WINDOW CLOSE`.
fn spec_of(times: &Arc<Times>) -> PipelineSpec {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let windows = Arc::new(Schema::new(vec![schema().field(1).clone(), number("n"), number("s")]));
    let aggregate = |function, argument: Option<Arc<dyn PhysicalExpr>>| Aggregate {
        function,
        argument,
        distinct: false,
        filter: None,
        input: DataType::Int64,
        output: DataType::Int64,
    };
    let aggregates = vec![
        aggregate(AggregateFunction::Count, None),
        aggregate(AggregateFunction::Sum, Some(Arc::new(Column::new("value", 2)))),
    ];
    let aggregation = Aggregation { keys: vec![Arc::new(Column::new("end", 1))], aggregates };
    let passing = vec![Passing { watermark: NodeId(1), after_us: 0 }];
    let nodes = vec![
        node("times", Vec::new(), Operator::Source(Arc::new(Shared(Arc::clone(times)))), &schema()),
        node("mark", vec![NodeId(0)], Operator::Watermark(Watermark { time: 0, delay_us: DELAY }), &schema()),
        node("close", vec![NodeId(1)], Operator::Closing(Closing { aggregation, time: 0, passing }), &windows),
        node("windows", vec![NodeId(2)], Operator::Materialize, &windows),
    ];
    let view =
        View { name: "windows".to_owned(), node: NodeId(3), finish: None, schema: windows, on_error: OnError::Fail };
    PipelineSpec {
        paused: false,
        parallelism: Parallelism::Auto,
        name: "p".to_owned(),
        sql: Vec::new(),
        plan: Plan { nodes, views: vec![view], ..Plan::default() },
        key_groups: KeyGroups::DEFAULT,
        settings: CheckpointSettings::default(),
    }
}

/// The windows that are closed after so many rows, a multiple of the spread.
fn closed_after(rows: u64) -> BTreeMap<i64, (i64, i64)> {
    let mut windows: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for n in 0..rows {
        let (count, sum) = windows.entry(end_of(time_of(n))).or_default();
        *count += 1;
        *sum += n as i64;
    }
    let watermark = rows as i64 - 1 - DELAY;
    windows.retain(|end, _| *end <= watermark);
    windows
}

fn read(pipeline: &Pipeline) -> BTreeMap<i64, (i64, i64)> {
    let scan = pipeline.scan(&["windows".to_owned()]).expect("reads");
    let mut windows = BTreeMap::new();
    for batch in &scan.views[0] {
        let ends = batch.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
        let [counts, sums] = [1, 2].map(|at| batch.column(at).as_primitive::<Int64Type>().values().to_vec());
        for ((end, count), sum) in ends.into_iter().zip(counts).zip(sums) {
            assert!(windows.insert(end, (count, sum)).is_none(), "the window that ends at {end} was given twice");
        }
    }
    windows
}

#[test]
fn windows_are_given_once_over_stops_and_crashes_with_any_number_of_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let times = Arc::new(Times::default());
    let mut rows = 0;
    for (round, workers) in [2usize, 2, 1, 3, 2].into_iter().enumerate() {
        let engine = engine(folder.path(), workers);
        let pipeline = engine.create(spec_of(&times)).expect("creates");
        rows += 20_000;
        times.end.store(rows, Relaxed);
        let wanted = closed_after(rows);
        wait_for("all closed windows", || read(&pipeline) == wanted);
        assert_eq!(pipeline.metrics().late_rows, 0, "round {round}");
        if round % 2 == 0 {
            engine.shutdown().expect("stops");
        } else {
            pipeline.checkpoint(Trigger::Manual).expect("a checkpoint");
            times.end.store(rows + 2000, Relaxed);
            drop(engine);
        }
    }
    let engine = engine(folder.path(), 2);
    let pipeline = engine.create(spec_of(&times)).expect("creates");
    times.late.store(true, Relaxed);
    times.end.store(rows + 300, Relaxed);
    wait_for("the late rows", || pipeline.metrics().late_rows == 300);
    assert_eq!(read(&pipeline), closed_after(rows));
    engine.shutdown().expect("stops");
}

/// `SELECT count(*), sum(n) FROM (SELECT ts, count(*) AS n GROUP BY ts)`, of which the inner groups are
/// forgotten.
fn forgetful_spec_of(times: &Arc<Times>) -> PipelineSpec {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let call = |function, argument: Option<Arc<dyn PhysicalExpr>>| Aggregate {
        function,
        argument,
        distinct: false,
        filter: None,
        input: DataType::Int64,
        output: DataType::Int64,
    };
    let count = || call(AggregateFunction::Count, None);
    let by_time = Aggregation { keys: vec![Arc::new(Column::new("ts", 0))], aggregates: vec![count()] };
    let sum = call(AggregateFunction::Sum, Some(Arc::new(Column::new("n", 1))));
    let in_all = Aggregation { keys: Vec::new(), aggregates: vec![count(), sum] };
    let groups = Arc::new(Schema::new(vec![schema().field(0).clone(), number("n")]));
    let totals = Arc::new(Schema::new(vec![number("groups"), number("rows")]));
    let changing = |name: &str, input: usize, aggregation, schema: &SchemaRef| {
        let node = node(name, vec![NodeId(input)], Operator::Aggregate(aggregation), schema);
        Node { append_only: false, ..node }
    };
    let mut spec = spec_of(times);
    spec.plan.nodes.truncate(2);
    spec.plan.nodes.extend([changing("by_time", 1, by_time, &groups), changing("in_all", 2, in_all, &totals)]);
    let passing = vec![Passing { watermark: NodeId(1), after_us: 1 }];
    spec.plan.finals.insert(NodeId(2), Final { time: 0, passing });
    let name = "totals".to_owned();
    spec.plan.views = vec![View { name, node: NodeId(3), finish: None, schema: totals, on_error: OnError::Fail }];
    spec
}

fn totals(pipeline: &Pipeline) -> Vec<i64> {
    let scan = pipeline.scan(&["totals".to_owned()]).expect("reads");
    let of_batch =
        |batch: &RecordBatch| [0, 1].map(|at| batch.column(at).as_primitive::<Int64Type>().values().to_vec());
    scan.views[0].iter().flat_map(of_batch).flatten().collect()
}

#[test]
fn groups_are_forgotten_over_stops_and_crashes_with_any_number_of_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let times = Arc::new(Times::default());
    let mut rows = 0_u64;
    for (round, workers) in [2usize, 2, 1, 3, 2].into_iter().enumerate() {
        let engine = engine(folder.path(), workers);
        let pipeline = engine.create(forgetful_spec_of(&times)).expect("creates");
        rows += 20_000;
        times.end.store(rows, Relaxed);
        // Each row has a time of its own.
        wait_for("all groups", || totals(&pipeline) == [rows as i64; 2]);
        assert_eq!(pipeline.metrics().late_rows, 0, "round {round}");
        if round == 4 {
            wait_for("groups that are forgotten", || pipeline.metrics().keys < rows / 2);
        }
        if round % 2 == 0 {
            engine.shutdown().expect("stops");
        } else {
            pipeline.checkpoint(Trigger::Manual).expect("a checkpoint");
            times.end.store(rows + 2000, Relaxed);
            drop(engine);
        }
    }
}
