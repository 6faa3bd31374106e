//! Where a database lives, how much it may take, and what the program adds to it.

use highwater_connectors::{SinkConnector, SourceConnector};
use highwater_engine::CheckpointSettings;
use highwater_engine::core::{Bytes, KeyGroups};
use highwater_sql::ScalarFunction;
use std::path::PathBuf;
use std::sync::Arc;

/// The settings of one database, and the program's own connectors and functions.
///
/// What the catalog holds is made again from its statements whenever the database is opened, so
/// connectors and functions must be here each time. An object that names one which is missing is
/// [`broken`](crate::Database::broken) until it is there again.
#[derive(Clone, Debug)]
pub struct Config {
    /// The catalog, and the engine's files on this machine.
    pub data_dir: PathBuf,
    /// Where checkpoints go: a path, or a URL such as `s3://bucket/prefix`, whose store takes its
    /// credentials from the `AWS_*` variables; `checkpoints` in the data folder when absent.
    pub checkpoint_root: Option<String>,
    /// Worker threads of the dataflows; one a core when absent.
    pub workers: Option<usize>,
    /// Threads for queries; one a core when absent.
    pub query_threads: Option<usize>,
    /// For the state of all views: above it, what is not in use is read from disk when needed. Half of
    /// the machine's memory when absent.
    pub state_memory: Option<Bytes>,
    /// What is to stay free of the machine's memory, or of the control group's: when less is, the
    /// pipeline fails whose open epoch has made its state grow most. A sixteenth, at most 2 GiB, when
    /// absent.
    pub memory_reserve: Option<Bytes>,
    /// What one query may take, 1 GiB by default: above it sorts and groups go on in files below the
    /// data folder, and what cannot fails with 53200.
    pub query_memory: Bytes,
    /// Cache of RocksDB's blocks, all pipelines together; 64 MiB by default.
    pub block_cache: Bytes,
    /// The ranges of keys that are dealt over workers, of new pipelines; 256 by default.
    pub key_groups: KeyGroups,
    /// A CREATE whose object exists with the same text goes on with it: for scripts that are run
    /// again. Off by default, as such a CREATE is an error in SQL.
    pub resume: bool,
    /// Of views that say nothing of checkpoints: every 10 seconds, the newest three kept, by default.
    pub checkpoints: CheckpointSettings,
    /// Connectors for CREATE SOURCE besides those that are built in.
    pub sources: Vec<Arc<dyn SourceConnector>>,
    /// Connectors for CREATE SINK besides those that are built in.
    pub sinks: Vec<Arc<dyn SinkConnector>>,
    /// Functions for SQL besides those that are built in.
    pub functions: Vec<Arc<dyn ScalarFunction>>,
}

impl Config {
    /// The defaults, with everything under one folder.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            checkpoint_root: None,
            workers: None,
            query_threads: None,
            state_memory: None,
            memory_reserve: None,
            query_memory: Bytes(1 << 30),
            block_cache: Bytes(64 << 20),
            key_groups: KeyGroups::DEFAULT,
            resume: false,
            checkpoints: CheckpointSettings::default(),
            sources: Vec::new(),
            sinks: Vec::new(),
            functions: Vec::new(),
        }
    }
}
