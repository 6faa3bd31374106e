//! What values settings take, how they are written and read. Pure.
//!
//! The empty text stands for "not said" and is right for every kind.

use std::time::Duration;

/// The least size in bytes that is taken without a unit.
const LEAST_BARE: u64 = 1 << 20;

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A file or folder.
    Path,
    /// Any text; shown in help under this name.
    Text(&'static str),
    /// A whole number of at least 1.
    Count,
    /// Bytes, with a unit.
    Size,
    /// A duration, or `off`.
    Interval,
    /// One of these.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// What stands for the value in help.
    pub(crate) const fn placeholder(self) -> &'static str {
        match self {
            Self::Path => "PATH",
            Self::Text(name) => name,
            Self::Count => "N",
            Self::Size => "SIZE",
            Self::Interval => "DURATION",
            Self::Choice(_) => "CHOICE",
        }
    }

    /// The choices as help tells them; empty when there are none to tell.
    pub(crate) fn choices(self) -> String {
        match self {
            Self::Choice(choices) => format!(" [one of: {}]", choices.join(", ")),
            _ => String::new(),
        }
    }

    /// Whether a value is right, and if not what would be.
    pub(crate) fn check(self, value: &str) -> Result<(), String> {
        let (right, wanted) = match self {
            Self::Path | Self::Text(_) => (true, String::new()),
            Self::Count => (value.parse::<u32>().is_ok_and(|n| n > 0), "a whole number of at least 1".to_owned()),
            Self::Size => (is_size(value), "a size such as 512MiB or 4GB".to_owned()),
            Self::Interval => (
                value == "off" || parse_duration(value).is_some(),
                "a duration such as 10s or 500ms, or off".to_owned(),
            ),
            Self::Choice(choices) => (choices.contains(&value), format!("one of {}", choices.join(", "))),
        };
        if right || value.is_empty() { Ok(()) } else { Err(format!("is not {wanted}")) }
    }
}

/// Whether a text is a size. A small number without a unit was hardly meant as bytes.
fn is_size(text: &str) -> bool {
    let has_unit = text.trim().ends_with(|c: char| c.is_ascii_alphabetic());
    parse_size(text).is_some_and(|bytes| has_unit || bytes >= LEAST_BARE)
}

/// A number and what follows it.
fn split_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

/// Bytes from `512MiB`, `4GB`, `1024`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text.trim())?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    Some((number * factor as f64) as u64)
}

/// A duration of more than 0 from `10s`, `500ms`, `2min`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text.trim())?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_as_people_write_them() {
        assert_eq!(parse_size("512MiB"), Some(512 << 20));
        assert_eq!(parse_size("1.5 GB"), Some(1_500_000_000));
        assert_eq!(parse_size("7"), Some(7));
        assert_eq!(parse_size("7 apples"), None);
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2min"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("10"), None);
        assert_eq!(parse_duration("0s"), None);
    }

    #[test]
    fn a_wrong_value_says_what_would_be_right() {
        assert_eq!(Kind::Count.check("0"), Err("is not a whole number of at least 1".to_owned()));
        assert_eq!(Kind::Interval.check("off"), Ok(()));
        assert!(Kind::Size.check("8").is_err() && Kind::Size.check("0.5 apples").is_err());
        assert!(["8GiB", "64b", "1073741824"].iter().all(|size| Kind::Size.check(size).is_ok()));
        assert_eq!(Kind::Choice(&["a", "b"]).check("c"), Err("is not one of a, b".to_owned()));
    }
}
