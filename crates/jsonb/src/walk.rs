//! Finding parts of values in normal form, and comparing values.

use crate::{Kind, number, read};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Where the string that begins at `from` ends.
fn end_of_string(text: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Where the value that begins a text ends.
fn end_of_value(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => end_of_string(text, 0),
        Some(b'{' | b'[') => end_of_nested(text),
        _ => text.iter().position(|byte| matches!(byte, b',' | b']' | b'}')).unwrap_or(text.len()),
    }
}

fn end_of_nested(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return at + 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// How deep a value is nested.
pub(crate) fn depth(value: &str) -> usize {
    let text = value.as_bytes();
    let (mut at, mut depth, mut deepest) = (0, 0_usize, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(text, at);
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

fn inside(value: &str, open: char, close: char) -> &str {
    value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).unwrap_or_default()
}

/// The elements of an array, in order; of anything else none.
pub fn elements(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = inside(value, '[', ']');
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (element, after) = rest.split_at(end_of_value(rest.as_bytes()));
        rest = after.strip_prefix(", ").unwrap_or_default();
        Some(element)
    })
}

/// The members of an object, in order, with their keys in quotes; of anything else none.
pub fn members(value: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = inside(value, '{', '}');
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (key, after) = rest.split_at(end_of_string(rest.as_bytes(), 0));
        let after = after.strip_prefix(": ")?;
        let (member, after) = after.split_at(end_of_value(after.as_bytes()));
        rest = after.strip_prefix(", ").unwrap_or_default();
        Some((key, member))
    })
}

/// An object's member, by its key in quotes.
#[must_use]
pub fn get<'a>(value: &'a str, quoted: &str) -> Option<&'a str> {
    members(value).find(|(key, _)| *key == quoted).map(|(_, member)| member)
}

/// An array's element, counted from 0, or from -1 backwards.
#[must_use]
pub fn item(value: &str, index: i64) -> Option<&str> {
    let place = place_of(value, index)?;
    elements(value).nth(place)
}

/// Where an element stands, counted from 0.
pub(crate) fn place_of(value: &str, index: i64) -> Option<usize> {
    match usize::try_from(index) {
        Ok(place) => Some(place),
        Err(_) => elements(value).count().checked_sub(usize::try_from(index.checked_neg()?).ok()?),
    }
}

/// What a path of keys and numbers of elements leads to.
#[must_use]
pub fn path<'a, 's>(value: &'a str, steps: impl IntoIterator<Item = &'s str>) -> Option<&'a str> {
    let mut found = value;
    for step in steps {
        found = match Kind::of(found) {
            Kind::Object => get(found, &quoted(step))?,
            Kind::Array => item(found, step.trim_start().parse::<i32>().ok()?.into())?,
            _ => return None,
        };
    }
    Some(found)
}

/// A value as text: a string without its quotes, and null as nothing.
#[must_use]
pub fn text_of(value: &str) -> Option<Cow<'_, str>> {
    match Kind::of(value) {
        Kind::Null => None,
        Kind::String => Some(read::unquoted(value)),
        _ => Some(Cow::Borrowed(value)),
    }
}

/// A text as a JSON string.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_string(text, &mut out);
    out
}

/// Writes a text as a JSON string.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x0c => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        from = at + 1;
        if escape.is_empty() {
            // Strings take all.
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// `left @> right`: an array also contains a value that is one of its elements.
#[must_use]
pub fn contains(left: &str, right: &str) -> bool {
    match (Kind::of(left), Kind::of(right)) {
        (Kind::Array, other) if !other.has_parts() => elements(left).any(|own| is_same(own, right)),
        _ => holds(left, right),
    }
}

fn holds(left: &str, right: &str) -> bool {
    match (Kind::of(left), Kind::of(right)) {
        (Kind::Object, Kind::Object) => {
            members(right).all(|(key, wanted)| get(left, key).is_some_and(|own| holds(own, wanted)))
        }
        (Kind::Array, Kind::Array) => elements(right).all(|wanted| elements(left).any(|own| holds(own, wanted))),
        _ => is_same(left, right),
    }
}

/// Whether two values without parts are equal.
fn is_same(left: &str, right: &str) -> bool {
    left == right || Kind::of(left) == Kind::Number && Kind::of(right) == Kind::Number && number::is_same(left, right)
}

/// `value ? key`, with the key in quotes: whether it is one of an object's, an element of an array, or
/// the string itself.
#[must_use]
pub fn exists(value: &str, quoted: &str) -> bool {
    match Kind::of(value) {
        Kind::Object => get(value, quoted).is_some(),
        Kind::Array => elements(value).any(|element| element == quoted),
        _ => value == quoted,
    }
}
