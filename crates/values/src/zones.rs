//! Time zones by their names, and what their clocks show. Zones are those of the IANA database that Arrow
//! has, and fixed distances from UTC.
//!
//! Invariant: an offset in a type, `+02:00`, is ahead of UTC, as Arrow has it. In names it is behind UTC, as POSIX and
//! PostgreSQL have it: a zone of an offset is called `<+02>-02`, and by nothing else.

use arrow::array::timezone::Tz;
use arrow::datatypes::{DataType, FieldRef};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use std::sync::Arc;

/// Names of the zone that needs no other.
const UTC: [&str; 7] = ["UTC", "Etc/UTC", "GMT", "Etc/GMT", "UCT", "Zulu", "Universal"];

/// A time zone by its name.
#[derive(Clone, Debug)]
pub struct Zone {
    name: Arc<str>,
    called: Arc<str>,
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
        Self::in_type(setting).filter(|zone| !UTC.contains(&zone.name()))
    }

    /// The zone of a name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        zone_of(name).map(Self::of_tz)
    }

    /// The zone of a type, which may be an offset.
    #[must_use]
    pub fn in_type(name: &str) -> Option<Self> {
        if name.starts_with(['+', '-']) { name.parse().ok().map(Self::of_tz) } else { Self::named(name) }
    }

    fn of_tz(tz: Tz) -> Self {
        let name: Arc<str> = tz.to_string().into();
        let ahead = if name.starts_with(['+', '-']) { minutes(&name) } else { None };
        let called = ahead.map_or_else(|| Arc::clone(&name), |ahead| offset_name(ahead).into());
        Self { name, called, tz }
    }

    /// By what [`Zone::named`] finds it.
    #[must_use]
    pub fn called(&self) -> &str {
        &self.called
    }

    /// As the database and types spell it.
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

/// What a setting stands for that is no name but an offset, as PostgreSQL takes them: a number of hours ahead of UTC,
/// or hours and minutes with a colon behind it.
#[must_use]
pub fn offset_setting(setting: &str) -> Option<String> {
    let setting = setting.trim();
    let ahead = if setting.contains(':') { -minutes(setting)? } else { hours(setting)? };
    Some(offset_name(ahead))
}

/// What the zone is called that is so many minutes ahead of UTC, less than a day.
#[must_use]
pub fn offset_name(ahead: i32) -> String {
    if ahead == 0 {
        return "UTC".to_owned();
    }
    let (hours, minutes) = (ahead.abs() / 60, ahead.abs() % 60);
    let distance = if minutes == 0 { format!("{hours:02}") } else { format!("{hours:02}:{minutes:02}") };
    if ahead > 0 { format!("<+{distance}>-{distance}") } else { format!("<-{distance}>+{distance}") }
}

/// A sign, which may be missing, and what stands behind it.
fn signed(text: &str) -> (i32, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// One or two digits, up to a number.
fn digits(text: &str, most: i32) -> Option<i32> {
    let are_digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| are_digits && *number <= most)
}

/// The minutes of hours, or hours and minutes with a colon.
fn minutes(offset: &str) -> Option<i32> {
    let (sign, distance) = signed(offset);
    let (hours, minutes) = distance.split_once(':').unwrap_or((distance, "0"));
    Some(sign * (digits(hours, 23)? * 60 + digits(minutes, 59)?))
}

/// The minutes of hours with a fraction, if they are whole.
fn hours(offset: &str) -> Option<i32> {
    let (sign, distance) = signed(offset);
    let (hours, fraction) = distance.split_once('.').unwrap_or((distance, "0"));
    let hundredths = digits(fraction, 99)? * if fraction.len() == 1 { 10 } else { 1 };
    let is_whole = hundredths * 60 % 100 == 0;
    is_whole.then_some(sign * (digits(hours, 23)? * 60 + hundredths * 60 / 100))
}

/// The zone of a name. What is only an offset has the opposite sign in PostgreSQL, and is none.
fn zone_of(name: &str) -> Option<Tz> {
    if let Some((_, behind)) = name.strip_prefix('<').and_then(|name| name.split_once('>')) {
        let ahead = -minutes(behind)?;
        let sign = if ahead < 0 { '-' } else { '+' };
        return format!("{sign}{:02}:{:02}", ahead.abs() / 60, ahead.abs() % 60).parse().ok();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

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
            let zone = Zone::named(name).expect(name);
            assert_eq!(zone.instant(micros(shown)), Some(micros(utc)), "{name} {shown}");
            assert_eq!(zone.local(micros(utc)), Some(micros(shown)), "{name} {utc}");
        }
        // Passed over.
        let berlin = Zone::named("Europe/Berlin").expect("a zone");
        assert_eq!(berlin.instant(micros("2024-03-31 02:30:00")), Some(micros("2024-03-31 01:30:00")));
        let samoa = Zone::named("Pacific/Apia").expect("a zone");
        assert!(samoa.instant(micros("2011-12-30 12:00:00")).is_some());
        assert_eq!(berlin.local(i64::MAX), None);
    }

    #[test]
    fn offsets_are_zones_as_in_postgresql() {
        for (setting, called, utc) in [
            ("+02", "<+02>-02", "2024-01-01 10:00:00"),
            ("2", "<+02>-02", "2024-01-01 10:00:00"),
            ("-3.5", "<-03:30>+03:30", "2024-01-01 15:30:00"),
            ("5.75", "<+05:45>-05:45", "2024-01-01 06:15:00"),
            // With a colon they are as POSIX has them.
            ("-3:30", "<+03:30>-03:30", "2024-01-01 08:30:00"),
            ("+05:00", "<-05>+05", "2024-01-01 17:00:00"),
        ] {
            assert_eq!(offset_setting(setting).as_deref(), Some(called));
            let zone = Zone::of(called).expect(called);
            assert_eq!(zone.called(), called);
            assert_eq!(zone.instant(micros("2024-01-01 12:00:00")), Some(micros(utc)), "{setting}");
            let DataType::Timestamp(_, Some(in_type)) =
                zone.of_type(&DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
            else {
                panic!("a type with a zone")
            };
            let again = Zone::of(&in_type).expect("the zone of a type");
            assert_eq!((again.called(), again.name()), (called, zone.name()));
        }
        assert_eq!(offset_setting("+00").as_deref(), Some("UTC"));
        for none in ["", "+", "25", "2.3333", "1:60", "1:00:30", "Europe/Berlin", "+2a", "1.2.3"] {
            assert_eq!(offset_setting(none), None, "{none}");
        }
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
