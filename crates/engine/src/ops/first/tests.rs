//! The first rows of groups against sorting all rows after each epoch.

use super::*;
use crate::ops::gathered::ROW_WORDS;
use crate::ops::gathered::tests::{Disk, in_memory};
use crate::ops::grouping::{Grouping, NullKeys, row_codec};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_core::Rng;
use std::sync::Arc;
use std::time::Duration;

/// Group, what it is ordered by descending, and another column.
type Row = [Option<i64>; 3];
type Rows = BTreeMap<Row, i64>;

const RANKINGS: [Ranking; 3] = [Ranking::RowNumber, Ranking::Rank, Ranking::DenseRank];

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["k", "v", "x"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn first(gathered: Gathered, shape: &Shape) -> First {
    let expr: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 1));
    let order = vec![SortKey { expr, options: SortOptions { descending: true, nulls_first: false } }];
    let codec = row_codec(&schema()).expect("a codec");
    let plan = plan::First { keys: Vec::new(), order, rows: shape.most, ranking: shape.ranking };
    First::new(gathered, schema(), codec, &plan, shape.inserts_only).expect("an order")
}

fn add(rows: &mut Rows, row: Row, weight: i64) {
    let count = rows.entry(row).or_default();
    *count += weight;
    assert!(*count >= 0, "what goes was there: {row:?}");
    if *count == 0 {
        rows.remove(&row);
    }
}

/// By sorting: greater values first, nulls last, then by the row, in which nulls come first.
fn expected(rows: &Rows, shape: &Shape) -> Rows {
    let most = shape.most as i64;
    let mut groups: BTreeMap<Option<i64>, Vec<(Row, i64)>> = BTreeMap::new();
    for (row, count) in rows {
        groups.entry(row[0]).or_default().push((*row, *count));
    }
    let mut all = Rows::new();
    for group in groups.values_mut() {
        group.sort_by_key(|(row, _)| (row[1].is_none(), row[1].map(std::cmp::Reverse), *row));
        // Numbers from 0 on.
        let (mut number, mut rank, mut place, mut value) = (0, 0, -1, None);
        for (row, count) in group.iter() {
            if value.replace(row[1]) != Some(row[1]) {
                (rank, place) = (number, place + 1);
            }
            let given = match shape.ranking {
                Ranking::RowNumber => (most - number).clamp(0, *count),
                Ranking::Rank if rank < most => *count,
                Ranking::DenseRank if place < most => *count,
                _ => 0,
            };
            if given > 0 {
                all.insert(*row, given);
            }
            number += count;
        }
    }
    all
}

struct Shape {
    most: usize,
    ranking: Ranking,
    inserts_only: bool,
    changes: u64,
    /// How many values there are to order by: the fewer, the more ties.
    values: u64,
}

fn epoch(first: &mut First, rng: &mut Rng, shape: &Shape, rows: &mut Rows, output: &mut Rows) {
    let mut steps = Vec::new();
    for _ in 0..rng.below(shape.changes) {
        let present: Vec<Row> = rows.keys().copied().collect();
        let (row, weight) = if !shape.inserts_only && rng.below(5) < 2 && !present.is_empty() {
            (present[rng.below(present.len() as u64) as usize], -1)
        } else {
            let value = |rng: &mut Rng, of: u64| Some(rng.below(of) as i64).filter(|value| *value > 0);
            ([value(rng, 4), value(rng, shape.values), value(rng, 3)], 1 + rng.below(2) as i64)
        };
        add(rows, row, weight);
        steps.push((row, weight));
    }
    steps.reverse();
    let column = |at: usize| Arc::new(steps.iter().map(|(row, _)| row[at]).collect::<Int64Array>()) as ArrayRef;
    let weights: Int64Array = steps.iter().map(|(_, weight)| Some(*weight)).collect();
    let batch = RecordBatch::try_new(schema(), (0..3).map(column).collect()).expect("three columns");
    let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
    let grouping = Grouping::new(&[key], &schema(), NullKeys::Group).expect("keys");
    for part in grouping.apply(&Batch::weighted(batch, weights)).expect("keys") {
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(first.load_for(0, &part, deadline).expect("loads"));
        first.apply(0, part).expect("applies");
    }
    let mut out = Vec::new();
    // Each slice is a step.
    while !first.close(Instant::now(), &mut out).expect("closes") {}
    let mut changed = BTreeMap::new();
    for batch in &out {
        for at in 0..batch.len() {
            let column = |column: usize| {
                let numbers = batch.rows.column(column).as_primitive::<Int64Type>();
                numbers.is_valid(at).then(|| numbers.value(at))
            };
            let row: Row = std::array::from_fn(column);
            assert_ne!(batch.weight(at), 0, "changes are consolidated");
            assert!(changed.insert(row, batch.weight(at)).is_none(), "one change a row");
        }
    }
    for (row, weight) in changed {
        add(output, row, weight);
    }
    assert_eq!(*output, expected(rows, shape));
}

#[test]
fn first_rows_agree_with_sorting_all() {
    for seed in 0..48 {
        let mut rng = Rng::seeded(seed);
        let (ranking, most) = (RANKINGS[seed as usize % 3], [1, 2, 5, 40][seed as usize / 3 % 4]);
        let values = if seed % 5 == 0 { 12 } else { 200 };
        let shape = Shape { most, ranking, inserts_only: false, changes: 80, values };
        let mut first = first(in_memory(&[ROW_WORDS]), &shape);
        if seed % 2 == 0 {
            // A front is used up soon, so that groups are read again.
            (first.length, first.spare) = (most + 1, 1);
        }
        let (mut rows, mut output) = (Rows::new(), Rows::new());
        for _ in 0..40 {
            epoch(&mut first, &mut rng, &shape, &mut rows, &mut output);
        }
    }
}

#[test]
fn of_inserts_only_the_first_rows_are_kept() {
    for seed in 0..18 {
        let mut rng = Rng::seeded(seed);
        let (ranking, most) = (RANKINGS[seed as usize % 3], [1, 3, 10][seed as usize / 3 % 3]);
        let shape = Shape { most, ranking, inserts_only: true, changes: 60, values: 50 };
        let mut first = first(in_memory(&[ROW_WORDS]), &shape);
        let (mut rows, mut output) = (Rows::new(), Rows::new());
        for _ in 0..40 {
            epoch(&mut first, &mut rng, &shape, &mut rows, &mut output);
            assert_eq!(first.tables()[1].len(), output.len() as u64, "only what is given is kept");
        }
    }
}

#[test]
fn a_tie_beyond_the_front_is_given() {
    // More rows are tied than a front has at first.
    let shape = Shape { most: 2, ranking: Ranking::Rank, inserts_only: false, changes: 900, values: 2 };
    let mut rng = Rng::seeded(3);
    let mut first = first(in_memory(&[ROW_WORDS]), &shape);
    (first.length, first.spare) = (3, 1);
    let (mut rows, mut output) = (Rows::new(), Rows::new());
    for _ in 0..10 {
        epoch(&mut first, &mut rng, &shape, &mut rows, &mut output);
    }
}

#[test]
fn first_rows_go_on_from_their_checkpoint() {
    for (ranking, inserts_only) in RANKINGS.into_iter().flat_map(|ranking| [(ranking, false), (ranking, true)]) {
        let mut disk = Disk::new();
        let mut rng = Rng::seeded(5);
        let shape = Shape { most: 3, ranking, inserts_only, changes: 40, values: 60 };
        let (mut rows, mut output) = (Rows::new(), Rows::new());
        for _ in 0..10 {
            let mut first = first(disk.gathered(&[ROW_WORDS], 0, 1), &shape);
            for _ in 0..3 {
                epoch(&mut first, &mut rng, &shape, &mut rows, &mut output);
            }
            disk.checkpoint(vec![first.tables()]);
        }
    }
}
