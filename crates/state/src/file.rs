//! Writing a snapshot's records into one SST file, durable before it is named to anybody.
//!
//! Invariants: keys ascend; the file and its folder are synced before [`write_file`] returns; the
//! digest and the length are those of the bytes on disk, read back.

use crate::error::{Error, Result};
use crate::key::{FileNumber, KEY_LENGTH, Record};
use crate::store::table_options;
use highwater_core::StoreId;
use rocksdb::{DBCompressionType, SstFileWriter};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How often pacing is asked while a file is written.
const PACE_BYTES: u64 = 256 << 10;

/// Compression of a file's blocks, beyond the packing of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As packed.
    None,
    /// Fast.
    #[default]
    Lz4,
    /// Small.
    Zstd,
}

/// Where and how a file is written.
pub struct FileOptions<'a> {
    /// The pipeline's prefix.
    pub store: StoreId,
    /// The number of the file.
    pub number: FileNumber,
    /// Its block compression.
    pub compression: Compression,
    /// Told about each few hundred KiB as they are written; it may wait.
    pub pace: &'a mut dyn FnMut(u64),
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Where it stands.
    pub path: PathBuf,
    /// Its number.
    pub number: FileNumber,
    /// Its length in bytes.
    pub length: u64,
    /// The BLAKE3 digest of its bytes.
    pub digest: [u8; 32],
    /// The first key in it.
    pub first_key: [u8; KEY_LENGTH],
    /// The last key in it.
    pub last_key: [u8; KEY_LENGTH],
    /// How many records it has.
    pub records: u64,
}

/// Writes records into a new file at `path`; they are sorted here. A failure leaves no file.
///
/// # Errors
/// When there are no records, two have one key, or the disk refuses.
pub fn write_file(path: &Path, records: &mut [Record], options: FileOptions<'_>) -> Result<WrittenFile> {
    records.sort_unstable_by_key(|record| record.key);
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Err(Error::Usage("a file without records"));
    };
    let (store, number) = (options.store, options.number);
    let (first_key, last_key) = (first.key.encode(store, number), last.key.encode(store, number));
    let pace = options.pace;
    let written = put_records(path, records, (store, number, options.compression), pace);
    let done = written.and_then(|()| seal(path, pace));
    match done {
        Ok((length, digest)) => Ok(WrittenFile {
            path: path.to_path_buf(),
            number,
            length,
            digest,
            first_key,
            last_key,
            records: records.len() as u64,
        }),
        Err(error) => {
            // Nobody knows the file yet; what cannot be removed is swept with the folder.
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

fn put_records(
    path: &Path,
    records: &[Record],
    (store, number, compression): (StoreId, FileNumber, Compression),
    pace: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut rocks = table_options(None);
    rocks.set_compression_type(match compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
        Compression::Zstd => DBCompressionType::Zstd,
    });
    rocks.set_bytes_per_sync(1 << 20);
    let mut writer = SstFileWriter::create(&rocks);
    let failed = |error| Error::rocks("write a state file", error);
    writer.open(path).map_err(failed)?;
    let mut unpaced = 0;
    for record in records {
        writer.put(record.key.encode(store, number), &record.value).map_err(failed)?;
        unpaced += record.value.len() as u64;
        if unpaced >= PACE_BYTES {
            pace(unpaced);
            unpaced = 0;
        }
    }
    pace(unpaced);
    writer.finish().map_err(failed)
}

/// Syncs a file and its folder; gives its length and digest.
fn seal(path: &Path, pace: &mut dyn FnMut(u64)) -> Result<(u64, [u8; 32])> {
    let mut file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    file.sync_all().map_err(|error| Error::io("sync", path, error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Error::io("sync", folder, error))?;
    digest(&mut file, pace).map_err(|error| Error::io("read back", path, error))
}

fn digest(file: &mut File, pace: &mut dyn FnMut(u64)) -> std::io::Result<(u64, [u8; 32])> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, *hasher.finalize().as_bytes()));
        }
        hasher.update(&buffer[..read]);
        pace(0);
        length += read as u64;
    }
}
