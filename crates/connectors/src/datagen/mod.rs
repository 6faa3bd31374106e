//! The `datagen` source: made-up rows, with RisingWave's option names and some of our own.
//!
//! Owns the options and the reader; the values are made in [`columns`]. Invariant: a row depends on
//! its event number and the options alone (and on the base time that every offset carries), except
//! for columns of kind `now`; so a replay gives the same rows.

mod columns;

#[cfg(test)]
mod tests;

use crate::options::{Kind, OptionSpec, Settings, nearest};
use crate::pace::Pace;
use crate::share::{self, Share};
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use columns::{Modulo, Run, Times, Values};
use highwater_core::{Clock, WallMicros};
use highwater_engine::source::{Extent, Offset, Polled, Read, Source, SplitReader};
use highwater_engine::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "datagen";

/// Rows in a batch at most: columns of this length stay in the second-level cache.
const CHUNK: u64 = 65_536;

/// 2015-07-15: where event times begin unless told otherwise.
const BASE_MS: i64 = 1_436_918_400_000;

const KINDS: &[&str] = &["random", "sequence", "keyed", "event_number", "event_time", "now"];

/// The options of the `datagen` source.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("datagen.rows.per.second", Kind::Number, "At most so many rows a second over all splits; 0: as fast as they are taken.").or("0"),
    OptionSpec::new("datagen.rows", Kind::Integer { min: -1, max: i64::MAX }, "The source ends after so many rows over all splits; -1: never.").or("-1"),
    OptionSpec::new("datagen.split.num", Kind::Integer { min: 1, max: 4096 }, "Splits, which can be read in parallel; split i of n has the events i, i + n, and so on.").or("1"),
    OptionSpec::new("fields.<column>.kind", Kind::Choice(KINDS), "How the column's values follow from the event number i, which counts from 0 over all splits. random: between min and max. sequence: start + i; the source ends after `end`. keyed: every key from 0 to keys - 1 once, then splitmix64(i) modulo the hot part of them. event_number: i. event_time: basetime + i × interval. now: the time of emission, the only kind that a replay changes.").or("random"),
    OptionSpec::new("fields.<column>.start", Kind::Number, "The first number of a sequence.").or("0"),
    OptionSpec::new("fields.<column>.end", Kind::Number, "The last number of a sequence; without it the sequence does not end."),
    OptionSpec::new("fields.<column>.min", Kind::Number, "The least random number.").or("0"),
    OptionSpec::new("fields.<column>.max", Kind::Number, "The greatest random number.").or("32767"),
    OptionSpec::new("fields.<column>.seed", Kind::Integer { min: 0, max: i64::MAX }, "Other seeds give other random values; columns differ in any case.").or("0"),
    OptionSpec::new("fields.<column>.length", Kind::Integer { min: 0, max: 1 << 20 }, "Characters of a random text.").or("10"),
    OptionSpec::new("fields.<column>.max_past", Kind::Duration, "How far random times reach back before basetime.").or("1 day"),
    OptionSpec::new("fields.<column>.basetime", Kind::Integer { min: i64::MIN, max: i64::MAX }, "Milliseconds since 1970: random times lie before it (default: when the source was created), event times begin there (default: 2015-07-15)."),
    OptionSpec::new("fields.<column>.interval", Kind::Duration, "The distance of two event times.").or("1ms"),
    OptionSpec::new("fields.<column>.keys", Kind::Integer { min: 1, max: 1 << 62 }, "How many keys a keyed column has; needed for it."),
    OptionSpec::new("fields.<column>.hot", Kind::Number, "The percentage of the keys, the lowest, that events hit after all keys were visited once.").or("100"),
];

/// One column and its values.
#[derive(Clone, Debug)]
struct Column {
    data_type: DataType,
    values: Values,
    /// Nulls for as many rows as a batch has at most, if nobody reads it.
    unread: Option<ArrayRef>,
}

/// The source as a statement describes it.
#[derive(Clone, Debug)]
pub(crate) struct Datagen {
    schema: SchemaRef,
    columns: Vec<Column>,
    splits: u64,
    /// Rows of all splits after which it ends.
    limit: u64,
    extent: Extent,
    rate: Option<f64>,
    base: WallMicros,
    clock: Arc<dyn Clock>,
}

impl Datagen {
    pub(crate) fn new(settings: &Settings, declared: Option<SchemaRef>, clock: Arc<dyn Clock>) -> Result<Self> {
        let schema = declared
            .filter(|schema| !schema.fields().is_empty())
            .ok_or_else(|| Error::Plan("connector 'datagen' needs the columns to be declared".into()))?;
        check_column_names(settings, &schema)?;
        let rate = settings.number("datagen.rows.per.second").expect("it has a default");
        if rate < 0.0 {
            return Err(settings.refuse("datagen.rows.per.second", &rate.to_string(), "expected 0 or more"));
        }
        let rows = settings.integer("datagen.rows").and_then(|rows| u64::try_from(rows).ok());
        let mut limit = rows.unwrap_or(u64::MAX);
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (place, field) in schema.fields().iter().enumerate() {
            let described = ColumnOptions { settings, field, place };
            limit = limit.min(described.length()?);
            columns.push(Column { data_type: field.data_type().clone(), values: described.values()?, unread: None });
        }
        Ok(Self {
            schema,
            columns,
            splits: settings.count("datagen.split.num").expect("it has a default"),
            limit,
            // A column that runs out of numbers after more rows than anybody waits for is no end.
            extent: if rows.is_some() || settings.names().any(ends) { Extent::Bounded } else { Extent::Endless },
            rate: (rate > 0.0).then_some(rate),
            base: clock.wall(),
            clock,
        })
    }

    fn rows(&self, run: Run, base: WallMicros) -> Result<RecordBatch> {
        let times = Times { base_us: base.0, now_us: self.clock.wall().0 };
        let columns = self.columns.iter().map(|column| match &column.unread {
            Some(nulls) => Ok(nulls.slice(0, run.rows as usize)),
            None => column.values.make(run, times, &column.data_type),
        });
        columns
            .collect::<Result<Vec<_>, _>>()
            .and_then(|columns| RecordBatch::try_new(Arc::clone(&self.schema), columns))
            .map_err(|error| Error::data("source 'datagen'", error))
    }
}

/// Whether an option says where a column's sequence ends.
fn ends(option: &str) -> bool {
    option.starts_with("fields.") && option.ends_with(".end")
}

/// Every `fields.<column>.` option must be about a declared column.
fn check_column_names(settings: &Settings, schema: &SchemaRef) -> Result<()> {
    for name in settings.names() {
        let Some((column, _)) = name.strip_prefix("fields.").and_then(|rest| rest.rsplit_once('.')) else { continue };
        let mut columns = schema.fields().iter().map(|field| field.name().as_str());
        if !columns.any(|other| other == column) {
            let known = nearest(column, schema.fields().iter().map(|field| field.name().as_str()));
            let hint = known.map(|known| format!("; did you mean '{known}'?")).unwrap_or_default();
            return Err(Error::Plan(format!("option '{name}': there is no column '{column}'{hint}")));
        }
    }
    Ok(())
}

/// What the options say about one column.
struct ColumnOptions<'a> {
    settings: &'a Settings,
    field: &'a Field,
    place: usize,
}

impl ColumnOptions<'_> {
    fn name(&self, option: &str) -> String {
        format!("fields.{}.{option}", self.field.name())
    }

    fn kind(&self) -> &str {
        self.settings.text(&self.name("kind")).unwrap_or("random")
    }

    fn number(&self, option: &str, default: f64) -> f64 {
        self.settings.number(&self.name(option)).unwrap_or(default)
    }

    fn micros(&self, option: &str, default: Duration) -> u64 {
        self.settings.duration(&self.name(option)).unwrap_or(default).as_micros() as u64
    }

    fn basetime_us(&self) -> Option<i64> {
        self.settings.integer(&self.name("basetime")).map(|ms| ms.saturating_mul(1000))
    }

    fn wrong_type(&self) -> Error {
        let why = format!("columns of type {} cannot be made so", self.field.data_type());
        self.settings.refuse(&self.name("kind"), self.kind(), &why)
    }

    /// The greatest whole number that the column's type holds; `None` when it is not whole.
    fn greatest(&self) -> Option<i64> {
        match self.field.data_type() {
            DataType::Int8 => Some(i64::from(i8::MAX)),
            DataType::Int16 => Some(i64::from(i16::MAX)),
            DataType::Int32 => Some(i64::from(i32::MAX)),
            DataType::Int64 => Some(i64::MAX),
            _ => None,
        }
    }

    /// A number option of a whole column: whole, and within the type.
    fn whole(&self, option: &str, default: i64) -> Result<i64> {
        let Some(number) = self.settings.number(&self.name(option)) else { return Ok(default) };
        let greatest = self.greatest().unwrap_or(i64::MAX);
        let fits = number.fract() == 0.0 && number <= greatest as f64 && number >= -(greatest as f64) - 1.0;
        if fits {
            return Ok(number as i64);
        }
        let why = format!("expected a whole number that fits {}", self.field.data_type());
        Err(self.settings.refuse(&self.name(option), &number.to_string(), &why))
    }

    fn is_real(&self) -> bool {
        matches!(self.field.data_type(), DataType::Float32 | DataType::Float64 | DataType::Decimal128(..))
    }

    fn is_time(&self) -> bool {
        matches!(self.field.data_type(), DataType::Timestamp(..))
    }

    /// After how many rows the column has no more values.
    fn length(&self) -> Result<u64> {
        match self.kind() {
            "sequence" if self.greatest().is_some() => {
                let start = self.whole("start", 0)?;
                let end = self.whole("end", self.greatest().unwrap_or(i64::MAX))?;
                self.length_between(start as f64, end as f64)?;
                Ok(end.abs_diff(start).saturating_add(1))
            }
            "sequence" => self.length_between(self.number("start", 0.0), self.number("end", f64::INFINITY)),
            "event_number" | "keyed" => Ok(self.greatest().map_or(u64::MAX, |most| (most as u64).saturating_add(1))),
            _ => Ok(u64::MAX),
        }
    }

    fn length_between(&self, start: f64, end: f64) -> Result<u64> {
        if end < start {
            return Err(self.settings.refuse(&self.name("end"), &end.to_string(), "it lies before start"));
        }
        Ok(((end - start).floor() as u64).saturating_add(1))
    }

    fn values(&self) -> Result<Values> {
        match self.kind() {
            "event_number" if self.greatest().is_some() => Ok(Values::EventNumber),
            "sequence" if self.greatest().is_some() => Ok(Values::Sequence { start: self.whole("start", 0)? }),
            "sequence" if self.is_real() => Ok(Values::RealSequence { start: self.number("start", 0.0) }),
            "keyed" if self.greatest().is_some() => self.keyed(),
            "event_time" if self.is_time() => Ok(Values::EventTime {
                start_us: self.basetime_us().unwrap_or(BASE_MS * 1000),
                interval_us: self.micros("interval", Duration::from_millis(1)) as i64,
            }),
            "now" if self.is_time() => Ok(Values::Now),
            "random" => self.random(),
            _ => Err(self.wrong_type()),
        }
    }

    fn keyed(&self) -> Result<Values> {
        let keys = self.settings.count(&self.name("keys"));
        let keys =
            keys.ok_or_else(|| Error::Plan(format!("a keyed column needs the option '{}'", self.name("keys"))))?;
        if keys - 1 > self.greatest().unwrap_or(i64::MAX) as u64 {
            let why = format!("so many keys do not fit {}", self.field.data_type());
            return Err(self.settings.refuse(&self.name("keys"), &keys.to_string(), &why));
        }
        let hot = self.number("hot", 100.0);
        if !(hot > 0.0 && hot <= 100.0) {
            return Err(self.settings.refuse(&self.name("hot"), &hot.to_string(), "expected more than 0, up to 100"));
        }
        let hit = if hot == 100.0 { keys } else { (keys as f64 * hot / 100.0) as u64 };
        Ok(Values::Keyed { keys, hot: Modulo::new(hit.clamp(1, keys)) })
    }

    fn random(&self) -> Result<Values> {
        let mix = columns::mix(self.place, self.settings.count(&self.name("seed")).unwrap_or(0));
        let backwards = |max: String| self.settings.refuse(&self.name("max"), &max, "it is less than min");
        match self.field.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                let most = self.greatest().unwrap_or(i64::MAX);
                let (min, max) = (self.whole("min", 0)?, self.whole("max", most.min(32_767))?);
                if max < min {
                    return Err(backwards(max.to_string()));
                }
                Ok(Values::Random { min, range: max.abs_diff(min).wrapping_add(1), mix })
            }
            DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => {
                let (min, max) = (self.number("min", 0.0), self.number("max", 32_767.0));
                if max < min {
                    return Err(backwards(max.to_string()));
                }
                Ok(Values::RealRandom { min, span: max - min, mix })
            }
            DataType::Utf8 => {
                let length = self.settings.count(&self.name("length")).unwrap_or(10) as usize;
                Ok(Values::Text { length, mix })
            }
            DataType::Boolean => Ok(Values::Flag { mix }),
            DataType::Timestamp(
                TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
                _,
            )
            | DataType::Date32 => {
                let span_us = self.micros("max_past", Duration::from_secs(86_400));
                Ok(Values::Past { before_us: self.basetime_us(), span_us, mix })
            }
            _ => Err(self.wrong_type()),
        }
    }
}

impl Source for Datagen {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Result<Vec<String>> {
        Ok(share::names(self.splits))
    }

    fn extent(&self) -> Extent {
        self.extent
    }

    fn rows_per_second(&self) -> Option<f64> {
        self.rate
    }

    fn blocking(&self) -> bool {
        false
    }

    fn reading(&self, read: &[Read]) -> Option<Arc<dyn Source>> {
        let mut needed = self.clone();
        for ((read, field), column) in read.iter().zip(self.schema.fields()).zip(&mut needed.columns) {
            let is_unread = *read == Read::Nothing && field.is_nullable();
            column.unread = is_unread.then(|| new_null_array(&column.data_type, CHUNK as usize));
        }
        Some(Arc::new(needed))
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        let share = Share::open(NAME, split, self.splits, offset, self.base)?;
        let pace = self.rate.map(|rate| Pace::new(Arc::clone(&self.clock), share.next, rate));
        Ok(Box::new(Reader { source: self.clone(), share, pace, age: None }))
    }
}

struct Reader {
    source: Datagen,
    share: Share,
    pace: Option<Pace>,
    /// Of the oldest row of the last poll.
    age: Option<Duration>,
}

impl SplitReader for Reader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        let left = self.share.count_below(self.source.limit);
        if left == 0 {
            return Ok(Polled::End);
        }
        let due = self.pace.as_ref().map_or(u64::MAX, |pace| self.share.count_below(pace.due()));
        let rows = left.min(due).min(CHUNK).min(max_rows as u64);
        if rows == 0 {
            let wait = self.pace.as_ref().map(|pace| pace.wait(self.share.next)).unwrap_or_default();
            return Ok(Polled::Idle(wait));
        }
        let run = Run { first: self.share.next, step: self.share.step, rows };
        self.age = self.pace.as_ref().map(|pace| pace.age(run.first));
        let batch = self.source.rows(run, self.share.base)?;
        self.share.take(rows);
        Ok(Polled::Rows(batch))
    }

    fn offset(&self) -> Offset {
        self.share.offset()
    }

    fn age(&self) -> Option<Duration> {
        self.age
    }
}
