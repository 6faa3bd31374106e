//! Outboxes of sinks whose targets block, and of checkpoints that fail.

use super::*;
use crate::kept_rows::RowsFile;
use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray};
use arrow::datatypes::Int64Type;
use highwater_checkpoint::Digest;
use highwater_core::{ManualClock, Rng, SystemClock};
use std::path::Path;
use std::sync::MutexGuard;
use std::sync::mpsc::channel;

const PATIENCE: Duration = Duration::from_secs(60);

/// A checkpoint's number and the rows that came with it.
type Delivery = (u64, Vec<i64>);

/// A sink that notes what is delivered, each delivery once its gate is free.
#[derive(Clone, Debug, Default)]
struct Noted {
    gate: Arc<Mutex<()>>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Noted {
    fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().expect("no delivery panics").clone()
    }
}

impl Sink for Noted {
    fn check(&self, _: &SchemaRef, _: bool) -> Result<()> {
        Ok(())
    }

    fn open(&self, _: &SchemaRef) -> Result<Box<dyn Target>> {
        Ok(Box::new(self.clone()))
    }
}

impl Target for Noted {
    fn deliver(&mut self, permit: DeliveryPermit, _: u32, rows: &[Batch]) -> Result<()> {
        let _open = self.gate.lock().expect("no delivery panics");
        let values = rows.iter().flat_map(|batch| batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec());
        self.deliveries.lock().expect("no delivery panics").push((permit.checkpoint().0, values.collect()));
        Ok(())
    }
}

fn row(value: i64) -> Batch {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
    Batch::inserts(RecordBatch::try_from_iter([("x", column)]).expect("one column"))
}

fn outbox(sink: &Noted, background: &Background) -> Outbox {
    outbox_at(sink, background, Arc::new(SystemClock::default()))
}

fn outbox_at(sink: &Noted, background: &Background, clock: Arc<dyn Clock>) -> Outbox {
    Outbox::new(OutboxSetup {
        name: "k".into(),
        sink: Arc::new(sink.clone()),
        schema: row(0).rows.schema(),
        part: 0,
        background: background.clone(),
        clock,
        run: Arc::new(Run::new("p".to_owned(), Arc::default(), Box::new(|_| {}))),
        undelivered: Arc::default(),
        restored: Vec::new(),
    })
}

fn put(outbox: &mut Outbox, value: i64) {
    outbox.put(&row(value), &Tick::default()).expect("a row");
}

/// Delivers until so many deliveries were made.
fn deliver(outbox: &mut Outbox, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while outbox.delivered() < count {
        assert!(Instant::now() < deadline, "{} of {count} deliveries", outbox.delivered());
        outbox.deliver(|| {});
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a checkpoint does before it fails: the rows get a file.
fn write(part: &OutboxPart, folder: &Path, number: u64) {
    if part.rows.file().is_none() {
        // At most one of them is new that was merged.
        let name = format!("{number}-{}", part.waiting());
        let (path, bytes) = (folder.join(name), part.rows.read().expect("in memory"));
        std::fs::write(&path, bytes.as_slice()).expect("written");
        part.rows.set_file(RowsFile { path, digest: Digest::of(&bytes) });
    }
}

#[test]
fn targets_that_block_hold_up_neither_other_sinks_nor_checkpoints() {
    let background = Background::start(1).expect("threads");
    let stuck = [Noted::default(), Noted::default(), Noted::default()];
    let closed: Vec<MutexGuard<'_, ()>> = stuck.iter().map(|sink| sink.gate.lock().expect("free")).collect();
    let mut outboxes: Vec<Outbox> = stuck.iter().map(|sink| outbox(sink, &background)).collect();
    for outbox in &mut outboxes {
        put(outbox, 1);
        assert_eq!(outbox.freeze(CheckpointId(1)).len(), 1);
        outbox.published(CheckpointId(1));
        outbox.deliver(|| {});
        assert!(outbox.delivering.is_some());
    }
    let free = Noted::default();
    let mut other = outbox(&free, &background);
    for number in 1..=3 {
        put(&mut other, number);
        other.freeze(CheckpointId(number as u64));
        other.published(CheckpointId(number as u64));
        deliver(&mut other, number as u64);
    }
    let (tell, told) = channel();
    background.run(move || tell.send(()).expect("the test listens"));
    told.recv_timeout(PATIENCE).expect("work for checkpoints is done");
    assert!(stuck.iter().all(|sink| sink.deliveries().is_empty()));
    drop(closed);
    outboxes.iter_mut().for_each(|outbox| deliver(outbox, 1));
    assert!(stuck.iter().all(|sink| sink.deliveries() == [(1, vec![1])]));
    assert_eq!(free.deliveries(), [(1, vec![1]), (2, vec![2]), (3, vec![3])]);
}

#[test]
fn a_delivery_that_does_not_end_is_told_until_it_does() {
    let (background, clock) = (Background::start(1).expect("threads"), Arc::new(ManualClock::default()));
    let sink = Noted::default();
    let mut outbox = outbox_at(&sink, &background, Arc::clone(&clock) as Arc<dyn Clock>);
    let second = Duration::from_secs(1);
    let publish = |outbox: &mut Outbox, number: u64| {
        put(outbox, number as i64);
        outbox.freeze(CheckpointId(number));
        outbox.published(CheckpointId(number));
    };
    publish(&mut outbox, 1);
    deliver(&mut outbox, 1);
    // Whoever was asked to come back for that delivery looks at the next one too.
    clock.advance(10 * second);
    let closed = sink.gate.lock().expect("free");
    publish(&mut outbox, 2);
    assert_eq!(outbox.deliver(|| {}), None);
    clock.advance(20 * second);
    assert_eq!(outbox.deliver(|| {}), Some(10 * second));
    assert_eq!(outbox.deliver(|| {}), None, "they are asked once");
    clock.advance(10 * second - Duration::from_micros(1));
    outbox.deliver(|| {});
    assert_eq!((outbox.run.failing(), outbox.run.stuck()), (Vec::new(), 0));
    clock.advance(second);
    assert_eq!(outbox.deliver(|| {}), None);
    publish(&mut outbox, 3);
    let told = outbox.run.failing();
    assert_eq!(told.len(), 1);
    assert!(told[0].hangs && told[0].waiting == 2 && told[0].bytes > Bytes(0), "{told:?}");
    assert_eq!(told[0].reason, "a delivery has not ended for 30 s");
    assert_eq!((outbox.run.stuck(), outbox.undelivered.load(Relaxed)), (2, 2), "nobody waits for them");
    drop(closed);
    deliver(&mut outbox, 3);
    assert_eq!((outbox.run.failing(), outbox.run.stuck()), (Vec::new(), 0));
    assert_eq!(sink.deliveries(), [(1, vec![1]), (2, vec![2]), (3, vec![3])]);
}

#[test]
fn rows_of_checkpoints_that_failed_leave_memory_and_are_delivered_once_one_is_published() {
    let folder = tempfile::tempdir().expect("a folder");
    let (background, sink) = (Background::start(1).expect("threads"), Noted::default());
    let mut outbox = outbox(&sink, &background);
    for number in 1..=20 {
        put(&mut outbox, number as i64);
        let parts = outbox.freeze(CheckpointId(number));
        let numbers: Vec<_> = parts.iter().map(|part| part.checkpoint).collect();
        assert_eq!(numbers, (1..number).map(|failed| Some(CheckpointId(failed))).chain([None]).collect::<Vec<_>>());
        assert_eq!(parts.iter().filter(|part| part.rows.is_in_memory()).count(), 1);
        assert_eq!(parts.iter().filter(|part| part.rows.file().is_none()).count(), 1, "each is written once");
        parts.iter().for_each(|part| write(part, folder.path(), number));
        outbox.deliver(|| {});
        assert!(outbox.delivering.is_none(), "nothing is published");
    }
    // The publisher had used up some numbers.
    outbox.published(CheckpointId(40));
    deliver(&mut outbox, 20);
    let wanted = (1..=20_u64).map(|number| (if number == 20 { 40 } else { number }, vec![number as i64]));
    assert_eq!(sink.deliveries(), wanted.collect::<Vec<_>>());
    assert_eq!(outbox.freeze(CheckpointId(41)).len(), 0);
}

/// Waits for the merge under way, which the next freeze takes up.
fn wait_for_merge(outbox: &Outbox) {
    let deadline = Instant::now() + PATIENCE;
    let is_under_way = |merging: &Merging| merging.result.lock().expect("no merge panics").is_none();
    while outbox.merging.as_ref().is_some_and(is_under_way) {
        assert!(Instant::now() < deadline, "the merge ends");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn rows_of_many_checkpoints_that_failed_are_in_few_parts_and_delivered_one_by_one() {
    const MANY: u64 = 1000;
    let folder = tempfile::tempdir().expect("a folder");
    let (background, sink) = (Background::start(1).expect("threads"), Noted::default());
    let mut outbox = outbox(&sink, &background);
    let mut parts = 0;
    for number in 1..=MANY {
        put(&mut outbox, number as i64);
        let frozen = outbox.freeze(CheckpointId(number));
        assert_eq!(frozen.iter().map(|part| u64::from(part.waiting())).sum::<u64>(), number);
        frozen.iter().for_each(|part| write(part, folder.path(), number));
        parts = frozen.len();
        assert!(parts < 80, "{parts} parts of {number}");
        wait_for_merge(&outbox);
    }
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_dir(folder.path()).expect("a folder").count() != parts {
        assert!(Instant::now() < deadline, "files of what was merged are removed");
        std::thread::sleep(Duration::from_millis(1));
    }
    outbox.published(CheckpointId(MANY));
    assert_eq!(outbox.undelivered.load(Relaxed), MANY as usize);
    deliver(&mut outbox, MANY);
    assert_eq!(sink.deliveries(), (1..=MANY).map(|number| (number, vec![number as i64])).collect::<Vec<_>>());
    assert_eq!((outbox.freeze(CheckpointId(MANY + 1)).len(), outbox.undelivered.load(Relaxed)), (0, 0));
}

#[test]
fn merges_change_no_delivery_whichever_checkpoints_fail() {
    for seed in 0..10 {
        let folder = tempfile::tempdir().expect("a folder");
        let (background, sink) = (Background::start(2).expect("threads"), Noted::default());
        let (mut rng, mut outbox) = (Rng::seeded(seed), outbox(&sink, &background));
        let closed = sink.gate.lock().expect("free");
        let (mut number, mut wanted, mut pending): (u64, Vec<Delivery>, Vec<Delivery>) = (0, Vec::new(), Vec::new());
        for value in 0..400 {
            number += 1 + rng.below(2);
            put(&mut outbox, value);
            pending.push((number, vec![value]));
            let frozen = outbox.freeze(CheckpointId(number));
            frozen.iter().for_each(|part| write(part, folder.path(), number));
            assert!(frozen.len() < 120, "{} parts of {value}", frozen.len());
            if rng.below(3) > 0 {
                wait_for_merge(&outbox);
            }
            // Many fail in a row, and then few.
            let fails = value / 100 % 2 == 0 || rng.below(8) == 0;
            if !fails || value == 399 {
                // The publisher may have used up numbers.
                number += rng.below(3);
                pending.last_mut().expect("just pushed").0 = number;
                outbox.published(CheckpointId(number));
                wanted.append(&mut pending);
            }
            outbox.deliver(|| {});
        }
        drop(closed);
        deliver(&mut outbox, wanted.len() as u64);
        assert_eq!(sink.deliveries(), wanted, "seed {seed}");
        assert!(wanted.is_sorted_by(|one, other| one.0 < other.0));
    }
}

#[test]
fn a_checkpoint_without_rows_leaves_those_that_failed_before_it_their_number() {
    let (background, sink) = (Background::start(1).expect("threads"), Noted::default());
    let mut outbox = outbox(&sink, &background);
    put(&mut outbox, 7);
    outbox.freeze(CheckpointId(1));
    for number in 2..5 {
        let parts = outbox.freeze(CheckpointId(number));
        assert_eq!(parts.iter().map(|part| part.checkpoint).collect::<Vec<_>>(), [Some(CheckpointId(1))]);
    }
    outbox.published(CheckpointId(4));
    deliver(&mut outbox, 1);
    assert_eq!(sink.deliveries(), [(1, vec![7])]);
}

#[test]
fn the_rows_of_a_log_tell_their_epoch_and_its_time() {
    let column: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let rows = RecordBatch::try_from_iter([("x", column)]).expect("one column");
    let batch = Batch::weighted(rows, Int64Array::from(vec![1, -1]));
    let stamped = stamped(&batch, Epoch(7), WallMicros(1_500_000)).expect("stamped");
    let column = |name: &str| {
        let column = stamped.rows.column_by_name(name).expect("a column");
        assert_eq!(column.null_count(), 0);
        column.as_primitive::<Int64Type>().values().to_vec()
    };
    assert_eq!((column(EPOCH), column(TIME)), (vec![7, 7], vec![1_500_000, 1_500_000]));
    assert_eq!(stamped.weights, batch.weights);
}
