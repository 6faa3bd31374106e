//! Factorials, whole quotients, the next whole numbers, buckets of equal width, and how many of several values are
//! null.

use super::{Scalar, by_row, double, may_be_whole, refused, whole};
use crate::arithmetic::out_of_range;
use crate::floats::is_float;
use crate::types::numeric;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, i256};
use datafusion::common::{Result, plan_err};
use std::sync::Arc;

/// A numeric without digits behind its point.
const WHOLE: DataType = DataType::Decimal128(38, 0);

/// Functions for which numbers that are written out with a fraction are numerics.
pub(crate) const OF_NUMERICS: [&str; 2] = ["div", "width_bucket"];

pub(super) static ALL: [Scalar; 7] = [
    Scalar {
        name: "factorial",
        takes: |given| match given {
            [of] if may_be_whole(of) => Some(vec![DataType::Int64]),
            _ => None,
        },
        gives: |_| DataType::Int64,
        is_strict: true,
        compute: |args| {
            let of = by_row(args, |row| factorial(whole(args, 0, row)))?;
            Ok(Arc::new(Int64Array::from(of)))
        },
    },
    Scalar {
        name: "ceil",
        takes: taken_for_whole,
        gives: |taken| whole_of(&taken[0]),
        is_strict: true,
        compute: |args| to_whole(args, f64::ceil, |value, factor| -value.wrapping_neg().div_euclid(factor)),
    },
    Scalar {
        name: "floor",
        takes: taken_for_whole,
        gives: |taken| whole_of(&taken[0]),
        is_strict: true,
        compute: |args| to_whole(args, f64::floor, i128::div_euclid),
    },
    Scalar {
        name: "div",
        takes: |given| if given.len() == 2 { given.iter().map(exact).collect() } else { None },
        gives: |_| WHOLE,
        is_strict: true,
        compute: div,
    },
    Scalar {
        name: "width_bucket",
        takes: taken_for_buckets,
        gives: |_| DataType::Int32,
        is_strict: true,
        compute: width_bucket,
    },
    Scalar {
        name: "num_nulls",
        takes: |given| (!given.is_empty()).then(|| given.to_vec()),
        gives: |_| DataType::Int32,
        is_strict: false,
        compute: |args| Ok(Arc::new(Int32Array::from(nulls(args)))),
    },
    Scalar {
        name: "num_nonnulls",
        takes: |given| (!given.is_empty()).then(|| given.to_vec()),
        gives: |_| DataType::Int32,
        is_strict: false,
        compute: |args| {
            let all = args.len() as i32;
            Ok(Arc::new(Int32Array::from_iter_values(nulls(args).into_iter().map(|nulls| all - nulls))))
        },
    },
];

/// A type of numbers as the numeric that holds them; floating point is none.
fn exact(of: &DataType) -> Option<DataType> {
    match of {
        DataType::Decimal128(..) => Some(of.clone()),
        DataType::Null => Some(numeric()),
        of if of.is_integer() => Some(DataType::Decimal128(20, 0)),
        _ => None,
    }
}

fn taken_for_whole(given: &[DataType]) -> Option<Vec<DataType>> {
    match given {
        [DataType::Decimal128(precision, scale)] if *scale >= 0 => Some(vec![DataType::Decimal128(*precision, *scale)]),
        [of] if of.is_numeric() || of.is_null() => Some(vec![DataType::Float64]),
        _ => None,
    }
}

/// The type of whole numbers of a type; a numeric may have one digit more before the point.
fn whole_of(of: &DataType) -> DataType {
    match of {
        DataType::Decimal128(precision, scale) if *scale > 0 => {
            DataType::Decimal128(precision.saturating_sub(scale.unsigned_abs()) + 1, 0)
        }
        other => other.clone(),
    }
}

/// Whole numbers next to values; of numerics by their number without the point and by what one whole is of these.
fn to_whole(args: &[ArrayRef], of_double: fn(f64) -> f64, of_numeric: fn(i128, i128) -> i128) -> Result<ArrayRef> {
    let values = &args[0];
    if let (DataType::Decimal128(_, scale), DataType::Decimal128(precision, _)) =
        (values.data_type(), whole_of(values.data_type()))
    {
        let factor = 10_i128.pow(u32::from(scale.unsigned_abs()));
        let values = values.as_primitive::<Decimal128Type>();
        let whole: Decimal128Array = values.unary(|value| of_numeric(value, factor));
        return Ok(Arc::new(whole.with_precision_and_scale(precision, 0)?));
    }
    Ok(Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(of_double)))
}

/// The product of the numbers up to one; a bigint, as no `numeric` of so many digits is told by the type.
fn factorial(of: i64) -> Result<i64> {
    if of < 0 {
        return Err(refused("22003", "factorial of a negative number is undefined"));
    }
    let product = (2..=of).try_fold(1_i64, i64::checked_mul);
    product.ok_or_else(|| out_of_range(&DataType::Int64))
}

/// How many are null, by row.
fn nulls(args: &[ArrayRef]) -> Vec<i32> {
    let mut counts = vec![0; args.first().map_or(0, |arg| arg.len())];
    for nulls in args.iter().filter_map(|arg| arg.logical_nulls()) {
        for (count, is_valid) in counts.iter_mut().zip(nulls.iter()) {
            *count += i32::from(!is_valid);
        }
    }
    counts
}

/// Numerics with one number of digits behind the point.
struct Scaled<'a> {
    values: &'a Decimal128Array,
    factor: i256,
}

impl Scaled<'_> {
    fn at(&self, row: usize) -> i256 {
        i256::from_i128(self.values.value(row)).wrapping_mul(self.factor)
    }
}

/// All of them with the most digits behind the point that one has: no product leaves 256 bits.
fn scaled(columns: &[ArrayRef]) -> Vec<Scaled<'_>> {
    let columns: Vec<&Decimal128Array> = columns.iter().map(|column| column.as_primitive::<Decimal128Type>()).collect();
    let most = columns.iter().map(|values| values.scale()).max().unwrap_or(0);
    let factor = |values: &Decimal128Array| {
        let digits = u32::from((most - values.scale()).unsigned_abs());
        i256::from_i128(10).wrapping_pow(digits)
    };
    columns.into_iter().map(|values| Scaled { values, factor: factor(values) }).collect()
}

fn div(args: &[ArrayRef]) -> Result<ArrayRef> {
    let columns = scaled(args);
    let [left, right] = columns.as_slice() else { return plan_err!("div takes two values") };
    let quotients = by_row(args, |row| quotient(left.at(row), right.at(row)))?;
    Ok(Arc::new(Decimal128Array::from(quotients).with_precision_and_scale(38, 0)?))
}

/// What is left of a quotient without its fraction.
fn quotient(left: i256, right: i256) -> Result<i128> {
    if right == i256::ZERO {
        return Err(refused("22012", "division by zero"));
    }
    let quotient = left.checked_div(right).and_then(i256::to_i128);
    let fits = quotient.filter(|quotient| quotient.unsigned_abs() < 10_u128.pow(38));
    fits.ok_or_else(|| out_of_range(&WHOLE))
}

fn taken_for_buckets(given: &[DataType]) -> Option<Vec<DataType>> {
    let [bounds @ .., count] = given else { return None };
    if bounds.len() != 3 || !may_be_whole(count) {
        return None;
    }
    let mut taken: Vec<DataType> = if bounds.iter().any(is_float) {
        bounds.iter().all(|of| of.is_numeric() || of.is_null()).then(|| vec![DataType::Float64; 3])?
    } else {
        bounds.iter().map(exact).collect::<Option<_>>()?
    };
    taken.push(DataType::Int64);
    Some(taken)
}

fn width_bucket(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [bounds @ .., _] = args else { return plan_err!("width_bucket takes four values") };
    let counts = |row: usize| match whole(args, 3, row) {
        ..1 => Err(refused("2201G", "count must be greater than zero")),
        count => i32::try_from(count).map(i64::from).map_err(|_| out_of_range(&DataType::Int32)),
    };
    let narrow = |bucket: i64| i32::try_from(bucket).map_err(|_| out_of_range(&DataType::Int32));
    let buckets = if bounds.iter().any(|column| is_float(column.data_type())) {
        by_row(args, |row| {
            let of_row = [0, 1, 2].map(|at| double(args, at, row));
            narrow(of_doubles(of_row, counts(row)?)?)
        })?
    } else {
        let columns = scaled(bounds);
        let [values, lows, highs] = columns.as_slice() else { return plan_err!("width_bucket takes four values") };
        by_row(args, |row| narrow(of_numerics([values, lows, highs].map(|column| column.at(row)), counts(row)?)?))?
    };
    Ok(Arc::new(Int32Array::from(buckets)))
}

/// The bucket of a value between two bounds, from 1; 0 before the first bound and one more than there are
/// behind the last.
fn of_doubles([value, low, high]: [f64; 3], count: i64) -> Result<i64> {
    if [value, low, high].iter().any(|bound| bound.is_nan()) {
        return Err(refused("2201G", "operand, lower bound, and upper bound cannot be NaN"));
    }
    if low.is_infinite() || high.is_infinite() {
        return Err(refused("2201G", "lower and upper bounds must be finite"));
    }
    let [value, low, high] = if low > high { [-value, -low, -high] } else { [value, low, high] };
    if low >= high {
        return Err(refused("2201G", "lower bound cannot equal upper bound"));
    }
    Ok(if value < low {
        0
    } else if value >= high {
        count + 1
    } else {
        let halves = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        let part = if (high - low).is_infinite() { halves } else { (value - low) / (high - low) };
        ((part * count as f64) as i64).min(count - 1) + 1
    })
}

fn of_numerics([value, low, high]: [i256; 3], count: i64) -> Result<i64> {
    let [value, low, high] = if low > high { [value, low, high].map(i256::wrapping_neg) } else { [value, low, high] };
    if low == high {
        return Err(refused("2201G", "lower bound cannot equal upper bound"));
    }
    if value < low {
        return Ok(0);
    }
    if value >= high {
        return Ok(count + 1);
    }
    let width = high.wrapping_sub(low);
    let times = value.wrapping_sub(low).checked_mul(i256::from_i128(i128::from(count)));
    let bucket = times.and_then(|times| times.checked_div(width)).and_then(i256::to_i128);
    let bucket = bucket.and_then(|bucket| i64::try_from(bucket).ok());
    bucket.map(|bucket| bucket + 1).ok_or_else(|| out_of_range(&WHOLE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::new_null_array;
    use arrow::datatypes::Int32Type;

    fn decimals(values: Vec<Option<i128>>, scale: i8) -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(30, scale).expect("fits"))
    }

    #[test]
    fn factorials_have_an_end() {
        assert_eq!([0, 1, 5].map(|of| factorial(of).expect("small")), [1, 1, 120]);
        assert_eq!(factorial(20).expect("the largest"), 2_432_902_008_176_640_000);
        assert!([-1, 21, i64::MAX].into_iter().all(|of| factorial(of).is_err()));
    }

    #[test]
    fn quotients_are_cut_off_towards_zero() {
        let left = decimals(vec![Some(75), Some(-75), None], 1);
        let right = decimals(vec![Some(200), Some(200), Some(1)], 2);
        let whole = div(&[left, right]).expect("computed");
        let whole: Vec<Option<i128>> = whole.as_primitive::<Decimal128Type>().iter().collect();
        assert_eq!(whole, [Some(3), Some(-3), None]);
        assert!(quotient(i256::ONE, i256::ZERO).is_err());
    }

    #[test]
    fn whole_numbers_may_have_a_digit_more() {
        let numerics = Decimal128Array::from(vec![Some(95), Some(-95), Some(90), Some(-5), None]);
        let numerics: ArrayRef = Arc::new(numerics.with_precision_and_scale(2, 1).expect("fits"));
        for (name, expected) in [
            ("ceil", [Some(10), Some(-9), Some(9), Some(0), None]),
            ("floor", [Some(9), Some(-10), Some(9), Some(-1), None]),
        ] {
            let scalar = ALL.iter().find(|scalar| scalar.name == name).expect("a function");
            let taken = (scalar.takes)(&[numerics.data_type().clone()]).expect("numerics");
            let found = (scalar.compute)(&[Arc::clone(&numerics)]).expect("computed");
            assert_eq!(found.data_type(), &(scalar.gives)(&taken));
            assert_eq!(found.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(), expected, "{name}");
        }
        assert_eq!(taken_for_whole(&[DataType::Int32]), Some(vec![DataType::Float64]));
        assert_eq!(taken_for_whole(&[DataType::Utf8]), None);
    }

    #[test]
    fn buckets_are_counted_from_the_first_bound() {
        for (value, low, high, count, bucket) in [
            (5.35, 0.024, 10.06, 5, 3),
            (-1.0, 0.0, 10.0, 5, 0),
            (10.0, 0.0, 10.0, 5, 6),
            (10.0, 10.0, 0.0, 5, 1),
            (0.0, 10.0, 0.0, 5, 6),
            (9.0, 10.0, 0.0, 5, 1),
            (f64::INFINITY, 0.0, 10.0, 5, 6),
        ] {
            assert_eq!(of_doubles([value, low, high], count).expect("a bucket"), bucket, "{value} in {low}..{high}");
        }
        assert!(of_doubles([1.0, 2.0, 2.0], 5).is_err());
        assert!(of_doubles([f64::NAN, 1.0, 2.0], 5).is_err());
        // As doubles this is just less than the 29th bound.
        let columns = [decimals(vec![Some(29)], 2), decimals(vec![Some(0)], 0), decimals(vec![Some(1)], 0)];
        let [value, low, high] = columns;
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![100]));
        let found = width_bucket(&[value, low, high, counts]).expect("computed");
        assert_eq!(found.as_primitive::<Int32Type>().value(0), 30);
    }

    #[test]
    fn nulls_are_counted_by_row() {
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let null = new_null_array(&DataType::Null, 2);
        assert_eq!(nulls(&[whole, null]), [1, 2]);
    }
}
