//! `date_bin(size, time)` for instants, which keeps their type: DataFusion's own gives nanoseconds for
//! them, through a cast by which a time no longer carries its watermark.

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// Whether times of a type are for it.
pub(crate) const fn takes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
}

/// The function: its first argument is a literal of more than 0 and without months and days.
pub(crate) fn of_instants() -> ScalarUDF {
    ScalarUDF::from(DateBin { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateBin {
    signature: Signature,
}

impl ScalarUDFImpl for DateBin {
    fn name(&self) -> &'static str {
        "date_bin"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [_, time] if takes(time) => Ok(time.clone()),
            _ => plan_err!("date_bin takes an interval and a timestamptz here"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(size))) = &args.args[0] else {
            return exec_err!("date_bin takes a literal interval here");
        };
        let times = args.args[1].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(starts(&times, size.nanoseconds / 1000)?))
    }
}

/// The greatest multiples of a size since 1970 that are not after the times.
fn starts(times: &ArrayRef, size_us: i64) -> Result<ArrayRef> {
    let DataType::Timestamp(TimeUnit::Microsecond, zone) = times.data_type() else {
        return exec_err!("date_bin takes a timestamptz here");
    };
    let start = |time: i64| {
        let start = time.div_euclid(size_us).checked_mul(size_us);
        start.ok_or_else(|| ArrowError::ComputeError(format!("time {time} is out of range for a window")))
    };
    let starts: TimestampMicrosecondArray = times.as_primitive::<TimestampMicrosecondType>().try_unary(start)?;
    Ok(Arc::new(starts.with_timezone_opt(zone.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_starts_at_a_multiple_of_its_size_and_keeps_the_type() {
        let instants =
            |times: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef;
        let times = instants(vec![Some(0), Some(9), Some(10), None, Some(-1), Some(-10)]);
        let found = starts(&times, 10).expect("in range");
        assert_eq!(&found, &instants(vec![Some(0), Some(0), Some(10), None, Some(-10), Some(-10)]));
        assert!(starts(&instants(vec![Some(i64::MIN)]), 10).is_err(), "there is no such time");
    }
}
