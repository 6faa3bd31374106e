//! What is computed where something before it may leave it out.

use super::*;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema};
use datafusion::common::ToDFSchema;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{ExprFunctionExt, LogicalPlanBuilder, cast, col};
use datafusion::physical_expr::create_physical_expr;

fn schema() -> DFSchema {
    let fields = vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
        Field::new("p", DataType::Boolean, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("i", DataType::Int32, true),
    ];
    Schema::new(fields).to_dfschema().expect("a schema")
}

fn quotient() -> Expr {
    col("a") / col("b")
}

#[test]
fn columns_constants_and_casts_to_wider_types_cannot_fail() {
    let schema = schema();
    for safe in [
        col("a"),
        lit(1_i64),
        cast(col("i"), DataType::Int64),
        cast(col("i"), DataType::Decimal128(12, 2)),
        col("a").eq(lit(0_i64)).and(col("s").like(lit("x%"))),
        when(col("p"), col("a"), None),
    ] {
        assert!(!may_fail(&safe, &schema), "{safe}");
    }
    for open in [
        quotient(),
        cast(col("a"), DataType::Int32),
        cast(col("s"), DataType::Int64),
        cast(col("i"), DataType::Decimal128(11, 2)),
        when(col("p"), quotient(), None),
    ] {
        assert!(may_fail(&open, &schema), "{open}");
    }
}

#[test]
fn arguments_are_computed_where_the_filter_holds() {
    let (schema, filter) = (schema(), col("b").not_eq(lit(0_i64)));
    let wide = |of: Expr| cast(of, DataType::Decimal128(38, 0));
    let mut args = [col("a"), quotient(), wide(quotient()), lit(1_i64) / lit(2_i64)];
    let mut order = [quotient().sort(true, false)];
    let guarded = || when(filter.clone(), quotient(), None);
    let expected = [col("a"), guarded(), wide(guarded()), lit(1_i64) / lit(2_i64)];
    // Done again it changes nothing.
    for _ in 0..2 {
        filtered(Some(&filter), &mut args, &mut order, &schema);
        assert_eq!(args, expected);
        assert_eq!(order, [guarded().sort(true, false)]);
    }
    let condition = || quotient().gt(lit(1_i64));
    let mut conditions = [condition()];
    let branch = (Box::new(lit(true)), Box::new(condition()));
    let expected = [Expr::Case(Case::new(Some(Box::new(filter.clone())), vec![branch], None))];
    for _ in 0..2 {
        filtered(Some(&filter), &mut conditions, &mut [], &schema);
        assert_eq!(conditions, expected);
    }
    let mut plain = [quotient()];
    filtered(None, &mut plain, &mut [], &schema);
    assert_eq!(plain, [quotient()]);
}

fn and(left: Expr, right: Expr) -> Expr {
    left.and(right)
}

#[test]
fn conditions_that_may_fail_come_after_the_others() {
    let scan = || LogicalPlanBuilder::values(vec![vec![lit(1_i64), lit(0_i64)]]).expect("rows");
    let names = || vec![col("column1").alias("a"), col("column2").alias("b")];
    let rows = || scan().project(names()).expect("named");
    let open = || quotient().gt(lit(1_i64));
    let safe = || col("b").not_eq(lit(0_i64));
    let found = rows().filter(and(and(open(), safe()), open())).and_then(LogicalPlanBuilder::build).expect("a plan");
    let expected = rows().filter(safe()).and_then(|plan| plan.filter(and(open(), open())));
    let expected = expected.and_then(LogicalPlanBuilder::build);
    assert_eq!(guarded(found).expect("put apart"), expected.expect("a plan"));
    let plain = rows().filter(and(safe(), safe())).and_then(LogicalPlanBuilder::build).expect("a plan");
    assert_eq!(guarded(plain.clone()).expect("as it was"), plain);
}

#[test]
fn a_null_in_a_filter_guards_what_comes_after_it() {
    let schema = schema();
    let of = |filter: Expr| count(col("a")).filter(filter).build().expect("an aggregate");
    let open = || quotient().gt(lit(1_i64));
    let found = of_filter(of(and(col("p"), open())), &schema).expect("changed");
    assert_eq!(found.data, of(when(col("p"), open(), Some(lit(false)))));
    let plain = of_filter(of(and(col("p"), col("p"))), &schema).expect("as it was");
    assert!(!plain.transformed);
}

/// What SQL says of AND and OR.
fn of_two(op: Operator, left: Option<bool>, right: Option<bool>) -> Option<bool> {
    let decides = op == Operator::Or;
    match (left, right) {
        _ if left == Some(decides) || right == Some(decides) => Some(decides),
        (Some(_), Some(_)) => Some(!decides),
        _ => None,
    }
}

#[test]
fn and_and_or_have_their_values_without_what_is_not_to_be_computed() {
    let all = [Some(true), Some(false), None];
    let mut rows: Vec<(Option<bool>, Option<i64>, Option<i64>)> = Vec::new();
    // `a / b > 1` for true, false and null.
    for p in all {
        rows.extend([(p, Some(4), Some(2)), (p, Some(1), Some(2)), (p, None, Some(2))]);
    }
    for (op, decided) in [(Operator::And, false), (Operator::Or, true)] {
        let mut rows = rows.clone();
        rows.push((Some(decided), Some(1), Some(0)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
        ];
        let batch = RecordBatch::try_from_iter(["p", "a", "b"].into_iter().zip(columns)).expect("columns");
        let schema = batch.schema().to_dfschema().expect("a schema");
        let open = quotient().gt(lit(1_i64));
        let both = Expr::BinaryExpr(BinaryExpr::new(Box::new(col("p")), op, Box::new(open.clone())));
        let computed = |expr: &Expr| {
            let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
            let physical = create_physical_expr(expr, &schema, &props, &context).expect("an expression");
            let values = physical.evaluate(&batch).expect("no row fails").into_array(batch.num_rows());
            values.expect("values").as_boolean().iter().collect::<Vec<_>>()
        };
        let (a, b) = (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_primitive::<Int64Type>());
        let expected: Vec<Option<bool>> = (0..rows.len())
            .map(|row| {
                let right = (a.is_valid(row) && b.value(row) != 0).then(|| a.value(row) / b.value(row) > 1);
                of_two(op, rows[row].0, right)
            })
            .collect();
        assert_eq!(computed(&values(both.clone(), &schema).expect("changed").data), expected);
        let is_true = |values: Vec<Option<bool>>| values.into_iter().map(|v| v == Some(true)).collect::<Vec<_>>();
        let found = computed(&truth(both, &schema).expect("changed"));
        assert_eq!(is_true(found), is_true(expected));
    }
}
