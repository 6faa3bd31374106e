//! What is refused, and that what only looks long is not.

use crate::session::{Relations, Session};
use crate::statement::Statement;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::util::display::array_value_to_string;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, LogicalPlan, ScalarFunctionArgs};
use std::sync::Arc;

fn computed(expression: &str) -> Result<String, String> {
    let session = Session::default();
    let statement = crate::parse(&format!("SELECT {expression}")).expect("a query");
    let Statement::Query(query) = statement else { panic!("{expression}: a query") };
    let plan = session.bind(&query, &Relations::default()).expect("bound");
    let LogicalPlan::Projection(plan) = plan else { panic!("{expression}: a projection") };
    let expr = session.evaluated(plan.expr[0].clone().unalias()).map_err(|error| error.to_string())?;
    let value = session.computed(&expr, 1).map_err(|error| error.to_string())?;
    Ok(array_value_to_string(&value, 0).expect("shown"))
}

#[test]
fn what_no_memory_holds_is_refused() {
    let million = "repeat('a', 1000000)";
    let long = "repeat('a', 70000000)";
    for expression in [
        "repeat('x', 2000000000)".to_owned(),
        "lpad('x', 2000000000)".to_owned(),
        format!("replace({million}, 'a', {million})"),
        format!("regexp_replace({million}, 'a', {million}, 'g')"),
        format!("regexp_replace({million}, '(a+)', repeat('\\1', 1000))"),
        format!("concat_ws({long}, 'a', 'b', 'c', 'd')"),
        format!("translate({long}, 'a', 'ü')"),
        format!("array_to_string(string_to_array({million}, NULL), {million})"),
        format!("array_replace(string_to_array({million}, NULL), 'a', {million})"),
        format!("{million} = ANY (string_to_array({million}, NULL))"),
        "array_repeat(1, 2000000000)".to_owned(),
    ] {
        let error = computed(&format!("length(CAST({expression} AS text))")).expect_err(&expression);
        assert!(error.contains("more than 256 MiB"), "{expression}: {error}");
    }
}

#[test]
fn what_only_might_be_long_is_not_refused() {
    let million = "repeat('a', 1000000)";
    for (expression, length) in [
        (format!("replace({million}, 'b', {million})"), 1_000_000),
        (format!("replace({million} || 'b', 'b', {million})"), 2_000_000),
        (format!("replace({million}, '', {million})"), 1_000_000),
        (format!("regexp_replace({million} || 'b', 'B', {million}, 'gi')"), 2_000_000),
        (format!("regexp_replace({million}, 'a', {million})"), 1_999_999),
        (format!("translate({million}, 'a', 'b')"), 1_000_000),
        (format!("{million} || CAST(NULL AS text) || 'x'"), 0),
        (format!("concat({million}, NULL, 'x')"), 1_000_001),
        ("array_to_string(ARRAY['a', 'b', NULL], ', ', '-')".to_owned(), 7),
    ] {
        let found = computed(&format!("coalesce(length({expression}), 0)"));
        assert_eq!(found, Ok(length.to_string()), "{expression}");
    }
}

/// Arrays of rows, with a constant beside them that is long only as often as there are rows.
#[test]
fn a_constant_counts_once_a_row() {
    let args = |rows: usize| {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"; rows]));
        vec![ColumnarValue::Array(texts), ColumnarValue::Scalar(ScalarValue::from("x".repeat(100_000)))]
    };
    let call = |name: &str, rows: usize| -> Result<ArrayRef, DataFusionError> {
        if name == "||" {
            return super::joined(&args(rows), rows)?.into_array(rows);
        }
        let field = Arc::new(Field::new("t", DataType::Utf8, true));
        let arg_fields = vec![Arc::clone(&field), Arc::clone(&field)];
        let config_options = Arc::new(ConfigOptions::default());
        let args =
            ScalarFunctionArgs { args: args(rows), arg_fields, number_rows: rows, return_field: field, config_options };
        Session::default().state().udf(name)?.invoke_with_args(args)?.into_array(rows)
    };
    for name in ["concat", "||"] {
        let error = call(name, 8192).expect_err(name);
        assert!(matches!(error, DataFusionError::ResourcesExhausted(_)), "{error}");
        let made = call(name, 100).expect(name);
        assert_eq!(made.len(), 100);
        assert!(made.as_string::<i32>().iter().all(|text| text.is_some_and(|text| text.len() == 100_001)));
    }
}
