//! A small stateful service over the whole crate: its state is a list of files of random bytes.

use highwater_checkpoint::{
    Compression, Error, FetchOptions, LocalFile, Manifest, PublishOptions, Published, Publisher, Resolved, Retention,
    Store, Trigger, UploadOptions, Uploaded, Uploader, resolve,
};
use highwater_core::{Epoch, Rng, WallMicros};
use std::path::{Path, PathBuf};

pub(crate) const PIPELINE: &str = "counter service";

/// One run of the service.
pub(crate) struct Service {
    pub(crate) publisher: Publisher,
    pub(crate) uploader: Uploader,
    pub(crate) files: Vec<LocalFile>,
    pub(crate) restored: Option<Resolved>,
    folder: PathBuf,
    rng: Rng,
}

impl Service {
    /// Claims, restores into a new folder below `scratch` and goes on.
    pub(crate) async fn start(store: &Store, scratch: &Path, keep: usize) -> Result<Self, Error> {
        let options = PublishOptions { retention: Retention { keep }, ..PublishOptions::default() };
        let mut publisher = Publisher::claim(store, PIPELINE, options).await?;
        let uploader = Uploader::new(store, PIPELINE, UploadOptions::default())?;
        let folder = scratch.join(format!("run-{}", publisher.generation()));
        let restored = resolve(store, PIPELINE, &folder, FetchOptions::default()).await?;
        let mut files = Vec::new();
        if let Some(resolved) = &restored {
            publisher.restored(resolved);
            uploader.restored(resolved);
            files = resolved.files.iter().map(|file| local(file.path.clone(), file.meta.sequence)).collect();
        }
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let rng = Rng::seeded(publisher.generation().0);
        Ok(Self { publisher, uploader, files, restored, folder, rng })
    }

    /// Adds a file of `bytes` random but compressible bytes.
    pub(crate) fn grow(&mut self, bytes: usize, compression: Compression) {
        let sequence = self.files.iter().map(|f| f.sequence).max().unwrap_or(0) + 1;
        let path = self.folder.join(format!("made-{sequence}"));
        let content: Vec<u8> =
            (0..bytes.div_ceil(8)).flat_map(|_| self.rng.below(1 << 30).to_le_bytes()).take(bytes).collect();
        std::fs::write(&path, content).expect("a file can be written");
        self.files.push(LocalFile { compression, ..local(path, sequence) });
    }

    /// Uploads without publishing.
    pub(crate) async fn upload(&self) -> Result<(Uploaded, Manifest), Error> {
        let uploaded = self.uploader.upload(&self.files, self.publisher.next_checkpoint()).await?;
        let manifest = Manifest {
            epoch: Epoch(self.files.len() as u64),
            wall: WallMicros(1),
            files: uploaded.files.clone(),
            ..Manifest::draft(PIPELINE, Trigger::Manual)
        };
        Ok((uploaded, manifest))
    }

    /// Takes a checkpoint.
    pub(crate) async fn checkpoint(&mut self) -> Result<(Uploaded, Published), Error> {
        let (uploaded, manifest) = self.upload().await?;
        let published = self.publisher.publish(manifest).await?;
        self.uploader.published(&published.manifest);
        Ok((uploaded, published))
    }

    /// The state: the contents of all files in order.
    pub(crate) fn state(&self) -> Vec<Vec<u8>> {
        self.files.iter().map(|file| std::fs::read(&file.path).expect("a file of the service")).collect()
    }
}

fn local(path: PathBuf, sequence: u64) -> LocalFile {
    LocalFile {
        path,
        worker: 0,
        sequence,
        first_key: vec![0],
        last_key: vec![255],
        digest: None,
        compression: Compression::None,
    }
}
