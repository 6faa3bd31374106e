//! PostgreSQL's text form of arrays, `{1,NULL,"a b"}`, taken apart; [`crate::spelling`] writes it.
//!
//! It finds the elements as texts and leaves to its callers what they mean. An array has one
//! dimension whose first element has the number 1: anything else is refused.

use arrow::array::{Array, ArrayBuilder, StringArray, StringBuilder};
use arrow::buffer::OffsetBuffer;

/// Why a text is no array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// PostgreSQL's DETAIL.
    Syntax(&'static str),
    /// It has several dimensions, or tells the numbers of its elements.
    Dimensions,
}

impl Malformed {
    /// The SQLSTATE, PostgreSQL's message, and its DETAIL.
    #[must_use]
    pub fn words(self, text: &str) -> (&'static str, String, Option<String>) {
        match self {
            Self::Syntax(detail) => ("22P02", format!("malformed array literal: \"{text}\""), Some(detail.to_owned())),
            Self::Dimensions => {
                let hint = "an array has one dimension, which begins at 1";
                ("0A000", format!("cannot read \"{text}\" as an array: {hint}"), None)
            }
        }
    }
}

/// The elements of arrays, one after another, and where each array's begin and end. A null has none.
///
/// # Errors
/// The first text that is no array, by its place.
pub fn elements(arrays: &StringArray) -> Result<(OffsetBuffer<i32>, StringArray), (usize, Malformed)> {
    let mut elements = StringBuilder::new();
    let mut lengths = Vec::with_capacity(arrays.len());
    for (row, text) in arrays.iter().enumerate() {
        let before = elements.len();
        if let Some(text) = text {
            read(text, &mut elements).map_err(|malformed| (row, malformed))?;
        }
        lengths.push(elements.len() - before);
    }
    Ok((OffsetBuffer::from_lengths(lengths), elements.finish()))
}

const CUT_OFF: Malformed = Malformed::Syntax("Unexpected end of input.");
const NO_BRACE: Malformed = Malformed::Syntax("Array value must start with \"{\" or dimension information.");
const JUNK: Malformed = Malformed::Syntax("Junk after closing right brace.");
const NO_ELEMENT: Malformed = Malformed::Syntax("Unexpected \",\" character.");
const NO_ELEMENT_AT_END: Malformed = Malformed::Syntax("Unexpected \"}\" character.");
const NO_COMMA: Malformed = Malformed::Syntax("Unexpected array element.");

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn read(text: &str, elements: &mut StringBuilder) -> Result<(), Malformed> {
    let text = text.trim_matches(is_space);
    if text.starts_with('[') {
        return Err(Malformed::Dimensions);
    }
    let mut rest = text.strip_prefix('{').ok_or(NO_BRACE)?.trim_start_matches(is_space);
    if let Some(after) = rest.strip_prefix('}') {
        return if after.is_empty() { Ok(()) } else { Err(JUNK) };
    }
    loop {
        rest = element(rest, elements)?.trim_start_matches(is_space);
        match rest.chars().next() {
            Some(',') => rest = rest[1..].trim_start_matches(is_space),
            Some('}') if rest.len() == 1 => return Ok(()),
            Some('}') => return Err(JUNK),
            Some(_) => return Err(NO_COMMA),
            None => return Err(CUT_OFF),
        }
    }
}

/// Reads one element; what stands after it.
fn element<'a>(text: &'a str, elements: &mut StringBuilder) -> Result<&'a str, Malformed> {
    match text.chars().next() {
        None => Err(CUT_OFF),
        Some('{') => Err(Malformed::Dimensions),
        Some(',') => Err(NO_ELEMENT),
        Some('}') => Err(NO_ELEMENT_AT_END),
        Some('"') => quoted(&text[1..], elements),
        Some(_) => plain(text, elements),
    }
}

/// An element up to its closing quote.
fn quoted<'a>(text: &'a str, elements: &mut StringBuilder) -> Result<&'a str, Malformed> {
    let mut element = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => {
                elements.append_value(element);
                return Ok(&text[at + 1..]);
            }
            '\\' => element.push(characters.next().ok_or(CUT_OFF)?.1),
            c => element.push(c),
        }
    }
    Err(CUT_OFF)
}

/// An element without quotes: spaces at its end are none of it, but those after a backslash.
fn plain<'a>(text: &'a str, elements: &mut StringBuilder) -> Result<&'a str, Malformed> {
    let mut element = String::new();
    // How much of the element stays when spaces at its end are cut off.
    let mut kept = 0;
    let mut is_escaped = false;
    let mut characters = text.char_indices();
    let end = loop {
        match characters.next() {
            Some((at, ',' | '}')) => break at,
            Some((_, '{')) => return Err(Malformed::Syntax("Unexpected \"{\" character.")),
            Some((_, '"')) => return Err(NO_COMMA),
            Some((_, '\\')) => {
                element.push(characters.next().ok_or(CUT_OFF)?.1);
                is_escaped = true;
                kept = element.len();
            }
            Some((_, c)) => {
                element.push(c);
                if !is_space(c) {
                    kept = element.len();
                }
            }
            None => return Err(CUT_OFF),
        }
    };
    element.truncate(kept);
    if !is_escaped && element.eq_ignore_ascii_case("null") {
        elements.append_null();
    } else {
        elements.append_value(element);
    }
    Ok(&text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> Result<Vec<Option<String>>, Malformed> {
        let (offsets, found) = elements(&StringArray::from(vec![text])).map_err(|(_, malformed)| malformed)?;
        assert_eq!(offsets.last().copied(), Some(found.len() as i32));
        Ok(found.iter().map(|element| element.map(str::to_owned)).collect())
    }

    #[test]
    fn arrays_are_read_as_postgresql_reads_them() {
        let cases: [(&str, &[Option<&str>]); 8] = [
            ("{}", &[]),
            (" { } ", &[]),
            ("{1,2,3}", &[Some("1"), Some("2"), Some("3")]),
            ("{ a b , NULL,null }", &[Some("a b"), None, None]),
            (r#"{"a b","NULL",""}"#, &[Some("a b"), Some("NULL"), Some("")]),
            (r#"{"q\"\\",x\,y}"#, &[Some("q\"\\"), Some("x,y")]),
            (r"{nul\l,a\ }", &[Some("null"), Some("a ")]),
            ("{ü, é }", &[Some("ü"), Some("é")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|element| element.map(str::to_owned)).collect();
            assert_eq!(read_one(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for text in ["", "1,2", "{1", "{1,", "{,}", "{1,}", "{1}2", "{1}{", r#"{"a}"#, r#"{"a"b}"#, r#"{a"b"}"#, r"{a\"]
        {
            assert!(matches!(read_one(text), Err(Malformed::Syntax(_))), "{text}");
        }
        for text in ["{{1},{2}}", "[2:3]={1,2}"] {
            assert_eq!(read_one(text), Err(Malformed::Dimensions), "{text}");
        }
        assert_eq!(elements(&StringArray::from(vec![Some("{1}"), None, Some("1")])), Err((2, NO_BRACE)));
    }
}
