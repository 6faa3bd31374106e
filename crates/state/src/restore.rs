//! The stored parts that state is restored from, and what they hold of one key group.
//!
//! Invariants: parts are ordered by file number; of a page only its newest base and what came
//! after it is handed on, and of its values only the newest image and the deltas since.

use crate::error::{Error, Result};
use crate::key::{FileNumber, Kind, Record, TableId};
use crate::store::PageSource;
use std::ops::Range;

/// One part of a checkpoint's scope.
#[derive(Clone, Debug)]
pub enum Part {
    /// A file that the page store has ingested.
    File(FileNumber),
    /// Records that stood in a manifest.
    Inline(FileNumber, Vec<Record>),
}

impl Part {
    const fn number(&self) -> FileNumber {
        match self {
            Self::File(number) | Self::Inline(number, _) => *number,
        }
    }
}

/// All parts of a checkpoint, of all the workers that wrote it.
#[derive(Debug)]
pub struct Restore {
    source: PageSource,
    parts: Vec<Part>,
}

/// Where one record of a key group stands in [`GroupRecords`].
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) page: u32,
    pub(crate) number: FileNumber,
    pub(crate) kind: Kind,
    pub(crate) inline: bool,
    range: Range<usize>,
}

/// The records of one key group, all parts together.
#[derive(Debug, Default)]
pub(crate) struct GroupRecords {
    data: Vec<u8>,
    stored: Vec<Stored>,
}

impl Restore {
    /// The parts in any order; `source` has the files among them.
    ///
    /// # Errors
    /// When two parts have one number.
    pub fn new(source: PageSource, mut parts: Vec<Part>) -> Result<Self> {
        parts.sort_by_key(Part::number);
        if parts.windows(2).any(|pair| pair[0].number() == pair[1].number()) {
            return Err(Error::Usage("two parts of a checkpoint have one file number"));
        }
        for part in &mut parts {
            if let Part::Inline(_, records) = part {
                records.sort_by_key(|record| record.key);
            }
        }
        Ok(Self { source, parts })
    }

    /// The oldest part.
    #[must_use]
    pub fn oldest(&self) -> Option<FileNumber> {
        self.parts.first().map(Part::number)
    }

    /// Gathers the records of a key group that are needed to rebuild it.
    pub(crate) fn collect(&self, table: TableId, group: u16, out: &mut GroupRecords) -> Result<()> {
        let files = self.parts.iter().filter_map(|part| match part {
            Part::File(number) => Some(*number),
            Part::Inline(..) => None,
        });
        self.source
            .scan_group(files, table, group, |number, page, kind, value| out.add(page, number, kind, false, value))?;
        for part in &self.parts {
            let Part::Inline(number, records) = part else { continue };
            let from = records.partition_point(|record| (record.key.table, record.key.group) < (table, group));
            for record in
                records[from..].iter().take_while(|record| (record.key.table, record.key.group) == (table, group))
            {
                out.add(record.key.page, *number, record.key.kind, true, &record.value);
            }
        }
        out.keep_needed()
    }
}

impl GroupRecords {
    fn add(&mut self, page: u32, number: FileNumber, kind: Kind, inline: bool, value: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(value);
        self.stored.push(Stored { page, number, kind, inline, range: start..self.data.len() });
    }

    /// The bytes of a record.
    pub(crate) fn bytes(&self, stored: &Stored) -> &[u8] {
        &self.data[stored.range.clone()]
    }

    /// The records of each page, in the order in which they apply.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &[Stored]> {
        self.stored.chunk_by(|a, b| a.page == b.page)
    }

    fn keep_needed(&mut self) -> Result<()> {
        self.stored.sort_by_key(|stored| (stored.page, stored.number, stored.kind));
        let mut kept = Vec::with_capacity(self.stored.len());
        for page in self.stored.chunk_by(|a, b| a.page == b.page) {
            kept.extend(needed(page)?.cloned());
        }
        self.stored = kept;
        Ok(())
    }
}

/// Of a page's records in order, those from the newest base on, less the values that the newest
/// image supersedes.
fn needed(page: &[Stored]) -> Result<impl Iterator<Item = &Stored>> {
    let Some(base) = page.iter().rposition(|stored| stored.kind == Kind::BaseKeys) else {
        return Err(Error::corrupt(format!("page {} has no base", page[0].page)));
    };
    let Some(image) = page.iter().rposition(|stored| stored.kind == Kind::Image).filter(|image| *image > base) else {
        return Err(Error::corrupt(format!("page {} has a base without an image", page[0].page)));
    };
    let wanted = page.iter().enumerate().skip(base);
    Ok(wanted.filter(move |(at, stored)| *at >= image || stored.kind <= Kind::Keys).map(|(_, stored)| stored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::{CheckpointId, WorkerIndex};

    #[test]
    fn only_the_newest_base_and_image_and_what_follows_are_needed() {
        let mut records = GroupRecords::default();
        let history = [
            (1, Kind::BaseKeys),
            (1, Kind::Image),
            (2, Kind::Delta),
            (3, Kind::BaseKeys),
            (3, Kind::Image),
            (4, Kind::Keys),
            (4, Kind::Delta),
            (5, Kind::Image),
            (6, Kind::Keys),
            (6, Kind::Delta),
            (7, Kind::Delta),
        ];
        for (checkpoint, kind) in history.into_iter().rev() {
            records.add(0, FileNumber::new(CheckpointId(checkpoint), WorkerIndex(0)), kind, false, &[checkpoint as u8]);
        }
        records.keep_needed().expect("a whole history");
        let page: Vec<_> =
            records.pages().next().expect("one page").iter().map(|s| (records.bytes(s)[0], s.kind)).collect();
        let wanted = [
            (3, Kind::BaseKeys),
            (4, Kind::Keys),
            (5, Kind::Image),
            (6, Kind::Keys),
            (6, Kind::Delta),
            (7, Kind::Delta),
        ];
        assert_eq!(page, wanted);
    }

    #[test]
    fn a_page_without_its_base_is_corrupt() {
        let mut records = GroupRecords::default();
        records.add(0, FileNumber::new(CheckpointId(1), WorkerIndex(0)), Kind::Delta, false, &[]);
        assert!(matches!(records.keep_needed(), Err(Error::Corrupt { .. })));
    }
}
