//! Whole numbers that are written out: integers where they are small enough, else bigints, as in PostgreSQL.
//!
//! DataFusion's planner reads all of them as bigints and asks nobody. So, right before a query is planned, each one
//! that is an integer becomes an operand of an operator of ours, about which the planner does ask: [`Integers`] binds
//! it to the number as an integer, before anything around it is given a type. Nobody else sees the operator.
//!
//! Left alone are numbers that the planner reads in the text itself or takes for positions and counts: those that
//! are keys of ORDER BY, GROUP BY or PARTITION BY, LIMIT and OFFSET, and the bounds of frames and intervals.

use crate::respell::call;
use crate::walk::walk_mut;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, lit};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr as SqlExpr, Function, FunctionArgumentClause, FunctionArguments, GroupByExpr, LimitClause,
    OrderBy, OrderByExpr, OrderByKind, Query, Select, UnaryOperator, Value, ValueWithSpan, VisitorMut,
    WindowFrameBound, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// The operator, which nobody can write: those of texts have no letters.
const OPERATOR: &str = "integer";

/// Tells the planner which numbers of a query are integers.
pub(crate) fn mark(query: &mut Query) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(query, &mut Marking { intervals: 0 });
}

struct Marking {
    /// In how many intervals the walk is.
    intervals: usize,
}

impl VisitorMut for Marking {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        if let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &mut query.order_by {
            leave_keys(keys);
        }
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit.iter_mut().chain(offset.iter_mut().map(|offset| &mut offset.value)).for_each(leave);
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                leave(offset);
                leave(limit);
            }
            None => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            keys.iter_mut().for_each(leave);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<Infallible> {
        match expr {
            SqlExpr::Interval(_) => self.intervals += 1,
            SqlExpr::Function(call) => leave_in_call(call),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<Infallible> {
        if matches!(expr, SqlExpr::Interval(_)) {
            self.intervals -= 1;
        } else if self.intervals == 0 {
            mark_one(expr);
        }
        ControlFlow::Continue(())
    }
}

/// Leaves a number to the planner. The flag is what other dialects write behind a number: it says nothing to the
/// planner, and is taken off when the walk comes to the number.
fn leave(expr: &mut SqlExpr) {
    match expr {
        SqlExpr::Nested(inner) | SqlExpr::UnaryOp { expr: inner, .. } => leave(inner),
        SqlExpr::Value(ValueWithSpan { value: Value::Number(_, is_left), .. }) => *is_left = true,
        _ => {}
    }
}

fn leave_keys(keys: &mut [OrderByExpr]) {
    keys.iter_mut().for_each(|key| leave(&mut key.expr));
}

fn leave_in_call(call: &mut Function) {
    if let FunctionArguments::List(list) = &mut call.args {
        for clause in &mut list.clauses {
            if let FunctionArgumentClause::OrderBy(keys) = clause {
                leave_keys(keys);
            }
        }
    }
    let Some(WindowType::WindowSpec(window)) = &mut call.over else { return };
    window.partition_by.iter_mut().for_each(leave);
    leave_keys(&mut window.order_by);
    let Some(frame) = &mut window.window_frame else { return };
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if let WindowFrameBound::Preceding(Some(by)) | WindowFrameBound::Following(Some(by)) = bound {
            leave(by);
        }
    }
}

/// Makes an operand of a number, with its sign, once what is in the expression has been walked through.
fn mark_one(expr: &mut SqlExpr) {
    match expr {
        SqlExpr::Value(ValueWithSpan { value: Value::Number(digits, is_left), .. }) => {
            let is_left = std::mem::take(is_left);
            if !is_left && is_integer(digits) {
                *expr = operation(expr.clone());
            }
        }
        SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr: of } => {
            if let Some(number) = operand(of) {
                let negative = SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number.clone()) };
                *expr = operation(negative);
            }
        }
        // Of rows that begin with anything but a name or a value the planner takes the function alone.
        SqlExpr::Tuple(values) if values.first().is_some_and(|value| operand(value).is_some()) => {
            *expr = call("struct", Span::empty(), std::mem::take(values));
        }
        _ => {}
    }
}

/// Whether digits without a sign are those of an integer: `-2147483648` is a bigint in PostgreSQL.
fn is_integer(digits: &str) -> bool {
    digits.replace('_', "").parse::<i32>().is_ok()
}

fn operation(number: SqlExpr) -> SqlExpr {
    let none = SqlExpr::Value(Value::Null.with_empty_span());
    SqlExpr::BinaryOp { left: Box::new(number), op: BinaryOperator::Custom(OPERATOR.to_owned()), right: Box::new(none) }
}

fn is_own(op: &BinaryOperator) -> bool {
    matches!(op, BinaryOperator::Custom(name) if name == OPERATOR)
}

/// The number without a sign that is an operand of ours.
fn operand(expr: &SqlExpr) -> Option<&SqlExpr> {
    match expr {
        SqlExpr::BinaryOp { left, op, .. } if is_own(op) && matches!(**left, SqlExpr::Value(_)) => Some(left.as_ref()),
        _ => None,
    }
}

/// Binds the operator.
#[derive(Debug)]
pub(crate) struct Integers;

impl ExprPlanner for Integers {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if !is_own(&expr.op) {
            return Ok(PlannerResult::Original(expr));
        }
        let number = match &expr.left {
            Expr::Literal(ScalarValue::Int64(Some(number)), _) => i32::try_from(*number).ok(),
            _ => None,
        };
        Ok(PlannerResult::Planned(number.map_or(expr.left, lit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Relations, Session};
    use crate::statement::Statement;
    use crate::text::template;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn marked(text: &str) -> String {
        let mut query = template(text);
        mark(&mut query);
        query.to_string().replace(" integer NULL", "!")
    }

    #[test]
    fn numbers_are_marked_but_for_positions_and_counts() {
        for (written, expected) in [
            ("SELECT 1, -2, 2147483647, 2147483648, 1.5", "SELECT 1!, -2!, 2147483647!, 2147483648, 1.5"),
            ("SELECT -2147483648, -(3)", "SELECT -2147483648, -(3!)"),
            ("SELECT a ORDER BY 1, a + 2 LIMIT 3 OFFSET 4", "SELECT a ORDER BY 1, a + 2! LIMIT 3 OFFSET 4"),
            ("SELECT a FROM t GROUP BY 1, (2), a + 3", "SELECT a FROM t GROUP BY 1, (2), a + 3!"),
            (
                "SELECT sum(a + 1) OVER (PARTITION BY 1 ORDER BY 2 ROWS BETWEEN 3 PRECEDING AND 4 FOLLOWING)",
                "SELECT sum(a + 1!) OVER (PARTITION BY 1 ORDER BY 2 ROWS BETWEEN 3 PRECEDING AND 4 FOLLOWING)",
            ),
            ("SELECT array_agg(a ORDER BY 1)", "SELECT array_agg(a ORDER BY 1)"),
            ("SELECT INTERVAL '1' DAY * 2", "SELECT INTERVAL '1' DAY * 2!"),
            ("SELECT (1, a), (a, 1)", "SELECT struct(1!, a), (a, 1!)"),
            ("VALUES (1), (2)", "VALUES (1!), (2!)"),
        ] {
            assert_eq!(marked(written), expected, "{written}");
        }
    }

    fn types(text: &str) -> Vec<DataType> {
        use DataType::{Decimal128, Int16, Int32, Int64};
        let columns = [("s", Int16), ("i", Int32), ("l", Int64), ("n", Decimal128(10, 2))];
        let fields: Vec<Field> = columns.into_iter().map(|(name, of)| Field::new(name, of, true)).collect();
        let mut relations = Relations::default();
        relations.stream("t", Arc::new(Schema::new(fields)));
        let Ok(Statement::Query(query)) = crate::parse(text) else { panic!("{text}: a query") };
        let session = Session::new(1);
        let plan = session.bind(&query, &relations).expect(text);
        let bound: Vec<DataType> = plan.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let run = session.columns_when_run(plan).expect(text);
        let run: Vec<DataType> = run.fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(bound, run, "{text}: the same when it is bound and when it is run");
        run
    }

    #[test]
    fn types_are_those_of_postgresql() {
        use DataType::{Int16, Int32, Int64};
        for (text, expected) in [
            ("SELECT 1, -1, 2147483647, 2147483648, -2147483648", vec![Int32, Int32, Int32, Int64, Int64]),
            ("SELECT s + 1, i + 1, l + 1, i / 2, s % 2, ~i FROM t", vec![Int32, Int32, Int64, Int32, Int32, Int32]),
            ("SELECT s + s, i + 3000000000, abs(-1), coalesce(l, 0) FROM t", vec![Int16, Int64, Int32, Int64]),
            ("SELECT CASE WHEN i > 0 THEN 0 ELSE l END, CASE WHEN i > 0 THEN i ELSE 0 END FROM t", vec![Int64, Int32]),
            ("SELECT CASE WHEN i > 0 THEN s WHEN i < 0 THEN NULL ELSE 1 END FROM t", vec![Int32]),
            ("SELECT 0 AS x UNION ALL SELECT l FROM t", vec![Int64]),
            ("SELECT 0 AS x UNION SELECT i FROM t UNION SELECT s FROM t", vec![Int32]),
            ("SELECT 0 AS x EXCEPT SELECT l FROM t", vec![Int64]),
            ("VALUES (1), (3000000000)", vec![Int64]),
            ("SELECT sum(1), count(1), max(2), sum(i * 2) FROM t", vec![Int64, Int64, Int32, Int64]),
            ("SELECT x + 1 FROM (SELECT CASE WHEN i > 0 THEN 0 ELSE l END AS x FROM t) AS q", vec![Int64]),
        ] {
            assert_eq!(types(text), expected, "{text}");
        }
    }
}
