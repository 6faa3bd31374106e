//! Rows with lifetimes against a filter over all rows at the time of each epoch.

use super::*;
use crate::ops::gathered::tests::Disk;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use highwater_core::Rng;
use highwater_state::KeyKind;
use std::collections::BTreeMap;
use std::time::Duration;

/// A value, and the times between which it is there.
type Row = [i64; 3];
/// How often each row is there.
type Counts = BTreeMap<Row, i64>;

const BOTH: plan::Lifetime = plan::Lifetime { from: Some(1), until: Some(2) };

fn schema() -> SchemaRef {
    let names = ["v", "from", "until"];
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn add(counts: &mut Counts, row: Row, weight: i64) {
    let count = counts.entry(row).or_default();
    *count += weight;
    if *count == 0 {
        counts.remove(&row);
    }
}

/// The operator, all rows that came and did not go, and what it gave.
struct World {
    times: plan::Lifetime,
    lifetime: Lifetime,
    now: i64,
    rows: Counts,
    output: Counts,
}

impl World {
    fn new(times: plan::Lifetime, disk: &Disk) -> Self {
        Self { times, lifetime: restored(disk), now: 0, rows: Counts::new(), output: Counts::new() }
    }

    fn apply(&mut self, steps: &[(Row, i64)]) {
        let column =
            |at: usize| Arc::new(steps.iter().map(|(row, _)| Some(row[at])).collect::<Int64Array>()) as ArrayRef;
        let rows = RecordBatch::try_new(schema(), vec![column(0), column(1), column(2)]).expect("three columns");
        let weights: Int64Array = steps.iter().map(|(_, weight)| Some(*weight)).collect();
        let timing = Timing::new(self.times.clone(), &schema()).expect("times");
        let batch = timing.apply(&Batch::weighted(rows, weights)).expect("times");
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(self.lifetime.load_for(0, &batch, deadline).expect("loads"));
        self.lifetime.apply(0, batch).expect("applies");
    }

    /// Ends an epoch at a time: what was given until then is what a filter of all rows gives.
    fn close(&mut self, now: i64) {
        self.now = now;
        self.lifetime.at(WallMicros(now));
        let mut out = Vec::new();
        while !self.lifetime.close(Instant::now(), &mut out).expect("closes") {}
        for batch in &out {
            for at in 0..batch.len() {
                assert_ne!(batch.weight(at), 0, "changes are consolidated");
                let row =
                    [0, 1, 2].map(|column: usize| batch.rows.column(column).as_primitive::<Int64Type>().value(at));
                add(&mut self.output, row, batch.weight(at));
            }
        }
        let is_there = |row: &Row| {
            self.times.from.is_none_or(|at| row[at] <= now) && self.times.until.is_none_or(|at| now < row[at])
        };
        let expected: Counts =
            self.rows.iter().filter(|(row, _)| is_there(row)).map(|(row, count)| (*row, *count)).collect();
        assert_eq!(self.output, expected, "at {now}");
    }

    /// Random changes, deletes of rows that are over among them, some before their inserts.
    fn random_epoch(&mut self, rng: &mut Rng) {
        let mut steps = Vec::new();
        for _ in 0..rng.below(12) {
            let present: Vec<Row> = self.rows.keys().copied().collect();
            let (row, weight) = if rng.below(5) < 2 && !present.is_empty() {
                (present[rng.below(present.len() as u64) as usize], -1)
            } else {
                let from = self.now + rng.below(12) as i64 - 4;
                ([rng.below(3) as i64, from, from + rng.below(10) as i64 - 2], 1 + rng.below(2) as i64)
            };
            add(&mut self.rows, row, weight);
            steps.push((row, weight));
        }
        steps.reverse();
        let middle = steps.len() / 2;
        for steps in [&steps[..middle], &steps[middle..]] {
            if !steps.is_empty() {
                self.apply(steps);
            }
        }
        self.close(self.now + rng.below(4) as i64);
    }
}

fn restored(disk: &Disk) -> Lifetime {
    Lifetime::new(schema(), disk.table(0, KeyKind::Bytes, WORDS)).expect("columns")
}

#[test]
fn rows_agree_with_a_filter_at_each_epochs_time() {
    let disk = Disk::new();
    for times in [BOTH, plan::Lifetime { until: None, ..BOTH }, plan::Lifetime { from: None, ..BOTH }] {
        for seed in 0..20 {
            let mut rng = Rng::seeded(seed);
            let mut world = World::new(times.clone(), &disk);
            for _ in 0..60 {
                world.random_epoch(&mut rng);
            }
        }
    }
}

#[test]
fn rows_go_on_from_their_checkpoint_and_what_was_evicted_is_read_back() {
    let mut disk = Disk::new();
    let mut rng = Rng::seeded(3);
    let mut world = World::new(BOTH, &disk);
    for _ in 0..40 {
        world.random_epoch(&mut rng);
        disk.checkpoint(vec![world.lifetime.tables()]);
        if rng.one_in(2) {
            world.lifetime = restored(&disk);
        }
    }
}

#[test]
fn the_next_row_is_told_and_nothing_is_kept_of_what_is_over() {
    let disk = Disk::new();
    let mut world = World::new(BOTH, &disk);
    let steps = [([1, 10, 20], 1), ([2, 0, 15], 2), ([3, 30, 30], 1), ([4, 0, i64::MAX], 1)];
    for (row, weight) in steps {
        add(&mut world.rows, row, weight);
    }
    world.apply(&steps);
    for (now, due) in [(5, Some(10)), (12, Some(15)), (15, Some(20)), (29, Some(30)), (31, None)] {
        world.close(now);
        assert_eq!(world.lifetime.due(), due.map(WallMicros), "at {now}");
    }
    assert_eq!(world.lifetime.table.len(), 1, "the row that is never over");
}

#[test]
fn what_is_restored_is_put_in_order_in_slices() {
    let mut disk = Disk::new();
    let mut world = World::new(BOTH, &disk);
    let steps: Vec<(Row, i64)> = (0..40).map(|value| ([value, 10, 20 + value], 1)).collect();
    for (row, weight) in &steps {
        add(&mut world.rows, *row, *weight);
    }
    world.apply(&steps);
    world.close(5);
    disk.checkpoint(vec![world.lifetime.tables()]);
    world.lifetime = restored(&disk);
    world.lifetime.at(WallMicros(5));
    assert!(!world.lifetime.close(Instant::now(), &mut Vec::new()).expect("closes"), "it takes more than a slice");
    assert_eq!(world.lifetime.due(), None, "nothing is told before all is in order");
    world.close(12);
    assert_eq!(world.lifetime.due(), Some(WallMicros(20)));
}
