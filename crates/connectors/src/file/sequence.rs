//! All files of a source as one split, in the order of their names: for rows that replace each other.
//!
//! The offset is the current file's name and the place in it. A file is over when it is read to its end
//! and, if files are watched, a later one is there: what is then appended to it is not seen.

use super::{Arrival, FileSource};
use highwater_engine::source::{Offset, Polled, SplitReader};
use highwater_engine::{Error, Result};
use serde_json::json;
use std::time::Duration;

/// The files, read one after the other.
pub(super) struct Sequence {
    source: FileSource,
    /// The file that is read, or was read last.
    file: Option<String>,
    /// Its reader, and whether it waits for more at the file's end.
    reader: Option<(Box<dyn SplitReader>, Arrival)>,
    /// Where the file was left, when there is no reader.
    at: Offset,
    /// Whether the file was read to its end.
    is_over: bool,
    /// Rows left out of files that are over.
    skipped: u64,
}

impl Sequence {
    /// # Errors
    /// `Data` when the offset is not one of such files.
    pub(super) fn open(source: FileSource, offset: Option<&Offset>) -> Result<Self> {
        let mut this = Self { source, file: None, reader: None, at: Offset::Null, is_over: false, skipped: 0 };
        if let Some(offset) = offset {
            let parts = offset.as_array().and_then(|parts| Some((parts.first()?.as_str()?, parts.get(1)?)));
            let (file, at) = parts.ok_or_else(|| Error::data("files in order", format!("{offset} is no offset")))?;
            (this.file, this.at) = (Some(file.to_owned()), at.clone());
        }
        Ok(this)
    }

    /// How a file is read of which there are `later` ones.
    fn arrival(&self, later: bool) -> Arrival {
        if later { Arrival::Complete } else { self.source.arrival }
    }

    /// Opens the file to read on, the one of the offset or the next; none when there is none yet.
    fn begin(&mut self) -> Result<bool> {
        let names = self.source.place.list(self.source.format)?;
        if let Some(file) = self.file.as_ref().filter(|_| !self.is_over) {
            let is_there = names.contains(file);
            let later = names.iter().any(|name| name > file);
            if is_there || !self.source.arrival.is_followed() {
                let arrival = self.arrival(later);
                let offset = Some(&self.at).filter(|at| !at.is_null());
                self.reader = Some((self.source.open_file(file, arrival, offset)?, arrival));
                return Ok(true);
            }
            tracing::warn!(file, "the file was removed; taken as ended");
        }
        let rest: Vec<String> = names.into_iter().filter(|name| self.is_later(name)).collect();
        let Some(next) = rest.first() else { return Ok(false) };
        let arrival = self.arrival(rest.len() > 1);
        self.reader = Some((self.source.open_file(next, arrival, None)?, arrival));
        (self.file, self.is_over) = (Some(next.clone()), false);
        Ok(true)
    }

    /// Whether a file that is watched is not the last one any more.
    fn is_passed(&self) -> Result<bool> {
        let names = self.source.place.list(self.source.format)?;
        Ok(names.iter().any(|name| self.is_later(name)))
    }

    /// Whether a file comes after the one that is read.
    fn is_later(&self, name: &str) -> bool {
        self.file.as_ref().is_none_or(|file| name > file.as_str())
    }

    /// Closes the file that is read; unless it is over it is opened again where it was left.
    fn close(&mut self, is_over: bool) {
        let Some((reader, _)) = self.reader.take() else { return };
        self.skipped += reader.skipped();
        (self.at, self.is_over) = (reader.offset(), is_over);
    }
}

impl SplitReader for Sequence {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        loop {
            let Some((reader, arrival)) = &mut self.reader else {
                if self.begin()? {
                    continue;
                }
                return Ok(match self.source.arrival {
                    Arrival::Followed(interval) => Polled::Idle(interval),
                    Arrival::Complete => Polled::End,
                });
            };
            match reader.poll(max_rows)? {
                Polled::Idle(wait) if arrival.is_followed() && wait > Duration::ZERO => {
                    if !self.is_passed()? {
                        return Ok(Polled::Idle(wait));
                    }
                    // Its last line may lack an end.
                    self.close(false);
                }
                Polled::End => self.close(true),
                other => return Ok(other),
            }
        }
    }

    fn offset(&self) -> Offset {
        let Some(file) = &self.file else { return Offset::Null };
        let at = match &self.reader {
            Some((reader, _)) => reader.offset(),
            None => self.at.clone(),
        };
        json!([file, at])
    }

    fn skipped(&self) -> u64 {
        self.skipped + self.reader.as_ref().map_or(0, |(reader, _)| reader.skipped())
    }
}
