//! The words as they are persisted: a test that fails here says that state of the version before is lost.

use super::*;
use arrow::array::{Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Fields, Schema};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion_physical_expr::expressions::{
    NoOp, binary, case, cast, in_list, is_not_null, is_null, like, lit, negative, not, try_cast,
};

type Expr = Arc<dyn PhysicalExpr>;

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
        Field::new("c", DataType::Boolean, true),
    ])
}

fn a() -> Expr {
    Arc::new(Column::new("a", 0))
}

fn b() -> Expr {
    Arc::new(Column::new("b", 1))
}

fn c() -> Expr {
    Arc::new(Column::new("c", 2))
}

fn of(expr: datafusion_common::Result<Expr>) -> String {
    expression(&expr.expect("an expression")).expect("known")
}

#[test]
fn columns_are_places_whatever_their_names() {
    assert_eq!(of(Ok(a())), "#0");
    assert_eq!(of(Ok(Arc::new(Column::new("renamed", 0)))), "#0");
}

#[test]
fn operators_stand_between_their_values_in_parentheses() {
    let schema = schema();
    let sum = binary(a(), Operator::Plus, lit(1_i64), &schema).expect("a sum");
    assert_eq!(of(Ok(Arc::clone(&sum))), "(#0 + 1:int64)");
    let less = binary(sum, Operator::LtEq, a(), &schema).expect("a condition");
    let both = binary(less, Operator::And, c(), &schema);
    assert_eq!(of(both), "(((#0 + 1:int64) <= #0) and #2)");
    let distinct = binary(a(), Operator::IsDistinctFrom, lit(ScalarValue::Int64(None)), &schema);
    assert_eq!(of(distinct), "(#0 is distinct from null:int64)");
}

#[test]
fn conditions_and_casts_have_words() {
    let schema = schema();
    assert_eq!(of(not(c())), "not(#2)");
    assert_eq!(of(is_null(a())), "is_null(#0)");
    assert_eq!(of(is_not_null(a())), "is_not_null(#0)");
    assert_eq!(of(negative(a(), &schema)), "negative(#0)");
    assert_eq!(of(cast(a(), &schema, DataType::Utf8)), "cast(#0 as utf8)");
    assert_eq!(of(try_cast(b(), &schema, DataType::Int64)), "try_cast(#1 as int64)");
    assert_eq!(of(like(true, false, b(), lit("a%"), &schema)), "(#1 not like 'a%':utf8)");
    assert_eq!(of(like(false, true, b(), lit("a%"), &schema)), "(#1 ilike 'a%':utf8)");
    let list = || vec![lit(1_i64), lit(2_i64)];
    assert_eq!(of(in_list(a(), list(), &false, &schema)), "(#0 in [1:int64,2:int64])");
    assert_eq!(of(in_list(a(), list(), &true, &schema)), "(#0 not in [1:int64,2:int64])");
    let chosen = case(Some(a()), vec![(lit(1_i64), b())], Some(lit("x")));
    assert_eq!(of(chosen), "case(#0 when 1:int64 then #1 else 'x':utf8)");
    let searched = case(None, vec![(c(), a()), (is_null(a()).expect("a condition"), lit(0_i64))], None);
    assert_eq!(of(searched), "case( when #2 then #0 when is_null(#0) then 0:int64)");
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Named {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Named {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> datafusion_common::Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> datafusion_common::Result<ColumnarValue> {
        Ok(args.args[0].clone())
    }
}

#[test]
fn functions_are_their_names_arguments_and_types() {
    let called = |name: &'static str| -> Expr {
        let function = ScalarUDF::from(Named { name, signature: Signature::any(2, Volatility::Immutable) });
        let returns = Arc::new(Field::new(name, DataType::Float64, true));
        Arc::new(ScalarFunctionExpr::new(name, Arc::new(function), vec![a(), b()], returns, Arc::default()))
    };
    assert_eq!(of(Ok(called("power"))), "power(#0,#1):float64");
    assert_eq!(of(Ok(called("= any"))), "'= any'(#0,#1):float64");
    assert_eq!(of(Ok(called("it's"))), "'it''s'(#0,#1):float64");
}

#[test]
fn values_are_exact() {
    use ScalarValue as V;
    let list = ListArray::new(
        Arc::new(Field::new_list_field(DataType::Int64, true)),
        OffsetBuffer::from_lengths([2]),
        Arc::new(Int64Array::from(vec![Some(1), None])),
        None,
    );
    let cases = [
        (V::Null, "null:null"),
        (V::Boolean(Some(true)), "true:boolean"),
        (V::Int32(Some(-5)), "-5:int32"),
        (V::UInt64(Some(u64::MAX)), "18446744073709551615:uint64"),
        (V::Float64(Some(1.0)), "3ff0000000000000:float64"),
        (V::Float64(Some(-0.0)), "8000000000000000:float64"),
        (V::Float32(Some(0.5)), "3f000000:float32"),
        (V::Decimal128(Some(-1250), 10, 2), "-1250:decimal128(10,2)"),
        (V::Utf8(Some("it's".to_owned())), "'it''s':utf8"),
        (V::LargeUtf8(None), "null:large_utf8"),
        (V::Binary(Some(vec![0, 255])), "00ff:binary"),
        (V::Date32(Some(3)), "3:date32"),
        (V::TimestampMicrosecond(Some(7), Some("UTC".into())), "7:timestamp(us,'UTC')"),
        (V::TimestampMillisecond(Some(7), None), "7:timestamp(ms)"),
        (V::new_interval_mdn(1, 2, 3), "1m2d3ns:interval(month_day_nano)"),
        (V::List(Arc::new(list)), "[1:int64,null:int64]:list(int64)"),
    ];
    for (value, expected) in cases {
        assert_eq!(literal(&value).expect("known"), expected);
    }
}

#[test]
fn types_have_words_of_ours() {
    let field = |name: &str, of: DataType| Field::new(name, of, true);
    let fields = Fields::from(vec![field("x", DataType::Int16), field("it's", DataType::Utf8View)]);
    let cases = [
        (DataType::Time64(TimeUnit::Microsecond), "time64(us)"),
        (DataType::Duration(TimeUnit::Second), "duration(s)"),
        (DataType::FixedSizeBinary(16), "fixed_size_binary(16)"),
        (DataType::Decimal256(76, -2), "decimal256(76,-2)"),
        (DataType::Struct(fields), "struct('x':int16,'it''s':utf8_view)"),
        (DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), "dictionary(int8,utf8)"),
    ];
    for (of, expected) in cases {
        assert_eq!(data_type(&of).expect("known"), expected);
    }
}

#[test]
fn keys_and_orders_have_words_of_ours() {
    let schema: SchemaRef = Arc::new(schema());
    assert_eq!(keys(&[a(), b()], &schema).expect("known"), "(#0: int64, #1: utf8)");
    assert_eq!(types(&schema).expect("known"), "int64, utf8, boolean");
    let options = SortOptions { descending: true, nulls_first: false };
    assert_eq!(sort_key(&SortKey { expr: a(), options }).expect("known"), "#0 desc nulls last");
}

#[test]
fn what_is_not_known_is_refused() {
    let unknown: Expr = Arc::new(NoOp::new());
    let within = not(Arc::clone(&unknown)).expect("an expression");
    for expr in [unknown, within] {
        let error = expression(&expr).expect_err("no words");
        assert!(matches!(&error, Error::Plan(reason) if reason.starts_with("an expression (NoOp)")), "{error}");
    }
    let refused = DataType::RunEndEncoded(
        Arc::new(Field::new("ends", DataType::Int32, false)),
        Arc::new(Field::new("values", DataType::Int64, true)),
    );
    assert!(data_type(&refused).is_err());
    assert!(operator(Operator::AtArrow).is_err());
}
