//! Temporal joins against loops over the rows that the right has after each left row's epoch.

use super::*;
use crate::ops::gathered::tests::{Disk, in_memory};
use crate::ops::gathered::{Gathered, ROW_WORDS, SIDES};
use crate::ops::grouping::{NullKeys, row_codec};
use crate::ops::pairs::Condition;
use crate::plan::JoinKind;
use crate::stateful::Logic;
use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use highwater_core::Rng;
use std::collections::BTreeMap;

/// A row of a side: its key and a value.
type Row = (Option<i64>, i64);
/// How often each row is there, or is given.
type Output = BTreeMap<Vec<Option<i64>>, i64>;

#[derive(Clone, Copy, Debug)]
struct Case {
    kind: JoinKind,
    is_filtered: bool,
}

const CASES: [Case; 4] = [
    Case { kind: JoinKind::Inner, is_filtered: false },
    Case { kind: JoinKind::Inner, is_filtered: true },
    Case { kind: JoinKind::Left, is_filtered: false },
    Case { kind: JoinKind::Left, is_filtered: true },
];

impl Case {
    fn words(self) -> [usize; SIDES] {
        [ROW_WORDS + usize::from(self.is_filtered && self.kind == JoinKind::Left), ROW_WORDS]
    }

    fn grouping(self, side: usize) -> Grouping {
        let is_loose = side == LEFT && self.kind == JoinKind::Left;
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
        Grouping::new(&[key], &schema(&["k", "v"]), if is_loose { NullKeys::Loose } else { NullKeys::Drop })
            .expect("keys")
    }

    fn join(self, gathered: Gathered, holds: bool) -> Join {
        let side = schema(&["k", "v"]);
        let condition = self.is_filtered.then(|| {
            let value = |at: usize| Arc::new(Column::new("v", at)) as Arc<dyn PhysicalExpr>;
            let less: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(value(1), Operator::Lt, value(3)));
            Condition::new(&less, &side, &side).expect("a condition")
        });
        let codecs = [row_codec(&side).expect("a codec"), row_codec(&side).expect("a codec")];
        let join = Join::new(self.kind, schema(&["k", "a", "l", "b"]), gathered, codecs, condition);
        join.temporal(Temporal::new(side, self.grouping(LEFT), holds))
    }
}

fn key(rng: &mut Rng) -> Option<i64> {
    Some(rng.below(4) as i64).filter(|key| *key > 0)
}

fn schema(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Int64, true);
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

/// A join, the right's rows, and the left ones that are to be paired.
struct World {
    case: Case,
    join: Join,
    right: BTreeMap<Row, i64>,
    left: Vec<Row>,
}

impl World {
    fn new(case: Case, gathered: Gathered, holds: bool) -> Self {
        Self { case, join: case.join(gathered, holds), right: BTreeMap::new(), left: Vec::new() }
    }

    fn apply(&mut self, side: usize, changes: &[(Row, i64)]) {
        let keys: Int64Array = changes.iter().map(|((key, _), _)| *key).collect();
        let values: Int64Array = changes.iter().map(|((_, value), _)| Some(*value)).collect();
        let rows = RecordBatch::try_new(schema(&["k", "v"]), vec![Arc::new(keys), Arc::new(values)]);
        let weights: Int64Array = changes.iter().map(|(_, weight)| Some(*weight)).collect();
        let batch = Batch::weighted(rows.expect("two columns"), weights);
        for part in self.case.grouping(side).apply(&batch).expect("keys").into_iter().filter(|part| !part.is_empty()) {
            let deadline = Instant::now() + Duration::from_secs(60);
            assert!(self.join.load_for(side, &part, deadline).expect("loads"));
            self.join.apply(side, part).expect("applies");
        }
    }

    /// Rows come on the left, and come and go on the right.
    fn change(&mut self, rng: &mut Rng) {
        let come: Vec<Row> = (0..rng.below(5)).map(|_| (key(rng), rng.below(5) as i64)).collect();
        self.apply(LEFT, &come.iter().map(|row| (*row, 1)).collect::<Vec<_>>());
        self.left.extend(come);
        let mut changes = Vec::new();
        for _ in 0..rng.below(4) {
            let present: Vec<Row> = self.right.keys().copied().collect();
            let (row, weight) = if rng.one_in(2) && !present.is_empty() {
                (present[rng.below(present.len() as u64) as usize], -1)
            } else {
                ((key(rng), rng.below(6) as i64), 1 + rng.below(2) as i64)
            };
            *self.right.entry(row).or_default() += weight;
            self.right.retain(|_, count| *count > 0);
            changes.push((row, weight));
        }
        self.apply(1 - LEFT, &changes);
    }

    /// What is given for left rows by the right side as it is.
    fn expected(&self, left: &[Row]) -> Output {
        let mut out = Output::new();
        for (key, value) in left {
            let is_pair = |row: &Row| key.is_some() && *key == row.0 && (!self.case.is_filtered || *value < row.1);
            let pairs: Vec<(&Row, &i64)> = self.right.iter().filter(|(row, _)| is_pair(row)).collect();
            for (row, count) in &pairs {
                *out.entry(vec![*key, Some(*value), row.0, Some(row.1)]).or_default() += **count;
            }
            if pairs.is_empty() && self.case.kind == JoinKind::Left {
                *out.entry(vec![*key, Some(*value), None, None]).or_default() += 1;
            }
        }
        out
    }

    /// Ends an epoch, after which a backfill of the right goes on or none does.
    fn close(&mut self, is_filling: bool) {
        if is_filling {
            self.join.apply(SIDES, filling().expect("a row")).expect("applies");
        }
        // Rows without a key pair with nothing that could yet come.
        let (waits, paired): (Vec<Row>, Vec<Row>) =
            std::mem::take(&mut self.left).into_iter().partition(|row| is_filling && row.0.is_some());
        self.left = waits;
        assert_eq!(self.given(), self.expected(&paired), "{:?}", self.case);
        if !is_filling {
            assert_eq!(self.join.gathered.rows_of(LEFT).len(), 0, "no left row is kept");
        }
    }

    fn given(&mut self) -> Output {
        let (mut out, mut given) = (Vec::new(), Output::new());
        while !self.join.close(Instant::now(), &mut out).expect("closes") {}
        for batch in &out {
            for row in 0..batch.len() {
                assert!(batch.weight(row) > 0, "nothing is taken back");
                let value = |column: &ArrayRef| {
                    let numbers = column.as_primitive::<Int64Type>();
                    numbers.is_valid(row).then(|| numbers.value(row))
                };
                *given.entry(batch.rows.columns().iter().map(value).collect()).or_default() += batch.weight(row);
            }
        }
        given
    }
}

#[test]
fn left_rows_are_paired_once_with_what_the_right_has_then() {
    for case in CASES {
        for seed in 0..8 {
            let mut rng = Rng::seeded(seed);
            let mut world = World::new(case, in_memory(&case.words()), false);
            for _ in 0..60 {
                world.change(&mut rng);
                world.close(false);
            }
        }
    }
}

#[test]
fn left_rows_wait_for_backfills_of_the_right_and_over_restarts() {
    for case in CASES {
        for seed in 0..6 {
            let mut rng = Rng::seeded(seed);
            let mut disk = Disk::new();
            let mut world = World::new(case, disk.gathered(&case.words(), 0, 1), true);
            for epoch in 0..60 {
                world.change(&mut rng);
                world.close(epoch % 20 < 12);
                disk.checkpoint(vec![world.join.tables()]);
                if rng.one_in(3) {
                    world.join = case.join(disk.gathered(&case.words(), 0, 1), true);
                }
            }
        }
    }
}

#[test]
fn more_rows_than_a_page_wait_and_are_paired() {
    let case = Case { kind: JoinKind::Left, is_filtered: false };
    let mut world = World::new(case, in_memory(&case.words()), false);
    let rows: Vec<(Row, i64)> = (0..30_000).map(|at| ((Some(at % 100 + 1), at), 1)).collect();
    world.apply(LEFT, &rows);
    world.left = rows.iter().map(|(row, _)| *row).collect();
    world.close(true);
    let right: Vec<(Row, i64)> = (1..50).map(|key| ((Some(key), key), 1)).collect();
    world.apply(1 - LEFT, &right);
    world.right = right.into_iter().collect();
    world.close(false);
    // The next ones do not wait.
    world.apply(LEFT, &rows[..100]);
    world.left = rows[..100].iter().map(|(row, _)| *row).collect();
    world.close(false);
}
