//! Files as they are stored: as they are, or packed with LZ4 or Zstandard frames.
//!
//! Digests are computed in the same pass. Nothing here knows of stores.

use crate::digest::{Digest, Hashing, copy};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

/// How a file is packed in the store. The names are persisted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As it is: hard-linked where the root is a local folder.
    #[default]
    None,
    /// LZ4 frame: for files that leave the machine over a fast network.
    Lz4,
    /// Zstandard, level 3: for files that leave the machine.
    Zstd,
}

/// The level that costs little more time than the fastest and packs much better.
const ZSTD_LEVEL: i32 = 3;

/// A length with the digest of as many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes.
    pub length: u64,
    /// BLAKE3 of them.
    pub digest: Digest,
}

/// Packs `source` into the new file `target`; gives what was read and what was written.
///
/// # Errors
/// When either file fails.
pub fn pack(source: &Path, target: &Path, compression: Compression) -> io::Result<(Measured, Measured)> {
    let mut read = Tee::over(File::open(source)?);
    let written = Tee::over(File::create(target)?);
    let written = match compression {
        Compression::None => {
            let mut written = written;
            copy(&mut read, &mut written)?;
            written
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(written);
            copy(&mut read, &mut encoder)?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(written, ZSTD_LEVEL)?;
            copy(&mut read, &mut encoder)?;
            encoder.finish()?
        }
    };
    Ok((read.measured(), written.measured()))
}

/// Unpacks `source` into the new file `target`; gives what was written. Stops after `limit` bytes,
/// so that a damaged file cannot fill the disk.
///
/// # Errors
/// When either file fails; [`io::ErrorKind::InvalidData`] and the like when `source` is not a frame.
pub fn unpack(source: &Path, target: &Path, compression: Compression, limit: u64) -> io::Result<Measured> {
    let mut written = Tee::over(File::create(target)?);
    let stored = BufReader::with_capacity(128 * 1024, File::open(source)?);
    match compression {
        Compression::None => copy(&mut stored.take(limit + 1), &mut written)?,
        Compression::Lz4 => {
            copy(&mut lz4_flex::frame::FrameDecoder::new(stored).take(limit + 1), &mut written)?;
        }
        Compression::Zstd => {
            copy(&mut zstd::stream::read::Decoder::with_buffer(stored)?.take(limit + 1), &mut written)?;
        }
    }
    Ok(written.measured())
}

/// A reader or writer that measures what passes through it.
struct Tee {
    file: File,
    hashing: Hashing,
}

impl Tee {
    fn over(file: File) -> Self {
        Self { file, hashing: Hashing::default() }
    }

    fn measured(&self) -> Measured {
        let (digest, length) = self.hashing.finish();
        Measured { length, digest }
    }
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hashing.write_all(&buffer[..n])?;
        Ok(n)
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hashing.write_all(&bytes[..n])?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_comes_back_and_a_flip_is_noticed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let bytes: Vec<u8> = (0..700_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        std::fs::write(at("plain"), &bytes)?;
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let (plain, stored) = pack(&at("plain"), &at("stored"), compression)?;
            assert_eq!(plain, Measured { length: bytes.len() as u64, digest: Digest::of(&bytes) });
            assert_eq!(stored.digest, Digest::of(&std::fs::read(at("stored"))?));
            assert!(compression == Compression::None || stored.length < plain.length / 2);
            assert_eq!(unpack(&at("stored"), &at("back"), compression, plain.length)?, plain);

            let mut flipped = std::fs::read(at("stored"))?;
            let middle = flipped.len() / 2;
            flipped[middle] ^= 1;
            std::fs::write(at("stored"), flipped)?;
            let back = unpack(&at("stored"), &at("back"), compression, plain.length);
            assert!(back.is_err() || back.is_ok_and(|b| b != plain), "{compression:?}");
        }
        Ok(())
    }
}
