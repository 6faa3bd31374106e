//! The events against the `nexmark` crate's own, and the source against the conformance suite.

use super::*;
use crate::conformance::{Then, check_resumes, drain, read, read_all, settings, try_source};
use ::nexmark::EventGenerator;
use ::nexmark::event::{Event, EventType};
use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use highwater_core::ManualClock;
use proptest::prelude::*;
use std::time::Duration;

const BASE_MS: u64 = 1_436_918_400_000;

fn given(entries: &[(&str, &str)]) -> Settings {
    settings(NAME, OPTIONS, entries).expect("known options")
}

fn nexmark(entries: &[(&str, &str)]) -> Nexmark {
    Nexmark::new(&given(entries), None, Arc::new(ManualClock::default())).expect("a source")
}

/// A row as the crate's event has it, each value as text.
fn of_event(event: Event) -> Vec<String> {
    let micros = |ms: u64| (ms * 1000).to_string();
    match event {
        Event::Person(p) => vec![
            p.id.to_string(),
            p.name,
            p.email_address,
            p.credit_card,
            p.city,
            p.state,
            micros(p.date_time),
            p.extra,
        ],
        Event::Auction(a) => vec![
            a.id.to_string(),
            a.item_name,
            a.description,
            a.initial_bid.to_string(),
            a.reserve.to_string(),
            micros(a.date_time),
            micros(a.expires),
            a.seller.to_string(),
            a.category.to_string(),
            a.extra,
        ],
        Event::Bid(b) => vec![
            b.auction.to_string(),
            b.bidder.to_string(),
            b.price.to_string(),
            b.channel,
            b.url,
            micros(b.date_time),
            b.extra,
        ],
    }
}

fn of_row(rows: &RecordBatch, row: usize) -> Vec<String> {
    let value = |column: &ArrayRef| match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        _ => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
    };
    rows.columns().iter().map(value).collect()
}

fn check_against_the_crate(table: &str, event_type: EventType, config: NexmarkConfig, entries: &[(&str, &str)]) {
    let config = NexmarkConfig { base_time: BASE_MS, ..config };
    let mut twin = EventGenerator::new(config).with_type_filter(event_type);
    let mut all = vec![("nexmark.table.type", table), ("nexmark.event.num", "100000")];
    all.extend(entries);
    let rows = read_all(&nexmark(&all));
    assert!(rows.num_rows() >= 2000);
    for row in 0..rows.num_rows() {
        let event = twin.next().expect("endless");
        assert_eq!(of_row(&rows, row), of_event(event), "{table} {row}");
    }
}

#[test]
fn events_are_those_of_the_crate() {
    for (table, event_type) in [("Person", EventType::Person), ("Auction", EventType::Auction), ("Bid", EventType::Bid)]
    {
        check_against_the_crate(table, event_type, NexmarkConfig::default(), &[]);
    }
}

#[test]
fn options_do_what_they_do_in_the_crate() {
    let config = NexmarkConfig {
        person_proportion: 2,
        auction_proportion: 5,
        bid_proportion: 13,
        hot_auction_ratio: 7,
        hot_bidder_ratio: 1,
        avg_bid_byte_size: 20,
        first_rate: 100,
        next_rate: 100,
        ..NexmarkConfig::default()
    };
    let entries = [
        ("nexmark.person.proportion", "2"),
        ("nexmark.auction.proportion", "5"),
        ("nexmark.bid.proportion", "13"),
        ("nexmark.hot.auction.ratio", "7"),
        ("nexmark.hot.bidder.ratio", "1"),
        ("nexmark.avg.bid.byte.size", "20"),
        ("nexmark.first.event.rate", "100"),
    ];
    for (table, event_type) in [("Person", EventType::Person), ("Auction", EventType::Auction), ("Bid", EventType::Bid)]
    {
        check_against_the_crate(table, event_type, config.clone(), &entries);
    }
}

#[test]
fn the_first_event_stays_what_it_is() {
    let rows = read_all(&nexmark(&[("nexmark.table.type", "person"), ("nexmark.event.num", "1")]));
    assert_eq!(
        of_row(&rows, 0)[..7],
        ["1000", "vicky noris", "yplkvgz@qbxfg.com", "7878 5821 1864 2539", "cheyenne", "az", "1436918400000000"]
    );
}

#[test]
fn the_combined_stream_is_the_crates() {
    let config = NexmarkConfig { base_time: BASE_MS, out_of_order_group_size: 30, ..NexmarkConfig::default() };
    let twin = EventGenerator::new(config);
    let rows = read_all(&nexmark(&[("nexmark.event.num", "3000"), ("nexmark.out.of.order.group.size", "30")]));
    let types = rows.column(0).as_primitive::<Int64Type>();
    for (row, event) in twin.take(rows.num_rows()).enumerate() {
        let of = match event.event_type() {
            EventType::Person => 1,
            EventType::Auction => 2,
            EventType::Bid => 3,
        };
        assert_eq!(types.value(row), of as i64 - 1);
        for place in 1..=3 {
            assert_eq!(rows.column(place).is_valid(row), place == of);
        }
        let inner = RecordBatch::from(rows.column(of).as_struct().slice(row, 1));
        assert_eq!(of_row(&inner, 0), of_event(event));
    }
}

#[test]
fn columns_left_out_change_nothing() {
    for table in ["Person", "Auction", "Bid"] {
        let entries = [("nexmark.table.type", table), ("nexmark.event.num", "5000")];
        let whole = read_all(&nexmark(&entries));
        for (place, field) in whole.schema().fields().iter().enumerate() {
            let declared: SchemaRef = Arc::new(Schema::new(vec![Arc::clone(field)]));
            let one = Nexmark::new(&given(&entries), Some(declared), Arc::new(ManualClock::default()));
            assert_eq!(read_all(&one.expect("a source")).column(0), whole.column(place), "{table} {}", field.name());
        }
    }
}

#[test]
fn what_is_not_read_changes_nothing_else() {
    let entries = [("nexmark.event.num", "3000")];
    let source = nexmark(&entries);
    let whole = read_all(&source);
    let fields = Read::Fields(["price".to_owned(), "url".to_owned()].into());
    let needed = source.reading(&[Read::Nothing, Read::Nothing, Read::Whole, fields]).expect("it makes less");
    let rows = read_all(needed.as_ref());
    assert_eq!((rows.num_rows(), rows.schema()), (whole.num_rows(), whole.schema()));
    assert_eq!(rows.column(0).null_count(), rows.num_rows());
    assert_eq!(rows.column(1).null_count(), rows.num_rows());
    assert_eq!(rows.column(2), whole.column(2));
    let (bids, all) = (rows.column(3).as_struct(), whole.column(3).as_struct());
    assert_eq!(bids.nulls(), all.nulls());
    for name in ["auction", "bidder", "price", "channel", "url", "date_time", "extra"] {
        let of = |bids: &StructArray| Arc::clone(bids.column_by_name(name).expect("a field"));
        match name {
            "price" | "url" => assert_eq!(&of(bids), &of(all)),
            _ => assert_eq!(of(bids).null_count(), rows.num_rows(), "{name}"),
        }
    }
}

#[test]
fn seeds_give_other_events_with_the_same_ids() {
    let entries = |seed| [("nexmark.table.type", "Person"), ("nexmark.event.num", "1000"), ("nexmark.seed", seed)];
    let (one, two) = (read_all(&nexmark(&entries("1"))), read_all(&nexmark(&entries("2"))));
    assert_eq!(one.column(0), two.column(0));
    assert_ne!(one.column(1), two.column(1));
    assert_eq!(one, read_all(&nexmark(&entries("1"))));
}

#[test]
fn a_rate_is_kept_over_all_splits() {
    let clock = Arc::new(ManualClock::default());
    let entries = [("nexmark.events.per.second", "1000"), ("nexmark.split.num", "2"), ("nexmark.table.type", "Bid")];
    let source = Nexmark::new(&given(&entries), None, clock.clone()).expect("a source");
    let mut readers: Vec<_> =
        source.splits().expect("splits").iter().map(|split| source.open(split, None).expect("opens")).collect();
    let mut rows = 0;
    for _ in 0..100 {
        clock.advance(Duration::from_millis(50));
        for reader in &mut readers {
            let (batches, then) = drain(reader.as_mut(), &[1000]);
            assert_eq!(then, Then::Waits);
            rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        }
    }
    // 46 of 50 events are bids.
    assert!((4_590..=4_600).contains(&rows), "{rows} bids in 5 s");
}

#[test]
fn real_time_survives_a_restart() {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(1_000_000));
    let entries =
        [("nexmark.use.real.time", "true"), ("nexmark.first.event.rate", "100"), ("nexmark.table.type", "Bid")];
    let open = |offset: Option<&Offset>| {
        let source = Nexmark::new(&given(&entries), None, clock.clone()).expect("a source");
        source.open("0/1", offset).expect("opens")
    };
    let mut reader = open(None);
    clock.advance(Duration::from_secs(1));
    let (before, _) = drain(reader.as_mut(), &[1000]);
    assert_eq!(before.iter().map(RecordBatch::num_rows).sum::<usize>(), 92);
    clock.advance(Duration::from_secs(1));
    let (after, _) = drain(open(Some(&reader.offset())).as_mut(), &[1000]);
    let times = after[0].column(5).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.len(), 92);
    // Event 104, the first bid of the third round, a hundredth of a second after each other.
    assert_eq!(times.value(0), 1_000_001_040_000);
}

#[test]
fn statements_that_cannot_be_are_refused() {
    let message = |entries: &[(&str, &str)], declared: Option<SchemaRef>| {
        try_source(NAME, entries, declared.as_ref(), None).expect_err("refused").to_string()
    };
    assert!(message(&[("nexmark.table.typ", "Bid")], None).contains("did you mean 'nexmark.table.type'"));
    assert!(message(&[("nexmark.us.cities", "a,,b")], None).contains("expected words with commas"));
    let declared: SchemaRef = Arc::new(Schema::new(vec![Field::new("prize", DataType::Int64, true)]));
    assert!(message(&[("nexmark.table.type", "Bid")], Some(declared)).starts_with("column 'prize' is not one of"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn numbers_and_indexes_are_inverse(index in 0u64..1_000_000, table in 0usize..4) {
        let table = [Some("Person"), Some("Auction"), Some("Bid"), None][table];
        let source = nexmark(&table.map(|table| ("nexmark.table.type", table)).into_iter().collect::<Vec<_>>());
        let number = source.number(index);
        prop_assert_eq!(source.indexes_below(number), index);
        prop_assert_eq!(source.indexes_below(number + 1), index + 1);
    }

    #[test]
    fn resuming_anywhere_gives_the_same(sizes in prop::collection::vec(1usize..200, 1..8), splits in 1usize..4) {
        let splits = splits.to_string();
        for table in ["Auction", "Bid"] {
            let entries = [
                ("nexmark.table.type", table),
                ("nexmark.event.num", "2000"),
                ("nexmark.split.num", splits.as_str()),
                ("nexmark.max.chunk.size", "90"),
            ];
            check_resumes(&nexmark(&entries), &sizes);
        }
    }
}

#[test]
fn splits_interleave_into_the_whole() {
    let entries =
        |splits| [("nexmark.table.type", "Bid"), ("nexmark.event.num", "1000"), ("nexmark.split.num", splits)];
    let whole = read_all(&nexmark(&entries("1")));
    let parts = nexmark(&entries("3"));
    for (index, split) in parts.splits().expect("splits").iter().enumerate() {
        let part = read(&parts, split, None, &[50]);
        for row in 0..part.num_rows() {
            assert_eq!(of_row(&part, row), of_row(&whole, index + 3 * row));
        }
    }
}
