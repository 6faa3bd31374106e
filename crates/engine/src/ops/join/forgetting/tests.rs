//! Joins that forget against joins that do not, over the same random epochs.

use super::*;
use crate::ops::gathered::ROW_WORDS;
use crate::ops::gathered::tests::in_memory;
use crate::ops::grouping::{NullKeys, row_codec};
use crate::ops::pairs::Condition;
use crate::ops::watermark::Mark;
use crate::plan::{JoinKind, NodeId, Passing};
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, IntervalMonthDayNano, Schema, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, lit};
use highwater_core::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

const KINDS: [JoinKind; 7] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti, JoinKind::Mark];
/// A left time is at most so much later than a right one, and at most so much earlier.
const LATER: i64 = 5;
const EARLIER: i64 = 3;

/// How often each row of an output is given.
type Output = BTreeMap<Vec<Option<i64>>, i64>;

fn side() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("ts", time, true)]))
}

fn output(kind: JoinKind) -> SchemaRef {
    let side = side();
    let mut fields = side.fields().to_vec();
    match kind {
        JoinKind::Semi | JoinKind::Anti => {}
        JoinKind::Mark => fields.push(Arc::new(Field::new("mark", DataType::Boolean, true))),
        _ => fields.extend(side.fields().iter().cloned()),
    }
    Arc::new(Schema::new(fields))
}

fn time(at: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new("ts", at))
}

/// `less <= more + micros`, of columns of both sides.
fn at_most(less: usize, more: usize, micros: i64) -> Arc<dyn PhysicalExpr> {
    let interval = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, micros * 1000)));
    let more = Arc::new(BinaryExpr::new(time(more), Operator::Plus, lit(interval)));
    Arc::new(BinaryExpr::new(time(less), Operator::LtEq, more))
}

/// Within an interval of each other, by key; or at the same time.
fn join(kind: JoinKind, is_interval: bool) -> Join {
    let filter: Option<Arc<dyn PhysicalExpr>> = is_interval.then(|| {
        let both = BinaryExpr::new(at_most(1, 3, LATER), Operator::And, at_most(3, 1, EARLIER));
        Arc::new(both) as Arc<dyn PhysicalExpr>
    });
    let condition = filter.map(|filter| Condition::new(&filter, &side(), &side()).expect("a condition"));
    let words = [0, 1].map(|side| ROW_WORDS + usize::from(is_interval && kind.gives_rows_of(side)));
    let codecs = [row_codec(&side()).expect("a codec"), row_codec(&side()).expect("a codec")];
    Join::new(kind, output(kind), in_memory(&words), codecs, condition)
}

fn grouping(kind: JoinKind, at: usize, is_interval: bool) -> Grouping {
    let key: Arc<dyn PhysicalExpr> = if is_interval { Arc::new(Column::new("k", 0)) } else { time(1) };
    let is_loose = kind.gives_rows_of(at) && kind != JoinKind::Semi;
    let nulls = if is_loose { NullKeys::Loose } else { NullKeys::Drop };
    Grouping::new(&[key], &side(), nulls).expect("keys")
}

/// The watermarks of the marks that the rules take, in order.
const NODES: [usize; 4] = [0, 1, 1, 0];

fn forgets(is_interval: bool) -> Vec<Forget> {
    let (later, earlier) = if is_interval { (LATER, EARLIER) } else { (0, 0) };
    let passing = |node: usize, after_us: i64| Passing { watermark: NodeId(node), after_us };
    vec![
        Forget { side: 1, time: 1, passing: vec![passing(NODES[0], 1 + later), passing(NODES[1], 1)] },
        Forget { side: 0, time: 1, passing: vec![passing(NODES[2], 1 + earlier), passing(NODES[3], 1)] },
    ]
}

/// Rows of a side that are not final come and go.
fn changes(rng: &mut Rng, rows: &mut Vec<(i64, Option<i64>)>, watermark: i64) -> Batch {
    let mut changed: Vec<((i64, Option<i64>), i64)> = Vec::new();
    for _ in 0..rng.below(12) {
        let present: Vec<usize> =
            (0..rows.len()).filter(|at| rows[*at].1.is_none_or(|time| time >= watermark)).collect();
        if rng.one_in(4) && !present.is_empty() {
            let at = present[rng.below(present.len() as u64) as usize];
            changed.push((rows.swap_remove(at), -1));
        } else {
            let time = Some(watermark + rng.below(12) as i64).filter(|_| !rng.one_in(12));
            rows.push((rng.below(3) as i64, time));
            changed.push((rows[rows.len() - 1], 1));
        }
    }
    let keys: Int64Array = changed.iter().map(|(row, _)| Some(row.0)).collect();
    let times: TimestampMicrosecondArray = changed.iter().map(|(row, _)| row.1).collect();
    let batch = RecordBatch::try_new(side(), vec![Arc::new(keys), Arc::new(times)]).expect("two columns");
    Batch::weighted(batch, changed.iter().map(|(_, weight)| Some(*weight)).collect())
}

fn close(join: &mut Join) -> Output {
    let (mut out, mut given) = (Vec::new(), Output::new());
    while !join.close(Instant::now(), &mut out).expect("closes") {}
    for batch in &out {
        for row in 0..batch.len() {
            let value = |column: &ArrayRef| {
                let numbers = arrow::compute::cast(column, &DataType::Int64).expect("numbers");
                let numbers = numbers.as_primitive::<Int64Type>();
                numbers.is_valid(row).then(|| numbers.value(row))
            };
            *given.entry(batch.rows.columns().iter().map(value).collect()).or_default() += batch.weight(row);
        }
    }
    given.retain(|_, weight| *weight != 0);
    given
}

fn held(join: &mut Join) -> u64 {
    join.tables().iter().map(|table| table.len()).sum()
}

fn run(seed: u64, kind: JoinKind, is_interval: bool) {
    let mut rng = Rng::seeded(seed);
    let groupings = [grouping(kind, 0, is_interval), grouping(kind, 1, is_interval)];
    let mut twin = join(kind, is_interval);
    let mut forgetting = Forgetting::new(
        &forgets(is_interval),
        [side(), side()],
        [grouping(kind, 0, is_interval), grouping(kind, 1, is_interval)],
    );
    forgetting.few = 0;
    let mut join = join(kind, is_interval).forgetting(forgetting);
    let (mut rows, mut watermarks, mut now) = ([Vec::new(), Vec::new()], [0, 0], 0);
    for epoch in 0..150 {
        for (at, grouping) in groupings.iter().enumerate() {
            let batch = changes(&mut rng, &mut rows[at], watermarks[at]);
            for part in grouping.apply(&batch).expect("keys").into_iter().filter(|part| !part.is_empty()) {
                twin.apply(at, part.clone()).expect("applies");
                join.apply(at, part).expect("applies");
            }
        }
        let before = watermarks;
        now += rng.below(5) as i64;
        watermarks = watermarks.map(|watermark: i64| watermark.max(now - rng.below(4) as i64));
        for (input, node) in NODES.iter().enumerate() {
            let mark = Mark { before: before[*node], after: watermarks[*node] };
            join.apply(2 + input, mark.to_batch().expect("a mark")).expect("applies");
        }
        assert_eq!(close(&mut join), close(&mut twin), "{kind:?}, seed {seed}, epoch {epoch}");
    }
    let (held, all) = (held(&mut join), held(&mut twin));
    assert!(held * 2 < all, "{kind:?}: {held} of {all} rows and groups are held");
}

#[test]
fn what_is_forgotten_changes_nothing() {
    for kind in KINDS {
        for seed in 0..4 {
            run(seed, kind, true);
            run(seed, kind, false);
        }
    }
}
