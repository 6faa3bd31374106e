//! What expressions give, and what they are called.

use super::*;
use crate::session::{Relations, Session};
use crate::statement::Statement;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Schema};
use arrow::util::display::array_value_to_string;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, cast, col, lit};
use datafusion::physical_expr::create_physical_expr;

fn computed(expression: &str) -> Result<ArrayRef, String> {
    let session = Session::default();
    let statement = crate::parse(&format!("SELECT {expression}")).expect("a query");
    let Statement::Query(query) = statement else { panic!("{expression}: a query") };
    let plan = session.bind(&query, &Relations::default()).expect("bound");
    let LogicalPlan::Projection(plan) = plan else { panic!("{expression}: a projection") };
    let expr = session.evaluated(plan.expr[0].clone().unalias()).map_err(|error| error.to_string())?;
    session.computed(&expr, 1).map_err(|error| error.to_string())
}

#[test]
fn integers_fail_where_they_would_wrap_around() {
    let cases = [
        ("9223372036854775807 + 1", Err("bigint out of range")),
        ("-9223372036854775807 - 2", Err("bigint out of range")),
        ("4611686018427387904 * 2", Err("bigint out of range")),
        ("(-9223372036854775807 - 1) / -1", Err("bigint out of range")),
        ("CAST(32767 AS smallint) + CAST(1 AS smallint)", Err("smallint out of range")),
        ("CAST(65536 AS int) * CAST(65536 AS int)", Err("integer out of range")),
        ("- CAST(-2147483648 AS int)", Err("integer out of range")),
        ("9223372036854775806 + 1", Ok("9223372036854775807")),
        ("(-9223372036854775807 - 1) % -1", Ok("0")),
        ("- CAST(7 AS int)", Ok("-7")),
        ("7 / 2", Ok("3")),
        ("CASE WHEN 1 = 1 THEN 0 ELSE 9223372036854775807 + 1 END", Ok("0")),
        ("NULL + 9223372036854775807", Ok("")),
        ("6 # 3", Ok("5")),
        ("CAST(-1 AS smallint) # CAST(1 AS smallint)", Ok("-2")),
        ("7 # NULL", Ok("")),
    ];
    for (expression, expected) in cases {
        let found = computed(expression).map(|value| array_value_to_string(&value, 0).expect("shown"));
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{expression}");
    }
}

#[test]
fn quotients_of_numerics_are_rounded() {
    let cases = [
        ("CAST(1 AS numeric) / 3", Ok("0.3333333333333333")),
        ("2 / CAST(-3 AS numeric)", Ok("-0.6666666666666667")),
        ("CAST(1 AS numeric(4, 2)) / CAST(8 AS numeric(4, 2))", Ok("0.1250000000000000")),
        ("CAST(1 AS numeric(20, 18)) / 3", Ok("0.333333333333333333")),
        ("1 / CAST(3 AS numeric(20, 18))", Ok("0.333333333333333333")),
        ("CAST(7 AS numeric(3, 1)) / 2.5", Ok("2.8000000000000000")),
        ("1.0 / CAST(3 AS numeric)", Ok("0.3333333333333333")),
        ("CAST('9999999999999999999999' AS numeric(38, 0)) / 1", Ok("9999999999999999999999.0000000000000000")),
        ("CAST('10000000000000000000000' AS numeric(38, 0)) / 1", Err("numeric out of range")),
        ("NULL / CAST(1 AS numeric)", Ok("")),
        ("CAST(1 AS numeric) / CASE WHEN 1 = 1 THEN 2 ELSE CAST(2.5 AS numeric(2, 1)) END", Ok("0.5000000000000000")),
        ("CASE WHEN 1 = 2 THEN 1 ELSE CAST(2.5 AS numeric(2, 1)) END / 3", Ok("0.8333333333333333")),
        ("CAST(1 AS numeric) / CASE WHEN 1 = 2 THEN 1 ELSE CAST(4 AS double precision) END", Ok("0.25")),
        ("CAST(7 AS numeric(3, 1)) % 2", Ok("1.0")),
    ];
    for (expression, expected) in cases {
        let found = computed(expression).map(|value| array_value_to_string(&value, 0).expect("shown"));
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{expression}");
    }
}

#[test]
fn what_is_no_number_has_no_sign() {
    let infinity = "CAST('Infinity' AS double precision)";
    for expression in
        [format!("{infinity} - {infinity}"), format!("-({infinity} - {infinity})"), format!("{infinity} * 0")]
    {
        let value = computed(&expression).expect("computed");
        let value = value.as_primitive::<Float64Type>().value(0);
        assert_eq!(value.to_bits(), f64::NAN.to_bits(), "{expression}");
    }
    let zero = computed("- CAST(0 AS double precision)").expect("computed");
    assert_eq!(zero.as_primitive::<Float64Type>().value(0).to_bits(), (-0.0_f64).to_bits());
}

#[test]
fn divided_numerics_are_called_and_typed_as_they_were_bound() {
    let numeric = |precision, scale| DataType::Decimal128(precision, scale);
    let fields = vec![Field::new("n", numeric(10, 2), false), Field::new("m", numeric(8, 4), true)];
    let schema = DFSchema::try_from(Schema::new(fields)).expect("a schema");
    let bound = division::quotient(col("n"), col("m"), &schema).expect("bound");
    let made = exact(bound.clone(), &schema).expect("typed").data;
    assert_ne!(made, bound);
    for expr in [&bound, &made] {
        assert_eq!(expr.schema_name().to_string(), "n / m");
        assert_eq!(expr.get_type(&schema).expect("typed"), numeric(28, 16));
        assert!(expr.nullable(&schema).expect("known"));
    }
    assert_eq!(written(made).expect("the same"), col("n") / col("m"));
    // What was no division of numerics when it was bound keeps its type.
    let late = col("n") / col("m");
    let made = exact(late.clone(), &schema).expect("typed").data;
    assert_eq!(made.get_type(&schema).expect("typed"), late.get_type(&schema).expect("typed"));
    assert_ne!(made, late);
}

fn schema() -> DFSchema {
    let field = |name: &str, of: DataType| Field::new(name, of, true);
    let fields = vec![field("a", DataType::Int64), field("b", DataType::Int32), field("x", DataType::Float64)];
    DFSchema::try_from(Schema::new(fields)).expect("a schema")
}

#[test]
fn functions_are_called_as_their_operators_are() {
    let wide = || cast(col("b"), DataType::Int64);
    let exprs = [
        col("a") + lit(1_i64),
        col("a") * (wide() - lit(2_i64)) / lit(3_i64),
        -col("a") + wide(),
        cast(col("a") + lit(1_i64), DataType::Float64) % col("x"),
        (col("a") + lit(1_i64)).gt(lit(5_i64)),
    ];
    let schema = schema();
    for expr in exprs {
        let made = expr.clone().transform_up(|expr| exact(expr, &schema)).expect("typed").data;
        assert_ne!(made, expr);
        assert_eq!(made.schema_name().to_string(), expr.schema_name().to_string());
        assert_eq!(made.get_type(&schema).expect("typed"), expr.get_type(&schema).expect("typed"));
        assert_eq!(made.nullable(&schema).expect("known"), expr.nullable(&schema).expect("known"));
        assert_eq!(written(made).expect("the same"), expr);
    }
}

#[test]
fn what_is_null_alone_gives_null() {
    let none = DataType::Null;
    let of_null = DFSchema::try_from(Schema::new(vec![Field::new("n", none, true)])).expect("a schema");
    let typed = DFSchema::try_from(Schema::new(vec![Field::new("n", DataType::Int64, true)])).expect("a schema");
    let made = (col("n") + lit(1_i64)).transform_up(|expr| exact(expr, &typed)).expect("typed").data;
    let (props, context) = (ExecutionProps::default(), PhysicalPlanningContext::default());
    let planned = create_physical_expr(&made, &of_null, &props, &context).expect("planned");
    let columns = vec![arrow::array::new_null_array(&DataType::Null, 2)];
    let rows = RecordBatch::try_new(Arc::new(of_null.as_arrow().clone()), columns).expect("rows");
    let value = planned.evaluate(&rows).and_then(|value| value.into_array(2)).expect("computed");
    assert_eq!((value.null_count(), value.data_type()), (2, &DataType::Int64));
}

#[test]
fn other_arithmetic_is_left_alone() {
    let schema = schema();
    for expr in [col("a") % lit(2_i64), col("a").eq(lit(2_i64)), col("b") + lit(1_i64)] {
        let made = expr.clone().transform_up(|expr| exact(expr, &schema)).expect("typed").data;
        assert_eq!(made, expr);
    }
}

#[test]
fn long_sums_are_named_in_time() {
    let sum = (0..500).fold(col("a"), |sum, _| sum + lit(1_i64));
    let schema = schema();
    let made = sum.clone().transform_up(|expr| exact(expr, &schema)).expect("typed").data;
    assert_eq!(made.schema_name().to_string(), sum.schema_name().to_string());
    assert!(made.to_field(&schema).expect("typed").1.is_nullable());
}

#[test]
fn numerics_fail_where_they_have_more_digits_than_there_are() {
    let most = "9".repeat(38);
    let wide = format!("CAST('{most}' AS numeric(38, 0))");
    let short = format!("{}8", "9".repeat(37));
    let out_of_range = Err("numeric out of range");
    let cases = [
        (format!("{wide} + 1"), out_of_range),
        (format!("-1 - {wide}"), out_of_range),
        (format!("{wide} * CAST(1.5 AS numeric(2, 1))"), out_of_range),
        (format!("CAST('{}.{}' AS numeric) + 1", "9".repeat(28), "9".repeat(10)), out_of_range),
        (format!("{wide} - 1"), Ok(short.as_str())),
        (format!("{wide} * 1"), Ok(most.as_str())),
        (format!("{wide} % 10"), Ok("9")),
    ];
    for (expression, expected) in cases {
        let found = computed(&expression).map(|value| array_value_to_string(&value, 0).expect("shown"));
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{expression}");
    }
    // Where nothing is folded before rows are there.
    let field = |name| Field::new(name, DataType::Decimal128(38, 0), true);
    let schema = DFSchema::try_from(Schema::new(vec![field("a"), field("b")])).expect("a schema");
    let made = exact(col("a") * col("b"), &schema).expect("typed").data;
    let (props, context) = (ExecutionProps::default(), PhysicalPlanningContext::default());
    let planned = create_physical_expr(&made, &schema, &props, &context).expect("planned");
    let of = |values: Vec<Option<i128>>| {
        let values = arrow::array::Decimal128Array::from(values).with_precision_and_scale(38, 0);
        Arc::new(values.expect("fits")) as ArrayRef
    };
    let most = 10_i128.pow(38) - 1;
    let product = |left, right| {
        let columns = vec![of(vec![Some(2), left, None]), of(vec![Some(3), right, Some(1)])];
        let rows = RecordBatch::try_new(Arc::new(schema.as_arrow().clone()), columns).expect("rows");
        planned.evaluate(&rows).and_then(|value| value.into_array(3))
    };
    let products = product(Some(most), Some(1)).expect("they fit");
    let products: Vec<Option<i128>> = products.as_primitive::<Decimal128Type>().iter().collect();
    assert_eq!(products, [Some(6), Some(most), None]);
    assert_eq!(
        product(Some(10_i128.pow(37)), Some(10)).expect_err("too large").to_string(),
        "External error: numeric out of range"
    );
}
