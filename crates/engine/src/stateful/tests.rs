//! An operator whose epochs end in pieces: what waits for the last of them, and who for whom.

use super::*;
use crate::background::Background;
use crate::snapshot::Shipping;
use crate::subscription::tap;
use arrow::array::{Int64Array, RecordBatch};
use highwater_checkpoint::{Store, UploadOptions, Uploader};
use highwater_core::{Bytes, Epoch, KeyGroups, StoreId};
use highwater_state::{Compression, KeyKind, PageStore, StoreLimits, TableId, TableOptions};

/// Gives back the rows of an epoch, one in each slice of its close.
struct Pieces {
    table: Table,
    left: usize,
    log: Vec<String>,
}

impl Logic for Pieces {
    fn tables(&mut self) -> Vec<&mut Table> {
        vec![&mut self.table]
    }

    fn load_for(&mut self, _: usize, _: &Batch, _: Instant) -> Result<bool> {
        Ok(true)
    }

    fn apply(&mut self, _: usize, batch: Batch) -> Result<()> {
        self.log.push(format!("apply {}", batch.len()));
        self.left += batch.len();
        Ok(())
    }

    fn close(&mut self, _: Instant, out: &mut Vec<Batch>) -> Result<bool> {
        self.log.push("close".to_owned());
        out.push(rows(1));
        self.left -= 1;
        Ok(self.left == 0)
    }
}

fn rows(count: usize) -> Batch {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1; count]));
    Batch::inserts(RecordBatch::try_from_iter([("x", column)]).expect("one column"))
}

fn pieces() -> Pieces {
    let groups = KeyGroups::new(4).expect("a power of two");
    let id = TableId { operator: OperatorId(1), table: 0 };
    let owned = groups.owned_by(0, 1);
    let table = Table::new(TableOptions { id, key: KeyKind::U64, words: 1, groups, owned, source: None });
    Pieces { table, left: 0, log: Vec::new() }
}

fn surroundings(folder: &std::path::Path) -> Surroundings {
    let background = Background::start(1).expect("threads");
    let store = {
        let _entered = background.handle().enter();
        Store::open("memory:").expect("a store")
    };
    let shipping = Shipping {
        background,
        pages: Arc::new(PageStore::create(&folder.join("pages"), StoreLimits::default()).expect("a page store")),
        uploader: Uploader::new(&store, "p", UploadOptions::default()).expect("an uploader"),
        store: StoreId(1),
        folder: folder.to_owned(),
        compression: Compression::None,
    };
    let worker = WorkerIndex(0);
    Surroundings {
        run: Arc::new(Run::new("p".to_owned(), Arc::default(), Box::new(|_| {}))),
        ticks: TickLog::default(),
        snapshots: Snapshots::new(worker, Arc::new(shipping)),
        reads: Reads::default(),
        worker,
        memory: Memory::new(Bytes(1 << 30)),
        backlog: Backlog::default(),
    }
}

/// One turn, in which epoch 0 is complete and later ones are not; what it sent.
fn turn(operator: &mut Stateful<Pieces>) -> (Turn, Vec<(u64, usize)>) {
    let mut sent = Vec::new();
    let emit = |epoch, emitted: Emitted| sent.extend(emitted.changes.iter().map(|batch| (epoch, batch.len())));
    let turn = operator.turn(|epoch| epoch < 1, emit).expect("it works");
    (turn, sent)
}

/// Turns until something is sent, or there is nothing to do.
fn next_sent(operator: &mut Stateful<Pieces>) -> Vec<(u64, usize)> {
    loop {
        let (turn, sent) = turn(operator);
        if !sent.is_empty() || turn == Turn::Rest {
            return sent;
        }
    }
}

#[test]
fn an_epoch_that_ends_in_pieces_holds_back_what_comes_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let around = surroundings(folder.path());
    let checkpoint = CheckpointId(1);
    around.ticks.record(Tick { epoch: 0, checkpoint: Some(checkpoint), ..Tick::default() });
    around.ticks.record(Tick { epoch: 1, ..Tick::default() });
    let mut operator = Stateful::new(pieces(), "p/op".to_owned(), OperatorId(1), around.clone(), false);
    let (tap, mut changes) = tap(1);
    operator.taps.push(tap);
    operator.take(1, 0, rows(2));
    operator.take(0, 0, rows(3));
    for _ in 0..2 {
        assert_eq!(next_sent(&mut operator), [(0, 1)], "a slice gives a piece");
        assert_eq!(operator.open_epoch(), 0);
        assert!(changes.next("p", Duration::ZERO).expect("runs").is_none(), "followers wait for the whole epoch");
    }
    let many = 1 << 20;
    around.backlog.add(0, many);
    assert_eq!(turn(&mut operator), (Turn::Again, Vec::new()), "it waits for those who have to catch up");
    around.backlog.remove(0, many);
    assert!(!operator.logic.table.is_frozen() && !around.snapshots.is_whole(checkpoint));
    assert_eq!(operator.logic.log, ["apply 3", "close", "close"]);
    assert_eq!(next_sent(&mut operator), [(0, 1)]);
    assert!(next_sent(&mut operator).is_empty(), "epoch 1 is not complete");
    assert_eq!(operator.logic.log, ["apply 3", "close", "close", "close", "apply 2"]);
    assert_eq!(operator.open_epoch(), 1);
    assert!(around.snapshots.is_whole(checkpoint), "the barrier follows the last piece");
    let (epoch, batches) = changes.next("p", Duration::ZERO).expect("runs").expect("whole");
    assert_eq!((epoch, batches.len()), (Epoch(0), 3));
}
