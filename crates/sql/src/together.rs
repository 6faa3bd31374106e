//! Conditions of a filter that guard each other, in queries that run once as in a dataflow.
//!
//! `s ~ '^[0-9]+$' AND s::int > 5` is brought into another order by DataFusion, what is cheap first, and filters that
//! come to stand above each other become one. So no condition of a filter fails for a row that another one leaves
//! out, in any order. Filters of which nothing can fail stay as they are, for what others know of them.

use crate::exact::compares;
use crate::guards::fits;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use highwater_engine::conditions;
use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;

/// See above.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Together {
    /// The conditions that can fail.
    Fallible,
    /// All conditions, so that nothing is known of what a filter leaves.
    All,
}

impl PhysicalOptimizerRule for Together {
    fn name(&self) -> &'static str {
        "together"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(|plan| self.together(plan))?.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl Together {
    fn together(self, plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        let Some(filter) = plan.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(plan)) };
        let (all, schema) = (filter.predicate(), filter.input().schema());
        if matches!(self, Self::Fallible) && (split_conjunction(all).len() < 2 || cannot_fail(all, &schema)) {
            return Ok(Transformed::no(plan));
        }
        let all: Physical = Arc::new(Conditions { all: Arc::clone(all) });
        let guarded = FilterExecBuilder::from(filter).with_predicate(all).build()?;
        Ok(Transformed::yes(Arc::new(guarded)))
    }
}

/// Whether an expression is one of those of which it is known that they can be computed for all rows.
fn cannot_fail(expr: &Physical, schema: &Schema) -> bool {
    let is_plain = expr.is::<Column>()
        || expr.is::<Literal>()
        || expr.is::<InListExpr>()
        || expr.is::<IsNotNullExpr>()
        || expr.is::<IsNullExpr>()
        || expr.is::<LikeExpr>()
        || expr.is::<NotExpr>();
    let is_condition = || {
        let of = expr.downcast_ref::<BinaryExpr>().map(BinaryExpr::op);
        of.is_some_and(|op| compares(*op) || matches!(op, Operator::And | Operator::Or))
    };
    let is_wider = || {
        let fitting = |cast: &CastExpr| cast.expr().data_type(schema).is_ok_and(|from| fits(&from, cast.cast_type()));
        expr.downcast_ref::<CastExpr>().is_some_and(fitting)
    };
    (is_plain || is_condition() || is_wider()) && expr.children().into_iter().all(|part| cannot_fail(part, schema))
}

/// A conjunction of which it matters only whether it is true.
#[derive(Debug, Eq)]
struct Conditions {
    all: Physical,
}

impl PartialEq for Conditions {
    fn eq(&self, other: &Self) -> bool {
        self.all.eq(&other.all)
    }
}

impl Hash for Conditions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.all.hash(state);
    }
}

impl Display for Conditions {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.all, f)
    }
}

impl PhysicalExpr for Conditions {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.all.nullable(schema)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let whole = self.all.evaluate(rows);
        whole.or_else(|error| held(&self.all, rows).map(|held| ColumnarValue::Array(Arc::new(held))).ok_or(error))
    }

    fn children(&self) -> Vec<&Physical> {
        vec![&self.all]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Physical>) -> Result<Physical> {
        Ok(Arc::new(Self { all: Arc::clone(&children[0]) }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.all.fmt_sql(f)
    }
}

/// For which rows a conjunction is true, in halves where that cannot be told of all at once; none where a row fails.
fn held(all: &Physical, rows: &RecordBatch) -> Option<BooleanArray> {
    if let Some(held) = conditions::held(all, rows) {
        return Some(held);
    }
    let middle = rows.num_rows() / 2;
    if middle == 0 {
        return None;
    }
    let first = held(all, &rows.slice(0, middle))?;
    let second = held(all, &rows.slice(middle, rows.num_rows() - middle))?;
    Some(BooleanArray::from(first.values().iter().chain(second.values().iter()).collect::<Vec<bool>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::lit;
    use datafusion::physical_plan::empty::EmptyExec;

    fn column(name: &str, at: usize) -> Physical {
        Arc::new(Column::new(name, at))
    }

    fn binary(left: Physical, op: Operator, right: Physical) -> Physical {
        Arc::new(BinaryExpr::new(left, op, right))
    }

    /// `12 / of > 3`.
    fn quotient(of: Physical) -> Physical {
        binary(binary(lit(12_i64), Operator::Divide, of), Operator::Gt, lit(3_i64))
    }

    fn filter(predicate: Physical) -> Arc<dyn ExecutionPlan> {
        let fields: Vec<Field> = ["a", "b"].map(|name| Field::new(name, DataType::Int64, true)).into();
        let input = Arc::new(EmptyExec::new(Arc::new(Schema::new(fields))));
        Arc::new(FilterExec::try_new(predicate, input).expect("a condition"))
    }

    /// The condition that a filter has in the end.
    fn guarded(predicate: Physical) -> Physical {
        let plan = Together::Fallible.together(filter(predicate)).expect("a plan").data;
        Arc::clone(plan.downcast_ref::<FilterExec>().expect("a filter").predicate())
    }

    #[test]
    fn only_filters_that_may_fail_are_guarded() {
        let (a, b) = (column("a", 0), column("b", 1));
        let positive = || binary(Arc::clone(&a), Operator::Gt, lit(0_i64));
        let plain = binary(positive(), Operator::And, binary(Arc::clone(&a), Operator::Lt, Arc::clone(&b)));
        for kept in [plain, quotient(Arc::clone(&a))] {
            assert_eq!(&guarded(Arc::clone(&kept)), &kept);
        }
        let open = guarded(binary(quotient(Arc::clone(&a)), Operator::And, positive()));
        assert!(open.is::<Conditions>());
        assert_eq!(&guarded(Arc::clone(&open)), &open, "once");
    }

    #[test]
    fn conditions_guard_each_other_in_any_order() {
        let (a, b) = (column("a", 0), column("b", 1));
        let all = guarded(binary(quotient(a), Operator::And, quotient(b)));
        let computed = |rows: &[(i64, i64)]| {
            let a: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>());
            let b: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>());
            let rows = RecordBatch::try_from_iter([("a", a), ("b", b)]).expect("two columns");
            let values = all.evaluate(&rows).and_then(|value| value.into_array(rows.num_rows())).ok()?;
            Some(values.as_boolean().iter().map(|holds| holds == Some(true)).collect::<Vec<_>>())
        };
        // Either side fails for a row that the other one leaves out.
        assert_eq!(computed(&[(0, 6), (2, 2), (6, 0), (1, 1)]), Some(vec![false, true, false, true]));
        assert_eq!(computed(&[(2, 2), (0, 2)]), None);
    }
}
