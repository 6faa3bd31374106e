//! Items that stand for changes: a key and its row, or a change as Debezium writes it, one a line.
//!
//! Takes off what is around a row and hands the row's own bytes on, so that a stretch of items is decoded
//! like one of rows; then says which of them are deletes. Invariant: an item without a key, or a row
//! without a value that must be there, is bad.

use super::records::Framing;
use crate::conform::NO_ZERO_BYTES;
use crate::shape::{DELETED, Envelope};
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The column of the key's text, between those of the row and [`DELETED`].
const KEY: &str = "__key";

/// How items are understood.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    envelope: Envelope,
    /// The row's columns; any of them may be missing where its key is deleted.
    pub(super) rows: SchemaRef,
    /// The places of the key's columns among them.
    keys: Vec<usize>,
    /// The places of those that are not null unless the row is deleted.
    not_null: Vec<usize>,
    /// Whether the key's text is wanted, and then whether it is a part of the primary key.
    text: Option<bool>,
    /// What comes out: the rows, the key's text if it is wanted, and [`DELETED`].
    given: SchemaRef,
}

/// A key and its row; the row is null where the key is deleted.
#[derive(Deserialize)]
struct Upserted<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// A change as Debezium writes it, or what is around one when schemas are on.
#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
}

/// A stretch of items without what was around them.
#[derive(Default)]
pub(super) struct Opened {
    /// The rows as lines.
    pub(super) rows: Vec<u8>,
    keys: Vec<Option<String>>,
    deleted: Vec<bool>,
}

impl Changes {
    /// `declared` are the row's columns, `key` the names of the primary key, `text` the name of the column
    /// with the key's text.
    pub(super) fn new(envelope: Envelope, declared: &SchemaRef, key: &[String], text: Option<&str>) -> Self {
        let fields = declared.fields().iter();
        let rows: Vec<Field> = fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let places = 0..rows.len();
        let is_key = |place: &usize| key.contains(rows[*place].name());
        let not_null = |place: &usize| !declared.field(*place).is_nullable() && !is_key(place);
        let (keys, not_null) = (places.clone().filter(is_key).collect(), places.filter(not_null).collect());
        let mut given = rows.clone();
        if text.is_some() {
            given.push(Field::new(KEY, DataType::Utf8, true));
        }
        given.push(Field::new(DELETED, DataType::Boolean, true));
        Self {
            envelope,
            rows: Arc::new(Schema::new(rows)),
            keys,
            not_null,
            text: text.map(|text| key.iter().any(|name| name == text)),
            given: Arc::new(Schema::new(given)),
        }
    }

    /// How items are divided.
    pub(super) fn framing(&self) -> Framing {
        match self.envelope {
            Envelope::Debezium => Framing::Changes,
            Envelope::Upsert | Envelope::Plain => Framing::Lines,
        }
    }

    /// Takes a row out of what is around it.
    ///
    /// # Errors
    /// What is wrong with the item.
    pub(super) fn open(&self, item: &[u8], into: &mut Opened) -> Result<(), String> {
        let (row, key, is_deleted) = match self.envelope {
            Envelope::Debezium => {
                let (row, is_deleted) = changed(item)?;
                (row.get(), None, is_deleted)
            }
            Envelope::Upsert | Envelope::Plain => self.upserted(item)?,
        };
        into.rows.extend_from_slice(row.as_bytes());
        into.rows.push(b'\n');
        into.keys.push(key);
        into.deleted.push(is_deleted);
        Ok(())
    }

    fn upserted<'a>(&self, item: &'a [u8]) -> Result<(&'a str, Option<String>, bool), String> {
        let Upserted { key, value } = serde_json::from_slice(item).map_err(|error| error.to_string())?;
        let text = if self.text.is_some() { text_of(key)? } else { None };
        Ok(match (value.get(), self.keys.is_empty()) {
            ("null", true) => ("{}", text, true),
            ("null", false) => (key.get(), text, true),
            (row, _) => (row, text, false),
        })
    }

    /// The rows with the keys' texts, where these are wanted, and what is deleted.
    ///
    /// # Errors
    /// That a value is missing.
    pub(super) fn finish(&self, rows: &RecordBatch, opened: Opened) -> Result<RecordBatch, String> {
        let deleted = BooleanArray::from(opened.deleted);
        for place in &self.keys {
            if rows.column(*place).null_count() > 0 {
                return Err(format!("column {:?} of the primary key is null", rows.schema_ref().field(*place).name()));
            }
        }
        for place in &self.not_null {
            let column = rows.column(*place);
            let is_missing = |row: usize| column.is_null(row) && !deleted.value(row);
            if column.null_count() > 0 && (0..column.len()).any(is_missing) {
                return Err(format!("column {:?} is null", rows.schema_ref().field(*place).name()));
            }
        }
        let mut columns = rows.columns().to_vec();
        if let Some(is_primary) = self.text {
            if is_primary && opened.keys.iter().any(Option::is_none) {
                return Err("the key, which is the primary key, is null".to_owned());
            }
            columns.push(Arc::new(StringArray::from(opened.keys)) as ArrayRef);
        }
        columns.push(Arc::new(deleted));
        RecordBatch::try_new(Arc::clone(&self.given), columns).map_err(|error| error.to_string())
    }
}

/// A key as text: a string as it is, anything else as it is written.
fn text_of(key: &RawValue) -> Result<Option<String>, String> {
    let text: String = match key.get() {
        "null" => return Ok(None),
        text if text.starts_with('"') => serde_json::from_str(text).map_err(|error| error.to_string())?,
        other => other.to_owned(),
    };
    if text.contains('\0') { Err(NO_ZERO_BYTES.to_owned()) } else { Ok(Some(text)) }
}

/// The row that a change is about, and whether it is deleted.
fn changed(item: &[u8]) -> Result<(&RawValue, bool), String> {
    let mut change: Change<'_> = serde_json::from_slice(item).map_err(|error| error.to_string())?;
    if let (Some(payload), None) = (change.payload, change.op) {
        change = serde_json::from_str(payload.get()).map_err(|error| error.to_string())?;
    }
    let Some(op) = change.op else { return Err("a change has the member \"op\"".to_owned()) };
    match op.get() {
        "\"c\"" | "\"r\"" | "\"u\"" => {
            let row = change.after.ok_or_else(|| format!("a change with op {op} has the member \"after\""))?;
            Ok((row, false))
        }
        "\"d\"" => {
            let row = change.before.ok_or("a change with op \"d\" has the member \"before\"")?;
            Ok((row, true))
        }
        other => Err(format!("op {other} is none of \"c\", \"r\", \"u\" and \"d\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed_text(item: &str) -> Result<(String, bool), String> {
        changed(item.as_bytes()).map(|(row, is_deleted)| (row.get().to_owned(), is_deleted))
    }

    #[test]
    fn changes_come_with_and_without_their_schema() {
        let insert = r#"{"before":null,"after":{"a":1},"op":"c","ts_ms":7,"source":{"op":"x"}}"#;
        let update = r#"{"op":"u","before":{"a":1},"after":{"a":2}}"#;
        let delete = r#"{"op":"d","before":{"a":2},"after":null}"#;
        let rows = [(insert, r#"{"a":1}"#, false), (update, r#"{"a":2}"#, false), (delete, r#"{"a":2}"#, true)];
        for (item, row, is_deleted) in rows {
            let wrapped = format!("{{\"schema\":{{\"type\":\"struct\"}},\"payload\":{item}}}\r\n");
            for item in [item, &wrapped] {
                assert_eq!(changed_text(item), Ok((row.to_owned(), is_deleted)), "{item}");
            }
        }
    }

    #[test]
    fn what_is_no_change_is_bad() {
        let bad = [
            r#"{"a":1}"#,
            r#"{"op":"c","after":null}"#,
            r#"{"op":"d","after":{"a":1}}"#,
            r#"{"op":"t"}"#,
            r#"{"payload":null}"#,
            r#"{"op":"c","after":{"a":1}} x"#,
            r#"{"op":"c","after":{"a":1},"after":{"a":2}}"#,
            "null",
            "",
        ];
        for item in bad {
            assert!(changed_text(item).is_err(), "{item}");
        }
    }

    #[test]
    fn keys_are_texts() {
        let cases = [("\"a\\n\"", Some("a\n")), ("7", Some("7")), ("{\"id\":1}", Some("{\"id\":1}")), ("null", None)];
        for (key, expected) in cases {
            let raw: &RawValue = serde_json::from_str(key).expect("JSON");
            assert_eq!(text_of(raw).expect("a text").as_deref(), expected);
        }
        let zero: &RawValue = serde_json::from_str("\"a\\u0000\"").expect("JSON");
        assert_eq!(text_of(zero), Err(NO_ZERO_BYTES.to_owned()));
    }
}
