//! Rows as the protocol carries them.

use super::extended::changed;
use super::{binary, errors};
use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow_pg::datatypes::{field_into_pg_type, into_pg_type};
use arrow_pg::encode_recordbatch;
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use highwater::{Answer, RowStream, spelling};
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use std::sync::Arc;

/// The columns of rows.
pub(super) fn fields(schema: &SchemaRef, format: &Format) -> PgWireResult<Arc<Vec<FieldInfo>>> {
    if matches!(format, Format::Individual(codes) if codes.len() < schema.fields().len()) {
        // They are those of the columns that it was described with.
        return Err(changed());
    }
    let field = |(at, field): (usize, &FieldRef)| {
        let data_type = column_type(field)?;
        Ok(FieldInfo::new(field.name().clone(), None, None, data_type, format.format_for(at)))
    };
    Ok(Arc::new(schema.fields().iter().enumerate().map(field).collect::<PgWireResult<_>>()?))
}

/// PostgreSQL's type of a column.
pub(super) fn column_type(field: &FieldRef) -> PgWireResult<Type> {
    match own_type(field.data_type()) {
        Some(own) => Ok(own),
        None if is_vector(field) => Ok(Type::INT2_VECTOR),
        None => field_into_pg_type(field),
    }
}

/// Whether a column is a list that PostgreSQL has as a vector.
fn is_vector(field: &FieldRef) -> bool {
    matches!(field.data_type(), DataType::List(_)) && field.metadata().contains_key(highwater::VECTOR)
}

/// PostgreSQL's type of values of one of Arrow's types.
pub(super) fn pg_type(data_type: &DataType) -> PgWireResult<Type> {
    match own_type(data_type) {
        Some(own) => Ok(own),
        None => into_pg_type(data_type),
    }
}

/// Types that arrow-pg takes for others.
fn own_type(data_type: &DataType) -> Option<Type> {
    match data_type {
        DataType::LargeUtf8 => Some(Type::JSONB),
        DataType::List(of) if of.data_type() == &DataType::LargeUtf8 => Some(Type::JSONB_ARRAY),
        DataType::List(of) if of.data_type() == &DataType::UInt32 => Some(Type::OID_ARRAY),
        DataType::Struct(_) => Some(Type::RECORD),
        _ => None,
    }
}

/// The rows as they come.
pub(super) fn rows(rows: RowStream, fields: Arc<Vec<FieldInfo>>) -> impl Stream<Item = PgWireResult<DataRow>> + Send {
    let sent = fields.iter().zip(rows.schema().fields()).map(|(field, own)| as_sent(field, own.data_type()));
    let sent: Arc<Vec<FieldInfo>> = Arc::new(sent.collect());
    let vectors: Vec<bool> = rows.schema().fields().iter().map(is_vector).collect();
    let batches = stream::unfold(Some(rows), |rows| async move {
        let mut rows = rows?;
        match rows.next().await {
            Ok(Some(batch)) => Some((Ok(batch), Some(rows))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    batches.flat_map(move |batch| match batch {
        Ok(batch) => stream::iter(encode_recordbatch(Arc::clone(&sent), spelled(batch, &sent, &vectors))).left_stream(),
        Err(error) => stream::once(std::future::ready(Err(errors::of(&error, 0)))).right_stream(),
    })
}

/// An answer with rows; its tag is completed with their number.
pub(super) fn response(answer: Answer, format: &Format) -> Result<QueryResponse, PgWireError> {
    let Answer { tag, rows: given, .. } = answer;
    let given = given.ok_or_else(|| errors::error("XX000", "an answer without rows was to be sent as rows"))?;
    let fields = fields(given.schema(), format)?;
    let mut response = QueryResponse::new(Arc::clone(&fields), rows(given, fields));
    response.set_command_tag(&verb(&tag));
    Ok(response)
}

/// The tag without the number of rows, which pgwire adds.
pub(super) fn verb(tag: &highwater::Tag) -> String {
    use highwater::Tag;
    match tag {
        Tag::Select => "SELECT".to_owned(),
        Tag::Fetch => "FETCH".to_owned(),
        Tag::Insert(_) => "INSERT 0".to_owned(),
        Tag::Update(_) => "UPDATE".to_owned(),
        Tag::Delete(_) => "DELETE".to_owned(),
        Tag::Copy(_) => "COPY".to_owned(),
        Tag::Plain(text) => text.clone(),
    }
}

/// A column as its values are handed to arrow-pg: pgwire would put an array's text in quotes once more,
/// and takes no text for a jsonb or a composite value.
fn as_sent(field: &FieldInfo, own: &DataType) -> FieldInfo {
    if !matches!(own, DataType::List(_) | DataType::LargeUtf8 | DataType::Struct(_)) {
        return field.clone();
    }
    let data_type = match field.format() {
        FieldFormat::Text => Type::TEXT,
        FieldFormat::Binary => Type::BYTEA,
    };
    FieldInfo::new(field.name().to_owned(), None, None, data_type, field.format())
}

/// Texts of arrays of numbers as those of vectors.
fn spaced(texts: &ArrayRef) -> ArrayRef {
    let spaced = |text: &str| text.trim_matches(['{', '}']).replace(',', " ");
    Arc::new(texts.as_string::<i32>().iter().map(|text| text.map(spaced)).collect::<StringArray>())
}

/// The batch with columns that arrow-pg spells in another way than PostgreSQL, or not at all, in
/// place of which go their values as they are sent: texts, or bytes. `vectors` tells which are vectors.
fn spelled(batch: RecordBatch, fields: &[FieldInfo], vectors: &[bool]) -> RecordBatch {
    let sent = |((array, field), is_vector): ((&ArrayRef, &FieldInfo), &bool)| match field.format() {
        FieldFormat::Text if *is_vector => spelling::texts(array).map(|texts| spaced(&texts)),
        FieldFormat::Text => spelling::texts(array),
        FieldFormat::Binary => binary::bytes(array),
    };
    let sent: Vec<Option<ArrayRef>> = batch.columns().iter().zip(fields).zip(vectors).map(sent).collect();
    if sent.iter().all(Option::is_none) {
        return batch;
    }
    let columns = sent.into_iter().zip(batch.columns()).map(|(sent, own)| sent.unwrap_or_else(|| Arc::clone(own)));
    let named = batch.schema_ref().fields().iter().zip(columns);
    let named = named.map(|(field, array)| (field.name().clone(), array, true));
    RecordBatch::try_from_iter_with_nullable(named).unwrap_or(batch)
}
