//! The manifest: the object that names a checkpoint. Its shape, its text and its checks; no I/O.
//!
//! The format's page is docs/formats/manifest.md. Invariants: [`Manifest::to_text`] and
//! [`Manifest::from_text`] are inverse; what is read satisfies [`Manifest::check`].

use crate::compress::Compression;
use crate::digest::Digest;
use crate::encoding::{Base64, Hex};
use crate::error::{Error, Result};
use crate::names::FileId;
use crate::sealed;
use highwater_core::{CheckpointId, Epoch, Generation, KeyGroups, OperatorId, StoreId, WallMicros};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The newest format of manifests that this crate writes and reads.
pub const FORMAT: u32 = 1;

/// Offsets of one source operator by split; the value is the source's own.
pub type SplitOffsets = BTreeMap<String, serde_json::Value>;

/// One checkpoint: all workers' state, offsets and outboxes at one barrier.
///
/// `format`, `checkpoint`, `generation` and `parent` are set by [`crate::Publisher::publish`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of this text.
    pub format: u32,
    /// Which pipeline.
    pub pipeline: String,
    /// The prefix of the pipeline's keys inside its files.
    pub store: StoreId,
    /// The number of this checkpoint.
    pub checkpoint: CheckpointId,
    /// The epoch after which the barrier stood.
    pub epoch: Epoch,
    /// The claim under which it was published.
    pub generation: Generation,
    /// When the barrier stood.
    pub wall: WallMicros,
    /// The checkpoint that this one continues; none for the first.
    pub parent: Option<CheckpointId>,
    /// The statements that make the pipeline's objects, in order.
    pub sql: Vec<String>,
    /// How many key groups the pipeline has.
    pub key_groups: KeyGroups,
    /// How many workers wrote it.
    pub workers: u32,
    /// Who asked for it.
    pub requested_by: Trigger,
    /// Where each source goes on, by the stable semantic id of its operator.
    pub sources: BTreeMap<String, SplitOffsets>,
    /// The operators with state.
    pub operators: Vec<OperatorMeta>,
    /// The first number that no operator of the pipeline ever had.
    #[serde(default)]
    pub next_operator: u32,
    /// The files of the state.
    pub files: Vec<FileMeta>,
    /// State that is small enough to stand here.
    pub inline: Vec<InlinePart>,
    /// What sinks have yet to deliver.
    pub outboxes: Vec<OutboxMeta>,
    /// What the targets of sinks have, by the stable semantic id of the sink, in the sink's own form: all that is
    /// in no outbox. Absent for those that do not tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<String, serde_json::Value>,
    /// What it cost.
    pub stats: CheckpointStats,
}

/// Why a checkpoint was taken. The names are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The pipeline's cadence.
    Interval,
    /// Somebody asked.
    Manual,
    /// A clean stop.
    Final,
    /// The pipeline was created: offsets, no state yet.
    Creation,
}

/// An operator whose state the checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorMeta {
    /// Its number, part of its keys.
    pub id: OperatorId,
    /// Its stable semantic id.
    pub name: String,
    /// Which object of that name it belongs to, as names are used again.
    #[serde(default)]
    pub incarnation: u64,
    /// Which kind of operator.
    pub kind: String,
    /// The version of its state's layout.
    pub version: u32,
    /// Keys it holds.
    pub keys: u64,
    /// Bytes it holds in memory.
    pub bytes: u64,
}

/// One immutable file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Its unique id, which is its name.
    pub id: FileId,
    /// The worker that wrote it.
    pub worker: u32,
    /// Its place among that worker's files: a later one supersedes an earlier one.
    pub sequence: u64,
    /// Bytes of its content.
    pub length: u64,
    /// Digest of its content.
    pub digest: Digest,
    /// Bytes of the object.
    pub stored: u64,
    /// Digest of the object.
    pub stored_digest: Digest,
    /// Its smallest key.
    pub first_key: Hex,
    /// Its largest key.
    pub last_key: Hex,
    /// How the object is packed.
    pub compression: Compression,
    /// Reserved: always none in format 1.
    pub encryption: Option<String>,
    /// The checkpoint for which it was made.
    pub created_for: CheckpointId,
    /// When its upload began. A file that no checkpoint lists may be collected some time after.
    pub uploaded_at: WallMicros,
}

/// State that stands in the manifest itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlinePart {
    /// The worker that wrote it.
    pub worker: u32,
    /// Its place among that worker's files and parts.
    pub sequence: u64,
    /// The bytes.
    pub data: Base64,
    /// Their digest.
    pub digest: Digest,
}

impl InlinePart {
    /// A part with its digest.
    #[must_use]
    pub fn new(worker: u32, sequence: u64, data: Vec<u8>) -> Self {
        let digest = Digest::of(&data);
        Self { worker, sequence, data: Base64(data), digest }
    }
}

/// What one worker's part of a sink has yet to deliver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxMeta {
    /// The stable semantic id of the sink.
    pub sink: String,
    /// The worker that wrote the rows: the number of the part.
    pub worker: u32,
    /// The published checkpoint that the rows belong to, the newest of several; none for the manifest's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointId>,
    /// The rows, in the sink's own form.
    pub data: OutboxData,
}

/// Where an outbox is. The names are persisted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxData {
    /// Here.
    Inline(Base64),
    /// In a file of its own.
    File(Box<FileMeta>),
    /// With those of earlier checkpoints before them, in a file of their own.
    Merged(Box<MergedOutbox>),
}

/// The outboxes of several checkpoints, oldest first, each with its number and its length before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedOutbox {
    /// Where they are.
    pub file: FileMeta,
    /// How many are not known to be delivered.
    pub waiting: u32,
    /// The newest that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<CheckpointId>,
}

/// What a checkpoint cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointStats {
    /// The longest freeze of a worker, in microseconds.
    pub freeze_us_max: u64,
    /// From the request to the receipts, in milliseconds.
    pub duration_ms: u64,
    /// Keys changed since the parent.
    pub changed_keys: u64,
    /// Bytes of the files made for it.
    pub delta_bytes: u64,
    /// Bytes shipped to the store.
    pub uploaded_bytes: u64,
    /// Bytes of files that were in the store already.
    pub referenced_bytes: u64,
    /// Bytes that stand in the manifest.
    pub inline_bytes: u64,
}

impl Manifest {
    /// A manifest with nothing in it, to be filled and published.
    #[must_use]
    pub fn draft(pipeline: impl Into<String>, requested_by: Trigger) -> Self {
        Self {
            format: FORMAT,
            pipeline: pipeline.into(),
            store: StoreId(0),
            checkpoint: CheckpointId(0),
            epoch: Epoch(0),
            generation: Generation(0),
            wall: WallMicros(0),
            parent: None,
            sql: Vec::new(),
            key_groups: KeyGroups::DEFAULT,
            workers: 1,
            requested_by,
            sources: BTreeMap::new(),
            operators: Vec::new(),
            next_operator: 0,
            files: Vec::new(),
            inline: Vec::new(),
            outboxes: Vec::new(),
            sinks: BTreeMap::new(),
            stats: CheckpointStats::default(),
        }
    }

    /// Every file the checkpoint needs, outboxes included.
    pub fn all_files(&self) -> impl Iterator<Item = &FileMeta> {
        let outboxes = self.outboxes.iter().filter_map(|outbox| match &outbox.data {
            OutboxData::File(file) => Some(&**file),
            OutboxData::Merged(merged) => Some(&merged.file),
            OutboxData::Inline(_) => None,
        });
        self.files.iter().chain(outboxes)
    }

    /// The text of the object and its digest.
    ///
    /// # Errors
    /// [`Error::Config`] when it does not satisfy [`Manifest::check`]: nothing wrong is written.
    pub fn to_text(&self) -> Result<(String, Digest)> {
        self.check().map_err(|reason| {
            Error::config(format!("checkpoint {} of {} is not well formed: {reason}", self.checkpoint, self.pipeline))
        })?;
        let text = sealed::seal(self);
        let digest = Digest::of(text.as_bytes());
        Ok((text, digest))
    }

    /// Reads the object named `object`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Newer`].
    pub fn from_text(object: &str, bytes: &[u8]) -> Result<Self> {
        let manifest: Self = sealed::open(object, bytes, FORMAT)?;
        manifest.check().map_err(|reason| Error::corrupt(object, reason))?;
        Ok(manifest)
    }

    /// What must hold of every manifest; the error is the first thing that does not.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn check(&self) -> Result<(), String> {
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for file in self.all_files() {
            if !ids.insert(file.id) {
                return Err(format!("file {} stands in it twice", file.id));
            }
            if file.compression == Compression::None
                && (file.stored != file.length || file.stored_digest != file.digest)
            {
                return Err(format!("file {} is stored as it is but differs from its content", file.id));
            }
        }
        let files = self.files.iter().map(|f| (f.worker, f.sequence));
        for place in files.chain(self.inline.iter().map(|p| (p.worker, p.sequence))) {
            if !places.insert(place) {
                return Err(format!("worker {} has two parts numbered {}", place.0, place.1));
            }
        }
        if let Some(part) = self.inline.iter().find(|part| Digest::of(&part.data.0) != part.digest) {
            return Err(format!("the inline part {} of worker {} has a wrong digest", part.sequence, part.worker));
        }
        if self.parent.is_some_and(|parent| parent >= self.checkpoint) {
            return Err("its parent is not older than itself".to_owned());
        }
        if self.format == FORMAT { Ok(()) } else { Err(format!("its format is {}", self.format)) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A manifest with one of everything.
    pub(crate) fn sample() -> Manifest {
        let file = |n: u8, sequence| FileMeta {
            id: FileId(u128::from(n)),
            worker: 0,
            sequence,
            length: 10,
            digest: Digest::of(&[n]),
            stored: 10,
            stored_digest: Digest::of(&[n]),
            first_key: Hex(vec![0, n]),
            last_key: Hex(vec![255]),
            compression: Compression::None,
            encryption: None,
            created_for: CheckpointId(3),
            uploaded_at: WallMicros(17),
        };
        Manifest {
            format: FORMAT,
            pipeline: "q5".into(),
            store: StoreId(u64::MAX),
            checkpoint: CheckpointId(3),
            epoch: Epoch(99),
            generation: Generation(2),
            wall: WallMicros(1_700_000_000_000_000),
            parent: Some(CheckpointId(2)),
            sql: vec!["CREATE MATERIALIZED VIEW q5 AS SELECT \"a\" FROM t".into()],
            key_groups: KeyGroups::DEFAULT,
            workers: 2,
            requested_by: Trigger::Interval,
            sources: BTreeMap::from([("source:bid".into(), SplitOffsets::from([("0".into(), 17.into())]))]),
            next_operator: 0,
            operators: vec![OperatorMeta {
                id: OperatorId(1),
                name: "agg:q5".into(),
                incarnation: 0,
                kind: "aggregate".into(),
                version: 1,
                keys: 5,
                bytes: 80,
            }],
            files: vec![file(1, 1), file(2, 2)],
            inline: vec![InlinePart::new(1, 1, vec![1, 2, 3])],
            outboxes: vec![
                OutboxMeta {
                    sink: "out".into(),
                    worker: 0,
                    checkpoint: None,
                    data: OutboxData::Inline(Base64(vec![9; 40])),
                },
                OutboxMeta {
                    sink: "out".into(),
                    worker: 1,
                    checkpoint: Some(CheckpointId(2)),
                    data: OutboxData::File(Box::new(file(3, 3))),
                },
                OutboxMeta {
                    sink: "out".into(),
                    worker: 1,
                    checkpoint: Some(CheckpointId(1)),
                    data: OutboxData::Merged(Box::new(MergedOutbox {
                        file: file(4, 4),
                        waiting: 2,
                        delivered: Some(CheckpointId(0)),
                    })),
                },
            ],
            sinks: BTreeMap::from([("out".into(), 17.into())]),
            stats: CheckpointStats { changed_keys: 5, ..CheckpointStats::default() },
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let manifest = sample();
        let (text, digest) = manifest.to_text().expect("well formed");
        assert_eq!(digest, Digest::of(text.as_bytes()));
        assert_eq!(Manifest::from_text("m", text.as_bytes()).expect("intact"), manifest);
        assert_eq!(manifest.all_files().count(), 4);
    }

    #[test]
    fn what_targets_have_is_left_out_where_none_tells() {
        let manifest = Manifest { sinks: BTreeMap::new(), ..sample() };
        let (text, _) = manifest.to_text().expect("well formed");
        assert!(!text.contains("\"sinks\""), "{text}");
        assert_eq!(Manifest::from_text("m", text.as_bytes()).expect("intact"), manifest);
    }

    #[test]
    fn nothing_wrong_is_written() {
        let breakers: [fn(&mut Manifest); 5] = [
            |m| m.files[1].id = m.files[0].id,
            |m| m.files[1].sequence = m.files[0].sequence,
            |m| m.inline[0].data.0.push(1),
            |m| m.parent = Some(m.checkpoint),
            |m| m.files[0].stored += 1,
        ];
        for breaker in breakers {
            let mut manifest = sample();
            breaker(&mut manifest);
            assert!(matches!(manifest.to_text(), Err(Error::Config { .. })));
        }
    }
}
