//! What several test programs begin with.

use highwater::{Config, Database};
use std::path::Path;

/// A database of two workers without checkpoints of its own accord, in which nothing is broken.
pub(crate) fn open(folder: &Path) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config.checkpoints.interval = None;
    let database = Database::open(config).expect("a database");
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    database
}
