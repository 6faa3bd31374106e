//! Reading a source in batch: from its start to given offsets, to its end, or to what is there now.
//!
//! It rests on the contract of [`highwater_engine::source`]: rows come again in the same order, and
//! offsets have one. When a batch passes the wanted offset it is read again in halves, so that
//! exactly the rows before the offset are given.

use crate::error::Result;
use crate::query::SplitOffsets;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::PartitionStream;
use highwater_engine::Error;
use highwater_engine::core::{Clock as _, SystemClock, WallMicros};
use highwater_engine::source::{Offset, Polled, Source, SplitReader, order, stamped};
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MOST_ROWS: usize = 8192;
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// A row that was read a moment ago is there again within this time.
const LONGEST_TRY: Duration = Duration::from_secs(5);

/// Up to where a source is read.
#[derive(Clone, Debug)]
pub(crate) enum Until {
    /// These offsets; splits that are not named are left out.
    Offsets(SplitOffsets),
    /// The end of every split; waits for rows that are yet to come.
    End,
    /// The end, or the first time that there is nothing now.
    Now,
}

fn splits(source: &dyn Source, until: &Until) -> highwater_engine::Result<Vec<String>> {
    match until {
        Until::Offsets(offsets) => Ok(offsets.keys().cloned().collect()),
        Until::End | Until::Now => source.splits(),
    }
}

fn read_split(
    source: &dyn Source,
    split: &str,
    until: &Until,
    each: &mut impl FnMut(RecordBatch) -> highwater_engine::Result<()>,
) -> highwater_engine::Result<()> {
    let wanted = match until {
        Until::Offsets(offsets) => offsets.get(split),
        Until::End | Until::Now => None,
    };
    let mut reader = source.open(split, None)?;
    let mut rows = MOST_ROWS;
    while !is_there(reader.as_ref(), wanted, split)? {
        let before = reader.offset();
        match reader.poll(rows)? {
            Polled::End => return ended(reader.as_ref(), wanted, split),
            Polled::Idle(_) if matches!(until, Until::Now) => return Ok(()),
            Polled::Idle(wait) => std::thread::sleep(wait.min(LONGEST_WAIT)),
            Polled::Rows(batch) => {
                if !passed(&reader.offset(), wanted, split)? {
                    each(batch)?;
                    continue;
                }
                if batch.num_rows() == 1 {
                    let wanted = wanted.expect("only a wanted offset can be passed");
                    let is_next = comes_next(source, split, wanted, &reader.offset())?;
                    return if is_next { Ok(()) } else { each(batch) };
                }
                rows = batch.num_rows().min(rows).div_ceil(2);
                reader = source.open(split, Some(&before))?;
            }
        }
    }
    Ok(())
}

/// Whether the row whose reading ends at `after` is the one that follows `wanted`. A place between
/// two rows can have two names, such as the end of one group and the start of the next; both a name
/// before the row and one after it may lie between the offsets around it.
fn comes_next(source: &dyn Source, split: &str, wanted: &Offset, after: &Offset) -> highwater_engine::Result<bool> {
    let mut reader = source.open(split, Some(wanted))?;
    let deadline = Instant::now() + LONGEST_TRY;
    loop {
        match reader.poll(1)? {
            Polled::Rows(_) => return Ok(reader.offset() == *after),
            Polled::End => return Ok(false),
            Polled::Idle(_) if Instant::now() >= deadline => return Ok(false),
            Polled::Idle(wait) => std::thread::sleep(wait.min(LONGEST_WAIT)),
        }
    }
}

fn is_there(reader: &dyn SplitReader, wanted: Option<&Offset>, split: &str) -> highwater_engine::Result<bool> {
    let Some(wanted) = wanted else { return Ok(false) };
    Ok(compare(&reader.offset(), wanted, split)? != Ordering::Less)
}

fn passed(offset: &Offset, wanted: Option<&Offset>, split: &str) -> highwater_engine::Result<bool> {
    let Some(wanted) = wanted else { return Ok(false) };
    Ok(compare(offset, wanted, split)? == Ordering::Greater)
}

fn ended(reader: &dyn SplitReader, wanted: Option<&Offset>, split: &str) -> highwater_engine::Result<()> {
    match wanted {
        Some(wanted) if compare(&reader.offset(), wanted, split)? == Ordering::Less => {
            Err(Error::data(split, format!("ended at {} before the offset {wanted}", reader.offset())))
        }
        _ => Ok(()),
    }
}

fn compare(a: &Offset, b: &Offset, split: &str) -> highwater_engine::Result<Ordering> {
    order(a, b).ok_or_else(|| Error::data(split, format!("offsets {a} and {b} are of different kinds")))
}

/// All rows of a source, split after split, in memory.
pub(crate) fn rows(source: &dyn Source, until: &Until) -> Result<Vec<RecordBatch>> {
    let mut all = Vec::new();
    for split in splits(source, until)? {
        read_split(source, &split, until, &mut |batch| {
            all.push(batch);
            Ok(())
        })?;
    }
    Ok(all)
}

/// A source as a table that DataFusion reads while it runs a query, never held in memory whole. Its rows
/// come now.
pub(crate) fn table(source: &Arc<dyn Source>, until: &Until) -> Result<Arc<dyn TableProvider>> {
    let schema = source.schema();
    let splits = splits(source.as_ref(), until)?;
    let wall = SystemClock::default().wall();
    let part = |split: String| {
        let part = Part { source: Arc::clone(source), schema: Arc::clone(&schema), split, until: until.clone(), wall };
        Arc::new(part) as Arc<dyn PartitionStream>
    };
    let parts = splits.into_iter().map(part).collect();
    Ok(Arc::new(StreamingTable::try_new(schema.clone(), parts)?))
}

/// One split of a source.
#[derive(Debug)]
struct Part {
    source: Arc<dyn Source>,
    schema: SchemaRef,
    split: String,
    until: Until,
    /// When the query reads it.
    wall: WallMicros,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 4);
        let rows = builder.tx();
        let (source, split, until) = (Arc::clone(&self.source), self.split.clone(), self.until.clone());
        let wall = self.wall;
        builder.spawn_blocking(move || {
            let mut gone = false;
            let mut send = |batch| {
                let batch = stamped(batch, source.arrivals(), wall)?;
                gone = rows.blocking_send(Ok(batch)).is_err();
                if gone { Err(Error::Timeout("nobody reads on".to_owned())) } else { Ok(()) }
            };
            match read_split(source.as_ref(), &split, &until, &mut send) {
                Err(error) if !gone => Err(DataFusionError::External(Box::new(error))),
                _ => Ok(()),
            }
        });
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    /// Gives `each` the rows of all splits up to `until`.
    fn read_until(
        source: &dyn Source,
        until: &Until,
        mut each: impl FnMut(RecordBatch) -> highwater_engine::Result<()>,
    ) -> highwater_engine::Result<()> {
        splits(source, until)?.iter().try_for_each(|split| read_split(source, split, until, &mut each))
    }

    /// Numbers from 0, in groups: the offset of number n is its group and its place there.
    #[derive(Debug)]
    struct Numbers {
        count: u64,
        group: u64,
    }

    struct Reader {
        next: u64,
        of: Numbers,
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
    }

    impl Source for Numbers {
        fn schema(&self) -> SchemaRef {
            schema()
        }

        fn splits(&self) -> highwater_engine::Result<Vec<String>> {
            Ok(vec!["a".to_owned(), "b".to_owned()])
        }

        fn blocking(&self) -> bool {
            false
        }

        fn open(&self, _: &str, offset: Option<&Offset>) -> highwater_engine::Result<Box<dyn SplitReader>> {
            let at = |name: &str| offset.and_then(|o| o.get(name)).and_then(Value::as_u64).unwrap_or(0);
            let next = at("group") * self.group + at("row");
            Ok(Box::new(Reader { next, of: Self { count: self.count, group: self.group } }))
        }
    }

    impl SplitReader for Reader {
        fn poll(&mut self, most: usize) -> highwater_engine::Result<Polled> {
            let end = self.of.count.min(self.next + most as u64);
            if end == self.next {
                return Ok(Polled::End);
            }
            let numbers: Int64Array = (self.next..end).map(|n| n as i64).collect();
            self.next = end;
            let batch = RecordBatch::try_new(schema(), vec![Arc::new(numbers)]);
            Ok(Polled::Rows(batch.expect("one column")))
        }

        fn offset(&self) -> Offset {
            json!({ "group": self.next / self.of.group, "row": self.next % self.of.group })
        }
    }

    #[test]
    fn exactly_the_rows_before_an_offset_are_read() {
        let source = Numbers { count: 50_000, group: 1000 };
        for wanted in [0_u64, 1, 999, 1000, 8191, 8192, 8193, 20_001, 49_999, 50_000] {
            let offset = json!({ "group": wanted / 1000, "row": wanted % 1000 });
            let until = Until::Offsets(BTreeMap::from([("b".to_owned(), offset)]));
            let mut seen = 0;
            read_until(&source, &until, |batch| {
                seen += batch.num_rows() as u64;
                Ok(())
            })
            .expect("read");
            assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn an_offset_beyond_the_end_or_of_another_kind_is_an_error() {
        let source = Numbers { count: 10, group: 100 };
        for offset in [json!({ "group": 0, "row": 11 }), json!(7), json!({ "row": 1 })] {
            let until = Until::Offsets(BTreeMap::from([("a".to_owned(), offset)]));
            assert!(read_until(&source, &until, |_| Ok(())).is_err());
        }
    }

    #[test]
    fn two_names_of_one_place_are_the_same_place() {
        let source = Numbers { count: 3000, group: 1000 };
        let until = Until::Offsets(BTreeMap::from([("a".to_owned(), json!({ "group": 0, "row": 1000 }))]));
        let mut seen = 0;
        read_until(&source, &until, |batch| {
            seen += batch.num_rows();
            Ok(())
        })
        .expect("read");
        assert_eq!(seen, 1000, "group 0, row 1000 is group 1, row 0");
    }
}
