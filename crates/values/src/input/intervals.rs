//! Reads intervals: PostgreSQL's own form (`1 year 2 mons -3 days +04:05:06.7`), its verbose form with
//! `@` and `ago`, the SQL standard's (`1-2 3 04:05:06`) and ISO 8601's with designators (`P1Y2M`).
//!
//! Arrow's parser is not used: it knows neither times with colons nor plus signs, and takes a number
//! without a unit for months. Invariants: months, days and time stay apart; of a number only the
//! fraction goes to smaller units, as in PostgreSQL.

use super::Fault;
use super::numbers::{sign, trim};
use arrow::datatypes::IntervalMonthDayNano;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// So many microseconds.
    Time(i64),
    Days(i64),
    Months,
    Years(i64),
}

/// The units and how they are written; PostgreSQL looks at ten characters only.
const UNITS: [(Unit, &[&str]); 12] = [
    (Unit::Time(1), &["us", "usec", "usecs", "usecond", "useconds", "microsecon"]),
    (Unit::Time(1000), &["ms", "msec", "msecs", "msecond", "mseconds", "millisecon"]),
    (Unit::Time(SECOND), &["s", "sec", "secs", "second", "seconds"]),
    (Unit::Time(MINUTE), &["m", "min", "mins", "minute", "minutes"]),
    (Unit::Time(HOUR), &["h", "hr", "hrs", "hour", "hours"]),
    (Unit::Days(1), &["d", "day", "days"]),
    (Unit::Days(7), &["w", "week", "weeks"]),
    (Unit::Months, &["mon", "mons", "month", "months"]),
    (Unit::Years(1), &["y", "yr", "yrs", "year", "years"]),
    (Unit::Years(10), &["dec", "decs", "decade", "decades"]),
    (Unit::Years(100), &["c", "cent", "century", "centuries"]),
    (Unit::Years(1000), &["mil", "mils", "millennium", "millennia"]),
];

/// The units of a time with colons.
const CLOCK_UNITS: [Unit; 3] = [Unit::Time(HOUR), Unit::Time(MINUTE), Unit::Time(SECOND)];

/// The units of ISO 8601 before the `T` and after it.
const DATE_DESIGNATORS: [(char, Unit); 4] =
    [('Y', Unit::Years(1)), ('M', Unit::Months), ('W', Unit::Days(7)), ('D', Unit::Days(1))];
const TIME_DESIGNATORS: [(char, Unit); 3] =
    [('H', Unit::Time(HOUR)), ('M', Unit::Time(MINUTE)), ('S', Unit::Time(SECOND))];

/// A number with a sign, as it was written.
#[derive(Clone, Copy, Debug)]
struct Amount {
    is_negative: bool,
    whole: i64,
    /// With the sign.
    fraction: f64,
}

/// Months, days and microseconds so far.
#[derive(Debug, Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i64,
    /// The units that occurred; none may do so twice.
    units: Vec<Unit>,
}

/// Months, days and nanoseconds, of which microseconds can be written.
pub(super) fn interval(text: &str) -> Result<IntervalMonthDayNano, Fault> {
    let text = trim(text);
    if ["infinity", "-infinity", "+infinity"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Err(Fault::Unsupported("there are no infinite intervals here"));
    }
    let sum = match text.strip_prefix('P') {
        Some(designated) => iso_8601(designated)?,
        None => words(text)?,
    };
    let months = i32::try_from(sum.months).map_err(|_| Fault::Moment)?;
    let days = i32::try_from(sum.days).map_err(|_| Fault::Part)?;
    let nanos = sum.micros.checked_mul(1000).ok_or(Fault::Moment)?;
    Ok(IntervalMonthDayNano::new(months, days, nanos))
}

/// Numbers with designators; those after the `T` are of time.
fn iso_8601(text: &str) -> Result<Sum, Fault> {
    let mut sum = Sum::default();
    let (mut rest, mut designators) = (text, &DATE_DESIGNATORS[..]);
    loop {
        if let Some(time) = rest.strip_prefix('T').filter(|_| designators.len() == DATE_DESIGNATORS.len()) {
            (rest, designators) = (time, &TIME_DESIGNATORS);
        }
        let (amount, after) = Amount::read(rest)?;
        let designator = after.chars().next().ok_or(Fault::Syntax)?;
        let unit = designators.iter().find(|(known, _)| *known == designator).ok_or(Fault::Syntax)?.1;
        sum.add(amount, unit)?;
        rest = &after[designator.len_utf8()..];
        if rest.is_empty() {
            return Ok(sum);
        }
    }
}

/// Numbers with units, and times with colons.
fn words(text: &str) -> Result<Sum, Fault> {
    let mut sum = Sum::default();
    let mut rest = trim(text.strip_prefix('@').unwrap_or(text));
    while !rest.is_empty() {
        if rest.eq_ignore_ascii_case("ago") && !sum.units.is_empty() {
            return sum.negated();
        }
        let token = rest.split_ascii_whitespace().next().expect("it begins with something else than a space");
        if token.contains(':') {
            sum.add_clock(token)?;
            rest = trim(&rest[token.len()..]);
            continue;
        }
        let (amount, after) = Amount::read(rest)?;
        if let Some(months) = after.strip_prefix('-').filter(|_| amount.fraction == 0.0) {
            rest = trim(sum.add_months(amount, months)?);
            continue;
        }
        let after = trim(after);
        let length = after.find(|byte: char| !byte.is_ascii_alphabetic()).unwrap_or(after.len());
        sum.add(amount, unit(&after[..length], &after[length..])?)?;
        rest = trim(&after[length..]);
    }
    if sum.units.is_empty() { Err(Fault::Syntax) } else { Ok(sum) }
}

/// The unit of a word; without one a number is of seconds at the end and of days before a time.
fn unit(word: &str, rest: &str) -> Result<Unit, Fault> {
    if word.is_empty() {
        let is_before_time = rest.split_ascii_whitespace().next().is_some_and(|token| token.contains(':'));
        return match (rest.is_empty(), is_before_time) {
            (true, _) => Ok(Unit::Time(SECOND)),
            (false, true) => Ok(Unit::Days(1)),
            (false, false) => Err(Fault::Syntax),
        };
    }
    let word = word[..word.len().min(10)].to_ascii_lowercase();
    UNITS.iter().find(|(_, names)| names.contains(&word.as_str())).map(|(unit, _)| *unit).ok_or(Fault::Syntax)
}

impl Amount {
    /// The number at the beginning, and what follows it.
    fn read(text: &str) -> Result<(Self, &str), Fault> {
        let (is_negative, digits) = sign(text);
        let (whole, rest) = split_digits(digits);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(Fault::Syntax);
        }
        let fraction = match fraction {
            "" => 0.0,
            digits => format!("0.{digits}").parse::<f64>().expect("digits after a point are a number"),
        };
        let magnitude = if whole.is_empty() { 0 } else { whole.parse::<i64>().map_err(|_| Fault::Part)? };
        let whole = if is_negative { -magnitude } else { magnitude };
        Ok((Self { is_negative, whole, fraction: if is_negative { -fraction } else { fraction } }, rest))
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|found: char| !found.is_ascii_digit()).unwrap_or(text.len()))
}

impl Sum {
    fn add(&mut self, amount: Amount, unit: Unit) -> Result<(), Fault> {
        self.mark(&[unit])?;
        let Amount { whole, fraction, .. } = amount;
        match unit {
            Unit::Time(scale) => {
                increase(&mut self.micros, whole, scale)?;
                increase(&mut self.micros, nearest(fraction * float(scale)), 1)
            }
            Unit::Days(scale) => {
                increase(&mut self.days, whole, scale)?;
                self.add_part_days(fraction * float(scale))
            }
            Unit::Months => {
                increase(&mut self.months, whole, 1)?;
                self.add_part_days(fraction * 30.0)
            }
            Unit::Years(scale) => {
                increase(&mut self.months, whole, 12 * scale)?;
                increase(&mut self.months, integer((fraction * float(12 * scale)).round_ties_even()), 1)
            }
        }
    }

    /// Whole days, and their fraction as time.
    fn add_part_days(&mut self, days: f64) -> Result<(), Fault> {
        increase(&mut self.days, integer(days), 1)?;
        increase(&mut self.micros, nearest(days.fract() * float(DAY)), 1)
    }

    /// Hours, minutes and perhaps seconds; the sign is that of all.
    fn add_clock(&mut self, token: &str) -> Result<(), Fault> {
        self.mark(&CLOCK_UNITS)?;
        let (is_negative, token) = sign(token);
        let mut parts = token.split(':');
        let mut next = || parts.next().map(|part| Amount::read(part).map(|(amount, rest)| (amount, part, rest)));
        let mut micros = 0;
        for (scale, most) in [(HOUR, i64::MAX), (MINUTE, 59), (SECOND, 60)] {
            let Some(part) = next() else { break };
            let (amount, written, rest) = part?;
            if !rest.is_empty() || !written.starts_with(|first: char| first.is_ascii_digit()) {
                return Err(Fault::Syntax);
            }
            if scale != SECOND && written.contains('.') {
                return Err(Fault::Syntax);
            }
            if amount.whole > most {
                return Err(Fault::Part);
            }
            increase(&mut micros, amount.whole, scale)?;
            increase(&mut micros, integer((amount.fraction * float(SECOND)).round_ties_even()), 1)?;
        }
        if next().is_some() {
            return Err(Fault::Syntax);
        }
        increase(&mut self.micros, if is_negative { -micros } else { micros }, 1)
    }

    /// The months after years and a hyphen, with the sign of the years; gives what follows.
    fn add_months<'a>(&mut self, years: Amount, months: &'a str) -> Result<&'a str, Fault> {
        self.mark(&[Unit::Years(1), Unit::Months])?;
        let (digits, rest) = split_digits(months);
        let months = digits.parse::<i64>().map_err(|_| Fault::Syntax)?;
        if months > 11 {
            return Err(Fault::Part);
        }
        // It is a date, or something else of three parts.
        if rest.starts_with('-') {
            return Err(Fault::Syntax);
        }
        increase(&mut self.months, years.whole, 12)?;
        increase(&mut self.months, if years.is_negative { -months } else { months }, 1)?;
        Ok(rest)
    }

    fn mark(&mut self, units: &[Unit]) -> Result<(), Fault> {
        if units.iter().any(|unit| self.units.contains(unit)) {
            return Err(Fault::Syntax);
        }
        self.units.extend_from_slice(units);
        Ok(())
    }

    fn negated(self) -> Result<Self, Fault> {
        let negate = |value: i64| value.checked_neg().ok_or(Fault::Part);
        let (months, days, micros) = (negate(self.months)?, negate(self.days)?, negate(self.micros)?);
        Ok(Self { months, days, micros, units: self.units })
    }
}

fn increase(sum: &mut i64, amount: i64, scale: i64) -> Result<(), Fault> {
    let increased = amount.checked_mul(scale).and_then(|amount| sum.checked_add(amount));
    *sum = increased.ok_or(Fault::Part)?;
    Ok(())
}

fn float(scale: i64) -> f64 {
    scale as f64
}

/// Without the fraction.
fn integer(value: f64) -> i64 {
    value as i64
}

/// Halves are rounded towards zero, as PostgreSQL does with a part of a microsecond.
fn nearest(value: f64) -> i64 {
    let rest = value.fract();
    integer(value) + i64::from(rest > 0.5) - i64::from(rest < -0.5)
}
