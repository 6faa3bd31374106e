//! Rows by key against a plain map, over random epochs, checkpoints and restarts.

use super::*;
use crate::ops::gathered::ROW_WORDS;
use crate::ops::gathered::tests::{Disk, in_memory};
use crate::ops::grouping::{Grouping, NullKeys, row_codec};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_core::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A value, and a key of two columns.
type Row = (Option<i64>, Option<i64>, Option<&'static str>);
type Twin = BTreeMap<Row, i64>;

const TEXTS: [&str; 3] = ["", "x", "yy"];

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("v", DataType::Int64, true),
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]))
}

fn grouping() -> Grouping {
    let keys = [("a", 1), ("b", 2)].map(|(name, at)| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>);
    Grouping::new(&keys, &schema(), NullKeys::Drop).expect("keys")
}

fn index(gathered: Gathered) -> Index {
    let keys = KeyCodec::new(grouping().types().to_vec()).expect("a codec");
    Index::new(gathered, schema(), keys, row_codec(&schema()).expect("a codec"))
}

fn apply(index: &mut Index, steps: &[(Row, i64)]) {
    let grouping = grouping();
    for steps in steps.chunks(5) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(steps.iter().map(|(row, _)| row.0).collect::<Int64Array>()),
            Arc::new(steps.iter().map(|(row, _)| row.1).collect::<Int64Array>()),
            Arc::new(steps.iter().map(|(row, _)| row.2).collect::<StringArray>()),
        ];
        let rows = RecordBatch::try_new(schema(), columns).expect("three columns");
        let weights = Int64Array::from_iter_values(steps.iter().map(|(_, weight)| *weight));
        for batch in grouping.apply(&Batch::weighted(rows, weights)).expect("groups") {
            assert!(index.load_for(0, &batch, Instant::now() + Duration::from_secs(60)).expect("loads"));
            index.apply(0, batch).expect("applies");
        }
    }
    let mut out = Vec::new();
    while !index.close(Instant::now(), &mut out).expect("closes") {}
    assert!(out.is_empty(), "nobody reads its changes");
}

fn found(index: &mut Index, a: i64, b: &str) -> Vec<Option<i64>> {
    let keys: [ArrayRef; 2] = [Arc::new(Int64Array::from(vec![a])), Arc::new(StringArray::from(vec![b]))];
    let mut out = Vec::new();
    index.lookup(&keys, &mut out).expect("looked up");
    let mut values = Vec::new();
    for batch in &out {
        assert!(batch.weights.is_none(), "all are there");
        let [of_value, of_a] = [0, 1].map(|column| batch.rows.column(column).as_primitive::<Int64Type>());
        let of_b = batch.rows.column(2).as_string::<i32>();
        assert!((0..batch.len()).all(|row| of_a.value(row) == a && of_b.value(row) == b));
        values.extend(of_value.iter());
    }
    values.sort_unstable();
    values
}

fn check(index: &mut Index, twin: &Twin) {
    for a in 0..5 {
        for b in TEXTS {
            let expected = twin.iter().filter(|((_, key, text), _)| (*key, *text) == (Some(a), Some(b)));
            let expected = expected.flat_map(|((value, ..), count)| std::iter::repeat_n(*value, *count as usize));
            assert_eq!(found(index, a, b), expected.collect::<Vec<_>>(), "{a} {b:?}");
        }
    }
}

/// Random changes, some rows several times over and some of no key.
fn epoch(index: &mut Index, rng: &mut Rng, twin: &mut Twin) {
    let mut steps = Vec::new();
    for _ in 0..rng.below(30) {
        let present: Vec<Row> = twin.keys().copied().collect();
        let (row, weight) = if rng.below(5) < 2 && !present.is_empty() {
            (present[rng.below(present.len() as u64) as usize], -1)
        } else {
            let number = |rng: &mut Rng, most: u64| Some(rng.below(most) as i64).filter(|number| *number < 5);
            let text = TEXTS.get(rng.below(4) as usize).copied();
            ((number(rng, 7), number(rng, 6), text), 1 + rng.below(2) as i64)
        };
        let count = twin.entry(row).or_default();
        *count += weight;
        if *count == 0 {
            twin.remove(&row);
        }
        steps.push((row, weight));
    }
    apply(index, &steps);
}

#[test]
fn all_rows_of_a_key_are_found() {
    for seed in 0..20 {
        let mut rng = Rng::seeded(seed);
        let mut index = index(in_memory(&[ROW_WORDS]));
        let mut twin = Twin::new();
        for _ in 0..30 {
            epoch(&mut index, &mut rng, &mut twin);
            check(&mut index, &twin);
        }
    }
}

#[test]
fn keys_go_on_from_their_checkpoint() {
    let (mut disk, mut rng, mut twin) = (Disk::new(), Rng::seeded(7), Twin::new());
    for _ in 0..20 {
        let mut index = index(disk.gathered(&[ROW_WORDS], 0, 1));
        // Before all of it is loaded.
        check(&mut index, &twin);
        epoch(&mut index, &mut rng, &mut twin);
        disk.checkpoint(vec![index.tables()]);
        check(&mut index, &twin);
        epoch(&mut index, &mut rng, &mut twin);
        disk.checkpoint(vec![index.tables()]);
    }
}

#[test]
fn a_worker_finds_the_keys_that_it_owns() {
    let (mut disk, mut rng, mut twin) = (Disk::new(), Rng::seeded(11), Twin::new());
    let mut whole = index(disk.gathered(&[ROW_WORDS], 0, 1));
    epoch(&mut whole, &mut rng, &mut twin);
    disk.checkpoint(vec![whole.tables()]);
    let mut shares = [0, 1].map(|worker| index(disk.gathered(&[ROW_WORDS], worker, 2)));
    for a in 0..5 {
        for b in TEXTS {
            let of_shares: Vec<_> = shares.iter_mut().flat_map(|share| found(share, a, b)).collect();
            assert_eq!(of_shares, found(&mut whole, a, b), "{a} {b:?}");
        }
    }
}
