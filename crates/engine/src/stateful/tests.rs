//! An operator whose epochs end in pieces: what waits for the last of them, and who for whom.

use super::*;
use crate::background::Background;
use crate::fill::fills;
use crate::keys::KeyCodec;
use crate::ops::materialize::Materialize;
use crate::plan::{Node, NodeId, OnError, Operator, Plan};
use crate::reads::{Reading, Ticket};
use crate::snapshot::Shipping;
use crate::subscription::tap;
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use highwater_checkpoint::{Manifest, OperatorMeta, Store, Trigger, UploadOptions, Uploader};
use highwater_core::{Bytes, Epoch, KeyGroups, Rng, StoreId};
use highwater_state::{Compression, KeyKind, PageStore, StoreLimits, TableId, TableOptions};
use std::collections::BTreeSet;

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
        over: crate::cancel::Cancel::default(),
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
    let mut operator = Stateful::new(pieces(), "p/op".to_owned(), OperatorId(1), around.clone(), Vec::new());
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

/// A view `v` and, if asked for, one over it.
fn views(with_reader: bool) -> Plan {
    let node = |name: &str, inputs: Vec<NodeId>| Node {
        name: name.to_owned(),
        incarnation: 0,
        inputs,
        operator: Operator::Materialize,
        schema: rows(0).rows.schema(),
        append_only: false,
        on_error: OnError::Fail,
    };
    let reader = with_reader.then(|| node("w", vec![NodeId(0)]));
    Plan { nodes: [node("v", Vec::new())].into_iter().chain(reader).collect(), ..Plan::default() }
}

/// A checkpoint with the state of a plan's nodes and, of the first one, these offsets.
fn checkpoint_of(plan: &Plan, offsets: BTreeMap<String, Offset>) -> Manifest {
    let operator = |node: &Node| OperatorMeta {
        id: OperatorId(0),
        name: node.name.clone(),
        incarnation: node.incarnation,
        kind: "materialize".to_owned(),
        version: 1,
        keys: 0,
        bytes: 0,
    };
    Manifest {
        operators: plan.nodes.iter().map(operator).collect(),
        sources: BTreeMap::from([("v".to_owned(), offsets)]),
        ..Manifest::draft("p", Trigger::Manual)
    }
}

const GROUPS: KeyGroups = KeyGroups::DEFAULT;

fn materialized() -> Materialize {
    let id = TableId { operator: OperatorId(1), table: 0 };
    let owned = GROUPS.owned_by(0, 1);
    let table = Table::new(TableOptions { id, key: KeyKind::Bytes, words: 1, groups: GROUPS, owned, source: None });
    let codec = KeyCodec::new(vec![DataType::Int64]).expect("a key");
    Materialize::new(codec, rows(0).rows.schema(), table, true)
}

/// Numbers that come and go, keyed for [`materialized`].
fn changes(of: &BTreeMap<i64, i64>) -> Batch {
    let column: ArrayRef = Arc::new(of.keys().copied().collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([("x", Arc::clone(&column))]).expect("one column");
    let weights = Some(of.values().copied().collect::<Int64Array>());
    let codec = KeyCodec::new(vec![DataType::Int64]).expect("a key");
    codec.key_wide(&[column], &Batch { rows: batch, weights }).expect("keyed").remove(0)
}

/// Enters changes into what somebody has.
fn enter(batches: &[Batch], into: &mut BTreeMap<i64, i64>) {
    for batch in batches {
        let numbers = batch.rows.column(0).as_primitive::<Int64Type>();
        for (row, number) in numbers.values().iter().enumerate() {
            *into.entry(*number).or_default() += batch.weights.as_ref().map_or(1, |weights| weights.value(row));
        }
    }
    into.retain(|_, count| *count != 0);
}

#[test]
fn new_readers_are_filled_over_epochs_while_rows_change_and_after_a_restart() {
    let mut rng = Rng::seeded(7);
    let mut contents: BTreeMap<i64, i64> = (0..3000).map(|number| (number, 1)).collect();
    let mut has = BTreeMap::new();
    let mut manifest = checkpoint_of(&views(false), BTreeMap::new());
    let (mut epochs, mut runs) = (0, 0);
    loop {
        let mut open = fills(&views(true), Some(&manifest), GROUPS).expect("no damage");
        let Some(mut fill) = open.pop() else { break };
        assert!(open.is_empty() && !fill.at_once && fill.readers == BTreeSet::from([NodeId(1)]));
        // Something that goes by time is new behind the reader.
        runs += 1;
        fill.at_once = runs == 3;
        let folder = tempfile::tempdir().expect("a folder");
        let around = surroundings(folder.path());
        let giving = vec![Giving::new(fill, GROUPS, GROUPS.owned_by(0, 1))];
        let mut operator = Stateful::new(materialized(), "v".to_owned(), OperatorId(1), around.clone(), giving);
        // What a restart loads.
        operator.logic.apply(0, changes(&contents)).expect("applied");
        while !operator.logic.close(Instant::now() + SLICE, &mut Vec::new()).expect("closed") {}
        for epoch in 0..=20 {
            let mut change: BTreeMap<i64, i64> = BTreeMap::new();
            for _ in 0..40 * epoch.min(1) {
                let number = rng.below(3000) as i64;
                let now = contents.get(&number).copied().unwrap_or_default();
                *change.entry(number).or_insert(0) = if now > 0 { -now } else { 1 + (number % 2) };
            }
            // An epoch without rows gives nothing of the contents.
            let max_rows = if epoch == 0 { 0 } else { 20 };
            around.ticks.record(Tick { epoch, max_rows, ..Tick::default() });
            operator.take(epoch, 0, changes(&change));
            for (number, weight) in change {
                *contents.entry(number).or_default() += weight;
            }
            contents.retain(|_, count| *count != 0);
            while operator.open_epoch() == epoch {
                let mut given = Vec::new();
                let emit = |_, mut emitted: Emitted| given.append(&mut emitted.fills[0]);
                operator.turn(|complete| complete <= epoch, emit).expect("it works");
                enter(&given, &mut has);
            }
            let giving = &operator.fills[0];
            let hashes = |number: &i64| {
                let rows = RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![*number])) as ArrayRef)]);
                operator.logic.hashes(&rows.expect("one column")).expect("hashes")
            };
            let mut expected = contents.clone();
            expected.retain(|number, _| {
                let row = Batch::inserts(rows(1).rows);
                giving.follow(&row, &hashes(number)).expect("it works").is_some()
            });
            assert_eq!(has, expected, "after epoch {epoch}");
            epochs += u64::from(giving.next().is_some());
        }
        let mut offsets = BTreeMap::new();
        operator.fills[0].keep(0, WorkerIndex(0), &mut offsets).expect("offsets");
        manifest = checkpoint_of(&views(true), offsets);
    }
    assert!(epochs > 20 && runs == 3 && has == contents, "{epochs} epochs, {runs} runs");
}

/// More rows than come of a read before they are taken.
const MANY: i64 = 1 << 20;

/// A view of many rows that is asked for in epoch 0, after which it changes.
struct Read {
    operator: Stateful<Materialize>,
    around: Surroundings,
    contents: BTreeMap<i64, i64>,
    ticket: Ticket,
    _folder: tempfile::TempDir,
}

fn read_of_many() -> Read {
    let folder = tempfile::tempdir().expect("a folder");
    let around = surroundings(folder.path());
    let ticket = around.reads.ask(vec!["v".to_owned()], Wish::All).expect("it runs");
    around.ticks.record(Tick { epoch: 0, reads: vec![ticket.read()], ..Tick::default() });
    let mut operator = Stateful::new(materialized(), "v".to_owned(), OperatorId(1), around.clone(), Vec::new());
    let contents: BTreeMap<i64, i64> = (0..MANY).map(|number| (number, 1)).collect();
    operator.take(0, 0, changes(&contents));
    assert_eq!(work(&mut operator, 0), Turn::Later, "it waits for its rows to be taken");
    Read { operator, around, contents, ticket, _folder: folder }
}

/// Turns until there is nothing to do, where no epoch after `last` is complete.
fn work(operator: &mut Stateful<Materialize>, last: u64) -> Turn {
    loop {
        let turn = operator.turn(|epoch| epoch <= last, |_, _| {}).expect("it works");
        if turn != Turn::Again {
            return turn;
        }
    }
}

fn opened(ticket: Ticket) -> Reading {
    let readings = ticket.open("p", 1, (Duration::ZERO, u64::MAX)).expect("it runs").expect("as it was begun");
    readings.into_iter().next().expect("one node")
}

/// The rest of a view's rows, and in how many pieces they came.
fn taken(operator: &mut Stateful<Materialize>, reading: &mut Reading, last: u64) -> (BTreeMap<i64, i64>, usize) {
    let (mut rows, mut pieces) = (BTreeMap::new(), Vec::new());
    while let Some(piece) = reading.next("p", 1, Duration::ZERO).expect("it runs") {
        pieces.push(piece);
        work(operator, last);
    }
    enter(&pieces, &mut rows);
    (rows, pieces.len())
}

#[test]
fn a_read_waits_for_its_rows_to_be_taken_and_stays_as_of_its_epoch() {
    let Read { mut operator, around, contents, ticket, _folder } = read_of_many();
    around.ticks.record(Tick { epoch: 1, ..Tick::default() });
    let mut change: BTreeMap<i64, i64> = contents.keys().map(|number| (*number, -1)).collect();
    change.insert(MANY, 1);
    operator.take(1, 0, changes(&change));
    assert_eq!(work(&mut operator, 1), Turn::Later);
    let mut reading = opened(ticket);
    assert!(!reading.come(1).0, "not all of it has come");
    let (rows, pieces) = taken(&mut operator, &mut reading, 1);
    assert!(rows == contents && pieces > 1, "{} rows in {pieces} pieces", rows.len());
    assert!(operator.reading.is_none() && work(&mut operator, 1) == Turn::Rest);
    let mut now = BTreeMap::new();
    let mut batches = Vec::new();
    contents_of(&mut operator, &mut batches);
    enter(&batches, &mut now);
    assert_eq!(now, BTreeMap::from([(MANY, 1)]));
}

/// What the view holds now; no read is in the way.
fn contents_of(operator: &mut Stateful<Materialize>, out: &mut Vec<Batch>) {
    contents(&mut operator.logic, out).expect("nothing is in the way");
}

#[test]
fn a_read_that_is_dropped_is_in_nobodys_way() {
    let Read { mut operator, contents, ticket, _folder, .. } = read_of_many();
    let mut reading = opened(ticket);
    assert!(reading.next("p", 1, Duration::ZERO).expect("it runs").is_some());
    drop(reading);
    assert_eq!(work(&mut operator, 0), Turn::Rest);
    assert!(operator.reading.is_none());
    let mut batches = Vec::new();
    contents_of(&mut operator, &mut batches);
    assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), contents.len());
}

#[test]
fn a_read_that_another_one_waits_for_comes_as_a_whole() {
    let Read { mut operator, around, contents, ticket, _folder } = read_of_many();
    let mut other = around.reads.ask(vec!["v".to_owned()], Wish::All).expect("it runs");
    around.ticks.record(Tick { epoch: 1, reads: vec![other.read()], ..Tick::default() });
    assert_eq!(work(&mut operator, 1), Turn::Rest, "all has come");
    assert_eq!(other.begin("p", 1, Duration::ZERO).expect("it runs"), None, "it has to be asked for again");
    assert!(operator.reading.is_none());
    let mut reading = opened(ticket);
    assert!(taken(&mut operator, &mut reading, 1).0 == contents);
}

#[test]
fn who_takes_nothing_of_all_that_may_wait_fails_when_the_run_ends() {
    let Read { mut operator, ticket, _folder, .. } = read_of_many();
    let mut reading = ticket.open("p", 1, (Duration::ZERO, 0)).expect("it runs").expect("begun").remove(0);
    let ended = loop {
        match operator.turn(|_| true, |_, _| {}).expect("it works") {
            Turn::Again => {}
            turn => break turn,
        }
    };
    assert_eq!(ended, Turn::Rest, "it does not hold up the end");
    let failed = loop {
        match reading.next("p", 1, Duration::ZERO) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the rows end as if they were all"),
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, Error::NotRunning { .. }), "{failed}");
}
