//! `char(n)` and `varchar(n)`: texts of at most n characters.
//!
//! Of a `char(n)` the blanks at the end are no part. Such texts are stored without them, as PostgreSQL compares them
//! and takes their length without them; those that fill up n characters are not there for what would see them.
//! A `varchar(n)` keeps its blanks, but for those beyond n characters, which PostgreSQL leaves out as well.

use crate::connection::invalid;
use crate::error::Result;
use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use highwater_sql::statement::{Characters, TableColumn};
use std::sync::Arc;

/// A table's rows with their texts as such columns hold them.
pub(crate) fn cut(columns: &[TableColumn], rows: RecordBatch) -> Result<RecordBatch> {
    if columns.iter().all(|column| column.characters.is_none()) {
        return Ok(rows);
    }
    let mut arrays = rows.columns().to_vec();
    for (column, array) in columns.iter().zip(&mut arrays) {
        *array = cut_texts(array, column.characters)?;
    }
    Ok(RecordBatch::try_new(rows.schema(), arrays)?)
}

/// The values of a column as one of at most so many characters holds them.
pub(crate) fn cut_texts(array: &ArrayRef, most: Option<Characters>) -> Result<ArrayRef> {
    let (Some(most), Some(texts)) = (most, array.as_string_opt::<i32>()) else { return Ok(Arc::clone(array)) };
    let cut: StringArray = match most {
        Characters::Fixed(_) => texts.iter().map(|text| text.map(|text| text.trim_end_matches(' '))).collect(),
        Characters::Varying(most) if texts.iter().flatten().all(|text| fits(text, most)) => {
            return Ok(Arc::clone(array));
        }
        Characters::Varying(most) => texts.iter().map(|text| text.map(|text| without_blanks(text, most))).collect(),
    };
    let characters = number(most);
    if cut.iter().flatten().all(|text| fits(text, characters)) {
        return Ok(Arc::new(cut));
    }
    let name = match most {
        Characters::Fixed(_) => "character",
        Characters::Varying(_) => "character varying",
    };
    Err(invalid("22001", format!("value too long for type {name}({characters})"), None))
}

/// How many characters there may be.
pub(crate) const fn number(most: Characters) -> usize {
    match most {
        Characters::Fixed(number) | Characters::Varying(number) => number,
    }
}

/// Whether a text has at most so many characters. Most texts have fewer bytes.
fn fits(text: &str, most: usize) -> bool {
    text.len() <= most || text.chars().count() <= most
}

/// A text without the blanks that stand beyond so many characters; the whole text where there is more than blanks.
fn without_blanks(text: &str, most: usize) -> &str {
    match text.char_indices().nth(most) {
        Some((end, _)) if text[end..].bytes().all(|byte| byte == b' ') => &text[..end],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(given: Vec<Option<&str>>, most: Characters) -> Result<StringArray> {
        let array: ArrayRef = Arc::new(StringArray::from(given));
        Ok(cut_texts(&array, Some(most))?.as_string::<i32>().clone())
    }

    #[test]
    fn blanks_at_the_end_do_not_count() {
        let given = vec![Some("ab  "), None, Some("äöü"), Some(" x"), Some("   ")];
        let found = cut(given.clone(), Characters::Fixed(3)).expect("they fit");
        let expected = StringArray::from(vec![Some("ab"), None, Some("äöü"), Some(" x"), Some("")]);
        assert_eq!(found, expected);
        let error = cut(given, Characters::Fixed(2)).expect_err("three letters");
        assert_eq!((error.sqlstate(), error.to_string().contains("type character(2)")), ("22001", true), "{error}");
    }

    #[test]
    fn only_blanks_beyond_the_limit_are_left_out() {
        let given = vec![Some("ab  "), None, Some("äöü "), Some(" x"), Some("     "), Some("")];
        let found = cut(given.clone(), Characters::Varying(3)).expect("they fit");
        let expected = StringArray::from(vec![Some("ab "), None, Some("äöü"), Some(" x"), Some("   "), Some("")]);
        assert_eq!(found, expected);
        let error = cut(given, Characters::Varying(2)).expect_err("three letters");
        assert_eq!((error.sqlstate(), error.to_string().contains("character varying(2)")), ("22001", true), "{error}");
        assert!(cut(vec![Some("a b")], Characters::Varying(2)).is_err(), "a letter stands behind the blank");
    }
}
