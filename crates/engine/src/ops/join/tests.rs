//! Joins of all kinds against nested loops over all rows, recomputed after each of many random epochs.

use super::*;
use crate::ops::gathered::tests::{Disk, in_memory};
use crate::ops::gathered::{ROW_WORDS, SIDES};
use crate::ops::grouping::{Grouping, NullKeys, row_codec};
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use highwater_core::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const KINDS: [JoinKind; 7] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti, JoinKind::Mark];

/// A row of a side: its key and a value.
type Row = (Option<i64>, i64);
/// How often each row of a side is there.
type Rows = BTreeMap<Row, i64>;
/// How often each row of the output is there; a mark is 0 or 1.
type Output = BTreeMap<Vec<Option<i64>>, i64>;

#[derive(Clone, Copy, Debug)]
struct Case {
    kind: JoinKind,
    nulls_match: bool,
    filtered: bool,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for kind in KINDS {
            for (nulls_match, filtered) in [(false, false), (false, true), (true, false), (true, true)] {
                cases.push(Self { kind, nulls_match, filtered });
            }
        }
        cases
    }

    fn row_words(self) -> [usize; SIDES] {
        [0, 1].map(|side| ROW_WORDS + usize::from(self.filtered && self.kind.gives_rows_of(side)))
    }

    fn pairs(self, left: &Row, right: &Row) -> bool {
        left.0 == right.0 && (self.nulls_match || left.0.is_some()) && (!self.filtered || left.1 < right.1)
    }

    /// The output from scratch.
    fn output(self, sides: &[Rows; 2]) -> Output {
        let [left, right] = sides;
        let mut out = Output::new();
        if self.kind.gives_pairs() {
            for (l, count) in left {
                for (r, others) in right.iter().filter(|(r, _)| self.pairs(l, r)) {
                    *out.entry(vec![l.0, Some(l.1), r.0, Some(r.1)]).or_default() += count * others;
                }
            }
        }
        for (l, count) in left.iter().filter(|_| self.kind.gives_rows_of(0)) {
            let paired = right.keys().any(|r| self.pairs(l, r));
            let row = vec![l.0, Some(l.1)];
            let row = match self.kind {
                JoinKind::Semi if paired => row,
                JoinKind::Anti if !paired => row,
                JoinKind::Mark => [row, vec![Some(i64::from(paired))]].concat(),
                JoinKind::Left | JoinKind::Full if !paired => [row, vec![None, None]].concat(),
                _ => continue,
            };
            *out.entry(row).or_default() += count;
        }
        for (r, count) in right.iter().filter(|_| self.kind.gives_rows_of(1)) {
            if !left.keys().any(|l| self.pairs(l, r)) {
                *out.entry(vec![None, None, r.0, Some(r.1)]).or_default() += count;
            }
        }
        out
    }
}

fn side_schema(names: [&str; 2]) -> SchemaRef {
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn schemas() -> [SchemaRef; 2] {
    [side_schema(["k", "a"]), side_schema(["k", "b"])]
}

fn output_schema(kind: JoinKind) -> SchemaRef {
    let names: &[&str] = if kind.gives_pairs() { &["k", "a", "k2", "b"] } else { &["k", "a"] };
    let mut fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
    if kind == JoinKind::Mark {
        fields.push(Field::new("mark", DataType::Boolean, false));
    }
    Arc::new(Schema::new(fields))
}

fn grouping(case: Case, side: usize) -> Grouping {
    let nulls = match (case.nulls_match, case.kind.gives_rows_of(side) && case.kind != JoinKind::Semi) {
        (true, _) => NullKeys::Group,
        (false, true) => NullKeys::Loose,
        (false, false) => NullKeys::Drop,
    };
    let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
    Grouping::new(&[key], &schemas()[side], nulls).expect("keys")
}

fn join(case: Case, gathered: Gathered) -> Join {
    let [left, right] = schemas();
    let condition = case.filtered.then(|| {
        let of = |name: &str, at: usize| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>;
        let less: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(of("a", 1), Operator::Lt, of("b", 3)));
        Condition::new(&less, &left, &right).expect("a condition")
    });
    let codecs = [row_codec(&left).expect("a codec"), row_codec(&right).expect("a codec")];
    Join::new(case.kind, output_schema(case.kind), gathered, codecs, condition)
}

/// A join, what went into it, and what came out of it.
struct World {
    case: Case,
    join: Join,
    groupings: [Grouping; 2],
    sides: [Rows; 2],
    output: Output,
}

impl World {
    fn new(case: Case, gathered: Gathered) -> Self {
        let groupings = [grouping(case, 0), grouping(case, 1)];
        Self { case, join: join(case, gathered), groupings, sides: Default::default(), output: Output::new() }
    }

    fn apply(&mut self, side: usize, changes: &[(Row, i64)]) {
        let keys: Int64Array = changes.iter().map(|((key, _), _)| *key).collect();
        let values: Int64Array = changes.iter().map(|((_, value), _)| Some(*value)).collect();
        let schema = SchemaRef::clone(&schemas()[side]);
        let rows = RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(values)]).expect("two columns");
        let weights: Int64Array = changes.iter().map(|(_, weight)| Some(*weight)).collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        for part in self.groupings[side].apply(&Batch::weighted(rows, weights)).expect("keys") {
            assert!(self.join.load_for(side, &part, deadline).expect("loads"));
            self.join.apply(side, part).expect("applies");
        }
    }

    /// Ends an epoch: what came out until then must be what all that went in gives. The deadline is
    /// over, so that each call does one step, which gives no more than a chunk. Gives their number.
    fn close(&mut self) -> usize {
        let (mut calls, mut over) = (0, false);
        while !over {
            let mut out = Vec::new();
            over = self.join.close(Instant::now(), &mut out).expect("closes");
            calls += 1;
            assert!(out.iter().map(Batch::len).sum::<usize>() <= CHUNK, "a step gives at most a chunk");
            for batch in &out {
                assert!(!batch.is_empty() && (0..batch.len()).all(|row| batch.weight(row) != 0));
                assert_eq!(batch.rows.schema_ref(), &output_schema(self.case.kind));
                for row in 0..batch.len() {
                    add(&mut self.output, value_of(&batch.rows, row), batch.weight(row));
                }
            }
        }
        assert_eq!(self.output, self.case.output(&self.sides), "{:?}", self.case);
        calls
    }

    /// The same changes on both sides, of the group of key 1.
    fn apply_to_both(&mut self, values: Range<i64>, weight: i64) {
        let changes: Vec<(Row, i64)> = values.map(|value| ((Some(1), value), weight)).collect();
        for side in 0..2 {
            for (row, weight) in &changes {
                add(&mut self.sides[side], *row, *weight);
            }
            self.apply(side, &changes);
        }
    }

    /// Random changes in some batches; deletes may come before their inserts.
    fn random_epoch(&mut self, rng: &mut Rng) {
        let mut steps: Vec<(usize, Row, i64)> = Vec::new();
        for _ in 0..rng.below(14) {
            let side = rng.below(2) as usize;
            let present: Vec<Row> = self.sides[side].keys().copied().collect();
            let (row, weight) = if rng.below(5) < 2 && !present.is_empty() {
                (present[rng.below(present.len() as u64) as usize], -1)
            } else {
                let key = Some(rng.below(4) as i64).filter(|key| *key > 0);
                ((key, rng.below(5) as i64), 1 + rng.below(2) as i64)
            };
            add(&mut self.sides[side], row, weight);
            steps.push((side, row, weight));
        }
        for at in (1..steps.len()).rev() {
            steps.swap(at, rng.below(at as u64 + 1) as usize);
        }
        for steps in steps.chunk_by(|a, b| a.0 == b.0) {
            let changes: Vec<(Row, i64)> = steps.iter().map(|(_, row, weight)| (*row, *weight)).collect();
            self.apply(steps[0].0, &changes);
        }
        self.close();
    }
}

fn add<K: Ord + Clone>(counts: &mut BTreeMap<K, i64>, key: K, weight: i64) {
    let count = counts.entry(key.clone()).or_default();
    *count += weight;
    if *count == 0 {
        counts.remove(&key);
    }
}

fn value_of(rows: &RecordBatch, row: usize) -> Vec<Option<i64>> {
    let value = |column: &ArrayRef| match column.as_boolean_opt() {
        Some(marks) => Some(i64::from(marks.value(row))),
        None => {
            let numbers = column.as_primitive::<Int64Type>();
            numbers.is_valid(row).then(|| numbers.value(row))
        }
    };
    rows.columns().iter().map(value).collect()
}

#[test]
fn every_kind_agrees_with_nested_loops() {
    for case in Case::all() {
        for seed in 0..8 {
            let mut rng = Rng::seeded(seed);
            let mut world = World::new(case, in_memory(&case.row_words()));
            for _ in 0..40 {
                world.random_epoch(&mut rng);
            }
        }
    }
}

#[test]
fn a_join_goes_on_from_its_checkpoint() {
    for kind in [JoinKind::Full, JoinKind::Semi, JoinKind::Mark] {
        for filtered in [false, true] {
            let case = Case { kind, nulls_match: false, filtered };
            let mut disk = Disk::new();
            let mut rng = Rng::seeded(11);
            let mut world = World::new(case, disk.gathered(&case.row_words(), 0, 1));
            for _ in 0..20 {
                world.random_epoch(&mut rng);
                disk.checkpoint(vec![world.join.tables()]);
                if rng.one_in(2) {
                    world.join = join(case, disk.gathered(&case.row_words(), 0, 1));
                }
            }
        }
    }
}

#[test]
fn a_product_larger_than_a_chunk_is_whole() {
    for kind in [JoinKind::Inner, JoinKind::Full, JoinKind::Anti] {
        for filtered in [false, true] {
            let case = Case { kind, nulls_match: false, filtered };
            let mut world = World::new(case, in_memory(&case.row_words()));
            // Rows come, more come beside them, and some of both go.
            for (values, weight) in [(0..250, 1), (200..330, 2), (0..120, -1)] {
                world.apply_to_both(values, weight);
                let calls = world.close();
                assert!(!kind.gives_pairs() || calls > 50_000 / CHUNK, "{calls} steps");
            }
        }
    }
}

#[test]
fn more_groups_than_are_looked_at_together_are_all_closed() {
    let case = Case { kind: JoinKind::Left, nulls_match: false, filtered: false };
    let mut world = World::new(case, in_memory(&case.row_words()));
    let mut rows = 0;
    for (side, groups) in [(0, 2 * TOGETHER as i64), (1, TOGETHER as i64)] {
        let changes: Vec<(Row, i64)> = (0..groups).map(|key| ((Some(key), key), 1)).collect();
        world.apply(side, &changes);
        let mut out = Vec::new();
        assert!(world.join.close(Instant::now() + Duration::from_secs(60), &mut out).expect("closes"));
        rows += out.iter().map(|batch| (0..batch.len()).map(|row| batch.weight(row)).sum::<i64>()).sum::<i64>();
    }
    // The pairs of the second epoch take the places of as many rows without one.
    assert_eq!(rows, 2 * TOGETHER as i64);
}

#[test]
fn a_product_of_thousands_by_thousands_comes_batch_by_batch() {
    let rows = 3000;
    let case = Case { kind: JoinKind::Inner, nulls_match: false, filtered: true };
    let mut world = World::new(case, in_memory(&case.row_words()));
    world.apply_to_both(0..rows, 1);
    let mut seen = vec![false; (rows * rows) as usize];
    let (mut pairs, mut calls, mut over) = (0, 0, false);
    while !over {
        let mut out = Vec::new();
        over = world.join.close(Instant::now(), &mut out).expect("closes");
        calls += 1;
        assert!(out.iter().map(Batch::len).sum::<usize>() <= CHUNK, "a step gives at most a chunk");
        for batch in &out {
            let values = |column: usize| batch.rows.column(column).as_primitive::<Int64Type>().values().iter();
            for (row, (left, right)) in values(1).zip(values(3)).enumerate() {
                assert!(left < right && batch.weight(row) == 1);
                assert!(
                    !std::mem::replace(&mut seen[(left * rows + right) as usize], true),
                    "{left} and {right} twice"
                );
                pairs += 1;
            }
        }
    }
    assert_eq!(pairs, rows * (rows - 1) / 2);
    assert!(calls >= rows * rows / CHUNK as i64, "{calls} steps");
}

#[test]
fn many_rows_without_a_pair_are_given_in_steps() {
    for kind in [JoinKind::Left, JoinKind::Anti, JoinKind::Mark] {
        let case = Case { kind, nulls_match: false, filtered: false };
        let mut world = World::new(case, in_memory(&case.row_words()));
        let left: Vec<(Row, i64)> = (0..3 * CHUNK as i64).map(|value| ((Some(1), value), 1)).collect();
        for (side, changes) in [(0, left), (1, vec![((Some(1), 0), 1)])] {
            for (row, weight) in &changes {
                add(&mut world.sides[side], *row, *weight);
            }
            world.apply(side, &changes);
            let calls = world.close();
            assert!(calls > 3, "{calls} steps");
        }
    }
}
