//! Which columns of the operators carry a watermark: when no row with a value comes any more.
//!
//! A column carries it from the node that keeps it through everything that works row by row, through
//! windows, and through keys of groups and joins. Invariant: a column that carries none is of no use
//! to forget by, whatever is claimed of it elsewhere.

use super::{Builder, Physical};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::split_conjunction;
use highwater_engine::plan::{
    Aggregation, Closing, Final, First, Forget, Hop, Join, JoinKind, NodeId, Operator, Passing, Unnest,
};

/// By what a column's values are final: by all of these. None carries no watermark.
pub(super) type Carried = Vec<Passing>;

const DAY_US: i64 = 86_400_000_000;

impl Builder<'_> {
    /// What an expression over a node's columns carries.
    pub(super) fn passing_of(&self, node: NodeId, expr: &Physical) -> Carried {
        of_expression(expr, &self.carried[node.0])
    }

    /// What the columns of a node carry that is about to be added.
    pub(super) fn carried_by(
        &self,
        node: NodeId,
        operator: &Operator,
        inputs: &[NodeId],
        width: usize,
    ) -> Vec<Carried> {
        let input = |at: usize| self.carried[inputs[at].0].as_slice();
        let mut carried = match operator {
            Operator::Watermark(watermark) => {
                let mut carried = vec![Carried::new(); width];
                carried[watermark.time] = vec![Passing { watermark: node, after_us: 1 }];
                carried
            }
            Operator::Map(map) if map.columns.is_empty() && width > 0 => input(0).to_vec(),
            Operator::Map(map) => map.columns.iter().map(|column| of_expression(column, input(0))).collect(),
            Operator::Hop(hop) => of_hop(hop, input(0)),
            Operator::Unnest(unnest) => of_unnest(unnest, input(0)),
            Operator::Aggregate(aggregation) => of_keys(aggregation, input(0)),
            Operator::Closing(closing) => of_closing(closing, input(0), self.windows_of(inputs[0])),
            Operator::Materialize => input(0).to_vec(),
            Operator::Union => {
                let of_column = |column: usize| both((0..inputs.len()).map(|at| &input(at)[column]));
                (0..width).map(of_column).collect()
            }
            // Its rows may have waited while the watermark went on.
            Operator::Join(join) if join.temporal => Vec::new(),
            Operator::Join(join) => of_join(join, input(0), input(1), width),
            Operator::First(first) => of_first(first, input(0)),
            // What these give of a row comes, or goes again, when other rows do, or when it is time.
            Operator::Sessions(_) | Operator::Upsert(_) | Operator::Regroup(_) => Vec::new(),
            Operator::Lifetime(_) => Vec::new(),
            Operator::Source(_) | Operator::Changes(_) | Operator::Index(_) | Operator::Sink(_) => Vec::new(),
        };
        carried.resize(width, Carried::new());
        carried
    }

    /// Where the columns of the windows of a HOP begin, if a node is one.
    fn windows_of(&self, node: NodeId) -> Option<usize> {
        let node = &self.plan.nodes[node.0];
        matches!(node.operator, Operator::Hop(_)).then(|| node.schema.fields().len() - 2)
    }
}

/// What groups forget.
impl Builder<'_> {
    /// When the groups of a node are final: of rows that only come, by the first of their keys that carries
    /// a watermark.
    pub(super) fn final_of(&self, node: NodeId) -> Option<Final> {
        let node = &self.plan.nodes[node.0];
        let [input] = node.inputs.as_slice() else { return None };
        let rows = &self.plan.nodes[input.0];
        let keys = match &node.operator {
            Operator::Sessions(sessions) if rows.append_only => {
                let passing = self.carried[input.0].get(sessions.time).filter(|passing| !passing.is_empty())?.clone();
                return Some(Final { time: sessions.time, passing });
            }
            Operator::Aggregate(aggregation) if rows.append_only => &aggregation.keys,
            Operator::First(first) if rows.append_only => &first.keys,
            Operator::Regroup(regroup) if self.is_of_inserts(*input) => &regroup.keys,
            _ => return None,
        };
        let is_time = |key: &Physical| {
            let of = key.data_type(&rows.schema);
            of.is_ok_and(|of| matches!(of, DataType::Timestamp(TimeUnit::Microsecond, _)))
        };
        let mut passing = keys.iter().map(|key| (is_time(key), self.passing_of(*input, key))).enumerate();
        let (time, (_, passing)) = passing.find(|(_, (is_time, passing))| *is_time && !passing.is_empty())?;
        Some(Final { time, passing })
    }

    /// Whether a node gives rows that only come, or the first ones of such.
    fn is_of_inserts(&self, node: NodeId) -> bool {
        let node = &self.plan.nodes[node.0];
        let mut inputs = node.inputs.iter();
        node.append_only
            || match &node.operator {
                Operator::Map(_) => inputs.all(|input| self.is_of_inserts(*input)),
                Operator::First(_) => inputs.all(|input| self.plan.nodes[input.0].append_only),
                _ => false,
            }
    }
}

/// What joins forget.
impl Builder<'_> {
    /// Which rows of a join never pair again once watermarks have passed: those whose key is a time that
    /// both sides carry, or those whose condition holds only for times of the other side up to some
    /// distance from theirs.
    pub(super) fn forgets(&self, join: &Join, left: NodeId, right: NodeId) -> Vec<Forget> {
        let sides = [self.carried[left.0].as_slice(), self.carried[right.0].as_slice()];
        let mut forgets = Vec::new();
        for (left_key, right_key) in join.left_keys.iter().zip(&join.right_keys) {
            let columns = [left_key, right_key].map(|key| key.downcast_ref::<Column>().map(Column::index));
            if let [Some(left), Some(right)] = columns {
                add(&mut forgets, &sides, Not { beyond: (0, left), of: (1, right), by_us: 0 });
                add(&mut forgets, &sides, Not { beyond: (1, right), of: (0, left), by_us: 0 });
            }
        }
        if let Some(filter) = &join.filter {
            for condition in split_conjunction(filter) {
                if let Some(not) = not_beyond(condition, sides[0].len()) {
                    add(&mut forgets, &sides, not);
                }
            }
        }
        forgets
    }
}

/// A side and a column of it.
type OfSide = (usize, usize);

/// A pair needs that `beyond <= of + by_us`.
struct Not {
    beyond: OfSide,
    of: OfSide,
    by_us: i64,
}

/// Rows on the side of `of` do not pair any more when all values of `beyond` up to theirs and so much more
/// are final; and then they do not change when they are final themselves.
fn add(forgets: &mut Vec<Forget>, sides: &[&[Carried]; 2], not: Not) {
    let Not { beyond, of, by_us } = not;
    let ways = [moved(sides[beyond.0][beyond.1].clone(), by_us), sides[of.0][of.1].clone()];
    let passing = both(ways.iter());
    if !passing.is_empty() && forgets.iter().all(|known| known.side != of.0) {
        forgets.push(Forget { side: of.0, time: of.1, passing });
    }
}

/// What a comparison of a time of one side with one of the other says; `left` is how many columns the
/// left side has.
fn not_beyond(condition: &Physical, left: usize) -> Option<Not> {
    let comparison = condition.downcast_ref::<BinaryExpr>()?;
    let (less, more) = match comparison.op() {
        Op::Lt | Op::LtEq => (comparison.left(), comparison.right()),
        Op::Gt | Op::GtEq => (comparison.right(), comparison.left()),
        _ => return None,
    };
    let ((beyond, plus), (of, others)) = (column_and(less)?, column_and(more)?);
    let side = |column: usize| if column < left { (0, column) } else { (1, column - left) };
    let (beyond, of) = (side(beyond), side(of));
    (beyond.0 != of.0).then_some(Not { beyond, of, by_us: others.checked_sub(plus)? })
}

/// A column and how much is added to it.
fn column_and(expr: &Physical) -> Option<(usize, i64)> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Some((column.index(), 0));
    }
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let ((column, plus), by) = (column_and(binary.left())?, micros_of(binary.right())?);
    match binary.op() {
        Op::Plus => Some((column, plus.checked_add(by)?)),
        Op::Minus => Some((column, plus.checked_sub(by)?)),
        _ => None,
    }
}

fn of_expression(expr: &Physical, columns: &[Carried]) -> Carried {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return columns.get(column.index()).cloned().unwrap_or_default();
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return match (call.name(), call.args()) {
            // The last time of a bin is its size less the smallest step behind its start.
            ("date_bin", [size, time]) => match micros_of(size) {
                Some(size) if size > 0 => moved(of_expression(time, columns), size - 1),
                _ => Carried::new(),
            },
            _ => Carried::new(),
        };
    }
    let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Carried::new() };
    match (binary.op(), micros_of(binary.right())) {
        (Op::Plus, Some(by)) => moved(of_expression(binary.left(), columns), -by),
        (Op::Minus, Some(by)) => moved(of_expression(binary.left(), columns), by),
        _ => Carried::new(),
    }
}

/// An interval of fixed length in whole microseconds.
fn micros_of(expr: &Physical) -> Option<i64> {
    let literal = expr.downcast_ref::<Literal>()?;
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = literal.value() else { return None };
    if interval.months != 0 || interval.nanoseconds % 1000 != 0 {
        return None;
    }
    i64::from(interval.days).checked_mul(DAY_US)?.checked_add(interval.nanoseconds / 1000)
}

/// What is carried when it must be so much further.
fn moved(mut carried: Carried, by_us: i64) -> Carried {
    for passing in &mut carried {
        passing.after_us = passing.after_us.saturating_add(by_us);
    }
    carried
}

/// What values carry that come in several ways: they are final when they are in all of them.
fn both<'a>(ways: impl Iterator<Item = &'a Carried>) -> Carried {
    let mut all = Carried::new();
    for carried in ways {
        if carried.is_empty() {
            return Carried::new();
        }
        for passing in carried {
            match all.iter_mut().find(|known| known.watermark == passing.watermark) {
                Some(known) => known.after_us = known.after_us.max(passing.after_us),
                None => all.push(*passing),
            }
        }
    }
    all
}

/// The input's columns, then the window's start and end.
fn of_hop(hop: &Hop, input: &[Carried]) -> Vec<Carried> {
    let mut carried = input.to_vec();
    let time = input[hop.time].clone();
    carried.push(moved(time.clone(), hop.size_us - 1));
    carried.push(moved(time, -1));
    carried
}

/// The columns that are repeated; of elements nothing is known.
fn of_unnest(unnest: &Unnest, input: &[Carried]) -> Vec<Carried> {
    let of_column = |from: &usize| if unnest.lists.contains(from) { Carried::new() } else { input[*from].clone() };
    unnest.columns.iter().map(of_column).collect()
}

/// The keys; of results nothing is known.
fn of_keys(aggregation: &Aggregation, input: &[Carried]) -> Vec<Carried> {
    aggregation.keys.iter().map(|key| of_expression(key, input)).collect()
}

/// The key by which groups are given, and those that are always as far from it: these are final with it. Of the
/// others it is not known how long after their values groups are given. `windows` is where the columns of a HOP's
/// windows begin, if the input is one.
fn of_closing(closing: &Closing, input: &[Carried], windows: Option<usize>) -> Vec<Carried> {
    let keys = &closing.aggregation.keys;
    let is_of_window = |key: &Physical| {
        let column = base_of(key).downcast_ref::<Column>();
        column.zip(windows).is_some_and(|(column, first)| column.index() >= first)
    };
    let time = &keys[closing.time];
    let mut carried = of_keys(&closing.aggregation, input);
    for (key, carried) in keys.iter().zip(&mut carried) {
        if base_of(key) != base_of(time) && !(is_of_window(key) && is_of_window(time)) {
            carried.clear();
        }
    }
    carried
}

/// What an expression moves by intervals of fixed length.
fn base_of(expr: &Physical) -> &Physical {
    match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) if matches!(binary.op(), Op::Plus | Op::Minus) && micros_of(binary.right()).is_some() => {
            base_of(binary.left())
        }
        _ => expr,
    }
}

/// Columns that are keys: what is given of a group changes with its rows alone.
fn of_first(first: &First, input: &[Carried]) -> Vec<Carried> {
    let mut carried = vec![Carried::new(); input.len()];
    for key in first.keys.iter().filter_map(|key| key.downcast_ref::<Column>()) {
        carried[key.index()].clone_from(&input[key.index()]);
    }
    carried
}

/// Columns that are keys: a value comes as long as it comes on one of the sides.
fn of_join(join: &Join, left: &[Carried], right: &[Carried], width: usize) -> Vec<Carried> {
    let mut carried = vec![Carried::new(); width];
    let gives_right = !matches!(join.kind, JoinKind::Semi | JoinKind::Anti | JoinKind::Mark);
    for (left_key, right_key) in join.left_keys.iter().zip(&join.right_keys) {
        let sides = [of_expression(left_key, left), of_expression(right_key, right)];
        let value = both(sides.iter());
        if let Some(column) = left_key.downcast_ref::<Column>() {
            carried[column.index()].clone_from(&value);
        }
        if let Some(column) = right_key.downcast_ref::<Column>().filter(|_| gives_right) {
            carried[left.len() + column.index()] = value;
        }
    }
    carried
}
