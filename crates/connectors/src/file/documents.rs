//! Columns of jsonb, in normal form: from members of JSON records, and from texts.
//!
//! jsonb has Arrow's type of long texts, which no other column has. A member that is null, or not
//! there, is a null.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, LargeStringBuilder, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use highwater_jsonb as jsonb;
use std::sync::Arc;

pub(super) fn is_document(field: &Field) -> bool {
    field.data_type() == &DataType::LargeUtf8
}

/// Whether there is jsonb within a column of another type, which no file has: it is a jsonb itself there.
pub(super) fn is_within(field: &Field) -> bool {
    let has_documents = |field: &Arc<Field>| is_document(field) || is_within(field);
    match field.data_type() {
        DataType::List(of) => has_documents(of),
        DataType::Struct(fields) => fields.iter().any(has_documents),
        _ => false,
    }
}

pub(super) fn has_documents(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| is_document(field))
}

/// The columns without those of jsonb; at least one, whose name no member has.
pub(super) fn without_documents(schema: &Schema) -> Schema {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().filter(|field| !is_document(field)).cloned().collect();
    if fields.is_empty() {
        fields.push(Arc::new(Field::new("\u{1}", DataType::Boolean, true)));
    }
    Schema::new(fields)
}

/// The columns with texts in place of jsonb.
pub(super) fn as_texts(schema: &Schema) -> Schema {
    let text = |field: &Arc<Field>| {
        if is_document(field) {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8))
        } else {
            Arc::clone(field)
        }
    };
    Schema::new(schema.fields().iter().map(text).collect::<Vec<_>>())
}

/// Rows whose columns of jsonb are members of records, of which there are as many; the other columns
/// are there already.
///
/// # Errors
/// Why a record is no JSON.
pub(super) fn from_records<'a>(
    records: impl Iterator<Item = &'a [u8]>,
    rest: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, String> {
    let documents = schema.fields().iter().filter(|field| is_document(field));
    let mut made: Vec<(String, LargeStringBuilder)> =
        documents.map(|field| (jsonb::quoted(field.name()), LargeStringBuilder::new())).collect();
    let mut record_text = String::new();
    for record in records {
        let text = std::str::from_utf8(record).map_err(|error| error.to_string())?;
        record_text.clear();
        jsonb::normal_into(text, &mut record_text)
            .map_err(|bad| bad.detail.unwrap_or_else(|| bad.message.to_owned()))?;
        for (name, builder) in &mut made {
            builder.append_option(jsonb::get(&record_text, name).filter(|value| *value != "null"));
        }
    }
    let mut made = made.into_iter().map(|(_, mut builder)| Arc::new(builder.finish()) as ArrayRef);
    let mut rest = rest.columns().iter().cloned();
    let column = |field: &Arc<Field>| if is_document(field) { made.next() } else { rest.next() };
    let columns: Option<Vec<ArrayRef>> = schema.fields().iter().map(column).collect();
    let columns = columns.ok_or("a record has fewer columns than it should")?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
}

/// A column of jsonb from texts, and which of them are none; an empty text is a null.
///
/// # Errors
/// Arrow's, when the values have no text.
pub(super) fn from_texts(column: &ArrayRef) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    let texts = cast(column, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let mut builder = LargeStringBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut bad = Vec::with_capacity(texts.len());
    for text in texts {
        let read = text.filter(|text| !text.is_empty()).map(jsonb::normal);
        bad.push(matches!(read, Some(Err(_))));
        builder.append_option(read.and_then(Result::ok));
    }
    let lost = bad.contains(&true).then(|| BooleanArray::from(bad));
    Ok((Arc::new(builder.finish()), lost))
}

/// Rows of texts with jsonb where the columns have it.
///
/// # Errors
/// When a text is none.
pub(super) fn of_texts(rows: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, String> {
    let column = |(field, given): (&Arc<Field>, &ArrayRef)| {
        if !is_document(field) {
            return Ok(Arc::clone(given));
        }
        match from_texts(given).map_err(|error| error.to_string())? {
            (column, None) => Ok(column),
            (_, Some(_)) => Err(format!("column {:?} takes JSON", field.name())),
        }
    };
    let made = columns.fields().iter().zip(rows.columns()).map(column).collect::<Result<_, String>>()?;
    RecordBatch::try_new(Arc::clone(columns), made).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn members_become_columns_in_the_schemas_order() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("j", DataType::LargeUtf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("k", DataType::LargeUtf8, true),
        ]));
        let records: [&[u8]; 2] = [b"{\"n\":1,\"j\":{\"b\":1.50,\"a\":[]}}\n", b"{\"k\":\"x\",\"j\":null}\n"];
        let rest = RecordBatch::try_new(
            Arc::new(without_documents(&schema)),
            vec![Arc::new(Int64Array::from(vec![Some(1), None]))],
        );
        let rows = from_records(records.into_iter(), &rest.expect("rows"), &schema).expect("rows");
        let texts = |at: usize| rows.column(at).as_string::<i64>().iter().collect::<Vec<_>>();
        assert_eq!(texts(0), [Some(r#"{"a": [], "b": 1.50}"#), None]);
        assert_eq!(texts(2), [None, Some("\"x\"")]);
    }

    #[test]
    fn texts_that_are_no_json_are_marked() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("[1,2]"), None, Some("x"), Some("")]));
        let (column, lost) = from_texts(&texts).expect("a column");
        assert_eq!(column.as_string::<i64>().iter().collect::<Vec<_>>(), [Some("[1, 2]"), None, None, None]);
        assert_eq!(lost, Some(BooleanArray::from(vec![false, false, true, false])));
        assert!(has_documents(&Schema::new(vec![Field::new("j", DataType::LargeUtf8, true)])));
    }
}
