//! The connectors that the tests register: a log of numbers that grows, and a store with a fence.

use highwater::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use highwater::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use highwater::connector::{
    Batch, DeliveryPermit, Error, Extent, Kind, Offset, OptionSpec, Polled, Result, Sink, SinkConnector, SinkRequest,
    Source, SourceConnector, SourceRequest, SplitReader, Target,
};
use highwater::{Config, Database, same_rows};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Numbers from 0 up to where the log has been filled, dealt over splits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    end: Arc<AtomicI64>,
    /// Calls of `splits` that are still to panic.
    pub(crate) panics: Arc<AtomicU32>,
}

impl Log {
    pub(crate) fn of(end: i64) -> Self {
        let log = Self::default();
        log.fill_to(end);
        log
    }

    pub(crate) fn fill_to(&self, end: i64) {
        self.end.store(end, SeqCst);
    }

    pub(crate) fn cut(&self, numbers: i64) {
        self.end.fetch_sub(numbers, SeqCst);
    }
}

impl SourceConnector for Log {
    fn name(&self) -> &str {
        "log"
    }

    fn options(&self) -> &[OptionSpec] {
        const OPTIONS: &[OptionSpec] = &[
            OptionSpec::new("splits", Kind::Integer { min: 1, max: 16 }, "How many.").or("2"),
            OptionSpec::new("follow", Kind::Boolean, "Whether it may grow.").or("false"),
            OptionSpec::new("blocking", Kind::Boolean, "Whether it is read in the background.").or("false"),
        ];
        OPTIONS
    }

    fn source(&self, asked: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
        let splits = asked.settings.count("splits").expect("it has a default");
        let (follow, blocking) = (asked.settings.flag("follow"), asked.settings.flag("blocking"));
        Ok(Arc::new(Numbers { log: self.clone(), splits, follow, blocking }))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    log: Log,
    splits: u64,
    follow: bool,
    blocking: bool,
}

impl Numbers {
    pub(crate) fn of(log: &Log, splits: u64) -> Self {
        Self { log: log.clone(), splits, follow: false, blocking: false }
    }
}

impl Source for Numbers {
    fn schema(&self) -> SchemaRef {
        let column = |name: &str| Field::new(name, DataType::Int64, false);
        Arc::new(Schema::new(vec![column("id"), column("part")]))
    }

    fn splits(&self) -> Result<Vec<String>> {
        let left = self.log.panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "told to panic");
        Ok((0..self.splits).map(|split| split.to_string()).collect())
    }

    fn extent(&self) -> Extent {
        if self.follow { Extent::Growing } else { Extent::Bounded }
    }

    fn blocking(&self) -> bool {
        self.blocking
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        let split: i64 = split.parse().map_err(|_| Error::data("log", format!("there is no split {split}")))?;
        let next = offset.map_or(Some(split), |offset| offset.get("next").and_then(Offset::as_i64));
        let next = next.ok_or_else(|| Error::data("log", "not an offset of it"))?;
        Ok(Box::new(Reader { numbers: self.clone(), next }))
    }
}

struct Reader {
    numbers: Numbers,
    next: i64,
}

impl SplitReader for Reader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        let (end, step) = (self.numbers.log.end.load(SeqCst), self.numbers.splits as usize);
        let ids: Vec<i64> = (self.next..end).step_by(step).take(max_rows.min(97)).collect();
        let Some(last) = ids.last() else {
            let idle = Polled::Idle(Duration::from_millis(1));
            return Ok(if self.numbers.follow { idle } else { Polled::End });
        };
        self.next = last + step as i64;
        let parts: ArrayRef = Arc::new(ids.iter().map(|id| id % 10).collect::<Int64Array>());
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), parts];
        let rows = RecordBatch::try_new(self.numbers.schema(), columns);
        Ok(Polled::Rows(rows.map_err(|error| Error::data("log", error))?))
    }

    fn offset(&self) -> Offset {
        [("next".to_owned(), Offset::from(self.next))].into_iter().collect()
    }
}

/// A store of numbers in memory that outlives databases, as one outside of the process would.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The newest checkpoint by sink, incarnation and part.
    fence: BTreeMap<(String, u64, u32), u64>,
    /// The first column of each row, by sink and incarnation.
    pub(crate) rows: BTreeMap<(String, u64), Vec<i64>>,
    /// Deliveries that are refused by a fence.
    pub(crate) again: u64,
    /// Deliveries that are still to fail, each in one of three ways.
    pub(crate) failures: u32,
    /// How many deliveries it takes before it is down; none when it stays up.
    pub(crate) takes: Option<u32>,
}

impl Store {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().rows.values().map(Vec::len).sum()
    }

    /// Asserts that a sink was given the numbers of `wanted`, each once.
    pub(crate) fn assert_each_once(&self, sink: (&str, u64), wanted: impl Iterator<Item = i64>) {
        let kept = self.lock();
        let rows = kept.rows.get(&(sink.0.to_owned(), sink.1)).expect("it was given rows");
        let distinct: BTreeSet<i64> = rows.iter().copied().collect();
        assert_eq!(rows.len(), distinct.len(), "some were given twice");
        assert_eq!(distinct, wanted.collect(), "others were given");
    }
}

#[derive(Clone, Debug)]
struct Shelf {
    name: String,
    incarnation: u64,
    store: Store,
}

impl SinkConnector for Store {
    fn name(&self) -> &str {
        "store"
    }

    fn sink(&self, asked: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(Shelf { name: asked.name.to_owned(), incarnation: asked.incarnation, store: self.clone() }))
    }
}

impl Sink for Shelf {
    fn check(&self, schema: &SchemaRef, append_only: bool) -> Result<()> {
        if schema.field(0).data_type() != &DataType::Int64 {
            return Err(Error::Plan("the store keeps bigints".to_owned()));
        }
        if append_only { Ok(()) } else { Err(Error::Plan("the store takes rows that stay".to_owned())) }
    }

    fn open(&self, _: &SchemaRef) -> Result<Box<dyn Target>> {
        Ok(Box::new(self.clone()))
    }
}

impl Target for Shelf {
    fn deliver(&mut self, permit: DeliveryPermit, part: u32, rows: &[Batch]) -> Result<()> {
        let mut kept = self.store.lock();
        match &mut kept.takes {
            Some(0) => return Err(Error::connector("store", "is down")),
            Some(left) => *left -= 1,
            None => {}
        }
        let way = kept.failures % 3;
        let fails = kept.failures > 0;
        kept.failures = kept.failures.saturating_sub(1);
        assert!(!(fails && way == 0), "told to panic");
        if fails && way == 1 {
            return Err(Error::connector("store", "told to fail"));
        }
        let (place, checkpoint) = ((self.name.clone(), self.incarnation, part), permit.checkpoint().0);
        if kept.fence.get(&place).is_some_and(|newest| *newest >= checkpoint) {
            kept.again += 1;
            return Ok(());
        }
        kept.fence.insert(place, checkpoint);
        let numbers = rows.iter().flat_map(|batch| batch.rows.column(0).as_primitive::<Int64Type>().iter().flatten());
        let numbers: Vec<i64> = numbers.collect();
        kept.rows.entry((self.name.clone(), self.incarnation)).or_default().extend(numbers);
        // What was done is not always known to be done.
        if fails { Err(Error::connector("store", "told to fail afterwards")) } else { Ok(()) }
    }
}

/// A database over a folder with these connectors, checkpointed often.
pub(crate) fn open(folder: &Path, log: &Log, store: &Store, more: impl FnOnce(&mut Config)) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config.resume = true;
    config.checkpoints.interval = Some(Duration::from_millis(30));
    config.sources.push(Arc::new(log.clone()));
    config.sinks.push(Arc::new(store.clone()));
    more(&mut config);
    Database::open(config).expect("a database")
}

pub(crate) fn assert_equal_to_recomputation(database: &Database, view: &str) {
    let compared = database.recompute(view).expect(view);
    let (ours, theirs) = (&compared.view.batches, &compared.recomputed.batches);
    assert_eq!(same_rows(ours, theirs).expect("comparable"), None, "{view}");
    assert!(compared.view.count() > 0, "{view} has rows");
}

/// The one number that a query gives.
pub(crate) fn number(database: &Database, query: &str) -> i64 {
    let rows = database.query(query).expect(query);
    assert_eq!(rows.count(), 1, "{query}");
    let batch = rows.batches.iter().find(|batch| batch.num_rows() == 1).expect("one row");
    batch.column(0).as_primitive::<Int64Type>().value(0)
}

pub(crate) fn wait_until(what: &str, over: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !over() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
