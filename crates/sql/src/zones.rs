//! Time zones: `AT TIME ZONE`, in both directions, and the zone of a session.
//!
//! What the functions here give depends on their arguments alone; `zoned` puts a session's zone into
//! them. Zones are those of the IANA database that Arrow has.

use crate::error::DataError;
use crate::types::{is_text, pg_name};
use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
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

/// Names of the zone that needs no other.
const UTC: [&str; 7] = ["UTC", "Etc/UTC", "GMT", "Etc/GMT", "UCT", "Zulu", "Universal"];

/// A time zone by its name.
#[derive(Clone, Debug)]
pub struct Zone {
    name: Arc<str>,
    tz: Tz,
}

impl Zone {
    /// A session's zone; none for UTC, and for what is no zone.
    #[must_use]
    pub fn of(setting: &str) -> Option<Self> {
        // Most sessions are in UTC, and every statement asks.
        if UTC.contains(&setting) {
            return None;
        }
        Self::named(setting).filter(|zone| !UTC.contains(&zone.name()))
    }

    /// The zone of a name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let tz = zone_of(name)?;
        Some(Self { name: tz.to_string().into(), tz })
    }

    /// As the database spells it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The instant at which its clocks show a time: microseconds since 1970.
    #[must_use]
    pub fn instant(&self, local: i64) -> Option<i64> {
        instant(&self.tz, local)
    }

    /// What its clocks show at an instant: microseconds since 1970.
    #[must_use]
    pub fn local(&self, instant: i64) -> Option<i64> {
        local(&self.tz, instant)
    }

    /// A type whose instants are read and shown in this zone.
    #[must_use]
    pub fn of_type(&self, data_type: &DataType) -> DataType {
        match data_type {
            DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some(Arc::clone(&self.name))),
            DataType::List(of) => {
                let element = self.of_type(of.data_type());
                DataType::List(Arc::new(of.as_ref().clone().with_data_type(element)))
            }
            DataType::Struct(fields) => {
                let field = |field: &FieldRef| field.as_ref().clone().with_data_type(self.of_type(field.data_type()));
                DataType::Struct(fields.iter().map(field).collect())
            }
            other => other.clone(),
        }
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

/// The instant at which the hour of an instant began.
fn hour(zone: &Tz, instant: i64) -> Option<i64> {
    let shown = local(zone, instant)?;
    instant.checked_sub(shown.rem_euclid(3_600_000_000))
}

fn computed(zones: &ArrayRef, times: &ArrayRef, name: &str) -> Result<ArrayRef> {
    let compute = match (name, times.data_type()) {
        (HOUR, _) => hour,
        (_, DataType::Timestamp(_, Some(_))) => local,
        _ => instant,
    };
    let is_local = name != HOUR && matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    let zones = zones.as_string::<i32>();
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut last: Option<(&str, Tz)> = None;
    let mut made = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if zones.is_null(row) || times.is_null(row) {
            made.push(None);
            continue;
        }
        let named = zones.value(row);
        let zone = match last {
            Some((known, zone)) if known == named => zone,
            _ => zone_of(named).ok_or_else(|| refused("22023", format!("time zone \"{named}\" not recognized")))?,
        };
        last = Some((named, zone));
        let time = compute(&zone, times.value(row));
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
        let kathmandu = zone_of("Asia/Kathmandu").expect("a zone");
        assert_eq!(hour(&kathmandu, micros("2024-01-01 12:30:00")), Some(micros("2024-01-01 12:15:00")));
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
