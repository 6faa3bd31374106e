//! Days between dates, in queries that run once, as a difference of numbers.
//!
//! DataFusion knows of `d - DATE '2024-01-01'` that it is a whole number, but takes the range of its values for one of
//! durations, and refuses to plan a filter that compares it beside a range of `d`.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, Operator, cast};

/// A plan that subtracts numbers of days.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let counted = expr.transform_up(|expr| Ok(numbers(expr, &schema)))?;
            Ok(counted.update_data(|expr| name.restore(expr)))
        })
    })
    .data()
}

fn numbers(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let is_date = |side: &Expr| side.get_type(schema).is_ok_and(|of| of == DataType::Date32);
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) if is_date(&left) && is_date(&right) => {
            let number = |date: Box<Expr>| Box::new(cast(*date, DataType::Int64));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(number(left), Operator::Minus, number(right))))
        }
        other => Transformed::no(other),
    }
}
