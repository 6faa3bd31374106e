//! What every source must do, whatever it reads: the one suite that all of them pass.

use crate::{Format, Options};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use highwater_engine::source::{Offset, Polled, Source, SplitReader};
use std::sync::Arc;

/// The options of a test's WITH clause.
pub(crate) fn options(entries: &[(&str, &str)]) -> Options {
    Options::new(entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).expect("no name twice")
}

/// A source of a test.
pub(crate) fn source_of(
    connector: &str,
    entries: &[(&str, &str)],
    declared: Option<arrow::datatypes::SchemaRef>,
    format: Option<Format>,
) -> Arc<dyn Source> {
    crate::source(connector, &options(entries), declared, format).expect("a source")
}

/// What happens after rows that are there have been read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Ended,
    Waits,
}

/// Reads on until there is nothing more for now, asking for these numbers of rows in turn.
pub(crate) fn drain(reader: &mut dyn SplitReader, sizes: &[usize]) -> (Vec<RecordBatch>, Then) {
    let mut batches = Vec::new();
    for size in sizes.iter().cycle() {
        match reader.poll(*size).expect("polls") {
            Polled::Rows(rows) => {
                assert!(rows.num_rows() >= 1 && rows.num_rows() <= *size, "{} rows of {size}", rows.num_rows());
                batches.push(rows);
            }
            Polled::End => return (batches, Then::Ended),
            Polled::Idle(wait) if wait.is_zero() => {}
            Polled::Idle(_) => return (batches, Then::Waits),
        }
    }
    unreachable!("sizes are never exhausted")
}

/// All rows of a bounded source's split from an offset on.
pub(crate) fn read(source: &dyn Source, split: &str, offset: Option<&Offset>, sizes: &[usize]) -> RecordBatch {
    let mut reader = source.open(split, offset).expect("opens");
    let (batches, then) = drain(reader.as_mut(), sizes);
    assert_eq!(then, Then::Ended);
    concat_batches(&source.schema(), &batches).expect("one schema")
}

/// All rows of a bounded source, split after split.
pub(crate) fn read_all(source: &dyn Source) -> RecordBatch {
    let splits = source.splits().expect("splits");
    let rows: Vec<RecordBatch> = splits.iter().map(|split| read(source, split, None, &[1000])).collect();
    concat_batches(&source.schema(), &rows).expect("one schema")
}

/// Reading in pieces of these sizes, with a restart at each offset on the way, gives what reading at
/// once gives; and a reader that goes on gives the same as one that restarts.
pub(crate) fn check_resumes(source: &dyn Source, sizes: &[usize]) {
    for split in source.splits().expect("splits") {
        let whole = read(source, &split, None, &[100_000]);
        assert_eq!(read(source, &split, None, sizes), whole, "in one go by pieces");
        let mut offset: Option<Offset> = None;
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            let mut reader = source.open(&split, offset.as_ref()).expect("opens");
            match reader.poll(*size).expect("polls") {
                Polled::Rows(rows) => pieces.push(rows),
                Polled::Idle(_) => {}
                Polled::End => break,
            }
            let text = reader.offset().to_string();
            offset = Some(serde_json::from_str(&text).expect("an offset survives being written down"));
        }
        assert_eq!(concat_batches(&source.schema(), &pieces).expect("one schema"), whole, "with restarts");
    }
}
