//! Which types numbers have together, by PostgreSQL's `pg_typeof`, and what becomes of plans.

use super::*;
use arrow::datatypes::{Field, Schema};
use datafusion::common::ToDFSchema;
use datafusion::functions::expr_fn::nullif;
use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};

fn schema() -> DFSchema {
    let fields = [
        ("i", DataType::Int32),
        ("l", DataType::Int64),
        ("n", DataType::Decimal128(12, 3)),
        ("r", DataType::Float32),
        ("d", DataType::Float64),
        ("t", DataType::Utf8),
        ("a", array_of(DataType::Decimal128(12, 3))),
        ("b", array_of(DataType::Float64)),
    ];
    let fields: Vec<Field> = fields.into_iter().map(|(name, of)| Field::new(name, of, true)).collect();
    Schema::new(fields).to_dfschema().expect("names are told apart")
}

fn to(of: DataType) -> Option<Brought> {
    Some(Brought::To(of))
}

#[test]
fn values_have_the_last_of_their_types() {
    use DataType::{Float32, Float64};
    let null = || Expr::Literal(ScalarValue::Null, None);
    for (values, expected) in [
        (vec![col("d"), col("n")], to(Float64)),
        (vec![col("n"), col("r"), col("d")], to(Float64)),
        (vec![col("r"), col("n")], to(Float32)),
        (vec![col("r"), lit(0.5)], to(Float32)),
        (vec![col("n"), lit(0.5), null()], Some(Brought::Exact)),
        (vec![col("n"), lit(-0.5), lit("7")], Some(Brought::Exact)),
        (vec![col("a"), col("b")], to(array_of(Float64))),
        (vec![col("d"), lit(0.5)], None),
        (vec![col("d"), col("i")], None),
        (vec![col("r"), col("l")], None),
        (vec![col("n"), col("l")], None),
        (vec![col("i"), lit(0.5)], None),
        (vec![col("d"), col("n"), col("t")], None),
        (vec![col("a"), col("d")], None),
    ] {
        assert_eq!(together(values.iter(), &schema()), expected, "{values:?}");
        if let Some(to) = &expected {
            let brought: Vec<Expr> = values.iter().map(|value| brought(value.clone(), to, &schema())).collect();
            assert_eq!(together(brought.iter(), &schema()), None, "once is enough: {values:?}");
        }
    }
    assert_eq!(type_together([DataType::Decimal128(9, 2), Float64].iter()), Some(Float64));
    assert_eq!(type_together([DataType::Decimal128(9, 2), DataType::Utf8, Float64].iter()), None);
}

#[test]
fn values_are_compared_as_doubles_where_one_is_floating_point_and_another_is_not() {
    let double = || to(DataType::Float64);
    for (values, expected) in [
        (vec![col("d"), col("n")], double()),
        (vec![col("r"), col("n")], double()),
        (vec![col("r"), col("l")], double()),
        (vec![col("a"), col("b")], to(array_of(DataType::Float64))),
        (vec![col("d"), col("l")], None),
        (vec![col("r"), lit(0.5)], None),
        (vec![col("n"), lit(0.5)], None),
    ] {
        assert_eq!(compared(values.iter(), &schema()), expected, "{values:?}");
    }
    let several = [col("r"), lit(0.5), lit(1_i64)];
    assert_eq!(compared_at_once(several.iter(), &schema()), to(DataType::Float32));
}

#[test]
fn nullif_keeps_the_type_of_its_first_value() {
    let type_of = |value: Expr, other: Expr| {
        let Expr::ScalarFunction(call) = nullif(value, other) else { panic!("a call") };
        unless_equal(&call, &schema()).map(|case| case.get_type(&schema()).expect("a type"))
    };
    assert_eq!(type_of(col("n"), col("d")), Some(DataType::Float64));
    assert_eq!(type_of(col("d"), col("n")), Some(DataType::Float64));
    assert_eq!(type_of(col("r"), col("l")), Some(DataType::Float32));
    assert_eq!(type_of(col("i"), col("r")), Some(DataType::Float64));
    assert_eq!(type_of(col("n"), lit(0.5)), Some(DataType::Decimal128(12, 3)));
    assert_eq!(type_of(col("d"), col("i")), None);
    assert_eq!(type_of(col("n"), col("i")), None);
}

#[test]
fn columns_of_values_keep_digits() {
    let small = cast(lit(1e-20), DataType::Float64);
    let numeric = cast(lit("1"), DataType::Decimal128(1, 0));
    let plan = |rows: Vec<Vec<Expr>>| {
        let plan = LogicalPlanBuilder::values(rows).and_then(LogicalPlanBuilder::build).expect("values");
        let LogicalPlan::Values(of) = plan else { panic!("values") };
        values(of).expect("they have types")
    };
    let changed = plan(vec![vec![small.clone()], vec![numeric.clone()]]);
    assert!(changed.transformed);
    assert_eq!(changed.data.schema().field(0).data_type(), &DataType::Float64);
    let exact = plan(vec![vec![lit(0.5)], vec![cast(lit("1.25"), DataType::Decimal128(3, 2))]]);
    assert_eq!(exact.data.schema().field(0).data_type(), &DataType::Decimal128(3, 2));
    let own = plan(vec![
        vec![cast(small, DataType::Decimal128(30, 15))],
        vec![cast(lit(1_i64), DataType::Decimal128(30, 15))],
    ]);
    assert!(!own.transformed, "a user's own casts stay");
    assert!(!plan(vec![vec![numeric], vec![lit(2_i64)]]).transformed);
}

#[test]
fn values_have_their_type_though_the_first_one_has_another() {
    use DataType::{Decimal128, Float64};
    for (values, expected) in [
        (vec![col("i"), col("n")], to(Decimal128(13, 3))),
        (vec![col("n"), col("i")], to(Decimal128(13, 3))),
        (vec![col("i"), lit("7"), col("n")], to(Decimal128(13, 3))),
        (vec![col("i"), col("d")], to(Float64)),
        (vec![col("d"), col("i")], None),
        (vec![col("i"), col("l")], to(DataType::Int64)),
        (vec![lit("7"), col("i")], None),
        (vec![col("t"), col("n")], None),
    ] {
        assert_eq!(mixed(values.iter(), &schema()), expected, "{values:?}");
    }
    let plan = |value: Expr| {
        let plan = LogicalPlanBuilder::empty(true).project(vec![value.alias("v")]);
        plan.and_then(LogicalPlanBuilder::build).expect("a plan")
    };
    let (whole, numeric) = (plan(lit(1)), plan(cast(lit("1"), Decimal128(12, 2))));
    let null = plan(Expr::Literal(ScalarValue::Null, None));
    let types = |first: &LogicalPlan, second: &LogicalPlan| of_columns(&[first, second], 1).types;
    assert_eq!(types(&whole, &numeric), [Some(Decimal128(12, 2))]);
    assert_eq!(types(&null, &numeric), [Some(Decimal128(12, 2))]);
    assert_eq!(types(&numeric, &null), [None]);
    assert_eq!(types(&null, &whole), [None]);
}
