//! The `file` sink: NDJSON, CSV or Parquet files in a folder, exactly once.
//!
//! Owns the options, the files' names and how they get into place; `encode` makes their bytes.
//! Invariants: a part's final name, which holds its checkpoint's number, is the fence: it is made by
//! link(2) from a file that is complete and synced, so it appears once and whole or not at all; and
//! nothing that has a final name is ever changed.

mod by_key;
mod encode;
mod values;

#[cfg(test)]
mod tests;

use crate::connector::SinkRequest;
use crate::options::{Kind, OptionSpec, Settings};
use crate::shape::Envelope;
use crate::{FORMAT_OPTION, Format};
use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use encode::{Encoding, OP_COLUMN};
use highwater_core::{CheckpointId, Rng};
use highwater_engine::sink::{DeliveryPermit, Sink, Target};
use highwater_engine::{Batch, Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The options of the `file` sink.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("path", Kind::Text, "The folder; made when it is not there.").required(),
    FORMAT_OPTION,
    OptionSpec::new(
        "type",
        Kind::Choice(&["append-only", "changelog", "upsert", "debezium"]),
        "append-only: rows as they come; an input that updates or deletes is refused. changelog: every insert and delete as a row, told apart by the column __op, 'I' or 'D'; an update is both. upsert and debezium: what became of each key since the last checkpoint, as FORMAT UPSERT and FORMAT DEBEZIUM write it. Default: what FORMAT says, append-only for PLAIN.",
    ),
    OptionSpec::new(
        "primary_key",
        Kind::Text,
        "With upsert and debezium, the columns by which a row is known, with commas between them.",
    ),
    OptionSpec::new(
        "force_append_only",
        Kind::Boolean,
        "With append-only, take an input that updates or deletes and leave its deletes out.",
    )
    .or("false"),
    OptionSpec::new(
        "prefix",
        Kind::Text,
        "What file names begin with: letters, digits, - and _. Two sinks of one folder need two. Default: the sink's name.",
    ),
    OptionSpec::new(
        "parquet.compression",
        Kind::Choice(&["zstd", "snappy", "lz4", "none"]),
        "How Parquet files are compressed.",
    )
    .or("zstd"),
];

/// What becomes of updates and deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changes {
    /// There are none.
    AppendOnly,
    /// Deletes are left out.
    InsertsOnly,
    /// They are rows of their own.
    Changelog,
    /// What became of each key: its row or none.
    Upsert,
    /// What became of each key: the row before and after.
    Debezium,
}

impl Changes {
    /// Whether rows are known by a key.
    const fn is_by_key(self) -> bool {
        matches!(self, Self::Upsert | Self::Debezium)
    }
}

/// The sink as a statement describes it.
#[derive(Clone, Debug)]
pub(crate) struct FileSink {
    folder: PathBuf,
    prefix: String,
    encoding: Encoding,
    /// The columns by which a row is known.
    key: Vec<String>,
}

impl FileSink {
    pub(crate) fn new(asked: &SinkRequest<'_>) -> Result<Self> {
        let (name, settings, format) = (asked.name, asked.settings, asked.format);
        let path = settings.text("path").expect("it is required");
        let changes = changes_of(settings, asked.envelope)?;
        let key = key_of(settings, changes)?;
        let prefix = match settings.text("prefix") {
            Some(prefix) if prefix.is_empty() || safe(prefix) != prefix => {
                return Err(settings.refuse("prefix", prefix, "expected letters, digits, - and _"));
            }
            Some(prefix) => prefix.to_owned(),
            None => safe(name),
        };
        let format = Format::choose(format, settings, "")?;
        if changes.is_by_key() && format != Format::Json {
            return Err(Error::Plan(format!("upsert and debezium write JSON, not {}", format.name())));
        }
        let encoding = Encoding {
            format,
            changes,
            compression: encode::compression(settings.text("parquet.compression").unwrap_or_default()),
        };
        let folder = PathBuf::from(path.strip_prefix("file://").unwrap_or(path));
        Ok(Self { folder, prefix, encoding, key })
    }

    fn target(&self, schema: &SchemaRef) -> Result<FileTarget> {
        std::fs::create_dir_all(&self.folder).map_err(|error| failed(&self.folder, error))?;
        // The folder may be new, and must not vanish with the parts in it.
        if let Some(parent) = std::path::absolute(&self.folder).ok().as_deref().and_then(Path::parent) {
            sync_folder(parent)?;
        }
        let keys = self.keys(schema)?;
        let target = FileTarget { sink: self.clone(), schema: self.encoding.schema(schema), keys };
        target.remove_leftovers()?;
        Ok(target)
    }

    /// The places of the key's columns.
    fn keys(&self, schema: &SchemaRef) -> Result<Vec<usize>> {
        let place = |name: &String| {
            let found = schema.index_of(name);
            found
                .map_err(|_| Error::Plan(format!("option 'primary_key' names '{name}', which the input does not have")))
        };
        self.key.iter().map(place).collect()
    }
}

/// What becomes of changes, by the option and by FORMAT.
fn changes_of(settings: &Settings, envelope: Envelope) -> Result<Changes> {
    let by_format = match envelope {
        Envelope::Plain => None,
        Envelope::Upsert => Some("upsert"),
        Envelope::Debezium => Some("debezium"),
    };
    let chosen = match (settings.text("type"), by_format) {
        (Some(chosen), Some(format)) if chosen != format => {
            return Err(settings.refuse("type", chosen, &format!("but the statement says FORMAT {}", envelope.name())));
        }
        (chosen, format) => chosen.or(format).unwrap_or("append-only"),
    };
    match (chosen, settings.flag("force_append_only")) {
        ("append-only", true) => Ok(Changes::InsertsOnly),
        ("append-only", false) => Ok(Changes::AppendOnly),
        (_, true) => Err(settings.refuse("force_append_only", "true", "it goes with type = 'append-only' only")),
        ("upsert", false) => Ok(Changes::Upsert),
        ("debezium", false) => Ok(Changes::Debezium),
        (_, false) => Ok(Changes::Changelog),
    }
}

/// The columns by which a row is known; empty where that is not asked.
fn key_of(settings: &Settings, changes: Changes) -> Result<Vec<String>> {
    let names = settings.text("primary_key");
    let key: Vec<String> = names.iter().flat_map(|names| names.split(',')).map(|name| name.trim().to_owned()).collect();
    if let Some(names) = names.filter(|_| !changes.is_by_key()) {
        return Err(settings.refuse("primary_key", names, "it goes with type = 'upsert' and 'debezium' only"));
    }
    if changes.is_by_key() && (key.is_empty() || key.iter().any(String::is_empty)) {
        let why = "upsert and debezium need the option 'primary_key': the columns by which a row is known";
        return Err(Error::Plan(why.into()));
    }
    Ok(key)
}

/// A name in which other characters than letters, digits, - and _ are replaced by _.
fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }).collect()
}

fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::connector(format!("'{}'", path.display()), error)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, error))
}

/// Whether a file is the temporary one of a delivery by the sink with this prefix.
fn is_temporary(name: &str, prefix: &str) -> bool {
    let part =
        name.strip_prefix('.').and_then(|name| name.strip_prefix(prefix)).and_then(|name| name.strip_prefix('-'));
    part.is_some_and(|part| {
        name.ends_with(".tmp") && part.find('-') == Some(20) && part[..20].bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl Sink for FileSink {
    fn check(&self, schema: &SchemaRef, append_only: bool) -> Result<()> {
        if self.encoding.changes == Changes::AppendOnly && !append_only {
            return Err(Error::Plan(
                "option 'type' of connector 'file' is 'append-only', but the input updates or deletes rows: set \
                 type = 'changelog', 'upsert' or 'debezium', or force_append_only = 'true' to leave deletes out"
                    .into(),
            ));
        }
        if self.encoding.changes == Changes::Changelog && schema.column_with_name(OP_COLUMN).is_some() {
            return Err(Error::Plan(format!("a changelog adds the column '{OP_COLUMN}', which the input has already")));
        }
        self.keys(schema)?;
        for field in schema.fields() {
            // Some writers find out only when they meet a value of the type.
            let nullable = Arc::new(Schema::new(vec![Field::new(field.name(), field.data_type().clone(), true)]));
            let column = new_null_array(field.data_type(), 1);
            let row = RecordBatch::try_new(Arc::clone(&nullable), vec![column]);
            let row = row.map_err(|error| Error::data("sink", error))?;
            self.encoding.write(&nullable, &[row], std::io::sink()).map_err(|reason| {
                let format = self.encoding.format.name();
                Error::Plan(format!("column '{}' cannot be written to {format} files: {reason}", field.name()))
            })?;
        }
        Ok(())
    }

    fn key(&self, schema: &SchemaRef) -> Result<Vec<usize>> {
        self.keys(schema)
    }

    fn open(&self, schema: &SchemaRef) -> Result<Box<dyn Target>> {
        Ok(Box::new(self.target(schema)?))
    }
}

/// The folder, open for one worker's parts.
struct FileTarget {
    sink: FileSink,
    schema: SchemaRef,
    keys: Vec<usize>,
}

/// What sets this process's temporary files apart from those of others, dead or alive.
fn process_token() -> u64 {
    static TOKEN: OnceLock<u64> = OnceLock::new();
    *TOKEN.get_or_init(|| Rng::from_os().next_u64())
}

/// A temporary name that no other delivery uses, in this process or another: a process that lost
/// its place may still be delivering the same part.
fn temporary_name(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(".{name}.{:016x}-{}.tmp", process_token(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl FileTarget {
    fn part_name(&self, checkpoint: CheckpointId, part: u32) -> String {
        let extension = self.sink.encoding.format.extensions()[0];
        format!("{}-{:020}-{part:05}.{extension}", self.sink.prefix, checkpoint.0)
    }

    /// Removes what deliveries of other processes left half-way.
    fn remove_leftovers(&self) -> Result<()> {
        let folder = &self.sink.folder;
        let own = format!(".{:016x}-", process_token());
        for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
            let entry = entry.map_err(|error| failed(folder, error))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_temporary(name, &self.sink.prefix) && !name.contains(&own) {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Delivers a part of a published checkpoint, unless it was delivered before.
    fn put(&self, checkpoint: CheckpointId, part: u32, batches: &[Batch]) -> Result<()> {
        let name = self.part_name(checkpoint, part);
        let place = self.sink.folder.join(&name);
        let data = |reason: String| Error::data(format!("sink file '{}'", place.display()), reason);
        if batches.is_empty() {
            return Ok(());
        }
        let encoding = &self.sink.encoding;
        let rows: Result<Vec<RecordBatch>, String> = match encoding.changes {
            Changes::Upsert => {
                by_key::net(batches, &self.keys).and_then(|net| net.upserts(&self.keys)).map(|rows| vec![rows])
            }
            Changes::Debezium => by_key::net(batches, &self.keys).and_then(|net| net.changes()).map(|rows| vec![rows]),
            _ => batches.iter().map(|batch| encoding.expand(batch)).collect(),
        };
        let rows = rows.map_err(data)?;
        if rows.iter().all(|rows| rows.num_rows() == 0) {
            return Ok(());
        }
        let temporary = self.sink.folder.join(temporary_name(&name));
        let put = self.write(&temporary, &rows).and_then(|()| self.put_if_absent(&temporary, &place));
        let removed = remove_if_there(&temporary);
        put?;
        removed
    }

    fn write(&self, temporary: &Path, rows: &[RecordBatch]) -> Result<()> {
        let file = File::create_new(temporary).map_err(|error| failed(temporary, error))?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        self.sink.encoding.write(&self.schema, rows, &mut out).map_err(|reason| failed(temporary, reason))?;
        out.flush().map_err(|error| failed(temporary, error))?;
        drop(out);
        file.sync_all().map_err(|error| failed(temporary, error))
    }

    fn put_if_absent(&self, temporary: &Path, place: &Path) -> Result<()> {
        match std::fs::hard_link(temporary, place) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.check_same(temporary, place)?,
            Err(error) => {
                let reason = format!("{error}; the folder must be on a file system that has hard links");
                return Err(failed(place, reason));
            }
        }
        // Also when it was there: who linked it may have died before this.
        sync_folder(&self.sink.folder)
    }

    /// A part that is there already must be the same part, not another sink's of that name.
    fn check_same(&self, temporary: &Path, place: &Path) -> Result<()> {
        let same = match self.sink.encoding.format {
            Format::Parquet => parquet_rows(temporary)? == parquet_rows(place)?,
            _ => same_bytes(temporary, place).map_err(|error| failed(place, error))?,
        };
        if same {
            return Ok(());
        }
        Err(Error::data(
            format!("sink file '{}'", place.display()),
            "it exists and holds other rows, perhaps of an earlier sink of this name: give the sink another prefix or \
             path, or move those files away",
        ))
    }
}

fn same_bytes(a: &Path, b: &Path) -> std::io::Result<bool> {
    let (mut a, mut b) = (BufReader::new(File::open(a)?), BufReader::new(File::open(b)?));
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let common = left.len().min(right.len());
        if common == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..common] != right[..common] {
            return Ok(false);
        }
        a.consume(common);
        b.consume(common);
    }
}

/// The rows of a file, however it was cut into row groups.
fn parquet_rows(path: &Path) -> Result<RecordBatch> {
    let file = File::open(path).map_err(|error| failed(path, error))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| Ok((Arc::clone(builder.schema()), builder.build()?)));
    let (schema, reader) = reader.map_err(|error| failed(path, error))?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| failed(path, error))?;
    concat_batches(&schema, &batches).map_err(|error| failed(path, error))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, error)),
        _ => Ok(()),
    }
}

impl Target for FileTarget {
    fn deliver(&mut self, permit: DeliveryPermit, part: u32, rows: &[Batch]) -> Result<()> {
        self.put(permit.checkpoint(), part, rows)
    }
}
