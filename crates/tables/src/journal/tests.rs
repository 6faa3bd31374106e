//! Journals: what is kept of random changes against a slow twin, and what readers are given.

use super::*;
use crate::{StoreOptions, TableStore};
use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array};
use arrow::datatypes::Int64Type;
use highwater_engine::sink::{EPOCH, TIME};
use proptest::prelude::*;
use rocksdb::{Cache, WriteBufferManager};
use std::fs;
use std::path::Path;

const SECOND: i64 = 1_000_000;

/// An epoch's changes of rows `(key, value)`, with weights.
fn batch(epoch: i64, time: i64, rows: &[(i64, i64, i64)]) -> Batch {
    let column = |of: fn(&(i64, i64, i64)) -> i64| rows.iter().map(of).collect::<Int64Array>();
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(column(|row| row.0))),
        ("v", Arc::new(column(|row| row.1))),
        (EPOCH, Arc::new(Int64Array::from_value(epoch, rows.len()))),
        (TIME, Arc::new(Int64Array::from_value(time, rows.len()))),
    ];
    Batch::weighted(RecordBatch::try_from_iter(columns).expect("four columns"), column(|row| row.2))
}

type Line = (i64, i64, String, i64, i64);

fn lines(changes: &RecordBatch) -> Vec<Line> {
    let number = |at: usize, row: usize| changes.column(at).as_primitive::<Int64Type>().value(row);
    let op = |row: usize| changes.column(2).as_string::<i32>().value(row).to_owned();
    (0..changes.num_rows())
        .map(|row| (number(0, row), number(1, row), op(row), number(3, row), number(4, row)))
        .collect()
}

fn line(k: i64, v: i64, op: &str, epoch: i64, time: i64) -> Line {
    (k, v, op.to_owned(), epoch, time)
}

fn store(folder: &Path) -> TableStore {
    try_store(folder).expect("opens")
}

fn try_store(folder: &Path) -> Result<TableStore> {
    let cache = Cache::new_lru_cache(1 << 20);
    let buffers = WriteBufferManager::new_write_buffer_manager(1 << 20, false);
    let (path, mark) = (folder.join("tables"), folder.join("tables.position"));
    TableStore::open(&StoreOptions { path, mark, cache, buffers })
}

fn journal(store: &TableStore, retention: Duration) -> Arc<Journal> {
    store.journal(JournalSpec { id: 3, name: "s".to_owned(), retention }).expect("opens")
}

/// All that is read from a place on, and the place after it.
fn read_all(journal: &Journal, mut place: JournalPlace) -> (Vec<Line>, JournalPlace) {
    let mut all = Vec::new();
    while let JournalRead::Changes(changes, after) = journal.read(place).expect("read") {
        all.extend(lines(&changes));
        place = after;
    }
    (all, place)
}

#[test]
fn updates_are_pairs_where_there_is_a_key() {
    let batches =
        [batch(1, 10, &[(2, 5, 1), (1, 7, 1), (1, 6, -1), (3, 1, 1), (3, 1, -1)]), batch(2, 5, &[(2, 5, -1)])];
    let kept = net::changes(&batches, Some(&[0]), 0).expect("computed").expect("changes");
    let update = [line(1, 6, "UpdateDelete", 1, 10), line(1, 7, "UpdateInsert", 1, 10)];
    // Times never go back.
    let others = [line(2, 5, "Insert", 1, 10), line(2, 5, "Delete", 2, 10)];
    assert_eq!(lines(&kept), [update.as_slice(), &others].concat());
    let kept = net::changes(&batches[..1], None, 12).expect("computed").expect("changes");
    let plain = [line(1, 6, "Delete", 1, 12), line(1, 7, "Insert", 1, 12), line(2, 5, "Insert", 1, 12)];
    assert_eq!(lines(&kept), plain);
    let whole = [batch(4, 1, &[(1, 1, -1), (2, 2, 1)])];
    let kept = net::changes(&whole, Some(&[]), 0).expect("computed").expect("changes");
    assert_eq!(lines(&kept), [line(1, 1, "UpdateDelete", 4, 1), line(2, 2, "UpdateInsert", 4, 1)]);
    assert_eq!(net::changes(&[batch(1, 1, &[(1, 1, 1), (1, 1, -1)])], None, 0).expect("computed"), None);
}

proptest! {
    #[test]
    fn what_is_kept_is_what_was_changed(
        epochs in prop::collection::vec(prop::collection::vec((0_i64..4, 0_i64..3, -2_i64..3), 1..12), 1..5),
    ) {
        let batches: Vec<Batch> =
            epochs.iter().enumerate().map(|(at, rows)| batch(at as i64, at as i64, rows)).collect();
        let kept = net::changes(&batches, Some(&[0]), 0).expect("computed");
        let mut kept_of: BTreeMap<(i64, i64, i64), i64> = BTreeMap::new();
        for (k, v, op, epoch, _) in kept.iter().flat_map(lines) {
            *kept_of.entry((epoch, k, v)).or_default() += if op.ends_with("Insert") { 1 } else { -1 };
        }
        let mut changed: BTreeMap<(i64, i64, i64), i64> = BTreeMap::new();
        for (epoch, rows) in epochs.iter().enumerate() {
            for (k, v, weight) in rows {
                *changed.entry((epoch as i64, *k, *v)).or_default() += weight;
            }
        }
        changed.retain(|_, weight| *weight != 0);
        prop_assert_eq!(kept_of, changed);
    }
}

#[test]
fn entries_are_kept_once_and_read_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let day = Duration::from_secs(86_400);
    let opened = store(folder.path());
    let kept = journal(&opened, day);
    assert_eq!((kept.begin(), kept.read(kept.begin()).expect("read")), (kept.end(), JournalRead::Nothing));
    let at_first = kept.end();
    let append = |journal: &Journal, checkpoint: u64, rows: &[Batch]| {
        journal.append(checkpoint, rows, Some(&[0]), WallMicros(50 * SECOND)).expect("written");
    };
    append(&kept, 4, &[batch(1, 10 * SECOND, &[(1, 1, 1)])]);
    append(&kept, 4, &[batch(1, 10 * SECOND, &[(1, 1, 1)])]);
    append(&kept, 6, &[]);
    append(&kept, 7, &[batch(2, 20 * SECOND, &[(1, 1, -1), (1, 2, 1)]), batch(3, 30 * SECOND, &[(5, 5, 1)])]);
    append(&kept, 2, &[batch(1, 10 * SECOND, &[(9, 9, 1)])]);
    let (all, end) = read_all(&kept, at_first);
    let first = line(1, 1, "Insert", 1, 10 * SECOND);
    assert_eq!((all.len(), &all[0], end), (4, &first, kept.end()));
    let (later, _) = read_all(&kept, kept.since(WallMicros(25 * SECOND)));
    assert_eq!(later, all[1..], "the whole entry, of which some is later");
    assert_eq!(kept.since(WallMicros(31 * SECOND)), kept.end());
    drop((kept, opened));
    let store = store(folder.path());
    let again = journal(&store, day);
    assert_eq!(read_all(&again, again.begin()).0, all);
    append(&again, 7, &[batch(2, 20 * SECOND, &[(8, 8, 1)])]);
    assert_eq!(read_all(&again, again.begin()).0, all, "the newest entry is the fence");
    let sink = JournalSink::new(Arc::clone(&again), None);
    assert_eq!(sink.delivered().expect("told"), Some(CheckpointId(7)));
    store.drop_journal(3).expect("dropped");
    assert_eq!(again.read(end).expect("read"), JournalRead::Dropped);
    append(&again, 9, &[batch(4, 40 * SECOND, &[(8, 8, 1)])]);
    let new = journal(&store, day);
    assert!(read_all(&new, new.begin()).0.is_empty());
}

#[test]
fn what_is_older_than_the_retention_goes_and_readers_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path());
    let kept = journal(&store, Duration::from_secs(5));
    let at_first = kept.begin();
    for n in 1..=4 {
        let rows = [batch(n, n * SECOND, &[(n, n, 1)])];
        kept.append(n as u64, &rows, None, WallMicros(n * SECOND)).expect("written");
    }
    let (all, end) = read_all(&kept, kept.begin());
    assert_eq!(all.len(), 4);
    kept.append(5, &[batch(5, 8 * SECOND, &[(5, 5, 1)])], None, WallMicros(8 * SECOND)).expect("written");
    assert_eq!(kept.read(at_first).expect("read"), JournalRead::Gone);
    assert_eq!(read_all(&kept, kept.begin()).0.iter().map(|line| line.0).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(read_all(&kept, end).0.len(), 1, "who has read all before is told of nothing");
    kept.append(6, &[batch(6, 99 * SECOND, &[(6, 6, 1)])], None, WallMicros(99 * SECOND)).expect("written");
    assert_eq!(read_all(&kept, kept.begin()).0.len(), 1);
    let large: Vec<(i64, i64, i64)> = (0..PIECE_ROWS as i64 + 1).map(|n| (n, 0, 1)).collect();
    let before = kept.end();
    kept.append(7, &[batch(7, 99 * SECOND, &large)], None, WallMicros(99 * SECOND)).expect("written");
    let JournalRead::Changes(piece, _) = kept.read(before).expect("read") else { panic!("changes") };
    assert_eq!((piece.num_rows(), piece.column(0).null_count()), (PIECE_ROWS, 0));
    assert_eq!(read_all(&kept, before).0.len(), PIECE_ROWS + 1);
}

/// The tables in another folder, without their mark.
fn copy(folder: &Path) -> tempfile::TempDir {
    let copied = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.join("tables"), copied.path().join("tables"));
    fs::create_dir(&to).expect("a folder");
    for file in fs::read_dir(from).expect("the folder is there").map(|entry| entry.expect("an entry")) {
        fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
    copied
}

#[test]
fn entries_have_positions_and_are_missed_when_they_are_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let day = Duration::from_secs(86_400);
    let append = |journal: &Journal, checkpoint: u64| {
        let rows = [batch(1, 10 * SECOND, &[(1, checkpoint as i64, 1)])];
        journal.append(checkpoint, &rows, None, WallMicros(50 * SECOND)).expect("written");
    };
    let sink = |journal: &Arc<Journal>| JournalSink::new(Arc::clone(journal), None);
    let reached = |journal: &Arc<Journal>| sink(journal).reached().expect("told").expect("it tells");
    let has = |journal: &Arc<Journal>, place: &Offset| sink(journal).check_reached(place).is_ok();
    let opened = store(folder.path());
    let kept = journal(&opened, day);
    append(&kept, 1);
    let first = reached(&kept);
    append(&kept, 1);
    kept.append(2, &[], None, WallMicros(50 * SECOND)).expect("nothing to write");
    assert_eq!((opened.position(), &first), (1, &reached(&kept)), "it was written once");
    drop((kept, opened));
    let older = copy(folder.path());
    let opened = store(folder.path());
    let kept = journal(&opened, day);
    append(&kept, 3);
    let second = reached(&kept);
    assert!(opened.position() == 2 && has(&kept, &first) && has(&kept, &second));
    drop((kept, opened));

    let mark = older.path().join("tables.position");
    fs::copy(folder.path().join("tables.position"), &mark).expect("copied");
    let refused = try_store(older.path()).expect_err("an entry is gone");
    assert!(matches!(refused, Error::Lost { newest: 1, marked: 2, .. }), "{refused}");
    fs::remove_file(mark).expect("removes");
    let opened = store(older.path());
    let kept = journal(&opened, day);
    assert!(has(&kept, &first) && !has(&kept, &second));
    append(&kept, 4);
    append(&kept, 5);
    let refused = sink(&kept).check_reached(&second).expect_err("it is of another run");
    assert!(matches!(refused, highwater_engine::Error::Data { .. }), "{refused}");
    assert!(refused.to_string().starts_with("subscription s: ") && has(&kept, &first), "{refused}");
}
