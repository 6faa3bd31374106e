//! A pipeline's table on several workers, beside the map it must agree with.

use highwater_core::{CheckpointId, KeyGroups, OperatorId, Rng, StoreId, WorkerIndex, splitmix64};
use highwater_state::scope::in_scope;
use highwater_state::{
    ByteKeys, Compression, FileNumber, FileOptions, FreezeOptions, KeyKind, Outcome, PageSource, PageStore, Part,
    Record, Restore, Rows, Slot, StoreLimits, Table, TableId, TableOptions, decode_inline, encode_inline, hash_bytes,
    hash_placed, hash_u64, write_file,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const STORE: StoreId = StoreId(42);

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Upsert { seed: u64, rows: usize },
    Delete { seed: u64, rows: usize },
    Freeze { rebase: u64, all: bool },
    CopyOut(usize),
    Store,
    StoreInline,
    Fail,
    FreezeForRead,
    CopyRows(usize),
    EndRead,
    Evict,
    Restart { workers: usize },
    Compare,
}

/// What the table is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub kind: KeyKind,
    pub words: usize,
    pub groups: u16,
    /// How many different keys there are.
    pub universe: u64,
}

impl Shape {
    fn key_groups(self) -> KeyGroups {
        KeyGroups::new(self.groups).expect("a power of two")
    }

    /// The key of a number, as bytes.
    fn key(self, number: u64) -> Vec<u8> {
        let word = splitmix64(number).to_le_bytes();
        if self.kind != KeyKind::U64 {
            word.iter().copied().cycle().take((number % 41) as usize + 2).chain(number.to_le_bytes()).collect()
        } else {
            word.to_vec()
        }
    }

    fn hash(self, key: &[u8]) -> u64 {
        match self.kind {
            KeyKind::U64 => hash_u64(as_word(key)),
            KeyKind::Bytes => hash_bytes(key),
            KeyKind::Placed => hash_placed(key),
        }
    }
}

fn as_word(key: &[u8]) -> u64 {
    u64::from_le_bytes(key.try_into().expect("eight bytes"))
}

type Twin = BTreeMap<Vec<u8>, Vec<u64>>;

/// A checkpoint in flight.
struct Flight {
    number: u64,
    twin: Twin,
    records: Vec<Vec<Record>>,
}

pub(crate) struct World {
    shape: Shape,
    folder: tempfile::TempDir,
    source: PageSource,
    tables: Vec<Table>,
    twin: Twin,
    stored: Twin,
    parts: BTreeMap<FileNumber, Part>,
    flight: Option<Flight>,
    reading: Option<(Twin, Vec<Rows>)>,
    next: u64,
    /// The first number that was free when the tables began.
    first: u64,
}

impl World {
    pub(crate) fn new(shape: Shape) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = PageStore::create(&folder.path().join("pages"), StoreLimits::default()).expect("a page store");
        let source = PageSource::new(Arc::new(store), STORE);
        let mut world = Self {
            shape,
            folder,
            source,
            tables: Vec::new(),
            twin: Twin::new(),
            stored: Twin::new(),
            parts: BTreeMap::new(),
            flight: None,
            reading: None,
            next: 1,
            first: 1,
        };
        world.tables = (0..2).map(|worker| Table::new(world.options(worker, 2))).collect();
        world
    }

    fn options(&self, worker: usize, workers: usize) -> TableOptions {
        let groups = self.shape.key_groups();
        TableOptions {
            id: TableId { operator: OperatorId(3), table: 1 },
            key: self.shape.kind,
            words: self.shape.words,
            groups,
            owned: groups.owned_by(worker, workers),
            source: Some(self.source.clone()),
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Upsert { seed, rows } => self.upsert(seed, rows),
            Op::Delete { seed, rows } => self.delete(seed, rows),
            Op::Freeze { rebase, all } => self.freeze(rebase, all),
            Op::CopyOut(pages) => self.copy_out(pages),
            Op::Store => self.settle(Outcome::InStore),
            Op::StoreInline => self.settle(Outcome::Inline),
            Op::Fail => self.settle(Outcome::Failed),
            Op::FreezeForRead => self.freeze_for_read(),
            Op::CopyRows(pages) => self.copy_rows(pages),
            Op::EndRead => {
                self.reading = None;
                self.tables.iter_mut().for_each(Table::end_read);
                assert!(self.tables.iter().all(|table| table.read_undo_bytes() == 0));
            }
            Op::Evict => {
                for table in &mut self.tables {
                    table.evict(u64::MAX);
                }
            }
            Op::Restart { workers } => self.restart(workers),
            Op::Compare => self.compare(),
        }
    }

    /// Keys of random numbers, dealt to their workers with their hashes; keys repeat.
    fn deal(&self, seed: u64, rows: usize) -> Vec<(Vec<Vec<u8>>, Vec<u64>)> {
        let mut rng = Rng::seeded(seed);
        let mut dealt = vec![(Vec::new(), Vec::new()); self.tables.len()];
        for _ in 0..rows {
            let key = self.shape.key(rng.below(self.shape.universe));
            let hash = self.shape.hash(&key);
            let groups = self.shape.key_groups();
            let worker = groups.worker_of(groups.of_hash(hash), self.tables.len());
            dealt[worker].0.push(key);
            dealt[worker].1.push(hash);
        }
        dealt
    }

    fn upsert(&mut self, seed: u64, rows: usize) {
        for (worker, (keys, hashes)) in self.deal(seed, rows).into_iter().enumerate() {
            let table = &mut self.tables[worker];
            let (mut slots, mut created) = (Vec::new(), Vec::new());
            with_keys(self.shape, &keys, |batch| match batch {
                Batch::Words(words) => table.upsert_u64(&hashes, words, &mut slots, &mut created),
                Batch::Bytes(bytes) => table.upsert_bytes(&hashes, bytes, &mut slots, &mut created),
            })
            .expect("an upsert");
            let new: BTreeSet<&Vec<u8>> = keys.iter().filter(|key| !self.twin.contains_key(*key)).collect();
            assert_eq!(created.len(), new.len());
            table.update(&slots, |row, words| {
                for (at, word) in words.iter_mut().enumerate() {
                    *word = change(*word, hashes[row], at, seed);
                }
            });
            for (key, hash) in keys.iter().zip(&hashes) {
                let words = self.twin.entry(key.clone()).or_insert_with(|| vec![0; self.shape.words]);
                for (at, word) in words.iter_mut().enumerate() {
                    *word = change(*word, *hash, at, seed);
                }
            }
        }
    }

    fn delete(&mut self, seed: u64, rows: usize) {
        for (worker, (keys, hashes)) in self.deal(seed, rows).into_iter().enumerate() {
            let slots = self.find(worker, &keys, &hashes);
            let found: Vec<Slot> = slots.iter().copied().flatten().collect();
            self.tables[worker].delete(&found).expect("a delete");
            for (key, slot) in keys.iter().zip(slots) {
                let known = self.twin.remove(key).is_some();
                assert!(!known || slot.is_some(), "a key of the map is in the table");
            }
        }
    }

    fn find(&mut self, worker: usize, keys: &[Vec<u8>], hashes: &[u64]) -> Vec<Option<Slot>> {
        let (table, mut slots) = (&mut self.tables[worker], Vec::new());
        with_keys(self.shape, keys, |batch| match batch {
            Batch::Words(words) => table.find_u64(hashes, words, &mut slots),
            Batch::Bytes(bytes) => table.find_bytes(hashes, bytes, &mut slots),
        })
        .expect("a find");
        slots
    }

    fn freeze(&mut self, rebase: u64, all: bool) {
        if self.flight.is_some() {
            return;
        }
        let rebase: Vec<u16> = (0..self.shape.groups).filter(|group| rebase >> group & 1 == 1).collect();
        for (worker, table) in self.tables.iter_mut().enumerate() {
            let number = FileNumber::new(CheckpointId(self.next), WorkerIndex(worker as u32));
            table.freeze(&FreezeOptions { number, rebase: &rebase, all }).expect("a freeze");
        }
        let records = vec![Vec::new(); self.tables.len()];
        self.flight = Some(Flight { number: self.next, twin: self.twin.clone(), records });
        self.next += 1;
    }

    fn copy_out(&mut self, pages: usize) {
        let Some(flight) = &mut self.flight else { return };
        for (table, records) in self.tables.iter_mut().zip(&mut flight.records) {
            table.copy_out(&mut up_to(pages), records).expect("copying out");
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        if outcome != Outcome::Failed {
            self.copy_out(usize::MAX);
        }
        let Some(flight) = self.flight.take() else { return };
        for (worker, mut records) in flight.records.into_iter().enumerate() {
            let number = FileNumber::new(CheckpointId(flight.number), WorkerIndex(worker as u32));
            match outcome {
                Outcome::Inline => {
                    let part = decode_inline(&encode_inline(number, &records)).expect("what was encoded");
                    self.parts.insert(number, part);
                }
                Outcome::InStore if !records.is_empty() => {
                    let path = self.folder.path().join(format!("{number}.sst"));
                    let options =
                        FileOptions { store: STORE, number, compression: Compression::Lz4, pace: &mut |_| {} };
                    let file = write_file(&path, &mut records, options).expect("a file");
                    self.source.store().ingest(&[file.path]).expect("ingestion");
                    self.parts.insert(number, Part::File(number));
                }
                Outcome::InStore | Outcome::Failed => {}
            }
            self.tables[worker].settle(outcome).expect("settling");
        }
        if outcome != Outcome::Failed {
            self.stored = flight.twin;
            self.drop_old_parts();
        }
    }

    /// Files that fall out of scope are dropped at once: nothing may miss them. What the tables wrote since they
    /// began falls out of it by the floor of its own worker, what was restored by that of all.
    fn drop_old_parts(&mut self) {
        let floors: Vec<Option<FileNumber>> = self.tables.iter().map(Table::floor).collect();
        let floor = floors.iter().flatten().min().copied();
        let is_over = |number: &FileNumber| {
            let own = floors.get(number.worker().0 as usize).copied().flatten();
            let own = own.filter(|_| number.checkpoint().0 >= self.first);
            own.or(floor).is_none_or(|floor| !in_scope(*number, floor))
        };
        let gone: Vec<FileNumber> = self.parts.keys().copied().filter(is_over).collect();
        for number in gone {
            self.parts.remove(&number);
            self.source.store().drop_files(STORE, number..=number).expect("dropping");
        }
    }

    fn freeze_for_read(&mut self) {
        if self.reading.is_none() && self.tables.iter().all(Table::is_loaded) {
            self.tables.iter_mut().for_each(|table| table.freeze_for_read(None).expect("a read"));
            self.reading = Some((self.twin.clone(), vec![Rows::default(); self.tables.len()]));
        }
    }

    fn copy_rows(&mut self, pages: usize) {
        let Some((twin, mut rows)) = self.reading.take() else { return };
        let mut left = 0;
        for (table, rows) in self.tables.iter_mut().zip(&mut rows) {
            // A table whose rows are all copied has ended its read.
            if let Ok(progress) = table.copy_rows(&mut up_to(pages), rows) {
                left += progress.pages_left;
            }
        }
        if left > 0 {
            self.reading = Some((twin, rows));
        } else {
            assert_eq!(self.collect(&rows), twin, "a reader sees the table as it was");
        }
    }

    fn collect(&self, rows: &[Rows]) -> Twin {
        let mut out = Twin::new();
        for rows in rows {
            for row in 0..rows.len() {
                let key = if self.shape.kind != KeyKind::U64 {
                    rows.key_bytes(row).to_vec()
                } else {
                    rows.keys[row].to_le_bytes().to_vec()
                };
                let words = rows.words[row * self.shape.words..][..self.shape.words].to_vec();
                assert!(out.insert(key, words).is_none(), "a key stands in two rows");
            }
        }
        out
    }

    /// A crash: what was not stored is lost.
    fn restart(&mut self, workers: usize) {
        self.flight = None;
        self.reading = None;
        self.first = self.next;
        let parts: Vec<Part> = self.parts.values().cloned().collect();
        let restore = Arc::new(Restore::new(self.source.clone(), parts).expect("parts"));
        self.tables =
            (0..workers).map(|worker| Table::restoring(self.options(worker, workers), Arc::clone(&restore))).collect();
        for table in &mut self.tables {
            let last = table.owned().next_back();
            if let Some(last) = last {
                table.load_group(last as u16).expect("a key group");
            }
            assert!(table.load_next(&mut || true).expect("all key groups"));
        }
        self.twin = self.stored.clone();
    }

    fn compare(&mut self) {
        let len: u64 = self.tables.iter().map(Table::len).sum();
        assert_eq!(len, self.twin.len() as u64);
        let mut dealt = vec![(Vec::new(), Vec::new()); self.tables.len()];
        let groups = self.shape.key_groups();
        for number in 0..self.shape.universe {
            let key = self.shape.key(number);
            let hash = self.shape.hash(&key);
            let (keys, hashes): &mut (Vec<_>, Vec<_>) =
                &mut dealt[groups.worker_of(groups.of_hash(hash), self.tables.len())];
            keys.push(key);
            hashes.push(hash);
        }
        for (worker, (keys, hashes)) in dealt.into_iter().enumerate() {
            let slots = self.find(worker, &keys, &hashes);
            let table = &self.tables[worker];
            for (key, slot) in keys.iter().zip(slots) {
                assert_eq!(slot.map(|slot| table.words(slot)), self.twin.get(key).map(Vec::as_slice));
                if let Some(slot) = slot {
                    let held = if self.shape.kind != KeyKind::U64 {
                        table.key_bytes(slot).to_vec()
                    } else {
                        table.key_u64(slot).to_le_bytes().to_vec()
                    };
                    assert_eq!(held, *key);
                    let position = table.position(slot);
                    assert_eq!(table.slot_at(table.key_group(slot), position), Some(slot));
                }
            }
        }
        for table in &mut self.tables {
            let (mut live, mut slots) = (0, Vec::new());
            for page in 0..table.page_count() {
                table.live_slots(page, &mut slots).expect("a page");
                live += slots.len() as u64;
            }
            assert_eq!(live, table.len(), "each row is on one page");
        }
    }
}

/// Says yes `times` times.
fn up_to(mut times: usize) -> impl FnMut() -> bool {
    move || {
        let yes = times > 0;
        times = times.saturating_sub(1);
        yes
    }
}

/// What a row does to a word; large for some columns, small for others.
fn change(word: u64, hash: u64, at: usize, seed: u64) -> u64 {
    match at {
        0 => word.wrapping_add(1),
        1 => word.wrapping_sub(hash & 0xFFFF),
        _ => word.rotate_left(7) ^ hash ^ seed,
    }
}

enum Batch<'a> {
    Words(&'a [u64]),
    Bytes(ByteKeys<'a>),
}

fn with_keys<R>(shape: Shape, keys: &[Vec<u8>], run: impl FnOnce(Batch<'_>) -> R) -> R {
    if shape.kind != KeyKind::U64 {
        let data = keys.concat();
        let mut offsets = vec![0i32];
        for key in keys {
            offsets.push(offsets[offsets.len() - 1] + key.len() as i32);
        }
        run(Batch::Bytes(ByteKeys::new(&data, &offsets).expect("ascending offsets")))
    } else {
        let words: Vec<u64> = keys.iter().map(|key| as_word(key)).collect();
        run(Batch::Words(&words))
    }
}
