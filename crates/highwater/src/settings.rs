//! The settings of a view: read from WITH (...), ALTER and the database's defaults.

use highwater_engine::plan::OnError;
use highwater_engine::{CheckpointSettings, Parallelism};
use highwater_sql::statement::Property;
use highwater_sql::{Error, Position, Result};
use std::collections::BTreeMap;
use std::time::Duration;

const INTERVAL: &str = "checkpoint_interval";
const RETAIN: &str = "retain";
pub(crate) const PARALLELISM: &str = "parallelism";
/// The one setting that is an object's own, and not its pipeline's.
pub(crate) const ON_ERROR: &str = "on_error";

/// How a view's pipeline is run.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewSettings {
    pub(crate) checkpoints: CheckpointSettings,
    pub(crate) parallelism: Parallelism,
}

/// Checks names and values without applying them.
pub(crate) fn check(options: &[Property]) -> Result<()> {
    let mut scratch = ViewSettings::default();
    options.iter().try_for_each(|p| apply(&mut scratch, &p.key, &p.value, Some(p.at)))
}

/// The defaults, then what WITH says, then what ALTER has set since.
pub(crate) fn settings(
    defaults: &CheckpointSettings,
    with: &[Property],
    altered: &BTreeMap<String, String>,
) -> Result<ViewSettings> {
    let mut settings = ViewSettings { checkpoints: defaults.clone(), parallelism: Parallelism::Auto };
    for option in with {
        apply(&mut settings, &option.key, &option.value, Some(option.at))?;
    }
    for (key, value) in altered {
        apply(&mut settings, key, value, None)?;
    }
    Ok(settings)
}

fn apply(settings: &mut ViewSettings, key: &str, value: &str, at: Option<Position>) -> Result<()> {
    match key {
        INTERVAL if value.eq_ignore_ascii_case("off") => settings.checkpoints.interval = None,
        INTERVAL => settings.checkpoints.interval = Some(interval(value, at)?),
        RETAIN => {
            let wrong = || Error::option(key, "takes a number of checkpoints, at least 1", at);
            settings.checkpoints.retain = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
        }
        PARALLELISM => settings.parallelism = parallelism(value, at)?,
        ON_ERROR => {
            policy(value, at)?;
        }
        _ => {
            let reason = format!("there are {INTERVAL}, {RETAIN}, {PARALLELISM} and {ON_ERROR}");
            return Err(Error::option(key, reason, at));
        }
    }
    Ok(())
}

/// What WITH says that becomes of rows that cannot be computed, or what ALTER has set since.
pub(crate) fn on_error(with: &[Property], altered: &BTreeMap<String, String>) -> Result<OnError> {
    if let Some(value) = altered.get(ON_ERROR) {
        return policy(value, None);
    }
    let option = with.iter().find(|option| option.key == ON_ERROR);
    option.map_or(Ok(OnError::Fail), |option| policy(&option.value, Some(option.at)))
}

fn policy(value: &str, at: Option<Position>) -> Result<OnError> {
    match value.to_ascii_lowercase().as_str() {
        "fail" => Ok(OnError::Fail),
        "skip" => Ok(OnError::Skip),
        "dead_letter" => Err(Error::Unsupported {
            clause: "on_error = 'dead_letter' of a view or sink".to_owned(),
            hint: "'skip' leaves such rows out and counts them; tables with a connector keep rows that \
                   could not be read"
                .to_owned(),
            position: at,
        }),
        _ => Err(Error::option(ON_ERROR, "takes 'fail' or 'skip'", at)),
    }
}

fn interval(value: &str, at: Option<Position>) -> Result<Duration> {
    let wrong = || {
        let reason = "takes a time such as '10s', '500ms' or '1 minute', or 'off'";
        Error::option(INTERVAL, reason, at)
    };
    duration(value).filter(|d| *d >= Duration::from_millis(10)).ok_or_else(wrong)
}

fn parallelism(value: &str, at: Option<Position>) -> Result<Parallelism> {
    match value.to_ascii_lowercase().as_str() {
        "auto" => Ok(Parallelism::Auto),
        "1" => Ok(Parallelism::One),
        "all" => Ok(Parallelism::All),
        _ => Err(Error::option(PARALLELISM, "takes 'auto', 1 or 'all'", at)),
    }
}

/// A number and a unit, with or without a space between them.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in
            [("10s", 10_000), ("1.5 seconds", 1500), ("2 min", 120_000), ("1h", 3_600_000), ("50 ms", 50)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1 fortnight", "1e400s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn rows_that_fail_make_a_view_fail_unless_it_is_told_otherwise() {
        let with = |value: &str| {
            let at = Position { offset: 1, line: 1, column: 1 };
            [Property { key: ON_ERROR.to_owned(), value: value.to_owned(), at }]
        };
        let altered = |value: &str| BTreeMap::from([(ON_ERROR.to_owned(), value.to_owned())]);
        let none = BTreeMap::new();
        assert_eq!(on_error(&[], &none).expect("the default"), OnError::Fail);
        assert_eq!(on_error(&with("SKIP"), &none).expect("known"), OnError::Skip);
        assert_eq!(on_error(&with("skip"), &altered("fail")).expect("known"), OnError::Fail);
        assert_eq!(on_error(&with("null"), &none).expect_err("no such policy").sqlstate(), "22023");
        assert_eq!(on_error(&[], &altered("dead_letter")).expect_err("not of a view").sqlstate(), "0A000");
    }

    #[test]
    fn later_settings_win() {
        let altered = BTreeMap::from([("checkpoint_interval".to_owned(), "off".to_owned())]);
        let found = settings(&CheckpointSettings::default(), &[], &altered).expect("valid");
        assert_eq!(found.checkpoints.interval, None);
        let wrong = BTreeMap::from([("retain".to_owned(), "0".to_owned())]);
        assert_eq!(settings(&found.checkpoints, &[], &wrong).expect_err("at least 1").sqlstate(), "22023");
    }
}
