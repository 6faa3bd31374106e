//! Reads dates, times and timestamps in ISO 8601 as PostgreSQL writes and takes it.
//!
//! The year comes first, with three digits at least; `BC` may follow. Not read, although PostgreSQL
//! does: other orders, names of months and days, short names of time zones such as `EST`, and words that depend on
//! the clock.
//! Invariant: the calendar is the Gregorian one for all times, with no year 0, as in PostgreSQL.

use super::Fault;
use super::numbers::trim;
use crate::zones::Zone;
use std::cmp::Ordering;
use std::ops::{Range, RangeFrom, RangeInclusive};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The first day of PostgreSQL's calendar, 24 November 4714 BC, from 1970 on.
const FIRST_DAY: i64 = -2_440_588;

/// The day after 31 December 5874897, the last of PostgreSQL's dates.
const END_OF_DATES: i64 = 2_145_042_906;

/// The days that a date can be, from 1970 on.
pub const DAYS: Range<i64> = FIRST_DAY..END_OF_DATES;

/// The microseconds since midnight that a time can be.
pub const TIMES: RangeInclusive<i64> = 0..=DAY;

/// The microseconds that a timestamp can be, from 1970 on.
pub const MOMENTS: RangeFrom<i64> = FIRST_DAY * DAY..;

const NO_INFINITY: Fault = Fault::Unsupported("there are no infinite dates and times here");
const NO_CLOCK: Fault = Fault::Unsupported("it depends on the clock; write the date and time out");
const NO_ZONES: Fault = Fault::Unsupported("write the time zone as an offset, such as +02");

/// A point in time as it was written.
#[derive(Debug)]
struct Moment {
    /// From 1970-01-01 on.
    days: i64,
    /// Microseconds of the day, which may be those of its end.
    time: i64,
    /// How far the local time is ahead of UTC, if that is said.
    offset: Option<Offset>,
}

/// How far local times are ahead of UTC.
#[derive(Debug)]
enum Offset {
    /// So many microseconds.
    Of(i64),
    /// As far as the clocks of a zone are.
    In(Zone),
}

/// Days since 1970-01-01. A time is passed over.
pub(super) fn date(text: &str) -> Result<i32, Fault> {
    let days = moment(text)?.days;
    i32::try_from(days).ok().filter(|_| days < END_OF_DATES).ok_or(Fault::Moment)
}

/// Microseconds since midnight, at which a day ends too. An offset is passed over.
pub(super) fn time(text: &str) -> Result<i64, Fault> {
    let mut rest = Cursor(trim(text).as_bytes());
    if rest.0.is_empty() || rest.0[0].is_ascii_alphabetic() {
        return Err(special(trim(text)).unwrap_or(Fault::Syntax));
    }
    let time = rest.time()?;
    rest.offset()?;
    if rest.0.is_empty() { Ok(time) } else { Err(Fault::Syntax) }
}

/// Microseconds since 1970-01-01, local time. An offset is passed over.
pub(super) fn timestamp(text: &str) -> Result<i64, Fault> {
    let Moment { days, time, .. } = moment(text)?;
    micros(days, time, 0)
}

/// Microseconds since 1970-01-01, UTC; so is a time without an offset.
pub(super) fn instant(text: &str) -> Result<i64, Fault> {
    instant_of(&moment(text)?, None)
}

/// The same, but a time without an offset is what the clocks of a zone show.
pub(super) fn instant_in(zone: &Zone, text: &str) -> Result<i64, Fault> {
    instant_of(&moment(text)?, Some(zone))
}

fn instant_of(Moment { days, time, offset }: &Moment, session: Option<&Zone>) -> Result<i64, Fault> {
    match (offset, session) {
        (Some(Offset::Of(offset)), _) => micros(*days, *time, *offset),
        (Some(Offset::In(zone)), _) => shown_by(zone, micros(*days, *time, 0)?),
        (None, Some(zone)) => shown_by(zone, micros(*days, *time, 0)?),
        (None, None) => micros(*days, *time, 0),
    }
}

/// The instant at which a zone's clocks show a time.
fn shown_by(zone: &Zone, local: i64) -> Result<i64, Fault> {
    zone.instant(local).ok_or(Fault::Moment)
}

fn micros(days: i64, time: i64, offset: i64) -> Result<i64, Fault> {
    let micros = days.checked_mul(DAY).and_then(|days| days.checked_add(time)?.checked_sub(offset));
    micros.filter(|micros| MOMENTS.contains(micros)).ok_or(Fault::Moment)
}

/// A date; a time, an offset and an era may follow.
fn moment(text: &str) -> Result<Moment, Fault> {
    let text = trim(text);
    if text == "epoch" {
        return Ok(Moment { days: 0, time: 0, offset: Some(Offset::Of(0)) });
    }
    let mut rest = Cursor(text.as_bytes());
    let (year, month, day) = rest.date().map_err(|fault| special(text).unwrap_or(fault))?;
    let early_era = rest.era();
    let time = if rest.separator() { rest.time()? } else { 0 };
    let offset = rest.offset()?;
    let is_before_christ = early_era.or_else(|| rest.era()).unwrap_or(false);
    if !rest.0.is_empty() {
        return Err(Fault::Syntax);
    }
    let days = days_of(year, month, day, is_before_christ)?;
    if days < FIRST_DAY { Err(Fault::Moment) } else { Ok(Moment { days, time, offset }) }
}

/// Why a word that PostgreSQL knows is not read.
fn special(text: &str) -> Option<Fault> {
    let is = |word: &&str| text.eq_ignore_ascii_case(word);
    if ["infinity", "-infinity", "+infinity"].iter().any(is) {
        return Some(NO_INFINITY);
    }
    ["now", "today", "tomorrow", "yesterday"].iter().any(is).then_some(NO_CLOCK)
}

/// Days from 1970-01-01 on, by Howard Hinnant's `days_from_civil`.
fn days_of(year: i64, month: i64, day: i64, is_before_christ: bool) -> Result<i64, Fault> {
    let astronomical = if is_before_christ { 1 - year } else { year };
    let is_leap = astronomical % 4 == 0 && (astronomical % 100 != 0 || astronomical % 400 == 0);
    let last = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(Fault::Part),
    };
    if year == 0 || day == 0 || day > last {
        return Err(Fault::Part);
    }
    // The year begins in March, so that the leap day is its last.
    let year = if month > 2 { astronomical } else { astronomical - 1 };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Ok(era * 146_097 + day_of_era - 719_468)
}

/// What is left of a value.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, is_wanted: impl Fn(&u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().take_while(|byte| is_wanted(byte)).count();
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn digits(&mut self) -> &'a [u8] {
        self.take(u8::is_ascii_digit)
    }

    fn spaces(&mut self) {
        self.take(u8::is_ascii_whitespace);
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        self.0 = &self.0[usize::from(found)..];
        found
    }

    /// Passes over one of the words, in any case, if it is next after spaces and ends there.
    fn word(&mut self, words: &[&str]) -> Option<usize> {
        let mut rest = Cursor(self.0);
        rest.spaces();
        let found = rest.take(u8::is_ascii_alphabetic);
        let place = words.iter().position(|word| word.as_bytes().eq_ignore_ascii_case(found))?;
        self.0 = rest.0;
        Some(place)
    }

    /// Year, month and day.
    fn date(&mut self) -> Result<(i64, i64, i64), Fault> {
        let first = self.digits();
        let separator = match self.0 {
            [byte @ (b'-' | b'/'), ..] if first.len() >= 3 => *byte,
            _ if first.len() == 8 => return Ok((number(&first[..4])?, number(&first[4..6])?, number(&first[6..])?)),
            _ => return Err(Fault::Syntax),
        };
        self.skip(separator);
        let month = self.digits();
        if !self.skip(separator) {
            return Err(Fault::Syntax);
        }
        Ok((number(first)?, number(month)?, number(self.digits())?))
    }

    /// Whether the years before Christ are named here, if an era is.
    fn era(&mut self) -> Option<bool> {
        self.word(&["AD", "BC"]).map(|place| place == 1)
    }

    /// Passes over what stands between a date and a time, if there is a time.
    fn separator(&mut self) -> bool {
        let mut rest = Cursor(self.0);
        rest.spaces();
        if !rest.skip(b'T') {
            rest.skip(b't');
        }
        let found = rest.0.len() < self.0.len() && rest.0.first().is_some_and(u8::is_ascii_digit);
        if found {
            self.0 = rest.0;
        }
        found
    }

    /// Microseconds of the day: hours, minutes and seconds with colons or without, and their fraction.
    fn time(&mut self) -> Result<i64, Fault> {
        let first = self.digits();
        let (hours, minutes, seconds) = if self.skip(b':') {
            let minutes = self.digits();
            (first, minutes, if self.skip(b':') { self.digits() } else { b"0" })
        } else {
            match first.len() {
                4 => (&first[..2], &first[2..], &b"0"[..]),
                6 => (&first[..2], &first[2..4], &first[4..]),
                _ => return Err(Fault::Syntax),
            }
        };
        let (hours, minutes, seconds) = (number(hours)?, number(minutes)?, number(seconds)?);
        let fraction = if self.skip(b'.') { fraction(self.digits()) } else { 0 };
        let hours = match self.word(&["AM", "PM"]) {
            None => hours,
            Some(_) if hours > 12 => return Err(Fault::Part),
            Some(half) => hours % 12 + if half == 1 { 12 } else { 0 },
        };
        let time = hours * HOUR + minutes * MINUTE + seconds * SECOND + fraction;
        if hours > 24 || minutes > 59 || seconds > 60 || time > DAY { Err(Fault::Part) } else { Ok(time) }
    }

    /// How far local time is ahead of UTC, if that is said.
    fn offset(&mut self) -> Result<Option<Offset>, Fault> {
        self.spaces();
        let is_west = match self.0.first() {
            Some(b'+') => false,
            Some(b'-') => true,
            Some(byte) if byte.is_ascii_alphabetic() => return self.zone(),
            _ => return Ok(None),
        };
        self.0 = &self.0[1..];
        let first = self.digits();
        let (hours, minutes, seconds) = match first.len() {
            1 | 2 if self.skip(b':') => {
                let minutes = self.digits();
                (first, minutes, if self.skip(b':') { self.digits() } else { b"0" })
            }
            1 | 2 => (first, &b"0"[..], &b"0"[..]),
            3 | 4 => (&first[..first.len() - 2], &first[first.len() - 2..], &b"0"[..]),
            0 => return Err(Fault::Syntax),
            _ => return Err(Fault::Zone),
        };
        let (hours, minutes, seconds) = (number(hours)?, number(minutes)?, number(seconds)?);
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(Fault::Zone);
        }
        let offset = hours * HOUR + minutes * MINUTE + seconds * SECOND;
        Ok(Some(Offset::Of(if is_west { -offset } else { offset })))
    }

    /// Passes over a name of UTC, or one of a zone such as `Europe/Berlin`; an era may be here instead.
    fn zone(&mut self) -> Result<Option<Offset>, Fault> {
        if self.word(&["Z", "UTC", "GMT", "UT", "zulu"]).is_some() {
            return Ok(Some(Offset::Of(0)));
        }
        if Cursor(self.0).era().is_some() {
            return Ok(None);
        }
        let is_name = self.0.contains(&b'/');
        if is_name {
            let mut rest = Cursor(self.0);
            let name = rest.take(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(byte));
            if let Some(zone) = std::str::from_utf8(name).ok().and_then(Zone::named) {
                self.0 = rest.0;
                return Ok(Some(Offset::In(zone)));
            }
        }
        let is_abbreviation = (3..=5).contains(&self.0.len()) && self.0.iter().all(u8::is_ascii_uppercase);
        Err(if is_name || is_abbreviation { NO_ZONES } else { Fault::Syntax })
    }
}

/// A few digits.
fn number(digits: &[u8]) -> Result<i64, Fault> {
    match digits.len() {
        0 => Err(Fault::Syntax),
        1..=9 => Ok(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))),
        _ => Err(Fault::Part),
    }
}

/// Microseconds of the digits after the point of a second, rounded half to even.
fn fraction(digits: &[u8]) -> i64 {
    let digit = |at: usize| digits.get(at).map_or(0, |digit| i64::from(digit - b'0'));
    let micros = (0..6).fold(0, |micros, at| micros * 10 + digit(at));
    let mut rest = digits.get(6..).unwrap_or_default();
    while let [shorter @ .., b'0'] = rest {
        rest = shorter;
    }
    match rest.cmp(b"5") {
        Ordering::Less => micros,
        Ordering::Equal => micros + micros % 2,
        Ordering::Greater => micros + 1,
    }
}
