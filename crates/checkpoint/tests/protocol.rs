//! The protocol end to end, over memory and a local folder: damage of every object, lost claims,
//! dead attempts, retention and collection.

mod service;

use bytes::Bytes;
use highwater_checkpoint::store::Replaced;
use highwater_checkpoint::{Compression, Error, Store, collect, inspect, resolve};
use highwater_core::CheckpointId;
use object_store::path::Path as ObjectPath;
use service::{PIPELINE, Service};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3600);

/// A root in a folder of its own, which damage is easily done to.
fn root(folder: &Path) -> Store {
    Store::open(folder.join("root").to_str().expect("text")).expect("a folder opens")
}

async fn three_checkpoints(store: &Store, scratch: &Path) -> Result<Service, Error> {
    let mut service = Service::start(store, scratch, 3).await?;
    for _ in 0..3 {
        service.grow(1000, Compression::Zstd);
        service.checkpoint().await?;
    }
    Ok(service)
}

fn at(scratch: &Path, object: &ObjectPath) -> std::path::PathBuf {
    scratch.join("root").join(object.as_ref())
}

/// Truncates, flips and removes one object, one after another.
fn damages(path: &Path) -> [Box<dyn Fn() + '_>; 3] {
    let original = std::fs::read(path).expect("the object is there");
    let put = move |bytes: &[u8]| {
        // A new file: the old one may be linked elsewhere.
        std::fs::remove_file(path).ok();
        std::fs::write(path, bytes).expect("it can be written");
    };
    let (truncated, mut flipped) = (original[..original.len() - 1].to_vec(), original);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    [
        Box::new(move || put(&truncated)),
        Box::new(move || put(&flipped)),
        Box::new(move || std::fs::remove_file(path).expect("it can be removed")),
    ]
}

#[tokio::test]
async fn each_damage_of_the_newest_checkpoint_is_found_and_fallen_back_from() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    let service = three_checkpoints(&store, probe.path()).await?;
    let names = store.root().names(PIPELINE)?;
    let newest = inspect::show(&store, PIPELINE, None).await?;
    let last_file = newest.files.last().expect("a file").id;
    let state = service.state();
    for object in [names.checkpoint(newest.checkpoint), names.file(last_file)] {
        let path = at(probe.path(), &object);
        let original = std::fs::read(&path).expect("the object is there");
        for (n, damage) in damages(&path).iter().enumerate() {
            damage();
            let before = store.list(&names, names.base()).await?;
            let empty = probe.path().join(format!("empty-{n}"));
            let resolved = resolve(&store, PIPELINE, &empty, Default::default()).await?.expect("an older one");
            assert_eq!(resolved.manifest.checkpoint, CheckpointId(2), "{object} {n}");
            let read = inspect::newest(&store, PIPELINE).await?.expect("a manifest");
            let expected = if object == names.checkpoint(newest.checkpoint) { 2 } else { 3 };
            assert_eq!(read.checkpoint, CheckpointId(expected), "{object} {n}");
            assert_eq!(resolved.fallbacks.len(), 1);
            assert_eq!(resolved.fallbacks[0].checkpoint, Some(CheckpointId(3)));
            let back: Vec<_> = resolved.files.iter().map(|f| std::fs::read(&f.path).expect("restored")).collect();
            assert!(back == state[..2]);
            assert!(!inspect::verify(&store, PIPELINE, None).await?.is_good());
            assert_eq!(store.list(&names, names.base()).await?, before, "a restore changes nothing");
            std::fs::remove_dir_all(&empty).ok();
        }
        std::fs::write(&path, original).expect("it can be written");
    }
    assert!(inspect::verify(&store, PIPELINE, None).await?.is_good());
    Ok(())
}

#[tokio::test]
async fn local_copies_that_cannot_be_read_are_fetched_anew() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    // A folder has a length and cannot be read.
    let unreadable = probe.path().join("unreadable");
    std::fs::create_dir(&unreadable).expect("a folder can be made");
    let length = std::fs::metadata(&unreadable).expect("it is there").len();
    let mut service = Service::start(&store, probe.path(), 3).await?;
    for compression in [Compression::Zstd, Compression::None] {
        service.grow(1000, compression);
        service.grow(usize::try_from(length).expect("it is small"), compression);
    }
    service.checkpoint().await?;
    let copies = probe.path().join("copies");
    let resolved = resolve(&store, PIPELINE, &copies, Default::default()).await?.expect("the newest");
    for (at, file) in resolved.files.iter().enumerate() {
        std::fs::remove_file(&file.path).expect("it is there");
        // Of the others it cannot even be told what they are.
        let target = if at % 2 == 1 { &unreadable } else { &file.path };
        std::os::unix::fs::symlink(target, &file.path).expect("a link can be made");
    }
    let again = resolve(&store, PIPELINE, &copies, Default::default()).await?.expect("the newest");
    assert!(again.fallbacks.is_empty() && again.reused_bytes == 0);
    let back: Vec<_> = again.files.iter().map(|f| std::fs::read(&f.path).expect("restored")).collect();
    assert!(back == service.state());
    Ok(())
}

#[tokio::test]
async fn a_damaged_pointer_is_made_again() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    let service = three_checkpoints(&store, probe.path()).await?;
    let path = at(probe.path(), &store.root().names(PIPELINE)?.current());
    let original = std::fs::read(&path).expect("the pointer is there");
    for (n, damage) in damages(&path).iter().enumerate() {
        damage();
        let again = Service::start(&store, &probe.path().join(format!("again-{n}")), 3).await?;
        let restored = again.restored.as_ref().expect("the newest");
        assert_eq!(restored.manifest.checkpoint, CheckpointId(3));
        assert!(again.state() == service.state());
        assert!(again.publisher.generation().0 >= 2 && again.publisher.repaired().is_some());
        std::fs::write(&path, &original).expect("it can be written");
    }
    Ok(())
}

#[tokio::test]
async fn after_a_fallback_the_service_goes_on_and_the_bad_one_is_tried_last() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    drop(three_checkpoints(&store, probe.path()).await?);
    let names = store.root().names(PIPELINE)?;
    std::fs::remove_file(at(probe.path(), &names.checkpoint(CheckpointId(3)))).expect("it is there");
    let mut service = Service::start(&store, probe.path(), 3).await?;
    service.grow(500, Compression::None);
    let (_, published) = service.checkpoint().await?;
    assert_eq!((published.manifest.checkpoint, published.manifest.parent), (CheckpointId(4), Some(CheckpointId(2))));
    let entry = service.publisher.pointer().entry(CheckpointId(3)).expect("it is still listed");
    assert!(entry.suspect);
    let blocked = collect(&store, PIPELINE, Duration::ZERO).await?;
    assert!(blocked.blocked.is_some() && blocked.removed_files == 0, "what 3 needs is not known");
    for _ in 0..3 {
        service.checkpoint().await?;
    }
    assert!(service.publisher.pointer().entry(CheckpointId(3)).is_none());
    let swept = collect(&store, PIPELINE, Duration::ZERO).await?;
    assert_eq!((swept.blocked, swept.removed_files, swept.kept_files), (None, 1, 3));
    Ok(())
}

#[tokio::test]
async fn when_nothing_verifies_it_says_so() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    drop(three_checkpoints(&store, probe.path()).await?);
    let names = store.root().names(PIPELINE)?;
    for id in 1..=3 {
        std::fs::remove_file(at(probe.path(), &names.checkpoint(CheckpointId(id)))).expect("it is there");
    }
    let error = Service::start(&store, probe.path(), 3).await.err().expect("it must not start empty");
    assert!(matches!(error, Error::NothingVerifies { fallbacks, .. } if fallbacks.len() == 3));
    Ok(())
}

#[tokio::test]
async fn a_process_that_lost_its_claim_publishes_nothing() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    for store in [root(probe.path()), Store::open("memory:")?] {
        let mut old = three_checkpoints(&store, &probe.path().join("old")).await?;
        let mut new = Service::start(&store, &probe.path().join("new"), 3).await?;
        old.grow(10, Compression::None);
        let error = old.checkpoint().await.expect_err("the claim is lost");
        assert!(matches!(error, Error::Fenced { .. }), "{error}");
        assert_eq!(inspect::show(&store, PIPELINE, None).await?.checkpoint, CheckpointId(3));
        new.grow(10, Compression::None);
        let (_, published) = new.checkpoint().await?;
        assert_eq!(published.manifest.checkpoint, CheckpointId(5), "the number of the dead attempt is not reused");
    }
    Ok(())
}

#[tokio::test]
async fn files_of_a_failed_checkpoint_belong_to_the_next() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open("memory:")?;
    let mut service = Service::start(&store, probe.path(), 3).await?;
    service.grow(100, Compression::None);
    let (first, _) = service.upload().await?;
    service.grow(100, Compression::None);
    let (uploaded, published) = service.checkpoint().await?;
    assert_eq!((uploaded.shipped, uploaded.referenced_bytes), (1, 100));
    assert_eq!(published.manifest.files[0].id, first.files[0].id);
    Ok(())
}

#[tokio::test]
async fn old_checkpoints_leave_and_take_only_their_own_files() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    let mut service = three_checkpoints(&store, probe.path()).await?;
    inspect::pin(&store, PIPELINE, CheckpointId(1), Some("before the change".into())).await?;
    service.files.remove(0);
    for _ in 0..3 {
        service.grow(1000, Compression::None);
        service.checkpoint().await?;
    }
    let swept = collect(&store, PIPELINE, HOUR).await?;
    assert_eq!((swept.removed_manifests, swept.removed_files, swept.kept_files), (2, 0, 6), "file 1 is pinned");
    inspect::pin(&store, PIPELINE, CheckpointId(1), None).await?;
    let swept = inspect::prune(&store, PIPELINE, 1, HOUR).await?.collected;
    assert_eq!((swept.removed_manifests, swept.removed_files, swept.kept_files), (3, 1, 5));
    // The claim still holds after others changed the list.
    let (_, published) = service.checkpoint().await?;
    assert_eq!(published.manifest.checkpoint, CheckpointId(7));
    let again = Service::start(&store, &probe.path().join("again"), 3).await?;
    assert!(again.state() == service.state());
    let listed = inspect::list(&store).await?;
    assert_eq!((listed.len(), listed[0].pipeline.as_str(), listed[0].checkpoints.len()), (1, PIPELINE, 2));
    assert_eq!(listed[0].checkpoints[1].content.as_ref().map(|c| c.files), Ok(5));
    Ok(())
}

/// The listed checkpoints.
async fn listed(store: &Store) -> Result<Vec<u64>, Error> {
    let pipelines = inspect::list(store).await?;
    Ok(pipelines[0].checkpoints.iter().map(|checkpoint| checkpoint.entry.checkpoint.0).collect())
}

/// Prunes to one, and tells which checkpoints were not whole and whether they stay.
async fn prune_to_one(store: &Store) -> Result<Vec<(u64, bool)>, Error> {
    let pruned = inspect::prune(store, PIPELINE, 1, HOUR).await?;
    Ok(pruned.damaged.iter().map(|damaged| (damaged.checkpoint.0, damaged.is_kept)).collect())
}

#[tokio::test]
async fn pruning_keeps_the_newest_whole_checkpoint() -> Result<(), Error> {
    // Cut short, removed: what a listing tells.
    for damage in [0, 2] {
        let probe = tempfile::tempdir().expect("a temporary folder");
        let store = root(probe.path());
        let state = three_checkpoints(&store, probe.path()).await?.state();
        let newest = inspect::show(&store, PIPELINE, None).await?;
        let file = store.root().names(PIPELINE)?.file(newest.files.last().expect("a file").id);
        let path = at(probe.path(), &file);
        damages(&path)[damage]();
        for _ in 0..2 {
            assert_eq!(prune_to_one(&store).await?, [(3, true)]);
            assert_eq!(listed(&store).await?, [2, 3]);
        }
        let mut service = Service::start(&store, probe.path(), 3).await?;
        assert!(service.state() == state[..2]);
        service.grow(10, Compression::None);
        service.checkpoint().await?;
        assert_eq!(prune_to_one(&store).await?, [(3, false)]);
        assert!(prune_to_one(&store).await?.is_empty());
        assert_eq!(listed(&store).await?, [4]);
        assert!(inspect::verify(&store, PIPELINE, None).await?.is_good());
    }
    Ok(())
}

#[tokio::test]
async fn pruning_removes_no_checkpoint_when_none_is_whole() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    drop(three_checkpoints(&store, probe.path()).await?);
    let first = inspect::show(&store, PIPELINE, None).await?.files[0].id;
    let path = at(probe.path(), &store.root().names(PIPELINE)?.file(first));
    let file = std::fs::read(&path).expect("the object is there");
    std::fs::remove_file(&path).expect("it is there");
    assert_eq!(prune_to_one(&store).await?, [(1, true), (2, true), (3, true)]);
    std::fs::write(&path, file).expect("it comes back");
    assert!(inspect::verify(&store, PIPELINE, None).await?.is_good());
    assert!(prune_to_one(&store).await?.is_empty());
    assert_eq!(listed(&store).await?, [3]);
    Ok(())
}

#[tokio::test]
async fn who_removes_a_pipeline_is_told_before_nothing_of_it_is_left() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    drop(three_checkpoints(&store, probe.path()).await?);
    let names = store.root().names(PIPELINE)?;
    let has = |object: &ObjectPath| at(probe.path(), object).exists();
    let (current, newest) = (names.current(), names.checkpoint(CheckpointId(3)));
    assert!(has(&current) && has(&newest));
    let mut told = 0;
    let is_last = || {
        assert!(has(&current) && !has(&newest));
        told += 1;
    };
    assert!(inspect::delete(&store, PIPELINE, is_last).await?);
    assert!(!has(&current));
    assert!(!inspect::delete(&store, PIPELINE, || panic!("nothing is there")).await?);
    assert_eq!(told, 1);
    Ok(())
}

#[tokio::test]
async fn a_restored_parent_that_was_pruned_is_not_trusted() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    drop(three_checkpoints(&store, probe.path()).await?);
    let names = store.root().names(PIPELINE)?;
    let newest = names.checkpoint(CheckpointId(3));
    let hidden = store.get(&newest).await?.bytes;
    store.delete(&newest).await?;
    let mut service = Service::start(&store, probe.path(), 3).await?;
    assert_eq!(service.restored.as_ref().map(|r| r.manifest.checkpoint), Some(CheckpointId(2)));
    // It comes back, and somebody keeps it alone.
    store.create(&newest, hidden).await?;
    inspect::prune(&store, PIPELINE, 1, HOUR).await?;
    let error = service.checkpoint().await.expect_err("its files are gone");
    assert!(matches!(error, Error::Stale { .. }), "{error}");
    service.uploader.forget();
    let (uploaded, _) = service.checkpoint().await?;
    assert_eq!(uploaded.shipped, 2, "they are shipped again under new names");
    assert!(inspect::verify(&store, PIPELINE, None).await?.is_good());
    Ok(())
}

#[tokio::test]
async fn local_files_are_linked_in_and_out() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    let mut service = Service::start(&store, probe.path(), 3).await?;
    service.grow(5000, Compression::None);
    let (uploaded, _) = service.checkpoint().await?;
    assert_eq!((uploaded.linked_bytes, uploaded.uploaded_bytes), (5000, 0));
    let again = Service::start(&store, &probe.path().join("again"), 3).await?;
    let restored = again.restored.as_ref().expect("one checkpoint");
    assert_eq!((restored.linked_bytes, restored.downloaded_bytes), (5000, 0));
    let inode = |path: &Path| std::fs::metadata(path).map(|m| m.ino()).expect("a file");
    assert_eq!(inode(&service.files[0].path), inode(&again.files[0].path));
    let folder = again.files[0].path.parent().expect("a folder");
    let reused = resolve(&store, PIPELINE, folder, Default::default()).await?.expect("one checkpoint");
    assert_eq!((reused.reused_bytes, reused.linked_bytes), (5000, 0));
    Ok(())
}

#[tokio::test]
async fn a_damaged_local_copy_is_not_trusted() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open("memory:")?;
    let service = three_checkpoints(&store, probe.path()).await?;
    let folder = probe.path().join("cache");
    let first = resolve(&store, PIPELINE, &folder, Default::default()).await?.expect("three");
    std::fs::write(&first.files[1].path, vec![7; 1000]).expect("it can be written");
    let second = resolve(&store, PIPELINE, &folder, Default::default()).await?.expect("three");
    assert_eq!(second.reused_bytes, 2000);
    let back: Vec<_> = second.files.iter().map(|f| std::fs::read(&f.path).expect("restored")).collect();
    assert!(back == service.state());
    Ok(())
}

#[tokio::test]
async fn a_pointer_of_a_newer_program_is_left_alone() -> Result<(), Error> {
    let store = Store::open("memory:")?;
    let names = store.root().names(PIPELINE)?;
    #[derive(serde::Serialize)]
    struct Later {
        format: u32,
        rest: String,
    }
    let text = highwater_checkpoint::sealed::seal(&Later { format: 2, rest: "unknown".into() });
    let written = store.replace(&names.current(), None, Bytes::from(text)).await?;
    assert!(matches!(written, Replaced::Done(_)));
    let probe = tempfile::tempdir().expect("a temporary folder");
    let error = Service::start(&store, probe.path(), 3).await.err().expect("it cannot know");
    assert!(matches!(error, Error::Newer { found: 2, supported: 1, .. }));
    Ok(())
}

#[tokio::test]
async fn nothing_is_uploaded_to_the_place_of_a_root_that_is_away() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    let mut service = three_checkpoints(&store, probe.path()).await?;
    let (place, away) = (probe.path().join("root"), probe.path().join("away"));
    assert!(inspect::has_place(&store, PIPELINE).await?);
    std::fs::rename(&place, &away).expect("it is unmounted");
    assert!(!inspect::has_place(&store, PIPELINE).await?);
    std::fs::create_dir(&place).expect("an empty folder is left");
    assert!(!inspect::has_place(&store, PIPELINE).await?);
    service.grow(1000, Compression::None);
    let error = service.upload().await.expect_err("there is no root");
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    std::fs::remove_dir_all(&place).expect("it is hidden");
    std::fs::rename(&away, &place).expect("it is mounted again");
    service.grow(1000, Compression::None);
    let (uploaded, _) = service.checkpoint().await?;
    assert_eq!(uploaded.shipped, 2);
    let again = Service::start(&store, &probe.path().join("again"), 3).await?;
    assert!(again.restored.as_ref().is_some_and(|restored| restored.fallbacks.is_empty()));
    assert!(again.state() == service.state());
    Ok(())
}

#[tokio::test]
async fn no_manifest_is_written_to_the_place_of_a_root_that_is_away() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    let mut service = three_checkpoints(&store, probe.path()).await?;
    let (place, away) = (probe.path().join("root"), probe.path().join("away"));
    let (_, manifest) = service.upload().await?;
    std::fs::rename(&place, &away).expect("it is unmounted");
    std::fs::create_dir(&place).expect("an empty folder is left");
    let error = service.publisher.publish(manifest).await.expect_err("there is no root");
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    let mut left = std::fs::read_dir(&place).expect("a folder");
    assert!(left.next().is_none(), "a start would go on from it");
    std::fs::remove_dir(&place).expect("it is hidden");
    std::fs::rename(&away, &place).expect("it is mounted again");
    service.checkpoint().await?;
    Ok(())
}

#[tokio::test]
async fn a_file_is_as_young_as_its_upload() -> Result<(), Error> {
    let probe = tempfile::tempdir().expect("a temporary folder");
    let store = root(probe.path());
    let mut service = three_checkpoints(&store, probe.path()).await?;
    service.grow(1000, Compression::None);
    let file = std::fs::File::open(&service.files[3].path).expect("it was written");
    file.set_modified(SystemTime::now() - 3 * HOUR).expect("it has waited for long");
    let (uploaded, manifest) = service.upload().await?;
    assert_eq!(uploaded.linked_bytes, 1000);
    let swept = collect(&store, PIPELINE, HOUR).await?;
    assert_eq!((swept.removed_files, swept.young_files), (0, 1), "it is about to be published");
    service.publisher.publish(manifest).await?;
    assert!(inspect::verify(&store, PIPELINE, None).await?.is_good());
    Ok(())
}
