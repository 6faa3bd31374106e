//! Sessions against plain sorted rows over random epochs: in any order, with gaps that are closed, over
//! checkpoints.

use super::*;
use crate::ops::expressions::Preparation;
use crate::ops::gathered::tests::Disk;
use crate::ops::watermark::Mark;
use crate::plan::{self, Aggregate, AggregateFunction, Aggregation, NodeId, Passing};
use arrow::array::{Float64Array, Int64Array};
use arrow::datatypes::{Field, Float64Type, Int64Type, Schema, TimeUnit};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_core::Rng;
use highwater_state::KeyKind;
use std::collections::BTreeMap;
use std::time::Duration;

const GAP: i64 = 10;

/// Key, time, value.
type Row = (Option<i64>, i64, Option<i64>);

/// Key, first, end, then count, sum, min, max and ten times the average.
type Window = (Option<i64>, i64, i64, [Option<i64>; 5]);

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn input() -> SchemaRef {
    let of = |name: &str, data_type, nullable| Field::new(name, data_type, nullable);
    let fields = vec![of("k", DataType::Int64, true), of("t", time_type(), false), of("v", DataType::Int64, true)];
    Arc::new(Schema::new(fields))
}

fn output() -> SchemaRef {
    let of = |name: &str, data_type| Field::new(name, data_type, true);
    let mut fields = vec![of("end", time_type()), of("k", DataType::Int64), of("start", time_type())];
    fields.extend(["n", "total", "least", "most"].map(|name| of(name, DataType::Int64)));
    fields.push(of("mean", DataType::Float64));
    Arc::new(Schema::new(fields))
}

fn spec() -> plan::Sessions {
    let column = |name: &str, at: usize| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(name, at)) };
    let call = |function, argument, output| Aggregate {
        function,
        argument,
        distinct: false,
        filter: None,
        input: DataType::Int64,
        output,
    };
    let of_value = |function, output| call(function, Some(column("v", 2)), output);
    let aggregates = vec![
        call(AggregateFunction::Count, None, DataType::Int64),
        of_value(AggregateFunction::Sum, DataType::Int64),
        of_value(AggregateFunction::Min, DataType::Int64),
        of_value(AggregateFunction::Max, DataType::Int64),
        of_value(AggregateFunction::Avg, DataType::Float64),
    ];
    plan::Sessions {
        aggregation: Aggregation { keys: vec![column("k", 0)], aggregates },
        time: 1,
        gap_us: GAP,
        columns: vec![SessionColumn::End, SessionColumn::Key(0), SessionColumn::Start],
    }
}

fn preparation() -> Preparation {
    Preparation::of_sessions(&spec(), &input()).expect("keys")
}

fn sessions(disk: &Disk) -> Sessions {
    let (spec, preparation) = (spec(), preparation());
    let aggregates = &spec.aggregation.aggregates;
    let layout = Layout::new(aggregates, &preparation.described, &preparation.columns, true).expect("a layout");
    let words = layout.words + OWN;
    let shape = Shape {
        codec: preparation.codec().expect("a codec"),
        layout,
        schema: output(),
        columns: spec.columns,
        gap_us: spec.gap_us,
        emits: true,
    };
    Sessions::new(shape, disk.table(0, KeyKind::Bytes, KEY_WORDS), disk.table(1, KeyKind::Placed, words))
}

fn apply(sessions: &mut Sessions, rows: &[Row]) {
    let keys: Int64Array = rows.iter().map(|row| row.0).collect();
    let times = TimestampMicrosecondArray::from(rows.iter().map(|row| row.1).collect::<Vec<_>>());
    let values: Int64Array = rows.iter().map(|row| row.2).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(times), Arc::new(values)];
    let batch = Batch::inserts(RecordBatch::try_new(input(), columns).expect("three columns"));
    for part in preparation().apply(&batch).expect("keys") {
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(sessions.load_for(0, &part, deadline).expect("loads"));
        sessions.apply(0, part).expect("applies");
    }
}

/// The windows of rows, each from its rows in order.
fn expected(rows: &[Row]) -> BTreeMap<Window, i64> {
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    let near = |before: &Row, after: &Row| before.0 == after.0 && after.1 - before.1 < GAP;
    let window = |rows: &[Row]| {
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        let values: Vec<i64> = rows.iter().filter_map(|row| row.2).collect();
        let total = (!values.is_empty()).then(|| values.iter().sum::<i64>());
        let mean = total.map(|total| (total as f64 / values.len() as f64 * 10.0) as i64);
        let (least, most) = (values.iter().min().copied(), values.iter().max().copied());
        (first.0, first.1, last.1 + GAP, [Some(rows.len() as i64), total, least, most, mean])
    };
    sorted.chunk_by(near).map(|rows| (window(rows), 1)).collect()
}

fn count(out: &[Batch], windows: &mut BTreeMap<Window, i64>) {
    for batch in out {
        let columns = batch.rows.columns();
        let time = |at: usize, row: usize| columns[at].as_primitive::<TimestampMicrosecondType>().value(row);
        let number = |at: usize, row: usize| {
            let column = columns[at].as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        let means: &Float64Array = columns[7].as_primitive::<Float64Type>();
        for row in 0..batch.len() {
            let mean = means.is_valid(row).then(|| (means.value(row) * 10.0) as i64);
            let calls = [number(3, row), number(4, row), number(5, row), number(6, row), mean];
            let window = (number(1, row), time(2, row), time(0, row), calls);
            let weight = windows.entry(window).or_default();
            *weight += batch.weight(row);
            if *weight == 0 {
                windows.remove(&window);
            }
        }
    }
}

fn close(sessions: &mut Sessions) -> Vec<Batch> {
    let mut out = Vec::new();
    // A deadline that is over: one step a call.
    while !sessions.close(Instant::now(), &mut out).expect("closes") {}
    out
}

fn read(sessions: &mut Sessions) -> BTreeMap<Window, i64> {
    let (mut out, mut windows) = (Vec::new(), BTreeMap::new());
    crate::stateful::contents(sessions, &mut out).expect("reads");
    count(&out, &mut windows);
    windows
}

/// Some rows of a batch are close to each other, and some as far as a gap.
fn random(rng: &mut Rng, from: u64, span: u64) -> Row {
    let key = Some(rng.below(4) as i64).filter(|key| *key > 0);
    let time = if rng.below(2) == 0 { from + rng.below(60) } else { rng.below(span) / 5 * 5 };
    (key, time as i64, Some(rng.below(9) as i64 - 4).filter(|value| *value != 0))
}

fn epoch(sessions: &mut Sessions, rng: &mut Rng, span: u64, rows: &mut Vec<Row>, given: &mut BTreeMap<Window, i64>) {
    for _ in 0..rng.below(4) {
        let from = rng.below(span);
        let batch: Vec<Row> = (0..rng.below(20)).map(|_| random(rng, from, span)).collect();
        apply(sessions, &batch);
        rows.extend(batch);
    }
    count(&close(sessions), given);
    assert_eq!(*given, expected(rows));
}

#[test]
fn sessions_are_those_of_all_rows() {
    for seed in 0..30 {
        let (disk, mut rng) = (Disk::new(), Rng::seeded(seed));
        let mut sessions = sessions(&disk);
        // In the longer spans there are many sessions of each key, so that they are put in order.
        let span = [200, 2000, 20_000][seed as usize % 3];
        let (mut rows, mut given) = (Vec::new(), BTreeMap::new());
        for _ in 0..60 {
            epoch(&mut sessions, &mut rng, span, &mut rows, &mut given);
        }
        assert_eq!(read(&mut sessions), given);
    }
}

#[test]
fn sessions_go_on_from_their_checkpoint() {
    let (mut disk, mut rng) = (Disk::new(), Rng::seeded(5));
    let (mut rows, mut given) = (Vec::new(), BTreeMap::new());
    for _ in 0..25 {
        let mut sessions = sessions(&disk);
        epoch(&mut sessions, &mut rng, 3000, &mut rows, &mut given);
        epoch(&mut sessions, &mut rng, 3000, &mut rows, &mut given);
        disk.checkpoint(vec![sessions.tables()]);
    }
    assert_eq!(read(&mut sessions(&disk)), given);
}

#[test]
fn a_row_closes_a_gap_and_one_at_a_gap_does_not() {
    let disk = Disk::new();
    let mut sessions = sessions(&disk);
    let row = |time: i64| (Some(1), time, Some(time));
    apply(&mut sessions, &[row(0), row(GAP), row(3 * GAP)]);
    let mut given = BTreeMap::new();
    count(&close(&mut sessions), &mut given);
    assert_eq!(given.len(), 3);
    apply(&mut sessions, &[row(1)]);
    let out = close(&mut sessions);
    // Of the two that are one now, the older one's start stands in one change, and the other goes.
    assert_eq!(out.iter().map(Batch::len).sum::<usize>(), 3);
    count(&out, &mut given);
    assert_eq!(given, expected(&[row(0), row(1), row(GAP), row(3 * GAP)]));
}

#[test]
fn sums_beyond_their_type_are_exact_when_the_epoch_brings_them_back() {
    let disk = Disk::new();
    let mut sessions = sessions(&disk);
    let rows = [(None, 0, Some(i64::MAX)), (None, 15, Some(2)), (None, 8, Some(i64::MIN)), (None, 9, Some(i64::MAX))];
    for row in rows {
        apply(&mut sessions, &[row]);
    }
    apply(&mut sessions, &[(None, 10, Some(-i64::MAX))]);
    let out = close(&mut sessions);
    let totals = out[0].rows.column(4).as_primitive::<Int64Type>();
    assert_eq!((out[0].len(), totals.value(0)), (1, 1));
    apply(&mut sessions, &[(None, 30, Some(i64::MAX)), (None, 22, Some(1))]);
    assert!(sessions.close(Instant::now(), &mut Vec::new()).is_err(), "the sum is no bigint");
}

#[test]
fn windows_are_found_by_their_columns() {
    let disk = Disk::new();
    let mut sessions = sessions(&disk);
    let rows: Vec<Row> = (0..200).map(|at| (Some(at % 2), at / 2 * 20, Some(1))).collect();
    apply(&mut sessions, &rows);
    close(&mut sessions);
    let times = |times: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(times)) as ArrayRef;
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(0), Some(0), None]));
    let asked = [times(vec![50, 30, 31, 30]), keys, times(vec![40, 20, 20, 20])];
    let mut out = Vec::new();
    sessions.lookup(&asked, &mut out).expect("found");
    let mut found = BTreeMap::new();
    count(&out, &mut found);
    let window = |key: i64, first: i64| (Some(key), first, first + GAP, [Some(1), Some(1), Some(1), Some(1), Some(10)]);
    assert_eq!(found, BTreeMap::from([(window(1, 40), 1), (window(0, 20), 1)]));
}

/// Sessions that are forgotten when they are over, however few there are.
fn forgetful(disk: &Disk) -> Sessions {
    let last = Final { time: 1, passing: vec![Passing { watermark: NodeId(0), after_us: 1 }] };
    let freeing = Freeing { sweep: Sweep::new().of_few(), ..Freeing::new(&last) };
    sessions(disk).freeing(freeing)
}

fn tell(sessions: &mut Sessions, before: i64, after: i64) {
    sessions.apply(1, Mark { before, after }.to_batch().expect("a mark")).expect("applies");
}

#[test]
fn sessions_that_are_over_are_forgotten_and_give_nothing() {
    for seed in 0..20 {
        let (mut disk, mut rng) = (Disk::new(), Rng::seeded(seed));
        let mut sessions = forgetful(&disk);
        let (mut rows, mut given): (Vec<Row>, BTreeMap<Window, i64>) = (Vec::new(), BTreeMap::new());
        let (mut bound, mut watermark) = (0, NEVER);
        for epoch in 0..100 {
            if seed % 2 == 0 && epoch % 7 == 6 {
                disk.checkpoint(vec![sessions.tables()]);
                sessions = forgetful(&disk);
                if rng.one_in(2) {
                    assert!(sessions.load_more(&mut || true).expect("loads"));
                }
                tell(&mut sessions, watermark, watermark);
            }
            let mut batch: Vec<Row> = (0..rng.below(8)).map(|_| random(&mut rng, 0, 80)).collect();
            batch.iter_mut().for_each(|row| row.1 += bound + 1);
            apply(&mut sessions, &batch);
            rows.extend(batch);
            if rng.one_in(2) {
                bound += rng.below(60) as i64;
                tell(&mut sessions, watermark, bound + 1);
                watermark = bound + 1;
            }
            count(&close(&mut sessions), &mut given);
            assert_eq!(given, expected(&rows), "seed {seed}, epoch {epoch}");
        }
        assert!(sessions.load_more(&mut || true).expect("loads"));
        close(&mut sessions);
        let held = sessions.tables()[1].len();
        assert!(2 * held < given.len() as u64, "seed {seed}: {held} of {} sessions", given.len());
    }
}
