//! Speeds of the state alone, without SQL, exchange or threads: `statebench COMMAND [NAME=VALUE]...`
//! prints one JSON line a measurement.
//!
//! `keyed` is BENCH.md's W1 on one thread (growth, batches, checkpoints between batches);
//! `compaction` is its W5; `restore` its W4; `stores` compares one RocksDB with one a pipeline.

use highwater_core::{Bytes, CheckpointId, KeyGroups, OperatorId, Rng, StoreId, WorkerIndex, splitmix64};
use highwater_state::scope::{RollingBase, WrittenBytes, in_scope};
use highwater_state::{
    ByteKeys, Compression, FileNumber, FileOptions, FreezeOptions, KeyKind, Outcome, PageSource, PageStore, Part,
    Progress, Record, Restore, StoreLimits, Table, TableId, TableOptions, WrittenFile, hash_u64s, write_file,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCH: usize = 8192;
const STORE: StoreId = StoreId(7);

type Done<T> = Result<T, Box<dyn Error>>;

fn main() -> Done<()> {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let settings = Settings::parse(args)?;
    match command.as_str() {
        "keyed" => keyed(&settings),
        "compaction" => compaction(&settings),
        "restore" => restore(&settings),
        "stores" => stores(&settings),
        other => {
            Err(format!("no measurement is called {other:?}; there are keyed, compaction, restore and stores").into())
        }
    }
}

/// `NAME=VALUE` words of the command line.
struct Settings(BTreeMap<String, u64>);

impl Settings {
    fn parse(args: impl Iterator<Item = String>) -> Done<Self> {
        let pair = |arg: String| -> Done<(String, u64)> {
            let (name, value) = arg.split_once('=').ok_or_else(|| format!("{arg:?} is not NAME=VALUE"))?;
            Ok((name.to_string(), value.parse()?))
        };
        Ok(Self(args.map(pair).collect::<Done<_>>()?))
    }

    fn get(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(default)
    }
}

fn options(source: Option<PageSource>) -> TableOptions {
    let id = TableId { operator: OperatorId(1), table: 0 };
    TableOptions { id, key: KeyKind::U64, words: 2, groups: KeyGroups::DEFAULT, owned: 0..256, source }
}

/// Count and sum per key, with the buffers of its batches.
struct Counter {
    table: Table,
    /// Keys are 24 bytes long instead of one word.
    bytes: bool,
    hashes: Vec<u64>,
    slots: Vec<highwater_state::Slot>,
    created: Vec<u32>,
}

impl Counter {
    fn new(table: Table) -> Self {
        Self { table, bytes: false, hashes: Vec::new(), slots: Vec::new(), created: Vec::new() }
    }

    fn add(&mut self, keys: &[u64], values: &[u64]) -> Done<()> {
        self.created.clear();
        if self.bytes {
            let data: Vec<u8> = keys.iter().flat_map(|key| [key.to_le_bytes(); 3].into_iter().flatten()).collect();
            let offsets: Vec<i32> = (0..=keys.len() as i32).map(|row| row * 24).collect();
            let keys = ByteKeys::new(&data, &offsets)?;
            keys.hash_into(&mut self.hashes);
            self.table.upsert_bytes(&self.hashes, keys, &mut self.slots, &mut self.created)?;
        } else {
            hash_u64s(keys, &mut self.hashes);
            self.table.upsert_u64(&self.hashes, keys, &mut self.slots, &mut self.created)?;
        }
        self.table.update(&self.slots, |row, words| {
            words[0] = words[0].wrapping_add(1);
            words[1] = words[1].wrapping_add(values[row]);
        });
        Ok(())
    }

    /// The sum over all keys of their count and their sum.
    fn totals(&mut self) -> Done<(u64, u64, u64)> {
        let mut rows = highwater_state::Rows::default();
        self.table.freeze_for_read(None)?;
        self.table.copy_rows(&mut || true, &mut rows)?;
        let sums = rows
            .words
            .chunks_exact(2)
            .fold((0u64, 0u64), |sum, words| (sum.0 + words[0], sum.1.wrapping_add(words[1])));
        Ok((rows.len() as u64, sums.0, sums.1))
    }

    /// Every key once.
    fn fill(&mut self, keys: u64, mut took: impl FnMut(Duration)) -> Done<()> {
        let (mut batch, start) = (Vec::with_capacity(BATCH), Instant::now());
        let mut from = 0;
        while from < keys {
            let to = keys.min(from + BATCH as u64);
            batch.clear();
            batch.extend(from..to);
            let before = cpu(start);
            self.add(&batch.clone(), &batch)?;
            took(cpu(start).saturating_sub(before));
            from = to;
        }
        Ok(())
    }
}

/// Files of a run and the order of its checkpoints.
struct Checkpoints<'a> {
    folder: &'a Path,
    source: PageSource,
    next: u64,
    last: WrittenBytes,
    rolling: RollingBase,
    files: Vec<WrittenFile>,
    compression: Compression,
}

impl<'a> Checkpoints<'a> {
    fn new(folder: &'a Path) -> Done<Self> {
        let store = Arc::new(PageStore::create(&folder.join("pages"), StoreLimits::default())?);
        let source = PageSource::new(store, STORE);
        Ok(Self {
            folder,
            source,
            next: 1,
            last: WrittenBytes::default(),
            rolling: RollingBase::default(),
            files: Vec::new(),
            compression: Compression::None,
        })
    }

    fn freeze(&mut self, table: &mut Table) -> Done<FileNumber> {
        let number = FileNumber::new(CheckpointId(self.next), WorkerIndex(0));
        self.next += 1;
        let mut facts = Vec::new();
        table.base_facts(&mut facts);
        let rebase: Vec<u16> =
            self.rolling.choose(&mut facts, self.last, number.checkpoint()).iter().map(|(_, group)| *group).collect();
        table.freeze(&FreezeOptions { number, rebase: &rebase, all: false })?;
        Ok(number)
    }

    fn store(
        &mut self,
        table: &mut Table,
        number: FileNumber,
        records: &mut [Record],
        progress: Progress,
    ) -> Done<u64> {
        let path = self.folder.join(format!("{number}.sst"));
        let options = FileOptions { store: STORE, number, compression: self.compression, pace: &mut |_| {} };
        let file = write_file(&path, records, options)?;
        self.source.store().ingest(std::slice::from_ref(&file.path))?;
        table.settle(Outcome::InStore)?;
        self.last = WrittenBytes { delta: progress.delta_bytes, base: progress.base_bytes };
        let length = file.length;
        self.files.push(file);
        let floor = table.floor().ok_or("a stored table has a floor")?;
        let (stay, go): (Vec<_>, Vec<_>) = self.files.drain(..).partition(|file| in_scope(file.number, floor));
        self.files = stay;
        for file in &go {
            std::fs::remove_file(&file.path)?;
        }
        if let (Some(first), Some(last)) = (go.first(), go.last()) {
            self.source.store().drop_files(STORE, first.number..=last.number)?;
        }
        Ok(length)
    }

    fn whole(&mut self, table: &mut Table) -> Done<(u64, Progress)> {
        let number = self.freeze(table)?;
        let mut records = Vec::new();
        let progress = table.copy_out(&mut || true, &mut records)?;
        Ok((self.store(table, number, &mut records, progress)?, progress))
    }

    fn live(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    fn parts(&self) -> Vec<Part> {
        self.files.iter().map(|file| Part::File(file.number)).collect()
    }
}

fn keyed(settings: &Settings) -> Done<()> {
    let (keys, seconds, hot) = (settings.get("keys", 10_000_000), settings.get("seconds", 6), settings.get("hot", 0));
    let folder = tempfile::tempdir()?;
    let bytes = settings.get("bytes", 0) == 1;
    let key = if bytes { KeyKind::Bytes } else { KeyKind::U64 };
    let mut counter = Counter::new(Table::new(TableOptions { key, ..options(None) }));
    counter.bytes = bytes;
    let (before, start) = (rss()?, Instant::now());
    let (mut longest, mut all) = (Duration::ZERO, Duration::ZERO);
    counter.fill(keys, |took| {
        longest = longest.max(took);
        all += took;
    })?;
    let took = all.as_secs_f64();
    println!(
        r#"{{"measure":"fill","keys":{keys},"rows_per_s":{:.0},"longest_batch_ms":{:.3},"rss_bytes_per_key":{:.1},"bytes_per_key":{:.1}}}"#,
        keys as f64 / took,
        longest.as_secs_f64() * 1e3,
        (rss()? - before) as f64 / keys as f64,
        counter.table.memory_bytes() as f64 / keys as f64
    );
    let mut checkpoints = Checkpoints::new(folder.path())?;
    let (clock, before) = (Instant::now(), cpu(start));
    checkpoints.whole(&mut counter.table)?;
    println!(
        r#"{{"measure":"full_base","cpu_s":{:.3},"seconds":{:.3},"bytes":{}}}"#,
        (cpu(start) - before).as_secs_f64(),
        clock.elapsed().as_secs_f64(),
        checkpoints.live()
    );
    for _ in 0..4 {
        counter.fill(keys, |_| ())?;
        let before = cpu(start);
        let number = checkpoints.freeze(&mut counter.table)?;
        let frozen = cpu(start);
        let mut records = Vec::new();
        let progress = counter.table.copy_out(&mut || true, &mut records)?;
        let copied = cpu(start);
        checkpoints.store(&mut counter.table, number, &mut records, progress)?;
        println!(
            r#"{{"measure":"checkpoint_of_all","freeze_ms":{:.3},"copy_ms":{:.3},"store_ms":{:.3},"bytes":{}}}"#,
            (frozen - before).as_secs_f64() * 1e3,
            (copied - frozen).as_secs_f64() * 1e3,
            (cpu(start) - copied).as_secs_f64() * 1e3,
            progress.delta_bytes
        );
    }
    let range = if hot > 0 { keys / 100 } else { keys };
    let slice = Duration::from_micros(settings.get("slice_us", 1000));
    for every in [0, 10_000, 1_000] {
        if settings.get("every", every) == every {
            let seconds = seconds.max(every * 2 / 1000);
            let plan = Phase { length: Duration::from_secs(seconds), every_ms: every, range, slice };
            phase(&mut counter, &mut checkpoints, &plan)?;
        }
    }
    Ok(())
}

/// How a phase of `keyed` goes.
struct Phase {
    length: Duration,
    /// Time between checkpoints; 0 for none.
    every_ms: u64,
    /// Keys are drawn below this.
    range: u64,
    /// How long pages are copied out between two batches.
    slice: Duration,
}

/// Batches for a while, with a checkpoint every so often that is copied out between them. Its
/// file is written by another thread, as in the program.
fn phase(counter: &mut Counter, checkpoints: &mut Checkpoints<'_>, plan: &Phase) -> Done<()> {
    let Phase { length, every_ms, range, slice } = *plan;
    let every = Duration::from_millis(if every_ms == 0 { u64::MAX / 2 } else { every_ms });
    let mut event = 0;
    let (mut keys, mut values) = (vec![0; BATCH], vec![0; BATCH]);
    let (mut batches, mut freezes, mut bytes, mut worked) = (Vec::new(), Vec::new(), Vec::new(), Duration::ZERO);
    let mut copying: Option<(FileNumber, Vec<Record>, Progress)> = None;
    let (start, mut due) = (Instant::now(), every / 2);
    while start.elapsed() < length {
        for (key, value) in keys.iter_mut().zip(&mut values) {
            (*key, *value) = (((u128::from(splitmix64(event)) * u128::from(range)) >> 64) as u64, event);
            event += 1;
        }
        let (began, clock) = (cpu(start), Instant::now());
        counter.add(&keys, &values)?;
        batches.push(clock.elapsed());
        if copying.is_none() && start.elapsed() > due {
            due += every;
            let clock = Instant::now();
            copying = Some((checkpoints.freeze(&mut counter.table)?, Vec::new(), Progress::default()));
            freezes.push(clock.elapsed());
        }
        if let Some((number, mut records, mut all)) = copying.take() {
            let clock = Instant::now();
            let progress = counter.table.copy_out(&mut || clock.elapsed() < slice, &mut records)?;
            worked += cpu(start).saturating_sub(began);
            all.delta_bytes += progress.delta_bytes;
            all.base_bytes += progress.base_bytes;
            if progress.pages_left > 0 {
                copying = Some((number, records, all));
            } else {
                bytes.push(checkpoints.store(&mut counter.table, number, &mut records, all)?);
            }
        } else {
            worked += cpu(start).saturating_sub(began);
        }
    }
    if let Some((number, mut records, _)) = copying {
        let progress = counter.table.copy_out(&mut || true, &mut records)?;
        checkpoints.store(&mut counter.table, number, &mut records, progress)?;
    }
    let micros = |list: &mut Vec<Duration>, part: f64| {
        list.sort_unstable();
        list.get(((list.len().max(1) - 1) as f64 * part) as usize).map_or(0.0, |took| took.as_secs_f64() * 1e6)
    };
    bytes.sort_unstable();
    println!(
        r#"{{"measure":"batches","checkpoint_ms":{every_ms},"rows_per_s":{:.0},"batch_us_p50":{:.0},"batch_us_p99":{:.0},"batch_us_max":{:.0},"freeze_us_p50":{:.0},"freeze_us_max":{:.0},"checkpoints":{},"bytes_p50":{},"live_bytes":{}}}"#,
        batches.len() as f64 * BATCH as f64 / worked.as_secs_f64(),
        micros(&mut batches, 0.5),
        micros(&mut batches, 0.99),
        micros(&mut batches, 1.0),
        micros(&mut freezes, 0.5),
        micros(&mut freezes, 1.0),
        bytes.len(),
        bytes.get(bytes.len() / 2).copied().unwrap_or(0),
        checkpoints.live()
    );
    Ok(())
}

fn compaction(settings: &Settings) -> Done<()> {
    let (keys, count, percent) =
        (settings.get("keys", 4_000_000), settings.get("checkpoints", 100), settings.get("percent", 5));
    let folder = tempfile::tempdir()?;
    let mut checkpoints = Checkpoints::new(folder.path())?;
    let mut counter = Counter::new(Table::new(options(None)));
    counter.fill(keys, |_| ())?;
    checkpoints.whole(&mut counter.table)?;
    let mut rng = Rng::seeded(settings.get("seed", 1));
    let (mut sizes, mut logical, mut live, mut files) = (Vec::new(), 0, 0, 0);
    for _ in 0..count {
        let mut left = keys * percent / 100;
        while left > 0 {
            let rows = left.min(BATCH as u64) as usize;
            let keys: Vec<u64> = (0..rows).map(|_| rng.below(keys)).collect();
            counter.add(&keys, &vec![3; rows])?;
            left -= rows as u64;
        }
        let (length, progress) = checkpoints.whole(&mut counter.table)?;
        logical += progress.changed_slots * 24;
        sizes.push(length);
        (live, files) = (checkpoints.live().max(live), checkpoints.files.len().max(files));
    }
    let full = full_image(&mut counter.table, &mut checkpoints)?;
    let uploaded: u64 = sizes.iter().sum();
    sizes.sort_unstable();
    println!(
        r#"{{"measure":"compaction","keys":{keys},"checkpoints":{count},"delta_bytes":{logical},"uploaded_bytes":{uploaded},"uploaded_over_delta":{:.3},"full_bytes":{full},"live_over_full_end":{:.3},"live_over_full_max":{:.3},"files_max":{files},"max_over_median":{:.2}}}"#,
        uploaded as f64 / logical as f64,
        checkpoints.live() as f64 / full as f64,
        live as f64 / full as f64,
        sizes[sizes.len() - 1] as f64 / sizes[sizes.len() / 2] as f64
    );
    verify(&checkpoints, counter)
}

/// Bytes of all pages written as bases.
fn full_image(table: &mut Table, checkpoints: &mut Checkpoints<'_>) -> Done<u64> {
    let number = FileNumber::new(CheckpointId(checkpoints.next), WorkerIndex(0));
    table.freeze(&FreezeOptions { number, rebase: &[], all: true })?;
    let progress = table.copy_out(&mut || true, &mut Vec::new())?;
    table.settle(Outcome::Failed)?;
    Ok(progress.base_bytes)
}

/// Restores from the files and compares totals.
fn verify(checkpoints: &Checkpoints<'_>, mut counter: Counter) -> Done<()> {
    let start = Instant::now();
    let before = cpu(start);
    let restore = Arc::new(Restore::new(checkpoints.source.clone(), checkpoints.parts())?);
    let mut table = Table::restoring(options(None), restore);
    table.load_next(&mut || true)?;
    let took = (cpu(start) - before).as_secs_f64();
    let mut restored = Counter::new(table);
    let right = restored.totals()? == counter.totals()?;
    println!(
        r#"{{"measure":"restored","keys":{},"files":{},"seconds":{took:.3},"keys_per_s":{:.0},"right":{right}}}"#,
        restored.table.len(),
        checkpoints.files.len(),
        restored.table.len() as f64 / took
    );
    if right { Ok(()) } else { Err("the restored table differs".into()) }
}

fn restore(settings: &Settings) -> Done<()> {
    let (keys, deltas) = (settings.get("keys", 10_000_000), settings.get("deltas", 10));
    let folder = tempfile::tempdir()?;
    let mut checkpoints = Checkpoints::new(folder.path())?;
    let mut counter = Counter::new(Table::new(options(None)));
    counter.fill(keys, |_| ())?;
    checkpoints.whole(&mut counter.table)?;
    let mut rng = Rng::seeded(5);
    for _ in 0..deltas {
        for _ in 0..keys / 20 / BATCH as u64 {
            let keys: Vec<u64> = (0..BATCH).map(|_| rng.below(keys)).collect();
            counter.add(&keys, &vec![3; BATCH])?;
        }
        checkpoints.whole(&mut counter.table)?;
    }
    // As after a crash: an empty page store, files taken in anew.
    let start = Instant::now();
    let store = Arc::new(PageStore::create(&folder.path().join("again"), StoreLimits::default())?);
    store.ingest(&checkpoints.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>())?;
    let ingested = start.elapsed().as_secs_f64();
    let source = PageSource::new(store, STORE);
    let mut first = Table::restoring(options(None), Arc::new(Restore::new(source.clone(), checkpoints.parts())?));
    first.load_group(77)?;
    println!(
        r#"{{"measure":"first_group","ingest_ms":{:.1},"first_rows_ms":{:.1}}}"#,
        ingested * 1e3,
        start.elapsed().as_secs_f64() * 1e3
    );
    checkpoints.source = source;
    verify(&checkpoints, counter)
}

/// Opens `pipelines` page stores, or one for all, with `files` small files each.
fn stores(settings: &Settings) -> Done<()> {
    let (pipelines, each) = (settings.get("pipelines", 300), settings.get("files", 5));
    let folder = tempfile::tempdir()?;
    let mut paths = Vec::new();
    for pipeline in 0..pipelines {
        for file in 0..each {
            let number = FileNumber::new(CheckpointId(file), WorkerIndex(0));
            let mut counter = Counter::new(Table::new(options(None)));
            counter.fill(1000, |_| ())?;
            counter.table.freeze(&FreezeOptions { number, rebase: &[], all: true })?;
            let mut records = Vec::new();
            counter.table.copy_out(&mut || true, &mut records)?;
            let path = folder.path().join(format!("{pipeline}-{file}.sst"));
            let store = StoreId(pipeline);
            write_file(
                &path,
                &mut records,
                FileOptions { store, number, compression: Compression::None, pace: &mut |_| {} },
            )?;
            paths.push(path);
        }
    }
    for one in [true, false] {
        let (before, start) = (rss()?, Instant::now());
        let mut open = Vec::new();
        if one {
            open.push(PageStore::create(&folder.path().join("one"), StoreLimits::default())?);
            for pipeline in paths.chunks(each as usize) {
                open[0].ingest(pipeline)?;
            }
        } else {
            for (pipeline, files) in paths.chunks(each as usize).enumerate() {
                let limits = StoreLimits { block_cache: Bytes(1 << 20), ..StoreLimits::default() };
                let store = PageStore::create(&folder.path().join(format!("own-{pipeline}")), limits)?;
                store.ingest(files)?;
                open.push(store);
            }
        }
        let took = start.elapsed().as_secs_f64();
        println!(
            r#"{{"measure":"stores","one":{one},"pipelines":{pipelines},"files_each":{each},"seconds":{took:.3},"rss_mb":{:.1},"open_descriptors":{}}}"#,
            (rss()? - before) as f64 / 1e6,
            std::fs::read_dir("/proc/self/fd")?.count()
        );
    }
    Ok(())
}

/// Time on a processor of this thread, so that other load on the machine does not count; since
/// the start where the system does not tell.
fn cpu(start: Instant) -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
    nanos.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Resident memory in bytes; 0 where the system does not tell.
fn rss() -> Done<i64> {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return Ok(0) };
    Ok(text.split(' ').nth(1).unwrap_or("0").parse::<i64>()? * 4096)
}
