//! Values made of others and of their parts.

use crate::read::too_deep;
use crate::walk::{depth, elements, members, place_of};
use crate::{DEEPEST, Kind, Malformed, normal};

/// An array of values.
///
/// # Errors
/// When it is nested too deep.
pub fn array_of<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<String, Malformed> {
    checked(listed(values))
}

/// A value that is not nested too deep.
pub(crate) fn checked(value: String) -> Result<String, Malformed> {
    // A level has two bytes at least.
    if value.len() > 2 * DEEPEST && depth(&value) > DEEPEST { Err(too_deep()) } else { Ok(value) }
}

fn listed<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::from("[");
    for value in values {
        if out.len() > 1 {
            out.push_str(", ");
        }
        out.push_str(value);
    }
    out.push(']');
    out
}

/// An object of keys in quotes and their values, in any order; of several with one key, the last.
///
/// # Errors
/// When it is nested too deep.
pub fn object_of<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<String, Malformed> {
    normal(&written(members))
}

/// An object of members that are in order.
fn written<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("{");
    for (key, value) in members {
        if out.len() > 1 {
            out.push_str(", ");
        }
        out.push_str(key);
        out.push_str(": ");
        out.push_str(value);
    }
    out.push('}');
    out
}

/// `left || right`: two objects become one, and anything else an array.
///
/// # Errors
/// When it is nested too deep.
pub fn joined(left: &str, right: &str) -> Result<String, Malformed> {
    if Kind::of(left) == Kind::Object && Kind::of(right) == Kind::Object {
        return object_of(members(left).chain(members(right)));
    }
    let parts = [left, right].into_iter().flat_map(|side| {
        let alone = (Kind::of(side) != Kind::Array).then_some(side);
        alone.into_iter().chain(elements(side))
    });
    array_of(parts)
}

/// A value without an object's members of these keys in quotes, or an array's elements that are
/// these strings.
///
/// # Errors
/// Why it has no such parts.
pub fn without_keys<S: AsRef<str>>(value: &str, quoted: &[S]) -> Result<String, &'static str> {
    let is_named = |part: &str| quoted.iter().any(|key| key.as_ref() == part);
    match Kind::of(value) {
        Kind::Object => Ok(written(members(value).filter(|(key, _)| !is_named(key)))),
        Kind::Array => Ok(listed(elements(value).filter(|element| !is_named(element)))),
        _ => Err("cannot delete from scalar"),
    }
}

/// An array without an element, counted from 0, or from -1 backwards.
///
/// # Errors
/// Why it has no elements.
pub fn without_item(value: &str, index: i64) -> Result<String, &'static str> {
    match Kind::of(value) {
        Kind::Array => {
            let gone = place_of(value, index);
            let kept = elements(value).enumerate().filter(|(place, _)| Some(*place) != gone);
            Ok(listed(kept.map(|(_, element)| element)))
        }
        Kind::Object => Err("cannot delete from object using integer index"),
        _ => Err("cannot delete from scalar"),
    }
}
