//! First rows that leave when their groups are final against first rows that stay, over the same random epochs.

use super::*;
use crate::ops::first::First;
use crate::ops::gathered::ROW_WORDS;
use crate::ops::gathered::tests::{Disk, in_memory};
use crate::ops::watermark::Mark;
use crate::plan::{self, NodeId, Passing, Ranking, SortKey};
use crate::stateful::Logic;
use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use datafusion_physical_expr::expressions::Column;
use highwater_core::Rng;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const AFTER: i64 = 7;

/// How often each row of an output is given.
type Output = BTreeMap<Vec<Option<i64>>, i64>;

fn input() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![field("k", DataType::Int64), field("ts", time), field("v", DataType::Int64)]))
}

fn keys() -> Vec<Arc<dyn PhysicalExpr>> {
    vec![Arc::new(Column::new("k", 0)), Arc::new(Column::new("ts", 1))]
}

/// The two rows with the greatest values of each key and time.
fn first(gathered: Gathered) -> First {
    let expr: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 2));
    let order = vec![SortKey { expr, options: SortOptions { descending: true, nulls_first: false } }];
    let plan = plan::First { keys: keys(), order, rows: 2, ranking: Ranking::RowNumber };
    First::new(gathered, input(), row_codec(&input()).expect("a codec"), &plan, true).expect("an order")
}

/// The same, which lets them leave, however few there are.
fn forgetful(gathered: Gathered) -> First {
    let last = Final { time: 1, passing: vec![Passing { watermark: NodeId(0), after_us: AFTER }] };
    let mut departing = Departing::new(&last, &keys(), &input()).expect("keys");
    departing.sweep = Sweep::new().of_few();
    first(gathered).departing(Some(departing))
}

/// Rows that are not final, by group.
fn inserts(rng: &mut Rng, bound: i64) -> Vec<Batch> {
    let rows = 1 + rng.below(30) as usize;
    let names: Int64Array = (0..rows).map(|_| Some(rng.below(3) as i64)).collect();
    let time = |_| Some(bound + 1 + rng.below(40) as i64).filter(|_| !rng.one_in(10));
    let times: TimestampMicrosecondArray = (0..rows).map(time).collect();
    let values: Int64Array = (0..rows).map(|_| Some(rng.below(9) as i64)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(times), Arc::new(values)];
    let batch = Batch::inserts(RecordBatch::try_new(input(), columns).expect("three columns"));
    let grouping = Grouping::new(&keys(), &input(), NullKeys::Group).expect("keys");
    grouping.apply(&batch).expect("groups")
}

fn apply(operator: &mut First, parts: &[Batch]) {
    for part in parts {
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(operator.load_for(0, part, deadline).expect("loads"));
        operator.apply(0, part.clone()).expect("applies");
    }
}

fn tell(operator: &mut First, before: i64, after: i64) {
    operator.apply(1, Mark { before, after }.to_batch().expect("a mark")).expect("applies");
}

fn close(operator: &mut First) -> Output {
    let (mut out, mut given) = (Vec::new(), Output::new());
    while !operator.close(Instant::now(), &mut out).expect("closes") {}
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
    given
}

/// The rows of both tables.
fn held(operator: &mut First) -> Vec<u64> {
    operator.tables().iter().map(|table| table.len()).collect()
}

/// With a disk it goes on from a checkpoint now and then.
fn run(seed: u64, mut disk: Option<Disk>) {
    let mut rng = Rng::seeded(seed);
    let gathered = |disk: Option<&Disk>| match disk {
        Some(disk) => disk.gathered(&[ROW_WORDS], 0, 1),
        None => in_memory(&[ROW_WORDS]),
    };
    let (mut twin, mut operator) = (first(in_memory(&[ROW_WORDS])), forgetful(gathered(disk.as_ref())));
    let (mut watermark, mut bound) = (NEVER, 0);
    for epoch in 0..120 {
        if let Some(disk) = disk.as_mut().filter(|_| epoch % 7 == 6) {
            disk.checkpoint(vec![operator.tables()]);
            operator = forgetful(gathered(Some(&*disk)));
            if rng.one_in(2) {
                assert!(operator.load_more(&mut || true).expect("loads"));
            }
            tell(&mut operator, watermark, watermark);
        }
        let parts = inserts(&mut rng, bound);
        apply(&mut twin, &parts);
        apply(&mut operator, &parts);
        if rng.one_in(2) {
            bound += rng.below(25) as i64;
            tell(&mut operator, watermark, bound + AFTER);
            watermark = bound + AFTER;
        }
        assert_eq!(close(&mut operator), close(&mut twin), "seed {seed}, epoch {epoch}");
    }
    assert!(operator.load_more(&mut || true).expect("loads"));
    close(&mut operator);
    let (kept, all) = (held(&mut operator), held(&mut twin));
    for (kept, all) in kept.iter().zip(&all) {
        assert!(3 * kept < *all, "seed {seed}: {kept} of {all} rows");
    }
}

#[test]
fn rows_of_groups_that_are_final_leave_and_nothing_is_given() {
    for seed in 0..10 {
        run(seed, None);
    }
}

#[test]
fn rows_leave_after_a_checkpoint_as_well() {
    for seed in 0..4 {
        run(seed, Some(Disk::new()));
    }
}
