//! Reading views from outside: some keys, changes epoch by epoch, and what a checkpoint holds.

use crate::numbers::{Numbers, Wanted, groups_of, plan_of, read_groups, spec_of};
use crate::{engine, wait_for};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use highwater_engine::{Batch, Error, Status, Trigger};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

type Groups = BTreeMap<i64, (i64, i64)>;

fn rows_of(batch: &RecordBatch) -> impl Iterator<Item = (i64, (i64, i64))> {
    let [key, count, sum] = [0, 1, 2].map(|at| batch.column(at).as_primitive::<Int64Type>().values().to_vec());
    key.into_iter().zip(count.into_iter().zip(sum))
}

/// Applies an epoch's changes: all that goes is there, all that comes is not.
fn apply(changes: &[Batch], groups: &mut Groups) {
    for wanted in [-1, 1] {
        for batch in changes {
            for (row, (key, value)) in rows_of(&batch.rows).enumerate().filter(|(row, _)| batch.weight(*row) == wanted)
            {
                let old = if wanted < 0 { groups.remove(&key) } else { groups.insert(key, value) };
                assert_eq!(old, (wanted < 0).then_some(value), "row {row} of key {key}");
            }
        }
    }
}

#[test]
fn keys_are_looked_up_on_the_workers_that_own_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = groups_of(500_000, 777);
    for round in 0..2 {
        // The second round looks up while the state is being restored.
        let engine = engine(folder.path(), 2);
        let numbers = Numbers::new(500_000, 777);
        let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
        if round == 0 {
            assert!(pipeline.wait_finished(Some(Duration::from_secs(60))).expect("runs"));
        }
        assert_eq!(pipeline.lookup_columns("groups").expect("runs"), Some(vec![0]));
        let wanted = [0, 5, 776, 777, -3];
        let keys: ArrayRef = Arc::new(Int64Array::from(wanted.to_vec()));
        let found = pipeline.lookup("groups", vec![Arc::clone(&keys)]).expect("reads");
        let found: Groups = found.iter().flat_map(rows_of).collect();
        let expected: Groups = all.iter().filter(|(key, _)| wanted.contains(key)).map(|(k, v)| (*k, *v)).collect();
        assert_eq!(found, expected);
        let other = pipeline.lookup_as_of(("groups", 1), vec![keys]).expect_err("it is another one");
        assert!(matches!(other, Error::NoView { .. }), "{other}");
        engine.shutdown().expect("stops");
    }
}

#[test]
fn a_subscriber_gets_rows_and_then_every_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 2);
    let numbers = Numbers::new(0, 1000);
    let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
    numbers.end.store(100_000, Relaxed);
    let mut subscription = pipeline.subscribe("groups").expect("subscribes");
    let mut groups: Groups = subscription.rows.iter().flat_map(rows_of).collect();
    let mut newest = subscription.epoch;
    for total in [150_000, 400_000] {
        numbers.end.store(total, Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        while groups.values().map(|(count, _)| *count as u64).sum::<u64>() < total {
            assert!(Instant::now() < deadline, "the changes did not come");
            let Some((epoch, changes)) = subscription.next(Duration::from_millis(100)).expect("runs") else { continue };
            assert!(epoch > newest, "{epoch:?} after {newest:?}");
            newest = epoch;
            apply(&changes, &mut groups);
        }
        assert_eq!(groups, groups_of(total, 1000));
        assert_eq!(groups, read_groups(&pipeline));
    }
    engine.shutdown().expect("stops");
    let ended = loop {
        match subscription.next(Duration::from_secs(10)) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, Error::NotRunning { .. }), "{ended}");
}

#[test]
fn an_epoch_that_is_given_in_pieces_is_seen_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 2);
    let numbers = Numbers::new(0, 1);
    let pipeline = engine.create(spec_of("p", &numbers, Wanted::Squared)).expect("creates");
    let read = || -> usize {
        let scan = pipeline.scan(&["pairs".to_owned()]).expect("reads");
        scan.views[0].iter().map(RecordBatch::num_rows).sum()
    };
    // Of whole epochs, each number stands in a pair with each one.
    let is_whole = |pairs: usize| pairs.isqrt().pow(2) == pairs;
    let mut subscription = pipeline.subscribe("pairs").expect("subscribes");
    let mut pairs: usize = subscription.rows.iter().map(RecordBatch::num_rows).sum();
    for total in [300, 700] {
        numbers.end.store(total as u64, Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        while pairs < total * total {
            assert!(Instant::now() < deadline, "the pairs did not come");
            let found = read();
            assert!(is_whole(found), "{found} pairs are no whole epoch");
            let Some((_, changes)) = subscription.next(Duration::from_millis(100)).expect("runs") else { continue };
            assert!(changes.iter().all(|batch| (0..batch.len()).all(|row| batch.weight(row) == 1)));
            pairs += changes.iter().map(Batch::len).sum::<usize>();
            assert!(is_whole(pairs), "{pairs} pairs are no whole epoch");
        }
        assert_eq!((pairs, read()), (total * total, total * total));
    }
    engine.shutdown().expect("stops");
}

#[test]
fn a_pipeline_that_failed_is_read_as_its_checkpoint_holds_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 2);
    let numbers = Numbers::new(0, 500);
    let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
    numbers.end.store(30_000, Relaxed);
    wait_for("reading", || read_groups(&pipeline).values().map(|(count, _)| count).sum::<i64>() == 30_000);
    pipeline.checkpoint(Trigger::Manual).expect("a checkpoint");
    numbers.fail_at.store(30_000, Relaxed);
    numbers.end.store(60_000, Relaxed);
    wait_for("the failure", || matches!(pipeline.status(), Status::Failed { .. }));
    let plan = plan_of(&numbers, Wanted::View);
    for _ in 0..2 {
        let saved = engine.saved("p", &plan, &["groups".to_owned()], || true).expect("reads").expect("in time");
        let groups: Groups = saved.views[0].iter().flat_map(rows_of).collect();
        assert_eq!(groups, groups_of(30_000, 500));
    }
    let unknown = engine.saved("nothing", &plan, &["groups".to_owned()], || true).expect_err("no checkpoint");
    assert!(matches!(unknown, Error::NotRunning { .. }), "{unknown}");
    numbers.fail_at.store(u64::MAX, Relaxed);
    let all = |groups: Groups| groups.values().map(|(count, _)| count).sum::<i64>() == 60_000;
    wait_for("the restart", || {
        pipeline.status() == Status::Running
            && pipeline
                .scan(&["groups".to_owned()])
                .is_ok_and(|scan| all(scan.views[0].iter().flat_map(rows_of).collect()))
    });
    engine.shutdown().expect("stops");
}
