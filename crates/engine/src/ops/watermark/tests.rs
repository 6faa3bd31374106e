//! What the keeper makes of what workers tell it, and which rows are late.

use super::*;
use arrow::array::TimestampMicrosecondArray;
use highwater_core::{KeyGroups, OperatorId};
use highwater_state::{KeyKind, TableId, TableOptions};

const DELAY: i64 = 10;

fn keeper() -> Keeper {
    let groups = KeyGroups::new(4).expect("a power of two");
    let id = TableId { operator: OperatorId(1), table: 0 };
    let owned = groups.owned_by(0, 1);
    let options = TableOptions { id, key: KeyKind::Bytes, words: KEEPER_WORDS, groups, owned, source: None };
    Keeper::new(&Watermark { time: 0, delay_us: DELAY }, Table::new(options))
}

fn times(times: &[Option<i64>]) -> Batch {
    let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.to_vec()));
    Batch::inserts(RecordBatch::try_from_iter([("ts", column)]).expect("one column"))
}

/// One epoch: what workers saw, and whether it is of a backfill.
fn epoch(keeper: &mut Keeper, all: &[(usize, i64, bool)]) -> Option<Mark> {
    for (worker, time, fills) in all {
        let told = seen(&times(&[None, Some(*time), Some(time - 5)]), 0, *worker, *fills).expect("times");
        keeper.apply(0, told.expect("a row has a time")).expect("applies");
    }
    let mut out = Vec::new();
    assert!(keeper.close(Instant::now(), &mut out).expect("closes"));
    assert!(out.len() <= 1, "one mark an epoch");
    out.first().map(Mark::of)
}

#[test]
fn it_follows_the_slowest_of_those_that_give_rows_and_never_goes_back() {
    let mut keeper = keeper();
    assert_eq!(epoch(&mut keeper, &[]), None);
    assert_eq!(epoch(&mut keeper, &[(0, 100, false)]), Some(Mark { before: NEVER, after: 90 }));
    assert_eq!(epoch(&mut keeper, &[(0, 300, false), (1, 150, false)]), Some(Mark { before: 90, after: 140 }));
    // Worker 1 gives nothing and holds nothing back.
    assert_eq!(epoch(&mut keeper, &[(0, 200, false)]), Some(Mark { before: 140, after: 290 }));
    assert_eq!(epoch(&mut keeper, &[(1, 160, false)]), None);
    assert_eq!(epoch(&mut keeper, &[]), None);
}

#[test]
fn it_stands_still_during_a_backfill() {
    let mut keeper = keeper();
    assert_eq!(epoch(&mut keeper, &[(0, 500, true)]), None);
    assert_eq!(epoch(&mut keeper, &[(0, 400, true)]), None);
    assert_eq!(epoch(&mut keeper, &[(0, 300, false)]), Some(Mark { before: NEVER, after: 490 }));
}

#[test]
fn a_run_begins_with_the_mark_that_is_kept() {
    let mut before = keeper();
    let mark = epoch(&mut before, &[(0, 100, false)]).expect("a mark");
    // As after a restart: the same row, and nothing else is known.
    let mut after = Keeper::new(&Watermark { time: 0, delay_us: DELAY }, before.table);
    assert_eq!(epoch(&mut after, &[]), Some(Mark { before: mark.after, after: mark.after }));
    assert_eq!(epoch(&mut after, &[(0, 50, false)]), None);
}

#[test]
fn rows_before_the_watermark_are_late_and_those_without_a_time_never() {
    let rows = [Some(5), None, Some(9), Some(10), Some(11)];
    for watermark in [NEVER, 0, 5, 6, 10, 100] {
        let (kept, late) = on_time(times(&rows), 0, watermark).expect("times");
        let wanted: Vec<Option<i64>> =
            rows.iter().copied().filter(|time| time.is_none_or(|time| time >= watermark)).collect();
        assert_eq!(late, rows.len() - wanted.len());
        assert_eq!(times_of(&kept, 0).expect("times").iter().collect::<Vec<_>>(), wanted);
    }
    assert!(seen(&times(&[None]), 0, 0, false).expect("times").is_none());
}

#[test]
fn the_watermark_before_an_epoch_is_found_whatever_epochs_had_marks() {
    let mark = |before: i64, after: i64| Mark { before, after }.to_batch().expect("a mark");
    let mut marks = Marks::default();
    assert_eq!(marks.before(0), NEVER);
    // A run that goes on: the first mark tells what was before it.
    marks.take(1, &mark(7, 7));
    assert_eq!(marks.before(1), 7);
    marks.take(3, &mark(7, 20));
    marks.take(6, &mark(20, 30));
    assert_eq!([marks.before(2), marks.before(3), marks.before(4), marks.before(6)], [7, 7, 20, 20]);
    marks.pass(None);
    assert_eq!(marks.current, 30);
}
