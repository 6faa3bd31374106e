//! The memory that queries hold: each one has a limit of its own, and all together have one. What does not
//! fit, such as rows that are sorted, goes to files in the data folder for as long as the query runs.

use crate::error::Error;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryLimit, MemoryPool, MemoryReservation};
use highwater_engine::core::Bytes;
use std::fmt::{self, Display};
use std::fs::{create_dir_all, read_dir, remove_dir_all, remove_file};
use std::path::Path;
use std::sync::Arc;

/// So many queries that hold all they may have room beside each other.
const QUERIES: u64 = 4;

/// What hands out memory to queries.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    each: Bytes,
    all: Arc<GreedyMemoryPool>,
}

impl QueryMemory {
    /// `each` for one query, and for all a few times that or `spare`, whichever is more.
    pub(crate) fn new(each: Bytes, spare: Bytes) -> Self {
        let all = each.0.saturating_mul(QUERIES).max(spare.0);
        Self { each, all: Arc::new(GreedyMemoryPool::new(all as usize)) }
    }

    /// The pool of one query.
    pub(crate) fn of_query(&self) -> Arc<dyn MemoryPool> {
        Arc::new(OfQuery { own: GreedyMemoryPool::new(self.each.0 as usize), all: Arc::clone(&self.all) })
    }
}

/// What makes such files, without those that a killed process has left.
pub(crate) fn spill(data_dir: &Path) -> crate::error::Result<Arc<DiskManager>> {
    let folder = data_dir.join("spill");
    emptied(&folder).map_err(|error| Error::folder(&folder, &error))?;
    let mode = DiskManagerMode::Directories(vec![folder]);
    Ok(Arc::new(DiskManagerBuilder::default().with_mode(mode).build()?))
}

/// Makes an empty folder, or empties it; it may be a volume of its own.
fn emptied(folder: &Path) -> std::io::Result<()> {
    create_dir_all(folder)?;
    for entry in read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { remove_dir_all(entry.path())? } else { remove_file(entry.path())? }
    }
    Ok(())
}

#[derive(Debug)]
struct OfQuery {
    own: GreedyMemoryPool,
    all: Arc<GreedyMemoryPool>,
}

impl MemoryPool for OfQuery {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional).map_err(|error| match error {
            // Operators that can go to files instead know it by its kind.
            DataFusionError::ResourcesExhausted(told) => {
                DataFusionError::ResourcesExhausted(format!("the query takes more memory than query_memory: {told}"))
            }
            other => other,
        })?;
        self.all.try_grow(reservation, additional).map_err(|_| {
            self.own.shrink(reservation, additional);
            let message = "the queries that run take more memory than they may together: run fewer at a time, or raise \
                           query_memory";
            DataFusionError::ResourcesExhausted(message.to_owned())
        })
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

impl Display for OfQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::MemoryConsumer;

    #[test]
    fn files_are_in_the_data_folder_and_those_of_a_killed_process_go() {
        let data = tempfile::tempdir().expect("a folder");
        let left = data.path().join("spill").join("left");
        create_dir_all(&left).expect("a folder");
        let spill = spill(data.path()).expect("a folder");
        let _file = spill.create_tmp_file("a sort").expect("a file");
        assert!(!left.exists());
        let folders = spill.temp_dir_paths();
        assert!(!folders.is_empty() && folders.iter().all(|folder| folder.starts_with(data.path())));
    }

    #[test]
    fn queries_have_a_limit_each_and_one_together() {
        let memory = QueryMemory::new(Bytes(100), Bytes(0));
        let held: Vec<MemoryReservation> = (0..4)
            .map(|_| {
                let reservation = MemoryConsumer::new("query").register(&memory.of_query());
                reservation.try_grow(100).expect("its own limit");
                reservation.try_grow(1).expect_err("more than its own limit");
                reservation
            })
            .collect();
        let late = MemoryConsumer::new("late").register(&memory.of_query());
        let error = late.try_grow(1).expect_err("more than all may have");
        assert!(error.to_string().contains("together"), "{error}");
        drop(held);
        late.try_grow(100).expect("the others are over");
        late.try_grow(1).expect_err("what failed is not counted, what is held is");
    }
}
