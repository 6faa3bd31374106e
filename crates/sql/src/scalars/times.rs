//! Times and intervals: what lies between two times, what is made of parts, and intervals with their hours and
//! days carried over.

use super::{INTERVAL, STAMP, Scalar, by_row, call, double, instant, may_be_text, may_be_whole, refused, whole};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, IntervalMonthDayNanoArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    DataType, Date32Type, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::{Expr, cast};
use std::ops::RangeInclusive;
use std::sync::Arc;

const DAY: i64 = 86_400_000_000;
/// The days that are dates, since 1970: from 24 November 4714 BC to 31 December 5874897.
const DATES: RangeInclusive<i64> = -2_440_588..=2_145_042_905;

/// What the difference of two times is called where state is kept by it.
pub(crate) const APART: &str = "times_apart";

static DIFFERENCE: Scalar = Scalar {
    name: APART,
    takes: two_times,
    gives: |_| INTERVAL,
    is_strict: true,
    compute: |args| between(args, days_and_time),
};

static LATER: Scalar = Scalar {
    name: "days_later",
    takes: date_and_days,
    gives: |_| DataType::Date32,
    is_strict: true,
    compute: |args| moved(args, i64::checked_add),
};

static EARLIER: Scalar = Scalar {
    name: "days_earlier",
    takes: date_and_days,
    gives: |_| DataType::Date32,
    is_strict: true,
    compute: |args| moved(args, i64::checked_sub),
};

pub(super) static ALL: [Scalar; 10] = [
    Scalar {
        name: "age",
        takes: two_times,
        gives: |_| INTERVAL,
        is_strict: true,
        compute: |args| between(args, symbolic),
    },
    Scalar {
        name: "make_date",
        takes: |given| parts(given, 3, 0),
        gives: |_| DataType::Date32,
        is_strict: true,
        compute: make_date,
    },
    Scalar {
        name: "make_time",
        takes: |given| parts(given, 2, 1),
        gives: |_| DataType::Time64(TimeUnit::Microsecond),
        is_strict: true,
        compute: |args| {
            let times = by_row(args, |row| time([whole(args, 0, row), whole(args, 1, row)], double(args, 2, row)))?;
            Ok(Arc::new(Time64MicrosecondArray::from(times)))
        },
    },
    Scalar {
        name: "make_timestamp",
        takes: |given| parts(given, 5, 1),
        gives: |_| STAMP,
        is_strict: true,
        compute: |args| Ok(Arc::new(timestamps(args)?)),
    },
    Scalar {
        name: "make_timestamptz",
        takes: |given| parts(given, 5, 1),
        gives: |_| instant(),
        is_strict: true,
        compute: |args| Ok(Arc::new(timestamps(args)?.with_timezone("UTC"))),
    },
    Scalar {
        name: "make_interval",
        takes: |given| parts(given, 6, 1),
        gives: |_| INTERVAL,
        is_strict: true,
        compute: make_interval,
    },
    Scalar {
        name: "justify_hours",
        takes: one_interval,
        gives: |_| INTERVAL,
        is_strict: true,
        compute: |args| justified(args, hours_carried),
    },
    Scalar {
        name: "justify_days",
        takes: one_interval,
        gives: |_| INTERVAL,
        is_strict: true,
        compute: |args| justified(args, days_carried),
    },
    Scalar {
        name: "justify_interval",
        takes: one_interval,
        gives: |_| INTERVAL,
        is_strict: true,
        compute: |args| justified(args, all_carried),
    },
    Scalar {
        name: "isfinite",
        takes: |given| match given {
            [of] if is_time(of) || matches!(of, DataType::Interval(_)) => Some(vec![of.clone()]),
            _ => None,
        },
        gives: |_| DataType::Boolean,
        is_strict: true,
        // There are no others.
        compute: |args| {
            let all = BooleanBuffer::new_set(args[0].len());
            Ok(Arc::new(BooleanArray::new(all, args[0].logical_nulls())))
        },
    },
];

/// Names of the arguments of `make_interval`, in their order.
pub(crate) const OF_INTERVALS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// The type in which two times are apart, one of which at least is no date; none when they are no times.
pub(crate) fn time_of_both(left: &DataType, right: &DataType) -> Option<DataType> {
    let is_stamp = |of: &DataType| matches!(of, DataType::Timestamp(..));
    if !is_time(left) || !is_time(right) || !is_stamp(left) && !is_stamp(right) {
        return None;
    }
    Some(if is_instant(left) || is_instant(right) { instant() } else { STAMP })
}

/// What lies between two times, which are brought to one type, in days and hours.
pub(crate) fn apart(times: [(Expr, DataType); 2], to: &DataType) -> Expr {
    let brought = |(time, of): (Expr, DataType)| if of == *to { time } else { cast(time, to.clone()) };
    call(&DIFFERENCE, times.map(brought).into())
}

/// The date so many days after one.
pub(crate) fn days_later(date: Expr, days: Expr) -> Expr {
    call(&LATER, vec![date, days])
}

/// The date so many days before one.
pub(crate) fn days_earlier(date: Expr, days: Expr) -> Expr {
    call(&EARLIER, vec![date, days])
}

fn is_instant(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(_, Some(_)))
}

fn is_time(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(..) | DataType::Date32)
}

fn two_times(given: &[DataType]) -> Option<Vec<DataType>> {
    let fits = |of: &DataType| is_time(of) || may_be_text(of);
    if given.len() != 2 || !given.iter().any(is_time) || !given.iter().all(fits) {
        return None;
    }
    Some(vec![if given.iter().any(is_instant) { instant() } else { STAMP }; 2])
}

fn date_and_days(given: &[DataType]) -> Option<Vec<DataType>> {
    match given {
        [DataType::Date32, days] if may_be_whole(days) => Some(vec![DataType::Date32, DataType::Int64]),
        _ => None,
    }
}

fn one_interval(given: &[DataType]) -> Option<Vec<DataType>> {
    match given {
        [DataType::Interval(_) | DataType::Null] => Some(vec![INTERVAL]),
        _ => None,
    }
}

/// So many whole numbers, and numbers behind them.
fn parts(given: &[DataType], wholes: usize, numbers: usize) -> Option<Vec<DataType>> {
    let (first, rest) = given.split_at_checked(wholes)?;
    let is_number = |of: &DataType| of.is_numeric() || of.is_null();
    let fits = rest.len() == numbers && first.iter().all(may_be_whole) && rest.iter().all(is_number);
    fits.then(|| [vec![DataType::Int64; wholes], vec![DataType::Float64; numbers]].concat())
}

fn interval_out_of_range() -> DataFusionError {
    refused("22008", "interval out of range")
}

/// Dates moved by so many days.
fn moved(args: &[ArrayRef], by: fn(i64, i64) -> Option<i64>) -> Result<ArrayRef> {
    let dates = args[0].as_primitive::<Date32Type>();
    let made = by_row(args, |row| {
        let date = by(i64::from(dates.value(row)), whole(args, 1, row)).filter(|date| DATES.contains(date));
        date.and_then(|date| i32::try_from(date).ok()).ok_or_else(|| refused("22008", "date out of range"))
    })?;
    Ok(Arc::new(Date32Array::from(made)))
}

/// What lies between two times of each row.
fn between(args: &[ArrayRef], of: fn(i64, i64) -> Option<IntervalMonthDayNano>) -> Result<ArrayRef> {
    let [left, right] = args else { return plan_err!("two times are wanted") };
    let [left, right] = [left, right].map(|times| times.as_primitive::<TimestampMicrosecondType>());
    let made = by_row(args, |row| of(left.value(row), right.value(row)).ok_or_else(interval_out_of_range))?;
    Ok(Arc::new(IntervalMonthDayNanoArray::from(made)))
}

/// The days and hours from one time to a later one.
fn days_and_time(late: i64, early: i64) -> Option<IntervalMonthDayNano> {
    let micros = late.checked_sub(early)?;
    Some(IntervalMonthDayNano::new(0, (micros / DAY) as i32, micros % DAY * 1000))
}

/// The same in months, days and hours as a calendar has them: the days that are left of a month are those of
/// the earlier time's.
fn symbolic(late: i64, early: i64) -> Option<IntervalMonthDayNano> {
    if late < early {
        let IntervalMonthDayNano { months, days, nanoseconds } = symbolic(early, late)?;
        return Some(IntervalMonthDayNano::new(-months, -days, -nanoseconds));
    }
    let (last, first) = (day_of(late)?, day_of(early)?);
    let mut micros = late.rem_euclid(DAY) - early.rem_euclid(DAY);
    let mut days = last.day() as i32 - first.day() as i32;
    let mut months = (last.year() - first.year()) * 12 + last.month() as i32 - first.month() as i32;
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    if days < 0 {
        days += i32::from(first.num_days_in_month());
        months -= 1;
    }
    Some(IntervalMonthDayNano::new(months, days, micros * 1000))
}

fn day_of(micros: i64) -> Option<NaiveDate> {
    DateTime::from_timestamp_micros(micros).map(|time| time.date_naive())
}

/// Years before 1 are those before Christ.
fn date([year, month, day]: [i64; 3]) -> Result<NaiveDate> {
    let counted = if year < 0 { year + 1 } else { year };
    let date = match (i32::try_from(counted), u32::try_from(month), u32::try_from(day)) {
        (Ok(counted), Ok(month), Ok(day)) if year != 0 => NaiveDate::from_ymd_opt(counted, month, day),
        _ => None,
    };
    date.ok_or_else(|| refused("22008", format!("date field value out of range: {year}-{month:02}-{day:02}")))
}

/// Microseconds since midnight.
fn time([hour, minute]: [i64; 2], second: f64) -> Result<i64> {
    let micros = (second * 1e6).round_ties_even();
    let is_time = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=6e7).contains(&micros);
    let of_day = if is_time { (hour * 60 + minute) * 60_000_000 + micros as i64 } else { i64::MAX };
    if of_day > DAY {
        return Err(refused("22008", format!("time field value out of range: {hour}:{minute:02}:{second:02}")));
    }
    Ok(of_day)
}

fn make_date(args: &[ArrayRef]) -> Result<ArrayRef> {
    let days = by_row(args, |row| date([0, 1, 2].map(|at| whole(args, at, row))).map(Date32Type::from_naive_date))?;
    Ok(Arc::new(Date32Array::from(days)))
}

fn timestamps(args: &[ArrayRef]) -> Result<TimestampMicrosecondArray> {
    let micros = by_row(args, |row| {
        let [year, month, day, hour, minute] = [0, 1, 2, 3, 4].map(|at| whole(args, at, row));
        let days = i64::from(Date32Type::from_naive_date(date([year, month, day])?));
        Ok(days * DAY + time([hour, minute], double(args, 5, row))?)
    })?;
    Ok(TimestampMicrosecondArray::from(micros))
}

fn make_interval(args: &[ArrayRef]) -> Result<ArrayRef> {
    let made = by_row(args, |row| {
        let all = [0, 1, 2, 3, 4, 5].map(|at| whole(args, at, row));
        interval(all, double(args, 6, row)).ok_or_else(interval_out_of_range)
    })?;
    Ok(Arc::new(IntervalMonthDayNanoArray::from(made)))
}

fn interval([years, months, weeks, days, hours, minutes]: [i64; 6], seconds: f64) -> Option<IntervalMonthDayNano> {
    let months = years.checked_mul(12)?.checked_add(months)?;
    let days = weeks.checked_mul(7)?.checked_add(days)?;
    let micros = (seconds * 1e6).round_ties_even();
    // Nanoseconds are kept.
    if micros.is_nan() || micros.abs() >= i64::MAX as f64 / 1e3 {
        return None;
    }
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    let micros = minutes.checked_mul(60_000_000)?.checked_add(micros as i64)?;
    Some(IntervalMonthDayNano::new(i32::try_from(months).ok()?, i32::try_from(days).ok()?, micros.checked_mul(1000)?))
}

type Carried = fn(IntervalMonthDayNano) -> Option<IntervalMonthDayNano>;

fn justified(args: &[ArrayRef], carried: Carried) -> Result<ArrayRef> {
    let intervals = args[0].as_primitive::<IntervalMonthDayNanoType>();
    let made: IntervalMonthDayNanoArray =
        intervals.try_unary(|interval| carried(interval).ok_or_else(interval_out_of_range))?;
    Ok(Arc::new(made))
}

const DAY_NANOS: i64 = DAY * 1000;

/// Whole days in the hours become days; then both have one sign.
fn hours_carried(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    let days = days.checked_add((nanoseconds / DAY_NANOS) as i32)?;
    let nanos = nanoseconds % DAY_NANOS;
    let (days, nanos) = if days > 0 && nanos < 0 {
        (days - 1, nanos + DAY_NANOS)
    } else if days < 0 && nanos > 0 {
        (days + 1, nanos - DAY_NANOS)
    } else {
        (days, nanos)
    };
    Some(IntervalMonthDayNano::new(months, days, nanos))
}

/// 30 days become a month; then both have one sign.
fn days_carried(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    let months = months.checked_add(days / 30)?;
    let days = days % 30;
    let (months, days) = if months > 0 && days < 0 {
        (months - 1, days + 30)
    } else if months < 0 && days > 0 {
        (months + 1, days - 30)
    } else {
        (months, days)
    };
    Some(IntervalMonthDayNano::new(months, days, nanoseconds))
}

/// Both, and all parts have one sign.
fn all_carried(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    let days = i64::from(days) + nanoseconds / DAY_NANOS;
    let mut nanos = nanoseconds % DAY_NANOS;
    let mut months = months.checked_add(i32::try_from(days / 30).ok()?)?;
    let mut days = (days % 30) as i32;
    if months > 0 && (days < 0 || days == 0 && nanos < 0) {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && (days > 0 || days == 0 && nanos > 0) {
        (months, days) = (months + 1, days - 30);
    }
    if days > 0 && nanos < 0 {
        (days, nanos) = (days - 1, nanos + DAY_NANOS);
    } else if days < 0 && nanos > 0 {
        (days, nanos) = (days + 1, nanos - DAY_NANOS);
    }
    Some(IntervalMonthDayNano::new(months, days, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn micros(year: i64, month: i64, day: i64, hour: i64) -> i64 {
        let day = date([year, month, day]).expect("a date");
        i64::from(Date32Type::from_naive_date(day)) * DAY + hour * HOUR
    }

    fn of(months: i32, days: i32, hours: i64) -> IntervalMonthDayNano {
        IntervalMonthDayNano::new(months, days, hours * HOUR * 1000)
    }

    #[test]
    fn ages_are_counted_by_the_calendar() {
        for (late, early, age) in [
            (micros(2024, 3, 15, 10), micros(2020, 2, 29, 12), of(48, 14, 22)),
            (micros(2024, 3, 15, 0), micros(2024, 1, 31, 0), of(1, 15, 0)),
            (micros(2001, 4, 10, 0), micros(1957, 6, 13, 0), of(525, 27, 0)),
            (micros(2024, 3, 1, 0), micros(2024, 1, 31, 0), of(1, 1, 0)),
            (micros(2024, 1, 1, 0), micros(2024, 1, 1, 0), of(0, 0, 0)),
        ] {
            assert_eq!(symbolic(late, early), Some(age));
            let back = IntervalMonthDayNano::new(-age.months, -age.days, -age.nanoseconds);
            assert_eq!(symbolic(early, late), Some(back));
        }
        assert_eq!(days_and_time(micros(2024, 3, 1, 0), micros(2024, 3, 4, 2)), Some(of(0, -3, -2)));
        assert_eq!(days_and_time(i64::MAX, -1), None);
    }

    #[test]
    fn dates_are_moved_by_days_as_far_as_there_are_dates() {
        let moved = |date: i32, days: i64, by: fn(i64, i64) -> Option<i64>| {
            let args: [ArrayRef; 2] =
                [Arc::new(Date32Array::from(vec![date])), Arc::new(arrow::array::Int64Array::from(vec![days]))];
            super::moved(&args, by).map(|dates| dates.as_primitive::<Date32Type>().value(0)).ok()
        };
        assert_eq!(moved(19_723, 100_000_000, i64::checked_add), Some(100_019_723));
        assert_eq!(moved(19_723, 5, i64::checked_sub), Some(19_718));
        assert_eq!(moved(0, 2_145_042_905, i64::checked_add), Some(2_145_042_905));
        assert_eq!(moved(0, 2_145_042_906, i64::checked_add), None);
        assert_eq!(moved(0, 2_440_589, i64::checked_sub), None);
        assert_eq!(moved(0, i64::MIN, i64::checked_sub), None);
    }

    #[test]
    fn times_are_made_of_parts_that_there_are() {
        assert_eq!(time([24, 0], 0.0).expect("a time"), DAY);
        assert_eq!(time([8, 15], 23.5).expect("a time"), (8 * 60 + 15) * 60_000_000 + 23_500_000);
        assert_eq!(date([-44, 3, 15]).expect("a date").year(), -43);
        for parts in [[2024, 13, 1], [0, 1, 1], [2013, 2, 30]] {
            assert!(date(parts).is_err(), "{parts:?}");
        }
        assert!(time([24, 0], 1.0).is_err());
        assert_eq!(interval([1, 2, 3, 4, 5, 0], 0.0), Some(of(14, 25, 5)));
        assert_eq!(interval([0; 6], f64::NAN), None);
        assert_eq!(interval([i64::MAX, 0, 0, 0, 0, 0], 0.0), None);
    }

    #[test]
    fn what_is_carried_over_has_one_sign() {
        assert_eq!(hours_carried(of(0, 0, 27)), Some(of(0, 1, 3)));
        assert_eq!(hours_carried(of(0, 2, -3)), Some(of(0, 1, 21)));
        assert_eq!(days_carried(of(0, 35, 0)), Some(of(1, 5, 0)));
        assert_eq!(days_carried(of(-1, 5, 0)), Some(of(0, -25, 0)));
        assert_eq!(all_carried(of(1, 0, -1)), Some(of(0, 29, 23)));
        assert_eq!(all_carried(of(0, 29, 25)), Some(of(1, 0, 1)));
        assert_eq!(days_carried(of(i32::MAX, 30, 0)), None);
    }
}
