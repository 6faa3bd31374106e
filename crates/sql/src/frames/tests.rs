//! Frames as they move, and which aggregates need them.

use super::*;
use arrow::array::{BooleanArray, Float64Array, Int32Array};
use arrow::datatypes::Field;
use datafusion::functions_aggregate::bit_and_or_xor::{bit_and_udaf, bit_or_udaf};
use datafusion::functions_aggregate::bool_and_or::{bool_and_udaf, bool_or_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::col;
use datafusion::physical_expr::expressions::Column;

/// A frame over a column of a type that the function gives too.
fn frame_of(function: Arc<AggregateUDF>, of: DataType) -> Frame {
    let field = Arc::new(Field::new("x", of, true));
    let told = Told {
        return_field: Arc::clone(&field),
        schema: Schema::new(vec![Arc::clone(&field)]),
        ignore_nulls: false,
        order_bys: Vec::new(),
        is_reversed: false,
        name: function.name().to_owned(),
        is_distinct: false,
        exprs: vec![Arc::new(Column::new("x", 0))],
        expr_fields: vec![field],
    };
    Frame { function, told, held: Vec::new() }
}

#[test]
fn a_frame_forgets_what_leaves_it() {
    let mut frame = frame_of(sum_udaf(), DataType::Float64);
    let values = |values: &[f64]| -> [ArrayRef; 1] { [Arc::new(Float64Array::from(values.to_vec()))] };
    assert_eq!(frame.evaluate().expect("a sum"), ScalarValue::Float64(None));
    frame.update_batch(&values(&[1e16, f64::INFINITY])).expect("added");
    frame.update_batch(&values(&[0.1, 0.2])).expect("added");
    assert_eq!(frame.evaluate().expect("a sum"), ScalarValue::Float64(Some(f64::INFINITY)));
    frame.retract_batch(&values(&[1e16, f64::INFINITY])).expect("taken away");
    assert_eq!(frame.evaluate().expect("a sum"), ScalarValue::Float64(Some(0.1 + 0.2)));
    frame.retract_batch(&values(&[0.1, 0.2])).expect("taken away");
    assert_eq!(frame.evaluate().expect("a sum"), ScalarValue::Float64(None));
    assert!(frame.retract_batch(&values(&[0.1])).is_err());
}

/// Each function over frames that move over values, against those values folded one by one.
#[test]
fn frames_of_bits_and_of_truths_are_those_of_their_values() {
    let values: Vec<Option<i32>> = (0..40).map(|i| (i % 7 != 3).then_some(i * 37 % 16)).collect();
    let truths: Vec<Option<bool>> = values.iter().map(|value| value.map(|value| value % 3 == 0)).collect();
    let numbers = |part: &[Option<i32>]| -> [ArrayRef; 1] { [Arc::new(Int32Array::from(part.to_vec()))] };
    let flags = |part: &[Option<bool>]| -> [ArrayRef; 1] { [Arc::new(BooleanArray::from(part.to_vec()))] };
    let mut every = frame_of(bool_and_udaf(), DataType::Boolean);
    let mut any = frame_of(bool_or_udaf(), DataType::Boolean);
    let mut common = frame_of(bit_and_udaf(), DataType::Int32);
    let mut united = frame_of(bit_or_udaf(), DataType::Int32);
    for end in 1..=values.len() {
        let start = end.saturating_sub(4);
        for (frame, all) in [(&mut every, &truths), (&mut any, &truths)] {
            frame.update_batch(&flags(&all[end - 1..end])).expect("added");
            frame.retract_batch(&flags(&all[start.saturating_sub(1)..start])).expect("taken away");
        }
        for (frame, all) in [(&mut common, &values), (&mut united, &values)] {
            frame.update_batch(&numbers(&all[end - 1..end])).expect("added");
            frame.retract_batch(&numbers(&all[start.saturating_sub(1)..start])).expect("taken away");
        }
        let (numbers, flags) = (values[start..end].iter().flatten(), truths[start..end].iter().flatten());
        let expected = [
            ScalarValue::Boolean(flags.clone().copied().reduce(|a, b| a && b)),
            ScalarValue::Boolean(flags.copied().reduce(|a, b| a || b)),
            ScalarValue::Int32(numbers.clone().copied().reduce(|a, b| a & b)),
            ScalarValue::Int32(numbers.copied().reduce(|a, b| a | b)),
        ];
        let found = [&mut every, &mut any, &mut common, &mut united].map(|frame| frame.evaluate().expect("a value"));
        assert_eq!(found, expected, "{start}..{end}");
    }
}

#[test]
fn what_can_be_taken_away_exactly_is() {
    let schema = Schema::new(vec![
        Field::new("l", DataType::Int64, true),
        Field::new("i", DataType::Int32, true),
        Field::new("f", DataType::Float64, true),
    ]);
    let schema = DFSchema::try_from(schema).expect("a schema");
    let whole = || cast(col("i"), DataType::Float64);
    for (function, arg, is_distinct, expected) in [
        ("count", col("f"), true, true),
        ("sum", col("l"), false, true),
        ("sum", col("l"), true, true),
        ("sum", col("f"), false, false),
        ("sum", col("f"), true, false),
        ("avg", whole(), false, true),
        ("avg", whole(), true, false),
        ("stddev", whole(), false, false),
        ("array_agg", col("i"), false, true),
        ("bool_and", col("i"), false, false),
        ("string_agg", col("i"), false, false),
    ] {
        let found = takes_away(function, &[arg], is_distinct, &schema).expect("known types");
        assert_eq!(found, expected, "{function} {is_distinct}");
    }
}
