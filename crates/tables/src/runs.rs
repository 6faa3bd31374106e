//! The runs of a store, by which it knows its own log again: each opening begins one, at a position of the
//! log and with an id that nothing else has.
//!
//! An offset names a position and the run in which that was written. Two logs that were one up to some
//! position, such as a store and an older copy of it, have different runs after it, so an offset of one
//! is never taken for one of the other, however far both go on. Invariants: the list begins at position 0
//! and is ordered; a run is durable before anything is written in it.

use crate::error::{Error, Result};
use crate::layout::{RUNS, run_first, run_key};
use crate::store::Stored;
use highwater_core::Rng;
use rocksdb::{DB, IteratorMode, ReadOptions, WriteBatch, WriteOptions};

/// The first position of each run and its id, oldest first; the last one is under way.
#[derive(Debug)]
pub(crate) struct Runs(Vec<(u64, String)>);

impl Runs {
    /// Begins a run of a store whose log ends at `newest`.
    pub(crate) fn begin(db: &DB, newest: u64) -> Result<Self> {
        let mut all = read(db)?;
        // What was written before there were runs is of the first one.
        let first = if all.is_empty() { 0 } else { newest + 1 };
        let id = (u128::from(Rng::from_os().next_u64()) << 64) | u128::from(Rng::from_os().next_u64());
        let mut batch = WriteBatch::default();
        // Nothing was written in a run that begins behind the log: no offset names it.
        while let Some((behind, _)) = all.pop_if(|(begins, _)| *begins >= first) {
            batch.delete(run_key(behind));
        }
        batch.put(run_key(first), id.to_be_bytes());
        let mut options = WriteOptions::default();
        options.set_sync(true);
        db.write_opt(batch, &options).map_err(Error::store("begin a run"))?;
        all.push((first, text(id)));
        Ok(Self(all))
    }

    /// The id of the run in which a position was or will be written.
    pub(crate) fn of(&self, position: u64) -> &str {
        let after = self.0.partition_point(|(first, _)| *first <= position);
        &self.0[after.saturating_sub(1)].1
    }
}

fn read(db: &DB) -> Result<Vec<(u64, String)>> {
    let mut options = ReadOptions::default();
    options.set_iterate_range(RUNS[0].to_vec()..RUNS[1].to_vec());
    let run = |stored: Stored| {
        let (key, value) = stored.map_err(Error::store("read the runs"))?;
        let id = <[u8; 16]>::try_from(&value[..]).map_err(|_| Error::corrupt("a run's id that has not 16 bytes"))?;
        Ok((run_first(&key)?, text(u128::from_be_bytes(id))))
    };
    let all: Vec<(u64, String)> = db.iterator_opt(IteratorMode::Start, options).map(run).collect::<Result<_>>()?;
    match all.first() {
        Some((first, _)) if *first != 0 => Err(Error::corrupt("its list of runs has no beginning")),
        _ => Ok(all),
    }
}

fn text(id: u128) -> String {
    format!("{id:032x}")
}
