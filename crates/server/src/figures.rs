//! Numbers as people read them, with three significant digits and a unit. Pure.

use std::time::Duration;

/// A number scaled by `step` until it is below it, with the unit that fits.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{}", units[unit])
}

/// A count: `12.3 M`.
pub(crate) fn count(value: u64) -> String {
    scaled(value as f64, 1000.0, &["", " k", " M", " G", " T"])
}

/// A rate a second.
pub(crate) fn rate(value: f64) -> String {
    scaled(value.max(0.0), 1000.0, &["/s", " k/s", " M/s", " G/s"])
}

/// A size in powers of 1,024.
pub(crate) fn bytes(value: u64) -> String {
    scaled(value as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// A duration given in microseconds.
pub(crate) fn micros(value: u64) -> String {
    if value < 60_000_000 { scaled(value as f64, 1000.0, &[" µs", " ms", " s"]) } else { clock(value / 1_000_000) }
}

/// A duration.
pub(crate) fn duration(value: Duration) -> String {
    micros(u64::try_from(value.as_micros()).unwrap_or(u64::MAX))
}

/// Seconds as `m:ss` or `h:mm:ss`.
pub(crate) fn clock(seconds: u64) -> String {
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

/// The value below which `percent` of the sorted values lie; 0 for none.
pub(crate) fn percentile(sorted: &[u64], percent: f64) -> u64 {
    let at = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(at.max(1) - 1).or(sorted.last()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234), "1.23 k");
        assert_eq!(count(12_345_678), "12.3 M");
        assert_eq!(count(123_456_789), "123 M");
        assert_eq!(bytes(3 << 20), "3.00 MiB");
        assert_eq!(micros(141), "141 µs");
        assert_eq!(micros(2_900), "2.90 ms");
        assert_eq!(micros(61_000_000), "1:01");
        assert_eq!(clock(3_723), "1:02:03");
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&sorted, 50.0), 50);
        assert_eq!(percentile(&sorted, 99.0), 99);
        assert_eq!(percentile(&sorted, 100.0), 100);
        assert_eq!(percentile(&[], 50.0), 0);
        assert_eq!(percentile(&[7], 1.0), 7);
    }
}
