//! Variables of the environment that look like settings and are none.

use super::SETTINGS;
use std::ffi::OsString;

/// What begins the names of settings in the environment.
const PREFIX: &str = "HIGHWATER_";
/// The same of what tests alone read.
const OF_TESTS: &str = "HIGHWATER_TEST_";

/// Variables that are read and are no settings: here, and by the scripts and tests of a checkout, which have more of
/// their own.
const OTHERS: [&str; 11] = [
    "HIGHWATER_CONFIG",
    "HIGHWATER_COMMIT",
    "HIGHWATER_CACHE",
    "HIGHWATER_SLT",
    "HIGHWATER_SLT_KILL",
    "HIGHWATER_KILLS",
    "HIGHWATER_PSQL",
    "HIGHWATER_PYTHON",
    "HIGHWATER_NODE",
    "HIGHWATER_WRITE_FIXTURES",
    "HIGHWATER_WRITE_DOCS",
];

/// What to tell of each variable that nothing reads.
pub(crate) fn unread(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let known: Vec<String> = SETTINGS.iter().map(super::Setting::variable).chain(OTHERS.map(str::to_owned)).collect();
    let mut told = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let is_read = known.iter().any(|known| known == name) || name.starts_with(OF_TESTS);
        if is_read || is_of_service(name, &value.to_string_lossy()) {
            continue;
        }
        told.push(match nearest(name, &known) {
            Some(near) => format!("nothing reads the variable {name}: did you mean {near}?"),
            None => format!("nothing reads the variable {name}: `highwater settings` lists what is"),
        });
    }
    told.sort();
    told
}

/// Whether a variable is one that Kubernetes sets for a service whose name begins as ours.
fn is_of_service(name: &str, value: &str) -> bool {
    let is_address = value.starts_with("tcp://") || value.starts_with("udp://");
    name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.contains("_PORT_") || is_address
}

/// The name that is the fewest edits away, unless these are too many.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let of = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_uppercase();
    let mistaken = of(name);
    let near = known.iter().map(|known| (edits(&mistaken, &of(known)), known));
    let near = near.filter(|(edits, known)| *edits <= (of(known).len() / 3).max(1));
    near.min_by_key(|(edits, _)| *edits).map(|(_, known)| known.as_str())
}

/// Levenshtein's distance, by rows.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, left) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (place, right) in other.iter().enumerate() {
            let substitute = diagonal + usize::from(left != *right);
            diagonal = row[place + 1];
            row[place + 1] = substitute.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Vec<String> {
        unread(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
    }

    #[test]
    fn a_mistyped_variable_is_told_with_what_is_near() {
        let mistyped = [
            ("HIGHWATER_WORKER", "HIGHWATER_WORKERS"),
            ("HIGHWATER_CHECKPOINT_INTERVALL", "HIGHWATER_CHECKPOINT_INTERVAL"),
            ("HIGHWATER_PG_LISTNE", "HIGHWATER_PG_LISTEN"),
            ("HIGHWATER_data", "HIGHWATER_DATA"),
        ];
        for (name, near) in mistyped {
            let expected = format!("nothing reads the variable {name}: did you mean {near}?");
            assert_eq!(told(&[(name, "1")]), [expected]);
        }
        let far = "nothing reads the variable HIGHWATER_SOMETHING_ELSE: `highwater settings` lists what is";
        assert_eq!(told(&[("HIGHWATER_SOMETHING_ELSE", "1")]), [far]);
    }

    #[test]
    fn what_is_read_and_what_is_not_ours_is_not_told() {
        for setting in &SETTINGS {
            assert!(told(&[(setting.variable().as_str(), "1")]).is_empty(), "{}", setting.key);
        }
        let others = [
            ("HIGHWATER_CONFIG", "a.toml"),
            ("HIGHWATER_TEST_SEED", "1"),
            ("PATH", "/bin"),
            ("HIGHWATER_SERVICE_HOST", "10.0.0.1"),
            ("HIGHWATER_PORT", "tcp://10.0.0.1:7432"),
            ("HIGHWATER_PORT_7432_TCP_ADDR", "10.0.0.1"),
        ];
        assert!(told(&others).is_empty());
    }
}
