//! The container that carries a [`Batch`] between operators and, as Arrow IPC, between processes.
//!
//! Timely takes a container out of a message by leaving an empty one behind, so a batch is
//! optional here; an empty container is never pushed. Timely asks for the length of the bytes and
//! for the bytes right after each other: the first encodes and the second uses what it made.

use crate::batch::Batch;
use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use std::cell::RefCell;
use std::io::{Cursor, Write};
use std::sync::Arc;
use timely::Accountable;
use timely::dataflow::channels::ContainerBytes;

const WEIGHTS: &str = "__weight";

/// A batch on its way; empty only after it was taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow(pub(crate) Option<Batch>);

impl Accountable for Flow {
    fn record_count(&self) -> i64 {
        self.0.as_ref().map_or(0, |batch| batch.len() as i64)
    }
}

/// The Arrow IPC stream of a batch; weights travel as a last column.
pub(crate) fn encode(batch: &Batch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let rows = with_weight_column(batch)?;
    let mut writer = StreamWriter::try_new(out, &rows.schema())?;
    writer.write(&rows)?;
    writer.finish()
}

/// The batches of a buffer that [`encode`] filled, one after another.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Batch>, ArrowError> {
    let end = bytes.len() as u64;
    let mut cursor = Cursor::new(bytes);
    let mut batches = Vec::new();
    while cursor.position() < end {
        let mut reader = StreamReader::try_new(&mut cursor, None)?;
        for rows in reader.by_ref() {
            batches.push(split_weight_column(&rows?)?);
        }
    }
    Ok(batches)
}

fn with_weight_column(batch: &Batch) -> Result<RecordBatch, ArrowError> {
    let Some(weights) = &batch.weights else { return Ok(batch.rows.clone()) };
    let mut fields = batch.rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(WEIGHTS, DataType::Int64, false)));
    let mut columns = batch.rows.columns().to_vec();
    columns.push(Arc::new(weights.clone()));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn split_weight_column(rows: &RecordBatch) -> Result<Batch, ArrowError> {
    let last = rows.num_columns().wrapping_sub(1);
    if rows.num_columns() == 0 || rows.schema().field(last).name() != WEIGHTS {
        return Ok(Batch::inserts(rows.clone()));
    }
    let weights = Int64Array::from(rows.column(last).to_data());
    let kept: Vec<usize> = (0..last).collect();
    Ok(Batch::weighted(rows.project(&kept)?, weights))
}

thread_local! {
    /// What `length_in_bytes` encoded, for the `into_bytes` that follows it.
    static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

const fn padded(length: usize) -> usize {
    (length + 7) & !7
}

impl ContainerBytes for Flow {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes of length"));
        let body = &bytes[8..8 + length as usize];
        let mut batches = decode(body).expect("a peer of the same version sent a valid batch");
        Self(batches.pop())
    }

    fn length_in_bytes(&self) -> usize {
        ENCODED.with_borrow_mut(|encoded| {
            encoded.clear();
            if let Some(batch) = &self.0 {
                encode(batch, encoded).expect("a batch of supported types encodes");
            }
            8 + padded(encoded.len())
        })
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        ENCODED.with_borrow(|encoded| {
            let padding = padded(encoded.len()) - encoded.len();
            let send = |writer: &mut W| {
                writer.write_all(&(encoded.len() as u64).to_le_bytes())?;
                writer.write_all(encoded)?;
                writer.write_all(&[0; 8][..padding])
            };
            send(writer).expect("the buffer was sized by length_in_bytes");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use std::path::Path;

    /// What the fixture holds: rows that are only added, and rows that come and go.
    fn outbox() -> [Batch; 2] {
        let fields = vec![Field::new("s", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
        let schema = Arc::new(Schema::new(fields));
        let rows = |texts: Vec<Option<&str>>, numbers: Vec<Option<i64>>| {
            let columns: Vec<Arc<dyn Array>> =
                vec![Arc::new(StringArray::from(texts)), Arc::new(Int64Array::from(numbers))];
            RecordBatch::try_new(Arc::clone(&schema), columns).expect("matches the schema")
        };
        let added = rows(vec![Some("a"), None, Some("")], vec![Some(1), Some(i64::MIN), None]);
        let changed = rows(vec![Some("a"), Some("b")], vec![Some(1), Some(2)]);
        [Batch::inserts(added), Batch::weighted(changed, Int64Array::from(vec![-1, 2]))]
    }

    /// Written by `HIGHWATER_WRITE_FIXTURES=1 cargo test -p highwater-engine wire`; one that was committed
    /// is never written again.
    #[test]
    fn an_outbox_of_format_1_is_read() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1/outbox.bin");
        let expected = outbox();
        if std::env::var_os("HIGHWATER_WRITE_FIXTURES").is_some() && !fixture.exists() {
            let mut bytes = Vec::new();
            for batch in &expected {
                encode(batch, &mut bytes).expect("encodes");
            }
            std::fs::create_dir_all(fixture.parent().expect("a folder")).expect("a folder");
            std::fs::write(&fixture, bytes).expect("written");
        }
        let read = decode(&std::fs::read(&fixture).expect("the fixture")).expect("format 1");
        let parts = |batch: &Batch| (batch.rows.clone(), batch.weights.clone());
        assert_eq!(read.iter().map(parts).collect::<Vec<_>>(), expected.each_ref().map(parts));
    }

    #[test]
    fn batches_survive_the_wire_with_and_without_weights() {
        let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true)]));
        let column = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
        let rows = RecordBatch::try_new(schema, vec![column]).expect("matches the schema");
        let plain = Batch::inserts(rows.clone());
        let weighted = Batch::weighted(rows, Int64Array::from(vec![1, -1, 2]));
        let mut bytes = Vec::new();
        encode(&plain, &mut bytes).expect("encodes");
        encode(&weighted, &mut bytes).expect("encodes");
        let back = decode(&bytes).expect("decodes");
        assert_eq!(back.len(), 2);
        assert_eq!((&back[0].rows, back[0].weights.as_ref()), (&plain.rows, None));
        assert_eq!(back[1].rows, weighted.rows);
        assert_eq!(back[1].weights, weighted.weights);
        let flow = Flow(Some(weighted));
        let mut sent = Vec::new();
        let length = flow.length_in_bytes();
        flow.into_bytes(&mut sent);
        assert_eq!(sent.len(), length);
    }
}
