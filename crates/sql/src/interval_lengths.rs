//! Intervals as numbers, for windows that go by them: DataFusion knows no RANGE of intervals.
//!
//! The number is the length in nanoseconds, a month having 30 days and a day 24 hours: intervals have one number where
//! they are equal, and are sorted as it is. The function has the name of its argument, so that columns keep theirs.

use arrow::array::{AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// All lengths that there are.
const LENGTH: DataType = DataType::Decimal128(38, 0);

const DAY: i128 = 86_400_000_000_000;

/// An interval's length.
pub(crate) fn length_of(interval: Expr) -> Expr {
    let function =
        ScalarUDF::from(Length { signature: Signature::any(1, Volatility::Immutable), aliases: [String::new()] });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![interval]))
}

fn nanoseconds(interval: IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months) * 30 + i128::from(interval.days);
    days * DAY + i128::from(interval.nanoseconds)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    signature: Signature,
    /// That it is written as what it is called with.
    aliases: [String; 1],
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &'static str {
        "interval_length"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [of] => Ok(of.schema_name().to_string()),
            _ => plan_err!("{} takes one interval", self.name()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(LENGTH)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let is_nullable = args.arg_fields.iter().any(|of| of.is_nullable());
        Ok(Arc::new(Field::new(self.name(), LENGTH, is_nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn evaluate_bounds(&self, _: &[&Interval]) -> Result<Interval> {
        Interval::make_unbounded(&LENGTH)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [of] = args.args.as_slice() else { return plan_err!("{} takes one interval", self.name()) };
        let intervals = of.to_array(args.number_rows)?;
        let Some(intervals) = intervals.as_primitive_opt::<IntervalMonthDayNanoType>() else {
            return plan_err!("{} takes one interval", self.name());
        };
        let lengths: Decimal128Array = intervals.unary::<_, Decimal128Type>(nanoseconds);
        Ok(ColumnarValue::Array(Arc::new(lengths.with_precision_and_scale(38, 0)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_that_are_equal_have_one_length() {
        let of = |months, days, nanos| nanoseconds(IntervalMonthDayNano::new(months, days, nanos));
        assert_eq!(of(1, 0, 0), of(0, 30, 0));
        assert_eq!(of(0, 1, 0), of(0, 0, 86_400_000_000_000));
        assert_eq!(of(1, -30, 5), 5);
        assert!(of(-1, 29, 0) < of(0, 0, 0));
        let longest = of(i32::MAX, i32::MAX, i64::MAX);
        assert!(longest > 0 && longest < 10_i128.pow(38), "{longest} has no more than 38 digits");
    }
}
