//! Time zones: `AT TIME ZONE`, in both directions.
//!
//! A session's own zone is UTC, so a zone matters only where a query names one, and what it gives
//! depends on its arguments alone. Zones are those of the IANA database that Arrow has.

use crate::error::DataError;
use crate::types::{is_text, pg_name};
use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// What `value AT TIME ZONE zone` is as a function, as in PostgreSQL.
pub(crate) const AT_ZONE: &str = "timezone";

/// `timezone(zone, value)`
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AtZone {
    signature: Signature,
}

impl AtZone {
    pub(crate) fn udf() -> ScalarUDF {
        ScalarUDF::from(Self { signature: Signature::user_defined(Volatility::Immutable) })
    }
}

/// Whether there is a time zone of this name, in any case.
#[must_use]
pub fn is_known(name: &str) -> bool {
    zone_of(name).is_some()
}

/// The zone of a name. What is written as an offset has the opposite sign in PostgreSQL, and is none.
fn zone_of(name: &str) -> Option<Tz> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let known = |name: &str| name.parse::<Tz>().ok();
    is_name.then(|| known(name).or_else(|| known(&capitals(name))).or_else(|| known(&name.to_uppercase())))?
}

/// A name as the database spells most: `America/New_York`.
fn capitals(name: &str) -> String {
    let mut starts = true;
    let letter = |c: char| {
        let letter = if starts { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        starts = !c.is_ascii_alphanumeric();
        letter
    };
    name.chars().map(letter).collect()
}

fn refused(sqlstate: &'static str, message: String) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate, message }))
}

/// Microseconds since 1970 on the clocks of a zone, of an instant.
fn local(zone: &Tz, instant: i64) -> Option<i64> {
    let utc = DateTime::from_timestamp_micros(instant)?.naive_utc();
    let ahead = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
    instant.checked_add(i64::from(ahead) * 1_000_000)
}

/// The instant at which the clocks of a zone show a time: of two the later one, and of a time that is
/// passed over, the one that clocks would show that had not been put forward.
fn instant(zone: &Tz, local: i64) -> Option<i64> {
    let shown = DateTime::from_timestamp_micros(local)?.naive_utc();
    let ahead = ahead_at(zone, shown)?;
    local.checked_sub(i64::from(ahead) * 1_000_000)
}

/// By how many seconds a zone's clocks are ahead of UTC when they show a time.
fn ahead_at(zone: &Tz, shown: NaiveDateTime) -> Option<i32> {
    // A day is the longest time that a zone has passed over.
    (0..=9).find_map(|steps| {
        let before = shown.checked_sub_signed(TimeDelta::hours(3 * steps))?;
        match zone.offset_from_local_datetime(&before) {
            LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => Some(offset.fix().local_minus_utc()),
            LocalResult::None => None,
        }
    })
}

fn computed(zones: &ArrayRef, times: &ArrayRef) -> Result<ArrayRef> {
    let (zones, is_instant) = (zones.as_string::<i32>(), matches!(times.data_type(), DataType::Timestamp(_, Some(_))));
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut last: Option<(&str, Tz)> = None;
    let mut made = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if zones.is_null(row) || times.is_null(row) {
            made.push(None);
            continue;
        }
        let name = zones.value(row);
        let zone = match last {
            Some((known, zone)) if known == name => zone,
            _ => zone_of(name).ok_or_else(|| refused("22023", format!("time zone \"{name}\" not recognized")))?,
        };
        last = Some((name, zone));
        let time = times.value(row);
        let time = if is_instant { local(&zone, time) } else { instant(&zone, time) };
        made.push(Some(time.ok_or_else(|| refused("22008", "timestamp out of range".to_owned()))?));
    }
    let made = TimestampMicrosecondArray::from(made);
    Ok(if is_instant { Arc::new(made) } else { Arc::new(made.with_timezone("UTC")) })
}

impl ScalarUDFImpl for AtZone {
    fn name(&self) -> &str {
        AT_ZONE
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
                plan_err!("function {AT_ZONE}({}) does not exist", given.join(", "))
            }
        }
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let is_instant = matches!(args.get(1), Some(DataType::Timestamp(_, Some(_))));
        Ok(DataType::Timestamp(TimeUnit::Microsecond, (!is_instant).then(|| "UTC".into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = computed(&arrays[0], &arrays[1])?;
        if is_constant {
            return ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").expect("a time");
        time.and_utc().timestamp_micros()
    }

    #[test]
    fn clocks_show_what_they_do_in_postgresql() {
        for (name, shown, utc) in [
            ("Europe/Berlin", "2024-01-01 13:00:00", "2024-01-01 12:00:00"),
            ("Europe/Berlin", "2024-07-01 14:00:00", "2024-07-01 12:00:00"),
            ("europe/berlin", "2024-07-01 14:00:00", "2024-07-01 12:00:00"),
            ("America/New_York", "2024-01-01 07:00:00", "2024-01-01 12:00:00"),
            ("Asia/Kathmandu", "2024-01-01 17:45:00", "2024-01-01 12:00:00"),
            ("utc", "2024-01-01 12:00:00", "2024-01-01 12:00:00"),
            // Shown twice: the second time counts.
            ("Europe/Berlin", "2024-10-27 02:30:00", "2024-10-27 01:30:00"),
        ] {
            let zone = zone_of(name).expect(name);
            assert_eq!(instant(&zone, micros(shown)), Some(micros(utc)), "{name} {shown}");
            assert_eq!(local(&zone, micros(utc)), Some(micros(shown)), "{name} {utc}");
        }
        // Passed over.
        let berlin = zone_of("Europe/Berlin").expect("a zone");
        assert_eq!(instant(&berlin, micros("2024-03-31 02:30:00")), Some(micros("2024-03-31 01:30:00")));
        let samoa = zone_of("Pacific/Apia").expect("a zone");
        assert!(instant(&samoa, micros("2011-12-30 12:00:00")).is_some());
        assert_eq!(local(&berlin, i64::MAX), None);
    }

    #[test]
    fn names_are_known_and_offsets_are_not() {
        for name in ["Europe/Berlin", "america/new_york", "UTC", "gmt", "Etc/UTC", "EST"] {
            assert!(is_known(name), "{name}");
        }
        for name in ["", "+02", "-05:00", "Europe/Atlantis", "nowhere"] {
            assert!(!is_known(name), "{name}");
        }
    }
}
