//! Rows by group against plain maps over random epochs, with checkpoints, eviction, and restarts on
//! other numbers of workers; and what other tests need for the same.

use super::*;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use highwater_core::{CheckpointId, KeyGroups, OperatorId, Rng, StoreId, WorkerIndex};
use highwater_state::{
    Compression, FileNumber, FileOptions, FreezeOptions, KeyKind, Outcome, PageSource, PageStore, Part as StoredPart,
    Restore, StoreLimits, TableId, TableOptions, write_file,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const STORE: StoreId = StoreId(7);

/// Where checkpoints of tests go.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
    source: PageSource,
    parts: Vec<StoredPart>,
    next: u64,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = PageStore::create(&folder.path().join("pages"), StoreLimits::default()).expect("a page store");
        Self { folder, source: PageSource::new(Arc::new(store), STORE), parts: Vec::new(), next: 1 }
    }

    /// The state of one of some workers as of the last checkpoint.
    pub(crate) fn gathered(&self, row_words: &[usize], worker: usize, workers: usize) -> Gathered {
        let restore = Restore::new(self.source.clone(), self.parts.clone()).expect("parts");
        make(row_words, worker, workers, Some(&self.source), Some(&Arc::new(restore)))
    }

    /// A table of an only worker as of the last checkpoint.
    pub(crate) fn table(&self, table: u8, key: KeyKind, words: usize) -> Table {
        let restore = Restore::new(self.source.clone(), self.parts.clone()).expect("parts");
        table_of(table, key, words, (0, 1), Some(&self.source), Some(&Arc::new(restore)))
    }

    /// Makes a checkpoint of all workers, and drops what is clean then.
    pub(crate) fn checkpoint(&mut self, workers: Vec<Vec<&mut Table>>) {
        for (worker, mut tables) in workers.into_iter().enumerate() {
            let number = FileNumber::new(CheckpointId(self.next), WorkerIndex(worker as u32));
            let mut records = Vec::new();
            for table in &mut tables {
                table.freeze(&FreezeOptions { number, rebase: &[], all: false }).expect("a freeze");
                table.copy_out(&mut || true, &mut records).expect("copying out");
            }
            if !records.is_empty() {
                let path = self.folder.path().join(format!("{number}.sst"));
                let options = FileOptions { store: STORE, number, compression: Compression::None, pace: &mut |_| {} };
                let file = write_file(&path, &mut records, options).expect("a file");
                self.source.store().ingest(&[file.path]).expect("ingestion");
                self.parts.push(StoredPart::File(number));
            }
            for table in tables {
                table.settle(Outcome::InStore).expect("settling");
                table.evict(u64::MAX);
            }
        }
        self.next += 1;
    }
}

/// State that is new and never written.
pub(crate) fn in_memory(row_words: &[usize]) -> Gathered {
    make(row_words, 0, 1, None, None)
}

fn make(
    row_words: &[usize],
    worker: usize,
    workers: usize,
    source: Option<&PageSource>,
    restore: Option<&Arc<Restore>>,
) -> Gathered {
    let table = |number, key, words| table_of(number, key, words, (worker, workers), source, restore);
    let rows = row_words.iter().enumerate();
    let rows = rows.map(|(side, words)| table(side as u8 + 1, KeyKind::Placed, *words)).collect();
    Gathered::new(table(0, KeyKind::Bytes, row_words.len() * GROUP_WORDS), rows)
}

/// A table of a worker among some, whose number comes first.
fn table_of(
    table: u8,
    key: KeyKind,
    words: usize,
    (worker, workers): (usize, usize),
    source: Option<&PageSource>,
    restore: Option<&Arc<Restore>>,
) -> Table {
    let groups = KeyGroups::new(4).expect("a power of two");
    let id = TableId { operator: OperatorId(1), table };
    let owned = groups.owned_by(worker, workers);
    let options = TableOptions { id, key, words, groups, owned, source: source.cloned() };
    match restore {
        Some(restore) => Table::restoring(options, Arc::clone(restore)),
        None => Table::new(options),
    }
}

/// Counts by group and row.
type Twin = BTreeMap<(Vec<u8>, Vec<u8>), i64>;

/// A change: side, group, row, weight.
type Step = (usize, Vec<u8>, Vec<u8>, i64);

/// Random changes after which no count is negative; deletes may come before their inserts.
fn epoch(rng: &mut Rng, twin: &mut [Twin; 2], changes: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..changes {
        let side = rng.below(2) as usize;
        let present: Vec<_> = twin[side].keys().cloned().collect();
        let (key, weight) = if rng.below(5) < 2 && !present.is_empty() {
            (present[rng.below(present.len() as u64) as usize].clone(), -1)
        } else {
            let group = rng.below(12).to_be_bytes().to_vec();
            let row = [group.clone(), vec![rng.below(20) as u8; 1 + rng.below(3) as usize]].concat();
            ((group, row), 1 + rng.below(2) as i64)
        };
        add(&mut twin[side], &key, weight);
        steps.push((side, key.0, key.1, weight));
    }
    for at in (1..steps.len()).rev() {
        steps.swap(at, rng.below(at as u64 + 1) as usize);
    }
    steps
}

fn add(twin: &mut Twin, key: &(Vec<u8>, Vec<u8>), weight: i64) {
    let count = twin.entry(key.clone()).or_default();
    *count += weight;
    if *count == 0 {
        twin.remove(key);
    }
}

fn batch_of(steps: &[&Step]) -> Batch {
    let keys: ArrayRef = Arc::new(BinaryArray::from_iter_values(steps.iter().map(|step| &step.1)));
    let rows: ArrayRef = Arc::new(BinaryArray::from_iter_values(steps.iter().map(|step| &step.2)));
    let weights: Int64Array = steps.iter().map(|step| Some(step.3)).collect();
    Batch::weighted(RecordBatch::try_from_iter([("key", keys), ("row", rows)]).expect("two columns"), weights)
}

/// Hands the changes to the workers that own their groups, a few at a time.
fn apply(all: &mut [Gathered], steps: &[Step]) {
    let groups = KeyGroups::new(4).expect("a power of two");
    let workers = all.len();
    let mut hashes = Vec::new();
    for steps in steps.chunks(7) {
        for side in 0..2 {
            let of_side: Vec<&Step> = steps.iter().filter(|step| step.0 == side).collect();
            let batch = batch_of(&of_side);
            hash_keys(batch.rows.column(0).as_ref(), &mut hashes);
            for (worker, gathered) in all.iter_mut().enumerate() {
                let is_mine = |row: &usize| groups.worker_of(groups.of_hash(hashes[*row]), workers) == worker;
                let mine: Vec<u32> = (0..hashes.len()).filter(is_mine).map(|row| row as u32).collect();
                let batch = batch.take(&UInt32Array::from(mine)).expect("rows of the batch");
                let deadline = Instant::now() + Duration::from_secs(60);
                assert!(gathered.load_for(batch.rows.column(0).as_ref(), deadline).expect("loads"));
                gathered.apply(side, &batch).expect("applies");
            }
        }
    }
}

/// Compares all rows of the touched groups with the maps before and after, and ends the epoch.
fn compare(all: &mut [Gathered], old: &[Twin; 2], new: &[Twin; 2]) {
    for gathered in all {
        let touched = gathered.touched().expect("an epoch");
        let wants = vec![Want::All; touched.len()];
        for side in 0..2 {
            let part = gathered.part(side, &touched, &wants).expect("rows");
            for (at, group) in touched.iter().enumerate() {
                let key = gathered.groups.key_bytes(group.group).to_vec();
                let (mut before, mut after) = (Twin::new(), Twin::new());
                for row in part.of(at) {
                    let bytes = gathered.row(side, part.slots[row]).to_vec();
                    add(&mut before, &(key.clone(), bytes.clone()), part.old[row]);
                    add(&mut after, &(key.clone(), bytes), part.new[row]);
                }
                let of_group = |twin: &Twin| -> Twin {
                    twin.iter().filter(|((group, _), _)| *group == key).map(|(k, v)| (k.clone(), *v)).collect()
                };
                assert_eq!((&before, &after), (&of_group(&old[side]), &of_group(&new[side])));
                let totals = (before.values().sum::<i64>(), after.values().sum::<i64>());
                assert_eq!((group.sides[side].old, group.sides[side].new), totals);
                assert_eq!(group.sides[side].is_changed, before != after);
            }
        }
        end_epoch(gathered);
    }
}

/// Goes to the end of an epoch whose touched groups were all looked at.
fn end_epoch(gathered: &mut Gathered) {
    assert!(gathered.touched().expect("an epoch").is_empty(), "all were looked at");
    while !gathered.end_epoch().expect("an epoch's end") {}
}

fn rows_of(all: &[Gathered]) -> [u64; 2] {
    [0, 1].map(|side| all.iter().map(|gathered| gathered.sides[side].rows.len()).sum())
}

#[test]
fn rows_by_group_agree_with_maps_over_restarts() {
    for seed in 0..6 {
        let mut rng = Rng::seeded(seed);
        let mut disk = Disk::new();
        let mut all: Vec<Gathered> = (0..2).map(|worker| disk.gathered(&[2, 3], worker, 2)).collect();
        let mut twin = [Twin::new(), Twin::new()];
        let mut stored = twin.clone();
        for _ in 0..40 {
            let old = twin.clone();
            let changes = rng.below(60);
            let steps = epoch(&mut rng, &mut twin, changes);
            apply(&mut all, &steps);
            compare(&mut all, &old, &twin);
            match rng.below(4) {
                0 => {
                    disk.checkpoint(all.iter_mut().map(Gathered::tables).collect());
                    stored = twin.clone();
                }
                1 => {
                    let workers = 1 + rng.below(3) as usize;
                    all = (0..workers).map(|worker| disk.gathered(&[2, 3], worker, workers)).collect();
                    twin = stored.clone();
                }
                _ if all.iter().all(Gathered::is_loaded) => {
                    assert_eq!(rows_of(&all), twin.each_ref().map(|twin| twin.len() as u64));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_chain_over_many_pages_is_evicted_and_restored() {
    let row = |number: u32| [b"group".to_vec(), number.to_be_bytes().to_vec()].concat();
    let step = |number: u32, weight: i64| (0, b"group".to_vec(), row(number), weight);
    let mut disk = Disk::new();
    let mut all = vec![disk.gathered(&[2, 2], 0, 1)];
    let inserts: Vec<Step> = (0..20_000).map(|number| step(number, 1)).collect();
    apply_at_once(&mut all, &inserts);
    assert_eq!(all[0].touched().expect("an epoch").len(), 1);
    end_epoch(&mut all[0]);
    disk.checkpoint(all.iter_mut().map(Gathered::tables).collect());
    for (round, left) in [(2, 10_000), (3, 6667)] {
        let deletes: Vec<Step> = (0..20_000)
            .filter(|number| number % round == 0 && (round == 2 || number % 2 != 0))
            .map(|number| step(number, -1))
            .collect();
        apply_at_once(&mut all, &deletes);
        let touched = all[0].touched().expect("an epoch");
        let part = all[0].part(0, &touched, &[Want::All]).expect("rows");
        assert_eq!(part.new.iter().sum::<i64>(), left);
        assert_eq!(part.old.iter().sum::<i64>(), left + deletes.len() as i64);
        end_epoch(&mut all[0]);
        disk.checkpoint(all.iter_mut().map(Gathered::tables).collect());
        all = vec![disk.gathered(&[2, 2], 0, 1)];
    }
}

/// Like [`apply`], on one worker and in one batch.
fn apply_at_once(all: &mut [Gathered], steps: &[Step]) {
    apply_side_at_once(all, 0, steps);
}

fn apply_side_at_once(all: &mut [Gathered], side: usize, steps: &[Step]) {
    let batch = batch_of(&steps.iter().collect::<Vec<_>>());
    let deadline = Instant::now() + Duration::from_secs(60);
    assert!(all[0].load_for(batch.rows.column(0).as_ref(), deadline).expect("loads"));
    all[0].apply(side, &batch).expect("applies");
}

#[test]
fn groups_that_come_and_go_in_more_than_a_chunk_leave_nothing() {
    let key = |number: u32| number.to_be_bytes().to_vec();
    let groups = 3 * TOGETHER as u32;
    let mut all = [in_memory(&[2, 2])];
    for weight in [1, -1] {
        // Each group has two rows on one side and one on the other.
        for (side, row) in [(0, b"a"), (0, b"b"), (1, b"a")] {
            let row = |number| [key(number), row.to_vec()].concat();
            let steps: Vec<Step> = (0..groups).map(|number| (side, key(number), row(number), weight)).collect();
            apply_side_at_once(&mut all, side, &steps);
        }
        let mut seen = 0;
        loop {
            let touched = all[0].touched().expect("an epoch");
            if touched.is_empty() {
                break;
            }
            assert!(touched.len() <= TOGETHER, "{} groups at a time", touched.len());
            let part = all[0].part(0, &touched, &vec![Want::All; touched.len()]).expect("rows");
            assert_eq!(part.len(), 2 * touched.len());
            seen += touched.len();
        }
        assert_eq!(seen, groups as usize);
        end_epoch(&mut all[0]);
        let left = if weight > 0 { u64::from(groups) } else { 0 };
        assert_eq!(rows_of(&all), [2 * left, left]);
        assert_eq!(all[0].groups.len(), left);
    }
}

#[test]
fn a_delete_of_what_is_not_there_is_an_error() {
    let mut gathered = in_memory(&[2]);
    let step = (0, b"g".to_vec(), b"row".to_vec(), -1);
    gathered.apply(0, &batch_of(&[&step])).expect("applies");
    assert!(matches!(gathered.touched(), Err(Error::Data { .. })));
}
