//! Dates and times as texts by a pattern, as PostgreSQL's `to_char` writes them.

use super::pattern::{Field, Letters, Part};
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From Sunday on.
pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
/// Day 0 of Julian days is so many days before 1970.
pub(super) const JULIAN: i64 = 2_440_588;

/// How wide names are written that are filled up.
const NAME_WIDTH: usize = 9;

/// A time that clocks show: microseconds since 1970. None when there is no such time.
pub(super) fn written(parts: &[Part], micros: i64, zone: &str) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros)?.naive_utc();
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Separator(c) | Part::Text(c) => text.push(*c),
            Part::Field { field, letters, is_bare, ordinal, .. } => {
                let start = text.len();
                write_field(*field, *letters, *is_bare, &time, zone, &mut text);
                if let Some(ordinal) = ordinal {
                    let ending = ending(&text[start..]);
                    text.push_str(&cased(ending, *ordinal));
                }
            }
        }
    }
    Some(text)
}

/// The ending of an ordinal number; of what is no number, none.
fn ending(number: &str) -> &'static str {
    let digits = number.as_bytes();
    let Some(last) = digits.last().filter(|last| last.is_ascii_digit()) else { return "" };
    let is_teen = digits.len() > 1 && digits[digits.len() - 2] == b'1';
    match last {
        _ if is_teen => "th",
        b'1' => "st",
        b'2' => "nd",
        b'3' => "rd",
        _ => "th",
    }
}

fn cased(name: &str, letters: Letters) -> String {
    match letters {
        Letters::Upper => name.to_ascii_uppercase(),
        Letters::Lower => name.to_ascii_lowercase(),
        Letters::Title => name.to_owned(),
    }
}

/// A year as it is counted before and after the first one.
fn counted(year: i32) -> i64 {
    let year = i64::from(year);
    if year <= 0 { 1 - year } else { year }
}

fn century(year: i32) -> i64 {
    let year = i64::from(year);
    if year > 0 { (year - 1) / 100 + 1 } else { year / 100 - 1 }
}

fn write_field(field: Field, letters: Letters, is_bare: bool, time: &NaiveDateTime, zone: &str, text: &mut String) {
    let number = |value: i64, width: usize| {
        let width = if is_bare { 0 } else { width };
        format!("{value:0width$}")
    };
    let name = |name: &str, width: usize| {
        let name = cased(name, letters);
        if is_bare { name } else { format!("{name:width$}") }
    };
    let micros = i64::from(time.nanosecond() / 1000).min(999_999);
    let year = |digits: u8, of: i32| number(counted(of) % 10_i64.pow(u32::from(digits)), usize::from(digits));
    let weekday = time.weekday();
    let monday_based = i64::from(weekday.number_from_monday());
    let dotted = |half: &str, dots: bool| {
        let half = if dots { format!("{}.{}.", &half[..1], &half[1..]) } else { half.to_owned() };
        cased(&half, letters)
    };
    text.push_str(&match field {
        Field::Hour => number(time.hour().into(), 2),
        Field::Hour12 => number(time.hour12().1.into(), 2),
        Field::Minute => number(time.minute().into(), 2),
        Field::Second => number(time.second().into(), 2),
        Field::SecondOfDay => time.num_seconds_from_midnight().to_string(),
        Field::Fraction(digits) => format!("{micros:06}")[..usize::from(digits)].to_owned(),
        Field::Half { dots } => dotted(if time.hour() < 12 { "AM" } else { "PM" }, dots),
        Field::YearWithComma => format!("{},{:03}", counted(time.year()) / 1000, counted(time.year()) % 1000),
        Field::Year(4) => number(counted(time.year()), 4),
        Field::Year(digits) => year(digits, time.year()),
        Field::IsoYear(4) => number(counted(time.iso_week().year()), 4),
        Field::IsoYear(digits) => year(digits, time.iso_week().year()),
        Field::Era { dots } => dotted(if time.year() > 0 { "AD" } else { "BC" }, dots),
        Field::Month => number(time.month().into(), 2),
        Field::MonthName => name(MONTHS[time.month0() as usize], NAME_WIDTH),
        Field::MonthShort => name(&MONTHS[time.month0() as usize][..3], 3),
        Field::MonthRoman => name(ROMAN[time.month0() as usize], 4),
        Field::Day => number(time.day().into(), 2),
        Field::DayOfYear => number(time.ordinal().into(), 3),
        Field::IsoDayOfYear => number(i64::from(time.iso_week().week0()) * 7 + monday_based, 3),
        Field::DayName => name(DAYS[weekday.num_days_from_sunday() as usize], NAME_WIDTH),
        Field::DayShort => name(&DAYS[weekday.num_days_from_sunday() as usize][..3], 3),
        Field::DayOfWeek => (weekday.num_days_from_sunday() + 1).to_string(),
        Field::IsoDayOfWeek => monday_based.to_string(),
        Field::WeekOfMonth => (time.day0() / 7 + 1).to_string(),
        Field::WeekOfYear => number(i64::from(time.ordinal0() / 7 + 1), 2),
        Field::IsoWeek => number(time.iso_week().week().into(), 2),
        Field::Quarter => (time.month0() / 3 + 1).to_string(),
        Field::Century => number(century(time.year()), if time.year() > 0 { 2 } else { 3 }),
        Field::Julian => (time.and_utc().timestamp().div_euclid(86_400) + JULIAN).to_string(),
        Field::ZoneName => cased(zone, letters),
        Field::ZoneHours => "+00".to_owned(),
        Field::ZoneMinutes => "00".to_owned(),
        Field::Offset if is_bare => "+0".to_owned(),
        Field::Offset => "+00".to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::super::pattern::parts;
    use super::*;

    #[test]
    fn times_are_written_as_postgresql_writes_them() {
        // 2024-03-05 14:07:09.25, a Tuesday.
        let micros = 1_709_647_629_250_000;
        for (pattern, text) in [
            ("YYYY-MM-DD HH24:MI:SS.MS", "2024-03-05 14:07:09.250"),
            ("HH12:MI AM|a.m.|PM", "02:07 PM|p.m.|PM"),
            ("Day|FMDay|DY|dy", "Tuesday  |Tuesday|TUE|tue"),
            ("MONTH|FMmonth|Mon", "MARCH    |march|Mar"),
            ("DDD D ID IW WW W Q", "065 3 2 10 10 1 1"),
            ("FMDDth \"of\" FMMonth", "5th of March"),
            ("US FF1 SSSS", "250000 2 50829"),
            ("YYY YY Y Y,YYY CC BC", "024 24 4 2,024 21 AD"),
            ("J RM FMRM", "2460375 III  III"),
            ("TZ tz OF TZH:TZM", "UTC utc +00 +00:00"),
            ("\\\"x\\\" %Y-%m", "\"x\" %4-%m"),
        ] {
            assert_eq!(written(&parts(pattern).expect(pattern), micros, "UTC").as_deref(), Some(text), "{pattern}");
        }
        assert_eq!([ending("1"), ending("11"), ending("22"), ending("03"), ending("x")], ["st", "th", "nd", "rd", ""]);
    }
}
