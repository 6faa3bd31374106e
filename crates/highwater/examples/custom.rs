//! A source, a sink and a function of the program's own, and exactly-once across a crash.
//!
//! A feed of numbered readings goes through a view and into a ledger. The database is dropped in
//! mid-stream, as if the process had died, and opened again: the view is what recomputation gives,
//! and the ledger has each reading once. `cargo run --release -p highwater --example custom`

use highwater::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use highwater::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use highwater::connector::{
    Batch, DeliveryPermit, Error, Extent, Kind, Offset, OptionSpec, Polled, Result, Sink, SinkConnector, SinkRequest,
    Source, SourceConnector, SourceRequest, SplitReader, Target, check_source,
};
use highwater::{CallError, Config, Database, ScalarFunction, Volatility, same_rows};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const READINGS: i64 = 1_000_000;

const SCRIPT: &str = "
CREATE SOURCE reading WITH (connector = 'readings', count = 1000000, sensors = 50);
CREATE MATERIALIZED VIEW warmest AS
    SELECT sensor, count(*) AS readings, max(fahrenheit(celsius)) AS fahrenheit
    FROM reading GROUP BY sensor;
CREATE SINK ledger AS SELECT id, fahrenheit(celsius) AS fahrenheit FROM reading WITH (connector = 'ledger');
";

// ---- the source: two splits of readings that follow from their numbers alone -----------------------

/// `connector = 'readings'`.
#[derive(Debug)]
struct Readings;

impl SourceConnector for Readings {
    fn name(&self) -> &str {
        "readings"
    }

    fn options(&self) -> &[OptionSpec] {
        const OPTIONS: &[OptionSpec] = &[
            OptionSpec::new("count", Kind::COUNT, "How many readings there are.").required(),
            OptionSpec::new("sensors", Kind::COUNT, "From how many sensors.").or("10"),
        ];
        OPTIONS
    }

    fn source(&self, asked: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
        let option = |name| asked.settings.integer(name).expect("it is required or has a default");
        Ok(Arc::new(Feed { count: option("count"), sensors: option("sensors") }))
    }
}

#[derive(Clone, Debug)]
struct Feed {
    count: i64,
    sensors: i64,
}

impl Source for Feed {
    fn schema(&self) -> SchemaRef {
        let column = |name: &str, data_type| Field::new(name, data_type, false);
        let columns =
            [column("id", DataType::Int64), column("sensor", DataType::Int64), column("celsius", DataType::Float64)];
        Arc::new(Schema::new(columns.to_vec()))
    }

    fn splits(&self) -> Result<Vec<String>> {
        Ok(vec!["even".to_owned(), "odd".to_owned()])
    }

    fn extent(&self) -> Extent {
        Extent::Bounded
    }

    fn blocking(&self) -> bool {
        false
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        let first = if split == "odd" { 1 } else { 0 };
        let next = match offset {
            None => first,
            Some(offset) => offset.as_i64().ok_or_else(|| Error::data("readings", format!("no offset: {offset}")))?,
        };
        Ok(Box::new(Reader { feed: self.clone(), next, rests: false }))
    }
}

fn celsius(id: i64) -> f64 {
    (id * 31 % 500) as f64 / 10.0 - 10.0
}

/// An open split: its offset is the number of its next reading. It rests after each piece, so that
/// the stream has a middle to stop in.
struct Reader {
    feed: Feed,
    next: i64,
    rests: bool,
}

impl SplitReader for Reader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        if std::mem::take(&mut self.rests) {
            return Ok(Polled::Idle(Duration::from_millis(1)));
        }
        let ids: Vec<i64> = (self.next..self.feed.count).step_by(2).take(max_rows.min(500)).collect();
        let Some(last) = ids.last() else { return Ok(Polled::End) };
        (self.next, self.rests) = (last + 2, true);
        let sensors: Int64Array = ids.iter().map(|id| id * 7 % self.feed.sensors).collect();
        let celsius: Float64Array = ids.iter().map(|id| celsius(*id)).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(sensors), Arc::new(celsius)];
        let rows = RecordBatch::try_new(self.feed.schema(), columns);
        Ok(Polled::Rows(rows.map_err(|error| Error::data("readings", error))?))
    }

    fn offset(&self) -> Offset {
        self.next.into()
    }
}

// ---- the function ------------------------------------------------------------------------------------

/// `fahrenheit(celsius)`.
#[derive(Debug)]
struct Fahrenheit;

impl ScalarFunction for Fahrenheit {
    fn name(&self) -> &str {
        "fahrenheit"
    }

    fn arguments(&self) -> Vec<DataType> {
        vec![DataType::Float64]
    }

    fn returns(&self) -> DataType {
        DataType::Float64
    }

    fn volatility(&self) -> Volatility {
        Volatility::Immutable
    }

    fn call(&self, arguments: &[ArrayRef], _rows: usize) -> Result<ArrayRef, CallError> {
        let celsius = arguments[0].as_primitive::<Float64Type>();
        let fahrenheit: Float64Array = celsius.unary(|degrees| degrees * 1.8 + 32.0);
        Ok(Arc::new(fahrenheit))
    }
}

// ---- the sink: a file in which rows and fence change together ------------------------------------------

/// `connector = 'ledger'`, and its file. The lock makes a step of reading and replacing the file: two
/// workers deliver at the same time, and so may the database that was dropped.
#[derive(Clone, Debug)]
struct Ledger {
    file: PathBuf,
    lock: Arc<Mutex<()>>,
}

/// What the file holds.
#[derive(Default)]
struct Content {
    /// The newest checkpoint of each part that is in it.
    fence: BTreeMap<u32, u64>,
    readings: u64,
    /// All numbers and all degrees added up.
    ids: i64,
    fahrenheit: f64,
}

impl SinkConnector for Ledger {
    fn name(&self) -> &str {
        "ledger"
    }

    fn sink(&self, _: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(self.clone()))
    }
}

impl Sink for Ledger {
    fn check(&self, _: &SchemaRef, append_only: bool) -> Result<()> {
        if append_only { Ok(()) } else { Err(Error::Plan("the ledger only takes rows that stay".to_owned())) }
    }

    fn open(&self, _: &SchemaRef) -> Result<Box<dyn Target>> {
        Ok(Box::new(self.clone()))
    }
}

impl Target for Ledger {
    fn deliver(&mut self, permit: DeliveryPermit, part: u32, rows: &[Batch]) -> Result<()> {
        let _step = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: std::io::Error| Error::connector("ledger", error);
        let mut content = Content::read(&self.file).map_err(failed)?;
        let checkpoint = permit.checkpoint().0;
        if content.fence.get(&part).is_some_and(|newest| *newest >= checkpoint) {
            return Ok(());
        }
        for batch in rows {
            let (ids, degrees) = (batch.rows.column(0), batch.rows.column(1));
            content.readings += ids.len() as u64;
            content.ids += ids.as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
            content.fahrenheit += degrees.as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
        }
        content.fence.insert(part, checkpoint);
        content.replace(&self.file).map_err(failed)
    }
}

impl Content {
    /// The ledger as it is: a line of sums, then a line a part. An absent file is an empty ledger.
    fn read(file: &Path) -> std::io::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read?,
        };
        let damaged = || std::io::Error::other("the ledger is damaged");
        let mut numbers = text.split_whitespace();
        let mut next = || numbers.next().ok_or_else(damaged);
        let mut content = Self {
            readings: next()?.parse().map_err(|_| damaged())?,
            ids: next()?.parse().map_err(|_| damaged())?,
            fahrenheit: next()?.parse().map_err(|_| damaged())?,
            ..Self::default()
        };
        while let Ok(part) = next() {
            let checkpoint = next()?.parse().map_err(|_| damaged())?;
            content.fence.insert(part.parse().map_err(|_| damaged())?, checkpoint);
        }
        Ok(content)
    }

    /// Replaces the file as a whole: the old content or the new one, never half of each.
    fn replace(&self, file: &Path) -> std::io::Result<()> {
        let mut text = format!("{} {} {}\n", self.readings, self.ids, self.fahrenheit);
        for (part, checkpoint) in &self.fence {
            text.push_str(&format!("{part} {checkpoint}\n"));
        }
        let next = file.with_extension("new");
        std::fs::write(&next, text)?;
        std::fs::File::open(&next)?.sync_all()?;
        std::fs::rename(&next, file)
    }
}

// ---- the program -----------------------------------------------------------------------------------------

fn open(folder: &Path, ledger: &Ledger) -> highwater::Result<Database> {
    let mut config = Config::new(folder.join("data"));
    config.workers = Some(2);
    config.resume = true;
    config.checkpoints.interval = Some(Duration::from_millis(50));
    config.sources.push(Arc::new(Readings));
    config.sinks.push(Arc::new(ledger.clone()));
    config.functions.push(Arc::new(Fahrenheit));
    Database::open(config)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    check_source(&Feed { count: 10_000, sensors: 7 }, &[1, 10, 1000])?;
    let folder = std::env::temp_dir().join(format!("highwater-custom-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let ledger = Ledger { file: folder.join("ledger"), lock: Arc::default() };

    let database = open(&folder, &ledger)?;
    database.script(SCRIPT)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while Content::read(&ledger.file)?.readings == 0 {
        assert!(Instant::now() < deadline, "nothing is delivered");
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("dropped with {} readings in the ledger", Content::read(&ledger.file)?.readings);
    drop(database);

    let database = open(&folder, &ledger)?;
    database.script(SCRIPT)?;
    println!("went on with {} readings in the ledger", Content::read(&ledger.file)?.readings);
    database.execute("FLUSH")?;
    let compared = database.recompute("warmest")?;
    assert_eq!(same_rows(&compared.view.batches, &compared.recomputed.batches)?, None, "the view is as recomputed");
    assert_eq!(compared.view.count(), 50);
    database.shutdown()?;

    let content = Content::read(&ledger.file)?;
    println!("ended with {} readings in the ledger, fence {:?}", content.readings, content.fence);
    assert_eq!(content.readings, READINGS as u64, "each reading once");
    assert_eq!(content.ids, READINGS * (READINGS - 1) / 2, "and no other");
    let fahrenheit: f64 = (0..READINGS).map(|id| celsius(id) * 1.8 + 32.0).sum();
    assert!((content.fahrenheit - fahrenheit).abs() < 1e-6 * fahrenheit, "{} is not {fahrenheit}", content.fahrenheit);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
