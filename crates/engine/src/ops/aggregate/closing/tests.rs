//! Groups that are given when they are final against all rows in a plain list, over random epochs.

use super::*;
use crate::ops::accumulate::Layout;
use crate::ops::aggregate::Shape;
use crate::ops::distinct::Distinct;
use crate::ops::expressions::Preparation;
use crate::ops::extremes::Extremes;
use crate::ops::gathered::tests::Disk;
use crate::ops::watermark::Mark;
use crate::plan::{self, AggregateFunction, Aggregation, NodeId, Passing};
use arrow::array::{Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_core::{KeyGroups, OperatorId, Rng};
use highwater_state::{KeyKind, TableId, TableOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const AFTER: i64 = 7;

/// A key, a time, a value.
type Row = (i64, Option<i64>, i64);
/// By the values of its keys: the number of rows, and the sum, number and least of the values.
type Groups = BTreeMap<Vec<Option<i64>>, [i64; 4]>;

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
fn closing(keys: &[&str], disk: Option<&Disk>) -> (Preparation, Closing) {
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
        call(AggregateFunction::Sum, Some("v"), false),
        call(AggregateFunction::Count, Some("v"), true),
        call(AggregateFunction::Min, Some("v"), false),
    ];
    let aggregation = Aggregation { keys: keys.iter().map(|key| column(key)).collect(), aggregates };
    let preparation = Preparation::new(&aggregation, &input()).expect("a preparation");
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
    fields.extend(["n", "sum", "distinct", "least"].map(|name| Field::new(name, DataType::Int64, true)));
    let schema = Arc::new(Schema::new(fields));
    let shape = Shape { codec, layout, schema, keys: keys.len(), emits: false, creates_global: false };
    let groups = Aggregate::new(shape, narrow, wide, sets, distincts).expect("groups");
    let passing = [(0, AFTER), (1, 0)].map(|(node, after_us)| Passing { watermark: NodeId(node), after_us }).to_vec();
    let time = keys.iter().position(|key| *key == "ts").expect("the time is a key");
    (preparation, Closing::new(groups, time, Bound::new(passing)))
}

/// What rows give, from scratch.
fn groups_of<'a>(rows: impl Iterator<Item = &'a Row>, keys: &[&str]) -> Groups {
    let mut values: BTreeMap<Vec<Option<i64>>, Vec<i64>> = BTreeMap::new();
    for (key, time, value) in rows {
        let group = keys.iter().map(|name| if *name == "k" { Some(*key) } else { *time }).collect();
        values.entry(group).or_default().push(*value);
    }
    let group = |(key, values): (Vec<Option<i64>>, Vec<i64>)| {
        let different: BTreeSet<i64> = values.iter().copied().collect();
        let least = different.first().copied().unwrap_or_default();
        (key, [values.len() as i64, values.iter().sum(), different.len() as i64, least])
    };
    values.into_iter().map(group).collect()
}

/// Inserts, and deletes of rows that are not final, as one batch.
fn changes(rng: &mut Rng, rows: &mut Vec<Row>, bound: i64) -> Batch {
    let mut changed: Vec<(Row, i64)> = Vec::new();
    for _ in 0..rng.below(30) {
        if rng.one_in(4) && !rows.is_empty() {
            let at = rng.below(rows.len() as u64) as usize;
            changed.push((rows.swap_remove(at), -1));
        } else {
            let time = (bound.div_euclid(10) + 1 + rng.below(4) as i64) * 10;
            let row = (rng.below(4) as i64, Some(time).filter(|_| !rng.one_in(10)), rng.below(5) as i64);
            rows.push(row);
            changed.push((row, 1));
        }
    }
    let keys: Int64Array = changed.iter().map(|(row, _)| Some(row.0)).collect();
    let times: TimestampMicrosecondArray = changed.iter().map(|(row, _)| row.1).collect();
    let values: Int64Array = changed.iter().map(|(row, _)| Some(row.2)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(times), Arc::new(values)];
    let batch = RecordBatch::try_new(input(), columns).expect("three columns");
    Batch::weighted(batch, changed.iter().map(|(_, weight)| Some(*weight)).collect())
}

/// The groups in an output, each once.
fn given(out: &[Batch], keys: usize) -> Groups {
    let mut groups = Groups::new();
    for batch in out {
        assert!(batch.weights.is_none(), "groups are only ever inserted");
        for row in 0..batch.len() {
            let value = |column: &ArrayRef| {
                let numbers = arrow::compute::cast(column, &DataType::Int64).expect("numbers");
                let numbers = numbers.as_primitive::<Int64Type>();
                numbers.is_valid(row).then(|| numbers.value(row))
            };
            let mut values: Vec<Option<i64>> = batch.rows.columns().iter().map(value).collect();
            let results = values.split_off(keys);
            let results: Vec<i64> = results.into_iter().map(|value| value.expect("no group is without rows")).collect();
            let results = <[i64; 4]>::try_from(results).expect("four aggregates");
            assert!(groups.insert(values, results).is_none(), "a group is given once");
        }
    }
    groups
}

fn tell(closing: &mut Closing, watermark: usize, before: i64, after: i64) {
    let mark = Mark { before, after };
    closing.apply(watermark, mark.to_batch().expect("a mark")).expect("applies");
}

/// With a disk it goes on from a checkpoint now and then.
fn run(seed: u64, keys: &[&str], mut disk: Option<Disk>) {
    const AHEAD: i64 = 1_000_000;
    let mut rng = Rng::seeded(seed);
    let (preparation, mut operator) = closing(keys, disk.as_ref());
    let (mut rows, mut watermark): (Vec<Row>, i64) = (Vec::new(), NEVER);
    let mut bound = 0;
    tell(&mut operator, 2, NEVER, AHEAD);
    for epoch in 0..60 {
        if let Some(disk) = disk.as_mut().filter(|_| epoch % 7 == 6) {
            disk.checkpoint(vec![operator.tables()]);
            (_, operator) = closing(keys, Some(&*disk));
            tell(&mut operator, 1, watermark, watermark);
            tell(&mut operator, 2, AHEAD, AHEAD);
        }
        let batch = changes(&mut rng, &mut rows, bound);
        let mut parts = preparation.apply(&batch).expect("keys");
        parts.retain(|part| !part.is_empty());
        for part in parts {
            let deadline = Instant::now() + Duration::from_secs(60);
            assert!(operator.load_for(0, &part, deadline).expect("loads"));
            operator.apply(0, part).expect("applies");
        }
        if rng.one_in(2) {
            bound += rng.below(25) as i64;
            tell(&mut operator, 1, watermark, bound + AFTER);
            watermark = bound + AFTER;
        }
        let mut out = Vec::new();
        while !operator.close(Instant::now(), &mut out).expect("closes") {}
        let is_final = |row: &Row| watermark != NEVER && row.1.is_some_and(|time| time <= bound);
        let wanted = groups_of(rows.iter().filter(|row| is_final(row)), keys);
        assert_eq!(given(&out, keys.len()), wanted, "seed {seed}, epoch {epoch}");
        rows.retain(|row| !is_final(row));
        if !operator.ordered {
            continue;
        }
        let held: u64 = operator.tables().iter().map(|table| table.len()).sum();
        let groups = groups_of(rows.iter(), keys);
        let pairs: i64 = groups.values().map(|group| group[2]).sum();
        assert_eq!(held, groups.len() as u64 + 2 * pairs as u64, "what was given is forgotten");
        let time = |group: &Vec<Option<i64>>| group[keys.iter().position(|key| *key == "ts").expect("a time")];
        let timed = groups.keys().filter(|group| time(group).is_some()).count();
        assert_eq!(operator.order.len(), timed, "the order holds the groups that have a time");
    }
}

#[test]
fn groups_are_given_once_when_they_are_final_and_forgotten() {
    for seed in 0..20 {
        for keys in [&["ts"][..], &["k", "ts"], &["ts", "k"]] {
            run(seed, keys, None);
        }
    }
}

#[test]
fn groups_go_on_from_a_checkpoint() {
    for seed in 0..4 {
        for keys in [&["ts"][..], &["k", "ts"]] {
            run(seed, keys, Some(Disk::new()));
        }
    }
}

#[test]
fn groups_that_are_not_final_are_not_looked_for() {
    let (_, mut operator) = closing(&["ts"], None);
    tell(&mut operator, 1, NEVER, 100);
    let mut out = Vec::new();
    while !operator.close(Instant::now(), &mut out).expect("closes") {}
    assert!(out.is_empty(), "one of two watermarks is not known");
}

#[test]
fn groups_are_given_a_chunk_in_a_slice() {
    const GROUPS: usize = 2 * CHUNK + 5;
    let (preparation, mut operator) = closing(&["ts"], None);
    let times: TimestampMicrosecondArray = (0..GROUPS as i64).map(Some).collect();
    let zeros = || Arc::new(Int64Array::from(vec![0; GROUPS])) as ArrayRef;
    let batch = RecordBatch::try_new(input(), vec![zeros(), Arc::new(times), zeros()]).expect("three columns");
    let parts = preparation.apply(&Batch::inserts(batch)).expect("keys");
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        operator.apply(0, part).expect("applies");
    }
    for watermark in [1, 2] {
        tell(&mut operator, watermark, NEVER, 2 * GROUPS as i64);
    }
    let (mut out, mut slices) = (Vec::new(), 1);
    while !operator.close(Instant::now(), &mut out).expect("closes") {
        slices += 1;
    }
    assert!(slices >= 3, "three chunks");
    assert_eq!(given(&out, 1).len(), GROUPS);
    assert!(operator.order.is_empty());
}
