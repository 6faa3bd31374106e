//! `highwater checkpoints`: lists, shows, verifies and prunes the checkpoints of a root by reading
//! the root itself; no server is needed, and one that runs is not disturbed.

use crate::exit::{self, Exit, Failure, Outcome};
use crate::figures;
use crate::table::aligned;
use clap::Subcommand;
use highwater::CheckpointId;
use highwater::checkpoint::inspect::{self, CheckpointSummary, PipelineSummary, Pruned};
use highwater::checkpoint::{Error, Manifest, Store, collect};

/// Arguments of `highwater checkpoints`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  highwater checkpoints list highwater-data/checkpoints
  highwater checkpoints show s3://bucket/highwater bids 12
  highwater checkpoints verify highwater-data/checkpoints
  highwater checkpoints prune highwater-data/checkpoints --retain 1")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every pipeline and checkpoint: when, epoch, keys, size
    List {
        /// Folder or s3://bucket/prefix
        root: String,
        /// As JSON lines
        #[arg(long)]
        json: bool,
    },
    /// One checkpoint in full: offsets, operators, files
    Show {
        /// Folder or s3://bucket/prefix
        root: String,
        /// Whose
        pipeline: String,
        /// Which; the newest by default
        checkpoint: Option<u64>,
        /// The manifest as it is stored
        #[arg(long)]
        json: bool,
    },
    /// Read everything and compare lengths and digests
    Verify {
        /// Folder or s3://bucket/prefix
        root: String,
        /// Whose; all by default
        pipeline: Option<String>,
        /// Which; all by default
        checkpoint: Option<u64>,
    },
    /// Keep the newest few whole ones and remove what nothing names any more
    Prune {
        /// Folder or s3://bucket/prefix
        root: String,
        /// Whose; all by default
        pipeline: Option<String>,
        /// How many whole ones are kept of each pipeline
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        retain: u32,
    },
}

/// Does what the arguments say.
///
/// # Errors
/// A root that cannot be used.
pub(crate) fn main(arguments: Arguments) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::storage("threads", error))?;
    runtime.block_on(async {
        match arguments.command {
            Command::List { root, json } => list(&open(&root)?, json).await,
            Command::Show { root, pipeline, checkpoint, json } => {
                show(&open(&root)?, &pipeline, checkpoint.map(CheckpointId), json).await
            }
            Command::Verify { root, pipeline, checkpoint } => {
                verify(&open(&root)?, pipeline.as_deref(), checkpoint.map(CheckpointId)).await
            }
            Command::Prune { root, pipeline, retain } => {
                prune(&open(&root)?, pipeline.as_deref(), retain as usize).await
            }
        }
    })
}

/// Opens a root for looking at it; unlike a server it does not create one.
fn open(root: &str) -> Outcome<Store> {
    let local = root.strip_prefix("file://").unwrap_or(root);
    if !local.contains("://") && !local.starts_with("memory:") && !std::path::Path::new(local).is_dir() {
        return Err(Failure::new(Exit::Storage, format!("{root}: there is no such folder")));
    }
    Store::open(root).map_err(|error| failure(root, error))
}

fn failure(what: &str, error: Error) -> Failure {
    let exit = if error.is_damage() { Exit::Differs } else { Exit::Storage };
    Failure::new(exit, format!("{what}: {error}"))
}

async fn pipelines(store: &Store, only: Option<&str>) -> Outcome<Vec<PipelineSummary>> {
    let mut found = inspect::list(store).await.map_err(|error| failure(store.root().url(), error))?;
    if let Some(only) = only {
        found.retain(|summary| summary.pipeline == only);
        if found.is_empty() {
            let message = format!("{}: there is no pipeline `{only}`", store.root().url());
            return Err(Failure::new(Exit::Storage, message));
        }
    }
    Ok(found)
}

async fn list(store: &Store, json: bool) -> Outcome {
    let found = pipelines(store, None).await?;
    if json {
        for summary in &found {
            for checkpoint in &summary.checkpoints {
                exit::print(&format!("{}\n", json_line(summary, checkpoint)))?;
            }
            if let Some(damage) = &summary.damage {
                let line = serde_json::json!({ "pipeline": summary.pipeline, "damage": damage });
                exit::print(&format!("{line}\n"))?;
            }
        }
        return Ok(Exit::Done);
    }
    let names = ["pipeline", "checkpoint", "at (UTC)", "epoch", "keys", "files", "size", "remark"].map(str::to_owned);
    let right = [false, true, false, true, true, true, true, false];
    let rows: Vec<Vec<String>> = found.iter().flat_map(rows_of).collect();
    exit::print(&aligned(&names, &right, &rows))?;
    Ok(Exit::Done)
}

fn rows_of(summary: &PipelineSummary) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> =
        summary.checkpoints.iter().map(|checkpoint| row(&summary.pipeline, checkpoint)).collect();
    if let Some(damage) = &summary.damage {
        let mut row = vec![summary.pipeline.clone()];
        row.resize(7, String::new());
        row.push(format!("DAMAGED: {damage}"));
        rows.push(row);
    }
    rows
}

fn row(pipeline: &str, checkpoint: &CheckpointSummary) -> Vec<String> {
    let entry = &checkpoint.entry;
    let mut remark: Vec<String> = entry.pin.iter().map(|name| format!("pinned as {name}")).collect();
    if entry.suspect {
        remark.push("did not verify once".to_owned());
    }
    let mut row = vec![pipeline.to_owned(), entry.checkpoint.to_string(), utc(entry.wall.0)];
    match &checkpoint.content {
        Ok(content) => row.extend([
            content.epoch.to_string(),
            content.keys.to_string(),
            content.files.to_string(),
            figures::bytes(content.bytes),
        ]),
        Err(damage) => {
            row.resize(7, String::new());
            remark.push(format!("DAMAGED: {damage}"));
        }
    }
    row.push(remark.join(", "));
    row
}

fn json_line(summary: &PipelineSummary, checkpoint: &CheckpointSummary) -> String {
    let entry = &checkpoint.entry;
    let content = checkpoint.content.as_ref();
    serde_json::json!({
        "pipeline": summary.pipeline,
        "checkpoint": entry.checkpoint,
        "wall": entry.wall,
        "generation": entry.generation,
        "suspect": entry.suspect,
        "pin": entry.pin,
        "epoch": content.map(|content| content.epoch).ok(),
        "keys": content.map(|content| content.keys).ok(),
        "files": content.map(|content| content.files).ok(),
        "bytes": content.map(|content| content.bytes).ok(),
        "damage": content.err(),
    })
    .to_string()
}

async fn show(store: &Store, pipeline: &str, checkpoint: Option<CheckpointId>, json: bool) -> Outcome {
    let url = store.root().url();
    let known = store.pipelines().await.map_err(|error| failure(url, error))?;
    if !known.iter().any(|name| name == pipeline) {
        return Err(Failure::new(Exit::Storage, format!("{url}: there is no pipeline `{pipeline}`")));
    }
    let manifest = inspect::show(store, pipeline, checkpoint).await.map_err(|error| failure(url, error))?;
    if json {
        let (text, _) = manifest.to_text().map_err(|error| failure(pipeline, error))?;
        exit::print(&format!("{}\n", text.trim_end()))?;
    } else {
        exit::print(&describe(&manifest))?;
    }
    Ok(Exit::Done)
}

/// A manifest for people.
fn describe(manifest: &Manifest) -> String {
    let stats = &manifest.stats;
    let facts = [
        ("pipeline", manifest.pipeline.clone()),
        ("checkpoint", manifest.checkpoint.to_string()),
        ("at (UTC)", utc(manifest.wall.0)),
        ("epoch", manifest.epoch.to_string()),
        ("generation", manifest.generation.to_string()),
        ("asked for by", format!("{:?}", manifest.requested_by).to_lowercase()),
        ("parent", manifest.parent.map_or_else(|| "none".to_owned(), |parent| parent.to_string())),
        ("workers", manifest.workers.to_string()),
        ("freeze", figures::micros(stats.freeze_us_max)),
        ("took", figures::micros(stats.duration_ms * 1000)),
        ("changed keys", stats.changed_keys.to_string()),
        ("delta", figures::bytes(stats.delta_bytes)),
        ("uploaded", figures::bytes(stats.uploaded_bytes)),
        ("referenced", figures::bytes(stats.referenced_bytes)),
    ];
    let mut out: String = facts.iter().map(|(name, value)| format!("{name:>13}: {value}\n")).collect();
    for sql in &manifest.sql {
        out += &format!("{:>13}: {}\n", "sql", sql.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    for (source, splits) in &manifest.sources {
        for (split, offset) in splits {
            out += &format!("{:>13}: {source} {split} at {offset}\n", "offset");
        }
    }
    for operator in &manifest.operators {
        let bytes = figures::bytes(operator.bytes);
        out += &format!("{:>13}: {} ({}), {} keys, {bytes}\n", "operator", operator.name, operator.kind, operator.keys);
    }
    for part in &manifest.inline {
        let bytes = figures::bytes(part.data.0.len() as u64);
        out += &format!("{:>13}: worker {} part {}, {bytes}\n", "inline", part.worker, part.sequence);
    }
    for file in manifest.all_files() {
        let size = figures::bytes(file.stored);
        out += &format!(
            "{:>13}: {} {size}, worker {}, of checkpoint {}\n",
            "file", file.id, file.worker, file.created_for
        );
    }
    out
}

async fn verify(store: &Store, only: Option<&str>, checkpoint: Option<CheckpointId>) -> Outcome {
    let mut damaged = 0;
    for summary in pipelines(store, only).await? {
        if let Some(damage) = &summary.damage {
            exit::print(&format!("{}: DAMAGED: {damage}\n", summary.pipeline))?;
            damaged += 1;
        }
        let all: Vec<CheckpointId> = summary.checkpoints.iter().map(|listed| listed.entry.checkpoint).collect();
        for id in checkpoint.map_or(all, |one| vec![one]) {
            let name = format!("{} {id}", summary.pipeline);
            let report = inspect::verify(store, &summary.pipeline, Some(id)).await;
            let report = report.map_err(|error| failure(&name, error))?;
            for damage in &report.damage {
                exit::print(&format!("{name}: DAMAGED: {damage}\n"))?;
            }
            damaged += report.damage.len();
            if report.is_good() {
                let (files, bytes) = (report.good_files, figures::bytes(report.bytes));
                exit::print(&format!("{name}: good, {files} files, {bytes}\n"))?;
            }
        }
    }
    Ok(if damaged == 0 { Exit::Done } else { Exit::Differs })
}

async fn prune(store: &Store, only: Option<&str>, retain: usize) -> Outcome {
    let mut exit = Exit::Done;
    for summary in pipelines(store, only).await? {
        let name = &summary.pipeline;
        let pruned = inspect::prune(store, name, retain, collect::AGE_GUARD).await;
        let Pruned { collected, damaged } = pruned.map_err(|error| failure(name, error))?;
        let (kept, removed) = (figures::bytes(collected.kept_bytes), figures::bytes(collected.removed_bytes));
        let files = (collected.kept_files, collected.removed_files, collected.young_files);
        exit::print(&format!(
            "{name}: kept {} files ({kept}), removed {} ({removed}), {} too young to judge\n",
            files.0, files.1, files.2
        ))?;
        if let Some(blocked) = collected.blocked {
            exit::print(&format!("{name}: no file was removed: {blocked}\n"))?;
            exit = Exit::Differs;
        }
        for one in damaged {
            let fate = if one.is_kept { "it stays, and is not counted" } else { "it was removed" };
            eprintln!("{name} {}: DAMAGED: {}; {fate}", one.checkpoint, one.reason);
            exit = Exit::Differs;
        }
    }
    Ok(exit)
}

/// Microseconds since 1970 as date and time.
fn utc(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}")
}

/// Days since 1970 as year, month and day (Howard Hinnant, "chrono-compatible low-level date algorithms").
const fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_735_689_599_999_999), "2024-12-31 23:59:59");
    }
}
