//! What every source must do, whatever it reads: the one suite that all of them pass.

use crate::{Connectors, Created, Format, OptionSpec, Options, Settings, Shape, check_source};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use highwater_engine::Result;
use highwater_engine::source::{Offset, Polled, Source, SplitReader};
use std::sync::Arc;

/// The options of a test's WITH clause.
pub(crate) fn options(entries: &[(&str, &str)]) -> Options {
    Options::new(entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).expect("no name twice")
}

/// The same, checked.
pub(crate) fn settings(connector: &str, specs: &[OptionSpec], entries: &[(&str, &str)]) -> Result<Settings> {
    Settings::read(connector, specs, &options(entries))
}

/// A source of a test, or why there is none.
pub(crate) fn try_source(
    connector: &str,
    entries: &[(&str, &str)],
    declared: Option<&SchemaRef>,
    format: Option<Format>,
) -> Result<Arc<dyn Source>> {
    let options = options(entries);
    Connectors::default().source(&Created {
        connector,
        name: "s",
        incarnation: 0,
        options: &options,
        columns: declared,
        format,
        shape: Shape::default(),
    })
}

/// A source of a test whose statement says more of its rows, or why there is none.
pub(crate) fn try_shaped(
    entries: &[(&str, &str)],
    declared: &SchemaRef,
    format: Format,
    shape: Shape<'_>,
) -> Result<Arc<dyn Source>> {
    let options = options(entries);
    Connectors::default().source(&Created {
        connector: "file",
        name: "s",
        incarnation: 0,
        options: &options,
        columns: Some(declared),
        format: Some(format),
        shape,
    })
}

/// A source of a test.
pub(crate) fn source_of(
    connector: &str,
    entries: &[(&str, &str)],
    declared: Option<SchemaRef>,
    format: Option<Format>,
) -> Arc<dyn Source> {
    try_source(connector, entries, declared.as_ref(), format).expect("a source")
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

/// See [`check_source`].
pub(crate) fn check_resumes(source: &dyn Source, sizes: &[usize]) {
    check_source(source, sizes).expect("it keeps its contract");
}
