//! The last row of each key against a plain map, over random epochs, checkpoints and restarts.

use super::*;
use crate::ops::gathered::tests::Disk;
use arrow::array::{BooleanArray, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use highwater_core::Rng;
use highwater_state::KeyKind;
use std::collections::BTreeMap;

fn spec() -> plan::Upsert {
    plan::Upsert { keys: vec![1, 2], deletes: true }
}

/// A value, and a key of two columns.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("v", DataType::Int64, true),
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]))
}

type Key = (i64, String);
/// Values by key.
type Twin = BTreeMap<Key, Option<i64>>;
/// A key, its value, and whether it is deleted.
type Step = (Key, Option<i64>, bool);

fn upsert(disk: &Disk) -> Upsert {
    let kept = [disk.table(0, KeyKind::Bytes, 1), disk.table(1, KeyKind::Placed, 0)];
    Upsert::new(&spec(), &schema(), kept, true).expect("an operator")
}

fn batch_of(steps: &[Step]) -> Batch {
    let values: ArrayRef = Arc::new(steps.iter().map(|step| step.1).collect::<Int64Array>());
    let first: ArrayRef = Arc::new(Int64Array::from_iter_values(steps.iter().map(|step| step.0.0)));
    let second: ArrayRef = Arc::new(StringArray::from_iter_values(steps.iter().map(|step| &step.0.1)));
    let deleted: ArrayRef = Arc::new(steps.iter().map(|step| Some(step.2)).collect::<BooleanArray>());
    let columns = [("v", values), ("a", first), ("b", second), ("deleted", deleted)];
    Batch::inserts(RecordBatch::try_from_iter(columns).expect("four columns"))
}

fn take(upsert: &mut Upsert, steps: &[Step]) {
    let keying = Keying::new(&spec(), &schema()).expect("keys");
    for steps in steps.chunks(5) {
        let batch = keying.apply(&batch_of(steps)).expect("keys");
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(upsert.load_for(0, &batch, deadline).expect("loads"));
        upsert.apply(0, batch).expect("applies");
    }
}

/// The rows of batches with their weights.
fn rows_of(batches: &[Batch]) -> Vec<(Key, Option<i64>, i64)> {
    let rows = batches.iter().flat_map(|batch| {
        let [values, first] = [0, 1].map(|column| batch.rows.column(column).as_primitive::<Int64Type>());
        let second = batch.rows.column(2).as_string::<i32>();
        (0..batch.len()).map(move |row| {
            let value = values.is_valid(row).then(|| values.value(row));
            ((first.value(row), second.value(row).to_owned()), value, batch.weight(row))
        })
    });
    rows.collect()
}

fn step(rng: &mut Rng) -> Step {
    let key = (rng.below(6) as i64, ["", "x", "yy"][rng.below(3) as usize].to_owned());
    let is_deleted = rng.below(3) == 0;
    (key, Some(rng.below(4) as i64).filter(|value| *value > 0 && !is_deleted), is_deleted)
}

fn epoch(upsert: &mut Upsert, rng: &mut Rng, twin: &mut Twin, shown: &mut Twin) {
    let steps: Vec<Step> = (0..rng.below(25)).map(|_| step(rng)).collect();
    for (key, value, is_deleted) in &steps {
        if *is_deleted {
            twin.remove(key);
        } else {
            twin.insert(key.clone(), *value);
        }
    }
    take(upsert, &steps);
    let mut out = Vec::new();
    while !upsert.close(Instant::now(), &mut out).expect("closes") {}
    for (key, value, weight) in rows_of(&out) {
        match weight {
            -1 => assert_eq!(shown.remove(&key), Some(value), "what is taken back was there"),
            1 => assert_eq!(shown.insert(key, value), None, "a key has one row"),
            other => panic!("weight {other}"),
        }
    }
    assert_eq!(shown, twin);
}

fn contents(upsert: &mut Upsert) -> Twin {
    let mut out = Vec::new();
    crate::stateful::contents(upsert, &mut out).expect("contents");
    rows_of(&out).into_iter().map(|(key, value, _)| (key, value)).collect()
}

#[test]
fn the_last_row_of_each_key_is_kept() {
    for seed in 0..20 {
        let (disk, mut rng) = (Disk::new(), Rng::seeded(seed));
        let mut upsert = upsert(&disk);
        let (mut twin, mut shown) = (Twin::new(), Twin::new());
        for _ in 0..30 {
            epoch(&mut upsert, &mut rng, &mut twin, &mut shown);
            assert_eq!(contents(&mut upsert), twin);
        }
    }
}

#[test]
fn keys_go_on_from_their_checkpoint() {
    let (mut disk, mut rng) = (Disk::new(), Rng::seeded(3));
    let (mut twin, mut shown) = (Twin::new(), Twin::new());
    for _ in 0..20 {
        let mut upsert = upsert(&disk);
        epoch(&mut upsert, &mut rng, &mut twin, &mut shown);
        disk.checkpoint(vec![upsert.tables()]);
        epoch(&mut upsert, &mut rng, &mut twin, &mut shown);
        disk.checkpoint(vec![upsert.tables()]);
    }
}

#[test]
fn keys_are_looked_up() {
    let disk = Disk::new();
    let mut upsert = upsert(&disk);
    let key = |a: i64, b: &str| (a, b.to_owned());
    take(&mut upsert, &[(key(1, "x"), Some(7), false), (key(2, "x"), None, false), (key(3, ""), None, true)]);
    while !upsert.close(Instant::now(), &mut Vec::new()).expect("closes") {}
    let keys: [ArrayRef; 2] =
        [Arc::new(Int64Array::from(vec![3, 2, 9, 1])), Arc::new(StringArray::from(vec!["", "x", "x", "x"]))];
    let mut out = Vec::new();
    upsert.lookup(&keys, &mut out).expect("looked up");
    assert_eq!(rows_of(&out), [(key(2, "x"), None, 1), (key(1, "x"), Some(7), 1)]);
}

#[test]
fn what_changes_nothing_gives_nothing() {
    let disk = Disk::new();
    let mut upsert = upsert(&disk);
    let same = [((1, "x".to_owned()), Some(7), false)];
    for expected in [1, 0, 0] {
        take(&mut upsert, &same);
        let mut out = Vec::new();
        while !upsert.close(Instant::now(), &mut out).expect("closes") {}
        assert_eq!(rows_of(&out).len(), expected);
    }
}
