//! Changing what a path leads to, and values in other forms: without nulls, and over several lines.

use crate::change::checked;
use crate::walk::{elements, members, quoted};
use crate::{Kind, Malformed, normal};

/// What is done where a path ends.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// What is there becomes a value; what is not there becomes one if `create` says so.
    Set {
        /// The value.
        value: &'a str,
        /// Whether it is made.
        create: bool,
    },
    /// A value comes before an array's element, or after it; an object gets a new member.
    Insert {
        /// The value.
        value: &'a str,
        /// Whether it comes after the element.
        after: bool,
    },
    /// What is there goes.
    Delete,
}

impl<'a> Change<'a> {
    /// The value for what is not there.
    const fn created(self) -> Option<&'a str> {
        match self {
            Self::Set { value, create: true } | Self::Insert { value, .. } => Some(value),
            Self::Set { create: false, .. } | Self::Delete => None,
        }
    }
}

/// Why a value cannot be changed so, in PostgreSQL's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchangeable {
    /// The class of the error.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: String,
}

impl From<Malformed> for Unchangeable {
    fn from(bad: Malformed) -> Self {
        let Malformed { sqlstate, message, detail } = bad;
        let message = detail.map_or_else(|| message.to_owned(), |detail| format!("{message}: {detail}"));
        Self { sqlstate, message }
    }
}

fn refused(sqlstate: &'static str, message: impl Into<String>) -> Unchangeable {
    Unchangeable { sqlstate, message: message.into() }
}

/// A value with a change where a path of keys and numbers of elements leads.
///
/// # Errors
/// For a value without parts, a step that is null, one that is no number where there is an array, an
/// inserted key that is there, and what is nested too deep.
pub fn changed(value: &str, path: &[Option<&str>], change: Change<'_>) -> Result<String, Unchangeable> {
    if !Kind::of(value).has_parts() {
        let verb = if matches!(change, Change::Delete) { "delete" } else { "set" };
        return Err(refused("22023", format!("cannot {verb} path in scalar")));
    }
    let is_empty = matches!(value, "{}" | "[]");
    if path.is_empty() || is_empty && change.created().is_none() {
        return Ok(value.to_owned());
    }
    let mut out = String::with_capacity(value.len() + 16);
    Walk { path, change }.part(value, 0, &mut out)?;
    Ok(checked(out)?)
}

struct Walk<'a> {
    path: &'a [Option<&'a str>],
    change: Change<'a>,
}

impl Walk<'_> {
    /// Writes the part that so many steps have led to.
    fn part(&self, value: &str, level: usize, out: &mut String) -> Result<(), Unchangeable> {
        let Some(step) = self.path[level] else {
            return Err(refused("22004", format!("path element at position {} is null", level + 1)));
        };
        match Kind::of(value) {
            Kind::Object => self.object(value, step, level, out),
            Kind::Array => self.array(value, step, level, out),
            _ => {
                out.push_str(value);
                Ok(())
            }
        }
    }

    fn is_last(&self, level: usize) -> bool {
        level + 1 == self.path.len()
    }

    fn object(&self, value: &str, step: &str, level: usize, out: &mut String) -> Result<(), Unchangeable> {
        let (wanted, start, mut found) = (quoted(step), out.len(), false);
        out.push('{');
        for (key, member) in members(value) {
            let is_it = key == wanted;
            found |= is_it;
            let new = match self.change {
                _ if !is_it || !self.is_last(level) => member,
                Change::Set { value, .. } => value,
                Change::Insert { .. } => return Err(refused("22023", "cannot replace existing key")),
                Change::Delete => continue,
            };
            comma(start, out);
            out.push_str(key);
            out.push_str(": ");
            if is_it && !self.is_last(level) {
                self.part(member, level + 1, out)?;
            } else {
                out.push_str(new);
            }
        }
        let created = self.change.created().filter(|_| self.is_last(level) && !found);
        if let Some(new) = created {
            comma(start, out);
            out.push_str(&wanted);
            out.push_str(": ");
            out.push_str(new);
        }
        out.push('}');
        if created.is_some() {
            // The new key has its place among the others.
            let ordered = normal(&out[start..])?;
            out.truncate(start);
            out.push_str(&ordered);
        }
        Ok(())
    }

    fn array(&self, value: &str, step: &str, level: usize, out: &mut String) -> Result<(), Unchangeable> {
        let Some(index) = number(step) else {
            let message = format!("path element at position {} is not an integer: \"{step}\"", level + 1);
            return Err(refused("22P02", message));
        };
        let count = elements(value).count();
        // None is before the first one.
        let place = match usize::try_from(index) {
            Ok(place) => Some(place.min(count)),
            Err(_) => count.checked_sub(index.unsigned_abs() as usize),
        };
        let mut missing = self.change.created().filter(|_| self.is_last(level));
        let start = out.len();
        out.push('[');
        if place.is_none()
            && let Some(new) = missing.take()
        {
            push(new, start, out);
        }
        for (at, element) in elements(value).enumerate() {
            if Some(at) != place {
                push(element, start, out);
                continue;
            }
            missing = None;
            if !self.is_last(level) {
                comma(start, out);
                self.part(element, level + 1, out)?;
                continue;
            }
            match self.change {
                Change::Set { value, .. } => push(value, start, out),
                Change::Insert { value, after } => {
                    let (first, second) = if after { (element, value) } else { (value, element) };
                    push(first, start, out);
                    push(second, start, out);
                }
                Change::Delete => {}
            }
        }
        if let Some(new) = missing {
            push(new, start, out);
        }
        out.push(']');
        Ok(())
    }
}

/// The comma before what is not the first part of what begins at `start`.
fn comma(start: usize, out: &mut String) {
    if out.len() > start + 1 {
        out.push_str(", ");
    }
}

fn push(part: &str, start: usize, out: &mut String) {
    comma(start, out);
    out.push_str(part);
}

/// The number of an element, as C's `strtol` reads it.
fn number(step: &str) -> Option<i32> {
    step.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']).parse().ok()
}

/// A value without the members of its objects that are null, at any depth.
#[must_use]
pub fn without_nulls(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    write_without_nulls(value, &mut out);
    out
}

fn write_without_nulls(value: &str, out: &mut String) {
    let start = out.len();
    match Kind::of(value) {
        Kind::Object => {
            out.push('{');
            for (key, member) in members(value).filter(|(_, member)| Kind::of(member) != Kind::Null) {
                push(key, start, out);
                out.push_str(": ");
                write_without_nulls(member, out);
            }
            out.push('}');
        }
        Kind::Array => {
            out.push('[');
            for element in elements(value) {
                comma(start, out);
                write_without_nulls(element, out);
            }
            out.push(']');
        }
        _ => out.push_str(value),
    }
}

/// A value over several lines, each part on one of its own; none when it has more than so many bytes
/// then, as each line of what is nested deep begins with many blanks.
#[must_use]
pub fn pretty(value: &str, most: usize) -> Option<String> {
    let mut out = String::with_capacity(most.min(value.len() * 2));
    let is_whole = write_pretty(value, 0, most, &mut out);
    (is_whole && out.len() <= most).then_some(out)
}

/// False when it stopped, as there was too much.
fn write_pretty(value: &str, depth: usize, most: usize, out: &mut String) -> bool {
    if out.len() > most {
        return false;
    }
    match Kind::of(value) {
        Kind::Object => {
            out.push('{');
            for (at, (key, member)) in members(value).enumerate() {
                line(at > 0, depth + 1, out);
                out.push_str(key);
                out.push_str(": ");
                if !write_pretty(member, depth + 1, most, out) {
                    return false;
                }
            }
            line(false, depth, out);
            out.push('}');
        }
        Kind::Array => {
            out.push('[');
            for (at, element) in elements(value).enumerate() {
                line(at > 0, depth + 1, out);
                if !write_pretty(element, depth + 1, most, out) {
                    return false;
                }
            }
            line(false, depth, out);
            out.push(']');
        }
        _ => out.push_str(value),
    }
    true
}

/// A new line, four blanks a level in.
fn line(after_another: bool, depth: usize, out: &mut String) {
    if after_another {
        out.push(',');
    }
    out.push('\n');
    (0..depth).for_each(|_| out.push_str("    "));
}
