//! The `nexmark` source: the people, auctions and bids of the Nexmark benchmark, with RisingWave's
//! option names.
//!
//! Owns the options, the tables' columns and the reader; the events themselves are made in
//! [`events`]. Invariants: an event's content depends on its number and the options alone, and on
//! the base time that every offset carries; so a replay gives the same rows.

mod events;
mod words;

#[cfg(test)]
mod tests;

use crate::conform::Conform;
use crate::options::{Kind, OptionSpec, Settings};
use crate::pace::Pace;
use crate::share::{self, Share};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StructArray, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use events::{Events, Wanted};
use highwater_core::{Clock, WallMicros};
use highwater_engine::source::{Extent, Offset, Polled, Read, Source, SplitReader};
use highwater_engine::{Error, Result};
use nexmark::config::NexmarkConfig;
use std::sync::Arc;

const NAME: &str = "nexmark";

/// 2015-07-15, the day on which the event times of RisingWave's generator begin.
const BASE_TIME: &str = "1436918400000";

const ANY_COUNT: Kind = Kind::Integer { min: 0, max: 1 << 40 };
const COUNT: Kind = Kind::Integer { min: 1, max: 1 << 40 };

/// The options of the `nexmark` source.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("nexmark.table.type", Kind::Choice(&["Person", "Auction", "Bid"]), "Which events to give. Without it all of them come in one stream with the columns event_type (0 person, 1 auction, 2 bid), person, auction and bid."),
    OptionSpec::new("nexmark.split.num", Kind::Integer { min: 1, max: 4096 }, "Splits, which can be read in parallel; split i of n has the events i, i + n, and so on.").or("1"),
    OptionSpec::new("nexmark.event.num", Kind::Integer { min: -1, max: i64::MAX }, "The source ends after so many events of all types together; -1: never.").or("-1"),
    OptionSpec::new("nexmark.seed", Kind::Integer { min: 0, max: i64::MAX }, "Other seeds give other events; 0 gives those of the nexmark crate.").or("0"),
    OptionSpec::new("nexmark.events.per.second", Kind::Number, "At most so many events of all types a second over all splits; 0: as fast as they are taken.").or("0"),
    OptionSpec::new("nexmark.min.event.gap.in.ns", ANY_COUNT, "The same as a gap between two events in nanoseconds.").or("0"),
    OptionSpec::new("nexmark.max.chunk.size", COUNT, "The most rows in a batch.").or("16384"),
    OptionSpec::new("nexmark.use.real.time", Kind::Boolean, "Event times begin now and an event is given when its time has come. Without it they begin at nexmark.base.time.").or("false"),
    OptionSpec::new("nexmark.base.time", Kind::Integer { min: 0, max: 1 << 50 }, "The first event's time in milliseconds since 1970.").or(BASE_TIME),
    OptionSpec::new("nexmark.first.event.rate", COUNT, "Events per second of event time.").or("10000"),
    OptionSpec::new("nexmark.active.people", COUNT, "How many of the newest people bid and sell.").or("1000"),
    OptionSpec::new("nexmark.in.flight.auctions", COUNT, "How many of the newest auctions get bids.").or("100"),
    OptionSpec::new("nexmark.out.of.order.group.size", COUNT, "In the combined stream, events of each group of so many come in mixed order.").or("1"),
    OptionSpec::new("nexmark.avg.person.byte.size", ANY_COUNT, "A person's average size in bytes; `extra` makes up for it.").or("200"),
    OptionSpec::new("nexmark.avg.auction.byte.size", ANY_COUNT, "An auction's average size in bytes.").or("500"),
    OptionSpec::new("nexmark.avg.bid.byte.size", ANY_COUNT, "A bid's average size in bytes.").or("100"),
    OptionSpec::new("nexmark.hot.seller.ratio", COUNT, "All but one of so many auctions are a hot seller's.").or("4"),
    OptionSpec::new("nexmark.hot.auction.ratio", COUNT, "All but one of so many bids are for a hot auction.").or("2"),
    OptionSpec::new("nexmark.hot.bidder.ratio", COUNT, "All but one of so many bids are a hot bidder's.").or("4"),
    OptionSpec::new("nexmark.hot.channel.ratio", COUNT, "All but one of so many bids come through a hot channel.").or("2"),
    OptionSpec::new("nexmark.num.categories", COUNT, "How many categories auctions have.").or("5"),
    OptionSpec::new("nexmark.auction.id.lead", ANY_COUNT, "Bids may be for so many auctions that are yet to come.").or("10"),
    OptionSpec::new("nexmark.person.id.lead", ANY_COUNT, "So many people who are yet to come may bid and sell.").or("10"),
    OptionSpec::new("nexmark.person.proportion", COUNT, "People in each round of events.").or("1"),
    OptionSpec::new("nexmark.auction.proportion", COUNT, "Auctions in each round of events.").or("3"),
    OptionSpec::new("nexmark.bid.proportion", COUNT, "Bids in each round of events.").or("46"),
    OptionSpec::new("nexmark.first.auction.id", ANY_COUNT, "The first auction's id.").or("1000"),
    OptionSpec::new("nexmark.first.person.id", ANY_COUNT, "The first person's id.").or("1000"),
    OptionSpec::new("nexmark.first.category.id", ANY_COUNT, "The first category's id.").or("10"),
    OptionSpec::new("nexmark.us.states", Kind::Text, "States, with commas between them."),
    OptionSpec::new("nexmark.us.cities", Kind::Text, "Cities, with commas between them."),
    OptionSpec::new("nexmark.first.names", Kind::Text, "First names, with commas between them."),
    OptionSpec::new("nexmark.last.names", Kind::Text, "Last names, with commas between them."),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Person,
    Auction,
    Bid,
    /// All three in one stream.
    Combined,
}

fn native_fields(table: Table) -> Fields {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields: Vec<(&str, DataType)> = match table {
        Table::Person => vec![
            ("id", DataType::Int64),
            ("name", DataType::Utf8),
            ("email_address", DataType::Utf8),
            ("credit_card", DataType::Utf8),
            ("city", DataType::Utf8),
            ("state", DataType::Utf8),
            ("date_time", time),
            ("extra", DataType::Utf8),
        ],
        Table::Auction => vec![
            ("id", DataType::Int64),
            ("item_name", DataType::Utf8),
            ("description", DataType::Utf8),
            ("initial_bid", DataType::Int64),
            ("reserve", DataType::Int64),
            ("date_time", time.clone()),
            ("expires", time),
            ("seller", DataType::Int64),
            ("category", DataType::Int64),
            ("extra", DataType::Utf8),
        ],
        Table::Bid => vec![
            ("auction", DataType::Int64),
            ("bidder", DataType::Int64),
            ("price", DataType::Int64),
            ("channel", DataType::Utf8),
            ("url", DataType::Utf8),
            ("date_time", time),
            ("extra", DataType::Utf8),
        ],
        Table::Combined => vec![
            ("event_type", DataType::Int64),
            ("person", DataType::Struct(native_fields(Table::Person))),
            ("auction", DataType::Struct(native_fields(Table::Auction))),
            ("bid", DataType::Struct(native_fields(Table::Bid))),
        ],
    };
    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

/// The source as a statement describes it.
#[derive(Clone, Debug)]
pub(crate) struct Nexmark {
    events: Arc<Events>,
    table: Table,
    conform: Conform,
    splits: u64,
    /// Events of all types after which it ends.
    limit: u64,
    chunk: usize,
    /// Events of all types a second.
    rate: Option<f64>,
    real_time: bool,
    base: WallMicros,
    clock: Arc<dyn Clock>,
    unread: Unread,
}

/// What nobody reads.
#[derive(Clone, Debug)]
struct Unread {
    /// For each of the statement's columns nulls for a whole chunk, if nothing of it is read.
    columns: Vec<Option<ArrayRef>>,
    /// The fields of people, auctions and bids in one stream that are read.
    fields: [Wanted; 3],
}

impl Unread {
    fn nothing(columns: usize) -> Self {
        Self { columns: vec![None; columns], fields: [Wanted::ALL; 3] }
    }
}

impl Nexmark {
    pub(crate) fn new(settings: &Settings, declared: Option<SchemaRef>, clock: Arc<dyn Clock>) -> Result<Self> {
        let count = |name: &str| settings.count(name).expect("it has a default");
        let table = match settings.text("nexmark.table.type") {
            Some("Person") => Table::Person,
            Some("Auction") => Table::Auction,
            Some(_) => Table::Bid,
            None => Table::Combined,
        };
        let native: SchemaRef = Arc::new(Schema::new(native_fields(table)));
        let real_time = settings.flag("nexmark.use.real.time");
        let base = if real_time { clock.wall() } else { WallMicros(count("nexmark.base.time") as i64 * 1000) };
        let conform = Conform::new("source 'nexmark'", &native, declared)?;
        let unread = Unread::nothing(conform.places.len());
        Ok(Self {
            events: Arc::new(Events::new(config(settings)?, count("nexmark.seed"))),
            table,
            conform,
            unread,
            splits: count("nexmark.split.num"),
            limit: settings
                .integer("nexmark.event.num")
                .and_then(|limit| u64::try_from(limit).ok())
                .unwrap_or(u64::MAX),
            chunk: count("nexmark.max.chunk.size") as usize,
            rate: rate(settings)?,
            real_time,
            base,
            clock,
        })
    }

    fn pace(&self, share: &Share) -> Option<Pace> {
        if self.real_time {
            let rate = self.events.config().first_rate as f64;
            let elapsed = (self.clock.wall().0 - share.base.0).max(0) as f64 / 1e6;
            return Some(Pace::new(Arc::clone(&self.clock), (elapsed * rate) as u64, rate));
        }
        let from = self.number(share.next);
        self.rate.map(|rate| Pace::new(Arc::clone(&self.clock), from, rate))
    }

    /// Where this table's events stand within a round: after how many, and how many.
    fn place_in_round(&self) -> (u64, u64) {
        let config = self.events.config();
        let (people, auctions, bids) =
            (config.person_proportion as u64, config.auction_proportion as u64, config.bid_proportion as u64);
        match self.table {
            Table::Person => (0, people),
            Table::Auction => (people, auctions),
            Table::Bid => (people + auctions, bids),
            Table::Combined => (0, people + auctions + bids),
        }
    }

    /// The number among all events of this table's event `index`.
    fn number(&self, index: u64) -> u64 {
        let (before, count) = self.place_in_round();
        index / count * self.events.round() as u64 + before + index % count
    }

    /// How many of this table's events have numbers below `number`: the inverse of [`Self::number`].
    fn indexes_below(&self, number: u64) -> u64 {
        let (before, count) = self.place_in_round();
        let round = self.events.round() as u64;
        (number / round).saturating_mul(count).saturating_add((number % round).saturating_sub(before).min(count))
    }

    fn rows(&self, first: u64, rows: u64, base: WallMicros) -> Result<RecordBatch, ArrowError> {
        let numbers: Vec<usize> = (0..rows).map(|row| self.number(first + row * self.splits) as usize).collect();
        let want = Wanted::of(&self.read_places());
        let mut columns = match self.table {
            Table::Person => self.events.people(&numbers, base.0, want),
            Table::Auction => self.events.auctions(&numbers, base.0, want),
            Table::Bid => self.events.bids(&numbers, base.0, want),
            Table::Combined => self.combined(&numbers, base.0)?,
        };
        let chosen = self.conform.places.iter().zip(&self.unread.columns).map(|(&place, unread)| match unread {
            Some(nulls) => nulls.slice(0, rows as usize),
            None => columns[place].take().expect("columns are made once, if wanted"),
        });
        self.conform.batch(chosen.collect())
    }

    /// The places in the table of the columns that are read.
    fn read_places(&self) -> Vec<usize> {
        let all = self.conform.places.iter().zip(&self.unread.columns);
        all.filter(|(_, unread)| unread.is_none()).map(|(&place, _)| place).collect()
    }

    /// The combined stream's columns, each a struct that is null in events of the other types.
    fn combined(&self, numbers: &[usize], base_us: i64) -> Result<Vec<Option<ArrayRef>>, ArrowError> {
        let config = self.events.config();
        let group = config.out_of_order_group_size;
        let numbers: Vec<usize> = numbers.iter().map(|n| n / group * group + n * 953 % group).collect();
        let of = |number: usize| match number % self.events.round() {
            within if within < config.person_proportion => 0,
            within if within < config.person_proportion + config.auction_proportion => 1,
            _ => 2,
        };
        let types: Vec<i64> = numbers.iter().map(|&number| of(number)).collect();
        let mut columns: Vec<Option<ArrayRef>> = vec![Some(Arc::new(Int64Array::from(types.clone())))];
        let read = self.read_places();
        for (event_type, table) in [(0, Table::Person), (1, Table::Auction), (2, Table::Bid)] {
            let wanted = read.contains(&columns.len());
            let column = wanted.then(|| self.scattered(&numbers, &types, event_type, table, base_us)).transpose()?;
            columns.push(column);
        }
        Ok(columns)
    }

    fn scattered(
        &self,
        numbers: &[usize],
        types: &[i64],
        event_type: i64,
        table: Table,
        base_us: i64,
    ) -> Result<ArrayRef, ArrowError> {
        let own: Vec<usize> =
            numbers.iter().zip(types).filter(|(_, of)| **of == event_type).map(|(number, _)| *number).collect();
        let want = self.unread.fields[event_type as usize];
        let columns = match table {
            Table::Person => self.events.people(&own, base_us, want),
            Table::Auction => self.events.auctions(&own, base_us, want),
            Table::Bid | Table::Combined => self.events.bids(&own, base_us, want),
        };
        let places: UInt32Array = types
            .iter()
            .scan(0, |next, of| {
                let is_own = *of == event_type;
                let place = *next;
                *next += u32::from(is_own);
                Some(is_own.then_some(place))
            })
            .collect();
        let fields = native_fields(table);
        let column = |(field, column): (&FieldRef, Option<ArrayRef>)| match column {
            Some(column) => take(&column, &places, None),
            None => Ok(new_null_array(field.data_type(), places.len())),
        };
        let columns: Vec<ArrayRef> = fields.iter().zip(columns).map(column).collect::<Result<_, _>>()?;
        let nulls = places.nulls().cloned();
        Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, places.len())?))
    }
}

fn rate(settings: &Settings) -> Result<Option<f64>> {
    let rate = settings.number("nexmark.events.per.second").expect("it has a default");
    if rate < 0.0 {
        return Err(settings.refuse("nexmark.events.per.second", &rate.to_string(), "expected 0 or more"));
    }
    let gap = settings.count("nexmark.min.event.gap.in.ns").expect("it has a default");
    let by_gap = if gap == 0 { f64::INFINITY } else { 1e9 / gap as f64 };
    let least = if rate == 0.0 { by_gap } else { rate.min(by_gap) };
    Ok(least.is_finite().then_some(least))
}

fn config(settings: &Settings) -> Result<NexmarkConfig> {
    let count = |name: &str| settings.count(name).expect("it has a default") as usize;
    let default = NexmarkConfig::default();
    let words = |name: &str, default: Vec<String>| {
        let Some(list) = settings.text(name) else { return Ok(default) };
        let words: Vec<String> = list.split(',').map(|word| word.trim().to_owned()).collect();
        match words.iter().any(String::is_empty) {
            true => Err(settings.refuse(name, list, "expected words with commas between them")),
            false => Ok(words),
        }
    };
    Ok(NexmarkConfig {
        active_people: count("nexmark.active.people"),
        in_flight_auctions: count("nexmark.in.flight.auctions"),
        out_of_order_group_size: count("nexmark.out.of.order.group.size"),
        avg_person_byte_size: count("nexmark.avg.person.byte.size"),
        avg_auction_byte_size: count("nexmark.avg.auction.byte.size"),
        avg_bid_byte_size: count("nexmark.avg.bid.byte.size"),
        hot_seller_ratio: count("nexmark.hot.seller.ratio"),
        hot_auction_ratio: count("nexmark.hot.auction.ratio"),
        hot_bidder_ratio: count("nexmark.hot.bidder.ratio"),
        hot_channel_ratio: count("nexmark.hot.channel.ratio"),
        num_categories: count("nexmark.num.categories"),
        auction_id_lead: count("nexmark.auction.id.lead"),
        person_id_lead: count("nexmark.person.id.lead"),
        person_proportion: count("nexmark.person.proportion"),
        auction_proportion: count("nexmark.auction.proportion"),
        bid_proportion: count("nexmark.bid.proportion"),
        first_auction_id: count("nexmark.first.auction.id"),
        first_person_id: count("nexmark.first.person.id"),
        first_category_id: count("nexmark.first.category.id"),
        first_rate: count("nexmark.first.event.rate"),
        next_rate: count("nexmark.first.event.rate"),
        us_states: words("nexmark.us.states", default.us_states.clone())?,
        us_cities: words("nexmark.us.cities", default.us_cities.clone())?,
        first_names: words("nexmark.first.names", default.first_names.clone())?,
        last_names: words("nexmark.last.names", default.last_names.clone())?,
        ..default
    })
}

impl Source for Nexmark {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.conform.schema)
    }

    fn splits(&self) -> Result<Vec<String>> {
        Ok(share::names(self.splits))
    }

    fn extent(&self) -> Extent {
        if self.limit == u64::MAX { Extent::Endless } else { Extent::Bounded }
    }

    fn rows_per_second(&self) -> Option<f64> {
        if self.real_time { Some(self.events.config().first_rate as f64) } else { self.rate }
    }

    fn blocking(&self) -> bool {
        false
    }

    fn reading(&self, read: &[Read]) -> Option<Arc<dyn Source>> {
        let native = native_fields(self.table);
        let mut unread = Unread::nothing(read.len());
        let declared = self.conform.schema.fields().iter().zip(&self.conform.places);
        for ((read, nulls), (declared, &place)) in read.iter().zip(&mut unread.columns).zip(declared) {
            let own = native[place].data_type();
            if *read == Read::Nothing && declared.is_nullable() {
                *nulls = Some(new_null_array(own, self.chunk));
            }
            // Fields that are declared otherwise are found by their names: all are made.
            if let (DataType::Struct(fields), true) = (own, own == declared.data_type()) {
                let fields = fields.iter().enumerate().filter(|(_, field)| read.has(field.name()));
                let places: Vec<usize> = fields.map(|(place, _)| place).collect();
                unread.fields[place - 1] = Wanted::of(&places);
            }
        }
        Some(Arc::new(Self { unread, ..self.clone() }))
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        let share = Share::open(NAME, split, self.splits, offset, self.base)?;
        Ok(Box::new(Reader { pace: self.pace(&share), share, source: self.clone() }))
    }
}

struct Reader {
    source: Nexmark,
    share: Share,
    pace: Option<Pace>,
}

impl SplitReader for Reader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        let left = self.share.count_below(self.source.indexes_below(self.source.limit));
        if left == 0 {
            return Ok(Polled::End);
        }
        let due = match &self.pace {
            Some(pace) => self.share.count_below(self.source.indexes_below(pace.due())),
            None => u64::MAX,
        };
        let rows = left.min(due).min(max_rows.min(self.source.chunk) as u64);
        if rows == 0 {
            let next = self.source.number(self.share.next);
            let wait = self.pace.as_ref().map(|pace| pace.wait(next)).unwrap_or_default();
            return Ok(Polled::Idle(wait));
        }
        let batch = self
            .source
            .rows(self.share.next, rows, self.share.base)
            .map_err(|error| Error::data("source 'nexmark'", error))?;
        self.share.take(rows);
        Ok(Polled::Rows(batch))
    }

    fn offset(&self) -> Offset {
        self.share.offset()
    }
}
