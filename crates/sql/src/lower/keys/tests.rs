//! Keys of random plans against rows that a slow twin of the operators computes.

use super::{Key, fewest, not_null, of_computed, of_nodes};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::functions_aggregate::first_last::first_value;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{ExprFunctionExt, LogicalPlanBuilder, Operator as Compare, col, table_scan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};
use highwater_engine::plan::{
    Aggregation, First, Hop, Join, JoinKind, Map, Node, NodeId, OnError, Operator, Plan, Ranking, SortKey, Upsert,
};
use std::collections::BTreeSet;
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;
type Row = Vec<Option<i64>>;

const KINDS: [JoinKind; 7] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti, JoinKind::Mark];
/// The widest rows that joins are made of.
const WIDEST: usize = 5;
/// How many pairs a join looks at.
const MOST_PAIRS: usize = 1000;

/// Numbers from a seed: splitmix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).expect("it is below a usize")
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn some_number(&mut self) -> i64 {
        i64::try_from(self.below(3)).expect("a small number")
    }

    fn number(&mut self) -> Option<i64> {
        if self.once_in(4) { None } else { Some(self.some_number()) }
    }

    /// Some of so many columns, in any order.
    fn columns(&mut self, width: usize, most: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..width).collect();
        let count = self.below(most.min(width) + 1);
        (0..count).map(|_| left.remove(self.below(left.len()))).collect()
    }
}

/// A plan under way, and the rows of each of its nodes.
struct World {
    draw: Draw,
    plan: Plan,
    rows: Vec<Vec<Row>>,
}

fn schema(width: usize) -> SchemaRef {
    let field = |at: usize| Field::new(format!("c{at}"), DataType::Int64, true);
    Arc::new(Schema::new((0..width).map(field).collect::<Vec<_>>()))
}

fn column(at: usize) -> Physical {
    Arc::new(Column::new(&format!("c{at}"), at))
}

fn columns(places: &[usize]) -> Vec<Physical> {
    places.iter().map(|at| column(*at)).collect()
}

fn values(row: &[Option<i64>], places: &[usize]) -> Row {
    places.iter().map(|at| row[*at]).collect()
}

fn node(operator: Operator, inputs: &[usize], width: usize) -> Node {
    Node {
        name: String::new(),
        incarnation: 0,
        inputs: inputs.iter().map(|input| NodeId(*input)).collect(),
        operator,
        schema: schema(width),
        append_only: false,
        on_error: OnError::Fail,
    }
}

impl World {
    fn add(&mut self, operator: Operator, inputs: &[usize], width: usize, rows: Vec<Row>) {
        assert!(rows.iter().all(|row| row.len() == width), "{operator:?}");
        self.plan.nodes.push(node(operator, inputs, width));
        self.rows.push(rows);
    }

    fn width(&self, node: usize) -> usize {
        self.plan.nodes[node].schema.fields().len()
    }

    fn any(&mut self) -> usize {
        self.draw.below(self.rows.len())
    }

    /// Rows of which no two have one key, which has no nulls; or any rows.
    fn table(&mut self) {
        let width = 1 + self.draw.below(3);
        let keys: Vec<usize> = (0..self.draw.below(width + 1)).collect();
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..self.draw.below(9) {
            let is_key = |at: usize| keys.contains(&at);
            let row: Row = (0..width)
                .map(|at| if is_key(at) { Some(self.draw.some_number()) } else { self.draw.number() })
                .collect();
            if keys.is_empty() || !rows.iter().any(|other| values(other, &keys) == values(&row, &keys)) {
                rows.push(row);
            }
        }
        // A union of nothing stands for rows without a key.
        let operator =
            if keys.is_empty() { Operator::Union } else { Operator::Upsert(Upsert { keys, deletes: false }) };
        self.add(operator, &[], width, rows);
    }

    /// Some rows, at times those with a number in a column, and for each column one of the input's or a number.
    fn map(&mut self) {
        let input = self.any();
        let width = self.width(input);
        let picked: Vec<Option<usize>> =
            (0..=self.draw.below(4)).map(|_| Some(self.draw.below(width + 1)).filter(|at| *at < width)).collect();
        let exprs = picked.iter().map(|at| at.map_or_else(|| lit(7_i64), column)).collect();
        let fixed = if width > 0 && self.draw.once_in(3) { Some(self.draw.below(width)) } else { None };
        let is_one = |at: usize| Arc::new(BinaryExpr::new(column(at), Compare::Eq, lit(1_i64))) as Physical;
        let mut rows: Vec<Row> = Vec::new();
        for row in self.rows[input].clone() {
            if fixed.is_none_or(|at| row[at] == Some(1)) && !self.draw.once_in(4) {
                rows.push(picked.iter().map(|at| at.map_or(Some(7), |at| row[at])).collect());
            }
        }
        self.add(Operator::Map(Map { filter: fixed.map(is_one), columns: exprs }), &[input], picked.len(), rows);
    }

    /// The input's own columns.
    fn whole_map(&mut self) {
        let input = self.any();
        let rows = self.rows[input].clone();
        let operator = Operator::Map(Map { filter: None, columns: Vec::new() });
        self.add(operator, &[input], self.width(input), rows);
    }

    fn groups(&mut self) {
        let input = self.any();
        let by = self.draw.columns(self.width(input), 3);
        let mut groups: BTreeSet<Row> = self.rows[input].iter().map(|row| values(row, &by)).collect();
        if by.is_empty() {
            groups.insert(Vec::new());
        }
        let operator = Operator::Aggregate(Aggregation { keys: columns(&by), aggregates: Vec::new() });
        self.add(operator, &[input], by.len(), groups.into_iter().collect());
    }

    fn first(&mut self) {
        let input = self.any();
        let width = self.width(input);
        let ordered = width.min(1);
        let (by, most) = (self.draw.columns(width, 2), 1 + self.draw.below(2));
        let ranking = if self.draw.once_in(2) { Ranking::Rank } else { Ranking::RowNumber };
        let mut sorted = self.rows[input].clone();
        sorted.sort();
        let mut rows: Vec<Row> = Vec::new();
        // By the first column alone, so that rows are tied.
        for row in &sorted {
            let before = |other: &&Row| values(other, &by) == values(row, &by) && other[..ordered] < row[..ordered];
            let same = |other: &&Row| values(other, &by) == values(row, &by);
            let taken = match ranking {
                Ranking::RowNumber => rows.iter().filter(same).count() < most,
                _ => sorted.iter().filter(before).count() < most,
            };
            if taken {
                rows.push(row.clone());
            }
        }
        let order = columns(&(0..ordered).collect::<Vec<_>>());
        let order = order.into_iter().map(|expr| SortKey { expr, options: SortOptions::default() }).collect();
        let operator = Operator::First(First { keys: columns(&by), order, rows: most, ranking });
        self.add(operator, &[input], width, rows);
    }

    fn windows(&mut self) {
        let input = self.any();
        let width = self.width(input);
        if width == 0 || width > WIDEST {
            return;
        }
        let (time, slide) = (self.draw.below(width), 1);
        let size = 1 + i64::from(self.draw.once_in(2));
        let mut rows: Vec<Row> = Vec::new();
        for row in &self.rows[input] {
            for start in row[time].into_iter().flat_map(|time| time - size + 1..=time) {
                let mut row = row.clone();
                row.extend([Some(start), Some(start + size)]);
                rows.push(row);
            }
        }
        let operator = Operator::Hop(Hop { time, slide_us: slide, size_us: size });
        self.add(operator, &[input], width + 2, rows);
    }

    fn union(&mut self) {
        let (one, other) = (self.any(), self.any());
        if self.width(one) != self.width(other) {
            return;
        }
        let inputs = if self.draw.once_in(3) { vec![one] } else { vec![one, other] };
        let rows = inputs.iter().flat_map(|input| self.rows[*input].clone()).collect();
        self.add(Operator::Union, &inputs, self.width(one), rows);
    }

    fn join(&mut self) {
        let (left, right) = (self.any(), self.any());
        let (left_width, right_width) = (self.width(left), self.width(right));
        let most_pairs = self.rows[left].len() * self.rows[right].len();
        if left_width + right_width > WIDEST || most_pairs > MOST_PAIRS {
            return;
        }
        let mut left_by = self.draw.columns(left_width, 2);
        let mut right_by = self.draw.columns(right_width, 2);
        let count = left_by.len().min(right_by.len());
        left_by.truncate(count);
        right_by.truncate(count);
        let kind = KINDS[self.draw.below(KINDS.len())];
        let (nulls_match, leaves_out) = (self.draw.once_in(2), self.draw.once_in(3));
        let pairs = |l: &Row, r: &Row| {
            let mut columns = values(l, &left_by).into_iter().zip(values(r, &right_by));
            let is_kept = !leaves_out || (l.iter().chain(r).flatten().sum::<i64>() % 2 == 0);
            is_kept && columns.all(|(l, r)| l == r && (nulls_match || l.is_some()))
        };
        let rows = joined(kind, &self.rows[left], &self.rows[right], (left_width, right_width), &pairs);
        let width = match kind {
            JoinKind::Semi | JoinKind::Anti => left_width,
            JoinKind::Mark => left_width + 1,
            _ => left_width + right_width,
        };
        let operator = Operator::Join(Join {
            kind,
            left_keys: columns(&left_by),
            right_keys: columns(&right_by),
            nulls_match,
            filter: None,
            forgets: Vec::new(),
            temporal: false,
        });
        self.add(operator, &[left, right], width, rows);
    }
}

/// The rows of a join, pair by pair.
fn joined(
    kind: JoinKind,
    left: &[Row],
    right: &[Row],
    (left_width, right_width): (usize, usize),
    pairs: &dyn Fn(&Row, &Row) -> bool,
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let gives_pairs = matches!(kind, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full);
    for l in left {
        let has_pair = right.iter().any(|r| pairs(l, r));
        for r in right.iter().filter(|r| gives_pairs && pairs(l, r)) {
            rows.push([l.as_slice(), r.as_slice()].concat());
        }
        match kind {
            JoinKind::Left | JoinKind::Full if !has_pair => {
                rows.push([l.as_slice(), vec![None; right_width].as_slice()].concat());
            }
            JoinKind::Semi if has_pair => rows.push(l.clone()),
            JoinKind::Anti if !has_pair => rows.push(l.clone()),
            JoinKind::Mark => rows.push([l.as_slice(), [Some(i64::from(has_pair))].as_slice()].concat()),
            _ => {}
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        for r in right.iter().filter(|r| !left.iter().any(|l| pairs(l, r))) {
            rows.push([vec![None; left_width].as_slice(), r.as_slice()].concat());
        }
    }
    rows
}

/// How many keys nodes of a seed's plan have.
fn check(seed: u64) -> usize {
    let mut world = World { draw: Draw(seed), plan: Plan::default(), rows: Vec::new() };
    (0..3).for_each(|_| world.table());
    for _ in 0..3 + world.draw.below(8) {
        match world.draw.below(10) {
            0 => world.table(),
            1 | 2 => world.map(),
            3 => world.whole_map(),
            4 | 5 => world.groups(),
            6 => world.first(),
            7 => world.windows(),
            8 => world.union(),
            _ => (0..3).for_each(|_| world.join()),
        }
    }
    let all = of_nodes(&world.plan);
    for (at, (keys, rows)) in all.iter().zip(&world.rows).enumerate() {
        for key in keys {
            let places: Vec<usize> = key.iter().copied().collect();
            let distinct: BTreeSet<Row> = rows.iter().map(|row| values(row, &places)).collect();
            let plan = || format!("{:#?}", world.plan.nodes[..=at].iter().map(shown).collect::<Vec<_>>());
            assert_eq!(distinct.len(), rows.len(), "seed {seed}, node {at}, key {key:?}: {rows:?} of {}", plan());
        }
    }
    for (at, (columns, rows)) in not_null::of_nodes(&world.plan).iter().zip(&world.rows).enumerate() {
        let is_filled = |row: &Row| columns.iter().all(|column| row[*column].is_some());
        assert!(rows.iter().all(is_filled), "seed {seed}, node {at}: a null in one of {columns:?}");
    }
    all.iter().map(Vec::len).sum()
}

fn shown(node: &Node) -> (Vec<usize>, String) {
    (node.inputs.iter().map(|input| input.0).collect(), format!("{:?}", node.operator))
}

#[test]
fn no_two_rows_have_one_key() {
    let keys: usize = (0..2000).map(check).sum();
    assert!(keys > 2000, "{keys} keys were looked at");
}

fn key(columns: &[usize]) -> Key {
    columns.iter().copied().collect()
}

/// Two tables of two columns with the first for a key, and a join of them.
fn keys_of_join(kind: JoinKind, left_by: &[usize], right_by: &[usize], temporal: bool) -> Vec<Key> {
    let table = || node(Operator::Upsert(Upsert { keys: vec![0], deletes: false }), &[], 2);
    let join = Join {
        kind,
        left_keys: columns(left_by),
        right_keys: columns(right_by),
        nulls_match: false,
        filter: None,
        forgets: Vec::new(),
        temporal,
    };
    let plan = Plan { nodes: vec![table(), table(), node(Operator::Join(join), &[0, 1], 4)], ..Plan::default() };
    of_nodes(&plan).remove(2)
}

#[test]
fn a_side_with_one_row_each_leaves_the_other_sides_key() {
    assert_eq!(keys_of_join(JoinKind::Inner, &[1], &[0], false), [key(&[0])]);
    assert_eq!(keys_of_join(JoinKind::Left, &[1], &[0], false), [key(&[0])]);
    assert_eq!(keys_of_join(JoinKind::Right, &[1], &[0], false), [key(&[0, 2])]);
    assert_eq!(keys_of_join(JoinKind::Inner, &[0], &[0], false), [key(&[0]), key(&[2])]);
    assert_eq!(keys_of_join(JoinKind::Inner, &[0], &[0], true), [key(&[0])]);
    assert_eq!(keys_of_join(JoinKind::Left, &[0], &[0], false), [key(&[0])]);
    assert_eq!(keys_of_join(JoinKind::Inner, &[1], &[1], false), [key(&[0, 2])]);
    assert_eq!(keys_of_join(JoinKind::Full, &[0], &[0], false), [key(&[0, 2])]);
}

#[test]
fn sides_of_a_full_join_with_nulls_for_keys_have_no_key_together() {
    let rows = || node(Operator::Union, &[], 2);
    let groups =
        |of: usize| node(Operator::Aggregate(Aggregation { keys: columns(&[0]), aggregates: Vec::new() }), &[of], 1);
    let join = Join {
        kind: JoinKind::Full,
        left_keys: columns(&[0]),
        right_keys: columns(&[0]),
        nulls_match: false,
        filter: None,
        forgets: Vec::new(),
        temporal: false,
    };
    let nodes = vec![rows(), rows(), groups(0), groups(1), node(Operator::Join(join), &[2, 3], 2)];
    let all = of_nodes(&Plan { nodes, ..Plan::default() });
    assert_eq!((all[2].as_slice(), all[4].as_slice()), (&[key(&[0])][..], &[][..]));
}

#[test]
fn no_key_is_part_of_another() {
    let all = [vec![1, 2], vec![0, 2], vec![2, 3], vec![0], vec![1, 2, 4]].map(|columns| key(&columns));
    assert_eq!(fewest(all.to_vec()), [key(&[0]), key(&[1, 2]), key(&[2, 3])]);
    assert_eq!(fewest(vec![key(&[1]), key(&[])]), [key(&[])]);
}

/// Three numbers and a float.
fn some_rows() -> LogicalPlanBuilder {
    let mut fields: Vec<Field> = schema(3).fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("c3", DataType::Float64, true));
    table_scan(Some("rows"), &Schema::new(fields), None).expect("a scan")
}

fn keys_of_computed(builder: LogicalPlanBuilder, rows: &[Key]) -> Vec<Key> {
    fewest(of_computed(&builder.build().expect("a plan"), rows))
}

#[test]
fn a_partition_and_the_number_in_it_are_a_key() {
    let numbered = |of: &str| {
        let number = row_number().partition_by(vec![col(of)]).build().expect("a call").alias("n");
        some_rows().window(vec![number]).expect("a window")
    };
    assert_eq!(keys_of_computed(numbered("c0"), &[]), [key(&[0, 4])]);
    assert_eq!(keys_of_computed(numbered("c0"), &[key(&[1])]), [key(&[1]), key(&[0, 4])]);
    assert_eq!(keys_of_computed(numbered("c3"), &[]), Vec::<Key>::new(), "the zeros may be in two partitions");
    let shown = numbered("c0").project(vec![col("n"), col("c2"), col("c0")]).expect("columns");
    assert_eq!(keys_of_computed(shown, &[key(&[1])]), [key(&[0, 2])]);
}

#[test]
fn groups_of_one_row_keep_its_key() {
    let grouped = |by: &str| {
        let first = first_value(col("c1"), Vec::new());
        some_rows().aggregate(vec![col(by)], vec![first]).expect("groups")
    };
    assert_eq!(keys_of_computed(grouped("c0"), &[key(&[1])]), [key(&[0])]);
    assert_eq!(keys_of_computed(grouped("c0"), &[key(&[0]), key(&[1])]), [key(&[0]), key(&[1])]);
    assert_eq!(keys_of_computed(grouped("c3"), &[key(&[1])]), Vec::<Key>::new());
}
