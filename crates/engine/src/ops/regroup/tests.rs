//! Groups that are computed anew against the same computation over all rows after each epoch.

use super::*;
use crate::ops::gathered::ROW_WORDS;
use crate::ops::gathered::tests::{Disk, in_memory};
use crate::ops::grouping::{Grouping, NullKeys, row_codec};
use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use highwater_core::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// The sum of each group, and the row of it that came first.
#[derive(Debug)]
struct SumAndFirst;

impl Compute for SumAndFirst {
    fn compute(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        assert!(rows.num_rows() > 0, "nothing is computed for no rows");
        let [keys, values] = [0, 1].map(|column| rows.column(column).as_primitive::<Int64Type>());
        let mut groups: BTreeMap<Option<i64>, (i64, i64)> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let key = keys.is_valid(row).then(|| keys.value(row));
            groups.entry(key).or_insert((0, values.value(row))).0 += values.value(row);
        }
        let keys: Int64Array = groups.keys().copied().collect();
        let sums: Int64Array = groups.values().map(|(sum, _)| Some(*sum)).collect();
        let firsts: Int64Array = groups.values().map(|(_, first)| Some(*first)).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(sums), Arc::new(firsts)];
        RecordBatch::try_new(schema(&["k", "sum", "first"]), columns).map_err(broken)
    }
}

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

fn regroup(gathered: Gathered) -> Regroup {
    let schemas = [schema(&["k", "v"]), schema(&["k", "sum", "first"])];
    let codecs = [row_codec(&schemas[0]).expect("a codec"), row_codec(&schemas[1]).expect("a codec")];
    Regroup::new(Box::new(SumAndFirst), gathered, schemas, codecs)
}

/// How often each row, or row of output, is there.
type Rows = BTreeMap<Vec<Option<i64>>, i64>;

fn add(rows: &mut Rows, row: Vec<Option<i64>>, weight: i64) {
    let count = rows.entry(row.clone()).or_default();
    *count += weight;
    if *count == 0 {
        rows.remove(&row);
    }
}

/// What all rows give; the order of rows is that of their format, and so of their values.
fn expected(rows: &Rows) -> Rows {
    let mut groups: BTreeMap<Option<i64>, (i64, i64)> = BTreeMap::new();
    for (row, count) in rows {
        let value = row[1].unwrap_or_default();
        groups.entry(row[0]).or_insert((0, value)).0 += value * count;
    }
    groups.into_iter().map(|(key, (sum, first))| (vec![key, Some(sum), Some(first)], 1)).collect()
}

fn apply(regroup: &mut Regroup, steps: &[(Vec<Option<i64>>, i64)]) {
    let columns = [0, 1].map(|at| Arc::new(steps.iter().map(|(row, _)| row[at]).collect::<Int64Array>()) as ArrayRef);
    let weights: Int64Array = steps.iter().map(|(_, weight)| Some(*weight)).collect();
    let batch = RecordBatch::try_new(schema(&["k", "v"]), columns.to_vec()).expect("two columns");
    let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
    let grouping = Grouping::new(&[key], &schema(&["k", "v"]), NullKeys::Group).expect("keys");
    for part in grouping.apply(&Batch::weighted(batch, weights)).expect("keys") {
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(regroup.load_for(0, &part, deadline).expect("loads"));
        regroup.apply(0, part).expect("applies");
    }
}

fn epoch(regroup: &mut Regroup, rng: &mut Rng, rows: &mut Rows, output: &mut Rows) {
    let mut steps = Vec::new();
    for _ in 0..rng.below(30) {
        let present: Vec<_> = rows.keys().cloned().collect();
        let (row, weight) = if rng.below(5) < 2 && !present.is_empty() {
            (present[rng.below(present.len() as u64) as usize].clone(), -1)
        } else {
            let key = Some(rng.below(6) as i64).filter(|key| *key > 0);
            (vec![key, Some(rng.below(9) as i64)], 1 + rng.below(3) as i64)
        };
        add(rows, row.clone(), weight);
        steps.push((row, weight));
    }
    steps.reverse();
    apply(regroup, &steps);
    let mut out = Vec::new();
    // A deadline that is over: one step a call.
    while !regroup.close(Instant::now(), &mut out).expect("closes") {}
    count_output(&out, output);
    assert_eq!(*output, expected(rows));
}

fn count_output(out: &[Batch], output: &mut Rows) {
    for batch in out {
        assert!(batch.len() <= CHUNK);
        for row in 0..batch.len() {
            assert_ne!(batch.weight(row), 0, "changes are consolidated");
            let value = |column: &ArrayRef| {
                let numbers = column.as_primitive::<Int64Type>();
                numbers.is_valid(row).then(|| numbers.value(row))
            };
            add(output, batch.rows.columns().iter().map(value).collect(), batch.weight(row));
        }
    }
}

#[test]
fn groups_agree_with_computing_all_of_them() {
    for seed in 0..20 {
        let mut rng = Rng::seeded(seed);
        let mut regroup = regroup(in_memory(&[ROW_WORDS]));
        let (mut rows, mut output) = (Rows::new(), Rows::new());
        for _ in 0..40 {
            epoch(&mut regroup, &mut rng, &mut rows, &mut output);
        }
    }
}

#[test]
fn many_groups_are_computed_in_steps() {
    let groups = 3 * TOGETHER as i64;
    let mut regroup = regroup(in_memory(&[ROW_WORDS]));
    let (mut rows, mut output) = (Rows::new(), Rows::new());
    // All groups come, then half of them change and a third of these go.
    for (every, value, weight) in [(1, 5, 1), (2, 3, 2), (6, 3, -2), (6, 5, -1)] {
        let changed = (0..groups).filter(|key| key % every == 0);
        let steps: Vec<_> = changed.map(|key| (vec![Some(key), Some(value)], weight)).collect();
        for (row, weight) in &steps {
            add(&mut rows, row.clone(), *weight);
        }
        apply(&mut regroup, &steps);
        let (mut out, mut calls) = (Vec::new(), 1_usize);
        while !regroup.close(Instant::now(), &mut out).expect("closes") {
            calls += 1;
        }
        assert!(calls > steps.len() / TOGETHER, "{calls} steps for {} groups", steps.len());
        count_output(&out, &mut output);
        assert_eq!(output, expected(&rows));
    }
}

#[test]
fn groups_go_on_from_their_checkpoint() {
    let mut disk = Disk::new();
    let mut rng = Rng::seeded(5);
    let (mut rows, mut output) = (Rows::new(), Rows::new());
    for _ in 0..20 {
        let mut regroup = regroup(disk.gathered(&[ROW_WORDS], 0, 1));
        epoch(&mut regroup, &mut rng, &mut rows, &mut output);
        disk.checkpoint(vec![regroup.tables()]);
    }
}
