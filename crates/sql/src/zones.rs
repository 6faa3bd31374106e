//! Time zones: `AT TIME ZONE`, in both directions, and the hour of an instant.
//!
//! What the functions here give depends on their arguments alone; `zoned` puts a session's zone into
//! them.

use crate::error::DataError;
use crate::types::{is_text, pg_name};
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
pub use highwater_values::zones::{Zone, is_known, offset_name, offset_setting};
use std::sync::Arc;

/// What `value AT TIME ZONE zone` is as a function, as in PostgreSQL.
pub(crate) const AT_ZONE: &str = "timezone";

/// What an instant's hour in a zone is as a function.
const HOUR: &str = "hour_at_time_zone";

/// `timezone(zone, value)`, or the begin of an instant's hour in a zone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AtZone {
    name: &'static str,
    signature: Signature,
}

impl AtZone {
    pub(crate) fn udf() -> ScalarUDF {
        Self::named(AT_ZONE)
    }

    pub(crate) fn hour() -> ScalarUDF {
        Self::named(HOUR)
    }

    fn named(name: &'static str) -> ScalarUDF {
        ScalarUDF::from(Self { name, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

fn refused(sqlstate: &'static str, message: String) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate, message }))
}

/// Refuses the name of a time zone that is none.
///
/// # Errors
/// That of the first time there.
pub(crate) fn check(name: &str) -> Result<()> {
    if is_known(name) { Ok(()) } else { Err(unknown(name)) }
}

fn unknown(name: &str) -> DataFusionError {
    refused("22023", format!("time zone \"{name}\" not recognized"))
}

/// The instant at which the hour of an instant began.
fn hour(zone: &Zone, instant: i64) -> Option<i64> {
    let shown = zone.local(instant)?;
    instant.checked_sub(shown.rem_euclid(3_600_000_000))
}

fn computed(zones: &ArrayRef, times: &ArrayRef, name: &str) -> Result<ArrayRef> {
    let compute: fn(&Zone, i64) -> Option<i64> = match (name, times.data_type()) {
        (HOUR, _) => hour,
        (_, DataType::Timestamp(_, Some(_))) => Zone::local,
        _ => Zone::instant,
    };
    let is_local = name != HOUR && matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    let zones = zones.as_string::<i32>();
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut last: Option<(&str, Zone)> = None;
    let mut made = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if zones.is_null(row) || times.is_null(row) {
            made.push(None);
            continue;
        }
        let named = zones.value(row);
        let zone = match last.take() {
            Some((known, zone)) if known == named => zone,
            _ => Zone::named(named).ok_or_else(|| unknown(named))?,
        };
        let time = compute(&zone, times.value(row));
        last = Some((named, zone));
        made.push(Some(time.ok_or_else(|| refused("22008", "timestamp out of range".to_owned()))?));
    }
    let made = TimestampMicrosecondArray::from(made);
    Ok(if is_local { Arc::new(made) } else { Arc::new(made.with_timezone("UTC")) })
}

impl ScalarUDFImpl for AtZone {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [zone, DataType::Timestamp(_, of)] if is_text(zone) || zone.is_null() => {
                let of = of.as_ref().map(|_| "UTC".into());
                Ok(vec![DataType::Utf8, DataType::Timestamp(TimeUnit::Microsecond, of)])
            }
            _ => {
                let given: Vec<String> = given.iter().map(pg_name).collect();
                plan_err!("function {}({}) does not exist", self.name, given.join(", "))
            }
        }
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let is_local = self.name != HOUR && matches!(args.get(1), Some(DataType::Timestamp(_, Some(_))));
        Ok(DataType::Timestamp(TimeUnit::Microsecond, (!is_local).then(|| "UTC".into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = computed(&arrays[0], &arrays[1], self.name)?;
        if is_constant {
            return ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_begins_as_a_zones_clocks_show_it() {
        let kathmandu = Zone::named("Asia/Kathmandu").expect("a zone");
        // 2024-01-01 12:30 and 12:15 in UTC are 18:15 and 18:00 there.
        assert_eq!(hour(&kathmandu, 1_704_112_200_000_000), Some(1_704_111_300_000_000));
    }
}
