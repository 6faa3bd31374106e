//! The committed roots of every format are restored by the present code.
//!
//! `WRITE_FIXTURE=1` writes the fixture of the present format where there is none yet; a fixture
//! that was committed is never written again.

use highwater_checkpoint::{
    Base64, Compression, Error, FetchOptions, FileId, InlinePart, LocalFile, Manifest, OperatorMeta, OutboxData,
    OutboxMeta, PublishOptions, Publisher, Store, Trigger, UploadOptions, Uploader, resolve,
};
use highwater_core::{CheckpointId, Epoch, Generation, KeyGroups, OperatorId, StoreId, WallMicros};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PIPELINE: &str = "bids per auction";

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/format-{format}"))
}

fn open(path: &Path) -> Result<Store, Error> {
    Store::open(path.to_str().expect("text"))
}

/// What each file of the fixture holds.
fn content(sequence: u64) -> Vec<u8> {
    format!("part {sequence} of the fixture\n").repeat(20).into_bytes()
}

fn local(folder: &Path, sequence: u64, compression: Compression) -> LocalFile {
    let path = folder.join(format!("made-{sequence}"));
    std::fs::write(&path, content(sequence)).expect("a scratch file");
    LocalFile {
        path,
        worker: 0,
        sequence,
        first_key: vec![0, sequence as u8],
        last_key: vec![255, sequence as u8],
        digest: None,
        compression,
    }
}

/// Everything that a manifest can hold, with fixed values.
fn manifest() -> Manifest {
    let offsets = BTreeMap::from([("0".to_owned(), 17.into()), ("1".to_owned(), "file.csv:3".into())]);
    Manifest {
        store: StoreId(0x0123_4567_89ab_cdef),
        epoch: Epoch(41),
        wall: WallMicros(1_767_225_600_000_000),
        sql: vec!["CREATE MATERIALIZED VIEW v AS SELECT auction, count(*) FROM bid GROUP BY auction".to_owned()],
        key_groups: KeyGroups::new(16).expect("a power of two"),
        workers: 2,
        sources: BTreeMap::from([("source:bid".to_owned(), offsets)]),
        operators: vec![OperatorMeta {
            id: OperatorId(1),
            name: "aggregate:v".to_owned(),
            incarnation: 0,
            kind: "aggregate".to_owned(),
            version: 1,
            keys: 3,
            bytes: 96,
        }],
        inline: vec![InlinePart::new(1, 1, b"inline state".to_vec())],
        outboxes: vec![OutboxMeta {
            sink: "sink:out".to_owned(),
            checkpoint: None,
            worker: 1,
            data: OutboxData::Inline(Base64(b"rows to deliver".to_vec())),
        }],
        ..Manifest::draft(PIPELINE, Trigger::Manual)
    }
}

async fn write(root: &Path) -> Result<(), Error> {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let store = open(root)?;
    let mut publisher = Publisher::claim(&store, PIPELINE, PublishOptions::default()).await?;
    let uploader = Uploader::new(&store, PIPELINE, UploadOptions::default())?;
    let ways = [Compression::None, Compression::Lz4, Compression::Zstd];
    let files: Vec<_> = ways.into_iter().zip(1..).map(|(way, n)| local(scratch.path(), n, way)).collect();
    for taken in 2..=3 {
        let uploaded = uploader.upload(&files[..taken], publisher.next_checkpoint()).await?;
        let published = publisher.publish(Manifest { files: uploaded.files, ..manifest() }).await?;
        uploader.published(&published.manifest);
    }
    std::fs::remove_file(root.join("bids%20per%20auction/.current.lock")).expect("the lock file is there");
    Ok(())
}

#[tokio::test]
async fn format_1_is_restored() -> Result<(), Error> {
    let root = fixture(1);
    if std::env::var_os("WRITE_FIXTURE").is_some() && !root.exists() {
        write(&root).await?;
    }
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let store = open(&root)?;
    let restored = resolve(&store, PIPELINE, scratch.path(), FetchOptions::default()).await?.expect("two checkpoints");
    assert!(restored.fallbacks.is_empty());
    let found = &restored.manifest;
    let expected = Manifest {
        format: 1,
        checkpoint: CheckpointId(2),
        generation: Generation(1),
        parent: Some(CheckpointId(1)),
        files: found.files.clone(),
        ..manifest()
    };
    assert_eq!(found, &expected);
    let ways: Vec<_> = found.files.iter().map(|f| (f.sequence, f.compression)).collect();
    assert_eq!(ways, [(1, Compression::None), (2, Compression::Lz4), (3, Compression::Zstd)]);
    for file in &restored.files {
        assert_eq!(std::fs::read(&file.path).expect("restored"), content(file.meta.sequence));
    }
    Ok(())
}

#[tokio::test]
async fn a_pipeline_goes_on_from_format_1() -> Result<(), Error> {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let root = scratch.path().join("root");
    copy(&fixture(1), &root);
    let store = open(&root)?;
    let mut publisher = Publisher::claim(&store, PIPELINE, PublishOptions::default()).await?;
    assert_eq!((publisher.generation(), publisher.next_checkpoint()), (Generation(2), CheckpointId(3)));
    let restored = resolve(&store, PIPELINE, &scratch.path().join("cache"), FetchOptions::default()).await?;
    let restored = restored.expect("two checkpoints");
    publisher.restored(&restored);
    let files: Vec<FileId> = restored.manifest.files.iter().map(|f| f.id).collect();
    let published = publisher.publish(restored.manifest).await?;
    assert_eq!(published.manifest.files.iter().map(|f| f.id).collect::<Vec<_>>(), files);
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the fixture is there") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
