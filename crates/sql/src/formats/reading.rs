//! Dates and times read from texts by a pattern, as PostgreSQL's `to_timestamp` and `to_date` do: spaces are
//! passed over, a separator stands for any other one or for none, and what is left of a text is not looked at.

use super::pattern::{Field, Part};
use super::times::{DAYS, JULIAN, MONTHS, ROMAN};
use super::{data_error, unsupported};
use chrono::{Datelike, NaiveDate, Weekday};
use datafusion::common::{DataFusionError, Result};

const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;

/// What was found.
#[derive(Debug, Default)]
struct Found {
    year: Option<i64>,
    iso_year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    iso_week: Option<i64>,
    /// From Monday, which is 1.
    iso_day: Option<i64>,
    julian: Option<i64>,
    is_before_christ: bool,
    hour: i64,
    is_of_12: bool,
    is_afternoon: bool,
    minute: i64,
    second: i64,
    second_of_day: Option<i64>,
    micros: i64,
}

/// A text that is read from its start on.
struct Reader<'a> {
    rest: &'a str,
    /// Spaces that were passed over beyond those of the pattern.
    extra: i64,
}

/// The time that a text tells: microseconds since 1970.
///
/// # Errors
/// PostgreSQL's for a text that is not of the pattern, and for what is no time.
pub(super) fn read(text: &str, parts: &[Part], pattern: &str) -> Result<i64> {
    let mut reader = Reader { rest: text, extra: 0 };
    let mut found = Found::default();
    for (at, part) in parts.iter().enumerate() {
        if reader.rest.is_empty() {
            break;
        }
        if at == 0 || matches!(part, Part::Field { .. }) {
            reader.pass_spaces();
        }
        match part {
            Part::Separator(_) => reader.pass_separator(),
            Part::Text(_) => reader.pass_character(),
            Part::Field { field, name, is_bare, ordinal, .. } => {
                let is_open = *is_bare || ordinal.is_some() || is_end(parts.get(at + 1));
                reader.field(*field, name, is_open, pattern, &mut found)?;
                if ordinal.is_some() {
                    reader.pass_character();
                    reader.pass_character();
                }
                reader.extra = 0;
                reader.pass_spaces();
            }
        }
    }
    found.micros_since_1970(text)
}

/// Refuses a pattern by which nothing is read.
///
/// # Errors
/// For a field that is only written.
pub(super) fn check(parts: &[Part], pattern: &str) -> Result<()> {
    parts.iter().try_for_each(|part| match part {
        Part::Field { field, name, .. } => check_field(*field, name, pattern),
        Part::Separator(_) | Part::Text(_) => Ok(()),
    })
}

fn check_field(field: Field, name: &str, pattern: &str) -> Result<()> {
    match field {
        Field::ZoneName | Field::Offset => {
            Err(data_error("0A000", format!("formatting field \"{name}\" is only supported in to_char")))
        }
        Field::YearWithComma
        | Field::IsoDayOfYear
        | Field::WeekOfMonth
        | Field::WeekOfYear
        | Field::Century
        | Field::ZoneHours
        | Field::ZoneMinutes => Err(unsupported(name, pattern)),
        _ => Ok(()),
    }
}

/// Whether a number cannot go on behind a field.
fn is_end(next: Option<&Part>) -> bool {
    match next {
        None | Some(Part::Separator(_)) => true,
        Some(Part::Text(c)) => !c.is_ascii_digit(),
        Some(Part::Field { field, .. }) => !field.is_number(),
    }
}

fn malformed(message: String) -> DataFusionError {
    data_error("22007", message)
}

impl Reader<'_> {
    fn pass_spaces(&mut self) {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        self.extra += (self.rest.len() - rest.len()) as i64;
        self.rest = rest;
    }

    fn pass_separator(&mut self) {
        self.extra -= 1;
        if let Some(c) = self.rest.chars().next().filter(|c| c.is_ascii_whitespace() || c.is_ascii_punctuation()) {
            self.rest = &self.rest[c.len_utf8()..];
            self.extra += 1;
        }
    }

    fn pass_character(&mut self) {
        if self.extra > 0 {
            self.extra -= 1;
        } else if let Some(c) = self.rest.chars().next() {
            self.rest = &self.rest[c.len_utf8()..];
        }
    }

    /// A number of a field, and how many characters it has.
    fn number(&mut self, name: &str, digits: usize, is_open: bool) -> Result<(i64, usize)> {
        self.pass_spaces();
        let of: String = if is_open { self.rest.to_owned() } else { self.rest.chars().take(digits).collect() };
        let invalid = || malformed(format!("invalid value \"{}\" for \"{name}\"", word_of(&of)));
        if !is_open && of.chars().count() < digits {
            return Err(malformed(format!("source string too short for \"{name}\" formatting field")));
        }
        let sign = usize::from(of.starts_with(['+', '-']));
        let figures = of[sign..].bytes().take_while(u8::is_ascii_digit).count();
        let length = sign + figures;
        if figures == 0 || !is_open && length < digits {
            return Err(invalid());
        }
        let out_of_range = |_| data_error("22008", format!("value for \"{name}\" in source string is out of range"));
        let value: i32 = of[..length].parse().map_err(out_of_range)?;
        self.rest = &self.rest[length..];
        Ok((value.into(), length))
    }

    /// The place of the name that the text goes on with.
    fn name(&mut self, name: &str, names: &[&str]) -> Result<i64> {
        let starts = |known: &&str| self.rest.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
        let Some(at) = names.iter().rposition(starts) else {
            return Err(malformed(format!("invalid value \"{}\" for \"{name}\"", word_of(self.rest))));
        };
        self.rest = &self.rest[names[at].len()..];
        Ok(at as i64)
    }

    fn field(&mut self, field: Field, name: &str, is_open: bool, pattern: &str, found: &mut Found) -> Result<()> {
        let shortened = |names: &[&'static str]| names.iter().map(|name| &name[..3]).collect::<Vec<&str>>();
        match field {
            Field::Hour => found.hour = self.number(name, 2, is_open)?.0,
            Field::Hour12 => (found.hour, found.is_of_12) = (self.number(name, 2, is_open)?.0, true),
            Field::Minute => found.minute = self.number(name, 2, is_open)?.0,
            Field::Second => found.second = self.number(name, 2, is_open)?.0,
            Field::SecondOfDay => found.second_of_day = Some(self.number(name, name.len(), is_open)?.0),
            Field::Fraction(digits) => found.micros = self.fraction(name, digits)?,
            Field::Half { dots: true } => found.half(self.name(name, &["a.m.", "p.m."])?),
            Field::Half { dots: false } => found.half(self.name(name, &["am", "pm"])?),
            Field::Era { dots: true } => found.is_before_christ = self.name(name, &["a.d.", "b.c."])? == 1,
            Field::Era { dots: false } => found.is_before_christ = self.name(name, &["ad", "bc"])? == 1,
            Field::Year(digits) => found.year = Some(self.year(name, digits, is_open)?),
            Field::IsoYear(digits) => found.iso_year = Some(self.year(name, digits, is_open)?),
            Field::Month => found.month = Some(self.number(name, 2, is_open)?.0),
            Field::MonthName => found.month = Some(self.name(name, &MONTHS)? + 1),
            Field::MonthShort => found.month = Some(self.name(name, &shortened(&MONTHS))? + 1),
            Field::MonthRoman => found.month = Some(self.roman(name)?),
            Field::Day => found.day = Some(self.number(name, 2, is_open)?.0),
            Field::DayOfYear => found.day_of_year = Some(self.number(name, 3, is_open)?.0),
            Field::IsoWeek => found.iso_week = Some(self.number(name, 2, is_open)?.0),
            Field::IsoDayOfWeek => found.iso_day = Some(self.number(name, 1, is_open)?.0),
            Field::Julian => found.julian = Some(self.number(name, 1, true)?.0),
            // A date says these itself.
            Field::DayName => {
                self.name(name, &DAYS)?;
            }
            Field::DayShort => {
                self.name(name, &shortened(&DAYS))?;
            }
            Field::DayOfWeek | Field::Quarter => {
                self.number(name, 1, is_open)?;
            }
            Field::ZoneName
            | Field::Offset
            | Field::YearWithComma
            | Field::IsoDayOfYear
            | Field::WeekOfMonth
            | Field::WeekOfYear
            | Field::Century
            | Field::ZoneHours
            | Field::ZoneMinutes => check_field(field, name, pattern)?,
        }
        Ok(())
    }

    /// The month of a Roman number: of those that begin alike the longest one.
    fn roman(&mut self, name: &str) -> Result<i64> {
        let mut names: Vec<&str> = ROMAN.to_vec();
        names.sort_by_key(|name| name.len());
        let at = self.name(name, &names)?;
        let found = names[usize::try_from(at).unwrap_or_default()];
        Ok(ROMAN.iter().position(|name| *name == found).unwrap_or_default() as i64 + 1)
    }

    /// Microseconds of so many digits behind the point.
    fn fraction(&mut self, name: &str, digits: u8) -> Result<i64> {
        self.pass_spaces();
        let figures = self.rest.bytes().take_while(u8::is_ascii_digit).count().min(digits.into());
        if figures == 0 {
            return Err(malformed(format!("invalid value \"{}\" for \"{name}\"", word_of(self.rest))));
        }
        let value: i64 = self.rest[..figures].parse().unwrap_or_default();
        self.rest = &self.rest[figures..];
        Ok(value * 10_i64.pow(6 - figures.min(6) as u32))
    }

    /// A year; of fewer digits than four the one that is nearest to 2020.
    fn year(&mut self, name: &str, digits: u8, is_open: bool) -> Result<i64> {
        let (year, length) = self.number(name, digits.into(), is_open)?;
        Ok(match year {
            _ if digits == 4 || length > 3 => year,
            0..70 | 100..520 => year + 2000,
            70..100 => year + 1900,
            520..1000 => year + 1000,
            _ => year,
        })
    }
}

/// What an error says of a text that goes on.
fn word_of(text: &str) -> &str {
    text.split_ascii_whitespace().next().unwrap_or_default()
}

impl Found {
    const fn half(&mut self, half: i64) {
        self.is_of_12 = true;
        self.is_afternoon = half == 1;
    }

    /// # Errors
    /// 22008 when there is no such date or time, 22007 when it is told in two ways.
    fn micros_since_1970(&self, text: &str) -> Result<i64> {
        let out_of_range = || data_error("22008", format!("date/time field value out of range: \"{text}\""));
        let days = match self.julian {
            Some(julian) => julian - JULIAN,
            None => {
                let date = self.date(text)?.ok_or_else(out_of_range)?;
                i64::from(date.num_days_from_ce()) - 719_163
            }
        };
        let mut hour = self.hour;
        if self.is_of_12 {
            if !(1..=12).contains(&hour) && self.second_of_day.is_none() {
                return Err(malformed(format!("hour \"{hour}\" is invalid for the 12-hour clock")));
            }
            hour = hour % 12 + if self.is_afternoon { 12 } else { 0 };
        }
        let is_time = (0..24).contains(&hour) && (0..60).contains(&self.minute) && (0..60).contains(&self.second);
        let of_day = match self.second_of_day {
            Some(second) if (0..86_400).contains(&second) => second * 1_000_000,
            None if is_time => hour * HOUR + (self.minute * 60 + self.second) * 1_000_000,
            _ => return Err(out_of_range()),
        };
        days.checked_mul(DAY).and_then(|micros| micros.checked_add(of_day + self.micros)).ok_or_else(out_of_range)
    }

    /// The date; none when there is no such one.
    fn date(&self, text: &str) -> Result<Option<NaiveDate>> {
        let is_iso = self.iso_year.is_some() || self.iso_week.is_some();
        if is_iso && (self.year.is_some() || self.month.is_some() || self.day.is_some() || self.day_of_year.is_some()) {
            return Err(malformed("invalid combination of date conventions".to_owned()));
        }
        let whole = |value: i64| i32::try_from(value).ok();
        let part = |value: i64| u32::try_from(value).ok();
        let year = self.iso_year.or(self.year).unwrap_or(0);
        let year = if self.is_before_christ && year > 0 { 1 - year } else { year };
        let Some(year) = whole(year) else { return Ok(None) };
        if is_iso {
            let Some(week) = part(self.iso_week.unwrap_or(1)) else { return Ok(None) };
            let day = match self.iso_day.unwrap_or(1) {
                day @ 1..=7 => Weekday::try_from(day as u8 - 1).ok(),
                _ => None,
            };
            return Ok(day.and_then(|day| NaiveDate::from_isoywd_opt(year, week, day)));
        }
        if let Some(day) = self.day_of_year {
            if self.year.is_none() {
                let message = format!("cannot calculate day of year without year information: \"{text}\"");
                return Err(malformed(message));
            }
            return Ok(part(day).and_then(|day| NaiveDate::from_yo_opt(year, day)));
        }
        let (month, day) = (part(self.month.unwrap_or(1)), part(self.day.unwrap_or(1)));
        Ok(month.zip(day).and_then(|(month, day)| NaiveDate::from_ymd_opt(year, month, day)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::parts;
    use super::super::times::written;
    use super::*;

    fn read_by(text: &str, pattern: &str) -> Result<String> {
        let micros = read(text, &parts(pattern)?, pattern)?;
        let shown = parts("YYYY-MM-DD HH24:MI:SS.US")?;
        Ok(written(&shown, micros, "UTC").expect("a time"))
    }

    #[test]
    fn texts_are_read_as_postgresql_reads_them() {
        for (text, pattern, found) in [
            ("2024-03-05", "YYYY-MM-DD", "2024-03-05 00:00:00.000000"),
            ("20240305140709", "YYYYMMDDHH24MISS", "2024-03-05 14:07:09.000000"),
            ("05 Mar 2000", "DD Mon YYYY", "2000-03-05 00:00:00.000000"),
            ("5/march/24 2:07 pm", "DD/Month/YY HH:MI AM", "2024-03-05 14:07:00.000000"),
            ("99", "YY", "1999-01-01 00:00:00.000000"),
            ("2024  JUN", "YYYY MON", "2024-06-01 00:00:00.000000"),
            ("2024-03-05 14:07:09.25", "YYYY-MM-DD HH24:MI:SS.MS", "2024-03-05 14:07:09.250000"),
            ("2024-W10-2", "IYYY-\"W\"IW-ID", "2024-03-05 00:00:00.000000"),
            ("2024 065", "YYYY DDD", "2024-03-05 00:00:00.000000"),
            ("2024.3.5", "YYYY-MM-DD", "2024-03-05 00:00:00.000000"),
            ("8 XII 2024", "DD RM YYYY", "2024-12-08 00:00:00.000000"),
        ] {
            assert_eq!(read_by(text, pattern).expect(text), found, "{text} by {pattern}");
        }
    }

    #[test]
    fn what_is_no_time_is_an_error() {
        for (text, pattern, message) in [
            ("2024-13-05", "YYYY-MM-DD", "date/time field value out of range: \"2024-13-05\""),
            ("2023-02-29", "YYYY-MM-DD", "date/time field value out of range: \"2023-02-29\""),
            ("x", "YYYY", "invalid value \"x\" for \"YYYY\""),
            ("2024 foo", "YYYY Mon", "invalid value \"foo\" for \"Mon\""),
            ("13:00 pm", "HH12:MI pm", "hour \"13\" is invalid for the 12-hour clock"),
            ("2024", "YYYY TZ", ""),
        ] {
            match read_by(text, pattern) {
                Err(error) => assert!(error.to_string().contains(message), "{text}: {error}"),
                Ok(found) => assert!(message.is_empty(), "{text} is {found}"),
            }
        }
    }
}
