//! Values against what they are said to be, and the source against the conformance suite.

use super::*;
use crate::conformance::{Then, check_resumes, drain, read_all, settings};
use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, Schema, TimestampMicrosecondType, TimestampSecondType};
use highwater_core::{ManualClock, splitmix64};
use proptest::prelude::*;

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>(),
    ))
}

fn given(entries: &[(&str, &str)]) -> Settings {
    settings(NAME, OPTIONS, entries).expect("known options")
}

fn try_datagen(columns: &[(&str, DataType)], entries: &[(&str, &str)]) -> Result<Datagen> {
    Datagen::new(&settings(NAME, OPTIONS, entries)?, Some(schema(columns)), Arc::new(ManualClock::default()))
}

fn datagen(columns: &[(&str, DataType)], entries: &[(&str, &str)]) -> Datagen {
    try_datagen(columns, entries).expect("a source")
}

fn longs(rows: &RecordBatch, place: usize) -> Vec<i64> {
    rows.column(place).as_primitive::<Int64Type>().values().to_vec()
}

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

#[test]
fn keys_are_visited_once_and_then_at_random() {
    let columns = [("k", DataType::Int64), ("v", DataType::Int64)];
    let entries = [
        ("fields.k.kind", "keyed"),
        ("fields.k.keys", "1_000"),
        ("fields.k.hot", "10"),
        ("fields.v.kind", "event_number"),
        ("datagen.rows", "5000"),
        ("datagen.split.num", "3"),
    ];
    let rows = read_all(&datagen(&columns, &entries));
    assert_eq!(rows.num_rows(), 5000);
    for (key, number) in longs(&rows, 0).into_iter().zip(longs(&rows, 1)) {
        let expected = if number < 1000 { number as u64 } else { splitmix64(number as u64) % 100 };
        assert_eq!(key as u64, expected, "event {number}");
    }
    let mut numbers = longs(&rows, 1);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
}

#[test]
fn a_sequence_ends_the_source() {
    let columns = [("a", DataType::Int32), ("b", DataType::Float64)];
    let entries = [
        ("fields.a.kind", "sequence"),
        ("fields.a.start", "-2"),
        ("fields.a.end", "2"),
        ("fields.b.kind", "sequence"),
        ("fields.b.start", "1.5"),
    ];
    let rows = read_all(&datagen(&columns, &entries));
    assert_eq!(rows.column(0).as_primitive::<Int32Type>().values(), &[-2, -1, 0, 1, 2]);
    assert_eq!(rows.column(1).as_primitive::<Float64Type>().values(), &[1.5, 2.5, 3.5, 4.5, 5.5]);
}

#[test]
fn random_values_keep_their_bounds() {
    let columns = [
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("s", DataType::Utf8),
        ("t", DataType::Timestamp(TimeUnit::Second, None)),
        ("b", DataType::Boolean),
        ("j", DataType::Int64),
    ];
    let entries = [
        ("fields.i.min", "-3"),
        ("fields.i.max", "3"),
        ("fields.f.min", "0.5"),
        ("fields.f.max", "0.75"),
        ("fields.s.length", "17"),
        ("fields.t.max_past", "2h"),
        ("fields.t.basetime", "1_000_000_000_000"),
        ("datagen.rows", "10_000"),
        ("fields.j.min", "-3"),
        ("fields.j.max", "3"),
    ];
    let rows = read_all(&datagen(&columns, &entries));
    let mut seen = longs(&rows, 0);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (-3..=3).collect::<Vec<_>>());
    assert!(rows.column(1).as_primitive::<Float64Type>().values().iter().all(|f| (0.5..0.75).contains(f)));
    assert!(rows.column(2).as_string::<i32>().iter().flatten().all(|s| s.len() == 17));
    let times = rows.column(3).as_primitive::<TimestampSecondType>().values();
    assert!(times.iter().all(|t| (1_000_000_000 - 7200..=1_000_000_000).contains(t)));
    let heads = rows.column(4).as_boolean().true_count();
    assert!((4_500..5_500).contains(&heads));
    assert_ne!(longs(&rows, 0), longs(&rows, 5), "columns differ though their options do not");
}

#[test]
fn the_whole_range_of_an_integer() {
    let entries =
        [("fields.i.min", "-9223372036854775808"), ("fields.i.max", "9223372036854775807"), ("datagen.rows", "1000")];
    let values = longs(&read_all(&datagen(&[("i", DataType::Int64)], &entries)), 0);
    assert!(values.iter().any(|i| *i > i64::MAX / 2) && values.iter().any(|i| *i < i64::MIN / 2));
}

#[test]
fn times() {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(50));
    let entries = [
        ("fields.e.kind", "event_time"),
        ("fields.e.interval", "250us"),
        ("fields.e.basetime", "7"),
        ("fields.n.kind", "now"),
    ];
    let source = Datagen::new(&given(&entries), Some(schema(&[("e", MICROS), ("n", MICROS)])), clock.clone());
    let mut reader = source.expect("a source").open("0/1", None).expect("opens");
    clock.advance(Duration::from_secs(1));
    let Polled::Rows(rows) = reader.poll(3).expect("polls") else { panic!("rows") };
    assert_eq!(rows.column(0).as_primitive::<TimestampMicrosecondType>().values(), &[7_000, 7_250, 7_500]);
    assert_eq!(rows.column(1).as_primitive::<TimestampMicrosecondType>().values(), &[51_000_000; 3]);
}

#[test]
fn random_times_do_not_move_in_a_replay() {
    let clock = Arc::new(ManualClock::default());
    let open = |offset: Option<&Offset>| {
        clock.advance(Duration::from_secs(100_000));
        let source = Datagen::new(&given(&[]), Some(schema(&[("t", MICROS)])), clock.clone());
        source.expect("a source").open("0/1", offset).expect("opens")
    };
    let mut reader = open(None);
    let offset = reader.offset();
    let mut first = || match reader.poll(10).expect("polls") {
        Polled::Rows(rows) => rows,
        other => panic!("{other:?}"),
    };
    let before = first();
    let Polled::Rows(again) = open(Some(&offset)).poll(10).expect("polls") else { panic!("rows") };
    assert_eq!(before, again);
}

#[test]
fn rows_come_when_they_are_due() {
    let clock = Arc::new(ManualClock::default());
    let entries = [("datagen.rows.per.second", "100"), ("datagen.rows", "150")];
    let source = Datagen::new(&given(&entries), Some(schema(&[("i", DataType::Int64)])), clock.clone());
    let mut reader = source.expect("a source").open("0/1", None).expect("opens");
    assert!(matches!(reader.poll(1000), Ok(Polled::Idle(wait)) if wait == Duration::from_millis(30)));
    clock.advance(Duration::from_secs(1));
    let (batches, then) = drain(reader.as_mut(), &[1000]);
    assert_eq!((batches[0].num_rows(), then), (100, Then::Waits));
    clock.advance(Duration::from_secs(1));
    let (batches, then) = drain(reader.as_mut(), &[1000]);
    assert_eq!((batches[0].num_rows(), then), (50, Then::Ended));
}

#[test]
fn statements_that_cannot_be_are_refused() {
    let message = |data_type: DataType, entries: &[(&str, &str)]| {
        try_datagen(&[("amount", data_type)], entries).expect_err("refused").to_string()
    };
    assert!(message(DataType::Int64, &[("fields.amuont.min", "1")]).ends_with("did you mean 'amount'?"));
    assert!(
        message(DataType::Int64, &[("fields.amount.kind", "keyed")]).contains("needs the option 'fields.amount.keys'")
    );
    assert!(message(DataType::Utf8, &[("fields.amount.kind", "sequence")]).contains("cannot be made so"));
    assert!(message(DataType::Int16, &[("fields.amount.max", "40000")]).contains("fits Int16"));
    assert!(
        message(DataType::Int64, &[("fields.amount.min", "5"), ("fields.amount.max", "4")]).contains("less than min")
    );
    let none = Datagen::new(&given(&[]), None, Arc::new(ManualClock::default()));
    assert!(none.expect_err("refused").to_string().contains("needs the columns to be declared"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn resuming_anywhere_gives_the_same(sizes in prop::collection::vec(1usize..300, 1..8), splits in 1usize..4) {
        let splits = splits.to_string();
        let columns = [("k", DataType::Int64), ("s", DataType::Utf8), ("f", DataType::Float32), ("b", DataType::Boolean)];
        let entries = [
            ("datagen.rows", "1000"),
            ("datagen.split.num", splits.as_str()),
            ("fields.k.kind", "keyed"),
            ("fields.k.keys", "300"),
        ];
        check_resumes(&datagen(&columns, &entries), &sizes);
    }
}
