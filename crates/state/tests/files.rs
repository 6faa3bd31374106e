//! Files, inline parts and the fixtures of format 1: what is written comes back, what is damaged
//! is refused, and nothing changes a file.
//!
//! The fixtures were written by `HIGHWATER_WRITE_FIXTURES=1 cargo test -p highwater-state --test files`; those
//! that were committed are never written again.

use highwater_core::{CheckpointId, KeyGroups, OperatorId, Rng, StoreId, WorkerIndex, splitmix64};
use highwater_state::{
    ByteKeys, Compression, Error, FileNumber, FileOptions, FreezeOptions, KeyKind, Outcome, PageSource, PageStore,
    Part, Record, Restore, Rows, StoreLimits, Table, TableId, TableOptions, WrittenFile, decode_inline, encode_inline,
    hash_u64, hash_u64s, write_file,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const STORE: StoreId = StoreId(0x51A7E);

fn groups() -> KeyGroups {
    KeyGroups::new(4).expect("a power of two")
}

fn source(folder: &Path) -> PageSource {
    let store = PageStore::create(&folder.join("pages"), StoreLimits::default()).expect("a page store");
    PageSource::new(Arc::new(store), STORE)
}

fn options(table: u8, key: KeyKind, words: usize, source: &PageSource) -> TableOptions {
    let id = TableId { operator: OperatorId(9), table };
    TableOptions { id, key, words, groups: groups(), owned: 0..4, source: Some(source.clone()) }
}

fn number(checkpoint: u64) -> FileNumber {
    FileNumber::new(CheckpointId(checkpoint), WorkerIndex(0))
}

fn name(row: u64) -> Vec<u8> {
    format!("key {}", splitmix64(row) % 1000).into_bytes()
}

/// Two tables, one of each kind, after the first or the second checkpoint of the fixtures.
struct Pair {
    words: Table,
    bytes: Table,
}

impl Pair {
    fn new(source: &PageSource) -> Self {
        Self {
            words: Table::new(options(0, KeyKind::U64, 2, source)),
            bytes: Table::new(options(1, KeyKind::Bytes, 1, source)),
        }
    }

    fn restored(source: &PageSource, parts: Vec<Part>) -> Result<Self, Error> {
        let restore = Arc::new(Restore::new(source.clone(), parts)?);
        let mut pair = Self {
            words: Table::restoring(options(0, KeyKind::U64, 2, source), Arc::clone(&restore)),
            bytes: Table::restoring(options(1, KeyKind::Bytes, 1, source), restore),
        };
        pair.words.load_next(&mut || true)?;
        pair.bytes.load_next(&mut || true)?;
        Ok(pair)
    }

    fn add(&mut self, rows: std::ops::Range<u64>) {
        let keys: Vec<u64> = rows.clone().map(|row| splitmix64(row) % 5000).collect();
        let (mut hashes, mut slots) = (Vec::new(), Vec::new());
        hash_u64s(&keys, &mut hashes);
        self.words.upsert_u64(&hashes, &keys, &mut slots, &mut Vec::new()).expect("an upsert");
        self.words.update(&slots, |row, words| {
            words[0] += 1;
            words[1] = words[1].wrapping_sub(keys[row]);
        });
        let (mut data, mut offsets) = (Vec::new(), vec![0]);
        for row in rows {
            data.extend(name(row));
            offsets.push(data.len() as i32);
        }
        let keys = ByteKeys::new(&data, &offsets).expect("ascending offsets");
        keys.hash_into(&mut hashes);
        self.bytes.upsert_bytes(&hashes, keys, &mut slots, &mut Vec::new()).expect("an upsert");
        self.bytes.update(&slots, |_, words| words[0] += 1);
    }

    fn remove_words(&mut self, keys: std::ops::Range<u64>) {
        let keys: Vec<u64> = keys.collect();
        let (mut hashes, mut slots) = (Vec::new(), Vec::new());
        hash_u64s(&keys, &mut hashes);
        self.words.find_u64(&hashes, &keys, &mut slots).expect("a find");
        let slots: Vec<_> = slots.into_iter().flatten().collect();
        self.words.delete(&slots).expect("a delete");
    }

    /// The two states of the fixtures.
    fn first(&mut self) {
        self.add(0..6000);
    }

    fn second(&mut self) {
        self.remove_words(0..200);
        self.add(6000..6500);
    }

    fn freeze(&mut self, number: FileNumber, all: bool) -> Vec<Record> {
        let mut records = Vec::new();
        for table in [&mut self.words, &mut self.bytes] {
            table.freeze(&FreezeOptions { number, rebase: &[], all }).expect("a freeze");
            table.copy_out(&mut || true, &mut records).expect("a copy");
        }
        records
    }

    fn settle(&mut self, outcome: Outcome) {
        self.words.settle(outcome).expect("settled");
        self.bytes.settle(outcome).expect("settled");
    }

    fn contents(&mut self) -> BTreeMap<Vec<u8>, Vec<u64>> {
        let mut rows = [Rows::default(), Rows::default()];
        for (table, rows) in [&mut self.words, &mut self.bytes].into_iter().zip(&mut rows) {
            table.freeze_for_read(None).expect("a read");
            table.copy_rows(&mut || true, rows).expect("a copy");
        }
        let words = rows[0]
            .keys
            .iter()
            .zip(rows[0].words.chunks(2))
            .map(|(key, words)| (key.to_le_bytes().to_vec(), words.to_vec()));
        let bytes = (0..rows[1].len()).map(|row| (rows[1].key_bytes(row).to_vec(), vec![rows[1].words[row]]));
        words.chain(bytes).collect()
    }
}

fn write(path: &Path, checkpoint: u64, records: &mut [Record], compression: Compression) -> WrittenFile {
    let options = FileOptions { store: STORE, number: number(checkpoint), compression, pace: &mut |_| {} };
    write_file(path, records, options).expect("a file")
}

fn digest(path: &Path) -> [u8; 32] {
    *blake3::hash(&std::fs::read(path).expect("the file")).as_bytes()
}

#[test]
fn ingesting_and_dropping_leave_a_file_as_it_was() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = source(folder.path());
        let mut pair = Pair::new(&source);
        pair.first();
        let path = folder.path().join("one.sst");
        let mut paced = 0;
        let mut records = pair.freeze(number(1), false);
        let options = FileOptions { store: STORE, number: number(1), compression, pace: &mut |bytes| paced += bytes };
        let file = write_file(&path, &mut records, options).expect("a file");
        assert_eq!(paced, records.iter().map(|record| record.value.len() as u64).sum::<u64>());
        assert_eq!((file.digest, file.length), (digest(&path), path.metadata().expect("the file").len()));
        assert!(file.first_key < file.last_key && file.records == records.len() as u64);
        source.store().ingest(std::slice::from_ref(&path)).expect("ingestion");
        pair.settle(Outcome::InStore);
        let usage = source.store().usage().expect("usage");
        assert_eq!((usage.files, usage.file_bytes.0), (1, file.length));
        let mut restored = Pair::restored(&source, vec![Part::File(number(1))]).expect("a restore");
        assert_eq!(restored.contents(), pair.contents());
        assert_eq!(file.digest, digest(&path));
        source.store().drop_files(STORE, number(0)..=number(1)).expect("dropped");
        assert_eq!(source.store().usage().expect("usage").files, 0);
        assert_eq!(file.digest, digest(&path));
    }
}

#[test]
fn evicted_pages_come_back_from_base_and_deltas() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = source(folder.path());
    let mut pair = Pair::new(&source);
    for checkpoint in 1..4 {
        match checkpoint {
            1 => pair.first(),
            2 => pair.second(),
            _ => pair.add(6500..6600),
        }
        assert_eq!(pair.words.evict(u64::MAX), 0, "what is not stored stays");
        let path = folder.path().join(format!("{checkpoint}.sst"));
        write(&path, checkpoint, &mut pair.freeze(number(checkpoint), false), Compression::Lz4);
        source.store().ingest(&[path]).expect("ingestion");
        assert_eq!(pair.words.evict(u64::MAX), 0, "nor what is not settled");
        pair.settle(Outcome::InStore);
    }
    let (contents, full) = (pair.contents(), pair.words.memory_bytes());
    let freed = pair.words.evict(u64::MAX) + pair.bytes.evict(u64::MAX);
    assert!(freed > 0 && pair.words.evicted_pages() > 0 && pair.bytes.evicted_pages() > 0);
    assert!(pair.words.memory_bytes() < full);
    assert_eq!(pair.contents(), contents, "a reader brings them back");
    assert_eq!((pair.words.evicted_pages(), pair.words.memory_bytes()), (0, full));
    pair.words.evict(u64::MAX);
    pair.add(0..500);
    let mut twin = Pair::new(&source);
    twin.first();
    twin.second();
    twin.add(6500..6600);
    twin.add(0..500);
    assert_eq!(pair.contents(), twin.contents(), "and so does a batch");
}

#[test]
fn an_evicted_page_of_which_a_file_is_gone_is_refused() {
    for gone in 1..3 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = source(folder.path());
        let mut pair = Pair::new(&source);
        for checkpoint in 1..3 {
            match checkpoint {
                1 => pair.first(),
                _ => pair.add(0..10),
            }
            let path = folder.path().join(format!("{checkpoint}.sst"));
            write(&path, checkpoint, &mut pair.freeze(number(checkpoint), false), Compression::Lz4);
            source.store().ingest(&[path]).expect("ingestion");
            pair.settle(Outcome::InStore);
        }
        assert!(pair.words.evict(u64::MAX) > 0);
        source.store().drop_files(STORE, number(gone)..=number(gone)).expect("dropped");
        pair.words.freeze_for_read(None).expect("a read");
        let read = pair.words.copy_rows(&mut || true, &mut Rows::default());
        assert!(matches!(read, Err(Error::Corrupt { .. })), "without file {gone}");
    }
}

#[test]
fn a_damaged_file_is_refused_or_harmless() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = source(folder.path());
    let mut pair = Pair::new(&whole);
    pair.first();
    let path = folder.path().join("one.sst");
    let file = write(&path, 1, &mut pair.freeze(number(1), false), Compression::None);
    let bytes = std::fs::read(&path).expect("the file");
    let mut rng = Rng::seeded(1);
    let mut refused = 0;
    for round in 0..24 {
        let mut bad = bytes.clone();
        if round % 4 == 0 {
            bad.truncate(rng.below(file.length) as usize);
        } else {
            bad[rng.below(file.length) as usize] ^= 1 << rng.below(8);
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = source(folder.path());
        let path = folder.path().join("bad.sst");
        std::fs::write(&path, bad).expect("written");
        let loaded = source.store().ingest(&[path]).and_then(|()| Pair::restored(&source, vec![Part::File(number(1))]));
        match loaded {
            Ok(mut restored) => assert_eq!(restored.contents(), pair.contents()),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 12, "{refused} of 24 refused");
}

#[test]
fn no_file_is_left_where_none_can_be_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = source(folder.path());
    let mut pair = Pair::new(&source);
    pair.first();
    let mut records = pair.freeze(number(1), false);
    let path = folder.path().join("nowhere").join("one.sst");
    let write = |records: &mut [Record]| {
        let compression = Compression::None;
        write_file(&path, records, FileOptions { store: STORE, number: number(1), compression, pace: &mut |_| {} })
    };
    assert!(matches!(write(&mut records), Err(Error::RocksDb { no_space: false, .. })));
    assert!(matches!(write(&mut []), Err(Error::Usage(_))));
    assert!(source.store().ingest(&[path]).is_err());
    pair.settle(Outcome::Failed);
    assert!(pair.words.is_dirty() && pair.bytes.is_dirty());
}

#[test]
fn wrong_use_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = source(folder.path());
    let mut half = Table::new(TableOptions { owned: 0..2, ..options(0, KeyKind::U64, 1, &source) });
    let foreign = (0..).find(|key| groups().of_hash(hash_u64(*key)) == 3).expect("some key falls there");
    let upserted = half.upsert_u64(&[hash_u64(foreign)], &[foreign], &mut Vec::new(), &mut Vec::new());
    assert!(matches!(upserted, Err(Error::Usage(_))));
    assert!(half.settle(Outcome::Failed).is_err());
    let mut pair = Pair::new(&source);
    pair.first();
    let keys = pair.words.len();
    let freeze = FreezeOptions { number: number(1), rebase: &[], all: false };
    pair.words.freeze(&freeze).expect("a freeze");
    assert!(pair.words.freeze(&freeze).is_err() && pair.words.settle(Outcome::InStore).is_err());
    assert_eq!(pair.words.len(), keys);
    pair.words.settle(Outcome::Failed).expect("settled");
    let restore = Arc::new(Restore::new(source.clone(), Vec::new()).expect("no parts"));
    let mut unloaded = Table::restoring(options(0, KeyKind::U64, 1, &source), restore);
    let mut found = Vec::new();
    assert!(unloaded.find_u64(&[hash_u64(foreign)], &[foreign], &mut found).is_err());
    assert!(!unloaded.load_for(&[hash_u64(foreign)], &mut || false).expect("nothing to do"), "no time for it");
    assert!(unloaded.load_for(&[hash_u64(foreign)], &mut || true).expect("an empty group") && !unloaded.is_loaded());
    unloaded.find_u64(&[hash_u64(foreign)], &[foreign], &mut found).expect("a find");
    assert_eq!(found, [None]);
    assert!(ByteKeys::new(b"ab", &[0, 2, 1]).is_err() && ByteKeys::new(b"ab", &[0, 3]).is_err());
}

/// Digests keep damage out; should some come through, it is an error and not a panic.
#[test]
fn damaged_records_never_panic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = source(folder.path());
    let mut pair = Pair::new(&source);
    pair.add(0..400);
    let whole = pair.freeze(number(1), true);
    let (mut rng, mut refused) = (Rng::seeded(77), 0);
    for _ in 0..3000 {
        let mut records = whole.clone();
        let value = &mut records[rng.below(whole.len() as u64) as usize].value;
        let at = rng.below(value.len() as u64) as usize;
        if rng.one_in(4) {
            value.truncate(at);
        } else {
            value[at] = rng.next_u64() as u8;
        }
        refused += u32::from(Pair::restored(&source, vec![Part::Inline(number(1), records)]).is_err());
    }
    assert!(refused > 1000, "{refused} of 3000 refused");
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1").join(name)
}

/// Writes the fixtures that are missing: a file of bases, a file of deltas, and all of it inline.
fn write_fixtures(source: &PageSource) {
    let mut pair = Pair::new(source);
    pair.first();
    std::fs::create_dir_all(fixture("")).expect("a folder");
    let write_missing = |name: &str, checkpoint: u64, records: &mut [Record]| {
        if !fixture(name).exists() {
            write(&fixture(name), checkpoint, records, Compression::Lz4);
        }
    };
    write_missing("base.sst", 1, &mut pair.freeze(number(1), false));
    pair.settle(Outcome::InStore);
    pair.second();
    write_missing("delta.sst", 2, &mut pair.freeze(number(2), false));
    pair.settle(Outcome::InStore);
    let inline = encode_inline(number(3), &pair.freeze(number(3), true));
    if !fixture("inline.bin").exists() {
        std::fs::write(fixture("inline.bin"), inline).expect("written");
    }
}

#[test]
fn fixtures_of_format_1_are_restored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = source(folder.path());
    if std::env::var_os("HIGHWATER_WRITE_FIXTURES").is_some() {
        write_fixtures(&source);
    }
    let mut expected = Pair::new(&source);
    expected.first();
    // The page store takes hard links, which cannot cross file systems.
    for name in ["base.sst", "delta.sst"] {
        let path = folder.path().join(name);
        std::fs::copy(fixture(name), &path).expect("the fixture");
        source.store().ingest(&[path]).expect("ingestion");
    }
    let mut base = Pair::restored(&source, vec![Part::File(number(1))]).expect("a restore");
    assert_eq!(base.contents(), expected.contents());
    expected.second();
    let files = vec![Part::File(number(2)), Part::File(number(1))];
    let mut both = Pair::restored(&source, files).expect("a restore");
    assert_eq!(both.contents(), expected.contents());
    let part = decode_inline(&std::fs::read(fixture("inline.bin")).expect("the fixture")).expect("format 1");
    let mut inline = Pair::restored(&source, vec![part]).expect("a restore");
    assert_eq!(inline.contents(), expected.contents());
}
