//! Names that PostgreSQL has for DataFusion's functions, and `make_timestamp`, which DataFusion has not.

use crate::error::DataError;
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use chrono::NaiveDate;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// DataFusion's name of an aggregate, and PostgreSQL's.
const AGGREGATES: [(&str, &str); 2] = [("var", "variance"), ("bool_and", "every")];

/// Makes the names known.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for (known, name) in AGGREGATES {
        let aggregate = state.udaf(known)?.as_ref().clone().with_aliases([name]);
        state.register_udaf(Arc::new(aggregate))?;
    }
    let sign = state.udf("signum")?.as_ref().clone().with_aliases(["sign"]);
    state.register_udf(Arc::new(sign))?;
    let mut types = vec![DataType::Int64; 5];
    types.push(DataType::Float64);
    let made = MakeTimestamp { signature: Signature::exact(types, Volatility::Immutable) };
    state.register_udf(Arc::new(ScalarUDF::from(made)))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MakeTimestamp {
    signature: Signature,
}

fn out_of_range(message: String) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate: "22008", message }))
}

/// Microseconds since 1970; years before 1 are those before Christ.
fn made([year, month, day, hour, minute]: [i64; 5], second: f64) -> Result<i64> {
    let counted = if year < 0 { year + 1 } else { year };
    let date = match (i32::try_from(counted), u32::try_from(month), u32::try_from(day)) {
        (Ok(counted), Ok(month), Ok(day)) if year != 0 => NaiveDate::from_ymd_opt(counted, month, day),
        _ => None,
    };
    let Some(midnight) = date.and_then(|date| date.and_hms_opt(0, 0, 0)) else {
        return Err(out_of_range(format!("date field value out of range: {year}-{month:02}-{day:02}")));
    };
    let micros = (second * 1e6).round_ties_even();
    let is_time = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=6e7).contains(&micros);
    let of_day = if is_time { (hour * 60 + minute) * 60_000_000 + micros as i64 } else { i64::MAX };
    if of_day > 86_400_000_000 {
        return Err(out_of_range(format!("time field value out of range: {hour}:{minute:02}:{second:02}")));
    }
    Ok(midnight.and_utc().timestamp_micros() + of_day)
}

impl ScalarUDFImpl for MakeTimestamp {
    fn name(&self) -> &'static str {
        "make_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let of_row = |row: usize| -> Result<Option<i64>> {
            if arrays.iter().any(|array| array.is_null(row)) {
                return Ok(None);
            }
            let whole = |at: usize| arrays[at].as_primitive::<Int64Type>().value(row);
            made([whole(0), whole(1), whole(2), whole(3), whole(4)], arrays[5].as_primitive::<Float64Type>().value(row))
                .map(Some)
        };
        let times = (0..rows).map(of_row).collect::<Result<Vec<_>>>()?;
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
        if is_constant {
            return ScalarValue::try_from_array(&times, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_made_of_parts_that_there_are() {
        assert_eq!(made([2024, 3, 5, 14, 7], 9.25).expect("a time"), 1_709_647_629_250_000);
        assert_eq!(made([1970, 1, 1, 24, 0], 0.0).expect("a time"), 86_400_000_000);
        for (parts, second) in [([2024, 13, 1, 0, 0], 0.0), ([0, 1, 1, 0, 0], 0.0), ([2024, 1, 1, 24, 0], 1.0)] {
            assert!(made(parts, second).is_err(), "{parts:?}");
        }
    }
}
