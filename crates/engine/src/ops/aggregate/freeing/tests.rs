//! Groups that are forgotten when they are final against groups that are kept, over the same random epochs.

use super::*;
use crate::ops::accumulate::Layout;
use crate::ops::aggregate::Shape;
use crate::ops::distinct::Distinct;
use crate::ops::expressions::Preparation;
use crate::ops::extremes::Extremes;
use crate::ops::gathered::tests::Disk;
use crate::ops::watermark::Mark;
use crate::plan::{self, AggregateFunction, Aggregation, NodeId, Passing};
use crate::stateful::Logic;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_core::{KeyGroups, OperatorId, Rng};
use highwater_state::{KeyKind, TableId, TableOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const AFTER: i64 = 7;
/// Of the watermark that holds nothing back.
const AHEAD: i64 = 1_000_000;

/// How often each row of an output is given.
type Output = BTreeMap<Vec<Option<i64>>, i64>;

fn input() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![field("k", DataType::Int64), field("ts", time), field("v", DataType::Int64)]))
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, input().index_of(name).expect("a column")))
}

fn table(number: u8, key: KeyKind, words: usize) -> Table {
    let groups = KeyGroups::new(4).expect("a power of two");
    let id = TableId { operator: OperatorId(1), table: number };
    Table::new(TableOptions { id, key, words, groups, owned: groups.owned_by(0, 1), source: None })
}

/// Groups by some of the columns, one of which is the time; as of a checkpoint, or new.
fn grouped(keys: &[&str], disk: Option<&Disk>) -> (Preparation, Aggregate) {
    let table = |number, key, words| match disk {
        Some(disk) => disk.table(number, key, words),
        None => table(number, key, words),
    };
    let call = |function, argument: Option<&str>, distinct| plan::Aggregate {
        function,
        argument: argument.map(column),
        distinct,
        filter: None,
        input: DataType::Int64,
        output: DataType::Int64,
    };
    let aggregates = vec![
        call(AggregateFunction::Count, None, false),
        call(AggregateFunction::Count, Some("v"), true),
        call(AggregateFunction::Min, Some("v"), false),
    ];
    let aggregation = Aggregation { keys: keys.iter().map(|key| column(key)).collect(), aggregates };
    let preparation = Preparation::new(&aggregation, &input()).expect("a preparation");
    // As if rows could go, so that the least values are in a multiset.
    let layout = Layout::new(&aggregation.aggregates, &preparation.described, &preparation.columns, false);
    let layout = layout.expect("a layout");
    let codec = preparation.codec().expect("a codec");
    let narrow = codec.is_narrow().then(|| table(0, KeyKind::U64, layout.words));
    let wide = table(1, KeyKind::Bytes, layout.words);
    let set = |(column, data_type): &(usize, DataType)| {
        Extremes::new(table(2, KeyKind::Placed, 1), *column, data_type).expect("a multiset")
    };
    let sets = layout.sets.iter().map(set).collect();
    let distinct = |column: &usize| {
        let data_type = &preparation.described[*column].data_type;
        Distinct::new(table(3, KeyKind::Placed, 1), *column, data_type).expect("distinct values")
    };
    let distincts = preparation.distinct.iter().map(distinct).collect();
    let mut fields: Vec<Field> = keys.iter().map(|key| input().field_with_name(key).expect("a key").clone()).collect();
    fields.extend(["n", "distinct", "least"].map(|name| Field::new(name, DataType::Int64, true)));
    let schema = Arc::new(Schema::new(fields));
    let shape = Shape { codec, layout, schema, keys: keys.len(), emits: true, creates_global: false };
    let groups = Aggregate::new(shape, narrow, wide, sets, distincts).expect("groups");
    (preparation, groups)
}

/// The same, which forgets, however little there is.
fn forgetful(keys: &[&str], groups: bool, disk: Option<&Disk>) -> Aggregate {
    let passing = [(0, AFTER), (1, 0)].map(|(node, after_us)| Passing { watermark: NodeId(node), after_us }).to_vec();
    let time = keys.iter().position(|key| *key == "ts").expect("the time is a key");
    let mut operator = grouped(keys, disk).1.freeing(Freeing::new(&Final { time, passing }, groups));
    let freeing = operator.freeing.as_mut().expect("it forgets");
    freeing.sweeps = freeing.sweeps.drain(..).map(Sweep::of_few).collect();
    operator
}

/// Rows that are not final.
fn inserts(rng: &mut Rng, bound: i64) -> Batch {
    let rows = rng.below(30) as usize;
    let keys: Int64Array = (0..rows).map(|_| Some(rng.below(4) as i64)).collect();
    let time = |_| Some(bound + 1 + rng.below(40) as i64).filter(|_| !rng.one_in(10));
    let times: TimestampMicrosecondArray = (0..rows).map(time).collect();
    let values: Int64Array = (0..rows).map(|_| Some(rng.below(5) as i64)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(times), Arc::new(values)];
    Batch::inserts(RecordBatch::try_new(input(), columns).expect("three columns"))
}

fn apply(operator: &mut Aggregate, parts: &[Batch]) {
    for part in parts {
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(operator.load_for(0, part, deadline).expect("loads"));
        operator.apply(0, part.clone()).expect("applies");
    }
}

fn close(operator: &mut Aggregate) -> Output {
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
    given.retain(|_, weight| *weight != 0);
    given
}

fn tell(operator: &mut Aggregate, watermark: usize, before: i64, after: i64) {
    let mark = Mark { before, after };
    operator.apply(watermark, mark.to_batch().expect("a mark")).expect("applies");
}

/// The rows of all tables.
fn held(operator: &mut Aggregate) -> Vec<u64> {
    operator.tables().iter().map(|table| table.len()).collect()
}

/// With a disk it goes on from a checkpoint now and then.
fn run(seed: u64, keys: &[&str], groups: bool, mut disk: Option<Disk>) {
    let mut rng = Rng::seeded(seed);
    let (preparation, mut twin) = grouped(keys, None);
    let mut operator = forgetful(keys, groups, disk.as_ref());
    let (mut watermark, mut bound) = (NEVER, 0);
    tell(&mut operator, 2, NEVER, AHEAD);
    for epoch in 0..150 {
        if let Some(disk) = disk.as_mut().filter(|_| epoch % 7 == 6) {
            disk.checkpoint(vec![operator.tables()]);
            operator = forgetful(keys, groups, Some(&*disk));
            if rng.one_in(2) {
                assert!(operator.load_more(&mut || true).expect("loads"));
            }
            tell(&mut operator, 1, watermark, watermark);
            tell(&mut operator, 2, AHEAD, AHEAD);
        }
        let mut parts = preparation.apply(&inserts(&mut rng, bound)).expect("keys");
        parts.retain(|part| !part.is_empty());
        apply(&mut twin, &parts);
        apply(&mut operator, &parts);
        if rng.one_in(2) {
            bound += rng.below(25) as i64;
            tell(&mut operator, 1, watermark, bound + AFTER);
            watermark = bound + AFTER;
        }
        assert_eq!(close(&mut operator), close(&mut twin), "seed {seed}, epoch {epoch}");
    }
    assert!(operator.load_more(&mut || true).expect("loads"));
    close(&mut operator);
    let (kept, all) = (held(&mut operator), held(&mut twin));
    let places = all.len();
    for (at, (kept, all)) in kept.into_iter().zip(all).enumerate() {
        let is_of_nulls = keys.len() == 1 && at == 1;
        let goes = !is_of_nulls && (groups || at == places - 1);
        assert!(if goes { 3 * kept < all } else { kept == all }, "seed {seed}, table {at}: {kept} of {all} rows");
    }
}

#[test]
fn groups_that_are_final_are_forgotten_and_give_nothing() {
    for seed in 0..10 {
        for keys in [&["ts"][..], &["k", "ts"], &["ts", "k"]] {
            run(seed, keys, true, None);
        }
    }
}

#[test]
fn of_the_groups_of_a_view_only_the_values_beside_them_are_forgotten() {
    for seed in 0..10 {
        for keys in [&["ts"][..], &["k", "ts"]] {
            run(seed, keys, false, None);
        }
    }
}

#[test]
fn forgetting_goes_on_from_a_checkpoint() {
    for seed in 0..4 {
        for keys in [&["ts"][..], &["k", "ts"]] {
            run(seed, keys, true, Some(Disk::new()));
            run(seed, keys, false, Some(Disk::new()));
        }
    }
}

#[test]
fn nothing_is_forgotten_before_all_watermarks_are_known() {
    let mut rng = Rng::seeded(1);
    let (preparation, mut twin) = grouped(&["ts"], None);
    let mut operator = forgetful(&["ts"], true, None);
    let parts = preparation.apply(&inserts(&mut rng, 0)).expect("keys");
    apply(&mut twin, &parts);
    apply(&mut operator, &parts);
    tell(&mut operator, 1, NEVER, AHEAD);
    close(&mut operator);
    close(&mut twin);
    assert_eq!(held(&mut operator), held(&mut twin), "one of two is not known");
    tell(&mut operator, 2, NEVER, AHEAD);
    close(&mut operator);
    assert_eq!(held(&mut operator)[0], 0);
}
