//! The paths of `jsonb_path_exists` and its like, as far as they are keys and places: `$.a.*[0][*][last]`, lax.
//!
//! Lax means that a key of an array is one of its elements, that what is no array is one of a single element,
//! and that what is not there is nothing. Filters, methods, arithmetic and `strict` are no paths here.

use crate::walk::{elements, get, members, quoted};
use crate::{DEEPEST, Kind, normal};

/// What may stand between the parts of a path.
const BLANKS: [char; 5] = [' ', '\t', '\n', '\r', '\u{c}'];
/// The greatest place that PostgreSQL knows.
const LAST_PLACE: usize = i32::MAX as usize;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// `.key`, in quotes.
    Key(String),
    /// `.*`
    AnyKey,
    /// `[n]`
    Place(usize),
    /// `[last]`
    Last,
    /// `[*]`
    AnyPlace,
}

/// A path of keys and places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jsonpath {
    steps: Vec<Step>,
}

impl Jsonpath {
    /// The path that a text says; none where it says anything else.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(BLANKS);
        let text = match text.strip_prefix("lax") {
            Some(after) if after.starts_with(BLANKS) => after.trim_start_matches(BLANKS),
            _ => text,
        };
        let mut rest = text.strip_prefix('$')?.trim_start_matches(BLANKS);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = match rest.strip_prefix('.') {
                Some(after) => member(after.trim_start_matches(BLANKS))?,
                None => subscript(rest.strip_prefix('[')?.trim_start_matches(BLANKS))?,
            };
            // Each is a call while a value is looked at.
            if steps.len() == DEEPEST {
                return None;
            }
            steps.push(step);
            rest = after.trim_start_matches(BLANKS);
        }
        Some(Self { steps })
    }

    /// The first part of a value that the path leads to.
    #[must_use]
    pub fn first<'a>(&self, value: &'a str) -> Option<&'a str> {
        let mut first = None;
        visit(&self.steps, value, &mut |part| {
            first = Some(part);
            true
        });
        first
    }

    /// All parts of a value that the path leads to, in order.
    #[must_use]
    pub fn all<'a>(&self, value: &'a str) -> Vec<&'a str> {
        let mut all = Vec::new();
        visit(&self.steps, value, &mut |part| {
            all.push(part);
            false
        });
        all
    }
}

/// What stands after a point, and what comes behind it.
fn member(text: &str) -> Option<(Step, &str)> {
    if let Some(after) = text.strip_prefix('*') {
        // `.**` is all that is below.
        return (!after.starts_with('*')).then_some((Step::AnyKey, after));
    }
    if text.starts_with('"') {
        let (string, after) = text.split_at(end_of_string(text)?);
        return Some((Step::Key(normal(string).ok()?), after));
    }
    let (key, after) = text.split_at(end_of_word(text));
    let is_key = !key.is_empty() && !key.starts_with(|c: char| c.is_ascii_digit());
    is_key.then(|| (Step::Key(quoted(key)), after))
}

/// What stands after a bracket, and what comes behind the one that closes it.
fn subscript(text: &str) -> Option<(Step, &str)> {
    let (step, after) = match text.strip_prefix('*') {
        Some(after) => (Step::AnyPlace, after),
        None => {
            let (word, after) = text.split_at(end_of_word(text));
            (place(word)?, after)
        }
    };
    Some((step, after.trim_start_matches(BLANKS).strip_prefix(']')?))
}

fn place(word: &str) -> Option<Step> {
    if word == "last" {
        return Some(Step::Last);
    }
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    let place = word.parse().ok().filter(|place| is_number && *place <= LAST_PLACE);
    place.map(Step::Place)
}

fn end_of_word(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Where the string that a text begins with ends; none where it does not.
fn end_of_string(text: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.as_bytes().get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Shows the parts that steps lead to, in order, until one is enough; whether one was.
fn visit<'a>(steps: &[Step], value: &'a str, is_enough: &mut dyn FnMut(&'a str) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return is_enough(value) };
    match (step, Kind::of(value)) {
        (Step::Key(key), Kind::Object) => get(value, key).is_some_and(|part| visit(rest, part, is_enough)),
        (Step::Key(key), Kind::Array) => {
            elements(value).filter_map(|element| get(element, key)).any(|part| visit(rest, part, is_enough))
        }
        (Step::AnyKey, Kind::Object) => members(value).any(|(_, part)| visit(rest, part, is_enough)),
        (Step::AnyKey, Kind::Array) => elements(value).flat_map(members).any(|(_, part)| visit(rest, part, is_enough)),
        (Step::AnyPlace, Kind::Array) => elements(value).any(|part| visit(rest, part, is_enough)),
        (Step::Place(at), Kind::Array) => elements(value).nth(*at).is_some_and(|part| visit(rest, part, is_enough)),
        (Step::Last, Kind::Array) => elements(value).last().is_some_and(|part| visit(rest, part, is_enough)),
        (Step::Key(_) | Step::AnyKey | Step::Place(1..), _) => false,
        (Step::Place(0) | Step::Last | Step::AnyPlace, _) => visit(rest, value, is_enough),
    }
}
