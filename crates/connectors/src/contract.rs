//! The check of a source's contract, for tests: of this crate's sources and of a program's.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use highwater_engine::source::{Offset, Polled, Source, order};
use highwater_engine::{Error, Result};
use std::cmp::Ordering;
use std::time::{Duration, Instant};

/// A split that gives nothing for so long has nothing more.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// Rows asked for when a split is read at once.
const AT_ONCE: usize = 100_000;

/// Checks what exactly-once asks of a source (see [`highwater_engine::source`]): each split is read
/// at once, in pieces of at most `sizes` rows in turn, and in such pieces with a new reader for each,
/// opened at the offset of the one before. All must give the same rows, and the offsets must rise.
///
/// For tests, over some thousand rows: they are held in memory. A split is read to its end, or until
/// it has nothing for a second.
///
/// # Errors
/// `Data` that names the split and what differs; those of the source.
///
/// # Panics
/// When there are no sizes.
pub fn check_source(source: &dyn Source, sizes: &[usize]) -> Result<()> {
    assert!(!sizes.is_empty(), "a source is read in pieces of some size");
    for split in source.splits()? {
        let whole = read(source, &split, &[AT_ONCE], false)?;
        for (reopen, how) in [(false, "in pieces"), (true, "in pieces with a reader for each")] {
            let pieces = read(source, &split, sizes, reopen)?;
            if pieces != whole {
                return Err(Error::data(split, format!("read {how} it gives other rows than read at once")));
            }
        }
    }
    Ok(())
}

fn read(source: &dyn Source, split: &str, sizes: &[usize], reopen: bool) -> Result<RecordBatch> {
    let mut reader = source.open(split, None)?;
    let mut before = written(&reader.offset())?;
    let mut pieces = Vec::new();
    let mut rows_came = Instant::now();
    for size in sizes.iter().cycle() {
        let rows = match reader.poll(*size)? {
            Polled::Rows(rows) => rows,
            Polled::Idle(_) if rows_came.elapsed() > PATIENCE => break,
            Polled::Idle(wait) => {
                std::thread::sleep(wait.min(LONGEST_WAIT));
                continue;
            }
            Polled::End => break,
        };
        if rows.num_rows() == 0 || rows.num_rows() > *size {
            return Err(Error::data(split, format!("{} rows, asked for 1 to {size}", rows.num_rows())));
        }
        pieces.push(rows);
        let after = written(&reader.offset())?;
        if order(&before, &after) != Some(Ordering::Less) {
            return Err(Error::data(split, format!("the offset {after} does not come after {before}")));
        }
        if reopen {
            reader = source.open(split, Some(&after))?;
        }
        (before, rows_came) = (after, Instant::now());
    }
    concat_batches(&source.schema(), &pieces).map_err(|error| Error::data(split, error))
}

/// An offset as it comes back from a checkpoint.
fn written(offset: &Offset) -> Result<Offset> {
    serde_json::from_str(&offset.to_string()).map_err(|error| Error::data("offset", error))
}
