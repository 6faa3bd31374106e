//! Durations as people write them: `5s`, `100ms`, `2h 30min`, `1 day`.

use std::time::Duration;

/// The nanoseconds of each unit and the names it goes by.
const UNITS: [(u64, &[&str]); 7] = [
    (1, &["ns", "nanosecond", "nanoseconds"]),
    (1_000, &["us", "µs", "microsecond", "microseconds"]),
    (1_000_000, &["ms", "millisecond", "milliseconds"]),
    (1_000_000_000, &["s", "sec", "secs", "second", "seconds"]),
    (60_000_000_000, &["m", "min", "mins", "minute", "minutes"]),
    (3_600_000_000_000, &["h", "hour", "hours"]),
    (86_400_000_000_000, &["d", "day", "days"]),
];

/// One or more whole numbers, each with a unit; `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut nanos = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '_')?;
        let number: u64 = rest[..digits].replace('_', "").parse().ok()?;
        rest = rest[digits..].trim_start();
        let end = rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(rest.len());
        let (unit, _) = UNITS.iter().find(|(_, names)| names.contains(&&rest[..end]))?;
        nanos = nanos.checked_add(number.checked_mul(*unit)?)?;
        rest = rest[end..].trim_start();
    }
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("5s", 5_000),
            ("100ms", 100),
            ("2h 30min", 9_000_000),
            ("2h30m", 9_000_000),
            ("1 day", 86_400_000),
            ("1_000 ms", 1_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "5 parsecs", "-1s", "1.5s", "99999999999999d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
