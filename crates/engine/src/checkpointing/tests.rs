//! Checkpoints whose parts or publications panic or that never begin, and what their outboxes are given for numbers.

use super::*;
use crate::control::{Control, ControlSetup, Next, Request};
use crate::shared::Run;
use crate::snapshot::{OperatorPart, Shipment, Snapshots};
use highwater_checkpoint::{Base64, Host, PublishOptions, Root, TokioHost, UploadOptions, Uploader};
use highwater_core::{ManualClock, StoreId, SystemClock, WorkerIndex};
use highwater_state::{Kind, Outcome, PageStore, Record, RecordKey, StoreLimits, TableId};
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);

/// A host whose clock panics while it is broken.
#[derive(Debug, Default)]
struct Fragile {
    host: TokioHost,
    is_broken: AtomicBool,
    /// Who looks at the clock next waits until all may go on.
    holds_next: AtomicBool,
    may_go_on: AtomicBool,
}

impl Host for Fragile {
    fn clock(&self) -> &dyn Clock {
        assert!(!self.is_broken.load(Relaxed), "the clock is broken");
        let is_held = self.holds_next.swap(false, Relaxed);
        while is_held && !self.may_go_on.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.host.clock()
    }

    fn random(&self) -> u64 {
        self.host.random()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.host.sleep(duration)
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.host.blocking(work)
    }
}

struct Scene {
    folder: tempfile::TempDir,
    host: Arc<Fragile>,
    store: Store,
    background: Background,
}

impl Scene {
    fn new() -> Self {
        let host = Arc::new(Fragile::default());
        let store = Store::new(Root::memory(), Arc::clone(&host) as Arc<dyn Host>);
        let background = Background::start(1).expect("threads");
        Self { folder: tempfile::tempdir().expect("a folder"), host, store, background }
    }

    fn break_clock(&self, is_broken: bool) {
        self.host.is_broken.store(is_broken, Relaxed);
    }

    fn shipping(&self) -> Arc<Shipping> {
        let folder = self.folder.path().to_owned();
        Arc::new(Shipping {
            background: self.background.clone(),
            pages: Arc::new(PageStore::create(&folder.join("pages"), StoreLimits::default()).expect("a page store")),
            uploader: Uploader::new(&self.store, "p", UploadOptions::default()).expect("an uploader"),
            store: StoreId(1),
            folder,
            compression: highwater_state::Compression::None,
            over: crate::cancel::Cancel::default(),
        })
    }

    fn checkpointing(&self) -> Checkpointing {
        let claim = Publisher::claim(&self.store, "p", PublishOptions::default());
        Checkpointing::new(CheckpointingSetup {
            background: self.background.clone(),
            clock: Arc::new(SystemClock::default()),
            store: self.store.clone(),
            publisher: self.background.wait_for(claim).expect("a claim"),
            shipping: self.shipping(),
            identity: Identity {
                pipeline: "p".to_owned(),
                sql: Vec::new(),
                key_groups: KeyGroups::DEFAULT,
                workers: 1,
                nodes: Vec::new(),
                next_operator: 0,
            },
            wake: Arc::new(|| {}),
            history: History::default(),
            files: Vec::new(),
            inline: Vec::new(),
            paths: LocalPaths::default(),
            next: CheckpointId(1),
            restored: None,
            positions: Positions::default(),
            ahead: AheadSinks::new(),
        })
    }
}

/// A part of a checkpoint that failed, or of the one that holds it.
fn outbox(checkpoint: Option<u64>) -> OutboxMeta {
    OutboxMeta {
        sink: "k".to_owned(),
        worker: 0,
        checkpoint: checkpoint.map(CheckpointId),
        data: OutboxData::Inline(Base64(vec![1])),
    }
}

fn begin(checkpointing: &mut Checkpointing) {
    checkpointing.start(Started {
        attempt: Attempt(1),
        at: Duration::ZERO,
        wall: WallMicros(0),
        epoch: Epoch(1),
        trigger: Trigger::Manual,
        replies: Vec::new(),
    });
}

/// Begins a checkpoint that holds these outboxes and publishes it.
fn publish(checkpointing: &mut Checkpointing, outboxes: Vec<OutboxMeta>) -> Result<CheckpointId> {
    begin(checkpointing);
    checkpointing.receive(vec![Receipt { outboxes, ..Receipt::default() }]).expect("it is durable");
    checkpointing.publish();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(published) = checkpointing.publication() {
            return published;
        }
        assert!(Instant::now() < deadline, "the publication ends");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_publication_that_panics_fails_its_checkpoint_and_the_next_one_is_published() {
    let scene = Scene::new();
    let mut checkpointing = scene.checkpointing();
    scene.break_clock(true);
    for failures in 1..=2 {
        let error = publish(&mut checkpointing, Vec::new()).expect_err("the clock is broken").to_string();
        assert!(error.contains("panicked: the clock is broken"), "{error}");
        assert_eq!(checkpointing.give_up(error), failures);
        assert!(!checkpointing.is_running());
    }
    scene.break_clock(false);
    publish(&mut checkpointing, Vec::new()).expect("published");
    let outcomes: Vec<bool> =
        checkpointing.history.reports().iter().map(|report| report.outcome == CheckpointOutcome::Published).collect();
    assert_eq!(outcomes, [false, false, true]);
}

#[test]
fn who_asks_for_a_checkpoint_that_never_begins_is_told_when_it_is_given_up() {
    let (scene, clock) = (Scene::new(), Arc::new(ManualClock::default()));
    let (ask, requests) = channel();
    let settings = CheckpointSettings { interval: None, ..CheckpointSettings::default() };
    let timeout = settings.timeout;
    let mut control = Control::new(ControlSetup {
        run: Arc::new(Run::new("p".to_owned(), Arc::default(), Box::new(|_| {}))),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        requests,
        checkpointing: scene.checkpointing(),
        settings,
        phase: 0.0,
        sources: 1,
        fills: Vec::new(),
        changes: BTreeSet::new(),
        workers: 1,
        wall: WallMicros(0),
        undelivered: Arc::default(),
        log: None,
        is_new: false,
        paused: false,
        finished: Box::new(|_| {}),
    });
    let mut epochs = 0;
    while matches!(control.look(), Next::Tick(_)) {
        epochs += 1;
    }
    // None of the epochs ends, so the barrier waits.
    let (reply, answer) = channel();
    ask.send(Request::Checkpoint(Trigger::Manual, reply)).expect("it listens");
    assert!(matches!(control.look(), Next::Wait(_)));
    assert!(answer.try_recv().is_err());
    clock.advance(timeout);
    assert!(matches!(control.look(), Next::Wait(_)));
    let report = answer.try_recv().expect("it is told");
    assert_eq!(report.id, CheckpointId(1));
    assert!(matches!(report.outcome, CheckpointOutcome::Failed(reason) if reason.contains("it was requested")));
    control.completed_before(epochs);
    let (reply, _answer) = channel();
    ask.send(Request::Checkpoint(Trigger::Manual, reply)).expect("it listens");
    let Next::Tick(tick) = control.look() else { panic!("there is room for an epoch") };
    assert_eq!(tick.checkpoint, Some(CheckpointId(2)));
}

#[test]
fn a_collection_that_hangs_holds_up_no_checkpoint() {
    let scene = Scene::new();
    let mut checkpointing = scene.checkpointing();
    publish(&mut checkpointing, Vec::new()).expect("published");
    scene.host.holds_next.store(true, Relaxed);
    checkpointing.collect();
    let deadline = Instant::now() + PATIENCE;
    while scene.host.holds_next.load(Relaxed) {
        assert!(Instant::now() < deadline, "the collection begins");
        std::thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..2 {
        publish(&mut checkpointing, Vec::new()).expect("published");
        // It is left to a later checkpoint.
        checkpointing.collect();
    }
    assert!(checkpointing.is_collecting.load(Relaxed));
    scene.host.may_go_on.store(true, Relaxed);
    while checkpointing.is_collecting.load(Relaxed) {
        assert!(Instant::now() < deadline, "the collection ends");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_checkpoint_has_a_number_above_those_of_the_failed_ones_whose_rows_it_holds() {
    let scene = Scene::new();
    let mut checkpointing = scene.checkpointing();
    assert_eq!(publish(&mut checkpointing, vec![outbox(None)]).expect("published"), CheckpointId(1));
    let held = vec![outbox(Some(1)), outbox(Some(4)), outbox(Some(7)), outbox(None)];
    assert_eq!(publish(&mut checkpointing, held).expect("published"), CheckpointId(8));
    assert_eq!(checkpointing.next, CheckpointId(9));
}

/// Ships the parts of a sink's outbox.
fn ship(snapshots: &Snapshots, checkpoint: u64, parts: &[OutboxPart]) -> Receipt {
    snapshots.outboxes(CheckpointId(checkpoint), parts.to_vec());
    receipt(snapshots, checkpoint)
}

/// Ships what was handed in.
fn receipt(snapshots: &Snapshots, checkpoint: u64) -> Receipt {
    assert!(snapshots.is_whole(CheckpointId(checkpoint)));
    let shipment: Shipment = snapshots.ship(|| {});
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(receipt) = snapshots.receipt(&shipment) {
            return receipt;
        }
        assert!(Instant::now() < deadline, "the worker hands in");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn part(checkpoint: Option<u64>, rows: Vec<u8>) -> OutboxPart {
    OutboxPart {
        sink: "k".into(),
        checkpoint: checkpoint.map(CheckpointId),
        part: 0,
        rows: KeptRows::in_memory(rows),
        waits: false,
        merged: None,
    }
}

#[test]
fn rows_get_their_files_also_when_the_upload_panics_and_are_shipped_once() {
    let scene = Scene::new();
    let snapshots = Snapshots::new(WorkerIndex(0), scene.shipping());
    snapshots.expect_operator();
    let mut parts = vec![part(None, vec![1; 40_000]), part(None, vec![2; 40_000]), part(None, vec![3; 10])];
    scene.break_clock(true);
    let receipt = ship(&snapshots, 1, &parts);
    assert!(receipt.failed.is_some_and(|reason| reason.contains("the clock is broken")));
    let files: Vec<Option<RowsFile>> = parts.iter().map(|part| part.rows.file()).collect();
    assert_eq!(files.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    scene.break_clock(false);
    parts.push(part(None, vec![4; 50_000]));
    for (checkpoint, shipped) in [(2, 130_000), (3, 0)] {
        let receipt = ship(&snapshots, checkpoint, &parts);
        assert_eq!(receipt.failed, None);
        assert_eq!(receipt.uploaded_bytes, shipped);
        assert_eq!(receipt.outbox_paths.len(), 3);
        let lengths = receipt.outboxes.iter().map(|outbox| match &outbox.data {
            OutboxData::Inline(bytes) => (false, bytes.0.len()),
            OutboxData::File(file) => (true, file.length as usize),
            OutboxData::Merged(_) => panic!("nothing is merged"),
        });
        assert_eq!(lengths.collect::<Vec<_>>(), [(true, 40_000), (true, 40_000), (false, 10), (true, 50_000)]);
    }
    let kept: Vec<Option<RowsFile>> = parts.iter().take(3).map(|part| part.rows.file()).collect();
    assert_eq!(kept, files, "they are written once");
}

#[test]
fn what_a_run_uploads_is_given_up_when_the_next_one_waits() {
    let scene = Scene::new();
    let shipping = scene.shipping();
    shipping.over.cancel();
    let snapshots = Snapshots::new(WorkerIndex(0), shipping);
    snapshots.expect_operator();
    let receipt = ship(&snapshots, 1, &[part(None, vec![1; 40_000])]);
    assert!(receipt.failed.is_some_and(|reason| reason.contains("its run ended")));
}

/// What an operator hands in that has changed a page, which is too large to stand in the manifest.
fn page(floor: Option<FileNumber>) -> OperatorPart {
    let table = TableId { operator: OperatorId(1), table: 0 };
    let key = RecordKey { table, group: 0, page: 0, kind: Kind::Image };
    OperatorPart {
        operator: OperatorId(1),
        name: "o".to_owned(),
        records: vec![Record { key, value: vec![1; 40_000] }],
        changed: 1,
        delta_bytes: 0,
        base_bytes: 40_000,
        image_bytes: 40_000,
        floor,
        keys: 1,
        bytes: 40_000,
        fills: BTreeMap::new(),
    }
}

/// How many state files there are in a folder.
fn state_files(folder: &Path) -> usize {
    let here = std::fs::read_dir(folder).expect("a folder").flatten();
    here.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "sst")).count()
}

#[test]
fn what_checkpoints_leave_here_that_are_not_published_is_in_scope() {
    let scene = Scene::new();
    let shipping = scene.shipping();
    let snapshots = Snapshots::new(WorkerIndex(0), Arc::clone(&shipping));
    snapshots.expect_operator();
    for checkpoint in 1..=20u64 {
        let before = CheckpointId(checkpoint - 1);
        let floor = (checkpoint > 1).then(|| FileNumber::new(before, WorkerIndex(0)));
        snapshots.deliver(CheckpointId(checkpoint), page(floor));
        let receipt = receipt(&snapshots, checkpoint);
        assert_eq!(receipt.failed, None);
        let numbers = receipt.files.iter().map(|file| FileNumber::from_u64(file.sequence).checkpoint().0);
        assert_eq!(numbers.collect::<Vec<_>>(), ((checkpoint - 1).max(1)..=checkpoint).collect::<Vec<_>>());
        assert!(receipt.paths.iter().all(|(_, path)| path.exists()));
    }
    assert_eq!(shipping.pages.usage().expect("it tells").files, 2);
    assert_eq!(state_files(scene.folder.path()), 4, "two files, of two names each");
}

#[test]
fn a_file_that_the_page_store_does_not_take_is_not_left_here() {
    let scene = Scene::new();
    let snapshots = Snapshots::new(WorkerIndex(0), scene.shipping());
    snapshots.expect_operator();
    let (incoming, away) = (scene.folder.path().join("pages/incoming"), scene.folder.path().join("away"));
    std::fs::rename(&incoming, &away).expect("it is there");
    snapshots.deliver(CheckpointId(1), page(None));
    assert!(receipt(&snapshots, 1).failed.is_some());
    assert_eq!(snapshots.outcome(CheckpointId(1)), Some(Outcome::Failed));
    assert_eq!(state_files(scene.folder.path()), 0);
    std::fs::rename(&away, &incoming).expect("it is there");
    snapshots.deliver(CheckpointId(2), page(None));
    assert_eq!(receipt(&snapshots, 2).files.len(), 1);
}

#[test]
fn a_manifest_leaves_out_what_the_worker_that_wrote_it_needs_no_more() {
    let scene = Scene::new();
    let mut checkpointing = scene.checkpointing();
    checkpointing.first = CheckpointId(4);
    let number = |checkpoint, worker| FileNumber::new(CheckpointId(checkpoint), WorkerIndex(worker));
    let inline = |checkpoint, worker| InlinePart::new(worker, number(checkpoint, worker).to_u64(), vec![1]);
    // The key groups of what was restored may have been dealt otherwise.
    checkpointing.inline.extend([(number(3, 0).to_u64(), inline(3, 0))]);
    begin(&mut checkpointing);
    let receipt = |worker, floor| Receipt {
        worker,
        floor: Some(number(floor, worker)),
        inline: vec![inline(4, worker), inline(5, worker)],
        ..Receipt::default()
    };
    checkpointing.receive(vec![receipt(0, 5), receipt(1, 2)]).expect("it is durable");
    let ready = checkpointing.running.as_ref().and_then(|running| running.ready.as_ref()).expect("a manifest");
    let kept = ready.inline.iter().map(|part| FileNumber::from_u64(part.sequence));
    let kept: Vec<_> = kept.map(|number| (number.checkpoint().0, number.worker().0)).collect();
    assert_eq!(kept, [(3, 0), (4, 1), (5, 0), (5, 1)]);
}
