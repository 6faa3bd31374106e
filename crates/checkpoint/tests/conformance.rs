//! One suite that every kind of store passes: memory, a local folder, and S3 when
//! `HIGHWATER_TEST_S3` names a root such as `s3://bucket/prefix` (with the usual `AWS_` variables).

mod service;

use bytes::Bytes;
use highwater_checkpoint::store::{Created, Replaced};
use highwater_checkpoint::{Compression, Error, FileId, Names, Object, Store, TokioHost};
use highwater_core::CheckpointId;
use service::Service;
use std::path::Path;

type Outcome = Result<(), Error>;

async fn suite(store: Store) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    creates_once(&store).await.expect("creates once");
    replaces_by_comparison(&store).await.expect("replaces by comparison");
    lets_one_writer_win(&store).await.expect("lets one writer win");
    reads_lists_and_deletes(&store).await.expect("reads, lists and deletes");
    carries_a_service(&store, scratch.path()).await.expect("carries a service");
}

async fn creates_once(store: &Store) -> Outcome {
    let names = store.root().names("create")?;
    let path = names.checkpoint(CheckpointId(1));
    store.make_place(&names, None).await?;
    store.replace(&names.current(), None, Bytes::from("a claim")).await?;
    assert_eq!(store.create(&path, Bytes::from("one")).await?, Created::Done);
    assert_eq!(store.create(&path, Bytes::from("two")).await?, Created::Taken);
    assert_eq!(store.create(&path, Bytes::from("one")).await?, Created::Done, "the same bytes count as done");
    assert_eq!(store.get(&path).await?.bytes, "one");
    store.delete(&path).await?;
    store.delete(&names.current()).await
}

async fn replaces_by_comparison(store: &Store) -> Outcome {
    let names = store.root().names("replace")?;
    store.make_place(&names, None).await?;
    let path = names.current();
    let Replaced::Done(first) = store.replace(&path, None, Bytes::from("a")).await? else { panic!("it was absent") };
    let Replaced::Lost(Some(found)) = store.replace(&path, None, Bytes::from("b")).await? else {
        panic!("it was there")
    };
    assert_eq!(found.bytes, "a");
    let Replaced::Done(second) = store.replace(&path, Some(&first), Bytes::from("c")).await? else {
        panic!("it was a")
    };
    let lost = store.replace(&path, Some(&first), Bytes::from("d")).await?;
    assert!(matches!(lost, Replaced::Lost(Some(found)) if found.bytes == "c"));
    assert!(matches!(store.replace(&path, Some(&second), Bytes::from("e")).await?, Replaced::Done(_)));
    let read = store.get(&path).await?;
    assert!(matches!(store.replace(&path, Some(&read), Bytes::from("f")).await?, Replaced::Done(_)));
    store.delete(&path).await?;
    assert!(matches!(store.replace(&path, Some(&read), Bytes::from("g")).await?, Replaced::Lost(None)));
    Ok(())
}

async fn lets_one_writer_win(store: &Store) -> Outcome {
    let names = store.root().names("race")?;
    store.make_place(&names, None).await?;
    let path = names.current();
    store.replace(&path, None, Bytes::from("0 start")).await?;
    let writer = |name: usize| {
        let (store, path) = (store.clone(), path.clone());
        tokio::spawn(async move {
            let mut won = 0;
            while won < 5 {
                let found = store.get(&path).await?;
                let text = std::str::from_utf8(&found.bytes).expect("text");
                let count: u64 = text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
                let next = Bytes::from(format!("{} {name} {won}", count + 1));
                won += u64::from(matches!(store.replace(&path, Some(&found), next).await?, Replaced::Done(_)));
            }
            Ok::<_, Error>(())
        })
    };
    let writers: Vec<_> = (0..4).map(writer).collect();
    for writer in writers {
        writer.await.expect("it did not panic")?;
    }
    assert!(store.get(&path).await?.bytes.starts_with(b"20 "), "no update was lost");
    store.delete(&path).await
}

async fn reads_lists_and_deletes(store: &Store) -> Outcome {
    for pipeline in ["plain", "ä b/c%"] {
        let names = store.root().names(pipeline)?;
        assert!(store.list(&names, names.base()).await?.is_empty());
        let path = names.file(FileId(7));
        assert!(store.find(&path).await?.is_none() && store.size(&path).await?.is_none());
        assert!(matches!(store.get(&path).await, Err(Error::Missing { .. })));
        store.make_place(&names, None).await?;
        store.replace(&names.current(), None, Bytes::from("a claim")).await?;
        store.create(&path, Bytes::from("0123456789")).await?;
        store.create(&names.checkpoint(CheckpointId(3)), Bytes::from("{}")).await?;
        assert_eq!(store.size(&path).await?, Some(10));
        assert_eq!(store.get_range(&path, 3..7).await?, "3456");
        assert!(store.get_range(&path, 8..12).await.is_err(), "a range past the end is not good");
        store.delete(&names.current()).await?;
        let listed = ours(store, &names).await?;
        assert_eq!(listed, [(Object::Checkpoint(CheckpointId(3)), 2), (Object::File(FileId(7)), 10)]);
        assert!(store.pipelines().await?.contains(&pipeline.to_owned()));
        for _ in 0..2 {
            store.delete(&path).await?;
            store.delete(&names.checkpoint(CheckpointId(3))).await?;
        }
        assert!(ours(store, &names).await?.is_empty());
    }
    Ok(())
}

/// What a pipeline has, without the lock file of a local root.
async fn ours(store: &Store, names: &Names) -> Result<Vec<(Object, u64)>, Error> {
    let listed = store.list(names, names.base()).await?;
    let ours = listed.iter().filter(|listed| listed.object != Object::Foreign);
    Ok(ours.map(|listed| (listed.object, listed.size)).collect())
}

async fn carries_a_service(store: &Store, scratch: &Path) -> Outcome {
    let mut service = Service::start(store, scratch, 2).await?;
    assert!(service.restored.is_none());
    service.grow(0, Compression::None);
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        service.grow(100, compression);
        service.grow(20 << 20, compression);
    }
    let (uploaded, published) = service.checkpoint().await?;
    assert_eq!((uploaded.shipped, uploaded.referenced_bytes), (7, 0));
    let stored: u64 = published.manifest.files.iter().map(|f| f.stored).sum();
    assert!(stored < 55 << 20, "packed files are smaller: {stored}");
    service.grow(100, Compression::None);
    let (uploaded, _) = service.checkpoint().await?;
    assert_eq!((uploaded.shipped, uploaded.referenced_bytes), (1, stored));

    let again = Service::start(store, scratch, 2).await?;
    let restored = again.restored.as_ref().expect("two checkpoints");
    assert!(restored.fallbacks.is_empty() && restored.reused_bytes == 0);
    assert!(again.state() == service.state(), "the state is the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    suite(Store::open("memory:").expect("memory opens")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("root");
    suite(Store::open(path.to_str().expect("text")).expect("a folder opens")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let Ok(url) = std::env::var("HIGHWATER_TEST_S3") else { return };
    let unique = FileId::random(&TokioHost::default());
    suite(Store::open(&format!("{url}/{unique}")).expect("the bucket opens")).await;
}
