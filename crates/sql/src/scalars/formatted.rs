//! `format(text, ...)`: a text with values in the places that it tells, as PostgreSQL's has it: `%s`, `%I`, `%L`
//! with positions, widths and the flag `-`.

use super::quoted::{identifier, literal};
use super::{Scalar, may_be_text, refused};
use crate::bounded;
use crate::printed;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use std::borrow::Cow;
use std::sync::Arc;

const NAME: &str = "format";

pub(super) static ALL: [Scalar; 1] =
    [Scalar { name: NAME, takes: taken, gives: |_| DataType::Utf8, is_strict: false, compute: format }];

/// A text, and values of any types.
fn taken(given: &[DataType]) -> Option<Vec<DataType>> {
    let (first, values) = given.split_first()?;
    if !may_be_text(first) {
        return None;
    }
    let plain = |of: &DataType| if may_be_text(of) { DataType::Utf8 } else { of.clone() };
    Some(std::iter::once(DataType::Utf8).chain(values.iter().map(plain)).collect())
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Text,
    Name,
    Literal,
}

/// How many characters a value has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Of(usize),
    /// What an argument says.
    Told(usize),
}

/// A part of a format. Arguments are counted from 1, behind the format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Value { argument: usize, style: Style, width: Width, is_left: bool },
}

fn unterminated() -> DataFusionError {
    refused("22023", "unterminated format() type specifier")
}

/// What stands behind a percent sign, as it is read.
struct Specifier<'a> {
    rest: &'a str,
}

impl Specifier<'_> {
    fn next(&self) -> Result<char> {
        self.rest.chars().next().ok_or_else(unterminated)
    }

    fn takes(&mut self, wanted: char) -> Result<bool> {
        let is_there = self.next()? == wanted;
        if is_there {
            self.rest = &self.rest[1..];
        }
        Ok(is_there)
    }

    fn number(&mut self) -> Result<Option<usize>> {
        let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        if digits == 0 {
            return Ok(None);
        }
        let number = self.rest[..digits].parse::<i32>().ok().and_then(|number| usize::try_from(number).ok());
        self.rest = &self.rest[digits..];
        number.map(Some).ok_or_else(|| refused("22003", "number is out of range"))
    }
}

fn counted(argument: usize) -> Result<usize> {
    if argument > 0 {
        return Ok(argument);
    }
    Err(refused("22023", "format specifies argument 0, but arguments are numbered from 1"))
}

/// A format taken apart.
fn parts(format: &str) -> Result<Vec<Part<'_>>> {
    let (mut parts, mut rest, mut next) = (Vec::new(), format, 1);
    while let Some(at) = rest.find('%') {
        parts.push(Part::Text(&rest[..at]));
        let after = &rest[at + 1..];
        if let Some(behind) = after.strip_prefix('%') {
            parts.push(Part::Text("%"));
            rest = behind;
            continue;
        }
        let mut specifier = Specifier { rest: after };
        parts.push(value(&mut specifier, &mut next)?);
        rest = &after[after.len() - specifier.rest.len()..];
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// A value's place; `next` is the argument that is taken when none is named.
fn value(specifier: &mut Specifier<'_>, next: &mut usize) -> Result<Part<'static>> {
    let (mut argument, mut width, mut is_left) = (None, Width::Of(0), false);
    let mut is_done = false;
    if let Some(number) = specifier.number()? {
        if specifier.takes('$')? {
            argument = Some(counted(number)?);
        } else {
            (width, is_done) = (Width::Of(number), true);
        }
    }
    if !is_done {
        while specifier.takes('-')? {
            is_left = true;
        }
        if specifier.takes('*')? {
            if let Some(number) = specifier.number()? {
                if !specifier.takes('$')? {
                    return Err(refused("22023", "width argument position must be ended by \"$\""));
                }
                *next = counted(number)?;
            }
            width = Width::Told(*next);
            *next += 1;
        } else if let Some(number) = specifier.number()? {
            width = Width::Of(number);
        }
    }
    let style = match specifier.next()? {
        's' => Style::Text,
        'I' => Style::Name,
        'L' => Style::Literal,
        other => return Err(refused("22023", format!("unrecognized format() type specifier \"{other}\""))),
    };
    specifier.rest = &specifier.rest[1..];
    let argument = argument.unwrap_or(*next);
    *next = argument + 1;
    Ok(Part::Value { argument, style, width, is_left })
}

fn format(args: &[ArrayRef]) -> Result<ArrayRef> {
    let texts = args.iter().map(|arg| printed::texts(arg, None)).collect::<Result<Vec<_>>>()?;
    let texts: Vec<&StringArray> = texts.iter().map(|texts| texts.as_string::<i32>()).collect();
    let Some((formats, values)) = texts.split_first() else {
        return Err(refused("42883", "function format() does not exist"));
    };
    let mut last: Option<(&str, Vec<Part<'_>>)> = None;
    let (mut made, mut text, mut bytes) = (StringBuilder::new(), String::new(), 0);
    for row in 0..formats.len() {
        if formats.is_null(row) {
            made.append_null();
            continue;
        }
        let format = formats.value(row);
        let kept = match last.take().filter(|(known, _)| *known == format) {
            Some(kept) => kept,
            None => (format, parts(format)?),
        };
        text.clear();
        for part in &last.insert(kept).1 {
            write(part, &Row { values, row }, bytes, &mut text)?;
        }
        bytes += text.len() as i64;
        bounded::check(NAME, bytes)?;
        made.append_value(&text);
    }
    Ok(Arc::new(made.finish()))
}

/// The values of one row.
struct Row<'a> {
    values: &'a [&'a StringArray],
    row: usize,
}

impl<'a> Row<'a> {
    /// The value of an argument, unless it is null.
    fn argument(&self, at: usize) -> Result<Option<&'a str>> {
        let values = self.values.get(at - 1).ok_or_else(|| refused("22023", "too few arguments for format()"))?;
        Ok(values.is_valid(self.row).then(|| values.value(self.row)))
    }
}

/// Writes a part behind `before` bytes of other rows.
fn write(part: &Part<'_>, row: &Row<'_>, before: i64, text: &mut String) -> Result<()> {
    let (argument, style, width, is_left) = match part {
        Part::Text(plain) => {
            text.push_str(plain);
            return Ok(());
        }
        Part::Value { argument, style, width, is_left } => (*argument, *style, *width, *is_left),
    };
    let (width, is_left) = match width {
        Width::Of(width) => (width, is_left),
        Width::Told(at) => {
            let told = row.argument(at)?.map_or(Ok(0), |told| {
                let invalid = || refused("22P02", format!("invalid input syntax for type integer: \"{told}\""));
                told.parse::<i32>().map_err(|_| invalid())
            })?;
            (told.unsigned_abs() as usize, is_left || told < 0)
        }
    };
    let value: Cow<'_, str> = match (row.argument(argument)?, style) {
        (Some(value), Style::Text) => value.into(),
        (Some(value), Style::Name) => identifier(value),
        (Some(value), Style::Literal) => literal(value).into(),
        (None, Style::Text) => "".into(),
        (None, Style::Literal) => "NULL".into(),
        (None, Style::Name) => return Err(refused("22004", "null values cannot be formatted as an SQL identifier")),
    };
    let missing = width.saturating_sub(value.chars().count());
    bounded::check(NAME, before + (text.len() + value.len() + missing) as i64)?;
    let blanks = std::iter::repeat_n(' ', missing);
    if is_left {
        text.push_str(&value);
        text.extend(blanks);
    } else {
        text.extend(blanks);
        text.push_str(&value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(texts: &[Option<&str>]) -> Result<String> {
        let args: Vec<ArrayRef> =
            texts.iter().map(|text| Arc::new(StringArray::from(vec![*text])) as ArrayRef).collect();
        format(&args).map(|made| made.as_string::<i32>().value(0).to_owned())
    }

    #[test]
    fn values_stand_where_the_format_tells() {
        for (args, text) in [
            (&["Hello %s, %1$s", "World"][..], "Hello World, World"),
            (&["%I.%L %%", "a b", "it's"], "\"a b\".'it''s' %"),
            (&["|%10s|%-10s|", "foo", "bar"], "|       foo|bar       |"),
            (&["|%-*s|", "5", "a"], "|a    |"),
            (&["|%*s|", "-5", "a"], "|a    |"),
            (&["|%2$*1$s|", "5", "a"], "|    a|"),
            (&["%3$s %s %1$s", "a", "b", "c", "d"], "c d a"),
            (&["äö%s", "ü"], "äöü"),
            (&["plain"], "plain"),
        ] {
            let args: Vec<Option<&str>> = args.iter().copied().map(Some).collect();
            assert_eq!(formatted(&args).expect(text), text);
        }
        assert_eq!(formatted(&[Some("[%s|%3s|%L]"), None, None, None]).expect("a text"), "[|   |NULL]");
    }

    #[test]
    fn formats_that_cannot_be_followed_fail() {
        for args in [
            &["%"][..],
            &["%s"],
            &["%0$s", "a"],
            &["%x", "a"],
            &["%1", "a"],
            &["%*1s", "1", "a"],
            &["%*s", "x", "a"],
            &["%2000000000s", "a"],
        ] {
            let args: Vec<Option<&str>> = args.iter().copied().map(Some).collect();
            assert!(formatted(&args).is_err(), "{args:?}");
        }
        assert!(formatted(&[Some("%I"), None]).is_err());
    }
}
