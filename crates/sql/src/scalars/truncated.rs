//! `date_trunc` of timestamps, instants, dates and intervals, with decades, centuries and millennia, in the whole
//! range that they have: DataFusion's goes by nanoseconds for all that is no fixed length, and stays for `time`.
//!
//! Instants are truncated in UTC: [`crate::zoned`] has them as a session's clocks show them.

use super::{STAMP, may_be_text, refused};
use crate::bounded;
use crate::floats::is_interval;
use crate::types::{catalog_name, pg_name};
use arrow::array::{Array, ArrayRef, AsArray, StringArray, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{
    DataType, Field, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Puts the function in the place of DataFusion's.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    let of_time = state.udf("date_trunc")?;
    let signature = Signature::user_defined(Volatility::Immutable);
    state.register_udf(Arc::new(ScalarUDF::from(DateTrunc { of_time, signature })))?;
    Ok(())
}

/// What is left whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// So many microseconds, up to hours.
    Micros(i64),
    Day,
    Week,
    /// So many months that divide a year.
    Months(i32),
    /// So many years from those on that they divide.
    Years(i32),
    /// So many years from those on that are one more: there is no year 0.
    Ages(i32),
}

impl Unit {
    fn of(name: &str, of: &DataType) -> Result<Self> {
        Ok(match name.trim().to_lowercase().as_str() {
            "microsecond" | "microseconds" => Self::Micros(1),
            "millisecond" | "milliseconds" => Self::Micros(1000),
            "second" | "seconds" => Self::Micros(SECOND),
            "minute" | "minutes" => Self::Micros(60 * SECOND),
            "hour" | "hours" => Self::Micros(3600 * SECOND),
            "day" | "days" => Self::Day,
            "week" | "weeks" if is_interval(of) => {
                return Err(refused("0A000", "unit \"week\" not supported for type interval"));
            }
            "week" | "weeks" => Self::Week,
            "month" | "months" => Self::Months(1),
            "quarter" | "quarters" => Self::Months(3),
            "year" | "years" => Self::Years(1),
            "decade" | "decades" => Self::Years(10),
            "century" | "centuries" => Self::Ages(100),
            "millennium" | "millennia" => Self::Ages(1000),
            _ => {
                let message = format!("unit \"{name}\" not recognized for type {}", catalog_name(of));
                return Err(refused("22023", message));
            }
        })
    }

    /// A time in microseconds since 1970; none when it begins before all times.
    fn truncated(self, micros: i64) -> Option<i64> {
        let days = micros.div_euclid(DAY);
        let first = match self {
            Self::Micros(every) => return micros.checked_sub(micros.rem_euclid(every)),
            Self::Day => days,
            // 1970 began on a Thursday.
            Self::Week => days - (days + 3).rem_euclid(7),
            Self::Months(every) => {
                let (year, month) = year_and_month(days);
                first_day(year, month - (month - 1) % i64::from(every))
            }
            Self::Years(every) => {
                let (year, every) = (year_and_month(days).0, i64::from(every));
                first_day(year.div_euclid(every) * every, 1)
            }
            Self::Ages(every) => {
                let (year, every) = (year_and_month(days).0, i64::from(every));
                first_day((year - 1).div_euclid(every) * every + 1, 1)
            }
        };
        first.checked_mul(DAY)
    }

    /// An interval, whose parts are cut off towards nothing.
    const fn cut(self, of: IntervalMonthDayNano) -> IntervalMonthDayNano {
        let IntervalMonthDayNano { months, days, nanoseconds } = of;
        match self {
            Self::Micros(every) => IntervalMonthDayNano::new(months, days, nanoseconds - nanoseconds % (every * 1000)),
            Self::Day | Self::Week => IntervalMonthDayNano::new(months, days, 0),
            Self::Months(every) => IntervalMonthDayNano::new(months - months % every, 0, 0),
            Self::Years(every) | Self::Ages(every) => IntervalMonthDayNano::new(months - months % (every * 12), 0, 0),
        }
    }
}

/// Days from 0000-03-01 to 1970-01-01: years are counted from March on, so that the day that some have more is
/// their last one.
const TO_1970: i64 = 719_468;
/// Days of 400 years.
const CYCLE: i64 = 146_097;

/// The year and the month, from 1, of a day since 1970.
fn year_and_month(days: i64) -> (i64, i64) {
    let (cycles, day) = ((days + TO_1970).div_euclid(CYCLE), (days + TO_1970).rem_euclid(CYCLE));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let is_next_year = month >= 10;
    (cycles * 400 + year + i64::from(is_next_year), if is_next_year { month - 9 } else { month + 3 })
}

/// The first day of a month, since 1970.
const fn first_day(year: i64, month: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let in_cycle = year.rem_euclid(400);
    let day = in_cycle * 365 + in_cycle / 4 - in_cycle / 100 + (153 * month + 2) / 5;
    year.div_euclid(400) * CYCLE + day - TO_1970
}

/// Times of one type, each truncated to its unit.
fn truncated(units: &StringArray, times: &ArrayRef) -> Result<ArrayRef> {
    let first = units.iter().next().flatten();
    if let Some(unit) = first.filter(|first| units.iter().all(|unit| unit == Some(*first))) {
        return truncated_to(unit, times);
    }
    let of_row = |row: usize| {
        let time = times.slice(row, 1);
        if units.is_valid(row) {
            truncated_to(units.value(row), &time)
        } else {
            Ok(new_null_array(time.data_type(), 1))
        }
    };
    let rows = (0..times.len()).map(of_row).collect::<Result<Vec<_>>>()?;
    let rows: Vec<&dyn Array> = rows.iter().map(|row| row.as_ref()).collect();
    if rows.is_empty() { Ok(Arc::clone(times)) } else { Ok(concat(&rows)?) }
}

fn truncated_to(unit: &str, times: &ArrayRef) -> Result<ArrayRef> {
    let of = times.data_type();
    let unit = Unit::of(unit, of)?;
    if is_interval(of) {
        let intervals = times.as_primitive::<IntervalMonthDayNanoType>();
        return Ok(Arc::new(intervals.unary::<_, IntervalMonthDayNanoType>(|of| unit.cut(of))));
    }
    let stamps = times.as_primitive::<TimestampMicrosecondType>();
    let truncate = |micros: i64| unit.truncated(micros).ok_or_else(out_of_range);
    let made = stamps.try_unary::<_, TimestampMicrosecondType, DataFusionError>(truncate)?;
    Ok(Arc::new(made.with_data_type(of.clone())))
}

fn out_of_range() -> DataFusionError {
    refused("22008", "timestamp out of range")
}

/// The function for all types; that of `time` is DataFusion's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    of_time: Arc<ScalarUDF>,
    signature: Signature,
}

const fn is_time(of: &DataType) -> bool {
    matches!(of, DataType::Time32(_) | DataType::Time64(_))
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.of_time.name()
    }

    fn aliases(&self) -> &[String] {
        self.of_time.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let taken = match given {
            [unit, of] if may_be_text(unit) => match of {
                DataType::Timestamp(_, zone) => Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
                DataType::Interval(_) => Some(DataType::Interval(IntervalUnit::MonthDayNano)),
                DataType::Date32 | DataType::Null => Some(STAMP),
                of if may_be_text(of) => Some(STAMP),
                of if is_time(of) => Some(of.clone()),
                _ => None,
            },
            _ => None,
        };
        let Some(taken) = taken else {
            let given: Vec<String> = given.iter().map(pg_name).collect();
            return plan_err!("function date_trunc({}) does not exist", given.join(", "));
        };
        Ok(vec![DataType::Utf8, taken])
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [_, of] => Ok(of.clone()),
            _ => plan_err!("date_trunc takes a unit and a time"),
        }
    }

    /// Refuses a unit that is written out and is none.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [unit, of] = args.arg_fields else { return plan_err!("date_trunc takes a unit and a time") };
        let written = args.scalar_arguments.first().copied().flatten().and_then(|unit| unit.try_as_str().flatten());
        if let Some(written) = written.filter(|_| !is_time(of.data_type())) {
            Unit::of(written, of.data_type())?;
        }
        let is_nullable = unit.is_nullable() || of.is_nullable();
        Ok(Arc::new(Field::new(self.name(), of.data_type().clone(), is_nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.of_time.output_ordering(inputs)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // The optimizer asks what comes of columns that are null and nothing else.
        if args.args.iter().any(|arg| arg.data_type().is_null()) {
            return Ok(ColumnarValue::Array(new_null_array(args.return_field.data_type(), args.number_rows)));
        }
        if is_time(args.return_field.data_type()) {
            return self.of_time.inner().invoke_with_args(args);
        }
        bounded::by_columns(self.name(), &args, |args| truncated(args[0].as_string::<i32>(), &args[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};

    #[test]
    fn days_are_those_of_the_calendar() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day");
        for days in (-1_000_000..1_000_000).step_by(97) {
            let day = epoch + chrono::TimeDelta::days(days);
            let (year, month) = year_and_month(days);
            assert_eq!((year, month), (i64::from(day.year()), i64::from(day.month())), "{day}");
            assert_eq!(first_day(year, month), days - i64::from(day.day0()), "{day}");
        }
    }

    #[test]
    fn times_are_truncated_to_all_units() {
        let stamp = |text: &str| {
            let of = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").expect("a time");
            of.and_utc().timestamp_micros()
        };
        for (unit, expected) in [
            ("milliseconds", "2024-05-19 13:14:15.123"),
            ("second", "2024-05-19 13:14:15"),
            ("hour", "2024-05-19 13:00:00"),
            ("day", "2024-05-19 00:00:00"),
            ("week", "2024-05-13 00:00:00"),
            ("month", "2024-05-01 00:00:00"),
            ("quarter", "2024-04-01 00:00:00"),
            ("year", "2024-01-01 00:00:00"),
            ("decade", "2020-01-01 00:00:00"),
            ("Century", "2001-01-01 00:00:00"),
            ("millennium", "2001-01-01 00:00:00"),
        ] {
            let truncated = Unit::of(unit, &STAMP).expect(unit).truncated(stamp("2024-05-19 13:14:15.123456"));
            assert_eq!(truncated, Some(stamp(expected)), "{unit}");
        }
        let century = Unit::of("century", &STAMP).expect("a unit");
        assert_eq!(century.truncated(stamp("2000-12-31 00:00:00")), Some(stamp("1901-01-01 00:00:00")));
        let before = Unit::of("day", &STAMP).expect("a unit").truncated(stamp("1969-12-31 23:00:00"));
        assert_eq!(before, Some(stamp("1969-12-31 00:00:00")));
        assert_eq!(Unit::Day.truncated(i64::MIN), None);
        assert!(Unit::of("era", &STAMP).is_err());
    }

    #[test]
    fn intervals_are_cut_off() {
        let of = |unit: &str| {
            let unit = Unit::of(unit, &DataType::Interval(IntervalUnit::MonthDayNano)).expect(unit);
            unit.cut(IntervalMonthDayNano::new(29, -3, 7_261_500_000_000))
        };
        assert_eq!(of("minute"), IntervalMonthDayNano::new(29, -3, 7_260_000_000_000));
        assert_eq!(of("day"), IntervalMonthDayNano::new(29, -3, 0));
        assert_eq!(of("quarter"), IntervalMonthDayNano::new(27, 0, 0));
        assert_eq!(of("year"), IntervalMonthDayNano::new(24, 0, 0));
        assert!(Unit::of("week", &DataType::Interval(IntervalUnit::MonthDayNano)).is_err());
    }
}
