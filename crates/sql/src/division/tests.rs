//! The types of quotients, and quotients of columns.

use super::*;
use arrow::array::Scalar;

fn numeric(precision: u8, scale: i8) -> DataType {
    DataType::Decimal128(precision, scale)
}

#[test]
fn types_tell_how_many_digits_a_quotient_has() {
    for (dividend, divisor, quotient) in [
        (numeric(38, 10), numeric(38, 10), numeric(38, 16)),
        (numeric(10, 2), numeric(10, 2), numeric(26, 16)),
        (numeric(10, 2), numeric(20, 0), numeric(24, 16)),
        (numeric(20, 0), numeric(5, 4), numeric(38, 16)),
        (numeric(30, 18), numeric(10, 2), numeric(32, 18)),
        (numeric(10, 2), numeric(30, 18), numeric(38, 18)),
        (numeric(2, 2), numeric(1, 0), numeric(16, 16)),
        (numeric(38, 38), numeric(38, 38), numeric(38, 38)),
    ] {
        assert_eq!(quotient_type(&dividend, &divisor), Some(quotient), "{dividend} / {divisor}");
    }
    for other in [DataType::Int64, DataType::Float64, DataType::Null, numeric(3, -3)] {
        assert_eq!(quotient_type(&numeric(38, 10), &other), None, "{other}");
    }
}

fn column(values: Vec<Option<i128>>, of: DataType) -> Decimal128Array {
    Decimal128Array::from(values).with_data_type(of)
}

fn listed(quotients: Result<ArrayRef, ArrowError>) -> Vec<Option<i128>> {
    quotients.expect("quotients").as_primitive::<Decimal128Type>().iter().collect()
}

#[test]
fn columns_and_constants_are_divided_alike() {
    let (of, by) = (numeric(10, 2), numeric(5, 1));
    let to = quotient_type(&of, &by).expect("numerics");
    let dividends = [Some(100), Some(-200), None, Some(1), Some(0)];
    let divisors = [Some(30), Some(30), Some(0), None, Some(-7)];
    let (left, right) = (column(dividends.to_vec(), of.clone()), column(divisors.to_vec(), by.clone()));
    // Those of 1.00 / 3.0, -2.00 / 3.0 and 0.00 / -0.7.
    let expected = vec![Some(3_333_333_333_333_333), Some(-6_666_666_666_666_667), None, None, Some(0)];
    assert_eq!(listed(quotients(&left, &right, &to)), expected);
    for (row, quotient) in expected.iter().enumerate() {
        let one = |values: &Decimal128Array| Scalar::new(values.slice(row, 1));
        if divisors[row] != Some(0) {
            assert_eq!(listed(quotients(&left, &one(&right), &to))[row], *quotient, "by the constant in {row}");
        }
        if let Some(Some(divisor)) = divisors.get(row).filter(|divisor| **divisor != Some(0)) {
            let right = column(vec![Some(*divisor), None], by.clone());
            assert_eq!(listed(quotients(&one(&left), &right, &to)), [*quotient, None], "of the constant in {row}");
        }
    }
    let null = Scalar::new(column(vec![None], by));
    assert_eq!(listed(quotients(&left, &null, &to)), [None; 5]);
}

#[test]
fn zero_divides_nothing_and_what_is_too_large_is_no_quotient() {
    let of = numeric(38, 0);
    let to = quotient_type(&of, &of).expect("numerics");
    let divided = |dividend: i128, divisor: i128| {
        let one = |value| column(vec![Some(value)], of.clone());
        quotients(&one(dividend), &one(divisor), &to).map_err(|error| error.to_string())
    };
    let largest = 10_i128.pow(22) - 1;
    assert!(divided(1, 0).expect_err("no quotient").contains("Divide by zero"));
    assert!(divided(largest + 1, -1).expect_err("23 digits before the point").contains("overflow"));
    assert_eq!(listed(Ok(divided(-largest, 1).expect("22 digits"))), [Some(-largest * 10_i128.pow(16))]);
}
