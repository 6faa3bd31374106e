//! `regexp_split_to_array`: what stands between the matches of a pattern.

use super::{Scalar, refused, texts};
use crate::error::no_regex;
use crate::types::array_of;
use arrow::array::{Array, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use regex::Regex;
use std::sync::Arc;

/// The function; `respell` makes rows of its elements for `regexp_split_to_table`.
pub(crate) const NAME: &str = "regexp_split_to_array";

pub(super) static SPLIT: Scalar = Scalar {
    name: NAME,
    takes: |given| texts(given, 2),
    gives: |_| array_of(DataType::Utf8),
    is_strict: true,
    compute: |args| {
        let (texts, patterns) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
        let mut last: Option<(&str, Regex)> = None;
        let mut lists = ListBuilder::with_capacity(StringBuilder::new(), texts.len());
        for (text, pattern) in texts.iter().zip(patterns) {
            let (Some(text), Some(pattern)) = (text, pattern) else {
                lists.append(false);
                continue;
            };
            let kept = match last.take().filter(|(known, _)| *known == pattern) {
                Some(kept) => kept,
                None => (pattern, compiled(pattern)?),
            };
            for part in parts(text, &last.insert(kept).1) {
                lists.values().append_value(part);
            }
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    },
};

fn compiled(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| refused("2201B", format!("invalid regular expression: {error}")))
}

/// Refuses what is no regular expression, in one line.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_regex(pattern: &str) -> Result<()> {
    let Err(error) = Regex::new(pattern) else { return Ok(()) };
    let told = error.to_string();
    Err(refused("2201B", no_regex(&told).unwrap_or_else(|| format!("invalid regular expression: {told}"))))
}

/// The parts of a text. Matches of nothing at its ends or right behind another match divide nothing.
fn parts<'a>(text: &'a str, pattern: &Regex) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut from, mut last) = (0, 0);
    for found in pattern.find_iter(text) {
        if found.is_empty() && (found.start() == last || found.start() == text.len()) {
            continue;
        }
        parts.push(&text[from..found.start()]);
        (from, last) = (found.end(), found.end());
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_of_nothing_divide_only_what_has_two_sides() {
        for (text, pattern, expected) in [
            ("a, b,c", ", *", &["a", "b", "c"][..]),
            ("abc", "", &["a", "b", "c"]),
            ("", "", &[""]),
            (",a,", ",", &["", "a", ""]),
            ("a1b22c", "[0-9]*", &["a", "b", "c"]),
            ("abc", "x", &["abc"]),
        ] {
            assert_eq!(parts(text, &compiled(pattern).expect("a pattern")), expected, "{text} by {pattern}");
        }
    }
}
