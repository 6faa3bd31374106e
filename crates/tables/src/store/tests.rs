//! What a store has lost is seen: a log that is damaged at any place, cut off or gone, and offsets of a log
//! that is not its own.

use super::*;
use crate::commit::check_size;
use crate::error::TooMuch;
use crate::layout::encode_change;
use crate::log::{Entry, Trim};
use crate::removal::{MANY_BYTES, Removal};
use crate::scan::Overlay;
use crate::write::Write;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use highwater_engine::changes::{ChangeSource as _, Wake};
use serde_json::json;
use std::fs;

/// Rows of a log that has several blocks.
const ROWS: i64 = 200;
/// Places of it that are damaged, one after another.
const PLACES: usize = 48;

fn open(folder: &Path) -> Result<TableStore> {
    let cache = Cache::new_lru_cache(1 << 20);
    let buffers = WriteBufferManager::new_write_buffer_manager(64 << 20, false);
    TableStore::open(&StoreOptions { path: folder.join("tables"), mark: mark(folder), cache, buffers })
}

fn mark(folder: &Path) -> PathBuf {
    folder.join("tables.position")
}

fn rows(id: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![format!("{id:0400}")]));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("v", texts, true)]).expect("two columns")
}

fn table(store: &TableStore) -> Arc<Table> {
    let (name, schema) = ("t".to_owned(), rows(0).schema());
    let spec = TableSpec { id: 1, name, schema, key: vec![0], append_only: false, added: Vec::new() };
    store.table(spec).expect("a table")
}

/// Commits rows one by one; gives the position of the last one.
fn insert(store: &TableStore, ids: std::ops::Range<i64>) -> u64 {
    let table = table(store);
    for id in ids {
        put(store, &table, rows(id));
    }
    store.position()
}

fn put(store: &TableStore, table: &Arc<Table>, rows: RecordBatch) {
    let write = Write::Insert(table.insert(rows).expect("encodes"));
    let answer = store.commit(vec![TableWrite { table: Arc::clone(table), write }]).expect("is open");
    answer.blocking_recv().expect("an answer").expect("commits");
}

fn count(store: &TableStore) -> usize {
    let piece = store.snapshot().and_then(|now| now.scan(&table(store), None, usize::MAX, &Overlay::new()));
    piece.expect("reads").keys.len()
}

/// A new folder with what is in another one.
fn copy(folder: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a folder");
    fs::create_dir(to.path().join("tables")).expect("a folder");
    for entry in fs::read_dir(folder.join("tables")).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("it has a name");
        fs::copy(&path, to.path().join("tables").join(name)).expect("copies");
    }
    fs::copy(mark(folder), mark(to.path())).expect("copies");
    to
}

/// The write-ahead log that something was written into.
fn log_of(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("tables")).expect("the folder is there").map(|entry| entry.expect("an entry"));
    let logs = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|of| of == "log"));
    logs.max_by_key(|path| fs::metadata(path).expect("it is there").len()).expect("a log")
}

fn offset(store: &TableStore) -> Offset {
    let wake: Wake = Arc::new(|| {});
    store.source(&table(store)).open("r", None, wake).expect("opens").offset()
}

fn takes(store: &TableStore, offset: &Offset) -> bool {
    let source = store.source(&table(store));
    let wake: Wake = Arc::new(|| {});
    let checked = source.check(offset).is_ok();
    assert_eq!(source.open("r", Some(offset), wake).is_ok(), checked, "{offset}");
    checked
}

#[test]
fn a_store_that_was_dropped_is_closed_whoever_has_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    let snapshot = store.writer().snapshot().expect("reads");
    let reading = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(snapshot);
    });
    drop(store);
    open(folder.path()).expect("opens again");
    reading.join().expect("reads and ends");
}

#[test]
fn openings_leave_few_files() {
    let folder = tempfile::tempdir().expect("a folder");
    // Each leaves what the log had before it in files of its own, all beyond those before.
    for id in 0..100 {
        let store = open(folder.path()).expect("opens");
        insert(&store, id..id + 1);
    }
    let store = open(folder.path()).expect("opens");
    assert_eq!(count(&store), 100);
    let files = fs::read_dir(folder.path().join("tables")).expect("a folder").map(|file| file.expect("a file").path());
    let files = files.filter(|path| path.extension().is_some_and(|of| of == "sst")).count();
    assert!(files < 120, "{files}");
}

#[test]
fn what_is_larger_than_the_log_can_have_it_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    let table = table(&store);
    let write = Write::Insert(table.insert(rows(1)).expect("encodes"));
    let bytes = write.entry_bytes();
    let writes = [TableWrite { table, write }];
    check_size(&writes, bytes).expect("it is as large as it may be");
    let error = check_size(&writes, bytes - 1).expect_err("it is too large");
    assert!(matches!(error, Error::TooMuch(TooMuch::Bytes { .. })), "{error}");
    let told = error.to_string();
    assert!(told.starts_with("one transaction changes") && told.contains("divide it"), "{told}");
}

#[test]
fn a_damaged_log_never_leaves_rows_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    assert_eq!(insert(&store, 0..ROWS), ROWS as u64);
    drop(store);
    let whole = fs::read(log_of(folder.path())).expect("reads");
    assert!(whole.len() > 4 << 15, "it has several blocks");
    let mut refused = 0;
    for place in 0..PLACES {
        let damaged = copy(folder.path());
        let mut bytes = whole.clone();
        bytes[whole.len() * place / PLACES + place % 5] ^= 1 << (place % 8);
        fs::write(log_of(damaged.path()), &bytes).expect("writes");
        match open(damaged.path()) {
            Ok(store) => assert_eq!((store.position(), count(&store)), (ROWS as u64, ROWS as usize), "{place}"),
            Err(error) => {
                let told = error.to_string();
                assert!(told.contains("from a copy"), "{told}");
                assert!(told.contains(".log") || told.contains("tables.position"), "{told}");
                refused += 1;
            }
        }
    }
    assert!(refused > PLACES / 2, "{refused} of {PLACES}");
}

#[test]
fn a_log_that_is_cut_off_or_gone_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..ROWS);
    drop(store);
    let length = fs::metadata(log_of(folder.path())).expect("it is there").len();
    for kept in [Some(0), Some(length / 3), Some(1 << 15), Some(length - 1), None] {
        let cut = copy(folder.path());
        let log = log_of(cut.path());
        match kept {
            Some(kept) => {
                let file = fs::OpenOptions::new().write(true).open(&log).expect("opens");
                file.set_len(kept).expect("cuts");
            }
            None => fs::remove_file(&log).expect("removes"),
        }
        for _ in 0..2 {
            let refused = open(cut.path()).expect_err("some rows are gone");
            assert!(matches!(refused, Error::Lost { marked, .. } if marked == ROWS as u64), "{kept:?}: {refused}");
        }
        fs::remove_file(mark(cut.path())).expect("removes");
        let store = open(cut.path()).expect("goes on with what is there");
        assert_eq!(count(&store) as u64, store.position(), "{kept:?}");
        assert!(store.position() < ROWS as u64);
    }
}

/// A crash while a record is written, before anybody was told of it.
#[test]
fn a_last_record_that_is_cut_off_is_no_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..10);
    let (marked, length) =
        (fs::read(mark(folder.path())), fs::metadata(log_of(folder.path())).expect("it is there").len());
    insert(&store, 10..11);
    drop(store);
    for more in [1, 6, 7, 100] {
        let crashed = copy(folder.path());
        fs::write(mark(crashed.path()), marked.as_ref().expect("reads")).expect("writes");
        let file = fs::OpenOptions::new().write(true).open(log_of(crashed.path())).expect("opens");
        file.set_len(length + more).expect("cuts");
        let store = open(crashed.path()).expect("opens");
        assert_eq!((store.position(), count(&store)), (10, 10), "{more} bytes");
        assert_eq!(insert(&store, 10..12), 12);
    }
}

#[test]
fn an_offset_is_of_the_log_in_which_it_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    let first = offset(&store);
    insert(&store, 0..3);
    let third = offset(&store);
    assert_eq!((&first["position"], &third["position"]), (&json!(0), &json!(3)));
    assert_eq!(first["run"], third["run"]);
    assert!(TableStore::is_certain(&third) && !TableStore::is_certain(&json!({ "position": 3 })));
    drop(store);

    let older = copy(folder.path());
    let store = open(folder.path()).expect("opens");
    assert!(takes(&store, &third), "an older run is known");
    insert(&store, 3..5);
    let fifth = offset(&store);
    assert_ne!(third["run"], fifth["run"]);
    assert!(takes(&store, &fifth));
    drop(store);
    // Runs in which nothing is written leave nothing behind.
    for _ in 0..3 {
        drop(open(folder.path()).expect("opens"));
    }
    let store = open(folder.path()).expect("opens");
    assert!(takes(&store, &third) && takes(&store, &fifth) && takes(&store, &first));
    drop(store);

    let store = open(older.path()).expect("opens");
    assert!(takes(&store, &third) && !takes(&store, &fifth));
    insert(&store, 3..9);
    assert!(takes(&store, &third) && !takes(&store, &fifth), "also when its log has gone on beyond it");

    let other = tempfile::tempdir().expect("a folder");
    let store = open(other.path()).expect("opens");
    insert(&store, 0..9);
    assert!(![&first, &third, &fifth].into_iter().any(|offset| takes(&store, offset)));
    assert!(takes(&store, &json!({ "position": 3 })), "of the first version only positions are known");
    assert!(!takes(&store, &json!({ "position": 10 })) && !takes(&store, &json!({ "file": "log" })));
}

#[test]
fn an_offset_in_a_lost_end_is_refused_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..3);
    drop(store);
    let store = open(folder.path()).expect("opens");
    let third = offset(&store);
    insert(&store, 3..9);
    let ninth = offset(&store);
    drop(store);
    let log = log_of(folder.path());
    let length = fs::metadata(&log).expect("it is there").len();
    let file = fs::OpenOptions::new().write(true).open(&log).expect("opens");
    file.set_len(length / 2).expect("cuts");
    assert!(matches!(open(folder.path()), Err(Error::Lost { .. })));
    fs::remove_file(mark(folder.path())).expect("removes");
    let store = open(folder.path()).expect("opens");
    assert!(store.position() >= 3 && store.position() < 9, "{}", store.position());
    assert!(takes(&store, &third) && !takes(&store, &ninth));
    insert(&store, 20..40);
    assert!(takes(&store, &third) && !takes(&store, &ninth));
}

#[test]
fn what_was_written_before_there_were_runs_is_of_the_first_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..3);
    for stored in store.core.db.iterator(IteratorMode::Start) {
        let (key, _) = stored.expect("reads");
        if key.starts_with(b"run") {
            store.core.db.delete(&key).expect("deletes");
        }
    }
    drop(store);
    fs::remove_file(mark(folder.path())).expect("removes");
    let store = open(folder.path()).expect("a store of the first version");
    let third = offset(&store);
    assert!(TableStore::is_certain(&third) && takes(&store, &third) && takes(&store, &json!({ "position": 2 })));
    insert(&store, 3..4);
    drop(store);
    let store = open(folder.path()).expect("opens");
    assert!(takes(&store, &third) && takes(&store, &offset(&store)));
}

#[test]
fn a_delivery_that_changes_no_row_has_a_position() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..2);
    let deliver = |store: &TableStore, checkpoint: u64| {
        store.writer().deliver(Vec::new(), Fence::new(1, 0, "0:s", checkpoint)).expect("writes");
        store.position()
    };
    assert_eq!([4, 4, 5].map(|checkpoint| deliver(&store, checkpoint)), [3, 3, 4], "each is written once");
    let reached = store.writer().reached();
    assert_eq!(reached["position"], json!(4));
    drop(store);
    let store = open(folder.path()).expect("no position is missing");
    assert_eq!((store.position(), deliver(&store, 5)), (4, 4));
    assert!(store.writer().check_reached(&reached).is_ok() && takes(&store, &reached));
    assert_eq!((insert(&store, 2..4), count(&store)), (6, 4));
    drop(store);
    fs::remove_dir_all(folder.path().join("tables")).expect("removes");
    fs::remove_file(mark(folder.path())).expect("removes");
    let store = open(folder.path()).expect("opens");
    let refused = store.writer().check_reached(&reached).expect_err("it is another one");
    assert!(matches!(refused, Error::Foreign { position: 4, newest: 0 }), "{refused}");
}

#[test]
fn a_scan_passes_over_rows_that_are_hidden() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..20);
    let (table, now) = (table(&store), store.snapshot().expect("reads"));
    let all = now.scan(&table, None, usize::MAX, &Overlay::new()).expect("reads").keys;
    for max_rows in [1, 2, 18, 100] {
        let hidden: Overlay = all[..18].iter().map(|key| (key.clone(), None)).collect();
        let piece = now.scan(&table, None, max_rows, &hidden).expect("reads");
        assert_eq!((piece.keys.as_slice(), piece.is_last), (&all[18..], true), "{max_rows} at a time");
        let hidden: Overlay = all.iter().map(|key| (key.clone(), None)).collect();
        let piece = now.scan(&table, None, max_rows, &hidden).expect("reads");
        assert!(piece.keys.is_empty() && piece.is_last, "{max_rows} at a time");
    }
}

/// A piece becomes one batch, whose texts cannot have 2 GiB together.
#[test]
fn pieces_of_large_rows_have_few_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    let table = table(&store);
    let text = "x".repeat(1 << 20);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..40));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..40).map(|_| text.as_str())));
    let large = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("v", texts, true)]).expect("two columns");
    let (keys, values) = table.encode(&large).expect("encodes");
    put(&store, &table, large);

    let now = store.snapshot().expect("reads");
    let (mut after, mut read) = (None::<Vec<u8>>, Vec::new());
    loop {
        let piece = now.scan(&table, after.as_deref(), 100, &Overlay::new()).expect("reads");
        read.push(piece.keys.len());
        after = piece.keys.last().cloned();
        if piece.is_last {
            break;
        }
    }
    assert!(read.len() > 1 && read.iter().sum::<usize>() == 40, "{read:?}");

    let mut bytes = Vec::new();
    for (key, value) in keys.expect("it has a key").iter().flatten().zip(values.iter().flatten()) {
        encode_change(1, key, value, &mut bytes);
    }
    let entry = Entry::new(bytes);
    let pieces: Vec<usize> = entry.pieces(&table).expect("decodes").iter().map(|piece| piece.batch.len()).collect();
    assert!(pieces.len() > 1 && pieces.iter().sum::<usize>() == 40, "{pieces:?}");
}

/// As when a pipeline that writes into the table is begun anew with a new column before one that reads it.
#[test]
fn who_does_not_know_a_column_yet_spoils_no_entry_for_who_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    let old = table(&store);
    let held: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let wider = old.with_column(Field::new("w", DataType::Int64, true), Arc::clone(&held)).expect("a column");
    let row = rows(1);
    let columns = [("id", Arc::clone(row.column(0)), true), ("v", Arc::clone(row.column(1)), true), ("w", held, true)];
    let row = RecordBatch::try_from_iter_with_nullable(columns).expect("three columns");
    let (keys, values) = wider.encode(&row).expect("encodes");
    let mut bytes = Vec::new();
    for (key, value) in keys.expect("it has a key").iter().flatten().zip(values.iter().flatten()) {
        encode_change(1, key, value, &mut bytes);
    }
    let entry = Entry::new(bytes);
    let missed = entry.pieces(&old);
    assert!(matches!(missed, Err(Error::Altered)), "{missed:?}");
    assert_eq!(entry.pieces(&wider).expect("decodes").len(), 1);
    assert_eq!(entry.pieces(&old).expect("it was decoded")[0].batch.rows.num_columns(), 3);
}

/// Files of its rows go at once, so that a snapshot may have some of them only.
#[test]
fn a_table_that_was_dropped_is_not_read_any_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..3);
    let (table, now) = (table(&store), store.snapshot().expect("reads"));
    let piece = now.scan(&table, None, 9, &Overlay::new()).expect("reads");
    assert_eq!(piece.keys.len(), 3);
    store.drop_table(1).expect("drops");
    let scanned = now.scan(&table, None, 9, &Overlay::new());
    assert!(matches!(scanned, Err(Error::Gone { .. })), "{scanned:?}");
    let found = now.get(&table, &[piece.keys[0].as_slice()], &Overlay::new());
    assert!(matches!(found, Err(Error::Gone { .. })), "{found:?}");
}

/// What it was before it stood in the other one's place is nobody's business.
#[test]
fn a_table_in_another_ones_place_begins_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..3);
    let old = table(&store);
    let spec = TableSpec { id: 2, ..old.spec().clone() };
    let new = store.table(spec.clone()).expect("a table");
    let before = store.snapshot().expect("reads");
    put(&store, &new, rows(7));
    put(&store, &old, rows(8));
    assert!(!store.replace(&old, &new, &before).expect("an answer"), "the old one has changed");
    let copied = store.snapshot().expect("reads");
    put(&store, &new, rows(9));
    assert!(store.replace(&old, &new, &copied).expect("an answer"));

    let scanned = before.scan(&new, None, 9, &Overlay::new());
    assert!(matches!(scanned, Err(Error::Altered)), "{scanned:?}");
    let now = store.snapshot().expect("reads");
    assert_eq!(now.scan(&new, None, 9, &Overlay::new()).expect("reads").keys.len(), 2);
    assert_eq!(now.as_of(&new, before.position()).expect("reads"), None, "it cannot be told, now and after a restart");
    assert!(matches!(before.as_of(&new, before.position()), Err(Error::Altered)));
    let written = |table: &Arc<Table>| {
        let write = Write::Insert(table.insert(rows(10)).expect("encodes"));
        let answer = store.commit(vec![TableWrite { table: Arc::clone(table), write }]).expect("is open");
        answer.blocking_recv().expect("an answer")
    };
    assert!(matches!(written(&old), Err(Error::Altered)));
    store.reopen(&old).expect("an answer");
    written(&old).expect("it is written again");
    drop((before, copied, now));
    drop(store);

    let store = open(folder.path()).expect("opens");
    let new = store.table(spec).expect("a table");
    let now = store.snapshot().expect("reads");
    assert_eq!(now.as_of(&new, 1).expect("reads"), None, "its log begins behind the copy");
    assert_eq!(now.scan(&new, None, 9, &Overlay::new()).expect("reads").keys.len(), 2);
}

#[test]
fn what_was_trimmed_goes_when_enough_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("opens");
    insert(&store, 0..5);
    let core = &store.core;
    let left = || core.db.iterator_cf(core.db.log_entries(), IteratorMode::Start).count();
    let mut removal = Removal::new();
    assert!(!removal.is_due());
    for (upto, kept) in [(2, 3), (4, 1)] {
        removal.add(&Trim { tables: vec![(1, upto)], index: upto });
        assert!(!removal.is_due(), "little was written");
        removal.wrote(MANY_BYTES);
        assert!(removal.is_due());
        removal.remove(core).expect("removes");
        assert_eq!(left(), kept);
        assert!(!removal.is_due(), "nothing is left to do");
    }
    assert_eq!(core.db.iterator_cf(core.db.commits(), IteratorMode::Start).count(), 1);
}
