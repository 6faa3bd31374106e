//! One run of the simulated service: claims, restores, counts, checkpoints, collects, with the real
//! code of the checkpoint crate.

use crate::invariants;
use crate::model::Model;
use crate::world::World;
use highwater_checkpoint::collect::Collector;
use highwater_checkpoint::{
    Compression, Error, FetchOptions, Host, InlinePart, LocalFile, Manifest, PublishOptions, Publisher, Resolved,
    Retention, Store, Trigger, UploadOptions, Uploader, Verify, resolve,
};
use highwater_core::WallMicros;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The age guard of collection in simulations.
pub const AGE_GUARD: Duration = Duration::from_secs(600);

/// What a process is told to do.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Its name in the trace.
    pub name: String,
    /// So many checkpoints.
    pub rounds: u64,
    /// So many checkpoints stay.
    pub keep: usize,
    /// Its folder.
    pub folder: PathBuf,
    /// So many of 1000 uploads take longer than the age guard.
    pub slow: u64,
}

/// How a process ended by itself.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It did what it was told; whether its last checkpoint was published.
    Done(bool),
    /// Another process claimed the pipeline.
    Fenced,
    /// The store did not let it begin.
    Failed(String),
}

/// State that is written but may not be published yet.
enum Part {
    File(LocalFile),
    Inline(InlinePart),
}

struct Process {
    world: Arc<World>,
    orders: Orders,
    publisher: Publisher,
    uploader: Uploader,
    collector: Collector,
    model: Model,
    parts: Vec<Part>,
    sequence: u64,
}

/// Runs a process to its end.
pub async fn run(world: Arc<World>, store: Store, orders: Orders) -> End {
    world.count(|counts| counts.processes += 1);
    world.tell(format!("{} starts", orders.name));
    let name = orders.name.clone();
    let mut process = match Process::start(Arc::clone(&world), &store, orders).await {
        Ok(process) => process,
        Err(error) => {
            world.tell(format!("{name} cannot start: {}", chain(&error)));
            return End::Failed(error.to_string());
        }
    };
    let mut published = false;
    for round in 0..process.orders.rounds {
        match process.round(round).await {
            Ok(done) => published = done,
            Err(()) => return End::Fenced,
        }
    }
    world.tell(format!("{name} ends"));
    End::Done(published)
}

impl Process {
    async fn start(world: Arc<World>, store: &Store, orders: Orders) -> Result<Self, Error> {
        let pipeline = world.names.pipeline().to_owned();
        let trust = AGE_GUARD / 2;
        let options = PublishOptions { retention: Retention { keep: orders.keep }, trust };
        let mut publisher = Publisher::claim(store, &pipeline, options).await?;
        world.tell(format!("{} claims generation {}", orders.name, publisher.generation()));
        let verify = if world.host.chance(300) { Verify::Digest } else { Verify::Length };
        let uploader = Uploader::new(store, &pipeline, UploadOptions { parallel: 2, verify, trust })?;
        let collector = Collector::new(store, &pipeline, AGE_GUARD)?;
        let began = world.pointer();
        let resolved =
            resolve(store, &pipeline, &orders.folder, FetchOptions { parallel: 2, ..FetchOptions::default() }).await;
        let damage = matches!(resolved, Err(Error::NothingVerifies { .. }));
        if let (Some(began), Some(ended), true) = (began, world.pointer(), resolved.is_ok() || damage) {
            let restored = resolved.as_ref().ok().and_then(Option::as_ref).map(|r| r.manifest.checkpoint);
            let damaged = world.damaged(&began);
            let verdict = invariants::restore_finds_the_newest_good_point(&began, &ended, &damaged, restored);
            world.judge("restore finds the newest good point", verdict);
        }
        let (mut model, mut parts, mut sequence) = (Model::default(), Vec::new(), 0);
        if let Some(resolved) = resolved? {
            publisher.restored(&resolved);
            uploader.restored(&resolved);
            (model, parts, sequence) = take_over(&world, &orders, resolved);
        }
        Ok(Self { world, orders, publisher, uploader, collector, model, parts, sequence })
    }

    /// One checkpoint, which may fail; an error when the process has to stop.
    async fn round(&mut self, round: u64) -> Result<bool, ()> {
        let world = Arc::clone(&self.world);
        let host = world.host.clone();
        for _ in 0..=host.below(6) {
            self.model.count(host.below(24) as u32, 1 + host.below(100));
        }
        self.write_part();
        host.sleep(host.some_time(Duration::from_secs(3))).await;
        let taken = self.checkpoint(round).await;
        let name = &self.orders.name;
        let published = match taken {
            Ok(()) => true,
            Err(error @ Error::Fenced { .. }) => {
                world.tell(format!("{name} is fenced: {error}"));
                world.fenced(self.publisher.generation());
                return Err(());
            }
            Err(error) => {
                world.tell(format!("{name} fails to checkpoint: {}", chain(&error)));
                world.count(|counts| counts.failed += 1);
                if matches!(error, Error::Stale { .. }) {
                    world.count(|counts| counts.stale += 1);
                    self.uploader.forget();
                }
                false
            }
        };
        if host.chance(500) {
            self.collect().await;
        }
        Ok(published)
    }

    /// Writes what changed: to a local file, or as an inline part when it is little.
    fn write_part(&mut self) {
        self.sequence += 1;
        let host = self.world.host.clone();
        let is_base = self.parts.len() >= 4 || host.chance(150);
        let bytes = if is_base { self.model.base() } else { self.model.delta() };
        if is_base {
            self.parts.clear();
        }
        if bytes.len() <= 24 && host.chance(500) {
            self.parts.push(Part::Inline(InlinePart::new(0, self.sequence, bytes)));
            return;
        }
        let compression = match host.below(6) {
            0 => Compression::Lz4,
            1 => Compression::Zstd,
            _ => Compression::None,
        };
        let path = self.orders.folder.join(format!("made-{}", self.sequence));
        std::fs::create_dir_all(&self.orders.folder).expect("a scratch folder can be made");
        std::fs::write(&path, bytes).expect("a scratch file can be written");
        self.parts.push(Part::File(local_file(path, self.sequence, compression)));
    }

    async fn checkpoint(&mut self, round: u64) -> Result<(), Error> {
        let host = self.world.host.clone();
        let files: Vec<LocalFile> = self
            .parts
            .iter()
            .filter_map(|p| if let Part::File(file) = p { Some(file.clone()) } else { None })
            .collect();
        let inline =
            self.parts.iter().filter_map(|p| if let Part::Inline(part) = p { Some(part.clone()) } else { None });
        let inline: Vec<InlinePart> = inline.collect();
        let epoch = self.world.expect(self.model.counters());
        let uploaded = self.uploader.upload(&files, self.publisher.next_checkpoint()).await?;
        if host.chance(self.orders.slow) {
            self.world.tell(format!("{} is slow", self.orders.name));
            host.sleep(host.some_time(AGE_GUARD * 2)).await;
        }
        let manifest = Manifest {
            epoch,
            wall: WallMicros(host.clock().wall().0),
            files: uploaded.files,
            inline,
            ..Manifest::draft(self.world.names.pipeline(), Trigger::Interval)
        };
        let published = self.publisher.publish(manifest).await?;
        let checkpoint = published.manifest.checkpoint;
        self.world.tell(format!(
            "{} published checkpoint {checkpoint} of round {round}: {} files, {} shipped",
            self.orders.name,
            published.manifest.files.len(),
            uploaded.shipped
        ));
        self.world.confirmed(checkpoint, published.digest);
        self.uploader.published(&published.manifest);
        Ok(())
    }

    async fn collect(&mut self) {
        match self.collector.collect().await {
            Ok(swept) => self.world.tell(format!("{} swept: {swept:?}", self.orders.name)),
            Err(error) => self.world.tell(format!("{} cannot sweep: {}", self.orders.name, chain(&error))),
        }
    }
}

/// The counters that a checkpoint held, and its parts as parts of the next.
fn take_over(world: &World, orders: &Orders, resolved: Resolved) -> (Model, Vec<Part>, u64) {
    let Resolved { manifest, files, fallbacks, .. } = resolved;
    world.count(|counts| {
        counts.restored += 1;
        counts.fallbacks += fallbacks.len() as u64;
    });
    let passed = fallbacks.iter().filter_map(|f| f.checkpoint).collect::<Vec<_>>();
    world.tell(format!("{} restored checkpoint {} (passed over: {passed:?})", orders.name, manifest.checkpoint));
    let mut parts: Vec<(u64, Vec<u8>, Part)> = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file.path).expect("a restored file is there");
        let part = local_file(file.path, file.meta.sequence, file.meta.compression);
        parts.push((file.meta.sequence, bytes, Part::File(part)));
    }
    for part in manifest.inline {
        parts.push((part.sequence, part.data.0.clone(), Part::Inline(part)));
    }
    parts.sort_by_key(|(sequence, ..)| *sequence);
    let model = Model::from_parts(parts.iter().map(|(_, bytes, _)| bytes.as_slice()));
    let model = model.unwrap_or_else(|reason| {
        world.judge("a restored state equals the model", Err(reason));
        Model::default()
    });
    world.restored(manifest.epoch, model.counters());
    let sequence = parts.last().map_or(0, |(sequence, ..)| *sequence);
    (model, parts.into_iter().map(|(.., part)| part).collect(), sequence)
}

fn local_file(path: PathBuf, sequence: u64, compression: Compression) -> LocalFile {
    LocalFile { path, worker: 0, sequence, first_key: vec![0], last_key: vec![255], digest: None, compression }
}

/// An error with its cause; scratch paths stay out of the trace.
fn chain(error: &Error) -> String {
    match error {
        Error::Local { action, source, .. } => format!("cannot {action} a local file: {source}"),
        error => error.to_string(),
    }
}
