//! Columns of jsonb: which they are, and those of Parquet files, in normal form.
//!
//! jsonb has Arrow's type of long texts, which no other column has.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, LargeStringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
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

/// A column of jsonb from texts, and which of them are none.
///
/// # Errors
/// Arrow's, when the values have no text.
pub(super) fn from_texts(column: &ArrayRef) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    let texts = cast(column, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let mut builder = LargeStringBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut bad = Vec::with_capacity(texts.len());
    for text in texts {
        let read = text.map(jsonb::normal);
        bad.push(matches!(read, Some(Err(_))));
        builder.append_option(read.and_then(Result::ok));
    }
    let lost = bad.contains(&true).then(|| BooleanArray::from(bad));
    Ok((Arc::new(builder.finish()), lost))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;

    #[test]
    fn texts_that_are_no_json_are_marked() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("[1,2]"), None, Some("x"), Some("")]));
        let (column, lost) = from_texts(&texts).expect("a column");
        assert_eq!(column.as_string::<i64>().iter().collect::<Vec<_>>(), [Some("[1, 2]"), None, None, None]);
        assert_eq!(lost, Some(BooleanArray::from(vec![false, false, true, true])));
    }
}
